//! A whole house in one thread for scripts under test: real modules, a network and a database made of closures, a clock
//! that stands still until it is moved.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use switchroom_kernel::kernel::{Drivers, Kernel};
use switchroom_kernel::load::{Source, load};
use switchroom_kernel::module::Module;
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::absent::Absent;
use switchroom_kernel::ports::net::{
    BoxFuture, Clock, ConnId, Handler, ListenSocket, Mail, Net, Outgoing, Packet, Post, Proto, SocketId,
    Spawn,
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
    mailbox: Arc<Mailbox>,
    tasks: Arc<Tasks>,
}

impl House {
    /// With this script; `answer` is the database.
    pub fn start(script: &str, answer: Answer) -> House {
        let catalogue: Vec<&'static Module> =
            switchroom_calls::MODULES.iter().chain(switchroom_users::MODULES).copied().collect();
        let text = format!("socket=udp:127.0.0.1:5060\ndb_default_url=\"test:\"\n{script}");
        let source = Source::Text("test.cfg".into(), Arc::from(text.as_bytes()));
        let loaded = load(&source, &catalogue, &["core"]).unwrap_or_else(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            panic!("{}", lines.join("\n"))
        });
        let clock = Arc::new(StillClock { ms: Arc::default(), started: Instant::now() });
        let tasks = Arc::new(Tasks::default());
        let nothing = Arc::new(Absent);
        let drivers = Drivers {
            clock: clock.clone(),
            spawn: tasks.clone(),
            resolver: nothing.clone(),
            http: nothing.clone(),
            web: nothing.clone(),
            streams: nothing.clone(),
            datagrams: nothing,
            stores: vec![Arc::new(Database(answer))],
        };
        let mut kernel = Kernel::new(loaded.registry, loaded.settings, drivers, 1, Arc::new(loaded.program));
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
        let mailbox = Arc::new(Mailbox::default());
        kernel.set_post(mailbox.clone());
        for module in &kernel.registry.modules {
            if let Some(live) = module.live {
                live(&kernel);
            }
        }
        switchroom_calls::core::events::subscribe_routes(&kernel);
        let sent = Rc::default();
        let net = Wire { sent: Rc::clone(&sent), clock: clock.clone() };
        let shard = Shard::new(kernel.clone(), 0, Rc::new(net));
        House { kernel, shard, sent, clock, mailbox, tasks }
    }

    /// Hand in a message and do all that follows from it; gives what was sent, in order.
    pub fn take(&self, message: &str) -> Vec<String> {
        self.put(message);
        self.settle()
    }

    /// Hand in a message, and leave what was posted to the worker in its mailbox.
    pub fn put(&self, message: &str) {
        self.shard.packet(Packet {
            data: message.to_owned().into(),
            socket: SocketId(0),
            peer: ([127, 0, 0, 1], 5070).into(),
            conn: None,
        });
    }

    /// Do all that is waiting to be done at this moment; gives what was sent, in order.
    pub fn settle(&self) -> Vec<String> {
        for _ in 0..20 {
            self.tasks.poll();
            self.deliver_mail();
            self.shard.poll_waits(&mut Context::from_waker(Waker::noop()));
        }
        self.sent.borrow_mut().drain(..).collect()
    }

    /// Do what was posted to the worker.
    pub fn deliver_mail(&self) {
        loop {
            let mail = self.mailbox.0.lock().unwrap().pop_front();
            let Some(mail) = mail else { return };
            self.shard.mail(mail);
        }
    }

    /// Timers of the worker up to now.
    pub fn tick(&self) {
        self.shard.tick(self.clock.now());
    }

    /// Tasks of the modules that are due.
    pub fn run_tasks(&self) {
        self.tasks.poll();
    }

    /// A statistic.
    pub fn stat(&self, name: &str) -> i64 {
        self.kernel.stats.get(name).unwrap_or_else(|| panic!("no statistic {name}"))
    }

    /// The same where exactly one message, 100 aside, is expected.
    #[track_caller]
    pub fn one(&self, message: &str) -> String {
        let all = self.take(message);
        let mut sent: Vec<String> = all.into_iter().filter(|m| !m.starts_with("SIP/2.0 100")).collect();
        assert_eq!(sent.len(), 1, "{sent:#?}");
        sent.remove(0)
    }

    /// Let time pass; nothing is done in it.
    pub fn pass_ms(&self, ms: u64) {
        self.clock.ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Let time pass.
    pub fn pass(&self, seconds: u64) {
        self.pass_ms(seconds * 1000);
    }
}

struct StillClock {
    ms: Arc<AtomicU64>,
    started: Instant,
}

impl Clock for StillClock {
    fn now(&self) -> Instant {
        self.started + Duration::from_millis(self.ms.load(Ordering::Relaxed))
    }
    fn unix(&self) -> Duration {
        Duration::from_millis(1_000_000_000 + self.ms.load(Ordering::Relaxed))
    }
    fn sleep(&self, after: Duration) -> BoxFuture<()> {
        let (ms, until) = (self.ms.clone(), self.ms.load(Ordering::Relaxed) + after.as_millis() as u64);
        Box::pin(std::future::poll_fn(move |_| match ms.load(Ordering::Relaxed) >= until {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }))
    }
}

/// Tasks of modules; polled by the test.
#[derive(Default)]
struct Tasks(Mutex<Vec<BoxFuture<()>>>);

impl Tasks {
    fn poll(&self) {
        // A task may start others.
        let mut all = std::mem::take(&mut *self.0.lock().unwrap());
        all.retain_mut(|t| t.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let mut held = self.0.lock().unwrap();
        all.append(&mut held);
        *held = all;
    }
}

impl Spawn for Tasks {
    fn spawn(&self, future: BoxFuture<()>) {
        self.0.lock().unwrap().push(future);
    }
}

/// The only worker's mailbox.
#[derive(Default)]
struct Mailbox(Mutex<VecDeque<Mail>>);

impl Post for Mailbox {
    fn workers(&self) -> usize {
        1
    }
    fn post(&self, _: usize, mail: Mail) -> Result<(), Mail> {
        self.0.lock().unwrap().push_back(mail);
        Ok(())
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
        let versions =
            [("subscriber", 8), ("domain", 4), ("location", 1013), ("address", 5), ("dispatcher", 9)];
        let rows = match query.sql.starts_with("SELECT table_version") {
            true => {
                let known = versions.iter().find(|(t, _)| query.args[0] == SqlValue::from(*t));
                Ok(known.map(|(_, v)| vec![SqlValue::Int(*v)]).into_iter().collect())
            }
            false => (self.0)(&query.sql, &query.args),
        };
        Box::pin(Later(Some(rows.map(|rows| Rows { columns: Vec::new(), rows })), false))
    }
    fn execute(&self, _: Query) -> BoxFuture<Result<u64, StoreError>> {
        Box::pin(async { Ok(0) })
    }
    fn batch(&self, _: Vec<Query>) -> BoxFuture<Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
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
