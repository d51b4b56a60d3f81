//! Calls that wait for the world: a phone that registers later joins a call under way, a script that waits for an event
//! goes on with it, and what was waited for is given up when it is of no use any more.

use std::time::Duration;

use switchroom_testkit::peer::header;

use crate::support::{House, OPEN_REGISTER, PROXY, Setup};
use crate::ua::Ua;

/// As an operator wrote it, but for the relay route.
const WAKE: &str = r#"
route[call] {
    record_route();
    route(route_to_user);
}
route[route_to_user] {
    t_newtran();
    t_wait_for_new_branches();
    $avp(filter) = "aor="+$rU;
    notify_on_event("E_UL_CONTACT_INSERT","$avp(filter)", "fork_call", "20");
    if (lookup("location"))
        route(relay);
    exit;
}
route[fork_call]  {
    xlog("user $avp(aor) registered the a new contact $avp(uri), injecting it in transaction\n");
    t_inject_branches("event");
}
"#;

/// The call itself is suspended until somebody registers.
const SUSPEND: &str = r#"
route[call] {
    record_route();
    $avp(filter) = "aor=" + $rU;
    async(wait_for_event("E_UL_AOR_INSERT", $avp(filter), 2), resume_call);
}
route[resume_call] {
    $var(result) = $rc;
    xlog("L_NOTICE", "resumed with $var(result) for $avp(aor)\n");
    if ($var(result) < 0) { t_reply(480, "Nobody came"); exit; }
    if (!lookup("location")) { t_reply(404, "Not Found"); exit; }
    t_relay();
}
"#;

fn house(routes: &str) -> House {
    let lines = "loadmodule \"event_routing.so\"\nmodparam(\"usrloc\", \"use_domain\", 0)\n\
                 modparam(\"tm\", \"fr_inv_timeout\", 2)";
    Setup::new(&[PROXY, OPEN_REGISTER, routes]).params(lines).start()
}

fn waiting(house: &House) -> i64 {
    let found = house.mi_json(&["get_statistics", "event_routing:subscriptions"]);
    found["event_routing:subscriptions"].as_i64().unwrap()
}

/// Waits until nobody waits any more.
fn expect_nobody_waits(house: &House) {
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while waiting(house) != 0 {
        assert!(std::time::Instant::now() < end, "somebody still waits");
    }
}

#[test]
fn a_phone_that_registers_during_the_call_rings_in_it_though_the_first_one_declined() {
    let house = house(WAKE);
    let mut alice = Ua::new("alice", house.addr);
    let (mut desk, mut mobile) = (Ua::new("bob", house.addr), Ua::new("bob", house.addr));
    desk.register_here("");
    let (call, _) = alice.invite("bob", "");
    let asked = desk.expect("INVITE");
    desk.reply(&asked, "486 Busy Here");
    desk.expect("ACK");
    assert_eq!(waiting(&house), 1);
    mobile.register_here("");
    let asked = mobile.expect("INVITE");
    mobile.reply(&asked, "180 Ringing");
    alice.expect_reply(180, &call);
    mobile.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    mobile.expect("ACK");
    expect_nobody_waits(&house);
}

#[test]
fn the_one_that_answers_ends_the_ringing_of_the_other() {
    let house = house(WAKE);
    let mut alice = Ua::new("alice", house.addr);
    let (mut desk, mut mobile) = (Ua::new("bob", house.addr), Ua::new("bob", house.addr));
    desk.register_here("");
    let (call, _) = alice.invite("bob", "");
    let at_desk = desk.expect("INVITE");
    desk.reply(&at_desk, "180 Ringing");
    alice.expect_reply(180, &call);
    mobile.register_here("");
    let at_mobile = mobile.expect("INVITE");
    mobile.reply(&at_mobile, "200 OK");
    alice.expect_reply(200, &call);
    let cancel = desk.expect("CANCEL");
    assert!(header(&cancel, "Reason").unwrap_or_default().contains("completed elsewhere"), "{cancel}");
}

#[test]
fn a_registration_of_somebody_else_joins_no_call() {
    let house = house(WAKE);
    let mut alice = Ua::new("alice", house.addr);
    let (call, invite) = alice.invite("bob", "");
    alice.expect_reply(100, &call);
    let mut eve = Ua::new("eve", house.addr);
    eve.register_here("");
    let asked = eve.peer.wait_for(Duration::from_millis(300), |m| m.starts_with("INVITE"));
    assert!(asked.is_none(), "{asked:?}");
    // Nobody else comes: the caller gets the ending that the timer brings, and everything is freed.
    let reply = alice.expect_reply(408, &call);
    alice.ack_failure(&invite, &reply);
    expect_nobody_waits(&house);
}

#[test]
fn a_caller_who_gives_up_frees_what_waits_for_him() {
    let house = house(WAKE);
    let mut alice = Ua::new("alice", house.addr);
    let (call, invite) = alice.invite("bob", "");
    alice.expect_reply(100, &call);
    assert_eq!(waiting(&house), 1);
    alice.cancel(&invite);
    let reply = alice.expect_reply(487, &call);
    alice.ack_failure(&invite, &reply);
    expect_nobody_waits(&house);
}

#[test]
fn a_suspended_call_goes_on_when_its_user_registers() {
    let house = house(SUSPEND);
    let mut alice = Ua::new("alice", house.addr);
    let (call, _) = alice.invite("bob", "");
    alice.expect_reply(100, &call);
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "200 OK");
    alice.expect_reply(200, &call);
    house.expect_log("resumed with 1 for bob");
}

#[test]
fn a_suspended_call_is_told_that_its_time_is_over() {
    let house = house(SUSPEND);
    let mut alice = Ua::new("alice", house.addr);
    let (call, invite) = alice.invite("bob", "");
    let reply = alice.expect_reply(480, &call);
    alice.ack_failure(&invite, &reply);
    house.expect_log("resumed with -2 for");
    expect_nobody_waits(&house);
}

#[test]
fn a_filter_on_an_attribute_that_the_event_lacks_is_an_error() {
    let house = house(
        r#"
route[call] {
    $avp(filter) = "user=" + $rU;
    if (!notify_on_event("E_UL_CONTACT_INSERT", $avp(filter), "nothing", 5))
        send_reply(500, "No such attribute");
    exit;
}
route[nothing] { exit; }
"#,
    );
    let mut alice = Ua::new("alice", house.addr);
    let (call, _) = alice.invite("bob", "");
    alice.expect_reply(500, &call);
    house.expect_log("has no attribute `user`");
}
