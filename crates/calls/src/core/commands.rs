//! Core management commands: about the process, its log, its statistics and its script.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value as Json, json};
use switchroom_kernel::commands::declared;
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};
use switchroom_kernel::outlets::Outlet;
use switchroom_kernel::ports::net::BoxFuture;

use super::{blacklist, connections, events};

const fn command(
    name: &'static str,
    old_names: &'static [&'static str],
    args: &'static str,
    help: &'static str,
    run: fn(CommandCall) -> BoxFuture<CommandResult>,
) -> Command {
    Command { name, old_names, args, help, run }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command("uptime", &[], "", "Time of start and time since then", uptime),
    command("version", &[], "", "Name and version of the server", |_| {
        done(json!({"Server": concat!("Switchroom (", env!("CARGO_PKG_VERSION"), ")")}))
    }),
    command("pwd", &[], "", "Working directory", |_| {
        let dir = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default();
        done(json!({"WD": dir}))
    }),
    command("arg", &[], "", "Command line", |_| done(json!(std::env::args().collect::<Vec<_>>()))),
    command("which", &[], "", "All commands", |call| {
        done(json!(call.kernel.registry.all_commands().iter().map(|c| c.name).collect::<Vec<_>>()))
    }),
    command("help", &[], "[mi_cmd]", "What a command does", help),
    command("ps", &[], "", "Workers of the server", |call| {
        let pid = std::process::id();
        let rows =
            (0..call.kernel.workers).map(|w| json!({"ID": w, "PID": pid, "Type": format!("worker {w}")}));
        done(json!({"Processes": rows.collect::<Vec<_>>()}))
    }),
    command("log_level", &[], "[level],[pid]", "Show or set the log level", |call| level(call, false)),
    command("xlog_level", &[], "[level]", "Show or set the level of xlog()", |call| level(call, true)),
    command(
        "log_level_filter",
        &[],
        "consumer,[log_level_filter]",
        "Show or set the highest level that an outlet of the log takes (stderror, syslog)",
        log_level_filter,
    ),
    command(
        "log_mute_state",
        &[],
        "consumer,[mute_state]",
        "Show or set whether an outlet of the log takes nothing (stderror, syslog)",
        log_mute_state,
    ),
    command("kill", &[], "", "Stop the server", |call| {
        call.kernel.stop();
        done(json!("OK"))
    }),
    command("reload_routes", &[], "", "Read the script again and check it, then use it", |call| {
        Box::pin(async move {
            call.kernel.reload_script().map_err(|e| CommandError::new(500, e))?;
            events::subscribe_routes(&call.kernel);
            Ok(json!("OK"))
        })
    }),
    command("statistics:get", &["get_statistics"], "statistics..", "Values of statistics", get_statistics),
    command(
        "statistics:list",
        &["list_statistics"],
        "[statistics..]",
        "Names of statistics",
        list_statistics,
    ),
    command(
        "statistics:reset",
        &["reset_statistics"],
        "statistics..",
        "Set counters to zero",
        reset_statistics,
    ),
    command("statistics:reset_all", &["reset_all_statistics"], "", "Set all counters to zero", |call| {
        for (group, name, ..) in call.kernel.stats.list(|_, _| true) {
            call.kernel.stats.reset(&format!("{group}:{name}"));
        }
        done(json!("OK"))
    }),
    command("evi:list", &["events_list"], "", "All published events", events::EVI_LIST.run),
    command("evi:raise", &["raise_event"], "event,[params]", "Raise an event", events::EVI_RAISE.run),
    command(
        "evi:subscribers",
        &["subscribers_list"],
        "[event],[socket]",
        "Who is told of events",
        events::EVI_SUBSCRIBERS.run,
    ),
    command(
        "evi:subscribe",
        &["event_subscribe"],
        "event,socket,[expire]",
        "Send an event to an address",
        events::EVI_SUBSCRIBE.run,
    ),
    command(
        "status_report:get",
        &["sr_get_status"],
        "group,[identifier]",
        "Readiness of a part of the server",
        |call| Box::pin(async move { events::status_get(&call) }),
    ),
    command(
        "status_report:status",
        &["sr_list_status"],
        "[group]",
        "Readiness of all parts of the server",
        |call| done(events::status_list(&call)),
    ),
    command(
        "status_report:reports",
        &["sr_list_reports"],
        "[group],[identifier]",
        "What parts of the server said",
        |call| done(events::status_reports(&call)),
    ),
    command(
        "status_report:identifiers",
        &["sr_list_identifiers"],
        "[group]",
        "Parts of the server that tell their status",
        |call| done(events::status_identifiers(&call)),
    ),
    command("tcp:list", &["list_tcp_conns"], "[proto]", "Open stream connections", |call| {
        Box::pin(async move { connections::list(&call) })
    }),
    command("tcp:close", &["close_tcp_conn"], "ipport", "Close a stream connection", |call| {
        Box::pin(async move { connections::close(&call) })
    }),
    blacklist::LIST,
    blacklist::CHECK_ALL,
    blacklist::CHECK,
    blacklist::ADD,
    blacklist::REMOVE,
];

fn done(result: Json) -> BoxFuture<CommandResult> {
    Box::pin(async move { Ok(result) })
}

/// A time as the commands show it: `Wed Feb  9 10:53:50 2022`.
pub(super) fn date(unix: u64) -> String {
    super::process_vars::strftime_text(unix, "%a %b %e %H:%M:%S %Y")
}

fn uptime(call: CommandCall) -> BoxFuture<CommandResult> {
    let now = call.kernel.unix();
    let up = now.saturating_sub(call.kernel.started);
    done(json!({
        "Now": date(now),
        "Up since": date(call.kernel.started),
        "Up time": format!("{up} [sec]"),
    }))
}

fn help(call: CommandCall) -> BoxFuture<CommandResult> {
    let Some(name) = call.text("mi_cmd") else {
        return done(json!({"Help": "mi_cmd - see \"which\" for the list of commands"}));
    };
    match call.kernel.registry.command(&name) {
        Some(c) => {
            let has = |m: &&&switchroom_kernel::Module| m.commands.iter().any(|own| own.name == c.name);
            let owner = call.kernel.registry.modules.iter().find(has).map_or("core", |m| m.name);
            let args: Vec<_> = declared(c)
                .into_iter()
                .map(|(n, optional)| if optional { format!("[{n}]") } else { n.to_owned() })
                .collect();
            done(
                json!({"Help": c.help, "Exported by": owner, "Usage": format!("{} {}", c.name, args.join(" ")), "Formerly": c.old_names}),
            )
        }
        None => Box::pin(async move { Err(CommandError::new(404, format!("no command `{name}`"))) }),
    }
}

fn level(call: CommandCall, xlog: bool) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let cell = if xlog { &call.kernel.xlog_level } else { &call.kernel.log_level };
        let new = call.int("level")?;
        if let Some(new) = new {
            if !(-3..=4).contains(&new) {
                return Err(CommandError::args("a level is a number from -3 (alert) to 4 (debug)"));
            }
            cell.store(new, Relaxed);
        }
        let level = cell.load(Relaxed);
        let of_process = call.args.contains_key("pid");
        Ok(match (xlog, new) {
            (true, None) => json!({"xLog Level": level}),
            (true, Some(_)) => json!("OK"),
            // All workers live in one process and log alike.
            (false, Some(_)) if of_process => json!({"Log level": level}),
            (false, Some(_)) => json!({"New global log level": level}),
            (false, None) => {
                let pid = std::process::id();
                let row = |w| json!({"PID": pid, "Log level": level, "Type": format!("worker {w}")});
                json!({"Processes": (0..call.kernel.workers).map(row).collect::<Vec<_>>()})
            }
        })
    })
}

fn outlet(call: &CommandCall) -> Result<&Outlet, CommandError> {
    let name = call.text("consumer").unwrap_or_default();
    let found = call.kernel.log_outlets.find(&name);
    found.ok_or_else(|| {
        CommandError::args(format!("the log has the outlets stderror and syslog, not `{name}`"))
    })
}

fn log_level_filter(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let outlet = outlet(&call)?;
        match call.int("log_level_filter")? {
            None => Ok(json!({"Log level filter": outlet.level.load(Relaxed)})),
            Some(level @ -3..=4) => {
                outlet.level.store(level, Relaxed);
                Ok(json!("OK"))
            }
            Some(_) => Err(CommandError::args("a level is a number from -3 (alert) to 4 (debug), 0 for all")),
        }
    })
}

fn log_mute_state(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let outlet = outlet(&call)?;
        match call.int("mute_state")? {
            None => Ok(json!({"mute state": i64::from(outlet.muted.load(Relaxed))})),
            Some(state @ 0..=1) => {
                outlet.muted.store(state == 1, Relaxed);
                Ok(json!("OK"))
            }
            Some(_) => Err(CommandError::args("the state is 1 (muted) or 0")),
        }
    })
}

/// `["shmem:", "rcv_requests", "all"]`, or one text of the same.
fn selected(call: &CommandCall) -> Vec<String> {
    match call.args.get("statistics") {
        Some(Json::Array(list)) => {
            list.iter().map(|j| j.as_str().map_or_else(|| j.to_string(), str::to_owned)).collect()
        }
        Some(Json::String(s)) => s.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn wanted(names: &[String], group: &str, name: &str) -> bool {
    names.is_empty()
        || names.iter().any(|w| {
            w == "all"
                || w.strip_suffix(':') == Some(group)
                || w == name
                || w.split_once(':') == Some((group, name))
        })
}

fn get_statistics(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let names = selected(&call);
        let mut out = Map::new();
        for (group, name, value, _) in call.kernel.stats.list(|g, n| wanted(&names, g, n)) {
            out.insert(format!("{group}:{name}"), json!(value));
        }
        if out.is_empty() {
            return Err(CommandError::new(404, "no such statistics"));
        }
        Ok(Json::Object(out))
    })
}

fn list_statistics(call: CommandCall) -> BoxFuture<CommandResult> {
    let names = selected(&call);
    let mut out = Map::new();
    for (group, name, ..) in call.kernel.stats.list(|g, n| wanted(&names, g, n)) {
        let full = format!("{group}:{name}");
        let kind = if call.kernel.stats.counts(&full) { "incremental" } else { "non-incremental" };
        out.insert(full, json!(kind));
    }
    done(Json::Object(out))
}

fn reset_statistics(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let names = selected(&call);
        let mut done = 0;
        for (group, name, ..) in call.kernel.stats.list(|g, n| !names.is_empty() && wanted(&names, g, n)) {
            done += i32::from(call.kernel.stats.reset(&format!("{group}:{name}")));
        }
        if done == 0 {
            return Err(CommandError::new(404, "no such statistics"));
        }
        Ok(json!("OK"))
    })
}
