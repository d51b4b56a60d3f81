//! Any bytes: nothing panics, and an untouched message prints as it was read.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use switchroom_wire::sip::{
    Edits, HeaderId, Message, ParseError, frame::Framer, reply, request, serialise, uri_eq,
};
use switchroom_wire::sip::{Uri, call_id_of};

/// Text out of the pieces that steer the parser.
fn sip_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("INVITE sip:a@h SIP/2.0\r\n"),
        Just("SIP/2.0 200 OK\r\n"),
        Just("Via: SIP/2.0/UDP h;branch=z9hG4bK1"),
        Just("\r\n"),
        Just("From: "),
        Just("To: "),
        Just("<sip:a@h>"),
        Just(";tag=1"),
        Just("Call-ID: x"),
        Just("CSeq: 1 INVITE"),
        Just("\""),
        Just("\\"),
        Just("("),
        Just(")"),
        Just(","),
        Just(";"),
        Just("="),
        Just("<"),
        Just(">"),
        Just(" "),
        Just("\n"),
        Just("\r"),
        Just("["),
        Just("]"),
        Just(":"),
        Just("Route: "),
        Just("*"),
        Just("Content-Length: 3"),
        Just("l: 0"),
        Just("%4"),
        Just("?"),
        Just("@"),
        Just("sip:"),
        Just("tel:"),
        Just("9999999999"),
        Just("\u{fc}"),
        Just("Contact: "),
        Just("rport"),
        Just("\r\n "),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|p| p.concat().into_bytes())
}

fn valid() -> impl Strategy<Value = Vec<u8>> {
    (sip_like(), prop::collection::vec(any::<u8>(), 0..40), any::<bool>()).prop_map(|(noise, body, reply)| {
        let mut out = Vec::new();
        out.extend_from_slice(if reply { b"SIP/2.0 200 OK\r\n" as &[u8] } else { b"INVITE sip:a@h SIP/2.0\r\n" });
        out.extend_from_slice(b"v: SIP/2.0/UDP h;branch=z9hG4bK1 , SIP/2.0/UDP i\r\nf: <sip:a@h>;tag=1\r\nt: <sip:b@h>\r\ni: 1\r\nCSeq: 1 INVITE\r\nX: ");
        let noise: Vec<u8> = noise.into_iter().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        out.extend_from_slice(&noise);
        out.extend_from_slice(b"\r\nRoute: ");
        out.extend_from_slice(&noise);
        out.extend_from_slice(b"\r\nContent-Length: ");
        out.extend_from_slice(body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&body);
        out
    })
}

/// Calls every accessor.
fn touch(m: &Message) {
    let _ =
        (m.ruri(), m.via(), m.from(), m.to(), m.cseq(), m.max_forwards(), m.expires(), m.content_length());
    let _ = (m.call_id(), m.reason(), m.method_name(), m.start_line(), m.body(), m.content_type());
    for v in m.vias().flatten() {
        let _ = (v.has_magic_cookie(), v.params().count(), v.host_bare());
    }
    for id in [HeaderId::Contact, HeaderId::Route, HeaderId::From, HeaderId::Path] {
        for a in m.addresses(id).flatten() {
            let _ = (a.q(), a.expires(), a.tag(), a.display_unquoted(), a.params().count());
            if let Ok(u) = a.parse_uri() {
                assert!(uri_eq(&u, &u));
            }
        }
    }
    for h in m.headers() {
        let _ = h.unfolded();
    }
}

fn change(m: &Message) {
    let mut e = Edits::new();
    e.stamp_via(m, [192, 0, 2, 1].into(), 5, true);
    e.pop_via(m);
    while e.pop_route(m).is_some() {}
    e.push_via(m, Bytes::from_static(b"Via: SIP/2.0/UDP us\r\n"));
    e.set_ruri(Bytes::from_static(b"sip:x"));
    e.append_header(Bytes::from_static(b"X: y"));
    let mut out = Vec::new();
    serialise(m, &[&e], &mut out);
    reply::build(m, &reply::Reply { code: 400, reason: b"x", ..Default::default() }, &mut out);
    request::cancel_for(m, b"", &mut out);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(raw in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), sip_like()]) {
        let _ = call_id_of(&raw);
        if let Ok(u) = Uri::parse(&raw) {
            prop_assert!(uri_eq(&u, &u));
        }
        match Message::parse(Bytes::from(raw.clone())) {
            Ok(m) => { touch(&m); change(&m); let _ = m.check(); }
            Err(ParseError::Reject { message, .. }) => { touch(&message); change(&message); }
            Err(_) => {}
        }
        let mut buf = BytesMut::from(&raw[..]);
        let mut framer = Framer::new(200);
        while let Ok(Some(_)) = framer.next(&mut buf) {}
    }

    #[test]
    fn an_untouched_message_prints_as_it_was_read(raw in valid()) {
        let m = Message::parse(Bytes::from(raw.clone())).unwrap();
        touch(&m);
        let mut out = Vec::new();
        serialise(&m, &[], &mut out);
        prop_assert_eq!(&out, &raw);
        let mut lines = Vec::new();
        lines.extend_from_slice(m.start_line());
        lines.extend_from_slice(b"\r\n");
        m.headers().for_each(|h| lines.extend_from_slice(h.line));
        lines.extend_from_slice(b"\r\n");
        lines.extend_from_slice(m.body());
        prop_assert_eq!(&lines, &raw);
    }

    #[test]
    fn a_changed_message_can_be_read_again(raw in valid()) {
        let m = Message::parse(Bytes::from(raw)).unwrap();
        let mut e = Edits::new();
        e.pop_via(&m);
        e.push_via(&m, Bytes::from_static(b"Via: SIP/2.0/UDP us;branch=z9hG4bKus\r\n"));
        e.append_header(Bytes::from_static(b"X: y"));
        e.set_body(None, Bytes::from_static(b"new"));
        let mut out = Vec::new();
        serialise(&m, &[&e], &mut out);
        let again = Message::parse(Bytes::from(out)).unwrap();
        prop_assert_eq!(again.via().unwrap().host, b"us");
        prop_assert_eq!(again.vias().count(), 2);
        prop_assert_eq!(again.body(), b"new");
        prop_assert_eq!(again.header_count(), m.header_count() + 2);
    }
}
