//! The parts of messages by themselves.

#![no_main]

use libfuzzer_sys::fuzz_target;
use switchroom_engine::transaction::BranchId;
use switchroom_wire::sip::digest::{Challenge, Credentials};
use switchroom_wire::sip::{NameAddr, Uri, Via, call_id_of, scan, uri_eq};

fuzz_target!(|data: &[u8]| {
    if let Ok(uri) = Uri::parse(data) {
        assert!(uri_eq(&uri, &uri));
    }
    if let Ok(addr) = NameAddr::parse(data) {
        let _ = (addr.q(), addr.expires(), addr.tag(), addr.display_unquoted(), addr.params().count());
    }
    let _ = Via::parse(data).map(|v| v.params().count());
    let _ = Credentials::parse(data).map(|c| c.verify(b"", b"INVITE", b""));
    let _ = Challenge::parse(data);
    let _ = (call_id_of(data), scan::unfold(data), scan::percent_decode(data), scan::unquote(data));
    if let Some(branch) = BranchId::decode(data) {
        assert!(branch.encode().eq_ignore_ascii_case(data));
    }
});
