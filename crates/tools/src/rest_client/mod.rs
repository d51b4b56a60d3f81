//! HTTP calls from the script: GET, POST and PUT. The script waits for the answer without holding up other calls, with
//! `async()` or without.
//!
//! Left out: `rest_init_client_tls()`, since there are no TLS domains; HTTP/1.0, in whose place HTTP/1.1 is spoken.

mod escape;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::{Function, Module, Param, Statistic, Transformation};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::http::{ClientTls, HttpAnswer, HttpCall, HttpCallError, HttpVersion};
use switchroom_kernel::stats::StatId;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use crate::variables::put;

/// The module.
pub static MODULE: Module = Module {
    name: "rest_client",
    summary: "HTTP calls from the script",
    params: &[
        Param::int("connection_timeout", "20", "Seconds a connection may take to stand"),
        Param::int("connect_poll_interval", "20", "Accepted for older scripts; nothing is polled"),
        Param::int("max_async_transfers", "100", "Calls under way for each worker; further ones fail"),
        Param::int("max_transfer_size", "10240", "Kilobytes of the largest answer; 0 is 64 megabytes"),
        Param::int("curl_timeout", "20", "Seconds a call may take as a whole"),
        Param::unset("ssl_capath", "Folder or file of further authorities of certificates"),
        Param::int("ssl_verifypeer", "1", "0: any certificate is good"),
        Param::int("ssl_verifyhost", "1", "0: a certificate for another name is good"),
        Param::int(
            "curl_http_version",
            "0",
            "0, 3, 4: what the server can; 1, 2: HTTP/1.1; 5: HTTP/2 also without TLS",
        ),
        Param::int("enable_expect_100", "0", "Accepted for older scripts; bodies are sent at once"),
        Param::int("no_concurrent_connects", "0", "Accepted for older scripts; connections are shared"),
        Param::int(
            "curl_conn_lifetime",
            "0",
            "Accepted for older scripts; idle connections close after a minute",
        ),
    ],
    functions: &[
        Function::new("rest_get", &["str,var,[var],[var]"], "*", get, "GET a URL").asynchronous(),
        Function::new("rest_post", &["str,str,[str],var,[var],[var]"], "*", post, "POST to a URL")
            .asynchronous(),
        Function::new("rest_put", &["str,str,[str],var,[var],[var]"], "*", put_, "PUT to a URL")
            .asynchronous(),
        Function::new("rest_append_hf", &["str"], "*", append, "A header for the next call"),
    ],
    transformations: &[
        Transformation { name: "rest.escape", run: escape::escape, help: "Percent-encoding for URLs" },
        Transformation { name: "rest.unescape", run: escape::unescape, help: "Percent-encoding undone" },
    ],
    statistics: &[
        Statistic { name: "rest_calls", help: "Calls made", gauge: false },
        Statistic { name: "rest_failed", help: "Calls without an answer", gauge: false },
        Statistic { name: "rest_open", help: "Calls under way", gauge: true },
    ],
    open,
    ..Module::EMPTY
};

/// The largest answer that is read when the script sets no limit.
const LARGEST: usize = 64 << 20;
/// Headers that wait for the next call.
const MAX_HEADERS: usize = 64;

/// What a call without an answer gives.
const REFUSED: Flow = Flow::Value(-1);
const NO_CONNECTION_IN_TIME: Flow = Flow::Value(-2);
const NO_ANSWER_IN_TIME: Flow = Flow::Value(-3);
const FAILED: Flow = Flow::Value(-10);

struct Rest {
    connect_timeout: Duration,
    timeout: Duration,
    max_answer: usize,
    version: i64,
    tls: Arc<ClientTls>,
    max_open: i64,
    calls: StatId,
    failed: StatId,
    open: StatId,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let seconds = |name: &str| match u64::try_from(o.int(name)) {
        Ok(n @ 1..=3600) => Ok(Duration::from_secs(n)),
        _ => Err(format!("parameter `{name}`: {} is not between 1 and 3600 seconds", o.int(name))),
    };
    let version = o.int("curl_http_version");
    if !(0..=5).contains(&version) {
        return Err(format!("parameter `curl_http_version`: {version} is not between 0 and 5"));
    }
    let max_answer = match usize::try_from(o.int("max_transfer_size")) {
        Ok(0) => LARGEST,
        Ok(kilobytes) => kilobytes.saturating_mul(1024).min(LARGEST),
        Err(_) => return Err("parameter `max_transfer_size` must not be negative".into()),
    };
    let rest = Rest {
        connect_timeout: seconds("connection_timeout")?,
        timeout: seconds("curl_timeout")?,
        max_answer,
        version,
        tls: Arc::new(ClientTls {
            verify_chain: o.on("ssl_verifypeer"),
            verify_host: o.on("ssl_verifyhost"),
            authorities: o.str("ssl_capath").filter(|p| !p.is_empty()).map(Into::into),
            identity: None,
        }),
        max_open: o.int("max_async_transfers").clamp(1, 1 << 20) * o.kernel.workers as i64,
        calls: o.stat("rest_calls")?,
        failed: o.stat("rest_failed")?,
        open: o.stat("rest_open")?,
    };
    o.provide(rest);
    Ok(())
}

/// Headers that the script wants in its next call.
#[derive(Default)]
struct NextHeaders(Vec<(String, String)>);

/// `rest_append_hf("Name: value")`
fn append(c: &mut Call<'_>) -> Flow {
    let text = c.text(0);
    let Some((name, value)) = text.split_once(':').filter(|(name, _)| !name.trim().is_empty()) else {
        tracing::error!("rest_append_hf(): \"{text}\" is no header; write \"Name: value\"");
        return FALSE;
    };
    let next = &mut c.ctx.note_mut::<NextHeaders>().0;
    if next.len() >= MAX_HEADERS {
        tracing::error!("rest_append_hf(): {MAX_HEADERS} headers are waiting already");
        return FALSE;
    }
    next.push((name.trim().to_owned(), value.trim().to_owned()));
    TRUE
}

/// `rest_get(url, body[, content_type][, status])`
fn get(c: &mut Call<'_>) -> Flow {
    let out = Out { body: c.var(1), content_type: c.var(2), status: c.var(3) };
    call(c, "GET", None, out)
}

/// `rest_post(url, body[, content_type], answer[, content_type][, status])`
fn post(c: &mut Call<'_>) -> Flow {
    send(c, "POST")
}

/// `rest_put(url, body[, content_type], answer[, content_type][, status])`
fn put_(c: &mut Call<'_>) -> Flow {
    send(c, "PUT")
}

fn send(c: &mut Call<'_>, method: &'static str) -> Flow {
    let body = c.str(1).map(|b| Bytes::copy_from_slice(b)).unwrap_or_default();
    let kind = if c.has(2) { c.text(2) } else { "application/x-www-form-urlencoded".to_owned() };
    let out = Out { body: c.var(3), content_type: c.var(4), status: c.var(5) };
    call(c, method, Some((body, kind)), out)
}

/// Variables that an answer is written to.
struct Out {
    body: Option<VarAccess>,
    content_type: Option<VarAccess>,
    status: Option<VarAccess>,
}

fn call(c: &mut Call<'_>, method: &'static str, body: Option<(Bytes, String)>, out: Out) -> Flow {
    let url = c.text(0);
    let mut headers = c.ctx.take_note::<NextHeaders>().map(|h| h.0).unwrap_or_default();
    let kernel = c.ctx.shard.kernel.clone();
    let rest = kernel.state::<Rest>();
    let worker = c.ctx.shard.worker;
    kernel.stats.add(worker, rest.calls, 1);
    if kernel.stats.read(rest.open) >= rest.max_open {
        tracing::error!("rest_client: {} calls are under way already", rest.max_open);
        kernel.stats.add(worker, rest.failed, 1);
        return FAILED;
    }
    kernel.stats.add(worker, rest.open, 1);
    let body = body.map(|(body, kind)| {
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            headers.push(("Content-Type".to_owned(), kind));
        }
        body
    });
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("accept")) {
        headers.push(("Accept".to_owned(), "*/*".to_owned()));
    }
    let version = match rest.version {
        1 | 2 => HttpVersion::Http1,
        5 if url.starts_with("http:") => HttpVersion::Http2,
        _ => HttpVersion::Auto,
    };
    let call = HttpCall {
        method: method.to_owned(),
        url: url.clone(),
        headers,
        body: body.unwrap_or_default(),
        connect_timeout: rest.connect_timeout,
        timeout: rest.timeout,
        version,
        max_answer: rest.max_answer,
        tls: rest.tls.clone(),
    };
    // Goes down also when the wait is given up, as by the timeout of `async()`.
    let open = Open { kernel: kernel.clone(), worker };
    let answer = kernel.drivers.web.call(call);
    let answered = async move {
        let answer = answer.await;
        drop(open);
        answer
    };
    wait(answered, move |ctx, answer| match answer {
        Ok(answer) => write(ctx, answer, &out),
        Err(e) => failed(ctx, &url, &e, &out),
    })
}

/// A call under way, counted as long as it lives.
struct Open {
    kernel: Arc<switchroom_kernel::Kernel>,
    worker: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.kernel.stats.add(self.worker, self.kernel.state::<Rest>().open, -1);
    }
}

fn write(ctx: &mut Ctx, answer: HttpAnswer, out: &Out) -> Flow {
    let kind = answer.header("content-type").map_or(Value::Null, |kind| Value::str(kind.to_owned()));
    let written = set(ctx, &out.status, Value::Int(i64::from(answer.status)))
        & set(ctx, &out.content_type, kind)
        & set(ctx, &out.body, Value::Str(answer.body));
    if written { TRUE } else { FAILED }
}

fn failed(ctx: &mut Ctx, url: &str, error: &HttpCallError, out: &Out) -> Flow {
    // What stands behind `?` may be secret.
    let shown = url.split('?').next().unwrap_or_default();
    tracing::error!("rest_client: {shown}: {error}");
    let shard = ctx.shard.clone();
    shard.kernel.stats.add(shard.worker, shard.kernel.state::<Rest>().failed, 1);
    set(ctx, &out.status, Value::Int(0));
    match error {
        HttpCallError::Connect(_) => REFUSED,
        HttpCallError::ConnectTimeout(_) => NO_CONNECTION_IN_TIME,
        HttpCallError::Timeout(_) => NO_ANSWER_IN_TIME,
        HttpCallError::Invalid(_) | HttpCallError::TooLarge(_) | HttpCallError::Broken(_) => FAILED,
    }
}

fn set(ctx: &mut Ctx, var: &Option<VarAccess>, value: Value) -> bool {
    var.as_ref().is_none_or(|var| put(ctx, "rest_client", var, value))
}
