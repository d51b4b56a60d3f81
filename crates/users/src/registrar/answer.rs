//! The answers to a REGISTER (RFC 3261 §10.3 step 8): the bindings there are, or why it is refused.

use switchroom_calls::signaling;
use switchroom_calls::sl::Refused;
use switchroom_kernel::context::Ctx;
use switchroom_wire::sip::HeaderId;

use super::Registrar;
use super::flags::{PathMode, SaveFlags};
use super::gruu::Gruu;
use super::save::supports;
use crate::usrloc::contact::{Contact, Field};

/// Why a REGISTER is refused: code, what is wrong with it, further headers.
pub(super) struct Refusal(pub u16, pub &'static str, pub Vec<u8>);

impl Refusal {
    /// Without further headers.
    pub fn new(code: u16, why: &'static str) -> Refusal {
        Refusal(code, why, Vec::new())
    }

    /// The usual phrase of the code.
    fn reason(&self) -> &'static str {
        match self.0 {
            400 => "Bad Request",
            420 => "Bad Extension",
            503 => "Service Unavailable",
            555 => "Push Notification Service Not Supported",
            _ => "Server Internal Error",
        }
    }
}

/// What else a Contact line of an answer shows.
pub(super) struct Shown<'a> {
    /// Name of the parameter with the address the phone was seen at.
    pub received_param: &'a str,
    /// `user@domain`.
    pub aor: &'a [u8],
    /// Set when the phone understands GRUUs.
    pub gruu: Option<&'a Gruu>,
}

/// `Contact: <uri>;q=0.5;expires=60;received="sip:..."`, all bindings in one line; empty without any.
pub(super) fn print_contacts(contacts: &[Contact], now: u64, shown: &Shown<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(contacts.len() * 128);
    for c in contacts.iter().filter(|c| c.is_live(now)) {
        out.extend_from_slice(if out.is_empty() { b"Contact: <" } else { b", <" });
        out.extend_from_slice(c.uri());
        out.push(b'>');
        if c.q > 0 {
            out.extend_from_slice(b";q=");
            out.extend_from_slice(switchroom_calls::core::branches::print_q(i32::from(c.q)).as_bytes());
        }
        out.extend_from_slice(b";expires=");
        let left = if c.expires == 0 { 0 } else { c.expires - now };
        out.extend_from_slice(itoa::Buffer::new().format(left).as_bytes());
        let received = c.text(Field::Received);
        if !received.is_empty() {
            out.push(b';');
            out.extend_from_slice(shown.received_param.as_bytes());
            out.extend_from_slice(b"=\"");
            out.extend_from_slice(received);
            out.push(b'"');
        }
        let instance = c.text(Field::Instance);
        if !instance.is_empty() {
            out.extend_from_slice(b";+sip.instance=");
            if instance.first() == Some(&b'"') {
                out.extend_from_slice(instance);
            } else {
                out.push(b'"');
                out.extend_from_slice(instance);
                out.push(b'"');
            }
            if let Some(gruu) = shown.gruu {
                gruu.print(shown.aor, c, &mut out);
            }
        }
    }
    if !out.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The 200, with these Contact lines.
pub(super) fn accept(ctx: &mut Ctx, flags: &SaveFlags, contacts: &[u8]) {
    let shard = ctx.shard.clone();
    shard.count(shard.kernel.state::<Registrar>().accepted, 1);
    if flags.no_reply {
        return;
    }
    let mut headers = contacts.to_vec();
    if let Some(request) = ctx.request()
        && matches!(flags.path, PathMode::Lazy | PathMode::Strict)
        && supports(request, b"path")
    {
        for h in request.headers_of(HeaderId::Path) {
            headers.extend_from_slice(h.line);
        }
    }
    signaling::reply(ctx, 200, b"OK", &headers, None);
}

/// The refusal.
pub(super) fn refuse(ctx: &mut Ctx, flags: &SaveFlags, refusal: &Refusal) {
    if flags.no_reply {
        return;
    }
    let mut headers = refusal.2.clone();
    headers.extend_from_slice(b"P-Registrar-Error: ");
    headers.extend_from_slice(refusal.1.as_bytes());
    headers.extend_from_slice(b"\r\n");
    let retry_after = ctx.shard.kernel.state::<Registrar>().retry_after;
    if retry_after > 0 && refusal.0 >= 500 {
        headers.extend_from_slice(b"Retry-After: ");
        headers.extend_from_slice(itoa::Buffer::new().format(retry_after).as_bytes());
        headers.extend_from_slice(b"\r\n");
    }
    if signaling::reply(ctx, refusal.0, refusal.reason().as_bytes(), &headers, None) {
        ctx.note_mut::<Refused>().0 = true;
    }
}
