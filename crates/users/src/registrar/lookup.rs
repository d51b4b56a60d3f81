//! `lookup()`: the contacts of the called user become the destinations of the request (RFC 3261 §16.5).

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_calls::core::branches;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE, Target};
use switchroom_wire::sip::{NameAddr, Uri};

use super::flags::LookupFlags;
use super::save::method_bit;
use super::{Registrar, aor};
use crate::usrloc::contact::{Contact, Field};
use crate::usrloc::{Location, api};

/// `lookup("location"[, flags[, uri]])`: 1 found, -1 nobody is there, -2 no contact takes this method, -3 error.
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
    let found: SmallVec<[(Target, Bytes); 2]> = table.read(&key, |record| {
        let contacts = record.map_or(&[][..], |r| &r.contacts[..]);
        let alive = contacts.iter().filter(|c| c.is_live(now)).inspect(|_| live += 1);
        alive.filter(|c| fits(c)).map(|c| (target(c), Bytes::copy_from_slice(c.text(Field::Attr)))).collect()
    });
    if found.is_empty() {
        return if live > 0 { Flow::Value(-2) } else { FALSE };
    }
    let r = shard.kernel.state::<Registrar>();
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

/// A contact as a destination.
fn target(c: &Contact) -> Target {
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
