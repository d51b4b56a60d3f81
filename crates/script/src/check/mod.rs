//! The walk of the call graph: which function may be reached from which type of route.
//!
//! Every top route is walked with its own type; a sub-route counts as the type of the route it is called from. Routes
//! that are only called by a computed name are not seen here.

use std::collections::HashSet;

use crate::compile::{Compiler, route_title};
use crate::names::RouteType;
use crate::program::RouteId;

/// Reports every call of a function in a type of route that the function does not allow.
pub(crate) fn routes(compiler: &mut Compiler<'_>) {
    let ast = compiler.ast;
    let mut problems = Vec::new();
    let mut reported = HashSet::new();
    for (top, route) in ast.routes.iter().enumerate() {
        if route.kind == RouteType::Request && route.name.is_some() {
            continue;
        }
        let mut seen = HashSet::new();
        let mut queue = vec![RouteId(top as u32)];
        while let Some(id) = queue.pop() {
            if !seen.insert(id) {
                continue;
            }
            let Some(uses) = compiler.uses.get(id.0 as usize) else { continue };
            queue.extend_from_slice(&uses.routes);
            for (name, mask, span) in &uses.functions {
                if mask.allows(route.kind) || !reported.insert((span.start, route.kind)) {
                    continue;
                }
                let allowed: Vec<&str> =
                    RouteType::ALL.into_iter().filter(|t| mask.allows(*t)).map(RouteType::keyword).collect();
                let mut message = format!("`{name}()` cannot be used in {}", route_title(route));
                if id.0 as usize != top {
                    message.push_str(&format!(
                        ", from where this is called through {}",
                        route_title(&ast.routes[id.0 as usize])
                    ));
                }
                problems.push((*span, message, format!("it works in: {}", allowed.join(", "))));
            }
        }
    }
    for (span, message, help) in problems {
        compiler.error_help(span, message, Some(help));
    }
}
