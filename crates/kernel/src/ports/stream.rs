//! Byte streams for protocols other than SIP: the SMS centre's sessions, event subscribers, caches.
//!
//! The driver hides the runtime; what it gives speaks the traits of `futures-io`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::io::{AsyncRead, AsyncWrite};

use super::http::ClientTls;
use super::net::BoxFuture;

/// A connected stream, ready to be read and written.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Where to connect.
#[derive(Clone, Debug)]
pub struct StreamTarget {
    /// Host name or address, IPv6 without brackets; or the path of a Unix socket, which begins with `/` and has neither
    /// port nor TLS.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Local address to connect from.
    pub from: Option<SocketAddr>,
    /// TLS with these settings, or plain TCP.
    pub tls: Option<Arc<ClientTls>>,
    /// How long it may take until the stream stands.
    pub timeout: Duration,
}

/// The server's side of TLS.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Authorities that clients' certificates must come from; `None` asks for none.
    pub client_authorities: Option<PathBuf>,
}

/// Settings of one listener.
#[derive(Clone, Debug)]
pub struct StreamListen {
    /// Address to listen on.
    pub addr: SocketAddr,
    /// TLS, or plain TCP.
    pub tls: Option<ServerTls>,
    /// Streams at a time; further ones wait in the kernel's queue.
    pub connections: usize,
}

/// What a listener does with a peer that has connected: a future that lives as long as the stream is served.
pub type Accept = Arc<dyn Fn(Box<dyn ByteStream>, SocketAddr) -> BoxFuture<()> + Send + Sync>;

/// Why there is no stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StreamError(pub String);

/// Opens byte streams.
pub trait Streams: Send + Sync {
    /// Connect to a peer.
    fn connect(&self, target: StreamTarget) -> BoxFuture<Result<Box<dyn ByteStream>, StreamError>>;
    /// Bind and accept until the process ends. Gives the bound address.
    fn listen(&self, listen: StreamListen, accept: Accept) -> BoxFuture<Result<SocketAddr, StreamError>>;
}
