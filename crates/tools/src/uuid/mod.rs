//! Universally unique identifiers (RFC 9562): random ones, and those made from a name.
//!
//! Left out: version 1, which shows the address of the network card and the time.

use md5::{Digest, Md5};
use sha1::Sha1;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module, Variable};
use switchroom_script::Value;

use crate::random;
use crate::variables::put;

/// The module.
pub static MODULE: Module = Module {
    name: "uuid",
    summary: "Universally unique identifiers",
    functions: &[Function::new("uuid", &["var,[int],[str],[str]"], "*", uuid, "Make an identifier")],
    variables: &[Variable::ro("uuid", |_, _| Value::str(random_one()), "A new random identifier")
        .maybe_named(|names, name| names.intern(name))],
    ..Module::EMPTY
};

/// `uuid(out[, version][, namespace][, name])`
fn uuid(c: &mut Call<'_>) -> Flow {
    let Some(out) = c.var(0) else { return FALSE };
    let named = |c: &Call<'_>| Some((read(&c.text(2))?, c.str(3)?.to_vec()));
    let made = match (c.int(1).unwrap_or(0), named(c)) {
        (0 | 4, _) => Ok(random_one()),
        (3, Some((space, name))) => {
            Ok(from_hash(&Md5::new().chain_update(space).chain_update(name).finalize(), 3))
        }
        (5, Some((space, name))) => {
            Ok(from_hash(&Sha1::new().chain_update(space).chain_update(name).finalize(), 5))
        }
        (3 | 5, None) => Err("versions 3 and 5 need a namespace that is a UUID, and a name".to_owned()),
        (other, _) => Err(format!("there is no version {other} here (0, 3, 4, 5)")),
    };
    match made {
        Ok(text) => {
            if put(c.ctx, "uuid", &out, Value::str(text)) {
                TRUE
            } else {
                FALSE
            }
        }
        Err(e) => {
            tracing::error!("uuid(): {e}");
            FALSE
        }
    }
}

fn random_one() -> String {
    let bits = (u128::from(random::bits()) << 64) | u128::from(random::bits());
    from_hash(&bits.to_be_bytes(), 4)
}

/// The first 16 bytes with version and variant set (RFC 9562 §4).
fn from_hash(hash: &[u8], version: u8) -> String {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(hash) {
        *to = *from;
    }
    bytes[6] = bytes[6] & 0x0f | version << 4;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for half in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(half)]));
        }
    }
    text
}

fn read(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let number = (digits.len() == 32).then(|| u128::from_str_radix(&digits, 16).ok())??;
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_the_examples_of_the_rfc() {
        // RFC 9562 appendix A.2 and A.4: the DNS namespace and "www.example.com".
        let space = read("6ba7b810-9dad-11d1-80b4-00c04fd430c8").unwrap();
        let md5 = from_hash(&Md5::new().chain_update(space).chain_update("www.example.com").finalize(), 3);
        assert_eq!(md5, "5df41881-3aed-3515-88a7-2f4a814cf09e");
        let sha = from_hash(&Sha1::new().chain_update(space).chain_update("www.example.com").finalize(), 5);
        assert_eq!(sha, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    }

    #[test]
    fn random_ones_differ_and_say_so() {
        let one = random_one();
        assert_ne!(one, random_one());
        assert_eq!((one.len(), &one[14..15]), (36, "4"));
    }
}
