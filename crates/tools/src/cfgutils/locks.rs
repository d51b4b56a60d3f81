//! Locks of the script. A script that finds one taken waits without holding up its worker.
//!
//! Whoever takes a lock twice without giving it back waits for ever, as the language says.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use foldhash::fast::FixedState;
use parking_lot::Mutex;

/// Locks by name; names are written in the script.
const MAX_NAMED: usize = 65_536;

/// All locks.
pub struct Locks {
    pool: Vec<Arc<Lock>>,
    named: Mutex<HashMap<Bytes, Arc<Lock>>>,
}

/// One lock.
#[derive(Default)]
pub struct Lock(Mutex<State>);

#[derive(Default)]
struct State {
    taken: bool,
    waiting: Vec<Waker>,
}

impl Locks {
    /// With a pool of that many dynamic locks, at least one.
    pub fn new(pool: usize) -> Locks {
        Locks { pool: (0..pool.max(1)).map(|_| Arc::default()).collect(), named: Mutex::default() }
    }

    /// The lock of a name; `None` when there are too many names.
    pub fn named(&self, name: &Bytes) -> Option<Arc<Lock>> {
        let mut named = self.named.lock();
        let full = named.len() >= MAX_NAMED;
        match named.entry(Bytes::copy_from_slice(name)) {
            Entry::Occupied(lock) => Some(lock.get().clone()),
            Entry::Vacant(_) if full => None,
            Entry::Vacant(place) => Some(place.insert(Arc::default()).clone()),
        }
    }

    /// The lock of the pool that a text stands for.
    pub fn pooled(&self, text: &[u8]) -> &Arc<Lock> {
        &self.pool[self.place(text)]
    }

    /// Which lock of the pool a text stands for.
    pub fn place(&self, text: &[u8]) -> usize {
        (FixedState::default().hash_one(text) % self.pool.len() as u64) as usize
    }
}

impl Lock {
    /// Completes when the lock is the caller's.
    pub async fn take(self: Arc<Self>) {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if !state.taken {
                state.taken = true;
                return Poll::Ready(());
            }
            if !state.waiting.iter().any(|w| w.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Give it back; nothing happens when nobody has it.
    pub fn give(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.taken = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn the_second_waits_until_the_first_gives_back() {
        let locks = Locks::new(1);
        let lock = locks.named(&Bytes::from_static(b"a")).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(lock.clone().take()).poll(&mut cx).is_ready());
        let mut second = pin!(lock.clone().take());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        lock.give();
        assert!(second.poll(&mut cx).is_ready());
        let other = locks.named(&Bytes::from_static(b"b")).unwrap();
        assert!(pin!(other.take()).poll(&mut cx).is_ready());
    }

    #[test]
    fn texts_share_a_lock_of_a_pool_of_one() {
        let locks = Locks::new(1);
        assert_eq!(locks.place(b"a"), locks.place(b"b"));
        let _ = locks.pooled(b"a");
    }
}
