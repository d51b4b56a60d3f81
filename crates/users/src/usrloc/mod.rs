//! User location: which contacts an address of record has, in memory and, where wanted, in SQL.
//!
//! In `sql-write-through` a change is acknowledged only when the database has it, so that a crash loses nothing that was
//! answered with 200; many registrations share one commit. In `sql-write-back` changes are written every
//! `timer_interval` seconds and at shutdown. In `sql-only` the database alone has them, so that several servers share it.

pub mod api;
mod commands;
pub mod contact;
pub(crate) mod events;
mod functions;
pub mod pings;
pub mod shared;
pub mod sleepers;
pub mod store;
pub mod table;

use std::collections::hash_map::RandomState;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::RwLock;
use switchroom_kernel::Kernel;
use switchroom_kernel::module::{Module, Param, TableUse};
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::store::Store;
use switchroom_kernel::stats::Stats;

use table::Table;

/// The module.
pub static MODULE: Module = Module {
    name: "usrloc",
    summary: "User location",
    params: &[
        Param::str("contact_id_column", "contact_id", "Column"),
        Param::str("user_column", "username", "Column"),
        Param::str("domain_column", "domain", "Column"),
        Param::str("contact_column", "contact", "Column"),
        Param::str("expires_column", "expires", "Column"),
        Param::str("q_column", "q", "Column"),
        Param::str("callid_column", "callid", "Column"),
        Param::str("cseq_column", "cseq", "Column"),
        Param::str("flags_column", "flags", "Column"),
        Param::str("cflags_column", "cflags", "Column"),
        Param::unset("db_url", "Database of the location tables"),
        Param::int(
            "timer_interval",
            "60",
            "Seconds between sweeps of expired contacts and write-back rounds",
        ),
        Param::str("working_mode_preset", "single-instance-no-db", "Where contacts are kept"),
        Param::unset("restart_persistency", "Whether contacts survive a restart: none, load-from-sql"),
        Param::unset("sql_write_mode", "none, write-through or write-back"),
        Param::unset("cluster_mode", "none or sql-only"),
        Param::unset("pinging_mode", "Who pings contacts"),
        Param::int(
            "db_mode",
            "-1",
            "Old form of the preset: 0 no-db, 1 write-through, 2 write-back, 3 sql-only",
        ),
        Param::int("use_domain", "1", "Addresses of record have a domain"),
        Param::int("desc_time_order", "0", "Contacts by their last change, newest first, instead of by q"),
        Param::str("user_agent_column", "user_agent", "Column"),
        Param::str("received_column", "received", "Column"),
        Param::str("path_column", "path", "Column"),
        Param::str("socket_column", "socket", "Column"),
        Param::str("methods_column", "methods", "Column"),
        Param::str("sip_instance_column", "sip_instance", "Column"),
        Param::str("kv_store_column", "kv_store", "Column"),
        Param::str("attr_column", "attr", "Column"),
        Param::int("mi_dump_kv_store", "0", "Show key-value pairs in dumps"),
        Param::int("matching_mode", "0", "0: contacts match by URI, 1: by URI and Call-ID"),
        Param::int("cseq_delay", "20", "Seconds in which an equal CSeq is a retransmission"),
        Param::int("hash_size", "9", "Parts of a table as a power of two"),
        Param::unset("nat_bflag", "Branch flag that marks contacts behind NAT"),
        Param::int("contact_refresh_timer", "0", "Ask for refreshes of push contacts in time"),
        Param::int("max_contact_delete", "10", "Deletes per statement"),
        Param::int("regen_broken_contactid", "0", "Mend rows with a broken key"),
        Param::int(
            "latency_event_min_us",
            "0",
            "Pings answered later than so many microseconds raise E_UL_LATENCY_UPDATE",
        ),
        Param::int(
            "latency_event_min_us_delta",
            "0",
            "Pings whose time differs by so many microseconds from the last raise E_UL_LATENCY_UPDATE",
        ),
    ],
    old_params: &[
        ("location_cluster", ""),
        ("ha_cluster", ""),
        ("ha_shtag", ""),
        ("skip_replicated_db_ops", ""),
    ],
    functions: functions::FUNCTIONS,
    events: events::EVENTS,
    commands: commands::COMMANDS,
    tables: &[TableUse { name: "location", version: 1013 }],
    open,
    live: Some(live),
    close: Some(close),
    ..Module::EMPTY
};

/// What is written to SQL, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Nothing.
    None,
    /// Each change before it is acknowledged.
    Through,
    /// All changes of the last interval.
    Back,
    /// The database alone has contacts, and other servers change it too (`sql-only`).
    Only,
}

/// State of the module.
pub struct Location {
    tables: RwLock<Vec<Arc<Table>>>,
    /// Addresses of record have a domain.
    pub use_domain: bool,
    /// Contacts in the order of their last change instead of by q.
    pub newest_first: bool,
    /// 0: contacts match by URI, 1: by URI and Call-ID.
    pub matching_mode: i64,
    /// Seconds in which an equal CSeq is a retransmission.
    pub cseq_delay: u64,
    /// When to write.
    pub write: WriteMode,
    /// Bit of `nat_bflag`.
    pub nat_flag: u32,
    hash_bits: u32,
    interval: Duration,
    store: Option<Arc<dyn Store>>,
    columns: store::Columns,
    next_id: AtomicU64,
    /// Rows to delete in the next write-back round: table and key.
    deleted: parking_lot::Mutex<Vec<(String, u64)>>,
    load: bool,
    events: events::Ids,
    stats: Arc<Stats>,
    /// Contacts that are woken by push.
    pub sleepers: sleepers::Sleepers,
    /// Bindings of push contacts are refreshed in time (`contact_refresh_timer`).
    pub refresh_in_time: bool,
    latency_filter: pings::LatencyFilter,
    /// What pings found out about contacts that are in the database only.
    seen: pings::Seen,
    /// Makes keys that no other server makes.
    random: RandomState,
}

impl Location {
    /// Whether the database alone has contacts, so that every look at them waits for it.
    pub fn is_shared(&self) -> bool {
        self.write == WriteMode::Only
    }
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let (write, load) = modes(o)?;
    let url = o.str("db_url");
    let store = match write != WriteMode::None || load {
        true => Some(o.store(url.as_deref(), &[("location", 1013)])?),
        false => None,
    };
    let nat_flag = match o.str("nat_bflag").filter(|f| !f.is_empty()) {
        Some(name) => 1 << o.kernel.registry.names.flag(FlagKind::Branch, &name)?,
        None => 0,
    };
    let now = o.kernel.drivers.clock.unix();
    let location = Location {
        tables: RwLock::default(),
        use_domain: o.on("use_domain"),
        newest_first: o.on("desc_time_order"),
        matching_mode: o.int("matching_mode"),
        cseq_delay: o.int("cseq_delay").max(0) as u64,
        write,
        nat_flag,
        hash_bits: o.int("hash_size").clamp(4, 16) as u32,
        interval: Duration::from_secs(o.int("timer_interval").max(1) as u64),
        store,
        columns: store::Columns::open(o),
        // Keys grow with time, so a restart never gives one out twice; they stay below 2^63 for SQL.
        next_id: AtomicU64::new((now.as_millis() as u64) << 20),
        deleted: parking_lot::Mutex::default(),
        load,
        events: events::Ids::find(o.kernel),
        stats: o.kernel.stats.clone(),
        sleepers: Default::default(),
        refresh_in_time: o.on("contact_refresh_timer"),
        latency_filter: pings::LatencyFilter {
            from: o.int("latency_event_min_us").max(0) as u32,
            change: o.int("latency_event_min_us_delta").max(0) as u32,
        },
        seen: Default::default(),
        random: RandomState::new(),
    };
    o.provide(location);
    let location = o.kernel.share::<Location>().ok_or("location was not kept")?;
    // The table that nearly every script uses has its statistics before the first REGISTER.
    api::table(&location, "location");
    o.kernel.stats.computed("usrloc", "registered_users", "Addresses of record with a contact", move || {
        location.tables.read().iter().map(|t| t.len() as i64).sum()
    });
    Ok(())
}

/// Write mode and whether rows are loaded at start, from the preset or its single parts.
fn modes(o: &Opening<'_>) -> Result<(WriteMode, bool), String> {
    let preset = o.text("working_mode_preset");
    let mut modes = match (o.int("db_mode"), preset.as_str()) {
        (0, _) | (-1, "single-instance-no-db") => (WriteMode::None, false),
        (1, _) | (-1, "single-instance-sql-write-through") => (WriteMode::Through, true),
        (2, _) | (-1, "single-instance-sql-write-back") => (WriteMode::Back, true),
        (3, _) | (-1, "sql-only") => return Ok((WriteMode::Only, false)),
        (-1, other) => {
            return Err(format!(
                "working_mode_preset \"{other}\" is not one of: single-instance-no-db, \
                 single-instance-sql-write-through, single-instance-sql-write-back, sql-only"
            ));
        }
        (other, _) => return Err(format!("db_mode {other} is not 0, 1, 2 or 3")),
    };
    if let Some(mode) = o.str("sql_write_mode").filter(|m| !m.is_empty()) {
        modes.0 = match mode.as_str() {
            "none" => WriteMode::None,
            "write-through" => WriteMode::Through,
            "write-back" => WriteMode::Back,
            other => {
                return Err(format!("sql_write_mode \"{other}\" is not none, write-through or write-back"));
            }
        };
    }
    if let Some(mode) = o.str("restart_persistency").filter(|m| !m.is_empty()) {
        modes.1 = match mode.as_str() {
            "none" => false,
            "load-from-sql" => true,
            other => return Err(format!("restart_persistency \"{other}\" is not none or load-from-sql")),
        };
    }
    match o.str("cluster_mode").as_deref() {
        None | Some("" | "none") => Ok(modes),
        Some("sql-only") => Ok((WriteMode::Only, false)),
        Some(mode) => Err(format!(
            "cluster_mode \"{mode}\" is not available; leave it out, or write \"none\" or \"sql-only\""
        )),
    }
}

fn live(kernel: &Arc<Kernel>) {
    let location = kernel.state::<Location>();
    if location.load {
        let names: Vec<String> = location.tables.read().iter().map(|t| t.name.clone()).collect();
        for name in names {
            if let Err(e) = switchroom_kernel::open::block_on(api::load(kernel, &name)) {
                tracing::error!("location table \"{name}\" could not be loaded: {e}");
            }
        }
    }
    if location.is_shared() {
        let house = kernel.clone();
        kernel.drivers.spawn.spawn(Box::pin(async move { shared::note_sleepers(&house).await }));
    }
    kernel.every(Duration::from_secs(1), |kernel| async move {
        kernel.state::<Location>().sleepers.tick(&kernel, kernel.unix()).await;
    });
    kernel.every(location.interval, |kernel| async move {
        let location = kernel.state::<Location>();
        if location.is_shared() {
            shared::sweep(&kernel).await;
            location.seen.forget(kernel.unix());
            return;
        }
        api::sweep(&kernel).await;
        api::flush(&kernel).await;
    });
}

fn close(kernel: &Arc<Kernel>) -> switchroom_kernel::ports::net::BoxFuture<()> {
    let kernel = kernel.clone();
    Box::pin(async move { api::flush(&kernel).await })
}
