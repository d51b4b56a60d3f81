//! A caller dials digits before the call goes on, and the script routes on them.

use crate::support::House;
use switchroom_kernel::ports::store::{SqlValue, StoreError};

const SCRIPT: &str = r##"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "signaling.so"
loadmodule "sipmsgops.so"
loadmodule "event_routing.so"
loadmodule "dtmf.so"
route {
    if (is_method("INFO")) {
        append_to_reply("X-Key: $dtmf.key/$dtmf.duration\r\n");
        send_reply(200, "OK");
        exit;
    }
    t_newtran();
    t_reply(183, "Enter your code");
    $avp(code) = "callid=" + $ci;
    $avp(code) = "digits=??#";
    async(wait_for_event("E_DTMF", $avp(code), 20), code);
}
route[code] {
    if ($rc < 0) { t_reply(480, "No code"); exit; }
    $ru = "sip:" + $(avp(digits){s.substr,0,2}) + "@127.0.0.1:6000";
    t_relay();
}
"##;

fn no_database(_: &str, _: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    Err(StoreError::Unreachable("test".into()))
}

fn request(method: &str, call: &str, cseq: u32, kind: &str, body: &str) -> String {
    let to_tag = if method == "INFO" { ";tag=x" } else { "" };
    format!(
        "{method} sip:menu@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK{call}{cseq}\r\n\
         From: <sip:alice@example.org>;tag=1\r\nTo: <sip:menu@example.org>{to_tag}\r\nCall-ID: {call}\r\n\
         CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContact: <sip:alice@127.0.0.1:5070>\r\n\
         Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_caller_is_routed_by_the_digits_that_he_dials() {
    let house = House::start(SCRIPT, no_database);
    for call in ["one", "two"] {
        let sent = house.take(&request("INVITE", call, 1, "application/sdp", "v=0\r\n"));
        assert!(sent.iter().any(|m| m.starts_with("SIP/2.0 183 Enter your code")), "{sent:#?}");
    }
    let press = |call: &str, cseq, key: &str| {
        let body = format!("Signal={key}\r\nDuration=160\r\n");
        house.take(&request("INFO", call, cseq, "application/dtmf-relay", &body))
    };
    let sent = press("one", 2, "4");
    assert!(sent[0].contains("X-Key: 4/160\r\n"), "{sent:#?}");
    // The other call dials at the same time, in the other form.
    for (cseq, key) in [(2, "7"), (3, "8")] {
        house.take(&request("INFO", "two", cseq, "application/dtmf", key));
    }
    press("one", 3, "2");
    let sent = press("one", 4, "#");
    assert!(sent.iter().any(|m| m.starts_with("INVITE sip:42@127.0.0.1:6000")), "{sent:#?}");
    let sent = house.take(&request("INFO", "two", 4, "application/dtmf", "11"));
    let invites: Vec<_> = sent.iter().filter(|m| m.starts_with("INVITE")).collect();
    assert_eq!(invites.len(), 1);
    assert!(invites[0].starts_with("INVITE sip:78@127.0.0.1:6000"), "{sent:#?}");
    assert_eq!(house.stat("dtmf:keys"), 6);
}

#[test]
fn a_caller_who_dials_nothing_is_told_so() {
    let house = House::start(SCRIPT, no_database);
    house.take(&request("INVITE", "one", 1, "application/sdp", "v=0\r\n"));
    house.pass(21);
    let sent = house.settle();
    assert!(sent.iter().any(|m| m.starts_with("SIP/2.0 480 No code")), "{sent:#?}");
}

#[test]
fn an_info_without_a_key_is_counted_and_raises_nothing() {
    let house = House::start(SCRIPT, no_database);
    house.take(&request("INFO", "one", 2, "application/dtmf-relay", "Signal=zz"));
    house.take(&request("INFO", "one", 3, "text/plain", "5"));
    assert_eq!((house.stat("dtmf:keys"), house.stat("dtmf:unknown")), (0, 1));
}
