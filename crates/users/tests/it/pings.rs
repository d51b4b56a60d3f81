//! Pings over virtual time: evenly spread, each contact once in an interval.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use switchroom_kernel::Module;
use switchroom_kernel::load::Source;
use switchroom_kernel::ports::net::Proto;
use switchroom_rehearsal::{Rehearsal, Setup};

const PHONES: u16 = 2000;
const INTERVAL: u64 = 20;

fn stage(more: &str) -> Rehearsal {
    let catalogue: Vec<&'static Module> = [switchroom_calls::MODULES, switchroom_users::MODULES].concat();
    let script = format!(
        r#"
socket=udp:192.0.2.1:5060
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "signaling.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "nathelper.so"
modparam("nathelper", "natping_interval", {INTERVAL})
modparam("nathelper", "sipping_from", "sip:p@example.org")
modparam("nathelper", "sipping_bflag", "SIP")
{more}
route {{ if ($rU == NULL) setbflag("SIP"); save("location"); }}
"#
    );
    let setup = Setup {
        source: Source::Text("test.cfg".into(), script.as_bytes().into()),
        catalogue: &catalogue,
        always: &["core"],
        stores: Vec::new(),
        arguments: Vec::new(),
        unix: 1_700_000_000,
    };
    Rehearsal::open(setup).unwrap_or_else(|e| panic!("{e}"))
}

fn register(stage: &Rehearsal, number: u16, expires: u32) {
    let peer = SocketAddr::from(([198, 51, 100, 7], 10_000 + number));
    let text = format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP {peer};branch=z9hG4bK{number}\r\n\
         From: <sip:u{number}@example.org>;tag=1\r\nTo: <sip:u{number}@example.org>\r\nCall-ID: c{number}\r\n\
         CSeq: 1 REGISTER\r\nContact: <sip:u{number}@{peer}>\r\nExpires: {expires}\r\nMax-Forwards: 70\r\n\
         Content-Length: 0\r\n\r\n"
    );
    stage.receive(peer, Proto::Udp, text);
}

#[test]
fn pings_leave_evenly_over_the_interval() {
    // Parts of the table beyond what one tick may visit, so that a round is many steps.
    let stage = stage("modparam(\"nathelper\", \"natping_partitions\", 4)");
    for number in 0..PHONES {
        register(&stage, number, 3600);
    }
    assert_eq!(stage.sent().len(), usize::from(PHONES));
    stage.advance(Duration::from_secs(INTERVAL));
    let mut pinged: HashMap<SocketAddr, usize> = HashMap::new();
    for sent in stage.sent() {
        assert!(sent.text.starts_with("OPTIONS "), "{}", sent.text);
        *pinged.entry(sent.to).or_default() += 1;
    }
    // The first round is as long as the interval, give or take one step.
    assert!(pinged.len() > usize::from(PHONES) * 98 / 100, "{}", pinged.len());
    assert!(pinged.values().all(|n| *n == 1));
    for second in 0..INTERVAL {
        stage.advance(Duration::from_secs(1));
        let (count, even) = (stage.sent().len() as f64, f64::from(PHONES) / INTERVAL as f64);
        assert!((0.5 * even..1.5 * even).contains(&count), "second {second}: {count} of {even}");
    }
    let stats = &stage.kernel.stats;
    let sent = stats.get("nathelper:pings_sent").unwrap();
    assert!((sent - 2 * i64::from(PHONES)).abs() < i64::from(PHONES) / 50, "{sent}");
    assert_eq!(stats.get("nathelper:pings_skipped"), Some(0));
}

#[test]
fn an_expired_contact_is_not_pinged() {
    let stage = stage("");
    register(&stage, 1, 60);
    stage.advance(Duration::from_secs(60));
    stage.sent();
    stage.advance(Duration::from_secs(2 * INTERVAL));
    assert!(stage.sent().is_empty());
}
