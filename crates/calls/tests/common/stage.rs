//! A stateful call through a routing script without sockets: what arrives at both phones is read, what they answer is fed
//! back. Only the server's own work is measured, by an allocator that counts.

#![allow(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchroom_kernel::load::Source;
use switchroom_kernel::ports::net::{Handler, Packet, SocketId};
use switchroom_rehearsal::{Rehearsal, Setup};

pub const CALLER: &str = "127.0.0.2:6000";
pub const CALLEE: &str = "127.0.0.3:7000";

const SCRIPT: &str = r#"
    socket=udp:127.0.0.1:5060
    loadmodule "signaling.so"
    loadmodule "sl.so"
    loadmodule "maxfwd.so"
    loadmodule "sipmsgops.so"
    loadmodule "rr.so"
    loadmodule "tm.so"
    modparam("rr", "append_fromtag", 0)
    MORE_MODULES
    route {
        if (!mf_process_maxfwd_header(10)) {
            sl_send_reply(483, "Too Many Hops");
            exit;
        }
        if (has_totag()) {
            if (loose_route()) {
                if (!t_relay()) { sl_reply_error(); }
                exit;
            }
            if (is_method("ACK")) {
                if (t_check_trans()) { t_relay(); }
                exit;
            }
            sl_send_reply(404, "Not here");
            exit;
        }
        t_check_trans();
        if (is_method("INVITE")) { record_route(); MORE_WORK }
        if (!t_relay()) { sl_reply_error(); }
        exit;
    }
"#;

/// Pieces of memory taken and given back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Pieces taken.
    pub taken: i64,
    /// Bytes taken.
    pub bytes: i64,
    /// Bytes given back.
    pub returned: i64,
    /// Pieces given back.
    pub pieces_returned: i64,
}

struct Counting;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static MEMORY: Cell<Memory> = const { Cell::new(Memory { taken: 0, bytes: 0, returned: 0, pieces_returned: 0 }) };
}

fn note(taken: i64, bytes: i64, returned: i64) {
    if ON.get() {
        let mut m = MEMORY.get();
        m.taken += taken;
        m.bytes += bytes;
        m.returned += returned;
        m.pieces_returned += i64::from(returned > 0);
        MEMORY.set(m);
    }
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64, 0);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        note(0, 0, layout.size() as i64);
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64, layout.size() as i64);
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A server and two phones.
pub struct Stage {
    house: Rehearsal,
    caller: SocketAddr,
    callee: SocketAddr,
    calls: u64,
    /// Time of the server's work.
    pub took: Cell<Duration>,
}

impl Stage {
    pub fn open() -> Stage {
        Stage::with("", "")
    }

    /// Each call has a dialog.
    pub fn with_dialogs() -> Stage {
        Stage::with(r#"loadmodule "dialog.so""#, "create_dialog();")
    }

    fn with(modules: &str, work: &str) -> Stage {
        let script = SCRIPT.replace("MORE_MODULES", modules).replace("MORE_WORK", work);
        let house = Rehearsal::open(Setup {
            source: Source::Text("call.cfg".into(), Arc::from(script.as_bytes())),
            catalogue: switchroom_calls::MODULES,
            always: &["core"],
            stores: Vec::new(),
            arguments: Vec::new(),
            unix: 1_800_000_000,
        })
        .unwrap_or_else(|e| panic!("{e}"));
        Stage {
            house,
            caller: CALLER.parse().unwrap(),
            callee: CALLEE.parse().unwrap(),
            calls: 0,
            took: Cell::default(),
        }
    }

    /// What the server took and gave back since the last time. What it gave to the network is not given back here.
    pub fn memory(&self) -> Memory {
        MEMORY.replace(Memory::default())
    }

    pub fn pass(&self, time: Duration) {
        ON.set(true);
        self.house.advance(time);
        ON.set(false);
    }

    /// INVITE, 180, 200, ACK, BYE, 200: 13 datagrams with the 100.
    pub fn call(&mut self) {
        self.calls += 1;
        let n = self.calls;
        let invite = self.request("INVITE", n, 1, "", &format!("sip:bob@{CALLEE}"), SDP);
        let out = self.exchange(self.caller, &invite);
        assert!(out[0].1.starts_with("SIP/2.0 100 "), "{out:?}");
        let at_callee = &out[1];
        assert!(at_callee.0 == self.callee && at_callee.1.starts_with("INVITE "), "{out:?}");
        let vias = headers(&at_callee.1, "Via");
        let routes = headers(&at_callee.1, "Record-Route");
        for (status, body) in [("180 Ringing", ""), ("200 OK", SDP)] {
            let reply = reply(&at_callee.1, status, body);
            let out = self.exchange(self.callee, &reply);
            assert!(out.len() == 1 && out[0].0 == self.caller && out[0].1.contains(status), "{out:?}");
        }
        assert_eq!(vias.len(), 2);
        let route = routes[0].replace("Record-Route:", "Route:") + "\r\n";
        for (method, cseq) in [("ACK", 1), ("BYE", 2)] {
            let request = self
                .request(method, n, cseq, &route, &format!("sip:bob@{CALLEE}"), "")
                .replace("<sip:bob@h>", "<sip:bob@h>;tag=b");
            let out = self.exchange(self.caller, &request);
            assert!(out.len() == 1 && out[0].1.starts_with(method), "{out:?}");
            if method == "BYE" {
                let reply = reply(&out[0].1, "200 OK", "");
                let out = self.exchange(self.callee, &reply);
                assert!(out.len() == 1 && out[0].1.starts_with("SIP/2.0 200"), "{out:?}");
            }
        }
    }

    fn request(&self, method: &str, n: u64, cseq: u32, route: &str, uri: &str, body: &str) -> String {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK-{n}-{method}\r\n{route}\
             From: \"Alice\" <sip:alice@h>;tag=a{n}\r\nTo: <sip:bob@h>\r\nCall-ID: {n}-1234567@{CALLER}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:alice@{CALLER}>\r\nMax-Forwards: 70\r\nUser-Agent: stage\r\n\
             Subject: a call\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// The server takes one datagram; what it sends.
    fn exchange(&self, peer: SocketAddr, message: &str) -> Vec<(SocketAddr, String)> {
        let packet = Packet { data: message.to_owned().into(), socket: SocketId(0), peer, conn: None };
        let start = Instant::now();
        ON.set(true);
        served(&self.house, packet);
        ON.set(false);
        self.took.set(self.took.get() + start.elapsed());
        self.house.sent().into_iter().map(|s| (s.to, s.text)).collect()
    }
}

/// What is measured (its name is for profilers that start and stop with a function).
#[inline(never)]
fn served(house: &Rehearsal, packet: Packet) {
    house.shard.packet(packet);
}

fn headers<'a>(message: &'a str, name: &str) -> Vec<&'a str> {
    message.split("\r\n").filter(|l| l.split(':').next() == Some(name)).collect()
}

fn reply(request: &str, status: &str, body: &str) -> String {
    let mut out = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "Record-Route", "From", "Call-ID", "CSeq"] {
        headers(request, name).iter().for_each(|h| out.extend([h, "\r\n"]));
    }
    let to = headers(request, "To")[0];
    out.extend([to, if to.contains("tag=") { "" } else { ";tag=b" }, "\r\n"]);
    out.push_str(&format!("Contact: <sip:bob@{CALLEE}>\r\n"));
    if !body.is_empty() {
        out.push_str("Content-Type: application/sdp\r\n");
    }
    out.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    out
}

const SDP: &str = "v=0\r\no=user1 53655765 2353687637 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\n\
    m=audio 6000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";
