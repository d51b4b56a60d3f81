//! Tokens to a tree, with recovery: after an error the parser goes on behind the next `;` or before the next `}`, so
//! that one pass reports everything that is wrong in a file.
//!
//! Variables and format strings stay text here; [`compile`](crate::compile) reads them when it knows the names.

pub mod ast;
mod cond;
mod globals;
mod sockets;
mod stmt;
mod top;

pub use ast::*;

use crate::diag::{self, Diagnostic, Severity};
use crate::lex::{Kind, Lexer, Token};
use crate::source::{Loader, Sources, Span};

/// Deepest nesting of blocks, conditions and expressions.
const MAX_NESTING: usize = 100;
/// After this many messages about one script the rest is left out.
const MAX_DIAGNOSTICS: usize = 500;

/// Parses a script with all it includes. Diagnostics come sorted; the tree holds whatever could be understood.
pub fn parse(name: &str, text: &[u8], loader: &mut dyn Loader) -> (Ast, Vec<Diagnostic>) {
    let mut diags = Vec::new();
    let sources = Sources::join(name, text, loader, &mut diags);
    let mut ast = Ast::default();
    let mut parser = Parser::new(&sources, diags);
    parser.script(&mut ast);
    ast.surprises = std::mem::take(&mut parser.surprises);
    let mut diags = parser.diags;
    ast.sources = sources;
    diag::sort(&mut diags);
    (ast, diags)
}

/// Parses the file at `path`, reading it and its includes through `loader`.
pub fn parse_file(path: &str, loader: &mut dyn Loader) -> Result<(Ast, Vec<Diagnostic>), String> {
    let (name, text) = loader.load(path, "").map_err(|why| format!("cannot read \"{path}\": {why}"))?;
    Ok(parse(&name, &text, loader))
}

/// An error was reported and the construct given up.
struct Failed;

type Parsed<T> = Result<T, Failed>;

struct Parser<'a> {
    sources: &'a Sources,
    lexer: Lexer<'a>,
    token: Token,
    /// End of the token before.
    last: Span,
    depth: usize,
    /// Loops and switches around the current statement.
    breakable: usize,
    /// Conditions around the current token.
    conditions: usize,
    /// Operators in the current statement.
    links: usize,
    diags: Vec<Diagnostic>,
    surprises: Vec<(Span, String, String)>,
    /// Nothing more is reported.
    quiet: bool,
}

impl<'a> Parser<'a> {
    fn new(sources: &'a Sources, diags: Vec<Diagnostic>) -> Self {
        let mut lexer = Lexer::new(sources.text());
        let token = lexer.token();
        let mut parser = Self {
            sources,
            lexer,
            token,
            last: Span::default(),
            depth: 0,
            breakable: 0,
            conditions: 0,
            links: 0,
            diags,
            surprises: Vec::new(),
            quiet: false,
        };
        parser.check_token();
        parser
    }

    fn bump(&mut self) -> Token {
        let next = self.lexer.token();
        self.last = self.token.span;
        let token = std::mem::replace(&mut self.token, next);
        self.check_token();
        token
    }

    /// Reports what is wrong with the token itself.
    fn check_token(&mut self) {
        match &self.token.kind {
            Kind::Str { closed: false, .. } => {
                let at = Span { len: 1, ..self.token.span };
                self.error(at, "this string is never closed");
                // The rest of the file is inside the string: what follows from that is noise.
                self.quiet = true;
            }
            Kind::Var if self.token.span.len == 1 => {
                self.error(self.token.span, "`$` begins no variable here");
            }
            _ => {}
        }
    }

    /// Reads raw text from the current token on.
    fn raw_word(&mut self, stops: &[u8], same_line: bool) -> Option<(String, Span)> {
        let from = if same_line { self.last.start + self.last.len } else { self.token.span.start };
        let mut lexer = self.lexer.clone();
        lexer.seek(from);
        let span = lexer.raw_word(stops, same_line)?;
        self.last = span;
        self.lexer = lexer;
        self.token = self.lexer.token();
        self.check_token();
        Some((self.text(span), span))
    }

    fn text(&self, span: Span) -> String {
        String::from_utf8_lossy(self.sources.slice(span)).into_owned()
    }

    fn word(&self) -> Option<&'a str> {
        match self.token.kind {
            Kind::Word => std::str::from_utf8(self.sources.slice(self.token.span)).ok(),
            _ => None,
        }
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.token.kind, Kind::Op(o) if o == op)
    }

    fn is_end(&self) -> bool {
        self.token.kind == Kind::End
    }

    fn eat(&mut self, op: &str) -> bool {
        let yes = self.is_op(op);
        if yes {
            self.bump();
        }
        yes
    }

    fn expect(&mut self, op: &str) -> Parsed<Span> {
        if self.is_op(op) {
            return Ok(self.bump().span);
        }
        let found = self.describe();
        self.fail(self.token.span, format!("expected `{op}`, found {found}"))
    }

    /// A `;` after a statement. When it is missing, that is reported behind the statement and nothing is skipped.
    fn expect_semicolon(&mut self) {
        if !self.eat(";") {
            let end = self.last.start + self.last.len;
            let d = self.sources.diag(
                Severity::Error,
                Span { start: end.saturating_sub(1), len: 1 },
                "expected `;` behind this",
            );
            self.push(d);
        }
    }

    /// What the current token is, for messages.
    fn describe(&self) -> String {
        match &self.token.kind {
            Kind::End => "the end of the file".into(),
            Kind::Str { .. } => "a string".into(),
            Kind::Int(n) => format!("the number {n}"),
            Kind::Unknown(b) => format!("the character `{}`", (*b as char).escape_default()),
            _ => format!("`{}`", self.text(self.token.span)),
        }
    }

    fn enter(&mut self) -> Parsed<()> {
        if self.depth >= MAX_NESTING {
            return self.fail(self.token.span, format!("nested more than {MAX_NESTING} deep"));
        }
        self.depth += 1;
        Ok(())
    }

    fn push(&mut self, d: Diagnostic) {
        if !self.quiet && self.diags.len() < MAX_DIAGNOSTICS {
            self.diags.push(d);
        }
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        let d = self.sources.diag(Severity::Error, span, message);
        self.push(d);
    }

    fn error_help(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        let d = self.sources.diag(Severity::Error, span, message).help(help);
        self.push(d);
    }

    /// A warning with the text that replaces a piece.
    fn warn_fix(
        &mut self,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
        at: Span,
        text: impl Into<String>,
    ) {
        let d = self.sources.diag(Severity::Warning, span, message).help(help);
        let d = d.fixed_by(self.sources.fix(at, text));
        self.push(d);
    }

    fn fail<T>(&mut self, span: Span, message: impl Into<String>) -> Parsed<T> {
        self.error(span, message);
        Err(Failed)
    }

    /// Skips to the `)` that closes the current parenthesis and takes it; stops before `{`, `}` and `;`.
    fn skip_past_paren(&mut self) {
        let mut depth = 0usize;
        loop {
            match &self.token.kind {
                Kind::End | Kind::Op("{" | "}" | ";") => return,
                Kind::Op("(") => depth += 1,
                Kind::Op(")") if depth == 0 => {
                    self.bump();
                    return;
                }
                Kind::Op(")") => depth -= 1,
                _ => {}
            }
            self.bump();
        }
    }

    /// Skips behind the next `;`, over whole blocks, or to before the next `}`.
    fn skip_statement(&mut self) {
        loop {
            match &self.token.kind {
                Kind::End | Kind::Op("}") => return,
                Kind::Op(";") => {
                    self.bump();
                    return;
                }
                Kind::Op("{") => {
                    self.skip_block();
                    return;
                }
                _ => {
                    self.bump();
                }
            }
        }
    }

    /// Skips a whole `{ ... }`.
    fn skip_block(&mut self) {
        let mut depth = 0usize;
        loop {
            match &self.token.kind {
                Kind::End => return,
                Kind::Op("{") => depth += 1,
                Kind::Op("}") => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.bump();
                        return;
                    }
                }
                _ => {}
            }
            self.bump();
        }
    }
}

/// The integer a boolean word stands for.
fn bool_word(word: &str) -> Option<i64> {
    match word {
        "yes" | "true" | "on" | "enable" => Some(1),
        "no" | "false" | "off" | "disable" => Some(0),
        _ => None,
    }
}

/// The integer that the name of a log level stands for, `L_DBG` for 4.
fn level_word(word: &str) -> Option<i64> {
    word.strip_prefix("L_")?;
    crate::vm::level_of_name(word.as_bytes()).map(i64::from)
}
