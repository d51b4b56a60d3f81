//! Core functions: URIs, flags, branches, stateless forwarding, sockets.

use std::net::SocketAddr;

use bytes::Bytes;
use switchroom_kernel::Kernel;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, Target, wait};
use switchroom_kernel::module::Function;
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::ports::net::{ConnId, Outgoing, Proto, SocketId};
use switchroom_kernel::status;
use switchroom_script::Value;
use switchroom_script::names::StaticArg;
use switchroom_wire::sip::{Uri, serialise};

use super::alias;
use super::blacklist;
use super::branches;
use super::locate::{Hop, Hops, Located, locate};
use super::send;
use super::stateless;
use super::uri::{Part, with_part};

/// The table.
pub static FUNCTIONS: &[Function] = &[
    Function::new("forward", &["[str]"], "*", forward, "Send the request on without keeping state"),
    Function::new("send", &["str,[str]"], "*", send_to, "Send the message as it is to an address"),
    Function::new("setflag", &["str!"], "*", setflag, "Set a message flag"),
    Function::new("resetflag", &["str!"], "*", resetflag, "Clear a message flag"),
    Function::new("isflagset", &["str!"], "*", isflagset, "Test a message flag"),
    Function::new("setbflag", &["str!,[int]"], "*", setbflag, "Set a branch flag"),
    Function::new("resetbflag", &["str!,[int]"], "*", resetbflag, "Clear a branch flag"),
    Function::new("isbflagset", &["str!,[int]"], "*", isbflagset, "Test a branch flag"),
    Function::new("sethost", &["str"], "*", |c| part(c, Part::Host), "Replace the host of the Request-URI")
        .formerly(&["rewritehost"]),
    Function::new("sethostport", &["str"], "*", |c| part(c, Part::HostPort), "Replace host and port")
        .formerly(&["rewritehostport"]),
    Function::new("setuser", &["str"], "*", |c| part(c, Part::User), "Replace the user of the Request-URI")
        .formerly(&["rewriteuser"]),
    Function::new("setuserpass", &["str"], "*", |c| part(c, Part::UserPassword), "Replace user and password")
        .formerly(&["rewriteuserpass"]),
    Function::new("setport", &["str"], "*", |c| part(c, Part::Port), "Replace the port of the Request-URI")
        .formerly(&["rewriteport"]),
    Function::new("seturi", &["str"], "*", seturi, "Replace the Request-URI").formerly(&["rewriteuri"]),
    Function::new("prefix", &["str"], "*", prefix, "Put text before the user of the Request-URI"),
    Function::new("strip", &["int"], "*", strip, "Take characters off the front of the user"),
    Function::new("strip_tail", &["int"], "*", strip_tail, "Take characters off the end of the user"),
    Function::new("revert_uri", &[""], "*", revert_uri, "Go back to the received Request-URI"),
    Function::new("setdsturi", &["str"], "*", setdsturi, "Set the next hop"),
    Function::new("resetdsturi", &[""], "*", resetdsturi, "Forget the next hop"),
    Function::new("isdsturiset", &[""], "*", isdsturiset, "Test whether a next hop is set"),
    Function::new("append_branch_old", &["[str],[str]"], "*", branches::append_old, "Add a branch")
        .formerly(&["append_branch"]),
    Function::new("append_msg_branch", &["str,[str],[str]"], "*", branches::append, "Add a branch"),
    Function::new("remove_msg_branch", &["int"], "*", branches::remove, "Remove a branch"),
    Function::new("remove_branch", &["int"], "*", branches::remove_old, "Older: remove an appended branch"),
    Function::new("move_msg_branch", &["[int],[int],[str]"], "*", branches::shift, "Move a branch"),
    Function::new("swap_msg_branches", &["[int],[int]"], "*", branches::swap, "Swap two branches"),
    Function::new(
        "serialize_branches",
        &["int,[int]"],
        "*",
        branches::serialize,
        "Order branches by q for serial forking",
    ),
    Function::new("next_branches", &[""], "*", branches::next, "Take the next group of serialized branches"),
    Function::new("pv_printf", &["var,str"], "*", pv_printf, "Print a format into a variable")
        .formerly(&["avp_printf"]),
    Function::new("force_rport", &[""], "*", force_rport, "Answer to the source port (RFC 3581)"),
    Function::new(
        "force_tcp_alias",
        &["[int]"],
        "*",
        alias::force_tcp_alias,
        "Use the connection of this message for requests to the address in its Via (RFC 5923)",
    ),
    Function::new(
        "set_via_handling",
        &["str"],
        "*",
        set_via_handling,
        "How Via is treated: force-rport, add-local-rport, force-tcp-alias, joined by commas",
    )
    .prepared(check_via_handling),
    Function::new(
        "use_blacklist",
        &["str"],
        "*",
        blacklist::use_blacklist,
        "Send this request to no place of a dst_blacklist",
    ),
    Function::new(
        "unuse_blacklist",
        &["str"],
        "*",
        blacklist::unuse_blacklist,
        "Heed a dst_blacklist no more",
    ),
    Function::new(
        "check_blacklist_rule",
        &["str,str,[int],[str],[str]"],
        "*",
        blacklist::check_rule,
        "Test whether a place is in a dst_blacklist: list, address, port, protocol, text",
    ),
    Function::new(
        "add_blacklist_rule",
        &["str,str,[int],[str],[str],[int]"],
        "*",
        blacklist::add_rule,
        "Add a rule: list, network, port, protocol, pattern, seconds it holds",
    ),
    Function::new(
        "del_blacklist_rule",
        &["str,str,[int],[str],[str]"],
        "*",
        blacklist::del_rule,
        "Remove a rule from a dst_blacklist",
    ),
    Function::new(
        "script_trace",
        &["[int],[str~],[str!]"],
        "*",
        super::trace::script_trace,
        "Log each step of the script from here on: level, format, tag; without arguments no more",
    ),
    Function::new(
        "subscribe_event",
        &["str,str,[int]"],
        "*",
        super::events::subscribe_event,
        "Send an event to an address, for so many seconds or for good",
    ),
    Function::new(
        "sr_check_status",
        &["str,[str]"],
        "*",
        sr_check_status,
        "Test whether a part of the server is ready: group, identifier",
    ),
    Function::new("add_local_rport", &[""], "*", add_local_rport, "Ask the next hop for rport in our Via"),
    Function::new("tcp_close_conn", &["str"], "*", tcp_close_conn, "Close a stream connection"),
    Function::new("set_advertised_address", &["str"], "*", set_advertised_address, "Host to show in our Via"),
    Function::new("set_advertised_port", &["str"], "*", set_advertised_port, "Port to show in our Via"),
    Function::new("force_send_socket", &["str"], "*", force_send_socket, "Socket to send from"),
    Function::new("construct_uri", &["str,[str],str,[str],[str],var"], "*", construct_uri, "Build a SIP URI"),
    Function::new(
        "get_timestamp",
        &["var,var"],
        "*",
        get_timestamp,
        "Seconds and microseconds since the epoch",
    ),
    Function::new("is_myself", &["str,[int]"], "*", is_myself, "Test whether a host is this server"),
    Function::new("avp_print", &[""], "*", avp_print, "Log all AVPs").formerly(&["print_avps"]),
    Function::new("raise_event", &["str,[var],[var]"], "*", super::events::raise_event, "Raise an event")
        .prepared(super::events::prepare_event),
];

/// `forward()`: to the next hop that is set, or to the given address.
fn forward(c: &mut Call<'_>) -> Flow {
    let ctx = &mut *c.ctx;
    if !ctx.msg.is_request() {
        return FALSE;
    }
    let send = |ctx: &mut Ctx, hops| if stateless::send_on(ctx, hops).is_ok() { TRUE } else { FALSE };
    match c.args.str(0) {
        None => to_next_hops(ctx, send),
        Some(t) => match target_uri(t) {
            Some(uri) => to_hops(ctx, &uri, send),
            None => {
                tracing::warn!("forward(): \"{}\" is no address", String::from_utf8_lossy(t));
                FALSE
            }
        },
    }
}

/// Where a branch of the request leads: `$du`, else the first Path URI, else its Request-URI.
pub fn locate_target(ctx: &Ctx, target: &Target) -> Located {
    let path = target.path.as_deref().and_then(send::first_path_uri);
    let uri = match (target.dst.as_deref().or(path), target.uri.as_ref().or(ctx.target.uri.as_ref())) {
        (Some(next), _) => Uri::parse(next),
        (None, Some(uri)) => Uri::parse(uri),
        (None, None) => match ctx.request() {
            Some(request) => request.ruri(),
            None => return Located::Now(Hops::new()),
        },
    };
    uri.map_or_else(|_| Located::Now(Hops::new()), |u| locate(&ctx.shard.kernel, &u, None))
}

/// Where a URI leads; nowhere when it is none.
pub fn locate_uri(ctx: &Ctx, uri: &[u8]) -> Located {
    Uri::parse(uri).map_or_else(|_| Located::Now(Hops::new()), |u| locate(&ctx.shard.kernel, &u, None))
}

/// Where the request leads as it is now; then go on with `then`.
pub fn to_next_hops(ctx: &mut Ctx, then: fn(&mut Ctx, Hops) -> Flow) -> Flow {
    let located = locate_target(ctx, &ctx.target);
    with_hops(ctx, located, then)
}

/// Find out where `uri` leads, then go on with `then`; at once when it is an address literal.
pub fn to_hops(ctx: &mut Ctx, uri: &Bytes, then: fn(&mut Ctx, Hops) -> Flow) -> Flow {
    let shard = ctx.shard.clone();
    let located = match Uri::parse(uri) {
        Ok(u) => locate(&shard.kernel, &u, None),
        Err(_) => Located::Now(Hops::new()),
    };
    with_hops(ctx, located, then)
}

fn with_hops(ctx: &mut Ctx, located: Located, then: fn(&mut Ctx, Hops) -> Flow) -> Flow {
    match located {
        Located::Now(hops) => then(ctx, hops),
        Located::Wait(future) => wait(future, then),
    }
}

/// `[proto:]host[:port]` or a whole URI, as a URI.
pub fn target_uri(text: &[u8]) -> Option<Bytes> {
    if Uri::parse(text).is_ok_and(|u| {
        matches!(u.scheme, switchroom_wire::sip::Scheme::Sip | switchroom_wire::sip::Scheme::Sips)
    }) {
        return Some(Bytes::copy_from_slice(text));
    }
    let text = std::str::from_utf8(text).ok()?;
    let (proto, rest) = match text.split_once(':') {
        Some((p, rest)) if Proto::parse(p).is_some() => (Proto::parse(p), rest),
        _ => (None, text),
    };
    let uri = match proto {
        Some(p) => format!("sip:{rest};transport={p}"),
        None => format!("sip:{rest}"),
    };
    Uri::parse(uri.as_bytes()).ok()?;
    Some(uri.into())
}

/// `send(address[, headers])`: the message as it is, with headers added.
fn send_to(c: &mut Call<'_>) -> Flow {
    let Some(uri) = c.str(0).and_then(|t| target_uri(t)) else { return FALSE };
    if let Some(headers) = c.str(1).cloned() {
        c.ctx.edits.append_header(headers);
    }
    to_hops(c.ctx, &uri, |ctx, hops| {
        let Some(Hop { proto, addr }) = hops.first().copied() else { return FALSE };
        let (chosen, received) = (ctx.target.socket, ctx.received.socket);
        let socket = send::outgoing_socket(&ctx.shard, chosen, received, proto, addr);
        let Some(socket) = socket else { return FALSE };
        let mut out = Vec::with_capacity(ctx.msg.raw().len() + 64);
        serialise(&ctx.msg, &[&ctx.edits], &mut out);
        ctx.shard.net.send(Outgoing {
            data: out.into(),
            socket,
            peer: addr,
            conn: None,
            no_new_conn: false,
            token: 0,
        });
        TRUE
    })
}

// Flags ---------------------------------------------------------------------------------------------------------------

fn bit(c: &Call<'_>, kind: FlagKind) -> Option<u32> {
    let name = c.str(0)?;
    let name = std::str::from_utf8(name).ok()?;
    match c.ctx.shard.kernel.registry.names.flag(kind, name) {
        Ok(bit) => Some(1 << bit),
        Err(e) => {
            tracing::error!("{e}");
            None
        }
    }
}

fn setflag(c: &mut Call<'_>) -> Flow {
    let Some(bit) = bit(c, FlagKind::Message) else { return FALSE };
    c.ctx.flags |= bit;
    TRUE
}

fn resetflag(c: &mut Call<'_>) -> Flow {
    let Some(bit) = bit(c, FlagKind::Message) else { return FALSE };
    c.ctx.flags &= !bit;
    TRUE
}

fn isflagset(c: &mut Call<'_>) -> Flow {
    let set = bit(c, FlagKind::Message).is_some_and(|bit| c.ctx.flags & bit != 0);
    if set { TRUE } else { FALSE }
}

fn branch_flags<'a>(c: &'a mut Call<'_>) -> Option<&'a mut u32> {
    let index = c.int(1).unwrap_or(0);
    branches::target_mut(c.ctx, index).map(|t| &mut t.flags)
}

fn setbflag(c: &mut Call<'_>) -> Flow {
    let Some(bit) = bit(c, FlagKind::Branch) else { return FALSE };
    match branch_flags(c) {
        Some(flags) => {
            *flags |= bit;
            TRUE
        }
        None => FALSE,
    }
}

fn resetbflag(c: &mut Call<'_>) -> Flow {
    let Some(bit) = bit(c, FlagKind::Branch) else { return FALSE };
    match branch_flags(c) {
        Some(flags) => {
            *flags &= !bit;
            TRUE
        }
        None => FALSE,
    }
}

fn isbflagset(c: &mut Call<'_>) -> Flow {
    let Some(bit) = bit(c, FlagKind::Branch) else { return FALSE };
    match branch_flags(c) {
        Some(flags) if *flags & bit != 0 => TRUE,
        _ => FALSE,
    }
}

// The Request-URI -----------------------------------------------------------------------------------------------------

fn part(c: &mut Call<'_>, part: Part) -> Flow {
    let value = c.str(0).cloned().unwrap_or_default();
    if set_part(c.ctx, part, &value) { TRUE } else { FALSE }
}

/// Replace a part of the Request-URI; false and a log line when the result would be no URI.
pub fn set_part(ctx: &mut Ctx, part: Part, value: &[u8]) -> bool {
    match with_part(&ctx.ruri(), part, value) {
        Some(uri) => {
            ctx.target.uri = Some(uri);
            true
        }
        None => {
            let (old, new) = (ctx.ruri(), value.to_vec());
            tracing::warn!(
                "cannot set the {part:?} of \"{}\" to \"{}\"",
                String::from_utf8_lossy(&old),
                String::from_utf8_lossy(&new)
            );
            false
        }
    }
}

fn seturi(c: &mut Call<'_>) -> Flow {
    let Some(uri) = c.str(0).cloned() else { return FALSE };
    if Uri::parse(&uri).is_err() {
        tracing::warn!("seturi(): \"{}\" is no URI", String::from_utf8_lossy(&uri));
        return FALSE;
    }
    c.ctx.target.uri = Some(uri);
    TRUE
}

fn user(ctx: &Ctx) -> Bytes {
    let uri = ctx.ruri();
    Uri::parse(&uri).ok().and_then(|u| u.user).map(Bytes::copy_from_slice).unwrap_or_default()
}

fn prefix(c: &mut Call<'_>) -> Flow {
    let mut new = c.str(0).map(|p| p.to_vec()).unwrap_or_default();
    new.extend_from_slice(&user(c.ctx));
    if set_part(c.ctx, Part::User, &new) { TRUE } else { FALSE }
}

fn strip(c: &mut Call<'_>) -> Flow {
    let n = c.int(0).unwrap_or(0).max(0) as usize;
    let old = user(c.ctx);
    let new = old.slice(n.min(old.len())..);
    if set_part(c.ctx, Part::User, &new) { TRUE } else { FALSE }
}

fn strip_tail(c: &mut Call<'_>) -> Flow {
    let n = c.int(0).unwrap_or(0).max(0) as usize;
    let old = user(c.ctx);
    let new = old.slice(..old.len().saturating_sub(n));
    if set_part(c.ctx, Part::User, &new) { TRUE } else { FALSE }
}

fn revert_uri(c: &mut Call<'_>) -> Flow {
    c.ctx.target.uri = None;
    TRUE
}

fn setdsturi(c: &mut Call<'_>) -> Flow {
    let Some(uri) = c.str(0).cloned() else { return FALSE };
    if Uri::parse(&uri).is_err() {
        tracing::warn!("setdsturi(): \"{}\" is no URI", String::from_utf8_lossy(&uri));
        return FALSE;
    }
    c.ctx.target.dst = Some(uri);
    TRUE
}

fn resetdsturi(c: &mut Call<'_>) -> Flow {
    c.ctx.target.dst = None;
    TRUE
}

fn isdsturiset(c: &mut Call<'_>) -> Flow {
    if c.ctx.target.dst.is_some() { TRUE } else { FALSE }
}

fn construct_uri(c: &mut Call<'_>) -> Flow {
    let part = |i: usize| c.str(i).filter(|s| !s.is_empty()).cloned();
    let (Some(proto), Some(host)) = (part(0), part(2)) else { return FALSE };
    let mut uri = Vec::with_capacity(64);
    uri.extend_from_slice(&proto);
    uri.push(b':');
    if let Some(user) = part(1) {
        uri.extend_from_slice(&user);
        uri.push(b'@');
    }
    uri.extend_from_slice(&host);
    if let Some(port) = part(3) {
        uri.push(b':');
        uri.extend_from_slice(&port);
    }
    if let Some(extra) = part(4) {
        uri.push(b';');
        uri.extend_from_slice(&extra);
    }
    if Uri::parse(&uri).is_err() {
        return FALSE;
    }
    let Some(var) = c.var(5) else { return FALSE };
    match c.ctx.set_var(&var, Value::Str(uri.into())) {
        Ok(()) => TRUE,
        Err(_) => FALSE,
    }
}

// Transport -----------------------------------------------------------------------------------------------------------

fn force_rport(c: &mut Call<'_>) -> Flow {
    c.ctx.force_rport = true;
    send::stamp_received(c.ctx);
    TRUE
}

/// Our Via asks the next hop for `rport`: kept as a note, read where the Via is written.
#[derive(Default)]
pub struct LocalRport(pub bool);

fn add_local_rport(c: &mut Call<'_>) -> Flow {
    c.ctx.note_mut::<LocalRport>().0 = true;
    TRUE
}

fn via_flags(text: &str) -> impl Iterator<Item = Result<fn(&mut Call<'_>) -> Flow, String>> {
    text.split(',').map(str::trim).filter(|f| !f.is_empty()).map(|flag| match flag {
        "force-rport" => Ok(force_rport as fn(&mut Call<'_>) -> Flow),
        "add-local-rport" => Ok(add_local_rport as fn(&mut Call<'_>) -> Flow),
        "force-tcp-alias" => Ok(alias::force_tcp_alias as fn(&mut Call<'_>) -> Flow),
        "reply-to-via" => {
            Err("`reply-to-via` is not offered: replies go where RFC 3261 §18.2.2 and RFC 3581 say; \
                               `force-rport` sends them to where the request came from"
                .into())
        }
        other => Err(format!("`{other}` is none of force-rport, add-local-rport, force-tcp-alias")),
    })
}

fn check_via_handling(args: &[StaticArg]) -> Result<Option<switchroom_kernel::module::Prepared>, String> {
    static_str(args.first()).map_or(Ok(()), |t| via_flags(t).try_for_each(|f| f.map(drop)))?;
    Ok(None)
}

fn set_via_handling(c: &mut Call<'_>) -> Flow {
    let text = c.text(0);
    for flag in via_flags(&text) {
        match flag {
            // What it answers is about this message, not about the flag.
            Ok(set) => drop(set(c)),
            Err(e) => {
                tracing::error!("set_via_handling(): {e}");
                return FALSE;
            }
        }
    }
    TRUE
}

/// `sr_check_status(group[, identifier])`
fn sr_check_status(c: &mut Call<'_>) -> Flow {
    let (group, name) = (c.text(0), if c.has(1) { c.text(1) } else { status::MAIN.to_owned() });
    match c.ctx.shard.kernel.status.ready(&group, &name) {
        Some(true) => TRUE,
        Some(false) => FALSE,
        None => {
            tracing::warn!("sr_check_status(): there is no `{name}` in the group `{group}`");
            FALSE
        }
    }
}

fn tcp_close_conn(c: &mut Call<'_>) -> Flow {
    let text = c.text(0);
    let Some(id) = text.trim().parse::<u64>().ok().filter(|id| *id != 0) else { return FALSE };
    c.ctx.shard.net.close(ConnId(id));
    TRUE
}

fn set_advertised_address(c: &mut Call<'_>) -> Flow {
    c.ctx.advertised.0 = c.str(0).cloned();
    TRUE
}

fn set_advertised_port(c: &mut Call<'_>) -> Flow {
    c.ctx.advertised.1 = c.str(0).cloned();
    TRUE
}

fn force_send_socket(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    match find_socket(c.ctx, &name) {
        Some(id) => {
            c.ctx.target.socket = Some(id);
            TRUE
        }
        None => {
            tracing::warn!("force_send_socket(): no listening socket \"{name}\"");
            FALSE
        }
    }
}

/// A listening socket by `[proto:]host[:port]` or tag.
pub fn find_socket(ctx: &Ctx, name: &str) -> Option<SocketId> {
    socket_named(&ctx.shard.kernel, name)
}

/// The same without a message.
pub fn socket_named(kernel: &Kernel, name: &str) -> Option<SocketId> {
    let sockets = kernel.sockets();
    if let Some(s) = sockets.iter().find(|s| s.tag.as_deref() == Some(name)) {
        return Some(s.id);
    }
    let (proto, rest) = match name.split_once(':') {
        Some((p, rest)) if Proto::parse(p).is_some() => (Proto::parse(p), rest),
        _ => (None, name),
    };
    let addr: Option<SocketAddr> = rest.parse().ok();
    let host = rest.trim_matches(['[', ']']);
    let found = sockets.iter().find(|s| {
        let shown = s
            .advertised
            .as_ref()
            .is_some_and(|(h, p)| h == rest || rest == format!("{h}:{}", p.unwrap_or(s.addr.port())));
        let own = match addr {
            Some(a) => a == s.addr,
            None => s.addr.ip().to_string() == host,
        };
        proto.is_none_or(|p| p == s.proto) && (own || shown)
    });
    found.map(|s| s.id)
}

// Tests and odds and ends ---------------------------------------------------------------------------------------------

fn is_myself(c: &mut Call<'_>) -> Flow {
    let host = c.text(0);
    let port = c.int(1).unwrap_or(0).clamp(0, 65535) as u16;
    if c.ctx.shard.kernel.is_myself(&host, port, None) { TRUE } else { FALSE }
}

fn pv_printf(c: &mut Call<'_>) -> Flow {
    let (Some(var), Some(text)) = (c.var(0), c.str(1).cloned()) else { return FALSE };
    match c.ctx.set_var(&var, Value::Str(text)) {
        Ok(()) => TRUE,
        Err(_) => FALSE,
    }
}

fn get_timestamp(c: &mut Call<'_>) -> Flow {
    let now = c.ctx.shard.kernel.drivers.clock.unix();
    let (Some(sec), Some(usec)) = (c.var(0), c.var(1)) else { return FALSE };
    let set = c.ctx.set_var(&sec, Value::Int(now.as_secs() as i64));
    match set.and_then(|()| c.ctx.set_var(&usec, Value::Int(i64::from(now.subsec_micros())))) {
        Ok(()) => TRUE,
        Err(_) => FALSE,
    }
}

fn avp_print(c: &mut Call<'_>) -> Flow {
    let names = c.ctx.shard.kernel.registry.names.clone();
    for (name, value) in c.ctx.avps.iter() {
        tracing::info!(target: "script", "avp {} = {:?}", names.text(name), value);
    }
    TRUE
}

/// Whether a call site's static string argument is one of `words`; for `prepare`.
pub fn static_str(arg: Option<&StaticArg>) -> Option<&str> {
    match arg {
        Some(StaticArg::Str(s)) => std::str::from_utf8(s).ok(),
        _ => None,
    }
}

/// A target with the given URI and everything else empty.
pub fn target_of(uri: Bytes) -> Target {
    Target { uri: Some(uri), ..Target::unchanged() }
}
