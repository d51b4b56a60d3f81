//! What happened to a call, in order and with its times: a ring of short notes in memory.
//!
//! Off until a module turns it on; then a note costs one lock of the worker's own ring. When a ring is full the oldest note
//! goes, and is counted. Left out: messages as they were on the wire.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

/// One note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Since the epoch.
    pub at: Duration,
    /// The call it belongs to.
    pub call_id: Box<[u8]>,
    /// What kind of thing it was: `received`, `sent`, `event`, `waits` ...
    pub kind: &'static str,
    /// What it was.
    pub text: String,
}

/// Longest text of a note, in bytes.
const MAX_TEXT: usize = 300;

/// The notes of all calls: a ring for each worker, and one for all other threads.
pub struct Trace {
    on: AtomicBool,
    /// Notes in each ring.
    size: AtomicUsize,
    rings: Vec<Mutex<VecDeque<Note>>>,
    dropped: AtomicU64,
}

impl Trace {
    /// For so many workers; off.
    pub fn new(workers: usize) -> Trace {
        Trace {
            on: AtomicBool::new(false),
            size: AtomicUsize::new(0),
            rings: (0..=workers).map(|_| Mutex::default()).collect(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Keep so many notes in all from now on; 0 turns it off and forgets them.
    pub fn keep(&self, notes: usize) {
        self.size.store(notes.div_ceil(self.rings.len()), Relaxed);
        self.on.store(notes > 0, Relaxed);
        if notes == 0 {
            self.rings.iter().for_each(|r| *r.lock() = VecDeque::new());
        }
    }

    /// Whether notes are kept: ask before making one.
    #[inline]
    pub fn on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Keep a note. `worker` is the worker on whose thread this is, if it is one.
    pub fn note(
        &self,
        worker: Option<usize>,
        at: Duration,
        call_id: &[u8],
        kind: &'static str,
        mut text: String,
    ) {
        if !self.on() || call_id.is_empty() {
            return;
        }
        if text.len() > MAX_TEXT {
            let mut end = MAX_TEXT;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        let last = self.rings.len() - 1;
        let Some(ring) = self.rings.get(worker.unwrap_or(last).min(last)) else { return };
        let note = Note { at, call_id: call_id.into(), kind, text };
        let mut ring = ring.lock();
        while ring.len() >= self.size.load(Relaxed).max(1) {
            ring.pop_front();
            self.dropped.fetch_add(1, Relaxed);
        }
        ring.push_back(note);
    }

    /// The notes of a call, oldest first.
    pub fn of(&self, call_id: &[u8]) -> Vec<Note> {
        let mut found = Vec::new();
        for ring in &self.rings {
            found.extend(ring.lock().iter().filter(|n| *n.call_id == *call_id).cloned());
        }
        found.sort_by_key(|n| n.at);
        found
    }

    /// How many notes there are.
    pub fn len(&self) -> usize {
        self.rings.iter().map(|r| r.lock().len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes that went because newer ones came.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_a_call_come_in_order_whichever_thread_made_them() {
        let t = Trace::new(2);
        t.note(Some(0), Duration::ZERO, b"a", "sent", "lost: it is off".into());
        t.keep(30);
        for (worker, at, call) in [(Some(1), 3, "a"), (None, 2, "a"), (Some(0), 1, "a"), (Some(0), 1, "b")] {
            t.note(worker, Duration::from_millis(at), call.as_bytes(), "sent", at.to_string());
        }
        let texts: Vec<String> = t.of(b"a").into_iter().map(|n| n.text).collect();
        assert_eq!(texts, ["1", "2", "3"]);
        t.keep(0);
        assert!(t.is_empty());
    }

    #[test]
    fn a_full_ring_loses_its_oldest_and_says_so() {
        let t = Trace::new(0);
        t.keep(3);
        for i in 0..5 {
            t.note(None, Duration::from_millis(i), b"a", "sent", i.to_string());
        }
        let texts: Vec<String> = t.of(b"a").into_iter().map(|n| n.text).collect();
        assert_eq!((texts.join(""), t.dropped(), t.len()), ("234".into(), 2, 3));
    }
}
