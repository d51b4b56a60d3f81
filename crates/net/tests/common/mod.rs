//! A handler that answers every message with itself and tells the test what happened.

use std::any::Any;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Context;
use std::time::{Duration, Instant};

use switchroom_kernel::ports::net::{ConnId, Handler, Mail, Net, Outgoing, Packet, SendError, SocketId};
use switchroom_net::{ListenSpec, NetConfig, Seat, Workers, bind};

/// What a worker saw.
#[derive(Debug)]
#[allow(dead_code, reason = "each test file looks at its own part")]
pub enum Seen {
    Packet { worker: usize, packet: Packet },
    Failed { worker: usize, token: u64, error: SendError },
    Connection { worker: usize, conn: ConnId, peer: SocketAddr, open: bool },
    Tick { at: Instant },
    Drain { worker: usize },
}

/// Running workers with their report.
pub struct Bench {
    pub workers: Workers,
    pub addrs: Vec<SocketAddr>,
    pub seen: Receiver<Seen>,
}

/// The shard of a test message is the number before its end: `... 1\r\n\r\n`.
fn shard_of(raw: &[u8], workers: usize) -> Option<usize> {
    let digit = raw.iter().rev().find(|b| b.is_ascii_graphic()).filter(|b| b.is_ascii_digit())?;
    Some(usize::from(digit - b'0') % workers)
}

pub fn start(specs: Vec<ListenSpec>, config: NetConfig) -> Bench {
    let bound = bind(specs, NetConfig { shard_of, ..config }).unwrap();
    let addrs = bound.sockets.iter().map(|s| s.addr).collect();
    let (tell, seen) = channel();
    let workers = bound
        .start(move |seat: Seat| {
            Rc::new(Echo { seat, tell: tell.clone(), deadline: RefCell::default() }) as Rc<dyn Handler>
        })
        .unwrap();
    Bench { workers, addrs, seen }
}

impl Bench {
    /// The next event for which `pick` gives something; others are passed over.
    pub fn wait<T>(&self, mut pick: impl FnMut(Seen) -> Option<T>) -> T {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let seen = self.seen.recv_timeout(left).expect("the event within five seconds");
            if let Some(got) = pick(seen) {
                return got;
            }
        }
    }

    #[allow(dead_code, reason = "each test file uses its own part")]
    pub fn run(&self, worker: usize, work: impl FnOnce(&dyn Net) + Send + 'static) {
        let run = Mail::Run(Box::new(move |net: &dyn Any| {
            work(&**net.downcast_ref::<Rc<dyn Net>>().unwrap());
        }));
        assert!(self.workers.post().post(worker, run).is_ok());
    }

    pub fn stop(self) {
        self.workers.drain();
        assert_eq!(self.workers.join(), 0);
    }
}

struct Echo {
    seat: Seat,
    tell: Sender<Seen>,
    deadline: RefCell<Option<Instant>>,
}

impl Echo {
    fn see(&self, seen: Seen) {
        // The test may be over already.
        let _ = self.tell.send(seen);
    }
}

impl Handler for Echo {
    fn packet(&self, packet: Packet) {
        let Packet { data, socket, peer, conn } = packet.clone();
        if data.starts_with(b"SLEEP") {
            *self.deadline.borrow_mut() = Some(self.seat.net.now() + Duration::from_millis(30));
        } else if !data.starts_with(b"SIP/2.0") {
            self.seat.net.send(Outgoing { data, socket, peer, conn, no_new_conn: false, token: 0 });
        }
        self.see(Seen::Packet { worker: self.seat.worker, packet });
    }

    fn send_failed(&self, token: u64, error: SendError) {
        self.see(Seen::Failed { worker: self.seat.worker, token, error });
    }

    fn connection(&self, conn: ConnId, peer: SocketAddr, _socket: SocketId, open: bool) {
        self.see(Seen::Connection { worker: self.seat.worker, conn, peer, open });
    }

    fn mail(&self, mail: Mail) {
        match mail {
            Mail::Run(work) => work(&self.seat.net),
            Mail::Drain => self.see(Seen::Drain { worker: self.seat.worker }),
            _ => panic!("the driver keeps other mail for itself"),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        *self.deadline.borrow()
    }

    fn tick(&self, now: Instant) {
        *self.deadline.borrow_mut() = None;
        self.see(Seen::Tick { at: now });
    }

    fn poll_waits(&self, _cx: &mut Context<'_>) {}
}
