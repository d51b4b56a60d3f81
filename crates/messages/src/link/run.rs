//! The future of a link: reading, timers, writing.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::io::{AsyncRead, AsyncWrite};
use switchroom_engine::smpp_session::{Ending, Output, Side, State};
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_kernel::ports::stream::ByteStream;
use switchroom_wire::smpp::frame::{self, Frame};
use switchroom_wire::smpp::{Body, Header, Pdu, Status};

use super::handle::{MAX_WAITING, UNBIND};
use super::{Closed, Handler, LinkHandle, Options, carries_message};

/// How long an ending link tries to write what waits.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// One read.
const READ: usize = 16 * 1024;
/// Reads before other links have their turn.
const TURN: usize = 8;

/// A link that has not started yet.
pub struct Link(LinkHandle);

impl Link {
    /// A link; what its handle is told before it runs is done when it runs. Timers begin now.
    #[must_use]
    pub fn new(options: Options) -> Link {
        Link(LinkHandle::new(options))
    }

    /// Its handle.
    #[must_use]
    pub fn handle(&self) -> LinkHandle {
        self.0.clone()
    }

    /// Lives as long as the connection.
    pub async fn run(self, stream: Box<dyn ByteStream>, handler: Arc<dyn Handler>) {
        let mut runner = Runner {
            link: self.0,
            handler,
            stream,
            input: Vec::new(),
            writing: Vec::new(),
            written: 0,
            timer: None,
            end: None,
            sink: Vec::new(),
        };
        let why = poll_fn(|cx| runner.poll(cx)).await;
        runner.link.0.inner.lock().session.lost(&mut runner.sink);
        runner.work_off(&[]);
        runner.handler.closed(&runner.link, &why);
    }
}

struct Runner {
    link: LinkHandle,
    handler: Arc<dyn Handler>,
    stream: Box<dyn ByteStream>,
    /// What was received and not worked off: a PDU that is not whole, or more than the window allows.
    input: Vec<u8>,
    writing: Vec<u8>,
    written: usize,
    /// The sleep under way, and until when.
    timer: Option<(Instant, BoxFuture<()>)>,
    /// Why it ends, and until when it may still write.
    end: Option<(Closed, Instant)>,
    sink: Vec<Output>,
}

impl Runner {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        // Set before anything is looked at, so that what is said meanwhile wakes us.
        self.link.0.inner.lock().waker = Some(cx.waker().clone());
        for _ in 0..TURN {
            self.tick();
            self.digest();
            if let Err(why) = self.write(cx) {
                return Poll::Ready(self.end.take().map_or(Closed::Broken(why), |(why, _)| why));
            }
            if self.is_over() {
                let why = self.end.take().map_or(Closed::Asked, |(why, _)| why);
                return Poll::Ready(why);
            }
            match self.read(cx) {
                Poll::Pending => {
                    return if self.arm(cx) { self.again(cx) } else { Poll::Pending };
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(why)) => return Poll::Ready(self.end.take().map_or(why, |(why, _)| why)),
            }
        }
        self.again(cx)
    }

    fn again(&self, cx: &Context<'_>) -> Poll<Closed> {
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn now(&self) -> Instant {
        self.link.0.options.clock.now()
    }

    fn tick(&mut self) {
        let now = self.now();
        let mut inner = self.link.0.inner.lock();
        if inner.close && self.end.is_none() {
            self.end = Some((Closed::Asked, now + LAST_WORDS));
        }
        if inner.session.deadline().is_some_and(|at| at <= now) {
            inner.session.tick(now, &mut self.sink);
            drop(inner);
            self.work_off(&[]);
        }
    }

    /// Sleeps until the next deadline. True when it is there already.
    fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.link.0.inner.lock().session.deadline();
        let last = self.end.as_ref().map(|(_, at)| *at);
        let Some(deadline) = [deadline, last].into_iter().flatten().min() else {
            self.timer = None;
            return false;
        };
        // A sleep that ends too early costs one look; deadlines move back with every PDU.
        if self.timer.as_ref().is_none_or(|(at, _)| *at > deadline) {
            let clock = &self.link.0.options.clock;
            let sleep = clock.sleep(deadline.saturating_duration_since(clock.now()));
            self.timer = Some((deadline, sleep));
        }
        let due = self.timer.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
        if due {
            self.timer = None;
        }
        due
    }

    /// Works off the PDUs that are whole, as long as the windows allow.
    fn digest(&mut self) {
        if self.input.is_empty() || self.end.is_some() {
            return;
        }
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while self.may_work() {
            match frame::next(&input[at..], self.link.0.options.max_pdu) {
                Frame::Partial(_) => break,
                Frame::Whole(length) => {
                    let pdu = &input[at..at + length];
                    at += length;
                    self.receive(pdu);
                }
                Frame::Broken { sequence } => {
                    self.count().faults.fetch_add(1, Relaxed);
                    self.link.0.inner.lock().session.broken(sequence, &mut self.sink);
                    self.work_off(&[]);
                    at = input.len();
                }
            }
        }
        if at < input.len() {
            self.input = input;
            self.input.drain(..at);
        }
    }

    /// Whether more of the peer's PDUs may be taken up.
    fn may_work(&self) -> bool {
        let inner = self.link.0.inner.lock();
        // What comes behind a bind waits until the bind is decided.
        let deciding = matches!(inner.session.state(), State::Binding(_))
            && self.link.0.options.session.side == Side::Centre;
        self.end.is_none() && !deciding && inner.session.may_read() && inner.out.len() <= MAX_WAITING
    }

    fn receive(&mut self, pdu: &[u8]) {
        let Some(header) = Header::read(pdu) else { return };
        let counters = self.count();
        counters.pdus_in.fetch_add(1, Relaxed);
        if carries_message(header.command) {
            counters.messages_in.fetch_add(1, Relaxed);
        }
        if header.status != Status::OK {
            counters.errors.fetch_add(1, Relaxed);
        }
        let now = self.now();
        self.link.0.inner.lock().session.receive(now, header, &mut self.sink);
        self.work_off(pdu);
    }

    /// Does what the machine wants done; `pdu` is what it was told of.
    fn work_off(&mut self, pdu: &[u8]) {
        let mut sink = std::mem::take(&mut self.sink);
        for output in sink.drain(..) {
            match output {
                Output::Request(header) => self.request(header, pdu),
                Output::Response { token: UNBIND, .. } | Output::Unanswered { token: UNBIND } => {}
                Output::Response { header, request, token } => {
                    let rest = pdu.get(frame::HEADER..).unwrap_or_default();
                    let unread = Pdu { header, body: Body::Unknown(rest) };
                    let pdu = Pdu::read(pdu, self.link.0.rules()).unwrap_or(unread);
                    self.handler.response(&self.link, token, request, &pdu);
                }
                Output::Send(header) => {
                    if header.status != Status::OK {
                        self.count().faults.fetch_add(1, Relaxed);
                    }
                    self.link.0.inner.lock().write(header, &Body::Empty, self.count());
                }
                Output::Unanswered { token } => {
                    self.count().unanswered.fetch_add(1, Relaxed);
                    self.handler.unanswered(&self.link, token);
                }
                Output::Unsolicited(_) => {
                    self.count().unsolicited.fetch_add(1, Relaxed);
                }
                Output::Bound(mode) => self.handler.bound(&self.link, mode),
                Output::Close(why) => {
                    let until = self.now() + LAST_WORDS;
                    self.end.get_or_insert((Closed::Session(why), until));
                }
            }
        }
        self.sink = sink;
    }

    fn request(&mut self, header: Header, pdu: &[u8]) {
        let link = &self.link;
        match Pdu::read(pdu, link.0.rules()) {
            Ok(Pdu { body: Body::Bind(bind), .. }) => self.handler.bind(link, header, &bind),
            Ok(Pdu { body: Body::Outbind(outbind), .. }) => self.handler.outbind(link, &outbind),
            Ok(pdu) => self.handler.request(link, &pdu),
            Err(fault) => {
                self.count().faults.fetch_add(1, Relaxed);
                if header.command.is_bind() {
                    link.refuse(header, fault.status);
                } else if header.command.response().is_some() {
                    link.respond(header, fault.status, &Body::Empty);
                } else {
                    tracing::debug!("smpp: {fault}");
                }
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), String> {
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                let mut inner = self.link.0.inner.lock();
                if inner.out.is_empty() {
                    drop(inner);
                    // An idle link keeps no buffer.
                    self.writing = Vec::new();
                    return match Pin::new(&mut self.stream).poll_flush(cx) {
                        Poll::Ready(Err(e)) => Err(e.to_string()),
                        _ => Ok(()),
                    };
                }
                std::mem::swap(&mut inner.out, &mut self.writing);
            }
            match Pin::new(&mut self.stream).poll_write(cx, &self.writing[self.written..]) {
                Poll::Ready(Ok(0)) => return Err("the connection takes no more data".into()),
                Poll::Ready(Ok(n)) => {
                    self.written += n;
                    self.count().bytes_out.fetch_add(n as u64, Relaxed);
                }
                Poll::Ready(Err(e)) => return Err(e.to_string()),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn is_over(&self) -> bool {
        let Some((_, until)) = &self.end else { return false };
        let inner = self.link.0.inner.lock();
        (self.written == self.writing.len() && inner.out.is_empty()) || self.now() >= *until
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        // What is there is worked off first; the handle wakes us when the window opens.
        if !self.may_work() {
            return Poll::Pending;
        }
        let mut buffer = [0; READ];
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => {
                let unbound = self.link.state() == State::Unbound;
                let why = if unbound { Closed::Session(Ending::Unbound) } else { Closed::Peer };
                Poll::Ready(Err(why))
            }
            Poll::Ready(Ok(n)) => {
                self.count().bytes_in.fetch_add(n as u64, Relaxed);
                self.input.extend_from_slice(&buffer[..n]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(Closed::Broken(e.to_string()))),
        }
    }

    fn count(&self) -> &super::Counters {
        &self.link.0.options.counters
    }
}
