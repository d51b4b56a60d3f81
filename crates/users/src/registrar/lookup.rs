//! `lookup()`: the contacts of the called user become the destinations of the request (RFC 3261 §16.5); those that sleep
//! are woken, and join it later (RFC 8599 §5.3).

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_calls::core::branches;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE, Target};
use switchroom_wire::sip::{NameAddr, Uri};

use super::flags::LookupFlags;
use super::pn::Push;
use super::save::method_bit;
use super::{Registrar, aor, wake};
use crate::usrloc::contact::{Contact, Field, PUSH};
use crate::usrloc::{Location, api};

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
    let name = std::str::from_utf8(&table).unwrap_or_default();
    let Some(table) = api::find(location, name) else { return FALSE };
    let now = shard.kernel.unix();
    let method = match flags.method_filtering {
        true => ctx.request().map_or(0, |r| method_bit(r.method_name())),
        false => 0,
    };
    let fits = |c: &Contact| {
        let method_fits = method == 0 || c.methods & method != 0;
        let agent_fits = flags.user_agent.as_ref().is_none_or(|ua| {
            let agent = c.string(Field::UserAgent).to_ascii_lowercase();
            agent.contains(&ua.to_ascii_lowercase())
        });
        method_fits && agent_fits && phone.as_ref().is_none_or(|p| p.is(c))
    };
    let mut live = 0;
    let r = shard.kernel.state::<Registrar>();
    let mut asleep: Vec<Contact> = Vec::new();
    let found: SmallVec<[(Target, Bytes); 2]> = table.read(&key, |record| {
        let contacts = record.map_or(&[][..], |r| &r.contacts[..]);
        let alive = contacts.iter().filter(|c| c.is_live(now)).inspect(|_| live += 1);
        let mut ready = SmallVec::new();
        for c in alive.filter(|c| fits(c)) {
            let mut target = target(c);
            if let Some(push) = r.push.as_ref().filter(|p| needs_push(p, c)) {
                if !wake::is_awake(push, c, now) {
                    asleep.push(c.clone());
                    continue;
                }
                target.uri = Some(push.strip(c.uri()).into());
            }
            ready.push((target, Bytes::copy_from_slice(c.text(Field::Attr))));
        }
        ready
    });
    if found.is_empty() && asleep.is_empty() {
        return if live > 0 { Flow::Value(-2) } else { FALSE };
    }
    if let (Some(push), false) = (&r.push, asleep.is_empty()) {
        let ready = match (flags.branches_only, flags.no_branches) {
            (true, true) => 0,
            (false, true) => found.len().min(1),
            _ => found.len(),
        };
        match wake::wake(ctx, push, name, &key, &asleep, ready) {
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
