//! A routing script of any bytes: it is parsed, checked, formatted, and run when it loads. Nothing may panic or hang.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use switchroom_script::names::{
    ArgDef, ArgKind, FunctionInfo, NameUse, Names, Prepared, RouteMask, Signature, StaticArg, VariableInfo,
};
use switchroom_script::vm::{
    Args, AssignOp, CallMode, Flow, Frame, Host, LaunchJob, Position, Step, VarAccess,
};
use switchroom_script::{Limits, NoLoader, RouteId, Value, compile, format, lint, parse};

struct AnyName;

const SIGNATURES: &[Signature] = &[Signature {
    args: &[ArgDef::new(ArgKind::Str).opt(), ArgDef::new(ArgKind::Int).opt(), ArgDef::new(ArgKind::Var).opt()],
}];

impl Names for AnyName {
    fn function(&self, name: &str) -> Option<FunctionInfo> {
        Some(FunctionInfo {
            id: name.len() as u32,
            signatures: SIGNATURES,
            routes: RouteMask::ALL,
            can_async: true,
            renamed_to: None,
            may_wait: true,
        })
    }
    fn variable(&self, name: &str) -> Option<VariableInfo> {
        let id = name.len() as u32;
        Some(VariableInfo { id, named: NameUse::Optional, indexed: true, writable: true, renamed_to: None })
    }
    fn bind_name(&self, _: u32, name: &str) -> Result<u32, String> {
        Ok(name.len() as u32)
    }
    fn prepare(&self, _: u32, _: &[StaticArg]) -> Result<Option<Prepared>, String> {
        Ok(None)
    }
    fn all_functions(&self) -> Vec<String> {
        Vec::new()
    }
    fn all_variables(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Answers by the shape of what is asked, and remembers one value.
struct AnyHost(Value, u32);

impl Host for AnyHost {
    type Wait = ();

    fn call(&mut self, func: u32, _: Args<'_>, _: Option<&Prepared>, _: CallMode) -> Flow<()> {
        self.1 += 1;
        match (func + self.1) % 5 {
            0 => Flow::Value(-1),
            1 => Flow::Wait(()),
            _ => Flow::Value(1),
        }
    }
    fn get(&mut self, var: &VarAccess) -> Value {
        if var.id % 3 == 0 { Value::Int(i64::from(var.id)) } else { self.0.clone() }
    }
    fn set(&mut self, _: &VarAccess, _: AssignOp, value: Value) -> Result<(), String> {
        self.0 = value;
        Ok(())
    }
    fn log(&mut self, _: i32, _: &[u8], _: Position<'_>) {}
    fn launch(&mut self, _: LaunchJob<()>, _: Option<RouteId>, _: Option<Value>) {}
    fn error(&mut self, _: Position<'_>, _: &str) {}
}

fuzz_target!(|text: &[u8]| {
    let (ast, _) = parse("fuzz.cfg", text, &mut NoLoader);
    lint::lint(&ast);
    if let Ok(new) = format::format(text) {
        assert_eq!(format::format(&new).as_ref(), Ok(&new));
    }
    let Ok((mut program, _)) = compile(&ast, &AnyName) else { return };
    program.set_limits(Limits { operations: 5_000, ..Limits::default() });
    let program = Arc::new(program);
    for route in program.routes() {
        let mut frame = Frame::new(&program, route.id);
        let mut host = AnyHost(Value::Null, 0);
        for _ in 0..20 {
            match frame.run(&mut host) {
                Step::Wait(()) => frame.resume(1),
                _ => break,
            }
        }
    }
});
