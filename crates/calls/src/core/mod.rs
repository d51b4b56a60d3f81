//! The core: what every script has without loading a module.
//!
//! The way of a message begins in [`entry`]; [`send`] and [`locate`] are how it leaves.

mod alias;
mod blacklist;
pub mod body;
pub mod branches;
mod commands;
mod connections;
pub(crate) mod entry;
pub mod events;
pub mod functions;
pub mod locate;
mod memory;
mod message_vars;
mod overload;
pub mod partition;
pub(crate) mod process_vars;
mod sdp_vars;
pub mod send;
pub mod state;
pub mod stateless;
mod trace;
pub mod uri;
mod uri_vars;
mod variables;

pub use message_vars::credentials;

use std::time::Duration;

use switchroom_kernel::module::{EventDecl, Hook, Module, Statistic};

/// The module, always loaded.
pub static MODULE: Module = Module {
    name: "core",
    summary: "Entry of messages, URIs, flags, branches, stateless forwarding",
    functions: functions::FUNCTIONS,
    variables: variables::VARIABLES,
    commands: commands::COMMANDS,
    statistics: &[
        Statistic::counter("rcv_requests", "Requests received"),
        Statistic::counter("rcv_replies", "Replies received"),
        Statistic::counter("fwd_requests", "Requests sent on without state"),
        Statistic::counter("fwd_replies", "Replies sent on without state"),
        Statistic::counter("drop_requests", "Requests dropped"),
        Statistic::counter("drop_replies", "Replies dropped"),
        Statistic::counter("err_requests", "Requests that could not be handled"),
        Statistic::counter("err_replies", "Replies that could not be handled"),
        Statistic::counter("bad_URIs_rcvd", "URIs that could not be read"),
        Statistic::counter("bad_msg_hdr", "Messages with broken headers"),
        Statistic::counter("unsupported_methods", "Requests with a method that is not known here"),
        Statistic::counter("overload_refused", "Requests refused because more came than could be done"),
        Statistic::counter("overload_episodes", "Times that a worker got more than it could do"),
    ],
    events: &[
        EventDecl {
            name: "E_CORE_SR_STATUS_CHANGED",
            attrs: &["group", "identifier", "status", "details", "old_status"],
            help: "A part of the server became ready, or is ready no more",
        },
        EventDecl {
            name: connections::DISCONNECT,
            attrs: &["src_ip", "src_port", "dst_ip", "dst_port", "proto"],
            help: "A stream connection is over",
        },
        EventDecl {
            name: overload::EVENT,
            attrs: &["worker", "state"],
            help: "A worker gets more than it can do (state begin), or that is over (end)",
        },
    ],
    hooks: &[
        Hook::Entry(entry::packet),
        Hook::Connection(alias::connection),
        Hook::Connection(connections::changed),
        Hook::Overload(overload::turned),
    ],
    open: |o| {
        let core = state::Core::open(o)?;
        o.provide(core);
        memory::register(&o.kernel.stats);
        let started = o.kernel.started;
        let clock = o.kernel.drivers.clock.clone();
        let since = move || clock.unix().as_secs().saturating_sub(started) as i64;
        o.kernel.stats.computed("core", "timestamp", "Seconds since start", since);
        Ok(())
    },
    live: Some(|kernel| {
        events::set_status(kernel, "core", switchroom_kernel::status::MAIN, 1, "ready");
        kernel.every(Duration::from_secs(1), |kernel| async move { kernel.events.expire(kernel.unix()) });
    }),
    ..Module::EMPTY
};
