//! One worker's share of the house: its calls, its script variables, and what waits there.
//!
//! Everything in here belongs to one thread, so nothing is locked.

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, Stream};
use switchroom_script::Value;

use crate::by_type::ByType;
use crate::context::Tracer;
use crate::kernel::Kernel;
use crate::ports::net::{ConnId, Handler, Mail, Net, Packet, SendError, SocketId};
use crate::stats::StatId;

/// What is done on the worker when a wait is over.
pub type AfterWait = Box<dyn FnOnce(&Rc<Shard>)>;
type Waiting = Pin<Box<dyn Future<Output = AfterWait>>>;

/// How many scripts may wait on one worker at a time.
pub const MAX_WAITING: usize = 200_000;

/// How often the driver is told, while it drains, that scripts still wait.
const STILL_WAITING: Duration = Duration::from_millis(10);

/// One worker's share.
pub struct Shard {
    /// What all share.
    pub kernel: Arc<Kernel>,
    /// Number of the worker, from 0.
    pub worker: usize,
    /// The way out.
    pub net: Rc<dyn Net>,
    /// `$var(...)` by interned name; they live as long as the worker and are not reset between messages.
    pub vars: RefCell<HashMap<u32, Value, foldhash::fast::RandomState>>,
    /// Traces the script of every message; set by tools that show a script at work.
    pub tracer: RefCell<Option<Rc<dyn Tracer>>>,
    parts: ByType<Box<dyn Any>>,
    waits: RefCell<FuturesUnordered<Waiting>>,
    new_waits: RefCell<Vec<Waiting>>,
    waiting: Cell<usize>,
    draining: Cell<bool>,
    later: RefCell<VecDeque<AfterWait>>,
    me: Weak<Shard>,
}

impl Shard {
    /// The share of worker number `worker`.
    pub fn new(kernel: Arc<Kernel>, worker: usize, net: Rc<dyn Net>) -> Rc<Shard> {
        Rc::new_cyclic(|me| Shard {
            parts: kernel.shard_parts(worker),
            kernel,
            worker,
            net,
            vars: RefCell::default(),
            tracer: RefCell::default(),
            waits: RefCell::default(),
            new_waits: RefCell::default(),
            waiting: Cell::new(0),
            draining: Cell::new(false),
            later: RefCell::default(),
            me: me.clone(),
        })
    }

    /// A module's part of this shard.
    ///
    /// # Panics
    /// When no loaded module keeps a `T` per shard; module order and `needs` are checked at start.
    pub fn part<T: 'static>(&self) -> &T {
        let part = self.find_part();
        part.unwrap_or_else(|| panic!("no module keeps a {} per shard", std::any::type_name::<T>()))
    }

    /// The same, when that module may be missing.
    pub fn find_part<T: 'static>(&self) -> Option<&T> {
        self.parts.get(&TypeId::of::<T>()).and_then(|p| p.downcast_ref())
    }

    /// Add to a statistic.
    #[inline]
    pub fn count(&self, id: StatId, n: i64) {
        self.kernel.stats.add(self.worker, id, n);
    }

    /// Time of the current batch.
    pub fn now(&self) -> Instant {
        self.net.now()
    }

    /// Wait for `future`, then do what it gives. False when too much waits already.
    pub fn wait(&self, future: impl Future<Output = AfterWait> + 'static) -> bool {
        if self.waiting.get() >= MAX_WAITING {
            return false;
        }
        self.waiting.set(self.waiting.get() + 1);
        self.new_waits.borrow_mut().push(Box::pin(future));
        true
    }

    /// How many waits are open.
    pub fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Whether the server takes no new work and ends what it has.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Do something after the current message, on this worker.
    pub fn later(&self, work: impl FnOnce(&Rc<Shard>) + 'static) {
        self.later.borrow_mut().push_back(Box::new(work));
    }

    /// A strong reference to itself.
    pub fn rc(&self) -> Rc<Shard> {
        // A shard is only ever made inside an Rc, and whoever calls holds one.
        self.me.upgrade().expect("a shard in use is alive")
    }

    fn run_later(&self) {
        // What is queued meanwhile runs in the same round, up to a bound, so that two routes that raise each other's
        // event do not lock the worker.
        for _ in 0..1000 {
            let Some(work) = self.later.borrow_mut().pop_front() else { return };
            work(&self.rc());
        }
    }
}

impl Handler for Shard {
    fn packet(&self, packet: Packet) {
        if let Some(entry) = self.kernel.hooks.entry {
            entry(&self.rc(), packet);
        }
        self.run_later();
    }

    fn send_failed(&self, token: u64, error: SendError) {
        for hook in &self.kernel.hooks.send_failed {
            hook(&self.rc(), token, error);
        }
        self.run_later();
    }

    fn connection(&self, conn: ConnId, peer: SocketAddr, socket: SocketId, open: bool) {
        for hook in &self.kernel.hooks.connection {
            hook(&self.rc(), conn, peer, socket, open);
        }
    }

    fn overload(&self, begins: bool) {
        for hook in &self.kernel.hooks.overload {
            hook(&self.rc(), begins);
        }
        self.run_later();
    }

    fn mail(&self, mail: Mail) {
        match mail {
            Mail::Packet(p) => self.packet(p),
            Mail::Run(work) => {
                let me: Rc<Shard> = self.rc();
                work(&me);
                self.run_later();
            }
            // These two are the driver's own business; one that hands them up wants them done the plain way.
            Mail::Send(out) => self.net.send(out),
            Mail::Close(conn) => self.net.close(conn),
            Mail::Keep(conn, time) => self.net.keep(conn, time),
            Mail::Drain => self.draining.set(true),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if !self.later.borrow().is_empty() {
            return Some(self.net.now());
        }
        // A script that waits is work to be finished; the driver would take no deadline for none.
        let waits = (self.draining.get() && self.waiting.get() > 0).then(|| self.net.now() + STILL_WAITING);
        let timers = self.kernel.hooks.timers.iter().filter_map(|(when, _)| when(self));
        timers.chain(waits).min()
    }

    fn tick(&self, now: Instant) {
        for (when, what) in &self.kernel.hooks.timers {
            if when(self).is_some_and(|at| at <= now) {
                what(&self.rc(), now);
            }
        }
        self.run_later();
    }

    fn poll_waits(&self, cx: &mut Context<'_>) {
        loop {
            let new = std::mem::take(&mut *self.new_waits.borrow_mut());
            let after = {
                let mut waits = self.waits.borrow_mut();
                waits.extend(new);
                if waits.is_empty() {
                    return;
                }
                match Pin::new(&mut *waits).poll_next(cx) {
                    Poll::Ready(Some(after)) => after,
                    Poll::Ready(None) | Poll::Pending => return,
                }
            };
            self.waiting.set(self.waiting.get().saturating_sub(1));
            after(&self.rc());
            self.run_later();
        }
    }
}
