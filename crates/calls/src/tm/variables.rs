//! Variables of tm.

use std::time::Duration;

use bytes::Bytes;
use switchroom_engine::proxy::{Branch, Kind};
use switchroom_kernel::context::Ctx;
use switchroom_kernel::module::{Named, Variable};
use switchroom_kernel::names::FlagKind;
use switchroom_script::Value;
use switchroom_script::names::RouteType;
use switchroom_script::vm::{Index, VarAccess};

use super::functions::branch_flag;
use super::state::{Destination, Reply, Tm, Transactions, Tx, id};
use crate::core::branches::print_q;

const fn named(mut v: Variable) -> Variable {
    v.named = Named::Yes;
    v
}

/// The table.
pub(super) static VARIABLES: &[Variable] = &[
    Variable::ro("T_branch_idx", branch_index, "Index of the branch"),
    Variable::ro("T_reply_code", reply_code, "Code of the reply in hand, or of the last one sent"),
    Variable::ro("T_ruri", ruri, "Request-URI of the branch"),
    Variable::ro("T_id", tx_id, "Name of the transaction"),
    Variable::ro("T_branch_last_reply_code", last_reply_code, "Last code of a branch").indexed(),
    Variable::rw("T_fr_timeout", fr_timeout, set_fr_timeout, "Seconds until a final reply"),
    Variable::rw(
        "T_fr_inv_timeout",
        fr_inv_timeout,
        set_fr_inv_timeout,
        "Seconds until a final reply once it rings",
    ),
    named(Variable::rw("bavp", bavp, set_bavp, "Attribute of a branch")).indexed(),
    Variable::ro(
        "tm.branch.uri",
        |c, v| each(c, v, |_, b| opt(b.destination.target.uri.clone())),
        "URI of a branch",
    )
    .indexed(),
    Variable::ro(
        "tm.branch.duri",
        |c, v| each(c, v, |_, b| opt(b.destination.target.dst.clone())),
        "Next hop of a branch",
    )
    .indexed(),
    Variable::ro(
        "tm.branch.path",
        |c, v| each(c, v, |_, b| opt(b.destination.target.path.clone())),
        "Path of a branch",
    )
    .indexed(),
    Variable::ro("tm.branch.q", |c, v| each(c, v, |_, b| q(b.destination.target.q)), "Quality of a branch")
        .indexed(),
    Variable::ro("tm.branch.flags", |c, v| each(c, v, flags), "Flags of a branch").indexed(),
    Variable::ro("tm.branch.socket", |c, v| each(c, v, socket), "Socket of a branch").indexed(),
    named(Variable::rw("tm.branch.flag", flag, set_flag, "A flag of a branch")).indexed(),
    named(Variable::rw("tm.branch.attr", bavp, set_bavp, "Attribute of a branch")).indexed(),
    Variable::ro("tm.branch.last_received", last_reply_code, "Last code of a branch").indexed(),
    Variable::ro("tm.branch.type", |c, v| each(c, v, kind), "sip or phony").indexed(),
];

fn with<T>(ctx: &Ctx, look: impl FnOnce(&mut Tx) -> T) -> Option<T> {
    let tx = ctx.tx.map(id)?;
    ctx.shard.part::<Transactions>().with(tx, look)
}

fn opt(value: Option<Bytes>) -> Value {
    value.map_or(Value::Null, Value::Str)
}

fn q(q: i32) -> Value {
    if q < 0 { Value::Null } else { Value::Str(print_q(q).into()) }
}

fn branch_index(ctx: &mut Ctx, _: &VarAccess) -> Value {
    match ctx.branch {
        Some(b) => Value::Int(i64::from(b)),
        None if ctx.route == RouteType::Failure => {
            with(ctx, |t| t.picked.and_then(|p| p.0)).flatten().map_or(Value::Null, |b| Value::Int(b as i64))
        }
        None => Value::Null,
    }
}

fn reply_code(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let code = match ctx.route {
        RouteType::Failure if ctx.picked_code != 0 => ctx.picked_code,
        RouteType::Onreply => ctx.reply().map_or(0, |r| r.status()),
        _ => with(ctx, |t| t.core.last_code()).unwrap_or(0),
    };
    Value::Int(i64::from(code))
}

fn ruri(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let branch = ctx.branch.map(usize::from);
    with(ctx, |t| {
        let b = branch.or(t.picked.and_then(|p| p.0)).and_then(|b| t.core.branches().get(b));
        match b.and_then(|b| b.destination.target.uri.clone()) {
            Some(uri) => uri,
            None => t.target.uri.clone().unwrap_or_else(|| t.request.slice(t.request.ruri_bytes())),
        }
    })
    .map_or(Value::Null, Value::Str)
}

fn tx_id(ctx: &mut Ctx, _: &VarAccess) -> Value {
    name_of(ctx).map_or(Value::Null, |name| Value::Str(name.into()))
}

/// `$T_id`: worker, slot and generation of the transaction.
pub(super) fn name_of(ctx: &Ctx) -> Option<String> {
    let tx = id(ctx.tx?);
    Some(format!("{}.{}.{}", ctx.shard.worker, tx.slot, tx.generation))
}

/// Worker and transaction that a `$T_id` names.
pub(super) fn by_name(name: &str) -> Option<(usize, switchroom_engine::transaction::Id)> {
    let mut parts = name.split('.');
    let worker = parts.next()?.parse().ok()?;
    let id = switchroom_engine::transaction::Id {
        slot: parts.next()?.parse().ok()?,
        generation: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some((worker, id))
}

/// The branch that a variable names by index; without one the branch in hand.
fn chosen(ctx: &Ctx, var: &VarAccess, t: &Tx) -> Option<usize> {
    let count = t.core.branches().len() as i64;
    match var.index {
        Index::At(i) if i < 0 => usize::try_from(count + i64::from(i)).ok(),
        Index::At(i) => Some(i as usize),
        _ => Some(ctx.branch.map(usize::from).or(t.picked.and_then(|p| p.0)).unwrap_or(0)),
    }
}

fn each(ctx: &mut Ctx, var: &VarAccess, get: fn(&Ctx, &Branch<Reply, Destination>) -> Value) -> Value {
    let c: &Ctx = ctx;
    with(c, |t| {
        if var.index == Index::All {
            let all = t.core.branches().iter().filter_map(|b| get(c, b).to_bytes()).collect::<Vec<_>>();
            return Value::Str(all.join(&b","[..]).into());
        }
        chosen(c, var, t).and_then(|i| t.core.branches().get(i)).map_or(Value::Null, |b| get(c, b))
    })
    .unwrap_or_default()
}

fn last_reply_code(ctx: &mut Ctx, var: &VarAccess) -> Value {
    each(ctx, var, |_, b| Value::Int(i64::from(b.last_code())))
}

fn flags(ctx: &Ctx, b: &Branch<Reply, Destination>) -> Value {
    let names = &ctx.shard.kernel.registry.names;
    Value::Str(names.flag_names(FlagKind::Branch, b.destination.target.flags).into())
}

fn socket(ctx: &Ctx, b: &Branch<Reply, Destination>) -> Value {
    match ctx.shard.kernel.socket(b.destination.socket) {
        Some(s) => Value::Str(s.name().into()),
        None => Value::Null,
    }
}

fn kind(_: &Ctx, b: &Branch<Reply, Destination>) -> Value {
    Value::from(match b.kind() {
        Kind::Real => "sip",
        Kind::Phony => "phony",
    })
}

fn flag(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(name) = ctx.shard.kernel.registry.inner_name(var) else { return Value::Null };
    let Some(bit) = branch_flag(ctx, &String::from_utf8_lossy(&name)) else { return Value::Null };
    let c: &Ctx = ctx;
    let set = with(c, |t| {
        let b = chosen(c, var, t).and_then(|i| t.core.branches().get(i))?;
        Some(b.destination.target.flags & bit != 0)
    });
    set.flatten().map_or(Value::Null, |on| Value::Int(i64::from(on)))
}

fn set_flag(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let name = ctx.shard.kernel.registry.inner_name(var).ok_or("the flag has no name")?;
    let bit = branch_flag(ctx, &String::from_utf8_lossy(&name)).ok_or("too many flags")?;
    let on = value.to_int().unwrap_or(0) != 0;
    let c: &Ctx = ctx;
    let done = with(c, |t| {
        let index = chosen(c, var, t)?;
        let f = &mut t.core.branch_mut(index)?.destination.target.flags;
        *f = if on { *f | bit } else { *f & !bit };
        Some(())
    });
    done.flatten().ok_or_else(|| "no such branch".into())
}

/// In a branch route the branch is not sent yet: its attributes stand with the target in hand.
fn bavp(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(key) = ctx.shard.kernel.registry.inner_key(var) else { return Value::Null };
    if ctx.route == RouteType::Branch || ctx.tx.is_none() {
        return ctx.target.attrs.get(key, 0);
    }
    let c: &Ctx = ctx;
    with(c, |t| {
        let b = chosen(c, var, t).and_then(|i| t.core.branches().get(i));
        b.map_or(Value::Null, |b| b.destination.target.attrs.get(key, 0))
    })
    .unwrap_or_default()
}

fn set_bavp(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let key = ctx.shard.kernel.registry.inner_key(var).ok_or("too many names")?;
    let put = |attrs: &mut switchroom_kernel::avp::Avps, value: Value| {
        attrs.remove_all(key);
        if value != Value::Null {
            attrs.push(key, value);
        }
    };
    if ctx.route == RouteType::Branch || ctx.tx.is_none() {
        put(&mut ctx.target.attrs, value);
        return Ok(());
    }
    let c: &Ctx = ctx;
    let done = with(c, |t| {
        let index = chosen(c, var, t)?;
        put(&mut t.core.branch_mut(index)?.destination.target.attrs, value);
        Some(())
    });
    done.flatten().ok_or_else(|| "no such branch".into())
}

// Timers --------------------------------------------------------------------------------------------------------------

/// Timers that a request sets before it has its transaction.
#[derive(Default)]
pub(super) struct Timers {
    pub fr: Option<u32>,
    pub fr_inv: Option<u32>,
}

fn fr_timeout(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let own = with(ctx, |t| t.core.settings().timing.fr).or(ctx.note::<Timers>().and_then(|t| t.fr));
    let ms = own.unwrap_or(ctx.shard.kernel.state::<Tm>().timing.fr);
    Value::Int(i64::from(ms / 1000))
}

fn fr_inv_timeout(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let own = with(ctx, |t| t.core.settings().timing.fr_inv).or(ctx.note::<Timers>().and_then(|t| t.fr_inv));
    let ms = own.unwrap_or(ctx.shard.kernel.state::<Tm>().timing.fr_inv);
    Value::Int(i64::from(ms / 1000))
}

fn milliseconds(value: &Value) -> Result<Option<u32>, String> {
    let Some(seconds) = value.to_int() else { return Ok(None) };
    if !(1..=86_400).contains(&seconds) {
        return Err(format!("{seconds} is no time in seconds"));
    }
    Ok(Some(Duration::from_secs(seconds as u64).as_millis() as u32))
}

fn set_fr_timeout(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    let ms = milliseconds(&value)?;
    let default = ctx.shard.kernel.state::<Tm>().timing.fr;
    ctx.note_mut::<Timers>().fr = ms;
    restart(ctx, |t| t.fr = ms.unwrap_or(default));
    Ok(())
}

fn set_fr_inv_timeout(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    let ms = milliseconds(&value)?;
    let default = ctx.shard.kernel.state::<Tm>().timing.fr_inv;
    ctx.note_mut::<Timers>().fr_inv = ms;
    restart(ctx, |t| t.fr_inv = ms.unwrap_or(default));
    Ok(())
}

/// A changed time counts from now on for branches that are under way.
fn restart(ctx: &mut Ctx, change: impl FnOnce(&mut switchroom_engine::transaction::Timing)) {
    let Some(tx) = ctx.tx.map(id) else { return };
    let shard = ctx.shard.clone();
    super::step(&shard, tx, |t, now, _| {
        change(&mut t.core.settings_mut().timing);
        t.core.restart_timeouts(now);
    });
}
