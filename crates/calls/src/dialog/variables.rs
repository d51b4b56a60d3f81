//! Variables of dialogs.

use switchroom_kernel::context::Ctx;
use switchroom_kernel::module::{Named, Variable};
use switchroom_kernel::names::FlagKind;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use super::follow::current;
use super::functions::put;
use super::state::{Dialog, DialogModule, Dialogs, State, start_lifetime};

/// The table.
pub(super) static VARIABLES: &[Variable] = &[
    Variable::ro("DLG_count", count, "Answered dialogs"),
    Variable::ro("DLG_status", status, "State of the dialog, 1 to 5"),
    Variable::ro("DLG_dir", direction, "upstream or downstream"),
    Variable::ro("DLG_lifetime", lifetime, "Seconds since the answer"),
    Variable::ro("DLG_flags", flags, "Names of the dialog's flags"),
    Variable::ro("DLG_did", did, "Name of the dialog"),
    Variable::ro("DLG_end_reason", end_reason, "Why the dialog ended"),
    Variable::rw("DLG_timeout", timeout, set_timeout, "Lifetime in seconds"),
    {
        let mut v = Variable::rw("dlg_val", value, set_value, "A value kept with the dialog");
        v.named = Named::Yes;
        v
    },
];

fn with<T>(ctx: &Ctx, look: impl FnOnce(&mut Dialog) -> T) -> Option<T> {
    let now = current(ctx)?;
    ctx.shard.part::<Dialogs>().with(now.id, look)
}

fn count(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let module = ctx.shard.kernel.state::<DialogModule>();
    Value::Int(ctx.shard.kernel.stats.read(module.stats.active))
}

fn status(ctx: &mut Ctx, _: &VarAccess) -> Value {
    with(ctx, |d| d.state as i64).map_or(Value::Null, Value::Int)
}

fn direction(ctx: &mut Ctx, _: &VarAccess) -> Value {
    match current(ctx) {
        None => Value::Null,
        Some(now) => {
            // A reply goes the other way.
            let down = now.downstream == ctx.msg.is_request();
            Value::from(if down { "downstream" } else { "upstream" })
        }
    }
}

fn lifetime(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let now = ctx.shard.kernel.unix();
    let since = with(ctx, |d| if d.started == 0 { 0 } else { now.saturating_sub(d.started) });
    since.map_or(Value::Null, |s| Value::Int(s as i64))
}

fn flags(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let Some(mask) = with(ctx, |d| d.flags) else { return Value::Null };
    Value::Str(ctx.shard.kernel.registry.names.flag_names(FlagKind::Message, mask).into())
}

fn did(ctx: &mut Ctx, _: &VarAccess) -> Value {
    with(ctx, |d| d.did()).map_or(Value::Null, |t| Value::Str(t.into()))
}

fn end_reason(ctx: &mut Ctx, _: &VarAccess) -> Value {
    match with(ctx, |d| d.end_reason) {
        Some(reason) if !reason.is_empty() => Value::from(reason),
        _ => Value::Null,
    }
}

fn timeout(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let now = ctx.shard.now();
    let left = with(ctx, |d| match d.deadline {
        Some(at) => at.saturating_duration_since(now).as_secs() as i64,
        None => d.timeout as i64,
    });
    left.map_or(Value::Null, Value::Int)
}

fn set_timeout(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    let seconds = value.to_int().filter(|s| *s > 0).ok_or("a lifetime is a positive number of seconds")?;
    let now = current(ctx).ok_or("there is no dialog")?;
    let running = ctx.shard.part::<Dialogs>().with(now.id, |d| {
        d.timeout = seconds as u64;
        matches!(d.state, State::ConfirmedNoAck | State::Confirmed)
    });
    if running == Some(true) {
        start_lifetime(&ctx.shard, now.id);
    }
    Ok(())
}

fn value(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(key) = ctx.shard.kernel.registry.inner_key(var) else { return Value::Null };
    let found = with(ctx, |d| d.values.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone()));
    found.flatten().unwrap_or_default()
}

fn set_value(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let key = ctx.shard.kernel.registry.inner_key(var).ok_or("too many names")?;
    with(ctx, |d| put(d, key, value)).ok_or_else(|| "there is no dialog".into())
}
