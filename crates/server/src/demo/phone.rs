//! A phone for the demo: UDP, digest authentication, one call.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use switchroom_wire::sip::digest::{Challenge, Input, Qop, ha1, response};
use switchroom_wire::sip::reply::{Reply, build};
use switchroom_wire::sip::{HeaderId, Message, Method, NameAddr};

use super::ladder::Ladder;

/// Password of both phones.
pub const PASSWORD: &str = "demo-secret";

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n";

/// One phone.
pub struct Phone {
    name: &'static str,
    socket: UdpSocket,
    server: SocketAddr,
    address: SocketAddr,
    serial: u32,
}

/// What a dialog needs to go on.
struct Dialog {
    call_id: String,
    from: String,
    to: String,
    target: String,
    routes: Vec<String>,
    cseq: u32,
}

impl Phone {
    /// A phone on a free port, on the address from which it reaches the server.
    pub fn new(name: &'static str, server: SocketAddr) -> anyhow::Result<Phone> {
        let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let probe = UdpSocket::bind(any)?;
        probe.connect(server)?;
        let socket = UdpSocket::bind((probe.local_addr()?.ip(), 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let address = socket.local_addr()?;
        Ok(Phone { name, socket, server, address, serial: 0 })
    }

    fn uri(&self) -> String {
        format!("sip:{}@{}", self.name, host(self.server))
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.name, self.address)
    }

    fn unique(&mut self, what: &str) -> String {
        self.serial += 1;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        format!("{what}{}-{:x}-{}", self.name, now.as_nanos(), self.serial)
    }

    fn via(&mut self) -> String {
        let branch = self.unique("z9hG4bK");
        format!("Via: SIP/2.0/UDP {};branch={branch};rport\r\n", self.address)
    }

    fn send(&self, ladder: &mut Ladder, bytes: &[u8]) -> anyhow::Result<()> {
        ladder.note(self.name, true, bytes);
        self.socket.send_to(bytes, self.server)?;
        Ok(())
    }

    /// The next message that `wanted` takes; provisional replies on the way are shown.
    fn receive(
        &self,
        ladder: &mut Ladder,
        what: &str,
        wanted: impl Fn(&Message) -> bool,
    ) -> anyhow::Result<Message> {
        let limit = Instant::now() + Duration::from_secs(5);
        let mut buffer = vec![0; 65_535];
        while Instant::now() < limit {
            let (n, _) = self
                .socket
                .recv_from(&mut buffer)
                .with_context(|| format!("{} waited for {what}", self.name))?;
            ladder.note(self.name, false, &buffer[..n]);
            let msg = Message::parse(Bytes::copy_from_slice(&buffer[..n]))
                .map_err(|e| anyhow!("{} received what is no SIP: {e}", self.name))?;
            if wanted(&msg) {
                return Ok(msg);
            }
        }
        bail!("{} waited for {what}", self.name)
    }

    /// Register, answering the challenge.
    pub fn register(&mut self, ladder: &mut Ladder) -> anyhow::Result<()> {
        let call_id = self.unique("reg");
        let registrar = format!("sip:{}", host(self.server));
        let mut authorization = String::new();
        for cseq in 1..=2 {
            let text = format!(
                "REGISTER {registrar} SIP/2.0\r\n{}Max-Forwards: 70\r\nFrom: <{u}>;tag={}\r\nTo: <{u}>\r\n\
                 Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\nContact: {}\r\nExpires: 600\r\n{authorization}\
                 Content-Length: 0\r\n\r\n",
                self.via(),
                self.name,
                self.contact(),
                u = self.uri(),
            );
            self.send(ladder, text.as_bytes())?;
            let reply =
                self.receive(ladder, "the answer to its REGISTER", |m| !m.is_request() && m.status() >= 200)?;
            match reply.status() {
                200 => return Ok(()),
                401 => authorization = self.answer(&reply, "REGISTER", &registrar)?,
                other => bail!("the REGISTER of {} was answered with {other}", self.name),
            }
        }
        bail!("the password of {} was not accepted", self.name)
    }

    /// The header that answers a challenge.
    fn answer(&self, reply: &Message, method: &str, uri: &str) -> anyhow::Result<String> {
        let (id, name) = match reply.status() {
            401 => (HeaderId::WwwAuthenticate, "Authorization"),
            _ => (HeaderId::ProxyAuthenticate, "Proxy-Authorization"),
        };
        let header = reply.header(id).context("a challenge without its header")?;
        let value = header.unfolded().into_owned();
        let c = Challenge::parse(&value).context("a challenge that cannot be read")?;
        let ha1 = ha1(c.algorithm, self.name.as_bytes(), &c.realm, PASSWORD.as_bytes());
        let qop = c.auth.then_some(Qop::Auth);
        let computed = response(&Input {
            algorithm: c.algorithm,
            ha1: ha1.as_bytes(),
            nonce: &c.nonce,
            nc: b"00000001",
            cnonce: b"c0ffee",
            qop,
            method: method.as_bytes(),
            uri: uri.as_bytes(),
            body: b"",
        });
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let mut out = format!(
            "{name}: Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{}\", algorithm={}",
            self.name,
            text(&c.realm),
            text(&c.nonce),
            text(computed.as_bytes()),
            c.algorithm.name(),
        );
        if qop.is_some() {
            out.push_str(", qop=auth, nc=00000001, cnonce=\"c0ffee\"");
        }
        out.push_str("\r\n");
        Ok(out)
    }

    /// Answer a request.
    fn reply(
        &self,
        ladder: &mut Ladder,
        request: &Message,
        code: u16,
        body: Option<&str>,
    ) -> anyhow::Result<()> {
        let contact = format!("Contact: {}\r\n", self.contact());
        let tag = format!("{}-tag", self.name);
        let reply = Reply {
            code,
            reason: switchroom_wire::sip::reply::phrase(code).as_bytes(),
            to_tag: (code > 100).then_some(tag.as_bytes()),
            headers: contact.as_bytes(),
            body: body.map(|b| (&b"application/sdp"[..], b.as_bytes())),
            ..Reply::default()
        };
        let mut out = Vec::new();
        build(request, &reply, &mut out);
        self.send(ladder, &out)
    }

    /// A request inside a dialog.
    fn in_dialog(&mut self, method: &str, d: &Dialog) -> String {
        let routes: String = d.routes.iter().map(|r| format!("Route: {r}\r\n")).collect();
        format!(
            "{method} {} SIP/2.0\r\n{}Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n\
             {routes}Content-Length: 0\r\n\r\n",
            d.target,
            self.via(),
            d.from,
            d.to,
            d.call_id,
            d.cseq,
        )
    }
}

fn host(server: SocketAddr) -> String {
    if server.port() == 5060 { server.ip().to_string() } else { server.to_string() }
}

/// `a` calls `b`, `b` answers, `a` hangs up.
pub fn call(a: &mut Phone, b: &mut Phone, ladder: &mut Ladder) -> anyhow::Result<()> {
    let uri = b.uri();
    let call_id = a.unique("call");
    let mut authorization = String::new();
    let from = format!("<{}>;tag={}-call", a.uri(), a.name);
    let mut cseq = 1;
    let trying = loop {
        let text = format!(
            "INVITE {uri} SIP/2.0\r\n{}Max-Forwards: 70\r\nFrom: {from}\r\nTo: <{uri}>\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} INVITE\r\nContact: {}\r\n{authorization}Content-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{SDP}",
            a.via(),
            a.contact(),
            SDP.len(),
        );
        a.send(ladder, text.as_bytes())?;
        let sent = Message::parse(Bytes::from(text)).map_err(|e| anyhow!("the INVITE of the demo: {e}"))?;
        let reply = a.receive(ladder, "the answer to its INVITE", |m| !m.is_request())?;
        if !matches!(reply.status(), 401 | 407) {
            break reply;
        }
        ensure!(cseq == 1, "the password of {} was not accepted", a.name);
        let mut ack = Vec::new();
        switchroom_wire::sip::request::ack_for(&sent, &reply, &mut ack);
        a.send(ladder, &ack)?;
        authorization = a.answer(&reply, "INVITE", &uri)?;
        cseq += 1;
    };
    ensure!(trying.status() < 300, "the INVITE was answered with {}", trying.status());
    let invite = b.receive(ladder, "the INVITE", |m| m.is_request() && m.method() == Method::Invite)?;
    b.reply(ladder, &invite, 180, None)?;
    a.receive(ladder, "180", |m| m.status() == 180)?;
    b.reply(ladder, &invite, 200, Some(SDP))?;
    let answer = a.receive(ladder, "200", |m| m.status() == 200)?;
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let target = answer
        .contacts()
        .flatten()
        .next()
        .map(|c: NameAddr<'_>| text(c.uri))
        .context("a 200 without Contact")?;
    let mut routes: Vec<String> = answer.record_routes().flatten().map(|r| text(r.raw)).collect();
    routes.reverse();
    let to = text(answer.header(HeaderId::To).context("a 200 without To")?.value);
    let mut dialog = Dialog { call_id, from, to, target, routes, cseq };
    let ack = a.in_dialog("ACK", &dialog);
    a.send(ladder, ack.as_bytes())?;
    b.receive(ladder, "the ACK", |m| m.method() == Method::Ack)?;
    std::thread::sleep(Duration::from_millis(200));
    dialog.cseq += 1;
    let bye = a.in_dialog("BYE", &dialog);
    a.send(ladder, bye.as_bytes())?;
    let bye = b.receive(ladder, "the BYE", |m| m.method() == Method::Bye)?;
    b.reply(ladder, &bye, 200, None)?;
    a.receive(ladder, "the answer to its BYE", |m| m.status() == 200)?;
    Ok(())
}
