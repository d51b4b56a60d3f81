//! Management commands: states, lists, reading the table again.

use serde_json::{Value as Json, json};
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};

use super::Dispatcher;
use super::functions::push_attrs;
use super::set::{Destination, State};
use super::store::{Partition, address};
use switchroom_wire::sip::scan::ip_literal;

/// The table.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "dispatcher:set_state",
        old_names: &["ds_set_state"],
        args: "state,group,address",
        help: "Put a destination into a state: a, i or p",
        run: |call| Box::pin(async move { set_state(&call) }),
    },
    Command {
        name: "dispatcher:list",
        old_names: &["ds_list"],
        args: "[partition],[full]",
        help: "Sets and destinations",
        run: |call| Box::pin(async move { list(&call) }),
    },
    Command {
        name: "dispatcher:reload",
        old_names: &["ds_reload"],
        args: "[partition],[inherit_state]",
        help: "Read the table again; states are kept unless inherit_state is n",
        run: |call| Box::pin(reload(call)),
    },
    Command {
        name: "dispatcher:push_script_attrs",
        old_names: &["ds_push_script_attrs"],
        args: "attrs,ip,port,set,[partition]",
        help: "Give a destination a text for the script",
        run: |call| Box::pin(async move { push_script_attrs(&call) }),
    },
];

fn find(call: &CommandCall, name: &str) -> Result<std::sync::Arc<Partition>, CommandError> {
    let found = call.kernel.state::<Dispatcher>().partition(name);
    found.ok_or_else(|| CommandError::new(404, format!("there is no partition \"{name}\"")))
}

/// `group` is a number, or `partition:number`.
fn set_state(call: &CommandCall) -> CommandResult {
    let text = call.text("state").unwrap_or_default();
    let state = text.trim().chars().next().and_then(State::from_letter);
    let state =
        state.ok_or_else(|| CommandError::args(format!("`{text}` is no state; there are a, i and p")))?;
    let group = call.text("group").unwrap_or_default();
    let (name, id) = group.rsplit_once(':').unwrap_or(("", &group));
    let id: i64 =
        id.trim().parse().map_err(|_| CommandError::args(format!("\"{group}\" is no number of a set")))?;
    let part = find(call, name.trim())?;
    let wanted = call.text("address").unwrap_or_default();
    let uri = address(&wanted).map(|a| a.0);
    let sets = part.sets();
    let found = sets.get(&id).and_then(|s| s.list.iter().find(|d| Some(&d.uri) == uri.as_ref()));
    let Some(d) = found else {
        return Err(CommandError::new(404, format!("set {id} has no destination {wanted}")));
    };
    if d.set(state) {
        call.kernel.state::<Dispatcher>().tell(&call.kernel, None, &part.name, id, d);
    }
    Ok(json!("OK"))
}

fn list(call: &CommandCall) -> CommandResult {
    let dispatcher = call.kernel.state::<Dispatcher>();
    // A lone `full` is the older form of the command, which knew no partition here.
    let partition = call.text("partition");
    let partition = partition.filter(|p| p != "full" || dispatcher.partition(p).is_some());
    let lone = partition.is_none() && call.args.contains_key("partition");
    let full = lone || call.text("full").is_some_and(|f| f != "0");
    let chosen = match partition {
        Some(name) => vec![find(call, &name)?],
        None => dispatcher.partitions.clone(),
    };
    let of_part = |p: &std::sync::Arc<Partition>| {
        let sets: Vec<Json> = p
            .sets()
            .iter()
            .map(|(id, set)| {
                let all: Vec<Json> = set.list.iter().map(|d| show(d, full)).collect();
                json!({"id": id, "Destinations": all})
            })
            .collect();
        json!({"name": p.name, "SETS": sets})
    };
    Ok(json!({"PARTITIONS": chosen.iter().map(of_part).collect::<Vec<_>>()}))
}

fn show(d: &Destination, full: bool) -> Json {
    let mut one = json!({"URI": String::from_utf8_lossy(&d.uri), "state": d.state().name()});
    if let Some(socket) = &d.socket {
        one["socket"] = json!(socket);
    }
    if let Some(attrs) = &d.attrs {
        one["attr"] = json!(String::from_utf8_lossy(attrs));
    }
    if let Some(attrs) = &*d.script_attrs.lock() {
        one["script_attr"] = json!(String::from_utf8_lossy(attrs));
    }
    if full {
        one["weight"] = json!(d.weight);
        one["priority"] = json!(d.priority);
        one["description"] = json!(d.description);
    }
    one
}

async fn reload(call: CommandCall) -> CommandResult {
    let keep = !call.text("inherit_state").is_some_and(|t| t.eq_ignore_ascii_case("n") || t == "0");
    let chosen = match call.text("partition") {
        Some(name) => vec![find(&call, &name)?],
        None => call.kernel.state::<Dispatcher>().partitions.clone(),
    };
    for part in chosen {
        // What is not written yet would come back old from the table.
        part.save().await;
        let read = part.load(&*call.kernel.drivers.resolver, keep).await;
        read.map_err(|e| CommandError::new(500, format!("partition {}: {e}", part.name)))?;
    }
    Ok(json!("OK"))
}

fn push_script_attrs(call: &CommandCall) -> CommandResult {
    let text = |name: &str| call.text(name).unwrap_or_default();
    let part = find(call, &text("partition"))?;
    let ip = ip_literal(text("ip").as_bytes()).ok_or_else(|| CommandError::args("`ip` is no address"))?;
    let port = call.int("port")?.and_then(|p| u16::try_from(p).ok());
    let port = port.ok_or_else(|| CommandError::args("`port` is no port"))?;
    let set = call.int("set")?.unwrap_or(0);
    match push_attrs(&part, set, ip, port, &text("attrs").into()) {
        true => Ok(json!("OK")),
        false => Err(CommandError::new(404, format!("set {set} has no such destination"))),
    }
}
