//! What the embedding program knows: functions, variables and transformations, asked once while a script is loaded.
//!
//! Every name in a script is resolved to a number here, so that running it looks nothing up by text. Left out: what
//! the functions do (the [`Host`](crate::vm::Host) does that) and how modules are found.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use crate::value::Value;

/// Data a function prepared from its fixed arguments at load, handed back on each call.
pub type Prepared = Arc<dyn Any + Send + Sync>;

/// A transformation that a module adds (`{class.name,params}`): value and parameters in, value out.
pub type TransformFn = Arc<dyn Fn(&Value, &[Value]) -> Value + Send + Sync>;

/// The names an embedding program offers to scripts.
pub trait Names {
    /// A function by its name; also finds older spellings, which set [`FunctionInfo::renamed_to`].
    fn function(&self, name: &str) -> Option<FunctionInfo>;

    /// A variable by its name without `$` and without inner name: `ru`, `avp`, `hdr`, `msg.branch.uri`.
    fn variable(&self, name: &str) -> Option<VariableInfo>;

    /// Interns the inner name of `$avp(name)` or `$hdr(name)` to a key the host understands, or says why it cannot be.
    fn bind_name(&self, var: u32, name: &str) -> Result<u32, String>;

    /// Last check of one call site with its fixed arguments; may return prepared data for each call of that site.
    fn prepare(&self, func: u32, args: &[StaticArg]) -> Result<Option<Prepared>, String>;

    /// A transformation of a module by its full name, such as `rest.escape`.
    fn transformation(&self, _name: &str) -> Option<TransformFn> {
        None
    }

    /// What to do about a function (or, with a `$`, a variable) that is not there but could be.
    fn elsewhere(&self, _name: &str) -> Option<String> {
        None
    }

    /// All function names, for suggestions.
    fn all_functions(&self) -> Vec<String>;

    /// All variable names, for suggestions.
    fn all_variables(&self) -> Vec<String>;
}

/// What the checker needs to know of a function.
#[derive(Clone, Debug)]
pub struct FunctionInfo {
    /// Number handed to the host on each call.
    pub id: u32,
    /// Accepted argument lists; the first that fits is taken.
    pub signatures: &'static [Signature],
    /// Route types that may call it.
    pub routes: RouteMask,
    /// May be used in `async()` and `launch()`.
    pub can_async: bool,
    /// Today's name when the script used an older spelling.
    pub renamed_to: Option<&'static str>,
    /// A plain call may have to wait.
    pub may_wait: bool,
}

/// One accepted argument list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Arguments in order.
    pub args: &'static [ArgDef],
}

/// One argument of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgDef {
    /// What is expected.
    pub kind: ArgKind,
    /// May be left out, or be nothing at run time.
    pub optional: bool,
    /// Must be a fixed literal (`!` in the inventory).
    pub static_only: bool,
    /// Text is handed over unexpanded (`~` in the inventory).
    pub raw: bool,
}

impl ArgDef {
    /// A mandatory argument.
    pub const fn new(kind: ArgKind) -> Self {
        Self { kind, optional: false, static_only: false, raw: false }
    }

    /// The same, optional.
    pub const fn opt(self) -> Self {
        Self { optional: true, ..self }
    }

    /// The same, a fixed literal only.
    pub const fn fixed(self) -> Self {
        Self { static_only: true, ..self }
    }

    /// The same, not expanded.
    pub const fn raw(self) -> Self {
        Self { raw: true, ..self }
    }
}

/// Kind of a function argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgKind {
    /// String, possibly with variables in it.
    Str,
    /// Integer or a variable that holds one.
    Int,
    /// A variable the function reads or writes.
    Var,
    /// Regular expression.
    Regex,
}

/// An argument of a call site as far as it is known at load.
#[derive(Clone, Debug, PartialEq)]
pub enum StaticArg {
    /// Left out.
    Absent,
    /// A fixed string (also the source of a fixed regular expression and an unexpanded text).
    Str(Bytes),
    /// A fixed integer.
    Int(i64),
    /// Only known at run time.
    Dynamic,
    /// A variable handed over as such, with its number from [`VariableInfo::id`] and its bound inner name.
    Var {
        /// Number of the variable.
        id: u32,
        /// Key of its inner name.
        key: Option<u32>,
        /// May be written.
        writable: bool,
    },
}

/// What the checker needs to know of a variable.
#[derive(Clone, Debug)]
pub struct VariableInfo {
    /// Number handed to the host on each access.
    pub id: u32,
    /// Whether it takes an inner name.
    pub named: NameUse,
    /// May be read with `[index]`.
    pub indexed: bool,
    /// May be assigned.
    pub writable: bool,
    /// Today's notation when the script used an older one.
    pub renamed_to: Option<&'static str>,
}

/// Whether a variable takes an inner name in parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameUse {
    /// Never.
    None,
    /// Sometimes.
    Optional,
    /// Always.
    Required,
}

/// Route types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteType {
    /// `route`
    Request,
    /// `failure_route`
    Failure,
    /// `onreply_route`
    Onreply,
    /// `branch_route`
    Branch,
    /// `error_route`
    Error,
    /// `local_route`
    Local,
    /// `startup_route`
    Startup,
    /// `timer_route`
    Timer,
    /// `event_route`
    Event,
}

impl RouteType {
    /// Every type.
    pub const ALL: [Self; 9] = [
        Self::Request,
        Self::Failure,
        Self::Onreply,
        Self::Branch,
        Self::Error,
        Self::Local,
        Self::Startup,
        Self::Timer,
        Self::Event,
    ];

    /// The keyword that opens such a route.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Request => "route",
            Self::Failure => "failure_route",
            Self::Onreply => "onreply_route",
            Self::Branch => "branch_route",
            Self::Error => "error_route",
            Self::Local => "local_route",
            Self::Startup => "startup_route",
            Self::Timer => "timer_route",
            Self::Event => "event_route",
        }
    }

    /// The type for a keyword.
    pub fn from_keyword(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.keyword() == word)
    }

    /// The bit of this type in a [`RouteMask`].
    pub const fn mask(self) -> RouteMask {
        RouteMask(1 << self as u16)
    }
}

/// A set of route types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteMask(pub u16);

impl RouteMask {
    /// Every route type.
    pub const ALL: Self = Self(0x1ff);

    /// Reads the inventory's letters `R F O B E L S T V`, or `*` for all.
    ///
    /// # Panics
    /// On another letter; meant for constants, where that is a compile error.
    pub const fn of(letters: &str) -> Self {
        let bytes = letters.as_bytes();
        let mut mask = 0;
        let mut i = 0;
        while i < bytes.len() {
            mask |= match bytes[i] {
                b'*' => Self::ALL.0,
                b'R' => RouteType::Request.mask().0,
                b'F' => RouteType::Failure.mask().0,
                b'O' => RouteType::Onreply.mask().0,
                b'B' => RouteType::Branch.mask().0,
                b'E' => RouteType::Error.mask().0,
                b'L' => RouteType::Local.mask().0,
                b'S' => RouteType::Startup.mask().0,
                b'T' => RouteType::Timer.mask().0,
                b'V' => RouteType::Event.mask().0,
                _ => panic!("route letters are R F O B E L S T V and *"),
            };
            i += 1;
        }
        Self(mask)
    }

    /// True when `route` is in the set.
    pub const fn allows(self, route: RouteType) -> bool {
        self.0 & route.mask().0 != 0
    }
}
