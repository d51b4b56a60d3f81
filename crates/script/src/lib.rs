//! The routing language: lexer, parser, checker, compiler and virtual machine.
//!
//! A script is loaded in two passes: `parse` gives the tree with its global parameters and modules, `compile`
//! resolves every name against the embedding program and gives a flat program. This crate knows no SIP transport,
//! no clock, no thread and no socket.

pub mod names;
pub mod program;
pub mod value;
pub mod vm;

pub use program::RouteId;
pub use value::Value;
