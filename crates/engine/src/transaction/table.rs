//! The transactions of one shard: slots used again and again, found by our own branch or by the key of a request.

use super::key::BranchId;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

/// A transaction's place, valid until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    /// Place in the table, also usable as token of a timer wheel.
    pub slot: u32,
    /// How often the place was used before.
    pub generation: u32,
}

/// The transactions of one shard.
#[derive(Debug)]
pub struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Option<u32>,
    len: usize,
    max: usize,
    by_key: Index,
    by_merge: Index,
    hasher: foldhash::fast::FixedState,
}

/// First slot of each hash; others follow by `next`.
type Index = HashMap<u64, u32, BuildHasherDefault<Ready>>;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    /// Next slot with the same hash of the key, or next free slot.
    next: Option<u32>,
    next_merged: Option<u32>,
    used: Option<Used<T>>,
}

#[derive(Debug)]
struct Used<T> {
    nonce: u32,
    key: Box<[u8]>,
    merge: Option<u64>,
    value: T,
}

impl<T> Table<T> {
    /// A table for at most `max` transactions. `seed` is a random number, so that nobody can choose requests whose keys
    /// fall together.
    #[must_use]
    pub fn new(max: usize, seed: u64) -> Table<T> {
        let max = max.min(u32::MAX as usize - 1);
        Table {
            slots: Vec::new(),
            free: None,
            len: 0,
            max,
            by_key: Index::default(),
            by_merge: Index::default(),
            hasher: foldhash::fast::FixedState::with_seed(seed),
        }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        hasher.finish()
    }

    /// Number of transactions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the next transaction will be, so that its branches can be written before it is inserted.
    #[must_use]
    pub fn next_id(&self) -> Id {
        match self.free {
            Some(slot) => Id { slot, generation: self.slots[slot as usize].generation },
            None => Id { slot: self.slots.len() as u32, generation: 0 },
        }
    }

    /// Adds a transaction under the key of its request ([`super::key::server`]; empty for a local request) and, when it may be
    /// merged, [`super::key::merged`]. `nonce` is a random number for its branches. `None` when the table is full.
    pub fn insert(&mut self, key: &[u8], merge: Option<&[u8]>, nonce: u32, value: T) -> Option<Id> {
        if self.len >= self.max {
            return None;
        }
        let id = self.next_id();
        if id.slot as usize == self.slots.len() {
            self.slots.push(Slot { generation: 0, next: None, next_merged: None, used: None });
        }
        let merge = merge.map(|m| self.hash(m));
        let hash = self.hash(key);
        let slot = &mut self.slots[id.slot as usize];
        if self.free == Some(id.slot) {
            self.free = slot.next.take();
        }
        slot.used = Some(Used { nonce, key: key.into(), merge, value });
        if !key.is_empty() {
            slot.next = self.by_key.insert(hash, id.slot);
        }
        slot.next_merged = merge.and_then(|hash| self.by_merge.insert(hash, id.slot));
        self.len += 1;
        Some(id)
    }

    /// Removes a transaction; its place is used again under another generation.
    pub fn remove(&mut self, id: Id) -> Option<T> {
        self.get(id)?;
        let slot = &mut self.slots[id.slot as usize];
        let used = slot.used.take()?;
        let (next, next_merged) = (slot.next.take(), slot.next_merged.take());
        slot.generation = slot.generation.wrapping_add(1);
        if !used.key.is_empty() {
            let hash = self.hash(&used.key);
            unlink(&mut self.slots, &mut self.by_key, hash, id.slot, next, |s| &mut s.next);
        }
        if let Some(hash) = used.merge {
            unlink(&mut self.slots, &mut self.by_merge, hash, id.slot, next_merged, |s| &mut s.next_merged);
        }
        self.slots[id.slot as usize].next = self.free.replace(id.slot);
        self.len -= 1;
        Some(used.value)
    }

    /// The transaction at this place.
    #[must_use]
    pub fn get(&self, id: Id) -> Option<&T> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.used.as_ref().filter(|_| slot.generation == id.generation).map(|u| &u.value)
    }

    /// The transaction at this place.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        slot.used.as_mut().filter(|_| slot.generation == id.generation).map(|u| &mut u.value)
    }

    /// The present transaction of a slot, as named by a timer's token.
    #[must_use]
    pub fn id_at(&self, slot: u32) -> Option<Id> {
        let s = self.slots.get(slot as usize)?;
        s.used.as_ref().map(|_| Id { slot, generation: s.generation })
    }

    /// The random number of a transaction's branches.
    #[must_use]
    pub fn nonce(&self, id: Id) -> Option<u32> {
        self.get(id)?;
        self.slots[id.slot as usize].used.as_ref().map(|u| u.nonce)
    }

    /// The transaction a reply belongs to by the branch of its topmost Via (RFC 3261 §17.1.3).
    #[must_use]
    pub fn find_branch(&self, branch: &BranchId) -> Option<Id> {
        let id = Id { slot: branch.slot, generation: branch.generation };
        (self.nonce(id)? == branch.nonce).then_some(id)
    }

    /// The transaction with this key (RFC 3261 §17.2.3).
    #[must_use]
    pub fn find_key(&self, key: &[u8]) -> Option<Id> {
        let mut at = self.by_key.get(&self.hash(key)).copied();
        while let Some(slot) = at {
            let s = self.slots.get(slot as usize)?;
            if s.used.as_ref().is_some_and(|u| *u.key == *key) {
                return Some(Id { slot, generation: s.generation });
            }
            at = s.next;
        }
        None
    }

    /// Whether another transaction than `own` has this merge key: the request came over two ways (482).
    #[must_use]
    pub fn is_merged(&self, merge: &[u8], own: Option<Id>) -> bool {
        let mut at = self.by_merge.get(&self.hash(merge)).copied();
        while let Some(slot) = at {
            if own.is_none_or(|o| o.slot != slot) {
                return true;
            }
            at = self.slots.get(slot as usize).and_then(|s| s.next_merged);
        }
        false
    }

    /// All transactions.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.slots.iter().enumerate().filter_map(|(i, s)| {
            let used = s.used.as_ref()?;
            Some((Id { slot: i as u32, generation: s.generation }, &used.value))
        })
    }
}

/// Takes `slot`, whose successor is `next`, out of the chain of `hash`.
fn unlink<T>(
    slots: &mut [Slot<T>],
    index: &mut Index,
    hash: u64,
    slot: u32,
    next: Option<u32>,
    link: impl Fn(&mut Slot<T>) -> &mut Option<u32>,
) {
    match index.get(&hash).copied() {
        Some(first) if first == slot => {
            match next {
                Some(next) => index.insert(hash, next),
                None => index.remove(&hash),
            };
        }
        Some(first) => {
            let mut at = Some(first);
            while let Some(s) = at.and_then(|i| slots.get_mut(i as usize)) {
                let follower = link(s);
                if *follower == Some(slot) {
                    *follower = next;
                    return;
                }
                at = *follower;
            }
        }
        None => {}
    }
}

/// Passes a hash through: the keys of the index are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*b);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}
