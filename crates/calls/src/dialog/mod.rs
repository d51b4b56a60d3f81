//! Dialogs: which calls there are, what the script keeps with them, how many are in a profile, and their end.
//!
//! `state` holds them per worker, `follow` is how they come, go on and end.

pub mod api;
mod changes;
mod commands;
mod follow;
mod functions;
mod loaded;
mod others;
mod prack;
mod sequential;
pub mod state;
mod store;
mod variables;

use std::sync::Arc;

use bytes::Bytes;
use switchroom_kernel::Kernel;
use switchroom_kernel::module::{EventDecl, Hook, Module, Param, Statistic, TableUse};
use switchroom_kernel::open::Opening;

use state::{Counters, DialogModule};

/// The module.
pub static MODULE: Module = Module {
    name: "dialog",
    summary: "Calls and their state",
    needs: &["tm", "rr"],
    params: &[
        Param::int("enable_stats", "1", "Count"),
        Param::int("hash_size", "4096", "Kept for old scripts; tables grow by themselves"),
        Param::int("log_profile_hash_size", "4", "Kept for old scripts"),
        Param::str("rr_param", "did", "Record-Route parameter that names the dialog"),
        Param::int("default_timeout", "43200", "Lifetime in seconds"),
        Param::int("options_ping_interval", "30", "Seconds between pings with OPTIONS"),
        Param::int("reinvite_ping_interval", "300", "Seconds between pings with INVITE"),
        Param::int("auto_prack_fr_timeout", "3", "Seconds an answer to a PRACK of ours may take"),
        Param::int(
            "auto_prack_hangup_on_failure",
            "0",
            "1: a PRACK of ours that fails ends the call with 502",
        ),
        Param::int("race_condition_timeout", "5", "Seconds until a call ends that was cancelled too late"),
        Param::int("delete_delay", "0", "Seconds a dialog stays after its end"),
        Param::unset("dlg_extra_hdrs", "Headers for requests of our own"),
        Param::int("dlg_match_mode", "1", "0: by parameter, 1: by parameter or tags, 2: by tags"),
        Param::int("db_mode", "0", "0 memory only, 1 written at once, 2 periodically, 3 at the end"),
        Param::unset("db_url", "Database of the dialogs"),
        Param::int("db_update_period", "60", "Seconds between rounds in db_mode 2"),
        Param::str("table_name", "dialog", "Table of the dialogs"),
        store::column(0),
        store::column(1),
        store::column(2),
        store::column(3),
        store::column(4),
        store::column(5),
        store::column(6),
        store::column(7),
        store::column(8),
        store::column(9),
        store::column(10),
        store::column(11),
        store::column(12),
        store::column(13),
        store::column(14),
        store::column(15),
        store::column(16),
        store::column(17),
        store::column(18),
        store::column(19),
        store::column(20),
        Param::str("flags_column", "flags", "Kept for old scripts"),
        Param::int(
            "db_flush_vals_profiles",
            "0",
            "Kept for old scripts: values and profiles are always written",
        ),
        Param::int("timer_bulk_del_no", "1", "Kept for old scripts"),
        Param::unset("profiles_with_value", "Profiles with values, separated by ;"),
        Param::unset("profiles_no_value", "Profiles without values, separated by ;"),
    ],
    old_params: &[
        ("dlg_flag", ""),
        ("timeout_avp", ""),
        ("ping_interval", "options_ping_interval"),
        ("cachedb_url", ""),
        ("profile_value_prefix", ""),
        ("profile_no_value_prefix", ""),
        ("profile_size_prefix", ""),
        ("profile_timeout", ""),
        ("dialog_replication_cluster", ""),
        ("profile_replication_cluster", ""),
        ("replicate_profiles_timer", ""),
        ("replicate_profiles_check", ""),
        ("replicate_profiles_buffer", ""),
        ("replicate_profiles_expire", ""),
        ("cluster_auto_sync", ""),
    ],
    functions: functions::FUNCTIONS,
    variables: variables::VARIABLES,
    events: &[EventDecl {
        name: "E_DLG_STATE_CHANGED",
        attrs: &["id", "db_id", "callid", "from_tag", "to_tag", "old_state", "new_state"],
        help: "A dialog went on to another state",
    }],
    commands: commands::COMMANDS,
    statistics: &[
        Statistic::gauge("active_dialogs", "Answered and not ended"),
        Statistic::gauge("early_dialogs", "Ringing"),
        Statistic::counter("processed_dialogs", "Dialogs made"),
        Statistic::counter("expired_dialogs", "Ended by their lifetime"),
        Statistic::counter("failed_dialogs", "Never answered"),
    ],
    hooks: &[
        Hook::Routed(follow::routed),
        Hook::ScriptEnd(follow::script_end),
        Hook::Timer(follow::deadline, follow::tick),
    ],
    open,
    live: Some(live),
    close: Some(|kernel| Box::pin(flush(kernel.clone()))),
    tables: &[TableUse { name: "dialog", version: store::VERSION }],
    ..Module::EMPTY
};

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let keeper = store::Keeper::open(o)?;
    let timeout = o.int("default_timeout");
    if timeout <= 0 {
        return Err(format!("default_timeout is {timeout}; it must be a positive number of seconds"));
    }
    let list = |name: &str, with_value: bool| {
        let text = o.text(name);
        // `/s` and `/b` ask for sharing between nodes.
        let names = text.split(';').map(|p| p.split('/').next().unwrap_or_default().trim().to_owned());
        names.filter(|p| !p.is_empty()).map(|p| (p, with_value)).collect::<Vec<_>>()
    };
    let mut profiles = list("profiles_with_value", true);
    profiles.extend(list("profiles_no_value", false));
    let module = DialogModule {
        default_timeout: timeout as u64,
        rr_param: o.text("rr_param"),
        match_mode: o.int("dlg_match_mode"),
        extra_headers: Bytes::from(o.text("dlg_extra_hdrs").replace("\\r\\n", "\r\n")),
        delete_delay: o.int("delete_delay").max(0) as u64,
        ping_every: [seconds(o, "options_ping_interval")?, seconds(o, "reinvite_ping_interval")?],
        race_timeout: seconds(o, "race_condition_timeout")?,
        prack: (
            o.int("auto_prack_fr_timeout").clamp(1, 3600) as u32 * 1000,
            o.on("auto_prack_hangup_on_failure"),
        ),
        profiles,
        members: Default::default(),
        keeper,
        changed: o.kernel.events.publish("E_DLG_STATE_CHANGED", &[]),
        stats: Counters {
            active: o.stat("active_dialogs")?,
            early: o.stat("early_dialogs")?,
            processed: o.stat("processed_dialogs")?,
            expired: o.stat("expired_dialogs")?,
            failed: o.stat("failed_dialogs")?,
        },
    };
    let usual = store::Usual { ping_every: module.ping_every, delete_delay: module.delete_delay };
    let read = module.keeper.as_ref().map(|k| k.read.clone()).unwrap_or_default();
    o.provide(module);
    o.per_shard(move |worker| store::take(&read, worker, usual));
    Ok(())
}

fn seconds(o: &Opening<'_>, name: &str) -> Result<u64, String> {
    let n = o.int(name);
    let valid = u64::try_from(n).ok().filter(|n| (1..=86_400).contains(n));
    valid.ok_or_else(|| format!("{name} is {n}; it must be from 1 to 86400 seconds"))
}

fn live(kernel: &Arc<Kernel>) {
    let Some(keeper) = &kernel.state::<DialogModule>().keeper else { return };
    keeper.load(kernel);
    if let Some(period) = keeper.period {
        kernel.every(period, flush);
    }
}

async fn flush(kernel: Arc<Kernel>) {
    if let Some(keeper) = &kernel.state::<DialogModule>().keeper {
        keeper.flush().await;
    }
}

/// How many dialogs are in a profile, with a value or with any.
fn profile_size(kernel: &Kernel, profile: &str, value: Option<&str>) -> i64 {
    let members = kernel.state::<DialogModule>().members.lock();
    let Some(values) = members.get(profile) else { return 0 };
    match value {
        Some(v) => values.get(v).copied().unwrap_or(0),
        None => values.values().sum(),
    }
}
