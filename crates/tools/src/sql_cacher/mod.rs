//! Tables kept in memory, row by row under a key: `$sql_cached_value(id:column:key)`.
//!
//! Reading a variable must not wait, so the rows are in this process, whatever cache an entry names, and an entry on demand
//! is loaded as a whole as well; a key that is missing in it is asked for in the background, so that the next reading finds
//! it. Left out: keeping the rows in a key-value store.

mod entry;
mod spec;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::module::{
    Command, CommandCall, CommandError, CommandResult, Function, Module, Named, Param, Variable,
};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::store::SqlValue;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use crate::variables::Lists;
use entry::Entry;
use spec::Spec;

/// The module.
pub static MODULE: Module = Module {
    name: "sql_cacher",
    summary: "Tables kept in memory",
    params: &[
        Param::multi(
            "cache_table",
            "A table: id, db_url, cachedb_url, table, key, columns, on_demand, expire",
        ),
        Param::str(
            "spec_delimiter",
            "\\n",
            "Character between the parts of cache_table; a line's end by default",
        ),
        Param::str("pvar_delimiter", ":", "Character between the parts of the variable's name"),
        Param::str("columns_delimiter", " ", "Character between the columns in cache_table"),
        Param::int("sql_fetch_nr_rows", "100", "Accepted for older scripts; answers come whole here"),
        Param::int("full_caching_expire", "86400", "Seconds a row is good for"),
        Param::int("reload_interval", "60", "Seconds before that at which the table is read again"),
        Param::int("bigint_to_str", "0", "1: integers beyond 32 bits become text"),
    ],
    functions: &[Function::new(
        "sql_cache_dump",
        &["str,str,str~"],
        "*",
        dump,
        "All kept values of some columns into AVPs",
    )],
    variables: &[Variable {
        named: Named::Yes,
        bind: Some(|names, name| names.intern(name)),
        ..Variable::ro("sql_cached_value", value, "A value of a kept table: id, column, key")
    }],
    commands: &[Command {
        name: "sql_cacher:reload",
        old_names: &["sql_cacher_reload"],
        args: "id,[key]",
        help: "Read a table again, or one row of it",
        run: |call| Box::pin(reload(call)),
    }],
    open,
    live: Some(|kernel| {
        for entry in kernel.state::<Cacher>().entries.values().cloned() {
            kernel.every(entry.period, move |_| {
                let entry = entry.clone();
                async move {
                    if let Err(e) = entry.load().await {
                        tracing::error!("sql_cacher: {}: {e}; the rows of before stay", entry.id);
                    }
                }
            });
        }
    }),
    ..Module::EMPTY
};

struct Cacher {
    entries: BTreeMap<String, Arc<Entry>>,
    delimiter: char,
    columns_delimiter: char,
    bigint_to_text: bool,
    lists: Lists,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let delimiter = |name: &str| match o.text(name).as_str() {
        "\\n" => Ok('\n'),
        text => match (text.chars().next(), text.chars().count()) {
            (Some(one), 1) => Ok(one),
            _ => Err(format!("parameter `{name}`: \"{text}\" is not one character")),
        },
    };
    let (between, columns) = (delimiter("spec_delimiter")?, delimiter("columns_delimiter")?);
    let ahead = o.int("reload_interval").max(0);
    let full = Duration::from_secs(o.int("full_caching_expire").saturating_sub(ahead).max(1) as u64);
    let mut entries = BTreeMap::new();
    for text in o.all("cache_table") {
        let spec = Spec::read(&text, between, columns)?;
        let id = spec.id.clone();
        let store = o.store(spec.db_url.as_deref(), &[])?;
        let period = if spec.on_demand { spec.expire } else { full };
        let entry = Entry::new(spec, store, period, o.kernel.drivers.spawn.clone());
        block_on(entry.load()).map_err(|e| format!("cache_table `{id}`: {e}"))?;
        entries.insert(id, Arc::new(entry));
    }
    let state = Cacher {
        entries,
        delimiter: delimiter("pvar_delimiter")?,
        columns_delimiter: columns,
        bigint_to_text: o.on("bigint_to_str"),
        lists: Lists::default(),
    };
    o.provide(state);
    Ok(())
}

fn value(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let kernel = &ctx.shard.kernel;
    let cacher = kernel.state::<Cacher>();
    let name = kernel.registry.inner_name(var).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    let mut parts = name.splitn(3, cacher.delimiter);
    let (Some(id), Some(column), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        tracing::error!("$sql_cached_value({name}): write id{0}column{0}key", cacher.delimiter);
        return Value::Null;
    };
    let Some(entry) = cacher.entries.get(id.trim()) else {
        tracing::error!("$sql_cached_value({name}): there is no cache_table \"{id}\"");
        return Value::Null;
    };
    match entry.value(column.trim(), key) {
        Ok(cell) => cell.map_or(Value::Null, |cell| cacher.value(cell)),
        Err(e) => {
            tracing::error!("$sql_cached_value({name}): {e}");
            Value::Null
        }
    }
}

impl Cacher {
    fn value(&self, cell: SqlValue) -> Value {
        match cell {
            SqlValue::Null => Value::Null,
            SqlValue::Int(i) if self.bigint_to_text && i32::try_from(i).is_err() => Value::str(i.to_string()),
            SqlValue::Int(i) => Value::Int(i),
            SqlValue::Real(r) => Value::str(r.to_string()),
            SqlValue::Text(t) => Value::str(t),
            SqlValue::Blob(b) => Value::str(b),
        }
    }
}

/// No row is kept.
const EMPTY: Flow = Flow::Value(-2);

/// `sql_cache_dump(id, columns, "$avp(a);$avp(b)")`
fn dump(c: &mut Call<'_>) -> Flow {
    let shard = c.ctx.shard.clone();
    let cacher = shard.kernel.state::<Cacher>();
    let wrong = |e: String| {
        tracing::error!("sql_cache_dump(): {e}");
        FALSE
    };
    let (id, columns) = (c.text(0), c.text(1));
    let Some(entry) = cacher.entries.get(&id) else {
        return wrong(format!("there is no cache_table \"{id}\""));
    };
    let targets = match cacher.lists.get(&shard.kernel.registry, &c.str(2).cloned().unwrap_or_default()) {
        Ok(targets) => targets,
        Err(e) => return wrong(e),
    };
    let columns: Vec<&str> =
        columns.split(cacher.columns_delimiter).map(str::trim).filter(|c| !c.is_empty()).collect();
    if columns.len() != targets.len() {
        return wrong(format!("{} columns for {} variables", columns.len(), targets.len()));
    }
    let rows = match entry.all(&columns) {
        Ok(rows) => rows,
        Err(e) => return wrong(e),
    };
    if rows.is_empty() {
        return EMPTY;
    }
    // From the last to the first, so that the first row has index 0.
    for row in rows.into_iter().rev() {
        for (var, cell) in targets.iter().zip(row) {
            let value = match cell {
                SqlValue::Null => Value::from("<null>"),
                cell => cacher.value(cell),
            };
            if let Err(e) = c.ctx.push_var(var, value) {
                return wrong(e);
            }
        }
    }
    TRUE
}

async fn reload(call: CommandCall) -> CommandResult {
    let id = call.text("id").unwrap_or_default();
    let entries = &call.kernel.state::<Cacher>().entries;
    let Some(entry) = entries.get(&id).cloned() else {
        let known: Vec<_> = entries.keys().cloned().collect();
        let text = format!("there is no cache_table \"{id}\"; there are: {}", known.join(", "));
        return Err(CommandError::new(404, text));
    };
    let failed = |e: String| CommandError::new(500, e);
    let rows = match call.text("key") {
        Some(key) => entry.load_key(&key).await.map_err(failed)?,
        None => entry.load().await.map_err(failed)?,
    };
    Ok(json!({"rows": rows}))
}
