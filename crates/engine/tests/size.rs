//! What a pending transaction costs in memory.

use switchroom_engine::proxy::Transaction;
use switchroom_engine::transaction::{client, server};
use switchroom_wire::sip::Message;

#[test]
fn a_pending_transaction_with_one_branch_is_small() {
    assert!(size_of::<client::Machine>() <= 48);
    assert!(size_of::<server::Machine>() <= 48);
    assert!(size_of::<Transaction<Box<Message>, u32>>() <= 512);
}
