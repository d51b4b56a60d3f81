//! Which groups a user is in, by a table.
//!
//! Left out: groups by expression and groups asked of a RADIUS server.

use std::sync::Arc;

use switchroom_kernel::context::{Call, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::{Function, Module, Param, TableUse};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::store::{Query, SqlValue, Store};
use switchroom_wire::sip::{HeaderId, NameAddr, Uri};

use crate::sql::column;

/// The module.
pub static MODULE: Module = Module {
    name: "group",
    summary: "Groups of users in a table",
    params: &[
        Param::unset("db_url", "Database"),
        Param::str("table", "grp", "Table"),
        Param::str("user_column", "username", "Column"),
        Param::str("domain_column", "domain", "Column"),
        Param::str("group_column", "grp", "Column"),
        Param::int("use_domain", "1", "Users are looked up with their domain"),
    ],
    functions: &[Function::new(
        "db_is_user_in",
        &["str,str"],
        "RFBL",
        is_user_in,
        "Test whether a user is in a group",
    )
    .asynchronous()
    .formerly(&["is_user_in"])],
    tables: &[TableUse { name: "grp", version: 3 }],
    open,
    ..Module::EMPTY
};

struct Group {
    store: Arc<dyn Store>,
    select: Arc<str>,
    use_domain: bool,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let table = column(o, "table")?;
    let (user, group) = (column(o, "user_column")?, column(o, "group_column")?);
    let use_domain = o.on("use_domain");
    let mut select = format!("SELECT {group} FROM {table} WHERE {user} = ? AND {group} = ?");
    if use_domain {
        select.push_str(&format!(" AND {} = ?", column(o, "domain_column")?));
    }
    let store = o.store(o.str("db_url").as_deref(), &[(table.as_str(), 3)])?;
    o.provide(Group { store, select: select.into(), use_domain });
    Ok(())
}

/// `db_is_user_in(user, group)`
fn is_user_in(c: &mut Call<'_>) -> Flow {
    let Some((user, domain)) = whom(c) else {
        tracing::error!("db_is_user_in(): \"{}\" names no user", c.text(0));
        return FALSE;
    };
    let shard = c.ctx.shard.clone();
    let state = shard.kernel.state::<Group>();
    let mut args = vec![SqlValue::from(user), SqlValue::from(c.text(1))];
    if state.use_domain {
        args.push(SqlValue::from(domain));
    }
    wait(state.store.fetch(Query::new(state.select.clone(), args)), |_, rows| match rows {
        Ok(rows) if rows.rows.is_empty() => FALSE,
        Ok(_) => TRUE,
        Err(e) => {
            tracing::error!("db_is_user_in(): {e}");
            FALSE
        }
    })
}

/// User and domain of a URI, or of the part of the message that a word names: `Request-URI`, `To`, `From`.
fn whom(c: &Call<'_>) -> Option<(String, String)> {
    let text = c.str(0)?;
    let of_header = |id| {
        let header = c.ctx.msg.headers_of(id).next()?;
        Some(NameAddr::parse(header.value).ok()?.uri.to_vec())
    };
    let uri = match &text.to_ascii_lowercase()[..] {
        b"request-uri" | b"request_uri" => c.ctx.ruri().to_vec(),
        b"to" => of_header(HeaderId::To)?,
        b"from" => of_header(HeaderId::From)?,
        _ => text.to_vec(),
    };
    let uri = Uri::parse(&uri).ok()?;
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Some((text(uri.user?), text(uri.host)))
}
