//! Management commands: show, add and remove contacts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::ports::store::StoreError;

use super::contact::{Contact, Field, Sync, Texts};
use super::table::Table;
use super::{Location, api, shared};

/// The table.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "usrloc:rm",
        old_names: &["ul_rm"],
        args: "table_name,aor",
        help: "Remove all contacts of an address of record",
        run: |call| Box::pin(remove(call)),
    },
    Command {
        name: "usrloc:rm_contact",
        old_names: &["ul_rm_contact"],
        args: "table_name,aor,contact",
        help: "Remove one contact",
        run: |call| Box::pin(remove_contact(call)),
    },
    Command {
        name: "usrloc:dump",
        old_names: &["ul_dump"],
        args: "[brief]",
        help: "All contacts",
        run: |call| Box::pin(dump(call)),
    },
    Command {
        name: "usrloc:flush",
        old_names: &["ul_flush"],
        args: "",
        help: "Write what is not in the database yet",
        run: |call| {
            Box::pin(async move {
                api::flush(&call.kernel).await;
                Ok(json!("OK"))
            })
        },
    },
    Command {
        name: "usrloc:add",
        old_names: &["ul_add"],
        args: "table_name,aor,contact,expires,q,flags,cflags,methods",
        help: "Add a contact",
        run: |call| Box::pin(add(call)),
    },
    Command {
        name: "usrloc:show_contact",
        old_names: &["ul_show_contact"],
        args: "table_name,aor",
        help: "Contacts of an address of record",
        run: |call| Box::pin(show(call)),
    },
    Command {
        name: "usrloc:sync",
        old_names: &["ul_sync"],
        args: "table_name,[aor]",
        help: "Write a table, or one address of record, to the database again",
        run: |call| Box::pin(sync(call)),
    },
];

fn the_table(call: &CommandCall) -> Result<Arc<Table>, CommandError> {
    let name = call.text("table_name").unwrap_or_default();
    let location = call.kernel.state::<Location>();
    api::find(location, &name).ok_or_else(|| CommandError::new(404, format!("no table `{name}`")))
}

/// `user` or `user@domain`, as the tables hold them.
fn the_aor(call: &CommandCall) -> String {
    let aor = call.text("aor").unwrap_or_default();
    let aor = aor.strip_prefix("sip:").map(str::to_owned).unwrap_or(aor);
    match (call.kernel.state::<Location>().use_domain, aor.split_once('@')) {
        (false, Some((user, _))) => user.to_owned(),
        _ => aor,
    }
}

fn failed(e: StoreError) -> CommandError {
    CommandError::new(500, e.to_string())
}

async fn remove(call: CommandCall) -> CommandResult {
    let (table, aor) = (the_table(&call)?, the_aor(&call));
    let done = shared::change_now(&call.kernel, &table, aor.as_bytes(), |contacts| {
        let any = !contacts.is_empty();
        contacts.clear();
        any
    });
    match done.await.map_err(failed)? {
        true => Ok(json!("OK")),
        false => Err(CommandError::new(404, "AOR not found")),
    }
}

async fn remove_contact(call: CommandCall) -> CommandResult {
    let (table, aor) = (the_table(&call)?, the_aor(&call));
    let uri = call.text("contact").unwrap_or_default();
    let done = shared::change_now(&call.kernel, &table, aor.as_bytes(), |contacts| {
        let before = contacts.len();
        contacts.retain(|c| c.uri() != uri.as_bytes());
        contacts.len() < before
    });
    match done.await.map_err(failed)? {
        true => Ok(json!("OK")),
        false => Err(CommandError::new(404, "Contact not found")),
    }
}

async fn add(call: CommandCall) -> CommandResult {
    let table = {
        let name = call.text("table_name").unwrap_or_default();
        api::table(call.kernel.state::<Location>(), &name)
    };
    let aor = the_aor(&call);
    let uri = call.text("contact").unwrap_or_default();
    if switchroom_wire::sip::Uri::parse(uri.as_bytes()).is_err() {
        return Err(CommandError::args(format!("`contact` \"{uri}\" is no URI")));
    }
    let now = call.kernel.unix();
    let expires = call.int("expires")?.unwrap_or(0).max(0) as u64;
    let q = call.text("q").and_then(|q| q.parse::<f64>().ok()).map_or(-1, |q| (q * 1000.0) as i16);
    let location = call.kernel.state::<Location>();
    let id = api::new_id(location);
    let (flags, cflags) = (call.int("flags")?.unwrap_or(0), call.int("cflags")?.unwrap_or(0));
    let methods = call.int("methods")?.filter(|m| *m != 0).map_or(u32::MAX, |m| m as u32);
    let done = shared::change_now(&call.kernel, &table, aor.as_bytes(), |contacts| {
        contacts.retain(|c| c.uri() != uri.as_bytes());
        let texts = Texts { uri: uri.as_bytes(), call_id: b"management", ..Texts::default() };
        let mut c = Contact::new(&texts);
        c.id = id;
        c.expires = if expires == 0 { 0 } else { now + expires };
        c.modified = now;
        c.q = q;
        c.flags = flags as u32;
        c.cflags = cflags as u32;
        c.methods = methods;
        contacts.push(c);
    });
    done.await.map_err(failed)?;
    Ok(json!("OK"))
}

fn contact_json(kernel: &Kernel, c: &Contact, now: u64) -> Json {
    let mut out = Map::new();
    let mut put = |name: &str, value: Json| {
        out.insert(name.into(), value);
    };
    put("Contact", json!(c.string(Field::Uri)));
    put("ContactID", json!(c.id.to_string()));
    put("Expires", if c.expires == 0 { json!("permanent") } else { json!(c.expires as i64 - now as i64) });
    put("Q", if c.q < 0 { json!("") } else { json!(f64::from(c.q) / 1000.0) });
    put("Callid", json!(c.string(Field::CallId)));
    put("Cseq", json!(c.cseq));
    put("User-agent", json!(c.string(Field::UserAgent)));
    for (name, field) in [("Received", Field::Received), ("Path", Field::Path), ("Attr", Field::Attr)] {
        let text = c.string(field);
        if !text.is_empty() {
            put(name, json!(text));
        }
    }
    put(
        "State",
        json!(match c.sync {
            Sync::New => "CS_NEW",
            Sync::Clean => "CS_SYNC",
            Sync::Dirty => "CS_DIRTY",
        }),
    );
    put("Flags", json!(c.flags));
    put("Cflags", json!(kernel.registry.names.flag_names(FlagKind::Branch, c.cflags)));
    if let Some(s) = c.socket.and_then(|s| kernel.socket(s)) {
        put("Socket", json!(s.name()));
    }
    put("Methods", json!(c.methods));
    if c.latency > 0 {
        put("Latency", json!(c.latency));
    }
    let instance = c.string(Field::Instance);
    if !instance.is_empty() {
        put("SIP_instance", json!(instance));
    }
    Json::Object(out)
}

async fn show(call: CommandCall) -> CommandResult {
    let (table, aor) = (the_table(&call)?, the_aor(&call));
    let now = call.kernel.unix();
    let contacts = shared::contacts(&call.kernel, &table, aor.as_bytes()).await.map_err(failed)?;
    let live = contacts.iter().filter(|c| c.is_live(now));
    let list: Vec<Json> = live.map(|c| contact_json(&call.kernel, c, now)).collect();
    match list.is_empty() {
        false => Ok(json!({"AOR": aor, "Contacts": list})),
        true => Err(CommandError::new(404, "AOR not found")),
    }
}

async fn dump(call: CommandCall) -> CommandResult {
    let brief = call.text("brief").is_some_and(|b| b != "0" && b != "false");
    let now = call.kernel.unix();
    let shown = |aor: &[u8], contacts: &[Contact]| {
        let name = String::from_utf8_lossy(aor);
        match brief {
            true => json!({"AOR": name}),
            false => {
                let list = contacts.iter().map(|c| contact_json(&call.kernel, c, now));
                json!({"AOR": name, "Contacts": list.collect::<Vec<_>>()})
            }
        }
    };
    let mut domains = Vec::new();
    for table in api::tables(call.kernel.state::<Location>()) {
        let mut aors = Vec::new();
        match shared::all(&call.kernel, &table) {
            Some(rows) => {
                let mut by_aor: BTreeMap<Vec<u8>, Vec<Contact>> = BTreeMap::new();
                for (aor, contact) in rows.await.map_err(failed)? {
                    by_aor.entry(aor).or_default().push(contact);
                }
                aors.extend(by_aor.iter().map(|(aor, contacts)| shown(aor, contacts)));
            }
            None => table.retain(|aor, record| {
                aors.push(shown(aor, &record.contacts));
                true
            }),
        }
        domains.push(json!({"name": table.name, "hash_size": table.parts(), "AORs": aors}));
    }
    Ok(json!({"Domains": domains}))
}

async fn sync(call: CommandCall) -> CommandResult {
    let table = the_table(&call)?;
    if call.kernel.state::<Location>().is_shared() {
        return Err(CommandError::new(400, "in sql-only the database has everything already"));
    }
    let wanted = call.args.contains_key("aor").then(|| the_aor(&call));
    table.retain(|aor, record| {
        if wanted.as_ref().is_none_or(|w| w.as_bytes() == aor) {
            for c in &mut record.contacts {
                c.sync = Sync::Dirty;
            }
        }
        true
    });
    api::flush(&call.kernel).await;
    Ok(json!("OK"))
}
