//! A key-value store in the memory of this process, in named collections.
//!
//! Left out: copies on other nodes and keeping entries over a restart.

mod collection;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult, Function, Module, Param};
use switchroom_kernel::open::Opening;

use crate::cache::api::Caches;
use collection::Collection;

/// The module.
pub static MODULE: Module = Module {
    name: "cachedb_local",
    summary: "Key-value store in memory",
    needs: &["cache"],
    params: &[
        Param::int("cache_clean_period", "600", "Seconds between removals of entries that have run out"),
        Param::int("exec_threshold", "0", "Accepted for older scripts; this store never waits"),
        Param::multi("cache_collections", "Collections: \"one; two=9\"; the size is only a first guess"),
        Param::multi("cachedb_url", "A collection under an id: \"local:group:///collection\""),
        Param::int("cluster_id", "0", "Cluster to copy to; must be 0"),
        Param::unset("cluster_persistency", "Where entries come from at start; needs a cluster"),
        Param::int("enable_restart_persistency", "0", "Keep entries over a restart; must be 0"),
    ],
    old_params: &[("cache_table_size", "")],
    functions: &[Function::new(
        "cache_remove_chunk",
        &["str", "[str],str"],
        "RFOBLS",
        remove_chunk,
        "Forget all keys that fit a pattern",
    )],
    commands: &[
        Command {
            name: "cachedb_local:remove_chunk",
            old_names: &["cache_remove_chunk"],
            args: "glob,[collection]",
            help: "Forget all keys that fit a pattern",
            run: |call| Box::pin(remove_command(call)),
        },
        Command {
            name: "cachedb_local:fetch_chunk",
            old_names: &["cache_fetch_chunk"],
            args: "glob,[collection]",
            help: "All keys that fit a pattern, with their values",
            run: |call| Box::pin(fetch_command(call)),
        },
    ],
    open,
    live: Some(|kernel| {
        let period = kernel.state::<Local>().clean_period;
        if !period.is_zero() {
            kernel.every(period, |kernel| async move {
                kernel.state::<Local>().collections.values().for_each(|c| c.clean());
            });
        }
    }),
    ..Module::EMPTY
};

struct Local {
    collections: BTreeMap<String, Arc<Collection>>,
    clean_period: Duration,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    for refused in ["cluster_id", "enable_restart_persistency"] {
        if o.on(refused) {
            return Err(format!("parameter `{refused}` must be 0; entries live in this process only"));
        }
    }
    let clock = o.kernel.drivers.clock.clone();
    let mut collections = BTreeMap::from([("default".to_owned(), Arc::new(Collection::new(clock.clone())))]);
    for list in o.all("cache_collections") {
        for name in list.split(';').map(|c| c.split('=').next().unwrap_or_default().trim()) {
            if !name.is_empty() {
                let new = || Arc::new(Collection::new(clock.clone()));
                collections.entry(name.to_owned()).or_insert_with(new);
            }
        }
    }
    let caches = o.kernel.state::<Caches>();
    let mut urls = o.all("cachedb_url");
    if urls.is_empty() {
        urls.push("local://".to_owned());
    }
    for url in urls {
        let (id, name) = read_url(&url).ok_or_else(|| {
            format!("cachedb_url \"{url}\": it should look like \"local:group:///collection\"")
        })?;
        let collection = collections.get(&name).ok_or_else(|| {
            format!("cachedb_url \"{url}\": the collection \"{name}\" is not in cache_collections")
        })?;
        caches.register(&id, collection.clone());
    }
    let seconds = u64::try_from(o.int("cache_clean_period")).unwrap_or(0);
    o.provide(Local { collections, clean_period: Duration::from_secs(seconds) });
    Ok(())
}

/// Id and collection of `local:group:///collection`; both parts may be missing.
fn read_url(url: &str) -> Option<(String, String)> {
    let (id, rest) = url.trim().split_once("://")?;
    let id = id.trim_end_matches(':');
    if id != "local" && !id.starts_with("local:") {
        return None;
    }
    let name = rest.trim_matches('/').rsplit('/').next().unwrap_or_default();
    let name = if name.is_empty() { "default" } else { name };
    Some((id.to_owned(), name.to_owned()))
}

/// `cache_remove_chunk([collection,] glob)`
fn remove_chunk(c: &mut Call<'_>) -> Flow {
    let (name, glob) =
        if c.args.len() < 2 { (None, c.text(0)) } else { (c.has(0).then(|| c.text(0)), c.text(1)) };
    let name = name.unwrap_or_else(|| "default".to_owned());
    match c.ctx.shard.kernel.state::<Local>().collections.get(&name) {
        Some(collection) => {
            collection.remove_fitting(glob.as_bytes());
            TRUE
        }
        None => {
            tracing::error!("cache_remove_chunk(): there is no collection \"{name}\"");
            FALSE
        }
    }
}

fn named(call: &CommandCall) -> Result<Arc<Collection>, CommandError> {
    let name = call.text("collection").unwrap_or_else(|| "default".to_owned());
    let found = call.kernel.state::<Local>().collections.get(&name).cloned();
    found.ok_or_else(|| CommandError::new(404, format!("there is no collection \"{name}\"")))
}

async fn remove_command(call: CommandCall) -> CommandResult {
    let glob = call.text("glob").unwrap_or_default();
    let removed = named(&call)?.remove_fitting(glob.as_bytes());
    Ok(json!({"removed": removed}))
}

async fn fetch_command(call: CommandCall) -> CommandResult {
    let glob = call.text("glob").unwrap_or_default();
    let found = named(&call)?.fitting(glob.as_bytes());
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let keys: Vec<_> = found.iter().map(|(k, v)| json!({"name": text(k), "value": text(v)})).collect();
    Ok(json!({"keys": keys}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_an_id_and_a_collection() {
        let read = |url| read_url(url).map(|(a, b)| format!("{a} {b}"));
        assert_eq!(read("local://").as_deref(), Some("local default"));
        assert_eq!(read("local:///one").as_deref(), Some("local one"));
        assert_eq!(read("local:g:///two").as_deref(), Some("local:g two"));
        assert_eq!(read("redis://host"), None);
        assert_eq!(read("local"), None);
    }
}
