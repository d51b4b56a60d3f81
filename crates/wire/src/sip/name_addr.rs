//! Addresses: `name-addr` and `addr-spec` with header parameters (RFC 3261 §20, §25.1), as in From, To, Contact,
//! Route, Record-Route, Path.

use super::params::Params;
use super::scan::{self, Commas, trim, trim_end, trim_start};
use super::span::{OptSpan, Span};
use super::uri::{Uri, UriError};
use std::borrow::Cow;

/// One address value.
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'a> {
    /// The whole value.
    pub raw: &'a [u8],
    /// Display name as received, quotes included; empty when there is none.
    pub display: &'a [u8],
    /// The URI without angle brackets; `*` for the Contact that stands for all.
    pub uri: &'a [u8],
    /// Whether the URI stands in angle brackets.
    pub bracketed: bool,
    params: &'a [u8],
    tag: Option<&'a [u8]>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value (no comma list); the error says what is wrong.
    pub fn parse(raw: &'a [u8]) -> Result<NameAddr<'a>, &'static str> {
        let raw = trim(raw);
        let (display, uri, bracketed, params) = match find_bracket(raw)? {
            Some(open) => {
                let len = scan::find_near(&raw[open..], b'>').ok_or("'<' without '>'")?;
                (
                    trim_end(&raw[..open]),
                    trim(&raw[open + 1..open + len]),
                    true,
                    trim_start(&raw[open + len + 1..]),
                )
            }
            None => {
                // Without brackets every ';' belongs to the header, not to the URI.
                let end = scan::find_near(raw, b';').unwrap_or(raw.len());
                let uri = trim_end(&raw[..end]);
                if uri.contains(&b'?') {
                    return Err("a URI with '?' must stand in angle brackets");
                }
                (&raw[..0], uri, false, &raw[end..])
            }
        };
        if uri.is_empty() {
            return Err("no URI");
        }
        if scan::has_blank(uri) && uri.iter().any(|b| scan::is_lws(*b)) {
            return Err("white space inside the URI");
        }
        if !matches!(params.first(), None | Some(b';')) {
            return Err("unexpected text after the URI");
        }
        let tag = Params::new(params).value("tag").filter(|t| !t.is_empty());
        Ok(NameAddr { raw, display, uri, bracketed, params, tag })
    }

    /// The parameters of the header (after the URI).
    #[must_use]
    pub fn params(&self) -> Params<'a> {
        Params::new(self.params)
    }

    /// The value of parameter `name`; empty when it has none.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params().value(name)
    }

    /// The tag of From or To.
    #[must_use]
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.tag
    }

    /// The parts of the URI.
    pub fn parse_uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }

    /// The display name without quotes and escapes.
    #[must_use]
    pub fn display_unquoted(&self) -> Cow<'a, [u8]> {
        scan::unquote(self.display)
    }

    /// Whether this is `Contact: *`.
    #[must_use]
    pub fn is_star(&self) -> bool {
        self.uri == b"*"
    }

    /// `q` in thousandths, 1000 at most; `None` when absent or malformed (RFC 3261 §20.10).
    #[must_use]
    pub fn q(&self) -> Option<u16> {
        let text = self.param("q")?;
        let (whole, fraction) = match memchr::memchr(b'.', text) {
            Some(dot) => (&text[..dot], &text[dot + 1..]),
            None => (text, &text[..0]),
        };
        let mut thousandths = match whole {
            b"0" | b"" => 0u16,
            b"1" => 1000,
            _ => return None,
        };
        if fraction.len() > 3 || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let mut weight = 100;
        for b in fraction {
            if !b.is_ascii_digit() {
                return None;
            }
            thousandths += u16::from(b - b'0') * weight;
            weight /= 10;
        }
        (thousandths <= 1000).then_some(thousandths)
    }

    /// `expires`, when present and a number.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        scan::number(self.param("expires")?)
    }
}

/// The opening angle bracket, behind a display name if there is one.
fn find_bracket(s: &[u8]) -> Result<Option<usize>, &'static str> {
    let mut i = 0;
    if s.first() == Some(&b'"') {
        i = scan::quoted_end(s, 0).ok_or("unclosed quote in the display name")?;
        let rest = trim_start(&s[i..]);
        if rest.first() != Some(&b'<') {
            return Err("no '<' after the display name");
        }
    }
    if s.get(i) == Some(&b'<') {
        return Ok(Some(i));
    }
    match s[i..].iter().position(|b| matches!(b, b'<' | b';' | b'"')) {
        Some(at) if s[i + at] == b'<' => Ok(Some(i + at)),
        _ => Ok(None),
    }
}

/// The addresses of one or more comma lists.
#[derive(Clone, Debug)]
pub struct NameAddrs<'a, I> {
    values: I,
    current: Option<Commas<'a>>,
}

impl<'a, I: Iterator<Item = &'a [u8]>> NameAddrs<'a, I> {
    /// Reads all addresses of the given header values.
    pub fn new(values: I) -> Self {
        NameAddrs { values, current: None }
    }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Iterator for NameAddrs<'a, I> {
    type Item = Result<NameAddr<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(value) = self.current.as_mut().and_then(Iterator::next) {
                return Some(NameAddr::parse(value));
            }
            self.current = Some(scan::commas(self.values.next()?));
        }
    }
}

/// A parsed address as positions, to be kept beside its buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameAddrSpans {
    raw: Span,
    display: OptSpan,
    uri: Span,
    bracketed: bool,
    params: OptSpan,
    tag: OptSpan,
}

impl NameAddrSpans {
    #[inline]
    pub fn of(base: &[u8], addr: &NameAddr<'_>) -> NameAddrSpans {
        NameAddrSpans {
            raw: Span::of(base, addr.raw),
            display: OptSpan::of(base, Some(addr.display).filter(|d| !d.is_empty())),
            uri: Span::of(base, addr.uri),
            bracketed: addr.bracketed,
            params: OptSpan::of(base, Some(addr.params).filter(|p| !p.is_empty())),
            tag: OptSpan::of(base, addr.tag),
        }
    }

    #[inline]
    pub fn view<'a>(&self, base: &'a [u8]) -> NameAddr<'a> {
        NameAddr {
            raw: self.raw.get(base),
            display: self.display.get(base).unwrap_or(&[]),
            uri: self.uri.get(base),
            bracketed: self.bracketed,
            params: self.params.get(base).unwrap_or(&[]),
            tag: self.tag.get(base),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_addr_and_addr_spec_forms() {
        let a = NameAddr::parse(br#""J \"R\" <x>" <sip:j@h;lr?a=b> ; tag=abc;expires=60"#).unwrap();
        assert_eq!(&*a.display_unquoted(), br#"J "R" <x>"#);
        assert_eq!((a.uri, a.tag(), a.expires()), (&b"sip:j@h;lr?a=b"[..], Some(&b"abc"[..]), Some(60)));
        let a = NameAddr::parse(b"Bob Smith <sip:b@h>").unwrap();
        assert_eq!((a.display, a.uri, a.tag()), (&b"Bob Smith"[..], &b"sip:b@h"[..], None));
        let a = NameAddr::parse(b"sip:c@h;tag=1").unwrap();
        assert_eq!((a.uri, a.tag(), a.bracketed), (&b"sip:c@h"[..], Some(&b"1"[..]), false));
        assert!(NameAddr::parse(b"*").unwrap().is_star());
        let a = NameAddr::parse(b"sip:c@h;x=\"<\"").unwrap();
        assert_eq!(a.uri, b"sip:c@h");
    }

    #[test]
    fn broken_addresses_are_refused() {
        for bad in [
            &b""[..],
            b"\"Mr. X <sip:x@h>",
            b"\"X\" sip:x@h",
            b"X <sip:x@h",
            b"<>",
            b"<sip:x@h> y",
            b"sip:x@h?a=b",
            b"Bob sip:x@h",
        ] {
            assert!(NameAddr::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn q_is_read_in_thousandths() {
        let q = |s: &str| NameAddr::parse(format!("<sip:a@h>;q={s}").as_bytes()).unwrap().q();
        assert_eq!(
            [q("1"), q("0.5"), q("0.123"), q("1.000"), q(".7")].map(Option::unwrap),
            [1000, 500, 123, 1000, 700]
        );
        assert_eq!([q("2"), q("0.1234"), q("-1"), q("1.5"), q("")], [None; 5]);
    }
}
