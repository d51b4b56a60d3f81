//! Attributes of users in a table: loaded into AVPs, stored from them, deleted.
//!
//! Column `type` has bit 1 set when the name is text and bit 2 when the value is text; names here always are.

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::store::{Query, Rows, SqlValue};
use switchroom_script::vm::{Index, VarAccess};
use switchroom_script::{Value, Variable};
use switchroom_wire::sip::Uri;

use super::{SqlOps, database};
use crate::sql::{column, is_name};
use crate::variables;

/// Values of one attribute that are stored.
const MAX_VALUES: usize = 1000;
const TEXT_NAME: i64 = 1;
const TEXT_VALUE: i64 = 2;

/// The standard table and its columns.
pub(super) struct Table {
    name: String,
    uuid: String,
    attribute: String,
    value: String,
    kind: String,
    user: String,
    domain: String,
    use_domain: bool,
}

impl Table {
    /// From the parameters.
    pub(super) fn open(o: &Opening<'_>) -> Result<Table, String> {
        Ok(Table {
            name: column(o, "usr_table")?,
            uuid: column(o, "uuid_column")?,
            attribute: column(o, "attribute_column")?,
            value: column(o, "value_column")?,
            kind: column(o, "type_column")?,
            user: column(o, "username_column")?,
            domain: column(o, "domain_column")?,
            use_domain: o.on("use_domain"),
        })
    }
}

/// Another table: one column holds the values of one attribute.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scheme {
    table: Option<String>,
    uuid: Option<String>,
    user: Option<String>,
    domain: Option<String>,
    value: Option<String>,
    integer: bool,
}

impl Scheme {
    /// `name:table=t;uuid_col=u;value_col=v;value_type=integer`
    pub(super) fn read(text: &str) -> Result<(String, Scheme), String> {
        let (name, rest) = text.split_once(':').ok_or("a name and `:` are missing")?;
        let mut scheme = Scheme::default();
        for item in rest.split(';').map(str::trim).filter(|i| !i.is_empty()) {
            let (key, value) = item.split_once('=').ok_or_else(|| format!("\"{item}\" has no `=`"))?;
            let value = value.trim();
            if key.trim() == "value_type" {
                scheme.integer = value == "integer";
                continue;
            }
            if !is_name(value) {
                return Err(format!("\"{value}\" is no column or table name"));
            }
            let place = match key.trim() {
                "table" => &mut scheme.table,
                "uuid_col" => &mut scheme.uuid,
                "username_col" => &mut scheme.user,
                "domain_col" => &mut scheme.domain,
                "value_col" => &mut scheme.value,
                other => return Err(format!("\"{other}\" is not known")),
            };
            *place = Some(value.to_owned());
        }
        Ok((name.trim().to_owned(), scheme))
    }
}

/// Whose attributes.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Uuid(String),
    User(String),
    Domain(String),
    Address(String, String),
}

/// Which attribute.
struct Which<'a> {
    /// `None` stands for all.
    name: Option<String>,
    table: String,
    scheme: Option<&'a Scheme>,
}

/// `sql_avp_load(source, name[, number][, prefix])`
pub(super) fn load(c: &mut Call<'_>) -> Flow {
    let shard = c.ctx.shard.clone();
    let state = shard.kernel.state::<SqlOps>();
    let Some((owner, which)) = arguments(c, state) else { return FALSE };
    let Some(db) = database(c, 2) else { return FALSE };
    let prefix = c.text(3);
    let query = state.select(&owner, &which);
    let fixed = which.scheme.map(|s| (which.name.clone().unwrap_or_default(), s.integer));
    wait(db.fetch(query), move |ctx, rows| match rows {
        Ok(rows) => keep(ctx, rows, &prefix, fixed),
        Err(e) => {
            tracing::error!("sql_avp_load(): {e}");
            FALSE
        }
    })
}

/// Rows of value, attribute, type; or of values alone with a scheme.
fn keep(ctx: &mut Ctx, rows: Rows, prefix: &str, fixed: Option<(String, bool)>) -> Flow {
    let mut any = false;
    for row in rows.rows {
        let (name, integer) = match &fixed {
            Some((name, integer)) => (Some(name.clone()), *integer),
            None => {
                let kind = row.get(2).and_then(SqlValue::to_int).unwrap_or(TEXT_VALUE);
                (row.get(1).and_then(SqlValue::to_text), kind & TEXT_VALUE == 0)
            }
        };
        let cell = row.first();
        let value = match cell.and_then(SqlValue::to_int).filter(|_| integer) {
            Some(number) => Some(Value::Int(number)),
            None => cell.and_then(SqlValue::to_text).map(Value::str),
        };
        let (Some(name), Some(value)) = (name, value) else { continue };
        match ctx.shard.kernel.registry.names.intern(&format!("{prefix}{name}")) {
            Ok(key) => {
                ctx.avps.push(key, value);
                any = true;
            }
            Err(e) => tracing::error!("sql_avp_load(): {e}"),
        }
    }
    if any { TRUE } else { FALSE }
}

/// `sql_avp_store(source, name[, number])`
pub(super) fn store(c: &mut Call<'_>) -> Flow {
    let shard = c.ctx.shard.clone();
    let state = shard.kernel.state::<SqlOps>();
    let Some((owner, which)) = arguments(c, state) else { return FALSE };
    let Some(db) = database(c, 2) else { return FALSE };
    let Some(name) = &which.name else {
        tracing::error!("sql_avp_store(): name one attribute");
        return FALSE;
    };
    let Ok(key) = shard.kernel.registry.names.intern(name) else { return FALSE };
    let mut values: Vec<Value> = c.ctx.avps.all(key).take(MAX_VALUES).cloned().collect();
    // In the order in which they were written, so that loading gives the same stack again.
    values.reverse();
    if values.is_empty() {
        return FALSE;
    }
    let inserts = values.iter().map(|value| state.insert(&owner, &which, name, value)).collect();
    wait(db.batch(inserts), |_, done| match done {
        Ok(()) => TRUE,
        Err(e) => {
            tracing::error!("sql_avp_store(): {e}");
            FALSE
        }
    })
}

/// `sql_avp_delete(source, name[, number])`
pub(super) fn delete(c: &mut Call<'_>) -> Flow {
    let shard = c.ctx.shard.clone();
    let state = shard.kernel.state::<SqlOps>();
    let Some((owner, which)) = arguments(c, state) else { return FALSE };
    let Some(db) = database(c, 2) else { return FALSE };
    let query = state.delete(&owner, &which);
    wait(db.execute(query), |_, done| super::query::executed(done))
}

fn arguments<'a>(c: &mut Call<'_>, state: &'a SqlOps) -> Option<(Owner, Which<'a>)> {
    let (source, name) = (c.text(0), c.text(1));
    let found = owner(c.ctx, &source, state.table.use_domain)
        .and_then(|owner| Ok((owner, which(c.ctx, &name, state)?)));
    found.map_err(|e| tracing::error!("sqlops: {e}")).ok()
}

/// `(variable | text)[/username|domain|uri|uuid]`
fn owner(ctx: &mut Ctx, source: &str, use_domain: bool) -> Result<Owner, String> {
    let (what, flag) = match source.rsplit_once('/') {
        Some((what, flag @ ("username" | "domain" | "uri" | "uuid"))) => (what, Some(flag)),
        _ => (source, None),
    };
    let text = if what.starts_with('$') {
        let access = {
            let registry = &ctx.shard.kernel.registry;
            let variable = Variable::compile(what, registry)?;
            variable.access().cloned().ok_or_else(|| format!("{what} must have a fixed name"))?
        };
        ctx.get_var(&access).to_bytes().ok_or_else(|| format!("{what} is NULL"))?
    } else {
        Bytes::copy_from_slice(what.as_bytes())
    };
    let uri_variable = matches!(what, "$ru" | "$fu" | "$tu" | "$ou" | "$ruri" | "$from" | "$to" | "$ouri");
    pick(&text, flag.unwrap_or(if uri_variable { "uri" } else { "uuid" }), use_domain)
}

fn pick(text: &[u8], flag: &str, use_domain: bool) -> Result<Owner, String> {
    let plain = || String::from_utf8_lossy(text).into_owned();
    if flag == "uuid" {
        return Ok(Owner::Uuid(plain()));
    }
    let Ok(uri) = Uri::parse(text) else {
        return match flag {
            "username" => Ok(Owner::User(plain())),
            "domain" => Ok(Owner::Domain(plain())),
            _ => Err(format!("\"{}\" is no URI", plain())),
        };
    };
    let user = uri.user.map(|u| String::from_utf8_lossy(u).into_owned()).unwrap_or_default();
    let domain = String::from_utf8_lossy(uri.host).into_owned();
    Ok(match flag {
        "domain" => Owner::Domain(domain),
        "username" => Owner::User(user),
        _ if use_domain => Owner::Address(user, domain),
        _ => Owner::User(user),
    })
}

/// `($avp(name) | name | *)[/table | /$scheme]`
fn which<'a>(ctx: &Ctx, text: &str, state: &'a SqlOps) -> Result<Which<'a>, String> {
    let (name, rest) = match text.rsplit_once('/') {
        Some((name, rest)) => (name, Some(rest)),
        None => (text, None),
    };
    let name = match name.trim() {
        "" | "*" | "a" | "s" | "i" => None,
        name if name.starts_with('$') => {
            let access: VarAccess = variables::one(&ctx.shard.kernel.registry, name)?;
            let access = VarAccess { index: Index::None, ..access };
            let inner = ctx.shard.kernel.registry.inner_name(&access);
            Some(inner.map(|n| String::from_utf8_lossy(&n).into_owned()).ok_or("an AVP has a name")?)
        }
        name => Some(name.to_owned()),
    };
    let default = || state.table.name.clone();
    match rest {
        None => Ok(Which { name, table: default(), scheme: None }),
        Some(scheme) if scheme.starts_with('$') => {
            let found = state
                .schemes
                .get(&scheme[1..])
                .ok_or_else(|| format!("there is no db_scheme \"{scheme}\""))?;
            Ok(Which { name, table: found.table.clone().unwrap_or_else(default), scheme: Some(found) })
        }
        Some(table) if is_name(table) => Ok(Which { name, table: table.to_owned(), scheme: None }),
        Some(table) => Err(format!("\"{table}\" is no table name")),
    }
}

impl SqlOps {
    /// Columns that find the owner, with their values.
    fn keys(&self, owner: &Owner, scheme: Option<&Scheme>) -> Vec<(String, SqlValue)> {
        let t = &self.table;
        let own = |of: fn(&Scheme) -> &Option<String>, standard: &String| {
            scheme.and_then(|s| of(s).clone()).unwrap_or_else(|| standard.clone())
        };
        let uuid = own(|s| &s.uuid, &t.uuid);
        let user = own(|s| &s.user, &t.user);
        let domain = own(|s| &s.domain, &t.domain);
        match owner {
            Owner::Uuid(id) => vec![(uuid, id.as_str().into())],
            Owner::User(u) => vec![(user, u.as_str().into())],
            Owner::Domain(d) => vec![(domain, d.as_str().into())],
            Owner::Address(u, d) => vec![(user, u.as_str().into()), (domain, d.as_str().into())],
        }
    }

    fn conditions(&self, owner: &Owner, which: &Which<'_>) -> (String, Vec<SqlValue>) {
        let mut keys = self.keys(owner, which.scheme);
        if let (Some(name), None) = (&which.name, which.scheme) {
            keys.push((self.table.attribute.clone(), name.as_str().into()));
        }
        let tests: Vec<String> = keys.iter().map(|(column, _)| format!("{column} = ?")).collect();
        (tests.join(" AND "), keys.into_iter().map(|(_, value)| value).collect())
    }

    fn value_column<'a>(&'a self, scheme: Option<&'a Scheme>) -> &'a str {
        scheme.and_then(|s| s.value.as_deref()).unwrap_or(&self.table.value)
    }

    fn select(&self, owner: &Owner, which: &Which<'_>) -> Query {
        let (tests, args) = self.conditions(owner, which);
        let value = self.value_column(which.scheme);
        let more = match which.scheme {
            Some(_) => String::new(),
            None => format!(", {}, {}", self.table.attribute, self.table.kind),
        };
        Query::new(format!("SELECT {value}{more} FROM {} WHERE {tests}", which.table), args)
    }

    fn delete(&self, owner: &Owner, which: &Which<'_>) -> Query {
        let (tests, args) = self.conditions(owner, which);
        Query::new(format!("DELETE FROM {} WHERE {tests}", which.table), args)
    }

    fn insert(&self, owner: &Owner, which: &Which<'_>, name: &str, value: &Value) -> Query {
        let mut columns = self.keys(owner, which.scheme);
        if which.scheme.is_none() {
            let kind = if matches!(value, Value::Int(_)) { TEXT_NAME } else { TEXT_NAME | TEXT_VALUE };
            columns.push((self.table.attribute.clone(), name.into()));
            columns.push((self.table.kind.clone(), kind.into()));
        }
        let text = value.to_bytes().map_or(SqlValue::Null, |b| SqlValue::from(&b[..]));
        columns.push((self.value_column(which.scheme).to_owned(), text));
        let names: Vec<&str> = columns.iter().map(|(n, _)| n.as_str()).collect();
        let marks = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({marks})", which.table, names.join(", "));
        Query::new(sql, columns.into_iter().map(|(_, v)| v).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_names_an_owner() {
        let uri = b"sip:alice@example.org";
        assert_eq!(pick(uri, "uri", true), Ok(Owner::Address("alice".into(), "example.org".into())));
        assert_eq!(pick(uri, "uri", false), Ok(Owner::User("alice".into())));
        assert_eq!(pick(uri, "domain", true), Ok(Owner::Domain("example.org".into())));
        assert_eq!(pick(b"alice", "username", true), Ok(Owner::User("alice".into())));
        assert_eq!(pick(b"x-1", "uuid", true), Ok(Owner::Uuid("x-1".into())));
        assert!(pick(b"alice", "uri", true).is_err());
    }

    #[test]
    fn a_scheme_names_its_table_and_columns() {
        let (name, scheme) =
            Scheme::read("first:table=subscriber;uuid_col=uuid;value_col=first_name").unwrap();
        assert_eq!((name.as_str(), scheme.table.as_deref()), ("first", Some("subscriber")));
        assert_eq!(scheme.value.as_deref(), Some("first_name"));
        for bad in ["table=t", "a:table=t;x=y", "a:table=t t", "a:table"] {
            assert!(Scheme::read(bad).is_err(), "{bad}");
        }
    }
}
