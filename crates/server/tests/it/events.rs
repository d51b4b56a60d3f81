//! Events that leave the house, and management that comes in datagrams.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchroom_testkit::free_port;

use crate::support::{House, Setup};
use crate::ua::{Call, Ua};

const RAISE: &str = r#"
route {
    $avp(names) = "user";
    $avp(names) = "length";
    $avp(values) = $rU;
    $avp(values) = $ml;
    raise_event("E_ASKED", $avp(names), $avp(values));
    sl_send_reply(200, "OK");
    exit;
}
"#;
const SECONDS: Duration = Duration::from_secs(5);

fn ask(house: &House, user: &str) {
    let mut ua = Ua::new("alice", house.addr);
    let call = Call { to: format!("sip:{user}@127.0.0.1"), ..Call::new("alice", user) };
    let text = ua.request("OPTIONS", &call.to, &call, "");
    ua.send(text);
    ua.expect_reply(200, &call);
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + SECONDS;
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn events_go_as_datagrams_to_udp_and_unix_sockets() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(SECONDS)).unwrap();
    let port = udp.local_addr().unwrap().port();
    let startup = format!("startup_route {{ subscribe_event(\"E_ASKED\", \"udp:127.0.0.1:{port}\"); }}");
    let house = Setup::new(&[RAISE, &startup]).params("loadmodule \"event_datagram.so\"").start();
    let path = house.dir.join("events.sock");
    let unix = UnixDatagram::bind(&path).unwrap();
    unix.set_read_timeout(Some(SECONDS)).unwrap();
    let address = format!("unix:{}", path.display());
    let (good, _, why) = house.mi(&["evi:subscribe", "E_ASKED", &address, "60"]);
    assert!(good, "{why}");
    ask(&house, "bob");
    let mut buffer = [0; 2000];
    for n in [udp.recv(&mut buffer).unwrap(), unix.recv(&mut buffer).unwrap()] {
        let told: Value = serde_json::from_slice(&buffer[..n]).unwrap();
        assert_eq!((&told["jsonrpc"], &told["method"]), (&json!("2.0"), &json!("E_ASKED")), "{told}");
        assert_eq!(told["params"]["user"], json!("bob"), "{told}");
        assert!(told.get("id").is_none() && told["params"]["length"].is_number(), "{told}");
    }
    // Once more at the same address renews it.
    assert!(house.mi(&["evi:subscribe", "E_ASKED", &address, "1"]).0);
    let subscribers = house.mi_json(&["evi:subscribers", "E_ASKED"]);
    let told = subscribers["Event"]["subscribers"].as_array().unwrap();
    assert_eq!(
        (told.len(), &told[0]["expire"], &told[1]["expire"]),
        (2, &json!("never"), &json!(1)),
        "{told:?}"
    );
    let one = house.mi_json(&["evi:subscribers", "E_ASKED", &address]);
    assert_eq!(one["Event"]["Subscriber"]["socket"], json!(address));
    wait_for("the subscription ends", || {
        house.mi_json(&["evi:subscribers", "E_ASKED"])["Event"]["subscribers"].as_array().unwrap().len() == 1
    });
    let all = house.mi_json(&["evi:subscribers"]);
    assert!(all["Events"].as_array().unwrap().iter().any(|e| e["name"] == "E_ASKED"), "{all}");
    let (good, _, why) = house.mi(&["evi:subscribe", "E_ASKED", "rabbitmq:127.0.0.1:5672/x"]);
    assert!(!good && why.contains("there are: udp, unix"), "{why}");
}

/// Takes connections and gives each line; with `answer`, as a JSON-RPC server does.
fn json_rpc(listener: TcpListener, answer: bool) -> std::sync::mpsc::Receiver<Value> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut back = stream.try_clone().unwrap();
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                let request: Value = serde_json::from_str(&line).unwrap();
                if answer {
                    let reply = json!({"jsonrpc": "2.0", "result": 8, "id": request["id"]});
                    back.write_all(reply.to_string().as_bytes()).unwrap();
                }
                if tell.send(request).is_err() {
                    return;
                }
            }
        }
    });
    told
}

#[test]
fn events_go_as_json_rpc_and_are_taken_up_by_the_next_server_when_one_fails() {
    let dead = free_port();
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = second.local_addr().unwrap().port();
    let told = json_rpc(second, true);
    let startup = format!(
        "startup_route {{ subscribe_event(\"E_ASKED\", \
         \"virtual:FAILOVER tcp:127.0.0.1:{dead}/first tcp:127.0.0.1:{port}/second\"); }}"
    );
    let house = Setup::new(&[RAISE, &startup])
        .params(
            "loadmodule \"event_stream.so\"\nloadmodule \"event_virtual.so\"\n\
             modparam(\"event_stream\", \"reliable_mode\", 1)\nmodparam(\"event_stream\", \"event_param\", \"event\")",
        )
        .start();
    for user in ["bob", "carol"] {
        ask(&house, user);
        let request = told.recv_timeout(SECONDS).unwrap();
        assert_eq!(request["method"], "second");
        assert_eq!(
            (&request["params"]["event"], &request["params"]["user"]),
            (&json!("E_ASKED"), &json!(user))
        );
        assert!(request["id"].is_u64() && request["params"]["length"].is_u64(), "{request}");
    }
    wait_for("both are counted", || {
        let virtuals = house.mi_json(&["get_statistics", "event_virtual:"]);
        let streams = house.mi_json(&["get_statistics", "event_stream:"]);
        // The first server was tried once and then left alone.
        virtuals["event_virtual:sent"] == 2
            && streams["event_stream:failed"] == 1
            && streams["event_stream:sent"] == 2
    });
}

#[test]
fn notifications_take_turns_and_a_broken_connection_is_opened_again() {
    let (one, two) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = [&one, &two].map(|l| l.local_addr().unwrap().port());
    let startup = format!(
        "startup_route {{ subscribe_event(\"E_ASKED\", \
         \"virtual:ROUND-ROBIN tcp:127.0.0.1:{} tcp:127.0.0.1:{}\"); }}",
        ports[0], ports[1]
    );
    let house = Setup::new(&[RAISE, &startup])
        .params("loadmodule \"event_stream.so\"\nloadmodule \"event_virtual.so\"")
        .start();
    let told = json_rpc(two, false);
    let read_one = |expect: &str| {
        let (stream, _) = one.accept().unwrap();
        stream.set_read_timeout(Some(SECONDS)).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let request: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (request["method"].as_str(), request["params"]["user"].as_str()),
            (Some("E_ASKED"), Some(expect))
        );
        assert!(request.get("id").is_none(), "{request}");
    };
    ask(&house, "a");
    read_one("a");
    ask(&house, "b");
    assert_eq!(told.recv_timeout(SECONDS).unwrap()["params"]["user"], "b");
    // The first one's connection was closed by then.
    ask(&house, "c");
    read_one("c");
    ask(&house, "d");
    assert_eq!(told.recv_timeout(SECONDS).unwrap()["params"]["user"], "d");
}

#[test]
fn events_are_written_to_files_that_rotate() {
    const FLAT: &str = r#"
startup_route { subscribe_event("E_ASKED", "flatstore:{dir}/asked"); }
event_route[E_FLATSTORE_ROTATION] { xlog("rotated for $param(reason)\n"); }
"#;
    let house = Setup::new(&[RAISE, FLAT])
        .params(
            "xlog_level=3\nlog_level=3\nloadmodule \"event_flatstore.so\"\nmodparam(\"event_flatstore\", \"rotate_count\", 2)\n\
             modparam(\"event_flatstore\", \"delimiter\", \";\")",
        )
        .start();
    let path = house.dir.join("asked");
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    for user in ["bob", "carol", "dora"] {
        ask(&house, user);
    }
    house.expect_log("rotated for count");
    wait_for("the third line is in a new file", || lines(&path) == 1);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("E_ASKED;dora;"));
    let moved = house.dir.join("moved");
    std::fs::rename(&path, &moved).unwrap();
    let (good, _, why) = house.mi(&["event_flatstore:rotate", &path.display().to_string()]);
    assert!(good, "{why}");
    ask(&house, "eve");
    wait_for("a new file is begun", || lines(&path) == 1);
    assert_eq!(lines(&moved), 1);
    assert!(!house.mi(&["event_flatstore:rotate", "/no/such/file"]).0);
}

#[test]
fn events_go_as_lines_of_text_to_listeners_of_before() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(SECONDS)).unwrap();
    let port = udp.local_addr().unwrap().port();
    let startup = format!("startup_route {{ subscribe_event(\"E_ASKED\", \"udp:127.0.0.1:{port}\"); }}");
    let module = "loadmodule \"event_datagram.so\"\nmodparam(\"event_datagram\", \"plain_text\", 1)";
    let house = Setup::new(&[RAISE, &startup]).params(module).start();
    ask(&house, "bob");
    let mut buffer = [0; 2000];
    let n = udp.recv(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
    assert!(text.starts_with("E_ASKED\nuser::bob\nlength::") && text.ends_with('\n'), "{text}");
}

#[test]
fn management_takes_datagrams_over_unix_sockets_and_udp() {
    let port = free_port();
    for (name, local) in [("{dir}/mi.sock".to_owned(), false), (format!("udp:127.0.0.1:{port}"), true)] {
        let house = Setup::new(&["route { exit; }"])
            .params(&format!(
                "loadmodule \"mi_datagram.so\"\nmodparam(\"mi_datagram\", \"socket_name\", \"{name}\")\n\
                 modparam(\"mi_datagram\", \"socket_buf_size\", 512)"
            ))
            .start();
        let mut buffer = [0; 70_000];
        let mut exchange: Box<dyn FnMut(&str) -> Value> = if local {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(SECONDS)).unwrap();
            Box::new(move |text| {
                socket.send_to(text.as_bytes(), ("127.0.0.1", port)).unwrap();
                let n = socket.recv(&mut buffer).unwrap();
                serde_json::from_slice(&buffer[..n]).unwrap()
            })
        } else {
            let socket = UnixDatagram::bind(house.dir.join("own.sock")).unwrap();
            socket.set_read_timeout(Some(SECONDS)).unwrap();
            let to = house.dir.join("mi.sock");
            wait_for("the socket is there", || to.exists());
            Box::new(move |text| {
                socket.send_to(text.as_bytes(), &to).unwrap();
                let n = socket.recv(&mut buffer).unwrap();
                serde_json::from_slice(&buffer[..n]).unwrap()
            })
        };
        let answer = exchange(r#"{"jsonrpc":"2.0","method":"version","id":"7"}"#);
        assert!(answer["id"] == "7" && answer["result"].is_object(), "{answer}");
        assert_eq!(exchange("{")["error"]["code"], -32700);
        // Too long for the buffer that was set.
        let long = exchange(r#"{"jsonrpc":"2.0","method":"which","id":8}"#);
        assert!(long["id"] == 8 && long["error"]["message"].as_str().unwrap().contains("mi_http"), "{long}");
    }
}

#[test]
fn scripts_say_what_is_ready_and_how_long_it_took() {
    const ROUTES: &str = r#"
startup_route { sr_set_status("list", -1, "loading"); }
event_route[E_CORE_SR_STATUS_CHANGED] { xlog("changed: $param(group) $param(old_status) $param(new_status)\n"); }
route {
    bm_start_timer("piece");
    sr_add_report("list", "asked for $rU");
    sr_set_status("list", 0, "loaded");
    if (sr_set_status("unknown", 1)) xlog("unexpected\n");
    bm_log_timer("piece");
    if ($BM_time_diff >= 0) sl_send_reply(200, "OK");
}
"#;
    let house = Setup::new(&[ROUTES])
        .params(
            "loadmodule \"status_report.so\"\nloadmodule \"benchmark.so\"\nmodparam(\"benchmark\", \"granularity\", 0)\n\
             modparam(\"benchmark\", \"enable\", 1)\nmodparam(\"status_report\", \"script_sr_group\", \"list\")",
        )
        .start();
    let before = house.mi_json(&["status_report:get", "list"]);
    assert_eq!((&before["Readiness"], &before["Details"]), (&json!(false), &json!("loading")));
    ask(&house, "bob");
    let after = house.mi_json(&["status_report:get", "list"]);
    assert_eq!((&after["Readiness"], &after["Status"]), (&json!(true), &json!(1)));
    assert_eq!(house.mi_json(&["sr_get_status", "list"]), after);
    let reports = house.mi_json(&["status_report:reports", "list"]).to_string();
    assert!(reports.contains("asked for bob"), "{reports}");
    let timers = house.mi_json(&["bm_poll_results"]);
    assert!(timers["Timers"]["piece"]["current"].as_str().unwrap().starts_with("1/"), "{timers}");
    let again = house.mi_json(&["benchmark:poll_results"]);
    assert!(again["Timers"]["piece"]["current"].as_str().unwrap().starts_with("0/"), "{again}");
    assert!(again["Timers"]["piece"]["global"].as_str().unwrap().starts_with("1/"), "{again}");
}
