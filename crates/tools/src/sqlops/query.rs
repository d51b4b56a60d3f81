//! Raw statements, and where rows go.

use std::sync::Arc;

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::ports::store::{Query, Rows, SqlValue, StoreError};
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use super::{SqlOps, database};
use crate::variables::put;

/// No row came back.
const EMPTY: Flow = Flow::Value(-2);

/// `sql_query(statement[, "$avp(a);$avp(b)"][, number])`
pub(super) fn all(c: &mut Call<'_>) -> Flow {
    raw(c, false)
}

/// `sql_query_one(statement[, "$var(a);$var(b)"][, number])`
pub(super) fn one(c: &mut Call<'_>) -> Flow {
    raw(c, true)
}

fn raw(c: &mut Call<'_>, one: bool) -> Flow {
    let text = c.text(0);
    let query = Query::new(text.as_str(), Vec::new());
    if gives_rows(&text) {
        return fetch(c, query, (1, 2), one);
    }
    let Some(db) = database(c, 2) else { return FALSE };
    wait(db.execute(query), |_, done| executed(done))
}

/// What a statement without rows gives.
pub(super) fn executed(done: Result<u64, StoreError>) -> Flow {
    match done {
        Ok(_) => TRUE,
        Err(e) => failed(&e),
    }
}

fn failed(e: &StoreError) -> Flow {
    tracing::error!("sqlops: {e}");
    FALSE
}

/// Run a query; `list` and `number` are the places of the arguments with the variables and the database.
pub(super) fn fetch(c: &mut Call<'_>, query: Query, (list, number): (usize, usize), one: bool) -> Flow {
    let Some(db) = database(c, number) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let state = shard.kernel.state::<SqlOps>();
    let targets = match c.str(list) {
        None => Ok(None),
        Some(text) => state.lists.get(&shard.kernel.registry, text).map(Some),
    };
    let targets = match targets {
        Ok(targets) => targets,
        Err(e) => {
            tracing::error!("sqlops: {e}");
            return FALSE;
        }
    };
    let bigint_to_text = state.bigint_to_text;
    wait(db.fetch(query), move |ctx, rows| match rows {
        Ok(rows) if one => write_one(ctx, rows, targets, bigint_to_text),
        Ok(rows) => write_all(ctx, rows, targets, bigint_to_text),
        Err(e) => failed(&e),
    })
}

/// All rows are pushed from the last to the first, so the first one has index 0; NULL becomes the text `<null>`.
fn write_all(ctx: &mut Ctx, rows: Rows, targets: Option<Arc<[VarAccess]>>, bigint_to_text: bool) -> Flow {
    if rows.rows.is_empty() {
        return EMPTY;
    }
    let width = rows.rows.first().map_or(0, Vec::len);
    let Some(targets) = targets.map_or_else(|| numbered(ctx, width), Some) else { return FALSE };
    for row in rows.rows.into_iter().rev() {
        for (var, cell) in targets.iter().zip(row) {
            let value = match cell {
                SqlValue::Null => Value::from("<null>"),
                cell => value(cell, bigint_to_text),
            };
            if let Err(e) = ctx.push_var(var, value) {
                tracing::error!("sqlops: {e}");
                return FALSE;
            }
        }
    }
    TRUE
}

/// The first row, NULL as NULL; there must be a variable for each column.
fn write_one(ctx: &mut Ctx, rows: Rows, targets: Option<Arc<[VarAccess]>>, bigint_to_text: bool) -> Flow {
    let Some(row) = rows.rows.into_iter().next() else { return EMPTY };
    let Some(targets) = targets.map_or_else(|| numbered(ctx, row.len()), Some) else { return FALSE };
    if targets.len() < row.len() {
        tracing::error!("sqlops: {} columns for {} variables", row.len(), targets.len());
        return FALSE;
    }
    let mut done = true;
    for (var, cell) in targets.iter().zip(row) {
        done &= put(ctx, "sql_query_one", var, value(cell, bigint_to_text));
    }
    if done { TRUE } else { FALSE }
}

/// `$avp(1);$avp(2);...`
fn numbered(ctx: &mut Ctx, width: usize) -> Option<Arc<[VarAccess]>> {
    let list: Vec<String> = (1..=width).map(|i| format!("$avp({i})")).collect();
    let shard = ctx.shard.clone();
    let lists = &shard.kernel.state::<SqlOps>().lists;
    lists.get(&shard.kernel.registry, &Bytes::from(list.join(";"))).ok()
}

fn value(cell: SqlValue, bigint_to_text: bool) -> Value {
    match cell {
        SqlValue::Null => Value::Null,
        SqlValue::Int(i) if bigint_to_text && i32::try_from(i).is_err() => Value::str(i.to_string()),
        SqlValue::Int(i) => Value::Int(i),
        SqlValue::Real(r) => Value::str(r.to_string()),
        SqlValue::Text(t) => Value::str(t),
        SqlValue::Blob(b) => Value::str(b),
    }
}

/// Whether a statement is one that gives rows.
fn gives_rows(sql: &str) -> bool {
    let first: String =
        sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(').chars().take(9).collect();
    let first = first.to_ascii_lowercase();
    let word = first.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    ["select", "show", "with", "pragma", "explain", "describe", "desc", "call", "values", "exec", "table"]
        .contains(&word)
        || sql.to_ascii_lowercase().contains(" returning ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_give_rows_are_told_by_their_first_word() {
        for sql in ["select 1", "  (SELECT 1)", "SHOW TABLES", "WITH a AS (SELECT 1) SELECT", "select(1)"] {
            assert!(gives_rows(sql), "{sql}");
        }
        assert!(gives_rows("INSERT INTO t(a) VALUES (1) RETURNING id"));
        for sql in ["UPDATE t SET a=1", "insert into t values (1)", "DELETE FROM t", "", "selection"] {
            assert!(!gives_rows(sql), "{sql}");
        }
    }
}
