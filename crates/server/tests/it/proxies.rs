//! Two proxies in a row (RFC 3665 §3.2–3.4, §3.7): atlanta for the caller, biloxi for the callee, both this program.

use switchroom_testkit::peer::{header, headers};

use crate::support::{House, OPEN_CALL, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua, credentials, establish};

/// The callee's proxy, and the caller's, whose `route[call]` sends on to `@NEXT@`.
fn chain(outgoing: &str, incoming: &str) -> (House, House) {
    let biloxi = Setup::new(&[PROXY, OPEN_REGISTER, incoming]).user("alice", "at biloxi").start();
    let routes = outgoing.replace("@NEXT@", &biloxi.addr.to_string());
    let atlanta = Setup::new(&[PROXY, OPEN_REGISTER, &routes])
        .params("modparam(\"tm\", \"fr_timeout\", 1)")
        .user("alice", "at atlanta")
        .start();
    (atlanta, biloxi)
}

const NEXT: &str = r#"
route[call] {
    record_route();
    $du = "sip:@NEXT@";
    route(relay);
}
"#;

#[test]
fn rfc3665_3_2_a_call_through_two_proxies() {
    let (atlanta, biloxi) = chain(NEXT, OPEN_CALL);
    let (mut alice, mut bob) = (Ua::new("alice", atlanta.addr), Ua::new("bob", biloxi.addr));
    bob.register_here("");
    let (call, _) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    assert_eq!(headers(&asked, "Via").count(), 3, "{asked}");
    assert_eq!(headers(&asked, "Record-Route").count(), 2, "{asked}");
    assert!(headers(&asked, "Record-Route").next().unwrap().contains(&biloxi.addr.to_string()), "{asked}");
    bob.reply(&asked, "180 Ringing");
    let ringing = alice.expect_reply(180, &call);
    assert_eq!(headers(&ringing, "Via").count(), 1, "{ringing}");
    bob.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    let ack = bob.expect("ACK");
    assert_eq!((headers(&ack, "Via").count(), header(&ack, "Route")), (3, None), "{ack}");
    alice.in_dialog("BYE", &call, &done);
    let bye = bob.expect("BYE");
    bob.reply(&bye, "200 OK");
    alice.expect_reply(200, &call);
}

#[test]
fn rfc3665_3_3_both_proxies_ask_for_a_password_of_their_own() {
    let ask = |realm: &str, then: &str| {
        format!(
            "route[call] {{\n\
             if (!proxy_authorize(\"{realm}\", \"subscriber\")) {{ proxy_challenge(\"{realm}\", \"auth\"); exit; }}\n\
             consume_credentials();\n{then}\nroute(relay);\n}}\n"
        )
    };
    let outgoing = ask("127.0.0.1", "record_route(); $du = \"sip:@NEXT@\";");
    let incoming = ask("biloxi.example.com", "lookup(\"location\");");
    let biloxi = Setup::new(&[PROXY, OPEN_REGISTER, &incoming])
        .params("modparam(\"auth_db\", \"calculate_ha1\", 1)\nmodparam(\"auth_db\", \"password_column\", \"password\")")
        .database()
        .start();
    biloxi.sql(
        "insert into subscriber (username, domain, password) values ('alice', 'biloxi.example.com', 'at biloxi')");
    let routes = outgoing.replace("@NEXT@", &biloxi.addr.to_string());
    let atlanta = Setup::new(&[PROXY, OPEN_REGISTER, &routes]).user("alice", "at atlanta").start();
    let (mut alice, mut bob) = (Ua::new("alice", atlanta.addr), Ua::new("bob", biloxi.addr));
    bob.register_here("");
    let (mut call, invite) = alice.invite("bob", "");
    let first = alice.expect_reply(407, &call);
    assert!(header(&first, "Proxy-Authenticate").unwrap().contains("realm=\"127.0.0.1\""), "{first}");
    alice.ack_failure(&invite, &first);
    let contact = format!("Contact: <{}>\r\n", alice.contact());
    call.cseq += 1;
    let to_atlanta = credentials(&first, "alice", "at atlanta", "INVITE", &call.to, 1);
    let text = alice.request("INVITE", &call.to, &call, &format!("{contact}{to_atlanta}"));
    alice.send(&text);
    let second = alice.peer.wait_for(std::time::Duration::from_secs(5), |m| {
        m.starts_with("SIP/2.0 407") && m.contains("biloxi.example.com")
    });
    let second = second.expect("biloxi did not ask");
    alice.ack_failure(&text, &second);
    call.cseq += 1;
    let to_atlanta = credentials(&first, "alice", "at atlanta", "INVITE", &call.to, 2);
    let to_biloxi = credentials(&second, "alice", "at biloxi", "INVITE", &call.to, 1);
    let text = alice.request("INVITE", &call.to, &call, &format!("{contact}{to_atlanta}{to_biloxi}"));
    alice.send(&text);
    let asked = bob.expect("INVITE");
    assert_eq!(header(&asked, "Proxy-Authorization"), None, "{asked}");
    bob.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    bob.expect("ACK");
}

#[test]
fn rfc3665_3_4_when_the_next_proxy_is_dead_another_is_tried() {
    let outgoing = r#"
route[call] {
    record_route();
    $du = "sip:127.0.0.1:9";
    t_on_failure("other");
    route(relay);
}
failure_route[other] {
    if (t_check_status("408|503|477")) {
        $du = "sip:@NEXT@";
        t_relay();
    }
}
"#;
    let (atlanta, biloxi) = chain(outgoing, OPEN_CALL);
    let (mut alice, mut bob) = (Ua::new("alice", atlanta.addr), Ua::new("bob", biloxi.addr));
    bob.register_here("");
    establish(&mut alice, &mut bob);
}

#[test]
fn rfc3665_3_7_a_reinvite_of_the_callee_takes_the_same_way_back() {
    let (atlanta, biloxi) = chain(NEXT, OPEN_CALL);
    let (mut alice, mut bob) = (Ua::new("alice", atlanta.addr), Ua::new("bob", biloxi.addr));
    bob.register_here("");
    let (call, asked, _) = establish(&mut alice, &mut bob);
    let back = Call {
        from: "sip:bob@127.0.0.1".into(),
        to: "sip:alice@127.0.0.1".into(),
        tag: "tbob".into(),
        to_tag: format!(";tag={}", call.tag),
        cseq: 14_160,
        ..call.clone()
    };
    let routes: String = headers(&asked, "Record-Route").map(|r| format!("Route: {r}\r\n")).collect();
    let contact = format!("Contact: <{}>\r\n", bob.contact());
    let text = bob.request("INVITE", &alice.contact(), &back, &format!("{contact}{routes}"));
    bob.send(&text);
    let again = alice.expect("INVITE");
    assert_eq!((headers(&again, "Via").count(), header(&again, "Route")), (3, None), "{again}");
    assert_eq!(header(&again, "CSeq"), Some("14160 INVITE"));
    alice.reply(&again, "200 OK");
    let agreed = bob.expect_reply(200, &call);
    assert!(agreed.contains("14160 INVITE"), "{agreed}");
    let ack = bob.request("ACK", &alice.contact(), &back, &routes);
    bob.send(&ack);
    alice.expect("ACK");
}

#[test]
fn an_edge_proxy_notes_itself_and_the_source_in_path_and_finds_the_phone_again() {
    let registrar = Setup::new(&[
        PROXY,
        "route[register] { save(\"location\", \"path-off\"); }\n",
        "route[call] { record_route(); if (!lookup(\"location\")) { t_newtran(); t_reply(404, \"Not Found\"); exit; } \
         route(relay); }\n",
    ])
    .start();
    let edge = format!(
        "route[register] {{ add_path_received(\"edge\"); $du = \"sip:{}\"; t_relay(); exit; }}\n\
         route[call] {{ if (loose_route()) {{ t_relay(); }} exit; }}\n",
        registrar.addr
    );
    let edge = Setup::new(&[PROXY, &edge])
        .params("loadmodule \"path.so\"\nmodparam(\"path\", \"use_received\", 1)")
        .start();
    let mut bob = Ua::new("bob", edge.addr);
    bob.register_here("");
    let stored = registrar.mi_json(&["ul_show_contact", "location", "bob@127.0.0.1"]);
    let path = stored["Contacts"][0]["Path"].as_str().unwrap_or_default().to_owned();
    assert!(path.starts_with(&format!("<sip:edge@{};lr;received=sip:127.0.0.1:", edge.addr)), "{stored}");
    let mut alice = Ua::new("alice", registrar.addr);
    let (call, _) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "200 OK");
    alice.expect_reply(200, &call);
}
