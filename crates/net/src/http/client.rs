//! The HTTP client port on hyper: HTTP/1.1 and HTTP/2, connections kept and shared, TLS by rustls.
//!
//! Left out: redirects, cookies, proxies, compression; the caller sees what the server said.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use switchroom_kernel::ports::http::{
    ClientTls, HttpAnswer, HttpCall, HttpCallError, HttpClient, HttpVersion,
};
use switchroom_kernel::ports::net::{BoxFuture, Resolver};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::client::TlsStream;

use crate::streams::dial::{Dial, DialError};
use crate::timers::ControlHandle;
use crate::tls::{Alpn, ClientConfigs};

/// Calls under way at a time.
const CALLS: usize = 4096;
/// Pools kept: one for each set of TLS settings, version and connect timeout.
const POOLS: usize = 64;
/// Idle connections kept for one server.
const IDLE: usize = 32;
/// How long they are kept.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// An HTTP client whose work is done on the control thread; names are resolved by `resolver`.
pub fn client(control: &ControlHandle, resolver: Arc<dyn Resolver>) -> Arc<Client> {
    let dial = Dial { resolver, configs: Arc::new(ClientConfigs::default()), from: None, timeout: IDLE_TIME };
    Arc::new(Client {
        control: control.clone(),
        shared: Arc::new(Shared {
            dial,
            pools: Mutex::default(),
            places: Semaphore::new(CALLS),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }),
    })
}

/// The driver of [`HttpClient`].
pub struct Client {
    control: ControlHandle,
    shared: Arc<Shared>,
}

impl Client {
    /// What was counted: calls, those that gave no answer, those under way.
    pub const COUNTERS: &'static [&'static str] = &["http_calls", "http_calls_failed", "http_calls_open"];

    /// The value of one of [`Self::COUNTERS`].
    pub fn counter(&self, name: &str) -> Option<u64> {
        match name {
            "http_calls" => Some(self.shared.calls.load(Relaxed)),
            "http_calls_failed" => Some(self.shared.failed.load(Relaxed)),
            "http_calls_open" => Some((CALLS - self.shared.places.available_permits()) as u64),
            _ => None,
        }
    }
}

impl HttpClient for Client {
    fn call(&self, call: HttpCall) -> BoxFuture<Result<HttpAnswer, HttpCallError>> {
        let shared = self.shared.clone();
        let done = self.control.run(async move {
            shared.calls.fetch_add(1, Relaxed);
            let limit = call.timeout;
            let answer = match shared.places.try_acquire() {
                Err(_) => Err(HttpCallError::Connect(format!("{CALLS} calls are under way already"))),
                Ok(_place) => tokio::time::timeout(limit, shared.exchange(call))
                    .await
                    .unwrap_or(Err(HttpCallError::Timeout(limit))),
            };
            if answer.is_err() {
                shared.failed.fetch_add(1, Relaxed);
            }
            answer
        });
        Box::pin(async move {
            done.await.unwrap_or_else(|| Err(HttpCallError::Broken("the server is stopping".to_owned())))
        })
    }
}

type Key = (ClientTls, HttpVersion, Duration);
type Pooled = Pool<Connector, Full<Bytes>>;

struct Shared {
    dial: Dial,
    pools: Mutex<HashMap<Key, (Instant, Pooled)>>,
    places: Semaphore,
    calls: AtomicU64,
    failed: AtomicU64,
}

impl Shared {
    async fn exchange(&self, call: HttpCall) -> Result<HttpAnswer, HttpCallError> {
        let pool = self.pool(&call);
        let max = call.max_answer;
        let answer = pool.request(request(call)?).await.map_err(|e| failure(&e))?;
        let (head, body) = answer.into_parts();
        if body.size_hint().lower() > max as u64 {
            return Err(HttpCallError::TooLarge(max));
        }
        let body = Limited::new(body, max).collect().await.map_err(|e| match e.is::<LengthLimitError>() {
            true => HttpCallError::TooLarge(max),
            false => HttpCallError::Broken(format!("the answer broke off: {e}")),
        })?;
        let headers = head.headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        Ok(HttpAnswer { status: head.status.as_u16(), headers: headers.collect(), body: body.to_bytes() })
    }

    /// The pool for calls of this kind; the one unused for longest makes room for a new one.
    fn pool(&self, call: &HttpCall) -> Pooled {
        let key = ((*call.tls).clone(), call.version, call.connect_timeout);
        let mut pools = self.pools.lock();
        let now = Instant::now();
        if let Some((used, pool)) = pools.get_mut(&key) {
            *used = now;
            return pool.clone();
        }
        if pools.len() >= POOLS {
            let oldest = pools.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            oldest.map(|key| pools.remove(&key));
        }
        let connector = Connector {
            dial: Dial { timeout: call.connect_timeout, ..self.dial.clone() },
            tls: call.tls.clone(),
            version: call.version,
        };
        let pool = Pool::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE)
            .http1_max_buf_size(65_536)
            .http2_max_header_list_size(65_536)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_only(call.version == HttpVersion::Http2)
            .build(connector);
        pools.insert(key, (now, pool.clone()));
        pool
    }
}

/// The call as hyper wants it.
fn request(call: HttpCall) -> Result<Request<Full<Bytes>>, HttpCallError> {
    let invalid = |why: String| HttpCallError::Invalid(why);
    let method = Method::from_bytes(call.method.as_bytes())
        .map_err(|_| invalid(format!("`{}` is not a method", call.method)))?;
    let (uri, credentials) = target(&call.url)?;
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(credentials) = credentials
        && !call.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
    {
        request = request.header(AUTHORIZATION, format!("Basic {}", super::base64(credentials.as_bytes())));
    }
    for (name, value) in &call.headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(format!("`{name}` is not a header name")))?;
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| invalid(format!("the value of header `{name}` has a forbidden character")))?;
        request = request.header(name, value);
    }
    request.body(Full::new(call.body)).map_err(|e| invalid(e.to_string()))
}

/// The URL without user and password, and these.
fn target(url: &str) -> Result<(Uri, Option<String>), HttpCallError> {
    let invalid = |why: &str| HttpCallError::Invalid(format!("URL `{url}`: {why}"));
    // The part behind `#` is the caller's own.
    let sent = url.split('#').next().unwrap_or_default();
    let uri: Uri = sent.parse().map_err(|_| {
        invalid("has characters that must be escaped, or is no URL; write http://host[:port]/path")
    })?;
    if uri.scheme() != Some(&Scheme::HTTP) && uri.scheme() != Some(&Scheme::HTTPS) {
        return Err(invalid("http:// or https:// is needed"));
    }
    let Some(authority) = uri.authority().filter(|a| !a.host().is_empty()) else {
        return Err(invalid("it names no host"));
    };
    let Some((user, place)) = authority.as_str().rsplit_once('@') else { return Ok((uri, None)) };
    let credentials = unescape(user);
    let place: Authority = place.parse().map_err(|_| invalid("its host is wrong"))?;
    let mut parts = uri.into_parts();
    parts.authority = Some(place);
    let uri = Uri::from_parts(parts).map_err(|_| invalid("its host is wrong"))?;
    Ok((uri, Some(credentials)))
}

/// RFC 3986 §2.1.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digit = |i: usize| tail.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What hyper's error means to the caller.
fn failure(error: &hyper_util::client::legacy::Error) -> HttpCallError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut text = String::new();
    while let Some(e) = cause {
        match e.downcast_ref::<DialError>() {
            Some(DialError::Timeout(limit)) => return HttpCallError::ConnectTimeout(*limit),
            Some(DialError::Settings(why)) => return HttpCallError::Invalid(why.clone()),
            Some(DialError::Failed(why)) => return HttpCallError::Connect(why.clone()),
            None => {}
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&e.to_string());
        cause = e.source();
    }
    if error.is_connect() { HttpCallError::Connect(text) } else { HttpCallError::Broken(text) }
}

/// Opens connections for a pool.
#[derive(Clone)]
struct Connector {
    dial: Dial,
    tls: Arc<ClientTls>,
    version: HttpVersion,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Link>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Connector { dial, tls, version } = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            if uri.scheme() != Some(&Scheme::HTTPS) {
                let stream = dial.plain(host, uri.port_u16().unwrap_or(80)).await?;
                return Ok(TokioIo::new(Link::Plain(stream)));
            }
            let alpn: Alpn = match version {
                HttpVersion::Auto => &[b"h2", b"http/1.1"],
                HttpVersion::Http1 => &[b"http/1.1"],
                HttpVersion::Http2 => &[b"h2"],
            };
            let stream = dial.tls(host, uri.port_u16().unwrap_or(443), &tls, alpn).await?;
            Ok(TokioIo::new(Link::Tls(Box::new(stream))))
        })
    }
}

/// A connection to a server.
enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        match self {
            Link::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            _ => Connected::new(),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Link::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Link::Tls(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Link::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Link::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_of_a_url_become_a_header() {
        let (uri, credentials) = target("http://al%40ice:s%3Ac@h.example:81/a?b=c#d").unwrap();
        assert_eq!(uri.to_string(), "http://h.example:81/a?b=c");
        assert_eq!(credentials.as_deref(), Some("al@ice:s:c"));
    }

    #[test]
    fn wrong_urls_say_what_would_be_right() {
        for (url, why) in [
            ("h.example/a", "http://"),
            ("ftp://h/a", "http:// or https://"),
            ("http://h/a b", "escaped"),
            ("/a", "http://"),
        ] {
            let error = target(url).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(url), "{error}");
        }
    }
}
