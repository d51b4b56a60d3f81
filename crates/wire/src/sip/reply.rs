//! Replies to a request (RFC 3261 §8.2.6, §12.1.1).
//!
//! Works on requests with faults too: what is missing or unreadable is left out or taken as it is.

use super::edits::write_received;
use super::header::HeaderId;
use super::message::Message;
use super::method::Method;
use super::scan;
use super::via::Via;
use std::net::IpAddr;

/// What a reply is to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reply<'a> {
    /// Status code, 100 to 699.
    pub code: u16,
    /// Reason phrase; [`phrase`] knows the usual ones.
    pub reason: &'a [u8],
    /// Tag for a To that has none; not used in a 100.
    pub to_tag: Option<&'a [u8]>,
    /// Source address of the request, written into the topmost Via as RFC 3261 §18.2.1 and RFC 3581 ask. `None` when the
    /// request was stamped already.
    pub source: Option<(IpAddr, u16)>,
    /// Fill in `rport` although the sender did not ask.
    pub force_rport: bool,
    /// More headers, whole lines with line ends.
    pub headers: &'a [u8],
    /// Content-Type and body.
    pub body: Option<(&'a [u8], &'a [u8])>,
}

/// Appends a reply to `request` to `out`: its Via, From, To (with tag), Call-ID and CSeq, Timestamp in a 100,
/// Record-Route where the reply makes a dialog, then the given headers and body.
pub fn build(request: &Message, reply: &Reply<'_>, out: &mut Vec<u8>) {
    out.reserve(512 + reply.headers.len() + reply.body.map_or(0, |b| b.1.len()));
    out.extend_from_slice(b"SIP/2.0 ");
    push_number(u32::from(reply.code), out);
    out.push(b' ');
    out.extend_from_slice(reply.reason);
    out.extend_from_slice(b"\r\n");
    push_vias(request, reply, out);
    let in_dialog_making = matches!(request.method(), Method::Invite | Method::Subscribe | Method::Refer);
    if in_dialog_making && (101..300).contains(&reply.code) {
        push_all(request, HeaderId::RecordRoute, out);
    }
    push_all(request, HeaderId::From, out);
    push_to(request, reply, out);
    push_all(request, HeaderId::CallId, out);
    push_all(request, HeaderId::CSeq, out);
    if reply.code == 100 {
        push_all(request, HeaderId::Timestamp, out);
    }
    out.extend_from_slice(reply.headers);
    match reply.body {
        Some((content_type, body)) => {
            push_header(b"Content-Type", content_type, out);
            out.extend_from_slice(b"Content-Length: ");
            push_number(body.len() as u32, out);
            out.extend_from_slice(b"\r\n\r\n");
            out.extend_from_slice(body);
        }
        None => out.extend_from_slice(b"Content-Length: 0\r\n\r\n"),
    }
}

fn push_vias(request: &Message, reply: &Reply<'_>, out: &mut Vec<u8>) {
    let mut source = reply.source;
    for h in request.headers_of(HeaderId::Via) {
        match (source.take(), request.via()) {
            (Some((ip, port)), Ok(top)) => {
                let mut values = scan::commas(h.value);
                values.next();
                push_top_via(&top, ip, port, reply.force_rport, out);
                for value in values {
                    out.extend_from_slice(b", ");
                    out.extend_from_slice(value);
                }
                out.extend_from_slice(b"\r\n");
            }
            _ => push_line(h.line, out),
        }
    }
}

/// Appends a Via header with this value, and with the source of its request as RFC 3261 §18.2.1 and RFC 3581 ask. The line end is
/// left to the caller.
pub fn push_top_via(top: &Via<'_>, ip: IpAddr, port: u16, force_rport: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Via: SIP/2.0/");
    out.extend_from_slice(top.transport);
    out.push(b' ');
    out.extend_from_slice(top.host);
    if let Some(port) = top.port {
        out.push(b':');
        push_number(u32::from(port), out);
    }
    for p in top.params().filter(|p| !p.is("received") && !p.is("rport")) {
        out.push(b';');
        out.extend_from_slice(p.name);
        if let Some(value) = p.value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    write_received(top, ip, port, force_rport, out);
}

fn push_to(request: &Message, reply: &Reply<'_>, out: &mut Vec<u8>) {
    let Some(to) = request.header(HeaderId::To) else { return };
    let tagged = match request.to() {
        Ok(addr) => addr.tag().is_some(),
        // An unreadable To is copied; a tag behind it would not be found either.
        Err(_) => true,
    };
    match reply.to_tag {
        Some(tag) if !tagged && reply.code != 100 => {
            out.extend_from_slice(b"To: ");
            out.extend_from_slice(to.value);
            out.extend_from_slice(b";tag=");
            out.extend_from_slice(tag);
            out.extend_from_slice(b"\r\n");
        }
        _ => push_line(to.line, out),
    }
}

pub(super) fn push_all(msg: &Message, id: HeaderId, out: &mut Vec<u8>) {
    for h in msg.headers_of(id) {
        push_line(h.line, out);
    }
}

/// A received header line, its line end made sound.
pub(super) fn push_line(line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(scan::trim_end(line));
    out.extend_from_slice(b"\r\n");
}

pub(super) fn push_header(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn push_number(n: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// The usual reason phrase of a status code (RFC 3261 §21 and the RFCs that add codes).
#[must_use]
pub fn phrase(code: u16) -> &'static str {
    match code {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        417 => "Unknown Resource-Priority",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        439 => "First Hop Lacks Outbound Support",
        469 => "Bad Info Package",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        555 => "Push Notification Service Not Supported",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => match code / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirected",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}
