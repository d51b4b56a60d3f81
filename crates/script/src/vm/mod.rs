//! The virtual machine: a resumable frame that runs a compiled program on a host.

mod host;

pub use host::{
    Arg, ArgStr, Args, AssignOp, CallMode, Context, Finished, Flow, Host, Index, LaunchJob, Position,
    VarAccess, VarRef,
};
