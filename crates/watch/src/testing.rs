//! A house on stage for tests: modules and commands on drivers that need no network, with real time and threads, since files,
//! FIFOs and processes outside do not wait for a rehearsal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use switchroom_kernel::kernel::Kernel;
use switchroom_kernel::load::Source;
use switchroom_kernel::module::Module;
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::http::{HttpConfig, HttpHandler, HttpRequest, HttpResponse, HttpServer};
use switchroom_kernel::ports::net::{BoxFuture, Clock, Spawn};
use switchroom_rehearsal::{Rehearsal, Setup};

/// Listeners that were asked for.
pub type Listeners = Arc<Mutex<Vec<(HttpConfig, HttpHandler)>>>;

/// Load `script`, open its modules and go live.
pub fn house(script: &str, modules: &[&'static Module]) -> Result<(Arc<Kernel>, Listeners), String> {
    let listeners = Listeners::default();
    let real = Arc::new(Real { listeners: listeners.clone() });
    let setup = Setup {
        source: Source::Text("test.cfg".into(), script.as_bytes().into()),
        catalogue: modules,
        always: &[],
        stores: Vec::new(),
        arguments: Vec::new(),
        unix: 0,
    };
    let stage = Rehearsal::open_with(setup, |drivers| {
        drivers.clock = real.clone();
        drivers.spawn = real.clone();
        drivers.http = real;
    })?;
    Ok((stage.kernel, listeners))
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

struct Real {
    listeners: Listeners,
}

impl Clock for Real {
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

impl Spawn for Real {
    fn spawn(&self, future: BoxFuture<()>) {
        std::thread::spawn(move || block_on(future));
    }
}

impl HttpServer for Real {
    fn serve(&self, config: HttpConfig, handler: HttpHandler) -> BoxFuture<Result<SocketAddr, String>> {
        let addr = config.listen;
        self.listeners.lock().push((config, handler));
        Box::pin(async move { Ok(addr) })
    }
}
