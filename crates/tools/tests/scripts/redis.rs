//! Scripts with a real Redis server.

use serde_json::json;
use switchroom_kernel::commands;
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::store::StoreError;
use switchroom_net::dns::{DnsConfig, resolver};
use switchroom_net::streams::streams;
use switchroom_net::timers::Control;
use switchroom_testkit::Database;

use crate::support::House;

fn house(control: &Control, url: &str, params: &str, route: &str) -> House {
    let handle = control.handle();
    let streams = streams(&handle, resolver(DnsConfig::default(), &handle).unwrap());
    let script = format!(
        "loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"signaling.so\"\nloadmodule \"sipmsgops.so\"\n\
         loadmodule \"cachedb_redis.so\"\nmodparam(\"cachedb_redis\", \"cachedb_url\", \"{url}\")\n{params}\n\
         route {{\n{route}\nappend_to_reply(\"X: $var(x)\\r\\n\"); send_reply(200, \"OK\");\n}}\n"
    );
    let no_database = |_: &str, _: &[_]| Err(StoreError::Unreachable("test".into()));
    House::with(&script, no_database, |drivers| {
        drivers.streams = streams;
        drivers.clock = handle.clock();
    })
}

const ROUTE: &str = r#"
    $var(a) = cache_fetch("redis:g", "k", $var(v));
    if (!cache_store("redis:g", "k", "a b\"c", 100)) { $var(a) = "no store"; }
    cache_fetch("redis:g", "k", $var(v));
    cache_add("redis:g", "n", 5, 100, $var(n));
    cache_sub("redis:g", "n", 2, 0, $var(n));
    cache_counter_fetch("redis:g", "n", $var(m));
    cache_raw_query("redis:g", "HSET h one 1 two 'second value'");
    cache_raw_query("redis:g", "HGET h two", "$avp(two)");
    cache_raw_query("redis:g", "HKEYS h", "$avp(keys)");
    $var(none) = cache_raw_query("redis:g", "HGET h three", "$avp(none)");
    $var(wrong) = cache_raw_query("redis:g", "NONSENSE");
    cache_remove("redis:g", "k");
    $var(gone) = cache_fetch("redis:g", "k", $var(w));
    $var(x) = "$var(a) $var(v) $var(n) $var(m) $avp(two) $(avp(keys)[1]) $avp(keys) $var(none) $var(wrong) $var(gone)";"#;

#[test]
fn every_function_of_the_cache_works_on_redis() {
    let (control, server) = (Control::start().unwrap(), Database::redis());
    let url = format!("redis:g://localhost:{}/3", server.port());
    let house = house(&control, &url, "modparam(\"cachedb_redis\", \"shutdown_on_error\", 1)", ROUTE);
    assert_eq!(house.ask(1), "-2 a b\"c 3 3 second value one two -2 -1 -2");
    assert_eq!(server.sql("3", "GET n"), "3");
    assert_eq!(server.sql("3", "TTL n"), "100");
    let ping = commands::run(&house.kernel, "redis_ping_nodes", json!(["g"]));
    assert_eq!(block_on(ping).unwrap()["groups"][0]["nodes"][0]["reachable"], true);
    assert!(house.kernel.stats.get("redis_queries").is_some_and(|n| n >= 12));
}

#[test]
fn a_redis_that_restarts_hangs_or_is_gone_holds_up_nothing_and_heals() {
    let (control, mut server) = (Control::start().unwrap(), Database::redis());
    // The first server of the group is not there.
    let url = format!("redis://127.0.0.1:1,127.0.0.1:{}/", server.port());
    let params = "modparam(\"cachedb_redis\", \"connect_timeout\", 300)\n\
                  modparam(\"cachedb_redis\", \"query_timeout\", 300)";
    let route = "cache_store(\"redis\", \"k\", \"v\"); $var(x) = cache_fetch(\"redis\", \"k\", $var(v));";
    let house = house(&control, &url, params, route);
    assert_eq!(house.ask(1), "1");
    server.restart();
    assert_eq!(house.ask(2), "1");
    server.freeze();
    assert_eq!(house.ask(3), "-1");
    server.thaw();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(house.ask(4), "1");
    server.kill();
    assert_eq!(house.ask(5), "-1");
}

#[test]
fn a_cluster_tells_where_a_key_is() {
    let control = Control::start().unwrap();
    let server = Database::redis_cluster();
    let route =
        "cache_store(\"redis:c\", \"k$rU\", \"v\"); $var(x) = cache_fetch(\"redis:c\", \"k$rU\", $var(v));";
    let house = house(&control, &format!("redis:c://127.0.0.1:{}/", server.port()), "", route);
    assert_eq!(house.ask(1), "1");
    let learned = block_on(commands::run(&house.kernel, "redis_cluster_refresh", json!(["redis:c"])));
    assert_eq!(learned.unwrap()["groups"][0]["slots"], 16_384);
    let info = block_on(commands::run(&house.kernel, "redis_cluster_info", json!([]))).unwrap();
    assert_eq!(info["groups"][0]["nodes"][0]["slots"], 16_384);
    assert_eq!(house.ask(2), "1");
}

#[test]
fn a_redis_on_a_unix_socket_is_reached() {
    let (control, server) = (Control::start().unwrap(), Database::redis());
    let url = format!("redis:g://localhost/3?socket={}/redis.sock", server.dir().display());
    let params =
        "modparam(\"cachedb_redis\", \"shutdown_on_error\", 1)\nmodparam(\"cachedb_redis\", \"use_tls\", 1)";
    let house = house(&control, &url, params, ROUTE);
    assert_eq!(house.ask(1), "-2 a b\"c 3 3 second value one two -2 -1 -2");
    assert_eq!(server.sql("3", "GET n"), "3");
}
