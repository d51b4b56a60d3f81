//! Distribution lists of `submit_multi`: names that stand for several recipients, in the table `sms_list`,
//! read anew by command.

use std::collections::HashMap;

use switchroom_kernel::ports::store::{Query, SqlValue, Store};

use super::message::Addr;

/// Recipients of one `submit_multi`, members of its lists included.
pub const MOST: usize = 10_000;

/// Lists by account and name; those of the account "" are for all.
#[derive(Debug, Default)]
pub struct Lists(HashMap<(String, String), Vec<Addr>>);

impl Lists {
    /// Reads the table.
    pub async fn load(store: &dyn Store) -> Result<Lists, String> {
        let sql = "SELECT account, name, address FROM sms_list ORDER BY id";
        let rows =
            store.fetch(Query::new(sql, Vec::new())).await.map_err(|e| format!("table sms_list: {e}"))?;
        let mut lists = Lists::default();
        for row in &rows.rows {
            let text =
                |i: usize| row.get(i).and_then(SqlValue::to_text).unwrap_or_default().trim().to_owned();
            lists.0.entry((text(0), text(1))).or_default().push(Addr::parse(&text(2)));
        }
        Ok(lists)
    }

    /// The members of a list of this account, or of one for all.
    pub fn find(&self, account: &str, name: &str) -> Option<&[Addr]> {
        let of = |account: &str| self.0.get(&(account.to_owned(), name.to_owned()));
        of(account).or_else(|| of("")).map(|l| &l[..])
    }

    /// Account, name and members of each, sorted.
    pub fn all(&self) -> Vec<(&str, &str, &[Addr])> {
        let mut all: Vec<_> = self.0.iter().map(|((a, n), l)| (a.as_str(), n.as_str(), &l[..])).collect();
        all.sort_by_key(|(a, n, _)| (*a, *n));
        all
    }
}
