//! Forking in parallel and in series (RFC 3261 §16.6, §16.7): who is called, who is cancelled, whose answer wins.

use std::time::Duration;

use switchroom_testkit::peer::header;

use crate::support::{House, OPEN_CALL, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua};

/// A server and phones of the same user with these q values.
fn house(routes: &str, qs: &[&str]) -> (House, Ua, Vec<Ua>) {
    let house = Setup::new(&[PROXY, OPEN_REGISTER, routes])
        .params("modparam(\"tm\", \"fr_timeout\", 2)\nmodparam(\"tm\", \"fr_inv_timeout\", 1)\nxlog_level=3\nlog_level=3")
        .start();
    let alice = Ua::new("alice", house.addr);
    let phones = qs
        .iter()
        .map(|q| {
            let mut phone = Ua::new("bob", house.addr);
            phone.register_here(q);
            phone
        })
        .collect();
    (house, alice, phones)
}

#[test]
fn the_first_to_answer_wins_and_the_others_are_cancelled_with_a_reason() {
    let (_house, mut alice, mut phones) = house(OPEN_CALL, &["", ""]);
    let (call, _) = alice.invite("bob", "");
    let asked: Vec<String> = phones.iter_mut().map(|p| p.expect("INVITE")).collect();
    assert_ne!(header(&asked[0], "Via"), header(&asked[1], "Via"), "branches differ");
    for (phone, invite) in phones.iter_mut().zip(&asked) {
        phone.reply(invite, "180 Ringing");
    }
    alice.expect_reply(180, &call);
    phones[1].reply(&asked[1], "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    phones[1].expect("ACK");
    let cancel = phones[0].expect("CANCEL");
    let reason = header(&cancel, "Reason").unwrap_or_default();
    assert!(reason.starts_with("SIP") && reason.contains("cause=200"), "{cancel}");
    phones[0].reply(&cancel, "200 OK");
    phones[0].reply(&asked[0], "487 Request Terminated");
    phones[0].expect("ACK");
    let more = alice.peer.wait_for(Duration::from_millis(300), |m| m.starts_with("SIP/2.0 487"));
    assert!(more.is_none(), "{more:?}");
}

#[test]
fn when_all_fail_the_best_reply_is_passed_on() {
    for (first, second, best) in [
        ("486 Busy Here", "404 Not Found", 404),
        ("503 Service Unavailable", "404 Not Found", 404),
        ("480 Temporarily Unavailable", "401 Unauthorized", 401),
        ("500 Server Internal Error", "486 Busy Here", 486),
        ("302 Moved Temporarily", "486 Busy Here", 302),
    ] {
        let (_house, mut alice, mut phones) = house(OPEN_CALL, &["", ""]);
        let (call, invite) = alice.invite("bob", "");
        for (phone, status) in phones.iter_mut().zip([first, second]) {
            let asked = phone.expect("INVITE");
            phone.reply(&asked, status);
            phone.expect("ACK");
        }
        let reply = alice.expect_reply(best, &call);
        alice.ack_failure(&invite, &reply);
    }
}

#[test]
fn a_6xx_ends_the_call_everywhere() {
    let (_house, mut alice, mut phones) = house(OPEN_CALL, &["", ""]);
    let (call, invite) = alice.invite("bob", "");
    let asked: Vec<String> = phones.iter_mut().map(|p| p.expect("INVITE")).collect();
    phones[0].reply(&asked[0], "180 Ringing");
    alice.expect_reply(180, &call);
    phones[1].reply(&asked[1], "603 Decline");
    let cancel = phones[0].expect("CANCEL");
    phones[0].reply(&cancel, "200 OK");
    phones[0].reply(&asked[0], "487 Request Terminated");
    let reply = alice.expect_reply(603, &call);
    alice.ack_failure(&invite, &reply);
}

/// One phone after the other, by q.
const SERIAL: &str = r#"
route[call] {
    record_route();
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    serialize_branches(1);
    next_branches();
    t_on_failure("next");
    route(relay);
}
failure_route[next] {
    xlog("L_NOTICE", "failed with $T_reply_code\n");
    if (t_was_cancelled()) exit;
    if (next_branches()) {
        t_on_failure("next");
        t_relay();
        exit;
    }
    t_reply(480, "Nobody there");
}
"#;

#[test]
fn serial_forking_tries_one_phone_after_the_other_by_q() {
    let (house, mut alice, mut phones) = house(SERIAL, &[";q=0.2", ";q=0.9", ";q=0.5"]);
    let (call, _) = alice.invite("bob", "");
    let asked = phones[1].expect("INVITE");
    assert!(phones[2].peer.is_quiet(Duration::from_millis(100)));
    phones[1].reply(&asked, "486 Busy Here");
    phones[1].expect("ACK");
    // No answer here: the server gives up after fr_inv_timeout and goes on.
    let asked = phones[2].expect("INVITE");
    phones[2].reply(&asked, "180 Ringing");
    alice.expect_reply(180, &call);
    let cancel = phones[2].expect("CANCEL");
    phones[2].reply(&cancel, "200 OK");
    phones[2].reply(&asked, "487 Request Terminated");
    phones[2].expect("ACK");
    let asked = phones[0].expect("INVITE");
    phones[0].reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    phones[0].expect("ACK");
    house.expect_log("failed with 486");
    house.expect_log("failed with 408");
    house.expect_log_times("failed with", 2);
}

#[test]
fn when_every_phone_of_a_series_fails_the_failure_route_answers() {
    let (house, mut alice, mut phones) = house(SERIAL, &[";q=0.9", ";q=0.5"]);
    let (call, invite) = alice.invite("bob", "");
    for phone in &mut phones {
        let asked = phone.expect("INVITE");
        phone.reply(&asked, "486 Busy Here");
        phone.expect("ACK");
    }
    let reply = alice.expect_reply(480, &call);
    assert!(reply.starts_with("SIP/2.0 480 Nobody there"), "{reply}");
    alice.ack_failure(&invite, &reply);
    house.expect_log_times("failed with 486", 2);
}

#[test]
fn a_caller_who_cancels_ends_the_series() {
    let (house, mut alice, mut phones) = house(SERIAL, &[";q=0.9", ";q=0.5"]);
    let (call, invite) = alice.invite("bob", "");
    let asked = phones[0].expect("INVITE");
    phones[0].reply(&asked, "180 Ringing");
    alice.expect_reply(180, &call);
    alice.cancel(&invite);
    let cancel = phones[0].expect("CANCEL");
    phones[0].reply(&cancel, "200 OK");
    phones[0].reply(&asked, "487 Request Terminated");
    let reply = alice.expect_reply(487, &call);
    alice.ack_failure(&invite, &reply);
    house.expect_log("failed with 487");
    assert!(phones[1].peer.is_quiet(Duration::from_millis(200)));
}

#[test]
fn a_failure_route_is_disarmed_when_entered() {
    let routes = r#"
route[call] {
    record_route();
    if (!lookup("location")) { send_reply(404, "Not Found"); exit; }
    t_on_failure("once");
    route(relay);
}
failure_route[once] {
    xlog("L_NOTICE", "entered with $T_reply_code\n");
    t_relay();
}
"#;
    let (house, mut alice, mut phones) = house(routes, &[""]);
    let (call, invite) = alice.invite("bob", "");
    for status in ["486 Busy Here", "480 Temporarily Unavailable"] {
        let asked = phones[0].expect("INVITE");
        phones[0].reply(&asked, status);
        phones[0].expect("ACK");
    }
    let reply = alice.expect_reply(480, &call);
    alice.ack_failure(&invite, &reply);
    house.expect_log_times("entered with", 1);
}

/// What failed is tried again where it went: a carrier behind `$du` that wants credentials gets them.
#[test]
fn a_failure_route_starts_from_where_the_failed_branch_went() {
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let (mut carrier, mut second) = (Ua::new("carrier", nowhere), Ua::new("second", nowhere));
    let routes = format!(
        r#"
route[call] {{
    record_route();
    $du = "sip:127.0.0.1:{}";
    t_on_failure("again");
    route(relay);
}}
failure_route[again] {{
    xlog("L_NOTICE", "was sent to $du\n");
    append_hf("X-Again: yes\r\n");
    t_on_failure("elsewhere");
    t_relay();
}}
failure_route[elsewhere] {{
    $du = NULL;
    t_relay(, "udp:127.0.0.1:{}");
}}
"#,
        carrier.peer.addr().port(),
        second.peer.addr().port()
    );
    let (house, mut alice, _) = house(&routes, &[]);
    (carrier.server, second.server) = (house.addr, house.addr);
    let (call, invite) = alice.invite("bob", "");
    let first = carrier.expect("INVITE");
    carrier.reply(&first, "401 Unauthorized");
    carrier.expect("ACK");
    let again = carrier.expect("INVITE");
    assert_eq!(header(&again, "X-Again"), Some("yes"), "{again}");
    carrier.reply(&again, "503 Service Unavailable");
    let moved = second.expect("INVITE");
    second.reply(&moved, "486 Busy Here");
    let reply = alice.expect_reply(486, &call);
    alice.ack_failure(&invite, &reply);
    house.expect_log(&format!("was sent to sip:127.0.0.1:{}", carrier.peer.addr().port()));
}

#[test]
fn a_branch_route_sees_each_branch_and_a_reply_route_each_reply() {
    let routes = r#"
route[call] {
    record_route();
    if (!lookup("location")) { send_reply(404, "Not Found"); exit; }
    t_on_branch("each");
    t_on_reply("answers");
    route(relay);
}
branch_route[each] {
    append_hf("X-Branch: $T_branch_idx\r\n");
}
onreply_route[answers] {
    xlog("L_NOTICE", "reply $rs of $si:$sp\n");
    if ($rs == 183) drop;
    append_hf("X-Seen: yes\r\n");
}
"#;
    let (house, mut alice, mut phones) = house(routes, &[";q=0.9", ";q=0.5"]);
    let (call, invite) = alice.invite("bob", "");
    let mut seen: Vec<String> = Vec::new();
    for phone in &mut phones {
        let asked = phone.expect("INVITE");
        seen.push(header(&asked, "X-Branch").unwrap().to_owned());
        phone.reply(&asked, "183 Session Progress");
        phone.reply(&asked, "486 Busy Here");
        phone.expect("ACK");
    }
    seen.sort();
    assert_eq!(seen, ["0", "1"]);
    let reply = alice.expect_reply(486, &call);
    assert_eq!(header(&reply, "X-Seen"), Some("yes"), "{reply}");
    alice.ack_failure(&invite, &reply);
    assert!(alice.peer.wait_for(Duration::from_millis(50), |m| m.starts_with("SIP/2.0 183")).is_none());
    for phone in &phones {
        house.expect_log(&format!("reply 183 of {}", phone.peer.addr()));
    }
}

#[test]
fn nobody_registered_is_404_and_nobody_answering_is_408() {
    let (_house, mut alice, mut phones) = house(OPEN_CALL, &[""]);
    let (call, invite) = alice.invite("carol", "");
    let reply = alice.expect_reply(404, &call);
    alice.ack_failure(&invite, &reply);
    // No reply of any kind: fr_timeout.
    let (call, invite) = alice.invite("bob", "");
    phones[0].expect("INVITE");
    let reply = alice.expect_reply(408, &call);
    alice.ack_failure(&invite, &reply);
    // The same without INVITE.
    let call = Call::new("alice", "bob");
    let text = alice.request("OPTIONS", &call.to, &call, "");
    alice.send(text);
    phones[0].expect("OPTIONS");
    alice.expect_reply(408, &call);
}
