//! Management commands: read the table again, show what is in memory, try the rules of files.

use serde_json::{Value as Json, json};
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};

use super::table::Entry;
use super::{Part, Permissions};

/// The table.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "permissions:address_reload",
        old_names: &["address_reload"],
        args: "[partition]",
        help: "Read the table of addresses again",
        run: |call| Box::pin(reload(call)),
    },
    Command {
        name: "permissions:address_dump",
        old_names: &["address_dump"],
        args: "[partition]",
        help: "The single addresses in memory",
        run: |call| Box::pin(async move { address_dump(&call) }),
    },
    Command {
        name: "permissions:subnet_dump",
        old_names: &["subnet_dump"],
        args: "[partition]",
        help: "The networks in memory",
        run: |call| Box::pin(async move { subnet_dump(&call) }),
    },
    Command {
        name: "permissions:allow_uri",
        old_names: &["allow_uri"],
        args: "basename,uri,contact",
        help: "Try the rules of files on a pair",
        run: |call| Box::pin(async move { allow_uri(&call) }),
    },
];

fn chosen<'a>(call: &CommandCall, permissions: &'a Permissions) -> Result<Vec<&'a Part>, CommandError> {
    match call.text("partition") {
        Some(name) => match permissions.partition(&name) {
            Some(p) => Ok(vec![p]),
            None => Err(CommandError::new(404, format!("there is no partition \"{name}\""))),
        },
        None => Ok(permissions.partitions.iter().collect()),
    }
}

async fn reload(call: CommandCall) -> CommandResult {
    let permissions = call.kernel.state::<Permissions>();
    for part in chosen(&call, permissions)? {
        let read = part.reload().await;
        read.map_err(|e| CommandError::new(500, format!("partition {}: {e}", part.name)))?;
    }
    Ok(json!("OK"))
}

fn address_dump(call: &CommandCall) -> CommandResult {
    dump(call, |part| part.addresses.read().hosts().into_iter().map(|e| show(e, false)).collect())
}

fn subnet_dump(call: &CommandCall) -> CommandResult {
    dump(call, |part| part.addresses.read().networks().iter().map(|e| show(e, true)).collect())
}

fn dump(call: &CommandCall, list: impl Fn(&Part) -> Vec<Json>) -> CommandResult {
    let permissions = call.kernel.state::<Permissions>();
    let parts = chosen(call, permissions)?;
    let all: Vec<Json> =
        parts.into_iter().map(|p| json!({"name": p.name, "Destinations": list(p)})).collect();
    Ok(json!({"Partitions": all}))
}

fn show(e: &Entry, with_mask: bool) -> Json {
    let text = |t: &Option<bytes::Bytes>| t.as_ref().map(|t| String::from_utf8_lossy(t).into_owned());
    let mut one = json!({
        "grp": e.group,
        "ip": e.network.ip.to_string(),
        "port": e.port,
        "proto": e.transport_name(),
        "pattern": text(&e.pattern),
        "context_info": text(&e.info),
    });
    if with_mask {
        one["mask"] = json!(e.network.bits);
    }
    one
}

fn allow_uri(call: &CommandCall) -> CommandResult {
    let permissions = call.kernel.state::<Permissions>();
    let text = |name: &str| call.text(name).unwrap_or_default();
    let name = text("basename");
    let Some(files) = permissions.files.get(&name) else {
        return Err(CommandError::new(404, format!("no files were read for \"{name}\"")));
    };
    let allowed = files.allows(text("uri").as_bytes(), &[text("contact")]);
    Ok(json!(if allowed { "Allowed" } else { "Denied" }))
}
