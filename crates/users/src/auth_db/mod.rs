//! Digest authentication against a table of subscribers, and what belongs to whom.

mod authorize;
mod checks;

use std::sync::Arc;

use switchroom_kernel::module::{Function, Module, Param, TableUse};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::store::Store;
use switchroom_script::Variable;
use switchroom_script::vm::VarAccess;

use crate::auth::api::Header;
use crate::sql::{self, Statements};

/// The module.
pub static MODULE: Module = Module {
    name: "auth_db",
    summary: "Authentication against a table",
    needs: &["auth"],
    params: &[
        Param::unset("db_url", "Database"),
        Param::str("user_column", "username", "Column"),
        Param::str("domain_column", "domain", "Column"),
        Param::str("password_column", "ha1", "Column of the MD5 HA1, or of the password with calculate_ha1"),
        Param::unset(
            "password_column_2",
            "Column of the HA1 for user names that have a domain; of older tables",
        ),
        Param::str("hash_column_sha256", "ha1_sha256", "Column of the SHA-256 HA1"),
        Param::str("hash_column_sha512t256", "ha1_sha512t256", "Column of the SHA-512-256 HA1"),
        Param::str("uri_user_column", "username", "Column of the user that authenticates"),
        Param::str("uri_domain_column", "domain", "Column of the domain"),
        Param::str("uri_uriuser_column", "uri_user", "Column of the user a URI may have"),
        Param::int("calculate_ha1", "0", "1: password_column holds passwords, 0: HA1s"),
        Param::int("use_domain", "1", "Users are looked up with their domain"),
        Param::unset("load_credentials", "Columns to load into variables: \"$avp(x)=column;other\""),
        Param::int("skip_version_check", "0", "Do not look at the version of the table subscriber"),
    ],
    functions: &[
        Function::new(
            "www_authorize",
            &["str,str"],
            "R",
            |c| authorize::authorize(c, Header::Www),
            "Check Authorization",
        )
        .asynchronous(),
        Function::new(
            "proxy_authorize",
            &["str,str"],
            "R",
            |c| authorize::authorize(c, Header::Proxy),
            "Check Proxy-Authorization",
        )
        .asynchronous(),
        Function::new(
            "db_does_uri_exist",
            &["str,str", ""],
            "RFL",
            checks::does_uri_exist,
            "Test for the user of a URI",
        )
        .formerly(&["does_uri_exist"])
        .asynchronous(),
        Function::new(
            "db_get_auth_id",
            &["str,str,var,var"],
            "RFL",
            checks::get_auth_id,
            "Who authenticates for a URI",
        )
        .formerly(&["get_auth_id"])
        .asynchronous(),
        Function::new(
            "db_is_to_authorized",
            &["[str]"],
            "R",
            checks::is_to_authorized,
            "Test To against the credentials",
        )
        .formerly(&["db_check_to", "check_to"])
        .asynchronous(),
        Function::new(
            "db_is_from_authorized",
            &["[str]"],
            "R",
            checks::is_from_authorized,
            "Test From against the credentials",
        )
        .formerly(&["db_check_from", "check_from"])
        .asynchronous(),
    ],
    tables: &[TableUse { name: "subscriber", version: 8 }, TableUse { name: "uri", version: 2 }],
    open,
    ..Module::EMPTY
};

/// State of the module.
pub(crate) struct AuthDb {
    store: Arc<dyn Store>,
    statements: Statements,
    columns: Columns,
    calculate_ha1: bool,
    use_domain: bool,
    load: Vec<(VarAccess, String)>,
}

struct Columns {
    user: String,
    domain: String,
    password: String,
    password_2: Option<String>,
    sha256: String,
    sha512_256: String,
    uri_user: String,
    uri_domain: String,
    uri_uriuser: String,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let tables: &[(&str, u32)] = if o.on("skip_version_check") { &[] } else { &[("subscriber", 8)] };
    let store = o.store(o.str("db_url").as_deref(), tables)?;
    let columns = Columns {
        user: sql::column(o, "user_column")?,
        domain: sql::column(o, "domain_column")?,
        password: sql::column(o, "password_column")?,
        password_2: match o.str("password_column_2").filter(|c| !c.is_empty()) {
            Some(_) => Some(sql::column(o, "password_column_2")?),
            None => None,
        },
        sha256: sql::column(o, "hash_column_sha256")?,
        sha512_256: sql::column(o, "hash_column_sha512t256")?,
        uri_user: sql::column(o, "uri_user_column")?,
        uri_domain: sql::column(o, "uri_domain_column")?,
        uri_uriuser: sql::column(o, "uri_uriuser_column")?,
    };
    let state = AuthDb {
        store,
        statements: Statements::default(),
        columns,
        calculate_ha1: o.on("calculate_ha1"),
        use_domain: o.on("use_domain"),
        load: load_credentials(o)?,
    };
    o.provide(state);
    Ok(())
}

/// `"$avp(x)=column;other"`: a column without variable goes into the AVP of its name.
fn load_credentials(o: &Opening<'_>) -> Result<Vec<(VarAccess, String)>, String> {
    let mut list = Vec::new();
    for (variable, column) in split_credentials(&o.text("load_credentials"))? {
        let compiled = Variable::compile(&variable, &o.kernel.registry)
            .map_err(|e| format!("parameter `load_credentials`: {e}"))?;
        let access = compiled
            .access()
            .ok_or_else(|| format!("parameter `load_credentials`: \"{variable}\" must have a fixed name"))?;
        list.push((access.clone(), column));
    }
    Ok(list)
}

fn split_credentials(text: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text.split(';').map(str::trim).filter(|p| !p.is_empty());
    parts
        .map(|part| {
            let (variable, column) = match part.rsplit_once('=') {
                Some((v, c)) => (v.trim().to_owned(), c.trim()),
                None => (format!("$avp({part})"), part),
            };
            match sql::is_name(column) {
                true => Ok((variable, column.to_owned())),
                false => Err(format!("parameter `load_credentials`: \"{column}\" is no column name")),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_to_load_have_a_variable_or_get_one() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let list = split_credentials(" $avp(13)=rpid; email_address ;").unwrap();
        assert_eq!(list, [pair("$avp(13)", "rpid"), pair("$avp(email_address)", "email_address")]);
        assert!(split_credentials("$avp(x)=a b").is_err());
        assert!(split_credentials("").unwrap().is_empty());
    }
}
