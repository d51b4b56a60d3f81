//! A whole house in one thread without sockets: real modules on a recorded network and a clock that is moved by hand. For
//! `switchroom test`, which gives routing scripts unit tests, and for the tests of the modules themselves.
//!
//! What a script waits for is waited for; time passes only by [`Rehearsal::advance`]. Left out: transports, DNS and HTTP,
//! which refuse every call, and databases, which the caller brings ([`Canned`] answers from a list).

mod clock;
mod database;
pub mod pages;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use switchroom_kernel::kernel::Drivers;
use switchroom_kernel::load::{Loaded, Source, load};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::absent::Absent;
use switchroom_kernel::ports::net::{
    BoxFuture, Clock, ConnId, Handler, ListenSocket, Mail, Net, Outgoing, Packet, Post, Proto, SocketId,
    Spawn,
};
use switchroom_kernel::ports::store::StoreDriver;
use switchroom_kernel::{Kernel, Module, Shard};
use switchroom_script::parse::ast::SocketDef;

pub use clock::VirtualClock;
pub use database::{Answer, Canned};

/// Mail that waits for the worker at most; more is refused, as in a real house.
const MAX_MAIL: usize = 10_000;
/// How long a rehearsal waits in real time for programs and databases that run outside of it.
const PATIENCE: Duration = Duration::from_millis(500);

/// What to put on stage.
pub struct Setup<'a> {
    /// The script.
    pub source: Source,
    /// Modules there are.
    pub catalogue: &'a [&'static Module],
    /// Modules that need no `loadmodule`.
    pub always: &'a [&'a str],
    /// Databases.
    pub stores: Vec<Arc<dyn StoreDriver>>,
    /// `-o name=value`.
    pub arguments: Vec<(String, String)>,
    /// Time at the beginning, seconds since the epoch.
    pub unix: u64,
}

/// A message that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Where to.
    pub to: SocketAddr,
    /// Socket it left from.
    pub from: SocketId,
    /// Its bytes as text.
    pub text: String,
}

/// A house on stage.
pub struct Rehearsal {
    /// What all share.
    pub kernel: Arc<Kernel>,
    /// Its one worker.
    pub shard: Rc<Shard>,
    /// Its clock.
    pub clock: Arc<VirtualClock>,
    wire: Rc<Wire>,
    mail: Arc<Mailbox>,
    tasks: Arc<Tasks>,
    patience: Cell<Duration>,
}

impl Rehearsal {
    /// Load, check and open everything. The error is what a person should read.
    pub fn open(setup: Setup<'_>) -> Result<Rehearsal, String> {
        Rehearsal::open_with(setup, |_| {})
    }

    /// The same with other drivers in the place of some: real ones, or such that a test looks into.
    pub fn open_with(setup: Setup<'_>, change: impl FnOnce(&mut Drivers)) -> Result<Rehearsal, String> {
        let loaded = load(&setup.source, setup.catalogue, setup.always)
            .map_err(|errors| switchroom_script::diag::render(&errors))?;
        Self::from_loaded(loaded, setup.stores, setup.arguments, setup.unix, change)
    }

    fn from_loaded(
        loaded: Loaded,
        stores: Vec<Arc<dyn StoreDriver>>,
        arguments: Vec<(String, String)>,
        unix: u64,
        change: impl FnOnce(&mut Drivers),
    ) -> Result<Rehearsal, String> {
        let clock = Arc::new(VirtualClock::new(unix));
        let tasks = Arc::new(Tasks::default());
        let mail = Arc::new(Mailbox::default());
        let nothing = Arc::new(Absent);
        let mut drivers = Drivers {
            clock: clock.clone(),
            spawn: tasks.clone(),
            resolver: nothing.clone(),
            http: nothing.clone(),
            web: nothing.clone(),
            streams: nothing.clone(),
            datagrams: nothing,
            stores,
        };
        change(&mut drivers);
        let mut kernel = Kernel::new(loaded.registry, loaded.settings, drivers, 1, Arc::new(loaded.program));
        kernel.aliases = loaded.aliases;
        kernel.blacklists = loaded.blacklists;
        kernel.arguments = arguments;
        for module in kernel.registry.modules.clone() {
            let given = loaded.params.get(module.name).map_or(&[][..], |g| g);
            let opened = (module.open)(&mut Opening::new(&mut kernel, module, given));
            opened.map_err(|e| format!("module {}: {e}", module.name))?;
        }
        kernel.set_sockets(sockets(&loaded.sockets).into());
        kernel.set_post(mail.clone());
        let kernel = Arc::new(kernel);
        for live in kernel.registry.modules.iter().filter_map(|m| m.live) {
            live(&kernel);
        }
        let wire = Rc::new(Wire { sent: RefCell::default(), clock: clock.clone() });
        let shard = Shard::new(kernel.clone(), 0, wire.clone());
        let patience = Cell::new(PATIENCE);
        let stage = Rehearsal { kernel, shard, clock, wire, mail, tasks, patience };
        stage.settle();
        Ok(stage)
    }

    /// How long, in real time, to wait for programs and databases outside of the rehearsal: nothing for scripts that wait
    /// for messages and events only, longer than usual for slow programs.
    pub fn wait_outside(&self, patience: Duration) {
        self.patience.set(patience);
    }

    /// A message comes in from `peer`, on the socket that fits it best, and all that follows from it is done.
    pub fn receive(&self, peer: SocketAddr, proto: Proto, message: impl Into<Bytes>) {
        self.hand_in(peer, proto, message);
        self.settle();
    }

    /// A message comes in, and what it posts and starts is left undone: for tests of one order among several.
    pub fn hand_in(&self, peer: SocketAddr, proto: Proto, message: impl Into<Bytes>) {
        let sockets = self.kernel.sockets();
        let fits = |s: &&ListenSocket| s.proto == proto && s.addr.is_ipv4() == peer.is_ipv4();
        let socket = sockets.iter().find(fits).or(sockets.first()).map_or(SocketId(0), |s| s.id);
        let conn = proto.reliable().then(|| ConnId::new(0, u64::from(peer.port()) + 1));
        self.shard.packet(Packet { data: message.into(), socket, peer, conn });
    }

    /// Do what was posted to the worker.
    pub fn deliver_mail(&self) {
        while let Some(mail) = self.mail.take() {
            self.shard.mail(mail);
        }
    }

    /// Let the tasks of modules go on that are due.
    pub fn run_tasks(&self) {
        self.tasks.poll();
    }

    /// What was sent since the last time, in order.
    pub fn sent(&self) -> Vec<Sent> {
        let sent = std::mem::take(&mut *self.wire.sent.borrow_mut());
        let text = |data: &Bytes| String::from_utf8_lossy(data).into_owned();
        sent.into_iter().map(|o| Sent { to: o.peer, from: o.socket, text: text(&o.data) }).collect()
    }

    /// Let time pass, with every timer and sleep that ends meanwhile.
    pub fn advance(&self, time: Duration) {
        let end = self.clock.now() + time;
        loop {
            let due = [self.shard.deadline(), self.clock.next()].into_iter().flatten().min();
            // A deadline that is due and stays is somebody's mistake; it must not stop the clock.
            let next = due.unwrap_or(end).max(self.clock.now() + Duration::from_millis(1)).min(end);
            self.clock.set(next);
            self.shard.tick(next);
            self.settle();
            if next >= end {
                return;
            }
        }
    }

    /// Do all that can be done without time passing.
    pub fn settle(&self) {
        let mut idle = Instant::now();
        let mut quiet = 0;
        while quiet < 3 {
            let before = (self.wire.sent.borrow().len(), self.shard.waiting());
            let mut busy = false;
            while let Some(mail) = self.mail.take() {
                self.shard.mail(mail);
                busy = true;
            }
            self.tasks.poll();
            self.shard.poll_waits(&mut Context::from_waker(Waker::noop()));
            if busy || before != (self.wire.sent.borrow().len(), self.shard.waiting()) {
                quiet = 0;
                idle = Instant::now();
                continue;
            }
            quiet += 1;
            // What waits and does not sleep waits for a program or a database outside, or for a message to come.
            let outside = self.shard.waiting() + self.tasks.len() > self.clock.sleepers();
            if quiet == 3 && outside && self.shard.waiting() > 0 && idle.elapsed() < self.patience.get() {
                std::thread::sleep(Duration::from_millis(1));
                quiet = 2;
            }
        }
    }

    /// End all modules. Their tasks go on meanwhile, and time passes if they sleep.
    pub fn close(&self) {
        for close in self.kernel.registry.modules.iter().rev().filter_map(|m| m.close) {
            let mut closing = close(&self.kernel);
            while closing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                self.settle();
                match self.clock.next() {
                    Some(next) => self.clock.set(next.max(self.clock.now() + Duration::from_millis(1))),
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        }
    }
}

/// Sockets as the script names them; names and `*` become an address that needs no lookup.
fn sockets(defs: &[SocketDef]) -> Vec<ListenSocket> {
    let fallback = SocketDef { proto: Some("udp".into()), host: "127.0.0.1".into(), ..SocketDef::default() };
    let defs = if defs.is_empty() { std::slice::from_ref(&fallback) } else { defs };
    let mut all = Vec::new();
    for def in defs {
        let proto = def.proto.as_deref().and_then(Proto::parse).unwrap_or(Proto::Udp);
        let ip: IpAddr = def.host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let port = def.ports.first().map_or(proto.default_port(), |p| p.0);
        all.push(ListenSocket {
            id: SocketId(all.len() as u16),
            proto,
            addr: SocketAddr::new(ip, port),
            advertised: def.advertise.clone(),
            tag: def.tag.clone(),
            anycast: def.anycast,
            tos: None,
        });
    }
    all
}

struct Wire {
    sent: RefCell<VecDeque<Outgoing>>,
    clock: Arc<VirtualClock>,
}

impl Net for Wire {
    fn send(&self, out: Outgoing) {
        self.sent.borrow_mut().push_back(out);
    }
    fn close(&self, _: ConnId) {}
    fn now(&self) -> Instant {
        self.clock.now()
    }
}

#[derive(Default)]
struct Mailbox(Mutex<VecDeque<Mail>>);

impl Mailbox {
    fn take(&self) -> Option<Mail> {
        self.0.lock().pop_front()
    }
}

impl Post for Mailbox {
    fn workers(&self) -> usize {
        1
    }
    fn post(&self, _: usize, mail: Mail) -> Result<(), Mail> {
        let mut queue = self.0.lock();
        if queue.len() >= MAX_MAIL {
            return Err(mail);
        }
        queue.push_back(mail);
        Ok(())
    }
}

/// Futures of modules, polled when the house settles.
#[derive(Default)]
struct Tasks(Mutex<Vec<BoxFuture<()>>>);

impl Tasks {
    fn len(&self) -> usize {
        self.0.lock().len()
    }

    fn poll(&self) {
        let mut running = std::mem::take(&mut *self.0.lock());
        running.retain_mut(|t| t.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        self.0.lock().append(&mut running);
    }
}

impl Spawn for Tasks {
    fn spawn(&self, future: BoxFuture<()>) {
        self.0.lock().push(future);
    }
}
