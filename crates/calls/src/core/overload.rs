//! More comes than can be done (RFC 3261 §21.5.4): new work is refused while that is still cheap.
//!
//! What a flood consists of is read only as far as its refusal needs, without the script and without a transaction. Everything that
//! is out of the ordinary (folded headers, an old-style Via, a header that is there twice) is left to the usual way, which refuses
//! it as well. What belongs to calls in progress, and retransmissions of what was let in, goes the usual way at all times.

use std::rc::Rc;

use smallvec::SmallVec;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::ports::net::{Outgoing, Packet, Proto};
use switchroom_kernel::shard::Shard;
use switchroom_script::Value;
use switchroom_wire::sip::reply::push_top_via;
use switchroom_wire::sip::{Message, Method, NameAddr, Rport, Via, scan};

use super::send;
use super::state::Core;

/// Raised when an episode begins and when it ends.
pub(super) const EVENT: &str = "E_CORE_OVERLOAD";

/// An episode of overload begins or ends on this worker: told once, not for each request.
pub(super) fn turned(shard: &Rc<Shard>, begins: bool) {
    let core = shard.kernel.state::<Core>();
    match (begins, core.overload_control) {
        (true, true) => tracing::warn!(
            "worker {} gets more than it can do: new requests are refused with 503 until it has caught up",
            shard.worker
        ),
        (true, false) => tracing::warn!(
            "worker {} gets more than it can do; nothing is refused, as overload_control is off",
            shard.worker
        ),
        (false, _) => tracing::warn!("worker {} can do again what it gets", shard.worker),
    }
    if begins {
        shard.count(core.stats.overload_episodes, 1);
    }
    if let Some(event) = shard.kernel.events.find(EVENT) {
        let state = if begins { "begin" } else { "end" };
        let values = vec![Value::Int(shard.worker as i64), Value::Str(state.into())];
        shard.kernel.events.raise(event, values, Some(shard.worker));
    }
}

/// Whether new work is refused now.
pub(super) fn refusing(shard: &Shard) -> bool {
    shard.net.overloaded() && shard.kernel.state::<Core>().overload_control
}

/// Answers or drops a packet when that needs no more than a glance. False leaves it to the usual way.
pub(super) fn take(shard: &Rc<Shard>, packet: &Packet) -> bool {
    // Who follows calls wants to see what was refused.
    if shard.kernel.trace.on() {
        return false;
    }
    let Some(glance) = Glance::of(&packet.data) else { return false };
    let core = shard.kernel.state::<Core>();
    let Some(tag) = glance.tag(core) else { return false };
    if glance.method == b"ACK" {
        // To a refusal of ours: the tag says so.
        let ours = NameAddr::parse(glance.to).is_ok_and(|to| to.tag() == Some(&tag[..]));
        if ours {
            shard.count(core.stats.rcv_requests, 1);
        }
        return ours;
    }
    let goes_on = matches!(glance.method, b"CANCEL" | b"BYE" | b"PRACK");
    if goes_on || memchr::memmem::find(glance.to, b"tag").is_some() {
        return false;
    }
    let Ok(via) = Via::parse(glance.via) else { return false };
    let special = !via.has_magic_cookie() || via.params().value("maddr").is_some();
    if special || shard.kernel.hooks.known.iter().any(|known| known(shard, glance.method, &via)) {
        return false;
    }
    let Some(socket) = shard.kernel.socket(packet.socket) else { return false };
    let peer = match (socket.proto, via.rport) {
        (Proto::Udp, Rport::Absent) => (packet.peer.ip(), via.port.unwrap_or(5060)).into(),
        _ => packet.peer,
    };
    shard.count(core.stats.rcv_requests, 1);
    shard.count(core.stats.overload_refused, 1);
    let mut data = Vec::with_capacity(640);
    glance.refuse(&via, packet, &tag, retry_after(core, glance.call_id), &core.server_header, &mut data);
    let (socket, conn) = (packet.socket, packet.conn);
    shard.net.send(Outgoing { data: data.into(), socket, peer, conn, no_new_conn: false, token: 0 });
    true
}

/// A request that begins something: those of calls in progress have a To tag, and a CANCEL or ACK belongs to a request that was
/// let in.
pub(super) fn is_new_work(msg: &Message) -> bool {
    let begins = !matches!(msg.method(), Method::Ack | Method::Cancel | Method::Bye | Method::Prack);
    begins && msg.to().is_ok_and(|to| to.tag().is_none())
}

/// Refuses a request that was read as usual.
pub(super) fn refuse(ctx: &mut Ctx) {
    let shard = ctx.shard.clone();
    let core = shard.kernel.state::<Core>();
    shard.count(core.stats.overload_refused, 1);
    let header = retry_after(core, ctx.msg.call_id());
    send::reply(ctx, 503, b"Service Unavailable", None, header, None);
}

/// Spreads those who come again.
fn retry_after(core: &Core, call_id: &[u8]) -> &'static [u8] {
    match core.digest(&[call_id]) % 4 {
        0 => b"Retry-After: 2\r\n",
        1 => b"Retry-After: 3\r\n",
        2 => b"Retry-After: 4\r\n",
        _ => b"Retry-After: 5\r\n",
    }
}

/// What a refusal needs of a request. Lines are without their ends, values without white space around them.
struct Glance<'a> {
    method: &'a [u8],
    /// The topmost Via, which stands alone in its line.
    via: &'a [u8],
    /// The lines of the Vias below.
    below: SmallVec<[&'a [u8]; 4]>,
    from: &'a [u8],
    to: &'a [u8],
    call_id: &'a [u8],
    cseq: &'a [u8],
}

impl<'a> Glance<'a> {
    /// Reads the headers of a plain request; `None` for replies and for all that is not plain.
    fn of(raw: &'a [u8]) -> Option<Glance<'a>> {
        let first = &raw[..memchr::memchr(b'\n', raw)?];
        let method = &first[..memchr::memchr(b' ', first)?];
        if !method.iter().all(u8::is_ascii_uppercase) || !scan::trim_end(first).ends_with(b" SIP/2.0") {
            return None;
        }
        let (mut via, mut below) = (None, SmallVec::new());
        let [mut from, mut to, mut call_id, mut cseq] = [None; 4];
        let mut rest = &raw[first.len() + 1..];
        loop {
            let line = &rest[..memchr::memchr(b'\n', rest)?];
            rest = &rest[line.len() + 1..];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let slot = match line.first() {
                None => break,
                Some(b' ' | b'\t') => return None,
                Some(b'v' | b'V') => &mut via,
                Some(b'f' | b'F') => &mut from,
                Some(b't' | b'T') => &mut to,
                Some(b'i' | b'I') => &mut call_id,
                Some(b'c' | b'C') if line.get(1).is_some_and(|b| matches!(b, b'a' | b'A')) => &mut call_id,
                Some(b'c' | b'C') => &mut cseq,
                Some(_) => continue,
            };
            let colon = memchr::memchr(b':', line)?;
            let name = scan::trim_end(&line[..colon]);
            const NAMES: [&[u8]; 9] = [b"via", b"v", b"from", b"f", b"to", b"t", b"call-id", b"i", b"cseq"];
            if !NAMES.iter().any(|n| n.eq_ignore_ascii_case(name)) {
                continue;
            }
            let value = scan::trim(&line[colon + 1..]);
            if value.is_empty() || memchr::memchr(b'\r', value).is_some() {
                return None;
            }
            match slot {
                None => *slot = Some(value),
                Some(_) if matches!(name, [b'v' | b'V', ..]) => below.push(line),
                Some(_) => return None,
            }
        }
        let via = via.filter(|v| memchr::memchr2(b',', b'(', v).is_none())?;
        Some(Glance { method, via, below, from: from?, to: to?, call_id: call_id?, cseq: cseq? })
    }

    /// The To tag of a stateless reply to it.
    fn tag(&self, core: &Core) -> Option<Vec<u8>> {
        let from = NameAddr::parse(self.from).ok()?;
        let mut parts = self.cseq.split(|b| matches!(b, b' ' | b'\t'));
        let number = scan::number(parts.next()?)?;
        let method = parts.rfind(|p| !p.is_empty())?;
        (method == self.method)
            .then(|| send::tag_of(core, self.call_id, from.tag().unwrap_or_default(), number))
    }

    fn refuse(
        &self,
        via: &Via<'_>,
        packet: &Packet,
        tag: &[u8],
        retry_after: &[u8],
        server: &[u8],
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"SIP/2.0 503 Service Unavailable\r\n");
        push_top_via(via, packet.peer.ip(), packet.peer.port(), false, out);
        out.extend_from_slice(b"\r\n");
        for line in &self.below {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
        let headers: [(&[u8], &[u8]); 4] = [
            (b"From: ", self.from),
            (b"To: ", self.to),
            (b"Call-ID: ", self.call_id),
            (b"CSeq: ", self.cseq),
        ];
        for (name, value) in headers {
            out.extend_from_slice(name);
            out.extend_from_slice(value);
            if name == b"To: " {
                out.extend_from_slice(b";tag=");
                out.extend_from_slice(tag);
            }
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(retry_after);
        out.extend_from_slice(server);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP a:5060;branch=z9hG4bK1\r\nv: SIP/2.0/UDP c;branch=z9hG4bK2\r\n\
        Max-Forwards: 70\r\nContact: <sip:a@a>\r\nf: <sip:a@a>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
        Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nto:";

    #[test]
    fn a_plain_request_is_read_with_long_and_compact_names() {
        let g = Glance::of(INVITE.as_bytes()).expect("a plain request");
        assert_eq!(g.method, b"INVITE");
        assert_eq!(g.via, b"SIP/2.0/UDP a:5060;branch=z9hG4bK1");
        assert_eq!(g.below[..], [&b"v: SIP/2.0/UDP c;branch=z9hG4bK2"[..]]);
        assert_eq!((g.from, g.to), (&b"<sip:a@a>;tag=1"[..], &b"<sip:bob@b>"[..]));
        assert_eq!((g.call_id, g.cseq), (&b"x"[..], &b"1 INVITE"[..]));
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_usual_way() {
        assert!(Glance::of(INVITE.as_bytes()).is_some());
        for (part, other) in [
            ("INVITE sip", "SIP/2.0 200 OK sip"),
            ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"),
            ("a:5060;branch=z9hG4bK1", "a:5060;branch=z9hG4bK1, SIP/2.0/UDP d"),
            ("To: <sip:bob@b>", "To:\r\n <sip:bob@b>"),
            ("To: <sip:bob@b>", "To: <sip:bob@b>\r\nt: <sip:c@b>"),
            ("To: <sip:bob@b>\r\n", ""),
            ("Call-ID: x\r\n", "Call-ID: \r\n"),
            ("Call-ID: x\r\n", "Call-ID: x\ry\r\n"),
            ("\r\n\r\nto:", ""),
        ] {
            let text = INVITE.replacen(part, other, 1);
            assert_ne!(text, INVITE, "{part}");
            assert!(Glance::of(text.as_bytes()).is_none(), "{text}");
        }
    }
}
