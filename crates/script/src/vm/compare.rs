//! Comparison, arithmetic and regular expressions of the language.
//!
//! Strings compare without case. A literal integer is not compared with a string, but an integer, which also prints
//! as a string, may be compared with a string literal. Nothing equals only nothing.

use std::borrow::Cow;
use std::cmp::Ordering;

use bytes::Bytes;
use regex::bytes::{Regex, RegexBuilder};

use super::eval::MAX_STRING;
use crate::parse::{BinOp, CmpOp};
use crate::value::Value;

/// Bound on a compiled regular expression, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// Why a comparison or a computation has no result.
pub(super) type Problem = &'static str;

/// Compares with a literal or, when `fixed` is false, with another variable.
pub(super) fn compare(left: &Value, op: CmpOp, right: &Value, fixed: bool) -> Result<bool, Problem> {
    let ordering = match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return Ok(compare_null(left, op, right)),
        (Value::Str(a), Value::Str(b)) if op == CmpOp::Eq => return Ok(a.eq_ignore_ascii_case(b)),
        (Value::Str(a), Value::Str(b)) if op == CmpOp::Ne => return Ok(!a.eq_ignore_ascii_case(b)),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Str(a), Value::Str(b)) => compare_text(a, b),
        (Value::Int(a), Value::Str(b)) => compare_text(itoa::Buffer::new().format(*a).as_bytes(), b),
        (Value::Str(_), Value::Int(_)) if fixed => return Err("a string is compared with a number"),
        (Value::Str(a), Value::Int(b)) => compare_text(a, itoa::Buffer::new().format(*b).as_bytes()),
    };
    Ok(match op {
        CmpOp::Eq => ordering == Ordering::Equal,
        CmpOp::Ne => ordering != Ordering::Equal,
        CmpOp::Lt => ordering == Ordering::Less,
        CmpOp::Gt => ordering == Ordering::Greater,
        CmpOp::Le => ordering != Ordering::Greater,
        CmpOp::Ge => ordering != Ordering::Less,
        CmpOp::Match | CmpOp::NoMatch => return Err("a regular expression is compared like a value"),
    })
}

/// Nothing equals nothing and differs from everything else; every other comparison with it is false.
pub(super) fn compare_null(left: &Value, op: CmpOp, right: &Value) -> bool {
    match op {
        CmpOp::Eq => left.is_null() && right.is_null(),
        CmpOp::Ne | CmpOp::NoMatch => left.is_null() != right.is_null(),
        _ => false,
    }
}

/// Order of two texts without regard to ASCII case.
fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase))
}

/// Computes one operator of an expression. A problem leaves the value that the run goes on with.
pub(super) fn binary(op: BinOp, left: Value, right: Value) -> (Value, Option<Problem>) {
    if op == BinOp::Add {
        match (&left, &right) {
            (Value::Str(a), _) => return join(a, &right),
            (Value::Null, Value::Str(_)) => return (right, None),
            (Value::Null, Value::Null) => return (Value::Null, None),
            _ => {}
        }
    }
    let int = |v: &Value| match v {
        Value::Int(n) => Some(*n),
        Value::Null => Some(0),
        Value::Str(_) => None,
    };
    let (Some(a), Some(b)) = (int(&left), int(&right)) else {
        return (Value::Int(0), Some("arithmetic with a string"));
    };
    match (op, b) {
        (BinOp::Div | BinOp::Mod, 0) => (Value::Int(0), Some("division by zero")),
        _ => (Value::Int(arithmetic(op, a, b)), None),
    }
}

/// `target op= value`: both of one kind, and neither nothing.
pub(super) fn assign_with(op: BinOp, left: Value, right: Value) -> Result<Value, Problem> {
    match (&left, &right) {
        (Value::Null, _) | (_, Value::Null) => Err("an operand of the assignment is NULL"),
        (Value::Str(_), Value::Str(_)) if op != BinOp::Add => Err("arithmetic with a string"),
        (Value::Int(_), Value::Int(_)) | (Value::Str(_), Value::Str(_)) => match binary(op, left, right) {
            (value, None) => Ok(value),
            (_, Some(problem)) => Err(problem),
        },
        _ => Err("a string and a number in one assignment"),
    }
}

fn arithmetic(op: BinOp, a: i64, b: i64) -> i64 {
    match op {
        BinOp::Add => a.wrapping_add(b),
        BinOp::Sub => a.wrapping_sub(b),
        BinOp::Mul => a.wrapping_mul(b),
        BinOp::Div => a.wrapping_div(b),
        BinOp::Mod => a.wrapping_rem(b),
        BinOp::Or => a | b,
        BinOp::And => a & b,
        BinOp::Xor => a ^ b,
        BinOp::Shl => a.wrapping_shl(b as u32),
        BinOp::Shr => a.wrapping_shr(b as u32),
    }
}

fn join(a: &Bytes, right: &Value) -> (Value, Option<Problem>) {
    let mut digits = itoa::Buffer::new();
    let b: &[u8] = match right {
        Value::Null => return (Value::Str(a.clone()), None),
        Value::Str(b) => b,
        Value::Int(n) => digits.format(*n).as_bytes(),
    };
    if a.len() + b.len() > MAX_STRING {
        return (Value::Str(a.clone()), Some("a string grew too long"));
    }
    let mut out = Vec::with_capacity(a.len() + b.len());
    out.extend_from_slice(a);
    out.extend_from_slice(b);
    (Value::Str(out.into()), None)
}

/// Compiles a POSIX extended expression, ignoring case and unanchored.
pub fn posix_regex(text: &[u8]) -> Result<Regex, String> {
    posix_regex_with(text, true, true)
}

/// The same with a choice about case, and whether lines count: where `.` and `[^x]` do not match a line's end, `^` and `$`
/// match at the ends of every line.
pub fn posix_regex_with(text: &[u8], ignore_case: bool, dot_newline: bool) -> Result<Regex, String> {
    RegexBuilder::new(&translate(text, !dot_newline))
        .case_insensitive(ignore_case)
        .dot_matches_new_line(dot_newline)
        .multi_line(!dot_newline)
        .unicode(false)
        .size_limit(MAX_REGEX)
        .dfa_size_limit(MAX_REGEX)
        .build()
        .map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => "it is too large".into(),
            other => other.to_string().lines().last().unwrap_or("it is malformed").trim().to_string(),
        })
}

/// Rewrites what POSIX reads differently: bracket expressions with `[` or set operators inside, `\<` and `\>`, a brace
/// that counts nothing, and bytes that are no UTF-8.
fn translate(text: &[u8], lines: bool) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut i = 0;
    while i < text.len() {
        let rest = &text[i..];
        match rest {
            [b'\\', b'<' | b'>', ..] => {
                out.push_str("\\b");
                i += 2;
            }
            [b'\\', b, ..] => {
                match b {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' if !b"bBwWsSdDnrt123456789".contains(b) => {
                        out.push(*b as char);
                    }
                    _ => {
                        out.push('\\');
                        push(*b, &mut out);
                    }
                }
                i += 2;
            }
            [b'[', ..] => i += bracket(rest, lines, &mut out),
            [b'{', tail @ ..] if !counts(tail) => {
                out.push_str("\\{");
                i += 1;
            }
            [b'(', b'?', ..] => {
                out.push_str("(\\?");
                i += 2;
            }
            [b, ..] => {
                push(*b, &mut out);
                i += 1;
            }
            [] => break,
        }
    }
    out
}

/// A bracket expression; answers its length in `text`.
fn bracket(text: &[u8], lines: bool, out: &mut String) -> usize {
    out.push('[');
    let mut i = 1;
    if text.get(i) == Some(&b'^') {
        out.push('^');
        if lines {
            out.push_str("\\n");
        }
        i += 1;
    }
    let first = i;
    while let Some(&b) = text.get(i) {
        match b {
            b']' if i > first => {
                out.push(']');
                return i + 1;
            }
            b']' => out.push_str("\\]"),
            b'[' if text.get(i + 1) == Some(&b':') => {
                let end = text[i..].windows(2).position(|w| w == b":]");
                let Some(end) = end else {
                    out.push_str("\\[");
                    i += 1;
                    continue;
                };
                out.push_str(&String::from_utf8_lossy(&text[i..i + end + 2]));
                i += end + 1;
            }
            b'[' => out.push_str("\\["),
            b'&' | b'~' => {
                out.push('\\');
                out.push(b as char);
            }
            b'-' if i == first || text.get(i + 1) == Some(&b']') => out.push_str("\\-"),
            b'\\' => match text.get(i + 1) {
                // A backslash escapes no bracket here.
                Some(next)
                    if (next.is_ascii_punctuation() && *next != b']') || b"wWsSdDnrt".contains(next) =>
                {
                    out.push('\\');
                    out.push(*next as char);
                    i += 1;
                }
                _ => out.push_str("\\\\"),
            },
            _ => push(b, out),
        }
        i += 1;
    }
    i
}

/// True when `text`, behind a brace, is a repetition count.
fn counts(text: &[u8]) -> bool {
    let end = text.iter().position(|b| *b == b'}').unwrap_or(0);
    let body = &text[..end];
    !body.is_empty() && body[0].is_ascii_digit() && body.iter().all(|b| b.is_ascii_digit() || *b == b',')
}

fn push(b: u8, out: &mut String) {
    if b.is_ascii() {
        out.push(b as char);
    } else {
        let hex: Cow<'_, str> = format!("\\x{b:02x}").into();
        out.push_str(&hex);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posix_expressions_are_read_as_posix_does() {
        let yes = |re: &str, text: &str| posix_regex(re.as_bytes()).unwrap().is_match(text.as_bytes());
        assert!(yes("^sip:[0-9]{3,4}@", "SIP:123@example.com"));
        assert!(yes("[[:digit:]]+", "a1"));
        assert!(yes("[^[]x", "ax"));
        assert!(yes("[]a]", "]"));
        assert!(yes("\\<ua\\>", "the UA here"));
        assert!(yes("a.b", "a\nb"));
        assert!(yes("a{b", "a{b"));
        assert!(yes("^\\+?00", "+0049"));
        assert!(yes("[\\.]", "."));
        assert!(yes("^[\\]b", "\\b"));
        assert!(yes("a[^z]b", "a\nb"));
        let lines = posix_regex_with(b"^b[^z]*", true, false).unwrap();
        assert_eq!(lines.find(b"a\nbc\nd").map(|m| m.range()), Some(2..4));
        assert!(!yes("^b", "a\nb"));
        assert!(posix_regex(b"(").is_err());
        assert!(posix_regex(b"(a{1000}){1000}").is_err());
    }

    #[test]
    fn nothing_equals_only_nothing() {
        use CmpOp::*;
        let n = Value::Null;
        let s = Value::from("a");
        assert_eq!(compare(&n, Eq, &n, false), Ok(true));
        assert_eq!(compare(&n, Ne, &n, false), Ok(false));
        assert_eq!(compare(&n, Ne, &s, true), Ok(true));
        assert_eq!(compare(&s, Eq, &n, false), Ok(false));
        assert_eq!(compare(&s, Lt, &n, false), Ok(false));
        assert_eq!(compare(&n, Ge, &s, false), Ok(false));
    }

    #[test]
    fn kinds_are_compared_as_the_language_says() {
        use CmpOp::*;
        assert_eq!(compare(&"ABC".into(), Eq, &"abc".into(), true), Ok(true));
        assert_eq!(compare(&"abd".into(), Gt, &"ABC".into(), true), Ok(true));
        assert_eq!(compare(&5.into(), Eq, &"5".into(), true), Ok(true));
        assert!(compare(&"5".into(), Eq, &5.into(), true).is_err());
        assert_eq!(compare(&"5".into(), Eq, &5.into(), false), Ok(true));
        assert_eq!(compare(&10.into(), Gt, &9.into(), false), Ok(true));
    }

    #[test]
    fn plus_joins_strings_and_treats_nothing_as_empty() {
        assert_eq!(binary(BinOp::Add, "a".into(), 1.into()), ("a1".into(), None));
        assert_eq!(binary(BinOp::Add, "a".into(), Value::Null), ("a".into(), None));
        assert_eq!(binary(BinOp::Add, 1.into(), Value::Null), (1.into(), None));
        assert_eq!(binary(BinOp::Add, 1.into(), "a".into()).0, 0.into());
        assert_eq!(binary(BinOp::Div, 1.into(), 0.into()), (0.into(), Some("division by zero")));
        assert!(assign_with(BinOp::Add, Value::Null, 1.into()).is_err());
        assert!(assign_with(BinOp::Div, 1.into(), 0.into()).is_err());
        assert_eq!(assign_with(BinOp::Add, "a".into(), "b".into()), Ok("ab".into()));
    }
}
