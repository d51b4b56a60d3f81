//! Drivers for the store port, and the standard tables of the provider's database.
//!
//! SQLite is the embedded default. Queries are written by the modules that need them; this floor only carries them.

pub mod schema;
pub mod sqlite;

use switchroom_kernel::Module;

/// The drivers that scripts load as modules.
pub static MODULES: &[&Module] = &[&sqlite::module::MODULE];
