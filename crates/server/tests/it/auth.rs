//! Digest authentication of REGISTER and INVITE (RFC 3261 §22, RFC 7616): who gets in and who does not.

use switchroom_testkit::peer::header;

use crate::support::{DIGEST_CALL, DIGEST_REGISTER, House, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua, challenge_param, credentials};

fn house(params: &str) -> House {
    Setup::new(&[PROXY, DIGEST_REGISTER, DIGEST_CALL])
        .params(params)
        .user("alice", "wonderland")
        .user("bob", "zanzibar")
        .start()
}

fn register(ua: &mut Ua, call: &mut Call, answer: &str) -> String {
    let contact = format!("Contact: <{}>\r\n", ua.contact());
    ua.register(call, &format!("{contact}{answer}"))
}

fn answer(challenge: &str, user: &str, password: &str, count: u32) -> String {
    credentials(challenge, user, password, "REGISTER", "sip:127.0.0.1", count)
}

#[test]
fn an_unknown_user_and_a_wrong_realm_do_not_get_in() {
    let house = house("");
    let mut eve = Ua::new("eve", house.addr);
    let mut call = Call::new("eve", "eve");
    let challenge = register(&mut eve, &mut call, "");
    let denied = register(&mut eve, &mut call, &answer(&challenge, "eve", "x", 1));
    assert!(denied.starts_with("SIP/2.0 401"), "{denied}");
    let other = answer(&denied, "bob", "zanzibar", 1).replace("realm=\"127.0.0.1\"", "realm=\"elsewhere\"");
    let denied = register(&mut eve, &mut call, &other);
    assert!(denied.starts_with("SIP/2.0 401"), "{denied}");
    // The right password of somebody else does not open her own address of record.
    let denied = register(&mut eve, &mut call, &answer(&denied, "bob", "zanzibar", 1));
    assert!(denied.starts_with("SIP/2.0 403"), "{denied}");
}

#[test]
fn a_nonce_is_good_once_and_then_stale() {
    let house = house("");
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let challenge = register(&mut bob, &mut call, "");
    let line = answer(&challenge, "bob", "zanzibar", 1);
    assert!(register(&mut bob, &mut call, &line).starts_with("SIP/2.0 200"));
    let replay = register(&mut bob, &mut call, &line);
    assert!(replay.starts_with("SIP/2.0 401"), "{replay}");
    let fresh = header(&replay, "WWW-Authenticate").unwrap();
    assert_eq!(challenge_param(fresh, "stale").as_deref(), Some("true"), "{fresh}");
    assert_ne!(
        challenge_param(fresh, "nonce"),
        challenge_param(header(&challenge, "WWW-Authenticate").unwrap(), "nonce")
    );
    assert!(register(&mut bob, &mut call, &answer(&replay, "bob", "zanzibar", 1)).starts_with("SIP/2.0 200"));
}

#[test]
fn an_expired_nonce_is_answered_with_stale_true() {
    let house = house("modparam(\"auth\", \"nonce_expire\", 1)");
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let challenge = register(&mut bob, &mut call, "");
    // Time itself is what is waited for.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let stale = register(&mut bob, &mut call, &answer(&challenge, "bob", "zanzibar", 1));
    assert!(stale.starts_with("SIP/2.0 401"), "{stale}");
    assert_eq!(
        challenge_param(header(&stale, "WWW-Authenticate").unwrap(), "stale").as_deref(),
        Some("true"),
        "{stale}"
    );
    assert!(register(&mut bob, &mut call, &answer(&stale, "bob", "zanzibar", 1)).starts_with("SIP/2.0 200"));
}

#[test]
fn a_forged_nonce_is_not_taken() {
    let house = house("");
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let challenge = register(&mut bob, &mut call, "");
    let nonce = challenge_param(header(&challenge, "WWW-Authenticate").unwrap(), "nonce").unwrap();
    for forged in ["0", &"f".repeat(nonce.len()), &"a".repeat(3_000)] {
        let denied =
            register(&mut bob, &mut call, &answer(&challenge.replace(&nonce, forged), "bob", "zanzibar", 1));
        assert!(denied.starts_with("SIP/2.0 401"), "{denied}");
    }
}

#[test]
fn an_invite_is_authenticated_and_its_credentials_stay_here() {
    let house = Setup::new(&[PROXY, OPEN_REGISTER, DIGEST_CALL]).user("alice", "wonderland").start();
    let mut alice = Ua::new("alice", house.addr);
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    let (mut call, invite) = alice.invite("bob", "");
    let challenge = alice.expect_reply(407, &call);
    alice.ack_failure(&invite, &challenge);
    for (password, code) in [("wrong", 407), ("wonderland", 200)] {
        call.cseq += 1;
        let line = credentials(&challenge, "alice", password, "INVITE", &call.to, 1);
        let more = format!("Contact: <{}>\r\n{line}", alice.contact());
        let text = alice.request("INVITE", &call.to, &call, &more);
        alice.send(&text);
        if code == 407 {
            let denied = alice.expect_reply(407, &call);
            alice.ack_failure(&text, &denied);
            continue;
        }
        let invite = bob.expect("INVITE");
        assert_eq!(header(&invite, "Proxy-Authorization"), None, "{invite}");
        bob.reply(&invite, "200 OK");
        let done = alice.expect_reply(200, &call);
        alice.in_dialog("ACK", &call, &done);
        bob.expect("ACK");
    }
}

#[test]
fn a_wait_for_the_database_inside_a_condition_resumes_where_it_was() {
    let routes = r#"
route {
    $avp(before) = "kept";
    $ru = "sip:changed@127.0.0.1";
    if (is_method("OPTIONS") && !(www_authorize("127.0.0.1", "subscriber") && $au == "alice")) {
        xlog("L_NOTICE", "denied $avp(before) $rU $rc\n");
        www_challenge("127.0.0.1", "auth");
        exit;
    }
    xlog("L_NOTICE", "allowed $avp(before) $rU $au\n");
    send_reply(200, "OK");
}
"#;
    let house = Setup::new(&[routes])
        .params("log_level=3\nxlog_level=3")
        .user("alice", "wonderland")
        .user("bob", "zanzibar")
        .start();
    let mut ua = Ua::new("alice", house.addr);
    let mut call = Call::new("alice", "alice");
    let text = ua.request("OPTIONS", "sip:127.0.0.1", &call, "");
    ua.send(text);
    let challenge = ua.expect_reply(401, &call);
    house.expect_log("denied kept changed");
    for (user, password, code, count) in [("alice", "wonderland", 200, 1), ("bob", "zanzibar", 401, 2)] {
        call.cseq += 1;
        let line = credentials(&challenge, user, password, "OPTIONS", "sip:127.0.0.1", count);
        let text = ua.request("OPTIONS", "sip:127.0.0.1", &call, &line);
        ua.send(text);
        ua.expect_reply(code, &call);
    }
    house.expect_log("allowed kept changed alice");
}
