//! `switchroom demo --exit`, `switchroom init` and `switchroom run` without a file: what a newcomer tries first.

use std::process::Command;
use std::time::Duration;

use switchroom_testkit::{Phone, Server, free_port};

use crate::support::{PROGRAM, program};

#[test]
fn the_demo_shows_a_call_its_accounting_and_the_statistics_and_ends() {
    let listen = format!("udp:127.0.0.1:{}", free_port());
    let run = Command::new(PROGRAM).args(["demo", "--exit", "--listen", &listen]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}{err}");
    // In this order: both phones are asked for a password, the call rings, is answered and ended.
    let mut rest = &*out;
    for step in
        ["REGISTER", "401", "REGISTER", "200", "INVITE", "407", "INVITE", "180", "200", "ACK", "BYE", "200"]
    {
        let at = rest.find(step).unwrap_or_else(|| panic!("no {step} in its place:\n{out}{err}"));
        rest = &rest[at + step.len()..];
    }
    assert!(rest.contains("INVITE") && rest.contains("BYE"), "no accounting rows after the ladder:\n{out}");
    // The next thing to try: it runs without any file and says how to go on.
    let mut server = Server::builder(PROGRAM)
        .args(&["run", "--data-dir", "{dir}/data", "--listen", &listen])
        .ready("ready")
        .start();
    let log = server.log();
    assert!(
        log.wait_for(Duration::from_secs(5), |l| l.contains("switchroom user add")).is_some(),
        "{:?}",
        log.lines()
    );
    assert!(server.dir().join("data/switchroom.db").exists());
    assert!(server.stop(Duration::from_secs(8)).is_some_and(|s| s.success()));
}

#[test]
fn the_built_in_script_serves_two_phones_and_writes_their_accounting() {
    let (port, mi) = (free_port(), free_port());
    let builder = Server::builder(PROGRAM);
    let dir = builder.dir().to_owned();
    let file = dir.join("own.cfg");
    let data = dir.join("data").display().to_string();
    program(&["init", "--data-dir", &data, &file.display().to_string()]);
    let script = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, script.replace("8888", &mi.to_string())).unwrap();
    let listen = format!("udp:127.0.0.1:{port}");
    let mut server = builder.args(&["run", "-f", "own.cfg", "--listen", &listen]).ready("ready").start();
    let url = format!("sqlite://{}/data/switchroom.db", dir.display());
    for user in ["alice", "bob"] {
        program(&["user", "--url", &url, "add", &format!("{user}@127.0.0.1"), "secret"]);
    }
    let addr = format!("127.0.0.1:{port}").parse().unwrap();
    let mut alice = Phone::builder("alice", "secret", addr).domain("127.0.0.1").start();
    let mut bob = Phone::builder("bob", "secret", addr).domain("127.0.0.1").auto_answer().start();
    assert!(alice.is_registered(Duration::from_secs(10)), "{:?}", alice.log().lines());
    assert!(bob.is_registered(Duration::from_secs(10)), "{:?}", bob.log().lines());
    alice.dial("sip:bob@127.0.0.1");
    alice.expect_sound();
    bob.expect_sound();
    alice.hang_up();
    bob.expect_event("CALL_CLOSED");
    assert!(server.stop(Duration::from_secs(15)).is_some_and(|s| s.success()));
    let file = dir.join("data/switchroom.db");
    let rows = crate::support::sqlite(&file, "select method, sip_code from acc order by id");
    assert_eq!(rows, "INVITE|200\nBYE|200");
}

#[test]
fn the_script_that_init_writes_is_good() {
    let dir = std::env::temp_dir().join(crate::ua::unique("switchroom-init-"));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("switchroom.cfg").display().to_string();
    program(&["init", "--data-dir", &dir.join("data").display().to_string(), &file]);
    program(&["check", &file]);
    let again = Command::new(PROGRAM).args(["init", &file]).output().unwrap();
    assert!(!again.status.success(), "a script that is there is not overwritten");
    std::fs::remove_dir_all(&dir).unwrap();
}
