//! Web Push: RFC 8030 with VAPID (RFC 8292) and, where the device gave its keys, an encrypted message (RFC 8291).
//!
//! `pn-prid` is the address of the subscription (RFC 8599 §10.3); `pn-param` is its key and secret, `p256dh.auth` in
//! base64url. Without them an empty push is sent.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use switchroom_kernel::Kernel;
use switchroom_kernel::ports::http::{HttpAnswer, HttpCall, HttpVersion};
use switchroom_kernel::ports::net::BoxFuture;

use super::keys::{Key, base64url, from_base64url};
use super::service::{Calls, Job, Refusal, Service, Verdict, common, header};

/// A token lasts at most a day (RFC 8292 §2); it is made again after half of that.
const TOKEN_SECONDS: u64 = 12 * 3600;
/// Tokens kept, one for each origin.
const MAX_TOKENS: usize = 64;

/// The service.
pub(super) struct WebPush {
    /// Our key, which the application gave to the browser.
    pub key: Key,
    /// How to reach us: `mailto:` or `https:`.
    pub subject: String,
    /// Hosts that pushes go to, with what is below them. The address comes from the phone, so it is not taken as it is.
    pub hosts: Vec<String>,
    /// Tokens in use by origin, and when they were made.
    pub tokens: Mutex<Vec<(String, String, u64)>>,
    /// Settings of calls.
    pub calls: Calls,
}

impl WebPush {
    fn token(&self, origin: &str, now: u64) -> Result<String, Refusal> {
        let mut tokens = self.tokens.lock();
        if let Some((_, text, _)) =
            tokens.iter().find(|(o, _, made)| o == origin && now < made + TOKEN_SECONDS)
        {
            return Ok(text.clone());
        }
        let claims = json!({"aud": origin, "exp": now + 2 * TOKEN_SECONDS - 60, "sub": self.subject});
        let text = self.key.token(None, &claims).map_err(Refusal::Never)?;
        tokens.retain(|(o, ..)| o != origin);
        if tokens.len() >= MAX_TOKENS {
            tokens.remove(0);
        }
        tokens.push((origin.to_owned(), text.clone(), now));
        Ok(text)
    }

    /// `https://host[:port]` of an allowed address.
    fn origin(&self, url: &str) -> Option<String> {
        let authority = url.strip_prefix("https://")?.split(['/', '?', '#']).next()?;
        if authority.contains('@') {
            return None;
        }
        let host = authority.split(':').next()?.to_ascii_lowercase();
        let below = |allowed: &String| {
            host.strip_suffix(allowed.as_str()).is_some_and(|h| h.is_empty() || h.ends_with('.'))
        };
        self.hosts.iter().any(below).then(|| format!("https://{authority}"))
    }

    fn make(&self, job: &Job, now: u64) -> Result<HttpCall, Refusal> {
        let url = job.device.prid.clone();
        let origin = self.origin(&url).ok_or_else(|| {
            Refusal::Never(format!("{url} is not below a host of webpush_hosts ({})", self.hosts.join(", ")))
        })?;
        let token = self.token(&origin, now)?;
        let mut headers = vec![
            header("authorization", format!("vapid t={token}, k={}", base64url(self.key.public()))),
            header("ttl", self.calls.ttl.to_string()),
            header("urgency", "high"),
            header("topic", job.collapse()),
        ];
        let body = match job.device.param.split_once('.') {
            Some((key, secret)) => {
                let keys = from_base64url(key).zip(from_base64url(secret));
                let (key, secret) =
                    keys.ok_or_else(|| Refusal::Never("pn-param is not p256dh.auth in base64url".into()))?;
                headers.push(header("content-encoding", "aes128gcm"));
                headers.push(header("content-type", "application/octet-stream"));
                encrypt(job.payload().to_string().as_bytes(), &key, &secret).map_err(Refusal::Never)?.into()
            }
            None => Bytes::new(),
        };
        Ok(self.calls.post(url, headers, body, HttpVersion::Auto))
    }
}

impl Service for WebPush {
    fn name(&self) -> &'static str {
        "webpush"
    }

    fn call(&self, kernel: &Arc<Kernel>, job: &Job) -> BoxFuture<Result<HttpCall, Refusal>> {
        let made = self.make(job, kernel.unix());
        Box::pin(async move { made })
    }

    fn verdict(&self, answer: &HttpAnswer) -> Verdict {
        match answer.status {
            404 | 410 => Verdict::Gone,
            _ => common(answer),
        }
    }
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// Derive `out` from a secret (RFC 5869).
fn derive(salt: &[u8], secret: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), String> {
    let key = Salt::new(HKDF_SHA256, salt).extract(secret);
    let okm = key.expand(info, Len(out.len())).map_err(|_| "no key can be derived")?;
    okm.fill(out).map_err(|_| "no key can be derived".into())
}

/// One record of `aes128gcm` (RFC 8188 §2) for the holder of `receiver` and `secret` (RFC 8291 §3.4).
fn encrypt(text: &[u8], receiver: &[u8], secret: &[u8]) -> Result<Vec<u8>, String> {
    if receiver.len() != 65 || receiver.first() != Some(&4) || secret.len() != 16 {
        return Err("p256dh is an uncompressed P-256 point of 65 bytes, auth has 16".into());
    }
    let random = SystemRandom::new();
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(|_| "no key can be made")?;
    let public = own.compute_public_key().map_err(|_| "no key can be made")?;
    let mut shared = [0; 32];
    agree_ephemeral(own, &UnparsedPublicKey::new(&ECDH_P256, receiver), |s| shared.copy_from_slice(s))
        .map_err(|_| "p256dh is no point of P-256")?;
    let mut salt = [0; 16];
    random.fill(&mut salt).map_err(|_| "no random number")?;
    let (key, nonce) = content_key(&salt, &shared, receiver, public.as_ref(), secret)?;
    let key = UnboundKey::new(&AES_128_GCM, &key).map_err(|_| "no key can be made")?;
    let mut sealed = text.to_vec();
    // The mark of the last record.
    sealed.push(2);
    LessSafeKey::new(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
        .map_err(|_| "the message cannot be encrypted")?;
    let mut out = salt.to_vec();
    out.extend_from_slice(&4096u32.to_be_bytes());
    out.push(public.as_ref().len() as u8);
    out.extend_from_slice(public.as_ref());
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// Key and nonce of the content (RFC 8291 §3.3, §3.4).
fn content_key(
    salt: &[u8],
    shared: &[u8],
    receiver: &[u8],
    sender: &[u8],
    secret: &[u8],
) -> Result<([u8; 16], [u8; 12]), String> {
    let (mut input, mut key, mut nonce) = ([0; 32], [0; 16], [0; 12]);
    derive(secret, shared, &[b"WebPush: info\0", receiver, sender], &mut input)?;
    derive(salt, &input, &[b"Content-Encoding: aes128gcm\0"], &mut key)?;
    derive(salt, &input, &[b"Content-Encoding: nonce\0"], &mut nonce)?;
    Ok((key, nonce))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8291 appendix A: the values it gives for one message.
    #[test]
    fn keys_are_those_of_the_rfc() {
        let b = |t: &str| from_base64url(t).unwrap();
        let shared = b("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs");
        let receiver =
            b("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4");
        let sender =
            b("BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8");
        let (key, nonce) = content_key(
            &b("DGv6ra1nlYgDCS1FRnbzlw"),
            &shared,
            &receiver,
            &sender,
            &b("BTBZMqHH6r4Tts7J_aSIgg"),
        )
        .unwrap();
        assert_eq!(base64url(&key), "oIhVW04MRdy2XN9CiKLxTg");
        assert_eq!(base64url(&nonce), "4h_95klXJ5E_qnoN");
    }

    #[test]
    fn an_address_outside_of_the_list_is_refused() {
        let key = Key::es256(&super::super::keys::tests::fresh_pem()).unwrap();
        let calls = Calls { timeout: std::time::Duration::from_secs(1), ttl: 30, tls: Arc::default() };
        let w = WebPush {
            key,
            subject: "mailto:x@example.org".into(),
            hosts: vec!["push.example.org".into()],
            tokens: Mutex::default(),
            calls,
        };
        assert_eq!(
            w.origin("https://a.push.example.org:8443/x/y").unwrap(),
            "https://a.push.example.org:8443"
        );
        for bad in [
            "http://push.example.org/",
            "https://evilpush.example.org/",
            "https://push.example.org@10.0.0.1/",
            "https://10.0.0.1/",
        ] {
            assert!(w.origin(bad).is_none(), "{bad}");
        }
    }
}
