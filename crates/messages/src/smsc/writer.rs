//! Writes what happens to messages: all that waits goes into one transaction, and nobody is told before it is durable.
//!
//! While a commit runs, the next group gathers, so under load the price of a commit is shared and alone nobody waits for
//! company. Work that somebody waits for fails with the database; what is only noted (an outcome) is kept and tried again.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use switchroom_kernel::ports::net::{BoxFuture, Clock};
use switchroom_kernel::ports::store::{Query, Store, StoreError};
use switchroom_money::credit::api::{Credit, Entry};

use super::store::{self, Change};

/// Told when the work is durable, or why it is not.
pub type Told = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Something to be written, all or nothing.
#[derive(Default)]
pub struct Work {
    /// Changes of messages.
    pub changes: Vec<Change>,
    /// Money that moved with them.
    pub entries: Vec<Entry>,
    /// Other statements.
    pub queries: Vec<Query>,
    /// Who waits for it. Without anybody, it is tried again until it is written.
    pub told: Option<Told>,
}

/// Work taken into one transaction.
const GROUP: usize = 2000;

/// The writer.
pub struct Writer {
    store: Arc<dyn Store>,
    credit: Arc<OnceLock<Arc<Credit>>>,
    most: usize,
    inner: Mutex<Inner>,
    /// Groups written.
    pub groups: AtomicU64,
    /// Groups that were not.
    pub failures: AtomicU64,
}

#[derive(Default)]
struct Inner {
    waiting: Vec<Work>,
    waker: Option<Waker>,
}

impl Writer {
    /// With room for `most` pieces of work that wait.
    pub fn new(store: Arc<dyn Store>, credit: Arc<OnceLock<Arc<Credit>>>, most: usize) -> Writer {
        Writer {
            store,
            credit,
            most,
            inner: Mutex::default(),
            groups: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Takes work that somebody waits for; gives it back when too much waits already.
    pub fn ask(&self, work: Work) -> Result<(), Work> {
        let mut inner = self.inner.lock();
        if inner.waiting.len() >= self.most {
            return Err(work);
        }
        inner.waiting.push(work);
        wake(inner);
        Ok(())
    }

    /// Takes a note. There are at most a few for each message that is kept, so messages are their bound.
    pub fn note(&self, changes: Vec<Change>, entries: Vec<Entry>) {
        let mut inner = self.inner.lock();
        inner.waiting.push(Work { changes, entries, ..Work::default() });
        wake(inner);
    }

    /// How much waits.
    pub fn waiting(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// Writes for as long as the process lives.
    pub async fn run(self: Arc<Self>, clock: Arc<dyn Clock>) {
        loop {
            let group = poll_fn(|cx| {
                let mut inner = self.inner.lock();
                if inner.waiting.is_empty() {
                    inner.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                let most = inner.waiting.len().min(GROUP);
                Poll::Ready(inner.waiting.drain(..most).collect::<Vec<_>>())
            })
            .await;
            let pause: Option<BoxFuture<()>> =
                (!self.write(group).await).then(|| clock.sleep(Duration::from_secs(1)));
            if let Some(pause) = pause {
                pause.await;
            }
        }
    }

    /// Writes what waits, for the end of the process.
    pub async fn flush(&self) {
        loop {
            let group = std::mem::take(&mut self.inner.lock().waiting);
            if group.is_empty() || !self.write(group).await {
                return;
            }
        }
    }

    async fn write(&self, group: Vec<Work>) -> bool {
        let result = self.store.batch(statements(&group)).await;
        match result {
            Ok(()) => {
                self.groups.fetch_add(1, Relaxed);
                group.into_iter().filter_map(|w| w.told).for_each(|told| told(Ok(())));
                true
            }
            // One that breaks a rule must not take the others with it.
            Err(StoreError::Constraint(_) | StoreError::Statement(_)) if group.len() > 1 => {
                for work in group {
                    let result = self.store.batch(statements(std::slice::from_ref(&work))).await;
                    match result {
                        Ok(()) => {
                            if let Some(told) = work.told {
                                told(Ok(()));
                            }
                        }
                        Err(error) => {
                            self.fail(work, error, false);
                        }
                    }
                }
                true
            }
            Err(error) => {
                let lasting = !matches!(error, StoreError::Constraint(_) | StoreError::Statement(_));
                let again = group.into_iter().filter_map(|work| self.fail(work, error.clone(), lasting));
                let again: Vec<Work> = again.collect();
                // In front, so that a message's row is never written after its end.
                self.inner.lock().waiting.splice(0..0, again);
                false
            }
        }
    }

    /// Tells who waits. Gives back what is to be tried again.
    fn fail(&self, mut work: Work, error: StoreError, again: bool) -> Option<Work> {
        self.failures.fetch_add(1, Relaxed);
        if let Some(told) = work.told.take() {
            if let Some(credit) = self.credit.get() {
                work.entries.iter().for_each(|e| credit.undo(e));
            }
            told(Err(error));
            return None;
        }
        if !again {
            tracing::error!("smsc: a change of a message cannot be written: {error}");
        }
        again.then_some(work)
    }
}

fn wake(mut inner: parking_lot::MutexGuard<'_, Inner>) {
    let waker = inner.waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn statements(group: &[Work]) -> Vec<Query> {
    let mut queries = store::statements(group.iter().flat_map(|w| &w.changes));
    let entries: Vec<Entry> = group.iter().flat_map(|w| &w.entries).cloned().collect();
    if !entries.is_empty() {
        queries.extend(Credit::statements(&entries));
    }
    queries.extend(group.iter().flat_map(|w| &w.queries).cloned());
    queries
}
