//! More than the server can do: new work is refused early, what belongs to calls in progress is not, and afterwards all is well.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use switchroom_testkit::peer::header;

use crate::support::Setup;
use crate::ua::{Call, Ua};

/// Every request costs the script a few thousand steps.
const SLOW: &str = r#"
route {
    $var(i) = 0;
    while ($var(i) < 2000) { $var(i) = $var(i) + 1; }
    sl_send_reply(200, "OK");
}
"#;

/// The same, and calls ring until somebody gives up.
const WAITS: &str = r#"
route {
    if (is_method("INVITE")) { t_newtran(); t_reply(183, "Session Progress"); t_wait_for_new_branches(); exit; }
    $var(i) = 0;
    while ($var(i) < 2000) { $var(i) = $var(i) + 1; }
    sl_send_reply(200, "OK");
}
"#;

/// What happened is told once, and seen in the statistics.
const TOLD: &str = r#"
event_route[E_CORE_OVERLOAD] { xlog("L_ALERT", "overload: $param(state)\n"); }
"#;

#[test]
fn new_work_is_refused_while_too_much_comes_and_let_in_again_afterwards() {
    let house = Setup::new(&[SLOW, TOLD]).start();
    let mut alice = Ua::new("alice", house.addr);
    let flood = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    flood.set_nonblocking(true).expect("a socket that does not wait");
    flood.connect(house.addr).expect("an address");
    let end = Instant::now() + Duration::from_secs(20);
    let mut answer = [0; 2048];
    let (mut refused, mut inside_dialog) = (None, 0);
    // The flood goes on until the server has said that it is too much and has still answered requests of calls in progress.
    while refused.is_none() || inside_dialog < 5 {
        assert!(Instant::now() < end, "{refused:?}, {inside_dialog} answered inside dialogs");
        for _ in 0..50 {
            let call = Call::new("alice", "bob");
            drop(flood.send(alice.request("OPTIONS", "sip:127.0.0.1", &call, "").as_bytes()));
            let mut known = Call::new("alice", "bob");
            known.to_tag = ";tag=known".to_owned();
            drop(flood.send(alice.request("INFO", "sip:127.0.0.1", &known, "").as_bytes()));
        }
        while let Ok(n) = flood.recv(&mut answer) {
            let text = String::from_utf8_lossy(&answer[..n]).into_owned();
            let inside = header(&text, "CSeq").is_some_and(|c| c.ends_with("INFO"));
            match (text.starts_with("SIP/2.0 503"), inside) {
                (true, false) => refused = Some(text),
                (true, true) => panic!("a request inside a dialog was refused: {text}"),
                (false, true) if refused.is_some() => inside_dialog += 1,
                _ => {}
            }
        }
    }
    let refused = refused.unwrap_or_default();
    let wait: u32 = header(&refused, "Retry-After").and_then(|v| v.parse().ok()).expect("a Retry-After");
    assert!((1..=10).contains(&wait), "{refused}");
    drop(flood);
    let statistics = house.mi_json(&["get_statistics", "overload_refused", "overload_episodes"]);
    assert_ne!(statistics["core:overload_refused"], 0, "{statistics}");
    assert_ne!(statistics["core:overload_episodes"], 0, "{statistics}");
    // It comes to rest: the same request is let in again.
    loop {
        assert!(Instant::now() < end, "still refused");
        let call = Call::new("alice", "bob");
        let text = alice.request("OPTIONS", "sip:127.0.0.1", &call, "");
        alice.send(text);
        let id = call.id.clone();
        let answer = alice.peer.wait_for(Duration::from_secs(5), |m| header(m, "Call-ID") == Some(&id));
        if answer.is_some_and(|a| a.starts_with("SIP/2.0 200")) {
            break;
        }
    }
    drop(house.expect_log("overload: begin"));
    assert!(
        house.server.log().wait_for(Duration::from_secs(20), |line| line.contains("overload: end")).is_some()
    );
    let episodes = statistics["core:overload_episodes"].as_u64().unwrap_or_default() as usize;
    assert_eq!(house.count_log("overload: begin"), episodes, "each episode is told once");
}

#[test]
fn a_refusal_says_whom_it_is_for_and_a_retransmission_of_a_call_let_in_goes_its_way() {
    let house = Setup::new(&[WAITS]).start();
    let end = Instant::now() + Duration::from_secs(20);
    // A call that is let in before the flood.
    let mut alice = Ua::new("alice", house.addr);
    let first = Call::new("alice", "bob");
    let invite = alice.request("INVITE", "sip:bob@127.0.0.1", &first, "");
    alice.send(invite.clone());
    let ringing = alice.peer.wait_for(Duration::from_secs(5), |m| m.starts_with("SIP/2.0 183"));
    assert!(ringing.is_some(), "the call is not let in");
    let flood = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    flood.set_nonblocking(true).expect("a socket that does not wait");
    flood.connect(house.addr).expect("an address");
    let mut answer = [0; 4096];
    let (mut refused, mut again) = (None, None);
    // A full queue may lose the INVITE that comes again, so it comes as often as the flood.
    while refused.is_none() || again.is_none() {
        assert!(Instant::now() < end, "{refused:?}, {again:?}");
        for _ in 0..50 {
            let call = Call::new("alice", "bob");
            let below = "Via: SIP/2.0/UDP b;branch=z9hG4bKb\r\n";
            drop(flood.send(alice.request("OPTIONS", "sip:127.0.0.1", &call, below).as_bytes()));
        }
        while let Ok(n) = flood.recv(&mut answer) {
            let text = String::from_utf8_lossy(&answer[..n]).into_owned();
            if text.starts_with("SIP/2.0 503") {
                refused = Some(text);
            }
        }
        if refused.is_some() {
            alice.send(invite.clone());
            let of_call = |m: &str| header(m, "Call-ID") == Some(&first.id) && !m.starts_with("SIP/2.0 100");
            again = alice.peer.wait_for(Duration::from_millis(1), of_call);
        }
    }
    let refused = refused.unwrap_or_default();
    let port = flood.local_addr().expect("an address").port();
    assert!(refused.contains(&format!(";received=127.0.0.1;rport={port}\r\n")), "{refused}");
    assert!(refused.contains("Via: SIP/2.0/UDP b;branch=z9hG4bKb\r\n"), "{refused}");
    assert!(header(&refused, "To").is_some_and(|to| to.contains(";tag=sl-")), "{refused}");
    assert_eq!(header(&refused, "Content-Length"), Some("0"), "{refused}");
    // It is known, so its last answer comes again.
    let again = again.unwrap_or_default();
    assert!(again.starts_with("SIP/2.0 183"), "{again}");
}
