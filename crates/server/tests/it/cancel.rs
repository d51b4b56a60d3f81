//! CANCEL (RFC 3261 §9, §16.10) and its races, and 2xx that come late or twice (RFC 6026).

use std::time::Duration;

use switchroom_testkit::peer::{header, response};

use crate::support::{House, OPEN_CALL, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua, is_cancelled};

fn house(params: &str) -> House {
    Setup::new(&[PROXY, OPEN_REGISTER, OPEN_CALL]).params(params).start()
}

fn pair(house: &House) -> (Ua, Ua) {
    let (alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    (alice, bob)
}

#[test]
fn a_cancelled_call_ends_with_487_and_an_ack_to_the_callee() {
    let house = house("");
    let (mut alice, mut bob) = pair(&house);
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "180 Ringing");
    alice.expect_reply(180, &call);
    alice.cancel(&invite);
    let cancel = bob.expect("CANCEL");
    // The CANCEL is that of the branch: same Via, same Request-URI.
    assert_eq!(header(&cancel, "Via"), header(&asked, "Via"));
    assert_eq!(cancel.split(' ').nth(1), asked.split(' ').nth(1));
    bob.reply(&cancel, "200 OK");
    bob.reply(&asked, "487 Request Terminated");
    let ack = bob.expect("ACK");
    assert_eq!(header(&ack, "Via"), header(&asked, "Via"));
    let ok = alice.peer.wait_for(Duration::from_secs(5), |m| {
        m.starts_with("SIP/2.0 200") && header(m, "CSeq") == Some("1 CANCEL")
    });
    assert!(ok.is_some());
    let ended = alice.expect_reply(487, &call);
    alice.ack_failure(&invite, &ended);
}

#[test]
fn cancel_before_a_provisional_reply_waits_for_it() {
    let house = house("");
    let (mut alice, mut bob) = pair(&house);
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    alice.expect_reply(100, &call);
    alice.cancel(&invite);
    alice.peer.wait_for(Duration::from_secs(5), |m| header(m, "CSeq") == Some("1 CANCEL")).unwrap();
    let early = bob.peer.wait_for(Duration::from_millis(300), |m| m.starts_with("CANCEL"));
    assert!(early.is_none(), "{early:?}");
    bob.reply(&asked, "180 Ringing");
    is_cancelled(&mut alice, &mut bob, &call, &invite, &asked);
}

#[test]
fn a_200_that_crosses_the_cancel_still_makes_the_call() {
    let house = house("");
    let (mut alice, mut bob) = pair(&house);
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "180 Ringing");
    alice.expect_reply(180, &call);
    alice.cancel(&invite);
    let cancel = bob.expect("CANCEL");
    bob.reply(&asked, "200 OK");
    bob.reply(&cancel, "200 OK");
    let done = alice
        .peer
        .wait_for(Duration::from_secs(5), |m| {
            m.starts_with("SIP/2.0 200") && header(m, "CSeq") == Some("1 INVITE")
        })
        .unwrap();
    alice.in_dialog("ACK", &call, &done);
    bob.expect("ACK");
    alice.in_dialog("BYE", &call, &done);
    let bye = bob.expect("BYE");
    bob.reply(&bye, "200 OK");
    alice.expect_reply(200, &call);
}

#[test]
fn cancel_for_an_unknown_call_is_the_scripts_to_answer() {
    let house = house("");
    let (mut alice, _) = pair(&house);
    let call = Call::new("alice", "bob");
    let invite = alice.request("INVITE", &call.to, &call, "");
    alice.cancel(&invite);
    alice.expect_reply(481, &call);
}

#[test]
fn cancel_after_the_final_reply_changes_nothing() {
    let house = house("");
    let (mut alice, mut bob) = pair(&house);
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "486 Busy Here");
    bob.expect("ACK");
    let busy = alice.expect_reply(486, &call);
    alice.ack_failure(&invite, &busy);
    alice.cancel(&invite);
    assert!(bob.peer.is_quiet(Duration::from_millis(300)));
}

#[test]
fn a_2xx_after_the_timeout_reached_the_caller_is_still_passed_on() {
    let house = house("modparam(\"tm\", \"fr_inv_timeout\", 1)");
    let (mut alice, mut bob) = pair(&house);
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "180 Ringing");
    let timeout = alice.expect_reply(408, &call);
    alice.ack_failure(&invite, &timeout);
    bob.expect("CANCEL");
    bob.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    bob.expect("ACK");
}

#[test]
fn each_2xx_of_a_forked_call_reaches_the_caller_and_each_ack_its_callee() {
    let house = house("");
    let (mut alice, mut bob) = pair(&house);
    let (call, _) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    // A proxy behind us forked: two dialogs answer over one branch.
    let contact = format!("Contact: <{}>\r\n", bob.contact());
    for tag in ["one", "two"] {
        let text = response(&asked, "200 OK", tag, &contact);
        bob.send(text);
        let done = alice.expect_reply(200, &call);
        assert!(header(&done, "To").unwrap().ends_with(tag), "{done}");
        alice.in_dialog("ACK", &call, &done);
        let ack = bob.expect("ACK");
        assert!(header(&ack, "To").unwrap().ends_with(tag), "{ack}");
    }
    // A 2xx that was repeated because the ACK got lost is relayed again (RFC 6026 §7).
    let text = response(&asked, "200 OK", "one", &contact);
    bob.send(text);
    alice.expect_reply(200, &call);
}

#[test]
fn a_retransmitted_invite_is_absorbed_and_answered_from_memory() {
    let house = house("");
    let (mut alice, mut bob) = pair(&house);
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "180 Ringing");
    alice.expect_reply(180, &call);
    alice.send(&invite);
    alice.expect_reply(180, &call);
    bob.reply(&asked, "486 Busy Here");
    bob.expect("ACK");
    alice.expect_reply(486, &call);
    alice.send(&invite);
    let busy = alice.expect_reply(486, &call);
    alice.ack_failure(&invite, &busy);
    let more = bob.peer.wait_for(Duration::from_millis(300), |m| m.starts_with("INVITE"));
    assert!(more.is_none(), "{more:?}");
}

#[test]
fn the_callers_reason_travels_on_only_when_the_script_trusts_it() {
    const CALL: &str = r#"
route {
    if (is_method("REGISTER")) { save("location"); exit; }
    if (is_method("CANCEL")) {
        if (!t_check_trans()) exit;
        if ($hdr(X-Trust) != NULL) t_relay("pass-reason-hdr");
        else t_relay();
        exit;
    }
    lookup("location");
    t_relay();
}
"#;
    let house = Setup::new(&[CALL]).start();
    let (mut alice, mut bob) = pair(&house);
    for (more, passed) in [("", None), ("X-Trust: 1\r\n", Some("SIP;cause=200"))] {
        let (call, invite) = alice.invite("bob", "");
        let asked = bob.expect("INVITE");
        bob.reply(&asked, "180 Ringing");
        alice.expect_reply(180, &call);
        let cancel = invite.replace("INVITE", "CANCEL");
        let (head, _) = cancel.split_once("Content-Type").unwrap();
        alice.send(format!("{head}Reason: SIP;cause=200\r\n{more}Content-Length: 0\r\n\r\n"));
        let cancel = is_cancelled(&mut alice, &mut bob, &call, &invite, &asked);
        assert_eq!(header(&cancel, "Reason"), passed, "{cancel}");
    }
}

#[test]
fn t_relay_takes_the_proxy_first_as_older_scripts_give_it_and_can_leave_out_the_100() {
    const CALL: &str = "route {\n    if ($hdr(X-Quiet) != NULL) t_relay(\"udp:$hdr(X-Proxy)\", \"0x01\");\n    \
                        else t_relay(\"udp:$hdr(X-Proxy)\");\n}\n";
    let house = Setup::new(&[CALL]).start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    for quiet in [false, true] {
        let more = if quiet { "X-Quiet: 1\r\n" } else { "" };
        let (call, invite) = alice.invite("bob", &format!("X-Proxy: {}\r\n{more}", bob.peer.addr()));
        let asked = bob.expect("INVITE");
        assert!(asked.starts_with("INVITE sip:bob@127.0.0.1 "), "{asked}");
        bob.reply(&asked, "486 Busy Here");
        bob.expect("ACK");
        let first =
            alice.peer.wait_for(Duration::from_secs(5), |m| header(m, "Call-ID") == Some(&call.id)).unwrap();
        assert_eq!(first.starts_with("SIP/2.0 100"), !quiet, "{first}");
        let busy = if quiet { first } else { alice.expect_reply(486, &call) };
        alice.ack_failure(&invite, &busy);
    }
}
