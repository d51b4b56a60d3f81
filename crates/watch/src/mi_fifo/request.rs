//! Requests cut out of the byte stream of the FIFO: `:reply_fifo:{json}`, with or without an end of line.
//!
//! Writers are not known to each other and may go away in the middle, so a request ends where its JSON value ends, and one
//! that never ends is given up when the pipe has been quiet for a while.

use std::collections::VecDeque;

/// Most bytes a request may have.
pub const MAX_REQUEST: usize = 256 * 1024;

/// One request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Name of the FIFO for the answer; `None` when none is wanted.
    pub reply_to: Option<String>,
    /// The JSON text, or what was wrong with it.
    pub body: Result<Vec<u8>, String>,
}

/// Collects bytes and gives requests.
#[derive(Default)]
pub struct Reader {
    buffer: Vec<u8>,
    ready: VecDeque<Request>,
}

impl Reader {
    /// Bytes were read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.cut(false);
        if self.buffer.len() > MAX_REQUEST {
            self.cut(true);
            self.buffer.clear();
        }
    }

    /// Nothing came for a while: what is unfinished will stay so.
    pub fn quiet(&mut self) {
        self.cut(true);
        self.buffer.clear();
    }

    /// Whether a request is unfinished.
    pub fn is_waiting(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next complete request.
    pub fn next(&mut self) -> Option<Request> {
        self.ready.pop_front()
    }

    fn cut(&mut self, last: bool) {
        loop {
            let blank = self.buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
            self.buffer.drain(..blank);
            let Some(used) = self.one(last) else { return };
            self.buffer.drain(..used);
        }
    }

    /// Take one request from the start of the buffer; gives how many bytes it had, `None` when more are needed.
    fn one(&mut self, last: bool) -> Option<usize> {
        let line_end = self.buffer.iter().position(|b| *b == b'\n').unwrap_or(self.buffer.len());
        if self.buffer.is_empty() {
            return None;
        }
        if self.buffer[0] != b':' {
            self.refuse(None, "a request begins with `:reply_fifo:`");
            return Some(line_end);
        }
        let Some(end) = self.buffer[1..line_end].iter().position(|b| *b == b':') else {
            if line_end == self.buffer.len() && !last {
                return None;
            }
            self.refuse(None, "a request begins with `:reply_fifo:`; its second colon is missing");
            return Some(line_end);
        };
        let name = String::from_utf8_lossy(&self.buffer[1..=end]).into_owned();
        let reply_to = Some(name).filter(|n| !n.is_empty());
        let start = end + 2;
        let text = &self.buffer[start..];
        let mut values = serde_json::Deserializer::from_slice(text).into_iter::<serde::de::IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let used = values.byte_offset();
                let body = Ok(text[..used].to_vec());
                self.ready.push_back(Request { reply_to, body });
                Some(start + used)
            }
            Some(Err(e)) if e.is_eof() && !last => None,
            None if !last => None,
            Some(Err(e)) => {
                self.refuse(reply_to, &format!("not JSON: {e}"));
                Some(line_end.max(start))
            }
            None => {
                self.refuse(reply_to, "there is no JSON after the name of the reply FIFO");
                Some(self.buffer.len())
            }
        }
    }

    fn refuse(&mut self, reply_to: Option<String>, why: &str) {
        self.ready.push_back(Request { reply_to, body: Err(why.to_owned()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(r: &mut Reader) -> Vec<Request> {
        std::iter::from_fn(|| r.next()).collect()
    }

    fn good(to: Option<&str>, text: &str) -> Request {
        Request { reply_to: to.map(str::to_owned), body: Ok(text.as_bytes().to_vec()) }
    }

    #[test]
    fn requests_end_where_their_json_ends() {
        let mut r = Reader::default();
        r.feed(b":a:{\"x\":1}:b:{\"y\":[2,\n3]}\n\n::{\"z\":{}}");
        assert_eq!(
            all(&mut r),
            [good(Some("a"), "{\"x\":1}"), good(Some("b"), "{\"y\":[2,\n3]}"), good(None, "{\"z\":{}}")]
        );
        assert!(!r.is_waiting());
    }

    #[test]
    fn a_request_may_come_in_pieces() {
        let mut r = Reader::default();
        for piece in [":a", ":", "{\"method\"", ":\"x\"", "}"] {
            assert!(r.next().is_none());
            r.feed(piece.as_bytes());
        }
        assert_eq!(all(&mut r), [good(Some("a"), "{\"method\":\"x\"}")]);
    }

    #[test]
    fn what_is_no_json_is_refused_and_the_next_line_is_read() {
        let mut r = Reader::default();
        r.feed(b":a:{nonsense}\nrubbish\n:b:{}\n");
        let got = all(&mut r);
        assert_eq!(got.len(), 3);
        assert_eq!(got[0].reply_to.as_deref(), Some("a"));
        assert!(got[0].body.as_ref().unwrap_err().starts_with("not JSON"));
        assert!(got[1].body.is_err());
        assert_eq!(got[2], good(Some("b"), "{}"));
    }

    #[test]
    fn an_unfinished_request_is_refused_when_the_pipe_is_quiet() {
        let mut r = Reader::default();
        r.feed(b":a:{\"x\":");
        assert!(r.is_waiting());
        r.quiet();
        assert!(all(&mut r)[0].body.is_err());
        assert!(!r.is_waiting());
    }

    #[test]
    fn a_request_without_end_does_not_fill_the_memory() {
        let mut r = Reader::default();
        r.feed(b":a:{\"x\":\"");
        for _ in 0..100 {
            r.feed(&[b'x'; 10_000]);
        }
        assert!(r.buffer.len() <= MAX_REQUEST + 10_000);
        assert!(all(&mut r)[0].body.is_err());
    }
}
