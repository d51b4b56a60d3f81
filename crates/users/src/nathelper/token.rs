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
