//! Statements from JSON: columns, filters and values are checked and given to the database as arguments.

use serde_json::Value as Json;
use switchroom_kernel::context::{Call, FALSE, Flow, wait};
use switchroom_kernel::ports::store::{Dialect, Query, SqlValue};

use super::database;
use super::query::{executed, fetch};
use crate::sql::is_name;

/// `sql_select([columns], table, [filter], [order], [variables], [number])`
pub(super) fn select(c: &mut Call<'_>) -> Flow {
    rows(c, false)
}

/// `sql_select_one([columns], table, [filter], [order], variables, [number])`
pub(super) fn select_one(c: &mut Call<'_>) -> Flow {
    rows(c, true)
}

fn rows(c: &mut Call<'_>, one: bool) -> Flow {
    let given = |i: usize| c.has(i).then(|| c.text(i));
    match select_statement(given(0).as_deref(), &c.text(1), given(2).as_deref(), given(3).as_deref()) {
        Ok(query) => fetch(c, query, (4, 5), one),
        Err(e) => refused(&e),
    }
}

/// `sql_update(values, table, [filter], [number])`
pub(super) fn update(c: &mut Call<'_>) -> Flow {
    let filter = c.has(2).then(|| c.text(2));
    run(c, 3, update_statement(&c.text(0), &c.text(1), filter.as_deref()))
}

/// `sql_insert(table, values, [number])`
pub(super) fn insert(c: &mut Call<'_>) -> Flow {
    run(c, 2, insert_statement("INSERT", &c.text(0), &c.text(1)))
}

/// `sql_replace(table, values, [number])`
pub(super) fn replace(c: &mut Call<'_>) -> Flow {
    let Some(db) = database(c, 2) else { return FALSE };
    if db.dialect() == Dialect::Postgres {
        return refused("this database has no REPLACE");
    }
    run(c, 2, insert_statement("REPLACE", &c.text(0), &c.text(1)))
}

/// `sql_delete(table, [filter], [number])`
pub(super) fn delete(c: &mut Call<'_>) -> Flow {
    let filter = c.has(1).then(|| c.text(1));
    run(c, 2, delete_statement(&c.text(0), filter.as_deref()))
}

fn run(c: &mut Call<'_>, number: usize, query: Result<Query, String>) -> Flow {
    let Some(db) = database(c, number) else { return FALSE };
    match query {
        Ok(query) => wait(db.execute(query), |_, done| executed(done)),
        Err(e) => refused(&e),
    }
}

fn refused(e: &str) -> Flow {
    tracing::error!("sqlops: {e}");
    FALSE
}

fn select_statement(
    columns: Option<&str>,
    table: &str,
    filter: Option<&str>,
    order: Option<&str>,
) -> Result<Query, String> {
    let columns = match columns {
        None => "*".to_owned(),
        Some(text) => {
            let names = list(text)?;
            let names: Result<Vec<&str>, String> =
                names.iter().map(|n| name(n.as_str().unwrap_or_default())).collect();
            names?.join(", ")
        }
    };
    let mut args = Vec::new();
    let mut sql = format!("SELECT {columns} FROM {}", name(table)?);
    push_filter(&mut sql, &mut args, filter)?;
    if let Some(order) = order {
        sql.push_str(" ORDER BY ");
        sql.push_str(name(order.trim())?);
    }
    Ok(Query::new(sql, args))
}

fn update_statement(values: &str, table: &str, filter: Option<&str>) -> Result<Query, String> {
    let mut args = Vec::new();
    let mut sets = Vec::new();
    for (column, value) in pairs(values)? {
        sets.push(format!("{} = ?", name(&column)?));
        args.push(argument(&value)?);
    }
    let mut sql = format!("UPDATE {} SET {}", name(table)?, sets.join(", "));
    push_filter(&mut sql, &mut args, filter)?;
    Ok(Query::new(sql, args))
}

fn insert_statement(verb: &str, table: &str, values: &str) -> Result<Query, String> {
    let mut args = Vec::new();
    let mut columns = Vec::new();
    for (column, value) in pairs(values)? {
        columns.push(name(&column)?.to_owned());
        args.push(argument(&value)?);
    }
    let marks = vec!["?"; columns.len()].join(", ");
    let sql = format!("{verb} INTO {} ({}) VALUES ({marks})", name(table)?, columns.join(", "));
    Ok(Query::new(sql, args))
}

fn delete_statement(table: &str, filter: Option<&str>) -> Result<Query, String> {
    let mut args = Vec::new();
    let mut sql = format!("DELETE FROM {}", name(table)?);
    push_filter(&mut sql, &mut args, filter)?;
    Ok(Query::new(sql, args))
}

/// `[{"column":"value"}, {"column":{"operator":"value"}}]`, all joined by AND.
fn push_filter(sql: &mut String, args: &mut Vec<SqlValue>, filter: Option<&str>) -> Result<(), String> {
    let Some(filter) = filter.filter(|f| !f.trim().is_empty()) else { return Ok(()) };
    let mut word = " WHERE ";
    for (column, test) in pairs(filter)? {
        let column = name(&column)?;
        let tests = match test {
            Json::Object(tests) => tests.into_iter().collect(),
            value => vec![("=".to_owned(), value)],
        };
        for (operator, value) in tests {
            sql.push_str(word);
            word = " AND ";
            sql.push_str(column);
            let operator = operator.trim().to_ascii_uppercase();
            match (operator.as_str(), &value) {
                ("=", Json::Null) => sql.push_str(" IS NULL"),
                ("!=" | "<>", Json::Null) => sql.push_str(" IS NOT NULL"),
                ("=" | "!=" | "<>" | "<" | ">" | "<=" | ">=" | "LIKE" | "NOT LIKE", value) => {
                    sql.push_str(&format!(" {operator} ?"));
                    args.push(argument(value)?);
                }
                _ => return Err(format!("\"{operator}\" is no operator (=, !=, <, >, <=, >=, LIKE)")),
            }
        }
    }
    Ok(())
}

fn list(text: &str) -> Result<Vec<Json>, String> {
    match serde_json::from_str(text) {
        Ok(Json::Array(list)) if !list.is_empty() => Ok(list),
        Ok(_) => Err(format!("{text} is no list with something in it")),
        Err(e) => Err(format!("{text}: {e}")),
    }
}

fn pairs(text: &str) -> Result<Vec<(String, Json)>, String> {
    let mut pairs = Vec::new();
    for item in list(text)? {
        match item {
            Json::Object(fields) => pairs.extend(fields),
            other => return Err(format!("{other} should look like {{\"column\":\"value\"}}")),
        }
    }
    if pairs.is_empty() { Err(format!("{text} names no column")) } else { Ok(pairs) }
}

fn name(text: &str) -> Result<&str, String> {
    if is_name(text) { Ok(text) } else { Err(format!("\"{text}\" is no column or table name")) }
}

fn argument(value: &Json) -> Result<SqlValue, String> {
    Ok(match value {
        Json::Null => SqlValue::Null,
        Json::Bool(b) => SqlValue::Int(i64::from(*b)),
        Json::String(s) => SqlValue::Text(s.clone()),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => SqlValue::Int(i),
            (None, Some(r)) => SqlValue::Real(r),
            (None, None) => return Err(format!("{n} is too large")),
        },
        other => return Err(format!("{other} is no value of a column")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(query: Result<Query, String>) -> String {
        query.map_or_else(|e| e, |q| format!("{} {:?}", q.sql, q.args))
    }

    #[test]
    fn filters_become_arguments() {
        let filter = r#"[{"username":"a'b"},{"domain":{"!=":null}},{"n":{">":2}}]"#;
        let query = select_statement(Some(r#"["password","ha1"]"#), "subscriber", Some(filter), Some("id"));
        assert_eq!(
            text(query),
            "SELECT password, ha1 FROM subscriber WHERE username = ? AND domain IS NOT NULL AND n > ? ORDER BY id \
             [Text(\"a'b\"), Int(2)]"
        );
        assert_eq!(text(select_statement(None, "t", None, None)), "SELECT * FROM t []");
    }

    #[test]
    fn values_become_arguments() {
        let values = r#"[{"a":"x"},{"b":null},{"c":2}]"#;
        assert_eq!(
            text(insert_statement("INSERT", "t", values)),
            "INSERT INTO t (a, b, c) VALUES (?, ?, ?) [Text(\"x\"), Null, Int(2)]"
        );
        assert_eq!(
            text(update_statement(r#"[{"a":1}]"#, "t", Some(r#"[{"b":"y"}]"#))),
            "UPDATE t SET a = ? WHERE b = ? [Int(1), Text(\"y\")]"
        );
        assert_eq!(text(delete_statement("t", None)), "DELETE FROM t []");
    }

    #[test]
    fn names_and_operators_are_checked() {
        for filter in
            [r#"[{"a; --":1}]"#, r#"[{"a":{"; DROP":1}}]"#, r#"{"a":1}"#, "[]", "[{}]", r#"[{"a":[1]}]"#]
        {
            assert!(delete_statement("t", Some(filter)).is_err(), "{filter}");
        }
        assert!(delete_statement("t t", None).is_err());
        assert!(select_statement(Some("[1]"), "t", None, None).is_err());
        assert!(select_statement(None, "t", None, Some("a desc; x")).is_err());
    }
}
