//! Requests of our own: `t_new_request()`, the management command, and other modules.

use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_engine::proxy::{self, NewBranch};
use switchroom_engine::transaction::Timing;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, LateEdit, Received, TRUE, Target};
use switchroom_kernel::ports::net::SocketId;
use switchroom_kernel::run::run_route;
use switchroom_kernel::shard::Shard;
use switchroom_script::Value;
use switchroom_script::names::RouteType;
use switchroom_script::vm::Outcome;
use switchroom_wire::sip::request::Builder;
use switchroom_wire::sip::{Edits, Message, Method, NameAddr, Uri};

use super::relay::{Writing, relay_flags};
use super::routes;
use super::state::{Destination, Tm, Transactions, Tx, handle};
use super::step;
use crate::core::functions::target_uri;
use crate::core::locate::{Hop, Hops, Located, locate};
use crate::core::send;
use crate::core::state::{Core, push_hex};

/// A request to be made.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Method.
    pub method: Bytes,
    /// Request-URI.
    pub ruri: Bytes,
    /// Value of From; a tag is added when it has none.
    pub from: Bytes,
    /// Value of To.
    pub to: Bytes,
    /// Next hop, when it is not the Request-URI.
    pub next_hop: Option<Bytes>,
    /// More headers, whole lines.
    pub headers: Bytes,
    /// Content-Type and body.
    pub body: Option<(Bytes, Bytes)>,
    /// Socket to send from.
    pub socket: Option<SocketId>,
    /// Given Call-ID and CSeq; made up when missing.
    pub call_id: Option<Bytes>,
    /// CSeq number.
    pub cseq: Option<u32>,
    /// Put into an AVP for the local_route: name and value.
    pub avp: Option<(u32, Value)>,
    /// Milliseconds that an answer may take; `fr_timeout` when missing.
    pub timeout: Option<u32>,
}

/// Called with the final code and, when one was received, the reply.
pub type OnFinal = Rc<dyn Fn(&Rc<Shard>, u16, Option<&Message>)>;

/// Called when a 2xx comes again.
pub type OnAgain = Rc<dyn Fn(&Rc<Shard>)>;

/// Whom a request of our own concerns.
#[derive(Clone)]
struct Told {
    on_final: OnFinal,
    on_again: Option<OnAgain>,
}

/// Send a request of our own. `on_final` is called once: with what came back, or 408, 478, 477 made here.
pub fn request(shard: &Rc<Shard>, request: Request, on_final: OnFinal) {
    begin(shard, request, Told { on_final, on_again: None });
}

/// Send an INVITE of our own. `on_again` is called for each 2xx that comes again, since its sender has seen no ACK
/// (RFC 3261 §13.2.2.4).
pub fn invite(shard: &Rc<Shard>, request: Request, on_final: OnFinal, on_again: OnAgain) {
    begin(shard, request, Told { on_final, on_again: Some(on_again) });
}

fn begin(shard: &Rc<Shard>, request: Request, told: Told) {
    let target = request.next_hop.clone().unwrap_or_else(|| request.ruri.clone());
    let located = match Uri::parse(&target) {
        Ok(u) => locate(&shard.kernel, &u, None),
        Err(_) => Located::Now(Hops::new()),
    };
    match located {
        Located::Now(hops) => send_to(shard, request, hops, told),
        Located::Wait(future) => {
            let waits = told.clone();
            let started = shard.wait(async move {
                let hops = future.await;
                Box::new(move |shard: &Rc<Shard>| send_to(shard, request, hops, waits))
                    as switchroom_kernel::shard::AfterWait
            });
            if !started {
                (told.on_final)(shard, 503, None);
            }
        }
    }
}

/// Send the ACK to a 2xx that an INVITE of ours got: it belongs to no transaction (RFC 3261 §13.2.2.4). All parts of the
/// request are given.
pub fn ack(shard: &Rc<Shard>, r: Request) {
    let target = r.next_hop.clone().unwrap_or_else(|| r.ruri.clone());
    match Uri::parse(&target).map(|u| locate(&shard.kernel, &u, None)) {
        Ok(Located::Now(hops)) => ack_to(shard, &r, hops),
        Ok(Located::Wait(future)) => {
            shard.wait(async move {
                let hops = future.await;
                Box::new(move |shard: &Rc<Shard>| ack_to(shard, &r, hops))
                    as switchroom_kernel::shard::AfterWait
            });
        }
        Err(_) => {}
    }
}

fn ack_to(shard: &Rc<Shard>, r: &Request, hops: Hops) {
    let Some(hop) = hops.into_iter().next() else { return };
    let Some(id) = send::choose_socket(shard, r.socket, hop.proto, hop.addr) else { return };
    let Some(socket) = shard.kernel.socket(id) else { return };
    let mut branch = b"z9hG4bKa".to_vec();
    push_hex(shard.part::<Transactions>().random(), &mut branch);
    let line = send::via_line(socket, &(None, None), &branch, b"");
    let mut out = Vec::with_capacity(512);
    Builder {
        method: &r.method,
        ruri: &r.ruri,
        via: line.strip_prefix(b"Via: ").map(|l| l.trim_ascii_end()),
        from: &r.from,
        to: &r.to,
        call_id: r.call_id.as_deref().unwrap_or_default(),
        cseq: r.cseq.unwrap_or_default(),
        max_forwards: 70,
        headers: &r.headers,
        body: r.body.as_ref().map(|(t, b)| (&t[..], &b[..])),
    }
    .write(&mut out);
    shard.net.send(switchroom_kernel::ports::net::Outgoing {
        data: out.into(),
        socket: id,
        peer: hop.addr,
        conn: None,
        no_new_conn: false,
        token: 0,
    });
}

fn send_to(shard: &Rc<Shard>, r: Request, mut hops: Hops, told: Told) {
    if hops.is_empty() {
        return (told.on_final)(shard, 478, None);
    }
    let hop = hops.remove(0);
    let Some(socket) = send::choose_socket(shard, r.socket, hop.proto, hop.addr) else {
        return (told.on_final)(shard, 477, None);
    };
    let part = shard.part::<Transactions>();
    let core = shard.kernel.state::<Core>();
    let from = with_tag(&r.from, part.random());
    let call_id = r.call_id.clone().unwrap_or_else(|| {
        let mut id = Vec::with_capacity(32);
        push_hex(part.random(), &mut id);
        push_hex(part.random(), &mut id);
        id.into()
    });
    let mut headers = r.headers.to_vec();
    headers.extend_from_slice(&core.user_agent_header);
    let mut text = Vec::with_capacity(512);
    Builder {
        method: &r.method,
        ruri: &r.ruri,
        via: None,
        from: &from,
        to: &r.to,
        call_id: &call_id,
        cseq: r.cseq.unwrap_or(10),
        max_forwards: 70,
        headers: &headers,
        body: r.body.as_ref().map(|(t, b)| (&t[..], &b[..])),
    }
    .write(&mut text);
    // The parser wants a Via; ours is put on top when it is written.
    let Ok(msg) = parse_without_via(&text) else {
        tracing::error!("a request of our own cannot be parsed: {}", String::from_utf8_lossy(&text));
        return (told.on_final)(shard, 400, None);
    };
    let msg = Rc::new(msg);
    let received = Received { socket, peer: hop.addr, conn: None };
    let mut ctx = Ctx::new(shard.clone(), msg.clone(), received, RouteType::Local);
    ctx.edits.pop_via(&msg);
    if let Some((name, value)) = r.avp {
        ctx.avps.push(name, value);
    }
    let sending = Sending { hop, more: hops, socket, told, timeout: r.timeout };
    let program = shard.kernel.program.load_full();
    match program.find(RouteType::Local, None) {
        Some(route) => {
            ctx.add_note(sending);
            run_route(ctx, &program, route, local_routed);
        }
        None => start(ctx, sending),
    }
}

/// Where a request of our own goes while its local_route runs.
struct Sending {
    hop: Hop,
    more: Hops,
    socket: SocketId,
    told: Told,
    timeout: Option<u32>,
}

/// The local_route has ended.
fn local_routed(mut ctx: Box<Ctx>, _: Outcome) {
    let Some(sending) = ctx.take_note::<Sending>() else { return };
    if ctx.dropped {
        return (sending.told.on_final)(&ctx.shard.clone(), 477, None);
    }
    start(ctx, *sending);
}

fn start(mut ctx: Box<Ctx>, sending: Sending) {
    let Sending { hop, more, socket, told, timeout } = sending;
    let shard = &ctx.shard.clone();
    let tm = shard.kernel.state::<Tm>();
    let part = shard.part::<Transactions>();
    let invite = ctx.msg.method() == switchroom_wire::sip::Method::Invite;
    let settings = proxy::Settings {
        timing: Timing { fr: timeout.unwrap_or(tm.timing.fr), ..tm.timing },
        invite,
        local: true,
        reliable: hop.proto.reliable(),
        allow_after_6xx: tm.allow_after_6xx,
        multi_200: false,
    };
    let watchers = super::api::take_followers(&mut ctx);
    let tx = Tx {
        core: proxy::Transaction::new(settings),
        request: ctx.msg.clone(),
        received: ctx.received,
        edits: Some(Box::new(ctx.edits.clone())),
        late_edits: ctx.late_edits.clone(),
        target: Target::unchanged(),
        flags: ctx.flags,
        avps: std::mem::take(&mut ctx.avps),
        notes: ctx.take_notes(),
        force_rport: false,
        advertised: (None, None),
        on_failure: None,
        on_reply: None,
        on_branch: None,
        to_tag: Bytes::new(),
        own_headers: Bytes::new(),
        cancel_headers: Bytes::new(),
        watchers,
        reply_to: hop.addr,
        picked: None,
        local_last: false,
        local_any: false,
        on_final: Some(told.on_final.clone()),
        on_again: told.on_again,
    };
    let nonce = part.random() as u32;
    let Some(id) = part.table(|t| t.insert(b"", None, nonce, Box::new(tx))) else {
        return (told.on_final)(shard, 503, None);
    };
    shard.count(tm.stats.uac, 1);
    shard.count(tm.stats.in_use, 1);
    ctx.tx = Some(handle(id));
    let target = ctx.target.clone();
    let writing = Writing {
        msg: &ctx.msg,
        base: &ctx.edits,
        late: &ctx.late_edits,
        from: ctx.received.socket,
        advertised: &ctx.advertised,
        rport: false,
    };
    let Some(request) = writing.write(shard, id, &target, hop.proto, socket) else { return };
    routes::inspect(shard, tm.local_request_route.as_deref(), &request, ctx.received);
    let new = NewBranch {
        request,
        reliable: hop.proto.reliable(),
        minor: false,
        more_targets: !more.is_empty(),
        destination: Destination {
            target,
            hop,
            socket,
            conn: None,
            more: more.to_vec(),
            edits: None,
            on_reply: None,
            sends: 0,
        },
    };
    step(shard, id, |t, now, sink| {
        if let Err(e) = t.core.add_branch(now, new, sink) {
            tracing::error!("a request of our own was not sent: {e}");
        }
        t.core.route_done(now, sink);
    });
}

fn with_tag(from: &Bytes, random: u64) -> Bytes {
    if NameAddr::parse(from).is_ok_and(|n| n.tag().is_some()) {
        return from.clone();
    }
    let mut out = from.to_vec();
    if !out.contains(&b'<') {
        out.insert(0, b'<');
        out.push(b'>');
    }
    out.extend_from_slice(b";tag=");
    push_hex(random, &mut out);
    out.into()
}

fn parse_without_via(text: &[u8]) -> Result<Message, switchroom_wire::sip::ParseError> {
    let end = text.windows(2).position(|w| w == b"\r\n").map_or(text.len(), |at| at + 2);
    let mut whole = text[..end].to_vec();
    whole.extend_from_slice(b"Via: SIP/2.0/UDP 0.0.0.0;branch=z9hG4bKlocal\r\n");
    whole.extend_from_slice(&text[end..]);
    Message::parse(whole.into())
}

/// `t_new_request(method, ruri, from, to[, "type body"[, ctx]])`: from and to are `[display ]uri`.
pub(super) fn t_new_request(c: &mut Call<'_>) -> Flow {
    let text = |i: usize| c.str(i).cloned().unwrap_or_default();
    let address = |i: usize| {
        let t = text(i);
        match t.iter().rposition(|b| *b == b' ') {
            Some(at) if !t.contains(&b'<') => [&t[..at], b" <", &t[at + 1..], b">"].concat().into(),
            _ if t.contains(&b'<') => t,
            _ => Bytes::from([b"<", &t[..], b">"].concat()),
        }
    };
    let (method, ruri, from, to) = (text(0), text(1), address(2), address(3));
    if method.is_empty() || Uri::parse(&ruri).is_err() {
        tracing::error!("t_new_request(): \"{}\" is no URI", String::from_utf8_lossy(&ruri));
        return FALSE;
    }
    if NameAddr::parse(&from).is_err() || NameAddr::parse(&to).is_err() {
        tracing::error!("t_new_request(): From or To cannot be read");
        return FALSE;
    }
    let body = match c.str(4) {
        None => None,
        Some(b) => match b.iter().position(|b| *b == b' ') {
            Some(at) => Some((b.slice(..at), b.slice(at + 1..))),
            None => {
                tracing::error!("t_new_request(): a body begins with its content type and a space");
                return FALSE;
            }
        },
    };
    let shard = c.ctx.shard.clone();
    let names = &shard.kernel.registry.names;
    let avp = c.str(5).cloned().and_then(|v| Some((names.intern("uac_ctx").ok()?, Value::Str(v))));
    let socket = c.ctx.target.socket.or((!c.ctx.dummy).then_some(c.ctx.received.socket));
    let r = Request { method, ruri, from, to, body, socket, avp, ..Request::default() };
    request(&shard, r, Rc::new(|_, _, _| {}));
    TRUE
}

/// `t_replicate(uri[, flags])`: a copy of the request, as the script has changed it so far, goes to `uri` (and to the branches the
/// script added) in transactions of its own. What comes back is not passed on.
pub(super) fn t_replicate(c: &mut Call<'_>) -> Flow {
    let uri = c.str(0).cloned().unwrap_or_default();
    let no_failover = c.str(1).is_some() && relay_flags(&c.text(1)).no_dns_failover;
    let Some(first) = target_uri(&uri) else {
        tracing::error!("t_replicate(): \"{}\" is no URI", String::from_utf8_lossy(&uri));
        return FALSE;
    };
    let ctx = &mut *c.ctx;
    if matches!(ctx.msg.method(), Method::Ack | Method::Cancel) {
        tracing::error!("t_replicate(): ACK and CANCEL belong to another request and cannot be copied alone");
        return FALSE;
    }
    let mut targets: SmallVec<[Target; 2]> = SmallVec::new();
    targets.push(Target { dst: Some(first), ..ctx.target.clone() });
    targets.extend(ctx.branches.iter().cloned());
    for target in targets {
        let copy = Copy {
            msg: ctx.msg.clone(),
            received: ctx.received,
            edits: ctx.edits.clone(),
            late: ctx.late_edits.clone(),
            no_failover,
            target,
        };
        copy.send(&ctx.shard.clone());
    }
    TRUE
}

/// A copy of a received request on its way elsewhere.
struct Copy {
    msg: Rc<Message>,
    received: Received,
    edits: Edits,
    late: SmallVec<[LateEdit; 1]>,
    target: Target,
    no_failover: bool,
}

impl Copy {
    fn send(self, shard: &Rc<Shard>) {
        let to = self.target.dst.clone().or_else(|| self.target.uri.clone());
        let uri = to.unwrap_or_else(|| self.msg.slice(self.msg.ruri_bytes()));
        match Uri::parse(&uri).map(|u| locate(&shard.kernel, &u, None)) {
            Ok(Located::Now(hops)) => self.send_to(shard, hops),
            Ok(Located::Wait(future)) => {
                let started = shard.wait(async move {
                    let hops = future.await;
                    Box::new(move |shard: &Rc<Shard>| self.send_to(shard, hops))
                        as switchroom_kernel::shard::AfterWait
                });
                if !started {
                    tracing::error!("t_replicate(): too many requests are waiting; no copy was sent");
                }
            }
            Err(_) => tracing::error!("t_replicate(): \"{}\" is no URI", String::from_utf8_lossy(&uri)),
        }
    }

    fn send_to(self, shard: &Rc<Shard>, mut hops: Hops) {
        if hops.is_empty() {
            tracing::error!("t_replicate(): the destination cannot be resolved");
            return;
        }
        let hop = hops.remove(0);
        if self.no_failover {
            hops.clear();
        }
        let wanted = self.target.socket.or(Some(self.received.socket));
        let Some(socket) = send::choose_socket(shard, wanted, hop.proto, hop.addr) else {
            tracing::error!("t_replicate(): no socket reaches {}", hop.addr);
            return;
        };
        let mut ctx = Ctx::new(shard.clone(), self.msg, self.received, RouteType::Local);
        ctx.edits = self.edits;
        ctx.late_edits = self.late;
        ctx.target = self.target;
        start(
            ctx,
            Sending {
                hop,
                more: hops,
                socket,
                told: Told { on_final: Rc::new(|_, _, _| {}), on_again: None },
                timeout: None,
            },
        );
    }
}
