//! A compiled script: flat operations, with every name resolved and every constant kept once.
//!
//! A program is immutable and shared; frames waiting in it keep it alive over a reload.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use regex::bytes::Regex;

use crate::names::{Prepared, RouteType, StaticArg};
use crate::net::Network;
use crate::parse::{BinOp, CmpOp};
use crate::source::Place;
use crate::transform::Transform;
use crate::value::Value;
use crate::vm::{AssignOp, Index, Position, VarAccess};

/// A route of one [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// A compiled script.
#[derive(Debug)]
pub struct Program {
    pub(crate) files: Vec<Arc<str>>,
    pub(crate) ops: Vec<Op>,
    pub(crate) places: Vec<Place>,
    pub(crate) pool: Pool,
    pub(crate) consts: Vec<Value>,
    pub(crate) regexes: Vec<Arc<Regex>>,
    pub(crate) nets: Vec<Network>,
    pub(crate) calls: Vec<CallSite>,
    pub(crate) route_calls: Vec<RouteCall>,
    pub(crate) returns: Vec<ReturnPlan>,
    pub(crate) asyncs: Vec<AsyncPlan>,
    pub(crate) launches: Vec<LaunchPlan>,
    pub(crate) logs: Vec<LogPlan>,
    pub(crate) routes: Vec<RouteInfo>,
    /// Named routes by type.
    pub(crate) by_name: [HashMap<String, RouteId>; 9],
    pub(crate) functions: HashMap<String, u32>,
    pub(crate) limits: Limits,
}

/// Bounds on one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations of one run, over all its waits.
    pub operations: u32,
    /// Rounds of one `while` (`max_while_loops`).
    pub while_rounds: u32,
    /// Routes inside one another.
    pub depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { operations: 2_000_000, while_rounds: 10_000, depth: 100 }
    }
}

/// A route as the embedding program sees it.
#[derive(Clone, Debug)]
pub struct RouteInfo {
    /// Number.
    pub id: RouteId,
    /// Type.
    pub kind: RouteType,
    /// Name; `None` for the main or unnamed one.
    pub name: Option<Arc<str>>,
    /// Seconds between runs of a timer route.
    pub interval: u32,
    /// File of its head.
    pub file: Arc<str>,
    /// Line of its head.
    pub line: u32,
    pub(crate) entry: u32,
}

/// A call in the script.
#[derive(Clone, Copy, Debug)]
pub struct CallInfo<'a> {
    /// Number of the function.
    pub func: u32,
    /// Name as written.
    pub name: &'a str,
    /// Arguments as far as they are fixed.
    pub args: &'a [StaticArg],
    /// Where.
    pub position: Position<'a>,
}

impl Program {
    /// A route by type and name; `None` as name asks for the main or unnamed one.
    pub fn find(&self, kind: RouteType, name: Option<&str>) -> Option<RouteId> {
        match name {
            None => self.routes.iter().find(|r| r.kind == kind && r.name.is_none()).map(|r| r.id),
            Some("0") if kind == RouteType::Request => self.find(kind, None),
            Some(name) => self.by_name[kind as usize].get(name).copied(),
        }
    }

    /// All routes in the order of the text.
    pub fn routes(&self) -> impl Iterator<Item = &RouteInfo> {
        self.routes.iter()
    }

    /// A route's description.
    pub fn route(&self, id: RouteId) -> Option<&RouteInfo> {
        self.routes.get(id.0 as usize)
    }

    /// True when the script calls `name` anywhere (today's or the older spelling, as written or as renamed).
    pub fn uses_function(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    /// Every call in the script, with what is known of its arguments: for a module's own check of the whole script.
    pub fn calls(&self) -> impl Iterator<Item = CallInfo<'_>> {
        self.calls.iter().map(|c| CallInfo {
            func: c.func,
            name: &c.name,
            args: &c.fixed,
            position: self.at(c.place),
        })
    }

    /// Bounds on a run.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Sets the bounds before the program is shared.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub(crate) fn position(&self, pc: u32) -> Position<'_> {
        let place = self.places.get(pc as usize).copied().unwrap_or(Place { file: 0, line: 0, column: 0 });
        self.at(place)
    }

    fn at(&self, place: Place) -> Position<'_> {
        let file = self.files.get(place.file as usize).map_or("", |f| f.as_ref());
        Position { file, line: place.line, column: place.column }
    }

    pub(crate) fn find_bytes(&self, kind: RouteType, name: &[u8]) -> Option<RouteId> {
        self.find(kind, Some(std::str::from_utf8(name).ok()?))
    }
}

/// Variables and format strings, shared by programs and single templates.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub vars: Vec<VarSlot>,
    pub formats: Vec<Box<[Part]>>,
}

/// A variable with everything known about it at load.
#[derive(Debug)]
pub(crate) struct VarSlot {
    pub source: VarSource,
    pub transforms: Box<[Transform]>,
    pub writable: bool,
    /// As written, for messages.
    pub text: Box<str>,
}

#[derive(Debug)]
pub(crate) enum VarSource {
    /// Read through the host; `name` and `index` override the fixed ones when they are computed.
    Host {
        access: VarAccess,
        name: Option<u32>,
        index: Option<u32>,
    },
    Param(ParamKey),
    Return(ParamKey),
    Rc,
    Route(RoutePart, Index),
    CfgLine,
    CfgFile,
}

#[derive(Debug)]
pub(crate) enum ParamKey {
    At(i64),
    Named(Bytes),
    Computed(u32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum RoutePart {
    Whole,
    Name,
    Type,
}

/// A piece of a format string.
#[derive(Debug)]
pub(crate) enum Part {
    Text(Bytes),
    Var(u32),
}

#[derive(Debug)]
pub(crate) struct CallSite {
    pub func: u32,
    pub name: Arc<str>,
    pub fixed: Box<[StaticArg]>,
    pub place: Place,
    pub args: Box<[ArgPlan]>,
    pub prepared: Option<Prepared>,
}

/// How an argument is evaluated; the flag of a variable says it may be nothing.
#[derive(Debug)]
pub(crate) enum ArgPlan {
    Absent,
    Str(Bytes),
    Int(i64),
    StrFormat(u32),
    StrVar(u32, bool),
    IntFormat(u32),
    IntVar(u32, bool),
    Var(u32),
    Regex(Arc<Regex>),
    RegexFormat(u32),
}

/// A value computed without an operation of its own.
#[derive(Debug)]
pub(crate) enum ValuePlan {
    Const(Value),
    Format(u32),
    Var(u32),
}

#[derive(Debug)]
pub(crate) struct RouteCall {
    pub target: RouteTarget,
    pub args: Box<[ValuePlan]>,
}

#[derive(Debug)]
pub(crate) enum RouteTarget {
    Fixed(RouteId),
    Computed(ValuePlan),
}

#[derive(Debug)]
pub(crate) struct ReturnPlan {
    pub code: ValuePlan,
    pub values: Box<[ValuePlan]>,
}

#[derive(Debug)]
pub(crate) struct AsyncPlan {
    pub call: u32,
    pub route: RouteId,
    pub timeout: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct LaunchPlan {
    pub call: u32,
    pub route: Option<RouteId>,
    pub param: Option<ValuePlan>,
}

#[derive(Debug)]
pub(crate) struct LogPlan {
    pub level: LogLevel,
    pub text: u32,
}

#[derive(Debug)]
pub(crate) enum LogLevel {
    /// The script names none: what `xlog_print_level` says.
    Unsaid,
    Fixed(i32),
    Computed(u32),
}

/// An operation. Addresses are indexes into [`Program::ops`]; the others into the table they are named after.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Jump(u32),
    /// Goes on by the outcome of the last test.
    Branch {
        yes: u32,
        no: u32,
        error: u32,
    },
    /// Tests: a bare variable, the last result, the computed value on the stack.
    TestVar(u32),
    TestRc,
    TestTop,
    CmpConst {
        var: u32,
        op: CmpOp,
        value: u32,
    },
    CmpVar {
        var: u32,
        op: CmpOp,
        right: u32,
    },
    CmpNull {
        var: u32,
        op: CmpOp,
    },
    CmpNet {
        var: u32,
        net: u32,
        negate: bool,
    },
    CmpRegex {
        var: u32,
        regex: u32,
        negate: bool,
    },
    /// Values onto the stack.
    Const(u32),
    Load(u32),
    Format(u32),
    LoadRc,
    Binary(BinOp),
    BitNot,
    Neg,
    /// Takes the stack's top.
    Assign {
        var: u32,
        op: AssignOp,
        /// Leaves the last code as it is.
        keep_code: bool,
    },
    AssignWith {
        var: u32,
        op: BinOp,
    },
    Call(u32),
    Async(u32),
    Launch(u32),
    Route(u32),
    Return(u32),
    /// Behind the last statement of a route.
    EndRoute,
    Exit,
    Drop,
    LoopBegin,
    /// Counts a round; leaves for `exit` when there were too many.
    LoopCount {
        exit: u32,
    },
    LoopEnd,
    ForEach {
        iter: u32,
        list: u32,
        exit: u32,
    },
    /// Jumps and takes the stack's top when it equals the constant.
    Case {
        value: u32,
        target: u32,
    },
    Pop,
    Log(u32),
    AssertFailed {
        text: u32,
        abort: bool,
    },
}
