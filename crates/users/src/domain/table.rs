//! The table of domains in memory, and which of its rows make a host local.

use std::collections::HashMap;

use bytes::Bytes;
use switchroom_kernel::ports::store::{Rows, SqlValue};

/// A host and so many parents at most are looked at.
pub const MAX_CANDIDATES: usize = 8;

/// Rows of the table by domain in lower case.
#[derive(Default)]
pub struct Domains {
    rows: HashMap<String, Row>,
}

/// What is known of a domain.
pub struct Row {
    /// Free attributes.
    pub attributes: Option<Bytes>,
    /// Its subdomains are local as well.
    pub subdomains: bool,
}

impl Domains {
    /// From rows of domain, attributes, accept_subdomain.
    pub fn read(rows: &Rows) -> Domains {
        let mut domains = Domains::default();
        for row in &rows.rows {
            let Some(name) = row.first().and_then(SqlValue::to_text).and_then(|n| normal(n.as_bytes()))
            else {
                continue;
            };
            let attributes = row.get(1).and_then(SqlValue::to_text).map(Bytes::from);
            let subdomains = row.get(2).and_then(SqlValue::to_int).is_some_and(|n| n != 0);
            domains.rows.insert(name, Row { attributes, subdomains });
        }
        domains
    }

    /// Nothing when `host` (in lower case) is not local, else the attributes of the domain that makes it so.
    pub fn find(&self, host: &str) -> Option<Option<Bytes>> {
        for (i, name) in candidates(host).enumerate() {
            match self.rows.get(name) {
                Some(row) if i == 0 || row.subdomains => return Some(row.attributes.clone()),
                _ => {}
            }
        }
        None
    }

    /// All rows, by name.
    pub fn sorted(&self) -> Vec<(&str, &Row)> {
        let mut list: Vec<_> = self.rows.iter().map(|(n, r)| (n.as_str(), r)).collect();
        list.sort_by_key(|(n, _)| *n);
        list
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// A host name as it is compared: lower case, without the final dot.
pub fn normal(host: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(host).ok()?.trim();
    let text = text.strip_suffix('.').unwrap_or(text);
    (!text.is_empty() && text.len() <= 255).then(|| text.to_ascii_lowercase())
}

/// The host, then its parents from the nearest on.
pub fn candidates(host: &str) -> impl Iterator<Item = &str> {
    let parents = host.match_indices('.').map(|(at, _)| &host[at + 1..]);
    std::iter::once(host).chain(parents).take(MAX_CANDIDATES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains() -> Domains {
        let row = |n: &str, a: SqlValue, s: i64| vec![SqlValue::from(n), a, SqlValue::Int(s)];
        Domains::read(&Rows {
            columns: Vec::new(),
            rows: vec![row("A.org", SqlValue::from("x=1"), 0), row("b.org", SqlValue::Null, 1)],
        })
    }

    #[test]
    fn a_domain_is_local_in_any_case_and_with_a_final_dot() {
        let found = domains().find(&normal(b"a.ORG.").unwrap());
        assert_eq!(found, Some(Some(Bytes::from_static(b"x=1"))));
        assert_eq!(domains().find("b.org"), Some(None));
        assert_eq!(domains().find("c.org"), None);
    }

    #[test]
    fn subdomains_are_local_only_where_the_row_says_so() {
        assert_eq!(domains().find("sip.eu.b.org"), Some(None));
        assert_eq!(domains().find("sip.a.org"), None);
        assert_eq!(domains().find("xb.org"), None);
    }

    #[test]
    fn the_number_of_parents_looked_at_is_bounded() {
        let host = "a.".repeat(60) + "b.org";
        assert_eq!(candidates(&host).count(), MAX_CANDIDATES);
    }
}
