//! The answer that an incoming message waits for, and what depends on it: the parts it came in, and receipts for an
//! application that asked.

use std::sync::Arc;

use switchroom_wire::smpp::{Body, CommandId, Header, MessageId, MessageState, Status};

use super::connection::Connection;
use super::gateway::Gateway;
use super::phones::Receipts;
use crate::link::LinkHandle;
use crate::link::join::Key;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was delivered or kept.
    Taken,
    /// Not now; the peer may try again.
    Later,
    /// Never; the peer may give it up.
    Never,
    /// This status.
    Status(Status),
}

impl Verdict {
    /// From the final reply to a MESSAGE.
    #[must_use]
    pub fn of_reply(code: u16) -> Verdict {
        match code {
            200..=299 => Verdict::Taken,
            // Timeouts, no way to send, busy, overload.
            408 | 413 | 423 | 429 | 430 | 477 | 478 | 480 | 486 | 491 | 500..=599 | 300..=399 => {
                Verdict::Later
            }
            _ => Verdict::Never,
        }
    }
}

/// The answer that a message waits for. Dropped, it asks the peer to try again.
pub struct Answer {
    /// Nobody waits for what was answered before it arrived.
    pub(super) waits: Option<(LinkHandle, Header)>,
    /// Our name for a message that was submitted to us.
    pub(super) id: Vec<u8>,
    /// The parts that it came in.
    pub(super) parts: Option<Arrival>,
    /// An application wants to know that it arrived.
    pub(super) receipts: Option<(Arc<Gateway>, Receipts)>,
}

/// A message that came in parts, which are kept until it has arrived.
pub(super) struct Arrival {
    pub gateway: Arc<Gateway>,
    pub connection: Arc<Connection>,
    pub key: Key,
    /// The last one, which the peer sends again when it is told to.
    pub last: Option<u8>,
}

impl Arrival {
    fn end(self, verdict: Verdict) {
        let mut joiner = self.connection.joiner.lock();
        match (verdict, self.last) {
            (Verdict::Later, Some(last)) => joiner.reopen(self.gateway.clock.now(), &self.key, last),
            (Verdict::Later, None) => {
                tracing::warn!("proto_smpp: {}: a part that waited did not arrive", self.connection.row.name);
            }
            _ => {
                joiner.settle(&self.key);
                drop(joiner);
                self.gateway.forget_parts(&self.connection.row.name, &self.key);
            }
        }
    }
}

impl Answer {
    /// Answers.
    pub fn give(mut self, verdict: Verdict) {
        self.finish(verdict);
    }

    /// Answers; a submitted message gets this name.
    pub fn accept(mut self, id: &[u8]) {
        if !self.id.is_empty() {
            self.id = id.to_vec();
        }
        self.finish(Verdict::Taken);
    }

    fn finish(&mut self, verdict: Verdict) {
        if let Some(parts) = self.parts.take() {
            parts.end(verdict);
        }
        let receipts = self.receipts.take();
        let Some((link, header)) = self.waits.take() else { return };
        let delivered = header.command == CommandId::DELIVER_SM;
        let status = match verdict {
            Verdict::Taken => Status::OK,
            Verdict::Later if delivered => Status::RX_T_APPN,
            Verdict::Later => Status::MSGQFUL,
            Verdict::Never if delivered => Status::RX_R_APPN,
            Verdict::Never => Status::SUBMITFAIL,
            Verdict::Status(status) => status,
        };
        let body = match status {
            Status::OK => Body::MessageId(MessageId { id: &self.id, present: true, ..MessageId::default() }),
            _ => Body::Empty,
        };
        link.respond(header, status, &body);
        if let Some((gateway, receipts)) = receipts.filter(|_| verdict == Verdict::Taken) {
            let house = gateway.clone();
            // Whoever asked and is not bound any more does not hear it: nothing is stored here.
            gateway.spawn.spawn(Box::pin(async move {
                house.send_receipts(&receipts, MessageState::Delivered).await;
            }));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.finish(Verdict::Later);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_replies_become_the_answers_of_the_mapping() {
        for (code, verdict) in [
            (200, Verdict::Taken),
            (202, Verdict::Taken),
            (480, Verdict::Later),
            (408, Verdict::Later),
            (503, Verdict::Later),
            (404, Verdict::Never),
            (410, Verdict::Never),
            (603, Verdict::Never),
        ] {
            assert_eq!(Verdict::of_reply(code), verdict, "{code}");
        }
    }
}
