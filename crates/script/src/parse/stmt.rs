//! Statements.

use super::ast::*;
use super::{Failed, Parsed, Parser, bool_word};
use crate::lex::Kind;
use crate::source::Span;

/// Most arguments of a call.
const MAX_ARGS: usize = 64;

impl Parser<'_> {
    /// `{ statements }`
    pub(super) fn block(&mut self) -> Parsed<Vec<Stmt>> {
        let open = self.expect("{")?;
        let mut body = Vec::new();
        while !self.is_op("}") {
            if self.is_end() {
                return self.fail(Span { len: 1, ..open }, "this `{` is never closed");
            }
            let before = self.token.span;
            match self.stmt() {
                Ok(stmt) => body.push(stmt),
                Err(Failed) => self.skip_statement(),
            }
            if self.token.span == before && !self.is_op("}") {
                self.bump();
            }
        }
        self.bump();
        Ok(body)
    }

    pub(super) fn stmt(&mut self) -> Parsed<Stmt> {
        self.enter()?;
        if self.conditions == 0 {
            self.links = 0;
        }
        let result = self.stmt_inner();
        self.depth -= 1;
        result
    }

    fn stmt_inner(&mut self) -> Parsed<Stmt> {
        let start = self.token.span;
        let kind = match self.word() {
            Some("if") => self.if_stmt()?,
            Some("while") => {
                self.bump();
                let cond = self.head_cond();
                let body = self.breakable_stmt()?;
                match cond {
                    Ok(cond) => StmtKind::While { cond, body },
                    Err(Failed) => StmtKind::Block(vec![*body]),
                }
            }
            Some("for") => self.for_stmt()?,
            Some("switch") => self.switch_stmt()?,
            Some("else") => {
                return self.fail(start, "`else` without an `if` before it");
            }
            Some("case" | "default") => {
                return self.fail(start, "`case` and `default` belong inside a `switch`");
            }
            Some(_) => {
                let kind = self.action()?;
                self.expect_semicolon();
                kind
            }
            None if self.is_op("{") => StmtKind::Block(self.block()?),
            None if self.eat(";") => StmtKind::Empty,
            None if self.token.kind == Kind::Var => {
                let kind = self.action()?;
                self.expect_semicolon();
                kind
            }
            None => {
                let found = self.describe();
                return self.fail(start, format!("expected a statement, found {found}"));
            }
        };
        Ok(Stmt { kind, span: start.to(self.last) })
    }

    fn if_stmt(&mut self) -> Parsed<StmtKind> {
        self.bump();
        let cond = self.head_cond();
        let then = Box::new(self.stmt()?);
        let mut other = None;
        if self.word() == Some("else") {
            self.bump();
            other = Some(Box::new(self.stmt()?));
        }
        // What stands under a broken condition is kept, so that its own mistakes are found as well.
        Ok(match cond {
            Ok(cond) => StmtKind::If { cond, then, other },
            Err(Failed) => StmtKind::Block([then].into_iter().chain(other).map(|s| *s).collect()),
        })
    }

    fn breakable_stmt(&mut self) -> Parsed<Box<Stmt>> {
        self.breakable += 1;
        let body = self.stmt();
        self.breakable -= 1;
        Ok(Box::new(body?))
    }

    fn for_stmt(&mut self) -> Parsed<StmtKind> {
        self.bump();
        self.expect("(")?;
        let head = |p: &mut Self| -> Parsed<(VarText, VarText)> {
            let iter = p.variable("the loop's variable")?;
            if p.word() != Some("in") {
                let found = p.describe();
                return p.fail(p.token.span, format!("expected `in`, found {found}"));
            }
            p.bump();
            let list = p.variable("a list such as `$(avp(x)[*])`")?;
            Ok((iter, list))
        };
        let head = head(self);
        match &head {
            Ok(_) => {
                if self.expect(")").is_err() {
                    self.skip_past_paren();
                }
            }
            Err(Failed) => self.skip_past_paren(),
        }
        let body = self.breakable_stmt()?;
        Ok(match head {
            Ok((iter, list)) => StmtKind::ForEach { iter, list, body },
            Err(Failed) => StmtKind::Block(vec![*body]),
        })
    }

    fn switch_stmt(&mut self) -> Parsed<StmtKind> {
        self.bump();
        self.expect("(")?;
        let operand = match self.variable("a variable") {
            Ok(v) => self.expect(")").map(|_| v),
            Err(Failed) => Err(Failed),
        };
        if operand.is_err() {
            self.skip_past_paren();
        }
        let open = self.expect("{")?;
        let mut cases: Vec<Case> = Vec::new();
        let mut default: Option<Vec<Stmt>> = None;
        loop {
            let span = self.token.span;
            match self.word() {
                Some("case") => {
                    self.bump();
                    if default.is_some() {
                        self.error(span, "`default` must be the last of a `switch`");
                    }
                    match self.case_label() {
                        Ok((label, span)) => {
                            if cases.iter().any(|c| same_label(&c.label, &label)) {
                                self.error(span, "this case was there before");
                            }
                            let body = self.case_body();
                            cases.push(Case { label, span, body });
                        }
                        Err(Failed) => {
                            self.skip_statement();
                        }
                    }
                }
                Some("default") => {
                    self.bump();
                    let _ = self.expect(":");
                    if default.is_some() {
                        self.error(span, "a second `default`");
                    }
                    default = Some(self.case_body());
                }
                _ if self.eat("}") => break,
                _ if self.is_end() => {
                    return self.fail(Span { len: 1, ..open }, "this `{` is never closed");
                }
                _ => {
                    let found = self.describe();
                    self.error(span, format!("expected `case` or `default`, found {found}"));
                    self.skip_statement();
                    if self.token.span == span {
                        self.bump();
                    }
                }
            }
        }
        Ok(match operand {
            Ok(operand) => StmtKind::Switch { operand, cases, default },
            Err(Failed) => StmtKind::Block(
                cases.into_iter().flat_map(|c| c.body).chain(default.into_iter().flatten()).collect(),
            ),
        })
    }

    fn case_label(&mut self) -> Parsed<(CaseLabel, Span)> {
        let span = self.token.span;
        let label = match &self.token.kind {
            Kind::Str { text, .. } => {
                let label = CaseLabel::Str(text.clone());
                self.bump();
                label
            }
            _ => CaseLabel::Int(self.signed_int("a number or a string")?),
        };
        let span = span.to(self.last);
        self.expect(":")?;
        Ok((label, span))
    }

    fn case_body(&mut self) -> Vec<Stmt> {
        self.breakable += 1;
        let mut body = Vec::new();
        while !self.is_end() && !self.is_op("}") && !matches!(self.word(), Some("case" | "default")) {
            let before = self.token.span;
            match self.stmt() {
                Ok(stmt) => body.push(stmt),
                Err(Failed) => self.skip_statement(),
            }
            if self.token.span == before && !self.is_op("}") {
                self.bump();
            }
        }
        self.breakable -= 1;
        body
    }

    /// A call, assignment or keyword action, without its `;`.
    pub(super) fn action(&mut self) -> Parsed<StmtKind> {
        if self.token.kind == Kind::Var {
            return self.assignment();
        }
        let start = self.token.span;
        let Some(word) = self.word() else {
            let found = self.describe();
            return self.fail(start, format!("expected an action, found {found}"));
        };
        self.bump();
        match word {
            "exit" => self.bare(StmtKind::Exit),
            "drop" => self.bare(StmtKind::Drop),
            "break" => {
                if self.breakable == 0 {
                    self.error(start, "`break` outside of a loop or `switch`");
                }
                self.bare(StmtKind::Break)
            }
            "return" => self.return_stmt(),
            "route" => {
                let mut args = self.args()?.into_iter();
                match args.next() {
                    Some(name) if name.kind != ArgValue::Absent => {
                        Ok(StmtKind::Route { name, args: args.collect() })
                    }
                    _ => self.fail(start, "`route()` needs the name of a route"),
                }
            }
            "xlog" => self.xlog(start),
            "xdbg" => {
                self.expect("(")?;
                let text = self.literal("the text")?;
                self.expect(")")?;
                Ok(StmtKind::Xdbg(text))
            }
            "log" => {
                self.expect("(")?;
                let mut level = None;
                if !matches!(self.token.kind, Kind::Str { .. }) {
                    level = Some(self.signed_int("a level or a text")?);
                    self.expect(",")?;
                }
                let text = self.literal("the text")?;
                self.expect(")")?;
                Ok(StmtKind::Log { level, text })
            }
            "assert" => {
                self.expect("(")?;
                let cond = self.cond()?;
                let text = if self.eat(",") { Some(self.literal("the text")?) } else { None };
                self.expect(")")?;
                Ok(StmtKind::Assert { cond, text })
            }
            "async" => self.async_stmt(),
            "launch" => self.launch_stmt(),
            "fetch_event_params" if self.is_op("(") => {
                let args = self.args()?;
                self.fetch_event_params(start.to(self.last), &args)
            }
            "error" if self.is_op("(") => {
                self.args()?;
                let whole = start.to(self.last);
                self.warn_fix(start, "`error()` never had an effect", "use `xlog()` or `exit`", whole, "");
                Ok(StmtKind::Empty)
            }
            _ => {
                if !self.is_op("(") {
                    let found = self.describe();
                    if self.is_op("=") {
                        self.error_help(
                            start,
                            format!("`{word}` is no variable"),
                            format!("a variable begins with `$`, as in `$var({word}) = ...`"),
                        );
                        return Err(Failed);
                    }
                    return self.fail(self.token.span, format!("expected `(` after `{word}`, found {found}"));
                }
                let args = self.args()?;
                Ok(StmtKind::Call(Call { name: Name { text: word.into(), span: start }, args }))
            }
        }
    }

    /// `fetch_event_params("name=$v;$v2")` of older releases: `$v = $param(name); $v2 = $param(2);`
    fn fetch_event_params(&mut self, span: Span, args: &[Arg]) -> Parsed<StmtKind> {
        let [Arg { kind: ArgValue::Str(text), .. }] = args else {
            return self
                .fail(span, "`fetch_event_params()` takes one string such as \"name=$var(x);$var(y)\"");
        };
        let text = String::from_utf8_lossy(text).into_owned();
        let mut body = Vec::new();
        let mut today = Vec::new();
        for (i, piece) in text.split(';').map(str::trim).filter(|p| !p.is_empty()).enumerate() {
            let (name, var) = match piece.split_once('=') {
                Some((name, var)) if !name.starts_with('$') => (name.trim().to_owned(), var.trim()),
                _ => ((i + 1).to_string(), piece),
            };
            if !var.starts_with('$') {
                return self.fail(span, format!("`{var}` is no variable"));
            }
            let value = format!("$param({name})");
            today.push(format!("{var} = {value};"));
            let target = VarText { text: var.to_owned(), span };
            let value = Expr::Var(VarText { text: value, span });
            let kind = StmtKind::Assign(Assign { target, op: AssignKind::Set, value });
            body.push(Stmt { kind, span });
        }
        let message = "`fetch_event_params()` is an older form";
        let help = format!("write `{}`", today.join(" "));
        self.warn_fix(span, message, help, span, format!("{{ {} }}", today.join(" ")));
        Ok(StmtKind::Block(body))
    }

    /// A keyword with optional empty parentheses.
    fn bare(&mut self, kind: StmtKind) -> Parsed<StmtKind> {
        if self.eat("(") {
            self.expect(")")?;
        }
        Ok(kind)
    }

    fn return_stmt(&mut self) -> Parsed<StmtKind> {
        if !self.is_op("(") {
            // `return -1;` is met in older scripts.
            if self.is_op("-") || matches!(self.token.kind, Kind::Int(_)) {
                let span = self.token.span;
                let n = self.signed_int("a code")?;
                let span = span.to(self.last);
                let message = "the code of `return` without parentheses";
                self.warn_fix(span, message, format!("write `return({n})`"), span, format!("({n})"));
                let code = Some(Arg { kind: ArgValue::Int(n), span });
                return Ok(StmtKind::Return { code, values: Vec::new() });
            }
            if self.token.kind == Kind::Var {
                let var = self.variable("a code")?;
                let span = var.span;
                let message = "the code of `return` without parentheses";
                let text = var.text.clone();
                self.warn_fix(span, message, format!("write `return({text})`"), span, format!("({text})"));
                let code = Some(Arg { kind: ArgValue::Var(var), span });
                return Ok(StmtKind::Return { code, values: Vec::new() });
            }
            return Ok(StmtKind::Return { code: None, values: Vec::new() });
        }
        let mut args = self.args()?;
        if args.is_empty() {
            return Ok(StmtKind::Return { code: None, values: Vec::new() });
        }
        let code = args.remove(0);
        if let ArgValue::Str(_) = code.kind {
            self.error(code.span, "the code of `return` is a number or a variable");
        }
        Ok(StmtKind::Return { code: Some(code).filter(|c| c.kind != ArgValue::Absent), values: args })
    }

    fn xlog(&mut self, start: Span) -> Parsed<StmtKind> {
        self.expect("(")?;
        let first_span = self.token.span;
        let first = match &self.token.kind {
            Kind::Var => {
                let v = self.variable("a level")?;
                Arg { span: v.span, kind: ArgValue::Var(v) }
            }
            Kind::Str { .. } => {
                let (text, span) = self.strings("the text")?;
                Arg { kind: ArgValue::Str(text), span }
            }
            _ if self.word().is_some_and(|w| w.starts_with("L_")) => {
                let word = self.text(first_span);
                let quoted = format!("\"{word}\"");
                self.warn_fix(
                    first_span,
                    "a level without quotes",
                    format!("write {quoted}"),
                    first_span,
                    quoted,
                );
                self.bump();
                Arg { kind: ArgValue::Str(word.into()), span: first_span }
            }
            Kind::Int(_) | Kind::Op("-") => {
                let n = self.signed_int("a level")?;
                Arg { kind: ArgValue::Int(n), span: first_span }
            }
            _ => {
                let found = self.describe();
                return self.fail(first_span, format!("expected a level or a text, found {found}"));
            }
        };
        if self.eat(",") {
            let text = self.literal("the text")?;
            self.expect(")")?;
            return Ok(StmtKind::Xlog { level: Some(first), text });
        }
        self.expect(")")?;
        match first.kind {
            ArgValue::Str(text) => {
                Ok(StmtKind::Xlog { level: None, text: Literal { text, span: first.span } })
            }
            ArgValue::Var(v) => {
                Ok(StmtKind::Xlog { level: None, text: Literal { text: v.text.into(), span: v.span } })
            }
            _ => self.fail(start, "`xlog()` needs a text"),
        }
    }

    fn async_stmt(&mut self) -> Parsed<StmtKind> {
        self.expect("(")?;
        let call = self.inner_call()?;
        self.expect(",")?;
        let route = self.static_route()?;
        let timeout = if self.eat(",") { Some(self.signed_int("a timeout in seconds")?) } else { None };
        self.expect(")")?;
        Ok(StmtKind::Async { call, route, timeout })
    }

    fn launch_stmt(&mut self) -> Parsed<StmtKind> {
        self.expect("(")?;
        let call = self.inner_call()?;
        let route = if self.eat(",") { Some(self.static_route()?) } else { None };
        let param = if self.eat(",") { Some(self.arg()?) } else { None };
        self.expect(")")?;
        Ok(StmtKind::Launch { call, route, param })
    }

    fn inner_call(&mut self) -> Parsed<Call> {
        let span = self.token.span;
        let Some(word) = self.word() else {
            let found = self.describe();
            return self.fail(span, format!("expected a function call, found {found}"));
        };
        self.bump();
        let args = self.args()?;
        Ok(Call { name: Name { text: word.into(), span }, args })
    }

    fn static_route(&mut self) -> Parsed<Name> {
        let span = self.token.span;
        let text = match &self.token.kind {
            Kind::Str { text, .. } => String::from_utf8_lossy(text).into_owned(),
            Kind::Word | Kind::Int(_) => self.text(span),
            _ => {
                let found = self.describe();
                return self.fail(span, format!("expected the name of a route, found {found}"));
            }
        };
        self.bump();
        Ok(Name { text, span })
    }

    fn literal(&mut self, what: &str) -> Parsed<Literal> {
        if self.token.kind == Kind::Var {
            let v = self.variable(what)?;
            return Ok(Literal { text: v.text.into(), span: v.span });
        }
        let (text, span) = self.strings(what)?;
        Ok(Literal { text, span })
    }

    pub(super) fn variable(&mut self, what: &str) -> Parsed<VarText> {
        if self.token.kind == Kind::Var && self.token.span.len > 1 {
            let span = self.bump().span;
            return Ok(VarText { text: self.text(span), span });
        }
        if self.token.kind == Kind::Var {
            return Err(Failed);
        }
        let found = self.describe();
        self.fail(self.token.span, format!("expected {what}, found {found}"))
    }

    /// `(a, b,, c)`; on an error inside, the rest up to `)` is skipped.
    fn args(&mut self) -> Parsed<Vec<Arg>> {
        self.expect("(")?;
        let mut args = Vec::new();
        if self.eat(")") {
            return Ok(args);
        }
        loop {
            match self.arg() {
                Ok(arg) => args.push(arg),
                Err(Failed) => {
                    self.skip_past_paren();
                    return Err(Failed);
                }
            }
            if self.eat(",") && args.len() < MAX_ARGS {
                continue;
            }
            break;
        }
        if self.is_op(")") {
            self.bump();
            return Ok(args);
        }
        let found = self.describe();
        let span = self.token.span;
        if ["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"].iter().any(|op| self.is_op(op)) {
            self.error_help(
                span,
                "an argument cannot be an expression",
                "assign it to a variable first: `$var(x) = ...;`",
            );
        } else {
            self.error(span, format!("expected `,` or `)`, found {found}"));
        }
        self.skip_past_paren();
        Err(Failed)
    }

    /// True when one of `ops` follows the current token without a blank.
    fn continues(&self, ops: &[&str]) -> bool {
        let next = self.lexer.clone().token();
        next.span.start == self.token.span.start + self.token.span.len
            && matches!(next.kind, Kind::Op(op) if ops.contains(&op))
    }

    fn arg(&mut self) -> Parsed<Arg> {
        let span = self.token.span;
        if matches!(self.token.kind, Kind::Word | Kind::Int(_))
            && self.continues(&[":", "."])
            && let Some((text, span)) = self.raw_word(b",)", false)
        {
            // An address without quotes, as in `force_send_socket(udp:10.0.0.1:5060)`.
            return Ok(Arg { kind: ArgValue::Str(text.into()), span });
        }
        let kind = match &self.token.kind {
            Kind::Op("," | ")") => return Ok(Arg { kind: ArgValue::Absent, span }),
            Kind::Str { text, .. } => {
                let text = text.clone();
                self.bump();
                ArgValue::Str(text)
            }
            Kind::Var => ArgValue::Var(self.variable("an argument")?),
            Kind::Int(_) | Kind::Op("-" | "+") => ArgValue::Int(self.signed_int("a number")?),
            Kind::Net(_) => {
                self.bump();
                ArgValue::Str(self.text(span).into())
            }
            Kind::Word => {
                let word = self.text(span);
                self.bump();
                if matches!(word.as_str(), "NULL" | "null") {
                    ArgValue::Null
                } else if self.is_op("(") {
                    self.error_help(
                        span,
                        "a call cannot be an argument",
                        "call it first and keep its result in a variable",
                    );
                    return Err(Failed);
                } else {
                    // A bare word names a route or a flag; elsewhere the checker asks for quotes.
                    match bool_word(&word) {
                        Some(n) => ArgValue::Int(n),
                        None => ArgValue::Str(word.into()),
                    }
                }
            }
            _ => {
                let found = self.describe();
                return self.fail(span, format!("expected an argument, found {found}"));
            }
        };
        Ok(Arg { kind, span: span.to(self.last) })
    }
}

fn same_label(a: &CaseLabel, b: &CaseLabel) -> bool {
    match (a, b) {
        (CaseLabel::Int(a), CaseLabel::Int(b)) => a == b,
        (CaseLabel::Str(a), CaseLabel::Str(b)) => a.eq_ignore_ascii_case(b),
        _ => false,
    }
}
