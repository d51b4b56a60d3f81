//! `lookup()`: the contacts of the called user become the destinations of the request (RFC 3261 §16.5); those that sleep
//! are woken, and join it later (RFC 8599 §5.3).

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_calls::core::branches;
use switchroom_kernel::Kernel;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, Target};
use switchroom_wire::sip::{NameAddr, Uri};

use super::flags::LookupFlags;
use super::gruu::Phone;
use super::pn::Push;
use super::save::method_bit;
use super::{Registrar, aor, wake};
use crate::usrloc::contact::{Contact, Field, PUSH};
use crate::usrloc::{Location, api, shared};

/// `lookup("location"[, flags[, uri]])`: 1 found, 2 none is there yet but phones are being
/// woken, -1 nobody is there, -2 no contact takes this method, -3 error, 0 for a retransmission.
pub(super) fn lookup(c: &mut Call<'_>) -> Flow {
    let flags = LookupFlags::parse(&c.text(1));
    let table = c.str(0).cloned().unwrap_or_default();
    let uri = c.str(2).cloned();
    let ctx = &mut *c.ctx;
    let uri = uri.unwrap_or_else(|| ctx.ruri());
    let registrar = ctx.shard.clone();
    let registrar = registrar.kernel.state::<Registrar>();
    // A GRUU means one phone; a temporary one hides whose (RFC 5627).
    let gruu = match (&registrar.gruu, Uri::parse(&uri)) {
        (Some(g), Ok(u)) => g.read(&u),
        _ => None,
    };
    let (phone, uri) = match gruu {
        Some((phone, Some(address))) => (Some(phone), Bytes::from([b"sip:", &address[..]].concat())),
        Some((phone, None)) => (Some(phone), uri),
        None => (None, uri),
    };
    let mut key = match aor(ctx, &uri) {
        Ok(key) => key,
        Err(e) => {
            tracing::info!("lookup(): {e}");
            return Flow::Value(-3);
        }
    };
    if flags.case_insensitive {
        key.make_ascii_lowercase();
    }
    let shard = ctx.shard.clone();
    let location = shard.kernel.state::<Location>();
    let name = String::from_utf8_lossy(&table).into_owned();
    let Some(table) = api::find(location, &name) else { return FALSE };
    let method = match flags.method_filtering {
        true => ctx.request().map_or(0, |r| method_bit(r.method_name())),
        false => 0,
    };
    let agent = flags.user_agent.as_ref().map(|ua| ua.to_ascii_lowercase());
    let wanted = Wanted {
        kernel: shard.kernel.clone(),
        now: shard.kernel.unix(),
        method,
        agent,
        phone,
        by_latency: flags.by_latency,
        max_latency: flags.max_latency,
    };
    let select = move |contacts: &[Contact]| wanted.select(contacts);
    shared::read(ctx, &table, &key.clone(), select, move |ctx, found| match found {
        Ok(found) => go(ctx, &flags, &name, &key, found),
        Err(e) => {
            tracing::error!("lookup(): {e}");
            Flow::Value(-3)
        }
    })
}

/// Which contacts are wanted.
struct Wanted {
    kernel: Arc<Kernel>,
    now: u64,
    /// Bit of the method that they must take; 0 for any.
    method: u32,
    /// Piece of the User-Agent, in lower case.
    agent: Option<String>,
    phone: Option<Phone>,
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
    /// Contacts that there are, wanted or not.
    live: usize,
}

impl Wanted {
    fn fits(&self, c: &Contact) -> bool {
        (self.method == 0 || c.methods & self.method != 0)
            && self
                .agent
                .as_ref()
                .is_none_or(|ua| c.string(Field::UserAgent).to_ascii_lowercase().contains(&**ua))
            && self.phone.as_ref().is_none_or(|p| p.is(c))
            && self.max_latency.is_none_or(|max| c.latency <= max)
    }

    fn select(&self, contacts: &[Contact]) -> Found {
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
            found.ready.push((target, Bytes::copy_from_slice(c.text(Field::Attr))));
        };
        let alive = || contacts.iter().filter(|c| c.is_live(self.now));
        let live = alive().count();
        match self.by_latency {
            false => alive().filter(|c| self.fits(c)).for_each(&mut add),
            true => {
                let mut sorted: SmallVec<[&Contact; 4]> = alive().filter(|c| self.fits(c)).collect();
                sorted.sort_by_key(|c| c.latency);
                sorted.into_iter().for_each(&mut add);
            }
        }
        found.live = live;
        found
    }
}

/// Make destinations of what was found.
fn go(ctx: &mut Ctx, flags: &LookupFlags, table: &str, aor: &[u8], found: Found) -> Flow {
    let Found { ready: found, asleep, live } = found;
    if found.is_empty() && asleep.is_empty() {
        return if live > 0 { Flow::Value(-2) } else { FALSE };
    }
    let shard = ctx.shard.clone();
    let r = shard.kernel.state::<Registrar>();
    if let (Some(push), false) = (&r.push, asleep.is_empty()) {
        let ready = match (flags.branches_only, flags.no_branches) {
            (true, true) => 0,
            (false, true) => found.len().min(1),
            _ => found.len(),
        };
        match wake::wake(ctx, push, table, aor, &asleep, ready) {
            1 if found.is_empty() => return Flow::Value(2),
            1 => {}
            other => return Flow::Value(other),
        }
    }
    if let Some(var) = &r.attr_avp {
        for (_, attr) in found.iter().rev().filter(|(_, a)| !a.is_empty()) {
            if let Err(e) = ctx.push_var(var, switchroom_script::Value::Str(attr.clone())) {
                tracing::warn!("attr_avp: {e}");
            }
        }
    }
    let mut targets = found.into_iter().map(|(t, _)| t);
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
