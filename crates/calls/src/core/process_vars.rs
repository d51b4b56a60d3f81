//! Variables of the network, of storage, of time and of the process.

use std::net::SocketAddr;

use bytes::Bytes;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::ports::net::ListenSocket;
use switchroom_script::Value;
use switchroom_script::vm::Index;
use switchroom_script::vm::VarAccess;

use super::functions::find_socket;
use super::state::Core;

fn ip_text(addr: SocketAddr) -> Value {
    Value::Str(addr.ip().to_string().into())
}

/// `$si`
pub fn source_ip(ctx: &mut Ctx, _: &VarAccess) -> Value {
    ip_text(ctx.received.peer)
}
/// `$sp`
pub fn source_port(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(i64::from(ctx.received.peer.port()))
}

fn field(socket: &ListenSocket, name: &[u8]) -> Value {
    match name {
        b"proto" => Value::from(socket.proto.name()),
        b"ip" => ip_text(socket.addr),
        b"port" => Value::Int(i64::from(socket.addr.port())),
        b"advertised_ip" => match &socket.advertised {
            Some((host, _)) => Value::Str(host.clone().into()),
            None => Value::Null,
        },
        b"advertised_port" => match &socket.advertised {
            Some((_, port)) => Value::Int(i64::from(port.unwrap_or(socket.addr.port()))),
            None => Value::Null,
        },
        b"tag" => socket.tag.clone().map_or(Value::Null, |t| Value::Str(t.into())),
        b"anycast" => Value::Int(i64::from(socket.anycast)),
        b"af" => Value::from(if socket.addr.is_ipv4() { "INET" } else { "INET6" }),
        _ => Value::Null,
    }
}

/// `$socket_in` and `$socket_in(field)`
pub fn socket_in(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let name = ctx.shard.kernel.registry.inner_name(var);
    match (ctx.shard.kernel.socket(ctx.received.socket), name) {
        (None, _) => Value::Null,
        (Some(s), None) => Value::Str(s.name().into()),
        (Some(s), Some(name)) => field(s, &name),
    }
}
/// `$socket_out` and `$socket_out(field)`: the socket it came in on until another is chosen.
pub fn socket_out(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let name = ctx.shard.kernel.registry.inner_name(var);
    let forced = ctx.target.socket;
    if name.as_deref() == Some(b"forced") {
        return Value::Int(i64::from(forced.is_some()));
    }
    match (ctx.shard.kernel.socket(forced.unwrap_or(ctx.received.socket)), name) {
        (None, _) => Value::Null,
        (Some(s), None) => Value::Str(s.name().into()),
        (Some(s), Some(name)) => field(s, &name),
    }
}
/// `$socket_out`
pub fn set_socket_out(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    let Some(name) = value.to_bytes().filter(|n| !n.is_empty()) else {
        ctx.target.socket = None;
        return Ok(());
    };
    let name = String::from_utf8_lossy(&name).into_owned();
    ctx.target.socket =
        Some(find_socket(ctx, &name).ok_or_else(|| format!("no listening socket \"{name}\""))?);
    Ok(())
}

// Errors --------------------------------------------------------------------------------------------------------------

/// `$err.class`
pub fn error_class(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(ctx.error.class)
}
/// `$err.level`
pub fn error_level(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(ctx.error.level)
}
/// `$err.info`
pub fn error_info(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Str(ctx.error.info.clone().into())
}
/// `$err.rcode`
pub fn error_code(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(i64::from(ctx.error.code))
}
/// `$err.rreason`
pub fn error_reason(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Str(ctx.error.reason.clone().into())
}

// Storage -------------------------------------------------------------------------------------------------------------

/// `$var(name)`
pub fn var(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(key) = ctx.shard.kernel.registry.inner_key(var) else { return Value::Null };
    // A script variable that nobody wrote yet is the integer 0.
    ctx.shard.vars.borrow().get(&key).cloned().unwrap_or(Value::Int(0))
}
/// `$var(name)`
pub fn set_var(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let key = ctx.shard.kernel.registry.inner_key(var).ok_or("too many names")?;
    ctx.shard.vars.borrow_mut().insert(key, own(value));
    Ok(())
}

/// A value that outlives the message must not keep its whole buffer alive.
fn own(value: Value) -> Value {
    match value {
        Value::Str(s) => Value::Str(Bytes::copy_from_slice(&s)),
        other => other,
    }
}

/// `$avp(name)`
pub fn avp(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(key) = ctx.shard.kernel.registry.inner_key(var) else { return Value::Null };
    match var.index {
        Index::All => {
            let all: Vec<Bytes> = ctx.avps.all(key).filter_map(Value::to_bytes).collect();
            if all.is_empty() { Value::Null } else { Value::Str(all.join(&b","[..]).into()) }
        }
        Index::At(i) => ctx.avps.get(key, i64::from(i)),
        Index::None | Index::Append => ctx.avps.get(key, 0),
    }
}
/// `$avp(name)`: plain assignment pushes, an index overwrites, NULL removes one value or (with `[*]`) all.
pub fn set_avp(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let key = ctx.shard.kernel.registry.inner_key(var).ok_or("too many names")?;
    match (var.index, value) {
        (Index::All, Value::Null) => ctx.avps.remove_all(key),
        (Index::All, value) => {
            ctx.avps.remove_all(key);
            ctx.avps.push(key, value);
        }
        (Index::None | Index::Append, Value::Null) => ctx.avps.remove(key, 0),
        (Index::At(i), Value::Null) => ctx.avps.remove(key, i64::from(i)),
        (Index::None, value) => ctx.avps.push(key, value),
        (Index::Append, value) => ctx.avps.append(key, value),
        (Index::At(i), value) => {
            if !ctx.avps.replace(key, i64::from(i), value) {
                return Err(format!("there is no value at index {i}"));
            }
        }
    }
    Ok(())
}

/// `$log_level`
pub fn log_level(ctx: &mut Ctx, _: &VarAccess) -> Value {
    use std::sync::atomic::Ordering::Relaxed;
    Value::Int(ctx.log_level.0.unwrap_or_else(|| ctx.shard.kernel.log_level.load(Relaxed)))
}
/// `$log_level`
pub fn set_log_level(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    ctx.log_level.0 = value.to_int();
    Ok(())
}
/// `$xlog_level`
pub fn xlog_level(ctx: &mut Ctx, _: &VarAccess) -> Value {
    use std::sync::atomic::Ordering::Relaxed;
    Value::Int(ctx.log_level.1.unwrap_or_else(|| ctx.shard.kernel.xlog_level.load(Relaxed)))
}
/// `$xlog_level`
pub fn set_xlog_level(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    ctx.log_level.1 = value.to_int();
    Ok(())
}

/// `$argv(name)`: `-o name=value` of the command line.
pub fn argv(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(name) = ctx.shard.kernel.registry.inner_name(var) else { return Value::Null };
    let args = &ctx.shard.kernel.arguments;
    let found = args.iter().find(|(n, _)| n.as_bytes() == &name[..]);
    found.map_or(Value::Null, |(_, v)| Value::Str(v.clone().into()))
}

/// `$C(xy)`: foreground x, background y: letters as in ANSI (`s r g y b p c w`, `x` for default).
pub fn colour(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(name) = ctx.shard.kernel.registry.inner_name(var) else { return Value::Null };
    if !ctx.shard.kernel.state::<Core>().colours {
        return Value::Str(Default::default());
    }
    let number = |c: u8| b"srgybpcw".iter().position(|l| *l == c.to_ascii_lowercase());
    let mut codes = vec!["0".to_owned()];
    let bold = name.first().is_some_and(u8::is_ascii_uppercase);
    if bold {
        codes.push("1".into());
    }
    if let Some(n) = name.first().and_then(|c| number(*c)) {
        codes.push(format!("{}", 30 + n));
    }
    if let Some(n) = name.get(1).and_then(|c| number(*c)) {
        codes.push(format!("{}", 40 + n));
    }
    Value::Str(format!("\x1b[{}m", codes.join(";")).into())
}

// Time ----------------------------------------------------------------------------------------------------------------

/// `$Ts`
pub fn unix(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(ctx.shard.kernel.unix() as i64)
}
/// `$Tsm`
pub fn micros(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(i64::from(ctx.shard.kernel.drivers.clock.unix().subsec_micros()))
}
/// `$TS`
pub fn startup(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(ctx.shard.kernel.started as i64)
}
/// `$Tf`
pub fn time_text(ctx: &mut Ctx, _: &VarAccess) -> Value {
    strftime(ctx.shard.kernel.unix(), "%a %b %e %H:%M:%S %Y")
}
/// `$time(format)`
pub fn time_format(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(name) = ctx.shard.kernel.registry.inner_name(var) else { return Value::Null };
    strftime(ctx.shard.kernel.unix(), &String::from_utf8_lossy(&name))
}

/// Local time of a moment in a strftime format; NULL when the format is not one.
pub fn strftime(unix: u64, format: &str) -> Value {
    let Ok(at) = jiff::Timestamp::from_second(unix as i64) else { return Value::Null };
    let local = at.to_zoned(jiff::tz::TimeZone::system());
    match jiff::fmt::strtime::format(format, &local) {
        Ok(text) => Value::Str(text.into()),
        Err(_) => Value::Null,
    }
}

/// The same as text; empty when the format is not one.
pub fn strftime_text(unix: u64, format: &str) -> String {
    match strftime(unix, format) {
        Value::Str(s) => String::from_utf8_lossy(&s).into_owned(),
        _ => String::new(),
    }
}

/// `$pp`
pub fn pid(_: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(i64::from(std::process::id()))
}
