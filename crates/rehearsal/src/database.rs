//! A database that answers what it was told to: rows by a piece of the statement, and the versions that modules expect.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use switchroom_kernel::Module;
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_kernel::ports::store::{
    Dialect, Query, Rows, SqlValue, Store, StoreDriver, StoreError, StoreOptions,
};

/// Answers a statement and its arguments with rows.
pub type Answer = Arc<dyn Fn(&str, &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> + Send + Sync>;

/// Opens the same canned database for every URL of one scheme.
pub struct Canned {
    scheme: &'static str,
    versions: Arc<Vec<(&'static str, u32)>>,
    answer: Answer,
}

impl Canned {
    /// For URLs that begin with `scheme`; table versions are those that the modules of `catalogue` declare.
    pub fn new(scheme: &'static str, catalogue: &[&'static Module], answer: Answer) -> Canned {
        let tables = catalogue.iter().flat_map(|m| m.tables).map(|t| (t.name, t.version));
        Canned { scheme, versions: Arc::new(tables.collect()), answer }
    }
}

impl StoreDriver for Canned {
    fn scheme(&self) -> &'static str {
        self.scheme
    }
    fn open(&self, _: &str, _: &StoreOptions) -> BoxFuture<Result<Arc<dyn Store>, StoreError>> {
        let store = Opened { versions: self.versions.clone(), answer: self.answer.clone() };
        Box::pin(async move { Ok(Arc::new(store) as Arc<dyn Store>) })
    }
}

struct Opened {
    versions: Arc<Vec<(&'static str, u32)>>,
    answer: Answer,
}

impl Store for Opened {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }
    fn fetch(&self, query: Query) -> BoxFuture<Result<Rows, StoreError>> {
        let rows = match query.sql.starts_with("SELECT table_version") {
            true => {
                let known =
                    self.versions.iter().find(|(t, _)| query.args.first() == Some(&SqlValue::from(*t)));
                Ok(known.map(|(_, v)| vec![SqlValue::Int(i64::from(*v))]).into_iter().collect())
            }
            false => (self.answer)(&query.sql, &query.args),
        };
        Box::pin(Later(Some(rows.map(|rows| Rows { columns: Vec::new(), rows })), false))
    }
    fn execute(&self, query: Query) -> BoxFuture<Result<u64, StoreError>> {
        let done = (self.answer)(&query.sql, &query.args).map(|rows| rows.len() as u64);
        Box::pin(Later(Some(done), false))
    }
    fn batch(&self, queries: Vec<Query>) -> BoxFuture<Result<(), StoreError>> {
        let done = queries.iter().try_for_each(|q| (self.answer)(&q.sql, &q.args).map(drop));
        Box::pin(Later(Some(done), false))
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Pending once, so that scripts really wait.
struct Later<T>(Option<T>, bool);

impl<T: Unpin> Future for Later<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if !self.1 {
            self.1 = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.0.take() {
            Some(value) => Poll::Ready(value),
            None => Poll::Pending,
        }
    }
}
