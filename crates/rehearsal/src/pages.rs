//! The pages of modules (their READMEs), examined: each names everything its module exports, and its examples load and run.

use std::path::Path;
use std::sync::Arc;

use switchroom_kernel::Module;
use switchroom_kernel::load::{Source, load};
use switchroom_kernel::ports::net::{Handler, Packet, SocketId};
use switchroom_kernel::ports::store::{SqlValue, StoreDriver};

use crate::{Canned, Rehearsal, Setup};

/// What is wrong with the pages of `modules`, which lie in folders of their names under `src`. Examples are loaded with the
/// modules of `catalogue`; those of `always` need no `loadmodule`.
pub fn faults(
    src: &Path,
    modules: &[&'static Module],
    catalogue: &[&'static Module],
    always: &[&str],
) -> Vec<String> {
    let mut faults = Vec::new();
    for m in modules {
        let path = src.join(m.name).join("README.md");
        let page = match std::fs::read_to_string(&path) {
            Ok(page) => page,
            Err(e) => {
                faults.push(format!("{}: {}: {e}", m.name, path.display()));
                continue;
            }
        };
        let mut need = |what: String| {
            if !page.contains(&what) {
                faults.push(format!("{}: the page does not name {what}", m.name));
            }
        };
        m.params.iter().for_each(|p| need(p.name.into()));
        m.functions.iter().for_each(|f| need(format!("`{}(", f.name)));
        m.variables.iter().for_each(|v| need(format!("`${}", v.name)));
        m.events.iter().for_each(|e| need(e.name.into()));
        m.commands.iter().for_each(|c| need(c.name.into()));
        m.statistics.iter().for_each(|s| need(s.name.into()));
        for script in scripts(&page) {
            let source = || Source::Text(format!("{}/README.md", m.name), script.as_bytes().into());
            if let Err(errors) = load(&source(), catalogue, always) {
                faults.push(format!("{}: an example:\n{}", m.name, switchroom_script::diag::render(&errors)));
            } else if script.contains("\"/etc/") {
                // Keys and certificates of an installation are not here.
            } else if let Err(why) = in_a_folder(&script, |text| {
                run(Source::Text(format!("{}/README.md", m.name), text.as_bytes().into()), catalogue, always)
            }) {
                faults.push(format!("{}: an example does not run: {why}", m.name));
            }
        }
    }
    faults
}

/// With a folder of its own in place of the one that packages make.
fn in_a_folder(script: &str, run: impl FnOnce(&str) -> Result<(), String>) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("switchroom-page-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let done = run(&script.replace("/run/switchroom", &folder.to_string_lossy()));
    std::fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    done
}

/// Put an example on stage, with databases that are empty and nobody else in the world, and let messages come.
fn run(source: Source, catalogue: &[&'static Module], always: &[&str]) -> Result<(), String> {
    let store = |scheme| -> Arc<dyn StoreDriver> {
        Arc::new(Canned::new(scheme, catalogue, Arc::new(|_: &str, _: &[SqlValue]| Ok(Vec::new()))))
    };
    let stores = ["sqlite", "mysql", "postgres", "text"].map(store).to_vec();
    let setup = Setup { source, catalogue, always, stores, arguments: Vec::new(), unix: 1_800_000_000 };
    let stage = Rehearsal::open(setup)?;
    for method in ["REGISTER", "OPTIONS", "INVITE", "CANCEL", "MESSAGE", "SUBSCRIBE", "INFO"] {
        let number = if method == "CANCEL" { "INVITE" } else { method };
        let message = format!(
            "{method} sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-{number};rport\r\n\
             From: \"Alice\" <sip:alice@127.0.0.1>;tag=a\r\nTo: <sip:bob@127.0.0.1>\r\nCall-ID: {number}@page\r\n\
             CSeq: 1 {method}\r\nContact: <sip:alice@127.0.0.1:5070>\r\nMax-Forwards: 70\r\nUser-Agent: page\r\n\
             Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
        );
        let peer = ([127, 0, 0, 1], 5070).into();
        stage.shard.packet(Packet { data: message.into(), socket: SocketId(0), peer, conn: None });
    }
    stage.settle();
    stage.close();
    Ok(())
}

/// The whole scripts among the examples of a page: code in fences, or indented by four spaces, that loads modules. One
/// without a request route gets one.
pub fn scripts(page: &str) -> Vec<String> {
    let Some((_, examples)) = page.split_once("## Examples") else { return Vec::new() };
    let mut blocks = vec![String::new()];
    let mut fenced = false;
    for line in examples.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
            blocks.push(String::new());
            continue;
        }
        let code = if fenced { Some(line) } else { line.strip_prefix("    ") };
        match (code, blocks.last_mut()) {
            (Some(code), Some(block)) => {
                block.push_str(code);
                block.push('\n');
            }
            // An empty line stands inside of indented code; text ends it.
            (None, Some(block)) if line.trim().is_empty() => block.push('\n'),
            _ => blocks.push(String::new()),
        }
    }
    blocks.retain(|b| b.contains("loadmodule"));
    for block in &mut blocks {
        // What is typed into a shell follows after the script.
        if let Some(at) = block.find("\ncurl ") {
            block.truncate(at + 1);
        }
        if !block.contains("route {") && !block.contains("route{") {
            block.push_str("\nroute { exit; }\n");
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stand_in_fences_or_are_indented() {
        let page = "# x\n\n    loadmodule \"no\"\n\n## Examples\n\n    loadmodule \"a\"\n\n    route { }\n\nText.\n\n\
                    ```opensips\nloadmodule \"b\"\n```\n\n    curl x\n";
        assert_eq!(
            scripts(page),
            [
                "\n\nloadmodule \"a\"\n\nroute { }\n\n".to_owned(),
                "loadmodule \"b\"\n\nroute { exit; }\n".to_owned()
            ]
        );
    }
}
