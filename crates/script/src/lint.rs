//! What works but deserves a look: statements that never run, routes that nobody calls, variables read before they are
//! written, a request that may get no answer, and the language's surprises where they bite.
//!
//! It reads the tree only, so it needs no module; names of functions that matter are listed here.

use std::collections::{HashMap, HashSet};

use crate::diag::{self, Diagnostic, Severity, did_you_mean};
use crate::names::RouteType;
use crate::parse::*;
use crate::source::Span;

/// Functions that arm a route by its name, and the type of that route.
const ARMING: [(&str, RouteType); 3] = [
    ("t_on_failure", RouteType::Failure),
    ("t_on_branch", RouteType::Branch),
    ("t_on_reply", RouteType::Onreply),
];

/// Functions after which a request is on its way or answered.
const ANSWERING: &[&str] = &[
    "t_relay",
    "forward",
    "send",
    "t_reply",
    "t_reply_with_body",
    "send_reply",
    "send_reply_with_body",
    "sl_send_reply",
    "sl_reply_error",
    "save",
    "www_challenge",
    "proxy_challenge",
    "t_newtran",
    "t_wait_for_new_branches",
    "lookup_only",
    "pv_www_challenge",
    "options_reply",
    "b2b_init_request",
    "handle_subscribe",
    "handle_publish",
    "redirect_send",
    "auth_challenge",
    "aka_www_challenge",
    "t_replicate",
    "mid_registrar_save",
];

/// Looks at a whole script.
pub fn lint(ast: &Ast) -> Vec<Diagnostic> {
    let mut l = Lint { ast, diags: Vec::new(), text: Mentions::of(ast) };
    for (span, what, help) in &ast.surprises {
        l.warn(*span, what.clone(), help.clone());
    }
    for route in &ast.routes {
        l.unreachable(&route.body);
        l.statements(&route.body, route);
    }
    l.routes();
    l.order_of_modules();
    l.variables();
    l.answers();
    diag::sort(&mut l.diags);
    l.diags
}

struct Lint<'a> {
    ast: &'a Ast,
    diags: Vec<Diagnostic>,
    text: Mentions,
}

/// Every string that a script mentions, and which routes it calls or arms.
#[derive(Default)]
struct Mentions {
    called: HashSet<String>,
    strings: HashSet<String>,
    /// A route is called or armed by a computed name.
    computed: bool,
}

impl Mentions {
    fn of(ast: &Ast) -> Mentions {
        let mut m = Mentions::default();
        for route in &ast.routes {
            each(&route.body, &mut |s| m.stmt(s));
        }
        for p in &ast.params {
            if let ParamValue::Str(s) = &p.value {
                m.strings.insert(String::from_utf8_lossy(s).into_owned());
            }
        }
        m
    }

    fn stmt(&mut self, s: &Stmt) {
        match &s.kind {
            StmtKind::Route { name, .. } => match &name.kind {
                ArgValue::Str(text) if !text.contains(&b'$') => {
                    self.called.insert(String::from_utf8_lossy(text).into_owned());
                }
                ArgValue::Int(n) => {
                    self.called.insert(n.to_string());
                }
                _ => self.computed = true,
            },
            StmtKind::Call(call) => self.call(call),
            StmtKind::Async { call, route, .. } => {
                self.call(call);
                self.called.insert(route.text.clone());
            }
            StmtKind::Launch { call, route, .. } => {
                self.call(call);
                self.called.extend(route.iter().map(|r| r.text.clone()));
            }
            _ => {}
        }
    }

    fn call(&mut self, call: &Call) {
        for arg in &call.args {
            match &arg.kind {
                ArgValue::Str(text) => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    // A function may take `route=name` or several names.
                    self.strings.extend(text.split([',', ';', '=']).map(|t| t.trim().to_owned()));
                    self.strings.insert(text);
                }
                ArgValue::Var(_) if ARMING.iter().any(|a| a.0 == call.name.text) => self.computed = true,
                _ => {}
            }
        }
    }
}

/// Calls `f` for every statement, outer ones first, those inside conditions and expressions included.
fn each<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a Stmt)) {
    for stmt in body {
        each_in(stmt, f);
    }
}

fn each_in<'a>(stmt: &'a Stmt, f: &mut dyn FnMut(&'a Stmt)) {
    f(stmt);
    match &stmt.kind {
        StmtKind::If { cond, then, other } => {
            each_cond(cond, f);
            each_in(then, f);
            if let Some(other) = other {
                each_in(other, f);
            }
        }
        StmtKind::While { cond, body } => {
            each_cond(cond, f);
            each_in(body, f);
        }
        StmtKind::ForEach { body, .. } => each_in(body, f),
        StmtKind::Switch { cases, default, .. } => {
            cases.iter().for_each(|c| each(&c.body, f));
            each(default.as_deref().unwrap_or_default(), f);
        }
        StmtKind::Assign(a) => each_expr(&a.value, f),
        StmtKind::Assert { cond, .. } => each_cond(cond, f),
        StmtKind::Block(body) => each(body, f),
        _ => {}
    }
}

fn each_cond<'a>(cond: &'a Cond, f: &mut dyn FnMut(&'a Stmt)) {
    match cond {
        Cond::And(a, b) | Cond::Or(a, b) => {
            each_cond(a, f);
            each_cond(b, f);
        }
        Cond::Not(c) => each_cond(c, f),
        Cond::Arith(e, _) => each_expr(e, f),
        Cond::Action(s) => each_in(s, f),
        Cond::Compare { .. } | Cond::Const(_) | Cond::Var(_) => {}
    }
}

fn each_expr<'a>(expr: &'a Expr, f: &mut dyn FnMut(&'a Stmt)) {
    match expr {
        Expr::Call(s) => each_in(s, f),
        Expr::Binary(_, a, b) => {
            each_expr(a, f);
            each_expr(b, f);
        }
        Expr::Not(e) | Expr::Neg(e) => each_expr(e, f),
        _ => {}
    }
}

/// Whether nothing behind a statement runs.
fn ends(stmt: &Stmt) -> bool {
    match &stmt.kind {
        StmtKind::Exit
        | StmtKind::Drop
        | StmtKind::Return { .. }
        | StmtKind::Async { .. }
        | StmtKind::Break => true,
        StmtKind::If { then, other: Some(other), .. } => ends(then) && ends(other),
        StmtKind::Block(body) => body.iter().any(ends),
        _ => false,
    }
}

impl Lint<'_> {
    fn warn(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.diags.push(self.ast.sources.diag(Severity::Warning, span, message).help(help));
    }

    fn unreachable(&mut self, body: &[Stmt]) {
        for pair in body.windows(2) {
            if ends(&pair[0]) && !matches!(pair[1].kind, StmtKind::Empty) {
                let before = word(&pair[0]);
                let what = match &pair[1].kind {
                    StmtKind::Call(c) if c.name.text == "t_relay" => {
                        format!("`t_relay()` behind {before} never runs")
                    }
                    _ => format!("nothing behind {before} runs"),
                };
                self.warn(pair[1].span, what, "remove it, or move it up");
                break;
            }
        }
        for stmt in body {
            match &stmt.kind {
                StmtKind::If { then, other, .. } => {
                    self.unreachable(std::slice::from_ref(then));
                    self.unreachable(other.as_deref().map_or(&[][..], std::slice::from_ref));
                }
                StmtKind::While { body, .. } | StmtKind::ForEach { body, .. } => {
                    self.unreachable(std::slice::from_ref(body));
                }
                StmtKind::Switch { cases, default, .. } => {
                    cases.iter().for_each(|c| self.unreachable(&c.body));
                    self.unreachable(default.as_deref().unwrap_or_default());
                }
                StmtKind::Block(body) => self.unreachable(body),
                _ => {}
            }
        }
    }

    fn statements(&mut self, body: &[Stmt], route: &Route) {
        let named = route.kind == RouteType::Request && route.name.is_some();
        let mut found = Vec::new();
        each(body, &mut |s| match &s.kind {
            StmtKind::Return { code: Some(Arg { kind: ArgValue::Int(0), .. }), .. } if named => {
                found.push((
                    s.span,
                    "`return(0)` ends the whole script, not only this route",
                    "write `exit`, or another code",
                ));
            }
            StmtKind::If { cond: Cond::Action(inner), .. }
            | StmtKind::While { cond: Cond::Action(inner), .. } => {
                if let StmtKind::Assign(Assign { op: AssignKind::Set, .. }) = inner.kind {
                    found.push((inner.span, "this assigns, and is true when that worked", "`==` compares"));
                }
            }
            StmtKind::Call(call) if call.args.iter().any(|a| a.kind == ArgValue::Null) => {
                found.push((
                    s.span,
                    "a function gets NULL",
                    "a mandatory argument that is NULL makes the call fail with -1",
                ));
            }
            _ => {}
        });
        found.into_iter().for_each(|(span, what, help)| self.warn(span, what, help));
    }

    /// Routes that nobody calls, and names of routes that are not there.
    fn routes(&mut self) {
        let ast = self.ast;
        if !ast.routes.iter().any(|r| r.kind == RouteType::Request && r.name.is_none()) {
            self.warn(Span::default(), "there is no `route { }`: every request is discarded", "write one");
        }
        for route in &ast.routes {
            let Some(name) = route.name.as_deref() else { continue };
            let used = match route.kind {
                RouteType::Request => self.text.called.contains(name) || self.text.strings.contains(name),
                RouteType::Failure | RouteType::Branch | RouteType::Onreply => {
                    self.text.strings.contains(name)
                }
                _ => true,
            };
            if !used && !self.text.computed {
                let word = route.kind.keyword();
                let help = match ARMING.iter().find(|a| a.1 == route.kind) {
                    Some((arm, _)) => format!("`{arm}(\"{name}\")` arms it"),
                    None => format!("`route({name})` calls it"),
                };
                self.warn(route.span, format!("`{word}[{name}]` is never used"), help);
            }
        }
        let mut missing = Vec::new();
        for route in &ast.routes {
            each(&route.body, &mut |s| {
                let StmtKind::Call(call) = &s.kind else { return };
                let Some((_, kind)) = ARMING.iter().find(|a| a.0 == call.name.text) else { return };
                let Some(Arg { kind: ArgValue::Str(text), span }) = call.args.first() else { return };
                let name = String::from_utf8_lossy(text);
                let there = |r: &&Route| r.kind == *kind && r.name.as_deref() == Some(&*name);
                if !name.contains('$')
                    && !name.is_empty()
                    && name != "0"
                    && !ast.routes.iter().any(|r| there(&r))
                {
                    let known =
                        ast.routes.iter().filter(|r| r.kind == *kind).filter_map(|r| r.name.as_deref());
                    missing.push((
                        *span,
                        format!("there is no `{}[{name}]`", kind.keyword()),
                        did_you_mean(&name, known),
                    ));
                }
            });
        }
        for (span, text, help) in missing {
            let mut d = ast.sources.diag(Severity::Error, span, text);
            d.help = help;
            self.diags.push(d);
        }
    }

    /// A parameter above the line that loads its module is refused elsewhere.
    fn order_of_modules(&mut self) {
        for p in &self.ast.params {
            let mut loads = self.ast.modules.iter().filter(|m| p.is_for(&m.name)).peekable();
            if loads.peek().is_some() && loads.all(|m| m.span.start > p.span.start) {
                let text = format!("this stands above the line that loads `{}`", p.module);
                self.warn(p.module_span, text, "OpenSIPS wants `loadmodule` first");
            }
        }
    }

    /// `$var(x)` that is read where nothing can have written it.
    fn variables(&mut self) {
        let by_name: HashMap<&str, usize> = self
            .ast
            .routes
            .iter()
            .enumerate()
            .filter(|(_, r)| r.kind == RouteType::Request)
            .map(|(i, r)| (r.name.as_deref().unwrap_or("0"), i))
            .collect();
        let mut walk = Vars {
            ast: self.ast,
            by_name,
            written: HashSet::new(),
            entered: HashSet::new(),
            found: Vec::new(),
        };
        let order = |r: &Route| match r.kind {
            RouteType::Startup => 0,
            RouteType::Request if r.name.is_none() => 1,
            RouteType::Request => 3,
            _ => 2,
        };
        let mut tops: Vec<usize> = (0..self.ast.routes.len()).collect();
        tops.sort_by_key(|i| order(&self.ast.routes[*i]));
        for i in tops {
            walk.route(i);
        }
        let found = walk.found;
        let mut said = HashSet::new();
        for (name, span) in found {
            if said.insert(name.clone()) {
                let text = format!("`$var({name})` is read before anything is written to it");
                self.warn(span, text, "it is NULL, or holds what an earlier message left there");
            }
        }
    }

    /// Whether a request can reach the end of the main route without an answer.
    fn answers(&mut self) {
        let Some(main) = self.ast.routes.iter().find(|r| r.kind == RouteType::Request && r.name.is_none())
        else {
            return;
        };
        let mut paths = Paths { ast: self.ast, known: HashMap::new(), depth: 0 };
        if paths.block(&main.body, false) == Some(false) {
            let text = "a request can reach the end of `route` without being answered or relayed";
            self.warn(main.span, text, "it is discarded there; `send_reply()` or `t_relay()` before the end");
        }
    }
}

fn word(stmt: &Stmt) -> &'static str {
    match stmt.kind {
        StmtKind::Exit => "`exit`",
        StmtKind::Drop => "`drop`",
        StmtKind::Return { .. } => "`return`",
        StmtKind::Break => "`break`",
        StmtKind::Async { .. } => "`async()`",
        _ => "this",
    }
}

/// Walks routes in the order they run, remembering what may have been written.
struct Vars<'a> {
    ast: &'a Ast,
    by_name: HashMap<&'a str, usize>,
    written: HashSet<String>,
    entered: HashSet<usize>,
    found: Vec<(String, Span)>,
}

impl Vars<'_> {
    fn route(&mut self, i: usize) {
        if self.entered.insert(i) {
            let ast = self.ast;
            self.block(&ast.routes[i].body);
        }
    }

    fn block(&mut self, body: &[Stmt]) {
        body.iter().for_each(|s| self.stmt(s));
    }

    fn stmt(&mut self, s: &Stmt) {
        match &s.kind {
            StmtKind::Call(c) => self.call(c),
            StmtKind::Route { name, args } => {
                args.iter().for_each(|a| self.arg(a));
                let target = match &name.kind {
                    ArgValue::Str(t) => self.by_name.get(&*String::from_utf8_lossy(t)).copied(),
                    ArgValue::Int(n) => self.by_name.get(n.to_string().as_str()).copied(),
                    _ => None,
                };
                if let Some(target) = target {
                    self.route(target);
                }
            }
            StmtKind::If { cond, then, other } => {
                self.cond(cond);
                self.stmt(then);
                other.iter().for_each(|o| self.stmt(o));
            }
            StmtKind::While { cond, body } => {
                self.cond(cond);
                self.stmt(body);
            }
            StmtKind::ForEach { iter, list, body } => {
                self.reads(&list.text, list.span);
                self.writes(&iter.text);
                self.stmt(body);
            }
            StmtKind::Switch { operand, cases, default } => {
                self.reads(&operand.text, operand.span);
                cases.iter().for_each(|c| self.block(&c.body));
                self.block(default.as_deref().unwrap_or_default());
            }
            StmtKind::Return { code, values } => {
                code.iter().chain(values).for_each(|a| self.arg(a));
            }
            StmtKind::Assign(a) => {
                self.expr(&a.value);
                if matches!(a.op, AssignKind::With(_)) {
                    self.reads(&a.target.text, a.target.span);
                }
                self.writes(&a.target.text);
            }
            StmtKind::Xlog { text, .. } | StmtKind::Xdbg(text) => {
                self.reads(&String::from_utf8_lossy(&text.text), text.span);
            }
            StmtKind::Assert { cond, .. } => self.cond(cond),
            StmtKind::Async { call, .. } | StmtKind::Launch { call, .. } => self.call(call),
            StmtKind::Block(body) => self.block(body),
            _ => {}
        }
    }

    fn call(&mut self, call: &Call) {
        // A variable in quotes or alone may be what the function writes to.
        for arg in &call.args {
            match &arg.kind {
                ArgValue::Var(v) => self.writes(&v.text),
                ArgValue::Str(text) => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    for piece in text.split([';', ',']).filter(|p| p.trim().starts_with('$')) {
                        self.writes(piece.trim());
                    }
                    self.reads(&text, arg.span);
                }
                _ => {}
            }
        }
    }

    fn arg(&mut self, arg: &Arg) {
        match &arg.kind {
            ArgValue::Var(v) => self.reads(&v.text, v.span),
            ArgValue::Str(text) => self.reads(&String::from_utf8_lossy(text), arg.span),
            _ => {}
        }
    }

    fn cond(&mut self, cond: &Cond) {
        match cond {
            Cond::And(a, b) | Cond::Or(a, b) => {
                self.cond(a);
                self.cond(b);
            }
            Cond::Not(c) => self.cond(c),
            Cond::Compare { left, right, .. } => {
                // A test against NULL asks whether it was written.
                if *right == Operand::Null {
                    self.writes(&left.text);
                }
                self.reads(&left.text, left.span);
                if let Operand::Var(v) = right {
                    self.reads(&v.text, v.span);
                }
            }
            Cond::Arith(e, _) => self.expr(e),
            Cond::Action(s) => self.stmt(s),
            Cond::Const(_) => {}
            Cond::Var(v) => self.reads(&v.text, v.span),
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Str(l) => self.reads(&String::from_utf8_lossy(&l.text), l.span),
            Expr::Var(v) => self.reads(&v.text, v.span),
            Expr::Call(s) => self.stmt(s),
            Expr::Binary(_, a, b) => {
                self.expr(a);
                self.expr(b);
            }
            Expr::Not(e) | Expr::Neg(e) => self.expr(e),
            Expr::Int(_) | Expr::Null => {}
        }
    }

    fn reads(&mut self, text: &str, span: Span) {
        for name in var_names(text) {
            if !self.written.contains(&name) {
                self.found.push((name, span));
            }
        }
    }

    fn writes(&mut self, text: &str) {
        self.written.extend(var_names(text));
    }
}

/// Plain names of the `$var(...)` in a text, those inside transformations and indexes included.
fn var_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("var(") {
        let dollar = rest[..at].ends_with('$') || rest[..at].ends_with("$(");
        rest = &rest[at + 4..];
        let Some(end) = rest.find(')') else { break };
        let name = &rest[..end];
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if dollar && plain {
            names.push(name.to_owned());
        }
    }
    names
}

/// Follows all paths through routes, to see whether one ends without an answer.
struct Paths<'a> {
    ast: &'a Ast,
    /// What a route does for a message that had no answer before it.
    known: HashMap<usize, Option<bool>>,
    depth: usize,
}

impl Paths<'_> {
    /// `None` when no path gets behind the statements; else whether every path that does has an answer.
    fn block(&mut self, body: &[Stmt], mut answered: bool) -> Option<bool> {
        for stmt in body {
            answered = self.stmt(stmt, answered)?;
        }
        Some(answered)
    }

    fn stmt(&mut self, stmt: &Stmt, answered: bool) -> Option<bool> {
        match &stmt.kind {
            StmtKind::Exit | StmtKind::Drop | StmtKind::Async { .. } => None,
            StmtKind::Return { .. } => Some(true),
            StmtKind::Block(body) => self.block(body, answered),
            StmtKind::If { cond, then, other } => {
                let answered = answered || self.cond(cond);
                let yes = self.stmt(then, answered);
                let no = match other {
                    Some(other) => self.stmt(other, answered),
                    None => Some(answered),
                };
                match (yes, no) {
                    (None, other) | (other, None) => other,
                    (Some(a), Some(b)) => Some(a && b),
                }
            }
            StmtKind::While { cond, .. } => Some(answered || self.cond(cond)),
            StmtKind::Switch { cases, default, .. } => {
                let mut all = vec![match default {
                    Some(body) => self.block(body, answered),
                    None => Some(answered),
                }];
                all.extend(cases.iter().map(|c| self.block(&c.body, answered)));
                all.into_iter().flatten().reduce(|a, b| a && b)
            }
            StmtKind::Route { name, .. } => {
                let name = match &name.kind {
                    ArgValue::Str(t) if !t.contains(&b'$') => String::from_utf8_lossy(t).into_owned(),
                    ArgValue::Int(n) => n.to_string(),
                    // What a computed route does cannot be known.
                    _ => return Some(true),
                };
                self.route(&name).map(|a| a || answered)
            }
            _ => {
                let mut answers = false;
                each_in(stmt, &mut |s| {
                    answers |=
                        matches!(&s.kind, StmtKind::Call(c) if ANSWERING.contains(&c.name.text.as_str()));
                });
                Some(answered || answers)
            }
        }
    }

    fn route(&mut self, name: &str) -> Option<bool> {
        let found = self
            .ast
            .routes
            .iter()
            .position(|r| r.kind == RouteType::Request && r.name.as_deref() == Some(name));
        let Some(i) = found else { return Some(true) };
        if let Some(known) = self.known.get(&i) {
            return *known;
        }
        // A route inside itself is taken to answer.
        self.known.insert(i, Some(true));
        if self.depth >= 100 {
            return Some(true);
        }
        self.depth += 1;
        let ast = self.ast;
        let result = self.block(&ast.routes[i].body, false);
        self.depth -= 1;
        self.known.insert(i, result);
        result
    }

    fn cond(&mut self, cond: &Cond) -> bool {
        match cond {
            Cond::And(a, b) | Cond::Or(a, b) => self.cond(a) || self.cond(b),
            Cond::Not(c) => self.cond(c),
            Cond::Action(s) => self.stmt(s, false).unwrap_or(true),
            _ => false,
        }
    }
}
