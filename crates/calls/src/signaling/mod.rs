//! One reply call that answers through the transaction when there is one, and without state otherwise.

use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module, Variable};
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use crate::core::send;
use crate::{sl, tm};

/// The module.
pub static MODULE: Module = Module {
    name: "signaling",
    summary: "Replies through tm or sl, whichever fits",
    functions: &[Function::new("send_reply", &["int,str"], "RFE", send_reply, "Answer the request")],
    variables: &[Variable::ro("sig_local_totag", local_totag, "The To-tag that a reply of ours would carry")],
    ..Module::EMPTY
};

/// Answer the request in `ctx`. For other modules too.
pub fn reply(ctx: &mut Ctx, code: u16, reason: &[u8], headers: &[u8], body: Option<(&[u8], &[u8])>) -> bool {
    if ctx.tx.is_some() {
        tm::api::reply(ctx, code, reason, headers, body)
    } else {
        sl::reply(ctx, code, reason, headers, body)
    }
}

fn send_reply(c: &mut Call<'_>) -> Flow {
    let code = c.int(0).and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    let reason = c.str(1).cloned().unwrap_or_default();
    if !(100..700).contains(&code) {
        return FALSE;
    }
    if reply(c.ctx, code, &reason, &[], None) { TRUE } else { FALSE }
}

fn local_totag(ctx: &mut Ctx, _: &VarAccess) -> Value {
    match tm::api::local_tag(ctx) {
        Some(tag) => Value::Str(tag),
        None => Value::Str(send::stateless_tag(ctx).into()),
    }
}
