//! The running program with a script, and what the tests ask it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use switchroom_testkit::{Server, free_port};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_switchroom");

/// A residential proxy without authentication: registration in memory, calls to registered users.
pub const PROXY: &str = r#"
route {
    if (!mf_process_maxfwd_header(10)) { send_reply(483, "Too Many Hops"); exit; }
    if (has_totag()) {
        if (is_method("ACK") && t_check_trans()) { t_relay(); exit; }
        if (!loose_route()) { send_reply(404, "Not here"); exit; }
        route(relay);
    }
    if (is_method("CANCEL")) {
        if (t_check_trans()) t_relay();
        else send_reply(481, "Call Leg/Transaction Does Not Exist");
        exit;
    }
    t_check_trans();
    if (is_method("REGISTER")) {
        route(register);
        exit;
    }
    route(call);
}
route[relay] {
    if (!t_relay()) send_reply(500, "Internal Error");
    exit;
}
"#;

/// Registers without a question.
pub const OPEN_REGISTER: &str = r#"
route[register] { save("location"); }
"#;

/// Registers after digest authentication.
pub const DIGEST_REGISTER: &str = r#"
route[register] {
    if (!www_authorize("127.0.0.1", "subscriber")) { www_challenge("127.0.0.1", "auth"); exit; }
    if (!db_is_to_authorized("subscriber")) { send_reply(403, "Forbidden auth ID"); exit; }
    save("location");
}
"#;

/// Calls whoever is registered.
pub const OPEN_CALL: &str = r#"
route[call] {
    record_route();
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
"#;

/// Calls whoever is registered after digest authentication.
pub const DIGEST_CALL: &str = r#"
route[call] {
    if (!proxy_authorize("127.0.0.1", "subscriber")) { proxy_challenge("127.0.0.1", "auth"); exit; }
    consume_credentials();
    record_route();
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
"#;

const MODULES: &str = r#"
loadmodule "proto_udp.so"
loadmodule "proto_tcp.so"
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "sipmsgops.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "httpd.so"
loadmodule "mi_http.so"
modparam("registrar", "min_expires", 0)
modparam("tm", "fr_timeout", 5)
modparam("tm", "fr_inv_timeout", 10)
"#;

const DATABASE_MODULES: &str = r#"
loadmodule "auth.so"
loadmodule "auth_db.so"
modparam("auth_db", "calculate_ha1", 0)
modparam("auth_db", "use_domain", 1)
"#;

/// How to start the program.
pub struct Setup {
    routes: String,
    params: String,
    users: Vec<(String, String)>,
    database: bool,
    tables: Option<String>,
    /// Module and URL of a database server with its tables.
    server: Option<(String, String)>,
}

impl Setup {
    /// A server with these routes, in memory only.
    pub fn new(routes: &[&str]) -> Setup {
        Setup {
            routes: routes.concat(),
            params: String::new(),
            users: Vec::new(),
            database: false,
            tables: None,
            server: None,
        }
    }

    /// Further lines before the routes: `modparam`, `loadmodule`, global parameters.
    pub fn params(mut self, lines: &str) -> Setup {
        self.params.push_str(lines);
        self.params.push('\n');
        self
    }

    /// With a database that the program makes, in `test.db`.
    pub fn database(mut self) -> Setup {
        self.database = true;
        self
    }

    /// With a database made by this SQL instead.
    pub fn tables(mut self, sql: &str) -> Setup {
        self.tables = Some(sql.to_owned());
        self.database()
    }

    /// With a database on a server, which has its tables already, through this module.
    pub fn on_server(mut self, module: &str, url: &str) -> Setup {
        self.server = Some((module.to_owned(), url.to_owned()));
        self.database()
    }

    /// With a subscriber of 127.0.0.1 in the database.
    pub fn user(mut self, name: &str, password: &str) -> Setup {
        self.users.push((format!("{name}@127.0.0.1"), password.to_owned()));
        self.database()
    }

    /// The script as a whole for these ports.
    pub fn script_for(&self, sip: u16, mi: u16) -> String {
        let mut text = format!(
            "log_level=2\nudp_workers=2\nsocket=udp:127.0.0.1:{sip}\nsocket=tcp:127.0.0.1:{sip}\n{MODULES}\
             modparam(\"httpd\", \"port\", {mi})\n"
        );
        if self.database {
            let (module, url) = match &self.server {
                Some((module, url)) => (&**module, &**url),
                None => ("db_sqlite", "sqlite://{dir}/test.db"),
            };
            text.push_str(&format!("db_default_url=\"{url}\"\nloadmodule \"{module}.so\"\n"));
            text.push_str(DATABASE_MODULES);
        }
        text.push_str(&self.params);
        text.push_str(&self.routes);
        text
    }

    /// Makes the database, and starts the program.
    pub fn start(self) -> House {
        let (sip, mi) = (free_port(), free_port());
        let builder = Server::builder(PROGRAM).config(&self.script_for(sip, mi)).ready("ready");
        let dir = builder.dir().to_owned();
        if self.database {
            let url = match &self.server {
                Some((_, url)) => url.clone(),
                None => format!("sqlite://{}/test.db", dir.display()),
            };
            match &self.tables {
                Some(sql) => drop(sqlite(&dir.join("test.db"), sql)),
                None if self.server.is_some() => {}
                None => drop(program(&["db", "--url", &url, "init"])),
            }
            for (user, password) in &self.users {
                program(&["user", "--url", &url, "add", user, password]);
            }
        }
        House { server: builder.start(), addr: SocketAddr::from(([127, 0, 0, 1], sip)), mi, dir }
    }
}

/// The program, running.
pub struct House {
    /// Its process.
    pub server: Server,
    /// Where it takes SIP, over UDP and TCP.
    pub addr: SocketAddr,
    /// Port of mi_http.
    pub mi: u16,
    /// Its folder.
    pub dir: PathBuf,
}

impl House {
    /// Runs a management command over HTTP with `switchroom mi`; gives its success, output and errors.
    pub fn mi(&self, args: &[&str]) -> (bool, String, String) {
        let url = format!("http://127.0.0.1:{}/mi", self.mi);
        let (status, out, err) = self.server.command(&[&["mi", "--url", &url][..], args].concat());
        (status.success(), out, err)
    }

    /// The JSON result of a management command that must succeed.
    #[track_caller]
    pub fn mi_json(&self, args: &[&str]) -> Value {
        let (good, out, err) = self.mi(args);
        assert!(good, "{args:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
    }

    /// The result of a query on its database, one row a line, columns separated by `|`.
    #[track_caller]
    pub fn sql(&self, query: &str) -> String {
        sqlite(&self.dir.join("test.db"), query)
    }

    /// Waits for a line of its log that contains `text`.
    #[track_caller]
    pub fn expect_log(&self, text: &str) -> String {
        let log = self.server.log();
        match log.wait_for(Duration::from_secs(5), |line| line.contains(text)) {
            Some(line) => line,
            None => panic!("no `{text}` in the log:\n{}", log.lines().join("\n")),
        }
    }

    /// Waits until that many lines of its log contain `text`, and takes care that there are no more.
    #[track_caller]
    pub fn expect_log_times(&self, text: &str, times: usize) {
        let log = self.server.log();
        let seen = std::cell::Cell::new(0);
        let count = |line: &str| {
            seen.set(seen.get() + usize::from(line.contains(text)));
            seen.get() == times
        };
        let came = times == 0 || log.wait_for(Duration::from_secs(5), count).is_some();
        assert!(
            came && self.count_log(text) == times,
            "not {times} times `{text}`:\n{}",
            log.lines().join("\n")
        );
    }

    /// How many lines of its log contain `text`.
    pub fn count_log(&self, text: &str) -> usize {
        self.server.log().lines().iter().filter(|line| line.contains(text)).count()
    }
}

/// Runs the program with arguments; gives its output.
#[track_caller]
pub fn program(args: &[&str]) -> String {
    let run = Command::new(PROGRAM).args(args).output().unwrap_or_else(|e| panic!("{PROGRAM}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{args:?}: {out}{err}");
    out.into_owned()
}

/// Runs SQL with the program sqlite3, which knows nothing of ours.
#[track_caller]
pub fn sqlite(file: &std::path::Path, sql: &str) -> String {
    let run = Command::new("sqlite3").arg("-cmd").arg(".timeout 5000").arg(file).arg(sql).output();
    let run = run.unwrap_or_else(|e| panic!("sqlite3: {e}; `cargo xtask test` installs it"));
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{sql}: {out}{err}");
    out.trim_end().to_owned()
}
