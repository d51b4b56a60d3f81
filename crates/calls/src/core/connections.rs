//! The stream connections that are open: `tcp:list`, `tcp:close` and `E_CORE_TCP_DISCONNECT`.
//!
//! The sockets themselves are the driver's, which also bounds their number; here is only what a command shows of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::module::{CommandCall, CommandError, CommandResult};
use switchroom_kernel::ports::net::{ConnId, Proto, SocketId};
use switchroom_kernel::shard::Shard;
use switchroom_script::Value;

use super::commands::date;
use super::state::Core;

/// Raised when a connection is over.
pub(super) const DISCONNECT: &str = "E_CORE_TCP_DISCONNECT";

/// All open connections of the process.
#[derive(Default)]
pub struct Connections(Mutex<BTreeMap<u64, Open>>);

#[derive(Clone, Copy)]
struct Open {
    conn: ConnId,
    peer: SocketAddr,
    socket: SocketId,
    since: u64,
}

impl Connections {
    /// Whether a connection to this place is open.
    pub fn reaches(&self, peer: SocketAddr) -> bool {
        self.0.lock().values().any(|c| c.peer == peer)
    }
}

/// A connection opened or closed.
pub fn changed(shard: &Rc<Shard>, conn: ConnId, peer: SocketAddr, socket: SocketId, open: bool) {
    let kernel = &shard.kernel;
    let table = &kernel.state::<Core>().connections.0;
    if open {
        table.lock().insert(conn.0, Open { conn, peer, socket, since: kernel.unix() });
        return;
    }
    if table.lock().remove(&conn.0).is_none() {
        return;
    }
    let (Some(event), Some(own)) = (kernel.events.find(DISCONNECT), kernel.socket(socket)) else { return };
    let text = |t: String| Value::Str(t.into());
    let port = |a: SocketAddr| Value::Int(i64::from(a.port()));
    let values = vec![
        text(peer.ip().to_string()),
        port(peer),
        text(own.addr.ip().to_string()),
        port(own.addr),
        text(own.proto.name().to_owned()),
    ];
    kernel.events.raise(event, values, None);
}

/// `tcp:list [proto]`
pub(super) fn list(call: &CommandCall) -> CommandResult {
    let proto =
        match call.text("proto") {
            Some(name) => {
                let known = Proto::parse(&name).filter(|p| p.reliable());
                Some(known.ok_or_else(|| {
                    CommandError::args(format!("`{name}` is no transport with connections"))
                })?)
            }
            None => None,
        };
    let all: Vec<Open> = call.kernel.state::<Core>().connections.0.lock().values().copied().collect();
    let rows: Vec<Json> = all
        .iter()
        .filter_map(|c| {
            let own = call.kernel.socket(c.socket)?;
            proto.is_none_or(|p| p == own.proto).then(|| {
                json!({
                    "ID": c.conn.0,
                    "Type": own.proto.name(),
                    "State": "open",
                    "Source": c.peer.to_string(),
                    "Destination": own.addr.to_string(),
                    "Since": date(c.since),
                })
            })
        })
        .collect();
    Ok(json!({"Connections": rows}))
}

/// `tcp:close ip:port`, or the ID that `tcp:list` shows.
pub(super) fn close(call: &CommandCall) -> CommandResult {
    let wanted = call.text("ipport").unwrap_or_default();
    let place: Option<SocketAddr> = wanted.parse().ok();
    let id: Option<u64> = wanted.parse().ok();
    if place.is_none() && id.is_none() {
        return Err(CommandError::args(format!("`{wanted}` is neither ip:port nor the ID of a connection")));
    }
    let found: Vec<ConnId> = {
        let table = call.kernel.state::<Core>().connections.0.lock();
        table.values().filter(|c| Some(c.peer) == place || Some(c.conn.0) == id).map(|c| c.conn).collect()
    };
    if found.is_empty() {
        return Err(CommandError::new(404, format!("there is no connection {wanted}")));
    }
    if !found.iter().all(|conn| shut(&call.kernel, *conn)) {
        return Err(CommandError::new(500, "a worker takes no more orders"));
    }
    Ok(json!("OK"))
}

fn shut(kernel: &Kernel, conn: ConnId) -> bool {
    kernel.on_worker(conn.worker(), move |shard| shard.net.close(conn))
}
