//! Short messages: the module proto_smpp between SIP phones and peers that speak SMPP.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use switchroom_testkit::free_port;
use switchroom_testkit::peer::{header, response};
use switchroom_wire::gsm::{Alphabet, Shifts, decode};
use switchroom_wire::smpp::{Body, CommandId, Pdu, Rules, ShortMessage, Status};

use crate::smsc::Smpp;
use crate::support::{House, Setup};
use crate::ua::{Call, Ua, unique};

/// As the operator wrote it.
const ROUTES: &str = r#"
route {
    if (is_method("MESSAGE") && $Ri == "127.0.0.1" && $hdr(P-SMPP-Connection) != NULL) {
        if ($rU == "408") { exit; }
        if ($rU == "404") { send_reply(404, "Not Found"); exit; }
        $du = "sip:127.0.0.1:" + $argv(phone);
        t_relay();
        exit;
    }
    setflag(TO_SMPP_TEST);
    if (is_method("MESSAGE") && isflagset(TO_SMPP_TEST)) {
        if (send_smpp_message("SMPP_test", , , , , 1)) {
            append_to_reply("X-Id: $smpp(ids)\r\n");
            send_reply(202, "Accepted");
        } else {
            append_to_reply("X-Error: $smpp(error)\r\nX-Status: $smpp(status)\r\n");
            send_reply(503, "No SMS");
        }
    }
}
"#;

const MODULE: &str = "loadmodule \"proto_smpp.so\"\n";

struct Stage {
    house: House,
    centre: Smpp,
    listener: TcpListener,
    phone: Ua,
}

pub fn row(house: &House, name: &str, port: u16, kind: u8) {
    house.sql(&format!(
        "INSERT INTO smpp (name, ip, port, system_id, password, system_type, src_ton, src_npi, dst_ton, dst_npi, \
         session_type) VALUES ('{name}', '127.0.0.1', {port}, 'smpp', 'test', '', 2, 1, 2, 1, {kind})"
    ));
}

/// A house bound to a centre by the row of the operator.
fn stage(kind: u8, more: &str) -> Stage {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut phone = Ua::new("alice", SocketAddr::from(([127, 0, 0, 1], 9)));
    let routes = ROUTES.replace("$argv(phone)", &format!("\"{}\"", phone.peer.addr().port()));
    let house = house(&routes, more);
    row(&house, "SMPP_test", port, kind);
    house.mi_json(&["smpp:reload"]);
    let mut centre = Smpp::accept(&listener);
    let expected = [CommandId::BIND_TRANSCEIVER, CommandId::BIND_TRANSMITTER, CommandId::BIND_RECEIVER];
    let said = centre.accept_bind();
    assert_eq!(said, (expected[usize::from(kind) - 1], "smpp".into(), "test".into()));
    wait_bound(&house, 1);
    phone.server = house.addr;
    Stage { house, centre, listener, phone }
}

pub fn house(routes: &str, more: &str) -> House {
    let sip = free_port();
    let smpp = free_port();
    let params = format!(
        "{MODULE}socket=udp:127.0.0.1:{sip}\nsocket=smpp:127.0.0.1:{smpp}\n\
         modparam(\"proto_smpp\", \"outbound_uri\", \"sip:127.0.0.1:{sip}\")\n{more}"
    );
    Setup::new(&[routes]).params(&params).database().start()
}

#[track_caller]
pub fn wait_bound(house: &House, count: i64) {
    let mut last = String::new();
    for _ in 0..200 {
        let (_, out, _) = house.mi(&["get_statistics", "smpp_bound"]);
        if out.contains(&format!(": {count}")) || out.contains(&format!("\"{count}\"")) {
            return;
        }
        last = out;
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not {count} bound: {last}");
}

pub fn message(phone: &Ua, to: &str, body: &str, kind: &str) -> String {
    let call = Call::new("sip:alice@127.0.0.1", &format!("sip:{to}@127.0.0.1"));
    format!(
        "MESSAGE sip:{to}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {};branch={};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:49151@127.0.0.1>;tag=a\r\nTo: <sip:{to}@127.0.0.1>\r\nCall-ID: {}\r\nCSeq: 1 MESSAGE\r\n\
         Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        phone.peer.addr(),
        unique("z9hG4bK"),
        call.id,
        body.len()
    )
}

/// The next `submit_sm`, read: sequence header, text, esm_class.
fn submitted(centre: &mut Smpp) -> (switchroom_wire::smpp::Header, String, u8, String) {
    let bytes = centre.next();
    let pdu = Pdu::read(&bytes, Rules::STRICT).unwrap();
    let Body::Message(m) = pdu.body else { panic!("{pdu:?}") };
    let skip = if m.has_udh() { usize::from(m.text[0]) + 1 } else { 0 };
    let alphabet = if m.data_coding == 8 { Alphabet::Ucs2 } else { Alphabet::Gsm7 };
    let text = decode(alphabet, &m.text[skip..], Shifts::default());
    let parties = format!(
        "{}.{}.{} {}.{}.{} {}",
        m.source.ton,
        m.source.npi,
        String::from_utf8_lossy(m.source.addr),
        m.destination.ton,
        m.destination.npi,
        String::from_utf8_lossy(m.destination.addr),
        m.registered_delivery
    );
    (pdu.header, text, m.esm_class, parties)
}

#[test]
fn a_message_of_the_script_is_submitted_and_its_id_comes_back() {
    let mut s = stage(1, "");
    let text = message(&s.phone, "4917", "Hello €", "text/plain");
    s.phone.send(&text);
    let (header_, text, esm, parties) = submitted(&mut s.centre);
    assert_eq!((text.as_str(), esm, parties.as_str()), ("Hello €", 0, "2.1.49151 2.1.4917 1"));
    assert!(s.phone.peer.is_quiet(Duration::from_millis(100)), "waits for submit_sm_resp");
    s.centre.answer(header_, Status::OK, "abc-1");
    let reply = s.phone.expect("SIP/2.0 202");
    assert_eq!(header(&reply, "X-Id"), Some("abc-1"));
}

#[test]
fn long_texts_in_six_scripts_leave_in_parts_and_come_back_joined() {
    let mut s = stage(1, "");
    for word in ["Grüße ", "Привет ", "안녕하세요 ", "你好世界 ", "😀👍🏽 ", "مرحبا "]
    {
        let body: String = word.chars().cycle().take(300).collect();
        let request = message(&s.phone, "4917", &body, "text/plain;charset=utf-8");
        s.phone.send(&request);
        let mut whole = String::new();
        let mut parts = Vec::new();
        while whole.chars().count() < 300 {
            let (header_, text, esm, _) = submitted(&mut s.centre);
            assert_eq!(esm, 0x40);
            whole.push_str(&text);
            s.centre.answer(header_, Status::OK, "1");
            parts.push(header_);
        }
        assert_eq!(whole, body);
        s.phone.expect("SIP/2.0 202");
    }
}

#[test]
fn an_incoming_message_is_answered_after_the_final_reply() {
    let mut s = stage(1, "");
    let wide: Vec<u8> = "Привет 😀".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let m = ShortMessage { data_coding: 8, text: &wide, ..ShortMessage::default() };
    let sequence = s.centre.message(CommandId::DELIVER_SM, "4917", "4930", m);
    let request = s.phone.expect("MESSAGE sip:4930@127.0.0.1");
    assert!(request.ends_with("\r\n\r\nПривет 😀"), "{request}");
    assert_eq!(header(&request, "Content-Type"), Some("text/plain;charset=utf-8"));
    assert_eq!(header(&request, "P-SMPP-Connection"), Some("SMPP_test"));
    assert!(header(&request, "From").unwrap().starts_with("<sip:4917@127.0.0.1:"));
    let reply = response(&request, "200 OK", "x", "");
    s.phone.send(&reply);
    let answer = s.centre.header();
    assert_eq!((answer.sequence, answer.status), (sequence, Status::OK));
    // Refused for good.
    let m = ShortMessage { text: b"x", ..ShortMessage::default() };
    let sequence = s.centre.message(CommandId::DELIVER_SM, "4917", "404", m);
    let answer = s.centre.header();
    assert_eq!((answer.sequence, answer.status), (sequence, Status::RX_R_APPN));
}

#[test]
fn a_receipt_is_a_message_with_a_header_and_an_event() {
    let mut s = stage(
        3,
        "event_route[E_SMPP_RECEIPT] { xlog(\"receipt $param(id) $param(state) of $param(name)\\n\"); }\n",
    );
    let text =
        b"id:abc sub:001 dlvrd:001 submit date:2601010101 done date:2601010102 stat:DELIVRD err:000 Text:x";
    let m = ShortMessage { esm_class: 4, text, ..ShortMessage::default() };
    s.centre.message(CommandId::DELIVER_SM, "4917", "4930", m);
    let request = s.phone.expect("MESSAGE sip:4930@127.0.0.1");
    assert_eq!(header(&request, "P-SMPP-Receipt"), Some("id=abc;stat=DELIVRD;err=000"));
    let reply = response(&request, "202 Accepted", "x", "");
    s.phone.send(&reply);
    assert_eq!(s.centre.header().status, Status::OK);
    s.house.expect_log("receipt abc DELIVRD of SMPP_test");
}

#[test]
fn a_lost_connection_is_bound_again_and_what_was_open_fails() {
    let mut s = stage(1, "");
    let request = message(&s.phone, "4917", "first", "text/plain");
    s.phone.send(&request);
    submitted(&mut s.centre);
    drop(std::mem::replace(&mut s.centre, Smpp::connect(s.listener.local_addr().unwrap())));
    let reply = s.phone.expect("SIP/2.0 503");
    assert!(header(&reply, "X-Error").unwrap().contains("accepted or not"), "{reply}");
    let own = Smpp::accept(&s.listener);
    drop(own);
    s.centre = Smpp::accept(&s.listener);
    s.centre.accept_bind();
    wait_bound(&s.house, 1);
    let request = message(&s.phone, "4917", "second", "text/plain");
    s.phone.send(&request);
    let (header_, text, ..) = submitted(&mut s.centre);
    assert_eq!(text, "second");
    s.centre.answer(header_, Status::THROTTLED, "");
    let (header_, text, ..) = submitted(&mut s.centre);
    assert_eq!(text, "second", "the same again after a pause");
    s.centre.answer(header_, Status::INVDSTADR, "");
    let reply = s.phone.expect("SIP/2.0 503");
    assert_eq!(header(&reply, "X-Status"), Some("11"));
}

#[test]
fn requests_of_the_centre_are_answered() {
    let mut s = stage(1, "");
    use switchroom_wire::smpp::Header;
    s.centre.send(Header::request(CommandId::ENQUIRE_LINK, 7), Body::Empty);
    assert_eq!(s.centre.header(), Header::request(CommandId::ENQUIRE_LINK, 7).answer(Status::OK));
    s.centre.send(Header::request(CommandId(0x999), 8), Body::Empty);
    let nack = s.centre.header();
    assert_eq!((nack.command, nack.status), (CommandId::GENERIC_NACK, Status::INVCMDID));
    s.centre.send(Header::request(CommandId::UNBIND, 9), Body::Empty);
    assert_eq!(s.centre.header(), Header::request(CommandId::UNBIND, 9).answer(Status::OK));
}

#[test]
fn an_application_binds_to_our_socket_and_gets_messages() {
    let smpp = free_port();
    let house = house(
        &ROUTES.replace("\"SMPP_test\"", "\"app\"").replace("$argv(phone)", "\"9\""),
        &format!("socket=smpp:127.0.0.1:{smpp}\n"),
    );
    row(&house, "app", 0, 4);
    house.mi_json(&["smpp:reload"]);
    let at = SocketAddr::from(([127, 0, 0, 1], smpp));
    assert_eq!(Smpp::connect(at).bind(CommandId::BIND_RECEIVER, "smpp", "wrong"), Status::INVPASWD);
    assert_eq!(Smpp::connect(at).bind(CommandId::BIND_RECEIVER, "who", "test"), Status::INVSYSID);
    let mut app = Smpp::connect(at);
    assert_eq!(app.bind(CommandId::BIND_TRANSCEIVER, "smpp", "test"), Status::OK);
    wait_bound(&house, 1);
    let mut phone = Ua::new("alice", house.addr);
    let request = message(&phone, "4917", "to the app", "text/plain");
    phone.send(&request);
    let bytes = app.next();
    let pdu = Pdu::read(&bytes, Rules::STRICT).unwrap();
    assert_eq!(pdu.header.command, CommandId::DELIVER_SM);
    app.answer(pdu.header, Status::OK, "");
    phone.expect("SIP/2.0 202");
    let m = ShortMessage { text: b"x", ..ShortMessage::default() };
    app.message(CommandId::SUBMIT_SM, "4917", "404", m);
    assert_eq!(app.header().status, Status::SUBMITFAIL);
    assert!(house.mi(&["smpp:unbind", "app"]).0);
    assert_eq!(app.header().command, CommandId::UNBIND);
}

#[test]
fn rows_are_edited_live_and_unchanged_ones_stay_bound() {
    let mut s = stage(2, "");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let done = s.house.mi_json(&[
        "smpp:set",
        "name=b",
        "ip=127.0.0.1",
        &format!("port={port}"),
        "system_id=me",
        "password=pw",
        "session_type=3",
    ]);
    assert_eq!((done["added"].as_i64(), done["changed"].as_i64()), (Some(1), Some(0)));
    let mut second = Smpp::accept(&other);
    assert_eq!(second.accept_bind(), (CommandId::BIND_RECEIVER, "me".into(), "pw".into()));
    wait_bound(&s.house, 2);
    let list = s.house.mi_json(&["smpp:list"]);
    assert_eq!(list["Connections"][0]["state"], "bound");
    s.house.mi_json(&["smpp:remove", "b"]);
    let unbind = second.header();
    assert_eq!(unbind.command, CommandId::UNBIND);
    second.send(unbind.answer(Status::OK), Body::Empty);
    assert!(second.try_next().is_none());
    let request = message(&s.phone, "4917", "still here", "text/plain");
    s.phone.send(&request);
    let (header_, ..) = submitted(&mut s.centre);
    s.centre.answer(header_, Status::OK, "9");
    s.phone.expect("SIP/2.0 202");
}

#[test]
fn a_cut_with_fifty_open_in_both_directions_loses_nothing() {
    let mut s = stage(1, "modparam(\"proto_smpp\", \"connection\", \"*: window=50\")\n");
    for n in 0..50 {
        let request = message(&s.phone, "4917", &format!("out {n}"), "text/plain");
        s.phone.send(&request);
    }
    let mut texts: Vec<String> = (0..50).map(|_| submitted(&mut s.centre).1).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 50);
    let deliver = |centre: &mut Smpp, n: u32| {
        let text = format!("in {n}");
        let m = ShortMessage { text: text.as_bytes(), ..ShortMessage::default() };
        // Those of one sender would wait for each other.
        centre.message(CommandId::DELIVER_SM, &format!("49{n}"), "4930", m)
    };
    for n in 0..50 {
        deliver(&mut s.centre, n);
    }
    let open: Vec<String> = (0..50).map(|_| s.phone.expect("MESSAGE sip:4930@")).collect();
    // The centre vanishes, and comes back.
    s.centre = Smpp::connect(s.listener.local_addr().unwrap());
    drop(Smpp::accept(&s.listener));
    for _ in 0..50 {
        let reply = s.phone.expect("SIP/2.0 503");
        assert!(header(&reply, "X-Error").unwrap().contains("accepted or not"));
    }
    s.centre = Smpp::accept(&s.listener);
    s.centre.accept_bind();
    // Late answers to the old ones do no harm; what the centre delivers again is delivered.
    for request in &open {
        let reply = response(request, "200 OK", "x", "");
        s.phone.send(&reply);
    }
    let mut sequences: Vec<u32> = (0..50).map(|n| deliver(&mut s.centre, n)).collect();
    // The old ones were sent again meanwhile, as UDP wants it.
    let call_id = |request: &str| header(request, "Call-ID").unwrap().to_owned();
    let mut known: std::collections::HashSet<String> = open.iter().map(|r| call_id(r)).collect();
    while known.len() < 100 {
        let request = s.phone.expect("MESSAGE sip:4930@");
        let reply = response(&request, "200 OK", "x", "");
        s.phone.send(&reply);
        if !known.insert(call_id(&request)) {
            continue;
        }
        let answer = s.centre.header();
        assert_eq!(answer.status, Status::OK);
        sequences.retain(|n| *n != answer.sequence);
    }
    assert_eq!(sequences, [0u32; 0]);
}

#[test]
fn garbage_on_our_socket_ends_only_its_own_connection() {
    let smpp = free_port();
    let house = house(&ROUTES.replace("$argv(phone)", "\"9\""), &format!("socket=smpp:127.0.0.1:{smpp}\n"));
    row(&house, "app", 0, 4);
    house.mi_json(&["smpp:reload"]);
    let at = SocketAddr::from(([127, 0, 0, 1], smpp));
    let mut good = Smpp::connect(at);
    assert_eq!(good.bind(CommandId::BIND_TRANSCEIVER, "smpp", "test"), Status::OK);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &1_000_000u32.to_be_bytes().repeat(4), &[0; 64]] {
        let mut bad = Smpp::connect(at);
        bad.write(garbage);
        assert_eq!(bad.header().status, Status::INVCMDLEN);
        assert!(bad.try_next().is_none());
    }
    // Half a PDU, and nothing more.
    let mut half = Smpp::connect(at);
    half.write(&[0, 0, 0, 16, 0, 0, 0, 0x15, 0]);
    use switchroom_wire::smpp::Header;
    good.send(Header::request(CommandId::ENQUIRE_LINK, 5), Body::Empty);
    assert_eq!(good.header().status, Status::OK);
    wait_bound(&house, 1);
}

#[test]
fn the_simulator_and_the_client_talk_to_each_other() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let mut sim = Command::new(crate::support::PROGRAM)
        .args(["smpp", "sim", "-l", "127.0.0.1:0", "-u", "me:secret", "--receipt", "UNDELIV:50"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(sim.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let to = first.rsplit(' ').next().unwrap().to_owned();
    let run = |args: &[&str]| {
        let run = Command::new(crate::support::PROGRAM).arg("smpp").args(args).output().unwrap();
        let text = [run.stdout, run.stderr].concat();
        (run.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let me = ["--to", &to, "-s", "me", "-p", "secret"];
    let long = "Привет ".repeat(20);
    let sent = run(&[&["send"][..], &me, &["--receipt", "5", "--parts", "sar", &long]].concat());
    let bench = run(&[&["bench"][..], &me, &["-n", "500", "-w", "20"]].concat());
    let refused = run(&["bind", "--to", &to, "-s", "me", "-p", "wrong"]);
    // It may have ended by itself.
    let _ = sim.kill();
    let _ = sim.wait();
    assert!(sent.0, "{}", sent.1);
    assert_eq!(sent.1.matches("UNDELIV").count(), 3, "{}", sent.1);
    assert!(bench.0 && bench.1.contains("500 messages") && bench.1.contains(", 0 refused"), "{}", bench.1);
    assert!(!refused.0 && refused.1.contains("BINDFAIL"), "{}", refused.1);
}

#[test]
fn both_sides_speak_tls() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.display(), key.display());
    let mut sim = Command::new(crate::support::PROGRAM)
        .args(["smpp", "sim", "-l", "127.0.0.1:0"])
        .args(["--certificate", &certificate.to_string(), "--key", &key.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(sim.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let port = first.rsplit(':').next().unwrap().parse().unwrap();
    let smpp = free_port();
    let house = house(
        &ROUTES.replace("$argv(phone)", "\"9\""),
        &format!(
            "socket=smpp:127.0.0.1:{smpp}\nmodparam(\"proto_smpp\", \"tls_port\", {smpp})\n\
             modparam(\"proto_smpp\", \"tls_certificate\", \"{certificate}\")\n\
             modparam(\"proto_smpp\", \"tls_private_key\", \"{key}\")\n\
             modparam(\"proto_smpp\", \"tls_ca\", \"{certificate}\")\n\
             modparam(\"proto_smpp\", \"connection\", \"centre: tls=1\")\n"
        ),
    );
    row(&house, "centre", port, 1);
    house.mi_json(&["smpp:reload"]);
    wait_bound(&house, 1);
    row(&house, "app", 0, 4);
    house.mi_json(&["smpp:reload"]);
    let to = format!("127.0.0.1:{smpp}");
    let bound = Command::new(crate::support::PROGRAM).args(["smpp", "bind", "--tls", "--to", &to]).output();
    // It may have ended by itself.
    let _ = sim.kill();
    let _ = sim.wait();
    let bound = bound.unwrap();
    assert!(bound.status.success(), "{}", String::from_utf8_lossy(&bound.stderr));
}
