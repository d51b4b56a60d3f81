//! What a script run asks of its surroundings.
//!
//! A [`Host`] is one message being processed: it calls functions, reads and writes variables, and takes log lines. The
//! machine itself keeps `$param`, `$return`, `$rc`, `$retcode`, `$route*`, `$cfg_line` and `$cfg_file`.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use regex::bytes::Regex;

use crate::names::Prepared;
use crate::program::RouteId;
use crate::value::Value;

/// One message (or event, or timer) that a script runs on.
pub trait Host {
    /// What a function that cannot answer at once hands out, usually a boxed future.
    type Wait;

    /// Runs a function. `args` are evaluated and of the declared kinds; `prepared` is what
    /// [`Names::prepare`](crate::names::Names::prepare) returned for this call site.
    fn call(
        &mut self,
        func: u32,
        args: Args<'_>,
        prepared: Option<&Prepared>,
        mode: CallMode,
    ) -> Flow<Self::Wait>;

    /// Reads a variable. With [`Index::All`] all values, as one printed list.
    fn get(&mut self, var: &VarAccess) -> Value;

    /// Writes a variable.
    fn set(&mut self, var: &VarAccess, op: AssignOp, value: Value) -> Result<(), String>;

    /// Takes a log line of the script at the language's level (-3 alert ... 4 debug).
    fn log(&mut self, level: i32, text: &[u8], at: Position<'_>);

    /// The level of a line whose level the script does not say.
    fn print_level(&mut self) -> i32 {
        2
    }

    /// True when a line of this level is wanted, so that an unwanted one is not even printed.
    fn log_enabled(&mut self, _level: i32) -> bool {
        true
    }

    /// Takes over a job started by `launch()`; the script goes on.
    fn launch(&mut self, job: LaunchJob<Self::Wait>, report_route: Option<RouteId>, param: Option<Value>);

    /// Takes a run-time error or warning of the script.
    fn error(&mut self, at: Position<'_>, text: &str);

    /// True while [`Host::step`] wants to be told. Asked before each operation, so it must cost nothing.
    fn tracing(&self) -> bool {
        false
    }

    /// One step of the script is done.
    fn step(&mut self, _step: &TraceStep<'_>) {}

    /// Expands a format string that is only known at run time, for `{s.eval}`.
    fn expand(&mut self, _text: &[u8]) -> Value {
        Value::Null
    }
}

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallMode {
    /// As a statement or in a condition; a wait suspends the run.
    Plain,
    /// Inside `async()`; a wait ends the run and a resume route takes over. Timeout in seconds.
    Async(Option<u32>),
    /// Inside `launch()`; the script does not wait.
    Launch,
}

/// Result of a function.
#[derive(Debug)]
pub enum Flow<W> {
    /// Done: above 0 true, below 0 false, 0 stops the script.
    Value(i64),
    /// Done, and the script ends.
    Exit,
    /// Done, the script ends and the message is marked as dropped.
    Drop,
    /// Not done yet.
    Wait(W),
}

/// Result of a function that had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// As [`Flow::Value`].
    Value(i64),
    /// As [`Flow::Exit`].
    Exit,
    /// As [`Flow::Drop`].
    Drop,
}

impl From<i64> for Finished {
    fn from(code: i64) -> Self {
        Self::Value(code)
    }
}

/// A job started by `launch()`.
#[derive(Debug)]
pub enum LaunchJob<W> {
    /// Still under way.
    Pending(W),
    /// Finished on the spot with this code.
    Done(i64),
}

/// Which variable, with everything resolved; cheap to clone and to keep over a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VarAccess {
    /// Number from [`VariableInfo::id`](crate::names::VariableInfo::id).
    pub id: u32,
    /// Key of a fixed inner name, from [`Names::bind_name`](crate::names::Names::bind_name).
    pub key: Option<u32>,
    /// Inner name computed at run time.
    pub name: Option<Bytes>,
    /// Which of several values.
    pub index: Index,
    /// Which message.
    pub context: Context,
}

/// An older word for [`VarAccess`] where it is an argument a function writes to.
pub type VarRef = VarAccess;

/// Which of several values of a variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Index {
    /// None given: the first.
    #[default]
    None,
    /// From 0; negative counts from the end.
    At(i32),
    /// `[*]`
    All,
    /// `[append]`
    Append,
}

/// Which message a variable is read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Context {
    /// The message being processed.
    #[default]
    Current,
    /// `$(<request>...)`
    Request,
    /// `$(<reply>...)`
    Reply,
}

/// How a variable is assigned. `+=` and its kin arrive as [`AssignOp::Set`] with the computed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignOp {
    /// `=`
    Set,
    /// `:=`, removing all earlier values.
    Replace,
    /// `= NULL`
    SetNull,
    /// `:= NULL`
    ReplaceNull,
}

/// An evaluated argument.
#[derive(Clone, Debug)]
pub enum Arg<'a> {
    /// Left out, or an optional one that is nothing.
    Absent,
    /// String.
    Str(ArgStr<'a>),
    /// Integer.
    Int(i64),
    /// A variable, to be read or written through the host.
    Var(VarAccess),
    /// Regular expression, ignoring case and unanchored.
    Regex(Arc<Regex>),
}

/// A string argument: a literal of the program (not copied, not counted) or a computed one.
#[derive(Clone, Debug)]
pub enum ArgStr<'a> {
    /// Lives in the program.
    Literal(&'a Bytes),
    /// Computed for this call.
    Owned(Bytes),
}

impl Deref for ArgStr<'_> {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        match self {
            Self::Literal(b) => b,
            Self::Owned(b) => b,
        }
    }
}

/// The arguments of one call.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a>(pub &'a [Arg<'a>]);

impl<'a> Args<'a> {
    /// How many slots the call site has, left-out ones included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without any slot.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The argument at `i`; absent when the list is shorter.
    pub fn get(&self, i: usize) -> &'a Arg<'a> {
        self.0.get(i).unwrap_or(&Arg::Absent)
    }

    /// The string at `i`.
    pub fn str(&self, i: usize) -> Option<&'a Bytes> {
        match self.get(i) {
            Arg::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The integer at `i`.
    pub fn int(&self, i: usize) -> Option<i64> {
        match self.get(i) {
            Arg::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The variable at `i`.
    pub fn var(&self, i: usize) -> Option<&'a VarAccess> {
        match self.get(i) {
            Arg::Var(v) => Some(v),
            _ => None,
        }
    }

    /// The regular expression at `i`.
    pub fn regex(&self, i: usize) -> Option<&'a Arc<Regex>> {
        match self.get(i) {
            Arg::Regex(r) => Some(r),
            _ => None,
        }
    }
}

/// One step of a run: a call, a test, an assignment, the way into a route and out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceStep<'a> {
    /// Where.
    pub at: Position<'a>,
    /// What kind of step.
    pub kind: StepKind,
    /// Function, route or variable, as written.
    pub name: &'a str,
    /// Code of a call, an assignment or a return; 1 or -1 of a test.
    pub result: i64,
    /// How many routes were entered by `route()`.
    pub depth: usize,
}

/// Kinds of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A function was called.
    Call,
    /// A condition was tested.
    Test,
    /// A variable was assigned.
    Assign,
    /// A log line.
    Log,
    /// A route was entered.
    Route,
    /// A route was left.
    Return,
    /// The script ended by `exit`.
    Exit,
    /// The script ended by `drop`.
    Drop,
}

impl StepKind {
    /// A word for logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Test => "test",
            Self::Assign => "assign",
            Self::Log => "log",
            Self::Route => "route",
            Self::Return => "return",
            Self::Exit => "exit",
            Self::Drop => "drop",
        }
    }
}

/// A place in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    /// File name as it was loaded.
    pub file: &'a str,
    /// From 1.
    pub line: u32,
    /// From 1, in bytes.
    pub column: u32,
}

impl fmt::Display for Position<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
