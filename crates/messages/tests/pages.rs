//! The pages of the modules of this floor: each names everything its module exports, and its example
//! loads when it is a whole script.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use switchroom_kernel::Module;
use switchroom_kernel::load::{Source, load};

fn modules() -> &'static [&'static Module] {
    switchroom_messages::MODULES
}

fn page(module: &Module) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{}/README.md", module.name));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("page of {}: {e}", module.name))
}

#[test]
fn every_page_names_what_its_module_exports() {
    let mut missing = String::new();
    for m in modules() {
        let page = page(m);
        let mut need = |what: &str| {
            if !page.contains(what) {
                let _ = writeln!(missing, "{}: {what}", m.name);
            }
        };
        m.params.iter().for_each(|p| need(p.name));
        m.functions.iter().for_each(|f| need(&format!("`{}(", f.name)));
        m.variables.iter().for_each(|v| need(&format!("`${}", v.name)));
        m.events.iter().for_each(|e| need(e.name));
        m.commands.iter().for_each(|c| need(c.name));
        m.statistics.iter().for_each(|s| need(s.name));
    }
    assert!(missing.is_empty(), "not on their module's page:\n{missing}");
}

#[test]
fn every_example_that_is_a_whole_script_loads() {
    let floors = [
        switchroom_calls::MODULES,
        switchroom_data::MODULES,
        switchroom_money::MODULES,
        switchroom_watch::MODULES,
    ];
    let catalogue: Vec<&'static Module> = floors.into_iter().flatten().chain(modules()).copied().collect();
    for m in modules() {
        let page = page(m);
        let example = page.split("## Examples").nth(1).unwrap_or_default();
        let script: String =
            example.lines().map(|l| format!("{}\n", l.strip_prefix("    ").unwrap_or(l))).collect();
        if !script.contains("socket=") {
            continue;
        }
        let source = Source::Text(format!("{}/README.md", m.name), Arc::from(script.as_bytes()));
        if let Err(errors) = load(&source, &catalogue, &["core"]) {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            panic!("example of {}:\n{}", m.name, texts.join("\n"));
        }
    }
}
