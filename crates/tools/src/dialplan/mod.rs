//! Translation of numbers and other text by rules in a table, kept in memory until reloaded.

mod commands;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module, Param, TableUse};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::store::{Query, Store, StoreError};
use switchroom_script::Value;

use crate::sql::{column, is_name};
use crate::variables::put;
use rules::Rules;

/// The module.
pub static MODULE: Module = Module {
    name: "dialplan",
    summary: "Translation by rules in a table",
    params: &[
        Param::multi(
            "partition",
            "Another set of rules: \"name: table_name=t; db_url=u\", or \"default: name\"",
        ),
        Param::unset("db_url", "Database"),
        Param::str("table_name", "dialplan", "Table"),
        Param::str("dpid_col", "dpid", "Column"),
        Param::str("pr_col", "pr", "Column"),
        Param::str("match_op_col", "match_op", "Column"),
        Param::str("match_exp_col", "match_exp", "Column"),
        Param::str("match_flags_col", "match_flags", "Column"),
        Param::str("subst_exp_col", "subst_exp", "Column"),
        Param::str("repl_exp_col", "repl_exp", "Column"),
        Param::str("attrs_col", "attrs", "Column"),
        Param::str("timerec_col", "timerec", "Column"),
        Param::str("disabled_col", "disabled", "Column"),
    ],
    functions: &[Function::new(
        "dp_translate",
        &["int,str,[var],[var],[str]"],
        "RFBLSTV",
        translate,
        "Translate a text by the rules of a dialplan",
    )],
    commands: commands::COMMANDS,
    tables: &[TableUse { name: "dialplan", version: 5 }],
    open,
    ..Module::EMPTY
};

/// Sets of rules by name.
struct Dialplan {
    partitions: BTreeMap<String, Partition>,
    /// Which one is meant without a name.
    default: String,
}

struct Partition {
    store: Arc<dyn Store>,
    table: String,
    select: Arc<str>,
    rules: RwLock<Arc<Rules>>,
}

impl Partition {
    /// Read the table again.
    async fn reload(&self) -> Result<usize, StoreError> {
        let rows = self.store.fetch(Query::new(self.select.clone(), Vec::new())).await?;
        let rules = Rules::read(&rows);
        let count = rules.len();
        *self.rules.write() = Arc::new(rules);
        Ok(count)
    }
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let columns = [
        "dpid_col",
        "pr_col",
        "match_op_col",
        "match_exp_col",
        "match_flags_col",
        "subst_exp_col",
        "repl_exp_col",
        "attrs_col",
        "timerec_col",
        "disabled_col",
    ];
    let columns: Result<Vec<String>, String> = columns.iter().map(|c| column(o, c)).collect();
    let columns = columns?.join(", ");
    let table = column(o, "table_name")?;
    let url = o.str("db_url");
    let mut wanted = BTreeMap::from([("default".to_owned(), (table.clone(), url.clone()))]);
    let mut default = "default".to_owned();
    for text in o.all("partition") {
        let (name, rest) = text
            .split_once(':')
            .ok_or_else(|| format!("partition \"{text}\": a name and `:` are missing"))?;
        let (name, rest) = (name.trim(), rest.trim());
        if name == "default" && !rest.contains('=') {
            default = rest.to_owned();
            wanted.remove("default");
            continue;
        }
        let mut entry = (table.clone(), url.clone());
        for item in rest.split(';').map(str::trim).filter(|i| !i.is_empty()) {
            match item.split_once('=').map(|(k, v)| (k.trim(), v.trim())) {
                Some(("table_name", v)) if is_name(v) => entry.0 = v.to_owned(),
                Some(("db_url", v)) => entry.1 = Some(v.to_owned()),
                _ => return Err(format!("partition \"{name}\": \"{item}\" is no table_name or db_url")),
            }
        }
        wanted.insert(name.to_owned(), entry);
    }
    if !wanted.contains_key(&default) {
        return Err(format!("there is no partition \"{default}\""));
    }
    let mut partitions = BTreeMap::new();
    for (name, (table, url)) in wanted {
        let partition = Partition {
            store: o.store(url.as_deref(), &[(table.as_str(), 5)])?,
            select: format!("SELECT {columns}, id FROM {table} ORDER BY pr, id").into(),
            table,
            rules: RwLock::default(),
        };
        block_on(partition.reload()).map_err(|e| format!("table `{}`: {e}", partition.table))?;
        partitions.insert(name, partition);
    }
    o.provide(Dialplan { partitions, default });
    Ok(())
}

impl Dialplan {
    fn partition(&self, name: Option<&str>) -> Option<&Partition> {
        self.partitions.get(name.unwrap_or(&self.default))
    }
}

/// `dp_translate(id, input[, out][, attributes][, partition])`
fn translate(c: &mut Call<'_>) -> Flow {
    let (Some(id), Some(input)) = (c.int(0), c.str(1).cloned()) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let name = c.has(4).then(|| c.text(4));
    let Some(partition) = shard.kernel.state::<Dialplan>().partition(name.as_deref()) else {
        tracing::error!("dp_translate(): there is no partition \"{}\"", name.unwrap_or_default());
        return FALSE;
    };
    let rules = partition.rules.read().clone();
    let Some(found) = rules.translate(id, &input, shard.kernel.unix() as i64) else { return FALSE };
    let mut done = true;
    if let (Some(out), Some(text)) = (c.var(2), found.output) {
        done &= put(c.ctx, "dp_translate", &out, Value::str(text));
    }
    if let Some(attributes) = c.var(3) {
        done &= put(c.ctx, "dp_translate", &attributes, Value::str(found.attributes.to_owned()));
    }
    if done { TRUE } else { FALSE }
}
