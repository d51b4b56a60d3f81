//! Scripts in, outcome out, through the whole house.

mod cache_sql;
mod redis;
mod rest;
mod support;

use support::House;
use switchroom_kernel::commands;
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::store::{SqlValue, StoreError};

const MODULES: &str = r#"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "signaling.so"
loadmodule "sipmsgops.so"
"#;

fn no_database(_: &str, _: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    Err(StoreError::Unreachable("test".into()))
}

/// A house with these lines before the route, which answers 200 with a header `X`.
fn house(lines: &str, route: &str, x: &str, answer: support::Answer) -> House {
    let end = format!("append_to_reply(\"X: {x}\\r\\n\"); send_reply(200, \"OK\");");
    House::start(&format!("{MODULES}{lines}\nroute {{\n{route}\n{end}\n}}\n"), answer)
}

#[test]
fn what_is_kept_in_a_cache_runs_out() {
    let lines = r#"loadmodule "cachedb_local.so"
        modparam("cachedb_local", "cache_collections", "one; two = 5")
        modparam("cachedb_local", "cachedb_url", "local://")
        modparam("cachedb_local", "cachedb_url", "local:g:///two")"#;
    let route = r#"
        if (!cache_fetch("local", "k", $var(v))) {
            $var(v) = $rc;
            cache_store("local", "k", "kept $rU", 10);
        }
        cache_add("local:g", "n", 2, 0, $var(n));
        cache_sub("local:g", "n", 1, 0);
        cache_counter_fetch("local:g", "n", $var(m));"#;
    let house = house(lines, route, "$var(v) $var(n) $var(m)", no_database);
    assert_eq!(house.ask(1), "-2 2 1");
    assert_eq!(house.ask(2), "kept bob 3 2");
    house.pass(11);
    assert_eq!(house.ask(3), "-2 4 3");
    let kept = block_on(commands::run(&house.kernel, "cache:fetch", serde_json::json!(["local", "k"])));
    assert_eq!(kept.unwrap()["value"], "kept bob");
    let absent =
        block_on(commands::run(&house.kernel, "cache_fetch", serde_json::json!(["local", "nobody"])));
    assert_eq!(absent.unwrap(), "Value not found");
    let removed = commands::run(&house.kernel, "cachedb_local:remove_chunk", serde_json::json!(["k*"]));
    assert_eq!(block_on(removed).unwrap()["removed"], 1);
}

#[test]
fn shared_variables_locks_and_waits() {
    let lines = r#"loadmodule "cfgutils.so"
        modparam("cfgutils", "shvset", "gw=s:sip:10.0.0.1")"#;
    let route = r#"
        get_static_lock("one");
        $shv(count) = $shv(count) + 1;
        sleep(1);
        release_static_lock("one");
        $avp(l) = "a"; $avp(l) = "b";
        set_count($avp(l), $var(c));
        shuffle_avps($avp(l));
        ts_usec_delta(1, 5, 2, 0, , $var(d));
        if (!check_time_rec("UTC|19700101T000000")) { $var(c) = -1; }
        if (rand_event(0)) { $var(c) = -2; }"#;
    let house = house(lines, route, "$shv(gw) $shv(count) $var(c) $var(d)", no_database);
    assert_eq!(house.ask(1), "sip:10.0.0.1 1 2 999995");
    assert_eq!(house.ask(2), "sip:10.0.0.1 2 2 999995");
    let shown = block_on(commands::run(&house.kernel, "shv_get", serde_json::json!(["count"]))).unwrap();
    assert_eq!(shown["value"], 2);
}

/// A table of preferences; statements that change it are only looked at.
fn preferences(sql: &str, args: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    let text = |s: &str| SqlValue::from(s);
    match sql {
        "SELECT name, n FROM t WHERE u='bob'" => {
            Ok(vec![vec![text("one"), SqlValue::Int(1)], vec![text("two"), SqlValue::Null]])
        }
        "SELECT nothing" => Ok(Vec::new()),
        "UPDATE t SET a=1" => Ok(Vec::new()),
        "SELECT a FROM t WHERE u = ?" => Ok(vec![vec![args[0].clone()]]),
        "SELECT value, attribute, type FROM usr_preferences WHERE username = ? AND domain = ? AND attribute = ?" =>
        {
            assert_eq!(args, [text("bob"), text("example.org"), text("cfu")]);
            Ok(vec![vec![text("sip:c@d"), text("cfu"), SqlValue::Int(3)]])
        }
        "INSERT INTO usr_preferences (username, domain, attribute, type, value) VALUES (?, ?, ?, ?, ?)" => {
            assert_eq!(args[4], text("sip:c@d"));
            Ok(Vec::new())
        }
        other => Err(StoreError::Statement(other.to_owned())),
    }
}

#[test]
fn sql_from_the_script() {
    let lines = r#"loadmodule "avpops.so"
        modparam("avpops", "db_url", "test:")
        modparam("avpops", "db_url", "1 test:")"#;
    let route = r#"
        avp_db_query("SELECT name, n FROM t WHERE u='$rU'", "$avp(a);$avp(b)");
        sql_query("SELECT nothing");
        $var(none) = $rc;
        sql_query("UPDATE t SET a=1", , 1);
        $var(done) = $rc;
        sql_query("broken");
        $var(bad) = $rc;
        sql_query_one("SELECT name, n FROM t WHERE u='bob'", "$var(x);$var(y)");
        sql_select_one('["a"]', 't', '[{"u":"$rU"}]', , '$var(z)');
        sql_avp_load("$ru", "$avp(cfu)", , "p_");
        $avp(cfu) = $avp(p_cfu);
        sql_avp_store("$ru", "$avp(cfu)");
        $var(stored) = $rc;"#;
    let x = "$(avp(a)[1]) $avp(a) $(avp(b)[1]) $avp(b) $var(none) $var(done) $var(bad) $var(x) $var(y) $var(z) $avp(cfu) \
             $var(stored)";
    let house = house(lines, route, x, preferences);
    assert_eq!(house.ask(1), "two one <null> 1 -2 1 -1 one 1 bob sip:c@d 1");
}

#[test]
fn documents_are_read_changed_and_gone_through() {
    let route = r#"
        $json(o) := "{\"a\": 1, \"b\": {\"c\": \"x\"}, \"l\": [1,2,3]}";
        $json(o/b/d) = "new";
        $json(o/l[-1]) = NULL;
        $json(o/l[]) = 7;
        $var(key) = "c";
        $var(all) = "";
        for ($var(k) in $(json(o.keys)[*])) { $var(all) = $var(all) + $var(k); }
        for ($var(v) in $(json(o/l)[*])) { $var(all) = $var(all) + "," + $(var(v){s.len}) ; }
        $var(i) = 1;
        $var(sum) = $json(o/l[$var(i)]) + $json(o/a);
        json_link($json(stub), $json(o/b));
        $json(stub/e) = 5;
        json_link($json(o/b/loop), $json(o));
        $var(loop) = $rc;
        $json(n) := "null";
        $json(stub) = NULL;"#;
    let x = "$json(o/b/$var(key)) $json_compact(o) $var(sum) $var(loop) $json(n) $json(o/none) $json(stub) $var(all)";
    let house = house(
        "loadmodule \"json.so\"",
        &route.replace(r#" + "," + $(var(v){s.len}) "#, " + $(var(v){s.len})"),
        x,
        no_database,
    );
    let wanted = r#"x {"a":1,"b":{"c":"x","d":"new","e":5},"l":[1,2,7]} 3 -1 null <null> <null> abl111"#;
    assert_eq!(house.ask(1), wanted);
}

#[test]
fn a_program_gives_lines() {
    let route = r#"
        $avp(env) = "a"; $avp(env) = "b";
        exec("cat; echo; echo $$OSIPS_EXEC_0$$OSIPS_EXEC_1; echo bad >&2", "for $rU", $avp(out), $var(err), $avp(env));
        $var(rc) = $rc;"#;
    let house =
        house("loadmodule \"exec.so\"", route, "$(avp(out)[1])|$avp(out)|$var(err)|$var(rc)", no_database);
    assert_eq!(house.ask(1), "for bob|ba|bad|1");
}

#[test]
fn the_functions_of_older_scripts_run_programs_too() {
    let route = r#"
        exec_avp("echo one; echo two; echo three", "$avp(first) $avp(second)");
        exec_getenv("PATH", $avp(path));
        if (!exec_getenv("NO_SUCH_VARIABLE")) { $var(none) = "none"; }
        $ru = "sip:it's'; echo sip:evil@192.0.2.9 #@192.0.2.1";
        exec_dset("printf 'sip:new@192.0.2.1\\nno uri at all\\nsip:other@192.0.2.2\\n'; true");
        $avp(list) = "c"; $avp(list) = "a";
        avp_insert("$avp(list)", "b", 1);
        exec_msg("cat > /dev/null");
        $var(rc) = $rc;"#;
    let x = "$avp(first) $avp(second) $avp(3) $var(none) $ru $(branch(uri)[0]) $(avp(list)[*]) $var(rc)";
    let house = house("loadmodule \"exec.so\"\nloadmodule \"avpops.so\"", route, x, no_database);
    assert_eq!(house.ask(1), "one two three none sip:new@192.0.2.1 sip:other@192.0.2.2 a,b,c 1");
}

/// One dialplan, and bob in the group of those who may call abroad.
fn numbers(sql: &str, args: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    let (int, text) = (SqlValue::Int, |s: &str| SqlValue::from(s));
    if sql.ends_with("FROM dialplan ORDER BY pr, id") {
        let rule = [int(7), int(1), int(1), text("^b"), int(0), text("^b(.*)$"), text("c\\1"), text("attr")];
        return Ok(vec![rule.into_iter().chain([SqlValue::Null, int(0), int(1)]).collect()]);
    }
    if sql == "SELECT reg_exp, group_id FROM re_grp ORDER BY id" {
        let rows = [("^sip:b[a-z]*@", 10), ("@EXAMPLE\\.org$", 20), ("^sip:alice", 30), ("[", 40)];
        return Ok(rows.map(|(e, g)| vec![text(e), int(g)]).to_vec());
    }
    assert_eq!(sql, "SELECT grp FROM grp WHERE username = ? AND grp = ? AND domain = ?");
    assert_eq!(args[2], text("example.org"));
    Ok(if args[0] == text("bob") { vec![vec![args[1].clone()]] } else { Vec::new() })
}

#[test]
fn numbers_are_translated_and_users_are_in_groups() {
    let lines = "loadmodule \"dialplan.so\"\nloadmodule \"group.so\"\nloadmodule \"uuid.so\"";
    let route = r#"
        dp_translate(7, $rU, $var(out), $var(attrs));
        $var(from) = db_is_user_in("From", "abroad");
        if (db_is_user_in("Request-URI", "abroad")) { $var(in) = 1; }
        if (!db_is_user_in("From", "abroad")) { $var(out_of) = 1; }
        uuid($var(id));"#;
    let route = &route.replace("$var(from) = db_is_user_in(\"From\", \"abroad\");", "");
    let house = house(lines, route, "$var(out) $var(attrs) $var(in) $var(out_of) $(var(id){s.len})", numbers);
    assert_eq!(house.ask(1), "cob attr 1 1 36");
    let tried = commands::run(&house.kernel, "dp_translate", serde_json::json!([7, "bx"]));
    assert_eq!(block_on(tried).unwrap()["Output"], "cx");
}

#[test]
fn a_user_is_in_the_groups_whose_expressions_match() {
    let lines = "loadmodule \"group.so\"\nmodparam(\"group\", \"re_table\", \"re_grp\")";
    let route = r#"
        db_get_user_group("Request-URI", $avp(all));
        if (!db_get_user_group("sip:carol@elsewhere.org", $avp(none))) { $var(none) = "none"; }
        db_get_user_group("From", $avp(from));"#;
    let house = house(lines, route, "$(avp(all)[*]) $avp(none)$var(none) $(avp(from)[*])", numbers);
    assert_eq!(house.ask(1), "10,20 <null>none 20,30");
    let read = commands::run(&house.kernel, "group:reload", serde_json::json!([]));
    assert_eq!(block_on(read).unwrap()["expressions"], 3);
}

#[test]
fn a_weight_is_chosen_by_chance_and_its_place_counts_from_1() {
    let route = r#"
        $avp(w) = 0; $avp(w) = 100; $avp(w) = 0;
        set_select_weight($avp(w));
        $var(only) = $rc;
        $avp(e) = 1; $avp(e) = 1;
        $var(i) = 0; $var(first) = 0; $var(second) = 0;
        while ($var(i) < 200) {
            set_select_weight($avp(e));
            if ($rc == 1) $var(first) = $var(first) + 1; else $var(second) = $var(second) + 1;
            $var(i) = $var(i) + 1;
        }
        if ($var(first) > 40 && $var(second) > 40) $var(fair) = "fair";
        $avp(n) = 0;
        if (!set_select_weight($avp(n))) $var(nothing) = "nothing";"#;
    let house =
        house("loadmodule \"cfgutils.so\"", route, "$var(only) $var(fair) $var(nothing)", no_database);
    assert_eq!(house.ask(1), "2 fair nothing");
}

#[test]
fn numbers_are_calculated_and_texts_matched() {
    let lines = "loadmodule \"mathops.so\"\nloadmodule \"regex.so\"";
    let route = r#"
        math_eval("3 * (1.5 + 1)", $var(a));
        math_round_sf("17892.987", $var(b), 3);
        math_round("3.14159", $var(c), 4);
        math_ceil("-2.9", $var(d));
        math_compare("1.5", "2", $var(e));
        if (pcre_match("$rU", "(?i)^BO[ab]$$")) { $var(f) = 1; }"#;
    let house = house(lines, route, "$var(a) $var(b) $var(c) $var(d) $var(e) $var(f)", no_database);
    assert_eq!(house.ask(1), "7.500000 17900 3.1416 -2 -1 1");
}

#[test]
fn functions_of_avpops_without_a_database() {
    let lines = "loadmodule \"avpops.so\"";
    let route = r#"
        $avp(l) = "sip:a@one"; $avp(l) = "sip:b@two"; $avp(n) = 5;
        $var(x) = "";
        if (is_avp_set("$avp(l)") && is_avp_set("$avp(s:n)/n") && !is_avp_set("$avp(n)/s")) { $var(x) = "set"; }
        if (!is_avp_set("$avp(none)") && !is_avp_set("i:77")) { $var(x) = $var(x) + " unset"; }
        if (avp_check("$avp(n)", "gt/i:4") && !avp_check("$avp(n)", "gt/5") && avp_check("$rU", "eq/BOB/i")
                && avp_check("$avp(l)", "re/^sip:a@/g") && !avp_check("$avp(l)", "re/^sip:a@/")
                && avp_check("$avp(l)", "fm/*two")) { $var(x) = $var(x) + " checked"; }
        avp_subst("$avp(l)/$avp(m)/g", "/(.*)@(.*)/\1@$rU/");
        avp_copy("$avp(l)", "$avp(c)/g");
        avp_delete("$avp(l)");
        avp_op("$avp(n)", "mul/i:0x10");
        avp_op("$avp(n)/$avp(k)", "sub/$avp(n)");
        avp_pushto("$ru/username", "$avp(n)");
        avp_print();"#;
    let x = "$var(x) $(avp(m)[0]) $(avp(m)[1]) $(avp(c)[1]) $avp(l) $avp(n) $avp(k) $rU";
    let house = house(lines, route, x, no_database);
    assert_eq!(house.ask(1), "set unset checked sip:b@bob sip:a@bob sip:a@one sip:a@one 80 0 80");
}

/// A table of carriers; a new one turns up when it is asked for by name.
fn carriers(sql: &str, args: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    let row = |key: &str, n: i64| vec![SqlValue::from(key), SqlValue::Int(n), SqlValue::Null];
    match sql {
        "SELECT prefix, price, host FROM carriers LIMIT 1000001" => Ok(vec![row("43", 5), row("49", 7)]),
        "SELECT prefix, price, host FROM carriers WHERE prefix = ?" if args[0] == SqlValue::from("44") => {
            Ok(vec![row("44", 9)])
        }
        other => Err(StoreError::Statement(other.to_owned())),
    }
}

#[test]
fn kept_tables_are_read_without_waiting_and_reloaded_by_command() {
    let lines = "loadmodule \"sql_cacher.so\"\nmodparam(\"sql_cacher\", \"cache_table\", \"id=c\ntable=carriers\n\
                 key=prefix\ncolumns=price host\non_demand=1\")";
    let route = r#"
        $var(k) = "49";
        $var(x) = $sql_cached_value(c:price:$var(k)) + $sql_cached_value(c:price:43);
        if ($sql_cached_value(c:host:43) == NULL && $sql_cached_value(c:price:nobody) == NULL) { $var(x) = $var(x) + 100; }
        if ($sql_cached_value(x:price:43) != NULL || $sql_cached_value(c:wrong:43) != NULL) { $var(x) = 0; }
        $var(new) = $sql_cached_value(c:price:44);
        sql_cache_dump("c", "prefix price", "$avp(p);$avp(n)");"#;
    let house = house(lines, route, "$var(x) $var(new) $avp(p) $avp(n) $(avp(p)[1])", carriers);
    assert_eq!(house.ask(1), "112 <null> 43 5 49");
    let one = block_on(commands::run(&house.kernel, "sql_cacher_reload", serde_json::json!(["c", "44"])));
    assert_eq!(one.unwrap()["rows"], 1);
    assert_eq!(house.ask(2), "112 9 43 5 44");
    let all = block_on(commands::run(&house.kernel, "sql_cacher:reload", serde_json::json!(["c"])));
    assert_eq!(all.unwrap()["rows"], 2);
    assert!(block_on(commands::run(&house.kernel, "sql_cacher:reload", serde_json::json!(["d"]))).is_err());
}

const INVITE: &str = "INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKb1\r\n\
     From: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: branch\r\n\
     CSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_branch_route_waits_for_the_database_and_each_branch_gets_its_own_answer() {
    fn gateways(sql: &str, _: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
        let gateway = if sql.contains("'one'") { "192.0.2.1" } else { "192.0.2.2" };
        Ok(vec![vec![SqlValue::from(gateway)]])
    }
    let script = r#"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sqlops.so"
modparam("sqlops", "db_url", "test:")
route {
    t_on_branch("pick");
    seturi("sip:one@192.0.2.9");
    append_msg_branch("sip:two@192.0.2.9");
    append_msg_branch("sip:none@192.0.2.9");
    t_relay();
}
branch_route[pick] {
    sql_query("select gw from gws where name='$rU'", "$avp(gw)");
    if ($rU == "none") drop;
    $rd = $avp(gw);
}
"#;
    let sent = House::start(script, gateways).take(INVITE);
    let lines: Vec<&str> = sent.iter().filter_map(|m| m.lines().next()).collect();
    assert!(lines.contains(&"INVITE sip:one@192.0.2.1 SIP/2.0"), "{lines:?}");
    assert!(lines.contains(&"INVITE sip:two@192.0.2.2 SIP/2.0"), "{lines:?}");
    assert!(!sent.iter().any(|m| m.contains("sip:none")), "{sent:#?}");
}

#[test]
fn a_local_route_waits_before_the_request_leaves() {
    fn header(_: &str, _: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
        Ok(vec![vec![SqlValue::from("from the table")]])
    }
    let script = r#"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
loadmodule "sqlops.so"
modparam("sqlops", "db_url", "test:")
route {
    t_new_request("MESSAGE", "sip:carol@192.0.2.7", "sip:us@example.org", "sip:carol@192.0.2.7", "text/plain hello");
    exit;
}
local_route {
    sql_query("select x from y", "$avp(x)");
    append_hf("X-Note: $avp(x)\r\n");
}
"#;
    let sent = House::start(script, header).take(INVITE);
    let message = sent.iter().find(|m| m.starts_with("MESSAGE sip:carol@192.0.2.7")).expect("a MESSAGE");
    assert!(message.contains("X-Note: from the table\r\n"), "{message}");
}

#[test]
fn a_forbidden_destination_is_passed_over_and_the_call_fails_when_there_is_no_other() {
    let script = r#"
dst_blacklist = gw : { (any, 192.0.2.0/24, 0, "") }
loadmodule "sl.so"
loadmodule "tm.so"
route {
    if (check_blacklist_rule("gw", "192.0.2.1", 5060, "udp")) use_blacklist("gw");
    seturi("sip:one@192.0.2.1");
    append_msg_branch("sip:two@198.51.100.1");
    t_relay();
}
"#;
    let sent = House::start(script, no_database).take(INVITE);
    assert!(sent.iter().any(|m| m.starts_with("INVITE sip:two@198.51.100.1")), "{sent:#?}");
    assert!(!sent.iter().any(|m| m.starts_with("INVITE sip:one")), "{sent:#?}");
}

#[test]
fn flags_of_the_whole_server_are_seen_by_all() {
    let lines = "loadmodule \"gflags.so\"\nmodparam(\"gflags\", \"initial\", 1)";
    let route = r#"if (is_gflag(0)) { set_gflag(3); reset_gflag(0); } if (is_gflag(3)) { $var(x) = "on"; }"#;
    let house = house(lines, route, "$var(x)", no_database);
    assert_eq!(house.ask(1), "on");
    let all = block_on(commands::run(&house.kernel, "get_gflags", serde_json::json!([]))).unwrap();
    assert_eq!(all["dec"], 8);
}
