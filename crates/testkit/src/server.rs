//! The program itself, started with a script in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Log, Process};

/// How to start the program.
pub struct Builder {
    binary: PathBuf,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    config: Option<String>,
    ready: String,
    timeout: Duration,
    dir: TempDir,
}

impl Builder {
    /// The routing script. `{dir}` in it becomes the server's folder. It is written to `test.cfg` there, and
    /// `run -f test.cfg` is what is started unless [`Builder::args`] says otherwise.
    pub fn config(mut self, text: &str) -> Builder {
        self.config = Some(text.to_owned());
        self
    }

    /// Arguments instead of `run -f test.cfg`; `{dir}` is replaced.
    pub fn args(mut self, args: &[&str]) -> Builder {
        self.args = args.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Part of the line that says that the server is ready, in any case of letters; `listening` by default.
    pub fn ready(mut self, text: &str) -> Builder {
        self.ready = text.to_lowercase();
        self
    }

    /// How long it may take to become ready; 20 seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.timeout = timeout;
        self
    }

    /// The server's folder, for files that must be there before it starts.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// With the log when it is not ready in time.
    pub fn start(self) -> Server {
        let place = |text: &str| text.replace("{dir}", &self.dir.path().display().to_string());
        if let Some(text) = &self.config {
            let file = self.dir.path().join("test.cfg");
            std::fs::write(&file, place(text)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        }
        let mut args: Vec<String> = self.args.iter().map(|a| place(a)).collect();
        if args.is_empty() {
            args.push("run".to_owned());
            if self.config.is_some() {
                args.extend(["-f".to_owned(), "test.cfg".to_owned()]);
            }
        }
        let mut server = Server {
            process: None,
            binary: self.binary,
            args,
            envs: self.envs,
            ready: self.ready,
            dir: self.dir,
        };
        server.start_again(self.timeout);
        server
    }
}

/// The running program; it is killed when dropped.
pub struct Server {
    /// `None` after it was ended.
    process: Option<Process>,
    binary: PathBuf,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    ready: String,
    dir: TempDir,
}

impl Server {
    /// Prepares a start of `binary`.
    pub fn builder(binary: impl Into<PathBuf>) -> Builder {
        Builder {
            binary: binary.into(),
            args: Vec::new(),
            envs: Vec::new(),
            config: None,
            ready: "listening".to_owned(),
            timeout: Duration::from_secs(20),
            dir: tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary folder: {e}")),
        }
    }

    /// Starts `binary` with a script.
    pub fn start(binary: impl Into<PathBuf>, config: &str) -> Server {
        Server::builder(binary).config(config).start()
    }

    /// Its folder, which is its working directory and goes away with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it wrote since its last start.
    pub fn log(&self) -> Log {
        self.process.as_ref().map(|p| p.log.clone()).unwrap_or_default()
    }

    /// Process number; 0 when it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::id)
    }

    /// Sends a signal by name (`TERM`, `HUP`).
    pub fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            process.signal(name);
        }
    }

    /// Asks it to end and waits; `None` when it does not.
    pub fn stop(&mut self, timeout: Duration) -> Option<ExitStatus> {
        self.signal("TERM");
        self.process.as_mut()?.wait(timeout)
    }

    /// Ends it at once, as `kill -9` does. Its folder stays.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again in the same folder with the same arguments.
    ///
    /// # Panics
    /// With the log when it is not ready in time.
    pub fn start_again(&mut self, timeout: Duration) {
        self.process = None;
        let mut command = Command::new(&self.binary);
        command.args(&self.args).current_dir(self.dir.path()).envs(self.envs.iter().map(|(n, v)| (n, v)));
        let process = Process::start(&mut command);
        let ready = process.log.wait_for(timeout, |line| line.to_lowercase().contains(&self.ready));
        assert!(
            ready.is_some(),
            "{} {} did not say `{}` within {timeout:?}:\n{}",
            self.binary.display(),
            self.args.join(" "),
            self.ready,
            process.log.lines().join("\n")
        );
        self.process = Some(process);
    }

    /// Runs the program once with other arguments in the same folder, as a user beside the server would. Gives its
    /// status, output and errors.
    ///
    /// # Panics
    /// When it does not start.
    pub fn command(&self, args: &[&str]) -> (ExitStatus, String, String) {
        let run = Command::new(&self.binary)
            .args(args)
            .current_dir(self.dir.path())
            .envs(self.envs.iter().map(|(n, v)| (n, v)))
            .output();
        let output = run.unwrap_or_else(|e| panic!("{} does not start: {e}", self.binary.display()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status, text(&output.stdout), text(&output.stderr))
    }
}
