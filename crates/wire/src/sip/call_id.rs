//! Finding the Call-ID before a full parse, to choose the shard of a message.

use super::scan::{is_lws, trim};
use std::hash::{BuildHasher, Hasher};

/// The Call-ID of a raw message, found by looking only at line starts; `None` when there is none before the empty line.
/// A folded Call-ID value is found when it stands on the first line.
#[must_use]
pub fn call_id_of(raw: &[u8]) -> Option<&[u8]> {
    let mut rest = raw;
    while matches!(rest.first(), Some(b'\r' | b'\n')) {
        rest = &rest[1..];
    }
    loop {
        let line_end = memchr::memchr(b'\n', rest)?;
        rest = &rest[line_end + 1..];
        let name_len = match rest.first()? {
            b'\r' | b'\n' => return None,
            b'c' | b'C' if rest.get(..7)?.eq_ignore_ascii_case(b"call-id") => 7,
            b'i' | b'I' if matches!(rest.get(1)?, b':' | b' ' | b'\t') => 1,
            _ => continue,
        };
        let after = &rest[name_len..];
        let colon = after.iter().position(|b| !matches!(b, b' ' | b'\t'))?;
        if after[colon] != b':' {
            continue;
        }
        let value = &after[colon + 1..];
        let end = memchr::memchr(b'\n', value).unwrap_or(value.len());
        let mut id = trim(&value[..end]);
        if id.is_empty() {
            // A fold directly behind the colon.
            let next = value.get(end + 1..).filter(|n| n.first().is_some_and(|b| is_lws(*b)))?;
            id = trim(&next[..memchr::memchr(b'\n', next).unwrap_or(next.len())]);
        }
        return (!id.is_empty()).then_some(id);
    }
}

/// A hash of a Call-ID that is the same in every run and process.
#[must_use]
pub fn call_id_hash(call_id: &[u8]) -> u64 {
    let mut hasher = foldhash::fast::FixedState::with_seed(0x0053_7769_7463_6872).build_hasher();
    hasher.write(call_id);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_compact_and_folded_names_are_found() {
        for text in
            ["Call-ID: a@b\r\n", "call-id :a@b \r\n", "i:a@b\r\n", "I\t: a@b\r\n", "Call-ID:\r\n  a@b\r\n"]
        {
            let raw = format!("OPTIONS sip:h SIP/2.0\r\nContact: x\r\n{text}To: x\r\n\r\n");
            assert_eq!(call_id_of(raw.as_bytes()), Some(&b"a@b"[..]), "{text}");
        }
    }

    #[test]
    fn text_in_the_body_is_not_a_call_id() {
        assert_eq!(call_id_of(b"OPTIONS sip:h SIP/2.0\r\nTo: x\r\n\r\nCall-ID: a\r\n"), None);
        assert_eq!(call_id_of(b""), None);
        assert_eq!(call_id_of(b"X\r\nCall-ID:"), None);
    }
}
