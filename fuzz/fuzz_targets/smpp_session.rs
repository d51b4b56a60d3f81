//! An SMPP session of either side under any events: PDUs, sends, answers, time. Windows hold, every request of ours ends exactly
//! once, and nothing follows the end.

#![no_main]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use switchroom_engine::smpp_session::{Output, Session, Settings, Side};
use switchroom_wire::smpp::{CommandId, Header, Status};

const COMMANDS: [CommandId; 12] = [
    CommandId::BIND_RECEIVER,
    CommandId::BIND_TRANSMITTER,
    CommandId::BIND_TRANSCEIVER,
    CommandId::SUBMIT_SM,
    CommandId::DELIVER_SM,
    CommandId::DATA_SM,
    CommandId::UNBIND,
    CommandId::ENQUIRE_LINK,
    CommandId::OUTBIND,
    CommandId::QUERY_SM,
    CommandId::ALERT_NOTIFICATION,
    CommandId(0x1234),
];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, events)) = bytes.split_first() else { return };
    let side = if first & 1 == 0 { Side::Application } else { Side::Centre };
    let mut now = Instant::now();
    let settings =
        Settings { window_out: 4, window_in: 4, inactivity: Some(Duration::from_secs(90)), ..Settings::new(side) };
    let mut session = Session::new(settings, now);
    let (mut open, mut unbinds) = (HashSet::new(), HashSet::new());
    let (mut token, mut sink, mut closed) = (0u64, Vec::new(), false);
    for event in events.chunks_exact(2) {
        let (what, detail) = (event[0], event[1]);
        let command = COMMANDS[usize::from(detail) % COMMANDS.len()];
        match what % 8 {
            0 | 1 => {
                token += 1;
                if session.send(now, command, token).is_ok() {
                    assert!(!closed);
                    unbinds.extend((command == CommandId::UNBIND).then_some(token));
                    // The answer to an unbind is the end of the session, and nothing else.
                    if command.response().is_some() && command != CommandId::UNBIND {
                        open.insert(token);
                    }
                }
                assert!(session.unanswered() <= 4);
            }
            2 | 3 => {
                let header = Header { command, status: Status::OK, sequence: u32::from(what) };
                if session.may_read() {
                    session.receive(now, header, &mut sink);
                }
            }
            4 => {
                let command = command.response().unwrap_or(CommandId::GENERIC_NACK);
                let status = if detail & 0x80 == 0 { Status::OK } else { Status::SYSERR };
                let header = Header { command, status, sequence: u32::from(detail >> 4) };
                session.receive(now, header, &mut sink);
            }
            5 => session.accept(now),
            6 => session.answered(),
            _ => {
                now += Duration::from_secs(u64::from(detail));
                session.tick(now, &mut sink);
            }
        }
        for output in sink.drain(..) {
            assert!(!closed, "something follows the end");
            match output {
                Output::Response { token, .. } | Output::Unanswered { token } => {
                    assert!(open.remove(&token) || unbinds.remove(&token));
                }
                Output::Close(_) => closed = true,
                _ => {}
            }
        }
        if closed {
            assert!(session.deadline().is_none());
        }
    }
    session.lost(&mut sink);
    for output in sink.drain(..) {
        if let Output::Unanswered { token } = output {
            assert!(open.remove(&token) || unbinds.remove(&token));
        }
    }
    assert!(open.is_empty(), "{open:?} never ended");
});
