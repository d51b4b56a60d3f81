//! The Via header (RFC 3261 §20.42, RFC 3581): one value of it.

use super::params::Params;
use super::scan::{self, trim, trim_end, trim_start};
use super::span::{OptSpan, Span};
use super::uri::{bare_host, read_port, split_host_port};

/// The `rport` parameter of RFC 3581.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rport {
    /// Not there.
    Absent,
    /// There without a value: the sender asks for it.
    Asked,
    /// Filled in.
    Value(u16),
}

/// One Via value.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// The whole value.
    pub raw: &'a [u8],
    /// Transport as received: `UDP`, `TCP`, `TLS`, `WS` …
    pub transport: &'a [u8],
    /// Host of sent-by; an IPv6 address keeps its brackets.
    pub host: &'a [u8],
    /// Port of sent-by, if given.
    pub port: Option<u16>,
    /// Parameters with the leading `;`, an old-style comment after them included.
    params: &'a [u8],
    /// `branch`
    pub branch: Option<&'a [u8]>,
    /// `received`
    pub received: Option<&'a [u8]>,
    /// `rport`
    pub rport: Rport,
}

/// The start of every branch of an RFC 3261 element.
pub(crate) const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

impl<'a> Via<'a> {
    /// Reads one value (no comma list); the error says what is wrong.
    pub fn parse(raw: &'a [u8]) -> Result<Via<'a>, &'static str> {
        let raw = trim(raw);
        let rest = match raw.strip_prefix(b"SIP/2.0/") {
            Some(rest) if !rest.first().is_some_and(|b| scan::is_lws(*b)) => rest,
            _ => unusual_protocol(raw)?,
        };
        let end = rest.iter().position(|b| !scan::is_token(*b)).unwrap_or(rest.len());
        let (transport, rest) = rest.split_at(end);
        if transport.is_empty() || !rest.first().is_some_and(|b| scan::is_lws(*b)) {
            return Err("no transport");
        }
        let rest = trim_start(rest);
        let (host, mut port, mut rest) = split_host_port(rest).ok_or("no valid sent-by host")?;
        if port.is_none() {
            // White space may stand around the colon.
            if let [b':', after @ ..] = trim_start(rest) {
                let after = trim_start(after);
                let end = after.iter().position(|b| !b.is_ascii_digit()).unwrap_or(after.len());
                (port, rest) = (Some(&after[..end]), &after[end..]);
            }
        } else if port == Some(&[]) {
            let after = trim_start(rest);
            let end = after.iter().position(|b| !b.is_ascii_digit()).unwrap_or(after.len());
            (port, rest) = (Some(&after[..end]), &after[end..]);
        }
        let port = match port {
            Some(digits) => Some(read_port(digits).ok_or("port is not a number of 16 bits")?),
            None => None,
        };
        let mut params = trim_start(rest);
        if !matches!(params.first(), None | Some(b';' | b'(')) {
            return Err("unexpected text after sent-by");
        }
        if params.first() == Some(&b'(') {
            params = &[];
        }
        let mut via =
            Via { raw, transport, host, port, params, branch: None, received: None, rport: Rport::Absent };
        for p in Params::new(params) {
            match p.name.len() {
                6 if via.branch.is_none() && p.is("branch") => via.branch = p.value.filter(|v| !v.is_empty()),
                8 if p.is("received") => via.received = p.value,
                5 if p.is("rport") => {
                    via.rport = match p.value {
                        None | Some(b"") => Rport::Asked,
                        Some(v) => Rport::Value(read_port(v).ok_or("rport is not a number of 16 bits")?),
                    };
                }
                _ => {}
            }
        }
        Ok(via)
    }

    /// All parameters.
    #[must_use]
    pub fn params(&self) -> Params<'a> {
        Params::new(self.params)
    }

    /// Whether the branch is one of RFC 3261, so that it identifies the transaction (§8.1.1.7).
    #[must_use]
    pub fn has_magic_cookie(&self) -> bool {
        self.branch.is_some_and(|b| {
            b.len() > MAGIC_COOKIE.len() && b[..MAGIC_COOKIE.len()].eq_ignore_ascii_case(MAGIC_COOKIE)
        })
    }

    /// Host without the brackets of an IPv6 address.
    #[must_use]
    pub fn host_bare(&self) -> &'a [u8] {
        bare_host(self.host)
    }
}

/// What stands behind the protocol and version, in another case or with white space around the slashes.
#[inline(never)]
fn unusual_protocol(s: &[u8]) -> Result<&[u8], &'static str> {
    let rest = slash(word(s, b"SIP").ok_or("protocol is not SIP")?)?;
    slash(word(rest, b"2.0").ok_or("version is not 2.0")?)
}

fn word<'a>(s: &'a [u8], expect: &[u8]) -> Option<&'a [u8]> {
    let head = s.get(..expect.len())?;
    head.eq_ignore_ascii_case(expect).then(|| &s[expect.len()..])
}

fn slash(s: &[u8]) -> Result<&[u8], &'static str> {
    match trim_start(s) {
        [b'/', rest @ ..] => Ok(trim_start(rest)),
        _ => Err("no slash in sent-protocol"),
    }
}

/// A parsed Via as positions, to be kept beside its buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ViaSpans {
    raw: Span,
    transport: Span,
    host: Span,
    port: Option<u16>,
    params: OptSpan,
    branch: OptSpan,
    received: OptSpan,
    rport: Rport,
}

impl ViaSpans {
    #[inline]
    pub fn of(base: &[u8], via: &Via<'_>) -> ViaSpans {
        let params = trim_end(via.params);
        ViaSpans {
            raw: Span::of(base, via.raw),
            transport: Span::of(base, via.transport),
            host: Span::of(base, via.host),
            port: via.port,
            params: OptSpan::of(base, Some(params).filter(|p| !p.is_empty())),
            branch: OptSpan::of(base, via.branch),
            received: OptSpan::of(base, via.received),
            rport: via.rport,
        }
    }

    #[inline]
    pub fn view<'a>(&self, base: &'a [u8]) -> Via<'a> {
        Via {
            raw: self.raw.get(base),
            transport: self.transport.get(base),
            host: self.host.get(base),
            port: self.port,
            params: self.params.get(base).unwrap_or(&[]),
            branch: self.branch.get(base),
            received: self.received.get(base),
            rport: self.rport,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_white_space_ipv6_and_old_comments() {
        let via =
            Via::parse(b"SIP / 2.0 /\r\n UDP  first.example.com: 4000;ttl=16 ;branch=z9hG4bKa7c6.1").unwrap();
        assert_eq!((via.transport, via.host, via.port), (&b"UDP"[..], &b"first.example.com"[..], Some(4000)));
        assert_eq!(via.branch, Some(&b"z9hG4bKa7c6.1"[..]));
        assert!(via.has_magic_cookie());
        let via = Via::parse(b"SIP/2.0/TLS [2001:db8::9:1]:5061;rport;received=192.0.2.1").unwrap();
        assert_eq!((via.host_bare(), via.port, via.rport), (&b"2001:db8::9:1"[..], Some(5061), Rport::Asked));
        assert_eq!(via.received, Some(&b"192.0.2.1"[..]));
        let via = Via::parse(b"SIP/2.0/UDP 192.0.2.2 (an old proxy)").unwrap();
        assert_eq!((via.host, via.branch, via.has_magic_cookie()), (&b"192.0.2.2"[..], None, false));
    }

    #[test]
    fn broken_values_are_refused() {
        for bad in [
            &b"SIP/2.0/UDP"[..],
            b"SIP/2.0/UDP ",
            b"SIP/7.0/UDP h",
            b"HTTP/2.0/UDP h",
            b"SIP/2.0/UDP h;rport=x",
            b"SIP/2.0/UDP h:123456",
            b"SIP/2.0/UDP h?x",
            b"",
        ] {
            assert!(Via::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
