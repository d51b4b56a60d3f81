//! One group of Redis servers: connections that are kept, one server or a cluster, and a pause after none could be reached.
//!
//! In a cluster a key belongs to a slot and a slot to a server; who has it is learned from the servers' answers (`MOVED`,
//! `ASK`) and from `CLUSTER SLOTS`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use parking_lot::Mutex;
use switchroom_kernel::ports::http::ClientTls;
use switchroom_kernel::ports::net::Clock;
use switchroom_kernel::ports::stream::{ByteStream, StreamTarget, Streams};
use switchroom_kernel::stats::{StatId, Stats};

use super::resp::{self, Reply};
use super::slot::slot;
use super::url::Url;
use crate::cache::api::CacheError;

/// Connections of one group.
const MAX_CONNECTIONS: usize = 256;
/// Idle connections kept for one server.
const MAX_IDLE: usize = 16;
/// Servers of a cluster.
const MAX_NODES: usize = 256;
/// Times a command follows the key to another server.
const MAX_MOVES: usize = 5;
/// After no server could be reached, commands fail at once for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// Host and port.
pub type Node = (Arc<str>, u16);

/// How a group is reached.
pub struct Config {
    pub url: Url,
    pub tls: Option<Arc<ClientTls>>,
    pub connect_timeout: Duration,
    pub query_timeout: Duration,
}

/// What is counted, by all groups together.
#[derive(Clone)]
pub struct Counters {
    pub stats: Arc<Stats>,
    pub queries: StatId,
    pub failed: StatId,
    pub moved: StatId,
    pub refreshes: StatId,
}

/// A group of servers.
pub struct Group {
    config: Config,
    streams: Arc<dyn Streams>,
    clock: Arc<dyn Clock>,
    counters: Counters,
    idle: Mutex<HashMap<Node, Vec<Connection>>>,
    slots: Mutex<HashMap<u16, Node>>,
    open: Arc<AtomicUsize>,
    down_until: Mutex<Option<(Instant, String)>>,
}

impl Group {
    pub fn new(
        config: Config,
        streams: Arc<dyn Streams>,
        clock: Arc<dyn Clock>,
        counters: Counters,
    ) -> Group {
        Group {
            config,
            streams,
            clock,
            counters,
            idle: Mutex::default(),
            slots: Mutex::default(),
            open: Arc::default(),
            down_until: Mutex::default(),
        }
    }

    /// Runs commands one after the other on one connection; `key` says on which server. Gives their replies.
    pub async fn run(&self, key: Option<&[u8]>, commands: &[&[&[u8]]]) -> Result<Vec<Reply>, CacheError> {
        self.run_somewhere(key, commands).await.map(|(_, replies)| replies)
    }

    /// The same, with the server that replied.
    async fn run_somewhere(
        &self,
        key: Option<&[u8]>,
        commands: &[&[&[u8]]],
    ) -> Result<(Node, Vec<Reply>), CacheError> {
        self.counters.stats.add_outside(self.counters.queries, 1);
        let limit = self.clock.sleep(self.config.connect_timeout + self.config.query_timeout);
        let done = match select(Box::pin(self.follow(key, commands)), limit).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(CacheError::Unreachable("no answer in time".into())),
        };
        if done.is_err() {
            self.counters.stats.add_outside(self.counters.failed, 1);
        }
        done
    }

    async fn follow(
        &self,
        key: Option<&[u8]>,
        commands: &[&[&[u8]]],
    ) -> Result<(Node, Vec<Reply>), CacheError> {
        let slot = key.map(slot);
        let mut node = slot.and_then(|slot| self.slots.lock().get(&slot).cloned());
        let mut asking = false;
        for _ in 0..=MAX_MOVES {
            let (from, replies) = self.at(node.take(), asking, commands).await?;
            let moved = replies.iter().find_map(|reply| match reply {
                Reply::Error(why) => moved(why),
                _ => None,
            });
            let Some((permanently, slot, to)) = moved else { return Ok((from, replies)) };
            let to = known_host(to, &from);
            self.counters.stats.add_outside(self.counters.moved, 1);
            if permanently {
                self.slots.lock().insert(slot, to.clone());
            }
            asking = !permanently;
            node = Some(to);
        }
        Err(CacheError::Unreachable("the cluster sends the command around".into()))
    }

    /// At one server, or any.
    async fn at(
        &self,
        node: Option<Node>,
        asking: bool,
        commands: &[&[&[u8]]],
    ) -> Result<(Node, Vec<Reply>), CacheError> {
        let mut out = Vec::new();
        if asking {
            resp::write(&[b"ASKING"], &mut out);
        }
        commands.iter().for_each(|command| resp::write(command, &mut out));
        let expected = commands.len() + usize::from(asking);
        loop {
            let (from, mut connection, kept) = self.connection(node.as_ref()).await?;
            match connection.exchange(&out, expected).await {
                Ok(mut replies) => {
                    self.keep(from.clone(), connection);
                    if asking {
                        replies.remove(0);
                    }
                    return Ok((from, replies));
                }
                // It was closed while nobody used it; a new one may work.
                Err(_) if kept => {}
                Err(why) => return Err(CacheError::Unreachable(format!("{}:{}: {why}", from.0, from.1))),
            }
        }
    }

    /// A connection to `node`, or to the first server that can be reached; and whether it was used before.
    async fn connection(&self, node: Option<&Node>) -> Result<(Node, Connection, bool), CacheError> {
        let nodes = match node {
            Some(node) => std::slice::from_ref(node),
            None => &self.config.url.nodes[..],
        };
        for node in nodes {
            if let Some(connection) = self.idle.lock().get_mut(node).and_then(Vec::pop) {
                return Ok((node.clone(), connection, true));
            }
        }
        if let Some((until, why)) = &*self.down_until.lock()
            && self.clock.now() < *until
        {
            return Err(CacheError::Unreachable(why.clone()));
        }
        let mut last = "no server is named".to_owned();
        for node in nodes {
            match self.connect(node).await {
                Ok(connection) => {
                    *self.down_until.lock() = None;
                    return Ok((node.clone(), connection, false));
                }
                Err(e) => last = e,
            }
        }
        *self.down_until.lock() = Some((self.clock.now() + PAUSE, last.clone()));
        Err(CacheError::Unreachable(last))
    }

    async fn connect(&self, node: &Node) -> Result<Connection, String> {
        let place = Place::take(&self.open)?;
        let target = StreamTarget {
            host: node.0.to_string(),
            port: node.1,
            from: None,
            // What does not leave the machine needs no TLS.
            tls: self.config.tls.clone().filter(|_| node.1 != 0),
            timeout: self.config.connect_timeout,
        };
        let stream = self.streams.connect(target).await.map_err(|e| e.to_string())?;
        let mut connection = Connection { stream, _place: place };
        let mut out = Vec::new();
        let mut expected = 0;
        let url = &self.config.url;
        if let Some(password) = &url.password {
            match &url.user {
                Some(user) => resp::write(&[b"AUTH", user.as_bytes(), password.as_bytes()], &mut out),
                None => resp::write(&[b"AUTH", password.as_bytes()], &mut out),
            }
            expected += 1;
        }
        if url.database != 0 {
            resp::write(&[b"SELECT", url.database.to_string().as_bytes()], &mut out);
            expected += 1;
        }
        for reply in connection.exchange(&out, expected).await? {
            if let Reply::Error(why) = reply {
                return Err(format!("{}:{}: {why}", node.0, node.1));
            }
        }
        Ok(connection)
    }

    fn keep(&self, node: Node, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() >= MAX_NODES && !idle.contains_key(&node) {
            return;
        }
        let kept = idle.entry(node).or_default();
        if kept.len() < MAX_IDLE {
            kept.push(connection);
        }
    }

    /// Every server that is known: those of the URL, and those learned.
    pub fn nodes(&self) -> Vec<Node> {
        let mut nodes = self.config.url.nodes.clone();
        nodes.extend(self.slots.lock().values().cloned());
        nodes.sort();
        nodes.dedup();
        nodes
    }

    /// How many slots each server is known to have.
    pub fn slot_counts(&self) -> HashMap<Node, usize> {
        let mut counts = HashMap::new();
        for node in self.slots.lock().values() {
            *counts.entry(node.clone()).or_default() += 1;
        }
        counts
    }

    /// Asks one server whether it is there.
    pub async fn ping(&self, node: Node) -> Result<(), CacheError> {
        let limit = self.clock.sleep(self.config.connect_timeout + self.config.query_timeout);
        match select(Box::pin(self.at(Some(node), false, &[&[b"PING"]])), limit).await {
            Either::Left((done, _)) => done.map(drop),
            Either::Right(_) => Err(CacheError::Unreachable("no answer in time".into())),
        }
    }

    /// Learns who has which slot; gives the number of slots.
    pub async fn refresh(&self) -> Result<usize, CacheError> {
        self.counters.stats.add_outside(self.counters.refreshes, 1);
        let (from, replies) = self.run_somewhere(None, &[&[b"CLUSTER", b"SLOTS"]]).await?;
        let ranges = match replies.into_iter().next() {
            Some(Reply::Array(ranges)) => ranges,
            Some(Reply::Error(why)) => return Err(CacheError::Unreachable(why)),
            _ => Vec::new(),
        };
        let mut slots = HashMap::new();
        for range in ranges {
            let Reply::Array(parts) = range else { continue };
            let [Reply::Int(first), Reply::Int(last), Reply::Array(node), ..] = &parts[..] else { continue };
            let [host, Reply::Int(port), ..] = &node[..] else { continue };
            let host = if let Reply::Bulk(host) = host { &host[..] } else { b"" };
            let (Ok(first), Ok(last), Ok(port)) =
                (u16::try_from(*first), u16::try_from(*last), u16::try_from(*port))
            else {
                continue;
            };
            let node = known_host((String::from_utf8_lossy(host).into(), port), &from);
            (first..=last.min(16_383)).for_each(|slot| drop(slots.insert(slot, node.clone())));
        }
        let count = slots.len();
        *self.slots.lock() = slots;
        Ok(count)
    }
}

/// `MOVED 3999 127.0.0.1:6381`, `ASK 3999 127.0.0.1:6381`
fn moved(error: &str) -> Option<(bool, u16, Node)> {
    let mut words = error.split(' ');
    let permanently = match words.next()? {
        "MOVED" => true,
        "ASK" => false,
        _ => return None,
    };
    let slot = words.next()?.parse().ok()?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    Some((permanently, slot, (host.into(), port.parse().ok()?)))
}

/// A server that does not know its own name means the one under which it was reached.
fn known_host(node: Node, from: &Node) -> Node {
    if node.0.is_empty() { (from.0.clone(), node.1) } else { node }
}

/// A place among the connections of a group.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Result<Place, String> {
        let place = Place(open.clone());
        match open.fetch_add(1, Relaxed) {
            n if n < MAX_CONNECTIONS => Ok(place),
            _ => Err(format!("{MAX_CONNECTIONS} connections are in use already")),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

struct Connection {
    stream: Box<dyn ByteStream>,
    _place: Place,
}

impl Connection {
    async fn exchange(&mut self, out: &[u8], expected: usize) -> Result<Vec<Reply>, String> {
        self.stream.write_all(out).await.map_err(|e| e.to_string())?;
        self.stream.flush().await.map_err(|e| e.to_string())?;
        let mut replies = Vec::with_capacity(expected);
        let mut data = Vec::new();
        let mut buffer = [0; 8192];
        while replies.len() < expected {
            match resp::read(&data).map_err(|e| e.to_string())? {
                Some((reply, length)) => {
                    replies.push(reply);
                    data.drain(..length);
                }
                None => match self.stream.read(&mut buffer).await.map_err(|e| e.to_string())? {
                    0 => return Err("the server closed the connection".into()),
                    n => data.extend_from_slice(&buffer[..n]),
                },
            }
        }
        match data.is_empty() {
            true => Ok(replies),
            false => Err("the server said more than it was asked".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_says_where_a_key_is() {
        assert_eq!(moved("MOVED 3999 10.0.0.1:6381"), Some((true, 3999, ("10.0.0.1".into(), 6381))));
        assert_eq!(moved("ASK 1 ::1:6381"), Some((false, 1, ("::1".into(), 6381))));
        for other in ["ERR x", "MOVED", "MOVED x y:1", "MOVED 1 y"] {
            assert_eq!(moved(other), None, "{other}");
        }
    }
}
