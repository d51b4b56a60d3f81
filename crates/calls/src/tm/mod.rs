//! Stateful transactions: relaying with forking, reply, failure and branch routes, local requests.
//!
//! The machines are in the engine; here is the glue to scripts and sockets. `relay` sends requests on, `replies` does
//! what the machines say, `functions` and `variables` are the script's view, `local` makes requests of our own, `waiting`
//! holds transactions open for branches to come, `export` tells other programs of requests, and `api` is for other modules.

pub mod api;
mod commands;
mod export;
mod functions;
mod local;
mod relay;
mod replies;
mod routes;
pub mod state;
mod variables;
mod waiting;

use std::rc::Rc;
use std::time::Instant;

use switchroom_engine::transaction::Timing;
use switchroom_kernel::module::{Hook, Module, Param, Statistic};
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::open::Opening;
use switchroom_kernel::shard::Shard;
use switchroom_script::names::RouteType;

use state::{Counters, Tm, Transactions};

/// The module.
pub static MODULE: Module = Module {
    name: "tm",
    summary: "Stateful transactions",
    params: &[
        Param::int("ruri_matching", "1", "Match old-style requests by Request-URI as well"),
        Param::int("via1_matching", "1", "Match old-style requests by their first Via as well"),
        Param::int("fr_timeout", "30", "Seconds until a final reply, before any provisional one"),
        Param::int("fr_inv_timeout", "120", "Seconds until the final reply of an INVITE that rings"),
        Param::int("wt_timer", "5", "Seconds a finished transaction absorbs retransmissions"),
        Param::int("delete_timer", "2", "Seconds until a transaction's memory is used again"),
        Param::int("T1_timer", "500", "Milliseconds of the first retransmission interval"),
        Param::int("T2_timer", "4000", "Milliseconds of the longest retransmission interval"),
        Param::int("unix_tx_timeout", "2", "Seconds for t_write_unix()"),
        Param::int("restart_fr_on_each_reply", "1", "Each provisional reply starts fr_inv_timeout anew"),
        Param::multi("tw_append", "More lines for t_write_req(): name:label=$var;label=$var"),
        Param::int("enable_stats", "1", "Count"),
        Param::int("pass_provisional_replies", "0", "Relay 100 as well"),
        Param::int("syn_branch", "1", "Kept for old scripts; branches always say where their transaction is"),
        Param::int("onreply_avp_mode", "0", "onreply_route sees the AVPs of the transaction"),
        Param::int("disable_6xx_block", "0", "A 6xx does not forbid further branches"),
        Param::unset("minor_branch_flag", "Branch flag of branches that do not hold the transaction open"),
        Param::int("timer_partitions", "1", "Kept for old scripts; every worker has its own timers"),
        Param::int("auto_100trying", "1", "Answer 100 when the transaction of an INVITE is made"),
        Param::unset("local_reply_route", "Route that sees the replies made here"),
        Param::unset("local_request_route", "Route that sees the requests made here"),
    ],
    old_params: &[
        ("fr_timer", "fr_timeout"),
        ("fr_inv_timer", "fr_inv_timeout"),
        ("noisy_ctimer", ""),
        ("unmatched_cancel", ""),
        ("fr_timer_avp", ""),
        ("fr_inv_timer_avp", ""),
        ("tm_replication_cluster", ""),
        ("cluster_param", ""),
        ("cluster_auto_cancel", ""),
    ],
    functions: functions::FUNCTIONS,
    variables: variables::VARIABLES,
    commands: commands::COMMANDS,
    statistics: &[
        Statistic::counter("received_replies", "Replies received"),
        Statistic::counter("relayed_replies", "Replies relayed"),
        Statistic::counter("local_replies", "Replies made here"),
        Statistic::counter("UAS_transactions", "Transactions of received requests"),
        Statistic::counter("UAC_transactions", "Transactions of requests of our own"),
        Statistic::counter("2xx_transactions", "Finished with 2xx"),
        Statistic::counter("3xx_transactions", "Finished with 3xx"),
        Statistic::counter("4xx_transactions", "Finished with 4xx"),
        Statistic::counter("5xx_transactions", "Finished with 5xx"),
        Statistic::counter("6xx_transactions", "Finished with 6xx"),
        Statistic::gauge("inuse_transactions", "Transactions in memory"),
        Statistic::counter("retransmission_req_T1_1", "First retransmissions of requests"),
        Statistic::counter("retransmission_req_T1_2", "Second retransmissions of requests"),
        Statistic::counter("retransmission_req_T1_3", "Third retransmissions of requests"),
        Statistic::counter("retransmission_req_T2", "Later retransmissions of requests"),
        Statistic::counter("retransmission_rpl_T2", "Retransmissions of replies"),
        Statistic::counter("timeout_finalresponse", "Branches without any reply in time"),
        Statistic::counter("timeout_finalresponse_inv", "INVITE branches without final reply in time"),
    ],
    hooks: &[
        Hook::Request(replies::absorb),
        Hook::Known(replies::is_known),
        Hook::Reply(replies::take),
        Hook::Suspend(relay::suspend),
        Hook::ScriptEnd(relay::script_end),
        Hook::Timer(deadline, replies::tick),
        Hook::SendFailed(replies::send_failed),
    ],
    open,
    ..Module::EMPTY
};

fn deadline(shard: &Shard) -> Option<Instant> {
    let part = shard.find_part::<Transactions>()?;
    // A server that ends does not wait for timers that only keep transactions to absorb retransmissions.
    part.next().filter(|_| !(shard.is_draining() && part.at_rest(shard.now())))
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let ms = |o: &Opening<'_>, name: &str, factor: i64| -> Result<u32, String> {
        let value = o.int(name);
        let ms = value.checked_mul(factor).filter(|v| (1..=i64::from(u32::MAX)).contains(v));
        ms.map(|v| v as u32).ok_or_else(|| format!("{name} is {value}; it must be a positive time"))
    };
    let timing = Timing {
        t1: ms(o, "T1_timer", 1)?,
        t2: ms(o, "T2_timer", 1)?,
        fr: ms(o, "fr_timeout", 1000)?,
        fr_inv: ms(o, "fr_inv_timeout", 1000)?,
        wait: ms(o, "wt_timer", 1000)?,
        restart_on_each_reply: o.on("restart_fr_on_each_reply"),
        ..Timing::default()
    };
    let minor_flag = match o.str("minor_branch_flag").filter(|f| !f.is_empty()) {
        Some(name) => 1 << o.kernel.registry.names.flag(FlagKind::Branch, &name)?,
        None => 0,
    };
    let tm = Tm {
        timing,
        allow_after_6xx: o.on("disable_6xx_block"),
        auto_100: o.on("auto_100trying"),
        translate_503: !o.kernel.settings.on("disable_503_translation"),
        pass_100: o.on("pass_provisional_replies"),
        onreply_avps: o.on("onreply_avp_mode"),
        minor_flag,
        local_reply_route: inspecting(o, "local_reply_route")?,
        local_request_route: inspecting(o, "local_request_route")?,
        stats: Counters::open(o)?,
    };
    routes::check(o)?;
    o.provide(tm);
    export::open(o)?;
    let core = o.kernel.share::<crate::core::state::Core>().ok_or("core is not loaded")?;
    o.per_shard(move |worker| Transactions::new(core.digest(&[b"tm", &worker.to_be_bytes()])));
    Ok(())
}

/// The name of a `route[...]` that looks at messages of ours.
fn inspecting(o: &Opening<'_>, param: &str) -> Result<Option<String>, String> {
    let Some(name) = o.str(param).filter(|n| !n.is_empty()) else { return Ok(None) };
    match o.kernel.program.load().find(RouteType::Request, Some(&name)) {
        Some(_) => Ok(Some(name)),
        None => Err(format!("{param} is \"{name}\", and there is no route[{name}]")),
    }
}

/// Do what the machines of one transaction say after an input, then note its next deadline.
fn step(
    shard: &Rc<Shard>,
    id: switchroom_engine::transaction::Id,
    input: impl FnOnce(&mut state::Tx, Instant, &mut Vec<switchroom_engine::proxy::Output<state::Reply>>),
) {
    let now = shard.now();
    let part = shard.part::<Transactions>();
    let mut sink = part.sink();
    let known = part.with(id, |tx| input(tx, now, &mut sink)).is_some();
    if known {
        replies::obey(shard, id, &mut sink);
        part.schedule(id, now);
    }
    part.give_back(sink);
}
