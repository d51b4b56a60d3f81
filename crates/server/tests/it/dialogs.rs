//! Dialogs: their states, values, profiles, lifetime and management.

use serde_json::Value;
use switchroom_testkit::peer::header;

use std::time::Duration;

use crate::support::{House, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua, establish, is_cancelled};

const CALL: &str = r#"
route[call] {
    create_dialog("B");
    $dlg_val(account) = "account of " + $fU;
    set_dlg_profile("caller", $fU);
    get_profile_size("caller", $fU, $var(calls));
    if ($var(calls) > 1) {
        send_reply(486, "One call only");
        exit;
    }
    dlg_on_answer("answered");
    dlg_on_hangup("ended");
    record_route();
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
route[answered] { xlog("L_NOTICE", "answered: $DLG_status $dlg_val(account)\n"); }
route[ended] { xlog("L_NOTICE", "ended: $DLG_end_reason $dlg_val(account)\n"); }
event_route[E_DLG_STATE_CHANGED] {
    xlog("L_NOTICE", "state $param(old_state) to $param(new_state) of $param(callid)\n");
}
"#;

fn house(more: &str) -> (House, Ua, Ua) {
    let lines = format!(
        "loadmodule \"dialog.so\"\nmodparam(\"dialog\", \"profiles_with_value\", \"caller\")\n{more}"
    );
    let house = Setup::new(&[PROXY, OPEN_REGISTER, CALL]).params(&lines).start();
    let alice = Ua::new("alice", house.addr);
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    (house, alice, bob)
}

fn answered(alice: &mut Ua, bob: &mut Ua) -> (Call, String) {
    let (call, _) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    assert!(header(&asked, "Record-Route").unwrap_or_default().contains(";did="), "{asked}");
    bob.reply(&asked, "180 Ringing");
    alice.expect_reply(180, &call);
    bob.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    bob.expect("ACK");
    (call, done)
}

fn active(house: &House) -> i64 {
    house.mi_json(&["get_statistics", "active_dialogs"])["dialog:active_dialogs"].as_i64().unwrap()
}

#[test]
fn a_call_goes_through_its_states_and_keeps_the_values_of_the_script() {
    let (house, mut alice, mut bob) = house("");
    let (call, done) = answered(&mut alice, &mut bob);
    house.expect_log("answered: 3 account of alice");
    for change in ["1 to 2", "2 to 3", "3 to 4"] {
        house.expect_log(&format!("state {change} of {}", call.id));
    }
    assert_eq!(active(&house), 1);
    let listed = house.mi_json(&["dialog:list_ctx"]);
    assert_eq!(listed["Dialogs"][0]["state"], 4);
    assert_eq!(listed["Dialogs"][0]["context"]["values"][0]["account"], "account of alice");
    alice.in_dialog("BYE", &call, &done);
    let bye = bob.expect("BYE");
    bob.reply(&bye, "200 OK");
    house.expect_log("ended: Downstream BYE account of alice");
    house.expect_log(&format!("state 4 to 5 of {}", call.id));
    assert_eq!(active(&house), 0);
}

#[test]
fn a_profile_limits_the_calls_of_a_user() {
    let (house, mut alice, mut bob) = house("");
    let (call, done) = answered(&mut alice, &mut bob);
    let (second, invite) = alice.invite("bob", "");
    let refused = alice.expect_reply(486, &second);
    alice.ack_failure(&invite, &refused);
    let size = house.mi_json(&["profile_get_size", "caller", "alice"]);
    assert_eq!(size["Profile"]["count"], 1, "the refused call does not count");
    alice.in_dialog("BYE", &call, &done);
    bob.expect("BYE");
    house.expect_log("ended: Downstream BYE");
    answered(&mut alice, &mut bob);
}

#[test]
fn a_call_ends_with_its_lifetime_and_both_sides_are_told() {
    let (house, mut alice, mut bob) = house("modparam(\"dialog\", \"default_timeout\", 1)");
    answered(&mut alice, &mut bob);
    for side in [&mut alice, &mut bob] {
        let bye = side.expect("BYE");
        side.reply(&bye, "200 OK");
    }
    house.expect_log("ended: Lifetime Timeout");
    assert_eq!(active(&house), 0);
}

#[test]
fn management_ends_a_call() {
    let (house, mut alice, mut bob) = house("");
    let (call, _) = answered(&mut alice, &mut bob);
    let listed = house.mi_json(&["dlg_list", &call.id]);
    let id = listed["Dialogs"][0]["ID"].as_str().unwrap().to_owned();
    let (done, out, err) = house.mi(&["dlg_end_dlg", &id]);
    assert!(done, "{out}{err}");
    let bye = alice.expect("BYE");
    assert!(header(&bye, "From").unwrap_or_default().contains("bob@"), "{bye}");
    bob.expect("BYE");
    house.expect_log("ended: MI Termination");
    let (again, _, err) = house.mi(&["dlg_end_dlg", "7.7"]);
    assert!(!again && err.contains("not found"), "{err}");
}

#[test]
fn a_restart_keeps_its_calls_with_what_the_script_knew_of_them() {
    const CALL: &str = r#"
route[call] {
    record_route();
    create_dialog("B");
    $dlg_val(account) = "a|c#1";
    set_dlg_profile("caller", $fU);
    dlg_on_hangup("over");
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
route[over] {
    xlog("L_NOTICE", "over: $dlg_val(account) $DLG_end_reason\n");
}
"#;
    for mode in [1, 3] {
        let lines = format!(
            "loadmodule \"dialog.so\"\nmodparam(\"dialog\", \"db_mode\", {mode})\n\
             modparam(\"dialog\", \"profiles_with_value\", \"caller\")\nlog_level=3\nxlog_level=3"
        );
        let mut house = Setup::new(&[PROXY, OPEN_REGISTER, CALL]).params(&lines).database().start();
        let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
        bob.register_here("");
        let (call, _, answer) = establish(&mut alice, &mut bob);
        if mode == 1 {
            let end = std::time::Instant::now() + Duration::from_secs(5);
            while house.sql("SELECT state FROM dialog") != "4" {
                assert!(std::time::Instant::now() < end, "no row");
            }
            house.server.kill();
        } else {
            house.server.stop(Duration::from_secs(15)).expect("it ends");
            assert_eq!(house.sql("SELECT state FROM dialog"), "4");
        }
        house.server.start_again(Duration::from_secs(20));
        assert_eq!(active(&house), 1);
        let size = house.mi_json(&["dialog:profile_get_size", "caller", "alice"]);
        assert_eq!(size["Profile"]["count"], 1);
        let listed = house.mi_json(&["dialog:list_ctx", &call.id]).to_string();
        assert!(listed.contains("a|c#1"), "{listed}");
        alice.in_dialog("BYE", &call, &answer);
        let bye = bob.expect("BYE");
        bob.reply(&bye, "200 OK");
        house.expect_log("over: a|c#1 Downstream BYE");
        assert_eq!(active(&house), 0);
        house.server.stop(Duration::from_secs(15)).expect("it ends");
        assert_eq!(house.sql("SELECT count(*) FROM dialog"), "0");
    }
}

#[test]
fn a_script_finds_other_dialogs_by_their_values_profiles_and_call_id() {
    const CALL: &str = r#"
route[call] {
    $var(me) = $fU;
    if (get_dialog_info("callee", $var(other), "caller", $var(me), $var(n)))
        append_to_reply("X-Other: $var(other)/$var(n)\r\n");
    if (get_dialogs_by_profile("all", , $avp(dialogs), $var(n)))
        append_to_reply("X-All: $var(n)\r\n");
    if (get_dialogs_by_val("caller", $var(me), $avp(mine), $var(n)))
        append_to_reply("X-Mine: $var(n) $(avp(mine){s.len})\r\n");
    if (get_dialog_vals($avp(names), $avp(values), $(hdr(X-Ask))))
        append_to_reply("X-Vals: $(avp(names)[0])=$(avp(values)[0]) $(avp(names)[1])=$(avp(values)[1])\r\n");
    if ($rU == "ask") { send_reply(486, "Told"); exit; }
    record_route();
    create_dialog();
    $dlg_val(caller) = $fU;
    $dlg_val(callee) = $rU;
    set_dlg_profile("all");
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
"#;
    let lines = "loadmodule \"dialog.so\"\nmodparam(\"dialog\", \"profiles_no_value\", \"all\")\n";
    let house = Setup::new(&[PROXY, OPEN_REGISTER, CALL]).params(lines).start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    // Several, so that they are on different workers.
    let calls: Vec<Call> = (0..4)
        .map(|_| {
            let (call, _, _) = establish(&mut alice, &mut bob);
            call
        })
        .collect();
    let (asking, _) = alice.invite("ask", &format!("X-Ask: {}\r\n", calls[2].id));
    let told = alice.expect_reply(486, &asking);
    assert_eq!(header(&told, "X-Other"), Some("bob/4"), "{told}");
    assert_eq!(header(&told, "X-All"), Some("4"), "{told}");
    assert!(header(&told, "X-Mine").is_some_and(|m| m.starts_with("4 ")), "{told}");
    assert_eq!(header(&told, "X-Vals"), Some("caller=alice callee=bob"), "{told}");
    let mut eve = Ua::new("eve", house.addr);
    let (asking, _) = eve.invite("ask", "");
    let told = eve.expect_reply(486, &asking);
    assert_eq!((header(&told, "X-Other"), header(&told, "X-Mine")), (None, None), "{told}");
}

const PINGED: &str = r#"
route[call] {
    create_dialog("options-ping-caller,options-ping-callee,reinvite-ping-callee");
    $DLG_options_ping_interval = 1;
    $DLG_reinvite_ping_interval = 1;
    dlg_on_hangup("ended");
    record_route();
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
route[ended] { xlog("L_NOTICE", "ended: $DLG_end_reason\n"); }
"#;

fn cseq(text: &str) -> u32 {
    header(text, "CSeq").unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn both_sides_are_pinged_and_a_side_that_knows_of_no_call_ends_it() {
    let house = Setup::new(&[PROXY, OPEN_REGISTER, PINGED]).params("loadmodule \"dialog.so\"").start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (call, asked, done) = establish(&mut alice, &mut bob);
    let ping = alice.expect("OPTIONS");
    assert!(
        header(&ping, "From").unwrap().contains("bob@") && header(&ping, "To").unwrap().contains(&call.tag)
    );
    alice.reply(&ping, "200 OK");
    // Both kinds of pings were asked for bob: he gets the INVITE, which has alice's session and is acknowledged.
    let ping = bob.expect("INVITE");
    bob.reply(&ping, "200 OK");
    assert!(ping.contains("application/sdp") && header(&ping, "Contact").is_some(), "{ping}");
    assert_eq!(cseq(&bob.expect("ACK")), cseq(&ping));
    // Alice knows nothing of the pings in her name: her number is raised on the way, and the reply has her own.
    let before = cseq(&ping);
    assert!(before > cseq(&asked));
    let mut own = call.clone();
    own.cseq += 1;
    let sent = alice.in_dialog("INFO", &own, &done);
    let info = bob.expect("INFO");
    assert!(cseq(&info) > before, "{info}");
    bob.reply(&info, "200 OK");
    let reply = alice.expect_reply(200, &call);
    assert_eq!(cseq(&reply), cseq(&sent));
    // Bob has restarted and knows of no call any more.
    let ping = bob.expect("INVITE");
    bob.reply(&ping, "481 Call/Transaction Does Not Exist");
    alice.expect("BYE");
    let bye = bob.expect("BYE");
    assert!(cseq(&bye) > cseq(&ping));
    house.expect_log("ended: Ping Timeout");
    assert_eq!(active(&house), 0);
}

#[test]
fn requests_of_our_own_go_to_either_side_and_renegotiate_the_media() {
    const SCRIPT: &str = r#"
route[call] {
    create_dialog("B");
    dlg_on_answer("answered");
    record_route();
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
route[answered] {
    dlg_inc_cseq("caller", 5);
    dlg_send_sequential("INFO", "callee", "Signal=1", "application/dtmf-relay", "X-Why: test");
    xlog("L_NOTICE", "json $(DLG_json{json.parse}) $(DLG_ctx_json{s.len})\n");
}
"#;
    let house = Setup::new(&[PROXY, OPEN_REGISTER, &SCRIPT.replace("$(DLG_json{json.parse})", "$DLG_json")])
        .params("loadmodule \"dialog.so\"\nmodparam(\"dialog\", \"profiles_with_value\", \"group\")")
        .start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (call, asked, _) = establish(&mut alice, &mut bob);
    let info = bob.expect("INFO");
    assert!(info.ends_with("Signal=1") && header(&info, "X-Why") == Some("test"), "{info}");
    assert_eq!(cseq(&info), cseq(&asked) + 6);
    bob.reply(&info, "200 OK");
    house.expect_log("\"caller_tag\"");
    // The media are negotiated again: alice is asked for an offer, bob answers it.
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| house.mi_json(&["dialog:send_sequential", &call.id]));
        let invite = alice.expect("INVITE");
        assert!(!invite.contains("application/sdp"), "{invite}");
        alice.reply(&invite, "200 OK\r\nContent-Type: application/sdp");
        let second = bob.expect("INVITE");
        bob.reply(&second, "200 OK");
        assert_eq!(asked.join().unwrap()["Code"], 200);
        let (to_alice, to_bob) = (alice.expect("ACK"), bob.expect("ACK"));
        assert_eq!((cseq(&to_alice), cseq(&to_bob)), (cseq(&invite), cseq(&second)));
    });
    let id = house.mi_json(&["dlg_list"])["Dialogs"][0]["ID"].as_str().unwrap().to_owned();
    assert!(house.mi(&["dialog:push_var", "note", "from outside", &id]).0);
    assert!(house.mi(&["dialog:set_profile", &id, "group", "sales"]).0);
    let listed = house.mi_json(&["dlg_list_ctx"]);
    assert_eq!(listed["Dialogs"][0]["context"]["values"][0]["note"], "from outside");
    assert_eq!(listed["Dialogs"][0]["context"]["profiles"][0]["group"], "sales");
    assert!(house.mi(&["dialog:unset_profile", &id, "group", "sales"]).0);
    let (again, _, why) = house.mi(&["dialog:unset_profile", &id, "group", "sales"]);
    assert!(!again && why.contains("not in that profile"), "{why}");
    assert!(house.mi(&["dialog:set_profile", &id, "group", "sales"]).0);
    assert_eq!(house.mi_json(&["profile_end_dlgs", "group", "sales"])["ended"], 1);
    alice.expect("BYE");
    bob.expect("BYE");
}

/// Scripts of other calls change a dialog; of several, some run on the other worker.
#[test]
fn a_loaded_dialog_of_another_worker_is_changed_there() {
    const SCRIPT: &str = r#"
route[call] {
    if (is_method("MESSAGE")) {
        $var(done) = 0;
        if (load_dialog_ctx($hdr(X-Call), "callid")) {
            $DLG_timeout = 500;
            $DLG_del_delay = 7;
            $dlg_val($hdr(X-Name)) = "set";
            if (set_dlg_profile("group", $hdr(X-Name)) && is_in_profile("group", $hdr(X-Name))) $var(done) = $var(done) + 1;
            if ($hdr(X-Leave) != NULL && unset_dlg_profile("group", $hdr(X-Leave))) $var(done) = $var(done) + 1;
            dlg_on_hangup("ended");
            reset_dlg_flag("TURNED");
            if (test_and_set_dlg_flag("TURNED", 0) && is_dlg_flag_set("TURNED")) $var(done) = $var(done) + 1;
            if (dlg_send_sequential("INFO", "callee", "for $hdr(X-Name)", "text/plain")) $var(done) = $var(done) + 1;
            if ($DLG_timeout > 400) $var(done) = $var(done) + 1;
            unload_dialog_ctx();
        }
        append_to_reply("X-Done: $var(done)\r\n");
        send_reply(200, "OK");
        exit;
    }
    create_dialog();
    record_route();
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
route[ended] { xlog("L_NOTICE", "ended with $dlg_val(m0) $dlg_val(m5)\n"); }
"#;
    let house = Setup::new(&[PROXY, OPEN_REGISTER, SCRIPT])
        .params("loadmodule \"dialog.so\"\nmodparam(\"dialog\", \"profiles_with_value\", \"group\")")
        .start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (call, _, done) = establish(&mut alice, &mut bob);
    for number in 0..6 {
        let leave = if number > 0 { format!("X-Leave: m{}\r\n", number - 1) } else { String::new() };
        let message = Call::new("alice", "bob");
        let more = format!("X-Call: {}\r\nX-Name: m{number}\r\n{leave}", call.id);
        let text = alice.request("MESSAGE", "sip:bob@127.0.0.1", &message, &more);
        alice.send(&text);
        let answer = alice.expect_reply(200, &message);
        let wanted = if number > 0 { "5" } else { "4" };
        assert_eq!(header(&answer, "X-Done"), Some(wanted), "message {number}: {answer}");
        let info = bob.expect("INFO");
        assert!(info.ends_with(&format!("for m{number}")), "{info}");
        bob.reply(&info, "200 OK");
    }
    let listed = house.mi_json(&["dlg_list_ctx"]);
    let context = &listed["Dialogs"][0]["context"];
    assert_eq!(context["profiles"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(context["profiles"][0]["group"], "m5");
    assert_eq!(context["values"].as_array().unwrap().len(), 6, "{listed}");
    let size = house.mi_json(&["profile_get_size", "group"]);
    assert!(size.to_string().contains('1'), "{size}");
    alice.in_dialog("BYE", &call, &done);
    let bye = bob.expect("BYE");
    bob.reply(&bye, "200 OK");
    house.expect_log("ended with set set");
}

#[test]
fn a_2xx_that_comes_again_to_an_invite_of_ours_is_acknowledged_again() {
    let house = Setup::new(&[PROXY, OPEN_REGISTER, CALL])
        .params("loadmodule \"dialog.so\"\nmodparam(\"dialog\", \"profiles_with_value\", \"caller\")")
        .start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (call, _) = answered(&mut alice, &mut bob);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| house.mi_json(&["dialog:send_sequential", &call.id, "callee", "INVITE"]));
        let invite = bob.expect("INVITE");
        bob.reply(&invite, "200 OK");
        let first = bob.expect("ACK");
        assert_eq!(asked.join().unwrap()["Code"], 200);
        // Its ACK was lost.
        for _ in 0..2 {
            bob.reply(&invite, "200 OK");
            let again = bob.expect("ACK");
            assert_eq!((cseq(&again), header(&again, "To")), (cseq(&first), header(&first, "To")));
        }
    });
    assert!(bob.peer.is_quiet(Duration::from_millis(200)));
}

const PRACK: &str = r#"
route[call] {
    create_dialog("auto-prack");
    record_route();
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
"#;

fn pracking(more: &str) -> (House, Ua, Ua) {
    let house = Setup::new(&[PROXY, OPEN_REGISTER, PRACK])
        .params(&format!("loadmodule \"dialog.so\"\n{more}"))
        .start();
    let alice = Ua::new("alice", house.addr);
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    (house, alice, bob)
}

#[test]
fn reliable_provisional_replies_are_acknowledged_for_the_caller() {
    let (_house, mut alice, mut bob) = pracking("");
    let (call, _) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "180 Ringing");
    alice.expect_reply(180, &call);
    assert!(bob.peer.is_quiet(Duration::from_millis(100)), "a reply without RSeq is not acknowledged");
    bob.reply(&asked, "183 Session Progress\r\nRequire: 100rel\r\nRSeq: 776655");
    alice.expect_reply(183, &call);
    let prack = bob.expect("PRACK");
    assert_eq!(header(&prack, "RAck"), Some(&*format!("776655 {} INVITE", cseq(&asked))));
    assert_eq!(cseq(&prack), cseq(&asked) + 1);
    assert_eq!(header(&prack, "From"), header(&asked, "From"));
    assert!(header(&prack, "To").unwrap().contains(";tag=tbob"), "{prack}");
    // The reply comes again before the PRACK was seen.
    bob.reply(&asked, "183 Session Progress\r\nRequire: 100rel\r\nRSeq: 776655");
    bob.reply(&prack, "200 OK");
    bob.reply(&asked, "180 Ringing\r\nRequire: 100rel\r\nRSeq: 776656");
    let second = bob.expect("PRACK");
    assert_eq!(header(&second, "RAck"), Some(&*format!("776656 {} INVITE", cseq(&asked))));
    bob.reply(&second, "200 OK");
    bob.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    assert_eq!(cseq(&bob.expect("ACK")), cseq(&asked));
    // What the caller sends later is numbered above our requests.
    alice.in_dialog("BYE", &call, &done);
    let bye = bob.expect("BYE");
    assert!(cseq(&bye) > cseq(&second), "{bye}");
}

#[test]
fn a_prack_that_fails_ends_the_call_when_that_is_wanted() {
    let lines = "modparam(\"dialog\", \"auto_prack_hangup_on_failure\", 1)\n\
                 modparam(\"dialog\", \"auto_prack_fr_timeout\", 1)";
    let (_house, mut alice, mut bob) = pracking(lines);
    for answer in [true, false] {
        let (call, invite) = alice.invite("bob", "");
        let asked = bob.expect("INVITE");
        bob.reply(&asked, "183 Session Progress\r\nRequire: 100rel\r\nRSeq: 1");
        let prack = bob.expect("PRACK");
        if answer {
            bob.reply(&prack, "481 Call/Transaction Does Not Exist");
        }
        let failed = alice.expect_reply(502, &call);
        alice.ack_failure(&invite, &failed);
        let cancel = bob.expect("CANCEL");
        bob.reply(&cancel, "200 OK");
        bob.reply(&asked, "487 Request Terminated");
        bob.expect("ACK");
    }
}

#[test]
fn keys_come_by_kpml_from_a_phone_that_was_asked() {
    const SCRIPT: &str = r#"
route[call] {
    create_dialog();
    dlg_on_answer("answered");
    record_route();
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
route[answered] {
    if (dtmf_subscribe("callee")) xlog("L_NOTICE", "the callee tells of keys\n");
    if (!dtmf_subscribe("caller")) xlog("L_NOTICE", "the caller does not\n");
}
event_route[E_DTMF] { xlog("L_NOTICE", "key $param(key) of $param(digits) by $param(source)\n"); }
"#;
    let house = Setup::new(&[PROXY, OPEN_REGISTER, SCRIPT])
        .params("loadmodule \"dialog.so\"\nloadmodule \"dtmf.so\"")
        .start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (call, _) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    let subscribe = bob.expect("SUBSCRIBE");
    assert_eq!(header(&subscribe, "Event"), Some("kpml"));
    assert_eq!(header(&subscribe, "Content-Type"), Some("application/kpml-request+xml"));
    assert!(header(&subscribe, "Contact").is_some() && subscribe.contains("<regex>x</regex>"), "{subscribe}");
    bob.reply(&subscribe, "200 OK\r\nExpires: 7200");
    house.expect_log("the callee tells of keys");
    let refused = alice.expect("SUBSCRIBE");
    alice.reply(&refused, "489 Bad Event");
    house.expect_log("the caller does not");
    let notify = |cseq: u32, state: &str, body: &str| {
        let tagged = |name: &str| header(&subscribe, name).unwrap().to_owned();
        format!(
            "NOTIFY {} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKn{cseq};rport\r\nMax-Forwards: 70\r\n\
             From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} NOTIFY\r\nEvent: kpml\r\n\
             Subscription-State: {state}\r\nContent-Type: application/kpml-response+xml\r\nContent-Length: {}\r\n\r\n{body}",
            alice_contact(&subscribe),
            tagged("To"),
            tagged("From"),
            call.id,
            body.len()
        )
    };
    let key = |key: &str| {
        format!(
            "<?xml version=\"1.0\"?><kpml-response version=\"1.0\" code=\"200\" text=\"OK\" digits=\"{key}\"/>"
        )
    };
    // The first says that it is subscribed; one is sent twice, since its answer was lost.
    for (cseq, state, body) in [
        (1, "active;expires=7200", String::new()),
        (2, "active;expires=7100", key("4")),
        (2, "active;expires=7100", key("4")),
        (3, "active;expires=7000", key("#")),
        (4, "active", "<kpml-response code=\"423\" text=\"Timer Expired\"/>".to_owned()),
    ] {
        bob.send(notify(cseq, state, &body));
        bob.peer.expect("SIP/2.0 200");
    }
    house.expect_log_times("key 4 of 4 by kpml", 1);
    house.expect_log_times("key # of 4# by kpml", 1);
    assert_eq!(house.mi_json(&["get_statistics", "dtmf:keys"])["dtmf:keys"], 2);
    // After the call nobody is asked any more.
    alice.in_dialog("BYE", &call, &done);
    let bye = bob.expect("BYE");
    bob.reply(&bye, "200 OK");
    alice.expect_reply(200, &call);
    bob.send(notify(5, "active", &key("1")));
    bob.peer.expect("SIP/2.0 404");
}

/// The Contact URI of a request.
fn alice_contact(request: &str) -> String {
    header(request, "Contact").unwrap().trim_matches(['<', '>']).to_owned()
}

#[test]
fn management_ends_a_call_that_still_rings_by_cancelling_it() {
    let (house, mut alice, mut bob) = house("");
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "180 Ringing");
    alice.expect_reply(180, &call);
    let listed = house.mi_json(&["dialog:list"]);
    assert_eq!(
        (&listed["Dialogs"][0]["state"], &listed["Dialogs"][0]["datestart"]),
        (&2.into(), &Value::Null)
    );
    assert!(house.mi(&["dialog:end_dlg", &call.id]).0);
    is_cancelled(&mut alice, &mut bob, &call, &invite, &asked);
    house.expect_log(&format!("state 2 to 5 of {}", call.id));
    let (good, _, why) = house.mi(&["dialog:end_dlg", &call.id]);
    assert!(!good && why.contains("not found"), "{why}");
}

#[test]
fn both_sockets_of_a_call_are_listed_and_an_ack_alone_answers_nothing() {
    let (house, mut alice, mut bob) = house("");
    let (call, _) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "180 Ringing");
    let ringing = alice.expect_reply(180, &call);
    alice.in_dialog("ACK", &call, &ringing);
    bob.expect("ACK");
    let ringing = house.mi_json(&["dialog:list"]);
    assert_eq!(ringing["Dialogs"][0]["state"], 2, "{ringing}");
    bob.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    bob.expect("ACK");
    let listed = house.mi_json(&["dialog:list"]);
    let dialog = &listed["Dialogs"][0];
    let socket = format!("udp:{}", house.addr);
    assert_eq!((&dialog["state"], &dialog["caller_bind_addr"]), (&4.into(), &socket.clone().into()));
    assert_eq!(dialog["CALLEES"][0]["callee_bind_addr"], socket, "{dialog}");
    assert!(dialog["datestart"].as_str().is_some_and(|d| d.len() == 19), "{dialog}");
}
