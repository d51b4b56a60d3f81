//! Globally routable URIs of one phone (RFC 5627): made for the answers to REGISTER, and read where they are called.
//!
//! A public GRUU is the address of record with the instance in its `gr` parameter. A temporary GRUU hides both: its user part is
//! an encrypted text of address of record, instance, Call-ID and CSeq (RFC 5627 appendix A.2), so nothing is stored, every
//! refresh gives a new one, and all end when the phone registers with another Call-ID.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use switchroom_wire::sip::Uri;

use crate::usrloc::contact::{Contact, Field};

/// Start of the user part of a temporary GRUU.
const PREFIX: &[u8] = b"tgruu.";
const TAG: usize = 10;
const HASH: usize = 8;

/// The keys that temporary GRUUs are made with.
pub(super) struct Gruu {
    hide: [u8; 32],
    seal: [u8; 32],
}

/// Which phone a GRUU means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phone {
    /// Of this instance, as it stands in `gr`.
    Public(Vec<u8>),
    /// The one with these hashes of instance and Call-ID.
    Temporary([u8; HASH], [u8; HASH]),
}

impl Phone {
    /// Whether the binding is of that phone.
    pub fn is(&self, c: &Contact) -> bool {
        let instance = bare(c.text(Field::Instance));
        match self {
            Phone::Public(wanted) => !instance.is_empty() && instance == wanted,
            Phone::Temporary(of_instance, of_call) => {
                hash(instance) == *of_instance && hash(c.text(Field::CallId)) == *of_call
            }
        }
    }
}

impl Gruu {
    /// From `gruu_secret`, or what else is secret and lasts.
    pub fn new(secret: &[u8]) -> Gruu {
        let key = |what: &[u8]| mac(secret, &[what]);
        Gruu { hide: key(b"hide"), seal: key(b"seal") }
    }

    /// `;pub-gruu="...";temp-gruu="..."` for a binding that has an instance (RFC 5627 §5.2). `aor` is `user@domain`.
    pub fn print(&self, aor: &[u8], c: &Contact, out: &mut Vec<u8>) {
        let instance = bare(c.text(Field::Instance));
        // What cannot stand in a URI parameter makes no GRUU.
        if instance.is_empty() || instance.iter().any(|b| !b.is_ascii_graphic() || b";?\"<>@".contains(b)) {
            return;
        }
        out.extend_from_slice(b";pub-gruu=\"sip:");
        out.extend_from_slice(aor);
        out.extend_from_slice(b";gr=");
        out.extend_from_slice(instance);
        out.extend_from_slice(b"\";temp-gruu=\"sip:");
        out.extend_from_slice(PREFIX);
        let mut text =
            [&hash(instance)[..], &hash(c.text(Field::CallId)), &c.cseq.to_be_bytes(), aor].concat();
        let tag = self.tag(&text);
        self.mask(&tag, &mut text);
        let sealed = [&tag[..], &text].concat();
        out.extend_from_slice(URL_SAFE_NO_PAD.encode(sealed).as_bytes());
        out.push(b'@');
        let domain = aor.iter().position(|b| *b == b'@').map_or(aor, |at| &aor[at + 1..]);
        out.extend_from_slice(domain);
        out.extend_from_slice(b";gr\"");
    }

    /// The phone that a URI with `gr` means, and for a temporary one its address of record. `None` when it is no GRUU, or none
    /// that was made here.
    pub fn read(&self, uri: &Uri<'_>) -> Option<(Phone, Option<Vec<u8>>)> {
        if let Some(instance) = uri.param("gr").filter(|v| !v.is_empty()) {
            let instance = switchroom_wire::sip::scan::percent_decode(instance).into_owned();
            return Some((Phone::Public(instance), None));
        }
        let sealed = URL_SAFE_NO_PAD.decode(uri.user?.strip_prefix(PREFIX)?).ok()?;
        let (tag, text) = sealed.split_at_checked(TAG)?;
        let mut text = text.to_vec();
        self.mask(tag, &mut text);
        if self.tag(&text) != tag {
            return None;
        }
        let (of_instance, rest) = text.split_first_chunk::<HASH>()?;
        let (of_call, rest) = rest.split_first_chunk::<HASH>()?;
        Some((Phone::Temporary(*of_instance, *of_call), Some(rest.get(4..)?.to_vec())))
    }

    fn tag(&self, text: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&mac(&self.seal, &[text])[..TAG]);
        tag
    }

    /// Encrypt or decrypt in place; the tag of the text is its nonce.
    fn mask(&self, nonce: &[u8], text: &mut [u8]) {
        for (i, block) in text.chunks_mut(32).enumerate() {
            let stream = mac(&self.hide, &[nonce, &(i as u32).to_be_bytes()]);
            for (byte, mask) in block.iter_mut().zip(stream) {
                *byte ^= mask;
            }
        }
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length, so this cannot fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn hash(text: &[u8]) -> [u8; HASH] {
    let mut out = [0; HASH];
    out.copy_from_slice(&Sha256::digest(text)[..HASH]);
    out
}

/// `"<urn:uuid:...>"` without quotes and brackets.
fn bare(instance: &[u8]) -> &[u8] {
    let text = instance.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).unwrap_or(instance);
    text.strip_prefix(b"<").and_then(|t| t.strip_suffix(b">")).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usrloc::contact::Texts;

    const UUID: &[u8] = b"\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\"";

    fn contact(call_id: &[u8], cseq: u32) -> Contact {
        let texts = Texts { uri: b"sip:a@1.2.3.4", call_id, instance: UUID, ..Texts::default() };
        let mut c = Contact::new(&texts);
        c.cseq = cseq;
        c
    }

    fn printed(g: &Gruu, c: &Contact) -> (String, String) {
        let mut out = Vec::new();
        g.print(b"alice@example.com", c, &mut out);
        let text = String::from_utf8(out).unwrap();
        let part = |name: &str| {
            text.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned()
        };
        (part("pub-gruu"), part("temp-gruu"))
    }

    #[test]
    fn both_kinds_lead_back_to_their_phone() {
        let g = Gruu::new(b"secret");
        let c = contact(b"call-1", 7);
        let (public, temporary) = printed(&g, &c);
        assert_eq!(public, "sip:alice@example.com;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
        let (phone, aor) = g.read(&Uri::parse(public.as_bytes()).unwrap()).unwrap();
        assert!(phone.is(&c) && aor.is_none());
        let (phone, aor) = g.read(&Uri::parse(temporary.as_bytes()).unwrap()).unwrap();
        assert!(phone.is(&c));
        assert_eq!(aor.unwrap(), b"alice@example.com");
        assert!(!phone.is(&contact(b"call-2", 1)), "it ends with the Call-ID it was made for");
    }

    #[test]
    fn a_temporary_one_tells_nothing_and_is_new_with_each_refresh() {
        let g = Gruu::new(b"secret");
        let (_, first) = printed(&g, &contact(b"call-1", 7));
        let (_, second) = printed(&g, &contact(b"call-1", 8));
        assert_ne!(first, second);
        assert!(!first.contains("alice") && first.ends_with("@example.com;gr"), "{first}");
    }

    #[test]
    fn what_was_not_made_here_is_refused() {
        let g = Gruu::new(b"secret");
        let (_, good) = printed(&g, &contact(b"call-1", 7));
        let mut forged = good.clone().into_bytes();
        forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
        for text in [
            &forged[..],
            b"sip:tgruu.@example.com;gr",
            b"sip:tgruu.!!@example.com;gr",
            b"sip:alice@example.com;gr",
        ] {
            assert_eq!(g.read(&Uri::parse(text).unwrap()), None, "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(Gruu::new(b"other").read(&Uri::parse(good.as_bytes()).unwrap()), None);
    }
}
