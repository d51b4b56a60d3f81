//! Who may do what: groups of addresses in a table, kept in memory, and files of rules for calls, registrations and URIs.
//!
//! `table` decides about addresses, `rules` reads and applies files. Both are read at start; the table again with
//! `permissions:address_reload`.

mod commands;
mod functions;
mod rules;
mod table;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use switchroom_calls::core::partition::Partition;
use switchroom_kernel::module::{Function, Module, Param, TableUse};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::store::{Query, Store, StoreError};

use crate::sql;
use rules::Files;
use table::Addresses;

/// The module.
pub static MODULE: Module = Module {
    name: "permissions",
    summary: "Groups of addresses in a table, and files of rules",
    params: &[
        Param::str("default_allow_file", "permissions.allow", "Allow file of functions without a name"),
        Param::str("default_deny_file", "permissions.deny", "Deny file of functions without a name"),
        Param::int("check_all_branches", "1", "allow_routing() looks at all branches"),
        Param::str("allow_suffix", ".allow", "Makes the allow file of a name"),
        Param::str("deny_suffix", ".deny", "Makes the deny file of a name"),
        Param::multi("partition", "Further table: \"name: db_url = ...; table_name = ...\""),
        Param::unset("db_url", "Database of the default partition"),
        Param::str("address_table", "address", "Table"),
        Param::str("ip_col", "ip", "Column"),
        Param::str("proto_col", "proto", "Column"),
        Param::str("pattern_col", "pattern", "Column"),
        Param::str("info_col", "context_info", "Column"),
        Param::str("grp_col", "grp", "Column"),
        Param::str("mask_col", "mask", "Column"),
        Param::str("port_col", "port", "Column"),
    ],
    functions: &[
        Function::new(
            "check_address",
            &["int,str,int,str,[var],[str],[str]"],
            "RFBLSTV",
            functions::check_address,
            "Test whether an address is in a group",
        ),
        Function::new(
            "check_source_address",
            &["int,[var],[str],[str]"],
            "RFBLSTV",
            functions::check_source_address,
            "Test whether the sender is in a group",
        ),
        Function::new(
            "get_source_group",
            &["var,[str]"],
            "RFBL",
            functions::get_source_group,
            "Group of the sender",
        ),
        Function::new(
            "allow_routing",
            &["[str]"],
            "RFL",
            functions::allow_routing,
            "Test From and Request-URIs against files",
        ),
        Function::new(
            "allow_register",
            &["str"],
            "RFL",
            functions::allow_register,
            "Test To and Contacts against files",
        ),
        Function::new(
            "allow_uri",
            &["str,str"],
            "RFBLSTV",
            functions::allow_uri,
            "Test From and a URI against files",
        ),
    ],
    commands: commands::COMMANDS,
    tables: &[TableUse { name: "address", version: 5 }],
    open,
    ..Module::EMPTY
};

/// State of the module.
pub(crate) struct Permissions {
    partitions: Vec<Part>,
    /// Rules by the name a function gives; the empty name has the default files.
    files: HashMap<String, Files>,
    check_all_branches: bool,
}

/// One table of addresses.
struct Part {
    name: String,
    store: Arc<dyn Store>,
    select: Arc<str>,
    addresses: RwLock<Arc<Addresses>>,
}

impl Permissions {
    /// The partition of that name, the default one for an empty name.
    fn partition(&self, name: &str) -> Option<&Part> {
        let name = if name.is_empty() { "default" } else { name };
        self.partitions.iter().find(|p| p.name == name)
    }
}

impl Part {
    fn open(o: &Opening<'_>, name: &str, url: Option<&str>, table: &str) -> Result<Part, String> {
        if !sql::is_name(table) {
            return Err(format!("\"{table}\" is no table name"));
        }
        let store = o.store(url, &[(table, 5)])?;
        let mut columns = Vec::new();
        for param in ["grp_col", "ip_col", "mask_col", "port_col", "proto_col", "pattern_col", "info_col"] {
            columns.push(sql::column(o, param)?);
        }
        let part = Part {
            name: name.to_owned(),
            store,
            select: format!("SELECT {} FROM {table}", columns.join(", ")).into(),
            addresses: RwLock::default(),
        };
        block_on(part.reload()).map_err(|e| format!("table `{table}`: {e}"))?;
        Ok(part)
    }

    /// Read the table again; the number of rows that make sense.
    async fn reload(&self) -> Result<usize, StoreError> {
        let rows = self.store.fetch(Query::new(self.select.clone(), Vec::new())).await?;
        let new = Arc::new(Addresses::read(&rows));
        let count = new.len();
        tracing::info!("permissions: partition {}: {count} addresses loaded", self.name);
        *self.addresses.write() = new;
        Ok(count)
    }
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let table = o.text("address_table");
    let own_url = o.str("db_url").filter(|u| !u.is_empty());
    let mut partitions: Vec<Part> = Vec::new();
    for text in o.all("partition") {
        let p = Partition::parse(&text)?;
        if let Some(key) = p.unknown(&["db_url", "table_name"]) {
            return Err(format!(
                "partition \"{}\": `{key}` is not known; there are db_url and table_name",
                p.name
            ));
        }
        if partitions.iter().any(|known| known.name == p.name) {
            return Err(format!("partition \"{}\" is there twice", p.name));
        }
        let url = p.get("db_url").or(own_url.as_deref());
        partitions.push(Part::open(o, &p.name, url, p.get("table_name").unwrap_or(&table))?);
    }
    // Scripts that only use files need no database.
    let registry = &o.kernel.registry;
    let asked =
        ["check_address", "check_source_address", "get_source_group"].iter().any(|f| registry.is_called(f));
    let default_url = o.kernel.settings.str("db_default_url").is_some();
    let wanted = own_url.is_some() || (asked && default_url);
    if wanted && !partitions.iter().any(|p| p.name == "default") {
        partitions.push(Part::open(o, "default", own_url.as_deref(), &table)?);
    }
    let files = read_files(o)?;
    o.provide(Permissions { partitions, files, check_all_branches: o.on("check_all_branches") });
    Ok(())
}

/// The files of every name that the script gives.
fn read_files(o: &Opening<'_>) -> Result<HashMap<String, Files>, String> {
    let mut files = HashMap::new();
    let registry = &o.kernel.registry;
    if registry.is_called("allow_routing") {
        files
            .insert(String::new(), Files::read(&o.text("default_allow_file"), &o.text("default_deny_file"))?);
    }
    let (allow, deny) = (o.text("allow_suffix"), o.text("deny_suffix"));
    for function in ["allow_routing", "allow_register", "allow_uri"] {
        for name in registry.static_args(function, 0) {
            let name = String::from_utf8_lossy(&name).into_owned();
            let read = Files::read(&format!("{name}{allow}"), &format!("{name}{deny}"))?;
            files.insert(name, read);
        }
    }
    Ok(files)
}
