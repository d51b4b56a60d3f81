//! The pages of modules (their READMEs), examined: each names everything its module exports, and its examples load.

use std::path::Path;

use switchroom_kernel::Module;
use switchroom_kernel::load::{Source, load};

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
            let source = Source::Text(format!("{}/README.md", m.name), script.as_bytes().into());
            if let Err(errors) = load(&source, catalogue, always) {
                faults.push(format!("{}: an example:\n{}", m.name, switchroom_script::diag::render(&errors)));
            }
        }
    }
    faults
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
