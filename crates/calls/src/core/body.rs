//! The body of a message as the script has changed it so far, so that one change sees the one before.
//!
//! Left out: nested multiparts; they are handled as one part.

use std::ops::Range;

use bytes::Bytes;
use switchroom_kernel::context::Ctx;
use switchroom_wire::sip::{Parts, is_media_type};

/// A body with its Content-Type; both empty when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Content-Type with parameters.
    pub kind: Bytes,
    /// The content.
    pub bytes: Bytes,
}

/// The body as it would leave now.
pub fn current(ctx: &Ctx) -> Body {
    let received = || ctx.msg.content_type().map(|t| ctx.msg.slice(t)).unwrap_or_default();
    match ctx.edits.body() {
        Some((_, bytes)) if bytes.is_empty() => Body::default(),
        Some((kind, bytes)) => Body { kind: kind.cloned().unwrap_or_else(received), bytes: bytes.clone() },
        None if ctx.msg.body().is_empty() => Body::default(),
        None => Body { kind: received(), bytes: ctx.msg.slice(ctx.msg.body()) },
    }
}

/// Set the body; without `kind` the Content-Type stays.
pub fn set(ctx: &mut Ctx, kind: Option<Bytes>, bytes: Bytes) {
    let kind = kind.or_else(|| ctx.edits.body().and_then(|(kind, _)| kind.cloned()));
    ctx.edits.set_body(kind, bytes);
}

/// Take the body and its Content-Type away.
pub fn remove(ctx: &mut Ctx) {
    let msg = ctx.msg.clone();
    ctx.edits.remove_body(&msg);
}

impl Body {
    /// Its parts: one for a plain body.
    pub fn parts(&self) -> Parts<'_> {
        Parts::of(if self.kind.is_empty() { b"application/sdp" } else { &self.kind }, &self.bytes)
    }

    /// Whether it consists of parts.
    pub fn is_multipart(&self) -> bool {
        is_media_type(&self.kind, "multipart/*")
    }

    /// Where a part of the body lies.
    pub fn range(&self, part: &[u8]) -> Option<Range<usize>> {
        let start = (part.as_ptr() as usize).checked_sub(self.bytes.as_ptr() as usize)?;
        (start <= self.bytes.len() && part.len() <= self.bytes.len() - start)
            .then(|| start..start + part.len())
    }

    /// The first part of this type.
    pub fn find(&self, kind: &str) -> Option<Range<usize>> {
        self.parts().find(|p| p.is(kind)).and_then(|p| self.range(p.body))
    }

    /// The content with `range` replaced.
    pub fn spliced(&self, range: Range<usize>, new: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes.len() + new.len());
        out.extend_from_slice(&self.bytes[..range.start]);
        out.extend_from_slice(new);
        out.extend_from_slice(&self.bytes[range.end..]);
        out.into()
    }
}

/// The session description of the message as it is now.
pub fn sdp(ctx: &Ctx) -> Option<Bytes> {
    let body = current(ctx);
    let range = body.find("application/sdp")?;
    Some(body.bytes.slice(range))
}

/// Put a changed session description in the place of the first one; without one it becomes the body.
pub fn set_sdp(ctx: &mut Ctx, new: &[u8]) {
    let body = current(ctx);
    match body.find("application/sdp") {
        Some(range) => {
            let bytes = body.spliced(range, new);
            set(ctx, None, bytes);
        }
        None => set(ctx, Some(Bytes::from_static(b"application/sdp")), Bytes::copy_from_slice(new)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_multipart_is_found_and_replaced_in_place() {
        let body = Body {
            kind: Bytes::from_static(b"multipart/mixed; boundary=x"),
            bytes: Bytes::from_static(
                b"--x\r\nContent-Type: text/plain\r\n\r\nhi\r\n--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--x--\r\n",
            ),
        };
        let range = body.find("application/sdp").unwrap();
        assert_eq!(&body.bytes[range.clone()], b"v=0");
        assert!(body.spliced(range, b"v=1").ends_with(b"\r\n\r\nv=1\r\n--x--\r\n"));
        assert!(body.is_multipart());
    }
}
