//! What was acknowledged is there after the process was killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use switchroom_data::sqlite::SqliteDriver;
use switchroom_kernel::ports::store::{Query, Store, StoreDriver, StoreOptions};

const FILE: &str = "SWITCHROOM_TEST_KILL_FILE";

fn open(runtime: &tokio::runtime::Runtime, driver: &SqliteDriver, path: &Path) -> Arc<dyn Store> {
    let options = StoreOptions::from([("create".to_owned(), vec!["1".to_owned()])]);
    runtime.block_on(driver.open(&format!("sqlite://{}", path.display()), &options)).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// What the process does that is killed: it tells every acknowledged row.
fn write(path: &Path) {
    let (runtime, driver) = (runtime(), SqliteDriver::start().unwrap());
    let store = open(&runtime, &driver, path);
    runtime.block_on(async {
        store.execute(Query::new("CREATE TABLE t (id INTEGER PRIMARY KEY)", vec![])).await.unwrap();
        for first in (0..i64::MAX).step_by(20) {
            let insert = |id: i64| store.execute(Query::new("INSERT INTO t VALUES (?)", vec![id.into()]));
            let waiting: Vec<_> = (first..first + 20).map(|id| (id, insert(id))).collect();
            for (id, written) in waiting {
                written.await.unwrap();
                println!("row {id}");
            }
        }
    });
}

#[test]
fn acknowledged_rows_survive_kill_9() {
    // The test runs itself as the process to be killed.
    if let Some(path) = std::env::var_os(FILE) {
        return write(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kill.db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "acknowledged_rows_survive_kill_9", "--nocapture"])
        .env(FILE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let row = |line: String| line.strip_prefix("row ").and_then(|n| n.parse::<i64>().ok());
    let mut last = lines.by_ref().filter_map(row).nth(2000).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had told before it died counts as well.
    last = lines.filter_map(row).last().unwrap_or(last);
    let (runtime, driver) = (runtime(), SqliteDriver::start().unwrap());
    let store = open(&runtime, &driver, &path);
    let found = runtime
        .block_on(store.fetch(Query::new("SELECT count(*) FROM t WHERE id <= ?", vec![last.into()])))
        .unwrap();
    assert_eq!(found.rows[0][0].to_int(), Some(last + 1));
}
