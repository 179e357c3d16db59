//! Where keys come from: a file, a URL, the configuration itself.
//!
//! Promises: only the configured place is read, as `adapters::fetch` promises to; every reading has
//! a deadline and a size limit. Never decides whether keys are good.
//! Called by `keys::issuer`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, StatusCode, header};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::adapters::fetch::{self, FetchFault, Way};
use crate::adapters::keys::asked::Introspection;
use crate::domain::identity::issuer::{Alg, IssuerSettings};
use crate::domain::identity::keyset::{JWKS_BYTES_MAX, KeyFault, KeySet, SECRET_BYTES_MIN};

/// Where an issuer's keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// A JWKS file, read again when it changes.
    File(PathBuf),
    /// The URL of a JWKS document.
    Url(String),
    /// An HS256 secret, for tokens that LoopIQ itself issues.
    Secret(Vec<u8>),
    /// Keys at hand.
    Inline(KeySet),
    /// No keys: the issuer is asked about each token.
    Asked(Box<Introspection>),
    /// No keys: the connection's certificate vouches, and headers say for whom.
    Certificates,
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Url(url) => write!(f, "Url({url})"),
            Self::Secret(_) => f.write_str("Secret(***)"),
            Self::Inline(keys) => write!(f, "Inline({keys:?})"),
            Self::Asked(server) => write!(f, "Asked({})", server.url),
            Self::Certificates => f.write_str("Certificates"),
        }
    }
}

impl KeySource {
    /// What is wrong with it, and what to do.
    pub(super) fn fault(&self, settings: &IssuerSettings, way: &Way) -> Option<&'static str> {
        let symmetric = settings.algs.contains(&Alg::Hs256);
        match self {
            Self::File(_) | Self::Url(_) | Self::Asked(_) | Self::Certificates if symmetric => {
                Some("must be a secret for HS256; a key set publishes public keys only")
            }
            Self::Secret(_) if !symmetric => Some("is a secret, but `algs` does not name HS256"),
            Self::Secret(secret) if secret.len() < SECRET_BYTES_MIN => {
                Some("is a secret of less than 32 bytes; make one with `openssl rand -base64 32`")
            }
            Self::Url(url) => way.fault(url),
            Self::Asked(server) => way.fault(&server.url),
            Self::Certificates if settings.certificates.is_empty() => Some("lists no certificates"),
            Self::File(_) | Self::Secret(_) | Self::Inline(_) | Self::Certificates => None,
        }
    }

    /// Whether it can change while the gateway runs.
    pub(super) const fn may_change(&self) -> bool {
        matches!(self, Self::File(_) | Self::Url(_))
    }
}

/// Why keys could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFault {
    /// The file cannot be read.
    #[error("cannot read `{path}`: {source}; put the issuer's JWKS there")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No answer, or none in time.
    #[error("cannot fetch `{url}`: {reason}; check the address and that the issuer is up")]
    Fetch {
        /// The address.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// An answer, but not the document.
    #[error("`{url}` answered HTTP {status}; give the address of the key set itself, redirects are not followed")]
    Status {
        /// The address.
        url: String,
        /// What came.
        status: StatusCode,
    },
    /// Read, but refused.
    #[error(transparent)]
    Keys(#[from] KeyFault),
}

/// Reads keys from wherever they are.
pub(super) struct Reader {
    client: Client,
}

impl Reader {
    pub(super) fn new(way: &Way, timeout: Duration) -> Result<Self, FetchFault> {
        Ok(Self { client: fetch::client(way, timeout)? })
    }

    /// The keys of `source` that may verify tokens by `algs`.
    pub(super) async fn read(&self, source: &KeySource, algs: &[Alg]) -> Result<KeySet, ReadFault> {
        match source {
            KeySource::File(path) => Ok(KeySet::from_jwks(&read_file(path).await?, algs)?),
            KeySource::Url(url) => Ok(KeySet::from_jwks(&self.fetch(url).await?, algs)?),
            KeySource::Secret(secret) => Ok(KeySet::from_hs256(secret)?),
            KeySource::Inline(keys) => Ok(keys.clone()),
            KeySource::Asked(_) | KeySource::Certificates => Err(KeyFault::Malformed("there are no keys here").into()),
        }
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, ReadFault> {
        let failed = |reason: String| ReadFault::Fetch { url: url.to_owned(), reason };
        let accept = "application/jwk-set+json, application/json";
        let asked = self.client.get(url).header(header::ACCEPT, accept).send().await;
        let answer = asked.map_err(|error| failed(fetch::innermost(&error)))?;
        if answer.status() != StatusCode::OK {
            return Err(ReadFault::Status { url: url.to_owned(), status: answer.status() });
        }
        fetch::body(answer, JWKS_BYTES_MAX).await.map_err(|fault| match fault {
            FetchFault::TooLong(_) => KeyFault::TooLarge.into(),
            other => failed(other.to_string()),
        })
    }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, ReadFault> {
    let failed = |source| ReadFault::File { path: path.to_owned(), source };
    let mut body = Vec::new();
    // One byte more than allowed, so that a longer file is seen to be longer.
    let limit = JWKS_BYTES_MAX as u64 + 1;
    File::open(path).await.map_err(failed)?.take(limit).read_to_end(&mut body).await.map_err(failed)?;
    Ok(body)
}
