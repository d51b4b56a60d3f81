//! The SMS centre: customers bind with SMPP, messages are stored and forwarded, receipts come back.
//!
//! `queue` decides who is next, `store` and `writer` make it durable, `intake` is how a message enters, `script` shows it to
//! the operator's route, `centre` is its further life, `ending` its end, `parts` joins what goes to SIP users, `server` is the SMPP side, `hook` web servers as destinations, `accounts`, `routes` and `policy` the operator's data.

pub mod accounts;
mod aliases;
pub mod centre;
mod commands;
pub mod customer;
mod ending;
mod functions;
mod hook;
mod intake;
mod lists;
pub mod message;
mod parts;
mod policy;
mod queue;
pub mod report;
mod routes;
mod script;
mod server;
mod sip;
mod store;
#[cfg(test)]
mod tests;
pub mod text;
mod upstream;
mod variables;
mod web;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use switchroom_engine::smpp_session::Settings as SessionSettings;
use switchroom_kernel::Kernel;
use switchroom_kernel::module::{Command, Function, Module, Param, Statistic, TableUse, Variable};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_money::credit::api::Credit;
use switchroom_script::names::RouteType;

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
        Param::int(
            "enquire_link",
            "30",
            "Seconds of silence after which a customer is asked whether he is there",
        ),
        Param::int(
            "response",
            "60",
            "Seconds until a customer must answer; then he is cut, and gets it again",
        ),
        Param::int("validity", "86400", "Seconds until a message is given up that does not say when"),
        Param::int("max_validity", "604800", "The most a message may ask for"),
        Param::str(
            "retry",
            "5,30,60,300,900,1800",
            "Seconds until each further attempt; the last is repeated",
        ),
        Param::int("max_parts", "10", "Parts of a text that comes by HTTP or from the script"),
        Param::int("max_messages", "1000000", "Messages kept at a time; more are refused with ESME_RMSGQFUL"),
        Param::int("keep_days", "3", "Days for which ended messages can be asked for"),
        Param::int("receipt_offset", "0", "Seconds that dates in receipts are ahead of UTC"),
        Param::unset("route", "Name of the route that sees each message before it is routed"),
        Param::unset("alias_table", "Table that maps numbers and SIP users, such as dbaliases"),
        Param::int("imdn", "0", "1: SIP users are asked to say that a message was delivered (RFC 5438)"),
        Param::int("join_timeout", "600", "Seconds that parts of a text to a SIP user wait for each other"),
    ],
    functions: &[
        Function::new(
            "sms_submit",
            &["str,[str],[str],[str],[int],[int]"],
            "RFB",
            functions::sms_submit,
            "Submit a text in the name of an account",
        )
        .asynchronous(),
        Function::new("sms_reject", &["[int]"], "R", script::sms_reject, "Refuse the message being routed"),
    ],
    variables: &[Variable::rw(
        "sms",
        variables::read,
        variables::write,
        "The message being routed, and what the last sms_submit() was given",
    )
    .named(variables::bind)],
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
            args: "system_id,[password],[credit],[rate],[binds],[window],[enabled],[webhook],[api_key],[strict]",
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
        Command {
            name: "smsc:list",
            old_names: &[],
            args: "[name],[address],[account]",
            help: "Distribution lists; with an address it is added, with - before it removed",
            run: commands::list,
        },
        Command {
            name: "smsc:webhooks",
            old_names: &[],
            args: "account,[state],[most]",
            help: "What the webhook of an account has not taken: pending, or failed for good",
            run: commands::webhooks,
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
        Statistic::counter("diverted", "Messages that went on to their next destination"),
        Statistic::counter("dropped", "Messages that the script has thrown away"),
    ],
    tables: &[
        TableUse { name: "sms_message", version: 1 },
        TableUse { name: "sms_account", version: 1 },
        TableUse { name: "sms_route", version: 1 },
        TableUse { name: "sms_network", version: 1 },
        TableUse { name: "sms_policy", version: 1 },
        TableUse { name: "sms_list", version: 1 },
        TableUse { name: "sms_request", version: 1 },
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
    /// Name of the route that sees each message.
    route: Option<String>,
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
        max_parts: positive("max_parts")?.min(255) as usize,
        keep: positive("keep_days")? * 86_400,
        offset: o.int("receipt_offset"),
        join: positive("join_timeout")?,
        imdn: o.on("imdn"),
    };
    let route = o.str("route").filter(|r| !r.is_empty());
    if let Some(name) = &route
        && o.kernel.program.load().find(RouteType::Request, Some(name)).is_none()
    {
        return Err(format!("route \"{name}\": there is no route[{name}]"));
    }
    let counters = Counters {
        accepted: o.stat("accepted")?,
        refused: o.stat("refused")?,
        delivered: o.stat("delivered")?,
        expired: o.stat("expired")?,
        failed: o.stat("failed")?,
        retried: o.stat("retried")?,
        receipts: o.stat("receipts")?,
        unknown: o.stat("unknown")?,
        diverted: o.stat("diverted")?,
        dropped: o.stat("dropped")?,
    };
    let mut session = server::session(positive("window")? as usize);
    session.enquire_link = Some(Duration::from_secs(positive("enquire_link")? as u64));
    session.response = Duration::from_secs(positive("response")? as u64);
    let listens = listens(o, session, positive("connections")? as usize)?;
    let drivers = &o.kernel.drivers;
    let aliases = match o.str("alias_table").filter(|t| !t.is_empty()) {
        Some(table) => Some(Arc::new(aliases::Aliases::new(store.clone(), &table)?)),
        None => None,
    };
    let base = Base {
        aliases,
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
    let parts = centre.clone();
    let help = "Texts to SIP users of which parts are missing";
    o.kernel.stats.computed("smsc", "incomplete", help, move || parts.incomplete() as i64);
    let links: Arc<link::Counters> = Arc::default();
    for (at, (name, _)) in links.list().into_iter().enumerate() {
        let links = links.clone();
        let read = move || links.list().get(at).map_or(0, |(_, n)| *n as i64);
        o.kernel.stats.computed("smsc", name, "Counted on all SMPP connections of customers", read);
    }
    o.provide(State { centre, links, listens, route });
    Ok(())
}

fn listens(
    o: &Opening<'_>,
    session: SessionSettings,
    connections: usize,
) -> Result<Vec<server::Listen>, String> {
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
            all.push(server::Listen { addr, tls, connections, session });
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
    let make = move |target: &str| match target.split_once(':') {
        Some(("smsc", name)) => {
            Some(Arc::new(upstream::Upstream::new(&shared, name)) as Arc<dyn centre::Outlet>)
        }
        Some(("sip", aor)) => Some(Arc::new(sip::SipUser::new(&shared, aor)) as Arc<dyn centre::Outlet>),
        _ => None,
    };
    state.centre.set_maker(Box::new(make));
    if let Some(name) = &state.route {
        script::install(kernel, &state.centre, name.clone());
    }
    let looks: Arc<AtomicUsize> = Arc::default();
    for name in ["E_UL_CONTACT_INSERT", "E_UL_CONTACT_UPDATE"] {
        let event = kernel.events.publish(name, &[]);
        let ear = sip::Registrations {
            centre: Arc::downgrade(&state.centre),
            kernel: Arc::downgrade(kernel),
            looks: looks.clone(),
        };
        kernel.events.subscribe(event, Arc::new(ear));
    }
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
