//! The parts of long messages to SIP users, until all of them are there and can go as one MESSAGE (TS 23.040 §9.2.3.24.1).
//!
//! Each part is a message of its own with its row, its price and its receipt; here is only who belongs together. When the
//! last part comes, the first one carries the others. What stays incomplete for too long goes as it is. Nothing is kept that
//! is not in the queue, so messages are the bound.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use switchroom_wire::gsm::Concat;
use switchroom_wire::smpp::Tlvs;

use super::message::{Addr, Content, Message};
use crate::link::join::{Piece, concat_of};

/// Parts that wait for others, and those that found them.
#[derive(Default)]
pub struct Parts {
    open: HashMap<Key, Group, foldhash::fast::RandomState>,
    key_of: HashMap<u64, Key, foldhash::fast::RandomState>,
    /// First part, and all in order; behind the last part come those that came twice.
    whole: HashMap<u64, Vec<u64>, foldhash::fast::RandomState>,
    by_time: BTreeMap<i64, Vec<Key>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    target: Arc<str>,
    source: Box<[u8]>,
    reference: u16,
    total: u8,
    wide: bool,
}

struct Group {
    since: i64,
    parts: Vec<Option<u64>>,
    again: Vec<u64>,
}

/// What becomes of a message that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It goes by itself.
    Alone,
    /// It waits for other parts.
    Held,
    /// It was the last part; this one, the first, carries them.
    Whole(u64),
}

/// The piece that a message is, for joining.
pub fn piece(m: &Message) -> Piece<'_> {
    of(&m.source, &m.destination, &m.content)
}

fn of<'a>(source: &'a Addr, destination: &'a Addr, content: &'a Content) -> Piece<'a> {
    Piece {
        source: &source.addr,
        destination: &destination.addr,
        has_udh: content.esm_class & 0x40 != 0,
        data_coding: content.data_coding,
        payload: &content.text,
        tlvs: Tlvs::read(&content.tlvs, false).unwrap_or_default(),
    }
}

/// Which part of a text something is.
pub fn concat(source: &Addr, destination: &Addr, content: &Content) -> Option<Concat> {
    concat_of(&of(source, destination, content))
}

/// Which part a message to this destination is, when parts are joined there.
pub fn joined_part(m: &Message) -> Option<Concat> {
    if m.target.starts_with("sip:") { concat(&m.source, &m.destination, &m.content) } else { None }
}

impl Parts {
    /// A message comes, unix seconds `now`.
    pub fn add(&mut self, m: &Message, now: i64) -> Added {
        let Some(Concat { reference, total, part, wide }) = joined_part(m) else { return Added::Alone };
        let key = Key { target: m.target.clone(), source: m.source.addr.clone(), reference, total, wide };
        if !self.open.contains_key(&key) {
            self.by_time.entry(now).or_default().push(key.clone());
            let parts = vec![None; usize::from(total)];
            self.open.insert(key.clone(), Group { since: now, parts, again: Vec::new() });
        }
        let Some(group) = self.open.get_mut(&key) else { return Added::Alone };
        match group.parts.get_mut(usize::from(part) - 1) {
            Some(slot @ None) => *slot = Some(m.id),
            _ => group.again.push(m.id),
        }
        if group.parts.contains(&None) {
            self.key_of.insert(m.id, key);
            return Added::Held;
        }
        let Some(group) = self.open.remove(&key) else { return Added::Alone };
        let mut all: Vec<u64> = group.parts.into_iter().flatten().collect();
        all.extend(group.again);
        all.iter().for_each(|id| drop(self.key_of.remove(id)));
        let Some(first) = all.first().copied() else { return Added::Alone };
        self.whole.insert(first, all);
        Added::Whole(first)
    }

    /// All messages that this one carries, itself first; empty when it goes by itself.
    pub fn carried(&self, id: u64) -> &[u64] {
        self.whole.get(&id).map_or(&[], |all| all)
    }

    /// Forgets a message. Gives the others that it carried.
    pub fn remove(&mut self, id: u64) -> Vec<u64> {
        if let Some(key) = self.key_of.remove(&id)
            && let Some(group) = self.open.get_mut(&key)
        {
            group.parts.iter_mut().filter(|p| **p == Some(id)).for_each(|p| *p = None);
            group.again.retain(|a| *a != id);
            if group.again.is_empty() && group.parts.iter().all(Option::is_none) {
                self.open.remove(&key);
            }
        }
        let mut all = self.whole.remove(&id).unwrap_or_default();
        all.retain(|other| *other != id);
        all
    }

    /// Those whose other parts did not come since `before`. They go as they are.
    pub fn overdue(&mut self, before: i64) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some(entry) = self.by_time.first_entry().filter(|e| *e.key() <= before) {
            for key in entry.remove() {
                if self.open.get(&key).is_none_or(|g| g.since > before) {
                    continue;
                }
                let Some(group) = self.open.remove(&key) else { continue };
                ids.extend(group.parts.into_iter().flatten());
                ids.extend(group.again);
            }
        }
        ids.iter().for_each(|id| drop(self.key_of.remove(id)));
        ids
    }

    /// How many messages wait for parts.
    pub fn incomplete(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::sample;
    use super::*;

    fn part(id: u64, n: u8) -> Message {
        let mut m = sample(id, "sip:bob@example.org");
        m.content.esm_class = 0x40;
        m.content.text = [&[5, 0, 3, 9, 3, n][..], b"text"].concat().into();
        m
    }

    #[test]
    fn the_first_part_carries_the_others_and_one_that_came_twice() {
        let mut parts = Parts::default();
        assert_eq!(parts.add(&sample(9, "sip:bob@example.org"), 10), Added::Alone);
        assert_eq!(parts.add(&Message { target: "smsc:up".into(), ..part(8, 1) }, 10), Added::Alone);
        assert_eq!(parts.add(&part(1, 3), 10), Added::Held);
        assert_eq!(parts.add(&part(2, 1), 11), Added::Held);
        assert_eq!(parts.add(&part(3, 1), 11), Added::Held);
        assert_eq!(parts.add(&part(4, 2), 12), Added::Whole(2));
        assert_eq!(parts.carried(2), [2, 4, 1, 3]);
        assert_eq!(parts.remove(2), [4, 1, 3]);
        assert_eq!((parts.incomplete(), parts.key_of.len(), parts.overdue(999).len()), (0, 0, 0));
    }

    #[test]
    fn what_stays_incomplete_goes_as_it_is() {
        let mut parts = Parts::default();
        parts.add(&part(1, 3), 10);
        parts.add(&part(2, 1), 11);
        assert!(parts.overdue(9).is_empty());
        assert_eq!(parts.overdue(10), [2, 1]);
        assert_eq!(parts.add(&part(3, 2), 20), Added::Held);
        parts.remove(3);
        assert_eq!(parts.incomplete(), 0);
        assert!(parts.overdue(99).is_empty());
    }
}
