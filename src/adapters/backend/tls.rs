//! Whom a backend's TLS believes and what it shows: certificates from files, read again when they change.
//!
//! Promises: verification is never off; broken files leave the last good ones in use and are told of
//! once; whatever changes, connections made with what was before are used no more. Without a file
//! the system's roots are believed. Called by [`super::members`].

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use arc_swap::ArcSwap;
use pingora::utils::tls::CertKey;
use pingora::utils::tls::WrappedX509;
use pingora::utils::tls::parse_x509;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tracing::info;
use tracing::warn;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

/// Files of one backend's TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who signs the backend's certificate; none means whom the system trusts.
    pub ca: Option<PathBuf>,
    /// The gateway's own certificate, with its chain, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The name that the backend's certificate must bear, if not that of the URL.
    pub name: Option<String>,
}

/// What was read of them.
pub(super) struct Trust {
    pub(super) ca: Option<Arc<[WrappedX509]>>,
    pub(super) own: Option<Arc<CertKey>>,
    /// Counts the changes.
    pub(super) generation: u64,
}

/// The files of one backend, watched.
pub(super) struct Certificates {
    files: TlsFiles,
    trust: ArcSwap<Trust>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    bytes: Vec<Option<Vec<u8>>>,
    fault: Option<String>,
}

impl Certificates {
    /// Reads the files. Broken ones leave a trust that believes nobody, until they are mended.
    pub(super) fn open(files: TlsFiles) -> Self {
        let bytes = read(&files);
        let (trust, fault) = match parse(&files, &bytes, 0) {
            Ok(trust) => (trust, None),
            // WHY an empty list and not none: none would be the system's roots, and nobody said so.
            Err(fault) => (Trust { ca: Some(Arc::from([])), own: None, generation: 0 }, Some(fault)),
        };
        let seen = Mutex::new(Seen { bytes, fault });
        Self { files, trust: ArcSwap::from_pointee(trust), seen }
    }

    pub(super) fn trust(&self) -> Arc<Trust> {
        self.trust.load_full()
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.files.name.as_deref()
    }

    /// What is wrong with the files, if anything is.
    pub(super) fn fault(&self) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).fault.clone()
    }

    /// Looks at the files again. Gives what was in use before, when that has changed.
    pub(super) fn look(&self, backend: &str) -> Option<Arc<Trust>> {
        let bytes = read(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes == seen.bytes {
            return None;
        }
        let parsed = parse(&self.files, &bytes, self.trust.load().generation + 1);
        seen.bytes = bytes;
        match parsed {
            Ok(trust) => {
                info!("backend `{backend}`: changed certificates are in use for new connections");
                seen.fault = None;
                Some(self.trust.swap(Arc::new(trust)))
            }
            Err(fault) => {
                warn!("backend `{backend}`: changed certificates are not used, the last good ones are: {fault}");
                seen.fault = Some(fault);
                None
            }
        }
    }
}

/// The files' bytes: authority, certificate, key. None of what cannot be read.
fn read(files: &TlsFiles) -> Vec<Option<Vec<u8>>> {
    let own = files.own.as_ref();
    let paths = [files.ca.as_ref(), own.map(|own| &own.0), own.map(|own| &own.1)];
    paths.into_iter().flatten().map(|path| std::fs::read(path).ok()).collect()
}

fn parse(files: &TlsFiles, bytes: &[Option<Vec<u8>>], generation: u64) -> Result<Trust, String> {
    let mut bytes = bytes.iter();
    let mut next = |path: &Path| {
        let found = bytes.next().and_then(Option::as_deref);
        found.ok_or_else(|| format!("{} cannot be read", path.display()))
    };
    let ca = match &files.ca {
        Some(path) => Some(authorities(path, next(path)?)?),
        None => None,
    };
    let own = match &files.own {
        Some((certificate, key)) => {
            let chain = certificates(certificate, next(certificate)?)?;
            Some(Arc::new(identity(key, chain, next(key)?)?))
        }
        None => None,
    };
    Ok(Trust { ca, own, generation })
}

fn authorities(path: &Path, pem: &[u8]) -> Result<Arc<[WrappedX509]>, String> {
    let found = certificates(path, pem)?;
    let mut roots = RootCertStore::empty();
    for one in &found {
        roots.add(one.clone()).map_err(|cause| format!("{}: {cause}", path.display()))?;
    }
    Ok(found.into_iter().map(|one| WrappedX509::new(one.to_vec(), parse_x509)).collect())
}

/// WHY each is read here first: pingora panics at one that it cannot read.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |cause: String| format!("{}: {cause}", path.display());
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|cause| fault(cause.to_string()))?;
    if found.is_empty() {
        return Err(fault("no certificate is in it".to_owned()));
    }
    for one in &found {
        X509Certificate::from_der(one).map_err(|cause| fault(cause.to_string()))?;
    }
    Ok(found)
}

/// A certificate with the key that belongs to it.
fn identity(path: &Path, chain: Vec<CertificateDer<'static>>, pem: &[u8]) -> Result<CertKey, String> {
    let fault = |cause: String| format!("{}: {cause}", path.display());
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|cause| fault(cause.to_string()))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)
        .map_err(|cause| fault(format!("it does not belong to the certificate: {cause}")))?;
    let chain = chain.into_iter().map(|one| one.to_vec()).collect();
    Ok(CertKey::new(chain, key.secret_der().to_vec()))
}
