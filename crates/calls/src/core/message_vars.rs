//! Variables that read the message: first line, headers, body, credentials.

use std::borrow::Cow;

use bytes::Bytes;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::names::FlagKind;
use switchroom_script::Value;
use switchroom_script::vm::Index;
use switchroom_script::vm::VarAccess;
use switchroom_wire::sip::digest::{Challenge, Credentials};
use switchroom_wire::sip::{Header, HeaderId, Message, NameAddr, Uri};

fn text(s: impl Into<Bytes>) -> Value {
    let s = s.into();
    if s.is_empty() { Value::Null } else { Value::Str(s) }
}

fn part(msg: &Message, p: &[u8]) -> Value {
    if p.is_empty() { Value::Null } else { Value::Str(msg.slice(p)) }
}

fn unfolded(msg: &Message, h: &Header<'_>) -> Value {
    match h.unfolded() {
        Cow::Borrowed(b) => Value::Str(msg.slice(b)),
        Cow::Owned(b) => Value::Str(b.into()),
    }
}

/// Choose one of several by index; `[*]` joins with commas.
fn choose(index: Index, all: impl Fn() -> Vec<Value>) -> Value {
    match index {
        Index::All => {
            let list: Vec<Bytes> = all().iter().filter_map(Value::to_bytes).collect();
            if list.is_empty() { Value::Null } else { Value::Str(list.join(&b","[..]).into()) }
        }
        Index::At(i) if i < 0 => {
            let mut list = all();
            let at = list.len() as i64 + i64::from(i);
            if at < 0 { Value::Null } else { list.swap_remove(at as usize) }
        }
        Index::At(i) => all().into_iter().nth(i as usize).unwrap_or_default(),
        Index::None | Index::Append => all().into_iter().next().unwrap_or_default(),
    }
}

/// `$rm`: of a reply the method of its CSeq.
pub fn method(ctx: &mut Ctx, _: &VarAccess) -> Value {
    part(&ctx.msg, ctx.msg.method_name())
}
/// `$rs`
pub fn status(ctx: &mut Ctx, _: &VarAccess) -> Value {
    if ctx.msg.is_request() { Value::Null } else { Value::Int(i64::from(ctx.msg.status())) }
}
/// `$rr`
pub fn reason(ctx: &mut Ctx, _: &VarAccess) -> Value {
    if ctx.msg.is_request() { Value::Null } else { part(&ctx.msg, ctx.msg.reason()) }
}
/// `$ci`
pub fn call_id(ctx: &mut Ctx, _: &VarAccess) -> Value {
    part(&ctx.msg, ctx.msg.call_id())
}
/// `$cs`
pub fn cseq(ctx: &mut Ctx, _: &VarAccess) -> Value {
    ctx.msg.cseq().map_or(Value::Null, |(n, _)| Value::Int(i64::from(n)))
}
/// `$ct`
pub fn contact(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let msg = ctx.msg.clone();
    choose(var.index, || msg.contacts().flatten().map(|c| part(&msg, c.raw)).collect())
}
/// `$ct.fields(name)`
pub fn contact_field(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(field) = ctx.shard.kernel.registry.inner_name(var) else { return Value::Null };
    let msg = ctx.msg.clone();
    choose(var.index, || {
        let all = msg.contacts().flatten().map(|c| match &field[..] {
            b"uri" => part(&msg, c.uri),
            b"name" => part(&msg, c.display),
            b"params" => part(&msg, c.params().raw()),
            name => match std::str::from_utf8(name).ok().and_then(|n| c.param(n)) {
                Some(v) => part(&msg, v),
                None => Value::Null,
            },
        });
        all.collect()
    })
}
/// `$cT`: the type of the whole body; with an index that of a part, with `[*]` all of them.
pub fn content_type(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let msg = ctx.msg.clone();
    let whole = || msg.content_type().map_or(Value::Null, |t| part(&msg, t));
    let parts = || is_multipart(&msg).then(|| msg.parts()).into_iter().flatten();
    match var.index {
        Index::None | Index::Append => whole(),
        Index::All => choose(Index::All, || {
            std::iter::once(whole()).chain(parts().map(|p| part(&msg, p.content_type))).collect()
        }),
        index => choose(index, || parts().map(|p| part(&msg, p.content_type)).collect()),
    }
}

fn is_multipart(msg: &Message) -> bool {
    let kind = msg.content_type().and_then(|t| t.get(..10));
    kind.is_some_and(|t| t.eq_ignore_ascii_case(b"multipart/"))
}
/// `$cl`
pub fn content_length(ctx: &mut Ctx, _: &VarAccess) -> Value {
    ctx.msg.content_length().map_or(Value::Null, |n| Value::Int(i64::from(n)))
}
/// `$ua`
pub fn user_agent(ctx: &mut Ctx, _: &VarAccess) -> Value {
    first(ctx, HeaderId::UserAgent)
}

fn first(ctx: &Ctx, id: HeaderId) -> Value {
    ctx.msg.header(id).map_or(Value::Null, |h| unfolded(&ctx.msg, &h))
}

/// `$rb` and `$rb(mime)`
pub fn body(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let msg = ctx.msg.clone();
    let wanted = ctx.shard.kernel.registry.inner_name(var);
    let Some(wanted) = wanted else {
        return match var.index {
            Index::At(_) => choose(var.index, || msg.parts().map(|p| part(&msg, p.body)).collect()),
            _ => part(&msg, msg.body()),
        };
    };
    let is = |t: &[u8]| {
        let bare = t.split(|b| *b == b';').next().unwrap_or_default();
        bare.trim_ascii().eq_ignore_ascii_case(&wanted)
    };
    if msg.content_type().is_some_and(is) {
        return part(&msg, msg.body());
    }
    choose(var.index, || {
        let parts = msg.parts();
        parts.filter(|p| is(p.content_type)).map(|p| part(&msg, p.body)).collect()
    })
}
/// `$mb`
pub fn message(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Str(ctx.msg.raw().clone())
}
/// `$ml`
pub fn length(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(ctx.msg.raw().len() as i64)
}
/// `$mi`: how many messages this worker had before.
pub fn serial(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let core = ctx.shard.kernel.state::<super::state::Core>();
    let stats = &ctx.shard.kernel.stats;
    Value::Int(stats.read(core.stats.rcv_requests) + stats.read(core.stats.rcv_replies))
}

fn address<T>(ctx: &Ctx, id: HeaderId, get: impl FnOnce(&Message, &NameAddr<'_>) -> T) -> Option<T> {
    let msg = ctx.msg.clone();
    let n = msg.addresses(id).next()?.ok()?;
    Some(get(&msg, &n))
}
fn address_uri(ctx: &Ctx, id: HeaderId) -> Value {
    address(ctx, id, |m, n| part(m, n.uri)).unwrap_or_default()
}
fn address_param(ctx: &Ctx, id: HeaderId, name: &str) -> Value {
    address(ctx, id, |m, n| n.param(name).map_or(Value::Null, |v| part(m, v))).unwrap_or_default()
}

/// `$rt`
pub fn refer_to(ctx: &mut Ctx, _: &VarAccess) -> Value {
    address_uri(ctx, HeaderId::ReferTo)
}
/// `$di`
pub fn diversion_uri(ctx: &mut Ctx, _: &VarAccess) -> Value {
    address_uri(ctx, HeaderId::Diversion)
}
/// `$dir`
pub fn diversion_reason(ctx: &mut Ctx, _: &VarAccess) -> Value {
    address_param(ctx, HeaderId::Diversion, "reason")
}
/// `$dip`
pub fn diversion_privacy(ctx: &mut Ctx, _: &VarAccess) -> Value {
    address_param(ctx, HeaderId::Diversion, "privacy")
}
/// `$ai`
pub fn asserted(ctx: &mut Ctx, _: &VarAccess) -> Value {
    address_uri(ctx, HeaderId::PAssertedIdentity)
}
/// `$pu`
pub fn preferred(ctx: &mut Ctx, _: &VarAccess) -> Value {
    address_uri(ctx, HeaderId::PPreferredIdentity)
}
/// `$pU`
pub fn preferred_user(ctx: &mut Ctx, _: &VarAccess) -> Value {
    address(ctx, HeaderId::PPreferredIdentity, |m, n| {
        Uri::parse(n.uri).map_or(Value::Null, |u| part(m, u.user.unwrap_or_default()))
    })
    .unwrap_or_default()
}
/// `$pd`
pub fn preferred_host(ctx: &mut Ctx, _: &VarAccess) -> Value {
    address(ctx, HeaderId::PPreferredIdentity, |m, n| {
        Uri::parse(n.uri).map_or(Value::Null, |u| part(m, u.host))
    })
    .unwrap_or_default()
}
/// `$pn`
pub fn preferred_name(ctx: &mut Ctx, _: &VarAccess) -> Value {
    address(ctx, HeaderId::PPreferredIdentity, |m, n| part(m, n.display)).unwrap_or_default()
}
/// `$re`
pub fn remote_party(ctx: &mut Ctx, _: &VarAccess) -> Value {
    address_uri(ctx, HeaderId::RemotePartyId)
}

/// `$hdr(name)`
pub fn header(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(name) = ctx.shard.kernel.registry.inner_name(var) else { return Value::Null };
    let msg = ctx.msg.clone();
    if matches!(var.index, Index::None | Index::At(0)) {
        return msg.headers_by_name(&name).next().map_or(Value::Null, |h| unfolded(&msg, &h));
    }
    choose(var.index, || msg.headers_by_name(&name).map(|h| unfolded(&msg, &h)).collect())
}
/// `$hdr_name[i]`
pub fn header_name(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let msg = ctx.msg.clone();
    choose(var.index, || msg.headers().map(|h| part(&msg, h.name)).collect())
}
/// `$hdrcnt(name)`
pub fn header_count(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(name) = ctx.shard.kernel.registry.inner_name(var) else { return Value::Null };
    Value::Int(ctx.msg.headers_by_name(&name).count() as i64)
}
/// `$msg.is_request`
pub fn is_request(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(i64::from(ctx.msg.is_request()))
}
/// `$msg.type`
pub fn message_type(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::from(if ctx.msg.is_request() { "request" } else { "reply" })
}

// Flags ---------------------------------------------------------------------------------------------------------------

/// `$mf`
pub fn flags(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Str(ctx.shard.kernel.registry.names.flag_names(FlagKind::Message, ctx.flags).into())
}
/// `$bf`
pub fn branch_flags(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Str(ctx.shard.kernel.registry.names.flag_names(FlagKind::Branch, ctx.target.flags).into())
}
fn flag_bit(ctx: &Ctx, var: &VarAccess) -> Option<u32> {
    let name = ctx.shard.kernel.registry.inner_name(var)?;
    let name = std::str::from_utf8(&name).ok()?;
    ctx.shard.kernel.registry.names.flag(FlagKind::Message, name).ok().map(|b| 1 << b)
}
/// `$msg.flag(name)`
pub fn flag(ctx: &mut Ctx, var: &VarAccess) -> Value {
    flag_bit(ctx, var).map_or(Value::Null, |bit| Value::Int(i64::from(ctx.flags & bit != 0)))
}
/// `$msg.flag(name)`
pub fn set_flag(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let bit = flag_bit(ctx, var).ok_or("too many flags")?;
    if value.to_int().unwrap_or(0) != 0 {
        ctx.flags |= bit;
    } else {
        ctx.flags &= !bit;
    }
    Ok(())
}

// Credentials ---------------------------------------------------------------------------------------------------------

/// The credentials of a request: Proxy-Authorization of all requests but REGISTER, else Authorization.
pub fn credentials<T>(msg: &Message, get: impl FnOnce(&Credentials<'_>) -> T) -> Option<T> {
    let header = msg.header(HeaderId::ProxyAuthorization).or_else(|| msg.header(HeaderId::Authorization))?;
    let value = header.unfolded();
    Credentials::parse(&value).ok().map(|c| get(&c))
}

fn field(ctx: &Ctx, get: impl FnOnce(&Credentials<'_>) -> Option<Vec<u8>>) -> Value {
    credentials(&ctx.msg, get).flatten().map_or(Value::Null, text)
}

/// `$au`
pub fn auth_user(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| Some(c.user_and_domain().0.to_vec()))
}
/// `$aU`
pub fn auth_full_user(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| Some(c.username.to_vec()))
}
/// `$ar`
pub fn auth_realm(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| Some(c.realm.to_vec()))
}
/// `$ad`
pub fn auth_domain(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| c.user_and_domain().1.map(<[u8]>::to_vec))
}
/// `$adu`
pub fn auth_uri(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| Some(c.uri.to_vec()))
}
/// `$an`
pub fn auth_nonce(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| Some(c.nonce.to_vec()))
}
/// `$auth.resp`
pub fn auth_response(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| Some(c.response.to_vec()))
}
/// `$auth.cnonce`
pub fn auth_cnonce(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| c.cnonce.as_ref().map(|v| v.to_vec()))
}
/// `$auth.opaque`
pub fn auth_opaque(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| c.opaque.as_ref().map(|v| v.to_vec()))
}
/// `$auth.alg`
pub fn auth_algorithm(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| Some(c.algorithm.name().as_bytes().to_vec()))
}
/// `$auth.qop`
pub fn auth_qop(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| c.qop.map(|q| q.name().as_bytes().to_vec()))
}
/// `$auth.nc`
pub fn auth_nc(ctx: &mut Ctx, _: &VarAccess) -> Value {
    field(ctx, |c| c.nc.map(<[u8]>::to_vec))
}
/// `$Au`: `user@realm` of the credentials, else the URI of From without scheme.
pub fn accounting_user(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let from_credentials = credentials(&ctx.msg, |c| {
        let mut out = c.user_and_domain().0.to_vec();
        out.push(b'@');
        out.extend_from_slice(c.user_and_domain().1.unwrap_or(&c.realm));
        out
    });
    match from_credentials {
        Some(out) => text(out),
        None => match ctx.msg.from() {
            Ok(n) => part(&ctx.msg, n.uri),
            Err(_) => Value::Null,
        },
    }
}

fn challenge(ctx: &Ctx, var: &VarAccess, get: impl Fn(&Challenge<'_>) -> Option<Vec<u8>>) -> Value {
    let msg = ctx.reply().cloned();
    let Some(msg) = msg else { return Value::Null };
    choose(var.index, || {
        let headers =
            msg.headers_of(HeaderId::ProxyAuthenticate).chain(msg.headers_of(HeaderId::WwwAuthenticate));
        let found = headers.filter_map(|h| {
            let value = h.unfolded().into_owned();
            Challenge::parse(&value).ok().map(|c| get(&c).map_or(Value::Null, text))
        });
        found.collect()
    })
}
/// `$challenge.realm`
pub fn challenge_realm(ctx: &mut Ctx, var: &VarAccess) -> Value {
    challenge(ctx, var, |c| Some(c.realm.to_vec()))
}
/// `$challenge.nonce`
pub fn challenge_nonce(ctx: &mut Ctx, var: &VarAccess) -> Value {
    challenge(ctx, var, |c| Some(c.nonce.to_vec()))
}
/// `$challenge.algorithm`
pub fn challenge_algorithm(ctx: &mut Ctx, var: &VarAccess) -> Value {
    challenge(ctx, var, |c| Some(c.algorithm.name().as_bytes().to_vec()))
}
/// `$challenge.opaque`
pub fn challenge_opaque(ctx: &mut Ctx, var: &VarAccess) -> Value {
    challenge(ctx, var, |c| c.opaque.as_ref().map(|o| o.to_vec()))
}
/// `$challenge.qop`
pub fn challenge_qop(ctx: &mut Ctx, var: &VarAccess) -> Value {
    challenge(ctx, var, |c| {
        let offered = [(c.auth, "auth"), (c.auth_int, "auth-int")];
        let list: Vec<&str> = offered.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        Some(list.join(",").into_bytes())
    })
}
