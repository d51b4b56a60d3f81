//! The branch set of a request before it is relayed: index 0 is the Request-URI, the others were appended. Functions and
//! the variables `$msg.branch.*`, `$branch`.

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, Target};
use switchroom_kernel::names::FlagKind;
use switchroom_script::Value;
use switchroom_script::vm::Index;
use switchroom_script::vm::VarAccess;
use switchroom_wire::sip::{NameAddr, Uri};

use super::functions::find_socket;

/// A message may have so many branches, the Request-URI included.
pub const MAX_BRANCHES: usize = 256;

/// Branch `index`: 0 is the Request-URI, negative counts from the end.
pub fn target_mut(ctx: &mut Ctx, index: i64) -> Option<&mut Target> {
    let count = ctx.branches.len() as i64 + 1;
    let index = if index < 0 { count + index } else { index };
    match index {
        0 => Some(&mut ctx.target),
        1.. => ctx.branches.get_mut(index as usize - 1),
        _ => None,
    }
}

/// The same, to read.
pub fn target(ctx: &Ctx, index: i64) -> Option<&Target> {
    let count = ctx.branches.len() as i64 + 1;
    let index = if index < 0 { count + index } else { index };
    match index {
        0 => Some(&ctx.target),
        1.. => ctx.branches.get(index as usize - 1),
        _ => None,
    }
}

/// Add a branch; false when there are too many.
pub fn push(ctx: &mut Ctx, target: Target) -> bool {
    if ctx.branches.len() + 1 >= MAX_BRANCHES {
        tracing::warn!("a request has more than {MAX_BRANCHES} branches; one is left out");
        return false;
    }
    ctx.branches.push(target);
    true
}

/// Quality as written (`0.5`) in thousandths.
pub fn parse_q(text: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let q: f64 = text.parse().ok()?;
    (0.0..=1.0).contains(&q).then_some((q * 1000.0).round() as i32)
}

/// Thousandths as written; empty when unset.
pub fn print_q(q: i32) -> String {
    match q {
        ..0 => String::new(),
        1000.. => "1".into(),
        0 => "0".into(),
        q => format!("0.{q:03}").trim_end_matches('0').to_owned(),
    }
}

/// The Contact line of a 3xx of ours: the Request-URI, when the script changed it, and the branches (RFC 3261 §8.3).
pub fn redirect_line(ctx: &Ctx) -> Option<Vec<u8>> {
    let main = ctx.target.uri.as_ref().map(|uri| (uri, ctx.target.q));
    let others = ctx.branches.iter().filter_map(|b| b.uri.as_ref().map(|uri| (uri, b.q)));
    let mut line = Vec::new();
    for (uri, q) in main.into_iter().chain(others) {
        line.extend_from_slice(if line.is_empty() { b"Contact: <" } else { b", <" });
        line.extend_from_slice(uri);
        line.push(b'>');
        if q >= 0 {
            line.extend_from_slice(b";q=");
            line.extend_from_slice(print_q(q).as_bytes());
        }
    }
    if line.is_empty() {
        return None;
    }
    line.extend_from_slice(b"\r\n");
    Some(line)
}

/// `append_branch([uri][, q])`: without URI the present branch 0 is copied.
pub fn append_old(c: &mut Call<'_>) -> Flow {
    let mut new = match c.str(0).cloned() {
        Some(uri) => super::functions::target_of(uri),
        None => {
            let mut copy = c.ctx.target.clone();
            copy.uri = Some(c.ctx.ruri());
            copy
        }
    };
    if let Some(q) = c.str(1).and_then(|q| parse_q(q)) {
        new.q = q;
    }
    if push(c.ctx, new) { TRUE } else { FALSE }
}

/// `append_msg_branch(uri[, duri][, headers/q])`.
pub fn append(c: &mut Call<'_>) -> Flow {
    let Some(uri) = c.str(0).cloned() else { return FALSE };
    if Uri::parse(&uri).is_err() {
        tracing::warn!("append_msg_branch(): \"{}\" is no URI", String::from_utf8_lossy(&uri));
        return FALSE;
    }
    let mut new = super::functions::target_of(uri);
    new.dst = c.str(1).filter(|d| !d.is_empty()).cloned();
    if let Some(q) = c.str(2).and_then(|q| parse_q(q)) {
        new.q = q;
    }
    if push(c.ctx, new) { TRUE } else { FALSE }
}

/// `remove_msg_branch(index)`: index 0 removes the Request-URI and moves the next branch into its place.
pub fn remove(c: &mut Call<'_>) -> Flow {
    let index = c.int(0).unwrap_or(0);
    if remove_at(c.ctx, index) { TRUE } else { FALSE }
}

/// `remove_branch(index)` of older scripts, which count from the first branch that was appended.
pub fn remove_old(c: &mut Call<'_>) -> Flow {
    let index = c.int(0).unwrap_or(0);
    let index = if index < 0 { index } else { index + 1 };
    if remove_at(c.ctx, index) { TRUE } else { FALSE }
}

fn remove_at(ctx: &mut Ctx, index: i64) -> bool {
    let count = ctx.branches.len() as i64 + 1;
    let index = if index < 0 { count + index } else { index };
    match index {
        0 if !ctx.branches.is_empty() => {
            ctx.target = ctx.branches.remove(0);
            true
        }
        1.. if (index as usize) <= ctx.branches.len() => {
            ctx.branches.remove(index as usize - 1);
            true
        }
        _ => false,
    }
}

/// `move_msg_branch([from][, to][, "keep"])`: copy a branch over another; the source goes unless it is to be kept.
pub fn shift(c: &mut Call<'_>) -> Flow {
    let from = c.int(0);
    let to = c.int(1);
    let keep = c.text(2).to_ascii_lowercase().contains("keep");
    let Some(copy) = from_to(c.ctx, from) else { return FALSE };
    let count = c.ctx.branches.len() as i64 + 1;
    match to {
        Some(to) if to < count => match target_mut(c.ctx, to) {
            Some(t) => *t = copy,
            None => return FALSE,
        },
        _ => {
            if !push(c.ctx, copy) {
                return FALSE;
            }
        }
    }
    if !keep && let Some(from) = from {
        remove_at(c.ctx, from);
    }
    TRUE
}

fn from_to(ctx: &Ctx, from: Option<i64>) -> Option<Target> {
    let mut copy = target(ctx, from.unwrap_or(0))?.clone();
    if copy.uri.is_none() {
        copy.uri = Some(ctx.ruri());
    }
    Some(copy)
}

/// `swap_msg_branches([a][, b])`.
pub fn swap(c: &mut Call<'_>) -> Flow {
    let (a, b) = (c.int(0).unwrap_or(0), c.int(1).unwrap_or(0));
    let (Some(ta), Some(tb)) = (from_to(c.ctx, Some(a)), from_to(c.ctx, Some(b))) else { return FALSE };
    if let Some(t) = target_mut(c.ctx, a) {
        *t = tb;
    }
    if let Some(t) = target_mut(c.ctx, b) {
        *t = ta;
    }
    TRUE
}

/// Branches put aside by `serialize_branches()`, best first.
#[derive(Default)]
pub struct Serialized {
    groups: Vec<Vec<Target>>,
}

/// `serialize_branches(clear[, keep_order])`: put all branches aside, grouped by q from high to low.
pub fn serialize(c: &mut Call<'_>) -> Flow {
    let clear = c.int(0).unwrap_or(0) != 0;
    let keep_order = c.int(1).unwrap_or(0) != 0;
    let ctx = &mut *c.ctx;
    if ctx.branches.is_empty() {
        return TRUE;
    }
    let mut all = vec![Target { uri: Some(ctx.ruri()), ..ctx.target.clone() }];
    all.append(&mut ctx.branches);
    let mut groups: Vec<Vec<Target>> = Vec::new();
    if keep_order {
        groups.extend(all.into_iter().map(|t| vec![t]));
    } else {
        all.sort_by_key(|t| std::cmp::Reverse(t.q));
        for t in all {
            match groups.last_mut() {
                Some(g) if g[0].q == t.q => g.push(t),
                _ => groups.push(vec![t]),
            }
        }
    }
    groups.reverse();
    let kept = ctx.note_mut::<Serialized>();
    if clear {
        kept.groups.clear();
    }
    let old = std::mem::replace(&mut kept.groups, groups);
    // What was put aside before comes after the new ones.
    kept.groups.splice(0..0, old);
    TRUE
}

/// `next_branches()`: 1 and more to come, 2 the last group is loaded, -1 none left.
pub fn next(c: &mut Call<'_>) -> Flow {
    let kept = c.ctx.note_mut::<Serialized>();
    let Some(group) = kept.groups.pop() else { return FALSE };
    let more = !kept.groups.is_empty();
    let mut group = group.into_iter();
    if let Some(first) = group.next() {
        c.ctx.target = first;
    }
    c.ctx.branches = group.collect();
    if more { TRUE } else { Flow::Value(2) }
}

// Variables -----------------------------------------------------------------------------------------------------------

/// The branch that is meant; without an index the last one that was added, or the Request-URI when there is none.
fn index(ctx: &Ctx, var: &VarAccess) -> i64 {
    match var.index {
        Index::At(i) => i64::from(i),
        _ => ctx.branches.len() as i64,
    }
}

fn join(ctx: &mut Ctx, get: impl Fn(&mut Ctx, i64) -> Value) -> Value {
    let mut all = Vec::new();
    for i in 0..=ctx.branches.len() as i64 {
        if i > 0 {
            all.push(b',');
        }
        if let Some(s) = get(ctx, i).to_bytes() {
            all.extend_from_slice(&s);
        }
    }
    Value::Str(all.into())
}

fn each(ctx: &mut Ctx, var: &VarAccess, get: fn(&Ctx, &Target) -> Value) -> Value {
    let one = |ctx: &mut Ctx, i: i64| match target(ctx, i) {
        Some(t) => get(ctx, t),
        None => Value::Null,
    };
    if var.index == Index::All {
        return join(ctx, one);
    }
    let at = index(ctx, var);
    one(ctx, at)
}

/// `$msg.branch.uri`
pub fn get_uri(ctx: &mut Ctx, var: &VarAccess) -> Value {
    each(ctx, var, |ctx, t| Value::Str(t.uri.clone().unwrap_or_else(|| ctx.ruri())))
}
/// `$msg.branch.uri`
pub fn set_uri(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    edit(ctx, var, value, |t, v| {
        t.uri = v;
        Ok(())
    })
}
/// `$msg.branch.duri`
pub fn get_duri(ctx: &mut Ctx, var: &VarAccess) -> Value {
    each(ctx, var, |_, t| t.dst.clone().map_or(Value::Null, Value::Str))
}
/// `$msg.branch.duri`
pub fn set_duri(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    edit(ctx, var, value, |t, v| {
        t.dst = v;
        Ok(())
    })
}
/// `$msg.branch.path`
pub fn get_path(ctx: &mut Ctx, var: &VarAccess) -> Value {
    each(ctx, var, |_, t| t.path.clone().map_or(Value::Null, Value::Str))
}
/// `$msg.branch.path`
pub fn set_path(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    edit(ctx, var, value, |t, v| {
        t.path = v;
        Ok(())
    })
}
/// `$msg.branch.q` in thousandths
pub fn get_q(ctx: &mut Ctx, var: &VarAccess) -> Value {
    each(ctx, var, |_, t| if t.q < 0 { Value::Null } else { Value::Int(i64::from(t.q)) })
}
/// `$msg.branch.q`: a number of thousandths, or text as headers have it (`0.5`).
pub fn set_q(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let q = match &value {
        Value::Null => Some(-1),
        Value::Int(n) => i32::try_from(*n).ok().filter(|n| (-1..=1000).contains(n)),
        Value::Str(text) => parse_q(text),
    };
    let q = q.ok_or("q is a number of thousandths, 0 to 1000, or text like \"0.5\"")?;
    target_mut(ctx, index(ctx, var)).ok_or("no such branch")?.q = q;
    Ok(())
}
/// `$msg.branch.socket`
pub fn get_socket(ctx: &mut Ctx, var: &VarAccess) -> Value {
    each(ctx, var, |ctx, t| match t.socket.and_then(|s| ctx.shard.kernel.socket(s)) {
        Some(s) => Value::Str(s.name().into()),
        None => Value::Null,
    })
}
/// `$msg.branch.socket`
pub fn set_socket(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let socket = match value.to_bytes() {
        None => None,
        Some(name) => {
            let name = String::from_utf8_lossy(&name).into_owned();
            Some(find_socket(ctx, &name).ok_or_else(|| format!("no listening socket \"{name}\""))?)
        }
    };
    match target_mut(ctx, index(ctx, var)) {
        Some(t) => {
            t.socket = socket;
            Ok(())
        }
        None => Err("no such branch".into()),
    }
}
/// `$msg.branch.flags`: names of the set flags.
pub fn get_flags(ctx: &mut Ctx, var: &VarAccess) -> Value {
    each(ctx, var, |ctx, t| {
        Value::Str(ctx.shard.kernel.registry.names.flag_names(FlagKind::Branch, t.flags).into())
    })
}
/// `$msg.branch.flag(name)`
pub fn get_flag(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let bit = flag_bit(ctx, var);
    match (bit, target(ctx, index(ctx, var))) {
        (Some(bit), Some(t)) => Value::Int(i64::from(t.flags & bit != 0)),
        _ => Value::Null,
    }
}
/// `$msg.branch.flag(name)`
pub fn set_flag(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let bit = flag_bit(ctx, var).ok_or("no such flag")?;
    let on = value.to_int().unwrap_or(0) != 0;
    let t = target_mut(ctx, index(ctx, var)).ok_or("no such branch")?;
    if on {
        t.flags |= bit;
    } else {
        t.flags &= !bit;
    }
    Ok(())
}

/// `$branch.flag(name)`: that of the Request-URI without an index.
pub fn get_old_flag(ctx: &mut Ctx, var: &VarAccess) -> Value {
    get_flag(ctx, &first_unless_told(var))
}
/// `$branch.flag(name)`
pub fn set_old_flag(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    set_flag(ctx, &first_unless_told(var), value)
}

fn first_unless_told(var: &VarAccess) -> VarAccess {
    let index = if matches!(var.index, Index::At(_)) { var.index } else { Index::At(0) };
    VarAccess { index, ..var.clone() }
}

fn flag_bit(ctx: &Ctx, var: &VarAccess) -> Option<u32> {
    let name = ctx.shard.kernel.registry.inner_name(var)?;
    let name = std::str::from_utf8(&name).ok()?;
    ctx.shard.kernel.registry.names.flag(FlagKind::Branch, name).ok().map(|b| 1 << b)
}

/// `$msg.branch.attr(name)`
pub fn get_attr(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(key) = ctx.shard.kernel.registry.inner_key(var) else { return Value::Null };
    target(ctx, index(ctx, var)).map_or(Value::Null, |t| t.attrs.get(key, 0))
}
/// `$msg.branch.attr(name)`
pub fn set_attr(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let key = ctx.shard.kernel.registry.inner_key(var).ok_or("too many names")?;
    let t = target_mut(ctx, index(ctx, var)).ok_or("no such branch")?;
    t.attrs.remove_all(key);
    if value != Value::Null {
        t.attrs.push(key, value);
    }
    Ok(())
}
/// `$msg.branch.last_idx`
pub fn last_index(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(ctx.branches.len() as i64)
}
/// `$msg.branch = "uri"` appends.
pub fn append_var(ctx: &mut Ctx, _: &VarAccess, value: Value) -> Result<(), String> {
    let Some(text) = value.to_bytes() else { return Ok(()) };
    match name_addr(&text) {
        Some(t) if push(ctx, t.clone()) => Ok(()),
        Some(_) => Err("too many branches".into()),
        None => Err(format!("\"{}\" is no URI", String::from_utf8_lossy(&text))),
    }
}
/// `$branch` / `$(branch(field)[i])`: the appended branches, or fields of them.
pub fn get_branch(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let field = ctx.shard.kernel.registry.inner_name(var);
    let shifted = beyond(var);
    match field.as_deref() {
        None | Some(b"uri") => get_uri_beyond(ctx, &shifted),
        Some(b"duri") => get_duri(ctx, &shifted),
        Some(b"path") => get_path(ctx, &shifted),
        Some(b"q") => get_q(ctx, &shifted),
        Some(b"socket") => get_socket(ctx, &shifted),
        Some(b"flags") => get_flags(ctx, &shifted),
        _ => Value::Null,
    }
}

/// `$branch = "uri"` appends; `$(branch(field)[i])` changes a branch that was appended, the first without an index.
pub fn set_branch(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let Some(field) = ctx.shard.kernel.registry.inner_name(var) else { return append_var(ctx, var, value) };
    let shifted = beyond(var);
    match &field[..] {
        b"uri" => set_uri(ctx, &shifted, value),
        b"duri" => set_duri(ctx, &shifted, value),
        b"path" => set_path(ctx, &shifted, value),
        b"q" => set_q(ctx, &shifted, value),
        b"socket" => set_socket(ctx, &shifted, value),
        b"flags" => Err("flags are set one by one: $(branch.flag(name)[index]) = 1".into()),
        other => Err(format!("a branch has no field \"{}\"", String::from_utf8_lossy(other))),
    }
}

/// The same variable with its index counted as today, where the Request-URI is branch 0.
fn beyond(var: &VarAccess) -> VarAccess {
    let index = match var.index {
        Index::At(i) if i < 0 => Index::At(i),
        Index::At(i) => Index::At(i.saturating_add(1)),
        Index::All => Index::All,
        Index::None | Index::Append => Index::At(1),
    };
    VarAccess { index, ..var.clone() }
}

fn get_uri_beyond(ctx: &mut Ctx, var: &VarAccess) -> Value {
    if var.index != Index::All {
        return get_uri(ctx, var);
    }
    let uris: Vec<&[u8]> = ctx.branches.iter().filter_map(|t| t.uri.as_deref()).collect();
    if uris.is_empty() { Value::Null } else { Value::Str(uris.join(&b','.to_owned()).into()) }
}

fn name_addr(text: &Bytes) -> Option<Target> {
    let n = NameAddr::parse(text).ok()?;
    Uri::parse(n.uri).ok()?;
    let mut t = super::functions::target_of(Bytes::copy_from_slice(n.uri));
    t.q = n.q().map_or(-1, i32::from);
    Some(t)
}

fn edit(
    ctx: &mut Ctx,
    var: &VarAccess,
    value: Value,
    change: impl Fn(&mut Target, Option<Bytes>) -> Result<(), String>,
) -> Result<(), String> {
    let t = target_mut(ctx, index(ctx, var)).ok_or("no such branch")?;
    change(t, value.to_bytes().filter(|b| !b.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_is_kept_in_thousandths() {
        assert_eq!(parse_q(b"0.5"), Some(500));
        assert_eq!(parse_q(b"1"), Some(1000));
        assert_eq!(parse_q(b"1.2"), None);
        assert_eq!(print_q(500), "0.5");
        assert_eq!(print_q(25), "0.025");
        assert_eq!(print_q(1000), "1");
        assert_eq!(print_q(-1), "");
    }
}
