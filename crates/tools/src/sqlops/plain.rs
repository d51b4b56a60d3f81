//! Functions on AVPs that older scripts call (`avp_check()`, `avp_subst()` ...); today's scripts use operators and
//! transformations.
//!
//! Arguments are text: a name (`$avp(x)`, also `$avp(s:x)`, `s:x`), and flags behind a slash. Without the flag `g` only the
//! newest value is meant.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use regex::bytes::Regex;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::run::print_format;
use switchroom_script::glob::{self, Case};
use switchroom_script::vm::posix_regex_with;
use switchroom_script::{Piece, Subst, Template, Value};

use super::SqlOps;
use crate::variables::{Lists, put};

/// Expressions kept ready; a script has a handful.
const MAX_KEPT: usize = 1024;

/// What was compiled, by its text.
#[derive(Default)]
pub(super) struct Plain {
    variables: Lists,
    substitutions: Kept<Substitution>,
    expressions: Kept<Regex>,
}

struct Kept<T>(RwLock<HashMap<Bytes, Arc<T>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(RwLock::default())
    }
}

impl<T> Kept<T> {
    fn get(&self, text: &[u8], make: impl FnOnce() -> Result<T, String>) -> Result<Arc<T>, String> {
        if let Some(found) = self.0.read().get(text) {
            return Ok(found.clone());
        }
        let made = Arc::new(make()?);
        let mut kept = self.0.write();
        if kept.len() < MAX_KEPT {
            kept.insert(Bytes::copy_from_slice(text), made.clone());
        }
        Ok(made)
    }
}

type Done = Result<bool, String>;

fn flow(function: &str, done: Done) -> Flow {
    match done {
        Ok(true) => TRUE,
        Ok(false) => FALSE,
        Err(e) => {
            tracing::error!("{function}(): {e}");
            FALSE
        }
    }
}

/// Number of the AVP that `text` names.
fn avp(ctx: &Ctx, text: &str) -> Result<u32, String> {
    let text = text.trim();
    let inner = text.strip_prefix("$avp(").and_then(|t| t.strip_suffix(')')).unwrap_or(text);
    let name = inner.strip_prefix("s:").or_else(|| inner.strip_prefix("i:")).unwrap_or(inner);
    let wrong =
        name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if wrong {
        return Err(format!("\"{text}\" names no AVP; write $avp(name)"));
    }
    ctx.shard.kernel.registry.names.intern(name)
}

/// A name and the flags behind its last slash, in lower case.
fn with_flags(text: &str) -> (&str, String) {
    match text.rsplit_once('/') {
        Some((name, flags)) => (name, flags.trim().to_ascii_lowercase()),
        None => (text, String::new()),
    }
}

/// The newest value, or all, newest first.
fn values(ctx: &Ctx, name: u32, all: bool) -> Vec<Value> {
    ctx.avps.all(name).take(if all { usize::MAX } else { 1 }).cloned().collect()
}

/// `is_avp_set("$avp(x)[/flags]")`
pub(super) fn is_set(c: &mut Call<'_>) -> Flow {
    let text = c.text(0);
    let (name, flags) = with_flags(&text);
    flow(
        "is_avp_set",
        avp(c.ctx, name).map(|name| {
            values(c.ctx, name, false).iter().any(|value| {
                let number = matches!(value, Value::Int(_));
                let empty = value.to_bytes().is_none_or(|b| b.is_empty());
                flags.chars().all(|flag| match flag {
                    'e' => empty,
                    's' => !number,
                    'n' => number,
                    _ => true,
                })
            })
        }),
    )
}

/// `avp_delete("$avp(x)[/g]")`; `*` for all AVPs.
pub(super) fn delete(c: &mut Call<'_>) -> Flow {
    let text = c.text(0);
    let (name, flags) = with_flags(&text);
    if matches!(name.trim(), "*" | "a" | "A" | "s" | "S" | "i" | "I") {
        c.ctx.avps.clear();
        return TRUE;
    }
    flow(
        "avp_delete",
        avp(c.ctx, name).map(|name| {
            if flags.contains('g') {
                c.ctx.avps.remove_all(name)
            } else {
                c.ctx.avps.remove(name, 0)
            }
            true
        }),
    )
}

/// `avp_insert("$avp(x)", value[, index])`: the value gets that index, those from there on one more; without so many
/// values it is the last.
pub(super) fn insert(c: &mut Call<'_>) -> Flow {
    let (name, value, index) = (c.text(0), c.str(1).cloned(), c.int(2).unwrap_or(0));
    flow("avp_insert", inserted(c.ctx, &name, value.unwrap_or_default(), index))
}

fn inserted(ctx: &mut Ctx, name: &str, value: Bytes, index: i64) -> Done {
    let index = usize::try_from(index).map_err(|_| format!("index {index} is below 0"))?;
    let name = avp(ctx, name)?;
    let mut all = values(ctx, name, true);
    all.insert(index.min(all.len()), Value::Str(Bytes::copy_from_slice(&value)));
    ctx.avps.remove_all(name);
    // The oldest first, so that the order stays.
    all.into_iter().rev().for_each(|v| ctx.avps.push(name, v));
    Ok(true)
}

/// `avp_copy("$avp(from)", "$avp(to)[/flags]")`
pub(super) fn copy(c: &mut Call<'_>) -> Flow {
    let (from, to) = (c.text(0), c.text(1));
    flow("avp_copy", copied(c.ctx, &from, &to))
}

fn copied(ctx: &mut Ctx, from: &str, to: &str) -> Done {
    let (to, flags) = with_flags(to);
    let (from, to) = (avp(ctx, from)?, avp(ctx, to)?);
    let found = values(ctx, from, flags.contains('g'));
    if flags.contains('d') {
        found.iter().for_each(|_| ctx.avps.remove(from, 0));
    }
    // The oldest first, so that the order stays.
    for value in found.iter().rev() {
        let value = match value {
            Value::Int(number) if flags.contains('s') => Value::str(number.to_string()),
            Value::Str(_) if flags.contains('n') => Value::Int(number(value)),
            other => other.clone(),
        };
        ctx.avps.push(to, value);
    }
    Ok(!found.is_empty())
}

/// `avp_check("$var", "operator/value[/flags]")`
pub(super) fn check(c: &mut Call<'_>) -> Flow {
    let (name, test) = (c.text(0), c.text(1));
    flow("avp_check", checked(c.ctx, &name, &test))
}

fn checked(ctx: &mut Ctx, name: &str, test: &str) -> Done {
    let operation = Operation::read(test)?;
    let found = match avp(ctx, name) {
        Ok(name) => values(ctx, name, operation.has('g')),
        Err(_) => vec![variable(ctx, name)?],
    };
    let wanted = operation.value(ctx)?;
    let shard = ctx.shard.clone();
    let kept = &shard.kernel.state::<SqlOps>().plain.expressions;
    for value in found {
        if compare(&value, &operation, &wanted, kept)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn compare(value: &Value, operation: &Operation<'_>, wanted: &Value, kept: &Kept<Regex>) -> Done {
    let Some(text) = value.to_bytes() else { return Ok(false) };
    let other = wanted.to_bytes().unwrap_or_default();
    match operation.name {
        "re" => {
            let ignore_case = operation.has('i');
            let key = [if ignore_case { &b"i"[..] } else { b" " }, &other].concat();
            let expression = kept.get(&key, || posix_regex_with(&other, ignore_case, false))?;
            return Ok(expression.is_match(&text));
        }
        "fm" => return Ok(glob::matches(&other, &text, Case::Counts)),
        "and" => return Ok(number(value) & number(wanted) != 0),
        "or" => return Ok(number(value) | number(wanted) != 0),
        "xor" => return Ok(number(value) ^ number(wanted) != 0),
        _ => {}
    }
    let order = match (value, wanted) {
        (Value::Int(a), b) | (b, Value::Int(a)) if is_number(b) => {
            let order = a.cmp(&number(b));
            if matches!(value, Value::Int(_)) { order } else { order.reverse() }
        }
        _ if operation.has('i') => text.to_ascii_lowercase().cmp(&other.to_ascii_lowercase()),
        _ => text.cmp(&other),
    };
    Ok(match operation.name {
        "eq" => order.is_eq(),
        "ne" => order.is_ne(),
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        "gt" => order.is_gt(),
        "ge" => order.is_ge(),
        other => return Err(format!("\"{other}\" is no test; there are eq ne lt le gt ge re fm and or xor")),
    })
}

/// As a number; 0 for what is none.
fn number(value: &Value) -> i64 {
    value.to_int().unwrap_or(0)
}

fn is_number(value: &Value) -> bool {
    match value {
        Value::Int(_) => true,
        other => {
            other.to_bytes().is_some_and(|b| std::str::from_utf8(&b).is_ok_and(|t| t.parse::<i64>().is_ok()))
        }
    }
}

/// `avp_op("$avp(x)[/$avp(y)]", "operator/value[/flags]")`
pub(super) fn calculate(c: &mut Call<'_>) -> Flow {
    let (names, operation) = (c.text(0), c.text(1));
    flow("avp_op", calculated(c.ctx, &names, &operation))
}

fn calculated(ctx: &mut Ctx, names: &str, operation: &str) -> Done {
    let operation = Operation::read(operation)?;
    let (from, to) = match names.split_once('/') {
        Some((from, to)) => (avp(ctx, from)?, Some(avp(ctx, to)?)),
        None => (avp(ctx, names)?, None),
    };
    let by = number(&operation.value(ctx)?);
    let found = values(ctx, from, operation.has('g'));
    let mut results = Vec::with_capacity(found.len());
    for value in &found {
        let a = number(value);
        results.push(Value::Int(match operation.name {
            "add" => a.wrapping_add(by),
            "sub" => a.wrapping_sub(by),
            "mul" => a.wrapping_mul(by),
            "div" => a.checked_div(by).ok_or("division by zero")?,
            "mod" => a.checked_rem(by).ok_or("division by zero")?,
            "and" => a & by,
            "or" => a | by,
            "xor" => a ^ by,
            "not" => !a,
            other => {
                return Err(format!("\"{other}\" is unknown; there are add sub mul div mod and or xor not"));
            }
        }));
    }
    write_back(ctx, from, to, operation.has('d'), results);
    Ok(!found.is_empty())
}

/// New values in place of the newest ones, or under another name.
fn write_back(ctx: &mut Ctx, from: u32, to: Option<u32>, delete: bool, results: Vec<Value>) {
    if delete && to.is_some() {
        results.iter().for_each(|_| ctx.avps.remove(from, 0));
    }
    match to {
        None => {
            for (index, value) in (0..).zip(results) {
                ctx.avps.replace(from, index, value);
            }
        }
        Some(to) => results.into_iter().rev().for_each(|value| ctx.avps.push(to, value)),
    }
}

/// A substitution whose replacement may hold variables.
struct Substitution {
    subst: Subst,
    formats: Vec<Option<Template>>,
}

/// `avp_subst("$avp(x)[/$avp(y)[/flags]]", "/expression/new/flags")`
pub(super) fn substitute(c: &mut Call<'_>) -> Flow {
    let (names, text) = (c.text(0), c.str(1).cloned().unwrap_or_default());
    flow("avp_subst", substituted(c.ctx, &names, &text))
}

fn substituted(ctx: &mut Ctx, names: &str, text: &[u8]) -> Done {
    let mut parts = names.split('/');
    let from = avp(ctx, parts.next().unwrap_or_default())?;
    let to = parts.next().map(str::trim).filter(|to| !to.is_empty()).map(|to| avp(ctx, to)).transpose()?;
    let flags = parts.next().unwrap_or_default().to_ascii_lowercase();
    let shard = ctx.shard.clone();
    let substitution = shard.kernel.state::<SqlOps>().plain.substitutions.get(text, || {
        let subst = Subst::parse(text)?;
        let formats = subst.replacement.iter().map(|piece| match piece {
            Piece::Text(t) if t.contains(&b'$') => Template::compile(t, &shard.kernel.registry).map(Some),
            _ => Ok(None),
        });
        let formats = formats.collect::<Result<_, _>>()?;
        Ok(Substitution { subst, formats })
    })?;
    let Substitution { subst, formats } = &*substitution;
    let texts: Vec<Option<Bytes>> =
        formats.iter().map(|format| format.as_ref().map(|format| print_format(ctx, format))).collect();
    let mut any = false;
    let mut results = Vec::new();
    for value in values(ctx, from, flags.contains('g')) {
        let Some(old) = value.to_bytes() else { continue };
        let limit = if subst.all { usize::MAX } else { 1 };
        let (mut new, mut end) = (Vec::new(), 0);
        for found in subst.regex.captures_iter(&old).take(limit) {
            let Some(whole) = found.get(0) else { break };
            new.extend_from_slice(&old[end..whole.start()]);
            for (piece, text) in subst.replacement.iter().zip(&texts) {
                match (piece, text) {
                    (_, Some(text)) => new.extend_from_slice(text),
                    (Piece::Text(text), None) => new.extend_from_slice(text),
                    (Piece::Group(n), None) => {
                        new.extend_from_slice(found.get(*n).map_or(b"", |m| m.as_bytes()));
                    }
                }
            }
            end = whole.end();
            any = true;
        }
        new.extend_from_slice(&old[end..]);
        results.push(Value::Str(new.into()));
    }
    if any {
        write_back(ctx, from, to, flags.contains('d'), results);
    }
    Ok(any)
}

/// `avp_pushto("$ru[/username|/domain]", "$avp(x)[/g]")`
pub(super) fn push_to(c: &mut Call<'_>) -> Flow {
    let (to, from) = (c.text(0), c.text(1));
    flow("avp_pushto", pushed(c.ctx, &to, &from))
}

fn pushed(ctx: &mut Ctx, to: &str, from: &str) -> Done {
    let to = match to.trim() {
        "$ru/username" => "$rU",
        "$ru/domain" => "$rd",
        other @ ("$ru" | "$du" | "$br") => other,
        other => {
            return Err(format!(
                "\"{other}\" cannot be written; there are $ru, $ru/username, $ru/domain, $du, $br"
            ));
        }
    };
    let (name, flags) = with_flags(from);
    let found = match avp(ctx, name) {
        Ok(name) => values(ctx, name, flags.contains('g')),
        Err(_) => vec![variable(ctx, name)?],
    };
    let shard = ctx.shard.clone();
    let lists = &shard.kernel.state::<SqlOps>().plain.variables;
    let list = lists.get(&shard.kernel.registry, &Bytes::copy_from_slice(to.as_bytes()))?;
    let Some(target) = list.first() else { return Ok(false) };
    let mut any = false;
    for value in found.into_iter().filter(|v| !matches!(v, Value::Null)) {
        any |= put(ctx, "avp_pushto", target, value);
    }
    Ok(any)
}

/// The value of any variable.
fn variable(ctx: &mut Ctx, text: &str) -> Result<Value, String> {
    let shard = ctx.shard.clone();
    let format = Template::compile(text.trim().as_bytes(), &shard.kernel.registry)?;
    Ok(Value::Str(print_format(ctx, &format)))
}

/// `operator/value[/flags]`
struct Operation<'a> {
    name: &'a str,
    value: &'a str,
    flags: &'a str,
}

impl<'a> Operation<'a> {
    fn read(text: &'a str) -> Result<Operation<'a>, String> {
        let (name, rest) =
            text.split_once('/').ok_or_else(|| format!("\"{text}\": write operator/value/flags"))?;
        // A value may hold slashes, flags are only letters.
        let known = |flags: &str| flags.chars().all(|c| "gGiIdD".contains(c));
        let (value, flags) = rest.rsplit_once('/').filter(|(_, flags)| known(flags)).unwrap_or((rest, ""));
        Ok(Operation { name, value, flags })
    }

    fn has(&self, flag: char) -> bool {
        self.flags.chars().any(|f| f.eq_ignore_ascii_case(&flag))
    }

    /// What stands behind the operator: a variable, `i:` number, `s:` text, or text.
    fn value(&self, ctx: &mut Ctx) -> Result<Value, String> {
        if let Some(digits) = self.value.strip_prefix("i:") {
            let hex = digits.strip_prefix("0x").map(|d| i64::from_str_radix(d, 16));
            let parsed = hex.unwrap_or_else(|| digits.parse());
            return parsed.map(Value::Int).map_err(|_| format!("\"{digits}\" is no number"));
        }
        if self.value.starts_with('$') {
            return match avp(ctx, self.value) {
                Ok(name) => Ok(ctx.avps.get(name, 0)),
                Err(_) => variable(ctx, self.value),
            };
        }
        Ok(Value::str(self.value.strip_prefix("s:").unwrap_or(self.value).to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_slashes_and_flags_are_letters() {
        for (text, value, flags) in [
            ("lt/345/g", "345", "g"),
            ("eq/$td/I", "$td", "I"),
            ("re/sip:.*/a/gi", "sip:.*/a", "gi"),
            ("re/a/b", "a/b", ""),
            ("eq/", "", ""),
        ] {
            let operation = Operation::read(text).unwrap();
            assert_eq!((operation.value, operation.flags), (value, flags), "{text}");
        }
        assert!(Operation::read("eq").is_err());
    }
}
