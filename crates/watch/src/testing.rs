//! A house for tests: real modules and commands on drivers that need no network.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use switchroom_kernel::kernel::{Drivers, Kernel};
use switchroom_kernel::load::{Source, load};
use switchroom_kernel::module::Module;
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::absent::Absent;
use switchroom_kernel::ports::http::{HttpConfig, HttpHandler, HttpRequest, HttpResponse, HttpServer};
use switchroom_kernel::ports::net::{
    BoxFuture, Clock, NaptrRecord, ResolveError, Resolver, Spawn, SrvRecord,
};

/// Listeners that were asked for.
pub type Listeners = Arc<Mutex<Vec<(HttpConfig, HttpHandler)>>>;

/// Load `script`, open its modules and go live.
pub fn house(script: &str, modules: &[&'static Module]) -> Result<(Arc<Kernel>, Listeners), String> {
    let listeners = Listeners::default();
    let fake = Arc::new(Fake { listeners: listeners.clone() });
    let source = Source::Text("test.cfg".into(), script.as_bytes().into());
    let loaded = load(&source, modules, &[]).map_err(|all| {
        let lines: Vec<_> = all.iter().map(|d| d.message.clone()).collect();
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
        stores: Vec::new(),
    };
    let mut kernel = Kernel::new(loaded.registry, loaded.settings, drivers, 1, Arc::new(loaded.program));
    let order = kernel.registry.modules.clone();
    for m in &order {
        let params = loaded.params.get(m.name).map_or(&[][..], |p| p);
        (m.open)(&mut Opening::new(&mut kernel, m, params))?;
    }
    let kernel = Arc::new(kernel);
    for live in order.iter().filter_map(|m| m.live) {
        live(&kernel);
    }
    Ok((kernel, listeners))
}

/// End its modules.
pub fn close(kernel: &Arc<Kernel>) {
    for close in kernel.registry.modules.iter().filter_map(|m| m.close) {
        block_on(close(kernel));
    }
}

/// Ask the first listener.
pub fn ask(listeners: &Listeners, method: &str, path: &str, content_type: &str, body: &[u8]) -> HttpResponse {
    let handler = listeners.lock()[0].1.clone();
    block_on(handler(HttpRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        query: String::new(),
        headers: vec![("content-type".to_owned(), content_type.to_owned())],
        body: bytes::Bytes::copy_from_slice(body),
        peer: ([127, 0, 0, 1], 40_000).into(),
    }))
}

struct Fake {
    listeners: Listeners,
}

impl Clock for Fake {
    fn now(&self) -> Instant {
        Instant::now()
    }
    fn unix(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
    fn sleep(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(std::future::pending())
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
    fn serve(&self, config: HttpConfig, handler: HttpHandler) -> BoxFuture<Result<SocketAddr, String>> {
        let addr = config.listen;
        self.listeners.lock().push((config, handler));
        Box::pin(async move { Ok(addr) })
    }
}
