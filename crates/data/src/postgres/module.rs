//! The driver as a module: `db_postgres` with its parameters.

use switchroom_kernel::module::{Module, Param};

use crate::server::module::{Options, open};

/// The module.
pub static MODULE: Module = Module {
    name: "db_postgres",
    summary: "PostgreSQL databases",
    old_names: &["postgres"],
    driver: true,
    params: &[
        Param::int(
            "exec_query_threshold",
            "0",
            "Microseconds after which a statement is logged as slow; 0 for never",
        ),
        Param::int("max_db_queries", "2", "Times a statement is sent again after its connection broke"),
        Param::int("timeout", "5", "Seconds after which a statement is given up"),
        Param::int("use_tls", "0", "Connect with TLS"),
    ],
    old_params: &[("max_db_retries", "max_db_queries")],
    open: |o| {
        let timeout_ms = o.int("timeout").clamp(1, 600) * 1000;
        open(o, &Options { scheme: "postgres", timeout_ms });
        Ok(())
    },
    ..Module::EMPTY
};
