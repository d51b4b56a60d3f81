//! A timer wheel: one deadline for each token, set and moved in constant time.
//!
//! A deadline that moves later costs nothing: the entry stays and is looked at again when it comes up. Deadlines are
//! rounded up to whole ticks, so a timer never fires early.

use std::time::{Duration, Instant};

/// Deadlines of many machines, each named by a small number.
#[derive(Debug)]
pub struct Wheel {
    start: Instant,
    tick: Duration,
    /// The last tick that was looked at.
    now: u64,
    slots: Vec<Vec<Entry>>,
    /// A bit for each slot that may hold something.
    used: Vec<u64>,
    timers: Vec<Timer>,
    armed: usize,
    spare: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    token: u32,
    at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    due: u64,
    /// Where the token's valid entry is; other entries of the token are left over.
    queued: u64,
}

const NEVER: u64 = u64::MAX;

impl Wheel {
    /// A wheel that begins at `start`, with ticks of this length (1 ms at least) and this number of slots (1 at least).
    #[must_use]
    pub fn new(start: Instant, tick: Duration, slots: usize) -> Wheel {
        Wheel {
            start,
            tick: tick.max(Duration::from_millis(1)),
            now: 0,
            slots: vec![Vec::new(); slots.max(1)],
            used: vec![0; slots.max(1).div_ceil(64)],
            timers: Vec::new(),
            armed: 0,
            spare: Vec::new(),
        }
    }

    /// Number of tokens with a deadline.
    #[must_use]
    pub fn armed(&self) -> usize {
        self.armed
    }

    /// When to look again: the next moment at which something may be due, the same until then unless an earlier deadline is set.
    /// `None` without any deadline.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        if self.armed == 0 {
            return None;
        }
        let slots = self.slots.len();
        let first = ((self.now + 1) % slots as u64) as usize;
        // The slots from `first` on, then those before it.
        let words = self.used.len();
        let found = (0..=words).find_map(|i| {
            let word = (first / 64 + i) % words;
            let mut bits = self.used[word];
            if i == 0 {
                bits &= u64::MAX << (first % 64);
            }
            (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
        })?;
        let ticks = self.now + 1 + ((found + slots - first) % slots) as u64;
        Some(self.start + Duration::from_millis(ticks * self.tick.as_millis() as u64))
    }

    /// Sets, moves or (with `None`) clears the deadline of a token. Tokens are indexes: memory grows with the largest.
    pub fn set(&mut self, token: u32, deadline: Option<Instant>) {
        let index = token as usize;
        if index >= self.timers.len() {
            if deadline.is_none() {
                return;
            }
            self.timers.resize(index + 1, Timer { due: NEVER, queued: NEVER });
        }
        let due = deadline.map_or(NEVER, |d| self.tick_of(d).max(self.now + 1));
        let timer = &mut self.timers[index];
        self.armed = self.armed + usize::from(due != NEVER) - usize::from(timer.due != NEVER);
        timer.due = due;
        if due < timer.queued {
            timer.queued = due;
            self.queue(Entry { token, at: due });
        }
    }

    /// Moves to `now` and names every token whose deadline has come; its deadline is cleared.
    pub fn advance(&mut self, now: Instant, mut fire: impl FnMut(u32)) {
        let target =
            now.saturating_duration_since(self.start).as_millis() as u64 / self.tick.as_millis() as u64;
        // After a long pause every slot is looked at once.
        let first = (self.now + 1).max((target + 1).saturating_sub(self.slots.len() as u64));
        for tick in first..=target {
            let slot = (tick % self.slots.len() as u64) as usize;
            if self.slots[slot].is_empty() {
                continue;
            }
            self.used[slot / 64] &= !(1 << (slot % 64));
            let mut entries = std::mem::replace(&mut self.slots[slot], std::mem::take(&mut self.spare));
            self.now = self.now.max(tick);
            for entry in entries.drain(..) {
                self.look_at(entry, target, &mut fire);
            }
            self.spare = entries;
        }
        self.now = self.now.max(target);
    }

    fn look_at(&mut self, entry: Entry, target: u64, fire: &mut impl FnMut(u32)) {
        let timer = &mut self.timers[entry.token as usize];
        if timer.queued != entry.at {
            return;
        }
        if entry.at > target {
            self.queue(entry);
        } else if timer.due == NEVER {
            timer.queued = NEVER;
        } else if timer.due > target {
            timer.queued = timer.due;
            let at = timer.due;
            self.queue(Entry { token: entry.token, at });
        } else {
            *timer = Timer { due: NEVER, queued: NEVER };
            self.armed -= 1;
            fire(entry.token);
        }
    }

    fn queue(&mut self, entry: Entry) {
        let slot = (entry.at % self.slots.len() as u64) as usize;
        self.slots[slot].push(entry);
        self.used[slot / 64] |= 1 << (slot % 64);
    }

    fn tick_of(&self, deadline: Instant) -> u64 {
        let tick = self.tick.as_millis() as u64;
        let micros = deadline.saturating_duration_since(self.start).as_micros() as u64;
        micros.div_ceil(tick * 1000)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an Instant can only be had from the clock")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timers_fire_once_at_their_deadline_and_not_before() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut wheel = Wheel::new(start, Duration::from_millis(10), 8);
        wheel.set(3, Some(at(25)));
        wheel.set(1, Some(at(1000)));
        wheel.set(2, Some(at(40)));
        wheel.set(2, None);
        let mut fired = Vec::new();
        wheel.advance(at(29), |t| fired.push(t));
        assert!(fired.is_empty());
        wheel.advance(at(30), |t| fired.push(t));
        assert_eq!((fired.as_slice(), wheel.armed()), (&[3][..], 1));
        wheel.advance(at(10_000), |t| fired.push(t));
        assert_eq!((fired.as_slice(), wheel.armed()), (&[3, 1][..], 0));
    }

    #[test]
    fn the_next_look_is_when_something_may_be_due() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut wheel = Wheel::new(start, Duration::from_millis(10), 100);
        assert_eq!(wheel.next(), None);
        wheel.set(1, Some(at(500)));
        assert_eq!(wheel.next(), Some(at(500)));
        wheel.set(2, Some(at(75)));
        assert_eq!(wheel.next(), Some(at(80)));
        // Moved later: it is looked at once more, and then where it went to.
        wheel.set(2, Some(at(900)));
        assert_eq!(wheel.next(), Some(at(80)));
        wheel.advance(at(80), |_| {});
        assert_eq!(wheel.next(), Some(at(500)));
        wheel.advance(at(500), |_| {});
        assert_eq!(wheel.next(), Some(at(900)));
        wheel.set(2, None);
        assert_eq!(wheel.next(), None);
        // After a long rest the first look may be too early, never too late.
        wheel.set(3, Some(at(100_000)));
        assert!(wheel.next().is_some_and(|next| next <= at(100_000)));
        wheel.advance(at(99_995), |_| {});
        assert_eq!(wheel.next(), Some(at(100_000)));
    }

    proptest! {
        #[test]
        fn any_program_fires_what_a_plain_list_would(
            steps in prop::collection::vec((0u32..6, 0u64..400, 0u64..60, any::<bool>()), 1..80)
        ) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start, Duration::from_millis(5), 16);
            let mut model = [None::<u64>; 6];
            let mut now = 0;
            for (token, delay, pass, clear) in steps {
                let due = (!clear).then_some(now + delay);
                wheel.set(token, due.map(|d| start + Duration::from_millis(d)));
                // What is due already fires with the next tick.
                model[token as usize] = due.map(|d| d.max((now / 5 + 1) * 5));
                now += pass;
                let mut fired = Vec::new();
                wheel.advance(start + Duration::from_millis(now), |t| fired.push(t));
                fired.sort_unstable();
                let mut expect = Vec::new();
                for (t, due) in model.iter_mut().enumerate() {
                    if due.is_some_and(|d| d.div_ceil(5) <= now / 5) {
                        *due = None;
                        expect.push(t as u32);
                    }
                }
                prop_assert_eq!(fired, expect);
                prop_assert_eq!(wheel.armed(), model.iter().flatten().count());
                let earliest = model.iter().flatten().map(|d| start + Duration::from_millis(d.div_ceil(5) * 5)).min();
                prop_assert_eq!(wheel.next().is_some(), earliest.is_some());
                prop_assert!(wheel.next().zip(earliest).is_none_or(|(next, earliest)| next <= earliest));
            }
        }
    }
}
