//! What modules with users in a database need: which credentials a request presents, and whether they are right.

use bytes::Bytes;
use switchroom_calls::core::state::Core;
use switchroom_kernel::context::Ctx;
use switchroom_wire::sip::digest::{Algorithm, Credentials, ha1};
use switchroom_wire::sip::{HeaderId, Message, Method};

use super::Auth;
use super::nonce::Verdict;

/// The caller is who he says.
pub const AUTHORIZED: i64 = 1;
/// No such user.
pub const UNKNOWN_USER: i64 = -1;
/// The password is wrong.
pub const WRONG_PASSWORD: i64 = -2;
/// The nonce is too old, not ours, or was used.
pub const STALE_NONCE: i64 = -3;
/// No credentials for this realm.
pub const NO_CREDENTIALS: i64 = -4;
/// Something else failed.
pub const GENERIC: i64 = -5;

/// Which header carries credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Authorization, asked for with 401.
    Www,
    /// Proxy-Authorization, asked for with 407.
    Proxy,
}

impl Header {
    fn id(self) -> HeaderId {
        match self {
            Header::Www => HeaderId::Authorization,
            Header::Proxy => HeaderId::ProxyAuthorization,
        }
    }
}

/// What authentication of this message came to; a challenge and `consume_credentials()` ask for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// The last check failed only because of its nonce.
    pub stale: bool,
    /// Index of the header with the credentials that were right.
    pub authorized: Option<usize>,
}

/// Credentials that a request presents, with a nonce in force.
#[derive(Clone, Debug)]
pub struct Presented {
    /// User without domain.
    pub user: Bytes,
    /// User as given, with `@domain` when there is one.
    pub full_user: Bytes,
    /// Domain behind the user, else the realm.
    pub domain: Bytes,
    /// Algorithm of the answer, so that the right HA1 is looked up.
    pub algorithm: Algorithm,
    header: usize,
    serial: u64,
}

/// What a password is kept as.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Hexadecimal hash of `user:realm:password` in the algorithm of the answer.
    Ha1(Bytes),
    /// The password itself.
    Password(Bytes),
}

/// The credentials of the request for `realm` (empty: the domain of the caller). `Err` is the result of the function:
/// a negative code, or [`AUTHORIZED`] for requests that cannot be challenged.
pub fn presented(ctx: &mut Ctx, realm: &Bytes, header: Header) -> Result<Presented, i64> {
    *ctx.note_mut::<Outcome>() = Outcome::default();
    // These repeat the CSeq of another request or are answered by nobody (RFC 3261 §22.1).
    if matches!(ctx.msg.method(), Method::Ack | Method::Cancel | Method::Prack) {
        return Err(AUTHORIZED);
    }
    let shard = ctx.shard.clone();
    let auth = shard.kernel.state::<Auth>();
    let msg = ctx.msg.clone();
    let realm = self::realm(auth, &msg, realm).ok_or(GENERIC)?;
    let found = find(&msg, header, &realm)?;
    let (mut presented, nonce) = found;
    match auth.nonces.judge(&nonce, shard.kernel.unix()) {
        Verdict::Fresh { serial, offered } if offered.has(presented.algorithm) => {
            presented.serial = serial;
            Ok(presented)
        }
        Verdict::Fresh { .. } => Err(NO_CREDENTIALS),
        Verdict::Expired | Verdict::Foreign => {
            ctx.note_mut::<Outcome>().stale = true;
            Err(STALE_NONCE)
        }
    }
}

/// The realm: the one that was given, else the domain of To in a REGISTER and of From in other requests.
pub(super) fn realm(auth: &Auth, msg: &Message, given: &Bytes) -> Option<Bytes> {
    if !given.is_empty() {
        return Some(given.clone());
    }
    let who = if msg.method() == Method::Register { msg.to() } else { msg.from() };
    let who = who.ok()?;
    let host = who.parse_uri().ok()?.host;
    let host = host.strip_prefix(auth.realm_prefix.as_bytes()).unwrap_or(host);
    Some(msg.slice(host)).filter(|h| !h.is_empty())
}

fn find(msg: &Message, header: Header, realm: &[u8]) -> Result<(Presented, Bytes), i64> {
    let mut worst = NO_CREDENTIALS;
    for h in msg.headers_of(header.id()) {
        let value = h.unfolded();
        let Ok(c) = Credentials::parse(&value) else {
            worst = GENERIC;
            continue;
        };
        if !c.realm.eq_ignore_ascii_case(realm) || c.userhash {
            continue;
        }
        let (user, domain) = c.user_and_domain();
        if user.is_empty() {
            continue;
        }
        let presented = Presented {
            user: msg.slice(user),
            full_user: msg.slice(&c.username),
            domain: msg.slice(domain.unwrap_or(realm)),
            algorithm: c.algorithm,
            header: h.index,
            serial: 0,
        };
        return Ok((presented, msg.slice(&c.nonce)));
    }
    Err(worst)
}

/// Whether the presented credentials are right. Without a secret the user is unknown.
pub fn decide(ctx: &mut Ctx, presented: &Presented, secret: Option<&Secret>) -> i64 {
    let Some(secret) = secret else { return UNKNOWN_USER };
    let msg = ctx.msg.clone();
    let Some(h) = msg.header_at(presented.header) else { return GENERIC };
    let value = h.unfolded();
    let Ok(c) = Credentials::parse(&value) else { return GENERIC };
    if !is_right(&c, secret, &msg) {
        return WRONG_PASSWORD;
    }
    let shard = ctx.shard.clone();
    let auth = shard.kernel.state::<Auth>();
    if let Some(used) = &auth.used {
        let source = ctx.received.peer;
        let port = source.port().to_be_bytes();
        let ip = match source.ip() {
            std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            std::net::IpAddr::V6(v6) => v6.octets(),
        };
        let request = shard.kernel.state::<Core>().digest(&[msg.raw(), &ip, &port]);
        let count = c.qop.and_then(|_| c.nonce_count()).unwrap_or(0);
        if !used.mark(presented.serial, count, request, shard.kernel.unix()) {
            ctx.note_mut::<Outcome>().stale = true;
            return STALE_NONCE;
        }
    }
    ctx.note_mut::<Outcome>().authorized = Some(presented.header);
    AUTHORIZED
}

fn is_right(c: &Credentials<'_>, secret: &Secret, msg: &Message) -> bool {
    match secret {
        Secret::Ha1(ha1) => !ha1.is_empty() && c.verify(ha1, msg.method_name(), msg.body()),
        Secret::Password(password) => {
            let ha1 = ha1(c.algorithm, &c.username, &c.realm, password);
            c.verify(ha1.as_bytes(), msg.method_name(), msg.body())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchroom_wire::sip::digest::{Challenge, Client};

    fn request(headers: &str) -> Message {
        let text = format!(
            "REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:al@f.org>;tag=1\r\n\
             To: <sip:al@t.org>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n{headers}\r\n"
        );
        Message::parse(text.into()).unwrap()
    }

    fn answer(realm: &str, user: &str, password: &str) -> String {
        let value = format!("Digest realm=\"{realm}\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256");
        let challenge = Challenge::parse(value.as_bytes()).unwrap();
        let secret = ha1(Algorithm::Sha256, user.as_bytes(), realm.as_bytes(), password.as_bytes());
        let client = Client {
            username: user.as_bytes(),
            ha1: secret.as_bytes(),
            cnonce: b"c",
            nonce_count: 1,
            method: b"REGISTER",
            uri: b"sip:h",
            body: b"",
        };
        let mut out = Vec::new();
        challenge.answer(&client, &mut out);
        format!("Authorization: {}\r\n", String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_credentials_of_the_realm_are_found_among_others() {
        let msg = request(&(answer("x.org", "no", "p") + &answer("t.org", "al@d.org", "p")));
        let (p, nonce) = find(&msg, Header::Www, b"T.org").unwrap();
        assert_eq!(
            (&p.user[..], &p.full_user[..], &p.domain[..]),
            (&b"al"[..], &b"al@d.org"[..], &b"d.org"[..])
        );
        assert_eq!((&nonce[..], p.algorithm), (&b"n"[..], Algorithm::Sha256));
        assert_eq!(find(&msg, Header::Proxy, b"t.org").unwrap_err(), NO_CREDENTIALS);
        assert_eq!(find(&msg, Header::Www, b"other").unwrap_err(), NO_CREDENTIALS);
        assert_eq!(find(&request("Authorization: Basic x\r\n"), Header::Www, b"t.org").unwrap_err(), GENERIC);
    }

    #[test]
    fn a_password_and_its_ha1_are_worth_the_same() {
        let msg = request(&answer("t.org", "al", "p"));
        let value = msg.header(HeaderId::Authorization).unwrap().value.to_vec();
        let c = Credentials::parse(&value).unwrap();
        let hash = ha1(Algorithm::Sha256, b"al", b"t.org", b"p");
        assert!(is_right(&c, &Secret::Password(Bytes::from_static(b"p")), &msg));
        assert!(is_right(&c, &Secret::Ha1(Bytes::copy_from_slice(hash.as_bytes())), &msg));
        assert!(!is_right(&c, &Secret::Password(Bytes::from_static(b"q")), &msg));
        assert!(!is_right(&c, &Secret::Ha1(Bytes::new()), &msg));
    }
}
