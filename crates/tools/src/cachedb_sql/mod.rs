//! A table of a database as a key-value store of scripts.
//!
//! A counter is a row whose value is empty. Left out: raw queries, for which there is `sql_query()`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use switchroom_kernel::module::{Module, Param, TableUse};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::net::{BoxFuture, Clock};
use switchroom_kernel::ports::store::{Dialect, Query, SqlValue, Store, StoreError};

use crate::cache::api::{CacheDb, CacheError, CacheResult, Caches};
use crate::sql::column;

/// The module.
pub static MODULE: Module = Module {
    name: "cachedb_sql",
    summary: "A table as a key-value store",
    needs: &["cache"],
    params: &[
        Param::multi("cachedb_url", "A database under an id: \"sql:id-mysql://user:password@host/database\""),
        Param::str("db_table", "cachedb", "Table"),
        Param::str("key_column", "keyname", "Column"),
        Param::str("value_column", "value", "Column"),
        Param::str("counter_column", "counter", "Column"),
        Param::str("expires_column", "expires", "Column"),
        Param::int(
            "cache_clean_period",
            "60",
            "Seconds between removals of rows that have run out; 0 for never",
        ),
    ],
    tables: &[TableUse { name: "cachedb", version: 2 }],
    open,
    live: Some(|kernel| {
        let state = kernel.state::<CacheSql>();
        if state.clean_period.is_zero() {
            return;
        }
        for table in state.tables.clone() {
            kernel.every(state.clean_period, move |_| {
                let table = table.clone();
                async move {
                    if let Err(e) = table.clean().await {
                        tracing::error!("cachedb_sql: {e}");
                    }
                }
            });
        }
    }),
    ..Module::EMPTY
};

struct CacheSql {
    tables: Vec<Arc<Table>>,
    clean_period: Duration,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let name = column(o, "db_table")?;
    let columns = [
        column(o, "key_column")?,
        column(o, "value_column")?,
        column(o, "counter_column")?,
        column(o, "expires_column")?,
    ];
    let mut tables = Vec::new();
    for url in o.all("cachedb_url") {
        let (id, db_url) = read_url(&url).ok_or_else(|| {
            let shown = url.split("://").next().unwrap_or_default();
            format!("cachedb_url \"{shown}://...\": it should look like \"sql:id-mysql://user:password@host/database\"")
        })?;
        let store = o.store(Some(db_url), &[(&name, 2)])?;
        let table = Arc::new(Table::new(store, o.kernel.drivers.clock.clone(), &name, &columns));
        o.kernel.state::<Caches>().register(id, Arc::new(Handle(table.clone())));
        tables.push(table);
    }
    let seconds = u64::try_from(o.int("cache_clean_period")).unwrap_or(0);
    o.provide(CacheSql { tables, clean_period: Duration::from_secs(seconds) });
    Ok(())
}

/// Id and database of `sql:id-mysql://...`; the id goes up to `://`.
fn read_url(url: &str) -> Option<(&str, &str)> {
    let url = url.trim();
    let rest = url.strip_prefix("sql:")?;
    let (head, _) = rest.split_once("://")?;
    let db_url = match head.find('-') {
        Some(at) => &rest[at + 1..],
        None => rest,
    };
    Some((&url[.."sql:".len() + head.len()], db_url))
}

/// The statements on one table.
struct Table {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    set: Arc<str>,
    get: Arc<str>,
    delete: Arc<str>,
    delete_old: Arc<str>,
    insert: Arc<str>,
    add: Arc<str>,
    add_until: Arc<str>,
    clean: Arc<str>,
}

impl Table {
    fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, table: &str, columns: &[String; 4]) -> Table {
        let [key, value, counter, expires] = columns;
        let all = format!("{key}, {value}, {counter}, {expires}");
        // MySQL has no RETURNING here; the counter is read afterwards.
        let returning = match store.dialect() {
            Dialect::Mysql => String::new(),
            _ => format!(" RETURNING {counter}"),
        };
        let lives = format!("{key} = ? AND ({expires} = 0 OR {expires} > ?)");
        Table {
            set: format!("REPLACE INTO {table} ({all}) VALUES (?, ?, ?, ?)").into(),
            get: format!("SELECT {value}, {counter} FROM {table} WHERE {lives}").into(),
            delete: format!("DELETE FROM {table} WHERE {key} = ?").into(),
            delete_old: format!("DELETE FROM {table} WHERE {key} = ? AND {expires} <> 0 AND {expires} <= ?")
                .into(),
            insert: format!("INSERT INTO {table} ({all}) VALUES (?, ?, ?, ?)").into(),
            add: format!("UPDATE {table} SET {counter} = {counter} + ? WHERE {lives}{returning}").into(),
            add_until: format!(
                "UPDATE {table} SET {counter} = {counter} + ?, {expires} = ? WHERE {lives}{returning}"
            )
            .into(),
            clean: format!("DELETE FROM {table} WHERE {expires} <> 0 AND {expires} <= ?").into(),
            store,
            clock,
        }
    }

    fn now(&self) -> SqlValue {
        SqlValue::Int(self.clock.unix().as_secs() as i64)
    }

    fn until(&self, ttl: u64) -> SqlValue {
        match ttl {
            0 => SqlValue::Int(0),
            ttl => SqlValue::Int(self.clock.unix().as_secs().saturating_add(ttl).min(i64::MAX as u64) as i64),
        }
    }

    async fn clean(&self) -> Result<u64, StoreError> {
        self.store.execute(Query::new(self.clean.clone(), vec![self.now()])).await
    }

    /// The value, or the counter where the value is empty.
    async fn get(&self, key: &[u8]) -> CacheResult<Option<Bytes>> {
        let query = Query::new(self.get.clone(), vec![key.into(), self.now()]);
        let rows = self.store.fetch(query).await.map_err(failed)?;
        let Some(row) = rows.rows.first() else { return Ok(None) };
        let cell = |i: usize| row.get(i).and_then(SqlValue::to_text).unwrap_or_default();
        let value = cell(0);
        Ok(Some(if value.is_empty() { cell(1).into() } else { value.into() }))
    }

    async fn add(&self, key: &[u8], by: i64, ttl: u64) -> CacheResult<i64> {
        if let Some(new) = self.add_to_row(key, by, ttl).await? {
            return Ok(new);
        }
        let old = Query::new(self.delete_old.clone(), vec![key.into(), self.now()]);
        self.store.execute(old).await.map_err(failed)?;
        let row = vec![key.into(), "".into(), SqlValue::Int(by), self.until(ttl)];
        match self.store.execute(Query::new(self.insert.clone(), row)).await {
            Ok(_) => Ok(by),
            // Somebody else was first.
            Err(StoreError::Constraint(_)) => match self.add_to_row(key, by, ttl).await? {
                Some(new) => Ok(new),
                None => Err(CacheError::Unreachable("the counter came and went".into())),
            },
            Err(e) => Err(failed(e)),
        }
    }

    /// `None` when there is no such row.
    async fn add_to_row(&self, key: &[u8], by: i64, ttl: u64) -> CacheResult<Option<i64>> {
        let query = match ttl {
            0 => Query::new(self.add.clone(), vec![SqlValue::Int(by), key.into(), self.now()]),
            _ => {
                let args = vec![SqlValue::Int(by), self.until(ttl), key.into(), self.now()];
                Query::new(self.add_until.clone(), args)
            }
        };
        if self.store.dialect() != Dialect::Mysql {
            let rows = self.store.fetch(query).await.map_err(failed)?;
            return Ok(rows.rows.first().and_then(|row| row.first()).and_then(SqlValue::to_int));
        }
        if self.store.execute(query).await.map_err(failed)? == 0 {
            return Ok(None);
        }
        let query = Query::new(self.get.clone(), vec![key.into(), self.now()]);
        let rows = self.store.fetch(query).await.map_err(failed)?;
        Ok(rows.rows.first().and_then(|row| row.get(1)).and_then(SqlValue::to_int))
    }
}

fn failed(e: StoreError) -> CacheError {
    CacheError::Unreachable(e.to_string())
}

/// A table as scripts see it.
struct Handle(Arc<Table>);

impl CacheDb for Handle {
    fn store(&self, key: Bytes, value: Bytes, ttl: u64) -> BoxFuture<CacheResult<()>> {
        let table = self.0.clone();
        Box::pin(async move {
            let row = vec![key[..].into(), value[..].into(), SqlValue::Int(0), table.until(ttl)];
            table.store.execute(Query::new(table.set.clone(), row)).await.map(drop).map_err(failed)
        })
    }

    fn fetch(&self, key: Bytes) -> BoxFuture<CacheResult<Option<Bytes>>> {
        let table = self.0.clone();
        Box::pin(async move { table.get(&key).await })
    }

    fn remove(&self, key: Bytes) -> BoxFuture<CacheResult<bool>> {
        let table = self.0.clone();
        Box::pin(async move {
            let query = Query::new(table.delete.clone(), vec![key[..].into()]);
            table.store.execute(query).await.map(|rows| rows > 0).map_err(failed)
        })
    }

    fn add(&self, key: Bytes, by: i64, ttl: u64) -> BoxFuture<CacheResult<i64>> {
        let table = self.0.clone();
        Box::pin(async move { table.add(&key, by, ttl).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_hold_an_id_and_a_database() {
        assert_eq!(
            read_url("sql:1st-mysql://root:a-b@localhost/sip"),
            Some(("sql:1st-mysql", "mysql://root:a-b@localhost/sip"))
        );
        assert_eq!(read_url("sql:sqlite:///a-b"), Some(("sql:sqlite", "sqlite:///a-b")));
        assert_eq!(read_url("mysql://h/d"), None);
    }
}
