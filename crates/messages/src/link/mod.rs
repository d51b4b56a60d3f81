//! One SMPP connection: the session machine of `engine` over a byte stream, for either side (SMPP 3.4 §2, 5.0 §2).
//!
//! A [`Link`] is a future that lives as long as its connection: what one read brought is worked off as a whole, and its
//! answers leave with one write. Everything that happens goes to a [`Handler`], synchronously and in order; a handler that
//! must wait answers later through the [`LinkHandle`], from any thread. Neither side can fill memory: the peer's open
//! requests are bounded by the incoming window (then nothing more is read), ours by the outgoing window, and the bytes that
//! wait to be written by a limit.
//!
//! [`join`] puts the parts of long messages together, [`compose`] makes them. Left out: connecting, listening, TLS, and
//! when to try again; they belong to whoever owns the link.

pub mod compose;
mod handle;
pub mod ids;
pub mod join;
mod run;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use switchroom_engine::smpp_session::{Ending, Mode, Settings};
use switchroom_kernel::ports::net::Clock;
use switchroom_wire::smpp::{Bind, CommandId, Header, Outbind, Pdu, Rules, Status, frame};

pub use handle::LinkHandle;
pub use run::Link;

/// Settings of one connection.
#[derive(Clone)]
pub struct Options {
    /// Side, timers and windows.
    pub session: Settings,
    /// How strictly the peer's PDUs are read.
    pub rules: Rules,
    /// Octets of the longest PDU that is accepted.
    pub max_pdu: usize,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where it is counted; several links may share one.
    pub counters: Arc<Counters>,
}

impl Options {
    /// The usual limits for this session.
    #[must_use]
    pub fn new(session: Settings, clock: Arc<dyn Clock>) -> Options {
        let counters = Arc::default();
        Options { session, rules: Rules::LENIENT, max_pdu: frame::MAX_PDU, clock, counters }
    }
}

/// What happens on a link. The calls come one at a time from the link's own future, without any lock held, so they may use
/// the handle; they must not block.
pub trait Handler: Send + Sync + 'static {
    /// A peer wants to bind. Answer with [`LinkHandle::accept`] or [`LinkHandle::refuse`], now or later.
    fn bind(&self, link: &LinkHandle, header: Header, bind: &Bind<'_>) {
        let _ = bind;
        link.refuse(header, Status::BINDFAIL);
    }
    /// An SMS centre asks us to bind.
    fn outbind(&self, link: &LinkHandle, outbind: &Outbind<'_>) {
        let _ = outbind;
        link.close();
    }
    /// A message or another request that is legal now. Answer with [`LinkHandle::respond`], now or later;
    /// `alert_notification` has no answer.
    fn request(&self, link: &LinkHandle, pdu: &Pdu<'_>);
    /// The answer to a request of ours. A body that cannot be read is [`switchroom_wire::smpp::Body::Unknown`].
    fn response(&self, link: &LinkHandle, token: u64, request: CommandId, pdu: &Pdu<'_>);
    /// A request of ours got no answer in time, or the link ended before: its outcome is not known.
    fn unanswered(&self, link: &LinkHandle, token: u64);
    /// Our bind was accepted.
    fn bound(&self, link: &LinkHandle, mode: Mode) {
        let _ = (link, mode);
    }
    /// The connection is over; nothing follows.
    fn closed(&self, link: &LinkHandle, why: &Closed);
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The session came to its end.
    #[error("{}", ending(*.0))]
    Session(Ending),
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Peer,
    /// It broke.
    #[error("{0}")]
    Broken(String),
    /// We closed it.
    #[error("closed by us")]
    Asked,
}

fn ending(why: Ending) -> &'static str {
    match why {
        Ending::NotBound => "not bound in time",
        Ending::NoAnswer => "the peer did not answer in time",
        Ending::Inactive => "no messages for too long",
        Ending::Unbound => "unbound",
        Ending::Framing => "the peer sent a broken PDU length",
    }
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// PDUs received.
    pub pdus_in: AtomicU64,
    /// PDUs sent.
    pub pdus_out: AtomicU64,
    /// Octets received.
    pub bytes_in: AtomicU64,
    /// Octets sent.
    pub bytes_out: AtomicU64,
    /// Messages received: `submit_sm`, `submit_multi`, `deliver_sm`, `data_sm`.
    pub messages_in: AtomicU64,
    /// Messages sent.
    pub messages_out: AtomicU64,
    /// PDUs whose body was wrong, and commands that are not known or not legal.
    pub faults: AtomicU64,
    /// Answers with an error status, of either side.
    pub errors: AtomicU64,
    /// Answers to nothing.
    pub unsolicited: AtomicU64,
    /// Requests of ours without an answer.
    pub unanswered: AtomicU64,
}

impl Counters {
    /// Names and values, for statistics and commands.
    #[must_use]
    pub fn list(&self) -> [(&'static str, u64); 10] {
        [
            ("pdus_in", self.pdus_in.load(Relaxed)),
            ("pdus_out", self.pdus_out.load(Relaxed)),
            ("bytes_in", self.bytes_in.load(Relaxed)),
            ("bytes_out", self.bytes_out.load(Relaxed)),
            ("messages_in", self.messages_in.load(Relaxed)),
            ("messages_out", self.messages_out.load(Relaxed)),
            ("faults", self.faults.load(Relaxed)),
            ("errors", self.errors.load(Relaxed)),
            ("unsolicited", self.unsolicited.load(Relaxed)),
            ("unanswered", self.unanswered.load(Relaxed)),
        ]
    }
}

fn carries_message(command: CommandId) -> bool {
    matches!(
        command,
        CommandId::SUBMIT_SM | CommandId::SUBMIT_MULTI | CommandId::DELIVER_SM | CommandId::DATA_SM
    )
}
