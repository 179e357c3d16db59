//! Where keys come from: a file, a URL, the configuration itself.
//!
//! Promises: only the configured place is read; no redirect is followed, no proxy taken from the
//! environment; every reading has a deadline and a size limit. Never decides whether keys are good.
//! Called by `keys::issuer`.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, header, redirect};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::domain::identity::issuer::{Alg, IssuerSettings};
use crate::domain::identity::keyset::{JWKS_BYTES_MAX, KeyFault, KeySet, SECRET_BYTES_MIN};

/// Longest wait for a key set.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

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
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Url(url) => write!(f, "Url({url})"),
            Self::Secret(_) => f.write_str("Secret(***)"),
            Self::Inline(keys) => write!(f, "Inline({keys:?})"),
        }
    }
}

impl KeySource {
    /// What is wrong with it, and what to do.
    pub(super) fn fault(&self, settings: &IssuerSettings, plain_http: bool) -> Option<&'static str> {
        let symmetric = settings.algs.contains(&Alg::Hs256);
        match self {
            Self::File(_) | Self::Url(_) if symmetric => {
                Some("must be a secret for HS256; a key set publishes public keys only")
            }
            Self::Secret(_) if !symmetric => Some("is a secret, but `algs` does not name HS256"),
            Self::Secret(secret) if secret.len() < SECRET_BYTES_MIN => {
                Some("is a secret of less than 32 bytes; make one with `openssl rand -base64 32`")
            }
            Self::Url(url) => url_fault(url, plain_http),
            Self::File(_) | Self::Secret(_) | Self::Inline(_) => None,
        }
    }

    /// Whether it can change while the gateway runs.
    pub(super) const fn may_change(&self) -> bool {
        matches!(self, Self::File(_) | Self::Url(_))
    }
}

fn url_fault(url: &str, plain_http: bool) -> Option<&'static str> {
    let Ok(url) = Url::parse(url) else { return Some("is not a URL") };
    if !url.username().is_empty() || url.password().is_some() {
        return Some("holds credentials; key sets are public, leave them out");
    }
    match url.scheme() {
        "https" => None,
        "http" if plain_http || is_this_machine(&url) => None,
        "http" => Some("is plain HTTP; use https, since whoever can change the keys on their way can forge tokens"),
        _ => Some("must begin with https://"),
    }
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
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
    pub(super) fn new(timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(timeout)
            // Fetches are minutes apart: a kept connection would be a dead one.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("loopgate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client })
    }

    /// The keys of `source` that may verify tokens by `algs`.
    pub(super) async fn read(&self, source: &KeySource, algs: &[Alg]) -> Result<KeySet, ReadFault> {
        match source {
            KeySource::File(path) => Ok(KeySet::from_jwks(&read_file(path).await?, algs)?),
            KeySource::Url(url) => Ok(KeySet::from_jwks(&self.fetch(url).await?, algs)?),
            KeySource::Secret(secret) => Ok(KeySet::from_hs256(secret)?),
            KeySource::Inline(keys) => Ok(keys.clone()),
        }
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, ReadFault> {
        let failed = |error: &reqwest::Error| ReadFault::Fetch { url: url.to_owned(), reason: innermost(error) };
        let accept = "application/jwk-set+json, application/json";
        let mut answer =
            self.client.get(url).header(header::ACCEPT, accept).send().await.map_err(|error| failed(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(ReadFault::Status { url: url.to_owned(), status: answer.status() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
            if body.len().saturating_add(chunk.len()) > JWKS_BYTES_MAX {
                return Err(KeyFault::TooLarge.into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
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

/// The last cause in a chain of errors: "connection refused" rather than "error sending request".
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no whole answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
