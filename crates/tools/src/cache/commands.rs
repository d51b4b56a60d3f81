//! Management commands on any key-value store.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};

use super::api::{CacheDb, CacheError, Caches};

/// The table.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "cache:store",
        old_names: &["cache_store"],
        args: "system,attr,value,[expire]",
        help: "Keep a value under a key",
        run: |call| Box::pin(store(call)),
    },
    Command {
        name: "cache:fetch",
        old_names: &["cache_fetch"],
        args: "system,attr",
        help: "The value of a key",
        run: |call| Box::pin(fetch(call)),
    },
    Command {
        name: "cache:remove",
        old_names: &["cache_remove"],
        args: "system,attr",
        help: "Forget a key",
        run: |call| Box::pin(remove(call)),
    },
];

fn backend(call: &CommandCall) -> Result<Arc<dyn CacheDb>, CommandError> {
    let id = call.text("system").unwrap_or_default();
    let caches = call.kernel.state::<Caches>();
    caches.find(id.as_bytes()).ok_or_else(|| {
        CommandError::new(404, format!("there is no cache \"{id}\"; there are: {}", caches.ids().join(", ")))
    })
}

fn bytes(call: &CommandCall, name: &str) -> Bytes {
    call.text(name).unwrap_or_default().into()
}

fn failed(e: CacheError) -> CommandError {
    CommandError::new(500, e.to_string())
}

async fn store(call: CommandCall) -> CommandResult {
    let db = backend(&call)?;
    let ttl = call.int("expire")?.unwrap_or(0);
    let ttl = u64::try_from(ttl).map_err(|_| CommandError::args("`expire` must not be negative"))?;
    db.store(bytes(&call, "attr"), bytes(&call, "value"), ttl).await.map_err(failed)?;
    Ok(json!("OK"))
}

async fn fetch(call: CommandCall) -> CommandResult {
    let found = backend(&call)?.fetch(bytes(&call, "attr")).await.map_err(failed)?;
    let Some(value) = found else { return Ok(json!("Value not found")) };
    let key = call.text("attr").unwrap_or_default();
    Ok(json!({"key": key, "value": String::from_utf8_lossy(&value)}))
}

async fn remove(call: CommandCall) -> CommandResult {
    backend(&call)?.remove(bytes(&call, "attr")).await.map_err(failed)?;
    Ok(json!("OK"))
}
