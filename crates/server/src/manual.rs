//! The manual: everything a script can write, read from the export tables. `switchroom doc`, the language server and the
//! coverage report stand on it.

use std::fmt::Write;

use switchroom_kernel::Module;
use switchroom_kernel::module::{Function, Named, ParamKind, Variable};
use switchroom_kernel::settings::GLOBALS;
use switchroom_script::names::RouteType;

use crate::catalogue;

/// What kind of thing an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A module.
    Module,
    /// A script function.
    Function,
    /// A pseudo-variable.
    Variable,
    /// A module's parameter.
    Param,
    /// A core parameter.
    CoreParam,
    /// An event.
    Event,
    /// A management command.
    Command,
    /// A statistic.
    Statistic,
    /// A transformation.
    Transformation,
    /// A statement of the language.
    Statement,
    /// A type of route.
    Route,
}

impl Kind {
    /// As in the inventory.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Module => "module",
            Kind::Function => "function",
            Kind::Variable => "variable",
            Kind::Param => "param",
            Kind::CoreParam => "core-param",
            Kind::Event => "event",
            Kind::Command => "command",
            Kind::Statistic => "statistic",
            Kind::Transformation => "transformation",
            Kind::Statement => "statement",
            Kind::Route => "route",
        }
    }
}

/// One entry of the manual.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Module it belongs to; `core` for the language itself.
    pub module: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its name, without `$` and braces.
    pub name: String,
    /// As it is written: `f(str, [int])`, `$hdr(name)[i]`.
    pub notation: String,
    /// Arguments in the notation of the export tables.
    pub args: String,
    /// Letters of the routes that may use it.
    pub routes: &'static str,
    /// What it does.
    pub help: String,
    /// More lines: default, older names.
    pub notes: Vec<String>,
    /// Names it had in older releases.
    pub old_names: Vec<&'static str>,
}

/// Everything there is.
pub fn entries() -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::with_capacity(2048);
    for m in catalogue::modules() {
        module(m, &mut all);
    }
    for g in GLOBALS {
        let mut e =
            Entry::new("core", Kind::CoreParam, g.name, format!("{} = ...", g.name), "Core parameter");
        e.notes.extend((!g.default.is_empty()).then(|| format!("default: {}", g.default)));
        all.push(e);
    }
    for name in switchroom_script::transformations() {
        let notation = format!("$(var{{{name}}})");
        all.push(Entry::new("core", Kind::Transformation, &name, notation, "Transformation of a value"));
    }
    for (name, notation, help) in STATEMENTS {
        all.push(Entry::new("core", Kind::Statement, name, (*notation).to_owned(), help));
    }
    for (name, notation, help) in LANGUAGE_VARIABLES {
        all.push(Entry::new("core", Kind::Variable, name, (*notation).to_owned(), help));
    }
    for kind in RouteType::ALL {
        let word = kind.keyword();
        all.push(Entry::new("core", Kind::Route, word, format!("{word} {{ ... }}"), "A type of route"));
    }
    all
}

impl Entry {
    fn new(module: &'static str, kind: Kind, name: &str, notation: String, help: &str) -> Entry {
        Entry {
            module,
            kind,
            name: name.to_owned(),
            notation,
            args: String::new(),
            routes: "",
            help: help.to_owned(),
            notes: Vec::new(),
            old_names: Vec::new(),
        }
    }

    /// The page of this entry, as plain text.
    pub fn page(&self) -> String {
        let mut text = format!("{}\n    {} of {}\n\n", self.notation, self.kind.word(), self.module);
        let _ = writeln!(text, "{}.", self.help.trim_end_matches('.'));
        if !self.routes.is_empty() {
            let _ = writeln!(text, "usable in: {}", routes(self.routes));
        }
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        if !self.old_names.is_empty() {
            let _ = writeln!(text, "formerly: {}", self.old_names.join(", "));
        }
        text
    }

    /// Whether somebody who asks for `name` means this.
    pub fn answers(&self, name: &str) -> bool {
        let bare = name.trim_start_matches('$').trim_matches(['{', '}', '(', ')']);
        self.name == bare
            || self.old_names.contains(&bare)
            || bare.split_once(['.', ':']).is_some_and(|(m, n)| m == self.module && n == self.name)
    }
}

fn routes(letters: &str) -> String {
    let mask = switchroom_script::names::RouteMask::of(letters);
    if letters.contains('*') {
        return "every route".to_owned();
    }
    let names: Vec<_> =
        RouteType::ALL.into_iter().filter(|t| mask.allows(*t)).map(RouteType::keyword).collect();
    names.join(", ")
}

fn module(m: &'static Module, all: &mut Vec<Entry>) {
    let mut e = Entry::new(m.name, Kind::Module, m.name, format!("loadmodule \"{}.so\"", m.name), m.summary);
    e.notes.extend((!m.needs.is_empty()).then(|| format!("needs: {}", m.needs.join(", "))));
    e.old_names = m.old_names.to_vec();
    for (what, names) in [
        ("parameters", m.params.iter().map(|p| p.name).collect::<Vec<_>>()),
        ("functions", m.functions.iter().map(|f| f.name).collect()),
        ("variables", m.variables.iter().map(|v| v.name).collect()),
        ("events", m.events.iter().map(|v| v.name).collect()),
        ("commands", m.commands.iter().map(|c| c.name).collect()),
        ("statistics", m.statistics.iter().map(|s| s.name).collect()),
    ] {
        e.notes.extend((!names.is_empty()).then(|| format!("{what}: {}", names.join(", "))));
    }
    all.push(e);
    all.extend(m.functions.iter().map(|f| function(m, f)));
    all.extend(m.variables.iter().flat_map(|v| variable(m, v)));
    for p in m.params {
        let value = match p.kind {
            ParamKind::Int => "number",
            ParamKind::Str => "\"text\"",
            ParamKind::Any => "number or \"text\"",
        };
        let notation = format!("modparam(\"{}\", \"{}\", {value})", m.name, p.name);
        let mut e = Entry::new(m.name, Kind::Param, p.name, notation, p.help);
        e.notes.push(p.default.map_or("default: unset".into(), |d| format!("default: {d}")));
        e.notes.extend(p.multi.then(|| "may be given several times".to_owned()));
        all.push(e);
    }
    for v in m.events {
        let mut e = Entry::new(m.name, Kind::Event, v.name, format!("event_route[{}]", v.name), v.help);
        e.notes.push(format!("attributes, read as $param(name): {}", v.attrs.join(", ")));
        all.push(e);
    }
    for c in m.commands {
        let mut e =
            Entry::new(m.name, Kind::Command, c.name, format!("switchroom mi {} {}", c.name, c.args), c.help);
        e.args = c.args.to_owned();
        e.old_names = c.old_names.to_vec();
        all.push(e);
    }
    for s in m.statistics {
        let notation = format!("$stat({}:{})", m.name, s.name);
        let mut e = Entry::new(m.name, Kind::Statistic, s.name, notation, s.help);
        e.notes.push(if s.gauge { "a gauge" } else { "a counter" }.to_owned());
        all.push(e);
    }
}

fn function(m: &'static Module, f: &'static Function) -> Entry {
    let args = f.args.first().copied().unwrap_or_default();
    let shown = args.split(',').filter(|a| !a.is_empty()).collect::<Vec<_>>().join(", ");
    let mut e = Entry::new(m.name, Kind::Function, f.name, format!("{}({shown})", f.name), f.help);
    e.args = args.to_owned();
    e.routes = f.routes;
    e.notes.extend(f.args.iter().skip(1).map(|a| format!("also: {}({a})", f.name)));
    e.notes.extend(f.can_async.then(|| "also inside async() and launch()".to_owned()));
    e.old_names = f.old_names.to_vec();
    e
}

fn variable(m: &'static Module, v: &'static Variable) -> Vec<Entry> {
    let inner = match v.named {
        Named::No => "",
        Named::Optional => "[(name)]",
        Named::Yes => "(name)",
    };
    let index = if v.indexed { "[index]" } else { "" };
    let make = |name: &str| {
        let mut e = Entry::new(m.name, Kind::Variable, name, format!("${name}{inner}{index}"), v.help);
        e.notes.push(if v.set.is_some() { "can be written" } else { "read only" }.to_owned());
        e.old_names = v.old_names.to_vec();
        e
    };
    std::iter::once(&v.name).chain(v.also).map(|n| make(n)).collect()
}

/// Variables that the language itself keeps: name, notation, help.
const LANGUAGE_VARIABLES: &[(&str, &str, &str)] = &[
    (
        "param",
        "$param(1)",
        "An argument of this route, by number from 1, or an attribute of the event by name",
    ),
    ("return", "$return(0)", "A further value that the last route returned, from 0"),
    ("rc", "$rc", "The result of the last statement"),
    ("retcode", "$retcode", "The result of the last statement"),
    ("route", "$route[index]", "The route that runs, `type[name]`; with an index one that called it"),
    ("route.name", "$route.name[index]", "Its name"),
    ("route.type", "$route.type[index]", "Its type"),
    ("cfg_line", "$cfg_line", "The line of the script"),
    ("cfg_file", "$cfg_file", "The file of the script"),
];

/// Statements: name, notation, help.
const STATEMENTS: &[(&str, &str, &str)] = &[
    ("if", "if (condition) statement else statement", "Runs one of two statements"),
    ("else", "if (condition) statement else statement", "What runs when the condition is false or in error"),
    ("while", "while (condition) statement", "Repeats; ends with an error after max_while_loops rounds"),
    ("for-each", "for ($var(x) in $(avp(list)[*])) statement", "Runs once for each value of a list"),
    ("for", "for ($var(x) in $(avp(list)[*])) statement", "Runs once for each value of a list"),
    (
        "switch",
        "switch ($var) { case \"a\": ... default: ... }",
        "Jumps to the case of a value; falls through",
    ),
    ("case", "case constant:", "A case of a switch; text ignores case"),
    ("default", "default:", "The last case of a switch"),
    ("break", "break;", "Leaves a loop or a switch"),
    (
        "return",
        "return(code, values...);",
        "Leaves a route; 0 ends the script, values are read as $return(0)",
    ),
    ("exit", "exit;", "Ends the script"),
    ("drop", "drop;", "Ends the script and discards the branch or provisional reply"),
    ("route-call", "route(name, arguments...);", "Calls a route; arguments are read as $param(1)"),
    ("assign", "$var(x) = expression;", "Also := += -= *= /= %= &= |= ^=; NULL removes"),
    ("xlog", "xlog([\"L_INFO\",] \"text with $variables\");", "Writes to the log"),
    ("xdbg", "xdbg(\"text\");", "Writes to the log at the debug level"),
    ("log", "log([level,] \"text\");", "Writes to the log; variables are not expanded"),
    ("assert", "assert(condition, \"text\");", "Ends the script when false, with enable_asserts"),
    ("async", "async(function(...), route, seconds);", "Goes on in another route when the function is done"),
    ("launch", "launch(function(...), route, \"text\");", "Starts a function and goes on at once"),
    ("error", "error(\"a\", \"b\");", "Never had an effect"),
];
