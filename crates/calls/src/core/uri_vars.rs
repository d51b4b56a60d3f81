//! Variables that are URIs or parts of them.

use bytes::Bytes;
use switchroom_kernel::context::Ctx;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;
use switchroom_wire::sip::{Message, NameAddr, Scheme, Uri};

use super::branches::{parse_q, print_q};
use super::functions::set_part;
use super::uri::{Part, with_part};

/// A piece of `whole` as a value that shares its bytes; NULL when missing or empty.
pub fn piece(whole: &Bytes, part: Option<&[u8]>) -> Value {
    match part {
        Some(p) if !p.is_empty() => Value::Str(share(whole, p)),
        _ => Value::Null,
    }
}

/// `part` of `whole` without a copy where it lies inside.
pub fn share(whole: &Bytes, part: &[u8]) -> Bytes {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if start <= whole.len() && part.len() <= whole.len() - start {
        whole.slice(start..start + part.len())
    } else {
        Bytes::copy_from_slice(part)
    }
}

fn on_uri(uri: Bytes, get: impl FnOnce(&Bytes, &Uri<'_>) -> Value) -> Value {
    match Uri::parse(&uri) {
        Ok(u) => get(&uri, &u),
        Err(_) => Value::Null,
    }
}

fn user(uri: Bytes) -> Value {
    on_uri(uri, |w, u| piece(w, u.user))
}
fn host(uri: Bytes) -> Value {
    on_uri(uri, |w, u| piece(w, Some(u.host)))
}
fn port(uri: Bytes) -> Value {
    on_uri(uri, |_, u| {
        let default = if u.scheme == Scheme::Sips { 5061 } else { 5060 };
        Value::Int(i64::from(u.port.unwrap_or(default)))
    })
}
fn proto(uri: Bytes) -> Value {
    on_uri(uri, |w, u| match u.transport() {
        Some(t) => piece(w, Some(t)),
        None if u.scheme == Scheme::Sips => Value::from("tls"),
        None => Value::from("udp"),
    })
}

/// `$ru`
pub fn ruri(ctx: &mut Ctx, _: &VarAccess) -> Value {
    if ctx.request().is_none() { Value::Null } else { Value::Str(ctx.ruri()) }
}
/// `$ru`
pub fn set_ruri(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    let Some(uri) = value.to_bytes() else {
        ctx.target.uri = None;
        return Ok(());
    };
    if Uri::parse(&uri).is_err() {
        return Err(format!("\"{}\" is no URI", String::from_utf8_lossy(&uri)));
    }
    ctx.target.uri = Some(uri);
    Ok(())
}
/// `$rU`
pub fn ruri_user(ctx: &mut Ctx, _: &VarAccess) -> Value {
    user(ctx.ruri())
}
/// `$rU`
pub fn set_ruri_user(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    set(ctx, Part::User, &value)
}
/// `$rd`
pub fn ruri_host(ctx: &mut Ctx, _: &VarAccess) -> Value {
    host(ctx.ruri())
}
/// `$rd`
pub fn set_ruri_host(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    set(ctx, Part::Host, &value)
}
/// `$rp`
pub fn ruri_port(ctx: &mut Ctx, _: &VarAccess) -> Value {
    port(ctx.ruri())
}
/// `$rp`
pub fn set_ruri_port(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    set(ctx, Part::Port, &value)
}
/// `$rP`
pub fn ruri_proto(ctx: &mut Ctx, _: &VarAccess) -> Value {
    proto(ctx.ruri())
}
/// `$ru_q`
pub fn ruri_q(ctx: &mut Ctx, _: &VarAccess) -> Value {
    match ctx.target.q {
        ..0 => Value::Null,
        q => Value::Str(print_q(q).into()),
    }
}
/// `$ru_q`
pub fn set_ruri_q(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    ctx.target.q = match (&value, value.to_bytes()) {
        (_, None) => -1,
        // Thousandths, as they are kept.
        (Value::Int(q @ 2..=1000), _) => *q as i32,
        (_, Some(text)) => parse_q(&text).ok_or("q is a number from 0 to 1")?,
    };
    Ok(())
}

fn set(ctx: &mut Ctx, part: Part, value: &Value) -> Result<(), String> {
    let text = value.to_bytes().unwrap_or_default();
    if set_part(ctx, part, &text) {
        Ok(())
    } else {
        Err(format!("\"{}\" does not fit into the Request-URI", String::from_utf8_lossy(&text)))
    }
}

fn original(ctx: &Ctx) -> Bytes {
    ctx.request().map(|r| r.slice(r.ruri_bytes())).unwrap_or_default()
}
/// `$ou`
pub fn orig_uri(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let uri = original(ctx);
    if uri.is_empty() { Value::Null } else { Value::Str(uri) }
}
/// `$oU`
pub fn orig_user(ctx: &mut Ctx, _: &VarAccess) -> Value {
    user(original(ctx))
}
/// `$od`
pub fn orig_host(ctx: &mut Ctx, _: &VarAccess) -> Value {
    host(original(ctx))
}
/// `$op`
pub fn orig_port(ctx: &mut Ctx, _: &VarAccess) -> Value {
    port(original(ctx))
}
/// `$oP`
pub fn orig_proto(ctx: &mut Ctx, _: &VarAccess) -> Value {
    proto(original(ctx))
}

/// `$du`
pub fn dst_uri(ctx: &mut Ctx, _: &VarAccess) -> Value {
    ctx.target.dst.clone().map_or(Value::Null, Value::Str)
}
/// `$du`
pub fn set_dst_uri(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    let Some(uri) = value.to_bytes().filter(|u| !u.is_empty()) else {
        ctx.target.dst = None;
        return Ok(());
    };
    if Uri::parse(&uri).is_err() {
        return Err(format!("\"{}\" is no URI", String::from_utf8_lossy(&uri)));
    }
    ctx.target.dst = Some(uri);
    Ok(())
}
/// `$dd`
pub fn dst_host(ctx: &mut Ctx, _: &VarAccess) -> Value {
    ctx.target.dst.clone().map_or(Value::Null, host)
}
/// `$dd`
pub fn set_dst_host(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    set_dst_part(ctx, Part::Host, &value)
}
/// `$dp`
pub fn dst_port(ctx: &mut Ctx, _: &VarAccess) -> Value {
    ctx.target.dst.clone().map_or(Value::Null, port)
}
/// `$dp`
pub fn set_dst_port(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    set_dst_part(ctx, Part::Port, &value)
}
/// `$dP`
pub fn dst_proto(ctx: &mut Ctx, _: &VarAccess) -> Value {
    ctx.target.dst.clone().map_or(Value::Null, proto)
}

fn set_dst_part(ctx: &mut Ctx, part: Part, value: &Value) -> Result<(), String> {
    let text = value.to_bytes().unwrap_or_default();
    let base = ctx.target.dst.clone();
    let base = match (&base, part) {
        (Some(b), _) => b.clone(),
        (None, Part::Host) => Bytes::from_static(b"sip:0.0.0.0"),
        (None, _) => return Err("there is no next hop to change".into()),
    };
    match with_part(&base, part, &text) {
        Some(uri) => {
            ctx.target.dst = Some(uri);
            Ok(())
        }
        None => Err(format!("\"{}\" does not fit into the next hop", String::from_utf8_lossy(&text))),
    }
}

/// `$ds`: `Contact:`-like list of all destinations.
pub fn dst_set(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let mut out = ctx.ruri().to_vec();
    for t in &ctx.branches {
        out.extend_from_slice(b", ");
        out.extend_from_slice(t.uri.as_deref().unwrap_or_default());
    }
    Value::Str(out.into())
}
/// `$path`
pub fn path(ctx: &mut Ctx, _: &VarAccess) -> Value {
    ctx.target.path.clone().map_or(Value::Null, Value::Str)
}

fn from<T>(ctx: &Ctx, get: impl FnOnce(&Message, &NameAddr<'_>) -> T) -> Option<T> {
    let msg = ctx.msg.clone();
    let n = msg.from().ok()?;
    Some(get(&msg, &n))
}
fn to<T>(ctx: &Ctx, get: impl FnOnce(&Message, &NameAddr<'_>) -> T) -> Option<T> {
    let msg = ctx.msg.clone();
    let n = msg.to().ok()?;
    Some(get(&msg, &n))
}
fn some(msg: &Message, part: &[u8]) -> Value {
    if part.is_empty() { Value::Null } else { Value::Str(msg.slice(part)) }
}

/// `$fu`
pub fn from_uri(ctx: &mut Ctx, _: &VarAccess) -> Value {
    from(ctx, |m, n| some(m, n.uri)).unwrap_or_default()
}
/// `$fU`
pub fn from_user(ctx: &mut Ctx, _: &VarAccess) -> Value {
    from(ctx, |m, n| user(m.slice(n.uri))).unwrap_or_default()
}
/// `$fd`
pub fn from_host(ctx: &mut Ctx, _: &VarAccess) -> Value {
    from(ctx, |m, n| host(m.slice(n.uri))).unwrap_or_default()
}
/// `$fn`
pub fn from_name(ctx: &mut Ctx, _: &VarAccess) -> Value {
    from(ctx, |m, n| some(m, n.display)).unwrap_or_default()
}
/// `$ft`
pub fn from_tag(ctx: &mut Ctx, _: &VarAccess) -> Value {
    from(ctx, |m, n| some(m, n.tag().unwrap_or_default())).unwrap_or_default()
}
/// `$tu`
pub fn to_uri(ctx: &mut Ctx, _: &VarAccess) -> Value {
    to(ctx, |m, n| some(m, n.uri)).unwrap_or_default()
}
/// `$tU`
pub fn to_user(ctx: &mut Ctx, _: &VarAccess) -> Value {
    to(ctx, |m, n| user(m.slice(n.uri))).unwrap_or_default()
}
/// `$td`
pub fn to_host(ctx: &mut Ctx, _: &VarAccess) -> Value {
    to(ctx, |m, n| host(m.slice(n.uri))).unwrap_or_default()
}
/// `$tn`
pub fn to_name(ctx: &mut Ctx, _: &VarAccess) -> Value {
    to(ctx, |m, n| some(m, n.display)).unwrap_or_default()
}
/// `$tt`
pub fn to_tag(ctx: &mut Ctx, _: &VarAccess) -> Value {
    to(ctx, |m, n| some(m, n.tag().unwrap_or_default())).unwrap_or_default()
}
