//! Scripts in, outcome out: NAT corrections, destination sets and changes of From, through the whole house.

use crate::support::House;
use switchroom_kernel::commands;
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::store::{SqlValue, StoreError};

const MODULES: &str = r#"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "signaling.so"
loadmodule "sipmsgops.so"
"#;

fn no_database(_: &str, _: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    Err(StoreError::Unreachable("test".into()))
}

fn invite(number: u32, more: &str, body: &str) -> String {
    format!(
        "INVITE sip:bob@127.0.0.1:5090 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKr{number}\r\n\
         From: \"Alice\" <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: r{number}\r\n\
         CSeq: 1 INVITE\r\nMax-Forwards: 70\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The value of a header of a sent message.
fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_phone_behind_nat_is_seen_and_its_contact_and_sdp_corrected() {
    let script = format!(
        "{MODULES}{}",
        r#"
loadmodule "nathelper.so"
modparam("nathelper", "received_avp", "$avp(rcv)")
route {
    if (!nat_uac_test("private-contact,private-sdp") || nat_uac_test(16)) {
        send_reply(500, "Test");
        exit;
    }
    fix_nated_register();
    append_hf("X-Received: $avp(rcv)\r\n");
    fix_nated_contact(";x=1", "preserve-uri");
    fix_nated_sdp("rewrite-media-ip", , "\r\na=extra");
    t_relay();
}
"#
    );
    let house = House::start(&script, no_database);
    let sdp =
        "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let more = "Contact: <sip:alice@10.0.0.1:5062>\r\nContent-Type: application/sdp\r\n";
    let sent = house.one(&invite(1, more, sdp));
    assert_eq!(
        header(&sent, "Contact"),
        Some("<sip:alice@127.0.0.1:5070;x=1;org=MTAuMC4wLjE6NTA2Mg>"),
        "{sent}"
    );
    assert_eq!(header(&sent, "X-Received"), Some("sip:127.0.0.1:5070"));
    assert!(
        sent.contains("\r\nc=IN IP4 127.0.0.1\r\n") && sent.ends_with("a=oldcip:10.0.0.1\r\na=extra\r\n"),
        "{sent}"
    );
    house.pass(1);
    let public = "Contact: <sip:alice@192.0.2.1>\r\n";
    assert!(house.one(&invite(2, public, "")).starts_with("SIP/2.0 500"));
}

const DISPATCHER: &str = r#"
loadmodule "dispatcher.so"
modparam("dispatcher", "db_url", "test:one")
modparam("dispatcher", "attrs_avp", "$avp(attrs)")
modparam("dispatcher", "ds_probing_threshhold", 1)
route {
    if (!ds_is_in_list("192.0.2.2", 5080) || ds_is_in_list("192.0.2.9", 0)) {
        send_reply(500, "List");
        exit;
    }
    if (!ds_select_dst(1, 8, "f")) {
        send_reply(503, "None");
        exit;
    }
    t_on_failure("next");
    append_hf("X-Attrs: $avp(attrs)\r\n");
    t_relay();
}
failure_route[next] {
    ds_mark_dst("p");
    ds_count(1, "a", $var(left));
    append_hf("X-Left: $var(left)\r\n");
    if (ds_next_dst()) {
        t_on_failure("next");
        t_relay();
    }
}
"#;

fn destinations(sql: &str, _: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    if sql.starts_with("UPDATE dispatcher SET state") {
        return Ok(Vec::new());
    }
    assert!(sql.ends_with(" FROM dispatcher ORDER BY id"), "{sql}");
    let row = |uri: &str, state: i64, priority: i64, attrs: &str| {
        let (int, text) = (SqlValue::Int, |t: &str| SqlValue::from(t));
        let (mode, weight) = (int(0), text("1"));
        let socket = SqlValue::Null;
        vec![int(1), text(uri), socket, int(state), mode, weight, int(priority), text(attrs), text("")]
    };
    Ok(vec![
        row("sip:192.0.2.2:5080", 0, 1, "second"),
        row("sip:192.0.2.1", 0, 9, "first"),
        row("sip:192.0.2.3", 1, 5, "off"),
    ])
}

/// The reply of a callee to a request that was sent.
fn reply(request: &str, status: &str) -> String {
    let lines = request
        .lines()
        .filter(|l| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| l.starts_with(name)));
    let lines: String = lines.map(|l| format!("{l}\r\n")).collect();
    format!("SIP/2.0 {status}\r\n{lines}Content-Length: 0\r\n\r\n")
}

#[test]
fn a_destination_that_fails_is_marked_and_the_next_one_tried() {
    let house = House::start(&format!("{MODULES}{DISPATCHER}"), destinations);
    let first = house.one(&invite(1, "", ""));
    assert_eq!(header(&first, "X-Attrs"), Some("first"), "{first}");
    let sent = house.take(&reply(&first, "503 Busy"));
    let second = sent.iter().find(|m| m.starts_with("INVITE")).unwrap_or_else(|| panic!("{sent:#?}"));
    assert_eq!(header(second, "X-Left"), Some("1"), "{second}");
    let sent = house.take(&reply(second, "500 No"));
    assert!(sent.iter().any(|m| m.starts_with("SIP/2.0 50")), "{sent:#?}");
    assert!(house.one(&invite(2, "", "")).starts_with("SIP/2.0 503"));

    let run = |name: &str, args| block_on(commands::run(&house.kernel, name, args)).unwrap();
    assert_eq!(run("ds_set_state", serde_json::json!(["a", "1", "sip:192.0.2.2:5080"])), "OK");
    let list = run("dispatcher:list", serde_json::Value::Null);
    let of_set = &list["PARTITIONS"][0]["SETS"][0]["Destinations"];
    let states: Vec<_> = of_set.as_array().unwrap().iter().map(|d| d["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["Probing", "Inactive", "Active"], "{list}");
    // The only argument of before was `full`.
    for full in [serde_json::json!(["full"]), serde_json::json!({"full": 1})] {
        let list = run("ds_list", full);
        assert!(list["PARTITIONS"][0]["SETS"][0]["Destinations"][0]["weight"].is_number(), "{list}");
    }
    assert_eq!(run("ds_reload", serde_json::json!({"inherit_state": "n"})), "OK");
    assert_eq!(header(&house.one(&invite(3, "", "")), "X-Attrs"), Some("first"));
}

const UAC: &str = r#"
loadmodule "uac_auth.so"
loadmodule "uac.so"
modparam("uac_auth", "credential", "trunk:provider:secret")
route {
    if (has_totag()) {
        if (loose_route()) {
            t_relay();
        }
        exit;
    }
    record_route();
    uac_replace_from("Main Office", "sip:+4930@provider.example");
    t_on_failure("challenge");
    t_relay();
}
failure_route[challenge] {
    if (t_check_status("401|407") && uac_auth()) {
        t_on_failure("challenge");
        t_relay();
    }
}
"#;

#[test]
fn another_from_holds_for_the_dialog_and_the_caller_never_sees_it() {
    let house = House::start(&format!("{MODULES}{UAC}"), no_database);
    let sent = house.one(&invite(1, "", ""));
    assert_eq!(header(&sent, "From"), Some("\"Main Office\" <sip:+4930@provider.example>;tag=1"), "{sent}");
    let ok = reply(&sent, "200 OK").replace("To: <sip:bob@example.org>", "To: <sip:bob@example.org>;tag=2");
    let back = house.one(&ok);
    assert_eq!(header(&back, "From"), Some("\"Alice\" <sip:alice@example.org>;tag=1"), "{back}");
    assert_eq!(header(&back, "To"), Some("<sip:bob@example.org>;tag=2"));
    assert_eq!(house.one(&ok), back, "a 200 that comes again looks the same");

    let route = header(&sent, "Record-Route").unwrap();
    let bye = |number: u32, from: &str, to: &str| {
        format!(
            "BYE sip:x@127.0.0.1:5090 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKb{number}\r\n\
             Route: {route}\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: r1\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let down = house.one(&bye(1, "\"Alice\" <sip:alice@example.org>;tag=1", "<sip:bob@example.org>;tag=2"));
    assert_eq!(header(&down, "From"), Some("\"Alice\" <sip:+4930@provider.example>;tag=1"), "{down}");
    let up = house.one(&bye(2, "<sip:bob@example.org>;tag=2", "<sip:+4930@provider.example>;tag=1"));
    assert_eq!(header(&up, "To"), Some("<sip:alice@example.org>;tag=1"), "{up}");
    let back = house.one(&reply(&up, "200 OK"));
    assert_eq!(header(&back, "To"), Some("<sip:+4930@provider.example>;tag=1"), "{back}");
}

#[test]
fn a_challenge_is_answered_once() {
    let house = House::start(&format!("{MODULES}{UAC}"), no_database);
    let sent = house.one(&invite(1, "", ""));
    let refuse = |request: &str, realm: &str| {
        let challenge =
            format!("Proxy-Authenticate: Digest realm=\"{realm}\", nonce=\"n\", qop=\"auth\"\r\nContent");
        reply(request, "407 Who").replace("Content", &challenge)
    };
    let all = house.take(&refuse(&sent, "provider"));
    let again = all.iter().find(|m| m.starts_with("INVITE")).unwrap_or_else(|| panic!("{all:#?}"));
    let answer = header(again, "Proxy-Authorization").unwrap();
    assert!(answer.starts_with("Digest username=\"trunk\", realm=\"provider\", nonce=\"n\""), "{answer}");
    let all = house.take(&refuse(again, "provider"));
    assert!(all.iter().any(|m| m.starts_with("SIP/2.0 407")), "{all:#?}");
    assert!(!all.iter().any(|m| m.starts_with("INVITE")), "{all:#?}");
    let sent = house.one(&invite(2, "", ""));
    let all = house.take(&refuse(&sent, "elsewhere"));
    assert!(all.iter().any(|m| m.starts_with("SIP/2.0 407")), "{all:#?}");
}
