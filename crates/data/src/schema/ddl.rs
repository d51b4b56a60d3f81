//! Table declarations as statements of a dialect.

use switchroom_kernel::ports::store::Dialect;

use super::{Column, Index, Kind, Literal, Table};

/// The statements that make a table with its indexes.
pub fn create(table: &Table, dialect: Dialect) -> Vec<String> {
    let columns: Vec<String> = table.columns.iter().map(|c| column(c, dialect)).collect();
    let mut statements = vec![format!("CREATE TABLE {} (\n    {}\n)", table.name, columns.join(",\n    "))];
    statements.extend(table.indexes.iter().map(|i| index(table, i)));
    statements
}

/// The statement that gives an existing table one more column.
pub fn add_column(table: &Table, added: &Column, dialect: Dialect) -> String {
    format!("ALTER TABLE {} ADD COLUMN {}", table.name, column(added, dialect))
}

fn column(column: &Column, dialect: Dialect) -> String {
    let mut sql = format!("{} {}", column.name, kind(column.kind, dialect));
    if !column.null && column.kind != Kind::Serial {
        sql.push_str(" NOT NULL");
    }
    if let Some(default) = column.default {
        sql.push_str(" DEFAULT ");
        sql.push_str(&literal(default));
    }
    sql
}

fn kind(kind: Kind, dialect: Dialect) -> String {
    use Dialect::{Mysql, Postgres, Sqlite};
    match (kind, dialect) {
        (Kind::Serial, Sqlite) => "INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL".to_owned(),
        (Kind::Serial, Postgres) => "SERIAL PRIMARY KEY NOT NULL".to_owned(),
        (Kind::Serial, Mysql) => "INT UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL".to_owned(),
        // INTEGER makes it SQLite's own row number.
        (Kind::BigKey, Sqlite) => "INTEGER PRIMARY KEY".to_owned(),
        (Kind::BigKey, _) => "BIGINT PRIMARY KEY".to_owned(),
        (Kind::Int, _) => "INTEGER".to_owned(),
        (Kind::BigInt, _) => "BIGINT".to_owned(),
        (Kind::Blob, Sqlite) => "BLOB".to_owned(),
        (Kind::Blob, Postgres) => "BYTEA".to_owned(),
        (Kind::Blob, Mysql) => "MEDIUMBLOB".to_owned(),
        (Kind::SmallInt, _) => "SMALLINT".to_owned(),
        (Kind::Real, Postgres) => "NUMERIC(10,2)".to_owned(),
        (Kind::Real, _) => "FLOAT(10,2)".to_owned(),
        (Kind::Text(size), Postgres) => format!("VARCHAR({size})"),
        (Kind::Text(size), _) => format!("CHAR({size})"),
        (Kind::LongText, _) => "TEXT".to_owned(),
        (Kind::DateTime, Postgres) => "TIMESTAMP WITHOUT TIME ZONE".to_owned(),
        (Kind::DateTime, _) => "DATETIME".to_owned(),
    }
}

fn literal(literal: Literal) -> String {
    match literal {
        Literal::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Literal::Int(number) => number.to_string(),
        Literal::Real(number) => format!("{number:.2}"),
    }
}

fn index(table: &Table, index: &Index) -> String {
    let unique = if index.unique { "UNIQUE " } else { "" };
    format!("CREATE {unique}INDEX {0}_{1} ON {0} ({2})", table.name, index.name, index.columns.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::table;

    #[test]
    fn each_dialect_gets_its_own_types() {
        let domain = table("domain").unwrap();
        let sqlite = create(domain, Dialect::Sqlite);
        assert!(sqlite[0].contains("id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL"), "{}", sqlite[0]);
        assert!(sqlite[0].contains("domain CHAR(64) NOT NULL DEFAULT ''"), "{}", sqlite[0]);
        assert_eq!(sqlite[1], "CREATE UNIQUE INDEX domain_domain_idx ON domain (domain)");
        assert!(create(domain, Dialect::Postgres)[0].contains("id SERIAL PRIMARY KEY"));
        assert!(create(domain, Dialect::Mysql)[0].contains("AUTO_INCREMENT"));
    }
}
