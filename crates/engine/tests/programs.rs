//! Generated event programs with the invariants of a proxy: exactly one final answer, nothing after the end, every failure of
//! an INVITE acknowledged, no CANCEL before a provisional reply.

mod common;

use common::{Options, World};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    Add { more: bool, minor: bool },
    Wait(Option<usize>),
    StopWaiting,
    RouteDone,
    Reply { branch: usize, code: u16 },
    CancelReply { branch: usize, code: u16 },
    Retransmission,
    Ack,
    Cancel,
    Send(u16),
    TransportError(usize),
    Pass(u64),
}

fn code() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![100, 180, 183, 200, 200, 302, 401, 404, 486, 487, 500, 503, 603])
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(more, minor)| Event::Add { more, minor }),
        1 => prop::option::of(0usize..3).prop_map(Event::Wait),
        1 => Just(Event::StopWaiting),
        4 => Just(Event::RouteDone),
        9 => (0usize..5, code()).prop_map(|(branch, code)| Event::Reply { branch, code }),
        1 => (0usize..5, code()).prop_map(|(branch, code)| Event::CancelReply { branch, code }),
        1 => Just(Event::Retransmission),
        1 => Just(Event::Ack),
        1 => Just(Event::Cancel),
        1 => code().prop_map(Event::Send),
        1 => (0usize..5).prop_map(Event::TransportError),
        3 => prop::sample::select(vec![1u64, 300, 600, 5_000, 31_000, 125_000]).prop_map(Event::Pass),
    ]
}

fn apply(w: &mut World, event: &Event) {
    match *event {
        Event::Add { more, minor } => drop(w.add_with(more, minor)),
        Event::Wait(n) => drop(w.wait(n)),
        Event::StopWaiting => drop(w.run(|tx, now, sink| tx.stop_waiting(now, sink))),
        Event::RouteDone => w.route_done(),
        Event::Reply { branch, code } => w.reply(branch, code),
        Event::CancelReply { branch, code } => w.reply_to(branch, code, "CANCEL"),
        Event::Retransmission => w.run(|tx, now, sink| tx.retransmission(now, sink)),
        Event::Ack => w.run(|tx, now, sink| tx.ack(now, sink)),
        Event::Cancel => drop(w.cancel()),
        Event::Send(code) => w.send(code),
        Event::TransportError(branch) => w.run(|tx, now, sink| tx.transport_error(now, branch, sink)),
        Event::Pass(ms) => w.pass(ms),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_program_keeps_the_invariants(
        invite: bool, reliable: bool, multi_200: bool, allow_after_6xx: bool, plain_failure: bool, targets in 0usize..4,
        events in prop::collection::vec(event(), 1..40)
    ) {
        let mut w = World::new(Options { invite, reliable, multi_200, allow_after_6xx, plain_failure });
        w.targets = targets;
        let (mut ended, mut added, mut answered) = (false, false, false);
        let mut finals: Vec<u16> = Vec::new();
        let mut heard = [false; 80];
        let mut acked = [false; 80];
        let tail = [Event::RouteDone, Event::Pass(400_000), Event::RouteDone, Event::Pass(400_000), Event::RouteDone,
            Event::Pass(400_000)];
        for event in events.iter().chain(&tail) {
            let open = matches!(event, Event::Reply { branch, .. } if w.tx.branches().get(*branch).is_some_and(|b| !b.request().is_empty() && b.last_code() < 200 && b.is_pending()));
            if let Event::Reply { branch, .. } = event {
                heard[*branch] = true;
            }
            let was_final = w.tx.is_final();
            apply(&mut w, event);
            added |= !w.tx.branches().is_empty();
            let seen = w.take();
            prop_assert!(!ended || seen.is_empty(), "after the end: {:?}", seen);
            for line in &seen {
                let words: Vec<&str> = line.split(' ').collect();
                match words[..] {
                    ["CANCEL", branch] => prop_assert!(invite && heard[branch.parse::<usize>().unwrap()]),
                    ["ACK", branch] => { prop_assert!(invite); acked[branch.parse::<usize>().unwrap()] = true; }
                    ["done"] => ended = true,
                    _ => {}
                }
            }
            if w.tx.is_final() && !was_final {
                answered = true;
                finals.push(w.tx.last_code());
            }
            if let Event::Reply { branch, code: 300.. } = event && invite && open {
                prop_assert!(acked[*branch], "final reply not acknowledged");
            }
        }
        prop_assert!(ended, "never ended: {:?}", w.tx);
        prop_assert!(answered || !added, "no final answer");
        prop_assert!(finals.len() <= 1, "two final answers: {:?}", finals);
        prop_assert!(w.tx.deadline().is_none());
    }
}
