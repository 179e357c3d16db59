//! Who calls and how they are proven, as the file has it: issuers, scopes, propagation, own keys.
//!
//! Promises and never does what the rest of the mirror does: see `config::raw`.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::identity::AuthMethod;

section! {
    /// Who vouches for callers.
    RawIssuer {
        /// Short name for logs and metrics.
        name: String = String::new();
        /// Kind of credential: `oauth`, `loopiq`, `helix` or `service_account`.
        kind: AuthMethod = AuthMethod::Oauth;
        /// Exact value of the token's `iss`.
        issuer: String = String::new();
        /// Accepted values of `aud`. Empty: the public URL.
        audiences: Vec<String> = Vec::new();
        /// Tenants that this issuer may vouch for. Empty: any; kind `service_account` must list them.
        tenants: Vec<String> = Vec::new();
        /// Accepted signature algorithms. `HS256` is possible for kind `loopiq` only.
        algorithms: Vec<String> = vec!["RS256".into(), "ES256".into(), "EdDSA".into()];
        /// Where the keys are, or who is asked instead.
        keys: RawKeySource = RawKeySource::default();
        /// How often keys are fetched again. An unknown key id is looked up sooner, at most every 30 s.
        refresh: String = "5m".into();
        /// How long keys that cannot be refreshed stay good; after that callers get 503.
        max_stale: String = "1h".into();
        /// Tolerated clock difference.
        leeway: String = "60s".into();
        /// Where the token says who the caller is.
        claims: RawClaims = RawClaims::default();
        /// Scopes named in the protected-resource metadata.
        scopes: Vec<String> = Vec::new();
    }
}

section! {
    /// How an issuer's credentials are verified: exactly one of `file`, `url`, `secret_file` and
    /// `introspection.url`; or `certificates` alone.
    RawKeySource {
        /// A JWKS file, read again when it changes.
        file: String = String::new();
        /// A JWKS URL; `https`, or `http` on a loopback address.
        url: String = String::new();
        /// A file with a shared secret of at least 32 bytes; kind `loopiq` with `HS256` only.
        secret_file: String = String::new();
        /// The issuer is asked about each token (RFC 7662), for tokens that are opaque.
        introspection: RawIntrospection = RawIntrospection::default();
        /// Client certificates, as `dns:NAME`, `uri:URI` or `sha256:HEX`. Beside keys: its tokens must come
        /// over one of these. Alone, for kinds `helix` and `loopiq`: a connection with one of these says by
        /// the headers `X-LoopIQ-User`, `X-LoopIQ-Tenant`, `X-LoopIQ-Roles` and `X-LoopIQ-Teams` for whom it calls.
        certificates: Vec<String> = Vec::new();
        /// PEM file with the only authority that may vouch for the URL's host. Empty: those that the system trusts.
        ca_file: String = String::new();
        /// Whether the URL's host may lie in a private network.
        allow_private: bool = false;
    }
}

section! {
    /// The issuer is asked about each token (RFC 7662).
    RawIntrospection {
        /// The endpoint; `https`, or `http` on a loopback address.
        url: String = String::new();
        /// The gateway's `client_id` there.
        client_id: String = String::new();
        /// A file with its secret. Empty: it proves itself with its own key (`private_key_jwt`; `/.well-known/jwks.json`).
        secret_file: String = String::new();
        /// Longest time for which an answer is remembered; a token that was taken back may be good for as long.
        cache: String = "30s".into();
        /// What its tokens begin with. Tokens that begin so are shown to this issuer alone, others never to it.
        token_prefix: String = String::new();
    }
}

section! {
    /// Scopes that a call needs, by what the tool does; a tool's own `scopes` in the catalog come on top.
    /// A token that lacks one gets 403 `insufficient_scope`. Helix sessions have no scopes and need none.
    RawScopes {
        /// Of tools that change nothing.
        read: Vec<String> = Vec::new();
        /// Of tools that change records.
        write: Vec<String> = Vec::new();
        /// Of tools that change how LoopIQ is run.
        admin: Vec<String> = Vec::new();
    }
}

section! {
    /// Claim names; a name that starts with `/` is a JSON pointer.
    RawClaims {
        /// The user.
        user: String = "sub".into();
        /// Organisations: an array of strings, or one string.
        tenants: String = "tenants".into();
        /// The active organisation.
        active_tenant: String = "active_tenant".into();
        /// Organisation roles.
        roles: String = "roles".into();
        /// Team to roles in that team.
        teams: String = "teams".into();
        /// Direct permissions.
        permissions: String = "permissions".into();
        /// Scopes: a space-separated string, or an array.
        scopes: String = "scope".into();
        /// The OAuth client.
        client: String = "client_id".into();
    }
}

section! {
    /// How the gateway proves the caller to the backend. The client's own token is never passed on.
    RawPropagation {
        /// `assertion`: a short-lived JWT signed by the gateway. `exchange`: a token that a token service
        /// gives for such a JWT (RFC 8693). `static`: a service credential.
        mode: PropagationMode = PropagationMode::Assertion;
        /// `aud` of the assertion; with `exchange`, the `audience` that the token is asked for. Empty: the backend's name.
        audience: String = String::new();
        /// How long an assertion is good.
        lifetime: String = "60s".into();
        /// File with the credential of mode `static`; with `exchange`, with the secret of `client_id`. There it may be
        /// left out: then the gateway proves itself with its own key (`private_key_jwt`).
        secret_file: String = String::new();
        /// The token endpoint of mode `exchange`; `https`, or `http` on a loopback address.
        url: String = String::new();
        /// The gateway's `client_id` there.
        client_id: String = String::new();
        /// The `scope` that the token is asked for. Empty: none is named.
        scope: String = String::new();
        /// PEM file with the only authority that may vouch for the URL's host. Empty: those that the system trusts.
        ca_file: String = String::new();
        /// Whether the URL's host may lie in a private network.
        allow_private: bool = false;
    }
}

/// How the gateway proves the caller to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PropagationMode {
    /// A short-lived JWT signed by the gateway.
    Assertion,
    /// A token that a token service gives for such a JWT.
    Exchange,
    /// A service credential.
    Static,
}

section! {
    /// The gateway's own keys: one signs assertions for backends, one signs checkpoints.
    RawKeys {
        /// Folder; missing keys are made on first start with mode 0600.
        dir: String = "../data/keys".into();
        /// Age at which the key that signs assertions is replaced, as `90d`. Empty: only by `loopgate keys rotate`.
        rotate: String = String::new();
        /// How long a new key is published before it signs; longer than backends keep `/.well-known/jwks.json`.
        publish_before: String = "10m".into();
    }
}
