//! The proxy core: one request, its branches, and which reply its sender gets (RFC 3261 §16).
//!
//! [`Transaction`] joins a server machine and the client machines of its branches. The host (the module that runs
//! scripts) adds branches, runs onreply and failure routes when told, and writes the replies; sending, acknowledging,
//! cancelling and choosing happen here. Routing, DNS and the text of messages stay with the host.
//!
//! The life of a request: [`Transaction::new`] → [`Transaction::add_branch`] … → [`Transaction::route_done`] →
//! [`Output::Reply`] (onreply routes) → [`Transaction::process`] → [`Output::Relay`], or [`Output::AllFailed`]
//! (failure route) → further branches or not → [`Transaction::route_done`] → … → [`Output::Done`].

mod branch;
pub mod choice;
pub mod route;
mod transaction;

pub use branch::{Branch, Kind};
pub use transaction::{AddError, Cancel, MAX_BRANCHES, NewBranch, Output, Settings, Transaction};
