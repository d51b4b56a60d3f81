//! SMPP connections to SMS centres and applications by the table `smpp`: `send_smpp_message()` sends, and what comes is sent to
//! `outbound_uri` as a SIP MESSAGE (RFC 3428).
//!
//! Compatible with the module of this name, and with what it leaves out: real bind types, answers to everything a peer may
//! ask, joined parts, the result of a submission, reload. Left out: storing messages, accounts, and routing; they belong to
//! the SMS centre.

mod answer;
pub mod api;
mod asked;
mod commands;
mod connection;
pub(crate) mod functions;
mod gateway;
mod incoming;
mod kept;
mod lines;
mod outgoing;
mod params;
mod parts;
mod phones;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use switchroom_kernel::module::{EventDecl, Function, Module, Statistic, TableUse, Variable};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::stream::{Accept, ServerTls, StreamListen};
use switchroom_wire::sip::Uri;

use crate::link::join::Bounds;
use gateway::{Counted, Gateway};
use store::{COLUMNS, Table};

/// Name of the transport in `socket=smpp:address:port`.
const TRANSPORT: &str = "smpp";

/// The module.
pub static MODULE: Module = Module {
    name: "proto_smpp",
    summary: "SMPP connections to SMS centres, and SIP MESSAGE to SMS and back",
    needs: &["tm"],
    params: params::PARAMS,
    functions: &[Function::new(
        "send_smpp_message",
        &["str,[str],[str],[str],[int],[int]"],
        "RFB",
        functions::send_smpp_message,
        "Send a short message and wait until the SMS centre has answered",
    )
    .asynchronous()],
    variables: &[Variable::ro("smpp", functions::field, "What the last send_smpp_message() gave")
        .named(functions::bind_field)],
    events: &[
        EventDecl {
            name: "E_SMPP_BIND",
            attrs: &["name", "session_type", "state", "reason"],
            help: "A connection was bound, refused, or is not bound any more",
        },
        EventDecl {
            name: "E_SMPP_RECEIPT",
            attrs: &["name", "id", "state", "error", "source", "destination", "text"],
            help: "A delivery receipt came",
        },
        EventDecl {
            name: "E_SMPP_ALERT",
            attrs: &["name", "number", "application", "status"],
            help: "An SMS centre says that a phone can be reached again",
        },
    ],
    commands: commands::COMMANDS,
    statistics: &[
        Statistic::counter("smpp_sent", "Messages that peers accepted"),
        Statistic::counter("smpp_failed", "Messages that were refused or not answered"),
        Statistic::counter("smpp_throttled", "Times a peer said that it is too much"),
        Statistic::counter("smpp_received", "Messages received, whole"),
        Statistic::counter("smpp_receipts", "Delivery receipts received"),
        Statistic::counter("smpp_refused", "Messages received whose MESSAGE failed"),
        Statistic::counter("smpp_bind_failures", "Binds that were refused, ours and of others"),
    ],
    transports: &[TRANSPORT],
    tables: &[
        TableUse { name: "smpp", version: 1 },
        TableUse { name: "smpp_part", version: 1 },
        TableUse { name: "smpp_report", version: 1 },
    ],
    open,
    live: Some(|kernel| {
        let gateway = kernel.state::<Arc<Gateway>>();
        let _ = gateway.kernel.set(Arc::downgrade(kernel));
        let all: Vec<_> = gateway.connections.read().values().cloned().collect();
        all.iter().for_each(|c| connection::start(gateway, c));
        kernel.every(Duration::from_secs(1), |kernel| async move {
            incoming::release(kernel.state::<Arc<Gateway>>());
        });
        kernel.every(Duration::from_secs(60), |kernel| async move {
            kernel.state::<Arc<Gateway>>().look_after_phones();
        });
    }),
    close: Some(|kernel| {
        let gateway = kernel.state::<Arc<Gateway>>().clone();
        let all: Vec<_> = gateway.connections.read().values().cloned().collect();
        all.iter().for_each(|c| connection::stop(&gateway, c));
        Box::pin(async move {
            // Peers have a moment to answer our unbind.
            for _ in 0..20 {
                if gateway.bound() == 0 {
                    return;
                }
                gateway.clock.sleep(Duration::from_millis(50)).await;
            }
        })
    }),
    ..Module::EMPTY
};

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let outbound_uri = o.str("outbound_uri").filter(|u| !u.is_empty());
    if let Some(uri) = &outbound_uri {
        Uri::parse(uri.as_bytes()).map_err(|e| format!("outbound_uri: \"{uri}\" is no SIP URI: {e}"))?;
    }
    let url = o.str("db_url");
    let name = o.text("smpp_table");
    let store = o.store(url.as_deref(), &[(name.as_str(), 1)])?;
    // Older databases do not have it; parts are then kept in memory only.
    let stored = block_on(parts::waiting(&*store));
    let keeps_parts = stored.is_ok();
    if let Err(e) = &stored {
        tracing::info!(
            "proto_smpp: parts of long messages are not kept over a restart: table smpp_part: {e}"
        );
    }
    let reports = block_on(kept::waiting(&*store));
    let keeps_reports = reports.is_ok();
    if let Err(e) = &reports {
        tracing::info!(
            "proto_smpp: who waits for a receipt is forgotten by a restart: table smpp_report: {e}"
        );
    }
    let (users, applications) =
        reports.unwrap_or_default().into_iter().partition(|row| row.kind == kept::Kind::User);
    let (mut asked, mut phones) = (asked::Waiting::default(), phones::Phones::default());
    asked.restore(users);
    phones.restore(applications);
    let columns = COLUMNS.map(|c| o.text(&format!("{c}_col")));
    let port = match u16::try_from(o.int("smpp_port")) {
        Ok(port @ 1..) => port,
        _ => return Err(format!("smpp_port: {} is no port", o.int("smpp_port"))),
    };
    let seconds = |name: &str, most: i64| match o.int(name) {
        n if (1..=most).contains(&n) => Ok(Duration::from_secs(n as u64)),
        n => Err(format!("{name}: {n} is not between 1 and {most} seconds")),
    };
    let listens: Vec<_> = o
        .kernel
        .listens
        .iter()
        .filter(|l| l.transport == TRANSPORT)
        .map(|l| match l.addr.port() {
            0 => (l.addr.ip(), port).into(),
            _ => l.addr,
        })
        .collect();
    let local = listens.first().map_or_else(|| format!("127.0.0.1:{port}"), ToString::to_string);
    let drivers = o.kernel.drivers.clone();
    let gateway = Arc::new(Gateway {
        clock: drivers.clock,
        streams: drivers.streams.clone(),
        spawn: drivers.spawn,
        random: Default::default(),
        kernel: Default::default(),
        table: Table { store, name, columns },
        confs: params::Confs::read(o)?,
        outbound_uri: outbound_uri.map(Bytes::from),
        local,
        send_wait: seconds("send_wait", 300)?,
        max_queue: o.int("max_queue").clamp(1, 1_000_000) as usize,
        join: Bounds { timeout: seconds("join_timeout", 7 * 86_400)?, ..Bounds::default() },
        stats: o.kernel.stats.clone(),
        counted: Counted {
            sent: o.stat("smpp_sent")?,
            failed: o.stat("smpp_failed")?,
            throttled: o.stat("smpp_throttled")?,
            received: o.stat("smpp_received")?,
            receipts: o.stat("smpp_receipts")?,
            refused: o.stat("smpp_refused")?,
            bind_failures: o.stat("smpp_bind_failures")?,
        },
        bind_event: o.kernel.events.find("E_SMPP_BIND"),
        receipt_event: o.kernel.events.find("E_SMPP_RECEIPT"),
        alert_event: o.kernel.events.find("E_SMPP_ALERT"),
        asked: Mutex::new(asked),
        phones: Mutex::new(phones),
        imdn_wait: seconds("imdn_timeout", 7 * 86_400)?.as_secs() as i64,
        keeps_reports,
        lines: Default::default(),
        keeps_parts,
        receiver: Default::default(),
        connections: Default::default(),
        serial: Default::default(),
    });
    listen(o, &gateway, &listens)?;
    let rows = block_on(gateway.table.load()).map_err(|e| format!("table {}: {e}", gateway.table.name))?;
    gateway.prepare(rows)?;
    gateway.restore(stored.unwrap_or_default());
    let shown = gateway.clone();
    let help = "Connections that are bound now";
    o.kernel.stats.computed("proto_smpp", "smpp_bound", help, move || shown.bound() as i64);
    let shown = gateway.clone();
    let help = "Messages whose sender waits for a receipt, or for what a phone says";
    o.kernel.stats.computed("proto_smpp", "smpp_waiting_reports", help, move || {
        (shown.asked.lock().len() + shown.phones.lock().len()) as i64
    });
    o.provide(gateway);
    Ok(())
}

/// Peers that connect before traffic starts are closed.
fn listen(o: &Opening<'_>, gateway: &Arc<Gateway>, addresses: &[std::net::SocketAddr]) -> Result<(), String> {
    let identity = match (o.str("tls_certificate"), o.str("tls_private_key")) {
        (Some(certificate), Some(key)) => Some((PathBuf::from(certificate), PathBuf::from(key))),
        (None, None) => None,
        _ => return Err("tls_certificate and tls_private_key must be set together".into()),
    };
    let connections = o.int("max_connections").clamp(1, 100_000) as usize;
    for addr in addresses {
        let tls = identity.clone().filter(|_| i64::from(addr.port()) == o.int("tls_port"));
        let tls = tls.map(|(certificate, key)| ServerTls { certificate, key, client_authorities: None });
        let gateway = gateway.clone();
        let accept: Accept = Arc::new(move |stream, peer| Box::pin(gateway.clone().accept(stream, peer)));
        let listen = StreamListen { addr: *addr, tls, connections };
        block_on(o.kernel.drivers.streams.listen(listen, accept)).map_err(|e| e.to_string())?;
    }
    Ok(())
}
