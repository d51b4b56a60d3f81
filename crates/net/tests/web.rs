//! HTTP calls and byte streams over real connections, plain and with TLS.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use switchroom_kernel::ports::http::{
    ClientTls, HttpAnswer, HttpCall, HttpCallError, HttpClient, HttpVersion,
};
use switchroom_kernel::ports::stream::{Accept, ServerTls, StreamListen, StreamTarget, Streams};
use switchroom_net::dns::{DnsConfig, resolver};
use switchroom_net::timers::Control;
use switchroom_net::{http, streams};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

struct World {
    control: Control,
    web: Arc<http::Client>,
    streams: Arc<dyn Streams>,
}

fn world() -> World {
    let control = Control::start().unwrap();
    let handle = control.handle();
    let resolver = resolver(DnsConfig::default(), &handle).unwrap();
    let web = http::client(&handle, resolver.clone());
    let streams = streams::streams(&handle, resolver);
    World { control, web, streams }
}

impl World {
    fn call(&self, call: HttpCall) -> Result<HttpAnswer, HttpCallError> {
        self.control.handle().block_on(self.web.call(call))
    }
}

fn get(url: &str) -> HttpCall {
    HttpCall {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
        version: HttpVersion::Auto,
        max_answer: 10_000,
        tls: Arc::new(ClientTls::default()),
    }
}

/// Answers each request on one connection with its own text and the number of the connection.
fn plain_server(answer: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    let text = answer(number, &String::from_utf8_lossy(&buffer[..n]));
                    if stream.write_all(text.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    addr
}

#[test]
fn a_call_carries_its_headers_and_the_connection_is_used_again() {
    let addr = plain_server(|number, request| {
        let body = format!("{number} {request}");
        format!("HTTP/1.1 202 OK\r\nX-Two: b\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let world = world();
    for _ in 0..2 {
        let mut call = get(&format!("http://al:pw@127.0.0.1:{}/a?b=c", addr.port()));
        call.method = "PUT".to_owned();
        call.headers = vec![("X-One".to_owned(), "a".to_owned())];
        call.body = Bytes::from_static(b"{}");
        let answer = world.call(call).unwrap();
        let body = String::from_utf8_lossy(&answer.body).to_lowercase();
        assert_eq!((answer.status, answer.header("x-two")), (202, Some("b")));
        assert!(body.starts_with("0 put /a?b=c http/1.1\r\n"), "{body}");
        for part in ["x-one: a\r\n", "content-length: 2\r\n", "authorization: basic yww6chc=", "\r\n\r\n{}"] {
            assert!(body.contains(part), "{part} in {body}");
        }
        assert!(!body.contains("al:pw"), "{body}");
    }
    assert_eq!(world.web.counter("http_calls"), Some(2));
    assert_eq!(world.web.counter("http_calls_open"), Some(0));
}

#[test]
fn silence_refusal_and_too_much_are_told_apart() {
    let world = world();
    let silent = plain_server(|_, _| String::new());
    let mut call = get(&format!("http://{silent}/"));
    call.timeout = Duration::from_millis(200);
    let started = Instant::now();
    assert_eq!(world.call(call).unwrap_err(), HttpCallError::Timeout(Duration::from_millis(200)));
    assert!(started.elapsed() < Duration::from_secs(2));

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = world.call(get(&format!("http://localhost:{}/", free.port()))).unwrap_err();
    assert!(matches!(&refused, HttpCallError::Connect(why) if why.contains("refused")), "{refused}");

    // Reserved for documentation (RFC 5737): there nobody answers, or there is no way to it.
    let mut call = get("http://192.0.2.1/");
    call.connect_timeout = Duration::from_millis(200);
    let silent = world.call(call).unwrap_err();
    assert!(matches!(silent, HttpCallError::ConnectTimeout(_) | HttpCallError::Connect(_)), "{silent}");

    for head in ["Content-Length: 20000", "Connection: close"] {
        let large =
            plain_server(move |_, _| format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{}", "x".repeat(20_000)));
        let too_large = world.call(get(&format!("http://{large}/"))).unwrap_err();
        assert_eq!(too_large, HttpCallError::TooLarge(10_000), "{head}");
    }
    assert_eq!(world.web.counter("http_calls_failed"), Some(5));
}

/// Files of an authority and of certificates from it.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { folder, issuer }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Certificate and key for `host`.
    fn issue(&self, host: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = (self.file(&format!("{host}.pem")), self.file(&format!("{host}.key")));
        std::fs::write(&paths.0, certificate.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }
}

/// A server on TLS that speaks what is agreed on and says so in the body.
fn tls_server(certificate: &Path, key: &Path, alpn: &'static [&'static str]) -> SocketAddr {
    let certificates = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let text = format!("{:?} {}", request.version(), request.uri().path());
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
                });
                tokio::spawn(async move {
                    let io = TokioIo::new(stream);
                    if h2 {
                        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = server.serve_connection(io, service).await;
                    } else {
                        let server = hyper::server::conn::http1::Builder::new();
                        let _ = server.serve_connection(io, service).await;
                    }
                });
            }
        });
    });
    addr
}

#[test]
fn http_2_is_spoken_when_both_sides_can_and_one_may_insist() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("localhost");
    let both = tls_server(&certificate, &key, &["h2", "http/1.1"]);
    let old = tls_server(&certificate, &key, &["http/1.1"]);
    let tls = Arc::new(ClientTls { authorities: Some(authority.file("ca.pem")), ..ClientTls::default() });
    let world = world();
    for (server, version, expected) in [
        (both, HttpVersion::Auto, "HTTP/2.0 /x"),
        (both, HttpVersion::Http1, "HTTP/1.1 /x"),
        (both, HttpVersion::Http2, "HTTP/2.0 /x"),
        (old, HttpVersion::Auto, "HTTP/1.1 /x"),
    ] {
        let url = format!("https://localhost:{}/x", server.port());
        let answer = world.call(HttpCall { version, tls: tls.clone(), ..get(&url) }).unwrap();
        assert_eq!(answer.body, expected, "{version:?}");
    }
}

#[test]
fn certificates_are_checked_as_far_as_was_asked() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("other.example");
    let server = tls_server(&certificate, &key, &[]);
    let world = world();
    let try_with = |verify_chain, verify_host, authorities| {
        let tls = Arc::new(ClientTls { verify_chain, verify_host, authorities, identity: None });
        world.call(HttpCall { tls, ..get(&format!("https://localhost:{}/", server.port())) })
    };
    let known = || Some(authority.file("ca.pem"));
    let wrong_name = try_with(true, true, known()).unwrap_err();
    assert!(matches!(&wrong_name, HttpCallError::Connect(why) if why.contains("tls")), "{wrong_name}");
    assert!(try_with(true, false, known()).is_ok());
    assert!(try_with(true, false, None).is_err());
    assert!(try_with(false, true, None).is_ok());
    // A folder counts as well.
    assert!(try_with(true, false, Some(authority.folder.path().to_owned())).is_ok());
    let missing = try_with(true, true, Some("/nowhere/ca.pem".into())).unwrap_err();
    assert!(matches!(&missing, HttpCallError::Invalid(why) if why.contains("/nowhere/ca.pem")), "{missing}");
}

fn echo() -> Accept {
    Arc::new(|mut stream, _| {
        Box::pin(async move {
            let mut buffer = [0; 100];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..n]).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
            }
        })
    })
}

fn target(port: u16, tls: Option<Arc<ClientTls>>) -> StreamTarget {
    StreamTarget { host: "localhost".to_owned(), port, from: None, tls, timeout: Duration::from_secs(2) }
}

#[test]
fn streams_carry_bytes_plain_and_with_tls_on_both_sides() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("localhost");
    let server_tls = ServerTls {
        certificate: certificate.clone(),
        key: key.clone(),
        client_authorities: Some(authority.file("ca.pem")),
    };
    let with_identity = ClientTls {
        authorities: Some(authority.file("ca.pem")),
        identity: Some((certificate, key)),
        ..ClientTls::default()
    };
    let world = world();
    for (listen_tls, connect_tls) in [(None, None), (Some(server_tls), Some(Arc::new(with_identity)))] {
        let listen = StreamListen { addr: "127.0.0.1:0".parse().unwrap(), tls: listen_tls, connections: 10 };
        world.control.handle().block_on(async {
            let addr = world.streams.listen(listen, echo()).await.unwrap();
            let mut stream = world.streams.connect(target(addr.port(), connect_tls)).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.flush().await.unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"hello");
        });
    }
}

#[test]
fn a_listener_serves_no_more_streams_than_allowed() {
    let world = world();
    let open = Arc::new(AtomicUsize::new(0));
    let count = open.clone();
    let accept: Accept = Arc::new(move |mut stream, _| {
        let count = count.clone();
        Box::pin(async move {
            count.fetch_add(1, Relaxed);
            let _ = stream.read(&mut [0; 1]).await;
            count.fetch_sub(1, Relaxed);
        })
    });
    let listen = StreamListen { addr: "127.0.0.1:0".parse().unwrap(), tls: None, connections: 2 };
    let handle = world.control.handle();
    let addr = handle.block_on(world.streams.listen(listen, accept)).unwrap();
    let connect = || handle.block_on(world.streams.connect(target(addr.port(), None))).unwrap();
    let mut streams = vec![connect(), connect(), connect()];
    let until = Instant::now() + Duration::from_secs(5);
    while open.load(Relaxed) < 2 && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(100));
    assert_eq!(open.load(Relaxed), 2);
    // One leaves, the third is let in.
    drop(streams.remove(0));
    thread::sleep(Duration::from_millis(200));
    assert_eq!(open.load(Relaxed), 2);
}

#[test]
fn a_stream_that_cannot_be_opened_names_its_target() {
    let world = world();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let opened = world.control.handle().block_on(world.streams.connect(target(free.port(), None)));
    let error = opened.err().unwrap().to_string();
    assert!(error.contains(&format!("localhost:{}", free.port())) && error.contains("refused"), "{error}");
}
