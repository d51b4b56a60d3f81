//! `lookup()`: the contacts of the called user become the destinations of the request (RFC 3261 §16.5); those that sleep
//! are woken, and join it later (RFC 8599 §5.3).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use regex::bytes::Regex;
use smallvec::SmallVec;
use switchroom_calls::core::branches;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, Target};
use switchroom_script::Value;
use switchroom_script::vm::{VarAccess, posix_regex_with};
use switchroom_wire::sip::{NameAddr, Uri};

use super::flags::LookupFlags;
use super::pn::Push;
use super::save::method_bit;
use super::{Registrar, aor, wake};
use crate::usrloc::contact::{Contact, Field, PUSH};
use crate::usrloc::table::Table;
use crate::usrloc::{Location, api};

/// `lookup("location"[, flags[, uri]])`: 1 found, 2 none is there yet but phones are being
/// woken, -1 nobody is there, -2 no contact takes this method, -3 error, 0 for a retransmission.
pub(super) fn lookup(c: &mut Call<'_>) -> Flow {
    let flags = LookupFlags::parse(&c.text(1));
    let table = c.str(0).cloned().unwrap_or_default();
    let uri = c.str(2).cloned();
    let ctx = &mut *c.ctx;
    let uri = uri.unwrap_or_else(|| ctx.ruri());
    let shard = ctx.shard.clone();
    let r = shard.kernel.state::<Registrar>();
    let name = std::str::from_utf8(&table).unwrap_or_default();
    let Some(table) = api::find(shard.kernel.state::<Location>(), name) else { return FALSE };
    let filter = match Filter::new(ctx, r, &flags) {
        Ok(filter) => filter,
        Err(e) => {
            tracing::error!("lookup(): {e}");
            return Flow::Value(-3);
        }
    };
    let mut found = match find(ctx, r, &table, &filter, &uri) {
        Ok(found) => found,
        Err(e) => {
            tracing::info!("lookup(): {e}");
            return Flow::Value(-3);
        }
    };
    if flags.of_branches {
        for branch in std::mem::take(&mut ctx.branches) {
            let Some(uri) = branch.uri else { continue };
            match find(ctx, r, &table, &filter, &uri) {
                Ok(mut more) => {
                    found.live += more.live;
                    found.ready.append(&mut more.ready);
                    // One wait holds one transaction, so those of the branches are called as they are.
                    found.ready.extend(more.asleep.iter().map(|c| (target(c), attr(c))));
                }
                Err(e) => tracing::info!("lookup(): of a branch: {e}"),
            }
        }
    }
    let Found { key, live, ready, asleep } = found;
    if ready.is_empty() && asleep.is_empty() {
        return if live > 0 { Flow::Value(-2) } else { FALSE };
    }
    if let (Some(push), false) = (&r.push, asleep.is_empty()) {
        let at_once = match (flags.branches_only, flags.no_branches) {
            (true, true) => 0,
            (false, true) => ready.len().min(1),
            _ => ready.len(),
        };
        match wake::wake(ctx, push, name, &key, &asleep, at_once) {
            1 if ready.is_empty() => return Flow::Value(2),
            1 => {}
            other => return Flow::Value(other),
        }
    }
    if let Some(var) = &r.attr_avp
        && ready.iter().any(|(_, attr)| !attr.is_empty())
    {
        // Its index is the number of the branch, so a contact without one has an empty value.
        for (_, attr) in ready.iter().rev() {
            push_attr(ctx, var, attr);
        }
    }
    let mut targets = ready.into_iter().map(|(t, _)| t);
    if !flags.branches_only
        && let Some(first) = targets.next()
    {
        // Flags that the script set on the Request-URI before stay set.
        let kept = ctx.target.flags;
        let attrs = std::mem::take(&mut ctx.target.attrs);
        let socket = ctx.target.socket;
        ctx.target = first;
        ctx.target.flags |= kept;
        ctx.target.attrs = attrs;
        ctx.target.socket = ctx.target.socket.or(socket);
    }
    if !flags.no_branches {
        for t in targets {
            if !branches::push(ctx, t) {
                break;
            }
        }
    }
    TRUE
}

/// Which contacts of an address of record are wanted.
struct Filter {
    /// Bit of the method, 0 for any.
    method: u32,
    user_agent: Option<Arc<Regex>>,
}

impl Filter {
    fn new(ctx: &Ctx, r: &Registrar, flags: &LookupFlags) -> Result<Filter, String> {
        let method = match flags.method_filtering {
            true => ctx.request().map_or(0, |m| method_bit(m.method_name())),
            false => 0,
        };
        let user_agent = match &flags.user_agent {
            Some((pattern, ignore_case)) => Some(r.expressions.get(pattern, *ignore_case)?),
            None => None,
        };
        Ok(Filter { method, user_agent })
    }

    fn fits(&self, c: &Contact) -> bool {
        let method_fits = self.method == 0 || c.methods & self.method != 0;
        method_fits && self.user_agent.as_ref().is_none_or(|ua| ua.is_match(c.text(Field::UserAgent)))
    }
}

/// Expressions for User-Agent that scripts asked with, compiled.
#[derive(Default)]
pub(super) struct Expressions(Mutex<HashMap<(String, bool), Arc<Regex>>>);

impl Expressions {
    /// So many are kept; a script may make them from what a peer sends.
    const MAX: usize = 64;

    fn get(&self, pattern: &str, ignore_case: bool) -> Result<Arc<Regex>, String> {
        let key = (pattern.to_owned(), ignore_case);
        if let Some(known) = self.0.lock().get(&key) {
            return Ok(known.clone());
        }
        let new = posix_regex_with(pattern.as_bytes(), ignore_case, true)
            .map_err(|e| format!("the expression \"{pattern}\" for User-Agent: {e}"))?;
        let new = Arc::new(new);
        let mut known = self.0.lock();
        if known.len() >= Self::MAX {
            known.clear();
        }
        known.insert(key, new.clone());
        Ok(new)
    }
}

/// What an address of record has.
struct Found {
    key: Vec<u8>,
    /// Contacts that are not expired, wanted or not.
    live: usize,
    ready: SmallVec<[(Target, Bytes); 2]>,
    asleep: Vec<Contact>,
}

fn find(
    ctx: &Ctx,
    r: &Registrar,
    table: &Table,
    filter: &Filter,
    uri: &Bytes,
) -> Result<Found, &'static str> {
    // A GRUU means one phone; a temporary one hides whose (RFC 5627).
    let gruu = match (&r.gruu, Uri::parse(uri)) {
        (Some(g), Ok(u)) => g.read(&u),
        _ => None,
    };
    let (phone, key) = match gruu {
        Some((phone, Some(address))) => (Some(phone), aor(ctx, &[b"sip:", &address[..]].concat())?),
        Some((phone, None)) => (Some(phone), aor(ctx, uri)?),
        None => (None, aor(ctx, uri)?),
    };
    let now = ctx.shard.kernel.unix();
    let mut found = Found { key: Vec::new(), live: 0, ready: SmallVec::new(), asleep: Vec::new() };
    table.read(&key, |record| {
        for c in record.map_or(&[][..], |r| &r.contacts[..]).iter().filter(|c| c.is_live(now)) {
            found.live += 1;
            if !filter.fits(c) || !phone.as_ref().is_none_or(|p| p.is(c)) {
                continue;
            }
            let mut target = target(c);
            if let Some(push) = r.push.as_ref().filter(|p| needs_push(p, c)) {
                if !wake::is_awake(push, c, now) {
                    found.asleep.push(c.clone());
                    continue;
                }
                target.uri = Some(push.strip(c.uri()).into());
            }
            found.ready.push((target, attr(c)));
        }
    });
    found.key = key;
    Ok(found)
}

fn attr(c: &Contact) -> Bytes {
    Bytes::copy_from_slice(c.text(Field::Attr))
}

/// Put the attribute of a contact into `attr_avp`.
pub(super) fn push_attr(ctx: &mut Ctx, var: &VarAccess, attr: &Bytes) {
    if let Err(e) = ctx.push_var(var, Value::Str(attr.clone())) {
        tracing::warn!("attr_avp: {e}");
    }
}

/// Whether a contact is one that is woken by push.
fn needs_push(push: &Push, c: &Contact) -> bool {
    c.flags & PUSH != 0 && Uri::parse(c.uri()).is_ok_and(|u| push.key(&u).is_some())
}

/// A contact as a destination.
pub(super) fn target(c: &Contact) -> Target {
    let copy = |f: Field| Some(c.text(f)).filter(|t| !t.is_empty()).map(Bytes::copy_from_slice);
    let path = copy(Field::Path);
    // A Path leads the way; without one the address the phone was seen at.
    let dst = match &path {
        Some(p) => switchroom_wire::sip::scan::commas(p)
            .next()
            .and_then(|first| NameAddr::parse(first).ok())
            .map(|n| Bytes::copy_from_slice(n.uri)),
        None => copy(Field::Received),
    };
    Target {
        uri: copy(Field::Uri),
        dst,
        path,
        q: i32::from(c.q),
        socket: c.socket,
        flags: c.cflags,
        ..Target::unchanged()
    }
}
