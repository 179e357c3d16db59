//! Whose callers the sandbox believes.
//!
//! Promises: with keys, a request is believed only with an `EdDSA` token for audience `loopiq`
//! that has not expired and names the very user and tenant of the headers. Never says more than
//! that it does not believe. Called by `sandbox::door`.

use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use jsonwebtoken::decode;
use jsonwebtoken::decode_header;
use jsonwebtoken::jwk::AlgorithmParameters;
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::jwk::JwkSet;
use serde::Deserialize;
use serde_json::Value;

use super::SandboxError;

/// Audience of tokens for LoopIQ.
const AUDIENCE: &str = "loopiq";

/// The keys of those who may vouch for a caller.
pub(super) struct Trust {
    keys: Vec<(Option<String>, DecodingKey)>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    tenant: String,
}

impl Trust {
    /// Reads a JWKS; keys of other kinds than Ed25519 are left out.
    pub(super) fn from_jwks(jwks: &Value) -> Result<Self, SandboxError> {
        let set: JwkSet =
            serde_json::from_value(jwks.clone()).map_err(|error| SandboxError::Trust(error.to_string()))?;
        let usable = set.keys.iter().filter(|key| {
            matches!(&key.algorithm, AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519)
        });
        let keys: Vec<_> = usable
            .map(|key| Ok((key.common.key_id.clone(), DecodingKey::from_jwk(key)?)))
            .collect::<Result<_, jsonwebtoken::errors::Error>>()
            .map_err(|error| SandboxError::Trust(error.to_string()))?;
        if keys.is_empty() {
            return Err(SandboxError::Trust("there is no Ed25519 key among them".to_owned()));
        }
        Ok(Self { keys })
    }

    /// Whether the token vouches for this user in this tenant.
    pub(super) fn believes(&self, token: &str, user: &str, tenant: &str) -> bool {
        let Ok(header) = decode_header(token) else { return false };
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        let eligible = self.keys.iter().filter(|(id, _)| header.kid.is_none() || id.is_none() || *id == header.kid);
        eligible
            .filter_map(|(_, key)| decode::<Claims>(token, key, &validation).ok())
            .any(|token| token.claims.sub == user && token.claims.tenant == tenant)
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trust").field("keys", &self.keys.len()).finish()
    }
}
