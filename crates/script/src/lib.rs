//! The routing language: lexer, parser, checker, compiler and virtual machine.
//!
//! A script is loaded in two passes: [`parse()`] gives the tree with its global parameters and modules, [`compile()`]
//! resolves every name against the embedding program and gives a flat program. This crate knows no SIP transport,
//! no clock, no thread and no socket.

mod check;
mod compile;
pub mod diag;
mod fingerprint;
pub mod format;
pub mod glob;
pub mod lex;
pub mod lint;
pub mod names;
pub mod net;
pub mod outline;
pub mod parse;
pub mod program;
pub mod source;
mod transform;
pub mod value;
pub mod vm;

pub use compile::{Template, Variable, compile};
pub use diag::{Diagnostic, Severity};
pub use parse::{Ast, parse, parse_file};
pub use program::{CallInfo, Limits, Program, RouteId, RouteInfo};
pub use source::{DiskLoader, Loader, NoLoader};
pub use transform::names as transformations;
pub use transform::subst::{Piece, Subst};
pub use value::Value;
