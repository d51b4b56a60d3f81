//! The composition root: a checked configuration and the drivers become a running house, and end in order.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use switchroom_calls::core::events;
use switchroom_engine::transaction::BranchId;
use switchroom_kernel::kernel::Drivers;
use switchroom_kernel::load::{Source, load, reload};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::net::{Handler, ListenSocket};
use switchroom_kernel::run::run_route;
use switchroom_kernel::{Kernel, Shard, oneshot};
use switchroom_net::dns::{DnsConfig, resolver};
use switchroom_net::timers::Control;
use switchroom_net::{Keepalive, NetConfig, TcpConfig, Workers, bind, datagrams, http, streams};
use switchroom_script::names::RouteType;
use switchroom_script::parse::ast::SocketDef;
use switchroom_script::{Diagnostic, diag};

use crate::{catalogue, database, logging, sockets};

/// What the command line adds to the script.
#[derive(Default)]
pub struct Options {
    /// Sockets instead of those of the script.
    pub listen: Vec<SocketDef>,
    /// Number of workers instead of one per core.
    pub workers: Option<usize>,
    /// Values for `$argv(name)`.
    pub arguments: Vec<(String, String)>,
}

/// A running house.
pub struct House {
    /// What all share.
    pub kernel: Arc<Kernel>,
    /// What deserves a look in the script.
    pub warnings: Vec<Diagnostic>,
    workers: Workers,
    control: Control,
}

impl House {
    /// Load, check, open, bind, and let traffic in.
    pub fn start(source: Source, options: Options) -> anyhow::Result<House> {
        let loaded = match load(&source, &catalogue::modules(), catalogue::ALWAYS) {
            Ok(loaded) => loaded,
            Err(found) => bail!("the script cannot be used:\n{}", diag::render(&found)),
        };
        let count = options.workers.unwrap_or_else(|| default_workers(&loaded.settings)).max(1);
        let control = Control::start().context("cannot start the control thread")?;
        let (drivers, web) = drivers(&control, &loaded.settings)?;
        let warnings = loaded.warnings;
        let mut kernel =
            Kernel::new(loaded.registry, loaded.settings, drivers, count, Arc::new(loaded.program));
        kernel.aliases = loaded.aliases;
        kernel.listens = sockets::listens(&loaded.listens)?;
        kernel.blacklists = loaded.blacklists;
        kernel.arguments = options.arguments;
        for module in kernel.registry.modules.clone() {
            let given = loaded.params.get(module.name).map_or(&[][..], |g| g);
            (module.open)(&mut Opening::new(&mut kernel, module, given))
                .map_err(|e| anyhow!("module {}: {e}", module.name))?;
        }
        let defs = if options.listen.is_empty() { loaded.sockets } else { options.listen };
        if defs.is_empty() {
            bail!("the script has no socket; write for example: socket=udp:*:5060");
        }
        let specs = sockets::resolve(&defs, &kernel.settings)?;
        let bound = bind(specs, net_config(&kernel, count))?;
        kernel.set_sockets(bound.sockets.clone());
        let kernel = Arc::new(kernel);
        logging::follow(&kernel);
        kernel.set_post(bound.post());
        set_reload(&kernel, source);
        register_net_counters(&kernel, &bound.counters());
        register_web_counters(&kernel, &web);
        for module in &kernel.registry.modules {
            if let Some(live) = module.live {
                live(&kernel);
            }
        }
        events::subscribe_routes(&kernel);
        let shared = kernel.clone();
        let workers = bound
            .start(move |seat| {
                let shard = Shard::new(shared.clone(), seat.worker, seat.net);
                Rc::new(Keeper(shard)) as Rc<dyn Handler>
            })
            .context("cannot start the workers")?;
        startup_route(&kernel);
        timer_routes(&kernel);
        Ok(House { kernel, warnings, workers, control })
    }

    /// Listening sockets with their real ports.
    pub fn sockets(&self) -> &[ListenSocket] {
        self.kernel.sockets()
    }

    /// Take no new work, finish what is open, write what must not be lost.
    pub fn stop(self) {
        self.workers.drain();
        let limit = Instant::now() + Duration::from_secs(10);
        while !self.workers.any_ended() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.workers.join();
        for module in self.kernel.registry.modules.iter().rev() {
            if let Some(close) = module.close {
                block_on(close(&self.kernel));
            }
        }
        drop(self.control);
    }
}

/// A worker's handler. The shard refers to itself, so the driver holds it through this.
struct Keeper(Rc<Shard>);

impl Handler for Keeper {
    fn packet(&self, packet: switchroom_kernel::ports::net::Packet) {
        self.0.packet(packet);
    }
    fn send_failed(&self, token: u64, error: switchroom_kernel::ports::net::SendError) {
        self.0.send_failed(token, error);
    }
    fn connection(
        &self,
        conn: switchroom_kernel::ports::net::ConnId,
        peer: std::net::SocketAddr,
        socket: switchroom_kernel::ports::net::SocketId,
        open: bool,
    ) {
        self.0.connection(conn, peer, socket, open);
    }
    fn overload(&self, begins: bool) {
        self.0.overload(begins);
    }
    fn mail(&self, mail: switchroom_kernel::ports::net::Mail) {
        self.0.mail(mail);
    }
    fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }
    fn tick(&self, now: Instant) {
        self.0.tick(now);
    }
    fn poll_waits(&self, cx: &mut std::task::Context<'_>) {
        self.0.poll_waits(cx);
    }
}

/// One worker per core, but not more than the script wants processes.
fn default_workers(settings: &switchroom_kernel::settings::Settings) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    cores.min(settings.int("udp_workers").max(1) as usize)
}

fn drivers(
    control: &Control,
    settings: &switchroom_kernel::settings::Settings,
) -> anyhow::Result<(Drivers, Arc<http::Client>)> {
    let handle = control.handle();
    let dns = DnsConfig {
        timeout: Duration::from_secs(settings.int("dns_retr_time").clamp(1, 60) as u64),
        attempts: settings.int("dns_retr_no").clamp(1, 10) as usize,
        ipv6: settings.on("dns_try_ipv6"),
        search: settings.on("dns_use_search_list"),
        ..DnsConfig::default()
    };
    let resolver = resolver(dns, &handle).context("cannot start the resolver")?;
    let web = http::client(&handle, resolver.clone());
    let drivers = Drivers {
        clock: handle.clock(),
        spawn: handle.spawner(),
        http: http::server(&handle),
        web: web.clone(),
        streams: streams::streams(&handle, resolver.clone()),
        datagrams: datagrams::datagrams(&handle),
        resolver,
        stores: database::drivers()?,
    };
    Ok((drivers, web))
}

fn net_config(kernel: &Kernel, workers: usize) -> NetConfig {
    let s = &kernel.settings;
    let default = TcpConfig::default();
    NetConfig {
        workers,
        shard_of: |raw, workers| {
            // A reply to a request of ours knows where it is awaited: a request we made up has any Call-ID.
            if raw.starts_with(b"SIP/2.0")
                && let Some(shard) = BranchId::shard_of_reply(raw).filter(|s| usize::from(*s) < workers)
            {
                return Some(usize::from(shard));
            }
            // A registration belongs to no call, and all workers share the location: it stays where it came, where its
            // retransmissions come as well, for they come from the same address.
            if raw.starts_with(b"REGISTER ") {
                return None;
            }
            let id = switchroom_wire::sip::call_id_of(raw)?;
            Some((switchroom_wire::sip::call_id_hash(id) % workers as u64) as usize)
        },
        overload_wait: Duration::from_millis(s.int("overload_wait").clamp(1, 10_000) as u64),
        receive_buffer: s.int("maxbuffer").clamp(4096, 1 << 30) as usize,
        tcp: TcpConfig {
            max_connections: s.int("tcp_max_connections").clamp(1, 1 << 20) as usize,
            connect_timeout: Duration::from_millis(s.int("tcp_connect_timeout").clamp(1, 60_000) as u64),
            lifetime: Duration::from_secs(s.int("tcp_connection_lifetime").clamp(1, 86_400) as u64),
            max_message_time: Duration::from_secs(s.int("tcp_max_msg_time").clamp(1, 600) as u64),
            backlog: match s.given("tcp_socket_backlog") {
                true => s.int("tcp_socket_backlog").clamp(1, 65_535) as i32,
                false => default.backlog,
            },
            keepalive: keepalive(s),
            ..default
        },
        ..NetConfig::default()
    }
}

/// `tcp_keep*`; each of the times switches it on as well.
fn keepalive(settings: &switchroom_kernel::settings::Settings) -> Option<Keepalive> {
    let number = |name: &str| u32::try_from(settings.int(name)).ok().filter(|n| *n > 0);
    let seconds = |name: &str| number(name).map(|n| Duration::from_secs(u64::from(n.min(32_767))));
    let wanted = Keepalive {
        idle: seconds("tcp_keepidle"),
        interval: seconds("tcp_keepinterval"),
        count: number("tcp_keepcount").map(|n| n.min(127)),
    };
    let any = wanted.idle.is_some() || wanted.interval.is_some() || wanted.count.is_some();
    (any || settings.on("tcp_keepalive")).then_some(wanted)
}

fn set_reload(kernel: &Arc<Kernel>, source: Source) {
    let weak = Arc::downgrade(kernel);
    kernel.set_reload(Arc::new(move || {
        let kernel = weak.upgrade().ok_or("the server is ending")?;
        if matches!(source, Source::Text(..)) {
            return Err("the script did not come from a file".into());
        }
        match reload(&source, &kernel.registry) {
            Ok((program, warnings)) => {
                for w in warnings {
                    tracing::warn!("{w}");
                }
                Ok(Arc::new(program))
            }
            Err(found) => Err(diag::render(&found)),
        }
    }));
}

/// Counters of the drivers as statistics of the group `net`.
fn register_net_counters(kernel: &Kernel, counters: &switchroom_net::NetCounters) {
    for (name, _) in counters.all() {
        let counters = counters.clone();
        let read = move || counters.total(name).unwrap_or(0) as i64;
        kernel.stats.computed("net", name, "Counted by the network driver", read);
    }
}

/// Counters of calls to other HTTP servers, in the same group.
fn register_web_counters(kernel: &Kernel, web: &Arc<http::Client>) {
    for name in http::Client::COUNTERS {
        let web = web.clone();
        let read = move || web.counter(name).unwrap_or(0) as i64;
        kernel.stats.computed("net", name, "Calls to other HTTP servers", read);
    }
}

/// `startup_route` runs once, and traffic that came meanwhile waits behind it.
fn startup_route(kernel: &Arc<Kernel>) {
    let program = kernel.program.load_full();
    let Some(route) = program.find(RouteType::Startup, None) else { return };
    let (done, wait) = oneshot::channel::<()>();
    let posted = kernel.on_worker(0, move |shard| {
        run_route(events::dummy(shard, RouteType::Startup), &program, route, |_, _| {});
        done.send(());
    });
    if posted {
        block_on(wait);
    }
}

/// Each `timer_route[name, seconds]` runs on the first worker.
fn timer_routes(kernel: &Arc<Kernel>) {
    let program = kernel.program.load_full();
    for info in program.routes().filter(|r| r.kind == RouteType::Timer) {
        let Some(name) = info.name.clone() else { continue };
        let period = Duration::from_secs(u64::from(info.interval.max(1)));
        kernel.every(period, move |kernel| {
            let name = name.clone();
            async move {
                let posted = kernel.on_worker(0, move |shard| {
                    // The script in force now, which a reload may have changed.
                    let program = shard.kernel.program.load_full();
                    if let Some(route) = program.find(RouteType::Timer, Some(&name)) {
                        run_route(events::dummy(shard, RouteType::Timer), &program, route, |_, _| {});
                    }
                });
                if !posted {
                    tracing::warn!("a timer_route did not run: the worker's mailbox is full");
                }
            }
        });
    }
}
