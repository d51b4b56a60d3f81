//! The driver as a module: `db_text` with its parameters.

use switchroom_kernel::module::{Module, Param};

/// The module.
pub static MODULE: Module = Module {
    name: "db_text",
    summary: "Folders of text files as databases, for reading",
    old_names: &["dbtext"],
    driver: true,
    params: &[
        Param::int("db_mode", "0", "Accepted for older scripts; files are read once, at start"),
        Param::int("buffer_size", "4096", "Accepted for older scripts; lines of any length are read"),
    ],
    ..Module::EMPTY
};
