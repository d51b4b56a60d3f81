//! What the modules of database servers have in common: options from parameters, and the event of a lost server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use switchroom_kernel::Kernel;
use switchroom_kernel::open::Opening;
use switchroom_script::Value;

/// What differs between them.
pub struct Options {
    /// Of their URLs.
    pub scheme: &'static str,
    /// Time for a statement.
    pub timeout_ms: i64,
}

/// Hands the parameters to the driver.
pub fn open(o: &mut Opening<'_>, options: &Options) {
    let mut given = vec![("timeout_ms", options.timeout_ms)];
    for name in ["exec_query_threshold", "max_db_queries", "max_db_retries", "use_tls"] {
        if o.given(name) {
            given.push((name, o.int(name).max(0)));
        }
    }
    let kept = o.kernel.store_options.entry(options.scheme.into()).or_default();
    for (name, value) in given {
        kept.insert(name.into(), vec![value.to_string()]);
    }
}

/// Raises the event when a server is lost or found again.
pub fn announce(kernel: &Arc<Kernel>, scheme: &'static str, event: &'static str) {
    let known: Arc<Mutex<HashMap<String, bool>>> = Arc::default();
    kernel.every(Duration::from_secs(1), move |kernel| {
        let known = known.clone();
        async move {
            for driver in kernel.drivers.stores.iter().filter(|d| d.scheme() == scheme) {
                for server in driver.reachable() {
                    // A server that was never seen was there when it was opened.
                    let before = known.lock().insert(server.url.clone(), server.up).unwrap_or(true);
                    if before != server.up {
                        let status = if server.up { "connected" } else { "disconnected" };
                        if let Some(event) = kernel.events.find(event) {
                            let values = vec![Value::Str(server.url.clone().into()), Value::from(status)];
                            kernel.events.raise(event, values, None);
                        }
                    }
                }
            }
        }
    });
}
