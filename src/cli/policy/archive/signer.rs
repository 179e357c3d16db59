//! Private keys that sign bundles.
//!
//! Promises: a key signs by the one algorithm of its kind; nothing of it is printed, and its file is
//! only read. Called by `build` and `sign`.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use aws_lc_rs::signature::RsaKeyPair;

use crate::cli::policy::PolicyFault;
use crate::cli::policy::text_of;

/// A private key.
pub(super) struct Signer {
    path: String,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Signer {
    /// Reads a PEM file.
    pub(super) fn read(path: &Path) -> Result<Self, PolicyFault> {
        let name = path.display().to_string();
        let bad = |message: &str| PolicyFault::File { path: name.clone(), message: message.to_owned() };
        let make = "make one with `loopgate policy bundle keygen`";
        let file = pem::parse(text_of(path)?).map_err(|_| bad(&format!("it is not one PEM block; {make}")))?;
        let der = file.contents();
        let pair = match file.tag() {
            "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => pair(der),
            "ENCRYPTED PRIVATE KEY" => {
                return Err(bad("it needs a pass phrase; take that away with `openssl pkey -in KEY -out PLAIN`"));
            }
            tag if tag.ends_with("PUBLIC KEY") => {
                return Err(bad("it is a public key, which can only verify; name the private one"));
            }
            _ => return Err(bad(&format!("it is no private key; {make}"))),
        };
        let pair =
            pair.ok_or_else(|| bad(&format!("it is no Ed25519, P-256 or RSA key (2048 to 8192 bits); {make}")))?;
        Ok(Self { path: name, pair })
    }

    /// JOSE name of its algorithm.
    pub(super) const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Ed25519(_) => "EdDSA",
            Pair::P256(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// The signature over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, PolicyFault> {
        let failed = |_| PolicyFault::File { path: self.path.clone(), message: "the key cannot sign".to_owned() };
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::P256(pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// A key of whichever kind it is; each reader takes only its own.
fn pair(der: &[u8]) -> Option<Pair> {
    let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
    Ed25519KeyPair::from_pkcs8(der)
        .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der))
        .map(Pair::Ed25519)
        .or_else(|_| EcdsaKeyPair::from_pkcs8(curve, der).map(Pair::P256))
        .or_else(|_| EcdsaKeyPair::from_private_key_der(curve, der).map(Pair::P256))
        .or_else(|_| RsaKeyPair::from_pkcs8(der).map(Pair::Rsa))
        .or_else(|_| RsaKeyPair::from_der(der).map(Pair::Rsa))
        .ok()
}
