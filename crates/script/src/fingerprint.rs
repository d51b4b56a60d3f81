//! What a program does, as text: two scripts that are written differently and mean the same give the same lines.
//!
//! Left out is all that a run cannot see: places, spellings, and the order in which things were interned.

use std::fmt::Write;

use crate::program::*;

impl Program {
    /// One line per route and operation.
    pub fn fingerprint(&self) -> Vec<String> {
        let mut lines = Vec::with_capacity(self.ops.len() + self.routes.len());
        for r in &self.routes {
            lines.push(format!("{} {:?} {} at {}", r.kind.keyword(), r.name, r.interval, r.entry));
        }
        lines.extend(self.ops.iter().map(|op| self.op(op)));
        lines
    }

    fn op(&self, op: &Op) -> String {
        match *op {
            Op::TestVar(v) => format!("test {}", self.var(v)),
            Op::CmpConst { var, op, value } => {
                format!("compare {} {op:?} {:?}", self.var(var), self.consts[value as usize])
            }
            Op::CmpVar { var, op, right } => format!("compare {} {op:?} {}", self.var(var), self.var(right)),
            Op::CmpNull { var, op } => format!("compare {} {op:?} NULL", self.var(var)),
            Op::CmpNet { var, net, negate } => {
                format!("compare {} {negate} {:?}", self.var(var), self.nets[net as usize])
            }
            Op::CmpRegex { var, regex, negate } => {
                format!("match {} {negate} {}", self.var(var), self.regexes[regex as usize])
            }
            Op::Const(i) => format!("const {:?}", self.consts[i as usize]),
            Op::Load(v) => format!("load {}", self.var(v)),
            Op::Format(f) => format!("format {}", self.format(f)),
            Op::Assign { var, op, keep_code } => format!("assign {} {op:?} {keep_code}", self.var(var)),
            Op::AssignWith { var, op } => format!("assign {} with {op:?}", self.var(var)),
            Op::Call(i) => self.call(i),
            Op::Async(i) => {
                let plan = &self.asyncs[i as usize];
                format!("async {} {:?} {:?}", self.call(plan.call), plan.route, plan.timeout)
            }
            Op::Launch(i) => {
                let plan = &self.launches[i as usize];
                let param = plan.param.as_ref().map(|p| self.value(p));
                format!("launch {} {:?} {param:?}", self.call(plan.call), plan.route)
            }
            Op::Route(i) => {
                let plan = &self.route_calls[i as usize];
                let target = match &plan.target {
                    RouteTarget::Fixed(id) => format!("{id:?}"),
                    RouteTarget::Computed(name) => self.value(name),
                };
                format!("route {target} {:?}", self.values(&plan.args))
            }
            Op::Return(i) => {
                let plan = &self.returns[i as usize];
                format!("return {} {:?}", self.value(&plan.code), self.values(&plan.values))
            }
            Op::ForEach { iter, list, exit } => {
                format!("for {} in {} {exit}", self.var(iter), self.var(list))
            }
            Op::Case { value, target } => format!("case {:?} {target}", self.consts[value as usize]),
            Op::Log(i) => {
                let plan = &self.logs[i as usize];
                let level = match plan.level {
                    LogLevel::Unsaid => String::new(),
                    LogLevel::Fixed(n) => n.to_string(),
                    LogLevel::Computed(v) => self.var(v),
                };
                format!("log {level} {}", self.format(plan.text))
            }
            Op::AssertFailed { text, abort } => format!("assert {} {abort}", self.format(text)),
            ref plain => format!("{plain:?}"),
        }
    }

    fn call(&self, i: u32) -> String {
        let site = &self.calls[i as usize];
        let args: Vec<String> = site.args.iter().map(|a| self.arg(a)).collect();
        format!("call {} {args:?}", site.func)
    }

    fn arg(&self, arg: &ArgPlan) -> String {
        match arg {
            ArgPlan::StrFormat(f) | ArgPlan::RegexFormat(f) | ArgPlan::IntFormat(f) => {
                format!("format {}", self.format(*f))
            }
            ArgPlan::StrVar(v, optional) | ArgPlan::IntVar(v, optional) => {
                format!("value {} {optional}", self.var(*v))
            }
            ArgPlan::Var(v) => format!("variable {}", self.var(*v)),
            plain => format!("{plain:?}"),
        }
    }

    fn values(&self, plans: &[ValuePlan]) -> Vec<String> {
        plans.iter().map(|p| self.value(p)).collect()
    }

    fn value(&self, plan: &ValuePlan) -> String {
        match plan {
            ValuePlan::Const(v) => format!("{v:?}"),
            ValuePlan::Format(f) => self.format(*f),
            ValuePlan::Var(v) => self.var(*v),
        }
    }

    fn format(&self, i: u32) -> String {
        let mut text = String::new();
        for part in &*self.pool.formats[i as usize] {
            match part {
                Part::Text(t) => {
                    let _ = write!(text, "{t:?}");
                }
                Part::Var(v) => text.push_str(&self.var(*v)),
            }
        }
        text
    }

    fn var(&self, i: u32) -> String {
        let slot = &self.pool.vars[i as usize];
        let mut text = match &slot.source {
            VarSource::Host { access, name, index } => {
                let name = name.map(|f| self.format(f));
                let index = index.map(|v| self.var(v));
                format!("{access:?} {name:?} {index:?}")
            }
            VarSource::Param(ParamKey::Computed(f)) => format!("param {}", self.format(*f)),
            VarSource::Return(ParamKey::Computed(f)) => format!("return {}", self.format(*f)),
            plain => format!("{plain:?}"),
        };
        // Transformations are functions; their notation tells which.
        if !slot.transforms.is_empty() {
            text.push_str(slot.text.find('{').map_or("", |at| &slot.text[at..]));
        }
        text
    }
}
