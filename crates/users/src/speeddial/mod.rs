//! Short numbers of users, looked up in SQL for each call; nothing is kept in memory.

use std::sync::Arc;

use bytes::Bytes;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::{Function, Module, Param, TableUse};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::store::{Query, Rows, SqlValue, Store, StoreError};
use switchroom_wire::sip::Uri;

use crate::sql::{self, Statements};

/// The module.
pub static MODULE: Module = Module {
    name: "speeddial",
    summary: "Short numbers of users in SQL",
    params: &[
        Param::unset("db_url", "Database"),
        Param::str("user_column", "username", "Column of the owner's user"),
        Param::str("domain_column", "domain", "Column of the owner's domain"),
        Param::str("sd_user_column", "sd_username", "Column of the short number"),
        Param::str("sd_domain_column", "sd_domain", "Column of the short number's domain"),
        Param::str("new_uri_column", "new_uri", "Column of the URI to call"),
        Param::int("use_domain", "0", "0: no domains, 1: the owner's, 2: the short number's as well"),
        Param::unset("domain_prefix", "Taken off the owner's domain before the lookup"),
    ],
    functions: &[Function::new(
        "sd_lookup",
        &["str,[str]"],
        "R",
        lookup,
        "Put what a short number stands for into the Request-URI",
    )
    .asynchronous()],
    tables: &[TableUse { name: "speed_dial", version: 3 }],
    open,
    ..Module::EMPTY
};

/// Domains that take part in a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domains {
    None,
    Owner,
    Both,
}

struct SpeedDial {
    store: Arc<dyn Store>,
    statements: Statements,
    user: String,
    domain: String,
    short_user: String,
    short_domain: String,
    new_uri: String,
    domains: Domains,
    domain_prefix: String,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let domains = match o.int("use_domain") {
        0 => Domains::None,
        1 => Domains::Owner,
        2 => Domains::Both,
        other => return Err(format!("use_domain is 0, 1 or 2, not {other}")),
    };
    let state = SpeedDial {
        // Scripts name the tables, often their own, so no version is asked for.
        store: o.store(o.str("db_url").as_deref(), &[])?,
        statements: Statements::default(),
        user: sql::column(o, "user_column")?,
        domain: sql::column(o, "domain_column")?,
        short_user: sql::column(o, "sd_user_column")?,
        short_domain: sql::column(o, "sd_domain_column")?,
        new_uri: sql::column(o, "new_uri_column")?,
        domains,
        domain_prefix: o.text("domain_prefix"),
    };
    o.provide(state);
    Ok(())
}

/// `sd_lookup(table[, owner])`
fn lookup(c: &mut Call<'_>) -> Flow {
    let owner = match c.str(1).cloned() {
        Some(given) => given,
        None => match c.ctx.msg.from() {
            Ok(from) => Bytes::copy_from_slice(from.uri),
            Err(_) => return FALSE,
        },
    };
    let short = c.ctx.ruri();
    let shard = c.ctx.shard.clone();
    let db = shard.kernel.state::<SpeedDial>();
    let Some(query) = db.query(&c.text(0), &owner, &short) else { return FALSE };
    wait(db.store.fetch(query), |ctx, rows| match first_uri(rows) {
        Some(uri) => {
            ctx.target.uri = Some(uri);
            TRUE
        }
        None => FALSE,
    })
}

impl SpeedDial {
    fn query(&self, table: &str, owner: &[u8], short: &[u8]) -> Option<Query> {
        let (owner, short) = (Uri::parse(owner).ok()?, Uri::parse(short).ok()?);
        let named = |uri: &Uri<'_>| uri.user.filter(|u| !u.is_empty()).map(SqlValue::from);
        let mut args = vec![named(&owner)?, named(&short)?];
        if self.domains != Domains::None {
            let domain = owner.host.strip_prefix(self.domain_prefix.as_bytes()).unwrap_or(owner.host);
            args.push(SqlValue::from(domain));
        }
        if self.domains == Domains::Both {
            args.push(SqlValue::from(short.host));
        }
        let sql = self.statements.get(0, table, |table| self.statement(table))?;
        Some(Query::new(sql, args))
    }

    fn statement(&self, table: &str) -> String {
        let mut sql = format!(
            "SELECT {} FROM {table} WHERE {} = ? AND {} = ?",
            self.new_uri, self.user, self.short_user
        );
        let domains: &[&String] = match self.domains {
            Domains::None => &[],
            Domains::Owner => &[&self.domain],
            Domains::Both => &[&self.domain, &self.short_domain],
        };
        for column in domains {
            sql.push_str(&format!(" AND {column} = ?"));
        }
        sql
    }
}

/// The first row's URI; text without a scheme is a SIP address.
fn first_uri(rows: Result<Rows, StoreError>) -> Option<Bytes> {
    let rows = match rows {
        Ok(rows) => rows.rows,
        Err(e) => {
            tracing::error!("speeddial: {e}");
            return None;
        }
    };
    let text = rows.first()?.first()?.to_text()?;
    let text = if text.contains(':') { text } else { format!("sip:{text}") };
    match Uri::parse(text.as_bytes()) {
        Ok(_) => Some(text.into()),
        Err(_) => {
            tracing::error!("speeddial: \"{text}\" in the table is no URI");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_uri_is_called() {
        let rows = |text: &str| Ok(Rows { columns: Vec::new(), rows: vec![vec![SqlValue::from(text)]] });
        assert_eq!(first_uri(rows("sip:a@h.org")).as_deref(), Some(&b"sip:a@h.org"[..]));
        assert_eq!(first_uri(rows("a@h.org")).as_deref(), Some(&b"sip:a@h.org"[..]));
        assert_eq!(first_uri(rows("sip:a b")), None);
        assert_eq!(first_uri(Ok(Rows { columns: Vec::new(), rows: Vec::new() })), None);
    }
}
