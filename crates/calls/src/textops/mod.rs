//! Search and replace in the text of a message.
//!
//! Headers are searched as received, the body as changed so far; a match that begins in one and ends in the other is not
//! found. Expressions ignore case, and lines count: `^` and `$` match at each line's ends, `.` does not match a line's end.

mod edit;
mod subst;

use std::sync::Arc;

use bytes::Bytes;
use regex::bytes::Regex;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module, Prepared};
use switchroom_script::names::StaticArg;
use switchroom_script::vm::{posix_regex, posix_regex_with};

use crate::core::body;

const ALL: &str = "RFOBL";

/// The module.
pub static MODULE: Module = Module {
    name: "textops",
    summary: "Search and replace in the text of a message",
    functions: &[
        Function::new("search", &["str"], ALL, search, "Search the whole message").prepared(prepare),
        Function::new("search_body", &["str"], ALL, search_body, "Search the body").prepared(prepare),
        Function::new("search_append", &["str,str"], ALL, search_append, "Add text behind the first match")
            .prepared(prepare),
        Function::new("search_append_body", &["str,str"], ALL, search_append_body, "The same in the body")
            .prepared(prepare),
        Function::new("replace", &["str,str"], ALL, replace, "Replace the first match").prepared(prepare),
        Function::new("replace_all", &["str,str"], ALL, replace_all, "Replace every match").prepared(prepare),
        Function::new("replace_body", &["str,str"], ALL, replace_body, "Replace the first match in the body")
            .prepared(prepare),
        Function::new(
            "replace_body_all",
            &["str,str"],
            ALL,
            replace_body_all,
            "Replace in the body, line by line",
        )
        .prepared(prepare),
        Function::new(
            "replace_body_atonce",
            &["str,str"],
            ALL,
            replace_body_atonce,
            "Replace in the body, which is one text without lines",
        )
        .prepared(prepare_whole),
        Function::new(
            "subst",
            &["str~"],
            ALL,
            subst::message,
            "Substitute in headers and body: /expression/new/flags",
        )
        .prepared(subst::prepare),
        Function::new("subst_body", &["str~"], ALL, subst::in_body, "Substitute in the body")
            .prepared(subst::prepare),
        Function::new("subst_uri", &["str~"], "RFOB", subst::uri, "Substitute in the Request-URI")
            .prepared(subst::prepare),
        Function::new(
            "subst_user",
            &["str~"],
            "RFOB",
            subst::user,
            "Substitute in the user of the Request-URI",
        )
        .prepared(subst::prepare),
    ],
    ..Module::EMPTY
};

fn prepare(args: &[StaticArg]) -> Result<Option<Prepared>, String> {
    compile_static(args, |text| posix_regex_with(text, true, false))
}

fn prepare_whole(args: &[StaticArg]) -> Result<Option<Prepared>, String> {
    compile_static(args, posix_regex)
}

fn compile_static(
    args: &[StaticArg],
    compile: impl Fn(&[u8]) -> Result<Regex, String>,
) -> Result<Option<Prepared>, String> {
    match args.first() {
        Some(StaticArg::Str(text)) => match compile(text) {
            Ok(regex) => Ok(Some(Arc::new(regex))),
            Err(e) => Err(format!("the expression cannot be used: {e}")),
        },
        _ => Ok(None),
    }
}

/// The expression of a call: prepared, or compiled now when it was computed.
fn expression(c: &Call<'_>, whole: bool) -> Option<Regex> {
    if let Some(regex) = c.prepared::<Regex>() {
        return Some(regex.clone());
    }
    let text = c.args.str(0)?;
    let compiled = if whole { posix_regex(text) } else { posix_regex_with(text, true, false) };
    match compiled {
        Ok(regex) => Some(regex),
        Err(e) => {
            tracing::error!("\"{}\" is no regular expression: {e}", String::from_utf8_lossy(text));
            None
        }
    }
}

fn search(c: &mut Call<'_>) -> Flow {
    let Some(regex) = expression(c, false) else { return FALSE };
    let msg = &c.ctx.msg;
    let head = &msg.raw()[..msg.raw().len() - msg.body().len()];
    let found = regex.is_match(head) || regex.is_match(&body::current(c.ctx).bytes);
    if found { TRUE } else { FALSE }
}

fn search_body(c: &mut Call<'_>) -> Flow {
    let Some(regex) = expression(c, false) else { return FALSE };
    let body = body::current(c.ctx).bytes;
    if !body.is_empty() && regex.is_match(&body) { TRUE } else { FALSE }
}

fn search_append(c: &mut Call<'_>) -> Flow {
    let (Some(regex), Some(text)) = (expression(c, false), c.str(1).cloned()) else { return FALSE };
    let found = edit::head(c.ctx, |head| {
        regex.find(head).map(|m| (m.end()..m.end(), text.clone())).into_iter().collect()
    });
    if found { TRUE } else { append_in_body(c.ctx, &regex, &text) }
}

fn search_append_body(c: &mut Call<'_>) -> Flow {
    let (Some(regex), Some(text)) = (expression(c, false), c.str(1).cloned()) else { return FALSE };
    append_in_body(c.ctx, &regex, &text)
}

fn append_in_body(ctx: &mut Ctx, regex: &Regex, text: &Bytes) -> Flow {
    edit::body(ctx, |old| regex.find(old).map(|m| edit::spliced(old, &[(m.end()..m.end(), text.clone())])))
}

fn replace(c: &mut Call<'_>) -> Flow {
    let (Some(regex), Some(text)) = (expression(c, false), c.str(1).cloned()) else { return FALSE };
    let found =
        edit::head(c.ctx, |head| regex.find(head).map(|m| (m.range(), text.clone())).into_iter().collect());
    if found {
        return TRUE;
    }
    edit::body(c.ctx, |old| edit::first(old, &regex, &text))
}

fn replace_all(c: &mut Call<'_>) -> Flow {
    let (Some(regex), Some(text)) = (expression(c, false), c.str(1).cloned()) else { return FALSE };
    let in_head =
        edit::head(c.ctx, |head| regex.find_iter(head).map(|m| (m.range(), text.clone())).collect());
    let in_body = edit::body(c.ctx, |old| edit::every(old, &regex, &text));
    if in_head { TRUE } else { in_body }
}

fn replace_body(c: &mut Call<'_>) -> Flow {
    let (Some(regex), Some(text)) = (expression(c, false), c.str(1).cloned()) else { return FALSE };
    edit::body(c.ctx, |old| edit::first(old, &regex, &text))
}

fn replace_body_all(c: &mut Call<'_>) -> Flow {
    let (Some(regex), Some(text)) = (expression(c, false), c.str(1).cloned()) else { return FALSE };
    edit::body(c.ctx, |old| edit::by_line(old, &regex, &text))
}

fn replace_body_atonce(c: &mut Call<'_>) -> Flow {
    let (Some(regex), Some(text)) = (expression(c, true), c.str(1).cloned()) else { return FALSE };
    edit::body(c.ctx, |old| edit::every(old, &regex, &text))
}
