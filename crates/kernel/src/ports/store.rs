//! The Store port: SQL databases behind one trait.
//!
//! Modules write portable SQL with `?` placeholders through the builders below; a driver (crate `data`) renders what
//! its dialect needs. Every call is awaitable and never blocks the caller.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::net::BoxFuture;

/// A value in a statement or row.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum SqlValue {
    /// SQL NULL.
    #[default]
    Null,
    /// Any integer column.
    Int(i64),
    /// Floating point column.
    Real(f64),
    /// Text; dates and times as `YYYY-MM-DD HH:MM:SS`.
    Text(String),
    /// Binary column.
    Blob(Vec<u8>),
}

impl SqlValue {
    /// Text of the value; `None` for NULL. Numbers are printed in decimal.
    pub fn to_text(&self) -> Option<String> {
        match self {
            SqlValue::Null => None,
            SqlValue::Int(i) => Some(i.to_string()),
            SqlValue::Real(r) => Some(r.to_string()),
            SqlValue::Text(t) => Some(t.clone()),
            SqlValue::Blob(b) => Some(String::from_utf8_lossy(b).into_owned()),
        }
    }

    /// Integer value; text is parsed.
    pub fn to_int(&self) -> Option<i64> {
        match self {
            SqlValue::Int(i) => Some(*i),
            SqlValue::Real(r) => Some(*r as i64),
            SqlValue::Text(t) => t.trim().parse().ok(),
            SqlValue::Null | SqlValue::Blob(_) => None,
        }
    }
}

impl From<i64> for SqlValue {
    fn from(i: i64) -> Self {
        SqlValue::Int(i)
    }
}
impl From<&str> for SqlValue {
    fn from(s: &str) -> Self {
        SqlValue::Text(s.to_owned())
    }
}
impl From<String> for SqlValue {
    fn from(s: String) -> Self {
        SqlValue::Text(s)
    }
}
impl From<&[u8]> for SqlValue {
    fn from(s: &[u8]) -> Self {
        SqlValue::Text(String::from_utf8_lossy(s).into_owned())
    }
}
impl<T: Into<SqlValue>> From<Option<T>> for SqlValue {
    fn from(v: Option<T>) -> Self {
        v.map_or(SqlValue::Null, Into::into)
    }
}

/// One statement with its arguments. The text should be the same for every use, so that drivers can keep it prepared.
#[derive(Clone, Debug)]
pub struct Query {
    /// SQL with `?` placeholders.
    pub sql: Arc<str>,
    /// One value per placeholder.
    pub args: Vec<SqlValue>,
}

impl Query {
    /// A statement from its text and arguments.
    pub fn new(sql: impl Into<Arc<str>>, args: Vec<SqlValue>) -> Query {
        Query { sql: sql.into(), args }
    }
}

/// Rows of an answer.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Column names in order.
    pub columns: Vec<String>,
    /// One vector per row, in the order of `columns`.
    pub rows: Vec<Vec<SqlValue>>,
}

/// SQL dialects that differ in what the house needs (upsert, types, placeholders).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
}

/// Why a query gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The URL or its options are wrong; says what would be right.
    #[error("database URL: {0}")]
    Url(String),
    /// The server cannot be reached, or went away. Worth a retry.
    #[error("database not reachable: {0}")]
    Unreachable(String),
    /// The pool's waiting line is full or the answer took too long.
    #[error("database busy: {0}")]
    Busy(String),
    /// A unique key or other constraint refused the row.
    #[error("constraint: {0}")]
    Constraint(String),
    /// The statement itself is wrong (missing table or column, syntax).
    #[error("statement: {0}")]
    Statement(String),
}

/// An open database.
pub trait Store: Send + Sync {
    /// Which dialect it speaks.
    fn dialect(&self) -> Dialect;
    /// Run a SELECT.
    fn fetch(&self, query: Query) -> BoxFuture<Result<Rows, StoreError>>;
    /// Run a statement; gives the number of rows it touched.
    fn execute(&self, query: Query) -> BoxFuture<Result<u64, StoreError>>;
    /// Run several statements in one transaction; all or none, durable when it completes.
    fn batch(&self, queries: Vec<Query>) -> BoxFuture<Result<(), StoreError>>;
    /// Counters for statistics: name and value (queries, errors, waiting, open connections).
    fn counters(&self) -> Vec<(&'static str, u64)>;
}

/// Driver options from modparams (`busy_timeout`, `exec_pragma` ...): several values per name are possible.
pub type StoreOptions = BTreeMap<String, Vec<String>>;

/// Opens databases of one URL scheme.
pub trait StoreDriver: Send + Sync {
    /// Scheme of `db_url`: `sqlite`, `postgres`, `mysql`.
    fn scheme(&self) -> &'static str;
    /// Open (and share, when the same URL was opened before).
    fn open(&self, url: &str, options: &StoreOptions) -> BoxFuture<Result<Arc<dyn Store>, StoreError>>;
    /// The servers it has open, and whether they answer. Databases without a server are always there and not listed.
    fn reachable(&self) -> Vec<Reachable> {
        Vec::new()
    }
}

/// Whether a database server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// Its URL without the password.
    pub url: String,
    /// Whether the last attempt to connect was successful.
    pub up: bool,
}
