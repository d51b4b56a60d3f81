//! The running house: everything that all workers share.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use switchroom_script::Program;
use switchroom_script::parse::ast::BlacklistDef;
use switchroom_wire::sip::{Message, Via, scan};

use crate::by_type::ByType;
use crate::context::{Ctx, Received};
use crate::events::Events;
use crate::module::{Hook, Hooked};
use crate::outlets::LogOutlets;
use crate::ports::datagram::Datagrams;
use crate::ports::http::{HttpClient, HttpServer};
use crate::ports::net::{Clock, Mail, Packet, Post, Proto, Resolver, SendError, SocketId, Sockets, Spawn};
use crate::ports::store::{Store, StoreDriver, StoreOptions};
use crate::ports::stream::Streams;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::shard::Shard;
use crate::stats::Stats;
use crate::status::StatusReports;
use crate::trace::Trace;

/// The drivers a house is built on.
#[derive(Clone)]
pub struct Drivers {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The control thread.
    pub spawn: Arc<dyn Spawn>,
    /// DNS.
    pub resolver: Arc<dyn Resolver>,
    /// HTTP listeners.
    pub http: Arc<dyn HttpServer>,
    /// Calls to other HTTP servers.
    pub web: Arc<dyn HttpClient>,
    /// Byte streams for protocols other than SIP.
    pub streams: Arc<dyn Streams>,
    /// Datagrams for protocols other than SIP.
    pub datagrams: Arc<dyn Datagrams>,
    /// Databases, by URL scheme.
    pub stores: Vec<Arc<dyn StoreDriver>>,
}

/// A host name or address that is us (`alias=`, sockets), for `is_myself()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Only for this transport.
    pub proto: Option<Proto>,
    /// Name or address, lower case, IPv6 without brackets.
    pub host: String,
    /// Only with this port; `None` for any.
    pub port: Option<u16>,
    /// Names below this one count as well.
    pub subdomains: bool,
}

/// An address where a module listens for a transport of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Transport, as in `socket=name:address:port`.
    pub transport: String,
    /// Address; port 0 when the script names none.
    pub addr: SocketAddr,
}

/// Hooks of all modules by kind, in order of start.
#[derive(Default)]
pub struct Hooks {
    /// See [`Hook::Entry`].
    pub entry: Option<fn(&Rc<Shard>, Packet)>,
    /// See [`Hook::Request`].
    pub request: Vec<fn(&mut Ctx) -> Hooked>,
    /// See [`Hook::Route`].
    pub route: Option<fn(Box<Ctx>)>,
    /// See [`Hook::Answer`].
    pub answer: Vec<fn(&Rc<Shard>, &Message, &Received) -> Hooked>,
    /// See [`Hook::Reply`].
    pub reply: Vec<fn(Box<Ctx>) -> Option<Box<Ctx>>>,
    /// See [`Hook::Routed`].
    pub routed: Vec<fn(&mut Ctx)>,
    /// See [`Hook::Suspend`].
    pub suspend: Vec<fn(&mut Ctx)>,
    /// See [`Hook::ScriptEnd`].
    pub script_end: Vec<fn(&mut Ctx)>,
    /// See [`Hook::Timer`].
    pub timers: Vec<TimerHook>,
    /// See [`Hook::SendFailed`].
    pub send_failed: Vec<fn(&Rc<Shard>, u64, SendError)>,
    /// See [`Hook::Connection`].
    pub connection: Vec<crate::module::ConnectionHook>,
    /// See [`Hook::Overload`].
    pub overload: Vec<fn(&Rc<Shard>, bool)>,
    /// See [`Hook::Known`].
    pub known: Vec<fn(&Shard, &[u8], &Via<'_>) -> bool>,
}

/// When a shard's timer is due, and what happens then.
pub type TimerHook = (fn(&Shard) -> Option<Instant>, fn(&Rc<Shard>, Instant));

type ShardPart = Box<dyn Fn(usize) -> (TypeId, Box<dyn Any>) + Send + Sync>;

/// The running house.
///
/// More than 15 fields: it is the table of everything shared, and each field is one service.
pub struct Kernel {
    /// Exports of the loaded modules.
    pub registry: Registry,
    /// Core parameters.
    pub settings: Settings,
    /// Statistics.
    pub stats: Arc<Stats>,
    /// Events.
    pub events: Arc<Events>,
    /// What happened to calls, when somebody wants to know.
    pub trace: Trace,
    /// What parts of the house say about their readiness.
    pub status: StatusReports,
    /// Drivers.
    pub drivers: Drivers,
    /// Hooks.
    pub hooks: Hooks,
    /// Number of workers.
    pub workers: usize,
    /// Time of start, seconds since the epoch.
    pub started: u64,
    /// Current `log_level`; changed by command.
    pub log_level: AtomicI64,
    /// What of the log goes where.
    pub log_outlets: LogOutlets,
    /// `xlog_print_level`.
    pub xlog_print_level: i32,
    /// Current `xlog_level`.
    pub xlog_level: AtomicI64,
    /// The script in force.
    pub program: ArcSwap<Program>,
    /// Hosts that are us, besides the sockets themselves.
    pub aliases: Vec<Alias>,
    /// Sockets of transports that modules serve.
    pub listens: Vec<Listen>,
    /// Destinations that the script forbids (`dst_blacklist`).
    pub blacklists: Vec<BlacklistDef>,
    /// Options for database drivers, by scheme.
    pub store_options: HashMap<String, StoreOptions>,
    /// `-o name=value` of the command line, for `$argv(name)`.
    pub arguments: Vec<(String, String)>,
    sockets: OnceLock<Sockets>,
    post: OnceLock<Arc<dyn Post>>,
    reload: OnceLock<Reload>,
    stop: OnceLock<Arc<dyn Fn() + Send + Sync>>,
    states: ByType<Arc<dyn Any + Send + Sync>>,
    shard_parts: Vec<ShardPart>,
}

/// Reads the script again and checks it; gives the new program or the errors as text.
pub type Reload = Arc<dyn Fn() -> Result<Arc<Program>, String> + Send + Sync>;

impl Kernel {
    /// An empty house with its registry; modules are opened into it.
    pub fn new(
        registry: Registry,
        settings: Settings,
        drivers: Drivers,
        workers: usize,
        program: Arc<Program>,
    ) -> Kernel {
        let mut hooks = Hooks::default();
        let modules = &registry.modules;
        for hook in modules.iter().flat_map(|m| m.hooks) {
            match hook {
                Hook::Entry(f) => hooks.entry = Some(*f),
                Hook::Request(f) => hooks.request.push(*f),
                Hook::Route(f) => hooks.route = Some(*f),
                Hook::Answer(f) => hooks.answer.push(*f),
                Hook::Reply(f) => hooks.reply.push(*f),
                Hook::Routed(f) => hooks.routed.push(*f),
                Hook::Suspend(f) => hooks.suspend.push(*f),
                Hook::ScriptEnd(f) => hooks.script_end.push(*f),
                Hook::Timer(when, what) => hooks.timers.push((*when, *what)),
                Hook::SendFailed(f) => hooks.send_failed.push(*f),
                Hook::Connection(f) => hooks.connection.push(*f),
                Hook::Overload(f) => hooks.overload.push(*f),
                Hook::Known(f) => hooks.known.push(*f),
            }
        }
        let events = Arc::new(Events::default());
        for e in modules.iter().flat_map(|m| m.events) {
            events.publish(e.name, e.attrs);
        }
        Kernel {
            registry,
            log_level: AtomicI64::new(if settings.on("debug_mode") { 4 } else { settings.int("log_level") }),
            log_outlets: LogOutlets::new(&settings),
            xlog_print_level: settings.int("xlog_print_level").clamp(-3, 4) as i32,
            xlog_level: AtomicI64::new(settings.int("xlog_level")),
            started: drivers.clock.unix().as_secs(),
            settings,
            stats: Arc::new(Stats::new(workers)),
            trace: Trace::new(workers),
            events,
            status: StatusReports::default(),
            drivers,
            hooks,
            workers,
            program: ArcSwap::new(program),
            aliases: Vec::new(),
            listens: Vec::new(),
            blacklists: Vec::new(),
            store_options: HashMap::new(),
            arguments: Vec::new(),
            sockets: OnceLock::new(),
            post: OnceLock::new(),
            reload: OnceLock::new(),
            stop: OnceLock::new(),
            states: ByType::default(),
            shard_parts: Vec::new(),
        }
    }

    /// State of a module, by its type. `None` when that module is not loaded.
    pub fn find<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.states.get(&TypeId::of::<T>()).and_then(|s| s.downcast_ref())
    }

    /// The same, shared.
    pub fn share<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.states.get(&TypeId::of::<T>()).and_then(|s| s.clone().downcast().ok())
    }

    /// State of a module that is certainly loaded: the caller's own, or one that it needs.
    ///
    /// # Panics
    /// When it is not; module order and `needs` are checked at start.
    pub fn state<T: Any + Send + Sync>(&self) -> &T {
        self.find().unwrap_or_else(|| panic!("no module keeps a {}", std::any::type_name::<T>()))
    }

    pub(crate) fn put_state<T: Any + Send + Sync>(&mut self, state: Arc<T>) {
        self.states.insert(TypeId::of::<T>(), state);
    }

    pub(crate) fn put_shard_part(&mut self, part: ShardPart) {
        self.shard_parts.push(part);
    }

    pub(crate) fn shard_parts(&self, worker: usize) -> ByType<Box<dyn Any>> {
        self.shard_parts.iter().map(|make| make(worker)).collect()
    }

    /// Listening sockets. Empty until they are bound.
    pub fn sockets(&self) -> &[crate::ports::net::ListenSocket] {
        self.sockets.get().map_or(&[], |s| s)
    }

    /// One listening socket.
    pub fn socket(&self, id: SocketId) -> Option<&crate::ports::net::ListenSocket> {
        self.sockets().get(id.0 as usize)
    }

    /// Sockets were bound.
    pub fn set_sockets(&self, sockets: Sockets) {
        // Set once at start; a second start in one process is a defect that changes nothing here.
        let _ = self.sockets.set(sockets);
    }

    /// Workers are there.
    pub fn set_post(&self, post: Arc<dyn Post>) {
        let _ = self.post.set(post);
    }

    /// How the script is read again.
    pub fn set_reload(&self, reload: Reload) {
        let _ = self.reload.set(reload);
    }

    /// What ends the process in an orderly way.
    pub fn set_stop(&self, stop: Arc<dyn Fn() + Send + Sync>) {
        let _ = self.stop.set(stop);
    }

    /// End the process in an orderly way.
    pub fn stop(&self) {
        if let Some(stop) = self.stop.get() {
            stop();
        }
    }

    /// Read the script again, check it, and swap it in. Processing that is under way keeps the old one.
    pub fn reload_script(&self) -> Result<(), String> {
        let reload = self.reload.get().ok_or("this script cannot be read again")?;
        let program = reload()?;
        self.program.store(program);
        Ok(())
    }

    /// Run something on a worker's thread. False when its mailbox is full or there are no workers yet.
    pub fn on_worker(&self, worker: usize, work: impl FnOnce(&Rc<Shard>) + Send + 'static) -> bool {
        let Some(post) = self.post.get() else { return false };
        let run = Box::new(move |any: &dyn Any| {
            if let Some(shard) = any.downcast_ref::<Rc<Shard>>() {
                work(shard);
            }
        });
        post.post(worker, Mail::Run(run)).is_ok()
    }

    /// Whether a host and port are us: a socket, its advertised address, or an alias. Port 0 stands for any.
    pub fn is_myself(&self, host: impl AsRef<[u8]>, port: u16, proto: Option<Proto>) -> bool {
        let host = host.as_ref();
        let host = host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]")).unwrap_or(host);
        let ip = scan::ip_literal(host);
        let socket = |s: &crate::ports::net::ListenSocket| {
            let proto_fits = proto.is_none_or(|p| p == s.proto);
            let own = ip.is_some_and(|ip| s.addr.ip() == ip) && (port == 0 || s.addr.port() == port);
            let shown = s.advertised.as_ref().is_some_and(|(h, p)| {
                h.trim_matches(['[', ']']).as_bytes().eq_ignore_ascii_case(host)
                    && (port == 0 || p.unwrap_or(s.addr.port()) == port)
            });
            proto_fits && (own || shown)
        };
        let alias = |a: &Alias| {
            let own = a.host.as_bytes();
            let named = own.eq_ignore_ascii_case(host)
                || (a.subdomains
                    && host.len() > own.len()
                    && host[host.len() - own.len() - 1] == b'.'
                    && host[host.len() - own.len()..].eq_ignore_ascii_case(own));
            named
                && (port == 0 || a.port.is_none_or(|p| p == port))
                && (proto.is_none() || a.proto.is_none() || a.proto == proto)
        };
        self.sockets().iter().any(socket) || self.aliases.iter().any(alias)
    }

    /// Note what happens to a call, if somebody wants to know. `worker` is the worker on whose thread this is.
    #[inline]
    pub fn note_call(
        &self,
        worker: Option<usize>,
        call_id: &[u8],
        kind: &'static str,
        text: impl FnOnce() -> String,
    ) {
        if self.trace.on() {
            self.trace.note(worker, self.drivers.clock.unix(), call_id, kind, text());
        }
    }

    /// Seconds since the epoch.
    pub fn unix(&self) -> u64 {
        self.drivers.clock.unix().as_secs()
    }

    /// Run `work` every `period`, on the control thread, for as long as the process lives.
    pub fn every<F>(
        self: &Arc<Self>,
        period: Duration,
        work: impl Fn(Arc<Kernel>) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let kernel = self.clone();
        self.drivers.spawn.spawn(Box::pin(async move {
            loop {
                kernel.drivers.clock.sleep(period).await;
                work(kernel.clone()).await;
            }
        }));
    }

    /// Open a database by URL, or by the default URL when `url` is `None`.
    pub fn open_store(
        &self,
        url: Option<&str>,
    ) -> crate::ports::net::BoxFuture<Result<Arc<dyn Store>, crate::ports::store::StoreError>> {
        use crate::ports::store::StoreError;
        let Some(url) = url.or_else(|| self.settings.str("db_default_url")) else {
            return Box::pin(async { Err(StoreError::Url("no db_url and no db_default_url is set".into())) });
        };
        let scheme = url.split(':').next().unwrap_or_default();
        let Some(driver) = self.drivers.stores.iter().find(|d| d.scheme() == scheme) else {
            let known: Vec<_> = self.drivers.stores.iter().map(|d| d.scheme()).collect();
            let text = format!("no driver for `{scheme}` in \"{url}\"; there are: {}", known.join(", "));
            return Box::pin(async { Err(StoreError::Url(text)) });
        };
        let none = StoreOptions::default();
        driver.open(url, self.store_options.get(scheme).unwrap_or(&none))
    }

    /// Whether a script log line of this level is wanted.
    pub fn logs(&self, level: i64) -> bool {
        level <= self.log_level.load(Ordering::Relaxed)
    }
}
