//! Key sets that are read, those that are refused whole, and keys that are left out.

use serde_json::json;

use super::*;
use crate::domain::identity::forge::{EC, ED, RSA, SECRET, ed_smith, jwks};

const ALL: &[Alg] = &[Alg::Rs256, Alg::Es256, Alg::EdDsa];

fn read(keys: &Value) -> Result<KeySet, KeyFault> {
    KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes(), ALL)
}

fn but(jwk: &Value, member: &str, value: Value) -> Value {
    let mut jwk = jwk.clone();
    if value.is_null() {
        jwk.as_object_mut().unwrap().remove(member);
    } else {
        jwk[member] = value;
    }
    jwk
}

#[test]
fn good_keys_of_each_kind_are_read() {
    let set = KeySet::from_jwks(&jwks(&[&RSA, &EC, &ED]), ALL).unwrap();
    assert_eq!(set.kids(), ["rsa-1", "ec-1", "ed-1"]);
    let nameless = read(&json!([but(&ED.jwk, "kid", Value::Null)])).unwrap();
    assert_eq!(nameless.kids(), ["*"]);
    let plain = but(&but(&RSA.jwk, "use", Value::Null), "alg", Value::Null);
    assert!(read(&json!([but(&plain, "key_ops", json!(["verify"]))])).is_ok());
    let padded = strict::encode([vec![0], strict::decode(RSA.jwk["n"].as_str().unwrap()).unwrap()].concat());
    assert!(read(&json!([but(&RSA.jwk, "n", json!(padded))])).is_ok(), "a leading zero, as Java writes it");
}

#[test]
fn keys_for_other_purposes_are_left_out() {
    let mut others = vec![
        but(&RSA.jwk, "use", json!("enc")),
        but(&RSA.jwk, "key_ops", json!(["encrypt"])),
        but(&RSA.jwk, "key_ops", json!([])),
        but(&RSA.jwk, "alg", json!("RSA-OAEP")),
        but(&RSA.jwk, "alg", json!("PS256")),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}),
    ];
    for (place, other) in others.iter_mut().enumerate() {
        other["kid"] = json!(format!("other-{place}"));
        assert!(matches!(read(&json!([other])), Err(KeyFault::Empty(_))), "{other}");
    }
    others.push(ED.jwk.clone());
    assert_eq!(read(&json!(others)).unwrap().kids(), ["ed-1"]);
    // Keys of an algorithm that the issuer may not use are no keys of his.
    let set = KeySet::from_jwks(&jwks(&[&RSA, &EC]), &[Alg::Es256]).unwrap();
    assert_eq!(set.kids(), ["ec-1"]);
    assert!(matches!(KeySet::from_jwks(&jwks(&[&RSA]), &[Alg::EdDsa]), Err(KeyFault::Empty(_))));
}

#[test]
fn a_set_that_publishes_a_secret_is_refused_whole() {
    let symmetric = json!({"kty": "oct", "kid": "s", "k": strict::encode(SECRET)});
    assert_eq!(read(&json!([ED.jwk, symmetric])), Err(KeyFault::Secret("s".to_owned())));
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        let leaked = but(&RSA.jwk, member, json!("AQAB"));
        assert_eq!(read(&json!([ED.jwk, leaked])), Err(KeyFault::Secret("rsa-1".to_owned())), "{member}");
    }
}

#[test]
fn keys_that_cannot_be_told_apart_are_refused() {
    let twin = ed_smith("ed-1", 2);
    assert_eq!(read(&json!([ED.jwk, twin.jwk])), Err(KeyFault::AmbiguousKid("ed-1".to_owned())));
    let nameless = but(&EC.jwk, "kid", Value::Null);
    assert_eq!(read(&json!([ED.jwk, nameless])), Err(KeyFault::AmbiguousKid("#1".to_owned())));
}

#[test]
fn weak_keys_are_refused() {
    let n = |bytes: usize| {
        let mut n = vec![0xC1; bytes];
        n[bytes - 1] = 1;
        strict::encode(n)
    };
    let even = strict::encode([0xC2; 256]);
    for (what, weak) in [
        ("1024 bits", but(&RSA.jwk, "n", json!(n(128)))),
        ("2040 bits", but(&RSA.jwk, "n", json!(n(255)))),
        ("2048 bits on paper", but(&RSA.jwk, "n", json!(strict::encode([vec![0; 128], vec![0xC1; 128]].concat())))),
        ("16 384 bits", but(&RSA.jwk, "n", json!(n(2048)))),
        ("an even modulus", but(&RSA.jwk, "n", json!(even))),
        ("e = 1", but(&RSA.jwk, "e", json!("AQ"))),
        ("e = 3", but(&RSA.jwk, "e", json!("Aw"))),
        ("e = 65536", but(&RSA.jwk, "e", json!("AQAA"))),
        ("e = 2^72 + 1", but(&RSA.jwk, "e", json!(strict::encode([1, 0, 0, 0, 0, 0, 0, 0, 0, 1])))),
    ] {
        assert!(matches!(read(&json!([weak])), Err(KeyFault::Weak { .. })), "{what}: {:?}", read(&json!([weak])));
    }
    for short in [&b""[..], b"secret", &SECRET[..31]] {
        assert_eq!(KeySet::from_hs256(short), Err(KeyFault::ShortSecret));
    }
}

#[test]
fn contradictions_are_refused() {
    let x = EC.jwk["x"].clone();
    for (what, key) in [
        ("no kty", but(&ED.jwk, "kty", Value::Null)),
        ("kty a number", but(&ED.jwk, "kty", json!(1))),
        ("no crv", but(&EC.jwk, "crv", Value::Null)),
        ("EC on Ed25519", but(&EC.jwk, "crv", json!("Ed25519"))),
        ("OKP on P-256", but(&ED.jwk, "crv", json!("P-256"))),
        ("RSA with a curve", but(&RSA.jwk, "crv", json!("P-256"))),
        ("P-256 for ES384", but(&EC.jwk, "alg", json!("ES384"))),
        ("P-256 for RS256", but(&EC.jwk, "alg", json!("RS256"))),
        ("RSA for HS256", but(&RSA.jwk, "alg", json!("HS256"))),
        ("RSA for none", but(&RSA.jwk, "alg", json!("none"))),
        ("Ed25519 for ES256", but(&ED.jwk, "alg", json!("ES256"))),
        ("off the curve", but(&EC.jwk, "y", x.clone())),
        ("no y", but(&EC.jwk, "y", Value::Null)),
        ("x too short", but(&EC.jwk, "x", json!("AQ"))),
        ("Ed25519 too short", but(&ED.jwk, "x", json!("AQ"))),
        ("Ed25519 with y", but(&ED.jwk, "y", x)),
        ("n not base64url", but(&RSA.jwk, "n", json!("+/=="))),
        ("n missing", but(&RSA.jwk, "n", Value::Null)),
        ("key_ops a string", but(&ED.jwk, "key_ops", json!("verify"))),
        ("use an array", but(&ED.jwk, "use", json!(["sig"]))),
    ] {
        assert!(matches!(read(&json!([key])), Err(KeyFault::Inconsistent { .. })), "{what}: {:?}", read(&json!([key])));
    }
}

#[test]
fn what_is_not_a_key_set_is_refused() {
    let malformed = |text: &str| matches!(KeySet::from_jwks(text.as_bytes(), ALL), Err(KeyFault::Malformed(_)));
    let key = ED.jwk.to_string();
    for text in ["", "null", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[1]}"#, "<html></html>"] {
        assert!(malformed(text), "{text}");
    }
    assert!(malformed(&format!(r#"{{"keys":[{key}],"keys":[]}}"#)), "keys twice");
    assert!(malformed(&format!(r#"{{"keys":[{}]}}"#, key.replacen('{', r#"{"x":"AA","#, 1))), "x twice");
    assert!(malformed(&format!(r#"{{"keys":[{key}]}} trailing"#)));
    for kid in [json!(""), json!(1), json!("k".repeat(257)), json!("a\nb")] {
        assert!(matches!(read(&json!([but(&ED.jwk, "kid", kid)])), Err(KeyFault::Malformed(_))));
    }
    assert!(matches!(read(&json!([])), Err(KeyFault::Empty(_))));
}

#[test]
fn a_set_is_bounded() {
    let many: Vec<Value> = (0..=KEYS_MAX).map(|place| but(&ED.jwk, "kid", json!(format!("k{place}")))).collect();
    assert_eq!(read(&json!(many)), Err(KeyFault::TooMany));
    let mut long = jwks(&[&ED]);
    long.resize(JWKS_BYTES_MAX + 1, b' ');
    assert_eq!(KeySet::from_jwks(&long, ALL), Err(KeyFault::TooLarge));
}

#[test]
fn sets_compare_by_their_keys_and_never_show_them() {
    let set = |smiths: &[&crate::domain::identity::forge::Smith]| KeySet::from_jwks(&jwks(smiths), ALL).unwrap();
    assert_eq!(set(&[&RSA, &ED]), set(&[&RSA, &ED]));
    assert_ne!(set(&[&ED]), set(&[&ed_smith("ed-1", 2)]), "one id, another key");
    assert_ne!(set(&[&ED]), set(&[&ed_smith("ed-2", 1)]), "one key, another id");
    let secret = KeySet::from_hs256(SECRET).unwrap();
    assert_eq!(format!("{secret:?}"), r#"{"*": "HS256"}"#);
    assert_ne!(secret, KeySet::from_hs256(b"another secret of thirty-two bytes").unwrap());
}
