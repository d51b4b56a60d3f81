//! The client transaction: INVITE (RFC 3261 §17.1.1 with RFC 6026) and non-INVITE (§17.1.2).
//!
//! One state is ours: *abandoned*, an INVITE given up by timer C (§16.8) that still acknowledges or delivers a late final
//! reply.

use super::{Timing, earliest, ms};
use std::time::{Duration, Instant};

/// The states of both machines; a non-INVITE transaction is *trying* where an INVITE is *calling*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Sent, nothing received.
    Calling,
    /// A provisional reply was received.
    Proceeding,
    /// INVITE only: a 2xx was received; further 2xx are delivered (RFC 6026).
    Accepted,
    /// A final reply was received; its retransmissions are absorbed, and acknowledged for INVITE.
    Completed,
    /// INVITE only: given up after a provisional reply.
    Abandoned,
    /// Over.
    Terminated,
}

/// What happens to a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A reply with this status code.
    Reply(u16),
    /// A CANCEL was sent: the final reply is awaited for 64·T1 only (§9.1).
    Cancelled,
    /// The transport could not send.
    TransportError,
    /// The deadline has come.
    Timer,
}

/// What a client transaction wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send the request (again).
    Send,
    /// Send the ACK for the final reply other than 2xx.
    Ack,
    /// Hand the reply to the user.
    Deliver(u16),
    /// No final reply came in time.
    Timeout {
        /// A provisional reply had come (timer C), so that a CANCEL is due.
        after_provisional: bool,
    },
    /// The transport failed before a final reply.
    TransportError,
    /// The transaction is over.
    Terminated,
}

/// A client transaction.
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
    /// Starts a transaction and sends the request.
    pub fn start(
        now: Instant,
        timing: &Timing,
        invite: bool,
        reliable: bool,
        sink: &mut impl FnMut(Output),
    ) -> Machine {
        sink(Output::Send);
        Machine {
            state: State::Calling,
            invite,
            reliable,
            interval: timing.t1,
            retransmit: (!reliable).then(|| now + ms(timing.t1)),
            timeout: Some(now + ms(timing.fr)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether its transport is reliable.
    #[must_use]
    pub fn is_reliable(&self) -> bool {
        self.reliable
    }

    /// When [`Input::Timer`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.retransmit, self.timeout)
    }

    /// Starts the time for the final reply anew (timer B, C or F changed while it runs).
    pub fn set_timeout(&mut self, at: Instant) {
        if matches!(self.state, State::Calling | State::Proceeding) {
            self.timeout = Some(at);
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Instant, timing: &Timing, input: Input, sink: &mut impl FnMut(Output)) {
        match input {
            Input::Reply(code) if self.invite => self.invite_reply(now, timing, code, sink),
            Input::Reply(code) => self.plain_reply(now, timing, code, sink),
            Input::Cancelled => {
                if self.state == State::Proceeding {
                    let limit = now + ms(timing.t1.saturating_mul(64));
                    self.timeout = earliest(self.timeout, Some(limit));
                }
            }
            Input::TransportError => match self.state {
                State::Calling | State::Proceeding => {
                    sink(Output::TransportError);
                    self.terminate(sink);
                }
                State::Completed => self.terminate(sink),
                _ => {}
            },
            Input::Timer => self.timer(now, timing, sink),
        }
    }

    fn invite_reply(&mut self, now: Instant, timing: &Timing, code: u16, sink: &mut impl FnMut(Output)) {
        match (self.state, code) {
            (State::Calling, 100..=199) => {
                self.state = State::Proceeding;
                self.retransmit = None;
                self.timeout = Some(now + ms(timing.fr_inv));
                sink(Output::Deliver(code));
            }
            (State::Proceeding, 100..=199) => {
                // A 100 says nothing new about the callee (§16.7 step 2).
                if timing.restart_on_each_reply && code > 100 {
                    self.timeout = Some(now + ms(timing.fr_inv));
                }
                sink(Output::Deliver(code));
            }
            (State::Calling | State::Proceeding | State::Abandoned, 200..=299) => {
                self.finish(State::Accepted, now + timing.linger());
                sink(Output::Deliver(code));
            }
            (State::Accepted, 200..=299) => sink(Output::Deliver(code)),
            (State::Calling | State::Proceeding, 300..) => {
                sink(Output::Ack);
                sink(Output::Deliver(code));
                self.complete(now, timing.linger(), sink);
            }
            (State::Abandoned, 300..) => {
                sink(Output::Ack);
                self.complete(now, timing.linger(), sink);
            }
            (State::Completed, 300..) => sink(Output::Ack),
            _ => {}
        }
    }

    fn plain_reply(&mut self, now: Instant, timing: &Timing, code: u16, sink: &mut impl FnMut(Output)) {
        if !matches!(self.state, State::Calling | State::Proceeding) {
            return;
        }
        sink(Output::Deliver(code));
        if code < 200 {
            self.state = State::Proceeding;
            if !self.reliable {
                self.interval = timing.t2;
            }
        } else {
            self.complete(now, ms(timing.t4), sink);
        }
    }

    fn timer(&mut self, now: Instant, timing: &Timing, sink: &mut impl FnMut(Output)) {
        if self.timeout.is_some_and(|at| at <= now) {
            match self.state {
                State::Proceeding if self.invite => {
                    self.finish(State::Abandoned, now + ms(timing.t1.saturating_mul(64)));
                    sink(Output::Timeout { after_provisional: true });
                }
                State::Calling | State::Proceeding => {
                    sink(Output::Timeout { after_provisional: false });
                    self.terminate(sink);
                }
                State::Terminated => {}
                _ => self.terminate(sink),
            }
            return;
        }
        if self.retransmit.is_some_and(|at| at <= now) {
            self.interval = self.interval.saturating_mul(2);
            if !self.invite {
                self.interval = self.interval.min(timing.t2);
            }
            self.retransmit = Some(now + ms(self.interval));
            sink(Output::Send);
        }
    }

    fn complete(&mut self, now: Instant, linger: Duration, sink: &mut impl FnMut(Output)) {
        if self.reliable {
            self.terminate(sink);
        } else {
            self.finish(State::Completed, now + linger);
        }
    }

    fn finish(&mut self, state: State, until: Instant) {
        self.state = state;
        self.retransmit = None;
        self.timeout = Some(until);
    }

    fn terminate(&mut self, sink: &mut impl FnMut(Output)) {
        self.state = State::Terminated;
        self.retransmit = None;
        self.timeout = None;
        sink(Output::Terminated);
    }
}
