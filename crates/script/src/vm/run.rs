//! The loop over the operations.

use std::sync::Arc;

use smallvec::SmallVec;

use super::compare::{assign_with, binary, compare, compare_null, posix_regex};
use super::eval::{expand, expand_into, read, read_at, resolve, value};
use super::frame::{Call, How, Outcome, Scope, ScriptError, State, Step, Test};
use super::host::{
    Arg, ArgStr, Args, AssignOp, CallMode, Finished, Flow, Host, LaunchJob, StepKind, TraceStep,
};
use crate::names::RouteType;
use crate::net::parse_ip;
use crate::parse::{BinOp, CmpOp};
use crate::program::{ArgPlan, LogLevel, Op, Program, RouteId, RouteTarget};
use crate::value::{Value, int_bytes};

/// A frame at work on its host.
pub(super) struct Run<'a, H: Host> {
    pub program: &'a Program,
    pub state: &'a mut State,
    pub host: &'a mut H,
}

/// Evaluates with the run's pool and scope.
macro_rules! eval {
    ($self:ident, $f:ident, $what:expr) => {
        $f(
            &$self.program.pool,
            $what,
            $self.host,
            Some(&Scope { program: $self.program, state: $self.state }),
        )
    };
}

impl<H: Host> Run<'_, H> {
    /// Runs until the end or the next wait.
    pub fn go(&mut self) -> Step<H::Wait> {
        let step = self.steps();
        // A step that waits is told when its result is there.
        if !matches!(step, Step::Wait(_)) && self.host.tracing() {
            self.tell();
        }
        step
    }

    fn steps(&mut self) -> Step<H::Wait> {
        let program = self.program;
        let budget = program.limits.operations;
        loop {
            if self.host.tracing() {
                self.tell();
            }
            let Some(op) = program.ops.get(self.state.pc as usize) else {
                return self.done(How::End);
            };
            self.state.last = self.state.pc;
            self.state.pc += 1;
            self.state.operations += 1;
            if self.state.operations > budget {
                let (file, line) = self.place();
                return Step::Failed(ScriptError::Budget { file, line, operations: budget });
            }
            match *op {
                Op::Jump(to) => self.state.pc = to,
                Op::Branch { yes, no, error } => {
                    self.state.pc = match self.state.test {
                        Test::True => yes,
                        Test::False => no,
                        Test::Error => error,
                    }
                }
                Op::TestVar(var) => self.state.test = eval!(self, read, var).truthy().into(),
                Op::TestRc => self.state.test = (self.state.code > 0).into(),
                Op::TestTop => self.state.test = self.pop().truthy().into(),
                Op::CmpConst { .. }
                | Op::CmpVar { .. }
                | Op::CmpNull { .. }
                | Op::CmpNet { .. }
                | Op::CmpRegex { .. } => self.test(op),
                Op::Const(i) => self.state.stack.push(program.consts[i as usize].clone()),
                Op::Load(var) => {
                    let v = eval!(self, read, var);
                    self.state.stack.push(v);
                }
                Op::Format(format) => {
                    let v = Value::Str(eval!(self, expand, format));
                    self.state.stack.push(v);
                }
                Op::Binary(op) => {
                    let right = self.pop();
                    let left = self.pop();
                    self.binary(op, left, right);
                }
                Op::BitNot => match self.pop() {
                    Value::Int(n) => self.state.stack.push(Value::Int(!n)),
                    _ => {
                        self.problem("arithmetic with something that is no number");
                        self.state.stack.push(Value::Int(0));
                    }
                },
                Op::Neg => {
                    let right = self.pop();
                    self.binary(BinOp::Sub, Value::Int(0), right);
                }
                Op::LoadRc => self.state.stack.push(Value::Int(self.state.code)),
                Op::Assign { var, op, keep_code } => {
                    let v = self.pop();
                    let code = self.state.code;
                    self.assign(var, op, v);
                    if keep_code {
                        self.state.code = code;
                    }
                }
                Op::AssignWith { var, op } => {
                    let right = self.pop();
                    let left = eval!(self, read, var);
                    match assign_with(op, left, right) {
                        Ok(v) => self.assign(var, AssignOp::Set, v),
                        Err(why) => {
                            self.problem(why);
                            self.state.code = -1;
                        }
                    }
                }
                Op::Call(site) => match self.call(site, CallMode::Plain) {
                    Flow::Wait(wait) => return Step::Wait(wait),
                    flow => {
                        if let Some(outcome) = self.state.finished(finished(flow)) {
                            return Step::Done(outcome);
                        }
                    }
                },
                Op::Async(i) => {
                    let plan = &program.asyncs[i as usize];
                    match self.call(plan.call, CallMode::Async(plan.timeout)) {
                        Flow::Wait(wait) => {
                            return Step::Async { wait, resume: plan.route, timeout: plan.timeout };
                        }
                        Flow::Exit => return self.done(How::Exit),
                        Flow::Drop => return self.done(How::Drop),
                        Flow::Value(code) => {
                            self.restart(plan.route);
                            self.state.code = code;
                        }
                    }
                }
                Op::Launch(i) => self.launch(i),
                Op::Route(i) => {
                    if let Err(error) = self.route(i) {
                        return Step::Failed(error);
                    }
                }
                Op::Return(i) => {
                    let plan = &program.returns[i as usize];
                    let code = match eval!(self, value, &plan.code) {
                        Value::Int(n) => n,
                        Value::Null => -1,
                        Value::Str(_) => 1,
                    };
                    let mut returned = Vec::with_capacity(plan.values.len());
                    for v in &plan.values {
                        returned.push(eval!(self, value, v));
                    }
                    self.state.returned = returned;
                    self.state.code = code;
                    if code == 0 {
                        return self.done(How::Exit);
                    }
                    if !self.leave() {
                        return self.done(How::End);
                    }
                }
                Op::EndRoute => {
                    if !self.leave() {
                        return self.done(How::End);
                    }
                }
                Op::Exit => return self.done(How::Exit),
                Op::Drop => return self.done(How::Drop),
                Op::LoopBegin => self.state.loops.push(0),
                Op::LoopCount { exit } => {
                    let max = program.limits.while_rounds;
                    if let Some(rounds) = self.state.loops.last_mut() {
                        *rounds += 1;
                        if *rounds > max {
                            self.problem("a while loop has gone round too often (max_while_loops)");
                            self.state.pc = exit;
                        }
                    }
                }
                Op::LoopEnd => {
                    self.state.loops.pop();
                }
                Op::ForEach { iter, list, exit } => {
                    let round = self.state.loops.last_mut().map_or(0, |r| {
                        *r += 1;
                        *r - 1
                    });
                    let scope = Scope { program, state: self.state };
                    let index = i32::try_from(round).unwrap_or(i32::MAX);
                    match read_at(&program.pool, list, self.host, Some(&scope), Some(index)) {
                        Value::Null => self.state.pc = exit,
                        v => self.assign(iter, AssignOp::Set, v),
                    }
                }
                Op::Case { value, target } => {
                    let top = self.state.stack.last().unwrap_or(&Value::Null);
                    let same = match (top, &program.consts[value as usize]) {
                        (Value::Int(a), Value::Int(b)) => a == b,
                        (Value::Str(a), Value::Str(b)) => a.eq_ignore_ascii_case(b),
                        (Value::Int(a), Value::Str(b)) => itoa::Buffer::new().format(*a).as_bytes() == &b[..],
                        _ => false,
                    };
                    if same {
                        self.state.stack.pop();
                        self.state.pc = target;
                    }
                }
                Op::Pop => {
                    self.state.stack.pop();
                }
                Op::Log(i) => self.log(i),
                Op::AssertFailed { text, abort } => {
                    let text = String::from_utf8_lossy(&eval!(self, expand, text)).into_owned();
                    let (file, line) = self.place();
                    let error = ScriptError::Assert { file, line, text };
                    self.problem(&error.to_string());
                    if abort {
                        return Step::Failed(error);
                    }
                    match program.find(RouteType::Error, None) {
                        Some(route) if route != self.top_route() => self.restart(route),
                        _ => return self.done(How::Exit),
                    }
                }
            }
        }
    }

    /// Tells the host of the operation that was done last.
    #[cold]
    fn tell(&mut self) {
        let program = self.program;
        let last = std::mem::replace(&mut self.state.last, u32::MAX);
        let Some(op) = program.ops.get(last as usize) else { return };
        let var = |i: u32| program.pool.vars.get(i as usize).map_or("", |v| &*v.text);
        let route = |id: RouteId| program.route(id).and_then(|r| r.name.as_deref()).unwrap_or("");
        let code = self.state.code;
        let test = if self.state.test == Test::True { 1 } else { -1 };
        let (kind, name, result) = match *op {
            Op::Call(i) => (StepKind::Call, &*program.calls[i as usize].name, code),
            Op::Async(i) => {
                (StepKind::Call, &*program.calls[program.asyncs[i as usize].call as usize].name, code)
            }
            Op::Launch(i) => {
                (StepKind::Call, &*program.calls[program.launches[i as usize].call as usize].name, code)
            }
            Op::TestVar(v)
            | Op::CmpConst { var: v, .. }
            | Op::CmpVar { var: v, .. }
            | Op::CmpNull { var: v, .. }
            | Op::CmpNet { var: v, .. }
            | Op::CmpRegex { var: v, .. } => (StepKind::Test, var(v), test),
            Op::TestTop => (StepKind::Test, "[ ]", test),
            Op::Assign { var: v, .. } | Op::AssignWith { var: v, .. } => (StepKind::Assign, var(v), code),
            Op::Log(_) => (StepKind::Log, "xlog", code),
            Op::Route(_) => (StepKind::Route, route(self.state.route), code),
            Op::Return(_) | Op::EndRoute => (StepKind::Return, "", code),
            Op::Exit => (StepKind::Exit, "", code),
            Op::Drop => (StepKind::Drop, "", code),
            _ => return,
        };
        let step =
            TraceStep { at: program.position(last), kind, name, result, depth: self.state.calls.len() };
        self.host.step(&step);
    }

    fn done(&self, how: How) -> Step<H::Wait> {
        Step::Done(Outcome { code: self.state.code, how })
    }

    fn pop(&mut self) -> Value {
        self.state.stack.pop().unwrap_or_default()
    }

    fn place(&self) -> (Arc<str>, u32) {
        let at = self.program.position(self.state.pc.saturating_sub(1));
        (at.file.into(), at.line)
    }

    #[cold]
    fn problem(&mut self, text: &str) {
        let at = self.program.position(self.state.pc.saturating_sub(1));
        self.host.error(at, text);
    }

    fn top_route(&self) -> RouteId {
        self.state.calls.first().map_or(self.state.route, |c| c.route)
    }

    /// Goes back to the calling route; false when this is the top one.
    fn leave(&mut self) -> bool {
        let state = &mut *self.state;
        let Some(call) = state.calls.pop() else { return false };
        state.params.truncate(state.params_base);
        state.params_base = call.params_base;
        state.loops.truncate(call.loops);
        state.route = call.route;
        state.pc = call.pc;
        true
    }

    /// Goes on in another top route, forgetting the current one.
    fn restart(&mut self, route: RouteId) {
        let state = &mut *self.state;
        state.calls.clear();
        state.params.clear();
        state.params_base = 0;
        state.top_params.clear();
        state.stack.clear();
        state.loops.clear();
        state.route = route;
        state.pc = self.program.routes[route.0 as usize].entry;
    }

    fn route(&mut self, i: u32) -> Result<(), ScriptError> {
        let program = self.program;
        let plan = &program.route_calls[i as usize];
        let target = match &plan.target {
            RouteTarget::Fixed(id) => Some(*id),
            RouteTarget::Computed(name) => {
                let name = eval!(self, value, name).to_bytes();
                name.and_then(|n| program.find_bytes(RouteType::Request, &n))
            }
        };
        let Some(target) = target else {
            self.problem("there is no route of the computed name");
            self.state.code = -1;
            return Ok(());
        };
        if self.state.calls.len() + 1 >= program.limits.depth as usize {
            let (file, line) = self.place();
            return Err(ScriptError::Depth { file, line, depth: program.limits.depth });
        }
        let mut args: SmallVec<[Value; 8]> = SmallVec::with_capacity(plan.args.len());
        for arg in &plan.args {
            args.push(eval!(self, value, arg));
        }
        let state = &mut *self.state;
        let base = state.params.len();
        state.params.extend(args);
        state.calls.push(Call {
            pc: state.pc,
            route: state.route,
            params_base: state.params_base,
            loops: state.loops.len(),
        });
        state.params_base = base;
        state.route = target;
        state.pc = program.routes[target.0 as usize].entry;
        Ok(())
    }

    fn binary(&mut self, op: BinOp, left: Value, right: Value) {
        let (v, problem) = binary(op, left, right);
        if let Some(why) = problem {
            self.problem(why);
        }
        self.state.stack.push(v);
    }

    fn assign(&mut self, var: u32, op: AssignOp, v: Value) {
        let scope = Scope { program: self.program, state: self.state };
        let Some(access) = resolve(&self.program.pool, var, self.host, Some(&scope), None) else {
            self.problem("the index of what is assigned is no number");
            self.state.code = -1;
            return;
        };
        let op = match (op, v.is_null()) {
            (AssignOp::Set, true) => AssignOp::SetNull,
            (AssignOp::Replace, true) => AssignOp::ReplaceNull,
            (op, _) => op,
        };
        match self.host.set(&access, op, v) {
            Ok(()) => self.state.code = 1,
            Err(why) => {
                let name = &self.program.pool.vars[var as usize].text;
                self.problem(&format!("cannot assign `{name}`: {why}"));
                self.state.code = -1;
            }
        }
    }

    fn test(&mut self, op: &Op) {
        let program = self.program;
        let result = match *op {
            Op::CmpConst { var, op, value } => {
                let left = eval!(self, read, var);
                compare(&left, op, &program.consts[value as usize], true)
            }
            Op::CmpVar { var, op, right } => {
                let left = eval!(self, read, var);
                let right = eval!(self, read, right);
                match op {
                    CmpOp::Match => self.match_text(&left, &right, false),
                    CmpOp::NoMatch => self.match_text(&left, &right, true),
                    _ => compare(&left, op, &right, false),
                }
            }
            Op::CmpNull { var, op } => Ok(compare_null(&eval!(self, read, var), op, &Value::Null)),
            Op::CmpNet { var, net, negate } => match eval!(self, read, var) {
                Value::Str(text) => match parse_ip(&text) {
                    Some(ip) => Ok(program.nets[net as usize].contains(ip) != negate),
                    None => Err("what is compared with an address is none"),
                },
                Value::Null => Ok(negate),
                Value::Int(_) => Err("a number is compared with an address"),
            },
            Op::CmpRegex { var, regex, negate } => {
                let regex = &program.regexes[regex as usize];
                match eval!(self, read, var) {
                    Value::Null => Ok(negate),
                    Value::Str(text) => Ok(regex.is_match(&text) != negate),
                    Value::Int(n) => Ok(regex.is_match(itoa::Buffer::new().format(n).as_bytes()) != negate),
                }
            }
            _ => Ok(false),
        };
        self.state.test = match result {
            Ok(yes) => yes.into(),
            Err(why) => {
                self.problem(why);
                Test::Error
            }
        };
    }

    /// Matches against an expression that is only known now.
    fn match_text(&mut self, left: &Value, right: &Value, negate: bool) -> Result<bool, &'static str> {
        let (Some(text), Some(expr)) = (left.to_bytes(), right.to_bytes()) else {
            return Ok(negate && left.is_null() != right.is_null());
        };
        match posix_regex(&expr) {
            Ok(regex) => Ok(regex.is_match(&text) != negate),
            Err(_) => Err("a computed regular expression is malformed"),
        }
    }

    fn call(&mut self, site: u32, mode: CallMode) -> Flow<H::Wait> {
        let site = &self.program.calls[site as usize];
        let mut args: SmallVec<[Arg<'_>; 6]> = SmallVec::new();
        for (i, plan) in site.args.iter().enumerate() {
            match self.argument(plan) {
                Some(arg) => args.push(arg),
                None => {
                    self.problem(&format!("argument {} of `{}()` has no usable value", i + 1, site.name));
                    return Flow::Value(-1);
                }
            }
        }
        self.host.call(site.func, Args(&args), site.prepared.as_ref(), mode)
    }

    /// Evaluates an argument; `None` when a mandatory one is nothing, is no number or no regular expression.
    fn argument<'p>(&mut self, plan: &'p ArgPlan) -> Option<Arg<'p>> {
        Some(match plan {
            ArgPlan::Absent => Arg::Absent,
            ArgPlan::Str(text) => Arg::Str(ArgStr::Literal(text)),
            ArgPlan::Int(n) => Arg::Int(*n),
            ArgPlan::StrFormat(format) => Arg::Str(ArgStr::Owned(eval!(self, expand, *format))),
            ArgPlan::StrVar(var, optional) => match eval!(self, read, *var) {
                Value::Str(text) => Arg::Str(ArgStr::Owned(text)),
                Value::Int(n) => Arg::Str(ArgStr::Owned(int_bytes(n))),
                Value::Null if *optional => Arg::Absent,
                Value::Null => return None,
            },
            ArgPlan::IntVar(var, optional) => match eval!(self, read, *var) {
                Value::Null if *optional => Arg::Absent,
                v => Arg::Int(v.to_int()?),
            },
            ArgPlan::IntFormat(format) => Arg::Int(Value::Str(eval!(self, expand, *format)).to_int()?),
            ArgPlan::Var(var) => {
                let scope = Scope { program: self.program, state: self.state };
                Arg::Var(resolve(&self.program.pool, *var, self.host, Some(&scope), None)?)
            }
            ArgPlan::Regex(regex) => Arg::Regex(Arc::clone(regex)),
            ArgPlan::RegexFormat(format) => {
                Arg::Regex(Arc::new(posix_regex(&eval!(self, expand, *format)).ok()?))
            }
        })
    }

    fn launch(&mut self, i: u32) {
        let program = self.program;
        let plan = &program.launches[i as usize];
        let job = match self.call(plan.call, CallMode::Launch) {
            Flow::Wait(wait) => LaunchJob::Pending(wait),
            Flow::Value(code) => LaunchJob::Done(code),
            Flow::Exit | Flow::Drop => LaunchJob::Done(1),
        };
        let param = match &plan.param {
            Some(plan) => Some(eval!(self, value, plan)),
            None => None,
        };
        self.host.launch(job, plan.route, param);
        self.state.code = 1;
    }

    fn log(&mut self, i: u32) {
        let program = self.program;
        let plan = &program.logs[i as usize];
        let level = match plan.level {
            LogLevel::Unsaid => self.host.print_level(),
            LogLevel::Fixed(level) => level,
            LogLevel::Computed(var) => match eval!(self, read, var) {
                Value::Int(n) => i32::try_from(n).unwrap_or(-1),
                Value::Str(name) => super::level_of_name(&name).unwrap_or(-1),
                Value::Null => -1,
            },
        };
        if !self.host.log_enabled(level) {
            self.state.code = 1;
            return;
        }
        let mut text = std::mem::take(&mut self.state.text);
        text.clear();
        let scope = Scope { program, state: self.state };
        expand_into(&program.pool, plan.text, self.host, Some(&scope), &mut text);
        self.host.log(level, &text, program.position(self.state.pc.saturating_sub(1)));
        self.state.text = text;
        // Only now: the text may print the code of the statement before.
        self.state.code = 1;
    }
}

fn finished<W>(flow: Flow<W>) -> Finished {
    match flow {
        Flow::Value(code) => Finished::Value(code),
        Flow::Exit => Finished::Exit,
        Flow::Drop | Flow::Wait(_) => Finished::Drop,
    }
}
