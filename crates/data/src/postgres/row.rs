//! Rows and errors between PostgreSQL and the store port. All values come as text.

use sqlx::postgres::PgRow;
use sqlx::{Column, Row, TypeInfo, ValueRef};
use switchroom_kernel::ports::store::{Rows, SqlValue, StoreError};

/// All rows of an answer. Column names are those of the first row, so an empty answer has none.
pub fn rows(found: &[PgRow]) -> Result<Rows, StoreError> {
    let columns = match found.first() {
        Some(first) => first.columns().iter().map(|c| c.name().to_owned()).collect(),
        None => Vec::new(),
    };
    let rows = found.iter().map(|row| (0..row.len()).map(|i| value(row, i)).collect());
    Ok(Rows { columns, rows: rows.collect::<Result<_, _>>().map_err(|e| error(&e))? })
}

fn value(row: &PgRow, index: usize) -> Result<SqlValue, sqlx::Error> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(SqlValue::Null);
    }
    let text = raw.as_bytes().map_err(sqlx::Error::Decode)?;
    let text = String::from_utf8_lossy(text).into_owned();
    Ok(typed(raw.type_info().name(), text))
}

/// The value of a text by the column's type.
fn typed(kind: &str, text: String) -> SqlValue {
    match kind {
        "BOOL" => SqlValue::Int(i64::from(text == "t")),
        "INT2" | "INT4" | "INT8" | "OID" => text.parse().map_or(SqlValue::Text(text), SqlValue::Int),
        "NUMERIC" | "FLOAT4" | "FLOAT8" => match text.parse() {
            Ok(whole) => SqlValue::Int(whole),
            Err(_) => text.parse().map_or(SqlValue::Text(text), SqlValue::Real),
        },
        // Filled up with blanks that do not belong to the value.
        "CHAR" => SqlValue::Text(text.trim_end_matches(' ').to_owned()),
        // Without fractions of seconds and zone, which is UTC.
        "TIMESTAMP" | "TIMESTAMPTZ" => {
            let seconds = text.get(..19).map(str::to_owned);
            SqlValue::Text(seconds.unwrap_or(text))
        }
        "BYTEA" => bytes(&text).map_or(SqlValue::Text(text), SqlValue::Blob),
        _ => SqlValue::Text(text),
    }
}

/// `\x` and two digits for each byte.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let digit = |b: u8| char::from(b).to_digit(16);
    digits.chunks(2).map(|two| Some((digit(two[0])? * 16 + digit(*two.get(1)?)?) as u8)).collect()
}

/// Sorts an error by what a caller can do about it.
pub fn error(error: &sqlx::Error) -> StoreError {
    let text = error.to_string();
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => StoreError::Unreachable(text),
            sqlx::Error::Configuration(_) => StoreError::Url(text),
            _ => StoreError::Statement(text),
        };
    };
    let code = database.code().unwrap_or_default();
    match &*code {
        // Wrong user or password, no such database.
        "28000" | "28P01" | "3D000" => StoreError::Url(text),
        // Deadlock, serialisation, lock not to be had, cancelled.
        "40001" | "40P01" | "55P03" | "57014" => StoreError::Busy(text),
        // Shutting down, crashed, starting, too many connections.
        "57P01" | "57P02" | "57P03" | "53300" => StoreError::Unreachable(text),
        _ if code.starts_with("08") => StoreError::Unreachable(text),
        _ if code.starts_with("23") => StoreError::Constraint(text),
        _ => StoreError::Statement(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_type_of_their_column() {
        let text = |t: &str| SqlValue::Text(t.to_owned());
        for (kind, given, expected) in [
            ("BOOL", "t", SqlValue::Int(1)),
            ("INT8", "-5", SqlValue::Int(-5)),
            ("NUMERIC", "7", SqlValue::Int(7)),
            ("NUMERIC", "0.50", SqlValue::Real(0.5)),
            ("CHAR", "ab   ", text("ab")),
            ("VARCHAR", "ab  ", text("ab  ")),
            ("TIMESTAMP", "2026-11-21 16:05:09.123", text("2026-11-21 16:05:09")),
            ("TIMESTAMPTZ", "2026-11-21 16:05:09+00", text("2026-11-21 16:05:09")),
            ("DATE", "2026-11-21", text("2026-11-21")),
            ("BYTEA", "\\x00ff", SqlValue::Blob(vec![0, 255])),
        ] {
            assert_eq!(typed(kind, given.to_owned()), expected, "{kind} {given}");
        }
    }
}
