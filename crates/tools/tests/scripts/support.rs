//! A whole house in one thread for scripts under test: real modules, a network and a database made of closures, a clock
//! that stands still until it is moved.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use switchroom_kernel::kernel::{Drivers, Kernel};
use switchroom_kernel::load::{Source, load};
use switchroom_kernel::module::Module;
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::absent::Absent;
use switchroom_kernel::ports::net::{
    BoxFuture, Clock, ConnId, Handler, ListenSocket, Net, Outgoing, Packet, Proto, SocketId,
};
use switchroom_kernel::ports::store::{
    Dialect, Query, Rows, SqlValue, Store, StoreDriver, StoreError, StoreOptions,
};
use switchroom_kernel::shard::Shard;

/// Answers a query; the text of the statement and its arguments.
pub type Answer = fn(&str, &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError>;

/// A running house.
pub struct House {
    /// What all share.
    pub kernel: Arc<Kernel>,
    shard: Rc<Shard>,
    sent: Rc<RefCell<VecDeque<String>>>,
    clock: Arc<StillClock>,
}

impl House {
    /// With this script; `answer` is the database.
    pub fn start(script: &str, answer: Answer) -> House {
        House::with(script, answer, |_| {})
    }

    /// The same with other drivers.
    pub fn with(script: &str, answer: Answer, change: impl FnOnce(&mut Drivers)) -> House {
        let catalogue: Vec<&'static Module> =
            switchroom_calls::MODULES.iter().chain(switchroom_tools::MODULES).copied().collect();
        let text = format!("socket=udp:127.0.0.1:5060\ndb_default_url=\"test:\"\n{script}");
        let source = Source::Text("test.cfg".into(), Arc::from(text.as_bytes()));
        let loaded = load(&source, &catalogue, &["core", "cache"]).unwrap_or_else(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            panic!("{}", lines.join("\n"))
        });
        let clock = Arc::new(StillClock { unix: AtomicU64::new(1_000_000), started: Instant::now() });
        let nothing = Arc::new(Absent);
        let mut drivers = Drivers {
            clock: clock.clone(),
            spawn: nothing.clone(),
            resolver: nothing.clone(),
            http: nothing.clone(),
            web: nothing.clone(),
            streams: nothing.clone(),
            datagrams: nothing,
            stores: vec![Arc::new(Database(answer))],
        };
        change(&mut drivers);
        let mut kernel = Kernel::new(loaded.registry, loaded.settings, drivers, 1, Arc::new(loaded.program));
        kernel.blacklists = loaded.blacklists;
        for module in kernel.registry.modules.clone() {
            let given = loaded.params.get(module.name).map_or(&[][..], |g| g);
            let opened = (module.open)(&mut Opening::new(&mut kernel, module, given));
            opened.unwrap_or_else(|e| panic!("module {}: {e}", module.name));
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
        for live in kernel.registry.modules.iter().filter_map(|m| m.live) {
            live(&kernel);
        }
        let sent = Rc::default();
        let net = Wire { sent: Rc::clone(&sent), clock: clock.clone() };
        let shard = Shard::new(kernel.clone(), 0, Rc::new(net));
        House { kernel, shard, sent, clock }
    }

    /// Hand in a message and do all that follows from it; gives what was sent, in order.
    pub fn take(&self, message: &str) -> Vec<String> {
        self.shard.packet(Packet {
            data: message.to_owned().into(),
            socket: SocketId(0),
            peer: ([127, 0, 0, 1], 5070).into(),
            conn: None,
        });
        // Threads of programs take their time; everything else is done in the first rounds.
        for round in 0..500 {
            if round > 20 {
                if self.shard.waiting() == 0 {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            self.shard.poll_waits(&mut Context::from_waker(Waker::noop()));
        }
        self.sent.borrow_mut().drain(..).collect()
    }

    /// The same where exactly one message, 100 aside, is expected.
    #[track_caller]
    pub fn one(&self, message: &str) -> String {
        let all = self.take(message);
        let mut sent: Vec<String> = all.into_iter().filter(|m| !m.starts_with("SIP/2.0 100")).collect();
        assert_eq!(sent.len(), 1, "{sent:#?}");
        sent.remove(0)
    }

    /// Hand in an OPTIONS and give the value of the answer's header `X`, which the script under test writes.
    #[track_caller]
    pub fn ask(&self, number: u32) -> String {
        let answer = self.one(&format!(
            "OPTIONS sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK{number}\r\n\
             From: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: c{number}\r\n\
             CSeq: {number} OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        ));
        let found = answer.lines().find_map(|l| l.strip_prefix("X: ").map(str::to_owned));
        found.unwrap_or_else(|| panic!("no X in {answer}"))
    }

    /// Let time pass.
    pub fn pass(&self, seconds: u64) {
        self.clock.unix.fetch_add(seconds, Ordering::Relaxed);
    }
}

struct StillClock {
    unix: AtomicU64,
    started: Instant,
}

impl Clock for StillClock {
    fn now(&self) -> Instant {
        self.started + Duration::from_secs(self.unix.load(Ordering::Relaxed) - 1_000_000)
    }
    fn unix(&self) -> Duration {
        Duration::from_secs(self.unix.load(Ordering::Relaxed))
    }
    fn sleep(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(Later(Some(()), false))
    }
}

struct Wire {
    sent: Rc<RefCell<VecDeque<String>>>,
    clock: Arc<StillClock>,
}

impl Net for Wire {
    fn send(&self, out: Outgoing) {
        self.sent.borrow_mut().push_back(String::from_utf8_lossy(&out.data).into_owned());
    }
    fn close(&self, _: ConnId) {}
    fn now(&self) -> Instant {
        self.clock.now()
    }
}

struct Database(Answer);

impl StoreDriver for Database {
    fn scheme(&self) -> &'static str {
        "test"
    }
    fn open(&self, _: &str, _: &StoreOptions) -> BoxFuture<Result<Arc<dyn Store>, StoreError>> {
        let answer = self.0;
        Box::pin(async move { Ok(Arc::new(Database(answer)) as Arc<dyn Store>) })
    }
}

impl Store for Database {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }
    fn fetch(&self, query: Query) -> BoxFuture<Result<Rows, StoreError>> {
        let versions = [("dialplan", 5), ("grp", 3), ("re_grp", 2)];
        let rows = match query.sql.starts_with("SELECT table_version") {
            true => {
                let known = versions.iter().find(|(t, _)| query.args[0] == SqlValue::from(*t));
                Ok(known.map(|(_, v)| vec![SqlValue::Int(*v)]).into_iter().collect())
            }
            false => (self.0)(&query.sql, &query.args),
        };
        Box::pin(Later(Some(rows.map(|rows| Rows { columns: Vec::new(), rows })), false))
    }
    fn execute(&self, query: Query) -> BoxFuture<Result<u64, StoreError>> {
        let done = (self.0)(&query.sql, &query.args).map(|rows| rows.len() as u64);
        Box::pin(Later(Some(done), false))
    }
    fn batch(&self, queries: Vec<Query>) -> BoxFuture<Result<(), StoreError>> {
        let done = queries.iter().try_for_each(|q| (self.0)(&q.sql, &q.args).map(drop));
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
