//! Asking the few places that operators name: key sets, token introspection, token services.
//!
//! Promises: only the configured address is asked; no redirect is followed and no proxy taken from
//! the environment; a name that leads into a private network is not followed there unless the
//! settings say so; every answer has a deadline and a size. Never decides what an answer means.
//! Called by `adapters::keys` and `adapters::exchange`.

pub mod client;
pub mod pause;
mod place;

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Certificate;
use reqwest::Client;
use reqwest::Response;
use reqwest::redirect;

pub use place::Way;
pub use place::is_private;

use self::place::Public;

/// Longest wait for an answer.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a place cannot be asked, or was not.
#[derive(Debug, thiserror::Error)]
pub enum FetchFault {
    /// The file with certificates cannot be used.
    #[error("`{path}`: {reason}; name a PEM file with the certificates of the authority", path = path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(reqwest::Error),
    /// No answer, or none in time.
    #[error("{0}")]
    Silent(String),
    /// An answer longer than may be.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl FetchFault {
    /// What a failed exchange comes down to.
    #[must_use]
    pub fn of(error: &reqwest::Error) -> Self {
        Self::Silent(innermost(error))
    }
}

/// A client for one place.
pub fn client(way: &Way, timeout: Duration) -> Result<Client, FetchFault> {
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(timeout)
        // Questions may be minutes apart: a connection kept for longer would be a dead one.
        .pool_idle_timeout(Duration::from_secs(10))
        .user_agent(concat!("loopgate/", env!("CARGO_PKG_VERSION")));
    if !way.allow_private {
        builder = builder.dns_resolver(Public);
    }
    if let Some(path) = &way.ca_file {
        let failed = |reason: String| FetchFault::Authority { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|cause| failed(cause.to_string()))?;
        let trusted = Certificate::from_pem_bundle(&pem).map_err(|cause| failed(innermost(&cause)))?;
        if trusted.is_empty() {
            return Err(failed("there is no certificate in it".to_owned()));
        }
        builder = builder.tls_certs_only(trusted);
    }
    builder.build().map_err(FetchFault::Client)
}

/// The whole body, unless it is longer than it may be.
pub async fn body(mut answer: Response, bytes_max: usize) -> Result<Vec<u8>, FetchFault> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| FetchFault::of(&error))? {
        if body.len().saturating_add(chunk.len()) > bytes_max {
            return Err(FetchFault::TooLong(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The last cause in a chain of errors: "connection refused" rather than "error sending request".
#[must_use]
pub fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no whole answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
