//! Bearer tokens: nobody gets in but on a signature by the pinned key.
//!
//! The first byte says what the rest is:
//! - a token as it is, or header, claims and signature that are put together: never lets anybody in,
//!   for no key that verifies anything here has ever been used to sign what the input could hold;
//! - a genuine token with one place changed: never lets anybody in;
//! - header and claims that the pinned key signs: whoever gets in has the claims that were signed, for
//!   our audience, by our issuer, in their time, and under the pinned key's name and algorithm;
//! - the same signed by a stranger: never lets anybody in;
//! - a key set: never takes two keys of one name, nor a secret;
//! - values of `Authorization` headers: a token is taken only from one of them.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use loopgate::domain::identity::Principal;
use loopgate::domain::identity::approval_token;
use loopgate::domain::identity::issuer::{Alg, IssuerSettings};
use loopgate::domain::identity::keyset::KeySet;
use loopgate::domain::identity::signing::SigningKey;
use loopgate::domain::identity::token::{Issuer, authenticate, credentials};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;
const LEEWAY: i64 = 60;
const ISS: &str = "https://idp.example";
const AUD: &str = "https://gw.example/mcp";

/// Public halves of keys whose private halves were thrown away: nothing by them can be forged.
const RSA: &str = include_str!("rsa.jwk.json");
const EC: &str = include_str!("ec.jwk.json");

static PINNED: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(&[1; 32]).expect("32 bytes are a key"));
static STRANGER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(&[2; 32]).expect("32 bytes are a key"));
static ISSUERS: LazyLock<Vec<Issuer>> = LazyLock::new(|| {
    let public = |text: &str| serde_json::from_str::<Value>(text).expect("a key is JSON");
    let set = json!({"keys": [PINNED.public_jwk(), public(RSA), public(EC)]}).to_string();
    let settings = IssuerSettings::new("main", ISS, AUD);
    let keys = KeySet::from_jwks(set.as_bytes(), &settings.algs).expect("the key set is good");
    let approvals = IssuerSettings::of_approvals("approvals", "https://approvals.example");
    let keys = Arc::new(keys);
    vec![
        Issuer { settings: Arc::new(settings), keys: Some(Arc::clone(&keys)) },
        Issuer { settings: Arc::new(approvals), keys: Some(keys) },
    ]
});
static GENUINE: LazyLock<String> = LazyLock::new(|| {
    let claims = json!({"iss": ISS, "aud": AUD, "sub": "ada", "exp": NOW + 600, "tenants": ["org_gcn"]});
    let header = json!({"alg": "EdDSA", "kid": PINNED.kid(), "typ": "at+jwt"});
    signed(&PINNED, &header.to_string(), &claims.to_string())
});

/// Holds of any bytes.
pub fn holds(mut data: &[u8]) {
    let [kind] = super::take(&mut data);
    match kind % 8 {
        0 => nobody(&String::from_utf8_lossy(data)),
        1 => put_together(data),
        2 => changed(data),
        3 => by_the_pinned_key(data),
        4 => by_a_stranger(data),
        5 => key_set(data),
        6 => authorization(data),
        _ => as_an_approval(data),
    }
}

fn admitted(bearer: &str) -> Option<Principal> {
    authenticate(bearer, &ISSUERS, NOW).ok()
}

fn nobody(bearer: &str) {
    assert!(admitted(bearer).is_none() || bearer == *GENUINE, "let in: {bearer}");
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signed(key: &SigningKey, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = encode(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn put_together(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0).map(encode);
    let mut next = || parts.next().unwrap_or_default();
    nobody(&format!("{}.{}.{}", next(), next(), next()));
}

fn changed(mut data: &[u8]) {
    let place = usize::from(u16::from_le_bytes(super::take(&mut data)));
    let [kind] = super::take(&mut data);
    let mut token = GENUINE.clone().into_bytes();
    let place = place % token.len();
    match kind % 3 {
        0 => token.splice(place..=place, data.iter().copied()),
        1 => token.splice(place..place, data.iter().copied()),
        _ => token.splice(place.., data.iter().copied()),
    };
    nobody(&String::from_utf8_lossy(&token));
}

/// A header, where `?` is the pinned key's name, and claims.
fn header_and_claims(data: &[u8]) -> (String, String) {
    let mut parts = super::parts(data).into_iter();
    let header = parts.next().unwrap_or_default().replace('?', PINNED.kid());
    (header, parts.next().unwrap_or_default())
}

fn by_the_pinned_key(data: &[u8]) {
    let (header, claims) = header_and_claims(data);
    let Some(principal) = admitted(&signed(&PINNED, &header, &claims)) else { return };
    let header: Value = serde_json::from_str(&header).expect("a header is JSON");
    let claims: Value = serde_json::from_str(&claims).expect("claims are JSON");
    assert_eq!(header.get("alg"), Some(&json!("EdDSA")), "{header}");
    assert_eq!(header.get("kid").unwrap_or(&json!(PINNED.kid())), &json!(PINNED.kid()), "{header}");
    for refused in ["crit", "b64", "jku", "jwk", "x5u", "x5c", "enc", "zip", "cty"] {
        assert!(header.get(refused).is_none(), "`{refused}` passed");
    }
    assert_eq!(claims.get("iss"), Some(&json!(ISS)));
    let aud = claims.get("aud").expect("an audience is needed");
    assert!(*aud == json!(AUD) || aud.as_array().is_some_and(|auds| auds.contains(&json!(AUD))), "{aud}");
    let seconds = |name: &str| claims.get(name).map(|value| value.as_i64().expect("times are whole seconds"));
    assert!(seconds("exp").expect("an end is needed") + LEEWAY > NOW, "too late");
    assert!(
        seconds("nbf").unwrap_or(NOW) <= NOW + LEEWAY && seconds("iat").unwrap_or(NOW) <= NOW + LEEWAY,
        "too early"
    );
    assert_eq!(claims.get("sub"), Some(&json!(principal.user)), "another user");
    assert_eq!(principal.issuer, ISS);
    let tenants = claims.get("tenants").cloned().unwrap_or_default();
    for tenant in &principal.tenants {
        let named = tenants == json!(tenant) || tenants.as_array().is_some_and(|all| all.contains(&json!(tenant)));
        assert!(named, "`{tenant:?}` is not in {tenants}");
    }
}

fn by_a_stranger(data: &[u8]) {
    let (header, claims) = header_and_claims(data);
    nobody(&signed(&STRANGER, &header, &claims));
    let own = header.replace(PINNED.kid(), STRANGER.kid());
    nobody(&signed(&STRANGER, &own, &claims));
}

fn key_set(data: &[u8]) {
    let Ok(set) = KeySet::from_jwks(data, Alg::ALL) else { return };
    let mut names = set.kids();
    names.sort();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "two keys of one name");
    let text: Value = serde_json::from_slice(data).expect("a key set is JSON");
    for key in text.get("keys").and_then(Value::as_array).into_iter().flatten() {
        assert!(key.get("kty") != Some(&json!("oct")) && key.get("d").is_none(), "a secret was published: {key}");
    }
}

fn authorization(data: &[u8]) {
    let values = super::parts(data);
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let Ok(token) = credentials(&values) else { return };
    let [only] = values.as_slice() else { panic!("taken from one of {}", values.len()) };
    assert!(only.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer ")), "{only:?}");
    assert!(!token.is_empty() && only.ends_with(token));
}

fn as_an_approval(data: &[u8]) {
    let (header, claims) = header_and_claims(data);
    let token = signed(&PINNED, &header, &claims);
    let Ok(approval) = approval_token::verify(&token, ISSUERS.get(1..).unwrap_or_default(), "ledger", NOW) else {
        return;
    };
    let header: Value = serde_json::from_str(&header).expect("a header is JSON");
    assert_eq!(header.get("typ"), Some(&json!("approval+jwt")), "another kind of token");
    let claims: Value = serde_json::from_str(&claims).expect("claims are JSON");
    assert_eq!(claims.get("aud"), Some(&json!("ledger")), "for another ledger");
    assert!(approval.id.starts_with("ext_approvals."), "{}", approval.id);
    assert!(admitted(&token).is_none(), "an approval is no credential");
}
