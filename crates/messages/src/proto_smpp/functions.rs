//! `send_smpp_message()` and what it leaves behind in `$smpp(...)`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{Either, join_all, select};
use switchroom_calls::core::body;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::names::Names;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;
use switchroom_wire::gsm::Alphabet;
use switchroom_wire::sip::Uri;

use super::asked::Leaving;
use super::connection::{self, Connection};
use super::gateway::Gateway;
use super::outgoing::{Accepted, Failure, Outgoing, Party};
use crate::imdn::{self, Asked, Cpim};
use crate::link::compose::{ComposeError, Wanted, compose};

/// There is no such connection.
const UNKNOWN: Flow = Flow::Value(-2);
/// Octets of an address without its NUL.
const MAX_ADDRESS: usize = 20;

/// What the last call of this message left.
#[derive(Clone, Debug, Default)]
struct Left {
    ids: Vec<String>,
    parts: usize,
    status: Option<u32>,
    error: String,
}

/// `send_smpp_message(name[, from][, to][, body][, utf16][, receipt])`
pub(super) fn send_smpp_message(c: &mut Call<'_>) -> Flow {
    let kernel = c.ctx.shard.kernel.clone();
    let gateway = kernel.state::<Arc<Gateway>>().clone();
    let name = c.text(0);
    let left = c.ctx.note_mut::<Left>();
    *left = Left::default();
    let Some(connection) = gateway.find(&name) else {
        let known: Vec<String> = gateway.connections.read().keys().cloned().collect();
        tracing::error!(
            "send_smpp_message(): there is no connection \"{name}\"; there are: {}",
            known.join(", ")
        );
        left.error = Failure::Unknown(name).to_string();
        return UNKNOWN;
    };
    let wrapper = wrapped(c);
    let told = wrapper.as_deref().and_then(Cpim::read).as_ref().and_then(Cpim::notification);
    if let Some(told) = told {
        // What a phone says of a message is a receipt, whether somebody waits for it or not, and no text.
        if !gateway.notified(&told.message_id, told.delivered) {
            tracing::info!(
                "send_smpp_message(): a notification names no message that waits for it: {}",
                told.message_id
            );
        }
        c.ctx.note_mut::<Left>().status = Some(0);
        return TRUE;
    }
    let messages = match prepare(c, &connection) {
        Ok(messages) => messages,
        Err(why) => {
            tracing::error!("send_smpp_message(): {name}: {why}");
            gateway.count(|s| s.failed);
            c.ctx.note_mut::<Left>().error = why;
            return FALSE;
        }
    };
    let parts = messages.len();
    let asked = asked(c);
    let leaving = asked.as_ref().map(|_| Leaving::by(&gateway, &name));
    let until = gateway.clock.now() + gateway.send_wait;
    let waits: Vec<_> =
        messages.into_iter().map(|m| connection::submit(&gateway, &connection, m, until)).collect();
    let limit = gateway.clock.sleep(gateway.send_wait);
    let answers = async move {
        match select(Box::pin(join_all(waits)), limit).await {
            Either::Left((answers, _)) => {
                answers.into_iter().map(|a| a.unwrap_or(Err(Failure::Unanswered))).collect()
            }
            Either::Right(_) => vec![Err(Failure::Unanswered)],
        }
    };
    wait(answers, move |ctx, answers| {
        let left = Left { parts, ..Left::default() };
        let flow = finish(ctx, &gateway, &name, left, asked.map(|(asked, _)| asked), answers);
        drop(leaving);
        flow
    })
}

fn finish(
    ctx: &mut Ctx,
    gateway: &Arc<Gateway>,
    name: &str,
    mut left: Left,
    asked: Option<Asked>,
    answers: Vec<Accepted>,
) -> Flow {
    let mut failure = None;
    for answer in answers {
        match answer {
            Ok(id) => left.ids.push(String::from_utf8_lossy(&id).into_owned()),
            Err(why) => {
                failure.get_or_insert(why);
            }
        }
    }
    let mut queries = Vec::new();
    let flow = match failure {
        None => {
            left.status = Some(0);
            if let Some(asked) = asked {
                let letter = gateway.next_letter();
                let now = gateway.unix() as i64;
                queries = gateway.asked.lock().add(name, &left.ids, asked, letter, now);
            }
            gateway.count(|s| s.sent);
            TRUE
        }
        Some(why) => {
            tracing::warn!("send_smpp_message(): {name}: {why}");
            if let Failure::Refused(status) = why {
                left.status = Some(status.0);
            }
            left.error = why.to_string();
            gateway.count(|s| s.failed);
            FALSE
        }
    };
    *ctx.note_mut::<Left>() = left;
    if queries.is_empty() {
        return flow;
    }
    let house = gateway.clone();
    wait(async move { house.write(queries).await }, move |_, ()| flow)
}

/// The messages that the call asks for; one for each part.
fn prepare(c: &Call<'_>, connection: &Connection) -> Result<Vec<Outgoing>, String> {
    let row = &connection.row;
    let from = match c.str(1) {
        Some(from) => from.to_vec(),
        None => from_user(c.ctx).ok_or("From has no user; give the sender as second argument")?,
    };
    let to = match c.str(2) {
        Some(to) => to.to_vec(),
        None => {
            ruri_user(c.ctx).ok_or("the Request-URI has no user; give the recipient as third argument")?
        }
    };
    let source = Party { ton: row.src_ton, npi: row.src_npi, addr: address(from, row.src_ton)? };
    let destination = Party { ton: row.dst_ton, npi: row.dst_npi, addr: address(to, row.dst_ton)? };
    let (text, wide) = content(c)?;
    let wanted = if wide { Wanted::Only(Alphabet::Ucs2) } else { Wanted::Shortest };
    let reference = connection.references.next(&destination.addr);
    let composed = compose(&text, wanted, None, reference, connection.conf.style)
        .map_err(|e: ComposeError| e.to_string())?;
    let registered_delivery = match asked(c) {
        Some((_, receipts)) => receipts,
        None => u8::from(c.int(5).unwrap_or(0) > 0),
    };
    let messages = composed.parts.into_iter().map(|part| Outgoing {
        source: source.clone(),
        destination: destination.clone(),
        esm_class: composed.esm_class,
        registered_delivery,
        data_coding: composed.data_coding,
        text: part.text,
        tlvs: part.tlvs,
        ..Outgoing::default()
    });
    Ok(messages.collect())
}

/// International numbers have no `+` on the wire.
fn address(mut addr: Vec<u8>, ton: u8) -> Result<Vec<u8>, String> {
    if ton == 1 && addr.first() == Some(&b'+') {
        addr.remove(0);
    }
    match addr.len() {
        0 => Err("an address is empty".into()),
        1..=MAX_ADDRESS => Ok(addr),
        n => Err(format!(
            "address \"{}\" has {n} characters, at most {MAX_ADDRESS} fit",
            String::from_utf8_lossy(&addr)
        )),
    }
}

pub(crate) fn from_user(ctx: &Ctx) -> Option<Vec<u8>> {
    unescaped(ctx.msg.from().ok()?.parse_uri().ok()?.user?)
}

pub(crate) fn ruri_user(ctx: &Ctx) -> Option<Vec<u8>> {
    unescaped(Uri::parse(&ctx.ruri()).ok()?.user?)
}

/// A user part with its escapes resolved; `None` when there is none.
fn unescaped(user: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(user.len());
    let mut rest = user;
    while let Some((&first, behind)) = rest.split_first() {
        let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        match (first, behind) {
            (b'%', [high, low, ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                out.push(digit(*high)? << 4 | digit(*low)?);
                rest = &behind[2..];
            }
            _ => {
                out.push(first);
                rest = behind;
            }
        }
    }
    (!out.is_empty()).then_some(out)
}

/// The body when it is wrapped (RFC 3862) and none was given as argument.
pub(crate) fn wrapped(c: &Call<'_>) -> Option<String> {
    let body = body::current(c.ctx);
    let kind = body.kind.get(..imdn::CPIM.len())?;
    let is_it = c.str(3).is_none() && kind.eq_ignore_ascii_case(imdn::CPIM.as_bytes());
    is_it.then(|| String::from_utf8_lossy(&body.bytes).into_owned())
}

/// Who wants to be told of the end of the message, and `registered_delivery` for that.
pub(crate) fn asked(c: &Call<'_>) -> Option<(Asked, u8)> {
    let text = wrapped(c)?;
    let cpim = Cpim::read(&text).filter(|cpim| cpim.receipts() != 0)?;
    let (user, domain) = aor(c.ctx.msg.from().ok().map(|f| f.uri))?;
    let (to, host) = aor(Some(&c.ctx.ruri()))?;
    let asked = Asked {
        user: format!("sip:{user}@{domain}").into(),
        message_id: cpim.message_id.into(),
        moment: cpim.moment.into(),
        recipient: format!("sip:{to}@{host}").into(),
        parts: 1,
    };
    Some((asked, cpim.receipts()))
}

/// User and host of a SIP URI.
pub(crate) fn aor(uri: Option<&[u8]>) -> Option<(String, String)> {
    let uri = Uri::parse(uri?).ok()?;
    let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
    Some((text(uri.user.filter(|u| !u.is_empty())?), text(uri.host).to_ascii_lowercase()))
}

/// The text, and whether it must go as UCS-2.
pub(crate) fn content(c: &Call<'_>) -> Result<(String, bool), String> {
    if let Some(text) = wrapped(c) {
        let cpim = Cpim::read(&text).ok_or("the body is no message/cpim (RFC 3862)")?;
        return match cpim.kind.as_str() {
            "text/plain" => Ok((cpim.body.to_owned(), c.int(4).is_some_and(|n| n > 0))),
            other => Err(format!("there is {other} inside of the message/cpim, and only text can be sent")),
        };
    }
    let body = body::current(c.ctx);
    let kind = String::from_utf8_lossy(&body.kind).to_ascii_lowercase();
    let charset = kind.split("charset=").nth(1).unwrap_or_default().trim_matches('"');
    let given = c.str(3);
    let text: &Bytes = given.unwrap_or(&body.bytes);
    let wide = match c.int(4) {
        Some(n) => n > 0,
        None => given.is_none() && charset.starts_with("utf-16"),
    };
    if wide {
        return Ok((wide_text(text), true));
    }
    let text = match std::str::from_utf8(text) {
        Ok(text) if !charset.starts_with("iso-8859-1") || given.is_some() => text.to_owned(),
        // What is no UTF-8 is Latin-1, whatever it says.
        _ => text.iter().map(|b| char::from(*b)).collect(),
    };
    Ok((text, false))
}

/// UTF-16BE as hexadecimal text, as older scripts write it; else UTF-8; else UTF-16BE itself.
fn wide_text(bytes: &[u8]) -> String {
    let hex = bytes.trim_ascii();
    let units = |octets: &[u8]| {
        let units = octets.chunks_exact(2).map(|u| u16::from_be_bytes([u[0], u[1]]));
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    if !hex.is_empty() && hex.len().is_multiple_of(4) && hex.iter().all(u8::is_ascii_hexdigit) {
        let digit = |b: u8| char::from(b).to_digit(16).unwrap_or(0) as u8;
        let octets: Vec<u8> = hex.chunks_exact(2).map(|d| digit(d[0]) << 4 | digit(d[1])).collect();
        return units(&octets);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => units(bytes),
    }
}

/// Inner names of `$smpp(...)`.
const FIELDS: [&str; 5] = ["id", "ids", "parts", "status", "error"];

/// Binds an inner name.
pub(super) fn bind_field(_: &Names, name: &str) -> Result<u32, String> {
    match FIELDS.iter().position(|f| *f == name) {
        Some(at) => Ok(at as u32),
        None => Err(format!("$smpp has no `{name}`; there are: {}", FIELDS.join(", "))),
    }
}

/// `$smpp(id)`, `$smpp(ids)`, `$smpp(parts)`, `$smpp(status)`, `$smpp(error)`
pub(super) fn field(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(left) = ctx.note::<Left>() else { return Value::Null };
    let text = |t: &str| if t.is_empty() { Value::Null } else { Value::str(t.to_owned()) };
    match var.key {
        Some(0) => left.ids.first().map_or(Value::Null, |id| text(id)),
        Some(1) => text(&left.ids.join(",")),
        Some(2) => Value::Int(left.parts as i64),
        Some(3) => left.status.map_or(Value::Null, |s| Value::Int(i64::from(s))),
        _ => text(&left.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_bodies_are_hexadecimal_or_text() {
        assert_eq!(wide_text(b"041F0440"), "Пр");
        assert_eq!(wide_text("Привет".as_bytes()), "Привет");
        assert_eq!(wide_text(&[0x04, 0x1f, 0x00, 0x41]), "ПA");
        assert_eq!(wide_text(b"d83dde00"), "😀");
    }

    #[test]
    fn addresses_lose_the_plus_only_when_they_are_international() {
        assert_eq!(address(b"+49151".to_vec(), 1).unwrap(), b"49151");
        assert_eq!(address(b"+49151".to_vec(), 0).unwrap(), b"+49151");
        assert!(address(vec![b'1'; 21], 0).is_err());
        assert!(address(Vec::new(), 0).is_err());
        assert_eq!(unescaped(b"a%20b%4").unwrap(), b"a b%4");
    }
}
