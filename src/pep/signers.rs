//! What the gateway signs with, while it changes.
//!
//! Promises: who asks gets the key that signs now; a change is whole or not there. Never reads a
//! file. Filled by `app::keys`; asked by `pep` and by the adapters that speak for the gateway.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::domain::identity::ring::Ring;
use crate::domain::identity::signing::SigningKey;

/// The signing keys in force.
#[derive(Debug)]
pub struct Signers(ArcSwap<Ring>);

impl Signers {
    /// These keys.
    #[must_use]
    pub fn new(ring: Ring) -> Self {
        Self(ArcSwap::from_pointee(ring))
    }

    /// The key that signs at `now_s`: seconds since the Unix epoch.
    #[must_use]
    pub fn signer(&self, now_s: i64) -> SigningKey {
        self.0.load().signer(now_s).clone()
    }

    /// The JSON Web Key Set that is published at `now_s`.
    #[must_use]
    pub fn jwks(&self, now_s: i64) -> Value {
        self.0.load().jwks(now_s)
    }

    /// From now on these keys.
    pub fn replace(&self, ring: Ring) {
        self.0.store(Arc::new(ring));
    }
}

impl From<SigningKey> for Signers {
    fn from(key: SigningKey) -> Self {
        Self::new(Ring::of(key))
    }
}
