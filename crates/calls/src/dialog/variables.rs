//! Variables of dialogs.

use switchroom_kernel::context::Ctx;
use switchroom_kernel::module::{Named, Variable};
use switchroom_kernel::names::FlagKind;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use super::commands::as_json;
use super::functions::put;
use super::loaded::{self, change, change_then, current};
use super::sequential::start_pings;
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
    Variable::ro("DLG_json", |ctx, _| json(ctx, false), "The dialog as JSON"),
    Variable::ro("DLG_ctx_json", |ctx, _| json(ctx, true), "The same with values and profiles"),
    Variable::rw(
        "DLG_del_delay",
        |ctx, _| seconds(ctx, |d| d.delete_delay),
        |ctx, _, v| set_seconds(ctx, v, 0, |d, s| d.delete_delay = s),
        "Seconds the dialog stays after its end",
    ),
    Variable::rw(
        "DLG_options_ping_interval",
        |ctx, _| seconds(ctx, |d| d.options_ping.every),
        |ctx, _, v| set_seconds(ctx, v, 1, |d, s| d.options_ping.every = s),
        "Seconds between pings with OPTIONS",
    ),
    Variable::rw(
        "DLG_reinvite_ping_interval",
        |ctx, _| seconds(ctx, |d| d.reinvite_ping.every),
        |ctx, _, v| set_seconds(ctx, v, 1, |d, s| d.reinvite_ping.every = s),
        "Seconds between pings with INVITE",
    ),
    {
        let mut v = Variable::rw("dlg_val", value, set_value, "A value kept with the dialog");
        v.named = Named::Yes;
        v
    },
];

fn with<T>(ctx: &Ctx, look: impl FnOnce(&mut Dialog) -> T) -> Option<T> {
    loaded::with(ctx, look)
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
    let done = change_then(
        ctx,
        move |d| d.timeout = seconds as u64,
        |shard, id| {
            let runs = |d: &mut Dialog| matches!(d.state, State::ConfirmedNoAck | State::Confirmed);
            if shard.part::<Dialogs>().with(id, runs) == Some(true) {
                start_lifetime(shard, id);
            }
        },
    );
    done.ok_or_else(|| "there is no dialog".into())
}

fn value(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(key) = ctx.shard.kernel.registry.inner_key(var) else { return Value::Null };
    let found = with(ctx, |d| d.values.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone()));
    found.flatten().unwrap_or_default()
}

fn set_value(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let key = ctx.shard.kernel.registry.inner_key(var).ok_or("too many names")?;
    change(ctx, move |d| put(d, key, value)).ok_or_else(|| "there is no dialog".into())
}

fn json(ctx: &mut Ctx, whole: bool) -> Value {
    let kernel = ctx.shard.kernel.clone();
    let text = with(ctx, |d| as_json(&kernel, d, whole).to_string());
    text.map_or(Value::Null, |t| Value::Str(t.into()))
}

fn seconds(ctx: &Ctx, which: impl FnOnce(&Dialog) -> u64) -> Value {
    with(ctx, |d| which(d)).map_or(Value::Null, |s| Value::Int(s as i64))
}

fn set_seconds(
    ctx: &Ctx,
    value: Value,
    least: u64,
    set: impl FnOnce(&mut Dialog, u64) + Clone + Send + 'static,
) -> Result<(), String> {
    let given = value.to_int().and_then(|s| u64::try_from(s).ok());
    let seconds = given.filter(|s| (least..=86_400).contains(s));
    let seconds = seconds.ok_or_else(|| format!("seconds from {least} to 86400 are needed"))?;
    let done = change_then(ctx, move |d| set(d, seconds), |shard, id| start_pings(shard, id));
    done.ok_or_else(|| "there is no dialog".into())
}
