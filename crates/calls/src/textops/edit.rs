//! Changes of text: recorded over the received headers, made at once in the body.

use std::ops::Range;

use bytes::Bytes;
use regex::bytes::Regex;
use switchroom_kernel::context::{Ctx, FALSE, Flow, TRUE};

use crate::core::body;

/// A body is not made longer than this, whatever a substitution would yield.
const MAX_BODY: usize = 1 << 20;

/// One change adds no more than this to the headers.
const MAX_ADDED: usize = 1 << 16;

/// A place and what comes there.
pub type Change = (Range<usize>, Bytes);

/// Change the headers; `find` gets their text and gives places in it. The first line is left alone: its URI has functions of
/// its own. False when nothing was found.
pub fn head(ctx: &mut Ctx, find: impl FnOnce(&[u8]) -> Vec<Change>) -> bool {
    let msg = ctx.msg.clone();
    let raw = msg.raw();
    let end = raw.len() - msg.body().len();
    let first = msg.header_at(0).map(|h| (h.line.as_ptr() as usize).wrapping_sub(raw.as_ptr() as usize));
    let Some(start) = first.filter(|at| *at <= end) else { return false };
    let changes = find(&raw[start..end]);
    let added: usize = changes.iter().map(|(_, text)| text.len()).sum();
    if added > MAX_ADDED {
        tracing::error!("the headers would get {added} bytes longer; they are left as they are");
        return false;
    }
    let found = !changes.is_empty();
    for (range, text) in changes {
        if !range.is_empty() || !text.is_empty() {
            ctx.edits.replace(start + range.start..start + range.end, text);
        }
    }
    found
}

/// Change the body; nothing from `change` means that nothing was found.
pub fn body(ctx: &mut Ctx, change: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Flow {
    let old = body::current(ctx).bytes;
    if old.is_empty() {
        return FALSE;
    }
    match change(&old) {
        Some(new) if new.len() > MAX_BODY => {
            tracing::error!("the body would have {} bytes; it is left as it is", new.len());
            FALSE
        }
        Some(new) => {
            body::set(ctx, None, new.into());
            TRUE
        }
        None => FALSE,
    }
}

/// `text` with the changes made; they are in order and do not overlap.
pub fn spliced(text: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + changes.iter().map(|c| c.1.len()).sum::<usize>());
    let mut at = 0;
    for (range, new) in changes {
        out.extend_from_slice(&text[at..range.start]);
        out.extend_from_slice(new);
        at = range.end;
        if out.len() > MAX_BODY {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
    out
}

/// The first match replaced.
pub fn first(text: &[u8], regex: &Regex, new: &Bytes) -> Option<Vec<u8>> {
    regex.find(text).map(|m| spliced(text, &[(m.range(), new.clone())]))
}

/// Every match replaced.
pub fn every(text: &[u8], regex: &Regex, new: &Bytes) -> Option<Vec<u8>> {
    let changes: Vec<Change> = regex.find_iter(text).map(|m| (m.range(), new.clone())).collect();
    (!changes.is_empty()).then(|| spliced(text, &changes))
}

/// Every match replaced, none of them over the end of a line.
pub fn by_line(text: &[u8], regex: &Regex, new: &Bytes) -> Option<Vec<u8>> {
    let mut changes: Vec<Change> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive(|b| *b == b'\n') {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
        changes.extend(regex.find_iter(bare).map(|m| (at + m.start()..at + m.end(), new.clone())));
        at += line.len();
    }
    (!changes.is_empty()).then(|| spliced(text, &changes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchroom_script::vm::{posix_regex, posix_regex_with};

    const BODY: &[u8] = b"v=0\r\na=x\r\na=x\r\n";

    fn lines(text: &str) -> Regex {
        posix_regex_with(text.as_bytes(), true, false).unwrap()
    }

    fn text(v: Option<Vec<u8>>) -> String {
        String::from_utf8(v.unwrap()).unwrap()
    }

    #[test]
    fn first_every_and_by_line_differ_in_what_they_replace() {
        let new = Bytes::from_static(b"Y");
        assert_eq!(text(first(BODY, &lines("A=X"), &new)), "v=0\r\nY\r\na=x\r\n");
        assert_eq!(text(every(BODY, &lines("^a=."), &new)), "v=0\r\nY\r\nY\r\n");
        assert_eq!(text(by_line(BODY, &lines("^.*$"), &new)), "Y\r\nY\r\nY\r\n");
        assert!(first(BODY, &lines("b=x"), &new).is_none());
    }

    #[test]
    fn at_once_the_whole_body_is_one_text() {
        let all = posix_regex(b"^.+$").unwrap();
        assert_eq!(text(every(BODY, &all, &Bytes::new())), "");
    }
}
