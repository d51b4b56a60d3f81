//! Drivers for the network ports: UDP, TCP, names, time, HTTP and byte streams.
//!
//! This is the only floor that knows tokio. Each worker is one thread with one current-thread runtime; it owns its own
//! sockets (`SO_REUSEPORT`) and the connections it accepted or opened. [`bind`] first opens every socket, so that the
//! table of listening sockets is complete before any worker runs; [`Bound::start`] then starts the workers.
//!
//! Left out: SIP over TLS, WebSocket framing, and the choice of a destination (RFC 3263), which is the caller's.

mod bind;
mod config;
mod counters;
pub mod datagrams;
pub mod dns;
pub mod http;
mod mailbox;
mod overload;
pub mod streams;
mod tcp;
pub mod timers;
mod tls;
mod udp;
mod worker;
mod workers;

pub use bind::{BindError, Bound, ListenSpec, bind};
pub use config::{Keepalive, NetConfig, TcpConfig};
pub use counters::{NetCounters, WorkerCounters};
pub use workers::{Seat, Workers};
