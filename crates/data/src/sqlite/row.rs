//! Values, rows and errors between SQLite and the store port.

use std::sync::Arc;

use sqlx::query::Query as SqlxQuery;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Row, TypeInfo, ValueRef};
use switchroom_kernel::ports::store::{Query, Rows, SqlValue, StoreError};

/// A statement with its values, prepared once per connection and text.
pub fn bind(query: Query) -> SqlxQuery<'static, Sqlite, SqliteArguments> {
    // The text comes from a module or from the script, as the port has it; values never stand in it.
    let mut bound = sqlx::query(AssertSqlSafe::<Arc<str>>(query.sql));
    for value in query.args {
        bound = match value {
            SqlValue::Null => bound.bind(None::<i64>),
            SqlValue::Int(i) => bound.bind(i),
            SqlValue::Real(r) => bound.bind(r),
            SqlValue::Text(t) => bound.bind(t),
            SqlValue::Blob(b) => bound.bind(b),
        };
    }
    bound
}

/// All rows of an answer. Column names are those of the first row, so an empty answer has none.
pub fn rows(found: &[SqliteRow]) -> Result<Rows, StoreError> {
    let columns = match found.first() {
        Some(first) => first.columns().iter().map(|c| c.name().to_owned()).collect(),
        None => Vec::new(),
    };
    let rows = found.iter().map(|row| (0..row.len()).map(|i| value(row, i)).collect());
    Ok(Rows { columns, rows: rows.collect::<Result<_, _>>().map_err(|e| error(&e))? })
}

/// By the type that the value has, which in SQLite need not be the column's.
fn value(row: &SqliteRow, index: usize) -> Result<SqlValue, sqlx::Error> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(SqlValue::Null);
    }
    let kind = raw.type_info();
    Ok(match kind.name() {
        "INTEGER" => SqlValue::Int(row.try_get_unchecked(index)?),
        "REAL" => SqlValue::Real(row.try_get_unchecked(index)?),
        "BLOB" => SqlValue::Blob(row.try_get_unchecked(index)?),
        _ => {
            let bytes: Vec<u8> = row.try_get_unchecked(index)?;
            SqlValue::Text(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
            })
        }
    })
}

/// Sorts an error by what a caller can do about it.
pub fn error(error: &sqlx::Error) -> StoreError {
    let text = error.to_string();
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => StoreError::Unreachable(text),
            _ => StoreError::Statement(text),
        };
    };
    // The low byte is the primary result code.
    let code = database.code().and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xff);
    match code {
        // BUSY, LOCKED
        Some(5 | 6) => StoreError::Busy(text),
        // CONSTRAINT
        Some(19) => StoreError::Constraint(text),
        // READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB
        Some(8 | 10 | 11 | 13 | 14 | 26) => StoreError::Unreachable(text),
        _ => StoreError::Statement(text),
    }
}
