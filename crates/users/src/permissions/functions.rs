//! Script functions.

use std::net::IpAddr;

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;
use switchroom_wire::sip::scan::ip_literal;

use super::Permissions;
use super::table::{Question, Transport};

/// `check_address(group, ip, port, proto[, info[, pattern[, partition]]])`
pub(super) fn check_address(c: &mut Call<'_>) -> Flow {
    let address = c.str(1).cloned().unwrap_or_default();
    let Some(ip) = ip_literal(&address) else {
        tracing::error!("check_address(): \"{}\" is no address", String::from_utf8_lossy(&address));
        return FALSE;
    };
    let port = c.int(2).unwrap_or(0);
    let Ok(port) = u16::try_from(port) else {
        tracing::error!("check_address(): {port} is no port");
        return FALSE;
    };
    let proto = c.text(3);
    let Some(transport) = Transport::parse(&proto) else {
        tracing::error!("check_address(): \"{proto}\" is no transport");
        return FALSE;
    };
    let asked = Asked { ip, port, transport, out: c.var(4), text: c.str(5).cloned(), partition: c.text(6) };
    let group = c.int(0).unwrap_or(0);
    check(c.ctx, group, &asked)
}

/// `check_source_address(group[, info[, pattern[, partition]]])`
pub(super) fn check_source_address(c: &mut Call<'_>) -> Flow {
    let Some(asked) = source(c.ctx, c.var(1), c.str(2).cloned(), c.text(3)) else { return FALSE };
    let group = c.int(0).unwrap_or(0);
    check(c.ctx, group, &asked)
}

/// `get_source_group(var[, partition])`
pub(super) fn get_source_group(c: &mut Call<'_>) -> Flow {
    let Some(asked) = source(c.ctx, None, None, c.text(1)) else { return FALSE };
    let Some(var) = c.var(0) else { return FALSE };
    let Some((group, _)) = find(c.ctx, 0, &asked) else { return FALSE };
    match c.ctx.set_var(&var, Value::Int(group)) {
        Ok(()) => TRUE,
        Err(e) => {
            tracing::error!("get_source_group(): {e}");
            FALSE
        }
    }
}

struct Asked {
    ip: IpAddr,
    port: u16,
    transport: Transport,
    out: Option<VarAccess>,
    text: Option<Bytes>,
    partition: String,
}

fn source(ctx: &Ctx, out: Option<VarAccess>, text: Option<Bytes>, partition: String) -> Option<Asked> {
    let received = ctx.received;
    let transport = Transport::Only(ctx.shard.kernel.socket(received.socket)?.proto);
    Some(Asked { ip: received.peer.ip(), port: received.peer.port(), transport, out, text, partition })
}

fn check(ctx: &mut Ctx, group: i64, asked: &Asked) -> Flow {
    let Some((_, info)) = find(ctx, group, asked) else { return FALSE };
    if let Some(out) = &asked.out {
        let value = info.map_or(Value::Null, Value::Str);
        if let Err(e) = ctx.set_var(out, value) {
            tracing::error!("context of an address: {e}");
            return FALSE;
        }
    }
    TRUE
}

/// Group and context of the row that fits.
fn find(ctx: &Ctx, group: i64, asked: &Asked) -> Option<(i64, Option<Bytes>)> {
    let permissions = ctx.shard.kernel.state::<Permissions>();
    let Some(part) = permissions.partition(&asked.partition) else {
        tracing::error!("permissions: there is no partition \"{}\", or it has no db_url", asked.partition);
        return None;
    };
    let q = Question {
        group,
        ip: asked.ip,
        port: asked.port,
        transport: asked.transport,
        text: asked.text.as_deref(),
    };
    let table = part.addresses.read();
    table.find(&q).map(|e| (e.group, e.info.clone()))
}

/// `allow_routing([basename])`
pub(super) fn allow_routing(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    let shard = c.ctx.shard.clone();
    let permissions = shard.kernel.state::<Permissions>();
    let Some(from) = from(c.ctx) else { return FALSE };
    let mut uris = vec![c.ctx.ruri()];
    if permissions.check_all_branches {
        uris.extend(c.ctx.branches.iter().filter_map(|b| b.uri.clone()));
    }
    apply(permissions, &name, &from, &uris)
}

/// `allow_register(basename)`
pub(super) fn allow_register(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    let msg = c.ctx.msg.clone();
    let Ok(to) = msg.to() else { return FALSE };
    let mut contacts = Vec::new();
    for contact in msg.contacts() {
        match contact {
            // Removing all bindings concerns no address.
            Ok(n) if n.is_star() => return TRUE,
            Ok(n) => contacts.push(n.uri),
            Err(e) => {
                tracing::warn!("allow_register(): a Contact cannot be read: {e}");
                return FALSE;
            }
        }
    }
    if contacts.is_empty() {
        return TRUE;
    }
    let shard = c.ctx.shard.clone();
    apply(shard.kernel.state::<Permissions>(), &name, to.uri, &contacts)
}

/// `allow_uri(basename, uri)`
pub(super) fn allow_uri(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    let Some(uri) = c.str(1).cloned() else { return FALSE };
    let Some(from) = from(c.ctx) else { return FALSE };
    let shard = c.ctx.shard.clone();
    apply(shard.kernel.state::<Permissions>(), &name, &from, &[uri])
}

fn from(ctx: &Ctx) -> Option<Bytes> {
    let request = ctx.request()?;
    request.from().ok().map(|f| request.slice(f.uri))
}

fn apply<T: AsRef<[u8]>>(permissions: &Permissions, name: &str, left: &[u8], right: &[T]) -> Flow {
    let Some(files) = permissions.files.get(name) else {
        // Files are read at start, for the names that stand in the script as they are.
        tracing::error!("permissions: the files of \"{name}\" were not read at start; it counts as refused");
        return FALSE;
    };
    if files.allows(left, right) { TRUE } else { FALSE }
}
