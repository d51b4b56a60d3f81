//! Requests of ours that have no answer yet, by sequence number.

use std::collections::VecDeque;
use std::time::Instant;

use switchroom_wire::smpp::CommandId;

/// Sequence numbers go from 1 to this and begin again (SMPP 5.0 §2.6).
const LAST: u64 = 0x7fff_ffff;

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub command: CommandId,
    pub token: u64,
    until: Instant,
}

/// The window. Numbers are given in order, so the place of a number is its distance from the oldest.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// How many numbers were given before the front of `slots`.
    first: u64,
    slots: VecDeque<Option<Pending>>,
    /// Messages among them.
    messages: usize,
    enquiries: usize,
}

impl Window {
    /// Messages without an answer; binds and enquiries do not count.
    pub fn len(&self) -> usize {
        self.messages
    }

    /// Whether such an enquiry is under way.
    pub fn has(&self, command: CommandId) -> bool {
        command == CommandId::ENQUIRE_LINK && self.enquiries > 0
    }

    /// The next number; without `until` no answer is awaited.
    pub fn push(&mut self, command: CommandId, token: u64, until: Option<Instant>) -> u32 {
        let number = self.first + self.slots.len() as u64;
        let pending = until.map(|until| Pending { command, token, until });
        self.count(pending.as_ref(), 1);
        self.slots.push_back(pending);
        self.trim();
        (number % LAST + 1) as u32
    }

    /// Takes out the request of this number, when it fits.
    pub fn take(&mut self, sequence: u32, fits: impl FnOnce(&Pending) -> bool) -> Option<Pending> {
        let number = u64::from(sequence.checked_sub(1)?);
        let distance = (number + LAST - self.first % LAST) % LAST;
        let slot = self.slots.get_mut(usize::try_from(distance).ok()?)?;
        if !slot.as_ref().is_some_and(fits) {
            return None;
        }
        let taken = slot.take();
        self.count(taken.as_ref(), -1);
        self.trim();
        taken
    }

    /// Takes out the oldest request when its time is over.
    pub fn expired(&mut self, now: Instant) -> Option<Pending> {
        let oldest = self.slots.front()?.filter(|p| p.until <= now)?;
        self.slots[0] = None;
        self.count(Some(&oldest), -1);
        self.trim();
        Some(oldest)
    }

    /// When the oldest request's time is over. All wait equally long, so it is the first.
    pub fn first_deadline(&self) -> Option<Instant> {
        self.slots.front()?.as_ref().map(|p| p.until)
    }

    /// Empties it.
    pub fn drain(&mut self) -> impl Iterator<Item = Pending> {
        self.first += self.slots.len() as u64;
        (self.messages, self.enquiries) = (0, 0);
        std::mem::take(&mut self.slots).into_iter().flatten()
    }

    fn trim(&mut self) {
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    fn count(&mut self, pending: Option<&Pending>, by: isize) {
        match pending {
            Some(p) if p.command == CommandId::ENQUIRE_LINK => {
                self.enquiries = self.enquiries.saturating_add_signed(by)
            }
            Some(p) if super::is_message(p.command) => {
                self.messages = self.messages.saturating_add_signed(by)
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an Instant can only be had from the clock")]
    fn numbers_wrap_and_answers_come_in_any_order() {
        let until = Some(Instant::now());
        let mut w = Window { first: LAST - 2, ..Window::default() };
        let numbers: Vec<u32> = (0..4).map(|t| w.push(CommandId::SUBMIT_SM, t, until)).collect();
        assert_eq!(numbers, [0x7fff_fffe, 0x7fff_ffff, 1, 2]);
        assert_eq!(w.take(1, |_| true).unwrap().token, 2);
        assert!(w.take(1, |_| true).is_none(), "once only");
        assert_eq!(w.take(0x7fff_fffe, |_| true).unwrap().token, 0);
        assert_eq!(w.take(2, |_| true).unwrap().token, 3);
        assert_eq!(w.len(), 1);
        for strange in [0, 3, 0x7fff_fffe, u32::MAX] {
            assert!(w.take(strange, |_| true).is_none(), "{strange}");
        }
        assert_eq!(w.drain().map(|p| p.token).collect::<Vec<_>>(), [1]);
        assert_eq!((w.len(), w.first_deadline()), (0, None));
    }
}
