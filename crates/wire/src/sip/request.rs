//! Requests made here: CANCEL and ACK for a request that was sent (RFC 3261 §9.1, §17.1.1.3), and local requests.

use super::header::HeaderId;
use super::message::Message;
use super::reply::{push_all, push_header, push_line, push_number};
use super::scan;

/// Appends the CANCEL for `invite`, the request as it was sent: its request URI, topmost Via, From, To, Call-ID, CSeq
/// number and Route. `headers` are more header lines (Reason).
pub fn cancel_for(invite: &Message, headers: &[u8], out: &mut Vec<u8>) {
    let to = invite.header(HeaderId::To).map_or(&[][..], |h| h.line);
    follow_up(invite, b"CANCEL", to, headers, out);
}

/// Appends the ACK for a final reply other than 2xx to `invite`, the request as it was sent. To is that of the reply.
pub fn ack_for(invite: &Message, reply: &Message, out: &mut Vec<u8>) {
    let to = reply.header(HeaderId::To).or_else(|| invite.header(HeaderId::To)).map_or(&[][..], |h| h.line);
    follow_up(invite, b"ACK", to, &[], out);
}

fn follow_up(invite: &Message, method: &[u8], to: &[u8], headers: &[u8], out: &mut Vec<u8>) {
    out.reserve(512);
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(invite.ruri_bytes());
    out.extend_from_slice(b" SIP/2.0\r\n");
    if let Some(h) = invite.header(HeaderId::Via)
        && let Some(top) = scan::commas(h.value).next()
    {
        push_header(b"Via", top, out);
    }
    push_all(invite, HeaderId::Route, out);
    push_all(invite, HeaderId::From, out);
    push_line(to, out);
    push_all(invite, HeaderId::CallId, out);
    out.extend_from_slice(b"CSeq: ");
    push_number(invite.cseq().map_or(0, |c| c.0), out);
    out.push(b' ');
    out.extend_from_slice(method);
    out.extend_from_slice(b"\r\nMax-Forwards: 70\r\n");
    out.extend_from_slice(headers);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// A request that starts here. All values are header values without names and line ends.
#[derive(Clone, Copy, Debug)]
pub struct Builder<'a> {
    /// Method name.
    pub method: &'a [u8],
    /// Request URI.
    pub ruri: &'a [u8],
    /// Topmost Via; `None` when the sender adds it later.
    pub via: Option<&'a [u8]>,
    /// From, with tag.
    pub from: &'a [u8],
    /// To, with tag inside a dialog.
    pub to: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// CSeq number.
    pub cseq: u32,
    /// Max-Forwards, usually 70.
    pub max_forwards: u32,
    /// More headers, whole lines with line ends.
    pub headers: &'a [u8],
    /// Content-Type and body.
    pub body: Option<(&'a [u8], &'a [u8])>,
}

impl Builder<'_> {
    /// Appends the request to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(512 + self.headers.len() + self.body.map_or(0, |b| b.1.len()));
        out.extend_from_slice(self.method);
        out.push(b' ');
        out.extend_from_slice(self.ruri);
        out.extend_from_slice(b" SIP/2.0\r\n");
        if let Some(via) = self.via {
            push_header(b"Via", via, out);
        }
        push_header(b"From", self.from, out);
        push_header(b"To", self.to, out);
        push_header(b"Call-ID", self.call_id, out);
        out.extend_from_slice(b"CSeq: ");
        push_number(self.cseq, out);
        out.push(b' ');
        out.extend_from_slice(self.method);
        out.extend_from_slice(b"\r\nMax-Forwards: ");
        push_number(self.max_forwards, out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.headers);
        let body = match self.body {
            Some((content_type, body)) => {
                push_header(b"Content-Type", content_type, out);
                body
            }
            None => &[],
        };
        out.extend_from_slice(b"Content-Length: ");
        push_number(body.len() as u32, out);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    }
}
