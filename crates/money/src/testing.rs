//! A house on stage with a database that remembers what it was told.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use switchroom_kernel::Shard;
use switchroom_kernel::load::Source;
use switchroom_kernel::module::Module;
use switchroom_kernel::ports::net::{BoxFuture, Proto};
use switchroom_kernel::ports::store::{
    Dialect, Query, Rows, SqlValue, Store, StoreDriver, StoreError, StoreOptions,
};
use switchroom_rehearsal::{Rehearsal, Setup};

/// Seconds since the epoch at the beginning.
pub const NOW: u64 = 1_700_000_000;

/// A running house.
pub struct House {
    /// Its worker.
    pub shard: Rc<Shard>,
    /// Its database.
    pub db: Arc<Db>,
    stage: Rehearsal,
    sent: std::cell::RefCell<std::collections::VecDeque<(u16, String)>>,
}

impl House {
    /// Load `script` with the modules of calls and `modules`, and go live.
    pub fn open(script: &str, modules: &[&'static Module]) -> Result<House, String> {
        let db = Arc::new(Db::default());
        let all: Vec<&'static Module> = [switchroom_calls::MODULES, modules].concat();
        let stage = Rehearsal::open(Setup {
            source: Source::Text("test.cfg".into(), script.as_bytes().into()),
            catalogue: &all,
            always: &["core"],
            stores: vec![Arc::new(DbDriver(db.clone()))],
            arguments: Vec::new(),
            unix: NOW,
        })?;
        stage.wait_outside(Duration::ZERO);
        Ok(House { shard: stage.shard.clone(), db, stage, sent: Default::default() })
    }

    /// A message comes in from a port of 127.0.0.1.
    pub fn receive(&self, port: u16, text: &str) {
        self.stage.receive(([127, 0, 0, 1], port).into(), Proto::Udp, text.to_owned());
    }

    /// The next message that was sent: port and text.
    pub fn sent(&self) -> Option<(u16, String)> {
        let mut sent = self.sent.borrow_mut();
        sent.extend(self.stage.sent().into_iter().map(|s| (s.to.port(), s.text)));
        sent.pop_front()
    }

    /// The next message to `port`, past others.
    pub fn sent_to(&self, port: u16) -> String {
        std::iter::from_fn(|| self.sent())
            .find(|(to, _)| *to == port)
            .map(|(_, text)| text)
            .unwrap_or_default()
    }

    /// Time goes on, with its timers.
    pub fn pass(&self, time: Duration) {
        self.stage.advance(time);
    }

    /// End all modules.
    pub fn close(&self) {
        self.stage.close();
    }
}

struct DbDriver(Arc<Db>);

impl StoreDriver for DbDriver {
    fn scheme(&self) -> &'static str {
        "fake"
    }
    fn open(&self, _: &str, _: &StoreOptions) -> BoxFuture<Result<Arc<dyn Store>, StoreError>> {
        let db: Arc<dyn Store> = self.0.clone();
        Box::pin(async move { Ok(db) })
    }
}

/// A database that remembers what it was told.
#[derive(Default)]
pub struct Db {
    rows: Mutex<Vec<(String, Vec<SqlValue>)>>,
    /// So many statements fail before one passes.
    pub unreachable: Mutex<u32>,
}

impl Db {
    /// Statements and arguments, in order.
    pub fn rows(&self) -> Vec<(String, Vec<SqlValue>)> {
        self.rows.lock().clone()
    }

    fn take(&self, queries: Vec<Query>) -> Result<(), StoreError> {
        let mut unreachable = self.unreachable.lock();
        if *unreachable > 0 {
            *unreachable -= 1;
            return Err(StoreError::Unreachable("test".into()));
        }
        if queries.iter().any(|q| q.args.contains(&SqlValue::from("refused"))) {
            return Err(StoreError::Constraint("test".into()));
        }
        self.rows.lock().extend(queries.into_iter().map(|q| (q.sql.to_string(), q.args)));
        Ok(())
    }
}

impl Store for Db {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }
    fn fetch(&self, query: Query) -> BoxFuture<Result<Rows, StoreError>> {
        let version = if query.args.contains(&SqlValue::from("missed_calls")) { 5 } else { 7 };
        let rows = Rows { columns: vec!["table_version".into()], rows: vec![vec![SqlValue::Int(version)]] };
        Box::pin(async move { Ok(rows) })
    }
    fn execute(&self, query: Query) -> BoxFuture<Result<u64, StoreError>> {
        let done = self.take(vec![query]);
        Box::pin(async move { done.map(|()| 1) })
    }
    fn batch(&self, queries: Vec<Query>) -> BoxFuture<Result<(), StoreError>> {
        let done = self.take(queries);
        Box::pin(async move { done })
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
