//! The module `uri` (also `uri_db`) of older scripts: its functions live in `auth_db` and `sipmsgops` today. Loading it and
//! setting its parameters is accepted, so that such a script still starts. Which table functions without a table mean is the
//! one thing it still decides.

use switchroom_kernel::Kernel;
use switchroom_kernel::module::{Module, Param};

/// The module.
pub static MODULE: Module = Module {
    name: "uri",
    summary: "Parameters of older scripts; its functions are in auth_db and sipmsgops",
    old_names: &["uri_db"],
    params: &[
        Param::unset("db_url", "Without effect; see auth_db"),
        Param::unset("aaa_url", "Without effect"),
        Param::unset(
            "db_table",
            "Table that functions without a table ask; subscriber, or uri with use_uri_table",
        ),
        Param::unset("user_column", "Without effect; see auth_db"),
        Param::unset("domain_column", "Without effect; see auth_db"),
        Param::unset("uriuser_column", "Without effect; see auth_db"),
        Param::int("use_domain", "0", "Without effect; see auth_db"),
        Param::int("use_uri_table", "0", "1: functions without a table ask the table uri"),
    ],
    open: |o| {
        let standard = if o.on("use_uri_table") { "uri" } else { "subscriber" };
        let table = o.str("db_table").filter(|t| !t.is_empty()).unwrap_or_else(|| standard.to_owned());
        o.provide(DefaultTable(table));
        Ok(())
    },
    ..Module::EMPTY
};

struct DefaultTable(String);

/// The table that a function without a table means.
pub(crate) fn default_table(kernel: &Kernel) -> String {
    kernel.find::<DefaultTable>().map_or_else(|| "subscriber".to_owned(), |t| t.0.clone())
}
