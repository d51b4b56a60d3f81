//! `switchroom doc`: the manual of one name, or the whole table.

use std::process::ExitCode;

use switchroom_script::diag::did_you_mean;

use crate::cli::DocArgs;
use crate::manual::{Entry, entries};

/// Print the pages for a name, or the table.
pub fn doc(args: &DocArgs) -> anyhow::Result<ExitCode> {
    let all = entries();
    if args.table {
        print!("{}", table(&all));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(name) = args.name.as_deref() else {
        anyhow::bail!("give a name, such as `t_relay`, `$ru`, `usrloc` or `usrloc.db_url`");
    };
    match lookup(&all, name) {
        Ok(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Err(text) => {
            eprintln!("{text}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn lookup(all: &[Entry], name: &str) -> Result<String, String> {
    let found: Vec<String> = all.iter().filter(|e| e.answers(name)).map(Entry::page).collect();
    if !found.is_empty() {
        return Ok(found.join("\n"));
    }
    let known = all.iter().map(|e| e.name.as_str());
    let bare = name.trim_start_matches('$');
    let hint =
        did_you_mean(bare, known).unwrap_or_else(|| "`switchroom doc --table` lists everything".into());
    Err(format!("there is nothing called `{name}`; {hint}"))
}

/// Module, kind, name, arguments, routes, older names: one line each, with tabs between.
fn table(all: &[Entry]) -> String {
    let mut text = String::from("module\tkind\tname\targs\troutes\told\n");
    for e in all {
        let row = [e.module, e.kind.word(), &e.name, &e.args, e.routes, &e.old_names.join(",")].join("\t");
        text.push_str(&row);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_name_has_a_page_and_a_wrong_one_a_suggestion() {
        let all = entries();
        assert!(lookup(&all, "t_relay").unwrap().contains("t_relay([str], [str])"));
        assert!(lookup(&all, "$ru").unwrap().contains("can be written"));
        assert!(lookup(&all, "usrloc").unwrap().contains("parameters:"));
        assert!(lookup(&all, "tm.fr_timeout").unwrap().contains("modparam(\"tm\", \"fr_timeout\""));
        assert!(lookup(&all, "{s.len}").is_ok());
        assert!(lookup(&all, "rewritehost").unwrap().contains("sethost(str)"));
        assert!(lookup(&all, "while").unwrap().contains("max_while_loops"));
        assert!(lookup(&all, "t_realy").unwrap_err().contains("did you mean `t_relay`?"));
    }
}
