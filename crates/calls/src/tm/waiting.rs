//! Transactions that wait for branches to come, and branches that come from elsewhere.

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_engine::proxy::Cancel;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, Target};
use switchroom_kernel::ports::net::{Proto, SocketId};
use switchroom_wire::sip::Method;

use super::state::{Destination, Transactions, id};
use super::step;
use crate::core::locate::Hop;

/// `t_wait_for_new_branches([n])`: hold the transaction open after its branches have failed.
pub(super) fn wait_for_new_branches(c: &mut Call<'_>) -> Flow {
    let awaited = c.int(0).filter(|n| *n > 0).map(|n| n as usize);
    if c.ctx.tx.is_none() {
        tracing::error!("t_wait_for_new_branches(): there is no transaction; call t_newtran() first");
        return FALSE;
    }
    if hold(c.ctx, awaited) { TRUE } else { FALSE }
}

/// Add the placeholder that holds the transaction in `ctx` open.
pub(super) fn hold(ctx: &Ctx, awaited: Option<usize>) -> bool {
    let Some(tx) = ctx.tx.map(id) else { return false };
    let shard = ctx.shard.clone();
    let nowhere = Destination {
        target: Target::unchanged(),
        hop: Hop { proto: Proto::Udp, addr: ctx.received.peer },
        socket: SocketId(0),
        conn: None,
        more: Vec::new(),
        edits: None,
        on_reply: None,
        sends: 0,
    };
    let mut ok = false;
    step(&shard, tx, |t, now, _| match t.core.wait_for_branches(now, awaited, nowhere) {
        Ok(_) => ok = true,
        Err(e) => tracing::error!("a transaction cannot wait for branches: {e}"),
    });
    ok
}

/// `t_wait_no_more_branches()`
pub(super) fn wait_no_more_branches(c: &mut Call<'_>) -> Flow {
    let Some(tx) = c.ctx.tx.map(id) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let mut waited = false;
    step(&shard, tx, |t, now, sink| waited = t.core.stop_waiting(now, sink));
    if waited { TRUE } else { FALSE }
}

/// `t_cancel_branch([flags])`: no flag for this branch, `a` for all, `o` for all others.
pub(super) fn cancel_branch(c: &mut Call<'_>) -> Flow {
    let flags = c.text(0).to_ascii_lowercase();
    let ctx = &mut *c.ctx;
    let (Some(tx), Some(branch)) = (ctx.tx.map(id), ctx.branch) else { return FALSE };
    if ctx.other.as_ref().is_none_or(|r| r.method() != Method::Invite) {
        return FALSE;
    }
    let is_final = ctx.msg.status() >= 200;
    let branch = usize::from(branch);
    let which = match (flags.contains('a'), flags.contains('o')) {
        (true, _) if is_final => Cancel::AllBut(branch),
        (true, _) => Cancel::All,
        (false, true) => Cancel::AllBut(branch),
        (false, false) if is_final => return FALSE,
        (false, false) => Cancel::One(branch),
    };
    let shard = ctx.shard.clone();
    let headers = shard.part::<Transactions>().with(tx, |t| t.cancel_headers.clone()).unwrap_or_default();
    step(&shard, tx, |t, now, sink| t.core.cancel_branches(now, which, &headers, sink));
    TRUE
}

/// `t_add_cancel_reason("Reason: ...\r\n")`: a header for the CANCELs of this transaction.
pub(super) fn add_cancel_reason(c: &mut Call<'_>) -> Flow {
    let Some(text) = c.str(0).cloned() else { return FALSE };
    let mut line = match text.iter().position(|b| *b == b':') {
        Some(_) => text.to_vec(),
        None => [b"Reason: ", &text[..]].concat(),
    };
    if !line.ends_with(b"\r\n") {
        line.extend_from_slice(b"\r\n");
    }
    if !super::api::ensure(c.ctx) {
        return FALSE;
    }
    let Some(tx) = c.ctx.tx.map(id) else { return FALSE };
    let set = c.ctx.shard.part::<Transactions>().with(tx, |t| t.cancel_headers = Bytes::from(line));
    if set.is_some() { TRUE } else { FALSE }
}

/// `t_inject_branches("event"|"msg"[, flags])`: further branches for a transaction that is under way.
pub(super) fn inject_branches(c: &mut Call<'_>) -> Flow {
    let source = c.text(0).to_ascii_lowercase();
    let flags = c.text(1).to_ascii_lowercase();
    let Some(tx) = c.ctx.tx.map(id) else {
        tracing::error!("t_inject_branches(): no transaction to add to");
        return FALSE;
    };
    let targets = if source.starts_with("event") {
        match from_event(c.ctx) {
            Some(t) => t,
            None => return FALSE,
        }
    } else if source.starts_with("m") {
        from_message(c.ctx)
    } else {
        tracing::error!("t_inject_branches(): \"{source}\" is neither event nor msg");
        return FALSE;
    };
    let shard = c.ctx.shard.clone();
    let is_final = shard.part::<Transactions>().with(tx, |t| t.core.is_final());
    match is_final {
        None => return FALSE,
        Some(true) => return Flow::Value(-2),
        Some(false) => {}
    }
    let last = flags.split([',', ' ']).any(|w| w == "last") || (flags.len() <= 2 && flags.contains('l'));
    let cancel = flags.split([',', ' ']).any(|w| w == "cancel") || (flags.len() <= 2 && flags.contains('c'));
    super::relay::inject(&shard, tx, targets, cancel, last)
}

fn from_event(ctx: &mut Ctx) -> Option<SmallVec<[Target; 2]>> {
    let names = ctx.shard.kernel.registry.names.clone();
    let get = |name: &str| names.find(name).map(|n| ctx.avps.get(n, 0));
    let text = |name: &str| get(name).and_then(|v| v.to_bytes());
    let all = ["uri", "received", "path", "qval", "socket", "bflags"].map(text);
    let [Some(uri), Some(received), Some(path), Some(_), Some(socket), Some(_)] = all else {
        tracing::error!("t_inject_branches(): the event has no contact in its AVPs");
        return None;
    };
    let int = |name: &str| get(name).and_then(|v| v.to_int()).unwrap_or(0);
    let mut target = crate::core::functions::target_of(uri);
    target.dst = Some(received).filter(|r| !r.is_empty());
    target.path = Some(path).filter(|p| !p.is_empty());
    if target.path.is_some() {
        target.dst = None;
    }
    target.q = int("qval") as i32;
    target.flags = int("bflags") as u32;
    target.socket = crate::core::functions::find_socket(ctx, &String::from_utf8_lossy(&socket));
    Some(SmallVec::from_iter([target]))
}

fn from_message(ctx: &mut Ctx) -> SmallVec<[Target; 2]> {
    let mut all: SmallVec<[Target; 2]> = SmallVec::new();
    if ctx.msg.is_request() {
        let mut first = ctx.target.clone();
        first.uri = Some(ctx.ruri());
        all.push(first);
    }
    all.extend(std::mem::take(&mut ctx.branches));
    all
}
