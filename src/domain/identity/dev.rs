//! An issuer for trying things out: the demo, the tests, a developer's machine.
//!
//! Promises: mints ordinary tokens that pass exactly the checks that any other issuer's do; there
//! is no back door for it in `identity::token`. Never used by `serve` unless configured.
//! Called by `cli::token`, `cli::demo` and tests; stored by `adapters::keys::dev`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::identity::AuthMethod;
use crate::domain::identity::issuer::{Alg, IssuerSettings};
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
