//! Which groups a user is in: by a table of users, or by a table of expressions.
//!
//! Left out: groups asked of a RADIUS server.

mod expressions;

use std::sync::Arc;

use switchroom_kernel::context::{Call, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::{Command, Function, Module, Param, TableUse};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::store::{Query, SqlValue, Store};
use switchroom_wire::sip::digest::Credentials;
use switchroom_wire::sip::{HeaderId, NameAddr, Uri};

use crate::sql::column;
use expressions::Expressions;

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
        Param::unset("re_table", "Table of expressions, usually \"re_grp\""),
        Param::str("re_exp_column", "reg_exp", "Column"),
        Param::str("re_gid_column", "group_id", "Column"),
        Param::int("multiple_gid", "1", "1: all groups whose expression matches; 0: only the first"),
    ],
    functions: &[
        Function::new("db_is_user_in", &["str,str"], "RFBL", is_user_in, "Test whether a user is in a group")
            .asynchronous()
            .formerly(&["is_user_in"]),
        Function::new(
            "db_get_user_group",
            &["str,var"],
            "RFBL",
            expressions::get_user_group,
            "Groups of a user, by expressions",
        )
        .formerly(&["get_user_group"]),
    ],
    commands: &[Command {
        name: "group:reload",
        old_names: &[],
        args: "",
        help: "Read the table of expressions again",
        run: |call| Box::pin(expressions::reload(call)),
    }],
    tables: &[TableUse { name: "grp", version: 3 }, TableUse { name: "re_grp", version: 2 }],
    open,
    ..Module::EMPTY
};

struct Group {
    /// `None` when the script asks for expressions only.
    users: Option<(Arc<dyn Store>, Arc<str>)>,
    use_domain: bool,
    expressions: Option<Expressions>,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let table = column(o, "table")?;
    let (user, group) = (column(o, "user_column")?, column(o, "group_column")?);
    let use_domain = o.on("use_domain");
    let mut select = format!("SELECT {group} FROM {table} WHERE {user} = ? AND {group} = ?");
    if use_domain {
        select.push_str(&format!(" AND {} = ?", column(o, "domain_column")?));
    }
    let expressions = Expressions::open(o)?;
    // A script that only asks for expressions needs no table of users.
    let users = match expressions.is_none() || o.kernel.registry.is_called("db_is_user_in") {
        true => Some((o.store(o.str("db_url").as_deref(), &[(table.as_str(), 3)])?, select.into())),
        false => None,
    };
    o.provide(Group { users, use_domain, expressions });
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
    let Some((store, select)) = &state.users else { return FALSE };
    wait(store.fetch(Query::new(select.clone(), args)), |_, rows| match rows {
        Ok(rows) if rows.rows.is_empty() => FALSE,
        Ok(_) => TRUE,
        Err(e) => {
            tracing::error!("db_is_user_in(): {e}");
            FALSE
        }
    })
}

/// User and domain of a URI, or of the part of the message that a word names: `Request-URI`, `To`, `From`, `Credentials`.
fn whom(c: &Call<'_>) -> Option<(String, String)> {
    let text = c.str(0)?;
    let of_header = |id| {
        let header = c.ctx.msg.headers_of(id).next()?;
        Some(NameAddr::parse(header.value).ok()?.uri.to_vec())
    };
    let word = text.to_ascii_lowercase();
    if &word[..] == b"credentials" {
        let ids = [HeaderId::ProxyAuthorization, HeaderId::Authorization];
        let header = ids.into_iter().find_map(|id| c.ctx.msg.header(id))?;
        let value = header.unfolded();
        let credentials = Credentials::parse(&value).ok()?;
        let (user, domain) = credentials.user_and_domain();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        return Some((text(user), text(domain.unwrap_or(&credentials.realm))));
    }
    let uri = match &word[..] {
        b"request-uri" | b"request_uri" => c.ctx.ruri().to_vec(),
        b"to" => of_header(HeaderId::To)?,
        b"from" => of_header(HeaderId::From)?,
        _ => text.to_vec(),
    };
    let uri = Uri::parse(&uri).ok()?;
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Some((text(uri.user?), text(uri.host)))
}
