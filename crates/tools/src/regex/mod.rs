//! Matching against regular expressions, given in the script or in groups of a file.
//!
//! Expressions run in time linear to the text, so a peer cannot stall a worker with one; look-around and back-references
//! are not known for that reason.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::json;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult, Function, Module, Param};
use switchroom_kernel::open::Opening;

/// The module.
pub static MODULE: Module = Module {
    name: "regex",
    summary: "Regular expressions, also in groups of a file",
    params: &[
        Param::unset("file", "File with groups of expressions"),
        Param::int("max_groups", "20", "Groups in the file"),
        Param::int("group_max_size", "8192", "Bytes in a group"),
        Param::int("pcre_caseless", "0", "1: ignore case"),
        Param::int("pcre_multiline", "0", "1: ^ and $ stand for the ends of lines"),
        Param::int("pcre_dotall", "0", "1: a dot stands for the end of a line as well"),
        Param::int("pcre_extended", "0", "1: spaces and comments in expressions are ignored"),
    ],
    functions: &[
        Function::new("pcre_match", &["str,str"], "RFOBELSTV", pcre_match, "Match a text"),
        Function::new("pcre_match_group", &["str,[int]"], "RFOBELSTV", pcre_match_group, "Match by a group"),
    ],
    commands: &[
        Command {
            name: "regex:reload",
            old_names: &["regex_reload"],
            args: "",
            help: "Read the file again",
            run: |call| Box::pin(async move { reload(&call) }),
        },
        Command {
            name: "regex:match",
            old_names: &["regex_match"],
            args: "string,pcre_regex",
            help: "Match a text",
            run: |call| Box::pin(async move { try_one(&call) }),
        },
        Command {
            name: "regex:match_group",
            old_names: &["regex_match_group"],
            args: "string,group",
            help: "Match a text by a group",
            run: |call| Box::pin(async move { try_group(&call) }),
        },
    ],
    open,
    ..Module::EMPTY
};

/// Expressions of scripts that are kept compiled.
const MAX_KEPT: usize = 1024;

struct State {
    file: Option<String>,
    options: Options,
    max_groups: usize,
    group_max_size: usize,
    groups: RwLock<Arc<[Regex]>>,
    kept: RwLock<HashMap<Bytes, Option<Arc<Regex>>>>,
}

#[derive(Clone, Copy, Default)]
struct Options {
    caseless: bool,
    multiline: bool,
    dotall: bool,
    extended: bool,
}

impl Options {
    fn compile(self, text: &str) -> Result<Regex, String> {
        let built = RegexBuilder::new(text)
            .case_insensitive(self.caseless)
            .multi_line(self.multiline)
            .dot_matches_new_line(self.dotall)
            .ignore_whitespace(self.extended)
            .unicode(false)
            .size_limit(1 << 20)
            .build();
        built.map_err(|e| format!("\"{text}\": {e}"))
    }
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let bound = |name: &str| {
        let bound = usize::try_from(o.int(name)).ok().filter(|n| *n > 0);
        bound.ok_or_else(|| format!("parameter `{name}` must be above 0"))
    };
    let state = State {
        file: o.str("file"),
        options: Options {
            caseless: o.on("pcre_caseless"),
            multiline: o.on("pcre_multiline"),
            dotall: o.on("pcre_dotall"),
            extended: o.on("pcre_extended"),
        },
        max_groups: bound("max_groups")?,
        group_max_size: bound("group_max_size")?,
        groups: RwLock::new(Arc::from([])),
        kept: RwLock::default(),
    };
    state.read_file()?;
    o.provide(state);
    Ok(())
}

impl State {
    fn read_file(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let text = std::fs::read_to_string(file).map_err(|e| format!("file \"{file}\": {e}"))?;
        let groups = groups(&text, self.options, self.max_groups, self.group_max_size);
        *self.groups.write() = groups.map_err(|e| format!("file \"{file}\": {e}"))?.into();
        Ok(())
    }

    /// Compiled once; one that is wrong is logged once.
    fn compiled(&self, text: &Bytes) -> Option<Arc<Regex>> {
        if let Some(known) = self.kept.read().get(text) {
            return known.clone();
        }
        let compiled = self.options.compile(&String::from_utf8_lossy(text));
        let compiled = compiled.map_err(|e| tracing::error!("pcre_match(): {e}")).ok().map(Arc::new);
        let mut kept = self.kept.write();
        if kept.len() < MAX_KEPT {
            kept.insert(Bytes::copy_from_slice(text), compiled.clone());
        }
        compiled
    }

    fn in_group(&self, text: &[u8], group: i64) -> Option<bool> {
        let groups = self.groups.read().clone();
        Some(groups.get(usize::try_from(group).ok()?)?.is_match(text))
    }
}

/// Groups begin with a line `[number]`; the numbers themselves mean nothing, the order counts.
fn groups(text: &str, options: Options, max: usize, max_size: usize) -> Result<Vec<Regex>, String> {
    let mut all: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with([' ', '\t', '\r', '#']) {
            continue;
        }
        if line.starts_with('[') {
            if all.len() >= max {
                return Err(format!("more than {max} groups (max_groups)"));
            }
            all.push(String::new());
            continue;
        }
        let group = all.last_mut().ok_or("an expression stands before the first [group]")?;
        if !group.is_empty() {
            group.push('|');
        }
        group.push_str(&format!("({})", line.trim_end_matches('\r')));
        if group.len() > max_size {
            return Err(format!("a group has more than {max_size} bytes (group_max_size)"));
        }
    }
    all.iter().map(|group| options.compile(group)).collect()
}

/// `pcre_match(text, expression)`
fn pcre_match(c: &mut Call<'_>) -> Flow {
    let (Some(text), Some(expression)) = (c.str(0), c.str(1)) else { return FALSE };
    match c.ctx.shard.kernel.state::<State>().compiled(expression) {
        Some(regex) if regex.is_match(text) => TRUE,
        _ => FALSE,
    }
}

/// `pcre_match_group(text[, group])`
fn pcre_match_group(c: &mut Call<'_>) -> Flow {
    let Some(text) = c.str(0) else { return FALSE };
    let group = c.int(1).unwrap_or(0);
    match c.ctx.shard.kernel.state::<State>().in_group(text, group) {
        Some(true) => TRUE,
        Some(false) => FALSE,
        None => {
            tracing::error!("pcre_match_group(): there is no group {group}");
            FALSE
        }
    }
}

fn reload(call: &CommandCall) -> CommandResult {
    let state = call.kernel.state::<State>();
    state.read_file().map_err(|e| CommandError::new(500, e))?;
    Ok(json!("OK"))
}

fn answer(matches: bool) -> CommandResult {
    Ok(json!(if matches { "Match" } else { "Not Match" }))
}

fn try_one(call: &CommandCall) -> CommandResult {
    let expression = call.text("pcre_regex").unwrap_or_default();
    let regex = call.kernel.state::<State>().options.compile(&expression).map_err(CommandError::args)?;
    answer(regex.is_match(call.text("string").unwrap_or_default().as_bytes()))
}

fn try_group(call: &CommandCall) -> CommandResult {
    let group = call.int("group")?.unwrap_or(0);
    let text = call.text("string").unwrap_or_default();
    let found = call.kernel.state::<State>().in_group(text.as_bytes(), group);
    answer(found.ok_or_else(|| CommandError::new(404, format!("there is no group {group}")))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_a_file_are_counted_from_zero() {
        let text = "# phones\n[4]\n^Twinkle/1\n\n^X-Lite\n[9]\n^1\\d{3}$\n";
        let found = groups(text, Options::default(), 20, 8192).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].is_match(b"X-Lite 3") && !found[0].is_match(b"SIPp"));
        assert!(found[1].is_match(b"1234") && !found[1].is_match(b"12345"));
    }

    #[test]
    fn wrong_files_are_refused() {
        let read = |text: &str| groups(text, Options::default(), 1, 10).err();
        assert!(read("a\n").is_some());
        assert!(read("[0]\n(\n").is_some());
        assert!(read("[0]\na\n[1]\nb\n").is_some());
        assert!(read("[0]\naaaaaaaaaaaa\n").is_some());
    }
}
