//! Rules for documents: paths that ARCHITECTURE.md names exist, and every module's page has the same sections.

use std::path::Path;

use super::{Fault, Text, Tree};

/// Sections of a module's page, in this order; those that would be empty are left out.
const SECTIONS: &[&str] = &[
    "Name",
    "Description",
    "Parameters",
    "Functions",
    "Variables",
    "Transformations",
    "Events",
    "Commands",
    "Statistics",
    "Examples",
];
/// Floors whose folders are modules.
const MODULE_FLOORS: &[&str] = &["calls", "users", "messages", "money", "tools", "watch", "portal"];

/// Checks every document of the tree.
pub fn check(tree: &Tree, faults: &mut Vec<Fault>) {
    for file in &tree.files {
        if file.path == "ARCHITECTURE.md" {
            paths(&tree.root, file, faults);
        }
        if is_module_page(&file.path) {
            sections(file, faults);
        }
    }
}

fn paths(root: &Path, file: &Text, faults: &mut Vec<Fault>) {
    let mut fenced = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Every second piece between backticks stands inside of them.
        for quoted in line.split('`').skip(1).step_by(2) {
            if is_path(root, quoted)
                && !root.join(quoted).exists()
                && !root.join("crates").join(quoted).exists()
            {
                faults.push(Fault::new(&file.path, number + 1, format!("`{quoted}` does not exist")));
            }
        }
    }
}

/// Whether something quoted is meant as a path of this tree: `crates/...`, a floor's `calls/...`, or a file by its name.
fn is_path(root: &Path, quoted: &str) -> bool {
    let plain = quoted.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    match quoted.split_once('/') {
        _ if !plain => false,
        Some(("crates" | "xtask" | "fuzz" | "benches" | "docs" | ".ci" | ".cargo", _)) => true,
        Some((first, _)) => !first.is_empty() && root.join("crates").join(first).exists(),
        None => {
            // In capitals or at the root; other file names are parts of a path given before.
            matches!(quoted.rsplit_once('.'), Some((stem, "md" | "toml")) if stem == stem.to_uppercase())
        }
    }
}

/// `crates/FLOOR/src/MODULE/README.md` on a floor of modules.
fn is_module_page(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts[..], ["crates", floor, "src", _, "README.md"] if MODULE_FLOORS.contains(&floor))
}

fn sections(file: &Text, faults: &mut Vec<Fault>) {
    if !file.text.starts_with("# ") {
        faults.push(Fault::new(&file.path, 1, "must open with the module's name: `# name`"));
    }
    let mut last = None;
    let mut fenced = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let Some(title) = line.strip_prefix("## ").filter(|_| !fenced) else { continue };
        let place = SECTIONS.iter().position(|s| *s == title.trim());
        match place {
            None => {
                let text = format!("section `{}` is not one of: {}", title.trim(), SECTIONS.join(", "));
                faults.push(Fault::new(&file.path, number + 1, text));
            }
            Some(place) if last.is_some_and(|last| place <= last) => {
                let text = format!("section `{}` is out of order: {}", title.trim(), SECTIONS.join(", "));
                faults.push(Fault::new(&file.path, number + 1, text));
            }
            Some(_) => {}
        }
        last = place.or(last);
    }
    for needed in ["Description", "Examples"] {
        if !file.text.lines().any(|line| line.strip_prefix("## ").is_some_and(|t| t.trim() == needed)) {
            faults.push(Fault::new(&file.path, 0, format!("section `{needed}` is missing")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let file = Text { path: path.to_owned(), text: text.to_owned() };
        let mut faults = Vec::new();
        check(&Tree { root, files: vec![file] }, &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn paths_of_the_architecture_page_must_exist() {
        let good =
            "See `xtask/src/main.rs`, `net/src/udp/mod.rs`, `Cargo.toml`, `SIP/2.0`, `f(a/b)` and `mod.rs`.";
        assert!(found("ARCHITECTURE.md", good).is_empty());
        for bad in ["`crates/none/`", "`net/src/none.rs`", "`NONE.md`"] {
            assert_eq!(found("ARCHITECTURE.md", bad).len(), 1, "{bad}");
        }
        assert!(found("ARCHITECTURE.md", "```\n`crates/none`\n```\n").is_empty());
    }

    #[test]
    fn pages_of_modules_have_the_fixed_sections() {
        let page = "crates/calls/src/tm/README.md";
        assert!(found(page, "# tm\n## Description\n## Functions\n## Examples\n").is_empty());
        assert!(found("crates/net/src/udp/README.md", "anything").is_empty());
        for bad in [
            "# tm\n## Functions\n## Examples\n",
            "# tm\n## Description\n## Examples\n## Functions\n",
            "# tm\n## Description\n## Overview\n## Examples\n",
            "## Description\n## Examples\n",
        ] {
            assert_eq!(found(page, bad).len(), 1, "{bad}");
        }
    }
}
