//! User modules: where users are, who they are, and what else they are called.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod auth;
pub mod registrar;
pub mod usrloc;

use switchroom_kernel::Module;

/// The modules of this floor.
pub static MODULES: &[&Module] = &[&auth::MODULE, &registrar::MODULE, &usrloc::MODULE];
