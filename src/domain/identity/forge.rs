//! Tokens good and bad, for tests: keys of each kind, and a signer that does whatever it is told.
//!
//! Promises: nothing about what it signs; that is the point. Never built outside tests.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::domain::identity::issuer::IssuerSettings;
use crate::domain::identity::keyset::KeySet;
use crate::domain::identity::signing::SigningKey;
use crate::domain::identity::strict::encode;
use crate::domain::identity::token::Issuer;
use crate::domain::identity::{AuthMethod, Principal, Tenant, resolve_tenant};

/// The time at which every test happens.
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const ISS: &str = "https://idp.example/realms/main";
pub(crate) const AUD: &str = "https://gw.example/mcp";
pub(crate) const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// A private key with everything public about it.
pub(crate) struct Smith {
    pub(crate) kid: &'static str,
    pub(crate) alg: Algorithm,
    pub(crate) key: EncodingKey,
    pub(crate) jwk: Value,
    /// The public key in forms that a confused verifier might take for a shared secret.
    pub(crate) public: Vec<(&'static str, Vec<u8>)>,
}

pub(crate) static RSA: LazyLock<Smith> = LazyLock::new(|| rsa_smith("rsa-1", rsa::KeySize::Rsa2048));
pub(crate) static EC: LazyLock<Smith> = LazyLock::new(|| ec_smith("ec-1"));
pub(crate) static ED: LazyLock<Smith> = LazyLock::new(|| ed_smith("ed-1", 1));
/// An Ed25519 key that nobody publishes.
pub(crate) static STRANGER: LazyLock<Smith> = LazyLock::new(|| ed_smith("ed-1", 99));

fn rsa_smith(kid: &'static str, size: rsa::KeySize) -> Smith {
    let pair = RsaKeyPair::generate(size).unwrap();
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", pkcs8.as_ref()));
    let public = pair.public_key();
    let (n, e) =
        (public.modulus().big_endian_without_leading_zero(), public.exponent().big_endian_without_leading_zero());
    let jwk = json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": encode(n), "e": encode(e)});
    let spki: PublicKeyX509Der<'_> = public.as_der().unwrap();
    let forms = public_forms(spki.as_ref(), public.as_ref(), "RSA PUBLIC KEY", &jwk);
    Smith { kid, alg: Algorithm::RS256, key: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), jwk, public: forms }
}

fn ec_smith(kid: &'static str) -> Smith {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
    let jwk = json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": x, "y": y});
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let forms = public_forms(spki.as_ref(), &point, "EC PUBLIC KEY", &jwk);
    let key = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
    Smith { kid, alg: Algorithm::ES256, key, jwk, public: forms }
}

pub(crate) fn ed_smith(kid: &'static str, seed: u8) -> Smith {
    let key = SigningKey::generate(&[seed; 32]).unwrap();
    let mut jwk = key.public_jwk();
    jwk["kid"] = json!(kid);
    let pem = pem::parse(key.to_pkcs8_pem().unwrap()).unwrap();
    Smith { kid, alg: Algorithm::EdDSA, key: EncodingKey::from_ed_der(pem.contents()), jwk, public: Vec::new() }
}

fn public_forms(spki: &[u8], bare: &[u8], tag: &str, jwk: &Value) -> Vec<(&'static str, Vec<u8>)> {
    let pem = |tag: &str, der: &[u8]| {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new(tag, der), config).into_bytes()
    };
    let spki_pem = pem("PUBLIC KEY", spki);
    vec![
        ("SPKI PEM without its last newline", spki_pem.strip_suffix(b"\n").unwrap().to_vec()),
        ("SPKI PEM", spki_pem),
        ("SPKI DER", spki.to_vec()),
        ("bare PEM", pem(tag, bare)),
        ("bare DER", bare.to_vec()),
        ("JWK", jwk.to_string().into_bytes()),
        ("JWK set", json!({"keys": [jwk]}).to_string().into_bytes()),
    ]
}

impl Smith {
    /// A token with this header and payload, text for text, whatever they say.
    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        sign_with(&self.key, self.alg, header, payload)
    }

    /// A good header.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": alg_name(self.alg), "kid": self.kid, "typ": "at+jwt"})
    }

    /// A token with a good header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }
}

fn alg_name(alg: Algorithm) -> &'static str {
    match alg {
        Algorithm::RS256 => "RS256",
        Algorithm::ES256 => "ES256",
        Algorithm::EdDSA => "EdDSA",
        _ => "HS256",
    }
}

pub(crate) fn sign_with(key: &EncodingKey, alg: Algorithm, header: &str, payload: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, alg).unwrap();
    format!("{message}.{signature}")
}

/// Claims of a token that gets in: ada of the demo world.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISS, "aud": AUD, "sub": "ada", "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 600,
        "tenants": ["org_gcn"], "roles": ["release_manager"], "teams": {"payments": ["lead"]},
        "permissions": ["release.read"], "scope": "tools:read tools:write", "client_id": "claude",
    })
}

/// [`claims`] with one of them replaced, or removed when `value` is null.
pub(crate) fn claims_but(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(claim);
    } else {
        claims[claim] = value;
    }
    claims
}

/// A key set document.
pub(crate) fn jwks(smiths: &[&Smith]) -> Vec<u8> {
    let keys: Vec<&Value> = smiths.iter().map(|smith| &smith.jwk).collect();
    json!({"keys": keys}).to_string().into_bytes()
}

pub(crate) fn settings() -> IssuerSettings {
    IssuerSettings::new("main", ISS, AUD)
}

/// An issuer with these settings and the three keys.
pub(crate) fn issuer(settings: IssuerSettings) -> Issuer {
    let keys = KeySet::from_jwks(&jwks(&[&RSA, &EC, &ED]), &settings.algs).unwrap();
    Issuer { settings: Arc::new(settings), keys: Some(Arc::new(keys)) }
}

/// A caller of one organisation, as if their token had been checked.
pub(crate) fn principal(issuer: &str, user: &str, tenant: &str) -> Principal {
    Principal {
        user: user.to_owned(),
        issuer: issuer.to_owned(),
        method: AuthMethod::Oauth,
        client: None,
        tenants: vec![tenant.to_owned()],
        active_tenant: None,
        roles: Vec::new(),
        teams: BTreeMap::new(),
        permissions: Vec::new(),
        scopes: Vec::new(),
        expires_at: 0,
    }
}

/// The organisation of [`principal`].
pub(crate) fn tenant(name: &str) -> Tenant {
    resolve_tenant(&principal("https://issuer", "ada", name), None, None).unwrap()
}
