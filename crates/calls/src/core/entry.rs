//! Where every received message enters the house, and the story of what happens to it.
//!
//! A request: parsed, offered to the modules' request hooks (retransmissions and hop-by-hop ACKs end there), then the
//! script's `route{}`. A reply: parsed, the unnamed `onreply_route`, then the reply hooks (a transaction takes its own),
//! else on to the second Via without state (RFC 3261 §16.11). A broken message: `error_route`, else a 400 or silence
//! (RFC 3261 §8.2, §18.3).

use std::rc::Rc;

use switchroom_kernel::context::{Ctx, ErrorInfo, Received};
use switchroom_kernel::module::Hooked;
use switchroom_kernel::ports::net::Packet;
use switchroom_kernel::run::{ABORTED, run_route};
use switchroom_kernel::shard::Shard;
use switchroom_script::names::RouteType;
use switchroom_script::vm::Outcome;
use switchroom_wire::sip::{Message, Method, ParseError};

use super::alias;
use super::overload;
use super::send;
use super::state::Core;

/// A worker hands in one received message.
pub fn packet(shard: &Rc<Shard>, packet: Packet) {
    if overload::refusing(shard) && overload::take(shard, &packet) {
        return;
    }
    let received = Received { socket: packet.socket, peer: packet.peer, conn: packet.conn };
    let core = shard.kernel.state::<Core>();
    // A request is read as strictly as RFC 3261 §16.3 asks before any script sees it; replies are passed on as they come.
    match Message::shared(packet.data) {
        Ok(msg) if msg.is_request() => {
            shard.count(core.stats.rcv_requests, 1);
            if msg.method() == Method::Other {
                shard.count(core.stats.unsupported_methods, 1);
            }
            note(shard, &msg, &received);
            request(shard, msg, received);
        }
        Ok(msg) => {
            shard.count(core.stats.rcv_replies, 1);
            note(shard, &msg, &received);
            reply(shard, msg, received);
        }
        Err(ParseError::Reject { code, reason, fault, message }) => {
            shard.count(core.stats.bad_msg_hdr, 1);
            tracing::debug!("refused a message from {}: {fault}", received.peer);
            refuse(shard, *message, received, code, reason);
        }
        Err(ParseError::Drop(fault)) => {
            shard.count(core.stats.err_requests, 1);
            tracing::debug!("dropped a message from {}: {fault}", received.peer);
        }
        Err(ParseError::Close(fault)) => {
            shard.count(core.stats.err_requests, 1);
            tracing::debug!("closing the connection from {}: {fault}", received.peer);
            if let Some(conn) = received.conn {
                shard.net.close(conn);
            }
        }
    }
}

/// A line of the call's story.
fn note(shard: &Shard, msg: &Message, received: &Received) {
    shard.kernel.note_call(Some(shard.worker), msg.call_id(), "received", || {
        let line = msg.raw().split(|b| *b == b'\r').next().unwrap_or_default();
        format!("{} from {}", String::from_utf8_lossy(line), received.peer)
    });
}

fn request(shard: &Rc<Shard>, msg: Rc<Message>, received: Received) {
    let mut ctx = Ctx::new(shard.clone(), msg, received, RouteType::Request);
    send::stamp_received(&mut ctx);
    alias::accept(&ctx);
    for hook in &shard.kernel.hooks.request {
        if hook(&mut ctx) == Hooked::Consumed {
            return;
        }
    }
    if overload::refusing(shard) && overload::is_new_work(&ctx.msg) {
        return overload::refuse(&mut ctx);
    }
    match shard.kernel.hooks.route {
        Some(instead) => instead(ctx),
        None => request_route(ctx),
    }
}

/// Run the request route of the script in force. For the module that has [`Hook::Route`].
///
/// [`Hook::Route`]: switchroom_kernel::module::Hook::Route
pub fn request_route(ctx: Box<Ctx>) {
    let program = ctx.shard.kernel.program.load_full();
    match program.find(RouteType::Request, None) {
        Some(route) => run_route(ctx, &program, route, request_done),
        None => request_done(ctx, ABORTED),
    }
}

/// The processing of a request has ended. For the module that has [`Hook::Route`].
///
/// [`Hook::Route`]: switchroom_kernel::module::Hook::Route
pub fn request_done(mut ctx: Box<Ctx>, _outcome: Outcome) {
    let shard = ctx.shard.clone();
    for hook in &shard.kernel.hooks.script_end {
        hook(&mut ctx);
    }
}

fn reply(shard: &Rc<Shard>, msg: Rc<Message>, received: Received) {
    let core = shard.kernel.state::<Core>();
    if core.check_via && !names_us(shard, &msg) {
        // A reply that does not name us on top was never for us (RFC 3261 §18.1.2).
        shard.count(core.stats.drop_replies, 1);
        return;
    }
    for hook in &shard.kernel.hooks.answer {
        if hook(shard, &msg, &received) == Hooked::Consumed {
            return;
        }
    }
    let ctx = Ctx::new(shard.clone(), msg, received, RouteType::Onreply);
    let program = shard.kernel.program.load_full();
    match program.find(RouteType::Onreply, None) {
        Some(route) => run_route(ctx, &program, route, reply_routed),
        None => deliver_reply(ctx),
    }
}

fn names_us(shard: &Shard, reply: &Message) -> bool {
    reply.via().is_ok_and(|v| send::is_own_via(shard, &v))
}

fn reply_routed(ctx: Box<Ctx>, _: Outcome) {
    if ctx.msg.status() < 200 && ctx.dropped {
        let core = ctx.shard.kernel.state::<Core>();
        ctx.shard.count(core.stats.drop_replies, 1);
        return;
    }
    deliver_reply(ctx);
}

/// To the transaction it belongs to, else on to the second Via.
fn deliver_reply(mut ctx: Box<Ctx>) {
    let shard = ctx.shard.clone();
    for hook in &shard.kernel.hooks.reply {
        match hook(ctx) {
            Some(back) => ctx = back,
            None => return,
        }
    }
    let core = shard.kernel.state::<Core>();
    // Without a transaction only a name of ours, or a script that forwards under any name, says that it was for us.
    if core.drops_strays || !(core.forwards || names_us(&shard, &ctx.msg)) {
        shard.count(core.stats.drop_replies, 1);
        return;
    }
    let sent = send::reply_by_via(&mut ctx, 0);
    shard.count(if sent { core.stats.fwd_replies } else { core.stats.err_replies }, 1);
}

fn refuse(shard: &Rc<Shard>, msg: Message, received: Received, code: u16, reason: &'static str) {
    let answerable = msg.is_request() && msg.method() != Method::Ack;
    let program = shard.kernel.program.load_full();
    let mut ctx = Ctx::new(shard.clone(), Rc::new(msg), received, RouteType::Error);
    send::stamp_received(&mut ctx);
    ctx.error = ErrorInfo { class: 1, level: 3, info: reason.to_owned(), code, reason: reason.to_owned() };
    match program.find(RouteType::Error, None) {
        Some(route) => run_route(ctx, &program, route, |_, _| {}),
        None if answerable => {
            send::reply(&mut ctx, code, reason.as_bytes(), None, &[], None);
        }
        None => {}
    }
}
