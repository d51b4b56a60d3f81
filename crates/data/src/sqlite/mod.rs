//! SQLite behind the store port: one writer that commits in groups, several readers, bounded waiting lines.
//!
//! All work is done on the driver's own threads and answered over channels, so callers may poll the futures on any
//! runtime or none. The file is in WAL mode: what was acknowledged survives the death of the process, and with
//! `synchronous=full` also a loss of power. The pragmas of `exec_pragma` are applied last and may change that.

pub mod module;
mod options;
mod row;
mod work;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use sqlx::{ConnectOptions, Connection, SqliteConnection};
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_kernel::ports::store::{Dialect, Query, Rows, Store, StoreDriver, StoreError, StoreOptions};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Mutex, mpsc, oneshot};

use options::Options;
use work::Job;

/// The driver for `sqlite:` URLs. It must outlive the stores that it opened.
pub struct SqliteDriver {
    runtime: Option<Runtime>,
    handle: Handle,
    open: Open,
}

/// What was opened before, by file.
type Open = Arc<Mutex<HashMap<PathBuf, Weak<SqliteStore>>>>;

impl SqliteDriver {
    /// Starts the driver's thread.
    pub fn start() -> io::Result<SqliteDriver> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("sqlite").enable_all().build()?;
        Ok(SqliteDriver { handle: runtime.handle().clone(), runtime: Some(runtime), open: Open::default() })
    }
}

impl Drop for SqliteDriver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait, so that it may be dropped on any thread.
            runtime.shutdown_background();
        }
    }
}

impl StoreDriver for SqliteDriver {
    fn scheme(&self) -> &'static str {
        "sqlite"
    }

    fn open(&self, url: &str, options: &StoreOptions) -> BoxFuture<Result<Arc<dyn Store>, StoreError>> {
        let options = Options::read(url, options);
        let open = self.open.clone();
        let opened = self.handle.spawn(async move {
            let options = options?;
            let Some(path) = options.path.clone() else {
                return SqliteStore::open(options).await;
            };
            // A relative and an absolute path may name the same file.
            let path = std::path::absolute(&path).unwrap_or(path);
            let mut open = open.lock().await;
            if let Some(store) = open.get(&path).and_then(Weak::upgrade) {
                return Ok(store);
            }
            let store = SqliteStore::open(options).await?;
            open.retain(|_, store| store.strong_count() > 0);
            open.insert(path, Arc::downgrade(&store));
            Ok(store)
        });
        Box::pin(async move {
            let store = opened.await.map_err(|_| stopped())??;
            Ok(store as Arc<dyn Store>)
        })
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
}

/// One open database file.
struct SqliteStore {
    writes: mpsc::Sender<Job>,
    /// `None` when everything has to go through one connection, as for a database in memory.
    reads: Option<mpsc::Sender<Job>>,
    counters: Arc<Counters>,
}

impl SqliteStore {
    async fn open(options: Options) -> Result<Arc<SqliteStore>, StoreError> {
        let counters = Arc::new(Counters::default());
        // The writer first: it sets the journal mode for all.
        let writer = connect(&options, true).await?;
        counters.connections.fetch_add(1, Relaxed);
        let (writes, jobs) = mpsc::channel(options.queue);
        tokio::spawn(work::write(writer, jobs, counters.clone()));
        let mut store = SqliteStore { writes, reads: None, counters: counters.clone() };
        if options.path.is_some() && options.readers > 0 {
            let (reads, jobs) = mpsc::channel(options.queue);
            let jobs = Arc::new(Mutex::new(jobs));
            for _ in 0..options.readers {
                let reader = connect(&options, false).await?;
                counters.connections.fetch_add(1, Relaxed);
                tokio::spawn(work::read(reader, jobs.clone(), counters.clone()));
            }
            store.reads = Some(reads);
        }
        Ok(Arc::new(store))
    }

    fn ask<T: Send + 'static>(
        &self,
        line: &mpsc::Sender<Job>,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> BoxFuture<Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        // Before it is in line, so that the one who takes it out never counts below zero.
        self.counters.waiting.fetch_add(1, Relaxed);
        if let Err(refused) = line.try_send(job(answer)) {
            self.counters.waiting.fetch_sub(1, Relaxed);
            self.counters.errors.fetch_add(1, Relaxed);
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

impl Store for SqliteStore {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn fetch(&self, query: Query) -> BoxFuture<Result<Rows, StoreError>> {
        let line = match &self.reads {
            Some(reads) if work::only_reads(&query.sql) => reads,
            _ => &self.writes,
        };
        self.ask(line, |answer| Job::Fetch { query, answer })
    }

    fn execute(&self, query: Query) -> BoxFuture<Result<u64, StoreError>> {
        self.ask(&self.writes, |answer| Job::Execute { query, answer })
    }

    fn batch(&self, queries: Vec<Query>) -> BoxFuture<Result<(), StoreError>> {
        self.ask(&self.writes, |answer| Job::Batch { queries, answer })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counters { queries, errors, waiting, transactions, connections } = &*self.counters;
        vec![
            ("queries", queries.load(Relaxed)),
            ("errors", errors.load(Relaxed)),
            ("waiting", waiting.load(Relaxed)),
            ("transactions", transactions.load(Relaxed)),
            ("connections", connections.load(Relaxed)),
        ]
    }
}

async fn connect(options: &Options, writer: bool) -> Result<SqliteConnection, StoreError> {
    let named = |e| match (row::error(&e), &options.path) {
        (StoreError::Unreachable(why), Some(path)) => {
            StoreError::Unreachable(format!("{}: {why}", path.display()))
        }
        (error, _) => error,
    };
    let mut connection = options.connect(writer).connect().await.map_err(named)?;
    for pragma in &options.pragmas {
        let sql = sqlx::AssertSqlSafe(pragma.clone());
        if let Err(e) = sqlx::raw_sql(sql).execute(&mut connection).await {
            let error = StoreError::Url(format!("exec_pragma `{pragma}`: {e}"));
            let _ = connection.close().await;
            return Err(error);
        }
    }
    Ok(connection)
}

fn stopped() -> StoreError {
    StoreError::Unreachable("the database driver has stopped".to_owned())
}
