//! The way into a link from outside of its future.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;
use switchroom_engine::smpp_session::{Mode, SendError, Session, State};
use switchroom_wire::smpp::{Bind, Body, CommandId, Header, Pdu, Rules, Status, Tlvs, push_tlv, tag};

use super::{Counters, Options, carries_message};

/// Octets that wait to be written; with more, nothing is read and no request is taken.
pub(super) const MAX_WAITING: usize = 256 * 1024;

/// One link, for everybody. Cheap to copy; what is called after the link's end does nothing.
#[derive(Clone)]
pub struct LinkHandle(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub options: Options,
    /// The peer turned out to be one whose PDUs are read to the letter.
    pub strict: AtomicBool,
    pub inner: Mutex<Inner>,
}

impl Shared {
    /// How the peer's PDUs are read.
    pub fn rules(&self) -> Rules {
        if self.strict.load(Relaxed) { Rules::STRICT } else { self.options.rules }
    }
}

pub(super) struct Inner {
    pub session: Session,
    /// Octets that the next write takes.
    pub out: Vec<u8>,
    /// The owner wants an end: when what waits is written.
    pub close: bool,
    pub waker: Option<Waker>,
}

impl LinkHandle {
    pub(super) fn new(options: Options) -> LinkHandle {
        let session = Session::new(options.session, options.clock.now());
        let inner = Mutex::new(Inner { session, out: Vec::new(), close: false, waker: None });
        LinkHandle(Arc::new(Shared { options, strict: AtomicBool::new(false), inner }))
    }

    /// Binds. The answer comes as [`super::Handler::response`] with this token, then [`super::Handler::bound`].
    pub fn bind(&self, mode: Mode, bind: &Bind<'_>, token: u64) -> Result<u32, SendError> {
        self.send(mode.bind(), &Body::Bind(*bind), token)
    }

    /// Sends a request and gives its sequence number. The token, any number but `u64::MAX`, comes back with the answer.
    pub fn send(&self, command: CommandId, body: &Body<'_>, token: u64) -> Result<u32, SendError> {
        let now = self.0.options.clock.now();
        let sequence = self.with(|inner, counters| {
            if inner.out.len() > MAX_WAITING {
                return Err(SendError::WindowFull);
            }
            let sequence = inner.session.send(now, command, token)?;
            if carries_message(command) {
                counters.messages_out.fetch_add(1, Relaxed);
            }
            inner.write(Header::request(command, sequence), body, counters);
            Ok(sequence)
        })?;
        Ok(sequence)
    }

    /// Answers a request; an answer with an error needs no body ([`Body::Empty`]). False when the link is over.
    pub fn respond(&self, request: Header, status: Status, body: &Body<'_>) -> bool {
        self.with(|inner, counters| {
            if inner.session.state() == State::Closed {
                return false;
            }
            inner.session.answered();
            inner.write(request.answer(status), body, counters);
            true
        })
    }

    /// Answers a request with `generic_nack`, for a command that is not supported.
    pub fn nack(&self, request: Header, status: Status) -> bool {
        self.with(|inner, counters| {
            if inner.session.state() == State::Closed {
                return false;
            }
            inner.session.answered();
            let nack = Header { command: CommandId::GENERIC_NACK, status, ..request };
            inner.write(nack, &Body::Empty, counters);
            true
        })
    }

    /// Accepts a bind; `system_id` is our name, `version` what we speak (0x34, 0x50), left out for a peer of version 3.3.
    pub fn accept(&self, request: Header, system_id: &[u8], version: Option<u8>) -> bool {
        let now = self.0.options.clock.now();
        self.with(|inner, counters| {
            if !matches!(inner.session.state(), State::Binding(_)) {
                return false;
            }
            inner.session.accept(now);
            let mut tlvs = Vec::with_capacity(5);
            if let Some(version) = version {
                push_tlv(&mut tlvs, tag::SC_INTERFACE_VERSION, &[version]);
            }
            let tlvs = Tlvs::read(&tlvs, false).unwrap_or_default();
            inner.write(request.answer(Status::OK), &Body::BindResponse { system_id, tlvs }, counters);
            true
        })
    }

    /// Refuses a bind; the peer may try again until it must be bound.
    pub fn refuse(&self, request: Header, status: Status) -> bool {
        self.with(|inner, counters| {
            if !matches!(inner.session.state(), State::Binding(_)) {
                return false;
            }
            inner.session.refuse();
            inner.write(request.answer(status), &Body::Empty, counters);
            true
        })
    }

    /// Unbinds; the link ends with the peer's answer, or soon without one.
    pub fn unbind(&self) {
        if self.send(CommandId::UNBIND, &Body::Empty, UNBIND).is_err() {
            self.close();
        }
    }

    /// Ends the link when what waits is written, without asking the peer.
    pub fn close(&self) {
        self.with(|inner, _| inner.close = true);
    }

    /// From now on the peer's PDUs are read to the letter of the specification, or as the options say.
    pub fn set_strict(&self, strict: bool) {
        self.0.strict.store(strict, Relaxed);
    }

    /// Where the session is.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.inner.lock().session.state()
    }

    /// The mode it is bound in.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.0.inner.lock().session.mode()
    }

    /// How many more messages may be sent now.
    #[must_use]
    pub fn room(&self) -> usize {
        let inner = self.0.inner.lock();
        if inner.out.len() > MAX_WAITING { 0 } else { inner.session.room() }
    }

    /// Requests of ours without an answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.0.inner.lock().session.unanswered()
    }

    /// Where it is counted.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.0.options.counters
    }

    /// Time as this link sees it.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.options.clock.now()
    }

    /// Whether both are the same link.
    #[must_use]
    pub fn is(&self, other: &LinkHandle) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner, &Counters) -> T) -> T {
        let mut inner = self.0.inner.lock();
        let done = change(&mut inner, &self.0.options.counters);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        done
    }
}

/// Token of our `unbind`.
pub(super) const UNBIND: u64 = u64::MAX - 1;

impl Inner {
    pub fn write(&mut self, header: Header, body: &Body<'_>, counters: &Counters) {
        Pdu { header, body: *body }.write(&mut self.out);
        counters.pdus_out.fetch_add(1, Relaxed);
        if header.status != Status::OK {
            counters.errors.fetch_add(1, Relaxed);
        }
    }
}
