//! The GSM 7-bit alphabet with its extension and national tables (TS 23.038 §6.2.1, annex A), one septet per octet.
//!
//! National tables: Turkish, Spanish and Portuguese. Those of the Indian languages are left out; their messages go as UCS-2.

/// The default table. ESC stands as itself.
const DEFAULT: [char; 128] = table(None);

/// A language with tables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Language {
    /// Locking and single shift.
    Turkish = 1,
    /// Single shift only.
    Spanish = 2,
    /// Locking and single shift.
    Portuguese = 3,
}

impl Language {
    /// From the national language identifier of a user data header.
    #[must_use]
    pub fn from_number(n: u8) -> Option<Language> {
        match n {
            1 => Some(Language::Turkish),
            2 => Some(Language::Spanish),
            3 => Some(Language::Portuguese),
            _ => None,
        }
    }
}

/// The tables in use, as the user data header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shifts {
    /// In place of the default table.
    pub locking: Option<Language>,
    /// In place of the extension.
    pub single: Option<Language>,
}

/// A character that the tables do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the alphabet has no {0:?}")]
pub struct NotRepresentable(pub char);

const ESC: u8 = 0x1b;

const fn table(language: Option<Language>) -> [char; 128] {
    let mut t = ['\0'; 128];
    let low = [
        '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å', 'Δ', '_', 'Φ', 'Γ',
        'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', '\x1b', 'Æ', 'æ', 'ß', 'É',
    ];
    let mut i = 0;
    while i < 128 {
        t[i] = if i < 32 { low[i] } else { i as u8 as char };
        i += 1;
    }
    set(
        &mut t,
        &[
            (0x24, '¤'),
            (0x40, '¡'),
            (0x5b, 'Ä'),
            (0x5c, 'Ö'),
            (0x5d, 'Ñ'),
            (0x5e, 'Ü'),
            (0x5f, '§'),
            (0x60, '¿'),
            (0x7b, 'ä'),
            (0x7c, 'ö'),
            (0x7d, 'ñ'),
            (0x7e, 'ü'),
            (0x7f, 'à'),
        ],
    );
    match language {
        Some(Language::Turkish) => set(
            &mut t,
            &[
                (0x04, '€'),
                (0x07, 'ı'),
                (0x0b, 'Ğ'),
                (0x0c, 'ğ'),
                (0x1c, 'Ş'),
                (0x1d, 'ş'),
                (0x40, 'İ'),
                (0x60, 'ç'),
            ],
        ),
        Some(Language::Portuguese) => set(
            &mut t,
            &[
                (0x04, 'ê'),
                (0x06, 'ú'),
                (0x07, 'í'),
                (0x08, 'ó'),
                (0x09, 'ç'),
                (0x0b, 'Ô'),
                (0x0c, 'ô'),
                (0x0e, 'Á'),
                (0x0f, 'á'),
                (0x12, 'ª'),
                (0x13, 'Ç'),
                (0x14, 'À'),
                (0x15, '∞'),
                (0x16, '^'),
                (0x17, '\\'),
                (0x18, '€'),
                (0x19, 'Ó'),
                (0x1a, '|'),
                (0x1c, 'Â'),
                (0x1d, 'â'),
                (0x1e, 'Ê'),
                (0x24, 'º'),
                (0x40, 'Í'),
                (0x5b, 'Ã'),
                (0x5c, 'Õ'),
                (0x5d, 'Ú'),
                (0x60, '~'),
                (0x7b, 'ã'),
                (0x7c, 'õ'),
                (0x7d, '`'),
            ],
        ),
        _ => {}
    }
    t
}

const fn set(t: &mut [char; 128], entries: &[(usize, char)]) {
    let mut i = 0;
    while i < entries.len() {
        t[entries[i].0] = entries[i].1;
        i += 1;
    }
}

static TURKISH: [char; 128] = table(Some(Language::Turkish));
static PORTUGUESE: [char; 128] = table(Some(Language::Portuguese));

const EXTENSION: &[(u8, char)] = &[
    (0x0a, '\x0c'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2f, '\\'),
    (0x3c, '['),
    (0x3d, '~'),
    (0x3e, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

const TURKISH_SINGLE: &[(u8, char)] =
    &[(0x47, 'Ğ'), (0x49, 'İ'), (0x53, 'Ş'), (0x63, 'ç'), (0x67, 'ğ'), (0x69, 'ı'), (0x73, 'ş')];

const SPANISH_SINGLE: &[(u8, char)] = &[
    (0x09, 'ç'),
    (0x41, 'Á'),
    (0x49, 'Í'),
    (0x4f, 'Ó'),
    (0x55, 'Ú'),
    (0x61, 'á'),
    (0x69, 'í'),
    (0x6f, 'ó'),
    (0x75, 'ú'),
];

const PORTUGUESE_SINGLE: &[(u8, char)] = &[
    (0x05, 'ê'),
    (0x09, 'ç'),
    (0x0b, 'Ô'),
    (0x0c, 'ô'),
    (0x0e, 'Á'),
    (0x0f, 'á'),
    (0x12, 'Φ'),
    (0x13, 'Γ'),
    (0x15, 'Ω'),
    (0x16, 'Π'),
    (0x17, 'Ψ'),
    (0x18, 'Σ'),
    (0x19, 'Θ'),
    (0x1f, 'Ê'),
    (0x41, 'À'),
    (0x49, 'Í'),
    (0x4f, 'Ó'),
    (0x55, 'Ú'),
    (0x5b, 'Ã'),
    (0x5c, 'Õ'),
    (0x61, 'Â'),
    (0x69, 'í'),
    (0x6f, 'ó'),
    (0x75, 'ú'),
    (0x7b, 'ã'),
    (0x7c, 'õ'),
    (0x7f, 'â'),
];

impl Shifts {
    fn base(self) -> &'static [char; 128] {
        match self.locking {
            Some(Language::Turkish) => &TURKISH,
            Some(Language::Portuguese) => &PORTUGUESE,
            _ => &DEFAULT,
        }
    }

    /// What the national single shift table adds to the extension.
    fn national(self) -> &'static [(u8, char)] {
        match self.single {
            Some(Language::Turkish) => TURKISH_SINGLE,
            Some(Language::Spanish) => SPANISH_SINGLE,
            Some(Language::Portuguese) => PORTUGUESE_SINGLE,
            None => &[],
        }
    }

    fn escaped(self) -> impl Iterator<Item = (u8, char)> {
        self.national().iter().chain(EXTENSION).copied()
    }

    /// The septets of a character: one, or ESC and one.
    fn find(self, c: char) -> Option<(Option<u8>, u8)> {
        // Nearly all text is here, where the tables agree with ASCII.
        if matches!(c, ' '..='#' | '%'..='?' | 'A'..='Z' | 'a'..='z') {
            return Some((None, c as u8));
        }
        let base = self.base();
        match (0..128u8).find(|i| base[usize::from(*i)] == c && *i != ESC) {
            Some(septet) => Some((None, septet)),
            None => self.escaped().find(|(_, e)| *e == c).map(|(septet, _)| (Some(ESC), septet)),
        }
    }
}

/// Text of septets, one in each octet; the top bit is not looked at. After ESC, what the extension does not have is shown from the
/// basic table, and ESC ESC is a space.
#[must_use]
pub fn decode_gsm7(octets: &[u8], shifts: Shifts) -> String {
    let base = shifts.base();
    let mut out = String::with_capacity(octets.len());
    let mut rest = octets.iter().map(|b| b & 0x7f);
    while let Some(septet) = rest.next() {
        if septet != ESC {
            out.push(base[usize::from(septet)]);
            continue;
        }
        match rest.next() {
            None => {}
            Some(ESC) => out.push(' '),
            Some(s) => {
                let found = shifts.escaped().find(|(code, _)| *code == s);
                out.push(found.map_or(base[usize::from(s)], |(_, c)| c));
            }
        }
    }
    out
}

/// Appends the septets of a text, one in each octet.
pub fn encode_gsm7(text: &str, shifts: Shifts, out: &mut Vec<u8>) -> Result<(), NotRepresentable> {
    let start = out.len();
    for c in text.chars() {
        match shifts.find(c) {
            Some((escape, septet)) => {
                out.extend(escape);
                out.push(septet);
            }
            None => {
                out.truncate(start);
                return Err(NotRepresentable(c));
            }
        }
    }
    Ok(())
}

/// How many septets a character takes.
#[must_use]
pub fn septets(c: char, shifts: Shifts) -> Option<usize> {
    shifts.find(c).map(|(escape, _)| 1 + usize::from(escape.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str, shifts: Shifts) -> Vec<u8> {
        let mut out = Vec::new();
        encode_gsm7(text, shifts, &mut out).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(decode_gsm7(&out, shifts), text);
        out
    }

    #[test]
    fn the_default_table_is_that_of_23_038() {
        let plain = Shifts::default();
        assert_eq!(round("@£$¥èéùìòÇ\nØø\rÅå", plain), (0..16).collect::<Vec<u8>>());
        assert_eq!(round("Δ_ΦΓΛΩΠΨΣΘΞ", plain), (16..27).collect::<Vec<u8>>());
        assert_eq!(round("ÆæßÉ !\"#¤%&", plain), (28..39).collect::<Vec<u8>>());
        assert_eq!(round("¡AZÄÖÑÜ§¿azäöñüà", plain), b"\x40AZ\x5b\x5c\x5d\x5e\x5f\x60az\x7b\x7c\x7d\x7e\x7f");
        assert_eq!(
            round("{}[]~\\^|€\x0c", plain),
            b"\x1b\x28\x1b\x29\x1b\x3c\x1b\x3e\x1b\x3d\x1b\x2f\x1b\x14\x1b\x40\x1b\x65\x1b\x0a"
        );
    }

    #[test]
    fn every_septet_of_every_table_comes_back() {
        for locking in [None, Some(Language::Turkish), Some(Language::Portuguese)] {
            let shifts = Shifts { locking, single: None };
            for septet in (0..128u8).filter(|s| *s != ESC) {
                let text = decode_gsm7(&[septet], shifts);
                let mut out = Vec::new();
                encode_gsm7(&text, shifts, &mut out).unwrap();
                assert_eq!(out, [septet], "{locking:?} {septet:02x}");
            }
        }
        for single in [Language::Turkish, Language::Spanish, Language::Portuguese] {
            let shifts = Shifts { locking: None, single: Some(single) };
            for (septet, c) in shifts.escaped() {
                assert_eq!(decode_gsm7(&[ESC, septet], shifts), c.to_string(), "{single:?}");
            }
        }
    }

    #[test]
    fn national_letters_fit_with_their_table_only() {
        assert_eq!(encode_gsm7("ş", Shifts::default(), &mut Vec::new()), Err(NotRepresentable('ş')));
        round("Şişli'de İğne çok €", Shifts { locking: Some(Language::Turkish), single: None });
        round("ÁÍÓÚáíóúç", Shifts { locking: None, single: Some(Language::Spanish) });
        round(
            "ÃÕãõâêç coração",
            Shifts { locking: Some(Language::Portuguese), single: Some(Language::Portuguese) },
        );
    }

    #[test]
    fn odd_escapes_are_shown_as_23_038_says() {
        assert_eq!(decode_gsm7(&[ESC, b'A', ESC, ESC, b'B', ESC], Shifts::default()), "A B");
        assert_eq!(decode_gsm7(&[0xc1], Shifts::default()), "A");
        assert_eq!(septets('€', Shifts::default()), Some(2));
        assert_eq!(septets('ж', Shifts::default()), None);
    }
}
