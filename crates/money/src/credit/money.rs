//! Amounts of money: millionths of the account's currency, as text with a point.

/// Millionths in one unit of currency.
pub const UNIT: i64 = 1_000_000;

/// Reads `12`, `12.5`, `-0.000001`. `None` for anything else, more than six decimals, or more than fits.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let numeric = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || part.len() > 6 || !numeric(whole) || !numeric(part) {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut fraction = 0;
    for i in 0..6 {
        fraction = fraction * 10 + i64::from(part.as_bytes().get(i).map_or(0, |b| b - b'0'));
    }
    let amount = whole.checked_mul(UNIT)?.checked_add(fraction)?;
    Some(if negative { -amount } else { amount })
}

/// `12.50`: at least two decimals, at most six.
pub fn format(amount: i64) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    let (whole, part) = (amount.unsigned_abs() / UNIT as u64, amount.unsigned_abs() % UNIT as u64);
    let part = format!("{part:06}");
    let kept = part.trim_end_matches('0').len().max(2);
    format!("{sign}{whole}.{}", &part[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written_without_loss() {
        for (text, amount) in
            [("12", 12 * UNIT), ("12.5", 12_500_000), ("-0.000001", -1), (".25", 250_000), ("0", 0)]
        {
            assert_eq!(parse(text), Some(amount), "{text}");
            assert_eq!(parse(&format(amount)), Some(amount));
        }
        assert_eq!(format(12_500_000), "12.50");
        assert_eq!(format(-1), "-0.000001");
        for wrong in ["", ".", "1,5", "1.0000001", "99999999999999999999", "1e3", "--1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
