//! A script on stage: the house of `switchroom test` and `trace-script`, and messages written short.

use std::sync::Arc;
use std::time::Duration;

use switchroom_calls::core::events;
use switchroom_kernel::load::Source;
use switchroom_kernel::ports::store::{SqlValue, StoreDriver};
use switchroom_kernel::run::run_route;
use switchroom_rehearsal::{Answer, Canned, Rehearsal, Setup};
use switchroom_script::names::RouteType;

use crate::catalogue;

/// Rows that the database gives to statements that contain a text.
pub type Rows = Vec<(String, Vec<Vec<SqlValue>>)>;

/// Time at the beginning of every rehearsal: 2026-01-01 12:00 UTC.
const START: u64 = 1_767_268_800;

/// Open a script, run its startup route and start its timers.
pub fn stage(source: Source, rows: Rows, arguments: Vec<(String, String)>) -> Result<Rehearsal, String> {
    let all = catalogue::modules();
    let answer: Answer = Arc::new(move |sql, _| {
        let found = rows.iter().find(|(text, _)| sql.contains(text.as_str()));
        Ok(found.map(|(_, rows)| rows.clone()).unwrap_or_default())
    });
    let schemes = ["sqlite", "mysql", "postgres", "text", "db", "unixodbc", "http"];
    let stores = schemes.map(|s| Arc::new(Canned::new(s, &all, answer.clone())) as Arc<dyn StoreDriver>);
    let stage = Rehearsal::open(Setup {
        source,
        catalogue: &all,
        always: catalogue::ALWAYS,
        stores: stores.to_vec(),
        arguments,
        unix: START,
    })?;
    events::subscribe_routes(&stage.kernel);
    let program = stage.kernel.program.load_full();
    if let Some(route) = program.find(RouteType::Startup, None) {
        run_route(events::dummy(&stage.shard, RouteType::Startup), &program, route, |_, _| {});
    }
    for info in program.routes().filter(|r| r.kind == RouteType::Timer) {
        let id = info.id;
        let period = Duration::from_secs(u64::from(info.interval.max(1)));
        stage.kernel.every(period, move |kernel| async move {
            // The mailbox of a rehearsal holds more than its timers can fill.
            let _ = kernel.on_worker(0, move |shard| {
                let program = shard.kernel.program.load_full();
                run_route(events::dummy(shard, RouteType::Timer), &program, id, |_, _| {});
            });
        });
    }
    stage.settle();
    Ok(stage)
}

/// A whole request from its first lines: what every request needs is added when it is missing.
pub fn request(lines: &str, from: std::net::SocketAddr, number: usize) -> String {
    let (head, body) = split(lines);
    let mut head: Vec<String> = head.lines().map(str::to_owned).collect();
    let first = head.first().cloned().unwrap_or_default();
    if !first.ends_with("SIP/2.0")
        && let Some(line) = head.first_mut()
    {
        line.push_str(" SIP/2.0");
    }
    let mut words = first.split_whitespace();
    let (method, uri) =
        (words.next().unwrap_or("INVITE").to_owned(), words.next().unwrap_or("sip:bob@example.org"));
    let uri = uri.to_owned();
    let mut need = |name: &str, value: String| {
        let there = |l: &String| l.split(':').next().is_some_and(|n| n.trim().eq_ignore_ascii_case(name));
        if !head.iter().skip(1).any(there) {
            head.push(format!("{name}: {value}"));
        }
    };
    need("Via", format!("SIP/2.0/UDP {from};branch=z9hG4bKtest{number};rport"));
    need("From", format!("<sip:alice@example.org>;tag=from{number}"));
    need("To", format!("<{uri}>"));
    need("Call-ID", format!("test{number}@switchroom"));
    need("CSeq", format!("1 {method}"));
    need("Max-Forwards", "70".into());
    need("Contact", format!("<sip:alice@{from}>"));
    need("Content-Length", body.len().to_string());
    format!("{}\r\n\r\n{body}", head.join("\r\n"))
}

/// A reply to a request that was sent, from its status line and further lines.
pub fn reply(lines: &str, to: &str, tag: usize) -> String {
    let (head, body) = split(lines);
    let mut given = head.lines();
    let first = given.next().unwrap_or("SIP/2.0 200 OK");
    let first = if first.starts_with("SIP/2.0") { first.to_owned() } else { format!("SIP/2.0 {first}") };
    let mut all = vec![first];
    for line in to.lines().take_while(|l| !l.is_empty()) {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            "via" | "from" | "call-id" | "cseq" | "record-route" => all.push(line.to_owned()),
            "to" if line.contains(";tag=") => all.push(line.to_owned()),
            "to" => all.push(format!("{line};tag=to{tag}")),
            _ => {}
        }
    }
    all.extend(given.map(str::to_owned));
    all.push(format!("Content-Length: {}", body.len()));
    format!("{}\r\n\r\n{body}", all.join("\r\n"))
}

/// Head and body, with the line ends of SIP in the body.
fn split(lines: &str) -> (&str, String) {
    match lines.split_once("\n\n") {
        Some((head, body)) => (head, body.trim_end().lines().map(|l| format!("{l}\r\n")).collect()),
        None => (lines.trim_end(), String::new()),
    }
}
