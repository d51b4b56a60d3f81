//! Sending requests on: making the transaction, running branch routes, finding out where branches go, writing them.

use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_engine::proxy::{self, AddError, NewBranch};
use switchroom_engine::transaction::{BranchId, Id, key};
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, LateEdit, Leaving, TRUE, Target, wait};
use switchroom_kernel::ports::net::{BoxFuture, Proto, SocketId};
use switchroom_kernel::run::run_within;
use switchroom_kernel::shard::Shard;
use switchroom_script::names::RouteType;
use switchroom_script::vm::Frame;
use switchroom_wire::sip::{Edits, HeaderId, Message, Method, serialise};

use super::routes::{Arming, BranchArming};
use super::state::{Armed, Destination, Tm, Transactions, Tx, TxEvent, handle, id};
use super::variables::Timers;
use super::{api, replies, step};
use crate::core::functions::{LocalRport, locate_target, locate_uri, target_uri, to_next_hops};
use crate::core::locate::{Hop, Hops, Located};
use crate::core::send;
use crate::core::state::Core;
use crate::core::stateless::{self, Unsent};

/// What came of making a transaction.
pub(super) enum Made {
    /// There is one now.
    New(Id),
    /// The request is a retransmission; it was dealt with.
    Again,
    /// There is no room, or the request cannot have one.
    Refused,
}

/// Make the transaction of the request in `ctx`.
pub(super) fn make(ctx: &mut Ctx) -> Made {
    make_with(ctx, true)
}

/// The same; without `auto_100` an INVITE gets no 100 of ours.
fn make_with(ctx: &mut Ctx, auto_100: bool) -> Made {
    let shard = ctx.shard.clone();
    let tm = shard.kernel.state::<Tm>();
    let part = shard.part::<Transactions>();
    let msg = ctx.msg.clone();
    let Some(server_key) = key::server(&msg) else { return Made::Refused };
    if let Some(known) = part.table(|t| t.find_key(&server_key)) {
        step(&shard, known, |tx, now, sink| tx.core.retransmission(now, sink));
        return Made::Again;
    }
    let Some(socket) = shard.kernel.socket(ctx.received.socket) else { return Made::Refused };
    let mut timing = tm.timing;
    if let Some(own) = ctx.note::<Timers>() {
        timing.fr = own.fr.unwrap_or(timing.fr);
        timing.fr_inv = own.fr_inv.unwrap_or(timing.fr_inv);
    }
    let settings = proxy::Settings {
        timing,
        invite: msg.method() == Method::Invite,
        local: false,
        reliable: socket.proto.reliable(),
        allow_after_6xx: tm.allow_after_6xx,
        multi_200: false,
    };
    let arming = ctx.take_note::<Arming>().map(|a| *a).unwrap_or_default();
    let watchers = api::take_followers(ctx);
    let tx = Tx {
        core: proxy::Transaction::new(settings),
        request: msg.clone(),
        received: ctx.received,
        edits: None,
        late_edits: SmallVec::new(),
        target: Target::unchanged(),
        flags: ctx.flags,
        avps: Default::default(),
        force_rport: ctx.force_rport,
        advertised: (None, None),
        on_failure: arming.failure,
        on_reply: arming.reply,
        on_branch: arming.branch,
        to_tag: Bytes::new(),
        own_headers: arming.headers,
        cancel_headers: Bytes::new(),
        watchers,
        reply_to: send::reply_address(&msg, ctx.received.peer, socket.proto, ctx.force_rport),
        picked: None,
        local_last: false,
        local_any: false,
        on_final: None,
        on_again: None,
        notes: Default::default(),
    };
    let nonce = part.random() as u32;
    let Some(new) = part.table(|t| t.insert(&server_key, None, nonce, Box::new(tx))) else {
        tracing::error!("the table of transactions is full");
        return Made::Refused;
    };
    shard.count(tm.stats.uas, 1);
    shard.count(tm.stats.in_use, 1);
    ctx.tx = Some(handle(new));
    if settings.invite && tm.auto_100 && auto_100 {
        api::reply(ctx, 100, b"Giving it a try", &[], None);
    }
    Made::New(new)
}

/// Keep the script's changes with the transaction, where later routes find them.
pub(super) fn store(ctx: &mut Ctx, id: Id, whole: bool) {
    let shard = ctx.shard.clone();
    shard.part::<Transactions>().with(id, |tx| {
        if whole {
            let edits = std::mem::take(&mut ctx.edits);
            tx.edits = (!edits.is_empty()).then(|| Box::new(edits));
            tx.late_edits = std::mem::take(&mut ctx.late_edits);
            tx.avps = std::mem::take(&mut ctx.avps);
            tx.target = std::mem::take(&mut ctx.target);
            tx.notes = ctx.take_notes();
            tx.advertised = std::mem::take(&mut ctx.advertised);
        } else {
            tx.edits = (!ctx.edits.is_empty()).then(|| Box::new(ctx.edits.clone()));
            tx.late_edits = ctx.late_edits.clone();
            tx.avps = ctx.avps.clone();
            tx.target = ctx.target.clone();
            tx.advertised = ctx.advertised.clone();
        }
        tx.flags = ctx.flags;
        tx.force_rport = ctx.force_rport;
    });
}

/// The request route is about to wait: from now on there is a transaction, which absorbs retransmissions.
pub(super) fn suspend(ctx: &mut Ctx) {
    if ctx.tx.is_none() && ctx.msg.is_request() && ctx.msg.method() != Method::Ack {
        // A retransmission cannot come here: it ended at the request hook.
        make(ctx);
    }
    if let Some(tx) = ctx.tx {
        store(ctx, id(tx), false);
    }
}

/// The request route has ended.
pub(super) fn script_end(ctx: &mut Ctx) {
    let Some(tx) = ctx.tx else { return };
    let id = id(tx);
    store(ctx, id, true);
    let shard = ctx.shard.clone();
    step(&shard, id, |tx, now, sink| tx.core.route_done(now, sink));
    shard.part::<Transactions>().lighten(id);
}

/// Flags of `t_relay()`.
#[derive(Clone, Copy, Default)]
pub(super) struct RelayFlags {
    no_100: bool,
    no_auto_reply: bool,
    pub no_dns_failover: bool,
    pass_reason: bool,
}

pub(super) fn relay_flags(text: &str) -> RelayFlags {
    let mut f = RelayFlags::default();
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "no-auto-477" => f.no_auto_reply = true,
            "no-dns-failover" => f.no_dns_failover = true,
            "pass-reason-hdr" => f.pass_reason = true,
            "allow-no-cancel" => {}
            // The bit mask of older releases.
            number => {
                match number.strip_prefix("0x").map_or(number.parse(), |h| u32::from_str_radix(h, 16)) {
                    Ok(mask) => {
                        f.no_100 |= mask & 1 != 0;
                        f.no_auto_reply |= mask & 2 != 0;
                        f.no_dns_failover |= mask & 4 != 0;
                        f.pass_reason |= mask & 8 != 0;
                    }
                    Err(_) => tracing::warn!("t_relay(): flag \"{number}\" is not known"),
                }
            }
        }
    }
    f
}

/// Whether a text is flags of `t_relay()`; older scripts give the proxy first, `t_relay("udp:host:port", "0x01")`.
fn is_flags(text: &str) -> bool {
    const WORDS: [&str; 4] = ["no-auto-477", "no-dns-failover", "pass-reason-hdr", "allow-no-cancel"];
    let number = |w: &str| {
        let digits = w.strip_prefix("0x").unwrap_or(w);
        !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_hexdigit())
            && w.starts_with(|c: char| c.is_ascii_digit())
    };
    text.split(',').map(str::trim).all(|w| w.is_empty() || WORDS.contains(&w) || number(w))
}

/// `t_relay([flags[, proxy]])`
pub(super) fn t_relay(c: &mut Call<'_>) -> Flow {
    let (mut flags, mut proxy) = (c.str(0).cloned(), c.str(1).cloned());
    if flags.as_deref().is_some_and(|f| !is_flags(&String::from_utf8_lossy(f))) {
        std::mem::swap(&mut flags, &mut proxy);
    }
    let flags = flags.map(|f| relay_flags(&String::from_utf8_lossy(&f))).unwrap_or_default();
    let ctx = &mut *c.ctx;
    if ctx.route == RouteType::Request {
        match ctx.msg.method() {
            Method::Ack => return relay_ack(ctx),
            Method::Cancel => {
                if let Some(flow) = relay_cancel(ctx, flags) {
                    return flow;
                }
            }
            _ => {}
        }
    }
    let tx = match ctx.tx {
        Some(tx) => id(tx),
        None => match make_with(ctx, !flags.no_100) {
            Made::New(id) => id,
            Made::Again => return Flow::Value(0),
            Made::Refused => return failed(ctx, flags, -1),
        },
    };
    if is_loop(&ctx.msg) {
        api::reply(ctx, 482, b"Loop Detected", &[], None);
        return Flow::Value(0);
    }
    let proxy = match &proxy {
        Some(text) => match target_uri(text) {
            Some(uri) => Some(uri),
            None => {
                tracing::error!("t_relay(): \"{}\" is no proxy address", String::from_utf8_lossy(text));
                return failed(ctx, flags, -2);
            }
        },
        None => None,
    };
    let mut targets: SmallVec<[Target; 2]> = SmallVec::new();
    targets.push(ctx.target.clone());
    targets.extend(ctx.branches.drain(..));
    relay_targets(ctx, tx, targets, flags, proxy)
}

/// Send the request to all of `targets`; those that name no next hop go to `proxy`, if there is one.
fn relay_targets(
    ctx: &mut Ctx,
    tx: Id,
    targets: SmallVec<[Target; 2]>,
    flags: RelayFlags,
    proxy: Option<Bytes>,
) -> Flow {
    let planning = Planning {
        tx,
        flags,
        proxy,
        left: targets.into_iter(),
        number: 0,
        planned: SmallVec::new(),
        waits: Vec::new(),
    };
    planning.go_on(ctx)
}

/// Branches on their way from targets to requests.
struct Planning {
    tx: Id,
    flags: RelayFlags,
    proxy: Option<Bytes>,
    left: smallvec::IntoIter<[Target; 2]>,
    /// Targets taken so far.
    number: usize,
    planned: SmallVec<[Plan; 2]>,
    /// Plans whose hops are still being looked up.
    waits: Vec<(usize, BoxFuture<Hops>)>,
}

impl Planning {
    /// Plan what is left, running the branch route for each, then find out where they go and send them.
    fn go_on(mut self, ctx: &mut Ctx) -> Flow {
        let shard = ctx.shard.clone();
        let part = shard.part::<Transactions>();
        while let Some(target) = self.left.next() {
            let number = self.number;
            self.number += 1;
            let Some((armed, count)) =
                part.with(self.tx, |tx| (tx.on_branch.clone(), tx.core.branches().len()))
            else {
                continue;
            };
            match armed {
                None => self.add(ctx, Plan { target, edits: None, on_reply: None, hops: Hops::new() }),
                Some(armed) => {
                    let base = BeforeBranch::enter(ctx, target, (count + number) as u16);
                    return run_within(ctx, Frame::new(&armed.program, armed.route), move |ctx, _| {
                        if let Some(plan) = base.leave(ctx) {
                            self.add(ctx, plan);
                        }
                        self.go_on(ctx)
                    });
                }
            }
        }
        let Planning { tx, flags, mut planned, waits, .. } = self;
        if waits.is_empty() {
            return add_all(ctx, tx, planned, flags);
        }
        let all = async move {
            for (at, future) in waits {
                planned[at].hops = future.await;
            }
            planned
        };
        wait(all, move |ctx, planned| add_all(ctx, tx, planned, flags))
    }

    fn add(&mut self, ctx: &Ctx, mut plan: Plan) {
        let located = match &self.proxy {
            Some(proxy) if plan.target.dst.is_none() => locate_uri(ctx, proxy),
            _ => locate_target(ctx, &plan.target),
        };
        match located {
            Located::Now(hops) => plan.hops = hops,
            Located::Wait(future) => self.waits.push((self.planned.len(), future)),
        }
        self.planned.push(plan);
    }
}

/// A branch about to be sent.
struct Plan {
    target: Target,
    edits: Option<Box<Edits>>,
    on_reply: Option<Armed>,
    hops: Hops,
}

/// What the context was before a branch route ran on it; what the route changes holds for its branch only.
struct BeforeBranch {
    edits: Edits,
    late: SmallVec<[LateEdit; 1]>,
    target: Target,
    route: RouteType,
    branch: Option<u16>,
    dropped: bool,
}

impl BeforeBranch {
    fn enter(ctx: &mut Ctx, target: Target, branch: u16) -> BeforeBranch {
        let before = BeforeBranch {
            edits: ctx.edits.clone(),
            late: ctx.late_edits.clone(),
            target: std::mem::replace(&mut ctx.target, target),
            route: ctx.route,
            branch: ctx.branch,
            dropped: ctx.dropped,
        };
        ctx.route = RouteType::Branch;
        ctx.branch = Some(branch);
        ctx.dropped = false;
        before
    }

    /// Back to how it was; gives the branch unless the route dropped it.
    fn leave(self, ctx: &mut Ctx) -> Option<Plan> {
        let dropped = ctx.dropped;
        (ctx.route, ctx.branch, ctx.dropped) = (self.route, self.branch, self.dropped);
        let mut target = std::mem::replace(&mut ctx.target, self.target);
        let edits = std::mem::replace(&mut ctx.edits, self.edits);
        ctx.late_edits = self.late;
        let on_reply = ctx.take_note::<BranchArming>().and_then(|n| n.0);
        if target.uri.is_none() {
            target.uri = Some(ctx.ruri());
        }
        (!dropped).then(|| Plan { target, edits: Some(Box::new(edits)), on_reply, hops: Hops::new() })
    }
}

fn add_all(ctx: &mut Ctx, tx: Id, planned: SmallVec<[Plan; 2]>, flags: RelayFlags) -> Flow {
    if ctx.route == RouteType::Request && api::was_cancelled(ctx) {
        // The caller gave up while a route or a lookup waited.
        api::reply(ctx, 487, b"Request Terminated", &[], None);
        return Flow::Value(0);
    }
    if planned.is_empty() {
        // Every branch was dropped by its route.
        return failed(ctx, flags, -3);
    }
    let mut code = -4;
    let mut added = 0;
    for plan in planned {
        match add_one(ctx, tx, plan, flags.no_dns_failover) {
            Ok(()) => added += 1,
            Err(why) => code = why,
        }
    }
    if added > 0 { TRUE } else { failed(ctx, flags, code) }
}

fn add_one(ctx: &mut Ctx, tx: Id, plan: Plan, no_failover: bool) -> Result<(), i64> {
    let shard = ctx.shard.clone();
    let mut hops = plan.hops;
    shard.kernel.state::<Core>().blacklists.filter(ctx, &mut hops);
    if hops.is_empty() {
        return Err(-4);
    }
    let mut hop = hops.remove(0);
    if no_failover || shard.kernel.state::<Core>().no_dns_failover {
        hops.clear();
    }
    // A place that we have no socket for is passed over.
    let socket = loop {
        match send::outgoing_socket(&shard, plan.target.socket, ctx.received.socket, hop.proto, hop.addr) {
            Some(s) => break s,
            None if hops.is_empty() => return Err(-6),
            None => hop = hops.remove(0),
        }
    };
    if must_be_open(&shard, &plan.target, hop) {
        return Err(-6);
    }
    let rport = ctx.note::<LocalRport>().is_some_and(|n| n.0);
    let writing = Writing {
        msg: &ctx.msg,
        base: plan.edits.as_deref().unwrap_or(&ctx.edits),
        late: &ctx.late_edits,
        from: ctx.received.socket,
        advertised: &ctx.advertised,
        rport,
    };
    let request = writing.write(&shard, tx, &plan.target, hop.proto, socket).ok_or(-6)?;
    let tm = shard.kernel.state::<Tm>();
    let new = NewBranch {
        request,
        reliable: hop.proto.reliable(),
        minor: tm.minor_flag != 0 && plan.target.flags & tm.minor_flag != 0,
        more_targets: !hops.is_empty(),
        destination: Destination {
            conn: plan.target.conn,
            target: plan.target,
            hop,
            socket,
            more: hops.to_vec(),
            edits: plan.edits,
            on_reply: plan.on_reply,
            sends: 0,
        },
    };
    let mut outcome = Ok(());
    step(&shard, tx, |tx, now, sink| {
        outcome = tx.core.add_branch(now, new, sink).map(|_| ());
    });
    outcome.map_err(|e| {
        tracing::info!("a branch was not added: {e}");
        match e {
            AddError::Final | AddError::Cancelled | AddError::Blocked => -3,
            AddError::TooMany => -1,
        }
    })
}

/// Whether a branch may only use a connection that is there (`tcp_no_new_conn_bflag`), and there is none.
fn must_be_open(shard: &Shard, target: &Target, hop: Hop) -> bool {
    let core = shard.kernel.state::<Core>();
    target.flags & core.no_new_conn_branch != 0
        && hop.proto.reliable()
        && target.conn.is_none()
        && core.aliases.find(hop.proto, hop.addr).is_none()
        && !core.connections.reaches(hop.addr)
}

/// Everything a branch's request is written from.
pub(super) struct Writing<'a> {
    /// The request as received.
    pub msg: &'a Message,
    /// Changes of the route.
    pub base: &'a Edits,
    /// Changes that depend on the socket.
    pub late: &'a [LateEdit],
    /// Socket it came in on.
    pub from: SocketId,
    /// Address to show.
    pub advertised: &'a (Option<Bytes>, Option<Bytes>),
    /// Ask for `rport` in our Via.
    pub rport: bool,
}

impl Writing<'_> {
    /// The request of the next branch of `tx`.
    pub fn write(&self, shard: &Shard, tx: Id, target: &Target, proto: Proto, to: SocketId) -> Option<Bytes> {
        let part = shard.part::<Transactions>();
        let socket = shard.kernel.socket(to)?;
        let branch = part.with(tx, |tx| tx.core.branches().len())? as u16;
        let nonce = part.table(|t| t.nonce(tx))?;
        let id = BranchId {
            shard: shard.worker as u16,
            slot: tx.slot,
            generation: tx.generation,
            nonce,
            loop_number: key::loop_number(self.msg),
            branch,
        };
        let mut layer = Edits::new();
        // A stream connection that is to be used again in the other direction says so (RFC 5923).
        let params: &[u8] = match (self.rport, proto.reliable()) {
            (true, _) => b";rport",
            (false, true) => b";alias",
            (false, false) => b"",
        };
        layer.push_via(self.msg, send::via_line(socket, self.advertised, &id.encode(), params));
        if let Some(uri) = &target.uri {
            layer.set_ruri(uri.clone());
        }
        if let Some(path) = &target.path {
            send::push_path(self.msg, &mut layer, path);
        }
        let leaving = Leaving {
            kernel: &shard.kernel,
            msg: self.msg,
            from: self.from,
            to,
            advertised: self.advertised,
        };
        for late in self.late {
            late(&leaving, &mut layer);
        }
        let mut out = Vec::new();
        serialise(self.msg, &[self.base, &layer], &mut out);
        Some(out.into())
    }
}

/// The branch could not be reached: take its next place (RFC 3263 §4.3), or say that there is none.
pub(super) fn next_target(shard: &Rc<Shard>, tx: Id, failed: usize) {
    let part = shard.part::<Transactions>();
    let found = part.with(tx, |t| {
        let branch = t.core.branch_mut(failed)?;
        let d = &mut branch.destination;
        let mut more = std::mem::take(&mut d.more);
        let hop: Hop = if more.is_empty() { return None } else { more.remove(0) };
        let mut next = d.clone();
        (next.hop, next.more, next.sends, next.conn) = (hop, more, 0, None);
        Some((
            next,
            t.request.clone(),
            t.edits.as_deref().cloned().unwrap_or_default(),
            t.late_edits.clone(),
            t.received.socket,
            t.advertised.clone(),
        ))
    });
    let added = found.flatten().and_then(|(mut next, msg, edits, late, from, advertised)| {
        next.socket = send::outgoing_socket(shard, next.target.socket, from, next.hop.proto, next.hop.addr)?;
        let base = next.edits.as_deref().unwrap_or(&edits);
        let writing = Writing { msg: &msg, base, late: &late, from, advertised: &advertised, rport: false };
        let request = writing.write(shard, tx, &next.target, next.hop.proto, next.socket)?;
        let more_targets = !next.more.is_empty();
        let reliable = next.hop.proto.reliable();
        Some(NewBranch { request, reliable, minor: false, more_targets, destination: next })
    });
    step(shard, tx, |t, now, sink| match added {
        Some(new) => {
            if let Err(e) = t.core.add_target(now, failed, new, sink) {
                tracing::debug!("the next place was not tried: {e}");
            }
        }
        None => t.core.no_target(now, failed, sink),
    });
}

/// Add branches to a transaction from outside of its own processing. With `cancel` all branches of now are cancelled after
/// the new ones were sent; with `last` no further ones are awaited.
pub(super) fn inject(
    shard: &Rc<Shard>,
    tx: Id,
    targets: SmallVec<[Target; 2]>,
    cancel: bool,
    last: bool,
) -> Flow {
    let Some(mut ctx) = replies::context(shard, tx, RouteType::Failure) else { return FALSE };
    let before = shard.part::<Transactions>().with(tx, |t| t.core.branches().len()).unwrap_or(0);
    let flow = relay_targets(
        &mut ctx,
        tx,
        targets,
        RelayFlags { no_auto_reply: true, ..RelayFlags::default() },
        None,
    );
    let finish = move |ctx: &mut Ctx, result: i64| {
        let shard = ctx.shard.clone();
        // What modules keep with the request goes back to it.
        let notes = ctx.take_notes();
        shard.part::<Transactions>().with(tx, |t| t.notes = notes);
        if result < 0 {
            return -3;
        }
        step(&shard, tx, |t, now, sink| {
            if cancel {
                for branch in 0..before {
                    const WHY: &[u8] = b"Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n";
                    t.core.cancel_branches(now, proxy::Cancel::One(branch), WHY, sink);
                }
            }
            if last {
                t.core.stop_waiting(now, sink);
            }
        });
        result
    };
    finish_on(ctx, flow, finish)
}

/// Carry work through on a context of its own, whatever it waits for; the caller's function gives what `finish` says.
fn finish_on(mut ctx: Box<Ctx>, flow: Flow, finish: impl FnOnce(&mut Ctx, i64) -> i64 + 'static) -> Flow {
    match flow {
        Flow::Value(v) => Flow::Value(finish(&mut ctx, v)),
        Flow::Wait(future) => wait(future, move |_, resume| {
            let flow = resume.run(&mut ctx);
            finish_on(ctx, flow, finish)
        }),
        Flow::Exit | Flow::Drop => Flow::Value(finish(&mut ctx, 0)),
    }
}

/// Nothing was sent. Unless the script wants to, the failure is answered here and the script ends.
fn failed(ctx: &mut Ctx, flags: RelayFlags, code: i64) -> Flow {
    let (status, reason) = match code {
        -4 => (478, "Unresolvable destination (478/TM)"),
        -6 => (477, "Send failed (477/TM)"),
        -2 => (400, "Bad Request"),
        _ => (500, "Server error occurred"),
    };
    ctx.error.code = status;
    ctx.error.reason = reason.to_owned();
    let can_answer = ctx.route == RouteType::Request && ctx.tx.is_some() && matches!(code, -4 | -6);
    if !flags.no_auto_reply && can_answer && api::reply(ctx, status, reason.as_bytes(), &[], None) {
        return Flow::Value(0);
    }
    Flow::Value(code)
}

/// Whether the same request passed here twice before without any change (RFC 3261 §16.3 step 4). Once may be a script that
/// sends to itself and goes on by a header it added.
fn is_loop(msg: &Message) -> bool {
    let mut seen = 0;
    let mut number = None;
    for via in msg.via().into_iter().chain(msg.vias_below().flatten()) {
        if let Some(own) = via.branch.and_then(BranchId::decode) {
            let number = *number.get_or_insert_with(|| key::loop_number(msg));
            seen += usize::from(own.loop_number == number);
        }
    }
    seen >= 2
}

/// An ACK that no transaction here absorbs belongs to a 2xx and goes end to end, without state (RFC 3261 §16.11).
fn relay_ack(ctx: &mut Ctx) -> Flow {
    to_next_hops(ctx, |ctx, hops| match stateless::send_on(ctx, hops) {
        Ok(()) => TRUE,
        Err(Unsent::NoHop) => Flow::Value(-4),
        Err(Unsent::NoSocket) => Flow::Value(-6),
    })
}

/// A CANCEL ends the branches of its INVITE and is answered here (RFC 3261 §16.10). `None` when there is no such INVITE.
fn relay_cancel(ctx: &mut Ctx, flags: RelayFlags) -> Option<Flow> {
    let shard = ctx.shard.clone();
    let part = shard.part::<Transactions>();
    let cancelled = key::cancelled(&ctx.msg)?;
    let tx = part.table(|t| t.find_key(&cancelled))?;
    let mut headers = Vec::new();
    if flags.pass_reason {
        for h in ctx.msg.headers_of(HeaderId::Reason) {
            headers.extend_from_slice(h.line);
        }
    }
    let tag = part.to_tag(tx)?;
    // The 200 goes first, so that the caller sees it before the 487.
    if !send::reply(ctx, 200, b"canceling", Some(&tag), &[], None) {
        return Some(FALSE);
    }
    // The CANCEL has no transaction of its own; those who follow it hear of its only reply here.
    for w in api::take_followers(ctx) {
        w.event(ctx, &TxEvent::Sending { code: 200, reason: b"canceling", relayed: None, branch: None });
    }
    replies::tell(&shard, tx, &TxEvent::Cancelled);
    step(&shard, tx, |t, now, sink| {
        t.core.cancel(now, &headers, sink);
    });
    Some(TRUE)
}
