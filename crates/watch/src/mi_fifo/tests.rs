//! The module on real FIFOs.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value as Json, json};
use switchroom_kernel::module::{Command, Module};

use super::MODULE;
use crate::testing::{close, house};

static ECHO: Module = Module {
    name: "echo",
    commands: &[Command {
        name: "echo:back",
        old_names: &["echo"],
        args: "text",
        help: "",
        run: |call| Box::pin(async move { Ok(Json::Object(call.args)) }),
    }],
    ..Module::EMPTY
};

fn script(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "loadmodule \"echo.so\"\nloadmodule \"mi_fifo.so\"\n\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/commands\")\n\
         modparam(\"mi_fifo\", \"fifo_mode\", 0600)\n\
         modparam(\"mi_fifo\", \"reply_dir\", \"{dir}\")\nroute {{ exit; }}\n"
    )
}

fn write(dir: &Path, text: &str) {
    let mut fifo = OpenOptions::new().write(true).open(dir.join("commands")).unwrap();
    fifo.write_all(text.as_bytes()).unwrap();
}

fn ask(dir: &Path, request: &str) -> Json {
    let reply = dir.join("answer");
    mknodat(CWD, &reply, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    write(dir, &format!(":answer:{request}"));
    let mut text = String::new();
    std::fs::File::open(&reply).unwrap().read_to_string(&mut text).unwrap();
    std::fs::remove_file(&reply).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn commands_are_answered_on_the_fifo_of_the_asker() {
    let dir = tempfile::tempdir().unwrap();
    let (kernel, _) = house(&script(dir.path()), &[&ECHO, &MODULE]).unwrap();
    for round in 0..3 {
        let request = json!({"jsonrpc": "2.0", "method": "echo", "params": [round.to_string()], "id": round});
        let answer = ask(dir.path(), &request.to_string());
        assert_eq!(answer, json!({"jsonrpc": "2.0", "result": {"text": round.to_string()}, "id": round}));
    }
    let long = "x".repeat(200_000);
    let request = json!({"jsonrpc": "2.0", "method": "echo:back", "params": {"text": long}, "id": 9});
    assert_eq!(ask(dir.path(), &request.to_string())["result"]["text"], json!(long));
    assert_eq!(ask(dir.path(), "{no json}\n")["error"]["code"], json!(-32700));
    let unknown = json!({"jsonrpc": "2.0", "method": "nothing", "id": "a"});
    assert_eq!(ask(dir.path(), &unknown.to_string())["error"]["code"], json!(-32601));
    close(&kernel);
    assert!(!dir.path().join("commands").exists(), "the FIFO is removed at the end");
}

#[test]
fn an_answer_that_nobody_reads_or_that_would_leave_the_folder_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let (kernel, _) = house(&script(dir.path()), &[&ECHO, &MODULE]).unwrap();
    let unread = dir.path().join("unread");
    mknodat(CWD, &unread, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "precious").unwrap();
    let request = json!({"jsonrpc": "2.0", "method": "echo", "params": ["a"], "id": 1}).to_string();
    write(dir.path(), &format!(":unread:{request}:plain:{request}:../../x:{request}::{request}\n"));
    assert_eq!(ask(dir.path(), &request)["id"], json!(1));
    assert_eq!(std::fs::read_to_string(&plain).unwrap(), "precious");
    close(&kernel);
}
