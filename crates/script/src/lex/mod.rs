//! Bytes to tokens, one at a time, as the parser asks.
//!
//! Nothing here fails: a byte that fits nowhere becomes [`Kind::Unknown`], an unfinished string ends with the text and
//! is marked. Left out: what stands inside a variable's notation ([`scan_variable`] only finds its end).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use crate::net::Network;
use crate::source::Span;

/// A token with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub span: Span,
}

/// Kinds of tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A word; its text is the span.
    Word,
    /// A number, decimal, `0x` or leading-zero octal.
    Int(i64),
    /// A string with its escapes resolved; `closed` is false when the text ended first.
    Str {
        /// Its bytes.
        text: Bytes,
        /// The closing quote was seen.
        closed: bool,
    },
    /// A variable; its text is the span, from the `$` on.
    Var,
    /// A bare address or network.
    Net(Network),
    /// Punctuation or an operator.
    Op(&'static str),
    /// A byte that begins nothing.
    Unknown(u8),
    /// The end of the text.
    End,
}

const OPERATORS: [&str; 38] = [
    "<<", ">>", "==", "!=", "<=", ">=", "=~", "!~", ":=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=",
    "&&", "||", "<", ">", "=", "!", "+", "-", "*", "/", "%", "&", "|", "^", "~", "(", ")", "{", "}", "[",
    "]",
];
const PUNCTUATION: [&str; 4] = [";", ",", ":", "."];

/// Reads tokens from a text.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    pos: usize,
}

impl<'a> Lexer<'a> {
    /// Begins at the start of `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, pos: 0 }
    }

    /// Goes on at another place.
    pub fn seek(&mut self, pos: u32) {
        self.pos = (pos as usize).min(self.text.len());
    }

    /// The next token.
    pub fn token(&mut self) -> Token {
        self.skip_blank();
        let start = self.pos;
        let kind = self.kind();
        Token { kind, span: Span::new(start, self.pos) }
    }

    /// The next run of characters up to a blank, `;`, a quote, `#`, or one of `stops`; for host names and socket
    /// definitions. `same_line` gives nothing when the next run is on another line.
    pub fn raw_word(&mut self, stops: &[u8], same_line: bool) -> Option<Span> {
        let before = self.pos;
        self.skip_blank();
        if same_line && self.text[before..self.pos].contains(&b'\n') {
            self.pos = before;
            return None;
        }
        let start = self.pos;
        while let Some(&b) = self.text.get(self.pos) {
            if b.is_ascii_whitespace() || matches!(b, b';' | b'"' | b'\'' | b'#') || stops.contains(&b) {
                break;
            }
            self.pos += 1;
        }
        (self.pos > start).then(|| Span::new(start, self.pos))
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.pos + ahead).copied().unwrap_or(0)
    }

    fn skip_blank(&mut self) {
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => self.pos += 1,
                b'#' => {
                    let rest = &self.text[self.pos..];
                    self.pos += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                }
                b'/' if self.peek(1) == b'*' => self.skip_comment(),
                _ => return,
            }
        }
    }

    fn skip_comment(&mut self) {
        let mut depth = 0usize;
        while self.pos < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.pos += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.pos += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.pos += 1,
            }
        }
    }

    fn kind(&mut self) -> Kind {
        let Some(&b) = self.text.get(self.pos) else { return Kind::End };
        if let Some(net) = self.network() {
            return Kind::Net(net);
        }
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                self.advance_while(|b| b.is_ascii_alphanumeric() || b == b'_');
                Kind::Word
            }
            b'0'..=b'9' => self.number(),
            b'"' => self.escaped_string(),
            b'\'' => self.raw_string(),
            b'$' => {
                let end = scan_variable(self.text, self.pos, false).unwrap_or(self.pos + 1);
                self.pos = end;
                Kind::Var
            }
            _ => self.operator(b),
        }
    }

    fn advance_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.text.get(self.pos).is_some_and(|&b| keep(b)) {
            self.pos += 1;
        }
    }

    fn number(&mut self) -> Kind {
        let start = self.pos;
        if self.peek(0) == b'0' && matches!(self.peek(1), b'x' | b'X') {
            self.pos += 2;
            self.advance_while(|b| b.is_ascii_hexdigit());
            return Kind::Int(radix(&self.text[start + 2..self.pos], 16));
        }
        self.advance_while(|b| b.is_ascii_digit());
        let digits = &self.text[start..self.pos];
        let octal = digits.len() > 1 && digits[0] == b'0' && digits.iter().all(|b| *b < b'8');
        Kind::Int(radix(digits, if octal { 8 } else { 10 }))
    }

    fn operator(&mut self, b: u8) -> Kind {
        let rest = &self.text[self.pos..];
        for op in OPERATORS.iter().chain(&PUNCTUATION) {
            if rest.starts_with(op.as_bytes()) {
                self.pos += op.len();
                return Kind::Op(op);
            }
        }
        self.pos += 1;
        Kind::Unknown(b)
    }

    fn raw_string(&mut self) -> Kind {
        let rest = &self.text[self.pos + 1..];
        let (len, closed) = match memchr::memchr(b'\'', rest) {
            Some(i) => (i, true),
            None => (rest.len(), false),
        };
        self.pos += 1 + len + usize::from(closed);
        Kind::Str { text: Bytes::copy_from_slice(&rest[..len]), closed }
    }

    fn escaped_string(&mut self) -> Kind {
        self.pos += 1;
        let mut out = Vec::new();
        loop {
            let Some(&b) = self.text.get(self.pos) else {
                return Kind::Str { text: out.into(), closed: false };
            };
            self.pos += 1;
            match b {
                b'"' => return Kind::Str { text: out.into(), closed: true },
                b'\\' => self.escape(&mut out),
                _ => out.push(b),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) {
        let b = self.peek(0);
        self.pos += 1;
        match b {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b'a' => out.push(7),
            b't' => out.push(b'\t'),
            b'"' | b'\\' => out.push(b),
            b'\n' => {}
            b'x' if self.peek(0).is_ascii_hexdigit() => {
                let len = 1 + usize::from(self.peek(1).is_ascii_hexdigit());
                out.push(radix(&self.text[self.pos..self.pos + len], 16) as u8);
                self.pos += len;
            }
            b'0'..=b'7' if matches!(self.peek(0), b'0'..=b'7') => {
                let start = self.pos - 1;
                let len = 2 + usize::from(b < b'4' && matches!(self.peek(1), b'0'..=b'7'));
                out.push(radix(&self.text[start..start + len], 8) as u8);
                self.pos = start + len;
            }
            // An unknown escape keeps its backslash, so that regular expressions come through.
            _ => {
                out.push(b'\\');
                if self.pos <= self.text.len() {
                    out.push(b);
                }
            }
        }
        self.pos = self.pos.min(self.text.len());
    }

    fn network(&mut self) -> Option<Network> {
        let rest = &self.text[self.pos..];
        let (bracket, body) = match rest {
            [b'[', tail @ ..] => (true, tail),
            _ => (false, rest),
        };
        if !body.first().is_some_and(|b| b.is_ascii_hexdigit() || *b == b':') {
            return None;
        }
        let run = body.iter().take_while(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')).count();
        if run > 45 {
            return None;
        }
        let text = std::str::from_utf8(&body[..run]).ok()?;
        let ip = if text.bytes().filter(|b| *b == b':').count() >= 2 {
            IpAddr::V6(text.parse::<Ipv6Addr>().ok()?)
        } else if !bracket {
            IpAddr::V4(text.parse::<Ipv4Addr>().ok()?)
        } else {
            return None;
        };
        let mut len = run;
        if bracket {
            if body.get(run) != Some(&b']') {
                return None;
            }
            len += 2;
        }
        let mut net = Network::host(ip);
        if let Some((bits, mask_len)) = mask(&rest[len..], ip) {
            net = Network::new(ip, bits);
            len += mask_len;
        }
        if rest.get(len).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_') {
            return None;
        }
        self.pos += len;
        Some(net)
    }
}

/// A `/24` or `/255.255.255.0` after an address: its bits and its length in the text.
fn mask(rest: &[u8], ip: IpAddr) -> Option<(u8, usize)> {
    let body = rest.strip_prefix(b"/")?;
    let run = body.iter().take_while(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')).count().min(45);
    let text = std::str::from_utf8(&body[..run]).ok()?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    if let Ok(bits) = text.parse::<u8>() {
        return (bits <= max).then_some((bits, run + 1));
    }
    let bits = match text.parse::<IpAddr>().ok()? {
        IpAddr::V4(m) => u32::from(m).leading_ones(),
        IpAddr::V6(m) => u128::from(m).leading_ones(),
    };
    Some((bits as u8, run + 1))
}

fn radix(digits: &[u8], base: i64) -> i64 {
    let mut n = 0i64;
    for d in digits {
        let v = (*d as char).to_digit(base as u32).unwrap_or(0);
        n = n.saturating_mul(base).saturating_add(i64::from(v));
    }
    n
}

/// The end of the variable that begins with the `$` at `start`; `None` when no variable begins there. Inside strings
/// (`dotted`) and outside, a name may hold letters, digits, `_` and `.`; parentheses and braces are balanced.
pub fn scan_variable(text: &[u8], start: usize, in_string: bool) -> Option<usize> {
    let at = |i: usize| text.get(i).copied().unwrap_or(0);
    let mut i = start + 1;
    match at(i) {
        b'(' => balanced(text, i),
        b'$' => Some(i + 1),
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
            while at(i).is_ascii_alphanumeric() || matches!(at(i), b'_' | b'.') {
                i += 1;
            }
            // A dot at the end is punctuation of the sentence around it.
            while at(i - 1) == b'.' {
                i -= 1;
            }
            if at(i) == b'(' {
                return balanced(text, i).or((!in_string).then_some(i));
            }
            Some(i)
        }
        _ => None,
    }
}

/// The end of the parentheses that open at `start`. Inside `{}` a parenthesis counts only as part of a variable.
fn balanced(text: &[u8], start: usize) -> Option<usize> {
    // true for an open parenthesis, false for an open brace
    let mut open: Vec<bool> = Vec::new();
    let mut i = start;
    while let Some(&b) = text.get(i) {
        let in_brace = open.last() == Some(&false);
        match b {
            b'(' if !in_brace || after_name(text, i) => open.push(true),
            b')' if open.last() == Some(&true) => {
                open.pop();
                if open.is_empty() {
                    return Some(i + 1);
                }
            }
            b'{' => open.push(false),
            b'}' if in_brace => {
                open.pop();
            }
            b'\n' if !in_brace => return None,
            _ => {}
        }
        i += 1;
        if open.len() > 64 {
            return None;
        }
    }
    None
}

/// True when the parenthesis at `i` belongs to `$(` or `$name(`.
fn after_name(text: &[u8], i: usize) -> bool {
    let before = &text[..i];
    let name =
        before.iter().rev().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')).count();
    before[..before.len() - name].last() == Some(&b'$')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut out = Vec::new();
        loop {
            match lexer.token().kind {
                Kind::End => return out,
                k => out.push(k),
            }
        }
    }

    fn string(text: &str) -> Vec<u8> {
        match kinds(text).remove(0) {
            Kind::Str { text, closed: true } => text.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_are_decimal_hex_or_octal() {
        assert_eq!(kinds("10 0x1F 010 09"), [Kind::Int(10), Kind::Int(31), Kind::Int(8), Kind::Int(9)]);
    }

    #[test]
    fn comments_nest_and_hash_runs_to_the_end_of_the_line() {
        assert_eq!(kinds("1 /* a /* b */ c */ 2 # 3\n4"), [Kind::Int(1), Kind::Int(2), Kind::Int(4)]);
    }

    #[test]
    fn escapes_of_a_quoted_string_are_resolved() {
        assert_eq!(string(r#""a\n\r\t\"\\\x41\101\60""#), b"a\n\r\t\"\\AA0");
        assert_eq!(string("\"a\\\nb\""), b"ab");
        assert_eq!(string(r#""^a\.b$""#), br"^a\.b$");
        assert_eq!(string(r"'a\n'"), br"a\n");
    }

    #[test]
    fn a_variable_ends_at_its_notation() {
        let ends = |t: &str| scan_variable(t.as_bytes(), 0, false);
        assert_eq!(ends("$ru;"), Some(3));
        assert_eq!(ends("$var(a)+1"), Some(7));
        assert_eq!(ends("$(hdr(X-A)[0]{s.select,1,)}) "), Some(28));
        assert_eq!(ends("$msg.branch.uri)"), Some(15));
        assert_eq!(ends("$rU. "), Some(3));
        assert_eq!(ends("$(var(x){re.subst,/\\(a{2}/b/g})"), Some(31));
        assert_eq!(ends("$(var(x){s.index,$(var(y){s.len})})"), Some(35));
        assert_eq!(ends("$ "), None);
    }

    #[test]
    fn bare_addresses_and_networks_are_one_token() {
        let net = |t: &str| match kinds(t).remove(0) {
            Kind::Net(n) => n,
            other => panic!("{other:?}"),
        };
        assert_eq!(net("10.0.0.1"), Network::host("10.0.0.1".parse().unwrap()));
        assert_eq!(net("10.0.0.0/8"), Network::new("10.0.0.0".parse().unwrap(), 8));
        assert_eq!(net("10.0.0.0/255.0.0.0"), Network::new("10.0.0.0".parse().unwrap(), 8));
        assert_eq!(net("2001:db8::/32"), Network::new("2001:db8::".parse().unwrap(), 32));
        assert_eq!(net("[::1]"), Network::host("::1".parse().unwrap()));
    }

    #[test]
    fn an_unfinished_string_is_marked() {
        assert!(matches!(kinds("\"abc").remove(0), Kind::Str { closed: false, .. }));
    }
}
