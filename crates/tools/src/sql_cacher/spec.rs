//! One value of `cache_table`: `name=value` parts in any order.

use std::time::Duration;

use crate::sql::is_name;

/// What is kept, and from where.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    pub id: String,
    pub db_url: Option<String>,
    pub table: String,
    pub key: String,
    /// Empty for all columns.
    pub columns: Vec<String>,
    pub on_demand: bool,
    pub expire: Duration,
}

impl Spec {
    /// Reads the parts, which `between` separates; columns are separated by `columns`.
    pub fn read(text: &str, between: char, columns: char) -> Result<Spec, String> {
        let mut spec = Spec {
            id: String::new(),
            db_url: None,
            table: String::new(),
            key: String::new(),
            columns: Vec::new(),
            on_demand: false,
            expire: Duration::from_secs(3600),
        };
        let wrong =
            |why: String| format!("cache_table: {why}; write id=x, db_url=, table=, key=, columns= ...");
        for part in text.split(between).map(str::trim).filter(|p| !p.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| wrong("a part has no `=`".into()))?;
            let value = value.trim();
            match name.trim() {
                "id" => spec.id = value.to_owned(),
                "db_url" => spec.db_url = Some(value.to_owned()),
                // Rows are kept in this process.
                "cachedb_url" => {}
                "table" => spec.table = value.to_owned(),
                "key" => spec.key = value.to_owned(),
                "columns" => {
                    let names = value.split(columns).map(str::trim).filter(|c| !c.is_empty());
                    spec.columns = names.map(str::to_owned).collect();
                }
                "on_demand" => spec.on_demand = value != "0",
                "expire" => {
                    let seconds =
                        value.parse().map_err(|_| wrong(format!("`{value}` is no number of seconds")))?;
                    spec.expire = Duration::from_secs(u64::max(seconds, 1));
                }
                other => return Err(wrong(format!("`{other}` is unknown"))),
            }
        }
        if spec.id.is_empty() {
            return Err(wrong("there is no id".into()));
        }
        for name in [&spec.table, &spec.key].into_iter().chain(&spec.columns) {
            if !is_name(name) {
                return Err(wrong(format!("\"{name}\" is no name of a table or column")));
            }
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_checked() {
        let text = "id=c\ndb_url=mysql://u:p=w@h/d\ncachedb_url=local:///x\n table=t\nkey=k\ncolumns=a b\non_demand=1\nexpire=5";
        let spec = Spec::read(text, '\n', ' ').unwrap();
        assert_eq!((spec.id.as_str(), spec.db_url.as_deref()), ("c", Some("mysql://u:p=w@h/d")));
        assert_eq!((spec.columns.len(), spec.on_demand, spec.expire.as_secs()), (2, true, 5));
        for bad in ["", "id=c;table=t", "id=c;table=t x;key=k", "id=c;table=t;key=k;colums=a", "id"] {
            assert!(Spec::read(bad, ';', ' ').unwrap_err().starts_with("cache_table:"), "{bad}");
        }
    }
}
