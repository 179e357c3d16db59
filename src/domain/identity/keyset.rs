//! The keys that one issuer signs with, checked before any of them is trusted.
//!
//! Promises: every key has exactly one algorithm and is strong enough for it; key ids are unique;
//! a set that carries secrets, weak keys or contradictions is refused whole, while keys meant for
//! something else (encryption, other algorithms) are left out. Never fetches: bytes come in.
//! Called by `adapters::keys`; used by `identity::token`.

use std::collections::BTreeSet;
use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use crate::domain::identity::issuer::Alg;
use crate::domain::identity::strict;

/// Largest key set read, in bytes.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Most keys in a set.
pub const KEYS_MAX: usize = 100;
/// Longest key id, in bytes.
pub const KID_BYTES_MAX: usize = 256;
/// Shortest HMAC secret: as long as the hash (RFC 7518 section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a key set was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Longer than [`JWKS_BYTES_MAX`].
    #[error("the key set is longer than {JWKS_BYTES_MAX} bytes")]
    TooLarge,
    /// Not a JSON object with an array `keys` of objects.
    #[error("the key set is not a JSON Web Key Set: {0}")]
    Malformed(&'static str),
    /// More than [`KEYS_MAX`].
    #[error("the key set has more than {KEYS_MAX} keys")]
    TooMany,
    /// Nothing in it can verify a token of this issuer.
    #[error("the key set has no key for an allowed algorithm; publish one for {0}")]
    Empty(String),
    /// Two keys with one id, or several keys and one of them without id.
    #[error("key id `{0}` stands twice or is missing; give each key its own `kid`")]
    AmbiguousKid(String),
    /// A symmetric or private key was published.
    #[error("key `{0}` publishes a secret; rotate it and publish public keys only")]
    Secret(String),
    /// Contradictory, or no such key.
    #[error("key `{kid}`: {what}")]
    Inconsistent {
        /// Its id, or its place in the set.
        kid: String,
        /// What does not agree.
        what: &'static str,
    },
    /// Too small to trust.
    #[error("key `{kid}` is too weak: {what}")]
    Weak {
        /// Its id, or its place in the set.
        kid: String,
        /// What it lacks.
        what: &'static str,
    },
    /// An HMAC secret shorter than [`SECRET_BYTES_MIN`].
    #[error("the HMAC secret is shorter than {SECRET_BYTES_MIN} bytes")]
    ShortSecret,
}

/// The keys of one issuer.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    /// `None`: the only key of its set; it answers to any id.
    kid: Option<String>,
    alg: Alg,
    key: DecodingKey,
    /// SHA-256 over the key material, so that sets compare without showing it.
    digest: [u8; 32],
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.kid == other.kid && self.alg == other.alg && self.digest == other.digest
    }
}

impl Eq for Key {}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.iter().map(|key| (key.kid.as_deref().unwrap_or("*"), key.alg.as_str()));
        f.debug_map().entries(keys).finish()
    }
}

/// What came of looking a key up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Good,
    Bad,
    NoSuchKey,
    OtherAlg,
}

impl KeySet {
    /// Reads a JSON Web Key Set (RFC 7517), keeping the keys that may verify tokens by `algs`.
    pub fn from_jwks(bytes: &[u8], algs: &[Alg]) -> Result<Self, KeyFault> {
        if bytes.len() > JWKS_BYTES_MAX {
            return Err(KeyFault::TooLarge);
        }
        let set = strict::object(bytes, JWKS_BYTES_MAX)
            .ok_or(KeyFault::Malformed("not a JSON object without duplicate members"))?;
        let Some(Value::Array(items)) = set.get("keys") else {
            return Err(KeyFault::Malformed("`keys` is not an array"));
        };
        if items.len() > KEYS_MAX {
            return Err(KeyFault::TooMany);
        }
        let mut kids = BTreeSet::new();
        let mut keys = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let Value::Object(jwk) = item else {
                return Err(KeyFault::Malformed("a member of `keys` is not an object"));
            };
            let kid = kid_of(jwk)?;
            if kid.is_none() && items.len() > 1 {
                return Err(KeyFault::AmbiguousKid(format!("#{place}")));
            }
            if let Some(kid) = &kid
                && !kids.insert(kid.clone())
            {
                return Err(KeyFault::AmbiguousKid(kid.clone()));
            }
            if let Some(key) = Key::from_jwk(jwk, kid, place)?
                && algs.contains(&key.alg)
            {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            let names: Vec<&str> = algs.iter().map(|alg| alg.as_str()).collect();
            return Err(KeyFault::Empty(names.join(", ")));
        }
        Ok(Self { keys })
    }

    /// One shared HS256 secret, for tokens that LoopIQ itself issues. It answers to any key id.
    pub fn from_hs256(secret: &[u8]) -> Result<Self, KeyFault> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyFault::ShortSecret);
        }
        let key = Key {
            kid: None,
            alg: Alg::Hs256,
            key: DecodingKey::from_secret(secret),
            digest: digest_of(&[b"oct", secret]),
        };
        Ok(Self { keys: vec![key] })
    }

    /// Ids of the keys, `*` for one without.
    #[must_use]
    pub fn kids(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.kid.clone().unwrap_or_else(|| "*".to_owned())).collect()
    }

    /// Verifies `signature` (base64url) over `message` with the key named.
    ///
    /// A token without `kid` is tried with the only key of its algorithm, if there is only one.
    pub(super) fn verify(&self, kid: Option<&str>, alg: Alg, message: &str, signature: &str) -> Check {
        let key = match (kid, self.keys.as_slice()) {
            (_, [only]) if only.kid.is_none() => Some(only),
            (Some(kid), keys) => keys.iter().find(|key| key.kid.as_deref() == Some(kid)),
            (None, keys) => {
                let mut fitting = keys.iter().filter(|key| key.alg == alg);
                fitting.next().filter(|_| fitting.next().is_none())
            }
        };
        let Some(key) = key else { return Check::NoSuchKey };
        if key.alg != alg {
            return Check::OtherAlg;
        }
        match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.key, algorithm(alg)) {
            Ok(true) => Check::Good,
            Ok(false) | Err(_) => Check::Bad,
        }
    }
}

const fn algorithm(alg: Alg) -> Algorithm {
    match alg {
        Alg::Rs256 => Algorithm::RS256,
        Alg::Es256 => Algorithm::ES256,
        Alg::EdDsa => Algorithm::EdDSA,
        Alg::Hs256 => Algorithm::HS256,
    }
}

impl Key {
    /// A key, `None` when it is meant for something else, or why the whole set is refused.
    fn from_jwk(jwk: &Map<String, Value>, kid: Option<String>, place: usize) -> Result<Option<Self>, KeyFault> {
        let label = kid.clone().unwrap_or_else(|| format!("#{place}"));
        let inconsistent = |what| KeyFault::Inconsistent { kid: label.clone(), what };
        let text = |member: &'static str| match jwk.get(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(inconsistent("a member that must be a string is not")),
        };
        let kty = text("kty")?.ok_or_else(|| inconsistent("`kty` is missing"))?;
        if kty == "oct" || ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"].iter().any(|m| jwk.contains_key(*m)) {
            return Err(KeyFault::Secret(label));
        }
        if text("use")?.is_some_and(|purpose| purpose != "sig") || !may_verify(jwk, &inconsistent)? {
            return Ok(None);
        }
        let (alg, material) = match (kty, text("crv")?) {
            ("RSA", None) => (Alg::Rs256, Material::rsa(jwk, &label)?),
            ("RSA", Some(_)) => return Err(inconsistent("an RSA key has no curve")),
            ("EC", Some("P-256")) => (Alg::Es256, Material::p256(jwk, &label)?),
            ("OKP", Some("Ed25519")) => (Alg::EdDsa, Material::ed25519(jwk, &label)?),
            ("EC" | "OKP", None) => return Err(inconsistent("`crv` is missing")),
            ("EC", Some("Ed25519" | "Ed448")) | ("OKP", Some("P-256" | "P-384" | "P-521")) => {
                return Err(inconsistent("`kty` and `crv` do not belong together"));
            }
            (_, _) => return Ok(None),
        };
        match text("alg")? {
            None => {}
            Some(name) if name == alg.as_str() => {}
            // RSA keys serve other algorithms too; a curve has only one.
            Some("RS384" | "RS512" | "PS256" | "PS384" | "PS512" | "RSA1_5" | "RSA-OAEP" | "RSA-OAEP-256")
                if alg == Alg::Rs256 =>
            {
                return Ok(None);
            }
            Some(_) => return Err(inconsistent("`alg` does not belong to this kind of key")),
        }
        Ok(Some(Self { kid, alg, key: material.key, digest: material.digest }))
    }
}

struct Material {
    key: DecodingKey,
    digest: [u8; 32],
}

impl Material {
    fn rsa(jwk: &Map<String, Value>, kid: &str) -> Result<Self, KeyFault> {
        let (n, e) = (number(jwk, "n", kid)?, number(jwk, "e", kid)?);
        let weak = |what| KeyFault::Weak { kid: kid.to_owned(), what };
        if !RSA_BITS.contains(&bits(&n)) {
            return Err(weak("an RSA modulus must have 2048 to 8192 bits"));
        }
        let exponent = e.iter().try_fold(0_u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
        if !exponent.is_some_and(|e| e >= 65537 && e % 2 == 1 && e < 1 << 33) {
            return Err(weak("an RSA exponent must be odd and at least 65537"));
        }
        if n.last().is_none_or(|byte| byte % 2 == 0) {
            return Err(weak("an RSA modulus must be odd"));
        }
        Ok(Self { digest: digest_of(&[b"RSA", &n, &e]), key: DecodingKey::from_rsa_raw_components(&n, &e) })
    }

    fn p256(jwk: &Map<String, Value>, kid: &str) -> Result<Self, KeyFault> {
        let (x, y) = (bytes(jwk, "x", kid)?, bytes(jwk, "y", kid)?);
        let off = || KeyFault::Inconsistent { kid: kid.to_owned(), what: "it is not a point on P-256" };
        if x.len() != 32 || y.len() != 32 {
            return Err(off());
        }
        let point = [&[0x04], x.as_slice(), y.as_slice()].concat();
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).map_err(|_| off())?;
        Ok(Self { digest: digest_of(&[b"EC", &point]), key: DecodingKey::from_ec_der(&point) })
    }

    fn ed25519(jwk: &Map<String, Value>, kid: &str) -> Result<Self, KeyFault> {
        let x = bytes(jwk, "x", kid)?;
        let off = || KeyFault::Inconsistent { kid: kid.to_owned(), what: "it is not an Ed25519 key" };
        if x.len() != 32 || jwk.contains_key("y") {
            return Err(off());
        }
        ParsedPublicKey::new(&ED25519, &x).map_err(|_| off())?;
        Ok(Self { digest: digest_of(&[b"OKP", &x]), key: DecodingKey::from_ed_der(&x) })
    }
}

fn kid_of(jwk: &Map<String, Value>) -> Result<Option<String>, KeyFault> {
    match jwk.get("kid") {
        None => Ok(None),
        Some(Value::String(kid)) if is_kid(kid) => Ok(Some(kid.clone())),
        Some(_) => Err(KeyFault::Malformed("a `kid` is empty, too long, not text or not printable")),
    }
}

/// Whether `kid` is printable and short; it is only ever compared, never used to find anything.
pub(super) fn is_kid(kid: &str) -> bool {
    (1..=KID_BYTES_MAX).contains(&kid.len()) && !kid.chars().any(char::is_control)
}

fn may_verify(jwk: &Map<String, Value>, inconsistent: &impl Fn(&'static str) -> KeyFault) -> Result<bool, KeyFault> {
    match jwk.get("key_ops") {
        None => Ok(true),
        Some(Value::Array(ops)) => Ok(ops.iter().any(|op| op == "verify")),
        Some(_) => Err(inconsistent("`key_ops` is not an array")),
    }
}

fn bytes(jwk: &Map<String, Value>, member: &str, kid: &str) -> Result<Vec<u8>, KeyFault> {
    jwk.get(member)
        .and_then(Value::as_str)
        .and_then(strict::decode)
        .filter(|bytes| !bytes.is_empty())
        .ok_or_else(|| KeyFault::Inconsistent { kid: kid.to_owned(), what: "a coordinate is not base64url" })
}

/// An unsigned big-endian integer without leading zeros (RFC 7518 section 2, `Base64urlUInt`).
fn number(jwk: &Map<String, Value>, member: &str, kid: &str) -> Result<Vec<u8>, KeyFault> {
    // WHY: Java libraries are known to emit a leading zero byte; RFC 7518 section 6.3.1.1 warns of it.
    let bytes = bytes(jwk, member, kid)?;
    Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn bits(n: &[u8]) -> usize {
    n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize)
}

fn digest_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests;
