//! Whether a user exists, and whether one who authenticated may use the user of a To or From.
//!
//! The table `uri` says which URI users (`uri_user`) belong to which authenticated user; in any other table the user who
//! authenticates and the user of the URI are the same.

use bytes::Bytes;
use switchroom_calls::core::credentials;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE, wait};
use switchroom_kernel::ports::store::{Query, Rows, SqlValue, StoreError};
use switchroom_script::Value;
use switchroom_wire::sip::{NameAddr, Uri};

use super::AuthDb;

/// Numbers of the statements, behind those of `authorize`.
const BY_URI: u8 = 8;
const BY_OWNER: u8 = 9;

/// `db_does_uri_exist([uri, table])`: without arguments the Request-URI, as in older scripts.
pub(super) fn does_uri_exist(c: &mut Call<'_>) -> Flow {
    let uri = c.str(0).cloned().unwrap_or_else(|| c.ctx.ruri());
    let table = table(c, 1);
    let shard = c.ctx.shard.clone();
    let db = shard.kernel.state::<AuthDb>();
    let Some(query) = db.by_uri(&table, &uri) else { return FALSE };
    wait(db.store.fetch(query), |_, rows| match rows_of(rows) {
        Some(rows) if !rows.is_empty() => TRUE,
        _ => FALSE,
    })
}

/// `db_get_auth_id(table, uri, user, realm)`
pub(super) fn get_auth_id(c: &mut Call<'_>) -> Flow {
    let (table, Some(uri)) = (c.text(0), c.str(1).cloned()) else { return FALSE };
    let (Some(user_var), Some(realm_var)) = (c.var(2), c.var(3)) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let db = shard.kernel.state::<AuthDb>();
    let Some(query) = db.by_uri(&table, &uri) else { return FALSE };
    wait(db.store.fetch(query), move |ctx, rows| {
        let Some(row) = rows_of(rows).and_then(|r| r.into_iter().next()) else { return FALSE };
        let text = |i: usize| match row.get(i).and_then(SqlValue::to_text) {
            Some(t) => Value::Str(Bytes::from(t)),
            None => Value::Null,
        };
        let set = ctx.set_var(&user_var, text(0)).and_then(|()| ctx.set_var(&realm_var, text(1)));
        match set {
            Ok(()) => TRUE,
            Err(e) => {
                tracing::error!("db_get_auth_id(): {e}");
                FALSE
            }
        }
    })
}

/// `db_is_to_authorized(table)`
pub(super) fn is_to_authorized(c: &mut Call<'_>) -> Flow {
    let msg = c.ctx.msg.clone();
    let Ok(to) = msg.to() else { return FALSE };
    is_authorized(c, &to)
}

/// `db_is_from_authorized(table)`
pub(super) fn is_from_authorized(c: &mut Call<'_>) -> Flow {
    let msg = c.ctx.msg.clone();
    let Ok(from) = msg.from() else { return FALSE };
    is_authorized(c, &from)
}

fn is_authorized(c: &mut Call<'_>, who: &NameAddr<'_>) -> Flow {
    let Ok(uri) = who.parse_uri() else { return FALSE };
    let Some(user) = uri.user.filter(|u| !u.is_empty()) else { return FALSE };
    let own = credentials(&c.ctx.msg, |own| {
        let (name, domain) = own.user_and_domain();
        (name.to_vec(), domain.unwrap_or(&own.realm).to_vec())
    });
    let Some((name, domain)) = own else {
        tracing::error!("db_is_to_authorized(), db_is_from_authorized(): the request has no credentials");
        return FALSE;
    };
    let shard = c.ctx.shard.clone();
    let db = shard.kernel.state::<AuthDb>();
    let table = table(c, 0);
    if !is_uri_table(&table) {
        let same = user == name && (!db.use_domain || uri.host.eq_ignore_ascii_case(&domain));
        return if same { TRUE } else { FALSE };
    }
    let Some(query) = db.by_owner(&table, &name, &domain, user) else { return FALSE };
    wait(db.store.fetch(query), |_, rows| match rows_of(rows) {
        Some(rows) if !rows.is_empty() => TRUE,
        _ => FALSE,
    })
}

/// The table given as argument `i`, else that of older scripts.
fn table(c: &Call<'_>, i: usize) -> String {
    if c.has(i) { c.text(i) } else { crate::uri::default_table(&c.ctx.shard.kernel) }
}

/// The standard table and copies of it are called so.
fn is_uri_table(table: &str) -> bool {
    table.rsplit('.').next().is_some_and(|name| name == "uri" || name.starts_with("uri_"))
}

impl AuthDb {
    /// Who owns a URI: its user and domain in the table.
    fn by_uri(&self, table: &str, uri: &[u8]) -> Option<Query> {
        let uri = Uri::parse(uri).ok()?;
        let user = uri.user.filter(|u| !u.is_empty())?;
        let c = &self.columns;
        let sql = self.statements.get(BY_URI, table, |table| {
            let key = if is_uri_table(table) { &c.uri_uriuser } else { &c.uri_user };
            let mut sql = format!("SELECT {}, {} FROM {table} WHERE {key} = ?", c.uri_user, c.uri_domain);
            if self.use_domain {
                sql.push_str(&format!(" AND {} = ?", c.uri_domain));
            }
            sql
        })?;
        let mut args = vec![SqlValue::from(user)];
        if self.use_domain {
            args.push(SqlValue::from(uri.host));
        }
        Some(Query::new(sql, args))
    }

    fn by_owner(&self, table: &str, name: &[u8], domain: &[u8], uri_user: &[u8]) -> Option<Query> {
        let c = &self.columns;
        let sql = self.statements.get(BY_OWNER, table, |table| {
            let mut sql = format!(
                "SELECT {} FROM {table} WHERE {} = ? AND {} = ?",
                c.uri_uriuser, c.uri_user, c.uri_uriuser
            );
            if self.use_domain {
                sql.push_str(&format!(" AND {} = ?", c.uri_domain));
            }
            sql
        })?;
        let mut args = vec![SqlValue::from(name), SqlValue::from(uri_user)];
        if self.use_domain {
            args.push(SqlValue::from(domain));
        }
        Some(Query::new(sql, args))
    }
}

fn rows_of(rows: Result<Rows, StoreError>) -> Option<Vec<Vec<SqlValue>>> {
    match rows {
        Ok(rows) => Some(rows.rows),
        Err(e) => {
            tracing::error!("auth_db: {e}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_table_is_known_by_its_name() {
        assert!(is_uri_table("uri") && is_uri_table("sip.uri") && is_uri_table("uri_2"));
        assert!(!is_uri_table("subscriber") && !is_uri_table("uris"));
    }
}
