//! SMPP PDUs of any bytes: what is read is written, and what is written reads the same. Texts, headers, receipts and parts are
//! read as well. Nothing may panic or read beyond the PDU.

#![no_main]

use libfuzzer_sys::fuzz_target;
use switchroom_wire::gsm::{Alphabet, Coding, Udh, decode, unpack};
use switchroom_wire::smpp::frame::{self, Frame};
use switchroom_wire::smpp::{Body, Pdu, Rules, receipt, targets};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Frame::Whole(length) = frame::next(rest, frame::MAX_PDU) {
        let (pdu, behind) = rest.split_at(length);
        rest = behind;
        for rules in [Rules::LENIENT, Rules::STRICT] {
            let Ok(read) = Pdu::read(pdu, rules) else { continue };
            let mut written = Vec::new();
            read.write(&mut written);
            if let Ok(again) = Pdu::read(&written, rules) {
                assert_eq!(again, read);
            }
            match read.body {
                Body::Message(m) => text(m.data_coding, m.payload(), m.has_udh()),
                Body::Multi { message, targets: list, .. } => {
                    text(message.data_coding, message.payload(), message.has_udh());
                    assert!(targets(list, rules).count() <= 255);
                }
                Body::MultiResponse(r) => assert!(r.failures(rules).count() <= 255),
                _ => {}
            }
        }
    }
});

fn text(data_coding: u8, payload: &[u8], has_udh: bool) {
    receipt::read(payload);
    let udh = Udh::read(payload).filter(|_| has_udh);
    let (header, shifts, text) = match &udh {
        Some(udh) => (udh.len, udh.shifts(), udh.text),
        None => (0, Default::default(), payload),
    };
    if let Some(udh) = udh {
        udh.concat();
        udh.ports();
    }
    for default in [Alphabet::Gsm7, Alphabet::Gsm7Packed, Alphabet::Latin1] {
        let coding = Coding::read(data_coding, default);
        match coding.alphabet {
            Alphabet::Gsm7Packed => drop(decode(Alphabet::Gsm7, &unpack(text, header), shifts)),
            alphabet => drop(decode(alphabet, text, shifts)),
        }
    }
}
