//! The class `s`, but for digests.

use bytes::Bytes;

use super::{Entry, int, owned, pick, text};
use crate::value::{Value, parse_int};
use crate::vm::MAX_STRING;

pub(super) const TABLE: &[Entry] = &[
    ("s.len", "", |s, _| Value::Int(s.len() as i64)),
    ("s.int", "", |s, _| Value::Int(leading_int(s))),
    ("s.tolower", "", |s, _| Value::Str(s.to_ascii_lowercase().into())),
    ("s.toupper", "", |s, _| Value::Str(s.to_ascii_uppercase().into())),
    ("s.reverse", "", |s, _| Value::Str(s.iter().rev().copied().collect())),
    ("s.encode.hexa", "", |s, _| Value::Str(hex(s).into())),
    ("s.decode.hexa", "", |s, _| unhex(s).map_or(Value::Null, |b| Value::Str(b.into()))),
    ("s.hex2dec", "", |s, _| hex_number(s).map_or(Value::Null, Value::Int)),
    ("s.dec2hex", "", |s, _| parse_int(s).map_or(Value::Null, |n| Value::Str(format!("{n:x}").into()))),
    ("s.date2unix", "", |s, _| date(s).map_or(Value::Null, Value::Int)),
    ("s.escape.common", "", |s, _| Value::Str(escape_common(s))),
    ("s.unescape.common", "", |s, _| Value::Str(unescape_common(s))),
    ("s.escape.user", "", |s, _| Value::Str(percent(s, b"-_.!~*'()&=+$,;?/"))),
    ("s.unescape.user", "", |s, _| unpercent(s)),
    ("s.escape.param", "", |s, _| Value::Str(percent(s, b"-_.!~*'()[]/:&+$"))),
    ("s.unescape.param", "", |s, _| unpercent(s)),
    ("s.substr", "iI", substr),
    ("s.select", "ic", select),
    ("s.index", "sI", index),
    ("s.rindex", "sI", rindex),
    ("s.fill.left", "si", |s, a| fill(s, a, true)),
    ("s.fill.right", "si", |s, a| fill(s, a, false)),
    ("s.width", "i", width),
    ("s.trim", "", |s, _| owned(trim_end(trim_start(s)))),
    ("s.triml", "", |s, _| owned(trim_start(s))),
    ("s.trimr", "", |s, _| owned(trim_end(s))),
    ("s.xor", "c", xor),
];

fn leading_int(s: &[u8]) -> i64 {
    let s = trim_start(s);
    let sign = usize::from(matches!(s.first(), Some(b'-' | b'+')));
    let digits = s[sign..].iter().take_while(|b| b.is_ascii_digit()).count().min(18);
    parse_int(&s[..sign + digits]).unwrap_or(0)
}

fn hex(s: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    s.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).collect()
}

fn nibble(b: u8) -> Option<u8> {
    (b as char).to_digit(16).map(|d| d as u8)
}

fn unhex(s: &[u8]) -> Option<Vec<u8>> {
    if !s.len().is_multiple_of(2) {
        return None;
    }
    s.chunks(2).map(|c| Some(nibble(c[0])? << 4 | nibble(c[1])?)).collect()
}

fn hex_number(s: &[u8]) -> Option<i64> {
    let s = s.strip_prefix(b"0x").or_else(|| s.strip_prefix(b"0X")).unwrap_or(s);
    i64::from_str_radix(std::str::from_utf8(s).ok()?, 16).ok()
}

/// Seconds since 1970 of a SIP Date (RFC 3261 §20.17).
fn date(s: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(s).ok()?;
    let mut words = text.split([' ', ',']).filter(|w| !w.is_empty());
    words.next()?;
    let day: i64 = words.next()?.parse().ok()?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = words.next()?;
    let month = months.iter().position(|m| m.eq_ignore_ascii_case(month))? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':');
    let mut number = || clock.next().and_then(|n| n.parse::<i64>().ok());
    let (hour, minute, second) = (number()?, number()?, number()?);
    let sane = (1..=31).contains(&day)
        && (1..=9999).contains(&year)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !sane {
        return None;
    }
    // Days since 1970 with the year beginning in March, so that the leap day is the last of a year.
    let y = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

fn escape_common(s: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(s.len() + 8);
    for &b in s {
        match b {
            b'\'' | b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            0 => out.extend_from_slice(b"\\0"),
            _ => out.push(b),
        }
    }
    out.into()
}

fn unescape_common(s: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(s.len());
    let mut i = 0;
    while i < s.len() {
        match (s[i], s.get(i + 1)) {
            (b'\\', Some(b'0')) => out.push(0),
            (b'\\', Some(b @ (b'\'' | b'"' | b'\\'))) => out.push(*b),
            (b, _) => {
                out.push(b);
                i += 1;
                continue;
            }
        }
        i += 2;
    }
    out.into()
}

fn percent(s: &[u8], keep: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(s.len() + 8);
    for &b in s {
        if b.is_ascii_alphanumeric() || keep.contains(&b) {
            out.push(b);
        } else {
            out.push(b'%');
            out.extend_from_slice(&hex(&[b]));
        }
    }
    out.into()
}

fn unpercent(s: &[u8]) -> Value {
    let mut out = Vec::with_capacity(s.len());
    let mut i = 0;
    while i < s.len() {
        if s[i] == b'%' {
            let pair = (s.get(i + 1).copied().and_then(nibble), s.get(i + 2).copied().and_then(nibble));
            let (Some(high), Some(low)) = pair else { return Value::Null };
            out.push(high << 4 | low);
            i += 3;
        } else {
            out.push(s[i]);
            i += 1;
        }
    }
    Value::Str(out.into())
}

fn substr(s: &[u8], args: &[Value]) -> Value {
    let len = s.len() as i64;
    let (Some(offset), count) = (int(args, 0), int(args, 1).unwrap_or(0)) else { return Value::Null };
    let start = if offset < 0 { len.saturating_add(offset) } else { offset };
    if start < 0 || start >= len {
        return Value::Null;
    }
    let end = match count {
        0 => len,
        n if n < 0 => len.saturating_add(n),
        n => start.saturating_add(n).min(len),
    };
    if end < start { Value::Null } else { owned(&s[start as usize..end as usize]) }
}

fn select(s: &[u8], args: &[Value]) -> Value {
    let (Some(index), Some(sep)) = (int(args, 0), text(args, 1)) else { return Value::Null };
    let Some(&sep) = sep.first() else { return Value::Null };
    let fields: smallvec::SmallVec<[&[u8]; 16]> = s.split(|b| *b == sep).collect();
    pick(&fields, index).map_or(Value::Null, owned)
}

fn find(s: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(s, what)
}

fn index(s: &[u8], args: &[Value]) -> Value {
    let Some(what) = text(args, 0) else { return Value::Null };
    let Some(from) = wrap(int(args, 1).unwrap_or(0), s.len()) else { return Value::Null };
    s.get(from..).and_then(|t| find(t, &what)).map_or(Value::Null, |i| Value::Int((i + from) as i64))
}

fn rindex(s: &[u8], args: &[Value]) -> Value {
    let Some(what) = text(args, 0) else { return Value::Null };
    let Some(before) = wrap(int(args, 1).unwrap_or(s.len() as i64), s.len()) else { return Value::Null };
    let end = before.saturating_add(what.len()).min(s.len());
    memchr::memmem::rfind(&s[..end], &what).map_or(Value::Null, |i| Value::Int(i as i64))
}

/// An offset, counted from the end and wrapping when negative.
fn wrap(offset: i64, len: usize) -> Option<usize> {
    if offset < 0 {
        return usize::try_from(offset.checked_rem_euclid(len as i64)?).ok();
    }
    usize::try_from(offset).ok()
}

fn fill(s: &[u8], args: &[Value], left: bool) -> Value {
    let (Some(token), Some(len)) = (text(args, 0), int(args, 1)) else { return Value::Null };
    let Ok(len) = usize::try_from(len) else { return owned(s) };
    if len <= s.len() || token.is_empty() {
        return owned(s);
    }
    if len > MAX_STRING {
        return Value::Null;
    }
    let count = len - s.len();
    let mut out = Vec::with_capacity(len);
    if left {
        let skip = (token.len() - count % token.len()) % token.len();
        out.extend(token.iter().cycle().skip(skip).take(count));
        out.extend_from_slice(s);
    } else {
        out.extend_from_slice(s);
        out.extend(token.iter().cycle().take(count));
    }
    Value::Str(out.into())
}

fn width(s: &[u8], args: &[Value]) -> Value {
    match int(args, 0).and_then(|n| usize::try_from(n).ok()) {
        Some(len) if len <= MAX_STRING => {
            let mut out = s[..s.len().min(len)].to_vec();
            out.resize(len, b' ');
            Value::Str(out.into())
        }
        _ => Value::Null,
    }
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

fn trim_start(s: &[u8]) -> &[u8] {
    &s[s.iter().take_while(|b| is_blank(**b)).count()..]
}

fn trim_end(s: &[u8]) -> &[u8] {
    &s[..s.len() - s.iter().rev().take_while(|b| is_blank(**b)).count()]
}

fn xor(s: &[u8], args: &[Value]) -> Value {
    match text(args, 0) {
        Some(key) if !key.is_empty() => {
            Value::Str(s.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b).collect())
        }
        _ => Value::Null,
    }
}

/// Lower-case hexadecimal digits of `s`.
pub(super) fn hex_text(s: &[u8]) -> Value {
    Value::Str(hex(s).into())
}
