//! Attribute-value pairs: named stacks of values that live with a message or its transaction. The value written last
//! has index 0.

use switchroom_script::Value;

/// Interned name of an AVP, branch AVP or script variable.
pub type NameId = u32;

/// A list of named stacks. Empty ones cost next to nothing, since every branch and transaction has one.
#[derive(Clone, Debug, Default)]
pub struct Avps {
    list: Vec<(NameId, Value)>,
}

impl Avps {
    /// Value number `index` from the top of the stack; negative counts from the bottom (-1 is the oldest).
    pub fn get(&self, name: NameId, index: i64) -> Value {
        let mut found = self.list.iter().rev().filter(|(n, _)| *n == name).map(|(_, v)| v);
        let value = if index >= 0 {
            found.nth(index as usize)
        } else {
            self.list.iter().filter(|(n, _)| *n == name).map(|(_, v)| v).nth((-index - 1) as usize)
        };
        value.cloned().unwrap_or(Value::Null)
    }

    /// All values, newest first.
    pub fn all(&self, name: NameId) -> impl Iterator<Item = &Value> {
        self.list.iter().rev().filter(move |(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Number of values.
    pub fn count(&self, name: NameId) -> usize {
        self.list.iter().filter(|(n, _)| *n == name).count()
    }

    /// Push on top of the stack.
    pub fn push(&mut self, name: NameId, value: Value) {
        self.list.push((name, value));
    }

    /// Add below the oldest value (`$(avp(x)[append])`).
    pub fn append(&mut self, name: NameId, value: Value) {
        self.list.insert(0, (name, value));
    }

    /// Overwrite one value; false when there is none at that index.
    pub fn replace(&mut self, name: NameId, index: i64, value: Value) -> bool {
        match self.position(name, index) {
            Some(at) => {
                self.list[at].1 = value;
                true
            }
            None => false,
        }
    }

    /// Remove one value.
    pub fn remove(&mut self, name: NameId, index: i64) {
        if let Some(at) = self.position(name, index) {
            self.list.remove(at);
        }
    }

    /// Remove a whole stack.
    pub fn remove_all(&mut self, name: NameId) {
        self.list.retain(|(n, _)| *n != name);
    }

    /// All pairs, newest first.
    pub fn iter(&self) -> impl Iterator<Item = (NameId, &Value)> {
        self.list.iter().rev().map(|(n, v)| (*n, v))
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Forget everything.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    fn position(&self, name: NameId, index: i64) -> Option<usize> {
        let mut places = self.list.iter().enumerate().filter(|(_, (n, _))| *n == name).map(|(i, _)| i);
        if index >= 0 { places.rev().nth(index as usize) } else { places.nth((-index - 1) as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_written_last_has_index_zero() {
        let mut a = Avps::default();
        for i in 1..=3 {
            a.push(7, Value::Int(i));
        }
        assert_eq!(a.get(7, 0), Value::Int(3));
        assert_eq!(a.get(7, 2), Value::Int(1));
        assert_eq!(a.get(7, -1), Value::Int(1));
        assert_eq!(a.get(7, 3), Value::Null);
        a.append(7, Value::Int(0));
        assert_eq!(a.get(7, 3), Value::Int(0));
        assert!(a.replace(7, 0, Value::Int(9)));
        a.remove(7, 1);
        assert_eq!(a.all(7).cloned().collect::<Vec<_>>(), [Value::Int(9), Value::Int(1), Value::Int(0)]);
        a.remove_all(7);
        assert!(a.is_empty());
    }
}
