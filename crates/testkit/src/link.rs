//! A UDP link that loses packets, the same ones for the same seed.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// A relay on loopback: what clients send to [`LossyLink::addr`] goes to the server, each client from a port of its own, and
/// answers go back. It ends when dropped.
pub struct LossyLink {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    stop: AtomicBool,
    percent: u64,
    passed: AtomicU64,
    lost: AtomicU64,
}

impl LossyLink {
    /// A link to `server` that loses `percent` of the packets in each direction, chosen by `seed`.
    ///
    /// # Panics
    /// When no socket can be opened.
    pub fn start(server: SocketAddr, percent: u8, seed: u64) -> LossyLink {
        let front = Arc::new(open());
        let addr = front.local_addr().unwrap_or_else(|e| panic!("link: {e}"));
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            percent: u64::from(percent.min(100)),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let all = shared.clone();
        thread::spawn(move || forward(&front, server, seed, &all));
        LossyLink { addr, shared }
    }

    /// Where clients send to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Packets that passed and packets that were lost.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.passed.load(Relaxed), self.shared.lost.load(Relaxed))
    }
}

impl Drop for LossyLink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

impl Shared {
    /// Draws whether the next packet passes.
    fn passes(&self, chance: &mut Chance) -> bool {
        let passes = chance.next() % 100 >= self.percent;
        if passes { &self.passed } else { &self.lost }.fetch_add(1, Relaxed);
        passes
    }
}

/// From the clients to the server.
fn forward(front: &Arc<UdpSocket>, server: SocketAddr, seed: u64, shared: &Arc<Shared>) {
    let mut clients: HashMap<SocketAddr, (Arc<UdpSocket>, Chance)> = HashMap::new();
    let mut buf = [0; 65_536];
    while !shared.stop.load(Relaxed) {
        let Ok((n, client)) = front.recv_from(&mut buf) else { continue };
        let number = clients.len() as u64;
        let (back, chance) = clients.entry(client).or_insert_with(|| {
            let back = Arc::new(open());
            let (front, shared, replies) = (front.clone(), shared.clone(), back.clone());
            let chance = Chance(seed ^ (2 * number + 1));
            thread::spawn(move || backward(&replies, &front, client, chance, &shared));
            (back, Chance(seed ^ (2 * number)))
        });
        if shared.passes(chance) {
            // A server that is gone is a loss like any other.
            let _ = back.send_to(&buf[..n], server);
        }
    }
}

/// From the server to one client.
fn backward(back: &UdpSocket, front: &UdpSocket, client: SocketAddr, mut chance: Chance, shared: &Shared) {
    let mut buf = [0; 65_536];
    while !shared.stop.load(Relaxed) {
        let Ok((n, _)) = back.recv_from(&mut buf) else { continue };
        if shared.passes(&mut chance) {
            let _ = front.send_to(&buf[..n], client);
        }
    }
}

/// Seeded chance (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn open() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("link: {e}"));
    // So that the threads see the end.
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap_or_else(|e| panic!("link: {e}"));
    socket
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(seed: u64, percent: u8) -> Vec<u8> {
        let server = open();
        let link = LossyLink::start(server.local_addr().unwrap(), percent, seed);
        let client = open();
        let mut got = Vec::new();
        let mut buf = [0; 16];
        for i in 0..100u8 {
            client.send_to(&[i], link.addr()).unwrap();
            // One at a time, so that only the link can lose anything.
            while link.counts().0 + link.counts().1 <= u64::from(i) {
                thread::yield_now();
            }
        }
        while let Ok((1, _)) = server.recv_from(&mut buf) {
            got.push(buf[0]);
        }
        got
    }

    #[test]
    fn the_same_seed_loses_the_same_packets() {
        let first = received(7, 10);
        assert!((80..98).contains(&first.len()), "{}", first.len());
        assert_eq!(first, received(7, 10));
        assert_ne!(first, received(8, 10));
        assert_eq!(received(7, 0).len(), 100);
    }

    #[test]
    fn answers_find_their_client() {
        let server = open();
        let link = LossyLink::start(server.local_addr().unwrap(), 0, 1);
        let (a, b) = (open(), open());
        let mut buf = [0; 16];
        for (client, text) in [(&a, b"a"), (&b, b"b")] {
            client.send_to(text, link.addr()).unwrap();
            let (n, from) = server.recv_from(&mut buf).unwrap();
            server.send_to(&buf[..n], from).unwrap();
            let (n, from) = client.recv_from(&mut buf).unwrap();
            assert_eq!((&buf[..n], from), (&text[..], link.addr()));
        }
    }
}
