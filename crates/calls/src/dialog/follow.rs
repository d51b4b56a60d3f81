//! How dialogs come, go on and end: from the transactions of their INVITE, from in-dialog requests, and from time.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::ports::net::SocketId;
use switchroom_kernel::run::run_route;
use switchroom_kernel::shard::Shard;
use switchroom_script::names::RouteType;
use switchroom_wire::sip::{HeaderId, Message, Method, NameAddr};

use super::prack;
use super::sequential::{self, Ping, hang_up, start_pings};
use super::state::{Dialog, DialogModule, Dialogs, Leg, OnTurn, State, parse_did, start_lifetime, turn};
use crate::core::events::dummy;
use crate::rr;
use crate::tm::api::{TxEvent, Watch, branch_socket, follow, shared, was_cancelled};

/// The dialog that the message in hand belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub id: u64,
    /// Sent by the caller.
    pub downstream: bool,
    /// CSeq that the sender used before this request.
    pub cseq_before: u32,
}

/// The dialog of the message in hand, in any route.
pub(super) fn own(ctx: &Ctx) -> Option<Current> {
    shared::<Current>(ctx)
}

/// What `create_dialog()` asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    /// Ping with OPTIONS: the caller, the callee.
    pub options_ping: [bool; 2],
    /// Ping with INVITE: the caller, the callee.
    pub reinvite_ping: [bool; 2],
    /// BYE to both sides when the lifetime is over.
    pub bye_on_timeout: bool,
    /// End it when it was cancelled too late.
    pub end_on_race: bool,
    /// Acknowledge reliable provisional replies.
    pub auto_prack: bool,
}

/// A dialog stays for a moment after its end, so that the scripts of its last requests still see it.
const LINGER: Duration = Duration::from_secs(5);

/// Make the dialog of the INVITE in `ctx`. False when it is none, or there is no room.
pub(super) fn create(ctx: &mut Ctx, wishes: Wishes) -> bool {
    if own(ctx).is_some() {
        return true;
    }
    let msg = ctx.msg.clone();
    if msg.method() != Method::Invite || msg.to().is_ok_and(|t| t.tag().is_some()) {
        return false;
    }
    let (Ok(from), Ok(cseq)) = (msg.from(), msg.cseq()) else { return false };
    let shard = ctx.shard.clone();
    let module = shard.kernel.state::<DialogModule>();
    let [call_id, tag, from, to, target] = copies([
        msg.call_id(),
        from.tag().unwrap_or_default(),
        &value(&msg, HeaderId::From),
        &value(&msg, HeaderId::To),
        contact(&msg),
    ]);
    let caller = Leg {
        tag,
        uri: from,
        contact: target,
        routes: msg.record_routes().flatten().map(|r| copy(r.raw)).collect(),
        cseq: cseq.0,
        socket: Some(ctx.received.socket),
        body: if wishes.reinvite_ping == [false; 2] { None } else { sequential::body(&msg) },
        ..Leg::default()
    };
    let callee = Leg { uri: to, ..Leg::default() };
    let dialog = Box::new(Dialog {
        id: 0,
        call_id,
        invite: ctx.tx,
        legs: [caller, callee],
        state: State::Unconfirmed,
        created: shard.kernel.unix(),
        started: 0,
        timeout: module.default_timeout,
        deadline: None,
        values: Vec::new(),
        flags: 0,
        profiles: Vec::new(),
        bye_on_timeout: wishes.bye_on_timeout,
        end_on_race: wishes.end_on_race,
        pracked: wishes.auto_prack.then(Default::default),
        options_ping: Ping { to: wishes.options_ping, every: module.ping_every[0], ..Ping::default() },
        reinvite_ping: Ping { to: wishes.reinvite_ping, every: module.ping_every[1], ..Ping::default() },
        next_ping: None,
        delete_delay: module.delete_delay,
        on_answer: None,
        on_timeout: None,
        on_hangup: None,
        end_reason: "",
        worker: shard.worker,
        answered: Duration::ZERO,
        followers: Default::default(),
        saved: None,
    });
    let Some(id) = shard.part::<Dialogs>().insert(dialog) else {
        tracing::error!("there are too many dialogs");
        return false;
    };
    shard.count(module.stats.processed, 1);
    let did = super::state::did(shard.worker, id);
    rr::add_param(ctx, format!(";{}={did}", module.rr_param).as_bytes());
    ctx.add_note(Current { id, downstream: true, cseq_before: 0 });
    follow(ctx, Rc::new(OfInvite { id, done: Cell::new(false) }));
    true
}

/// The request route has ended. An INVITE that it answered without a transaction has nobody who would tell of its end.
pub(super) fn script_end(ctx: &mut Ctx) {
    let Some(now) = ctx.note::<Current>().copied().filter(|_| ctx.tx.is_none()) else { return };
    let shard = ctx.shard.clone();
    let open = shard.part::<Dialogs>().with(now.id, |d| d.state == State::Unconfirmed);
    if open == Some(true) {
        end(&shard, now.id, "Call refused");
    }
}

/// Follows the INVITE that makes the dialog, to its final reply.
struct OfInvite {
    id: u64,
    done: Cell<bool>,
}

impl Watch for OfInvite {
    fn event(&self, ctx: &mut Ctx, event: &TxEvent<'_>) {
        let shard = ctx.shard.clone();
        let open = matches!(event, TxEvent::Sending { code: 100..=199, .. } | TxEvent::Failed { .. });
        shard.part::<Dialogs>().with(self.id, |d| d.invite = ctx.tx.filter(|_| open));
        self.done.set(matches!(event, TxEvent::Sending { code: 200.., .. }));
        match event {
            TxEvent::Sending { code: 101..=199, relayed: Some(reply), branch, .. } => {
                let socket = branch.and_then(|b| branch_socket(ctx, b));
                note_callee(&shard, self.id, reply, socket);
                turn(&shard, self.id, State::Early);
                prack::acknowledge(ctx, self.id, reply);
            }
            TxEvent::Sending { code: 200..=299, relayed: Some(reply), branch, .. } => {
                let socket = branch.and_then(|b| branch_socket(ctx, b));
                note_callee(&shard, self.id, reply, socket);
                if turn(&shard, self.id, State::ConfirmedNoAck) {
                    let race = was_cancelled(ctx);
                    let seconds = shard.kernel.state::<DialogModule>().race_timeout;
                    shard.part::<Dialogs>().with(self.id, |d| {
                        if race && d.end_on_race {
                            (d.timeout, d.bye_on_timeout) = (seconds, true);
                        }
                    });
                    start_lifetime(&shard, self.id);
                    start_pings(&shard, self.id);
                    run_turn(&shard, self.id, |d| d.on_answer.clone());
                }
            }
            TxEvent::Sending { code, .. } if *code >= 300 => end(&shard, self.id, "Call refused"),
            TxEvent::Over => {
                let open = shard.part::<Dialogs>().with(self.id, |d| d.state < State::ConfirmedNoAck);
                if open == Some(true) {
                    end(&shard, self.id, "Transaction ended");
                }
            }
            _ => {}
        }
    }

    fn is_done(&self) -> bool {
        self.done.get()
    }
}

/// What a reply tells of the callee. Most replies tell nothing that the one before did not.
fn note_callee(shard: &Shard, id: u64, reply: &Message, socket: Option<SocketId>) {
    let is_ours = |r: &NameAddr<'_>| {
        r.parse_uri().is_ok_and(|u| {
            let host = std::str::from_utf8(u.host_bare()).unwrap_or_default();
            shard.kernel.is_myself(host, u.port.unwrap_or(5060), None)
        })
    };
    // Entries above ours are between us and the callee; the one next to us comes first.
    let beyond = reply.record_routes().flatten().position(|r| is_ours(&r)).unwrap_or(0);
    let routes = || reply.record_routes().flatten().take(beyond).map(|r| r.raw);
    let tag = reply.to().ok().and_then(|t| t.tag()).unwrap_or_default();
    let target = contact(reply);
    shard.part::<Dialogs>().with(id, |d| {
        let callee = &mut d.legs[1];
        if !tag.is_empty() && callee.tag != tag {
            [callee.tag, callee.uri] = copies([tag, &value(reply, HeaderId::To)]);
        }
        if !target.is_empty() && callee.contact != target {
            callee.contact = copy(target);
        }
        if callee.routes.len() != beyond || !callee.routes.iter().rev().eq(routes()) {
            callee.routes = routes().map(copy).collect();
            callee.routes.reverse();
        }
        callee.socket = socket.or(callee.socket);
        if d.reinvite_ping.wanted()
            && let Some(body) = sequential::body(reply)
        {
            d.legs[1].body = Some(body);
        }
    });
}

/// An in-dialog request was routed: find its dialog and note what it does to it.
pub(super) fn routed(ctx: &mut Ctx) {
    attach(ctx);
}

/// Find the dialog of an in-dialog request. False when there is none.
pub(super) fn attach(ctx: &mut Ctx) -> bool {
    if own(ctx).is_some() {
        return true;
    }
    let shard = ctx.shard.clone();
    let module = shard.kernel.state::<DialogModule>();
    let part = shard.part::<Dialogs>();
    let msg = ctx.msg.clone();
    let (Ok(from), Ok(to), Ok((cseq, _))) = (msg.from(), msg.to(), msg.cseq()) else { return false };
    let (from, to) = (from.tag().unwrap_or_default(), to.tag().unwrap_or_default());
    // Which side sent it; `None` when the tags are of another dialog.
    let side = |d: &Dialog| match () {
        () if d.call_id != msg.call_id() => None,
        () if d.legs[0].tag == from && (d.legs[1].tag.is_empty() || d.legs[1].tag == to) => Some(true),
        () if d.legs[0].tag == to && d.legs[1].tag == from => Some(false),
        () => None,
    };
    let mut found = None;
    if module.match_mode < 2
        && let Some(did) = rr::route_param(ctx, &module.rr_param)
        && let Some((worker, id)) = std::str::from_utf8(&did).ok().and_then(parse_did)
        && worker == shard.worker
    {
        found = part.with(id, |d| side(d).map(|s| (id, s))).flatten();
    }
    if found.is_none() && module.match_mode > 0 {
        found = part
            .of_call(msg.call_id())
            .into_iter()
            .find_map(|id| part.with(id, |d| side(d).map(|s| (id, s))).flatten());
    }
    let Some((id, downstream)) = found else { return false };
    let method = msg.method();
    let before = part.with(id, |d| {
        let leg = &mut d.legs[usize::from(!downstream)];
        let before = leg.cseq;
        if method != Method::Ack {
            leg.cseq = leg.cseq.max(cseq);
        }
        if matches!(method, Method::Invite | Method::Update) {
            let target = contact(&msg);
            if !target.is_empty() && leg.contact != target {
                leg.contact = copy(target);
            }
        }
        leg.socket = Some(ctx.received.socket);
        before
    });
    ctx.add_note(Current { id, downstream, cseq_before: before.unwrap_or(0) });
    sequential::passing(ctx, id, usize::from(!downstream));
    if !matches!(method, Method::Ack | Method::Bye) {
        super::store::note(&shard, id);
    }
    match method {
        // An ACK of some other answer, or one that nobody asked for, does not make an open dialog answered.
        Method::Ack if part.with(id, |d| d.state) == Some(State::ConfirmedNoAck) => {
            turn(&shard, id, State::Confirmed);
        }
        Method::Bye => end(&shard, id, if downstream { "Downstream BYE" } else { "Upstream BYE" }),
        _ => {}
    }
    true
}

/// The dialog is over.
pub(super) fn end(shard: &Rc<Shard>, id: u64, reason: &'static str) {
    let part = shard.part::<Dialogs>();
    let answered = part.with(id, |d| {
        if d.state < State::Deleted {
            d.end_reason = reason;
        }
        d.state >= State::ConfirmedNoAck
    });
    if turn(shard, id, State::Deleted) {
        if answered == Some(true) {
            super::api::tell(shard, id);
            run_turn(shard, id, |d| d.on_hangup.clone());
        }
        let delay = part.with(id, |d| d.delete_delay).unwrap_or(0);
        part.linger(id, shard.now() + Duration::from_secs(delay).max(LINGER));
        part.schedule_ping(id, None);
    }
}

/// Run the route for a turn of the dialog, on a context of its own.
fn run_turn(shard: &Rc<Shard>, id: u64, which: impl FnOnce(&mut Dialog) -> Option<OnTurn>) {
    let Some(turn) = shard.part::<Dialogs>().with(id, which).flatten() else { return };
    shard.later(move |shard| {
        let mut ctx = dummy(shard, RouteType::Request);
        ctx.add_note(Current { id, downstream: true, cseq_before: 0 });
        run_route(ctx, &turn.program, turn.route, |_, _| {});
    });
}

/// Lifetimes and lingering ends are due.
pub(super) fn tick(shard: &Rc<Shard>, now: Instant) {
    let part = shard.part::<Dialogs>();
    let module = shard.kernel.state::<DialogModule>();
    for id in part.pings_due(now) {
        sequential::ping(shard, id, now);
    }
    for id in part.due(now) {
        match part.with(id, |d| (d.state, d.bye_on_timeout)) {
            Some((State::Deleted, _)) => {
                part.remove(id);
            }
            Some((_, bye)) => {
                part.schedule(id, None);
                shard.count(module.stats.expired, 1);
                run_turn(shard, id, |d| d.on_timeout.clone());
                if bye {
                    hang_up(shard, id, &[]);
                }
                end(shard, id, "Lifetime Timeout");
            }
            None => {}
        }
    }
}

/// When [`tick`] is due.
pub(super) fn deadline(shard: &Shard) -> Option<Instant> {
    shard.find_part::<Dialogs>()?.next_deadline()
}

fn copy(text: &[u8]) -> Bytes {
    Bytes::copy_from_slice(text)
}

/// Copies of several texts in one piece of memory.
fn copies<const N: usize>(texts: [&[u8]; N]) -> [Bytes; N] {
    let all = Bytes::from(texts.concat());
    let mut at = 0;
    texts.map(|t| {
        let part = all.slice(at..at + t.len());
        at += t.len();
        part
    })
}

fn value(msg: &Message, id: HeaderId) -> Cow<'_, [u8]> {
    msg.header(id).map(|h| h.unfolded()).unwrap_or_default()
}

/// The URI of the first Contact.
fn contact(msg: &Message) -> &[u8] {
    msg.contacts().flatten().next().map_or(&[], |c| c.uri)
}
