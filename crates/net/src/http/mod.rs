//! The HTTP ports on hyper: a server, HTTP/1.1 for management and the portal, and a client ([`client()`]).
//!
//! Left out of the server: TLS, HTTP/2 and routing by path; a handler sees every request of its listener.

mod client;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use switchroom_kernel::ports::http::{HttpConfig, HttpHandler, HttpRequest, HttpServer};
use switchroom_kernel::ports::net::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::timers::ControlHandle;

pub use client::{Client, client};

/// Connections one listener serves at a time; more wait to be accepted.
const CONNECTIONS: usize = 256;

/// HTTP listeners that run on the control thread.
pub fn server(control: &ControlHandle) -> Arc<dyn HttpServer> {
    Arc::new(Server { control: control.clone() })
}

struct Server {
    control: ControlHandle,
}

impl HttpServer for Server {
    fn serve(&self, config: HttpConfig, handler: HttpHandler) -> BoxFuture<Result<SocketAddr, String>> {
        let control = self.control.clone();
        let bound = self.control.run(async move {
            let named = |e: std::io::Error| format!("http {}: {e}", config.listen);
            let listener = TcpListener::bind(config.listen).await.map_err(named)?;
            let addr = listener.local_addr().map_err(named)?;
            control.tokio().spawn(accept(listener, Arc::new(Site::new(config, handler))));
            Ok(addr)
        });
        Box::pin(async move { bound.await.unwrap_or_else(|| Err("http: the server is stopping".to_owned())) })
    }
}

/// One listener's settings and handler.
struct Site {
    max_body: usize,
    idle: Duration,
    /// Realm, and the value of Authorization that is let in.
    auth: Option<(HeaderValue, String)>,
    handler: HttpHandler,
}

impl Site {
    fn new(config: HttpConfig, handler: HttpHandler) -> Site {
        let auth = config.basic_auth.map(|(realm, user, password)| {
            let realm: String =
                realm.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
            let challenge = HeaderValue::from_str(&format!("Basic realm=\"{realm}\""));
            let expected = base64(format!("{user}:{password}").as_bytes());
            (challenge.unwrap_or_else(|_| HeaderValue::from_static("Basic")), expected)
        });
        Site {
            max_body: config.max_body,
            idle: Duration::from_secs(config.idle_timeout.max(1)),
            auth,
            handler,
        }
    }
}

async fn accept(listener: TcpListener, site: Arc<Site>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Only an error when the semaphore is closed, which nobody does.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(serve(stream, peer, site.clone(), place));
            }
            // Out of file descriptors: wait for some to be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, site: Arc<Site>, _place: OwnedSemaphorePermit) {
    let idle = site.idle;
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(answer(&site, request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // It also runs while the next request has not begun.
        .header_read_timeout(idle)
        .max_buf_size(65_536)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(e) = connection.await {
        tracing::debug!(%peer, "http connection: {e}");
    }
}

async fn answer(site: &Site, request: Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    if let Some((challenge, expected)) = &site.auth {
        let given = head.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        if !given.is_some_and(|given| is_allowed(given, expected)) {
            let mut denied = plain(StatusCode::UNAUTHORIZED, "authentication is needed\n");
            denied.headers_mut().insert(WWW_AUTHENTICATE, challenge.clone());
            return denied;
        }
    }
    let body = match tokio::time::timeout(site.idle, Limited::new(body, site.max_body).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n");
        }
        Ok(Err(_)) => return plain(StatusCode::BAD_REQUEST, "the body is broken\n"),
        Err(_elapsed) => return plain(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n"),
    };
    let headers = head.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let answer = (site.handler)(HttpRequest {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body,
        peer,
    })
    .await;
    let mut response = Response::builder().status(answer.status).header(CONTENT_TYPE, answer.content_type);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(answer.body)).unwrap_or_else(|e| {
        tracing::error!("http handler gave an impossible answer: {e}");
        plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
    })
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Compares in a time that does not tell how much of the password was right.
fn is_allowed(given: &str, expected: &str) -> bool {
    let Some((scheme, credentials)) = given.split_once(' ') else { return false };
    let credentials = credentials.trim().as_bytes();
    let expected = expected.as_bytes();
    let differing = credentials.iter().zip(expected).fold(0u8, |d, (a, b)| d | (a ^ b));
    scheme.eq_ignore_ascii_case("basic") && credentials.len() == expected.len() && differing == 0
}

/// RFC 4648 §4, needed for one header only.
fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_compared_whole() {
        // RFC 7617 §2.
        let expected = base64(b"Aladdin:open sesame");
        assert_eq!(expected, "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(is_allowed("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", &expected));
        assert!(is_allowed("basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ==", &expected));
        for wrong in
            ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==", "Basic", "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic "]
        {
            assert!(!is_allowed(wrong, &expected), "{wrong}");
        }
    }
}
