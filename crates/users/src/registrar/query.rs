//! Asking the location, and taking contacts out of it, from a script.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::ports::store::StoreError;
use switchroom_wire::sip::Uri;
use switchroom_wire::sip::scan::ip_literal;

use super::lookup::push_attr;
use super::{Registrar, aor};
use crate::usrloc::contact::{Contact, Field};
use crate::usrloc::table::{Contacts, Table};
use crate::usrloc::{Location, api, shared};

fn table(ctx: &Ctx, name: &str) -> Option<Arc<Table>> {
    api::find(ctx.shard.kernel.state::<Location>(), name)
}

/// The address of record of an argument; without one that of the message (To of a REGISTER, else From).
fn key(ctx: &Ctx, uri: Option<&[u8]>) -> Option<Vec<u8>> {
    let own = match uri {
        Some(u) => u.to_vec(),
        None => {
            let request = ctx.request()?;
            let register = request.method() == switchroom_wire::sip::Method::Register;
            let n = if register { request.to().ok()? } else { request.from().ok()? };
            n.uri.to_vec()
        }
    };
    aor(ctx, &own).ok()
}

/// Whether a contact of `key` fits.
fn any(ctx: &mut Ctx, name: &str, key: &[u8], fits: impl Fn(&Contact) -> bool + 'static) -> Flow {
    let now = ctx.shard.kernel.unix();
    let Some(table) = table(ctx, name) else { return FALSE };
    let select = move |list: &[Contact]| list.iter().any(|c| c.is_live(now) && fits(c));
    shared::read(ctx, &table, key, select, |_, found| match found {
        Ok(found) => truth(found),
        Err(e) => {
            tracing::error!("registrations could not be read: {e}");
            FALSE
        }
    })
}

fn truth(yes: bool) -> Flow {
    if yes { TRUE } else { FALSE }
}

/// `is_registered(table[, aor])`: the attributes of the contacts come into `attr_avp`.
pub(super) fn is_registered(c: &mut Call<'_>) -> Flow {
    let Some(key) = key(c.ctx, c.args.str(1).map(|b| &b[..])) else { return FALSE };
    let name = c.text(0);
    let now = c.ctx.shard.kernel.unix();
    let Some(table) = table(c.ctx, &name) else { return FALSE };
    let select = move |list: &[Contact]| -> SmallVec<[Bytes; 2]> {
        list.iter().filter(|c| c.is_live(now)).map(|c| Bytes::copy_from_slice(c.text(Field::Attr))).collect()
    };
    shared::read(c.ctx, &table, &key, select, |ctx, attrs| {
        let attrs = match attrs {
            Ok(attrs) => attrs,
            Err(e) => {
                tracing::error!("registrations could not be read: {e}");
                return FALSE;
            }
        };
        let shard = ctx.shard.clone();
        if let Some(var) = &shard.kernel.state::<Registrar>().attr_avp {
            for attr in attrs.iter().rev().filter(|a| !a.is_empty()) {
                push_attr(ctx, var, attr);
            }
        }
        truth(!attrs.is_empty())
    })
}

/// `is_contact_registered(table[, aor[, contact[, callid]]])`
pub(super) fn is_contact_registered(c: &mut Call<'_>) -> Flow {
    let Some(key) = key(c.ctx, c.args.str(1).map(|b| &b[..])) else { return FALSE };
    let call_id = c.str(3).cloned();
    let contact = match (c.str(2).cloned(), &call_id) {
        (Some(uri), _) => Some(uri.to_vec()),
        (None, Some(_)) => None,
        (None, None) => {
            let msg = c.ctx.msg.clone();
            msg.contacts().flatten().next().map(|n| n.uri.to_vec())
        }
    };
    let fits = move |x: &Contact| {
        contact.as_ref().is_none_or(|uri| x.uri() == &uri[..])
            && call_id.as_ref().is_none_or(|id| x.text(Field::CallId) == &id[..])
    };
    let name = c.text(0);
    any(c.ctx, &name, &key, fits)
}

/// Address a contact is reached at: that of `received`, else that of its URI.
fn address(c: &Contact) -> Option<(IpAddr, u16)> {
    let received = c.text(Field::Received);
    let uri = Uri::parse(if received.is_empty() { c.uri() } else { received }).ok()?;
    Some((ip_literal(uri.host)?, uri.port.unwrap_or(5060)))
}

/// `is_ip_registered(table, [aor], $var(ips)[, $var(port)])`: whether a contact has one of the addresses.
pub(super) fn is_ip_registered(c: &mut Call<'_>) -> Flow {
    let Some(key) = key(c.ctx, c.args.str(1).map(|b| &b[..])) else { return FALSE };
    let Some(var) = c.var(2) else { return FALSE };
    let mut ips = Vec::new();
    for i in 0..64 {
        let at =
            switchroom_script::vm::VarAccess { index: switchroom_script::vm::Index::At(i), ..var.clone() };
        let own = if i == 0 { &var } else { &at };
        match c.ctx.get_var(own).to_bytes().and_then(|t| ip_literal(&t)) {
            Some(ip) if !ips.contains(&ip) => ips.push(ip),
            _ => break,
        }
    }
    let port = c.var(3).and_then(|v| c.ctx.get_var(&v).to_int());
    let fits = move |x: &Contact| {
        address(x).is_some_and(|(ip, p)| ips.contains(&ip) && port.is_none_or(|want| want == i64::from(p)))
    };
    let name = c.text(0);
    any(c.ctx, &name, &key, fits)
}

/// `remove(table, aor[, contact[, next_hop[, instance[, domain]]]])`
pub(super) fn remove(c: &mut Call<'_>) -> Flow {
    let Some(aor_uri) = c.str(1).cloned() else { return FALSE };
    // A bare user or user@domain is meant as an address of record too.
    let uri = if aor_uri.contains(&b':') { aor_uri.to_vec() } else { [b"sip:", &aor_uri[..]].concat() };
    let Some(key) = key(c.ctx, Some(&uri)) else { return FALSE };
    let part = |i: usize| c.str(i).filter(|s| !s.is_empty()).cloned();
    let (contact, next_hop, instance) = (part(2), part(3), part(4));
    let Some(table) = table(c.ctx, &c.text(0)) else { return FALSE };
    let fits = move |x: &Contact| {
        contact.as_ref().is_none_or(|u| x.uri() == &u[..])
            && instance.as_ref().is_none_or(|i| x.text(Field::Instance) == &i[..])
            && next_hop.as_ref().is_none_or(|hop| {
                let ip = ip_literal(hop).or_else(|| ip_literal(Uri::parse(hop).ok()?.host));
                ip.is_some() && address(x).map(|a| a.0) == ip
            })
    };
    take_out(c.ctx, table, vec![key], fits)
}

/// `remove_ip_port(ip, port, table[, aor])`
pub(super) fn remove_ip_port(c: &mut Call<'_>) -> Flow {
    let Some(ip) = c.str(0).and_then(|t| ip_literal(t)) else { return FALSE };
    let port = c.int(1).unwrap_or(0);
    let Some(table) = table(c.ctx, &c.text(2)) else { return FALSE };
    let fits =
        move |x: &Contact| address(x).is_some_and(|(i, p)| i == ip && (port == 0 || port == i64::from(p)));
    if let Some(uri) = c.args.str(3) {
        return match key(c.ctx, Some(uri)) {
            Some(key) => take_out(c.ctx, table, vec![key], fits),
            None => FALSE,
        };
    }
    let kernel = c.ctx.shard.kernel.clone();
    if let Some(keys) = shared::aors_at(&kernel, &table, &ip.to_string()) {
        return wait(keys, move |ctx, keys| match keys {
            Ok(keys) => take_out(ctx, table, keys, fits),
            Err(e) => {
                tracing::error!("remove_ip_port(): {e}");
                FALSE
            }
        });
    }
    let mut keys = Vec::new();
    table.retain(|aor, record| {
        if record.contacts.iter().any(fits) {
            keys.push(aor.to_vec());
        }
        true
    });
    take_out(c.ctx, table, keys, fits)
}

/// Remove what fits from these addresses of record. In memory it goes at once; the script waits for the database.
fn take_out(
    ctx: &mut Ctx,
    table: Arc<Table>,
    keys: Vec<Vec<u8>>,
    fits: impl Fn(&Contact) -> bool + 'static,
) -> Flow {
    let shard = ctx.shard.clone();
    let kernel = shard.kernel.clone();
    if kernel.state::<Location>().is_shared() {
        let work = async move {
            let mut removed = 0;
            for key in keys {
                removed += shared::change_now(&kernel, &table, &key, |list| take(list, &fits)).await?;
            }
            Ok(removed)
        };
        return wait(work, |_, done| removed(done));
    }
    let (mut queries, mut count) = (Vec::new(), 0);
    for key in keys {
        if table.read(&key, |r| r.is_some_and(|r| r.contacts.iter().any(&fits))) {
            let changed = api::change(&kernel, Some(shard.worker), &table, &key, |list| take(list, &fits));
            count += changed.value;
            queries.extend(changed.queries);
        }
    }
    if count == 0 || queries.is_empty() {
        return removed(Ok(count));
    }
    wait(api::write(&kernel, queries), move |_, written| removed(written.map(|()| count)))
}

fn take(list: &mut Contacts, fits: &impl Fn(&Contact) -> bool) -> usize {
    let before = list.len();
    list.retain(|c| !fits(c));
    before - list.len()
}

fn removed(done: Result<usize, StoreError>) -> Flow {
    match done {
        Ok(count) => truth(count > 0),
        Err(e) => {
            tracing::error!("removed contacts could not be deleted from the database: {e}");
            FALSE
        }
    }
}

/// `add_sock_hdr("X-Socket")`
pub(super) fn add_sock_hdr(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        tracing::error!("add_sock_hdr(): \"{name}\" is no header name");
        return FALSE;
    }
    let Some(socket) = c.ctx.shard.kernel.socket(c.ctx.received.socket) else { return FALSE };
    let line = format!("{name}: {}\r\n", socket.name());
    c.ctx.edits.append_header(line.into());
    TRUE
}

/// The socket a front proxy received a REGISTER on, from the header that `sock_hdr_name` names.
pub(super) fn socket_from_header(ctx: &Ctx) -> Option<switchroom_kernel::ports::net::SocketId> {
    let name = ctx.shard.kernel.state::<Registrar>().sock_hdr_name.clone()?;
    let msg = ctx.msg.clone();
    let header = msg.headers_by_name(name.as_bytes()).next()?;
    let text = String::from_utf8_lossy(header.value).into_owned();
    switchroom_calls::core::functions::find_socket(ctx, text.trim())
}
