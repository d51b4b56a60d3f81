//! The program beside Kamailio, where that is installed (Debian's packages `kamailio` and `sip-tester`), with sipp as both
//! phones. Both get the same work, one after the other and more than once; what counts is the processor time of the server's
//! processes per unit of work, and only the ratio of the two says something.
//!
//! `cargo bench --profile dist -p switchroom-server --bench kamailio` measures what packages are made of.

#![allow(missing_docs)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use switchroom_testkit::{Server, Sipp, free_port};

use common::{cpu, median};

/// Each is measured so often; the median counts.
const ROUNDS: usize = 3;
const KAMAILIO: &str = "/usr/sbin/kamailio";
const LONG: Duration = Duration::from_secs(60);

/// What is asked of the servers.
struct Work {
    name: &'static str,
    /// Units a second: enough to keep a server busy, little enough for sipp.
    rate: u32,
    units: u32,
    caller: String,
    called: Option<String>,
}

fn main() {
    if !Path::new(KAMAILIO).exists() || !Path::new("/usr/bin/sipp").exists() {
        println!("no comparison: it needs Debian's packages kamailio and sip-tester");
        return;
    }
    let call = Work {
        name: "call, stateful, Record-Route",
        rate: 800,
        units: 6400,
        caller: CALLER.replace("@ACK@", &in_dialog("ACK", 1)).replace("@BYE@", &in_dialog("BYE", 2)),
        called: Some(called()),
    };
    println!("{:<30} {:>10} {:>10} {:>6}   CPU microseconds per unit", "", "Kamailio", "ours", "ratio");
    for work in [options(18_000), call] {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(measure(&work, kamailio));
            ours.push(measure(&work, switchroom));
        }
        let [theirs, ours] = [theirs, ours].map(median);
        println!("{:<30} {theirs:>10.1} {ours:>10.1} {:>6.2}", work.name, ours / theirs);
    }
}

fn options(units: u32) -> Work {
    Work { name: "OPTIONS answered", rate: 3000, units, caller: OPTIONS.to_owned(), called: None }
}

fn kamailio(port: u16) -> Server {
    let args = ["-f", "test.cfg", "-DD", "-E", "-x", "tlsf", "-X", "tlsf", "-m", "1024"];
    Server::builder(KAMAILIO)
        .config(&KAMAILIO_SCRIPT.replace("@PORT@", &port.to_string()))
        .args(&args)
        .start()
}

fn switchroom(port: u16) -> Server {
    let script = SCRIPT.replace("@PORT@", &port.to_string());
    Server::builder(env!("CARGO_BIN_EXE_switchroom"))
        .config(&script)
        .args(&["run", "-f", "test.cfg", "-n", "1"])
        .start()
}

/// Microseconds of processor time for one unit of work.
fn measure(work: &Work, start: fn(u16) -> Server) -> f64 {
    let [server, called] = [free_port(), free_port()];
    let mut running = start(server);
    let server = SocketAddr::from(([127, 0, 0, 1], server));
    // Until it answers, and what is done once only.
    play(&options(10), server, called);
    let before = cpu(running.pid());
    play(work, server, called);
    let spent = cpu(running.pid()) - before;
    running.stop(LONG);
    spent * 1e6 / f64::from(work.units)
}

/// Plays all of the work through `server`.
fn play(work: &Work, server: SocketAddr, port: u16) {
    let phone = work.called.as_ref().map(|s| Sipp::new(s).calls(work.units).port(port).timeout(LONG).start());
    // The Request-URI names the other phone; the server is the way to it.
    let target = if phone.is_some() { SocketAddr::from(([127, 0, 0, 1], port)) } else { server };
    let (way, rate) = (server.to_string(), work.rate.to_string());
    let caller = Sipp::new(&work.caller)
        .calls(work.units)
        .port(free_port())
        .args(&["-rsa", &way, "-r", &rate])
        .target(target);
    caller.timeout(LONG).run().assert_success();
    if let Some(phone) = phone {
        phone.finish().assert_success();
    }
}

/// The caller's request in the dialog.
fn in_dialog(method: &str, cseq: u32) -> String {
    let again = if method == "ACK" { "" } else { " retrans=\"500\"" };
    format!(
        "<send{again}><![CDATA[
{method} [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:a@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:b@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: {cseq} {method}
Max-Forwards: 70
Content-Length: 0

]]></send>"
    )
}

/// The called phone rings and answers, and the caller ends the call.
fn called() -> String {
    let answer = |status: &str, tag: &str| {
        format!(
            "<send><![CDATA[
SIP/2.0 {status}
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:]{tag}
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:b@[local_ip]:[local_port]>
Content-Length: 0

]]></send>"
        )
    };
    let tag = ";tag=[call_number]";
    let steps = [
        "<recv request=\"INVITE\" rrs=\"true\"/>".to_owned(),
        answer("180 Ringing", tag),
        answer("200 OK", tag),
        "<recv request=\"ACK\"/>".to_owned(),
        "<recv request=\"BYE\"/>".to_owned(),
        answer("200 OK", ""),
    ];
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<scenario name=\"called\">{}</scenario>\n",
        steps.concat()
    )
}

const SCRIPT: &str = r#"
socket=udp:127.0.0.1:@PORT@
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
listen=udp:127.0.0.1:@PORT@
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
@ACK@
@BYE@
<recv response="200"/>
</scenario>
"#;
