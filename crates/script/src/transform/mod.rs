//! Transformations: `$(var{class.name,arguments})`.
//!
//! Each is read once at load into a function and its arguments. Nothing stays nothing through all of them, and what
//! cannot be done gives nothing. Left out: `ip.resolve*`, because a name lookup must not block a run.

mod digest;
mod ip;
mod lists;
mod sip;
mod strings;
pub(crate) mod subst;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::compile::Reader;
use crate::diag::nearest;
use crate::names::TransformFn;
use crate::program::ValuePlan;
use crate::value::{Value, parse_int};
use subst::Subst;

/// A transformation with its arguments.
#[derive(Debug)]
pub(crate) struct Transform {
    op: Op,
    pub args: Box<[ValuePlan]>,
}

enum Op {
    Plain(Function),
    /// `nameaddr.N.field`
    Indexed(i64, sip::Indexed),
    Eval,
    Subst(Arc<Subst>),
    SubstComputed,
    Module(TransformFn),
}

type Function = fn(&[u8], &[Value]) -> Value;

/// Name, arguments, function. Arguments: `i` a number, `s` a string, in capitals when optional, `c` everything that is
/// left, with its commas.
type Entry = (&'static str, &'static str, Function);

impl Transform {
    /// Reads the text between the braces.
    pub fn parse(text: &str, reader: &mut Reader<'_>) -> Result<Self, String> {
        let (name, rest) = match text.split_once(',') {
            Some((name, rest)) => (name.trim(), Some(rest)),
            None => (text.trim(), None),
        };
        if name == "s.eval" {
            return Ok(Self { op: Op::Eval, args: Box::default() });
        }
        if name == "re.subst" {
            return Self::subst(rest.unwrap_or(""), reader);
        }
        if name.starts_with("ip.resolve") {
            return Err(
                "a transformation cannot wait for a name server; t_relay() and forward() resolve names by \
                        themselves, and is_myself() compares them"
                    .into(),
            );
        }
        if let Some(field) = name.strip_prefix("nameaddr.") {
            return Self::name_addr(field, rest, reader);
        }
        let entry = tables().find(|e| e.0 == name);
        let Some((_, spec, function)) = entry else {
            if let Some(function) = reader.names().transformation(name) {
                let parts = rest.map(split).unwrap_or_default();
                let args = parts.iter().map(|p| argument(p, 's', reader)).collect::<Result<_, _>>()?;
                return Ok(Self { op: Op::Module(function), args });
            }
            let hint = nearest(name, tables().map(|e| e.0)).map(|n| format!(", did you mean `{n}`?"));
            return Err(format!("there is no transformation `{name}`{}", hint.unwrap_or_default()));
        };
        Ok(Self { op: Op::Plain(*function), args: arguments(name, spec, rest, reader)? })
    }

    /// True for `{s.eval}`, which needs the host.
    pub fn is_eval(&self) -> bool {
        matches!(self.op, Op::Eval)
    }

    /// Applies it.
    pub fn apply(&self, value: Value, args: &[Value]) -> Value {
        if let Op::Module(function) = &self.op {
            return function(&value, args);
        }
        let Some(text) = value.to_bytes() else { return Value::Null };
        match &self.op {
            Op::Plain(function) => function(&text, args),
            Op::Indexed(index, function) => function(&text, *index, args),
            Op::Subst(subst) => Value::Str(subst.apply(&text)),
            Op::SubstComputed => match args.first().and_then(Value::to_bytes).map(|t| Subst::parse(&t)) {
                Some(Ok(subst)) => Value::Str(subst.apply(&text)),
                _ => Value::Null,
            },
            Op::Eval | Op::Module(_) => value,
        }
    }

    fn subst(rest: &str, reader: &mut Reader<'_>) -> Result<Self, String> {
        let rest = rest.trim_start();
        if rest.starts_with('$') {
            let var = reader.variable(rest.trim()).ok_or("its argument is no variable")?;
            return Ok(Self { op: Op::SubstComputed, args: Box::new([ValuePlan::Var(var)]) });
        }
        let subst = Subst::parse(rest.as_bytes())?;
        Ok(Self { op: Op::Subst(Arc::new(subst)), args: Box::default() })
    }

    fn name_addr(field: &str, rest: Option<&str>, reader: &mut Reader<'_>) -> Result<Self, String> {
        let (index, field) = match field.split_once('.') {
            Some((n, field)) => (parse_int(n.as_bytes()).ok_or_else(|| format!("`{n}` is no index"))?, field),
            None => (0, field),
        };
        let Some((_, spec, function)) = sip::NAME_ADDR.iter().find(|e| e.0 == field) else {
            return Err(format!("there is no transformation `nameaddr.{field}`"));
        };
        Ok(Self { op: Op::Indexed(index, *function), args: arguments("nameaddr", spec, rest, reader)? })
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Indexed(..) => "Indexed",
            Self::Eval => "Eval",
            Self::Subst(_) | Self::SubstComputed => "Subst",
            Self::Module(_) => "Module",
        })
    }
}

/// Every transformation, for manuals and completion: name without braces.
pub fn names() -> impl Iterator<Item = String> {
    let own = ["s.eval", "re.subst"].into_iter().map(str::to_owned);
    let indexed = sip::NAME_ADDR.iter().map(|e| format!("nameaddr.{}", e.0));
    tables().map(|e| e.0.to_owned()).chain(own).chain(indexed)
}

fn tables() -> impl Iterator<Item = &'static Entry> {
    [strings::TABLE, digest::TABLE, sip::TABLE, lists::TABLE, ip::TABLE].into_iter().flatten()
}

fn arguments(
    name: &str,
    spec: &str,
    rest: Option<&str>,
    reader: &mut Reader<'_>,
) -> Result<Box<[ValuePlan]>, String> {
    let mut args = Vec::new();
    let mut rest = rest;
    for kind in spec.chars() {
        if kind == 'c' {
            let text = rest.take().ok_or_else(|| format!("`{name}` needs one more argument"))?;
            args.push(argument(text, kind, reader)?);
            continue;
        }
        let Some(text) = rest.take() else {
            if kind.is_ascii_lowercase() {
                return Err(format!("`{name}` needs one more argument"));
            }
            break;
        };
        let end = split_at(text);
        rest = text.get(end + 1..);
        args.push(argument(&text[..end], kind, reader)?);
    }
    if rest.is_some() {
        return Err(format!("`{name}` takes fewer arguments"));
    }
    Ok(args.into())
}

fn argument(text: &str, kind: char, reader: &mut Reader<'_>) -> Result<ValuePlan, String> {
    let trimmed = text.trim();
    // A blank may itself be the argument: a separator, say.
    let text = if trimmed.is_empty() { text } else { trimmed };
    if text.len() > 1
        && text.starts_with('$')
        && crate::lex::scan_variable(text.as_bytes(), 0, true) == Some(text.len())
    {
        return reader.variable(text).map(ValuePlan::Var).ok_or_else(|| format!("`{text}` is no variable"));
    }
    if kind.eq_ignore_ascii_case(&'i') {
        let n = parse_int(text.as_bytes()).ok_or_else(|| format!("`{text}` is no number"))?;
        return Ok(ValuePlan::Const(Value::Int(n)));
    }
    if text.len() > 1 && text.contains('$') {
        return Ok(ValuePlan::Format(reader.format(text.as_bytes())));
    }
    Ok(ValuePlan::Const(Value::Str(Bytes::from(text.to_string()))))
}

fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let end = split_at(rest);
        parts.push(&rest[..end]);
        match rest.get(end + 1..) {
            Some(more) => rest = more,
            None => return parts,
        }
    }
}

/// The next comma that is not inside parentheses or braces.
fn split_at(text: &str) -> usize {
    let mut depth = 0usize;
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'(' | b'{' => depth += 1,
            b')' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return i,
            _ => {}
        }
    }
    text.len()
}

/// The integer argument at `i`.
fn int(args: &[Value], i: usize) -> Option<i64> {
    args.get(i)?.to_int()
}

/// The string argument at `i`.
fn text(args: &[Value], i: usize) -> Option<Bytes> {
    args.get(i)?.to_bytes()
}

/// A string value from a slice.
fn owned(bytes: &[u8]) -> Value {
    Value::Str(Bytes::copy_from_slice(bytes))
}

/// A string value from a slice, or nothing.
fn maybe(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, owned)
}

/// The element at `index`, counted from the end when negative.
fn pick<T: Copy>(list: &[T], index: i64) -> Option<T> {
    let i = if index < 0 { index + list.len() as i64 } else { index };
    list.get(usize::try_from(i).ok()?).copied()
}
