//! Statements to operations.

use std::sync::Arc;

use bytes::Bytes;

use super::Compiler;
use crate::diag::did_you_mean;
use crate::names::FunctionInfo;
use crate::parse::*;
use crate::program::*;
use crate::source::Span;
use crate::value::Value;
use crate::vm::AssignOp;

impl Compiler<'_> {
    pub(super) fn route(&mut self, index: usize, route: &Route) {
        self.current = index;
        self.program.routes[index].entry = self.program.ops.len() as u32;
        for stmt in &route.body {
            self.stmt(stmt);
        }
        self.emit(Op::EndRoute, route.span);
    }

    pub(super) fn emit(&mut self, op: Op, span: Span) {
        self.program.ops.push(op);
        self.program.places.push(self.ast.sources.place(span));
    }

    pub(super) fn label(&mut self) -> u32 {
        self.labels.push(u32::MAX);
        self.labels.len() as u32 - 1
    }

    /// Puts a label at the next operation.
    pub(super) fn mark(&mut self, label: u32) {
        self.labels[label as usize] = self.program.ops.len() as u32;
    }

    pub(super) fn constant(&mut self, value: Value) -> u32 {
        if let Some(i) = self.program.consts.iter().rposition(|v| *v == value) {
            return i as u32;
        }
        self.program.consts.push(value);
        self.program.consts.len() as u32 - 1
    }

    pub(super) fn stmt(&mut self, stmt: &Stmt) {
        let span = stmt.span;
        match &stmt.kind {
            StmtKind::Call(call) => {
                if let Some(site) = self.call(call, false) {
                    self.emit(Op::Call(site), call.name.span);
                }
            }
            StmtKind::Route { name, args } => self.route_call(name, args, span),
            StmtKind::If { cond, then, other } => {
                let (yes, no, end) = (self.label(), self.label(), self.label());
                self.cond(cond, yes, no, no);
                self.mark(yes);
                self.stmt(then);
                if other.is_some() {
                    self.emit(Op::Jump(end), span);
                }
                self.mark(no);
                if let Some(other) = other {
                    self.stmt(other);
                }
                self.mark(end);
            }
            StmtKind::While { cond, body } => {
                let (top, inside, end) = (self.label(), self.label(), self.label());
                self.emit(Op::LoopBegin, span);
                self.mark(top);
                self.emit(Op::LoopCount { exit: end }, span);
                self.cond(cond, inside, end, end);
                self.mark(inside);
                self.breaks.push(end);
                self.stmt(body);
                self.breaks.pop();
                self.emit(Op::Jump(top), span);
                self.mark(end);
                self.emit(Op::LoopEnd, span);
            }
            StmtKind::ForEach { iter, list, body } => self.for_each(iter, list, body, span),
            StmtKind::Switch { operand, cases, default } => {
                self.switch(operand, cases, default.as_deref(), span)
            }
            StmtKind::Break => {
                if let Some(&to) = self.breaks.last() {
                    self.emit(Op::Jump(to), span);
                }
            }
            StmtKind::Return { code, values } => {
                let code = match code {
                    None => ValuePlan::Const(Value::Int(1)),
                    Some(arg) => self.value_arg(arg),
                };
                let values = values.iter().map(|v| self.value_arg(v)).collect();
                self.program.returns.push(ReturnPlan { code, values });
                self.emit(Op::Return(self.program.returns.len() as u32 - 1), span);
            }
            StmtKind::Exit => self.emit(Op::Exit, span),
            StmtKind::Drop => self.emit(Op::Drop, span),
            StmtKind::Assign(assign) => self.assign(assign, span),
            StmtKind::Xlog { level, text } => {
                let level = match level {
                    None => LogLevel::Unsaid,
                    Some(level) => self.log_level(level),
                };
                self.log(level, text, true);
            }
            StmtKind::Xdbg(text) => self.log(LogLevel::Fixed(4), text, true),
            StmtKind::Log { level, text } => {
                self.log(LogLevel::Fixed(i32::try_from(level.unwrap_or(4)).unwrap_or(4)), text, false);
            }
            StmtKind::Assert { cond, text } => self.assert(cond, text.as_ref(), span),
            StmtKind::Async { call, route, timeout } => {
                let target = self.find_route(&route.text, route.span);
                let timeout = timeout.and_then(|t| u32::try_from(t).ok()).filter(|t| *t > 0);
                if let (Some(call), Some(route)) = (self.call(call, true), target) {
                    self.uses[self.current].routes.push(route);
                    self.program.asyncs.push(AsyncPlan { call, route, timeout });
                    self.emit(Op::Async(self.program.asyncs.len() as u32 - 1), span);
                }
            }
            StmtKind::Launch { call, route, param } => {
                let target = route.as_ref().map(|r| self.find_route(&r.text, r.span));
                let param = param.as_ref().filter(|a| a.kind != ArgValue::Absent).map(|a| self.value_arg(a));
                if let (Some(call), None | Some(Some(_))) = (self.call(call, true), target) {
                    self.program.launches.push(LaunchPlan { call, route: target.flatten(), param });
                    self.emit(Op::Launch(self.program.launches.len() as u32 - 1), span);
                }
            }
            StmtKind::Block(body) => {
                for stmt in body {
                    self.stmt(stmt);
                }
            }
            StmtKind::Empty => {}
        }
    }

    /// Compiles a call site; `later` for `async()` and `launch()`.
    pub(super) fn call(&mut self, call: &Call, later: bool) -> Option<u32> {
        let name = call.name.text.as_str();
        let Some(info) = self.names.function(name) else {
            let all = self.names.all_functions();
            let help = did_you_mean(name, all.iter().map(String::as_str))
                .or_else(|| self.names.elsewhere(name))
                .unwrap_or_else(|| "is the module that has it loaded?".into());
            self.error_help(call.name.span, format!("there is no function `{name}()`"), Some(help));
            return None;
        };
        if let Some(today) = info.renamed_to {
            self.warn_fix(
                call.name.span,
                format!("`{name}()` is an older name"),
                format!("today it is `{today}()`"),
                today,
            );
            self.program.functions.insert(today.trim_end_matches("()").into(), info.id);
        }
        if later && !info.can_async {
            self.error(call.name.span, format!("`{name}()` cannot be used in `async()` or `launch()`"));
        }
        self.program.functions.insert(name.into(), info.id);
        let name: Arc<str> = name.into();
        self.uses[self.current].functions.push((name.clone(), info.routes, call.name.span));
        self.call_site(call, &info, name)
    }

    fn call_site(&mut self, call: &Call, info: &FunctionInfo, name: Arc<str>) -> Option<u32> {
        let (args, fixed) = self.arguments(call, info)?;
        let prepared = match self.names.prepare(info.id, &fixed) {
            Ok(prepared) => prepared,
            Err(why) => {
                self.error(call.name.span, format!("`{name}()`: {why}"));
                None
            }
        };
        let place = self.ast.sources.place(call.name.span);
        let fixed = fixed.into_boxed_slice();
        self.program.calls.push(CallSite { func: info.id, name, fixed, place, args, prepared });
        Some(self.program.calls.len() as u32 - 1)
    }

    pub(super) fn route_call(&mut self, name: &Arg, args: &[Arg], span: Span) {
        let target = match &name.kind {
            ArgValue::Str(text) => {
                let format = self.format(text, name.span);
                match self.fixed_text(format) {
                    Some(text) => {
                        let text = String::from_utf8_lossy(&text).into_owned();
                        self.find_route(&text, name.span).map(RouteTarget::Fixed)
                    }
                    None => Some(RouteTarget::Computed(ValuePlan::Format(format))),
                }
            }
            ArgValue::Int(n) => self.find_route(&n.to_string(), name.span).map(RouteTarget::Fixed),
            ArgValue::Var(v) => self.var(v).map(|v| RouteTarget::Computed(ValuePlan::Var(v))),
            ArgValue::Absent | ArgValue::Null => {
                self.error(name.span, "the name of a route is missing");
                None
            }
        };
        if let Some(RouteTarget::Fixed(id)) = &target {
            let id = *id;
            self.uses[self.current].routes.push(id);
        }
        let args: Box<[ValuePlan]> = args.iter().map(|a| self.value_arg(a)).collect();
        if let Some(target) = target {
            self.program.route_calls.push(RouteCall { target, args });
            self.emit(Op::Route(self.program.route_calls.len() as u32 - 1), span);
        }
    }

    fn for_each(&mut self, iter: &VarText, list: &VarText, body: &Stmt, span: Span) {
        let (iter_var, list_var) = (self.writable(iter), self.var(list));
        let plain = ["$var(", "$avp(", "$json(", "$(var(", "$(avp(", "$(json("];
        if !plain.iter().any(|p| iter.text.starts_with(p)) {
            self.error(iter.span, "the variable of a `for` loop is a `$var`, an `$avp` or a `$json`");
        }
        let compact: String = list.text.chars().filter(|c| !c.is_whitespace()).collect();
        if !compact.contains("[*]") {
            let bare = list.text.trim_start_matches('$');
            let inner = bare.strip_prefix('(').and_then(|b| b.strip_suffix(')')).unwrap_or(bare);
            self.error_help(
                list.span,
                "the list of a `for` loop needs the index `[*]`",
                Some(format!("write `$({inner}[*])`")),
            );
        }
        let (top, end) = (self.label(), self.label());
        self.emit(Op::LoopBegin, span);
        self.mark(top);
        if let (Some(iter), Some(list)) = (iter_var, list_var) {
            self.emit(Op::ForEach { iter, list, exit: end }, span);
        }
        self.breaks.push(end);
        self.stmt(body);
        self.breaks.pop();
        self.emit(Op::Jump(top), span);
        self.mark(end);
        self.emit(Op::LoopEnd, span);
    }

    fn switch(&mut self, operand: &VarText, cases: &[Case], default: Option<&[Stmt]>, span: Span) {
        let end = self.label();
        if let Some(var) = self.var(operand) {
            self.emit(Op::Load(var), operand.span);
        }
        let mut targets = Vec::with_capacity(cases.len());
        for case in cases {
            let target = self.label();
            let value = self.constant(match &case.label {
                CaseLabel::Int(n) => Value::Int(*n),
                CaseLabel::Str(s) => Value::Str(s.clone()),
            });
            self.emit(Op::Case { value, target }, case.span);
            targets.push(target);
        }
        self.emit(Op::Pop, span);
        let otherwise = self.label();
        self.emit(Op::Jump(otherwise), span);
        self.breaks.push(end);
        for (case, target) in cases.iter().zip(targets) {
            self.mark(target);
            for stmt in &case.body {
                self.stmt(stmt);
            }
        }
        // The last case falls through into the default.
        self.mark(otherwise);
        for stmt in default.unwrap_or_default() {
            self.stmt(stmt);
        }
        self.breaks.pop();
        self.mark(end);
    }

    pub(super) fn assign(&mut self, assign: &Assign, span: Span) {
        let Some(var) = self.writable(&assign.target) else {
            self.expr(&assign.value, span);
            return;
        };
        let op = match assign.op {
            AssignKind::With(op) => {
                if assign.value == Expr::Null {
                    self.error(span, "NULL can only be assigned with `=` or `:=`");
                }
                self.expr(&assign.value, span);
                self.emit(Op::AssignWith { var, op }, span);
                return;
            }
            AssignKind::Set => AssignOp::Set,
            AssignKind::Replace => AssignOp::Replace,
        };
        self.expr(&assign.value, span);
        // What a call gave stays readable as `$rc`.
        let keep_code = matches!(assign.value, Expr::Call(_));
        self.emit(Op::Assign { var, op, keep_code }, span);
    }

    fn log_level(&mut self, level: &Arg) -> LogLevel {
        match &level.kind {
            ArgValue::Var(v) => self.var(v).map_or(LogLevel::Fixed(-1), LogLevel::Computed),
            ArgValue::Int(n) => LogLevel::Fixed(i32::try_from(*n).unwrap_or(-1)),
            // A level in quotes is a format like any other text.
            ArgValue::Str(text) if text.starts_with(b"$") => {
                let text = String::from_utf8_lossy(text).into_owned();
                self.warn_fix(level.span, "a variable in quotes", format!("write `{text}`"), text.clone());
                self.var_text(&text, level.span).map_or(LogLevel::Fixed(-1), LogLevel::Computed)
            }
            ArgValue::Str(text) => match crate::vm::level_of_name(text) {
                Some(n) => LogLevel::Fixed(n),
                None => {
                    self.error_help(
                        level.span,
                        format!("`{}` is no log level", String::from_utf8_lossy(text)),
                        Some("L_ALERT, L_CRIT, L_ERR, L_WARN, L_NOTICE, L_INFO, L_DBG".into()),
                    );
                    LogLevel::Fixed(-1)
                }
            },
            ArgValue::Absent | ArgValue::Null => LogLevel::Fixed(-1),
        }
    }

    fn log(&mut self, level: LogLevel, text: &Literal, expand: bool) {
        let format =
            if expand { self.format(&text.text, text.span) } else { self.fixed_format(text.text.clone()) };
        self.program.logs.push(LogPlan { level, text: format });
        self.emit(Op::Log(self.program.logs.len() as u32 - 1), text.span);
    }

    fn assert(&mut self, cond: &Cond, text: Option<&Literal>, span: Span) {
        // Compiled in any case, so that what is wrong inside is reported.
        let start = self.program.ops.len();
        let (yes, no) = (self.label(), self.label());
        self.cond(cond, yes, no, no);
        self.mark(no);
        let shown = text.map_or_else(|| Bytes::from_static(b"assertion failed"), |t| t.text.clone());
        let format = self.format(&shown, text.map_or(span, |t| t.span));
        self.emit(Op::AssertFailed { text: format, abort: self.asserts == Some(true) }, span);
        if self.asserts.is_none() {
            self.program.ops.truncate(start);
            self.program.places.truncate(start);
        }
        self.mark(yes);
    }
}
