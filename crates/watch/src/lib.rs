//! Watching and managing: management commands over FIFO, HTTP and datagrams, events that leave the house, statistics that
//! scripts define.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod event_datagram;
pub mod event_flatstore;
pub mod event_stream;
pub mod event_virtual;
pub mod httpd;
pub mod mi_datagram;
pub mod mi_fifo;
pub mod mi_html;
pub mod mi_http;
mod outbox;
mod owner;
pub mod statistics;
#[cfg(test)]
mod testing;
pub mod trace;

use switchroom_kernel::Module;

/// The modules of this floor.
pub static MODULES: &[&Module] = &[
    &event_datagram::MODULE,
    &event_flatstore::MODULE,
    &event_stream::MODULE,
    &event_virtual::MODULE,
    &httpd::MODULE,
    &mi_datagram::MODULE,
    &mi_fifo::MODULE,
    &mi_html::MODULE,
    &mi_http::MODULE,
    &statistics::MODULE,
    &trace::MODULE,
];
