//! Free ports on loopback.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// A port that nobody on 127.0.0.1 uses, for UDP and TCP, and that this process has not given away before.
///
/// Tests run as processes of their own, so each begins to search at another place, below the range from which the system
/// takes ports for outgoing connections.
///
/// # Panics
/// When no port is free.
pub fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Relaxed) % COUNT) % COUNT;
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port between {FIRST} and {} is free", FIRST + COUNT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_not_given_twice() {
        let (a, b) = (free_port(), free_port());
        assert_ne!(a, b);
        UdpSocket::bind(("127.0.0.1", a)).unwrap();
    }
}
