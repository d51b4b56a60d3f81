//! `www_authorize()` and `proxy_authorize()`: the secret of the presented user from a table, then the decision.

use std::sync::Arc;

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, Flow, wait};
use switchroom_kernel::ports::store::{Query, Rows, SqlValue, StoreError};
use switchroom_script::Value;
use switchroom_wire::sip::digest::Algorithm;

use super::{AuthDb, Columns};
use crate::auth::api::{self, Header, Presented, Secret};

/// `www_authorize(realm, table)`, `proxy_authorize(realm, table)`
pub(super) fn authorize(c: &mut Call<'_>, header: Header) -> Flow {
    let realm = c.str(0).cloned().unwrap_or_default();
    let asked = match api::presented(c.ctx, &realm, header) {
        Ok(asked) => asked,
        Err(code) => return Flow::Value(code),
    };
    let shard = c.ctx.shard.clone();
    let db = shard.kernel.state::<AuthDb>();
    let Some(query) = db.query(&c.text(1), &asked) else { return Flow::Value(api::GENERIC) };
    wait(db.store.fetch(query), move |ctx, rows| Flow::Value(decide(ctx, &asked, rows)))
}

/// Which column has the secret for an answer; the number tells statements apart.
fn secret_column<'a>(columns: &'a Columns, calculate: bool, asked: &Presented) -> (u8, &'a str) {
    if calculate {
        return (0, &columns.password);
    }
    match asked.algorithm {
        Algorithm::Md5 | Algorithm::Md5Sess => match &columns.password_2 {
            Some(second) if asked.full_user != asked.user => (1, second),
            _ => (0, &columns.password),
        },
        Algorithm::Sha256 | Algorithm::Sha256Sess => (2, &columns.sha256),
        Algorithm::Sha512_256 | Algorithm::Sha512_256Sess => (3, &columns.sha512_256),
    }
}

impl AuthDb {
    fn query(&self, table: &str, asked: &Presented) -> Option<Query> {
        let (kind, secret) = secret_column(&self.columns, self.calculate_ha1, asked);
        let sql: Arc<str> = self.statements.get(kind, table, |table| {
            let mut sql = format!("SELECT {secret}");
            for (_, column) in &self.load {
                sql.push_str(", ");
                sql.push_str(column);
            }
            sql.push_str(&format!(" FROM {table} WHERE {} = ?", self.columns.user));
            if self.use_domain {
                sql.push_str(&format!(" AND {} = ?", self.columns.domain));
            }
            sql
        })?;
        let mut args = vec![SqlValue::from(&asked.user[..])];
        if self.use_domain {
            args.push(SqlValue::from(&asked.domain[..]));
        }
        Some(Query::new(sql, args))
    }
}

fn decide(ctx: &mut Ctx, asked: &Presented, rows: Result<Rows, StoreError>) -> i64 {
    let rows = match rows {
        Ok(rows) => rows.rows,
        Err(e) => {
            tracing::error!("authentication: {e}");
            return api::GENERIC;
        }
    };
    let shard = ctx.shard.clone();
    let db = shard.kernel.state::<AuthDb>();
    let Some(row) = rows.first() else { return api::decide(ctx, asked, None) };
    // A user without a secret for this algorithm exists, but nobody can prove to be him.
    let text = row.first().and_then(SqlValue::to_text).filter(|t| !t.is_empty());
    let Some(text) = text.map(Bytes::from) else { return api::WRONG_PASSWORD };
    let secret = if db.calculate_ha1 { Secret::Password(text) } else { Secret::Ha1(text) };
    let code = api::decide(ctx, asked, Some(&secret));
    if code == api::AUTHORIZED {
        for ((var, column), value) in db.load.iter().zip(&row[1..]) {
            let value = match value {
                SqlValue::Null => continue,
                SqlValue::Int(i) => Value::Int(*i),
                other => Value::Str(other.to_text().unwrap_or_default().into()),
            };
            if let Err(e) = ctx.set_var(var, value) {
                tracing::error!("loading column {column}: {e}");
            }
        }
    }
    code
}
