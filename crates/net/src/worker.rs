//! The loop of one worker: receive a batch, handle it, send what it caused, sleep until something happens.
//!
//! It is one future, polled whenever a socket, the mailbox, a connection, a timer or something the handler waits for
//! wakes it. One poll does a bounded amount of everything, so no source can starve another; what is left over makes it
//! wake itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use switchroom_kernel::ports::net::{
    ConnId, Handler, Mail, Net, Outgoing, Packet, Proto, SendError, SocketId, Sockets,
};
use tokio::time::Sleep;

use crate::bind::Listener;
use crate::counters::{NetCounters, WorkerCounters, add};
use crate::mailbox::{Letter, Mailboxes};
use crate::overload::{Overload, Pace};
use crate::tcp::{TcpEvent, TcpTable};
use crate::udp::{Room, SendBatch, UdpPort};
use crate::workers::{Desk, Seat};

/// Letters and stream events handled in one round.
const ROUND: usize = 256;

/// How often a worker that drains looks whether all others are idle too.
const LOOK_AROUND: Duration = Duration::from_millis(10);

/// Runs one worker until it has drained.
pub(crate) async fn run(
    desk: Desk,
    make: &(dyn Fn(Seat) -> Rc<dyn Handler> + Send + Sync),
) -> io::Result<()> {
    let workers = desk.config.workers;
    let (shard_of, drain, drained) = (desk.config.shard_of, desk.config.drain, desk.drained.clone());
    let net = WorkerNet::open(desk)?;
    let handler = make(Seat {
        worker: net.worker,
        workers,
        net: net.clone(),
        sockets: net.sockets.clone(),
        post: net.mailboxes.clone(),
    });
    let now = net.now.get();
    let worker = Worker {
        handler,
        shard_of,
        drain,
        room: Room::new(),
        batch: SendBatch::new(),
        letters: Vec::new(),
        outboxes: (0..workers).map(|_| Vec::new()).collect(),
        sleep: Box::pin(tokio::time::sleep_until(now.into())),
        sleep_until: now,
        drain_until: None,
        is_idle: false,
        pace: Pace::default(),
        look_at: now,
        letters_left: 0,
        idle_workers: drained,
        net,
    };
    // Its own bounds make it fair; the runtime's would only make it wake itself more often.
    tokio::task::unconstrained(worker).await;
    Ok(())
}

/// The way out of one worker.
struct WorkerNet {
    worker: usize,
    sockets: Sockets,
    /// By [`SocketId`]; `None` where the socket is a stream listener.
    udp: Vec<Option<UdpPort>>,
    tcp: Rc<TcpTable>,
    counters: NetCounters,
    mailboxes: Arc<Mailboxes>,
    failures: RefCell<VecDeque<(u64, SendError)>>,
    now: Cell<Instant>,
    overload: RefCell<Overload>,
    overload_wait: Duration,
}

impl WorkerNet {
    fn open(desk: Desk) -> io::Result<Rc<WorkerNet>> {
        let tcp = TcpTable::new(&desk);
        let mut udp = Vec::with_capacity(desk.listeners.len());
        for (index, listener) in desk.listeners.into_iter().enumerate() {
            let id = SocketId(index as u16);
            udp.push(match listener {
                Listener::Udp(socket) => Some(UdpPort::new(id, socket, desk.config.udp_queue)?),
                Listener::Tcp(listener) => {
                    tcp.listen(id, listener)?;
                    None
                }
            });
        }
        Ok(Rc::new(WorkerNet {
            worker: desk.worker,
            sockets: desk.sockets,
            udp,
            tcp,
            counters: desk.counters,
            mailboxes: desk.mailboxes,
            failures: RefCell::default(),
            now: Cell::new(Instant::now()),
            overload: RefCell::default(),
            overload_wait: desk.config.overload_wait,
        }))
    }

    fn counters(&self) -> &WorkerCounters {
        self.counters.worker(self.worker)
    }

    fn failed(&self, token: u64, error: SendError) {
        if token != 0 {
            self.failures.borrow_mut().push_back((token, error));
        }
    }

    /// Sends for worker `from`, which hears of a failure.
    fn send_for(&self, from: usize, out: Outgoing) {
        match self.sockets.get(usize::from(out.socket.0)).map(|s| s.proto) {
            Some(Proto::Udp) => {
                let Some(Some(port)) = self.udp.get(usize::from(out.socket.0)) else { return };
                if let Err((token, error)) = port.queue(out) {
                    add(&self.counters().udp_send_errors, 1);
                    self.failed(token, error);
                }
            }
            Some(_) => self.tcp.send(from, out),
            None => self.failed(out.token, SendError::Unsendable),
        }
    }
}

impl Net for WorkerNet {
    fn send(&self, out: Outgoing) {
        self.send_for(self.worker, out);
    }

    fn close(&self, conn: ConnId) {
        if conn.worker() == self.worker {
            self.tcp.close(conn);
        } else if self.mailboxes.put(conn.worker(), Letter::Mail(Mail::Close(conn))).is_err() {
            add(&self.counters().mailbox_dropped, 1);
        }
    }

    fn keep(&self, conn: ConnId, time: Duration) {
        if conn.worker() == self.worker {
            self.tcp.keep(conn, time);
        } else if self.mailboxes.put(conn.worker(), Letter::Mail(Mail::Keep(conn, time))).is_err() {
            add(&self.counters().mailbox_dropped, 1);
        }
    }

    fn now(&self) -> Instant {
        self.now.get()
    }

    fn overloaded(&self) -> bool {
        self.overload.borrow().refusing()
    }

    fn source_for(&self, peer: SocketAddr) -> Option<IpAddr> {
        let any: IpAddr =
            if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
        // Nothing is sent: the system only looks the route up.
        socket.connect(peer).ok()?;
        socket.local_addr().ok().map(|a| a.ip())
    }
}

/// The loop as a future.
struct Worker {
    net: Rc<WorkerNet>,
    handler: Rc<dyn Handler>,
    shard_of: fn(&[u8], usize) -> Option<usize>,
    drain: Duration,
    room: Room,
    batch: SendBatch,
    letters: Vec<Letter>,
    /// What this batch found for other workers, by worker.
    outboxes: Vec<Vec<Letter>>,
    sleep: Pin<Box<Sleep>>,
    sleep_until: Instant,
    drain_until: Option<Instant>,
    /// Whether it is counted in `idle_workers`.
    is_idle: bool,
    /// Number of workers that have nothing left to do while draining.
    idle_workers: Arc<AtomicUsize>,
    pace: Pace,
    /// When the receive queues are measured again if they are not read to their end before.
    look_at: Instant,
    /// What was left in the mailbox in the last round.
    letters_left: usize,
}

/// Time between two looks at the receive queues.
const LOOK_EVERY: Duration = Duration::from_micros(500);

impl Future for Worker {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        me.net.now.set(Instant::now());
        let mut more = me.receive_datagrams(cx);
        more |= me.receive_streams(cx);
        more |= me.open_mail(cx);
        me.post_outboxes();
        me.report_failures();
        let now = me.net.now.get();
        if me.handler.deadline().is_some_and(|at| at <= now) {
            me.handler.tick(now);
        }
        me.handler.poll_waits(cx);
        me.flush(cx);
        // What the last steps could not send is told in the next round.
        more |= !me.net.failures.borrow().is_empty();
        me.tell_overload();
        more |= me.arm_timer(cx);
        if me.drained(more) {
            return Poll::Ready(());
        }
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Worker {
    fn receive_datagrams(&mut self, cx: &mut Context<'_>) -> bool {
        let Worker { net, handler, shard_of, room, outboxes, .. } = self;
        let mut more = false;
        for port in net.udp.iter().flatten() {
            more |= port.receive(cx, room, net.counters(), |data, peer| {
                let packet = Packet { data, socket: port.id, peer, conn: None };
                dispatch(&**handler, *shard_of, net.worker, outboxes, packet);
            });
        }
        self.measure(more);
        more
    }

    /// Looks now and then at how much waits, and judges. Sockets that were read to their end are empty.
    fn measure(&mut self, more: bool) {
        let net = &self.net;
        let now = net.now.get();
        let mut level = percent(self.letters_left, net.mailboxes.limit());
        level = level.max(net.tcp.events_percent());
        if !more {
            if self.pace.is_busy() {
                self.pace.idle();
                self.look_at = now;
                self.look_into_sockets();
            }
            return self.net.overload.borrow_mut().measured(level, now);
        }
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        let counters = net.counters();
        self.pace.busy(now, counters.udp_received.load(Relaxed), counters.udp_bytes_received.load(Relaxed));
        let (fullest, queued) = self.look_into_sockets();
        let mut overload = self.net.overload.borrow_mut();
        let waits = overload.level_of(self.pace.wait(queued), self.net.overload_wait, &self.pace);
        overload.measured(level.max(fullest).max(waits), now);
    }

    /// How full the fullest receive queue is in percent, and the bytes in all. Notes what the kernel had to drop.
    fn look_into_sockets(&self) -> (u32, u64) {
        let (mut fullest, mut queued, mut dropped) = (0, 0, 0);
        for queue in self.net.udp.iter().flatten().filter_map(UdpPort::receive_queue) {
            fullest = fullest.max(percent(queue.bytes as usize, queue.limit as usize));
            queued += u64::from(queue.bytes);
            dropped += u64::from(queue.dropped);
        }
        self.net.counters().udp_dropped.store(dropped, Relaxed);
        (fullest, queued)
    }

    fn tell_overload(&mut self) {
        let turn = self.net.overload.borrow_mut().turn(self.net.now.get());
        if let Some(begins) = turn {
            self.net.counters().overloaded.store(begins.into(), Relaxed);
            self.handler.overload(begins);
        }
    }

    fn receive_streams(&mut self, cx: &mut Context<'_>) -> bool {
        let Worker { net, handler, shard_of, outboxes, .. } = self;
        net.tcp.wake_with(cx.waker());
        for _ in 0..ROUND {
            match net.tcp.next_event() {
                None => return false,
                Some(TcpEvent::Message(packet)) => {
                    dispatch(&**handler, *shard_of, net.worker, outboxes, packet);
                }
                Some(TcpEvent::Open { conn, peer, socket, open }) => {
                    handler.connection(conn, peer, socket, open);
                }
                Some(TcpEvent::Failed { from, token, error }) if from == net.worker => {
                    net.failed(token, error)
                }
                Some(TcpEvent::Failed { from, token, error }) => {
                    outboxes[from].push(Letter::Failed { token, error });
                }
            }
        }
        true
    }

    fn open_mail(&mut self, cx: &mut Context<'_>) -> bool {
        let mut letters = std::mem::take(&mut self.letters);
        self.letters_left = self.net.mailboxes.take(self.net.worker, ROUND, &mut letters, cx.waker());
        for letter in letters.drain(..) {
            match letter {
                Letter::Mail(Mail::Packet(packet)) => self.handler.packet(packet),
                Letter::Mail(Mail::Send(out)) => self.net.send(out),
                Letter::Mail(Mail::Close(conn)) => self.net.close(conn),
                Letter::Mail(Mail::Keep(conn, time)) => self.net.keep(conn, time),
                Letter::Mail(Mail::Drain) => {
                    self.net.tcp.stop_listening();
                    self.drain_until.get_or_insert(self.net.now.get() + self.drain);
                    self.handler.mail(Mail::Drain);
                }
                Letter::Mail(mail @ Mail::Run(_)) => self.handler.mail(mail),
                Letter::Send { from, out } => self.net.send_for(from, out),
                Letter::Failed { token, error } => self.net.failed(token, error),
            }
        }
        self.letters = letters;
        self.letters_left > 0
    }

    /// One lock and one wake per other worker and batch.
    fn post_outboxes(&mut self) {
        let counters = self.net.counters();
        for (worker, outbox) in self.outboxes.iter_mut().enumerate().filter(|(_, o)| !o.is_empty()) {
            add(&counters.handed_over, outbox.len() as u64);
            let dropped = self.net.mailboxes.put_all(worker, outbox);
            add(&counters.mailbox_dropped, dropped as u64);
        }
    }

    fn report_failures(&mut self) {
        // Only those that are there now: a handler that sends to a dead peer again must not hold the loop.
        let failures = std::mem::take(&mut *self.net.failures.borrow_mut());
        for (token, error) in failures {
            self.handler.send_failed(token, error);
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
        let Worker { net, batch, .. } = self;
        for port in net.udp.iter().flatten() {
            port.flush(cx, batch, net.counters(), |token, error| net.failed(token, error));
        }
    }

    /// Sets the timer to the next deadline; true when it is due already.
    fn arm_timer(&mut self, cx: &mut Context<'_>) -> bool {
        // While draining it looks around now and then, for the others do not tell when they are idle.
        let look_around = self.drain_until.map(|at| at.min(self.net.now.get() + LOOK_AROUND));
        let end_of_overload = self.net.overload.borrow().deadline();
        let deadlines = [self.handler.deadline(), look_around, end_of_overload];
        let Some(deadline) = deadlines.into_iter().flatten().min() else { return false };
        if deadline <= self.net.now.get() {
            return true;
        }
        if deadline != self.sleep_until {
            self.sleep_until = deadline;
            self.sleep.as_mut().reset(deadline.into());
        }
        self.sleep.as_mut().poll(cx).is_ready()
    }

    /// Whether it may end: no worker has anything left to do, or the time for that is over. One that ended alone would
    /// lose what arrives at its sockets for the others.
    fn drained(&mut self, more: bool) -> bool {
        let Some(until) = self.drain_until else { return false };
        let idle = !more
            && self.handler.deadline().is_none()
            && self.net.tcp.is_idle()
            && self.net.udp.iter().flatten().all(UdpPort::is_idle);
        if idle != self.is_idle {
            self.is_idle = idle;
            match idle {
                true => self.idle_workers.fetch_add(1, SeqCst),
                false => self.idle_workers.fetch_sub(1, SeqCst),
            };
        }
        self.idle_workers.load(SeqCst) >= self.outboxes.len() || self.net.now.get() >= until
    }
}

/// `part` of `whole` in percent.
fn percent(part: usize, whole: usize) -> u32 {
    (part as u64 * 100 / whole.max(1) as u64) as u32
}

fn dispatch(
    handler: &dyn Handler,
    shard_of: fn(&[u8], usize) -> Option<usize>,
    worker: usize,
    outboxes: &mut [Vec<Letter>],
    packet: Packet,
) {
    match shard_of(&packet.data, outboxes.len()).filter(|owner| *owner != worker) {
        Some(owner) if owner < outboxes.len() => outboxes[owner].push(Letter::Mail(Mail::Packet(packet))),
        _ => handler.packet(packet),
    }
}
