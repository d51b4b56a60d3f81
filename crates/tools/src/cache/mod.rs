//! Key-value stores from the script: one set of functions for every store that a module offers.
//!
//! The stores themselves are modules of their own and register in [`api`].

pub mod api;
mod commands;

use std::sync::Arc;

use bytes::Bytes;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::{Function, Module};
use switchroom_script::Value;

use crate::variables::{Lists, put};
use api::{CacheDb, CacheError, Caches};

/// The module, always loaded.
pub static MODULE: Module = Module {
    name: "cache",
    summary: "Key-value stores from the script",
    functions: &[
        Function::new("cache_store", &["str,str,str,[int]"], "*", store, "Keep a value under a key")
            .asynchronous(),
        Function::new("cache_fetch", &["str,str,var"], "*", fetch, "The value of a key").asynchronous(),
        Function::new("cache_counter_fetch", &["str,str,var"], "*", counter, "The value of a counter")
            .asynchronous(),
        Function::new("cache_remove", &["str,str"], "*", remove, "Forget a key").asynchronous(),
        Function::new("cache_add", &["str,str,int,int,[var]"], "*", add, "Add to a counter").asynchronous(),
        Function::new("cache_sub", &["str,str,int,int,[var]"], "*", sub, "Take off a counter").asynchronous(),
        Function::new(
            "cache_raw_query",
            &["str,str,[str~]"],
            "*",
            raw,
            "Run a query in the store's language",
        )
        .asynchronous(),
    ],
    commands: commands::COMMANDS,
    open: |o| {
        o.provide(Caches::default());
        o.provide(RawTargets::default());
        Ok(())
    },
    ..Module::EMPTY
};

/// Lists of variables that raw queries write to.
#[derive(Default)]
struct RawTargets(Lists);

/// Nothing is kept under that key.
const NOT_FOUND: Flow = Flow::Value(-2);

fn backend(c: &Call<'_>) -> Option<Arc<dyn CacheDb>> {
    let id = c.str(0)?;
    let caches = c.ctx.shard.kernel.state::<Caches>();
    let found = caches.find(id);
    if found.is_none() {
        let (id, known) = (String::from_utf8_lossy(id), caches.ids().join(", "));
        tracing::error!("there is no cache \"{id}\"; there are: {known}");
    }
    found
}

/// A key or value that is kept must not keep the received message alive.
fn own(c: &Call<'_>, i: usize) -> Bytes {
    c.str(i).map(|s| Bytes::copy_from_slice(s)).unwrap_or_default()
}

fn failed(e: &CacheError) -> Flow {
    tracing::error!("cache: {e}");
    FALSE
}

/// `cache_store(id, key, value[, seconds])`
fn store(c: &mut Call<'_>) -> Flow {
    let Some(db) = backend(c) else { return FALSE };
    let ttl = c.int(3).and_then(|t| u64::try_from(t).ok()).unwrap_or(0);
    wait(db.store(own(c, 1), own(c, 2), ttl), |_, done| match done {
        Ok(()) => TRUE,
        Err(e) => failed(&e),
    })
}

/// `cache_fetch(id, key, out)`
fn fetch(c: &mut Call<'_>) -> Flow {
    let (Some(db), Some(out)) = (backend(c), c.var(2)) else { return FALSE };
    wait(db.fetch(own(c, 1)), move |ctx, found| match found {
        Ok(Some(value)) => flow(put(ctx, "cache_fetch", &out, Value::Str(value))),
        Ok(None) => NOT_FOUND,
        Err(e) => failed(&e),
    })
}

/// `cache_counter_fetch(id, key, out)`
fn counter(c: &mut Call<'_>) -> Flow {
    let (Some(db), Some(out)) = (backend(c), c.var(2)) else { return FALSE };
    let key = own(c, 1);
    wait(db.fetch(key.clone()), move |ctx, found| match found.map(|f| f.map(|v| Value::Str(v).to_int())) {
        Ok(Some(Some(number))) => flow(put(ctx, "cache_counter_fetch", &out, Value::Int(number))),
        Ok(Some(None)) => failed(&CacheError::NoNumber(String::from_utf8_lossy(&key).into_owned())),
        Ok(None) => NOT_FOUND,
        Err(e) => failed(&e),
    })
}

/// `cache_remove(id, key)`
fn remove(c: &mut Call<'_>) -> Flow {
    let Some(db) = backend(c) else { return FALSE };
    wait(db.remove(own(c, 1)), |_, done| match done {
        Ok(_) => TRUE,
        Err(e) => failed(&e),
    })
}

/// `cache_add(id, key, by, seconds[, out])`
fn add(c: &mut Call<'_>) -> Flow {
    change(c, 1)
}

/// `cache_sub(id, key, by, seconds[, out])`
fn sub(c: &mut Call<'_>) -> Flow {
    change(c, -1)
}

fn change(c: &mut Call<'_>, sign: i64) -> Flow {
    let (Some(db), Some(by)) = (backend(c), c.int(2)) else { return FALSE };
    let ttl = c.int(3).and_then(|t| u64::try_from(t).ok()).unwrap_or(0);
    let out = c.var(4);
    wait(db.add(own(c, 1), by.saturating_mul(sign), ttl), move |ctx, done| match (done, out) {
        (Ok(new), Some(out)) => flow(put(ctx, "cache_add", &out, Value::Int(new))),
        (Ok(_), None) => TRUE,
        (Err(e), _) => failed(&e),
    })
}

/// `cache_raw_query(id, query[, "$avp(a);$avp(b)"])`
fn raw(c: &mut Call<'_>) -> Flow {
    let Some(db) = backend(c) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let targets = match c.str(2) {
        Some(text) => shard.kernel.state::<RawTargets>().0.get(&shard.kernel.registry, text),
        None => Ok(Arc::from([])),
    };
    let targets = match targets {
        Ok(targets) => targets,
        Err(e) => {
            tracing::error!("cache_raw_query(): {e}");
            return FALSE;
        }
    };
    wait(db.raw(own(c, 1)), move |ctx, done| match done {
        Ok(rows) if rows.is_empty() => NOT_FOUND,
        Ok(rows) => {
            for row in rows {
                for (var, cell) in targets.iter().zip(row) {
                    put(ctx, "cache_raw_query", var, cell.map_or(Value::from("<null>"), Value::Str));
                }
            }
            TRUE
        }
        Err(e) => failed(&e),
    })
}

fn flow(done: bool) -> Flow {
    if done { TRUE } else { FALSE }
}
