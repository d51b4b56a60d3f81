//! Challenges: a 401 or 407 with one header for each algorithm, the most wanted first (RFC 8760 §2.4).

use std::borrow::Cow;

use switchroom_calls::signaling;
use switchroom_kernel::context::{Call, FALSE, Flow};
use switchroom_wire::sip::digest::{Algorithm, Challenge, Qop};

use super::Auth;
use super::api::{self, Outcome};
use super::nonce::Offered;

/// `www_challenge(realm[, qop[, algorithms]])`
pub(super) fn www(c: &mut Call<'_>) -> Flow {
    send(c, 401, b"Unauthorized", b"WWW-Authenticate: ")
}

/// `proxy_challenge(realm[, qop[, algorithms]])`
pub(super) fn proxy(c: &mut Call<'_>) -> Flow {
    send(c, 407, b"Proxy Authentication Required", b"Proxy-Authenticate: ")
}

/// The script ends when the challenge is sent: who forgot `exit` must not let the caller in.
fn send(c: &mut Call<'_>, code: u16, reason: &[u8], name: &[u8]) -> Flow {
    let qop = match parse_qop(c.str(1).map_or(&[][..], |q| q)) {
        Ok(qop) => qop,
        Err(word) => {
            tracing::error!("challenge: qop \"{word}\" is not auth, auth-int or auth,auth-int");
            return FALSE;
        }
    };
    let algorithms = match parse_algorithms(c.str(2).map_or(&[][..], |a| a)) {
        Ok(list) => list,
        Err(word) => {
            tracing::error!("challenge: algorithm \"{word}\" is not MD5, SHA-256 or SHA-512-256");
            return FALSE;
        }
    };
    let shard = c.ctx.shard.clone();
    let auth = shard.kernel.state::<Auth>();
    let given = c.str(0).cloned().unwrap_or_default();
    let Some(realm) = api::realm(auth, &c.ctx.msg, &given) else {
        tracing::warn!("challenge: the request has no domain to use as realm");
        return FALSE;
    };
    let stale = c.ctx.note::<Outcome>().is_some_and(|o| o.stale);
    let offered = algorithms.iter().fold(Offered::default(), |o, a| o.with(*a));
    let nonce = auth.nonces.make(shard.kernel.unix(), offered);
    let mut headers = Vec::with_capacity(algorithms.len() * 192);
    for algorithm in algorithms {
        headers.extend_from_slice(name);
        let challenge = Challenge {
            realm: Cow::Borrowed(&realm),
            nonce: Cow::Borrowed(&nonce),
            opaque: None,
            algorithm,
            auth: qop.0,
            auth_int: qop.1,
            stale,
        };
        challenge.write(&mut headers);
        headers.extend_from_slice(b"\r\n");
    }
    if signaling::reply(c.ctx, code, reason, &headers, None) { Flow::Value(0) } else { FALSE }
}

/// Whether `auth` and `auth-int` are offered. Older scripts write `"1"` and `"0"`.
fn parse_qop(text: &[u8]) -> Result<(bool, bool), String> {
    let mut offers = (false, false);
    for word in words(text) {
        match word {
            b"0" => {}
            b"1" => offers.0 = true,
            _ if word.eq_ignore_ascii_case(Qop::Auth.name().as_bytes()) => offers.0 = true,
            _ if word.eq_ignore_ascii_case(Qop::AuthInt.name().as_bytes()) => offers.1 = true,
            _ => return Err(String::from_utf8_lossy(word).into_owned()),
        }
    }
    Ok(offers)
}

fn parse_algorithms(text: &[u8]) -> Result<Vec<Algorithm>, String> {
    let mut list = Vec::new();
    for word in words(text) {
        let algorithm =
            Algorithm::from_name(word).ok_or_else(|| String::from_utf8_lossy(word).into_owned())?;
        if !list.contains(&algorithm) {
            list.push(algorithm);
        }
    }
    if list.is_empty() {
        list.push(Algorithm::Md5);
    }
    Ok(list)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|w| !w.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qop_is_read_in_todays_and_in_older_spelling() {
        assert_eq!(parse_qop(b""), Ok((false, false)));
        assert_eq!(parse_qop(b"0"), Ok((false, false)));
        assert_eq!(parse_qop(b"1"), Ok((true, false)));
        assert_eq!(parse_qop(b"auth, auth-int"), Ok((true, true)));
        assert!(parse_qop(b"yes").is_err());
    }

    #[test]
    fn algorithms_keep_the_order_of_the_script() {
        use Algorithm::*;
        assert_eq!(parse_algorithms(b""), Ok(vec![Md5]));
        assert_eq!(parse_algorithms(b"SHA-512-256,SHA-256,MD5,md5"), Ok(vec![Sha512_256, Sha256, Md5]));
        assert!(parse_algorithms(b"CRC").is_err());
    }
}
