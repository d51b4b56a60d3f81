//! Registration with authentication against database servers, one with tables as OpenSIPS's own tools make them.

use std::time::{Duration, Instant};

use switchroom_testkit::Database;

use crate::support::{DIGEST_REGISTER, House, OPEN_CALL, PROGRAM, PROXY, Setup, program};
use crate::ua::{Call, Ua, credentials};

/// Tables in the types that OpenSIPS's scripts for MySQL use.
const OPENSIPS_TABLES: &str = "
CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INT(10) UNSIGNED DEFAULT 0 NOT NULL,
    CONSTRAINT t_name_idx UNIQUE (table_name)) ENGINE=InnoDB;
INSERT INTO version (table_name, table_version) VALUES ('subscriber', 8), ('location', 1013), ('uri', 2);
CREATE TABLE subscriber (id INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL,
    username CHAR(64) DEFAULT '' NOT NULL, domain CHAR(64) DEFAULT '' NOT NULL, password CHAR(25) DEFAULT '' NOT NULL,
    email_address CHAR(64) DEFAULT '' NOT NULL, ha1 CHAR(64) DEFAULT '' NOT NULL,
    ha1_sha256 CHAR(64) DEFAULT '' NOT NULL, ha1_sha512t256 CHAR(64) DEFAULT '' NOT NULL,
    rpid CHAR(64) DEFAULT NULL, CONSTRAINT account_idx UNIQUE (username, domain)) ENGINE=InnoDB;
INSERT INTO subscriber (username, domain, password) VALUES ('bob', '127.0.0.1', 'zanzibar');
CREATE TABLE uri (id INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL, username CHAR(64) DEFAULT '' NOT NULL,
    domain CHAR(64) DEFAULT '' NOT NULL, uri_user CHAR(64) DEFAULT '' NOT NULL,
    last_modified DATETIME DEFAULT '1900-01-01 00:00:01' NOT NULL) ENGINE=InnoDB;
CREATE TABLE location (contact_id BIGINT(10) UNSIGNED PRIMARY KEY NOT NULL, username CHAR(64) DEFAULT '' NOT NULL,
    domain CHAR(64) DEFAULT NULL, contact TEXT NOT NULL, received CHAR(255) DEFAULT NULL,
    path CHAR(255) DEFAULT NULL, expires INT(10) UNSIGNED NOT NULL, q FLOAT(10,2) DEFAULT 1.0 NOT NULL,
    callid CHAR(255) DEFAULT 'Default-Call-ID' NOT NULL, cseq INT(11) DEFAULT 13 NOT NULL,
    last_modified DATETIME DEFAULT '1900-01-01 00:00:01' NOT NULL, flags INT(11) DEFAULT 0 NOT NULL,
    cflags CHAR(255) DEFAULT NULL, user_agent CHAR(255) DEFAULT '' NOT NULL, socket CHAR(64) DEFAULT NULL,
    methods INT(11) DEFAULT NULL, sip_instance CHAR(255) DEFAULT NULL, kv_store TEXT(512) DEFAULT NULL,
    attr CHAR(255) DEFAULT NULL) ENGINE=InnoDB;
INSERT INTO location (contact_id, username, domain, contact, expires, q, callid, cseq)
    VALUES (1311768467463790320, 'carol', '127.0.0.1', 'sip:carol@127.0.0.1:@PORT@', 2000000000, 0.5, 'old-call', 7);
";

const WRITE_THROUGH: &str =
    "modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-sql-write-through\")";

fn register(house: &House, name: &str, password: &str) -> String {
    let mut phone = Ua::new(name, house.addr);
    let mut call = Call::new(name, name);
    let contact = format!("Contact: <{}>\r\n", phone.contact());
    let challenge = phone.register(&mut call, &contact);
    let line = credentials(&challenge, name, password, "REGISTER", "sip:127.0.0.1", 1);
    phone.register(&mut call, &format!("{contact}{line}"))
}

#[test]
fn a_mysql_database_of_opensips_opens_unchanged() {
    let database = Database::mariadb();
    database.sql("mysql", "CREATE DATABASE opensips CHARACTER SET latin1");
    let mut carol = Ua::new("carol", "127.0.0.1:9".parse().unwrap());
    database.sql("opensips", &OPENSIPS_TABLES.replace("@PORT@", &carol.peer.addr().port().to_string()));
    let house = Setup::new(&[PROXY, DIGEST_REGISTER, OPEN_CALL])
        .params(&format!(
            "{WRITE_THROUGH}\nmodparam(\"db_mysql\", \"timeout_interval\", 1)\n\
             modparam(\"auth_db\", \"calculate_ha1\", 1)\nmodparam(\"auth_db\", \"password_column\", \"password\")"
        ))
        .on_server("db_mysql", &database.url("opensips"))
        .start();
    let done = register(&house, "bob", "zanzibar");
    assert!(done.starts_with("SIP/2.0 200"), "{done}");
    assert!(!register(&house, "bob", "wrong").starts_with("SIP/2.0 200"));
    let rows = database.sql("opensips", "SELECT username, cseq, flags FROM location ORDER BY username");
    assert_eq!(rows, "bob\t2\t0\ncarol\t7\t0");
    // Who registered before we came is reached.
    carol.server = house.addr;
    let mut alice = Ua::new("alice", house.addr);
    let (call, invite) = alice.invite("carol", "");
    let asked = carol.expect("INVITE");
    carol.reply(&asked, "486 Busy Here");
    let busy = alice.expect_reply(486, &call);
    alice.ack_failure(&invite, &busy);

    // The database hangs: what needs it fails, what does not goes on, and all heals.
    database.freeze();
    let (call, invite) = alice.invite("carol", "");
    let asked = carol.expect("INVITE");
    carol.reply(&asked, "486 Busy Here");
    let busy = alice.expect_reply(486, &call);
    alice.ack_failure(&invite, &busy);
    database.thaw();
    let until = Instant::now() + Duration::from_secs(10);
    while !register(&house, "bob", "zanzibar").starts_with("SIP/2.0 200") {
        assert!(Instant::now() < until, "it did not heal");
    }
}

#[test]
fn a_user_made_in_postgresql_registers() {
    let database = Database::postgres();
    database.sql("postgres", "CREATE DATABASE sip");
    let url = database.url("sip");
    assert!(program(&["db", "--url", &url, "init"]).contains("subscriber"));
    assert!(program(&["db", "--url", &url, "migrate"]).contains("nothing to do"));
    let house = Setup::new(&[PROXY, DIGEST_REGISTER, OPEN_CALL])
        .params(WRITE_THROUGH)
        .on_server("db_postgres", &url)
        .user("bob", "zanzibar")
        .start();
    assert!(program(&["user", "--url", &url, "list"]).contains("bob@127.0.0.1"));
    for _ in 0..2 {
        let done = register(&house, "bob", "zanzibar");
        assert!(done.starts_with("SIP/2.0 200"), "{done}");
    }
    assert_eq!(database.sql("sip", "SELECT count(*) FROM location WHERE username = 'bob'"), "2");
}

#[test]
fn a_database_that_is_not_there_is_named_without_its_password() {
    let run = std::process::Command::new(PROGRAM)
        .args(["db", "--url", "mysql://sip:secret@127.0.0.1:1/sip", "migrate"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && !text.contains("secret") && text.contains("refused"), "{text}");
}
