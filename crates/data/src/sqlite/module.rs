//! The driver as a module: `db_sqlite` with its parameters.

use switchroom_kernel::module::{Module, Param};

/// The module.
pub static MODULE: Module = Module {
    name: "db_sqlite",
    summary: "SQLite databases",
    driver: true,
    params: &[
        Param::int("alloc_limit", "10", "Rows fetched at a time; answers come whole here"),
        Param::int("busy_timeout", "500", "Milliseconds to wait for another process that has the file"),
        Param::multi("load_extension", "SQLite extensions; not available"),
        Param::multi("exec_pragma", "Pragmas run on each connection"),
    ],
    open: |o| {
        if !o.all("load_extension").is_empty() {
            return Err("load_extension is not available".into());
        }
        let busy = o.int("busy_timeout");
        let pragmas = o.all("exec_pragma");
        let given = o.given("busy_timeout");
        let options = o.kernel.store_options.entry("sqlite".into()).or_default();
        if given {
            options.insert("busy_timeout".into(), vec![busy.to_string()]);
        }
        if !pragmas.is_empty() {
            options.insert("exec_pragma".into(), pragmas);
        }
        Ok(())
    },
    ..Module::EMPTY
};
