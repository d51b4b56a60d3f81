//! JSON documents as script variables: `$json(name/path[index])`.
//!
//! A worker has its own documents; they live as long as the worker, as `$var` does.

mod path;
mod print;
mod tree;

use std::cell::RefCell;
use std::collections::HashMap;

use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module, Param, Variable};
use switchroom_script::Value;
use switchroom_script::vm::{Index, VarAccess};

use path::{Part, Path, Step};
use print::Style;
use tree::{Node, Tree};

/// The module.
pub static MODULE: Module = Module {
    name: "json",
    summary: "JSON documents as script variables",
    params: &[Param::int("enable_long_quoting", "0", "1: integers beyond 32 bits become text")],
    functions: &[
        Function::new(
            "json_link",
            &["var,var"],
            "RFOBELSTV",
            link,
            "Make a place in a document stand for another",
        ),
        Function::new(
            "json_merge",
            &["str,str,var"],
            "*",
            merge,
            "Put the keys of the second object into the first",
        ),
    ],
    variables: &[
        variable("json", |ctx, var| get(ctx, var, Style::Spaced), "A value in a document"),
        variable(
            "json_compact",
            |ctx, var| get(ctx, var, Style::Compact),
            "The same, printed without spaces",
        ),
        variable(
            "json_pretty",
            |ctx, var| get(ctx, var, Style::Pretty),
            "The same, printed over several lines",
        ),
        variable(
            "json_compact_noescape",
            |ctx, var| get(ctx, var, Style::Plain),
            "The same, printed without spaces and without a backslash before a slash",
        ),
    ],
    open: |o| {
        let long_quoting = o.on("enable_long_quoting");
        o.per_shard(move |_| Documents { long_quoting, ..Documents::default() });
        Ok(())
    },
    ..Module::EMPTY
};

const fn variable(
    name: &'static str,
    get: fn(&mut Ctx, &VarAccess) -> Value,
    help: &'static str,
) -> Variable {
    Variable::rw(name, get, |ctx, var, value| set(ctx, var, value, false), help)
        .named(|names, name| {
            Path::parse(name).map_err(|e| format!("\"{name}\": {e}"))?;
            names.intern(name)
        })
        .indexed()
        .replaced_by(|ctx, var, value| set(ctx, var, value, true))
}

/// Documents of one worker; a script that makes names up must not fill the memory.
const MAX_DOCUMENTS: usize = 10_000;

/// Documents of one worker.
#[derive(Default)]
struct Documents {
    all: RefCell<HashMap<String, Node>>,
    long_quoting: bool,
}

fn path(ctx: &Ctx, var: &VarAccess) -> Result<Path, String> {
    let name = ctx.shard.kernel.registry.inner_name(var).ok_or("a document has a name")?;
    Path::parse(&String::from_utf8_lossy(&name))
}

fn get(ctx: &mut Ctx, var: &VarAccess, style: Style) -> Value {
    let Ok(path) = path(ctx, var) else { return Value::Null };
    let documents = ctx.shard.part::<Documents>();
    let found = documents.all.borrow().get(&path.document).and_then(|root| tree::find(root, &path.steps));
    let Some(node) = found else { return Value::Null };
    match var.index {
        Index::At(i) => match tree::item(&node, path.part, i) {
            Some(tree::Item::Key(key)) => Value::str(key),
            Some(tree::Item::Value(node)) => value(&node, style, documents.long_quoting),
            None => Value::Null,
        },
        _ => value(&node, style, documents.long_quoting),
    }
}

fn value(node: &Node, style: Style, long_quoting: bool) -> Value {
    match &*node.borrow() {
        Tree::Text(text) => Value::str(text.clone()),
        Tree::Number(n) => match n.as_i64() {
            Some(i) if long_quoting && i32::try_from(i).is_err() => Value::str(i.to_string()),
            Some(i) => Value::Int(i),
            None => Value::str(n.to_string()),
        },
        tree => Value::str(print::print(tree, style)),
    }
}

/// `=` takes a value as it is, `:=` reads it as JSON, NULL removes.
fn set(ctx: &mut Ctx, var: &VarAccess, value: Value, read: bool) -> Result<(), String> {
    let path = path(ctx, var)?;
    let new = match value {
        Value::Null => None,
        Value::Str(text) if read => Some(Tree::read(&text)?),
        Value::Str(text) => Some(Tree::Text(String::from_utf8_lossy(&text).into_owned())),
        Value::Int(i) => Some(Tree::Number(i.into())),
    };
    place(ctx, &path, new.map(Tree::node))
}

fn place(ctx: &Ctx, path: &Path, new: Option<Node>) -> Result<(), String> {
    if path.part != Part::Itself {
        return Err("`.keys` and `.values` can only be read".into());
    }
    let mut all = ctx.shard.part::<Documents>().all.borrow_mut();
    let Some((last, before)) = path.steps.split_last() else {
        match new {
            None => {
                all.remove(&path.document);
            }
            Some(_) if all.len() >= MAX_DOCUMENTS && !all.contains_key(&path.document) => {
                return Err(format!("more than {MAX_DOCUMENTS} JSON documents"));
            }
            Some(node) => {
                all.insert(path.document.clone(), node);
            }
        }
        return Ok(());
    };
    let parent = all.get(&path.document).and_then(|root| tree::find(root, before));
    let parent = parent.ok_or_else(|| format!("there is nothing at $json({path}) to put a value into"))?;
    tree::put(&parent, last, new).map_err(|e| format!("$json({path}): {e}"))
}

/// `json_link($json(place), $json(other))`
fn link(c: &mut Call<'_>) -> Flow {
    let (Some(to), Some(from)) = (c.var(0), c.var(1)) else { return FALSE };
    let done = path(c.ctx, &to).and_then(|to| {
        let from = path(c.ctx, &from)?;
        let node = {
            let all = c.ctx.shard.part::<Documents>().all.borrow();
            let node = all.get(&from.document).and_then(|root| tree::find(root, &from.steps));
            let node = node.ok_or_else(|| format!("there is no $json({from})"))?;
            let holder =
                to.steps.split_last().and_then(|(_, before)| tree::find(all.get(&to.document)?, before));
            if holder.is_some_and(|holder| tree::holds(&node, &holder)) {
                return Err(format!("$json({from}) would hold itself"));
            }
            node
        };
        place(c.ctx, &to, Some(node))
    });
    match done {
        Ok(()) => TRUE,
        Err(e) => {
            tracing::error!("json_link(): {e}");
            FALSE
        }
    }
}

/// `json_merge(object, object, out)`
fn merge(c: &mut Call<'_>) -> Flow {
    let Some(out) = c.var(2) else { return FALSE };
    let read = |i: usize| {
        let text = c.str(i).map(|b| &b[..]).unwrap_or_default();
        match serde_json::from_slice(text) {
            Ok(serde_json::Value::Object(map)) => Ok(map),
            Ok(_) => Err("a JSON object is needed".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    };
    let merged = read(0).and_then(|mut first| {
        first.extend(read(1)?);
        serde_json::to_string(&first).map_err(|e| e.to_string())
    });
    match merged.and_then(|text| c.ctx.set_var(&out, Value::str(text))) {
        Ok(()) => TRUE,
        Err(e) => {
            tracing::error!("json_merge(): {e}");
            FALSE
        }
    }
}

/// A step as it is written.
impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Key(key) => write!(f, "/{key}"),
            Step::At(i) => write!(f, "[{i}]"),
            Step::Append => write!(f, "[]"),
        }
    }
}
