//! Cost of the machines for one relayed INVITE: made, sent, rings, answered, over.

#![allow(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "a benchmark needs the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchroom_engine::proxy::{NewBranch, Output, Settings, Transaction};
use switchroom_engine::transaction::{Table, Timing};
use switchroom_wire::sip::Message;

#[derive(Clone)]
struct Received(Message);

impl AsRef<Message> for Received {
    fn as_ref(&self) -> &Message {
        &self.0
    }
}

fn reply(status: &str) -> Received {
    let text = format!(
        "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK0\r\nVia: SIP/2.0/UDP p;branch=z9hG4bKp\r\n\
         From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=2\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n"
    );
    Received(Message::parse(text.into()).expect("a reply"))
}

fn main() {
    const ROUNDS: u32 = 200_000;
    let now = Instant::now();
    let (ringing, ok) = (reply("180 Ringing"), reply("200 OK"));
    let request = Bytes::from_static(b"INVITE sip:b@h SIP/2.0\r\n\r\n");
    let settings = Settings {
        timing: Timing::default(),
        invite: true,
        local: false,
        reliable: false,
        allow_after_6xx: false,
        multi_200: false,
    };
    let mut table: Table<Transaction<Received, u16>> = Table::new(1000, 0);
    let mut sink: Vec<Output<Received>> = Vec::with_capacity(16);
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            for n in 0..ROUNDS {
                let Some(id) = table.insert(b"the key of a transaction", None, n, Transaction::new(settings))
                else {
                    continue;
                };
                let Some(tx) = table.get_mut(id) else { continue };
                let new = NewBranch {
                    request: request.clone(),
                    destination: 0,
                    reliable: false,
                    minor: false,
                    more_targets: false,
                };
                let _ = tx.add_branch(now, new, &mut sink);
                tx.route_done(now, &mut sink);
                for reply in [&ringing, &ok] {
                    tx.receive(now, 0, reply, &mut sink);
                    tx.process(now, 0, reply.clone(), &mut sink);
                }
                tx.send(now, 200, request.clone(), &mut sink);
                tx.timer(now + Duration::from_secs(60), &mut sink);
                black_box(&sink);
                sink.clear();
                table.remove(id);
            }
            start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
        })
        .fold(f64::INFINITY, f64::min);
    println!("one answered INVITE through table and machines: {best:.0} ns");
}
