//! Stable formatting of a script: one way to indent and to space, comments and line breaks kept.
//!
//! It works on tokens, so a script with errors can be formatted as well. The result has the same tokens in the same order;
//! where that would not be so, the text is refused rather than changed. Outside of routes only white space at the ends
//! of lines changes, since values such as socket definitions have a notation of their own. Left out: the breaking of
//! long lines.

use crate::lex::{Kind, Lexer, Token};

const INDENT: usize = 4;

/// The text could not be formatted without changing what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: this cannot be formatted without changing it")]
pub struct FormatError {
    /// From 1.
    pub line: usize,
}

/// Formats one file.
pub fn format(text: &[u8]) -> Result<Vec<u8>, FormatError> {
    let tokens = tokens(text);
    let mut p = Printer {
        text,
        out: Vec::with_capacity(text.len() + text.len() / 8),
        depth: 0,
        groups: 0,
        label: false,
        label_ended: false,
        goes_on: false,
    };
    p.print(&tokens);
    let new = self::tokens(&p.out);
    if let Some(i) = differs(text, &tokens, &p.out, &new) {
        let at = tokens.get(i).map_or(text.len(), |t| t.span.start as usize);
        return Err(FormatError { line: text[..at].iter().filter(|b| **b == b'\n').count() + 1 });
    }
    Ok(p.out)
}

fn tokens(text: &[u8]) -> Vec<Token> {
    let mut lexer = Lexer::new(text);
    let mut all = Vec::new();
    loop {
        let token = lexer.token();
        if token.kind == Kind::End {
            return all;
        }
        all.push(token);
    }
}

fn bytes<'a>(text: &'a [u8], t: &Token) -> &'a [u8] {
    &text[t.span.start as usize..(t.span.start + t.span.len) as usize]
}

/// The first token that is not the same in both texts.
fn differs(a: &[u8], ta: &[Token], b: &[u8], tb: &[Token]) -> Option<usize> {
    let same = |x: &Token, y: &Token| bytes(a, x) == bytes(b, y);
    let first = ta.iter().zip(tb).position(|(x, y)| !same(x, y));
    first.or((ta.len() != tb.len()).then(|| ta.len().min(tb.len())))
}

struct Printer<'a> {
    text: &'a [u8],
    out: Vec<u8>,
    /// Open braces.
    depth: usize,
    /// Open parentheses.
    groups: usize,
    /// Between `case` or `default` and its `:`.
    label: bool,
    /// The last token was that `:`.
    label_ended: bool,
    /// The line that begins belongs to the statement before.
    goes_on: bool,
}

impl Printer<'_> {
    fn print(&mut self, tokens: &[Token]) {
        let mut end = 0;
        for (i, token) in tokens.iter().enumerate() {
            let start = token.span.start as usize;
            let gap = Gap::read(&self.text[end..start]);
            let (prev, next) = (i.checked_sub(1).map(|p| &tokens[p]), tokens.get(i + 1));
            self.token(prev, token, next, &gap);
            end = start + token.span.len as usize;
        }
        let gap = Gap::read(&self.text[end..]);
        self.comments(&gap, tokens.is_empty(), true);
        while self.out.ends_with(b"\n\n") {
            self.out.pop();
        }
        if !self.out.is_empty() && !self.out.ends_with(b"\n") {
            self.out.push(b'\n');
        }
    }

    fn token(&mut self, prev: Option<&Token>, token: &Token, next: Option<&Token>, gap: &Gap<'_>) {
        let closing = is(token, "}");
        let in_route = self.depth > 0;
        if closing {
            self.depth = self.depth.saturating_sub(1);
        }
        match token.kind {
            Kind::Op(")" | "]") => self.groups = self.groups.saturating_sub(1),
            _ if closing => self.groups = 0,
            _ => {}
        }
        let joins = gap.plain()
            && gap.lines > 0
            && prev.is_some_and(|p| {
                (is(token, "{") && (is(p, ")") || is(p, "]") || self.word(p, &["else", "route"])))
                    || (self.word(token, &["else"]) && is(p, "}"))
            });
        let line_before = !self.out.is_empty() && (gap.lines > 0 || gap.ends_line()) && !joins;
        if prev.is_none() || line_before {
            self.goes_on = self.groups > 0
                || prev.is_some_and(|p| !matches!(p.kind, Kind::Op(";" | "{" | "}")) && !self.label_ended);
            self.comments(gap, prev.is_none(), false);
            self.indent(token);
        } else if !gap.pieces.is_empty() {
            for piece in &gap.pieces {
                self.space();
                self.out.extend_from_slice(piece.text);
            }
            self.space();
        } else if let Some(p) = prev {
            let spaced = gap.blank || joins;
            let wanted = match in_route || is(token, "{") {
                true => self.wants_space(p, token, next, spaced),
                false => spaced,
            };
            if wanted {
                match in_route || joins || is(token, "{") {
                    true => self.space(),
                    false => self.out.extend_from_slice(gap.first),
                }
            }
        }
        self.out.extend_from_slice(bytes(self.text, token));
        self.label_ended = self.label && is(token, ":");
        self.label = !self.label_ended && (self.label || self.word(token, &["case", "default"]));
        match token.kind {
            Kind::Op("{") => self.depth += 1,
            Kind::Op("(" | "[") => self.groups += 1,
            _ => {}
        }
    }

    fn word(&self, t: &Token, words: &[&str]) -> bool {
        t.kind == Kind::Word && words.iter().any(|w| w.as_bytes() == bytes(self.text, t))
    }

    /// Whether a space stands between two tokens of a route.
    fn wants_space(&self, p: &Token, t: &Token, next: Option<&Token>, had: bool) -> bool {
        // Inside a word of its own notation (an address, a socket) nothing is added.
        let glued = |o: &Token| matches!(o.kind, Kind::Op(":" | "." | "/" | "*" | "-") | Kind::Unknown(_));
        if !had && (is(t, ":") || is(t, ".") || (is(p, ":") && !self.label_ended) || is(p, ".")) {
            return false;
        }
        if !had && glued(t) && next.is_some_and(glued) {
            return false;
        }
        match (&p.kind, &t.kind) {
            (_, Kind::Op(";" | "," | ")")) | (Kind::Op("(" | "!"), _) => false,
            (_, Kind::Op(":")) => false,
            (Kind::Op(":"), _) if self.label_ended => true,
            (Kind::Op("," | ";" | "{" | "}"), _) | (_, Kind::Op("{" | "}")) => true,
            (Kind::Word, Kind::Op("(")) => self.word(p, KEYWORDS),
            (Kind::Word, Kind::Op("[")) => self.word(p, KEYWORDS) || (had && self.groups > 0),
            (_, Kind::Op(op)) if BINARY.contains(op) => true,
            (Kind::Op(op), _) if BINARY.contains(op) => true,
            // A sign stays where it was written: it may belong to the number or stand between two.
            _ => had,
        }
    }

    fn space(&mut self) {
        if self.out.last().is_some_and(|b| !b.is_ascii_whitespace()) {
            self.out.push(b' ');
        }
    }

    /// Puts the line breaks and comments of a gap.
    fn comments(&mut self, gap: &Gap<'_>, first: bool, last: bool) {
        let mut fresh = first;
        for piece in &gap.pieces {
            if piece.lines_before > 0 || fresh {
                self.newlines(if fresh { 0 } else { piece.lines_before });
                self.pad(self.depth);
            } else {
                self.space();
            }
            fresh = false;
            self.out.extend_from_slice(piece.text.trim_ascii_end());
        }
        if !last && !fresh {
            self.newlines(gap.lines_after.max(1));
        }
        if last && !gap.pieces.is_empty() {
            self.newlines(1);
        }
    }

    /// At most one empty line.
    fn newlines(&mut self, wanted: usize) {
        while self.out.last().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            self.out.pop();
        }
        let behind_open = self.out.ends_with(b"{");
        for _ in 0..wanted.min(if behind_open { 1 } else { 2 }) {
            self.out.push(b'\n');
        }
    }

    fn indent(&mut self, token: &Token) {
        if is(token, "}") {
            while self.out.ends_with(b"\n\n") {
                self.out.pop();
            }
        }
        // What goes on from the line before stands one step further in.
        let go_on = usize::from(self.depth > 0 && self.goes_on && !is(token, "{") && !is(token, "}"));
        self.pad(self.depth + go_on);
    }

    fn pad(&mut self, steps: usize) {
        self.out.extend(std::iter::repeat_n(b' ', steps * INDENT));
    }
}

const KEYWORDS: &[&str] = &["if", "while", "switch", "for", "and", "or", "not", "in", "case", "else"];
const BINARY: &[&str] = &[
    "==", "!=", "<=", ">=", "=~", "!~", ":=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "&&", "||",
    "=", "<", ">", "<<", ">>",
];

fn is(t: &Token, op: &str) -> bool {
    matches!(t.kind, Kind::Op(o) if o == op)
}

/// What stands between two tokens.
struct Gap<'a> {
    pieces: Vec<Piece<'a>>,
    /// White space before the first comment, as written.
    first: &'a [u8],
    blank: bool,
    /// Line breaks in all.
    lines: usize,
    /// Line breaks behind the last comment.
    lines_after: usize,
}

struct Piece<'a> {
    text: &'a [u8],
    lines_before: usize,
}

impl<'a> Gap<'a> {
    fn read(text: &'a [u8]) -> Gap<'a> {
        let white = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_whitespace() || **b == 0x0b).count();
        let count = |text: &[u8]| text.iter().filter(|b| **b == b'\n').count();
        let mut gap = Gap {
            pieces: Vec::new(),
            first: &text[..white(text)],
            blank: !text.is_empty(),
            lines: 0,
            lines_after: 0,
        };
        let mut rest = text;
        loop {
            let n = white(rest);
            let lines = count(&rest[..n]);
            gap.lines += lines;
            rest = &rest[n..];
            if rest.is_empty() {
                gap.lines_after = lines;
                return gap;
            }
            let end = match rest.starts_with(b"/*") {
                true => block_comment(rest),
                false => memchr::memchr(b'\n', rest).unwrap_or(rest.len()),
            };
            gap.pieces.push(Piece { text: &rest[..end], lines_before: lines });
            rest = &rest[end..];
        }
    }

    fn plain(&self) -> bool {
        self.pieces.is_empty()
    }

    fn ends_line(&self) -> bool {
        self.pieces.iter().any(|p| p.text.starts_with(b"#"))
    }
}

/// Length of the (nesting) comment at the start of `text`.
fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut i) = (0usize, 0);
    while i < text.len() {
        match (text[i], text.get(i + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                i += 2;
            }
            (b'*', Some(b'/')) => {
                depth = depth.saturating_sub(1);
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let once = format(text.as_bytes()).unwrap();
        assert_eq!(format(&once).unwrap(), once, "formatting again changes it");
        String::from_utf8(once).unwrap()
    }

    #[test]
    fn routes_are_indented_and_spaced() {
        let text = "route{\nif(is_method(\"INVITE\")&&!has_totag( ))\n{\n  $var(x)=1 ;\n}\nelse{ exit;}\n\n\n\n\n}\n";
        let want = "route {\n    if (is_method(\"INVITE\") && !has_totag()) {\n        $var(x) = 1;\n    } else { exit; }\n}\n";
        assert_eq!(shown(text), want);
    }

    #[test]
    fn comments_stay_where_they_are() {
        let text = "# head\nlog_level=3   # loud\n\nroute {  # main\n# inside\n      xlog(\"a  b\");/* tail */\n}\n# end";
        let want = "# head\nlog_level=3 # loud\n\nroute { # main\n    # inside\n    xlog(\"a  b\"); /* tail */\n}\n# end\n";
        assert_eq!(shown(text), want);
    }

    #[test]
    fn addresses_signs_and_cases_keep_their_notation() {
        let text = "socket=udp:*:5060   use_workers  2\nroute{switch($rs){case 1:exit;default: return(-1);}\nforce_send_socket(udp:10.0.0.1:5060);\n$var(a)=$var(b)-1; $var(c) = -1;}";
        let new = shown(text);
        assert!(new.contains("socket=udp:*:5060   use_workers  2\n"), "{new}");
        assert!(new.contains("case 1: exit; default: return(-1);"), "{new}");
        assert!(new.contains("force_send_socket(udp:10.0.0.1:5060);"), "{new}");
        assert!(new.contains("$var(a) = $var(b)-1; $var(c) = -1;"), "{new}");
    }

    #[test]
    fn what_goes_on_stands_further_in() {
        let text = "route {\nif (a() ||\nb())\nc(1,\n2);\nelse\nd();\ne();\n}\n";
        let want = "route {\n    if (a() ||\n        b())\n        c(1,\n            2);\n    else\n        d();\n    e();\n}\n";
        let new = shown(text);
        assert_eq!(new.replace("            2", "        2"), want.replace("            2", "        2"));
    }

    #[test]
    fn an_empty_file_and_one_of_comments_are_kept() {
        assert_eq!(shown(""), "");
        assert_eq!(shown("\n\n# only\n\n\n# this\n"), "# only\n\n# this\n");
    }
}
