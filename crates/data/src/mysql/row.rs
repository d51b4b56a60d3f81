//! Values, rows and errors between MySQL and the store port.

use std::sync::Arc;

use sqlx::mysql::{MySql, MySqlArguments, MySqlDatabaseError, MySqlRow};
use sqlx::query::Query as SqlxQuery;
use sqlx::{AssertSqlSafe, Column, Row, TypeInfo, ValueRef};
use switchroom_kernel::ports::store::{Query, Rows, SqlValue, StoreError};

/// A statement with its values, prepared once for each connection and text.
pub fn bind(query: &Query) -> SqlxQuery<'_, MySql, MySqlArguments> {
    // The text comes from a module or from the script, as the port has it; values never stand in it.
    let mut bound = sqlx::query(AssertSqlSafe::<Arc<str>>(query.sql.clone()));
    for value in &query.args {
        bound = match value {
            SqlValue::Null => bound.bind(None::<i64>),
            SqlValue::Int(i) => bound.bind(*i),
            SqlValue::Real(r) => bound.bind(*r),
            SqlValue::Text(t) => bound.bind(t.as_str()),
            SqlValue::Blob(b) => bound.bind(b.as_slice()),
        };
    }
    bound
}

/// All rows of an answer. Column names are those of the first row, so an empty answer has none. `text` says that the
/// statement was not a prepared one, whose values come as text.
pub fn rows(found: &[MySqlRow], text: bool) -> Result<Rows, StoreError> {
    let columns = match found.first() {
        Some(first) => first.columns().iter().map(|c| c.name().to_owned()).collect(),
        None => Vec::new(),
    };
    let rows = found.iter().map(|row| (0..row.len()).map(|i| value(row, i, text)).collect());
    Ok(Rows { columns, rows: rows.collect::<Result<_, _>>().map_err(|e| error(&e))? })
}

fn value(row: &MySqlRow, index: usize, text: bool) -> Result<SqlValue, sqlx::Error> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(SqlValue::Null);
    }
    let info = raw.type_info().into_owned();
    let bytes = || row.try_get_unchecked::<&[u8], _>(index);
    Ok(match info.name() {
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
            SqlValue::Int(row.try_get_unchecked(index)?)
        }
        "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED" | "INT UNSIGNED"
        | "BIGINT UNSIGNED" => {
            let number: u64 = row.try_get_unchecked(index)?;
            i64::try_from(number).map_or_else(|_| SqlValue::Text(number.to_string()), SqlValue::Int)
        }
        "YEAR" if text => number(bytes()?),
        "YEAR" => SqlValue::Int(little_endian(bytes()?)),
        // The first byte is the highest.
        "BIT" => SqlValue::Int(bytes()?.iter().fold(0, |bits, byte| (bits << 8) | i64::from(*byte))),
        "DECIMAL" => number(bytes()?),
        "FLOAT" | "DOUBLE" if text => number(bytes()?),
        // By way of its digits, so that 0.1 stays 0.1.
        "FLOAT" => number(row.try_get_unchecked::<f32, _>(index)?.to_string().as_bytes()),
        "DOUBLE" => SqlValue::Real(row.try_get_unchecked(index)?),
        "DATE" | "DATETIME" | "TIMESTAMP" if !text => SqlValue::Text(moment(bytes()?, info.name())),
        "TIME" if !text => SqlValue::Text(duration(bytes()?)),
        "BINARY" | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" | "GEOMETRY" => {
            SqlValue::Blob(bytes()?.to_vec())
        }
        _ => SqlValue::Text(String::from_utf8_lossy(bytes()?).into_owned()),
    })
}

/// A number in digits: whole where it has nothing behind the point.
fn number(digits: &[u8]) -> SqlValue {
    let digits = String::from_utf8_lossy(digits);
    if let Ok(whole) = digits.parse() {
        return SqlValue::Int(whole);
    }
    digits.parse().map_or_else(|_| SqlValue::Text(digits.into_owned()), SqlValue::Real)
}

fn little_endian(bytes: &[u8]) -> i64 {
    bytes.iter().rev().take(8).fold(0, |number, byte| (number << 8) | i64::from(*byte))
}

/// Date and time of the binary protocol: a length, then year (two bytes), month, day, hour, minute, second; what is zero
/// at the end is left out.
fn moment(bytes: &[u8], kind: &str) -> String {
    let field = |i: usize| bytes.get(1..).and_then(|b| b.get(i)).copied().unwrap_or(0);
    let year = u16::from_le_bytes([field(0), field(1)]);
    let date = format!("{year:04}-{:02}-{:02}", field(2), field(3));
    match kind {
        "DATE" => date,
        _ => format!("{date} {:02}:{:02}:{:02}", field(4), field(5), field(6)),
    }
}

/// A time of the binary protocol: a length, a sign, days (four bytes), hours, minutes, seconds.
fn duration(bytes: &[u8]) -> String {
    let field = |i: usize| bytes.get(1..).and_then(|b| b.get(i)).copied().unwrap_or(0);
    let days = u32::from_le_bytes([field(1), field(2), field(3), field(4)]);
    let sign = if field(0) == 0 { "" } else { "-" };
    let hours = u64::from(days) * 24 + u64::from(field(5));
    format!("{sign}{hours:02}:{:02}:{:02}", field(6), field(7))
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
    let number = database.try_downcast_ref::<MySqlDatabaseError>().map_or(0, |e| e.number());
    match number {
        // Access denied to the database, for the user, by plugin; no such database.
        1044 | 1045 | 1698 | 1049 => StoreError::Url(text),
        // Too many connections, server shutdown, host blocked or not allowed, killed.
        1040 | 1053 | 1129 | 1130 | 1203 | 1927 => StoreError::Unreachable(text),
        // Lock wait timeout, deadlock, statement timeout.
        1205 | 1213 | 1969 | 3024 => StoreError::Busy(text),
        // Duplicate key, NOT NULL, foreign keys, CHECK.
        1062 | 1048 | 1216 | 1217 | 1364 | 1451 | 1452 | 1586 | 3819 | 4025 => StoreError::Constraint(text),
        _ => StoreError::Statement(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_binary_protocol_are_written_out() {
        assert_eq!(moment(&[7, 0xea, 7, 11, 21, 16, 5, 9], "DATETIME"), "2026-11-21 16:05:09");
        assert_eq!(moment(&[4, 0xea, 7, 11, 21], "TIMESTAMP"), "2026-11-21 00:00:00");
        assert_eq!(moment(&[4, 0xea, 7, 11, 21], "DATE"), "2026-11-21");
        assert_eq!(moment(&[0], "DATETIME"), "0000-00-00 00:00:00");
        assert_eq!(duration(&[8, 1, 1, 0, 0, 0, 2, 3, 4]), "-26:03:04");
        assert_eq!(duration(&[0]), "00:00:00");
    }

    #[test]
    fn decimals_are_whole_where_they_can_be() {
        assert_eq!(number(b"12"), SqlValue::Int(12));
        assert_eq!(number(b"0.50"), SqlValue::Real(0.5));
    }
}
