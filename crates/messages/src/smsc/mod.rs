//! The SMS centre: customers bind with SMPP, messages are stored and forwarded, receipts come back.
//!
//! `queue` decides who is next, `store` and `writer` make it durable, `centre` is the life of a message, `server` the SMPP
//! side, `hook` web servers as destinations, `accounts`, `routes` and `policy` the operator's data.

pub mod accounts;
pub mod centre;
mod commands;
pub mod customer;
mod hook;
pub mod message;
mod policy;
mod queue;
mod routes;
mod server;
mod store;
#[cfg(test)]
mod tests;
mod upstream;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use switchroom_kernel::Kernel;
use switchroom_kernel::module::{Command, Module, Param, Statistic, TableUse};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_money::credit::api::Credit;

use centre::{Base, Centre, Counters, Settings};

use crate::link;

/// The module.
pub static MODULE: Module = Module {
    name: "smsc",
    summary: "SMS centre: SMPP server, store and forward, receipts",
    params: &[
        Param::unset("db_url", "Database of messages, accounts, routes and rules"),
        Param::multi("listen", "Address and port for SMPP, such as 0.0.0.0:2775"),
        Param::multi("listen_tls", "Address and port for SMPP over TLS, such as 0.0.0.0:3550"),
        Param::unset("tls_certificate", "Certificate chain for TLS (PEM)"),
        Param::unset("tls_key", "Its private key (PEM)"),
        Param::str("system_id", "switchroom", "Our name towards customers"),
        Param::int("connections", "10000", "SMPP connections at a time, for each listener"),
        Param::int("window", "1000", "Unanswered messages of one connection in each direction, at most"),
        Param::int("validity", "86400", "Seconds until a message is given up that does not say when"),
        Param::int("max_validity", "604800", "The most a message may ask for"),
        Param::str(
            "retry",
            "5,30,60,300,900,1800",
            "Seconds until each further attempt; the last is repeated",
        ),
        Param::int("max_messages", "1000000", "Messages kept at a time; more are refused with ESME_RMSGQFUL"),
        Param::int("keep_days", "3", "Days for which ended messages can be asked for"),
        Param::int("receipt_offset", "0", "Seconds that dates in receipts are ahead of UTC"),
    ],
    commands: &[
        Command {
            name: "smsc:status",
            old_names: &[],
            args: "",
            help: "Messages that are kept, and the lines they wait in",
            run: commands::status,
        },
        Command {
            name: "smsc:binds",
            old_names: &[],
            args: "",
            help: "Accounts and their binds",
            run: commands::binds,
        },
        Command {
            name: "smsc:reload",
            old_names: &[],
            args: "",
            help: "Read accounts, routes and rules again; nothing changes when something is wrong",
            run: commands::reload,
        },
        Command {
            name: "smsc:message",
            old_names: &[],
            args: "account,id",
            help: "State of a message",
            run: commands::message,
        },
        Command {
            name: "smsc:cancel",
            old_names: &[],
            args: "account,id",
            help: "Cancel a message that waits",
            run: commands::cancel,
        },
        Command {
            name: "smsc:account",
            old_names: &[],
            args: "system_id,[password],[credit],[rate],[binds],[window],[enabled],[webhook],[api_key]",
            help: "Make or change an account; api_key 1 makes a new key and says it once",
            run: commands::account,
        },
        Command {
            name: "smsc:route",
            old_names: &[],
            args: "target,[prefix],[account],[sender],[network],[content],[priority],[weight],[cost],[retry]",
            help: "Add a route",
            run: commands::route,
        },
        Command {
            name: "smsc:policy",
            old_names: &[],
            args: "kind,value,[account]",
            help: "Add a rule",
            run: commands::policy,
        },
    ],
    statistics: &[
        Statistic::counter("accepted", "Messages accepted"),
        Statistic::counter("refused", "Messages refused"),
        Statistic::counter("delivered", "Messages and receipts delivered"),
        Statistic::counter("expired", "Messages and receipts given up by time"),
        Statistic::counter("failed", "Messages and receipts ended otherwise"),
        Statistic::counter("retried", "Attempts to be repeated"),
        Statistic::counter("receipts", "Receipts made"),
        Statistic::counter("unknown", "Attempts whose outcome is not known"),
    ],
    tables: &[
        TableUse { name: "sms_message", version: 1 },
        TableUse { name: "sms_account", version: 1 },
        TableUse { name: "sms_route", version: 1 },
        TableUse { name: "sms_network", version: 1 },
        TableUse { name: "sms_policy", version: 1 },
    ],
    open,
    live: Some(live),
    close: Some(|kernel| {
        let writer = kernel.state::<State>().centre.writer.clone();
        Box::pin(async move { writer.flush().await })
    }),
    ..Module::EMPTY
};

/// What the module keeps.
pub struct State {
    /// The centre.
    pub centre: Arc<Centre>,
    links: Arc<link::Counters>,
    listens: Vec<server::Listen>,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let tables: Vec<(&str, u32)> = MODULE.tables.iter().map(|t| (t.name, t.version)).collect();
    let store = o.store(o.str("db_url").as_deref(), &tables)?;
    let positive = |name: &str| match o.int(name) {
        n if n > 0 => Ok(n),
        n => Err(format!("{name} is {n}; it must be positive")),
    };
    let settings = Settings {
        system_id: o.text("system_id").chars().take(15).collect(),
        validity: positive("validity")?,
        longest_validity: positive("max_validity")?,
        retry: routes::retry(&o.text("retry"))?,
        most: positive("max_messages")? as usize,
        keep: positive("keep_days")? * 86_400,
        offset: o.int("receipt_offset"),
    };
    let counters = Counters {
        accepted: o.stat("accepted")?,
        refused: o.stat("refused")?,
        delivered: o.stat("delivered")?,
        expired: o.stat("expired")?,
        failed: o.stat("failed")?,
        retried: o.stat("retried")?,
        receipts: o.stat("receipts")?,
        unknown: o.stat("unknown")?,
    };
    let listens = listens(o, positive("window")? as usize, positive("connections")? as usize)?;
    let drivers = &o.kernel.drivers;
    let base = Base {
        clock: drivers.clock.clone(),
        spawn: drivers.spawn.clone(),
        web: drivers.web.clone(),
        store,
        credit: Arc::default(),
        stats: Some((o.kernel.stats.clone(), counters)),
    };
    let centre = block_on(Centre::load(settings, base))?;
    let (kept, to_write) = (centre.clone(), centre.writer.clone());
    o.kernel
        .stats
        .computed("smsc", "kept", "Messages and receipts that are kept", move || kept.depths().0 as i64);
    o.kernel
        .stats
        .computed("smsc", "to_write", "Changes that wait to be written", move || to_write.waiting() as i64);
    let links: Arc<link::Counters> = Arc::default();
    for (at, (name, _)) in links.list().into_iter().enumerate() {
        let links = links.clone();
        let read = move || links.list().get(at).map_or(0, |(_, n)| *n as i64);
        o.kernel.stats.computed("smsc", name, "Counted on all SMPP connections of customers", read);
    }
    o.provide(State { centre, links, listens });
    Ok(())
}

fn listens(o: &Opening<'_>, window: usize, connections: usize) -> Result<Vec<server::Listen>, String> {
    let mut all = Vec::new();
    let certificate = o.str("tls_certificate").map(PathBuf::from);
    let tls = certificate.zip(o.str("tls_key").map(PathBuf::from));
    for (name, secure) in [("listen", false), ("listen_tls", true)] {
        for text in o.all(name) {
            let addr = text
                .parse()
                .map_err(|_| format!("{name} \"{text}\" is no address with a port, such as 0.0.0.0:2775"))?;
            if secure && tls.is_none() {
                return Err(format!("{name} is set, so tls_certificate and tls_key must be set as well"));
            }
            let tls = tls.clone().filter(|_| secure);
            all.push(server::Listen { addr, tls, connections, session: server::session(window) });
        }
    }
    Ok(all)
}

fn live(kernel: &Arc<Kernel>) {
    let state = kernel.state::<State>();
    if let Some(credit) = kernel.find::<Arc<Credit>>() {
        // Modules may be loaded in any order; `live` is only called once.
        let _ = state.centre.base.credit.set(credit.clone());
    }
    let shared = kernel.clone();
    let upstreams =
        move |name: &str| Arc::new(upstream::Upstream::new(&shared, name)) as Arc<dyn centre::Outlet>;
    state.centre.set_upstreams(Box::new(upstreams));
    crate::proto_smpp::api::set_receiver(kernel, Arc::new(upstream::Ear(Arc::downgrade(&state.centre))));
    let clock = kernel.drivers.clock.clone();
    kernel.drivers.spawn.spawn(Box::pin(state.centre.writer.clone().run(clock)));
    kernel.every(Duration::from_secs(1), |kernel| async move {
        kernel.state::<State>().centre.tick();
    });
    kernel.every(Duration::from_secs(600), |kernel| async move {
        kernel.state::<State>().centre.forget_old().await;
    });
    for listen in &state.listens {
        server::listen(kernel, &state.centre, &state.links, listen.clone());
    }
}
