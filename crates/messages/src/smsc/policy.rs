//! What may not be sent: black lists, words, senders, texts that are too long or come again too soon. All of it is data in
//! the table `sms_policy`, read anew by command.

use std::collections::HashMap;
use std::hash::BuildHasher;

use parking_lot::Mutex;
use switchroom_kernel::ports::store::{Query, SqlValue, Store};
use switchroom_wire::smpp::Status;

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// Who sends.
    pub account: &'a str,
    /// Sender.
    pub source: &'a [u8],
    /// Recipient.
    pub destination: &'a [u8],
    /// `data_coding`
    pub coding: u8,
    /// Octets as they came.
    pub octets: &'a [u8],
    /// Text for people.
    pub text: &'a str,
    /// Unix seconds.
    pub now: i64,
}

/// The rules in force.
#[derive(Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// Empty: for everybody.
    account: String,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// Sender, or its beginning with `*`.
    BlackSender(String),
    BlackRecipient(String),
    /// In small letters.
    Word(String),
    /// The account's senders must be among these.
    Registered(String),
    /// Seconds for which the same text does not go to the same number again.
    Duplicates(i64),
    /// Octets of the longest text.
    Longest(usize),
    /// The account's codings must be among these.
    Coding(u8),
}

/// Texts that were sent lately.
#[derive(Default)]
pub struct Recent {
    seen: Mutex<(HashMap<u64, i64, foldhash::fast::RandomState>, i64)>,
    hasher: foldhash::fast::RandomState,
}

/// Texts remembered at a time; with more, the older half is forgotten.
const RECENT: usize = 1_000_000;

impl Recent {
    /// Whether the same was sent less than `window` seconds ago; if not, it counts as sent now.
    fn again(&self, checked: &Checked<'_>, window: i64) -> bool {
        let key =
            self.hasher.hash_one((checked.account, checked.source, checked.destination, checked.octets));
        let mut seen = self.seen.lock();
        let (map, swept) = &mut *seen;
        if map.len() >= RECENT || checked.now - *swept > 3600 {
            let oldest = checked.now - if map.len() >= RECENT { window / 2 } else { 86_400 };
            map.retain(|_, at| *at >= oldest);
            if map.len() >= RECENT {
                map.clear();
            }
            *swept = checked.now;
        }
        match map.get_mut(&key) {
            Some(at) if checked.now - *at < window => true,
            Some(at) => {
                *at = checked.now;
                false
            }
            None => {
                map.insert(key, checked.now);
                false
            }
        }
    }
}

impl Policy {
    /// Reads the table. A row that is wrong is an error that says what would be right.
    pub async fn load(store: &dyn Store) -> Result<Policy, String> {
        let sql = "SELECT account, kind, value FROM sms_policy WHERE enabled = 1";
        let rows = store.fetch(Query::new(sql, Vec::new())).await;
        let rows = rows.map_err(|e| format!("table sms_policy: {e}"))?;
        let text = |row: &[SqlValue], i: usize| {
            row.get(i).and_then(SqlValue::to_text).unwrap_or_default().trim().to_owned()
        };
        let mut policy = Policy::default();
        for row in &rows.rows {
            policy.add(&text(row, 0), &text(row, 1), &text(row, 2))?;
        }
        Ok(policy)
    }

    /// Adds one rule.
    pub fn add(&mut self, account: &str, kind: &str, value: &str) -> Result<(), String> {
        let number =
            || value.parse().map_err(|_| format!("sms_policy: {kind} must be a number, not \"{value}\""));
        let kind = match kind {
            "black_sender" => Kind::BlackSender(value.to_owned()),
            "black_recipient" => Kind::BlackRecipient(value.trim_start_matches('+').to_owned()),
            "word" => Kind::Word(value.to_lowercase()),
            "sender" => Kind::Registered(value.to_owned()),
            "duplicates" => Kind::Duplicates(number()?),
            "longest" => Kind::Longest(number()?.max(0) as usize),
            "coding" => Kind::Coding(number()?.clamp(0, 255) as u8),
            other => {
                return Err(format!(
                    "sms_policy: \"{other}\" is no kind of rule; there are black_sender, black_recipient, word, sender, duplicates, longest, coding"
                ));
            }
        };
        self.rules.push(Rule { account: account.to_owned(), kind });
        Ok(())
    }

    /// Whether any rule looks at the text.
    pub fn reads_text(&self) -> bool {
        self.rules.iter().any(|r| matches!(r.kind, Kind::Word(_)))
    }

    /// Whether the message may be sent, else the status that says why not.
    pub fn check(&self, c: &Checked<'_>, recent: &Recent) -> Result<(), Status> {
        if self.rules.is_empty() {
            return Ok(());
        }
        let mine =
            || self.rules.iter().filter(|r| r.account.is_empty() || r.account == c.account).map(|r| &r.kind);
        let lower = if self.reads_text() { c.text.to_lowercase() } else { String::new() };
        let (mut registered, mut coding, mut window) = (None, None, 0);
        for kind in mine() {
            match kind {
                Kind::BlackSender(p) if fits(p, c.source) => return Err(Status::BLACKLISTED),
                Kind::BlackRecipient(p) if fits(p, c.destination) => return Err(Status::BLACKLISTED),
                Kind::Word(word) if lower.contains(word.as_str()) => return Err(Status::FORBIDDENWORDS),
                Kind::Longest(most) if c.octets.len() > *most => return Err(Status::TEXTTOOLONG),
                Kind::Registered(p) => *registered.get_or_insert(false) |= fits(p, c.source),
                Kind::Coding(n) => *coding.get_or_insert(false) |= *n == c.coding,
                Kind::Duplicates(seconds) => window = window.max(*seconds),
                _ => {}
            }
        }
        if registered == Some(false) {
            return Err(Status::NOTREGISTERED);
        }
        if coding == Some(false) {
            return Err(Status::NODCS);
        }
        if window > 0 && recent.again(c, window) {
            return Err(Status::DUPLICATE);
        }
        Ok(())
    }
}

/// Whole, or a beginning that ends with `*`.
fn fits(pattern: &str, value: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => {
            value.len() >= prefix.len() && value[..prefix.len()].eq_ignore_ascii_case(prefix.as_bytes())
        }
        None => value.eq_ignore_ascii_case(pattern.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, now: i64) -> Checked<'_> {
        Checked {
            account: "shop",
            source: b"Shop",
            destination: b"491512345",
            coding: 0,
            octets: text.as_bytes(),
            text,
            now,
        }
    }

    fn verdict(rules: &[(&str, &str)], c: Checked<'_>) -> Result<(), Status> {
        let mut policy = Policy::default();
        for (kind, value) in rules {
            policy.add("", kind, value).unwrap();
        }
        policy.check(&c, &Recent::default())
    }

    #[test]
    fn each_rule_has_its_status() {
        let c = checked("Buy CASINO chips", 0);
        for (rule, status) in [
            (("black_sender", "shop"), Status::BLACKLISTED),
            (("black_recipient", "+49151*"), Status::BLACKLISTED),
            (("word", "casino"), Status::FORBIDDENWORDS),
            (("longest", "5"), Status::TEXTTOOLONG),
            (("sender", "Bank"), Status::NOTREGISTERED),
            (("coding", "8"), Status::NODCS),
        ] {
            assert_eq!(verdict(&[rule], c), Err(status), "{rule:?}");
        }
        assert_eq!(
            verdict(&[("sender", "Bank"), ("sender", "Sh*"), ("coding", "0"), ("word", "x1")], c),
            Ok(())
        );
        assert!(Policy::default().add("", "nothing", "").unwrap_err().contains("black_sender"));
    }

    #[test]
    fn the_same_text_waits_for_its_window() {
        let mut policy = Policy::default();
        policy.add("shop", "duplicates", "60").unwrap();
        let recent = Recent::default();
        assert_eq!(policy.check(&checked("hi", 100), &recent), Ok(()));
        assert_eq!(policy.check(&checked("hi", 159), &recent), Err(Status::DUPLICATE));
        assert_eq!(policy.check(&checked("ho", 159), &recent), Ok(()));
        assert_eq!(policy.check(&checked("hi", 160), &recent), Ok(()));
        let other = Checked { account: "other", ..checked("hi", 160) };
        assert_eq!(policy.check(&other, &recent), Ok(()));
    }
}
