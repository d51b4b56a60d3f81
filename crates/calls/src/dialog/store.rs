//! Answered dialogs in the table `dialog`, so that a restart keeps its calls (`db_mode`).
//!
//! Nothing waits for the database: the newest row of each changed dialog waits here until the next round, of which there is
//! one in 100 ms (mode 1), in `db_update_period` (mode 2), or at the end (mode 3). Left out: dialogs that are not answered,
//! which end with their transactions; and what modules keep with a dialog.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use switchroom_kernel::module::Param;
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::store::{Query, SqlValue, Store};
use switchroom_kernel::{Kernel, Shard};
use switchroom_script::names::RouteType;
use switchroom_script::{Program, Value};
use switchroom_wire::sip::{NameAddr, Uri, call_id_hash, scan};

use super::sequential::Ping;
use super::state::{Dialog, DialogModule, Dialogs, Leg, OnTurn, State};

/// Version of the table.
pub const VERSION: u32 = 12;

/// Parameters that name the table and its columns, and the column's usual name.
pub(super) const COLUMNS: [(&str, &str); 26] = [
    ("dlg_id_column", "dlg_id"),
    ("call_id_column", "callid"),
    ("from_uri_column", "from_uri"),
    ("from_tag_column", "from_tag"),
    ("to_uri_column", "to_uri"),
    ("to_tag_column", "to_tag"),
    ("from_cseq_column", "caller_cseq"),
    ("to_cseq_column", "callee_cseq"),
    ("from_route_column", "caller_route_set"),
    ("to_route_column", "callee_route_set"),
    ("from_contact_column", "caller_contact"),
    ("to_contact_column", "callee_contact"),
    ("from_sock_column", "caller_sock"),
    ("to_sock_column", "callee_sock"),
    ("state_column", "state"),
    ("start_time_column", "start_time"),
    ("timeout_column", "timeout"),
    ("vars_column", "vars"),
    ("profiles_column", "profiles"),
    ("sflags_column", "script_flags"),
    ("mflags_column", "module_flags"),
    ("", "rt_on_answer"),
    ("", "rt_on_timeout"),
    ("", "rt_on_hangup"),
    ("", "caller_ping_cseq"),
    ("", "callee_ping_cseq"),
];

/// Name under which what the follower saved stands among the values.
const SAVED: &str = "_follower";

/// Columns that must have a value and that we have none for.
const ZERO: [&str; 1] = ["flags"];

/// A parameter for a column.
pub(super) const fn column(at: usize) -> Param {
    Param::str(COLUMNS[at].0, COLUMNS[at].1, "Column")
}

/// Module flag of a dialog that ends with BYE when its lifetime is over.
const BYE_ON_TIMEOUT: i64 = 1;
/// Those of one that is pinged: with OPTIONS and with INVITE, the caller and the callee.
const PINGS: [[i64; 2]; 2] = [[2, 4], [8, 16]];

/// The module flags of a dialog.
fn flags_of(d: &Dialog) -> i64 {
    let mut flags = if d.bye_on_timeout { BYE_ON_TIMEOUT } else { 0 };
    for (ping, bits) in [&d.options_ping, &d.reinvite_ping].into_iter().zip(PINGS) {
        for (on, bit) in ping.to.into_iter().zip(bits) {
            flags |= if on { bit } else { 0 };
        }
    }
    flags
}

enum Change {
    Write(Vec<SqlValue>),
    Delete,
}

/// The way to the database.
pub struct Keeper {
    store: Arc<dyn Store>,
    /// Time between rounds; `None` writes at the end only.
    pub(super) period: Option<Duration>,
    upsert: Arc<str>,
    delete: Arc<str>,
    select: Arc<str>,
    clear: Arc<str>,
    /// Newest state of what changed, by `dlg_id`. Never more than dialogs and their ends within one round.
    changed: Mutex<HashMap<i64, Change>>,
    /// Dialogs read at the start, by worker, until the worker takes them.
    pub(super) read: Arc<Mutex<HashMap<usize, Vec<Kept>>>>,
}

/// A dialog read from the table, before its worker has it.
pub(super) struct Kept {
    dialog: KeptDialog,
    ends: Instant,
    read_at: Instant,
}

/// The parts of a dialog that can move between threads.
pub(super) struct KeptDialog {
    id: u64,
    call_id: Bytes,
    legs: [Leg; 2],
    state: State,
    started: u64,
    timeout: u64,
    values: Vec<(u32, Value)>,
    flags: u32,
    profiles: Vec<(String, String)>,
    bye_on_timeout: bool,
    pings: [[bool; 2]; 2],
    turns: [Option<OnTurn>; 3],
    /// What its follower saved.
    saved: Option<String>,
    /// When it ends by itself, in a copy for another worker.
    deadline: Option<Instant>,
}

impl Keeper {
    /// From the parameters; `None` with `db_mode` 0.
    pub(super) fn open(o: &Opening<'_>) -> Result<Option<Keeper>, String> {
        let period = match o.int("db_mode") {
            0 => return Ok(None),
            1 => Some(Duration::from_millis(100)),
            2 => Some(Duration::from_secs(o.int("db_update_period").max(1) as u64)),
            3 => None,
            other => return Err(format!("db_mode {other} is not 0, 1, 2 or 3")),
        };
        let table = o.text("table_name");
        let names: Vec<String> = COLUMNS
            .iter()
            .map(|(param, usual)| if param.is_empty() { (*usual).to_owned() } else { o.text(param) })
            .collect();
        let plain = |n: &String| !n.is_empty() && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if let Some(bad) = names.iter().chain([&table]).find(|n| !plain(n)) {
            return Err(format!("\"{bad}\" is no name of a table or column"));
        }
        let url = o.str("db_url").filter(|u| !u.is_empty());
        let store = o.store(url.as_deref(), &[(&table, VERSION)])?;
        let columns = names.join(", ");
        let marks = vec!["?"; names.len()].join(", ");
        let zeros = ZERO.join(", ");
        Ok(Some(Keeper {
            store,
            period,
            upsert: format!("REPLACE INTO {table} ({columns}, {zeros}) VALUES ({marks}, 0)").into(),
            delete: format!("DELETE FROM {table} WHERE {} = ?", names[0]).into(),
            select: format!("SELECT {columns} FROM {table}").into(),
            clear: format!("DELETE FROM {table}").into(),
            changed: Mutex::default(),
            read: Arc::default(),
        }))
    }

    /// Read what a run before this one left, for the workers of this one.
    pub(super) fn load(&self, kernel: &Kernel) {
        match block_on(self.fetch(kernel)) {
            Ok(all) => {
                let module = kernel.state::<DialogModule>();
                for kept in all.values().flatten() {
                    count(kernel, module, &kept.dialog);
                }
                *self.read.lock() = all;
            }
            Err(e) => tracing::error!("{e}"),
        }
    }

    /// All dialogs of the table, by worker.
    pub(super) async fn fetch(&self, kernel: &Kernel) -> Result<HashMap<usize, Vec<Kept>>, String> {
        let rows = self.store.fetch(Query::new(self.select.clone(), Vec::new())).await;
        let rows = rows.map_err(|e| format!("dialogs could not be read: {e}"))?.rows;
        let (now, unix) = (kernel.drivers.clock.now(), kernel.unix());
        let program = kernel.program.load_full();
        let mut all: HashMap<usize, Vec<Kept>> = HashMap::new();
        let mut bad = 0;
        let mut numbers: HashSet<(usize, u64)> = HashSet::new();
        for mut row in rows {
            let Some((mut dialog, worker, until)) = read(kernel, &program, &row) else {
                bad += 1;
                continue;
            };
            // With another number of workers two may have had the same number.
            while !numbers.insert((worker, dialog.id)) {
                dialog.id += 1;
            }
            let left = until.saturating_sub(unix).max(1);
            // The row is written again under the number of this run.
            let (old, new) = (row.first().and_then(SqlValue::to_int), key(worker, dialog.id));
            if let Some(old) = old.filter(|old| *old != new) {
                row[0] = SqlValue::Int(new);
                let mut changed = self.changed.lock();
                changed.entry(old).or_insert(Change::Delete);
                changed.insert(new, Change::Write(row));
            }
            let kept = Kept { dialog, ends: now + Duration::from_secs(left), read_at: now };
            all.entry(worker).or_default().push(kept);
        }
        if bad > 0 {
            tracing::warn!("{bad} dialogs in the database make no sense and were left out");
        }
        Ok(all)
    }

    /// Remove all rows.
    pub(super) async fn clear(&self) -> Result<(), String> {
        self.changed.lock().clear();
        let query = Query::new(self.clear.clone(), Vec::new());
        self.store.execute(query).await.map(|_| ()).map_err(|e| format!("dialogs could not be removed: {e}"))
    }

    /// Write what changed.
    pub(super) async fn flush(&self) {
        let changed = std::mem::take(&mut *self.changed.lock());
        let mut queries: Vec<(i64, Query)> = changed
            .into_iter()
            .map(|(key, change)| match change {
                Change::Write(args) => (key, Query::new(self.upsert.clone(), args)),
                Change::Delete => (key, Query::new(self.delete.clone(), vec![SqlValue::Int(key)])),
            })
            .collect();
        while !queries.is_empty() {
            let rest = queries.split_off(queries.len().min(1000));
            let batch = std::mem::replace(&mut queries, rest);
            let statements: Vec<Query> = batch.iter().map(|(_, q)| q.clone()).collect();
            if let Err(e) = self.store.batch(statements).await {
                tracing::error!("dialogs could not be written: {e}; they are tried again");
                let mut changed = self.changed.lock();
                for (key, query) in batch.into_iter().chain(std::mem::take(&mut queries)) {
                    let again =
                        if query.args.len() == 1 { Change::Delete } else { Change::Write(query.args) };
                    // What changed meanwhile is newer.
                    changed.entry(key).or_insert(again);
                }
                return;
            }
        }
    }
}

/// A dialog of the table counts.
fn count(kernel: &Kernel, module: &DialogModule, dialog: &KeptDialog) {
    kernel.stats.add_outside(module.stats.active, 1);
    let mut members = module.members.lock();
    for (profile, value) in &dialog.profiles {
        *members.entry(profile.clone()).or_default().entry(value.clone()).or_default() += 1;
    }
}

/// Those of the table that a worker does not have become its own; how many.
pub(super) fn add(shard: &Shard, all: Vec<Kept>) -> u64 {
    let module = shard.kernel.state::<DialogModule>();
    let part = shard.part::<Dialogs>();
    let known = |k: &Kept| {
        let same = |id: &u64| part.with(*id, |d| d.legs[0].tag == k.dialog.legs[0].tag) == Some(true);
        part.of_call(&k.dialog.call_id).iter().any(same)
    };
    let mut new: Vec<Kept> = all.into_iter().filter(|k| !known(k)).collect();
    for kept in &mut new {
        kept.dialog.id = part.free_id(kept.dialog.id);
        count(&shard.kernel, module, &kept.dialog);
    }
    let ids: Vec<u64> = new.iter().map(|k| k.dialog.id).collect();
    let usual = Usual { ping_every: module.ping_every, delete_delay: module.delete_delay };
    put(part, new, shard.worker, usual);
    ids.iter().for_each(|id| note(shard, *id));
    ids.len() as u64
}

/// What stands in `dlg_id`.
fn key(worker: usize, id: u64) -> i64 {
    (((worker as u64) << 44) | (id & ((1 << 44) - 1))) as i64
}

/// A dialog changed: note its newest row.
pub(super) fn note(shard: &Shard, id: u64) {
    let module = shard.kernel.state::<DialogModule>();
    let Some(keeper) = &module.keeper else { return };
    let change = shard.part::<Dialogs>().with(id, |d| match d.state {
        State::ConfirmedNoAck | State::Confirmed => Some(Change::Write(row(shard, d))),
        State::Deleted if d.started > 0 => Some(Change::Delete),
        _ => None,
    });
    if let Some(Some(change)) = change {
        keeper.changed.lock().insert(key(shard.worker, id), change);
    }
}

fn row(shard: &Shard, d: &Dialog) -> Vec<SqlValue> {
    let kernel = &shard.kernel;
    let text = |b: &[u8]| SqlValue::from(b);
    let routes = |l: &Leg| {
        let all: Vec<String> = l.routes.iter().map(|r| String::from_utf8_lossy(r).into_owned()).collect();
        SqlValue::from(Some(all.join(",")).filter(|r| !r.is_empty()))
    };
    let socket = |l: &Leg| {
        SqlValue::from(l.socket.and_then(|s| kernel.socket(s)).map(|s| s.name()).unwrap_or_default())
    };
    let turn = |t: &Option<OnTurn>| {
        let name = t.as_ref().and_then(|t| t.program.routes().find(|r| r.id == t.route)?.name.clone());
        SqlValue::from(name.map(|n| n.to_string()))
    };
    // The database has the time of the end; a dialog that was given another lifetime has another deadline.
    let left = d.deadline.map(|at| at.saturating_duration_since(shard.now()).as_secs());
    let until = left.map_or(d.started + d.timeout, |left| kernel.unix() + left);
    let names = &kernel.registry.names;
    let values = d.values.iter().map(|(k, v)| {
        let value = v.to_bytes().map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        (names.text(*k).to_string(), value)
    });
    let saved = d.followers.iter().find_map(|f| f.save()).or_else(|| d.saved.clone());
    let values = values.chain(saved.map(|text| (SAVED.to_owned(), text)));
    vec![
        SqlValue::Int(key(shard.worker, d.id)),
        text(&d.call_id),
        text(&d.legs[0].uri),
        text(&d.legs[0].tag),
        text(&d.legs[1].uri),
        text(&d.legs[1].tag),
        SqlValue::from(d.legs[0].cseq.to_string()),
        SqlValue::from(d.legs[1].cseq.to_string()),
        routes(&d.legs[0]),
        routes(&d.legs[1]),
        text(&d.legs[0].contact),
        text(&d.legs[1].contact),
        socket(&d.legs[0]),
        socket(&d.legs[1]),
        SqlValue::Int(d.state as i64),
        SqlValue::Int(d.started as i64),
        SqlValue::Int(until as i64),
        SqlValue::from(Some(pairs(values)).filter(|t| !t.is_empty())),
        SqlValue::from(Some(pairs(d.profiles.iter().cloned())).filter(|t| !t.is_empty())),
        SqlValue::from(Some(names.flag_names(FlagKind::Message, d.flags)).filter(|f| !f.is_empty())),
        SqlValue::Int(flags_of(d)),
        turn(&d.on_answer),
        turn(&d.on_timeout),
        turn(&d.on_hangup),
        ping_cseq(&d.legs[0]),
        ping_cseq(&d.legs[1]),
    ]
}

/// The number that the last request in this side's name had, when there was one of ours; else 0.
fn ping_cseq(leg: &Leg) -> SqlValue {
    SqlValue::Int(if leg.shift == 0 { 0 } else { i64::from(leg.cseq.saturating_add(leg.shift)) })
}

/// `name#value|name#value|`, with `\` before what would be misread.
fn pairs(all: impl Iterator<Item = (String, String)>) -> String {
    let mut out = String::new();
    let put = |text: &str, out: &mut String| {
        for c in text.chars() {
            if matches!(c, '#' | '|' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
    };
    for (name, value) in all {
        put(&name, &mut out);
        out.push('#');
        put(&value, &mut out);
        out.push('|');
    }
    out
}

fn read_pairs(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let (mut name, mut part) = (None, String::new());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => part.extend(chars.next()),
            '#' if name.is_none() => name = Some(std::mem::take(&mut part)),
            '|' => {
                let value = std::mem::take(&mut part);
                match name.take() {
                    Some(name) => all.push((name, value)),
                    None => all.push((value, String::new())),
                }
            }
            other => part.push(other),
        }
    }
    all
}

/// A row as a dialog, its worker, and when it ends (seconds since the epoch).
fn read(kernel: &Kernel, program: &Arc<Program>, row: &[SqlValue]) -> Option<(KeptDialog, usize, u64)> {
    let text = |i: usize| row.get(i).and_then(SqlValue::to_text).unwrap_or_default();
    let int = |i: usize| row.get(i).and_then(SqlValue::to_int).unwrap_or(0);
    let bytes = |i: usize| Bytes::from(text(i));
    let state = match int(14) {
        3 => State::ConfirmedNoAck,
        4 => State::Confirmed,
        _ => return None,
    };
    let leg =
        |uri: usize, tag: usize, cseq: usize, routes: usize, contact: usize, socket: usize, ping: usize| {
            let routes = text(routes);
            let name = text(socket);
            let cseq = int(cseq).clamp(0, i64::from(u32::MAX));
            let shift = (int(ping) - cseq).clamp(0, 1 << 20) as u32;
            Leg {
                tag: bytes(tag),
                uri: bytes(uri),
                contact: bytes(contact),
                routes: scan::commas(routes.as_bytes()).map(Bytes::copy_from_slice).collect(),
                cseq: cseq as u32,
                shift,
                invite_shift: shift,
                body: None,
                socket: kernel.sockets().iter().find(|s| s.name() == name).map(|s| s.id),
            }
        };
    let legs = [leg(2, 3, 6, 8, 10, 12, 24), leg(4, 5, 7, 9, 11, 13, 25)];
    let call_id = bytes(1);
    let reads = |l: &Leg| NameAddr::parse(&l.uri).is_ok() && Uri::parse(&l.contact).is_ok();
    if call_id.is_empty() || !legs.iter().all(reads) {
        return None;
    }
    let worker = (call_id_hash(&call_id) % kernel.workers.max(1) as u64) as usize;
    let names = &kernel.registry.names;
    let mut values = read_pairs(&text(17));
    let saved = values.iter().position(|(k, _)| k == SAVED).map(|at| values.remove(at).1);
    let flags = text(19);
    let flags = flags.split_whitespace().filter_map(|f| names.flag(FlagKind::Message, f).ok());
    let turn = |i: usize| {
        let route = program.find(RouteType::Request, Some(&text(i)))?;
        Some(OnTurn { program: program.clone(), route })
    };
    let (started, until) = (int(15).max(0) as u64, int(16).max(0) as u64);
    let dialog = KeptDialog {
        id: int(0) as u64 & ((1 << 44) - 1),
        call_id,
        legs,
        state,
        started,
        timeout: until.saturating_sub(started),
        values: values
            .into_iter()
            .filter_map(|(k, v)| Some((names.intern(&k).ok()?, Value::Str(v.into()))))
            .collect(),
        flags: flags.fold(0, |mask, bit| mask | 1 << bit),
        profiles: read_pairs(&text(18)),
        bye_on_timeout: int(20) & BYE_ON_TIMEOUT != 0,
        pings: PINGS.map(|bits| bits.map(|bit| int(20) & bit != 0)),
        turns: [turn(21), turn(22), turn(23)],
        saved,
        deadline: None,
    };
    Some((dialog, worker, until))
}

/// What the settings say of every dialog.
#[derive(Clone, Copy)]
pub(super) struct Usual {
    pub ping_every: [u64; 2],
    pub delete_delay: u64,
}

/// The dialogs of a worker, with those that were read for it.
pub(super) fn take(read: &Mutex<HashMap<usize, Vec<Kept>>>, worker: usize, usual: Usual) -> Dialogs {
    let dialogs = Dialogs::default();
    let kept = read.lock().remove(&worker).unwrap_or_default();
    put(&dialogs, kept, worker, usual);
    dialogs
}

fn put(dialogs: &Dialogs, all: Vec<Kept>, worker: usize, usual: Usual) {
    for kept in all {
        let id = kept.dialog.id;
        dialogs.restore(Box::new(thaw(kept.dialog, worker, usual)));
        dialogs.schedule(id, Some(kept.ends));
        let first = dialogs.with(id, |d| {
            for ping in [&mut d.options_ping, &mut d.reinvite_ping] {
                ping.next = ping.wanted().then(|| kept.read_at + Duration::from_secs(ping.every));
            }
            [d.options_ping.next, d.reinvite_ping.next].into_iter().flatten().min()
        });
        dialogs.schedule_ping(id, first.flatten());
    }
}

fn thaw(d: KeptDialog, worker: usize, usual: Usual) -> Dialog {
    let Usual { ping_every: every, delete_delay } = usual;
    let [on_answer, on_timeout, on_hangup] = d.turns;
    Dialog {
        invite: None,
        id: d.id,
        call_id: d.call_id,
        legs: d.legs,
        state: d.state,
        created: d.started,
        started: d.started,
        timeout: d.timeout,
        deadline: None,
        values: d.values,
        flags: d.flags,
        profiles: d.profiles,
        bye_on_timeout: d.bye_on_timeout,
        end_on_race: false,
        pracked: None,
        options_ping: Ping { to: d.pings[0], every: every[0], ..Ping::default() },
        reinvite_ping: Ping { to: d.pings[1], every: every[1], ..Ping::default() },
        next_ping: None,
        delete_delay,
        on_answer,
        on_timeout,
        on_hangup,
        end_reason: "",
        worker,
        answered: Duration::from_secs(d.started),
        followers: Default::default(),
        saved: d.saved,
    }
}

/// A copy that can go to another worker.
pub(super) fn freeze(d: &Dialog) -> KeptDialog {
    KeptDialog {
        id: d.id,
        call_id: d.call_id.clone(),
        legs: d.legs.clone(),
        state: d.state,
        started: d.started,
        timeout: d.timeout,
        values: d.values.clone(),
        flags: d.flags,
        profiles: d.profiles.clone(),
        bye_on_timeout: d.bye_on_timeout,
        pings: [d.options_ping.to, d.reinvite_ping.to],
        turns: [d.on_answer.clone(), d.on_timeout.clone(), d.on_hangup.clone()],
        saved: None,
        deadline: d.deadline,
    }
}

/// That copy, to be looked at.
pub(super) fn revive(module: &DialogModule, d: KeptDialog, worker: usize) -> Dialog {
    let deadline = d.deadline;
    let usual = Usual { ping_every: module.ping_every, delete_delay: module.delete_delay };
    Dialog { deadline, ..thaw(d, worker, usual) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_whatever_is_in_them() {
        let all = vec![("a".to_owned(), "1#2|3\\".to_owned()), ("b|".to_owned(), String::new())];
        assert_eq!(read_pairs(&pairs(all.clone().into_iter())), all);
        assert_eq!(read_pairs("plain|"), [("plain".to_owned(), String::new())]);
        assert!(read_pairs("").is_empty());
    }
}
