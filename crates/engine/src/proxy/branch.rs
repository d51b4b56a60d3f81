//! One branch of a request.

use super::transaction::NewBranch;
use crate::transaction::{Timing, client, earliest, ms};
use bytes::Bytes;
use std::time::Instant;

/// What a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that was sent.
    Real,
    /// A placeholder that holds the transaction open for branches to come; it sends nothing.
    Phony,
}

/// Where a branch stands in the choice of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Pending,
    /// Failed; the host is asked for another target.
    Asking(u16),
    Final(u16),
    /// Takes no part any more: a placeholder that ended, a target replaced by another.
    Excluded,
}

/// What is to be known about CANCEL.
#[derive(Debug)]
pub(super) enum CancelState {
    No,
    /// Due as soon as a provisional reply comes (RFC 3261 §9.1).
    Wanted(Bytes),
    Sent(Box<Canceller>),
}

/// The client transaction of a CANCEL.
#[derive(Debug)]
pub(super) struct Canceller {
    pub machine: client::Machine,
    pub bytes: Bytes,
}

/// One branch of a transaction. `R` is a received reply, `D` what the host keeps about a destination.
#[derive(Debug)]
pub struct Branch<R, D> {
    pub(super) kind: Kind,
    pub(super) minor: bool,
    pub(super) more_targets: bool,
    pub(super) client: Option<client::Machine>,
    pub(super) timeout: Option<Instant>,
    pub(super) outcome: Outcome,
    pub(super) cancel: CancelState,
    pub(super) last_code: u16,
    pub(super) local: bool,
    pub(super) reply: Option<R>,
    pub(super) ack: Bytes,
    /// The request as it was sent.
    pub(super) request: Bytes,
    /// What the host keeps about the destination.
    pub destination: D,
}

impl<R, D> Branch<R, D> {
    pub(super) fn real(client: client::Machine, new: NewBranch<D>) -> Self {
        Branch {
            kind: Kind::Real,
            minor: new.minor,
            more_targets: new.more_targets,
            client: Some(client),
            timeout: None,
            outcome: Outcome::Pending,
            cancel: CancelState::No,
            last_code: 0,
            local: false,
            reply: None,
            ack: Bytes::new(),
            request: new.request,
            destination: new.destination,
        }
    }

    pub(super) fn placeholder(until: Instant, destination: D) -> Self {
        Branch {
            kind: Kind::Phony,
            minor: false,
            more_targets: false,
            client: None,
            timeout: Some(until),
            outcome: Outcome::Pending,
            cancel: CancelState::No,
            last_code: 0,
            local: true,
            reply: None,
            ack: Bytes::new(),
            request: Bytes::new(),
            destination,
        }
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The request as it was sent; empty for a placeholder.
    #[must_use]
    pub fn request(&self) -> &Bytes {
        &self.request
    }

    /// The last status code received or set for it; 0 when there was none.
    #[must_use]
    pub fn last_code(&self) -> u16 {
        self.last_code
    }

    /// The final code it takes part in the choice with.
    #[must_use]
    pub fn final_code(&self) -> Option<u16> {
        match self.outcome {
            Outcome::Final(code) => Some(code),
            _ => None,
        }
    }

    /// Whether its final code was set here (timeout, transport error) and not received.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// The stored final reply other than 2xx.
    #[must_use]
    pub fn reply(&self) -> Option<&R> {
        self.reply.as_ref()
    }

    /// Whether a final result is still awaited.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self.outcome, Outcome::Pending | Outcome::Asking(_))
    }

    /// Whether a CANCEL was sent or waits for a provisional reply.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        !matches!(self.cancel, CancelState::No)
    }

    /// Whether it holds the step open.
    pub(super) fn holds(&self) -> bool {
        self.is_pending() && !self.minor
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let cancel = match &self.cancel {
            CancelState::Sent(c) => c.machine.deadline(),
            _ => None,
        };
        earliest(earliest(self.client.as_ref().and_then(client::Machine::deadline), cancel), self.timeout)
    }

    /// Whether every machine of the branch has ended.
    pub(super) fn is_over(&self) -> bool {
        let over = |m: &client::Machine| m.state() == client::State::Terminated;
        let cancel_over = match &self.cancel {
            CancelState::Sent(c) => over(&c.machine),
            _ => true,
        };
        self.timeout.is_none() && cancel_over && self.client.as_ref().is_none_or(over)
    }

    /// Whether nothing is awaited for it any more.
    pub(super) fn is_at_rest(&self) -> bool {
        let waits =
            |m: &client::Machine| matches!(m.state(), client::State::Calling | client::State::Proceeding);
        let cancel_waits = match &self.cancel {
            CancelState::Sent(c) => waits(&c.machine),
            _ => false,
        };
        !self.is_pending() && !cancel_waits && !self.client.as_ref().is_some_and(waits)
    }

    /// Ends a placeholder or sets the final code of a branch that sends nothing any more.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        self.outcome = outcome;
        self.timeout = None;
        let answered = matches!(self.client_state(), client::State::Completed | client::State::Terminated);
        if answered && matches!(outcome, Outcome::Final(_)) {
            // Its ACK is written by now and nothing else is made from it; a transaction lingers long after. One that was
            // given up still needs it, for its CANCEL and for the ACK to what that brings.
            self.request = Bytes::new();
        }
    }

    pub(super) fn client_state(&self) -> client::State {
        self.client.as_ref().map_or(client::State::Terminated, client::Machine::state)
    }

    pub(super) fn reset_timeout(&mut self, now: Instant, timing: &Timing) {
        let limit = match (self.kind, self.client_state()) {
            (Kind::Phony, _) | (_, client::State::Proceeding) => timing.fr_inv,
            _ => timing.fr,
        };
        let at = now + ms(limit);
        let pending = self.is_pending();
        match &mut self.client {
            Some(client) => client.set_timeout(at),
            None if pending => self.timeout = Some(at),
            None => {}
        }
    }
}
