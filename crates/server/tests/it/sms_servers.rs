//! The SMS centre and the gateway on database servers: tables made and brought up to date, and everything that survives.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use switchroom_testkit::Database;
use switchroom_testkit::peer::response;
use switchroom_wire::smpp::{CommandId, ShortMessage, Status, receipt};

use crate::messages::{
    PHONE, Stage, comes_through_http, deliver, sends_on_and_is_paid, stage_of, submit, survives_a_kill, text,
    waits_for_registration,
};
use crate::smsc::Smpp;
use crate::support::{Setup, program};
use crate::ua::Ua;

/// A server with a database whose tables the program has made.
struct Kept {
    server: Database,
    module: &'static str,
    url: String,
}

fn postgres() -> Kept {
    let server = Database::postgres();
    server.sql("postgres", "CREATE DATABASE sms");
    Kept::new(server, "db_postgres")
}

/// In the character set that old installations have.
fn mariadb() -> Kept {
    let server = Database::mariadb();
    server.sql("mysql", "CREATE DATABASE sms CHARACTER SET latin1");
    Kept::new(server, "db_mysql")
}

impl Kept {
    fn new(server: Database, module: &'static str) -> Kept {
        let url = server.url("sms");
        assert!(program(&["db", "--url", &url, "init"]).contains("sms_message"));
        Kept { server, module, url }
    }

    fn setup(&self, routes: &str) -> Setup {
        Setup::new(&[routes]).on_server(self.module, &self.url)
    }

    fn stage(&self, routes: &str, more: &str) -> Stage {
        stage_of(self.setup(routes), more)
    }
}

fn everything_works(kept: &Kept) {
    let stage = kept.stage(PHONE, "modparam(\"smsc\", \"max_parts\", 10)\n");
    waits_for_registration(&stage);
    stage.mi(&["smsc:policy", "word", "casino"]);
    stage.mi(&["smsc:list", "friends", "4915", "shop"]);
    assert_eq!(stage.mi(&["smsc:list"])["Lists"][0]["Members"][0], "4915");
    let mut shop = stage.bind("shop");
    assert_eq!(submit(&mut shop, "4915123", text(b"CASINO")), Err(Status::FORBIDDENWORDS));
    let _ = kept.server.sql("sms", "DELETE FROM sms_policy");
    stage.mi(&["smsc:reload"]);
    submit(&mut shop, "4915123", text(b"CASINO")).unwrap();
    assert_eq!(deliver(&mut stage.bind("inbox"), Status::OK).0, b"CASINO");
    deliver(&mut shop, Status::OK);
    drop(shop);
    sends_on_and_is_paid(&stage);
    stage.mi(&["credit:tariff", "t", "49", "0"]);
    comes_through_http(&stage);
}

#[test]
fn the_centre_works_on_postgresql() {
    everything_works(&postgres());
}

#[test]
fn the_centre_works_on_mariadb() {
    everything_works(&mariadb());
}

#[test]
fn what_was_accepted_survives_a_kill_on_postgresql() {
    survives_a_kill(postgres().stage("route { exit; }", ""), 3000);
}

#[test]
fn what_was_accepted_survives_a_kill_on_mariadb() {
    survives_a_kill(mariadb().stage("route { exit; }", ""), 3000);
}

/// The longest names that are read at all, in any octets, fit into the columns.
fn long_names_are_kept(kept: &Kept) {
    let mut stage = kept.stage("route { exit; }", "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    stage.mi(&["smpp:set", "up", "127.0.0.1", &port.to_string(), "me", "x"]);
    let mut up = Smpp::accept(&listener);
    up.accept_bind();
    stage.mi(&["smsc:route", "target=smsc:up", "prefix=44"]);
    let mut shop = stage.bind("shop");
    let number = format!("44{}", "7".repeat(62));
    let id = submit(&mut shop, &number, text("Grüße \u{1f600}".as_bytes())).unwrap();
    let header = up.header();
    let remote = "ab".repeat(32);
    up.answer(header, Status::OK, &remote);
    let state = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        kept.server.sql("sms", "SELECT COUNT(*) FROM sms_message WHERE remote_id IS NOT NULL") == "1"
    });
    assert!(state, "the other centre's name was not written");
    stage.house.server.kill();
    stage.house.server.start_again(Duration::from_secs(20));
    let mut shop = stage.bind("shop");
    let mut up = Smpp::accept(&listener);
    up.accept_bind();
    let said = format!("id:{} stat:DELIVRD err:000", remote.to_uppercase());
    let m = ShortMessage { esm_class: 4, text: said.as_bytes(), ..ShortMessage::default() };
    up.message(CommandId::DELIVER_SM, &number, "Shop", m);
    assert_eq!(up.header().status, Status::OK);
    let (octets, _, _) = deliver(&mut shop, Status::OK);
    assert_eq!(receipt::read(&octets).unwrap().id, id.as_bytes());
}

#[test]
fn long_names_of_another_centre_are_kept_on_postgresql() {
    long_names_are_kept(&postgres());
}

#[test]
fn long_names_of_another_centre_are_kept_on_mariadb() {
    long_names_are_kept(&mariadb());
}

/// Tables of an older version get what they lack, and keep what they have.
fn older_tables_are_brought_up_to_date(kept: &Kept) {
    {
        let stage = kept.stage("route { exit; }", "");
        let mut shop = stage.bind("shop");
        submit(&mut shop, "4915123", text(b"from before")).unwrap();
    }
    for sql in [
        "ALTER TABLE sms_account DROP COLUMN strict",
        "ALTER TABLE sms_account DROP COLUMN enabled",
        "ALTER TABLE sms_route DROP COLUMN retry",
        "DROP TABLE sms_list",
        "DROP TABLE smpp_part",
        "DROP TABLE smpp_report",
        "UPDATE version SET table_version = 0 WHERE table_name IN ('sms_account', 'sms_route')",
        "DELETE FROM version WHERE table_name IN ('sms_list', 'smpp_part', 'smpp_report')",
    ] {
        kept.server.sql("sms", sql);
    }
    let done = program(&["db", "--url", &kept.url, "migrate"]);
    for line in [
        "column sms_account.strict added",
        "column sms_account.enabled added",
        "column sms_route.retry added",
        "table sms_list created",
        "table smpp_part created",
        "table smpp_report created",
    ] {
        assert!(done.contains(line), "no `{line}` in\n{done}");
    }
    assert!(program(&["db", "--url", &kept.url, "migrate"]).contains("nothing to do"));
    let stage = kept.stage("route { exit; }", "");
    let mut inbox = stage.bind("inbox");
    assert_eq!(deliver(&mut inbox, Status::OK).0, b"from before");
}

#[test]
fn older_tables_are_brought_up_to_date_on_postgresql() {
    older_tables_are_brought_up_to_date(&postgres());
}

#[test]
fn older_tables_are_brought_up_to_date_on_mariadb() {
    older_tables_are_brought_up_to_date(&mariadb());
}

/// A part of a text that was accepted is there when the last one comes, in another life of the process.
fn parts_of_the_gateway_survive(kept: &Kept) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut phone = Ua::new("alice", SocketAddr::from(([127, 0, 0, 1], 9)));
    let routes = format!("route {{ $du = \"sip:127.0.0.1:{}\"; t_relay(); }}\n", phone.peer.addr().port());
    let sip = switchroom_testkit::free_port();
    let params = format!(
        "loadmodule \"proto_smpp.so\"\nsocket=udp:127.0.0.1:{sip}\n\
         modparam(\"proto_smpp\", \"outbound_uri\", \"sip:127.0.0.1:{sip}\")\n"
    );
    let mut house = kept.setup(&routes).params(&params).start();
    house.mi_json(&["smpp:set", "up", "127.0.0.1", &port.to_string(), "me", "x"]);
    let part = |up: &mut Smpp, n: u8, said: &str| {
        let octets = [&[5, 0, 3, 9, 2, n][..], said.as_bytes()].concat();
        let m = ShortMessage { esm_class: 0x40, text: &octets, ..ShortMessage::default() };
        up.message(CommandId::DELIVER_SM, "4917", "4930", m);
    };
    let mut up = Smpp::accept(&listener);
    up.accept_bind();
    part(&mut up, 1, "one ");
    assert_eq!(up.header().status, Status::OK);
    house.server.kill();
    house.server.start_again(Duration::from_secs(20));
    let mut up = Smpp::accept(&listener);
    up.accept_bind();
    part(&mut up, 2, "two");
    phone.server = house.addr;
    let request = phone.expect("MESSAGE sip:4930@");
    assert!(request.ends_with("\r\n\r\none two"), "{request}");
    let reply = response(&request, "200 OK", "x", "");
    phone.send(&reply);
    assert_eq!(up.header().status, Status::OK);
}

#[test]
fn parts_of_the_gateway_survive_on_postgresql() {
    parts_of_the_gateway_survive(&postgres());
}

#[test]
fn parts_of_the_gateway_survive_on_mariadb() {
    parts_of_the_gateway_survive(&mariadb());
}
