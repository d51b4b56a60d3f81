//! What tm does besides relaying: routes that wait inside it, copies, requests and replies of our own, and the programs told of
//! requests.

use std::io::Read;
use std::os::unix::net::UnixListener;

use switchroom_testkit::Peer;
use switchroom_testkit::peer::header;

use crate::support::{OPEN_CALL, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua};

#[test]
fn a_branch_route_waits_for_each_branch_and_no_retransmission_gets_through() {
    let routes = r#"
branch_route[each] {
    append_hf("X-Before: $T_branch_idx\r\n");
    usleep(60000);
    append_hf("X-After: $T_branch_idx\r\n");
}
route[call] {
    t_on_branch("each");
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
"#;
    let house = Setup::new(&[PROXY, OPEN_REGISTER, routes])
        .params("loadmodule \"cfgutils.so\"\nxlog_level=3")
        .start();
    let mut alice = Ua::new("alice", house.addr);
    let mut phones = [Ua::new("bob", house.addr), Ua::new("bob", house.addr)];
    for phone in &mut phones {
        phone.register_here("");
    }
    let (call, invite) = alice.invite("bob", "");
    alice.expect_reply(100, &call);
    alice.send(&invite);
    let mut seen = Vec::new();
    for phone in &mut phones {
        let asked = phone.expect("INVITE");
        let of = (header(&asked, "X-Before"), header(&asked, "X-After"));
        assert_eq!(of.0, of.1, "{asked}");
        seen.push(of.0.unwrap_or_default().to_owned());
        phone.reply(&asked, "486 Busy Here");
    }
    seen.sort();
    assert_eq!(seen, ["0", "1"]);
    let reply = alice.expect_reply(486, &call);
    alice.ack_failure(&invite, &reply);
}

#[test]
fn a_call_given_up_while_its_branch_route_waits_is_never_sent() {
    let routes = r#"
branch_route[slow] { usleep(400000); xlog("the branch is ready\n"); }
route[call] {
    t_on_branch("slow");
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
"#;
    let house = Setup::new(&[PROXY, OPEN_REGISTER, routes])
        .params("loadmodule \"cfgutils.so\"\nxlog_level=3")
        .start();
    let mut alice = Ua::new("alice", house.addr);
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    let (call, invite) = alice.invite("bob", "");
    alice.expect_reply(100, &call);
    alice.cancel(&invite);
    let ended = alice.expect_reply(487, &call);
    alice.ack_failure(&invite, &ended);
    house.expect_log("the branch is ready");
    let late = bob.peer.wait_for(std::time::Duration::from_millis(300), |m| m.starts_with("INVITE"));
    assert_eq!(late, None);
}

#[test]
fn a_local_route_waits_and_the_inspecting_routes_see_what_leaves() {
    let routes = r#"
local_route {
    usleep(50000);
    append_hf("X-Local: waited\r\n");
}
route[out] { xlog("leaves: $rm $ru $hdr(X-Local)\n"); }
route[answer] { xlog("answers: $rs $rr to $rm\n"); }
route[call] { t_newtran(); t_reply(410, "Gone Away"); exit; }
"#;
    let house = Setup::new(&[PROXY, OPEN_REGISTER, routes])
        .params(
            "loadmodule \"cfgutils.so\"\nxlog_level=3\n\
             modparam(\"tm\", \"local_request_route\", \"out\")\nmodparam(\"tm\", \"local_reply_route\", \"answer\")",
        )
        .start();
    let mut bob = Ua::new("bob", house.addr);
    let uri = bob.contact();
    std::thread::scope(|s| {
        let house = &house;
        let told = s.spawn(|| {
            house.mi_json(&["tm:uac_dlg", "MESSAGE", &uri, "From: <sip:a@b>\nTo: <sip:c@d>\n", &uri])
        });
        let got = bob.expect("MESSAGE");
        assert_eq!(header(&got, "X-Local"), Some("waited"), "{got}");
        bob.reply(&got, "200 OK");
        assert_eq!(told.join().expect("the command ends")["Status"], "200 OK");
    });
    house.expect_log(&format!("leaves: MESSAGE {uri} waited"));
    let mut alice = Ua::new("alice", house.addr);
    let (call, invite) = alice.invite("nobody", "");
    let reply = alice.expect_reply(410, &call);
    alice.ack_failure(&invite, &reply);
    house.expect_log("answers: 410 Gone Away to INVITE");
}

#[test]
fn a_copy_goes_elsewhere_and_its_answer_ends_here() {
    let mut mirror = Peer::udp();
    let routes = format!(
        r#"
route[register] {{
    append_hf("X-Seen: yes\r\n");
    t_replicate("sip:{}");
    save("location");
}}
"#,
        mirror.addr()
    );
    let house = Setup::new(&[PROXY, &routes, OPEN_CALL]).start();
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here("");
    let copy = mirror.expect("REGISTER");
    assert_eq!(header(&copy, "X-Seen"), Some("yes"));
    assert!(copy.starts_with("REGISTER sip:127.0.0.1 SIP/2.0"), "the Request-URI stays: {copy}");
    let again = mirror.expect("REGISTER");
    assert_eq!(again, copy, "an unanswered copy is sent again");
    mirror.send(house.addr, switchroom_testkit::peer::response(&copy, "500 Server Internal Error", "", ""));
    let other = bob.peer.wait_for(std::time::Duration::from_millis(300), |m| m.starts_with("SIP/2.0"));
    assert_eq!(other, None, "the phone hears nothing of the copy");
}

#[test]
fn a_command_answers_a_parked_call() {
    let routes = r#"
route[call] {
    t_newtran();
    t_reply(183, "Parked");
    t_wait_for_new_branches();
    xlog("parked as $T_id.\n");
    exit;
}
"#;
    let house = Setup::new(&[PROXY, OPEN_REGISTER, routes]).params("xlog_level=3").start();
    let mut alice = Ua::new("alice", house.addr);
    let (call, invite) = alice.invite("bob", "");
    alice.expect_reply(183, &call);
    let line = house.expect_log("parked as ");
    let name =
        line.split("parked as ").nth(1).and_then(|l| l.trim().strip_suffix('.')).expect("a name").to_owned();
    let (good, _, error) = house.mi(&["tm:reply", "488", "Not now", &name, "mytag", "X-Why: tested"]);
    assert!(good, "{error}");
    let reply = alice.expect_reply(488, &call);
    assert!(reply.starts_with("SIP/2.0 488 Not now"), "{reply}");
    assert_eq!(header(&reply, "X-Why"), Some("tested"));
    assert!(header(&reply, "To").is_some_and(|t| t.ends_with(";tag=mytag")), "{reply}");
    alice.ack_failure(&invite, &reply);
    let (good, _, error) = house.mi(&["tm:reply", "486", "Busy", &name, "."]);
    assert!(!good && error.contains("No such transaction"), "{error}");
    let (good, _, error) = house.mi(&["tm:reply", "486", "Busy", "nonsense", "."]);
    assert!(!good && error.contains("$T_id"), "{error}");
}

#[test]
fn programs_are_told_of_requests_by_fifo_and_socket() {
    let dir = std::env::temp_dir().join(crate::ua::unique("switchroom-export"));
    std::fs::create_dir_all(&dir).expect("a folder");
    let (fifo, socket) = (dir.join("fifo"), dir.join("socket"));
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().is_ok_and(|s| s.success()));
    let listener = UnixListener::bind(&socket).expect("a socket");
    let routes = format!(
        r#"
route[register] {{
    $avp(email) = "bob@example.com";
    t_write_req("voicemail/mail", "{fifo}");
    t_write_unix("logger", "{socket}");
    if (!t_write_req("voicemail", "{dir}/nothing")) xlog("nobody reads: $rc\n");
    send_reply(200, "OK");
}}
"#,
        fifo = fifo.display(),
        socket = socket.display(),
        dir = dir.display(),
    );
    let house = Setup::new(&[PROXY, &routes, OPEN_CALL])
        .params("xlog_level=3\nmodparam(\"tm\", \"tw_append\", \"mail:Email=$avp(email);UA=$ua;$rb\")")
        .start();
    // A reader that is there before the first message.
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).expect("the FIFO");
    let mut bob = Ua::new("bob", house.addr);
    let call = Call::new("bob", "bob");
    let text = bob.request("REGISTER", "sip:127.0.0.1", &call, "User-Agent: tester\r\n");
    bob.send(text);
    bob.peer.expect("SIP/2.0 200");
    let mut got = vec![0; 4096];
    let n = (&reader).read(&mut got).expect("lines");
    let got = String::from_utf8_lossy(&got[..n]).into_owned();
    let expected = format!(
        "action: voicemail\nmethod: REGISTER\nruri: sip:127.0.0.1\nfrom: {from}\nto: {from}\ncall-id: {id}\nfrom-tag: {tag}\n\
         to-tag: \ncseq: {cseq}\ntransaction: ",
        from = call.from,
        id = call.id,
        tag = call.tag,
        cseq = call.cseq
    );
    assert!(got.starts_with(&expected), "{got}");
    assert!(got.contains("\nEmail: bob@example.com\nUA: tester\n\n"), "{got}");
    assert!(got.ends_with("\n.\n"), "{got}");
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut told = String::new();
    stream.read_to_string(&mut told).expect("lines");
    assert!(told.starts_with("action: logger\nmethod: REGISTER\n"), "{told}");
    house.expect_log("nobody reads: -2");
    drop(std::fs::remove_dir_all(&dir));
}
