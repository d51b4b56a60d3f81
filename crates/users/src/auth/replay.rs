//! Which nonces were used, and with which counts (RFC 7616 §3.4.5, §5.5), so that no answer works twice.
//!
//! Only nonces that came with the right password get here, so nobody else can fill the table or use up a nonce. Two
//! generations, changed every lifetime of a nonce, forget what can no longer be fresh without looking through it.

use std::collections::HashMap;

use parking_lot::Mutex;

const STRIPES: usize = 16;

/// Entries of one generation in one stripe; beyond that no nonce is accepted until the next generation.
const MAX_ENTRIES: usize = 1 << 16;

/// The table, shared by all workers: the same nonce may come in on any of them.
pub struct Used {
    stripes: [Mutex<Stripe>; STRIPES],
    lifetime: u64,
}

#[derive(Default)]
struct Stripe {
    generation: u64,
    new: HashMap<u64, Counts, foldhash::fast::RandomState>,
    old: HashMap<u64, Counts, foldhash::fast::RandomState>,
}

/// Counts seen with one nonce: the highest, and which of the 64 up to it.
#[derive(Clone, Copy)]
struct Counts {
    top: u32,
    seen: u64,
    /// Which request used `top`.
    request: u64,
}

impl Used {
    /// For nonces that live so many seconds.
    pub fn new(lifetime: u32) -> Used {
        // One second more: a nonce is good for the whole second in which it expires.
        Used { stripes: Default::default(), lifetime: u64::from(lifetime) + 1 }
    }

    /// Mark a nonce as used with this count (0 without qop). False when it was before, except by the very same request:
    /// a retransmission is no replay. `request` is a hash of all its bytes.
    pub fn mark(&self, serial: u64, count: u32, request: u64, now: u64) -> bool {
        let mut stripe = self.stripes[serial as usize % STRIPES].lock();
        stripe.turn(now / self.lifetime);
        if let Some(counts) = stripe.new.get_mut(&serial) {
            return counts.mark(count, request);
        }
        if stripe.new.len() >= MAX_ENTRIES {
            tracing::warn!("too many nonces in use; a correct answer is challenged again");
            return false;
        }
        let (counts, good) = match stripe.old.get(&serial) {
            Some(known) => {
                let mut counts = *known;
                let good = counts.mark(count, request);
                (counts, good)
            }
            None => (Counts { top: count, seen: 1, request }, true),
        };
        stripe.new.insert(serial, counts);
        good
    }
}

impl Stripe {
    fn turn(&mut self, generation: u64) {
        match generation.saturating_sub(self.generation) {
            0 => return,
            1 => self.old = std::mem::take(&mut self.new),
            _ => {
                self.old.clear();
                self.new.clear();
            }
        }
        self.generation = generation;
    }
}

impl Counts {
    fn mark(&mut self, count: u32, request: u64) -> bool {
        if count > self.top {
            let by = count - self.top;
            self.seen = if by < 64 { self.seen << by | 1 } else { 1 };
            (self.top, self.request) = (count, request);
            return true;
        }
        if count == self.top && request == self.request {
            return true;
        }
        // Counts may overtake each other on the way, but not by more than the window.
        let behind = self.top - count;
        if behind >= 64 || self.seen & 1 << behind != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_works_once() {
        let u = Used::new(30);
        assert!(u.mark(7, 1, 100, 0));
        assert!(!u.mark(7, 1, 101, 1));
        assert!(u.mark(7, 2, 102, 1));
        assert!(u.mark(8, 1, 103, 1));
    }

    #[test]
    fn a_retransmission_is_no_replay() {
        let u = Used::new(30);
        assert!(u.mark(7, 1, 100, 0) && u.mark(7, 1, 100, 0));
        assert!(u.mark(7, 2, 101, 0));
        assert!(!u.mark(7, 1, 100, 0));
    }

    #[test]
    fn without_qop_a_nonce_works_once() {
        let u = Used::new(30);
        assert!(u.mark(7, 0, 1, 0));
        assert!(!u.mark(7, 0, 2, 0));
    }

    #[test]
    fn counts_may_overtake_each_other_within_the_window() {
        let u = Used::new(30);
        assert!(u.mark(7, 5, 1, 0) && u.mark(7, 3, 2, 0) && u.mark(7, 4, 3, 0));
        assert!(!u.mark(7, 3, 4, 0));
        assert!(u.mark(7, 200, 5, 0));
        assert!(!u.mark(7, 136, 6, 0));
        assert!(u.mark(7, 137, 7, 0));
    }

    #[test]
    fn what_was_used_is_known_for_the_lifetime_of_a_nonce() {
        let u = Used::new(30);
        assert!(u.mark(7, 1, 1, 30));
        assert!(!u.mark(7, 1, 2, 60));
        assert!(u.stripes.iter().map(|s| s.lock().new.len()).sum::<usize>() == 1);
        assert!(u.mark(7 + STRIPES as u64, 1, 1, 1000));
        let stripe = u.stripes[7].lock();
        assert_eq!((stripe.new.len(), stripe.old.len()), (1, 0));
    }
}
