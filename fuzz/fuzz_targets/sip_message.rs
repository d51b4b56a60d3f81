//! A datagram: read it, touch everything, change it, answer it, read the results again.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use switchroom_engine::transaction::key;
use switchroom_wire::sip::{Edits, HeaderId, MAX_HEADERS, Message, ParseError, reply, request, serialise};

fuzz_target!(|data: &[u8]| {
    let message = match Message::parse(Bytes::copy_from_slice(data)) {
        Ok(message) => message,
        Err(ParseError::Reject { message, .. }) => {
            touch(&message);
            return;
        }
        Err(_) => return,
    };
    let mut out = Vec::new();
    serialise(&message, &[], &mut out);
    assert_eq!(out, &message.raw()[..]);
    touch(&message);

    let mut edits = Edits::new();
    edits.stamp_via(&message, [192, 0, 2, 1].into(), 5060, true);
    edits.pop_route(&message);
    edits.push_via(&message, Bytes::from_static(b"Via: SIP/2.0/UDP us;branch=z9hG4bKus"));
    edits.append_header(Bytes::from_static(b"X: y"));
    out.clear();
    serialise(&message, &[&edits], &mut out);
    if message.header_count() + 2 > MAX_HEADERS {
        return;
    }
    let again = Message::parse(out.into()).expect("a changed message is sound");
    assert_eq!(again.via().map(|v| v.host.to_vec()), Ok(b"us".to_vec()));
});

fn touch(m: &Message) {
    let _ = (m.ruri(), m.via(), m.from(), m.to(), m.max_forwards(), m.expires());
    let _ = (key::server(m), key::merged(m), key::loop_number(m));
    for id in [HeaderId::Contact, HeaderId::Route, HeaderId::RecordRoute, HeaderId::Path] {
        m.addresses(id).flatten().for_each(|a| drop(a.parse_uri()));
    }
    let _ = (m.vias().count(), m.parts().count());
    let mut out = Vec::new();
    reply::build(m, &reply::Reply { code: 400, reason: b"Bad Request", ..Default::default() }, &mut out);
    request::cancel_for(m, b"", &mut out);
    request::ack_for(m, m, &mut out);
}
