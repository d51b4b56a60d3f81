//! Real database servers from Debian packages, each with its data in a folder that goes away with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports::free_port;
use crate::process::Process;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    MariaDb,
    Postgres,
    Redis,
    RedisCluster,
}

/// A running server on a free port of 127.0.0.1 and on a socket in its folder; it is killed when dropped.
pub struct Database {
    kind: Kind,
    process: Process,
    port: u16,
    dir: TempDir,
}

impl Database {
    /// MariaDB (package `mariadb-server`); the user `root` has no password.
    ///
    /// # Panics
    /// When it does not start.
    pub fn mariadb() -> Database {
        let dir = folder("mysql");
        let data = dir.path().join("data");
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
        install.arg(format!("--datadir={}", data.display())).arg(format!("--user={}", user("mysql")));
        run(install.arg(OWN_IO));
        Database::start(Kind::MariaDb, dir)
    }

    /// PostgreSQL (package `postgresql`); the user `postgres` needs no password.
    ///
    /// # Panics
    /// When it does not start.
    pub fn postgres() -> Database {
        let dir = folder("postgres");
        let mut init = as_user("postgres", &postgres_program("initdb"));
        run(init
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(dir.path().join("data")));
        Database::start(Kind::Postgres, dir)
    }

    /// Redis (package `redis-server`), without a password.
    ///
    /// # Panics
    /// When it does not start.
    pub fn redis() -> Database {
        Database::start(Kind::Redis, folder("redis"))
    }

    /// A Redis cluster of one server that has all slots.
    ///
    /// # Panics
    /// When it does not start.
    pub fn redis_cluster() -> Database {
        let server = Database::start(Kind::RedisCluster, folder("redis"));
        server.sql("0", "CLUSTER ADDSLOTSRANGE 0 16383");
        let until = Instant::now() + START;
        while !server.sql("0", "CLUSTER INFO").contains("cluster_state:ok") && Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn start(kind: Kind, dir: TempDir) -> Database {
        let port = free_port();
        let process = launch(kind, dir.path(), port);
        Database { kind, process, port, dir }
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder; the socket is in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `scheme://user@127.0.0.1:port/database`
    pub fn url(&self, database: &str) -> String {
        let port = self.port;
        match self.kind {
            Kind::MariaDb => format!("mysql://root@127.0.0.1:{port}/{database}"),
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{port}/{database}"),
            Kind::Redis | Kind::RedisCluster => format!("redis://127.0.0.1:{port}/{database}"),
        }
    }

    /// The same by way of the socket.
    pub fn socket_url(&self, database: &str) -> String {
        let dir = self.dir.path().display();
        match self.kind {
            Kind::MariaDb => format!("mysql://root@localhost/{database}?unix_socket={dir}/mysql.sock"),
            Kind::Postgres => format!("postgres://postgres@:{}/{database}?host={dir}", self.port),
            Kind::Redis | Kind::RedisCluster => format!("redis+unix://{dir}/redis.sock?db={database}"),
        }
    }

    /// Runs a statement (a command, for Redis) with the server's own client; rows as lines, columns with tabs.
    ///
    /// # Panics
    /// When the client fails.
    pub fn sql(&self, database: &str, text: &str) -> String {
        let port = self.port.to_string();
        let mut client = match self.kind {
            Kind::MariaDb => {
                let mut client = Command::new("mariadb");
                client.args(["--no-defaults", "-h127.0.0.1", "-P", &port, "-uroot", "-N", "-B", "-e", text]);
                client.arg(database);
                client
            }
            Kind::Postgres => {
                let mut client = Command::new("psql");
                client.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port]);
                client.args(["-U", "postgres", "-d", database, "-At", "-F", "\t", "-c", text]);
                client
            }
            Kind::Redis | Kind::RedisCluster => {
                let mut client = Command::new("redis-cli");
                client.args(["-p", &port, "-n", database]).args(text.split(' '));
                client
            }
        };
        let output = run(&mut client);
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The server stops answering, with its connections open, as a machine does that hangs.
    pub fn freeze(&self) {
        self.signal_all("STOP");
        // The last of its threads may still be at work for a moment.
        let frozen = |pid: &String| stat(pid).is_none_or(|(state, _)| state == "T");
        let until = Instant::now() + Duration::from_secs(10);
        let mut all = self.children();
        all.push(self.process.id().to_string());
        while !all.iter().all(frozen) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.signal_all("CONT");
    }

    /// Ends it at once and starts it again on the same port with the same data.
    pub fn restart(&mut self) {
        self.kill();
        self.process = launch(self.kind, self.dir.path(), self.port);
    }

    /// Ends it at once, with the processes it started.
    pub fn kill(&mut self) {
        let children = self.children();
        self.process.kill();
        children.iter().for_each(|pid| signal("KILL", pid));
        // A server that starts while one of them lives finds its data in use.
        let until = Instant::now() + Duration::from_secs(10);
        while children.iter().any(|pid| is_alive(pid)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = fs::remove_file(self.dir.path().join("data/postmaster.pid"));
    }

    /// To the server and the processes it started.
    fn signal_all(&self, name: &str) {
        self.process.signal(name);
        self.children().iter().for_each(|pid| signal(name, pid));
    }

    fn children(&self) -> Vec<String> {
        let parent = self.process.id().to_string();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().into_string().ok());
        pids.filter(|pid| stat(pid).is_some_and(|(_, of)| of == parent)).collect()
    }
}

fn signal(name: &str, pid: &str) {
    // It may have ended by itself.
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid).stderr(Stdio::null()).status();
}

fn is_alive(pid: &str) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// State and parent of a process.
fn stat(pid: &str) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

/// The kernel has only so many asynchronous requests for all; several servers that start at once would use them up.
const OWN_IO: &str = "--innodb-use-native-aio=0";

fn launch(kind: Kind, dir: &Path, port: u16) -> Process {
    let data = dir.join("data");
    let (mut command, ready) = match kind {
        Kind::MariaDb => {
            let mut command = Command::new("mariadbd");
            command.args(["--no-defaults", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0"]);
            command.arg(OWN_IO);
            command.args([
                "--innodb-buffer-pool-size=32M",
                "--skip-name-resolve",
                "--performance-schema=OFF",
            ]);
            command.arg(format!("--user={}", user("mysql"))).arg(format!("--port={port}"));
            command.arg(format!("--datadir={}", data.display()));
            command.arg(format!("--socket={}/mysql.sock", dir.display()));
            command.arg(format!("--pid-file={}/mysql.pid", dir.display()));
            (command, "ready for connections")
        }
        Kind::Postgres => {
            let mut command = as_user("postgres", &postgres_program("postgres"));
            command.arg("-D").arg(data).arg("-p").arg(port.to_string()).arg("-k").arg(dir);
            command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
            (command, "ready to accept connections")
        }
        Kind::Redis | Kind::RedisCluster => {
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            command.arg("--port").arg(port.to_string()).arg("--dir").arg(dir);
            command.arg("--unixsocket").arg(dir.join("redis.sock"));
            if kind == Kind::RedisCluster {
                command.args(["--cluster-enabled", "yes"]);
            }
            (command, "eady to accept connections")
        }
    };
    let process = Process::start(command.current_dir(dir));
    if process.log.wait_for(START, |line| line.contains(ready)).is_none() {
        panic!("{:?} did not start:\n{}", command.get_program(), process.log.lines().join("\n"));
    }
    process
}

/// A folder that the server's user may write to.
fn folder(owner: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary folder: {e}"));
    if is_root() {
        run(Command::new("chown").arg(user(owner)).arg(dir.path()));
    }
    dir
}

/// The servers refuse to run as root, so there they run as the user that their package has made.
fn as_user(name: &str, program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", name, "--regid", name, "--clear-groups"]).arg(program);
    command
}

fn user(name: &str) -> String {
    if is_root() { name.to_owned() } else { std::env::var("USER").unwrap_or_else(|_| name.to_owned()) }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// PostgreSQL's programs stand in a folder for each version.
fn postgres_program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|v| v.path().join("bin").join(name)).filter(|p| p.exists()).max();
    found.unwrap_or_else(|| PathBuf::from(name))
}

fn run(command: &mut Command) -> Output {
    let output =
        command.output().unwrap_or_else(|e| panic!("{:?} does not start: {e}", command.get_program()));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
