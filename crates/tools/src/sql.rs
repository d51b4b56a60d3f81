//! Names of tables and columns are checked before they become part of a statement.

use switchroom_kernel::open::Opening;

/// Whether `text` may stand in a statement as the name of a table or column, with its schema or not.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

/// The name in a parameter, checked.
pub fn column(o: &Opening<'_>, param: &str) -> Result<String, String> {
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
        assert!(is_name("db.users"));
        for bad in ["", "a b", "a;b", "a'", "1a", "a-b", "a\"", "ü"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
