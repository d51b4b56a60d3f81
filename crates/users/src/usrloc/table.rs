//! The location table in memory: address of record to its contacts.
//!
//! Workers share it, since a caller's worker is not the callee's. It is cut into many parts with a lock each; a lock is
//! held for one look or one change, never across a wait.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::AtomicU64;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::contact::Contact;

/// Contacts of one address of record, best first (see [`order`]).
pub type Contacts = SmallVec<[Contact; 1]>;

/// One address of record.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Its contacts.
    pub contacts: Contacts,
    /// Free key-value pairs of the script's (`ul_add_key`).
    pub keys: Vec<(Box<str>, Box<str>)>,
}

/// One table (`"location"`).
pub struct Table {
    /// Its name, also that of the SQL table.
    pub name: String,
    /// Contacts that ended because their time was over.
    pub expired: AtomicU64,
    hasher: RandomState,
    parts: Box<[Mutex<Part>]>,
}

type Part = std::collections::HashMap<Box<[u8]>, Record, RandomState>;

impl Table {
    /// A table of `2^bits` parts, but not fewer than 512: who walks through it locks one part at a time.
    pub fn new(name: &str, bits: u32) -> Table {
        let parts = 1usize << bits.clamp(9, 16);
        Table {
            name: name.to_owned(),
            expired: AtomicU64::new(0),
            hasher: RandomState::default(),
            parts: (0..parts).map(|_| Mutex::default()).collect(),
        }
    }

    fn part(&self, aor: &[u8]) -> &Mutex<Part> {
        let hash = self.hasher.hash_one(AsKey(aor));
        &self.parts[(hash >> 40) as usize & (self.parts.len() - 1)]
    }

    /// Look at the record of `aor`.
    pub fn read<T>(&self, aor: &[u8], look: impl FnOnce(Option<&Record>) -> T) -> T {
        look(self.part(aor).lock().get(aor))
    }

    /// Change the record of `aor`; it is made when missing and goes when nothing is left in it.
    pub fn change<T>(&self, aor: &[u8], change: impl FnOnce(&mut Record) -> T) -> T {
        let mut part = self.part(aor).lock();
        let record = match part.get_mut(aor) {
            Some(r) => r,
            None => part.entry(aor.into()).or_default(),
        };
        let result = change(record);
        if record.contacts.is_empty() && record.keys.is_empty() {
            part.remove(aor);
        }
        result
    }

    /// Visit every record, part by part; `keep` false removes it.
    pub fn retain(&self, mut keep: impl FnMut(&[u8], &mut Record) -> bool) {
        for part in 0..self.parts.len() {
            self.retain_in(part, &mut keep);
        }
    }

    /// The same in one part.
    pub fn retain_in(&self, part: usize, mut keep: impl FnMut(&[u8], &mut Record) -> bool) {
        if let Some(part) = self.parts.get(part) {
            part.lock().retain(|aor, record| keep(aor, record));
        }
    }

    /// Visit the records of one part until `look` gives false.
    pub fn visit_while(&self, part: usize, mut look: impl FnMut(&[u8], &mut Record) -> bool) {
        let Some(part) = self.parts.get(part) else { return };
        for (aor, record) in part.lock().iter_mut() {
            if !look(aor, record) {
                return;
            }
        }
    }

    /// Visit the records of one part.
    pub fn visit(&self, part: usize, mut look: impl FnMut(&[u8], &mut Record)) {
        let Some(part) = self.parts.get(part) else { return };
        for (aor, record) in part.lock().iter_mut() {
            look(aor, record);
        }
    }

    /// Change the record of `aor` if there is one; it stays, whatever is left in it.
    pub fn mend<T>(&self, aor: &[u8], change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        self.part(aor).lock().get_mut(aor).map(change)
    }

    /// Number of parts.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|p| p.lock().len()).sum()
    }

    /// Number of contacts.
    pub fn contacts(&self) -> usize {
        let of_part = |p: &Mutex<Part>| p.lock().values().map(|r| r.contacts.len()).sum::<usize>();
        self.parts.iter().map(of_part).sum()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

struct AsKey<'a>(&'a [u8]);

impl Hash for AsKey<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

/// Put contacts into the order in which they are tried: by q and, among equals, as they came; with `newest_first` by last
/// change alone.
pub fn order(contacts: &mut Contacts, newest_first: bool) {
    if newest_first {
        contacts.sort_by_key(|c| std::cmp::Reverse((c.modified, c.id)));
    } else {
        contacts.sort_by_key(|c| std::cmp::Reverse(c.q));
    }
}

#[cfg(test)]
mod tests {
    use super::super::contact::Texts;
    use super::*;

    #[test]
    fn an_empty_record_goes() {
        let t = Table::new("location", 4);
        t.change(b"a", |r| r.contacts.push(Contact::new(&Texts::default())));
        assert_eq!(t.len(), 1);
        assert!(t.read(b"a", |r| r.is_some()));
        t.change(b"a", |r| r.contacts.clear());
        assert!(t.is_empty());
    }

    #[test]
    fn contacts_are_ordered_by_q_and_stay_as_they_came_among_equals() {
        let make = |q, modified| {
            let mut c = Contact::new(&Texts::default());
            (c.q, c.modified) = (q, modified);
            c
        };
        let mut c: Contacts = [make(500, 2), make(1000, 1), make(500, 3)].into_iter().collect();
        order(&mut c, false);
        let seen = |c: &Contacts| c.iter().map(|c| (c.q, c.modified)).collect::<Vec<_>>();
        assert_eq!(seen(&c), [(1000, 1), (500, 2), (500, 3)]);
        order(&mut c, true);
        assert_eq!(seen(&c), [(500, 3), (500, 2), (1000, 1)]);
    }
}
