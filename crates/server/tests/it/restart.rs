//! Ends and new beginnings: `kill -9`, SIGTERM, SIGHUP. What was acknowledged is there afterwards.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use switchroom_testkit::Peer;
use switchroom_testkit::peer::header;

use crate::support::{House, OPEN_CALL, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua};

const READY: Duration = Duration::from_secs(20);

fn located(mode: &str) -> House {
    Setup::new(&[PROXY, OPEN_REGISTER, OPEN_CALL])
        .params(&format!("modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-sql-{mode}\")"))
        .database()
        .start()
}

#[test]
fn kill_9_during_1000_registrations_loses_none_that_was_acknowledged() {
    let mut house = located("write-through");
    let mut phone = Ua::new("u", house.addr);
    let mut acknowledged = HashSet::new();
    let take = |peer: &mut Peer, wait: Duration, set: &mut HashSet<String>| {
        let Some(reply) = peer.wait_for(wait, |m| m.starts_with("SIP/2.0 200")) else { return false };
        set.insert(header(&reply, "Call-ID").unwrap().to_owned());
        true
    };
    for number in 0..1000 {
        if number == 700 {
            house.server.kill();
        }
        let mut call = Call::new(&format!("u{number}"), &format!("u{number}"));
        call.id = format!("u{number}");
        let contact = format!("Contact: <sip:u{number}@192.0.2.1:5060>;expires=3600\r\n");
        let text = phone.request("REGISTER", "sip:127.0.0.1", &call, &contact);
        phone.send(text);
        // Up to 50 are on their way at any time.
        while number < 700 && number >= acknowledged.len() + 50 {
            assert!(take(&mut phone.peer, Duration::from_secs(5), &mut acknowledged), "no answer");
        }
    }
    while take(&mut phone.peer, Duration::from_millis(100), &mut acknowledged) {}
    assert!(acknowledged.len() >= 650, "only {} were acknowledged", acknowledged.len());
    house.server.start_again(READY);
    let dump = house.mi(&["usrloc:dump", "brief=1"]).1;
    let dump = if dump.contains("u1@") { dump } else { house.mi(&["usrloc:dump"]).1 };
    for user in &acknowledged {
        assert!(dump.contains(&format!("\"{user}@127.0.0.1\"")), "{user} was acknowledged and is gone");
    }
    // And it is not only listed: a call finds it.
    let rows: usize = house.sql("select count(*) from location").parse().unwrap();
    assert!(rows >= acknowledged.len());
}

#[test]
fn sigterm_ends_within_seconds_and_writes_back_what_was_only_in_memory() {
    let mut house = located("write-back");
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here(";q=0.7");
    assert_eq!(house.sql("select count(*) from location"), "0", "written at the end, not before");
    let started = Instant::now();
    let status = house.server.stop(Duration::from_secs(8)).expect("it did not end");
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(house.sql("select username, contact, q from location"), format!("bob|{}|0.7", bob.contact()));
    house.server.start_again(READY);
    let mut alice = Ua::new("alice", house.addr);
    let (_, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "486 Busy Here");
    let busy = alice.expect("SIP/2.0 486");
    alice.ack_failure(&invite, &busy);
}

#[test]
fn sigterm_lets_a_call_that_rings_finish_its_transaction() {
    let mut house = Setup::new(&[PROXY, OPEN_REGISTER, OPEN_CALL]).start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (call, _) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "180 Ringing");
    alice.expect_reply(180, &call);
    house.server.signal("TERM");
    house.expect_log("stopping");
    bob.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    bob.expect("ACK");
    // What is left only absorbs repetitions, and is not waited for.
    let answered = Instant::now();
    assert!(house.server.stop(Duration::from_secs(15)).is_some_and(|s| s.success()));
    assert!(answered.elapsed() < Duration::from_secs(4), "{:?}", answered.elapsed());
}

#[test]
fn sighup_takes_a_good_script_and_refuses_a_bad_one() {
    let mut house = Setup::new(&["route { send_reply(200, \"first\"); }\n"]).start();
    let mut ua = Ua::new("alice", house.addr);
    let mut says = move |expect: &str| {
        let call = Call::new("alice", "alice");
        let text = ua.request("OPTIONS", "sip:127.0.0.1", &call, "");
        ua.send(text);
        let reply = ua.expect_reply(200, &call);
        assert!(reply.starts_with(&format!("SIP/2.0 200 {expect}\r\n")), "{reply}");
    };
    says("first");
    let file = house.dir.join("test.cfg");
    let script = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, script.replace("\"first\"", "\"second\"")).unwrap();
    house.server.signal("HUP");
    house.expect_log("script reloaded");
    says("second");
    // A script with an unknown function: refused, said where, and the old one stays.
    std::fs::write(&file, script.replace("send_reply(200", "send_replay(200")).unwrap();
    house.server.signal("HUP");
    house.expect_log("not reloaded");
    house.expect_log("send_replay");
    says("second");
    let (good, _, why) = house.mi(&["reload_routes"]);
    assert!(!good && why.contains("send_replay"), "{why}");
    // The management command does the same as the signal.
    std::fs::write(&file, script.replace("\"first\"", "\"third\"")).unwrap();
    let (good, _, why) = house.mi(&["reload_routes"]);
    assert!(good, "{why}");
    says("third");
    assert!(house.server.stop(Duration::from_secs(8)).is_some_and(|s| s.success()));
}

#[test]
fn a_call_that_rings_during_a_reload_ends_with_the_script_it_began_with() {
    let routes = r#"
route[call] {
    record_route();
    if (!lookup("location")) { send_reply(404, "Not Found"); exit; }
    t_on_failure("end");
    route(relay);
}
failure_route[end] { t_reply(480, "as it began"); }
"#;
    let house = Setup::new(&[PROXY, OPEN_REGISTER, routes]).start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    let file = house.dir.join("test.cfg");
    let script = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, script.replace("as it began", "as it is now")).unwrap();
    assert!(house.mi(&["reload_routes"]).0);
    bob.reply(&asked, "486 Busy Here");
    let reply = alice.expect_reply(480, &call);
    assert!(reply.starts_with("SIP/2.0 480 as it began"), "{reply}");
    alice.ack_failure(&invite, &reply);
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.peer.wait_for(Duration::from_secs(5), |m| {
        m.starts_with("INVITE") && header(m, "Call-ID") == Some(&call.id)
    });
    bob.reply(&asked.unwrap(), "486 Busy Here");
    let reply = alice.expect_reply(480, &call);
    assert!(reply.starts_with("SIP/2.0 480 as it is now"), "{reply}");
    alice.ack_failure(&invite, &reply);
}

#[test]
fn reload_routes_reads_routes_and_no_parameters() {
    let route = "route { rand_get_prob(); send_reply(200, \"first $rc\"); }\n";
    let lines = "loadmodule \"cfgutils.so\"\nmodparam(\"cfgutils\", \"initial_probability\", 20)";
    let house = Setup::new(&[route]).params(lines).start();
    let mut ua = Ua::new("alice", house.addr);
    let mut says = move || {
        let call = Call::new("alice", "alice");
        let text = ua.request("OPTIONS", "sip:127.0.0.1", &call, "");
        ua.send(text);
        ua.expect_reply(200, &call).lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(says(), "SIP/2.0 200 first 20");
    let file = house.dir.join("test.cfg");
    let script = std::fs::read_to_string(&file).unwrap();
    let changed = script
        .replace("\"initial_probability\", 20", "\"initial_probability\", 5")
        .replace("first", "second");
    assert_ne!(script, changed);
    std::fs::write(&file, changed).unwrap();
    assert!(house.mi(&["reload_routes"]).0);
    assert_eq!(says(), "SIP/2.0 200 second 20", "the parameter is that of the start");
}

#[test]
fn locations_of_several_pages_are_loaded_at_start_and_written_back_whole() {
    let mut house = located("write-back");
    let count = "SELECT count(*), count(DISTINCT contact) FROM location";
    house.server.stop(READY);
    house.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
         INSERT INTO location (contact_id, username, domain, contact, expires, q, callid, cseq, last_modified, flags, user_agent) \
         SELECT i * 7, 'u' || i, '127.0.0.1', 'sip:u' || i || '@192.0.2.1', 4000000000, 1.0, 'c' || i, 1, \
         '2026-01-01 00:00:00', 0, 'x' FROM n",
    );
    house.server.start_again(READY);
    let loaded = house.mi_json(&["get_statistics", "location-contacts"]);
    assert_eq!(loaded["usrloc:location-contacts"], 2500, "{loaded}");
    // Memory is told to write all of it again.
    house.sql("DELETE FROM location");
    assert!(house.mi(&["usrloc:sync", "table_name=location"]).0);
    assert_eq!(house.sql(count), "2500|2500");
    // What goes from memory goes from the database, and nothing else.
    assert!(house.mi(&["usrloc:rm", "table_name=location", "aor=u17@127.0.0.1"]).0);
    assert!(house.mi(&["usrloc:flush"]).0);
    assert_eq!(house.sql(count), "2499|2499");
    assert_eq!(house.sql("SELECT count(*) FROM location WHERE username = 'u17'"), "0");
}
