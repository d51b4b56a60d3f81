//! The SMS centre over HTTP: messages, states, cancelling and balance as JSON, and the parameters of Kannel's `sendsms` and
//! of Jasmin's HTTP API on paths of their own.
//!
//! `rest` is the JSON side, `legacy` the other two, `requests` keeps the answers to those that may be repeated. Webhooks
//! belong to `smsc`.

mod legacy;
mod requests;
mod rest;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use switchroom_kernel::Kernel;
use switchroom_kernel::module::{Module, Param};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::http::{HttpRequest, HttpResponse};
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_watch::httpd::api as httpd;

use crate::smsc;
use crate::smsc::centre::Centre;

/// The module.
pub static MODULE: Module = Module {
    name: "sms_api",
    summary: "HTTP API of the SMS centre, with the parameters of Kannel and Jasmin",
    needs: &["smsc", "httpd"],
    params: &[
        Param::int("keep_days", "3", "Days for which a request with the same key gets the same answer"),
        Param::str("root", "sms", "First path segment of the JSON API"),
        Param::int("kannel", "1", "Answer /cgi-bin/sendsms as Kannel does"),
        Param::int("jasmin", "1", "Answer /send, /balance and /ping as Jasmin does"),
        Param::int("max_bulk", "1000", "Recipients of one request"),
    ],
    open,
    live: Some(|kernel| {
        kernel.every(Duration::from_secs(3600), |kernel| async move {
            let api = kernel.state::<Api>();
            let before = kernel.unix() as i64 - api.keep;
            if let Err(e) = requests::forget(&*centre(&kernel).base.store, before).await {
                tracing::warn!("sms_api: old answers were not deleted: {e}");
            }
        });
    }),
    ..Module::EMPTY
};

/// What the module keeps.
pub(crate) struct Api {
    root: String,
    max_bulk: usize,
    /// Seconds for which answers are kept.
    keep: i64,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let positive = |name: &str, most: i64| match o.int(name) {
        n if (1..=most).contains(&n) => Ok(n as usize),
        n => Err(format!("{name} is {n}; it must be from 1 to {most}")),
    };
    let api = Api {
        root: o.text("root"),
        max_bulk: positive("max_bulk", 100_000)?,
        keep: positive("keep_days", 365)? as i64 * 86_400,
    };
    httpd::register(o, &api.root, Arc::new(|kernel, request| rest::answer(kernel.clone(), request)))?;
    if o.on("kannel") {
        httpd::register(o, "cgi-bin", Arc::new(|kernel, request| legacy::kannel(kernel.clone(), request)))?;
    }
    if o.on("jasmin") {
        for path in ["send", "balance", "ping"] {
            httpd::register(o, path, Arc::new(|kernel, request| legacy::jasmin(kernel.clone(), request)))?;
        }
    }
    o.provide(api);
    Ok(())
}

fn centre(kernel: &Kernel) -> Arc<Centre> {
    kernel.state::<smsc::State>().centre.clone()
}

/// An answer that needs no wait.
fn now(response: HttpResponse) -> BoxFuture<HttpResponse> {
    Box::pin(async move { response })
}

/// Parameters of the query and, for a form, of the body.
fn parameters(request: &HttpRequest) -> HashMap<String, String> {
    let form = request.headers.iter().any(|(n, v)| {
        n == "content-type" && v.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")
    });
    let body = if form { String::from_utf8_lossy(&request.body).into_owned() } else { String::new() };
    let pairs = request.query.split('&').chain(body.split('&')).filter(|p| !p.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (text(&unescape(name)), text(&unescape(value)))
        })
        .collect()
}

fn text(octets: &[u8]) -> String {
    match std::str::from_utf8(octets) {
        Ok(text) => text.to_owned(),
        // Older clients write Latin-1.
        Err(_) => octets.iter().map(|b| char::from(*b)).collect(),
    }
}

fn unescape(value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        match (*first, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [a, b, ..]) if digit(*a).is_some() && digit(*b).is_some() => {
                out.push(digit(*a).unwrap_or(0) << 4 | digit(*b).unwrap_or(0));
                rest = &after[2..];
            }
            (other, _) => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_from_query_and_form() {
        let request = HttpRequest {
            method: "POST".into(),
            path: "/cgi-bin/sendsms".into(),
            query: "username=a%20b&text=%D0%9F%2B+x".into(),
            headers: vec![("content-type".into(), "application/x-www-form-urlencoded".into())],
            body: "to=%2B49&bad=%zz&latin=%FC".into(),
            peer: ([127, 0, 0, 1], 1).into(),
        };
        let found = parameters(&request);
        let get = |name: &str| found.get(name).map(String::as_str);
        assert_eq!(get("username"), Some("a b"));
        assert_eq!(get("text"), Some("П+ x"));
        assert_eq!(get("to"), Some("+49"));
        assert_eq!(get("bad"), Some("%zz"));
        assert_eq!(get("latin"), Some("ü"));
    }
}
