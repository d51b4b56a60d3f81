//! Conditions to tests and branches, expressions to stack operations.
//!
//! A condition is compiled with three places to go: when true, when false, and when it could not be decided. The
//! third stays the same through `!`, `and` and `or`, so an error always ends in the else branch.

use std::sync::Arc;

use super::Compiler;
use crate::parse::*;
use crate::program::*;
use crate::source::Span;
use crate::value::Value;

impl Compiler<'_> {
    pub(super) fn cond(&mut self, cond: &Cond, yes: u32, no: u32, error: u32) {
        match cond {
            Cond::And(a, b) => {
                let next = self.label();
                self.cond(a, next, no, error);
                self.mark(next);
                self.cond(b, yes, no, error);
            }
            Cond::Or(a, b) => {
                let next = self.label();
                self.cond(a, yes, next, error);
                self.mark(next);
                self.cond(b, yes, no, error);
            }
            Cond::Not(inner) => self.cond(inner, no, yes, error),
            Cond::Const(truth) => {
                let to = if *truth { yes } else { no };
                self.emit(Op::Jump(to), Span::default());
            }
            Cond::Var(v) => {
                if let Some(var) = self.var(v) {
                    self.emit(Op::TestVar(var), v.span);
                }
                self.emit(Op::Branch { yes, no, error }, v.span);
            }
            Cond::Arith(expr, span) => {
                self.expr(expr, *span);
                self.emit(Op::TestTop, *span);
                self.emit(Op::Branch { yes, no, error }, *span);
            }
            Cond::Action(stmt) => {
                self.stmt(stmt);
                self.emit(Op::TestRc, stmt.span);
                self.emit(Op::Branch { yes, no, error }, stmt.span);
            }
            Cond::Compare { left, op, right, span } => {
                self.compare(left, *op, right, *span);
                self.emit(Op::Branch { yes, no, error }, *span);
            }
        }
    }

    fn compare(&mut self, left: &VarText, op: CmpOp, right: &Operand, span: Span) {
        let Some(var) = self.var(left) else { return };
        let negate = matches!(op, CmpOp::Ne | CmpOp::NoMatch);
        let matching = matches!(op, CmpOp::Match | CmpOp::NoMatch);
        let test = match right {
            Operand::Null => Op::CmpNull { var, op },
            Operand::Net(net) => {
                self.program.nets.push(*net);
                Op::CmpNet { var, net: self.program.nets.len() as u32 - 1, negate }
            }
            Operand::Str(text) if matching => {
                let Some(regex) = self.regex(&text.text, text.span) else { return };
                self.program.regexes.push(regex);
                Op::CmpRegex { var, regex: self.program.regexes.len() as u32 - 1, negate }
            }
            Operand::Int(_) if matching => {
                self.error(span, "a regular expression is a string or a variable");
                return;
            }
            Operand::Str(text) => {
                self.warn_unexpanded(text);
                Op::CmpConst { var, op, value: self.constant(Value::Str(text.text.clone())) }
            }
            Operand::Int(n) => Op::CmpConst { var, op, value: self.constant(Value::Int(*n)) },
            Operand::Var(right) => match self.var(right) {
                Some(right) => Op::CmpVar { var, op, right },
                None => return,
            },
        };
        self.emit(test, span);
    }

    /// Warns of a variable in a compared string, which is taken as it is written.
    fn warn_unexpanded(&mut self, text: &Literal) {
        let bytes = &text.text;
        let name = memchr::memchr_iter(b'$', bytes).find_map(|i| {
            let end = crate::lex::scan_variable(bytes, i, true)?;
            Some(String::from_utf8_lossy(&bytes[i..end]).into_owned())
        });
        if let Some(name) = name {
            self.warn(
                text.span,
                format!("`{name}` is not expanded in a string that is compared"),
                "compare with the variable itself, or assign the string to a variable first",
            );
        }
    }

    pub(super) fn regex(&mut self, text: &[u8], span: Span) -> Option<Arc<regex::bytes::Regex>> {
        match crate::vm::posix_regex(text) {
            Ok(regex) => Some(Arc::new(regex)),
            Err(why) => {
                self.error(span, format!("this regular expression cannot be used: {why}"));
                None
            }
        }
    }

    pub(super) fn expr(&mut self, expr: &Expr, span: Span) {
        match expr {
            Expr::Int(n) => {
                let value = self.constant(Value::Int(*n));
                self.emit(Op::Const(value), span);
            }
            Expr::Null => {
                let value = self.constant(Value::Null);
                self.emit(Op::Const(value), span);
            }
            Expr::Str(text) => {
                let format = self.format(&text.text, text.span);
                match self.fixed_text(format) {
                    Some(text) => {
                        let value = self.constant(Value::Str(text));
                        self.emit(Op::Const(value), span);
                    }
                    None => self.emit(Op::Format(format), text.span),
                }
            }
            Expr::Var(v) => {
                if let Some(var) = self.var(v) {
                    self.emit(Op::Load(var), v.span);
                }
            }
            Expr::Call(stmt) => {
                self.stmt(stmt);
                self.emit(Op::LoadRc, stmt.span);
            }
            Expr::Binary(op, a, b) => {
                self.expr(a, span);
                self.expr(b, span);
                self.emit(Op::Binary(*op), span);
            }
            Expr::Not(inner) => {
                self.expr(inner, span);
                self.emit(Op::BitNot, span);
            }
            Expr::Neg(inner) => {
                self.expr(inner, span);
                self.emit(Op::Neg, span);
            }
        }
    }
}
