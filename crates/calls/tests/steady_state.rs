//! What a stateful call takes from the allocator once tables and lists have grown: nothing per header, and little that
//! lingers while retransmissions are absorbed.

#[path = "common/stage.rs"]
mod stage;

use std::time::Duration;

const CALLS: i64 = 300;

#[test]
fn a_call_takes_few_pieces_of_memory_whatever_came_before() {
    watch(stage::Stage::open(), 52, 5000);
}

#[test]
fn a_dialog_adds_little_to_a_call() {
    watch(stage::Stage::with_dialogs(), 76, 7000);
}

fn watch(mut stage: stage::Stage, most_pieces: i64, most_lingering: i64) {
    (0..CALLS).for_each(|_| stage.call());
    stage.pass(Duration::from_secs(40));
    stage.memory();
    (0..CALLS).for_each(|_| stage.call());
    let during = stage.memory();
    stage.pass(Duration::from_secs(40));
    let after = stage.memory();
    let pieces = during.taken / CALLS;
    let linger = (after.returned - after.bytes) / CALLS;
    assert!(pieces <= most_pieces, "{pieces} pieces of memory for the 13 datagrams of a call");
    assert!(linger <= most_lingering, "{linger} bytes linger after a call");
}
