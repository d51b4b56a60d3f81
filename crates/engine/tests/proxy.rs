//! Forking, cancelling, waiting and failing over (RFC 3261 §16.7–16.10, RFC 3263 §4.3).

mod common;

use common::{Options, World};
use switchroom_engine::proxy::{AddError, Cancel};

#[test]
fn one_branch_rings_and_answers() {
    let mut w = World::invite();
    w.add().unwrap();
    w.route_done();
    w.reply(0, 100);
    w.reply(0, 180);
    w.reply(0, 200);
    w.reply(0, 200);
    assert!(!w.tx.takes_ack());
    assert_eq!(w.take(), ["request 0", "relay 180 of 0", "relay 200 of 0", "relay 200 of 0"]);
    w.pass(40_000);
    assert_eq!(w.take(), ["done"]);
}

#[test]
fn failure_is_acknowledged_relayed_and_repeated_until_its_ack() {
    let mut w = World::forked(1);
    w.reply(0, 486);
    assert_eq!(w.take(), ["ACK 0", "failed 486 of 0", "relay 486 of 0"]);
    assert!(w.tx.takes_ack());
    w.reply(0, 486);
    assert_eq!(w.take(), ["ACK 0"]);
    w.pass(600);
    assert_eq!(w.take(), ["relay 486 of 0"]);
    w.run(|tx, now, sink| tx.ack(now, sink));
    w.pass(60_000);
    assert_eq!(w.take(), ["done"]);
}

#[test]
fn retransmitted_request_gets_the_last_reply() {
    let mut w = World::forked(1);
    w.run(|tx, now, sink| tx.retransmission(now, sink));
    assert!(w.take().is_empty());
    w.send(100);
    w.run(|tx, now, sink| tx.retransmission(now, sink));
    w.reply(0, 180);
    w.run(|tx, now, sink| tx.retransmission(now, sink));
    assert_eq!(w.take(), ["own 100", "own 100", "relay 180 of 0", "relay 180 of 0"]);
}

#[test]
fn parallel_forking_waits_for_all_and_relays_the_best() {
    let mut w = World::forked(3);
    w.reply(0, 503);
    w.reply(1, 404);
    assert_eq!(w.take(), ["ACK 0", "ACK 1"]);
    w.reply(2, 407);
    assert_eq!(w.take(), ["ACK 2", "failed 407 of 2", "relay 407 of 2"]);
}

#[test]
fn an_answer_cancels_the_other_branches() {
    let mut w = World::forked(3);
    w.reply(0, 180);
    w.take();
    w.reply(1, 200);
    assert_eq!(w.take(), ["relay 200 of 1", "CANCEL 0"]);
    // The third was not heard of yet: its CANCEL waits for a provisional reply.
    w.reply(2, 183);
    assert_eq!(w.take(), ["CANCEL 2"]);
    w.reply_to(0, 200, "CANCEL");
    w.reply(0, 487);
    assert_eq!(w.take(), ["ACK 0"]);
    // A race: the third answered before the CANCEL came.
    w.reply(2, 200);
    assert_eq!(w.take(), ["relay 200 of 2"]);
}

#[test]
fn multi_200_relays_every_answer_and_cancels_nothing() {
    let mut w =
        World::new(Options { invite: true, multi_200: true, plain_failure: true, ..Options::default() });
    w.add().unwrap();
    w.add().unwrap();
    w.route_done();
    w.reply(1, 180);
    w.reply(0, 200);
    w.reply(1, 200);
    assert_eq!(w.take()[2..], ["relay 180 of 1", "relay 200 of 0", "relay 200 of 1"]);
}

#[test]
fn cancel_before_provisional_waits_for_1xx() {
    let mut w = World::forked(1);
    assert!(w.cancel());
    assert!(!w.cancel());
    assert!(w.take().is_empty());
    w.reply(0, 100);
    assert_eq!(w.take(), ["CANCEL 0"]);
    w.pass(1600);
    assert_eq!(w.take(), ["CANCEL 0", "CANCEL 0"]);
    w.reply_to(0, 200, "CANCEL");
    w.reply(0, 487);
    assert_eq!(w.take(), ["ACK 0", "failed 487 of 0", "relay 487 of 0"]);
    assert_eq!(w.add(), Err(AddError::Final));
}

#[test]
fn request_terminated_wins_after_cancel_even_over_6xx_class_order() {
    let mut w = World::forked(2);
    w.reply(0, 180);
    w.reply(1, 180);
    w.reply(0, 404);
    w.cancel();
    w.take();
    w.reply(1, 487);
    assert_eq!(w.take(), ["ACK 1", "failed 487 of 1", "relay 487 of 1"]);
}

#[test]
fn a_peer_that_ignores_cancel_is_given_up_after_64_t1() {
    let mut w = World::forked(1);
    w.reply(0, 180);
    w.cancel();
    w.reply_to(0, 200, "CANCEL");
    w.take();
    w.pass(32_000);
    assert_eq!(w.take(), ["failed 487 of 0", "own 487"]);
}

#[test]
fn silence_times_out_with_408() {
    let mut w = World::forked(1);
    w.pass(29_999);
    assert!(w.take().iter().all(|s| s == "request 0"));
    w.pass(1);
    assert_eq!(w.take(), ["failed 408 of 0", "own 408"]);
}

#[test]
fn ringing_too_long_is_cancelled_and_a_late_answer_still_relayed() {
    let mut w = World::forked(1);
    w.reply(0, 180);
    w.take();
    w.pass(120_000);
    assert_eq!(w.take(), ["CANCEL 0", "failed 408 of 0", "own 408"]);
    w.reply(0, 200);
    assert!(w.take().contains(&"relay 200 of 0".to_owned()));
}

#[test]
fn a_6xx_wins_at_once_and_forbids_new_branches() {
    let mut w = World::new(Options { invite: true, ..Options::default() });
    for _ in 0..3 {
        w.add().unwrap();
    }
    w.route_done();
    w.reply(0, 180);
    w.take();
    w.reply(1, 603);
    assert_eq!(w.take(), ["ACK 1", "CANCEL 0", "failed 603 of 1"]);
    assert_eq!(w.add(), Err(AddError::Blocked));
    w.route_done();
    assert_eq!(w.take(), ["relay 603 of 1"]);
    w.reply(0, 487);
    assert_eq!(w.take(), ["ACK 0"]);
}

#[test]
fn a_6xx_is_a_reply_like_any_other_when_allowed() {
    let mut w = World::new(Options { invite: true, allow_after_6xx: true, ..Options::default() });
    w.add().unwrap();
    w.add().unwrap();
    w.route_done();
    w.reply(0, 603);
    w.reply(1, 404);
    assert_eq!(w.take()[2..], ["ACK 0", "ACK 1", "failed 603 of 0"]);
    assert_eq!(w.add(), Ok(2));
}

#[test]
fn serial_forking_chooses_within_the_last_step_only() {
    let mut w = World::new(Options { invite: true, ..Options::default() });
    w.add().unwrap();
    w.route_done();
    w.reply(0, 302);
    assert_eq!(w.take(), ["request 0", "ACK 0", "failed 302 of 0"]);
    w.add().unwrap();
    w.add().unwrap();
    w.route_done();
    w.reply(1, 486);
    w.reply(2, 500);
    assert_eq!(w.take(), ["request 1", "request 2", "ACK 1", "ACK 2", "failed 486 of 1"]);
    w.route_done();
    assert_eq!(w.take(), ["relay 486 of 1"]);
}

#[test]
fn a_failure_route_that_replies_ends_it() {
    let mut w = World::new(Options { invite: true, ..Options::default() });
    w.add().unwrap();
    w.route_done();
    w.reply(0, 486);
    w.take();
    w.send(480);
    w.route_done();
    assert_eq!(w.take(), ["own 480"]);
    assert_eq!(w.add(), Err(AddError::Final));
}

#[test]
fn nothing_is_decided_while_a_route_still_adds_branches() {
    let mut w = World::invite();
    w.add().unwrap();
    w.reply(0, 404);
    w.run(|tx, now, sink| tx.transport_error(now, 0, sink));
    w.add().unwrap();
    w.route_done();
    assert_eq!(w.take(), ["request 0", "ACK 0", "request 1"]);
    w.reply(1, 486);
    assert_eq!(w.take(), ["ACK 1", "failed 404 of 0", "relay 404 of 0"]);
}

#[test]
fn a_transaction_without_branch_and_reply_is_released_silently() {
    let mut w = World::invite();
    w.route_done();
    assert_eq!(w.take(), ["done"]);
    assert!(w.tx.is_done() && w.tx.deadline().is_none());
}

#[test]
fn cancel_while_the_request_route_waits_gets_487() {
    let mut w = World::invite();
    assert!(w.cancel());
    assert_eq!(w.add(), Err(AddError::Cancelled));
    w.route_done();
    assert_eq!(w.take(), ["own 487"]);
}

#[test]
fn other_targets_are_tried_on_timeout_503_and_transport_error() {
    let mut w = World::invite();
    w.targets = 3;
    w.add_with(true, false).unwrap();
    w.route_done();
    w.run(|tx, now, sink| tx.transport_error(now, 0, sink));
    assert_eq!(w.take(), ["request 0", "next 0", "request 1"]);
    w.reply(1, 503);
    assert_eq!(w.take(), ["ACK 1", "next 1", "request 2"]);
    w.pass(30_000);
    assert_eq!(w.take().iter().filter(|s| *s != "request 2").collect::<Vec<_>>(), ["next 2", "request 3"]);
    w.reply(3, 503);
    assert_eq!(w.take(), ["ACK 3", "failed 503 of 3", "relay 503 of 3"]);
}

#[test]
fn no_other_target_means_the_branch_failed() {
    let mut w = World::invite();
    w.add_with(true, false).unwrap();
    w.route_done();
    w.run(|tx, now, sink| tx.transport_error(now, 0, sink));
    assert_eq!(w.take(), ["request 0", "next 0", "failed 503 of 0", "own 503"]);
}

#[test]
fn a_placeholder_holds_the_transaction_for_injected_branches() {
    let mut w = World::invite();
    w.add().unwrap();
    w.wait(None).unwrap();
    w.route_done();
    w.reply(0, 486);
    assert_eq!(w.take(), ["request 0", "ACK 0"]);
    assert_eq!(w.add(), Ok(2));
    w.reply(2, 404);
    assert_eq!(w.take(), ["request 2", "ACK 2"]);
    assert!(w.run(|tx, now, sink| tx.stop_waiting(now, sink)));
    assert_eq!(w.take(), ["failed 404 of 2", "relay 404 of 2"]);
}

#[test]
fn a_placeholder_ends_with_the_announced_number_of_branches() {
    let mut w = World::invite();
    w.wait(Some(2)).unwrap();
    w.route_done();
    w.add().unwrap();
    w.reply(1, 486);
    w.add().unwrap();
    assert_eq!(w.take(), ["request 1", "ACK 1", "request 2"]);
    w.reply(2, 480);
    assert_eq!(w.take(), ["ACK 2", "failed 480 of 2", "relay 480 of 2"]);
}

#[test]
fn a_placeholder_times_out_as_408_and_ends_with_an_answer_or_cancel() {
    let mut w = World::invite();
    w.wait(None).unwrap();
    w.route_done();
    w.pass(120_000);
    assert_eq!(w.take(), ["failed 408 of 0", "own 408"]);

    let mut w = World::invite();
    w.add().unwrap();
    w.wait(None).unwrap();
    w.route_done();
    w.reply(0, 200);
    w.pass(40_000);
    assert_eq!(w.take(), ["request 0", "relay 200 of 0", "done"]);

    let mut w = World::invite();
    w.wait(None).unwrap();
    w.route_done();
    w.cancel();
    assert_eq!(w.take(), ["failed 487 of 0", "own 487"]);
}

#[test]
fn any_request_waits_for_branches_no_longer_than_its_sender_does() {
    let mut w = World::new(Options::default());
    w.wait(None).unwrap();
    w.route_done();
    w.pass(29_000);
    assert!(w.take().is_empty());
    w.pass(2_000);
    assert_eq!(w.take(), ["failed 408 of 0"]);
}

#[test]
fn minor_branches_do_not_hold_the_transaction() {
    let mut w = World::invite();
    w.add().unwrap();
    w.add_with(false, true).unwrap();
    w.route_done();
    w.reply(1, 180);
    w.take();
    w.reply(0, 404);
    assert_eq!(w.take(), ["ACK 0", "CANCEL 1", "failed 404 of 0", "relay 404 of 0"]);
    w.reply(1, 487);
    assert_eq!(w.take(), ["ACK 1"]);
}

#[test]
fn single_branches_can_be_cancelled() {
    let mut w = World::forked(3);
    (0..3).for_each(|b| w.reply(b, 180));
    w.take();
    w.run(|tx, now, sink| tx.cancel_branches(now, Cancel::One(1), b"", sink));
    w.run(|tx, now, sink| tx.cancel_branches(now, Cancel::AllBut(2), b"", sink));
    assert_eq!(w.take(), ["CANCEL 1", "CANCEL 0"]);
    w.run(|tx, now, sink| tx.cancel_branches(now, Cancel::Before(2), b"", sink));
    assert_eq!(w.take(), [""; 0]);
    w.run(|tx, now, sink| tx.cancel_branches(now, Cancel::Before(3), b"", sink));
    assert_eq!(w.take(), ["CANCEL 2"]);
}

#[test]
fn a_local_reply_cancels_what_is_pending() {
    let mut w = World::forked(1);
    w.reply(0, 180);
    w.take();
    w.send(480);
    assert_eq!(w.take(), ["own 480", "CANCEL 0"]);
}

#[test]
fn other_requests_relay_one_final_reply_and_send_no_ack_or_cancel() {
    let mut w = World::new(Options { plain_failure: true, ..Options::default() });
    w.add().unwrap();
    w.add().unwrap();
    w.route_done();
    w.reply(0, 404);
    w.reply(1, 200);
    assert_eq!(w.take(), ["request 0", "request 1", "relay 200 of 1"]);
    assert!(!w.cancel());
    w.pass(60_000);
    assert_eq!(w.take(), ["done"]);
}

#[test]
fn timeouts_can_be_changed_while_they_run() {
    let mut w = World::forked(1);
    w.tx.settings_mut().timing.fr = 1_000;
    w.run(|tx, now, _| tx.restart_timeouts(now));
    w.pass(1_000);
    assert_eq!(w.take().last().unwrap(), "own 408");
}
