//! Management over HTTP: JSON-RPC 2.0 requests and batches are POSTed to one path of the listener of `httpd`.
//!
//! Left out: tracing of commands, whose parameters are known but have no effect.

use std::sync::Arc;

use switchroom_kernel::Kernel;
use switchroom_kernel::commands;
use switchroom_kernel::module::{Module, Param};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::http::{HttpRequest, HttpResponse};

use crate::httpd::api;

/// The module.
pub static MODULE: Module = Module {
    name: "mi_http",
    summary: "Management commands over HTTP",
    needs: &["httpd"],
    old_names: &["mi_json"],
    params: &[
        Param::str("root", "mi", "Path that requests are posted to"),
        Param::int("pretty_printing", "0", "Answers in several indented lines"),
        Param::unset("trace_destination", "Known, without effect"),
        Param::unset("trace_bwlist", "Known, without effect"),
    ],
    old_params: &[("mi_http_root", "root"), ("mi_json_root", "root"), ("mi_http_method", "")],
    open,
    ..Module::EMPTY
};

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    if o.given("trace_destination") {
        tracing::warn!("mi_http: trace_destination has no effect: there is no tracing of commands");
    }
    let root = o.text("root");
    let root = root.trim_matches('/');
    if root.is_empty() {
        return Err("root is empty; it must be one segment of a path".into());
    }
    let pretty = o.on("pretty_printing");
    let handler = move |kernel: &Arc<Kernel>, request: HttpRequest| {
        let kernel = kernel.clone();
        Box::pin(async move { answer(&kernel, request, pretty).await }) as _
    };
    api::register(o, root, Arc::new(handler))
}

async fn answer(kernel: &Arc<Kernel>, request: HttpRequest, pretty: bool) -> HttpResponse {
    match request.method.as_str() {
        "POST" => run(kernel, &request, pretty).await,
        "GET" | "HEAD" => api::plain(200, help(kernel)),
        _ => not_allowed(),
    }
}

/// The refusal of other methods.
pub(crate) fn not_allowed() -> HttpResponse {
    let mut refused = api::plain(405, "POST a JSON-RPC 2.0 request, or GET what there is\n");
    refused.headers.push(("Allow".into(), "GET, HEAD, POST".into()));
    refused
}

/// The answer to a JSON-RPC request or batch that was posted.
pub(crate) async fn run(kernel: &Arc<Kernel>, request: &HttpRequest, pretty: bool) -> HttpResponse {
    // Any web page can make a browser post plain text or a form to this address, but not this type.
    let content_type = request.headers.iter().find(|(n, _)| n == "content-type").map_or("", |(_, v)| v);
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !["application/json", "application/json-rpc", "application/jsonrequest"]
        .iter()
        .any(|t| media_type.eq_ignore_ascii_case(t))
    {
        return api::plain(415, "the Content-Type of a request is application/json\n");
    }
    let Some(answer) = commands::json_rpc(kernel, &request.body).await else {
        // Notifications only: there is nothing to say.
        return api::plain(204, "");
    };
    let text = match pretty {
        true => serde_json::to_vec_pretty(&answer),
        false => serde_json::to_vec(&answer),
    };
    match text {
        Ok(text) => api::answer(200, "application/json", text),
        Err(e) => api::plain(500, format!("the answer cannot be printed: {e}\n")),
    }
}

fn help(kernel: &Kernel) -> String {
    let mut text = "Management commands. POST a JSON-RPC 2.0 request with Content-Type application/json:\n\
                    {\"jsonrpc\":\"2.0\",\"method\":\"COMMAND\",\"params\":{...},\"id\":1}\n\n"
        .to_owned();
    for c in kernel.registry.all_commands() {
        text.push_str(&format!("{}({})  {}\n", c.name, c.args, c.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use switchroom_kernel::module::Command;

    use super::*;
    use crate::httpd;
    use crate::testing::{Listeners, ask, house};

    static ECHO: Module = Module {
        name: "echo",
        commands: &[Command {
            name: "echo:back",
            old_names: &[],
            args: "text",
            help: "Says it again",
            run: |call| Box::pin(async move { Ok(Json::Object(call.args)) }),
        }],
        ..Module::EMPTY
    };

    fn listeners(extra: &str) -> Listeners {
        let script = format!(
            "loadmodule \"echo.so\"\nloadmodule \"httpd.so\"\nloadmodule \"mi_http.so\"\n{extra}\nroute {{ exit; }}\n"
        );
        house(&script, &[&ECHO, &httpd::MODULE, &MODULE]).unwrap().1
    }

    fn json(response: &HttpResponse) -> Json {
        assert_eq!((response.status, response.content_type.as_str()), (200, "application/json"));
        serde_json::from_slice(&response.body).unwrap()
    }

    #[test]
    fn requests_batches_and_errors_are_answered_as_json_rpc_asks() {
        let l = listeners("");
        let post = |text: &str| ask(&l, "POST", "/mi", "application/json; charset=utf-8", text.as_bytes());
        let call = r#"{"jsonrpc":"2.0","method":"echo:back","params":{"text":"a"},"id":1}"#;
        let result = json!({"jsonrpc": "2.0", "result": {"text": "a"}, "id": 1});
        assert_eq!(json(&post(call)), result);
        assert_eq!(json(&post(&format!("[{call}, {call}]"))), json!([result, result]));
        assert_eq!(json(&post("{"))["error"]["code"], -32700);
        assert_eq!(json(&post("[]"))["error"]["code"], -32600);
        assert_eq!(json(&post(r#"{"jsonrpc":"2.0","method":"no","id":1}"#))["error"]["code"], -32601);
        assert_eq!(json(&post(r#"{"jsonrpc":"2.0","method":"echo:back","id":1}"#))["error"]["code"], -32602);
        let silent = post(r#"{"jsonrpc":"2.0","method":"echo:back","params":["a"]}"#);
        assert_eq!((silent.status, silent.body.len()), (204, 0));
    }

    #[test]
    fn a_browser_cannot_be_made_to_post_a_command() {
        let l = listeners("");
        let call = br#"{"jsonrpc":"2.0","method":"echo:back","params":["a"],"id":1}"#;
        for content_type in ["", "text/plain", "application/x-www-form-urlencoded"] {
            assert_eq!(ask(&l, "POST", "/mi", content_type, call).status, 415);
        }
        assert_eq!(ask(&l, "PUT", "/mi", "application/json", call).status, 405);
    }

    #[test]
    fn get_lists_the_commands() {
        let l = listeners("modparam(\"mi_http\", \"root\", \"manage\")");
        let help = ask(&l, "GET", "/manage/", "", b"");
        assert_eq!(help.status, 200);
        assert!(String::from_utf8_lossy(&help.body).contains("echo:back(text)  Says it again"));
        assert_eq!(ask(&l, "GET", "/mi", "", b"").status, 404);
    }

    #[test]
    fn pretty_printing_indents() {
        let l = listeners("modparam(\"mi_http\", \"pretty_printing\", 1)");
        let call = br#"{"jsonrpc":"2.0","method":"echo:back","params":["a"],"id":1}"#;
        let response = ask(&l, "POST", "/mi", "application/json", call);
        assert!(response.body.starts_with(b"{\n  \"jsonrpc\""));
    }
}
