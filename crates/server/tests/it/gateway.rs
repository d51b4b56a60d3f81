//! The gateway between SIP MESSAGE and SMPP: notifications, aliases, outbind, events, and peers that fall silent.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use switchroom_testkit::free_port;
use switchroom_testkit::peer::response;
use switchroom_wire::smpp::{
    Address, Alert, Body, CommandId, Header, Outbind, Pdu, Rules, ShortMessage, Status, Tlvs,
};

use crate::smpp::{house, message, row, wait_bound};
use crate::smsc::Smpp;
use crate::support::House;
use crate::ua::Ua;

const ROUTES: &str = r#"
route {
    if (is_method("MESSAGE") && $hdr(P-SMPP-Connection) != NULL) {
        alias_db_lookup("dbaliases");
        $du = "sip:127.0.0.1:PHONE";
        t_relay();
        exit;
    }
    if (is_method("MESSAGE")) {
        $var(from) = $fU;
        if (alias_db_find("dbaliases", $fu, $avp(number), "reverse")) $var(from) = $(avp(number){uri.user});
        if (send_smpp_message("up", $var(from))) send_reply(202, "Accepted");
        else send_reply(503, "No SMS");
    }
}
event_route[E_SMPP_BIND] { xlog("bind $param(name) $param(state): $param(reason)\n"); }
event_route[E_SMPP_ALERT] { xlog("alert $param(name) $param(number) $param(application) $param(status)\n"); }
"#;

struct Stage {
    house: House,
    listener: TcpListener,
    up: Smpp,
    phone: Ua,
}

fn stage(more: &str) -> Stage {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut phone = Ua::new("alice", SocketAddr::from(([127, 0, 0, 1], 9)));
    let routes = ROUTES.replace("PHONE", &phone.peer.addr().port().to_string());
    let house = house(&routes, &format!("loadmodule \"alias_db.so\"\n{more}"));
    row(&house, "up", listener.local_addr().unwrap().port(), 1);
    house.mi_json(&["smpp:reload"]);
    let mut up = Smpp::accept(&listener);
    up.accept_bind();
    wait_bound(&house, 1);
    phone.server = house.addr;
    Stage { house, listener, up, phone }
}

fn receipt(up: &mut Smpp, id: &str, word: &str) {
    let said = format!("id:{id} stat:{word} err:000");
    let m = ShortMessage { esm_class: 4, text: said.as_bytes(), ..ShortMessage::default() };
    up.message(CommandId::DELIVER_SM, "4917", "49151", m);
}

#[test]
fn a_phone_that_asks_gets_a_notification_for_the_receipts_of_its_message() {
    let mut s = stage("");
    let said = "long ".repeat(50);
    let body = format!(
        "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: d1\r\n\
         imdn.Disposition-Notification: positive-delivery\r\n\r\nContent-type: text/plain\r\n\r\n{said}"
    );
    let request = message(&s.phone, "4917", &body, "message/cpim");
    s.phone.send(&request);
    for id in ["0A", "0B"] {
        let bytes = s.up.next();
        let pdu = Pdu::read(&bytes, Rules::STRICT).unwrap();
        let Body::Message(m) = pdu.body else { panic!("{pdu:?}") };
        assert_eq!(m.registered_delivery, 3, "success is asked for");
        s.up.answer(pdu.header, Status::OK, id);
    }
    s.phone.expect("SIP/2.0 202");
    receipt(&mut s.up, "10", "DELIVRD");
    assert_eq!(s.up.header().status, Status::OK);
    assert!(s.phone.peer.is_quiet(Duration::from_millis(200)), "a part is still on its way");
    receipt(&mut s.up, "11", "DELIVRD");
    let told = s.phone.expect("MESSAGE sip:49151@127.0.0.1");
    assert!(told.contains("<message-id>d1</message-id>") && told.contains("<delivered/>"), "{told}");
    let reply = response(&told, "200 OK", "x", "");
    s.phone.send(&reply);
    assert_eq!(s.up.header().status, Status::OK);
}

#[test]
fn a_phone_that_asked_is_told_after_a_restart_and_again_when_it_was_not_there() {
    let mut s = stage("");
    let body = "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: d2\r\n\
                imdn.Disposition-Notification: positive-delivery, negative-delivery\r\n\r\n\
                Content-type: text/plain\r\n\r\nhello";
    let request = message(&s.phone, "4917", body, "message/cpim");
    s.phone.send(&request);
    let header = s.up.header();
    s.up.answer(header, Status::OK, "0C");
    s.phone.expect("SIP/2.0 202");
    s.house.server.kill();
    s.house.server.start_again(Duration::from_secs(20));
    let mut up = Smpp::accept(&s.listener);
    up.accept_bind();
    for (status, answer) in [("480 Temporarily Unavailable", Status::RX_T_APPN), ("200 OK", Status::OK)] {
        receipt(&mut up, "12", "UNDELIV");
        let told = s.phone.expect("MESSAGE sip:49151@127.0.0.1");
        assert!(told.contains("<message-id>d2</message-id>") && told.contains("<failed/>"), "{told}");
        let reply = response(&told, status, "x", "");
        s.phone.send(&reply);
        assert_eq!(up.header().status, answer);
    }
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        s.house.sql("SELECT COUNT(*) FROM smpp_report") == "0"
    });
    assert!(gone);
}

#[test]
fn a_receipt_that_is_faster_than_the_answer_finds_its_text() {
    let mut s = stage("");
    let body = "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: d3\r\n\
                imdn.Disposition-Notification: positive-delivery\r\n\r\nContent-type: text/plain\r\n\r\nhello";
    let request = message(&s.phone, "4917", body, "message/cpim");
    s.phone.send(&request);
    let header = s.up.header();
    receipt(&mut s.up, "13", "DELIVRD");
    assert!(s.up.next_within(Duration::from_millis(300)).is_none(), "it waits for the name");
    s.up.answer(header, Status::OK, "0D");
    s.phone.expect("SIP/2.0 202");
    let told = s.phone.expect("MESSAGE sip:49151@127.0.0.1");
    assert!(told.contains("<message-id>d3</message-id>") && told.contains("<delivered/>"), "{told}");
    let reply = response(&told, "200 OK", "x", "");
    s.phone.send(&reply);
    assert_eq!(s.up.header().status, Status::OK);
}

/// An application that says what it wants; what the phone gets of it.
fn asks(s: &mut Stage, app: &mut Smpp, registered_delivery: u8, said: &[u8]) -> String {
    let m = ShortMessage { registered_delivery, text: said, ..ShortMessage::default() };
    app.message(CommandId::SUBMIT_SM, "4917", "4930", m);
    s.phone.expect("MESSAGE sip:4930@")
}

/// The phone says what became of the message that it got.
fn says(s: &mut Stage, request: &str, status: &str) {
    let name = request.split("imdn.Message-ID: ").nth(1).and_then(|t| t.lines().next()).unwrap();
    let body = format!(
        "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: x\r\n\r\nContent-type: message/imdn+xml\r\n\r\n\
         <?xml version=\"1.0\"?><imdn xmlns=\"urn:ietf:params:xml:ns:imdn\"><message-id>{name}</message-id>\
         <delivery-notification><status><{status}/></status></delivery-notification></imdn>"
    );
    let told = message(&s.phone, "4917", &body, "message/cpim");
    s.phone.send(&told);
    s.phone.expect("SIP/2.0 202");
}

#[test]
fn a_receipt_for_an_application_waits_for_what_the_phone_says_whatever_happens_meanwhile() {
    let smpp = free_port();
    let mut s = stage(&format!(
        "socket=smpp:127.0.0.1:{smpp}\nmodparam(\"proto_smpp\", \"connection\", \"app: imdn=1\")\n"
    ));
    row(&s.house, "app", 0, 4);
    s.house.mi_json(&["smpp:reload"]);
    let bind = || {
        let mut app = Smpp::connect(SocketAddr::from(([127, 0, 0, 1], smpp)));
        assert_eq!(app.bind(CommandId::BIND_TRANSCEIVER, "smpp", "test"), Status::OK);
        app
    };
    let take = |s: &mut Stage, app: &mut Smpp, request: &str| {
        let reply = response(request, "200 OK", "x", "");
        s.phone.send(&reply);
        let bytes = app.next();
        let Body::MessageId(id) = Pdu::read(&bytes, Rules::STRICT).unwrap().body else { panic!() };
        id.id.to_vec()
    };
    let receipt = |app: &mut Smpp| {
        let bytes = app.next();
        let pdu = Pdu::read(&bytes, Rules::STRICT).unwrap();
        let Body::Message(m) = pdu.body else { panic!("{pdu:?}") };
        let read = switchroom_wire::smpp::receipt::read(m.text).unwrap();
        let found = (read.id.to_vec(), String::from_utf8_lossy(read.stat).into_owned());
        app.answer(pdu.header, Status::OK, "");
        found
    };
    let mut app = bind();
    // The phone says it in another life of the process.
    let request = asks(&mut s, &mut app, 1, b"first");
    assert!(
        request.contains("Content-Type: message/cpim") && request.ends_with("\r\n\r\nfirst"),
        "{request}"
    );
    let id = take(&mut s, &mut app, &request);
    assert!(app.next_within(Duration::from_millis(300)).is_none(), "the phone has only taken it");
    s.house.server.kill();
    s.house.server.start_again(Duration::from_secs(20));
    let mut app = bind();
    says(&mut s, &request, "delivered");
    assert_eq!(receipt(&mut app), (id, "DELIVRD".into()));
    says(&mut s, &request, "delivered");
    // It says it while the application is not there, and that is killed as well.
    let request = asks(&mut s, &mut app, 2, b"second");
    let id = take(&mut s, &mut app, &request);
    drop(app);
    wait_bound(&s.house, 0);
    says(&mut s, &request, "failed");
    let written = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        s.house.sql("SELECT state FROM smpp_report") == "5"
    });
    assert!(written);
    s.house.server.kill();
    s.house.server.start_again(Duration::from_secs(20));
    let mut app = bind();
    assert_eq!(receipt(&mut app), (id, "UNDELIV".into()));
    // A phone that does not know the wrapper.
    let request = asks(&mut s, &mut app, 1, b"third");
    let reply = response(&request, "415 Unsupported Media Type", "x", "");
    s.phone.send(&reply);
    let request = s.phone.expect("MESSAGE sip:4930@");
    assert!(request.contains("Content-Type: text/plain") && request.ends_with("\r\n\r\nthird"), "{request}");
    let id = take(&mut s, &mut app, &request);
    assert_eq!(receipt(&mut app), (id, "DELIVRD".into()));
    // Who does not ask is not kept waiting, and the phone is not asked.
    let request = asks(&mut s, &mut app, 0, b"fourth");
    assert!(request.contains("Content-Type: text/plain"), "{request}");
    take(&mut s, &mut app, &request);
    let gone = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        s.house.sql("SELECT COUNT(*) FROM smpp_report") == "0"
            && s.house.mi_json(&["get_statistics", "smpp_waiting_reports"])["proto_smpp:smpp_waiting_reports"]
                == 0
    });
    assert!(gone);
}

#[test]
fn the_script_maps_numbers_and_users_by_the_table_of_aliases() {
    let mut s = stage("");
    s.house.sql(
        "INSERT INTO dbaliases (alias_username, alias_domain, username, domain) VALUES ('49151', '127.0.0.1', 'alice', '127.0.0.1')",
    );
    let request = message(&s.phone, "4917", "hello", "text/plain")
        .replace("From: <sip:49151@127.0.0.1>", "From: <sip:alice@127.0.0.1>");
    s.phone.send(&request);
    let bytes = s.up.next();
    let Body::Message(m) = Pdu::read(&bytes, Rules::STRICT).unwrap().body else { panic!() };
    assert_eq!(m.source.addr, b"49151");
    s.up.answer(Header::read(&bytes).unwrap(), Status::OK, "1");
    s.phone.expect("SIP/2.0 202");
}

#[test]
fn binds_that_are_refused_or_lost_and_phones_that_are_back_are_events() {
    let mut s = stage("");
    let address = |addr| Address { ton: 1, npi: 1, addr };
    let alert = Alert { source: address(b"4917"), esme: address(b"49151"), tlvs: Tlvs::default() };
    s.up.send(Header::request(CommandId::ALERT_NOTIFICATION, 9), Body::Alert(alert));
    s.house.expect_log("alert up 4917 49151 0");
    s.house.expect_log("bind up bound");
    drop(s.up);
    s.house.expect_log("bind up unbound");
    s.up = Smpp::accept(&s.listener);
    let bind = s.up.header();
    s.up.send(bind.answer(Status::BINDFAIL), Body::Empty);
    s.house.expect_log("bind up refused: bind refused");
    s.up = Smpp::accept(&s.listener);
    s.up.accept_bind();
    wait_bound(&s.house, 1);
}

#[test]
fn a_centre_that_says_outbind_is_bound_to_on_its_own_connection() {
    let smpp = free_port();
    let more = format!("loadmodule \"alias_db.so\"\nsocket=smpp:127.0.0.1:{smpp}\n");
    let house = house(&ROUTES.replace("PHONE", "9"), &more);
    // The row of a receiver that does not connect by itself.
    row(&house, "calls", 0, 3);
    house.mi_json(&["smpp:reload"]);
    let at = SocketAddr::from(([127, 0, 0, 1], smpp));
    let outbind = |password: &'static [u8]| {
        let mut centre = Smpp::connect(at);
        let said = Outbind { system_id: b"smpp", password };
        centre.send(Header::request(CommandId::OUTBIND, 1), Body::Outbind(said));
        centre
    };
    assert!(outbind(b"wrong").try_next().is_none());
    let mut centre = outbind(b"test");
    assert_eq!(centre.accept_bind().0, CommandId::BIND_RECEIVER);
    wait_bound(&house, 1);
    let list = house.mi_json(&["smpp:list", "calls"]);
    assert_eq!(list["Connections"][0]["state"], "bound", "{list}");
}

#[test]
fn a_silent_centre_is_asked_and_cut_and_the_caller_is_told() {
    let mut s = stage("modparam(\"proto_smpp\", \"connection\", \"*: enquire_link=1; response=1\")\n");
    let request = message(&s.phone, "4917", "hello", "text/plain");
    let begin = Instant::now();
    s.phone.send(&request);
    assert_eq!(s.up.header().command, CommandId::SUBMIT_SM);
    // It says nothing any more, and is asked whether it is there.
    let mut asked = false;
    while let Some(pdu) = s.up.try_next() {
        asked |= Header::read(&pdu).unwrap().command == CommandId::ENQUIRE_LINK;
    }
    assert!(asked && begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    s.phone.expect("SIP/2.0 503");
    s.up = Smpp::accept(&s.listener);
    s.up.accept_bind();
    wait_bound(&s.house, 1);
}

/// Delivers a part of `total`; gives the sequence number.
fn part(up: &mut Smpp, total: u8, n: u8, said: &str) -> u32 {
    let octets = [&[5, 0, 3, 9, total, n][..], said.as_bytes()].concat();
    let m = ShortMessage { esm_class: 0x40, text: &octets, ..ShortMessage::default() };
    up.message(CommandId::DELIVER_SM, "4917", "4930", m)
}

#[test]
fn parts_that_were_accepted_survive_the_process() {
    let mut s = stage("");
    part(&mut s.up, 3, 1, "one ");
    assert_eq!(s.up.header().status, Status::OK);
    part(&mut s.up, 3, 3, "three");
    assert_eq!(s.up.header().status, Status::OK);
    s.house.server.kill();
    s.house.server.start_again(Duration::from_secs(20));
    let mut up = Smpp::accept(&s.listener);
    up.accept_bind();
    part(&mut up, 3, 2, "two ");
    let request = s.phone.expect("MESSAGE sip:4930@");
    assert!(request.ends_with("\r\n\r\none two three"), "{request}");
    let reply = response(&request, "200 OK", "x", "");
    s.phone.send(&reply);
    assert_eq!(up.header().status, Status::OK);
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        s.house.sql("SELECT COUNT(*) FROM smpp_part") == "0"
    });
    assert!(gone);
}

#[test]
fn parts_wait_for_a_last_one_that_is_tried_again_and_go_alone_when_none_comes() {
    let mut s = stage("modparam(\"proto_smpp\", \"join_timeout\", 3)\n");
    part(&mut s.up, 2, 1, "first ");
    assert_eq!(s.up.header().status, Status::OK);
    for (status, answer) in [("480 Temporarily Unavailable", Status::RX_T_APPN), ("200 OK", Status::OK)] {
        part(&mut s.up, 2, 2, "last");
        let request = s.phone.expect("MESSAGE sip:4930@");
        assert!(request.ends_with("\r\n\r\nfirst last"), "{request}");
        let reply = response(&request, status, "x", "");
        s.phone.send(&reply);
        assert_eq!(s.up.header().status, answer);
    }
    part(&mut s.up, 2, 2, "lonely");
    assert_eq!(s.up.header().status, Status::OK);
    let request = s.phone.expect("MESSAGE sip:4930@");
    assert!(request.ends_with("\r\n\r\nlonely"), "{request}");
    let reply = response(&request, "200 OK", "x", "");
    s.phone.send(&reply);
}

#[test]
fn an_application_that_asks_gets_a_receipt_for_each_part() {
    let smpp = free_port();
    let mut s = stage(&format!("socket=smpp:127.0.0.1:{smpp}\n"));
    row(&s.house, "app", 0, 4);
    s.house.mi_json(&["smpp:reload"]);
    let mut app = Smpp::connect(SocketAddr::from(([127, 0, 0, 1], smpp)));
    assert_eq!(app.bind(CommandId::BIND_TRANSCEIVER, "smpp", "test"), Status::OK);
    let mut ids = Vec::new();
    let submit = |app: &mut Smpp, n: u8| {
        let octets = [&[5, 0, 3, 9, 2, n][..], b"x"].concat();
        let m = ShortMessage {
            esm_class: 0x40,
            registered_delivery: 1,
            text: &octets,
            ..ShortMessage::default()
        };
        app.message(CommandId::SUBMIT_SM, "4917", "4930", m)
    };
    let mut answered = |app: &mut Smpp| {
        let bytes = app.next();
        let Body::MessageId(id) = Pdu::read(&bytes, Rules::STRICT).unwrap().body else { panic!() };
        ids.push(id.id.to_vec());
    };
    submit(&mut app, 1);
    answered(&mut app);
    submit(&mut app, 2);
    let request = s.phone.expect("MESSAGE sip:4930@");
    let reply = response(&request, "200 OK", "x", "");
    s.phone.send(&reply);
    answered(&mut app);
    for _ in 0..2 {
        let bytes = app.next();
        let pdu = Pdu::read(&bytes, Rules::STRICT).unwrap();
        let Body::Message(m) = pdu.body else { panic!("{pdu:?}") };
        let read = switchroom_wire::smpp::receipt::read(m.text).unwrap();
        assert_eq!((read.stat, m.destination.addr, m.is_receipt()), (&b"DELIVRD"[..], &b"4917"[..], true));
        ids.retain(|id| id != read.id);
        app.answer(pdu.header, Status::OK, "");
    }
    assert!(ids.is_empty());
}

#[test]
fn a_database_of_an_older_provider_without_the_table_of_parts_will_do() {
    let mut s = stage("");
    s.house.sql("DROP TABLE smpp_part; DROP TABLE smpp_report; DELETE FROM version WHERE table_name IN ('smpp_part', 'smpp_report')");
    s.house.server.kill();
    s.house.server.start_again(Duration::from_secs(20));
    let mut up = Smpp::accept(&s.listener);
    up.accept_bind();
    for n in [1, 2] {
        part(&mut up, 2, n, "x");
        if n == 2 {
            let request = s.phone.expect("MESSAGE sip:4930@");
            assert!(request.ends_with("\r\n\r\nxx"), "{request}");
            let reply = response(&request, "200 OK", "x", "");
            s.phone.send(&reply);
        }
        assert_eq!(up.header().status, Status::OK);
    }
}
