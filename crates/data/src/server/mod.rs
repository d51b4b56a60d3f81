//! What the drivers of database servers share: bounded waiting lines, a time limit for every statement, one connection that
//! writes in order, several that read, and a pause after a server could not be reached.
//!
//! A job is answered by its own deadline. When no connection can be made, all jobs are refused at once until the next
//! attempt is due, so nothing piles up behind a dead server; the first job after that tries again.
//!
//! A statement whose connection breaks is sent once more on a new one (`max_db_queries`), as OpenSIPS does; a server that
//! did execute it before the connection broke executes it twice.

mod health;
mod lane;
pub(crate) mod module;
mod url;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use switchroom_kernel::ports::net::BoxFuture;
use switchroom_kernel::ports::store::{
    Dialect, Query, Reachable, Rows, Store, StoreDriver, StoreError, StoreOptions,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Mutex, mpsc, oneshot};

use health::Health;
use lane::{Answer, Job, Lane};
pub(crate) use lane::{first_word, only_reads};
pub(crate) use url::Url;

/// One connection to a server, as a dialect makes and uses it.
pub(crate) trait Link: Send + Sized + 'static {
    /// What it speaks.
    const DIALECT: Dialect;
    /// Scheme of its URLs.
    const SCHEME: &'static str;
    /// Whom to call, and how.
    type Target: Send + Sync + 'static;

    /// Reads URL parameters and options that only this dialect has.
    fn target(url: &Url, options: &mut StoreOptions) -> Result<Self::Target, StoreError>;
    /// Opens a connection.
    fn connect(target: &Self::Target) -> impl Future<Output = Result<Self, StoreError>> + Send;
    /// Rows of one statement.
    fn fetch(&mut self, query: &Query) -> impl Future<Output = Result<Rows, StoreError>> + Send;
    /// Rows touched by one statement.
    fn execute(&mut self, query: &Query) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// All or none.
    fn batch(&mut self, queries: &[Query]) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Several independent statements under one commit. An error as a whole means that none was committed and that
    /// each has to be run by itself.
    fn group(&mut self, queries: &[Query]) -> impl Future<Output = Result<Vec<Executed>, StoreError>> + Send;
    /// Whether a statement may share a commit with others.
    fn may_share(query: &Query) -> bool;
    /// Says goodbye.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// What became of one statement of a group.
pub(crate) type Executed = Result<u64, StoreError>;

/// A driver for one kind of server. It must outlive the stores that it opened.
pub(crate) struct ServerDriver<L: Link> {
    runtime: Option<Runtime>,
    handle: Handle,
    open: Open<L>,
}

/// What was opened before, by URL.
type Open<L> = Arc<Mutex<HashMap<String, Weak<ServerStore<L>>>>>;

impl<L: Link> ServerDriver<L> {
    /// Starts the driver's thread.
    pub fn start() -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name(L::SCHEME).enable_all().build()?;
        Ok(ServerDriver { handle: runtime.handle().clone(), runtime: Some(runtime), open: Open::default() })
    }
}

impl<L: Link> Drop for ServerDriver<L> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait, so that it may be dropped on any thread.
            runtime.shutdown_background();
        }
    }
}

impl<L: Link> StoreDriver for ServerDriver<L> {
    fn scheme(&self) -> &'static str {
        L::SCHEME
    }

    fn open(&self, url: &str, options: &StoreOptions) -> BoxFuture<Result<Arc<dyn Store>, StoreError>> {
        let (url, options, open) = (url.to_owned(), options.clone(), self.open.clone());
        let opened = self.handle.spawn(async move {
            let mut open = open.lock().await;
            if let Some(store) = open.get(&url).and_then(Weak::upgrade) {
                return Ok(store);
            }
            let store = ServerStore::<L>::open(&url, options).await?;
            open.retain(|_, store| store.strong_count() > 0);
            open.insert(url, Arc::downgrade(&store));
            Ok(store)
        });
        Box::pin(async move {
            let store = opened.await.map_err(|_| stopped())??;
            Ok(store as Arc<dyn Store>)
        })
    }

    fn reachable(&self) -> Vec<Reachable> {
        // Somebody is opening a database just now; the caller asks again soon.
        let Ok(open) = self.open.try_lock() else { return Vec::new() };
        let stores = open.values().filter_map(Weak::upgrade);
        stores.map(|s| Reachable { url: s.shared.name.clone(), up: s.shared.health.is_up() }).collect()
    }
}

/// Counted for statistics.
#[derive(Default)]
struct Counters {
    queries: AtomicU64,
    errors: AtomicU64,
    waiting: AtomicU64,
    transactions: AtomicU64,
    connections: AtomicU64,
    timeouts: AtomicU64,
    reconnects: AtomicU64,
    slow: AtomicU64,
}

/// What all lanes of a store know.
struct Shared<L: Link> {
    /// The URL without its password.
    name: String,
    target: L::Target,
    limits: Limits,
    health: Health,
    counters: Counters,
}

/// Options that every dialect has.
#[derive(Clone, Debug, PartialEq)]
struct Limits {
    /// From the moment a statement is given to its answer; also for a connection to stand.
    timeout: Duration,
    /// Times a statement is sent again after its connection broke.
    retries: u32,
    /// Attempts to connect when a database is opened.
    attempts: u32,
    /// Statements that take longer are logged; zero for none.
    slow: Duration,
    /// Connections that only read.
    readers: usize,
    /// Statements that may wait for the writer, and as many for the readers.
    queue: usize,
}

/// One open database.
struct ServerStore<L: Link> {
    writes: mpsc::Sender<Job>,
    reads: mpsc::Sender<Job>,
    shared: Arc<Shared<L>>,
}

impl<L: Link> ServerStore<L> {
    async fn open(url: &str, mut options: StoreOptions) -> Result<Arc<Self>, StoreError> {
        let url = Url::read(url, L::SCHEME)?;
        let target = L::target(&url, &mut options)?;
        let limits = Limits::read(L::SCHEME, &options)?;
        let health = Health::new(url.shown());
        let shared =
            Arc::new(Shared { name: url.shown(), target, limits, health, counters: Counters::default() });
        let mut first = Lane::new(shared.clone());
        first.open().await?;
        let (writes, jobs) = mpsc::channel(shared.limits.queue);
        tokio::spawn(first.write(jobs));
        let (reads, jobs) = mpsc::channel(shared.limits.queue);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..shared.limits.readers {
            tokio::spawn(Lane::new(shared.clone()).read(jobs.clone()));
        }
        Ok(Arc::new(ServerStore { writes, reads, shared }))
    }

    fn ask<T: Send + 'static>(
        &self,
        line: &mpsc::Sender<Job>,
        job: impl FnOnce(Answer<T>) -> lane::Work,
    ) -> BoxFuture<Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let counters = &self.shared.counters;
        // Before it is in line, so that the one who takes it out never counts below zero.
        counters.waiting.fetch_add(1, Relaxed);
        let job = Job::new(job(answer), self.shared.limits.timeout);
        if let Err(refused) = line.try_send(job) {
            counters.waiting.fetch_sub(1, Relaxed);
            counters.errors.fetch_add(1, Relaxed);
            let error = match refused {
                mpsc::error::TrySendError::Full(_) => {
                    StoreError::Busy(format!("{} statements are waiting already", line.max_capacity()))
                }
                mpsc::error::TrySendError::Closed(_) => stopped(),
            };
            return Box::pin(async move { Err(error) });
        }
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(stopped())) })
    }
}

impl<L: Link> Store for ServerStore<L> {
    fn dialect(&self) -> Dialect {
        L::DIALECT
    }

    fn fetch(&self, query: Query) -> BoxFuture<Result<Rows, StoreError>> {
        let line = if only_reads(&query.sql) { &self.reads } else { &self.writes };
        self.ask(line, |answer| lane::Work::Fetch(query, answer))
    }

    fn execute(&self, query: Query) -> BoxFuture<Result<u64, StoreError>> {
        self.ask(&self.writes, |answer| lane::Work::Execute(query, answer))
    }

    fn batch(&self, queries: Vec<Query>) -> BoxFuture<Result<(), StoreError>> {
        self.ask(&self.writes, |answer| lane::Work::Batch(queries, answer))
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let c = &self.shared.counters;
        vec![
            ("queries", c.queries.load(Relaxed)),
            ("errors", c.errors.load(Relaxed)),
            ("waiting", c.waiting.load(Relaxed)),
            ("transactions", c.transactions.load(Relaxed)),
            ("connections", c.connections.load(Relaxed)),
            ("timeouts", c.timeouts.load(Relaxed)),
            ("reconnects", c.reconnects.load(Relaxed)),
            ("slow", c.slow.load(Relaxed)),
        ]
    }
}

impl Limits {
    fn read(scheme: &str, options: &StoreOptions) -> Result<Limits, StoreError> {
        let mut limits = Limits {
            timeout: Duration::from_secs(6),
            retries: 2,
            attempts: 3,
            slow: Duration::ZERO,
            readers: 4,
            queue: 16_384,
        };
        for (name, values) in options {
            let last = values.last().map_or("", |v| v.as_str());
            let number: u64 = last
                .parse()
                .map_err(|_| StoreError::Url(format!("option {name} `{last}`: a number is needed")))?;
            match name.as_str() {
                "timeout_ms" => limits.timeout = Duration::from_millis(number.clamp(10, 600_000)),
                "max_db_queries" => limits.retries = number.min(10) as u32,
                "max_db_retries" => limits.attempts = number.clamp(1, 100) as u32,
                "exec_query_threshold" => limits.slow = Duration::from_micros(number),
                "readers" => limits.readers = number.clamp(1, 64) as usize,
                "queue" => limits.queue = number.clamp(1, 1_000_000) as usize,
                // Making the file is for databases that are files.
                "create" => {}
                other => {
                    return Err(StoreError::Url(format!(
                        "option `{other}` is unknown to {scheme}; it knows exec_query_threshold, max_db_queries, \
                         max_db_retries, queue, readers, timeout_ms, use_tls"
                    )));
                }
            }
        }
        Ok(limits)
    }
}

fn stopped() -> StoreError {
    StoreError::Unreachable("the database driver has stopped".to_owned())
}
