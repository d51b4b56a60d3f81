//! Datagrams for protocols other than SIP: event subscribers and management over UDP and Unix sockets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::net::BoxFuture;

/// The largest datagram that is sent or read, in bytes.
pub const MAX_DATAGRAM: usize = 65_457;

/// Where datagrams go to or come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatagramAddress {
    /// A UDP address.
    Udp(SocketAddr),
    /// The path of a Unix datagram socket.
    Unix(PathBuf),
}

impl std::fmt::Display for DatagramAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DatagramAddress::Udp(addr) => write!(f, "udp:{addr}"),
            DatagramAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Settings of one socket that answers.
#[derive(Clone, Debug)]
pub struct DatagramListen {
    /// Address to bind. A Unix socket that an earlier run left is replaced; anything else at that path is an error.
    pub at: DatagramAddress,
    /// Permissions of a Unix socket.
    pub mode: u32,
    /// Owner and group of a Unix socket; `None` keeps the process's own.
    pub owner: (Option<u32>, Option<u32>),
    /// Requests under way at a time; further ones wait in the kernel's buffer.
    pub at_a_time: usize,
}

/// What is done with a datagram; the answer goes back to its sender, if it can be reached.
pub type Answerer = Arc<dyn Fn(Bytes) -> BoxFuture<Option<Bytes>> + Send + Sync>;

/// Why a datagram was not sent, or a socket not bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DatagramError(pub String);

/// Sends and answers datagrams.
pub trait Datagrams: Send + Sync {
    /// Send one from a socket of the driver's own. Success says that the kernel took it.
    fn send(&self, to: DatagramAddress, data: Bytes) -> BoxFuture<Result<(), DatagramError>>;
    /// Bind and answer until the process ends. Gives the bound address.
    fn serve(
        &self,
        listen: DatagramListen,
        answer: Answerer,
    ) -> BoxFuture<Result<DatagramAddress, DatagramError>>;
}
