//! An issuer for trying things out: the demo, the tests, a developer's machine.
//!
//! Promises: mints ordinary tokens that pass exactly the checks that any other issuer's do; there
//! is no back door for it in `identity::token`. Never used by `serve` unless configured.
//! Called by `cli::token`, `cli::demo` and tests; stored by `adapters::keys::dev`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::domain::canonical::NotCanonical;
use crate::domain::identity::AuthMethod;
use crate::domain::identity::approval_token::action_digest;
use crate::domain::identity::issuer::{APPROVAL_TYP, Alg, IssuerSettings};
use crate::domain::identity::signing::SigningKey;

/// Whom a development token names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DevClaims {
    /// `sub`.
    pub user: String,
    /// `tenants`.
    pub tenants: Vec<String>,
    /// `active_tenant`.
    pub active_tenant: Option<String>,
    /// `roles`.
    pub roles: Vec<String>,
    /// `teams`.
    pub teams: BTreeMap<String, Vec<String>>,
    /// `permissions`.
    pub permissions: Vec<String>,
    /// `scope`.
    pub scopes: Vec<String>,
    /// `client_id`.
    pub client: Option<String>,
}

/// What a development approval is for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DevApproval {
    /// `aud`: the name of the one ledger.
    pub ledger: String,
    /// `tid`.
    pub tenant: String,
    /// `sub`: who may use it.
    pub user: String,
    /// The tool.
    pub tool: String,
    /// Its arguments; with the tool they make `psh`.
    pub arguments: Map<String, Value>,
    /// `jti`.
    pub id: String,
    /// Who agreed, with their roles.
    pub votes: Vec<(String, Vec<String>)>,
}

/// A development issuer: one key, one `iss`, one `aud`.
#[derive(Debug, Clone)]
pub struct DevIssuer {
    /// What it signs with.
    pub key: SigningKey,
    /// `iss` of its tokens.
    pub issuer: String,
    /// `aud` of its tokens.
    pub audience: String,
}

impl DevIssuer {
    /// A token for `claims`, good from `now` for `ttl_s` seconds; `jti` makes it unlike any other.
    #[must_use]
    pub fn mint(&self, claims: &DevClaims, now: i64, ttl_s: i64, jti: &str) -> String {
        let mut body = json!({
            "iss": self.issuer,
            "aud": self.audience,
            "sub": claims.user,
            "iat": now,
            "exp": now.saturating_add(ttl_s),
            "jti": jti,
            "tenants": claims.tenants,
            "roles": claims.roles,
            "teams": claims.teams,
            "permissions": claims.permissions,
            "scope": claims.scopes.join(" "),
            "active_tenant": claims.active_tenant,
            "client_id": claims.client,
        });
        if let Some(members) = body.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        self.key.sign_jwt("at+jwt", &body)
    }

    /// An approval, good from `now` for `ttl_s` seconds.
    pub fn approve(&self, approval: &DevApproval, now: i64, ttl_s: i64) -> Result<String, NotCanonical> {
        let votes: Vec<Value> =
            approval.votes.iter().map(|(user, roles)| json!({"user": user, "roles": roles})).collect();
        let body = json!({
            "iss": self.issuer,
            "aud": approval.ledger,
            "tid": approval.tenant,
            "sub": approval.user,
            "jti": approval.id,
            "psh": action_digest(&approval.tenant, &approval.user, &approval.tool, &approval.arguments)?,
            "votes": votes,
            "nbf": now,
            "iat": now,
            "exp": now.saturating_add(ttl_s),
        });
        Ok(self.key.sign_jwt(APPROVAL_TYP, &body))
    }

    /// The settings under which a gateway accepts its approvals.
    #[must_use]
    pub fn approval_settings(&self, name: &str) -> IssuerSettings {
        let mut settings = IssuerSettings::of_approvals(name, &*self.issuer);
        settings.algs = vec![Alg::EdDsa];
        settings
    }

    /// Its public keys, as a JWKS file.
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.key.jwks()
    }

    /// The settings under which a gateway accepts its tokens.
    #[must_use]
    pub fn settings(&self, name: &str, kind: AuthMethod) -> IssuerSettings {
        let mut settings = IssuerSettings::new(name, &*self.issuer, &*self.audience);
        settings.kind = kind;
        settings.algs = vec![Alg::EdDsa];
        settings
    }
}
