//! Subscriptions of one event, found by what they wait for.

use std::collections::HashMap;

use switchroom_kernel::events::Event;

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
                if self.is_exact() {
                    text == self.pattern.as_bytes()
                } else {
                    crate::sipmsgops::glob::matches(self.pattern.as_bytes(), &text)
                }
            }
        }
    }
}

/// Subscriptions of one event by number.
#[derive(Default)]
pub(super) struct Index {
    /// By the value of the first exact filter.
    exact: HashMap<(String, Vec<u8>), Vec<u64>>,
    /// Attribute names in use above, and how many subscriptions use each.
    keys: HashMap<String, usize>,
    /// Without any exact filter.
    rest: Vec<u64>,
}

impl Index {
    /// Add a subscription.
    pub fn add(&mut self, id: u64, filters: &[Filter]) {
        match filters.iter().find(|f| f.is_exact()) {
            Some(f) => {
                self.exact.entry((f.key.clone(), f.pattern.clone().into_bytes())).or_default().push(id);
                *self.keys.entry(f.key.clone()).or_default() += 1;
            }
            None => self.rest.push(id),
        }
    }

    /// Remove it.
    pub fn remove(&mut self, id: u64, filters: &[Filter]) {
        match filters.iter().find(|f| f.is_exact()) {
            Some(f) => {
                let key = (f.key.clone(), f.pattern.clone().into_bytes());
                let Some(list) = self.exact.get_mut(&key) else { return };
                list.retain(|x| *x != id);
                if list.is_empty() {
                    self.exact.remove(&key);
                }
                if let Some(users) = self.keys.get_mut(&f.key) {
                    *users -= 1;
                    if *users == 0 {
                        self.keys.remove(&f.key);
                    }
                }
            }
            None => self.rest.retain(|x| *x != id),
        }
    }

    /// Those that an event may concern, in order of subscription.
    pub fn candidates(&self, event: &Event) -> Vec<u64> {
        let mut found = self.rest.clone();
        for key in self.keys.keys() {
            match event.attrs.iter().find(|(n, _)| n.eq_ignore_ascii_case(key)) {
                Some((_, value)) => {
                    let value = value.to_bytes().unwrap_or_default().to_vec();
                    found.extend(self.exact.get(&(key.clone(), value)).into_iter().flatten());
                }
                // A filter on an attribute that the event does not have does not hold it back.
                None => {
                    let missing = self.exact.iter().filter(|((k, _), _)| k == key);
                    found.extend(missing.flat_map(|(_, list)| list));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
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
        for (i, f) in subs.iter().enumerate() {
            index.add(i as u64, f);
        }
        let e = event(&[("AOR", "bob@a"), ("uri", "sip:x")]);
        assert_eq!(index.candidates(&e), [0, 2, 3]);
        assert!(subs[2].iter().all(|f| f.passes(&e)));
        assert!(!subs[1].iter().all(|f| f.passes(&e)));
        for (i, f) in subs.iter().enumerate() {
            index.remove(i as u64, f);
        }
        assert!(index.is_empty() && index.keys.is_empty());
    }

    #[test]
    fn a_filter_needs_a_key_and_a_pattern() {
        assert!(Filter::parse("aor").is_none());
        assert!(Filter::parse("aor=").is_none());
        assert_eq!(Filter::parse("AOR=x=y").unwrap(), Filter { key: "aor".into(), pattern: "x=y".into() });
    }
}
