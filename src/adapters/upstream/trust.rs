//! Whom the TLS to an upstream server believes and what it shows: from files, read again when they change.
//!
//! Promises: verification is never off; files that become unreadable leave the last good ones in use. Without
//! a file, whom the system trusts is believed. Called by [`super::server`].

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tracing::warn;

/// Files of one server's TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustFiles {
    /// Who signs the server's certificate; none means whom the system trusts.
    pub ca: Option<PathBuf>,
    /// The gateway's own certificate, with its chain, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// The files of one server, watched.
pub(super) struct Trust {
    files: TrustFiles,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    bytes: Vec<Result<Vec<u8>, String>>,
    config: Option<Arc<ClientConfig>>,
}

impl Trust {
    /// Reads nothing yet.
    pub(super) fn new(files: TrustFiles) -> Self {
        Self { files, read: Mutex::default() }
    }

    /// What is in use.
    pub(super) fn config(&self) -> Option<Arc<ClientConfig>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    /// Reads the files. Says whether something else is in use from now on.
    pub(super) fn look(&self, server: &str) -> bool {
        let bytes = self.bytes();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.config.is_some() && read.bytes == bytes {
            return false;
        }
        let made = self.make(&bytes);
        read.bytes = bytes;
        match made {
            Ok(config) => {
                read.config = Some(Arc::new(config));
                true
            }
            Err(fault) => {
                warn!("upstream `{server}`: its TLS files are not used: {fault}");
                false
            }
        }
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let own = self.files.own.as_ref();
        [self.files.ca.as_ref(), own.map(|own| &own.0), own.map(|own| &own.1)].into_iter().flatten()
    }

    fn bytes(&self) -> Vec<Result<Vec<u8>, String>> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|cause| format!("{}: {cause}", path.display()));
        self.paths().map(read).collect()
    }

    fn make(&self, bytes: &[Result<Vec<u8>, String>]) -> Result<ClientConfig, String> {
        let mut bytes = bytes.iter();
        let mut next = || bytes.next().cloned().unwrap_or_else(|| Err("a file was not read".into()));
        let roots = match &self.files.ca {
            Some(path) => authorities(path, &next()?)?,
            None => system()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| cause.to_string())?
            .with_root_certificates(roots);
        let mut config = match &self.files.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, &next()?)?;
                let fault = |cause: String| format!("{}: {cause}", key.display());
                let secret = PrivateKeyDer::from_pem_slice(&next()?).map_err(|cause| fault(cause.to_string()))?;
                builder.with_client_auth_cert(chain, secret).map_err(|cause| fault(cause.to_string()))?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err("the system trusts nobody; name a `ca` file".into()) } else { Ok(roots) }
}

fn authorities(path: &Path, pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for one in certificates(path, pem)? {
        roots.add(one).map_err(|cause| format!("{}: {cause}", path.display()))?;
    }
    Ok(roots)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |cause: String| format!("{}: {cause}", path.display());
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|cause| fault(cause.to_string()))?;
    if found.is_empty() { Err(fault("no certificate is in it".into())) } else { Ok(found) }
}
