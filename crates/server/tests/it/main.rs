//! The running program, end to end: scripts and messages in, messages, rows and log lines out.
//!
//! Every test starts a server of its own on free ports of loopback, so all run side by side.

mod auth;
mod cancel;
mod cdr;
mod centre;
mod cloud;
mod crowd;
mod database;
mod database_servers;
mod demo;
mod dialogs;
mod documented;
mod events;
mod faults;
mod fork;
mod gateway;
mod helper;
mod loss;
mod malformed;
mod manage;
mod messages;
mod overload;
mod peers;
mod phones;
mod pickup;
mod pings;
mod proxies;
mod push;
mod register;
mod restart;
mod script;
mod services;
mod session;
mod shared_location;
mod smpp;
mod sms_servers;
mod smsc;
mod support;
mod tcp;
mod transactions;
mod ua;
mod waiting;
