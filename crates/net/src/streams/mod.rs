//! The stream port on tokio: TCP, with TLS by rustls when it is asked for.
//!
//! Connections belong to the control thread's reactor and may be used from any thread. Left out: SIP, which has its own
//! connections, and connecting again, which is the caller's.

pub(crate) mod dial;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use switchroom_kernel::ports::net::{BoxFuture, Resolver};
use switchroom_kernel::ports::stream::{
    Accept, ByteStream, StreamError, StreamListen, StreamTarget, Streams,
};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::timers::ControlHandle;
use crate::tls::{self, ClientConfigs};
use dial::{Dial, DialError};

/// How long a peer may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Streams that are opened on the control thread; names are resolved by `resolver`.
pub fn streams(control: &ControlHandle, resolver: Arc<dyn Resolver>) -> Arc<dyn Streams> {
    Arc::new(Driver { control: control.clone(), resolver, configs: Arc::default() })
}

struct Driver {
    control: ControlHandle,
    resolver: Arc<dyn Resolver>,
    configs: Arc<ClientConfigs>,
}

impl Streams for Driver {
    fn connect(&self, target: StreamTarget) -> BoxFuture<Result<Box<dyn ByteStream>, StreamError>> {
        let (resolver, configs) = (self.resolver.clone(), self.configs.clone());
        let opened = self.control.run(async move {
            if target.host.starts_with('/') {
                return local(&target).await;
            }
            let place = format!("{}:{}", target.host, target.port);
            let dial = Dial { resolver, configs, from: target.from, timeout: target.timeout };
            let opened = match &target.tls {
                None => dial.plain(&target.host, target.port).await.map(|s| Box::new(s.compat()) as _),
                Some(tls) => {
                    dial.tls(&target.host, target.port, tls, &[]).await.map(|s| Box::new(s.compat()) as _)
                }
            };
            opened.map_err(|e: DialError| StreamError(format!("cannot connect to {place}: {e}")))
        });
        Box::pin(async move { opened.await.unwrap_or_else(|| Err(stopping())) })
    }

    fn listen(&self, listen: StreamListen, accept: Accept) -> BoxFuture<Result<SocketAddr, StreamError>> {
        let control = self.control.clone();
        let bound = self.control.run(async move {
            let acceptor = match listen.tls {
                None => None,
                Some(tls) => {
                    let read = tokio::task::spawn_blocking(move || tls::server(&tls)).await;
                    let config = read.map_err(|_| stopping())?.map_err(StreamError)?;
                    Some(TlsAcceptor::from(Arc::new(config)))
                }
            };
            let named = |e: io::Error| StreamError(format!("cannot listen on {}: {e}", listen.addr));
            let listener = TcpListener::bind(listen.addr).await.map_err(named)?;
            let addr = listener.local_addr().map_err(named)?;
            let places = Arc::new(Semaphore::new(listen.connections.clamp(1, Semaphore::MAX_PERMITS)));
            control.tokio().spawn(serve(listener, places, acceptor, accept));
            Ok(addr)
        });
        Box::pin(async move { bound.await.unwrap_or_else(|| Err(stopping())) })
    }
}

/// A Unix socket.
async fn local(target: &StreamTarget) -> Result<Box<dyn ByteStream>, StreamError> {
    let path = &target.host;
    if target.tls.is_some() {
        return Err(StreamError(format!("cannot connect to {path}: a local socket has no TLS")));
    }
    match tokio::time::timeout(target.timeout, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream.compat())),
        Ok(Err(e)) => Err(StreamError(format!("cannot connect to {path}: {e}"))),
        Err(_elapsed) => Err(StreamError(format!("cannot connect to {path} within {:?}", target.timeout))),
    }
}

async fn serve(listener: TcpListener, places: Arc<Semaphore>, acceptor: Option<TlsAcceptor>, accept: Accept) {
    loop {
        // Only an error when the semaphore is closed, which nobody does.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(serve_one(stream, peer, acceptor.clone(), accept.clone(), place));
            }
            // Out of file descriptors: wait for some to be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve_one(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    accept: Accept,
    _place: OwnedSemaphorePermit,
) {
    dial::tune(&stream);
    let stream: Box<dyn ByteStream> = match acceptor {
        None => Box::new(stream.compat()),
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Box::new(stream.compat()),
            Ok(Err(e)) => return tracing::debug!(%peer, "tls handshake: {e}"),
            Err(_elapsed) => return tracing::debug!(%peer, "tls handshake: not done in time"),
        },
    };
    accept(stream, peer).await;
}

fn stopping() -> StreamError {
    StreamError("the network driver is stopping".to_owned())
}
