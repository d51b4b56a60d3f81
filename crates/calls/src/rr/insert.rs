//! Writing Record-Route. The entry names the socket the request leaves from, so it is written when that is known.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, Leaving, TRUE};
use switchroom_kernel::ports::net::{ListenSocket, Proto};
use switchroom_wire::sip::{Edits, Uri};

use super::Rr;
use crate::core::send::{Line, push_host_port};

/// What our entry is to say; parameters may be added until the request leaves.
#[derive(Default)]
struct Entry {
    user: Vec<u8>,
    params: Vec<u8>,
}

/// Marks that this message has its entry.
#[derive(Default)]
struct Recorded(Option<Rc<RefCell<Entry>>>);

pub(super) fn record_route(c: &mut Call<'_>) -> Flow {
    let Some(entry) = begin(c) else { return FALSE };
    if let Some(extra) = c.str(0) {
        push_params(extra, &mut entry.borrow_mut().params);
    }
    let double = c.ctx.shard.kernel.state::<Rr>().double;
    c.ctx.late_edits.push(Rc::new(move |leaving: &Leaving<'_>, edits: &mut Edits| {
        let sockets = (leaving.kernel.socket(leaving.from), leaving.kernel.socket(leaving.to));
        let (Some(from), Some(to)) = sockets else { return };
        let entry = entry.borrow();
        let two = double && from.id != to.id;
        edits.push_record_route(leaving.msg, line(&entry, from, leaving, two));
        if two {
            edits.push_record_route(leaving.msg, line(&entry, to, leaving, true));
        }
    }));
    TRUE
}

/// `record_route_preset("host:port"[, "host2:port2"])`: the first on the side the request goes to.
pub(super) fn record_route_preset(c: &mut Call<'_>) -> Flow {
    let Some(first) = c.str(0).cloned() else { return FALSE };
    let second = c.str(1).cloned();
    let Some(entry) = begin(c) else { return FALSE };
    for preset in std::iter::once(&first).chain(&second) {
        let uri = [b"sip:", &preset[..]].concat();
        if Uri::parse(&uri).is_err() {
            tracing::error!(
                "record_route_preset(): \"{}\" is no host and port",
                String::from_utf8_lossy(preset)
            );
            return FALSE;
        }
    }
    c.ctx.late_edits.push(Rc::new(move |leaving: &Leaving<'_>, edits: &mut Edits| {
        let entry = entry.borrow();
        let two = second.is_some();
        for preset in second.iter().chain(std::iter::once(&first)) {
            edits.push_record_route(leaving.msg, preset_line(&entry, preset, two));
        }
    }));
    TRUE
}

/// `add_rr_param(";nat=yes")`: before or after `record_route()`.
pub(super) fn add_rr_param(c: &mut Call<'_>) -> Flow {
    let Some(param) = c.str(0).cloned() else { return FALSE };
    add_param(c.ctx, &param);
    TRUE
}

/// Add a parameter to our Record-Route, whether it was written already or will be.
pub fn add_param(ctx: &mut Ctx, param: &[u8]) {
    let recorded = ctx.note_mut::<Recorded>();
    let entry = recorded.0.get_or_insert_default().clone();
    push_params(param, &mut entry.borrow_mut().params);
}

/// Start the entry of this message; `None` when it has one already.
fn begin(c: &mut Call<'_>) -> Option<Rc<RefCell<Entry>>> {
    let ctx = &mut *c.ctx;
    if ctx.note::<Begun>().is_some() {
        tracing::error!("record_route() was called twice for one request");
        return None;
    }
    ctx.note_mut::<Begun>();
    let entry = ctx.note_mut::<Recorded>().0.get_or_insert_default().clone();
    let shard = ctx.shard.clone();
    let rr = shard.kernel.state::<Rr>();
    let mut own = entry.borrow_mut();
    if rr.add_username {
        own.user = user(ctx);
    }
    if rr.append_fromtag
        && let Some(tag) = ctx.msg.from().ok().and_then(|f| f.tag())
    {
        let mut params = b";ftag=".to_vec();
        params.extend_from_slice(tag);
        params.append(&mut own.params);
        own.params = params;
    }
    drop(own);
    Some(entry)
}

#[derive(Default)]
struct Begun;

fn user(ctx: &Ctx) -> Vec<u8> {
    Uri::parse(&ctx.ruri()).ok().and_then(|u| u.user).unwrap_or_default().to_vec()
}

fn push_params(text: &[u8], out: &mut Vec<u8>) {
    if !text.starts_with(b";") && !text.is_empty() {
        out.push(b';');
    }
    out.extend_from_slice(text);
}

fn line(entry: &Entry, socket: &ListenSocket, leaving: &Leaving<'_>, two: bool) -> Bytes {
    let mut out = Line::new();
    start(entry, &mut out);
    let own = (None, None);
    // What the script advertises is meant for the side the request goes to.
    let advertised = if socket.id == leaving.to { leaving.advertised } else { &own };
    push_host_port(socket, advertised, &mut out);
    if !matches!(socket.proto, Proto::Udp) {
        out.extend_from_slice(b";transport=");
        out.extend_from_slice(socket.proto.name().as_bytes());
    }
    finish(entry, two, &mut out);
    Bytes::copy_from_slice(&out)
}

fn preset_line(entry: &Entry, preset: &[u8], two: bool) -> Bytes {
    let mut out = Line::new();
    start(entry, &mut out);
    out.extend_from_slice(preset);
    finish(entry, two, &mut out);
    Bytes::copy_from_slice(&out)
}

fn start(entry: &Entry, out: &mut Line) {
    out.extend_from_slice(b"Record-Route: <sip:");
    if !entry.user.is_empty() {
        out.extend_from_slice(&entry.user);
        out.push(b'@');
    }
}

fn finish(entry: &Entry, two: bool, out: &mut Line) {
    out.extend_from_slice(if two { b";r2=on;lr" } else { b";lr" });
    out.extend_from_slice(&entry.params);
    out.extend_from_slice(b">\r\n");
}
