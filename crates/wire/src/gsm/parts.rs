//! A text into as many parts as it needs (TS 23.040 §9.2.3.24.1), and which alphabet it takes.

use super::alphabet::{Shifts, septets};
use super::coding::Alphabet;

/// Which part of a long message something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Concat {
    /// Number shared by all parts.
    pub reference: u16,
    /// Number of parts.
    pub total: u8,
    /// Which one, from 1.
    pub part: u8,
    /// Whether the reference has 16 bits.
    pub wide: bool,
}

impl Concat {
    /// Whether it is one of several parts.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.total > 1 && (1..=self.total).contains(&self.part)
    }
}

/// What fits into one message of the radio interface: 140 octets, the header included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Units (septets, octets, UTF-16 units) of a message without a header.
    pub single: usize,
    /// Units of a part behind a header of the given size.
    pub part: usize,
}

impl Limits {
    /// For an alphabet, when the header of a part has `header` octets (6, or 7 with a wide reference).
    #[must_use]
    pub fn of(alphabet: Alphabet, header: usize) -> Limits {
        let room = 140usize.saturating_sub(header);
        match alphabet {
            Alphabet::Gsm7 | Alphabet::Gsm7Packed => Limits { single: 160, part: room * 8 / 7 },
            Alphabet::Ucs2 => Limits { single: 70, part: room / 2 },
            _ => Limits { single: 140, part: room },
        }
    }
}

/// The alphabet chosen for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Gsm7, or Ucs2 when a character is not in the tables.
    pub alphabet: Alphabet,
    /// Units the text takes in it.
    pub units: usize,
}

/// The cheapest alphabet for a text.
#[must_use]
pub fn choose(text: &str, shifts: Shifts) -> Chosen {
    let mut units = 0;
    for c in text.chars() {
        match septets(c, shifts) {
            Some(n) => units += n,
            None => return Chosen { alphabet: Alphabet::Ucs2, units: text.encode_utf16().count() },
        }
    }
    Chosen { alphabet: Alphabet::Gsm7, units }
}

fn units_of(c: char, alphabet: Alphabet, shifts: Shifts) -> usize {
    match alphabet {
        Alphabet::Gsm7 | Alphabet::Gsm7Packed => septets(c, shifts).unwrap_or(1),
        Alphabet::Ucs2 => c.len_utf16(),
        Alphabet::Utf8 => c.len_utf8(),
        Alphabet::Ascii | Alphabet::Latin1 | Alphabet::Binary => 1,
    }
}

/// Cuts a text into parts; one that fits into a single message is not cut. No character is ever cut: neither an escape and its
/// septet nor a surrogate pair.
#[must_use]
pub fn split(text: &str, alphabet: Alphabet, shifts: Shifts, header: usize) -> Vec<&str> {
    let limits = Limits::of(alphabet, header);
    let total: usize = text.chars().map(|c| units_of(c, alphabet, shifts)).sum();
    if total <= limits.single {
        return vec![text];
    }
    let mut parts = Vec::with_capacity(total.div_ceil(limits.part.max(1)));
    let (mut start, mut used) = (0, 0);
    for (at, c) in text.char_indices() {
        let units = units_of(c, alphabet, shifts);
        if used + units > limits.part && used > 0 {
            parts.push(&text[start..at]);
            (start, used) = (at, 0);
        }
        used += units;
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_everybody_knows() {
        let plain = Shifts::default();
        for (alphabet, header, single, part) in [
            (Alphabet::Gsm7, 6, 160, 153),
            (Alphabet::Gsm7, 7, 160, 152),
            (Alphabet::Gsm7, 9, 160, 149),
            (Alphabet::Binary, 6, 140, 134),
            (Alphabet::Binary, 7, 140, 133),
            (Alphabet::Ucs2, 6, 70, 67),
            (Alphabet::Ucs2, 7, 70, 66),
        ] {
            assert_eq!(Limits::of(alphabet, header), Limits { single, part });
        }
        assert_eq!(split(&"a".repeat(160), Alphabet::Gsm7, plain, 6).len(), 1);
        assert_eq!(split(&"a".repeat(161), Alphabet::Gsm7, plain, 6).len(), 2);
        assert_eq!(split(&"ж".repeat(70), Alphabet::Ucs2, plain, 6).len(), 1);
        assert_eq!(split(&"ж".repeat(71), Alphabet::Ucs2, plain, 6).len(), 2);
    }

    #[test]
    fn no_character_is_cut() {
        let plain = Shifts::default();
        let euros = format!("{}€{}", "a".repeat(152), "b".repeat(20));
        let parts = split(&euros, Alphabet::Gsm7, plain, 6);
        assert_eq!((parts[0].len(), parts.concat()), (152, euros.clone()), "the escape goes with its septet");
        let faces = "😀".repeat(40);
        for part in split(&faces, Alphabet::Ucs2, plain, 6) {
            assert_eq!(part.encode_utf16().count() % 2, 0);
            assert!(part.encode_utf16().count() <= 67);
        }
        assert_eq!(split("", Alphabet::Gsm7, plain, 6), [""]);
    }

    #[test]
    fn the_alphabet_follows_the_text() {
        let plain = Shifts::default();
        assert_eq!(choose("Hello €", plain), Chosen { alphabet: Alphabet::Gsm7, units: 8 });
        assert_eq!(choose("Привет", plain), Chosen { alphabet: Alphabet::Ucs2, units: 6 });
        assert_eq!(choose("a😀", plain), Chosen { alphabet: Alphabet::Ucs2, units: 3 });
    }
}
