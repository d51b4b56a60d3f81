//! One run of a program: a thread that starts it, one for each of its streams, and an end by time.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};

/// Programs at a time.
const MAX_RUNNING: usize = 64;
/// Bytes of each stream that are kept; what comes after is read and thrown away.
const MAX_OUTPUT: usize = 256 * 1024;
/// Time between the polite signal and the one that cannot be refused.
const GRACE: Duration = Duration::from_secs(2);

/// What to run.
pub struct Program {
    /// For `/bin/sh -c`.
    pub command: Bytes,
    /// Standard input; nothing when `None`.
    pub input: Option<Bytes>,
    /// Variables added to the environment.
    pub environment: Vec<(String, Bytes)>,
    /// Whether standard output is wanted.
    pub output: bool,
    /// Whether standard error is wanted.
    pub errors: bool,
    /// Longest run.
    pub limit: Option<Duration>,
}

/// What it said.
#[derive(Debug, Default)]
pub struct Finished {
    /// Standard output.
    pub output: Bytes,
    /// Standard error.
    pub errors: Bytes,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The bound is reached.
    #[error("{MAX_RUNNING} programs are running already")]
    TooMany,
    /// The system refused.
    #[error("the program cannot be started: {0}")]
    Start(#[from] std::io::Error),
    /// It was ended.
    #[error("the program ran longer than time_to_kill and was ended")]
    TooLong,
}

/// Start a program on a thread; `report` is called when it has closed the streams that are wanted.
pub fn start(
    program: Program,
    running: Arc<AtomicUsize>,
    report: impl FnOnce(Result<Finished, ProgramError>) + Send + 'static,
) -> Result<(), ProgramError> {
    if running.fetch_add(1, Ordering::Relaxed) >= MAX_RUNNING {
        running.fetch_sub(1, Ordering::Relaxed);
        return Err(ProgramError::TooMany);
    }
    let place = Place(running);
    std::thread::Builder::new().name("exec".into()).spawn(move || {
        let _place = place;
        run(program, report);
    })?;
    Ok(())
}

/// A place among those that run.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn run(program: Program, report: impl FnOnce(Result<Finished, ProgramError>)) {
    let mut child = match spawn(&program) {
        Ok(child) => child,
        Err(e) => return report(Err(e.into())),
    };
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), program.input) {
        // Its own thread: a program that reads late must not keep its output from being read. A program that does not
        // read at all gives an error here that means nothing.
        std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
    }
    let until = program.limit.map(|limit| Instant::now() + limit);
    let output = child.stdout.take().map(collect);
    let errors = child.stderr.take().map(collect);
    let finished =
        read(output, until).and_then(|output| Ok(Finished { output, errors: read(errors, until)? }));
    let finished = finished.and_then(|finished| {
        if program.output || program.errors {
            Ok(finished)
        } else {
            end(&mut child, until).map(|()| finished)
        }
    });
    let too_long = finished.is_err();
    report(finished);
    if too_long || end(&mut child, until).is_err() {
        kill(&mut child);
    }
}

fn spawn(program: &Program) -> std::io::Result<Child> {
    let pipe = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
    Command::new("/bin/sh")
        .arg("-c")
        .arg(OsStr::from_bytes(&program.command))
        .envs(program.environment.iter().map(|(n, v)| (n, OsStr::from_bytes(v))))
        .stdin(pipe(program.input.is_some()))
        .stdout(pipe(program.output))
        .stderr(pipe(program.errors))
        // A group of its own, so that what the shell starts ends with it.
        .process_group(0)
        .spawn()
}

/// Read a stream to its end on a thread of its own.
fn collect(mut stream: impl Read + Send + 'static) -> Receiver<Bytes> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(n) = stream.read(&mut buffer) {
            if n == 0 {
                break;
            }
            let room = MAX_OUTPUT.saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..n.min(room)]);
        }
        // Nobody listens any more when the program was too slow.
        let _ = sender.send(kept.into());
    });
    receiver
}

fn read(stream: Option<Receiver<Bytes>>, until: Option<Instant>) -> Result<Bytes, ProgramError> {
    let Some(stream) = stream else { return Ok(Bytes::new()) };
    let Some(until) = until else { return Ok(stream.recv().unwrap_or_default()) };
    match stream.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(bytes) => Ok(bytes),
        Err(RecvTimeoutError::Disconnected) => Ok(Bytes::new()),
        Err(RecvTimeoutError::Timeout) => Err(ProgramError::TooLong),
    }
}

/// Wait for the end of the program itself.
fn end(child: &mut Child, until: Option<Instant>) -> Result<(), ProgramError> {
    let Some(until) = until else {
        child.wait()?;
        return Ok(());
    };
    while child.try_wait()?.is_none() {
        if Instant::now() >= until {
            return Err(ProgramError::TooLong);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn kill(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| {
        if let Some(group) = group {
            // It may have ended by itself meanwhile.
            let _ = kill_process_group(group, signal);
        }
    };
    signal(Signal::TERM);
    if end(child, Some(Instant::now() + GRACE)).is_err() {
        signal(Signal::KILL);
        let _ = child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(command: &str, input: Option<&str>, limit: Option<Duration>) -> Result<Finished, ProgramError> {
        let program = Program {
            command: command.to_owned().into(),
            input: input.map(|i| i.to_owned().into()),
            environment: vec![("OSIPS_EXEC_0".into(), "env".into())],
            output: true,
            errors: true,
            limit,
        };
        let (sender, receiver) = channel();
        start(program, Arc::default(), move |f| sender.send(f).unwrap()).unwrap();
        receiver.recv().unwrap()
    }

    #[test]
    fn both_streams_are_read() {
        let finished = shell("cat; echo $OSIPS_EXEC_0 >&2", Some("in"), None).unwrap();
        assert_eq!((&finished.output[..], &finished.errors[..]), (&b"in"[..], &b"env\n"[..]));
    }

    #[test]
    fn output_is_bounded() {
        let finished = shell("head -c 1000000 /dev/zero", None, None).unwrap();
        assert_eq!(finished.output.len(), MAX_OUTPUT);
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let started = Instant::now();
        let finished = shell("sleep 60; echo late", None, Some(Duration::from_millis(100)));
        assert!(matches!(finished, Err(ProgramError::TooLong)));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn programs_at_a_time_are_bounded() {
        let full = Arc::new(AtomicUsize::new(MAX_RUNNING));
        let program = Program {
            command: Bytes::from_static(b"true"),
            input: None,
            environment: Vec::new(),
            output: false,
            errors: false,
            limit: None,
        };
        assert!(matches!(start(program, full.clone(), |_| ()), Err(ProgramError::TooMany)));
        assert_eq!(full.load(Ordering::Relaxed), MAX_RUNNING);
    }
}
