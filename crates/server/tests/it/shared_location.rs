//! Two servers on one location table (`sql-only`): what one registers, the other calls.

use std::time::Duration;

use switchroom_testkit::Database;
use switchroom_testkit::peer::header;

use crate::support::{House, OPEN_CALL, PROXY, Setup, program, sqlite};
use crate::ua::{Call, Ua};

const REGISTER: &str = r#"
route[register] {
    if (is_registered("location", $tu)) xlog("L_ERR", "again: $tU\n");
    if (!save("location", "max-contacts=2")) xlog("L_ERR", "refused: $tU\n");
}
event_route[E_UL_CONTACT_INSERT] { xlog("L_ERR", "came: $param(aor)\n"); }
event_route[E_UL_CONTACT_DELETE] { xlog("L_ERR", "gone: $param(aor)\n"); }
event_route[E_UL_AOR_DELETE] { xlog("L_ERR", "empty: $param(aor)\n"); }
"#;

fn start(module: &str, url: &str) -> House {
    Setup::new(&[PROXY, REGISTER, OPEN_CALL])
        .params("modparam(\"usrloc\", \"working_mode_preset\", \"sql-only\")\nmodparam(\"usrloc\", \"timer_interval\", 1)")
        .on_server(module, url)
        .start()
}

fn rings(from: &House, callee: &str, phone: &mut Ua) {
    let mut alice = Ua::new("alice", from.addr);
    let (_, invite) = alice.invite(callee, "");
    let asked = phone.expect("INVITE");
    phone.server = from.addr;
    phone.reply(&asked, "486 Busy Here");
    let busy = alice.expect("SIP/2.0 486");
    alice.ack_failure(&invite, &busy);
}

fn is_unknown(at: &House, callee: &str) {
    let mut alice = Ua::new("alice", at.addr);
    let (_, invite) = alice.invite(callee, "");
    let none = alice.expect("SIP/2.0 404");
    alice.ack_failure(&invite, &none);
}

fn register(phone: &mut Ua, call: &mut Call, server: &House, more: &str) -> String {
    phone.server = server.addr;
    let contact = format!("Contact: <{}>\r\n{more}", phone.contact());
    phone.register(call, &contact)
}

/// What two servers on one database must do.
fn play(module: &str, url: &str, sql: &dyn Fn(&str) -> String) {
    let (a, b) = (start(module, url), start(module, url));
    let mut bob = Ua::new("bob", a.addr);
    let mut call = Call::new("bob", "bob");
    is_unknown(&b, "bob");
    assert!(register(&mut bob, &mut call, &a, "Expires: 600\r\n").starts_with("SIP/2.0 200"));
    rings(&b, "bob", &mut bob);
    rings(&a, "bob", &mut bob);
    // Refreshed elsewhere it is the same binding; the other server sees its new end.
    let again = register(&mut bob, &mut call, &b, "Expires: 300\r\n");
    assert!(header(&again, "Contact").unwrap().contains(";expires=300"), "{again}");
    b.expect_log("again: bob");
    assert_eq!(sql("select count(*) from location"), "1");
    let shown = a.mi_json(&["ul_show_contact", "location", "bob@127.0.0.1"]);
    assert_eq!(shown["Contacts"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown["Contacts"][0]["Contact"], bob.contact());
    // The limit of contacts counts over both.
    let mut second = Ua::new("bob", b.addr);
    assert!(register(&mut second, &mut Call::new("bob", "bob"), &b, "").starts_with("SIP/2.0 200"));
    let mut third = Ua::new("bob", a.addr);
    assert!(register(&mut third, &mut Call::new("bob", "bob"), &a, "").starts_with("SIP/2.0 503"));
    assert!(a.mi(&["ul_dump"]).1.contains(&second.contact()));
    // Taken away on one, gone on both.
    assert!(register(&mut bob, &mut call, &a, "Expires: 0\r\n").starts_with("SIP/2.0 200"));
    assert!(b.mi(&["ul_rm_contact", "location", "bob@127.0.0.1", &second.contact()]).0);
    is_unknown(&a, "bob");
    is_unknown(&b, "bob");
    assert_eq!(sql("select count(*) from location"), "0");
    // A row whose time is over is swept once; one that was renewed elsewhere stays.
    let (mut carol, mut dave) = (Ua::new("carol", a.addr), Ua::new("dave", a.addr));
    let (mut of_carol, mut of_dave) = (Call::new("carol", "carol"), Call::new("dave", "dave"));
    for (phone, call) in [(&mut carol, &mut of_carol), (&mut dave, &mut of_dave)] {
        assert!(register(phone, call, &a, "Expires: 2\r\n").starts_with("SIP/2.0 200"));
    }
    assert!(register(&mut dave, &mut of_dave, &b, "Expires: 600\r\n").starts_with("SIP/2.0 200"));
    std::thread::sleep(Duration::from_millis(4500));
    assert_eq!(sql("select username from location"), "dave");
    let told = |text: &str| a.count_log(text) + b.count_log(text);
    assert_eq!((told("gone: carol"), told("empty: carol"), told("gone: dave")), (1, 1, 0));
    rings(&a, "dave", &mut dave);
    is_unknown(&a, "carol");
    // Nothing of it is in memory: a server that starts anew knows as much.
    drop(a);
    let c = start(module, url);
    rings(&c, "dave", &mut dave);
}

#[test]
fn two_servers_share_a_table_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shared.db");
    let url = format!("sqlite://{}", file.display());
    program(&["db", "--url", &url, "init"]);
    play("db_sqlite", &url, &|text| sqlite(&file, text));
}

#[test]
fn two_servers_share_a_table_in_postgresql() {
    let database = Database::postgres();
    database.sql("postgres", "CREATE DATABASE opensips");
    let url = database.url("opensips");
    program(&["db", "--url", &url, "init"]);
    play("db_postgres", &url, &|text| database.sql("opensips", text).trim().to_owned());
}

#[test]
fn two_servers_share_a_table_in_mariadb() {
    let database = Database::mariadb();
    database.sql("mysql", "CREATE DATABASE opensips");
    let url = database.url("opensips");
    program(&["db", "--url", &url, "init"]);
    play("db_mysql", &url, &|text| database.sql("opensips", text).trim().to_owned());
}

#[test]
fn a_server_pings_the_phones_of_its_own_sockets_only() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("shared.db").display());
    program(&["db", "--url", &url, "init"]);
    let pings = "loadmodule \"nathelper.so\"\nmodparam(\"nathelper\", \"natping_interval\", 1)\n\
        modparam(\"nathelper\", \"sipping_from\", \"sip:p@example.org\")\nmodparam(\"nathelper\", \"sipping_bflag\", \"SIP\")\n\
        modparam(\"nathelper\", \"remove_on_timeout_bflag\", \"SIP\")\nmodparam(\"nathelper\", \"sipping_latency_flag\", \"SIP\")\n\
        modparam(\"nathelper\", \"max_pings_lost\", 2)\nmodparam(\"nathelper\", \"ping_threshold\", 1)\n\
        modparam(\"usrloc\", \"working_mode_preset\", \"sql-only\")";
    let routes = "route[register] { setbflag(\"SIP\"); save(\"location\"); }\n\
        event_route[E_UL_LATENCY_UPDATE] { xlog(\"L_ERR\", \"latency: $param(aor) $param(latency)\\n\"); }";
    let start = || Setup::new(&[PROXY, routes, OPEN_CALL]).params(pings).on_server("db_sqlite", &url).start();
    let (a, b) = (start(), start());
    let (mut bob, mut carol) = (Ua::new("bob", a.addr), Ua::new("carol", b.addr));
    bob.register_here("");
    carol.register_here("");
    for _ in 0..3 {
        let ping = bob.expect("OPTIONS");
        assert_eq!(bob.peer.last_sender(), Some(a.addr));
        bob.reply(&ping, "200 OK");
    }
    a.expect_log("latency: bob@127.0.0.1");
    // Carol says nothing and is removed, for both.
    let known = |house: &House| house.mi(&["ul_show_contact", "location", "carol@127.0.0.1"]).0;
    let deadline = std::time::Instant::now() + Duration::from_secs(8);
    while known(&a) && std::time::Instant::now() < deadline {
        if let Some(ping) = bob.peer.wait_for(Duration::from_millis(50), |m| m.starts_with("OPTIONS")) {
            bob.reply(&ping, "200 OK");
        }
    }
    assert!(!known(&a) && !known(&b));
    assert!(a.mi(&["ul_show_contact", "location", "bob@127.0.0.1"]).0);
}
