//! Scripts in, outcome out: NAT corrections, destination sets and changes of From, through the whole house.

mod support;

use support::House;
use switchroom_kernel::ports::store::{SqlValue, StoreError};

const MODULES: &str = r#"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "signaling.so"
loadmodule "sipmsgops.so"
"#;

fn no_database(_: &str, _: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    Err(StoreError::Unreachable("test".into()))
}

fn invite(number: u32, more: &str, body: &str) -> String {
    format!(
        "INVITE sip:bob@127.0.0.1:5090 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKr{number}\r\n\
         From: \"Alice\" <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: r{number}\r\n\
         CSeq: 1 INVITE\r\nMax-Forwards: 70\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The value of a header of a sent message.
fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_phone_behind_nat_is_seen_and_its_contact_and_sdp_corrected() {
    let script = format!(
        "{MODULES}{}",
        r#"
loadmodule "nathelper.so"
modparam("nathelper", "received_avp", "$avp(rcv)")
route {
    if (!nat_uac_test("private-contact,private-sdp") || nat_uac_test(16)) {
        send_reply(500, "Test");
        exit;
    }
    fix_nated_register();
    append_hf("X-Received: $avp(rcv)\r\n");
    fix_nated_contact(";x=1", "preserve-uri");
    fix_nated_sdp("rewrite-media-ip", , "\r\na=extra");
    t_relay();
}
"#
    );
    let house = House::start(&script, no_database);
    let sdp =
        "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let more = "Contact: <sip:alice@10.0.0.1:5062>\r\nContent-Type: application/sdp\r\n";
    let sent = house.one(&invite(1, more, sdp));
    assert_eq!(
        header(&sent, "Contact"),
        Some("<sip:alice@127.0.0.1:5070;x=1;org=MTAuMC4wLjE6NTA2Mg>"),
        "{sent}"
    );
    assert_eq!(header(&sent, "X-Received"), Some("sip:127.0.0.1:5070"));
    assert!(
        sent.contains("\r\nc=IN IP4 127.0.0.1\r\n") && sent.ends_with("a=oldcip:10.0.0.1\r\na=extra\r\n"),
        "{sent}"
    );
    house.pass(1);
    let public = "Contact: <sip:alice@192.0.2.1>\r\n";
    assert!(house.one(&invite(2, public, "")).starts_with("SIP/2.0 500"));
}
