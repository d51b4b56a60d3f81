//! Sending: replies to their Via (RFC 3261 §18.2.2, RFC 3581), requests to a target, and which socket to use.

use std::net::SocketAddr;

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::ports::net::{ListenSocket, Outgoing, Proto, SocketId};
use switchroom_kernel::shard::Shard;
use switchroom_wire::sip::reply::{Reply, build};
use switchroom_wire::sip::{Edits, HeaderId, Message, Via, scan, serialise};

use super::branches;
use super::state::{Core, push_hex};

/// Headers that the script added for replies of our own (`append_to_reply()` and modules).
#[derive(Default)]
pub struct ReplyExtras {
    /// Whole lines with line ends.
    pub headers: Vec<u8>,
    /// Content-Type and body.
    pub body: Option<(Bytes, Bytes)>,
}

/// Write `received` and `rport` into the topmost Via where RFC 3261 §18.2.1 and RFC 3581 §4 ask for it.
pub fn stamp_received(ctx: &mut Ctx) {
    if ctx.msg.is_request() {
        let peer = ctx.received.peer;
        let msg = ctx.msg.clone();
        ctx.edits.stamp_via(&msg, peer.ip(), peer.port(), ctx.force_rport);
    }
}

/// Whether a Via names one of our sockets.
pub fn is_own_via(shard: &Shard, via: &Via<'_>) -> bool {
    let default = || {
        let proto = std::str::from_utf8(via.transport).ok().and_then(Proto::parse);
        proto.map_or(5060, Proto::default_port)
    };
    shard.kernel.is_myself(via.host, via.port.unwrap_or_else(default), None)
}

/// Where a reply to `request` goes, as its Via asks, when the connection it came over is not there any more or there is none
/// (RFC 3261 §18.2.2).
pub fn reply_address(request: &Message, peer: SocketAddr, proto: Proto, force_rport: bool) -> SocketAddr {
    let Ok(via) = request.via() else { return peer };
    if proto.reliable() {
        // Where to connect to when the connection that the request came over is gone.
        return SocketAddr::new(peer.ip(), via.port.unwrap_or(proto.default_port()));
    }
    if let Some(maddr) = via.params().value("maddr")
        && let Some(ip) = scan::ip_literal(maddr)
    {
        return SocketAddr::new(ip, via.port.unwrap_or(5060));
    }
    let wants_rport = !matches!(via.rport, switchroom_wire::sip::Rport::Absent);
    if force_rport || wants_rport {
        return peer;
    }
    SocketAddr::new(peer.ip(), via.port.unwrap_or(5060))
}

/// Build a reply of our own to the request in `ctx`, with everything the script added for replies.
pub fn build_reply(
    ctx: &mut Ctx,
    code: u16,
    reason: &[u8],
    to_tag: Option<&[u8]>,
    headers: &[u8],
    body: Option<(&[u8], &[u8])>,
) -> Option<Bytes> {
    let request = ctx.request()?.clone();
    let shard = ctx.shard.clone();
    let core = shard.kernel.state::<Core>();
    // They hold for every reply to this request; a 100 only says that it arrived.
    let extras = ctx.note::<ReplyExtras>().filter(|_| code != 100);
    let mut all = Vec::with_capacity(headers.len() + core.server_header.len() + 64);
    all.extend_from_slice(headers);
    if let Some(e) = extras {
        all.extend_from_slice(&e.headers);
    }
    all.extend_from_slice(&core.server_header);
    if core.warning
        && let Some(socket) = ctx.shard.kernel.socket(ctx.received.socket)
    {
        push_warning(ctx, socket, &mut all);
    }
    let own_body = extras.and_then(|e| e.body.as_ref()).map(|(t, b)| (&t[..], &b[..]));
    if (300..400).contains(&code)
        && let Some(line) = branches::redirect_line(ctx)
    {
        all.extend_from_slice(&line);
    }
    let peer = ctx.received.peer;
    let reply = Reply {
        code,
        reason,
        to_tag,
        source: Some((peer.ip(), peer.port())),
        force_rport: ctx.force_rport,
        headers: &all,
        body: body.or(own_body),
    };
    let mut out = Vec::with_capacity(512 + all.len());
    build(&request, &reply, &mut out);
    Some(out.into())
}

/// Answer the request in `ctx` without keeping state. False when it is no request that can be answered.
pub fn reply(
    ctx: &mut Ctx,
    code: u16,
    reason: &[u8],
    to_tag: Option<&[u8]>,
    headers: &[u8],
    body: Option<(&[u8], &[u8])>,
) -> bool {
    let tag;
    let to_tag = match to_tag {
        Some(t) => Some(t),
        None if code == 100 => None,
        None => {
            tag = stateless_tag(ctx);
            Some(&tag[..])
        }
    };
    let Some(data) = build_reply(ctx, code, reason, to_tag, headers, body) else { return false };
    send_reply_bytes(ctx, data)
}

/// Send the bytes of a reply the way the request in `ctx` asks for.
pub fn send_reply_bytes(ctx: &Ctx, data: Bytes) -> bool {
    let Some(request) = ctx.request() else { return false };
    let Some(socket) = ctx.shard.kernel.socket(ctx.received.socket) else { return false };
    let peer = reply_address(request, ctx.received.peer, socket.proto, ctx.force_rport);
    ctx.shard.net.send(Outgoing {
        data,
        socket: ctx.received.socket,
        peer,
        conn: ctx.received.conn,
        no_new_conn: ctx.flags & ctx.shard.kernel.state::<Core>().no_new_conn_reply != 0,
        token: 0,
    });
    true
}

/// To-tag of stateless replies: the same for each retransmission of a request, and recognisable in its ACK.
pub fn stateless_tag(ctx: &Ctx) -> Vec<u8> {
    let core = ctx.shard.kernel.state::<Core>();
    let Some(request) = ctx.request() else { return Vec::new() };
    tag_for(core, request)
}

/// The same, from the request alone.
pub fn tag_for(core: &Core, request: &Message) -> Vec<u8> {
    let from_tag = request.from().ok().and_then(|f| f.tag()).unwrap_or_default();
    tag_of(core, request.call_id(), from_tag, request.cseq().map_or(0, |c| c.0))
}

/// The same from what it is made of.
pub fn tag_of(core: &Core, call_id: &[u8], from_tag: &[u8], cseq: u32) -> Vec<u8> {
    let hash = core.digest(&[call_id, from_tag, &cseq.to_be_bytes()]);
    let mut tag = Vec::with_capacity(19);
    tag.extend_from_slice(b"sl-");
    push_hex(hash, &mut tag);
    tag
}

/// Send the reply in `ctx` on to the Via below ours, edits included. `token` comes back when it fails.
pub fn reply_by_via(ctx: &mut Ctx, token: u64) -> bool {
    let msg = ctx.msg.clone();
    let Some(Ok(next)) = msg.vias_below().next() else { return false };
    let Some((socket, peer)) = via_target(ctx, &next) else { return false };
    let mut strip = Edits::new();
    strip.pop_via(&msg);
    let mut out = Vec::new();
    serialise(&msg, &[&ctx.edits, &strip], &mut out);
    ctx.shard.net.send(Outgoing { data: out.into(), socket, peer, conn: None, no_new_conn: false, token });
    true
}

fn via_target(ctx: &Ctx, via: &Via<'_>) -> Option<(SocketId, SocketAddr)> {
    let proto = std::str::from_utf8(via.transport).ok().and_then(Proto::parse)?;
    let host = via.received.or_else(|| via.params().value("maddr")).unwrap_or_else(|| via.host_bare());
    let ip = scan::ip_literal(host)?;
    let port = match via.rport {
        switchroom_wire::sip::Rport::Value(port) => port,
        _ => via.port.unwrap_or(proto.default_port()),
    };
    let peer = SocketAddr::new(ip, port);
    let socket = choose_socket(&ctx.shard, Some(ctx.received.socket), proto, peer)?;
    Some((socket, peer))
}

/// `Warning: 392 ...` (RFC 3261 §20.43), for those who look at traces.
fn push_warning(ctx: &Ctx, socket: &ListenSocket, out: &mut Vec<u8>) {
    let text = format!(
        "Warning: 392 {} \"source {} uri {}\"\r\n",
        socket.addr,
        ctx.received.peer,
        String::from_utf8_lossy(&ctx.ruri()).replace(['"', '\\'], "?")
    );
    out.extend_from_slice(text.as_bytes());
}

/// The socket that a request leaves from: one that was chosen, else by the routes of the system when `mhomed` is on, else
/// the one that it came in on when that fits.
pub fn outgoing_socket(
    shard: &Shard,
    chosen: Option<SocketId>,
    received: SocketId,
    proto: Proto,
    peer: SocketAddr,
) -> Option<SocketId> {
    let core = shard.kernel.state::<Core>();
    if core.multihomed
        && chosen.is_none()
        && let Some(ip) = shard.net.source_for(peer)
    {
        let here = |s: &&ListenSocket| s.proto == proto && s.addr.ip() == ip;
        let mut fitting = shard.kernel.sockets().iter().filter(here);
        let same = |s: &&ListenSocket| s.id == received;
        if let Some(s) = fitting.clone().find(same).or_else(|| fitting.next()) {
            return Some(s.id);
        }
    }
    choose_socket(shard, chosen.or(Some(received)), proto, peer)
}

/// The socket to reach `peer` over `proto`: the wanted one when it fits, else the first of that transport and family.
pub fn choose_socket(
    shard: &Shard,
    wanted: Option<SocketId>,
    proto: Proto,
    peer: SocketAddr,
) -> Option<SocketId> {
    let fits = |s: &ListenSocket| s.proto == proto && s.addr.is_ipv4() == peer.is_ipv4();
    // A socket on loopback reaches only loopback, and one elsewhere should not be used for it when there is a better one.
    let near = |s: &ListenSocket| s.addr.ip().is_loopback() == peer.ip().is_loopback();
    let sockets = shard.kernel.sockets();
    if let Some(s) = wanted.and_then(|id| shard.kernel.socket(id))
        && fits(s)
    {
        return Some(s.id);
    }
    let port = wanted.and_then(|id| shard.kernel.socket(id)).map(|s| s.addr);
    let same_ip = |s: &ListenSocket| port.is_some_and(|a| a.ip() == s.addr.ip());
    let best = sockets.iter().filter(|s| fits(s));
    best.max_by_key(|s| (same_ip(s), near(s), std::cmp::Reverse(s.id.0))).map(|s| s.id)
}

/// A header line while it is written.
pub type Line = SmallVec<[u8; 192]>;

/// Our Via line for a request that leaves from `socket`: `Via: SIP/2.0/UDP host:port;branch=...\r\n`.
pub fn via_line(
    socket: &ListenSocket,
    advertised: &(Option<Bytes>, Option<Bytes>),
    branch: &[u8],
    params: &[u8],
) -> Bytes {
    let mut line: Line = SmallVec::new();
    line.extend_from_slice(b"Via: SIP/2.0/");
    line.extend_from_slice(socket.proto.via_name().as_bytes());
    line.push(b' ');
    push_host_port(socket, advertised, &mut line);
    line.extend_from_slice(b";branch=");
    line.extend_from_slice(branch);
    line.extend_from_slice(params);
    line.extend_from_slice(b"\r\n");
    Bytes::copy_from_slice(&line)
}

/// `host:port` that the world knows a socket by; the script's own choice first.
pub fn push_host_port(socket: &ListenSocket, advertised: &(Option<Bytes>, Option<Bytes>), out: &mut Line) {
    match &advertised.0 {
        Some(host) => out.extend_from_slice(host),
        None => match (&socket.advertised, socket.addr) {
            (Some((host, _)), _) => out.extend_from_slice(host.as_bytes()),
            (None, SocketAddr::V4(a)) => push_ipv4(a.ip().octets(), out),
            (None, SocketAddr::V6(_)) => out.extend_from_slice(socket.via_host().as_bytes()),
        },
    }
    out.push(b':');
    match &advertised.1 {
        Some(port) => out.extend_from_slice(port),
        None => out.extend_from_slice(itoa::Buffer::new().format(socket.via_port()).as_bytes()),
    }
}

fn push_ipv4(octets: [u8; 4], out: &mut Line) {
    for (i, o) in octets.into_iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(itoa::Buffer::new().format(o).as_bytes());
    }
}

/// Add the Route headers that a Path value of the location asks for (RFC 3327), below those pushed already.
pub fn push_path(msg: &Message, edits: &mut Edits, path: &Bytes) {
    let mut line = Vec::with_capacity(path.len() + 10);
    line.extend_from_slice(b"Route: ");
    line.extend_from_slice(path);
    line.extend_from_slice(b"\r\n");
    edits.push_route(msg, line.into());
}

/// First URI of a Path value: the next hop.
pub fn first_path_uri(path: &[u8]) -> Option<&[u8]> {
    let first = scan::commas(path).next()?;
    switchroom_wire::sip::NameAddr::parse(first).ok().map(|n| n.uri)
}

/// Whether a request carries a Route header that no `loose_route()` took off.
pub fn has_route(msg: &Message) -> bool {
    msg.header(HeaderId::Route).is_some()
}
