//! Pseudo-variables.

use jiff::tz::TimeZone;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::module::Variable;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use super::CfgUtils;
use crate::random;

/// The table.
pub(super) static VARIABLES: &[Variable] = &[
    Variable::ro("RANDOM", |_, _| Value::Int(random::below(1 << 31) as i64), "A random number below 2^31"),
    Variable::rw("shv", shv, set_shv, "A value that all workers share").named(|names, n| names.intern(n)),
    Variable::ro("ctime", ctime, "A field of the local time").named(|names, n| names.intern(n)),
    Variable::ro("env", env, "A variable of the environment").named(|names, n| names.intern(n)),
];

fn shv(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let kernel = &ctx.shard.kernel;
    kernel.registry.inner_key(var).map_or(Value::Null, |key| kernel.state::<CfgUtils>().shared.get(key))
}

fn set_shv(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let kernel = &ctx.shard.kernel;
    let key = kernel.registry.inner_key(var).ok_or("too many names")?;
    if kernel.state::<CfgUtils>().shared.set(key, value) {
        Ok(())
    } else {
        Err("too many shared variables".into())
    }
}

fn ctime(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(name) = ctx.shard.kernel.registry.inner_name(var) else { return Value::Null };
    let Ok(at) = jiff::Timestamp::from_second(ctx.shard.kernel.unix() as i64) else { return Value::Null };
    let at = at.to_zoned(TimeZone::system());
    Value::Int(match &name[..] {
        b"sec" => i64::from(at.second()),
        b"min" => i64::from(at.minute()),
        b"hour" => i64::from(at.hour()),
        b"mday" => i64::from(at.day()),
        b"mon" => i64::from(at.month()),
        b"year" => i64::from(at.year()),
        b"wday" => i64::from(at.weekday().to_sunday_one_offset()),
        b"yday" => i64::from(at.day_of_year()),
        b"isdst" => i64::from(at.time_zone().to_offset_info(at.timestamp()).dst().is_dst()),
        _ => return Value::Null,
    })
}

fn env(ctx: &mut Ctx, var: &VarAccess) -> Value {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let Some(name) = ctx.shard.kernel.registry.inner_name(var) else { return Value::Null };
    let value = std::env::var_os(std::ffi::OsStr::from_bytes(&name));
    value.map_or(Value::Null, |v| Value::Str(v.into_vec().into()))
}
