//! TLS settings for streams and HTTP calls on rustls: certificates are read from files, checked, and kept for a while.
//!
//! Settings are read again after some minutes, so that renewed certificates come into force without a restart. Left out:
//! SIP over TLS, client certificates by name, revocation lists.

mod verify;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use switchroom_kernel::ports::http::ClientTls;
use switchroom_kernel::ports::stream::ServerTls;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Settings kept at a time; the oldest makes room for a new one.
const KEPT: usize = 64;
/// After this time the files are read again.
const LIFETIME: Duration = Duration::from_secs(600);

/// Protocols offered by ALPN (RFC 7301), in order of preference.
pub(crate) type Alpn = &'static [&'static [u8]];

/// Client settings made ready, by what was asked for.
#[derive(Default)]
pub(crate) struct ClientConfigs {
    ready: Mutex<HashMap<(ClientTls, Alpn), (Instant, Arc<ClientConfig>)>>,
}

impl ClientConfigs {
    /// The settings for `tls`, from files read at most some minutes ago. The error names the file.
    pub async fn get(&self, tls: &Arc<ClientTls>, alpn: Alpn) -> Result<Arc<ClientConfig>, String> {
        let key = ((**tls).clone(), alpn);
        if let Some((made, config)) = self.ready.lock().get(&key)
            && made.elapsed() < LIFETIME
        {
            return Ok(config.clone());
        }
        let tls = tls.clone();
        let read = tokio::task::spawn_blocking(move || client(&tls, alpn));
        let config = Arc::new(read.await.map_err(|_| "tls: the driver is stopping".to_owned())??);
        let mut ready = self.ready.lock();
        if ready.len() >= KEPT && !ready.contains_key(&key) {
            let oldest = ready.iter().min_by_key(|(_, (made, _))| *made).map(|(key, _)| key.clone());
            oldest.map(|key| ready.remove(&key));
        }
        ready.insert(key, (Instant::now(), config.clone()));
        Ok(config)
    }
}

/// Reads the files of a client's settings.
fn client(tls: &ClientTls, alpn: Alpn) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = versions(ClientConfig::builder_with_provider(provider.clone()))?;
    let builder = if !tls.verify_chain {
        builder.dangerous().with_custom_certificate_verifier(verify::any_chain(&provider))
    } else {
        let roots = Arc::new(client_roots(tls)?);
        let checked = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|e| format!("tls: no authority to check certificates with: {e}"))?;
        match tls.verify_host {
            true => builder.with_webpki_verifier(checked),
            false => builder.dangerous().with_custom_certificate_verifier(verify::any_name(checked)),
        }
    };
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|e| format!("tls: {} with {}: {e}", certificate.display(), key.display()))?,
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// Reads the files of a listener's settings.
pub(crate) fn server(tls: &ServerTls) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = versions(ServerConfig::builder_with_provider(provider.clone()))?;
    let builder = match &tls.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            add_authorities(&mut roots, path)?;
            let checked = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(checked.map_err(|e| format!("tls: {}: {e}", path.display()))?)
        }
    };
    builder
        .with_single_cert(certificates(&tls.certificate)?, private_key(&tls.key)?)
        .map_err(|e| format!("tls: {} with {}: {e}", tls.certificate.display(), tls.key.display()))
}

fn versions<S: tokio_rustls::rustls::ConfigSide>(
    builder: tokio_rustls::rustls::ConfigBuilder<S, tokio_rustls::rustls::WantsVersions>,
) -> Result<tokio_rustls::rustls::ConfigBuilder<S, tokio_rustls::rustls::WantsVerifier>, String> {
    builder.with_safe_default_protocol_versions().map_err(|e| format!("tls: {e}"))
}

/// The system's authorities, and those that were named.
fn client_roots(tls: &ClientTls) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // A system without a list of authorities, or with a broken one among many, may still call hosts that it was told of.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &tls.authorities {
        add_authorities(&mut roots, path)?;
    }
    Ok(roots)
}

/// Adds a PEM file's certificates, or those of every file in a folder.
fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    if !path.is_dir() {
        let (added, _) = roots.add_parsable_certificates(certificates(path)?);
        return match added {
            0 => Err(format!("tls: {}: no usable certificate", path.display())),
            _ => Ok(()),
        };
    }
    let entries = std::fs::read_dir(path).map_err(|e| format!("tls: {}: {e}", path.display()))?;
    for file in entries.flatten().map(|entry| entry.path()).filter(|file| file.is_file()) {
        // Folders of authorities hold other files as well.
        if let Ok(found) = certificates(&file) {
            roots.add_parsable_certificates(found);
        }
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("tls: {}: {e}; a PEM file is needed", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(|e| wrong(&e))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|e| wrong(&e))?;
    match found.is_empty() {
        true => Err(wrong(&"no certificate")),
        false => Ok(found),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|e| format!("tls: {}: {e}; a PEM file with a private key is needed", path.display()))
}

/// The algorithms that both kinds of lenient check still use for signatures.
fn algorithms(provider: &CryptoProvider) -> tokio_rustls::rustls::crypto::WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}
