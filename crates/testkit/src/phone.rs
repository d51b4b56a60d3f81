//! A real phone: baresip without sound card, steered through its control connection.
//!
//! It plays a tone from a file and swallows what it hears; that it hears is known from its events.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::process::{Log, Process};

/// How a phone is set up.
pub struct Builder {
    user: String,
    password: String,
    server: SocketAddr,
    domain: Option<String>,
    transport: &'static str,
    auto_answer: bool,
    register: bool,
}

impl Builder {
    /// The domain of its address of record, when it is not the server's address; requests then go through the server as
    /// outbound proxy.
    pub fn domain(mut self, domain: &str) -> Builder {
        self.domain = Some(domain.to_owned());
        self
    }

    /// Over TCP instead of UDP.
    pub fn tcp(mut self) -> Builder {
        self.transport = "tcp";
        self
    }

    /// Answers every call at once.
    pub fn auto_answer(mut self) -> Builder {
        self.auto_answer = true;
        self
    }

    /// Does not register by itself.
    pub fn unregistered(mut self) -> Builder {
        self.register = false;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// With its log when it does not get ready.
    pub fn start(self) -> Phone {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary folder: {e}"));
        let (sip, control) = (free_pair(), free_port());
        let path = |name: &str| dir.path().join(name);
        let write = |name: &str, data: &[u8]| {
            std::fs::write(path(name), data).unwrap_or_else(|e| panic!("{name}: {e}"));
        };
        write("tone.wav", &tone());
        write("accounts", self.account().as_bytes());
        write("config", config(sip, control, &path("tone.wav").display().to_string()).as_bytes());
        // Without it an example is written, with accounts that are not ours.
        write("contacts", b"");
        let process = Process::start(Command::new("baresip").arg("-f").arg(dir.path()));
        let ready = process.log.wait_for(Duration::from_secs(15), |line| line.contains("baresip is ready"));
        assert!(ready.is_some(), "baresip is not ready:\n{}", process.log.lines().join("\n"));
        let stream = TcpStream::connect(("127.0.0.1", control))
            .unwrap_or_else(|e| panic!("baresip's control port: {e}\n{}", process.log.lines().join("\n")));
        let events = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (reader, found) = (stream.try_clone().unwrap_or_else(|e| panic!("{e}")), events.clone());
        thread::spawn(move || collect(reader, &found));
        let addr = SocketAddr::from(([127, 0, 0, 1], sip));
        Phone { process, stream, events, taken: 0, addr, _dir: dir }
    }

    fn account(&self) -> String {
        let Builder { user, password, server, transport, .. } = self;
        let (regint, answer) =
            (if self.register { 60 } else { 0 }, if self.auto_answer { "auto" } else { "manual" });
        let mut text = match &self.domain {
            Some(domain) => {
                format!("<sip:{user}@{domain}>;outbound=\"sip:{server};transport={transport}\"")
            }
            None => format!("<sip:{user}@{server};transport={transport}>"),
        };
        text.push_str(&format!(
            ";auth_user={user};auth_pass={password};regint={regint};answermode={answer};audio_codecs=PCMU\n"
        ));
        text
    }
}

/// A running phone; killed when dropped.
pub struct Phone {
    process: Process,
    stream: TcpStream,
    events: Arc<(Mutex<Vec<Value>>, Condvar)>,
    /// Events before this one were waited for.
    taken: usize,
    addr: SocketAddr,
    _dir: TempDir,
}

impl Phone {
    /// Prepares a phone for a user of the server at `server`.
    pub fn builder(user: &str, password: &str, server: SocketAddr) -> Builder {
        Builder {
            user: user.to_owned(),
            password: password.to_owned(),
            server,
            domain: None,
            transport: "udp",
            auto_answer: false,
            register: true,
        }
    }

    /// Where it listens for SIP.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it wrote.
    pub fn log(&self) -> Log {
        self.process.log.clone()
    }

    /// Calls a URI.
    pub fn dial(&mut self, uri: &str) {
        self.command("dial", uri);
    }

    /// Answers the call that rings.
    pub fn accept(&mut self) {
        self.command("accept", "");
    }

    /// Ends the call, or refuses the one that rings.
    pub fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    /// Any command of its menu.
    ///
    /// # Panics
    /// When the phone is gone.
    pub fn command(&mut self, command: &str, params: &str) {
        let text = json!({"command": command, "params": params, "token": command}).to_string();
        let sent = self.stream.write_all(format!("{}:{text},", text.len()).as_bytes());
        if let Err(e) = sent {
            panic!("baresip does not take commands: {e}\n{}", self.log().lines().join("\n"));
        }
    }

    /// Whether a registration succeeds within `timeout`.
    pub fn is_registered(&self, timeout: Duration) -> bool {
        // Its event may have come before the control connection.
        self.log().wait_for(timeout, |line| line.contains(" 200 OK (") && line.contains("binding")).is_some()
    }

    /// The next event of that type (`CALL_INCOMING`, `CALL_ESTABLISHED`, `CALL_RTPESTAB`, `CALL_CLOSED` ...); those
    /// before it are passed over.
    pub fn wait_event(&mut self, kind: &str, timeout: Duration) -> Option<Value> {
        let until = Instant::now() + timeout;
        let (events, more) = &*self.events;
        let mut events = events.lock();
        loop {
            let found = events[self.taken..].iter().position(|event| event["type"] == kind);
            if let Some(at) = found {
                self.taken += at + 1;
                return events.get(self.taken - 1).cloned();
            }
            let seen = events.len();
            if more.wait_until(&mut events, until).timed_out() && events.len() == seen {
                return None;
            }
        }
    }

    /// The same within ten seconds.
    ///
    /// # Panics
    /// With its log when the event does not come.
    #[track_caller]
    pub fn expect_event(&mut self, kind: &str) -> Value {
        match self.wait_event(kind, Duration::from_secs(10)) {
            Some(event) => event,
            None => panic!(
                "no {kind}; there were {:?}\n{}",
                self.events.0.lock().iter().map(|e| e["type"].to_string()).collect::<Vec<_>>(),
                self.log().lines().join("\n")
            ),
        }
    }

    /// Waits until the call is up and sound arrives.
    ///
    /// # Panics
    /// With its log when that does not happen within ten seconds.
    #[track_caller]
    pub fn expect_sound(&mut self) {
        let before = self.taken;
        self.expect_event("CALL_ESTABLISHED");
        let established = std::mem::replace(&mut self.taken, before);
        // Sound of who answers at once may come before the 200.
        self.expect_event("CALL_RTPESTAB");
        self.taken = self.taken.max(established);
    }
}

/// Reads events, each a JSON text in a netstring (`length:text,`).
fn collect(mut stream: TcpStream, events: &(Mutex<Vec<Value>>, Condvar)) {
    let (mut pending, mut buf) = (Vec::new(), [0; 4096]);
    while let Ok(n) = stream.read(&mut buf) {
        if n == 0 {
            return;
        }
        pending.extend_from_slice(&buf[..n]);
        while let Some((text, rest)) = netstring(&pending) {
            if let Ok(event) = serde_json::from_slice::<Value>(text) {
                events.0.lock().push(event);
                events.1.notify_all();
            }
            pending = rest.to_vec();
        }
    }
}

fn netstring(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = data.iter().position(|b| *b == b':')?;
    let length: usize = std::str::from_utf8(&data[..colon]).ok()?.trim().parse().ok()?;
    let text = data.get(colon + 1..colon + 1 + length)?;
    Some((text, data.get(colon + 2 + length..)?))
}

/// A port whose neighbour is free as well: baresip opens it for TLS.
fn free_pair() -> u16 {
    loop {
        let port = free_port();
        let free =
            |n: u16| UdpSocket::bind(("127.0.0.1", n)).is_ok() && TcpListener::bind(("127.0.0.1", n)).is_ok();
        // The neighbour is the next one that would be given away.
        if free(port + 1) && free_port() == port + 1 {
            return port;
        }
    }
}

/// The ports for RTP lie below those that [`free_port`] gives away.
fn config(sip: u16, control: u16, tone: &str) -> String {
    format!(
        "poll_method epoll\n\
         sip_listen 127.0.0.1:{sip}\n\
         net_interface 127.0.0.1\n\
         rtp_ports 10000-11999\n\
         audio_source aufile,{tone}\n\
         audio_player aubridge,sink\n\
         audio_alert aubridge,alert\n\
         statmode_default off\n\
         module_path /usr/lib/baresip/modules\n\
         module g711.so\n\
         module aufile.so\n\
         module aubridge.so\n\
         module_tmp uuid.so\n\
         module_tmp account.so\n\
         module_app menu.so\n\
         module_app ctrl_tcp.so\n\
         ctrl_tcp_listen 127.0.0.1:{control}\n"
    )
}

/// Thirty seconds of a 400 Hz square wave as WAV: 8 kHz, 16 bits, one channel.
fn tone() -> Vec<u8> {
    const RATE: u32 = 8000;
    let size = RATE * 30 * 2;
    let mut wav = Vec::with_capacity(44 + size as usize);
    wav.extend_from_slice(b"RIFF");
    wav.extend((size + 36).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend(16u32.to_le_bytes());
    for short in [1u16, 1] {
        wav.extend(short.to_le_bytes());
    }
    for long in [RATE, RATE * 2] {
        wav.extend(long.to_le_bytes());
    }
    for short in [2u16, 16] {
        wav.extend(short.to_le_bytes());
    }
    wav.extend_from_slice(b"data");
    wav.extend(size.to_le_bytes());
    for sample in 0..RATE * 30 {
        let level: i16 = if sample / 10 % 2 == 0 { 4000 } else { -4000 };
        wav.extend(level.to_le_bytes());
    }
    wav
}
