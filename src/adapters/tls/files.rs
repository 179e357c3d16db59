//! Certificate, key and authorities as files: what they must be, and what is wrong with them.
//!
//! Promises: a fault names the file and what to do; a chain that has ended or has not begun, a key
//! of another certificate and an empty list of authorities are faults. Never shows a key.
//! Called by `adapters::tls`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// Bytes of any of these files; bundles of authorities are the largest.
const BYTES_MAX: u64 = 4 << 20;

/// Files of one door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate and its chain, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// Whose clients are known; none when clients show no certificate.
    pub clients: Option<Clients>,
}

/// Whose clients are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// Certificates of the authorities, in PEM.
    pub ca: PathBuf,
    /// Whether a client without a certificate is sent away.
    pub required: bool,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {cause}; {remedy}")]
pub struct TlsFault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: String,
    /// What to do.
    pub remedy: &'static str,
}

impl TlsFault {
    fn new(path: &Path, cause: &dyn std::fmt::Display, remedy: &'static str) -> Self {
        Self { path: path.to_owned(), cause: cause.to_string(), remedy }
    }
}

/// What was in the files.
pub(super) struct Read {
    certificate: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

impl Files {
    pub(super) fn read(&self) -> Result<Read, TlsFault> {
        Ok(Read {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            ca: self.clients.as_ref().map_or(Ok(Vec::new()), |clients| read(&clients.ca))?,
        })
    }
}

impl Read {
    /// SHA-256 of all of it.
    pub(super) fn digest(&self) -> Vec<u8> {
        let mut all = Context::new(&SHA256);
        for part in [&self.certificate, &self.key, &self.ca] {
            all.update(&(part.len() as u64).to_be_bytes());
            all.update(part);
        }
        all.finish().as_ref().to_vec()
    }

    /// A server's settings, and when its certificate ends.
    pub(super) fn server(
        &self,
        files: &Files,
        protocols: &[Vec<u8>],
        now_s: i64,
    ) -> Result<(ServerConfig, i64), TlsFault> {
        let chain = chain(&files.certificate, &self.certificate)?;
        let expires_s = in_time(&files.certificate, &chain, now_s)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            TlsFault::new(
                &files.key,
                &"holds no private key",
                "write the certificate's key into it, in PEM without a password",
            )
        })?;
        let provider = Arc::new(default_provider());
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|cause| TlsFault::new(&files.certificate, &cause, "report this"))?;
        let builder = match &files.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(verifier(clients, &self.ca, provider)?),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|cause| {
            let remedy = "put the key that belongs to the certificate beside it";
            TlsFault::new(&files.key, &format!("does not fit {}: {cause}", files.certificate.display()), remedy)
        })?;
        config.alpn_protocols = protocols.to_vec();
        Ok((config, expires_s))
    }
}

fn verifier(
    clients: &Clients,
    ca: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsFault> {
    let mut roots = RootCertStore::empty();
    for authority in chain(&clients.ca, ca)? {
        roots.add(authority).map_err(|cause| {
            TlsFault::new(&clients.ca, &format!("holds what is no authority: {cause}"), "take it out")
        })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    builder
        .build()
        .map_err(|cause| TlsFault::new(&clients.ca, &cause, "write the clients' authorities into it, in PEM"))
}

/// Certificates of a file, one at least.
fn chain(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let remedy = "write certificates into it, in PEM";
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|_| TlsFault::new(path, &"cannot be read as PEM", remedy))?;
    if chain.is_empty() { Err(TlsFault::new(path, &"holds no certificate", remedy)) } else { Ok(chain) }
}

/// When the first certificate of a chain ends, if now is in its time.
fn in_time(path: &Path, chain: &[CertificateDer<'_>], now_s: i64) -> Result<i64, TlsFault> {
    let parsed = chain.first().and_then(|first| x509_parser::parse_x509_certificate(first).ok());
    let Some((_, certificate)) = parsed else {
        return Err(TlsFault::new(path, &"holds what is no certificate", "write certificates into it, in PEM"));
    };
    let (from, until) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    if now_s < from {
        return Err(TlsFault::new(
            path,
            &format!("begins at {}", date(from)),
            "use one that is good now, or set the clock",
        ));
    }
    if until < now_s {
        return Err(TlsFault::new(path, &format!("ended at {}", date(until)), "put a new one in its place"));
    }
    Ok(until)
}

/// RFC 3339.
pub(super) fn date(at_s: i64) -> String {
    jiff::Timestamp::from_second(at_s).unwrap_or_default().to_string()
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFault> {
    let remedy = "make the file readable for the gateway's user";
    let size = fs::metadata(path).map_err(|cause| TlsFault::new(path, &cause, remedy))?.len();
    if size > BYTES_MAX {
        return Err(TlsFault::new(path, &format!("has more than {BYTES_MAX} bytes"), "name the right file"));
    }
    fs::read(path).map_err(|cause| TlsFault::new(path, &cause, remedy))
}
