//! Every module of the house, from every floor.

use switchroom_kernel::Module;

/// All modules, by floor.
pub fn modules() -> Vec<&'static Module> {
    let floors = [
        switchroom_data::MODULES,
        switchroom_calls::MODULES,
        switchroom_users::MODULES,
        switchroom_messages::MODULES,
        switchroom_money::MODULES,
        switchroom_tools::MODULES,
        switchroom_watch::MODULES,
    ];
    floors.into_iter().flatten().copied().collect()
}

/// Modules that need no `loadmodule`.
pub const ALWAYS: &[&str] = &["core", "cache"];

#[cfg(test)]
mod tests {
    use switchroom_kernel::load::{Source, load};
    use switchroom_kernel::registry::Registry;

    #[test]
    fn every_exported_name_is_unique() {
        let registry = Registry::new(super::modules());
        assert_eq!(registry.duplicates(), Vec::<String>::new());
    }

    /// Modules whose examples show everything that a script can call or read.
    const SHOWN: &[&str] = &[
        "benchmark",
        "cache",
        "cachedb_local",
        "cachedb_redis",
        "cachedb_sql",
        "cfgutils",
        "dialplan",
        "event_datagram",
        "event_flatstore",
        "event_routing",
        "event_stream",
        "event_virtual",
        "exec",
        "group",
        "json",
        "mathops",
        "mi_datagram",
        "options",
        "path",
        "regex",
        "rest_client",
        "script_helper",
        "sql_cacher",
        "sqlops",
        "status_report",
        "uri",
        "uuid",
    ];

    /// What a script needs around an example that shows routes only.
    const AROUND: &str = "loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"sipmsgops.so\"\n\
        loadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\n";

    #[test]
    fn the_examples_of_a_module_load_and_show_all_that_a_script_can_call_or_read() {
        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let floors = ["calls", "users", "money", "tools", "watch", "data"];
        let mut wrong = Vec::new();
        for module in super::modules().into_iter().filter(|m| SHOWN.contains(&m.name)) {
            let pages = floors.iter().map(|f| crates.join(f).join("src").join(module.name).join("README.md"));
            let page = pages.filter_map(|p| std::fs::read_to_string(p).ok()).next();
            let page = page.unwrap_or_else(|| panic!("{} has no page", module.name));
            let (_, examples) = page.split_once("## Examples").unwrap_or_default();
            let code = examples.lines().filter(|l| !l.starts_with("```"));
            let code =
                code.map(|l| l.strip_prefix("    ").filter(|_| !examples.contains("```")).unwrap_or(l));
            let code: String = code.map(|l| format!("{l}\n")).collect();
            for f in module.functions.iter().filter(|f| !code.contains(&format!("{}(", f.name))) {
                wrong.push(format!("{}: no example calls {}()", module.name, f.name));
            }
            let shows = |v: &str| code.contains(&format!("${v}")) || code.contains(&format!("$({v}"));
            for v in module.variables.iter().filter(|v| !shows(v.name)) {
                wrong.push(format!("{}: no example reads ${}", module.name, v.name));
            }
            let mut script = code;
            if !script.contains("loadmodule") {
                script = format!("{AROUND}loadmodule \"{}.so\"\n{script}", module.name);
            }
            if !script.contains("\nroute {") {
                script.push_str("route { exit; }\n");
            }
            let source = Source::Text(format!("{}/README.md", module.name), script.as_bytes().into());
            if let Err(errors) = load(&source, &super::modules(), super::ALWAYS) {
                wrong.push(format!("{}:\n{}", module.name, switchroom_script::diag::render(&errors)));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
