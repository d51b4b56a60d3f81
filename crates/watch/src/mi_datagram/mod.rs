//! Management over datagrams: one JSON-RPC 2.0 request or batch in a UDP or Unix datagram, the answer to its sender.
//!
//! Left out: tracing of commands, whose parameters are known but have no effect.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::commands;
use switchroom_kernel::module::{Module, Param, ParamKind};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::datagram::{Answerer, DatagramAddress, DatagramListen, MAX_DATAGRAM};
use switchroom_kernel::ports::net::BoxFuture;

use crate::owner;

/// The module.
pub static MODULE: Module = Module {
    name: "mi_datagram",
    summary: "Management commands over UDP and Unix datagram sockets",
    params: &[
        Param::unset("socket_name", "Where requests come in: udp:address:port, or a path"),
        Param::int("children_count", "1", "Commands at a time"),
        Param { kind: ParamKind::Any, ..Param::int("unix_socket_mode", "0660", "Permissions of the socket") },
        Param { kind: ParamKind::Any, ..Param::unset("unix_socket_group", "Its group, by name or number") },
        Param { kind: ParamKind::Any, ..Param::unset("unix_socket_user", "Its owner, by name or number") },
        Param::int("socket_timeout", "2000", "Milliseconds after which a command is given up"),
        Param::int("socket_buf_size", "65457", "Largest answer in bytes"),
        Param::int("pretty_printing", "0", "Answers in several indented lines"),
        Param::unset("trace_destination", "Known, without effect"),
        Param::unset("trace_bwlist", "Known, without effect"),
    ],
    open,
    live: Some(live),
    close: Some(|kernel| close(kernel.clone())),
    ..Module::EMPTY
};

struct MiDatagram {
    listen: DatagramListen,
    timeout: Duration,
    largest: usize,
    pretty: bool,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let name = o.text("socket_name");
    let at = match name.strip_prefix("udp:") {
        Some(addr) => {
            let wrong =
                |_| format!("socket_name \"{name}\" is no udp:address:port, such as udp:127.0.0.1:8080");
            DatagramAddress::Udp(addr.parse().map_err(wrong)?)
        }
        None => DatagramAddress::Unix(PathBuf::from(name.strip_prefix("unix:").unwrap_or(&name))),
    };
    match &at {
        DatagramAddress::Unix(path) if path.as_os_str().is_empty() => {
            return Err("socket_name is not set; it is a path, or udp:address:port".into());
        }
        DatagramAddress::Udp(addr) if !addr.ip().is_loopback() => {
            tracing::warn!("mi_datagram: {addr} can be reached by others, and datagrams have no password");
        }
        _ => {}
    }
    if o.given("trace_destination") {
        tracing::warn!("mi_datagram: trace_destination has no effect: there is no tracing of commands");
    }
    let mode = owner::mode("unix_socket_mode", &o.text("unix_socket_mode"))?;
    let user = o.str("unix_socket_user").filter(|t| t != "-1");
    let group = o.str("unix_socket_group").filter(|t| t != "-1");
    let user = owner::number(user.as_deref(), "unix_socket_user", "/etc/passwd")?;
    let group = owner::number(group.as_deref(), "unix_socket_group", "/etc/group")?;
    let at_a_time = o.int("children_count").clamp(1, 1024) as usize;
    let state = MiDatagram {
        listen: DatagramListen { at, mode, owner: (user, group), at_a_time },
        timeout: Duration::from_millis(o.int("socket_timeout").clamp(1, 600_000) as u64),
        largest: o.int("socket_buf_size").clamp(512, MAX_DATAGRAM as i64) as usize,
        pretty: o.on("pretty_printing"),
    };
    o.provide(state);
    Ok(())
}

fn live(kernel: &Arc<Kernel>) {
    let listen = kernel.state::<MiDatagram>().listen.clone();
    let shared = kernel.clone();
    let answerer: Answerer = Arc::new(move |request| answer(shared.clone(), request));
    let started = kernel.drivers.datagrams.serve(listen, answerer);
    // Who is told that the server is ready may ask at once.
    match block_on(started) {
        Ok(at) => tracing::info!("mi_datagram: listening on {at}"),
        Err(e) => tracing::error!("mi_datagram: {e}"),
    }
}

fn close(kernel: Arc<Kernel>) -> BoxFuture<()> {
    if let DatagramAddress::Unix(path) = &kernel.state::<MiDatagram>().listen.at {
        // It may be gone already.
        let _ = std::fs::remove_file(path);
    }
    Box::pin(std::future::ready(()))
}

fn answer(kernel: Arc<Kernel>, request: Bytes) -> BoxFuture<Option<Bytes>> {
    Box::pin(async move {
        let state = kernel.state::<MiDatagram>();
        let id = serde_json::from_slice::<Json>(&request).ok().and_then(|r| r.get("id").cloned());
        let failed = |why: String| {
            let error = json!({"code": -32000, "message": why});
            Some(json!({"jsonrpc": "2.0", "error": error, "id": id}))
        };
        let command = std::pin::pin!(commands::json_rpc(&kernel, &request));
        let answer = match select(command, kernel.drivers.clock.sleep(state.timeout)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => failed("the command took too long and was given up".into()),
        }?;
        let text = print(&answer, state.pretty);
        if text.len() <= state.largest {
            return Some(text);
        }
        let why = format!(
            "the answer has {} bytes, more than the {} of a datagram; ask by mi_http or mi_fifo",
            text.len(),
            state.largest
        );
        failed(why).map(|e| print(&e, state.pretty))
    })
}

fn print(answer: &Json, pretty: bool) -> Bytes {
    match pretty {
        true => serde_json::to_vec_pretty(answer),
        false => serde_json::to_vec(answer),
    }
    .unwrap_or_default()
    .into()
}
