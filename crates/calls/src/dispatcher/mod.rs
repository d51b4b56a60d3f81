//! Sets of destinations in a table: choosing one, trying the next when it fails, and probing those that do not answer.
//!
//! `set` decides, `store` reads and writes the table, `functions` is the script's view, `probe` asks destinations whether
//! they are there. Left out: weights that FreeSWITCH reports, sharing of states between nodes, blacklists, and the
//! algorithm that runs a route.

mod commands;
mod functions;
mod probe;
mod set;
mod store;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use switchroom_kernel::Kernel;
use switchroom_kernel::events::EventId;
use switchroom_kernel::module::{EventDecl, Function, Module, Param, TableUse};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_script::vm::VarAccess;
use switchroom_script::{Template, Value};

use crate::core::partition;
use probe::Probing;
use set::{Destination, State};
use store::{Avps, Partition};

/// The module.
pub static MODULE: Module = Module {
    name: "dispatcher",
    summary: "Sets of destinations with choice, failover and probing",
    params: &[
        Param::multi("partition", "Further table: \"name: db_url = ...; table_name = ...; dst_avp = ...\""),
        Param::unset("db_url", "Database of the default partition"),
        Param::str("table_name", "dispatcher", "Table"),
        Param::str("setid_col", "setid", "Column"),
        Param::str("destination_col", "destination", "Column"),
        Param::str("socket_col", "socket", "Column"),
        Param::str("state_col", "state", "Column"),
        Param::str("weight_col", "weight", "Column"),
        Param::str("priority_col", "priority", "Column"),
        Param::str("attrs_col", "attrs", "Column"),
        Param::str("description_col", "description", "Column"),
        Param::str("probe_mode_col", "probe_mode", "Column: above 0 the destination is always probed"),
        Param::str("dst_avp", "$avp(ds_dst_failover)", "Keeps the destinations to be tried"),
        Param::str("grp_avp", "$avp(ds_grp_failover)", "Keeps their sets"),
        Param::str("cnt_avp", "$avp(ds_cnt_failover)", "Keeps their number"),
        Param::str("sock_avp", "$avp(ds_sock_failover)", "Keeps their sockets"),
        Param::unset("attrs_avp", "Gets the attributes of the destination"),
        Param::unset("script_attrs_avp", "Gets the script attributes of the destination"),
        Param::unset("algo_route", "Route of algorithm 10; not done yet"),
        Param::unset("hash_pvar", "Format that algorithm 7 hashes"),
        Param::unset("setid_pvar", "Gets the set that ds_is_in_list() found"),
        Param::str(
            "pvar_algo_pattern",
            "",
            "Variable of algorithm 9, with %u for the URI and %i for the set",
        ),
        Param::int("ds_probing_threshold", "3", "Failures until a destination is probed"),
        Param::str("ds_ping_method", "OPTIONS", "Method of probes"),
        Param::str("ds_ping_from", "sip:dispatcher@localhost", "From of probes"),
        Param::int("ds_ping_interval", "0", "Seconds between probes; 0 for none"),
        Param::int("ds_ping_maxfwd", "-1", "Max-Forwards of probes; always 70 as yet"),
        Param::int("ds_probing_mode", "0", "0: probe those that failed, 1: probe all"),
        Param::unset("options_reply_codes", "Codes besides 2xx that answer a probe"),
        Param::unset("ds_probing_sock", "Socket of probes"),
        Param::multi("ds_probing_list", "Sets that are probed; all when unset"),
        Param::multi("ds_define_blacklist", "Blacklist of a set; not done yet"),
        Param::int("persistent_state", "1", "States are read from the table and written back"),
        Param::int("fetch_freeswitch_stats", "0", "Weights by FreeSWITCH; not done yet"),
        Param::int("max_freeswitch_weight", "100", "Highest weight by FreeSWITCH; not done yet"),
        Param::int("cluster_id", "0", "Cluster; not done yet"),
        Param::unset("cluster_sharing_tag", "Sharing tag of the node that probes; not done yet"),
        Param::unset("cluster_probing_mode", "Which nodes probe; not done yet"),
    ],
    old_params: &[("ds_probing_threshhold", "ds_probing_threshold")],
    functions: &[
        Function::new(
            "ds_select_dst",
            &["int,int,[str],[str],[int]"],
            "RFBL",
            functions::ds_select_dst,
            "Choose a destination as next hop",
        ),
        Function::new(
            "ds_select_domain",
            &["int,int,[str],[str],[int]"],
            "RFBL",
            functions::ds_select_domain,
            "Choose a destination as host of the Request-URI",
        ),
        Function::new("ds_next_dst", &["[str]"], "RF", functions::ds_next_dst, "Take the next as next hop"),
        Function::new(
            "ds_next_domain",
            &["[str]"],
            "RF",
            functions::ds_next_domain,
            "Take the next as host of the Request-URI",
        ),
        Function::new(
            "ds_mark_dst",
            &["[str],[str]"],
            "RF",
            functions::ds_mark_dst,
            "Put the destination in use into a state",
        ),
        Function::new(
            "ds_is_in_list",
            &["str,int,[int],[str],[int],[str]"],
            "RFOBL",
            functions::ds_is_in_list,
            "Test whether an address is a destination",
        ),
        Function::new(
            "ds_count",
            &["int,str,var,[str]"],
            "RFBLTV",
            functions::ds_count,
            "Count the destinations in some states",
        ),
        Function::new(
            "ds_push_script_attrs",
            &["str,str,int,[int],[str]"],
            "*",
            functions::ds_push_script_attrs,
            "Give a destination a text",
        ),
        Function::new(
            "ds_get_script_attrs",
            &["str,int,[str],var"],
            "*",
            functions::ds_get_script_attrs,
            "The text a destination was given",
        ),
    ],
    events: &[EventDecl {
        name: "E_DISPATCHER_STATUS",
        attrs: &["partition", "group", "address", "status"],
        help: "A destination came into use or left it",
    }],
    commands: commands::COMMANDS,
    tables: &[TableUse { name: "dispatcher", version: 9 }],
    open,
    live: Some(live),
    close: Some(|kernel| {
        let kernel = kernel.clone();
        Box::pin(async move { save_all(kernel).await })
    }),
    ..Module::EMPTY
};

/// State of the module.
pub(crate) struct Dispatcher {
    partitions: Vec<Arc<Partition>>,
    /// `default: name`, when another partition is the default one.
    default: String,
    threshold: u32,
    hash_format: Option<Template>,
    load_pattern: String,
    setid_var: Option<VarAccess>,
    probing: Option<Probing>,
    status: EventId,
    turn: AtomicUsize,
}

impl Dispatcher {
    /// The partition of that name, the default one for an empty name.
    fn partition(&self, name: &str) -> Option<Arc<Partition>> {
        let name = if name.is_empty() || name == "default" { &self.default } else { name };
        self.partitions.iter().find(|p| p.name == name).cloned()
    }

    /// Say that the use of a destination changed.
    fn tell(&self, kernel: &Kernel, worker: Option<usize>, partition: &str, id: i64, d: &Destination) {
        let status = if d.state() == State::Active { "active" } else { "inactive" };
        let uri = String::from_utf8_lossy(&d.uri);
        tracing::info!("dispatcher: {uri} of set {id} (partition {partition}) is {status}");
        if !kernel.events.heard(self.status) {
            return;
        }
        let text = |t: &str| Value::Str(Bytes::copy_from_slice(t.as_bytes()));
        let values = vec![text(partition), Value::Int(id), Value::Str(d.uri.clone()), text(status)];
        kernel.events.raise(self.status, values, worker);
    }
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let mut partitions: Vec<Arc<Partition>> = Vec::new();
    let mut default = "default".to_owned();
    for text in o.all("partition") {
        if let Some((name, other)) = text.split_once(':').filter(|(_, rest)| !rest.contains('=')) {
            if name.trim() != "default" {
                return Err(format!("partition \"{}\" says nothing about its table", text.trim()));
            }
            default = other.trim().to_owned();
            continue;
        }
        let spec = partition::Partition::parse(&text)?;
        partitions.push(Arc::new(open_partition(o, &spec.name, Some(&spec))?));
    }
    let own = o.given("db_url") || partitions.is_empty();
    if own && !partitions.iter().any(|p| p.name == "default") {
        partitions.push(Arc::new(open_partition(o, "default", None)?));
    }
    if default != "default" && !partitions.iter().any(|p| p.name == default) {
        return Err(format!("there is no partition \"{default}\" to be the default one"));
    }
    for part in &partitions {
        block_on(part.load(&*o.kernel.drivers.resolver, false))
            .map_err(|e| format!("partition \"{}\": {e}", part.name))?;
    }
    for name in ["algo_route", "ds_define_blacklist", "cluster_id", "fetch_freeswitch_stats"] {
        if o.given(name) {
            tracing::warn!("dispatcher: `{name}` has no effect in this version");
        }
    }
    let hash_format = match o.str("hash_pvar").filter(|t| !t.is_empty()) {
        Some(text) => Some(
            Template::compile(text.as_bytes(), &o.kernel.registry)
                .map_err(|e| format!("parameter `hash_pvar`: {e}"))?,
        ),
        None => None,
    };
    let probing = open_probing(o)?;
    let state = Dispatcher {
        partitions,
        default,
        threshold: o.int("ds_probing_threshold").clamp(1, 1_000_000) as u32,
        hash_format,
        load_pattern: o.text("pvar_algo_pattern"),
        setid_var: o.variable("setid_pvar")?,
        probing,
        status: o.kernel.events.publish("E_DISPATCHER_STATUS", &[]),
        turn: AtomicUsize::new(0),
    };
    o.provide(state);
    Ok(())
}

fn open_partition(
    o: &Opening<'_>,
    name: &str,
    spec: Option<&partition::Partition>,
) -> Result<Partition, String> {
    const KEYS: &[&str] = &[
        "db_url",
        "table_name",
        "dst_avp",
        "grp_avp",
        "cnt_avp",
        "sock_avp",
        "attrs_avp",
        "script_attrs",
        "script_attrs_avp",
        "persistent_state",
        "ds_define_blacklist",
    ];
    if let Some(key) = spec.and_then(|s| s.unknown(KEYS)) {
        return Err(format!("partition \"{name}\": `{key}` is not known; there are {}", KEYS.join(", ")));
    }
    let text = |key: &str| spec.and_then(|s| s.get(key)).map(str::to_owned);
    let is_name = |t: &String| {
        !t.is_empty()
            && !t.starts_with(|c: char| c.is_ascii_digit())
            && t.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
    };
    let table = text("table_name").unwrap_or_else(|| o.text("table_name"));
    let mut columns = Vec::new();
    for param in [
        "setid_col",
        "destination_col",
        "socket_col",
        "state_col",
        "probe_mode_col",
        "weight_col",
        "priority_col",
        "attrs_col",
        "description_col",
    ] {
        columns.push(o.text(param));
    }
    if let Some(bad) = columns.iter().chain(std::iter::once(&table)).find(|t| !is_name(t)) {
        return Err(format!("\"{bad}\" is no name of a table or column"));
    }
    let url = text("db_url").or_else(|| o.str("db_url")).filter(|u| !u.is_empty());
    let store = o.store(url.as_deref(), &[(&table, 9)])?;
    let select = format!("SELECT {} FROM {table} ORDER BY id", columns.join(", "));
    let update =
        format!("UPDATE {table} SET {} = ? WHERE {} = ? AND {} = ?", columns[3], columns[0], columns[1]);
    let persistent = match text("persistent_state") {
        Some(own) => !matches!(own.as_str(), "0" | "no" | "off"),
        None => o.on("persistent_state"),
    };
    let avp = |key: &str| -> Result<Option<u32>, String> {
        let given = o.str(key).filter(|t| !t.is_empty());
        let value = match text(key) {
            Some(own) => Some(own),
            // Lists of several partitions must not mix.
            None if name != "default" && key != "attrs_avp" && key != "script_attrs_avp" => {
                Some(format!("$avp(ds_{}_failover_{name})", key.trim_end_matches("_avp")))
            }
            None => given,
        };
        value.map(|v| avp_name(o, key, &v)).transpose()
    };
    let must = |key: &str| avp(key)?.ok_or_else(|| format!("parameter `{key}` must name an AVP"));
    let avps = Avps {
        dst: must("dst_avp")?,
        grp: must("grp_avp")?,
        cnt: must("cnt_avp")?,
        sock: must("sock_avp")?,
        attrs: avp("attrs_avp")?,
        script_attrs: match text("script_attrs") {
            Some(own) => Some(avp_name(o, "script_attrs", &own)?),
            None => avp("script_attrs_avp")?,
        },
    };
    Ok(Partition::new(name, avps, store, (select, update), persistent))
}

/// The interned name in `$avp(name)`.
fn avp_name(o: &Opening<'_>, key: &str, text: &str) -> Result<u32, String> {
    let inner = text.trim().strip_prefix("$avp(").and_then(|t| t.strip_suffix(')'));
    let inner = inner.ok_or_else(|| format!("`{key}`: \"{text}\" is no $avp(name)"))?;
    o.kernel.registry.names.intern(inner.trim())
}

fn open_probing(o: &Opening<'_>) -> Result<Option<Probing>, String> {
    let seconds = o.int("ds_ping_interval");
    if seconds <= 0 {
        return Ok(None);
    }
    if !o.kernel.registry.modules.iter().any(|m| m.name == "tm") {
        return Err("ds_ping_interval needs the module tm".into());
    }
    let numbers = |text: &str| -> Result<Vec<i64>, String> {
        let words = text.split(',').map(str::trim).filter(|w| !w.is_empty());
        words.map(|w| w.parse().map_err(|_| format!("\"{w}\" is no number"))).collect()
    };
    let mut sets = Vec::new();
    for text in o.all("ds_probing_list") {
        sets.extend(numbers(&text).map_err(|e| format!("ds_probing_list: {e}"))?);
    }
    let good = numbers(&o.text("options_reply_codes")).map_err(|e| format!("options_reply_codes: {e}"))?;
    Ok(Some(Probing {
        interval: Duration::from_secs(seconds as u64),
        method: o.text("ds_ping_method"),
        from: o.text("ds_ping_from"),
        all: o.int("ds_probing_mode") == 1,
        sets,
        good: good.into_iter().filter_map(|c| u16::try_from(c).ok()).collect(),
        socket: o.str("ds_probing_sock").filter(|s| !s.is_empty()),
    }))
}

/// How often changed states are written.
const SAVE: Duration = Duration::from_secs(15);

fn live(kernel: &Arc<Kernel>) {
    probe::start(kernel);
    if kernel.state::<Dispatcher>().partitions.iter().any(|p| p.persistent) {
        kernel.every(SAVE, save_all);
    }
}

async fn save_all(kernel: Arc<Kernel>) {
    for part in &kernel.state::<Dispatcher>().partitions {
        part.save().await;
    }
}
