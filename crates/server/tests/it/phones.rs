//! Two real phones: they register with passwords, call each other through the server, hear each other and hang up.

use std::time::Duration;

use switchroom_testkit::Phone;

use crate::support::{DIGEST_CALL, DIGEST_REGISTER, PROXY, Setup};

#[test]
fn two_baresip_phones_register_call_hear_each_other_and_hang_up() {
    let house = Setup::new(&[PROXY, DIGEST_REGISTER, DIGEST_CALL])
        .user("alice", "wonderland")
        .user("bob", "zanzibar")
        .start();
    let mut alice = Phone::builder("alice", "wonderland", house.addr).domain("127.0.0.1").start();
    let mut bob = Phone::builder("bob", "zanzibar", house.addr).domain("127.0.0.1").tcp().start();
    assert!(alice.is_registered(Duration::from_secs(10)), "{:?}", alice.log().lines());
    assert!(bob.is_registered(Duration::from_secs(10)), "{:?}", bob.log().lines());
    alice.dial("sip:bob@127.0.0.1");
    bob.expect_event("CALL_INCOMING");
    bob.accept();
    alice.expect_sound();
    bob.expect_sound();
    bob.hang_up();
    alice.expect_event("CALL_CLOSED");
}
