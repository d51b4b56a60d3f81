//! The server's own share of a stateful call of 13 datagrams: time, pieces of memory, and bytes that linger.
//!
//! `CALLS` sets how many calls a round has.

#![allow(missing_docs)]

#[path = "../tests/common/stage.rs"]
mod stage;

use std::time::Duration;

fn main() {
    let mut stage = stage::Stage::open();
    let calls = std::env::var("CALLS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    for _ in 0..3 {
        (0..calls).for_each(|_| stage.call());
        let taken = stage.memory();
        stage.pass(Duration::from_secs(40));
        let after = stage.memory();
        let per = |n: i64| n as f64 / f64::from(calls);
        println!(
            "a call: {:.2} us, {:.1} pieces of memory, {:.0} bytes; {:.0} bytes linger",
            stage.took.take().as_secs_f64() * 1e6 / f64::from(calls),
            per(taken.taken),
            per(taken.bytes),
            per(after.returned - after.bytes)
        );
    }
}
