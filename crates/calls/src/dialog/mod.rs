//! Dialogs: which calls there are, what the script keeps with them, how many are in a profile, and their end.
//!
//! `state` holds them per worker, `follow` is how they come, go on and end.

pub mod api;
mod commands;
mod follow;
mod functions;
pub mod state;
mod variables;

use bytes::Bytes;
use switchroom_kernel::Kernel;
use switchroom_kernel::module::{EventDecl, Hook, Module, Param, Statistic};
use switchroom_kernel::open::Opening;

use state::{Counters, DialogModule, Dialogs};

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
        Param::int("delete_delay", "0", "Seconds a dialog stays after its end"),
        Param::unset("dlg_extra_hdrs", "Headers for requests of our own"),
        Param::int("dlg_match_mode", "1", "0: by parameter, 1: by parameter or tags, 2: by tags"),
        Param::int("db_mode", "0", "Only 0: dialogs live in memory"),
        Param::unset("db_url", "Database; not used in db_mode 0"),
        Param::unset("profiles_with_value", "Profiles with values, separated by ;"),
        Param::unset("profiles_no_value", "Profiles without values, separated by ;"),
    ],
    old_params: &[
        ("dlg_flag", ""),
        ("timeout_avp", ""),
        ("options_ping_interval", ""),
        ("reinvite_ping_interval", ""),
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
    ..Module::EMPTY
};

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    if o.int("db_mode") != 0 {
        return Err("dialogs are kept in memory only: db_mode must be 0".into());
    }
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
        profiles,
        members: Default::default(),
        changed: o.kernel.events.publish("E_DLG_STATE_CHANGED", &[]),
        stats: Counters {
            active: o.stat("active_dialogs")?,
            early: o.stat("early_dialogs")?,
            processed: o.stat("processed_dialogs")?,
            expired: o.stat("expired_dialogs")?,
            failed: o.stat("failed_dialogs")?,
        },
    };
    o.provide(module);
    o.per_shard(|_| Dialogs::default());
    Ok(())
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
