//! Checked settings of upstream MCP servers.
//!
//! Promises: complete when they exist. Called by `app` and the catalog commands.

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::catalog::upstream::Terms;

/// An upstream MCP server.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// On which terms it is passed on; its name among them.
    pub terms: Terms,
    /// `http` or `https`.
    pub tls: bool,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of its endpoint.
    pub path: String,
    /// Whether its host name may lead to a private address.
    pub private_addresses: bool,
    /// Who vouches for it; none: whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The gateway's own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// How often it is asked what it offers.
    pub refresh: Duration,
    /// Time to connect.
    pub connect: Duration,
    /// What the gateway shows it.
    pub credential: Credential,
    /// File of the accepted definitions.
    pub accepted: PathBuf,
}

/// What the gateway shows an upstream server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    None,
    /// A service credential from a file, sent as bearer.
    Static {
        /// The file.
        secret_file: PathBuf,
    },
    /// A short-lived JWT signed by the gateway.
    Assertion {
        /// Its `aud`.
        audience: String,
        /// How long it is good.
        lifetime: Duration,
    },
}
