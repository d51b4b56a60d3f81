//! HTTP calls of scripts, with servers made of closures.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use switchroom_kernel::ports::http::{HttpAnswer, HttpCall, HttpCallError, HttpClient, HttpVersion};
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_kernel::ports::store::StoreError;

use crate::support::House;

/// Answers by the URL's path and keeps what it was asked.
#[derive(Default)]
struct Web(Mutex<Vec<HttpCall>>);

impl HttpClient for Web {
    fn call(&self, call: HttpCall) -> BoxFuture<Result<HttpAnswer, HttpCallError>> {
        let answer = match call.url.rsplit('/').next().unwrap_or_default() {
            "refused" => Err(HttpCallError::Connect("refused".into())),
            "deaf" => Err(HttpCallError::ConnectTimeout(Duration::from_secs(1))),
            "silent" => Err(HttpCallError::Timeout(Duration::from_secs(1))),
            "large" => Err(HttpCallError::TooLarge(1)),
            _ => Ok(HttpAnswer {
                status: 404,
                headers: vec![("content-type".into(), "text/x".into())],
                body: format!("{} {}", call.method, String::from_utf8_lossy(&call.body)).into(),
            }),
        };
        self.0.lock().push(call);
        Box::pin(async move { answer })
    }
}

fn house(params: &str, route: &str, web: &Arc<Web>) -> House {
    let script = format!(
        "loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"signaling.so\"\nloadmodule \"sipmsgops.so\"\n\
         loadmodule \"rest_client.so\"\n{params}\n{route}\nroute[done] {{ append_to_reply(\"X: $var(x)\\r\\n\"); \
         send_reply(200, \"OK\"); }}\n"
    );
    House::with(&script, |_, _| Err(StoreError::Unreachable("test".into())), |d| d.web = web.clone())
}

#[test]
fn answers_are_written_to_variables_with_async_and_without() {
    let web = Arc::new(Web::default());
    let route = r#"
        route {
            rest_append_hf("X-One: $rU: two");
            $var(rc) = rest_get("http://h/a?u=$(rU{rest.escape})", $var(body), $var(kind), $var(code));
            $var(x) = "$var(rc) $var(code) $var(kind) $var(body)";
            async(rest_post("https://h/b", "{\"a\":1}", "application/json", $var(body), , $var(code)), posted);
        }
        route[posted] {
            $var(x) = $var(x) + "|" + $rc + " " + $var(code) + " " + $var(body);
            rest_put("https://h/c", "d=e", , $var(body));
            $var(x) = $var(x) + "|" + $var(body);
            route(done);
        }"#;
    let params = r#"
        modparam("rest_client", "connection_timeout", 3)
        modparam("rest_client", "curl_timeout", 4)
        modparam("rest_client", "max_transfer_size", 2)
        modparam("rest_client", "ssl_verifyhost", 0)
        modparam("rest_client", "curl_http_version", 5)"#;
    let house = house(params, route, &web);
    assert_eq!(house.ask(1), "1 404 text/x GET |1 404 POST {\"a\":1}|PUT d=e");
    let calls = web.0.lock();
    let has =
        |call: &HttpCall, name: &str, value: &str| call.headers.iter().any(|(n, v)| n == name && v == value);
    assert_eq!(calls[0].url, "http://h/a?u=bob");
    assert!(
        has(&calls[0], "X-One", "bob: two") && !calls[0].headers.iter().any(|(n, _)| n == "Content-Type")
    );
    assert!(has(&calls[1], "Content-Type", "application/json") && !has(&calls[1], "X-One", "bob: two"));
    assert!(has(&calls[2], "Content-Type", "application/x-www-form-urlencoded"));
    let limits = (calls[0].connect_timeout.as_secs(), calls[0].timeout.as_secs(), calls[0].max_answer);
    assert_eq!(limits, (3, 4, 2048));
    assert_eq!((calls[0].version, calls[1].version), (HttpVersion::Http2, HttpVersion::Auto));
    assert!(calls[0].tls.verify_chain && !calls[0].tls.verify_host);
    assert_eq!(house.kernel.stats.get("rest_calls"), Some(3));
    assert_eq!(house.kernel.stats.get("rest_open"), Some(0));
}

#[test]
fn each_failure_has_its_own_result() {
    let web = Arc::new(Web::default());
    let route = r#"
        route {
            $var(x) = "";
            $avp(p) = "refused"; $avp(p) = "deaf"; $avp(p) = "silent"; $avp(p) = "large";
            for ($var(p) in $(avp(p)[*])) {
                $var(code) = 7;
                $var(rc) = rest_get("http://h/$var(p)?secret", $var(body), , $var(code));
                $var(url) = "http://h/" + $var(p);
                $var(rc) = rest_get($var(url), $var(body), , $var(code));
                $var(x) = $var(x) + $var(p) + $var(rc) + $var(code) + " ";
            }
            if (!rest_append_hf("no header")) { $var(x) = $var(x) + "-"; }
            route(done);
        }"#;
    let house = house("", route, &web);
    assert_eq!(house.ask(1), "large-100 silent-30 deaf-20 refused-10 -");
    assert_eq!(house.kernel.stats.get("rest_failed"), Some(4));
}
