//! The drivers of database servers and the standard tables on real servers.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use switchroom_data::{mysql, postgres, schema};
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::store::{
    Dialect, Query, SqlValue, Store, StoreDriver, StoreError, StoreOptions,
};
use switchroom_testkit::Database;

struct Place {
    server: Database,
    driver: Arc<dyn StoreDriver>,
    url: String,
}

fn mariadb() -> Place {
    let server = Database::mariadb();
    server.sql("mysql", "CREATE DATABASE sip CHARACTER SET utf8mb4");
    Place { url: server.url("sip"), server, driver: mysql::driver().unwrap() }
}

fn postgresql() -> Place {
    let server = Database::postgres();
    server.sql("postgres", "CREATE DATABASE sip");
    Place { url: server.url("sip"), server, driver: postgres::driver().unwrap() }
}

impl Place {
    fn open(&self, options: &[(&str, &str)]) -> Arc<dyn Store> {
        self.try_open(&self.url, options).unwrap()
    }

    fn try_open(&self, url: &str, options: &[(&str, &str)]) -> Result<Arc<dyn Store>, StoreError> {
        let options: StoreOptions =
            options.iter().map(|(n, v)| ((*n).to_owned(), vec![(*v).to_owned()])).collect();
        block_on(self.driver.open(url, &options))
    }
}

fn fetch(store: &Arc<dyn Store>, sql: &str, args: Vec<SqlValue>) -> Vec<Vec<SqlValue>> {
    block_on(store.fetch(Query::new(sql, args))).unwrap().rows
}

fn execute(store: &Arc<dyn Store>, sql: &str, args: Vec<SqlValue>) -> u64 {
    block_on(store.execute(Query::new(sql, args))).unwrap()
}

fn counter(store: &Arc<dyn Store>, name: &str) -> u64 {
    store.counters().into_iter().find(|(n, _)| *n == name).unwrap().1
}

fn text(t: &str) -> SqlValue {
    SqlValue::Text(t.to_owned())
}

#[test]
fn mariadb_does_all_that_the_store_port_promises() {
    let place = mariadb();
    let store = place.open(&[]);
    assert_eq!(store.dialect(), Dialect::Mysql);
    execute(
        &store,
        "CREATE TABLE kinds (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, big BIGINT UNSIGNED, tiny TINYINT, yes BOOL, \
         d DECIMAL(10,2), f FLOAT(10,2), r DOUBLE, c CHAR(10), v VARCHAR(99), at DATETIME, ts TIMESTAMP NULL, e \
         ENUM('a','b'), b BLOB, y YEAR, day DATE, t TIME, bits BIT(9))",
        vec![],
    );
    let insert = "INSERT INTO kinds (big, tiny, yes, d, f, r, c, v, at, ts, e, b, y, day, t, bits) VALUES \
                  (18446744073709551615, -5, 1, 1.50, 0.7, 0.25, 'ab  ', ?, '2026-11-21 16:05:09', '2026-11-21 16:05:00', \
                  'b', ?, 2026, '2026-11-21', '-26:03:04', b'100000001')";
    execute(&store, insert, vec![text("it's ?"), SqlValue::Blob(vec![0, 255, 39])]);
    let expected = vec![
        SqlValue::Int(1),
        text("18446744073709551615"),
        SqlValue::Int(-5),
        SqlValue::Int(1),
        SqlValue::Real(1.5),
        SqlValue::Real(0.7),
        SqlValue::Real(0.25),
        text("ab"),
        text("it's ?"),
        text("2026-11-21 16:05:09"),
        text("2026-11-21 16:05:00"),
        text("b"),
        SqlValue::Blob(vec![0, 255, 39]),
        SqlValue::Int(2026),
        text("2026-11-21"),
        text("-26:03:04"),
        SqlValue::Int(257),
    ];
    assert_eq!(fetch(&store, "SELECT * FROM kinds", vec![]), std::slice::from_ref(&expected));
    assert_eq!(fetch(&store, "SELECT * FROM kinds WHERE id = ?", vec![SqlValue::Int(1)]), [expected]);
    common(&place, &store);
}

#[test]
fn postgresql_does_all_that_the_store_port_promises() {
    let place = postgresql();
    let store = place.open(&[]);
    assert_eq!(store.dialect(), Dialect::Postgres);
    execute(
        &store,
        "CREATE TABLE kinds (id SERIAL PRIMARY KEY, big BIGINT, yes BOOL, d NUMERIC(10,2), r DOUBLE PRECISION, c CHAR(10), \
         v VARCHAR(99), at TIMESTAMP WITHOUT TIME ZONE, ts TIMESTAMPTZ, b BYTEA, j JSON)",
        vec![],
    );
    let insert =
        "INSERT INTO kinds (big, yes, d, r, c, v, at, ts, b, j) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = vec![
        SqlValue::Int(i64::MIN),
        SqlValue::Int(1),
        SqlValue::Real(1.5),
        SqlValue::Real(0.25),
        text("ab"),
        text("it's \\' ? \u{1f4de}"),
        text("2026-11-21 16:05:09"),
        text("2026-11-21 16:05:00.5"),
        SqlValue::Blob(vec![0, 255, 39]),
        text("{\"a\":1}"),
    ];
    execute(&store, insert, values.clone());
    let mut expected = values;
    expected.insert(0, SqlValue::Int(1));
    expected[8] = text("2026-11-21 16:05:00");
    // Each value finds its type from where it stands.
    let select = "SELECT * FROM kinds WHERE id = ? AND big = ? AND v LIKE ? AND at = ? LIMIT ?";
    let args = vec![
        text("1"),
        SqlValue::Int(i64::MIN),
        text("it's%"),
        text("2026-11-21 16:05:09"),
        SqlValue::Int(1),
    ];
    assert_eq!(fetch(&store, select, args), [expected]);
    common(&place, &store);
}

/// What does not depend on the dialect.
fn common(place: &Place, store: &Arc<dyn Store>) {
    standard_tables(store);
    errors(place, store);
    replace(store);
    commits_are_shared(store);
    let socket = place.try_open(&place.server.socket_url("sip"), &[]).unwrap();
    assert_eq!(fetch(&socket, "SELECT count(*) FROM t", vec![]).len(), 1);
    // The same URL is the same store.
    let again = place.try_open(&place.url, &[]).unwrap();
    assert!(Arc::ptr_eq(store, &again));
}

fn standard_tables(store: &Arc<dyn Store>) {
    let made = block_on(schema::create_all(&**store)).unwrap();
    assert_eq!(made.len(), schema::TABLES.len());
    assert!(block_on(schema::create_all(&**store)).unwrap().is_empty());
    for table in schema::TABLES {
        if let Some(version) = table.version {
            block_on(schema::check_version(&**store, table.name, version)).unwrap();
        }
    }
    execute(store, "INSERT INTO subscriber (username, domain) VALUES (?, ?)", vec![text("a"), text("b")]);
    let found = fetch(store, "SELECT username, password FROM subscriber", vec![]);
    assert_eq!(found, [vec![text("a"), text("")]]);
    // An older database gets what it lacks.
    execute(store, "UPDATE version SET table_version = 1 WHERE table_name = 'domain'", vec![]);
    execute(store, "ALTER TABLE domain DROP COLUMN attrs", vec![]);
    let changes = block_on(schema::migrate(&**store)).unwrap();
    assert!(changes.iter().any(|c| c == "column domain.attrs added"), "{changes:?}");
    assert!(block_on(schema::migrate(&**store)).unwrap().is_empty());
}

fn errors(place: &Place, store: &Arc<dyn Store>) {
    execute(store, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, v VARCHAR(99))", vec![]);
    let insert = || Query::new("INSERT INTO t (id, v) VALUES (?, ?)", vec![SqlValue::Int(1), text("x")]);
    block_on(store.execute(insert())).unwrap();
    let twice = block_on(store.execute(insert())).unwrap_err();
    assert!(matches!(twice, StoreError::Constraint(_)), "{twice}");
    let missing = block_on(store.fetch(Query::new("SELECT * FROM nowhere", vec![]))).unwrap_err();
    assert!(matches!(missing, StoreError::Statement(_)), "{missing}");
    // All or none.
    let both = vec![Query::new("UPDATE t SET v = 'y'", vec![]), insert()];
    assert!(matches!(block_on(store.batch(both)), Err(StoreError::Constraint(_))));
    assert_eq!(fetch(store, "SELECT v FROM t", vec![]), [[text("x")]]);
    let unknown = place.try_open(&place.url.replace("/sip", "/nowhere"), &[]).err().unwrap();
    assert!(matches!(unknown, StoreError::Url(_)), "{unknown}");
    let refused =
        place.try_open(&place.url.replace(&place.server.port().to_string(), "1"), &[]).err().unwrap();
    assert!(matches!(refused, StoreError::Unreachable(_)), "{refused}");
    let option = place.try_open(&place.url.replace("/sip", "/sip2"), &[("wrong", "1")]).err().unwrap();
    assert!(option.to_string().contains("max_db_queries"), "{option}");
}

fn replace(store: &Arc<dyn Store>) {
    let sql = "REPLACE INTO t (id, v) VALUES (?, ?)";
    for v in ["one", "two"] {
        execute(store, sql, vec![SqlValue::Int(7), text(v)]);
    }
    assert_eq!(fetch(store, "SELECT v FROM t WHERE id = 7", vec![]), [[text("two")]]);
}

/// Statements that wait together are committed together, and one that fails does not harm the others.
fn commits_are_shared(store: &Arc<dyn Store>) {
    let before = counter(store, "transactions");
    let insert = |id: i64| Query::new("INSERT INTO t (id, v) VALUES (?, 'g')", vec![SqlValue::Int(id)]);
    let waiting: Vec<_> =
        (0..2000).map(|i| store.execute(insert(if i == 1500 { 1000 } else { 1000 + i }))).collect();
    let failed: Vec<usize> =
        waiting.into_iter().map(block_on).enumerate().filter(|(_, r)| r != &Ok(1)).map(|(i, _)| i).collect();
    // Two rows want one number; the first has it.
    assert_eq!(failed, [1500]);
    assert_eq!(fetch(store, "SELECT count(*) FROM t WHERE v = 'g'", vec![]), [[SqlValue::Int(1999)]]);
    let shared = counter(store, "transactions") - before;
    assert!((1..500).contains(&shared), "{shared}");
    assert_eq!(counter(store, "waiting"), 0);
}

#[test]
fn a_silent_mariadb_fails_statements_in_time_and_heals() {
    silence(&mariadb());
}

#[test]
fn a_silent_postgresql_fails_statements_in_time_and_heals() {
    silence(&postgresql());
}

fn silence(place: &Place) {
    let store = place.open(&[("timeout_ms", "1000"), ("queue", "50"), ("readers", "2")]);
    execute(&store, "CREATE TABLE t (id INT)", vec![]);
    place.server.freeze();
    let started = Instant::now();
    let mut waiting = Vec::new();
    for i in 0..200 {
        let insert = Query::new("INSERT INTO t (id) VALUES (?)", vec![SqlValue::Int(i)]);
        waiting.push(thread::spawn({
            let asked = store.execute(insert);
            move || block_on(asked).map(drop)
        }));
        let asked = store.fetch(Query::new("SELECT id FROM t", vec![]));
        waiting.push(thread::spawn(move || block_on(asked).map(drop)));
    }
    for asked in waiting {
        let error = asked.join().unwrap().unwrap_err();
        assert!(matches!(error, StoreError::Busy(_) | StoreError::Unreachable(_)), "{error}");
    }
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
    // The dead server costs no time any more.
    thread::sleep(Duration::from_millis(1500));
    let mut slow = 0;
    for _ in 0..20 {
        let started = Instant::now();
        assert!(block_on(store.fetch(Query::new("SELECT id FROM t", vec![]))).is_err());
        slow += usize::from(started.elapsed() > Duration::from_millis(100));
    }
    assert!(slow <= 3, "{slow}");
    assert!(place.driver.reachable().iter().all(|server| !server.up));
    place.server.thaw();
    let until = Instant::now() + Duration::from_secs(15);
    while block_on(store.fetch(Query::new("SELECT id FROM t", vec![]))).is_err() {
        assert!(Instant::now() < until, "it did not heal");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(place.driver.reachable().iter().all(|server| server.up));
    assert_eq!(execute(&store, "INSERT INTO t (id) VALUES (1000)", vec![]), 1);
}

#[test]
fn a_restarted_server_is_not_noticed_by_the_next_statement() {
    for mut place in [mariadb(), postgresql()] {
        let store = place.open(&[("readers", "1")]);
        execute(&store, "CREATE TABLE t (id INT)", vec![]);
        fetch(&store, "SELECT id FROM t", vec![]);
        place.server.restart();
        assert_eq!(execute(&store, "INSERT INTO t (id) VALUES (1)", vec![]), 1);
        assert_eq!(fetch(&store, "SELECT id FROM t", vec![]).len(), 1);
        assert!(counter(&store, "reconnects") >= 2);
    }
}
