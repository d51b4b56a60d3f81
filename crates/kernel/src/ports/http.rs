//! The HTTP server port, for management and later the portal.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::net::BoxFuture;

/// A request as modules see it.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// `GET`, `POST` ...
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Query string, undecoded.
    pub query: String,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whole body, bounded by the server.
    pub body: Bytes,
    /// Client address.
    pub peer: SocketAddr,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Value of Content-Type.
    pub content_type: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

/// Answers requests below one path.
pub type HttpHandler = Arc<dyn Fn(HttpRequest) -> BoxFuture<HttpResponse> + Send + Sync>;

/// Settings of one HTTP listener.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Largest body accepted, in bytes; larger ones get 413.
    pub max_body: usize,
    /// Seconds after which an idle connection is closed.
    pub idle_timeout: u64,
    /// Basic authentication: realm, user, password.
    pub basic_auth: Option<(String, String, String)>,
}

/// Starts HTTP listeners.
pub trait HttpServer: Send + Sync {
    /// Bind and serve until the process ends. Gives the bound address.
    fn serve(&self, config: HttpConfig, handler: HttpHandler) -> BoxFuture<Result<SocketAddr, String>>;
}
