//! All exports of all loaded modules, by name and by number.
//!
//! Built once from the modules' tables; the script checker asks it at load, the running script by number.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use switchroom_script::Value;
use switchroom_script::names::{
    ArgDef, ArgKind, FunctionInfo, NameUse, Names as ScriptNames, Prepared, RouteMask, Signature, StaticArg,
    TransformFn, VariableInfo,
};
use switchroom_script::vm::VarAccess;
use switchroom_script::vm::{AssignOp, Context};

use crate::context::Ctx;
use crate::module::{Command, EventDecl, Function, Module, Named, Variable};
use crate::names::Names;

struct FunctionEntry {
    function: &'static Function,
    signatures: &'static [Signature],
}

/// The registry.
pub struct Registry {
    /// Loaded modules, in order of start.
    pub modules: Vec<&'static Module>,
    /// Names of AVPs, variables and flags.
    pub names: Arc<Names>,
    functions: Vec<FunctionEntry>,
    function_ids: HashMap<&'static str, (u32, Option<&'static str>)>,
    variables: Vec<&'static Variable>,
    variable_ids: HashMap<&'static str, (u32, Option<&'static str>)>,
    commands: HashMap<&'static str, &'static Command>,
    /// All modules there are, to say which one has a name that is missing.
    catalogue: Vec<&'static Module>,
    call_sites: Mutex<Vec<(&'static str, Vec<StaticArg>)>>,
}

impl Registry {
    /// Collect the exports of `modules`. Two modules that export the same name are a defect of the house; the first
    /// one wins, and [`Registry::duplicates`] tells.
    pub fn new(modules: Vec<&'static Module>) -> Registry {
        let mut r = Registry {
            modules,
            names: Arc::default(),
            functions: Vec::new(),
            function_ids: HashMap::new(),
            variables: Vec::new(),
            variable_ids: HashMap::new(),
            commands: HashMap::new(),
            catalogue: Vec::new(),
            call_sites: Mutex::default(),
        };
        for module in r.modules.clone() {
            for f in module.functions {
                let id = r.functions.len() as u32;
                r.functions.push(FunctionEntry { function: f, signatures: signatures(f) });
                r.function_ids.entry(f.name).or_insert((id, None));
                for old in f.old_names {
                    r.function_ids.entry(old).or_insert((id, Some(f.name)));
                }
            }
            for v in module.variables {
                let id = r.variables.len() as u32;
                r.variables.push(v);
                for name in std::iter::once(&v.name).chain(v.also) {
                    r.variable_ids.entry(name).or_insert((id, None));
                }
                for old in v.old_names {
                    r.variable_ids.entry(old).or_insert((id, Some(v.name)));
                }
            }
            for c in module.commands {
                r.commands.entry(c.name).or_insert(c);
                for old in c.old_names {
                    r.commands.entry(old).or_insert(c);
                }
            }
        }
        r
    }

    /// The same, knowing what modules there are besides those that are loaded.
    #[must_use]
    pub fn among(mut self, catalogue: &[&'static Module]) -> Registry {
        self.catalogue = catalogue.to_vec();
        self
    }

    /// Names exported more than once, for the house's own tests.
    pub fn duplicates(&self) -> Vec<String> {
        let mut seen = HashMap::new();
        let mut twice = Vec::new();
        for m in &self.modules {
            let names = m.functions.iter().map(|f| ("function", f.name));
            let names = names.chain(m.variables.iter().map(|v| ("variable", v.name)));
            let names = names.chain(m.transformations.iter().map(|t| ("transformation", t.name)));
            for key in names.chain(m.commands.iter().map(|c| ("command", c.name))) {
                if let Some(first) = seen.insert(key, m.name) {
                    twice.push(format!("{} {} of {} and {}", key.0, key.1, first, m.name));
                }
            }
        }
        twice
    }

    /// A function by its number.
    pub fn function_at(&self, id: u32) -> Option<&'static Function> {
        self.functions.get(id as usize).map(|e| e.function)
    }

    /// A command by name, old names included.
    pub fn command(&self, name: &str) -> Option<&'static Command> {
        // The core's own commands are also known by its name.
        self.commands.get(name).or_else(|| self.commands.get(name.strip_prefix("core:")?)).copied()
    }

    /// Every command once, sorted by name.
    pub fn all_commands(&self) -> Vec<&'static Command> {
        let mut all: Vec<_> = self.modules.iter().flat_map(|m| m.commands.iter()).collect();
        all.sort_by_key(|c| c.name);
        all
    }

    /// Plain strings that the script gives as argument number `at` to the function `name`, each once.
    pub fn static_args(&self, name: &str, at: usize) -> Vec<Bytes> {
        let mut found = Vec::new();
        for (function, args) in self.call_sites.lock().iter() {
            if let Some(StaticArg::Str(text)) = args.get(at).filter(|_| *function == name)
                && !found.contains(text)
            {
                found.push(text.clone());
            }
        }
        found
    }

    /// The declaration of an event of a loaded module; names ignore case.
    pub fn event(&self, name: &str) -> Option<&'static EventDecl> {
        self.modules.iter().flat_map(|m| m.events).find(|e| e.name.eq_ignore_ascii_case(name))
    }

    /// Whether the script calls the function `name` anywhere.
    pub fn is_called(&self, name: &str) -> bool {
        self.call_sites.lock().iter().any(|(function, _)| *function == name)
    }

    /// Read a variable on a context.
    #[inline]
    pub fn get(&self, ctx: &mut Ctx, var: &VarAccess) -> Value {
        let Some(v) = self.variables.get(var.id as usize) else { return Value::Null };
        match var.context {
            Context::Current => (v.get)(ctx, var),
            Context::Request if ctx.msg.is_request() => (v.get)(ctx, var),
            Context::Reply if !ctx.msg.is_request() => (v.get)(ctx, var),
            _ => match ctx.other.take() {
                None => Value::Null,
                Some(other) => {
                    let own = std::mem::replace(&mut ctx.msg, other);
                    let value = (v.get)(ctx, var);
                    ctx.other = Some(std::mem::replace(&mut ctx.msg, own));
                    value
                }
            },
        }
    }

    /// Write a variable on a context.
    pub fn set(&self, ctx: &mut Ctx, var: &VarAccess, op: AssignOp, value: Value) -> Result<(), String> {
        let Some(v) = self.variables.get(var.id as usize) else { return Err("no such variable".into()) };
        let Some(set) = v.set else { return Err(format!("${} cannot be written", v.name)) };
        if let (AssignOp::Replace, Some(replace)) = (op, v.replace) {
            return replace(ctx, var, value);
        }
        if matches!(op, AssignOp::Replace | AssignOp::ReplaceNull) {
            let all = VarAccess { index: switchroom_script::vm::Index::All, ..var.clone() };
            // Only stacks know "all"; for others `:=` is the same as `=`.
            if v.indexed {
                set(ctx, &all, Value::Null)?;
            }
        }
        match op {
            AssignOp::SetNull | AssignOp::ReplaceNull => set(ctx, var, Value::Null),
            AssignOp::Set | AssignOp::Replace => set(ctx, var, value),
        }
    }

    /// The inner name of a variable as text, whether it was fixed or computed.
    pub fn inner_name(&self, var: &VarAccess) -> Option<Bytes> {
        match (&var.name, var.key) {
            (Some(name), _) => Some(name.clone()),
            (None, Some(key)) => Some(Bytes::copy_from_slice(self.names.text(key).as_bytes())),
            (None, None) => None,
        }
    }

    /// Number of the inner name of an AVP-like variable.
    pub fn inner_key(&self, var: &VarAccess) -> Option<u32> {
        match (&var.name, var.key) {
            (_, Some(key)) => Some(key),
            (Some(name), None) => self.names.intern(std::str::from_utf8(name).ok()?).ok(),
            (None, None) => None,
        }
    }
}

impl ScriptNames for Registry {
    fn function(&self, name: &str) -> Option<FunctionInfo> {
        let (id, renamed_to) = *self.function_ids.get(name)?;
        let e = &self.functions[id as usize];
        Some(FunctionInfo {
            id,
            signatures: e.signatures,
            routes: RouteMask::of(e.function.routes),
            can_async: e.function.can_async,
            renamed_to,
            may_wait: true,
        })
    }

    fn variable(&self, name: &str) -> Option<VariableInfo> {
        let (id, renamed_to) = *self.variable_ids.get(name)?;
        let v = self.variables[id as usize];
        let named = match v.named {
            Named::No => NameUse::None,
            Named::Optional => NameUse::Optional,
            Named::Yes => NameUse::Required,
        };
        Some(VariableInfo { id, named, indexed: v.indexed, writable: v.set.is_some(), renamed_to })
    }

    fn bind_name(&self, var: u32, name: &str) -> Result<u32, String> {
        match self.variables.get(var as usize).and_then(|v| v.bind) {
            Some(bind) => bind(&self.names, name),
            None => self.names.intern(name),
        }
    }

    fn prepare(&self, func: u32, args: &[StaticArg]) -> Result<Option<Prepared>, String> {
        let Some(entry) = self.functions.get(func as usize) else { return Ok(None) };
        self.call_sites.lock().push((entry.function.name, args.to_vec()));
        if let Some(check) = entry.function.check {
            check(self, args)?;
        }
        match entry.function.prepare {
            Some(prepare) => prepare(args),
            None => Ok(None),
        }
    }

    fn transformation(&self, name: &str) -> Option<TransformFn> {
        let found = self.modules.iter().flat_map(|m| m.transformations).find(|t| t.name == name)?;
        Some(Arc::new(found.run))
    }

    fn elsewhere(&self, name: &str) -> Option<String> {
        let exports = |m: &&&'static Module| match name.strip_prefix('$') {
            Some(var) => m.variables.iter().any(|v| v.name == var || v.also.contains(&var)),
            None => m.functions.iter().any(|f| f.name == name || f.old_names.contains(&name)),
        };
        if let Some(m) = self.catalogue.iter().find(exports) {
            return Some(format!("it is in the module `{}`: write loadmodule \"{}.so\"", m.name, m.name));
        }
        if let Some(advice) = crate::absent::function(name) {
            return Some(advice);
        }
        let all = self.catalogue.iter().flat_map(|m| m.functions.iter().map(|f| f.name));
        let near = switchroom_script::diag::nearest(name, all)?;
        let m = self.catalogue.iter().find(|m| m.functions.iter().any(|f| f.name == near))?;
        Some(format!("did you mean `{near}()` of the module `{}`, which is not loaded?", m.name))
    }

    fn all_functions(&self) -> Vec<String> {
        sorted(self.function_ids.iter().filter(|(_, (_, old))| old.is_none()).map(|(n, _)| n.to_string()))
    }

    fn all_variables(&self) -> Vec<String> {
        sorted(self.variable_ids.iter().filter(|(_, (_, old))| old.is_none()).map(|(n, _)| n.to_string()))
    }
}

/// In an order that is the same every time, so that suggestions are.
fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = names.collect();
    all.sort();
    all
}

/// Read the argument notation of the export tables. The lists live as long as the process, like the tables they come
/// from.
fn signatures(function: &'static Function) -> &'static [Signature] {
    let lists = function.args.iter().map(|list| Signature { args: Vec::leak(arguments(list)) });
    Vec::leak(lists.collect::<Vec<_>>())
}

fn arguments(list: &str) -> Vec<ArgDef> {
    let parts = list.split(',').map(str::trim).filter(|p| !p.is_empty());
    parts
        .map(|part| {
            let optional = part.starts_with('[');
            let part = part.trim_matches(['[', ']']);
            let word = part.trim_end_matches(['!', '~']);
            let kind = match word {
                "int" => ArgKind::Int,
                "var" => ArgKind::Var,
                "regex" => ArgKind::Regex,
                _ => ArgKind::Str,
            };
            ArgDef { kind, optional, static_only: part.contains('!'), raw: part.contains('~') }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_notation_of_the_reference_is_read() {
        let a = arguments("str!,[int],var,regex,[str~]");
        assert_eq!(a.len(), 5);
        assert!(a[0].static_only && !a[0].optional);
        assert!(a[1].optional && a[1].kind == ArgKind::Int);
        assert_eq!(a[2].kind, ArgKind::Var);
        assert_eq!(a[3].kind, ArgKind::Regex);
        assert!(a[4].raw && a[4].optional);
        assert!(arguments("").is_empty());
    }
}
