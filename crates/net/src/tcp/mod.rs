//! TCP: connections of one worker, and the directory in which all workers find them (RFC 3261 §18, RFC 5923).
//!
//! A connection belongs to the worker that accepted or opened it; others send through it by letter. Everything here runs
//! on the worker's own thread except [`Directory`].

mod conn;
mod connect;
mod listen;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Waker;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use switchroom_kernel::ports::net::{ConnId, Outgoing, Packet, Proto, SendError, SocketId, Sockets};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::config::TcpConfig;
use crate::counters::{NetCounters, WorkerCounters, add};
use crate::mailbox::{Letter, Mailboxes};
use crate::workers::Desk;
use conn::{Conn, Pending};

/// Events that may wait for the worker before connections stop reading.
const EVENTS: usize = 4096;

/// Where all workers find open connections by their far end, and count them.
#[derive(Default)]
pub(crate) struct Directory {
    by_peer: Mutex<HashMap<(Proto, SocketAddr), ConnId, RandomState>>,
    open: AtomicUsize,
}

impl Directory {
    fn find(&self, proto: Proto, peer: SocketAddr) -> Option<ConnId> {
        self.by_peer.lock().get(&(proto, peer)).copied()
    }

    /// Counts one more connection, unless there are `max` already.
    fn admit(&self, max: usize) -> bool {
        self.open.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
    }

    fn enter(&self, proto: Proto, peer: SocketAddr, id: ConnId) {
        self.by_peer.lock().insert((proto, peer), id);
    }

    fn leave(&self, proto: Proto, peer: SocketAddr, id: ConnId) {
        self.open.fetch_sub(1, Relaxed);
        let mut by_peer = self.by_peer.lock();
        // A younger connection to the same peer may have taken the place.
        if by_peer.get(&(proto, peer)) == Some(&id) {
            by_peer.remove(&(proto, peer));
        }
    }
}

/// What connections have to tell their worker.
pub(crate) enum TcpEvent {
    Message(Packet),
    Open { conn: ConnId, peer: SocketAddr, socket: SocketId, open: bool },
    Failed { from: usize, token: u64, error: SendError },
}

/// All connections of one worker.
pub(crate) struct TcpTable {
    worker: usize,
    config: TcpConfig,
    sockets: Sockets,
    counters: NetCounters,
    mailboxes: Arc<Mailboxes>,
    directory: Arc<Directory>,
    conns: RefCell<HashMap<ConnId, Rc<Conn>, RandomState>>,
    serial: Cell<u64>,
    events: RefCell<VecDeque<TcpEvent>>,
    /// Told when the worker has taken events.
    room: Notify,
    waker: RefCell<Option<Waker>>,
    listeners: RefCell<Vec<AbortHandle>>,
}

impl TcpTable {
    pub fn new(desk: &Desk) -> Rc<TcpTable> {
        Rc::new(TcpTable {
            worker: desk.worker,
            config: desk.config.tcp.clone(),
            sockets: desk.sockets.clone(),
            counters: desk.counters.clone(),
            mailboxes: desk.mailboxes.clone(),
            directory: desk.directory.clone(),
            conns: RefCell::default(),
            serial: Cell::new(0),
            events: RefCell::default(),
            room: Notify::new(),
            waker: RefCell::default(),
            listeners: RefCell::default(),
        })
    }

    /// Sends for worker `from`: through the connection named, else through any to that peer, else through a new one.
    pub fn send(self: &Rc<Self>, from: usize, mut out: Outgoing) {
        let proto = self.proto(out.socket);
        if let Some(id) = out.conn {
            match self.reach(from, id, out) {
                Some(back) => out = back,
                None => return,
            }
        }
        if let Some(id) = self.directory.find(proto, out.peer) {
            match self.reach(from, id, out) {
                Some(back) => out = back,
                None => return,
            }
        }
        let pending = Pending { data: out.data, token: out.token, from };
        if out.no_new_conn {
            return self.failed(&pending, SendError::NoConnection);
        }
        let Some(conn) = self.register(out.socket, out.peer) else {
            add(&self.counters().tcp_refused, 1);
            return self.failed(&pending, SendError::NoConnection);
        };
        self.enqueue(&conn, pending);
        self.connect(conn);
    }

    /// Queues on connection `id`, wherever it is. Gives the message back when it is ours and gone.
    fn reach(&self, from: usize, id: ConnId, mut out: Outgoing) -> Option<Outgoing> {
        if id.worker() == self.worker {
            let conn = self.conns.borrow().get(&id).cloned();
            let Some(conn) = conn.filter(|c| !c.closing.get()) else { return Some(out) };
            self.enqueue(&conn, Pending { data: out.data, token: out.token, from });
            return None;
        }
        out.conn = Some(id);
        if let Err(Letter::Send { from, out }) = self.mailboxes.put(id.worker(), Letter::Send { from, out }) {
            self.failed(&Pending { data: out.data, token: out.token, from }, SendError::QueueFull);
        }
        None
    }

    fn enqueue(&self, conn: &Conn, pending: Pending) {
        if let Err(refused) = conn.push(pending, self.config.queue_bytes) {
            self.failed(&refused, SendError::QueueFull);
        }
    }

    fn failed(&self, pending: &Pending, error: SendError) {
        add(&self.counters().tcp_dropped, 1);
        if pending.token != 0 {
            self.tell(TcpEvent::Failed { from: pending.from, token: pending.token, error });
        }
    }

    /// Asks a connection to close after what it can still write at once.
    pub fn close(&self, id: ConnId) {
        let conn = self.conns.borrow().get(&id).cloned();
        if let Some(conn) = conn {
            conn.closing.set(true);
            conn.wake.notify_one();
        }
    }

    /// A connection is not closed for silence before `time` is over.
    pub fn keep(&self, id: ConnId, time: Duration) {
        if let Some(conn) = self.conns.borrow().get(&id) {
            conn.keep_until.set(Some(Instant::now() + time));
        }
    }

    /// A new connection in table and directory, unless there are too many.
    fn register(&self, socket: SocketId, peer: SocketAddr) -> Option<Rc<Conn>> {
        if !self.directory.admit(self.config.max_connections) {
            return None;
        }
        // From 1, so that an id is never 0.
        let serial = self.serial.get() + 1;
        self.serial.set(serial);
        let id = ConnId::new(self.worker, serial);
        let conn = Rc::new(Conn::new(id, socket, peer));
        self.conns.borrow_mut().insert(id, conn.clone());
        self.directory.enter(self.proto(socket), peer, id);
        add(&self.counters().tcp_open, 1);
        Some(conn)
    }

    /// The end of a connection: what waits for it fails with `error`.
    fn unregister(&self, conn: &Conn, error: SendError) {
        self.conns.borrow_mut().remove(&conn.id);
        self.directory.leave(self.proto(conn.socket), conn.peer, conn.id);
        self.counters().tcp_open.fetch_sub(1, Relaxed);
        for pending in conn.take_all() {
            self.failed(&pending, error);
        }
    }

    fn tell(&self, event: TcpEvent) {
        self.events.borrow_mut().push_back(event);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until the worker has caught up.
    async fn wait_for_room(&self) {
        while self.events.borrow().len() >= EVENTS {
            self.room.notified().await;
        }
    }

    /// The waker to use for the next event.
    pub fn wake_with(&self, waker: &Waker) {
        *self.waker.borrow_mut() = Some(waker.clone());
    }

    pub fn next_event(&self) -> Option<TcpEvent> {
        let mut events = self.events.borrow_mut();
        if events.len() == EVENTS {
            self.room.notify_waiters();
        }
        events.pop_front()
    }

    /// How much of the room for events is used.
    pub fn events_percent(&self) -> u32 {
        (self.events.borrow().len() * 100 / EVENTS) as u32
    }

    pub fn stop_listening(&self) {
        for listener in self.listeners.borrow_mut().drain(..) {
            listener.abort();
        }
    }

    /// Whether nothing waits to be written or told.
    pub fn is_idle(&self) -> bool {
        self.events.borrow().is_empty() && self.conns.borrow().values().all(|c| c.is_idle())
    }

    fn counters(&self) -> &WorkerCounters {
        self.counters.worker(self.worker)
    }

    fn proto(&self, socket: SocketId) -> Proto {
        self.sockets.get(usize::from(socket.0)).map_or(Proto::Tcp, |s| s.proto)
    }
}
