//! A request in progress: its server machine, its branches in steps, and the response context (RFC 3261 §16.7–16.10).

use super::branch::{Branch, CancelState, Canceller, Kind, Outcome};
use super::choice;
use crate::transaction::{Timing, client, earliest, ms, server};
use bytes::Bytes;
use smallvec::SmallVec;
use std::time::{Duration, Instant};
use switchroom_wire::sip::{Message, Method, request};

/// A transaction has at most this many branches, over all its steps.
pub const MAX_BRANCHES: usize = 64;

/// How one request is to be treated.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The timers.
    pub timing: Timing,
    /// The request is an INVITE.
    pub invite: bool,
    /// The request was made here: nobody waits for [`Output::SendReply`].
    pub local: bool,
    /// The request came over a reliable transport.
    pub reliable: bool,
    /// A 6xx is a reply like any other: it neither wins at once nor forbids new branches.
    pub allow_after_6xx: bool,
    /// A 2xx does not cancel the other branches; every 2xx is relayed.
    pub multi_200: bool,
}

/// A branch to be added.
#[derive(Clone, Debug)]
pub struct NewBranch<D> {
    /// The request as it is to be sent.
    pub request: Bytes,
    /// What the host keeps about the destination.
    pub destination: D,
    /// It goes over a reliable transport.
    pub reliable: bool,
    /// It does not hold the transaction open (`minor_branch_flag`).
    pub minor: bool,
    /// The host knows another target for it, should this one fail (RFC 3263 §4.3).
    pub more_targets: bool,
}

/// Why a branch was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// A final reply was sent already.
    #[error("the transaction has its final reply")]
    Final,
    /// The caller cancelled the request.
    #[error("the request was cancelled")]
    Cancelled,
    /// A 6xx forbids further branches.
    #[error("a 6xx reply forbids further branches")]
    Blocked,
    /// [`MAX_BRANCHES`] or the number of awaited branches is reached.
    #[error("too many branches")]
    TooMany,
}

/// Which branches are to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// One.
    One(usize),
    /// All that are pending.
    All,
    /// All that are pending but one.
    AllBut(usize),
    /// All that are pending with a lower index: those that were there before branches were added.
    Before(usize),
}

/// What the host is to do.
#[derive(Debug)]
pub enum Output<R> {
    /// Send the request of this branch ([`Branch::request`]) to its destination.
    SendRequest {
        /// Which branch.
        branch: usize,
    },
    /// Send this ACK or CANCEL where the request of the branch went.
    SendHopByHop {
        /// Which branch.
        branch: usize,
        /// The message.
        bytes: Bytes,
    },
    /// Send this reply to the sender of the request.
    SendReply {
        /// The message.
        bytes: Bytes,
    },
    /// The reply just received is new: run the onreply routes, then call [`Transaction::process`]
    /// with it. A provisional reply that a route drops is simply not processed.
    Reply {
        /// Which branch.
        branch: usize,
        /// Its status code.
        code: u16,
    },
    /// Relay this reply: write it without our Via and give it to [`Transaction::send`].
    Relay {
        /// Which branch.
        branch: usize,
        /// Its status code.
        code: u16,
        /// The reply.
        reply: R,
    },
    /// Make a reply with this code and give it to [`Transaction::send`]: no received reply won.
    Generate {
        /// 408, 487, 503 …
        code: u16,
    },
    /// Every branch of the step has failed: run the failure routes, then call [`Transaction::route_done`].
    AllFailed {
        /// The branch whose reply wins so far.
        branch: Option<usize>,
        /// The code that wins so far.
        code: u16,
    },
    /// The branch failed and the host said it knows another target: add it with [`Transaction::add_target`] or call
    /// [`Transaction::no_target`].
    NextTarget {
        /// Which branch.
        branch: usize,
    },
    /// The final reply to the INVITE was never acknowledged.
    NoAck,
    /// Everything is over; the transaction can be removed.
    Done,
}

/// A request in progress. `R` is a received reply, `D` what the host keeps about a destination.
#[derive(Debug)]
pub struct Transaction<R, D> {
    settings: Settings,
    server: server::Machine,
    last_reply: Bytes,
    last_code: u16,
    branches: SmallVec<[Branch<R, D>; 1]>,
    /// Where the branches of the current step begin.
    step: usize,
    /// A route is running that may add branches; nothing is decided until it is done.
    in_route: bool,
    /// What won when the failure route was started, to be sent should it add nothing.
    decided: Option<(Option<usize>, u16)>,
    /// No branch is added beyond this index while branches are awaited.
    limit: usize,
    cancelled: bool,
    /// A 6xx came.
    blocked: bool,
    /// The winner was handed to the host, or a 2xx; nothing more is chosen.
    settled: bool,
    done: bool,
}

type ClientOutputs = SmallVec<[client::Output; 4]>;

/// Why branches are cancelled when another one succeeded (RFC 3326).
const COMPLETED_ELSEWHERE: &[u8] = b"Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n";

impl<R: AsRef<Message>, D> Transaction<R, D> {
    /// A transaction for a request just received or made; its request route runs.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Transaction {
            settings,
            server: server::Machine::new(
                settings.invite && !settings.local,
                settings.reliable || settings.local,
            ),
            last_reply: Bytes::new(),
            last_code: 0,
            branches: SmallVec::new(),
            step: 0,
            in_route: true,
            decided: None,
            limit: MAX_BRANCHES,
            cancelled: false,
            blocked: false,
            settled: false,
            done: false,
        }
    }

    /// How it is treated.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes how it is treated; the times of branches that wait already do not change.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Starts the time for the final reply of every pending branch anew, with the present timing.
    pub fn restart_timeouts(&mut self, now: Instant) {
        let timing = self.settings.timing;
        self.branches.iter_mut().filter(|b| b.is_pending()).for_each(|b| b.reset_timeout(now, &timing));
    }

    /// The branches, over all steps.
    #[must_use]
    pub fn branches(&self) -> &[Branch<R, D>] {
        &self.branches
    }

    /// A branch, to change what the host keeps about its destination.
    pub fn branch_mut(&mut self, index: usize) -> Option<&mut Branch<R, D>> {
        self.branches.get_mut(index)
    }

    /// Where the branches of the current step begin.
    #[must_use]
    pub fn step(&self) -> usize {
        self.step
    }

    /// Whether the caller cancelled the request.
    #[must_use]
    pub fn was_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Whether a final reply was sent.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.server.is_final()
    }

    /// Whether an ACK with this transaction's key is for a failure that was sent here, and to be given to
    /// [`Transaction::ack`]; otherwise it belongs to a 2xx and goes end to end (peers of RFC 2543 give both one key).
    #[must_use]
    pub fn takes_ack(&self) -> bool {
        self.settings.invite && self.server.is_final() && self.last_code >= 300
    }

    /// Whether a request or failure route runs, or may still wait.
    #[must_use]
    pub fn in_route(&self) -> bool {
        self.in_route
    }

    /// The code of the last reply sent; 0 before.
    #[must_use]
    pub fn last_code(&self) -> u16 {
        self.last_code
    }

    /// Whether everything is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether it owes nothing to anybody and only absorbs what is repeated. A server that ends need not wait for it. A 2xx
    /// to INVITE was sent a second ago at least, so that its ACK had time to pass.
    #[must_use]
    pub fn is_at_rest(&self, now: Instant) -> bool {
        let server = match self.server.state() {
            server::State::Trying | server::State::Proceeding => false,
            server::State::Completed => !self.settings.invite,
            server::State::Confirmed | server::State::Terminated => true,
            server::State::Accepted => {
                let since = now + self.settings.timing.linger().saturating_sub(Duration::from_secs(1));
                self.server.deadline().is_none_or(|end| end <= since)
            }
        };
        server && !self.in_route && self.branches.iter().all(Branch::is_at_rest)
    }

    /// When [`Transaction::timer`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.done {
            return None;
        }
        self.branches.iter().map(Branch::deadline).fold(self.server.deadline(), earliest)
    }

    /// Adds a branch and sends its request. Between [`Output::AllFailed`] and [`Transaction::route_done`] the first one
    /// begins a new step; while branches are awaited they join the current step.
    pub fn add_branch(
        &mut self,
        now: Instant,
        new: NewBranch<D>,
        sink: &mut Vec<Output<R>>,
    ) -> Result<usize, AddError> {
        self.may_add()?;
        if self.decided.take().is_some() {
            self.step = self.branches.len();
        }
        let index = self.push_real(now, new, sink);
        self.end_wait_at_limit(now, sink);
        Ok(index)
    }

    /// Adds the next target of a branch for which [`Output::NextTarget`] came.
    pub fn add_target(
        &mut self,
        now: Instant,
        failed: usize,
        new: NewBranch<D>,
        sink: &mut Vec<Output<R>>,
    ) -> Result<usize, AddError> {
        match self.may_add() {
            Ok(()) => {
                // It takes the place of the failed one and does not count as an awaited branch.
                self.limit = self.limit.saturating_add(1).min(MAX_BRANCHES);
                let index = self.push_real(now, new, sink);
                if let Some(branch) = self.branches.get_mut(failed)
                    && matches!(branch.outcome, Outcome::Asking(_))
                {
                    branch.settle(Outcome::Excluded);
                }
                Ok(index)
            }
            Err(error) => {
                self.no_target(now, failed, sink);
                Err(error)
            }
        }
    }

    /// There is no further target: the branch has failed.
    pub fn no_target(&mut self, now: Instant, failed: usize, sink: &mut Vec<Output<R>>) {
        if let Some(branch) = self.branches.get_mut(failed)
            && let Outcome::Asking(code) = branch.outcome
        {
            branch.settle(Outcome::Final(code));
            self.evaluate(now, sink);
        }
    }

    /// Adds a placeholder that holds the transaction open until `awaited` branches were added (`None`: no limit), a 2xx
    /// came, `fr_inv` (`fr` for other requests than INVITE) passed, or [`Transaction::stop_waiting`]. `destination` is what the host keeps with it.
    pub fn wait_for_branches(
        &mut self,
        now: Instant,
        awaited: Option<usize>,
        destination: D,
    ) -> Result<usize, AddError> {
        self.may_add()?;
        if self.decided.take().is_some() {
            self.step = self.branches.len();
        }
        let index = self.branches.len();
        self.limit = awaited.map_or(MAX_BRANCHES, |n| (index + 1).saturating_add(n).min(MAX_BRANCHES));
        let timing = &self.settings.timing;
        let until = now + ms(if self.settings.invite { timing.fr_inv } else { timing.fr });
        self.branches.push(Branch::placeholder(until, destination));
        Ok(index)
    }

    /// Ends the waiting of all placeholders; `false` when there was none.
    pub fn stop_waiting(&mut self, now: Instant, sink: &mut Vec<Output<R>>) -> bool {
        let ended = self.end_placeholders(Outcome::Excluded);
        if ended {
            self.evaluate(now, sink);
        }
        ended
    }

    /// A request or failure route has ended. Without branches and reply the transaction is released silently.
    pub fn route_done(&mut self, now: Instant, sink: &mut Vec<Output<R>>) {
        if self.done {
            return;
        }
        self.in_route = false;
        if self.server.is_final() || self.settled {
            self.check_done(sink);
        } else if let Some((branch, code)) = self.decided.take() {
            self.settled = true;
            let reply = branch.and_then(|b| self.branches.get_mut(b)).and_then(|b| b.reply.take());
            sink.push(match (branch, reply) {
                (Some(branch), Some(reply)) => Output::Relay { branch, code, reply },
                _ => Output::Generate { code },
            });
        } else if self.branches.is_empty() && self.cancelled {
            self.settled = true;
            sink.push(Output::Generate { code: 487 });
        } else if self.branches.is_empty() {
            self.done = true;
            sink.push(Output::Done);
        } else {
            self.evaluate(now, sink);
        }
    }

    /// Sends a reply to the request: a relayed one, a generated one, or one a route made. A final one cancels the branches
    /// that are still pending (unless it is a 2xx with `multi_200`).
    pub fn send(&mut self, now: Instant, code: u16, bytes: Bytes, sink: &mut Vec<Output<R>>) {
        let was_final = self.server.is_final();
        self.drive_server(now, server::Input::Reply(code), Some((code, bytes)), sink);
        if code >= 200 && !was_final {
            self.settled = true;
            self.decided = None;
            self.end_placeholders(Outcome::Excluded);
            match code {
                200..=299 if self.settings.multi_200 => {}
                200..=299 => self.cancel_branches(now, Cancel::All, COMPLETED_ELSEWHERE, sink),
                _ => self.cancel_branches(now, Cancel::All, &[], sink),
            }
        }
        self.check_done(sink);
    }

    /// The request came again.
    pub fn retransmission(&mut self, now: Instant, sink: &mut Vec<Output<R>>) {
        self.drive_server(now, server::Input::Retransmission, None, sink);
    }

    /// The ACK of a final reply other than 2xx came.
    pub fn ack(&mut self, now: Instant, sink: &mut Vec<Output<R>>) {
        self.drive_server(now, server::Input::Ack, None, sink);
        self.check_done(sink);
    }

    /// The caller cancelled the request: cancels all branches, with `headers` (Reason) in each CANCEL. The 200 to the
    /// CANCEL is the host's. `false` when it comes too late or again.
    pub fn cancel(&mut self, now: Instant, headers: &[u8], sink: &mut Vec<Output<R>>) -> bool {
        if self.done || self.cancelled || self.server.is_final() || !self.settings.invite {
            return false;
        }
        self.cancelled = true;
        self.cancel_branches(now, Cancel::All, headers, sink);
        self.end_placeholders(Outcome::Final(487));
        for branch in &mut self.branches {
            if let Outcome::Asking(code) = branch.outcome {
                branch.settle(Outcome::Final(code));
            }
        }
        self.evaluate(now, sink);
        true
    }

    /// Cancels branches that are pending, with `headers` in each CANCEL. One without a provisional reply is cancelled when
    /// that comes (RFC 3261 §9.1).
    pub fn cancel_branches(
        &mut self,
        now: Instant,
        which: Cancel,
        headers: &[u8],
        sink: &mut Vec<Output<R>>,
    ) {
        for index in 0..self.branches.len() {
            let meant = match which {
                Cancel::One(one) => index == one,
                Cancel::All => true,
                Cancel::AllBut(spared) => index != spared,
                Cancel::Before(end) => index < end,
            };
            if meant && self.branches[index].is_pending() {
                self.cancel_branch(now, index, headers, sink);
            }
        }
    }

    /// A reply came for this branch, or for its CANCEL. A new one comes back as [`Output::Reply`]; a final one other than 2xx
    /// is acknowledged first.
    pub fn receive(&mut self, now: Instant, index: usize, reply: &R, sink: &mut Vec<Output<R>>) {
        let message = reply.as_ref();
        let code = message.status();
        let timing = self.settings.timing;
        let Some(branch) = self.branches.get_mut(index).filter(|_| !self.done && code >= 100) else { return };
        let is_cancel = message.method() == Method::Cancel;
        if is_cancel {
            if let CancelState::Sent(c) = &mut branch.cancel {
                c.machine.handle(now, &timing, client::Input::Reply(code), &mut |_| {});
            }
        } else if let Some(client) = &mut branch.client {
            let mut outputs = ClientOutputs::new();
            client.handle(now, &timing, client::Input::Reply(code), &mut |o| outputs.push(o));
            self.obey(now, index, outputs, Some(message), sink);
        }
        self.check_done(sink);
    }

    /// The routes for a reply have run: relays or stores it, and chooses when all branches are final.
    pub fn process(&mut self, now: Instant, index: usize, reply: R, sink: &mut Vec<Output<R>>) {
        let code = reply.as_ref().status();
        let Some(branch) = self.branches.get_mut(index).filter(|_| !self.done) else { return };
        match code {
            ..=100 => {}
            101..=199 => {
                if branch.is_pending() && !self.server.is_final() && !self.settled {
                    sink.push(Output::Relay { branch: index, code, reply });
                }
            }
            200..=299 => {
                branch.settle(Outcome::Final(code));
                self.settled = true;
                if self.settings.invite || !self.server.is_final() {
                    sink.push(Output::Relay { branch: index, code, reply });
                }
                self.end_placeholders(Outcome::Excluded);
                if !self.settings.multi_200 {
                    self.cancel_branches(now, Cancel::AllBut(index), COMPLETED_ELSEWHERE, sink);
                }
            }
            _ => self.process_failure(now, index, code, reply, sink),
        }
        self.check_done(sink);
    }

    fn process_failure(
        &mut self,
        now: Instant,
        index: usize,
        code: u16,
        reply: R,
        sink: &mut Vec<Output<R>>,
    ) {
        let may_add = self.may_add().is_ok();
        let branch = &mut self.branches[index];
        if branch.outcome != Outcome::Pending {
            return;
        }
        branch.reply = Some(reply);
        if code == 503 && branch.more_targets && may_add && !self.settled {
            branch.outcome = Outcome::Asking(code);
            sink.push(Output::NextTarget { branch: index });
            return;
        }
        branch.settle(Outcome::Final(code));
        if code >= 600 && !self.settings.allow_after_6xx && !self.settled {
            self.blocked = true;
            self.cancel_branches(now, Cancel::All, &[], sink);
            self.branches.iter_mut().filter(|b| b.is_pending()).for_each(|b| b.settle(Outcome::Excluded));
        }
        self.evaluate(now, sink);
    }

    /// The transport could not send the request of this branch.
    pub fn transport_error(&mut self, now: Instant, index: usize, sink: &mut Vec<Output<R>>) {
        let timing = self.settings.timing;
        if let Some(client) = self.branches.get_mut(index).and_then(|b| b.client.as_mut()) {
            let mut outputs = ClientOutputs::new();
            client.handle(now, &timing, client::Input::TransportError, &mut |o| outputs.push(o));
            self.obey(now, index, outputs, None, sink);
        }
        self.check_done(sink);
    }

    /// The transport could not send a reply.
    pub fn reply_transport_error(&mut self, now: Instant, sink: &mut Vec<Output<R>>) {
        self.drive_server(now, server::Input::TransportError, None, sink);
        self.check_done(sink);
    }

    /// The deadline has come.
    pub fn timer(&mut self, now: Instant, sink: &mut Vec<Output<R>>) {
        if self.done {
            return;
        }
        let timing = self.settings.timing;
        if self.server.deadline().is_some_and(|at| at <= now) {
            self.drive_server(now, server::Input::Timer, None, sink);
        }
        for index in 0..self.branches.len() {
            let branch = &mut self.branches[index];
            if let CancelState::Sent(c) = &mut branch.cancel
                && c.machine.deadline().is_some_and(|at| at <= now)
            {
                let bytes = &c.bytes;
                c.machine.handle(now, &timing, client::Input::Timer, &mut |o| {
                    if o == client::Output::Send {
                        sink.push(Output::SendHopByHop { branch: index, bytes: bytes.clone() });
                    }
                });
            }
            if branch.timeout.is_some_and(|at| at <= now) {
                branch.last_code = 408;
                branch.settle(Outcome::Final(408));
                self.evaluate(now, sink);
            } else if let Some(client) = &mut branch.client
                && client.deadline().is_some_and(|at| at <= now)
            {
                let mut outputs = ClientOutputs::new();
                client.handle(now, &timing, client::Input::Timer, &mut |o| outputs.push(o));
                self.obey(now, index, outputs, None, sink);
            }
        }
        self.check_done(sink);
    }

    fn may_add(&self) -> Result<(), AddError> {
        if self.done || self.server.is_final() {
            Err(AddError::Final)
        } else if self.cancelled {
            Err(AddError::Cancelled)
        } else if self.blocked {
            Err(AddError::Blocked)
        } else if self.settled {
            Err(AddError::Final)
        } else if self.branches.len() >= MAX_BRANCHES {
            Err(AddError::TooMany)
        } else {
            Ok(())
        }
    }

    fn push_real(&mut self, now: Instant, new: NewBranch<D>, sink: &mut Vec<Output<R>>) -> usize {
        let index = self.branches.len();
        let (timing, invite) = (self.settings.timing, self.settings.invite);
        let client = client::Machine::start(now, &timing, invite, new.reliable, &mut |_| {});
        self.branches.push(Branch::real(client, new));
        sink.push(Output::SendRequest { branch: index });
        index
    }

    fn end_wait_at_limit(&mut self, now: Instant, sink: &mut Vec<Output<R>>) {
        if self.branches.len() >= self.limit && self.end_placeholders(Outcome::Excluded) {
            self.evaluate(now, sink);
        }
    }

    fn end_placeholders(&mut self, outcome: Outcome) -> bool {
        self.limit = MAX_BRANCHES;
        let mut ended = false;
        for branch in self.branches.iter_mut().filter(|b| b.kind == Kind::Phony && b.is_pending()) {
            branch.settle(outcome);
            ended = true;
        }
        ended
    }

    /// Chooses when the step is over: starts the failure route with the winner so far.
    fn evaluate(&mut self, now: Instant, sink: &mut Vec<Output<R>>) {
        if self.in_route || self.settled || self.done || self.server.is_final() {
            return;
        }
        if self.branches[self.step..].iter().any(Branch::holds) {
            return;
        }
        for index in self.step..self.branches.len() {
            if self.branches[index].is_pending() {
                self.cancel_branch(now, index, &[], sink);
                self.branches[index].settle(Outcome::Excluded);
            }
        }
        let step = self.branches.iter().enumerate().skip(self.step);
        let codes = step.filter_map(|(index, b)| Some((index, b.final_code()?)));
        let (branch, code) = match choice::winner(codes, self.cancelled) {
            Some((index, code)) => (Some(index), code),
            None => (None, if self.cancelled { 487 } else { 408 }),
        };
        self.decided = Some((branch, code));
        self.in_route = true;
        sink.push(Output::AllFailed { branch, code });
    }

    /// Does what the client machine of a branch says.
    fn obey(
        &mut self,
        now: Instant,
        index: usize,
        outputs: ClientOutputs,
        reply: Option<&Message>,
        sink: &mut Vec<Output<R>>,
    ) {
        for output in outputs {
            let branch = &mut self.branches[index];
            match output {
                client::Output::Send => sink.push(Output::SendRequest { branch: index }),
                client::Output::Ack => {
                    if branch.ack.is_empty()
                        && let (Some(reply), Some(sent)) = (reply, sent_message(&branch.request))
                    {
                        let mut bytes = Vec::new();
                        request::ack_for(&sent, reply, &mut bytes);
                        branch.ack = bytes.into();
                    }
                    if !branch.ack.is_empty() {
                        sink.push(Output::SendHopByHop { branch: index, bytes: branch.ack.clone() });
                    }
                }
                client::Output::Deliver(code) => {
                    branch.last_code = code;
                    if code < 200 && matches!(branch.cancel, CancelState::Wanted(_)) {
                        self.send_cancel(now, index, sink);
                    }
                    sink.push(Output::Reply { branch: index, code });
                }
                client::Output::Timeout { after_provisional } => {
                    if after_provisional && !branch.is_cancelled() {
                        self.send_cancel(now, index, sink);
                    }
                    let cancelled = matches!(self.branches[index].cancel, CancelState::Sent(_));
                    let code = if cancelled && self.cancelled { 487 } else { 408 };
                    self.fail_branch(now, index, code, !after_provisional, sink);
                }
                client::Output::TransportError => self.fail_branch(now, index, 503, true, sink),
                client::Output::Terminated => {}
            }
        }
    }

    /// A branch ended without a reply.
    fn fail_branch(&mut self, now: Instant, index: usize, code: u16, retry: bool, sink: &mut Vec<Output<R>>) {
        let may_add = self.may_add().is_ok();
        let branch = &mut self.branches[index];
        if branch.outcome != Outcome::Pending {
            return;
        }
        branch.local = true;
        branch.last_code = code;
        if retry && branch.more_targets && may_add {
            branch.outcome = Outcome::Asking(code);
            sink.push(Output::NextTarget { branch: index });
        } else {
            branch.settle(Outcome::Final(code));
            self.evaluate(now, sink);
        }
    }

    fn cancel_branch(&mut self, now: Instant, index: usize, headers: &[u8], sink: &mut Vec<Output<R>>) {
        let branch = &mut self.branches[index];
        if !self.settings.invite || branch.is_cancelled() {
            return;
        }
        match branch.client_state() {
            client::State::Calling => branch.cancel = CancelState::Wanted(Bytes::copy_from_slice(headers)),
            client::State::Proceeding => {
                branch.cancel = CancelState::Wanted(Bytes::copy_from_slice(headers));
                self.send_cancel(now, index, sink);
            }
            _ => {}
        }
    }

    fn send_cancel(&mut self, now: Instant, index: usize, sink: &mut Vec<Output<R>>) {
        let timing = self.settings.timing;
        let branch = &mut self.branches[index];
        let headers = match &branch.cancel {
            CancelState::No => Bytes::new(),
            CancelState::Wanted(headers) => headers.clone(),
            CancelState::Sent(_) => return,
        };
        let (Some(client), Some(sent)) = (&mut branch.client, sent_message(&branch.request)) else { return };
        let mut bytes = Vec::new();
        request::cancel_for(&sent, &headers, &mut bytes);
        let bytes = Bytes::from(bytes);
        client.handle(now, &timing, client::Input::Cancelled, &mut |_| {});
        let machine = client::Machine::start(now, &timing, false, client.is_reliable(), &mut |_| {});
        branch.cancel = CancelState::Sent(Box::new(Canceller { machine, bytes: bytes.clone() }));
        sink.push(Output::SendHopByHop { branch: index, bytes });
    }

    fn drive_server(
        &mut self,
        now: Instant,
        input: server::Input,
        new: Option<(u16, Bytes)>,
        sink: &mut Vec<Output<R>>,
    ) {
        if self.done {
            return;
        }
        let mut outputs: SmallVec<[server::Output; 2]> = SmallVec::new();
        let timing = self.settings.timing;
        self.server.handle(now, &timing, input, &mut |o| outputs.push(o));
        for output in outputs {
            let bytes = match (output, &new) {
                (server::Output::SendNew, Some((code, bytes))) => {
                    self.last_code = *code;
                    self.last_reply = bytes.clone();
                    bytes.clone()
                }
                (server::Output::SendOnly, Some((_, bytes))) => bytes.clone(),
                (server::Output::SendLast, _) => self.last_reply.clone(),
                (server::Output::Timeout, _) => {
                    sink.push(Output::NoAck);
                    continue;
                }
                _ => continue,
            };
            if !bytes.is_empty() && !self.settings.local {
                sink.push(Output::SendReply { bytes });
            }
        }
    }

    fn check_done(&mut self, sink: &mut Vec<Output<R>>) {
        let over = !self.done
            && !self.in_route
            && self.server.state() == server::State::Terminated
            && self.branches.iter().all(Branch::is_over);
        if over {
            self.done = true;
            sink.push(Output::Done);
        }
    }
}

fn sent_message(request: &Bytes) -> Option<Message> {
    Message::parse(request.clone()).ok()
}
