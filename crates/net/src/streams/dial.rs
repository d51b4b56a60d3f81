//! Opening one connection: the name's addresses in their order, TCP, TLS, all within one time limit.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use switchroom_kernel::ports::http::ClientTls;
use switchroom_kernel::ports::net::Resolver;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::tls::{Alpn, ClientConfigs};

/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;

/// What it takes to open a connection.
#[derive(Clone)]
pub(crate) struct Dial {
    pub resolver: Arc<dyn Resolver>,
    pub configs: Arc<ClientConfigs>,
    /// Local address; addresses of the other family are passed over.
    pub from: Option<SocketAddr>,
    /// For everything together.
    pub timeout: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The time is over.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// The TLS settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// Name, refusal, TLS.
    #[error("{0}")]
    Failed(String),
}

impl Dial {
    /// A TCP connection; `host` is a name or an address, IPv6 without brackets.
    pub async fn plain(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        self.limited(self.tcp(host, port, self.deadline())).await
    }

    /// A TCP connection with TLS on it.
    pub async fn tls(
        &self,
        host: &str,
        port: u16,
        tls: &Arc<ClientTls>,
        alpn: Alpn,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        self.limited(async {
            let config = self.configs.get(tls, alpn).await.map_err(DialError::Settings)?;
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| DialError::Settings(format!("`{host}` cannot stand in a certificate")))?;
            let stream = self.tcp(host, port, self.deadline()).await?;
            let done = TlsConnector::from(config).connect(name, stream).await;
            done.map_err(|e| DialError::Failed(format!("tls: {e}")))
        })
        .await
    }

    async fn limited<T>(&self, work: impl Future<Output = Result<T, DialError>>) -> Result<T, DialError> {
        timeout(self.timeout, work).await.unwrap_or(Err(DialError::Timeout(self.timeout)))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Tries the addresses in their order. One that stays silent leaves time for those behind it.
    async fn tcp(&self, host: &str, port: u16, deadline: Instant) -> Result<TcpStream, DialError> {
        let addresses = self.addresses(host).await?;
        let mut last = DialError::Failed(match self.from {
            Some(from) => format!("{host} has no address of the family of {}", from.ip()),
            None => format!("{host} has no address"),
        });
        let count = addresses.len().min(ADDRESSES);
        for (i, ip) in addresses.into_iter().take(ADDRESSES).enumerate() {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / (count - i).max(1) as u32;
            last = match timeout_at(now + share, open(SocketAddr::new(ip, port), self.from)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(e)) => DialError::Failed(e.to_string()),
                Err(_elapsed) => DialError::Timeout(self.timeout),
            };
        }
        Err(last)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DialError> {
        let mut found = match host.parse() {
            Ok(ip) => vec![ip],
            Err(_) => self
                .resolver
                .addresses(host)
                .await
                .map_err(|e| DialError::Failed(format!("the name {host}: {e}")))?,
        };
        if let Some(from) = self.from {
            found.retain(|ip| ip.is_ipv6() == from.is_ipv6());
        }
        Ok(found)
    }
}

async fn open(peer: SocketAddr, from: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = if peer.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    if let Some(from) = from {
        socket.set_reuseaddr(true)?;
        socket.bind(from)?;
    }
    let stream = socket.connect(peer).await?;
    tune(&stream);
    Ok(stream)
}

/// Small writes leave at once, and a peer that vanished is noticed. A socket that takes neither still works.
pub(crate) fn tune(stream: &TcpStream) {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    if let Err(e) =
        stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive))
    {
        tracing::debug!("options of a stream: {e}");
    }
}
