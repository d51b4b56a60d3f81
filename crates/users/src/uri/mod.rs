//! The module `uri` (also `uri_db`) of older scripts: its functions live in `auth_db` and `sipmsgops` today. Loading it and
//! setting its parameters is accepted, so that such a script still starts; the parameters have no effect.

use switchroom_kernel::module::{Module, Param};

/// The module.
pub static MODULE: Module = Module {
    name: "uri",
    summary: "Nothing: accepted for older scripts",
    old_names: &["uri_db"],
    params: &[
        Param::unset("db_url", "Without effect; see auth_db"),
        Param::unset("aaa_url", "Without effect"),
        Param::unset("db_table", "Without effect; functions name their table"),
        Param::unset("user_column", "Without effect; see auth_db"),
        Param::unset("domain_column", "Without effect; see auth_db"),
        Param::unset("uriuser_column", "Without effect; see auth_db"),
        Param::int("use_domain", "0", "Without effect; see auth_db"),
        Param::int("use_uri_table", "0", "Without effect; functions name their table"),
    ],
    ..Module::EMPTY
};
