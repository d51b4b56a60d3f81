//! Script functions of tm.

use bytes::Bytes;
use switchroom_engine::transaction::key;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::Function;
use switchroom_kernel::names::FlagKind;
use switchroom_script::Value;
use switchroom_script::names::RouteType;
use switchroom_wire::sip::Method;

use super::relay::{Made, make, t_relay};
use super::routes::Arming;
use super::state::{Transactions, id};
use super::{api, export, local, routes, waiting};

/// The table.
pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("t_newtran", &[""], "R", t_newtran, "Make the transaction of the request"),
    Function::new("t_relay", &["[str],[str]"], "RF", t_relay, "Send the request on, keeping state"),
    Function::new("t_reply", &["int,str"], "RF", t_reply, "Answer through the transaction"),
    Function::new("t_reply_with_body", &["int,str,str"], "RF", t_reply_with_body, "Answer with a body"),
    Function::new(
        "t_reply_by_callid",
        &["int,str,[str],[str]"],
        "R",
        t_reply_by_callid,
        "Answer another INVITE",
    ),
    Function::new("t_on_failure", &["str"], "RFOBL", routes::on_failure, "Arm a failure_route"),
    Function::new("t_on_reply", &["str"], "RFOBL", routes::on_reply, "Arm an onreply_route"),
    Function::new("t_on_branch", &["str"], "RFOB", routes::on_branch, "Arm a branch_route"),
    Function::new("t_check_status", &["regex"], "RFOB", t_check_status, "Test the reply code"),
    Function::new(
        "t_check_trans",
        &[""],
        "RB",
        t_check_trans,
        "Test whether the request belongs to a transaction",
    ),
    Function::new("t_local_replied", &["str"], "RFOB", t_local_replied, "Test whether a reply was made here"),
    Function::new("t_was_cancelled", &[""], "RFOB", t_was_cancelled, "Test whether the caller gave up"),
    Function::new("t_flush_flags", &[""], "RB", t_flush_flags, "Copy the message flags to the transaction"),
    Function::new("t_add_hdrs", &["str"], "R", t_add_hdrs, "Add headers to all requests of the transaction"),
    Function::new("t_add_cancel_reason", &["str"], "R", waiting::add_cancel_reason, "Reason for CANCELs"),
    Function::new("t_cancel_branch", &["[str]"], "O", waiting::cancel_branch, "Cancel branches"),
    Function::new(
        "t_wait_for_new_branches",
        &["[int]"],
        "R",
        waiting::wait_for_new_branches,
        "Hold the transaction open",
    ),
    Function::new(
        "t_wait_no_more_branches",
        &[""],
        "RFOB",
        waiting::wait_no_more_branches,
        "Stop waiting for branches",
    ),
    Function::new(
        "t_inject_branches",
        &["str,[str]"],
        "RO",
        waiting::inject_branches,
        "Add branches to a transaction",
    ),
    Function::new(
        "t_new_request",
        &["str,str,str,str,[str],[str]"],
        "*",
        local::t_new_request,
        "Send a request of our own",
    ),
    Function::new("t_replicate", &["str,[str]"], "RF", local::t_replicate, "Send a copy elsewhere as well"),
    Function::new("t_write_req", &["str,str"], "RFB", export::t_write_req, "Write the request to a FIFO"),
    Function::new("t_write_unix", &["str,str"], "RFB", export::t_write_unix, "Write it to a Unix socket"),
    Function::new(
        "t_get_branch_idx_by_attr",
        &["str,[str],[int],[var],[int]"],
        "FOB",
        t_get_branch_idx_by_attr,
        "Find a branch by an attribute",
    ),
];

/// 1 made, 0 a retransmission, negative for an error. An end-to-end ACK needs none and gives 1.
fn t_newtran(c: &mut Call<'_>) -> Flow {
    if c.ctx.msg.method() == Method::Ack {
        return TRUE;
    }
    if c.ctx.tx.is_some() {
        tracing::error!("t_newtran(): the request has its transaction already");
        return Flow::Value(-1);
    }
    match make(c.ctx) {
        Made::New(_) => TRUE,
        Made::Again => Flow::Value(0),
        Made::Refused => FALSE,
    }
}

fn code_of(c: &Call<'_>) -> Option<u16> {
    let code = c.int(0).and_then(|code| u16::try_from(code).ok()).filter(|c| (100..700).contains(c));
    if code.is_none() {
        tracing::error!("a reply code is a number from 100 to 699");
    }
    code
}

fn answer(c: &mut Call<'_>, body: Option<(&[u8], &[u8])>) -> Flow {
    let Some(code) = code_of(c) else { return FALSE };
    let reason = c.str(1).cloned().unwrap_or_default();
    if c.ctx.tx.is_none() {
        match make(c.ctx) {
            Made::New(_) => {}
            Made::Again => return Flow::Value(0),
            Made::Refused => return FALSE,
        }
    }
    if api::reply(c.ctx, code, &reason, &[], body) { TRUE } else { FALSE }
}

fn t_reply(c: &mut Call<'_>) -> Flow {
    answer(c, None)
}

/// `t_reply_with_body(code, reason, body)`: the Content-Type comes from `append_to_reply()`, else it is SDP.
fn t_reply_with_body(c: &mut Call<'_>) -> Flow {
    let body = c.str(2).cloned().unwrap_or_default();
    let extras = c.ctx.note_mut::<crate::core::send::ReplyExtras>();
    let own = own_content_type(&mut extras.headers);
    let content_type = own.unwrap_or_else(|| Bytes::from_static(b"application/sdp"));
    answer(c, Some((&content_type, &body)))
}

/// Take the Content-Type line out of headers that are to be added.
fn own_content_type(headers: &mut Vec<u8>) -> Option<Bytes> {
    let lower = headers.to_ascii_lowercase();
    let start = lower.windows(13).position(|w| w == b"content-type:")?;
    let end =
        headers[start..].windows(2).position(|w| w == b"\r\n").map_or(headers.len(), |at| start + at + 2);
    let value = headers[start + 13..end].trim_ascii().to_vec();
    headers.drain(start..end);
    Some(value.into())
}

/// `t_reply_by_callid(code, reason[, callid[, cseq]])`: -2 and -3 when those are missing, -4 when nothing is found.
fn t_reply_by_callid(c: &mut Call<'_>) -> Flow {
    let Some(code) = code_of(c) else { return FALSE };
    let reason = c.str(1).cloned().unwrap_or_default();
    let ctx = &mut *c.ctx;
    let call_id = match c.args.str(2) {
        Some(id) => id.clone(),
        None if ctx.msg.call_id().is_empty() => return Flow::Value(-2),
        None => ctx.msg.slice(ctx.msg.call_id()),
    };
    let cseq = match c.args.str(3) {
        Some(text) => std::str::from_utf8(text).ok().and_then(|t| t.split_whitespace().next()?.parse().ok()),
        None => ctx.msg.cseq().ok().map(|c| c.0),
    };
    let Some(cseq) = cseq else { return Flow::Value(-3) };
    let shard = ctx.shard.clone();
    let part = shard.part::<Transactions>();
    let found = part.table(|t| {
        t.iter()
            .find(|(_, tx)| {
                tx.request.call_id() == &call_id[..]
                    && tx.request.cseq().is_ok_and(|c| c.0 == cseq)
                    && !tx.core.is_final()
            })
            .map(|(id, _)| id)
    });
    let Some(found) = found else { return Flow::Value(-4) };
    let Some(mut other) = super::replies::context(&shard, found, RouteType::Request) else { return FALSE };
    if api::reply(&mut other, code, &reason, &[], None) { TRUE } else { FALSE }
}

fn t_check_status(c: &mut Call<'_>) -> Flow {
    let ctx = &mut *c.ctx;
    let code = match ctx.route {
        RouteType::Failure => ctx.picked_code,
        RouteType::Onreply => ctx.reply().map_or(0, |r| r.status()),
        _ => {
            let tx = ctx.tx.map(id);
            let shard = ctx.shard.clone();
            tx.and_then(|tx| shard.part::<Transactions>().with(tx, |t| t.core.last_code())).unwrap_or(0)
        }
    };
    let Some(regex) = c.args.regex(0) else { return FALSE };
    if regex.is_match(itoa::Buffer::new().format(code).as_bytes()) { TRUE } else { FALSE }
}

/// Retransmissions and hop-by-hop ACKs were dealt with before the script; so a CANCEL is true when its INVITE is known, an
/// ACK gives -2 (end to end), and any other request is a new one.
fn t_check_trans(c: &mut Call<'_>) -> Flow {
    let ctx = &mut *c.ctx;
    if ctx.tx.is_some() {
        return TRUE;
    }
    let shard = ctx.shard.clone();
    let part = shard.part::<Transactions>();
    match ctx.msg.method() {
        Method::Cancel => {
            let found = key::cancelled(&ctx.msg).and_then(|k| part.table(|t| t.find_key(&k)));
            if found.is_some() { TRUE } else { FALSE }
        }
        Method::Ack => Flow::Value(-2),
        _ => FALSE,
    }
}

fn t_local_replied(c: &mut Call<'_>) -> Flow {
    let what = c.text(0).to_ascii_lowercase();
    let Some(tx) = c.ctx.tx.map(id) else { return FALSE };
    let branch = c.ctx.branch;
    let local = c.ctx.shard.part::<Transactions>().with(tx, |t| match what.as_str() {
        "all" => {
            let step = t.core.step();
            t.core.branches().iter().skip(step).all(|b| b.is_local() || b.last_code() == 0)
        }
        "branch" => {
            let picked = branch.map(usize::from).or(t.picked.and_then(|p| p.0));
            picked.and_then(|b| t.core.branches().get(b)).is_none_or(|b| b.is_local())
        }
        _ => match t.picked {
            Some((Some(b), _)) => t.core.branches().get(b).is_some_and(|b| b.is_local()),
            Some((None, _)) => true,
            None => t.local_last,
        },
    });
    if local.unwrap_or(false) { TRUE } else { FALSE }
}

fn t_was_cancelled(c: &mut Call<'_>) -> Flow {
    if api::was_cancelled(c.ctx) { TRUE } else { FALSE }
}

fn t_flush_flags(c: &mut Call<'_>) -> Flow {
    let flags = c.ctx.flags;
    let Some(tx) = c.ctx.tx.map(id) else { return FALSE };
    match c.ctx.shard.part::<Transactions>().with(tx, |t| t.flags = flags) {
        Some(()) => TRUE,
        None => FALSE,
    }
}

fn t_add_hdrs(c: &mut Call<'_>) -> Flow {
    let Some(text) = c.str(0).cloned() else { return FALSE };
    c.ctx.edits.append_header(text.clone());
    let add = |headers: &mut Bytes| *headers = [&headers[..], &text].concat().into();
    match c.ctx.tx {
        Some(tx) => {
            c.ctx.shard.part::<Transactions>().with(id(tx), |t| add(&mut t.own_headers));
        }
        None => add(&mut c.ctx.note_mut::<Arming>().headers),
    }
    TRUE
}

/// `t_get_branch_idx_by_attr(name[, value-as-text[, value-as-int[, out[, start]]]])`
fn t_get_branch_idx_by_attr(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    let wanted_text = c.str(1).cloned();
    let wanted_int = c.int(2);
    let start = c.int(4).unwrap_or(0).max(0) as usize;
    let shard = c.ctx.shard.clone();
    let Some(key) = shard.kernel.registry.names.find(&name) else { return FALSE };
    let Some(tx) = c.ctx.tx.map(id) else { return FALSE };
    let found = shard.part::<Transactions>().with(tx, |t| {
        t.core.branches().iter().enumerate().skip(start).find_map(|(i, b)| {
            let fits = match (b.destination.target.attrs.get(key, 0), &wanted_text, wanted_int) {
                (Value::Null, ..) => false,
                (value, Some(text), _) => value.to_bytes().as_ref() == Some(text),
                (value, None, Some(n)) => value.to_int() == Some(n),
                (_, None, None) => true,
            };
            fits.then_some(i)
        })
    });
    let Some(index) = found.flatten() else { return FALSE };
    if let Some(var) = c.var(3)
        && c.ctx.set_var(&var, Value::Int(index as i64)).is_err()
    {
        return FALSE;
    }
    TRUE
}

/// Bit of a branch flag by name.
pub(super) fn branch_flag(ctx: &switchroom_kernel::Ctx, name: &str) -> Option<u32> {
    ctx.shard.kernel.registry.names.flag(FlagKind::Branch, name).ok().map(|b| 1 << b)
}
