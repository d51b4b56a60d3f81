//! A phone made of text: it says exactly what a test wants it to say, and can misbehave.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use switchroom_testkit::Peer;
use switchroom_testkit::peer::{header, headers, response};
use switchroom_wire::sip::digest::Algorithm;

/// A session description of little meaning.
pub const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

static COUNT: AtomicU32 = AtomicU32::new(1);

/// A name that no other message of this process has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed))
}

/// A phone.
pub struct Ua {
    /// Its socket.
    pub peer: Peer,
    /// Its user name; the domain is 127.0.0.1.
    pub user: String,
    /// The server it sends to.
    pub server: SocketAddr,
    transport: &'static str,
}

impl Ua {
    /// A phone on UDP.
    pub fn new(user: &str, server: SocketAddr) -> Ua {
        Ua { peer: Peer::udp(), user: user.to_owned(), server, transport: "UDP" }
    }

    /// A phone on a connection of its own.
    pub fn tcp(user: &str, server: SocketAddr) -> Ua {
        Ua { peer: Peer::tcp(server), user: user.to_owned(), server, transport: "TCP" }
    }

    /// Its Contact URI.
    pub fn contact(&self) -> String {
        let transport = if self.transport == "TCP" { ";transport=tcp" } else { "" };
        format!("sip:{}@{}{transport}", self.user, self.peer.addr())
    }

    /// The first request of a dialog or a lone one. `more` is further header lines.
    pub fn request(&self, method: &str, uri: &str, call: &Call, more: &str) -> String {
        let body = if method == "INVITE" { SDP } else { "" };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{} {};branch={};rport\r\nMax-Forwards: 70\r\n\
             From: <{}>;tag={}\r\nTo: <{}>{}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
            self.transport,
            self.peer.addr(),
            unique("z9hG4bK"),
            call.from,
            call.tag,
            call.to,
            call.to_tag,
            call.id,
            call.cseq,
            body.len(),
        )
    }

    /// Sends to the server.
    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.peer.send(self.server, text);
    }

    /// Sends a REGISTER with these Contact header lines, and gives the final answer.
    #[track_caller]
    pub fn register(&mut self, call: &mut Call, more: &str) -> String {
        let text = self.request("REGISTER", "sip:127.0.0.1", call, more);
        call.cseq += 1;
        self.send(text);
        self.peer.expect("SIP/2.0 ")
    }

    /// Registers its own contact without a password; must succeed.
    #[track_caller]
    pub fn register_here(&mut self, params: &str) {
        let contact = format!("Contact: <{}>{params}\r\nExpires: 600\r\n", self.contact());
        let mut call = Call::new(&self.user, &self.user);
        let answer = self.register(&mut call, &contact);
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    }

    /// Sends an INVITE for a user of 127.0.0.1; gives the call and the text.
    pub fn invite(&mut self, callee: &str, more: &str) -> (Call, String) {
        let call = Call::new(&self.user, callee);
        let more = format!("Contact: <{}>\r\n{more}", self.contact());
        let text = self.request("INVITE", &call.to, &call, &more);
        self.send(&text);
        (call, text)
    }

    /// Waits for a request and takes it.
    #[track_caller]
    pub fn expect(&mut self, start: &str) -> String {
        self.peer.expect(start)
    }

    /// Waits for a final or provisional reply with this code to this call.
    #[track_caller]
    pub fn expect_reply(&mut self, code: u16, call: &Call) -> String {
        let start = format!("SIP/2.0 {code} ");
        let id = call.id.clone();
        let found = self
            .peer
            .wait_for(Duration::from_secs(5), |m| m.starts_with(&start) && header(m, "Call-ID") == Some(&id));
        match found {
            Some(m) => m,
            // Panics with what came instead.
            None => self.peer.expect(&format!("{start}of call {id}")),
        }
    }

    /// Answers a request, with a Contact of its own.
    pub fn reply(&mut self, request: &str, status: &str) {
        let more = format!("Contact: <{}>\r\n", self.contact());
        let text = response(request, status, &format!("t{}", self.user), &more);
        self.send(text);
    }

    /// The ACK to a failure reply, in the transaction of the INVITE (RFC 3261 §17.1.1.3).
    pub fn ack_failure(&mut self, invite: &str, reply: &str) {
        let text = in_transaction("ACK", invite, header(reply, "To").unwrap_or_default());
        self.send(text);
    }

    /// CANCELs an INVITE that it sent (RFC 3261 §9.1).
    pub fn cancel(&mut self, invite: &str) {
        let text = in_transaction("CANCEL", invite, header(invite, "To").unwrap_or_default());
        self.send(text);
    }

    /// A request inside the dialog that a 2xx made; the route set is that of the reply (RFC 3261 §12.2.1.1).
    pub fn in_dialog(&mut self, method: &str, call: &Call, answer: &str) -> String {
        let target = header(answer, "Contact").unwrap_or_default();
        let target = target.split(['<', '>']).nth(1).unwrap_or(target);
        let mut routes: Vec<&str> = headers(answer, "Record-Route").collect();
        routes.reverse();
        let mut call = call.clone();
        if method != "ACK" {
            call.cseq += 1;
        }
        let tag = header(answer, "To").and_then(|t| t.split(";tag=").nth(1)).unwrap_or_default();
        call.to_tag = format!(";tag={tag}");
        let more: String = routes.iter().map(|r| format!("Route: {r}\r\n")).collect();
        let text = self.request(method, target, &call, &more);
        self.send(&text);
        text
    }
}

/// What names a call.
#[derive(Clone)]
pub struct Call {
    /// Call-ID
    pub id: String,
    /// URI of From
    pub from: String,
    /// URI of To
    pub to: String,
    /// Tag of From
    pub tag: String,
    /// `;tag=...` of To, empty before the dialog
    pub to_tag: String,
    /// Number of the next request
    pub cseq: u32,
}

impl Call {
    /// Between two users of 127.0.0.1.
    pub fn new(from: &str, to: &str) -> Call {
        Call {
            id: unique("call"),
            from: format!("sip:{from}@127.0.0.1"),
            to: format!("sip:{to}@127.0.0.1"),
            tag: unique("f"),
            to_tag: String::new(),
            cseq: 1,
        }
    }
}

fn in_transaction(method: &str, invite: &str, to: &str) -> String {
    let line = invite.split("\r\n").next().unwrap_or_default();
    let uri = line.split(' ').nth(1).unwrap_or_default();
    let get = |name: &str| header(invite, name).unwrap_or_default();
    let number = get("CSeq").split(' ').next().unwrap_or_default();
    let routes: String = headers(invite, "Route").map(|r| format!("Route: {r}\r\n")).collect();
    format!(
        "{method} {uri} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\n{routes}From: {}\r\nTo: {to}\r\nCall-ID: {}\r\n\
         CSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n",
        get("Via"),
        get("From"),
        get("Call-ID"),
    )
}

/// A parameter of a challenge, without quotes.
pub fn challenge_param(challenge: &str, name: &str) -> Option<String> {
    challenge.trim_start_matches("Digest").split(',').find_map(|part| {
        let (found, value) = part.trim().split_once('=')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim_matches('"').to_owned())
    })
}

/// The header line that answers a challenge of `reply` (RFC 7616 §3.4), MD5 and qop auth.
pub fn credentials(reply: &str, user: &str, password: &str, method: &str, uri: &str, count: u32) -> String {
    let (name, challenge) = match header(reply, "WWW-Authenticate") {
        Some(challenge) => ("Authorization", challenge),
        None => ("Proxy-Authorization", header(reply, "Proxy-Authenticate").unwrap_or_default()),
    };
    let get = |name| challenge_param(challenge, name).unwrap_or_default();
    let (realm, nonce, count) = (get("realm"), get("nonce"), format!("{count:08x}"));
    let hash = |parts: &[&str]| {
        let parts: Vec<&[u8]> = parts.iter().map(|p| p.as_bytes()).collect();
        String::from_utf8_lossy(Algorithm::Md5.hash(&parts).as_bytes()).into_owned()
    };
    let (ha1, ha2) = (hash(&[user, &realm, password]), hash(&[method, uri]));
    let answer = hash(&[&ha1, &nonce, &count, "c0ffee", "auth", &ha2]);
    format!(
        "{name}: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{answer}\", algorithm=MD5, qop=auth, nc={count}, cnonce=\"c0ffee\"\r\n"
    )
}

/// A call from one to `bob`, answered at once: the call, the INVITE as it came to the callee, and the 200 as it came back.
#[track_caller]
pub fn establish(caller: &mut Ua, callee: &mut Ua) -> (Call, String, String) {
    let (call, _) = caller.invite("bob", "");
    let asked = callee.expect("INVITE");
    callee.reply(&asked, "200 OK");
    let done = caller.expect_reply(200, &call);
    caller.in_dialog("ACK", &call, &done);
    callee.expect("ACK");
    (call, asked, done)
}

/// The caller's CANCEL of a call that rings reaches the callee, and the call ends with 487; the CANCEL as it came.
#[track_caller]
pub fn is_cancelled(caller: &mut Ua, callee: &mut Ua, call: &Call, invite: &str, asked: &str) -> String {
    let cancel = callee.expect("CANCEL");
    callee.reply(&cancel, "200 OK");
    callee.reply(asked, "487 Request Terminated");
    callee.expect("ACK");
    let ended = caller.expect_reply(487, call);
    caller.ack_failure(invite, &ended);
    cancel
}
