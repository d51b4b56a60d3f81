//! Bounded mailboxes, one per worker: how other threads reach a shard.
//!
//! A sender that has many letters takes the lock and wakes the worker once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use switchroom_kernel::ports::net::{Mail, Outgoing, Post, SendError};

/// What is in a mailbox. Between workers a failed send has to find its way back, so it is more than [`Mail`].
pub(crate) enum Letter {
    Mail(Mail),
    /// To be sent by the owner of the connection; a failure goes back to worker `from`.
    Send {
        from: usize,
        out: Outgoing,
    },
    /// A send asked for by this worker failed at another.
    Failed {
        token: u64,
        error: SendError,
    },
}

#[derive(Default)]
struct Mailbox {
    letters: VecDeque<Letter>,
    waker: Option<Waker>,
    closed: bool,
}

/// The mailboxes of all workers.
pub(crate) struct Mailboxes {
    boxes: Vec<Mutex<Mailbox>>,
    limit: usize,
}

impl Mailboxes {
    pub fn new(workers: usize, limit: usize) -> Arc<Mailboxes> {
        Arc::new(Mailboxes { boxes: (0..workers).map(|_| Mutex::default()).collect(), limit })
    }

    /// Puts one letter; gives it back when the box is full, closed or does not exist.
    pub fn put(&self, worker: usize, letter: Letter) -> Result<(), Letter> {
        let Some(mailbox) = self.boxes.get(worker) else { return Err(letter) };
        let mut mailbox = mailbox.lock();
        if mailbox.closed || mailbox.letters.len() >= self.limit {
            return Err(letter);
        }
        mailbox.letters.push_back(letter);
        let waker = mailbox.waker.take();
        drop(mailbox);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Puts all of `letters`, as far as there is room; gives the number that had to be dropped.
    pub fn put_all(&self, worker: usize, letters: &mut Vec<Letter>) -> usize {
        let Some(mailbox) = self.boxes.get(worker) else {
            return letters.drain(..).count();
        };
        let mut mailbox = mailbox.lock();
        let room = if mailbox.closed { 0 } else { self.limit.saturating_sub(mailbox.letters.len()) };
        let fits = room.min(letters.len());
        mailbox.letters.extend(letters.drain(..fits));
        let waker = mailbox.waker.take();
        drop(mailbox);
        if let Some(waker) = waker {
            waker.wake();
        }
        letters.drain(..).count()
    }

    /// How many letters a box holds.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Moves at most `max` letters to `into`; gives how many are left. When none is, `waker` is kept for the next one.
    pub fn take(&self, worker: usize, max: usize, into: &mut Vec<Letter>, waker: &Waker) -> usize {
        let mut mailbox = self.boxes[worker].lock();
        let n = mailbox.letters.len().min(max);
        into.extend(mailbox.letters.drain(..n));
        let left = mailbox.letters.len();
        if left == 0 {
            mailbox.waker = Some(waker.clone());
        }
        left
    }

    /// No more letters: what is in the box is dropped.
    pub fn close(&self, worker: usize) {
        let mut mailbox = self.boxes[worker].lock();
        mailbox.closed = true;
        let letters = std::mem::take(&mut mailbox.letters);
        drop(mailbox);
        drop(letters);
    }
}

impl Post for Mailboxes {
    fn workers(&self) -> usize {
        self.boxes.len()
    }

    fn post(&self, worker: usize, mail: Mail) -> Result<(), Mail> {
        match self.put(worker, Letter::Mail(mail)) {
            Err(Letter::Mail(mail)) => Err(mail),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        Letter::Failed { token: 1, error: SendError::Refused }
    }

    #[test]
    fn a_full_box_gives_the_letter_back_and_counts_what_does_not_fit() {
        let boxes = Mailboxes::new(1, 2);
        assert!(boxes.put(0, letter()).is_ok());
        let mut many = vec![letter(), letter(), letter()];
        assert_eq!(boxes.put_all(0, &mut many), 2);
        assert!(boxes.put(0, letter()).is_err());
        assert!(boxes.put(7, letter()).is_err());
        let mut got = Vec::new();
        assert_eq!(boxes.take(0, 1, &mut got, Waker::noop()), 1);
        assert_eq!(boxes.take(0, 1, &mut got, Waker::noop()), 0);
        assert_eq!(got.len(), 2);
    }

    #[test]
    fn a_closed_box_takes_nothing() {
        let boxes = Mailboxes::new(1, 2);
        boxes.close(0);
        assert!(boxes.post(0, Mail::Drain).is_err());
    }
}
