//! Short messages through the program beside Kannel, where that is installed (Debian's package `kannel`). Both get the same
//! messages, one after the other and more than once; what counts is the processor time of the server's processes per
//! message, and only the ratio of the two says something. Kannel has no store here; ours writes every message to SQLite
//! before it answers, and its end as well.

#![allow(missing_docs)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use switchroom_testkit::{Server, free_port};
use switchroom_wire::smpp::frame::{self, Frame};
use switchroom_wire::smpp::{
    Address, Body, CommandId, Header, MessageId, Pdu, Rules, ShortMessage, Status, Tlvs,
};

use common::{cpu, median};

const ROUNDS: usize = 3;
const BEARERBOX: &str = "/usr/sbin/bearerbox";
const SMSBOX: &str = "/usr/sbin/smsbox";
/// A slow machine has so long for all messages of a round.
const LONG: Duration = Duration::from_secs(180);
/// Messages that a centre sends without waiting for answers.
const WINDOW: u32 = 100;
/// Web clients at a time.
const CLIENTS: u32 = 8;

fn main() {
    if !Path::new(BEARERBOX).exists() || !Path::new(SMSBOX).exists() {
        println!("no comparison: it needs Debian's package kannel");
        return;
    }
    println!("{:<30} {:>10} {:>10} {:>6}   CPU microseconds per message", "", "Kannel", "ours", "ratio");
    let relayed: fn(&dyn Gateway, u32) = |gateway, count| gateway.source().deliver(count);
    let by_web: fn(&dyn Gateway, u32) = |gateway, count| ask(gateway.web(), count);
    for (name, count, work) in [("SMPP to SMPP", 20_000, relayed), ("HTTP to SMPP", 8000, by_web)] {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(measure(&Kannel::start(), count, work));
            ours.push(measure(&Ours::start(), count, work));
        }
        let [theirs, ours] = [theirs, ours].map(median);
        println!("{name:<30} {theirs:>10.1} {ours:>10.1} {:>6.2}", ours / theirs);
    }
}

/// Microseconds of processor time for one message.
fn measure(gateway: &dyn Gateway, count: u32, work: fn(&dyn Gateway, u32)) -> f64 {
    // What is done once only.
    work(gateway, 100);
    gateway.sink().wait(100);
    let before: f64 = gateway.pids().iter().map(|pid| cpu(*pid)).sum();
    work(gateway, count);
    gateway.sink().wait(100 + count);
    // What is written behind the last answer counts as well.
    std::thread::sleep(Duration::from_secs(1));
    let spent = gateway.pids().iter().map(|pid| cpu(*pid)).sum::<f64>() - before;
    spent * 1e6 / f64::from(count)
}

/// A gateway with a centre that sends and one that takes.
trait Gateway {
    fn source(&self) -> &Centre;
    fn sink(&self) -> &Centre;
    /// Host, port and first parameters of Kannel's `sendsms`.
    fn web(&self) -> (u16, &'static str);
    fn pids(&self) -> Vec<u32>;
}

// An SMS centre that a gateway binds to ---------------------------------------------------------------------------------------

struct Centre {
    port: u16,
    taken: Arc<AtomicU32>,
    answered: Arc<AtomicU32>,
    streams: std::sync::Mutex<std::sync::mpsc::Receiver<TcpStream>>,
    bound: std::sync::Mutex<Option<TcpStream>>,
}

impl Centre {
    fn start() -> Centre {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (taken, answered) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (tell, streams) = std::sync::mpsc::channel();
        let counts = (taken.clone(), answered.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tell, counts) = (tell.clone(), counts.clone());
                std::thread::spawn(move || serve(stream, &tell, &counts.0, &counts.1));
            }
        });
        Centre { port, taken, answered, streams: streams.into(), bound: None.into() }
    }

    /// Waits until the gateway is bound.
    fn expect_bind(&self) {
        let stream = self.streams.lock().unwrap().recv_timeout(LONG).expect("nobody binds");
        *self.bound.lock().unwrap() = Some(stream);
    }

    /// Waits until so many messages were taken.
    fn wait(&self, count: u32) {
        until(|| self.taken.load(Relaxed) >= count);
    }

    /// Sends so many messages, and waits for their answers.
    fn deliver(&self, count: u32) {
        let mut bound = self.bound.lock().unwrap();
        let stream = bound.as_mut().expect("it is bound");
        let before = self.answered.load(Relaxed);
        let address = |addr| Address { ton: 1, npi: 1, addr };
        for n in 0..count {
            let message = ShortMessage {
                source: address(b"491700000000"),
                destination: address(b"4930123456"),
                text: b"Hello from the comparison",
                ..ShortMessage::default()
            };
            let header = Header::request(CommandId::DELIVER_SM, n + 1);
            let mut out = Vec::new();
            Pdu { header, body: Body::Message(message) }.write(&mut out);
            stream.write_all(&out).unwrap();
            if n % WINDOW == WINDOW - 1 {
                until(|| self.answered.load(Relaxed) - before > n - WINDOW / 2);
            }
        }
        until(|| self.answered.load(Relaxed) - before >= count);
    }
}

fn until(there: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !there() {
        assert!(Instant::now() < end, "not all messages came through");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Answers everything; says when it is bound.
fn serve(
    mut stream: TcpStream,
    tell: &std::sync::mpsc::Sender<TcpStream>,
    taken: &AtomicU32,
    answered: &AtomicU32,
) {
    stream.set_nodelay(true).unwrap();
    let (mut data, mut buffer) = (Vec::new(), [0; 65_536]);
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        data.extend_from_slice(&buffer[..n]);
        let (mut out, mut at, mut bound) = (Vec::new(), 0, false);
        while let Frame::Whole(length) = frame::next(&data[at..], frame::MAX_PDU) {
            let pdu = Pdu::read(&data[at..at + length], Rules::LENIENT).unwrap();
            at += length;
            let header = pdu.header.answer(Status::OK);
            let body = match pdu.header.command {
                c if c.is_bind() => {
                    bound = true;
                    Body::BindResponse { system_id: b"centre", tlvs: Tlvs::default() }
                }
                CommandId::SUBMIT_SM => {
                    let id = taken.fetch_add(1, Relaxed).to_string();
                    let id = MessageId { id: id.as_bytes(), present: true, tlvs: Tlvs::default() };
                    Pdu { header, body: Body::MessageId(id) }.write(&mut out);
                    continue;
                }
                c if c.is_response() => {
                    assert_eq!(pdu.header.status, Status::OK);
                    answered.fetch_add(1, Relaxed);
                    continue;
                }
                _ => Body::Empty,
            };
            Pdu { header, body }.write(&mut out);
        }
        data.drain(..at);
        if stream.write_all(&out).is_err() {
            return;
        }
        if bound {
            // Nobody hears it when the comparison is over.
            let _ = tell.send(stream.try_clone().unwrap());
        }
    }
}

/// Asks `sendsms` so often, by some connections that are kept.
fn ask((port, who): (u16, &'static str), count: u32) {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            std::thread::spawn(move || client(port, who, count / CLIENTS + u32::from(n < count % CLIENTS)))
        })
        .collect();
    clients.into_iter().for_each(|c| c.join().expect("a web client"));
}

fn client(port: u16, who: &str, count: u32) {
    let request = format!(
        "GET /cgi-bin/sendsms?{who}&from=4917&to=4930123456&text=Hello+from+the+comparison HTTP/1.1\r\n\
         Host: localhost\r\n\r\n"
    );
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("sendsms");
        stream.set_nodelay(true).unwrap();
        stream
    };
    let (mut stream, mut data, mut buffer) = (connect(), Vec::new(), [0; 4096]);
    let mut done = 0;
    while done < count {
        stream.write_all(request.as_bytes()).unwrap();
        loop {
            let text = String::from_utf8_lossy(&data).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|l| {
                    let (name, value) = l.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
                });
                if body.len() >= length.unwrap_or(0) {
                    assert!(head.starts_with("HTTP/1.1 202"), "{text}");
                    done += 1;
                    data.clear();
                    break;
                }
            }
            match stream.read(&mut buffer) {
                Ok(n @ 1..) => data.extend_from_slice(&buffer[..n]),
                end => panic!("the connection ended: {end:?}"),
            }
        }
    }
}

// Kannel ----------------------------------------------------------------------------------------------------------------------

struct Kannel {
    source: Centre,
    sink: Centre,
    web: u16,
    boxes: [Child; 2],
    _folder: tempfile::TempDir,
}

impl Kannel {
    fn start() -> Kannel {
        let (source, sink) = (Centre::start(), Centre::start());
        let [admin, boxes, web] = [free_port(), free_port(), free_port()];
        let link = |id: &str, port: u16, more: &str| {
            format!(
                "group = smsc\nsmsc = smpp\nsmsc-id = {id}\nhost = 127.0.0.1\nport = {port}\ntransceiver-mode = 1\n\
                 smsc-username = kannel\nsmsc-password = test\nsystem-type = VMA\nmax-pending-submits = {WINDOW}\n{more}\n"
            )
        };
        let config = format!(
            "group = core\nadmin-port = {admin}\nadmin-password = x\nsmsbox-port = {boxes}\nbox-allow-ip = 127.0.0.1\n\
             log-level = 4\n\n{}{}group = smsbox\nbearerbox-host = 127.0.0.1\nsendsms-port = {web}\nlog-level = 4\n\n\
             group = sendsms-user\nusername = u\npassword = p\n\n\
             group = sms-service\nkeyword = default\ncatch-all = 1\nmax-messages = 0\ntext = x\n",
            link("source", source.port, "reroute-smsc-id = sink\ndenied-smsc-id = sink;source\n"),
            link("sink", sink.port, ""),
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kannel.conf");
        std::fs::write(&file, config).unwrap();
        let start = |program: &str| {
            let mut command = Command::new(program);
            command.args(["-v", "4"]).arg(&file).current_dir(folder.path());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let bearerbox = start(BEARERBOX);
        until(|| TcpStream::connect(("127.0.0.1", boxes)).is_ok());
        let boxes = [bearerbox, start(SMSBOX)];
        source.expect_bind();
        sink.expect_bind();
        until(|| TcpStream::connect(("127.0.0.1", web)).is_ok());
        // It opens the routes some moments after it is bound.
        std::thread::sleep(Duration::from_secs(1));
        Kannel { source, sink, web, boxes, _folder: folder }
    }
}

impl Gateway for Kannel {
    fn source(&self) -> &Centre {
        &self.source
    }
    fn sink(&self) -> &Centre {
        &self.sink
    }
    fn web(&self) -> (u16, &'static str) {
        (self.web, "username=u&password=p&smsc=sink")
    }
    fn pids(&self) -> Vec<u32> {
        self.boxes.iter().map(Child::id).collect()
    }
}

impl Drop for Kannel {
    fn drop(&mut self) {
        for child in &mut self.boxes {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

// Ours ------------------------------------------------------------------------------------------------------------------------

struct Ours {
    source: Centre,
    sink: Centre,
    web: u16,
    server: Server,
}

const SCRIPT: &str = r#"
log_level=2
socket=udp:127.0.0.1:@SIP@
db_default_url="sqlite://{dir}/test.db"
loadmodule "db_sqlite.so"
loadmodule "tm.so"
loadmodule "httpd.so"
loadmodule "mi_http.so"
loadmodule "proto_smpp.so"
loadmodule "smsc.so"
loadmodule "sms_api.so"
modparam("httpd", "port", @WEB@)
modparam("proto_smpp", "connection", "*: window=@WINDOW@")
route { exit; }
"#;

impl Ours {
    fn start() -> Ours {
        let (source, sink) = (Centre::start(), Centre::start());
        let [sip, web] = [free_port(), free_port()];
        let script = SCRIPT.replace("@SIP@", &sip.to_string()).replace("@WEB@", &web.to_string());
        let program = env!("CARGO_BIN_EXE_switchroom");
        let builder =
            Server::builder(program).config(&script.replace("@WINDOW@", &WINDOW.to_string())).ready("ready");
        let url = format!("sqlite://{}/test.db", builder.dir().display());
        let made = Command::new(program).args(["db", "--url", &url, "init"]).stdout(Stdio::null()).status();
        assert!(made.is_ok_and(|status| status.success()), "no database");
        let server = builder.start();
        let mi = format!("http://127.0.0.1:{web}/mi");
        let ports = [source.port, sink.port].map(|port| port.to_string());
        for command in [
            &["smsc:account", "system_id=shop", "password=secret"][..],
            &["smsc:route", "target=smsc:sink", "prefix=49"],
            &["smpp:set", "source", "127.0.0.1", &ports[0], "house", "test"],
            &["smpp:set", "sink", "127.0.0.1", &ports[1], "house", "test"],
        ] {
            let (status, _, error) = server.command(&[&["mi", "--url", &mi][..], command].concat());
            assert!(status.success(), "{command:?}: {error}");
        }
        source.expect_bind();
        sink.expect_bind();
        Ours { source, sink, web, server }
    }
}

impl Gateway for Ours {
    fn source(&self) -> &Centre {
        &self.source
    }
    fn sink(&self) -> &Centre {
        &self.sink
    }
    fn web(&self) -> (u16, &'static str) {
        (self.web, "username=shop&password=secret")
    }
    fn pids(&self) -> Vec<u32> {
        vec![self.server.pid()]
    }
}
