//! A proxy transaction in a world with a virtual clock: what it sends is written down as short words.

#![allow(dead_code, reason = "each test program uses a part")]

use bytes::Bytes;
use std::time::{Duration, Instant};
use switchroom_engine::proxy::{AddError, NewBranch, Output, Settings, Transaction};
use switchroom_engine::transaction::Timing;
use switchroom_wire::sip::Message;

/// A received reply as a host would keep it.
#[derive(Debug)]
pub struct Received(pub Message);

impl AsRef<Message> for Received {
    fn as_ref(&self) -> &Message {
        &self.0
    }
}

/// How hosts answer by themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub invite: bool,
    pub reliable: bool,
    pub multi_200: bool,
    pub allow_after_6xx: bool,
    /// End every failure route at once without doing anything.
    pub plain_failure: bool,
}

pub struct World {
    pub tx: Transaction<Received, u16>,
    pub invite: bool,
    plain_failure: bool,
    start: Instant,
    now: Instant,
    seen: Vec<String>,
    /// Further targets the host knows for failed branches.
    pub targets: usize,
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "an Instant can only be had from the clock")]
    pub fn new(o: Options) -> World {
        let settings = Settings {
            timing: Timing::default(),
            invite: o.invite,
            local: false,
            reliable: o.reliable,
            allow_after_6xx: o.allow_after_6xx,
            multi_200: o.multi_200,
        };
        let start = Instant::now();
        World {
            tx: Transaction::new(settings),
            invite: o.invite,
            plain_failure: o.plain_failure,
            start,
            now: start,
            seen: Vec::new(),
            targets: 0,
        }
    }

    pub fn invite() -> World {
        World::new(Options { invite: true, plain_failure: true, ..Options::default() })
    }

    /// An INVITE with its branches out and its request route ended.
    pub fn forked(branches: usize) -> World {
        let mut w = World::invite();
        for _ in 0..branches {
            w.add().unwrap();
        }
        w.route_done();
        w.take();
        w
    }

    /// What was sent or asked since the last call.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.seen)
    }

    pub fn new_branch(&self, more_targets: bool, minor: bool) -> NewBranch<u16> {
        let method = if self.invite { "INVITE" } else { "OPTIONS" };
        let index = self.tx.branches().len();
        let request = format!(
            "{method} sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK{index}\r\nVia: SIP/2.0/UDP p;branch=z9hG4bKp\r\n\
             From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
        );
        NewBranch { request: Bytes::from(request), destination: 0, reliable: false, minor, more_targets }
    }

    pub fn add(&mut self) -> Result<usize, AddError> {
        self.add_with(false, false)
    }

    pub fn add_with(&mut self, more_targets: bool, minor: bool) -> Result<usize, AddError> {
        let new = self.new_branch(more_targets, minor);
        self.run(|tx, now, sink| tx.add_branch(now, new, sink))
    }

    pub fn wait(&mut self, n: Option<usize>) -> Result<usize, AddError> {
        self.tx.wait_for_branches(self.now, n, 0)
    }

    pub fn route_done(&mut self) {
        self.run(|tx, now, sink| tx.route_done(now, sink));
    }

    pub fn cancel(&mut self) -> bool {
        self.run(|tx, now, sink| tx.cancel(now, b"", sink))
    }

    pub fn send(&mut self, code: u16) {
        self.run(|tx, now, sink| tx.send(now, code, Bytes::from(format!("own {code}")), sink));
    }

    pub fn reply(&mut self, branch: usize, code: u16) {
        let method = if self.invite { "INVITE" } else { "OPTIONS" };
        self.reply_to(branch, code, method);
    }

    pub fn reply_to(&mut self, branch: usize, code: u16, method: &str) {
        let make = || {
            let raw = format!(
                "SIP/2.0 {code} X\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK{branch}\r\nFrom: <sip:a@h>;tag=1\r\n\
                 To: <sip:b@h>;tag=2\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
            );
            Received(Message::parse(Bytes::from(raw)).unwrap())
        };
        let mut sink = Vec::new();
        self.tx.receive(self.now, branch, &make(), &mut sink);
        let is_new = sink.iter().any(|o| matches!(o, Output::Reply { .. }));
        self.handle(sink);
        if is_new {
            self.run(|tx, now, sink| tx.process(now, branch, make(), sink));
        }
    }

    /// Lets the time pass, with every timer at its moment.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some(at) = self.tx.deadline().filter(|at| *at <= until) {
            assert!(at >= self.now, "a deadline in the past");
            self.now = self.now.max(at);
            self.run(|tx, now, sink| tx.timer(now, sink));
        }
        self.now = until;
    }

    /// Milliseconds since the start.
    pub fn clock(&self) -> u128 {
        (self.now - self.start).as_millis()
    }

    pub fn run<T>(
        &mut self,
        f: impl FnOnce(&mut Transaction<Received, u16>, Instant, &mut Vec<Output<Received>>) -> T,
    ) -> T {
        let mut sink = Vec::new();
        let result = f(&mut self.tx, self.now, &mut sink);
        self.handle(sink);
        result
    }

    fn handle(&mut self, outputs: Vec<Output<Received>>) {
        for output in outputs {
            match output {
                Output::SendRequest { branch } => self.seen.push(format!("request {branch}")),
                Output::SendHopByHop { branch, bytes } => {
                    let m = Message::parse(bytes).unwrap();
                    assert_eq!(m.via().unwrap().branch, Some(format!("z9hG4bK{branch}").as_bytes()));
                    assert_eq!(m.vias().count(), 1);
                    self.seen.push(format!("{} {branch}", String::from_utf8_lossy(m.method_name())));
                }
                Output::SendReply { bytes } => self.seen.push(String::from_utf8_lossy(&bytes).into_owned()),
                Output::Reply { .. } => {}
                Output::Relay { branch, code, reply } => {
                    assert_eq!(reply.0.status(), code);
                    let bytes = Bytes::from(format!("relay {code} of {branch}"));
                    self.run(|tx, now, sink| tx.send(now, code, bytes, sink));
                }
                Output::Generate { code } => self.send(code),
                Output::AllFailed { branch, code } => {
                    let branch = branch.map_or("none".into(), |b| b.to_string());
                    self.seen.push(format!("failed {code} of {branch}"));
                    if self.plain_failure {
                        self.route_done();
                    }
                }
                Output::NextTarget { branch } => {
                    self.seen.push(format!("next {branch}"));
                    if self.targets > 0 {
                        self.targets -= 1;
                        let new = self.new_branch(self.targets > 0, false);
                        let _ = self.run(|tx, now, sink| tx.add_target(now, branch, new, sink));
                    } else {
                        self.run(|tx, now, sink| tx.no_target(now, branch, sink));
                    }
                }
                Output::NoAck => self.seen.push("no ack".into()),
                Output::Done => self.seen.push("done".into()),
            }
        }
    }
}
