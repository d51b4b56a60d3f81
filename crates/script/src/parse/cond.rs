//! Conditions, assignments and arithmetic, with the language's own precedence: `and` and `or` share one level, all of
//! `| & ^ << >>` share one, all of `+ - * / %` share one, each from left to right.

use super::ast::*;
use super::{Failed, Parsed, Parser, bool_word, level_word};
use crate::lex::Kind;
use crate::source::Span;

/// Most operators in one statement.
const MAX_LINKS: usize = 1000;

impl Parser<'_> {
    /// `( cond )`, skipping to behind the `)` when something is wrong inside.
    pub(super) fn paren_cond(&mut self) -> Parsed<Cond> {
        self.expect("(")?;
        let cond = self.cond().and_then(|c| {
            if self.is_op(")") {
                self.bump();
                return Ok(c);
            }
            self.not_a_condition()
        });
        if cond.is_err() {
            self.skip_past_paren();
        }
        cond
    }

    /// The condition of `if` and `while`: in parentheses, `(a) && (b)`, or a call or negation without any.
    pub(super) fn head_cond(&mut self) -> Parsed<Cond> {
        if !self.is_op("(") && (self.is_op("!") || matches!(self.token.kind, Kind::Word | Kind::Var)) {
            return self.cond();
        }
        let first = self.paren_cond()?;
        self.enter()?;
        self.conditions += 1;
        let result = self.cond_links(first);
        self.conditions -= 1;
        self.depth -= 1;
        result
    }

    /// Reports what follows a complete condition.
    fn not_a_condition(&mut self) -> Parsed<Cond> {
        let span = self.token.span;
        if ["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"].iter().any(|op| self.is_op(op)) {
            self.error_help(
                span,
                "arithmetic does not stand in a condition by itself",
                "put it in brackets, `[ $var(a) & 1 ]`, or assign it to a variable first",
            );
            return Err(Failed);
        }
        let found = self.describe();
        self.fail(span, format!("expected `and`, `or` or `)`, found {found}"))
    }

    pub(super) fn cond(&mut self) -> Parsed<Cond> {
        self.enter()?;
        self.conditions += 1;
        let result = self.cond_chain();
        self.conditions -= 1;
        self.depth -= 1;
        result
    }

    fn cond_chain(&mut self) -> Parsed<Cond> {
        let first = self.cond_unary()?;
        self.cond_links(first)
    }

    /// What is joined to a condition by `and` and `or`.
    fn cond_links(&mut self, first: Cond) -> Parsed<Cond> {
        let mut left = first;
        let mut seen_or = false;
        loop {
            let at = self.token.span;
            let and = match (self.word(), &self.token.kind) {
                (Some("and"), _) | (_, Kind::Op("&&")) => true,
                (Some("or"), _) | (_, Kind::Op("||")) => false,
                _ => return Ok(left),
            };
            self.bump();
            self.link()?;
            if and && seen_or {
                self.surprise(
                    at,
                    "`and` does not bind closer than `or`: this is `(a or b) and c`",
                    "write the parentheses that are meant",
                );
                seen_or = false;
            }
            seen_or |= !and;
            let right = Box::new(self.cond_unary()?);
            left = if and { Cond::And(Box::new(left), right) } else { Cond::Or(Box::new(left), right) };
        }
    }

    fn cond_unary(&mut self) -> Parsed<Cond> {
        self.enter()?;
        let result = self.cond_unary_inner();
        self.depth -= 1;
        result
    }

    fn cond_unary_inner(&mut self) -> Parsed<Cond> {
        let span = self.token.span;
        if self.is_op("!") || self.word() == Some("not") {
            self.bump();
            return Ok(Cond::Not(Box::new(self.cond_unary()?)));
        }
        if self.is_op("(") {
            self.bump();
            let inner = self.cond()?;
            if !self.is_op(")") {
                return self.not_a_condition();
            }
            self.bump();
            return Ok(inner);
        }
        if self.is_op("[") {
            self.bump();
            let expr = self.expr()?;
            self.expect("]")?;
            return Ok(Cond::Arith(expr, span.to(self.last)));
        }
        match &self.token.kind {
            Kind::Var => self.variable_test(),
            Kind::Int(_) | Kind::Op("-") => Ok(Cond::Const(self.signed_int("a number")? != 0)),
            Kind::Str { text, .. } => {
                let truth = !text.is_empty();
                self.bump();
                if self.cmp_op().is_some() {
                    return self.fail(span, "the left side of a comparison is a variable");
                }
                Ok(Cond::Const(truth))
            }
            Kind::Word => self.word_test(),
            Kind::Op("{") => {
                let stmt = self.stmt()?;
                Ok(Cond::Action(Box::new(stmt)))
            }
            _ => {
                let found = self.describe();
                self.fail(span, format!("expected a condition, found {found}"))
            }
        }
    }

    fn variable_test(&mut self) -> Parsed<Cond> {
        let span = self.token.span;
        let left = self.variable("a variable")?;
        if let Some(op) = self.cmp_op() {
            self.bump();
            return self.comparison(left, op, span);
        }
        if self.assign_op().is_some() {
            let kind = self.assign_from(left)?;
            return Ok(Cond::Action(Box::new(Stmt { kind, span: span.to(self.last) })));
        }
        Ok(Cond::Var(left))
    }

    fn word_test(&mut self) -> Parsed<Cond> {
        let span = self.token.span;
        let word = self.word().unwrap_or_default();
        if let Some(n) = bool_word(word) {
            self.bump();
            return Ok(Cond::Const(n != 0));
        }
        if let Some(left) = self.old_operand()? {
            return self.old_comparison(left, span);
        }
        let stmt = if matches!(word, "if" | "while" | "switch" | "for") {
            self.stmt()?
        } else {
            let kind = self.action()?;
            Stmt { kind, span: span.to(self.last) }
        };
        if self.cmp_op().is_some() {
            self.error_help(
                span.to(self.token.span),
                "the result of a call is not compared here",
                "call it first and compare `$rc`",
            );
            return Err(Failed);
        }
        Ok(Cond::Action(Box::new(stmt)))
    }

    /// The words older scripts compare instead of variables; the word is taken when it is one of them.
    fn old_operand(&mut self) -> Parsed<Option<VarText>> {
        let span = self.token.span;
        let Some(word) = self.word() else { return Ok(None) };
        let mut lexer = self.lexer.clone();
        let next = lexer.token();
        let today = match word {
            "uri" => "$ru",
            "method" => "$rm",
            "from_uri" => "$fu",
            "to_uri" => "$tu",
            "src_ip" => "$si",
            "src_port" => "$sp",
            "dst_ip" => "$socket_in(ip)",
            "dst_port" => "$socket_in(port)",
            "proto" => "$socket_in(proto)",
            "af" => "$socket_in(af)",
            "status" => "$rs",
            "retcode" => "$rc",
            "msg" if next.kind == Kind::Op(":") => "$ml",
            _ => return Ok(None),
        };
        if matches!(next.kind, Kind::Op("(")) {
            return Ok(None);
        }
        self.bump();
        if word == "msg" {
            self.bump();
            if self.word() != Some("len") {
                return self.fail(self.token.span, "expected `len` after `msg:`");
            }
            self.bump();
        }
        let span = span.to(self.last);
        Ok(Some(VarText { text: today.into(), span }))
    }

    fn old_comparison(&mut self, left: VarText, span: Span) -> Parsed<Cond> {
        let (word, today, at) = (self.text(left.span), left.text.clone(), left.span);
        let old = |p: &mut Self| {
            let message = format!("`{word}` is the older form of a variable");
            p.warn_fix(at, message, format!("write `{today}`"), at, today.clone());
        };
        let op = match self.cmp_op() {
            Some(op) => Some(op),
            None if self.is_op("=") => None,
            None => {
                old(self);
                return Ok(Cond::Var(left));
            }
        };
        let sign = self.bump().span;
        if self.word() != Some("myself") {
            old(self);
            if op.is_none() {
                self.warn_fix(sign, "one `=` in a comparison", "write `==`", sign, "==");
            }
            return self.comparison(left, op.unwrap_or(CmpOp::Eq), span);
        }
        let op = op.unwrap_or(CmpOp::Eq);
        let at = self.bump().span;
        let host = match left.text.as_str() {
            "$fu" => "$fd",
            "$tu" => "$td",
            "$si" => "$si",
            "$socket_in(ip)" => "$socket_in(ip)",
            _ => "$rd",
        };
        let not = if op == CmpOp::Ne { "!" } else { "" };
        let today = format!("{not}is_myself({host})");
        self.warn_fix(
            at,
            "`myself` is an older form",
            format!("write `{today}`"),
            span.to(at),
            today.clone(),
        );
        let arg = Arg { kind: ArgValue::Var(VarText { text: host.into(), span }), span };
        let call = Call { name: Name { text: "is_myself".into(), span: at }, args: vec![arg] };
        let test = Cond::Action(Box::new(Stmt { kind: StmtKind::Call(call), span }));
        match op {
            CmpOp::Eq => Ok(test),
            CmpOp::Ne => Ok(Cond::Not(Box::new(test))),
            _ => self.fail(at, "`myself` is compared with `==` or `!=`"),
        }
    }

    fn comparison(&mut self, left: VarText, op: CmpOp, start: Span) -> Parsed<Cond> {
        let at = self.token.span;
        let right = match &self.token.kind {
            Kind::Str { text, .. } => {
                let text = text.clone();
                self.bump();
                Operand::Str(Literal { text, span: at })
            }
            Kind::Var => Operand::Var(self.variable("a value")?),
            Kind::Net(net) => {
                let net = *net;
                self.bump();
                if !matches!(op, CmpOp::Eq | CmpOp::Ne) {
                    return self.fail(at, "an address is compared with `==` or `!=`");
                }
                Operand::Net(net)
            }
            Kind::Int(_) | Kind::Op("-" | "+") => Operand::Int(self.signed_int("a value")?),
            Kind::Word => {
                let word = self.text(at);
                self.bump();
                match word.as_str() {
                    "NULL" | "null" => Operand::Null,
                    "myself" => {
                        return self.fail(at, "`myself` is compared with `uri`; write `is_myself(\"host\")`");
                    }
                    _ if self.is_op("(") => {
                        return self.fail(at, "the right side of a comparison is a constant or a variable");
                    }
                    _ => match bool_word(&word) {
                        Some(n) => Operand::Int(n),
                        None => {
                            let quoted = format!("\"{word}\"");
                            let help = format!("write {quoted}");
                            self.warn_fix(at, "a string without quotes", help, at, quoted);
                            Operand::Str(Literal { text: word.into(), span: at })
                        }
                    },
                }
            }
            _ => {
                let found = self.describe();
                return self.fail(at, format!("expected a value to compare with, found {found}"));
            }
        };
        Ok(Cond::Compare { left, op, right, span: start.to(self.last) })
    }

    fn cmp_op(&self) -> Option<CmpOp> {
        let Kind::Op(op) = self.token.kind else { return None };
        Some(match op {
            "==" => CmpOp::Eq,
            "!=" => CmpOp::Ne,
            "<" => CmpOp::Lt,
            ">" => CmpOp::Gt,
            "<=" => CmpOp::Le,
            ">=" => CmpOp::Ge,
            "=~" => CmpOp::Match,
            "!~" => CmpOp::NoMatch,
            _ => return None,
        })
    }

    fn assign_op(&self) -> Option<AssignKind> {
        let Kind::Op(op) = self.token.kind else { return None };
        Some(match op {
            "=" => AssignKind::Set,
            ":=" => AssignKind::Replace,
            "+=" => AssignKind::With(BinOp::Add),
            "-=" => AssignKind::With(BinOp::Sub),
            "*=" => AssignKind::With(BinOp::Mul),
            "/=" => AssignKind::With(BinOp::Div),
            "%=" => AssignKind::With(BinOp::Mod),
            "&=" => AssignKind::With(BinOp::And),
            "|=" => AssignKind::With(BinOp::Or),
            "^=" => AssignKind::With(BinOp::Xor),
            _ => return None,
        })
    }

    pub(super) fn assignment(&mut self) -> Parsed<StmtKind> {
        let target = self.variable("a variable")?;
        self.assign_from(target)
    }

    fn assign_from(&mut self, target: VarText) -> Parsed<StmtKind> {
        let Some(op) = self.assign_op() else {
            let found = self.describe();
            if self.is_op("==") {
                self.error_help(self.token.span, "a comparison is no statement", "one `=` assigns");
                return Err(Failed);
            }
            return self.fail(self.token.span, format!("expected an assignment such as `=`, found {found}"));
        };
        self.bump();
        let value = self.expr()?;
        Ok(StmtKind::Assign(Assign { target, op, value }))
    }

    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.enter()?;
        let result = self.expr_bits();
        self.depth -= 1;
        result
    }

    fn expr_bits(&mut self) -> Parsed<Expr> {
        let mut left = self.expr_sum()?;
        loop {
            let op = match &self.token.kind {
                Kind::Op("|") => BinOp::Or,
                Kind::Op("&") => BinOp::And,
                Kind::Op("^") => BinOp::Xor,
                Kind::Op("<<") => BinOp::Shl,
                Kind::Op(">>") => BinOp::Shr,
                _ => return Ok(left),
            };
            self.bump();
            self.link()?;
            left = Expr::Binary(op, Box::new(left), Box::new(self.expr_sum()?));
        }
    }

    fn expr_sum(&mut self) -> Parsed<Expr> {
        let mut left = self.expr_unary()?;
        let mut seen_sum = false;
        loop {
            let at = self.token.span;
            let op = match &self.token.kind {
                Kind::Op("+") => BinOp::Add,
                Kind::Op("-") => BinOp::Sub,
                Kind::Op("*") => BinOp::Mul,
                Kind::Op("/") => BinOp::Div,
                Kind::Op("%") => BinOp::Mod,
                _ => return Ok(left),
            };
            self.bump();
            self.link()?;
            let sum = matches!(op, BinOp::Add | BinOp::Sub);
            if seen_sum && !sum {
                self.surprise(
                    at,
                    "`*`, `/` and `%` do not bind closer than `+` and `-`: this goes from left to right",
                    "write the parentheses that are meant",
                );
            }
            seen_sum = sum;
            left = Expr::Binary(op, Box::new(left), Box::new(self.expr_unary()?));
        }
    }

    fn surprise(&mut self, span: Span, what: &str, help: &str) {
        if self.surprises.len() < 500 {
            self.surprises.push((span, what.to_owned(), help.to_owned()));
        }
    }

    /// Bounds the chains of operators in one statement, whose tree is as deep as they are long.
    fn link(&mut self) -> Parsed<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return self.fail(self.token.span, format!("more than {MAX_LINKS} operators in one statement"));
        }
        Ok(())
    }

    fn expr_unary(&mut self) -> Parsed<Expr> {
        self.enter()?;
        let result = self.expr_unary_inner();
        self.depth -= 1;
        result
    }

    fn expr_unary_inner(&mut self) -> Parsed<Expr> {
        let span = self.token.span;
        match &self.token.kind {
            Kind::Op("~") => {
                self.bump();
                Ok(Expr::Not(Box::new(self.expr_unary()?)))
            }
            Kind::Op("-") => {
                self.bump();
                match self.expr_unary()? {
                    Expr::Int(n) => Ok(Expr::Int(-n)),
                    inner => Ok(Expr::Neg(Box::new(inner))),
                }
            }
            Kind::Op("(") => {
                self.bump();
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Kind::Int(n) => {
                let n = *n;
                self.bump();
                Ok(Expr::Int(n))
            }
            Kind::Str { text, .. } => {
                let text = text.clone();
                self.bump();
                Ok(Expr::Str(Literal { text, span }))
            }
            Kind::Var => Ok(Expr::Var(self.variable("a value")?)),
            Kind::Net(_) => {
                self.bump();
                let text = self.text(span);
                let quoted = format!("\"{text}\"");
                self.warn_fix(span, "a string without quotes", format!("write {quoted}"), span, quoted);
                Ok(Expr::Str(Literal { text: text.into(), span }))
            }
            Kind::Word => {
                let word = self.text(span);
                if self.lexer.clone().token().kind == Kind::Op("(") {
                    return match self.action()? {
                        kind @ (StmtKind::Call(_) | StmtKind::Route { .. }) => {
                            Ok(Expr::Call(Box::new(Stmt { kind, span: span.to(self.last) })))
                        }
                        _ => self.fail(span, format!("`{word}()` has no value")),
                    };
                }
                self.bump();
                if matches!(word.as_str(), "NULL" | "null") {
                    return Ok(Expr::Null);
                }
                if let Some(n) = bool_word(&word) {
                    return Ok(Expr::Int(n));
                }
                if let Some(level) = level_word(&word) {
                    let digits = level.to_string();
                    self.warn_fix(span, "the name of a log level", format!("write {digits}"), span, digits);
                    return Ok(Expr::Int(level));
                }
                let help = format!("a string needs quotes: \"{word}\"");
                self.error_help(span, format!("`{word}` is no value"), help);
                Err(Failed)
            }
            _ => {
                let found = self.describe();
                self.fail(span, format!("expected a value, found {found}"))
            }
        }
    }
}
