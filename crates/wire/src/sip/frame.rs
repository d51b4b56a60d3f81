//! Cutting a byte stream into messages (RFC 3261 §18.3, RFC 5626 §4.4.1).
//!
//! A message ends where Content-Length says; without it there is no body. Line ends between messages are keep-alives.

use super::error::{Fault, ParseError};
use super::scan;
use bytes::{Buf, Bytes, BytesMut};

/// What was cut from a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message, to be given to [`super::Message::parse`].
    Message(Bytes),
    /// A double line end; answer it with [`PONG`].
    Ping,
    /// A single line end: an answer to our ping, or noise.
    Pong,
}

/// The keep-alive of RFC 5626.
pub const PING: &[u8] = b"\r\n\r\n";
/// The answer to it.
pub const PONG: &[u8] = b"\r\n";

/// The framing state of one stream. What was looked at is not looked at again when more bytes arrive.
#[derive(Clone, Debug)]
pub struct Framer {
    max_message: usize,
    scanned: usize,
    /// Length of the message at the front, once its headers are complete.
    length: Option<usize>,
}

impl Framer {
    /// A framer that refuses messages of more than `max_message` bytes, headers included.
    #[must_use]
    pub fn new(max_message: usize) -> Framer {
        Framer { max_message, scanned: 0, length: None }
    }

    /// Cuts the next frame from the front of `buf`; `None` when more bytes are needed. An error means the connection
    /// must be closed.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, ParseError> {
        if self.scanned == 0 && self.length.is_none() {
            if buf.starts_with(PING) {
                buf.advance(PING.len());
                return Ok(Some(Frame::Ping));
            }
            match (buf.first(), buf.get(1)) {
                (Some(b'\r'), Some(b'\n')) => {
                    // The third byte may still make it a ping.
                    if buf.len() == 3 && buf[2] == b'\r' {
                        return Ok(None);
                    }
                    buf.advance(PONG.len());
                    return Ok(Some(Frame::Pong));
                }
                (Some(b'\n'), _) => {
                    buf.advance(1);
                    return Ok(Some(Frame::Pong));
                }
                (Some(b'\r'), Some(_)) => return Err(ParseError::Close(Fault::StartLine)),
                (Some(b'\r') | None, None) => return Ok(None),
                _ => {}
            }
        }
        let length = match self.length {
            Some(length) => length,
            None => match self.find_length(buf)? {
                Some(length) => *self.length.insert(length),
                None => return Ok(None),
            },
        };
        if buf.len() < length {
            buf.reserve(length - buf.len());
            return Ok(None);
        }
        self.scanned = 0;
        self.length = None;
        Ok(Some(Frame::Message(buf.split_to(length).freeze())))
    }

    fn find_length(&mut self, buf: &BytesMut) -> Result<Option<usize>, ParseError> {
        let Some(head) = find_head_end(buf, self.scanned) else {
            if buf.len() > self.max_message {
                return Err(ParseError::Close(Fault::TooLong));
            }
            // The end may be split over the last three bytes.
            self.scanned = buf.len().saturating_sub(3).max(1);
            return Ok(None);
        };
        let body = content_length(&buf[..head])?;
        match head.checked_add(body).filter(|n| *n <= self.max_message) {
            Some(length) => Ok(Some(length)),
            None => Err(ParseError::Close(Fault::TooLong)),
        }
    }
}

/// The offset behind the empty line.
fn find_head_end(buf: &[u8], from: usize) -> Option<usize> {
    for newline in memchr::memchr_iter(b'\n', buf.get(from..)?).map(|at| from + at) {
        match &buf[newline + 1..] {
            [b'\n', ..] => return Some(newline + 2),
            [b'\r', b'\n', ..] => return Some(newline + 3),
            _ => {}
        }
    }
    None
}

fn content_length(head: &[u8]) -> Result<usize, ParseError> {
    use super::error::FieldError;
    use super::header::HeaderId;
    let mut rest = head;
    while let Some(newline) = memchr::memchr(b'\n', rest) {
        rest = &rest[newline + 1..];
        if !matches!(rest.first(), Some(b'c' | b'C' | b'l' | b'L')) {
            continue;
        }
        let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        if HeaderId::from_name(scan::trim_end(&rest[..colon])) == HeaderId::ContentLength {
            let mut end = colon + 1;
            loop {
                end += memchr::memchr(b'\n', &rest[end..]).map_or(rest.len() - end, |at| at + 1);
                if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                    break;
                }
            }
            let value = scan::trim(&rest[colon + 1..end]);
            return match scan::number(value) {
                Some(n) => Ok(n as usize),
                // Without it nobody knows where the next message begins.
                None => Err(ParseError::Close(Fault::Field(FieldError::Malformed(
                    HeaderId::ContentLength,
                    "not a number of bytes",
                )))),
            };
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = b"OPTIONS sip:h SIP/2.0\r\nCall-ID: 1\r\nContent-Length : \r\n 4\r\n\r\nbody";
    const B: &[u8] = b"OPTIONS sip:h SIP/2.0\r\nl:0\r\n\r\n";

    fn frames(chunks: &[&[u8]]) -> Vec<Frame> {
        let (mut framer, mut buf, mut got) = (Framer::new(1000), BytesMut::new(), Vec::new());
        for chunk in chunks {
            buf.extend_from_slice(chunk);
            while let Some(frame) = framer.next(&mut buf).unwrap() {
                got.push(frame);
            }
        }
        assert!(buf.is_empty());
        got
    }

    fn message(raw: &'static [u8]) -> Frame {
        Frame::Message(Bytes::from_static(raw))
    }

    #[test]
    fn several_messages_and_keep_alives_in_one_segment() {
        let all = [A, PING, B, PONG, A].concat();
        assert_eq!(frames(&[&all]), [message(A), Frame::Ping, message(B), Frame::Pong, message(A)]);
    }

    #[test]
    fn every_split_gives_the_same_messages() {
        let all = [A, B].concat();
        for at in 1..all.len() {
            assert_eq!(frames(&[&all[..at], &all[at..]]), [message(A), message(B)], "split at {at}");
        }
        let single: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(frames(&single), [message(A), message(B)]);
    }

    #[test]
    fn oversize_and_bad_lengths_close_the_connection() {
        let refused = |raw: &[u8]| Framer::new(100).next(&mut BytesMut::from(raw));
        assert!(matches!(refused(&[b'a'; 101]), Err(ParseError::Close(Fault::TooLong))));
        for length in ["-1", "x", "1000", "99999999999"] {
            let raw = format!("OPTIONS sip:h SIP/2.0\r\nContent-Length: {length}\r\n\r\n");
            assert!(matches!(refused(raw.as_bytes()), Err(ParseError::Close(_))), "{length}");
        }
    }
}
