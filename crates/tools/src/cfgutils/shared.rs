//! `$shv(name)`: values that all workers share.

use std::collections::HashMap;

use parking_lot::RwLock;
use switchroom_script::Value;

use crate::variables::own;

/// Shared variables; a script that makes names up must not fill the memory.
const MAX_SHARED: usize = 1_000_000;

/// All shared variables by interned name.
#[derive(Default)]
pub struct Shared(RwLock<HashMap<u32, Value>>);

impl Shared {
    /// One value; a variable that nobody wrote yet is the integer 0.
    pub fn get(&self, name: u32) -> Value {
        self.0.read().get(&name).cloned().unwrap_or(Value::Int(0))
    }

    /// Write one value. False when there are too many.
    pub fn set(&self, name: u32, value: Value) -> bool {
        let mut all = self.0.write();
        if all.len() >= MAX_SHARED && !all.contains_key(&name) {
            return false;
        }
        all.insert(name, own(value));
        true
    }

    /// All that were written.
    pub fn all(&self) -> Vec<(u32, Value)> {
        self.0.read().iter().map(|(n, v)| (*n, v.clone())).collect()
    }

    /// One that was written.
    pub fn find(&self, name: u32) -> Option<Value> {
        self.0.read().get(&name).cloned()
    }
}

/// `name=i:1` or `name=s:text`
pub fn read(text: &str) -> Result<(&str, Value), String> {
    let wrong = || format!("\"{text}\" should look like \"name=i:1\" or \"name=s:text\"");
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (kind, value) = rest.split_once(':').ok_or_else(wrong)?;
    let name = name.trim();
    if name.is_empty() {
        return Err(wrong());
    }
    match kind.trim() {
        "i" | "int" => Ok((name, Value::Int(value.trim().parse().map_err(|_| wrong())?))),
        "s" | "str" => Ok((name, Value::str(value.to_owned()))),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_values_have_a_type() {
        assert_eq!(read("debug=i:1"), Ok(("debug", Value::Int(1))));
        assert_eq!(read("gw = s:sip:10.10.10.10"), Ok(("gw", Value::str("sip:10.10.10.10"))));
        for bad in ["debug", "debug=1", "debug=i:x", "=i:1", "a=f:1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
