//! Management commands on groups of Redis servers.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};

use super::Redis;
use super::group::Group;

/// The table.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "cachedb_redis:redis_cluster_info",
        old_names: &["redis_cluster_info"],
        args: "[group]",
        help: "Servers of each group, and how many slots they are known to have",
        run: |call| Box::pin(info(call)),
    },
    Command {
        name: "cachedb_redis:redis_cluster_refresh",
        old_names: &["redis_cluster_refresh"],
        args: "[group]",
        help: "Learn anew which server of a cluster has which slots",
        run: |call| Box::pin(refresh(call)),
    },
    Command {
        name: "cachedb_redis:redis_ping_nodes",
        old_names: &["redis_ping_nodes"],
        args: "[group]",
        help: "Ask every server whether it is there",
        run: |call| Box::pin(ping(call)),
    },
];

/// The groups meant: `redis:name`, `name`, or all.
fn groups(call: &CommandCall) -> Result<Vec<(String, Arc<Group>)>, CommandError> {
    let all = &call.kernel.state::<Redis>().groups;
    let Some(wanted) = call.text("group") else {
        return Ok(all.iter().map(|(id, group)| (id.clone(), group.clone())).collect());
    };
    let full = format!("redis:{wanted}");
    match all.get_key_value(&wanted).or_else(|| all.get_key_value(&full)) {
        Some((id, group)) => Ok(vec![(id.clone(), group.clone())]),
        None => {
            let known: Vec<_> = all.keys().cloned().collect();
            let text = format!("there is no group \"{wanted}\"; there are: {}", known.join(", "));
            Err(CommandError::new(404, text))
        }
    }
}

async fn info(call: CommandCall) -> CommandResult {
    let mut list = Vec::new();
    for (id, group) in groups(&call)? {
        let counts = group.slot_counts();
        let nodes: Vec<Json> = group
            .nodes()
            .into_iter()
            .map(|node| {
                let slots = counts.get(&node).copied().unwrap_or(0);
                json!({"host": &*node.0, "port": node.1, "slots": slots})
            })
            .collect();
        list.push(json!({"group": id, "nodes": nodes}));
    }
    Ok(json!({"groups": list}))
}

async fn refresh(call: CommandCall) -> CommandResult {
    let mut list = Vec::new();
    for (id, group) in groups(&call)? {
        list.push(match group.refresh().await {
            Ok(slots) => json!({"group": id, "slots": slots}),
            Err(e) => json!({"group": id, "error": e.to_string()}),
        });
    }
    Ok(json!({"groups": list}))
}

async fn ping(call: CommandCall) -> CommandResult {
    let mut list = Vec::new();
    for (id, group) in groups(&call)? {
        let mut nodes = Vec::new();
        for node in group.nodes() {
            let reachable = group.ping(node.clone()).await.is_ok();
            nodes.push(json!({"host": &*node.0, "port": node.1, "reachable": reachable}));
        }
        list.push(json!({"group": id, "nodes": nodes}));
    }
    Ok(json!({"groups": list}))
}
