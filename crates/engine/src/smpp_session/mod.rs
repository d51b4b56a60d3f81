//! An SMPP session (SMPP 5.0 §2): which PDU is legal in which state and from which side, windows in both directions, sequence
//! numbers, and the four timers of §2.7.
//!
//! The machine sees headers only. Bodies, and whether a bind is welcome, are the host's affair: it reads the PDUs that come out
//! as [`Output::Request`], answers them, and says so with [`Session::answered`] or [`Session::accept`].

mod legal;
mod window;

use std::time::{Duration, Instant};

use switchroom_wire::smpp::{CommandId, Header, Status};

pub use legal::{Side, legal};
use window::Window;

/// How long a session that was unbound waits for its peer to close.
const LINGER: Duration = Duration::from_secs(1);

/// Settings of a session.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Which side we are.
    pub side: Side,
    /// Until it must be bound.
    pub session_init: Duration,
    /// Silence after which the peer is asked whether it is there; `None` never asks.
    pub enquire_link: Option<Duration>,
    /// Time without messages after which the session is unbound.
    pub inactivity: Option<Duration>,
    /// Until a request must be answered.
    pub response: Duration,
    /// A message that is not answered in time ends the session, not only itself.
    pub cut_when_unanswered: bool,
    /// Requests of ours that may be unanswered.
    pub window_out: usize,
    /// Requests of the peer's that may be unanswered; then [`Session::may_read`] says no.
    pub window_in: usize,
}

impl Settings {
    /// The defaults of the field for this side.
    #[must_use]
    pub fn new(side: Side) -> Settings {
        Settings {
            side,
            session_init: Duration::from_secs(10),
            enquire_link: Some(Duration::from_secs(30)),
            inactivity: None,
            response: Duration::from_secs(60),
            cut_when_unanswered: side == Side::Centre,
            window_out: 10,
            window_in: 100,
        }
    }
}

/// What a bound session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The application submits.
    Transmitter,
    /// The application receives.
    Receiver,
    /// Both.
    Transceiver,
}

impl Mode {
    /// The mode that a bind asks for.
    #[must_use]
    pub fn of(command: CommandId) -> Option<Mode> {
        match command.request() {
            CommandId::BIND_TRANSMITTER => Some(Mode::Transmitter),
            CommandId::BIND_RECEIVER => Some(Mode::Receiver),
            CommandId::BIND_TRANSCEIVER => Some(Mode::Transceiver),
            _ => None,
        }
    }

    /// The bind that asks for it.
    #[must_use]
    pub fn bind(self) -> CommandId {
        match self {
            Mode::Transmitter => CommandId::BIND_TRANSMITTER,
            Mode::Receiver => CommandId::BIND_RECEIVER,
            Mode::Transceiver => CommandId::BIND_TRANSCEIVER,
        }
    }

    /// Whether the application submits in it.
    #[must_use]
    pub fn submits(self) -> bool {
        self != Mode::Receiver
    }

    /// Whether the application receives in it.
    #[must_use]
    pub fn receives(self) -> bool {
        self != Mode::Transmitter
    }
}

/// State of a session (5.0 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The connection stands.
    Open,
    /// `outbind` was sent or received.
    Outbound,
    /// A bind is being decided: by us, or by the peer.
    Binding(Mode),
    /// Bound.
    Bound(Mode),
    /// `unbind` was sent or received.
    Unbound,
    /// Over.
    Closed,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Not bound in time.
    NotBound,
    /// `enquire_link`, or a message, was not answered in time.
    NoAnswer,
    /// No messages for as long as was allowed.
    Inactive,
    /// One side has unbound.
    Unbound,
    /// The stream was broken: see [`switchroom_wire::smpp::frame::Frame::Broken`].
    Framing,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A request that is legal now. For a bind the host decides and calls [`Session::accept`] or [`Session::refuse`].
    Request(Header),
    /// The answer to a request of ours.
    Response {
        /// Its header; the body belongs to it.
        header: Header,
        /// What was asked.
        request: CommandId,
        /// What [`Session::send`] was given.
        token: u64,
    },
    /// Send this PDU, which has no body.
    Send(Header),
    /// A request of ours got no answer, so its outcome is not known.
    Unanswered {
        /// What [`Session::send`] was given.
        token: u64,
    },
    /// A response to nothing; drop and count.
    Unsolicited(Header),
    /// A bind of ours was accepted.
    Bound(Mode),
    /// Close the connection; what is still unanswered came before.
    Close(Ending),
}

/// Why a request cannot be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Not in this state.
    #[error("not allowed in this state of the session")]
    State,
    /// Too many are unanswered.
    #[error("the window is full")]
    WindowFull,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    state: State,
    out: Window,
    /// Requests of the peer's that the host has not answered.
    unanswered_in: usize,
    opened: Instant,
    /// Last PDU of the peer's.
    heard: Instant,
    /// Last message in either direction.
    active: Instant,
    unbound: Option<Instant>,
}

/// Token of requests that the machine sends by itself.
const OWN: u64 = u64::MAX;

impl Session {
    /// A session whose connection stands since `now`.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Session {
        Session {
            settings,
            state: State::Open,
            out: Window::default(),
            unanswered_in: 0,
            opened: now,
            heard: now,
            active: now,
            unbound: None,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The mode it is bound in.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        match self.state {
            State::Bound(mode) => Some(mode),
            _ => None,
        }
    }

    /// Requests of ours without an answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.out.len()
    }

    /// How many more messages may be sent now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.settings.window_out.saturating_sub(self.out.len())
    }

    /// Whether more may be read from the peer; else its window is full and the connection should press back.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.unanswered_in < self.settings.window_in
    }

    /// Sends a request: gives its sequence number. `token` comes back with the answer.
    pub fn send(&mut self, now: Instant, command: CommandId, token: u64) -> Result<u32, SendError> {
        let binds = command.is_bind();
        let fits = match self.state {
            State::Open | State::Outbound if binds => self.settings.side == Side::Application,
            State::Binding(_) | State::Closed => {
                command == CommandId::ENQUIRE_LINK && self.state != State::Closed
            }
            state => legal(command, self.settings.side, state),
        };
        if !fits {
            return Err(SendError::State);
        }
        let counts = is_message(command);
        if counts && self.room() == 0 {
            return Err(SendError::WindowFull);
        }
        match command {
            c if binds => self.state = Mode::of(c).map_or(self.state, State::Binding),
            CommandId::OUTBIND => self.state = State::Outbound,
            CommandId::UNBIND => {
                self.state = State::Unbound;
                self.unbound = Some(now);
            }
            _ => {}
        }
        if counts {
            self.active = now;
        }
        let until = (command.response().is_some()).then(|| now + self.settings.response);
        Ok(self.out.push(command, token, until))
    }

    /// The host accepts the bind that came; it sends the response.
    pub fn accept(&mut self, now: Instant) {
        if let State::Binding(mode) = self.state {
            self.state = State::Bound(mode);
            self.active = now;
        }
    }

    /// The host refuses the bind that came; the peer may try again until the session must be bound.
    pub fn refuse(&mut self) {
        if matches!(self.state, State::Binding(_)) {
            self.state = State::Open;
        }
    }

    /// The host has answered a request.
    pub fn answered(&mut self) {
        self.unanswered_in = self.unanswered_in.saturating_sub(1);
    }

    /// A whole PDU came.
    pub fn receive(&mut self, now: Instant, header: Header, sink: &mut Vec<Output>) {
        if self.state == State::Closed {
            return;
        }
        self.heard = now;
        if header.command.is_response() {
            return self.response(now, header, sink);
        }
        let command = header.command;
        if command.known_name().is_none() {
            sink.push(Output::Send(Header {
                command: CommandId::GENERIC_NACK,
                status: Status::INVCMDID,
                ..header
            }));
            return;
        }
        if !legal(command, self.settings.side.other(), self.state) {
            let again = command.is_bind() && matches!(self.state, State::Bound(_) | State::Binding(_));
            let status = if again { Status::ALYBND } else { Status::INVBNDSTS };
            if command.response().is_some() {
                sink.push(Output::Send(header.answer(status)));
            }
            return;
        }
        match command {
            CommandId::ENQUIRE_LINK => sink.push(Output::Send(header.answer(Status::OK))),
            CommandId::UNBIND => {
                self.state = State::Unbound;
                self.unbound = Some(now);
                sink.push(Output::Send(header.answer(Status::OK)));
            }
            CommandId::OUTBIND => {
                self.state = State::Outbound;
                sink.push(Output::Request(header));
            }
            c if c.is_bind() => {
                self.state = Mode::of(c).map_or(self.state, State::Binding);
                sink.push(Output::Request(header));
            }
            c => {
                if c.response().is_some() {
                    self.unanswered_in += 1;
                }
                self.active = now;
                sink.push(Output::Request(header));
            }
        }
    }

    fn response(&mut self, now: Instant, header: Header, sink: &mut Vec<Output>) {
        let nack = header.command == CommandId::GENERIC_NACK;
        let Some(pending) = self.out.take(header.sequence, |p| nack || p.command == header.command.request())
        else {
            sink.push(Output::Unsolicited(header));
            return;
        };
        match pending.command {
            CommandId::UNBIND => return self.close(Ending::Unbound, sink),
            c if c.is_bind() => {
                let mode = Mode::of(c).filter(|_| header.status == Status::OK && !nack);
                match mode {
                    Some(mode) if self.state == State::Binding(mode) => {
                        self.state = State::Bound(mode);
                        self.active = now;
                        sink.push(Output::Response { header, request: c, token: pending.token });
                        sink.push(Output::Bound(mode));
                        return;
                    }
                    _ => self.state = State::Open,
                }
            }
            _ => {}
        }
        if pending.token != OWN {
            sink.push(Output::Response { header, request: pending.command, token: pending.token });
        }
    }

    /// The stream is broken: the peer is told, and the session ends.
    pub fn broken(&mut self, sequence: u32, sink: &mut Vec<Output>) {
        if self.state != State::Closed {
            let command = CommandId::GENERIC_NACK;
            sink.push(Output::Send(Header { command, status: Status::INVCMDLEN, sequence }));
            self.close(Ending::Framing, sink);
        }
    }

    /// The connection is gone: what was unanswered comes out.
    pub fn lost(&mut self, sink: &mut Vec<Output>) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.give_up(sink);
        }
    }

    /// When [`Session::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let s = &self.settings;
        let of_state = match self.state {
            State::Closed => return None,
            State::Unbound => self.unbound.map(|at| at + LINGER),
            State::Bound(_) => s.inactivity.map(|i| self.active + i),
            State::Open | State::Outbound | State::Binding(_) => self.deadline_to_bind(),
        };
        let ask = match self.state {
            State::Bound(_) if !self.out.has(CommandId::ENQUIRE_LINK) => {
                s.enquire_link.map(|e| self.heard + e)
            }
            _ => None,
        };
        [of_state, ask, self.out.first_deadline()].into_iter().flatten().min()
    }

    /// When a session that is not bound ends.
    fn deadline_to_bind(&self) -> Option<Instant> {
        let s = &self.settings;
        match self.state {
            // The peer has asked in time; the host, that looks at passwords, has as long as for any answer.
            State::Binding(_) if s.side == Side::Centre => Some(self.heard + s.response),
            State::Open | State::Outbound | State::Binding(_) => Some(self.opened + s.session_init),
            _ => None,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, sink: &mut Vec<Output>) {
        let s = self.settings;
        match self.state {
            State::Closed => return,
            State::Unbound if self.unbound.is_some_and(|at| now >= at + LINGER) => {
                return self.close(Ending::Unbound, sink);
            }
            State::Open | State::Outbound | State::Binding(_)
                if self.deadline_to_bind().is_some_and(|at| now >= at) =>
            {
                return self.close(Ending::NotBound, sink);
            }
            _ => {}
        }
        while let Some(pending) = self.out.expired(now) {
            let fatal =
                pending.token == OWN || pending.command == CommandId::ENQUIRE_LINK || s.cut_when_unanswered;
            if pending.token != OWN {
                sink.push(Output::Unanswered { token: pending.token });
            }
            if fatal {
                return self.close(Ending::NoAnswer, sink);
            }
        }
        if let State::Bound(_) = self.state {
            if s.inactivity.is_some_and(|i| now >= self.active + i) {
                self.own(now, CommandId::UNBIND, sink);
                self.state = State::Unbound;
                self.unbound = Some(now);
            } else if s.enquire_link.is_some_and(|e| now >= self.heard + e)
                && !self.out.has(CommandId::ENQUIRE_LINK)
            {
                self.own(now, CommandId::ENQUIRE_LINK, sink);
            }
        }
    }

    fn own(&mut self, now: Instant, command: CommandId, sink: &mut Vec<Output>) {
        let sequence = self.out.push(command, OWN, Some(now + self.settings.response));
        sink.push(Output::Send(Header::request(command, sequence)));
    }

    fn close(&mut self, why: Ending, sink: &mut Vec<Output>) {
        self.state = State::Closed;
        self.give_up(sink);
        sink.push(Output::Close(why));
    }

    fn give_up(&mut self, sink: &mut Vec<Output>) {
        for pending in self.out.drain().filter(|p| p.token != OWN) {
            sink.push(Output::Unanswered { token: pending.token });
        }
    }
}

/// Whether it counts for windows and activity.
fn is_message(command: CommandId) -> bool {
    !command.is_bind() && !matches!(command, CommandId::ENQUIRE_LINK | CommandId::UNBIND | CommandId::OUTBIND)
}
