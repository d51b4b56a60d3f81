//! Tree to program: routes get numbers, statements become operations, and everything that can be wrong with names,
//! arguments and route permissions is reported here, all at once.

mod args;
mod build;
mod cond;
mod vars;

use std::collections::HashMap;
use std::sync::Arc;

use crate::check;
use crate::diag::{self, Diagnostic, Severity};
use crate::names::{Names, RouteMask, RouteType};
use crate::parse::{Ast, GlobalValue, Route};
use crate::program::{Limits, Pool, Program, RouteId, RouteInfo};
use crate::source::Span;

pub(crate) use vars::Reader;
pub use vars::{Template, Variable};

/// Compiles a tree against the names the embedding program offers. The warnings come with the program; on any error
/// there is no program and both errors and warnings are returned, sorted.
pub fn compile(ast: &Ast, names: &dyn Names) -> Result<(Program, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut compiler = Compiler::new(ast, names);
    compiler.number_routes();
    for (i, route) in ast.routes.iter().enumerate() {
        compiler.route(i, route);
    }
    check::routes(&mut compiler);
    let mut diags = std::mem::take(&mut compiler.diags);
    diag::sort(&mut diags);
    if diags.iter().any(Diagnostic::is_error) { Err(diags) } else { Ok((compiler.finish(), diags)) }
}

pub(crate) struct Compiler<'a> {
    pub ast: &'a Ast,
    pub names: &'a dyn Names,
    pub program: Program,
    pub diags: Vec<Diagnostic>,
    /// What each route of the tree calls, for the walk of the call graph.
    pub uses: Vec<Uses>,
    /// Addresses by label; operations name labels until the program is finished.
    labels: Vec<u32>,
    /// Labels that `break` goes to, innermost last.
    breaks: Vec<u32>,
    current: usize,
    formats: HashMap<bytes::Bytes, u32>,
    vars: HashMap<String, u32>,
    asserts: Option<bool>,
}

/// What a route calls.
#[derive(Default)]
pub(crate) struct Uses {
    pub functions: Vec<(Arc<str>, RouteMask, Span)>,
    pub routes: Vec<RouteId>,
}

impl<'a> Compiler<'a> {
    fn new(ast: &'a Ast, names: &'a dyn Names) -> Self {
        let flag = |name: &str| matches!(ast.global(name), Some(GlobalValue::Int(n)) if *n != 0);
        let mut limits = Limits::default();
        if let Some(GlobalValue::Int(n)) = ast.global("max_while_loops") {
            limits.while_rounds = u32::try_from(*n).unwrap_or(limits.while_rounds);
        }
        Self {
            ast,
            names,
            program: Program {
                files: ast.sources.files().to_vec(),
                ops: Vec::new(),
                places: Vec::new(),
                pool: Pool::default(),
                consts: Vec::new(),
                regexes: Vec::new(),
                nets: Vec::new(),
                calls: Vec::new(),
                route_calls: Vec::new(),
                returns: Vec::new(),
                asyncs: Vec::new(),
                launches: Vec::new(),
                logs: Vec::new(),
                routes: Vec::new(),
                by_name: Default::default(),
                functions: HashMap::new(),
                limits,
            },
            diags: Vec::new(),
            uses: ast.routes.iter().map(|_| Uses::default()).collect(),
            labels: Vec::new(),
            breaks: Vec::new(),
            current: 0,
            formats: HashMap::new(),
            vars: HashMap::new(),
            asserts: flag("enable_asserts").then(|| flag("abort_on_assert")),
        }
    }

    fn number_routes(&mut self) {
        for (i, route) in self.ast.routes.iter().enumerate() {
            let id = RouteId(i as u32);
            let place = self.ast.sources.place(route.span);
            let twice = match &route.name {
                Some(name) => self.program.by_name[route.kind as usize].insert(name.clone(), id).is_some(),
                None => self.program.find(route.kind, None).is_some(),
            };
            if twice {
                let first = self
                    .program
                    .routes
                    .iter()
                    .find(|r| r.kind == route.kind && r.name.as_deref() == route.name.as_deref());
                let d = self.ast.sources.diag(
                    Severity::Error,
                    route.span,
                    format!("{} is defined twice", route_title(route)),
                );
                self.diags.push(match first {
                    Some(f) => d.help(format!("the first one is at {}:{}", f.file, f.line)),
                    None => d,
                });
            }
            self.program.routes.push(RouteInfo {
                id,
                kind: route.kind,
                name: route.name.as_deref().map(Arc::from),
                interval: route.interval,
                file: self.program.files.get(place.file as usize).cloned().unwrap_or_else(|| "".into()),
                line: place.line,
                entry: 0,
            });
        }
    }

    fn finish(mut self) -> Program {
        use crate::program::Op;
        let labels = &self.labels;
        let at = |label: &mut u32| *label = labels.get(*label as usize).copied().unwrap_or(0);
        for op in &mut self.program.ops {
            match op {
                Op::Jump(to)
                | Op::LoopCount { exit: to }
                | Op::ForEach { exit: to, .. }
                | Op::Case { target: to, .. } => at(to),
                Op::Branch { yes, no, error } => {
                    at(yes);
                    at(no);
                    at(error);
                }
                _ => {}
            }
        }
        self.program
    }

    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.diags.push(self.ast.sources.diag(Severity::Error, span, message));
    }

    pub fn error_help(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        let d = self.ast.sources.diag(Severity::Error, span, message);
        self.diags.push(match help {
            Some(h) => d.help(h),
            None => d,
        });
    }

    pub fn warn(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.diags.push(self.ast.sources.diag(Severity::Warning, span, message).help(help));
    }

    /// A warning with the text that replaces the piece it is about.
    pub fn warn_fix(
        &mut self,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
        text: impl Into<String>,
    ) {
        let sources = &self.ast.sources;
        let d = sources.diag(Severity::Warning, span, message).help(help);
        self.diags.push(d.fixed_by(sources.fix(span, text)));
    }

    /// The route a static name means, or an error with a suggestion.
    fn find_route(&mut self, name: &str, span: Span) -> Option<RouteId> {
        if let Some(id) = self.program.find(RouteType::Request, Some(name)) {
            return Some(id);
        }
        let known: Vec<&str> = self
            .program
            .routes
            .iter()
            .filter(|r| r.kind == RouteType::Request)
            .filter_map(|r| r.name.as_deref())
            .collect();
        let other = self.program.routes.iter().find(|r| r.name.as_deref() == Some(name));
        let help = match other {
            Some(r) => Some(format!("`{name}` is a {}; only a `route` can be called", r.kind.keyword())),
            None => diag::did_you_mean(name, known),
        };
        self.error_help(span, format!("there is no `route[{name}]`"), help);
        None
    }
}

/// A route as it is written in a script.
pub(crate) fn route_title(route: &Route) -> String {
    match &route.name {
        Some(name) => format!("`{}[{name}]`", route.kind.keyword()),
        None => format!("`{}`", route.kind.keyword()),
    }
}
