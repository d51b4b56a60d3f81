//! sipp: scenarios played by the real program.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;

/// A scenario to play.
pub struct Sipp {
    dir: TempDir,
    args: Vec<String>,
    timeout: Duration,
}

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; 0 says that every call went as the scenario has it, 1 that one did not, `None` that it had to be killed.
    pub code: Option<i32>,
    /// What it complained about.
    pub errors: String,
    /// Every message it sent and received.
    pub messages: String,
    /// Its screens.
    pub output: String,
}

impl Outcome {
    /// Whether every call went as the scenario has it.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Fails the test with everything sipp has to say.
    ///
    /// # Panics
    /// When a call did not go as the scenario has it.
    #[track_caller]
    pub fn assert_success(&self) {
        assert!(
            self.success(),
            "sipp ended with {:?}\n== errors\n{}\n== messages\n{}\n== output\n{}",
            self.code,
            self.errors,
            self.messages,
            self.output
        );
    }
}

impl Sipp {
    /// A scenario from its XML text: one call, on 127.0.0.1, at most 30 seconds.
    ///
    /// # Panics
    /// When its files cannot be written.
    pub fn new(scenario: &str) -> Sipp {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary folder: {e}"));
        let sipp = Sipp { dir, args: Vec::new(), timeout: Duration::from_secs(30) };
        sipp.write("scenario.xml", scenario);
        sipp.args(&["-sf", "scenario.xml", "-i", "127.0.0.1", "-m", "1"])
    }

    /// The server to play against.
    pub fn target(self, addr: SocketAddr) -> Sipp {
        self.args(&[&addr.to_string()])
    }

    /// Local port.
    pub fn port(self, port: u16) -> Sipp {
        self.args(&["-p", &port.to_string()])
    }

    /// Number of calls.
    pub fn calls(self, calls: u32) -> Sipp {
        self.args(&["-m", &calls.to_string()])
    }

    /// A value for `[name]` in the scenario.
    pub fn key(self, name: &str, value: &str) -> Sipp {
        self.args(&["-key", name, value])
    }

    /// Lines for `[field0]` and the others, each call taking the next.
    pub fn fields(self, lines: &[&str]) -> Sipp {
        self.write("fields.csv", &format!("SEQUENTIAL\n{}\n", lines.join("\n")));
        self.args(&["-inf", "fields.csv"])
    }

    /// Further arguments, as on its command line.
    pub fn args(mut self, args: &[&str]) -> Sipp {
        self.args.extend(args.iter().map(|a| (*a).to_owned()));
        self
    }

    /// When to give up.
    pub fn timeout(mut self, timeout: Duration) -> Sipp {
        self.timeout = timeout;
        self
    }

    /// Plays it to its end.
    pub fn run(self) -> Outcome {
        self.start().finish()
    }

    /// Begins to play it, for a scenario that waits for calls.
    pub fn start(self) -> Playing {
        let mut command = Command::new("sipp");
        command.args(&self.args).current_dir(self.dir.path());
        command.args(["-nostdin", "-trace_err", "-error_file", "errors.log"]);
        command.args(["-trace_msg", "-message_file", "messages.log"]);
        command.args(["-timeout", &format!("{}s", self.timeout.as_secs().max(1)), "-timeout_error"]);
        // Its screen library asks for a terminal's name.
        command.env("TERM", "dumb");
        Playing { process: Process::start(&mut command), dir: self.dir, timeout: self.timeout }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// A scenario that is being played; killed when dropped.
pub struct Playing {
    process: Process,
    dir: TempDir,
    timeout: Duration,
}

impl Playing {
    /// Waits for its end.
    pub fn finish(mut self) -> Outcome {
        // It ends by itself a little after its own limit.
        let status = self.process.wait(self.timeout + Duration::from_secs(10));
        if status.is_none() {
            self.process.kill();
        }
        Outcome {
            code: status.and_then(|s| s.code()),
            errors: read(self.dir.path(), "errors.log"),
            messages: read(self.dir.path(), "messages.log"),
            output: self.process.log.lines().join("\n"),
        }
    }
}

fn read(dir: &Path, name: &str) -> String {
    // Absent when there was nothing to say.
    std::fs::read(dir.join(name)).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
}
