//! Workers over real TCP connections on loopback.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Bench, Seen, start};
use switchroom_kernel::ports::net::{ConnId, Outgoing, Packet, Proto, SendError, SocketId};
use switchroom_net::{ListenSpec, NetConfig, TcpConfig};

fn bench(workers: usize, tcp: TcpConfig) -> Bench {
    let spec = ListenSpec::new(Proto::Tcp, "127.0.0.1:0".parse().unwrap());
    start(vec![spec], NetConfig { workers, tcp, drain: Duration::from_millis(200), ..NetConfig::default() })
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn message(n: usize, body: &str) -> Vec<u8> {
    format!("OPTIONS sip:{n}@h SIP/2.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn read_exact(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut buf = vec![0; n];
    stream.read_exact(&mut buf).unwrap();
    buf
}

fn packet(bench: &Bench) -> (usize, Packet) {
    bench.wait(|seen| match seen {
        Seen::Packet { worker, packet } => Some((worker, packet)),
        _ => None,
    })
}

fn connection(bench: &Bench, expected: bool) -> (usize, ConnId, SocketAddr) {
    bench.wait(|seen| match seen {
        Seen::Connection { worker, conn, peer, open } if open == expected => Some((worker, conn, peer)),
        _ => None,
    })
}

fn failure(bench: &Bench) -> (usize, u64, SendError) {
    bench.wait(|seen| match seen {
        Seen::Failed { worker, token, error } => Some((worker, token, error)),
        _ => None,
    })
}

fn out(peer: SocketAddr, token: u64) -> Outgoing {
    let data = Bytes::from(message(1, ""));
    Outgoing { data, socket: SocketId(0), peer, conn: None, no_new_conn: false, token }
}

#[test]
fn messages_split_or_joined_on_the_stream_are_answered_one_by_one() {
    let bench = bench(2, TcpConfig::default());
    let mut stream = connect(bench.addrs[0]);
    let (a, b) = (message(1, "first body 0"), message(2, "second body 1"));
    let all = [&a[..], b"\r\n\r\n", &b].concat();
    for chunk in all.chunks(7) {
        stream.write_all(chunk).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    // The two answers come from two workers, so in any order, and the pong stands between or around them.
    let got = read_exact(&mut stream, a.len() + b.len() + 2);
    for part in [&a[..], &b[..]] {
        assert!(got.windows(part.len()).any(|w| w == part), "{}", String::from_utf8_lossy(&got));
    }
    let (conn, joined) = (packet(&bench).1.conn, [&a[..], &a, &a].concat());
    assert_eq!(packet(&bench).1.conn, conn);
    stream.write_all(&joined).unwrap();
    assert_eq!(read_exact(&mut stream, joined.len()), joined);
    assert_eq!(bench.workers.counters().total("tcp_received"), Some(5));
    bench.stop();
}

#[test]
fn ping_gets_a_pong() {
    let bench = bench(1, TcpConfig::default());
    let mut stream = connect(bench.addrs[0]);
    stream.write_all(b"\r\n\r\n").unwrap();
    assert_eq!(read_exact(&mut stream, 2), b"\r\n");
    bench.stop();
}

#[test]
fn any_worker_reuses_an_open_connection() {
    let bench = bench(2, TcpConfig::default());
    let mut stream = connect(bench.addrs[0]);
    let (owner, conn, peer) = connection(&bench, true);
    assert_eq!(peer, stream.local_addr().unwrap());
    assert_eq!(conn.worker(), owner);
    let expected = message(1, "");
    for worker in [0, 1] {
        bench.run(worker, move |net| net.send(out(peer, 0)));
        assert_eq!(read_exact(&mut stream, expected.len()), expected);
        bench.run(worker, move |net| {
            net.send(Outgoing { conn: Some(conn), no_new_conn: true, ..out(peer, 0) })
        });
        assert_eq!(read_exact(&mut stream, expected.len()), expected);
    }
    // And any worker can close it.
    bench.run(1 - owner, move |net| net.close(conn));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(connection(&bench, false).1, conn);
    assert_eq!(bench.workers.counters().total("tcp_open"), Some(0));
    bench.run(1 - owner, move |net| {
        net.send(Outgoing { conn: Some(conn), no_new_conn: true, ..out(peer, 77) });
    });
    assert_eq!(failure(&bench), (1 - owner, 77, SendError::NoConnection));
    bench.stop();
}

#[test]
fn a_new_connection_is_opened_once_and_kept() {
    let bench = bench(1, TcpConfig { connect_timeout: Duration::from_secs(2), ..TcpConfig::default() });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = listener.local_addr().unwrap();
    bench.run(0, move |net| {
        net.send(out(peer, 0));
        net.send(out(peer, 0));
    });
    let (mut stream, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), bench.addrs[0].ip());
    let two = [message(1, ""), message(1, "")].concat();
    assert_eq!(read_exact(&mut stream, two.len()), two);
    stream.write_all(b"SIP/2.0 200 OK\r\nl: 0\r\n\r\n").unwrap();
    assert_eq!(packet(&bench).1.peer, peer);
    assert_eq!(bench.workers.counters().total("tcp_connected"), Some(1));
    bench.stop();
}

#[test]
fn a_refused_connection_fails_every_message_that_waited_for_it() {
    let bench = bench(2, TcpConfig { connect_timeout: Duration::from_secs(2), ..TcpConfig::default() });
    let peer = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench.run(1, move |net| {
        net.send(out(peer, 5));
        net.send(out(peer, 6));
    });
    assert_eq!(failure(&bench), (1, 5, SendError::Refused));
    assert_eq!(failure(&bench), (1, 6, SendError::Refused));
    assert_eq!(bench.workers.counters().total("tcp_open"), Some(0));
    bench.stop();
}

#[test]
fn a_silent_peer_is_given_up_after_the_connect_timeout() {
    let bench = bench(1, TcpConfig { connect_timeout: Duration::from_millis(80), ..TcpConfig::default() });
    // A listener whose queue is full leaves further attempts unanswered.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let peer = socket.local_addr().unwrap().as_socket().unwrap();
    let _filling: Vec<_> =
        (0..3).map(|_| TcpStream::connect_timeout(&peer, Duration::from_millis(50))).collect();
    bench.run(0, move |net| net.send(out(peer, 9)));
    assert_eq!(failure(&bench), (0, 9, SendError::ConnectTimeout));
    bench.stop();
}

#[test]
fn an_idle_connection_is_closed() {
    let bench = bench(1, TcpConfig { lifetime: Duration::from_millis(80), ..TcpConfig::default() });
    let mut stream = connect(bench.addrs[0]);
    let started = Instant::now();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert!(started.elapsed() >= Duration::from_millis(60));
    connection(&bench, false);
    assert_eq!(bench.workers.counters().total("tcp_idle_closed"), Some(1));
    bench.stop();
}

#[test]
fn a_message_that_trickles_in_too_slowly_ends_the_connection() {
    let bench = bench(1, TcpConfig { max_message_time: Duration::from_millis(100), ..TcpConfig::default() });
    let mut stream = connect(bench.addrs[0]);
    let started = Instant::now();
    for byte in b"OPTIONS sip:h SIP/2.0\r\nTo: somebody far away\r\n" {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    connection(&bench, false);
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(bench.workers.counters().total("tcp_protocol_errors"), Some(1));
    bench.stop();
}

#[test]
fn too_large_a_message_ends_the_connection() {
    let bench = bench(1, TcpConfig { max_message: 1000, ..TcpConfig::default() });
    let mut stream = connect(bench.addrs[0]);
    stream.write_all(&message(1, &"x".repeat(2000))).unwrap();
    connection(&bench, false);
    assert_eq!(bench.workers.counters().total("tcp_protocol_errors"), Some(1));
    bench.stop();
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let bench = bench(2, TcpConfig { max_connections: 2, ..TcpConfig::default() });
    let keep: Vec<_> = (0..2).map(|_| connect(bench.addrs[0])).collect();
    connection(&bench, true);
    connection(&bench, true);
    let mut third = connect(bench.addrs[0]);
    assert!(matches!(third.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(bench.workers.counters().total("tcp_refused"), Some(1));
    drop(keep);
    connection(&bench, false);
    connection(&bench, false);
    connect(bench.addrs[0]);
    connection(&bench, true);
    bench.stop();
}

#[test]
fn a_peer_that_does_not_read_fills_only_its_own_queue() {
    let bench = bench(1, TcpConfig { queue_bytes: 50_000, ..TcpConfig::default() });
    let _deaf = connect(bench.addrs[0]);
    let (_, conn, peer) = connection(&bench, true);
    bench.run(0, move |net| {
        let data = Bytes::from(message(1, &"x".repeat(20_000)));
        for token in 1..=1000 {
            net.send(Outgoing { data: data.clone(), conn: Some(conn), ..out(peer, token) });
        }
    });
    assert_eq!(failure(&bench).2, SendError::QueueFull);
    let mut other = connect(bench.addrs[0]);
    let text = message(2, "still served");
    other.write_all(&text).unwrap();
    assert_eq!(read_exact(&mut other, text.len()), text);
    bench.stop();
}
