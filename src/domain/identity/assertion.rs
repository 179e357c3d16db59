//! What the gateway tells the backend about the caller: a short-lived JWT of its own.
//!
//! Promises: names user, tenant, request and decision, lives for seconds, and carries nothing of
//! the client's token. Its `typ` keeps it from passing as an access token.
//! Minted by `pep` for `adapters::backend`; the sandbox checks it as a backend should.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::issuer::{Alg, IssuerSettings};
use crate::domain::identity::keyset::KeySet;
use crate::domain::identity::signing::SigningKey;
use crate::domain::identity::token::{Issuer, verified};

/// `typ` of an assertion.
pub const ASSERTION_TYP: &str = "loopiq-assertion+jwt";
/// Seconds an assertion lives unless told otherwise: enough for one backend call, too short to be worth stealing.
pub const ASSERTION_LIFETIME_S: i64 = 60;
/// Longest life that a backend should believe in, whatever the gateway was told to mint.
pub const ASSERTION_LIFETIME_MAX_S: i64 = 300;

/// The claims of an assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// The gateway.
    pub iss: String,
    /// The backend.
    pub aud: String,
    /// The user.
    pub sub: String,
    /// The tenant the call is made for.
    pub tenant: String,
    /// The request.
    pub request_id: String,
    /// The policy decision that let it through.
    pub decision_id: String,
    /// The user's organisation roles.
    pub roles: Vec<String>,
    /// When it was made, seconds since the epoch.
    pub iat: i64,
    /// When it stops being good.
    pub exp: i64,
    /// Its own id; a backend may refuse to see it twice.
    pub jti: String,
}

/// Signs an assertion.
#[must_use]
pub fn mint_assertion(key: &SigningKey, assertion: &Assertion) -> String {
    let claims = json!({
        "iss": assertion.iss,
        "aud": assertion.aud,
        "sub": assertion.sub,
        "tenant": assertion.tenant,
        "request_id": assertion.request_id,
        "decision_id": assertion.decision_id,
        "roles": assertion.roles,
        "iat": assertion.iat,
        "exp": assertion.exp,
        "jti": assertion.jti,
    });
    key.sign_jwt(ASSERTION_TYP, &claims)
}

/// Signs who the gateway is to an OAuth server: the `client_assertion` of RFC 7523, good for one minute there alone.
#[must_use]
pub fn mint_client_assertion(key: &SigningKey, client: &str, server: &str, jti: &str, now: i64) -> String {
    let claims = json!({
        "iss": client,
        "sub": client,
        "aud": server,
        "jti": jti,
        "iat": now,
        "exp": now.saturating_add(ASSERTION_LIFETIME_S),
    });
    key.sign_jwt("JWT", &claims)
}

/// Checks an assertion as a backend does: the gateway's keys, issuer, audience and times.
pub fn verify_assertion(
    token: &str,
    keys: &Arc<KeySet>,
    iss: &str,
    aud: &str,
    now: i64,
) -> Result<Assertion, AuthFault> {
    let mut settings = IssuerSettings::new("gateway", iss, aud);
    settings.algs = vec![Alg::EdDsa];
    settings.require_typ = Some(ASSERTION_TYP.to_owned());
    settings.lifetime_max_s = Some(ASSERTION_LIFETIME_MAX_S);
    let issuer = Issuer { settings: Arc::new(settings), keys: Some(Arc::clone(keys)) };
    let (_, claims) = verified(token, &[issuer], now)?;
    let seconds = |claim: &'static str| claims.get(claim).and_then(Value::as_i64).ok_or(AuthFault::MissingClaim(claim));
    Ok(Assertion {
        iss: iss.to_owned(),
        aud: aud.to_owned(),
        sub: text(&claims, "sub")?,
        tenant: text(&claims, "tenant")?,
        request_id: text(&claims, "request_id")?,
        decision_id: text(&claims, "decision_id")?,
        roles: claims
            .get("roles")
            .and_then(Value::as_array)
            .map(|roles| roles.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .ok_or(AuthFault::MissingClaim("roles"))?,
        iat: seconds("iat")?,
        exp: seconds("exp")?,
        jti: text(&claims, "jti")?,
    })
}

fn text(claims: &Map<String, Value>, claim: &'static str) -> Result<String, AuthFault> {
    claims.get(claim).and_then(Value::as_str).map(str::to_owned).ok_or(AuthFault::MissingClaim(claim))
}
