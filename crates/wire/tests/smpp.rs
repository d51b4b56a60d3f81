//! SMPP PDUs: each comes back as it was written, each fault has its status, and no bytes do harm.

use proptest::prelude::*;
use switchroom_wire::smpp::{
    Address, Alert, Bind, Body, Broadcast, Cancel, CommandId, DataSm, Header, MessageId, MultiResponse,
    Outbind, Pdu, Query, QueryBroadcast, QueryResponse, Replace, Rules, ShortMessage, Status, Target, Tlvs,
    frame, push_failure, push_target, push_tlv, tag, targets,
};

fn address(addr: &[u8]) -> Address<'_> {
    Address { ton: 1, npi: 1, addr }
}

fn written(command: CommandId, body: Body<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Pdu { header: Header { command, status: Status::OK, sequence: 7 }, body }.write(&mut out);
    out
}

fn response(command: CommandId) -> CommandId {
    command.response().expect("it has a response")
}

/// One of each PDU.
fn all(check: impl Fn(CommandId, Body<'_>)) {
    let mut extra = Vec::new();
    push_tlv(&mut extra, tag::USER_MESSAGE_REFERENCE, &[0, 9]);
    push_tlv(&mut extra, 0x1401, b"vendor");
    let tlvs = Tlvs::read(&extra, true).expect("parameters");
    let bind = Bind {
        system_id: b"smpp",
        password: b"test",
        system_type: b"",
        interface_version: 0x34,
        range: Address { ton: 2, npi: 1, addr: b"^49" },
    };
    for command in [CommandId::BIND_RECEIVER, CommandId::BIND_TRANSMITTER, CommandId::BIND_TRANSCEIVER] {
        check(command, Body::Bind(bind));
        check(response(command), Body::BindResponse { system_id: b"centre", tlvs });
    }
    check(CommandId::OUTBIND, Body::Outbind(Outbind { system_id: b"centre", password: b"x" }));
    let message = ShortMessage {
        service_type: b"CMT",
        source: Address { ton: 5, npi: 0, addr: b"Shop" },
        destination: address(b"4915112345678"),
        esm_class: 0x40,
        protocol_id: 1,
        priority: 2,
        schedule: b"261121161222000+",
        validity: b"000002000000000R",
        registered_delivery: 1,
        replace_if_present: 1,
        data_coding: 8,
        sm_default_msg_id: 3,
        text: b"\x05\x00\x03\x01\x02\x01\0H",
        tlvs,
    };
    check(CommandId::SUBMIT_SM, Body::Message(message));
    check(CommandId::DELIVER_SM, Body::Message(message));
    let mut list = Vec::new();
    push_target(&mut list, &Target::Address(address(b"1234")));
    push_target(&mut list, &Target::List(b"friends"));
    let multi = ShortMessage { destination: Address::default(), ..message };
    check(CommandId::SUBMIT_MULTI, Body::Multi { message: multi, count: 2, targets: &list });
    let mut failures = Vec::new();
    push_failure(&mut failures, &address(b"1234"), Status::INVDSTADR);
    check(response(CommandId::SUBMIT_MULTI), Body::MultiResponse(MultiResponse::new(b"id", 1, &failures)));
    let data = DataSm {
        service_type: b"",
        source: address(b"1"),
        destination: address(&[b'2'; 64]),
        esm_class: 0,
        registered_delivery: 1,
        data_coding: 0,
        tlvs,
    };
    check(CommandId::DATA_SM, Body::Data(data));
    for command in [CommandId::SUBMIT_SM, CommandId::DELIVER_SM, CommandId::DATA_SM, CommandId::BROADCAST_SM]
    {
        check(response(command), Body::MessageId(MessageId { id: b"0a1b", present: true, tlvs }));
        check(response(command), Body::MessageId(MessageId::default()));
    }
    check(CommandId::QUERY_SM, Body::Query(Query { id: b"0a1b", source: address(b"1") }));
    let state = QueryResponse { id: b"0a1b", final_date: b"261121161222000+", state: 2, error: 0 };
    check(response(CommandId::QUERY_SM), Body::QueryResponse(state));
    let cancel = Cancel { service_type: b"", id: b"", source: address(b"1"), destination: address(b"2") };
    check(CommandId::CANCEL_SM, Body::Cancel(cancel));
    let replace = Replace {
        id: b"0a1b",
        source: address(b"1"),
        schedule: b"",
        validity: b"",
        registered_delivery: 0,
        sm_default_msg_id: 0,
        text: b"new",
        tlvs,
    };
    check(CommandId::REPLACE_SM, Body::Replace(replace));
    check(
        CommandId::ALERT_NOTIFICATION,
        Body::Alert(Alert { source: address(b"1"), esme: address(b"2"), tlvs }),
    );
    let broadcast =
        Broadcast { source: address(b"1"), priority: 1, data_coding: 8, tlvs, ..Broadcast::default() };
    check(CommandId::BROADCAST_SM, Body::Broadcast(broadcast));
    let query = QueryBroadcast { id: b"0a1b", source: address(b"1"), tlvs, ..QueryBroadcast::default() };
    check(CommandId::QUERY_BROADCAST_SM, Body::QueryBroadcast(query));
    check(
        CommandId::CANCEL_BROADCAST_SM,
        Body::QueryBroadcast(QueryBroadcast { service_type: b"CBS", ..query }),
    );
    for command in [CommandId::ENQUIRE_LINK, CommandId::UNBIND, CommandId::GENERIC_NACK] {
        check(command, Body::Empty);
    }
    for command in [CommandId::ENQUIRE_LINK, CommandId::UNBIND, CommandId::CANCEL_SM, CommandId::REPLACE_SM] {
        check(response(command), Body::Empty);
    }
    check(CommandId(0x0001_0200), Body::Unknown(b"anything"));
}

#[test]
fn every_pdu_comes_back_as_it_was_written() {
    all(|command, body| {
        let bytes = written(command, body);
        assert_eq!(frame::next(&bytes, frame::MAX_PDU), frame::Frame::Whole(bytes.len()), "{command}");
        for rules in [Rules::STRICT, Rules::LENIENT] {
            let pdu = Pdu::read(&bytes, rules).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(pdu.body, body, "{command}");
            assert_eq!((pdu.header.command, pdu.header.sequence), (command, 7));
        }
    });
}

#[test]
fn a_pdu_cut_anywhere_is_a_fault_with_its_own_sequence_number() {
    all(|command, body| {
        let bytes = written(command, body);
        for len in 16..bytes.len() {
            if let Err(fault) = Pdu::read(&bytes[..len], Rules::STRICT) {
                assert_eq!((fault.header.command, fault.header.sequence), (command, 7));
                assert_ne!(fault.status, Status::OK);
            }
        }
    });
}

#[test]
fn the_destinations_of_a_multi_message_are_listed() {
    let mut list = Vec::new();
    push_target(&mut list, &Target::Address(address(b"1234")));
    push_target(&mut list, &Target::List(b"friends"));
    let got: Vec<_> = targets(&list, Rules::STRICT).collect();
    assert_eq!(got, [Target::Address(address(b"1234")), Target::List(b"friends")]);
    let mut failures = Vec::new();
    push_failure(&mut failures, &address(b"1234"), Status::INVDSTADR);
    let r = MultiResponse::new(b"id", 1, &failures);
    assert_eq!(r.failures(Rules::STRICT).collect::<Vec<_>>(), [(address(b"1234"), Status::INVDSTADR)]);
}

#[test]
fn each_fault_has_the_status_of_its_field() {
    let good =
        ShortMessage { source: address(b"1"), destination: address(b"2"), text: b"hi", ..Default::default() };
    let long = [b'x'; 70];
    let mut twice = Vec::new();
    push_tlv(&mut twice, tag::MESSAGE_PAYLOAD, b"again");
    let mut odd = Vec::new();
    push_tlv(&mut odd, tag::SAR_MSG_REF_NUM, &[1, 2, 3]);
    let table = [
        (ShortMessage { service_type: &long, ..good }, Status::INVSERTYP),
        (ShortMessage { source: address(&long), ..good }, Status::INVSRCADR),
        (ShortMessage { destination: address(&long), ..good }, Status::INVDSTADR),
        (ShortMessage { schedule: &long, ..good }, Status::INVSCHED),
        (ShortMessage { validity: &long, ..good }, Status::INVEXPIRY),
        (ShortMessage { tlvs: Tlvs::read(&twice, true).unwrap(), ..good }, Status::INVMSGLEN),
    ];
    for (message, status) in table {
        let bytes = written(CommandId::SUBMIT_SM, Body::Message(message));
        for rules in [Rules::STRICT, Rules::LENIENT] {
            assert_eq!(Pdu::read(&bytes, rules).unwrap_err().status, status);
        }
    }
    let bytes = written(
        CommandId::SUBMIT_SM,
        Body::Message(ShortMessage { tlvs: Tlvs::read(&odd, false).unwrap(), ..good }),
    );
    assert_eq!(Pdu::read(&bytes, Rules::STRICT).unwrap_err().status, Status::INVTLVLEN);
    assert!(Pdu::read(&bytes, Rules::LENIENT).is_ok());
    let mut stray = written(CommandId::SUBMIT_SM, Body::Message(good));
    stray.extend_from_slice(&[0, 1]);
    assert_eq!(Pdu::read(&stray, Rules::LENIENT).unwrap_err().status, Status::INVTLVSTREAM);
    // sm_length says more than there is.
    let mut short = written(CommandId::SUBMIT_SM, Body::Message(good));
    let at = short.len() - 3;
    short[at] = 9;
    assert_eq!(Pdu::read(&short, Rules::LENIENT).unwrap_err().status, Status::INVMSGLEN);
    for (bind, status) in [
        (Bind { system_id: &long, ..Bind::default() }, Status::INVSYSID),
        (Bind { password: &long, ..Bind::default() }, Status::INVPASWD),
        (Bind { system_type: &long, ..Bind::default() }, Status::INVSYSTYP),
    ] {
        let bytes = written(CommandId::BIND_TRANSCEIVER, Body::Bind(bind));
        assert_eq!(Pdu::read(&bytes, Rules::LENIENT).unwrap_err().status, status);
    }
    let none = written(CommandId::SUBMIT_MULTI, Body::Multi { message: good, count: 0, targets: &[] });
    assert_eq!(Pdu::read(&none, Rules::LENIENT).unwrap_err().status, Status::INVNUMDESTS);
    let wrong = written(CommandId::SUBMIT_MULTI, Body::Multi { message: good, count: 1, targets: &[3, 0] });
    assert_eq!(Pdu::read(&wrong, Rules::LENIENT).unwrap_err().status, Status::INVDESTFLAG);
}

#[test]
fn what_the_field_sends_passes_the_lenient_rules() {
    let bind = Bind { system_id: b"customer", password: b"ninechars!", ..Bind::default() };
    let bytes = written(CommandId::BIND_TRANSCEIVER, Body::Bind(bind));
    assert_eq!(Pdu::read(&bytes, Rules::LENIENT).unwrap().body, Body::Bind(bind));
    assert_eq!(Pdu::read(&bytes, Rules::STRICT).unwrap_err().status, Status::INVPASWD);
    // A sender in Latin-1.
    let m = ShortMessage { source: address(b"Caf\xe9"), destination: address(b"1"), ..Default::default() };
    let bytes = written(CommandId::SUBMIT_SM, Body::Message(m));
    assert_eq!(Pdu::read(&bytes, Rules::LENIENT).unwrap().body, Body::Message(m));
    // A message id without its NUL.
    let id = MessageId { id: b"12345", present: true, tlvs: Tlvs::default() };
    let mut bytes = written(response(CommandId::SUBMIT_SM), Body::MessageId(id));
    bytes.pop();
    assert_eq!(Pdu::read(&bytes, Rules::LENIENT).unwrap().body, Body::MessageId(id));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_do_harm_and_what_is_read_is_written_back(
        command in prop_oneof![0u32..0x25, 0x100u32..0x115, Just(0x8000_0004), Just(0x8000_0021), Just(0x8000_0003), any::<u32>()],
        body in prop::collection::vec(prop_oneof![Just(0u8), Just(1), 0x20u8..0x7f, any::<u8>()], 0..120),
    ) {
        let mut bytes = vec![0; 16];
        bytes[4..8].copy_from_slice(&command.to_be_bytes());
        bytes[12..16].copy_from_slice(&9u32.to_be_bytes());
        bytes.extend_from_slice(&body);
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_be_bytes());
        for rules in [Rules::STRICT, Rules::LENIENT] {
            if let Ok(pdu) = Pdu::read(&bytes, rules) {
                let mut again = Vec::new();
                pdu.write(&mut again);
                let reread = Pdu::read(&again, rules).expect("what we write can be read");
                prop_assert_eq!(reread, pdu);
            }
        }
    }

    #[test]
    fn any_text_survives_splitting_in_its_alphabet(text in "\\PC{0,400}") {
        use switchroom_wire::gsm::{Alphabet, Limits, Shifts, choose, decode, encode, split};
        let shifts = Shifts::default();
        let chosen = choose(&text, shifts);
        let parts = split(&text, chosen.alphabet, shifts, 6);
        prop_assert_eq!(parts.concat(), text.clone());
        let limits = Limits::of(chosen.alphabet, 6);
        let unit = if chosen.alphabet == Alphabet::Ucs2 { 2 } else { 1 };
        for part in &parts {
            let mut octets = Vec::new();
            encode(chosen.alphabet, part, shifts, &mut octets).expect("it was chosen to fit");
            prop_assert_eq!(decode(chosen.alphabet, &octets, shifts), *part);
            let max = if parts.len() == 1 { limits.single } else { limits.part };
            prop_assert!(octets.len() / unit <= max);
        }
    }
}

/// What another codec makes of a PDU: it reads it and writes it again.
fn oracle(pdu: &[u8]) -> Option<Vec<u8>> {
    use rusmpp_core::command::owned::Command;
    use rusmpp_core::decode::owned::DecodeWithLength;
    use rusmpp_core::encode::Length;
    use rusmpp_core::encode::owned::Encode;
    let mut body = bytes::BytesMut::from(&pdu[4..]);
    let length = body.len();
    let (command, read) = Command::decode(&mut body, length).ok().filter(|(_, read)| *read == length)?;
    let mut out = bytes::BytesMut::with_capacity(command.length() + 4);
    out.extend_from_slice(&(command.length() as u32 + 4).to_be_bytes());
    command.encode(&mut out);
    (read == length).then(|| out.to_vec())
}

#[test]
fn another_codec_reads_and_writes_our_pdus_the_same() {
    let unread = std::cell::RefCell::new(Vec::new());
    all(|command, body| {
        let bytes = written(command, body);
        match oracle(&bytes) {
            Some(theirs) => assert_eq!(theirs, bytes, "{command}"),
            None => unread.borrow_mut().push(command.to_string()),
        }
    });
    // There it allows fewer optional parameters than we wrote, and shorter addresses.
    let expected = [
        "bind_receiver_resp",
        "bind_transmitter_resp",
        "bind_transceiver_resp",
        "data_sm",
        "replace_sm",
        "alert_notification",
        "query_broadcast_sm",
    ];
    assert_eq!(unread.into_inner(), expected);
}

proptest! {
    #[test]
    fn what_both_codecs_read_they_write_alike(
        which in 0usize..40, changes in proptest::collection::vec((0usize..120, any::<u8>()), 0..4)
    ) {
        let seen = std::cell::Cell::new(0);
        all(|command, body| {
            seen.set(seen.get() + 1);
            if seen.get() != which {
                return;
            }
            let mut bytes = written(command, body);
            let body = bytes.len() - frame::HEADER;
            for (at, value) in changes.iter().filter(|_| body > 0) {
                bytes[frame::HEADER + at % body] = *value;
            }
            let (Some(theirs), Ok(ours)) = (oracle(&bytes), Pdu::read(&bytes, Rules::STRICT)) else { return };
            let mut out = Vec::new();
            ours.write(&mut out);
            assert_eq!(out, theirs, "{ours:?}");
        });
    }
}
