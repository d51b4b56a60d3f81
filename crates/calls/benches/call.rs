//! The server's own share of a stateful call of 13 datagrams, with and without a dialog: time, pieces of memory, and bytes that
//! linger.
//!
//! `CALLS` sets how many calls a round has; an argument (`call`, `dialog`) chooses one of the two.

#![allow(missing_docs)]

#[path = "../tests/common/stage.rs"]
mod stage;

use std::time::Duration;

fn main() {
    let chosen = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    for (name, open) in [("call", stage::Stage::open as fn() -> _), ("dialog", stage::Stage::with_dialogs)] {
        if chosen.as_deref().is_none_or(|c| c == name) {
            measure(name, open());
        }
    }
}

fn measure(name: &str, mut stage: stage::Stage) {
    let calls = std::env::var("CALLS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    for _ in 0..3 {
        (0..calls).for_each(|_| stage.call());
        let taken = stage.memory();
        stage.pass(Duration::from_secs(40));
        let after = stage.memory();
        let per = |n: i64| n as f64 / f64::from(calls);
        println!(
            "a {name}: {:.2} us, {:.1} pieces of memory, {:.0} bytes; {:.1} pieces, {:.0} bytes linger",
            stage.took.take().as_secs_f64() * 1e6 / f64::from(calls),
            per(taken.taken),
            per(taken.bytes),
            per(after.pieces_returned),
            per(after.returned - after.bytes)
        );
    }
}
