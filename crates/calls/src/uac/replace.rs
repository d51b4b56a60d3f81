//! Other addresses in From and To, and their restoration in replies and in later requests of the dialog.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_wire::sip::{Edits, Message, NameAddr, Uri};

use super::{Mode, Uac};
use crate::rr;
use crate::tm::api::ReplyEdits;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    From,
    To,
}

impl Side {
    fn of(self, msg: &Message) -> Option<NameAddr<'_>> {
        match self {
            Side::From => msg.from().ok(),
            Side::To => msg.to().ok(),
        }
    }

    fn param(self, uac: &Uac) -> &str {
        match self {
            Side::From => &uac.from_param,
            Side::To => &uac.to_param,
        }
    }

    fn other(self) -> Side {
        if self == Side::From { Side::To } else { Side::From }
    }
}

/// `uac_replace_from([display, ]uri)`
pub(super) fn replace_from(c: &mut Call<'_>) -> Flow {
    replace(c, Side::From)
}

/// `uac_replace_to([display, ]uri)`
pub(super) fn replace_to(c: &mut Call<'_>) -> Flow {
    replace(c, Side::To)
}

/// `uac_restore_from()`
pub(super) fn restore_from(c: &mut Call<'_>) -> Flow {
    if restore(c.ctx, Side::From) { TRUE } else { FALSE }
}

/// `uac_restore_to()`
pub(super) fn restore_to(c: &mut Call<'_>) -> Flow {
    if restore(c.ctx, Side::To) { TRUE } else { FALSE }
}

/// An in-dialog request was routed by its Route headers.
pub(super) fn routed(ctx: &mut Ctx) {
    let shard = ctx.shard.clone();
    if shard.kernel.state::<Uac>().mode == Mode::Auto {
        restore(ctx, Side::From);
        restore(ctx, Side::To);
    }
}

fn replace(c: &mut Call<'_>, side: Side) -> Flow {
    let (display, uri) = match c.args.len() {
        1 => (None, c.str(0).cloned()),
        _ => (c.str(0).cloned(), c.str(1).cloned()),
    };
    let uri = uri.filter(|u| !u.is_empty());
    if let Some(uri) = &uri
        && Uri::parse(uri).is_err()
    {
        tracing::error!("uac_replace: \"{}\" is no URI", String::from_utf8_lossy(uri));
        return FALSE;
    }
    let ctx = &mut *c.ctx;
    let shard = ctx.shard.clone();
    let uac = shard.kernel.state::<Uac>();
    let msg = ctx.msg.clone();
    let Some(old) = side.of(&msg) else { return FALSE };
    let display = display.map_or_else(|| msg.slice(old.display), |given| quoted(&given));
    write(ctx, &old, &display, uri.as_deref().unwrap_or(old.uri));
    if uac.mode == Mode::None {
        return TRUE;
    }
    restore_replies(ctx);
    let first = msg.to().is_ok_and(|t| t.tag().is_none());
    if let Some(new) = uri.filter(|_| first) {
        let kept = URL_SAFE_NO_PAD.encode([old.uri, b" ", &new].concat());
        rr::add_param(ctx, format!(";{}={kept}", side.param(uac)).as_bytes());
    }
    TRUE
}

/// Change a request of the dialog as its first one was changed: towards the callee the new address, towards the caller the
/// one it knows.
fn restore(ctx: &mut Ctx, side: Side) -> bool {
    let shard = ctx.shard.clone();
    let uac = shard.kernel.state::<Uac>();
    let Some((own, new)) = rr::route_param(ctx, side.param(uac)).and_then(|v| kept(&v)) else { return false };
    let downstream = rr::is_downstream(ctx).unwrap_or(true);
    let (here, uri) = if downstream { (side, new) } else { (side.other(), own) };
    let msg = ctx.msg.clone();
    let Some(old) = here.of(&msg) else { return false };
    write(ctx, &old, old.display, &uri);
    restore_replies(ctx);
    true
}

/// Original and new URI out of the parameter of the Route.
fn kept(value: &[u8]) -> Option<(Bytes, Bytes)> {
    let text = Bytes::from(URL_SAFE_NO_PAD.decode(value).ok()?);
    let space = text.iter().position(|b| *b == b' ')?;
    let (own, new) = (text.slice(..space), text.slice(space + 1..));
    (Uri::parse(&own).is_ok() && Uri::parse(&new).is_ok()).then_some((own, new))
}

fn write(ctx: &mut Ctx, old: &NameAddr<'_>, display: &[u8], uri: &[u8]) {
    let msg = ctx.msg.clone();
    ctx.edits.replace_part(&msg, old.raw, value(display, uri, old.params().raw()));
}

/// A display name of the script in quotes, unless it has them.
fn quoted(display: &[u8]) -> Bytes {
    let breaks = |b: &u8| matches!(b, b'\r' | b'\n');
    let has_quotes = display.len() >= 2 && display.starts_with(b"\"") && display.ends_with(b"\"");
    if display.is_empty() || has_quotes && !display.iter().any(breaks) {
        return Bytes::copy_from_slice(display);
    }
    let mut out = Vec::with_capacity(display.len() + 2);
    out.push(b'"');
    for b in display.iter().filter(|b| !breaks(b)) {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
    out.into()
}

/// `display <uri>;params`
fn value(display: &[u8], uri: &[u8], params: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(display.len() + uri.len() + params.len() + 6);
    out.extend_from_slice(display);
    if !out.is_empty() {
        out.push(b' ');
    }
    out.push(b'<');
    out.extend_from_slice(uri);
    out.push(b'>');
    out.extend_from_slice(params);
    out.into()
}

/// Replies carry From and To as their request came here (RFC 3261 §8.2.6.2); only the tag of To is theirs.
fn restore_replies(ctx: &mut Ctx) {
    let request = ctx.msg.clone();
    let restore = Rc::new(move |reply: &Message, edits: &mut Edits| {
        for side in [Side::From, Side::To] {
            let (Some(own), Some(now)) = (side.of(&request), side.of(reply)) else { continue };
            edits.replace_part(reply, now.raw, value(own.display, own.uri, now.params().raw()));
        }
    });
    *ctx.note_mut::<ReplyEdits>() = ReplyEdits(Some(restore));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_name_gets_quotes_unless_it_has_them() {
        assert_eq!(&quoted(b"")[..], b"");
        assert_eq!(&quoted(b"Bob Best")[..], b"\"Bob Best\"");
        assert_eq!(&quoted(b"\"x\"")[..], b"\"x\"");
        assert_eq!(&quoted(b"a, \"b")[..], b"\"a, \\\"b\"");
        assert_eq!(&quoted(b"\"a\r\nX: b\"")[..], b"\"\\\"aX: b\\\"\"");
        assert_eq!(&value(b"", b"sip:a", b";tag=1")[..], b"<sip:a>;tag=1");
        assert_eq!(&value(b"\"x\"", b"sip:a", b"")[..], b"\"x\" <sip:a>");
    }

    #[test]
    fn what_a_peer_changed_in_the_route_is_not_taken() {
        let good = URL_SAFE_NO_PAD.encode("sip:a@b sip:c@d");
        assert_eq!(kept(good.as_bytes()).unwrap().1, "sip:c@d");
        for bad in ["", "!!", &URL_SAFE_NO_PAD.encode("sip:a"), &URL_SAFE_NO_PAD.encode("sip:a x> y")] {
            assert!(kept(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
