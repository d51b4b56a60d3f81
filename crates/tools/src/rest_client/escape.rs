//! Percent-encoding (RFC 3986 §2.1): everything but unreserved characters (§2.3) is escaped.

use bytes::Bytes;
use switchroom_script::Value;

/// `{rest.escape}`
pub(super) fn escape(value: &Value, _: &[Value]) -> Value {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let Some(text) = value.to_bytes() else { return Value::Null };
    let mut out = Vec::with_capacity(text.len() + 16);
    for byte in text.iter() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(*byte),
            other => {
                out.extend([b'%', DIGITS[usize::from(other >> 4)], DIGITS[usize::from(other & 15)]]);
            }
        }
    }
    Value::Str(Bytes::from(out))
}

/// `{rest.unescape}`; a `%` that no two digits follow stays.
pub(super) fn unescape(value: &Value, _: &[Value]) -> Value {
    let Some(text) = value.to_bytes() else { return Value::Null };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = &text[..];
    while let Some((&first, tail)) = rest.split_first() {
        let digit = |i: usize| tail.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    Value::Str(Bytes::from(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_stay_as_they_are() {
        let escaped = escape(&Value::from("call@example.com&safe=false ~é"), &[]);
        assert_eq!(escaped.to_bytes().unwrap(), "call%40example.com%26safe%3Dfalse%20~%C3%A9");
        assert_eq!(unescape(&escaped, &[]).to_bytes().unwrap(), "call@example.com&safe=false ~é");
        assert_eq!(unescape(&Value::from("1%2b1%3D2%21%%4"), &[]).to_bytes().unwrap(), "1+1=2!%%4");
    }
}
