//! What key-value stores offer to scripts and to other modules: stores register themselves by id (`local`,
//! `local:group`), and whoever has an id can use one.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use switchroom_kernel::ports::net::BoxFuture;

/// Why a store did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// No more room; the bound is the store's.
    #[error("the cache is full ({0} entries)")]
    Full(usize),
    /// A counter was asked for where there is something else.
    #[error("the value of \"{0}\" is no number")]
    NoNumber(String),
    /// The server behind it did not answer.
    #[error("the cache does not answer: {0}")]
    Unreachable(String),
    /// This store has no such operation.
    #[error("this cache cannot do that: {0}")]
    Unsupported(&'static str),
}

/// Result of an operation.
pub type CacheResult<T> = Result<T, CacheError>;

/// A key-value store. Times to live are in seconds; 0 is for ever.
pub trait CacheDb: Send + Sync {
    /// Keep a value.
    fn store(&self, key: Bytes, value: Bytes, ttl: u64) -> BoxFuture<CacheResult<()>>;
    /// The value of a key that has not run out.
    fn fetch(&self, key: Bytes) -> BoxFuture<CacheResult<Option<Bytes>>>;
    /// Forget a key. False when there was none.
    fn remove(&self, key: Bytes) -> BoxFuture<CacheResult<bool>>;
    /// Add to a counter, which starts at 0; gives its new value. The time to live is set anew unless it is 0.
    fn add(&self, key: Bytes, by: i64, ttl: u64) -> BoxFuture<CacheResult<i64>>;
    /// Run a query in the store's own language; rows of text.
    fn raw(&self, _query: Bytes) -> BoxFuture<CacheResult<Vec<Vec<Option<Bytes>>>>> {
        Box::pin(async { Err(CacheError::Unsupported("raw queries")) })
    }
}

/// All stores by id.
#[derive(Default)]
pub struct Caches {
    by_id: RwLock<HashMap<String, Arc<dyn CacheDb>>>,
}

impl Caches {
    /// Offer a store. The last one of an id wins, as with a URL that is given twice.
    pub fn register(&self, id: &str, store: Arc<dyn CacheDb>) {
        self.by_id.write().insert(id.to_owned(), store);
    }

    /// A store by the id a script gives.
    pub fn find(&self, id: &[u8]) -> Option<Arc<dyn CacheDb>> {
        self.by_id.read().get(std::str::from_utf8(id).ok()?).cloned()
    }

    /// All ids, sorted.
    pub fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.by_id.read().keys().cloned().collect();
        ids.sort();
        ids
    }
}
