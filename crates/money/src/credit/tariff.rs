//! Tariffs: prices by the longest prefix of a number.

use std::collections::HashMap;

/// What a message costs, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// For each message.
    pub message: i64,
    /// For each of its parts.
    pub part: i64,
}

impl Price {
    /// Of a message with so many parts. `None` when that does not fit.
    pub fn of(self, parts: u32) -> Option<i64> {
        self.part.checked_mul(i64::from(parts))?.checked_add(self.message)
    }
}

/// All tariffs by name.
#[derive(Debug, Default)]
pub struct Tariffs(HashMap<String, Tariff>);

#[derive(Debug, Default)]
struct Tariff {
    by_prefix: HashMap<Box<[u8]>, Price>,
    longest: usize,
}

impl Tariffs {
    /// Sets a price. An empty prefix stands for every number.
    pub fn set(&mut self, tariff: &str, prefix: &str, price: Price) {
        let tariff = self.0.entry(tariff.to_owned()).or_default();
        let prefix = prefix.trim_start_matches('+').as_bytes();
        tariff.longest = tariff.longest.max(prefix.len());
        tariff.by_prefix.insert(prefix.into(), price);
    }

    /// The price of the longest prefix of `number`; `None` when the tariff has none.
    pub fn find(&self, tariff: &str, number: &[u8]) -> Option<Price> {
        let tariff = self.0.get(tariff)?;
        let number = number.strip_prefix(b"+").unwrap_or(number);
        let longest = tariff.longest.min(number.len());
        (0..=longest).rev().find_map(|len| tariff.by_prefix.get(&number[..len]).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let mut tariffs = Tariffs::default();
        let price = |part| Price { message: 0, part };
        tariffs.set("t", "49", price(10));
        tariffs.set("t", "+4915", price(20));
        let of = |number: &[u8]| tariffs.find("t", number).map(|p| p.part);
        assert_eq!(of(b"4930123"), Some(10));
        assert_eq!(of(b"+4915123"), Some(20));
        assert_eq!(of(b"4"), None);
        assert_eq!(of(b"33"), None);
        assert_eq!(tariffs.find("other", b"49"), None);
        tariffs.set("t", "", price(1));
        assert_eq!(tariffs.find("t", b"33").unwrap().of(3), Some(3));
        assert_eq!(Price { message: 5, part: i64::MAX }.of(2), None);
    }
}
