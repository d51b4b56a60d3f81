//! Counters of the workers, read by name for statistics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one worker has counted since start. Only gauges (`tcp_open`, `overloaded`) go down.
        #[derive(Debug, Default)]
        pub struct WorkerCounters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        impl WorkerCounters {
            /// Every counter's name, in the order of declaration.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The value of a counter; `None` for an unknown name.
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($name) => Some(self.$name.load(Relaxed)),)*
                    _ => None,
                }
            }
        }
    };
}

counters! {
    /// Datagrams received.
    udp_received,
    /// Bytes of datagrams received.
    udp_bytes_received,
    /// Datagrams handed to the kernel.
    udp_sent,
    /// Bytes of datagrams handed to the kernel.
    udp_bytes_sent,
    /// Datagrams that the kernel dropped because a receive queue was full, seen at the last look.
    udp_dropped,
    /// Workers that get more than they can do now.
    overloaded,
    /// Datagrams that were keep-alives or too short to be SIP.
    udp_ignored,
    /// Datagrams that could not be sent.
    udp_send_errors,
    /// Messages handed to another shard.
    handed_over,
    /// Letters dropped because the mailbox of the other worker was full.
    mailbox_dropped,
    /// Connections open now.
    tcp_open,
    /// Connections accepted.
    tcp_accepted,
    /// Connections opened by us.
    tcp_connected,
    /// Connections refused by `tcp_max_connections`.
    tcp_refused,
    /// Attempts to connect that failed.
    tcp_connect_failed,
    /// Connections closed because the peer broke framing, was too slow or sent too much.
    tcp_protocol_errors,
    /// Connections closed for being idle.
    tcp_idle_closed,
    /// Messages received on connections.
    tcp_received,
    /// Bytes received on connections.
    tcp_bytes_received,
    /// Messages written to connections.
    tcp_sent,
    /// Bytes written to connections.
    tcp_bytes_sent,
    /// Messages dropped because the queue of a connection was full or the connection failed.
    tcp_dropped,
}

/// The counters of all workers.
#[derive(Clone, Debug)]
pub struct NetCounters(Arc<[WorkerCounters]>);

impl NetCounters {
    pub(crate) fn new(workers: usize) -> NetCounters {
        NetCounters((0..workers).map(|_| WorkerCounters::default()).collect())
    }

    /// One worker's counters.
    ///
    /// # Panics
    /// When there is no such worker.
    pub fn worker(&self, worker: usize) -> &WorkerCounters {
        &self.0[worker]
    }

    /// The sum of a counter over all workers; `None` for an unknown name.
    pub fn total(&self, name: &str) -> Option<u64> {
        self.0.iter().map(|w| w.get(name)).sum()
    }

    /// Every counter with its sum.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        WorkerCounters::NAMES.iter().map(|name| (*name, self.total(name).unwrap_or(0))).collect()
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
