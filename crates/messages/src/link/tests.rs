//! Two links, or a link and raw bytes, over streams in memory and a clock that is moved by hand.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::io::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;
use switchroom_engine::smpp_session::{Mode, Settings, Side, State};
use switchroom_kernel::ports::net::Clock;
use switchroom_rehearsal::VirtualClock;
use switchroom_wire::smpp::{Bind, Body, CommandId, Header, MessageId, Pdu, ShortMessage, Status};

use super::*;

/// One direction of a stream.
#[derive(Default)]
struct Way {
    data: VecDeque<u8>,
    closed: bool,
    /// Octets that one read gives; 0 for all.
    crumbs: usize,
    /// Octets it holds; 0 for any number.
    room: usize,
    writes: usize,
}

/// One end of a stream. Nobody is woken: the tests poll until nothing moves.
struct End {
    read: Arc<Mutex<Way>>,
    write: Arc<Mutex<Way>>,
}

fn pipe() -> (End, End) {
    let (a, b) = (Arc::<Mutex<Way>>::default(), Arc::<Mutex<Way>>::default());
    (End { read: a.clone(), write: b.clone() }, End { read: b, write: a })
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut way = self.read.lock();
        let most = if way.crumbs == 0 { buf.len() } else { way.crumbs };
        let n = way.data.len().min(most).min(buf.len());
        if n == 0 {
            return if way.closed { Poll::Ready(Ok(0)) } else { Poll::Pending };
        }
        buf.iter_mut().zip(way.data.drain(..n)).for_each(|(to, from)| *to = from);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut way = self.write.lock();
        if way.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = if way.room == 0 { buf.len() } else { way.room.saturating_sub(way.data.len()) };
        let n = buf.len().min(room);
        if n == 0 {
            return Poll::Pending;
        }
        way.writes += 1;
        way.data.extend(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write.lock().closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.write.lock().closed = true;
        self.read.lock().closed = true;
    }
}

/// Writes down what happens, and answers when told to.
#[derive(Default)]
struct Diary {
    lines: Mutex<Vec<String>>,
    /// Binds are accepted and messages answered at once.
    willing: bool,
    held: Mutex<Vec<Header>>,
}

impl Diary {
    fn note(&self, line: String) {
        self.lines.lock().push(line);
    }
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock())
    }
}

impl Handler for Diary {
    fn bind(&self, link: &LinkHandle, header: Header, bind: &Bind<'_>) {
        self.note(format!("bind {}", String::from_utf8_lossy(bind.system_id)));
        match self.willing {
            true => drop(link.accept(header, b"house", Some(0x34))),
            false => self.held.lock().push(header),
        }
    }
    fn request(&self, link: &LinkHandle, pdu: &Pdu<'_>) {
        self.note(format!("{} {}", pdu.header.command, pdu.header.sequence));
        match self.willing {
            true => {
                let body = Body::MessageId(MessageId { id: b"7", present: true, ..MessageId::default() });
                link.respond(pdu.header, Status::OK, &body);
            }
            false => self.held.lock().push(pdu.header),
        }
    }
    fn response(&self, _: &LinkHandle, token: u64, request: CommandId, pdu: &Pdu<'_>) {
        self.note(format!("{request} {token}: {}", pdu.header.status.0));
    }
    fn unanswered(&self, _: &LinkHandle, token: u64) {
        self.note(format!("unanswered {token}"));
    }
    fn bound(&self, _: &LinkHandle, mode: Mode) {
        self.note(format!("bound {mode:?}"));
    }
    fn closed(&self, _: &LinkHandle, why: &Closed) {
        self.note(format!("closed: {why}"));
    }
}

struct Running {
    handle: LinkHandle,
    diary: Arc<Diary>,
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Running {
    fn new(settings: Settings, clock: &Arc<VirtualClock>, willing: bool, end: End) -> Running {
        let link = Link::new(Options::new(settings, clock.clone()));
        let diary = Arc::new(Diary { willing, ..Diary::default() });
        let handle = link.handle();
        let future = link.run(Box::new(end), diary.clone());
        Running { handle, diary, future: Some(Box::pin(future)) }
    }

    fn poll(&mut self) {
        for _ in 0..50 {
            let Some(future) = &mut self.future else { return };
            if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                self.future = None;
            }
        }
    }
}

fn clock() -> Arc<VirtualClock> {
    Arc::new(VirtualClock::new(1_800_000_000))
}

fn pass(clock: &Arc<VirtualClock>, time: Duration) {
    clock.set(clock.now() + time);
}

fn text() -> Body<'static> {
    Body::Message(ShortMessage { text: b"hello", ..ShortMessage::default() })
}

const ME: Bind<'static> = Bind {
    system_id: b"me",
    password: b"secret",
    system_type: b"",
    interface_version: 0x34,
    range: switchroom_wire::smpp::Address { ton: 0, npi: 0, addr: b"" },
};

/// A bound application and its centre.
fn pair(willing: bool) -> (Arc<VirtualClock>, Running, Running) {
    let clock = clock();
    let (a, b) = pipe();
    let mut app = Running::new(Settings::new(Side::Application), &clock, true, a);
    let mut centre = Running::new(Settings::new(Side::Centre), &clock, willing, b);
    app.handle.bind(Mode::Transceiver, &ME, 1).unwrap();
    both(&mut app, &mut centre);
    if !willing {
        let header = centre.diary.held.lock().remove(0);
        centre.handle.accept(header, b"house", Some(0x34));
        both(&mut app, &mut centre);
    }
    assert_eq!(app.diary.take(), ["bind_transceiver 1: 0", "bound Transceiver"]);
    assert_eq!(centre.diary.take(), ["bind me"]);
    (clock, app, centre)
}

fn both(a: &mut Running, b: &mut Running) {
    for _ in 0..4 {
        a.poll();
        b.poll();
    }
}

#[test]
fn messages_go_both_ways_and_unbinding_ends_both_sides() {
    let (_clock, mut app, mut centre) = pair(true);
    app.handle.send(CommandId::SUBMIT_SM, &text(), 10).unwrap();
    centre.handle.send(CommandId::DELIVER_SM, &text(), 20).unwrap();
    both(&mut app, &mut centre);
    assert_eq!(app.diary.take(), ["deliver_sm 1", "submit_sm 10: 0"]);
    assert_eq!(centre.diary.take(), ["submit_sm 2", "deliver_sm 20: 0"]);
    app.handle.unbind();
    both(&mut app, &mut centre);
    assert_eq!(app.diary.take(), ["closed: unbound"]);
    assert_eq!(centre.diary.take(), ["closed: unbound"]);
    assert_eq!(centre.handle.counters().messages_in.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn windows_hold_in_both_directions() {
    let clock = clock();
    let (a, b) = pipe();
    let mut app =
        Running::new(Settings { window_out: 100, ..Settings::new(Side::Application) }, &clock, true, a);
    let narrow = Settings { window_in: 3, ..Settings::new(Side::Centre) };
    let mut centre = Running::new(narrow, &clock, false, b);
    app.handle.bind(Mode::Transmitter, &ME, 1).unwrap();
    both(&mut app, &mut centre);
    let header = centre.diary.held.lock().remove(0);
    centre.handle.accept(header, b"house", None);
    both(&mut app, &mut centre);
    for token in 0..100 {
        app.handle.send(CommandId::SUBMIT_SM, &text(), token).unwrap();
    }
    assert_eq!(app.handle.room(), 0);
    assert!(app.handle.send(CommandId::SUBMIT_SM, &text(), 100).is_err());
    both(&mut app, &mut centre);
    assert_eq!(centre.diary.held.lock().len(), 3, "the fourth is not looked at");
    for expected in (6..=102).step_by(3) {
        let held = std::mem::take(&mut *centre.diary.held.lock());
        for header in held {
            assert!(centre.handle.respond(header, Status::OK, &Body::Empty));
        }
        both(&mut app, &mut centre);
        assert_eq!(centre.diary.held.lock().len(), 3 - (expected as usize).saturating_sub(100));
    }
}

#[test]
fn a_message_right_behind_the_bind_waits_for_its_decision() {
    let clock = clock();
    let (a, b) = pipe();
    let mut centre = Running::new(Settings::new(Side::Centre), &clock, false, b);
    let mut bytes = Vec::new();
    let bind = Header::request(CommandId::BIND_TRANSMITTER, 1);
    Pdu { header: bind, body: Body::Bind(ME) }.write(&mut bytes);
    Pdu { header: Header::request(CommandId::SUBMIT_SM, 2), body: text() }.write(&mut bytes);
    a.write.lock().data.extend(bytes);
    centre.poll();
    assert_eq!(centre.diary.take(), ["bind me"]);
    centre.handle.accept(bind, b"house", None);
    centre.poll();
    assert_eq!(centre.diary.take(), ["submit_sm 2"]);
}

#[test]
fn pdus_in_single_octets_are_put_together() {
    let clock = clock();
    let (a, b) = pipe();
    b.read.lock().crumbs = 1;
    let mut centre = Running::new(Settings::new(Side::Centre), &clock, true, b);
    let mut bytes = Vec::new();
    Pdu { header: Header::request(CommandId::BIND_TRANSMITTER, 0), body: Body::Bind(ME) }.write(&mut bytes);
    for n in 1..20 {
        Pdu { header: Header::request(CommandId::SUBMIT_SM, n), body: text() }.write(&mut bytes);
    }
    a.write.lock().data.extend(bytes);
    for _ in 0..200 {
        centre.poll();
    }
    assert_eq!(centre.diary.take().len(), 20);
}

#[test]
fn many_pdus_of_one_read_are_answered_with_one_write() {
    let clock = clock();
    let (a, b) = pipe();
    let mut centre = Running::new(Settings::new(Side::Centre), &clock, true, b);
    let mut bytes = Vec::new();
    Pdu { header: Header::request(CommandId::BIND_TRANSMITTER, 1), body: Body::Bind(ME) }.write(&mut bytes);
    for n in 2..102 {
        Pdu { header: Header::request(CommandId::SUBMIT_SM, n), body: text() }.write(&mut bytes);
    }
    a.write.lock().data.extend(bytes);
    centre.poll();
    assert_eq!(centre.diary.take().len(), 101);
    assert_eq!(a.read.lock().writes, 1);
}

#[test]
fn a_million_byte_length_ends_the_connection_with_a_nack() {
    for (bytes, nack) in
        [(1_000_000u32.to_be_bytes().to_vec(), 0), (vec![0xff; 64], u32::MAX), (vec![0; 16], 0)]
    {
        let clock = clock();
        let (a, b) = pipe();
        let mut centre = Running::new(Settings::new(Side::Centre), &clock, true, b);
        a.write.lock().data.extend(bytes);
        centre.poll();
        assert_eq!(centre.diary.take(), ["closed: the peer sent a broken PDU length"]);
        let answer: Vec<u8> = a.read.lock().data.iter().copied().collect();
        let header = Header::read(&answer).unwrap();
        assert_eq!((header.command, header.status), (CommandId::GENERIC_NACK, Status::INVCMDLEN));
        assert_eq!(header.sequence, nack);
    }
}

#[test]
fn faulty_bodies_get_the_status_of_their_fault_and_the_link_lives() {
    let (_clock, mut app, mut centre) = pair(true);
    // A submit_sm of nothing but a header, and a command nobody knows.
    let mut bytes = Vec::new();
    for (command, sequence) in [(CommandId::SUBMIT_SM, 77), (CommandId(0x7777), 78)] {
        let header = Header::request(command, sequence);
        Pdu { header, body: Body::Empty }.write(&mut bytes);
    }
    app.handle.0.inner.lock().out.extend(bytes);
    app.poll();
    centre.poll();
    assert!(centre.diary.take().is_empty());
    both(&mut app, &mut centre);
    let unsolicited = &app.handle.counters().unsolicited;
    assert_eq!(unsolicited.load(std::sync::atomic::Ordering::Relaxed), 2);
    assert!(matches!(app.handle.state(), State::Bound(_)));
    assert!(matches!(centre.handle.state(), State::Bound(_)));
}

#[test]
fn a_peer_that_never_binds_is_cut_after_ten_seconds() {
    let clock = clock();
    let (_a, b) = pipe();
    let mut centre = Running::new(Settings::new(Side::Centre), &clock, true, b);
    centre.poll();
    pass(&clock, Duration::from_millis(9_900));
    centre.poll();
    assert!(centre.diary.take().is_empty());
    pass(&clock, Duration::from_millis(200));
    centre.poll();
    assert_eq!(centre.diary.take(), ["closed: not bound in time"]);
}

#[test]
fn a_silent_peer_is_asked_and_then_cut_and_what_it_owes_comes_back() {
    let clock = clock();
    let (a, b) = pipe();
    let mut app = Running::new(Settings::new(Side::Application), &clock, true, a);
    let sequence = app.handle.bind(Mode::Transmitter, &ME, 1).unwrap();
    let mut bytes = Vec::new();
    let header = Header::request(CommandId::BIND_TRANSMITTER, sequence).answer(Status::OK);
    Pdu { header, body: Body::BindResponse { system_id: b"x", tlvs: Default::default() } }.write(&mut bytes);
    b.write.lock().data.extend(bytes);
    app.poll();
    for token in 0..5 {
        app.handle.send(CommandId::SUBMIT_SM, &text(), token).unwrap();
    }
    pass(&clock, Duration::from_secs(31));
    app.poll();
    let sent: Vec<u8> = b.read.lock().data.iter().copied().collect();
    assert_eq!(Header::read(&sent[sent.len() - 16..]).unwrap().command, CommandId::ENQUIRE_LINK);
    assert_eq!(app.diary.take(), ["bind_transmitter 1: 0", "bound Transmitter"]);
    pass(&clock, Duration::from_secs(61));
    app.poll();
    let lines = app.diary.take();
    assert_eq!(lines.iter().filter(|l| l.starts_with("unanswered")).count(), 5);
    assert_eq!(lines.last().unwrap(), "closed: the peer did not answer in time");
}

#[test]
fn a_cut_connection_gives_back_fifty_messages_of_each_direction() {
    let clock = clock();
    let (a, b) = pipe();
    let wide = |side| Settings { window_out: 50, ..Settings::new(side) };
    let mut app = Running::new(wide(Side::Application), &clock, true, a);
    let mut centre = Running::new(wide(Side::Centre), &clock, true, b);
    app.handle.bind(Mode::Transceiver, &ME, 1).unwrap();
    both(&mut app, &mut centre);
    app.diary.take();
    for token in 0..50 {
        app.handle.send(CommandId::SUBMIT_SM, &text(), token).unwrap();
        centre.handle.send(CommandId::DELIVER_SM, &text(), 100 + token).unwrap();
    }
    // Both ends vanish before anything is written.
    for running in [&mut app, &mut centre] {
        let mut inner = running.handle.0.inner.lock();
        inner.out.clear();
        inner.close = true;
    }
    both(&mut app, &mut centre);
    for (diary, first) in [(&app.diary, 0), (&centre.diary, 100)] {
        let lines = diary.take();
        let lost: Vec<_> = lines.iter().filter(|l| l.starts_with("unanswered")).cloned().collect();
        let expected: Vec<_> = (first..first + 50).map(|t| format!("unanswered {t}")).collect();
        assert_eq!(lost, expected);
    }
}

#[test]
fn a_peer_that_does_not_read_cannot_make_us_keep_answers() {
    let clock = clock();
    let (a, b) = pipe();
    a.read.lock().room = 1000;
    let mut centre = Running::new(Settings::new(Side::Centre), &clock, true, b);
    let mut bytes = Vec::new();
    Pdu { header: Header::request(CommandId::BIND_TRANSMITTER, 1), body: Body::Bind(ME) }.write(&mut bytes);
    for n in 0..100_000 {
        Pdu { header: Header::request(CommandId::ENQUIRE_LINK, n), body: Body::Empty }.write(&mut bytes);
    }
    a.write.lock().data.extend(bytes);
    for _ in 0..100 {
        centre.poll();
    }
    assert!(a.write.lock().data.len() > 500_000, "reading stops");
    assert!(centre.handle.0.inner.lock().out.len() < 300_000);
}

#[test]
fn garbage_never_panics() {
    let mut seed = 1u64;
    for _ in 0..500 {
        let clock = clock();
        let (a, b) = pipe();
        let mut centre = Running::new(Settings::new(Side::Centre), &clock, true, b);
        let mut bytes = Vec::new();
        Pdu { header: Header::request(CommandId::BIND_TRANSCEIVER, 1), body: Body::Bind(ME) }
            .write(&mut bytes);
        for _ in 0..20 {
            let start = bytes.len();
            Pdu { header: Header::request(CommandId::SUBMIT_SM, 3), body: text() }.write(&mut bytes);
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = start + 4 + (seed >> 33) as usize % (bytes.len() - start - 4);
                bytes[at] = (seed >> 56) as u8;
            }
        }
        a.write.lock().data.extend(bytes);
        centre.poll();
    }
}
