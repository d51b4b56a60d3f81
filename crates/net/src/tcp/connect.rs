//! Opening connections.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use socket2::SockRef;
use switchroom_kernel::ports::net::{SendError, SocketId};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::conn::{self, Conn};
use super::{TcpEvent, TcpTable};
use crate::bind::set_tos;
use crate::counters::add;

impl TcpTable {
    /// Opens `conn` in the background; what is queued on it meanwhile waits.
    pub(super) fn connect(self: &Rc<Self>, conn: Rc<Conn>) {
        let table = self.clone();
        tokio::task::spawn_local(async move {
            let opened =
                timeout(table.config.connect_timeout, table.open_stream(conn.socket, conn.peer)).await;
            let error = match opened {
                Ok(Ok(stream)) => {
                    table.look_after(&stream);
                    add(&table.counters().tcp_connected, 1);
                    table.tell(TcpEvent::Open {
                        conn: conn.id,
                        peer: conn.peer,
                        socket: conn.socket,
                        open: true,
                    });
                    return conn::serve(table, conn, stream).await;
                }
                Ok(Err(_)) => SendError::Refused,
                Err(_elapsed) => SendError::ConnectTimeout,
            };
            add(&table.counters().tcp_connect_failed, 1);
            table.unregister(&conn, error);
        });
    }

    /// From the address of the listening socket, so that the peer sees the one we name in Via, but from any port.
    async fn open_stream(&self, socket: SocketId, peer: SocketAddr) -> io::Result<TcpStream> {
        let stream = if peer.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        if let Some(listen) = self.sockets.get(usize::from(socket.0)) {
            if let Some(tos) = listen.tos {
                set_tos(&SockRef::from(&stream), peer, tos)?;
            }
            if !listen.addr.ip().is_unspecified() && listen.addr.is_ipv6() == peer.is_ipv6() {
                stream.bind(SocketAddr::new(listen.addr.ip(), 0))?;
            }
        }
        stream.connect(peer).await
    }
}
