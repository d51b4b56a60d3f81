//! What other modules may do with transactions.

use std::any::TypeId;
use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_engine::proxy::{Cancel, Kind};
use switchroom_engine::transaction::Id;
use switchroom_kernel::context::{Ctx, Flow, Received, Target, TxHandle};
use switchroom_kernel::ports::net::SocketId;
use switchroom_kernel::shard::{AfterWait, Shard};
use switchroom_script::names::RouteType;
use switchroom_wire::sip::{Edits, Message};

use super::relay::{self, Made};
use super::state::{Transactions, id};
use super::{replies, step, waiting};
use crate::core::events::dummy;
use crate::core::send;

pub use super::local::{OnAgain, OnFinal, Request, ack, invite, request};
pub use super::state::{TxEvent, Watch};

/// Answer the request of the transaction in `ctx`. A final reply cancels the branches that are still open. False when it
/// has its final reply already.
pub fn reply(ctx: &mut Ctx, code: u16, reason: &[u8], headers: &[u8], body: Option<(&[u8], &[u8])>) -> bool {
    let Some(tx) = ctx.tx.map(id) else { return false };
    let shard = ctx.shard.clone();
    let part = shard.part::<Transactions>();
    if part.with(tx, |t| t.core.is_final()) != Some(false) {
        return false;
    }
    let tag = (code > 100).then(|| part.to_tag(tx)).flatten();
    let Some(bytes) = send::build_reply(ctx, code, reason, tag.as_deref(), headers, body) else {
        return false;
    };
    replies::send_local(ctx, tx, code, bytes);
    true
}

/// The same for a transaction at hand by its handle.
pub fn reply_to(shard: &Rc<Shard>, tx: TxHandle, code: u16, reason: &[u8]) -> bool {
    let ctx = replies::context(shard, id(tx), RouteType::Request);
    ctx.is_some_and(|mut ctx| reply(&mut ctx, code, reason, &[], None))
}

/// The To-tag of our replies in this transaction.
pub fn local_tag(ctx: &Ctx) -> Option<Bytes> {
    let tx = ctx.tx.map(id)?;
    ctx.shard.part::<Transactions>().to_tag(tx)
}

/// Make the transaction of the request in `ctx` when there is none. False for a retransmission, which was dealt with, and
/// when there is no room.
pub fn ensure(ctx: &mut Ctx) -> bool {
    ctx.tx.is_some() || matches!(relay::make(ctx), Made::New(_))
}

/// Hold the transaction in `ctx` open until `awaited` branches were added, real ones of now included (`None`: no limit).
/// False when it cannot wait, and when something holds it open already.
pub fn await_branches(ctx: &Ctx, awaited: Option<usize>) -> bool {
    let Some(tx) = ctx.tx.map(id) else { return false };
    let part = ctx.shard.part::<Transactions>();
    let phony = |b: &switchroom_engine::proxy::Branch<_, _>| b.kind() == Kind::Phony && b.is_pending();
    let held = part.with(tx, |t| t.core.branches().iter().any(phony));
    held == Some(false) && waiting::hold(ctx, awaited)
}

/// Await no more branches: what is left decides.
pub fn await_no_more(shard: &Rc<Shard>, tx: TxHandle) {
    step(shard, id(tx), |t, now, sink| {
        t.core.stop_waiting(now, sink);
    });
}

/// Add branches to a transaction from outside of its own processing, as `t_inject_branches()` does. Nothing happens when
/// it has its final reply.
pub fn inject(shard: &Rc<Shard>, tx: TxHandle, targets: SmallVec<[Target; 2]>) {
    let open = shard.part::<Transactions>().with(id(tx), |t| !t.core.is_final());
    if open != Some(true) {
        return;
    }
    if let Flow::Wait(wait) = relay::inject(shard, id(tx), targets, false, false) {
        let started = shard.wait(async move {
            let resume = wait.await;
            Box::new(move |shard: &Rc<Shard>| {
                let mut ctx = dummy(shard, RouteType::Request);
                resume.run(&mut ctx);
            }) as AfterWait
        });
        if !started {
            tracing::error!("too many scripts are waiting; a branch was not added");
        }
    }
}

/// Follow the transaction in `ctx`.
pub fn watch(ctx: &Ctx, who: Rc<dyn Watch>) -> bool {
    let Some(tx) = ctx.tx.map(id) else { return false };
    ctx.shard.part::<Transactions>().with(tx, |t| t.watchers.push(who)).is_some()
}

/// Follow the transaction in `ctx`, or the one that will be made for its request.
pub fn follow(ctx: &mut Ctx, who: Rc<dyn Watch>) {
    if ctx.tx.is_none() {
        ctx.note_mut::<Followers>().0.push(who);
    } else {
        watch(ctx, who);
    }
}

/// Those who wait for the transaction of a request.
#[derive(Default)]
struct Followers(SmallVec<[Rc<dyn Watch>; 1]>);

pub(super) fn take_followers(ctx: &mut Ctx) -> SmallVec<[Rc<dyn Watch>; 1]> {
    ctx.take_note::<Followers>().map(|f| f.0).unwrap_or_default()
}

/// What a module keeps with the request, from any route: in an onreply_route it stands with the transaction.
pub fn shared<T: Clone + 'static>(ctx: &Ctx) -> Option<T> {
    if let Some(own) = ctx.note::<T>() {
        return Some(own.clone());
    }
    let tx = ctx.tx.map(id)?;
    ctx.shard.part::<Transactions>().with(tx, |t| {
        let kept = t.notes.iter().find(|(kind, _)| *kind == TypeId::of::<T>());
        kept.and_then(|(_, note)| note.downcast_ref::<T>()).cloned()
    })?
}

/// Keep something new with the request, from any route.
pub fn share<T: 'static>(ctx: &mut Ctx, what: T) {
    let of_reply = ctx.tx.filter(|_| ctx.route == RouteType::Onreply).map(id);
    match of_reply {
        Some(tx) => {
            let part = ctx.shard.part::<Transactions>();
            part.with(tx, |t| t.notes.push((TypeId::of::<T>(), Box::new(what))));
        }
        None => ctx.add_note(what),
    }
}

/// Changes a reply.
pub type ReplyEdit = Rc<dyn Fn(&Message, &mut Edits)>;

/// A note: what is done to every reply that is relayed to the sender of the request.
#[derive(Clone, Default)]
pub struct ReplyEdits(pub Option<ReplyEdit>);

/// That note of a transaction.
pub(super) fn reply_edit(shard: &Shard, tx: Id) -> Option<ReplyEdit> {
    shard.part::<Transactions>().with(tx, |t| {
        let kept = t.notes.iter().find(|(kind, _)| *kind == TypeId::of::<ReplyEdits>());
        kept.and_then(|(_, note)| note.downcast_ref::<ReplyEdits>()).and_then(|e| e.0.clone())
    })?
}

/// Cancel the branches that are still open; what they answer decides the transaction. False when there is none.
pub fn cancel(shard: &Rc<Shard>, tx: TxHandle) -> bool {
    let part = shard.part::<Transactions>();
    let open = |t: &mut super::state::Tx| {
        !t.core.is_final() && t.core.branches().iter().any(switchroom_engine::proxy::Branch::is_pending)
    };
    if part.with(id(tx), open) != Some(true) {
        return false;
    }
    step(shard, id(tx), |t, now, sink| t.core.cancel_branches(now, Cancel::All, b"", sink));
    true
}

/// Socket that a branch of the transaction in `ctx` was sent from.
pub fn branch_socket(ctx: &Ctx, branch: usize) -> Option<SocketId> {
    let tx = ctx.tx.map(id)?;
    let part = ctx.shard.part::<Transactions>();
    part.with(tx, |t| t.core.branches().get(branch).map(|b| b.destination.socket))?
}

/// Where the request came from, also in a reply route.
pub fn request_received(ctx: &Ctx) -> Received {
    let of_reply = ctx.tx.filter(|_| !ctx.msg.is_request()).map(id);
    let part = ctx.shard.part::<Transactions>();
    of_reply.and_then(|tx| part.with(tx, |t| t.received)).unwrap_or(ctx.received)
}

/// Whether the caller cancelled the transaction in `ctx`.
pub fn was_cancelled(ctx: &Ctx) -> bool {
    let Some(tx) = ctx.tx.map(id) else { return false };
    ctx.shard.part::<Transactions>().with(tx, |t| t.core.was_cancelled()).unwrap_or(false)
}
