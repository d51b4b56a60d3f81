//! Call modules: the way of a message ([`core`]), transactions, routing headers, replies and message editing.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod core;
pub mod dialog;
pub mod dispatcher;
pub mod dtmf;
pub mod event_routing;
pub mod maxfwd;
pub mod options;
pub mod path;
pub mod proto;
pub mod rr;
pub mod script_helper;
pub mod signaling;
pub mod sipmsgops;
pub mod sl;
pub mod status_report;
pub mod textops;
pub mod tm;
pub mod uac;
pub mod uac_auth;

use switchroom_kernel::Module;

/// The modules of this floor. `core` is always loaded; the others when a script names them.
pub static MODULES: &[&Module] = &[
    &core::MODULE,
    &dialog::MODULE,
    &dispatcher::MODULE,
    &dtmf::MODULE,
    &event_routing::MODULE,
    &maxfwd::MODULE,
    &options::MODULE,
    &path::MODULE,
    &proto::UDP,
    &proto::TCP,
    &rr::MODULE,
    &signaling::MODULE,
    &script_helper::MODULE,
    &sipmsgops::MODULE,
    &sl::MODULE,
    &status_report::MODULE,
    &textops::MODULE,
    &tm::MODULE,
    &uac::MODULE,
    &uac_auth::MODULE,
];
