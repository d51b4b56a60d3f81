//! Status reports: what parts of the house say about their readiness, by group and identifier, with their last words.
//!
//! A status above 0 means ready. Groups are named by modules, identifiers by what they keep (a partition, a table).

use std::collections::{BTreeMap, VecDeque};

use parking_lot::RwLock;

/// How many reports an identifier keeps.
const MAX_REPORTS: usize = 100;
/// How many identifiers there may be in all; scripts may make them up.
const MAX_IDENTIFIERS: usize = 10_000;

/// Identifier that stands for a group as a whole.
pub const MAIN: &str = "main";

/// One identifier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Above 0: ready.
    pub status: i64,
    /// In words.
    pub details: String,
    /// What was reported: seconds since the epoch and text, oldest first.
    pub log: VecDeque<(u64, String)>,
}

/// All status reports of the process.
#[derive(Default)]
pub struct StatusReports {
    all: RwLock<BTreeMap<(String, String), Report>>,
}

impl StatusReports {
    /// Set a status; gives the one before when it changed (0 for a new identifier). `Err` when there are too many.
    pub fn set(&self, group: &str, name: &str, status: i64, details: &str) -> Result<Option<i64>, String> {
        let mut all = self.all.write();
        let full = all.len() >= MAX_IDENTIFIERS;
        let key = (group.to_owned(), name.to_owned());
        if full && !all.contains_key(&key) {
            return Err(format!("more than {MAX_IDENTIFIERS} status identifiers"));
        }
        let report = all.entry(key).or_default();
        let before = std::mem::replace(&mut report.status, status);
        report.details = details.to_owned();
        Ok((before != status).then_some(before))
    }

    /// Add a line to the reports of an identifier; false when it does not exist.
    pub fn report(&self, group: &str, name: &str, now: u64, text: &str) -> bool {
        let mut all = self.all.write();
        let Some(report) = all.get_mut(&(group.to_owned(), name.to_owned())) else { return false };
        if report.log.len() >= MAX_REPORTS {
            report.log.pop_front();
        }
        report.log.push_back((now, text.to_owned()));
        true
    }

    /// Whether an identifier is ready; `all` asks for every one of the group. `None` when there is none.
    pub fn ready(&self, group: &str, name: &str) -> Option<bool> {
        let found = self.list(Some(group), Some(name).filter(|n| *n != "all"));
        (!found.is_empty()).then(|| found.iter().all(|(_, _, r)| r.status > 0))
    }

    /// Identifiers by group, name and content; all, or those asked for.
    pub fn list(&self, group: Option<&str>, name: Option<&str>) -> Vec<(String, String, Report)> {
        let all = self.all.read();
        let wanted = |(g, n): &(String, String)| group.is_none_or(|w| w == g) && name.is_none_or(|w| w == n);
        let found = all.iter().filter(|(key, _)| wanted(key));
        found.map(|((g, n), r)| (g.clone(), n.clone(), r.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_ready_when_all_of_it_is() {
        let s = StatusReports::default();
        assert_eq!(s.set("g", "a", 1, "loaded"), Ok(Some(0)));
        assert_eq!(s.set("g", "a", 1, "loaded again"), Ok(None));
        assert_eq!(s.set("g", "b", -1, "loading"), Ok(Some(0)));
        assert_eq!(
            (s.ready("g", "a"), s.ready("g", "all"), s.ready("x", "all")),
            (Some(true), Some(false), None)
        );
    }

    #[test]
    fn reports_are_bounded() {
        let s = StatusReports::default();
        assert!(!s.report("g", "a", 1, "too early"));
        s.set("g", "a", 1, "").unwrap();
        (0..300).for_each(|i| assert!(s.report("g", "a", i, "x")));
        let log = s.list(Some("g"), None).remove(0).2.log;
        assert_eq!((log.len(), log[0].0), (MAX_REPORTS, 200));
    }
}
