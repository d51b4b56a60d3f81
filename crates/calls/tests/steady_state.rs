//! What a stateful call takes from the allocator once tables and lists have grown: nothing per header, and little that
//! lingers while retransmissions are absorbed.

#[path = "common/stage.rs"]
mod stage;

use std::time::Duration;

const CALLS: i64 = 300;

#[test]
fn a_call_takes_few_pieces_of_memory_whatever_came_before() {
    let mut stage = stage::Stage::open();
    (0..CALLS).for_each(|_| stage.call());
    stage.pass(Duration::from_secs(40));
    stage.memory();
    (0..CALLS).for_each(|_| stage.call());
    let during = stage.memory();
    stage.pass(Duration::from_secs(40));
    let after = stage.memory();
    let pieces = during.taken / CALLS;
    let linger = (after.returned - after.bytes) / CALLS;
    assert!(pieces <= 52, "{pieces} pieces of memory for the 13 datagrams of a call");
    assert!(linger <= 5000, "{linger} bytes linger after a call");
}
