//! Management commands: read the table again, show what is in memory.

use std::sync::Arc;

use serde_json::json;
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};
use switchroom_kernel::ports::store::Query;

use super::Domain;
use super::table::Domains;

/// The table.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "domain:reload",
        old_names: &["domain_reload"],
        args: "",
        help: "Read the table of domains again",
        run: |call| Box::pin(reload(call)),
    },
    Command {
        name: "domain:dump",
        old_names: &["domain_dump"],
        args: "",
        help: "The domains in memory",
        run: |call| Box::pin(dump(call)),
    },
];

fn not_kept() -> CommandError {
    CommandError::new(400, "domains are asked for each time; set db_mode to 1 to keep them in memory")
}

async fn reload(call: CommandCall) -> CommandResult {
    let domain = call.kernel.state::<Domain>();
    let kept = domain.kept.as_ref().ok_or_else(not_kept)?;
    let rows = domain.store.fetch(Query::new(domain.select_all.clone(), Vec::new())).await;
    let rows = rows.map_err(|e| CommandError::new(500, e.to_string()))?;
    let new = Arc::new(Domains::read(&rows));
    let count = new.len();
    *kept.write() = new;
    tracing::info!("{count} domains loaded");
    Ok(json!("OK"))
}

async fn dump(call: CommandCall) -> CommandResult {
    let domain = call.kernel.state::<Domain>();
    let kept = domain.kept.as_ref().ok_or_else(not_kept)?.read().clone();
    let list: Vec<_> = kept
        .sorted()
        .into_iter()
        .map(|(name, row)| {
            let attributes = row.attributes.as_ref().map(|a| String::from_utf8_lossy(a).into_owned());
            json!({"name": name, "attributes": attributes, "accept_subdomain": u8::from(row.subdomains)})
        })
        .collect();
    Ok(json!({"Domains": list}))
}
