//! `t_write_req()` and `t_write_unix()`: what a request says, as lines of text for a program that reads a FIFO or a Unix
//! socket.
//!
//! One thread does the writing, so that a reader that does not read holds up no call; its queue is bounded. What is written:
//! `name: value` lines (`action`, `method`, `ruri`, `from`, `to`, `call-id`, `from-tag`, `to-tag`, `cseq`, `transaction`), then
//! the elements of the `tw_append` list that was named, then an empty line, the body when the list has `$rb`, and a line with a
//! single dot.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::oneshot;
use switchroom_kernel::open::Opening;
use switchroom_kernel::run::read_variable;
use switchroom_script::Variable;

/// Messages that may wait for the writing thread.
const QUEUE: usize = 1024;

/// One list of `tw_append`.
struct Append {
    name: String,
    /// Label and variable.
    lines: Vec<(String, Variable)>,
    body: bool,
}

/// The lists, and the way to the writing thread.
pub(super) struct Export {
    lists: Vec<Append>,
    timeout: Duration,
    /// Started at the first use; `None` when the thread could not be started.
    queue: OnceLock<Option<SyncSender<Job>>>,
}

impl Export {
    fn queue(&self) -> Option<&SyncSender<Job>> {
        let start = || {
            let (queue, jobs) = sync_channel(QUEUE);
            let timeout = self.timeout;
            let thread = std::thread::Builder::new().name("t_write".into());
            thread.spawn(move || serve(&jobs, timeout)).ok().map(|_| queue)
        };
        self.queue.get_or_init(start).as_ref()
    }
}

struct Job {
    path: PathBuf,
    socket: bool,
    text: Vec<u8>,
    done: oneshot::Sender<Result<(), String>>,
}

/// Read `tw_append`.
pub(super) fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let mut lists = Vec::new();
    for text in o.all("tw_append").iter().filter(|t| !t.is_empty()) {
        lists.push(list(o, text).map_err(|e| format!("tw_append \"{text}\": {e}"))?);
    }
    let seconds = o.int("unix_tx_timeout");
    let Ok(seconds @ 1..) = u64::try_from(seconds) else {
        return Err(format!("unix_tx_timeout is {seconds}; it must be a positive number of seconds"));
    };
    o.provide(Export { lists, timeout: Duration::from_secs(seconds), queue: OnceLock::new() });
    Ok(())
}

/// `name:[label=]$var;...`
fn list(o: &Opening<'_>, text: &str) -> Result<Append, String> {
    let (name, elements) = text.split_once(':').ok_or("it must be `name:element;element`")?;
    let mut append = Append { name: name.trim().to_owned(), lines: Vec::new(), body: false };
    for element in elements.split(';').map(str::trim).filter(|e| !e.is_empty()) {
        let (label, variable) = match element.split_once('=') {
            Some((label, variable)) if !label.contains('$') => (label.trim(), variable.trim()),
            _ => (element.trim_start_matches('$'), element),
        };
        if variable == "$rb" {
            append.body = true;
            continue;
        }
        let variable = Variable::compile(variable, &o.kernel.registry)?;
        append.lines.push((label.to_owned(), variable));
    }
    Ok(append)
}

pub(super) fn t_write_req(c: &mut Call<'_>) -> Flow {
    write(c, false)
}

pub(super) fn t_write_unix(c: &mut Call<'_>) -> Flow {
    write(c, true)
}

/// `(action[/list], path)`: -1 when the list is not known, -2 when it could not be written.
fn write(c: &mut Call<'_>, socket: bool) -> Flow {
    let (info, path) = (c.text(0), PathBuf::from(c.text(1)));
    let shard = c.ctx.shard.clone();
    let export = shard.kernel.state::<Export>();
    let (action, list) = match info.split_once('/') {
        Some((action, name)) => match export.lists.iter().find(|l| l.name == name) {
            Some(list) => (action, Some(list)),
            None => {
                tracing::error!("no tw_append has the name \"{name}\"");
                return FALSE;
            }
        },
        None => (&info[..], None),
    };
    let text = compose(c.ctx, action, list);
    let (done, answer) = oneshot::channel();
    let job = Job { path: path.clone(), socket, text, done };
    if export.queue().is_none_or(|q| q.try_send(job).is_err()) {
        tracing::error!("{} is not written to: {QUEUE} messages are waiting already", path.display());
        return Flow::Value(-2);
    }
    wait(answer, move |_, written| match written {
        Some(Ok(())) => TRUE,
        Some(Err(why)) => {
            tracing::error!("{}: {why}", path.display());
            Flow::Value(-2)
        }
        None => Flow::Value(-2),
    })
}

fn compose(ctx: &mut Ctx, action: &str, list: Option<&Append>) -> Vec<u8> {
    let msg = ctx.msg.clone();
    let mut out = Vec::with_capacity(512);
    // A value with a line end in it would look like further lines.
    let mut line = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend(value.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
        out.push(b'\n');
    };
    line("action", action.as_bytes());
    line("method", msg.method_name());
    line("ruri", &ctx.ruri());
    line("from", msg.from().map(|f| f.uri).unwrap_or_default());
    line("to", msg.to().map(|t| t.uri).unwrap_or_default());
    line("call-id", msg.call_id());
    line("from-tag", msg.from().ok().and_then(|f| f.tag()).unwrap_or_default());
    line("to-tag", msg.to().ok().and_then(|t| t.tag()).unwrap_or_default());
    line("cseq", itoa::Buffer::new().format(msg.cseq().map_or(0, |c| c.0)).as_bytes());
    line("transaction", super::variables::name_of(ctx).unwrap_or_default().as_bytes());
    for (label, variable) in list.map(|l| &l.lines[..]).unwrap_or_default() {
        let value = read_variable(ctx, variable).to_bytes().unwrap_or_default();
        line(label, &value);
    }
    out.push(b'\n');
    if list.is_some_and(|l| l.body) {
        out.extend_from_slice(msg.body());
        out.push(b'\n');
    }
    out.extend_from_slice(b".\n");
    out
}

fn serve(jobs: &Receiver<Job>, timeout: Duration) {
    while let Ok(job) = jobs.recv() {
        let written =
            if job.socket { to_socket(&job.path, &job.text, timeout) } else { to_fifo(&job.path, &job.text) };
        job.done.send(written.map_err(|e| e.to_string()));
    }
}

/// A FIFO that nobody reads is an error at once, and a full one as well.
fn to_fifo(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut fifo = std::fs::OpenOptions::new().write(true).custom_flags(nonblock).open(path)?;
    if !fifo.metadata()?.file_type().is_fifo() {
        return Err(std::io::Error::other("is no FIFO"));
    }
    fifo.write_all(text)
}

/// A stream socket, or a datagram socket when that is what listens there.
fn to_socket(path: &Path, text: &[u8], timeout: Duration) -> std::io::Result<()> {
    let datagram = UnixDatagram::unbound()?;
    datagram.set_write_timeout(Some(timeout))?;
    match datagram.connect(path) {
        Ok(()) => datagram.send(text).map(|_| ()),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(timeout))?;
            stream.write_all(text)
        }
        Err(e) => Err(e),
    }
}
