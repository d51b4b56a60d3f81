//! Nonces (RFC 7616 §3.3, §5.4): nothing is kept for them, since each carries its time and a keyed hash of itself.
//!
//! Twenty-four bytes as hexadecimal text: seconds of making (4), offered algorithms (1), serial (7), hash (12).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use switchroom_wire::sip::digest::Algorithm;

const PLAIN: usize = 12;
const WHOLE: usize = 24;

/// Maker and judge of nonces.
pub struct Nonces {
    /// Keyed once, copied for each use.
    mac: Hmac<Sha256>,
    serial: AtomicU64,
    expire: u32,
}

/// What a nonce is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ours and in time.
    Fresh {
        /// Unlike that of any other nonce in force.
        serial: u64,
        /// Algorithms it was offered with.
        offered: Offered,
    },
    /// Ours, but too old.
    Expired,
    /// Not ours, or of an earlier run with another key.
    Foreign,
}

/// A set of algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered(u8);

impl Offered {
    /// The same with one more.
    pub fn with(self, algorithm: Algorithm) -> Offered {
        Offered(self.0 | bit(algorithm))
    }

    /// Whether an answer may use it.
    pub fn has(self, algorithm: Algorithm) -> bool {
        self.0 & bit(algorithm) != 0
    }
}

fn bit(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Md5 => 1,
        Algorithm::Md5Sess => 2,
        Algorithm::Sha256 => 4,
        Algorithm::Sha256Sess => 8,
        Algorithm::Sha512_256 => 16,
        Algorithm::Sha512_256Sess => 32,
    }
}

impl Nonces {
    /// With a secret of the operator's, or a random one.
    pub fn new(secret: Option<&str>, expire: u32) -> Nonces {
        let key: [u8; 32] = match secret {
            Some(text) => Sha256::digest(text.as_bytes()).into(),
            None => random_key(),
        };
        // HMAC takes a key of any length, so the error cannot occur; an empty key would still be a working one.
        let mac = Hmac::new_from_slice(&key).unwrap_or_else(|_| Hmac::new(&Default::default()));
        Nonces { mac, serial: AtomicU64::new(random()), expire }
    }

    /// A new nonce.
    pub fn make(&self, now: u64, offered: Offered) -> [u8; WHOLE * 2] {
        let mut bytes = [0; WHOLE];
        bytes[..4].copy_from_slice(&(now as u32).to_be_bytes());
        bytes[4] = offered.0;
        bytes[5..PLAIN].copy_from_slice(&self.serial.fetch_add(1, Ordering::Relaxed).to_be_bytes()[1..]);
        let hash = self.hash(&bytes[..PLAIN]);
        bytes[PLAIN..].copy_from_slice(&hash);
        let mut text = [0; WHOLE * 2];
        for (pair, b) in text.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(b >> 4)];
            pair[1] = DIGITS[usize::from(b & 15)];
        }
        text
    }

    /// What a nonce in credentials is worth now.
    pub fn judge(&self, text: &[u8], now: u64) -> Verdict {
        let Some(bytes) = decode(text) else { return Verdict::Foreign };
        let hash = self.hash(&bytes[..PLAIN]);
        let differs = hash.iter().zip(&bytes[PLAIN..]).fold(0, |d, (a, b)| d | (a ^ b));
        if differs != 0 {
            return Verdict::Foreign;
        }
        let made = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        // Another server of the same secret may be a little ahead; what seems to come from the future is fresh.
        let age = (now as u32).wrapping_sub(made) as i32;
        if age > self.expire as i32 {
            return Verdict::Expired;
        }
        let mut serial = [0; 8];
        serial[1..].copy_from_slice(&bytes[5..PLAIN]);
        Verdict::Fresh { serial: u64::from_be_bytes(serial), offered: Offered(bytes[4]) }
    }

    fn hash(&self, plain: &[u8]) -> [u8; WHOLE - PLAIN] {
        let mut mac = self.mac.clone();
        mac.update(plain);
        let full = mac.finalize().into_bytes();
        let mut short = [0; WHOLE - PLAIN];
        short.copy_from_slice(&full[..WHOLE - PLAIN]);
        short
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn decode(text: &[u8]) -> Option<[u8; WHOLE]> {
    if text.len() != WHOLE * 2 {
        return None;
    }
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; WHOLE];
    for (b, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *b = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// From the operating system, by way of the keys that the standard library draws from it.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    for (i, chunk) in key.chunks_exact_mut(8).enumerate() {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_usize(i);
        chunk.copy_from_slice(&hasher.finish().to_be_bytes());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_fresh_until_it_expires() {
        let n = Nonces::new(None, 30);
        let text = n.make(1000, Offered::default().with(Algorithm::Md5));
        let Verdict::Fresh { offered, .. } = n.judge(&text, 1030) else { panic!("not fresh") };
        assert!(offered.has(Algorithm::Md5) && !offered.has(Algorithm::Sha256));
        assert_eq!(n.judge(&text, 1031), Verdict::Expired);
        assert!(matches!(n.judge(&text, 999), Verdict::Fresh { .. }));
    }

    #[test]
    fn every_nonce_has_its_own_serial() {
        let n = Nonces::new(None, 30);
        let serial = |t: &[u8]| match n.judge(t, 0) {
            Verdict::Fresh { serial, .. } => serial,
            other => panic!("{other:?}"),
        };
        assert_ne!(serial(&n.make(0, Offered::default())), serial(&n.make(0, Offered::default())));
    }

    #[test]
    fn a_changed_nonce_is_foreign() {
        let n = Nonces::new(Some("s"), 30);
        let text = n.make(1000, Offered::default());
        for i in 0..text.len() {
            let mut bad = text;
            bad[i] = if bad[i] == b'0' { b'1' } else { b'0' };
            assert_eq!(n.judge(&bad, 1000), Verdict::Foreign, "digit {i}");
        }
        assert_eq!(n.judge(b"", 1000), Verdict::Foreign);
        assert_eq!(n.judge(&text[1..], 1000), Verdict::Foreign);
    }

    #[test]
    fn servers_with_one_secret_accept_each_other() {
        let (a, b, c) = (Nonces::new(Some("s"), 30), Nonces::new(Some("s"), 30), Nonces::new(None, 30));
        let text = a.make(5, Offered::default());
        assert!(matches!(b.judge(&text, 5), Verdict::Fresh { .. }));
        assert_eq!(c.judge(&text, 5), Verdict::Foreign);
    }
}
