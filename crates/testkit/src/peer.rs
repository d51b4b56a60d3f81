//! A raw SIP peer: sends text as it is given, waits for messages by their look.
//!
//! It understands no more of SIP than where a message ends, so it can also misbehave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// One end of a conversation.
pub struct Peer {
    socket: Socket,
    /// What came over a stream and is not yet a whole message.
    rest: Vec<u8>,
    /// Messages that came while another one was waited for.
    passed_over: Vec<String>,
    last: Option<SocketAddr>,
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Peer {
    /// A UDP socket on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn udp() -> Peer {
        Peer::new(Socket::Udp(UdpSocket::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("peer: {e}"))))
    }

    /// A TCP connection to `addr`.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn tcp(addr: SocketAddr) -> Peer {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5));
        Peer::new(Socket::Tcp(stream.unwrap_or_else(|e| panic!("peer: tcp to {addr}: {e}"))))
    }

    /// The next TCP connection on `listener`.
    ///
    /// # Panics
    /// When accepting fails.
    pub fn accept(listener: &TcpListener) -> Peer {
        Peer::new(Socket::Tcp(listener.accept().unwrap_or_else(|e| panic!("peer: {e}")).0))
    }

    fn new(socket: Socket) -> Peer {
        Peer { socket, rest: Vec::new(), passed_over: Vec::new(), last: None }
    }

    /// Its own address.
    ///
    /// # Panics
    /// When the socket is broken.
    pub fn addr(&self) -> SocketAddr {
        let addr = match &self.socket {
            Socket::Udp(s) => s.local_addr(),
            Socket::Tcp(s) => s.local_addr(),
        };
        addr.unwrap_or_else(|e| panic!("peer: {e}"))
    }

    /// Where the last message came from.
    pub fn last_sender(&self) -> Option<SocketAddr> {
        self.last
    }

    /// Sends bytes; `to` counts only for UDP.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn send(&mut self, to: SocketAddr, data: impl AsRef<[u8]>) {
        let sent = match &mut self.socket {
            Socket::Udp(s) => s.send_to(data.as_ref(), to).map(drop),
            Socket::Tcp(s) => s.write_all(data.as_ref()),
        };
        sent.unwrap_or_else(|e| panic!("peer: send to {to}: {e}"));
    }

    /// The next message for which `pick` says yes, of those that came and were passed over or come within `timeout`.
    pub fn wait_for(&mut self, timeout: Duration, pick: impl Fn(&str) -> bool) -> Option<String> {
        if let Some(at) = self.passed_over.iter().position(|m| pick(m)) {
            return Some(self.passed_over.remove(at));
        }
        let until = Instant::now() + timeout;
        loop {
            let message = self.receive(until)?;
            if pick(&message) {
                return Some(message);
            }
            self.passed_over.push(message);
        }
    }

    /// The next message that begins with `start`, within five seconds.
    ///
    /// # Panics
    /// With what came instead.
    #[track_caller]
    pub fn expect(&mut self, start: &str) -> String {
        match self.wait_for(Duration::from_secs(5), |m| m.starts_with(start)) {
            Some(message) => message,
            None => panic!(
                "no message beginning with `{start}`; there were:\n{}",
                self.passed_over.join("\n----\n")
            ),
        }
    }

    /// Whether nothing comes for `time`, not counting what was passed over before.
    pub fn is_quiet(&mut self, time: Duration) -> bool {
        match self.receive(Instant::now() + time) {
            Some(message) => {
                self.passed_over.push(message);
                false
            }
            None => true,
        }
    }

    fn receive(&mut self, until: Instant) -> Option<String> {
        let mut buf = [0; 65_536];
        loop {
            if let Socket::Tcp(_) = self.socket
                && let Some(message) = self.cut()
            {
                return Some(message);
            }
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            match &mut self.socket {
                Socket::Udp(s) => {
                    s.set_read_timeout(Some(left)).ok()?;
                    let (n, from) = s.recv_from(&mut buf).ok()?;
                    self.last = Some(from);
                    return Some(String::from_utf8_lossy(&buf[..n]).into_owned());
                }
                Socket::Tcp(s) => {
                    s.set_read_timeout(Some(left)).ok()?;
                    let n = s.read(&mut buf).ok().filter(|n| *n > 0)?;
                    self.last = s.peer_addr().ok();
                    self.rest.extend_from_slice(&buf[..n]);
                }
            }
        }
    }

    /// Cuts the next message from the stream, by its Content-Length; line ends before it are dropped.
    fn cut(&mut self) -> Option<String> {
        let start = self.rest.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(self.rest.len());
        self.rest.drain(..start);
        let head = self.rest.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&self.rest[..head]).into_owned();
        let length = header(&text, "Content-Length").or_else(|| header(&text, "l"));
        let end = head + length.and_then(|l| l.parse::<usize>().ok()).unwrap_or(0);
        if self.rest.len() < end {
            return None;
        }
        Some(String::from_utf8_lossy(&self.rest.drain(..end).collect::<Vec<u8>>()).into_owned())
    }
}

/// The value of the first header of that name, in any case of letters; folded lines are not joined.
pub fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    headers(message, name).next()
}

/// The values of all headers of that name, one per line.
pub fn headers<'a>(message: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let name = name.to_owned();
    message.split("\r\n").skip(1).take_while(|line| !line.is_empty()).filter_map(move |line| {
        let (found, value) = line.split_once(':')?;
        found.trim_end().eq_ignore_ascii_case(&name).then_some(value.trim())
    })
}

/// A response to `request` (RFC 3261 §8.2.6) with a To-tag and without body. `more` is further header lines, each with its
/// line end.
pub fn response(request: &str, status: &str, tag: &str, more: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "Record-Route", "From"] {
        for value in headers(request, name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    let to = header(request, "To").unwrap_or_default();
    let tag = if to.contains(";tag=") || tag.is_empty() { String::new() } else { format!(";tag={tag}") };
    text.push_str(&format!("To: {to}{tag}\r\n"));
    for name in ["Call-ID", "CSeq"] {
        text.push_str(&format!("{name}: {}\r\n", header(request, name).unwrap_or_default()));
    }
    text.push_str(more);
    text.push_str("Content-Length: 0\r\n\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP b\r\n\
                           from: <sip:a>;tag=1\r\nTo: <sip:b>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n";

    #[test]
    fn peers_talk_over_udp_and_pass_over_what_nobody_waits_for() {
        let (mut a, mut b) = (Peer::udp(), Peer::udp());
        a.send(b.addr(), "SIP/2.0 100 Trying\r\n\r\n");
        a.send(b.addr(), "SIP/2.0 200 OK\r\n\r\n");
        assert!(b.expect("SIP/2.0 200").contains("OK"));
        assert!(b.expect("SIP/2.0 100").contains("Trying"));
        assert_eq!(b.last_sender(), Some(a.addr()));
        assert!(b.is_quiet(Duration::from_millis(20)));
        assert!(b.wait_for(Duration::from_millis(20), |_| true).is_none());
    }

    #[test]
    fn peers_cut_messages_from_a_stream() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (mut a, mut b) = (Peer::tcp(addr), Peer::accept(&listener));
        a.send(addr, "\r\n\r\nMESSAGE sip:h SIP/2.0\r\nl: 2\r\n\r\nhiACK sip:h SIP/2.0\r\n");
        assert!(b.expect("MESSAGE").ends_with("\r\n\r\nhi"));
        a.send(addr, "\r\n");
        b.expect("ACK");
    }

    #[test]
    fn a_response_takes_over_what_it_must() {
        let text = response(REQUEST, "200 OK", "z", "Allow: INVITE\r\n");
        assert_eq!(
            headers(&text, "via").collect::<Vec<_>>(),
            ["SIP/2.0/UDP a;branch=z9hG4bK1", "SIP/2.0/UDP b"]
        );
        assert_eq!(header(&text, "To"), Some("<sip:b>;tag=z"));
        assert_eq!(header(&text, "CSeq"), Some("1 OPTIONS"));
        assert!(text.contains("Allow: INVITE\r\nContent-Length: 0\r\n\r\n"), "{text}");
    }
}
