//! Connections that are used again in the other direction (RFC 5923): requests to the address and port of a peer's Via go
//! over the connection it opened, for as long as that is open.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::ports::net::{ConnId, Proto, SocketId};
use switchroom_kernel::shard::Shard;

use super::state::Core;

/// How many aliases are kept; a peer that opens connections cannot fill more.
const MAX_ALIASES: usize = 65_536;

/// All aliases of the process.
#[derive(Default)]
pub struct ConnectionAliases {
    table: RwLock<HashMap<(Proto, SocketAddr), ConnId>>,
    len: AtomicUsize,
}

impl ConnectionAliases {
    /// The connection to use for a place.
    pub fn find(&self, proto: Proto, addr: SocketAddr) -> Option<ConnId> {
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.table.read().get(&(proto, addr)).copied()
    }

    fn add(&self, proto: Proto, addr: SocketAddr, conn: ConnId) -> bool {
        let mut table = self.table.write();
        if table.len() >= MAX_ALIASES && !table.contains_key(&(proto, addr)) {
            return false;
        }
        table.insert((proto, addr), conn);
        self.len.store(table.len(), Ordering::Relaxed);
        true
    }

    fn forget(&self, conn: ConnId) {
        if self.len.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut table = self.table.write();
        table.retain(|_, c| *c != conn);
        self.len.store(table.len(), Ordering::Relaxed);
    }
}

/// A connection opened or closed.
pub fn connection(shard: &Rc<Shard>, conn: ConnId, _: SocketAddr, _: SocketId, open: bool) {
    if !open {
        shard.kernel.state::<Core>().aliases.forget(conn);
    }
}

/// Note the connection of the message under the address of its Via. False when it did not come over one.
pub fn note(ctx: &Ctx) -> bool {
    let Some(conn) = ctx.received.conn else { return false };
    let kernel = &ctx.shard.kernel;
    let Some(socket) = kernel.socket(ctx.received.socket) else { return false };
    let Some(port) = ctx.request().and_then(|r| r.via().ok().map(|v| v.port)) else { return false };
    let port = port.unwrap_or_else(|| socket.proto.default_port());
    let addr = SocketAddr::new(ctx.received.peer.ip(), port);
    kernel.state::<Core>().aliases.add(socket.proto, addr, conn)
}

/// With `tcp_accept_aliases`, a Via with the parameter `alias` does what `force_tcp_alias()` does.
pub fn accept(ctx: &Ctx) {
    if ctx.received.conn.is_some() && ctx.shard.kernel.settings.on("tcp_accept_aliases") {
        let asked = ctx.request().and_then(|r| r.via().ok().map(|v| v.params().get("alias").is_some()));
        if asked == Some(true) {
            note(ctx);
        }
    }
}

/// `force_tcp_alias([port])`
pub fn force_tcp_alias(c: &mut Call<'_>) -> Flow {
    if note(c.ctx) { TRUE } else { FALSE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_lives_as_long_as_its_connection() {
        let a = ConnectionAliases::default();
        let addr: SocketAddr = "192.0.2.1:5060".parse().unwrap();
        assert!(a.add(Proto::Tcp, addr, ConnId::new(0, 7)));
        assert_eq!(a.find(Proto::Tcp, addr), Some(ConnId::new(0, 7)));
        assert_eq!(a.find(Proto::Tls, addr), None);
        a.forget(ConnId::new(0, 7));
        assert_eq!(a.find(Proto::Tcp, addr), None);
    }
}
