//! Changing messages: every change leaves the rest byte for byte, and Content-Length is right.

use bytes::Bytes;
use switchroom_wire::sip::{Edits, HeaderId, Message, reply, request, serialise};

const INVITE: &str = "INVITE sip:bob@b.example SIP/2.0\r\nVia: SIP/2.0/UDP p1;branch=z9hG4bK1;rport ,\r\n SIP/2.0/UDP p2;branch=z9hG4bK2\r\n\
v: SIP/2.0/TCP p3\r\nRoute: <sip:r1;lr>, <sip:r2;lr> ,<sip:r3;lr>\r\nroute: <sip:r4;lr>\r\nFrom:  <sip:a@h>;tag=1\r\n\
To: <sip:b@h>\r\nCall-ID: c@h\r\nCSeq: 7 INVITE\r\nContent-Type: text/plain\r\nContent-Length:    5\r\n\r\nhello";

fn invite() -> Message {
    Message::parse(Bytes::from_static(INVITE.as_bytes())).unwrap()
}

fn print(msg: &Message, layers: &[&Edits]) -> String {
    let mut out = Vec::new();
    serialise(msg, layers, &mut out);
    String::from_utf8(out).unwrap()
}

fn b(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn untouched_message_is_identical() {
    assert_eq!(print(&invite(), &[]), INVITE);
    assert_eq!(print(&invite(), &[&Edits::new()]), INVITE);
}

#[test]
fn request_leaves_with_its_via_record_route_and_new_uri() {
    let m = invite();
    let (mut e, mut branch) = (Edits::new(), Edits::new());
    e.push_record_route(&m, b("Record-Route: <sip:in;lr>\r\n"));
    e.push_record_route(&m, b("Record-Route: <sip:out;lr>\r\n"));
    e.append_header(b("X-A: 1"));
    branch.set_ruri(b("sip:bob@192.0.2.4"));
    branch.push_via(&m, b("Via: SIP/2.0/UDP us;branch=z9hG4bKus\r\n"));
    branch.append_header(b("X-B: 2\r\n"));
    let got = print(&m, &[&e, &branch]);
    let expect = INVITE
        .replace("sip:bob@b.example", "sip:bob@192.0.2.4")
        .replace("Via:", "Via: SIP/2.0/UDP us;branch=z9hG4bKus\r\nVia:")
        .replace(
            "Route: <sip:r1",
            "Record-Route: <sip:out;lr>\r\nRecord-Route: <sip:in;lr>\r\nRoute: <sip:r1",
        )
        .replace("    5\r\n", "    5\r\nX-A: 1\r\nX-B: 2\r\n");
    assert_eq!(got, expect);
}

#[test]
fn values_leave_a_comma_list_without_leftovers() {
    let m = invite();
    let at = m.header(HeaderId::Route).unwrap().index;
    let routes = |gone: &[usize]| {
        let mut e = Edits::new();
        for g in gone {
            e.remove_value(&m, at, *g);
        }
        let text = print(&m, &[&e]);
        let again = Message::parse(Bytes::from(text.clone())).unwrap();
        let uris: Vec<_> =
            again.routes().map(|r| String::from_utf8_lossy(r.unwrap().uri).into_owned()).collect();
        assert!(!text.contains(",\r\nroute") && !text.contains("Route: ,"), "{text}");
        assert_eq!(text.contains("Route: "), gone.len() < 3);
        uris.join(" ").replace("sip:", "").replace(";lr", "")
    };
    assert_eq!(routes(&[0]), "r2 r3 r4");
    assert_eq!(routes(&[1]), "r1 r3 r4");
    assert_eq!(routes(&[2]), "r1 r2 r4");
    assert_eq!(routes(&[1, 2]), "r1 r4");
    assert_eq!(routes(&[2, 1]), "r1 r4");
    assert_eq!(routes(&[0, 2]), "r2 r4");
    assert_eq!(routes(&[2, 0, 1]), "r4");
    assert_eq!(routes(&[9]), "r1 r2 r3 r4");
}

#[test]
fn pops_go_down_the_values_over_all_headers() {
    let m = invite();
    let mut e = Edits::new();
    let popped: Vec<_> = std::iter::from_fn(|| e.pop_route(&m)).collect();
    assert_eq!(popped, [&b"<sip:r1;lr>"[..], b"<sip:r2;lr>", b"<sip:r3;lr>", b"<sip:r4;lr>"]);
    assert!(!print(&m, &[&e]).to_lowercase().contains("route"));
    let mut e = Edits::new();
    assert!(e.pop_via(&m));
    assert!(
        print(&m, &[&e]).contains("SIP/2.0\r\nVia: SIP/2.0/UDP p2;branch=z9hG4bK2\r\nv: SIP/2.0/TCP p3\r\n")
    );
    assert!(e.pop_via(&m) && e.pop_via(&m) && !e.pop_via(&m));
    assert!(!print(&m, &[&e]).contains("SIP/2.0/"));
}

#[test]
fn a_via_pushed_after_a_pop_stands_on_top() {
    let m = invite();
    let mut e = Edits::new();
    e.pop_via(&m);
    e.pop_via(&m);
    e.push_via(&m, b("Via: SIP/2.0/UDP us"));
    assert!(
        print(&m, &[&e])
            .starts_with("INVITE sip:bob@b.example SIP/2.0\r\nVia: SIP/2.0/UDP us\r\nv: SIP/2.0/TCP p3")
    );
}

#[test]
fn body_changes_correct_content_length_and_type() {
    let m = invite();
    let mut e = Edits::new();
    e.set_body(Some(b("application/sdp")), b("v=0 longer"));
    let got = print(&m, &[&e]);
    assert!(got.contains("Content-Type: application/sdp\r\nContent-Length:    10\r\n\r\nv=0 longer"));
    let mut e = Edits::new();
    e.remove_body(&m);
    let got = print(&m, &[&e]);
    assert!(got.ends_with("Content-Length:    0\r\n\r\n") && !got.contains("Content-Type"));
    let mut e = Edits::new();
    e.replace_part(&m, &m.body()[1..2], b("EEE"));
    let start = m.raw().len();
    e.replace(start..start, b("!"));
    assert!(print(&m, &[&e]).ends_with("Content-Length:    8\r\n\r\nhEEEllo!"));
    let bare = Message::parse(Bytes::from(INVITE.replace("Content-Length:    5\r\n", ""))).unwrap();
    let mut e = Edits::new();
    e.append_header(b("X: y\r\n"));
    assert!(print(&bare, &[&e]).ends_with("X: y\r\nContent-Length: 5\r\n\r\nhello"));
}

#[test]
fn the_later_layer_wins_and_overlaps_do_not_break() {
    let m = invite();
    let (mut low, mut high) = (Edits::new(), Edits::new());
    let from = m.header(HeaderId::From).unwrap();
    low.replace_part(&m, from.value, b("<sip:low>"));
    high.replace_part(&m, from.value, b("<sip:high>"));
    low.set_ruri(b("sip:low"));
    high.set_ruri(b("sip:high"));
    let got = print(&m, &[&low, &high]);
    assert!(got.contains("From:  <sip:high>\r\n") && got.starts_with("INVITE sip:high SIP/2.0\r\n"));
    low.remove_header(&m, from.index);
    let got = print(&m, &[&low, &high]);
    assert!(!got.contains("From") && got.contains("route: <sip:r4;lr>\r\nTo:"));
}

#[test]
fn inserted_headers_stand_where_they_were_put() {
    let m = invite();
    let to = m.header(HeaderId::To).unwrap().index;
    let mut e = Edits::new();
    e.insert_before(&m, to, b("Before: 1"));
    e.insert_after(&m, to, b("After: 1"));
    e.insert_after(&m, to, b("After: 2"));
    e.prepend_first(&m, b("First: 1"));
    e.prepend_header(&m, HeaderId::Path, b("Path: <sip:p>"));
    let got = print(&m, &[&e]);
    assert!(got.contains("Before: 1\r\nTo: <sip:b@h>\r\nAfter: 1\r\nAfter: 2\r\nCall-ID"));
    assert!(got.contains("SIP/2.0\r\nFirst: 1\r\nVia:"));
    assert!(got.contains("v: SIP/2.0/TCP p3\r\nPath: <sip:p>\r\nRoute:"));
}

#[test]
fn topmost_via_is_stamped_with_received_and_rport() {
    let m = invite();
    let stamp = |ip: &str, m: &Message, force| {
        let mut e = Edits::new();
        e.stamp_via(m, ip.parse().unwrap(), 6060, force);
        print(m, &[&e])
    };
    assert!(
        stamp("192.0.2.9", &m, false).contains("p1;branch=z9hG4bK1;received=192.0.2.9;rport=6060 ,\r\n SIP")
    );
    let plain = Message::parse(Bytes::from(
        INVITE.replace("p1;branch=z9hG4bK1;rport", "192.0.2.9;received=1.1.1.1;branch=z9hG4bK1"),
    ))
    .unwrap();
    assert!(
        stamp("192.0.2.9", &plain, false)
            .contains("Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1;received=192.0.2.9 ,")
    );
    let same =
        Message::parse(Bytes::from(INVITE.replace("p1;branch=z9hG4bK1;rport", "192.0.2.9;branch=z9hG4bK1")))
            .unwrap();
    assert_eq!(stamp("192.0.2.9", &same, false), String::from_utf8_lossy(same.raw()));
    assert!(stamp("2001:db8::1", &same, true).contains(";received=2001:db8::1;rport=6060"));
    // A script may ask again, with force_rport().
    for m in [&m, &plain, &same] {
        let mut twice = Edits::new();
        twice.stamp_via(m, "192.0.2.9".parse().unwrap(), 6060, false);
        twice.stamp_via(m, "192.0.2.9".parse().unwrap(), 6060, true);
        assert_eq!(print(m, &[&twice]), stamp("192.0.2.9", m, true));
    }
}

#[test]
fn replies_carry_what_rfc3261_8_2_6_asks() {
    let raw = INVITE.replace("Call-ID", "Record-Route: <sip:rr;lr>\r\nTimestamp: 54\r\nCall-ID");
    let m = Message::parse(Bytes::from(raw)).unwrap();
    let build = |r: reply::Reply<'_>| {
        let mut out = Vec::new();
        reply::build(&m, &r, &mut out);
        (Message::parse(Bytes::from(out.clone())).unwrap(), String::from_utf8(out).unwrap())
    };
    let source = Some(("192.0.2.9".parse().unwrap(), 6060));
    let (r, text) = build(reply::Reply {
        code: 100,
        reason: b"Trying",
        to_tag: Some(b"x"),
        source,
        ..Default::default()
    });
    assert_eq!((r.status(), r.to().unwrap().tag()), (100, None));
    assert!(text.contains("Timestamp: 54\r\n") && !text.contains("Record-Route"));
    assert!(text.contains("Via: SIP/2.0/UDP p1;branch=z9hG4bK1;received=192.0.2.9;rport=6060, SIP/2.0/UDP p2;branch=z9hG4bK2\r\n"));
    assert_eq!(r.vias().count(), 3);
    let (r, text) = build(reply::Reply {
        code: 200,
        reason: b"OK",
        to_tag: Some(b"x"),
        headers: b"Contact: <sip:us>\r\n",
        body: Some((b"text/plain", b"hi")),
        ..Default::default()
    });
    assert_eq!((r.to().unwrap().tag(), r.body()), (Some(&b"x"[..]), &b"hi"[..]));
    assert!(text.contains("Record-Route: <sip:rr;lr>\r\n") && !text.contains("Timestamp"));
    let (_, text) = build(reply::Reply { code: 486, reason: b"Busy Here", ..Default::default() });
    assert!(!text.contains("Record-Route"));
}

#[test]
fn a_400_can_be_built_from_a_broken_request() {
    let raw = INVITE.replace("CSeq: 7 INVITE", "CSeq: 7 BYE");
    let Err(switchroom_wire::sip::ParseError::Reject { code, reason, message, .. }) =
        Message::parse(Bytes::from(raw))
    else {
        panic!("not refused")
    };
    let mut out = Vec::new();
    reply::build(&message, &reply::Reply { code, reason: reason.as_bytes(), ..Default::default() }, &mut out);
    assert!(out.starts_with(b"SIP/2.0 400 Bad Request - CSeq Method Mismatch\r\nVia: SIP/2.0/UDP p1"));
}

#[test]
fn cancel_and_ack_follow_the_invite_as_sent() {
    let m = invite();
    let mut out = Vec::new();
    request::cancel_for(&m, b"Reason: SIP;cause=200\r\n", &mut out);
    let cancel = Message::parse(Bytes::from(out)).unwrap();
    assert_eq!(cancel.ruri_bytes(), m.ruri_bytes());
    assert_eq!(cancel.vias().count(), 1);
    assert_eq!(cancel.via().unwrap().branch, m.via().unwrap().branch);
    assert_eq!(cancel.routes().count(), 4);
    assert_eq!(cancel.cseq().unwrap().0, 7);
    let raw = "SIP/2.0 486 Busy\r\nVia: SIP/2.0/UDP p1;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
               To: <sip:b@h>;tag=9\r\nCall-ID: c@h\r\nCSeq: 7 INVITE\r\n\r\n";
    let busy = Message::parse(Bytes::from(raw)).unwrap();
    let mut out = Vec::new();
    request::ack_for(&m, &busy, &mut out);
    let ack = Message::parse(Bytes::from(out)).unwrap();
    assert_eq!((ack.method_name(), ack.to().unwrap().tag()), (&b"ACK"[..], Some(&b"9"[..])));
}

#[test]
fn local_requests_are_whole() {
    let mut out = Vec::new();
    request::Builder {
        method: b"MESSAGE",
        ruri: b"sip:b@h",
        via: Some(b"SIP/2.0/UDP us;branch=z9hG4bKx"),
        from: b"<sip:a@h>;tag=1",
        to: b"<sip:b@h>",
        call_id: b"c",
        cseq: 1,
        max_forwards: 70,
        headers: b"Subject: s\r\n",
        body: Some((b"text/plain", b"hi")),
    }
    .write(&mut out);
    let m = Message::parse(Bytes::from(out)).unwrap().check().unwrap();
    assert_eq!((m.body(), m.max_forwards()), (&b"hi"[..], Ok(Some(70))));
}
