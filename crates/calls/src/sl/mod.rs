//! Stateless replies, and the filter that takes the ACKs to them.
//!
//! The To-tag of a stateless reply is a keyed hash of the request, so its ACK is known without having kept anything.

use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Hook, Hooked, Module, Param, Statistic};
use switchroom_kernel::stats::StatId;
use switchroom_wire::sip::Method;

use crate::core::send;
use crate::core::state::Core;

/// The module.
pub static MODULE: Module = Module {
    name: "sl",
    summary: "Stateless replies",
    params: &[Param::int("enable_stats", "1", "Count replies")],
    functions: &[
        Function::new("sl_send_reply", &["int,str"], "RE", sl_send_reply, "Answer without keeping state"),
        Function::new(
            "sl_reply_error",
            &[""],
            "R",
            sl_reply_error,
            "Answer with the error of the last function",
        ),
    ],
    statistics: &[
        Statistic::counter("1xx_replies", "1xx sent"),
        Statistic::counter("2xx_replies", "2xx sent"),
        Statistic::counter("3xx_replies", "3xx sent"),
        Statistic::counter("4xx_replies", "4xx sent"),
        Statistic::counter("5xx_replies", "5xx sent"),
        Statistic::counter("6xx_replies", "6xx sent"),
        Statistic::counter("sent_replies", "Replies sent"),
        Statistic::counter("sent_err_replies", "Error replies sent by sl_reply_error()"),
        Statistic::counter("received_ACKs", "ACKs to stateless replies"),
    ],
    hooks: &[Hook::Request(take_ack)],
    open: |o| {
        let classes =
            ["1xx_replies", "2xx_replies", "3xx_replies", "4xx_replies", "5xx_replies", "6xx_replies"];
        let mut by_class = [StatId(0); 6];
        for (id, name) in by_class.iter_mut().zip(classes) {
            *id = o.stat(name)?;
        }
        let sl = Sl {
            by_class,
            sent: o.stat("sent_replies")?,
            errors: o.stat("sent_err_replies")?,
            acks: o.stat("received_ACKs")?,
        };
        o.provide(sl);
        Ok(())
    },
    ..Module::EMPTY
};

struct Sl {
    by_class: [StatId; 6],
    sent: StatId,
    errors: StatId,
    acks: StatId,
}

/// Answer the request without state and count it. For other modules too.
pub fn reply(ctx: &mut Ctx, code: u16, reason: &[u8], headers: &[u8], body: Option<(&[u8], &[u8])>) -> bool {
    let refused = ctx.request().is_none_or(|r| r.method() == Method::Ack);
    if refused || !(100..700).contains(&code) {
        return false;
    }
    if !send::reply(ctx, code, reason, None, headers, body) {
        return false;
    }
    if let Some(sl) = ctx.shard.kernel.find::<Sl>() {
        ctx.shard.count(sl.sent, 1);
        ctx.shard.count(sl.by_class[usize::from(code / 100 - 1)], 1);
    }
    true
}

fn sl_send_reply(c: &mut Call<'_>) -> Flow {
    let code = c.int(0).unwrap_or(0);
    let reason = c.str(1).cloned().unwrap_or_default();
    let Ok(code) = u16::try_from(code) else { return FALSE };
    if reply(c.ctx, code, &reason, &[], None) { TRUE } else { FALSE }
}

/// Note that a function which failed has answered the request itself: `sl_reply_error()` then adds nothing.
#[derive(Default)]
pub struct Refused(pub bool);

/// The error that a function left in the context, else 500.
fn sl_reply_error(c: &mut Call<'_>) -> Flow {
    if c.ctx.note::<Refused>().is_some_and(|r| r.0) {
        return TRUE;
    }
    let error = std::mem::take(&mut c.ctx.error);
    let (code, reason) = match error.code {
        0 => (500, "Server error occurred".to_owned()),
        code => (code, error.reason),
    };
    if !reply(c.ctx, code, reason.as_bytes(), &[], None) {
        return FALSE;
    }
    let shard = &c.ctx.shard;
    shard.count(shard.kernel.state::<Sl>().errors, 1);
    TRUE
}

fn take_ack(ctx: &mut Ctx) -> Hooked {
    if ctx.msg.method() != Method::Ack {
        return Hooked::Continue;
    }
    let Ok(to) = ctx.msg.to() else { return Hooked::Continue };
    let Some(tag) = to.tag().filter(|t| t.starts_with(b"sl-")) else { return Hooked::Continue };
    let own = send::tag_for(ctx.shard.kernel.state::<Core>(), &ctx.msg);
    if own != tag {
        return Hooked::Continue;
    }
    ctx.shard.count(ctx.shard.kernel.state::<Sl>().acks, 1);
    Hooked::Consumed
}
