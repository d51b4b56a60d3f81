//! TCP beside UDP: calls across both, framing (RFC 3261 §18.3), keep-alive (RFC 5626 §4.4.1).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use switchroom_testkit::Peer;
use switchroom_testkit::peer::{header, headers};

use crate::support::{House, OPEN_CALL, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, SDP, Ua};

fn house() -> House {
    Setup::new(&[PROXY, OPEN_REGISTER, OPEN_CALL]).start()
}

#[test]
fn a_udp_caller_reaches_a_tcp_callee_and_back() {
    let house = house();
    let mut alice = Ua::new("alice", house.addr);
    let mut bob = Ua::tcp("bob", house.addr);
    bob.register_here("");
    let (call, _) = alice.invite("bob", "");
    // The connection that bob registered over is used again; nobody listens at its port.
    let asked = bob.expect("INVITE");
    assert!(header(&asked, "Via").unwrap().starts_with("SIP/2.0/TCP"), "{asked}");
    // Both transports are named, so that each side finds its own (double Record-Route).
    let routes: Vec<&str> = headers(&asked, "Record-Route").collect();
    let routes = routes.join(",");
    assert_eq!(routes.matches("lr").count(), 2, "{asked}");
    assert!(routes.contains("transport=tcp"), "{asked}");
    bob.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    let ack = bob.expect("ACK");
    assert_eq!(header(&ack, "Route"), None, "{ack}");
    // And back: bob ends the call over his connection.
    let back = Call {
        from: "sip:bob@127.0.0.1".into(),
        to: "sip:alice@127.0.0.1".into(),
        tag: "tbob".into(),
        to_tag: format!(";tag={}", call.tag),
        ..call.clone()
    };
    let more: String = headers(&asked, "Record-Route").map(|r| format!("Route: {r}\r\n")).collect();
    let bye = bob.request("BYE", &alice.contact(), &back, &more);
    bob.send(bye);
    let bye = alice.expect("BYE");
    assert!(header(&bye, "Via").unwrap().starts_with("SIP/2.0/UDP"), "{bye}");
    alice.reply(&bye, "200 OK");
    bob.expect_reply(200, &call);
}

#[test]
fn a_tcp_caller_reaches_a_udp_callee() {
    let house = house();
    let mut alice = Ua::tcp("alice", house.addr);
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    assert!(asked.ends_with(SDP), "{asked}");
    bob.reply(&asked, "486 Busy Here");
    bob.expect("ACK");
    let busy = alice.expect_reply(486, &call);
    alice.ack_failure(&invite, &busy);
}

#[test]
fn a_callee_that_listens_on_tcp_is_connected_to() {
    let house = house();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let contact = format!("Contact: <sip:bob@{};transport=tcp>\r\n", listener.local_addr().unwrap());
    let mut bob = Ua::new("bob", house.addr);
    bob.register(&mut Call::new("bob", "bob"), &contact);
    let mut alice = Ua::new("alice", house.addr);
    let (call, invite) = alice.invite("bob", "");
    bob.peer = Peer::accept(&listener);
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "603 Decline");
    bob.expect("ACK");
    let reply = alice.expect_reply(603, &call);
    alice.ack_failure(&invite, &reply);
}

#[test]
fn a_refused_connection_ends_the_call_at_once() {
    let house = house();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut bob = Ua::new("bob", house.addr);
    let contact = format!("Contact: <sip:bob@{closed};transport=tcp>\r\n");
    bob.register(&mut Call::new("bob", "bob"), &contact);
    let mut alice = Ua::new("alice", house.addr);
    let started = Instant::now();
    let (call, invite) = alice.invite("bob", "");
    let reply = alice.peer.wait_for(Duration::from_secs(5), |m| {
        header(m, "Call-ID") == Some(&call.id) && !m.starts_with("SIP/2.0 100")
    });
    let reply = reply.expect("no final reply");
    // As good as a 503 from there (RFC 3261 §16.9), which is not passed on as such (§16.7).
    assert!(["408", "477", "500", "503"].contains(&&reply[8..11]), "{reply}");
    assert!(started.elapsed() < Duration::from_secs(4), "{reply}");
    alice.ack_failure(&invite, &reply);
}

#[test]
fn messages_are_cut_from_the_stream_wherever_the_segments_end() {
    let house = Setup::new(&["route { send_reply(200, \"OK\"); }\n"]).start();
    let mut ua = Ua::tcp("alice", house.addr);
    let calls: Vec<Call> = (0..3).map(|_| Call::new("alice", "alice")).collect();
    let texts: Vec<String> = calls
        .iter()
        .map(|c| ua.request("INVITE", "sip:127.0.0.1", c, "").replace("INVITE", "OPTIONS"))
        .collect();
    // Three in one segment.
    ua.send(texts.concat());
    for call in &calls {
        ua.expect_reply(200, call);
    }
    // One in pieces, cut inside the header, the blank line and the body, with line ends before it.
    let mut call = Call::new("alice", "alice");
    call.cseq = 9;
    let text = ua.request("INVITE", "sip:127.0.0.1", &call, "").replace("INVITE", "OPTIONS");
    let blank = text.find("\r\n\r\n").unwrap();
    let mut from = 0;
    ua.send("\r\n");
    for to in [5, blank + 1, blank + 3, blank + 20, text.len()] {
        ua.send(&text[from..to]);
        // A segment of its own; there is nothing to wait for.
        std::thread::sleep(Duration::from_millis(20));
        from = to;
    }
    ua.expect_reply(200, &call);
}

#[test]
fn a_double_line_end_is_answered_with_a_single_one() {
    let house = house();
    let mut stream = TcpStream::connect(house.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\r\n");
}

#[test]
fn a_stream_that_is_no_sip_is_closed_and_the_server_stays() {
    let house = house();
    let too_long = format!("OPTIONS sip:x SIP/2.0\r\nX: {}", "a".repeat(400_000));
    let huge = "OPTIONS sip:x SIP/2.0\r\nCall-ID: h\r\nContent-Length: 999999999\r\n\r\n".to_owned();
    let bad_length = "OPTIONS sip:x SIP/2.0\r\nCall-ID: h\r\nContent-Length: x\r\n\r\n".to_owned();
    for bytes in [too_long, huge, bad_length] {
        let mut stream = TcpStream::connect(house.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The server may close before all of it was written.
        let _ = stream.write_all(bytes.as_bytes());
        let mut rest = Vec::new();
        if let Err(e) = stream.read_to_end(&mut rest) {
            assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}: not closed");
        }
    }
    Ua::tcp("bob", house.addr).register_here("");
}

#[test]
fn with_the_persistent_flag_a_connection_outlives_its_silence_as_long_as_the_binding() {
    const REGISTER: &str = r#"
route {
    if ($hdr(X-Keep) != NULL) setflag("KEEP");
    save("location");
}
"#;
    let params = "tcp_connection_lifetime=1\nmodparam(\"registrar\", \"tcp_persistent_flag\", \"KEEP\")\n";
    let house = Setup::new(&[REGISTER]).params(params).start();
    let (mut kept, mut left) = (Ua::tcp("kept", house.addr), Ua::tcp("left", house.addr));
    let contact = |ua: &Ua| format!("Contact: <{}>;expires=60\r\n", ua.contact());
    let lines = contact(&kept) + "X-Keep: 1\r\n";
    assert!(kept.register(&mut Call::new("kept", "kept"), &lines).starts_with("SIP/2.0 200"));
    let lines = contact(&left);
    assert!(left.register(&mut Call::new("left", "left"), &lines).starts_with("SIP/2.0 200"));
    let closed = || house.mi_json(&["statistics:get", "tcp_idle_closed"]).to_string();
    let until = Instant::now() + Duration::from_secs(8);
    while !closed().contains(":1") {
        assert!(Instant::now() < until, "{}", closed());
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert!(closed().contains(":1"), "{}", closed());
    assert!(kept.register(&mut Call::new("kept", "kept"), "").starts_with("SIP/2.0 200"));
}

#[test]
fn connections_are_listed_closed_by_command_and_their_end_is_an_event() {
    let routes = r#"
event_route[E_CORE_TCP_DISCONNECT] {
    xlog("L_NOTICE", "gone: $param(proto) $param(src_ip):$param(src_port) to $param(dst_ip)\n");
}
"#;
    let house =
        Setup::new(&[PROXY, OPEN_REGISTER, OPEN_CALL, routes]).params("log_level=3\nxlog_level=3").start();
    let mut bob = Ua::tcp("bob", house.addr);
    bob.register_here("");
    let listed = house.mi_json(&["tcp:list"]);
    let one = &listed["Connections"][0];
    let here = bob.peer.addr().to_string();
    assert_eq!((one["Type"].as_str(), one["Source"].as_str()), (Some("tcp"), Some(&here[..])), "{listed}");
    assert_eq!(one["Destination"].as_str(), Some(&house.addr.to_string()[..]), "{listed}");
    assert_eq!(house.mi_json(&["list_tcp_conns", "tls"])["Connections"].as_array().map(Vec::len), Some(0));
    assert!(!house.mi(&["tcp:close", "192.0.2.1:5060"]).0, "there is none from there");
    assert!(house.mi(&["tcp:close", &here]).0);
    house.expect_log(&format!("gone: tcp {here} to 127.0.0.1"));
    assert_eq!(house.mi_json(&["tcp:list"])["Connections"].as_array().map(Vec::len), Some(0));
}
