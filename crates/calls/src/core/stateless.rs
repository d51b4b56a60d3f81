//! Requests sent on without state (RFC 3261 §16.11): those that a script forwards, and the ACK to a 2xx, which belongs to no
//! transaction.

use switchroom_kernel::context::{Ctx, Leaving};
use switchroom_kernel::ports::net::Outgoing;
use switchroom_wire::sip::{Edits, serialise};

use super::locate::Hops;
use super::send;
use super::state::{Core, push_hex};

/// Why a request was not sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// It leads nowhere, or where it must not go.
    NoHop,
    /// No socket reaches the next hop.
    NoSocket,
}

/// Send the request in `ctx`, as the script has changed it, to the first of `hops` that is allowed.
pub fn send_on(ctx: &mut Ctx, mut hops: Hops) -> Result<(), Unsent> {
    let shard = ctx.shard.clone();
    let core = shard.kernel.state::<Core>();
    core.blacklists.filter(ctx, &mut hops);
    let Some(hop) = hops.first() else {
        shard.count(core.stats.err_requests, 1);
        return Err(Unsent::NoHop);
    };
    if ctx.received.conn.is_some() && !ctx.force_rport {
        // Nothing is kept, so the Via has to say which connection the answer belongs on.
        ctx.force_rport = true;
        send::stamp_received(ctx);
    }
    let received = ctx.received.socket;
    let id = send::outgoing_socket(&shard, ctx.target.socket, received, hop.proto, hop.addr)
        .ok_or(Unsent::NoSocket)?;
    let socket = shard.kernel.socket(id).ok_or(Unsent::NoSocket)?;
    let msg = ctx.msg.clone();
    // The branch must be the same for a retransmission and its CANCEL.
    let top = msg.via().ok();
    let key = match top.as_ref().filter(|v| v.has_magic_cookie()).and_then(|v| v.branch) {
        Some(branch) => core.digest(&[branch]),
        None => core.digest(&[msg.call_id(), msg.ruri_bytes(), &msg.cseq().map_or(0, |c| c.0).to_be_bytes()]),
    };
    let mut branch = Vec::with_capacity(26);
    branch.extend_from_slice(b"z9hG4bKsl");
    push_hex(key, &mut branch);
    let mut layer = Edits::new();
    layer.push_via(&msg, send::via_line(socket, &ctx.advertised, &branch, b""));
    if let Some(uri) = &ctx.target.uri {
        layer.set_ruri(uri.clone());
    }
    if let Some(path) = &ctx.target.path {
        send::push_path(&msg, &mut layer, path);
    }
    let leaving = Leaving {
        kernel: &shard.kernel,
        msg: &msg,
        from: ctx.received.socket,
        to: id,
        advertised: &ctx.advertised,
    };
    for late in &ctx.late_edits {
        late(&leaving, &mut layer);
    }
    let mut out = Vec::new();
    serialise(&msg, &[&ctx.edits, &layer], &mut out);
    let conn = ctx.target.conn.or_else(|| core.aliases.find(hop.proto, hop.addr));
    shard.net.send(Outgoing {
        data: out.into(),
        socket: id,
        peer: hop.addr,
        conn,
        no_new_conn: false,
        token: 0,
    });
    shard.count(core.stats.fwd_requests, 1);
    Ok(())
}
