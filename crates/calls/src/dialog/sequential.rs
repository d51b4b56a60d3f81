//! Requests of our own inside dialogs: pings, what scripts and commands send, and the end of both sides.
//!
//! Whoever we speak for goes on with its own CSeq numbers, which the other side has seen from us already. So its later
//! requests are given higher numbers on their way, and the replies to them get their own back (RFC 3261 §12.2.1.1).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::shard::Shard;
use switchroom_wire::sip::{HeaderId, Message, Method, NameAddr};

use super::follow::end;
use super::state::{Dialog, DialogModule, Dialogs, State};
use crate::tm::api::{OnAgain, OnFinal, ReplyEdits, Request, TxEvent, Watch, ack, follow, invite, request};

/// Bodies that are kept for pings, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// Which side of a dialog a request goes to; an index of `Dialog::legs`.
pub(super) const CALLER: usize = 0;
/// See [`CALLER`].
pub(super) const CALLEE: usize = 1;

/// A ping of one kind.
#[derive(Clone, Debug, Default)]
pub struct Ping {
    /// To the caller, to the callee.
    pub to: [bool; 2],
    /// One of them has not been answered yet.
    pub open: [bool; 2],
    /// Seconds between two.
    pub every: u64,
    /// When the next is due.
    pub next: Option<Instant>,
}

impl Ping {
    /// Whether it goes to anybody.
    pub(super) fn wanted(&self) -> bool {
        self.to != [false; 2]
    }
}

/// A request of ours to one side of an answered dialog, on behalf of the other.
fn build(
    module: &DialogModule,
    d: &mut Dialog,
    to: usize,
    method: &[u8],
    body: Option<(Bytes, Bytes)>,
    headers: &[u8],
) -> Option<Request> {
    // Before the answer there is one request to be made: the acknowledgement of a provisional reply (RFC 3262 §4).
    let lives = match method {
        b"PRACK" => d.state < State::Deleted,
        _ => matches!(d.state, State::ConfirmedNoAck | State::Confirmed),
    };
    if !lives || d.legs[to].contact.is_empty() {
        return None;
    }
    let from = &mut d.legs[1 - to];
    from.shift += 1;
    let cseq = from.cseq.saturating_add(from.shift);
    let (from, leg) = (&d.legs[1 - to], &d.legs[to]);
    let mut lines = Vec::new();
    for r in &leg.routes {
        lines.extend_from_slice(b"Route: ");
        lines.extend_from_slice(r);
        lines.extend_from_slice(b"\r\n");
    }
    if matches!(method, b"INVITE" | b"UPDATE" | b"ACK" | b"SUBSCRIBE") {
        lines.extend_from_slice(b"Contact: <");
        lines.extend_from_slice(&from.contact);
        lines.extend_from_slice(b">\r\n");
    }
    lines.extend_from_slice(&module.extra_headers);
    lines.extend_from_slice(headers);
    Some(Request {
        method: Bytes::copy_from_slice(method),
        ruri: leg.contact.clone(),
        from: from.uri.clone(),
        to: leg.uri.clone(),
        next_hop: leg
            .routes
            .first()
            .and_then(|r| NameAddr::parse(r).ok())
            .map(|n| Bytes::copy_from_slice(n.uri)),
        headers: lines.into(),
        body,
        socket: leg.socket,
        call_id: Some(d.call_id.clone()),
        cseq: Some(cseq),
        ..Request::default()
    })
}

/// Send a request to one side. A 2xx to an INVITE is acknowledged. False when the dialog is not answered.
pub(super) fn send(
    shard: &Rc<Shard>,
    id: u64,
    to: usize,
    method: &[u8],
    body: Option<(Bytes, Bytes)>,
    headers: &[u8],
    done: OnFinal,
) -> bool {
    let Some(made) = make(shard, id, to, method, body, headers) else { return false };
    if method != b"INVITE" {
        request(shard, made, done);
        return true;
    }
    let receipt = Receipt::of(&made);
    let again = receipt.again();
    let answered: OnFinal = Rc::new(move |shard, code, reply| {
        if (200..300).contains(&code) {
            receipt.send(shard, None);
        }
        done(shard, code, reply);
    });
    invite(shard, made, answered, again);
    true
}

/// The ACK to the 2xx of an INVITE of ours: sent once it is known what it says, and again whenever the 2xx comes again.
#[derive(Clone)]
struct Receipt {
    ack: Rc<RefCell<Request>>,
    known: Rc<Cell<bool>>,
}

impl Receipt {
    fn of(invite: &Request) -> Receipt {
        let ack = Request { method: Bytes::from_static(b"ACK"), body: None, ..invite.clone() };
        Receipt { ack: Rc::new(RefCell::new(ack)), known: Rc::default() }
    }

    fn again(&self) -> OnAgain {
        let receipt = self.clone();
        Rc::new(move |shard| {
            if receipt.known.get() {
                ack(shard, receipt.ack.borrow().clone());
            }
        })
    }

    fn send(&self, shard: &Rc<Shard>, body: Option<(Bytes, Bytes)>) {
        self.ack.borrow_mut().body = body;
        self.known.set(true);
        ack(shard, self.ack.borrow().clone());
    }
}

pub(super) fn make(
    shard: &Shard,
    id: u64,
    to: usize,
    method: &[u8],
    body: Option<(Bytes, Bytes)>,
    headers: &[u8],
) -> Option<Request> {
    let module = shard.kernel.state::<DialogModule>();
    let made = shard.part::<Dialogs>().with(id, |d| build(module, d, to, method, body, headers)).flatten();
    if made.is_some() {
        super::store::note(shard, id);
    }
    made
}

/// Renegotiate the media: an INVITE without a body to one side, the offer of its answer to the other, and that one's answer
/// back with the ACK. False when the dialog is not answered.
pub(super) fn challenge(shard: &Rc<Shard>, id: u64, first: usize, headers: &[u8], done: OnFinal) -> bool {
    let Some(made) = make(shard, id, first, b"INVITE", None, headers) else { return false };
    let (receipt, headers) = (Receipt::of(&made), headers.to_vec());
    let again = receipt.again();
    let answered: OnFinal = Rc::new(move |shard, code, reply| {
        let Some(reply) = reply.filter(|_| (200..300).contains(&code)) else {
            return done(shard, code, reply);
        };
        let (first_receipt, done) = (receipt.clone(), done.clone());
        let second: OnFinal = Rc::new(move |shard, code, reply| {
            let answer = reply.filter(|_| (200..300).contains(&code)).and_then(body);
            first_receipt.send(shard, answer);
            done(shard, code, reply);
        });
        if !send(shard, id, 1 - first, b"INVITE", body(reply), &headers, second) {
            receipt.send(shard, None);
        }
    });
    invite(shard, made, answered, again);
    true
}

/// Send BYE to both sides. False when the dialog was not answered.
pub(super) fn hang_up(shard: &Rc<Shard>, id: u64, headers: &[u8]) -> bool {
    let silent: OnFinal = Rc::new(|_, code, _| tracing::debug!("a BYE of ours was answered with {code}"));
    let sent = [CALLER, CALLEE].map(|to| send(shard, id, to, b"BYE", None, headers, silent.clone()));
    sent != [false; 2]
}

/// Content-Type and body of a message, copied.
pub(super) fn body(msg: &Message) -> Option<(Bytes, Bytes)> {
    let text = msg.body();
    if text.is_empty() || text.len() > MAX_BODY {
        return None;
    }
    let kind = msg.header(HeaderId::ContentType).map(|h| h.unfolded().into_owned());
    let kind = kind.unwrap_or_else(|| b"application/sdp".to_vec());
    Some((kind.into(), Bytes::copy_from_slice(text)))
}

// Pings ---------------------------------------------------------------------------------------------------------------

/// The dialog was answered, or its pings were changed: when the next ones are due.
pub(super) fn start_pings(shard: &Shard, id: u64) {
    let part = shard.part::<Dialogs>();
    let now = shard.now();
    let next = part.with(id, |d| {
        if !matches!(d.state, State::ConfirmedNoAck | State::Confirmed) {
            return None;
        }
        for ping in [&mut d.options_ping, &mut d.reinvite_ping] {
            ping.next = ping.wanted().then(|| now + Duration::from_secs(ping.every.max(1)));
        }
        [d.options_ping.next, d.reinvite_ping.next].into_iter().flatten().min()
    });
    part.schedule_ping(id, next.flatten());
}

/// Send the pings of one dialog that are due.
pub(super) fn ping(shard: &Rc<Shard>, id: u64, now: Instant) {
    let part = shard.part::<Dialogs>();
    let mut sends: Vec<(bool, usize, Option<(Bytes, Bytes)>)> = Vec::new();
    let next = part.with(id, |d| {
        if !matches!(d.state, State::ConfirmedNoAck | State::Confirmed) {
            return None;
        }
        let bodies = [d.legs[CALLER].body.clone(), d.legs[CALLEE].body.clone()];
        for (reinvite, ping) in [(false, &mut d.options_ping), (true, &mut d.reinvite_ping)] {
            if ping.next.is_none_or(|at| at > now) {
                continue;
            }
            ping.next = Some(now + Duration::from_secs(ping.every.max(1)));
            for to in [CALLER, CALLEE] {
                // One that is still open says nothing new.
                if !ping.to[to] || ping.open[to] {
                    continue;
                }
                // Without the session as it is, an INVITE would ask for another one.
                let body = bodies[1 - to].clone();
                if reinvite && body.is_none() {
                    continue;
                }
                ping.open[to] = true;
                sends.push((reinvite, to, body.filter(|_| reinvite)));
            }
        }
        [d.options_ping.next, d.reinvite_ping.next].into_iter().flatten().min()
    });
    part.schedule_ping(id, next.flatten());
    for (reinvite, to, body) in sends {
        let method: &[u8] = if reinvite { b"INVITE" } else { b"OPTIONS" };
        let done: OnFinal = Rc::new(move |shard, code, _| answered(shard, id, reinvite, to, code));
        send(shard, id, to, method, body, b"", done);
    }
}

/// Nobody there (408), or no such dialog (481): the call is over. Any other answer says that somebody is there.
fn answered(shard: &Rc<Shard>, id: u64, reinvite: bool, to: usize, code: u16) {
    let live = shard.part::<Dialogs>().with(id, |d| {
        let ping = if reinvite { &mut d.reinvite_ping } else { &mut d.options_ping };
        ping.open[to] = false;
        d.state < State::Deleted
    });
    if live == Some(true) && matches!(code, 408 | 481) {
        hang_up(shard, id, &[]);
        end(shard, id, "Ping Timeout");
    }
}

// Numbers -------------------------------------------------------------------------------------------------------------

/// A request in the dialog passes: it gets the number that the other side expects, and what the re-INVITE pings will need
/// is kept.
pub(super) fn passing(ctx: &mut Ctx, id: u64, from: usize) {
    let (shard, msg) = (ctx.shard.clone(), ctx.msg.clone());
    let Ok((cseq, method)) = msg.cseq() else { return };
    let looked = shard.part::<Dialogs>().with(id, |d| {
        let keeps = d.reinvite_ping.wanted();
        if keeps && let Some(body) = body(&msg) {
            d.legs[from].body = Some(body);
        }
        let leg = &mut d.legs[from];
        let shift = match method {
            // It has the number of its INVITE.
            Method::Ack => leg.invite_shift,
            Method::Invite => {
                leg.invite_shift = leg.shift;
                leg.shift
            }
            _ => leg.shift,
        };
        (shift, keeps && matches!(method, Method::Invite | Method::Update))
    });
    let Some((shift, keeps)) = looked else { return };
    if keeps {
        follow(ctx, Rc::new(Answer { id, from: 1 - from }));
    }
    if shift == 0 || !set_number(&msg, &mut ctx.edits, cseq.saturating_add(shift)) || method == Method::Ack {
        return;
    }
    let before = ctx.note_mut::<ReplyEdits>().0.take();
    *ctx.note_mut::<ReplyEdits>() = ReplyEdits(Some(Rc::new(move |reply, edits| {
        if let Some(before) = &before {
            before(reply, edits);
        }
        set_number(reply, edits, cseq);
    })));
}

fn set_number(msg: &Message, edits: &mut switchroom_wire::sip::Edits, number: u32) -> bool {
    let Some(header) = msg.header(HeaderId::CSeq) else { return false };
    let digits = header.value.iter().take_while(|b| b.is_ascii_digit()).count();
    let text = itoa::Buffer::new().format(number).to_owned();
    edits.replace_part(msg, &header.value[..digits], text.into())
}

/// Keeps the body of the answer to a re-INVITE.
struct Answer {
    id: u64,
    from: usize,
}

impl Watch for Answer {
    fn event(&self, ctx: &mut Ctx, event: &TxEvent<'_>) {
        if let TxEvent::Sending { code: 200..=299, relayed: Some(reply), .. } = event
            && let Some(body) = body(reply)
        {
            ctx.shard.part::<Dialogs>().with(self.id, |d| d.legs[self.from].body = Some(body));
        }
    }
}
