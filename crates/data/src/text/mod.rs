//! Folders of text files as databases (`text:///path`), as OpenSIPS's db_text has them.
//!
//! The files are read once, into a database in memory that knows all of SQL. Left out: writing back; what is changed is
//! forgotten when the program ends, and a warning says so.

pub mod module;
mod read;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use switchroom_kernel::ports::net::BoxFuture;
use switchroom_kernel::ports::store::{Query, Store, StoreDriver, StoreError, StoreOptions};
use tokio::sync::Mutex;

use crate::sqlite::SqliteDriver;
use read::Table;

/// The driver for `text:` URLs. It must outlive the stores that it opened.
pub struct TextDriver {
    sqlite: Arc<SqliteDriver>,
    open: Arc<Mutex<HashMap<PathBuf, Weak<dyn Store>>>>,
}

impl TextDriver {
    /// Starts the driver's thread.
    pub fn start() -> io::Result<TextDriver> {
        Ok(TextDriver { sqlite: Arc::new(SqliteDriver::start()?), open: Arc::default() })
    }
}

impl StoreDriver for TextDriver {
    fn scheme(&self) -> &'static str {
        "text"
    }

    fn open(&self, url: &str, _: &StoreOptions) -> BoxFuture<Result<Arc<dyn Store>, StoreError>> {
        let (url, sqlite, open) = (url.to_owned(), self.sqlite.clone(), self.open.clone());
        Box::pin(async move {
            let path = url.strip_prefix("text://").filter(|path| !path.is_empty());
            let path = path.map(PathBuf::from).ok_or_else(|| {
                StoreError::Url(format!("`{url}` names no folder; write text:///path/to/folder"))
            })?;
            let mut open = open.lock().await;
            if let Some(store) = open.get(&path).and_then(Weak::upgrade) {
                return Ok(store);
            }
            let tables = folder(&path)?;
            let store = sqlite.open("sqlite::memory:", &StoreOptions::new()).await?;
            for table in tables {
                store.execute(Query::new(table.create, Vec::new())).await?;
                let insert: Arc<str> = table.insert.into();
                let rows = table.rows.into_iter().map(|row| Query::new(insert.clone(), row));
                store.batch(rows.collect()).await?;
            }
            tracing::warn!("database {url}: what is changed in it is not written back to its files");
            open.retain(|_, store| store.strong_count() > 0);
            open.insert(path, Arc::downgrade(&store));
            Ok(store)
        })
    }
}

/// All tables of a folder. Files with a dot in their name are none.
fn folder(path: &Path) -> Result<Vec<Table>, StoreError> {
    let failed = |path: &Path, e: io::Error| StoreError::Unreachable(format!("{}: {e}", path.display()));
    let mut tables = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| failed(path, e))? {
        let file = entry.map_err(|e| failed(path, e))?.path();
        let Some(name) = file.file_name().and_then(|n| n.to_str()) else { continue };
        if name.contains('.') || !file.is_file() {
            continue;
        }
        let text = std::fs::read(&file).map_err(|e| failed(&file, e))?;
        let text = String::from_utf8_lossy(&text);
        let table = Table::read(name, &text);
        tables.push(table.map_err(|e| StoreError::Statement(format!("{}: {e}", file.display())))?);
    }
    Ok(tables)
}
