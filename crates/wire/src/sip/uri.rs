//! URIs: sip, sips (RFC 3261 §19.1), tel (RFC 3966) and any other scheme as opaque text.
//!
//! Slices of the received bytes, nothing decoded; comparison follows RFC 3261 §19.1.4.

use super::params::{Param, Params};
use super::scan;
use super::span::{OptSpan, Span};
use bytes::Bytes;

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Another scheme; the URI's parts after it are not read.
    Other,
}

/// Why a URI cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// No scheme and colon.
    #[error("no scheme")]
    Scheme,
    /// White space, angle brackets or control characters.
    #[error("a character that may not stand in a URI")]
    Character,
    /// No host, or not a host name, IPv4 or bracketed IPv6 address.
    #[error("no valid host")]
    Host,
    /// The port is not a number of 16 bits.
    #[error("no valid port")]
    Port,
    /// A tel URI without digits.
    #[error("no telephone number")]
    Number,
}

/// A URI read from a message.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'a> {
    /// The whole URI.
    pub raw: &'a [u8],
    /// Which scheme it is.
    pub scheme: Scheme,
    /// The scheme as received.
    pub scheme_name: &'a [u8],
    /// User part, escapes unresolved; the number of a tel URI.
    pub user: Option<&'a [u8]>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Host; an IPv6 address keeps its brackets. For tel empty, for other schemes all after the colon.
    pub host: &'a [u8],
    /// Port, if given.
    pub port: Option<u16>,
    /// Parameters after the host (with the leading `;`).
    params: &'a [u8],
    /// Headers after `?`.
    pub headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    /// Reads a URI that is the whole of `raw`.
    pub fn parse(raw: &'a [u8]) -> Result<Uri<'a>, UriError> {
        let (scheme, colon) = read_scheme(raw)?;
        let (scheme_name, rest) = (&raw[..colon], &raw[colon + 1..]);
        let mut uri = Uri {
            raw,
            scheme,
            scheme_name,
            user: None,
            password: None,
            host: rest,
            port: None,
            params: &[],
            headers: None,
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => uri.read_sip(rest)?,
            Scheme::Tel => uri.read_tel(rest)?,
            Scheme::Other if has_forbidden(rest) => return Err(UriError::Character),
            Scheme::Other => {}
        }
        Ok(uri)
    }

    fn read_sip(&mut self, rest: &'a [u8]) -> Result<(), UriError> {
        let mut hostport = rest;
        if let Some(at) = scan::find_near(rest, b'@') {
            let userinfo = &rest[..at];
            hostport = &rest[at + 1..];
            if has_forbidden(userinfo) {
                return Err(UriError::Character);
            }
            match scan::find_near(userinfo, b':') {
                Some(colon) => {
                    self.user = Some(&userinfo[..colon]);
                    self.password = Some(&userinfo[colon + 1..]);
                }
                None => self.user = Some(userinfo),
            }
        }
        let host_error = || if has_forbidden(rest) { UriError::Character } else { UriError::Host };
        let (host, port, tail) = split_host_port(hostport).ok_or_else(host_error)?;
        self.host = host;
        self.port = match port {
            Some(digits) => Some(read_port(digits).ok_or(UriError::Port)?),
            None => None,
        };
        match tail.first() {
            None => {}
            Some(b';' | b'?') if has_forbidden(tail) => return Err(UriError::Character),
            Some(b';' | b'?') => match scan::find_near(tail, b'?') {
                Some(q) => {
                    self.params = &tail[..q];
                    self.headers = Some(&tail[q + 1..]);
                }
                None => self.params = tail,
            },
            Some(_) => return Err(host_error()),
        }
        Ok(())
    }

    fn read_tel(&mut self, rest: &'a [u8]) -> Result<(), UriError> {
        if has_forbidden(rest) {
            return Err(UriError::Character);
        }
        let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
        let number = &rest[..end];
        if !number.iter().any(u8::is_ascii_hexdigit) && !number.contains(&b'*') && !number.contains(&b'#') {
            return Err(UriError::Number);
        }
        self.user = Some(number);
        self.params = &rest[end..];
        self.host = &[];
        Ok(())
    }

    /// The parameters after the host or number.
    #[must_use]
    pub fn params(&self) -> Params<'a> {
        Params::new(self.params)
    }

    /// The value of parameter `name`; empty when it has none.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params().value(name)
    }

    /// `transport=`
    #[must_use]
    pub fn transport(&self) -> Option<&'a [u8]> {
        self.param("transport")
    }

    /// Whether `;lr` is there (RFC 3261 §19.1.1).
    #[must_use]
    pub fn is_loose(&self) -> bool {
        self.params().get("lr").is_some()
    }

    /// The host without the brackets of an IPv6 address.
    #[must_use]
    pub fn host_bare(&self) -> &'a [u8] {
        bare_host(self.host)
    }
}

/// The scheme, and where its colon is.
#[inline]
fn read_scheme(raw: &[u8]) -> Result<(Scheme, usize), UriError> {
    if let [s, i, p, b':', ..] = raw
        && [s | 0x20, i | 0x20, p | 0x20] == *b"sip"
    {
        return Ok((Scheme::Sip, 3));
    }
    let colon = scan::find_near(raw, b':').ok_or(UriError::Scheme)?;
    let name = &raw[..colon];
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"sips") => Ok((Scheme::Sips, colon)),
        3 if name.eq_ignore_ascii_case(b"tel") => Ok((Scheme::Tel, colon)),
        _ if is_scheme(name) => Ok((Scheme::Other, colon)),
        _ => Err(UriError::Scheme),
    }
}

/// Whether a character is in there that may stand nowhere in a URI.
#[inline]
fn has_forbidden(part: &[u8]) -> bool {
    // Without an early exit, so that it is done many bytes at a time.
    part.iter().fold(false, |bad, &b| bad | (b <= b' ') | (b == 0x7f) | (b == b'<') | (b == b'>'))
}

fn is_scheme(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// A URI that owns its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriBuf(Bytes);

impl UriBuf {
    /// Checks and keeps `text`.
    pub fn parse(text: Bytes) -> Result<UriBuf, UriError> {
        Uri::parse(&text)?;
        Ok(UriBuf(text))
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The parts.
    pub fn uri(&self) -> Result<Uri<'_>, UriError> {
        Uri::parse(&self.0)
    }
}

/// Whether two URIs are equivalent: RFC 3261 §19.1.4 for sip and sips, RFC 3966 §4 for tel (visual separators and
/// case do not count), bytes after the scheme for others.
#[must_use]
pub fn uri_eq(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    // Also for URIs that name a parameter twice, where comparing part by part would not say so.
    if a.raw == b.raw {
        return true;
    }
    if a.scheme != b.scheme || too_many_parts(a) || too_many_parts(b) {
        return false;
    }
    match a.scheme {
        Scheme::Other => a.scheme_name.eq_ignore_ascii_case(b.scheme_name) && a.host == b.host,
        Scheme::Tel => {
            let (x, y) = (a.user.unwrap_or(&[]), b.user.unwrap_or(&[]));
            digits(x).eq(digits(y))
                && tel_params_covered(a.params(), b.params())
                && tel_params_covered(b.params(), a.params())
        }
        Scheme::Sip | Scheme::Sips => {
            opt_escaped_eq(a.user, b.user)
                && opt_escaped_eq(a.password, b.password)
                && a.host.eq_ignore_ascii_case(b.host)
                && a.port == b.port
                && sip_params_eq(a.params(), b.params())
                && headers_eq(a.headers.unwrap_or(&[]), b.headers.unwrap_or(&[]))
        }
    }
}

/// More parameters or headers than this are compared as text: finding each of one URI in the other costs their product.
const MAX_COMPARED: usize = 64;

fn too_many_parts(uri: &Uri<'_>) -> bool {
    let headers = uri.headers.map_or(0, |h| memchr::memchr_iter(b'&', h).count());
    memchr::memchr_iter(b';', uri.params).count() > MAX_COMPARED || headers > MAX_COMPARED
}

/// Parameters that never match when only one of the URIs has them. `transport` is here because of its default.
const STRICT_PARAMS: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

fn sip_params_eq(a: Params<'_>, b: Params<'_>) -> bool {
    let one_way = |from: Params<'_>, to: Params<'_>| {
        from.clone().all(|p| match find(to, p.name) {
            Some(other) => escaped_eq(p.value.unwrap_or(&[]), other.value.unwrap_or(&[]), true),
            None => !STRICT_PARAMS.iter().any(|s| p.is(s)),
        })
    };
    one_way(a, b) && one_way(b, a)
}

fn tel_params_covered(a: Params<'_>, b: Params<'_>) -> bool {
    a.clone().all(|p| {
        find(b, p.name).is_some_and(|o| match (p.value, o.value) {
            (Some(x), Some(y)) => x.eq_ignore_ascii_case(y) || digits(x).eq(digits(y)),
            (x, y) => x == y,
        })
    })
}

fn find<'a>(mut params: Params<'a>, name: &[u8]) -> Option<Param<'a>> {
    params.find(|p| p.name.eq_ignore_ascii_case(name))
}

/// Headers `a=1&b=2` compare without order, names without case.
fn headers_eq(a: &[u8], b: &[u8]) -> bool {
    fn fields(s: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        s.split(|b| *b == b'&').filter(|f| !f.is_empty()).map(|f| match memchr::memchr(b'=', f) {
            Some(at) => (&f[..at], &f[at + 1..]),
            None => (f, &[][..]),
        })
    }
    let covered = |a, b| {
        fields(a).all(|(n, v)| fields(b).any(|(m, w)| n.eq_ignore_ascii_case(m) && escaped_eq(v, w, false)))
    };
    fields(a).count() == fields(b).count() && covered(a, b) && covered(b, a)
}

fn opt_escaped_eq(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => escaped_eq(a, b, false),
        (a, b) => a == b,
    }
}

/// Compares with percent escapes resolved; an escaped reserved character differs from the plain one.
fn escaped_eq(a: &[u8], b: &[u8], ignore_case: bool) -> bool {
    a == b || Unescape { s: a, at: 0, ignore_case }.eq(Unescape { s: b, at: 0, ignore_case })
}

struct Unescape<'a> {
    s: &'a [u8],
    at: usize,
    ignore_case: bool,
}

impl Iterator for Unescape<'_> {
    /// The byte, with bit 8 set for an escaped reserved character.
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let fold = |b: u8| if self.ignore_case { b.to_ascii_lowercase() } else { b };
        let plain = *self.s.get(self.at)?;
        match scan::escape_at(self.s, self.at) {
            Some(b) => {
                self.at += 3;
                let reserved = b";/?:@&=+$,".contains(&b);
                Some(u16::from(fold(b)) | u16::from(reserved) << 8)
            }
            None => {
                self.at += 1;
                Some(u16::from(fold(plain)))
            }
        }
    }
}

fn digits(number: &[u8]) -> impl Iterator<Item = u8> {
    number.iter().filter(|b| !matches!(b, b'-' | b'.' | b'(' | b')')).map(u8::to_ascii_lowercase)
}

/// Splits `host[:port]` off the front; what follows is the third part. `None` when there is no valid host.
pub(crate) fn split_host_port(s: &[u8]) -> Option<(&[u8], Option<&[u8]>, &[u8])> {
    let host_len = if s.first() == Some(&b'[') {
        let end = memchr::memchr(b']', s)?;
        let inner = &s[1..end];
        if inner.is_empty() || !inner.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'%'))
        {
            return None;
        }
        end + 1
    } else {
        let len = scan::host_len(s);
        if len == 0 {
            return None;
        }
        len
    };
    let (host, rest) = s.split_at(host_len);
    match rest.first() {
        Some(b':') => {
            let digits = rest[1..].iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len() - 1);
            Some((host, Some(&rest[1..=digits]), &rest[1 + digits..]))
        }
        _ => Some((host, None, rest)),
    }
}

pub(crate) fn read_port(digits: &[u8]) -> Option<u16> {
    scan::number(digits).and_then(|n| u16::try_from(n).ok())
}

pub(crate) fn bare_host(host: &[u8]) -> &[u8] {
    match host {
        [b'[', inner @ .., b']'] => inner,
        _ => host,
    }
}

/// A parsed URI as positions, to be kept beside its buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UriSpans {
    raw: Span,
    scheme: Scheme,
    scheme_name: Span,
    user: OptSpan,
    password: OptSpan,
    host: Span,
    port: Option<u16>,
    params: OptSpan,
    headers: OptSpan,
}

impl UriSpans {
    #[inline]
    pub fn of(base: &[u8], uri: &Uri<'_>) -> UriSpans {
        let some = |s: &[u8]| !s.is_empty();
        UriSpans {
            raw: Span::of(base, uri.raw),
            scheme: uri.scheme,
            scheme_name: Span::of(base, uri.scheme_name),
            user: OptSpan::of(base, uri.user),
            password: OptSpan::of(base, uri.password),
            host: if some(uri.host) { Span::of(base, uri.host) } else { Span::default() },
            port: uri.port,
            params: OptSpan::of(base, Some(uri.params).filter(|p| some(p))),
            headers: OptSpan::of(base, uri.headers),
        }
    }

    #[inline]
    pub fn view<'a>(&self, base: &'a [u8]) -> Uri<'a> {
        Uri {
            raw: self.raw.get(base),
            scheme: self.scheme,
            scheme_name: self.scheme_name.get(base),
            user: self.user.get(base),
            password: self.password.get(base),
            host: self.host.get(base),
            port: self.port,
            params: self.params.get(base).unwrap_or(&[]),
            headers: self.headers.get(base),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(s: &str) -> Uri<'_> {
        Uri::parse(s.as_bytes()).unwrap()
    }

    #[test]
    fn all_parts_of_a_sip_uri() {
        let u = uri("sips:al%20ice;x=1:pw@[2001:db8::1]:5071;transport=tcp;lr?Subject=a&b=c");
        assert_eq!(u.scheme, Scheme::Sips);
        assert_eq!(u.user, Some(&b"al%20ice;x=1"[..]));
        assert_eq!(u.password, Some(&b"pw"[..]));
        assert_eq!((u.host, u.host_bare()), (&b"[2001:db8::1]"[..], &b"2001:db8::1"[..]));
        assert_eq!(u.port, Some(5071));
        assert_eq!(u.transport(), Some(&b"tcp"[..]));
        assert!(u.is_loose());
        assert_eq!(u.headers, Some(&b"Subject=a&b=c"[..]));
    }

    #[test]
    fn tel_and_unknown_schemes_are_kept() {
        let u = uri("tel:+1-201-555-0123;phone-context=example.com");
        assert_eq!((u.scheme, u.user), (Scheme::Tel, Some(&b"+1-201-555-0123"[..])));
        assert_eq!(u.param("phone-context"), Some(&b"example.com"[..]));
        let u = uri("nobodyKnowsThisScheme:totally/opaque");
        assert_eq!((u.scheme, u.host), (Scheme::Other, &b"totally/opaque"[..]));
    }

    #[test]
    fn broken_uris_are_refused_with_the_reason() {
        for (text, error) in [
            ("alice", UriError::Scheme),
            ("<sip:a@h>", UriError::Scheme),
            ("sip:", UriError::Host),
            ("sip:a@", UriError::Host),
            ("sip:a@ho st", UriError::Character),
            ("sip:a@h:99999", UriError::Port),
            ("sip:a@h:", UriError::Port),
            ("sip:a@h:5060x", UriError::Host),
            ("sip:a@[::1", UriError::Host),
            ("sip:a@h,b", UriError::Host),
            ("tel:;x", UriError::Number),
        ] {
            assert_eq!(Uri::parse(text.as_bytes()).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn equivalent_uris_of_rfc3261_19_1_4() {
        for (a, b) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("tel:+1-201-555-0123", "TEL:+12015550123"),
        ] {
            assert!(uri_eq(&uri(a), &uri(b)) && uri_eq(&uri(b), &uri(a)), "{a} {b}");
        }
    }

    #[test]
    fn a_uri_that_repeats_a_parameter_equals_itself() {
        let u = uri("sip:h;a=1;a;b");
        assert!(uri_eq(&u, &u));
    }

    #[test]
    fn different_uris_of_rfc3261_19_1_4() {
        for (a, b) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a@h", "sips:a@h"),
        ] {
            assert!(!uri_eq(&uri(a), &uri(b)) && !uri_eq(&uri(b), &uri(a)), "{a} {b}");
        }
    }
}
