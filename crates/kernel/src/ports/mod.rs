//! Ports: traits through which the house reaches the world. Drivers live in the crates `net` and `data`; only the
//! binary joins them.

pub mod absent;
pub mod datagram;
pub mod http;
pub mod net;
pub mod store;
pub mod stream;
