//! One connection: reads and frames, writes its queue, closes when idle, slow or broken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use switchroom_kernel::ports::net::{ConnId, Packet, SendError, SocketId};
use switchroom_wire::sip::frame::{Frame, Framer, PONG};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep_until};

use super::{TcpEvent, TcpTable};
use crate::counters::add;

/// Bytes asked of the system at once.
const READ: usize = 8192;
/// Messages written with one system call.
const WRITE: usize = 16;
/// Messages that may wait for one connection, however small.
const QUEUE: usize = 4096;

/// A message that waits to be written.
pub(super) struct Pending {
    pub data: Bytes,
    pub token: u64,
    /// Worker that hears of a failure.
    pub from: usize,
}

/// What others on the worker's thread know of a connection.
pub(super) struct Conn {
    pub id: ConnId,
    pub socket: SocketId,
    pub peer: SocketAddr,
    pub closing: Cell<bool>,
    /// It is not closed for silence before this.
    pub keep_until: Cell<Option<Instant>>,
    pub wake: Notify,
    queue: RefCell<VecDeque<Pending>>,
    queued: Cell<usize>,
}

impl Conn {
    pub fn new(id: ConnId, socket: SocketId, peer: SocketAddr) -> Conn {
        Conn {
            id,
            socket,
            peer,
            closing: Cell::new(false),
            keep_until: Cell::new(None),
            wake: Notify::new(),
            queue: RefCell::default(),
            queued: Cell::new(0),
        }
    }

    /// Queues a message; gives it back when more than `limit` bytes would wait.
    pub fn push(&self, pending: Pending, limit: usize) -> Result<(), Pending> {
        let queued = self.queued.get() + pending.data.len();
        if queued > limit || self.queue.borrow().len() >= QUEUE {
            return Err(pending);
        }
        self.queued.set(queued);
        self.queue.borrow_mut().push_back(pending);
        self.wake.notify_one();
        Ok(())
    }

    /// Empties the queue.
    pub fn take_all(&self) -> VecDeque<Pending> {
        self.queued.set(0);
        std::mem::take(&mut *self.queue.borrow_mut())
    }

    pub fn is_idle(&self) -> bool {
        self.queue.borrow().is_empty()
    }
}

/// Serves an open connection to its end.
pub(super) async fn serve(table: Rc<TcpTable>, conn: Rc<Conn>, stream: TcpStream) {
    // Without it a reply could wait for the acknowledgement of the last one.
    let _ = stream.set_nodelay(true);
    let now = Instant::now();
    let mut service = Service {
        framer: Framer::new(table.config.max_message),
        buf: BytesMut::new(),
        written: 0,
        idle_at: now + table.config.lifetime,
        message_at: None,
        table: &table,
        conn: &conn,
        stream,
    };
    let end = service.run().await;
    let counters = table.counters();
    match end {
        End::Protocol => add(&counters.tcp_protocol_errors, 1),
        End::Idle => add(&counters.tcp_idle_closed, 1),
        End::Closed => {}
    }
    drop(service);
    table.unregister(&conn, SendError::Refused);
    table.tell(TcpEvent::Open { conn: conn.id, peer: conn.peer, socket: conn.socket, open: false });
}

/// Why a connection ends.
enum End {
    /// By the peer, by us on request, or by an error of the network.
    Closed,
    /// Nothing happened for too long.
    Idle,
    /// The peer does not speak SIP, or too slowly.
    Protocol,
}

struct Service<'a> {
    table: &'a TcpTable,
    conn: &'a Conn,
    stream: TcpStream,
    framer: Framer,
    buf: BytesMut,
    /// Bytes of the first message of the queue that are written.
    written: usize,
    idle_at: Instant,
    /// When the message at the front of `buf` must be complete.
    message_at: Option<Instant>,
}

impl Service<'_> {
    async fn run(&mut self) -> End {
        let mut timer = Box::pin(sleep_until(self.due().into()));
        loop {
            if self.write().is_err() {
                return End::Closed;
            }
            if self.conn.closing.get() {
                return End::Closed;
            }
            let waiting = !self.conn.is_idle();
            self.arm(timer.as_mut());
            tokio::select! {
                () = self.conn.wake.notified() => {}
                ready = self.stream.readable() => {
                    if ready.is_err() {
                        return End::Closed;
                    }
                    if let Err(end) = self.read().await {
                        return end;
                    }
                }
                ready = self.stream.writable(), if waiting => {
                    if ready.is_err() {
                        return End::Closed;
                    }
                }
                () = timer.as_mut() => {
                    let now = Instant::now();
                    if self.message_at.is_some_and(|at| at <= now) {
                        return End::Protocol;
                    }
                    if self.idle_at() <= now {
                        return End::Idle;
                    }
                    timer.as_mut().reset(self.due().into());
                }
            }
        }
    }

    fn due(&self) -> Instant {
        let idle_at = self.idle_at();
        self.message_at.map_or(idle_at, |at| at.min(idle_at))
    }

    /// When it is closed for silence.
    fn idle_at(&self) -> Instant {
        self.conn.keep_until.get().map_or(self.idle_at, |until| until.max(self.idle_at))
    }

    /// The timer is only moved when it would come too late; a deadline that moved away is seen when it fires.
    fn arm(&self, timer: std::pin::Pin<&mut Sleep>) {
        let due = self.due();
        if timer.deadline().into_std() > due {
            timer.reset(due.into());
        }
    }

    fn touch(&mut self) -> Instant {
        let now = Instant::now();
        self.idle_at = now + self.table.config.lifetime;
        now
    }

    /// Reads once and hands on what is complete.
    async fn read(&mut self) -> Result<(), End> {
        self.buf.reserve(READ);
        match self.stream.try_read_buf(&mut self.buf) {
            Ok(0) => return Err(End::Closed),
            Ok(n) => add(&self.table.counters().tcp_bytes_received, n as u64),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(End::Closed),
        }
        let now = self.touch();
        loop {
            match self.framer.next(&mut self.buf) {
                Ok(Some(Frame::Message(data))) => {
                    add(&self.table.counters().tcp_received, 1);
                    self.message_at = None;
                    self.table.wait_for_room().await;
                    let Conn { id, socket, peer, .. } = *self.conn;
                    self.table.tell(TcpEvent::Message(Packet { data, socket, peer, conn: Some(id) }));
                }
                Ok(Some(Frame::Ping)) => {
                    let pong = Pending { data: Bytes::from_static(PONG), token: 0, from: self.table.worker };
                    // A peer that does not read our answers gets none.
                    let _ = self.conn.push(pong, self.table.config.queue_bytes);
                }
                Ok(Some(Frame::Pong)) => {}
                Ok(None) => break,
                Err(_) => return Err(End::Protocol),
            }
        }
        if self.buf.is_empty() {
            self.message_at = None;
            // An idle connection holds no buffer.
            self.buf = BytesMut::new();
        } else {
            self.message_at.get_or_insert(now + self.table.config.max_message_time);
        }
        Ok(())
    }

    /// Writes as much of the queue as the system takes.
    fn write(&mut self) -> io::Result<()> {
        loop {
            let mut queue = self.conn.queue.borrow_mut();
            let mut slices = [IoSlice::new(&[]); WRITE];
            let mut used = 0;
            for (slice, pending) in slices.iter_mut().zip(queue.iter()) {
                let from = if used == 0 { self.written } else { 0 };
                *slice = IoSlice::new(&pending.data[from..]);
                used += 1;
            }
            if used == 0 {
                return Ok(());
            }
            let mut n = match self.stream.try_write_vectored(&slices[..used]) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
            let counters = self.table.counters();
            add(&counters.tcp_bytes_sent, n as u64);
            while let Some(front) = queue.front() {
                let left = front.data.len() - self.written;
                if n < left {
                    self.written += n;
                    break;
                }
                n -= left;
                self.written = 0;
                self.conn.queued.set(self.conn.queued.get() - front.data.len());
                queue.pop_front();
                add(&counters.tcp_sent, 1);
            }
            drop(queue);
            self.idle_at = Instant::now() + self.table.config.lifetime;
        }
    }
}
