//! Bodies and their parts (RFC 5621): testing, adding, removing. Every function sees what the ones before it changed.

use bytes::Bytes;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_script::Value;
use switchroom_wire::sip::{HeaderId, Part};

use super::truth;
use crate::core::body::{self, Body};
use crate::core::state::{Core, push_hex};

/// `has_body([type])`: of a multipart the whole or any part.
pub(super) fn has_body(c: &mut Call<'_>) -> Flow {
    let body = body::current(c.ctx);
    truth(has(&body, c.args.str(0).map(|t| &t[..])))
}

fn has(body: &Body, kind: Option<&[u8]>) -> bool {
    match kind.filter(|k| !k.is_empty()).map(|k| std::str::from_utf8(k)) {
        None => !body.bytes.is_empty(),
        Some(Err(_)) => false,
        Some(Ok(kind)) => {
            let whole = switchroom_wire::sip::is_media_type(&body.kind, kind);
            !body.bytes.is_empty() && (whole || body.parts().any(|p| p.is(kind)))
        }
    }
}

/// `remove_body_part([type[, "revert"]])`
pub(super) fn remove_body_part(c: &mut Call<'_>) -> Flow {
    let body = body::current(c.ctx);
    if body.bytes.is_empty() {
        return FALSE;
    }
    let kind = c.text(0);
    let revert = c.args.str(1).is_some_and(|f| f.eq_ignore_ascii_case(b"revert"));
    let total = body.parts().count();
    let kept: Vec<Part<'_>> = match kind.is_empty() {
        true => Vec::new(),
        false => body.parts().filter(|p| p.is(&kind) == revert).collect(),
    };
    if kept.len() == total {
        return FALSE;
    }
    match kept[..] {
        [] => body::remove(c.ctx),
        [only] if is_plain(&only) => {
            let kind = Bytes::copy_from_slice(only.content_type);
            body::set(c.ctx, Some(kind), Bytes::copy_from_slice(only.body));
        }
        _ => {
            let boundary = boundary(c, &body);
            let bytes = join(&kept, &boundary, None);
            body::set(c.ctx, Some(multipart(&boundary)), bytes);
        }
    }
    TRUE
}

/// Whether a part says nothing about itself but its type, so that it can stand alone.
fn is_plain(part: &Part<'_>) -> bool {
    let lines = part.headers.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty());
    lines.into_iter().all(|l| {
        let name = l.split(|b| *b == b':').next().unwrap_or_default();
        matches!(HeaderId::from_name(name.trim_ascii()), HeaderId::ContentType | HeaderId::ContentLength)
    })
}

/// `add_body_part(text, type[, headers])`
pub(super) fn add_body_part(c: &mut Call<'_>) -> Flow {
    let (Some(text), Some(kind)) = (c.str(0).cloned(), c.str(1).filter(|k| !k.is_empty()).cloned()) else {
        return FALSE;
    };
    let headers = c.str(2).cloned().unwrap_or_default();
    let body = body::current(c.ctx);
    if body.bytes.is_empty() {
        if !headers.is_empty() {
            c.ctx.edits.append_header(headers);
        }
        body::set(c.ctx, Some(kind), text);
        return TRUE;
    }
    let boundary = boundary(c, &body);
    let parts: Vec<Part<'_>> = body.parts().collect();
    let bytes = join(&parts, &boundary, Some((&kind, &headers, &text)));
    let kind = if body.is_multipart() { with_boundary(&body.kind, &boundary) } else { multipart(&boundary) };
    body::set(c.ctx, Some(kind), bytes);
    TRUE
}

/// `get_updated_body_part([type], out)`: with the changes made so far.
pub(super) fn get_updated_body_part(c: &mut Call<'_>) -> Flow {
    let Some(out) = c.var(1) else { return FALSE };
    let body = body::current(c.ctx);
    let kind = c.text(0);
    let found = match kind.is_empty() {
        true => (!body.bytes.is_empty()).then(|| body.bytes.clone()),
        false => body.find(&kind).map(|r| body.bytes.slice(r)),
    };
    let Some(text) = found else { return FALSE };
    match c.ctx.set_var(&out, Value::Str(text)) {
        Ok(()) => TRUE,
        Err(e) => {
            tracing::error!("get_updated_body_part(): {e}");
            FALSE
        }
    }
}

/// A boundary that nobody who wrote the parts could know, so that it cannot stand in them.
fn boundary(c: &Call<'_>, body: &Body) -> Vec<u8> {
    let core = c.ctx.shard.kernel.state::<Core>();
    let mut text = b"part-".to_vec();
    push_hex(core.digest(&[b"boundary", c.ctx.msg.call_id(), &body.bytes]), &mut text);
    text
}

fn multipart(boundary: &[u8]) -> Bytes {
    [b"multipart/mixed;boundary=\"", boundary, b"\""].concat().into()
}

/// The same multipart type with another boundary.
fn with_boundary(kind: &[u8], boundary: &[u8]) -> Bytes {
    let media = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    [media, b";boundary=\"", boundary, b"\""].concat().into()
}

fn join(parts: &[Part<'_>], boundary: &[u8], new: Option<(&[u8], &[u8], &[u8])>) -> Bytes {
    let mut out =
        Vec::with_capacity(parts.iter().map(|p| p.headers.len() + p.body.len() + 64).sum::<usize>() + 128);
    let mut part = |kind: Option<&[u8]>, headers: &[u8], body: &[u8]| {
        out.extend_from_slice(b"--");
        out.extend_from_slice(boundary);
        out.extend_from_slice(b"\r\n");
        if let Some(kind) = kind {
            out.extend_from_slice(b"Content-Type: ");
            out.extend_from_slice(kind);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(headers);
        if !headers.is_empty() && !headers.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    };
    for p in parts {
        // A plain body has no headers of its own: its type moves into the part.
        part(p.headers.is_empty().then_some(p.content_type), p.headers, p.body);
    }
    if let Some((kind, headers, body)) = new {
        part(Some(kind), headers, body);
    }
    out.extend_from_slice(b"--");
    out.extend_from_slice(boundary);
    out.extend_from_slice(b"--\r\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Body {
        Body { kind: Bytes::from_static(b"application/sdp"), bytes: Bytes::from_static(b"v=0\r\n") }
    }

    #[test]
    fn a_plain_body_becomes_the_first_part_of_a_multipart() {
        let body = plain();
        let parts: Vec<_> = body.parts().collect();
        let joined = Body {
            kind: multipart(b"x"),
            bytes: join(&parts, b"x", Some((b"text/plain", b"Content-Disposition: render\r\n", b"hi"))),
        };
        let parts: Vec<_> = joined.parts().collect();
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].content_type, parts[0].body), (&b"application/sdp"[..], &b"v=0\r\n"[..]));
        assert_eq!((parts[1].content_type, parts[1].body), (&b"text/plain"[..], &b"hi"[..]));
        assert!(is_plain(&parts[0]) && !is_plain(&parts[1]));
    }

    #[test]
    fn a_body_is_tested_by_type_as_a_whole_and_by_part() {
        assert!(has(&plain(), None) && has(&plain(), Some(b"application/sdp")));
        assert!(!has(&plain(), Some(b"text/plain")) && !has(&Body::default(), None));
        let multi =
            Body { kind: multipart(b"x"), bytes: join(&plain().parts().collect::<Vec<_>>(), b"x", None) };
        assert!(has(&multi, Some(b"multipart/mixed")) && has(&multi, Some(b"application/sdp")));
    }

    proptest::proptest! {
        #[test]
        fn parts_come_back_from_a_joined_body_as_they_went_in(
            texts in proptest::collection::vec("[a-z-]{0,8}(\r\n[a-z-]{0,8}){0,3}", 1..5),
        ) {
            let parts: Vec<Part<'_>> = texts
                .iter()
                .map(|t| Part { headers: b"", content_type: b"text/plain", body: t.as_bytes() })
                .collect();
            let body = Body { kind: multipart(b"=x="), bytes: join(&parts, b"=x=", None) };
            let back: Vec<&[u8]> = body.parts().map(|p| p.body).collect();
            proptest::prop_assert_eq!(back, texts.iter().map(String::as_bytes).collect::<Vec<_>>());
        }
    }
}
