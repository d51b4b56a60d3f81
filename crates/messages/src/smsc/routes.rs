//! Where a message goes: the table `sms_route`, by the longest prefix of the recipient, then by priority, cost and weight.

use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;
use switchroom_kernel::ports::store::{Query, SqlValue, Store};

/// One way.
#[derive(Clone, Debug)]
pub struct Route {
    /// Lower comes first.
    pub priority: i64,
    /// Only for this account; empty for all.
    pub account: String,
    /// Only for senders that begin so.
    pub sender: String,
    /// Only for recipients that begin so.
    pub prefix: String,
    /// Only for recipients of this network: MCC, or MCC and MNC.
    pub network: String,
    /// Only for texts that match.
    pub content: Option<Regex>,
    /// Where to.
    pub target: Arc<str>,
    /// Share among equals.
    pub weight: u32,
    /// Lower comes first among equal priorities.
    pub cost: i64,
    /// Seconds until each further attempt; empty for the default.
    pub retry: Vec<u32>,
}

/// All routes and networks.
#[derive(Debug, Default)]
pub struct Routes {
    by_prefix: HashMap<String, Vec<Route>>,
    longest: usize,
    networks: HashMap<String, String>,
    longest_network: usize,
    reads_text: bool,
    retry: HashMap<Arc<str>, Vec<u32>>,
}

/// What is routed.
#[derive(Clone, Copy, Debug)]
pub struct Routed<'a> {
    /// Who sends.
    pub account: &'a str,
    /// Sender.
    pub source: &'a str,
    /// Recipient, without `+`.
    pub destination: &'a str,
    /// Text for people.
    pub text: &'a str,
    /// Any number, to choose by weight.
    pub chance: u64,
}

impl Routes {
    /// Reads the tables.
    pub async fn load(store: &dyn Store) -> Result<Routes, String> {
        let text = |row: &[SqlValue], i: usize| {
            row.get(i).and_then(SqlValue::to_text).unwrap_or_default().trim().to_owned()
        };
        let int = |row: &[SqlValue], i: usize| row.get(i).and_then(SqlValue::to_int).unwrap_or_default();
        let sql = "SELECT priority, account, sender, prefix, network, content, target, weight, cost, retry FROM sms_route WHERE enabled = 1";
        let rows = store.fetch(Query::new(sql, Vec::new())).await;
        let mut routes = Routes::default();
        for row in &rows.map_err(|e| format!("table sms_route: {e}"))?.rows {
            let target = text(row, 6);
            let pattern = text(row, 5);
            let content = match pattern.as_str() {
                "" => None,
                p => Some(
                    Regex::new(p)
                        .map_err(|e| format!("sms_route to {target}: content \"{p}\" is no pattern: {e}"))?,
                ),
            };
            check_target(&target)?;
            routes.add(Route {
                priority: int(row, 0),
                account: text(row, 1),
                sender: text(row, 2),
                prefix: text(row, 3).trim_start_matches('+').to_owned(),
                network: text(row, 4),
                content,
                weight: int(row, 7).clamp(0, 1_000_000) as u32,
                cost: int(row, 8),
                retry: retry(&text(row, 9)).map_err(|e| format!("sms_route to {target}: {e}"))?,
                target: target.into(),
            });
        }
        let rows = store.fetch(Query::new("SELECT prefix, mccmnc FROM sms_network", Vec::new())).await;
        for row in &rows.map_err(|e| format!("table sms_network: {e}"))?.rows {
            routes.add_network(&text(row, 0), &text(row, 1));
        }
        Ok(routes)
    }

    /// Adds a route.
    pub fn add(&mut self, route: Route) {
        self.longest = self.longest.max(route.prefix.len());
        self.reads_text |= route.content.is_some();
        if !route.retry.is_empty() {
            self.retry.insert(route.target.clone(), route.retry.clone());
        }
        let list = self.by_prefix.entry(route.prefix.clone()).or_default();
        list.push(route);
        list.sort_by_key(|r| (r.priority, r.cost));
    }

    /// Adds a network's prefix.
    pub fn add_network(&mut self, prefix: &str, mccmnc: &str) {
        let prefix = prefix.trim_start_matches('+');
        self.longest_network = self.longest_network.max(prefix.len());
        self.networks.insert(prefix.to_owned(), mccmnc.to_owned());
    }

    /// Whether any route looks at the text.
    pub fn reads_text(&self) -> bool {
        self.reads_text
    }

    /// MCC and MNC of a number; empty when its prefix is not known.
    pub fn network(&self, number: &str) -> &str {
        let longest = self.longest_network.min(number.len());
        (1..=longest)
            .rev()
            .filter_map(|n| number.get(..n))
            .find_map(|p| self.networks.get(p))
            .map_or("", |n| n)
    }

    /// Seconds until the attempts after the first, where the destination has its own.
    pub fn retry(&self, target: &str) -> Option<&[u32]> {
        self.retry.get(target).map(|r| &r[..])
    }

    /// Destinations to try, best first: all of the longest prefix that fits.
    pub fn find(&self, r: &Routed<'_>) -> Vec<Arc<str>> {
        let network = if self.networks.is_empty() { "" } else { self.network(r.destination) };
        let longest = self.longest.min(r.destination.len());
        for prefix in (0..=longest).rev().filter_map(|n| r.destination.get(..n)) {
            let Some(list) = self.by_prefix.get(prefix) else { continue };
            let fitting: Vec<&Route> = list.iter().filter(|route| route.fits(r, network)).collect();
            if !fitting.is_empty() {
                return order(fitting, r.chance);
            }
        }
        Vec::new()
    }
}

impl Route {
    fn fits(&self, r: &Routed<'_>, network: &str) -> bool {
        (self.account.is_empty() || self.account == r.account)
            && r.source.starts_with(&self.sender)
            && (self.network.is_empty() || network.starts_with(&self.network))
            && self.content.as_ref().is_none_or(|c| c.is_match(r.text))
    }
}

/// By priority and cost as they stand; among equals the first is chosen by weight.
fn order(routes: Vec<&Route>, chance: u64) -> Vec<Arc<str>> {
    let mut ordered = Vec::with_capacity(routes.len());
    let mut rest = &routes[..];
    while let Some(first) = rest.first() {
        let equals = rest.iter().take_while(|r| (r.priority, r.cost) == (first.priority, first.cost)).count();
        let (group, later) = rest.split_at(equals);
        rest = later;
        let total: u64 = group.iter().map(|r| u64::from(r.weight)).sum();
        let mut at = if total == 0 { 0 } else { chance % total };
        let chosen = group.iter().position(|r| {
            let here = at < u64::from(r.weight);
            at = at.saturating_sub(u64::from(r.weight));
            here
        });
        let chosen = chosen.unwrap_or(0);
        ordered.push(group[chosen].target.clone());
        let others = group.iter().enumerate().filter(|(i, _)| *i != chosen).map(|(_, r)| r.target.clone());
        ordered.extend(others);
    }
    ordered
}

/// Characters of a destination, as many as the columns have.
const LONGEST: usize = 128;

/// Whether a destination has a form we know.
pub fn check_target(target: &str) -> Result<(), String> {
    let known = match target.split_once(':') {
        Some(("account" | "smsc" | "sip", name)) => !name.is_empty(),
        Some(("http" | "https", rest)) => rest.starts_with("//"),
        _ => false,
    };
    if known && target.len() > LONGEST {
        return Err(format!(
            "the destination \"{target}\" has {} characters, and {LONGEST} are the most",
            target.len()
        ));
    }
    if known {
        return Ok(());
    }
    Err(format!(
        "\"{target}\" is no destination; there are account:NAME, smsc:NAME, sip:DOMAIN, http://..., https://..."
    ))
}

/// `30,60,300`: seconds.
pub fn retry(text: &str) -> Result<Vec<u32>, String> {
    let one = |word: &str| {
        word.parse().map_err(|_| format!("retry: \"{word}\" is no number of seconds, such as in 30,60,300"))
    };
    text.split([',', ' ']).filter(|w| !w.is_empty()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, target: &str) -> Route {
        Route {
            priority: 0,
            account: String::new(),
            sender: String::new(),
            prefix: prefix.into(),
            network: String::new(),
            content: None,
            target: target.into(),
            weight: 1,
            cost: 0,
            retry: Vec::new(),
        }
    }

    fn routed(destination: &str) -> Routed<'_> {
        Routed { account: "shop", source: "Shop", destination, text: "hello", chance: 0 }
    }

    fn first(routes: &Routes, r: Routed<'_>) -> Option<String> {
        routes.find(&r).first().map(|t| t.to_string())
    }

    #[test]
    fn the_longest_prefix_that_fits_decides() {
        let mut routes = Routes::default();
        routes.add(route("", "smsc:all"));
        routes.add(route("49", "smsc:de"));
        routes.add(Route { account: "bank".into(), ..route("4915", "smsc:bank") });
        assert_eq!(first(&routes, routed("4915")).unwrap(), "smsc:de");
        assert_eq!(first(&routes, routed("33")).unwrap(), "smsc:all");
        let bank = Routed { account: "bank", ..routed("49151") };
        assert_eq!(first(&routes, bank).unwrap(), "smsc:bank");
        assert_eq!(first(&Routes::default(), routed("49")), None);
    }

    #[test]
    fn networks_senders_and_texts_choose() {
        let mut routes = Routes::default();
        routes.add_network("4915", "26202");
        routes.add_network("4916", "26201");
        routes.add(Route { network: "26202".into(), ..route("", "smsc:vf") });
        routes.add(Route { network: "262".into(), priority: 1, ..route("", "smsc:de") });
        routes.add(Route { sender: "Vote".into(), ..route("44", "http://vote.example") });
        routes.add(Route { content: Some(Regex::new("(?i)^stop").unwrap()), ..route("44", "account:stop") });
        assert_eq!(first(&routes, routed("4915")).unwrap(), "smsc:vf");
        assert_eq!(first(&routes, routed("4916")).unwrap(), "smsc:de");
        assert_eq!(first(&routes, routed("33")), None);
        assert_eq!(first(&routes, Routed { text: "Stop it", ..routed("44") }).unwrap(), "account:stop");
        assert_eq!(
            first(&routes, Routed { source: "Vote1", ..routed("44") }).unwrap(),
            "http://vote.example"
        );
    }

    #[test]
    fn the_cheapest_is_first_and_weights_share_among_equals() {
        let mut routes = Routes::default();
        routes.add(Route { cost: 5, ..route("", "smsc:dear") });
        routes.add(Route { weight: 3, ..route("", "smsc:a") });
        routes.add(Route { weight: 1, ..route("", "smsc:b") });
        let shares = (0..400).filter(|i| {
            let found = routes.find(&Routed { chance: *i, ..routed("1") });
            assert_eq!(&*found[2], "smsc:dear");
            &*found[0] == "smsc:a"
        });
        assert_eq!(shares.count(), 300);
    }

    #[test]
    fn wrong_destinations_and_times_are_refused_with_what_would_be_right() {
        assert!(check_target("upstream").unwrap_err().contains("smsc:NAME"));
        assert!(check_target("smsc:").is_err());
        assert!(check_target(&format!("http://{}", "x".repeat(200))).unwrap_err().contains("207 characters"));
        assert_eq!(retry("30, 60"), Ok(vec![30, 60]));
        assert!(retry("soon").unwrap_err().contains("30,60,300"));
    }
}
