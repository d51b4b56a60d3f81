//! `cargo xtask bench`, second half: the program beside Kamailio, when that is installed, with sipp as both phones.
//!
//! Both get the same work, one after the other and more than once; what counts is the processor time of the server's
//! processes per unit of work, and only the ratio of the two says something.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::cargo;

/// Each is measured so often; the median counts.
const ROUNDS: usize = 3;
/// For how many seconds.
const SECONDS: u32 = 10;
const KAMAILIO: &str = "/usr/sbin/kamailio";

/// What is asked of the servers.
struct Work {
    name: &'static str,
    /// Units a second: enough to keep a server busy, little enough for sipp.
    rate: u32,
    caller: &'static str,
    called: Option<&'static str>,
}

const WORK: &[Work] = &[
    Work { name: "OPTIONS answered", rate: 4000, caller: OPTIONS, called: None },
    Work { name: "call, stateful, Record-Route", rate: 1000, caller: CALLER, called: Some(CALLED) },
];

/// Measure and print. Nothing happens where Kamailio or sipp is missing.
pub fn compare(root: &Path) -> Result<(), String> {
    if !Path::new(KAMAILIO).exists() || Command::new("sipp").arg("-v").output().is_err() {
        println!("no comparison: it needs Debian's packages kamailio and sip-tester");
        return Ok(());
    }
    cargo(root, &["build", "--locked", "--profile", "dist", "--package", "switchroom-server"])?;
    let place = std::env::temp_dir().join(format!("switchroom-bench-{}", std::process::id()));
    fs::create_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    let done = table(&root.join("target/dist/switchroom"), &place);
    fs::remove_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    done
}

fn table(program: &Path, place: &Path) -> Result<(), String> {
    println!("{:<32} {:>12} {:>12} {:>7}   CPU microseconds per unit", "", "Kamailio", "Switchroom", "ratio");
    for work in WORK {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            times[0].push(measure(work, place, &|port| kamailio(place, port))?);
            times[1].push(measure(work, place, &|port| switchroom(program, place, port))?);
        }
        let [theirs, ours] = times.map(median);
        println!("{:<32} {theirs:>12.1} {ours:>12.1} {:>7.2}", work.name, ours / theirs);
    }
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Microseconds of processor time for one unit of work.
fn measure(work: &Work, place: &Path, start: &dyn Fn(u16) -> Result<Command, String>) -> Result<f64, String> {
    let [server, caller, called] = [free_port()?, free_port()?, free_port()?];
    let mut running = Running::start(&mut start(server)?)?;
    wait_until_it_listens(server)?;
    let mut phone = match work.called {
        Some(text) => Some(Running::start(&mut sipp(place, "called", text, called)?)?),
        None => None,
    };
    let target = if work.called.is_some() { called } else { server };
    let mut load = sipp(place, "caller", work.caller, caller)?;
    let units = work.rate * SECONDS;
    load.args(["-r", &work.rate.to_string(), "-m", &units.to_string()]);
    // The Request-URI names the other phone; the server is the way to it.
    load.args(["-rsa", &format!("127.0.0.1:{server}"), &format!("127.0.0.1:{target}")]);
    let before = running.cpu()?;
    let result = load.status().map_err(|e| format!("sipp: {e}"))?;
    let after = running.cpu()?;
    if let Some(phone) = &mut phone {
        phone.end();
    }
    running.end();
    if !result.success() {
        return Err(format!("sipp, {}: {result}; some of it failed", work.name));
    }
    Ok((after - before) * 1e6 / f64::from(units))
}

fn sipp(place: &Path, name: &str, scenario: &str, port: u16) -> Result<Command, String> {
    let path = write(place, &format!("{name}.xml"), scenario)?;
    let mut command = Command::new("sipp");
    command.arg("-sf").arg(path).args(["-i", "127.0.0.1", "-p", &port.to_string(), "-nostdin"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir(place);
    Ok(command)
}

fn kamailio(place: &Path, port: u16) -> Result<Command, String> {
    let path = write(place, "kamailio.cfg", &KAMAILIO_SCRIPT.replace("PORT", &port.to_string()))?;
    let mut command = Command::new(KAMAILIO);
    command.arg("-f").arg(path).args(["-DD", "-E", "-x", "tlsf", "-X", "tlsf", "-m", "1024"]);
    Ok(command)
}

fn switchroom(program: &Path, place: &Path, port: u16) -> Result<Command, String> {
    let path = write(place, "switchroom.cfg", &OWN_SCRIPT.replace("PORT", &port.to_string()))?;
    let mut command = Command::new(program);
    command.arg("run").arg("-f").arg(path).args(["-n", "1"]);
    Ok(command)
}

fn write(place: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    let path = place.join(name);
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}

fn free_port() -> Result<u16, String> {
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
    socket.local_addr().map(|a| a.port()).map_err(|e| e.to_string())
}

/// Until it answers a request, if with a refusal.
fn wait_until_it_listens(port: u16) -> Result<(), String> {
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(Duration::from_millis(200))).map_err(|e| e.to_string())?;
    let own = socket.local_addr().map_err(|e| e.to_string())?;
    let request = format!(
        "OPTIONS sip:127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKready;rport\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:127.0.0.1>\r\nCall-ID: ready-{own}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 5\r\nContent-Length: 0\r\n\r\n"
    );
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        let sent = socket.send_to(request.as_bytes(), ("127.0.0.1", port));
        if sent.is_ok() && socket.recv(&mut [0; 2048]).is_ok() {
            return Ok(());
        }
    }
    Err(format!("nothing answered on port {port}"))
}

/// A process that ends with this.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Running, String> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Running).map_err(|e| format!("{:?}: {e}", command.get_program()))
    }

    /// Seconds of processor time of it and its children so far.
    fn cpu(&self) -> Result<f64, String> {
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc").map_err(|e| e.to_string())?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            // The name may hold blanks; what follows its parenthesis does not.
            let fields: Vec<u64> = stat
                .rsplit(')')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .map(|f| f.parse().unwrap_or(0))
                .collect();
            if let (Some(parent), Some(user), Some(system)) = (fields.get(1), fields.get(11), fields.get(12))
            {
                all.push((pid, *parent as u32, user + system));
            }
        }
        let mut family = vec![self.0.id()];
        let mut ticks = 0;
        let mut at = 0;
        while let Some(pid) = family.get(at).copied() {
            at += 1;
            ticks += all.iter().filter(|p| p.0 == pid).map(|p| p.2).sum::<u64>();
            family.extend(all.iter().filter(|p| p.1 == pid).map(|p| p.0));
        }
        // The kernel counts in hundredths of a second wherever Rust runs on Linux.
        Ok(ticks as f64 / 100.0)
    }

    fn end(&mut self) {
        // SIGTERM, so that a server takes its children with it.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(15) {
            if let Ok(Some(_)) = self.0.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.end();
        }
    }
}

const OWN_SCRIPT: &str = r#"
log_level=-3
socket=udp:127.0.0.1:PORT
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "signaling.so"
loadmodule "sipmsgops.so"
route {
    if (is_method("OPTIONS")) { sl_send_reply(200, "OK"); exit; }
    if (!mf_process_maxfwd_header(10)) { sl_send_reply(483, "Too Many Hops"); exit; }
    if (has_totag()) { loose_route(); t_relay(); exit; }
    if (is_method("INVITE")) record_route();
    t_relay();
}
"#;

const KAMAILIO_SCRIPT: &str = r#"
debug=-3
log_stderror=yes
children=1
disable_tcp=yes
listen=udp:127.0.0.1:PORT
loadmodule "pv.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (has_totag()) { loose_route(); t_relay(); exit; }
    if (is_method("INVITE")) record_route();
    t_relay();
}
"#;

const OPTIONS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<scenario name="options">
<send retrans="500"><![CDATA[
OPTIONS sip:[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
From: <sip:a@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 OPTIONS
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>
"#;

const CALLER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<scenario name="caller">
<send retrans="500"><![CDATA[
INVITE sip:b@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
From: <sip:a@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:b@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:a@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 6000 RTP/AVP 0
]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="200" rrs="true"/>
<send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:a@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:b@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
<send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:a@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:b@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>
"#;

const CALLED: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<scenario name="called">
<recv request="INVITE" rrs="true"/>
<send><![CDATA[
SIP/2.0 180 Ringing
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:];tag=[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:b@[local_ip]:[local_port]>
Content-Length: 0

]]></send>
<send retrans="500"><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:];tag=[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:b@[local_ip]:[local_port]>
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 6002 RTP/AVP 0
]]></send>
<recv request="ACK" optional="true"/>
<recv request="BYE"/>
<send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
</scenario>
"#;
