//! Drivers for the store port, and the standard tables of the provider's database.
//!
//! SQLite is the embedded default; MySQL, MariaDB and PostgreSQL are reached over the network; folders of text files are
//! read. Queries are written by the modules that need them; this floor only carries them.

pub mod mysql;
pub mod postgres;
pub mod schema;
mod server;
pub mod sqlite;
pub mod text;

use switchroom_kernel::Module;

/// The drivers that scripts load as modules.
pub static MODULES: &[&Module] =
    &[&mysql::module::MODULE, &postgres::module::MODULE, &sqlite::module::MODULE, &text::module::MODULE];
