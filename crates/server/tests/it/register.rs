//! The registration flows of RFC 3665 §2, with digest authentication against SQLite.

use std::time::Duration;

use serde_json::json;
use switchroom_testkit::peer::{header, headers};

use crate::support::{DIGEST_REGISTER, House, OPEN_CALL, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua, challenge_param, credentials};

fn house() -> House {
    Setup::new(&[PROXY, DIGEST_REGISTER, OPEN_CALL]).user("bob", "zanzibar").start()
}

/// REGISTER, 401, REGISTER with credentials; gives the last answer.
#[track_caller]
fn register(ua: &mut Ua, call: &mut Call, more: &str, password: &str) -> String {
    let challenge = ua.register(call, more);
    assert!(challenge.starts_with("SIP/2.0 401"), "{challenge}");
    let user = ua.user.clone();
    let answer = credentials(&challenge, &user, password, "REGISTER", "sip:127.0.0.1", 1);
    ua.register(call, &format!("{more}{answer}"))
}

#[test]
fn rfc3665_2_1_a_new_registration_is_challenged_and_taken() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let contact = format!("Contact: <{}>\r\n", bob.contact());
    let challenge = bob.register(&mut call, &contact);
    assert!(challenge.starts_with("SIP/2.0 401 Unauthorized\r\n"), "{challenge}");
    let asked = header(&challenge, "WWW-Authenticate").unwrap();
    assert_eq!(challenge_param(asked, "realm").as_deref(), Some("127.0.0.1"));
    assert_eq!(challenge_param(asked, "qop").as_deref(), Some("auth"));
    assert!(header(&challenge, "To").unwrap().contains(";tag="), "{challenge}");
    let answer = credentials(&challenge, "bob", "zanzibar", "REGISTER", "sip:127.0.0.1", 1);
    let done = bob.register(&mut call, &format!("{contact}{answer}"));
    assert!(done.starts_with("SIP/2.0 200 OK\r\n"), "{done}");
    assert_eq!(header(&done, "CSeq"), Some("2 REGISTER"));
    let bound = header(&done, "Contact").unwrap();
    assert!(bound.contains(&bob.contact()) && bound.contains(";expires=3600"), "{done}");
}

#[test]
fn rfc3665_2_2_the_contact_list_is_updated() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let first = format!("Contact: <{}>;q=0.5\r\nExpires: 600\r\n", bob.contact());
    register(&mut bob, &mut call, &first, "zanzibar");
    let done = register(&mut bob, &mut call, "Contact: mailto:bob@biloxi.example.com\r\n", "zanzibar");
    assert!(done.starts_with("SIP/2.0 200"), "{done}");
    let all: String = headers(&done, "Contact").collect::<Vec<_>>().join(",");
    assert!(all.contains("mailto:bob@biloxi.example.com") && all.contains(&bob.contact()), "{done}");
    assert!(all.contains("q=0.5"), "{done}");
}

#[test]
fn rfc3665_2_3_a_register_without_contact_asks_for_the_list() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let empty = register(&mut bob, &mut call, "", "zanzibar");
    assert!(empty.starts_with("SIP/2.0 200"), "{empty}");
    assert_eq!(header(&empty, "Contact"), None, "{empty}");
    let contact = format!("Contact: <{}>\r\nExpires: 600\r\n", bob.contact());
    register(&mut bob, &mut call, &contact, "zanzibar");
    let list = register(&mut bob, &mut call, "", "zanzibar");
    assert!(header(&list, "Contact").unwrap().contains(&bob.contact()), "{list}");
}

#[test]
fn rfc3665_2_4_a_star_with_expires_0_cancels_all_bindings() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    for contact in [bob.contact(), "sip:bob@192.0.2.9".to_owned()] {
        let done = register(&mut bob, &mut call, &format!("Contact: <{contact}>\r\n"), "zanzibar");
        assert!(done.starts_with("SIP/2.0 200"), "{done}");
    }
    let done = register(&mut bob, &mut call, "Contact: *\r\nExpires: 0\r\n", "zanzibar");
    assert!(done.starts_with("SIP/2.0 200"), "{done}");
    assert_eq!(header(&done, "Contact"), None, "{done}");
    let list = register(&mut bob, &mut call, "", "zanzibar");
    assert_eq!(header(&list, "Contact"), None, "{list}");
    // A star with another expiry is an error (RFC 3261 §10.3 step 6).
    let bad = register(&mut bob, &mut call, "Contact: *\r\nExpires: 60\r\n", "zanzibar");
    assert!(bad.starts_with("SIP/2.0 400"), "{bad}");
}

#[test]
fn rfc3665_2_5_a_wrong_password_is_challenged_again_and_binds_nothing() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let contact = format!("Contact: <{}>\r\n", bob.contact());
    let again = register(&mut bob, &mut call, &contact, "wrong");
    assert!(again.starts_with("SIP/2.0 401"), "{again}");
    assert!(header(&again, "WWW-Authenticate").is_some(), "{again}");
    let list = register(&mut bob, &mut call, "", "zanzibar");
    assert_eq!(header(&list, "Contact"), None, "{list}");
}

#[test]
fn a_binding_is_removed_by_expires_0_and_by_time() {
    let house = Setup::new(&[PROXY, crate::support::OPEN_REGISTER, OPEN_CALL]).start();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let contact = format!("Contact: <{}>;expires=1\r\n", bob.contact());
    assert!(header(&bob.register(&mut call, &contact), "Contact").unwrap().contains("expires=1"));
    let other = "Contact: <sip:bob@192.0.2.9>;expires=600\r\n";
    bob.register(&mut call, other);
    let gone = bob.register(&mut call, "Contact: <sip:bob@192.0.2.9>;expires=0\r\n");
    assert!(!gone.contains("192.0.2.9"), "{gone}");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(4);
    while header(&bob.register(&mut call, ""), "Contact").is_some() {
        assert!(std::time::Instant::now() < until, "the binding did not expire");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn an_old_cseq_of_the_same_call_changes_nothing() {
    let house = Setup::new(&[PROXY, crate::support::OPEN_REGISTER, OPEN_CALL]).start();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    call.cseq = 10;
    let contact = format!("Contact: <{}>;expires=600\r\n", bob.contact());
    assert!(bob.register(&mut call, &contact).starts_with("SIP/2.0 200"));
    call.cseq = 3;
    let late = bob.register(&mut call, &contact.replace("expires=600", "expires=0"));
    assert!(late.starts_with("SIP/2.0 4") || late.starts_with("SIP/2.0 5"), "{late}");
    let list = bob.register(&mut Call::new("bob", "bob"), "");
    assert!(list.contains(&bob.contact()), "{list}");
}

#[test]
fn a_gruu_reaches_one_phone_of_a_user() {
    let house = Setup::new(&[PROXY, OPEN_REGISTER, OPEN_CALL])
        .params("modparam(\"registrar\", \"disable_gruu\", 0)\nmodparam(\"registrar\", \"gruu_secret\", \"s3cret\")")
        .start();
    let mut desk = Ua::new("bob", house.addr);
    let mut mobile = Ua::new("bob", house.addr);
    desk.register_here(";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"");
    let mut call = Call::new("bob", "bob");
    let contact = format!(
        "Supported: gruu\r\nExpires: 600\r\nContact: <{}>;+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\"\r\n",
        mobile.contact()
    );
    let answer = mobile.register(&mut call, &contact);
    let of_mobile =
        answer.split(", <").chain(answer.lines()).find(|c| c.contains("f81d4fae")).expect("a contact");
    let gruu = |name: &str| {
        let value = of_mobile.split(&format!("{name}=\"")).nth(1).and_then(|t| t.split('"').next());
        value.unwrap_or_else(|| panic!("no {name}: {answer}")).to_owned()
    };
    let (public, temporary) = (gruu("pub-gruu"), gruu("temp-gruu"));
    assert_eq!(public, "sip:bob@127.0.0.1;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
    assert!(temporary.starts_with("sip:tgruu.") && temporary.ends_with("@127.0.0.1;gr"), "{temporary}");
    let mut alice = Ua::new("alice", house.addr);
    for uri in [public, temporary.clone()] {
        let call = Call::new("alice", "bob");
        let invite = alice.request("MESSAGE", &uri, &call, "");
        alice.send(invite);
        let got = mobile.expect("MESSAGE");
        mobile.reply(&got, "200 OK");
        alice.expect_reply(200, &call);
    }
    let other = desk.peer.wait_for(std::time::Duration::from_millis(200), |m| m.starts_with("MESSAGE"));
    assert_eq!(other, None, "the other phone is not asked");
    // Another Call-ID ends the temporary ones.
    let mut fresh = Call::new("bob", "bob");
    mobile.register(&mut fresh, &contact);
    let call = Call::new("alice", "bob");
    let invite = alice.request("MESSAGE", &temporary, &call, "");
    alice.send(invite);
    alice.expect_reply(404, &call);
}

/// Takes flags for `save()` and `lookup()` from a header, and shows what `lookup()` found.
const FLAGS: &str = r#"
route {
    if (is_method("REGISTER")) {
        if ($hdr(X-Attr) != NULL) $avp(attr) = $hdr(X-Attr);
        if ($hdr(X-Flags) != NULL) save("location", $hdr(X-Flags));
        else save("location");
        exit;
    }
    if (is_method("INFO")) {
        $msg.branch = "sip:carol@127.0.0.1";
        lookup("location", $hdr(X-Flags));
        append_to_reply("X-Found: $rc $ru $(msg.branch.uri[*]) $(avp(attr)[*])\r\n");
        send_reply(200, "OK");
        exit;
    }
    send_reply(405, "Method Not Allowed");
}
"#;

fn flags_house(params: &str) -> (House, Ua) {
    let attr = "modparam(\"registrar\", \"attr_avp\", \"$avp(attr)\")\n";
    let house = Setup::new(&[FLAGS]).params(&format!("{attr}{params}")).start();
    let ua = Ua::new("bob", house.addr);
    (house, ua)
}

/// What `lookup()` gives with these flags.
#[track_caller]
fn found(ua: &mut Ua, flags: &str) -> String {
    let call = Call::new("bob", "bob");
    let text = ua.request("INFO", "sip:bob@127.0.0.1", &call, &format!("X-Flags: {flags}\r\n"));
    ua.send(text);
    header(&ua.expect_reply(200, &call), "X-Found").unwrap().to_owned()
}

#[test]
fn lookup_filters_by_user_agent_and_expands_the_users_of_branches() {
    let (_house, mut bob) = flags_house("");
    let line = |n: u8, more: &str| format!("Contact: <sip:bob@192.0.2.{n}>{more}\r\n");
    bob.register(
        &mut Call::new("bob", "bob"),
        &(line(1, "") + "User-Agent: Acme Desk 3\r\nX-Attr: desk\r\n"),
    );
    bob.register(&mut Call::new("bob", "bob"), &(line(2, ";q=0.7") + "User-Agent: other\r\n"));
    bob.register(&mut Call::new("carol", "carol"), "Contact: <sip:carol@192.0.2.9>\r\n");
    // The branch of a user stays one unless it is to be looked up too.
    assert_eq!(
        found(&mut bob, "m"),
        "1 sip:bob@192.0.2.2 sip:bob@192.0.2.2,sip:carol@127.0.0.1,sip:bob@192.0.2.1 ,desk"
    );
    assert_eq!(
        found(&mut bob, "r"),
        "1 sip:bob@192.0.2.2 sip:bob@192.0.2.2,sip:bob@192.0.2.1,sip:carol@192.0.2.9 ,desk,"
    );
    for (flags, is) in [
        ("u/^acme/i", "1 sip:bob@192.0.2.1"),
        ("u/^acme/", "-2 sip:bob@127.0.0.1"),
        ("u/Desk [0-9]+$/", "1 sip:bob@192.0.2.1"),
        ("method-filtering,ua-filtering=/other|none/", "1 sip:bob@192.0.2.2"),
    ] {
        let got = found(&mut bob, flags);
        assert!(got.starts_with(&format!("{is} ")), "{flags}: {got}");
    }
}

#[test]
fn contacts_are_called_by_q_and_in_the_order_they_came_or_newest_first() {
    let order = |params: &str| {
        let (_house, mut bob) = flags_house(params);
        for (n, q) in [(1, "0.5"), (2, "0.9"), (3, "0.5")] {
            let contact = format!("Contact: <sip:bob@192.0.2.{n}>;q={q}\r\n");
            bob.register(&mut Call::new("bob", "bob"), &contact);
        }
        let list = bob.register(&mut Call::new("bob", "bob"), "");
        let contacts = header(&list, "Contact").unwrap().to_owned();
        contacts.split("192.0.2.").skip(1).map(|c| c[..1].to_owned()).collect::<String>()
    };
    assert_eq!(order(""), "213");
    assert_eq!(order("modparam(\"usrloc\", \"desc_time_order\", 1)\n"), "321");
}

/// `if (!save("location")) sl_reply_error();` is in nearly every script; the phone gets one answer, with the statistics
/// of the table as the manual names them.
#[test]
fn a_refusal_of_save_is_the_only_answer() {
    let routes = r#"
route[register] {
    force_rport();
    if (!save("location")) sl_reply_error();
    exit;
}
"#;
    let params = "modparam(\"registrar\", \"max_contacts\", 1)";
    let house = Setup::new(&[PROXY, OPEN_CALL, routes]).params(params).start();
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    let full = bob.register(&mut Call::new("bob", "bob"), "Contact: <sip:bob@192.0.2.2>\r\n");
    assert!(full.starts_with("SIP/2.0 503"), "{full}");
    assert!(bob.peer.is_quiet(Duration::from_millis(200)));
    let counted = house.mi_json(&["statistics:get", "usrloc:"]);
    assert_eq!(
        (&counted["usrloc:location-users"], &counted["usrloc:location-contacts"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(counted["usrloc:location-expires"], json!(0), "{counted}");
}

#[test]
fn a_refused_register_says_why_in_a_header_of_its_own() {
    let (_house, mut bob) = flags_house("modparam(\"registrar\", \"retry_after\", 7)\n");
    let mut refused = |more: &str| bob.register(&mut Call::new("bob", "bob"), more);
    assert!(refused("Contact: <sip:bob@192.0.2.1>\r\n").starts_with("SIP/2.0 200"));
    let full = refused("Contact: <sip:bob@192.0.2.2>\r\nX-Flags: c1\r\n");
    assert!(full.starts_with("SIP/2.0 503 Service Unavailable\r\n"), "{full}");
    assert_eq!(header(&full, "P-Registrar-Error"), Some("Too many registered contacts"));
    assert_eq!(header(&full, "Retry-After"), Some("7"));
    let star = refused("Contact: *\r\nExpires: 60\r\n");
    assert!(
        star.starts_with("SIP/2.0 400 Bad Request\r\n") && header(&star, "Retry-After").is_none(),
        "{star}"
    );
    let path = refused("Contact: <sip:bob@192.0.2.3>\r\nPath: <sip:edge.example.org;lr>\r\nX-Flags: p2\r\n");
    assert!(path.starts_with("SIP/2.0 420 Bad Extension\r\n"), "{path}");
    assert_eq!(header(&path, "Unsupported"), Some("path"));
    assert_eq!(header(&path, "Path"), Some("<sip:edge.example.org;lr>"));
}

#[test]
fn a_register_that_was_relayed_is_saved_from_its_reply_for_as_long_as_that_says() {
    const EDGE: &str = r#"
route {
    if (!is_method("REGISTER")) { send_reply(405, "Method Not Allowed"); exit; }
    if ($hdr(X-List) != NULL) { save("location"); exit; }
    $avp(left) = "sip:edge@127.0.0.1:5999";
    remove_hf("Contact");
    append_hf("Contact: <$avp(left)>\r\n");
    t_on_reply("registered");
    $du = "sip:" + $hdr(X-Registrar);
    t_relay();
}
onreply_route[registered] {
    if ($rs == 200) save("location");
}
"#;
    let params = "modparam(\"tm\", \"onreply_avp_mode\", 1)\nmodparam(\"registrar\", \"mcontact_avp\", \"$avp(left)\")\n";
    let house = Setup::new(&[EDGE]).params(params).start();
    let mut bob = Ua::new("bob", house.addr);
    let mut registrar = Ua::new("registrar", house.addr);
    let call = Call::new("bob", "bob");
    let more =
        format!("Contact: <sip:bob@192.0.2.1>;expires=3600\r\nX-Registrar: {}\r\n", registrar.peer.addr());
    let text = bob.request("REGISTER", "sip:127.0.0.1", &call, &more);
    bob.send(text);
    let asked = registrar.expect("REGISTER");
    let granted = "Contact: <sip:else@192.0.2.7>;expires=9, <sip:edge@127.0.0.1:5999>;expires=300\r\n";
    registrar.send(switchroom_testkit::peer::response(&asked, "200 OK", "t1", granted));
    let done = bob.expect_reply(200, &call);
    assert!(done.contains("sip:edge@127.0.0.1:5999"), "{done}");
    // One answer: that of the registrar. Then our list, with the time it gave.
    let more = bob.peer.wait_for(std::time::Duration::from_millis(300), |m| m.starts_with("SIP/2.0"));
    assert!(more.is_none(), "{more:?}");
    let list = bob.register(&mut Call::new("bob", "bob"), "X-List: 1\r\n");
    let contact = header(&list, "Contact").unwrap();
    assert!(
        contact.starts_with("<sip:bob@192.0.2.1>;expires=300") || contact.contains("expires=299"),
        "{list}"
    );
}
