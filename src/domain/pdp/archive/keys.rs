//! The public keys of those who may sign a bundle.
//!
//! Promises: a key verifies by the algorithms of its kind and no other; there is no `none`, and a
//! public key is never taken for a secret. A private key is refused where a public one belongs.
//! Called by `archive::sign`, `adapters::reload` and `cli::policy`.

use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::ParsedPublicKey;
use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use aws_lc_rs::signature::RSA_PSS_2048_8192_SHA256;

/// Why a key is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}`: {what}")]
pub struct BadKey {
    /// What the key is called, such as its file.
    pub name: String,
    /// What is wrong, and what to do.
    pub what: &'static str,
}

/// A public key whose owner may sign bundles.
#[derive(Debug, Clone)]
pub struct TrustedKey {
    name: String,
    /// JOSE name of an algorithm, and the key as that algorithm takes it.
    by: Vec<(&'static str, ParsedPublicKey)>,
}

impl TrustedKey {
    /// Reads a PEM file: Ed25519, P-256, or RSA of 2048 bits and more.
    pub fn from_pem(name: &str, text: &str) -> Result<Self, BadKey> {
        let bad = |what| BadKey { name: name.to_owned(), what };
        let file = pem::parse(text)
            .map_err(|_| bad("it is not one PEM block; make it with `openssl pkey -in KEY -pubout`"))?;
        match file.tag() {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
            "CERTIFICATE" => {
                return Err(bad("it is a certificate; take its key with `openssl x509 -in CERT -pubkey -noout`"));
            }
            tag if tag.ends_with("PRIVATE KEY") => {
                return Err(bad("it is a private key, which belongs to the signer alone; \
                                make the public one with `openssl pkey -in KEY -pubout`"));
            }
            _ => return Err(bad("it is no public key; make one with `openssl pkey -in KEY -pubout`")),
        }
        let der = file.contents();
        let mut by = Vec::new();
        if let Ok(key) = ParsedPublicKey::new(&ED25519, der) {
            by.push(("EdDSA", key));
        } else if let Ok(key) = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, der) {
            by.push(("ES256", key));
        } else if let (Ok(key), Ok(pss)) = (
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der),
            ParsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, der),
        ) {
            by.extend([("RS256", key), ("PS256", pss)]);
        } else {
            return Err(bad("it is no Ed25519, P-256 or RSA key (2048 to 8192 bits)"));
        }
        Ok(Self { name: name.to_owned(), by })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// JOSE names of the algorithms that it verifies by.
    pub(super) fn algorithms(&self) -> impl Iterator<Item = &'static str> {
        self.by.iter().map(|(alg, _)| *alg)
    }

    /// Whether its owner signed `message`, by the algorithm of that name.
    pub(super) fn signed(&self, alg: &str, message: &[u8], signature: &[u8]) -> bool {
        self.by.iter().any(|(name, key)| *name == alg && key.verify_sig(message, signature).is_ok())
    }
}
