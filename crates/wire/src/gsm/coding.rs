//! The data coding octet (TS 23.038 §4, SMPP 5.0 §4.7.7) and the text behind it.

use super::alphabet::{NotRepresentable, Shifts, decode_gsm7, encode_gsm7};

/// How the octets of a text are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// GSM 7-bit, one septet per octet.
    Gsm7,
    /// GSM 7-bit, eight septets in seven octets.
    Gsm7Packed,
    /// ASCII.
    Ascii,
    /// ISO 8859-1.
    Latin1,
    /// UTF-16, highest octet first, surrogate pairs included.
    Ucs2,
    /// UTF-8, which some SMS centres use as their default.
    Utf8,
    /// Octets without a text.
    Binary,
}

/// What a data coding octet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    /// Alphabet of the text.
    pub alphabet: Alphabet,
    /// Message class 0 to 3; 0 is shown at once and not kept (flash).
    pub class: Option<u8>,
}

impl Coding {
    /// Reads `data_coding`; `default` is what 0 means on this connection. Codings we have no table for are binary. The coding
    /// group comes first: the low nibble alone means nothing.
    #[must_use]
    pub fn read(octet: u8, default: Alphabet) -> Coding {
        let plain = |alphabet| Coding { alphabet, class: None };
        match octet {
            0x00 => plain(default),
            0x01 => plain(Alphabet::Ascii),
            0x03 => plain(Alphabet::Latin1),
            0x08 => plain(Alphabet::Ucs2),
            // General group, with or without a class.
            0x10..=0x3f => {
                let alphabet = match octet >> 2 & 3 {
                    0 => gsm_of(default),
                    2 => Alphabet::Ucs2,
                    _ => Alphabet::Binary,
                };
                Coding { alphabet, class: (octet & 0x10 != 0).then_some(octet & 3) }
            }
            // Message waiting: 7-bit text in the first two, UCS-2 in the third.
            0xc0..=0xdf => plain(gsm_of(default)),
            0xe0..=0xef => plain(Alphabet::Ucs2),
            0xf0..=0xff => Coding {
                alphabet: if octet & 4 == 0 { gsm_of(default) } else { Alphabet::Binary },
                class: Some(octet & 3),
            },
            _ => plain(Alphabet::Binary),
        }
    }

    /// The octet for a text of this alphabet, and class.
    #[must_use]
    pub fn write(self) -> u8 {
        let group = match self.alphabet {
            Alphabet::Ucs2 => 0x18,
            Alphabet::Binary => 0xf4,
            _ => 0x10,
        };
        match (self.class, self.alphabet) {
            (Some(class), _) => group | class & 3,
            (None, Alphabet::Ascii) => 0x01,
            (None, Alphabet::Latin1) => 0x03,
            (None, Alphabet::Ucs2) => 0x08,
            (None, Alphabet::Binary) => 0x04,
            (None, Alphabet::Gsm7 | Alphabet::Gsm7Packed | Alphabet::Utf8) => 0x00,
        }
    }

    /// Whether it is shown at once and not kept.
    #[must_use]
    pub fn is_flash(self) -> bool {
        self.class == Some(0)
    }
}

/// Where the octet says "7-bit", the connection's default says whether it is packed.
fn gsm_of(default: Alphabet) -> Alphabet {
    if default == Alphabet::Gsm7Packed { Alphabet::Gsm7Packed } else { Alphabet::Gsm7 }
}

/// The text of octets. Packed text must have been unpacked before. What is no text in UTF-16 or UTF-8 becomes U+FFFD; octets of a
/// binary message are read as Latin-1, so that nothing is lost.
#[must_use]
pub fn decode(alphabet: Alphabet, octets: &[u8], shifts: Shifts) -> String {
    match alphabet {
        Alphabet::Gsm7 | Alphabet::Gsm7Packed => decode_gsm7(octets, shifts),
        Alphabet::Ascii | Alphabet::Utf8 => String::from_utf8_lossy(octets).into_owned(),
        Alphabet::Latin1 | Alphabet::Binary => octets.iter().map(|b| char::from(*b)).collect(),
        Alphabet::Ucs2 => {
            let units = octets.chunks_exact(2).map(|u| u16::from_be_bytes([u[0], u[1]]));
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
    }
}

/// Appends the octets of a text; packed text is packed by the caller. Nothing is appended when a character does not fit.
pub fn encode(
    alphabet: Alphabet,
    text: &str,
    shifts: Shifts,
    out: &mut Vec<u8>,
) -> Result<(), NotRepresentable> {
    let narrow = |limit: u32, out: &mut Vec<u8>| match text.chars().find(|c| u32::from(*c) > limit) {
        Some(c) => Err(NotRepresentable(c)),
        None => {
            out.extend(text.chars().map(|c| c as u32 as u8));
            Ok(())
        }
    };
    match alphabet {
        Alphabet::Gsm7 | Alphabet::Gsm7Packed => encode_gsm7(text, shifts, out),
        Alphabet::Ascii => narrow(0x7f, out),
        Alphabet::Latin1 | Alphabet::Binary => narrow(0xff, out),
        Alphabet::Utf8 => {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        Alphabet::Ucs2 => {
            out.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_read_before_the_alphabet() {
        let gsm = |octet| Coding::read(octet, Alphabet::Gsm7);
        let table = [
            (0x00, Alphabet::Gsm7, None),
            (0x01, Alphabet::Ascii, None),
            (0x02, Alphabet::Binary, None),
            (0x03, Alphabet::Latin1, None),
            (0x04, Alphabet::Binary, None),
            (0x08, Alphabet::Ucs2, None),
            (0x10, Alphabet::Gsm7, Some(0)),
            (0x18, Alphabet::Ucs2, Some(0)),
            (0x19, Alphabet::Ucs2, Some(1)),
            (0x15, Alphabet::Binary, Some(1)),
            (0x28, Alphabet::Ucs2, None),
            (0xc8, Alphabet::Gsm7, None),
            (0xd8, Alphabet::Gsm7, None),
            (0xe8, Alphabet::Ucs2, None),
            (0xf0, Alphabet::Gsm7, Some(0)),
            (0xf5, Alphabet::Binary, Some(1)),
            (0xf8, Alphabet::Gsm7, Some(0)),
        ];
        for (octet, alphabet, class) in table {
            assert_eq!(gsm(octet), Coding { alphabet, class }, "{octet:02x}");
        }
        assert_eq!(Coding::read(0, Alphabet::Latin1).alphabet, Alphabet::Latin1);
        assert_eq!(Coding::read(0x10, Alphabet::Gsm7Packed).alphabet, Alphabet::Gsm7Packed);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for alphabet in [Alphabet::Gsm7, Alphabet::Ascii, Alphabet::Latin1, Alphabet::Ucs2, Alphabet::Binary]
        {
            let c = Coding { alphabet, class: None };
            assert_eq!(Coding::read(c.write(), Alphabet::Gsm7), c);
        }
        for alphabet in [Alphabet::Gsm7, Alphabet::Ucs2, Alphabet::Binary] {
            let c = Coding { alphabet, class: Some(0) };
            assert_eq!(Coding::read(c.write(), Alphabet::Gsm7), c);
            assert!(c.is_flash());
        }
    }

    #[test]
    fn six_scripts_survive_utf_16() {
        for text in ["Hello", "Привет", "안녕하세요", "你好", "👍🏽🎉", "مرحبا"] {
            let mut out = Vec::new();
            encode(Alphabet::Ucs2, text, Shifts::default(), &mut out).unwrap();
            assert_eq!(decode(Alphabet::Ucs2, &out, Shifts::default()), text);
        }
        assert_eq!(decode(Alphabet::Ucs2, &[0xd8, 0x3d, 0, b'a'], Shifts::default()), "\u{fffd}a");
        assert!(encode(Alphabet::Latin1, "ж", Shifts::default(), &mut Vec::new()).is_err());
        assert_eq!(decode(Alphabet::Latin1, b"\xe9", Shifts::default()), "é");
    }
}
