//! The Call-ID of a ping says whom it was sent to and when, so that its answer needs no memory of it.
//!
//! It is the base64url text of: key of the contact, time of sending, table, address of record, and a keyed hash that only
//! this process can make. An answer with another Call-ID is no answer to a ping.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use switchroom_calls::core::state::Core;

const PREFIX: &[u8] = b"nh-";
const HASH: usize = 8;
const FIXED: usize = HASH + 8 + 4 + 1;
/// Longest Call-ID of a ping: an address of record has no more than 512 bytes.
const MAX: usize = 1024;

/// What a Call-ID of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// Key of the contact.
    pub id: u64,
    /// Microseconds on a clock of this process; they begin again after 71 minutes.
    pub sent: u32,
    /// Number of the location table.
    pub table: u8,
    /// Address of record.
    pub aor: &'a [u8],
}

impl Token<'_> {
    /// Append the Call-ID to `out`; gives its keyed hash, which is as good for other marks of the request.
    pub fn write(&self, core: &Core, out: &mut Vec<u8>) -> u64 {
        let mut bytes = Vec::with_capacity(FIXED + self.aor.len());
        bytes.extend_from_slice(&[0; HASH]);
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&self.sent.to_be_bytes());
        bytes.push(self.table);
        bytes.extend_from_slice(self.aor);
        let hash = core.digest(&[PREFIX, &bytes[HASH..]]);
        bytes[..HASH].copy_from_slice(&hash.to_be_bytes());
        out.extend_from_slice(PREFIX);
        let start = out.len();
        out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        // The room is enough for the text with padding, and it is written without.
        let len = URL_SAFE_NO_PAD.encode_slice(&bytes, &mut out[start..]).unwrap_or(0);
        out.truncate(start + len);
        hash
    }

    /// Whether a Call-ID looks like one of a ping; cheap, for the many that do not.
    pub fn is_ours(call_id: &[u8]) -> bool {
        call_id.starts_with(PREFIX)
    }

    /// Read a Call-ID into `bytes`; `None` when it was not made here.
    pub fn read<'b>(core: &Core, call_id: &[u8], bytes: &'b mut Vec<u8>) -> Option<Token<'b>> {
        let text = call_id.strip_prefix(PREFIX).filter(|t| t.len() <= MAX)?;
        bytes.clear();
        URL_SAFE_NO_PAD.decode_vec(text, bytes).ok()?;
        let (hash, rest) = bytes.split_first_chunk::<HASH>()?;
        if core.digest(&[PREFIX, rest]) != u64::from_be_bytes(*hash) {
            return None;
        }
        let (id, rest) = rest.split_first_chunk()?;
        let (sent, rest) = rest.split_first_chunk()?;
        let (table, aor) = rest.split_first()?;
        Some(Token { id: u64::from_be_bytes(*id), sent: u32::from_be_bytes(*sent), table: *table, aor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchroom_kernel::load::Source;
    use switchroom_rehearsal::{Rehearsal, Setup};

    #[test]
    fn a_call_id_says_whom_it_was_for_and_another_text_nothing() {
        let setup = Setup {
            source: Source::Text("test.cfg".into(), b"route { exit; }"[..].into()),
            catalogue: switchroom_calls::MODULES,
            always: &["core"],
            stores: Vec::new(),
            arguments: Vec::new(),
            unix: 0,
        };
        let stage = Rehearsal::open(setup).unwrap();
        let core = stage.kernel.state::<Core>();
        let token = Token { id: u64::MAX >> 1, sent: 7, table: 2, aor: b"bob@example.org" };
        let mut text = Vec::new();
        let hash = token.write(core, &mut text);
        assert!(Token::is_ours(&text) && text.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)));
        let mut bytes = Vec::new();
        assert_eq!(Token::read(core, &text, &mut bytes), Some(token));
        let mut other = Vec::new();
        assert_ne!(Token { sent: 8, ..token }.write(core, &mut other), hash);
        // One letter of the address or of the hash makes it somebody else's.
        for at in [3, 10, text.len() - 2] {
            let mut forged = text.clone();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(Token::read(core, &forged, &mut bytes), None, "{at}");
        }
        for bad in [&b""[..], b"nh-", b"nh-!!!!", b"nh-AAAA", b"nh"] {
            assert_eq!(Token::read(core, bad, &mut bytes), None);
        }
        let long = [&text[..], &[b'A'; 2000]].concat();
        assert_eq!(Token::read(core, &long, &mut bytes), None);
    }
}
