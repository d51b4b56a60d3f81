//! One collection: keys with values and the time they run out. Bounded; entries that have run out are gone at once for
//! readers and are removed from memory now and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use switchroom_kernel::ports::net::{BoxFuture, Clock};
use switchroom_script::Value;
use switchroom_script::glob::{self, Case};

use crate::cache::api::{CacheDb, CacheError, CacheResult};

/// Entries of one collection.
const MAX_ENTRIES: usize = 2_000_000;

struct Entry {
    value: Bytes,
    /// Since the epoch; zero is never.
    until: Duration,
}

/// A collection.
pub struct Collection {
    entries: Mutex<HashMap<Bytes, Entry, foldhash::fast::RandomState>>,
    clock: Arc<dyn Clock>,
}

impl Collection {
    /// An empty one.
    pub fn new(clock: Arc<dyn Clock>) -> Collection {
        Collection { entries: Mutex::default(), clock }
    }

    /// Remove what has run out.
    pub fn clean(&self) {
        let now = self.clock.unix();
        self.entries.lock().retain(|_, e| e.lives(now));
    }

    /// Remove keys that fit a pattern of `*`, `?` and `[...]`; gives how many.
    pub fn remove_fitting(&self, pattern: &[u8]) -> usize {
        let mut entries = self.entries.lock();
        let before = entries.len();
        entries.retain(|key, _| !glob::matches(pattern, key, Case::Counts));
        before - entries.len()
    }

    /// Keys that fit a pattern, with their values, sorted.
    pub fn fitting(&self, pattern: &[u8]) -> Vec<(Bytes, Bytes)> {
        let now = self.clock.unix();
        let entries = self.entries.lock();
        let found =
            entries.iter().filter(|(key, e)| e.lives(now) && glob::matches(pattern, key, Case::Counts));
        let mut found: Vec<_> = found.map(|(key, e)| (key.clone(), e.value.clone())).collect();
        found.sort();
        found
    }

    fn put(&self, key: Bytes, value: Bytes, ttl: u64) -> CacheResult<()> {
        let until = self.until(ttl);
        let mut entries = self.entries.lock();
        if entries.len() >= MAX_ENTRIES && !entries.contains_key(&key) {
            let now = self.clock.unix();
            entries.retain(|_, e| e.lives(now));
            if entries.len() >= MAX_ENTRIES {
                return Err(CacheError::Full(MAX_ENTRIES));
            }
        }
        entries.insert(key, Entry { value, until });
        Ok(())
    }

    fn get(&self, key: &Bytes) -> Option<Bytes> {
        let now = self.clock.unix();
        self.entries.lock().get(key).filter(|e| e.lives(now)).map(|e| e.value.clone())
    }

    fn count(&self, key: Bytes, by: i64, ttl: u64) -> CacheResult<i64> {
        let (now, until) = (self.clock.unix(), self.until(ttl));
        let mut entries = self.entries.lock();
        if let Some(e) = entries.get_mut(&key).filter(|e| e.lives(now)) {
            let Some(old) = Value::Str(e.value.clone()).to_int() else {
                return Err(CacheError::NoNumber(String::from_utf8_lossy(&key).into_owned()));
            };
            let new = old.saturating_add(by);
            e.value = new.to_string().into();
            if ttl > 0 {
                e.until = until;
            }
            return Ok(new);
        }
        drop(entries);
        self.put(key, by.to_string().into(), ttl)?;
        Ok(by)
    }

    fn until(&self, ttl: u64) -> Duration {
        match ttl {
            0 => Duration::ZERO,
            ttl => self.clock.unix().saturating_add(Duration::from_secs(ttl)),
        }
    }
}

impl Entry {
    fn lives(&self, now: Duration) -> bool {
        self.until.is_zero() || self.until > now
    }
}

impl CacheDb for Collection {
    fn store(&self, key: Bytes, value: Bytes, ttl: u64) -> BoxFuture<CacheResult<()>> {
        let done = self.put(key, value, ttl);
        Box::pin(std::future::ready(done))
    }

    fn fetch(&self, key: Bytes) -> BoxFuture<CacheResult<Option<Bytes>>> {
        Box::pin(std::future::ready(Ok(self.get(&key))))
    }

    fn remove(&self, key: Bytes) -> BoxFuture<CacheResult<bool>> {
        let done = self.entries.lock().remove(&key).is_some();
        Box::pin(std::future::ready(Ok(done)))
    }

    fn add(&self, key: Bytes, by: i64, ttl: u64) -> BoxFuture<CacheResult<i64>> {
        let done = self.count(key, by, ttl);
        Box::pin(std::future::ready(done))
    }
}
