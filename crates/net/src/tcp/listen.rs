//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use switchroom_kernel::ports::net::SocketId;
use tokio::net::{TcpListener, TcpStream};

use super::{TcpEvent, TcpTable, conn};
use crate::counters::add;

impl TcpTable {
    /// Accepts connections on `listener` until [`TcpTable::stop_listening`].
    pub fn listen(self: &Rc<Self>, socket: SocketId, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let table = self.clone();
        let task = tokio::task::spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => table.accepted(socket, stream, peer),
                    // Out of file descriptors, mostly: it passes when connections close. An aborted connection is not
                    // worth that wait, but rare.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        self.listeners.borrow_mut().push(task.abort_handle());
        Ok(())
    }

    fn accepted(self: &Rc<Self>, socket: SocketId, stream: TcpStream, peer: SocketAddr) {
        let Some(conn) = self.register(socket, peer) else {
            add(&self.counters().tcp_refused, 1);
            return;
        };
        add(&self.counters().tcp_accepted, 1);
        self.look_after(&stream);
        self.tell(TcpEvent::Open { conn: conn.id, peer, socket, open: true });
        tokio::task::spawn_local(conn::serve(self.clone(), conn, stream));
    }

    /// Let the system probe an idle connection, when that is wanted.
    pub(super) fn look_after(&self, stream: &TcpStream) {
        if let Some(keepalive) = &self.config.keepalive
            && let Err(e) = keepalive.apply(&SockRef::from(stream))
        {
            tracing::debug!("a connection goes without keep-alive: {e}");
        }
    }
}
