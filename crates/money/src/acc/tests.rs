//! Scripts in, records out, on real transactions.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use switchroom_kernel::events::{Event, Subscriber};
use switchroom_kernel::ports::store::SqlValue;

use super::MODULE;
use super::record::date;
use crate::testing::{House, NOW};

const HEAD: &str = "loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"rr.so\"\nloadmodule \"acc.so\"\n\
                    modparam(\"acc\", \"db_url\", \"fake://\")\n";

fn house(params: &str, routes: &str) -> House {
    House::open(&format!("{HEAD}{params}\n{routes}\n"), &[&MODULE]).unwrap()
}

fn refused(params: &str, routes: &str) -> String {
    House::open(&format!("{HEAD}{params}\n{routes}\n"), &[&MODULE]).err().unwrap()
}

fn request(method: &str, call: &str) -> String {
    format!(
        "{method} sip:bob@127.0.0.1:7000 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{call}{method}\r\n\
         From: <sip:alice@a>;tag=fa\r\nTo: <sip:bob@b>\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The reply of the callee to a request that we sent it.
fn reply(request: &str, status: &str, body: &str) -> String {
    let mut out = format!("SIP/2.0 {status}\r\n");
    for line in request.split("\r\n").skip(1) {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if matches!(name.as_str(), "via" | "from" | "call-id" | "cseq") {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
    out.push_str(&format!("To: <sip:bob@b>;tag=tb\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    out
}

/// Arguments of the rows of one table, as text.
fn rows(house: &House, table: &str) -> Vec<Vec<String>> {
    house.close();
    let text = |v: &SqlValue| v.to_text().unwrap_or_else(|| "NULL".into());
    let start = format!("INSERT INTO {table} ");
    let all = house.db.rows().into_iter().filter(|(sql, _)| sql.starts_with(&start));
    all.map(|(_, args)| args.iter().map(text).collect()).collect()
}

fn call(house: &House, id: &str, statuses: &[&str]) {
    house.receive(6000, &request("INVITE", id));
    let mut sent = house.sent_to(7000);
    while sent.starts_with("ACK") {
        sent = house.sent_to(7000);
    }
    assert!(sent.starts_with("INVITE"), "{sent}");
    for status in statuses {
        house.receive(7000, &reply(&sent, status, ""));
    }
}

const RELAY: &str = "route { do_accounting(\"db|log\", \"cdr|missed|failed\"); t_relay(); exit; }";

#[test]
fn an_answered_call_gives_one_row() {
    let h = house("", RELAY);
    call(&h, "c1", &["180 Ringing", "200 Fine", "200 Fine"]);
    assert_eq!(rows(&h, "acc"), [["INVITE", "fa", "tb", "c1", "200", "Fine", &date(NOW)]]);
    let sql = h.db.rows()[0].0.clone();
    assert_eq!(
        sql,
        "INSERT INTO acc (method, from_tag, to_tag, callid, sip_code, sip_reason, time) VALUES (?, ?, ?, ?, ?, ?, ?)"
    );
}

#[test]
fn a_refused_call_is_missed_and_failed() {
    let h = house("", RELAY);
    call(&h, "c1", &["486 Busy Here"]);
    assert_eq!(rows(&h, "acc"), [["INVITE", "fa", "tb", "c1", "486", "Busy Here", &date(NOW)]]);
    let missed = ["INVITE", "fa", "tb", "c1", "486", "Busy Here", &date(NOW), "0", &date(NOW)];
    assert_eq!(rows(&h, "missed_calls"), [missed]);
}

#[test]
fn without_the_flags_a_failure_is_not_accounted() {
    let h = house("", "route { do_accounting(\"db\"); t_relay(); exit; }");
    call(&h, "c1", &["486 Busy Here"]);
    h.close();
    assert!(h.db.rows().is_empty());
}

#[test]
fn a_call_that_nobody_takes_is_missed_with_408() {
    let h = house("", RELAY);
    call(&h, "c1", &[]);
    h.pass(Duration::from_secs(40));
    let missed = rows(&h, "missed_calls");
    assert_eq!((missed.len(), missed[0][4].as_str()), (1, "408"));
    let failed = rows(&h, "acc");
    assert_eq!((failed.len(), failed[0][4].as_str()), (1, "408"));
}

#[test]
fn missed_is_said_again_for_each_destination() {
    let routes = "route { do_accounting(\"db\", \"missed\"); t_on_failure(\"next\"); t_relay(); exit; }\n\
                  failure_route[next] { if ($T_reply_code == 486) { do_accounting(\"db\", \"missed\"); } \
                  $ru = \"sip:carol@127.0.0.1:8000\"; t_on_failure(\"next\"); t_relay(); exit; }";
    let h = house("", routes);
    call(&h, "c1", &["486 Busy Here"]);
    let second = h.sent_to(8000);
    assert!(second.starts_with("INVITE sip:carol@"), "{second}");
    h.receive(8000, &reply(&second, "603 Decline", ""));
    let third = h.sent_to(8000);
    h.receive(8000, &reply(&third, "404 Not Found", ""));
    let codes: Vec<_> = rows(&h, "missed_calls").into_iter().map(|r| r[4].clone()).collect();
    assert_eq!(codes, ["486", "603"], "the third was not asked for");
}

#[test]
fn replies_of_our_own_carry_our_tag_and_reason() {
    let h = house("", "route { do_accounting(\"db\", \"failed\"); t_reply(480, \"Gone Fishing\"); exit; }");
    h.receive(6000, &request("INVITE", "c1"));
    let all = rows(&h, "acc");
    assert_eq!((all.len(), all[0][4].as_str(), all[0][5].as_str()), (1, "480", "Gone Fishing"));
    assert!(!all[0][2].is_empty());
}

#[test]
fn early_media_is_accounted_when_asked_for() {
    let h = house("modparam(\"acc\", \"early_media\", 1)", RELAY);
    call(&h, "c1", &["180 Ringing"]);
    h.receive(6000, &request("INVITE", "c2"));
    let sent = h.sent_to(7000);
    h.receive(7000, &reply(&sent, "183 Session Progress", "v=0\r\n"));
    h.receive(7000, &reply(&sent, "200 OK", ""));
    let codes: Vec<_> = rows(&h, "acc").into_iter().map(|r| r[4].clone()).collect();
    assert_eq!(codes, ["183", "200"]);
}

#[test]
fn extra_values_and_legs_reach_the_row() {
    let params = "modparam(\"acc\", \"extra_fields\", \"db: a->caller; b\")\n\
                  modparam(\"acc\", \"leg_fields\", \"db: who->leg_user\")";
    let routes = "route { $acc_extra(a) = \"early\"; do_accounting(\"db\", \"\", \"calls\"); \
                  $acc_leg(who) = \"first\"; acc_new_leg(); $acc_leg(who) = \"second\"; \
                  $(acc_leg(who)[0]) = $(acc_leg(who)[-2]) + \"!\" + $acc_current_leg; \
                  t_on_reply(\"r\"); t_relay(); exit; }\n\
                  onreply_route[r] { $acc_extra(b) = $acc_extra(a) + $rs; }";
    let h = house(params, routes);
    call(&h, "c1", &["200 OK"]);
    let all = rows(&h, "calls");
    assert_eq!(all.len(), 2);
    assert_eq!(all[0][7..], ["early", "early200", "first!1"]);
    assert_eq!(all[1][7..], ["early", "early200", "second"]);
    assert!(h.db.rows()[0].0.contains("time, caller, b, leg_user)"));
}

#[test]
fn dropped_accounting_leaves_no_trace() {
    let h = house("", "route { do_accounting(\"db\", \"failed\"); drop_accounting(); t_relay(); exit; }");
    call(&h, "c1", &["200 OK"]);
    h.close();
    assert!(h.db.rows().is_empty());
}

#[test]
fn a_request_is_accounted_on_the_spot() {
    let routes = "route { acc_db_request(\"404 Not Here\", \"missed_calls\"); acc_log_request(\"x\"); \
                  acc_db_request(\"Some comment\", \"acc\"); exit; }";
    let h = house("", routes);
    h.receive(6000, &request("MESSAGE", "c1"));
    assert_eq!(rows(&h, "missed_calls"), [["MESSAGE", "fa", "", "c1", "404", "Not Here", &date(NOW)]]);
    assert_eq!(rows(&h, "acc"), [["MESSAGE", "fa", "", "c1", "", "Some comment", &date(NOW)]]);
}

#[test]
fn flags_of_older_scripts_do_the_same() {
    let params = "modparam(\"acc\", \"db_flag\", 1)\nmodparam(\"acc\", \"db_missed_flag\", \"MISSED\")\n\
                  modparam(\"acc\", \"failed_transaction_flag\", 3)\nmodparam(\"acc\", \"db_extra\", \"user=$rU; m=$rm\")";
    let routes = "route { if ($ci == \"c2\") { t_relay(); exit; } \
                  setflag(1); setflag(\"MISSED\"); setflag(3); t_relay(); exit; }";
    let h = house(params, routes);
    call(&h, "c1", &["486 Busy Here"]);
    call(&h, "c2", &["486 Busy Here"]);
    let all = rows(&h, "acc");
    assert_eq!(all, [["INVITE", "fa", "tb", "c1", "486", "Busy Here", &date(NOW), "bob", "INVITE"]]);
    assert_eq!(rows(&h, "missed_calls").len(), 1);
}

#[test]
fn cancels_are_accounted_only_when_asked_for() {
    let routes = "route { do_accounting(\"db\", \"failed\"); t_relay(); exit; }";
    for (params, expected) in [("", 0), ("modparam(\"acc\", \"report_cancels\", 1)", 1)] {
        let h = house(params, routes);
        call(&h, "c1", &["180 Ringing"]);
        h.receive(6000, &request("CANCEL", "c1").replace("c1CANCEL", "c1INVITE"));
        let of_cancel = rows(&h, "acc").into_iter().filter(|r| r[0] == "CANCEL").count();
        assert_eq!(of_cancel, expected, "{params}");
    }
}

#[test]
fn a_cancelled_call_is_missed_with_487() {
    let h = house("", RELAY);
    call(&h, "c1", &["180 Ringing"]);
    h.receive(6000, &request("CANCEL", "c1").replace("c1CANCEL", "c1INVITE"));
    let cancel = h.sent_to(7000);
    assert!(cancel.starts_with("CANCEL"), "{cancel}");
    h.receive(7000, &reply(&cancel, "200 OK", ""));
    h.receive(7000, &reply(&cancel.replace("1 CANCEL", "1 INVITE"), "487 Request Terminated", ""));
    let missed = rows(&h, "missed_calls");
    assert_eq!((missed.len(), missed[0][4].as_str()), (1, "487"));
    assert_eq!(rows(&h, "acc").len(), 1);
}

#[test]
fn requests_of_the_callee_have_their_tags_swapped() {
    let params = "modparam(\"acc\", \"detect_direction\", 1)";
    let routes = "route { loose_route(); do_accounting(\"db\"); t_relay(); exit; }";
    let h = house(params, routes);
    let bye = request("BYE", "c1")
        .replace("To: <sip:bob@b>", "To: <sip:bob@b>;tag=caller\r\nRoute: <sip:127.0.0.1;lr;ftag=caller>");
    h.receive(6000, &bye);
    let sent = h.sent_to(7000);
    h.receive(7000, &reply(&sent, "200 OK", "").replace("tag=tb", "tag=caller"));
    assert_eq!(rows(&h, "acc"), [["BYE", "caller", "fa", "c1", "200", "OK", &date(NOW)]]);
}

struct Heard(Mutex<Vec<Arc<Event>>>);

impl Subscriber for Heard {
    fn event(&self, event: &Arc<Event>, _: Option<usize>) {
        self.0.lock().push(event.clone());
    }
    fn describe(&self) -> String {
        "test".into()
    }
}

#[test]
fn events_tell_of_answered_and_missed_calls() {
    let params = "modparam(\"acc\", \"extra_fields\", \"evi: a->plan\")";
    let routes = "route { do_accounting(\"evi\", \"missed\"); $acc_extra(a) = \"gold\"; t_relay(); exit; }";
    let h = house(params, routes);
    let heard = Arc::new(Heard(Mutex::default()));
    let events = &h.shard.kernel.events;
    for name in ["E_ACC_EVENT", "E_ACC_MISSED_EVENT"] {
        events.subscribe(events.find(name).unwrap(), heard.clone());
    }
    call(&h, "c1", &["200 OK"]);
    call(&h, "c2", &["486 Busy Here"]);
    let shown: Vec<String> = heard
        .0
        .lock()
        .iter()
        .map(|e| {
            let attrs = e.attrs.iter().map(|(n, v)| {
                let mut out = format!("{n}=").into_bytes();
                v.print(&mut out);
                String::from_utf8_lossy(&out).into_owned()
            });
            format!("{}: {}", e.name, attrs.collect::<Vec<_>>().join(" "))
        })
        .collect();
    let common = "method=INVITE from_tag=fa to_tag=tb callid=";
    assert_eq!(
        shown,
        [
            format!("E_ACC_EVENT: {common}c1 sip_code=200 sip_reason=OK time={NOW} plan=gold"),
            format!(
                "E_ACC_MISSED_EVENT: {common}c2 sip_code=486 sip_reason=Busy Here time={NOW} plan=gold \
                 created={NOW} setuptime=0"
            ),
        ]
    );
}

#[test]
fn rows_wait_for_a_database_that_is_away() {
    let h = house("", "route { acc_db_request(\"200 OK\", \"acc\"); exit; }");
    *h.db.unreachable.lock() = 5;
    for i in 0..50 {
        h.receive(6000, &request("MESSAGE", &format!("c{i}")));
    }
    let calls: Vec<_> = rows(&h, "acc").into_iter().map(|r| r[3].clone()).collect();
    assert_eq!(calls, (0..50).map(|i| format!("c{i}")).collect::<Vec<_>>());
    assert_eq!(h.shard.kernel.stats.get("acc:lost_records"), Some(0));
}

#[test]
fn a_row_that_is_refused_takes_no_other_with_it() {
    let h = house("", "route { acc_db_request(\"200 OK\", \"acc\"); exit; }");
    *h.db.unreachable.lock() = 1;
    for id in ["c0", "c1", "refused", "c2"] {
        h.receive(6000, &request("MESSAGE", id));
    }
    let calls: Vec<_> = rows(&h, "acc").into_iter().map(|r| r[3].clone()).collect();
    assert_eq!(calls, ["c0", "c1", "c2"]);
    assert_eq!(h.shard.kernel.stats.get("acc:lost_records"), Some(1));
}

#[test]
fn what_cannot_work_is_an_error_at_load() {
    let aaa = refused("", "route { do_accounting(\"aaa|db\"); }");
    assert!(aaa.contains("not available"), "{aaa}");
    let flag = refused("", "route { do_accounting(\"log\", \"lost\"); }");
    assert!(flag.contains("\"lost\" is not one of"), "{flag}");
    let table = refused("", "route { do_accounting(\"db\", \"cdr\", \"a b\"); }");
    assert!(table.contains("no table name"), "{table}");
    let fields = refused("modparam(\"acc\", \"extra_fields\", \"radius: a\")", "route { exit; }");
    assert!(fields.contains("extra_fields"), "{fields}");
    let script = "loadmodule \"acc.so\"\nroute { do_accounting(\"db\"); }\n";
    let url = House::open(script, &[&MODULE]).err().unwrap();
    assert!(url.contains("db_url"), "{url}");
}
