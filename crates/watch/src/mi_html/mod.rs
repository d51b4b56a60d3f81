//! A page for the browser that runs management commands: what there is, a form with the command's arguments, and the
//! answer. It posts JSON-RPC to its own address, as programs do to that of `mi_http`.
//!
//! Left out: commands in the address of a GET, which any web page could make a browser send.

use std::sync::Arc;

use serde_json::json;
use switchroom_kernel::Kernel;
use switchroom_kernel::module::{Module, Param};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::http::{HttpRequest, HttpResponse};

use crate::httpd::api;
use crate::mi_http;

/// The module.
pub static MODULE: Module = Module {
    name: "mi_html",
    summary: "Management commands in a browser",
    needs: &["httpd"],
    params: &[
        Param::str("root", "mi", "Path of the page"),
        Param::int("http_method", "0", "Known, without effect: commands are always posted"),
        Param::unset("trace_destination", "Known, without effect"),
        Param::unset("trace_bwlist", "Known, without effect"),
    ],
    old_params: &[("mi_http_root", "root"), ("mi_http_method", "http_method")],
    open,
    ..Module::EMPTY
};

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let root = o.text("root");
    let root = root.trim_matches('/');
    if root.is_empty() {
        return Err("root is empty; it must be one segment of a path".into());
    }
    let handler = |kernel: &Arc<Kernel>, request: HttpRequest| {
        let kernel = kernel.clone();
        Box::pin(async move { answer(&kernel, request).await }) as _
    };
    api::register(o, root, Arc::new(handler))
}

async fn answer(kernel: &Arc<Kernel>, request: HttpRequest) -> HttpResponse {
    match request.method.as_str() {
        "GET" | "HEAD" => page(kernel),
        "POST" => mi_http::run(kernel, &request, true).await,
        _ => mi_http::not_allowed(),
    }
}

fn page(kernel: &Kernel) -> HttpResponse {
    let commands = kernel.registry.all_commands();
    let list: Vec<_> =
        commands.iter().map(|c| json!({"name": c.name, "args": c.args, "help": c.help})).collect();
    // Inside an element of the page nothing may look like its end.
    let list = json!(list).to_string().replace('<', "\\u003c");
    let mut response =
        api::answer(200, "text/html; charset=utf-8", include_str!("page.html").replace("@COMMANDS@", &list));
    response.headers.push(("Content-Security-Policy".into(), POLICY.into()));
    response.headers.push(("Cache-Control".into(), "no-store".into()));
    response
}

/// Only what is in the page itself, nowhere but from here, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use switchroom_kernel::module::Command;

    use super::*;
    use crate::httpd;
    use crate::testing::{Listeners, ask, house};

    static SAMPLE: Module = Module {
        name: "sample",
        commands: &[Command {
            name: "sample:say",
            old_names: &[],
            args: "text,[times]",
            help: "Says </script> it",
            run: |call| Box::pin(async move { Ok(Value::Object(call.args)) }),
        }],
        ..Module::EMPTY
    };

    fn listeners() -> Listeners {
        let script = "loadmodule \"sample.so\"\nloadmodule \"httpd.so\"\nloadmodule \"mi_html.so\"\n\
                      modparam(\"mi_html\", \"root\", \"manage\")\nroute { exit; }\n";
        house(script, &[&SAMPLE, &httpd::MODULE, &MODULE]).unwrap().1
    }

    #[test]
    fn the_page_names_all_commands_and_nothing_in_them_ends_it() {
        let page = ask(&listeners(), "GET", "/manage", "", b"");
        let text = String::from_utf8_lossy(&page.body).into_owned();
        assert_eq!((page.status, page.content_type.as_str()), (200, "text/html; charset=utf-8"));
        let list = text.split("id=\"commands\">").nth(1).unwrap().split("</script>").next().unwrap();
        let list: Value = serde_json::from_str(list).unwrap();
        let say = list.as_array().unwrap().iter().find(|c| c["name"] == "sample:say").unwrap();
        assert_eq!((&say["args"], &say["help"]), (&json!("text,[times]"), &json!("Says </script> it")));
        assert!(
            page.headers
                .iter()
                .any(|(n, v)| n == "Content-Security-Policy" && v.contains("frame-ancestors 'none'"))
        );
    }

    #[test]
    fn it_takes_commands_as_its_page_posts_them_and_no_others() {
        let l = listeners();
        let call = br#"{"jsonrpc":"2.0","method":"sample:say","params":{"text":"a"},"id":1}"#;
        let answer = ask(&l, "POST", "/manage", "application/json", call);
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["result"], json!({"text": "a"}));
        assert_eq!(ask(&l, "POST", "/manage", "text/plain", call).status, 415);
        assert_eq!(ask(&l, "DELETE", "/manage", "", b"").status, 405);
        assert_eq!(ask(&l, "GET", "/mi", "", b"").status, 404);
    }
}
