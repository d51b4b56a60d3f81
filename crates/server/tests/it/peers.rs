//! SMPP peers that are not ours: smpplib (Python) as application, node smpp as customer and as SMS centre, Kannel as a
//! customer's gateway and, by its own test program, as SMS centre.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use switchroom_testkit::free_port;
use switchroom_testkit::peer::{header, response};
use switchroom_wire::smpp::Status;

use crate::smpp::{house, message, row, wait_bound};
use crate::support::House;
use crate::ua::Ua;

/// Sends what comes to the phone, and what the phone sends to the peer.
const ROUTES: &str = r#"
route {
    if (is_method("MESSAGE") && $hdr(P-SMPP-Connection) != NULL) {
        $du = "sip:127.0.0.1:PHONE";
        t_relay();
        exit;
    }
    if (is_method("MESSAGE")) {
        if (send_smpp_message("peer")) send_reply(202, "Accepted");
        else send_reply(503, "No SMS");
    }
}
"#;

const SCRIPTS: [&str; 6] = ["Grüße ", "Привет ", "안녕하세요 ", "你好世界 ", "😀👍🏽 ", "مرحبا "];

fn stage() -> (House, Phone, SocketAddr) {
    let mut phone = Phone::new();
    let smpp = free_port();
    let routes = ROUTES.replace("PHONE", &phone.ua.peer.addr().port().to_string());
    let house = house(&routes, &format!("socket=smpp:127.0.0.1:{smpp}\n"));
    row(&house, "peer", 0, 4);
    house.mi_json(&["smpp:reload"]);
    phone.ua.server = house.addr;
    (house, phone, SocketAddr::from(([127, 0, 0, 1], smpp)))
}

/// A phone that takes messages.
struct Phone {
    ua: Ua,
    /// Branches of what it has taken.
    taken: Vec<String>,
}

impl Phone {
    fn new() -> Phone {
        Phone { ua: Ua::new("alice", SocketAddr::from(([127, 0, 0, 1], 9))), taken: Vec::new() }
    }

    /// Answers the next MESSAGE, of those that came again only the first; gives its body.
    #[track_caller]
    fn take(&mut self) -> String {
        loop {
            let request = self.ua.expect("MESSAGE sip:");
            let reply = response(&request, "200 OK", "x", "");
            self.ua.send(&reply);
            let via = header(&request, "Via").unwrap().to_owned();
            if !self.taken.contains(&via) {
                self.taken.push(via);
                return request.split_once("\r\n\r\n").unwrap().1.to_owned();
            }
        }
    }

    /// Sends a text.
    fn send(&mut self, text: &str) {
        let request = message(&self.ua, "4917", text, "text/plain;charset=utf-8");
        self.ua.send(&request);
    }
}

#[test]
fn smpplib_sends_and_receives_six_scripts_in_one_to_ten_parts() {
    let (house, mut phone, at) = stage();
    let texts = texts();
    let client = Program::start(
        Command::new("python3")
            .arg(here("tests/it/peers/client.py"))
            .args(["127.0.0.1", &at.port().to_string(), &texts.len().to_string()])
            .env("PYTHONPATH", here("../../target/python"))
            .env("PYTHONIOENCODING", "utf-8"),
        &texts,
    );
    assert_eq!(client.line(), "bound");
    let came: Vec<String> = texts.iter().map(|_| phone.take()).collect();
    assert_eq!(came, texts);
    for text in &texts {
        // Its GSM alphabet is Latin-1 on this side, so only UCS-2 is compared.
        phone.send(text);
        let received = client.line();
        if !text.starts_with("Gr") {
            assert_eq!(received, format!("received {text}"));
        }
        phone.ua.expect("SIP/2.0 202");
    }
    let last = client.line();
    let words: Vec<&str> = last.split(' ').collect();
    assert!(words.len() == 5 && words[1] == words[2] && words[2] == words[4], "{last}");
    drop(house);
}

/// Texts of 1 to 10 parts in six scripts.
fn texts() -> Vec<String> {
    let long = |(word, length): (&&str, usize)| word.chars().cycle().take(length).collect();
    SCRIPTS.iter().zip([20, 100, 250, 400, 300, 640]).map(long).collect()
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program that is given lines and says lines.
struct Program {
    _child: Killed,
    lines: Receiver<String>,
}

impl Program {
    fn start(command: &mut Command, input: &[String]) -> Program {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(input.join("\n").as_bytes()).unwrap();
        let (tell, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        // Ends with the program.
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|l| tell.send(l)));
        Program { _child: Killed(child), lines }
    }

    /// The next line; a machine under load has a minute for it.
    #[track_caller]
    fn line(&self) -> String {
        self.lines
            .recv_timeout(Duration::from_secs(60))
            .unwrap_or_else(|e| panic!("the program says nothing: {e}"))
    }
}

fn node(mode: &str, port: u16, texts: &[String]) -> Program {
    let mut command = Command::new("node");
    command.arg(here("tests/it/peers/node.js")).args([mode, &port.to_string()]);
    Program::start(command.env("NODE_PATH", here("../../target/node/node_modules")), texts)
}

#[test]
fn node_smpp_as_customer_sends_six_scripts_in_one_to_ten_parts_and_gets_their_receipts() {
    let stage = crate::messages::stage("");
    let texts = texts();
    let customer = node("customer", stage.smpp.port(), &texts);
    assert_eq!(customer.line(), "bound");
    for text in &texts {
        assert_eq!(customer.line(), format!("received {text}"));
    }
    let last = customer.line();
    let words: Vec<&str> = last.split(' ').collect();
    assert!(words.len() == 6 && words[1] == words[3] && words[3] == words[5], "{last}");
    assert!(words[1].parse::<u32>().unwrap() >= 20, "{last}");
}

#[test]
fn node_smpp_as_centre_takes_and_gives_six_scripts_and_its_receipts_find_their_messages() {
    let mut phone = Phone::new();
    let route = ROUTES.replace("PHONE", &phone.ua.peer.addr().port().to_string());
    let route = route.replace("\"peer\")) send", "\"peer\", , , , , 1)) send");
    let events = "event_route[E_SMPP_RECEIPT] { xlog(\"receipt $param(id) $param(state)\\n\"); }\n";
    let house = house(&format!("{route}{events}"), "");
    phone.ua.server = house.addr;
    let (port, texts) = (free_port(), texts());
    let centre = node("centre", port, &texts);
    row(&house, "peer", port, 1);
    house.mi_json(&["smpp:reload"]);
    assert_eq!(centre.line(), "bound smpp test");
    for text in &texts {
        assert_eq!(&phone.take(), text);
    }
    assert_eq!(centre.line(), "delivered");
    for text in &texts {
        phone.send(text);
        assert_eq!(centre.line(), format!("received {text}"));
        phone.ua.expect("SIP/2.0 202");
    }
    house.expect_log("receipt node-1 DELIVRD");
    house.expect_log("receipt node-2 DELIVRD");
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn kannel_binds_and_messages_go_both_ways() {
    let (house, mut phone, at) = stage();
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let kannel = Kannel::start(&house.dir, at.port(), ("smpp", "test"), &web);
    wait_bound(&house, 1);
    for (word, length, coding) in [("Hello ", 20, 0), ("Hello ", 400, 0), ("Привет ", 200, 2)] {
        let text: String = word.chars().cycle().take(length).collect();
        let escaped: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
        let path = format!(
            "/cgi-bin/sendsms?username=u&password=p&from=4917&to=4930&coding={coding}&charset=UTF-8&text={escaped}"
        );
        let answer = get(kannel.at, &path);
        assert!(answer.contains("Accepted"), "{answer}");
        assert_eq!(phone.take(), text);
    }
    phone.send("From the phone");
    phone.ua.expect("SIP/2.0 202");
    let asked = asked(&web);
    assert!(asked.contains("from=49151") && asked.contains("text=From+the+phone"), "{asked}");
    // It asks whether we are there once a second, and we answer.
    std::thread::sleep(Duration::from_secs(2));
    wait_bound(&house, 1);
}

/// Kannel, bound to a port here; incoming messages go to a web server.
struct Kannel {
    /// Where it takes `sendsms`.
    at: SocketAddr,
    _boxes: [Killed; 2],
}

impl Kannel {
    fn start(folder: &Path, port: u16, (name, password): (&str, &str), web: &TcpListener) -> Kannel {
        let (admin, boxes, sendsms) = (free_port(), free_port(), free_port());
        let config = format!(
            "group = core\nadmin-port = {admin}\nadmin-password = x\nsmsbox-port = {boxes}\nbox-allow-ip = 127.0.0.1\n\
             log-level = 1\n\ngroup = smsc\nsmsc = smpp\nsmsc-id = house\nhost = 127.0.0.1\nport = {port}\n\
             transceiver-mode = 1\nsmsc-username = {name}\nsmsc-password = {password}\nsystem-type = VMA\n\
             enquire-link-interval = 1\n\ngroup = smsbox\nbearerbox-host = 127.0.0.1\nsendsms-port = {sendsms}\n\
             log-level = 1\n\ngroup = sendsms-user\nusername = u\npassword = p\nmax-messages = 10\nconcatenation = 1\n\n\
             group = sms-service\nkeyword = default\ncatch-all = 1\nmax-messages = 0\n\
             get-url = \"http://127.0.0.1:{}/?from=%p&to=%P&text=%b\"\n",
            web.local_addr().unwrap().port(),
        );
        let file = folder.join("kannel.conf");
        std::fs::write(&file, config).unwrap();
        let start = |program: &str| {
            let mut command = Command::new(program);
            command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(folder);
            Killed(command.spawn().unwrap_or_else(|e| panic!("{program}: {e}")))
        };
        let bearerbox = start("/usr/sbin/bearerbox");
        // The box that takes messages ends when it finds nobody there.
        for _ in 0..3000 {
            if TcpStream::connect(("127.0.0.1", boxes)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let at = SocketAddr::from(([127, 0, 0, 1], sendsms));
        Kannel { at, _boxes: [start("/usr/sbin/smsbox"), bearerbox] }
    }
}

#[test]
fn kannel_as_a_customer_of_the_centre_gets_the_receipts_of_what_it_sends() {
    let stage = crate::messages::stage("");
    let mut inbox = stage.bind("inbox");
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port();
    let kannel = Kannel::start(&stage.house.dir, stage.smpp.port(), ("shop", "secret"), &web);
    for (status, word) in [(Status::OK, "dlr=1"), (Status::RX_R_APPN, "dlr=2")] {
        // What it is asked to fetch has its own parameters, so it is written with escapes.
        let hook = format!("http%3A%2F%2F127.0.0.1%3A{port}%2F%3Fdlr%3D%25d");
        let path = format!(
            "/cgi-bin/sendsms?username=u&password=p&from=4917&to=4930&text=hello&dlr-mask=3&dlr-url={hook}"
        );
        // It refuses as long as it is not bound.
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = get(kannel.at, &path);
            if answer.contains("Accepted") {
                break;
            }
            assert!(Instant::now() < until, "{answer}");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(crate::messages::deliver(&mut inbox, status).0, b"hello");
        let asked = asked(&web);
        assert!(asked.contains(word), "{asked}");
    }
}

#[test]
fn kannels_own_centre_gives_and_takes_messages() {
    let mut phone = Phone::new();
    let routes = ROUTES.replace("PHONE", &phone.ua.peer.addr().port().to_string());
    let house = house(&routes.replace("send_smpp_message(\"peer\")", "send_smpp_message(\"tx\")"), "");
    phone.ua.server = house.addr;
    // The program is a stage for Kannel: it connects to the box behind the gateway as well, always on this port.
    let until = Instant::now() + Duration::from_secs(30);
    let _boxes = loop {
        match TcpListener::bind("127.0.0.1:13001") {
            Ok(listener) => break listener,
            Err(e) => assert!(Instant::now() < until, "port 13001: {e}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let (port, log) = (free_port(), house.dir.join("drive.log"));
    let file = std::fs::File::create(&log).unwrap();
    let mut command = Command::new("/usr/lib/kannel/test/drive_smpp");
    command.args(["-v", "0", "-m", "20", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(file);
    let _drive = Killed(command.spawn().unwrap_or_else(|e| panic!("drive_smpp of kannel-extras: {e}")));
    row(&house, "tx", port, 2);
    house.mi_json(&["smpp:reload"]);
    wait_bound(&house, 1);
    for text in ["To Kannel", "and again"] {
        phone.send(text);
        phone.ua.expect("SIP/2.0 202");
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.contains(&format!("short_message = <{text}>")), "{said}");
    }
    row(&house, "rx", port, 3);
    house.mi_json(&["smpp:reload"]);
    for n in 1..=20 {
        assert_eq!(phone.take(), n.to_string());
    }
}

/// What a web server is asked next; it has nothing to say to that.
#[track_caller]
fn asked(web: &TcpListener) -> String {
    web.set_nonblocking(true).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let mut stream = loop {
        match web.accept() {
            Ok((stream, _)) => break stream,
            Err(e) => assert!(Instant::now() < until, "nobody asks: {e}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut octets = [0; 4096];
    let n = stream.read(&mut octets).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    String::from_utf8_lossy(&octets[..n]).into_owned()
}

/// A GET; tries until somebody listens, on a machine under load as well.
fn get(to: SocketAddr, path: &str) -> String {
    for _ in 0..1200 {
        let Ok(mut stream) = TcpStream::connect(to) else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: kannel\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        return answer;
    }
    panic!("nobody listens on {to}");
}
