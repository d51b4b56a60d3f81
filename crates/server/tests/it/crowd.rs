//! Many calls that wait at once while their phones register one after the other: every phone joins its own call and no other,
//! and what it costs compared with the same calls to phones that are there already. Two hundred calls as a test; for a
//! measurement with 2,000 registrations a second `SWITCHROOM_CROWD=10000 cargo nextest run -p switchroom-server crowd --no-capture`, where the program of
//! `SWITCHROOM_PROGRAM` takes the place of the one under test.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use switchroom_testkit::peer::{header, headers, response};
use switchroom_testkit::{Server, free_port};

use crate::support::{OPEN_REGISTER, PROGRAM, PROXY, Setup};

static CALLS: LazyLock<usize> =
    LazyLock::new(|| std::env::var("SWITCHROOM_CROWD").ok().and_then(|n| n.parse().ok()).unwrap_or(200));
/// Each second; a fifth of the crowd, so that a small one comes at a pace that a debug build keeps.
fn registers_per_second() -> u32 {
    (*CALLS as u32 / 5).max(100)
}

fn calls_per_second() -> u32 {
    registers_per_second() / 2
}

const WAITING: &str = r#"
route[call] {
    record_route();
    t_newtran();
    t_wait_for_new_branches();
    $avp(filter) = "aor=" + $rU;
    notify_on_event("E_UL_CONTACT_INSERT", $avp(filter), "fork_call", 100);
    if (lookup("location"))
        route(relay);
    exit;
}
route[fork_call] {
    t_inject_branches("event");
}
"#;

const PLAIN: &str = r#"
route[call] {
    record_route();
    t_newtran();
    if (lookup("location"))
        route(relay);
    t_reply(404, "Not Found");
}
"#;

/// What came to the phones and to the callers.
#[derive(Default)]
struct Seen {
    /// Call-ID of the INVITE that each user got, and when.
    rang: Mutex<HashMap<String, Vec<(String, Instant)>>>,
    trying: AtomicUsize,
    answered: AtomicUsize,
    /// Those that were answered.
    calls: Mutex<HashSet<String>>,
    registered: AtomicUsize,
    stop: AtomicBool,
}

struct Town {
    server: Server,
    at: SocketAddr,
    mi: u16,
    phones: Arc<UdpSocket>,
    callers: Arc<UdpSocket>,
    seen: Arc<Seen>,
}

fn town(routes: &str) -> Town {
    let (sip, mi) = (free_port(), free_port());
    let lines = "loadmodule \"event_routing.so\"\nmodparam(\"usrloc\", \"use_domain\", 0)\nmodparam(\"tm\", \"fr_inv_timeout\", 120)";
    let script = Setup::new(&[PROXY, OPEN_REGISTER, routes]).params(lines).script_for(sip, mi);
    let program = std::env::var("SWITCHROOM_PROGRAM").unwrap_or_else(|_| PROGRAM.to_owned());
    let server = Server::builder(&program).config(&script).ready("ready").start();
    let socket = || Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let (phones, callers, seen) = (socket(), socket(), Arc::new(Seen::default()));
    for (socket, is_phone) in [(phones.clone(), true), (callers.clone(), false)] {
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let seen = seen.clone();
        std::thread::spawn(move || listen(&socket, &seen, is_phone));
    }
    Town { server, at: SocketAddr::from(([127, 0, 0, 1], sip)), mi, phones, callers, seen }
}

fn listen(socket: &UdpSocket, seen: &Seen, is_phone: bool) {
    let mut buffer = [0; 65_536];
    while !seen.stop.load(Relaxed) {
        let Ok((n, from)) = socket.recv_from(&mut buffer) else { continue };
        let text = String::from_utf8_lossy(&buffer[..n]);
        if is_phone && text.starts_with("INVITE sip:") {
            let now = Instant::now();
            let user = text[11..].split('@').next().unwrap_or_default().to_owned();
            let call = header(&text, "Call-ID").unwrap_or_default().to_owned();
            seen.rang.lock().expect("a lock").entry(user).or_default().push((call, now));
            let contact = format!("Contact: <sip:x@{}>\r\n", socket.local_addr().expect("an address"));
            let answer = response(&text, "200 OK", "phone", &contact);
            let _ = socket.send_to(answer.as_bytes(), from);
        } else if is_phone && text.starts_with("SIP/2.0 200") {
            seen.registered.fetch_add(1, Relaxed);
        } else if text.starts_with("SIP/2.0 100") {
            seen.trying.fetch_add(1, Relaxed);
        } else if text.starts_with("SIP/2.0 200") && !is_phone {
            let get = |name: &str| header(&text, name).unwrap_or_default();
            // A phone repeats its answer until the ACK has come.
            let is_new = seen.calls.lock().expect("a lock").insert(get("Call-ID").to_owned());
            seen.answered.fetch_add(is_new.into(), Relaxed);
            let mut routes: Vec<&str> = headers(&text, "Record-Route").collect();
            routes.reverse();
            let routes: String = routes.iter().map(|r| format!("Route: {r}\r\n")).collect();
            let target = get("Contact").split(['<', '>']).nth(1).unwrap_or_default().to_owned();
            let ack = format!(
                "ACK {target} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKack{}\r\nMax-Forwards: 70\r\n{routes}\
                 From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
                socket.local_addr().expect("an address"),
                get("Call-ID"),
                get("From"),
                get("To"),
                get("Call-ID"),
            );
            let _ = socket.send_to(ack.as_bytes(), from);
        }
    }
}

impl Town {
    fn pace(per_second: u32, send: impl Fn(usize)) -> Duration {
        let start = Instant::now();
        for i in 0..*CALLS {
            let due = start + Duration::from_secs_f64(i as f64 / f64::from(per_second));
            if let Some(wait) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            send(i);
        }
        start.elapsed()
    }

    fn call_all(&self) {
        let own = self.callers.local_addr().expect("an address");
        Self::pace(calls_per_second(), |i| {
            let text = format!(
                "INVITE sip:u{i}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKcall{i}\r\nMax-Forwards: 70\r\n\
                 From: <sip:c{i}@127.0.0.1>;tag=f{i}\r\nTo: <sip:u{i}@127.0.0.1>\r\nCall-ID: crowd-{i}\r\nCSeq: 1 INVITE\r\n\
                 Contact: <sip:c{i}@{own}>\r\nContent-Length: 0\r\n\r\n"
            );
            self.callers.send_to(text.as_bytes(), self.at).expect("a way");
        });
    }

    /// Registers all; when each REGISTER was sent.
    fn register_all(&self) -> Vec<Instant> {
        let own = self.phones.local_addr().expect("an address");
        let sent = Mutex::new(Vec::with_capacity(*CALLS));
        Self::pace(registers_per_second(), |i| {
            let text = format!(
                "REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKreg{i}\r\nMax-Forwards: 70\r\n\
                 From: <sip:u{i}@127.0.0.1>;tag=r{i}\r\nTo: <sip:u{i}@127.0.0.1>\r\nCall-ID: reg-{i}\r\nCSeq: 1 REGISTER\r\n\
                 Contact: <sip:u{i}@{own}>\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n"
            );
            sent.lock().expect("a lock").push(Instant::now());
            self.phones.send_to(text.as_bytes(), self.at).expect("a way");
        });
        sent.into_inner().expect("a lock")
    }

    fn settle(&self, counter: &AtomicUsize) {
        let end = Instant::now() + Duration::from_secs(20);
        while counter.load(Relaxed) < *CALLS && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// CPU seconds used so far, and resident memory in MiB.
    fn cost(&self) -> (f64, f64) {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.server.pid())).unwrap_or_default()
        };
        let stat = read("stat");
        let fields: Vec<f64> = stat
            .rsplit(") ")
            .next()
            .unwrap_or_default()
            .split(' ')
            .map(|f| f.parse().unwrap_or(0.0))
            .collect();
        let memory = read("status");
        let kb = memory
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:")?.trim().trim_end_matches(" kB").parse::<f64>().ok());
        (
            (fields.get(11).unwrap_or(&0.0) + fields.get(12).unwrap_or(&0.0)) / 100.0,
            kb.unwrap_or(0.0) / 1024.0,
        )
    }

    fn stat(&self, name: &str) -> i64 {
        let url = format!("http://127.0.0.1:{}/mi", self.mi);
        let (_, out, _) = self.server.command(&["mi", "--url", &url, "get_statistics", name]);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        json[name].as_i64().unwrap_or(-1)
    }
}

fn percentile(sorted: &[Duration], p: usize) -> Duration {
    sorted.get((sorted.len() * p / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[test]
fn a_crowd_of_calls_waits_and_each_gets_its_own_phone() {
    let waiting = town(WAITING);
    let start = waiting.cost();
    waiting.call_all();
    waiting.settle(&waiting.seen.trying);
    let full = waiting.cost();
    assert_eq!(waiting.stat("event_routing:subscriptions"), *CALLS as i64);
    let sent = waiting.register_all();
    waiting.settle(&waiting.seen.answered);
    let end = waiting.cost();
    let mut took = Vec::new();
    {
        let rang = waiting.seen.rang.lock().expect("a lock");
        for (i, sent) in sent.iter().enumerate() {
            let calls = rang.get(&format!("u{i}")).cloned().unwrap_or_default();
            assert!(calls.iter().all(|(c, _)| *c == format!("crowd-{i}")), "u{i}: {calls:?}");
            took.extend(calls.first().map(|(_, at)| at.saturating_duration_since(*sent)));
        }
        assert_eq!(rang.len(), *CALLS, "phones that rang");
    }
    took.sort_unstable();
    assert_eq!(waiting.stat("event_routing:subscriptions"), 0);
    let looked_at = waiting.stat("event_routing:looked_at");
    waiting.seen.stop.store(true, Relaxed);

    let plain = town(PLAIN);
    let plain_start = plain.cost();
    plain.register_all();
    plain.settle(&plain.seen.registered);
    plain.call_all();
    plain.settle(&plain.seen.answered);
    let plain_end = plain.cost();
    assert_eq!(plain.seen.answered.load(Relaxed), *CALLS);
    plain.seen.stop.store(true, Relaxed);

    let (cpu, plain_cpu) = (end.0 - start.0, plain_end.0 - plain_start.0);
    println!("calls waiting at once      {}", *CALLS);
    println!(
        "memory for them            {:.1} MiB, {:.1} KiB each",
        full.1 - start.1,
        (full.1 - start.1) * 1024.0 / *CALLS as f64
    );
    println!("memory at the end          {:.1} MiB; without waiting {:.1} MiB", end.1, plain_end.1);
    println!("subscriptions looked at    {looked_at}");
    println!(
        "REGISTER to INVITE         median {:?}, 99 % {:?}, longest {:?}",
        percentile(&took, 50),
        percentile(&took, 99),
        percentile(&took, 100)
    );
    println!(
        "CPU of all                 {cpu:.2} s; without waiting {plain_cpu:.2} s; ratio {:.2}",
        cpu / plain_cpu
    );
    assert!(looked_at <= 2 * *CALLS as i64, "no event looks at those that wait for another");
}
