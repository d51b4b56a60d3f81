//! Names that scripts make up (AVPs, script variables, flags) and their numbers.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

/// How many names a process may intern; dynamic names come from scripts, so there is a bound.
const MAX_NAMES: usize = 1 << 20;

/// How many message flags, and how many branch flags, there are. They are stored as a 32-bit mask (`location.cflags`).
pub const MAX_FLAGS: usize = 32;

/// The interner. Shared by all workers; written at load time and for dynamic names only.
#[derive(Default)]
pub struct Names {
    text: RwLock<Table>,
    message_flags: RwLock<Table>,
    branch_flags: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

impl Table {
    fn intern(&mut self, name: &str, max: usize) -> Option<u32> {
        if let Some(n) = self.numbers.get(name) {
            return Some(*n);
        }
        if self.texts.len() >= max {
            return None;
        }
        let text: Arc<str> = Arc::from(name);
        let number = self.texts.len() as u32;
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        Some(number)
    }
}

/// The two sets of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagKind {
    /// `setflag()`: message and transaction.
    Message,
    /// `setbflag()`: branch and contact.
    Branch,
}

impl Names {
    /// Number of a name; the same name always gives the same number. `Err` when there are too many.
    pub fn intern(&self, name: &str) -> Result<u32, String> {
        if let Some(n) = self.text.read().numbers.get(name) {
            return Ok(*n);
        }
        self.text.write().intern(name, MAX_NAMES).ok_or_else(|| format!("more than {MAX_NAMES} names in use"))
    }

    /// Number of a name that was interned before.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.text.read().numbers.get(name).copied()
    }

    /// The name of a number; empty when there is none.
    pub fn text(&self, number: u32) -> Arc<str> {
        self.text.read().texts.get(number as usize).cloned().unwrap_or_else(|| Arc::from(""))
    }

    /// Bit of a flag name, given out in order of appearance.
    pub fn flag(&self, kind: FlagKind, name: &str) -> Result<u32, String> {
        let table = self.flags(kind);
        if let Some(n) = table.read().numbers.get(name) {
            return Ok(*n);
        }
        table
            .write()
            .intern(name, MAX_FLAGS)
            .ok_or_else(|| format!("more than {MAX_FLAGS} different flags; `{name}` has no place"))
    }

    /// Names of the set bits, separated by spaces.
    pub fn flag_names(&self, kind: FlagKind, mask: u32) -> String {
        let table = self.flags(kind).read();
        let set = table.texts.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0);
        set.map(|(_, name)| name.as_ref()).collect::<Vec<_>>().join(" ")
    }

    fn flags(&self, kind: FlagKind) -> &RwLock<Table> {
        match kind {
            FlagKind::Message => &self.message_flags,
            FlagKind::Branch => &self.branch_flags,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_and_flags_are_bounded() {
        let n = Names::default();
        let a = n.intern("a").unwrap();
        assert_ne!(n.intern("b").unwrap(), a);
        assert_eq!(n.intern("a").unwrap(), a);
        assert_eq!(&*n.text(a), "a");
        for i in 0..MAX_FLAGS {
            n.flag(FlagKind::Branch, &format!("F{i}")).unwrap();
        }
        assert!(n.flag(FlagKind::Branch, "ONE_MORE").unwrap_err().contains("ONE_MORE"));
        assert_eq!(n.flag_names(FlagKind::Branch, 0b101), "F0 F2");
    }
}
