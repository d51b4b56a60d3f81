//! Keys and JSON Web Tokens (RFC 7515, RFC 7519) of the push services: ES256 and RS256.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::Value as Json;

/// base64url without padding, as all these services want it.
pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// And back; padding is allowed.
pub(super) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

/// A private key that signs tokens.
pub(super) enum Key {
    /// ECDSA on P-256.
    Es256(EcdsaKeyPair),
    /// RSA.
    Rs256(RsaKeyPair),
}

impl Key {
    /// An EC key from a PEM text (PKCS#8, `BEGIN PRIVATE KEY`), as Apple gives it out.
    pub fn es256(pem: &str) -> Result<Key, String> {
        let der = der(pem)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new());
        key.map(Key::Es256).map_err(|e| format!("this is no P-256 key in PKCS#8: {e}"))
    }

    /// An RSA key from a PEM text (PKCS#8), as Google gives it out.
    pub fn rs256(pem: &str) -> Result<Key, String> {
        let key = RsaKeyPair::from_pkcs8(&der(pem)?);
        key.map(Key::Rs256).map_err(|e| format!("this is no RSA key in PKCS#8: {e}"))
    }

    /// The public key of an EC key, uncompressed.
    pub fn public(&self) -> &[u8] {
        match self {
            Key::Es256(key) => key.public_key().as_ref(),
            Key::Rs256(key) => key.public_key().as_ref(),
        }
    }

    /// A signed token. `kid` names the key where the service wants that.
    pub fn token(&self, kid: Option<&str>, claims: &Json) -> Result<String, String> {
        let algorithm = match self {
            Key::Es256(_) => "ES256",
            Key::Rs256(_) => "RS256",
        };
        let mut head = serde_json::json!({"alg": algorithm, "typ": "JWT"});
        if let (Some(kid), Json::Object(map)) = (kid, &mut head) {
            map.insert("kid".into(), kid.into());
        }
        let text = format!(
            "{}.{}",
            base64url(head.to_string().as_bytes()),
            base64url(claims.to_string().as_bytes())
        );
        let random = SystemRandom::new();
        let signature = match self {
            Key::Es256(key) => {
                key.sign(&random, text.as_bytes()).map_err(|_| "signing failed")?.as_ref().to_vec()
            }
            Key::Rs256(key) => {
                let mut out = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut out)
                    .map_err(|_| "signing failed")?;
                out
            }
        };
        Ok(format!("{text}.{}", base64url(&signature)))
    }
}

fn der(pem: &str) -> Result<Vec<u8>, String> {
    const WANTED: &str = "-----BEGIN PRIVATE KEY-----";
    let Some(body) = pem.split(WANTED).nth(1).and_then(|rest| rest.split("-----END").next()) else {
        return Err(format!(
            "there is no \"{WANTED}\" in it; convert it with: openssl pkcs8 -topk8 -nocrypt"
        ));
    };
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    STANDARD.decode(body).map_err(|e| format!("its base64 is broken: {e}"))
}

#[cfg(test)]
pub(super) mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    /// A fresh key as a PEM text.
    pub fn fresh_pem() -> String {
        let der =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
    }

    #[test]
    fn a_token_names_its_key_and_is_signed_with_it() {
        let key = Key::es256(&fresh_pem()).unwrap();
        let token = key.token(Some("K1"), &serde_json::json!({"iss": "T"})).unwrap();
        let (text, signature) = token.rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public());
        public.verify(text.as_bytes(), &from_base64url(signature).unwrap()).unwrap();
        let head = from_base64url(text.split('.').next().unwrap()).unwrap();
        assert_eq!(head, br#"{"alg":"ES256","typ":"JWT","kid":"K1"}"#);
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_reason() {
        assert!(Key::es256("x").err().unwrap().contains("BEGIN PRIVATE KEY"));
        assert!(Key::rs256(&fresh_pem()).err().unwrap().contains("no RSA key"));
    }
}
