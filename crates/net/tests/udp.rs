//! Workers over real UDP sockets on loopback.

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Seen, start};
use switchroom_kernel::ports::net::{Outgoing, Proto, SendError, SocketId};
use switchroom_net::{ListenSpec, NetConfig};

fn spec(addr: &str) -> ListenSpec {
    ListenSpec::new(Proto::Udp, addr.parse().unwrap())
}

fn client(addr: &str) -> UdpSocket {
    let socket = UdpSocket::bind(addr).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buf = [0u8; 65_536];
    let (n, _) = socket.recv_from(&mut buf).unwrap();
    buf[..n].to_vec()
}

#[test]
fn every_datagram_is_answered_by_the_worker_that_owns_its_call() {
    let bench =
        start(vec![spec("127.0.0.1:0"), spec("[::1]:0")], NetConfig { workers: 2, ..NetConfig::default() });
    for (addr, local) in bench.addrs.iter().zip(["127.0.0.1:0", "[::1]:0"]) {
        assert_ne!(addr.port(), 0);
        let socket = client(local);
        for i in 0..200 {
            let text = format!("OPTIONS {i} shard {}\r\n\r\n", i % 2);
            socket.send_to(text.as_bytes(), addr).unwrap();
            assert_eq!(receive(&socket), text.as_bytes());
            let (worker, packet) = bench.wait(|seen| match seen {
                Seen::Packet { worker, packet } => Some((worker, packet)),
                _ => None,
            });
            assert_eq!(worker, i % 2);
            assert_eq!(packet.peer, socket.local_addr().unwrap());
            assert!(packet.conn.is_none());
        }
    }
    let counters = bench.workers.counters().clone();
    // A datagram can arrive before it is counted.
    bench.stop();
    // One client has one flow, so one worker's socket got everything and handed half of it on.
    assert_eq!(counters.total("handed_over"), Some(200));
    assert_eq!(counters.total("udp_received"), Some(400));
    assert_eq!(counters.total("udp_sent"), Some(400));
    assert_eq!(counters.total("no_such_counter"), None);
}

#[test]
fn a_burst_and_the_largest_datagram_arrive_whole() {
    let bench = start(vec![spec("127.0.0.1:0")], NetConfig::default());
    let socket = client("127.0.0.1:0");
    let big = vec![b'x'; 65_507];
    socket.send_to(&big, bench.addrs[0]).unwrap();
    assert_eq!(receive(&socket), big);
    for i in 0..150 {
        socket.send_to(format!("MESSAGE {i}").as_bytes(), bench.addrs[0]).unwrap();
    }
    let mut got: Vec<Vec<u8>> = (0..150).map(|_| receive(&socket)).collect();
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 150);
    bench.stop();
}

#[test]
fn keep_alives_reach_no_handler() {
    let bench = start(vec![spec("127.0.0.1:0")], NetConfig::default());
    let socket = client("127.0.0.1:0");
    for noise in [&b""[..], b"\r\n\r\n", b"\0\0\0\0", b"OPTIONS"] {
        socket.send_to(noise, bench.addrs[0]).unwrap();
    }
    assert_eq!(receive(&socket), b"OPTIONS");
    assert_eq!(bench.workers.counters().total("udp_ignored"), Some(3));
    bench.stop();
}

#[test]
fn what_cannot_be_sent_is_told_to_the_sender() {
    let bench = start(vec![spec("127.0.0.1:0")], NetConfig { workers: 2, ..NetConfig::default() });
    let out = |peer: &str, size: usize, token| Outgoing {
        data: Bytes::from(vec![b'x'; size]),
        socket: SocketId(0),
        peer: peer.parse().unwrap(),
        conn: None,
        no_new_conn: false,
        token,
    };
    let (six, large, unknown) = (
        out("[::1]:5060", 10, 1),
        out("127.0.0.1:5060", 70_000, 2),
        Outgoing { socket: SocketId(9), ..out("127.0.0.1:5060", 10, 3) },
    );
    bench.run(1, move |net| [six, large, unknown].into_iter().for_each(|o| net.send(o)));
    for expected in 1..=3 {
        let failed = bench.wait(|seen| match seen {
            Seen::Failed { worker, token, error } => Some((worker, token, error)),
            _ => None,
        });
        assert_eq!(failed, (1, expected, SendError::Unsendable));
    }
    bench.stop();
}

#[test]
fn deadlines_are_kept_while_nothing_arrives() {
    let bench = start(vec![spec("127.0.0.1:0")], NetConfig::default());
    let sent = Instant::now();
    client("127.0.0.1:0").send_to(b"SLEEP", bench.addrs[0]).unwrap();
    let at = bench.wait(|seen| match seen {
        Seen::Tick { at } => Some(at),
        _ => None,
    });
    assert!(at - sent >= Duration::from_millis(30), "{:?}", at - sent);
    assert!(at - sent < Duration::from_millis(500), "{:?}", at - sent);
    bench.stop();
}

#[test]
fn drain_tells_every_handler_and_ends_the_threads() {
    let bench = start(vec![spec("127.0.0.1:0")], NetConfig { workers: 2, ..NetConfig::default() });
    bench.workers.drain();
    let mut drained: Vec<usize> = (0..2)
        .map(|_| {
            bench.wait(|seen| match seen {
                Seen::Drain { worker } => Some(worker),
                _ => None,
            })
        })
        .collect();
    drained.sort_unstable();
    assert_eq!(drained, [0, 1]);
    let post = bench.workers.post();
    assert_eq!(bench.workers.join(), 0);
    assert!(post.post(0, switchroom_kernel::ports::net::Mail::Drain).is_err());
}

#[test]
fn a_taken_address_is_named_in_the_error() {
    let taken = client("127.0.0.1:0");
    let addr = taken.local_addr().unwrap();
    let error = match switchroom_net::bind(vec![spec(&addr.to_string())], NetConfig::default()) {
        Ok(_) => panic!("{addr} is taken"),
        Err(e) => e.to_string(),
    };
    assert!(error.contains(&addr.to_string()), "{error}");
    let tls = ListenSpec::new(Proto::Tls, "127.0.0.1:0".parse().unwrap());
    assert!(switchroom_net::bind(vec![tls], NetConfig::default()).is_err());
}

#[test]
fn two_programs_cannot_share_an_address_unawares() {
    for proto in [Proto::Udp, Proto::Tcp] {
        let config = || NetConfig { workers: 2, ..NetConfig::default() };
        let listen = |port: u16| ListenSpec::new(proto, format!("127.0.0.1:{port}").parse().unwrap());
        let first = switchroom_net::bind(vec![listen(0)], config()).unwrap();
        let again = vec![listen(first.sockets[0].addr.port())];
        assert!(switchroom_net::bind(again.clone(), config()).is_err());
        drop(first);
        assert!(switchroom_net::bind(again, config()).is_ok());
    }
}
