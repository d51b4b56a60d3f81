//! The HTTP ports: a server for management and the portal, a client for what scripts and modules ask of others.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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

/// A request to another server.
#[derive(Clone, Debug)]
pub struct HttpCall {
    /// `GET`, `POST` ...
    pub method: String,
    /// Absolute `http:` or `https:` URL.
    pub url: String,
    /// Header names and values, as the caller wants them.
    pub headers: Vec<(String, String)>,
    /// Body; empty for none.
    pub body: Bytes,
    /// How long a connection may take to stand.
    pub connect_timeout: Duration,
    /// How long the whole exchange may take.
    pub timeout: Duration,
    /// Which HTTP to speak.
    pub version: HttpVersion,
    /// Largest answer that is read, in bytes; more is [`HttpCallError::TooLarge`].
    pub max_answer: usize,
    /// What certificates count.
    pub tls: Arc<ClientTls>,
}

/// Which HTTP a call speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// What the server and we agree on (ALPN); HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS by prior knowledge.
    Http2,
}

/// The client's side of TLS. Calls with equal settings share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientTls {
    /// Check the server's chain.
    pub verify_chain: bool,
    /// Check the server's name.
    pub verify_host: bool,
    /// Further authorities: a PEM file or a folder of them. `None`: the system's only.
    pub authorities: Option<PathBuf>,
    /// Our certificate and key, PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Default for ClientTls {
    fn default() -> Self {
        ClientTls { verify_chain: true, verify_host: true, authorities: None, identity: None }
    }
}

/// What another server answered.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whole body.
    pub body: Bytes,
}

impl HttpAnswer {
    /// First value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpCallError {
    /// The URL, a header or the TLS settings are wrong; says what would be right.
    #[error("http: {0}")]
    Invalid(String),
    /// No connection: name, refusal, TLS.
    #[error("http: cannot connect: {0}")]
    Connect(String),
    /// No connection in time.
    #[error("http: no connection within {0:?}")]
    ConnectTimeout(Duration),
    /// No answer in time.
    #[error("http: no answer within {0:?}")]
    Timeout(Duration),
    /// The answer is larger than allowed.
    #[error("http: the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The exchange broke off.
    #[error("http: {0}")]
    Broken(String),
}

/// Calls other HTTP servers. Connections are kept and shared.
pub trait HttpClient: Send + Sync {
    /// One exchange. Redirects are not followed.
    fn call(&self, call: HttpCall) -> BoxFuture<Result<HttpAnswer, HttpCallError>>;
}
