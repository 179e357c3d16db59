//! Who calls, and for which organisation.
//!
//! Promises: a [`Principal`] exists only for a credential whose signature, issuer, audience and
//! times were checked; a [`Tenant`] exists only if the principal's token carries it. Same
//! credential, keys and time, same answer. Never fetches a key and never reads a clock.
//! Called by `pep` (tenant) and `adapters::keys` (authentication).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the caller proved who they are; policies see it as `input.caller.method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// OAuth access token of a configured issuer.
    Oauth,
    /// Bearer issued by LoopIQ itself.
    Loopiq,
    /// Helix session mediated by the LoopIQ backend.
    Helix,
    /// Service account with a strict tenant allow-list.
    ServiceAccount,
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Principal {
    /// The user, as the issuer names them.
    pub user: String,
    /// The issuer that vouches for them.
    pub issuer: String,
    /// How they proved it.
    pub method: AuthMethod,
    /// The OAuth client (the agent) acting for them.
    pub client: Option<String>,
    /// Organisations the token carries, in the token's order.
    pub tenants: Vec<String>,
    /// The organisation the token names as active.
    pub active_tenant: Option<String>,
    /// Organisation roles.
    pub roles: Vec<String>,
    /// Team to roles in that team.
    pub teams: BTreeMap<String, Vec<String>>,
    /// Direct permissions.
    pub permissions: Vec<String>,
    /// OAuth scopes.
    pub scopes: Vec<String>,
    /// When the credential stops being good: seconds since the Unix epoch.
    pub expires_at: i64,
}

/// The organisation a call is made for. Made only by [`resolve_tenant`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Tenant(String);

impl Tenant {
    /// The organisation's id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
