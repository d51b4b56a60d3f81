//! Session descriptions.

#![no_main]

use libfuzzer_sys::fuzz_target;
use switchroom_wire::sdp::Sdp;

fuzz_target!(|data: &[u8]| {
    let Ok(sdp) = Sdp::parse(data) else { return };
    let _ = (sdp.origin(), sdp.connection(), sdp.session_name());
    for stream in &sdp.streams {
        let _ = (sdp.connection_of(stream), sdp.direction_of(stream), sdp.is_on_hold(stream));
        for codec in stream.codecs() {
            let _ = stream.fmtp(codec.payload);
        }
    }
});
