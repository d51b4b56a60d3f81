//! The virtual machine: a resumable frame that runs a compiled program on a host.
//!
//! A run is a loop over flat operations. A function that has to wait ends the loop; the frame, which owns all state of
//! the run, is kept and goes on later at the same operation, even in the middle of a condition. Left out: what a wait
//! is and who polls it.

mod compare;
mod eval;
mod frame;
mod host;
mod run;

pub use compare::{posix_regex, posix_regex_with};
pub(crate) use eval::{MAX_STRING, expand, read};
pub use frame::{Frame, How, Outcome, ScriptError, Step};
pub use host::{
    Arg, ArgStr, Args, AssignOp, CallMode, Context, Finished, Flow, Host, Index, LaunchJob, Position,
    StepKind, TraceStep, VarAccess, VarRef,
};

/// The level a log level's name stands for; its third character decides.
pub fn level_of_name(name: &[u8]) -> Option<i32> {
    Some(match name.get(2)? {
        b'A' => -3,
        b'C' => -2,
        b'E' => -1,
        b'W' => 1,
        b'N' => 2,
        b'I' => 3,
        b'D' => 4,
        _ => return None,
    })
}
