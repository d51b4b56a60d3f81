//! Events as lines of text files: `flatstore:/path`.
//!
//! `file` is one open file and its rotation; one plain thread writes all of them, so that a slow disk holds up nothing.

mod file;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::select;
use parking_lot::Mutex;
use serde_json::json;
use switchroom_kernel::Kernel;
use switchroom_kernel::events::{Event, EventId, EventTransport, Events, Subscriber};
use switchroom_kernel::module::{
    Command, CommandCall, CommandError, CommandResult, EventDecl, Module, Param, ParamKind,
};
use switchroom_kernel::oneshot;
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::net::{BoxFuture, Clock};
use switchroom_script::Value;

use crate::outbox::{self, Counters};
use crate::owner;
use file::{Limits, LogFile, Rotated, Suffix};

/// The module.
pub static MODULE: Module = Module {
    name: "event_flatstore",
    summary: "Events in rotating text files",
    params: &[
        Param::int("max_open_sockets", "100", "Files at a time"),
        Param::str("delimiter", ",", "Between the values of a line"),
        Param::unset("escape_delimiter", "Written in place of a delimiter inside a value"),
        Param {
            kind: ParamKind::Any,
            ..Param::str("file_permissions", "644", "Permissions of new files, octal")
        },
        Param::int("suppress_event_name", "0", "Lines without the event's name"),
        Param::int("rotate_period", "0", "A new file every so many seconds of the clock; 0: never"),
        Param {
            kind: ParamKind::Any,
            ..Param::str("rotate_count", "0", "A new file after so many lines; 0 or OFF: never")
        },
        Param {
            kind: ParamKind::Any,
            ..Param::str("rotate_size", "0", "A new file after so many bytes (10K, 5M, 1G); 0 or OFF: never")
        },
        Param::unset("suffix", "Added to the names of files; $time(format) in it is the time of opening"),
    ],
    events: &[EventDecl {
        name: ROTATION,
        attrs: &["timestamp", "reason", "filename", "old_filename"],
        help: "A file of events was closed and the next one begun",
    }],
    commands: &[Command {
        name: "event_flatstore:rotate",
        old_names: &["evi_flat_rotate"],
        args: "path_to_file",
        help: "Open a file again, after it was moved away",
        run: |call| Box::pin(rotate(call)),
    }],
    statistics: outbox::STATISTICS,
    open,
    live: Some(live),
    close: Some(|kernel| Box::pin(close(kernel.clone()))),
    ..Module::EMPTY
};

const ROTATION: &str = "E_FLATSTORE_ROTATION";
/// Lines that wait for the disk at most, of all files together.
const MAX_WAITING: usize = 10_000;
/// How often rotation by time is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long the end waits for what is still to be written.
const STOP_TIME: Duration = Duration::from_secs(5);

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let most = o.int("max_open_sockets");
    if !(1..=100_000).contains(&most) {
        return Err(format!("max_open_sockets is {most}; it must be between 1 and 100000"));
    }
    let period = o.int("rotate_period");
    let period =
        u64::try_from(period).map_err(|_| format!("rotate_period is {period}; it must not be negative"))?;
    let permissions = o.text("file_permissions");
    let limits = Limits {
        period,
        lines: file::amount("rotate_count", &o.text("rotate_count"))?,
        bytes: file::amount("rotate_size", &o.text("rotate_size"))?,
        mode: owner::mode("file_permissions", &format!("0{}", permissions.trim_start_matches('0')))?,
        suffix: Suffix::parse(&o.text("suffix"))?,
    };
    let style = Style {
        delimiter: o.text("delimiter"),
        escape: o.str("escape_delimiter"),
        named: !o.on("suppress_event_name"),
    };
    let (queue, jobs) = sync_channel(MAX_WAITING);
    let (counters, events) = (Counters::new(o)?, o.kernel.events.clone());
    let writer = Writer { jobs, events, counters: counters.clone(), clock: o.kernel.drivers.clock.clone() };
    let shared =
        Arc::new(Shared { queue, style, limits, counters, most: most as usize, files: Mutex::default() });
    o.kernel.events.add_transport("flatstore", Arc::new(Transport(shared.clone())));
    o.provide(FlatStore {
        shared,
        writer: Mutex::new(Some(writer)),
        stopping: Arc::default(),
        ended: Mutex::default(),
    });
    Ok(())
}

fn live(kernel: &Arc<Kernel>) {
    let state = kernel.state::<FlatStore>();
    let Some(writer) = state.writer.lock().take() else { return };
    let (end, ended) = oneshot::channel();
    *state.ended.lock() = Some(ended);
    let stopping = state.stopping.clone();
    let started = std::thread::Builder::new().name("event_flatstore".into()).spawn(move || {
        writer.run(&stopping);
        end.send(());
    });
    if let Err(e) = started {
        tracing::error!("event_flatstore: the writing thread could not be started: {e}");
    }
}

async fn close(kernel: Arc<Kernel>) {
    let state = kernel.state::<FlatStore>();
    state.stopping.store(true, Ordering::Release);
    let ended = state.ended.lock().take();
    if let Some(ended) = ended {
        select(ended, kernel.drivers.clock.sleep(STOP_TIME)).await;
    }
}

async fn rotate(call: CommandCall) -> CommandResult {
    let path = PathBuf::from(call.text("path_to_file").unwrap_or_default());
    let shared = call.kernel.state::<FlatStore>().shared.clone();
    let known = shared.files.lock().get(&path).and_then(Weak::upgrade);
    let Some(target) = known else {
        return Err(CommandError::new(404, format!("no event is written to {}", path.display())));
    };
    let (answer, done) = oneshot::channel();
    if shared.queue.try_send(Job { target, what: What::Reopen, answer: Some(answer) }).is_err() {
        return Err(CommandError::new(503, "too many lines wait for the disk"));
    }
    match done.await {
        Some(Ok(())) => Ok(json!("OK")),
        Some(Err(e)) => Err(CommandError::new(500, e)),
        None => Err(CommandError::new(500, "the server is ending")),
    }
}

struct FlatStore {
    shared: Arc<Shared>,
    writer: Mutex<Option<Writer>>,
    stopping: Arc<AtomicBool>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

struct Style {
    delimiter: String,
    escape: Option<String>,
    named: bool,
}

struct Shared {
    queue: SyncSender<Job>,
    style: Style,
    limits: Limits,
    counters: Counters,
    most: usize,
    files: Mutex<HashMap<PathBuf, Weak<Target>>>,
}

struct Transport(Arc<Shared>);

impl EventTransport for Transport {
    fn subscriber(&self, socket: &str) -> Result<Arc<dyn Subscriber>, String> {
        let path = PathBuf::from(socket);
        let mut files = self.0.files.lock();
        if let Some(known) = files.get(&path).and_then(Weak::upgrade) {
            return Ok(Arc::new(FlatSubscriber(known)));
        }
        if path.is_dir() {
            return Err(format!("flatstore: {socket} is a folder; the path of a file is needed"));
        }
        files.retain(|_, t| t.strong_count() > 0);
        if files.len() >= self.0.most {
            return Err(format!("flatstore: there are {} files already (max_open_sockets)", self.0.most));
        }
        let target = Arc::new(Target { path: path.clone(), shared: self.0.clone() });
        files.insert(path, Arc::downgrade(&target));
        Ok(Arc::new(FlatSubscriber(target)))
    }
}

/// One file, for as long as somebody writes events to it.
struct Target {
    path: PathBuf,
    shared: Arc<Shared>,
}

struct FlatSubscriber(Arc<Target>);

impl FlatSubscriber {
    fn push(&self, event: &Event, answer: Option<oneshot::Sender<Result<(), String>>>) {
        let shared = &self.0.shared;
        let what = What::Line(line(event, &shared.style));
        if shared.queue.try_send(Job { target: self.0.clone(), what, answer }).is_err() {
            shared.counters.dropped();
        }
    }
}

impl Subscriber for FlatSubscriber {
    fn event(&self, event: &Arc<Event>, _: Option<usize>) {
        self.push(event, None);
    }
    fn describe(&self) -> String {
        format!("flatstore:{}", self.0.path.display())
    }
    fn deliver(self: Arc<Self>, event: &Arc<Event>) -> BoxFuture<Result<(), String>> {
        let (answer, written) = oneshot::channel();
        self.push(event, Some(answer));
        Box::pin(
            async move { written.await.unwrap_or_else(|| Err("too many lines wait for the disk".into())) },
        )
    }
}

/// The name and the values, in one line whatever they contain.
fn line(event: &Event, style: &Style) -> Vec<u8> {
    let mut out = String::new();
    if style.named {
        out.push_str(&event.name);
    }
    for (i, (_, value)) in event.attrs.iter().enumerate() {
        if i > 0 || style.named {
            out.push_str(&style.delimiter);
        }
        match value {
            Value::Null => {}
            Value::Int(n) => out.push_str(&n.to_string()),
            Value::Str(s) => {
                let text = String::from_utf8_lossy(s).replace("\r\n", " ").replace(['\r', '\n'], " ");
                match style.escape.as_deref().filter(|_| !style.delimiter.is_empty()) {
                    Some(instead) => out.push_str(&text.replace(&style.delimiter, instead)),
                    None => out.push_str(&text),
                }
            }
        }
    }
    out.push('\n');
    out.into_bytes()
}

enum What {
    Line(Vec<u8>),
    Reopen,
}

struct Job {
    target: Arc<Target>,
    what: What,
    answer: Option<oneshot::Sender<Result<(), String>>>,
}

/// The writing thread's.
struct Writer {
    jobs: Receiver<Job>,
    events: Arc<Events>,
    counters: Counters,
    clock: Arc<dyn Clock>,
}

impl Writer {
    fn run(self, stopping: &AtomicBool) {
        let mut open: HashMap<PathBuf, (Weak<Target>, LogFile)> = HashMap::new();
        let rotation = self.events.publish(ROTATION, &[]);
        let mut looked = std::time::Instant::now();
        loop {
            match self.jobs.recv_timeout(TICK) {
                Ok(job) => self.job(job, &mut open, rotation),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if stopping.load(Ordering::Acquire) {
                while let Ok(job) = self.jobs.try_recv() {
                    self.job(job, &mut open, rotation);
                }
                return;
            }
            if looked.elapsed() < TICK {
                continue;
            }
            looked = std::time::Instant::now();
            open.retain(|_, (target, _)| target.strong_count() > 0);
            let now = self.clock.unix().as_secs();
            for (target, file) in open.values_mut() {
                let Some(target) = target.upgrade() else { continue };
                match file.by_time(&target.shared.limits, now) {
                    Ok(rotated) => self.tell(rotation, rotated),
                    Err(e) => tracing::error!("event_flatstore: {e}"),
                }
            }
        }
    }

    fn job(&self, job: Job, open: &mut HashMap<PathBuf, (Weak<Target>, LogFile)>, rotation: EventId) {
        let limits = &job.target.shared.limits;
        let now = self.clock.unix().as_secs();
        let done = match job.what {
            What::Reopen => {
                // The next line opens it.
                open.remove(&job.target.path);
                Ok(())
            }
            What::Line(line) => {
                let place = match open.entry(job.target.path.clone()) {
                    std::collections::hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
                    std::collections::hash_map::Entry::Vacant(free) => {
                        let opened = LogFile::open(&job.target.path, limits, now);
                        opened.map(|file| free.insert((Arc::downgrade(&job.target), file)))
                    }
                };
                let written = place.and_then(|(target, file)| {
                    // A subscription that ended and came again is another target of the same file.
                    *target = Arc::downgrade(&job.target);
                    file.write(&line, limits, now)
                });
                self.counters.done(written.is_ok());
                if let Err(e) = &written {
                    tracing::error!("event_flatstore: {e}");
                    // Perhaps the disk is another one when it is opened again.
                    open.remove(&job.target.path);
                }
                written.map(|rotated| self.tell(rotation, rotated))
            }
        };
        if let Some(answer) = job.answer {
            answer.send(done);
        }
    }

    fn tell(&self, event: EventId, rotated: Option<Rotated>) {
        let Some(r) = rotated else { return };
        if self.events.heard(event) {
            let text = |t: &str| Value::Str(t.to_owned().into());
            let path = |p: &std::path::Path| text(&p.to_string_lossy());
            let at = Value::Int(r.at as i64);
            self.events.raise(event, vec![at, text(r.reason), path(&r.new), path(&r.old)], None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_name_and_the_values_and_stays_one_line() {
        let event = Event {
            id: EventId(0),
            name: "E_X".into(),
            attrs: vec![
                ("a".into(), Value::Str("x,y\r\nz".into())),
                ("b".into(), Value::Int(5)),
                ("c".into(), Value::Null),
            ],
        };
        let mut style = Style { delimiter: ",".into(), escape: None, named: true };
        assert_eq!(line(&event, &style), b"E_X,x,y z,5,\n");
        style = Style { delimiter: ",".into(), escape: Some("\\,".into()), named: false };
        assert_eq!(line(&event, &style), b"x\\,y z,5,\n");
    }
}
