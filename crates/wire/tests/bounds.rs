//! Hostile input costs time in proportion to its length.

#![allow(clippy::disallowed_methods, reason = "time is measured")]

use bytes::{Bytes, BytesMut};
use std::time::{Duration, Instant};
use switchroom_wire::sdp::Sdp;
use switchroom_wire::sip::frame::Framer;
use switchroom_wire::sip::{Edits, HeaderId, Message, NameAddr, Uri, scan, uri_eq};

fn quick(what: &str, f: impl FnOnce()) {
    let start = Instant::now();
    f();
    assert!(start.elapsed() < Duration::from_secs(2), "{what} took {:?}", start.elapsed());
}

#[test]
fn repeated_openers_and_separators_are_linear() {
    for piece in ["(", "(,", "\"", "\",", "<", "<,", ";", ";a", "=", "\\", "%", ",", "()", "\r\n "] {
        let text = piece.repeat(60_000).into_bytes();
        quick(piece, || {
            let _ = scan::commas(&text).count();
            let _ = NameAddr::parse(&text);
            let _ = scan::unfold(&text);
        });
    }
}

#[test]
fn uris_with_many_parts_compare_quickly() {
    for piece in [";a", "&a"] {
        let text = format!("sip:h{}{}", if piece == "&a" { "?" } else { "" }, piece.repeat(60_000));
        let uri = Uri::parse(text.as_bytes()).unwrap();
        quick(piece, || assert!(uri_eq(&uri, &uri)));
    }
}

#[test]
fn messages_and_streams_of_short_lines_are_read_quickly() {
    for piece in ["c\n", "c:\n", "call-id\n", "l\n", "v:,\n"] {
        let text = format!("OPTIONS sip:h SIP/2.0\r\n{}\r\n", piece.repeat(30_000));
        quick(piece, || {
            let _ = Message::parse(Bytes::from(text.clone()));
            let _ = switchroom_wire::sip::call_id_of(text.as_bytes());
            let mut buf = BytesMut::new();
            let mut framer = Framer::new(1 << 20);
            for chunk in text.as_bytes().chunks(100) {
                buf.extend_from_slice(chunk);
                let _ = framer.next(&mut buf);
            }
        });
    }
}

#[test]
fn many_formats_and_many_attributes_are_read_quickly() {
    let text = format!("v=0\nm=audio 1 RTP/AVP{}\n{}", " 5".repeat(30_000), "a=x:1 y\n".repeat(5_000));
    quick("sdp", || assert_eq!(Sdp::parse(text.as_bytes()).unwrap().streams[0].codecs().count(), 128));
}

#[test]
fn a_long_route_is_popped_quickly() {
    let text = format!(
        "INVITE sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: sip:a\r\nTo: sip:b\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
         Route: {}<sip:z>\r\n\r\n",
        "<sip:r;lr>,".repeat(5_000)
    );
    let m = Message::parse(Bytes::from(text)).unwrap();
    quick("pop", || {
        let mut e = Edits::new();
        (0..10).for_each(|_| assert!(e.pop_route(&m).is_some()));
        assert_eq!(e.remove_headers(&m, HeaderId::Route), 1);
    });
}
