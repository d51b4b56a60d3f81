//! Which messages belong together (RFC 3261 §17.1.3, §17.2.3, §8.2.2.2, §16.3 step 4; RFC 2543 peers).
//!
//! A key is text in which equal messages are equal byte for byte, so that a table compares it after its hash.

use std::hash::{BuildHasher, Hasher};

use smallvec::SmallVec;
use switchroom_wire::sip::{HeaderId, Message, Method, Via};

/// The same in every run, so that a request which left before a restart is known when it returns after it.
const LOOP_SEED: u64 = 0x6c6f_6f70;

/// The text of a key.
pub type Key = SmallVec<[u8; 160]>;

/// The key of the server transaction a request belongs to; an ACK has that of its INVITE. `None` without a readable Via.
#[must_use]
pub fn server(request: &Message) -> Option<Key> {
    let method = match request.method() {
        Method::Ack => &b"INVITE"[..],
        _ => request.method_name(),
    };
    key(request, method)
}

/// The same from its method and topmost Via alone, for a request that is not read yet. `None` for RFC 2543 peers.
#[must_use]
pub fn server_of(method: &[u8], via: &Via<'_>) -> Option<Key> {
    let branch = via.branch.filter(|_| via.has_magic_cookie())?;
    let mut key = Key::new();
    part(&mut key, method);
    sent_by(&mut key, via);
    key.push(b'3');
    // The branch is a token and compares without case.
    lowered(&mut key, branch);
    Some(key)
}

/// The key of the INVITE server transaction a CANCEL is for (§9.2).
#[must_use]
pub fn cancelled(cancel: &Message) -> Option<Key> {
    key(cancel, b"INVITE")
}

/// The key that merged requests share: the same request that came over two ways (§8.2.2.2). `None` for requests that
/// cannot be merged: those inside a dialog, ACK and CANCEL.
#[must_use]
pub fn merged(request: &Message) -> Option<Key> {
    if matches!(request.method(), Method::Ack | Method::Cancel) || request.to().ok()?.tag().is_some() {
        return None;
    }
    let mut key = Key::new();
    part(&mut key, request.from().ok()?.tag().unwrap_or(&[]));
    part(&mut key, request.call_id());
    part(&mut key, &request.cseq().ok()?.0.to_be_bytes());
    part(&mut key, request.method_name());
    Some(key)
}

/// A number that comes out the same when a request returns unchanged (§16.6 step 8): to be compared with the one in our
/// branch of an earlier pass. Differs when request URI, Route or credentials changed (a spiral).
#[must_use]
pub fn loop_number(request: &Message) -> u32 {
    let mut hash = foldhash::fast::FixedState::with_seed(LOOP_SEED).build_hasher();
    let mut part = |text: &[u8]| {
        hash.write_u32(text.len() as u32);
        hash.write(text);
    };
    part(request.ruri_bytes());
    part(request.from().ok().and_then(|f| f.tag()).unwrap_or(&[]));
    part(request.to().ok().and_then(|t| t.tag()).unwrap_or(&[]));
    part(request.call_id());
    part(&request.cseq().map_or(0, |c| c.0).to_be_bytes());
    for id in [HeaderId::Route, HeaderId::ProxyRequire, HeaderId::ProxyAuthorization] {
        for h in request.headers_of(id) {
            part(h.value);
        }
    }
    hash.finish() as u32
}

/// Whether the request was here before and returned unchanged: one of our branches among its Vias carries its
/// [`loop_number`] (§16.3 step 4). `is_ours` tells whether sent-by of a Via is this proxy.
#[must_use]
pub fn is_loop(request: &Message, is_ours: impl Fn(&Via<'_>) -> bool) -> bool {
    let mut number = None;
    request.via().into_iter().chain(request.vias_below().flatten()).any(|via| {
        via.branch.and_then(BranchId::decode).is_some_and(|id| {
            is_ours(&via) && id.loop_number == *number.get_or_insert_with(|| loop_number(request))
        })
    })
}

fn key(request: &Message, method: &[u8]) -> Option<Key> {
    let via = request.via().ok()?;
    if let Some(key) = server_of(method, &via) {
        return Some(key);
    }
    let mut key = Key::new();
    part(&mut key, method);
    sent_by(&mut key, &via);
    old_key(&mut key, request, &via)?;
    Some(key)
}

/// RFC 2543 peers: request URI, From tag, Call-ID, CSeq number and the topmost Via. The To tag is left out, because an ACK
/// carries that of the reply.
fn old_key(key: &mut Key, request: &Message, via: &Via<'_>) -> Option<()> {
    key.push(b'2');
    part(key, request.ruri_bytes());
    part(key, request.from().ok()?.tag().unwrap_or(&[]));
    part(key, request.call_id());
    part(key, &request.cseq().ok()?.0.to_be_bytes());
    part(key, via.raw);
    Some(())
}

fn sent_by(key: &mut Key, via: &Via<'_>) {
    lowered(key, via.host);
    let default = if via.transport.eq_ignore_ascii_case(b"TLS") { 5061 } else { 5060 };
    key.extend_from_slice(&via.port.unwrap_or(default).to_be_bytes());
}

fn lowered(key: &mut Key, text: &[u8]) {
    let from = key.len();
    key.extend_from_slice(text);
    key[from..].make_ascii_lowercase();
}

/// Appends a part so that two different lists of parts never give the same text.
fn part(key: &mut Key, text: &[u8]) {
    key.extend_from_slice(&(text.len() as u32).to_be_bytes());
    key.extend_from_slice(text);
}

/// Our own branch parameter: it says where the transaction is, so that a reply finds it without hashing text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BranchId {
    /// The shard that owns the transaction.
    pub shard: u16,
    /// Place in the table.
    pub slot: u32,
    /// How often the place was used before.
    pub generation: u32,
    /// Random number of the transaction, so that nobody guesses a branch.
    pub nonce: u32,
    /// [`loop_number`] of the request as it was received.
    pub loop_number: u32,
    /// Index of the branch of the transaction.
    pub branch: u16,
}

const PREFIX: &[u8] = b"z9hG4bK-sr";
const DIGITS: usize = 40;

impl BranchId {
    /// Length of the text in bytes.
    pub const LEN: usize = PREFIX.len() + DIGITS;

    /// The shard that a reply belongs to, from its bytes as received: our branch stands in its topmost Via. A quick look
    /// only; `None` means to ask the Call-ID.
    #[must_use]
    pub fn shard_of_reply(raw: &[u8]) -> Option<u16> {
        let head = &raw[..raw.len().min(1024)];
        let at = memchr::memmem::find(head, PREFIX)?;
        BranchId::decode(head.get(at..at + Self::LEN)?).map(|id| id.shard)
    }

    /// The text of the parameter.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; DIGITS / 2];
        bytes[0..2].copy_from_slice(&self.shard.to_be_bytes());
        bytes[2..6].copy_from_slice(&self.slot.to_be_bytes());
        bytes[6..10].copy_from_slice(&self.generation.to_be_bytes());
        bytes[10..14].copy_from_slice(&self.nonce.to_be_bytes());
        bytes[14..18].copy_from_slice(&self.loop_number.to_be_bytes());
        bytes[18..20].copy_from_slice(&self.branch.to_be_bytes());
        let mut text = [0; Self::LEN];
        text[..PREFIX.len()].copy_from_slice(PREFIX);
        for (pair, b) in text[PREFIX.len()..].chunks_exact_mut(2).zip(bytes) {
            pair[0] = b"0123456789abcdef"[usize::from(b >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(b & 15)];
        }
        text
    }

    /// Reads a parameter; `None` when it is none of ours.
    #[must_use]
    pub fn decode(text: &[u8]) -> Option<BranchId> {
        let digits = text.strip_prefix(PREFIX).filter(|d| d.len() == DIGITS)?;
        let mut bytes = [0u8; DIGITS / 2];
        for (b, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *b = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        let u16_at = |i: usize| u16::from_be_bytes([bytes[i], bytes[i + 1]]);
        let u32_at = |i: usize| u32::from_be_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        Some(BranchId {
            shard: u16_at(0),
            slot: u32_at(2),
            generation: u32_at(6),
            nonce: u32_at(10),
            loop_number: u32_at(14),
            branch: u16_at(18),
        })
    }
}

fn digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}
