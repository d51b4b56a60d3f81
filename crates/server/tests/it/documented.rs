//! Core parameters, variables and rules of the manual that no other test needs, seen from outside.

use std::io::{Read, Write};
use std::time::Duration;

use switchroom_testkit::peer::{header, headers};

use crate::support::{House, Setup};
use crate::ua::{Call, Ua};

/// Relays everything to one phone.
fn to_phone(routes: &str, params: &str) -> (House, Ua, Ua) {
    let mut bob = Ua::new("bob", "127.0.0.1:9".parse().unwrap());
    let port = bob.peer.addr().port().to_string();
    let house =
        Setup::new(&[&routes.replace("@BOB@", &port)]).params(&format!("xlog_level=3\n{params}")).start();
    bob.server = house.addr;
    let alice = Ua::new("alice", house.addr);
    (house, alice, bob)
}

const RELAY: &str = r#"
route {
    if (is_method("ACK")) { t_relay(); exit; }
    $ru = "sip:bob@127.0.0.1:@BOB@";
    t_on_reply("mark");
    t_relay();
}
onreply_route[mark] {
    append_hf("X-Marked: $(<request>fU)\r\n");
}
"#;

#[test]
fn a_2xx_that_comes_again_passes_the_reply_route_like_the_first() {
    let (_house, mut alice, mut bob) = to_phone(RELAY, "");
    let (call, _) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    for _ in 0..2 {
        bob.reply(&asked, "200 OK");
        let answer = alice.expect_reply(200, &call);
        assert_eq!(header(&answer, "X-Marked"), Some("alice"), "{answer}");
    }
}

#[test]
fn replies_of_branches_that_lost_still_see_the_request() {
    let routes = r#"
route {
    if (is_method("ACK")) { t_relay(); exit; }
    $ru = "sip:one@127.0.0.1:@BOB@";
    $msg.branch = "sip:two@127.0.0.1:@BOB@";
    $avp(who) = $fU;
    t_on_reply("tell");
    t_relay();
}
onreply_route[tell] { xlog("branch $T_branch_idx $rs for $avp(who) calling $(<request>oU)\n"); }
"#;
    let (house, mut alice, mut bob) = to_phone(routes, "modparam(\"tm\", \"onreply_avp_mode\", 1)");
    let (call, _) = alice.invite("bob", "");
    let (one, two) = (bob.expect("INVITE sip:one@"), bob.expect("INVITE sip:two@"));
    bob.reply(&two, "180 Ringing");
    bob.reply(&one, "200 OK");
    alice.expect_reply(200, &call);
    bob.expect("CANCEL sip:two@");
    bob.reply(&two, "487 Request Terminated");
    house.expect_log("branch 1 487 for alice calling bob");
}

#[test]
fn a_503_goes_on_as_500_unless_that_is_switched_off() {
    for (params, code) in [("", 500), ("disable_503_translation=yes", 503)] {
        let routes = format!(
            "{}\nfailure_route[see] {{ xlog(\"failed with $T_reply_code\\n\"); }}",
            RELAY.replace("t_on_reply(\"mark\");", "t_on_reply(\"mark\"); t_on_failure(\"see\");")
        );
        let (house, mut alice, mut bob) = to_phone(&routes, params);
        let (call, invite) = alice.invite("bob", "");
        let asked = bob.expect("INVITE");
        bob.reply(&asked, "503 Busy Right Now");
        let answer = alice.expect_reply(code, &call);
        assert!(answer.starts_with(&format!("SIP/2.0 {code} Busy Right Now\r\n")), "{answer}");
        alice.ack_failure(&invite, &answer);
        house.expect_log("failed with 503");
    }
}

#[test]
fn replies_under_an_advertised_address_find_their_transaction_and_check_via_wants_ours() {
    let routes = r#"
route {
    set_advertised_address("192.0.2.77");
    set_advertised_port(777);
    $ru = "sip:bob@127.0.0.1:@BOB@";
    t_relay();
}
"#;
    let (_house, mut alice, mut bob) = to_phone(routes, "");
    let call = Call::new("alice", "bob");
    let text = alice.request("OPTIONS", "sip:bob@127.0.0.1", &call, "");
    alice.send(text);
    let asked = bob.expect("OPTIONS");
    assert!(header(&asked, "Via").is_some_and(|v| v.starts_with("SIP/2.0/UDP 192.0.2.77:777;")), "{asked}");
    bob.reply(&asked, "200 OK");
    alice.expect_reply(200, &call);

    let (house, mut alice, mut bob) = to_phone(routes, "check_via=yes");
    let call = Call::new("alice", "bob");
    let text = alice.request("OPTIONS", "sip:bob@127.0.0.1", &call, "");
    alice.send(text);
    let asked = bob.expect("OPTIONS");
    bob.reply(&asked, "200 OK");
    // The reply is dropped, and counted.
    let again = bob.expect("OPTIONS");
    assert_eq!(header(&again, "Call-ID"), Some(&*call.id));
    let dropped = house.mi_json(&["get_statistics", "core:drop_replies"]);
    assert_eq!(dropped["core:drop_replies"], 1, "{dropped}");
}

#[test]
fn a_reply_without_a_transaction_goes_on_when_it_names_us_unless_that_is_switched_off() {
    for (params, via, passes) in [
        ("", "ours", true),
        ("disable_stateless_fwd=yes", "ours", false),
        ("", "192.0.2.9:5060", false),
        ("disable_stateless_fwd=no", "192.0.2.9:5060", true),
    ] {
        let (house, alice, mut bob) = to_phone(RELAY, params);
        let top = via.replace("ours", &house.addr.to_string());
        bob.send(format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {top};branch=z9hG4bKnone\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKx\r\n\
             From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=2\r\nCall-ID: stray\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n",
            alice.peer.addr()
        ));
        let mut alice = alice;
        let got = alice.peer.wait_for(Duration::from_millis(700), |m| m.starts_with("SIP/2.0 200"));
        assert_eq!(got.is_some(), passes, "{params} {via}");
    }
}

#[test]
fn an_advertised_port_needs_no_address() {
    let (_house, mut alice, mut bob) = to_phone(RELAY, "advertised_port=5099");
    alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    assert!(
        headers(&asked, "Via").next().is_some_and(|v| v.starts_with("SIP/2.0/UDP 127.0.0.1:5099;")),
        "{asked}"
    );
}

#[test]
fn a_branch_flag_forbids_to_open_a_connection() {
    let routes = r#"
route {
    $ru = "sip:bob@127.0.0.1:@BOB@;transport=tcp";
    if ($fU == "alice") setbflag("STAY");
    t_relay("no-auto-477");
    if ($rc == -6) t_reply(480, "No Connection");
}
"#;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let house = Setup::new(&[&routes.replace("@BOB@", &port)]).params("tcp_no_new_conn_bflag = STAY").start();
    let mut alice = Ua::new("alice", house.addr);
    let (call, invite) = alice.invite("bob", "");
    let failed = alice.expect_reply(480, &call);
    alice.ack_failure(&invite, &failed);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nothing was opened");
    listener.set_nonblocking(false).unwrap();
    let mut carol = Ua::new("carol", house.addr);
    carol.invite("bob", "");
    assert!(listener.accept().is_ok(), "without the flag there is a connection");
}

#[test]
fn what_the_script_says_of_branches_bodies_levels_and_colours_is_read_as_the_manual_has_it() {
    let routes = r#"
route {
    $msg.branch = "sip:one@192.0.2.1";
    $msg.branch = "sip:two@192.0.2.2";
    $msg.branch.q = 500;
    $msg.branch.flag(PSTN) = 1;
    $(msg.branch.q[0]) = "0.2";
    xlog("last <$msg.branch> <$msg.branch.q> <$msg.branch.flags> first <$(msg.branch.q[0])> <$(msg.branch.flags[0])>\n");
    $branch(uri) = "sip:changed@192.0.2.1";
    $(branch(q)[1]) = 1000;
    xlog("old <$(branch(uri)[0])> <$(branch(q)[1])> <$(branch(uri)[-1])>\n");
    remove_branch(0);
    xlog("left <$ru> <$(branch(uri)[*])>\n");
    xlog("parts <$(rb[1])> <$(rb[-1])> <$(cT[0])> <$(cT[*])>\n");
    xlog(L_NOTICE, "bare level\n");
    $xlog_level = L_DBG;
    xlog("level $xlog_level $C(rx)plain$C(xx)\n");
    xlog("out $socket_out\n");
    $xlog_level = 1;
    xlog("unsaid is not printed at this level\n");
    xlog(1, "the end\n");
    send_reply(200, "OK");
}
"#;
    let house = Setup::new(&[routes]).params("xlog_level=3\nsip_warning=yes").start();
    let mut alice = Ua::new("alice", house.addr);
    let call = Call::new("alice", "bob");
    let body = "--b\r\nContent-Type: text/plain\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\ntwo\r\n--b--\r\n";
    let text =
        alice.request("MESSAGE", "sip:bob@127.0.0.1", &call, "Content-Type: multipart/mixed;boundary=b\r\n");
    let text =
        text.replace("Content-Length: 0\r\n\r\n", &format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    alice.send(text);
    let answer = alice.expect_reply(200, &call);
    assert!(header(&answer, "Warning").is_some_and(|w| w.starts_with("392 ")), "{answer}");
    house.expect_log("the end");
    for line in [
        "last <sip:two@192.0.2.2> <500> <PSTN> first <200> <>",
        "old <sip:changed@192.0.2.1> <1000> <sip:two@192.0.2.2>",
        "left <sip:bob@127.0.0.1> <sip:two@192.0.2.2>",
        "parts <two> <two> <text/plain> <multipart/mixed;boundary=b,text/plain,text/html>",
        "bare level",
        "level 4 plain",
        &format!("out udp:{}", house.addr),
    ] {
        house.expect_log(line);
    }
    assert_eq!(house.count_log("unsaid is not printed"), 0);
}

#[test]
fn headers_of_a_transaction_go_with_its_cancel_and_its_ack_too() {
    for make_first in ["t_newtran();", ""] {
        let routes = format!(
            r#"
route {{
    if (is_method("CANCEL")) {{ t_relay(); exit; }}
    {make_first}
    t_add_hdrs("X-Origin: 192.0.2.1\r\n");
    $ru = "sip:bob@127.0.0.1:@BOB@";
    t_relay();
}}
"#
        );
        let (_house, mut alice, mut bob) = to_phone(&routes, "");
        let (call, invite) = alice.invite("bob", "");
        let asked = bob.expect("INVITE");
        bob.reply(&asked, "180 Ringing");
        alice.expect_reply(180, &call);
        alice.cancel(&invite);
        let cancel = bob.expect("CANCEL");
        bob.reply(&asked, "487 Request Terminated");
        let ack = bob.expect("ACK");
        for message in [asked, cancel, ack] {
            assert_eq!(headers(&message, "X-Origin").collect::<Vec<_>>(), ["192.0.2.1"], "{message}");
        }
    }
}

/// A request over TCP with this Via and nothing else of interest.
fn over_tcp(house: &House, via: &str) -> std::net::TcpStream {
    let text = format!(
        "OPTIONS sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP {via};branch=z9hG4bKtcp1\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@127.0.0.1>;tag=1\r\nTo: <sip:bob@127.0.0.1>\r\nCall-ID: {via}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let mut stream = std::net::TcpStream::connect(house.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

fn first_line(stream: &mut std::net::TcpStream) -> String {
    let mut buffer = [0; 2000];
    let n = stream.read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..n]).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_reply_goes_to_the_address_in_the_via_when_the_callers_connection_is_gone() {
    let (house, _alice, mut bob) = to_phone(RELAY, "");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let caller = over_tcp(&house, &listener.local_addr().unwrap().to_string());
    let asked = bob.expect("OPTIONS");
    drop(caller);
    std::thread::sleep(Duration::from_millis(100));
    bob.reply(&asked, "404 Not Found");
    let (mut again, _) = listener.accept().unwrap();
    again.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(first_line(&mut again), "SIP/2.0 404 Not Found");
}

#[test]
fn an_answer_without_state_comes_back_over_the_callers_connection() {
    let (house, _alice, mut bob) = to_phone("route { forward(\"udp:127.0.0.1:@BOB@\"); }", "");
    let mut caller = over_tcp(&house, "127.0.0.1:9");
    let asked = bob.expect("OPTIONS");
    bob.reply(&asked, "200 OK");
    assert_eq!(first_line(&mut caller), "SIP/2.0 200 OK");
}

#[test]
fn a_short_number_becomes_what_its_owner_stored() {
    let routes = r#"
route {
    if (sd_lookup("speed_dial")) { send_reply(302, "$ru"); exit; }
    if (sd_lookup("speed_dial", "sip:carol@127.0.0.1")) { send_reply(301, "$ru"); exit; }
    send_reply(404, "$rc");
}
"#;
    let house = Setup::new(&[routes])
        .params("loadmodule \"speeddial.so\"\nmodparam(\"speeddial\", \"use_domain\", 2)")
        .database()
        .start();
    for (owner, domain, short, uri) in [
        ("alice", "127.0.0.1", "11", "sip:aunt@192.0.2.1"),
        ("alice", "elsewhere", "12", "sip:never@192.0.2.1"),
        ("carol", "127.0.0.1", "13", "sip:cousin@192.0.2.1"),
    ] {
        house.sql(&format!(
            "INSERT INTO speed_dial (username, domain, sd_username, sd_domain, new_uri, fname, lname, description) \
             VALUES ('{owner}', '{domain}', '{short}', '127.0.0.1', '{uri}', '', '', '')"
        ));
    }
    let mut alice = Ua::new("alice", house.addr);
    for (number, code, reason) in
        [("11", 302, "sip:aunt@192.0.2.1"), ("12", 404, "-1"), ("13", 301, "sip:cousin@192.0.2.1")]
    {
        let call = Call::new("alice", number);
        let text = alice.request("OPTIONS", &format!("sip:{number}@127.0.0.1"), &call, "");
        alice.send(text);
        let answer = alice.expect_reply(code, &call);
        assert!(answer.starts_with(&format!("SIP/2.0 {code} {reason}\r\n")), "{answer}");
    }
}

#[test]
fn the_log_has_a_prefix_and_its_outlets_are_filtered_and_muted_by_command() {
    let routes = r#"route { xlog("L_WARN", "seen $rU\n"); send_reply(200, "OK"); }"#;
    let house = Setup::new(&[routes]).params("log_prefix=\"box1\"\nstderror_enabled=no").start();
    let mut alice = Ua::new("alice", house.addr);
    let mut ask = |user: &str| {
        let call = Call::new("alice", user);
        let text = alice.request("OPTIONS", &format!("sip:{user}@127.0.0.1"), &call, "");
        alice.send(text);
        alice.expect_reply(200, &call);
    };
    ask("one");
    // Nothing else takes the log, so it stays where somebody can see it.
    assert!(house.expect_log("seen one").starts_with("box1: "));
    assert_eq!(house.mi_json(&["log_level_filter", "stderror"])["Log level filter"], 0);
    assert!(house.mi(&["log_level_filter", "stderror", "-1"]).0);
    ask("two");
    assert!(house.mi(&["log_level_filter", "stderror", "0"]).0);
    assert!(house.mi(&["log_mute_state", "stderror", "1"]).0);
    assert_eq!(house.mi_json(&["log_mute_state", "stderror"])["mute state"], 1);
    ask("three");
    assert!(house.mi(&["log_mute_state", "stderror", "0"]).0);
    ask("four");
    house.expect_log("seen four");
    assert_eq!((house.count_log("seen two"), house.count_log("seen three")), (0, 0));
    assert!(!house.mi(&["log_mute_state", "paper"]).0);
}
