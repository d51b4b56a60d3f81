//! Route types and limits of the routing language, seen from outside.

use std::time::{Duration, Instant};

use switchroom_testkit::peer::header;

use crate::support::{House, OPEN_CALL, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua};

fn noisy(routes: &[&str]) -> House {
    Setup::new(routes).params("log_level=3\nxlog_level=3").start()
}

fn options(ua: &mut Ua, user: &str) -> Call {
    let mut call = Call::new("alice", "alice");
    call.to = format!("sip:{user}@127.0.0.1");
    let text = ua.request("OPTIONS", &call.to, &call, "");
    ua.send(text);
    call
}

#[test]
fn a_runaway_script_fails_alone() {
    let routes = r#"
route {
    if ($rU == "loop") { while (1) { $var(n) = $var(n) + 1; } }
    if ($rU == "deep") { route(deep); }
    send_reply(200, "OK");
}
route[deep] { route(deep); }
"#;
    let house = Setup::new(&[routes]).params("max_while_loops=100000000").start();
    let mut ua = Ua::new("alice", house.addr);
    for user in ["loop", "deep"] {
        options(&mut ua, user);
    }
    let started = Instant::now();
    for _ in 0..8 {
        let call = options(&mut ua, "quick");
        ua.expect_reply(200, &call);
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
fn startup_timer_and_event_routes_run() {
    let routes = r#"
startup_route { xlog("L_NOTICE", "startup ran\n"); }
timer_route[beat, 1] { xlog("L_NOTICE", "timer ran\n"); }
event_route[E_UL_CONTACT_INSERT] { xlog("L_NOTICE", "event for $param(aor) with $param(2)\n"); }
"#;
    let house = noisy(&[PROXY, OPEN_REGISTER, OPEN_CALL, routes]);
    house.expect_log("startup ran");
    house.expect_log_times("startup ran", 1);
    Ua::new("bob", house.addr).register_here("");
    house.expect_log("event for bob@127.0.0.1 with bob@127.0.0.1");
    house.expect_log("timer ran");
}

#[test]
fn an_error_route_decides_over_broken_requests() {
    let routes = r#"
route { send_reply(200, "OK"); }
error_route {
    xlog("L_NOTICE", "broken: $err.info, would be $err.rcode\n");
    sl_send_reply(420, "Bad Indeed");
}
"#;
    let house = noisy(&[routes]);
    let mut ua = Ua::new("alice", house.addr);
    let call = Call::new("alice", "alice");
    let text = ua.request("OPTIONS", &call.to, &call, "");
    ua.send(text.replace("CSeq: 1", "CSeq: x"));
    ua.expect("SIP/2.0 420 Bad Indeed");
    assert!(house.expect_log("broken: ").contains("would be 400"));
}

#[test]
fn what_the_script_changes_is_what_leaves() {
    let routes = r#"
route {
    if (is_method("ACK")) exit;
    remove_hf("X-Secret");
    append_hf("X-Added: $ci\r\n");
    $ru = "sip:new@127.0.0.1:@PORT@;user=phone";
    prefix("00");
    if (is_method("INVITE")) {
        record_route();
        t_on_failure("f");
    }
    t_relay();
}
failure_route[f] {
    $ru = "sip:second@127.0.0.1:@PORT@";
    t_relay();
}
"#;
    let mut bob = Ua::new("bob", "127.0.0.1:9".parse().unwrap());
    let house = noisy(&[&routes.replace("@PORT@", &bob.peer.addr().port().to_string())]);
    bob.server = house.addr;
    let mut alice = Ua::new("alice", house.addr);
    let (call, invite) = alice.invite("bob", "X-Secret: 1\r\nX-Kept:  odd   spacing\r\nx-secret: 2\r\n");
    for target in ["sip:00new@", "sip:second@"] {
        let asked = bob.expect("INVITE");
        assert!(asked.starts_with(&format!("INVITE {target}")), "{asked}");
        assert_eq!(header(&asked, "X-Secret"), None, "{asked}");
        assert_eq!(header(&asked, "X-Added"), Some(&*call.id), "{asked}");
        assert!(
            asked.contains("\r\nX-Kept:  odd   spacing\r\n"),
            "untouched headers stay as they are: {asked}"
        );
        bob.reply(&asked, "486 Busy Here");
        bob.expect("ACK");
    }
    let busy = alice.expect_reply(486, &call);
    alice.ack_failure(&invite, &busy);
}

#[test]
fn a_strict_router_in_front_of_us_is_understood() {
    let house = noisy(&[PROXY, OPEN_REGISTER, OPEN_CALL]);
    let mut bob = Ua::new("bob", house.addr);
    let mut alice = Ua::new("alice", house.addr);
    // The last hop put our own URI into the Request-URI and the real target at the end of the route (RFC 3261 §16.4).
    let mut call = Call::new("alice", "bob");
    call.to_tag = ";tag=x".into();
    let target = format!("Route: <{}>\r\n", bob.contact());
    let own = format!("sip:{};lr", house.addr);
    let text = alice.request("BYE", &own, &call, &target);
    alice.send(text);
    let bye = bob.expect("BYE");
    assert!(bye.starts_with(&format!("BYE {} ", bob.contact())), "{bye}");
    assert_eq!(header(&bye, "Route"), None, "{bye}");
    bob.reply(&bye, "200 OK");
    alice.expect_reply(200, &call);
}

#[test]
fn a_strict_router_behind_us_gets_its_own_uri_as_the_request_uri() {
    let house = noisy(&[PROXY, OPEN_REGISTER, OPEN_CALL]);
    let mut strict = Ua::new("proxy", house.addr);
    let mut alice = Ua::new("alice", house.addr);
    let mut call = Call::new("alice", "bob");
    call.to_tag = ";tag=x".into();
    let next = format!("sip:{}", strict.peer.addr());
    let more = format!("Route: <sip:{};lr>\r\nRoute: <{next}>\r\n", house.addr);
    let text = alice.request("BYE", "sip:bob@192.0.2.7", &call, &more);
    alice.send(text);
    let bye = strict.expect("BYE");
    assert!(bye.starts_with(&format!("BYE {next} ")), "{bye}");
    assert_eq!(header(&bye, "Route"), Some("<sip:bob@192.0.2.7>"), "{bye}");
    strict.reply(&bye, "200 OK");
    alice.expect_reply(200, &call);
}

/// Phones with an outbound proxy send every first request with a Route to it; only a Route to elsewhere is one that a
/// script should refuse.
#[test]
fn a_first_request_with_a_route_to_us_alone_is_no_preloaded_route() {
    let call = r#"
route[call] {
    if (loose_route()) { send_reply(403, "Preload Route denied"); exit; }
    if (!lookup("location")) { send_reply(404, "Not Found"); exit; }
    route(relay);
}
"#;
    let house = noisy(&[PROXY, OPEN_REGISTER, call]);
    let mut alice = Ua::new("alice", house.addr);
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    let own = format!("Route: <sip:{};lr>\r\n", house.addr);
    let (call, invite) = alice.invite("bob", &own);
    let asked = bob.expect("INVITE");
    assert_eq!(header(&asked, "Route"), None, "{asked}");
    bob.reply(&asked, "486 Busy Here");
    let busy = alice.expect_reply(486, &call);
    alice.ack_failure(&invite, &busy);
    let (call, invite) = alice.invite("bob", &format!("{own}Route: <sip:192.0.2.7;lr>\r\n"));
    let refused = alice.expect_reply(403, &call);
    alice.ack_failure(&invite, &refused);
}

/// RFC 3261 §8.3: where else to look stands in Contact, taken from the Request-URI as changed and the branches.
#[test]
fn a_redirect_names_the_destinations_of_the_request() {
    let routes = r#"
route {
    if ($rU == "plain") { sl_send_reply(302, "Moved Temporarily"); exit; }
    $ru = "sip:main@example.org";
    append_branch("sip:second@example.org", "0.5");
    if ($rU == "main" && $hdr(X-State)) { t_newtran(); t_reply(300, "Multiple Choices"); exit; }
    sl_send_reply(302, "Moved Temporarily");
}
"#;
    let house = noisy(&[routes]);
    let mut alice = Ua::new("alice", house.addr);
    let call = options(&mut alice, "plain");
    assert_eq!(header(&alice.expect_reply(302, &call), "Contact"), None);
    let call = options(&mut alice, "other");
    let both = "<sip:main@example.org>, <sip:second@example.org>;q=0.5";
    assert_eq!(header(&alice.expect_reply(302, &call), "Contact"), Some(both));
    let mut call = Call::new("alice", "alice");
    call.to = "sip:other@127.0.0.1".into();
    let text = alice.request("OPTIONS", &call.to, &call, "X-State: 1\r\n");
    alice.send(text);
    assert_eq!(header(&alice.expect_reply(300, &call), "Contact"), Some(both));
}

#[test]
fn via_handling_and_aliases_are_the_scripts() {
    let routes = r#"
route {
    if (!is_myself("$rd")) { send_reply(403, "Not us"); exit; }
    set_via_handling("force-rport,add-local-rport");
    if ($rU == "on") { $du = "sip:127.0.0.1:" + $hdr(X-Port); t_relay(); exit; }
    send_reply(200, "OK");
}
"#;
    let house =
        Setup::new(&[routes]).params("alias=udp:pbx.example.org:5060\nalias=\"office.example.org\"").start();
    let next = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    next.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // Its Via names a port at which nobody listens and asks for no rport.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let port = next.local_addr().unwrap().port();
    let send = |uri: &str, number: u32| {
        let text = format!(
            "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKvia{number}\r\nMax-Forwards: 9\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <{uri}>\r\nCall-ID: via{number}\r\nCSeq: 1 OPTIONS\r\nX-Port: {port}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        socket.send_to(text.as_bytes(), house.addr).unwrap();
    };
    let mut buffer = [0; 2000];
    for (number, uri) in
        ["sip:x@pbx.example.org", "sip:x@pbx.example.org:5060", "sip:x@office.example.org"].iter().enumerate()
    {
        send(uri, number as u32);
        let n = socket.recv(&mut buffer).unwrap();
        let reply = String::from_utf8_lossy(&buffer[..n]).into_owned();
        assert!(reply.starts_with("SIP/2.0 200") && reply.contains(";rport="), "{uri}: {reply}");
    }
    send("sip:on@office.example.org", 10);
    let n = next.recv(&mut buffer).unwrap();
    let relayed = String::from_utf8_lossy(&buffer[..n]).into_owned();
    assert!(header(&relayed, "Via").unwrap().contains(";rport"), "{relayed}");
}
