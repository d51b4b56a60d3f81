//! A text into the messages that carry it: alphabet, parts, and how the parts say that they belong together (TS 23.040
//! §9.2.3.24.1, SMPP 5.0 §4.8.4).
//!
//! National tables are read but not written: a text outside of the default table goes as UCS-2.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use switchroom_wire::gsm::{
    Alphabet, Coding, Concat, Limits, Shifts, concat_header, encode, encode_gsm7, pack, split,
};
use switchroom_wire::smpp::{push_tlv, tag};

/// How the parts of a long message are tied together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// A user data header with an 8-bit reference.
    #[default]
    Udh8,
    /// A user data header with a 16-bit reference.
    Udh16,
    /// The parameters `sar_*`.
    Sar,
    /// One message with `message_payload`; the SMS centre makes the parts.
    Payload,
}

impl Ties {
    /// From its name in settings: `udh8`, `udh16`, `sar`, `payload`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Ties> {
        Some(match name.to_ascii_lowercase().as_str() {
            "udh8" | "udh" => Ties::Udh8,
            "udh16" => Ties::Udh16,
            "sar" => Ties::Sar,
            "payload" => Ties::Payload,
            _ => return None,
        })
    }
}

/// What a connection's peer understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// The alphabet behind `data_coding` 0.
    pub default: Alphabet,
    /// How parts are tied together.
    pub ties: Ties,
    /// Parts of one message at most, up to 255.
    pub max_parts: usize,
}

impl Default for Style {
    fn default() -> Style {
        Style { default: Alphabet::Gsm7, ties: Ties::Udh8, max_parts: 255 }
    }
}

/// Which alphabet a text is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The peer's default, or UCS-2 when the text does not fit into it.
    Shortest,
    /// This one or none.
    Only(Alphabet),
}

/// A text ready to be sent: one message for each part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// The alphabet of all parts.
    pub data_coding: u8,
    /// What `esm_class` needs besides other bits: 0x40 when the texts begin with a header.
    pub esm_class: u8,
    /// The parts in order.
    pub parts: Vec<Part>,
}

/// One part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// `short_message`
    pub text: Vec<u8>,
    /// Optional parameters.
    pub tlvs: Vec<u8>,
}

/// Why a text cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// It does not fit into the wanted alphabet.
    #[error("the wanted alphabet has no {0:?}")]
    Alphabet(char),
    /// It is longer than the parts that are allowed.
    #[error("the text needs {needed} parts and {allowed} are allowed")]
    TooLong {
        /// Parts it needs.
        needed: usize,
        /// Parts there may be.
        allowed: usize,
    },
}

/// Composes a text. `class` is a message class (0 is flash), `reference` names the message when it has parts.
pub fn compose(
    text: &str,
    wanted: Wanted,
    class: Option<u8>,
    reference: u16,
    style: Style,
) -> Result<Composed, ComposeError> {
    let alphabet = alphabet(text, wanted, style.default)?;
    let data_coding = match class {
        None if alphabet == style.default => 0,
        class => Coding { alphabet, class }.write(),
    };
    if style.ties == Ties::Payload {
        return payload(text, alphabet, data_coding);
    }
    let wide = style.ties == Ties::Udh16;
    // Parts tied by parameters are as long as with a header, which the air interface needs anyway.
    let header = if wide { 7 } else { 6 };
    let pieces = split(text, alphabet, Shifts::default(), header);
    let allowed = style.max_parts.min(255);
    if pieces.len() > allowed {
        return Err(ComposeError::TooLong { needed: pieces.len(), allowed });
    }
    let total = pieces.len() as u8;
    let mut parts = Vec::with_capacity(pieces.len());
    for (number, piece) in (1..).zip(pieces) {
        let mut part = Part::default();
        let concat = Concat { reference, total, part: number, wide };
        if total > 1 && style.ties == Ties::Sar {
            push_tlv(&mut part.tlvs, tag::SAR_MSG_REF_NUM, &reference.to_be_bytes());
            push_tlv(&mut part.tlvs, tag::SAR_TOTAL_SEGMENTS, &[total]);
            push_tlv(&mut part.tlvs, tag::SAR_SEGMENT_SEQNUM, &[number]);
        } else if total > 1 {
            part.text = concat_header(concat);
        }
        push_octets(alphabet, piece, &mut part.text)?;
        parts.push(part);
    }
    let has_udh = total > 1 && style.ties != Ties::Sar;
    Ok(Composed { data_coding, esm_class: if has_udh { 0x40 } else { 0 }, parts })
}

/// How many parts a text takes, for a price.
#[must_use]
pub fn count(text: &str, wanted: Wanted, style: Style) -> Option<usize> {
    let alphabet = alphabet(text, wanted, style.default).ok()?;
    let header = if style.ties == Ties::Udh16 { 7 } else { 6 };
    Some(split(text, alphabet, Shifts::default(), header).len())
}

fn alphabet(text: &str, wanted: Wanted, default: Alphabet) -> Result<Alphabet, ComposeError> {
    let fits = |alphabet| {
        let mut octets = Vec::new();
        encode(alphabet, text, Shifts::default(), &mut octets).map_err(|e| ComposeError::Alphabet(e.0))
    };
    match wanted {
        Wanted::Only(alphabet) => fits(alphabet).map(|()| alphabet),
        Wanted::Shortest if default != Alphabet::Binary && fits(default).is_ok() => Ok(default),
        Wanted::Shortest => Ok(Alphabet::Ucs2),
    }
}

fn payload(text: &str, alphabet: Alphabet, data_coding: u8) -> Result<Composed, ComposeError> {
    let mut octets = Vec::new();
    push_octets(alphabet, text, &mut octets)?;
    let part = if octets.len() <= 140 || (alphabet == Alphabet::Gsm7 && octets.len() <= 160) {
        Part { text: octets, tlvs: Vec::new() }
    } else {
        let mut tlvs = Vec::with_capacity(octets.len() + 4);
        if !push_tlv(&mut tlvs, tag::MESSAGE_PAYLOAD, &octets) {
            let needed = octets.len().div_ceil(Limits::of(alphabet, 6).part);
            return Err(ComposeError::TooLong { needed, allowed: 255 });
        }
        Part { text: Vec::new(), tlvs }
    };
    Ok(Composed { data_coding, esm_class: 0, parts: vec![part] })
}

/// Appends the octets of a piece behind the header that is there already.
fn push_octets(alphabet: Alphabet, piece: &str, out: &mut Vec<u8>) -> Result<(), ComposeError> {
    let fault = |e: switchroom_wire::gsm::NotRepresentable| ComposeError::Alphabet(e.0);
    if alphabet == Alphabet::Gsm7Packed {
        let mut septets = Vec::new();
        encode_gsm7(piece, Shifts::default(), &mut septets).map_err(fault)?;
        let packed = pack(&septets, out.len());
        out.extend_from_slice(&packed);
        return Ok(());
    }
    encode(alphabet, piece, Shifts::default(), out).map_err(fault)
}

/// References of long messages: a counter for each destination, begun at random. Destinations share 512 counters, which does
/// no harm and keeps the memory bounded.
pub struct References {
    counters: Box<[AtomicU16]>,
    hasher: foldhash::fast::RandomState,
}

impl Default for References {
    fn default() -> References {
        let hasher = foldhash::fast::RandomState::default();
        let counters = (0..512u16).map(|n| AtomicU16::new(hasher.hash_one(n) as u16)).collect();
        References { counters, hasher }
    }
}

impl References {
    /// The next reference towards this destination.
    pub fn next(&self, destination: &[u8]) -> u16 {
        let at = self.hasher.hash_one(destination) as usize % self.counters.len();
        self.counters[at].fetch_add(1, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str, style: Style) -> Composed {
        compose(text, Wanted::Shortest, None, 0x1234, style).unwrap()
    }

    #[test]
    fn a_short_text_is_one_message_in_the_cheapest_alphabet() {
        let c = made("Hello €", Style::default());
        assert_eq!((c.data_coding, c.esm_class, c.parts.len()), (0, 0, 1));
        assert_eq!(c.parts[0].text, b"Hello \x1b\x65");
        let c = made("Привет", Style::default());
        assert_eq!((c.data_coding, c.parts[0].text.len()), (8, 12));
        let latin = Style { default: Alphabet::Latin1, ..Style::default() };
        assert_eq!(made("é", latin).parts[0].text, [0xe9]);
    }

    #[test]
    fn parts_are_tied_as_the_peer_wants_it() {
        let text = "a".repeat(161);
        let c = made(&text, Style::default());
        assert_eq!((c.esm_class, c.parts.len(), c.parts[1].text.len()), (0x40, 2, 6 + 8));
        assert_eq!(c.parts[1].text[..6], [5, 0, 3, 0x34, 2, 2]);
        let c = made(&text, Style { ties: Ties::Udh16, ..Style::default() });
        assert_eq!(c.parts[0].text[..7], [6, 8, 4, 0x12, 0x34, 2, 1]);
        let c = made(&text, Style { ties: Ties::Sar, ..Style::default() });
        assert_eq!((c.esm_class, c.parts[0].text.len(), c.parts[0].tlvs.len()), (0, 153, 6 + 5 + 5));
        let c = made(&text, Style { ties: Ties::Payload, ..Style::default() });
        assert_eq!((c.parts.len(), c.parts[0].text.len(), c.parts[0].tlvs.len()), (1, 0, 165));
    }

    #[test]
    fn packed_parts_have_140_octets() {
        let style = Style { default: Alphabet::Gsm7Packed, ..Style::default() };
        let c = made(&"a".repeat(160), style);
        assert_eq!((c.parts.len(), c.parts[0].text.len()), (1, 140));
        assert_eq!(made(&"a".repeat(161), style).parts[0].text.len(), 140);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let few = Style { max_parts: 2, ..Style::default() };
        let error = compose(&"a".repeat(400), Wanted::Shortest, None, 1, few);
        assert_eq!(error, Err(ComposeError::TooLong { needed: 3, allowed: 2 }));
        let only = compose("ж", Wanted::Only(Alphabet::Gsm7), None, 1, few);
        assert_eq!(only, Err(ComposeError::Alphabet('ж')));
    }

    #[test]
    fn references_towards_one_destination_are_consecutive() {
        let references = References::default();
        let first = references.next(b"491511");
        assert_eq!(references.next(b"491511"), first.wrapping_add(1));
    }
}
