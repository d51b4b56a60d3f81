//! The SMS centre, end to end: customers with SMPP and HTTP, another centre, and a process that dies.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use switchroom_testkit::free_port;
use switchroom_testkit::peer::header;
use switchroom_wire::smpp::{Body, CommandId, Header, MessageId, Pdu, Rules, ShortMessage, Status, receipt};

use crate::smsc::Smpp;
use crate::support::{House, Setup};
use crate::ua::{Call, Ua};

pub struct Stage {
    pub house: House,
    pub smpp: SocketAddr,
}

/// A centre with the customers `shop` and `inbox`; everything to 49 goes to `inbox`.
pub fn stage(more: &str) -> Stage {
    stage_with("route { exit; }", more)
}

pub fn stage_with(routes: &str, more: &str) -> Stage {
    stage_of(Setup::new(&[routes]).database(), more)
}

/// On the database of this setup.
pub fn stage_of(setup: Setup, more: &str) -> Stage {
    let port = free_port();
    let params = format!(
        "loadmodule \"credit.so\"\nloadmodule \"proto_smpp.so\"\nloadmodule \"smsc.so\"\nloadmodule \"sms_api.so\"\n\
         modparam(\"smsc\", \"listen\", \"127.0.0.1:{port}\")\nmodparam(\"smsc\", \"retry\", \"1\")\n{more}"
    );
    let house = setup.params(&params).start();
    let stage = Stage { house, smpp: ([127, 0, 0, 1], port).into() };
    for name in ["shop", "inbox"] {
        stage.mi(&["smsc:account", &format!("system_id={name}"), "password=secret", "window=1000"]);
    }
    stage.mi(&["smsc:route", "target=account:inbox", "prefix=49"]);
    stage
}

impl Stage {
    pub fn bind(&self, name: &str) -> Smpp {
        let mut peer = Smpp::connect(self.smpp);
        assert_eq!(peer.bind(CommandId::BIND_TRANSCEIVER, name, "secret"), Status::OK);
        peer
    }

    #[track_caller]
    pub fn mi(&self, command: &[&str]) -> serde_json::Value {
        let (good, out, err) = self.house.mi(command);
        assert!(good, "{command:?}: {err}");
        serde_json::from_str(&out).unwrap_or_default()
    }

    pub fn http(&self, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.house.mi)).unwrap();
        let request = format!(
            "{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }
}

pub fn text(text: &[u8]) -> ShortMessage<'_> {
    ShortMessage { text, registered_delivery: 1, ..ShortMessage::default() }
}

/// Submits a message and gives its id.
#[track_caller]
pub fn submit(peer: &mut Smpp, to: &str, message: ShortMessage<'_>) -> Result<String, Status> {
    let sequence = peer.message(CommandId::SUBMIT_SM, "Shop", to, message);
    let pdu = peer.next();
    let pdu = Pdu::read(&pdu, Rules::LENIENT).unwrap();
    assert_eq!(
        (pdu.header.command, pdu.header.sequence),
        (CommandId::SUBMIT_SM.response().unwrap(), sequence)
    );
    match (pdu.header.status, pdu.body) {
        (Status::OK, Body::MessageId(id)) => Ok(String::from_utf8(id.id.to_vec()).unwrap()),
        (status, _) => Err(status),
    }
}

/// The next message that is delivered; it is answered with `status`.
#[track_caller]
pub fn deliver(peer: &mut Smpp, status: Status) -> (Vec<u8>, u8, String) {
    let pdu = peer.next();
    let read = Pdu::read(&pdu, Rules::LENIENT).unwrap();
    let Body::Message(m) = read.body else { panic!("no message: {read:?}") };
    assert_eq!(read.header.command, CommandId::DELIVER_SM);
    let got = (m.payload().to_vec(), m.esm_class, String::from_utf8_lossy(m.destination.addr).into_owned());
    peer.answer(read.header, status, "");
    got
}

#[test]
fn a_customer_gets_through_to_another_and_gets_his_receipt() {
    let stage = stage("");
    let (mut shop, mut inbox) = (stage.bind("shop"), stage.bind("inbox"));
    let id = submit(&mut shop, "4915123", text(b"hello")).unwrap();
    let (octets, _, to) = deliver(&mut inbox, Status::OK);
    assert_eq!((&octets[..], &to[..]), (&b"hello"[..], "4915123"));
    let (octets, esm_class, to) = deliver(&mut shop, Status::RX_T_APPN);
    assert_eq!((esm_class & 0x3c, &to[..]), (4, "Shop"));
    let read = receipt::read(&octets).unwrap();
    assert_eq!((read.id, read.stat), (id.as_bytes(), &b"DELIVRD"[..]));
    // It was refused, so it comes again.
    assert_eq!(deliver(&mut shop, Status::OK).0, octets);
    let state = stage.mi(&["smsc:message", "shop", &id]);
    assert_eq!(state["state"], "DELIVRD");
    assert_eq!(submit(&mut shop, "33123", text(b"hello")), Err(Status::NOROUTE));
    stage.mi(&["smsc:policy", "word", "casino"]);
    assert_eq!(submit(&mut shop, "4915123", text(b"CASINO")), Err(Status::FORBIDDENWORDS));
}

#[test]
fn strangers_and_wrong_passwords_do_not_bind() {
    let stage = stage("");
    for (name, password) in [("nobody", "secret"), ("shop", "wrong")] {
        let mut peer = Smpp::connect(stage.smpp);
        assert_eq!(peer.bind(CommandId::BIND_TRANSCEIVER, name, password), Status::INVPASWD);
        assert!(peer.try_next().is_none());
    }
    stage.mi(&["smsc:account", "system_id=shop", "binds=1"]);
    let _one = stage.bind("shop");
    let mut two = Smpp::connect(stage.smpp);
    assert_eq!(two.bind(CommandId::BIND_TRANSMITTER, "shop", "secret"), Status::BINDFAIL);
}

#[test]
fn another_centre_takes_messages_and_its_receipts_find_them() {
    sends_on_and_is_paid(&stage(""));
}

pub fn sends_on_and_is_paid(stage: &Stage) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    stage.mi(&["smpp:set", "up", "127.0.0.1", &port.to_string(), "me", "x"]);
    let mut up = Smpp::accept(&listener);
    up.accept_bind();
    stage.mi(&["smsc:route", "target=smsc:up", "prefix=44"]);
    stage.mi(&["credit:create", "money", "1.00", "t"]);
    stage.mi(&["credit:tariff", "t", "44", "0.40"]);
    stage.mi(&["smsc:account", "system_id=shop", "credit=money"]);
    let mut shop = stage.bind("shop");
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(submit(&mut shop, "447700900", text(b"hello")).unwrap());
    }
    assert_eq!(submit(&mut shop, "447700900", text(b"hello")), Err(Status::NOFUNDS));
    let headers = [up.header(), up.header()];
    for (header, (name, word)) in headers.into_iter().zip([("00AB", "DELIVRD"), ("255", "UNDELIV")]) {
        assert_eq!(header.command, CommandId::SUBMIT_SM);
        up.answer(header, Status::OK, name);
        // The receipt writes the id otherwise: decimal for hexadecimal, and the reverse.
        let other = if name == "00AB" { "171" } else { "000000FF" };
        let said = format!(
            "id:{other} sub:001 dlvrd:001 submit date:2601010000 done date:2601010000 stat:{word} err:000 Text:hello"
        );
        let message = ShortMessage { esm_class: 4, text: said.as_bytes(), ..ShortMessage::default() };
        up.message(CommandId::DELIVER_SM, "447700900", "Shop", message);
        assert_eq!(up.header().status, Status::OK);
        let (octets, _, _) = deliver(&mut shop, Status::OK);
        let read = receipt::read(&octets).unwrap();
        assert_eq!((read.id, read.stat), (ids.remove(0).as_bytes(), word.as_bytes()));
    }
    let account = &stage.mi(&["credit:list", "money"])["Accounts"][0];
    assert_eq!((account["balance"].as_str(), account["reserved"].as_str()), (Some("0.60"), Some("0.00")));
}

#[test]
fn six_scripts_in_one_to_ten_parts_come_through_http_whole() {
    comes_through_http(&stage("modparam(\"smsc\", \"max_parts\", 10)\n"));
}

pub fn comes_through_http(stage: &Stage) {
    let key =
        stage.mi(&["smsc:account", "system_id=shop", "api_key=1"])["api_key"].as_str().unwrap().to_owned();
    let mut inbox = stage.bind("inbox");
    let post = |body: &serde_json::Value, more: &str| {
        let head = format!(
            "POST /sms/v1/messages HTTP/1.1\r\nX-Api-Key: {key}\r\nContent-Type: application/json{more}"
        );
        stage.http(&head, &body.to_string())
    };
    use switchroom_wire::gsm::{Alphabet, Coding, Shifts, Udh, decode};
    let scripts = ["Hello world ", "Привет мир ", "안녕하세요 ", "你好世界", "😀👍🏽 ", "مرحبا بالعالم "];
    let mut round = 0;
    for script in scripts {
        for parts in [1, 2, 10] {
            round += 1;
            let wide = script.is_ascii();
            let (single, part) = if wide { (150, 140) } else { (60, 60) };
            let units: usize = script.encode_utf16().count();
            let wanted = if parts == 1 { single } else { part * parts };
            let text = script.repeat((wanted / units).max(1)).trim_end().to_owned();
            let (status, body) =
                post(&serde_json::json!({"from": "Shop", "to": "+4915123", "text": text}), "");
            assert_eq!(status, 202, "{body}");
            let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
            let count = answer["messages"][0]["parts"].as_u64().unwrap() as usize;
            let mut joined = String::new();
            for n in 1..=count {
                let pdu = inbox.next();
                let read = Pdu::read(&pdu, Rules::LENIENT).unwrap();
                let Body::Message(m) = read.body else { panic!("{read:?}") };
                let coding = Coding::read(m.data_coding, Alphabet::Gsm7);
                let octets = if m.has_udh() {
                    let udh = Udh::read(m.text).unwrap();
                    assert_eq!(usize::from(udh.concat().unwrap().part), n);
                    udh.text
                } else {
                    m.text
                };
                joined.push_str(&decode(coding.alphabet, octets, Shifts::default()));
                inbox.answer(read.header, Status::OK, "");
            }
            assert_eq!(joined, text, "round {round}");
        }
    }
    let again = "\r\nIdempotency-Key: one";
    let body = serde_json::json!({"to": [{"to": "+4915", "data": {"n": 7}}, "+33"], "text": "No {n}"});
    let (first, second) = (post(&body, again), post(&body, again));
    assert_eq!(first, second);
    let answer: serde_json::Value = serde_json::from_str(&first.1).unwrap();
    assert_eq!(
        (answer["accepted"].as_u64(), answer["messages"][1]["code"].as_str()),
        (Some(1), Some("0x045A"))
    );
    assert_eq!(deliver(&mut inbox, Status::OK).0, b"No 7");
    let id = answer["messages"][0]["id"].as_str().unwrap();
    let head = format!("GET /sms/v1/messages/{id} HTTP/1.1\r\nX-Api-Key: {key}");
    let done = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        stage.http(&head, "").1.contains("DELIVRD")
    });
    assert!(done);
    assert_eq!(stage.http("GET /sms/v1/balance HTTP/1.1\r\nX-Api-Key: x", "").0, 401);
    let kannel =
        "GET /cgi-bin/sendsms?username=shop&password=secret&from=Shop&to=%2B4915&text=old+way HTTP/1.1";
    assert_eq!(stage.http(kannel, ""), (202, "0: Accepted for delivery".into()));
    assert_eq!(deliver(&mut inbox, Status::OK).0, b"old way");
    let jasmin = "GET /send?username=shop&password=secret&to=4915&content=other+way HTTP/1.1";
    assert!(stage.http(jasmin, "").1.starts_with("Success \""));
    assert_eq!(deliver(&mut inbox, Status::OK).0, b"other way");
}

#[test]
fn a_message_waits_for_a_phone_that_registers_and_one_from_a_phone_is_submitted() {
    waits_for_a_phone(LATE);
}

#[test]
fn a_message_waits_for_a_phone_of_a_table_that_servers_share() {
    waits_for_a_phone(&format!("{SHARED}{LATE}"));
}

#[test]
fn a_message_waits_for_a_phone_whose_domain_does_not_count() {
    waits_for_a_phone(&format!("{NO_DOMAIN}{LATE}"));
    waits_for_a_phone(&format!("{NO_DOMAIN}{SHARED}{LATE}"));
}

const SHARED: &str = "modparam(\"usrloc\", \"working_mode_preset\", \"sql-only\")\n";
const NO_DOMAIN: &str = "modparam(\"usrloc\", \"use_domain\", 0)\n";
/// What goes before its next attempt goes because the phone has registered.
const LATE: &str = "modparam(\"smsc\", \"retry\", \"600\")\n";

fn waits_for_a_phone(location: &str) {
    waits_for_registration(&stage_with(PHONE, location));
}

/// Phones register and send.
pub const PHONE: &str = r#"
route {
    if (is_method("REGISTER")) { save("location"); exit; }
    if (is_method("MESSAGE")) {
        if (sms_submit("inbox", , , , , 0)) {
            append_to_reply("X-Id: $sms(id)\r\n");
            send_reply(202, "Accepted");
        } else {
            append_to_reply("X-Status: $sms(status)\r\n");
            send_reply(403, "No SMS");
        }
    }
}
"#;

pub fn waits_for_registration(stage: &Stage) {
    stage.mi(&["smsc:route", "target=sip:127.0.0.1", "prefix=7"]);
    let mut shop = stage.bind("shop");
    let wide: Vec<u8> = "Привет".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let id = submit(&mut shop, "7001", ShortMessage { data_coding: 8, ..text(&wide) }).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(stage.mi(&["smsc:message", "shop", &id])["state"], "ENROUTE");
    let mut phone = Ua::new("7001", stage.house.addr);
    phone.register_here("");
    let request = phone.expect("MESSAGE sip:7001@");
    assert!(request.ends_with("\r\n\r\nПривет"), "{request}");
    assert!(header(&request, "From").unwrap().starts_with("<sip:Shop@127.0.0.1>"), "{request}");
    phone.reply(&request, "200 OK");
    let (octets, _, _) = deliver(&mut shop, Status::OK);
    assert_eq!(receipt::read(&octets).unwrap().stat, b"DELIVRD");
    let mut inbox = stage.bind("inbox");
    for (to, start) in [("4930", "SIP/2.0 202"), ("33", "SIP/2.0 403")] {
        let call = Call::new("7001", to);
        let plain =
            phone.request("MESSAGE", &format!("sip:{to}@127.0.0.1"), &call, "Content-Type: text/plain\r\n");
        let head = plain.split("Content-Length").next().unwrap();
        phone.send(format!("{head}Content-Length: 7\r\n\r\nfrom me"));
        let reply = phone.expect(start);
        match to {
            "4930" => assert!(header(&reply, "X-Id").is_some()),
            _ => assert_eq!(header(&reply, "X-Status"), Some("1114")),
        }
    }
    assert_eq!(deliver(&mut inbox, Status::OK).0, b"from me");
}

#[test]
fn a_stored_message_is_sent_when_its_user_registers_its_sender_is_told_and_reminders_come_in_time() {
    let routes = r#"
        route {
            if (is_method("REGISTER")) { save("location"); m_dump(); exit; }
            # What the module sends comes by this socket.
            if (is_method("MESSAGE") && $socket_in(port) == SIP) {
                if (!lookup("location")) { send_reply(404, "Not Found"); exit; }
                t_relay();
                exit;
            }
            if (is_method("MESSAGE")) {
                if ($hdr(X-At) != NULL) $avp(at) = $hdr(X-At);
                if (m_store()) send_reply(202, "Accepted");
                else send_reply(503, "Service Unavailable");
            }
        }
    "#;
    let sip = free_port();
    let param = |name: &str, value: &str| format!("modparam(\"msilo\", \"{name}\", {value})\n");
    let params = [
        "loadmodule \"msilo.so\"\n".to_owned(),
        param("from_address", "\"sip:silo@127.0.0.1\""),
        param("offline_message", "\"$rU is not there\""),
        param("contact_hdr", "\"Contact: <sip:silo@127.0.0.1>\""),
        param("content_type_hdr", "\"Content-Type: text/html\""),
        param("use_contact", "0"),
        param("reminder", "\"sip:clock@127.0.0.1\""),
        param("send_time", "1"),
        param("snd_time_avp", "\"$avp(at)\""),
        param("outbound_proxy", &format!("\"sip:127.0.0.1:{sip}\"")),
        format!("socket=udp:127.0.0.1:{sip}\n"),
    ];
    let routes = routes.replace("SIP", &sip.to_string());
    let house = Setup::new(&[&routes]).params(&params.concat()).database().start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    alice.register_here("");
    let say = |alice: &mut Ua, more: &str, said: &str| {
        let call = Call::new("alice", "bob");
        let more = format!("{more}Content-Type: text/plain\r\n");
        let plain = alice.request("MESSAGE", "sip:bob@127.0.0.1", &call, &more);
        let head = plain.split("Content-Length").next().unwrap();
        alice.send(format!("{head}Content-Length: {}\r\n\r\n{said}", said.len()));
    };
    say(&mut alice, "", "hello");
    alice.expect("SIP/2.0 202");
    let told = alice.expect("MESSAGE sip:alice@");
    assert!(told.ends_with("\r\n\r\nbob is not there"), "{told}");
    assert_eq!(header(&told, "Content-Type"), Some("text/html"));
    assert_eq!(header(&told, "Contact"), Some("<sip:silo@127.0.0.1>"));
    assert!(header(&told, "From").unwrap().starts_with("<sip:silo@127.0.0.1>"), "{told}");
    alice.reply(&told, "200 OK");
    bob.register_here("");
    let request = bob.expect("MESSAGE sip:bob@");
    assert!(request.contains("[Offline message - 20") && request.ends_with("] hello"), "{request}");
    assert!(header(&request, "From").unwrap().starts_with("<sip:alice@127.0.0.1>"), "{request}");
    bob.reply(&request, "200 OK");
    let gone = || {
        (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            house.sql("SELECT COUNT(*) FROM silo").trim() == "0"
        })
    };
    assert!(gone());
    // Long ago: as soon as somebody looks.
    say(&mut alice, "X-At: 20200101120000\r\n", "meeting");
    alice.expect("SIP/2.0 202");
    let request = bob.expect("MESSAGE sip:bob@");
    assert!(request.contains("[Reminder message - 20") && request.ends_with("] meeting"), "{request}");
    assert!(header(&request, "From").unwrap().starts_with("<sip:clock@127.0.0.1>"), "{request}");
    bob.reply(&request, "200 OK");
    assert!(gone());
    say(&mut alice, "X-At: tomorrow\r\n", "no");
    alice.expect("SIP/2.0 503");
}

/// Sends as many as the window allows, for as long as the peer is there; gives the texts that were acknowledged.
fn flood(mut peer: Smpp, count: u32) -> Vec<u32> {
    let (mut sent, mut acknowledged) = (0, Vec::new());
    while (acknowledged.len() as u32) < count {
        while sent < count && sent - (acknowledged.len() as u32) < 500 {
            let said = sent.to_string();
            let mut out = Vec::new();
            let address = switchroom_wire::smpp::Address { ton: 1, npi: 1, addr: b"4915123" };
            let message =
                ShortMessage { destination: address, text: said.as_bytes(), ..ShortMessage::default() };
            let header = Header::request(CommandId::SUBMIT_SM, sent + 1);
            Pdu { header, body: Body::Message(message) }.write(&mut out);
            if !peer.try_write(&out) {
                return acknowledged;
            }
            sent += 1;
        }
        let Some(pdu) = peer.try_next() else { return acknowledged };
        let header = Header::read(&pdu).unwrap();
        assert_eq!(header.status, Status::OK);
        acknowledged.push(header.sequence - 1);
    }
    acknowledged
}

/// Takes everything until nothing comes for a while; gives how often each text came.
fn drain(peer: &mut Smpp, quiet: Duration) -> HashMap<u32, u32> {
    let mut seen = HashMap::new();
    while let Some(pdu) = peer.next_within(quiet) {
        let read = Pdu::read(&pdu, Rules::LENIENT).unwrap();
        if let Body::Message(m) = read.body {
            let n = std::str::from_utf8(m.text).unwrap().parse().unwrap();
            *seen.entry(n).or_insert(0) += 1;
            let mut out = Vec::new();
            let id = MessageId { present: true, ..MessageId::default() };
            Pdu { header: read.header.answer(Status::OK), body: Body::MessageId(id) }.write(&mut out);
            if !peer.try_write(&out) {
                break;
            }
        }
    }
    seen
}

#[test]
fn a_process_that_is_killed_loses_nothing_and_doubles_nothing_in_silence() {
    survives_a_kill(stage(""), 10_000);
}

pub fn survives_a_kill(mut stage: Stage, count: u32) {
    let shop = stage.bind("shop");
    let mut inbox = stage.bind("inbox");
    let took = std::thread::spawn(move || drain(&mut inbox, Duration::from_secs(3)));
    let flood = std::thread::spawn(move || flood(shop, count));
    let begin = Instant::now();
    // In the middle of it, or as near as a machine under load comes to that.
    while begin.elapsed() < Duration::from_secs(20) {
        let accepted = &stage.mi(&["get_statistics", "smsc:accepted"])["smsc:accepted"];
        if accepted.as_u64() > Some(u64::from(count) * 3 / 10) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    stage.house.server.kill();
    let acknowledged = flood.join().unwrap();
    let mut seen = took.join().unwrap();
    assert!(acknowledged.len() > count as usize / 10, "only {} were acknowledged", acknowledged.len());
    stage.house.server.start_again(Duration::from_secs(20));
    let mut inbox = stage.bind("inbox");
    for (n, times) in drain(&mut inbox, Duration::from_secs(3)) {
        *seen.entry(n).or_insert(0) += times;
    }
    let lost: Vec<_> = acknowledged.iter().filter(|n| !seen.contains_key(n)).collect();
    assert!(lost.is_empty(), "{} lost: {:?}", lost.len(), &lost[..lost.len().min(10)]);
    let twice: HashSet<u32> = seen.iter().filter(|(_, times)| **times > 1).map(|(n, _)| *n).collect();
    let named = stage.house.count_log("may be delivered twice");
    assert!(twice.len() <= named, "{} came twice, {named} were named in the log", twice.len());
    assert!(seen.values().all(|times| *times <= 2));
}
