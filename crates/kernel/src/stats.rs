//! Statistics: one counter array per worker, added up when somebody reads.
//!
//! A worker writes only its own array, so counting is a plain load and store. Threads that are no worker share the
//! last array and add atomically. Values computed on demand (`registered_users`) are closures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;

/// Index of a counter, given out when the registry is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatId(pub u32);

type Computed = Arc<dyn Fn() -> i64 + Send + Sync>;

enum Kind {
    /// Index into the arrays; `resettable` is false for gauges such as `inuse_transactions`.
    Counter {
        index: u32,
        gauge: bool,
    },
    Computed(Computed),
}

struct Entry {
    group: String,
    name: String,
    help: &'static str,
    kind: Kind,
}

/// All statistics of the process.
pub struct Stats {
    entries: RwLock<Vec<Entry>>,
    workers: Vec<Box<[AtomicU64]>>,
    next: AtomicU64,
}

/// How many counters there can be, script-defined ones included. 8 bytes each per worker.
const CAPACITY: usize = 4096;

impl Stats {
    /// Arrays for `workers` workers and one more for everybody else.
    pub fn new(workers: usize) -> Stats {
        let array = || (0..CAPACITY).map(|_| AtomicU64::new(0)).collect();
        Stats {
            entries: RwLock::new(Vec::new()),
            workers: (0..=workers).map(|_| array()).collect(),
            next: AtomicU64::new(0),
        }
    }

    /// Register a counter. The same group and name give the same id. `None` when all [`CAPACITY`] slots are taken.
    pub fn counter(&self, group: &str, name: &str, help: &'static str, gauge: bool) -> Option<StatId> {
        let mut entries = self.entries.write();
        if let Some(e) = entries.iter().find(|e| e.name == name && e.group == group) {
            return match e.kind {
                Kind::Counter { index, .. } => Some(StatId(index)),
                Kind::Computed(_) => None,
            };
        }
        let index = self.next.load(Relaxed);
        if index as usize >= CAPACITY {
            return None;
        }
        self.next.store(index + 1, Relaxed);
        let kind = Kind::Counter { index: index as u32, gauge };
        entries.push(Entry { group: group.into(), name: name.into(), help, kind });
        Some(StatId(index as u32))
    }

    /// Register a value computed when read.
    pub fn computed(
        &self,
        group: &str,
        name: &str,
        help: &'static str,
        read: impl Fn() -> i64 + Send + Sync + 'static,
    ) {
        let mut entries = self.entries.write();
        entries.retain(|e| !(e.name == name && e.group == group));
        let kind = Kind::Computed(Arc::new(read));
        entries.push(Entry { group: group.into(), name: name.into(), help, kind });
    }

    /// Add to a counter from worker number `worker` (that worker's thread only).
    #[inline]
    pub fn add(&self, worker: usize, id: StatId, n: i64) {
        if let Some(slot) = self.workers.get(worker).and_then(|w| w.get(id.0 as usize)) {
            slot.store(slot.load(Relaxed).wrapping_add(n as u64), Relaxed);
        }
    }

    /// Add to a counter from any other thread.
    pub fn add_outside(&self, id: StatId, n: i64) {
        if let Some(slot) = self.workers.last().and_then(|w| w.get(id.0 as usize)) {
            slot.fetch_add(n as u64, Relaxed);
        }
    }

    /// Current value of a counter.
    pub fn read(&self, id: StatId) -> i64 {
        self.sum(id.0)
    }

    fn sum(&self, index: u32) -> i64 {
        let mut sum = 0u64;
        for w in &self.workers {
            sum = sum.wrapping_add(w[index as usize].load(Relaxed));
        }
        sum as i64
    }

    /// Find a statistic by `name` or `group:name`; its value.
    pub fn get(&self, name: &str) -> Option<i64> {
        let (group, name) = split(name);
        let entries = self.entries.read();
        let e = entries.iter().find(|e| e.name == name && group.is_none_or(|g| g == e.group))?;
        Some(self.value(&e.kind))
    }

    /// Id of a counter by `name` or `group:name`; `None` for unknown and computed ones.
    pub fn find(&self, name: &str) -> Option<StatId> {
        let (group, name) = split(name);
        let entries = self.entries.read();
        match entries.iter().find(|e| e.name == name && group.is_none_or(|g| g == e.group))?.kind {
            Kind::Counter { index, .. } => Some(StatId(index)),
            Kind::Computed(_) => None,
        }
    }

    fn value(&self, kind: &Kind) -> i64 {
        match kind {
            Kind::Counter { index, .. } => self.sum(*index),
            Kind::Computed(read) => read(),
        }
    }

    /// All statistics that `select` accepts by group and name, as (group, name, value, help), in registration order.
    pub fn list(&self, select: impl Fn(&str, &str) -> bool) -> Vec<(String, String, i64, &'static str)> {
        let entries = self.entries.read();
        let chosen = entries.iter().filter(|e| select(&e.group, &e.name));
        chosen.map(|e| (e.group.clone(), e.name.clone(), self.value(&e.kind), e.help)).collect()
    }

    /// Whether a statistic only grows, so that it can be set back to zero.
    pub fn counts(&self, name: &str) -> bool {
        let (group, name) = split(name);
        let entries = self.entries.read();
        let found = entries.iter().find(|e| e.name == name && group.is_none_or(|g| g == e.group));
        found.is_some_and(|e| matches!(e.kind, Kind::Counter { gauge: false, .. }))
    }

    /// Set a counter back to zero. False when there is none of that name, or when it cannot be reset.
    pub fn reset(&self, name: &str) -> bool {
        let (group, name) = split(name);
        let entries = self.entries.read();
        match entries.iter().find(|e| e.name == name && group.is_none_or(|g| g == e.group)).map(|e| &e.kind) {
            Some(Kind::Counter { index, gauge: false }) => {
                for w in &self.workers {
                    w[*index as usize].store(0, Relaxed);
                }
                true
            }
            _ => false,
        }
    }
}

fn split(name: &str) -> (Option<&str>, &str) {
    match name.split_once(':') {
        Some((group, name)) => (Some(group), name),
        None => (None, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_workers_add_up_and_reset() {
        let s = Stats::new(2);
        let id = s.counter("tm", "inuse", "", false).unwrap();
        s.add(0, id, 3);
        s.add(1, id, -1);
        s.add_outside(id, 1);
        assert_eq!(s.get("tm:inuse"), Some(3));
        assert_eq!(s.get("inuse"), Some(3));
        assert!(s.reset("inuse"));
        assert_eq!(s.get("inuse"), Some(0));
        assert_eq!(s.get("nothing"), None);
    }

    #[test]
    fn a_gauge_is_not_reset() {
        let s = Stats::new(1);
        let id = s.counter("tm", "inuse", "", true).unwrap();
        s.add(0, id, 3);
        assert!(!s.reset("inuse"));
        assert_eq!(s.get("inuse"), Some(3));
    }
}
