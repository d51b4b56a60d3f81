//! What comes back: replies matched to their branch, routes run on them, and everything the machines ask for done.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use switchroom_engine::proxy::Output;
use switchroom_engine::transaction::{BranchId, Id, key};
use switchroom_kernel::context::Ctx;
use switchroom_kernel::module::Hooked;
use switchroom_kernel::ports::net::{Outgoing, SendError};
use switchroom_kernel::run::run_route;
use switchroom_kernel::shard::Shard;
use switchroom_script::names::RouteType;
use switchroom_script::vm::Outcome;
use switchroom_wire::sip::{Edits, HeaderId, Message, Method, Via, serialise};

use super::state::{Armed, Reply, Tm, Transactions, Tx, TxEvent, handle, id};
use super::{api, relay, routes, step};
use crate::core::state::Core;

/// Before any script: a retransmission gets the last reply again, and an ACK to a negative reply ends here.
pub(super) fn absorb(ctx: &mut Ctx) -> Hooked {
    let shard = ctx.shard.clone();
    let part = shard.part::<Transactions>();
    if part.table(|t| t.is_empty()) {
        return Hooked::Continue;
    }
    let Some(server_key) = key::server(&ctx.msg) else { return Hooked::Continue };
    let Some(known) = part.table(|t| t.find_key(&server_key)) else { return Hooked::Continue };
    if ctx.msg.method() == Method::Ack {
        let negative = part.with(known, |tx| tx.core.last_code() >= 300).unwrap_or(false);
        if !negative {
            return Hooked::Continue;
        }
        step(&shard, known, |tx, now, sink| tx.core.ack(now, sink));
        return Hooked::Consumed;
    }
    step(&shard, known, |tx, now, sink| tx.core.retransmission(now, sink));
    Hooked::Consumed
}

/// Whether there is a transaction of a request with this method and Via.
pub(super) fn is_known(shard: &Shard, method: &[u8], via: &Via<'_>) -> bool {
    let key = key::server_of(method, via);
    key.is_some_and(|k| shard.part::<Transactions>().table(|t| t.find_key(&k)).is_some())
}

/// A reply: taken when one of our branches sent its request.
pub(super) fn take(mut ctx: Box<Ctx>) -> Option<Box<Ctx>> {
    let shard = ctx.shard.clone();
    let part = shard.part::<Transactions>();
    let tm = shard.kernel.state::<Tm>();
    let msg = ctx.msg.clone();
    let branch = msg.via().ok().and_then(|v| v.branch).and_then(BranchId::decode);
    let found = branch.and_then(|b| part.table(|t| t.find_branch(&b)).map(|id| (id, usize::from(b.branch))));
    let Some((tx, index)) = found else { return Some(ctx) };
    shard.count(tm.stats.received, 1);
    let reply = Reply { msg, edits: None };
    let mut sink = part.sink();
    let now = shard.now();
    part.with(tx, |t| t.core.receive(now, index, &reply, &mut sink));
    let mut fresh = None;
    sink.retain_mut(|output| match output {
        Output::Reply { branch, code } => {
            fresh = Some((*branch, *code));
            false
        }
        _ => true,
    });
    obey(&shard, tx, &mut sink);
    part.give_back(sink);
    part.schedule(tx, now);
    let Some((index, _)) = fresh else {
        if reply.msg.status() >= 200 {
            shard.count(tm.stats.replies_again, 1);
        }
        return None;
    };
    ctx.tx = Some(handle(tx));
    ctx.branch = Some(index as u16);
    let routes = part.with(tx, |t| {
        ctx.other = Some(t.request.clone());
        ctx.flags = t.flags;
        if tm.onreply_avps {
            ctx.avps = std::mem::take(&mut t.avps);
        }
        let b = t.core.branches().get(index);
        let of_branch = b.and_then(|b| b.destination.on_reply.clone());
        if let Some(b) = b {
            ctx.target.flags = b.destination.target.flags;
        }
        (of_branch, t.on_reply.clone())
    });
    match routes.unwrap_or_default() {
        (Some(first), _) => run_armed(ctx, &first, branch_routed),
        (None, Some(only)) => run_armed(ctx, &only, routed),
        (None, None) => routed_now(ctx),
    }
    None
}

fn run_armed(ctx: Box<Ctx>, armed: &Armed, then: fn(Box<Ctx>, Outcome)) {
    run_route(ctx, &armed.program, armed.route, then);
}

/// The branch's own route has run; then comes that of the transaction.
fn branch_routed(ctx: Box<Ctx>, outcome: Outcome) {
    let Some(tx) = ctx.tx else { return };
    let shard = ctx.shard.clone();
    let next = shard.part::<Transactions>().with(id(tx), |t| t.on_reply.clone()).flatten();
    match next {
        Some(armed) if !ctx.dropped => run_armed(ctx, &armed, routed),
        _ => routed(ctx, outcome),
    }
}

fn routed(ctx: Box<Ctx>, _: Outcome) {
    routed_now(ctx);
}

/// All routes of a reply have run: the proxy core decides.
fn routed_now(mut ctx: Box<Ctx>) {
    let (Some(tx), Some(index)) = (ctx.tx, ctx.branch) else { return };
    let shard = ctx.shard.clone();
    let tm = shard.kernel.state::<Tm>();
    let tx = id(tx);
    let index = usize::from(index);
    let known = shard.part::<Transactions>().with(tx, |t| {
        t.flags = ctx.flags;
        if tm.onreply_avps {
            t.avps = std::mem::take(&mut ctx.avps);
        }
        if let Some(b) = t.core.branch_mut(index) {
            b.destination.target.flags = ctx.target.flags;
        }
    });
    let code = ctx.msg.status();
    if known.is_none() || (ctx.dropped && code < 200) {
        return;
    }
    let edits = (!ctx.edits.is_empty()).then(|| Box::new(std::mem::take(&mut ctx.edits)));
    let reply = Reply { msg: ctx.msg.clone(), edits };
    if code == 100 && tm.pass_100 {
        relay_reply(&shard, tx, index, code, reply);
        return;
    }
    step(&shard, tx, |t, now, sink| t.core.process(now, index, reply, sink));
    if code >= 200 {
        shard.part::<Transactions>().lighten(tx);
    }
}

/// Do what the machines say.
pub(super) fn obey(shard: &Rc<Shard>, tx: Id, sink: &mut Vec<Output<Reply>>) {
    for output in sink.drain(..) {
        match output {
            Output::SendRequest { branch } => send_request(shard, tx, branch),
            Output::SendHopByHop { branch, bytes } => {
                let bytes = with_own_headers(shard, tx, bytes);
                send_to_branch(shard, tx, branch, bytes, 0);
            }
            Output::SendReply { bytes } => send_reply(shard, tx, bytes),
            // Taken out before, where the reply is at hand.
            Output::Reply { .. } => {}
            Output::Relay { branch, code, reply } => relay_reply(shard, tx, branch, code, reply),
            Output::Generate { code } => generate(shard, tx, code),
            Output::AllFailed { branch, code } => all_failed(shard, tx, branch, code),
            Output::NextTarget { branch } => relay::next_target(shard, tx, branch),
            Output::NoAck => tracing::debug!("a final reply was never acknowledged"),
            Output::Done => done(shard, tx),
        }
    }
}

/// Identifies a branch's request, or with [`REPLY`] the reply, of a transaction when a send fails. Branches count from 1 in
/// it, since 0 is what those send with who do not want to know.
fn token(tx: Id, branch: usize) -> u64 {
    (u64::from(tx.slot) << 32) | (u64::from(tx.generation & 0xff_ffff) << 8) | (branch as u64 + 1)
}

const REPLY: usize = 0xfe;

/// The driver could not send something of ours.
pub(super) fn send_failed(shard: &Rc<Shard>, token: u64, error: SendError) {
    if token == 0 {
        return;
    }
    let part = shard.part::<Transactions>();
    let slot = (token >> 32) as u32;
    let Some(tx) = part.table(|t| t.id_at(slot)) else { return };
    if u64::from(tx.generation & 0xff_ffff) != (token >> 8) & 0xff_ffff {
        return;
    }
    tracing::debug!("a send failed: {error:?}");
    let Some(index) = ((token & 0xff) as usize).checked_sub(1) else { return };
    match index {
        REPLY => step(shard, tx, |t, now, sink| t.core.reply_transport_error(now, sink)),
        branch => step(shard, tx, |t, now, sink| t.core.transport_error(now, branch, sink)),
    }
}

fn send_request(shard: &Rc<Shard>, tx: Id, branch: usize) {
    let tm = shard.kernel.state::<Tm>();
    let again = shard.part::<Transactions>().with(tx, |t| {
        let b = t.core.branch_mut(branch)?;
        let sends = b.destination.sends;
        b.destination.sends = sends.saturating_add(1);
        Some((sends, b.request().clone()))
    });
    let Some((sends, bytes)) = again.flatten() else { return };
    if sends > 0 {
        shard.count(tm.stats.retransmitted[usize::from(sends - 1).min(3)], 1);
    }
    send_to_branch(shard, tx, branch, bytes, token(tx, branch));
}

/// An ACK or CANCEL with the headers that the script adds to all requests of its transaction.
fn with_own_headers(shard: &Shard, tx: Id, bytes: Bytes) -> Bytes {
    const END: &[u8] = b"Content-Length: 0\r\n\r\n";
    let headers = shard.part::<Transactions>().with(tx, |t| t.own_headers.clone()).unwrap_or_default();
    match bytes.strip_suffix(END) {
        Some(front) if !headers.is_empty() => [front, &headers, END].concat().into(),
        _ => bytes,
    }
}

fn send_to_branch(shard: &Rc<Shard>, tx: Id, branch: usize, data: Bytes, token: u64) {
    let to = shard.part::<Transactions>().with(tx, |t| {
        let d = &t.core.branches().get(branch)?.destination;
        Some((d.socket, d.hop.addr, d.conn, d.target.flags))
    });
    let Some((socket, peer, conn, flags)) = to.flatten() else { return };
    note_sent_to(shard, tx, &data, peer, Some(branch));
    let again = || {
        let proto = shard.kernel.socket(socket).filter(|s| s.proto.reliable())?.proto;
        shard.kernel.state::<Core>().aliases.find(proto, peer)
    };
    let conn = conn.or_else(again);
    let no_new_conn = flags & shard.kernel.state::<Core>().no_new_conn_branch != 0;
    shard.net.send(Outgoing { data, socket, peer, conn, no_new_conn, token });
}

fn send_reply(shard: &Rc<Shard>, tx: Id, data: Bytes) {
    let to = shard.part::<Transactions>().with(tx, |t| (t.received, t.reply_to, t.flags));
    let Some((received, peer, flags)) = to else { return };
    note_sent_to(shard, tx, &data, peer, None);
    shard.net.send(Outgoing {
        data,
        socket: received.socket,
        peer,
        conn: received.conn,
        no_new_conn: flags & shard.kernel.state::<Core>().no_new_conn_reply != 0,
        token: token(tx, REPLY),
    });
}

/// A line of the call's story.
fn note_sent_to(shard: &Shard, tx: Id, data: &[u8], peer: std::net::SocketAddr, branch: Option<usize>) {
    if !shard.kernel.trace.on() {
        return;
    }
    let request = shard.part::<Transactions>().with(tx, |t| t.request.clone());
    let Some(request) = request else { return };
    shard.kernel.note_call(Some(shard.worker), request.call_id(), "sent", || {
        let line = data.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        match branch {
            Some(branch) => format!("{line} to {peer} (branch {branch})"),
            None => format!("{line} to {peer}"),
        }
    });
}

/// Write a received reply without our Via and send it upstream.
fn relay_reply(shard: &Rc<Shard>, tx: Id, branch: usize, code: u16, reply: Reply) {
    let tm = shard.kernel.state::<Tm>();
    let reason = reply.msg.reason();
    let received = code;
    // That one server is busy does not mean that all who could be reached through us are (RFC 3261 §16.7 step 6).
    let code = if code == 503 && tm.translate_503 && !is_local(shard, tx) { 500 } else { code };
    tell(shard, tx, &TxEvent::Sending { code, reason, relayed: Some(&reply.msg), branch: Some(branch) });
    let mut layer = Edits::new();
    layer.pop_via(&reply.msg);
    if code != received {
        layer.set_status(code, reason);
    }
    if let Some(edit) = api::reply_edit(shard, tx) {
        edit(&reply.msg, &mut layer);
    }
    if matches!(code, 401 | 407) {
        add_challenges(shard, tx, branch, &reply.msg, &mut layer);
    }
    let mut out = Vec::new();
    match &reply.edits {
        Some(own) => serialise(&reply.msg, &[own, &layer], &mut out),
        None => serialise(&reply.msg, &[&layer], &mut out),
    }
    count_final(shard, code);
    shard.count(tm.stats.relayed, 1);
    let final_of_ours = note_sent(shard, tx, code, false);
    let again = match (&final_of_ours, code) {
        (None, 200..=299) => shard.part::<Transactions>().with(tx, |t| t.on_again.clone()).flatten(),
        _ => None,
    };
    step(shard, tx, |t, now, sink| t.core.send(now, code, out.into(), sink));
    if let Some(call) = final_of_ours {
        call(shard, code, Some(&reply.msg));
    }
    if let Some(again) = again {
        again(shard);
    }
}

/// The challenges of the other branches go with the one that won (RFC 3261 §16.7 step 7).
fn add_challenges(shard: &Rc<Shard>, tx: Id, winner: usize, own: &Message, layer: &mut Edits) {
    let others = shard.part::<Transactions>().with(tx, |t| {
        let mut lines = Vec::new();
        let step = t.core.step();
        for (i, b) in t.core.branches().iter().enumerate().skip(step) {
            if i == winner || !matches!(b.final_code(), Some(401 | 407)) {
                continue;
            }
            if let Some(r) = b.reply() {
                for id in [HeaderId::WwwAuthenticate, HeaderId::ProxyAuthenticate] {
                    lines.extend(r.msg.headers_of(id).map(|h| r.msg.slice(h.line)));
                }
            }
        }
        lines
    });
    for line in others.unwrap_or_default() {
        if !own.headers().any(|h| h.line == &line[..]) {
            layer.append_header(line);
        }
    }
}

type OnFinal = Rc<dyn Fn(&Rc<Shard>, u16, Option<&Message>)>;

fn note_sent(shard: &Rc<Shard>, tx: Id, code: u16, local: bool) -> Option<OnFinal> {
    shard
        .part::<Transactions>()
        .with(tx, |t| {
            t.local_last = local;
            t.local_any |= local;
            if code >= 200 { t.on_final.take() } else { None }
        })
        .flatten()
}

fn count_final(shard: &Rc<Shard>, code: u16) {
    let tm = shard.kernel.state::<Tm>();
    if (200..700).contains(&code) {
        shard.count(tm.stats.by_class[usize::from(code / 100 - 2)], 1);
    }
}

/// No received reply won: make one.
fn generate(shard: &Rc<Shard>, tx: Id, code: u16) {
    let Some(mut ctx) = context(shard, tx, RouteType::Failure) else { return };
    if is_local(shard, tx) {
        let call = note_sent(shard, tx, code, true);
        step(shard, tx, |t, now, sink| t.core.send(now, code, Bytes::new(), sink));
        if let Some(call) = call {
            call(shard, code, None);
        }
        return;
    }
    let reason = switchroom_wire::sip::reply::phrase(code);
    api::reply(&mut ctx, code, reason.as_bytes(), &[], None);
}

/// Whether the request is our own.
fn is_local(shard: &Shard, tx: Id) -> bool {
    shard.part::<Transactions>().with(tx, |t| t.core.settings().local).unwrap_or(false)
}

/// A final reply of our own goes out.
pub(super) fn send_local(ctx: &mut Ctx, tx: Id, code: u16, bytes: Bytes) {
    let shard = ctx.shard.clone();
    let tm = shard.kernel.state::<Tm>();
    // The context at hand is newer than what is stored with the transaction.
    let watchers = shard.part::<Transactions>().with(tx, |t| t.watchers.clone()).unwrap_or_default();
    let reason = reason_of(&bytes);
    for w in watchers {
        w.event(ctx, &TxEvent::Sending { code, reason, relayed: None, branch: None });
    }
    count_final(&shard, code);
    shard.count(tm.stats.local, 1);
    note_sent(&shard, tx, code, true);
    routes::inspect(&shard, tm.local_reply_route.as_deref(), &bytes, ctx.received);
    step(&shard, tx, |t, now, sink| t.core.send(now, code, bytes, sink));
}

/// Reason phrase in the text of a reply: `SIP/2.0 404 Not Found`.
fn reason_of(text: &[u8]) -> &[u8] {
    let line = text.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    line.splitn(3, |b| *b == b' ').nth(2).unwrap_or_default()
}

fn all_failed(shard: &Rc<Shard>, tx: Id, branch: Option<usize>, code: u16) {
    let part = shard.part::<Transactions>();
    let tm = shard.kernel.state::<Tm>();
    let found = part.with(tx, |t| {
        t.picked = Some((branch, code));
        let b = branch.and_then(|b| t.core.branches().get(b));
        let reply = b.and_then(|b| b.reply()).map(|r| r.msg.clone());
        if let Some(b) = b.filter(|b| b.is_local() && b.final_code() == Some(408)) {
            let rang = usize::from(t.core.settings().invite && b.last_code() != 408);
            shard.count(tm.stats.timeouts[rang], 1);
        }
        // A failure route is disarmed when it is entered; it may arm another.
        (t.on_failure.take(), reply)
    });
    let Some((armed, reply)) = found else { return };
    tell(shard, tx, &TxEvent::Failed { code, reply: reply.as_deref(), branch });
    let Some(armed) = armed else {
        step(shard, tx, |t, now, sink| t.core.route_done(now, sink));
        return;
    };
    let Some(mut ctx) = context(shard, tx, RouteType::Failure) else { return };
    ctx.other = reply;
    ctx.picked_code = code;
    ctx.branch = branch.map(|b| b as u16);
    part.with(tx, |t| {
        if let Some(b) = branch.and_then(|b| t.core.branches().get(b)) {
            let winner = &b.destination.target;
            ctx.target.uri = winner.uri.clone().or(ctx.target.uri.take());
            ctx.target.flags = winner.flags;
            ctx.target.attrs = winner.attrs.clone();
            ctx.target.q = winner.q;
            // Also where it went: to relay again, say with credentials, is to try the same place.
            ctx.target.dst = winner.dst.clone();
            ctx.target.path = winner.path.clone();
            ctx.target.socket = winner.socket;
        }
    });
    ctx.target.conn = None;
    run_route(ctx, &armed.program, armed.route, failure_done);
}

fn failure_done(mut ctx: Box<Ctx>, _: Outcome) {
    let Some(tx) = ctx.tx else { return };
    let shard = ctx.shard.clone();
    relay::store(&mut ctx, id(tx), true);
    step(&shard, id(tx), |t, now, sink| t.core.route_done(now, sink));
}

/// The stored half of a transaction as a context; what was stored is taken and must be put back with [`relay::store`],
/// unless the context is only looked at.
pub(super) fn context(shard: &Rc<Shard>, tx: Id, route: RouteType) -> Option<Box<Ctx>> {
    shard.part::<Transactions>().with(tx, |t| {
        let mut ctx = Ctx::new(shard.clone(), t.request.clone(), t.received, route);
        ctx.tx = Some(handle(tx));
        fill(&mut ctx, t, true);
        ctx
    })
}

fn fill(ctx: &mut Ctx, t: &mut Tx, take: bool) {
    if take && ctx.route == RouteType::Failure {
        ctx.avps = t.avps.clone();
        ctx.edits = t.edits.as_deref().cloned().unwrap_or_default();
        ctx.late_edits = t.late_edits.clone();
        ctx.target = t.target.clone();
        ctx.advertised = t.advertised.clone();
        ctx.put_notes(std::mem::take(&mut t.notes));
    }
    ctx.flags = t.flags;
    ctx.force_rport = t.force_rport;
}

/// Tell the followers of a transaction. They see its request, flags, AVPs and notes; changes are
/// kept.
pub(super) fn tell(shard: &Rc<Shard>, tx: Id, event: &TxEvent<'_>) {
    let part = shard.part::<Transactions>();
    let watchers = part.with(tx, |t| t.watchers.clone());
    let Some(watchers) = watchers.filter(|w| !w.is_empty()) else { return };
    let made = part.with(tx, |t| {
        let mut ctx = Ctx::new(shard.clone(), t.request.clone(), t.received, RouteType::Failure);
        ctx.tx = Some(handle(tx));
        ctx.flags = t.flags;
        ctx.avps = std::mem::take(&mut t.avps);
        ctx.target = t.target.clone();
        ctx.force_rport = t.force_rport;
        ctx.put_notes(std::mem::take(&mut t.notes));
        ctx
    });
    let Some(mut ctx) = made else { return };
    for w in watchers {
        w.event(&mut ctx, event);
    }
    part.with(tx, |t| {
        t.flags = ctx.flags;
        t.avps = std::mem::take(&mut ctx.avps);
        t.notes = ctx.take_notes();
    });
}

fn done(shard: &Rc<Shard>, tx: Id) {
    let tm = shard.kernel.state::<Tm>();
    tell(shard, tx, &TxEvent::Over);
    let part = shard.part::<Transactions>();
    part.unschedule(tx);
    let removed = part.table(|t| t.remove(tx));
    if removed.is_some() {
        shard.count(tm.stats.in_use, -1);
    }
}

/// Deadlines have come.
pub(super) fn tick(shard: &Rc<Shard>, now: Instant) {
    for tx in shard.part::<Transactions>().due(now) {
        step(shard, tx, |t, now, sink| t.core.timer(now, sink));
    }
}
