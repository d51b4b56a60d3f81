//! Tests of the whole message (method, dialog), parts of the Request-URI, and the message as JSON.

use bytes::Bytes;
use serde_json::{Map, Value as Json};
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::module::Prepared;
use switchroom_script::Value;
use switchroom_script::names::StaticArg;
use switchroom_wire::sip::{Message, Method, Scheme, Uri};

use super::truth;
use crate::core::uri::{with_param, without_param};

/// A list of methods, read once.
#[derive(Debug, Default)]
pub(super) struct Methods {
    /// One bit for each known method.
    known: u32,
    other: Vec<Bytes>,
}

impl Methods {
    pub fn parse(text: &[u8]) -> Methods {
        let mut list = Methods::default();
        for name in text.split(|b| *b == b'|').map(<[u8]>::trim_ascii).filter(|n| !n.is_empty()) {
            match Method::from_bytes(&name.to_ascii_uppercase()) {
                Method::Other => list.other.push(Bytes::copy_from_slice(name)),
                known => list.known |= 1 << known as u32,
            }
        }
        list
    }

    #[inline]
    pub fn has(&self, msg: &Message) -> bool {
        match msg.method() {
            Method::Other => self.other.iter().any(|n| n.eq_ignore_ascii_case(msg.method_name())),
            known => self.known & 1 << known as u32 != 0,
        }
    }
}

pub(super) fn prepare_methods(args: &[StaticArg]) -> Result<Option<Prepared>, String> {
    match args.first() {
        Some(StaticArg::Str(text)) => {
            let list = Methods::parse(text);
            if list.known == 0 && list.other.is_empty() {
                return Err("a method or a list like \"INVITE|CANCEL\" is needed".into());
            }
            Ok(Some(std::sync::Arc::new(list)))
        }
        _ => Ok(None),
    }
}

/// `is_method("A|B")`; of a reply the method in CSeq.
pub(super) fn is_method(c: &mut Call<'_>) -> Flow {
    match c.prepared::<Methods>() {
        Some(list) => truth(list.has(&c.ctx.msg)),
        None => truth(c.args.str(0).is_some_and(|text| Methods::parse(text).has(&c.ctx.msg))),
    }
}

/// `has_totag()`: the request belongs to a dialog.
pub(super) fn has_totag(c: &mut Call<'_>) -> Flow {
    truth(c.ctx.msg.to().is_ok_and(|to| to.tag().is_some_and(|t| !t.is_empty())))
}

// The Request-URI -----------------------------------------------------------------------------------------------------

/// `ruri_has_param(name[, value])`: without value the parameter must have none.
pub(super) fn ruri_has_param(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    let uri = c.ctx.ruri();
    let Ok(uri) = Uri::parse(&uri) else { return FALSE };
    let wanted = c.args.str(1).map_or(&b""[..], |v| &v[..]);
    truth(uri.param(&name).is_some_and(|v| v.eq_ignore_ascii_case(wanted)))
}

/// `ruri_add_param("name=value")`
pub(super) fn ruri_add_param(c: &mut Call<'_>) -> Flow {
    let Some(param) = c.str(0).filter(|p| !p.is_empty()).cloned() else { return FALSE };
    set_ruri(c.ctx, |uri| with_param(uri, &param))
}

/// `ruri_del_param(name)`
pub(super) fn ruri_del_param(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    set_ruri(c.ctx, |uri| {
        Uri::parse(uri).ok()?.param(&name)?;
        without_param(uri, &name)
    })
}

fn set_ruri(ctx: &mut Ctx, change: impl FnOnce(&[u8]) -> Option<Bytes>) -> Flow {
    match change(&ctx.ruri()) {
        Some(new) => {
            ctx.target.uri = Some(new);
            TRUE
        }
        None => FALSE,
    }
}

/// `ruri_tel2sip()`: a telephone number becomes the user of a SIP URI in the caller's domain (RFC 3261 §19.1.6). True
/// also when there is nothing to convert.
pub(super) fn ruri_tel2sip(c: &mut Call<'_>) -> Flow {
    let uri = c.ctx.ruri();
    match Uri::parse(&uri) {
        Ok(u) if u.scheme == Scheme::Tel => {}
        Ok(_) => return TRUE,
        Err(_) => return FALSE,
    }
    let msg = c.ctx.msg.clone();
    let from = msg.from().ok().and_then(|f| f.parse_uri().ok()).filter(|u| !u.host.is_empty());
    let host = match from {
        Some(u) => u.host.to_vec(),
        None => match c.ctx.shard.kernel.socket(c.ctx.received.socket) {
            Some(s) => s.via_host().into_bytes(),
            None => return FALSE,
        },
    };
    set_ruri(c.ctx, |uri| tel_to_sip(uri, &host))
}

fn tel_to_sip(uri: &[u8], host: &[u8]) -> Option<Bytes> {
    let number = uri.get(4..)?;
    let new = [b"sip:", number, b"@", host, b";user=phone"].concat();
    Uri::parse(&new).ok()?;
    Some(new.into())
}

/// `is_uri_user_e164(uri)`
pub(super) fn is_uri_user_e164(c: &mut Call<'_>) -> Flow {
    let Some(uri) = c.args.str(0) else { return FALSE };
    truth(Uri::parse(uri).is_ok_and(|u| u.user.is_some_and(is_e164)))
}

/// `+` and up to 15 digits (ITU-T E.164).
pub fn is_e164(user: &[u8]) -> bool {
    matches!(user, [b'+', digits @ ..] if (2..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit))
}

/// `sip_to_json(out)`: first line, headers by name (each a list of values), body.
pub(super) fn sip_to_json(c: &mut Call<'_>) -> Flow {
    let Some(out) = c.var(0) else { return FALSE };
    let json = to_json(&c.ctx.msg);
    match c.ctx.set_var(&out, Value::Str(json.to_string().into())) {
        Ok(()) => TRUE,
        Err(e) => {
            tracing::error!("sip_to_json(): {e}");
            FALSE
        }
    }
}

fn to_json(msg: &Message) -> Json {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let mut headers = Map::new();
    for h in msg.headers() {
        let values = headers.entry(text(h.name)).or_insert_with(|| Json::Array(Vec::new()));
        if let Json::Array(list) = values {
            list.push(Json::String(text(&h.unfolded())));
        }
    }
    let mut all = Map::new();
    all.insert("first_line".into(), Json::String(text(msg.start_line())));
    all.insert("headers".into(), Json::Object(headers));
    all.insert("body".into(), Json::String(text(msg.body())));
    Json::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(method: &str) -> Message {
        let text = format!(
            "{method} sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n\
             Call-ID: c\r\nCSeq: 1 {method}\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 2\r\n\r\nhi"
        );
        Message::parse(text.into()).unwrap()
    }

    #[test]
    fn a_method_list_knows_its_members_in_any_case() {
        let list = Methods::parse(b"INVITE | ack|FOO");
        assert!(list.has(&message("INVITE")) && list.has(&message("ACK")) && list.has(&message("FOO")));
        assert!(!list.has(&message("BYE")) && !list.has(&message("BAR")));
        assert!(prepare_methods(&[StaticArg::Str(Bytes::from_static(b"|"))]).is_err());
    }

    #[test]
    fn telephone_numbers_become_sip_users() {
        let sip = tel_to_sip(b"tel:+358-555;phone-context=x", b"a.org").unwrap();
        assert_eq!(&sip[..], b"sip:+358-555;phone-context=x@a.org;user=phone");
    }

    #[test]
    fn an_e164_number_has_a_plus_and_at_most_fifteen_digits() {
        assert!(is_e164(b"+43123456"));
        assert!(!is_e164(b"43123456"));
        assert!(!is_e164(b"+1234567890123456"));
        assert!(!is_e164(b"+1a2"));
    }

    #[test]
    fn json_lists_repeated_headers_under_one_name() {
        let json = to_json(&message("INVITE"));
        assert_eq!(json["headers"]["X-A"], serde_json::json!(["1", "2"]));
        assert_eq!(json["first_line"], "INVITE sip:b@h SIP/2.0");
        assert_eq!(json["body"], "hi");
    }
}
