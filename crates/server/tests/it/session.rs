//! The session flows of RFC 3665 §3 as far as a proxy takes part, played by sipp on both sides.

use std::net::SocketAddr;

use switchroom_testkit::{Sipp, free_port};

use crate::support::{DIGEST_CALL, House, OPEN_CALL, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua};

/// What begins every scenario.
const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<scenario name="flow">
"#;

/// The caller's INVITE; `CSEQ` and `MORE` are replaced.
const INVITE: &str = r#"
<send retrans="500"><![CDATA[
INVITE sip:bob@127.0.0.1 SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: Alice <sip:alice@127.0.0.1>;tag=[call_number]
To: Bob <sip:bob@127.0.0.1>
Call-ID: [call_id]
CSeq: CSEQ INVITE
Contact: <sip:alice@[local_ip]:[local_port]>
MORE
Content-Type: application/sdp
Content-Length: [len]

v=0
o=alice 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 49172 RTP/AVP 0
]]></send>
"#;

/// The caller's ACK to a failure; `CSEQ` is replaced.
const ACK_FAILURE: &str = r#"
<send><![CDATA[
ACK sip:bob@127.0.0.1 SIP/2.0
[last_Via:]
Max-Forwards: 70
From: Alice <sip:alice@127.0.0.1>;tag=[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: CSEQ ACK
Content-Length: 0

]]></send>
"#;

/// The caller's request in the dialog; `METHOD` and `CSEQ` are replaced.
const IN_DIALOG: &str = r#"
<send RETRANS><![CDATA[
METHOD [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
[routes]
From: Alice <sip:alice@127.0.0.1>;tag=[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: CSEQ METHOD
Content-Length: 0

]]></send>
"#;

/// The callee's answer; `STATUS` and `MORE` are replaced.
const ANSWER: &str = r#"
<send><![CDATA[
SIP/2.0 STATUS
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:];tag=bob[call_number]
[last_Call-ID:]
[last_CSeq:]
MORE
Content-Length: 0

]]></send>
"#;

const CONTACT: &str = "Contact: <sip:bob@[local_ip]:[local_port]>";

fn invite(cseq: u32, more: &str) -> String {
    let text = INVITE.replace("CSEQ", &cseq.to_string());
    if more.is_empty() { text.replace("MORE\n", "") } else { text.replace("MORE", more) }
}

fn ack_failure(cseq: u32) -> String {
    ACK_FAILURE.replace("CSEQ", &cseq.to_string())
}

fn in_dialog(method: &str, cseq: u32) -> String {
    let retrans = if method == "ACK" { "" } else { "retrans=\"500\"" };
    IN_DIALOG.replace("METHOD", method).replace("CSEQ", &cseq.to_string()).replace("RETRANS", retrans)
}

fn answer(status: &str) -> String {
    ANSWER.replace("STATUS", status).replace("MORE", CONTACT)
}

/// A step of `recv`; `what` is its attributes.
fn recv(what: &str) -> String {
    format!("<recv {what}/>\n")
}

fn trying() -> String {
    recv("response=\"100\" optional=\"true\"")
}

fn play(steps: &[String]) -> Sipp {
    Sipp::new(&format!("{HEAD}{}</scenario>\n", steps.concat()))
}

/// The callee's side of a call that is answered and that the caller ends.
fn answers() -> Vec<String> {
    vec![
        recv("request=\"INVITE\" rrs=\"true\""),
        answer("180 Ringing"),
        answer("200 OK"),
        recv("request=\"ACK\""),
        recv("request=\"BYE\""),
        answer("200 OK").replace(";tag=bob[call_number]", ""),
    ]
}

/// The caller's side of it, from the ringing on.
fn is_answered(cseq: u32) -> Vec<String> {
    vec![
        trying(),
        recv("response=\"180\""),
        recv("response=\"200\" rrs=\"true\""),
        in_dialog("ACK", cseq),
        in_dialog("BYE", cseq + 1),
        recv("response=\"200\""),
    ]
}

fn house(routes: &[&str]) -> Setup {
    Setup::new(&[&[PROXY, OPEN_REGISTER], routes].concat())
        .params("modparam(\"tm\", \"fr_inv_timeout\", 1)\nmodparam(\"tm\", \"fr_timeout\", 2)")
}

/// Binds bob to a port that sipp will open.
fn register_bob(house: &House) -> u16 {
    let port = free_port();
    let mut bob = Ua::new("bob", house.addr);
    let done = bob.register(
        &mut Call::new("bob", "bob"),
        &format!("Contact: <sip:bob@127.0.0.1:{port}>;expires=600\r\n"),
    );
    assert!(done.starts_with("SIP/2.0 200"), "{done}");
    port
}

/// Plays both sides to their ends.
#[track_caller]
fn both(server: SocketAddr, port: u16, callee: &[String], caller: &[String]) {
    let callee = play(callee).port(port).start();
    play(caller).port(free_port()).target(server).run().assert_success();
    callee.finish().assert_success();
}

#[test]
fn a_call_through_a_proxy_that_asks_for_a_password() {
    let house = house(&[DIGEST_CALL]).user("alice", "wonderland").start();
    let port = register_bob(&house);
    let mut caller = vec![
        invite(1, ""),
        trying(),
        recv("response=\"407\" auth=\"true\""),
        ack_failure(1),
        invite(2, "[authentication username=alice password=wonderland]"),
    ];
    caller.extend(is_answered(2));
    both(house.addr, port, &answers(), &caller);
}

#[test]
fn rfc3665_3_1_a_call_through_a_proxy_that_stays_in_the_path() {
    let house = house(&[OPEN_CALL]).start();
    let port = register_bob(&house);
    let mut caller = vec![invite(1, "")];
    caller.extend(is_answered(1));
    both(house.addr, port, &answers(), &caller);
}

#[test]
fn calls_go_on_while_the_script_is_read_again_and_again() {
    const CALLS: u32 = 300;
    let house = house(&[OPEN_CALL]).start();
    let port = register_bob(&house);
    let mut caller = vec![invite(1, "")];
    caller.extend(is_answered(1));
    let callee = play(&answers()).calls(CALLS).port(port).start();
    let caller = play(&caller).calls(CALLS).args(&["-r", "100"]).port(free_port()).target(house.addr).start();
    let file = house.dir.join("test.cfg");
    let script = std::fs::read_to_string(&file).unwrap();
    for n in 0..20 {
        // Another script each time, so that none of it can be taken from the one before.
        std::fs::write(&file, format!("{script}\nroute[unused_{n}] {{ xlog(\"{n}\\n\"); }}\n")).unwrap();
        let (good, _, why) = house.mi(&["reload_routes"]);
        assert!(good, "{why}");
    }
    caller.finish().assert_success();
    callee.finish().assert_success();
}

#[test]
fn rfc3665_3_6_a_redirected_call_reaches_the_new_place_in_a_dialog_of_its_own() {
    let redirect = r#"
route[call] {
    if (!lookup("location")) { send_reply(404, "Not Found"); exit; }
    append_to_reply("Contact: <$ru>\r\n");
    send_reply(302, "Moved Temporarily");
}
"#;
    let house = house(&[redirect]).start();
    let port = register_bob(&house);
    let caller = vec![
        invite(1, ""),
        trying(),
        format!(
            "<recv response=\"302\"><action><ereg regexp=\"sip:bob@127.0.0.1:{port}\" search_in=\"hdr\" \
             header=\"Contact:\" check_it=\"true\" assign_to=\"1\"/></action></recv>\n<Reference variables=\"1\"/>\n"
        ),
        ack_failure(1),
    ];
    play(&caller).port(free_port()).target(house.addr).run().assert_success();
    // The new place is called directly; the proxy has no part in it.
    let mut caller = vec![
        invite(2, "")
            .replace("INVITE sip:bob@127.0.0.1 ", "INVITE [$0] ")
            .replace("[$0]", "sip:bob@[remote_ip]:[remote_port]"),
    ];
    caller.extend(is_answered(2).into_iter().skip(1));
    let to_bob = SocketAddr::from(([127, 0, 0, 1], port));
    both(to_bob, port, &answers(), &caller);
}

#[test]
fn rfc3665_3_8_no_answer_and_the_caller_gives_up() {
    let house = house(&[OPEN_CALL]).params("modparam(\"tm\", \"fr_inv_timeout\", 10)").start();
    let port = register_bob(&house);
    let callee = [
        recv("request=\"INVITE\""),
        answer("180 Ringing"),
        recv("request=\"CANCEL\""),
        answer("200 OK"),
        // The INVITE's CSeq and branch are those of the CANCEL but for the method.
        answer("487 Request Terminated").replace("[last_CSeq:]", "CSeq: 1 INVITE"),
        recv("request=\"ACK\""),
    ];
    let cancel = ack_failure(1)
        .replace("ACK", "CANCEL")
        .replace("[last_To:]", "To: Bob <sip:bob@127.0.0.1>")
        .replace("<send>", "<send retrans=\"500\">");
    let caller = [
        invite(1, ""),
        trying(),
        recv("response=\"180\""),
        cancel,
        recv("response=\"200\""),
        recv("response=\"487\""),
        ack_failure(1),
    ];
    both(house.addr, port, &callee, &caller);
}

#[test]
fn rfc3665_3_9_busy_and_3_11_temporarily_unavailable_are_passed_on() {
    for (status, code) in [("486 Busy Here", "486"), ("480 Temporarily Unavailable", "480")] {
        let house = house(&[OPEN_CALL]).start();
        let port = register_bob(&house);
        let callee = [recv("request=\"INVITE\""), answer(status), recv("request=\"ACK\"")];
        let caller = [invite(1, ""), trying(), recv(&format!("response=\"{code}\"")), ack_failure(1)];
        both(house.addr, port, &callee, &caller);
    }
}

#[test]
fn rfc3665_3_10_a_callee_that_never_answers_is_408() {
    let house = house(&[OPEN_CALL]).start();
    let port = register_bob(&house);
    // It rings, and then: nothing.
    let callee = [
        recv("request=\"INVITE\""),
        answer("180 Ringing"),
        recv("request=\"CANCEL\""),
        answer("200 OK"),
        answer("487 Request Terminated").replace("[last_CSeq:]", "CSeq: 1 INVITE"),
        recv("request=\"ACK\""),
    ];
    let caller =
        [invite(1, ""), trying(), recv("response=\"180\""), recv("response=\"408\""), ack_failure(1)];
    both(house.addr, port, &callee, &caller);
    // It is not even there.
    let house = self::house(&[OPEN_CALL]).start();
    register_bob(&house);
    let caller = [invite(1, ""), trying(), recv("response=\"408\""), ack_failure(1)];
    play(&caller).port(free_port()).target(house.addr).run().assert_success();
}

#[test]
fn a_hundred_calls_one_after_the_other_and_side_by_side() {
    let house = house(&[OPEN_CALL]).params("modparam(\"tm\", \"fr_inv_timeout\", 10)").start();
    let port = register_bob(&house);
    let callee = play(&answers()).port(port).calls(100).start();
    let mut caller = vec![invite(1, "")];
    caller.extend(is_answered(1));
    play(&caller)
        .port(free_port())
        .target(house.addr)
        .calls(100)
        .args(&["-r", "200", "-l", "50"])
        .run()
        .assert_success();
    callee.finish().assert_success();
}
