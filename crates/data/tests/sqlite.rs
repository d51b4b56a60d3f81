//! The SQLite driver and the standard tables on real files.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use switchroom_data::schema::{self, SchemaError};
use switchroom_data::sqlite::SqliteDriver;
use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreDriver, StoreError, StoreOptions};

/// Waits on a plain thread without any runtime, as a worker's own loop would.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn options(given: &[(&str, &str)]) -> StoreOptions {
    let mut options = StoreOptions::from([("create".to_owned(), vec!["1".to_owned()])]);
    for (name, value) in given {
        options.entry((*name).to_owned()).or_default().push((*value).to_owned());
    }
    options
}

fn open(driver: &SqliteDriver, path: &Path, given: &[(&str, &str)]) -> Arc<dyn Store> {
    wait(driver.open(&format!("sqlite://{}", path.display()), &options(given))).unwrap()
}

fn query(sql: &str, args: Vec<SqlValue>) -> Query {
    Query::new(sql, args)
}

fn counter(store: &Arc<dyn Store>, name: &str) -> u64 {
    store.counters().into_iter().find(|(n, _)| *n == name).unwrap().1
}

fn table(store: &Arc<dyn Store>) {
    wait(store.execute(query("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT UNIQUE)", vec![]))).unwrap();
}

fn count(store: &Arc<dyn Store>) -> i64 {
    wait(store.fetch(query("SELECT count(*) FROM t", vec![]))).unwrap().rows[0][0].to_int().unwrap()
}

#[test]
fn every_kind_of_value_comes_back_as_it_went() {
    let (driver, dir) = (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap());
    let store = open(&driver, &dir.path().join("a.db"), &[]);
    wait(store.execute(query("CREATE TABLE v (a, b, c, d, e)", vec![]))).unwrap();
    let values = vec![
        SqlValue::Null,
        SqlValue::Int(i64::MIN),
        SqlValue::Real(0.25),
        SqlValue::Text("o'Neill ☎".to_owned()),
        SqlValue::Blob(vec![0, 255]),
    ];
    assert_eq!(wait(store.execute(query("INSERT INTO v VALUES (?,?,?,?,?)", values.clone()))), Ok(1));
    let rows = wait(store.fetch(query("SELECT * FROM v WHERE d = ?", vec![values[3].clone()]))).unwrap();
    assert_eq!(rows.columns, ["a", "b", "c", "d", "e"]);
    assert_eq!(rows.rows, [values]);
    assert_eq!(wait(store.execute(query("UPDATE v SET b = 1 WHERE b = 2", vec![]))), Ok(0));
}

#[test]
fn an_acknowledged_write_is_read_by_every_later_read() {
    let (driver, dir) = (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap());
    let store = open(&driver, &dir.path().join("a.db"), &[]);
    table(&store);
    for i in 0..200 {
        wait(store.execute(query("INSERT INTO t (v) VALUES (?)", vec![format!("{i}").into()]))).unwrap();
        assert_eq!(count(&store), i + 1);
    }
}

#[test]
fn waiting_writes_share_a_transaction_and_fail_one_by_one() {
    let (driver, dir) = (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap());
    let store = open(&driver, &dir.path().join("a.db"), &[]);
    table(&store);
    let before = counter(&store, "transactions");
    let writes: Vec<_> = (0..1000)
        .map(|i| store.execute(query("INSERT INTO t (v) VALUES (?)", vec![format!("{}", i % 900).into()])))
        .collect();
    let results: Vec<_> = writes.into_iter().map(wait).collect();
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 900);
    assert!(results[900..].iter().all(|r| matches!(r, Err(StoreError::Constraint(_)))));
    assert_eq!(count(&store), 900);
    let groups = counter(&store, "transactions") - before;
    assert!((1..500).contains(&groups), "{groups}");
    assert_eq!(counter(&store, "errors"), 100);
    assert_eq!(counter(&store, "waiting"), 0);
}

#[test]
fn a_batch_is_all_or_nothing_and_harms_no_neighbour() {
    let (driver, dir) = (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap());
    let store = open(&driver, &dir.path().join("a.db"), &[]);
    table(&store);
    let insert = |v: &str| query("INSERT INTO t (v) VALUES (?)", vec![v.into()]);
    let jobs = (
        store.execute(insert("single")),
        store.batch(vec![insert("a"), insert("b")]),
        store.batch(vec![insert("c"), insert("a"), insert("d")]),
        store.batch(vec![insert("e"), query("INSERT INTO nowhere VALUES (1)", vec![])]),
        store.execute(insert("last")),
    );
    assert_eq!(wait(jobs.0), Ok(1));
    assert_eq!(wait(jobs.1), Ok(()));
    assert!(matches!(wait(jobs.2), Err(StoreError::Constraint(_))));
    assert!(matches!(wait(jobs.3), Err(StoreError::Statement(_))));
    assert_eq!(wait(jobs.4), Ok(1));
    let rows = wait(store.fetch(query("SELECT v FROM t ORDER BY v", vec![]))).unwrap();
    let values: Vec<_> = rows.rows.iter().filter_map(|r| r[0].to_text()).collect();
    assert_eq!(values, ["a", "b", "last", "single"]);
}

#[test]
fn a_full_waiting_line_says_busy_at_once() {
    let (driver, dir) = (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap());
    let store = open(&driver, &dir.path().join("a.db"), &[("queue", "4")]);
    table(&store);
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
                INSERT INTO t (v) SELECT 'x' || random() FROM n LIMIT 1 OFFSET 99999";
    let writes: Vec<_> = (0..300).map(|_| store.execute(query(slow, vec![]))).collect();
    // Readers have a line of their own.
    assert!(wait(store.fetch(query("SELECT 1", vec![]))).is_ok());
    let results: Vec<_> = writes.into_iter().map(wait).collect();
    let busy = results.iter().filter(|r| matches!(r, Err(StoreError::Busy(_)))).count();
    let done = results.iter().filter(|r| **r == Ok(1)).count();
    assert!(busy > 100 && done >= 4 && busy + done == 300, "{busy} busy, {done} done");
}

#[test]
fn returning_and_pragma_work_through_fetch() {
    let (driver, dir) = (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap());
    let store = open(&driver, &dir.path().join("a.db"), &[("exec_pragma", "cache_size=-3000")]);
    table(&store);
    let made = wait(store.fetch(query("INSERT INTO t (v) VALUES ('x') RETURNING id", vec![]))).unwrap();
    assert_eq!(made.rows[0][0], SqlValue::Int(1));
    for (pragma, value) in [("journal_mode", "wal"), ("cache_size", "-3000"), ("foreign_keys", "0")] {
        let rows = wait(store.fetch(query(&format!("PRAGMA {pragma}"), vec![]))).unwrap();
        assert_eq!(rows.rows[0][0].to_text().as_deref(), Some(value), "{pragma}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let (driver, dir) = (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap());
    let missing = dir.path().join("no/such/folder.db");
    let url = format!("sqlite://{}", missing.display());
    let error = wait(driver.open(&url, &options(&[]))).err().unwrap();
    assert!(matches!(&error, StoreError::Unreachable(why) if why.contains("folder.db")), "{error}");
    // Without `create` a mistyped name does not become an empty database.
    let url = format!("sqlite://{}", dir.path().join("typo.db").display());
    assert!(wait(driver.open(&url, &StoreOptions::new())).is_err());
    assert!(!dir.path().join("typo.db").exists());
    let store = open(&driver, &dir.path().join("a.db"), &[]);
    assert!(matches!(wait(store.fetch(query("SELECT x FROM y", vec![]))), Err(StoreError::Statement(_))));
    let error = wait(driver.open(
        &format!("sqlite://{}", dir.path().join("b.db").display()),
        &options(&[("exec_pragma", "no good")]),
    ));
    assert!(matches!(error.err(), Some(StoreError::Url(_))));
}

#[test]
fn the_same_file_is_opened_once_and_memory_is_its_own() {
    let (driver, dir) = (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (open(&driver, &dir.path().join("a.db"), &[]), open(&driver, &dir.path().join("a.db"), &[]));
    assert!(Arc::ptr_eq(&a, &b));
    let memory = wait(driver.open("sqlite::memory:", &StoreOptions::new())).unwrap();
    table(&memory);
    wait(memory.execute(query("INSERT INTO t (v) VALUES ('x')", vec![]))).unwrap();
    assert_eq!(count(&memory), 1);
}

#[test]
fn acknowledged_writes_are_in_the_file_while_it_is_still_open() {
    let (driver, dir) = (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("a.db");
    let store = open(&driver, &path, &[]);
    table(&store);
    wait(store.batch(vec![query("INSERT INTO t (v) VALUES ('kept')", vec![])])).unwrap();
    // What a killed process leaves behind is the file and its log as they are now.
    let copy = dir.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::copy(dir.path().join("a.db-wal"), dir.path().join("copy.db-wal")).unwrap();
    assert_eq!(count(&open(&driver, &copy, &[])), 1);
}

#[test]
fn all_standard_tables_are_created_once_with_their_versions() {
    let (driver, dir) = (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap());
    let store = open(&driver, &dir.path().join("a.db"), &[]);
    assert!(matches!(wait(schema::check_version(&*store, "subscriber", 8)), Err(SchemaError::Missing(_))));
    let made = wait(schema::create_all(&*store)).unwrap();
    assert_eq!(made.len(), schema::TABLES.len());
    assert!(wait(schema::create_all(&*store)).unwrap().is_empty());
    for (table, version) in [
        ("subscriber", 8),
        ("location", 1013),
        ("dbaliases", 2),
        ("domain", 4),
        ("uri", 2),
        ("grp", 3),
        ("acc", 7),
        ("missed_calls", 5),
        ("address", 5),
        ("dispatcher", 9),
    ] {
        wait(schema::check_version(&*store, table, version)).unwrap();
    }
    let row = "INSERT INTO subscriber (username, domain) VALUES ('alice', 'example.test')";
    assert_eq!(wait(store.execute(query(row, vec![]))), Ok(1));
    assert!(matches!(wait(store.execute(query(row, vec![]))), Err(StoreError::Constraint(_))));
    let row = "INSERT INTO location (contact_id, username) VALUES (?, 'alice')";
    assert_eq!(wait(store.execute(query(row, vec![SqlValue::Int(i64::MAX)]))), Ok(1));
    let found = wait(store.fetch(query("SELECT contact_id, q, callid, last_modified FROM location", vec![])))
        .unwrap();
    let texts: Vec<_> = found.rows[0].iter().filter_map(SqlValue::to_text).collect();
    assert_eq!(texts, ["9223372036854775807", "1", "Default-Call-ID", "1900-01-01 00:00:01"]);
}

#[test]
fn an_older_table_gets_its_new_columns_and_keeps_its_rows() {
    let (driver, dir) = (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap());
    let store = open(&driver, &dir.path().join("a.db"), &[]);
    let old = [
        "CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL)",
        "INSERT INTO version (table_name, table_version) VALUES ('subscriber', 7)",
        "CREATE TABLE subscriber (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, username CHAR(64) DEFAULT '' NOT NULL,
            domain CHAR(64) DEFAULT '' NOT NULL, password CHAR(25) DEFAULT '' NOT NULL,
            email_address CHAR(64) DEFAULT '' NOT NULL, ha1 CHAR(64) DEFAULT '' NOT NULL,
            ha1b CHAR(64) DEFAULT '' NOT NULL, rpid CHAR(64) DEFAULT NULL)",
        "INSERT INTO subscriber (username, ha1) VALUES ('alice', 'abc')",
    ];
    wait(store.batch(old.iter().map(|sql| query(sql, vec![])).collect())).unwrap();
    assert!(matches!(
        wait(schema::check_version(&*store, "subscriber", 8)),
        Err(SchemaError::Old { found: 7, expected: 8, .. })
    ));
    let changes = wait(schema::migrate(&*store)).unwrap();
    assert!(changes.contains(&"column subscriber.ha1_sha256 added".to_owned()), "{changes:?}");
    wait(schema::check_version(&*store, "subscriber", 8)).unwrap();
    let rows =
        wait(store.fetch(query("SELECT username, ha1, ha1_sha512t256 FROM subscriber", vec![]))).unwrap();
    assert_eq!(rows.rows[0], ["alice".into(), "abc".into(), "".into()]);
    assert!(wait(schema::migrate(&*store)).unwrap().is_empty());
    wait(store.execute(query("UPDATE version SET table_version = 99 WHERE table_name = 'acc'", vec![])))
        .unwrap();
    assert!(matches!(wait(schema::migrate(&*store)), Err(SchemaError::New { found: 99, .. })));
}
