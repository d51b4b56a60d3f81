//! The writer, which commits all that waits in one transaction, and the readers.
//!
//! A commit costs far more than a statement, so under load the price of one is shared by many; alone, a statement is its
//! own transaction. Nobody is answered before the commit that holds his statement.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sqlx::{Connection, Executor, SqliteConnection};
use switchroom_kernel::ports::store::{Query, Rows, StoreError};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{Counters, row};

/// Statements taken into one transaction.
const GROUP: usize = 256;

/// One request and where its answer goes.
pub enum Job {
    Fetch { query: Query, answer: oneshot::Sender<Result<Rows, StoreError>> },
    Execute { query: Query, answer: oneshot::Sender<Result<u64, StoreError>> },
    Batch { queries: Vec<Query>, answer: oneshot::Sender<Result<(), StoreError>> },
}

impl Job {
    /// SQLite refuses some statements inside a transaction.
    fn needs_no_transaction(&self) -> bool {
        let alone = |query: &Query| {
            matches!(
                first_word(&query.sql).as_str(),
                "PRAGMA"
                    | "VACUUM"
                    | "ATTACH"
                    | "DETACH"
                    | "BEGIN"
                    | "COMMIT"
                    | "END"
                    | "ROLLBACK"
                    | "SAVEPOINT"
            )
        };
        match self {
            Job::Fetch { query, .. } | Job::Execute { query, .. } => alone(query),
            Job::Batch { .. } => false,
        }
    }
}

/// Answers in the order of the jobs, held back until the commit.
enum Done {
    Fetch(oneshot::Sender<Result<Rows, StoreError>>, Result<Rows, StoreError>),
    Execute(oneshot::Sender<Result<u64, StoreError>>, Result<u64, StoreError>),
    Batch(oneshot::Sender<Result<(), StoreError>>, Result<(), StoreError>),
}

impl Done {
    /// Gives the answer; `failed` replaces a success that was not committed. False when it is an error.
    fn tell(self, failed: Option<&StoreError>) -> bool {
        fn send<T>(
            answer: oneshot::Sender<Result<T, StoreError>>,
            result: Result<T, StoreError>,
            failed: Option<&StoreError>,
        ) -> bool {
            let result = match failed {
                Some(error) => result.and(Err(error.clone())),
                None => result,
            };
            let good = result.is_ok();
            // Whoever asked may have given up waiting.
            let _ = answer.send(result);
            good
        }
        match self {
            Done::Fetch(answer, result) => send(answer, result, failed),
            Done::Execute(answer, result) => send(answer, result, failed),
            Done::Batch(answer, result) => send(answer, result, failed),
        }
    }
}

/// Whether a statement can be given to a reader.
pub fn only_reads(sql: &str) -> bool {
    matches!(first_word(sql).as_str(), "SELECT" | "VALUES" | "EXPLAIN")
}

fn first_word(sql: &str) -> String {
    sql.trim_start()
        .bytes()
        .take_while(u8::is_ascii_alphabetic)
        .map(|b| char::from(b.to_ascii_uppercase()))
        .collect()
}

/// Answers reading jobs until the store is dropped.
pub async fn read(
    mut connection: SqliteConnection,
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    counters: Arc<Counters>,
) {
    loop {
        let job = jobs.lock().await.recv().await;
        let Some(job) = job else { break };
        taken(&counters, 1);
        let done = run(&mut connection, job, false).await;
        tell(&counters, [done], None);
    }
    let _ = connection.close().await;
    counters.connections.fetch_sub(1, Relaxed);
}

/// Answers writing jobs until the store is dropped and the line is empty.
pub async fn write(mut connection: SqliteConnection, mut jobs: mpsc::Receiver<Job>, counters: Arc<Counters>) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.recv_many(&mut group, GROUP).await > 0 {
        taken(&counters, group.len());
        let mut rest = group.drain(..).peekable();
        while let Some(job) = rest.next() {
            let single =
                job.needs_no_transaction() || (rest.peek().is_none() && !matches!(job, Job::Batch { .. }));
            if single {
                let done = run(&mut connection, job, false).await;
                tell(&counters, [done], None);
                continue;
            }
            let mut together = vec![job];
            while let Some(next) = rest.next_if(|job| !job.needs_no_transaction()) {
                together.push(next);
            }
            commit(&mut connection, together, &counters).await;
        }
    }
    let _ = connection.close().await;
    counters.connections.fetch_sub(1, Relaxed);
}

/// Runs jobs in one transaction. One that fails leaves no trace and does not harm the others.
async fn commit(connection: &mut SqliteConnection, jobs: Vec<Job>, counters: &Counters) {
    counters.transactions.fetch_add(1, Relaxed);
    let begun = connection.execute("BEGIN IMMEDIATE").await.map_err(|e| row::error(&e));
    let mut done = Vec::with_capacity(jobs.len());
    let failed = match begun {
        Err(error) => {
            done.extend(jobs.into_iter().map(|job| refused(job, &error)));
            Some(error)
        }
        Ok(_) => {
            for job in jobs {
                done.push(run(connection, job, true).await);
            }
            match connection.execute("COMMIT").await {
                Ok(_) => None,
                Err(e) => {
                    // Fails when SQLite has rolled back by itself already.
                    let _ = connection.execute("ROLLBACK").await;
                    Some(row::error(&e))
                }
            }
        }
    };
    tell(counters, done, failed.as_ref());
}

async fn run(connection: &mut SqliteConnection, job: Job, inside: bool) -> Done {
    match job {
        Job::Fetch { query, answer } => {
            let found = row::bind(query).fetch_all(connection).await;
            Done::Fetch(answer, found.map_err(|e| row::error(&e)).and_then(|found| row::rows(&found)))
        }
        Job::Execute { query, answer } => {
            let result = row::bind(query).execute(connection).await;
            Done::Execute(answer, result.map(|r| r.rows_affected()).map_err(|e| row::error(&e)))
        }
        Job::Batch { queries, answer } => {
            debug_assert!(inside, "batches always run inside a transaction");
            Done::Batch(answer, batch(connection, queries).await)
        }
    }
}

/// All or none, without touching what else is in the transaction.
async fn batch(connection: &mut SqliteConnection, queries: Vec<Query>) -> Result<(), StoreError> {
    connection.execute("SAVEPOINT batch").await.map_err(|e| row::error(&e))?;
    for query in queries {
        if let Err(e) = row::bind(query).execute(&mut *connection).await {
            let _ = connection.execute("ROLLBACK TO batch").await;
            let _ = connection.execute("RELEASE batch").await;
            return Err(row::error(&e));
        }
    }
    connection.execute("RELEASE batch").await.map(drop).map_err(|e| row::error(&e))
}

fn refused(job: Job, error: &StoreError) -> Done {
    match job {
        Job::Fetch { answer, .. } => Done::Fetch(answer, Err(error.clone())),
        Job::Execute { answer, .. } => Done::Execute(answer, Err(error.clone())),
        Job::Batch { answer, .. } => Done::Batch(answer, Err(error.clone())),
    }
}

fn taken(counters: &Counters, n: usize) {
    counters.waiting.fetch_sub(n as u64, Relaxed);
}

fn tell(counters: &Counters, done: impl IntoIterator<Item = Done>, failed: Option<&StoreError>) {
    for done in done {
        counters.queries.fetch_add(1, Relaxed);
        if !done.tell(failed) {
            counters.errors.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_selects_go_to_a_reader() {
        for sql in ["SELECT 1", "  select a from b", "VALUES (1)"] {
            assert!(only_reads(sql), "{sql}");
        }
        // WITH may end in an INSERT.
        for sql in
            ["INSERT INTO a VALUES (1) RETURNING id", "WITH x AS (SELECT 1) DELETE FROM a", "", "SELECTED"]
        {
            assert!(!only_reads(sql), "{sql}");
        }
    }
}
