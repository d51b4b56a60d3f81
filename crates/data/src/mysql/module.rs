//! The driver as a module: `db_mysql` with its parameters.

use switchroom_kernel::module::{EventDecl, Module, Param};

use crate::server::module::{Options, announce, open};

/// The module.
pub static MODULE: Module = Module {
    name: "db_mysql",
    summary: "MySQL and MariaDB databases",
    old_names: &["mysql"],
    driver: true,
    params: &[
        Param::int("timeout_interval", "2", "A third of the seconds after which a statement is given up"),
        Param::int(
            "exec_query_threshold",
            "0",
            "Microseconds after which a statement is logged as slow; 0 for never",
        ),
        Param::int("max_db_retries", "3", "Attempts to connect at start"),
        Param::int("max_db_queries", "2", "Times a statement is sent again after its connection broke"),
        Param::int("ps_max_col_size", "1024", "Accepted for older scripts; columns of any size are read"),
        Param::int("use_tls", "0", "Connect with TLS"),
    ],
    old_params: &[("ping_interval", ""), ("auto_reconnect", "")],
    events: &[EventDecl {
        name: "E_MYSQL_CONNECTION",
        attrs: &["url", "status"],
        help: "A database server was lost (disconnected) or found again (connected)",
    }],
    open: |o| {
        let timeout_ms = o.int("timeout_interval").clamp(1, 200) * 3000;
        open(o, &Options { scheme: "mysql", timeout_ms });
        Ok(())
    },
    live: Some(|kernel| announce(kernel, "mysql", "E_MYSQL_CONNECTION")),
    ..Module::EMPTY
};
