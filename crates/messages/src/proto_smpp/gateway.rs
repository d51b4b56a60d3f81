//! What the whole module shares: the connections by name, the peers that connect to our sockets, counters and events.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use parking_lot::{Mutex, RwLock};
use switchroom_engine::smpp_session::{Settings, Side};
use switchroom_kernel::Kernel;
use switchroom_kernel::events::EventId;
use switchroom_kernel::ports::net::{Clock, Spawn};
use switchroom_kernel::ports::stream::{ByteStream, Streams};
use switchroom_kernel::stats::{StatId, Stats};
use switchroom_script::Value;
use switchroom_wire::smpp::{CommandId, ShortMessage};

use super::answer::{Answer, Verdict};
use super::api::Receiver;
use super::asked::Waiting;
use super::connection::{self, Connection};
use super::incoming::Peer;
use super::lines::Lines;
use super::params::Confs;
use super::parts::{self, Part};
use super::phones::Phones;
use super::store::{Kind, Row, Table};
use crate::link::join::{Bounds, Joiner, Key, Outcome};
use crate::link::{Link, Options};

/// How long a peer that connects may take for its first PDU.
const FIRST_PDU: Duration = Duration::from_secs(10);

/// Statistics of the module.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    pub sent: StatId,
    pub failed: StatId,
    pub throttled: StatId,
    pub received: StatId,
    pub receipts: StatId,
    pub refused: StatId,
    pub bind_failures: StatId,
}

/// Everything shared.
///
/// More than 15 fields: it is the module's table of services and settings.
pub(super) struct Gateway {
    pub clock: Arc<dyn Clock>,
    pub streams: Arc<dyn Streams>,
    pub spawn: Arc<dyn Spawn>,
    pub random: foldhash::fast::RandomState,
    pub kernel: OnceLock<Weak<Kernel>>,
    pub table: Table,
    pub confs: Confs,
    pub outbound_uri: Option<Bytes>,
    /// Host and port that MESSAGEs name as ours.
    pub local: String,
    pub send_wait: Duration,
    pub max_queue: usize,
    pub join: Bounds,
    pub stats: Arc<Stats>,
    pub counted: Counted,
    pub bind_event: Option<EventId>,
    pub receipt_event: Option<EventId>,
    pub alert_event: Option<EventId>,
    pub asked: Mutex<Waiting>,
    pub phones: Mutex<Phones>,
    /// Seconds that a phone has to say what became of a message.
    pub imdn_wait: i64,
    /// Whether the database has the table `smpp_report`.
    pub keeps_reports: bool,
    pub lines: Lines,
    /// Whether the database has the table of parts.
    pub keeps_parts: bool,
    pub receiver: RwLock<Option<Arc<dyn Receiver>>>,
    pub connections: RwLock<BTreeMap<String, Arc<Connection>>>,
    /// For the names of messages that are submitted to us.
    pub serial: AtomicU64,
}

impl Gateway {
    pub fn kernel(&self) -> Option<Arc<Kernel>> {
        self.kernel.get()?.upgrade()
    }

    pub fn unix(&self) -> u64 {
        self.clock.unix().as_secs()
    }

    /// A number that no other text of this database has.
    pub fn next_letter(&self) -> i64 {
        let serial = self.serial.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (self.unix() << 20 | serial & 0xf_ffff) as i64
    }

    pub fn count(&self, which: impl FnOnce(&Counted) -> StatId) {
        self.stats.add_outside(which(&self.counted), 1);
    }

    pub fn find(&self, name: &str) -> Option<Arc<Connection>> {
        self.connections.read().get(name).cloned()
    }

    /// How many connections are bound.
    pub fn bound(&self) -> usize {
        self.connections.read().values().filter(|c| c.is_bound()).count()
    }

    /// Raises an event.
    pub fn raise(&self, event: Option<EventId>, values: Vec<Value>) {
        if let (Some(event), Some(kernel)) = (event, self.kernel())
            && kernel.events.heard(event)
        {
            kernel.events.raise(event, values, None);
        }
    }

    /// The bind state of a connection changed.
    pub fn tell_bind(&self, connection: &Connection, state: &str, why: &str) {
        let values = [connection.row.name.as_str(), connection.row.kind.name(), state, why];
        self.raise(self.bind_event, values.map(|v| Value::str(v.to_owned())).to_vec());
    }

    /// A part is stored, then answered.
    pub fn keep_part(
        &self,
        connection: &str,
        key: &Key,
        part: u8,
        message: &ShortMessage<'_>,
        answer: Answer,
    ) {
        if !self.keeps_parts {
            return answer.give(Verdict::Taken);
        }
        let queries = parts::keep(connection, key, part, message, self.unix() as i64);
        let store = self.table.store.clone();
        self.spawn.spawn(Box::pin(async move {
            match store.batch(queries).await {
                Ok(()) => answer.give(Verdict::Taken),
                Err(e) => {
                    tracing::error!("proto_smpp: a part cannot be stored: {e}");
                    answer.give(Verdict::Later);
                }
            }
        }));
    }

    /// The parts of a message are not needed any more.
    pub fn forget_parts(&self, connection: &str, key: &Key) {
        if !self.keeps_parts {
            return;
        }
        let (query, store) = (parts::forget(connection, key), self.table.store.clone());
        self.spawn.spawn(Box::pin(async move {
            if let Err(e) = store.execute(query).await {
                tracing::error!("proto_smpp: parts of a message stay in smpp_part: {e}");
            }
        }));
    }

    /// Parts that waited when the process ended.
    pub fn restore(&self, parts: Vec<Part>) {
        let now = self.clock.now();
        for part in parts {
            let Some(connection) = self.find(&part.connection) else { continue };
            let mut joiner = connection.joiner.lock();
            if let (Outcome::Whole(_), Some((key, n))) =
                (joiner.add(now, &part.piece()), Key::of(&part.piece()))
            {
                // The last part is never stored, so there is one too many; it waits for the peer's.
                joiner.reopen(now, &key, n);
            }
        }
    }

    /// The connections of these rows, before traffic.
    pub fn prepare(&self, rows: Vec<Row>) -> Result<(), String> {
        let made = rows.into_iter().map(|row| self.make(row)).collect::<Result<Vec<_>, _>>()?;
        *self.connections.write() = made.into_iter().map(|c| (c.row.name.clone(), c)).collect();
        Ok(())
    }

    fn make(&self, row: Row) -> Result<Arc<Connection>, String> {
        let conf = self.confs.of(&row.name)?;
        let joiner = Joiner::keeping(self.join, conf.style.default);
        Ok(Arc::new(Connection::new(row, conf, joiner)))
    }

    /// The rows as they are now: what changed is started anew, the rest stays as it is. Gives how many were added, changed and
    /// removed.
    pub fn apply(self: &Arc<Self>, rows: Vec<Row>) -> Result<(usize, usize, usize), String> {
        let made = rows.into_iter().map(|row| self.make(row)).collect::<Result<Vec<_>, _>>()?;
        let (mut added, mut changed) = (0, 0);
        let (mut begin, mut end) = (Vec::new(), Vec::new());
        let removed = {
            let mut connections = self.connections.write();
            let mut old = std::mem::take(&mut *connections);
            for new in made {
                let kept = match old.remove(&new.row.name) {
                    Some(before) if before.row == new.row => before,
                    before => {
                        if let Some(before) = &before {
                            changed += 1;
                            // Parts wait on.
                            std::mem::swap(&mut *new.joiner.lock(), &mut *before.joiner.lock());
                        } else {
                            added += 1;
                        }
                        end.extend(before);
                        begin.push(new.clone());
                        new
                    }
                };
                connections.insert(kept.row.name.clone(), kept);
            }
            let removed = old.len();
            end.extend(old.into_values());
            removed
        };
        end.iter().for_each(|c| connection::stop(self, c));
        begin.iter().for_each(|c| connection::start(self, c));
        Ok((added, changed, removed))
    }

    /// A peer connected to one of our sockets: its first PDU says whether it is an application or an SMS centre.
    pub async fn accept(self: Arc<Self>, mut stream: Box<dyn ByteStream>, peer: SocketAddr) {
        if self.kernel().is_none() {
            return;
        }
        let mut first = [0; 8];
        let read = pin!(stream.read_exact(&mut first));
        let in_time = match select(read, self.clock.sleep(FIRST_PDU)).await {
            Either::Left((read, _)) => read.is_ok(),
            Either::Right(_) => false,
        };
        if !in_time {
            return tracing::debug!(%peer, "smpp: no PDU after connecting");
        }
        let outbind = first[4..] == CommandId::OUTBIND.0.to_be_bytes();
        let side = if outbind { Side::Application } else { Side::Centre };
        let options = Options::new(Settings::new(side), self.clock.clone());
        let stream = Box::new(Resumed { first, at: 0, stream });
        let handler = Arc::new(Peer::new(self.clone(), peer.to_string(), side, None));
        Link::new(options).run(stream, handler).await;
    }

    /// The row of an application that binds to us.
    pub fn application(&self, system_id: &[u8]) -> Option<Arc<Connection>> {
        let connections = self.connections.read();
        let fits =
            |c: &&Arc<Connection>| c.row.kind == Kind::Outbind && c.row.system_id.as_bytes() == system_id;
        connections.values().find(fits).cloned()
    }

    /// The row of an SMS centre that asks us to bind.
    pub fn centre(&self, system_id: &[u8], password: &[u8], peer: &str) -> Option<Arc<Connection>> {
        let connections = self.connections.read();
        let fits = |c: &&Arc<Connection>| {
            c.row.kind != Kind::Outbind
                && c.row.system_id.as_bytes() == system_id
                && same(c.row.password.as_bytes(), password)
                && peer.rsplit_once(':').is_some_and(|(ip, _)| ip.trim_matches(['[', ']']) == c.row.host)
        };
        connections.values().find(fits).cloned()
    }
}

/// Compares passwords without telling by the time it takes where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

/// A stream of which the first octets were read already.
struct Resumed {
    first: [u8; 8],
    at: usize,
    stream: Box<dyn ByteStream>,
}

impl AsyncRead for Resumed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let rest = &self.first[self.at..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Resumed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
