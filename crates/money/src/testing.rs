//! A house for tests: real modules on one worker, with a network, a clock and a database that are lists.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use switchroom_kernel::Shard;
use switchroom_kernel::kernel::{Drivers, Kernel};
use switchroom_kernel::load::{Source, load};
use switchroom_kernel::module::Module;
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::absent::Absent;
use switchroom_kernel::ports::http::{HttpConfig, HttpHandler, HttpServer};
use switchroom_kernel::ports::net::{
    BoxFuture, Clock, ConnId, Handler, ListenSocket, NaptrRecord, Net, Outgoing, Packet, Proto, ResolveError,
    Resolver, SocketId, Spawn, SrvRecord,
};
use switchroom_kernel::ports::store::{
    Dialect, Query, Rows, SqlValue, Store, StoreDriver, StoreError, StoreOptions,
};

/// A running house.
pub struct House {
    /// Its worker.
    pub shard: Rc<Shard>,
    /// Its database.
    pub db: Arc<Db>,
    net: Rc<Wire>,
}

impl House {
    /// Load `script` with the modules of calls and `modules`, and go live.
    pub fn open(script: &str, modules: &[&'static Module]) -> Result<House, String> {
        let db = Arc::new(Db::default());
        let fake = Arc::new(Fake);
        let source = Source::Text("test.cfg".into(), script.as_bytes().into());
        let all: Vec<&'static Module> = switchroom_calls::MODULES.iter().chain(modules).copied().collect();
        let loaded = load(&source, &all, &["core"]).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(|d| d.message.clone()).collect();
            lines.join("\n")
        })?;
        let drivers = Drivers {
            clock: fake.clone(),
            spawn: fake.clone(),
            resolver: fake.clone(),
            http: fake,
            web: Arc::new(Absent),
            streams: Arc::new(Absent),
            datagrams: Arc::new(Absent),
            stores: vec![Arc::new(DbDriver(db.clone()))],
        };
        let mut kernel = Kernel::new(loaded.registry, loaded.settings, drivers, 1, Arc::new(loaded.program));
        let order = kernel.registry.modules.clone();
        for m in &order {
            let params = loaded.params.get(m.name).map_or(&[][..], |p| p);
            (m.open)(&mut Opening::new(&mut kernel, m, params)).map_err(|e| format!("{}: {e}", m.name))?;
        }
        kernel.set_sockets(Arc::from([ListenSocket {
            id: SocketId(0),
            proto: Proto::Udp,
            addr: ([127, 0, 0, 1], 5060).into(),
            advertised: None,
            tag: None,
            anycast: false,
            tos: None,
        }]));
        let kernel = Arc::new(kernel);
        for live in order.iter().filter_map(|m| m.live) {
            live(&kernel);
        }
        let net = Rc::new(Wire { sent: RefCell::default(), now: Cell::new(Instant::now()) });
        let shard = Shard::new(kernel, 0, net.clone());
        Ok(House { shard, db, net })
    }

    /// A message comes in from a port of 127.0.0.1.
    pub fn receive(&self, port: u16, text: &str) {
        let data = Bytes::copy_from_slice(text.as_bytes());
        let peer = ([127, 0, 0, 1], port).into();
        self.shard.packet(Packet { data, socket: SocketId(0), peer, conn: None });
    }

    /// The next message that was sent: port and text.
    pub fn sent(&self) -> Option<(u16, String)> {
        let out = self.net.sent.borrow_mut().pop_front()?;
        Some((out.peer.port(), String::from_utf8_lossy(&out.data).into_owned()))
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
        let end = self.net.now.get() + time;
        while self.net.now.get() < end {
            self.net.now.set(self.net.now.get() + Duration::from_millis(100));
            self.shard.tick(self.net.now.get());
        }
    }

    /// End all modules.
    pub fn close(&self) {
        for close in self.shard.kernel.registry.modules.iter().filter_map(|m| m.close) {
            block_on(close(&self.shard.kernel));
        }
    }
}

struct Wire {
    sent: RefCell<VecDeque<Outgoing>>,
    now: Cell<Instant>,
}

impl Net for Wire {
    fn send(&self, out: Outgoing) {
        self.sent.borrow_mut().push_back(out);
    }
    fn close(&self, _: ConnId) {}
    fn now(&self) -> Instant {
        self.now.get()
    }
}

struct Fake;

/// Seconds since the epoch, all the time.
pub const NOW: u64 = 1_700_000_000;

impl Clock for Fake {
    fn now(&self) -> Instant {
        Instant::now()
    }
    fn unix(&self) -> Duration {
        Duration::from_secs(NOW)
    }
    /// Waits a thousandth of the time, on the waiting thread.
    fn sleep(&self, after: Duration) -> BoxFuture<()> {
        if after > Duration::from_secs(10) {
            return Box::pin(std::future::pending());
        }
        Box::pin(async move { std::thread::sleep(after / 1000) })
    }
}

impl Spawn for Fake {
    fn spawn(&self, future: BoxFuture<()>) {
        std::thread::spawn(move || block_on(future));
    }
}

impl Resolver for Fake {
    fn addresses(&self, _: &str) -> BoxFuture<Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async { Err(ResolveError::NotFound) })
    }
    fn srv(&self, _: &str) -> BoxFuture<Result<Vec<SrvRecord>, ResolveError>> {
        Box::pin(async { Err(ResolveError::NotFound) })
    }
    fn naptr(&self, _: &str) -> BoxFuture<Result<Vec<NaptrRecord>, ResolveError>> {
        Box::pin(async { Err(ResolveError::NotFound) })
    }
}

impl HttpServer for Fake {
    fn serve(&self, _: HttpConfig, _: HttpHandler) -> BoxFuture<Result<SocketAddr, String>> {
        Box::pin(async { Err("there is no HTTP here".into()) })
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
