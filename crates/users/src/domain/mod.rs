//! Domains this server is responsible for, in a table: asked for each time, or kept in memory until reloaded.

mod commands;
mod table;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::{Function, Module, Param, TableUse};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::store::{Query, SqlValue, Store};
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;
use switchroom_wire::sip::Uri;

use crate::sql;
use table::{Domains, candidates};

/// The module.
pub static MODULE: Module = Module {
    name: "domain",
    summary: "Local domains in a table",
    params: &[
        Param::unset("db_url", "Database"),
        Param::int("db_mode", "0", "0: ask each time, 1: keep in memory until domain:reload"),
        Param::str("domain_table", "domain", "Table"),
        Param::str("domain_col", "domain", "Column"),
        Param::str("attrs_col", "attrs", "Column of free attributes"),
        Param::str("accept_subdomain_col", "accept_subdomain", "Column: 1 when subdomains are local as well"),
    ],
    functions: &[
        Function::new("is_from_local", &["[var]"], "RFBL", is_from_local, "Test the domain of From")
            .asynchronous(),
        Function::new(
            "is_uri_host_local",
            &["[var]"],
            "RFBL",
            is_uri_host_local,
            "Test the domain of the Request-URI",
        )
        .asynchronous(),
        Function::new("is_domain_local", &["str,[var]"], "RFBL", is_domain_local, "Test a domain")
            .asynchronous(),
    ],
    commands: commands::COMMANDS,
    tables: &[TableUse { name: "domain", version: 4 }],
    open,
    ..Module::EMPTY
};

/// State of the module.
pub(crate) struct Domain {
    store: Arc<dyn Store>,
    /// All rows.
    select_all: Arc<str>,
    /// Rows of a host and its parents.
    select_some: Arc<str>,
    /// The table in memory; `None` when it is asked each time.
    kept: Option<RwLock<Arc<Domains>>>,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let name = sql::column(o, "domain_table")?;
    let store = o.store(o.str("db_url").as_deref(), &[(name.as_str(), 4)])?;
    let columns = [
        sql::column(o, "domain_col")?,
        sql::column(o, "attrs_col")?,
        sql::column(o, "accept_subdomain_col")?,
    ];
    let select_all: Arc<str> = format!("SELECT {} FROM {name}", columns.join(", ")).into();
    let marks = ["?"; table::MAX_CANDIDATES].join(", ");
    let select_some = format!("{select_all} WHERE {} IN ({marks})", columns[0]).into();
    let kept = match o.int("db_mode") {
        0 => None,
        1 => {
            let rows = block_on(store.fetch(Query::new(select_all.clone(), Vec::new())))
                .map_err(|e| format!("table `{name}`: {e}"))?;
            Some(RwLock::new(Arc::new(Domains::read(&rows))))
        }
        other => return Err(format!("db_mode is {other}; it must be 0 or 1")),
    };
    o.provide(Domain { store, select_all, select_some, kept });
    Ok(())
}

/// `is_from_local([attributes])`
fn is_from_local(c: &mut Call<'_>) -> Flow {
    let Some(request) = c.ctx.request().cloned() else { return FALSE };
    let host = request.from().ok().and_then(|f| f.parse_uri().ok()).map(|u| u.host_bare().to_vec());
    let out = c.var(0);
    host.map_or(FALSE, |h| check(c.ctx, &h, out))
}

/// `is_uri_host_local([attributes])`; in a branch route the Request-URI is that of the branch.
fn is_uri_host_local(c: &mut Call<'_>) -> Flow {
    let uri = c.ctx.ruri();
    let out = c.var(0);
    match Uri::parse(&uri) {
        Ok(u) => check(c.ctx, u.host_bare(), out),
        Err(_) => FALSE,
    }
}

/// `is_domain_local(domain[, attributes])`
fn is_domain_local(c: &mut Call<'_>) -> Flow {
    let Some(host) = c.str(0).cloned() else { return FALSE };
    let out = c.var(1);
    check(c.ctx, &host, out)
}

fn check(ctx: &mut Ctx, host: &[u8], out: Option<VarAccess>) -> Flow {
    let Some(host) = table::normal(host) else { return FALSE };
    let shard = ctx.shard.clone();
    let domain = shard.kernel.state::<Domain>();
    if let Some(kept) = &domain.kept {
        let domains = kept.read().clone();
        return answer(ctx, domains.find(&host), out.as_ref());
    }
    let mut args: Vec<SqlValue> = candidates(&host).map(SqlValue::from).collect();
    // The statement stays the same whatever the number of labels.
    args.resize(table::MAX_CANDIDATES, SqlValue::from(host.as_str()));
    let query = Query::new(domain.select_some.clone(), args);
    wait(domain.store.fetch(query), move |ctx, rows| match rows {
        Ok(rows) => answer(ctx, Domains::read(&rows).find(&host), out.as_ref()),
        Err(e) => {
            tracing::error!("domain: {e}");
            FALSE
        }
    })
}

/// `found` is nothing when the domain is not local, else its attributes.
fn answer(ctx: &mut Ctx, found: Option<Option<Bytes>>, out: Option<&VarAccess>) -> Flow {
    let Some(attributes) = found else { return FALSE };
    if let (Some(out), Some(attributes)) = (out, attributes)
        && let Err(e) = ctx.set_var(out, Value::Str(attributes))
    {
        tracing::error!("domain attributes: {e}");
        return FALSE;
    }
    TRUE
}
