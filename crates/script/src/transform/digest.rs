//! Digests, checksums and Base64 of the class `s`.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::strings::hex_text;
use super::{Entry, text};
use crate::value::Value;

pub(super) const TABLE: &[Entry] = &[
    ("s.md5", "", |s, _| hex_text(&Md5::digest(s))),
    ("s.sha1", "", |s, _| hex_text(&Sha1::digest(s))),
    ("s.sha224", "", |s, _| hex_text(&Sha224::digest(s))),
    ("s.sha256", "", |s, _| hex_text(&Sha256::digest(s))),
    ("s.sha384", "", |s, _| hex_text(&Sha384::digest(s))),
    ("s.sha512", "", |s, _| hex_text(&Sha512::digest(s))),
    ("s.sha1_hmac", "c", |s, a| keyed::<Hmac<Sha1>>(s, a)),
    ("s.sha224_hmac", "c", |s, a| keyed::<Hmac<Sha224>>(s, a)),
    ("s.sha256_hmac", "c", |s, a| keyed::<Hmac<Sha256>>(s, a)),
    ("s.sha384_hmac", "c", |s, a| keyed::<Hmac<Sha384>>(s, a)),
    ("s.sha512_hmac", "c", |s, a| keyed::<Hmac<Sha512>>(s, a)),
    ("s.crc32", "", |s, _| Value::Str(crc32fast::hash(s).to_string().into())),
    ("s.b64encode", "", |s, _| Value::Str(STANDARD.encode(s).into())),
    ("s.b64decode", "", decode),
    ("s.encode.base64", "", |s, _| Value::Str(STANDARD.encode(s).into())),
    ("s.decode.base64", "", decode),
];

fn keyed<M: Mac + hmac::digest::KeyInit>(s: &[u8], args: &[Value]) -> Value {
    let Some(key) = text(args, 0) else { return Value::Null };
    match <M as Mac>::new_from_slice(&key) {
        Ok(mut mac) => {
            mac.update(s);
            hex_text(&mac.finalize().into_bytes())
        }
        Err(_) => Value::Null,
    }
}

/// As many whole groups as can be decoded.
fn decode(s: &[u8], _: &[Value]) -> Value {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let usable = s.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')).count();
    let usable = if usable % 4 == 1 { usable - 1 } else { usable };
    LENIENT.decode(&s[..usable]).map_or(Value::Null, |b| Value::Str(b.into()))
}
