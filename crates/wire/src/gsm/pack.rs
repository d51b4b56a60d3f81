//! Packing eight septets into seven octets (TS 23.038 §6.1.2.1).

/// Packs septets behind a user data header of `header` octets (0 for none), so that the text starts on a septet boundary. When
/// seven bits are left over they hold CR, since zeros would be read as `@`.
#[must_use]
pub fn pack(septets: &[u8], header: usize) -> Vec<u8> {
    let fill = fill_bits(header);
    let bits = fill + septets.len() * 7;
    let mut out = vec![0; bits.div_ceil(8)];
    for (i, septet) in septets.iter().enumerate() {
        put(&mut out, fill + i * 7, *septet);
    }
    if out.len() * 8 - bits == 7 {
        put(&mut out, bits, b'\r');
    }
    out
}

fn put(out: &mut [u8], at: usize, septet: u8) {
    let wide = u16::from(septet & 0x7f) << (at % 8);
    out[at / 8] |= wide as u8;
    if let Some(next) = out.get_mut(at / 8 + 1) {
        *next |= (wide >> 8) as u8;
    }
}

/// The septets of packed octets behind a header of `header` octets. A CR in the last seven bits, where the
/// octets are full, is filling.
#[must_use]
pub fn unpack(octets: &[u8], header: usize) -> Vec<u8> {
    let fill = fill_bits(header);
    let count = (octets.len() * 8).saturating_sub(fill) / 7;
    let mut out: Vec<u8> = (0..count)
        .map(|i| {
            let at = fill + i * 7;
            let low = u16::from(octets[at / 8]);
            let high = u16::from(octets.get(at / 8 + 1).copied().unwrap_or(0));
            ((high << 8 | low) >> (at % 8)) as u8 & 0x7f
        })
        .collect();
    let full = (octets.len() * 8).saturating_sub(fill).is_multiple_of(7);
    if full && out.last() == Some(&b'\r') {
        out.pop();
    }
    out
}

fn fill_bits(header: usize) -> usize {
    (7 - header * 8 % 7) % 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_textbook_example() {
        assert_eq!(pack(b"hellohello", 0), [0xe8, 0x32, 0x9b, 0xfd, 0x46, 0x97, 0xd9, 0xec, 0x37]);
    }

    #[test]
    fn all_lengths_come_back_with_and_without_a_header() {
        for header in [0, 6, 7, 9, 12] {
            for len in 0..40 {
                let text: Vec<u8> = (0..len).map(|i| b'a' + i % 26).collect();
                assert_eq!(unpack(&pack(&text, header), header), text, "{header} {len}");
            }
        }
    }

    #[test]
    fn seven_bits_left_over_hold_cr() {
        assert_eq!(pack(b"1234567", 0).last().map(|b| b >> 1), Some(b'\r'));
        assert_eq!(unpack(&pack(b"1234567", 0), 0), b"1234567");
    }
}
