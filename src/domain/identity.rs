//! Who calls, and for which organisation.
//!
//! Promises: a [`Principal`] exists only for a credential whose signature, issuer, audience and
//! times were checked; a [`Tenant`] exists only if the principal's token carries it. Same
//! credential, keys and time, same answer. Never fetches a key and never reads a clock.
//! Called by `pep` (tenant) and `adapters::keys` (authentication).

pub mod fault;
pub mod issuer;
pub mod keyset;
pub mod token;
pub mod shown;
pub mod opaque;
pub mod binding;
pub mod mediated;
pub mod signing;
pub mod ring;
pub mod assertion;
pub mod approval_token;
pub mod metadata;
pub mod dev;
mod strict;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::refusal::{Code, Refusal};

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

/// A client certificate whose chain and times the door has verified; what is in it says who connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of the DER form, in lower-case hex.
    pub sha256: String,
    /// Subject alternative names, as `dns:…` and `uri:…`, in the certificate's order.
    pub names: Vec<String>,
    /// Its last second: seconds since the Unix epoch.
    pub until_s: i64,
}

impl ClientCertificate {
    /// Whether it still counts. WHY asked of each request: a connection may outlive its certificate,
    /// and a resumed one is not verified anew.
    #[must_use]
    pub const fn is_good(&self, now_s: i64) -> bool {
        now_s <= self.until_s
    }
}

/// The organisation a call is made for. Made only by [`resolve_tenant`], and read back from the ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Tenant(String);

impl Tenant {
    /// The organisation of a write that was decided before, as the ledger has it.
    #[must_use]
    pub fn of_ledger(id: &str) -> Option<Self> {
        is_tenant_id(id).then(|| Self(id.to_owned()))
    }

    /// The organisation's id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is known of one issuer's keys, for `/readyz` and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyHealth {
    /// The issuer's name in the configuration.
    pub issuer: String,
    /// Ids of the keys in use; empty when there are none.
    pub kids: Vec<String>,
    /// Seconds since the keys were last read successfully; absent when they never were.
    pub age_s: Option<u64>,
    /// Why the last reading failed, if it did.
    pub fault: Option<String>,
}

/// Finds the organisation that a call is made for, and refuses one that the token does not carry.
///
/// Order: what the request names (`X-LoopIQ-Tenant` header, `_meta["com.loopiq/tenant"]`), the
/// token's active tenant, the token's only tenant.
pub fn resolve_tenant(principal: &Principal, header: Option<&str>, meta: Option<&str>) -> Result<Tenant, Refusal> {
    let named = match (header, meta) {
        (Some(header), Some(meta)) if header != meta => return Err(disagreement(header, meta)),
        (Some(named), _) | (None, Some(named)) => Some(named),
        (None, None) => None,
    };
    if principal.tenants.is_empty() {
        return Err(Refusal::because(Code::TenantForbidden, "the token carries no tenant")
            .then("get a token that carries the tenant you work for"));
    }
    let chosen = match (named.or(principal.active_tenant.as_deref()), principal.tenants.as_slice()) {
        (Some(chosen), _) => chosen,
        (None, [only]) => only.as_str(),
        (None, several) => return Err(undecided(several)),
    };
    if !is_tenant_id(chosen) {
        return Err(Refusal::because(Code::TenantForbidden, "the tenant named is not a tenant id"));
    }
    if !principal.tenants.iter().any(|tenant| tenant == chosen) {
        return Err(Refusal::because(
            Code::TenantForbidden,
            format!("tenant `{chosen}` is not among the token's tenants"),
        ));
    }
    Ok(Tenant(chosen.to_owned()))
}

fn disagreement(header: &str, meta: &str) -> Refusal {
    let words = if is_tenant_id(header) && is_tenant_id(meta) {
        format!("the `X-LoopIQ-Tenant` header names `{header}` and `_meta[\"com.loopiq/tenant\"]` names `{meta}`")
    } else {
        "the `X-LoopIQ-Tenant` header and `_meta[\"com.loopiq/tenant\"]` disagree".to_owned()
    };
    Refusal::because(Code::TenantForbidden, words).then("name one tenant, or the same one in both places")
}

fn undecided(tenants: &[String]) -> Refusal {
    let quoted: Vec<String> = tenants.iter().map(|tenant| format!("`{tenant}`")).collect();
    Refusal::because(
        Code::TenantRequired,
        format!("the token carries more than one tenant and none was chosen: {}", quoted.join(", ")),
    )
    .with("tenants", tenants.iter().cloned().map(Value::String).collect::<Vec<_>>())
}

/// Whether `id` may name an organisation: 1 to 128 of `A-Z a-z 0-9 _ . : -`.
#[must_use]
pub fn is_tenant_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-'))
}

#[cfg(test)]
pub(crate) mod forge;
#[cfg(test)]
mod tests;
