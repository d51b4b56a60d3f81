//! Following Route: `loose_route()`.

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::ports::net::Proto;
use switchroom_wire::sip::{HeaderId, Message, NameAddr, Uri};

use super::{RouteParams, Rr};
use crate::core::functions::find_socket;

/// Values of the Route headers.
type Routes<'m> = SmallVec<[NameAddr<'m>; 4]>;

/// True when the Route headers decide where the request goes: ours are taken off and the next hop is set.
///
/// A phone that names us as its outbound proxy begins with a Route to us alone. That entry is taken off as well, but it
/// decides nothing: the request is routed as one without.
pub(super) fn loose_route(c: &mut Call<'_>) -> Flow {
    let ctx = &mut *c.ctx;
    let msg = ctx.msg.clone();
    if msg.header(HeaderId::Route).is_none() {
        return FALSE;
    }
    let mut routes = Routes::new();
    for route in msg.routes() {
        match route {
            Ok(r) => routes.push(r),
            Err(e) => {
                tracing::warn!("loose_route(): a Route header cannot be read: {e}");
                return FALSE;
            }
        }
    }
    let strict = strict_neighbour(ctx, &msg, &mut routes);
    let own = take_own(ctx, &msg, &routes);
    follow(ctx, &msg, &routes[own..]);
    let shard = ctx.shard.clone();
    for hook in &shard.kernel.hooks.routed {
        hook(ctx);
    }
    let alone = !strict && own > 0 && own == routes.len();
    let begins = msg.to().is_ok_and(|t| t.tag().is_none());
    // A `received` of ours may still name the next hop (module path).
    if alone && begins && ctx.target.dst.is_none() { FALSE } else { TRUE }
}

/// A strict router before us put our own Record-Route entry into the Request-URI: the real target is the last Route
/// (RFC 3261 §16.4). Tells whether it was so.
fn strict_neighbour(ctx: &mut Ctx, msg: &Message, routes: &mut Routes<'_>) -> bool {
    let params = {
        let uri = match &ctx.target.uri {
            Some(changed) => Uri::parse(changed),
            None => msg.ruri(),
        };
        match uri {
            Ok(u) if u.is_loose() && is_own(ctx, &u) => Bytes::copy_from_slice(u.params().raw()),
            _ => return false,
        }
    };
    let Some(last) = routes.pop() else { return false };
    ctx.target.uri = Some(msg.slice(last.uri));
    remove_last_route(ctx);
    ctx.note_mut::<RouteParams>().0 = params;
    true
}

/// Take our own entries off the top; how many there were.
fn take_own(ctx: &mut Ctx, msg: &Message, routes: &Routes<'_>) -> usize {
    let mut taken = 0;
    while let Some(route) = routes.get(taken) {
        let Ok(u) = route.parse_uri() else { break };
        if !is_own(ctx, &u) {
            break;
        }
        if taken == 0 {
            ctx.note_mut::<RouteParams>().0 = msg.slice(u.params().raw());
        }
        let double = u.param("r2").is_some();
        ctx.edits.pop_route(msg);
        taken += 1;
        if taken == 2 && double {
            // The second of a pair names the socket that leads on.
            force_socket(ctx, &u);
        }
        if taken == 2 || !double {
            break;
        }
    }
    taken
}

fn is_own(ctx: &Ctx, u: &Uri<'_>) -> bool {
    let kernel = &ctx.shard.kernel;
    let rr = kernel.state::<Rr>();
    if let (Some(ignored), Some(user)) = (&rr.ignore_user, u.user)
        && ignored.as_bytes() == user
    {
        return false;
    }
    let proto = u.transport().and_then(|t| std::str::from_utf8(t).ok()).and_then(Proto::parse);
    let port = u.port.unwrap_or(proto.map_or(5060, Proto::default_port));
    kernel.is_myself(u.host, port, None)
}

/// Send from the socket that our entry names, so that the dialog keeps to one address.
fn force_socket(ctx: &mut Ctx, u: &Uri<'_>) {
    let host = String::from_utf8_lossy(u.host);
    let proto = u.transport().map_or("udp".into(), |t| String::from_utf8_lossy(t));
    let port = u.port.unwrap_or(5060);
    if let Some(id) = find_socket(ctx, &format!("{}:{host}:{port}", proto.to_ascii_lowercase())) {
        ctx.target.socket = Some(id);
    }
}

/// What is left of the route set decides the next hop.
fn follow(ctx: &mut Ctx, msg: &Message, rest: &[NameAddr<'_>]) {
    let Some(next) = rest.first() else { return };
    let Ok(u) = next.parse_uri() else { return };
    if u.is_loose() {
        ctx.target.dst = Some(msg.slice(next.uri));
        return;
    }
    // A strict router ahead: its URI becomes the Request-URI, and ours goes to the end (RFC 3261 §16.6 step 6).
    let mut line = b"Route: <".to_vec();
    line.extend_from_slice(&ctx.ruri());
    line.extend_from_slice(b">\r\n");
    match msg.headers_of(HeaderId::Route).last() {
        Some(h) => ctx.edits.insert_after(msg, h.index, line.into()),
        None => ctx.edits.append_header(line.into()),
    }
    ctx.edits.pop_route(msg);
    ctx.target.uri = Some(msg.slice(next.uri));
}

fn remove_last_route(ctx: &mut Ctx) {
    let msg = ctx.msg.clone();
    let Some(header) = msg.headers_of(HeaderId::Route).last() else { return };
    let values = switchroom_wire::sip::scan::commas(header.value).count();
    ctx.edits.remove_value(&msg, header.index, values.saturating_sub(1));
}
