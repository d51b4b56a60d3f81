//! `sipmsg_validate()`: numbered reasons why a message is not as RFC 3261 wants it.
//!
//! A message without Call-ID, CSeq, From, To or Via (-3, -7 to -10), or with a wrong Content-Length (-5), never gets to a
//! script, so those reasons are not given here.

use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_script::Value;
use switchroom_wire::sdp::Sdp;
use switchroom_wire::sip::{HeaderId, Message, Method, Uri};

use crate::core::body;

/// `sipmsg_validate([flags[, reason]])`
pub(super) fn sipmsg_validate(c: &mut Call<'_>) -> Flow {
    let flags = c.str(0).cloned().unwrap_or_default();
    let reliable = c.ctx.shard.kernel.socket(c.ctx.received.socket).is_some_and(|s| s.proto.reliable());
    let ruri = if c.ctx.msg.is_request() { c.ctx.ruri() } else { Default::default() };
    let sdp = if flags.contains(&b's') { body::sdp(c.ctx) } else { None };
    let verdict = check(&c.ctx.msg, &flags, reliable, &ruri, sdp.as_deref());
    let Err((code, reason)) = verdict else { return TRUE };
    if let Some(var) = c.var(1)
        && let Err(e) = c.ctx.set_var(&var, Value::from(reason))
    {
        tracing::error!("sipmsg_validate(): {e}");
        return FALSE;
    }
    Flow::Value(code)
}

type Verdict = Result<(), (i64, &'static str)>;

fn check(msg: &Message, flags: &[u8], reliable: bool, ruri: &[u8], sdp: Option<&[u8]>) -> Verdict {
    let on = |flag: u8| flags.contains(&flag);
    let need = |id: HeaderId, code: i64, reason: &'static str| match msg.header(id) {
        Some(_) => Ok(()),
        None => Err((code, reason)),
    };
    if on(b'h') {
        check_headers(msg)?;
    }
    if reliable {
        need(HeaderId::ContentLength, -4, "No Content-Length header for a stream transport")?;
    }
    if !msg.body().is_empty() {
        need(HeaderId::ContentType, -21, "No Content-Type header")?;
    }
    if sdp.is_some_and(|s| Sdp::parse(s).is_err()) {
        return Err((-6, "SDP body parsing error"));
    }
    if msg.is_request() {
        check_request(msg, &on, ruri)?;
    } else {
        check_reply(msg)?;
    }
    if on(b't') {
        let to = msg.to().ok().map(|n| n.uri);
        check_uri(
            to,
            (-22, "To header parse error"),
            (-23, "Bad hostname in To header"),
            (-29, "Bad To URI username"),
        )?;
    }
    if on(b'f') {
        let from = msg.from().ok().map(|n| n.uri);
        check_uri(
            from,
            (-24, "From header parse error"),
            (-25, "Bad hostname in From header"),
            (-28, "Bad From URI username"),
        )?;
    }
    if on(b'c') {
        let bad = |c: Result<switchroom_wire::sip::NameAddr<'_>, _>| match c {
            Ok(n) => !n.is_star() && n.parse_uri().is_err(),
            Err(_) => true,
        };
        if msg.contacts().any(bad) {
            return Err((-26, "Contact header parse error"));
        }
    }
    Ok(())
}

fn check_headers(msg: &Message) -> Verdict {
    let wrong = Err((-2, "Header parsing error"));
    let ids = [HeaderId::Route, HeaderId::RecordRoute, HeaderId::Path, HeaderId::Contact];
    let lists = ids.iter().any(|id| msg.addresses(*id).any(|a| a.is_err()));
    let one = msg.from().is_err() || msg.to().is_err() || msg.cseq().is_err() || msg.max_forwards().is_err();
    if lists || one || msg.vias().any(|v| v.is_err()) {
        return wrong;
    }
    Ok(())
}

fn check_request(msg: &Message, on: &dyn Fn(u8) -> bool, ruri: &[u8]) -> Verdict {
    let method = msg.method();
    if !on(b'm') && msg.header(HeaderId::MaxForwards).is_none() {
        return Err((-13, "No Max-Forwards header"));
    }
    let needs_contact = matches!(method, Method::Invite | Method::Subscribe | Method::Refer);
    if needs_contact && msg.header(HeaderId::Contact).is_none() {
        return Err((-14, "No Contact header"));
    }
    if method != Method::Register && msg.header(HeaderId::Path).is_some() {
        return Err((-15, "PATH header supported only for REGISTERs"));
    }
    if on(b'r') {
        check_uri(
            Some(ruri),
            (-11, "Request URI parse error"),
            (-12, "Bad hostname in R-URI"),
            (-27, "Bad R-URI username"),
        )?;
    }
    Ok(())
}

fn check_reply(msg: &Message) -> Verdict {
    let needed = match msg.status() {
        405 => (HeaderId::Allow, -16, "No Allow header in 405 reply"),
        423 => (HeaderId::MinExpires, -17, "No Min-Expires header in 423 reply"),
        407 => (HeaderId::ProxyAuthenticate, -18, "No Proxy-Authenticate header in 407 reply"),
        420 => (HeaderId::Unsupported, -19, "No Unsupported header in 420 reply"),
        401 => (HeaderId::WwwAuthenticate, -20, "No WWW-Authenticate header in 401 reply"),
        200..300 if matches!(msg.method(), Method::Invite | Method::Subscribe) => {
            (HeaderId::Contact, -14, "No Contact header")
        }
        _ => return Ok(()),
    };
    match msg.header(needed.0) {
        Some(_) => Ok(()),
        None => Err((needed.1, needed.2)),
    }
}

type Reason = (i64, &'static str);

fn check_uri(uri: Option<&[u8]>, unreadable: Reason, host: Reason, user: Reason) -> Verdict {
    let Some(Ok(u)) = uri.map(Uri::parse) else { return Err(unreadable) };
    if !u.host.is_empty() && !is_host(u.host_bare()) {
        return Err(host);
    }
    match u.user {
        Some(name) if !is_user(name) => Err(user),
        _ => Ok(()),
    }
}

fn is_host(host: &[u8]) -> bool {
    let name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let address = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
    host.iter().all(name) || host.iter().all(address)
}

/// `user` of RFC 3261 §25.1; `;`, `/` and `?` are allowed there, and a broken escape is not.
fn is_user(user: &[u8]) -> bool {
    let mut rest = user;
    while let [b, tail @ ..] = rest {
        rest = match b {
            b'%' => match tail {
                [h, l, after @ ..] if h.is_ascii_hexdigit() && l.is_ascii_hexdigit() => after,
                _ => return false,
            },
            b if b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/#".contains(b) => tail,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(first: &str, more: &str, body: &str) -> Message {
        let cseq = first.split(' ').next().filter(|m| *m != "SIP/2.0").unwrap_or("INVITE");
        let text = format!(
            "{first}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\n\
             CSeq: 1 {cseq}\r\n{more}\r\n{body}"
        );
        Message::parse(text.into()).unwrap()
    }

    #[track_caller]
    fn code(msg: &Message, flags: &str, expected: i64) {
        let ruri = msg.ruri_bytes().to_vec();
        let got = check(msg, flags.as_bytes(), false, &ruri, Some(msg.body()).filter(|b| !b.is_empty()));
        assert_eq!(got.err().map_or(1, |e| e.0), expected);
    }

    #[test]
    fn a_sound_request_passes_every_check() {
        let m = message("INVITE sip:b@h SIP/2.0", "Max-Forwards: 70\r\nContact: <sip:a@1.2.3.4>\r\n", "");
        code(&m, "shrftc", 1);
    }

    #[test]
    fn each_fault_has_its_number() {
        let invite = "INVITE sip:b@h SIP/2.0";
        code(&message(invite, "Contact: <sip:a@h>\r\n", ""), "", -13);
        code(&message(invite, "Contact: <sip:a@h>\r\n", ""), "m", 1);
        code(&message(invite, "Max-Forwards: 70\r\n", ""), "", -14);
        code(&message("BYE sip:b@h SIP/2.0", "Path: <sip:x>\r\n", ""), "m", -15);
        code(&message(invite, "Contact: <sip:a@h>\r\n", "v=0"), "m", -21);
        let typed = "Contact: <sip:a@h>\r\nContent-Type: application/sdp\r\n";
        code(&message(invite, typed, "x"), "ms", -6);
        code(&message("SIP/2.0 405 No", "", ""), "", -16);
        code(&message("SIP/2.0 423 No", "", ""), "", -17);
        code(&message("SIP/2.0 407 No", "", ""), "", -18);
        code(&message("SIP/2.0 420 No", "", ""), "", -19);
        code(&message("SIP/2.0 401 No", "", ""), "", -20);
        code(&message("BYE sip:b%zz@h SIP/2.0", "", ""), "mr", -27);
        code(&message("BYE sip:b@h SIP/2.0", "Contact: <sip>\r\n", ""), "mc", -26);
    }

    #[test]
    fn a_stream_transport_asks_for_a_content_length() {
        let m = message("BYE sip:b@h SIP/2.0", "", "");
        assert_eq!(check(&m, b"m", true, b"sip:b@h", None).unwrap_err().0, -4);
    }
}
