//! Push services made of their protocols: HTTP/2 over TLS, with what was asked kept for the test and answers as it wants.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::Value;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whether it came by HTTP/2.
    pub http2: bool,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// When.
    pub at: Instant,
}

impl Asked {
    /// A header; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }
}

struct Planned {
    path: String,
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

#[derive(Default)]
struct State {
    asked: Mutex<VecDeque<Asked>>,
    came: Condvar,
    planned: Mutex<Vec<Planned>>,
}

/// The services.
pub struct Cloud {
    folder: tempfile::TempDir,
    port: u16,
    state: Arc<State>,
    apns_key: Vec<u8>,
    fcm_key: Vec<u8>,
}

impl Cloud {
    /// All services on one port, with an authority of their own.
    pub fn start() -> Cloud {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        file("ca.pem", &issuer.pem());
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let ec = KeyPair::generate().expect("a key");
        file("ec.pem", &ec.serialize_pem());
        let rsa = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
            .output();
        let rsa = String::from_utf8(rsa.expect("openssl").stdout).expect("a PEM text");
        let rsa_der = PrivateKeyDer::from_pem_slice(rsa.as_bytes()).expect("a key");
        let rsa_pair = RsaKeyPair::from_pkcs8(rsa_der.secret_der()).expect("a key");
        let ec_der = ec.serialize_der();
        let ec_pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &ec_der,
            &ring::rand::SystemRandom::new(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let account = serde_json::json!({
            "type": "service_account", "project_id": "acme-phone", "private_key_id": "RSA1", "private_key": rsa,
            "client_email": "push@acme-phone.example", "token_uri": format!("https://localhost:{port}/token"),
        });
        file("fcm.json", &account.to_string());
        let state = Arc::new(State::default());
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(certificate.der().to_vec())],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key"),
            )
            .expect("a certificate");
        config.alpn_protocols = vec![b"h2".to_vec()];
        serve(listener, TlsAcceptor::from(Arc::new(config)), state.clone());
        Cloud {
            folder,
            port,
            state,
            apns_key: ec_pair.expect("a key").public_key().as_ref().to_vec(),
            fcm_key: rsa_pair.public_key().as_ref().to_vec(),
        }
    }

    /// Its address.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// A file of keys: `ca.pem`, `ec.pem`, `fcm.json`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The lines of a script that send pushes here.
    pub fn params(&self) -> String {
        let set = |name: &str, value: &str| format!("modparam(\"push\", \"{name}\", \"{value}\")\n");
        let file = |name: &str| self.file(name).display().to_string();
        [
            set("ca_file", &file("ca.pem")),
            set("apns_url", &self.url("")),
            set("apns_key_file", &file("ec.pem")),
            set("apns_key_id", "ABC123DEFG"),
            set("apns_team_id", "DEF123GHIJ"),
            set("fcm_url", &self.url("")),
            set("fcm_account_file", &file("fcm.json")),
            set("webpush_key_file", &file("ec.pem")),
            set("webpush_subject", "mailto:push@example.org"),
            set("webpush_hosts", "localhost"),
            set("webhook_url", &self.url("/hook")),
            set("webhook_secret", "s3cret"),
        ]
        .concat()
    }

    /// The next request to a path that begins so is answered like this.
    pub fn answer(&self, path: &str, status: u16, headers: &[(&'static str, &str)], body: &str) {
        let headers = headers.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        let new = Planned { path: path.to_owned(), status, headers, body: body.to_owned() };
        self.state.planned.lock().expect("a lock").push(new);
    }

    /// The next request to a path that begins so.
    #[track_caller]
    pub fn expect(&self, path: &str) -> Asked {
        match self.wait(path, Duration::from_secs(5)) {
            Some(asked) => asked,
            None => panic!("nobody asked {path}: {:#?}", self.state.asked.lock().expect("a lock")),
        }
    }

    /// The same, if it comes in time.
    pub fn wait(&self, path: &str, time: Duration) -> Option<Asked> {
        let until = Instant::now() + time;
        let mut asked = self.state.asked.lock().expect("a lock");
        loop {
            if let Some(at) = asked.iter().position(|a| a.path.starts_with(path)) {
                return asked.remove(at);
            }
            let left = until.checked_duration_since(Instant::now())?;
            asked = self.state.came.wait_timeout(asked, left).expect("a lock").0;
        }
    }

    /// Head and claims of a token that the EC key signed.
    #[track_caller]
    pub fn es256(&self, token: &str) -> (Value, Value) {
        verified(token, &ECDSA_P256_SHA256_FIXED, &self.apns_key)
    }

    /// Head and claims of a token that the RSA key signed.
    #[track_caller]
    pub fn rs256(&self, token: &str) -> (Value, Value) {
        verified(token, &RSA_PKCS1_2048_8192_SHA256, &self.fcm_key)
    }

    /// The public EC key.
    pub fn ec_public(&self) -> &[u8] {
        &self.apns_key
    }
}

/// Of base64url.
#[track_caller]
pub fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// To base64url.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[track_caller]
fn verified(token: &str, algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> (Value, Value) {
    let (text, signature) = token.rsplit_once('.').expect("a token of three parts");
    let key = UnparsedPublicKey::new(algorithm, key);
    key.verify(text.as_bytes(), &decode(signature)).expect("a good signature");
    let (head, claims) = text.split_once('.').expect("a token of three parts");
    let json = |t: &str| serde_json::from_slice(&decode(t)).expect("JSON");
    (json(head), json(claims))
}

fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    listener.set_nonblocking(true).expect("a socket");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((stream, _)) = listener.accept().await {
                // An answer in two writes does not wait for the other side's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                let (acceptor, state) = (acceptor.clone(), state.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |r| take(r, state.clone()));
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // The connection ends when the program under test does.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    });
}

async fn take(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes().to_vec()).unwrap_or_default();
    let text = |v: &hyper::header::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    let asked = Asked {
        http2: head.version == Version::HTTP_2,
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: head.headers.iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect(),
        body,
        at,
    };
    let planned = {
        let mut planned = state.planned.lock().expect("a lock");
        let at = planned.iter().position(|p| asked.path.starts_with(&p.path));
        at.map(|at| planned.remove(at))
    };
    let token = r#"{"access_token":"AT1","expires_in":3600,"token_type":"Bearer"}"#;
    let planned = planned.unwrap_or_else(|| Planned {
        path: String::new(),
        status: 200,
        headers: Vec::new(),
        body: if asked.path.starts_with("/token") { token.to_owned() } else { "{}".to_owned() },
    });
    state.asked.lock().expect("a lock").push_back(asked);
    state.came.notify_all();
    let mut response = Response::builder().status(planned.status);
    for (name, value) in planned.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(Bytes::from(planned.body))).expect("an answer"))
}
