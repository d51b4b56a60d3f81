//! A child process whose output is kept line by line, and that does not outlive the test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Lines of standard output and standard error, in the order in which they came.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.0.lock().clone()
    }

    /// The first line, of those that came or will come within `timeout`, that satisfies `pick`.
    pub fn wait_for(&self, timeout: Duration, pick: impl Fn(&str) -> bool) -> Option<String> {
        let until = Instant::now() + timeout;
        let mut lines = self.0.0.lock();
        let mut seen = 0;
        loop {
            if let Some(line) = lines[seen..].iter().find(|line| pick(line)) {
                return Some(line.clone());
            }
            seen = lines.len();
            if self.0.1.wait_until(&mut lines, until).timed_out() && lines.len() == seen {
                return None;
            }
        }
    }

    fn collect(&self, output: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                log.0.0.lock().push(String::from_utf8_lossy(&line).trim_end().to_owned());
                log.0.1.notify_all();
            }
        });
    }
}

/// A running child.
pub(crate) struct Process {
    child: Child,
    pub log: Log,
}

impl Process {
    pub fn start(command: &mut Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(e) => panic!("{:?} does not start: {e}", command.get_program()),
        };
        let log = Log::default();
        if let Some(output) = child.stdout.take() {
            log.collect(output);
        }
        if let Some(output) = child.stderr.take() {
            log.collect(output);
        }
        Process { child, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name (`TERM`, `HUP`).
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.is_ok_and(|s| s.success()), "signal {name} could not be sent to {}", self.child.id());
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The exit status, when it ends within `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + timeout;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
