//! The SMS centre between scripts, SIP users and other centres: routing by script, texts in parts, notifications, aliases,
//! further routes, and what accounts may ask for.

use std::net::TcpListener;
use std::time::Duration;

use switchroom_testkit::peer::header;
use switchroom_wire::smpp::{
    Alert, Body, CommandId, Header, Pdu, Rules, ShortMessage, Status, push_tlv, receipt,
};

use crate::cloud::Cloud;
use crate::messages::{Stage, deliver, stage, stage_with, submit, text};
use crate::smsc::Smpp;
use crate::ua::{Call, Ua};

/// Phones register, and their messages go to the centre.
const PHONES: &str = r#"
route {
    if (is_method("REGISTER")) { save("location"); exit; }
    if (is_method("MESSAGE")) {
        if (sms_submit("inbox")) send_reply(202, "Accepted");
        else { append_to_reply("X-Error: $sms(error)\r\n"); send_reply(403, "No SMS"); }
    }
}
"#;

/// A part of a text, with a header.
fn part(total: u8, n: u8, said: &str) -> Vec<u8> {
    [&[5, 0, 3, 7, total, n][..], said.as_bytes()].concat()
}

fn with_header(octets: &[u8]) -> ShortMessage<'_> {
    ShortMessage { esm_class: 0x40, ..text(octets) }
}

/// Sends a MESSAGE from a phone; gives the reply.
#[track_caller]
fn say(phone: &mut Ua, to: &str, kind: &str, body: &str) -> String {
    let call = Call::new(&phone.user, to);
    let plain =
        phone.request("MESSAGE", &format!("sip:{to}@127.0.0.1"), &call, &format!("Content-Type: {kind}\r\n"));
    let head = plain.split("Content-Length").next().unwrap();
    phone.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
    phone.expect("SIP/2.0 ")
}

fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

/// Another centre that the house is bound to as `name`.
fn upstream(stage: &Stage, name: &str) -> Smpp {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    stage.house.sql(&format!(
        "INSERT INTO smpp (name, ip, port, system_id, password, session_type) VALUES ('{name}', '127.0.0.1', {port}, 'me', 'x', 1)"
    ));
    stage.mi(&["smpp:reload"]);
    let mut up = Smpp::accept(&listener);
    up.accept_bind();
    up
}

#[test]
fn a_script_reads_changes_routes_and_refuses_messages_and_may_wait() {
    let routes = r#"
        route { exit; }
        route[sms] {
            xlog("$sms(account): $sms(from).$sms(from_ton) $sms(to).$sms(to_ton) $sms(part)/$sms(parts) $sms(tlv:0x1400) $sms(network)\n");
            if ($sms(text) =~ "casino") sms_reject(0x0403);
            if ($sms(text) == "nothing") drop;
            if ($sms(to) =~ "^4900") {
                usleep(50000);
                $sms(to) = "+49151" + $(sms(to){s.substr,4,0});
                $sms(from) = "Info";
                $sms(text) = "[ad] " + $sms(text);
                $sms(tlv:0x1401) = "0a0b";
                $sms(registered_delivery) = 0;
                $sms(target) = "account:inbox";
            }
        }
    "#;
    let more = "loadmodule \"cfgutils.so\"\nmodparam(\"smsc\", \"route\", \"sms\")\n";
    let stage = stage_with(routes, more);
    stage.house.sql("INSERT INTO sms_network (prefix, mccmnc, name) VALUES ('4915', '26202', 'x')");
    stage.mi(&["smsc:reload"]);
    let (mut shop, mut inbox) = (stage.bind("shop"), stage.bind("inbox"));
    let mut tlvs = Vec::new();
    push_tlv(&mut tlvs, 0x1400, b"\x01\xff");
    let tlvs = switchroom_wire::smpp::Tlvs::read(&tlvs, true).unwrap();
    submit(&mut shop, "4915123", ShortMessage { tlvs, registered_delivery: 0, ..text(b"hello") }).unwrap();
    assert_eq!(deliver(&mut inbox, Status::OK).0, b"hello");
    stage.house.expect_log("shop: Shop.1 4915123.1 1/1 01ff 26202");
    assert_eq!(submit(&mut shop, "4915123", text(b"A CASINO")), Err(Status::FORBIDDENWORDS));
    submit(&mut shop, "4915123", text(b"nothing")).unwrap();
    submit(
        &mut shop,
        "4900777",
        text("grüße".encode_utf16().map(|u| u as u8).collect::<Vec<_>>().as_slice()),
    )
    .unwrap();
    let pdu = inbox.next();
    let read = Pdu::read(&pdu, Rules::LENIENT).unwrap();
    let Body::Message(m) = read.body else { panic!("{read:?}") };
    assert_eq!((m.source.addr, m.source.ton, m.destination.addr), (&b"Info"[..], 5, &b"49151777"[..]));
    assert!(m.text.starts_with(b"\x1b\x3cad\x1b\x3e gr"), "{:?}", m.text);
    assert_eq!(m.tlvs.get(0x1401), Some(&b"\x0a\x0b"[..]));
    inbox.answer(read.header, Status::OK, "");
    let counted = stage.mi(&["get_statistics", "smsc:"]);
    assert_eq!(counted["smsc:dropped"].as_i64(), Some(1), "{counted}");
}

#[test]
fn a_text_in_parts_goes_to_a_phone_as_one_message_and_lone_parts_as_they_are() {
    let stage = stage_with(PHONES, "modparam(\"smsc\", \"join_timeout\", 2)\n");
    stage.mi(&["smsc:route", "target=sip:127.0.0.1", "prefix=7"]);
    let mut phone = Ua::new("7001", stage.house.addr);
    phone.register_here("");
    let mut shop = stage.bind("shop");
    let mut ids = Vec::new();
    for (n, said) in [(3, "three"), (1, "one "), (2, "two ")] {
        ids.push(submit(&mut shop, "7001", with_header(&part(3, n, said))).unwrap());
    }
    let request = phone.expect("MESSAGE sip:7001@");
    assert_eq!(body(&request), "one two three");
    phone.reply(&request, "200 OK");
    for _ in 0..3 {
        let (octets, _, _) = deliver(&mut shop, Status::OK);
        let read = receipt::read(&octets).unwrap();
        assert_eq!(read.stat, b"DELIVRD");
        ids.retain(|id| id.as_bytes() != read.id);
    }
    assert!(ids.is_empty(), "each part has its receipt");
    submit(&mut shop, "7001", with_header(&part(2, 2, "alone"))).unwrap();
    assert!(phone.peer.is_quiet(Duration::from_millis(500)));
    let request = phone.expect("MESSAGE sip:7001@");
    assert_eq!(body(&request), "alone");
    phone.reply(&request, "200 OK");
    deliver(&mut shop, Status::OK);
}

#[test]
fn parts_that_were_answered_survive_the_process() {
    let mut stage = stage_with(PHONES, "");
    stage.mi(&["smsc:route", "target=sip:127.0.0.1", "prefix=7"]);
    let mut shop = stage.bind("shop");
    submit(&mut shop, "7001", with_header(&part(2, 1, "before "))).unwrap();
    stage.house.server.kill();
    stage.house.server.start_again(Duration::from_secs(20));
    let mut shop = stage.bind("shop");
    submit(&mut shop, "7001", with_header(&part(2, 2, "after"))).unwrap();
    let mut phone = Ua::new("7001", stage.house.addr);
    phone.register_here("");
    let request = phone.expect("MESSAGE sip:7001@");
    assert_eq!(body(&request), "before after");
    phone.reply(&request, "200 OK");
}

#[test]
fn parts_from_another_centre_are_answered_when_they_are_stored() {
    let stage = stage_with(PHONES, "");
    stage.mi(&["smsc:route", "target=sip:127.0.0.1", "prefix=7"]);
    let mut up = upstream(&stage, "up");
    for (n, said) in [(1, "from "), (2, "outside")] {
        let octets = part(2, n, said);
        let m = ShortMessage { esm_class: 0x40, text: &octets, ..ShortMessage::default() };
        up.message(CommandId::DELIVER_SM, "4477", "7001", m);
        assert_eq!(up.header().status, Status::OK);
        assert_eq!(stage.house.sql("SELECT COUNT(*) FROM sms_message"), n.to_string());
    }
    let mut phone = Ua::new("7001", stage.house.addr);
    phone.register_here("");
    let request = phone.expect("MESSAGE sip:7001@");
    assert_eq!(body(&request), "from outside");
    assert!(header(&request, "From").unwrap().starts_with("<sip:4477@"), "{request}");
    phone.reply(&request, "200 OK");
}

#[test]
fn messages_to_a_phone_keep_their_order() {
    let stage = stage_with(PHONES, "");
    stage.mi(&["smsc:route", "target=sip:127.0.0.1", "prefix=7"]);
    let mut phone = Ua::new("7001", stage.house.addr);
    phone.register_here("");
    let mut shop = stage.bind("shop");
    for n in 0..20 {
        let said = n.to_string();
        submit(&mut shop, "7001", ShortMessage { registered_delivery: 0, ..text(said.as_bytes()) }).unwrap();
    }
    for n in 0..20 {
        let request = phone.expect("MESSAGE sip:7001@");
        assert_eq!(body(&request), n.to_string());
        phone.reply(&request, "200 OK");
    }
}

#[test]
fn numbers_and_users_are_mapped_by_the_table_of_aliases() {
    let stage = stage_with(PHONES, "modparam(\"smsc\", \"alias_table\", \"dbaliases\")\n");
    stage.house.sql(
        "INSERT INTO dbaliases (alias_username, alias_domain, username, domain) VALUES ('7001', '127.0.0.1', 'alice', '127.0.0.1')",
    );
    stage.mi(&["smsc:route", "target=sip:127.0.0.1", "prefix=7"]);
    let mut alice = Ua::new("alice", stage.house.addr);
    alice.register_here("");
    let (mut shop, mut inbox) = (stage.bind("shop"), stage.bind("inbox"));
    submit(&mut shop, "7001", text(b"hello")).unwrap();
    let request = alice.expect("MESSAGE sip:alice@");
    alice.reply(&request, "200 OK");
    deliver(&mut shop, Status::OK);
    assert!(say(&mut alice, "49301", "text/plain", "and back").contains("202"));
    let pdu = inbox.next();
    let Body::Message(m) = Pdu::read(&pdu, Rules::LENIENT).unwrap().body else { panic!() };
    assert_eq!((m.source.addr, m.text), (&b"7001"[..], &b"and back"[..]));
}

#[test]
fn a_phone_that_asks_is_told_of_the_end_of_its_message() {
    let stage = stage_with(PHONES, "");
    let mut phone = Ua::new("7001", stage.house.addr);
    phone.register_here("");
    let mut inbox = stage.bind("inbox");
    let wrapped = |said: &str| {
        format!(
            "From: <sip:7001@127.0.0.1>\r\nTo: <sip:4930@127.0.0.1>\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
             imdn.Message-ID: d834\r\nDateTime: 2026-01-31T12:00:00Z\r\n\
             imdn.Disposition-Notification: positive-delivery, negative-delivery\r\n\r\n\
             Content-type: text/plain\r\n\r\n{said}"
        )
    };
    for (said, status, word) in
        [("short".to_owned(), Status::OK, "delivered"), ("long ".repeat(60), Status::RX_R_APPN, "failed")]
    {
        assert!(say(&mut phone, "4930", "message/cpim", &wrapped(&said)).contains(" 202 "));
        let parts = if said.len() > 160 { 2 } else { 1 };
        for _ in 0..parts {
            deliver(&mut inbox, status);
        }
        let told = phone.expect("MESSAGE sip:7001@");
        phone.reply(&told, "200 OK");
        assert!(told.contains("Content-Type: message/cpim"), "{told}");
        assert!(told.contains("<message-id>d834</message-id>"), "{told}");
        assert!(told.contains(&format!("<status><{word}/></status>")), "{told}");
        assert!(told.contains("<recipient-uri>sip:4930@127.0.0.1</recipient-uri>"), "{told}");
    }
    assert!(phone.peer.is_quiet(Duration::from_millis(300)), "once for all parts");
}

#[test]
fn a_receipt_waits_for_what_the_phone_says() {
    let stage = stage_with(PHONES, "modparam(\"smsc\", \"imdn\", 1)\n");
    stage.mi(&["smsc:route", "target=sip:127.0.0.1", "prefix=7"]);
    let mut phone = Ua::new("7001", stage.house.addr);
    phone.register_here("");
    let mut shop = stage.bind("shop");
    let id = submit(&mut shop, "7001", text(b"hello")).unwrap();
    let request = phone.expect("MESSAGE sip:7001@");
    assert!(request.contains(&format!("imdn.Message-ID: sms-{id}\r\n")), "{request}");
    assert!(request.ends_with("\r\n\r\nhello"), "{request}");
    phone.reply(&request, "200 OK");
    assert!(shop.next_within(Duration::from_millis(500)).is_none(), "the phone has only taken it");
    let xml = format!(
        "<?xml version=\"1.0\"?><imdn xmlns=\"urn:ietf:params:xml:ns:imdn\"><message-id>sms-{id}</message-id>\
         <delivery-notification><status><delivered/></status></delivery-notification></imdn>"
    );
    let told = format!(
        "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: x\r\n\r\nContent-type: message/imdn+xml\r\n\r\n{xml}"
    );
    assert!(say(&mut phone, "Shop", "message/cpim", &told).contains(" 202 "));
    let (octets, _, _) = deliver(&mut shop, Status::OK);
    let read = receipt::read(&octets).unwrap();
    assert_eq!((read.id, read.stat), (id.as_bytes(), &b"DELIVRD"[..]));
    // A phone that knows plain text only.
    submit(&mut shop, "7001", text(b"again")).unwrap();
    let request = phone.expect("MESSAGE sip:7001@");
    phone.reply(&request, "415 Unsupported Media Type");
    let request = phone.expect("MESSAGE sip:7001@");
    assert_eq!(
        (header(&request, "Content-Type"), body(&request)),
        (Some("text/plain;charset=utf-8"), "again")
    );
    phone.reply(&request, "200 OK");
    assert_eq!(receipt::read(&deliver(&mut shop, Status::OK).0).unwrap().stat, b"DELIVRD");
}

#[test]
fn a_message_goes_on_to_the_next_centre_when_the_first_fails() {
    let stage = stage("");
    let (mut a, mut b) = (upstream(&stage, "a"), upstream(&stage, "b"));
    stage.mi(&["smsc:route", "target=smsc:a", "prefix=44"]);
    stage.mi(&["smsc:route", "target=smsc:b", "prefix=44", "priority=1"]);
    let mut shop = stage.bind("shop");
    for refused in [true, false] {
        let id = submit(&mut shop, "447700900", text(b"hello")).unwrap();
        let asked = a.header();
        if refused {
            a.answer(asked, Status::SUBMITFAIL, "");
        } else {
            a.answer(asked, Status::OK, "77");
            let m =
                ShortMessage { esm_class: 4, text: b"id:77 stat:UNDELIV err:001", ..ShortMessage::default() };
            a.message(CommandId::DELIVER_SM, "447700900", "Shop", m);
            assert_eq!(a.header().status, Status::OK);
        }
        let asked = b.header();
        assert_eq!(asked.command, CommandId::SUBMIT_SM);
        b.answer(asked, Status::OK, "88");
        let m = ShortMessage { esm_class: 4, text: b"id:88 stat:DELIVRD err:000", ..ShortMessage::default() };
        b.message(CommandId::DELIVER_SM, "447700900", "Shop", m);
        assert_eq!(b.header().status, Status::OK);
        let read = deliver(&mut shop, Status::OK).0;
        let read = receipt::read(&read).unwrap();
        assert_eq!((read.id, read.stat), (id.as_bytes(), &b"DELIVRD"[..]), "nothing of the failure");
    }
}

#[test]
fn an_account_is_read_as_the_field_needs_it_or_to_the_letter() {
    let stage = stage("");
    stage.mi(&["smsc:account", "system_id=long", "password=ninechars"]);
    let send = |peer: &mut Smpp| {
        // A sender in Latin-1.
        let address = |ton, addr| switchroom_wire::smpp::Address { ton, npi: 1, addr };
        let m = ShortMessage {
            source: address(5, b"Caf\xe9"),
            destination: address(1, b"4915"),
            ..text(b"hello")
        };
        peer.send(Header::request(CommandId::SUBMIT_SM, 9), Body::Message(m));
        peer.header().status
    };
    let mut peer = Smpp::connect(stage.smpp);
    assert_eq!(peer.bind(CommandId::BIND_TRANSMITTER, "long", "ninechars"), Status::OK);
    assert_eq!(send(&mut peer), Status::OK);
    stage.mi(&["smsc:account", "system_id=long", "strict=1"]);
    let mut peer = Smpp::connect(stage.smpp);
    assert_eq!(peer.bind(CommandId::BIND_TRANSMITTER, "long", "ninechars"), Status::INVPASWD);
    stage.mi(&["smsc:account", "system_id=shop", "strict=1"]);
    let mut shop = stage.bind("shop");
    assert_eq!(send(&mut shop), Status::INVSRCADR);
    submit(&mut shop, "4915", text(b"plain")).unwrap();
}

#[test]
fn lists_are_edited_live_and_stand_for_their_members() {
    let stage = stage("");
    for number in ["4915001", "+4915002"] {
        stage.mi(&["smsc:list", "name=friends", &format!("address={number}")]);
    }
    stage.mi(&["smsc:list", "name=friends", "address=4915003", "account=inbox"]);
    let (mut shop, mut inbox) = (stage.bind("shop"), stage.bind("inbox"));
    let to = |name: &[u8], out: &mut Vec<u8>| {
        out.push(2);
        out.extend_from_slice(name);
        out.push(0);
    };
    let multi = |peer: &mut Smpp, name: &[u8]| {
        let mut targets = Vec::new();
        to(name, &mut targets);
        let body = Body::Multi { message: text(b"all"), count: 1, targets: &targets };
        peer.send(Header::request(CommandId::SUBMIT_MULTI, 5), body);
        peer.header().status
    };
    assert_eq!(multi(&mut shop, b"nobody"), Status::INVDLNAME);
    assert_eq!(multi(&mut shop, b"friends"), Status::OK);
    let mut got: Vec<String> = (0..2).map(|_| deliver(&mut inbox, Status::OK).2).collect();
    got.sort();
    assert_eq!(got, ["4915001", "4915002"]);
    stage.mi(&["smsc:list", "name=friends", "address=-4915001"]);
    let lists = stage.mi(&["smsc:list"]);
    assert_eq!(lists["Lists"][0]["Members"], serde_json::json!(["4915002"]), "{lists}");
}

#[test]
fn a_customer_hears_when_a_phone_is_there_again() {
    let stage = stage_with(PHONES, "modparam(\"smsc\", \"validity\", 2)\n");
    stage.mi(&["smsc:route", "target=sip:127.0.0.1", "prefix=7"]);
    let mut shop = stage.bind("shop");
    let mut tlvs = Vec::new();
    push_tlv(&mut tlvs, 0x0421, &[1]);
    let tlvs = switchroom_wire::smpp::Tlvs::read(&tlvs, true).unwrap();
    submit(&mut shop, "7001", ShortMessage { tlvs, ..text(b"hello") }).unwrap();
    assert_eq!(receipt::read(&deliver(&mut shop, Status::OK).0).unwrap().stat, b"EXPIRED");
    let mut phone = Ua::new("7001", stage.house.addr);
    phone.register_here("");
    let pdu = shop.next();
    let read = Pdu::read(&pdu, Rules::STRICT).unwrap();
    let Body::Alert(alert) = read.body else { panic!("{read:?}") };
    assert_eq!((alert.source.addr, alert.esme.addr), (&b"7001"[..], &b"Shop"[..]));
    // The same from another centre.
    let mut up = upstream(&stage, "up");
    stage.mi(&["smsc:route", "target=smsc:up", "prefix=44"]);
    submit(&mut shop, "4477", ShortMessage { tlvs, ..text(b"hello") }).unwrap();
    let asked = up.header();
    up.answer(asked, Status::OK, "5");
    let m = ShortMessage { esm_class: 4, text: b"id:5 stat:UNDELIV err:001", ..ShortMessage::default() };
    up.message(CommandId::DELIVER_SM, "4477", "Shop", m);
    assert_eq!(up.header().status, Status::OK);
    assert_eq!(receipt::read(&deliver(&mut shop, Status::OK).0).unwrap().stat, b"UNDELIV");
    let address = |addr| switchroom_wire::smpp::Address { ton: 1, npi: 1, addr };
    let alert = Alert { source: address(b"4477"), esme: address(b"1"), tlvs: Default::default() };
    up.send(Header::request(CommandId::ALERT_NOTIFICATION, 9), Body::Alert(alert));
    let pdu = shop.next();
    let read = Pdu::read(&pdu, Rules::STRICT).unwrap();
    assert!(matches!(read.body, Body::Alert(a) if a.source.addr == b"4477"), "{read:?}");
}

#[test]
fn a_key_is_done_once_whatever_happens_and_webhooks_that_fail_are_listed() {
    let mut stage = stage("");
    let key =
        stage.mi(&["smsc:account", "system_id=shop", "api_key=1"])["api_key"].as_str().unwrap().to_owned();
    let post = |stage: &Stage| {
        let head = format!("POST /sms/v1/messages HTTP/1.1\r\nX-Api-Key: {key}\r\nIdempotency-Key: k1");
        stage.http(&head, r#"{"to": "+4915123", "text": "once"}"#)
    };
    let first = post(&stage);
    assert_eq!(first.0, 202, "{}", first.1);
    stage.house.server.kill();
    stage.house.server.start_again(Duration::from_secs(20));
    assert_eq!(post(&stage), first);
    assert_eq!(stage.house.sql("SELECT COUNT(*) FROM sms_message"), "1");
    // Nobody listens there.
    let port = switchroom_testkit::free_port();
    let key = stage.mi(&[
        "smsc:account",
        "system_id=inbox",
        "api_key=1",
        &format!("webhook=http://127.0.0.1:{port}/hook"),
    ])["api_key"]
        .as_str()
        .unwrap()
        .to_owned();
    let list = |stage: &Stage, state: &str| {
        let head = format!("GET /sms/v1/webhooks?state={state} HTTP/1.1\r\nX-Api-Key: {key}");
        let (status, body) = stage.http(&head, "");
        assert_eq!(status, 200);
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["webhooks"].clone()
    };
    let tried = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        list(&stage, "pending")[0]["attempts"].as_i64() > Some(0)
    });
    assert!(tried, "{}", list(&stage, "pending"));
    let id = list(&stage, "pending")[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(stage.mi(&["smsc:webhooks", "inbox", "pending"])["Webhooks"][0]["id"], *id);
    assert_eq!(list(&stage, "failed"), serde_json::json!([]));
    stage.house.sql(&format!("UPDATE sms_message SET expires = 1 WHERE id = {id}"));
    stage.house.server.kill();
    stage.house.server.start_again(Duration::from_secs(20));
    let failed = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        list(&stage, "failed")[0]["id"].as_str() == Some(&id)
    });
    assert!(failed);
}

#[test]
fn a_phone_that_sleeps_is_woken_by_push_and_gets_what_waits() {
    let cloud = Cloud::start();
    let more = format!(
        "loadmodule \"event_routing.so\"\nloadmodule \"push.so\"\nmodparam(\"registrar\", \"pn_enable\", 1)\n\
         modparam(\"registrar\", \"pn_providers\", \"any\")\nmodparam(\"registrar\", \"pn_refresh_timeout\", 1)\n\
         modparam(\"registrar\", \"max_contact_len\", 1000)\n{}",
        cloud.params()
    );
    let stage = stage_with(PHONES, &more);
    stage.mi(&["smsc:route", "target=sip:127.0.0.1", "prefix=7"]);
    let mut phone = Ua::new("7001", stage.house.addr);
    let mut call = Call::new("7001", "7001");
    let contact =
        format!("Contact: <{};pn-provider=acme;pn-prid=x1;pn-param=y1>\r\nExpires: 600\r\n", phone.contact());
    assert!(phone.register(&mut call, &contact).starts_with("SIP/2.0 200"));
    // It falls asleep.
    std::thread::sleep(Duration::from_millis(2100));
    let mut shop = stage.bind("shop");
    submit(&mut shop, "7001", text(b"wake up")).unwrap();
    assert_eq!(cloud.expect("/hook").json()["prid"], "x1");
    assert!(phone.peer.is_quiet(Duration::from_millis(200)), "nothing is sent to a phone that sleeps");
    assert!(phone.register(&mut call, &contact).starts_with("SIP/2.0 200"));
    let request = phone.expect("MESSAGE sip:7001@");
    assert!(!request.lines().next().unwrap().contains("pn-"), "{request}");
    assert_eq!(body(&request), "wake up");
    phone.reply(&request, "200 OK");
    assert_eq!(receipt::read(&deliver(&mut shop, Status::OK).0).unwrap().stat, b"DELIVRD");
}

#[test]
fn a_customer_who_does_not_answer_is_cut_and_gets_it_again() {
    let stage = stage("modparam(\"smsc\", \"response\", 1)\n");
    let (mut shop, mut inbox) = (stage.bind("shop"), stage.bind("inbox"));
    submit(&mut shop, "4915123", ShortMessage { registered_delivery: 0, ..text(b"hello") }).unwrap();
    assert_eq!(inbox.header().command, CommandId::DELIVER_SM);
    // Without unbind: the connection simply ends.
    assert!(inbox.try_next().is_none());
    let mut inbox = stage.bind("inbox");
    assert_eq!(deliver(&mut inbox, Status::OK).0, b"hello");
    stage.house.expect_log("may be delivered twice");
}

#[test]
fn garbage_and_half_pdus_of_a_customer_end_only_his_connection() {
    let stage = stage("");
    let (mut shop, mut inbox) = (stage.bind("shop"), stage.bind("inbox"));
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &1_000_000u32.to_be_bytes().repeat(4), &[0; 64], &[0xff; 64]]
    {
        for bound in [false, true] {
            let mut bad = if bound { stage.bind("inbox") } else { Smpp::connect(stage.smpp) };
            bad.write(garbage);
            assert_eq!(bad.header().status, Status::INVCMDLEN);
            assert!(bad.try_next().is_none());
        }
    }
    let mut half = stage.bind("inbox");
    half.write(&[0, 0, 0, 80, 0, 0, 0, 4, 0, 0]);
    submit(&mut shop, "4915123", ShortMessage { registered_delivery: 0, ..text(b"hello") }).unwrap();
    // Either bind of the customer may get it; the half PDU holds up nothing.
    let got =
        [&mut inbox, &mut half].into_iter().any(|peer| peer.next_within(Duration::from_secs(1)).is_some());
    assert!(got);
    let binds = stage.mi(&["smsc:binds"]);
    assert_eq!(binds["Accounts"][0]["Binds"].as_array().map(Vec::len), Some(2), "{binds}");
}

#[test]
fn customers_bind_with_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = switchroom_testkit::free_port();
    let stage = stage(&format!(
        "modparam(\"smsc\", \"listen_tls\", \"127.0.0.1:{port}\")\n\
         modparam(\"smsc\", \"tls_certificate\", \"{}\")\nmodparam(\"smsc\", \"tls_key\", \"{}\")\n",
        certificate.display(),
        key.display()
    ));
    let mut inbox = stage.bind("inbox");
    let sent = std::process::Command::new(crate::support::PROGRAM)
        .args(["smpp", "send", "--tls", "--to", &format!("127.0.0.1:{port}"), "-s", "shop", "-p", "secret"])
        .args(["--dest", "4915123", "over TLS"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[sent.stdout, sent.stderr].concat()).into_owned();
    assert!(sent.status.success(), "{said}");
    assert_eq!(deliver(&mut inbox, Status::OK).0, b"over TLS");
}

#[test]
fn pages_that_customers_name_are_called_with_the_end_of_their_message() {
    use std::io::{Read, Write};
    let stage = stage("");
    let mut inbox = stage.bind("inbox");
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let page = format!("http%3A%2F%2F127.0.0.1%3A{}%2F", web.local_addr().unwrap().port());
    let asked = || {
        let (mut stream, _) = web.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut octets = Vec::new();
        let mut buffer = [0; 4096];
        // A head, and a body when one is announced.
        loop {
            let n = stream.read(&mut buffer).unwrap();
            octets.extend_from_slice(&buffer[..n]);
            let text = String::from_utf8_lossy(&octets).into_owned();
            let long = header(&text, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
            if text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= long) {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                return text;
            }
        }
    };
    let login = "username=shop&password=secret";
    let long = "long+".repeat(40);
    let kannel = format!(
        "GET /cgi-bin/sendsms?{login}&from=Shop&to=4915&text={long}&dlr-mask=31&dlr-url={page}%3Ft%3D%25d%26who%3D%25p HTTP/1.1"
    );
    assert_eq!(stage.http(&kannel, "").0, 202);
    for _ in 0..2 {
        deliver(&mut inbox, Status::OK);
    }
    let said = asked();
    assert!(said.starts_with("GET /?t=1&who=4915 HTTP/1.1\r\n"), "{said}");
    let jasmin = format!("GET /send?{login}&to=4916&content=hi&dlr=yes&dlr-level=2&dlr-url={page} HTTP/1.1");
    assert_eq!(stage.http(&jasmin, "").0, 200);
    deliver(&mut inbox, Status::RX_R_APPN);
    let said = asked();
    assert!(said.starts_with("POST / HTTP/1.1\r\n") && said.contains("message_status=UNDELIV"), "{said}");
}
