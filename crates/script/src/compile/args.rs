//! Arguments of a call: which signature fits, and how each argument is evaluated.

use bytes::Bytes;

use super::Compiler;
use crate::names::{ArgDef, ArgKind, FunctionInfo, Signature, StaticArg};
use crate::parse::{Arg, ArgValue, Call};
use crate::program::{ArgPlan, Part, ValuePlan, VarSource};
use crate::source::Span;
use crate::value::{Value, parse_int};

impl Compiler<'_> {
    /// Plans the arguments by the first signature that fits.
    pub(super) fn arguments(
        &mut self,
        call: &Call,
        info: &FunctionInfo,
    ) -> Option<(Box<[ArgPlan]>, Vec<StaticArg>)> {
        let name = &call.name.text;
        let fitting: Vec<&Signature> = info.signatures.iter().filter(|s| fits(s, &call.args)).collect();
        let Some(first) = fitting.first() else {
            let given = call.args.len();
            let help = info.signatures.iter().map(|s| show(name, s)).collect::<Vec<_>>().join(" or ");
            let message = match info.signatures {
                [one] if given > one.args.len() => {
                    format!("`{name}()` takes at most {} arguments, not {given}", one.args.len())
                }
                [one] => {
                    let missing = one.args.iter().enumerate().position(|(i, d)| {
                        !d.optional && call.args.get(i).is_none_or(|a| a.kind == ArgValue::Absent)
                    });
                    match missing {
                        Some(i) => format!("argument {} of `{name}()` is missing", i + 1),
                        None => format!("`{name}()` does not take these arguments"),
                    }
                }
                _ => format!("`{name}()` does not take {given} arguments"),
            };
            self.error_help(call.name.span, message, Some(help));
            return None;
        };
        // Among several of the same length, literals decide.
        let chosen =
            fitting.iter().find(|s| s.args.iter().zip(&call.args).all(|(d, a)| suits(d, a))).unwrap_or(first);
        let mut plans = Vec::with_capacity(call.args.len());
        let mut fixed = Vec::with_capacity(call.args.len());
        let mut complete = true;
        for (i, (def, arg)) in chosen.args.iter().zip(&call.args).enumerate() {
            match self.argument(name, i + 1, def, arg) {
                Some((plan, known)) => {
                    plans.push(plan);
                    fixed.push(known);
                }
                None => complete = false,
            }
        }
        complete.then(|| (plans.into_boxed_slice(), fixed))
    }

    fn argument(&mut self, name: &str, n: usize, def: &ArgDef, arg: &Arg) -> Option<(ArgPlan, StaticArg)> {
        let span = arg.span;
        let must = |c: &mut Self, what: &str| {
            c.error(span, format!("argument {n} of `{name}()` must be {what}"));
        };
        if let ArgValue::Str(text) = &arg.kind {
            self.bare_word(text, span, def);
        }
        match (def.kind, &arg.kind) {
            (_, ArgValue::Absent) => Some((ArgPlan::Absent, StaticArg::Absent)),
            (_, ArgValue::Null) if def.optional => Some((ArgPlan::Absent, StaticArg::Absent)),
            (_, ArgValue::Null) => {
                must(self, "a value, not NULL");
                None
            }
            (ArgKind::Str | ArgKind::Regex, ArgValue::Var(_)) if def.static_only => {
                must(self, "a fixed string");
                None
            }
            (ArgKind::Str, ArgValue::Str(text)) if def.static_only || def.raw => {
                Some((ArgPlan::Str(text.clone()), StaticArg::Str(text.clone())))
            }
            (ArgKind::Str, ArgValue::Str(text)) => {
                let format = self.format(text, span);
                Some(match self.fixed_text(format) {
                    Some(text) => (ArgPlan::Str(text.clone()), StaticArg::Str(text)),
                    None => (ArgPlan::StrFormat(format), StaticArg::Dynamic),
                })
            }
            (ArgKind::Str, ArgValue::Int(i)) => {
                let text = Bytes::from(i.to_string());
                let quoted = format!("\"{i}\"");
                let message = format!("argument {n} of `{name}()` is a string");
                self.warn_fix(span, message, format!("write {quoted}"), quoted);
                Some((ArgPlan::Str(text.clone()), StaticArg::Str(text)))
            }
            (ArgKind::Str, ArgValue::Var(v)) => {
                if def.raw {
                    let help = format!("write \"{}\" when the variable itself is meant", v.text);
                    self.warn(span, format!("`{name}()` gets the value of `{}` here", v.text), help);
                }
                Some((ArgPlan::StrVar(self.var(v)?, def.optional), StaticArg::Dynamic))
            }
            (ArgKind::Int, ArgValue::Int(i)) => Some((ArgPlan::Int(*i), StaticArg::Int(*i))),
            (ArgKind::Int, ArgValue::Var(_)) if def.static_only => {
                must(self, "a fixed number");
                None
            }
            (ArgKind::Int, ArgValue::Var(v)) => {
                Some((ArgPlan::IntVar(self.var(v)?, def.optional), StaticArg::Dynamic))
            }
            (ArgKind::Int, ArgValue::Str(text)) => self.quoted_int(name, n, def, text, span),
            (ArgKind::Var, ArgValue::Var(v)) => self.variable_argument(v.text.clone(), span),
            (ArgKind::Var, ArgValue::Str(text)) if text.starts_with(b"$") => {
                let text = String::from_utf8_lossy(text).into_owned();
                self.warn_fix(span, "a variable in quotes", format!("write `{text}`"), text.clone());
                self.variable_argument(text, span)
            }
            (ArgKind::Var, _) => {
                must(self, "a variable");
                None
            }
            (ArgKind::Regex, ArgValue::Str(text)) => {
                let format = self.format(text, span);
                match self.fixed_text(format) {
                    Some(_) => {
                        let regex = self.regex(text, span)?;
                        Some((ArgPlan::Regex(regex), StaticArg::Str(text.clone())))
                    }
                    None => Some((ArgPlan::RegexFormat(format), StaticArg::Dynamic)),
                }
            }
            (ArgKind::Regex, ArgValue::Var(v)) => {
                let var = self.var(v)?;
                let format = self.format_of_var(var);
                Some((ArgPlan::RegexFormat(format), StaticArg::Dynamic))
            }
            (ArgKind::Regex, ArgValue::Int(i)) => {
                let text = Bytes::from(i.to_string());
                let regex = self.regex(&text, span)?;
                Some((ArgPlan::Regex(regex), StaticArg::Str(text)))
            }
        }
    }

    fn quoted_int(
        &mut self,
        name: &str,
        n: usize,
        def: &ArgDef,
        text: &Bytes,
        span: Span,
    ) -> Option<(ArgPlan, StaticArg)> {
        let shown = String::from_utf8_lossy(text).into_owned();
        let hex = shown.strip_prefix("0x").and_then(|h| i64::from_str_radix(h, 16).ok());
        if let Some(i) = parse_int(text.trim_ascii()).or(hex) {
            self.warn_fix(
                span,
                format!("argument {n} of `{name}()` is a number"),
                format!("write {shown} without quotes"),
                i.to_string(),
            );
            return Some((ArgPlan::Int(i), StaticArg::Int(i)));
        }
        if text.is_empty() && def.optional {
            return Some((ArgPlan::Absent, StaticArg::Absent));
        }
        if text.is_empty() {
            // Where a number had to be given, older scripts leave it out so.
            let help = "write 0 when none is meant";
            self.warn_fix(span, format!("argument {n} of `{name}()` is a number"), help, "0".to_owned());
            return Some((ArgPlan::Int(0), StaticArg::Int(0)));
        }
        let format = self.format(text, span);
        if self.fixed_text(format).is_some() || def.static_only {
            self.error(span, format!("argument {n} of `{name}()` must be a number, not \"{shown}\""));
            return None;
        }
        let message = format!("argument {n} of `{name}()` is a number");
        let help = "give a number or a variable without quotes";
        let single = match *self.program.pool.formats[format as usize] {
            [Part::Var(var)] => Some(var),
            _ => None,
        };
        match single {
            Some(_) => self.warn_fix(span, message, help, shown),
            None => self.warn(span, message, help),
        }
        if let Some(var) = single {
            return Some((ArgPlan::IntVar(var, def.optional), StaticArg::Dynamic));
        }
        Some((ArgPlan::IntFormat(format), StaticArg::Dynamic))
    }

    fn variable_argument(&mut self, text: String, span: Span) -> Option<(ArgPlan, StaticArg)> {
        let var = self.var_text(&text, span)?;
        let slot = &self.program.pool.vars[var as usize];
        let writable = slot.writable;
        if !slot.transforms.is_empty() {
            self.error(span, "a variable handed to a function has no transformation");
            return None;
        }
        match &slot.source {
            VarSource::Host { access, .. } => {
                let (id, key) = (access.id, access.key);
                Some((ArgPlan::Var(var), StaticArg::Var { id, key, writable }))
            }
            _ => {
                self.error(span, format!("`{text}` cannot be handed to a function"));
                None
            }
        }
    }

    /// Warns of a string without quotes.
    fn bare_word(&mut self, text: &[u8], span: Span, def: &ArgDef) {
        let quoted = matches!(self.ast.sources.slice(span).first(), Some(b'"' | b'\''));
        if !quoted && def.kind != ArgKind::Int {
            let text = String::from_utf8_lossy(text).into_owned();
            let quoted = format!("\"{text}\"");
            self.warn_fix(span, "a string without quotes", format!("write {quoted}"), quoted);
        }
    }

    /// A value that stands alone: of `return`, `route()` or `launch()`.
    pub(super) fn value_arg(&mut self, arg: &Arg) -> ValuePlan {
        match &arg.kind {
            ArgValue::Absent | ArgValue::Null => ValuePlan::Const(Value::Null),
            ArgValue::Int(n) => ValuePlan::Const(Value::Int(*n)),
            ArgValue::Str(text) => {
                let format = self.format(text, arg.span);
                match self.fixed_text(format) {
                    Some(text) => ValuePlan::Const(Value::Str(text)),
                    None => ValuePlan::Format(format),
                }
            }
            ArgValue::Var(v) => match self.var(v) {
                Some(var) => ValuePlan::Var(var),
                None => ValuePlan::Const(Value::Null),
            },
        }
    }
}

/// True when as many arguments as given are possible and no mandatory one is left out.
fn fits(signature: &Signature, args: &[Arg]) -> bool {
    args.len() <= signature.args.len()
        && signature
            .args
            .iter()
            .enumerate()
            .all(|(i, def)| def.optional || args.get(i).is_some_and(|a| a.kind != ArgValue::Absent))
}

/// True when a literal is of the kind itself, without conversion.
fn suits(def: &ArgDef, arg: &Arg) -> bool {
    match (&arg.kind, def.kind) {
        (ArgValue::Absent | ArgValue::Var(_) | ArgValue::Null, _) => true,
        (ArgValue::Int(_), kind) => kind == ArgKind::Int,
        (ArgValue::Str(_), kind) => matches!(kind, ArgKind::Str | ArgKind::Regex),
    }
}

/// A signature as the manual writes it.
fn show(name: &str, signature: &Signature) -> String {
    let args = signature.args.iter().map(|d| {
        let kind = match d.kind {
            ArgKind::Str => "string",
            ArgKind::Int => "number",
            ArgKind::Var => "variable",
            ArgKind::Regex => "regular expression",
        };
        if d.optional { format!("[{kind}]") } else { kind.to_string() }
    });
    format!("{name}({})", args.collect::<Vec<_>>().join(", "))
}
