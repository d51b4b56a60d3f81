//! Reading variables and expanding format strings.

use bytes::Bytes;
use smallvec::SmallVec;

use super::frame::Scope;
use super::host::{Host, Index, VarAccess};
use crate::program::{ParamKey, Part, Pool, RoutePart, ValuePlan, VarSource};
use crate::value::{Value, parse_int};

/// Longest computed string in bytes; what is longer is cut.
pub(crate) const MAX_STRING: usize = 1 << 20;

/// Reads a variable with its transformations.
pub(crate) fn read<H: Host>(pool: &Pool, var: u32, host: &mut H, scope: Option<&Scope<'_>>) -> Value {
    read_at(pool, var, host, scope, None)
}

/// The same with another index than the written one.
pub(super) fn read_at<H: Host>(
    pool: &Pool,
    var: u32,
    host: &mut H,
    scope: Option<&Scope<'_>>,
    index: Option<i32>,
) -> Value {
    let slot = &pool.vars[var as usize];
    let mut value = match &slot.source {
        VarSource::Host { access, name: None, index: None } if index.is_none() => host.get(access),
        VarSource::Host { .. } => match resolve(pool, var, host, scope, index) {
            Some(access) => host.get(&access),
            None => Value::Null,
        },
        VarSource::Param(key) => match key_of(pool, key, host, scope) {
            Key::At(i) => scope.map_or(Value::Null, |s| s.param(i)),
            Key::Named(name) => scope.map_or(Value::Null, |s| s.param_named(&name)),
        },
        VarSource::Return(key) => match key_of(pool, key, host, scope) {
            Key::At(i) => scope.map_or(Value::Null, |s| s.returned(i)),
            Key::Named(_) => Value::Null,
        },
        VarSource::Rc => scope.map_or(Value::Null, |s| Value::Int(s.code())),
        VarSource::Route(part, index) => scope.map_or(Value::Null, |s| route_name(s, *part, *index)),
        VarSource::CfgLine => scope.map_or(Value::Null, |s| Value::Int(i64::from(s.position().line))),
        VarSource::CfgFile => {
            scope.map_or(Value::Null, |s| Value::Str(Bytes::copy_from_slice(s.position().file.as_bytes())))
        }
    };
    for transform in &slot.transforms {
        let args: SmallVec<[Value; 3]> = transform
            .args
            .iter()
            .map(|a| match a {
                ValuePlan::Const(v) => v.clone(),
                ValuePlan::Var(v) => read(pool, *v, host, scope),
                ValuePlan::Format(f) => Value::Str(expand(pool, *f, host, scope)),
            })
            .collect();
        value = match (transform.is_eval(), value) {
            (true, Value::Str(text)) => host.expand(&text),
            (true, other) => other,
            (false, value) => transform.apply(value, &args),
        };
    }
    value
}

/// How the host knows a variable, with name and index computed; `None` for one of the machine's own or when the index
/// is no number.
pub(super) fn resolve<H: Host>(
    pool: &Pool,
    var: u32,
    host: &mut H,
    scope: Option<&Scope<'_>>,
    index: Option<i32>,
) -> Option<VarAccess> {
    let VarSource::Host { access, name, index: computed } = &pool.vars[var as usize].source else {
        return None;
    };
    let mut access = access.clone();
    if let Some(format) = name {
        access.name = Some(expand(pool, *format, host, scope));
    }
    match (index, computed) {
        (Some(i), _) => access.index = Index::At(i),
        (None, Some(var)) => {
            let i = read(pool, *var, host, scope).to_int().and_then(|i| i32::try_from(i).ok())?;
            access.index = Index::At(i);
        }
        (None, None) => {}
    }
    Some(access)
}

/// Expands a format string.
pub(crate) fn expand<H: Host>(pool: &Pool, format: u32, host: &mut H, scope: Option<&Scope<'_>>) -> Bytes {
    match &*pool.formats[format as usize] {
        [Part::Text(text)] => text.clone(),
        [Part::Var(var)] => match read(pool, *var, host, scope) {
            Value::Str(text) => text,
            other => {
                let mut out = Vec::with_capacity(20);
                other.print(&mut out);
                out.into()
            }
        },
        _ => {
            let mut out = Vec::with_capacity(128);
            expand_into(pool, format, host, scope, &mut out);
            out.into()
        }
    }
}

/// Appends an expanded format string.
pub(super) fn expand_into<H: Host>(
    pool: &Pool,
    format: u32,
    host: &mut H,
    scope: Option<&Scope<'_>>,
    out: &mut Vec<u8>,
) {
    for part in &pool.formats[format as usize] {
        match part {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Var(var) => read(pool, *var, host, scope).print(out),
        }
        if out.len() > MAX_STRING {
            out.truncate(MAX_STRING);
            return;
        }
    }
}

/// Computes a value that stands alone.
pub(super) fn value<H: Host>(
    pool: &Pool,
    plan: &ValuePlan,
    host: &mut H,
    scope: Option<&Scope<'_>>,
) -> Value {
    match plan {
        ValuePlan::Const(v) => v.clone(),
        ValuePlan::Var(var) => read(pool, *var, host, scope),
        ValuePlan::Format(format) => Value::Str(expand(pool, *format, host, scope)),
    }
}

enum Key {
    At(i64),
    Named(Bytes),
}

fn key_of<H: Host>(pool: &Pool, key: &ParamKey, host: &mut H, scope: Option<&Scope<'_>>) -> Key {
    match key {
        ParamKey::At(i) => Key::At(*i),
        ParamKey::Named(name) => Key::Named(name.clone()),
        ParamKey::Computed(format) => {
            let text = expand(pool, *format, host, scope);
            match parse_int(&text) {
                Some(i) => Key::At(i),
                None => Key::Named(text),
            }
        }
    }
}

/// `$route` and its kin: the innermost route without an index, else counted from the innermost (0) or, negative, from
/// the top route (-1); `[*]` all of them from the top.
fn route_name(scope: &Scope<'_>, part: RoutePart, index: Index) -> Value {
    let depth = scope.depth();
    let mut out = Vec::with_capacity(32);
    match index {
        Index::None => scope.route_text(0, part, &mut out),
        Index::At(i) => {
            let i = if i < 0 { depth as i64 + i64::from(i) } else { i64::from(i) };
            match usize::try_from(i) {
                Ok(i) if i < depth => scope.route_text(i, part, &mut out),
                _ => return Value::Null,
            }
        }
        Index::All => {
            for i in (0..depth).rev() {
                if !out.is_empty() {
                    out.extend_from_slice(b" > ");
                }
                scope.route_text(i, part, &mut out);
            }
        }
        Index::Append => return Value::Null,
    }
    Value::Str(out.into())
}
