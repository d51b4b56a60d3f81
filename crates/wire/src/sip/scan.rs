//! Small scanners shared by every header parser: white space, tokens, comma lists, quoting, folding, escapes
//! (RFC 3261 §7.3.1, §25.1).

use std::borrow::Cow;
use std::net::IpAddr;
use wide::u8x16;

/// White space of a header value; line ends count, because inside a value they only occur folded.
#[inline]
#[must_use]
pub fn is_lws(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// A character of `token`.
#[inline]
#[must_use]
pub fn is_token(b: u8) -> bool {
    TOKEN[usize::from(b)]
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = (b as u8).is_ascii_alphanumeric()
            || matches!(b as u8, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        b += 1;
    }
    table
};

/// Removes white space at the start.
#[inline]
#[must_use]
pub fn trim_start(mut s: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = s {
        if !is_lws(*first) {
            break;
        }
        s = rest;
    }
    s
}

/// Removes white space at the end.
#[inline]
#[must_use]
pub fn trim_end(mut s: &[u8]) -> &[u8] {
    while let [rest @ .., last] = s {
        if !is_lws(*last) {
            break;
        }
        s = rest;
    }
    s
}

/// Removes white space at both ends.
#[inline]
#[must_use]
pub fn trim(s: &[u8]) -> &[u8] {
    trim_end(trim_start(s))
}

/// Reads a decimal number of the whole slice; `None` when empty, not digits only, or above `u32::MAX`.
#[must_use]
pub fn number(s: &[u8]) -> Option<u32> {
    if s.is_empty() || s.len() > 10 {
        // Leading zeros beyond ten digits are still a number.
        let rest = s.iter().position(|b| *b != b'0').map_or(&[][..], |at| &s[at..]);
        return if s.is_empty() || rest.len() > 10 {
            None
        } else if rest.is_empty() {
            Some(0)
        } else {
            number(rest)
        };
    }
    let mut n: u64 = 0;
    for b in s {
        if !b.is_ascii_digit() {
            return None;
        }
        n = n * 10 + u64::from(b - b'0');
    }
    u32::try_from(n).ok()
}

/// An address literal, IPv6 with or without brackets. Dotted quads, which nearly all are, are read without a detour.
#[must_use]
pub fn ip_literal(host: &[u8]) -> Option<IpAddr> {
    let mut octets = [0u8; 4];
    let mut at = 0;
    let mut digits = 0;
    let mut value = 0u32;
    for &b in host {
        match b {
            // A leading zero is left to the slow way, which refuses it.
            b'0'..=b'9' if digits == 0 || value != 0 => {
                value = value * 10 + u32::from(b - b'0');
                digits += 1;
                if value > 255 {
                    return other_ip_literal(host);
                }
            }
            b'.' if digits > 0 && at < 3 => {
                octets[at] = value as u8;
                (at, digits, value) = (at + 1, 0, 0);
            }
            _ => return other_ip_literal(host),
        }
    }
    if at < 3 || digits == 0 {
        return other_ip_literal(host);
    }
    octets[3] = value as u8;
    Some(IpAddr::from(octets))
}

#[inline(never)]
fn other_ip_literal(host: &[u8]) -> Option<IpAddr> {
    if !host.contains(&b':') {
        // Names come here; an address of version 4 would have been read.
        return None;
    }
    let text = std::str::from_utf8(host).ok()?;
    text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text).parse().ok()
}

/// The first `needle`, expected within some bytes: sixteen at a time without the cost of a call.
#[inline]
#[must_use]
pub fn find_near(s: &[u8], needle: u8) -> Option<usize> {
    let mut at = 0;
    while let Some(block) = s[at..].first_chunk() {
        let marks = marks(block, needle);
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize);
        }
        at += 16;
    }
    let pattern = LOW * u64::from(needle);
    if let Some(word) = s[at..].first_chunk() {
        let zero = below(u64::from_le_bytes(*word) ^ pattern, 1);
        if zero != 0 {
            return Some(at + zero.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    s[at..].iter().position(|b| *b == needle).map(|i| at + i)
}

/// A bit for each byte that is `needle`, the first byte's the lowest.
#[inline]
pub(crate) fn marks(block: &[u8; 16], needle: u8) -> u32 {
    u8x16::new(*block).simd_eq(u8x16::splat(needle)).to_bitmask()
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = LOW << 7;

/// A high bit is set when, and only when, some byte is below `limit` (at most 128).
#[inline]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(LOW * u64::from(limit)) & !word & HIGH
}

/// The first of two bytes, expected within some: see [`find_near`].
#[inline]
#[must_use]
pub fn find_near2(s: &[u8], one: u8, other: u8) -> Option<usize> {
    let mut at = 0;
    while let Some(block) = s[at..].first_chunk() {
        let marks = marks(block, one) | marks(block, other);
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize);
        }
        at += 16;
    }
    s[at..].iter().position(|b| *b == one || *b == other).map(|i| at + i)
}

/// How many bytes at the start are characters of a host name or IPv4 address; the underscore is met in the field.
#[inline]
#[must_use]
pub fn host_len(s: &[u8]) -> usize {
    let mut at = 0;
    while let Some(block) = s[at..].first_chunk::<16>() {
        let block = u8x16::new(*block);
        let up_to = |from: u8, count: u8| {
            let offset = block - u8x16::splat(from);
            offset.min(u8x16::splat(count)).simd_eq(offset)
        };
        let letter = (block | u8x16::splat(0x20)) - u8x16::splat(b'a');
        let letter = letter.min(u8x16::splat(25)).simd_eq(letter);
        // From the hyphen to 9 there is only the slash that does not belong.
        let other = up_to(b'-', b'9' - b'-') & !block.simd_eq(u8x16::splat(b'/'));
        let host = (letter | other | block.simd_eq(u8x16::splat(b'_'))).to_bitmask();
        if host != 0xffff {
            return at + host.trailing_ones() as usize;
        }
        at += 16;
    }
    at + s[at..].iter().position(|b| !HOST[usize::from(*b)]).unwrap_or(s.len() - at)
}

/// Which bytes are characters of a host name.
static HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = (b as u8).is_ascii_alphanumeric() || matches!(b as u8, b'.' | b'-' | b'_');
        b += 1;
    }
    table
};

/// Whether a space or a control character is in there.
#[inline]
#[must_use]
pub fn has_blank(s: &[u8]) -> bool {
    let blank = u8x16::splat(b' ');
    let mut rest = s;
    while let Some((block, after)) = rest.split_first_chunk() {
        if u8x16::new(*block).min(blank).simd_eq(u8x16::new(*block)).to_bitmask() != 0 {
            return true;
        }
        rest = after;
    }
    if let Some((word, after)) = rest.split_first_chunk() {
        if below(u64::from_le_bytes(*word), b' ' + 1) != 0 {
            return true;
        }
        rest = after;
    }
    rest.iter().any(|b| *b <= b' ')
}

/// Steps from line end to line end of one text, which is looked at 64 bytes at a time.
pub(crate) struct LineEnds {
    /// Line ends that were found and not told yet: a bit for each byte from `base`.
    found: u64,
    base: usize,
    /// Where the bytes begin that were not looked at.
    rest: usize,
}

impl LineEnds {
    #[inline]
    pub fn new() -> LineEnds {
        LineEnds { found: 0, base: 0, rest: 0 }
    }

    /// The next line end; `text` is the same every time.
    #[inline]
    pub fn next(&mut self, text: &[u8]) -> Option<usize> {
        while self.found == 0 {
            let rest = text.get(self.rest..)?;
            self.found = match rest.first_chunk() {
                Some(block) => line_ends(block),
                None if rest.is_empty() => return None,
                None => {
                    let mut block = [0; 64];
                    block[..rest.len()].copy_from_slice(rest);
                    line_ends(&block)
                }
            };
            (self.base, self.rest) = (self.rest, self.rest + 64);
        }
        let at = self.base + self.found.trailing_zeros() as usize;
        self.found &= self.found - 1;
        Some(at)
    }
}

#[inline]
fn line_ends(block: &[u8; 64]) -> u64 {
    let (parts, _) = block.as_chunks();
    parts.iter().rev().fold(0, |found, part| found << 16 | u64::from(marks(part, b'\n')))
}

/// The offset just behind the quoted string that starts at `at` (which holds the opening quote).
#[must_use]
pub fn quoted_end(s: &[u8], at: usize) -> Option<usize> {
    // Most have no escape.
    let inner = s.get(at + 1..)?;
    let close = find_near(inner, b'"')?;
    if find_near(&inner[..close], b'\\').is_none() {
        return Some(at + close + 2);
    }
    let mut i = at + 1;
    while let Some(b) = s.get(i) {
        match b {
            b'"' => return Some(i + 1),
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
    None
}

/// The offset just behind the comment that starts at `at` (which holds the opening parenthesis); comments nest.
#[must_use]
pub fn comment_end(s: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut i = at;
    while let Some(b) = s.get(i) {
        match b {
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            b'\\' => i += 1,
            _ => {}
        }
        i += 1;
    }
    None
}

/// The first of `stops` outside quoted strings, angle brackets and comments. An unclosed quote or bracket reaches to the
/// end; an unclosed parenthesis is an ordinary character.
#[must_use]
pub fn find_outside(s: &[u8], stops: &[u8]) -> Option<usize> {
    find(s, stops, &mut true)
}

/// `comments` becomes false at the first parenthesis that is not closed; from then on parentheses are ordinary
/// characters, so that many of them do not each cost a look to the end.
fn find(s: &[u8], stops: &[u8], comments: &mut bool) -> Option<usize> {
    let mut i = 0;
    while let Some(&b) = s.get(i) {
        if stops.contains(&b) {
            return Some(i);
        }
        i = match b {
            b'"' => quoted_end(s, i)?,
            b'<' => i + memchr::memchr(b'>', &s[i..])? + 1,
            b'(' if *comments => comment_end(s, i).unwrap_or_else(|| {
                *comments = false;
                i + 1
            }),
            _ => i + 1,
        };
    }
    None
}

/// The values of a comma list, trimmed; quotes, angle brackets and comments hide commas. Empty values are skipped.
#[derive(Clone, Debug)]
pub struct Commas<'a> {
    rest: Option<&'a [u8]>,
    comments: bool,
}

/// Splits a comma list. See [`Commas`].
#[must_use]
pub fn commas(value: &[u8]) -> Commas<'_> {
    Commas { rest: Some(value), comments: true }
}

/// Most values hold no comma, or none behind quotes, brackets or comments.
fn find_comma(s: &[u8], comments: &mut bool) -> Option<usize> {
    let comma = memchr::memchr(b',', s)?;
    match memchr::memchr3(b'"', b'<', b'(', &s[..comma]) {
        None => Some(comma),
        Some(_) => find(s, b",", comments),
    }
}

impl<'a> Iterator for Commas<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let s = self.rest.take()?;
            let item = match find_comma(s, &mut self.comments) {
                Some(at) => {
                    self.rest = Some(&s[at + 1..]);
                    &s[..at]
                }
                None => s,
            };
            let item = trim(item);
            if !item.is_empty() {
                return Some(item);
            }
        }
    }
}

/// A header value on one line: every fold (line end and the white space around it) becomes one space.
#[must_use]
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut out: Vec<u8> = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        out.extend_from_slice(trim_end(&rest[..at]));
        out.push(b' ');
        rest = trim_start(&rest[at..]);
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// The content of a quoted string, backslash escapes resolved; a value without quotes is returned as it is.
#[must_use]
pub fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = value else { return Cow::Borrowed(value) };
    if memchr::memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&b) = bytes.next() {
        out.push(if b == b'\\' { bytes.next().copied().unwrap_or(b) } else { b });
    }
    Cow::Owned(out)
}

/// Percent escapes resolved; a broken escape stays as it is.
#[must_use]
pub fn percent_decode(s: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', s).is_none() {
        return Cow::Borrowed(s);
    }
    let mut out = Vec::with_capacity(s.len());
    let mut i = 0;
    while i < s.len() {
        match escape_at(s, i) {
            Some(b) => {
                out.push(b);
                i += 3;
            }
            None => {
                out.push(s[i]);
                i += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// Appends `s` with every byte outside the `user` grammar (unreserved and `&=+$,;?/`) percent-escaped.
pub fn percent_encode_user(s: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in s {
        if b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&b) {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

/// The byte a percent escape at `at` stands for.
pub(crate) fn escape_at(s: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = s.get(at..at + 3)? else { return None };
    Some(hex_digit(*high)? << 4 | hex_digit(*low)?)
}

fn hex_digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_inside_quotes_brackets_and_comments_do_not_split() {
        let got: Vec<&[u8]> = commas(b"\"a, b\" <sip:x,y@h>;p=1 , c (1, (2), 3), ,d").collect();
        assert_eq!(got, [&b"\"a, b\" <sip:x,y@h>;p=1"[..], b"c (1, (2), 3)", b"d"]);
    }

    #[test]
    fn address_literals_are_those_of_the_standard_library() {
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "256.1.1.1",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1..2.3",
            "1.2.3.",
            ".1.2.3",
            "",
            "1.2.3.4:5",
            "::1",
            "2001:db8::9:1",
            "::ffff:1.2.3.4",
            "example.com",
            "1.2.3.a",
            "00.0.0.0",
            "1234.1.1.1",
        ] {
            assert_eq!(ip_literal(text.as_bytes()), text.parse().ok(), "{text}");
        }
        assert_eq!(ip_literal(b"[::1]"), "::1".parse().ok());
        assert_eq!(ip_literal(b"[::1"), None);
    }

    #[test]
    fn unclosed_quote_hides_the_rest() {
        assert_eq!(commas(b"\"a, b").count(), 1);
        assert_eq!(commas(b"\"a\\").count(), 1);
    }

    #[test]
    fn find_near_finds_the_first_at_every_offset() {
        for len in 0..40 {
            for at in 0..len {
                let mut text = vec![b';'; len];
                text[at] = b':';
                text[len - 1] = b':';
                assert_eq!(find_near(&text, b':'), Some(at));
            }
            assert_eq!(find_near(&vec![0xba; len], b':'), None);
        }
    }

    #[test]
    fn either_of_two_bytes_is_found_at_every_offset() {
        for len in 0..40 {
            for at in 0..len {
                for b in [b';', b'='] {
                    let mut text = vec![b'a'; len];
                    text[len - 1] = b';';
                    text[at] = b;
                    assert_eq!(find_near2(&text, b'=', b';'), Some(at));
                }
            }
            assert_eq!(find_near2(&vec![b'<'; len], b'=', b';'), None);
        }
    }

    #[test]
    fn a_host_ends_at_the_first_byte_that_does_not_belong_to_one() {
        for b in 0..=255u8 {
            for at in 0..40 {
                let mut text = [b'a'; 40];
                text[at] = b;
                let belongs = b.is_ascii_alphanumeric() || b".-_".contains(&b);
                assert_eq!(host_len(&text), if belongs { 40 } else { at }, "{b} at {at}");
            }
        }
    }

    #[test]
    fn every_line_end_is_told_once_and_in_order() {
        for len in 0..200 {
            for step in [1, 2, 3, 7, 63, 64, 65] {
                let text: Vec<u8> = (0..len).map(|i| if i % step == 0 { b'\n' } else { b'\r' }).collect();
                let mut ends = LineEnds::new();
                let told: Vec<usize> = std::iter::from_fn(|| ends.next(&text)).collect();
                assert_eq!(told, (0..len).step_by(step).collect::<Vec<_>>(), "{len} {step}");
                assert_eq!(ends.next(&text), None);
            }
        }
    }

    #[test]
    fn blanks_are_found_at_every_place() {
        for b in 0..=255u8 {
            for at in 0..20 {
                let mut text = [b'a'; 20];
                text[at] = b;
                assert_eq!(has_blank(&text), b <= b' ', "{b} at {at}");
            }
        }
    }

    #[test]
    fn folds_become_one_space() {
        assert_eq!(&*unfold(b"a\r\n  b \r\n\tc"), b"a b c");
    }

    #[test]
    fn escapes_are_resolved_and_broken_ones_kept() {
        assert_eq!(&*percent_decode(b"a%40b%zz%4"), b"a@b%zz%4");
        assert_eq!(&*unquote(br#""a\"b\\""#), br#"a"b\"#);
    }

    #[test]
    fn numbers_reject_signs_letters_and_overflow() {
        assert_eq!(number(b"0042"), Some(42));
        assert_eq!(number(b"00000000000000000007"), Some(7));
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        for bad in [&b""[..], b"-1", b"4294967296", b"12a", b"99999999999"] {
            assert_eq!(number(bad), None);
        }
    }
}
