//! The kernel: what every module agrees on.
//!
//! The module contract ([`module`]), the context of a message ([`context`]), how a route runs on it ([`run`]), a
//! worker's share of the house ([`shard`]), what all share ([`kernel`]), and the ports to the outside ([`ports`]). It
//! names no module, no protocol setting and no tenant.

mod absent;
pub mod avp;
pub mod by_type;
pub mod commands;
pub mod context;
pub mod events;
pub mod kernel;
pub mod load;
pub mod module;
pub mod names;
pub mod oneshot;
pub mod open;
pub mod outlets;
pub mod ports;
pub mod registry;
pub mod run;
pub mod settings;
pub mod shard;
pub mod stats;
pub mod status;
pub mod trace;

pub use context::{Call, Ctx, FALSE, Flow, TRUE, wait};
pub use kernel::Kernel;
pub use module::Module;
pub use shard::Shard;
