//! The drivers against the real programs they drive.

use std::path::Path;
use std::time::{Duration, Instant};

use switchroom_testkit::peer::{header, response};
use switchroom_testkit::{Peer, Phone, Server, Sipp, free_port};

const OPTIONS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<scenario name="options">
  <send retrans="500"><![CDATA[
    OPTIONS sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    From: <sip:a@[local_ip]>;tag=[call_number]
    To: <sip:b@[remote_ip]>
    Call-ID: [call_id]
    CSeq: 1 OPTIONS
    Max-Forwards: 70
    Content-Length: 0

  ]]></send>
  <recv response="200"/>
</scenario>"#;

fn installed(program: &str) -> bool {
    let there = ["/usr/bin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
    if !there {
        eprintln!("{program} is not installed; `cargo xtask test` installs it");
    }
    there
}

#[test]
fn sipp_says_whether_the_scenario_went_well() {
    if !installed("sipp") {
        return;
    }
    for (status, good) in [("200 OK", true), ("404 Not Found", false)] {
        let mut server = Peer::udp();
        let playing = Sipp::new(OPTIONS).target(server.addr()).timeout(Duration::from_secs(10)).start();
        let request = server.expect("OPTIONS");
        let from = server.last_sender().unwrap();
        server.send(from, response(&request, status, "t", ""));
        let outcome = playing.finish();
        assert_eq!(outcome.success(), good, "{outcome:?}");
        assert!(outcome.messages.contains(status), "{}", outcome.messages);
        assert_eq!(outcome.errors.is_empty(), good);
    }
}

#[test]
fn two_phones_call_each_other_and_hear() {
    if !installed("baresip") {
        return;
    }
    let nobody = "127.0.0.1:9".parse().unwrap();
    let mut bob = Phone::builder("bob", "x", nobody).unregistered().start();
    let mut alice = Phone::builder("alice", "x", nobody).unregistered().start();
    alice.dial(&format!("sip:bob@{}", bob.addr()));
    bob.expect_event("CALL_INCOMING");
    bob.accept();
    alice.expect_sound();
    bob.expect_sound();
    alice.hang_up();
    bob.expect_event("CALL_CLOSED");
}

#[test]
fn a_phone_registers_with_its_password() {
    if !installed("baresip") {
        return;
    }
    let mut registrar = Peer::udp();
    let phone = Phone::builder("carol", "secret", registrar.addr()).start();
    let request = registrar.expect("REGISTER");
    let from = registrar.last_sender().unwrap();
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n";
    registrar.send(from, response(&request, "401 Unauthorized", "t", challenge));
    let request = registrar.wait_for(Duration::from_secs(5), |m| m.contains("\r\nAuthorization:")).unwrap();
    assert!(header(&request, "Authorization").unwrap().contains("username=\"carol\""));
    let contact = format!("Contact: {};expires=60\r\n", header(&request, "Contact").unwrap());
    registrar.send(from, response(&request, "200 OK", "t", &contact));
    assert!(phone.is_registered(Duration::from_secs(5)), "{:?}", phone.log().lines());
}

#[test]
fn a_program_is_started_in_its_folder_and_killed_and_started_again() {
    // A shell stands for the server: it is told where it is, says that it is ready and stays.
    let script = "cat test.cfg; echo start >> starts; echo Listening; exec sleep 60";
    let mut server = Server::builder("/bin/sh").config("dir is {dir}\n").args(&["-c", script]).start();
    let dir = server.dir().to_owned();
    let told = server.log().wait_for(Duration::from_secs(5), |line| line.starts_with("dir is")).unwrap();
    assert_eq!(told, format!("dir is {}", dir.display()));
    let first = server.pid();
    server.kill();
    assert_eq!(server.pid(), 0);
    server.start_again(Duration::from_secs(5));
    assert_ne!(server.pid(), first);
    assert_eq!(std::fs::read_to_string(dir.join("starts")).unwrap().lines().count(), 2);
    let (status, output, _) = server.command(&["-c", "pwd"]);
    assert!(status.success());
    assert_eq!(Path::new(output.trim()).canonicalize().unwrap(), dir.canonicalize().unwrap());
    let started = Instant::now();
    assert!(server.stop(Duration::from_secs(5)).is_some());
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(server);
    assert!(!dir.exists());
    assert_ne!(free_port(), 0);
}
