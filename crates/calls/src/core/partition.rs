//! Reading partition parameters: `"name: key = value; key = value"`, as the modules with several data sources take them.

/// One partition as the script describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Name before the colon.
    pub name: String,
    values: Vec<(String, String)>,
}

impl Partition {
    /// Reads one parameter value; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Partition, String> {
        let (name, rest) = text.split_once(':').ok_or_else(|| wrong(text))?;
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) || name.contains('=') {
            return Err(wrong(text));
        }
        let mut values = Vec::new();
        for pair in rest.split(';').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong(text))?;
            values.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Partition { name: name.to_owned(), values })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A key that is none of `known`.
    pub fn unknown(&self, known: &[&str]) -> Option<&str> {
        self.values.iter().map(|(k, _)| k.as_str()).find(|k| !known.contains(k))
    }
}

fn wrong(text: &str) -> String {
    format!("partition \"{}\" must be written `name: key = value; key = value`", text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_a_name_and_values_that_may_contain_colons_and_equal_signs() {
        let p = Partition::parse("\n in:\n db_url = mysql://u:p@h/d?x=1;\n table_name=a").unwrap();
        assert_eq!(p.name, "in");
        assert_eq!(p.get("db_url"), Some("mysql://u:p@h/d?x=1"));
        assert_eq!(p.get("table_name"), Some("a"));
        assert_eq!(p.unknown(&["db_url"]), Some("table_name"));
        for bad in ["", "name", "a b: c=d", ": x=y", "a: x"] {
            assert!(Partition::parse(bad).is_err(), "{bad}");
        }
    }
}
