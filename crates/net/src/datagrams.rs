//! The datagram port on tokio: UDP and Unix datagram sockets for events and management.
//!
//! Left out: SIP, which has sockets of its own on the workers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdp};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram as StdUnix;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use switchroom_kernel::ports::datagram::{
    Answerer, DatagramAddress, DatagramError, DatagramListen, Datagrams, MAX_DATAGRAM,
};
use switchroom_kernel::ports::net::BoxFuture;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::sync::Semaphore;

use crate::timers::ControlHandle;

/// How long an error of a socket that reads is slept upon, so that one that stays makes no busy loop.
const PAUSE: Duration = Duration::from_millis(100);

/// Datagrams that are served on the control thread.
pub fn datagrams(control: &ControlHandle) -> Arc<dyn Datagrams> {
    Arc::new(Driver {
        control: control.clone(),
        v4: OnceLock::new(),
        v6: OnceLock::new(),
        unix: OnceLock::new(),
    })
}

struct Driver {
    control: ControlHandle,
    v4: OnceLock<StdUdp>,
    v6: OnceLock<StdUdp>,
    unix: OnceLock<StdUnix>,
}

impl Driver {
    fn send_now(&self, to: &DatagramAddress, data: &[u8]) -> io::Result<()> {
        if data.len() > MAX_DATAGRAM {
            return Err(io::Error::other(format!("{} bytes are too many for a datagram", data.len())));
        }
        match to {
            DatagramAddress::Udp(addr) if addr.is_ipv4() => {
                opened(&self.v4, || udp((Ipv4Addr::UNSPECIFIED, 0).into()))?.send_to(data, addr)
            }
            DatagramAddress::Udp(addr) => {
                opened(&self.v6, || udp((Ipv6Addr::UNSPECIFIED, 0).into()))?.send_to(data, addr)
            }
            DatagramAddress::Unix(path) => opened(&self.unix, unix)?.send_to(data, path),
        }
        .map(|_| ())
    }
}

impl Datagrams for Driver {
    fn send(&self, to: DatagramAddress, data: Bytes) -> BoxFuture<Result<(), DatagramError>> {
        let sent = self.send_now(&to, &data).map_err(|e| DatagramError(format!("cannot send to {to}: {e}")));
        Box::pin(std::future::ready(sent))
    }

    fn serve(
        &self,
        listen: DatagramListen,
        answer: Answerer,
    ) -> BoxFuture<Result<DatagramAddress, DatagramError>> {
        let control = self.control.clone();
        let bound = self.control.run(async move {
            let named = |e: io::Error| DatagramError(format!("cannot listen on {}: {e}", listen.at));
            let places = Arc::new(Semaphore::new(listen.at_a_time.clamp(1, 1024)));
            match &listen.at {
                DatagramAddress::Udp(addr) => {
                    let socket = UdpSocket::bind(addr).await.map_err(named)?;
                    let bound = socket.local_addr().map_err(named)?;
                    control.tokio().spawn(serve_udp(Arc::new(socket), places, answer));
                    Ok(DatagramAddress::Udp(bound))
                }
                DatagramAddress::Unix(path) => {
                    let socket = bind_unix(path, &listen).map_err(named)?;
                    control.tokio().spawn(serve_unix(Arc::new(socket), places, answer));
                    Ok(listen.at.clone())
                }
            }
        });
        let stopping = || DatagramError("the network driver is stopping".to_owned());
        Box::pin(async move { bound.await.unwrap_or_else(|| Err(stopping())) })
    }
}

/// The socket, opened at its first use; an error is not kept.
fn opened<T>(place: &OnceLock<T>, open: impl FnOnce() -> io::Result<T>) -> io::Result<&T> {
    if let Some(socket) = place.get() {
        return Ok(socket);
    }
    let socket = open()?;
    Ok(place.get_or_init(|| socket))
}

fn udp(at: SocketAddr) -> io::Result<StdUdp> {
    let socket = StdUdp::bind(at)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn unix() -> io::Result<StdUnix> {
    let socket = StdUnix::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_unix(path: &Path, listen: &DatagramListen) -> io::Result<UnixDatagram> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(io::Error::other("there is something else at that path, which is no socket"));
        }
        Ok(_) if StdUnix::unbound()?.connect(path).is_ok() => {
            return Err(io::Error::other("another program is listening there"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let socket = UnixDatagram::bind(path)?;
    let (user, group) = listen.owner;
    if user.is_some() || group.is_some() {
        chown(path, user, group)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(listen.mode))?;
    Ok(socket)
}

async fn serve_udp(socket: Arc<UdpSocket>, places: Arc<Semaphore>, answer: Answerer) {
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    loop {
        // Only an error when the semaphore is closed, which nobody does.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (n, peer) = match socket.recv_from(&mut buffer).await {
            Ok(got) => got,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (asked, socket) = (answer(Bytes::copy_from_slice(&buffer[..n])), socket.clone());
        tokio::spawn(async move {
            if let Some(text) = asked.await
                && let Err(e) = socket.send_to(&text, peer).await
            {
                tracing::debug!(%peer, "a datagram was not answered: {e}");
            }
            drop(place);
        });
    }
}

/// How long a reader of answers may be busy.
const ANSWER_TIME: Duration = Duration::from_secs(2);

async fn serve_unix(socket: Arc<UnixDatagram>, places: Arc<Semaphore>, answer: Answerer) {
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (n, peer) = match socket.recv_from(&mut buffer).await {
            Ok(got) => got,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (asked, socket) = (answer(Bytes::copy_from_slice(&buffer[..n])), socket.clone());
        tokio::spawn(async move {
            // An asker without a name of its own cannot be answered.
            if let (Some(text), Some(path)) = (asked.await, peer.as_pathname()) {
                match tokio::time::timeout(ANSWER_TIME, socket.send_to(&text, path)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(e)) => tracing::debug!("{} was not answered: {e}", path.display()),
                    Err(_elapsed) => tracing::debug!("{} does not read its answer", path.display()),
                }
            }
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timers::Control;

    fn listen(at: DatagramAddress) -> DatagramListen {
        DatagramListen { at, mode: 0o600, owner: (None, None), at_a_time: 4 }
    }

    fn echo() -> Answerer {
        Arc::new(|data| Box::pin(async move { (data != "silence").then_some(data) }))
    }

    #[test]
    fn datagrams_go_out_and_are_answered_over_udp_and_unix_sockets() {
        let control = Control::start().unwrap();
        let handle = control.handle();
        let driver = datagrams(&handle);
        let udp = DatagramAddress::Udp("127.0.0.1:0".parse().unwrap());
        let Ok(DatagramAddress::Udp(at)) = handle.block_on(driver.serve(listen(udp), echo())) else {
            panic!()
        };
        let client = StdUdp::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(b"silence", at).unwrap();
        client.send_to(b"hello", at).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(client.recv(&mut buffer).unwrap(), 5);
        let to = DatagramAddress::Udp(client.local_addr().unwrap());
        handle.block_on(driver.send(to, Bytes::from_static(b"event"))).unwrap();
        assert_eq!((client.recv(&mut buffer).unwrap(), &buffer[..5]), (5, &b"event"[..]));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mi.sock");
        let unix = DatagramAddress::Unix(path.clone());
        handle.block_on(driver.serve(listen(unix.clone()), echo())).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let own = dir.path().join("own.sock");
        let client = StdUnix::bind(&own).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(b"hi", &path).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 2);
        handle.block_on(driver.send(DatagramAddress::Unix(own), Bytes::from_static(b"xyz"))).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 3);
        let taken = handle.block_on(driver.serve(listen(unix), echo())).unwrap_err();
        assert!(taken.0.contains("another program"), "{taken}");
    }

    #[test]
    fn a_file_in_the_way_and_a_reader_that_is_not_there_are_errors() {
        let control = Control::start().unwrap();
        let handle = control.handle();
        let driver = datagrams(&handle);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "precious").unwrap();
        let at = DatagramAddress::Unix(path.clone());
        assert!(handle.block_on(driver.serve(listen(at), echo())).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        let nobody = DatagramAddress::Unix(dir.path().join("nobody"));
        assert!(handle.block_on(driver.send(nobody, Bytes::from_static(b"x"))).is_err());
        let big = Bytes::from(vec![b'x'; MAX_DATAGRAM + 1]);
        let at = DatagramAddress::Udp("127.0.0.1:9".parse().unwrap());
        assert!(handle.block_on(driver.send(at, big)).is_err());
    }
}
