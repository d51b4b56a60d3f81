//! Money modules: accounting, prepaid accounts.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod acc;
pub mod credit;
#[cfg(test)]
mod testing;

use switchroom_kernel::Module;

/// The modules of this floor.
pub static MODULES: &[&Module] = &[&acc::MODULE, &credit::MODULE];
