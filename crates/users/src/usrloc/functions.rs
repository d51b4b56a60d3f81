//! Script functions: key-value pairs kept with an address of record.

use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::Function;
use switchroom_script::Value;

use super::{Location, api};

/// So many pairs may be kept with one address of record.
const MAX_KEYS: usize = 256;

/// The table.
pub(super) static FUNCTIONS: &[Function] = &[
    Function::new(
        "ul_add_key",
        &["str!,str,str,[str]"],
        "*",
        add_key,
        "Keep a value with an address of record",
    ),
    Function::new("ul_get_key", &["str!,str,str,var"], "*", get_key, "Read a kept value"),
    Function::new("ul_del_key", &["str!,str,str"], "*", delete_key, "Forget a kept value"),
];

fn add_key(c: &mut Call<'_>) -> Flow {
    let (table, aor, key, value) = (c.text(0), c.text(1), c.text(2), c.text(3));
    let shard = c.ctx.shard.clone();
    let location = shard.kernel.state::<Location>();
    let Some(table) = api::find(location, &table) else { return FALSE };
    table.change(aor.as_bytes(), |record| {
        record.keys.retain(|(k, _)| **k != *key);
        if record.keys.len() >= MAX_KEYS {
            return FALSE;
        }
        record.keys.push((key.into(), value.into()));
        TRUE
    })
}

fn get_key(c: &mut Call<'_>) -> Flow {
    let (table, aor, key) = (c.text(0), c.text(1), c.text(2));
    let Some(var) = c.var(3) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let location = shard.kernel.state::<Location>();
    let Some(table) = api::find(location, &table) else { return FALSE };
    let found = table.read(aor.as_bytes(), |record| {
        let pair = record?.keys.iter().find(|(k, _)| **k == *key)?;
        Some(pair.1.to_string())
    });
    let Some(value) = found else { return FALSE };
    match c.ctx.set_var(&var, Value::Str(value.into())) {
        Ok(()) => TRUE,
        Err(_) => FALSE,
    }
}

fn delete_key(c: &mut Call<'_>) -> Flow {
    let (table, aor, key) = (c.text(0), c.text(1), c.text(2));
    let shard = c.ctx.shard.clone();
    let location = shard.kernel.state::<Location>();
    let Some(table) = api::find(location, &table) else { return FALSE };
    table.change(aor.as_bytes(), |record| {
        let before = record.keys.len();
        record.keys.retain(|(k, _)| **k != *key);
        if record.keys.len() < before { TRUE } else { FALSE }
    })
}
