//! A host that remembers everything a script does, and the names it offers.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use switchroom_script::names::*;
use switchroom_script::vm::*;
use switchroom_script::{Diagnostic, NoLoader, Program, RouteId, Value, compile, parse};

const NONE: Signature = Signature { args: &[] };
const STR: ArgDef = ArgDef::new(ArgKind::Str);
const INT: ArgDef = ArgDef::new(ArgKind::Int);
const VAR: ArgDef = ArgDef::new(ArgKind::Var);
const RE: ArgDef = ArgDef::new(ArgKind::Regex);

/// Name, signatures, routes, usable in async.
type Function = (&'static str, &'static [Signature], &'static str, bool);

pub const FUNCTIONS: &[Function] = &[
    ("good", &[NONE], "*", false),
    ("bad", &[NONE], "*", false),
    ("zero", &[NONE], "*", false),
    ("quit", &[NONE], "*", false),
    ("lose", &[NONE], "*", false),
    ("code", &[Signature { args: &[INT] }], "*", false),
    ("echo", &[Signature { args: &[STR] }], "*", false),
    ("two", &[Signature { args: &[STR, STR.opt(), INT.opt()] }], "*", false),
    ("store", &[Signature { args: &[VAR, STR] }], "*", false),
    ("matches", &[Signature { args: &[STR, RE] }], "*", false),
    ("setflag", &[Signature { args: &[STR.fixed()] }], "*", false),
    ("raw", &[Signature { args: &[STR.raw()] }], "*", false),
    ("slow", &[Signature { args: &[INT.opt()] }], "*", true),
    ("t_relay", &[NONE], "RF", false),
    ("t_reply", &[Signature { args: &[INT, STR] }], "RF", false),
    ("picky", &[Signature { args: &[STR] }], "*", false),
    ("is_myself", &[Signature { args: &[STR, INT.opt()] }], "*", false),
    ("append_msg_branch", &[Signature { args: &[STR.opt()] }], "*", false),
    ("over", &[Signature { args: &[INT] }, Signature { args: &[STR] }], "*", false),
];

/// Name, takes a name, indexed, writable, today's form.
const VARIABLES: &[(&str, NameUse, bool, bool, Option<&str>)] = &[
    ("var", NameUse::Required, false, true, None),
    ("avp", NameUse::Required, true, true, None),
    ("hdr", NameUse::Required, true, false, None),
    ("ru", NameUse::None, false, true, None),
    ("rU", NameUse::None, false, true, None),
    ("rd", NameUse::None, false, true, None),
    ("rm", NameUse::None, false, false, None),
    ("si", NameUse::None, false, false, None),
    ("fd", NameUse::None, false, false, None),
    ("ml", NameUse::None, false, false, None),
    ("msg.branch.uri", NameUse::None, true, true, None),
    ("socket_in", NameUse::Optional, false, false, None),
    ("pr", NameUse::None, false, false, Some("$socket_in(proto)")),
];

#[derive(Default)]
pub struct TestNames {
    keys: Mutex<Vec<String>>,
}

impl Names for TestNames {
    fn function(&self, name: &str) -> Option<FunctionInfo> {
        let renamed_to = (name == "append_branch").then_some("append_msg_branch");
        let id = FUNCTIONS.iter().position(|f| f.0 == renamed_to.unwrap_or(name))?;
        let f = &FUNCTIONS[id];
        Some(FunctionInfo {
            id: id as u32,
            signatures: f.1,
            routes: RouteMask::of(f.2),
            can_async: f.3,
            renamed_to,
            may_wait: f.3,
        })
    }

    fn variable(&self, name: &str) -> Option<VariableInfo> {
        let id = VARIABLES.iter().position(|v| v.0 == name)?;
        let (_, named, indexed, writable, renamed_to) = VARIABLES[id];
        Some(VariableInfo { id: id as u32, named, indexed, writable, renamed_to })
    }

    fn bind_name(&self, _var: u32, name: &str) -> Result<u32, String> {
        if name.contains(' ') {
            return Err("a name has no blank".into());
        }
        let mut keys = self.keys.lock().unwrap();
        let at = keys.iter().position(|k| k == name);
        Ok(at.unwrap_or_else(|| {
            keys.push(name.into());
            keys.len() - 1
        }) as u32)
    }

    fn prepare(&self, func: u32, args: &[StaticArg]) -> Result<Option<Prepared>, String> {
        if FUNCTIONS[func as usize].0 != "picky" {
            return Ok(None);
        }
        match &args[0] {
            StaticArg::Str(s) if &s[..] == b"good" => Ok(Some(Arc::new(42u32) as Arc<dyn Any + Send + Sync>)),
            StaticArg::Str(_) => Err("only \"good\" is good".into()),
            _ => Ok(None),
        }
    }

    fn transformation(&self, name: &str) -> Option<TransformFn> {
        (name == "test.twice").then(|| {
            Arc::new(|v: &Value, _: &[Value]| match v.to_bytes() {
                Some(b) => Value::Str([&b[..], &b[..]].concat().into()),
                None => Value::Null,
            }) as TransformFn
        })
    }

    fn all_functions(&self) -> Vec<String> {
        FUNCTIONS.iter().map(|f| f.0.to_string()).collect()
    }

    fn all_variables(&self) -> Vec<String> {
        VARIABLES.iter().map(|v| v.0.to_string()).collect()
    }
}

#[derive(Default)]
pub struct TestHost {
    pub names: TestNames,
    pub values: HashMap<String, Value>,
    pub avps: HashMap<String, Vec<Value>>,
    pub log: Vec<String>,
    pub errors: Vec<String>,
    pub launched: Vec<(Option<RouteId>, Option<Value>, bool)>,
    /// Makes `slow()` answer at once.
    pub fast: Option<i64>,
    pub level: Option<i32>,
}

impl TestHost {
    pub fn var(&self, name: &str) -> Value {
        self.values.get(&format!("var({name})")).cloned().unwrap_or_default()
    }

    /// The logged lines, joined by blanks.
    pub fn lines(&self) -> String {
        self.log.join(" ")
    }

    fn key(&self, var: &VarAccess) -> String {
        let name = VARIABLES[var.id as usize].0;
        let inner = match (&var.name, var.key) {
            (Some(name), _) => Some(String::from_utf8_lossy(name).into_owned()),
            (None, Some(key)) => Some(self.names.keys.lock().unwrap()[key as usize].clone()),
            _ => None,
        };
        let context = match var.context {
            Context::Current => "",
            Context::Request => "<request>",
            Context::Reply => "<reply>",
        };
        match inner {
            Some(inner) => format!("{context}{name}({inner})"),
            None => format!("{context}{name}"),
        }
    }
}

impl Host for TestHost {
    type Wait = &'static str;

    fn call(
        &mut self,
        func: u32,
        args: Args<'_>,
        prepared: Option<&Prepared>,
        mode: CallMode,
    ) -> Flow<Self::Wait> {
        let text = |i: usize| args.str(i).map_or("-".into(), |s| String::from_utf8_lossy(s).into_owned());
        match FUNCTIONS[func as usize].0 {
            "bad" => return Flow::Value(-1),
            "zero" => return Flow::Value(0),
            "quit" => return Flow::Exit,
            "lose" => return Flow::Drop,
            "code" => return Flow::Value(args.int(0).unwrap()),
            "echo" | "raw" => self.log.push(text(0)),
            "two" => self.log.push(format!("{}/{}/{:?}", text(0), text(1), args.int(2))),
            "store" => {
                let var = args.var(0).unwrap().clone();
                let value = Value::Str(args.str(1).unwrap().clone());
                self.set(&var, AssignOp::Set, value).unwrap();
            }
            "matches" => {
                return Flow::Value(if args.regex(1).unwrap().is_match(args.str(0).unwrap()) {
                    1
                } else {
                    -1
                });
            }
            "setflag" => self.log.push(format!("flag {}", text(0))),
            "slow" => {
                self.log.push(format!("slow {mode:?}"));
                return match self.fast {
                    Some(code) => Flow::Value(code),
                    None => Flow::Wait("slow"),
                };
            }
            "picky" => {
                let n = prepared.and_then(|p| p.downcast_ref::<u32>()).copied();
                self.log.push(format!("picky {n:?}"));
            }
            "over" => self.log.push(format!("{:?} {:?}", args.int(0), args.str(0))),
            "is_myself" => self.log.push(format!("myself {}", text(0))),
            _ => {}
        }
        Flow::Value(1)
    }

    fn get(&mut self, var: &VarAccess) -> Value {
        let key = self.key(var);
        if VARIABLES[var.id as usize].2 {
            let list = self.avps.get(&key).cloned().unwrap_or_default();
            let at = |i: i32| {
                let i = if i < 0 { i + list.len() as i32 } else { i };
                usize::try_from(i).ok().and_then(|i| list.get(i).cloned()).unwrap_or_default()
            };
            return match var.index {
                Index::None => at(0),
                Index::At(i) => at(i),
                Index::All => {
                    let mut out = Vec::new();
                    for (i, v) in list.iter().enumerate() {
                        if i > 0 {
                            out.push(b',');
                        }
                        v.print(&mut out);
                    }
                    Value::Str(out.into())
                }
                Index::Append => Value::Null,
            };
        }
        self.values.get(&key).cloned().unwrap_or_default()
    }

    fn set(&mut self, var: &VarAccess, op: AssignOp, value: Value) -> Result<(), String> {
        let key = self.key(var);
        if key == "rd" && value == Value::from("bad") {
            return Err("no such domain".into());
        }
        if VARIABLES[var.id as usize].2 {
            let list = self.avps.entry(key).or_default();
            match (op, var.index) {
                (AssignOp::Set, Index::At(i)) => list[i as usize] = value,
                (AssignOp::Set, _) => list.insert(0, value),
                (AssignOp::Replace, _) => *list = vec![value],
                (AssignOp::SetNull, _) => {
                    if !list.is_empty() {
                        list.remove(0);
                    }
                }
                (AssignOp::ReplaceNull, _) => list.clear(),
            }
            return Ok(());
        }
        self.values.insert(key, value);
        Ok(())
    }

    fn log(&mut self, level: i32, text: &[u8], _at: Position<'_>) {
        let text = String::from_utf8_lossy(text);
        self.log.push(if level == -1 { text.into_owned() } else { format!("{level}:{text}") });
    }

    fn print_level(&mut self) -> i32 {
        -1
    }

    fn log_enabled(&mut self, level: i32) -> bool {
        self.level.is_none_or(|l| level <= l)
    }

    fn launch(&mut self, job: LaunchJob<Self::Wait>, report_route: Option<RouteId>, param: Option<Value>) {
        self.launched.push((report_route, param, matches!(job, LaunchJob::Pending(_))));
    }

    fn error(&mut self, at: Position<'_>, text: &str) {
        self.errors.push(format!("{}: {text}", at.line));
    }

    fn expand(&mut self, text: &[u8]) -> Value {
        let names = std::mem::take(&mut self.names);
        let template = switchroom_script::Template::compile(text, &names);
        self.names = names;
        template.map_or(Value::Null, |t| t.value(self))
    }
}

/// Loads a whole script; both its program and what was said about it.
pub fn load(script: &str, names: &TestNames) -> (Option<Arc<Program>>, Vec<Diagnostic>) {
    let (ast, mut diags) = parse("test.cfg", script.as_bytes(), &mut NoLoader);
    let broken = diags.iter().any(Diagnostic::is_error);
    match compile(&ast, names) {
        Ok((program, warnings)) => {
            diags.extend(warnings);
            ((!broken).then(|| Arc::new(program)), diags)
        }
        Err(more) => {
            diags.extend(more);
            (None, diags)
        }
    }
}

/// Loads a script that must be without error.
pub fn program(script: &str, names: &TestNames) -> Arc<Program> {
    let (program, diags) = load(script, names);
    program.unwrap_or_else(|| panic!("{}", switchroom_script::diag::render(&diags)))
}

/// Runs the main route of a script.
pub fn run_on(script: &str, mut host: TestHost) -> (TestHost, Outcome) {
    let program = program(script, &host.names);
    let main = program.find(RouteType::Request, None).unwrap();
    let mut frame = Frame::new(&program, main);
    match frame.run(&mut host) {
        Step::Done(outcome) => (host, outcome),
        other => panic!("{other:?}"),
    }
}

/// Runs statements in a main route.
pub fn run(body: &str) -> (TestHost, Outcome) {
    run_on(&format!("route {{\n{body}\n}}"), sample_host())
}

/// What the statements logged.
pub fn logged(body: &str) -> String {
    run(body).0.lines()
}

/// A host with a request's values.
pub fn sample_host() -> TestHost {
    let mut host = TestHost::default();
    let values: [(&str, Value); 6] = [
        ("ru", "sip:alice@example.com".into()),
        ("rU", "alice".into()),
        ("rd", "example.com".into()),
        ("rm", "INVITE".into()),
        ("si", "10.1.2.3".into()),
        ("ml", Value::Int(600)),
    ];
    for (k, v) in values {
        host.values.insert(k.into(), v);
    }
    host.values.insert("<reply>rm".into(), "ACK".into());
    host.avps.insert("avp(list)".into(), vec!["a".into(), "b".into(), "c".into()]);
    host.avps.insert("hdr(X-A)".into(), vec!["1".into(), "2".into()]);
    host
}

/// Bytes as a string value.
pub fn s(text: &str) -> Value {
    Value::Str(Bytes::from(text.to_string()))
}
