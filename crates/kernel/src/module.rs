//! The module contract: one static table of exports and a life cycle.
//!
//! A module is a `static` of type [`Module`]. Everything the house does with it is read from this table: the script
//! checker, the manual, management commands, statistics, and the order of start. Argument lists are written in the
//! notation of the reference: `"str,[int],var,regex,str!,str~"`, where `[x]` is optional, `!` a plain static string and
//! `~` a string that is not expanded. Routes are the letters `RFOBELSTV` or `*`.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value as Json};
use switchroom_script::Value;
use switchroom_script::names::StaticArg;
use switchroom_script::vm::VarAccess;
use switchroom_wire::sip::{Message, Via};

use crate::context::{Call, Ctx, Flow, Received};
use crate::kernel::Kernel;
use crate::open::Opening;
use crate::ports::net::BoxFuture;
use crate::registry::Registry;
use crate::shard::Shard;

/// A module: what it is called, what it offers, how it starts and ends.
pub struct Module {
    /// Name as in `loadmodule "name.so"`.
    pub name: &'static str,
    /// One line for the manual.
    pub summary: &'static str,
    /// Modules that must be loaded as well; they are opened first.
    pub needs: &'static [&'static str],
    /// Names under which older releases knew it.
    pub old_names: &'static [&'static str],
    /// A driver that others open databases or sockets through: opened before all others.
    pub driver: bool,
    /// Parameters (`modparam`).
    pub params: &'static [Param],
    /// Older parameter names and today's; empty when it has no effect here: it is gone, or is about several servers that share.
    pub old_params: &'static [(&'static str, &'static str)],
    /// Script functions.
    pub functions: &'static [Function],
    /// Pseudo-variables.
    pub variables: &'static [Variable],
    /// Transformations.
    pub transformations: &'static [Transformation],
    /// Events it publishes.
    pub events: &'static [EventDecl],
    /// Management commands.
    pub commands: &'static [Command],
    /// Statistics it counts.
    pub statistics: &'static [Statistic],
    /// Transports other than SIP's whose sockets (`socket=name:address:port`) it serves.
    pub transports: &'static [&'static str],
    /// Tables it reads or writes.
    pub tables: &'static [TableUse],
    /// Places in the way of a message where it wants to be asked.
    pub hooks: &'static [Hook],
    /// Read parameters, open databases, build state. No traffic yet.
    pub open: fn(&mut Opening<'_>) -> Result<(), String>,
    /// Traffic starts: begin periodic work.
    pub live: Option<fn(&Arc<Kernel>)>,
    /// Traffic has ended: write what must not be lost.
    pub close: Option<fn(&Arc<Kernel>) -> BoxFuture<()>>,
}

impl Module {
    /// An empty table to fill with struct update syntax.
    pub const EMPTY: Module = Module {
        name: "",
        summary: "",
        needs: &[],
        old_names: &[],
        driver: false,
        params: &[],
        old_params: &[],
        functions: &[],
        variables: &[],
        transformations: &[],
        events: &[],
        commands: &[],
        statistics: &[],
        transports: &[],
        tables: &[],
        hooks: &[],
        open: |_| Ok(()),
        live: None,
        close: None,
    };
}

/// What a parameter's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// Integer; booleans count.
    Int,
    /// String.
    Str,
    /// Either, as some parameters changed over the releases.
    Any,
}

/// One module parameter.
pub struct Param {
    /// Name as in `modparam("module", "name", value)`.
    pub name: &'static str,
    /// Type.
    pub kind: ParamKind,
    /// Whether it may be given several times.
    pub multi: bool,
    /// Default, as it would be written in the script; `None` when unset.
    pub default: Option<&'static str>,
    /// One line for the manual.
    pub help: &'static str,
}

impl Param {
    /// An integer with its default.
    pub const fn int(name: &'static str, default: &'static str, help: &'static str) -> Param {
        Param { name, kind: ParamKind::Int, multi: false, default: Some(default), help }
    }
    /// A string with its default.
    pub const fn str(name: &'static str, default: &'static str, help: &'static str) -> Param {
        Param { name, kind: ParamKind::Str, multi: false, default: Some(default), help }
    }
    /// A string that is unset unless given.
    pub const fn unset(name: &'static str, help: &'static str) -> Param {
        Param { name, kind: ParamKind::Str, multi: false, default: None, help }
    }
    /// A string that may be given several times.
    pub const fn multi(name: &'static str, help: &'static str) -> Param {
        Param { name, kind: ParamKind::Str, multi: true, default: None, help }
    }
}

/// Data a function prepares once for each call site from its static arguments.
pub type Prepared = Arc<dyn Any + Send + Sync>;

/// One script function.
pub struct Function {
    /// Name in the script.
    pub name: &'static str,
    /// Older names that are still read, with a warning.
    pub old_names: &'static [&'static str],
    /// Argument list; several for functions that differ by argument count.
    pub args: &'static [&'static str],
    /// Route types that may call it: letters of `RFOBELSTV`, or `*`.
    pub routes: &'static str,
    /// Whether `async()` and `launch()` take it.
    pub can_async: bool,
    /// Checks and prepares one call site at load time.
    pub prepare: Option<fn(&[StaticArg]) -> Result<Option<Prepared>, String>>,
    /// Checks one call site against what the loaded modules offer, before it is prepared.
    pub check: Option<fn(&Registry, &[StaticArg]) -> Result<(), String>>,
    /// Does the work. Values above 0 are true, below 0 false; 0 ends the script.
    pub run: fn(&mut Call<'_>) -> Flow,
    /// One line for the manual.
    pub help: &'static str,
}

impl Function {
    /// A function with one argument list.
    pub const fn new(
        name: &'static str,
        args: &'static [&'static str],
        routes: &'static str,
        run: fn(&mut Call<'_>) -> Flow,
        help: &'static str,
    ) -> Function {
        Function {
            name,
            old_names: &[],
            args,
            routes,
            can_async: false,
            prepare: None,
            check: None,
            run,
            help,
        }
    }
    /// The same with a preparation of static arguments.
    pub const fn prepared(
        mut self,
        prepare: fn(&[StaticArg]) -> Result<Option<Prepared>, String>,
    ) -> Function {
        self.prepare = Some(prepare);
        self
    }
    /// The same with a check against what the loaded modules offer.
    pub const fn checked(mut self, check: fn(&Registry, &[StaticArg]) -> Result<(), String>) -> Function {
        self.check = Some(check);
        self
    }
    /// The same with older names.
    pub const fn formerly(mut self, names: &'static [&'static str]) -> Function {
        self.old_names = names;
        self
    }
    /// The same, usable in `async()` and `launch()`.
    pub const fn asynchronous(mut self) -> Function {
        self.can_async = true;
        self
    }
}

/// How a variable takes an inner name: `$hdr(From)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// `$ru`
    No,
    /// `$(ct)`, `$ct.fields(uri)`
    Optional,
    /// `$avp(x)`
    Yes,
}

/// Reads one value of a variable.
pub type VarGet = fn(&mut Ctx, &VarAccess) -> Value;
/// Writes one value of a variable (NULL removes).
pub type VarSet = fn(&mut Ctx, &VarAccess, Value) -> Result<(), String>;

/// One pseudo-variable.
pub struct Variable {
    /// Name without `$`.
    pub name: &'static str,
    /// Other current names.
    pub also: &'static [&'static str],
    /// Older names that are still read, with a warning.
    pub old_names: &'static [&'static str],
    /// Inner name.
    pub named: Named,
    /// Whether `[index]` is allowed.
    pub indexed: bool,
    /// Turns the inner name into a number at load time.
    pub bind: Option<fn(&Names, &str) -> Result<u32, String>>,
    /// Reads it.
    pub get: VarGet,
    /// Writes it, when that is allowed.
    pub set: Option<VarSet>,
    /// Takes `:=`, for variables to which it means more than to remove all values and write one.
    pub replace: Option<VarSet>,
    /// One line for the manual.
    pub help: &'static str,
}

impl Variable {
    /// A plain read-only variable.
    pub const fn ro(name: &'static str, get: VarGet, help: &'static str) -> Variable {
        Variable {
            name,
            also: &[],
            old_names: &[],
            named: Named::No,
            indexed: false,
            bind: None,
            get,
            set: None,
            replace: None,
            help,
        }
    }
    /// A plain variable that can be written.
    pub const fn rw(name: &'static str, get: VarGet, set: VarSet, help: &'static str) -> Variable {
        let mut v = Variable::ro(name, get, help);
        v.set = Some(set);
        v
    }
    /// The same under further names.
    pub const fn also(mut self, names: &'static [&'static str]) -> Variable {
        self.also = names;
        self
    }
    /// The same under older names.
    pub const fn formerly(mut self, names: &'static [&'static str]) -> Variable {
        self.old_names = names;
        self
    }
    /// The same with an inner name, bound at load time.
    pub const fn named(mut self, bind: fn(&Names, &str) -> Result<u32, String>) -> Variable {
        self.named = Named::Yes;
        self.bind = Some(bind);
        self
    }
    /// The same with an inner name that may be left out.
    pub const fn maybe_named(mut self, bind: fn(&Names, &str) -> Result<u32, String>) -> Variable {
        self.named = Named::Optional;
        self.bind = Some(bind);
        self
    }
    /// The same with a meaning of its own for `:=`.
    pub const fn replaced_by(mut self, replace: VarSet) -> Variable {
        self.replace = Some(replace);
        self
    }
    /// The same with `[index]`.
    pub const fn indexed(mut self) -> Variable {
        self.indexed = true;
        self
    }
}

pub use crate::names::Names;

/// One transformation of values: `$(var{class.name,arguments})`.
pub struct Transformation {
    /// Class and name, such as `rest.escape`.
    pub name: &'static str,
    /// Value and arguments in, value out; NULL for what cannot be done.
    pub run: fn(&Value, &[Value]) -> Value,
    /// One line for the manual.
    pub help: &'static str,
}

/// One event.
pub struct EventDecl {
    /// Name, `E_...`.
    pub name: &'static str,
    /// Attribute names in order.
    pub attrs: &'static [&'static str],
    /// One line for the manual.
    pub help: &'static str,
}

/// Why a management command was refused: a JSON-RPC error.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandError {
    /// JSON-RPC code, or a SIP-like one (404, 500).
    pub code: i32,
    /// What was wrong.
    pub message: String,
}

impl CommandError {
    /// An error of the command's own.
    pub fn new(code: i32, message: impl Into<String>) -> CommandError {
        CommandError { code, message: message.into() }
    }
    /// -32602: wrong arguments.
    pub fn args(message: impl Into<String>) -> CommandError {
        CommandError::new(-32602, message)
    }
}

/// A command being run.
pub struct CommandCall {
    /// The house.
    pub kernel: Arc<Kernel>,
    /// Arguments by name, checked against the declaration.
    pub args: Map<String, Json>,
}

impl CommandCall {
    /// Text of an argument; numbers are printed.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.args.get(name)? {
            Json::String(s) => Some(s.clone()),
            Json::Null => None,
            other => Some(other.to_string()),
        }
    }
    /// Integer argument; text is parsed.
    pub fn int(&self, name: &str) -> Result<Option<i64>, CommandError> {
        match self.args.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Number(n)) if n.is_i64() => Ok(n.as_i64()),
            Some(Json::String(s)) if s.trim().parse::<i64>().is_ok() => Ok(s.trim().parse().ok()),
            Some(other) => {
                Err(CommandError::args(format!("argument `{name}` must be an integer, not {other}")))
            }
        }
    }
}

/// Result of a management command.
pub type CommandResult = Result<Json, CommandError>;

/// One management command.
pub struct Command {
    /// `module:command`.
    pub name: &'static str,
    /// Names of older releases.
    pub old_names: &'static [&'static str],
    /// Arguments: `"a,b,[c]"`.
    pub args: &'static str,
    /// One line for the manual.
    pub help: &'static str,
    /// Runs it.
    pub run: fn(CommandCall) -> BoxFuture<CommandResult>,
}

/// One statistic.
pub struct Statistic {
    /// Name, without the group.
    pub name: &'static str,
    /// A gauge goes up and down and is never reset.
    pub gauge: bool,
    /// Help for people and Prometheus.
    pub help: &'static str,
}

impl Statistic {
    /// A counter.
    pub const fn counter(name: &'static str, help: &'static str) -> Statistic {
        Statistic { name, gauge: false, help }
    }
    /// A gauge.
    pub const fn gauge(name: &'static str, help: &'static str) -> Statistic {
        Statistic { name, gauge: true, help }
    }
}

/// A table with the version the module understands.
pub struct TableUse {
    /// Standard name (a parameter may name another).
    pub name: &'static str,
    /// `table_version` in the table `version`.
    pub version: u32,
}

/// Told of a connection, its peer, our socket, and whether it opened or closed.
pub type ConnectionHook =
    fn(&Rc<Shard>, crate::ports::net::ConnId, std::net::SocketAddr, crate::ports::net::SocketId, bool);

/// What a hook says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooked {
    /// Go on with the next hook, then the script.
    Continue,
    /// The message is done.
    Consumed,
}

/// A place in the way of a message.
pub enum Hook {
    /// Everything a worker receives enters here; exactly one module has it.
    Entry(fn(&Rc<Shard>, crate::ports::net::Packet)),
    /// Each request before its script.
    Request(fn(&mut Ctx) -> Hooked),
    /// Runs the request route, with what comes before and after; at most one module has it.
    Route(fn(Box<Ctx>)),
    /// Each reply to us before its script: whoever sent the request without a transaction takes its answer.
    Answer(fn(&Rc<Shard>, &Message, &Received) -> Hooked),
    /// Each reply after its script.
    Reply(fn(Box<Ctx>) -> Option<Box<Ctx>>),
    /// An in-dialog request was routed by its Route headers.
    Routed(fn(&mut Ctx)),
    /// The request route is about to wait: keep the transaction alive.
    Suspend(fn(&mut Ctx)),
    /// The request script has ended.
    ScriptEnd(fn(&mut Ctx)),
    /// Timers of a shard: when, and what then.
    Timer(fn(&Shard) -> Option<Instant>, fn(&Rc<Shard>, Instant)),
    /// A send failed.
    SendFailed(fn(&Rc<Shard>, u64, crate::ports::net::SendError)),
    /// A stream connection opened or closed.
    Connection(ConnectionHook),
    /// A worker gets more than it can do, or that is over.
    Overload(fn(&Rc<Shard>, bool)),
    /// Whether a request with this method and topmost Via is known already, so that it is a retransmission.
    Known(fn(&Shard, &[u8], &Via<'_>) -> bool),
}
