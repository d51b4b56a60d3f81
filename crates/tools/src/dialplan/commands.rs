//! Management commands: read the rules again, try one, show the sets.

use serde_json::{Value as Json, json};
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};

use super::{Dialplan, Partition};

/// The table.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "dialplan:reload",
        old_names: &["dp_reload"],
        args: "[partition]",
        help: "Read the rules of one or all partitions again",
        run: |call| Box::pin(reload(call)),
    },
    Command {
        name: "dialplan:translate",
        old_names: &["dp_translate"],
        args: "dpid,input,[partition]",
        help: "Translate a text",
        run: |call| Box::pin(async move { translate(&call) }),
    },
    Command {
        name: "dialplan:show_partition",
        old_names: &["dp_show_partition", "dp_show_partiton"],
        args: "[partition]",
        help: "Table and number of rules of one or all partitions",
        run: |call| Box::pin(async move { show(&call) }),
    },
];

fn named<'a>(call: &'a CommandCall, name: Option<&str>) -> Result<&'a Partition, CommandError> {
    let partition = call.kernel.state::<Dialplan>().partition(name);
    partition.ok_or_else(|| CommandError::new(404, "there is no such partition"))
}

async fn reload(call: CommandCall) -> CommandResult {
    let failed = |e: switchroom_kernel::ports::store::StoreError| CommandError::new(500, e.to_string());
    if let Some(name) = call.text("partition") {
        named(&call, Some(&name))?.reload().await.map_err(failed)?;
        return Ok(json!("OK"));
    }
    for partition in call.kernel.state::<Dialplan>().partitions.values() {
        partition.reload().await.map_err(failed)?;
    }
    Ok(json!("OK"))
}

fn translate(call: &CommandCall) -> CommandResult {
    let id = call.int("dpid")?.ok_or_else(|| CommandError::args("`dpid` must be an integer"))?;
    let input = call.text("input").unwrap_or_default();
    let rules = named(call, call.text("partition").as_deref())?.rules.read().clone();
    let found = rules.translate(id, input.as_bytes(), call.kernel.unix() as i64);
    let found = found.ok_or_else(|| CommandError::new(404, "No translation"))?;
    let output = found.output.map(|o| String::from_utf8_lossy(&o).into_owned());
    Ok(json!({"Output": output, "ATTRIBUTES": found.attributes}))
}

fn show(call: &CommandCall) -> CommandResult {
    let state = call.kernel.state::<Dialplan>();
    let shown = |name: &str, p: &Partition| json!({"Partition": name, "table": p.table, "rules": p.rules.read().len()});
    match call.text("partition") {
        Some(name) => Ok(shown(&name, named(call, Some(&name))?)),
        None => {
            let all: Vec<Json> = state.partitions.iter().map(|(name, p)| shown(name, p)).collect();
            Ok(json!({ "Partitions": all }))
        }
    }
}
