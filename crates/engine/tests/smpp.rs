//! The session machine: the table of SMPP 5.0 §2.4 row by row, its timers, its windows, and any sequence of PDUs.

#![allow(clippy::disallowed_methods, reason = "an Instant can only be had from the clock")]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use switchroom_engine::smpp_session::{
    Ending, Mode, Output, SendError, Session, Settings, Side, State, legal,
};
use switchroom_wire::smpp::{CommandId, Header, Status};

const C: Side = Side::Centre;
const A: Side = Side::Application;

fn start(side: Side) -> (Session, Instant) {
    let now = Instant::now();
    (Session::new(Settings::new(side), now), now)
}

fn receive(s: &mut Session, now: Instant, command: CommandId, sequence: u32) -> Vec<Output> {
    answer(s, now, Header::request(command, sequence))
}

fn answer(s: &mut Session, now: Instant, header: Header) -> Vec<Output> {
    let mut sink = Vec::new();
    s.receive(now, header, &mut sink);
    sink
}

fn tick(s: &mut Session, now: Instant) -> Vec<Output> {
    let mut sink = Vec::new();
    s.tick(now, &mut sink);
    sink
}

/// A centre with an application bound to it.
fn bound(mode: Mode) -> (Session, Instant) {
    let (mut s, now) = start(C);
    assert_eq!(receive(&mut s, now, mode.bind(), 1), [Output::Request(Header::request(mode.bind(), 1))]);
    s.accept(now);
    assert_eq!(s.mode(), Some(mode));
    (s, now)
}

#[test]
fn the_table_of_legal_requests() {
    use CommandId as Id;
    let states = [
        State::Open,
        State::Outbound,
        State::Bound(Mode::Transmitter),
        State::Bound(Mode::Receiver),
        State::Bound(Mode::Transceiver),
        State::Unbound,
    ];
    // In each state: who may send it (E application, M centre, B both, - nobody).
    let table = [
        (Id::BIND_TRANSMITTER, "EE----"),
        (Id::BIND_RECEIVER, "EE----"),
        (Id::BIND_TRANSCEIVER, "EE----"),
        (Id::OUTBIND, "M-----"),
        (Id::UNBIND, "--BBB-"),
        (Id::ENQUIRE_LINK, "BBBBBB"),
        (Id::SUBMIT_SM, "--E-E-"),
        (Id::SUBMIT_MULTI, "--E-E-"),
        (Id::DATA_SM, "--EMB-"),
        (Id::DELIVER_SM, "---MM-"),
        (Id::QUERY_SM, "--E-E-"),
        (Id::CANCEL_SM, "--E-E-"),
        (Id::REPLACE_SM, "--E-E-"),
        (Id::BROADCAST_SM, "--E-E-"),
        (Id::QUERY_BROADCAST_SM, "--E-E-"),
        (Id::CANCEL_BROADCAST_SM, "--E-E-"),
        (Id::ALERT_NOTIFICATION, "---MM-"),
    ];
    for (command, row) in table {
        for (state, who) in states.iter().zip(row.chars()) {
            let (application, centre) = (matches!(who, 'E' | 'B'), matches!(who, 'M' | 'B'));
            assert_eq!(legal(command, A, *state), application, "{command} by the application in {state:?}");
            assert_eq!(legal(command, C, *state), centre, "{command} by the centre in {state:?}");
        }
    }
}

#[test]
fn what_is_not_allowed_is_answered_and_the_session_lives() {
    let (mut s, now) = start(C);
    let refused = |id: CommandId, seq, status| {
        [Output::Send(Header {
            command: id.response().unwrap_or(CommandId::GENERIC_NACK),
            status,
            sequence: seq,
        })]
    };
    assert_eq!(
        receive(&mut s, now, CommandId::SUBMIT_SM, 5),
        refused(CommandId::SUBMIT_SM, 5, Status::INVBNDSTS)
    );
    assert_eq!(
        receive(&mut s, now, CommandId::ENQUIRE_LINK, 6),
        refused(CommandId::ENQUIRE_LINK, 6, Status::OK)
    );
    let (mut s, now) = bound(Mode::Receiver);
    assert_eq!(
        receive(&mut s, now, CommandId::SUBMIT_SM, 2),
        refused(CommandId::SUBMIT_SM, 2, Status::INVBNDSTS)
    );
    assert_eq!(
        receive(&mut s, now, CommandId::DELIVER_SM, 3),
        refused(CommandId::DELIVER_SM, 3, Status::INVBNDSTS)
    );
    let again = CommandId::BIND_TRANSCEIVER;
    assert_eq!(receive(&mut s, now, again, 4), refused(again, 4, Status::ALYBND));
    assert_eq!(receive(&mut s, now, CommandId(0x55), 5), refused(CommandId(0x55), 5, Status::INVCMDID));
    assert_eq!(receive(&mut s, now, CommandId::ALERT_NOTIFICATION, 6), []);
    assert_eq!(s.mode(), Some(Mode::Receiver));
    let stray = Header { command: CommandId(0x8000_0005), status: Status::OK, sequence: 77 };
    assert_eq!(answer(&mut s, now, stray), [Output::Unsolicited(stray)]);
}

#[test]
fn an_application_binds_submits_and_unbinds() {
    let (mut s, now) = start(A);
    assert_eq!(s.send(now, CommandId::SUBMIT_SM, 1), Err(SendError::State));
    assert_eq!(s.send(now, CommandId::BIND_TRANSCEIVER, 1), Ok(1));
    assert_eq!(s.send(now, CommandId::SUBMIT_SM, 1), Err(SendError::State), "not before the answer");
    let ok = Header { command: CommandId(0x8000_0009), status: Status::OK, sequence: 1 };
    let accepted = Output::Response { header: ok, request: CommandId::BIND_TRANSCEIVER, token: 1 };
    assert_eq!(answer(&mut s, now, ok), [accepted, Output::Bound(Mode::Transceiver)]);
    assert_eq!(s.send(now, CommandId::SUBMIT_SM, 2), Ok(2));
    let done = Header { command: CommandId(0x8000_0004), status: Status::THROTTLED, sequence: 2 };
    assert_eq!(
        answer(&mut s, now, done),
        [Output::Response { header: done, request: CommandId::SUBMIT_SM, token: 2 }]
    );
    assert_eq!(s.send(now, CommandId::DELIVER_SM, 3), Err(SendError::State));
    assert_eq!(s.send(now, CommandId::UNBIND, 3), Ok(3));
    let bye = Header { command: CommandId(0x8000_0006), status: Status::OK, sequence: 3 };
    assert_eq!(answer(&mut s, now, bye), [Output::Close(Ending::Unbound)]);
}

#[test]
fn a_refused_bind_may_be_tried_again() {
    let (mut s, now) = start(A);
    s.send(now, CommandId::BIND_TRANSMITTER, 1).unwrap();
    let no = Header { command: CommandId(0x8000_0002), status: Status::BINDFAIL, sequence: 1 };
    assert_eq!(answer(&mut s, now, no).len(), 1);
    assert_eq!((s.state(), s.send(now, CommandId::BIND_TRANSMITTER, 2)), (State::Open, Ok(2)));
    let (mut s, now) = start(C);
    receive(&mut s, now, CommandId::BIND_RECEIVER, 1);
    s.refuse();
    assert_eq!(s.state(), State::Open);
    assert_eq!(receive(&mut s, now, CommandId::BIND_RECEIVER, 2).len(), 1);
}

#[test]
fn outbind_turns_the_connection_around() {
    let (mut centre, now) = start(C);
    assert_eq!(centre.send(now, CommandId::OUTBIND, 1), Ok(1));
    assert_eq!(centre.unanswered(), 0, "outbind has no answer");
    assert_eq!(receive(&mut centre, now, CommandId::BIND_RECEIVER, 1).len(), 1);
    let (mut application, now) = start(A);
    assert_eq!(receive(&mut application, now, CommandId::OUTBIND, 1).len(), 1);
    assert_eq!(application.send(now, CommandId::BIND_RECEIVER, 1), Ok(1));
}

#[test]
fn a_session_that_is_not_bound_in_ten_seconds_is_cut() {
    let (mut s, now) = start(C);
    assert_eq!(s.deadline(), Some(now + Duration::from_secs(10)));
    assert_eq!(tick(&mut s, now + Duration::from_millis(9_999)), []);
    assert_eq!(tick(&mut s, now + Duration::from_secs(10)), [Output::Close(Ending::NotBound)]);
    assert_eq!((s.state(), s.deadline()), (State::Closed, None));
}

#[test]
fn a_peer_that_has_asked_in_time_is_not_cut_while_the_host_looks_at_its_password() {
    let (mut s, now) = start(C);
    let late = now + Duration::from_secs(9);
    receive(&mut s, late, CommandId::BIND_TRANSCEIVER, 1);
    assert_eq!(s.deadline(), Some(late + Duration::from_secs(60)));
    assert_eq!(tick(&mut s, now + Duration::from_secs(30)), []);
    s.accept(now + Duration::from_secs(30));
    assert_eq!(s.mode(), Some(Mode::Transceiver));
    // A host that never decides does not keep the connection for ever.
    let (mut s, now) = start(C);
    receive(&mut s, now, CommandId::BIND_TRANSCEIVER, 1);
    assert_eq!(tick(&mut s, now + Duration::from_secs(60)), [Output::Close(Ending::NotBound)]);
}

#[test]
fn a_silent_peer_is_asked_and_then_cut_with_what_it_did_not_answer() {
    let (mut s, now) = bound(Mode::Transceiver);
    let sequence = s.send(now, CommandId::DELIVER_SM, 42).unwrap();
    let later = now + Duration::from_secs(30);
    assert_eq!(s.deadline(), Some(later));
    assert_eq!(tick(&mut s, later), [Output::Send(Header::request(CommandId::ENQUIRE_LINK, sequence + 1))]);
    assert_eq!(tick(&mut s, later), [], "asked once");
    let end = now + Duration::from_secs(60);
    assert_eq!(s.deadline(), Some(end));
    assert_eq!(tick(&mut s, end), [Output::Unanswered { token: 42 }, Output::Close(Ending::NoAnswer)]);
}

#[test]
fn an_answered_enquiry_keeps_the_session() {
    let (mut s, now) = bound(Mode::Transceiver);
    let t = now + Duration::from_secs(30);
    assert_eq!(tick(&mut s, t), [Output::Send(Header::request(CommandId::ENQUIRE_LINK, 1))]);
    let yes = Header { command: CommandId(0x8000_0015), status: Status::OK, sequence: 1 };
    assert_eq!(answer(&mut s, t, yes), []);
    assert_eq!(s.deadline(), Some(t + Duration::from_secs(30)));
}

#[test]
fn an_application_gives_up_one_message_and_keeps_the_session() {
    let (mut s, now) = start(A);
    s.send(now, CommandId::BIND_TRANSCEIVER, 0).unwrap();
    answer(&mut s, now, Header { command: CommandId(0x8000_0009), status: Status::OK, sequence: 1 });
    s.send(now, CommandId::SUBMIT_SM, 5).unwrap();
    let t = now + Duration::from_secs(59);
    receive(&mut s, t, CommandId::ENQUIRE_LINK, 1);
    assert_eq!(tick(&mut s, now + Duration::from_secs(60)), [Output::Unanswered { token: 5 }]);
    assert_eq!(s.mode(), Some(Mode::Transceiver));
}

#[test]
fn windows_hold_in_both_directions() {
    let (mut s, now) = bound(Mode::Transceiver);
    for token in 0..10 {
        s.send(now, CommandId::DELIVER_SM, token).unwrap();
    }
    assert_eq!(s.send(now, CommandId::DELIVER_SM, 10), Err(SendError::WindowFull));
    assert!(s.send(now, CommandId::ENQUIRE_LINK, 10).is_ok(), "an enquiry is no message");
    let done = Header { command: CommandId(0x8000_0005), status: Status::OK, sequence: 4 };
    answer(&mut s, now, done);
    assert_eq!(s.room(), 1);
    for sequence in 1..=100 {
        assert!(s.may_read());
        receive(&mut s, now, CommandId::SUBMIT_SM, sequence);
    }
    assert!(!s.may_read());
    s.answered();
    assert!(s.may_read());
}

#[test]
fn inactivity_unbinds_and_enquiries_are_no_activity() {
    let now = Instant::now();
    let minute = Duration::from_secs(60);
    let settings = Settings { inactivity: Some(minute), enquire_link: None, ..Settings::new(C) };
    let mut s = Session::new(settings, now);
    receive(&mut s, now, CommandId::BIND_TRANSCEIVER, 1);
    s.accept(now);
    receive(&mut s, now + minute / 2, CommandId::ENQUIRE_LINK, 2);
    let end = now + minute;
    assert_eq!(s.deadline(), Some(end));
    assert_eq!(tick(&mut s, end), [Output::Send(Header::request(CommandId::UNBIND, 1))]);
    assert_eq!(s.state(), State::Unbound);
    assert_eq!(tick(&mut s, end + Duration::from_secs(1)), [Output::Close(Ending::Unbound)]);
}

#[test]
fn a_generic_nack_answers_what_it_names() {
    let (mut s, now) = bound(Mode::Transceiver);
    s.send(now, CommandId::DELIVER_SM, 9).unwrap();
    let nack = Header { command: CommandId::GENERIC_NACK, status: Status::INVCMDID, sequence: 1 };
    assert_eq!(
        answer(&mut s, now, nack),
        [Output::Response { header: nack, request: CommandId::DELIVER_SM, token: 9 }]
    );
    assert_eq!(answer(&mut s, now, nack), [Output::Unsolicited(nack)]);
}

#[test]
fn a_broken_stream_is_said_and_closed() {
    let (mut s, now) = bound(Mode::Transceiver);
    s.send(now, CommandId::DELIVER_SM, 9).unwrap();
    let mut sink = Vec::new();
    s.broken(3, &mut sink);
    let said = Header { command: CommandId::GENERIC_NACK, status: Status::INVCMDLEN, sequence: 3 };
    assert_eq!(sink, [Output::Send(said), Output::Unanswered { token: 9 }, Output::Close(Ending::Framing)]);
}

proptest! {
    /// Whatever comes and goes: each message of ours is answered or given up exactly once, and nothing follows the end.
    #[test]
    fn every_message_has_one_outcome(steps in prop::collection::vec((0u8..8, any::<u8>()), 1..200), side in any::<bool>()) {
        let side = if side { C } else { A };
        let mut now = Instant::now();
        let mut s = Session::new(Settings::new(side), now);
        let mut open = std::collections::BTreeSet::new();
        let mut ended = false;
        let commands = [0x09u32, 0x01, 0x02, 0x04, 0x05, 0x06, 0x0b, 0x15, 0x21, 0x102, 0x103, 0x55, 0x8000_0000,
            0x8000_0004, 0x8000_0005, 0x8000_0009, 0x8000_0015, 0x8000_0006];
        for (token, (kind, n)) in steps.into_iter().enumerate() {
            let mut sink = Vec::new();
            let command = CommandId(commands[usize::from(n) % commands.len()]);
            match kind {
                0 | 1 => s.receive(now, Header { command, status: Status(u32::from(n & 1)), sequence: u32::from(n % 16) }, &mut sink),
                2 => { now += Duration::from_millis(u64::from(n) * 200); s.tick(now, &mut sink); }
                3 => s.accept(now),
                4 => s.answered(),
                5 if n > 250 => s.broken(0, &mut sink),
                6 if n > 250 => { s.lost(&mut sink); prop_assert_eq!(s.state(), State::Closed); }
                _ => {
                    let message = CommandId([0x04, 0x05, 0x103, 0x15, 0x09][usize::from(n) % 5]);
                    if s.send(now, message, token as u64).is_ok() {
                        prop_assert!(!ended);
                        open.insert(token as u64);
                    }
                }
            }
            for output in sink {
                match output {
                    Output::Response { token, .. } | Output::Unanswered { token } => prop_assert!(open.remove(&token)),
                    Output::Close(_) => { prop_assert!(!ended); ended = true; }
                    _ => {}
                }
            }
            prop_assert!(s.state() != State::Closed || (open.is_empty() && s.deadline().is_none()));
        }
    }
}
