//! Free ports on loopback.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use parking_lot::Mutex;

/// A port that nobody on 127.0.0.1 uses, for UDP and TCP, and that this process has not given away before.
///
/// Tests run as processes of their own, so each begins to search at another place, below the range from which the system
/// takes ports for outgoing connections. A port stays with its process until that ends, by a locked file: between this call
/// and the moment when the program under test opens the port there may be seconds, and another test must not get it then.
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
        let Some(ours) = reserve(port) else { continue };
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            RESERVED.lock().push(ours);
            return port;
        }
    }
    panic!("no port between {FIRST} and {} is free", FIRST + COUNT);
}

/// Locked for as long as the process lives.
static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// The locked file of a port, unless another process has it.
fn reserve(port: u16) -> Option<File> {
    let folder = std::env::temp_dir().join("switchroom-test-ports");
    fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let path = folder.join(port.to_string());
    let file = File::options().create(true).append(true).open(&path);
    let file = file.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.try_lock().ok().map(|()| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_not_given_twice() {
        let (a, b) = (free_port(), free_port());
        assert_ne!(a, b);
        UdpSocket::bind(("127.0.0.1", a)).unwrap();
        assert!(reserve(a).is_none(), "another process would not get it");
    }
}
