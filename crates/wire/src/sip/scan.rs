//! Small scanners shared by every header parser: white space, tokens, comma lists, quoting, folding, escapes
//! (RFC 3261 §7.3.1, §25.1).

use std::borrow::Cow;
use std::net::IpAddr;

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
    b.is_ascii_alphanumeric()
        || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

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

/// The first `needle`, expected within some bytes: eight at a time without the cost of a call.
#[inline]
#[must_use]
pub fn find_near(s: &[u8], needle: u8) -> Option<usize> {
    let pattern = LOW * u64::from(needle);
    let mut words = s.chunks_exact(8);
    let mut at = 0;
    for word in &mut words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        let differ = u64::from_le_bytes(bytes) ^ pattern;
        let zero = below(differ, 1);
        if zero != 0 {
            return Some(at + zero.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    words.remainder().iter().position(|b| *b == needle).map(|i| at + i)
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = LOW << 7;

/// A high bit is set when, and only when, some byte is below `limit` (at most 128).
#[inline]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(LOW * u64::from(limit)) & !word & HIGH
}

/// Whether a space or a control character is in there: eight bytes at a time.
#[inline]
#[must_use]
pub fn has_blank(s: &[u8]) -> bool {
    let (words, rest) = s.as_chunks::<8>();
    let found = words.iter().fold(0, |found, w| found | below(u64::from_le_bytes(*w), b' ' + 1));
    found != 0 || rest.iter().any(|b| *b <= b' ')
}

/// Finds line ends. SSE2 is part of x86-64, so there no time goes into asking what the processor can do.
#[derive(Clone, Copy)]
pub(crate) struct LineEnds {
    #[cfg(target_arch = "x86_64")]
    sse2: Option<memchr::arch::x86_64::sse2::memchr::One>,
}

impl LineEnds {
    #[inline]
    pub fn new() -> LineEnds {
        LineEnds {
            #[cfg(target_arch = "x86_64")]
            sse2: memchr::arch::x86_64::sse2::memchr::One::new(b'\n'),
        }
    }

    /// The first line end.
    #[inline]
    pub fn find(self, s: &[u8]) -> Option<usize> {
        #[cfg(target_arch = "x86_64")]
        if let Some(one) = self.sse2 {
            return one.find(s);
        }
        find_near(s, b'\n')
    }
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
