//! Opening the listening sockets, once for every worker, before any worker runs.
//!
//! Names, interfaces and port ranges of a `socket=` line are resolved by the caller; here an address is an address.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use switchroom_kernel::ports::net::{ListenSocket, Post, Proto, SocketId, Sockets};

use crate::config::NetConfig;
use crate::counters::NetCounters;
use crate::mailbox::Mailboxes;

/// One address to listen on.
#[derive(Clone, Debug)]
pub struct ListenSpec {
    /// Transport: UDP or TCP.
    pub proto: Proto,
    /// Address; port 0 lets the system choose one.
    pub addr: SocketAddr,
    /// `as host[:port]`.
    pub advertised: Option<(String, Option<u16>)>,
    /// `tag id`.
    pub tag: Option<String>,
    /// `anycast`.
    pub anycast: bool,
    /// `tos n`: the whole byte of the IP header (traffic class in IPv6).
    pub tos: Option<u8>,
}

impl ListenSpec {
    /// A socket without options.
    pub fn new(proto: Proto, addr: SocketAddr) -> ListenSpec {
        ListenSpec { proto, addr, advertised: None, tag: None, anycast: false, tos: None }
    }
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// No driver for that transport.
    #[error("socket {proto}:{addr}: no driver for this transport; udp and tcp are possible")]
    NoDriver {
        /// Transport asked for.
        proto: Proto,
        /// Address asked for.
        addr: SocketAddr,
    },
    /// More sockets than a [`SocketId`] can number.
    #[error("{0} sockets are too many; at most 65535 are possible")]
    TooMany(usize),
    /// The system refused.
    #[error("socket {proto}:{addr}: {source}")]
    Refused {
        /// Transport asked for.
        proto: Proto,
        /// Address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// All sockets, open and not yet read.
pub struct Bound {
    /// The table with real ports, to be shared with everybody.
    pub sockets: Sockets,
    pub(crate) config: NetConfig,
    pub(crate) counters: NetCounters,
    pub(crate) mailboxes: Arc<Mailboxes>,
    /// One list per worker, in the order of `sockets`.
    pub(crate) seats: Vec<Vec<Listener>>,
}

impl Bound {
    /// The way into the workers' mailboxes. What is posted before they start waits there.
    pub fn post(&self) -> Arc<dyn Post> {
        self.mailboxes.clone()
    }

    /// The counters of all workers.
    pub fn counters(&self) -> NetCounters {
        self.counters.clone()
    }
}

/// One worker's share of one listening socket.
pub(crate) enum Listener {
    Udp(UdpSocket),
    Tcp(TcpListener),
}

/// Opens every socket of `specs` for every worker.
pub fn bind(specs: Vec<ListenSpec>, config: NetConfig) -> Result<Bound, BindError> {
    if specs.len() > usize::from(u16::MAX) {
        return Err(BindError::TooMany(specs.len()));
    }
    let config = NetConfig { workers: config.workers.max(1), ..config };
    let mut seats: Vec<Vec<Listener>> = (0..config.workers).map(|_| Vec::new()).collect();
    let mut sockets = Vec::with_capacity(specs.len());
    for (index, spec) in specs.into_iter().enumerate() {
        let mut addr = spec.addr;
        if config.workers > 1 && addr.port() != 0 && matches!(spec.proto, Proto::Udp | Proto::Tcp) {
            refuse_taken(addr, spec.proto).map_err(|source| BindError::Refused {
                proto: spec.proto,
                addr,
                source,
            })?;
        }
        for seat in &mut seats {
            let refused = |source| BindError::Refused { proto: spec.proto, addr, source };
            let listener = match spec.proto {
                Proto::Udp => Listener::Udp(udp(addr, spec.tos, &config).map_err(refused)?),
                Proto::Tcp => Listener::Tcp(tcp(addr, spec.tos, &config).map_err(refused)?),
                proto => return Err(BindError::NoDriver { proto, addr }),
            };
            // The first worker's bind settles the port for the others.
            addr = match &listener {
                Listener::Udp(s) => s.local_addr(),
                Listener::Tcp(s) => s.local_addr(),
            }
            .map_err(|source| BindError::Refused { proto: spec.proto, addr, source })?;
            seat.push(listener);
        }
        sockets.push(ListenSocket {
            id: SocketId(index as u16),
            proto: spec.proto,
            addr,
            advertised: spec.advertised,
            tag: spec.tag,
            anycast: spec.anycast,
            tos: spec.tos,
        });
    }
    Ok(Bound {
        sockets: Arc::from(sockets),
        counters: NetCounters::new(config.workers),
        mailboxes: Mailboxes::new(config.workers, config.mailbox),
        config,
        seats,
    })
}

/// With `SO_REUSEPORT` two programs of one user could share an address without knowing, each getting half of the traffic.
/// So a socket without it goes first and finds whoever is there.
fn refuse_taken(addr: SocketAddr, proto: Proto) -> io::Result<()> {
    let (kind, protocol) = match proto {
        Proto::Udp => (Type::DGRAM, Protocol::UDP),
        _ => (Type::STREAM, Protocol::TCP),
    };
    let socket = open(addr, kind, protocol, None)?;
    socket.set_reuse_address(proto != Proto::Udp)?;
    socket.bind(&addr.into())
}

fn udp(addr: SocketAddr, tos: Option<u8>, config: &NetConfig) -> io::Result<UdpSocket> {
    let socket = open(addr, Type::DGRAM, Protocol::UDP, tos)?;
    if config.workers > 1 {
        socket.set_reuse_port(true)?;
    }
    // The system caps it at its own maximum without an error.
    socket.set_recv_buffer_size(config.receive_buffer)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

fn tcp(addr: SocketAddr, tos: Option<u8>, config: &NetConfig) -> io::Result<TcpListener> {
    let socket = open(addr, Type::STREAM, Protocol::TCP, tos)?;
    // Without it a restart has to wait until the connections of the last run are forgotten.
    socket.set_reuse_address(true)?;
    if config.workers > 1 {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(config.tcp.backlog)?;
    Ok(socket.into())
}

fn open(addr: SocketAddr, kind: Type, protocol: Protocol, tos: Option<u8>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Some(tos) = tos {
        set_tos(&socket, addr, tos)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Sets the type of service of a socket of either family.
pub(crate) fn set_tos(socket: &Socket, addr: SocketAddr, tos: u8) -> io::Result<()> {
    if addr.is_ipv6() { socket.set_tclass_v6(tos.into()) } else { socket.set_tos_v4(tos.into()) }
}
