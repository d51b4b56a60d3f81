//! The network port: how packets reach a worker and leave it again.
//!
//! A *worker* is one thread that owns one shard of all calls (chosen by Call-ID). A driver (crate `net`) owns the
//! sockets, calls a [`Handler`] for everything that happens on its worker's thread, and gives it a [`Net`] to answer
//! through. Nothing here blocks: a send is queued and leaves with the batch.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// A transport protocol as named in `socket=proto:addr:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proto {
    /// SIP over UDP (RFC 3261 §18).
    Udp,
    /// SIP over TCP (RFC 3261 §18).
    Tcp,
    /// SIP over TLS (RFC 3261 §26).
    Tls,
    /// SIP over WebSocket (RFC 7118).
    Ws,
    /// SIP over secure WebSocket (RFC 7118).
    Wss,
}

impl Proto {
    /// Parse the script's and Via's spelling, ignoring case.
    pub fn parse(text: &str) -> Option<Proto> {
        [Proto::Udp, Proto::Tcp, Proto::Tls, Proto::Ws, Proto::Wss]
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(text))
    }

    /// Lower-case name, as in socket definitions and URI `transport` parameters.
    pub fn name(self) -> &'static str {
        match self {
            Proto::Udp => "udp",
            Proto::Tcp => "tcp",
            Proto::Tls => "tls",
            Proto::Ws => "ws",
            Proto::Wss => "wss",
        }
    }

    /// Upper-case name, as in the Via header.
    pub fn via_name(self) -> &'static str {
        match self {
            Proto::Udp => "UDP",
            Proto::Tcp => "TCP",
            Proto::Tls => "TLS",
            Proto::Ws => "WS",
            Proto::Wss => "WSS",
        }
    }

    /// Whether the transport retransmits by itself (RFC 3261 §17).
    pub fn reliable(self) -> bool {
        self != Proto::Udp
    }

    /// Port when a URI or socket names none.
    pub fn default_port(self) -> u16 {
        match self {
            Proto::Udp | Proto::Tcp => 5060,
            Proto::Tls => 5061,
            Proto::Ws => 80,
            Proto::Wss => 443,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Index of a listening socket in the [`Sockets`] table; the same on every worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u16);

/// One listening socket, after names were resolved and ports bound.
#[derive(Clone, Debug)]
pub struct ListenSocket {
    /// Its index.
    pub id: SocketId,
    /// Transport.
    pub proto: Proto,
    /// Bound address; the real port when the script asked for port 0.
    pub addr: SocketAddr,
    /// `as host[:port]`: what Via, Record-Route and Contact name instead of `addr`.
    pub advertised: Option<(String, Option<u16>)>,
    /// `tag id`: a name independent of the address.
    pub tag: Option<String>,
    /// `anycast` was given.
    pub anycast: bool,
    /// `tos n` of this socket, or the global value.
    pub tos: Option<u8>,
}

impl ListenSocket {
    /// Host to write into Via and Record-Route (IPv6 in brackets).
    pub fn via_host(&self) -> String {
        match &self.advertised {
            Some((host, _)) => host.clone(),
            None => match self.addr {
                SocketAddr::V4(a) => a.ip().to_string(),
                SocketAddr::V6(a) => format!("[{}]", a.ip()),
            },
        }
    }

    /// Port to write into Via and Record-Route.
    pub fn via_port(&self) -> u16 {
        self.advertised.as_ref().and_then(|(_, p)| *p).unwrap_or(self.addr.port())
    }

    /// `proto:ip:port`, the form that `location.socket` and `$socket_in` use.
    pub fn name(&self) -> String {
        format!("{}:{}", self.proto, self.addr)
    }
}

/// All listening sockets. Shared and immutable after start.
pub type Sockets = Arc<[ListenSocket]>;

/// A stream connection. The worker that owns it stands in the upper 16 bits; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// Compose from the owning worker and a per-worker serial number (48 bits).
    pub fn new(worker: usize, serial: u64) -> ConnId {
        ConnId(((worker as u64) << 48) | (serial & 0xffff_ffff_ffff))
    }

    /// The worker whose driver owns the connection.
    pub fn worker(self) -> usize {
        (self.0 >> 48) as usize
    }
}

/// One received SIP message (one datagram, or one framed message of a stream).
#[derive(Clone, Debug)]
pub struct Packet {
    /// The bytes as received.
    pub data: Bytes,
    /// Listening socket it came in on.
    pub socket: SocketId,
    /// Sender's address.
    pub peer: SocketAddr,
    /// Stream connection it came in on.
    pub conn: Option<ConnId>,
}

/// One message to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The serialised message.
    pub data: Bytes,
    /// Local socket to send from; decides the transport.
    pub socket: SocketId,
    /// Destination.
    pub peer: SocketAddr,
    /// Prefer this connection when it is still open (replies, RFC 5626 flows); otherwise connect to `peer`.
    pub conn: Option<ConnId>,
    /// When `conn` is gone and no other connection exists, do not open one (RFC 5923, `tcp_no_new_conn_*`).
    pub no_new_conn: bool,
    /// Handed back with [`Handler::send_failed`]; 0 when the sender does not care.
    pub token: u64,
}

/// Why a send could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// ICMP unreachable, connection refused or reset.
    Refused,
    /// No connection within `tcp_connect_timeout`.
    ConnectTimeout,
    /// The outgoing queue of that peer or of the worker is full.
    QueueFull,
    /// Datagram too large, or no socket of that family.
    Unsendable,
    /// The connection is gone and opening one was not allowed.
    NoConnection,
}

/// A worker's way out. Cheap calls, no waiting; only used on the worker's own thread.
pub trait Net {
    /// Queue one message. Failures come later through [`Handler::send_failed`].
    fn send(&self, out: Outgoing);
    /// Close a stream connection (possibly another worker's).
    fn close(&self, conn: ConnId);
    /// Keep a stream connection (possibly another worker's) open for so long, though nothing passes over it.
    fn keep(&self, _conn: ConnId, _time: Duration) {}
    /// The time as this worker sees it: real, or virtual under test. Read once a batch.
    fn now(&self) -> Instant;
    /// Whether more comes in than this worker can do, so that new work should be refused.
    fn overloaded(&self) -> bool {
        false
    }
    /// The address that the system would send to `peer` from; `None` when it does not know.
    fn source_for(&self, _peer: SocketAddr) -> Option<IpAddr> {
        None
    }
}

/// What a driver drives: the part of the house that lives on one worker thread.
pub trait Handler {
    /// A message for this shard.
    fn packet(&self, packet: Packet);
    /// A queued message could not be sent.
    fn send_failed(&self, token: u64, error: SendError);
    /// A stream connection opened (`true`) or closed.
    fn connection(&self, conn: ConnId, peer: SocketAddr, socket: SocketId, open: bool);
    /// Work posted by another thread.
    fn mail(&self, mail: Mail);
    /// When [`Handler::tick`] wants to be called next.
    fn deadline(&self) -> Option<Instant>;
    /// Timers up to `now` are due.
    fn tick(&self, now: Instant);
    /// More comes than can be done (`true`), or that is over: once for each episode.
    fn overload(&self, begins: bool) {
        let _ = begins;
    }
    /// Poll what waits (database answers, DNS, sleeps). Called after each batch and when the waker fires.
    fn poll_waits(&self, cx: &mut Context<'_>);
}

/// Something posted to a worker's bounded mailbox.
pub enum Mail {
    /// A message whose Call-ID belongs to that shard.
    Packet(Packet),
    /// Work to be done on that worker's thread.
    Run(Box<dyn FnOnce(&dyn std::any::Any) + Send>),
    /// A message to be sent by the worker that owns the connection.
    Send(Outgoing),
    /// A connection to be closed by its owner.
    Close(ConnId),
    /// A connection to be kept open for so long by its owner.
    Keep(ConnId, Duration),
    /// No more traffic: finish what is open, then return from the loop.
    Drain,
}

/// Posts to any worker's mailbox, from any thread.
pub trait Post: Send + Sync {
    /// Number of workers.
    fn workers(&self) -> usize;
    /// Put mail into a worker's mailbox. `Err` gives it back when the mailbox is full.
    fn post(&self, worker: usize, mail: Mail) -> Result<(), Mail>;
}

/// A boxed future that may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Time as a service.
pub trait Clock: Send + Sync {
    /// Monotonic time.
    fn now(&self) -> Instant;
    /// Seconds and microseconds since the epoch.
    fn unix(&self) -> Duration;
    /// Completes after `after`.
    fn sleep(&self, after: Duration) -> BoxFuture<()>;
}

/// Runs futures outside the workers (timers of modules, writers, servers).
pub trait Spawn: Send + Sync {
    /// Start a future on the control thread; it ends with the process.
    fn spawn(&self, future: BoxFuture<()>);
}

/// Names to addresses (RFC 3263 needs NAPTR and SRV besides A and AAAA). Answers are cached by the driver.
pub trait Resolver: Send + Sync {
    /// A and AAAA records, with the preference that was configured.
    fn addresses(&self, host: &str) -> BoxFuture<Result<Vec<std::net::IpAddr>, ResolveError>>;
    /// SRV records, sorted by priority and weighted choice.
    fn srv(&self, name: &str) -> BoxFuture<Result<Vec<SrvRecord>, ResolveError>>;
    /// NAPTR records, sorted by order and preference.
    fn naptr(&self, name: &str) -> BoxFuture<Result<Vec<NaptrRecord>, ResolveError>>;
}

/// One SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    /// Lower is tried first.
    pub priority: u16,
    /// Share among equals.
    pub weight: u16,
    /// Port of the service.
    pub port: u16,
    /// Host name, without the final dot.
    pub target: String,
}

/// One NAPTR record (RFC 3403) as RFC 3263 §4.1 uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NaptrRecord {
    /// Order, lowest first.
    pub order: u16,
    /// Preference within an order, lowest first.
    pub preference: u16,
    /// `s`, `a`, `u` ...
    pub flags: String,
    /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T` ...
    pub service: String,
    /// Next name to look up.
    pub replacement: String,
}

/// Why a name gave no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name or record type does not exist.
    #[error("no such record")]
    NotFound,
    /// No server answered in time.
    #[error("name servers did not answer")]
    Timeout,
    /// The answer was broken or refused.
    #[error("name server failure")]
    Failed,
}
