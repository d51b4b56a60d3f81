//! Management commands.

use std::sync::atomic::Ordering::Relaxed;

use md5::{Digest, Md5};
use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};
use switchroom_script::Value;

use super::CfgUtils;

/// The table.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "cfgutils:rand_set_prob",
        old_names: &["rand_set_prob"],
        args: "prob_proc",
        help: "Set the percentage of rand_event()",
        run: |call| Box::pin(async move { set_probability(&call) }),
    },
    Command {
        name: "cfgutils:rand_reset_prob",
        old_names: &["rand_reset_prob"],
        args: "",
        help: "Set it back to its first value",
        run: |call| Box::pin(async move { reset_probability(&call) }),
    },
    Command {
        name: "cfgutils:rand_get_prob",
        old_names: &["rand_get_prob"],
        args: "",
        help: "The percentage of rand_event()",
        run: |call| Box::pin(async move { get_probability(&call) }),
    },
    Command {
        name: "cfgutils:get_config_hash",
        old_names: &["get_config_hash"],
        args: "",
        help: "The hash that hash_file had at start",
        run: |call| Box::pin(async move { get_hash(&call) }),
    },
    Command {
        name: "cfgutils:check_config_hash",
        old_names: &["check_config_hash"],
        args: "",
        help: "Whether hash_file has changed since start",
        run: |call| Box::pin(async move { check_hash(&call) }),
    },
    Command {
        name: "cfgutils:shv_get",
        old_names: &["shv_get"],
        args: "[name]",
        help: "One or all shared variables",
        run: |call| Box::pin(async move { shv_get(&call) }),
    },
    Command {
        name: "cfgutils:shv_set",
        old_names: &["shv_set"],
        args: "name,type,value",
        help: "Set a shared variable; the type is int or str",
        run: |call| Box::pin(async move { shv_set(&call) }),
    },
];

/// MD5 of a file in hexadecimal.
pub(super) fn hash(file: &str) -> std::io::Result<String> {
    let digest = Md5::digest(std::fs::read(file)?);
    Ok(digest.iter().map(|b| format!("{b:02x}")).collect())
}

fn set_probability(call: &CommandCall) -> CommandResult {
    match call.int("prob_proc")? {
        Some(p) if (0..=100).contains(&p) => {
            call.kernel.state::<CfgUtils>().probability.store(p, Relaxed);
            Ok(json!("OK"))
        }
        _ => Err(CommandError::args("a percentage is from 0 to 100")),
    }
}

fn reset_probability(call: &CommandCall) -> CommandResult {
    let state = call.kernel.state::<CfgUtils>();
    state.probability.store(state.initial_probability, Relaxed);
    Ok(json!("OK"))
}

fn get_probability(call: &CommandCall) -> CommandResult {
    let percentage = call.kernel.state::<CfgUtils>().probability.load(Relaxed);
    Ok(json!({ "Probability": format!("The actual probability is {percentage} percent") }))
}

fn hashed(kernel: &Kernel) -> Result<&(String, String), CommandError> {
    kernel.state::<CfgUtils>().hashed.as_ref().ok_or_else(|| CommandError::new(404, "no hash_file is set"))
}

fn get_hash(call: &CommandCall) -> CommandResult {
    Ok(json!(hashed(&call.kernel)?.1))
}

fn check_hash(call: &CommandCall) -> CommandResult {
    let (file, first) = hashed(&call.kernel)?;
    match hash(file) {
        Ok(now) if now == *first => Ok(json!("The actual config file hash is identical to the stored one.")),
        Ok(_) => Err(CommandError::new(400, "the config file has changed since start")),
        Err(e) => Err(CommandError::new(500, format!("{file}: {e}"))),
    }
}

fn shown(kernel: &Kernel, name: u32, value: &Value) -> Json {
    let name = kernel.registry.names.text(name);
    match value {
        Value::Int(i) => json!({"name": &*name, "type": "int", "value": i}),
        Value::Str(s) => json!({"name": &*name, "type": "str", "value": String::from_utf8_lossy(s)}),
        Value::Null => json!({"name": &*name, "type": "null", "value": null}),
    }
}

fn shv_get(call: &CommandCall) -> CommandResult {
    let kernel = &call.kernel;
    let shared = &kernel.state::<CfgUtils>().shared;
    if let Some(name) = call.text("name") {
        let key = kernel.registry.names.find(&name);
        let found = key.and_then(|key| Some((key, shared.find(key)?)));
        let (key, value) =
            found.ok_or_else(|| CommandError::new(404, format!("there is no $shv({name})")))?;
        return Ok(shown(kernel, key, &value));
    }
    let mut list: Vec<Json> = shared.all().iter().map(|(key, value)| shown(kernel, *key, value)).collect();
    list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    Ok(json!({ "VARs": list }))
}

fn shv_set(call: &CommandCall) -> CommandResult {
    let name = call.text("name").unwrap_or_default();
    let value = match call.text("type").as_deref() {
        Some("int") => Value::Int(call.int("value")?.unwrap_or(0)),
        Some("str") => Value::str(call.text("value").unwrap_or_default()),
        _ => return Err(CommandError::args("the type is int or str")),
    };
    let key = call.kernel.registry.names.intern(&name).map_err(|e| CommandError::new(500, e))?;
    if call.kernel.state::<CfgUtils>().shared.set(key, value) {
        Ok(json!("OK"))
    } else {
        Err(CommandError::new(500, "too many shared variables"))
    }
}
