//! The server transaction: INVITE (RFC 3261 §17.2.1 with RFC 6026) and non-INVITE (§17.2.2).
//!
//! The automatic 100 is left to the owner, who sends it like any other reply.

use super::{Timing, earliest, ms};
use std::time::Instant;

/// The states of both machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No reply yet; *proceeding* of an INVITE without a reply counts as this.
    Trying,
    /// A provisional reply was sent.
    Proceeding,
    /// INVITE only: a 2xx was sent; further 2xx may follow (RFC 6026).
    Accepted,
    /// A final reply was sent and is repeated on request, and until the ACK for INVITE.
    Completed,
    /// INVITE only: the ACK came.
    Confirmed,
    /// Over.
    Terminated,
}

/// What happens to a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The request came again.
    Retransmission,
    /// The user sends a reply with this status code.
    Reply(u16),
    /// The ACK of a final reply other than 2xx.
    Ack,
    /// The transport could not send.
    TransportError,
    /// The deadline has come.
    Timer,
}

/// What a server transaction wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send the reply just given and keep it as the last one.
    SendNew,
    /// Send the reply just given without keeping it: a 2xx beside the reply that ended the transaction.
    SendOnly,
    /// Send the last reply again.
    SendLast,
    /// The ACK of the final reply never came (timer H).
    Timeout,
    /// The transaction is over.
    Terminated,
}

/// A server transaction.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    state: State,
    invite: bool,
    reliable: bool,
    interval: u32,
    retransmit: Option<Instant>,
    timeout: Option<Instant>,
}

impl Machine {
    /// A transaction for a request just received.
    #[must_use]
    pub fn new(invite: bool, reliable: bool) -> Machine {
        Machine { state: State::Trying, invite, reliable, interval: 0, retransmit: None, timeout: None }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether a final reply was sent.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self.state, State::Trying | State::Proceeding)
    }

    /// When [`Input::Timer`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.retransmit, self.timeout)
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Instant, timing: &Timing, input: Input, sink: &mut impl FnMut(Output)) {
        match input {
            Input::Retransmission => {
                if matches!(self.state, State::Proceeding | State::Completed) {
                    sink(Output::SendLast);
                }
            }
            Input::Reply(code) => self.reply(now, timing, code, sink),
            Input::Ack => {
                if self.invite && self.state == State::Completed {
                    if self.reliable {
                        self.terminate(sink);
                    } else {
                        self.state = State::Confirmed;
                        self.retransmit = None;
                        self.timeout = Some(now + ms(timing.t4));
                    }
                }
            }
            Input::TransportError => {
                // A proxy keeps forwarding 2xx, so an accepted INVITE lives on (RFC 6026 §8.8).
                if self.state == State::Completed {
                    self.terminate(sink);
                }
            }
            Input::Timer => self.timer(now, timing, sink),
        }
    }

    fn reply(&mut self, now: Instant, timing: &Timing, code: u16, sink: &mut impl FnMut(Output)) {
        match self.state {
            State::Trying | State::Proceeding => {
                sink(Output::SendNew);
                match code {
                    ..200 => self.state = State::Proceeding,
                    200..=299 if self.invite => {
                        self.state = State::Accepted;
                        self.timeout = Some(now + timing.linger());
                    }
                    _ if self.invite => {
                        self.state = State::Completed;
                        self.interval = timing.t1;
                        self.retransmit = (!self.reliable).then(|| now + ms(timing.t1));
                        self.timeout = Some(now + ms(timing.t1.saturating_mul(64)));
                    }
                    _ if self.reliable => self.terminate(sink),
                    _ => {
                        self.state = State::Completed;
                        self.timeout = Some(now + timing.linger());
                    }
                }
            }
            State::Accepted | State::Completed | State::Confirmed
                if self.invite && (200..300).contains(&code) =>
            {
                sink(Output::SendOnly);
            }
            _ => {}
        }
    }

    fn timer(&mut self, now: Instant, timing: &Timing, sink: &mut impl FnMut(Output)) {
        if self.timeout.is_some_and(|at| at <= now) {
            if self.invite && self.state == State::Completed {
                sink(Output::Timeout);
            }
            if self.state != State::Terminated {
                self.terminate(sink);
            }
        } else if self.retransmit.is_some_and(|at| at <= now) {
            self.interval = self.interval.saturating_mul(2).min(timing.t2);
            self.retransmit = Some(now + ms(self.interval));
            sink(Output::SendLast);
        }
    }

    fn terminate(&mut self, sink: &mut impl FnMut(Output)) {
        self.state = State::Terminated;
        self.retransmit = None;
        self.timeout = None;
        sink(Output::Terminated);
    }
}
