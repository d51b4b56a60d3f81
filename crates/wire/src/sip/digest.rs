//! Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760): reading credentials and challenges, computing and checking
//! responses, writing both. Nonces are made and judged elsewhere; `userhash` is read but not resolved.

use super::params::Param;
use super::scan;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};
use smallvec::SmallVec;
use std::borrow::Cow;

/// The algorithm of a challenge or of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `MD5`, also when none is named.
    Md5,
    /// `MD5-sess`
    Md5Sess,
    /// `SHA-256`
    Sha256,
    /// `SHA-256-sess`
    Sha256Sess,
    /// `SHA-512-256`
    Sha512_256,
    /// `SHA-512-256-sess`
    Sha512_256Sess,
}

impl Algorithm {
    /// Reads a name, in any case.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Algorithm> {
        use Algorithm::*;
        [Md5, Md5Sess, Sha256, Sha256Sess, Sha512_256, Sha512_256Sess]
            .into_iter()
            .find(|a| a.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// The name as RFC 7616 writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Md5Sess => "MD5-sess",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha256Sess => "SHA-256-sess",
            Algorithm::Sha512_256 => "SHA-512-256",
            Algorithm::Sha512_256Sess => "SHA-512-256-sess",
        }
    }

    /// Whether HA1 is bound to nonce and cnonce.
    #[must_use]
    pub fn is_session(self) -> bool {
        matches!(self, Algorithm::Md5Sess | Algorithm::Sha256Sess | Algorithm::Sha512_256Sess)
    }

    /// The hash of `parts` joined by colons, as lower-case hexadecimal text.
    #[must_use]
    pub fn hash(self, parts: &[&[u8]]) -> Hex {
        match self {
            Algorithm::Md5 | Algorithm::Md5Sess => joined::<Md5>(parts),
            Algorithm::Sha256 | Algorithm::Sha256Sess => joined::<Sha256>(parts),
            Algorithm::Sha512_256 | Algorithm::Sha512_256Sess => joined::<Sha512_256>(parts),
        }
    }
}

fn joined<D: Digest>(parts: &[&[u8]]) -> Hex {
    let mut hasher = D::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            hasher.update(b":");
        }
        hasher.update(part);
    }
    Hex::of(&hasher.finalize())
}

/// A hash as lower-case hexadecimal text, 32 or 64 characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hex {
    text: [u8; 64],
    len: u8,
}

impl Hex {
    fn of(bytes: &[u8]) -> Hex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = Hex { text: [0; 64], len: 0 };
        for (pair, b) in hex.text.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(b >> 4)];
            pair[1] = DIGITS[usize::from(b & 15)];
            hex.len += 2;
        }
        hex
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// Quality of protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qop {
    /// `auth`
    Auth,
    /// `auth-int`: the body is covered too.
    AuthInt,
}

impl Qop {
    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Qop::Auth => "auth",
            Qop::AuthInt => "auth-int",
        }
    }

    fn from_name(name: &[u8]) -> Option<Qop> {
        [Qop::Auth, Qop::AuthInt].into_iter().find(|q| q.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// Why credentials or a challenge cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The scheme is not Digest.
    #[error("the scheme is not Digest")]
    Scheme,
    /// A parameter that must be there is missing.
    #[error("no {0}")]
    Missing(&'static str),
    /// A parameter has a value we do not know.
    #[error("unknown or malformed {0}")]
    Unknown(&'static str),
}

/// The credentials of an Authorization or Proxy-Authorization header.
#[derive(Clone, Debug)]
pub struct Credentials<'a> {
    /// `username`, quotes and escapes resolved.
    pub username: Cow<'a, [u8]>,
    /// `realm`
    pub realm: Cow<'a, [u8]>,
    /// `nonce`
    pub nonce: Cow<'a, [u8]>,
    /// `uri`
    pub uri: Cow<'a, [u8]>,
    /// `response`, hexadecimal text.
    pub response: Cow<'a, [u8]>,
    /// `algorithm`, MD5 when not named.
    pub algorithm: Algorithm,
    /// `qop`; `None` for the computation of RFC 2069.
    pub qop: Option<Qop>,
    /// `nc` as received, eight hexadecimal digits.
    pub nc: Option<&'a [u8]>,
    /// `cnonce`
    pub cnonce: Option<Cow<'a, [u8]>>,
    /// `opaque`
    pub opaque: Option<Cow<'a, [u8]>>,
    /// `userhash=true`: the user name is a hash.
    pub userhash: bool,
}

impl<'a> Credentials<'a> {
    /// Reads a header value.
    pub fn parse(value: &'a [u8]) -> Result<Credentials<'a>, DigestError> {
        let (mut username, mut realm, mut nonce, mut uri, mut response) = (None, None, None, None, None);
        let (mut algorithm, mut qop, mut nc, mut cnonce, mut opaque, mut userhash) =
            (None, None, None, None, None, None);
        for p in fields(scheme(value)?) {
            // The length tells nearly all names apart.
            let place = match p.name.len() {
                8 if p.is("username") => &mut username,
                8 if p.is("response") => &mut response,
                8 if p.is("userhash") => &mut userhash,
                5 if p.is("realm") => &mut realm,
                5 if p.is("nonce") => &mut nonce,
                3 if p.is("uri") => &mut uri,
                3 if p.is("qop") => &mut qop,
                2 if p.is("nc") => &mut nc,
                6 if p.is("cnonce") => &mut cnonce,
                6 if p.is("opaque") => &mut opaque,
                9 if p.is("algorithm") => &mut algorithm,
                _ => continue,
            };
            place.get_or_insert(p);
        }
        let text = |p: Option<Param<'a>>| p.map(|p| p.unquoted());
        let need = |p: Option<Param<'a>>, name| text(p).ok_or(DigestError::Missing(name));
        let qop = match text(qop) {
            None => None,
            Some(q) => Some(Qop::from_name(&q).ok_or(DigestError::Unknown("qop"))?),
        };
        let credentials = Credentials {
            username: need(username, "username")?,
            realm: need(realm, "realm")?,
            nonce: need(nonce, "nonce")?,
            uri: need(uri, "uri")?,
            response: need(response, "response")?,
            algorithm: self::algorithm(algorithm)?,
            qop,
            nc: nc.and_then(|p| p.value).map(|v| match v {
                [b'"', inner @ .., b'"'] => inner,
                _ => v,
            }),
            cnonce: text(cnonce),
            opaque: text(opaque),
            userhash: text(userhash).is_some_and(|v| v.eq_ignore_ascii_case(b"true")),
        };
        if qop.is_some() {
            credentials.nonce_count().ok_or(DigestError::Unknown("nc"))?;
            if credentials.cnonce.is_none() {
                return Err(DigestError::Missing("cnonce"));
            }
        }
        Ok(credentials)
    }

    /// `nc` as a number.
    #[must_use]
    pub fn nonce_count(&self) -> Option<u32> {
        let text = self.nc.filter(|t| t.len() == 8 && t.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
    }

    /// The user part and domain of `username` where it holds an `@`.
    #[must_use]
    pub fn user_and_domain(&self) -> (&[u8], Option<&[u8]>) {
        match memchr::memchr(b'@', &self.username) {
            Some(at) => (&self.username[..at], Some(&self.username[at + 1..])),
            None => (&self.username, None),
        }
    }

    /// Whether the response is right for this HA1 (hexadecimal text of `user:realm:password`, not session-bound), method
    /// and body. Takes the same time wherever a difference is.
    #[must_use]
    pub fn verify(&self, ha1: &[u8], method: &[u8], body: &[u8]) -> bool {
        let expect = response(&Input {
            algorithm: self.algorithm,
            ha1,
            nonce: &self.nonce,
            nc: self.nc.unwrap_or(&[]),
            cnonce: self.cnonce.as_deref().unwrap_or(&[]),
            qop: self.qop,
            method,
            uri: &self.uri,
            body,
        });
        same(expect.as_bytes(), &self.response)
    }
}

/// HA1 without session binding: the hash of `user:realm:password`.
#[must_use]
pub fn ha1(algorithm: Algorithm, user: &[u8], realm: &[u8], password: &[u8]) -> Hex {
    algorithm.hash(&[user, realm, password])
}

/// What a response is computed from (RFC 7616 §3.4).
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Hexadecimal text of the hash of `user:realm:password`.
    pub ha1: &'a [u8],
    /// The server's nonce.
    pub nonce: &'a [u8],
    /// Nonce count, eight hexadecimal digits; used with a qop.
    pub nc: &'a [u8],
    /// The client's nonce; used with a qop or a session algorithm.
    pub cnonce: &'a [u8],
    /// Quality of protection.
    pub qop: Option<Qop>,
    /// Method of the request.
    pub method: &'a [u8],
    /// The `uri` parameter.
    pub uri: &'a [u8],
    /// Body of the request; used with `auth-int`.
    pub body: &'a [u8],
}

/// The response for these inputs.
#[must_use]
pub fn response(input: &Input<'_>) -> Hex {
    let a = input.algorithm;
    let ha2 = match input.qop {
        Some(Qop::AuthInt) => a.hash(&[input.method, input.uri, a.hash(&[input.body]).as_bytes()]),
        _ => a.hash(&[input.method, input.uri]),
    };
    let session = a.is_session().then(|| a.hash(&[input.ha1, input.nonce, input.cnonce]));
    let ha1 = session.as_ref().map_or(input.ha1, Hex::as_bytes);
    match input.qop {
        Some(qop) => {
            a.hash(&[ha1, input.nonce, input.nc, input.cnonce, qop.name().as_bytes(), ha2.as_bytes()])
        }
        None => a.hash(&[ha1, input.nonce, ha2.as_bytes()]),
    }
}

/// A challenge: WWW-Authenticate or Proxy-Authenticate.
#[derive(Clone, Debug)]
pub struct Challenge<'a> {
    /// `realm`
    pub realm: Cow<'a, [u8]>,
    /// `nonce`
    pub nonce: Cow<'a, [u8]>,
    /// `opaque`
    pub opaque: Option<Cow<'a, [u8]>>,
    /// `algorithm`
    pub algorithm: Algorithm,
    /// Whether `qop` offers `auth`.
    pub auth: bool,
    /// Whether `qop` offers `auth-int`.
    pub auth_int: bool,
    /// `stale=true`: the password was right, the nonce was old.
    pub stale: bool,
}

impl<'a> Challenge<'a> {
    /// Reads a header value.
    pub fn parse(value: &'a [u8]) -> Result<Challenge<'a>, DigestError> {
        let list = List::of(scheme(value)?);
        let get = |name: &'static str| list.get(name).map(|p| p.unquoted());
        let qop = get("qop").unwrap_or_default();
        let offers = |q: Qop| scan::commas(&qop).any(|o| Qop::from_name(o) == Some(q));
        Ok(Challenge {
            realm: get("realm").ok_or(DigestError::Missing("realm"))?,
            nonce: get("nonce").ok_or(DigestError::Missing("nonce"))?,
            opaque: get("opaque"),
            algorithm: algorithm(list.get("algorithm"))?,
            auth: offers(Qop::Auth),
            auth_int: offers(Qop::AuthInt),
            stale: get("stale").is_some_and(|v| v.eq_ignore_ascii_case(b"true")),
        })
    }

    /// Appends the header value, beginning with `Digest`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Digest realm=");
        quote(&self.realm, out);
        out.extend_from_slice(b", nonce=");
        quote(&self.nonce, out);
        if let Some(opaque) = &self.opaque {
            out.extend_from_slice(b", opaque=");
            quote(opaque, out);
        }
        if self.stale {
            out.extend_from_slice(b", stale=true");
        }
        match (self.auth, self.auth_int) {
            (true, true) => out.extend_from_slice(b", qop=\"auth,auth-int\""),
            (true, false) => out.extend_from_slice(b", qop=\"auth\""),
            (false, true) => out.extend_from_slice(b", qop=\"auth-int\""),
            (false, false) => {}
        }
        out.extend_from_slice(b", algorithm=");
        out.extend_from_slice(self.algorithm.name().as_bytes());
    }

    /// Appends the value of the Authorization header that answers this challenge, `auth` preferred over `auth-int`.
    /// `ha1` is the hexadecimal hash of `user:realm:password` in the challenge's algorithm.
    pub fn answer(&self, client: &Client<'_>, out: &mut Vec<u8>) {
        let qop = match (self.auth, self.auth_int) {
            (true, _) => Some(Qop::Auth),
            (false, true) => Some(Qop::AuthInt),
            (false, false) => None,
        };
        let nc = Hex::of(&client.nonce_count.to_be_bytes());
        let response = response(&Input {
            algorithm: self.algorithm,
            ha1: client.ha1,
            nonce: &self.nonce,
            nc: nc.as_bytes(),
            cnonce: client.cnonce,
            qop,
            method: client.method,
            uri: client.uri,
            body: client.body,
        });
        out.extend_from_slice(b"Digest username=");
        quote(client.username, out);
        for (name, value) in
            [(&b", realm="[..], &*self.realm), (b", nonce=", &*self.nonce), (b", uri=", client.uri)]
        {
            out.extend_from_slice(name);
            quote(value, out);
        }
        out.extend_from_slice(b", response=");
        quote(response.as_bytes(), out);
        if let Some(opaque) = &self.opaque {
            out.extend_from_slice(b", opaque=");
            quote(opaque, out);
        }
        if let Some(qop) = qop {
            out.extend_from_slice(b", qop=");
            out.extend_from_slice(qop.name().as_bytes());
            out.extend_from_slice(b", nc=");
            out.extend_from_slice(nc.as_bytes());
        }
        if qop.is_some() || self.algorithm.is_session() {
            out.extend_from_slice(b", cnonce=");
            quote(client.cnonce, out);
        }
        out.extend_from_slice(b", algorithm=");
        out.extend_from_slice(self.algorithm.name().as_bytes());
    }
}

/// The client's side of an answer to a challenge.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// User name.
    pub username: &'a [u8],
    /// Hexadecimal hash of `user:realm:password`.
    pub ha1: &'a [u8],
    /// The client's nonce.
    pub cnonce: &'a [u8],
    /// How many requests used this nonce, from 1.
    pub nonce_count: u32,
    /// Method of the request.
    pub method: &'a [u8],
    /// Request URI.
    pub uri: &'a [u8],
    /// Body of the request.
    pub body: &'a [u8],
}

fn scheme(value: &[u8]) -> Result<&[u8], DigestError> {
    let value = scan::trim(value);
    match value.get(..6) {
        Some(word)
            if word.eq_ignore_ascii_case(b"Digest") && value.get(6).is_some_and(|b| scan::is_lws(*b)) =>
        {
            Ok(&value[7..])
        }
        _ => Err(DigestError::Scheme),
    }
}

/// The parameters of credentials or of a challenge, found in one pass; they are asked for a dozen names.
struct List<'a>(SmallVec<[Param<'a>; 12]>);

/// More parameters than any use of them has are passed over.
const MAX_PARAMS: usize = 64;

/// The parameters of a list, one after the other; one without a value is passed over.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Param<'_>> {
    let next = move || {
        loop {
            while let [b',' | b' ' | b'\t' | b'\r' | b'\n', behind @ ..] = rest {
                rest = behind;
            }
            let equals = scan::find_near(rest, b'=')?;
            let name = &rest[..equals];
            if let Some(comma) = memchr::memchr(b',', name) {
                rest = &rest[comma + 1..];
                continue;
            }
            let value = scan::trim_start(&rest[equals + 1..]);
            let end = match value.first() {
                Some(b'"') => scan::quoted_end(value, 0).unwrap_or(value.len()),
                _ => 0,
            };
            let comma = scan::find_near(&value[end..], b',').map_or(value.len(), |at| end + at);
            rest = value.get(comma + 1..).unwrap_or(&[]);
            return Some(Param { name: scan::trim_end(name), value: Some(scan::trim_end(&value[..comma])) });
        }
    };
    std::iter::from_fn(next).take(MAX_PARAMS)
}

impl<'a> List<'a> {
    fn of(text: &'a [u8]) -> List<'a> {
        List(fields(text).collect())
    }

    fn get(&self, name: &str) -> Option<Param<'a>> {
        self.0.iter().find(|p| p.is(name)).copied()
    }
}

fn algorithm(named: Option<Param<'_>>) -> Result<Algorithm, DigestError> {
    match named {
        None => Ok(Algorithm::Md5),
        Some(p) => Algorithm::from_name(&p.unquoted()).ok_or(DigestError::Unknown("algorithm")),
    }
}

fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(b);
    }
    out.push(b'"');
}

/// Compares hexadecimal text without stopping at the first difference; case does not count.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).fold(0, |d, (x, y)| d | (x.to_ascii_lowercase() ^ y.to_ascii_lowercase())) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc7616(algorithm: Algorithm) -> Hex {
        response(&Input {
            algorithm,
            ha1: ha1(algorithm, b"Mufasa", b"http-auth@example.org", b"Circle of Life").as_bytes(),
            nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            nc: b"00000001",
            cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            qop: Some(Qop::Auth),
            method: b"GET",
            uri: b"/dir/index.html",
            body: b"",
        })
    }

    #[test]
    fn responses_of_rfc7616_3_9_1() {
        assert_eq!(rfc7616(Algorithm::Md5).as_bytes(), b"8ca523f5e9506fed4657c9700eebdbec");
        assert_eq!(
            rfc7616(Algorithm::Sha256).as_bytes(),
            b"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
    }

    #[test]
    fn response_without_qop_of_rfc2617() {
        let value = br#"Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
            uri="/dir/index.html", response="670fd8c2df070c60b045671b8b24ff02""#;
        let c = Credentials::parse(value).unwrap();
        let secret = ha1(c.algorithm, &c.username, &c.realm, b"Circle Of Life");
        assert!(c.verify(secret.as_bytes(), b"GET", b""));
        assert!(!c.verify(secret.as_bytes(), b"PUT", b""));
    }

    #[test]
    fn every_algorithm_and_qop_answers_its_own_challenge() {
        use Algorithm::*;
        for algorithm in [Md5, Md5Sess, Sha256, Sha256Sess, Sha512_256, Sha512_256Sess] {
            for (auth, auth_int) in [(true, false), (false, true), (false, false), (true, true)] {
                let challenge = Challenge {
                    realm: Cow::Borrowed(b"a \"realm\""),
                    nonce: Cow::Borrowed(b"n,1"),
                    opaque: Some(Cow::Borrowed(b"o")),
                    algorithm,
                    auth,
                    auth_int,
                    stale: true,
                };
                let mut text = Vec::new();
                challenge.write(&mut text);
                let read = Challenge::parse(&text).unwrap();
                assert_eq!((&*read.realm, read.auth, read.auth_int), (&b"a \"realm\""[..], auth, auth_int));
                let secret = ha1(algorithm, b"al", &read.realm, b"pw");
                let mut answer = Vec::new();
                let client = Client {
                    username: b"al",
                    ha1: secret.as_bytes(),
                    cnonce: b"c",
                    nonce_count: 31,
                    method: b"INVITE",
                    uri: b"sip:b@h",
                    body: b"v=0",
                };
                read.answer(&client, &mut answer);
                let c = Credentials::parse(&answer).unwrap();
                assert!(c.verify(secret.as_bytes(), b"INVITE", b"v=0"), "{algorithm:?}");
                assert_eq!(c.verify(secret.as_bytes(), b"INVITE", b"v=1"), c.qop != Some(Qop::AuthInt));
                assert_eq!(c.nonce_count(), c.qop.map(|_| 31));
                let other = ha1(algorithm, b"al", &read.realm, b"no");
                assert!(!c.verify(other.as_bytes(), b"INVITE", b"v=0"));
            }
        }
    }

    #[test]
    fn unusable_credentials_say_why() {
        let error = |text: &'static str| Credentials::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error("Basic abc"), DigestError::Scheme);
        assert_eq!(error("Digest"), DigestError::Scheme);
        assert_eq!(error("Digest realm=\"x\""), DigestError::Missing("username"));
        let base = "Digest username=\"u\",realm=\"r\",nonce=\"n\",uri=\"s\",response=\"0\",";
        let error = |more: &str| Credentials::parse(format!("{base}{more}").leak().as_bytes()).unwrap_err();
        assert_eq!(error("algorithm=AKAv1-MD5"), DigestError::Unknown("algorithm"));
        assert_eq!(error("qop=none"), DigestError::Unknown("qop"));
        assert_eq!(error("qop=auth,nc=1,cnonce=\"c\""), DigestError::Unknown("nc"));
        assert_eq!(error("qop=auth,nc=00000001"), DigestError::Missing("cnonce"));
    }
}
