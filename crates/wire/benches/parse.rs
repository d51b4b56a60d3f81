//! Cost of reading one INVITE of 600 bytes: boundaries alone, and with tags, branch and two URIs; and of writing it on.

#![allow(missing_docs)]

use bytes::Bytes;
use std::hint::black_box;
use std::time::Instant;
use switchroom_wire::sip::{Edits, Message, NameAddr, Uri, Via, serialise};

const INVITE: &[u8] = b"INVITE sip:bob@biloxi.example.com:5060 SIP/2.0\r\n\
Via: SIP/2.0/UDP bigbox3.site3.atlanta.example.com:5060;branch=z9hG4bK77ef4c2312983.1;rport\r\n\
Via: SIP/2.0/UDP pc33.atlanta.example.com;branch=z9hG4bKnashds8;received=192.0.2.1\r\n\
Max-Forwards: 69\r\n\
To: Bob <sip:bob@biloxi.example.com>\r\n\
From: \"Alice\" <sip:alice@atlanta.example.com>;tag=1928301774\r\n\
Call-ID: a84b4c76e66710@pc33.atlanta.example.com\r\n\
CSeq: 314159 INVITE\r\n\
Contact: <sip:alice@pc33.atlanta.example.com;transport=udp>\r\n\
User-Agent: Switchroom bench\r\n\
Content-Type: application/sdp\r\n\
Content-Length: 46\r\n\r\n\
v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\na=x\r\n";

#[allow(clippy::disallowed_methods)]
fn time(name: &str, mut f: impl FnMut()) {
    // Fewer `ROUNDS` are for callgrind.
    let rounds = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(400_000u32);
    // `cargo bench -- TEXT` runs what has TEXT in its name.
    if std::env::args().skip(1).any(|a| !a.starts_with("--") && !name.contains(&a)) {
        return;
    }
    for _ in 0..rounds / 10 {
        f();
    }
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..rounds {
                f();
            }
            start.elapsed().as_nanos() as f64 / f64::from(rounds)
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name}: {best:.0} ns");
}

fn main() {
    let buf = Bytes::from_static(INVITE);
    println!("{} bytes", buf.len());
    time("boundaries", || {
        assert!(black_box(&Message::parse(black_box(buf.clone()))).is_ok());
    });
    time("boundaries, tags, branch, two URIs", || {
        let parsed = Message::parse(black_box(buf.clone()));
        let m = parsed.as_ref().unwrap();
        let from = m.from().unwrap();
        black_box((from.tag(), m.to().unwrap().tag(), m.via().unwrap().branch));
        black_box((m.ruri().unwrap().host, from.parse_uri().unwrap().host));
    });
    let m = Message::parse(buf.clone()).unwrap();
    println!("message is {} bytes", size_of::<Message>());
    let via_line = Bytes::from_static(
        b"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-sr0011223344556677889900112233445566778899\r\n",
    );
    let mut out = Vec::with_capacity(1024);
    time("serialise with a Via, a Record-Route and another URI", || {
        let mut edits = Edits::new();
        edits.push_via(&m, via_line.clone());
        edits.push_record_route(&m, Bytes::from_static(b"Record-Route: <sip:192.0.2.10;lr>\r\n"));
        edits.set_ruri(Bytes::from_static(b"sip:bob@192.0.2.20:5062"));
        out.clear();
        serialise(&m, &[&edits], &mut out);
        black_box(&out);
    });
    let (via, from) = (m.via().unwrap().raw, m.from().unwrap().raw);
    time("one Via", || {
        black_box(Via::parse(black_box(via)).unwrap());
    });
    time("one address", || {
        black_box(NameAddr::parse(black_box(from)).unwrap());
    });
    time("one URI", || {
        black_box(Uri::parse(black_box(m.ruri_bytes())).unwrap());
    });
}
