//! Messages between the same two, one after the other.
//!
//! Who waits here has a peer that waits for an answer, so the windows of the connections are the bound.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

/// Sender and recipient.
type Between = (Vec<u8>, Vec<u8>);

/// Sends, or with false gives up. Whether it was sent, so that [`Lines::over`] will be called.
pub(super) type Send = Box<dyn FnOnce(bool) -> bool + std::marker::Send>;

/// Those that are under way, with those behind them.
#[derive(Default)]
pub(super) struct Lines(Mutex<HashMap<Between, VecDeque<Send>>>);

impl Lines {
    /// One more; it is sent at once when none is under way between the two.
    pub fn enter(&self, between: Between, send: Send) {
        match self.0.lock().entry(between.clone()) {
            Entry::Occupied(mut line) => return line.get_mut().push_back(send),
            Entry::Vacant(none) => none.insert(VecDeque::new()),
        };
        if !send(true) {
            self.over(&between, true);
        }
    }

    /// The one under way is over. When it found nobody, those behind it give up as well.
    pub fn over(&self, between: &Between, go: bool) {
        loop {
            let next = {
                let mut all = self.0.lock();
                match all.get_mut(between).and_then(VecDeque::pop_front) {
                    Some(next) => next,
                    None => {
                        all.remove(between);
                        return;
                    }
                }
            };
            if next(go) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn one_is_under_way_at_a_time_and_a_failure_ends_those_behind_it() {
        let lines = Lines::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let enter = |n: u32, posted: bool| {
            let seen = seen.clone();
            let send = move |go: bool| {
                seen.lock().push((n, go));
                go && posted
            };
            lines.enter((b"a".to_vec(), b"b".to_vec()), Box::new(send));
        };
        let between = (b"a".to_vec(), b"b".to_vec());
        let take = || std::mem::take(&mut *seen.lock());
        enter(1, true);
        enter(2, false);
        enter(3, true);
        enter(4, true);
        enter(5, true);
        assert_eq!(take(), [(1, true)]);
        lines.over(&between, true);
        assert_eq!(take(), [(2, true), (3, true)], "the second could not be sent");
        lines.over(&between, false);
        assert_eq!(take(), [(4, false), (5, false)]);
        assert!(lines.0.lock().is_empty());
        enter(6, false);
        assert!(lines.0.lock().is_empty());
    }
}
