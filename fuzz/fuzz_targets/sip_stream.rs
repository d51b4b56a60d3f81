//! A byte stream in two pieces gives the same frames as in one.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use switchroom_wire::sip::frame::{Frame, Framer};

fuzz_target!(|input: (u16, &[u8])| {
    let (at, data) = input;
    let at = usize::from(at).min(data.len());
    assert_eq!(messages(&[data]), messages(&[&data[..at], &data[at..]]));
});

fn messages(chunks: &[&[u8]]) -> Vec<Frame> {
    let (mut framer, mut buf, mut got) = (Framer::new(4096), BytesMut::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        while let Ok(Some(frame)) = framer.next(&mut buf) {
            // How keep-alives are told apart depends on how they arrive.
            if matches!(frame, Frame::Message(_)) {
                got.push(frame);
            }
        }
    }
    got
}
