//! Management over named pipes: JSON-RPC 2.0 requests come in on one FIFO, answers go to a FIFO of the asker's.
//!
//! One plain thread reads, runs commands one after the other, and answers; nothing here touches a worker. Left out:
//! tracing of commands, whose parameters are known but have no effect.

mod fifo;
mod reply;
mod request;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::commands;
use switchroom_kernel::module::{Module, Param, ParamKind};
use switchroom_kernel::oneshot;
use switchroom_kernel::open::{Opening, block_on};

use crate::owner;
use fifo::{Fifo, Owner};
use request::Request;

/// The module.
pub static MODULE: Module = Module {
    name: "mi_fifo",
    summary: "Management commands over named pipes",
    params: &[
        Param::str("fifo_name", "/tmp/opensips_fifo", "The FIFO that requests are written to"),
        Param { kind: ParamKind::Any, ..Param::int("fifo_mode", "0660", "Its permissions") },
        Param { kind: ParamKind::Any, ..Param::unset("fifo_group", "Its group, by name or number") },
        Param { kind: ParamKind::Any, ..Param::unset("fifo_user", "Its owner, by name or number") },
        Param::str("reply_dir", "/tmp/", "Folder of the FIFOs that answers go to"),
        Param::int("pretty_printing", "0", "Answers in several indented lines"),
        Param::unset("trace_destination", "Known, without effect"),
        Param::unset("trace_bwlist", "Known, without effect"),
    ],
    old_params: &[("reply_indent", "")],
    open,
    live: Some(live),
    close: Some(|kernel| Box::pin(stop(kernel.clone()))),
    ..Module::EMPTY
};

/// Longest time a command may take before its asker is told so.
const COMMAND_TIME: Duration = Duration::from_secs(30);
/// How long the end waits for a command that is still running.
const STOP_TIME: Duration = Duration::from_secs(3);

struct MiFifo {
    fifo: Mutex<Option<Fifo>>,
    path: PathBuf,
    reply_dir: PathBuf,
    pretty: bool,
    stopping: AtomicBool,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let path = PathBuf::from(o.text("fifo_name"));
    if path.as_os_str().is_empty() {
        return Err("fifo_name is empty; it must be the path of a FIFO".into());
    }
    let reply_dir = PathBuf::from(o.text("reply_dir"));
    if !reply_dir.is_dir() {
        return Err(format!("reply_dir \"{}\" is not a folder", reply_dir.display()));
    }
    if o.given("trace_destination") {
        tracing::warn!("mi_fifo: trace_destination has no effect: there is no tracing of commands");
    }
    let owner = Owner::new(o.str("fifo_user").as_deref(), o.str("fifo_group").as_deref())?;
    let fifo = Fifo::create(&path, owner::mode("fifo_mode", &o.text("fifo_mode"))?, owner)?;
    o.provide(MiFifo {
        fifo: Mutex::new(Some(fifo)),
        path,
        reply_dir,
        pretty: o.on("pretty_printing"),
        stopping: AtomicBool::new(false),
        ended: Mutex::default(),
    });
    Ok(())
}

fn live(kernel: &Arc<Kernel>) {
    let state = kernel.state::<MiFifo>();
    let Some(fifo) = state.fifo.lock().take() else { return };
    let (end, ended) = oneshot::channel();
    *state.ended.lock() = Some(ended);
    let kernel = kernel.clone();
    let started = std::thread::Builder::new().name("mi_fifo".into()).spawn(move || {
        serve(&kernel, fifo);
        end.send(());
    });
    if let Err(e) = started {
        tracing::error!("mi_fifo: the reading thread could not be started: {e}");
    }
}

async fn stop(kernel: Arc<Kernel>) {
    let state = kernel.state::<MiFifo>();
    state.stopping.store(true, Ordering::Release);
    fifo::wake(&state.path);
    // Never went live: nobody else removes it.
    if let Some(fifo) = state.fifo.lock().take() {
        fifo.remove();
    }
    let ended = state.ended.lock().take();
    if let Some(ended) = ended {
        select(ended, kernel.drivers.clock.sleep(STOP_TIME)).await;
    }
}

fn serve(kernel: &Arc<Kernel>, mut fifo: Fifo) {
    let state = kernel.state::<MiFifo>();
    let mut requests = request::Reader::default();
    while !state.stopping.load(Ordering::Acquire) {
        match fifo.read(requests.is_waiting()) {
            fifo::Read::Bytes(bytes) => requests.feed(&bytes),
            fifo::Read::Quiet => requests.quiet(),
            fifo::Read::Again => {}
        }
        while let Some(request) = requests.next() {
            answer(kernel, state, request);
        }
    }
    fifo.remove();
}

fn answer(kernel: &Arc<Kernel>, state: &MiFifo, request: Request) {
    let answer = match request.body {
        Ok(text) => block_on(run(kernel.clone(), text)),
        Err(error) => {
            tracing::warn!("mi_fifo: {error}");
            Some(json!({"jsonrpc": "2.0", "error": {"code": -32700, "message": error}, "id": null}))
        }
    };
    let (Some(answer), Some(to)) = (answer, request.reply_to) else { return };
    let mut text = match state.pretty {
        true => serde_json::to_vec_pretty(&answer),
        false => serde_json::to_vec(&answer),
    }
    .unwrap_or_default();
    text.push(b'\n');
    if let Err(e) = reply::send(&state.reply_dir, &to, &text) {
        tracing::warn!("mi_fifo: {e}");
    }
}

async fn run(kernel: Arc<Kernel>, text: Vec<u8>) -> Option<Json> {
    let limit = kernel.drivers.clock.sleep(COMMAND_TIME);
    let command = Box::pin(async { commands::json_rpc(&kernel, &text).await });
    match select(command, limit).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => {
            let id = serde_json::from_slice::<Json>(&text).ok().and_then(|r| r.get("id").cloned());
            let error = json!({"code": -32000, "message": "the command took too long and was given up"});
            Some(json!({"jsonrpc": "2.0", "error": error, "id": id}))
        }
    }
}
