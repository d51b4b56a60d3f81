//! Script functions. The destinations still to be tried are kept in AVPs, which live with the transaction.

use std::sync::Arc;

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::run::{print_format, read_variable};
use switchroom_script::Value;
use switchroom_wire::sip::Uri;

use super::Dispatcher;
use super::set::{Choice, Destination, Set, State, hash};
use super::store::{Avps, Partition, address};
use crate::core::functions::find_socket;
use crate::core::state::Core;
use crate::core::uri::{Part, with_part};
use switchroom_script::glob::{self, Case};
use switchroom_wire::sip::scan::ip_literal;

/// What a chosen destination replaces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// The next hop.
    Dst,
    /// Host and port of the Request-URI.
    Domain,
}

#[derive(Clone, Copy, Default)]
struct Flags {
    failover: bool,
    user_only: bool,
    last_is_default: bool,
    append: bool,
}

impl Flags {
    fn parse(text: &str) -> Flags {
        let mut f = Flags::default();
        for letter in text.chars() {
            match letter.to_ascii_lowercase() {
                'f' => f.failover = true,
                'u' => f.user_only = true,
                'd' => f.last_is_default = true,
                'a' => f.append = true,
                // Older scripts write `s` for what is always done now.
                's' | ' ' | ',' => {}
                other => tracing::warn!("ds_select: flag `{other}` is not known"),
            }
        }
        f
    }
}

/// `ds_select_dst(set, algorithm[, flags[, partition[, max]]])`
pub(super) fn ds_select_dst(c: &mut Call<'_>) -> Flow {
    select(c, Use::Dst)
}

/// `ds_select_domain(set, algorithm[, flags[, partition[, max]]])`
pub(super) fn ds_select_domain(c: &mut Call<'_>) -> Flow {
    select(c, Use::Domain)
}

/// `ds_next_dst([partition])`
pub(super) fn ds_next_dst(c: &mut Call<'_>) -> Flow {
    next(c, Use::Dst)
}

/// `ds_next_domain([partition])`
pub(super) fn ds_next_domain(c: &mut Call<'_>) -> Flow {
    next(c, Use::Domain)
}

fn partition(ctx: &Ctx, name: &str) -> Option<Arc<Partition>> {
    let found = ctx.shard.kernel.state::<Dispatcher>().partition(name);
    if found.is_none() {
        tracing::error!("dispatcher: there is no partition \"{name}\"");
    }
    found
}

fn select(c: &mut Call<'_>, what: Use) -> Flow {
    let (id, algorithm) = (c.int(0).unwrap_or(0), c.int(1).unwrap_or(0));
    let flags = Flags::parse(&c.text(2));
    let Some(part) = partition(c.ctx, &c.text(3)) else { return FALSE };
    let max = c.int(4).filter(|m| *m > 0).map_or(usize::MAX, |m| m as usize);
    let sets = part.sets();
    let Some(set) = sets.get(&id) else {
        tracing::error!("dispatcher: partition {} has no set {id}", part.name);
        return FALSE;
    };
    let ctx = &mut *c.ctx;
    let choice = choose(ctx, set, id, algorithm, flags);
    let mut order = set.order(choice, flags.last_is_default);
    order.truncate(if flags.failover { max } else { 1 });
    if order.is_empty() {
        return FALSE;
    }
    let avps = part.avps;
    if flags.append && ctx.avps.count(avps.dst) > 0 {
        // A list that is there goes on being used; the new ones come after it.
        for d in &order {
            keep(ctx, &avps, id, d);
        }
        note_count(ctx, &avps);
        return TRUE;
    }
    forget(ctx, &avps);
    for d in &order {
        keep(ctx, &avps, id, d);
    }
    note_count(ctx, &avps);
    if apply(ctx, what, &avps, &order[0]) { TRUE } else { FALSE }
}

/// Below those that are kept already, so that the one to be tried first stays on top.
fn keep(ctx: &mut Ctx, avps: &Avps, id: i64, d: &Destination) {
    ctx.avps.append(avps.dst, Value::Str(d.uri.clone()));
    ctx.avps.append(avps.grp, Value::Int(id));
    ctx.avps.append(avps.sock, Value::Str(d.socket.clone().unwrap_or_default().into()));
}

fn note_count(ctx: &mut Ctx, avps: &Avps) {
    let count = ctx.avps.count(avps.dst) as i64;
    ctx.avps.remove_all(avps.cnt);
    ctx.avps.push(avps.cnt, Value::Int(count));
}

fn forget(ctx: &mut Ctx, avps: &Avps) {
    for name in [avps.dst, avps.grp, avps.sock, avps.cnt] {
        ctx.avps.remove_all(name);
    }
}

fn next(c: &mut Call<'_>, what: Use) -> Flow {
    let Some(part) = partition(c.ctx, &c.text(0)) else { return FALSE };
    let avps = part.avps;
    let ctx = &mut *c.ctx;
    loop {
        if ctx.avps.count(avps.dst) < 2 {
            return FALSE;
        }
        for name in [avps.dst, avps.grp, avps.sock] {
            ctx.avps.remove(name, 0);
        }
        note_count(ctx, &avps);
        // One that left service since it was chosen is passed over.
        let Some(d) = current(ctx, &part) else { continue };
        if d.state() == State::Active {
            return if apply(ctx, what, &avps, &d) { TRUE } else { FALSE };
        }
    }
}

/// The destination on top of the list.
fn current(ctx: &Ctx, part: &Partition) -> Option<Arc<Destination>> {
    let uri = ctx.avps.get(part.avps.dst, 0).to_bytes()?;
    let id = ctx.avps.get(part.avps.grp, 0).to_int()?;
    part.sets().get(&id)?.list.iter().find(|d| d.uri == uri).cloned()
}

fn apply(ctx: &mut Ctx, what: Use, avps: &Avps, d: &Destination) -> bool {
    match what {
        Use::Dst => ctx.target.dst = Some(d.uri.clone()),
        Use::Domain => {
            let Some(new) = host_and_port(&d.uri).and_then(|hp| with_part(&ctx.ruri(), Part::HostPort, &hp))
            else {
                tracing::error!("ds_select_domain(): the Request-URI cannot get another host");
                return false;
            };
            ctx.target.uri = Some(new);
        }
    }
    if let Some(name) = &d.socket {
        match find_socket(ctx, name) {
            Some(id) => ctx.target.socket = Some(id),
            None => tracing::warn!("dispatcher: no listening socket \"{name}\""),
        }
    }
    let texts = [(avps.attrs, d.attrs.clone()), (avps.script_attrs, d.script_attrs.lock().clone())];
    for (name, text) in texts {
        let Some(name) = name else { continue };
        ctx.avps.remove_all(name);
        if let Some(text) = text {
            ctx.avps.push(name, Value::Str(text));
        }
    }
    true
}

fn host_and_port(uri: &[u8]) -> Option<Vec<u8>> {
    let u = Uri::parse(uri).ok()?;
    let mut out = u.host.to_vec();
    if let Some(port) = u.port {
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
    Some(out)
}

fn choose(ctx: &mut Ctx, set: &Set, id: i64, algorithm: i64, flags: Flags) -> Choice {
    let shard = ctx.shard.clone();
    let dispatcher = shard.kernel.state::<Dispatcher>();
    let Some(request) = ctx.request().cloned() else { return Choice::First };
    match algorithm {
        0 => Choice::Hash(hash(&[request.call_id()])),
        1 => Choice::Hash(request.from().map_or(0, |n| hash_uri(n.uri, flags.user_only))),
        2 => Choice::Hash(request.to().map_or(0, |n| hash_uri(n.uri, flags.user_only))),
        3 => Choice::Hash(hash_uri(&ctx.ruri(), flags.user_only)),
        4 => Choice::Turn,
        5 => {
            let user = crate::core::credentials(&request, |c| hash(&[c.user_and_domain().0]));
            user.map_or(Choice::Turn, Choice::Hash)
        }
        6 => {
            let turn = dispatcher.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Choice::Hash(shard.kernel.state::<Core>().digest(&[b"ds", &turn.to_be_bytes()]))
        }
        7 => match &dispatcher.hash_format {
            Some(format) => Choice::Hash(hash(&[&print_format(ctx, format)])),
            None => {
                tracing::error!("dispatcher: algorithm 7 needs the parameter `hash_pvar`");
                Choice::First
            }
        },
        9 => least(ctx, set, id, &dispatcher.load_pattern),
        _ => Choice::First,
    }
}

/// The destination in use whose variable is lowest; one without a value counts as 0.
fn least(ctx: &mut Ctx, set: &Set, id: i64, pattern: &str) -> Choice {
    if pattern.is_empty() {
        return Choice::First;
    }
    let shard = ctx.shard.clone();
    let mut best: Option<(i64, usize)> = None;
    for (i, d) in set.list.iter().enumerate().filter(|(_, d)| d.state() == State::Active) {
        let name = pattern.replace("%u", &String::from_utf8_lossy(&d.uri)).replace("%i", &id.to_string());
        let load = match switchroom_script::Variable::compile(&name, &shard.kernel.registry) {
            Ok(variable) => read_variable(ctx, &variable).to_int().unwrap_or(0),
            Err(e) => {
                tracing::error!("dispatcher: pvar_algo_pattern: {e}");
                return Choice::First;
            }
        };
        if best.is_none_or(|(low, _)| load < low) {
            best = Some((load, i));
        }
    }
    best.map_or(Choice::First, |(_, i)| Choice::At(i))
}

/// User, host in lower case and port; a port that is the default one counts as none.
fn hash_uri(uri: &[u8], user_only: bool) -> u64 {
    let Ok(u) = Uri::parse(uri) else { return hash(&[uri]) };
    let user = u.user.unwrap_or_default();
    if user_only {
        return hash(&[user]);
    }
    let port = u.port.filter(|p| *p != 5060).unwrap_or(0);
    hash(&[user, &u.host.to_ascii_lowercase(), &port.to_be_bytes()])
}

/// `ds_mark_dst([state[, partition]])`
pub(super) fn ds_mark_dst(c: &mut Call<'_>) -> Flow {
    let letter = c.text(0).trim().chars().next().unwrap_or('i');
    let Some(state) = State::from_letter(letter) else {
        tracing::error!("ds_mark_dst(): `{letter}` is no state; there are a, i and p");
        return FALSE;
    };
    let Some(part) = partition(c.ctx, &c.text(1)) else { return FALSE };
    let ctx = &*c.ctx;
    let Some(d) = current(ctx, &part) else { return FALSE };
    let id = ctx.avps.get(part.avps.grp, 0).to_int().unwrap_or(0);
    let dispatcher = ctx.shard.kernel.state::<Dispatcher>();
    let changed = match state {
        State::Probing => d.failed(dispatcher.threshold),
        other => d.set(other),
    };
    if changed {
        dispatcher.tell(&ctx.shard.kernel, Some(ctx.shard.worker), &part.name, id, &d);
    }
    TRUE
}

/// `ds_count(set, states, var[, partition])`
pub(super) fn ds_count(c: &mut Call<'_>) -> Flow {
    let id = c.int(0).unwrap_or(0);
    let wanted: Vec<State> = c.text(1).chars().filter_map(State::from_letter).collect();
    let Some(part) = partition(c.ctx, &c.text(3)) else { return FALSE };
    let Some(var) = c.var(2) else { return FALSE };
    let sets = part.sets();
    let Some(set) = sets.get(&id) else { return FALSE };
    let count = set.list.iter().filter(|d| wanted.contains(&d.state())).count();
    match c.ctx.set_var(&var, Value::Int(count as i64)) {
        Ok(()) => TRUE,
        Err(e) => {
            tracing::error!("ds_count(): {e}");
            FALSE
        }
    }
}

/// `ds_is_in_list(ip, port[, set[, partition[, active_only[, pattern]]]])`
pub(super) fn ds_is_in_list(c: &mut Call<'_>) -> Flow {
    let Some(ip) = c.str(0).and_then(|ip| ip_literal(ip)) else { return FALSE };
    let Ok(port) = u16::try_from(c.int(1).unwrap_or(0)) else { return FALSE };
    let only = c.int(2).filter(|set| *set != -1);
    let Some(part) = partition(c.ctx, &c.text(3)) else { return FALSE };
    let active_only = c.int(4).unwrap_or(0) != 0;
    let pattern = c.str(5).filter(|p| !p.is_empty()).cloned();
    let fits = |d: &Destination| {
        d.is_at(ip, port)
            && (!active_only || d.state() == State::Active)
            && pattern
                .as_ref()
                .is_none_or(|p| glob::matches(p, d.attrs.as_deref().unwrap_or_default(), Case::Counts))
    };
    let sets = part.sets();
    let mut wanted = sets.iter().filter(|(id, _)| only.is_none_or(|o| o == **id));
    let Some((id, d)) = wanted.find_map(|(id, s)| s.list.iter().find(|d| fits(d)).map(|d| (*id, d))) else {
        return FALSE;
    };
    let shard = c.ctx.shard.clone();
    if let (None, Some(var)) = (only, &shard.kernel.state::<Dispatcher>().setid_var)
        && let Err(e) = c.ctx.set_var(var, Value::Int(id))
    {
        tracing::error!("dispatcher: setid_pvar: {e}");
    }
    if let Some(name) = part.avps.attrs {
        c.ctx.avps.remove_all(name);
        if let Some(text) = &d.attrs {
            c.ctx.avps.push(name, Value::Str(text.clone()));
        }
    }
    TRUE
}

/// `ds_push_script_attrs(attrs, ip, port, set[, partition])`
pub(super) fn ds_push_script_attrs(c: &mut Call<'_>) -> Flow {
    let attrs = c.str(0).cloned().unwrap_or_default();
    let Some(ip) = c.str(1).and_then(|ip| ip_literal(ip)) else { return FALSE };
    let Ok(port) = u16::try_from(c.int(2).unwrap_or(0)) else { return FALSE };
    let Some(part) = partition(c.ctx, &c.text(4)) else { return FALSE };
    if push_attrs(&part, c.int(3).unwrap_or(0), ip, port, &attrs) { TRUE } else { FALSE }
}

/// Give the destinations at an address a text; false when there is none.
pub(super) fn push_attrs(part: &Partition, id: i64, ip: std::net::IpAddr, port: u16, attrs: &Bytes) -> bool {
    let sets = part.sets();
    let Some(set) = sets.get(&id) else { return false };
    let mut found = false;
    for d in set.list.iter().filter(|d| d.is_at(ip, port)) {
        *d.script_attrs.lock() = (!attrs.is_empty()).then(|| attrs.clone());
        found = true;
    }
    found
}

/// `ds_get_script_attrs(uri, set, [partition], var)`
pub(super) fn ds_get_script_attrs(c: &mut Call<'_>) -> Flow {
    let Some((uri, ..)) = address(&c.text(0)) else { return FALSE };
    let Some(part) = partition(c.ctx, &c.text(2)) else { return FALSE };
    let Some(var) = c.var(3) else { return FALSE };
    let sets = part.sets();
    let found = sets.get(&c.int(1).unwrap_or(0)).and_then(|s| s.list.iter().find(|d| d.uri == uri));
    let Some(d) = found else { return FALSE };
    let value = d.script_attrs.lock().clone().map_or(Value::Null, Value::Str);
    match c.ctx.set_var(&var, value) {
        Ok(()) => TRUE,
        Err(_) => FALSE,
    }
}
