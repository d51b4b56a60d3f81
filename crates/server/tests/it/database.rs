//! A database that the program did not make: tables written by hand as OpenSIPS's public documentation has them.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use switchroom_testkit::{Server, free_port};

use crate::support::{DIGEST_REGISTER, House, OPEN_CALL, PROGRAM, PROXY, Setup, sqlite};
use crate::ua::{Call, Ua, credentials};

/// The tables that a registrar with authentication needs; `bob`'s HA1 is that of `bob:127.0.0.1:zanzibar`, the password is
/// kept beside it as old installations do.
const TABLES: &str = "
CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL,
    CONSTRAINT version_t_name_idx UNIQUE (table_name));
INSERT INTO version VALUES ('subscriber', 8), ('location', 1013), ('uri', 2), ('domain', 4), ('dbaliases', 2);
CREATE TABLE subscriber (id INTEGER PRIMARY KEY NOT NULL, username CHAR(64) DEFAULT '' NOT NULL,
    domain CHAR(64) DEFAULT '' NOT NULL, password CHAR(25) DEFAULT '' NOT NULL,
    email_address CHAR(64) DEFAULT '' NOT NULL, ha1 CHAR(64) DEFAULT '' NOT NULL,
    ha1_sha256 CHAR(64) DEFAULT '' NOT NULL, ha1_sha512t256 CHAR(64) DEFAULT '' NOT NULL,
    rpid CHAR(64) DEFAULT NULL, CONSTRAINT subscriber_account_idx UNIQUE (username, domain));
INSERT INTO subscriber (username, domain, password) VALUES ('bob', '127.0.0.1', 'zanzibar');
CREATE TABLE uri (id INTEGER PRIMARY KEY NOT NULL, username CHAR(64) DEFAULT '' NOT NULL,
    domain CHAR(64) DEFAULT '' NOT NULL, uri_user CHAR(64) DEFAULT '' NOT NULL,
    last_modified DATETIME DEFAULT '1900-01-01 00:00:01' NOT NULL);
CREATE TABLE location (contact_id BIGINT PRIMARY KEY NOT NULL, username CHAR(64) DEFAULT '' NOT NULL,
    domain CHAR(64) DEFAULT NULL, contact TEXT NOT NULL, received CHAR(255) DEFAULT NULL,
    path CHAR(255) DEFAULT NULL, expires INTEGER NOT NULL, q FLOAT(10,2) DEFAULT 1.0 NOT NULL,
    callid CHAR(255) DEFAULT 'Default-Call-ID' NOT NULL, cseq INTEGER DEFAULT 13 NOT NULL,
    last_modified DATETIME DEFAULT '1900-01-01 00:00:01' NOT NULL, flags INTEGER DEFAULT 0 NOT NULL,
    cflags CHAR(255) DEFAULT NULL, user_agent CHAR(255) DEFAULT '' NOT NULL, socket CHAR(64) DEFAULT NULL,
    methods INTEGER DEFAULT NULL, sip_instance CHAR(255) DEFAULT NULL, kv_store TEXT DEFAULT NULL,
    attr CHAR(255) DEFAULT NULL);
INSERT INTO location (contact_id, username, domain, contact, expires, q, callid, cseq)
    VALUES (1311768467463790320, 'carol', '127.0.0.1', 'sip:carol@127.0.0.1:@PORT@', 2000000000, 0.5, 'old-call', 7);
";

fn setup(tables: &str) -> Setup {
    Setup::new(&[PROXY, DIGEST_REGISTER, OPEN_CALL])
        .params(
            "modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-sql-write-through\")\n\
             modparam(\"auth_db\", \"calculate_ha1\", 1)\nmodparam(\"auth_db\", \"password_column\", \"password\")",
        )
        .tables(tables)
}

#[test]
fn a_database_of_opensips_opens_as_it_is() {
    let nobody = "127.0.0.1:9".parse().unwrap();
    let mut carol = Ua::new("carol", nobody);
    let house = setup(&TABLES.replace("@PORT@", &carol.peer.addr().port().to_string())).start();
    carol.server = house.addr;
    // Somebody registered before we came.
    let mut alice = Ua::new("alice", house.addr);
    let (call, invite) = alice.invite("carol", "");
    let asked = carol.expect("INVITE");
    carol.reply(&asked, "486 Busy Here");
    let busy = alice.expect_reply(486, &call);
    alice.ack_failure(&invite, &busy);
    // Somebody registers now, and the row is as others read it.
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let contact = format!("Contact: <{}>;q=0.3\r\nUser-Agent: test phone\r\n", bob.contact());
    let challenge = bob.register(&mut call, &contact);
    let line = credentials(&challenge, "bob", "zanzibar", "REGISTER", "sip:127.0.0.1", 1);
    let done = bob.register(&mut call, &format!("{contact}{line}"));
    assert!(done.starts_with("SIP/2.0 200"), "{done}");
    let row =
        house.sql("select contact, q, callid, cseq, user_agent, socket from location where username='bob'");
    assert_eq!(row, format!("{}|0.3|{}|2|test phone|udp:{}", bob.contact(), call.id, house.addr));
    let in_time = "select count(*) from location where username='bob' \
                   and expires between strftime('%s','now')+3500 and strftime('%s','now')+3700 and contact_id > 0";
    assert_eq!(house.sql(in_time), "1");
}

#[test]
fn a_table_of_another_version_is_refused_with_what_to_do() {
    for (change, words) in [
        ("UPDATE version SET table_version = 7 WHERE table_name = 'subscriber'", ["subscriber", "7", "8"]),
        ("DELETE FROM version WHERE table_name = 'location'", ["location", "1013", "version"]),
    ] {
        let (sip, mi) = (free_port(), free_port());
        let builder = Server::builder(PROGRAM);
        let dir = builder.dir().to_owned();
        sqlite(&dir.join("test.db"), &format!("{TABLES};{change}"));
        let script = setup("").script_for(sip, mi).replace("{dir}", &dir.display().to_string());
        std::fs::write(dir.join("test.cfg"), script).unwrap();
        let mut run = Command::new(PROGRAM);
        let run = run.args(["run", "-f", "test.cfg"]).current_dir(&dir).output().unwrap();
        let text = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success());
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        drop(builder);
    }
}

#[test]
fn the_database_being_locked_for_a_while_delays_and_does_not_lose() {
    let house = setup(&TABLES.replace("@PORT@", "9")).start();
    let mut bob = Ua::new("bob", house.addr);
    let lock = register_behind_a_lock(&house, &mut bob);
    // Others are served meanwhile.
    let mut alice = Ua::new("alice", house.addr);
    let (other, invite) = alice.invite("nobody", "");
    let reply = alice.expect_reply(404, &other);
    alice.ack_failure(&invite, &reply);
    bob.expect("SIP/2.0 200");
    assert!(lock.wait_with_output().unwrap().status.success());
}

#[test]
fn a_script_that_waits_for_the_database_is_finished_before_the_end() {
    let mut house = setup(&TABLES.replace("@PORT@", "9")).start();
    let mut bob = Ua::new("bob", house.addr);
    let lock = register_behind_a_lock(&house, &mut bob);
    // The request is there before the signal: a later one of the same phone is answered.
    let mut call = Call::new("bob", "bob");
    call.to_tag = ";tag=none".into();
    let probe = bob.request("OPTIONS", "sip:127.0.0.1", &call, "");
    bob.send(probe);
    bob.expect("SIP/2.0 404");
    assert!(house.server.stop(Duration::from_secs(15)).is_some_and(|s| s.success()));
    bob.expect("SIP/2.0 200");
    assert!(lock.wait_with_output().unwrap().status.success());
    assert_eq!(house.sql("select count(*) from location where username='bob'"), "1");
}

/// Sends bob's REGISTER while another program has locked the database for a second.
fn register_behind_a_lock(house: &House, bob: &mut Ua) -> Child {
    let mut call = Call::new("bob", "bob");
    let contact = format!("Contact: <{}>\r\n", bob.contact());
    let challenge = bob.register(&mut call, &contact);
    let line = credentials(&challenge, "bob", "zanzibar", "REGISTER", "sip:127.0.0.1", 1);
    let lock = Command::new("sqlite3")
        .arg(house.dir.join("test.db"))
        .args(["BEGIN EXCLUSIVE; SELECT writefile('locked', 'x');", ".shell sleep 1", "COMMIT;"])
        .current_dir(&house.dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    while !house.dir.join("locked").exists() {
        assert!(Instant::now() < until, "no lock");
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = bob.request("REGISTER", "sip:127.0.0.1", &call, &format!("{contact}{line}"));
    bob.send(&text);
    lock
}
