//! One conditional GET, bounded in time and size.
//!
//! Promises: one request, no redirect, no proxy from the environment; the token is read from its file
//! each time and goes nowhere but into the header. Called by `reload::pull`.

use std::path::Path;
use std::time::Duration;

use reqwest::Client;
use reqwest::StatusCode;
use reqwest::header;
use reqwest::header::HeaderValue;
use reqwest::redirect;

use crate::domain::pdp::archive::ARCHIVE_BYTES_MAX;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a whole bundle.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Where bundles are.
pub(super) struct Server {
    client: Client,
    url: String,
}

/// An answer.
pub(super) enum Fetched {
    /// The server has what we have.
    Unchanged,
    /// A whole body.
    Whole { bytes: Vec<u8>, etag: Option<String> },
}

impl Server {
    pub(super) fn new(url: &str) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(FETCH_TIMEOUT)
            // Questions are a minute apart: a kept connection would be a dead one.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("loopgate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url: url.to_owned() })
    }

    /// Asks for the bundle, unless it is the one with this tag.
    pub(super) async fn fetch(&self, token_file: Option<&Path>, etag: Option<&str>) -> Result<Fetched, String> {
        let mut request = self.client.get(&self.url).header(header::ACCEPT, "application/gzip, */*");
        if let Some(path) = token_file {
            request = request.header(header::AUTHORIZATION, bearer(path).await?);
        }
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let failed =
            |error: &reqwest::Error| self.away(&format!("{}; look at the address and the server", innermost(error)));
        let mut answer = request.send().await.map_err(|error| failed(&error))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(Fetched::Unchanged),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(self.away(&format!("HTTP {}; see to `policy.bundle.token_file`", status.as_u16())));
            }
            status if status.is_redirection() => {
                let remedy = "give the address of the bundle itself, redirects are not followed";
                return Err(self.away(&format!("HTTP {}; {remedy}", status.as_u16())));
            }
            status => return Err(self.away(&format!("HTTP {}; look at the server", status.as_u16()))),
        }
        let etag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
            if bytes.len().saturating_add(chunk.len()) > ARCHIVE_BYTES_MAX {
                let message =
                    format!("more than {} MiB; keep in the bundle what policies need", ARCHIVE_BYTES_MAX >> 20);
                return Err(self.away(&message));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Fetched::Whole { bytes, etag })
    }

    fn away(&self, what: &str) -> String {
        // An address may carry a secret behind its `?`.
        let shown = self.url.split('?').next().unwrap_or_default();
        format!("policy.bundle.url: `{shown}` gives no bundle: {what}")
    }
}

/// The header with the token.
async fn bearer(path: &Path) -> Result<HeaderValue, String> {
    let unread = |what: String| format!("policy.bundle.token_file: `{}`: {what}", path.display());
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|cause| unread(format!("{cause}; put a bearer token for the server there")))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
        .map_err(|_| unread("it holds more than one token; put one on one line".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
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
