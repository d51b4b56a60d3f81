//! What no well-behaved peer sends: answered with 400 where it can be, dropped where not, and the server stays up.

use std::time::Duration;

use switchroom_testkit::peer::header;

use crate::support::{House, OPEN_CALL, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua};

fn house() -> House {
    Setup::new(&[PROXY, OPEN_REGISTER, OPEN_CALL]).start()
}

/// The server still does its work.
#[track_caller]
fn assert_alive(house: &House) {
    Ua::new("probe", house.addr).register_here("");
    assert_eq!(house.count_log("panick"), 0);
}

#[test]
fn a_request_with_a_fault_is_answered_with_400_and_not_relayed() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    let mut alice = Ua::new("alice", house.addr);
    let faults: &[(&str, &dyn Fn(&str) -> String)] = &[
        ("a body that is shorter than announced", &|t| t.replace("Content-Length: 0", "Content-Length: 50")),
        ("a Content-Length that is no number", &|t| t.replace("Content-Length: 0", "Content-Length: many")),
        ("a negative Content-Length", &|t| t.replace("Content-Length: 0", "Content-Length: -1")),
        ("a CSeq without number", &|t| t.replace("CSeq: 1 OPTIONS", "CSeq: OPTIONS")),
        ("a CSeq with another method", &|t| t.replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE")),
        ("no To", &|t| t.replace("To: ", "X-To: ")),
        ("no From", &|t| t.replace("From: ", "X-From: ")),
        ("no CSeq", &|t| t.replace("CSeq: ", "X-CSeq: ")),
        ("a CSeq of 2^31", &|t| t.replace("CSeq: 1 ", "CSeq: 2147483648 ")),
        ("a quote in To that does not end", &|t| t.replace("To: <", "To: \"Bob <")),
        ("a quote in From that does not end", &|t| t.replace("From: <", "From: \"Alice <")),
        ("a blank in the URI of To", &|t| t.replace("To: <sip:bob@", "To: <sip:bob @")),
        ("a URI with headers but without brackets", &|t| {
            t.replace("To: <sip:bob@127.0.0.1>", "To: sip:bob@127.0.0.1?Route=%3Csip:x%3E")
        }),
        ("a Request-URI in brackets", &|t| t.replacen(" sip:bob@127.0.0.1 ", " <sip:bob@127.0.0.1> ", 1)),
        ("a blank in the Request-URI", &|t| t.replacen(" sip:bob@127.0.0.1 ", " sip:bob@127.0.0.1; lr ", 1)),
        ("two blanks before the Request-URI", &|t| t.replacen(" sip:bob", "  sip:bob", 1)),
        ("a Request-URI without host", &|t| t.replacen(" sip:bob@127.0.0.1 ", " sip:bob@ ", 1)),
        ("a Max-Forwards that is no number", &|t| t.replace("Max-Forwards: 70", "Max-Forwards: many")),
        ("a second From", &|t| t.replace("To: ", "From: <sip:c@127.0.0.1>;tag=c\r\nTo: ")),
        ("a port in Via above 65535", &|t| t.replacen(";branch=", "0000;branch=", 1)),
    ];
    for (what, spoil) in faults {
        let call = Call::new("alice", "bob");
        let text = spoil(&alice.request("OPTIONS", &call.to, &call, ""));
        alice.send(&text);
        let reply = alice.peer.wait_for(Duration::from_secs(2), |m| m.starts_with("SIP/2.0 "));
        let reply = reply.unwrap_or_else(|| panic!("{what}: no answer"));
        assert!(reply.starts_with("SIP/2.0 400 "), "{what}: {reply}");
    }
    let relayed = bob.peer.wait_for(Duration::from_millis(100), |m| m.starts_with("OPTIONS"));
    assert!(relayed.is_none(), "{relayed:?}");
    assert_alive(&house);
}

#[test]
fn another_version_of_the_protocol_is_505() {
    let house = house();
    let mut alice = Ua::new("alice", house.addr);
    let call = Call::new("alice", "bob");
    let text = alice.request("OPTIONS", &call.to, &call, "");
    alice.send(text.replacen(" SIP/2.0\r\n", " SIP/7.0\r\n", 1));
    alice.expect_reply(505, &call);
    assert_alive(&house);
}

#[test]
fn what_cannot_be_answered_is_dropped() {
    let house = house();
    let mut alice = Ua::new("alice", house.addr);
    let call = Call::new("alice", "bob");
    let good = alice.request("OPTIONS", &call.to, &call, "");
    let mut floods: Vec<Vec<u8>> = vec![
        b"\0".to_vec(),
        b"\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
        b"SIP/2.0 999999 OK\r\nVia: x\r\n\r\n".to_vec(),
        good.replace("Via: ", "X-Via: ").into_bytes(),
        // A malformed ACK is never answered (RFC 3261 §17).
        good.replace("OPTIONS", "ACK").replace("CSeq: 1", "CSeq: x").into_bytes(),
        vec![b'a'; 60_000],
        vec![0xff; 60_000],
        format!("OPTIONS {} SIP/2.0\r\n\r\n", "(".repeat(30_000)).into_bytes(),
    ];
    // Every beginning of a good message, too.
    floods.extend((1..60).map(|n| good.as_bytes()[..n].to_vec()));
    for bytes in &floods {
        alice.send(bytes);
    }
    let reply = alice.peer.wait_for(Duration::from_millis(300), |m| m.starts_with("SIP/2.0 2"));
    assert!(reply.is_none(), "{reply:?}");
    assert_alive(&house);
}

#[test]
fn many_headers_and_long_values_are_carried_or_refused_but_never_a_crash() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    let mut alice = Ua::new("alice", house.addr);
    let long = format!("X-Long: {}\r\n", "b".repeat(20_000));
    let many: String = (0..1500).map(|n| format!("X-{n}: {n}\r\n")).collect();
    for more in [long, many] {
        let call = Call::new("alice", "bob");
        let text = alice.request("OPTIONS", &call.to, &call, &more);
        alice.send(&text);
        let id = call.id.clone();
        let passed = bob.peer.wait_for(Duration::from_secs(1), |m| header(m, "Call-ID") == Some(&id));
        match passed {
            Some(text) => {
                assert!(text.contains(more.trim_end()), "headers are forwarded byte for byte");
                bob.reply(&text, "200 OK");
                alice.expect_reply(200, &call);
            }
            None => drop(alice.expect("SIP/2.0 4")),
        }
    }
    assert_alive(&house);
}

#[test]
fn max_forwards_0_is_483_and_a_missing_one_is_added() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    let mut alice = Ua::new("alice", house.addr);
    let call = Call::new("alice", "bob");
    let text = alice.request("OPTIONS", &call.to, &call, "");
    alice.send(text.replace("Max-Forwards: 70", "Max-Forwards: 0"));
    alice.expect_reply(483, &call);
    let call = Call::new("alice", "bob");
    let text = alice.request("OPTIONS", &call.to, &call, "");
    alice.send(text.replace("Max-Forwards: 70\r\n", ""));
    let passed = bob.expect("OPTIONS");
    assert_eq!(header(&passed, "Max-Forwards"), Some("10"), "{passed}");
    let call = Call::new("alice", "bob");
    let text = alice.request("OPTIONS", &call.to, &call, "");
    alice.send(text.replace("Max-Forwards: 70", "Max-Forwards: 7"));
    let id = call.id.clone();
    let passed = bob.peer.wait_for(Duration::from_secs(5), |m| header(m, "Call-ID") == Some(&id)).unwrap();
    assert_eq!(header(&passed, "Max-Forwards"), Some("6"), "{passed}");
}

#[test]
fn a_request_that_goes_in_circles_ends() {
    let house = house();
    // Somebody's contact is the server itself.
    let mut bob = Ua::new("bob", house.addr);
    let contact = format!("Contact: <sip:bob@{}>;expires=600\r\n", house.addr);
    bob.register(&mut Call::new("bob", "bob"), &contact);
    let mut alice = Ua::new("alice", house.addr);
    let (call, invite) = alice.invite("bob", "");
    let reply = alice.peer.wait_for(Duration::from_secs(5), |m| {
        header(m, "Call-ID") == Some(&call.id) && !m.starts_with("SIP/2.0 100")
    });
    let reply = reply.expect("no final reply");
    assert!(reply.starts_with("SIP/2.0 482") || reply.starts_with("SIP/2.0 483"), "{reply}");
    alice.ack_failure(&invite, &reply);
    assert_alive(&house);
}

#[test]
fn names_are_resolved_and_an_unknown_one_is_478() {
    let routes = r#"
route {
    if (has_totag()) { t_relay(); exit; }
    record_route();
    t_relay();
    if ($rc == -4) t_reply(478, "Unresolvable destination");
    else if ($rc < 0) t_reply(500, "rc $rc");
}
"#;
    let house = Setup::new(&[routes]).params("dns_retr_time=1\ndns_retr_no=1").start();
    let mut bob = Ua::new("bob", house.addr);
    let mut alice = Ua::new("alice", house.addr);
    let call = Call::new("alice", "bob");
    let text = alice.request("OPTIONS", &format!("sip:bob@localhost:{}", bob.peer.addr().port()), &call, "");
    alice.send(text);
    let passed = bob.expect("OPTIONS");
    bob.reply(&passed, "200 OK");
    alice.expect_reply(200, &call);
    let call = Call::new("alice", "bob");
    let text = alice.request("OPTIONS", "sip:bob@no-such-host.invalid", &call, "");
    alice.send(text);
    alice.expect_reply(478, &call);
    assert_alive_quickly(&mut alice, &mut bob);
}

/// A name that is slow does not hold up the others.
fn assert_alive_quickly(alice: &mut Ua, bob: &mut Ua) {
    let call = Call::new("alice", "bob");
    let text = alice.request("OPTIONS", &bob.contact(), &call, "");
    alice.send(text);
    let id = call.id.clone();
    let passed = bob.peer.wait_for(Duration::from_secs(1), |m| header(m, "Call-ID") == Some(&id));
    bob.reply(&passed.expect("not relayed"), "200 OK");
    alice.expect_reply(200, &call);
}
