//! What customers do wrong, PDU by PDU: each fault has its own status with the sequence number of its PDU, and the session
//! goes on as if nothing had been.

use switchroom_wire::smpp::{
    Address, Body, Cancel, CommandId, Header, Pdu, Query, Replace, Rules, ShortMessage, Status, Tlvs,
    push_tlv, tag,
};

use crate::messages::{Stage, deliver, stage, submit, text};
use crate::smsc::Smpp;

fn address(addr: &[u8]) -> Address<'_> {
    Address { ton: 1, npi: 1, addr }
}

/// A message that would be accepted.
fn good() -> ShortMessage<'static> {
    ShortMessage {
        source: address(b"4917"),
        destination: address(b"4930"),
        text: b"hello",
        ..Default::default()
    }
}

fn written(command: CommandId, body: Body<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Pdu { header: Header::request(command, 7), body }.write(&mut out);
    out
}

fn message(m: ShortMessage<'_>) -> Vec<u8> {
    written(CommandId::SUBMIT_SM, Body::Message(m))
}

/// Appends octets and corrects the length.
fn longer(mut pdu: Vec<u8>, octets: &[u8]) -> Vec<u8> {
    pdu.extend_from_slice(octets);
    let length = pdu.len() as u32;
    pdu[..4].copy_from_slice(&length.to_be_bytes());
    pdu
}

#[track_caller]
fn expect(peer: &mut Smpp, what: &str, pdu: &[u8], status: Status) {
    peer.write(pdu);
    let sent = Header::read(pdu).unwrap();
    let got = peer.header();
    assert_eq!((got.status, got.sequence), (status, sent.sequence), "{what}");
    let own = sent.command.response().filter(|_| sent.command.known_name().is_some());
    assert_eq!(got.command, own.unwrap_or(CommandId::GENERIC_NACK), "{what}");
}

/// Messages still pass.
#[track_caller]
fn still_lives(stage: &Stage, peer: &mut Smpp) {
    let mut inbox = stage.bind("inbox");
    submit(peer, "4930", ShortMessage { registered_delivery: 0, ..text(b"after all") }).unwrap();
    assert_eq!(deliver(&mut inbox, Status::OK).0, b"after all");
}

#[test]
fn each_fault_of_a_message_has_its_status() {
    let stage = stage("");
    let mut shop = stage.bind("shop");
    let multi = |targets: &[u8], count: u8| {
        let m = ShortMessage { destination: Address::default(), ..good() };
        written(CommandId::SUBMIT_MULTI, Body::Multi { message: m, count, targets })
    };
    let mut payload = Vec::new();
    push_tlv(&mut payload, tag::MESSAGE_PAYLOAD, b"twice");
    let twice = ShortMessage { tlvs: Tlvs::read(&payload, true).unwrap(), ..good() };
    let too_long = longer(message(ShortMessage { text: b"", ..good() }), &[]);
    let too_long = {
        let mut pdu = too_long;
        *pdu.last_mut().unwrap() = 200;
        pdu
    };
    let number = [b'4'; 80];
    for (what, pdu, status) in [
        ("priority", message(ShortMessage { priority: 5, ..good() }), Status::INVPRTFLG),
        ("schedule", message(ShortMessage { schedule: b"tomorrow", ..good() }), Status::INVSCHED),
        ("validity", message(ShortMessage { validity: b"260230000000000+", ..good() }), Status::INVEXPIRY),
        ("past", message(ShortMessage { validity: b"200101000000000+", ..good() }), Status::INVEXPIRY),
        ("nobody", message(ShortMessage { destination: address(b""), ..good() }), Status::INVDSTADR),
        ("long sender", message(ShortMessage { source: address(&number), ..good() }), Status::INVSRCADR),
        (
            "long recipient",
            message(ShortMessage { destination: address(&number), ..good() }),
            Status::INVDSTADR,
        ),
        ("nowhere", message(ShortMessage { destination: address(b"33"), ..good() }), Status::NOROUTE),
        (
            "header",
            message(ShortMessage { esm_class: 0x40, text: &[9, 0, 3], ..good() }),
            Status::INVESMCLASS,
        ),
        (
            "no predefined",
            message(ShortMessage { sm_default_msg_id: 3, text: b"", ..good() }),
            Status::INVDFTMSGID,
        ),
        ("two texts", message(twice), Status::INVMSGLEN),
        ("beyond the end", too_long, Status::INVMSGLEN),
        ("half a parameter", longer(message(good()), &[0, 5, 0, 9, 1]), Status::INVTLVSTREAM),
        ("too short", longer(written(CommandId::SUBMIT_SM, Body::Empty), &[0, 0]), Status::INVCMDLEN),
        ("to nobody", multi(&[], 0), Status::INVNUMDESTS),
        ("flag", multi(&[3, 1, 1, b'4', 0], 1), Status::INVDESTFLAG),
        ("list", multi(b"\x02friends\0", 1), Status::INVDLNAME),
        (
            "query",
            written(CommandId::QUERY_SM, Body::Query(Query { id: b"999", source: address(b"4917") })),
            Status::INVMSGID,
        ),
        (
            "cancel",
            written(CommandId::CANCEL_SM, Body::Cancel(Cancel { id: b"999", ..Cancel::default() })),
            Status::CANCELFAIL,
        ),
        (
            "replace",
            written(CommandId::REPLACE_SM, Body::Replace(Replace { id: b"999", ..Replace::default() })),
            Status::REPLACEFAIL,
        ),
        ("his own delivery", written(CommandId::DELIVER_SM, Body::Message(good())), Status::INVBNDSTS),
        ("binds again", written(CommandId::BIND_RECEIVER, Body::Bind(Default::default())), Status::ALYBND),
        (
            "broadcast",
            written(CommandId::BROADCAST_SM, Body::Broadcast(Default::default())),
            Status::INVCMDID,
        ),
        ("unknown", written(CommandId(0x0999), Body::Empty), Status::INVCMDID),
    ] {
        expect(&mut shop, what, &pdu, status);
    }
    still_lives(&stage, &mut shop);
    // A length that cannot be: the peer is told, and the connection ends.
    shop.write(&[0, 0, 0, 8, 0, 0, 0, 4]);
    let got = shop.header();
    assert_eq!((got.command, got.status), (CommandId::GENERIC_NACK, Status::INVCMDLEN));
    assert!(shop.try_next().is_none());
}

#[test]
fn a_strict_account_hears_of_reserved_values_and_of_messages_that_are_not_its_own() {
    let stage = stage("");
    stage.mi(&["smsc:account", "system_id=shop", "strict=1"]);
    let mut shop = stage.bind("shop");
    for (what, pdu, status) in [
        ("receipts", message(ShortMessage { registered_delivery: 0x21, ..good() }), Status::INVREGDLVFLG),
        ("replacing", message(ShortMessage { replace_if_present: 2, ..good() }), Status::INVREPFLAG),
        ("length", longer(message(good()), &[0x02, 0x0c, 0, 1, 1]), Status::INVTLVLEN),
        ("service", message(ShortMessage { service_type: b"TOOLONG", ..good() }), Status::INVSERTYP),
    ] {
        expect(&mut shop, what, &pdu, status);
    }
    let quiet = ShortMessage { registered_delivery: 0, ..text(b"waits") };
    let id = submit(&mut shop, "4930", quiet).unwrap();
    let id = id.as_bytes();
    let query = |source| written(CommandId::QUERY_SM, Body::Query(Query { id, source }));
    let cancel = |source| {
        let c = Cancel { id, source, destination: address(b"4930"), ..Cancel::default() };
        written(CommandId::CANCEL_SM, Body::Cancel(c))
    };
    expect(&mut shop, "query of another's", &query(address(b"4917")), Status::QUERYFAIL);
    expect(&mut shop, "query", &query(address(b"Shop")), Status::OK);
    expect(&mut shop, "cancel of another's", &cancel(address(b"4917")), Status::CANCELFAIL);
    expect(&mut shop, "cancel", &cancel(address(b"Shop")), Status::OK);
    expect(&mut shop, "cancel again", &cancel(address(b"Shop")), Status::CANCELFAIL);
}

#[test]
fn failures_of_a_long_list_are_as_many_as_one_octet_counts() {
    let stage = stage("");
    stage.house.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
         INSERT INTO sms_list (account, name, address) SELECT 'shop', 'far', '33' || i FROM n",
    );
    stage.mi(&["smsc:reload"]);
    let mut shop = stage.bind("shop");
    let m = ShortMessage { destination: Address::default(), ..good() };
    shop.write(&written(
        CommandId::SUBMIT_MULTI,
        Body::Multi { message: m, count: 1, targets: b"\x02far\0" },
    ));
    let bytes = shop.next();
    let pdu = Pdu::read(&bytes, Rules::STRICT).unwrap();
    assert_eq!(pdu.header.status, Status::SUBMITFAIL);
    let Body::MultiResponse(answer) = pdu.body else { panic!("{pdu:?}") };
    assert_eq!((answer.count, answer.failures(Rules::STRICT).count()), (255, 255));
    still_lives(&stage, &mut shop);
}

#[test]
fn octets_behind_the_answer_of_another_centre_do_not_hide_its_name() {
    let pdu = {
        let id = switchroom_wire::smpp::MessageId { id: b"abc", present: true, ..Default::default() };
        let mut out = Vec::new();
        let header = Header::request(CommandId::SUBMIT_SM, 7).answer(Status::OK);
        Pdu { header, body: Body::MessageId(id) }.write(&mut out);
        longer(out, &[0])
    };
    assert!(Pdu::read(&pdu, Rules::STRICT).is_err());
    let Body::MessageId(read) = Pdu::read(&pdu, Rules::LENIENT).unwrap().body else { panic!() };
    assert_eq!(read.id, b"abc");
}
