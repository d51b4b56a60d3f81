//! Names of messages as SMS centres write them: in answers and in receipts not always alike.

/// Letters of a name that count: what fits into `message_id` (SMPP 5.0 §4.8.4.41) and into the columns of tables.
const LONGEST: usize = 64;

/// Small letters, no leading zeros, not longer than the specification allows.
#[must_use]
pub fn normal(id: &str) -> String {
    // NUL is text for no database.
    let id: String = id.trim().chars().filter(|c| *c != '\0').take(LONGEST).collect();
    let id = id.to_ascii_lowercase();
    let short = id.trim_start_matches('0');
    if short.is_empty() { id } else { short.to_owned() }
}

/// The ways to write an id: as it is, and between hexadecimal and decimal.
#[must_use]
pub fn forms(id: &str) -> Vec<String> {
    let id = normal(id);
    let mut forms = vec![id.clone()];
    if let Ok(n) = id.parse::<u128>() {
        forms.push(format!("{n:x}"));
    }
    if let Ok(n) = u128::from_str_radix(&id, 16) {
        forms.push(n.to_string());
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_hexadecimal_decimal_and_without_zeros() {
        assert!(forms("00FF").contains(&"255".to_owned()));
        assert!(forms("255").contains(&"ff".to_owned()));
        assert!(forms("0000123").contains(&"123".to_owned()));
        assert_eq!(normal("000"), "000");
        assert_eq!(normal(&"ab".repeat(40)).len(), 64);
    }
}
