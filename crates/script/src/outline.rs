//! Where a script names its routes: for editors that go to a route or rename it.

use crate::lint::{ARMING, each};
use crate::names::RouteType;
use crate::parse::{Arg, ArgValue, Ast, StmtKind};
use crate::source::Span;

/// One place where a route is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteName {
    /// Type of the route.
    pub kind: RouteType,
    /// Its name.
    pub name: String,
    /// The name itself, without quotes and brackets.
    pub span: Span,
    /// The route begins here; else it is called or armed.
    pub definition: bool,
}

/// All places, in no order that matters.
pub fn route_names(ast: &Ast) -> Vec<RouteName> {
    let mut all = Vec::new();
    let inside = |span: Span, name: &str| {
        let text = ast.sources.slice(span);
        let found = text.windows(name.len().max(1)).rposition(|w| w == name.as_bytes())?;
        Some(Span { start: span.start + found as u32, len: name.len() as u32 })
    };
    let mut put = |kind, name: &str, span: Span, definition| {
        if let Some(span) = inside(span, name) {
            all.push(RouteName { kind, name: name.to_owned(), span, definition });
        }
    };
    for route in &ast.routes {
        if let Some(name) = &route.name {
            put(route.kind, name, route.span, true);
        }
        each(&route.body, &mut |s| match &s.kind {
            StmtKind::Route { name: Arg { kind: ArgValue::Str(text), span }, .. } => {
                put(RouteType::Request, &String::from_utf8_lossy(text), *span, false);
            }
            StmtKind::Async { route, .. } | StmtKind::Launch { route: Some(route), .. } => {
                put(RouteType::Request, &route.text, route.span, false);
            }
            StmtKind::Call(call) => {
                let arms = ARMING.iter().find(|a| a.0 == call.name.text);
                if let (Some((_, kind)), Some(Arg { kind: ArgValue::Str(text), span })) =
                    (arms, call.args.first())
                {
                    put(*kind, &String::from_utf8_lossy(text), *span, false);
                }
            }
            _ => {}
        });
    }
    all
}
