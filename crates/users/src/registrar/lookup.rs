//! `lookup()`: the contacts of the called user become the destinations of the request (RFC 3261 §16.5); those that sleep
//! are woken, and join it later (RFC 8599 §5.3).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use regex::bytes::Regex;
use smallvec::SmallVec;
use switchroom_calls::core::branches;
use switchroom_kernel::Kernel;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, Target};
use switchroom_script::Value;
use switchroom_script::vm::{VarAccess, posix_regex_with};
use switchroom_wire::sip::{NameAddr, Uri};

use super::flags::LookupFlags;
use super::gruu::Phone;
use super::pn::Push;
use super::save::method_bit;
use super::{Registrar, aor, wake};
use crate::usrloc::contact::{Contact, Field, PUSH};
use crate::usrloc::table::Table;
use crate::usrloc::{Location, api, shared};

/// `lookup("location"[, flags[, uri]])`: 1 found, 2 none is there yet but phones are being
/// woken, -1 nobody is there, -2 no contact takes this method, -3 error, 0 for a retransmission.
pub(super) fn lookup(c: &mut Call<'_>) -> Flow {
    let flags = LookupFlags::parse(&c.text(1));
    let name = c.text(0);
    let uri = c.str(2).cloned();
    let ctx = &mut *c.ctx;
    let uri = uri.unwrap_or_else(|| ctx.ruri());
    let shard = ctx.shard.clone();
    let Some(table) = api::find(shard.kernel.state::<Location>(), &name) else { return FALSE };
    let filter = match Filter::new(ctx, &flags) {
        Ok(filter) => filter,
        Err(e) => {
            tracing::error!("lookup(): {e}");
            return Flow::Value(-3);
        }
    };
    // A GRUU means one phone; a temporary one hides whose (RFC 5627).
    let (key, phone) = match who(ctx, &uri) {
        Ok(who) => who,
        Err(e) => {
            tracing::info!("lookup(): {e}");
            return Flow::Value(-3);
        }
    };
    let others = match flags.of_branches {
        true => std::mem::take(&mut ctx.branches).into_iter().filter_map(|b| b.uri).collect(),
        false => VecDeque::new(),
    };
    Search { flags, name, table, filter, others, key: key.clone(), found: None }.read(ctx, key, phone)
}

/// Address of record and, for a GRUU, the phone that a URI means.
fn who(ctx: &Ctx, uri: &Bytes) -> Result<(Vec<u8>, Option<Phone>), &'static str> {
    let gruu = match (&ctx.shard.kernel.state::<Registrar>().gruu, Uri::parse(uri)) {
        (Some(g), Ok(u)) => g.read(&u),
        _ => None,
    };
    Ok(match gruu {
        Some((phone, Some(address))) => (aor(ctx, &[b"sip:", &address[..]].concat())?, Some(phone)),
        Some((phone, None)) => (aor(ctx, uri)?, Some(phone)),
        None => (aor(ctx, uri)?, None),
    })
}

/// A lookup on its way through one or more addresses of record, each of which may have to be read from a database.
struct Search {
    flags: LookupFlags,
    name: String,
    table: Arc<Table>,
    filter: Filter,
    /// URIs of branches that are to be looked up as well.
    others: VecDeque<Bytes>,
    /// Address of record of the request itself.
    key: Vec<u8>,
    found: Option<Found>,
}

impl Search {
    fn read(self, ctx: &mut Ctx, key: Vec<u8>, phone: Option<Phone>) -> Flow {
        let filter = self.filter.clone();
        let table = self.table.clone();
        let select = move |contacts: &[Contact]| filter.select(contacts, phone.as_ref());
        shared::read(ctx, &table, &key, select, move |ctx, found| match found {
            Ok(found) => self.add(found).go_on(ctx),
            Err(e) => {
                tracing::error!("lookup(): {e}");
                Flow::Value(-3)
            }
        })
    }

    fn add(mut self, mut more: Found) -> Search {
        match &mut self.found {
            None => self.found = Some(more),
            Some(all) => {
                all.live += more.live;
                all.ready.append(&mut more.ready);
                // One wait holds one transaction, so those of the branches are called as they are.
                all.ready.extend(more.asleep.iter().map(|c| (target(c), attr(c))));
            }
        }
        self
    }

    fn go_on(mut self, ctx: &mut Ctx) -> Flow {
        while let Some(uri) = self.others.pop_front() {
            match who(ctx, &uri) {
                Ok((key, phone)) => return self.read(ctx, key, phone),
                Err(e) => tracing::info!("lookup(): of a branch: {e}"),
            }
        }
        go(ctx, &self.flags, &self.name, &self.key, self.found.unwrap_or_default())
    }
}

/// Which contacts of an address of record are wanted.
#[derive(Clone)]
struct Filter {
    kernel: Arc<Kernel>,
    now: u64,
    /// Bit of the method that they must take; 0 for any.
    method: u32,
    user_agent: Option<Arc<Regex>>,
    by_latency: bool,
    max_latency: Option<u32>,
}

/// What was found.
#[derive(Default)]
struct Found {
    /// Destinations with their free attributes.
    ready: SmallVec<[(Target, Bytes); 2]>,
    /// Contacts to be woken.
    asleep: Vec<Contact>,
    /// Contacts that are not expired, wanted or not.
    live: usize,
}

impl Filter {
    fn new(ctx: &Ctx, flags: &LookupFlags) -> Result<Filter, String> {
        let kernel = ctx.shard.kernel.clone();
        let method = match flags.method_filtering {
            true => ctx.request().map_or(0, |m| method_bit(m.method_name())),
            false => 0,
        };
        let user_agent = match &flags.user_agent {
            Some((pattern, ignore_case)) => {
                Some(kernel.state::<Registrar>().expressions.get(pattern, *ignore_case)?)
            }
            None => None,
        };
        let (by_latency, max_latency) = (flags.by_latency, flags.max_latency);
        Ok(Filter { now: kernel.unix(), kernel, method, user_agent, by_latency, max_latency })
    }

    fn fits(&self, c: &Contact) -> bool {
        (self.method == 0 || c.methods & self.method != 0)
            && self.user_agent.as_ref().is_none_or(|ua| ua.is_match(c.text(Field::UserAgent)))
            && self.max_latency.is_none_or(|max| c.latency <= max)
    }

    fn select(&self, contacts: &[Contact], phone: Option<&Phone>) -> Found {
        let push = self.kernel.state::<Registrar>().push.as_ref();
        let mut found = Found::default();
        let mut add = |c: &Contact| {
            let mut target = target(c);
            if let Some(push) = push.filter(|p| needs_push(p, c)) {
                if !wake::is_awake(push, c, self.now) {
                    return found.asleep.push(c.clone());
                }
                target.uri = Some(push.strip(c.uri()).into());
            }
            found.ready.push((target, attr(c)));
        };
        let alive = || contacts.iter().filter(|c| c.is_live(self.now));
        let wanted = || alive().filter(|c| self.fits(c) && phone.is_none_or(|p| p.is(c)));
        match self.by_latency {
            false => wanted().for_each(&mut add),
            true => {
                let mut sorted: SmallVec<[&Contact; 4]> = wanted().collect();
                sorted.sort_by_key(|c| c.latency);
                sorted.into_iter().for_each(&mut add);
            }
        }
        found.live = alive().count();
        found
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

fn attr(c: &Contact) -> Bytes {
    Bytes::copy_from_slice(c.text(Field::Attr))
}

/// Put the attribute of a contact into `attr_avp`.
pub(super) fn push_attr(ctx: &mut Ctx, var: &VarAccess, attr: &Bytes) {
    if let Err(e) = ctx.push_var(var, Value::Str(attr.clone())) {
        tracing::warn!("attr_avp: {e}");
    }
}

/// Make destinations of what was found.
fn go(ctx: &mut Ctx, flags: &LookupFlags, table: &str, aor: &[u8], found: Found) -> Flow {
    let Found { ready, asleep, live } = found;
    if ready.is_empty() && asleep.is_empty() {
        return if live > 0 { Flow::Value(-2) } else { FALSE };
    }
    let shard = ctx.shard.clone();
    let r = shard.kernel.state::<Registrar>();
    if let (Some(push), false) = (&r.push, asleep.is_empty()) {
        let at_once = match (flags.branches_only, flags.no_branches) {
            (true, true) => 0,
            (false, true) => ready.len().min(1),
            _ => ready.len(),
        };
        match wake::wake(ctx, push, table, aor, &asleep, at_once) {
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
