//! Variables that a function is given as text: `"$avp(a);$avp(b)"`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::registry::Registry;
use switchroom_script::vm::{Index, VarAccess};
use switchroom_script::{Value, Variable};

/// Lists kept; a script names a handful.
const MAX_LISTS: usize = 1024;

/// Compiled lists by their text.
#[derive(Default)]
pub struct Lists(RwLock<HashMap<Bytes, Arc<[VarAccess]>>>);

impl Lists {
    /// The variables of a list separated by `;`.
    pub fn get(&self, registry: &Registry, text: &Bytes) -> Result<Arc<[VarAccess]>, String> {
        if let Some(list) = self.0.read().get(text) {
            return Ok(list.clone());
        }
        let list: Arc<[VarAccess]> = compile(registry, &String::from_utf8_lossy(text))?.into();
        let mut lists = self.0.write();
        if lists.len() < MAX_LISTS {
            lists.insert(Bytes::copy_from_slice(text), list.clone());
        }
        Ok(list)
    }
}

fn compile(registry: &Registry, text: &str) -> Result<Vec<VarAccess>, String> {
    let names = text.split(';').map(str::trim).filter(|n| !n.is_empty());
    names.map(|name| one(registry, name)).collect()
}

/// One writable variable with a fixed name.
pub fn one(registry: &Registry, name: &str) -> Result<VarAccess, String> {
    let variable = Variable::compile(name, registry)?;
    if !variable.writable() {
        return Err(format!("{name} cannot be written"));
    }
    variable.access().cloned().ok_or_else(|| format!("{name} must have a fixed name"))
}

/// Write a result into a variable; what goes wrong is logged. True when it was written.
pub fn put(ctx: &mut Ctx, function: &str, var: &VarAccess, value: Value) -> bool {
    match ctx.set_var(var, value) {
        Ok(()) => true,
        Err(e) => {
            tracing::error!("{function}(): {e}");
            false
        }
    }
}

/// All values of a variable that has several, from index 0; at most `max`.
pub fn all(ctx: &mut Ctx, var: &VarAccess, max: usize) -> Vec<Value> {
    let mut values = Vec::new();
    for i in 0..i32::try_from(max).unwrap_or(i32::MAX) {
        match ctx.get_var(&VarAccess { index: Index::At(i), ..var.clone() }) {
            Value::Null => break,
            value => values.push(value),
        }
    }
    values
}

/// A value that outlives the message must not keep the received bytes alive.
pub fn own(value: Value) -> Value {
    match value {
        Value::Str(s) => Value::Str(Bytes::copy_from_slice(&s)),
        other => other,
    }
}
