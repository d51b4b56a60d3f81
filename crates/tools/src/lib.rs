//! The script's tools: values, caches, databases and programs that a script works with besides messages.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod benchmark;
pub mod cache;
pub mod cachedb_local;
pub mod cachedb_redis;
pub mod cachedb_sql;
pub mod cfgutils;
pub mod dialplan;
pub mod exec;
pub mod gflags;
pub mod group;
pub mod json;
pub mod mathops;
mod random;
pub mod regex;
pub mod rest_client;
mod sql;
pub mod sql_cacher;
pub mod sqlops;
mod time_rec;
pub mod uuid;
mod variables;

use switchroom_kernel::Module;

/// The modules of this floor.
pub static MODULES: &[&Module] = &[
    &benchmark::MODULE,
    &cache::MODULE,
    &cachedb_local::MODULE,
    &cachedb_redis::MODULE,
    &cachedb_sql::MODULE,
    &cfgutils::MODULE,
    &dialplan::MODULE,
    &exec::MODULE,
    &gflags::MODULE,
    &group::MODULE,
    &json::MODULE,
    &mathops::MODULE,
    &regex::MODULE,
    &rest_client::MODULE,
    &sql_cacher::MODULE,
    &sqlops::MODULE,
    &uuid::MODULE,
];
