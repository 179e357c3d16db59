//! The gateway's own signing key: Ed25519, named by its RFC 7638 thumbprint.
//!
//! Promises: the private half leaves only through [`SigningKey::to_pkcs8_pem`] and never through
//! `Debug`; the key id follows from the public half alone. Never draws randomness: bytes come in.
//! Used by `identity::assertion`, `identity::dev` and whoever signs checkpoints.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::domain::identity::strict;

const PEM_TAG: &str = "PRIVATE KEY";

/// Why a signing key could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyFault {
    /// Not PEM, or PEM of something else.
    #[error("the key is not a PEM file of a PKCS#8 private key; make one with `openssl genpkey -algorithm ed25519`")]
    NotPem,
    /// PKCS#8 of another kind of key, or damaged.
    #[error("the key is not an Ed25519 key; make one with `openssl genpkey -algorithm ed25519`")]
    NotEd25519,
}

/// An Ed25519 private key and its id. Cheap to clone.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Ed25519KeyPair>,
    kid: Arc<str>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, ***)", self.kid)
    }
}

impl SigningKey {
    /// The key that follows from 32 random bytes.
    pub fn generate(random: &[u8; 32]) -> Result<Self, SigningKeyFault> {
        Ed25519KeyPair::from_seed_unchecked(random).map(Self::named).map_err(|_| SigningKeyFault::NotEd25519)
    }

    /// Reads a PKCS#8 PEM file, as `openssl genpkey -algorithm ed25519` writes it.
    pub fn from_pkcs8_pem(text: &str) -> Result<Self, SigningKeyFault> {
        let file = pem::parse(text).map_err(|_| SigningKeyFault::NotPem)?;
        if file.tag() != PEM_TAG {
            return Err(SigningKeyFault::NotPem);
        }
        Ed25519KeyPair::from_pkcs8(file.contents())
            .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(file.contents()))
            .map(Self::named)
            .map_err(|_| SigningKeyFault::NotEd25519)
    }

    /// The private key as a PKCS#8 PEM file.
    pub fn to_pkcs8_pem(&self) -> Result<String, SigningKeyFault> {
        let der = self.pair.to_pkcs8v1().map_err(|_| SigningKeyFault::NotEd25519)?;
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        Ok(pem::encode_config(&pem::Pem::new(PEM_TAG, der.as_ref()), config))
    }

    fn named(pair: Ed25519KeyPair) -> Self {
        let x = strict::encode(pair.public_key().as_ref());
        // RFC 7638: the required members only, in lexical order, without spaces (RFC 8037 appendix A.3).
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = strict::encode(digest::digest(&digest::SHA256, members.as_bytes())).into();
        Self { pair: Arc::new(pair), kid }
    }

    /// The key's id: the RFC 7638 SHA-256 thumbprint of its public half.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The 32 bytes of the public half.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The public half as a JSON Web Key.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "x": strict::encode(self.public_key()),
            "kid": self.kid(),
            "use": "sig",
            "alg": "EdDSA",
        })
    }

    /// A JSON Web Key Set with this key, as `/.well-known/jwks.json` serves it.
    #[must_use]
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.public_jwk()] })
    }

    /// The Ed25519 signature over `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// A compact JWS over `claims` with this `typ`.
    pub(super) fn sign_jwt(&self, typ: &str, claims: &Value) -> String {
        let header = json!({ "alg": "EdDSA", "kid": self.kid(), "typ": typ }).to_string();
        let message = format!("{}.{}", strict::encode(header), strict::encode(claims.to_string()));
        let signature = strict::encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_pem_file_and_keeps_its_id() {
        let key = SigningKey::generate(&[7; 32]).unwrap();
        let pem = key.to_pkcs8_pem().unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let again = SigningKey::from_pkcs8_pem(&pem).unwrap();
        assert_eq!((again.kid(), again.public_key()), (key.kid(), key.public_key()));
    }

    #[test]
    fn a_key_made_by_openssl_is_read() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        let key = SigningKey::from_pkcs8_pem(pem).unwrap();
        // RFC 8037 appendices A.2 and A.3: the same key, its public half and its thumbprint.
        assert_eq!(key.public_jwk()["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn what_is_not_an_ed25519_key_is_refused() {
        assert_eq!(SigningKey::from_pkcs8_pem("").unwrap_err(), SigningKeyFault::NotPem);
        let public = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        assert_eq!(SigningKey::from_pkcs8_pem(public).unwrap_err(), SigningKeyFault::NotPem);
        let damaged = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(SigningKey::from_pkcs8_pem(damaged).unwrap_err(), SigningKeyFault::NotEd25519);
    }

    #[test]
    fn a_key_never_shows_its_private_half() {
        let key = SigningKey::generate(&[7; 32]).unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey({}, ***)", key.kid()));
    }
}
