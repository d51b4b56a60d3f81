//! Rewriting parts of a URI: the functions `sethost()`, `setuser()`, `prefix()`, `strip()` and the writable `$rU`, `$rd`,
//! `$rp`, `$du` ... share this.

use bytes::Bytes;
use switchroom_wire::sip::{Scheme, Uri};

/// A part of a URI to replace; empty removes where that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// User, with what stands before the `@`.
    User,
    /// Host name.
    Host,
    /// Port.
    Port,
    /// Host and port together.
    HostPort,
    /// User and password.
    UserPassword,
}

/// A copy of `uri` with one part replaced. `None` when `uri` is not a SIP URI, or the result would not be one.
pub fn with_part(uri: &[u8], part: Part, value: &[u8]) -> Option<Bytes> {
    let u = Uri::parse(uri).ok()?;
    if !matches!(u.scheme, Scheme::Sip | Scheme::Sips) {
        return None;
    }
    let mut out = Vec::with_capacity(uri.len() + value.len() + 2);
    out.extend_from_slice(u.scheme_name);
    out.push(b':');
    match part {
        Part::User if value.is_empty() => {}
        Part::User => {
            out.extend_from_slice(value);
            if let Some(p) = u.password {
                out.push(b':');
                out.extend_from_slice(p);
            }
            out.push(b'@');
        }
        Part::UserPassword if value.is_empty() => {}
        Part::UserPassword => {
            out.extend_from_slice(value);
            out.push(b'@');
        }
        _ => {
            if let Some(user) = u.user {
                out.extend_from_slice(user);
                if let Some(p) = u.password {
                    out.push(b':');
                    out.extend_from_slice(p);
                }
                out.push(b'@');
            }
        }
    }
    match part {
        Part::Host => {
            out.extend_from_slice(value);
            push_port(u.port, &mut out);
        }
        Part::HostPort => out.extend_from_slice(value),
        Part::Port => {
            out.extend_from_slice(u.host);
            if !value.is_empty() {
                out.push(b':');
                out.extend_from_slice(value);
            }
        }
        Part::User | Part::UserPassword => {
            out.extend_from_slice(u.host);
            push_port(u.port, &mut out);
        }
    }
    push_tail(&u, &mut out);
    Uri::parse(&out).ok()?;
    Some(out.into())
}

/// A copy of `uri` with a parameter added (`name` or `name=value`), or replaced when it is there.
pub fn with_param(uri: &[u8], param: &[u8]) -> Option<Bytes> {
    let name = param.split(|b| *b == b'=').next()?;
    let name = std::str::from_utf8(name).ok()?;
    let without = without_param(uri, name)?;
    let u = Uri::parse(&without).ok()?;
    let head = without.len() - u.headers.map_or(0, |h| h.len() + 1);
    let mut out = Vec::with_capacity(without.len() + param.len() + 1);
    out.extend_from_slice(&without[..head]);
    out.push(b';');
    out.extend_from_slice(param);
    out.extend_from_slice(&without[head..]);
    Uri::parse(&out).ok()?;
    Some(out.into())
}

/// A copy of `uri` without a parameter.
pub fn without_param(uri: &[u8], name: &str) -> Option<Bytes> {
    let u = Uri::parse(uri).ok()?;
    let mut out = Vec::with_capacity(uri.len());
    out.extend_from_slice(head(&u));
    for p in u.params() {
        if p.is(name) {
            continue;
        }
        out.push(b';');
        out.extend_from_slice(p.name);
        if let Some(v) = p.value {
            out.push(b'=');
            out.extend_from_slice(v);
        }
    }
    if let Some(h) = u.headers {
        out.push(b'?');
        out.extend_from_slice(h);
    }
    Some(out.into())
}

/// The URI up to its parameters.
fn head<'a>(u: &Uri<'a>) -> &'a [u8] {
    let tail = u.params().raw().len() + u.headers.map_or(0, |h| h.len() + 1);
    let mut head = &u.raw[..u.raw.len() - tail];
    while let [rest @ .., b';'] = head {
        head = rest;
    }
    head
}

fn push_port(port: Option<u16>, out: &mut Vec<u8>) {
    if let Some(p) = port {
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(p).as_bytes());
    }
}

fn push_tail(u: &Uri<'_>, out: &mut Vec<u8>) {
    let params = u.params().raw();
    if !params.is_empty() {
        if params[0] != b';' {
            out.push(b';');
        }
        out.extend_from_slice(params);
    }
    if let Some(h) = u.headers {
        out.push(b'?');
        out.extend_from_slice(h);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn part(uri: &str, part: Part, value: &str, expected: &str) {
        let got = with_part(uri.as_bytes(), part, value.as_bytes()).unwrap();
        assert_eq!(std::str::from_utf8(&got).unwrap(), expected);
    }

    #[test]
    fn one_part_changes_and_the_rest_stays() {
        part("sip:bob@a.org:5070;lr?x=y", Part::User, "carol", "sip:carol@a.org:5070;lr?x=y");
        part("sip:a.org", Part::User, "carol", "sip:carol@a.org");
        part("sip:bob:pw@a.org", Part::User, "", "sip:a.org");
        part("sip:bob:pw@a.org", Part::Host, "b.org", "sip:bob:pw@b.org");
        part("sip:bob@a.org:5070", Part::Port, "", "sip:bob@a.org");
        part("sip:bob@a.org;transport=tcp", Part::Port, "5080", "sip:bob@a.org:5080;transport=tcp");
        part("sips:bob@[::1]:5070", Part::HostPort, "b.org:1", "sips:bob@b.org:1");
        assert!(with_part(b"sip:bob@a.org", Part::Port, b"abc").is_none());
        assert!(with_part(b"tel:+123", Part::Host, b"a").is_none());
    }

    #[test]
    fn parameters_are_added_replaced_and_removed() {
        assert_eq!(&with_param(b"sip:a.org?h=1", b"x=1").unwrap()[..], b"sip:a.org;x=1?h=1");
        assert_eq!(&with_param(b"sip:a.org;x=0;y", b"x=1").unwrap()[..], b"sip:a.org;y;x=1");
        assert_eq!(&without_param(b"sip:a.org;x=0;y?h", "x").unwrap()[..], b"sip:a.org;y?h");
    }
}
