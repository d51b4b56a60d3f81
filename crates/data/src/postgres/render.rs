//! Statements of the store port as text for PostgreSQL: values in the place of `?`, and `REPLACE`.
//!
//! A value is always a quoted literal in which a quote is doubled, with `standard_conforming_strings` on (PostgreSQL
//! manual, 4.1.2.1), so no value can end its literal.

use std::fmt::Write;

use switchroom_kernel::ports::store::{SqlValue, StoreError};

/// Appends `sql` to `out` with its values. Without values nothing is touched, since `?` may be an operator.
pub fn render(sql: &str, args: &[SqlValue], out: &mut String) -> Result<(), StoreError> {
    if sql.contains('\0') {
        return Err(StoreError::Statement("a NUL character stands in the statement".to_owned()));
    }
    if args.is_empty() {
        out.push_str(sql);
        return Ok(());
    }
    let mut values = args.iter();
    let mut from = 0;
    for (at, found) in Outside::of(sql) {
        if found == b'?' {
            out.push_str(&sql[from..at]);
            let value = values.next().ok_or_else(|| wrong_count(sql, args))?;
            literal(value, out)?;
            from = at + 1;
        }
    }
    out.push_str(&sql[from..]);
    match values.next() {
        Some(_) => Err(wrong_count(sql, args)),
        None => Ok(()),
    }
}

/// Whether more than one statement stands in `sql`.
pub fn is_several(sql: &str) -> bool {
    let end = sql.trim_end().len();
    Outside::of(sql).any(|(at, found)| found == b';' && at + 1 < end)
}

fn wrong_count(sql: &str, args: &[SqlValue]) -> StoreError {
    StoreError::Statement(format!(
        "`{sql}` was given {} values, which is not what it has places for",
        args.len()
    ))
}

fn literal(value: &SqlValue, out: &mut String) -> Result<(), StoreError> {
    match value {
        SqlValue::Null => out.push_str("NULL"),
        SqlValue::Int(number) => {
            // Writing to a String cannot fail.
            let _ = write!(out, "'{number}'");
        }
        SqlValue::Real(number) => {
            let _ = write!(out, "'{number}'");
        }
        SqlValue::Text(text) => {
            if text.contains('\0') {
                return Err(StoreError::Statement(
                    "PostgreSQL keeps no text with a NUL character".to_owned(),
                ));
            }
            out.push('\'');
            for (i, part) in text.split('\'').enumerate() {
                if i > 0 {
                    out.push_str("''");
                }
                out.push_str(part);
            }
            out.push('\'');
        }
        SqlValue::Blob(bytes) => {
            out.push_str("'\\x");
            for byte in bytes {
                let _ = write!(out, "{byte:02x}");
            }
            out.push('\'');
        }
    }
    Ok(())
}

/// The bytes `?` and `;` of a statement that stand outside of strings, quoted names and comments.
struct Outside<'a> {
    sql: &'a [u8],
    at: usize,
}

impl<'a> Outside<'a> {
    fn of(sql: &'a str) -> Outside<'a> {
        Outside { sql: sql.as_bytes(), at: 0 }
    }

    /// Moves behind `end`, or to the end of the statement.
    fn skip_to(&mut self, end: &[u8]) {
        let rest = self.sql.get(self.at..).unwrap_or_default();
        let found = rest.windows(end.len()).position(|w| w == end);
        self.at += found.map_or(rest.len(), |i| i + end.len());
    }

    /// Whether the quote at `at` follows an `E` that is a word of its own.
    fn is_escape_string(&self, at: usize) -> bool {
        let before = |n: usize| at.checked_sub(n).and_then(|i| self.sql.get(i));
        let of_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || !b.is_ascii();
        before(1).is_some_and(|b| b.eq_ignore_ascii_case(&b'e')) && !before(2).is_some_and(of_word)
    }

    /// Moves behind a string in which a backslash takes the next character along.
    fn skip_escaped(&mut self) {
        while let Some(&byte) = self.sql.get(self.at) {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'\'' {
                return;
            }
        }
    }

    /// `$$`, `$tag$`: their length, when one stands at `at`.
    fn dollar(&self, at: usize) -> Option<usize> {
        let rest = self.sql.get(at + 1..)?;
        let end = rest.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_')?;
        let tagged = rest[end] == b'$' && !rest.first().is_some_and(u8::is_ascii_digit);
        tagged.then_some(end + 2)
    }
}

impl Iterator for Outside<'_> {
    type Item = (usize, u8);

    fn next(&mut self) -> Option<(usize, u8)> {
        while let Some(&byte) = self.sql.get(self.at) {
            let start = self.at;
            self.at += 1;
            let next = self.sql.get(self.at).copied();
            match byte {
                b'?' | b';' => return Some((start, byte)),
                b'\'' if self.is_escape_string(start) => self.skip_escaped(),
                b'\'' => self.skip_to(b"'"),
                b'"' => self.skip_to(b"\""),
                b'-' if next == Some(b'-') => self.skip_to(b"\n"),
                b'/' if next == Some(b'*') => self.skip_to(b"*/"),
                b'$' => {
                    if let Some(length) = self.dollar(start) {
                        let tag = &self.sql[start..start + length];
                        self.at = start + length;
                        self.skip_to(tag);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// `REPLACE INTO table (columns) VALUES (...)`
pub struct Replace<'a> {
    pub table: &'a str,
    columns: Vec<&'a str>,
    values: &'a str,
}

impl<'a> Replace<'a> {
    /// Takes a statement apart; `None` for all others.
    pub fn read(sql: &'a str) -> Option<Replace<'a>> {
        let rest = word(sql, "REPLACE").and_then(|rest| word(rest, "INTO"))?;
        let (table, rest) = rest.split_once('(')?;
        let (columns, rest) = rest.split_once(')')?;
        let values = word(rest, "VALUES")?;
        let columns = columns.split(',').map(str::trim).collect();
        Some(Replace { table: table.trim(), columns, values: values.trim_end().trim_end_matches(';') })
    }

    /// The same for a table with these unique keys: the row that has the same key is changed.
    pub fn rewrite(&self, keys: &[Vec<String>]) -> String {
        let columns = self.columns.join(", ");
        let mut sql = format!("INSERT INTO {} ({columns}) VALUES {}", self.table, self.values);
        let given = |column: &String| self.columns.iter().any(|c| c.trim_matches('"') == column);
        let Some(key) = keys.iter().find(|key| key.iter().all(given)) else { return sql };
        let rest = self.columns.iter().filter(|c| !key.iter().any(|k| k == c.trim_matches('"')));
        let sets: Vec<String> = rest.map(|c| format!("{c} = EXCLUDED.{c}")).collect();
        sql.push_str(&format!(" ON CONFLICT ({}) DO ", key.join(", ")));
        match sets.is_empty() {
            true => sql.push_str("NOTHING"),
            false => sql.push_str(&format!("UPDATE SET {}", sets.join(", "))),
        }
        sql
    }
}

/// What follows the word with which `sql` begins.
fn word<'a>(sql: &'a str, word: &str) -> Option<&'a str> {
    let sql = sql.trim_start();
    let (head, rest) = sql.split_at_checked(word.len())?;
    let ends = !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (head.eq_ignore_ascii_case(word) && ends).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(sql: &str, args: &[SqlValue]) -> String {
        let mut out = String::new();
        render(sql, args, &mut out).unwrap();
        out
    }

    #[test]
    fn values_stand_where_the_marks_were_and_nowhere_else() {
        let one = [SqlValue::Int(1)];
        for (sql, expected) in [
            ("a = ?", "a = '1'"),
            ("a = '?' AND b = ?", "a = '?' AND b = '1'"),
            ("a = 'it''s ?' AND b=?", "a = 'it''s ?' AND b='1'"),
            ("\"a?\" = ? -- why?\n", "\"a?\" = '1' -- why?\n"),
            ("/* ? */ a = ?", "/* ? */ a = '1'"),
            ("a = E'\\'?' AND b = ?", "a = E'\\'?' AND b = '1'"),
            ("a LIKE'\\' AND b = ?", "a LIKE'\\' AND b = '1'"),
            ("a = $$?$$ AND b = ?", "a = $$?$$ AND b = '1'"),
            ("a = $x$ ? $y$ ? $x$ AND b = ?", "a = $x$ ? $y$ ? $x$ AND b = '1'"),
        ] {
            assert_eq!(rendered(sql, &one), expected);
        }
        assert_eq!(rendered("a ? 'b'", &[]), "a ? 'b'");
    }

    #[test]
    fn no_value_ends_its_literal() {
        for (value, expected) in [
            (SqlValue::Text("'; DROP TABLE x; --".into()), "'''; DROP TABLE x; --'"),
            (SqlValue::Text("\\'".into()), "'\\'''"),
            (SqlValue::Text("?$$é".into()), "'?$$é'"),
            (SqlValue::Blob(vec![0, 39, 255]), "'\\x0027ff'"),
            (SqlValue::Null, "NULL"),
            (SqlValue::Int(-5), "'-5'"),
            (SqlValue::Real(0.5), "'0.5'"),
        ] {
            assert_eq!(rendered("?", &[value]), expected);
        }
    }

    #[test]
    fn nul_characters_and_wrong_counts_are_refused() {
        for (sql, args) in [
            ("?", vec![SqlValue::Text("a\0b".into())]),
            ("a\0", vec![]),
            ("? ?", vec![SqlValue::Null]),
            ("?", vec![SqlValue::Null, SqlValue::Null]),
        ] {
            assert!(
                matches!(render(sql, &args, &mut String::new()), Err(StoreError::Statement(_))),
                "{sql:?}"
            );
        }
    }

    #[test]
    fn several_statements_are_seen() {
        assert!(is_several("DELETE FROM a; DELETE FROM b"));
        assert!(!is_several("DELETE FROM a WHERE b = ';' ; "));
    }

    #[test]
    fn replace_changes_the_row_with_the_same_key() {
        let keys = vec![vec!["id".to_owned()], vec!["a".to_owned(), "b".to_owned()]];
        let replace = Replace::read("REPLACE INTO t (a, b, c) VALUES (?, ?, ?)").unwrap();
        assert_eq!(replace.table, "t");
        assert_eq!(
            replace.rewrite(&keys),
            "INSERT INTO t (a, b, c) VALUES  (?, ?, ?) ON CONFLICT (a, b) DO UPDATE SET c = EXCLUDED.c"
        );
        assert_eq!(
            Replace::read("replace into t(id) values(1);").unwrap().rewrite(&keys),
            "INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO NOTHING"
        );
        assert_eq!(
            Replace::read("REPLACE INTO t (c) VALUES (?)").unwrap().rewrite(&keys),
            "INSERT INTO t (c) VALUES  (?)"
        );
        assert!(Replace::read("INSERT INTO t (c) VALUES (?)").is_none());
    }
}
