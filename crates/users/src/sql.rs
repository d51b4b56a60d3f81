//! What the modules with tables share: names that scripts give are checked before they become part of a statement, and
//! statements are made once.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

/// Statements kept per module; scripts name a handful of tables.
const MAX_STATEMENTS: usize = 64;

/// Statement texts by table name and a number that tells statements on one table apart.
#[derive(Default)]
pub struct Statements {
    known: RwLock<HashMap<u8, HashMap<String, Arc<str>>>>,
}

impl Statements {
    /// The statement `kind` on `table`, made by `make` when it is new. `None` when `table` is no name.
    pub fn get(&self, kind: u8, table: &str, make: impl FnOnce(&str) -> String) -> Option<Arc<str>> {
        if let Some(sql) = self.known.read().get(&kind).and_then(|of_kind| of_kind.get(table)) {
            return Some(sql.clone());
        }
        if !is_name(table) {
            tracing::error!("\"{table}\" is no table name");
            return None;
        }
        let sql: Arc<str> = make(table).into();
        let mut known = self.known.write();
        let of_kind = known.entry(kind).or_default();
        if of_kind.len() < MAX_STATEMENTS {
            of_kind.insert(table.to_owned(), sql.clone());
        }
        Some(sql)
    }
}

/// Whether `text` may stand in a statement as the name of a table or column, with its schema or not.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

/// The name in a parameter, checked.
pub fn column(o: &switchroom_kernel::open::Opening<'_>, param: &str) -> Result<String, String> {
    let name = o.text(param);
    if is_name(&name) {
        Ok(name)
    } else {
        Err(format!("parameter `{param}`: \"{name}\" is no column or table name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_become_part_of_a_statement() {
        let s = Statements::default();
        let make = |t: &str| format!("SELECT 1 FROM {t}");
        assert_eq!(s.get(0, "db.users", make).as_deref(), Some("SELECT 1 FROM db.users"));
        assert_eq!(s.get(1, "db.users", |_| "x".into()).as_deref(), Some("x"));
        for bad in ["", "a b", "a;b", "a'", "1a", "a-b", "a\"", "ü"] {
            assert!(s.get(0, bad, make).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_number_of_kept_statements_is_bounded() {
        let s = Statements::default();
        for i in 0..MAX_STATEMENTS * 2 {
            assert!(s.get(0, &format!("t{i}"), |t| t.to_owned()).is_some());
        }
        assert_eq!(s.known.read()[&0].len(), MAX_STATEMENTS);
    }
}
