//! Subscriptions of one event, found by what they wait for.
//!
//! A subscription is kept under one of its exact filters, the one that the fewest others are kept under, so that an event
//! looks only at those that wait for its value. Those without an exact filter are looked at by every event.

use std::collections::{BTreeSet, HashMap};

use switchroom_kernel::events::Event;

use switchroom_script::glob::{self, Case};

/// `key=pattern`: an attribute must match a shell pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// Attribute name in lower case.
    pub key: String,
    /// Pattern, compared with case.
    pub pattern: String,
}

impl Filter {
    /// Read `key=pattern`; `None` when there is no `=` or nothing behind it.
    pub fn parse(text: &str) -> Option<Filter> {
        let (key, pattern) = text.split_once('=')?;
        let (key, pattern) = (key.trim(), pattern.trim());
        if key.is_empty() || pattern.is_empty() {
            return None;
        }
        Some(Filter { key: key.to_ascii_lowercase(), pattern: pattern.to_owned() })
    }

    fn is_exact(&self) -> bool {
        !self.pattern.contains(['*', '?', '[', '\\'])
    }

    /// Whether an event passes. An attribute it does not have does not hold it back.
    pub fn passes(&self, event: &Event) -> bool {
        match event.attrs.iter().find(|(n, _)| n.eq_ignore_ascii_case(&self.key)) {
            None => true,
            Some((_, value)) => {
                let text = value.to_bytes().unwrap_or_default();
                match self.is_exact() {
                    true => text == self.pattern.as_bytes(),
                    false => glob::matches(self.pattern.as_bytes(), &text, Case::Counts),
                }
            }
        }
    }
}

/// Subscriptions of one event by number.
#[derive(Default)]
pub(super) struct Index {
    /// Attribute name, its value, and who waits for that.
    exact: HashMap<String, HashMap<Vec<u8>, BTreeSet<u64>>>,
    /// Without any exact filter.
    rest: BTreeSet<u64>,
}

impl Index {
    /// Add a subscription. Gives the filter it is kept under, which [`Index::remove`] wants back.
    pub fn add(&mut self, id: u64, filters: &[Filter]) -> Option<usize> {
        let crowd = |f: &Filter| {
            let there = self.exact.get(&f.key).and_then(|v| v.get(f.pattern.as_bytes()));
            there.map_or(0, BTreeSet::len)
        };
        let exact = filters.iter().enumerate().filter(|(_, f)| f.is_exact());
        let chosen = exact.min_by_key(|(_, f)| crowd(f)).map(|(i, _)| i);
        match chosen.and_then(|i| filters.get(i)) {
            Some(f) => {
                let values = self.exact.entry(f.key.clone()).or_default();
                values.entry(f.pattern.clone().into_bytes()).or_default().insert(id);
            }
            None => {
                self.rest.insert(id);
            }
        }
        chosen
    }

    /// Remove it.
    pub fn remove(&mut self, id: u64, filters: &[Filter], kept_under: Option<usize>) {
        let Some(f) = kept_under.and_then(|i| filters.get(i)) else {
            self.rest.remove(&id);
            return;
        };
        let Some(values) = self.exact.get_mut(&f.key) else { return };
        if let Some(list) = values.get_mut(f.pattern.as_bytes()) {
            list.remove(&id);
            if list.is_empty() {
                values.remove(f.pattern.as_bytes());
            }
        }
        if values.is_empty() {
            self.exact.remove(&f.key);
        }
    }

    /// Those that an event may concern, in order of subscription.
    pub fn candidates(&self, event: &Event) -> Vec<u64> {
        let mut found: Vec<u64> = self.rest.iter().copied().collect();
        for (key, values) in &self.exact {
            match event.attrs.iter().find(|(n, _)| n.eq_ignore_ascii_case(key)) {
                Some((_, value)) => {
                    let value = value.to_bytes().unwrap_or_default();
                    found.extend(values.get(&value[..]).into_iter().flatten());
                }
                // A filter on an attribute that the event does not have does not hold it back.
                None => found.extend(values.values().flatten()),
            }
        }
        found.sort_unstable();
        found
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use switchroom_kernel::events::EventId;
    use switchroom_script::Value;

    use super::*;

    fn event(attrs: &[(&str, &'static str)]) -> Event {
        let attrs = attrs.iter().map(|(n, v)| (Arc::from(*n), Value::from(*v))).collect();
        Event { id: EventId(0), name: "E".into(), attrs }
    }

    fn filters(list: &[&str]) -> Vec<Filter> {
        list.iter().map(|f| Filter::parse(f).unwrap()).collect()
    }

    #[test]
    fn an_event_finds_those_that_wait_for_it_and_no_others() {
        let mut index = Index::default();
        let subs =
            [filters(&["aor=bob@a"]), filters(&["aor=eve@a"]), filters(&["aor=b*"]), filters(&["other=1"])];
        let kept: Vec<_> = subs.iter().enumerate().map(|(i, f)| index.add(i as u64, f)).collect();
        let e = event(&[("AOR", "bob@a"), ("uri", "sip:x")]);
        assert_eq!(index.candidates(&e), [0, 2, 3]);
        assert!(subs[2].iter().all(|f| f.passes(&e)));
        assert!(!subs[1].iter().all(|f| f.passes(&e)));
        for (i, f) in subs.iter().enumerate() {
            index.remove(i as u64, f, kept[i]);
        }
        assert!(index.is_empty());
    }

    #[test]
    fn a_filter_needs_a_key_and_a_pattern() {
        assert!(Filter::parse("aor").is_none());
        assert!(Filter::parse("aor=").is_none());
        assert_eq!(Filter::parse("AOR=x=y").unwrap(), Filter { key: "aor".into(), pattern: "x=y".into() });
    }

    #[test]
    fn a_pattern_is_compared_with_case() {
        let e = event(&[("aor", "Bob@A")]);
        assert!(!filters(&["aor=bob*"])[0].passes(&e));
        assert!(filters(&["aor=B*A"])[0].passes(&e));
        assert!(!filters(&["aor=bob@a"])[0].passes(&e));
    }

    /// All filter on the table as well, which says nothing: the first filter must not be the one that counts.
    #[test]
    fn an_event_looks_at_few_of_many_that_wait() {
        let mut index = Index::default();
        let many: Vec<_> = (0..100_000)
            .map(|i| filters(&["domain=location", &format!("aor=u{i}@a"), "uri=sip:*"]))
            .collect();
        let kept: Vec<_> = many.iter().enumerate().map(|(i, f)| index.add(i as u64, f)).collect();
        let mut looked_at = 0;
        for (i, user) in (0..10_000).map(|i| (i * 10, format!("u{}@a", i * 10))) {
            let attrs = [("domain", "location"), ("aor", &user), ("uri", "sip:x")];
            let attrs = attrs.map(|(n, v)| (Arc::from(n), Value::Str(v.to_owned().into())));
            let e = Event { id: EventId(0), name: "E".into(), attrs: attrs.to_vec() };
            let found = index.candidates(&e);
            looked_at += found.len();
            assert!(found.contains(&(i as u64)));
        }
        // Nobody but the one that waits, and the very first one, which had no crowd to avoid.
        assert!(looked_at <= 20_000, "{looked_at} looked at");
        for (i, f) in many.iter().enumerate() {
            index.remove(i as u64, f, kept[i]);
        }
        assert!(index.is_empty());
    }
}
