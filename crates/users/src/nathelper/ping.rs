//! Pings that keep the bindings of NATs open, and tell which phones are gone (parameters `natping_*`, `sipping_*`).
//!
//! The location is walked part by part so that one interval goes once round, so pings never leave in one burst. They are
//! sent in batches by the workers, without transactions: the Call-ID of a SIP ping says whom it was for and when. Only a
//! contact that has been silent for `max_pings_lost` pings is remembered, until `ping_threshold` is over.
//!
//! Left out: another source address than that of a socket of ours, which needs raw sockets.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use switchroom_calls::core::functions::socket_named;
use switchroom_calls::core::locate::{Hop, Located, locate};
use switchroom_calls::core::send::{choose_socket, first_path_uri, via_line};
use switchroom_calls::core::state::{Core, push_hex};
use switchroom_kernel::Kernel;
use switchroom_kernel::context::Received;
use switchroom_kernel::module::Hooked;
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::net::{Outgoing, Proto, SocketId};
use switchroom_kernel::shard::{AfterWait, Shard};
use switchroom_kernel::stats::StatId;
use switchroom_wire::sip::request::Builder;
use switchroom_wire::sip::{Message, Uri};

use super::token::Token;
use crate::usrloc::contact::{Contact, Field};
use crate::usrloc::table::Table;
use crate::usrloc::{Location, api, pings, shared};

/// What a datagram ping consists of.
const DATAGRAM: &[u8] = &[0; 4];
/// So many pings go to a worker at a time.
const BATCH: usize = 256;
/// In a shared database, the first round reads so many batches in one interval.
const FIRST_ROUND: usize = 400;
/// So many pings may wait for DNS at a time; others are left out of this round.
const MAX_RESOLVING: usize = 1000;
/// So many silent contacts may be under suspicion at a time; others are looked at after their next ping.
const MAX_SUSPECTS: usize = 1_000_000;
/// What the walk is behind by more than this (the machine slept) is not caught up.
const MAX_BEHIND: Duration = Duration::from_secs(5);

/// Settings and state of the pings.
///
/// More than 15 fields: one per parameter and counter.
pub(super) struct Pings {
    interval: Duration,
    nated_only: bool,
    streams: bool,
    /// Value of From without tag; SIP pings need one.
    from: Option<Bytes>,
    method: Bytes,
    sip_flag: u32,
    timed_flag: u32,
    remove_flag: u32,
    ignored: Vec<u16>,
    threshold: Duration,
    max_lost: u8,
    socket: Option<String>,
    source: Option<String>,
    /// Switched by command.
    on: AtomicBool,
    epoch: Instant,
    walk: Mutex<Walk>,
    suspects: Mutex<VecDeque<Suspect>>,
    resolving: AtomicUsize,
    counters: Counters,
}

#[derive(Clone, Copy)]
struct Counters {
    sent: StatId,
    answered: StatId,
    skipped: StatId,
    removed: StatId,
}

/// Where the walk round the location is.
struct Walk {
    last: Instant,
    /// Number of the next part, over all tables.
    next: usize,
    /// Parts that are due, in fractions; in a shared database contacts.
    due: f64,
    /// In a shared database: number of the table, the last key that was read, contacts of this round and of the last one,
    /// and when the round began.
    table: usize,
    after: u64,
    count: usize,
    last_count: usize,
    begun: Instant,
}

impl Walk {
    fn new(now: Instant) -> Walk {
        Walk { last: now, next: 0, due: 0.0, table: 0, after: 0, count: 0, last_count: 0, begun: now }
    }

    /// So much of the round is due since the last time, when it has `total` steps.
    fn steps(&mut self, now: Instant, interval: Duration, total: usize) -> usize {
        let passed = now.saturating_duration_since(self.last).min(MAX_BEHIND);
        self.last = now;
        self.due += passed.as_secs_f64() * total as f64 / interval.as_secs_f64();
        let count = (self.due as usize).min(total);
        self.due = (self.due - count as f64).min(total as f64);
        count
    }
}

/// A contact that has not answered the last pings.
struct Suspect {
    until: Instant,
    table: Arc<Table>,
    aor: Box<[u8]>,
    id: u64,
}

/// One ping to be sent.
struct Ping {
    table: u8,
    aor: Box<[u8]>,
    id: u64,
    uri: Bytes,
    /// Where it goes, when that is not the URI.
    received: Bytes,
    path: Bytes,
    socket: Option<SocketId>,
    sip: bool,
    /// Counts towards the contact's removal.
    counted: bool,
}

impl Pings {
    /// From the parameters; `None` when nothing is to be pinged.
    pub fn open(o: &mut Opening<'_>) -> Result<Option<Pings>, String> {
        let interval = o.int("natping_interval");
        if interval <= 0 {
            return Ok(None);
        }
        if !o.kernel.registry.modules.iter().any(|m| m.name == "usrloc") {
            return Err("natping_interval pings the contacts of usrloc, which is not loaded".into());
        }
        let from = match o.str("sipping_from").filter(|f| !f.is_empty()) {
            Some(uri) => {
                let bare = uri.trim().trim_start_matches('<').trim_end_matches('>');
                Uri::parse(bare.as_bytes()).map_err(|e| {
                    format!("sipping_from \"{uri}\" is no URI: {e}; write \"sip:pinger@example.org\"")
                })?;
                Some(Bytes::from(format!("<{bare}>")))
            }
            None => None,
        };
        let method = o.text("sipping_method").trim().to_ascii_uppercase();
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(format!("sipping_method \"{method}\" is no method; the usual one is \"OPTIONS\""));
        }
        if matches!(&*method, "INVITE" | "ACK" | "CANCEL" | "BYE" | "PRACK") {
            return Err(format!("sipping_method cannot be {method}, which begins or changes a call"));
        }
        let flag = |o: &Opening<'_>, name: &str| match o.str(name).filter(|f| !f.is_empty()) {
            Some(flag) => {
                let bit = o.kernel.registry.names.flag(FlagKind::Branch, &flag);
                bit.map(|b| 1u32 << b).map_err(|e| format!("{name}: {e}"))
            }
            None => Ok(0),
        };
        let pings = Pings {
            interval: Duration::from_secs(interval as u64),
            nated_only: o.on("ping_nated_only"),
            streams: o.on("natping_tcp"),
            method: method.into(),
            sip_flag: flag(o, "sipping_bflag")?,
            timed_flag: flag(o, "sipping_latency_flag")?,
            remove_flag: flag(o, "remove_on_timeout_bflag")?,
            ignored: codes(&o.text("sipping_ignore_rpl_codes"))?,
            threshold: Duration::from_secs(o.int("ping_threshold").max(1) as u64),
            max_lost: o.int("max_pings_lost").clamp(1, 255) as u8,
            socket: o.str("force_socket").filter(|s| !s.is_empty()),
            source: o.str("natping_socket").filter(|s| !s.is_empty()),
            on: AtomicBool::new(true),
            epoch: o.kernel.drivers.clock.now(),
            walk: Mutex::new(Walk::new(o.kernel.drivers.clock.now())),
            suspects: Mutex::default(),
            resolving: AtomicUsize::new(0),
            counters: Counters {
                sent: o.stat("pings_sent")?,
                answered: o.stat("pings_answered")?,
                skipped: o.stat("pings_skipped")?,
                removed: o.stat("contacts_removed")?,
            },
            from,
        };
        if pings.from.is_none()
            && (pings.sip_flag | pings.timed_flag | pings.remove_flag != 0 || pings.streams)
        {
            tracing::warn!("nathelper: without sipping_from no contact is pinged by a SIP request");
        }
        Ok(Some(pings))
    }

    /// Whether contacts are pinged at the moment.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Begin or stop to ping.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// The ping that a contact gets, if any.
    fn ping(&self, location: &Location, table: u8, aor: &[u8], c: &Contact, now: u64) -> Option<Ping> {
        let natted = !self.nated_only || c.cflags & location.nat_flag != 0;
        if !natted || !c.is_live(now) || table == u8::MAX {
            return None;
        }
        let copy = |f: Field| Bytes::copy_from_slice(c.text(f));
        Some(Ping {
            table,
            aor: aor.into(),
            id: c.id,
            uri: copy(Field::Uri),
            received: copy(Field::Received),
            path: copy(Field::Path),
            socket: c.socket,
            sip: c.cflags & self.sip_flag != 0,
            counted: c.cflags & self.remove_flag != 0,
        })
    }

    fn micros(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_micros() as u32
    }

    /// A worker was too busy, or the contact cannot be reached from here.
    fn skipped(&self, kernel: &Kernel, count: usize) {
        kernel.stats.add_outside(self.counters.skipped, count as i64);
    }
}

/// `"408, 480"`
fn codes(list: &str) -> Result<Vec<u16>, String> {
    let words = list.split(',').map(str::trim).filter(|w| !w.is_empty());
    let code = |w: &str| w.parse().ok().filter(|c| (100..700).contains(c));
    words
        .map(|w| {
            code(w).ok_or_else(|| {
                format!("sipping_ignore_rpl_codes: \"{w}\" is no reply code; write \"408, 480\"")
            })
        })
        .collect()
}

/// Begin the rounds.
pub(super) fn start(kernel: &Arc<Kernel>) {
    let Some(pings) = kernel.find::<Pings>() else { return };
    if pings.nated_only && kernel.state::<Location>().nat_flag == 0 {
        tracing::warn!(
            "nathelper: ping_nated_only is set and usrloc's nat_bflag is not, so no contact is pinged; name the branch \
             flag that the script sets for phones behind NAT"
        );
    }
    for (name, socket) in [("force_socket", &pings.socket), ("natping_socket", &pings.source)] {
        if let Some(s) = socket.as_deref().filter(|s| socket_named(kernel, s).is_none()) {
            tracing::warn!(
                "nathelper: {name} \"{s}\" is no socket of this server; pings leave from the contact's own"
            );
        }
    }
    // Often enough that few contacts are due at a time, and no oftener.
    let period = (pings.interval / 512).clamp(Duration::from_millis(20), Duration::from_secs(1));
    kernel.every(period, |kernel| async move {
        match kernel.state::<Location>().is_shared() {
            true => tick_shared(&kernel).await,
            false => tick(&kernel),
        }
        give_up(&kernel).await;
    });
}

/// Ping the next contacts of a shared database: as many as are due, going by how many the last round had.
async fn tick_shared(kernel: &Arc<Kernel>) {
    let (pings, location) = (kernel.state::<Pings>(), kernel.state::<Location>());
    let tables = api::tables(location);
    let now = kernel.drivers.clock.now();
    let (index, after, limit) = {
        let mut walk = pings.walk.lock();
        // The first round does not know how many there are, and goes on as fast as it may.
        let expected = if walk.last_count == 0 { BATCH * FIRST_ROUND } else { walk.last_count + BATCH };
        let limit = walk.steps(now, pings.interval, expected);
        let over = walk.table >= tables.len();
        if over && now.saturating_duration_since(walk.begun) >= pings.interval {
            (walk.table, walk.after, walk.begun) = (0, 0, now);
            (walk.last_count, walk.count) = (walk.count, 0);
        }
        if limit == 0 || !pings.is_on() {
            return;
        }
        (walk.table, walk.after, limit)
    };
    let Some(table) = tables.get(index) else { return };
    let Some(rows) = shared::page(kernel, table, after, limit) else { return };
    let rows = match rows.await {
        Ok(rows) => rows,
        Err(e) => return tracing::error!("contacts to be pinged could not be read: {e}"),
    };
    let (unix, number) = (kernel.unix(), u8::try_from(index).unwrap_or(u8::MAX));
    {
        let mut walk = pings.walk.lock();
        walk.count += rows.len();
        match rows.last().filter(|_| rows.len() == limit) {
            Some((_, last)) => walk.after = last.id,
            None => (walk.table, walk.after) = (index + 1, 0),
        }
    }
    let mut worker = after as usize;
    let mut batch: Vec<Ping> =
        rows.iter().filter_map(|(aor, c)| pings.ping(location, number, aor, c, unix)).collect();
    while !batch.is_empty() {
        let rest = batch.split_off(batch.len().saturating_sub(BATCH));
        post(kernel, &mut worker, rest);
    }
}

/// Ping the contacts of those parts that are due.
fn tick(kernel: &Arc<Kernel>) {
    let (pings, location) = (kernel.state::<Pings>(), kernel.state::<Location>());
    let tables = api::tables(location);
    let total: usize = tables.iter().map(|t| t.parts()).sum();
    let now = kernel.drivers.clock.now();
    let (first, count) = {
        let mut walk = pings.walk.lock();
        let count = walk.steps(now, pings.interval, total);
        if count == 0 || !pings.is_on() {
            return;
        }
        let first = walk.next % total;
        walk.next = (first + count) % total;
        (first, count)
    };
    let unix = kernel.unix();
    let mut batch = Vec::new();
    let mut worker = first;
    for number in first..first + count {
        let mut part = number % total;
        for (index, table) in tables.iter().enumerate() {
            if part >= table.parts() {
                part -= table.parts();
                continue;
            }
            let index = u8::try_from(index).unwrap_or(u8::MAX);
            table.visit(part, |aor, record| {
                batch
                    .extend(record.contacts.iter().filter_map(|c| pings.ping(location, index, aor, c, unix)));
            });
            break;
        }
        while batch.len() >= BATCH {
            let rest = batch.split_off(batch.len() - BATCH);
            post(kernel, &mut worker, rest);
        }
    }
    post(kernel, &mut worker, batch);
}

/// Let a worker send a batch.
fn post(kernel: &Arc<Kernel>, worker: &mut usize, batch: Vec<Ping>) {
    let count = batch.len();
    if count == 0 {
        return;
    }
    *worker = (*worker + 1) % kernel.workers.max(1);
    let posted = kernel.on_worker(*worker, move |shard| {
        let tables = api::tables(shard.kernel.state::<Location>());
        for ping in batch {
            send(shard, &tables, ping);
        }
    });
    if !posted {
        kernel.state::<Pings>().skipped(kernel, count);
    }
}

fn send(shard: &Rc<Shard>, tables: &[Arc<Table>], ping: Ping) {
    let pings = shard.kernel.state::<Pings>();
    // Rows of a database may hold anything; what is no URI must not stand in a request.
    if Uri::parse(&ping.uri).is_err() || ping.path.iter().any(|b| matches!(b, b'\r' | b'\n')) {
        return shard.count(pings.counters.skipped, 1);
    }
    let to = match first_path_uri(&ping.path) {
        Some(first) => first,
        None if !ping.received.is_empty() => &ping.received,
        None => &ping.uri,
    };
    match Uri::parse(to).map(|u| locate(&shard.kernel, &u, None)) {
        Ok(Located::Now(hops)) => match hops.first() {
            Some(hop) => send_to(shard, tables, &ping, *hop),
            None => shard.count(pings.counters.skipped, 1),
        },
        Ok(Located::Wait(answer)) => {
            if pings.resolving.fetch_add(1, Ordering::Relaxed) >= MAX_RESOLVING {
                pings.resolving.fetch_sub(1, Ordering::Relaxed);
                return shard.count(pings.counters.skipped, 1);
            }
            let waits = shard.wait(async move {
                let hops = answer.await;
                Box::new(move |shard: &Rc<Shard>| {
                    shard.kernel.state::<Pings>().resolving.fetch_sub(1, Ordering::Relaxed);
                    if let Some(hop) = hops.first() {
                        let tables = api::tables(shard.kernel.state::<Location>());
                        send_to(shard, &tables, &ping, *hop);
                    }
                }) as AfterWait
            });
            if !waits {
                pings.resolving.fetch_sub(1, Ordering::Relaxed);
                shard.count(pings.counters.skipped, 1);
            }
        }
        Err(_) => shard.count(pings.counters.skipped, 1),
    }
}

fn send_to(shard: &Rc<Shard>, tables: &[Arc<Table>], ping: &Ping, hop: Hop) {
    let kernel = &shard.kernel;
    let pings = kernel.state::<Pings>();
    let stream = hop.proto != Proto::Udp;
    let from = pings.from.as_ref().filter(|_| ping.sip || stream);
    if stream && (!pings.streams || from.is_none()) {
        return;
    }
    let wanted = match from {
        None => pings.source.as_deref().and_then(|s| socket_named(kernel, s)).or(ping.socket),
        Some(_) => ping.socket,
    };
    let wanted = wanted.or_else(|| pings.socket.as_deref().and_then(|s| socket_named(kernel, s)));
    let Some(socket) = choose_socket(shard, wanted, hop.proto, hop.addr) else {
        return shard.count(pings.counters.skipped, 1);
    };
    let data = match from {
        Some(from) => {
            if ping.counted
                && let Some(table) = tables.get(usize::from(ping.table))
                && pings::sent(kernel, table, &ping.aor, ping.id) >= pings.max_lost
            {
                pings.suspect(shard.now(), table, ping);
            }
            match request(shard, ping, from, socket) {
                Some(data) => data,
                None => return,
            }
        }
        None => Bytes::from_static(DATAGRAM),
    };
    // A phone behind NAT cannot be connected to: its own connection is there or nothing is.
    shard.net.send(Outgoing { data, socket, peer: hop.addr, conn: None, no_new_conn: stream, token: 0 });
    shard.count(pings.counters.sent, 1);
}

/// The bytes of a SIP ping.
fn request(shard: &Shard, ping: &Ping, from: &[u8], socket: SocketId) -> Option<Bytes> {
    let kernel = &shard.kernel;
    let (pings, core) = (kernel.state::<Pings>(), kernel.state::<Core>());
    let socket = kernel.socket(socket)?;
    let sent = pings.micros(kernel.drivers.clock.now());
    let mut call_id = Vec::with_capacity(96);
    let token = Token { id: ping.id, sent, table: ping.table, aor: &ping.aor };
    let hash = token.write(core, &mut call_id);
    let mut branch = b"z9hG4bKnh".to_vec();
    push_hex(hash, &mut branch);
    let via = via_line(socket, &(None, None), &branch, b"");
    let mut own = from.to_vec();
    own.extend_from_slice(b";tag=");
    push_hex(hash.rotate_left(32), &mut own);
    let mut headers = Vec::new();
    if !ping.path.is_empty() {
        headers.extend_from_slice(b"Route: ");
        headers.extend_from_slice(&ping.path);
        headers.extend_from_slice(b"\r\n");
    }
    headers.extend_from_slice(&core.user_agent_header);
    let to = [b"<", &ping.uri[..], b">"].concat();
    let mut out = Vec::with_capacity(512);
    Builder {
        method: &pings.method,
        ruri: &ping.uri,
        via: via.strip_prefix(b"Via: ").map(|l| l.trim_ascii_end()),
        from: &own,
        to: &to,
        call_id: &call_id,
        cseq: 1,
        max_forwards: 70,
        headers: &headers,
        body: None,
    }
    .write(&mut out);
    Some(out.into())
}

/// Takes the answers to pings, before any script sees them.
pub(super) fn answer(shard: &Rc<Shard>, msg: &Message, _: &Received) -> Hooked {
    if !Token::is_ours(msg.call_id()) {
        return Hooked::Continue;
    }
    let Some(pings) = shard.kernel.find::<Pings>() else { return Hooked::Continue };
    let mut bytes = Vec::new();
    let Some(token) = Token::read(shard.kernel.state::<Core>(), msg.call_id(), &mut bytes) else {
        return Hooked::Continue;
    };
    let code = msg.status();
    if code < 200 || pings.ignored.contains(&code) {
        return Hooked::Consumed;
    }
    shard.count(pings.counters.answered, 1);
    let took = pings.micros(shard.kernel.drivers.clock.now()).wrapping_sub(token.sent);
    let tables = api::tables(shard.kernel.state::<Location>());
    if let Some(table) = tables.get(usize::from(token.table)) {
        let flag = pings.timed_flag;
        pings::answered(&shard.kernel, Some(shard.worker), table, token.aor, token.id, took, flag);
    }
    Hooked::Consumed
}

impl Pings {
    fn suspect(&self, now: Instant, table: &Arc<Table>, ping: &Ping) {
        let mut suspects = self.suspects.lock();
        if suspects.len() < MAX_SUSPECTS {
            let until = now + self.threshold;
            suspects.push_back(Suspect { until, table: table.clone(), aor: ping.aor.clone(), id: ping.id });
        }
    }
}

/// Remove the suspects that have not answered in time.
async fn give_up(kernel: &Arc<Kernel>) {
    let pings = kernel.state::<Pings>();
    let now = kernel.drivers.clock.now();
    let mut removed = 0;
    // They come nearly in the order of their time; a few milliseconds do not matter here.
    while let Some(s) = {
        let mut suspects = pings.suspects.lock();
        if suspects.front().is_some_and(|s| s.until <= now) { suspects.pop_front() } else { None }
    } {
        match pings::give_up(kernel, &s.table, &s.aor, s.id, pings.max_lost).await {
            Ok(gone) => removed += i64::from(gone),
            Err(e) => {
                tracing::error!("contacts that answer no pings could not be removed from the database: {e}");
                break;
            }
        }
    }
    if removed > 0 {
        kernel.stats.add_outside(pings.counters.removed, removed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_a_list_of_reply_codes() {
        assert_eq!(codes("408, 480,404"), Ok(vec![408, 480, 404]));
        assert_eq!(codes(""), Ok(vec![]));
        assert!(codes("408 480").is_err() && codes("99").is_err());
    }
}
