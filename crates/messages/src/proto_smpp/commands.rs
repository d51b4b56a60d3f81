//! Management commands on connections.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};

use super::connection::{self, Connection};
use super::gateway::Gateway;
use super::store::{Kind, Row};

/// The table.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "smpp:list",
        old_names: &["smpp_list"],
        args: "[name]",
        help: "Connections, their state and what they counted",
        run: |call| Box::pin(list(call)),
    },
    Command {
        name: "smpp:reload",
        old_names: &["smpp_reload"],
        args: "",
        help: "Read the table again; rows that did not change stay bound",
        run: |call| Box::pin(reload(call)),
    },
    Command {
        name: "smpp:bind",
        old_names: &[],
        args: "name",
        help: "Connect and bind now",
        run: |call| Box::pin(bind(call)),
    },
    Command {
        name: "smpp:unbind",
        old_names: &[],
        args: "name",
        help: "Unbind, and stay so until smpp:bind or a start",
        run: |call| Box::pin(unbind(call)),
    },
    Command {
        name: "smpp:set",
        old_names: &[],
        args: "name,ip,port,system_id,password,[system_type],[session_type],[src_ton],[src_npi],[dst_ton],[dst_npi]",
        help: "Write a row of the table and use it at once",
        run: |call| Box::pin(set(call)),
    },
    Command {
        name: "smpp:remove",
        old_names: &[],
        args: "name",
        help: "Remove a row of the table and unbind",
        run: |call| Box::pin(remove(call)),
    },
];

fn gateway(call: &CommandCall) -> Arc<Gateway> {
    call.kernel.state::<Arc<Gateway>>().clone()
}

fn named(call: &CommandCall) -> Result<Arc<Connection>, CommandError> {
    let gateway = gateway(call);
    let name = call.text("name").unwrap_or_default();
    gateway.find(&name).ok_or_else(|| {
        let known: Vec<String> = gateway.connections.read().keys().cloned().collect();
        CommandError::new(404, format!("there is no connection \"{name}\"; there are: {}", known.join(", ")))
    })
}

async fn list(call: CommandCall) -> CommandResult {
    let all = match call.text("name") {
        Some(_) => vec![named(&call)?],
        None => gateway(&call).connections.read().values().cloned().collect(),
    };
    Ok(json!({ "Connections": all.iter().map(|c| shown(c)).collect::<Vec<_>>() }))
}

fn shown(c: &Connection) -> Json {
    let life = c.shown();
    let (waiting, unanswered) = c.queue.lock().len();
    let (parts, forgotten) = {
        let joiner = c.joiner.lock();
        (joiner.waiting(), joiner.expired())
    };
    let mut counted = Map::new();
    for (name, n) in c.counters.list() {
        counted.insert(name.to_owned(), n.into());
    }
    json!({
        "name": c.row.name,
        "address": format!("{}:{}", c.row.host, c.row.port),
        "system_id": c.row.system_id,
        "session_type": c.row.kind.name(),
        "state": life.phase.name(),
        "since": life.since,
        "sessions": life.modes.len(),
        "last_error": life.last_error,
        "waiting": waiting,
        "unanswered": unanswered,
        "messages_with_missing_parts": parts,
        "messages_given_up": forgotten,
        "counted": counted,
    })
}

async fn reload(call: CommandCall) -> CommandResult {
    again(&gateway(&call)).await
}

async fn again(gateway: &Arc<Gateway>) -> CommandResult {
    let rows = gateway.table.load().await.map_err(|e| CommandError::new(500, e.to_string()))?;
    let (added, changed, removed) = gateway.apply(rows).map_err(|e| CommandError::new(500, e))?;
    Ok(json!({ "added": added, "changed": changed, "removed": removed }))
}

async fn bind(call: CommandCall) -> CommandResult {
    let c = named(&call)?;
    if !c.is_bound() {
        connection::start(&gateway(&call), &c);
    }
    Ok(json!({ "state": c.shown().phase.name() }))
}

async fn unbind(call: CommandCall) -> CommandResult {
    let c = named(&call)?;
    connection::stop(&gateway(&call), &c);
    Ok(json!("OK"))
}

async fn set(call: CommandCall) -> CommandResult {
    let octet = |name: &str| match call.int(name)? {
        None => Ok(0),
        Some(n) => {
            u8::try_from(n).map_err(|_| CommandError::args(format!("{name}: {n} is not between 0 and 255")))
        }
    };
    let port = call.int("port")?.unwrap_or(0);
    let kind = match call.int("session_type")?.unwrap_or(1) {
        1 => Kind::Transceiver,
        2 => Kind::Transmitter,
        3 => Kind::Receiver,
        4 => Kind::Outbind,
        n => {
            let text = "1 transceiver, 2 transmitter, 3 receiver, 4 outbind";
            return Err(CommandError::args(format!("session_type: {n} is none of {text}")));
        }
    };
    let text = |name: &str, most: usize| {
        let text = call.text(name).unwrap_or_default();
        match text.len() <= most {
            true => Ok(text),
            false => Err(CommandError::args(format!("{name}: more than {most} characters"))),
        }
    };
    let row = Row {
        name: text("name", 255)?,
        host: text("ip", 50)?,
        port: u16::try_from(port).map_err(|_| CommandError::args(format!("port: {port} is no port")))?,
        system_id: text("system_id", 15)?,
        password: text("password", 64)?,
        system_type: text("system_type", 12)?,
        src_ton: octet("src_ton")?,
        src_npi: octet("src_npi")?,
        dst_ton: octet("dst_ton")?,
        dst_npi: octet("dst_npi")?,
        kind,
    };
    if row.name.is_empty() {
        return Err(CommandError::args("name: must not be empty"));
    }
    let gateway = gateway(&call);
    gateway.table.put(&row).await.map_err(|e| CommandError::new(500, e.to_string()))?;
    again(&gateway).await
}

async fn remove(call: CommandCall) -> CommandResult {
    let c = named(&call)?;
    let gateway = gateway(&call);
    gateway.table.remove(&c.row.name).await.map_err(|e| CommandError::new(500, e.to_string()))?;
    again(&gateway).await
}
