//! One table in a file: a line that declares the columns, then a line for each row with fields between colons.

use switchroom_kernel::ports::store::SqlValue;

/// A table and the statements that make it.
#[derive(Debug, PartialEq)]
pub struct Table {
    pub create: String,
    pub insert: String,
    pub rows: Vec<Vec<SqlValue>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Real,
    Text,
}

impl Table {
    /// Reads a file; the error begins with the number of the line.
    pub fn read(name: &str, text: &str) -> Result<Table, String> {
        if !is_name(name) {
            return Err(format!("\"{name}\" is no name for a table"));
        }
        let mut lines = text.lines().enumerate();
        let (_, head) = lines.next().ok_or("1: the line with the columns is missing")?;
        let mut kinds = Vec::new();
        let (mut names, mut columns) = (Vec::new(), Vec::new());
        for declared in head.split_whitespace() {
            let (column, kind, automatic) = column(declared).map_err(|e| format!("1: {e}"))?;
            names.push(format!("\"{column}\""));
            columns.push(match kind {
                // SQLite counts such a column up by itself.
                Kind::Int if automatic => format!("\"{column}\" INTEGER PRIMARY KEY"),
                Kind::Int => format!("\"{column}\" INTEGER"),
                Kind::Real => format!("\"{column}\" REAL"),
                Kind::Text => format!("\"{column}\" TEXT"),
            });
            kinds.push(kind);
        }
        if kinds.is_empty() {
            return Err("1: the line with the columns is missing".into());
        }
        let mut rows = Vec::new();
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            rows.push(row(line, &kinds).map_err(|e| format!("{}: {e}", number + 1))?);
        }
        let marks = vec!["?"; names.len()].join(", ");
        Ok(Table {
            create: format!("CREATE TABLE \"{name}\" ({})", columns.join(", ")),
            insert: format!("INSERT INTO \"{name}\" ({}) VALUES ({marks})", names.join(", ")),
            rows,
        })
    }
}

/// `id(int,auto)`
fn column(text: &str) -> Result<(&str, Kind, bool), String> {
    let wrong = || format!("\"{text}\" declares no column; write name(int|double|str[,auto|null])");
    let (name, rest) = text.split_once('(').ok_or_else(wrong)?;
    let mut parts = rest.strip_suffix(')').ok_or_else(wrong)?.split(',');
    let kind = match parts.next().unwrap_or_default().trim() {
        "int" => Kind::Int,
        "double" => Kind::Real,
        "str" | "string" => Kind::Text,
        _ => return Err(wrong()),
    };
    let automatic = match parts.next().map(str::trim) {
        Some("auto") => true,
        Some("null") | None => false,
        Some(_) => return Err(wrong()),
    };
    if is_name(name) { Ok((name, kind, automatic)) } else { Err(wrong()) }
}

fn row(line: &str, kinds: &[Kind]) -> Result<Vec<SqlValue>, String> {
    let fields = fields(line);
    if fields.len() != kinds.len() {
        return Err(format!("{} fields for {} columns", fields.len(), kinds.len()));
    }
    fields.into_iter().zip(kinds).map(|(field, kind)| value(field, *kind)).collect()
}

fn value(field: String, kind: Kind) -> Result<SqlValue, String> {
    if field.is_empty() {
        return Ok(SqlValue::Null);
    }
    match kind {
        Kind::Text => Ok(SqlValue::Text(field)),
        Kind::Int => field.trim().parse().map(SqlValue::Int).map_err(|_| format!("\"{field}\" is no int")),
        Kind::Real => {
            field.trim().parse().map(SqlValue::Real).map_err(|_| format!("\"{field}\" is no double"))
        }
    }
}

/// Fields between colons; a backslash takes the next character along.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.len() - 1;
        match character {
            ':' => fields.push(String::new()),
            '\\' => match characters.next() {
                Some('n') => fields[last].push('\n'),
                Some('r') => fields[last].push('\r'),
                Some('t') => fields[last].push('\t'),
                Some('0') => fields[last].push('\0'),
                Some(other) => fields[last].push(other),
                None => {}
            },
            other => fields[last].push(other),
        }
    }
    fields
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_the_documentation_is_read() {
        let text = "id(int,auto) name(str) flag(double) desc(str,null)\n1:nick:0.34:a\\tgood\\: friend\n\n3:bob:2.50:\n";
        let table = Table::read("t", text).unwrap();
        assert_eq!(
            table.create,
            "CREATE TABLE \"t\" (\"id\" INTEGER PRIMARY KEY, \"name\" TEXT, \"flag\" REAL, \"desc\" TEXT)"
        );
        assert_eq!(
            table.rows,
            [
                vec![SqlValue::Int(1), "nick".into(), SqlValue::Real(0.34), "a\tgood: friend".into()],
                vec![SqlValue::Int(3), "bob".into(), SqlValue::Real(2.5), SqlValue::Null],
            ]
        );
    }

    #[test]
    fn errors_name_the_line_and_what_would_be_right() {
        for (text, line, why) in [
            ("", "1:", "columns"),
            ("id", "1:", "name(int"),
            ("a\"b(int)", "1:", "name(int"),
            ("id(int)\n1\n1:2", "3:", "2 fields for 1"),
            ("id(int)\nx", "2:", "no int"),
        ] {
            let error = Table::read("t", text).unwrap_err();
            assert!(error.starts_with(line) && error.contains(why), "{error}");
        }
    }
}
