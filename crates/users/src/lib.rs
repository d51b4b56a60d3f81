//! User modules: where users are, who they are, and what else they are called.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod alias_db;
pub mod auth;
pub mod auth_db;
pub mod domain;
pub mod nathelper;
pub mod permissions;
pub mod push;
pub mod registrar;
pub mod speeddial;
mod sql;
pub mod uri;
pub mod usrloc;

use switchroom_kernel::Module;

/// The modules of this floor.
pub static MODULES: &[&Module] = &[
    &alias_db::MODULE,
    &auth::MODULE,
    &auth_db::MODULE,
    &domain::MODULE,
    &nathelper::MODULE,
    &permissions::MODULE,
    &push::MODULE,
    &registrar::MODULE,
    &speeddial::MODULE,
    &uri::MODULE,
    &usrloc::MODULE,
];
