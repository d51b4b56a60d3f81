//! Call pickup: by script through events, where exactly one of those who dial gets the ringing call and the others are
//! told why; and by phones that do it themselves with Replaces (RFC 3891).

use std::time::Duration;

use switchroom_testkit::peer::header;

use crate::support::{House, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua};

/// Dialling *8 picks up any call to one's group, *8 and a number the call to that number. Everybody is of the same group.
/// Who comes first is decided by a counter; the others hear of it by an event of their own.
const PICKUP: &str = r#"
route[call] {
    record_route();
    if ($rU =~ "^\*8") {
        route(pick_up);
        exit;
    }
    t_newtran();
    t_wait_for_new_branches();
    $avp(waits) = "group=sales";
    notify_on_event("E_PICKUP", $avp(waits), "hand_over", 30);
    $avp(directed) = "callee=" + $rU;
    notify_on_event("E_PICKUP", $avp(directed), "hand_over", 30);
    if (lookup("location"))
        route(relay);
    exit;
}
route[pick_up] {
    t_newtran();
    $avp(mine) = "call=" + $ci;
    notify_on_event("E_PICKUP_TOLD", $avp(mine), "told", 5);
    # Both are always there: an attribute that an event lacks holds nobody back.
    if ($(rU{s.len}) > 2) {
        $avp(names) = "group";  $avp(values) = "none";
        $avp(names) = "callee"; $avp(values) = $(rU{s.substr,2,0});
    } else {
        $avp(names) = "group";  $avp(values) = "sales";
        $avp(names) = "callee"; $avp(values) = "none";
    }
    $avp(names) = "uri";      $avp(values) = $(ct.fields(uri));
    $avp(names) = "received"; $avp(values) = "";
    $avp(names) = "path";     $avp(values) = "";
    $avp(names) = "qval";     $avp(values) = 1000;
    $avp(names) = "socket";   $avp(values) = "";
    $avp(names) = "bflags";   $avp(values) = 0;
    $avp(names) = "call";     $avp(values) = $ci;
    $avp(names) = "cseq";     $avp(values) = $cs;
    raise_event("E_PICKUP", $avp(names), $avp(values));
    async(sleep(2), nobody);
}
route[nobody] {
    t_reply(404, "No call to pick up");
}
route[hand_over] {
    cache_add("local", "pickup:$T_id", 1, 60, $var(number));
    if ($var(number) > 1) {
        $var(why) = "picked up by another";
    } else if (t_inject_branches("event", "cancel,last")) {
        $var(why) = "the call comes to you";
    } else {
        $var(why) = "the call is over";
    }
    $avp(told_names) = "call"; $avp(told_values) = $avp(call);
    $avp(told_names) = "cseq"; $avp(told_values) = $avp(cseq);
    $avp(told_names) = "why";  $avp(told_values) = $var(why);
    raise_event("E_PICKUP_TOLD", $avp(told_names), $avp(told_values));
}
route[told] {
    t_reply_by_callid(486, "$avp(why)", "$avp(call)", "$avp(cseq)");
}
"#;

fn house() -> House {
    let lines = "loadmodule \"event_routing.so\"\nloadmodule \"cachedb_local.so\"\nloadmodule \"cfgutils.so\"\n\
                 modparam(\"usrloc\", \"use_domain\", 0)\n";
    Setup::new(&[PROXY, OPEN_REGISTER, PICKUP]).params(lines).start()
}

struct Office {
    house: House,
    alice: Ua,
    bob: Ua,
    carol: Ua,
    dave: Ua,
}

fn office() -> Office {
    let house = house();
    let at = house.addr;
    let (alice, mut bob) = (Ua::new("alice", at), Ua::new("bob", at));
    bob.register_here("");
    Office { alice, bob, carol: Ua::new("carol", at), dave: Ua::new("dave", at), house }
}

/// The final answer to a call of this phone, and whether it was called before that.
fn outcome(phone: &mut Ua, call: &Call) -> (String, Option<String>) {
    let asked = std::cell::RefCell::new(None);
    let answer = phone.peer.wait_for(Duration::from_secs(5), |m| {
        if m.starts_with("INVITE") {
            asked.replace(Some(m.to_owned()));
        }
        let status: u16 = m.get(8..11).and_then(|s| s.parse().ok()).unwrap_or(0);
        m.starts_with("SIP/2.0") && status >= 200 && header(m, "Call-ID") == Some(&call.id)
    });
    let mut asked = asked.into_inner();
    let answer = answer.expect("a final answer");
    if asked.is_none() {
        asked = phone.peer.wait_for(Duration::from_millis(300), |m| m.starts_with("INVITE"));
    }
    (answer, asked)
}

#[test]
fn of_two_who_pick_up_in_the_same_instant_one_gets_the_call_and_the_other_is_told_why() {
    for round in 0..5 {
        let mut o = office();
        let (call, _) = o.alice.invite("bob", "");
        let at_bob = o.bob.expect("INVITE");
        o.bob.reply(&at_bob, "180 Ringing");
        o.alice.expect_reply(180, &call);
        let first = o.carol.invite("*8", "").0;
        let second = o.dave.invite("*8", "").0;
        let (carol_told, at_carol) = outcome(&mut o.carol, &first);
        let (dave_told, at_dave) = outcome(&mut o.dave, &second);
        assert!(at_carol.is_some() != at_dave.is_some(), "round {round}: {at_carol:?} {at_dave:?}");
        let ((winner, asked), (won, lost)) = match (at_carol, at_dave) {
            (Some(asked), _) => ((&mut o.carol, asked), (carol_told, dave_told)),
            (_, Some(asked)) => ((&mut o.dave, asked), (dave_told, carol_told)),
            _ => unreachable!("one was called"),
        };
        assert!(won.starts_with("SIP/2.0 486 the call comes to you"), "{won}");
        assert!(lost.starts_with("SIP/2.0 486 picked up by another"), "{lost}");
        assert_eq!(header(&asked, "Call-ID"), Some(&*call.id));
        winner.reply(&asked, "200 OK");
        let answer = o.alice.expect_reply(200, &call);
        let cancel = o.bob.expect("CANCEL");
        assert!(header(&cancel, "Reason").unwrap_or_default().contains("completed elsewhere"), "{cancel}");
        o.alice.in_dialog("ACK", &call, &answer);
        winner.expect("ACK");
    }
}

#[test]
fn a_directed_pickup_takes_the_call_to_that_number_and_no_other() {
    let mut o = office();
    let mut eve = Ua::new("eve", o.house.addr);
    eve.register_here("");
    let (to_bob, _) = o.alice.invite("bob", "");
    o.bob.expect("INVITE");
    let mut frank = Ua::new("frank", o.house.addr);
    let (_to_eve, _) = frank.invite("eve", "");
    eve.expect("INVITE");
    let picked = o.carol.invite("*8bob", "").0;
    let (told, asked) = outcome(&mut o.carol, &picked);
    assert!(told.starts_with("SIP/2.0 486 the call comes to you"), "{told}");
    let asked = asked.expect("the call comes");
    assert_eq!(header(&asked, "Call-ID"), Some(&*to_bob.id));
    o.carol.reply(&asked, "200 OK");
    o.alice.expect_reply(200, &to_bob);
}

#[test]
fn a_pickup_without_a_ringing_call_is_told_so() {
    let mut o = office();
    let picked = o.carol.invite("*8", "").0;
    let answer = o.carol.expect_reply(404, &picked);
    assert!(answer.starts_with("SIP/2.0 404 No call to pick up"), "{answer}");
}

#[test]
fn a_phone_that_picks_up_by_itself_sends_replaces_through() {
    let mut o = office();
    o.alice.register_here("");
    let (call, _) = o.alice.invite("bob", "");
    let at_bob = o.bob.expect("INVITE");
    o.bob.reply(&at_bob, "180 Ringing");
    let ringing = o.alice.expect_reply(180, &call);
    let tag = header(&ringing, "To").and_then(|t| t.split(";tag=").nth(1)).expect("a tag").to_owned();
    let replaces = format!(
        "Replaces: {};to-tag={tag};from-tag={};early-only\r\nRequire: replaces\r\n",
        call.id, call.tag
    );
    let (picked, _) = o.carol.invite("alice", &replaces);
    let asked = o.alice.expect("INVITE");
    assert!(asked.contains(&replaces), "{asked}");
    o.alice.reply(&asked, "200 OK");
    let done = o.carol.expect_reply(200, &picked);
    o.carol.in_dialog("ACK", &picked, &done);
    o.alice.expect("ACK");
}
