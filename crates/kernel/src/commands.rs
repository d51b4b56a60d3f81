//! Management commands: arguments checked against the declaration, and the JSON-RPC 2.0 envelope that every transport
//! (FIFO, HTTP, datagram, command line) shares.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use crate::absent;
use crate::kernel::Kernel;
use crate::module::{Command, CommandCall, CommandError, CommandResult};

/// Run a command by name. `params` is an object, an array (positional), or null.
pub async fn run(kernel: &Arc<Kernel>, name: &str, params: Json) -> CommandResult {
    let Some(command) = kernel.registry.command(name) else {
        let advice = absent::command(name).unwrap_or("`which` lists them");
        return Err(CommandError::new(-32601, format!("no command `{name}`; {advice}")));
    };
    let args = arguments(command, params)?;
    (command.run)(CommandCall { kernel: kernel.clone(), args }).await
}

/// Handle one JSON-RPC 2.0 request or batch. `None` when nothing is to be answered (notifications).
pub async fn json_rpc(kernel: &Arc<Kernel>, text: &[u8]) -> Option<Json> {
    let request: Json = match serde_json::from_slice(text) {
        Ok(json) => json,
        Err(e) => return Some(failure(Json::Null, &CommandError::new(-32700, format!("not JSON: {e}")))),
    };
    match request {
        Json::Array(batch) if batch.is_empty() => {
            Some(failure(Json::Null, &CommandError::new(-32600, "empty batch")))
        }
        Json::Array(batch) => {
            let mut answers = Vec::new();
            for one in batch {
                answers.extend(single(kernel, one).await);
            }
            if answers.is_empty() { None } else { Some(Json::Array(answers)) }
        }
        one => single(kernel, one).await,
    }
}

async fn single(kernel: &Arc<Kernel>, request: Json) -> Option<Json> {
    let Json::Object(mut request) = request else {
        return Some(failure(Json::Null, &CommandError::new(-32600, "a request is an object")));
    };
    let id = request.remove("id");
    let version = request.get("jsonrpc").and_then(Json::as_str);
    if version != Some("2.0") {
        let error = CommandError::new(-32600, "`jsonrpc` must be \"2.0\"");
        return Some(failure(id.unwrap_or_default(), &error));
    }
    let Some(Json::String(method)) = request.remove("method") else {
        let error = CommandError::new(-32600, "`method` must be a string");
        return Some(failure(id.unwrap_or_default(), &error));
    };
    let params = request.remove("params").unwrap_or_default();
    let result = run(kernel, &method, params).await;
    let id = id?;
    Some(match result {
        Ok(result) => json!({"jsonrpc": "2.0", "result": result, "id": id}),
        Err(error) => failure(id, &error),
    })
}

fn failure(id: Json, error: &CommandError) -> Json {
    json!({"jsonrpc": "2.0", "error": {"code": error.code, "message": error.message}, "id": id})
}

/// Names and whether they may be left out, from the declaration `"a,b,[c]"`. A last argument `d..` takes all values that are
/// left, as an array.
pub fn declared(command: &Command) -> Vec<(&'static str, bool)> {
    let parts = command.args.split(',').map(str::trim).filter(|p| !p.is_empty());
    parts.map(|p| (p.trim_matches(['[', ']']).trim_end_matches(".."), p.starts_with('['))).collect()
}

fn arguments(command: &Command, params: Json) -> Result<Map<String, Json>, CommandError> {
    let declared = declared(command);
    let usage = || format!("usage: {}({})", command.name, command.args);
    let args = match params {
        Json::Null => Map::new(),
        Json::Object(map) => map,
        Json::Array(mut list) => {
            let takes_rest = command.args.trim_end_matches(']').ends_with("..");
            if takes_rest && list.len() > declared.len() {
                let rest = list.split_off(declared.len() - 1);
                list.push(Json::Array(rest));
            }
            if list.len() > declared.len() {
                return Err(CommandError::args(format!("too many arguments; {}", usage())));
            }
            declared.iter().map(|(n, _)| (*n).to_owned()).zip(list).collect()
        }
        _ => return Err(CommandError::args("`params` must be an object or an array")),
    };
    if let Some(unknown) = args.keys().find(|k| !declared.iter().any(|(n, _)| n == k)) {
        return Err(CommandError::args(format!("unknown argument `{unknown}`; {}", usage())));
    }
    if let Some((missing, _)) = declared.iter().find(|(n, optional)| !optional && !args.contains_key(*n)) {
        return Err(CommandError::args(format!("argument `{missing}` is missing; {}", usage())));
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    static TEST: Command = Command {
        name: "test:echo",
        old_names: &[],
        args: "text,[times]",
        help: "",
        run: |call| Box::pin(async move { Ok(Json::Object(call.args)) }),
    };

    #[test]
    fn a_last_argument_may_take_all_that_is_left() {
        let command = Command { args: "set,[names..]", name: "", old_names: &[], help: "", run: TEST.run };
        assert_eq!(arguments(&command, json!([1, "a", "b"])).unwrap()["names"], json!(["a", "b"]));
        assert_eq!(arguments(&command, json!([1, "a"])).unwrap()["names"], json!("a"));
        assert_eq!(arguments(&command, json!([1, ["a", "b"]])).unwrap()["names"], json!(["a", "b"]));
        assert_eq!(arguments(&command, json!([1])).unwrap().len(), 1);
        assert_eq!(arguments(&command, json!({"set": 1, "names": ["a"]})).unwrap()["names"], json!(["a"]));
    }

    #[test]
    fn arguments_by_name_and_by_position_are_checked() {
        assert_eq!(arguments(&TEST, json!(["a", 2])).unwrap()["times"], json!(2));
        assert_eq!(arguments(&TEST, json!({"text": "a"})).unwrap().len(), 1);
        assert!(arguments(&TEST, Json::Null).unwrap_err().message.contains("`text` is missing"));
        assert!(arguments(&TEST, json!({"txt": 1})).unwrap_err().message.contains("unknown argument"));
        assert!(arguments(&TEST, json!([1, 2, 3])).unwrap_err().message.contains("too many"));
    }
}
