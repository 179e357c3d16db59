//! Checked settings of who calls and how they are proven: issuers, scopes, propagation, own keys.
//!
//! Promises and never does what the rest of the settings do: see `config`.

use std::path::PathBuf;
use std::time::Duration;

use super::raw::RawClaims;
use crate::domain::identity::AuthMethod;

/// Who vouches for callers.
#[derive(Debug, Clone, PartialEq)]
pub struct Issuer {
    /// Short name, for logs and metrics.
    pub name: String,
    /// Kind of credential.
    pub kind: AuthMethod,
    /// Exact `iss`.
    pub issuer: String,
    /// Accepted `aud` values.
    pub audiences: Vec<String>,
    /// Tenants that this issuer may vouch for; empty means any, which service accounts cannot have.
    pub tenants: Vec<String>,
    /// Accepted `alg` values.
    pub algorithms: Vec<String>,
    /// Where the keys are, or who is asked.
    pub keys: KeySource,
    /// How the URL of its keys is reached.
    pub place: Way,
    /// Client certificates that its credentials must come over; empty means any connection.
    pub certificates: Vec<String>,
    /// How often keys are fetched.
    pub refresh: Duration,
    /// How long keys that cannot be refreshed stay good.
    pub max_stale: Duration,
    /// Tolerated clock difference.
    pub leeway: Duration,
    /// Claim names.
    pub claims: RawClaims,
    /// Scopes named in the RFC 9728 document.
    pub scopes: Vec<String>,
}

/// Whose signed approvals are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalIssuer {
    /// Short name; it begins the ids of its approvals here.
    pub name: String,
    /// Exact `iss`.
    pub issuer: String,
    /// Accepted `alg` values.
    pub algorithms: Vec<String>,
    /// Where the keys are.
    pub keys: KeySource,
    /// How the URL of its keys is reached.
    pub place: Way,
    /// Tenants that it may approve for; empty means any.
    pub tenants: Vec<String>,
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A JWKS file.
    File(PathBuf),
    /// A JWKS URL.
    Url(String),
    /// A file with a shared secret (HS256, LoopIQ-issued tokens only).
    SecretFile(PathBuf),
    /// No keys: the issuer is asked about each token.
    Introspection(Introspection),
    /// No keys: the connection's certificate vouches for whom headers name.
    Certificates,
}

/// Where an issuer is asked about its tokens, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// The endpoint.
    pub url: String,
    /// The gateway's `client_id` there.
    pub client_id: String,
    /// File with its secret; none means that it proves itself with its own key.
    pub secret_file: Option<PathBuf>,
    /// Longest time for which an answer is remembered.
    pub cache: Duration,
    /// What its tokens begin with; empty means that they cannot be told.
    pub token_prefix: String,
}

/// How a URL that the gateway itself asks is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Way {
    /// File with the only authority that counts.
    pub ca_file: Option<PathBuf>,
    /// Whether its host may lie in a private network.
    pub allow_private: bool,
}

/// Scopes that calls need, by what the tool does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Of tools that change nothing.
    pub read: Vec<String>,
    /// Of tools that change records.
    pub write: Vec<String>,
    /// Of tools that change how LoopIQ is run.
    pub admin: Vec<String>,
}

/// When the key that signs assertions is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// At which age; none means never by itself.
    pub every: Option<Duration>,
    /// How long a new one is published before it signs.
    pub publish_before: Duration,
}

/// How the gateway proves the caller to the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Propagation {
    /// A short-lived JWT signed by the gateway.
    Assertion {
        /// Its `aud`.
        audience: String,
        /// How long it is good.
        lifetime: Duration,
    },
    /// A token that a token service gives for such a JWT.
    Exchange {
        /// The token endpoint.
        url: String,
        /// How it is reached.
        place: Way,
        /// The gateway's `client_id` there.
        client_id: String,
        /// File with its secret; none means that it proves itself with its own key.
        secret_file: Option<PathBuf>,
        /// The `audience` asked for.
        audience: String,
        /// The `scope` asked for; empty for none.
        scope: String,
    },
    /// A service credential from a file, sent as bearer.
    Static {
        /// The file.
        secret_file: PathBuf,
    },
}
