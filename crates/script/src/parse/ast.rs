//! The tree of a script as it was written: nothing resolved, every node with its place.

use bytes::Bytes;

use crate::names::RouteType;
use crate::net::Network;
use crate::source::{Sources, Span};

/// A parsed script.
#[derive(Clone, Debug, Default)]
pub struct Ast {
    /// The text and its files.
    pub sources: Sources,
    /// Global parameters in order; one name may come several times (`socket`, `alias`, `mpath`). The profile of
    /// `udp_workers = 4 use_auto_scaling_profile P` is kept as `udp_workers_auto_scaling_profile`.
    pub globals: Vec<Global>,
    /// `loadmodule` lines in order.
    pub modules: Vec<LoadModule>,
    /// `modparam` lines in order.
    pub params: Vec<ModParam>,
    /// Routes in order.
    pub routes: Vec<Route>,
    /// Places where the language's precedence is not what most readers expect: where, what, and what would be clear.
    pub surprises: Vec<(Span, String, String)>,
}

impl Ast {
    /// The last value given to a global parameter.
    pub fn global(&self, name: &str) -> Option<&GlobalValue> {
        self.globals.iter().rev().find(|g| g.name == name).map(|g| &g.value)
    }

    /// All values given to a global parameter.
    pub fn globals_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Global> {
        self.globals.iter().filter(move |g| g.name == name)
    }
}

/// A global parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    /// Today's name.
    pub name: String,
    /// Its value.
    pub value: GlobalValue,
    /// The whole assignment.
    pub span: Span,
}

/// Value of a global parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum GlobalValue {
    /// Integer or boolean.
    Int(i64),
    /// String or bare word.
    Str(Bytes),
    /// `socket`
    Socket(SocketDef),
    /// `alias`
    Alias(Vec<AliasDef>),
    /// `auto_scaling_profile`
    Scaling(ScalingProfile),
    /// `dst_blacklist`
    Blacklist(BlacklistDef),
}

/// A listening socket as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketDef {
    /// Protocol word; `None` only in the old form without one.
    pub proto: Option<String>,
    /// Address, host, interface or `*`; an IPv6 address without brackets. For a bond its name.
    pub host: String,
    /// Port ranges, both ends included; empty means the protocol's default.
    pub ports: Vec<(u16, u16)>,
    /// `as host[:port]`
    pub advertise: Option<(String, Option<u16>)>,
    /// `use_workers`
    pub workers: Option<u32>,
    /// `use_auto_scaling_profile`
    pub scaling: Option<String>,
    /// `tag`
    pub tag: Option<String>,
    /// `tos`
    pub tos: Option<String>,
    /// `anycast`
    pub anycast: bool,
    /// `frag`
    pub frag: bool,
    /// `reuse_port`
    pub reuse_port: bool,
    /// `accept_subdomain`
    pub accept_subdomain: bool,
    /// `allow_proxy_protocol` or `proxy_protocol`
    pub allow_proxy_protocol: bool,
    /// `send_proxy_protocol` or `proxy_protocol`
    pub send_proxy_protocol: bool,
    /// Members of a bond.
    pub bond: Vec<String>,
}

/// One name this server answers for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AliasDef {
    /// Protocol; `None` for any.
    pub proto: Option<String>,
    /// Host without brackets.
    pub host: String,
    /// Port; `None` for any.
    pub port: Option<u16>,
    /// Names below it count as well.
    pub accept_subdomain: bool,
}

/// `NAME scale up to N on P% for C cycles [within W] [scale down to M on Q% for D cycles]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScalingProfile {
    /// Name.
    pub name: String,
    /// Most processes.
    pub up_to: i64,
    /// Load in percent.
    pub up_load: i64,
    /// Cycles.
    pub up_cycles: i64,
    /// Cycles looked at.
    pub within: Option<i64>,
    /// Fewest processes, load in percent, cycles.
    pub down: Option<(i64, i64, i64)>,
}

/// `name[/options] : { rules }`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlacklistDef {
    /// Name.
    pub name: String,
    /// Options after the slash: `read-only`, `expire`, `default`.
    pub options: Vec<String>,
    /// Rules in order.
    pub rules: Vec<BlacklistRule>,
}

/// `[!](proto, net, port, "pattern")`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlacklistRule {
    /// Matches what does not match.
    pub negated: bool,
    /// Protocol; `None` for any.
    pub proto: Option<String>,
    /// Destination.
    pub net: Network,
    /// Port; 0 for any.
    pub port: u16,
    /// Shell pattern over the message; empty for any.
    pub pattern: Bytes,
}

/// `loadmodule "name.so"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadModule {
    /// As written.
    pub path: String,
    /// Last component without `.so`.
    pub name: String,
    /// Where its name is.
    pub span: Span,
    /// The whole line.
    pub whole: Span,
}

/// `modparam("module", "param", value)`
#[derive(Clone, Debug, PartialEq)]
pub struct ModParam {
    /// Regular expression over module names.
    pub module: String,
    /// Parameter.
    pub name: String,
    /// Value.
    pub value: ParamValue,
    /// Where the parameter's name is.
    pub span: Span,
    /// Where the module's name is.
    pub module_span: Span,
    /// Where the value is.
    pub value_span: Span,
    /// The whole line.
    pub whole: Span,
}

impl ModParam {
    /// True when this line is for `module`: the expression must match its whole name.
    pub fn is_for(&self, module: &str) -> bool {
        if self.module == module {
            return true;
        }
        regex::RegexBuilder::new(&format!("^(?:{})$", self.module))
            .case_insensitive(true)
            .size_limit(1 << 16)
            .build()
            .is_ok_and(|r| r.is_match(module))
    }
}

/// Value of a module parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamValue {
    /// Integer or boolean.
    Int(i64),
    /// String.
    Str(Bytes),
}

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Type.
    pub kind: RouteType,
    /// Name; `None` for the main or only one of its type (`route[0]` is the main one too).
    pub name: Option<String>,
    /// Seconds between runs of a timer route.
    pub interval: u32,
    /// Statements.
    pub body: Vec<Stmt>,
    /// Its head.
    pub span: Span,
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    /// What it does.
    pub kind: StmtKind,
    /// Where.
    pub span: Span,
}

/// Kinds of statements.
#[derive(Clone, Debug, PartialEq)]
pub enum StmtKind {
    /// `f(a, b)`
    Call(Call),
    /// `route(name, ...)`
    Route {
        /// Name: a string, number or variable.
        name: Arg,
        /// Read as `$param(1)` and on.
        args: Vec<Arg>,
    },
    /// `if (cond) stm else stm`
    If {
        /// Condition.
        cond: Cond,
        /// Taken when true.
        then: Box<Stmt>,
        /// Taken when false or in error.
        other: Option<Box<Stmt>>,
    },
    /// `while (cond) stm`
    While {
        /// Condition.
        cond: Cond,
        /// Repeated.
        body: Box<Stmt>,
    },
    /// `for ($it in $(list[*])) stm`
    ForEach {
        /// Written each time.
        iter: VarText,
        /// List with `[*]`.
        list: VarText,
        /// Repeated.
        body: Box<Stmt>,
    },
    /// `switch ($v) { ... }`
    Switch {
        /// Compared.
        operand: VarText,
        /// Cases in order.
        cases: Vec<Case>,
        /// `default:`
        default: Option<Vec<Stmt>>,
    },
    /// `break`
    Break,
    /// `return(code, values...)`
    Return {
        /// Code; 1 when left out.
        code: Option<Arg>,
        /// Read as `$return(0)` and on.
        values: Vec<Arg>,
    },
    /// `exit`
    Exit,
    /// `drop`
    Drop,
    /// `$x = expr`
    Assign(Assign),
    /// `xlog(level, fmt)`
    Xlog {
        /// Level, when given.
        level: Option<Arg>,
        /// Format string.
        text: Literal,
    },
    /// `xdbg(fmt)`
    Xdbg(Literal),
    /// `log(level, text)`; the text is not expanded.
    Log {
        /// Level, when given.
        level: Option<i64>,
        /// Text.
        text: Literal,
    },
    /// `assert(cond, "text")`
    Assert {
        /// Condition.
        cond: Cond,
        /// Text for the log.
        text: Option<Literal>,
    },
    /// `async(f(...), route, timeout)`
    Async {
        /// Function.
        call: Call,
        /// Resume route.
        route: Name,
        /// Seconds.
        timeout: Option<i64>,
    },
    /// `launch(f(...), route, fmt)`
    Launch {
        /// Function.
        call: Call,
        /// Report route.
        route: Option<Name>,
        /// Becomes `$param(1)` of the report route.
        param: Option<Arg>,
    },
    /// `{ ... }`
    Block(Vec<Stmt>),
    /// `;`
    Empty,
}

/// One `case`.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Constant.
    pub label: CaseLabel,
    /// Where the constant is.
    pub span: Span,
    /// Statements up to the next case; without `break` the run goes on there.
    pub body: Vec<Stmt>,
}

/// Constant of a `case`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseLabel {
    /// Integer.
    Int(i64),
    /// String, compared without case.
    Str(Bytes),
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Function.
    pub name: Name,
    /// Arguments.
    pub args: Vec<Arg>,
}

/// A word with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Text.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// A string literal with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// Bytes with escapes resolved, variables not.
    pub text: Bytes,
    /// Where.
    pub span: Span,
}

/// A variable as written, from its `$` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VarText {
    /// Notation.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// An argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Arg {
    /// What.
    pub kind: ArgValue,
    /// Where.
    pub span: Span,
}

/// Kinds of arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum ArgValue {
    /// Left out.
    Absent,
    /// String.
    Str(Bytes),
    /// Integer.
    Int(i64),
    /// Variable.
    Var(VarText),
    /// `NULL`
    Null,
}

/// `target op expr`
#[derive(Clone, Debug, PartialEq)]
pub struct Assign {
    /// Left side.
    pub target: VarText,
    /// `=` and `:=`, or the operator before `=`.
    pub op: AssignKind,
    /// Right side.
    pub value: Expr,
}

/// Ways to assign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignKind {
    /// `=`
    Set,
    /// `:=`
    Replace,
    /// `+=` and its kin.
    With(BinOp),
}

/// An arithmetic expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Integer.
    Int(i64),
    /// Format string.
    Str(Literal),
    /// Variable.
    Var(VarText),
    /// `NULL`
    Null,
    /// The code of a function or route.
    Call(Box<Stmt>),
    /// Two operands.
    Binary(BinOp, Box<Expr>, Box<Expr>),
    /// `~`
    Not(Box<Expr>),
    /// `-`
    Neg(Box<Expr>),
}

/// Arithmetic operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinOp {
    /// `+`, also joins strings.
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `|`
    Or,
    /// `&`
    And,
    /// `^`
    Xor,
    /// `<<`
    Shl,
    /// `>>`
    Shr,
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Cond {
    /// `a and b`
    And(Box<Cond>, Box<Cond>),
    /// `a or b`
    Or(Box<Cond>, Box<Cond>),
    /// `!a`
    Not(Box<Cond>),
    /// `$v op operand`
    Compare {
        /// Left side.
        left: VarText,
        /// Operator.
        op: CmpOp,
        /// Right side.
        right: Operand,
        /// The whole comparison.
        span: Span,
    },
    /// `[ expr ]`
    Arith(Expr, Span),
    /// A statement used as a test.
    Action(Box<Stmt>),
    /// A constant.
    Const(bool),
    /// A bare variable.
    Var(VarText),
}

/// Comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmpOp {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `>`
    Gt,
    /// `<=`
    Le,
    /// `>=`
    Ge,
    /// `=~`
    Match,
    /// `!~`
    NoMatch,
}

/// Right side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// String.
    Str(Literal),
    /// Integer.
    Int(i64),
    /// Variable.
    Var(VarText),
    /// `NULL`
    Null,
    /// Address or network.
    Net(Network),
}
