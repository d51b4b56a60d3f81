//! The functions of the cache on tables of real databases.

use std::sync::Arc;

use switchroom_data::sqlite::SqliteDriver;
use switchroom_data::{mysql, postgres, schema};
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::store::{StoreDriver, StoreError, StoreOptions};
use switchroom_testkit::Database;

use crate::support::House;

const ROUTE: &str = r#"
    $var(a) = cache_fetch("ID", "k", $var(v));
    cache_store("ID", "k", "it's $rU", 10);
    cache_fetch("ID", "k", $var(v));
    cache_add("ID", "n", 5, 10, $var(n));
    cache_sub("ID", "n", 2, 0, $var(n));
    cache_counter_fetch("ID", "n", $var(m));
    cache_remove("ID", "gone");
    $var(x) = "$var(a) $var(v) $var(n) $var(m)";"#;

fn works_on(driver: Arc<dyn StoreDriver>, url: &str) {
    let create = StoreOptions::from([("create".to_owned(), vec!["1".to_owned()])]);
    let store = block_on(driver.open(url, &create)).unwrap();
    block_on(schema::create_all(&*store)).unwrap();
    let id = format!("sql:one-{}", driver.scheme());
    let script = format!(
        "loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"signaling.so\"\nloadmodule \"sipmsgops.so\"\n\
         loadmodule \"cachedb_sql.so\"\nmodparam(\"cachedb_sql\", \"cachedb_url\", \"sql:one-{url}\")\n\
         modparam(\"cachedb_sql\", \"cache_clean_period\", 0)\n\
         route {{\n{}\nappend_to_reply(\"X: $var(x)\\r\\n\"); send_reply(200, \"OK\");\n}}\n",
        ROUTE.replace("ID", &id)
    );
    let no_database = |_: &str, _: &[_]| Err(StoreError::Unreachable("test".into()));
    let house = House::with(&script, no_database, |drivers| drivers.stores = vec![driver]);
    assert_eq!(house.ask(1), "-2 it's bob 3 3", "{id}");
    assert_eq!(house.ask(2), "1 it's bob 6 6", "{id}");
    house.pass(11);
    assert_eq!(house.ask(3), "-2 it's bob 3 3", "{id}");
}

#[test]
fn a_table_of_sqlite_is_a_key_value_store() {
    let file = std::env::temp_dir().join(format!("cachedb-{}.db", std::process::id()));
    works_on(Arc::new(SqliteDriver::start().unwrap()), &format!("sqlite://{}", file.display()));
    let _ = std::fs::remove_file(file);
}

#[test]
fn a_table_of_mariadb_is_a_key_value_store() {
    let server = Database::mariadb();
    server.sql("mysql", "CREATE DATABASE sip");
    works_on(mysql::driver().unwrap(), &server.url("sip"));
}

#[test]
fn a_table_of_postgresql_is_a_key_value_store() {
    let server = Database::postgres();
    server.sql("postgres", "CREATE DATABASE sip");
    works_on(postgres::driver().unwrap(), &server.url("sip"));
}
