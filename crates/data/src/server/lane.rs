//! One connection and the jobs that go through it, each within its own time.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use switchroom_kernel::ports::store::{Query, Rows, StoreError};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Executed, Link, Shared};

/// Statements that share one commit.
const GROUP: usize = 128;

/// Where an answer goes.
pub type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is to be done.
pub enum Work {
    Fetch(Query, Answer<Rows>),
    Execute(Query, Answer<u64>),
    Batch(Vec<Query>, Answer<()>),
}

/// Work with its time limit.
pub struct Job {
    work: Work,
    deadline: Instant,
}

impl Job {
    /// A job whose time begins now.
    pub fn new(work: Work, timeout: Duration) -> Job {
        Job { work, deadline: Instant::now() + timeout }
    }
}

/// Whether a statement can be given to a connection that only reads.
pub fn only_reads(sql: &str) -> bool {
    matches!(first_word(sql).as_str(), "SELECT" | "VALUES" | "EXPLAIN" | "SHOW" | "DESCRIBE" | "DESC")
}

/// The word with which a statement begins, in upper case.
pub fn first_word(sql: &str) -> String {
    let word = sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(').bytes();
    word.take_while(u8::is_ascii_alphabetic).map(|b| char::from(b.to_ascii_uppercase())).collect()
}

/// What is sent to the server.
enum Op<'a> {
    Fetch(&'a Query),
    Execute(&'a Query),
    Batch(&'a [Query]),
    Group(&'a [Query]),
}

/// What it answered, in the same order of kinds.
enum Out {
    Rows(Rows),
    Count(u64),
    Done,
    Counts(Vec<Executed>),
}

/// A connection that is opened when it is needed.
pub struct Lane<L: Link> {
    shared: Arc<Shared<L>>,
    link: Option<L>,
    /// Whether it was connected before.
    used: bool,
}

impl<L: Link> Lane<L> {
    pub fn new(shared: Arc<Shared<L>>) -> Lane<L> {
        Lane { shared, link: None, used: false }
    }

    /// Connects for the first time, as often as the options allow.
    pub async fn open(&mut self) -> Result<(), StoreError> {
        let limits = self.shared.limits.clone();
        let mut attempt = 1;
        loop {
            let failed = match self.dial(Instant::now() + limits.timeout).await {
                Ok(()) => return Ok(()),
                Err(e) => e,
            };
            // Wrong passwords do not become right.
            if attempt >= limits.attempts || !matches!(failed, StoreError::Unreachable(_)) {
                return Err(failed);
            }
            attempt += 1;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Serves reading jobs until the store is dropped.
    pub async fn read(mut self, jobs: Arc<Mutex<mpsc::Receiver<Job>>>) {
        loop {
            let job = jobs.lock().await.recv().await;
            let Some(job) = job else { break };
            self.taken(1);
            self.single(job).await;
        }
        self.close().await;
    }

    /// Serves writing jobs, in order, until the store is dropped and the line is empty.
    pub async fn write(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut taken = Vec::with_capacity(GROUP);
        while jobs.recv_many(&mut taken, GROUP).await > 0 {
            self.taken(taken.len());
            let mut rest = taken.drain(..).peekable();
            while let Some(job) = rest.next() {
                let mut group = match job {
                    Job { work: Work::Execute(query, answer), deadline } if L::may_share(&query) => {
                        Group { queries: vec![query], answers: vec![answer], deadline }
                    }
                    other => {
                        self.single(other).await;
                        continue;
                    }
                };
                while let Some(Job { work: Work::Execute(query, answer), deadline }) =
                    rest.next_if(|job| matches!(&job.work, Work::Execute(query, _) if L::may_share(query)))
                {
                    group.queries.push(query);
                    group.answers.push(answer);
                    group.deadline = deadline;
                }
                self.group(group).await;
            }
        }
        self.close().await;
    }

    async fn single(&mut self, job: Job) {
        let Job { work, deadline } = job;
        match work {
            Work::Fetch(query, answer) => {
                let out = self.run(Op::Fetch(&query), deadline).await;
                self.tell(
                    answer,
                    out.map(|out| if let Out::Rows(rows) = out { rows } else { Rows::default() }),
                );
            }
            Work::Execute(query, answer) => {
                let out = self.run(Op::Execute(&query), deadline).await;
                self.tell(answer, out.map(|out| if let Out::Count(count) = out { count } else { 0 }));
            }
            Work::Batch(queries, answer) => {
                self.shared.counters.transactions.fetch_add(1, Relaxed);
                let out = self.run(Op::Batch(&queries), deadline).await;
                self.tell(answer, out.map(drop));
            }
        }
    }

    /// Runs statements under one commit; when that fails, each by itself.
    async fn group(&mut self, group: Group) {
        let Group { queries, answers, deadline } = group;
        if queries.len() > 1 {
            self.shared.counters.transactions.fetch_add(1, Relaxed);
            match self.run(Op::Group(&queries), deadline).await {
                Ok(Out::Counts(counts)) if counts.len() == answers.len() => {
                    for (answer, count) in answers.into_iter().zip(counts) {
                        self.tell(answer, count);
                    }
                    return;
                }
                Err(error @ StoreError::Unreachable(_)) => {
                    for answer in answers {
                        self.tell(answer, Err(error.clone()));
                    }
                    return;
                }
                _ => {}
            }
        }
        for (query, answer) in queries.into_iter().zip(answers) {
            let out = self.run(Op::Execute(&query), deadline).await;
            self.tell(answer, out.map(|out| if let Out::Count(count) = out { count } else { 0 }));
        }
    }

    /// Sends one operation; again on a new connection when the old one turns out to be broken.
    async fn run(&mut self, op: Op<'_>, deadline: Instant) -> Result<Out, StoreError> {
        let shared = self.shared.clone();
        let started = Instant::now();
        let mut retries = shared.limits.retries;
        let result = loop {
            if Instant::now() >= deadline {
                break Err(self.late("its turn did not come"));
            }
            if self.link.is_none()
                && let Err(e) = self.connect(deadline).await
            {
                break Err(e);
            }
            let Some(link) = &mut self.link else { continue };
            match timeout_at(deadline, send(link, &op)).await {
                Err(_elapsed) => {
                    // What the server still answers would belong to another statement.
                    self.lose();
                    break Err(self.late("no answer"));
                }
                Ok(Err(StoreError::Unreachable(why))) => {
                    self.lose();
                    if retries == 0 {
                        break Err(StoreError::Unreachable(why));
                    }
                    retries -= 1;
                }
                Ok(result) => break result,
            }
        };
        let took = started.elapsed();
        if !shared.limits.slow.is_zero() && took > shared.limits.slow {
            shared.counters.slow.fetch_add(1, Relaxed);
            let sql = match &op {
                Op::Fetch(query) | Op::Execute(query) => &*query.sql,
                Op::Batch(queries) | Op::Group(queries) => queries.first().map_or("", |q| &*q.sql),
            };
            tracing::warn!("database {}: {took:?} for `{sql}`", shared.name);
        }
        result
    }

    /// Connects, unless the server was found dead a moment ago.
    async fn connect(&mut self, deadline: Instant) -> Result<(), StoreError> {
        self.shared.health.may_connect()?;
        self.dial(deadline).await
    }

    async fn dial(&mut self, deadline: Instant) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let opened = match timeout_at(deadline, L::connect(&shared.target)).await {
            Ok(opened) => opened,
            Err(_elapsed) => {
                Err(StoreError::Unreachable(format!("no connection within {:?}", shared.limits.timeout)))
            }
        };
        match opened {
            Ok(link) => {
                shared.health.connected();
                shared.counters.connections.fetch_add(1, Relaxed);
                if self.used {
                    shared.counters.reconnects.fetch_add(1, Relaxed);
                }
                self.used = true;
                self.link = Some(link);
                Ok(())
            }
            Err(e) => {
                shared.health.failed(&e);
                Err(e)
            }
        }
    }

    /// The connection is of no use any more; closing it in order could block.
    fn lose(&mut self) {
        if self.link.take().is_some() {
            self.shared.counters.connections.fetch_sub(1, Relaxed);
        }
    }

    fn late(&self, why: &str) -> StoreError {
        self.shared.counters.timeouts.fetch_add(1, Relaxed);
        StoreError::Busy(format!("{}: {why} within {:?}", self.shared.name, self.shared.limits.timeout))
    }

    async fn close(mut self) {
        if let Some(link) = self.link.take() {
            self.shared.counters.connections.fetch_sub(1, Relaxed);
            // The server may be gone by now.
            let _ = tokio::time::timeout(Duration::from_secs(1), link.close()).await;
        }
    }

    fn taken(&self, n: usize) {
        self.shared.counters.waiting.fetch_sub(n as u64, Relaxed);
    }

    fn tell<T>(&self, answer: Answer<T>, result: Result<T, StoreError>) {
        self.shared.counters.queries.fetch_add(1, Relaxed);
        if result.is_err() {
            self.shared.counters.errors.fetch_add(1, Relaxed);
        }
        // Whoever asked may have given up waiting.
        let _ = answer.send(result);
    }
}

/// Statements that are to share a commit.
struct Group {
    queries: Vec<Query>,
    answers: Vec<Answer<u64>>,
    /// That of the last one: the others came earlier by less than a group takes.
    deadline: Instant,
}

async fn send<L: Link>(link: &mut L, op: &Op<'_>) -> Result<Out, StoreError> {
    match op {
        Op::Fetch(query) => link.fetch(query).await.map(Out::Rows),
        Op::Execute(query) => link.execute(query).await.map(Out::Count),
        Op::Batch(queries) => link.batch(queries).await.map(|()| Out::Done),
        Op::Group(queries) => link.group(queries).await.map(Out::Counts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_reads_go_to_a_reader() {
        for sql in ["SELECT 1", "  select a from b", "(SELECT 1)", "SHOW TABLES"] {
            assert!(only_reads(sql), "{sql}");
        }
        for sql in
            ["INSERT INTO a VALUES (1)", "CALL x()", "WITH a AS (SELECT 1) DELETE FROM b", "", "selection"]
        {
            assert!(!only_reads(sql), "{sql}");
        }
    }
}
