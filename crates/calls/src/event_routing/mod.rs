//! Event-based routing: a script is told of events that concern other messages, or waits for one.
//!
//! A subscription lives until its time is over, its transaction ends, or (a wait) its event came; then it is gone at
//! once. Subscriptions are found by their first exact filter, so an event does not look at those that wait for another
//! user.

mod functions;
mod index;
mod store;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use switchroom_kernel::module::{Command, Function, Module, Param, Statistic};
use switchroom_script::names::RouteType;

use store::Subscriptions;

/// The module.
pub static MODULE: Module = Module {
    name: "event_routing",
    summary: "Scripts that are told of events or wait for them",
    needs: &["tm"],
    params: &[Param::int("max_subscriptions", "1000000", "So many may be open at a time")],
    functions: &[
        Function::new(
            "notify_on_event",
            &["str,var,str,int", "str,str~,str,int"],
            "RFOBV",
            functions::notify_on_event,
            "Run a route whenever an event comes",
        )
        .checked(functions::check)
        .prepared(functions::prepare),
        Function::new(
            "wait_for_event",
            &["str,var,int", "str,str~,int"],
            "*",
            functions::wait_for_event,
            "Wait for an event",
        )
        .checked(functions::check)
        .prepared(functions::prepare)
        .asynchronous(),
    ],
    commands: &[Command {
        name: "event_routing:list",
        old_names: &[],
        args: "[event]",
        help: "Scripts that wait for events",
        run: |call| {
            Box::pin(async move {
                let wanted = call.text("event");
                let rows = call
                    .kernel
                    .state::<Arc<Subscriptions>>()
                    .list(wanted.as_deref(), call.kernel.drivers.clock.now());
                Ok(json!({ "Subscriptions": rows }))
            })
        },
    }],
    statistics: &[
        Statistic::counter("notified", "Events that ran a route"),
        Statistic::counter("resumed", "Waits that ended with their event"),
        Statistic::counter("expired", "Subscriptions that ended without an event"),
        Statistic::counter("refused", "Subscriptions refused because there are too many"),
        Statistic::counter("looked_at", "Subscriptions that events were compared with"),
    ],
    open: |o| {
        let program = o.kernel.program.load_full();
        for name in o.kernel.registry.static_args("notify_on_event", 2) {
            let name = String::from_utf8_lossy(&name);
            if program.find(RouteType::Request, Some(&name)).is_none() {
                return Err(format!("notify_on_event(): there is no route[{name}]"));
            }
        }
        let counters = store::Counters {
            notified: o.stat("notified")?,
            resumed: o.stat("resumed")?,
            expired: o.stat("expired")?,
            refused: o.stat("refused")?,
            looked_at: o.stat("looked_at")?,
        };
        let subscriptions =
            Arc::new(Subscriptions::new(o.int("max_subscriptions").max(0) as usize, counters));
        o.provide(subscriptions.clone());
        let counted = subscriptions.clone();
        let help = "Scripts that wait for events now";
        o.kernel.stats.computed("event_routing", "subscriptions", help, move || counted.len() as i64);
        Ok(())
    },
    live: Some(|kernel| {
        kernel.every(Duration::from_millis(50), |kernel| async move {
            let now = kernel.drivers.clock.now();
            kernel.state::<Arc<Subscriptions>>().expire(&kernel, now);
        });
    }),
    ..Module::EMPTY
};
