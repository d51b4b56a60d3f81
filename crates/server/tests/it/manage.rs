//! Management over HTTP (JSON-RPC 2.0) and with `switchroom mi`, and the commands beside a running server.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::{House, OPEN_CALL, OPEN_REGISTER, PROXY, Setup, program};
use crate::ua::Ua;

fn house() -> House {
    Setup::new(&[PROXY, OPEN_REGISTER, OPEN_CALL]).start()
}

/// Posts to mi_http; gives the status line and the body.
fn post(house: &House, path: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", house.mi)).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn json_rpc_over_http_answers_requests_batches_and_errors() {
    let house = house();
    let call = |body: Value| -> Value {
        let (status, body) = post(&house, "/mi", &body.to_string());
        assert!(status.contains("200"), "{status}");
        serde_json::from_str(&body).unwrap()
    };
    let answer = call(json!({"jsonrpc": "2.0", "method": "which", "id": 7}));
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(7)));
    let names: Vec<&str> = answer["result"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for name in ["which", "uptime", "reload_routes", "usrloc:dump"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    let answer = call(json!({"jsonrpc": "2.0", "method": "no_such_thing", "id": 1}));
    assert_eq!(answer["error"]["code"], json!(-32601), "{answer}");
    let answer = call(json!({"jsonrpc": "2.0", "method": "usrloc:rm", "params": {"nonsense": 1}, "id": 1}));
    assert_eq!(answer["error"]["code"], json!(-32602), "{answer}");
    let batch = call(json!([
        {"jsonrpc": "2.0", "method": "uptime", "id": 1},
        {"jsonrpc": "2.0", "method": "uptime"},
        {"jsonrpc": "1.0", "method": "uptime", "id": 2},
    ]));
    assert_eq!(batch.as_array().map(Vec::len), Some(2), "{batch}");
    let (_, body) = post(&house, "/mi", "{not json");
    assert!(body.contains("-32700"), "{body}");
    let (status, _) = post(&house, "/elsewhere", "{}");
    assert!(status.contains("404"), "{status}");
}

#[test]
fn the_command_line_manages_a_running_server() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    bob.register_here(";q=0.5");
    assert!(house.mi_json(&["uptime"]).is_object());
    let stats = house.mi_json(&["get_statistics", "rcv_requests"]).to_string();
    assert!(stats.contains("rcv_requests\":1"), "{stats}");
    let stats = house.mi_json(&["get_statistics", "registrar:"]).to_string();
    assert!(stats.contains("accepted_regs\":1"), "{stats}");
    let dump = house.mi_json(&["usrloc:dump"]).to_string();
    assert!(dump.contains("bob@127.0.0.1") && dump.contains(&bob.contact()), "{dump}");
    let shown = house.mi_json(&["usrloc:show_contact", "location", "bob@127.0.0.1"]).to_string();
    assert!(shown.contains(&bob.contact()), "{shown}");
    let (good, _, why) = house.mi(&["usrloc:rm", "table_name=location", "aor=bob@127.0.0.1"]);
    assert!(good, "{why}");
    assert!(!house.mi_json(&["usrloc:dump"]).to_string().contains("bob@127.0.0.1"));
    let (good, _, why) = house.mi(&["usrloc:show_contact", "location", "bob@127.0.0.1"]);
    assert!(!good && !why.is_empty());
    let (good, _, why) = house.mi(&["no_such_thing"]);
    assert!(!good && why.contains("no_such_thing"), "{why}");
    // The names of older versions are understood as well.
    let (good, _, why) = house.mi(&["ul_dump"]);
    assert!(good, "{why}");
}

#[test]
fn a_script_is_checked_without_starting_it() {
    let dir = tempdir();
    let file = dir.join("bad.cfg");
    std::fs::write(
        &file,
        "socket=udp:127.0.0.1:5060\nloadmodule \"sl.so\"\nroute {\n    sl_send_replay(200, \"OK\");\n    $ru = $nosuch;\n}\n",
    )
    .unwrap();
    let run = std::process::Command::new(crate::support::PROGRAM).arg("check").arg(&file).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(!run.status.success(), "{text}");
    assert!(text.contains("bad.cfg:4:") && text.contains("sl_send_reply"), "{text}");
    assert!(text.contains("bad.cfg:5:") && text.contains("nosuch"), "all errors in one go: {text}");
    std::fs::write(
        &file,
        "socket=udp:127.0.0.1:5060\nloadmodule \"sl.so\"\nroute { sl_send_reply(200, \"OK\"); }\n",
    )
    .unwrap();
    program(&["check", &file.display().to_string()]);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn subscribers_are_added_listed_changed_and_removed() {
    let dir = tempdir();
    let url = format!("sqlite://{}/users.db", dir.display());
    let user = |args: &[&str]| program(&[&["user", "--url", &url][..], args].concat());
    program(&["db", "--url", &url, "init"]);
    user(&["add", "alice@example.com", "secret"]);
    user(&["add", "bob@example.com", "secret"]);
    assert_eq!(user(&["list"]), "alice@example.com\nbob@example.com\n");
    let file = dir.join("users.db");
    let before = crate::support::sqlite(&file, "select ha1, password from subscriber where username='bob'");
    assert!(before.ends_with('|') && !before.contains("secret"), "only hashes are kept: {before}");
    user(&["passwd", "bob@example.com", "other"]);
    assert_ne!(
        crate::support::sqlite(&file, "select ha1, password from subscriber where username='bob'"),
        before
    );
    user(&["remove", "alice@example.com"]);
    assert_eq!(user(&["list"]), "bob@example.com\n");
    let again = std::process::Command::new(crate::support::PROGRAM)
        .args(["user", "--url", &url, "add", "bob@example.com", "x"])
        .output()
        .unwrap();
    assert!(!again.status.success());
    std::fs::remove_dir_all(&dir).unwrap();
}

fn tempdir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(crate::ua::unique("switchroom-test-"));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn several_statistics_are_asked_for_at_once() {
    let house = Setup::new(&[PROXY, OPEN_REGISTER, OPEN_CALL]).start();
    let both = house.mi_json(&["get_statistics", "rcv_requests", "core:rcv_replies"]);
    assert_eq!(both.as_object().unwrap().len(), 2, "{both}");
    assert!(both["core:rcv_replies"].is_i64(), "{both}");
    assert!(house.mi_json(&["list_statistics", "core:", "tm:"]).as_object().unwrap().len() > 20);
}

#[test]
fn commands_about_memory_pools_say_what_there_is_instead() {
    let house = house();
    for command in ["mem:pkg_dump", "mem:shm_dump", "profiling_proc"] {
        let (good, _, why) = house.mi(&[command]);
        assert!(!good && why.contains("`ps` lists the workers"), "{why}");
    }
    assert!(house.mi(&["ps"]).0);
}
