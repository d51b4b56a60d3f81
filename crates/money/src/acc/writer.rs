//! The way of rows into the database: a bounded queue, and one task that empties it.
//!
//! Callers never wait. The task writes as soon as there is something, so that only milliseconds of records are in memory
//! while the database keeps up; what gathers meanwhile goes in one transaction. While the database cannot be reached the
//! rows stay and are tried again.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use switchroom_kernel::ports::net::Clock;
use switchroom_kernel::ports::store::{Query, Store, StoreError};

/// Rows that may wait; more are lost, counted and told in the log.
pub const MAX_WAITING: usize = 100_000;
/// Rows in one transaction.
const BATCH: usize = 500;
/// First and longest pause before another try.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long the end waits for a database that cannot be reached.
const LAST_TRIES: Duration = Duration::from_secs(20);

/// The queue.
pub struct Writer {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    lost: AtomicU64,
}

#[derive(Default)]
struct Queue {
    rows: VecDeque<Query>,
    /// Rows that are being written.
    under_way: usize,
    closing: bool,
    gone: bool,
    /// Of the task.
    waker: Option<Waker>,
    /// Of whoever waits for the end.
    last: Option<Waker>,
}

impl Writer {
    /// For an open database.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Writer {
        Writer { store, clock, queue: Mutex::default(), lost: AtomicU64::new(0) }
    }

    /// Queue one row. False when it is lost because the queue is full.
    pub fn push(&self, row: Query) -> bool {
        let mut queue = self.queue.lock();
        if queue.rows.len() >= MAX_WAITING {
            drop(queue);
            self.lose(1, "the queue is full");
            return false;
        }
        queue.rows.push_back(row);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Rows that wait or are being written.
    pub fn waiting(&self) -> usize {
        let queue = self.queue.lock();
        queue.rows.len() + queue.under_way
    }

    /// Rows that were lost since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Write until [`Writer::close`] and all is written.
    pub async fn run(self: Arc<Self>) {
        while let Some(batch) = self.next().await {
            self.write(batch).await;
            self.queue.lock().under_way = 0;
        }
        let mut queue = self.queue.lock();
        queue.gone = true;
        if let Some(waker) = queue.last.take() {
            waker.wake();
        }
    }

    /// Write what is left, then end the task. Waits for it.
    pub async fn close(&self) {
        let waker = {
            let mut queue = self.queue.lock();
            queue.closing = true;
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        let mut limit = self.clock.sleep(LAST_TRIES);
        poll_fn(|cx| {
            let mut queue = self.queue.lock();
            if queue.gone {
                return Poll::Ready(());
            }
            queue.last = Some(cx.waker().clone());
            drop(queue);
            limit.as_mut().poll(cx)
        })
        .await;
        let left = self.waiting();
        if left > 0 {
            self.lose(left as u64, "the database could not be reached before the end");
        }
    }

    async fn next(&self) -> Option<Vec<Query>> {
        poll_fn(|cx| {
            let mut queue = self.queue.lock();
            if queue.rows.is_empty() {
                if queue.closing {
                    return Poll::Ready(None);
                }
                queue.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let count = queue.rows.len().min(BATCH);
            let batch: Vec<Query> = queue.rows.drain(..count).collect();
            queue.under_way = batch.len();
            Poll::Ready(Some(batch))
        })
        .await
    }

    async fn write(&self, mut batch: Vec<Query>) {
        let tried = match batch.len() {
            1 => self.lasting(|| self.store.execute(batch[0].clone())).await.map(drop),
            _ => self.lasting(|| self.store.batch(batch.clone())).await,
        };
        let Err(e) = tried else { return };
        if batch.len() == 1 {
            self.lose(1, &e.to_string());
            return;
        }
        // One of them is refused, and with it all. Alone, the others pass.
        for row in batch.drain(..) {
            if let Err(e) = self.lasting(|| self.store.execute(row.clone())).await {
                self.lose(1, &e.to_string());
            }
        }
    }

    /// Try again for as long as the database cannot be reached or is busy.
    async fn lasting<T, F>(&self, mut work: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut pause = PAUSES.0;
        loop {
            match work().await {
                Err(e @ (StoreError::Unreachable(_) | StoreError::Busy(_))) => {
                    if pause == PAUSES.0 {
                        tracing::warn!("acc: {e}; {} records wait", self.waiting());
                    }
                    self.clock.sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
                other => return other,
            }
        }
    }

    fn lose(&self, count: u64, why: &str) {
        let before = self.lost.fetch_add(count, Ordering::Relaxed);
        // A full queue loses thousands a second; the log hears of the first and of every thousandth.
        if before == 0 || before / 1000 != (before + count) / 1000 {
            tracing::error!("acc: {} records are lost so far: {why}", before + count);
        }
    }
}
