//! `create_dialog("auto-prack")`: reliable provisional replies are acknowledged here (RFC 3262 §4), for callers that cannot.
//!
//! Left out: an answer in the PRACK to an offer in the reply, which only the caller could give.

use std::rc::Rc;

use switchroom_kernel::context::Ctx;
use switchroom_wire::sip::{HeaderId, Message};

use super::sequential::{self, CALLEE};
use super::state::{DialogModule, Dialogs};
use crate::tm::api::{OnFinal, reply_to, request};

/// Replies of one call that are remembered, so that one that comes again is not acknowledged again.
const MAX_REPLIES: usize = 32;

/// A provisional reply passes to the caller.
pub(super) fn acknowledge(ctx: &mut Ctx, id: u64, reply: &Message) {
    let number = |h: &str| {
        let header = reply.headers_by_name(h.as_bytes()).next()?;
        std::str::from_utf8(header.value).ok()?.trim().parse::<u32>().ok()
    };
    let Some(number) = number("RSeq") else { return };
    let (Ok(to), Ok((cseq, _))) = (reply.to(), reply.cseq()) else { return };
    let tag = to.tag().unwrap_or_default();
    let shard = ctx.shard.clone();
    let fresh = shard.part::<Dialogs>().with(id, |d| {
        let Some(done) = &mut d.pracked else { return false };
        // Within one early dialog the numbers count up.
        let full = done.len() >= MAX_REPLIES;
        let known = done.iter_mut().find(|(t, _)| &t[..] == tag);
        match known {
            Some((_, last)) if number <= *last => false,
            Some((_, last)) => {
                *last = number;
                true
            }
            None if full => false,
            None => {
                done.push((bytes::Bytes::copy_from_slice(tag), number));
                true
            }
        }
    });
    if fresh != Some(true) {
        return;
    }
    let header = format!("RAck: {number} {cseq} INVITE\r\n");
    let Some(mut made) = sequential::make(&shard, id, CALLEE, b"PRACK", None, header.as_bytes()) else {
        return;
    };
    let (timeout, hangs_up) = shard.kernel.state::<DialogModule>().prack;
    made.timeout = Some(timeout);
    // What the callee knows the caller by, whatever was replaced on the way.
    if let Some(from) = reply.header(HeaderId::From) {
        made.from = from.unfolded().into_owned().into();
    }
    let tx = ctx.tx;
    let done: OnFinal = Rc::new(move |shard, code, _| {
        if (200..300).contains(&code) {
            return;
        }
        tracing::debug!("a PRACK of ours was answered with {code}");
        if let Some(tx) = tx.filter(|_| hangs_up) {
            reply_to(shard, tx, 502, b"Bad Gateway");
        }
    });
    request(&shard, made, done);
}
