//! Watching and managing: management commands over FIFO and HTTP, statistics that scripts define.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod httpd;
pub mod mi_fifo;
pub mod mi_http;
#[cfg(test)]
mod testing;

use switchroom_kernel::Module;

/// The modules of this floor.
pub static MODULES: &[&Module] = &[&httpd::MODULE, &mi_fifo::MODULE, &mi_http::MODULE];
