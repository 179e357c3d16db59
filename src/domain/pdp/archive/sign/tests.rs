//! What a signature vouches for, and every way in which it does not.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::encoding::PublicKeyX509Der;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use aws_lc_rs::signature::RSA_PSS_SHA256;
use aws_lc_rs::signature::RsaKeyPair;

use super::*;
use crate::domain::pdp::archive::About;
use crate::domain::pdp::bundle::Bundle;

fn archive() -> Archive {
    let files = [
        ("loopiq/gateway/decision.rego", "package loopiq.gateway\n\ndecision := {\"allow\": false}\n"),
        ("data/tenants.yaml", "org: {on: true}\n"),
        ("schema/data.json", "{}"),
    ];
    let bundle =
        Bundle::from_files(files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).to_vec()).unwrap();
    Archive::of(&bundle, &About { revision: "1".to_owned(), ..About::default() }).unwrap()
}

fn ed25519(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn trusted(name: &str, key: &impl AsDer<PublicKeyX509Der<'static>>) -> TrustedKey {
    let der = key.as_der().unwrap();
    TrustedKey::from_pem(name, &pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref()))).unwrap()
}

fn of_seed(name: &str, seed: u8) -> TrustedKey {
    trusted(name, ed25519(seed).public_key())
}

fn claims(scope: &str) -> Claims {
    Claims { scope: scope.to_owned(), issuer: "ci".to_owned(), key_id: "k1".to_owned(), issued_at: 1_700_000_000 }
}

fn signed(scope: &str) -> Archive {
    let mut archive = archive();
    sign(&mut archive, scope, "EdDSA", |message| ed25519(1).sign(message).as_ref().to_vec());
    archive
}

fn sign(archive: &mut Archive, scope: &str, algorithm: &str, by: impl FnOnce(&[u8]) -> Vec<u8>) {
    archive.sign(&claims(scope), algorithm, |message| Ok::<_, ArchiveFault>(by(message))).unwrap();
}

fn codes(archive: &Archive, scope: &str) -> Vec<(Code, String)> {
    let faults = archive.verify(&[of_seed("ci.pub", 1)], scope).err().unwrap_or_default();
    faults.into_iter().map(|fault| (fault.code, fault.fault.path)).collect()
}

fn code(archive: &Archive) -> Code {
    codes(archive, "").first().expect("it is refused").0
}

#[test]
fn whoever_verifies_learns_who_signed_what() {
    let bytes = signed("prod").pack().unwrap();
    let archive = Archive::unpack(&bytes).unwrap();
    let signed = archive.verify(&[of_seed("other.pub", 2), of_seed("ci.pub", 1)], "prod").unwrap();
    assert_eq!((signed.key.as_str(), signed.algorithm.as_str(), signed.scope.as_str()), ("ci.pub", "EdDSA", "prod"));
    assert_eq!((signed.key_id.as_deref(), signed.issuer.as_deref()), (Some("k1"), Some("ci")));
    assert_eq!(signed.issued_at, Some(1_700_000_000));
    archive.open().unwrap();
}

#[test]
fn every_kind_of_key_verifies_by_its_own_algorithms_and_no_other() {
    let random = SystemRandom::new();
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let with_rsa = |padding: &'static dyn aws_lc_rs::signature::RsaEncoding, message: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(padding, &random, message, &mut signature).unwrap();
        signature
    };
    let keys = [of_seed("ed", 1), trusted("ec", p256.public_key()), trusted("rsa", rsa.public_key())];
    for right in ["EdDSA", "ES256", "RS256", "PS256"] {
        for said in ["EdDSA", "ES256", "RS256", "PS256", "HS256", "none", "RS512", "eddsa", ""] {
            let mut archive = archive();
            sign(&mut archive, "", said, |message| match right {
                "EdDSA" => ed25519(1).sign(message).as_ref().to_vec(),
                "ES256" => p256.sign(&random, message).unwrap().as_ref().to_vec(),
                "RS256" => with_rsa(&RSA_PKCS1_SHA256, message),
                _ => with_rsa(&RSA_PSS_SHA256, message),
            });
            assert_eq!(archive.verify(&keys, "").is_ok(), said == right, "{right} as {said}");
        }
    }
    // The oldest trick: the public key, which everybody has, as the secret of an HMAC.
    let mut archive = archive();
    let public = ed25519(1).public_key().as_ref().to_vec();
    sign(&mut archive, "", "HS256", |message| {
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &public);
        aws_lc_rs::hmac::sign(&secret, message).as_ref().to_vec()
    });
    assert_eq!(code(&archive), Code::SignatureInvalid);
    sign(&mut archive, "", "none", |_| Vec::new());
    assert_eq!(code(&archive), Code::SignatureInvalid);
    assert!(archive.verify(&[], "").is_err(), "nobody is trusted");
}

#[test]
fn any_file_that_changed_is_missing_or_was_added_is_named() {
    let signed = signed("");
    assert_eq!(codes(&signed, ""), []);
    let edits = [
        (".manifest", "\"1\"", "\"2\""),
        ("loopiq/gateway/decision.rego", "false", "true"),
        ("tenants/data.json", "true", "null"),
        ("schema/data.schema.json", "{}", "{ }"),
    ];
    for (path, from, to) in edits {
        let mut changed = signed.clone();
        let text = String::from_utf8(changed.files[path].clone()).unwrap();
        assert!(text.contains(from), "{path}");
        changed.files.insert(path.to_owned(), text.replacen(from, to, 1).into_bytes());
        assert_eq!(codes(&changed, ""), [(Code::FileChanged, path.to_owned())]);
        let mut missing = signed.clone();
        missing.files.remove(path);
        assert_eq!(codes(&missing, ""), [(Code::FileMissing, path.to_owned())]);
    }
    let mut added = signed.clone();
    added.files.insert("z.rego".to_owned(), b"package z".to_vec());
    added.files.insert("readme.txt".to_owned(), b"hello".to_vec());
    added.files.remove("tenants/data.json");
    let expected =
        [(Code::FileExtra, "readme.txt"), (Code::FileExtra, "z.rego"), (Code::FileMissing, "tenants/data.json")];
    assert_eq!(codes(&added, ""), expected.map(|(code, path)| (code, path.to_owned())));
    let mut doubled = signed;
    doubled.files.insert("tenants/data.json".to_owned(), br#"{"org":{"on":false},"org":{"on":true}}"#.to_vec());
    assert_eq!(codes(&doubled, ""), [(Code::FileChanged, "tenants/data.json".to_owned())]);
}

#[test]
fn data_may_be_written_otherwise_as_long_as_it_says_the_same() {
    let mut signed = signed("");
    signed.files.insert("tenants/data.json".to_owned(), b"{ \"org\" : {\"on\":true} }\n".to_vec());
    assert_eq!(codes(&signed, ""), []);
}

#[test]
fn a_signature_for_something_else_is_none_for_this() {
    for (said, asked) in [("prod", ""), ("", "prod"), ("prod", "test"), ("prod", "prod ")] {
        assert_eq!(codes(&signed(said), asked), [(Code::ScopeMismatch, SIGNATURES.to_owned())], "{said:?} {asked:?}");
    }
}

#[test]
fn a_missing_torn_or_doubled_signature_is_refused() {
    assert_eq!(code(&archive()), Code::SignatureMissing);
    let whole = signed("");
    let token = whole.token().unwrap();
    let with = |text: &str| {
        let mut archive = whole.clone();
        archive.files.insert(SIGNATURES.to_owned(), text.as_bytes().to_vec());
        code(&archive)
    };
    let [header, payload, signature] = <[&str; 3]>::try_from(token.split('.').collect::<Vec<_>>()).unwrap();
    let critical = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#);
    for text in [
        String::new(),
        "[]".to_owned(),
        "{\"signatures\": []}".to_owned(),
        format!("{{\"signatures\": [\"{token}\", \"{token}\"]}}"),
        format!("{{\"signatures\": [\"{token}\"], \"signatures\": [\"{token}\"]}}"),
        format!("{{\"signatures\": [\"{header}.{payload}\"]}}"),
        format!("{{\"signatures\": [\"{header}.{payload}.\"]}}"),
        format!("{{\"signatures\": [\"{header}.{payload}.{signature}=\"]}}"),
        format!("{{\"signatures\": [\"{header}.{payload}.{signature}.{signature}\"]}}"),
        format!("{{\"signatures\": [\"{header}.{}.{signature}\"]}}", URL_SAFE_NO_PAD.encode("{\"files\":[]}")),
        format!("{{\"signatures\": [\"{critical}.{payload}.{signature}\"]}}"),
        format!("{{\"signatures\": [\"{}.{payload}.{signature}\"]}}", URL_SAFE_NO_PAD.encode("{}")),
    ] {
        assert_eq!(with(&text), Code::SignatureInvalid, "{text}");
    }
    assert_eq!(with(&format!("{{\"signatures\": [\"{token}\"], \"plugin\": \"x\"}}")), Code::Unsupported);
    let mut by_opa = whole.clone();
    by_opa.edit(SIGNATURES, format!("{{\"signatures\": [\"{token}\"], \"plugin\": \"_default\"}}").as_bytes());
    assert_eq!(codes(&by_opa, ""), [], "as `opa build` writes it");
}

#[test]
fn a_signed_list_that_is_weak_or_contradicts_itself_is_refused() {
    let with = |files: Value| {
        let mut archive = archive();
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let message =
            format!("{}.{}", part(json!({"alg": "EdDSA"}).to_string()), part(json!({"files": files}).to_string()));
        let signature = part_of(ed25519(1).sign(message.as_bytes()).as_ref());
        let text = json!({"signatures": [format!("{message}.{signature}")]}).to_string();
        archive.files.retain(|path, _| path == "loopiq/gateway/decision.rego");
        archive.files.insert(SIGNATURES.to_owned(), text.into_bytes());
        codes(&archive, "").into_iter().map(|(code, _)| code).collect::<Vec<_>>()
    };
    let path = "loopiq/gateway/decision.rego";
    let bytes = archive().files[path].clone();
    let entry = |name: &str, algorithm: &str, hash: &str| json!({"name": name, "algorithm": algorithm, "hash": hash});
    let (short, long) = (&aws_lc_rs::digest::SHA256, &aws_lc_rs::digest::SHA512);
    let sum = |algorithm| hash::of(path, &bytes, algorithm).unwrap();
    assert_eq!(with(json!([entry(path, "SHA-256", &sum(short))])), []);
    assert_eq!(with(json!([entry(&format!("/{path}"), "SHA-512", &sum(long))])), []);
    assert_eq!(with(json!([entry(path, "MD5", &sum(short))])), [Code::SignatureInvalid]);
    assert_eq!(with(json!([entry(path, "", &sum(short))])), [Code::SignatureInvalid]);
    assert_eq!(with(json!([entry(path, "SHA-512", &sum(short))])), [Code::FileChanged]);
    let twice = [entry(path, "SHA-256", &sum(short)), entry(&format!("/{path}"), "SHA-256", &sum(short))];
    assert_eq!(with(json!(twice)), [Code::SignatureInvalid]);
    assert_eq!(with(json!("all of them")), [Code::SignatureInvalid]);
}

fn part_of(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[test]
fn a_file_that_holds_no_public_key_is_refused_with_what_to_do() {
    let refused = |tag: &str, der: &[u8]| {
        TrustedKey::from_pem("sign.pub", &pem::encode(&pem::Pem::new(tag, der))).unwrap_err().to_string()
    };
    let key = ed25519(1);
    let private = key.to_pkcs8v1().unwrap();
    assert!(refused("PRIVATE KEY", private.as_ref()).contains("belongs to the signer alone"));
    assert!(refused("EC PRIVATE KEY", private.as_ref()).contains("belongs to the signer alone"));
    assert!(refused("CERTIFICATE", b"x").contains("openssl x509"));
    assert!(refused("PUBLIC KEY", b"x").contains("no Ed25519, P-256 or RSA key"));
    assert!(TrustedKey::from_pem("sign.pub", "secret").unwrap_err().to_string().contains("openssl pkey"));
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let der: PublicKeyX509Der<'_> = p384.public_key().as_der().unwrap();
    assert!(refused("PUBLIC KEY", der.as_ref()).contains("P-256"));
}
