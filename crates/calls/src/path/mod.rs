//! Path (RFC 3327) for edge proxies: a registrar behind us learns that calls to this phone come through us.

use std::rc::Rc;

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, Flow, Leaving, TRUE};
use switchroom_kernel::module::{Function, Hook, Module, Param};
use switchroom_kernel::ports::net::{ListenSocket, Proto};
use switchroom_wire::sip::{Edits, HeaderId, Uri, scan};

use crate::core::send::{Line, push_host_port};
use crate::rr;

/// The module.
pub static MODULE: Module = Module {
    name: "path",
    summary: "Path headers of edge proxies",
    needs: &["rr"],
    params: &[
        Param::int(
            "use_received",
            "0",
            "Requests that come back with our Path go to the address noted in it",
        ),
        Param::int("enable_double_path", "1", "Two entries where the transport or address changes"),
    ],
    functions: &[
        Function::new("add_path", &["[str]"], "R", |c| add(c, false), "Stay in the way to the phone"),
        Function::new(
            "add_path_received",
            &["[str]"],
            "R",
            |c| add(c, true),
            "The same, noting its source address",
        ),
    ],
    hooks: &[Hook::Routed(back)],
    open: |o| {
        let settings = Path { use_received: o.on("use_received"), double: o.on("enable_double_path") };
        o.provide(settings);
        Ok(())
    },
    ..Module::EMPTY
};

struct Path {
    use_received: bool,
    double: bool,
}

/// `add_path([user])`: the entry names the socket the REGISTER leaves from, so it is written when that is known.
fn add(c: &mut Call<'_>, note_source: bool) -> Flow {
    let user = c.str(0).cloned().unwrap_or_default();
    let double = c.ctx.shard.kernel.state::<Path>().double;
    let peer = c.ctx.received.peer;
    c.ctx.late_edits.push(Rc::new(move |leaving: &Leaving<'_>, edits: &mut Edits| {
        let sockets = (leaving.kernel.socket(leaving.from), leaving.kernel.socket(leaving.to));
        let (Some(from), Some(to)) = sockets else { return };
        let received = note_source.then(|| source(peer, from.proto));
        let two = double && from.id != to.id;
        if two {
            // The entry towards the phone lies below and is used last.
            edits.prepend_header(
                leaving.msg,
                HeaderId::Path,
                entry(from, leaving, &user, received.as_deref(), true),
            );
            edits.prepend_header(leaving.msg, HeaderId::Path, entry(to, leaving, &user, None, true));
        } else {
            edits.prepend_header(
                leaving.msg,
                HeaderId::Path,
                entry(to, leaving, &user, received.as_deref(), false),
            );
        }
    }));
    TRUE
}

/// `sip:ip:port%3btransport=...`: the source as a parameter value.
fn source(peer: std::net::SocketAddr, proto: Proto) -> String {
    match proto {
        Proto::Udp => format!("sip:{peer}"),
        other => format!("sip:{peer}%3Btransport%3D{other}"),
    }
}

fn entry(
    socket: &ListenSocket,
    leaving: &Leaving<'_>,
    user: &[u8],
    received: Option<&str>,
    two: bool,
) -> Bytes {
    let mut out = Line::from_slice(b"Path: <sip:");
    if !user.is_empty() {
        out.extend_from_slice(user);
        out.push(b'@');
    }
    let own = (None, None);
    push_host_port(socket, if socket.id == leaving.to { leaving.advertised } else { &own }, &mut out);
    if socket.proto != Proto::Udp {
        out.extend_from_slice(b";transport=");
        out.extend_from_slice(socket.proto.name().as_bytes());
    }
    out.extend_from_slice(if two { b";r2=on;lr" } else { b";lr" });
    if let Some(source) = received {
        out.extend_from_slice(b";received=");
        out.extend_from_slice(source.as_bytes());
    }
    out.extend_from_slice(b">\r\n");
    Bytes::copy_from_slice(&out)
}

/// A request came back along our Path: it goes to the address that was noted, unless another proxy comes first.
fn back(ctx: &mut Ctx) {
    if !ctx.shard.kernel.state::<Path>().use_received || ctx.target.dst.is_some() {
        return;
    }
    let Some(noted) = rr::route_param(ctx, "received") else { return };
    let uri = Bytes::from(scan::percent_decode(&noted).into_owned());
    if Uri::parse(&uri).is_ok() {
        ctx.target.dst = Some(uri);
    }
}
