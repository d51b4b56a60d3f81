//! SQL from the script: raw statements, statements from JSON, and attributes of users kept in a table.
//!
//! Every function waits for its database without holding up other calls.

mod avps;
mod plain;
mod query;
mod structured;

use std::collections::BTreeMap;
use std::sync::Arc;

use switchroom_kernel::context::Call;
use switchroom_kernel::module::{Function, Module, Param};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::store::Store;

use crate::variables::Lists;
use avps::Scheme;

/// The module.
pub static MODULE: Module = Module {
    name: "sqlops",
    summary: "SQL from the script",
    old_names: &["avpops"],
    params: &[
        Param::multi(
            "db_url",
            "Database, with a number in front when there are several: \"1 sqlite:///file\"",
        ),
        Param::str("usr_table", "usr_preferences", "Table of attributes"),
        Param::int("use_domain", "1", "Users are looked up with their domain"),
        Param::str("uuid_column", "uuid", "Column"),
        Param::str("attribute_column", "attribute", "Column"),
        Param::str("value_column", "value", "Column"),
        Param::str("type_column", "type", "Column"),
        Param::str("username_column", "username", "Column"),
        Param::str("domain_column", "domain", "Column"),
        Param::multi("db_scheme", "Another table of attributes: \"name:table=t;uuid_col=u;value_col=v\""),
        Param::int("ps_id_max_buf_len", "1024", "Accepted for older scripts; drivers prepare by themselves"),
        Param::int("bigint_to_str", "0", "1: integers beyond 32 bits become text"),
    ],
    old_params: &[("avp_table", "usr_table")],
    functions: &[
        Function::new(
            "sql_query",
            &["str,[str~],[int]"],
            "*",
            query::all,
            "Run a statement; rows go to AVPs",
        )
        .asynchronous()
        .formerly(&["avp_db_query"]),
        Function::new("sql_query_one", &["str,[str~],[int]"], "*", query::one, "Run a statement; one row")
            .asynchronous(),
        Function::new(
            "sql_select",
            &["[str],str,[str],[str],[str~],[int]"],
            "*",
            structured::select,
            "Select rows into AVPs",
        )
        .asynchronous(),
        Function::new(
            "sql_select_one",
            &["[str],str,[str],[str],str~,[int]"],
            "*",
            structured::select_one,
            "Select one row",
        )
        .asynchronous(),
        Function::new("sql_update", &["str,str,[str],[int]"], "*", structured::update, "Update rows")
            .asynchronous(),
        Function::new("sql_insert", &["str,str,[int]"], "*", structured::insert, "Insert a row")
            .asynchronous(),
        Function::new("sql_delete", &["str,[str],[int]"], "*", structured::delete, "Delete rows")
            .asynchronous(),
        Function::new("sql_replace", &["str,str,[int]"], "*", structured::replace, "Insert or replace a row")
            .asynchronous(),
        Function::new("sql_avp_load", &["str~,str~,[int],[str]"], "*", avps::load, "Load attributes")
            .asynchronous()
            .formerly(&["avp_db_load"]),
        Function::new("sql_avp_store", &["str~,str~,[int]"], "*", avps::store, "Store attributes")
            .asynchronous()
            .formerly(&["avp_db_store"]),
        Function::new("sql_avp_delete", &["str~,str~,[int]"], "*", avps::delete, "Delete attributes")
            .asynchronous()
            .formerly(&["avp_db_delete"]),
        Function::new("is_avp_set", &["str~"], "*", plain::is_set, "Older scripts: `$avp(x) != NULL`"),
        Function::new("avp_delete", &["str~"], "*", plain::delete, "Older scripts: `$avp(x) = NULL`"),
        Function::new(
            "avp_insert",
            &["str~,str,[int]"],
            "*",
            plain::insert,
            "Older scripts: a value in the midst of those of an AVP",
        ),
        Function::new("avp_copy", &["str~,str~"], "*", plain::copy, "Older scripts: `$avp(y) = $avp(x)`"),
        Function::new(
            "avp_check",
            &["str~,str~"],
            "*",
            plain::check,
            "Older scripts: operators of conditions",
        ),
        Function::new("avp_subst", &["str~,str~"], "*", plain::substitute, "Older scripts: `{re.subst}`"),
        Function::new("avp_op", &["str~,str~"], "*", plain::calculate, "Older scripts: operators of numbers"),
        Function::new(
            "avp_pushto",
            &["str~,str~"],
            "RFOBL",
            plain::push_to,
            "Older scripts: `$ru = $avp(x)`",
        ),
    ],
    open,
    ..Module::EMPTY
};

/// State of the module.
struct SqlOps {
    stores: BTreeMap<i64, Arc<dyn Store>>,
    lists: Lists,
    bigint_to_text: bool,
    table: avps::Table,
    schemes: BTreeMap<String, Scheme>,
    plain: plain::Plain,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let mut stores = BTreeMap::new();
    for text in o.all("db_url") {
        let (number, url) = read_url(&text);
        // Scripts name the tables, so no version is asked for.
        stores.insert(number, o.store(Some(url), &[])?);
    }
    if stores.is_empty() && o.kernel.settings.str("db_default_url").is_some() {
        stores.insert(0, o.store(None, &[])?);
    }
    let mut schemes = BTreeMap::new();
    for text in o.all("db_scheme") {
        let (name, scheme) = Scheme::read(&text).map_err(|e| format!("db_scheme \"{text}\": {e}"))?;
        schemes.insert(name, scheme);
    }
    let state = SqlOps {
        stores,
        lists: Lists::default(),
        bigint_to_text: o.on("bigint_to_str"),
        table: avps::Table::open(o)?,
        schemes,
        plain: plain::Plain::default(),
    };
    o.provide(state);
    Ok(())
}

/// `1 sqlite:///file` or a URL alone, which has number 0.
fn read_url(text: &str) -> (i64, &str) {
    let text = text.trim();
    match text.split_once(char::is_whitespace) {
        Some((number, url)) => match number.parse() {
            Ok(number) => (number, url.trim()),
            Err(_) => (0, text),
        },
        None => (0, text),
    }
}

/// The database of argument number `i`, by default number 0.
fn database(c: &Call<'_>, i: usize) -> Option<Arc<dyn Store>> {
    let number = c.int(i).unwrap_or(0);
    let found = c.ctx.shard.kernel.state::<SqlOps>().stores.get(&number).cloned();
    if found.is_none() {
        tracing::error!("sqlops: there is no db_url with number {number}");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_have_numbers() {
        assert_eq!(read_url("sqlite:///a"), (0, "sqlite:///a"));
        assert_eq!(read_url("3 sqlite:///a"), (3, "sqlite:///a"));
        assert_eq!(read_url(" 1   postgres://h/d "), (1, "postgres://h/d"));
    }
}
