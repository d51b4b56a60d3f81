//! Redis as a key-value store of scripts: single servers, several to fall back on, and clusters.
//!
//! The protocol is spoken over the stream port, since client libraries bring sockets and a runtime of their own. Left out:
//! locations of phones in Redis (`ftsearch_...`).

mod commands;
mod group;
mod resp;
mod slot;
mod url;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use switchroom_kernel::module::{Module, Param, Statistic};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::http::ClientTls;
use switchroom_kernel::ports::net::BoxFuture;

use crate::cache::api::{CacheDb, CacheError, CacheResult, Caches};
use group::{Config, Counters, Group};
use resp::Reply;
use url::Url;

/// The module.
pub static MODULE: Module = Module {
    name: "cachedb_redis",
    summary: "Redis as a key-value store",
    needs: &["cache"],
    params: &[
        Param::multi(
            "cachedb_url",
            "Servers under an id: \"redis:group://user:password@host:port/database\", with \"?socket=/path\" on a Unix socket",
        ),
        Param::int("connect_timeout", "5000", "Milliseconds a connection may take to stand"),
        Param::int("query_timeout", "5000", "Milliseconds an answer may take"),
        Param::int("shutdown_on_error", "0", "1: do not start when a group cannot be reached"),
        Param::int(
            "lazy_connect",
            "0",
            "Accepted for older scripts; connections are opened when they are needed",
        ),
        Param::int("use_tls", "0", "1: connect with TLS"),
        Param::int("redis_keepalive", "10", "Accepted for older scripts; connections are always watched"),
        Param::str("ftsearch_index_name", "idx:usrloc", "Locations in Redis; not available"),
        Param::str("ftsearch_json_prefix", "usrloc:", "Locations in Redis; not available"),
        Param::int("ftsearch_max_results", "10000", "Locations in Redis; not available"),
        Param::int("ftsearch_json_mset_expire", "3600", "Locations in Redis; not available"),
    ],
    commands: commands::COMMANDS,
    statistics: &[
        Statistic { name: "redis_queries", help: "Commands sent", gauge: false },
        Statistic { name: "redis_queries_failed", help: "Commands without an answer", gauge: false },
        Statistic {
            name: "redis_moved",
            help: "Commands that followed a key to another server",
            gauge: false,
        },
        Statistic {
            name: "redis_topology_refreshes",
            help: "Times the servers of a cluster were learned",
            gauge: false,
        },
    ],
    open,
    ..Module::EMPTY
};

/// All groups by id.
struct Redis {
    groups: BTreeMap<String, Arc<Group>>,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let millis = |name: &str| match u64::try_from(o.int(name)) {
        Ok(n @ 1..=600_000) => Ok(Duration::from_millis(n)),
        _ => Err(format!("parameter `{name}`: {} is not between 1 and 600000 ms", o.int(name))),
    };
    let counters = Counters {
        stats: o.kernel.stats.clone(),
        queries: o.stat("redis_queries")?,
        failed: o.stat("redis_queries_failed")?,
        moved: o.stat("redis_moved")?,
        refreshes: o.stat("redis_topology_refreshes")?,
    };
    let mut groups = BTreeMap::new();
    for url in o.all("cachedb_url") {
        let url = Url::read(&url)?;
        let id = url.id.clone();
        let config = Config {
            url,
            tls: o.on("use_tls").then(|| Arc::new(ClientTls::default())),
            connect_timeout: millis("connect_timeout")?,
            query_timeout: millis("query_timeout")?,
        };
        let drivers = &o.kernel.drivers;
        let group =
            Arc::new(Group::new(config, drivers.streams.clone(), drivers.clock.clone(), counters.clone()));
        if o.on("shutdown_on_error") {
            block_on(group.run(None, &[&[b"PING"]])).map_err(|e| format!("{id}: {e}"))?;
        }
        o.kernel.state::<Caches>().register(&id, Arc::new(Store(group.clone())));
        groups.insert(id, group);
    }
    o.provide(Redis { groups });
    Ok(())
}

/// A group as scripts see it.
struct Store(Arc<Group>);

impl CacheDb for Store {
    fn store(&self, key: Bytes, value: Bytes, ttl: u64) -> BoxFuture<CacheResult<()>> {
        let group = self.0.clone();
        Box::pin(async move {
            let seconds = ttl.to_string();
            let mut command: Vec<&[u8]> = vec![b"SET", &key, &value];
            if ttl > 0 {
                command.extend([b"EX", seconds.as_bytes()]);
            }
            one(group.run(Some(&key), &[&command]).await?).map(drop)
        })
    }

    fn fetch(&self, key: Bytes) -> BoxFuture<CacheResult<Option<Bytes>>> {
        let group = self.0.clone();
        Box::pin(async move {
            let reply = one(group.run(Some(&key), &[&[b"GET", &key]]).await?)?;
            Ok(text(reply))
        })
    }

    fn remove(&self, key: Bytes) -> BoxFuture<CacheResult<bool>> {
        let group = self.0.clone();
        Box::pin(async move {
            let reply = one(group.run(Some(&key), &[&[b"DEL", &key]]).await?)?;
            Ok(matches!(reply, Reply::Int(1..)))
        })
    }

    fn add(&self, key: Bytes, by: i64, ttl: u64) -> BoxFuture<CacheResult<i64>> {
        let group = self.0.clone();
        Box::pin(async move {
            let (by, seconds) = (by.to_string(), ttl.to_string());
            let add: &[&[u8]] = &[b"INCRBY", &key, by.as_bytes()];
            let expire: &[&[u8]] = &[b"EXPIRE", &key, seconds.as_bytes()];
            let both = [add, expire];
            let commands = if ttl > 0 { &both[..] } else { &both[..1] };
            match group.run(Some(&key), commands).await?.into_iter().next() {
                Some(Reply::Int(new)) => Ok(new),
                Some(Reply::Error(why)) if why.contains("not an integer") => {
                    Err(CacheError::NoNumber(String::from_utf8_lossy(&key).into_owned()))
                }
                Some(Reply::Error(why)) => Err(CacheError::Unreachable(why)),
                _ => Err(CacheError::Unreachable("INCRBY gave no number".into())),
            }
        })
    }

    fn raw(&self, query: Bytes) -> BoxFuture<CacheResult<Vec<Vec<Option<Bytes>>>>> {
        let group = self.0.clone();
        Box::pin(async move {
            let words = words(&query);
            let parts: Vec<&[u8]> = words.iter().map(|w| &w[..]).collect();
            if parts.is_empty() {
                return Err(CacheError::Unsupported("an empty query"));
            }
            let reply = one(group.run(parts.get(1).copied(), &[&parts]).await?)?;
            Ok(match reply {
                Reply::Null => Vec::new(),
                Reply::Array(elements) => elements.into_iter().map(row).collect(),
                single => vec![row(single)],
            })
        })
    }
}

/// The reply to the only command; what the server refused is an error.
fn one(replies: Vec<Reply>) -> CacheResult<Reply> {
    match replies.into_iter().next() {
        Some(Reply::Error(why)) => Err(CacheError::Unreachable(why)),
        Some(reply) => Ok(reply),
        None => Err(CacheError::Unreachable("no reply".into())),
    }
}

/// One cell for a value, one for each element of an array.
fn row(reply: Reply) -> Vec<Option<Bytes>> {
    match reply {
        Reply::Array(elements) => elements.into_iter().map(text).collect(),
        single => vec![text(single)],
    }
}

fn text(reply: Reply) -> Option<Bytes> {
    match reply {
        Reply::Status(text) | Reply::Bulk(text) => Some(text),
        Reply::Int(number) => Some(number.to_string().into()),
        Reply::Error(why) => Some(why.into()),
        Reply::Null | Reply::Array(_) => None,
    }
}

/// The words of a query; a word in quotes may hold blanks.
fn words(query: &[u8]) -> Vec<Bytes> {
    let mut words = Vec::new();
    let mut rest = query.trim_ascii_start();
    while let Some(&first) = rest.first() {
        let quoted = matches!(first, b'"' | b'\'').then(|| {
            let end = rest[1..].iter().position(|b| *b == first)? + 1;
            let follows = rest.get(end + 1).is_none_or(u8::is_ascii_whitespace);
            follows.then_some((1, end, end + 1))
        });
        let plain = || {
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            (0, end, end)
        };
        let (from, to, next) = quoted.flatten().unwrap_or_else(plain);
        words.push(Bytes::copy_from_slice(&rest[from..to]));
        rest = rest[next..].trim_ascii_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_cut_at_blanks_outside_of_quotes() {
        let cut = |query: &str| {
            let words: Vec<_> =
                words(query.as_bytes()).iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect();
            words.join("|")
        };
        assert_eq!(cut(" HSET h  k v "), "HSET|h|k|v");
        assert_eq!(cut("SET k \"a b\" 'c \"d'"), "SET|k|a b|c \"d");
        assert_eq!(cut("SET k it's \"x\"y"), "SET|k|it's|\"x\"y");
        assert_eq!(cut(""), "");
    }
}
