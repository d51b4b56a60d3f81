//! The standard tables of an OpenSIPS database: declared once, created, checked and brought up to date.
//!
//! A database made by OpenSIPS's own tool has the same names and the same `version` rows and is used as it is. Tables and
//! columns that are not declared here are left alone; nothing is ever dropped.

mod ddl;
mod tables;

use std::collections::HashMap;

use switchroom_kernel::ports::store::{Dialect, Query, SqlValue, Store, StoreError};

pub use ddl::create;
pub use tables::TABLES;

/// A standard table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// `table_version` in the table `version`; `None` for `version` itself.
    pub version: Option<u32>,
    /// Columns in order; the first one is the primary key, unless its kind says otherwise.
    pub columns: &'static [Column],
    /// Further keys and indexes.
    pub indexes: &'static [Index],
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it may be NULL.
    pub null: bool,
    /// Value when none is given.
    pub default: Option<Literal>,
}

/// Types that every dialect has under some name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Primary key that the database counts up.
    Serial,
    /// 64-bit primary key given by the program.
    BigKey,
    /// 32-bit integer.
    Int,
    /// 64-bit integer.
    BigInt,
    /// Octets.
    Blob,
    /// Integer of at most 16 bits.
    SmallInt,
    /// Decimal number with two digits behind the point.
    Real,
    /// Text of at most that many characters.
    Text(u16),
    /// Text without a useful bound.
    LongText,
    /// Date and time, UTC, as `YYYY-MM-DD HH:MM:SS`.
    DateTime,
}

/// A default value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Literal {
    /// Text, or a date and time.
    Text(&'static str),
    /// A whole number.
    Int(i64),
    /// A decimal number.
    Real(f64),
}

/// A key or index.
#[derive(Clone, Copy, Debug)]
pub struct Index {
    /// Its name; the table's name is put in front.
    pub name: &'static str,
    /// Whether two rows may not share the values.
    pub unique: bool,
    /// Columns in order.
    pub columns: &'static [&'static str],
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not there.
    #[error("table `{0}` does not exist in this database; create it with `switchroom db init`")]
    Missing(String),
    /// It is older than what the program reads.
    #[error(
        "table `{table}` has version {found}, {expected} is needed; bring it up to date with `switchroom db migrate`"
    )]
    Old {
        /// Its name.
        table: String,
        /// Version found.
        found: i64,
        /// Version needed.
        expected: u32,
    },
    /// It is newer than what the program knows.
    #[error("table `{table}` has version {found}, which is newer than the {expected} this program knows")]
    New {
        /// Its name.
        table: String,
        /// Version found.
        found: i64,
        /// Version needed.
        expected: u32,
    },
    /// No such standard table.
    #[error("`{0}` is not a standard table")]
    Unknown(String),
}

/// The declaration of a standard table.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|t| t.name == name)
}

/// Creates every standard table that is not there yet. Gives the names of those it made.
pub async fn create_all(store: &dyn Store) -> Result<Vec<&'static str>, SchemaError> {
    let mut made = Vec::new();
    for table in TABLES {
        if columns(store, table.name).await?.is_empty() {
            make(store, table).await?;
            made.push(table.name);
        }
    }
    Ok(made)
}

/// Checks the row of the table `version`.
pub async fn check_version(store: &dyn Store, table: &str, expected: u32) -> Result<(), SchemaError> {
    let found = versions(store).await?.get(table).copied();
    let table = table.to_owned();
    match found {
        None => Err(SchemaError::Missing(table)),
        Some(found) if found < i64::from(expected) => Err(SchemaError::Old { table, found, expected }),
        Some(found) if found > i64::from(expected) => Err(SchemaError::New { table, found, expected }),
        Some(_) => Ok(()),
    }
}

/// Creates what is missing and adds columns that newer versions have. Gives one line per change.
///
/// Columns that a newer version has dropped stay; they have defaults and harm nobody.
pub async fn migrate(store: &dyn Store) -> Result<Vec<String>, SchemaError> {
    let mut changes: Vec<String> =
        create_all(store).await?.into_iter().map(|t| format!("table {t} created")).collect();
    let versions = versions(store).await?;
    for table in TABLES {
        let Some(wanted) = table.version else { continue };
        let found = versions.get(table.name).copied();
        if let Some(found) = found.filter(|found| *found > i64::from(wanted)) {
            return Err(SchemaError::New { table: table.name.to_owned(), found, expected: wanted });
        }
        if found == Some(i64::from(wanted)) {
            continue;
        }
        let present = columns(store, table.name).await?;
        let mut statements = Vec::new();
        for column in table.columns.iter().filter(|c| !present.iter().any(|p| p.eq_ignore_ascii_case(c.name)))
        {
            statements.push(Query::new(ddl::add_column(table, column, store.dialect()), Vec::new()));
            changes.push(format!("column {}.{} added", table.name, column.name));
        }
        statements.extend(version_row(table.name, wanted));
        store.batch(statements).await?;
        changes.push(match found {
            Some(found) => format!("table {}: version {found} became {wanted}", table.name),
            None => format!("table {}: version {wanted} noted", table.name),
        });
    }
    Ok(changes)
}

async fn make(store: &dyn Store, table: &Table) -> Result<(), SchemaError> {
    let mut statements: Vec<Query> =
        ddl::create(table, store.dialect()).into_iter().map(|sql| Query::new(sql, Vec::new())).collect();
    if let Some(version) = table.version {
        statements.extend(version_row(table.name, version));
    }
    Ok(store.batch(statements).await?)
}

/// Deleted and written anew, since not every existing `version` table has a unique key.
fn version_row(table: &str, version: u32) -> [Query; 2] {
    [
        Query::new("DELETE FROM version WHERE table_name = ?", vec![table.into()]),
        Query::new(
            "INSERT INTO version (table_name, table_version) VALUES (?, ?)",
            vec![table.into(), SqlValue::Int(i64::from(version))],
        ),
    ]
}

async fn versions(store: &dyn Store) -> Result<HashMap<String, i64>, SchemaError> {
    if columns(store, "version").await?.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = store.fetch(Query::new("SELECT table_name, table_version FROM version", Vec::new())).await?;
    Ok(rows.rows.iter().filter_map(|row| Some((row.first()?.to_text()?, row.get(1)?.to_int()?))).collect())
}

/// Names of a table's columns; none when there is no such table.
async fn columns(store: &dyn Store, table: &str) -> Result<Vec<String>, SchemaError> {
    let sql = match store.dialect() {
        Dialect::Sqlite => "SELECT name FROM pragma_table_info(?)",
        Dialect::Postgres => {
            "SELECT column_name FROM information_schema.columns WHERE table_name = ? AND table_schema = current_schema()"
        }
        Dialect::Mysql => {
            "SELECT column_name FROM information_schema.columns WHERE table_name = ? AND table_schema = database()"
        }
    };
    let rows = store.fetch(Query::new(sql, vec![table.into()])).await?;
    Ok(rows.rows.iter().filter_map(|row| row.first()?.to_text()).collect())
}
