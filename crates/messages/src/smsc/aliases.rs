//! Numbers of SIP users and SIP users of numbers, in the table of aliases (`dbaliases`), looked up for each message.

use std::sync::Arc;

use switchroom_kernel::ports::store::{Query, SqlValue, Store};

/// The table.
pub struct Aliases {
    store: Arc<dyn Store>,
    user_of: Arc<str>,
    number_of: Arc<str>,
}

impl Aliases {
    /// `table` must be a name of letters, digits and `_`.
    pub fn new(store: Arc<dyn Store>, table: &str) -> Result<Aliases, String> {
        if table.is_empty() || !table.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!("alias_table: \"{table}\" is no name of a table"));
        }
        Ok(Aliases {
            store,
            user_of: format!(
                "SELECT username, domain FROM {table} WHERE alias_username = ? AND alias_domain IN (?, '') ORDER BY alias_domain DESC LIMIT 1"
            )
            .into(),
            number_of: format!(
                "SELECT alias_username FROM {table} WHERE username = ? AND domain IN (?, '') ORDER BY domain DESC, id LIMIT 1"
            )
            .into(),
        })
    }

    /// `user@domain` of a number in this domain; `None` when it has no other name.
    pub async fn user_of(&self, number: &str, domain: &str) -> Option<String> {
        let row = self.row(&self.user_of, number, domain).await?;
        let text = |i: usize| row.get(i).and_then(SqlValue::to_text).map(|t| t.trim().to_owned());
        let user = text(0).filter(|u| !u.is_empty())?;
        let domain = text(1).filter(|d| !d.is_empty()).unwrap_or_else(|| domain.to_owned());
        Some(format!("{user}@{domain}"))
    }

    /// The number of `user@domain`.
    pub async fn number_of(&self, user: &str, domain: &str) -> Option<String> {
        let row = self.row(&self.number_of, user, domain).await?;
        row.first().and_then(SqlValue::to_text).map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
    }

    async fn row(&self, sql: &Arc<str>, name: &str, domain: &str) -> Option<Vec<SqlValue>> {
        match self.store.fetch(Query::new(sql.clone(), vec![name.into(), domain.into()])).await {
            Ok(rows) => rows.rows.into_iter().next(),
            Err(e) => {
                tracing::error!("smsc: alias of {name}@{domain}: {e}");
                None
            }
        }
    }
}
