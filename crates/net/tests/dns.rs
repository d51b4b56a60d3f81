//! The resolver against a name server of a few hand-written answers.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use switchroom_kernel::ports::net::{ResolveError, SrvRecord};
use switchroom_net::dns::{DnsConfig, resolver};
use switchroom_net::timers::Control;

fn labels(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|l| !l.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Vec<u8> {
    let mut data: Vec<u8> = [priority, weight, port].iter().flat_map(|n| n.to_be_bytes()).collect();
    data.extend(labels(target));
    data
}

fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Vec<u8> {
    let mut data: Vec<u8> = [order, preference].iter().flat_map(|n| n.to_be_bytes()).collect();
    for text in ["s", service, ""] {
        data.push(text.len() as u8);
        data.extend_from_slice(text.as_bytes());
    }
    data.extend(labels(replacement));
    data
}

/// What is known: type and data by name.
fn zone(name: &str, kind: u16) -> Option<Vec<Vec<u8>>> {
    Some(match (name, kind) {
        ("host.example.test", 1) => vec![vec![192, 0, 2, 7], vec![192, 0, 2, 8]],
        ("_sip._udp.example.test", 33) => {
            vec![srv(20, 0, 5070, "backup.example.test"), srv(10, 5, 5060, "host.example.test")]
        }
        ("example.test", 35) => vec![
            naptr(50, 50, "SIP+D2T", "_sip._tcp.example.test"),
            naptr(10, 50, "SIP+D2U", "_sip._udp.example.test"),
        ],
        ("example.test" | "host.example.test" | "_sip._udp.example.test", _) => vec![],
        _ => return None,
    })
}

fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buf = [0u8; 1500];
        while let Ok((n, peer)) = socket.recv_from(&mut buf) {
            let query = &buf[..n];
            let (mut at, mut name) = (12, Vec::new());
            while query[at] != 0 {
                let len = usize::from(query[at]);
                name.push(String::from_utf8_lossy(&query[at + 1..at + 1 + len]).to_lowercase());
                at += len + 1;
            }
            let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
            let question = &query[12..at + 5];
            let found = zone(&name.join("."), kind);
            let answers = found.clone().unwrap_or_default();
            let mut reply = query[..2].to_vec();
            reply.extend([
                0x85,
                if found.is_some() { 0x80 } else { 0x83 },
                0,
                1,
                0,
                answers.len() as u8,
                0,
                0,
                0,
                0,
            ]);
            reply.extend_from_slice(question);
            for data in answers {
                reply.extend([0xc0, 12]);
                reply.extend(kind.to_be_bytes());
                reply.extend([0, 1, 0, 0, 0, 60]);
                reply.extend((data.len() as u16).to_be_bytes());
                reply.extend(data);
            }
            let _ = socket.send_to(&reply, peer);
        }
    });
    addr
}

fn config(server: SocketAddr) -> DnsConfig {
    DnsConfig {
        servers: vec![server],
        timeout: Duration::from_millis(300),
        attempts: 1,
        ..DnsConfig::default()
    }
}

#[test]
fn records_come_back_in_the_order_of_use() {
    let control = Control::start().unwrap();
    let handle = control.handle();
    let dns = resolver(config(name_server()), &handle).unwrap();
    let ips: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap()];
    let mut found = handle.block_on(dns.addresses("host.example.test")).unwrap();
    found.sort();
    assert_eq!(found, ips);
    let record = |priority, weight, port, target: &str| SrvRecord {
        priority,
        weight,
        port,
        target: target.to_owned(),
    };
    assert_eq!(
        handle.block_on(dns.srv("_sip._udp.example.test")).unwrap(),
        [record(10, 5, 5060, "host.example.test"), record(20, 0, 5070, "backup.example.test")]
    );
    let naptr = handle.block_on(dns.naptr("example.test")).unwrap();
    assert_eq!(naptr.iter().map(|n| n.service.as_str()).collect::<Vec<_>>(), ["SIP+D2U", "SIP+D2T"]);
    assert_eq!((naptr[0].flags.as_str(), naptr[0].replacement.as_str()), ("s", "_sip._udp.example.test"));
}

#[test]
fn literals_and_the_hosts_file_need_no_server() {
    let control = Control::start().unwrap();
    let handle = control.handle();
    let dns = resolver(config("127.0.0.1:9".parse().unwrap()), &handle).unwrap();
    for (name, ip) in
        [("192.0.2.1", "192.0.2.1"), ("[2001:db8::1]", "2001:db8::1"), ("localhost", "127.0.0.1")]
    {
        let found = handle.block_on(dns.addresses(name)).unwrap();
        assert!(found.contains(&ip.parse().unwrap()), "{name}: {found:?}");
    }
}

#[test]
fn missing_names_and_silent_servers_are_told_apart() {
    let control = Control::start().unwrap();
    let handle = control.handle();
    let dns = resolver(config(name_server()), &handle).unwrap();
    assert_eq!(handle.block_on(dns.addresses("nobody.example.test")), Err(ResolveError::NotFound));
    assert_eq!(handle.block_on(dns.srv("_sip._tcp.example.test")), Err(ResolveError::NotFound));
    assert_eq!(handle.block_on(dns.naptr("host.example.test")), Err(ResolveError::NotFound));
    assert_eq!(handle.block_on(dns.srv("not..a name")), Err(ResolveError::NotFound));
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dns = resolver(config(silent.local_addr().unwrap()), &handle).unwrap();
    assert_eq!(handle.block_on(dns.srv("_sip._udp.example.test")), Err(ResolveError::Timeout));
}
