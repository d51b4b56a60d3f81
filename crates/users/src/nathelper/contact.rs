//! Contact with the address it came from, and back again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_wire::sip::{Scheme, Uri};

use super::{push_source, source_uri};
use switchroom_calls::core::uri::{Part, with_param, with_part, without_param};

/// Parameter of the Request-URI that keeps the phone's own host and port.
const KEPT: &str = "org";

/// `fix_nated_contact([uri_params[, "preserve-uri"]])`
pub(super) fn fix_nated_contact(c: &mut Call<'_>) -> Flow {
    let extra = c.str(0).cloned().unwrap_or_default();
    let keep = c.text(1).split(',').any(|f| f.trim().eq_ignore_ascii_case("preserve-uri"));
    let ctx = &mut *c.ctx;
    let mut source = Vec::with_capacity(24);
    push_source(ctx, &mut source);
    let msg = ctx.msg.clone();
    let mut done = FALSE;
    for contact in msg.contacts() {
        let contact = match contact {
            Ok(n) if n.is_star() => continue,
            Ok(n) => n,
            Err(e) => {
                tracing::warn!("fix_nated_contact(): a Contact cannot be read: {e}");
                return FALSE;
            }
        };
        let Some(mut new) = rewritten(contact.uri, &source, &extra, keep) else { continue };
        // Outside of brackets its parameters would become those of the header.
        if !contact.bracketed {
            new = [b"<", &new[..], b">"].concat().into();
        }
        if ctx.edits.replace_part(&msg, contact.uri, new) {
            done = TRUE;
        }
    }
    done
}

fn rewritten(uri: &[u8], source: &[u8], extra: &[u8], keep: bool) -> Option<Bytes> {
    let old = Uri::parse(uri).ok()?;
    let mut new = with_part(uri, Part::HostPort, source)?;
    let mut params: Vec<Bytes> =
        extra.split(|b| *b == b';').filter(|p| !p.is_empty()).map(Bytes::copy_from_slice).collect();
    if keep {
        let mut own = old.host.to_vec();
        if let Some(port) = old.port {
            own.push(b':');
            own.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
        params.push(format!("{KEPT}={}", STANDARD_NO_PAD.encode(own)).into());
    }
    for param in params {
        new = with_param(&new, &param)?;
    }
    Some(new)
}

/// `restore_nated_ruri()`: the URI as it is becomes the next hop, and the phone gets the host and port it knows.
pub(super) fn restore_nated_ruri(c: &mut Call<'_>) -> Flow {
    let uri = c.ctx.ruri();
    match restored(&uri) {
        Some((hop, own)) => {
            c.ctx.target.dst = Some(hop);
            c.ctx.target.uri = Some(own);
            TRUE
        }
        None => FALSE,
    }
}

fn restored(uri: &[u8]) -> Option<(Bytes, Bytes)> {
    let kept = Uri::parse(uri).ok()?.param(KEPT)?.to_vec();
    let text = kept.strip_suffix(b"==").or_else(|| kept.strip_suffix(b"=")).unwrap_or(&kept);
    let own = STANDARD_NO_PAD.decode(text).ok()?;
    let hop = without_param(uri, KEPT)?;
    let new = with_part(&hop, Part::HostPort, &own)?;
    Some((hop, new))
}

/// `add_rcv_param([in_uri])`
pub(super) fn add_rcv_param(c: &mut Call<'_>) -> Flow {
    let in_uri = c.int(0).unwrap_or(0) != 0;
    let ctx = &mut *c.ctx;
    let source = source_uri(ctx);
    let msg = ctx.msg.clone();
    for contact in msg.contacts() {
        let Ok(contact) = contact else { return FALSE };
        if contact.is_star() {
            continue;
        }
        if in_uri {
            add_to_uri(ctx, &contact, &source);
            continue;
        }
        let start = contact.raw.as_ptr() as usize - msg.raw().as_ptr() as usize;
        let end = start + contact.raw.len();
        let text = [b";received=\"", &source[..], b"\""].concat();
        ctx.edits.replace(end..end, text.into());
    }
    TRUE
}

fn add_to_uri(ctx: &mut Ctx, contact: &switchroom_wire::sip::NameAddr<'_>, source: &[u8]) {
    let sip = contact.parse_uri().is_ok_and(|u| matches!(u.scheme, Scheme::Sip | Scheme::Sips));
    let mut param = b"received=".to_vec();
    for b in source {
        match b {
            b';' => param.extend_from_slice(b"%3B"),
            b'=' => param.extend_from_slice(b"%3D"),
            b => param.push(*b),
        }
    }
    let Some(mut new) = with_param(contact.uri, &param).filter(|_| sip) else { return };
    if !contact.bracketed {
        new = [b"<", &new[..], b">"].concat().into();
    }
    let msg = ctx.msg.clone();
    ctx.edits.replace_part(&msg, contact.uri, new);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_change_and_the_rest_of_the_uri_stays() {
        let new =
            rewritten(b"sip:bob@10.0.0.1:5070;transport=udp", b"192.0.2.1:1024", b";ata=cisco;x", false);
        assert_eq!(&new.unwrap()[..], b"sip:bob@192.0.2.1:1024;transport=udp;ata=cisco;x");
        let new = rewritten(b"sip:[fd00::1]", b"[2001:db8::1]:5060", b"", false);
        assert_eq!(&new.unwrap()[..], b"sip:[2001:db8::1]:5060");
        assert!(rewritten(b"tel:+123", b"192.0.2.1:1024", b"", false).is_none());
    }

    #[test]
    fn a_kept_address_comes_back_and_the_seen_one_becomes_the_next_hop() {
        let new = rewritten(b"sip:bob@10.0.0.1:5070;ob", b"192.0.2.1:1024", b"", true).unwrap();
        let (hop, own) = restored(&new).unwrap();
        assert_eq!(&hop[..], b"sip:bob@192.0.2.1:1024;ob");
        assert_eq!(&own[..], b"sip:bob@10.0.0.1:5070;ob");
        assert!(restored(b"sip:bob@a.org").is_none());
        assert!(restored(b"sip:bob@a.org;org=!!").is_none());
        assert!(restored(b"sip:bob@a.org;org=PD4").is_none(), "what was kept must be a host");
    }
}
