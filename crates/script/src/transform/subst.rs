//! `{re.subst,/expression/replacement/flags}`, flags `i` ignore case, `s` lines do not count (`.` matches a
//! line's end, `^` and `$` only the ends of the text), `g` all.

use bytes::Bytes;
use regex::bytes::Regex;

use crate::vm::{MAX_STRING, posix_regex_with};

/// A prepared substitution.
#[derive(Debug)]
pub struct Subst {
    /// What is looked for.
    pub regex: Regex,
    /// What takes its place.
    pub replacement: Vec<Piece>,
    /// Every match instead of the first.
    pub all: bool,
}

/// A piece of a replacement.
#[derive(Debug)]
pub enum Piece {
    /// Plain text.
    Text(Vec<u8>),
    /// What a group matched; 0 is the whole match.
    Group(usize),
}

impl Subst {
    /// Reads the expression; its first character is the delimiter.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let (&delimiter, rest) = text.split_first().ok_or("the expression is missing")?;
        if delimiter.is_ascii_alphanumeric() || delimiter == b'\\' {
            return Err("an expression looks like /expression/replacement/flags".into());
        }
        let mut parts: Vec<Vec<u8>> = vec![Vec::new()];
        let mut i = 0;
        while i < rest.len() {
            let last = parts.len() - 1;
            match rest[i] {
                b'\\' if rest.get(i + 1) == Some(&delimiter) => {
                    parts[last].push(delimiter);
                    i += 1;
                }
                b'\\' if i + 1 < rest.len() => {
                    parts[last].extend_from_slice(&rest[i..i + 2]);
                    i += 1;
                }
                b if b == delimiter && parts.len() < 3 => parts.push(Vec::new()),
                b => parts[last].push(b),
            }
            i += 1;
        }
        let [expression, replacement, flags] = parts.as_slice() else {
            return Err("an expression looks like /expression/replacement/flags".into());
        };
        let mut ignore_case = false;
        let mut dot_newline = false;
        let mut all = false;
        for flag in flags.trim_ascii() {
            match flag {
                b'i' => ignore_case = true,
                b's' => dot_newline = true,
                b'g' => all = true,
                other => return Err(format!("`{}` is no flag (i, s, g)", (*other as char).escape_default())),
            }
        }
        let regex = posix_regex_with(expression, ignore_case, dot_newline)?;
        Ok(Self { regex, replacement: pieces(replacement), all })
    }

    /// The text with what matches replaced; as it is without a match.
    pub fn apply(&self, text: &Bytes) -> Bytes {
        let mut out = Vec::new();
        let mut end = 0;
        for found in self.regex.captures_iter(text) {
            let Some(whole) = found.get(0) else { break };
            out.extend_from_slice(&text[end..whole.start()]);
            for piece in &self.replacement {
                match piece {
                    Piece::Text(t) => out.extend_from_slice(t),
                    Piece::Group(n) => out.extend_from_slice(found.get(*n).map_or(b"", |m| m.as_bytes())),
                }
            }
            end = whole.end();
            if !self.all || out.len() > MAX_STRING {
                break;
            }
        }
        if end == 0 && out.is_empty() && self.regex.find(text).is_none() {
            return text.clone();
        }
        out.extend_from_slice(&text[end..]);
        out.truncate(MAX_STRING);
        out.into()
    }
}

/// A replacement with `\0` to `\9` and `\\`.
fn pieces(text: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = Vec::new();
    let mut i = 0;
    while i < text.len() {
        match (text[i], text.get(i + 1)) {
            (b'\\', Some(d @ b'0'..=b'9')) => {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Group(usize::from(d - b'0')));
                i += 1;
            }
            (b'\\', Some(b'n')) => {
                plain.push(b'\n');
                i += 1;
            }
            (b'\\', Some(b'r')) => {
                plain.push(b'\r');
                i += 1;
            }
            (b'\\', Some(b)) => {
                plain.push(*b);
                i += 1;
            }
            (b, _) => plain.push(b),
        }
        i += 1;
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    pieces
}
