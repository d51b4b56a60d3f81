//! The classes `uri`, `via` and `nameaddr`: small scanners over the text, which need not be valid as a whole.
//!
//! RFC 3261 §19.1 (URI), §20.42 (Via), §25.1 (name-addr), RFC 3966 (tel).

use super::lists::{params, pieces, value};
use super::{Entry, maybe, pick, text};
use crate::value::{Value, parse_int};

pub(super) const TABLE: &[Entry] = &[
    ("uri.user", "", |s, _| maybe(Uri::scan(s).and_then(|u| u.user))),
    ("uri.passwd", "", |s, _| maybe(Uri::scan(s).and_then(|u| u.password))),
    ("uri.host", "", |s, _| maybe(Uri::scan(s).and_then(|u| u.host))),
    ("uri.domain", "", |s, _| maybe(Uri::scan(s).and_then(|u| u.host))),
    ("uri.port", "", |s, _| port(Uri::scan(s).and_then(|u| u.port))),
    ("uri.params", "", |s, _| maybe(Uri::scan(s).and_then(|u| u.params))),
    ("uri.headers", "", |s, _| maybe(Uri::scan(s).and_then(|u| u.headers))),
    ("uri.schema", "", |s, _| maybe(Uri::scan(s).map(|u| u.scheme))),
    ("uri.param", "s", |s, a| match text(a, 0) {
        Some(name) => uri_param(s, &name),
        None => Value::Null,
    }),
    ("uri.transport", "", |s, _| uri_param(s, b"transport")),
    ("uri.ttl", "", |s, _| uri_param(s, b"ttl")),
    ("uri.uparam", "", |s, _| uri_param(s, b"user")),
    ("uri.maddr", "", |s, _| uri_param(s, b"maddr")),
    ("uri.method", "", |s, _| uri_param(s, b"method")),
    ("uri.lr", "", |s, _| uri_param(s, b"lr")),
    ("uri.r2", "", |s, _| uri_param(s, b"r2")),
    ("via.name", "", |s, _| maybe(Via::scan(s).map(|v| v.name))),
    ("via.version", "", |s, _| maybe(Via::scan(s).map(|v| v.version))),
    ("via.transport", "", |s, _| maybe(Via::scan(s).map(|v| v.transport))),
    ("via.host", "", |s, _| maybe(Via::scan(s).map(|v| v.host))),
    ("via.domain", "", |s, _| maybe(Via::scan(s).map(|v| v.host))),
    ("via.port", "", |s, _| port(Via::scan(s).and_then(|v| v.port))),
    ("via.comment", "", |s, _| maybe(Via::scan(s).and_then(|v| v.comment))),
    ("via.params", "", |s, _| maybe(Via::scan(s).and_then(|v| v.params))),
    ("via.param", "s", |s, a| match text(a, 0) {
        Some(name) => via_param(s, &name),
        None => Value::Null,
    }),
    ("via.branch", "", |s, _| via_param(s, b"branch")),
    ("via.received", "", |s, _| via_param(s, b"received")),
    ("via.rport", "", |s, _| via_param(s, b"rport")),
];

/// A function of the text and the index in its list.
pub(super) type Indexed = fn(&[u8], i64, &[Value]) -> Value;

/// Fields of `nameaddr`: name, arguments, function of the text and the index in the list.
pub(super) const NAME_ADDR: &[(&str, &str, Indexed)] = &[
    ("name", "", |s, i, _| maybe(NameAddr::scan(s, i).and_then(|n| n.name))),
    ("uri", "", |s, i, _| maybe(NameAddr::scan(s, i).map(|n| n.uri))),
    ("len", "", |s, i, _| NameAddr::scan(s, i).map_or(Value::Null, |n| Value::Int(n.len as i64))),
    ("param", "s", |s, i, a| match (NameAddr::scan(s, i), text(a, 0)) {
        (Some(n), Some(name)) => maybe(n.params.and_then(|p| value(p, &name, b';'))),
        _ => Value::Null,
    }),
    ("params", "", |s, i, _| maybe(NameAddr::scan(s, i).and_then(|n| n.params))),
];

fn port(text: Option<&[u8]>) -> Value {
    text.and_then(parse_int).map_or(Value::Null, Value::Int)
}

fn uri_param(s: &[u8], name: &[u8]) -> Value {
    maybe(Uri::scan(s).and_then(|u| u.params).and_then(|p| value(p, name, b';')))
}

fn via_param(s: &[u8], name: &[u8]) -> Value {
    maybe(Via::scan(s).and_then(|v| v.params).and_then(|p| value(p, name, b';')))
}

fn cut(s: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(at, s) {
        Some(i) => (&s[..i], Some(&s[i + 1..])),
        None => (s, None),
    }
}

/// `host`, `host:port`, `[v6]:port`
fn host_port(s: &[u8]) -> (&[u8], Option<&[u8]>) {
    let from = if s.first() == Some(&b'[') { memchr::memchr(b']', s).unwrap_or(0) } else { 0 };
    match memchr::memchr(b':', &s[from..]) {
        Some(i) => (&s[..from + i], Some(&s[from + i + 1..])),
        None => (s, None),
    }
}

#[derive(Debug)]
struct Uri<'a> {
    scheme: &'a [u8],
    user: Option<&'a [u8]>,
    password: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    port: Option<&'a [u8]>,
    params: Option<&'a [u8]>,
    headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    fn scan(s: &'a [u8]) -> Option<Self> {
        let s = s.trim_ascii();
        let s = s.strip_prefix(b"<").map_or(s, |t| cut(t, b'>').0);
        let (scheme, rest) = cut(s, b':');
        let rest = rest?;
        if scheme.is_empty() || !scheme.iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)) {
            return None;
        }
        let mut uri =
            Self { scheme, user: None, password: None, host: None, port: None, params: None, headers: None };
        if scheme.eq_ignore_ascii_case(b"tel") {
            let (number, params) = cut(rest, b';');
            uri.user = Some(number);
            uri.params = params;
            return Some(uri);
        }
        let tail = match memchr::memrchr(b'@', cut(rest, b'?').0) {
            Some(i) => {
                let (user, password) = cut(&rest[..i], b':');
                uri.user = Some(user);
                uri.password = password;
                &rest[i + 1..]
            }
            None => rest,
        };
        let (tail, headers) = cut(tail, b'?');
        let (address, params) = cut(tail, b';');
        let (host, port) = host_port(address);
        uri.host = Some(host).filter(|h| !h.is_empty());
        uri.port = port;
        uri.params = params;
        uri.headers = headers;
        Some(uri)
    }
}

#[derive(Debug)]
struct Via<'a> {
    name: &'a [u8],
    version: &'a [u8],
    transport: &'a [u8],
    host: &'a [u8],
    port: Option<&'a [u8]>,
    params: Option<&'a [u8]>,
    comment: Option<&'a [u8]>,
}

impl<'a> Via<'a> {
    fn scan(s: &'a [u8]) -> Option<Self> {
        let s = pieces(s, b',').next()?.trim_ascii();
        let (name, rest) = cut(s, b'/');
        let (version, rest) = cut(rest?, b'/');
        let rest = rest?.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        let (transport, rest) = (&rest[..end], rest[end..].trim_ascii_start());
        let (rest, comment) = cut(rest, b'(');
        let (address, params) = cut(rest, b';');
        let (host, port) = host_port(address.trim_ascii());
        Some(Self {
            name: name.trim_ascii(),
            version: version.trim_ascii(),
            transport,
            host: host.trim_ascii(),
            port: port.map(<[u8]>::trim_ascii),
            params: params.map(<[u8]>::trim_ascii_end),
            comment: comment.map(|c| cut(c, b')').0),
        })
    }
}

#[derive(Debug)]
struct NameAddr<'a> {
    /// With its quotes, as the From variable shows it.
    name: Option<&'a [u8]>,
    uri: &'a [u8],
    params: Option<&'a [u8]>,
    len: usize,
}

impl<'a> NameAddr<'a> {
    fn scan(s: &'a [u8], index: i64) -> Option<Self> {
        let list: smallvec::SmallVec<[&[u8]; 4]> = pieces(s, b',').map(<[u8]>::trim_ascii).collect();
        let one = pick(&list, index)?;
        if one.is_empty() {
            return None;
        }
        let mut found = Self { name: None, uri: one, params: None, len: one.len() };
        let from = quoted_len(one);
        let Some(open) = memchr::memchr(b'<', &one[from..]).map(|i| from + i) else {
            let (uri, params) = cut(one, b';');
            found.uri = uri.trim_ascii();
            found.params = params;
            return Some(found);
        };
        found.name = Some(one[..open].trim_ascii()).filter(|n| !n.is_empty());
        let (uri, rest) = cut(&one[open + 1..], b'>');
        found.uri = uri;
        found.params = rest?.trim_ascii_start().strip_prefix(b";").map(<[u8]>::trim_ascii);
        // A list of parameters without any parameter is none.
        found.params = found.params.filter(|p| params(p, b';').next().is_some());
        Some(found)
    }
}

/// The length of a quoted string at the start.
fn quoted_len(s: &[u8]) -> usize {
    if s.first() != Some(&b'"') {
        return 0;
    }
    let mut i = 1;
    while i < s.len() {
        match s[i] {
            b'\\' => i += 1,
            b'"' => return i + 1,
            _ => {}
        }
        i += 1;
    }
    0
}
