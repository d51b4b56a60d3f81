//! Groups by expression: a table of regular expressions with the number of the group whose members' URIs they match. The
//! table is kept in memory with its expressions compiled.

use std::sync::Arc;

use parking_lot::RwLock;
use regex::bytes::Regex;
use serde_json::json;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{CommandCall, CommandError, CommandResult};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::store::{Query, Rows, SqlValue, Store, StoreError};
use switchroom_script::Value;
use switchroom_script::vm::posix_regex_with;

use super::{Group, whom};
use crate::sql::{column, is_name};

/// So many expressions are read; a table with more is a mistake.
const MAX_RULES: usize = 100_000;

/// The table.
pub(super) struct Expressions {
    store: Arc<dyn Store>,
    table: String,
    select: Arc<str>,
    /// All groups that match, not only the first.
    many: bool,
    rules: RwLock<Arc<[(Regex, i64)]>>,
}

impl Expressions {
    /// From `re_table`; `None` when it is not set.
    pub fn open(o: &mut Opening<'_>) -> Result<Option<Expressions>, String> {
        let Some(table) = o.str("re_table").filter(|t| !t.is_empty()) else {
            if o.kernel.registry.is_called("db_get_user_group") {
                return Err("db_get_user_group() needs the parameter `re_table`, usually \"re_grp\"".into());
            }
            return Ok(None);
        };
        if !is_name(&table) {
            return Err(format!("parameter `re_table`: \"{table}\" is no table name"));
        }
        let (expression, group) = (column(o, "re_exp_column")?, column(o, "re_gid_column")?);
        let expressions = Expressions {
            store: o.store(o.str("db_url").as_deref(), &[(table.as_str(), 2)])?,
            select: format!("SELECT {expression}, {group} FROM {table} ORDER BY id").into(),
            table,
            many: o.on("multiple_gid"),
            rules: RwLock::new(Arc::from([])),
        };
        let count = block_on(expressions.reload());
        count.map_err(|e| format!("table `{}`: {e}", expressions.table))?;
        Ok(Some(expressions))
    }

    /// Read the table again; how many expressions there are.
    async fn reload(&self) -> Result<usize, StoreError> {
        let rows = self.store.fetch(Query::new(self.select.clone(), Vec::new())).await?;
        let rules = compile(&self.table, rows);
        let count = rules.len();
        *self.rules.write() = rules.into();
        Ok(count)
    }

    /// Groups of a URI.
    fn groups(&self, uri: &[u8]) -> Vec<i64> {
        let rules = self.rules.read().clone();
        let fits = rules.iter().filter(|(expression, _)| expression.is_match(uri)).map(|(_, group)| *group);
        fits.take(if self.many { usize::MAX } else { 1 }).collect()
    }
}

/// A broken row is told and left out.
fn compile(table: &str, rows: Rows) -> Vec<(Regex, i64)> {
    let mut rules = Vec::with_capacity(rows.rows.len().min(MAX_RULES));
    for row in rows.rows.into_iter().take(MAX_RULES) {
        let text = row.first().and_then(SqlValue::to_text).unwrap_or_default();
        let Some(group) = row.get(1).and_then(SqlValue::to_int) else {
            tracing::error!("table `{table}`: the group of \"{text}\" is no number; the row is left out");
            continue;
        };
        let built = posix_regex_with(text.as_bytes(), true, true);
        match built {
            Ok(expression) => rules.push((expression, group)),
            Err(e) => tracing::error!("table `{table}`: \"{text}\" is left out: {e}"),
        }
    }
    rules
}

/// `db_get_user_group(user, variable)`
pub(super) fn get_user_group(c: &mut Call<'_>) -> Flow {
    let Some((user, domain)) = whom(c) else {
        tracing::error!("db_get_user_group(): \"{}\" names no user", c.text(0));
        return FALSE;
    };
    let Some(var) = c.var(1) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let Some(expressions) = &shard.kernel.state::<Group>().expressions else { return FALSE };
    let groups = expressions.groups(format!("sip:{user}@{domain}").as_bytes());
    if groups.is_empty() {
        return FALSE;
    }
    // The value that is pushed last is read first.
    for group in groups.into_iter().rev() {
        if let Err(e) = c.ctx.push_var(&var, Value::Int(group)) {
            tracing::error!("db_get_user_group(): {e}");
            return FALSE;
        }
    }
    TRUE
}

/// `group:reload`
pub(super) async fn reload(call: CommandCall) -> CommandResult {
    let Some(expressions) = &call.kernel.state::<Group>().expressions else {
        return Err(CommandError::new(400, "`re_table` is not set, so there is nothing to read"));
    };
    match expressions.reload().await {
        Ok(count) => Ok(json!({"expressions": count})),
        Err(e) => Err(CommandError::new(500, e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_row_does_not_spoil_the_others() {
        let row = |e: &str, g: i64| vec![SqlValue::from(e), SqlValue::Int(g)];
        let rows =
            Rows { columns: Vec::new(), rows: vec![row("^sip:1", 1), row("(", 2), row("@A\\.ORG$", 3)] };
        let rules = compile("re_grp", rows);
        let fits = |uri: &str| {
            let all = rules.iter().filter(|(e, _)| e.is_match(uri.as_bytes()));
            all.map(|(_, g)| *g).collect::<Vec<_>>()
        };
        assert_eq!(fits("sip:1@a.org"), [1, 3]);
        assert_eq!(fits("sip:2@b.org"), [0i64; 0]);
    }
}
