//! Names of messages as SMS centres write them: in answers and in receipts not always alike.

/// Small letters, no leading zeros.
#[must_use]
pub fn normal(id: &str) -> String {
    let id = id.trim().to_ascii_lowercase();
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
    }
}
