//! What tests of the whole house use: the program itself, sipp, real phones, databases, a lossy link, a raw SIP peer, virtual time.
//!
//! Nothing here runs in production. A driver that cannot start says why in a panic, as a test would.

pub mod clock;
pub mod database;
pub mod link;
pub mod peer;
pub mod phone;
mod ports;
mod process;
pub mod server;
pub mod sipp;

pub use clock::VirtualClock;
pub use database::Database;
pub use link::LossyLink;
pub use peer::Peer;
pub use phone::Phone;
pub use ports::free_port;
pub use process::Log;
pub use server::Server;
pub use sipp::{Outcome, Sipp};
