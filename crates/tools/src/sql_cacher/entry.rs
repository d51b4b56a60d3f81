//! The rows of one table in memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use switchroom_kernel::ports::net::Spawn;
use switchroom_kernel::ports::store::{Query, Rows, SqlValue, Store};

use super::spec::Spec;

/// Rows kept of one table.
const MAX_ROWS: usize = 1_000_000;
/// Missing keys that are asked for at a time.
const MAX_ASKED: usize = 64;

/// One `cache_table`.
pub struct Entry {
    pub id: String,
    /// Time between two readings of the table.
    pub period: Duration,
    on_demand: bool,
    key: String,
    select: Arc<str>,
    select_one: Arc<str>,
    store: Arc<dyn Store>,
    spawn: Arc<dyn Spawn>,
    kept: Arc<RwLock<Kept>>,
    asked: Arc<Mutex<HashSet<String>>>,
}

#[derive(Default)]
struct Kept {
    /// Names of the columns of a row, behind the key.
    columns: Vec<String>,
    rows: BTreeMap<String, Box<[SqlValue]>>,
}

impl Entry {
    pub fn new(spec: Spec, store: Arc<dyn Store>, period: Duration, spawn: Arc<dyn Spawn>) -> Entry {
        let columns = match spec.columns.is_empty() {
            true => format!("{0}.{1}, {0}.*", spec.table, spec.key),
            false => format!("{}, {}", spec.key, spec.columns.join(", ")),
        };
        let kept = Kept { columns: spec.columns, rows: BTreeMap::new() };
        Entry {
            period,
            on_demand: spec.on_demand,
            select: format!("SELECT {columns} FROM {} LIMIT {}", spec.table, MAX_ROWS + 1).into(),
            select_one: format!("SELECT {columns} FROM {} WHERE {} = ?", spec.table, spec.key).into(),
            id: spec.id,
            key: spec.key,
            store,
            spawn,
            kept: Arc::new(RwLock::new(kept)),
            asked: Arc::default(),
        }
    }

    /// Reads the whole table; gives the number of rows. On an error the rows of before stay.
    pub async fn load(&self) -> Result<usize, String> {
        let found = self.store.fetch(Query::new(self.select.clone(), Vec::new())).await;
        let found = found.map_err(|e| e.to_string())?;
        if found.rows.len() > MAX_ROWS {
            tracing::error!("sql_cacher: {}: only {MAX_ROWS} rows are kept", self.id);
        }
        let (columns, rows) = split(found);
        let rows: BTreeMap<_, _> = rows.take(MAX_ROWS).collect();
        let count = rows.len();
        let mut kept = self.kept.write();
        if !columns.is_empty() {
            kept.columns = columns;
        }
        kept.rows = rows;
        Ok(count)
    }

    /// Reads one row; gives 1, or 0 when it is not there any more.
    pub async fn load_key(&self, key: &str) -> Result<usize, String> {
        load_key(&*self.store, &self.select_one, &self.kept, key).await
    }

    /// A value; `Ok(None)` without such a row. The error names the columns there are.
    pub fn value(&self, column: &str, key: &str) -> Result<Option<SqlValue>, String> {
        let kept = self.kept.read();
        if let Some(row) = kept.rows.get(key) {
            let at = self.column(&kept, column)?;
            return Ok(match at {
                Some(at) => row.get(at).cloned(),
                None => Some(SqlValue::from(key)),
            });
        }
        drop(kept);
        if self.on_demand {
            self.ask(key);
        }
        Ok(None)
    }

    /// These columns of all rows, in the order of the keys.
    pub fn all(&self, columns: &[&str]) -> Result<Vec<Vec<SqlValue>>, String> {
        let kept = self.kept.read();
        let places: Vec<Option<usize>> =
            columns.iter().map(|column| self.column(&kept, column)).collect::<Result<_, _>>()?;
        let cell = |key: &str, row: &[SqlValue], place: &Option<usize>| match place {
            Some(at) => row.get(*at).cloned().unwrap_or_default(),
            None => SqlValue::from(key),
        };
        let rows = kept.rows.iter();
        Ok(rows.map(|(key, row)| places.iter().map(|place| cell(key, row, place)).collect()).collect())
    }

    /// Place of a column in a row; `None` for the key itself.
    fn column(&self, kept: &Kept, name: &str) -> Result<Option<usize>, String> {
        match kept.columns.iter().position(|c| c.eq_ignore_ascii_case(name)) {
            Some(at) => Ok(Some(at)),
            None if name.eq_ignore_ascii_case(&self.key) => Ok(None),
            None => Err(format!("there is no column \"{name}\"; there are: {}", kept.columns.join(", "))),
        }
    }

    /// Asks for a missing row in the background, each only once at a time.
    fn ask(&self, key: &str) {
        let mut asked = self.asked.lock();
        if asked.len() >= MAX_ASKED || !asked.insert(key.to_owned()) {
            return;
        }
        let (store, sql, kept, asked) =
            (self.store.clone(), self.select_one.clone(), self.kept.clone(), self.asked.clone());
        let (key, id) = (key.to_owned(), self.id.clone());
        self.spawn.spawn(Box::pin(async move {
            if let Err(e) = load_key(&*store, &sql, &kept, &key).await {
                tracing::error!("sql_cacher: {id}: {e}");
            }
            asked.lock().remove(&key);
        }));
    }
}

async fn load_key(
    store: &dyn Store,
    sql: &Arc<str>,
    kept: &RwLock<Kept>,
    key: &str,
) -> Result<usize, String> {
    let found = store.fetch(Query::new(sql.clone(), vec![key.into()])).await.map_err(|e| e.to_string())?;
    let (columns, rows) = split(found);
    let row = rows.last();
    let mut kept = kept.write();
    match row {
        Some((_, row)) if kept.rows.len() < MAX_ROWS || kept.rows.contains_key(key) => {
            if kept.columns.is_empty() {
                kept.columns = columns;
            }
            kept.rows.insert(key.to_owned(), row);
            Ok(1)
        }
        _ => {
            kept.rows.remove(key);
            Ok(0)
        }
    }
}

/// Names of the columns behind the key, and the rows under their keys. Rows without a key are left out.
fn split(found: Rows) -> (Vec<String>, impl Iterator<Item = (String, Box<[SqlValue]>)>) {
    let columns = found.columns.into_iter().skip(1).collect();
    let rows = found.rows.into_iter().filter_map(|mut row| {
        let key = row.first()?.to_text()?;
        row.remove(0);
        Some((key, row.into_boxed_slice()))
    });
    (columns, rows)
}
