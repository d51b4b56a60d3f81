//! Parts of a multipart body (RFC 2046 §5.1, RFC 5621).

use super::header::HeaderId;
use super::message::Message;
use super::params::Params;
use super::scan::{self, trim};

/// One part of a body.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Header lines of the part, empty for a body that is not multipart.
    pub headers: &'a [u8],
    /// Content-Type with parameters; `text/plain` when a part names none.
    pub content_type: &'a [u8],
    /// The content.
    pub body: &'a [u8],
}

impl Part<'_> {
    /// Whether the type is `kind` (`application/sdp`, `audio/*`), parameters aside.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        let own = media_type(self.content_type);
        match kind.strip_suffix('*') {
            Some(prefix) => {
                own.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix.as_bytes()))
            }
            None => own.eq_ignore_ascii_case(kind.as_bytes()),
        }
    }
}

impl Message {
    /// The parts of the body: one for a plain body, none for an empty one. Nested multiparts are not entered.
    pub fn parts(&self) -> Parts<'_> {
        Parts::of(self.content_type().unwrap_or(b"application/sdp"), self.body())
    }
}

impl<'a> Parts<'a> {
    /// The parts of a body of this Content-Type.
    #[must_use]
    pub fn of(kind: &'a [u8], body: &'a [u8]) -> Parts<'a> {
        if body.is_empty() {
            return Parts { rest: None, boundary: None, content_type: kind };
        }
        let is_multipart = media_type(kind).get(..10).is_some_and(|p| p.eq_ignore_ascii_case(b"multipart/"));
        let boundary = memchr::memchr(b';', kind)
            .filter(|_| is_multipart)
            .and_then(|at| Params::new(&kind[at..]).value("boundary"))
            .map(|b| match b {
                [b'"', inner @ .., b'"'] => inner,
                _ => b,
            })
            .filter(|b| !b.is_empty());
        let rest = match boundary {
            Some(b) => delimiter(body, b).map(|(_, behind)| behind),
            None => Some(body),
        };
        Parts { rest, boundary, content_type: kind }
    }
}

/// The parts of a body. See [`Message::parts`].
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    rest: Option<&'a [u8]>,
    boundary: Option<&'a [u8]>,
    content_type: &'a [u8],
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let rest = self.rest.take()?;
        let Some(boundary) = self.boundary else {
            return Some(Part { headers: &[], content_type: self.content_type, body: rest });
        };
        // The two dashes behind the last delimiter.
        if rest.starts_with(b"--") {
            return None;
        }
        let line_end = memchr::memchr(b'\n', rest)?;
        let content = &rest[line_end + 1..];
        let (content, behind) = match delimiter(content, boundary) {
            Some((before, behind)) => (before, Some(behind)),
            None => (content, None),
        };
        self.rest = behind;
        let (headers, body) = split_head(content);
        let content_type = field(headers, HeaderId::ContentType).unwrap_or(b"text/plain");
        Some(Part { headers, content_type, body })
    }
}

/// What is before the next `--boundary` (without the line end that belongs to it), and what is behind it.
fn delimiter<'a>(text: &'a [u8], boundary: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    for at in memchr::memmem::find_iter(text, b"--") {
        let at_line_start = at == 0 || text[at - 1] == b'\n';
        if at_line_start && text[at + 2..].starts_with(boundary) {
            let before = &text[..at];
            let before = before.strip_suffix(b"\n").unwrap_or(before);
            let before = before.strip_suffix(b"\r").unwrap_or(before);
            return Some((before, &text[at + 2 + boundary.len()..]));
        }
    }
    None
}

fn split_head(part: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = part.strip_prefix(b"\r\n").or(part.strip_prefix(b"\n")) {
        return (&[], body);
    }
    for newline in memchr::memchr_iter(b'\n', part) {
        match &part[newline + 1..] {
            [b'\r', b'\n', body @ ..] | [b'\n', body @ ..] => return (&part[..=newline], body),
            _ => {}
        }
    }
    (part, &[])
}

fn field(headers: &[u8], id: HeaderId) -> Option<&[u8]> {
    headers.split(|b| *b == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        (HeaderId::from_name(trim(&line[..colon])) == id).then(|| trim(&line[colon + 1..]))
    })
}

fn media_type(value: &[u8]) -> &[u8] {
    trim(&value[..memchr::memchr(b';', value).unwrap_or(value.len())])
}

/// Whether `value`, a Content-Type, is `kind` (`application/sdp`, `audio/*`), parameters and case aside.
#[must_use]
pub fn is_media_type(value: &[u8], kind: &str) -> bool {
    Part { headers: &[], content_type: scan::trim(value), body: &[] }.is(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn message(kind: &str, body: &str) -> Message {
        let raw = format!(
            "INVITE sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: sip:a\r\nTo: sip:b\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
             Content-Type: {kind}\r\n\r\n{body}"
        );
        Message::parse(Bytes::from(raw)).unwrap()
    }

    #[test]
    fn parts_of_a_multipart_body() {
        let m = message(
            "multipart/mixed; boundary=\"b 1\"",
            "preamble\r\n--b 1\r\nContent-Type: application/sdp; x=y\r\n\r\nv=0\r\n\r\n--b 1\r\n\r\nplain --b 1\r\n--b 1--\r\nend",
        );
        let parts: Vec<_> = m.parts().collect();
        assert_eq!(parts.len(), 2);
        assert!(parts[0].is("application/sdp") && parts[0].is("application/*"));
        assert_eq!(parts[0].body, b"v=0\r\n");
        assert_eq!((parts[1].content_type, parts[1].body), (&b"text/plain"[..], &b"plain --b 1"[..]));
    }

    #[test]
    fn a_plain_body_is_one_part_and_an_empty_one_none() {
        assert_eq!(message("application/sdp", "v=0").parts().map(|p| p.body).collect::<Vec<_>>(), [b"v=0"]);
        assert_eq!(message("application/sdp", "").parts().count(), 0);
        assert_eq!(message("multipart/mixed;boundary=x", "no delimiter").parts().count(), 0);
    }
}
