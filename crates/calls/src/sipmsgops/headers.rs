//! Headers: adding, removing, testing; comma lists of options; headers for replies.
//!
//! Tests see the message as it was received; changes are made when it leaves.

use bytes::Bytes;
use regex::bytes::Regex;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_script::Value;
use switchroom_wire::sip::{Header, HeaderId, Message, scan};

use super::truth;
use crate::core::send::ReplyExtras;
use switchroom_script::glob::{self, Case};

/// `append_to_reply(text)`
pub(super) fn append_to_reply(c: &mut Call<'_>) -> Flow {
    let Some(text) = c.str(0).filter(|t| !t.is_empty()).cloned() else { return FALSE };
    let extras = c.ctx.note_mut::<ReplyExtras>();
    match (content_type(&text), &mut extras.body) {
        (Some(kind), Some(body)) => body.0 = Bytes::copy_from_slice(kind),
        _ => {
            extras.headers.extend_from_slice(&text);
            if !text.ends_with(b"\n") {
                extras.headers.extend_from_slice(b"\r\n");
            }
        }
    }
    TRUE
}

/// `append_body_to_reply(text)`: its type is the Content-Type that `append_to_reply()` gave, else what it looks like.
pub(super) fn append_body_to_reply(c: &mut Call<'_>) -> Flow {
    let Some(text) = c.str(0).filter(|t| !t.is_empty()).cloned() else { return FALSE };
    let extras = c.ctx.note_mut::<ReplyExtras>();
    let mut kind =
        Bytes::from_static(if text.starts_with(b"v=0") { b"application/sdp" } else { b"text/plain" });
    let mut rest = Vec::with_capacity(extras.headers.len());
    for line in extras.headers.split_inclusive(|b| *b == b'\n') {
        match content_type(line) {
            Some(given) => kind = Bytes::copy_from_slice(given),
            None => rest.extend_from_slice(line),
        }
    }
    extras.headers = rest;
    extras.body = Some((kind, text));
    TRUE
}

/// The value of a header line, when it is a Content-Type.
fn content_type(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|b| *b == b':')?;
    let is_type = HeaderId::from_name(scan::trim(&line[..colon])) == HeaderId::ContentType;
    is_type.then(|| scan::trim(&line[colon + 1..]))
}

/// `append_hf(text[, after])`
pub(super) fn append_hf(c: &mut Call<'_>) -> Flow {
    let Some(text) = c.str(0).filter(|t| !t.is_empty()).cloned() else { return FALSE };
    let msg = c.ctx.msg.clone();
    match c.str(1).and_then(|name| msg.headers_by_name(name).next()) {
        Some(h) => c.ctx.edits.insert_after(&msg, h.index, text),
        None => c.ctx.edits.append_header(text),
    }
    TRUE
}

/// `insert_hf(text[, before])`
pub(super) fn insert_hf(c: &mut Call<'_>) -> Flow {
    let Some(text) = c.str(0).filter(|t| !t.is_empty()).cloned() else { return FALSE };
    let msg = c.ctx.msg.clone();
    match c.str(1).and_then(|name| msg.headers_by_name(name).next()) {
        Some(h) => c.ctx.edits.insert_before(&msg, h.index, text),
        None => c.ctx.edits.prepend_first(&msg, text),
    }
    TRUE
}

/// `append_urihf(prefix, suffix)`: with the received Request-URI between.
pub(super) fn append_urihf(c: &mut Call<'_>) -> Flow {
    let (Some(prefix), Some(suffix)) = (c.str(0), c.str(1)) else { return FALSE };
    let Some(request) = c.ctx.request() else { return FALSE };
    let line = [&prefix[..], request.ruri_bytes(), &suffix[..]].concat();
    c.ctx.edits.append_header(line.into());
    TRUE
}

/// `append_time()`: a Date header (RFC 3261 §20.17) for the replies to this request.
pub(super) fn append_time(c: &mut Call<'_>) -> Flow {
    let Some(line) = date_line(c.ctx.shard.kernel.unix()) else { return FALSE };
    c.ctx.note_mut::<ReplyExtras>().headers.extend_from_slice(line.as_bytes());
    TRUE
}

fn date_line(unix: u64) -> Option<String> {
    let at = jiff::Timestamp::from_second(i64::try_from(unix).ok()?).ok()?;
    jiff::fmt::strtime::format("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", at).ok()
}

/// `remove_hf(name)`; older scripts add `"g"` for a shell pattern and `"r"` for a regular expression.
pub(super) fn remove_hf(c: &mut Call<'_>) -> Flow {
    let Some(name) = c.str(0).cloned() else { return FALSE };
    match c.str(1).map(|f| &f[..]) {
        Some(b"g" | b"G") => remove_where(c, |h| glob::matches(&name, h.name, Case::Ignored)),
        Some(b"r" | b"R") => match switchroom_script::vm::posix_regex(&name) {
            Ok(regex) => remove_where(c, |h| regex.is_match(h.name)),
            Err(e) => {
                tracing::error!("remove_hf(): \"{}\": {e}", String::from_utf8_lossy(&name));
                FALSE
            }
        },
        _ => {
            let id = HeaderId::from_name(&name);
            let named = |h: &Header<'_>| match id {
                HeaderId::Other => h.name.eq_ignore_ascii_case(&name),
                id => h.id == id,
            };
            remove_where(c, named)
        }
    }
}

/// `remove_hf_re(expression)`
pub(super) fn remove_hf_re(c: &mut Call<'_>) -> Flow {
    let Some(regex) = c.args.regex(0).cloned() else { return FALSE };
    let regex: &Regex = &regex;
    remove_where(c, |h| regex.is_match(h.name))
}

/// `remove_hf_glob(pattern)`
pub(super) fn remove_hf_glob(c: &mut Call<'_>) -> Flow {
    let Some(pattern) = c.str(0).cloned() else { return FALSE };
    remove_where(c, |h| glob::matches(&pattern, h.name, Case::Ignored))
}

fn remove_where(c: &mut Call<'_>, which: impl Fn(&Header<'_>) -> bool) -> Flow {
    let msg = c.ctx.msg.clone();
    let mut found = false;
    for h in msg.headers().filter(which) {
        c.ctx.edits.remove_header(&msg, h.index);
        found = true;
    }
    truth(found)
}

/// `is_present_hf(name)`
pub(super) fn is_present_hf(c: &mut Call<'_>) -> Flow {
    let Some(name) = c.args.str(0) else { return FALSE };
    truth(c.ctx.msg.headers_by_name(name).next().is_some())
}

/// `get_glob_headers_values(pattern, names, values)`: the first header ends up at index 0 of both.
pub(super) fn get_glob_headers_values(c: &mut Call<'_>) -> Flow {
    let (Some(pattern), Some(names), Some(values)) = (c.str(0).cloned(), c.var(1), c.var(2)) else {
        return FALSE;
    };
    let msg = c.ctx.msg.clone();
    let mut found = false;
    for h in msg.headers().rev().filter(|h| glob::matches(&pattern, h.name, Case::Ignored)) {
        let value = Value::Str(Bytes::from(h.unfolded().into_owned()));
        let pushed = c.ctx.push_var(&names, Value::Str(msg.slice(h.name)));
        if let Err(e) = pushed.and_then(|()| c.ctx.push_var(&values, value)) {
            tracing::error!("get_glob_headers_values(): {e}");
            return FALSE;
        }
        found = true;
    }
    truth(found)
}

/// `is_privacy(type)` (RFC 3323 §4.2)
pub(super) fn is_privacy(c: &mut Call<'_>) -> Flow {
    let Some(wanted) = c.args.str(0) else { return FALSE };
    let msg = &c.ctx.msg;
    let mut all = msg.headers_of(HeaderId::Privacy).flat_map(|h| h.value.split(|b| matches!(b, b';' | b',')));
    truth(all.any(|v| scan::trim(v).eq_ignore_ascii_case(wanted)))
}

/// `change_reply_status(code, reason)`: a provisional reply stays one, and a final one too, since the transaction has
/// acted on what it is.
pub(super) fn change_reply_status(c: &mut Call<'_>) -> Flow {
    let code = c.int(0).and_then(|n| u16::try_from(n).ok()).filter(|n| (100..700).contains(n));
    let (Some(code), Some(reason)) = (code, c.str(1).cloned()) else { return FALSE };
    let old = c.ctx.msg.status();
    if c.ctx.msg.is_request()
        || (old < 200) != (code < 200)
        || reason.iter().any(|b| matches!(b, b'\r' | b'\n'))
    {
        tracing::warn!("change_reply_status(): cannot make {code} of {old}");
        return FALSE;
    }
    c.ctx.edits.set_status(code, &reason);
    TRUE
}

// Comma lists of options ----------------------------------------------------------------------------------------------

fn option_at(h: &Header<'_>, option: &[u8]) -> Option<usize> {
    // The last one counts, where it is listed twice.
    scan::commas(h.value).enumerate().filter(|(_, v)| v.eq_ignore_ascii_case(option)).last().map(|(i, _)| i)
}

/// `list_hdr_has_option(header, option)`
pub(super) fn list_hdr_has_option(c: &mut Call<'_>) -> Flow {
    let (Some(name), Some(option)) = (c.args.str(0), c.args.str(1)) else { return FALSE };
    truth(c.ctx.msg.headers_by_name(name).any(|h| option_at(&h, option).is_some()))
}

/// `list_hdr_add_option(header, option)`: at the end of the first header of that name.
pub(super) fn list_hdr_add_option(c: &mut Call<'_>) -> Flow {
    let (Some(name), Some(option)) = (c.str(0).cloned(), c.str(1).cloned()) else { return FALSE };
    let msg = c.ctx.msg.clone();
    let Some(h) = msg.headers_by_name(&name).next() else { return FALSE };
    match end_of(&msg, &h) {
        Some(end) => {
            let text = if h.value.is_empty() { option.to_vec() } else { [b", ", &option[..]].concat() };
            // Inserted, not replaced, so that several additions and removals on one header all hold.
            c.ctx.edits.replace(end..end, text.into());
            TRUE
        }
        None => FALSE,
    }
}

fn end_of(msg: &Message, h: &Header<'_>) -> Option<usize> {
    let start = (h.value.as_ptr() as usize).checked_sub(msg.raw().as_ptr() as usize)?;
    Some(start + h.value.len()).filter(|end| *end <= msg.raw().len())
}

/// `list_hdr_remove_option(header, option)`: from every header of that name.
pub(super) fn list_hdr_remove_option(c: &mut Call<'_>) -> Flow {
    let (Some(name), Some(option)) = (c.str(0).cloned(), c.str(1).cloned()) else { return FALSE };
    let msg = c.ctx.msg.clone();
    let mut found = false;
    for h in msg.headers_by_name(&name) {
        if let Some(at) = option_at(&h, &option) {
            c.ctx.edits.remove_value(&msg, h.index, at);
            found = true;
        }
    }
    truth(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_written_as_the_rfc_asks() {
        assert_eq!(date_line(784_111_777).unwrap(), "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    }

    #[test]
    fn a_content_type_line_is_recognised_in_both_forms() {
        assert_eq!(content_type(b"Content-Type: a/b\r\n"), Some(&b"a/b"[..]));
        assert_eq!(content_type(b"c:a/b"), Some(&b"a/b"[..]));
        assert_eq!(content_type(b"X: a/b"), None);
    }
}
