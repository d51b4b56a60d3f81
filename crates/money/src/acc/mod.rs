//! Accounting: what came of requests, told to the log, to a database and as events.
//!
//! `do_accounting()` marks a request; its record is made when its transaction has its final reply. Nothing waits for the
//! database: rows go through a bounded queue. With `cdr` a call has one record, made when its dialog ends. Left out: AAA,
//! whose use is an error, and call records that survive a restart.

mod account;
mod fields;
mod functions;
mod kept;
mod record;
#[cfg(test)]
mod tests;
mod variables;
mod what;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::events::EventId;
use switchroom_kernel::module::{EventDecl, Hook, Hooked, Module, Param, ParamKind, Statistic, TableUse};
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::open::Opening;
use switchroom_kernel::run::write_log;
use switchroom_kernel::{Kernel, Shard};
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;
use switchroom_wire::sip::Method;

use account::Account;
use fields::Fields;
use record::{Record, Why};
use what::{Backend, DONE, FAILED, MISSED, What, is_table};
use writer::Writer;

const fn flag(name: &'static str, help: &'static str) -> Param {
    Param { kind: ParamKind::Any, ..Param::unset(name, help) }
}

/// The module.
pub static MODULE: Module = Module {
    name: "acc",
    summary: "Accounting",
    needs: &["tm"],
    params: &[
        Param::int("early_media", "0", "Provisional replies with a body are accounted, too"),
        Param::int("report_cancels", "0", "CANCEL requests are accounted, too"),
        Param::int("detect_direction", "0", "Requests of the callee's get their tags swapped"),
        Param::int("log_level", "2", "Level of the lines in the log"),
        Param::str("log_facility", "LOG_DAEMON", "Known; the log has no facilities"),
        Param::unset("aaa_url", "AAA is not available"),
        Param::int("service_type", "-1", "AAA is not available"),
        Param::multi("extra_fields", "\"backend: tag->name; ...\": values that the script adds"),
        Param::multi("leg_fields", "The same for each leg of a call"),
        Param::unset("db_url", "Database of the records"),
        Param::str("db_table_acc", "acc", "Table of transactions"),
        Param::str("db_table_missed_calls", "missed_calls", "Table of missed calls"),
        Param::unset("db_table_avp", "Variable that names the table of one transaction"),
        Param::str("acc_method_column", "method", "Column"),
        Param::str("acc_from_tag_column", "from_tag", "Column"),
        Param::str("acc_to_tag_column", "to_tag", "Column"),
        Param::str("acc_callid_column", "callid", "Column"),
        Param::str("acc_sip_code_column", "sip_code", "Column"),
        Param::str("acc_sip_reason_column", "sip_reason", "Column"),
        Param::str("acc_time_column", "time", "Column"),
        flag("log_flag", "Older way: message flag for do_accounting(\"log\")"),
        flag("log_missed_flag", "Older way: message flag for missed calls in the log"),
        flag("db_flag", "Older way: message flag for do_accounting(\"db\")"),
        flag("db_missed_flag", "Older way: message flag for missed calls in the database"),
        flag("evi_flag", "Older way: message flag for do_accounting(\"evi\")"),
        flag("evi_missed_flag", "Older way: message flag for missed calls as events"),
        flag("failed_transaction_flag", "Older way: message flag for failed transactions"),
        Param::multi("log_extra", "Older way: \"name=$variable; ...\" for the log"),
        Param::multi("db_extra", "Older way: \"column=$variable; ...\" for the database"),
        Param::multi("evi_extra", "Older way: \"name=$variable; ...\" for events"),
    ],
    old_params: &[
        ("cdr_flag", ""),
        ("report_ack", ""),
        ("acc_created_avp_name", ""),
        ("multi_leg_info", ""),
        ("multi_leg_bye_info", ""),
        ("log_extra_bye", ""),
        ("db_extra_bye", ""),
        ("evi_extra_bye", ""),
        ("aaa_flag", ""),
        ("aaa_missed_flag", ""),
        ("aaa_extra", ""),
        ("radius_config", ""),
        ("radius_flag", ""),
        ("radius_missed_flag", ""),
        ("radius_extra", ""),
    ],
    functions: functions::FUNCTIONS,
    variables: variables::VARIABLES,
    events: &[
        EventDecl {
            name: "E_ACC_EVENT",
            attrs: &["method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason", "time"],
            help: "A transaction was accounted",
        },
        EventDecl {
            name: "E_ACC_MISSED_EVENT",
            attrs: &[
                "method",
                "from_tag",
                "to_tag",
                "callid",
                "sip_code",
                "sip_reason",
                "time",
                "created",
                "setuptime",
            ],
            help: "A missed call was accounted",
        },
        EventDecl {
            name: "E_ACC_CDR",
            attrs: &[
                "method",
                "from_tag",
                "to_tag",
                "callid",
                "sip_code",
                "sip_reason",
                "time",
                "duration",
                "ms_duration",
                "setuptime",
                "created",
            ],
            help: "A call has ended",
        },
    ],
    statistics: &[
        Statistic::gauge("queued_records", "Rows that wait for the database"),
        Statistic::gauge("lost_records", "Rows that were lost since the start"),
    ],
    tables: &[
        TableUse { name: "acc", version: TABLE_ACC },
        TableUse { name: "missed_calls", version: TABLE_MISSED },
    ],
    hooks: &[Hook::Request(follow_flags)],
    open,
    live: Some(|kernel| {
        if let Some(writer) = kernel.state::<Acc>().writer.clone() {
            kernel.drivers.spawn.spawn(Box::pin(writer.run()));
        }
    }),
    close: Some(|kernel| {
        let writer = kernel.state::<Acc>().writer.clone();
        Box::pin(async move {
            if let Some(writer) = writer {
                writer.close().await;
            }
        })
    }),
    ..Module::EMPTY
};

const TABLE_ACC: u32 = 7;
const TABLE_MISSED: u32 = 5;

/// Settings of the module, and its way out.
pub struct Acc {
    early_media: bool,
    report_cancels: bool,
    detect_direction: bool,
    log_level: i64,
    extra: Fields,
    legs: Fields,
    table: Arc<str>,
    missed_table: Arc<str>,
    table_avp: Option<VarAccess>,
    columns: Columns,
    flags: Flags,
    writer: Option<Arc<Writer>>,
    events: (EventId, EventId, EventId),
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let detect_direction = o.on("detect_direction");
    if detect_direction && !o.kernel.registry.modules.iter().any(|m| m.name == "rr") {
        return Err("detect_direction needs module rr: write loadmodule \"rr.so\"".into());
    }
    let asks = |function: &str, at: usize, word: &str| {
        let given = o.kernel.registry.static_args(function, at);
        given
            .iter()
            .any(|a| String::from_utf8_lossy(a).split('|').any(|w| w.trim().eq_ignore_ascii_case(word)))
    };
    if asks("do_accounting", 1, "cdr") && !o.kernel.registry.modules.iter().any(|m| m.name == "dialog") {
        tracing::warn!(
            "acc: the flag \"cdr\" needs loadmodule \"dialog.so\"; without it each request is accounted by itself"
        );
    }
    let mut extra = Fields::default();
    let mut legs = Fields::default();
    for text in o.all("extra_fields") {
        extra.declare("extra_fields", &text)?;
    }
    for text in o.all("leg_fields") {
        legs.declare("leg_fields", &text)?;
    }
    for (parameter, backend) in
        [("log_extra", Backend::Log), ("db_extra", Backend::Db), ("evi_extra", Backend::Evi)]
    {
        for text in o.all(parameter) {
            extra.declare_old(parameter, backend, &text, &o.kernel.registry)?;
        }
    }
    let flags = Flags::open(o)?;
    let (table, missed_table) = (o.text("db_table_acc"), o.text("db_table_missed_calls"));
    let url = o.str("db_url").filter(|u| !u.is_empty());
    let flagged = o.given("db_flag") || o.given("db_missed_flag");
    let called = asks("do_accounting", 0, "db") || o.kernel.registry.is_called("acc_db_request");
    let columns = Columns::open(o)?;
    let writer = if url.is_some() || flagged || called {
        for name in [&table, &missed_table] {
            if !is_table(name) {
                return Err(format!("\"{name}\" is no table name"));
            }
        }
        let tables = [(table.as_str(), TABLE_ACC), (missed_table.as_str(), TABLE_MISSED)];
        let store = o.store(url.as_deref(), &tables)?;
        Some(Arc::new(Writer::new(store, o.kernel.drivers.clock.clone())))
    } else {
        None
    };
    if let Some(writer) = writer.clone() {
        let lost = writer.clone();
        let stats = &o.kernel.stats;
        stats.computed("acc", "queued_records", "Rows that wait for the database", move || {
            writer.waiting() as i64
        });
        stats.computed("acc", "lost_records", "Rows that were lost since the start", move || {
            lost.lost() as i64
        });
    }
    let event = |name| o.kernel.events.publish(name, &[]);
    let acc = Acc {
        early_media: o.on("early_media"),
        report_cancels: o.on("report_cancels"),
        detect_direction,
        log_level: o.int("log_level"),
        extra,
        legs,
        table: table.into(),
        missed_table: missed_table.into(),
        table_avp: o.variable("db_table_avp")?,
        columns,
        flags,
        writer,
        events: (event("E_ACC_EVENT"), event("E_ACC_MISSED_EVENT"), event("E_ACC_CDR")),
    };
    o.provide(acc);
    o.provide(switchroom_calls::dialog::api::Restorer(kept::restore));
    Ok(())
}

/// Where flags mean something, every request is followed: they may be set at any time.
fn follow_flags(ctx: &mut Ctx) -> Hooked {
    let kernel = ctx.shard.kernel.clone();
    let acc = kernel.state::<Acc>();
    if !acc.flags.0.is_empty() && acc.takes(ctx) {
        Account::of(ctx).add(ctx, What::default(), None);
    }
    Hooked::Continue
}

impl Acc {
    /// Whether requests of this method are accounted.
    fn takes(&self, ctx: &Ctx) -> bool {
        match ctx.request().map(|r| r.method()) {
            None | Some(Method::Ack) => false,
            Some(Method::Cancel) => self.report_cancels,
            Some(_) => true,
        }
    }

    fn table_of_avp(&self, ctx: &mut Ctx) -> Option<Arc<str>> {
        let name = ctx.get_var(self.table_avp.as_ref()?).to_bytes()?;
        let name = String::from_utf8_lossy(&name);
        is_table(&name).then(|| Arc::from(name.as_ref()))
    }

    /// Like a line of the script: whether it is wanted is asked here, at the language's levels.
    fn log(&self, kernel: &Kernel, line: &[u8]) {
        if kernel.logs(self.log_level) {
            write_log(self.log_level.clamp(-3, 4) as i32, line);
        }
    }

    /// Which event tells of a record. One made on the spot is told by its code.
    fn event_of(&self, record: &Record) -> EventId {
        let missed = match record.why {
            Why::Ended(_) => return self.events.2,
            Why::Missed => true,
            Why::Answered => false,
            Why::Asked => record.code.is_none_or(|c| c >= 300),
        };
        if missed { self.events.1 } else { self.events.0 }
    }

    fn is_heard(&self, ctx: &Ctx, record: &Record) -> bool {
        ctx.shard.kernel.events.heard(self.event_of(record))
    }

    fn raise(&self, shard: &Shard, record: &Record, events: Vec<Vec<(Arc<str>, Value)>>) {
        let id = self.event_of(record);
        for attrs in events {
            shard.kernel.events.raise_named(id, attrs, Some(shard.worker));
        }
    }
}

/// Message flags that older scripts set in place of calling `do_accounting()`.
#[derive(Default)]
struct Flags(Vec<(u32, What)>);

impl Flags {
    fn open(o: &Opening<'_>) -> Result<Flags, String> {
        let all = |bits| Backend::ALL.iter().fold(What::default(), |w, b| w.with(What::of(*b, bits)));
        let meanings = [
            ("log_flag", What::of(Backend::Log, DONE)),
            ("log_missed_flag", What::of(Backend::Log, MISSED)),
            ("db_flag", What::of(Backend::Db, DONE)),
            ("db_missed_flag", What::of(Backend::Db, MISSED)),
            ("evi_flag", What::of(Backend::Evi, DONE)),
            ("evi_missed_flag", What::of(Backend::Evi, MISSED)),
            ("failed_transaction_flag", all(FAILED)),
        ];
        let mut flags = Vec::new();
        for (parameter, what) in meanings {
            let Some(name) = o.str(parameter).filter(|n| !n.is_empty() && n != "-1") else { continue };
            tracing::warn!("acc: {parameter} is an older way; do_accounting() is today's");
            let bit = o.kernel.registry.names.flag(FlagKind::Message, &name)?;
            flags.push((1 << bit, what));
        }
        Ok(Flags(flags))
    }

    /// What the flags of a message ask for.
    fn what(&self, flags: u32) -> What {
        let set = self.0.iter().filter(|(mask, _)| flags & mask != 0);
        set.fold(What::default(), |all, (_, what)| all.with(*what))
    }

    /// Flags that ask for missed calls.
    fn missed(&self) -> u32 {
        let missed = self.0.iter().filter(|(_, what)| what.any(MISSED));
        missed.fold(0, |all, (mask, _)| all | mask)
    }
}

/// Column names, and the statements made from them.
struct Columns {
    names: Vec<String>,
    statements: RwLock<HashMap<(String, u8), Arc<str>>>,
}

/// Statements that are kept; there are as many as tables.
const MAX_STATEMENTS: usize = 256;

impl Columns {
    fn open(o: &Opening<'_>) -> Result<Columns, String> {
        let parameters = ["method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason", "time"];
        let names: Vec<String> = parameters.iter().map(|p| o.text(&format!("acc_{p}_column"))).collect();
        if let Some(bad) = names.iter().find(|n| !is_table(n)) {
            return Err(format!("\"{bad}\" is no column name"));
        }
        Ok(Columns { names, statements: RwLock::default() })
    }

    fn insert(&self, table: &str, why: Why, extra: &Fields, legs: &Fields) -> Arc<str> {
        let kind = match why {
            Why::Asked | Why::Answered => 0,
            Why::Missed => 1,
            Why::Ended(_) => 2,
        };
        let key = (table.to_owned(), kind);
        if let Some(known) = self.statements.read().get(&key) {
            return known.clone();
        }
        let mut columns: Vec<&str> = self.names.iter().map(String::as_str).collect();
        if kind > 0 {
            columns.extend(["setuptime", "created"]);
        }
        if kind == 2 {
            columns.extend(["duration", "ms_duration"]);
        }
        columns.extend(extra.of(Backend::Db).map(|f| &*f.name));
        columns.extend(legs.of(Backend::Db).map(|f| &*f.name));
        let marks = vec!["?"; columns.len()].join(", ");
        let sql: Arc<str> = format!("INSERT INTO {table} ({}) VALUES ({marks})", columns.join(", ")).into();
        let mut statements = self.statements.write();
        if statements.len() < MAX_STATEMENTS {
            statements.insert(key, sql.clone());
        }
        sql
    }
}
