//! Other names of users, looked up in SQL for each call; nothing is kept in memory.

use std::sync::Arc;

use bytes::Bytes;
use switchroom_calls::core::{branches, functions::target_of};
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::{Function, Module, Param, TableUse};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::store::{Query, Rows, SqlValue, Store, StoreError};
use switchroom_script::Value;
use switchroom_wire::sip::Uri;

use crate::sql::{self, Statements};

/// The module.
pub static MODULE: Module = Module {
    name: "alias_db",
    summary: "Aliases of users in SQL",
    params: &[
        Param::unset("db_url", "Database"),
        Param::str("user_column", "username", "Column"),
        Param::str("domain_column", "domain", "Column"),
        Param::str("alias_user_column", "alias_username", "Column"),
        Param::str("alias_domain_column", "alias_domain", "Column"),
        Param::unset("domain_prefix", "Taken off the domain before the lookup"),
        Param::int("append_branches", "0", "1: further users of an alias become branches"),
    ],
    functions: &[
        Function::new(
            "alias_db_lookup",
            &["str,[str]"],
            "RF",
            lookup,
            "Put the user of an alias into the Request-URI",
        )
        .asynchronous(),
        Function::new("alias_db_find", &["str,str,var,[str]"], "RFOBLS", find, "The user of an alias")
            .asynchronous(),
    ],
    tables: &[TableUse { name: "dbaliases", version: 2 }],
    open,
    ..Module::EMPTY
};

struct AliasDb {
    store: Arc<dyn Store>,
    statements: Statements,
    user: String,
    domain: String,
    alias_user: String,
    alias_domain: String,
    domain_prefix: String,
    append_branches: bool,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let state = AliasDb {
        // Scripts name the tables, often their own, so no version is asked for.
        store: o.store(o.str("db_url").as_deref(), &[])?,
        statements: Statements::default(),
        user: sql::column(o, "user_column")?,
        domain: sql::column(o, "domain_column")?,
        alias_user: sql::column(o, "alias_user_column")?,
        alias_domain: sql::column(o, "alias_domain_column")?,
        domain_prefix: o.text("domain_prefix"),
        append_branches: o.on("append_branches"),
    };
    o.provide(state);
    Ok(())
}

/// How to look up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    no_domain: bool,
    reverse: bool,
}

/// `no-domain,reverse`, or the letters `d` and `r` of older scripts.
fn parse_flags(text: &str) -> Flags {
    let mut flags = Flags::default();
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "no-domain" => flags.no_domain = true,
            "reverse" => flags.reverse = true,
            letters if letters.chars().all(|c| matches!(c, 'd' | 'r')) => {
                flags.no_domain |= letters.contains('d');
                flags.reverse |= letters.contains('r');
            }
            other => tracing::warn!("alias_db: \"{other}\" is no flag (no-domain, reverse)"),
        }
    }
    flags
}

/// `alias_db_lookup(table[, flags])`
fn lookup(c: &mut Call<'_>) -> Flow {
    let uri = c.ctx.ruri();
    let shard = c.ctx.shard.clone();
    let db = shard.kernel.state::<AliasDb>();
    let Some(query) = db.query(&c.text(0), &uri, parse_flags(&c.text(1))) else { return FALSE };
    wait(db.store.fetch(query), |ctx, rows| {
        let mut uris = uris(rows).into_iter();
        let Some(first) = uris.next() else { return FALSE };
        ctx.target.uri = Some(first);
        append(ctx, uris);
        TRUE
    })
}

fn append(ctx: &mut Ctx, uris: impl Iterator<Item = Bytes>) {
    if !ctx.shard.clone().kernel.state::<AliasDb>().append_branches {
        return;
    }
    for uri in uris {
        if !branches::push(ctx, target_of(uri)) {
            return;
        }
    }
}

/// `alias_db_find(table, uri, out[, flags])`
fn find(c: &mut Call<'_>) -> Flow {
    let (Some(uri), Some(out)) = (c.str(1).cloned(), c.var(2)) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let db = shard.kernel.state::<AliasDb>();
    let Some(query) = db.query(&c.text(0), &uri, parse_flags(&c.text(3))) else { return FALSE };
    wait(db.store.fetch(query), move |ctx, rows| {
        let Some(first) = uris(rows).into_iter().next() else { return FALSE };
        match ctx.set_var(&out, Value::Str(first)) {
            Ok(()) => TRUE,
            Err(e) => {
                tracing::error!("alias_db_find(): {e}");
                FALSE
            }
        }
    })
}

impl AliasDb {
    fn query(&self, table: &str, uri: &[u8], flags: Flags) -> Option<Query> {
        let uri = Uri::parse(uri).ok()?;
        let user = uri.user.filter(|u| !u.is_empty())?;
        let host = uri.host.strip_prefix(self.domain_prefix.as_bytes()).unwrap_or(uri.host);
        let kind = u8::from(flags.no_domain) | u8::from(flags.reverse) << 1;
        let sql = self.statements.get(kind, table, |table| self.statement(table, flags))?;
        let mut args = vec![SqlValue::from(user)];
        if !flags.no_domain {
            args.push(SqlValue::from(host));
        }
        Some(Query::new(sql, args))
    }

    fn statement(&self, table: &str, flags: Flags) -> String {
        let own = (&self.user, &self.domain);
        let alias = (&self.alias_user, &self.alias_domain);
        let (wanted, key) = if flags.reverse { (alias, own) } else { (own, alias) };
        let mut sql = format!("SELECT {}, {} FROM {table} WHERE {} = ?", wanted.0, wanted.1, key.0);
        if !flags.no_domain {
            sql.push_str(&format!(" AND {} = ?", key.1));
        }
        sql
    }
}

/// Rows of user and domain as SIP URIs; rows that make none are left out.
fn uris(rows: Result<Rows, StoreError>) -> Vec<Bytes> {
    let rows = match rows {
        Ok(rows) => rows.rows,
        Err(e) => {
            tracing::error!("alias_db: {e}");
            return Vec::new();
        }
    };
    let uri = |row: &Vec<SqlValue>| {
        let user = row.first()?.to_text()?;
        let domain = row.get(1)?.to_text()?;
        let uri = format!("sip:{user}@{domain}");
        Uri::parse(uri.as_bytes()).ok()?;
        Some(Bytes::from(uri))
    };
    rows.iter().filter_map(uri).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_words_and_as_letters() {
        let both = Flags { no_domain: true, reverse: true };
        assert_eq!(parse_flags("rd"), both);
        assert_eq!(parse_flags("no-domain, reverse"), both);
        assert_eq!(parse_flags(""), Flags::default());
        assert_eq!(parse_flags("x"), Flags::default());
    }

    #[test]
    fn rows_that_make_no_uri_are_left_out() {
        let row = |u: &str, d: &str| vec![SqlValue::from(u), SqlValue::from(d)];
        let rows = Rows {
            columns: Vec::new(),
            rows: vec![row("a", "h.org"), row("b c", "h.org"), vec![SqlValue::Null, SqlValue::Null]],
        };
        assert_eq!(uris(Ok(rows)), [Bytes::from_static(b"sip:a@h.org")]);
    }
}
