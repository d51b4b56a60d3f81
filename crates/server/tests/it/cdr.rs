//! Call records: one row for a whole call, made when its dialog ends.

use std::time::Duration;

use crate::support::{House, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua, establish};

const CALL: &str = r#"
route[call] {
    record_route();
    $acc_extra(caller) = $fU;
    do_accounting("db|log", "cdr|missed");
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
"#;

fn house() -> House {
    let lines = "loadmodule \"dialog.so\"\nloadmodule \"acc.so\"\nmodparam(\"acc\", \"extra_fields\", \"log: caller\")";
    Setup::new(&[PROXY, OPEN_REGISTER, CALL]).params(lines).database().start()
}

#[test]
fn an_answered_call_gives_one_row_with_its_duration_when_it_ends() {
    let house = house();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (call, _) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    std::thread::sleep(Duration::from_millis(1100));
    bob.reply(&asked, "200 OK");
    let answer = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &answer);
    bob.expect("ACK");
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!(house.sql("SELECT count(*) FROM acc"), "0", "nothing before its end");
    alice.in_dialog("BYE", &call, &answer);
    let bye = bob.expect("BYE");
    bob.reply(&bye, "200 OK");
    let line = house.expect_log("ACC: call ended: ");
    assert!(line.contains("caller=alice") && line.contains("code=200"), "{line}");
    let query = "SELECT method, callid, sip_code, duration, setuptime >= 1, ms_duration BETWEEN 1200 AND 1990, \
                 strftime('%s', time) - strftime('%s', created) = setuptime FROM acc";
    let end = std::time::Instant::now() + Duration::from_secs(5);
    loop {
        let found = house.sql(query);
        if !found.is_empty() {
            assert_eq!(found, format!("INVITE|{}|200|2|1|1|1", call.id));
            break;
        }
        assert!(std::time::Instant::now() < end, "no row");
    }
    assert_eq!(house.sql("SELECT count(*) FROM acc"), "1");
}

#[test]
fn a_call_that_is_not_answered_is_missed_and_has_no_record() {
    let house = house();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "486 Busy Here");
    let reply = alice.expect_reply(486, &call);
    alice.ack_failure(&invite, &reply);
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while house.sql("SELECT sip_code FROM missed_calls") != "486" {
        assert!(std::time::Instant::now() < end, "no row");
    }
    assert_eq!(house.sql("SELECT count(*) FROM acc"), "0");
}

#[test]
fn the_record_of_a_call_survives_a_restart_and_later_requests_see_its_values() {
    const CALL: &str = r#"
route[call] {
    if (is_method("MESSAGE")) {
        load_dialog_ctx($hdr(X-Call), "callid");
        if (acc_load_ctx_from_dlg()) {
            xlog("L_NOTICE", "of the call: $acc_extra(caller)\n");
            $acc_extra(plan) = "gold";
            acc_unload_ctx_from_dlg();
        }
        unload_dialog_ctx();
        xlog("L_NOTICE", "own: $acc_extra(caller).\n");
        send_reply(200, "OK");
        exit;
    }
    record_route();
    $acc_extra(caller) = $fU;
    do_accounting("db|log", "cdr|missed");
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
"#;
    let lines = "udp_workers=1\nloadmodule \"dialog.so\"\nmodparam(\"dialog\", \"db_mode\", 1)\nloadmodule \"acc.so\"\n\
                 modparam(\"acc\", \"extra_fields\", \"log: caller; plan\")";
    let mut house = Setup::new(&[PROXY, OPEN_REGISTER, CALL]).params(lines).database().start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (call, _, answer) = establish(&mut alice, &mut bob);
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while house.sql("SELECT count(*) FROM dialog WHERE vars LIKE '%INVITE%'") != "1" {
        assert!(std::time::Instant::now() < end, "the account is not kept");
        std::thread::sleep(Duration::from_millis(50));
    }
    house.server.kill();
    house.server.start_again(Duration::from_secs(20));
    let other = Call::new("alice", "bob");
    let text = alice.request("MESSAGE", "sip:bob@127.0.0.1", &other, &format!("X-Call: {}\r\n", call.id));
    alice.send(text);
    alice.expect_reply(200, &other);
    house.expect_log("of the call: alice");
    house.expect_log("own: <null>.");
    alice.in_dialog("BYE", &call, &answer);
    let bye = bob.expect("BYE");
    bob.reply(&bye, "200 OK");
    let line = house.expect_log("ACC: call ended: ");
    assert!(
        line.contains("caller=alice") && line.contains("plan=gold") && line.contains("code=200"),
        "{line}"
    );
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while house.sql("SELECT method, callid, sip_code FROM acc") != format!("INVITE|{}|200", call.id) {
        assert!(std::time::Instant::now() < end, "no row");
        std::thread::sleep(Duration::from_millis(50));
    }
}
