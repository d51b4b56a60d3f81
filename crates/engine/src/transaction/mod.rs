//! SIP transactions (RFC 3261 §17, RFC 6026).
//!
//! [`client`] and [`server`] are the state machines, some bytes each; what they send is kept by their owner.
//! [`key`] tells which messages belong together, [`Table`] finds the transaction of a message.

pub mod client;
pub mod key;
pub mod server;
mod table;

pub use key::BranchId;
pub use table::{Id, Table};

use std::time::Duration;

/// Durations of one transaction, in milliseconds. The defaults are those of RFC 3261 §17 and of the routing language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// T1, the estimate of the round trip.
    pub t1: u32,
    /// T2, the longest interval between retransmissions.
    pub t2: u32,
    /// T4, how long a message stays in the network.
    pub t4: u32,
    /// Until the first reply of an INVITE, or the final reply of another request (timers B and F; `fr_timeout`).
    pub fr: u32,
    /// From a provisional to the final reply of an INVITE (timer C; `fr_inv_timeout`).
    pub fr_inv: u32,
    /// How long a finished transaction absorbs retransmissions (timers D, J, L, M; `wt_timer`); 0 for 64·T1.
    pub wait: u32,
    /// Every provisional reply starts `fr_inv` anew, not only the first.
    pub restart_on_each_reply: bool,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            t1: 500,
            t2: 4_000,
            t4: 5_000,
            fr: 30_000,
            fr_inv: 120_000,
            wait: 0,
            restart_on_each_reply: true,
        }
    }
}

impl Timing {
    /// How long a transaction absorbs what comes after its 2xx.
    pub(crate) fn linger(&self) -> Duration {
        ms(if self.wait == 0 { self.t1.saturating_mul(64) } else { self.wait })
    }
}

pub(crate) fn ms(n: u32) -> Duration {
    Duration::from_millis(u64::from(n))
}

pub(crate) fn earliest<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, None) => a,
        (None, b) => b,
    }
}
