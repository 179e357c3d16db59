//! Tokens that get in with the right fields, and a table of those that must not.

mod claims;

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::*;
use crate::domain::identity::AuthMethod;
use crate::domain::identity::forge::{
    EC, ED, ISS, NOW, RSA, SECRET, STRANGER, Smith, claims, claims_but, issuer, settings, sign_with,
};
use crate::domain::identity::strict::encode;
use crate::domain::refusal::Code;

/// One bad token: what it is, the token, and the cause it must be refused with.
type Bad = (String, String, &'static str);

fn bad(name: impl Into<String>, token: impl Into<String>, cause: &'static str) -> Bad {
    (name.into(), token.into(), cause)
}

/// Every token of the table is refused with its cause, and the caller learns nothing but the code.
fn check(table: Vec<Bad>, issuers: &[Issuer]) -> usize {
    let count = table.len();
    for (name, token, cause) in table {
        let fault = authenticate(&token, issuers, NOW).expect_err(&name);
        assert_eq!(fault.cause(), cause, "{name}: {fault}");
        let expected = if cause == "expired" { Code::TokenExpired } else { Code::Unauthenticated };
        assert_eq!(fault.code(), expected, "{name}");
        let challenge = fault.challenge(Vec::new());
        assert_eq!((challenge.status(), challenge.presented, challenge.cause), (401, true, cause), "{name}");
        assert!(!fault.to_string().contains("ada"), "{name}: the words quote the token");
    }
    count
}

fn main_issuer() -> Vec<Issuer> {
    vec![issuer(settings())]
}

fn with_header(smith: &Smith, member: &str, value: Value) -> String {
    let mut header = smith.header();
    if value.is_null() {
        header.as_object_mut().unwrap().remove(member);
    } else {
        header[member] = value;
    }
    smith.sign(&header.to_string(), &claims().to_string())
}

#[test]
fn a_good_token_of_each_algorithm_gets_in_with_the_right_fields() {
    for smith in [&*RSA, &*EC, &*ED] {
        let ada = authenticate(&smith.token(&claims()), &main_issuer(), NOW).unwrap();
        let expected = Principal {
            user: "ada".to_owned(),
            issuer: ISS.to_owned(),
            method: AuthMethod::Oauth,
            client: Some("claude".to_owned()),
            tenants: vec!["org_gcn".to_owned()],
            active_tenant: None,
            roles: vec!["release_manager".to_owned()],
            teams: BTreeMap::from([("payments".to_owned(), vec!["lead".to_owned()])]),
            permissions: vec!["release.read".to_owned()],
            scopes: vec!["tools:read".to_owned(), "tools:write".to_owned()],
            expires_at: NOW + 600,
        };
        assert_eq!(ada, expected, "{}", smith.kid);
    }
}

#[test]
fn an_hs256_token_gets_in_at_a_loopiq_issuer_only() {
    let mut settings = settings();
    settings.kind = AuthMethod::Loopiq;
    settings.algs = vec![Alg::Hs256];
    assert_eq!(settings.faults(), []);
    let keys = Some(Arc::new(KeySet::from_hs256(SECRET).unwrap()));
    let loopiq = [Issuer { settings: Arc::new(settings), keys }];
    let header = json!({"alg": "HS256", "typ": "JWT"}).to_string();
    let token = sign_with(&EncodingKey::from_secret(SECRET), Algorithm::HS256, &header, &claims().to_string());
    assert_eq!(authenticate(&token, &loopiq, NOW).unwrap().method, AuthMethod::Loopiq);
    assert_eq!(authenticate(&token, &main_issuer(), NOW), Err(AuthFault::AlgNotAllowed));
    // The other way about: what the asymmetric issuer signs is nothing to the symmetric one.
    check(
        vec![
            bad("RS256 at an HS256 issuer", RSA.token(&claims()), "alg_not_allowed"),
            bad("EdDSA at an HS256 issuer", ED.token(&claims()), "alg_not_allowed"),
            bad(
                "HS256 by another secret",
                sign_with(&EncodingKey::from_secret(b"x"), Algorithm::HS256, &header, &claims().to_string()),
                "bad_signature",
            ),
            bad(
                "HS256 by the empty secret",
                sign_with(&EncodingKey::from_secret(b""), Algorithm::HS256, &header, &claims().to_string()),
                "bad_signature",
            ),
        ],
        &loopiq,
    );
}

#[test]
fn an_unsigned_token_is_refused_however_it_spells_none() {
    let payload = encode(claims().to_string());
    let mut table = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", "noNE"] {
        let header = encode(json!({"alg": alg, "typ": "JWT"}).to_string());
        let signature = encode("x");
        table.push(bad(format!("{alg}, no signature"), format!("{header}.{payload}."), "alg_none"));
        table.push(bad(format!("{alg}, some signature"), format!("{header}.{payload}.{signature}"), "alg_none"));
    }
    let header = |value: Value| encode(value.to_string());
    for (value, cause) in [
        (json!({"typ": "JWT"}), "alg_none"),
        (json!({"alg": null}), "malformed"),
        (json!({"alg": ["none"]}), "malformed"),
        (json!({"alg": 0}), "malformed"),
        (json!({"alg": ""}), "alg_not_allowed"),
        (json!({"alg": " none"}), "alg_not_allowed"),
        (json!({"alg": "none\u{0}"}), "alg_not_allowed"),
        (json!({"alg": "nonе"}), "alg_not_allowed"),
    ] {
        table.push(bad(value.to_string(), format!("{}.{payload}.{}", header(value), encode("x")), cause));
    }
    let message = format!("{}.{payload}", encode(ED.header().to_string()));
    table.push(bad("EdDSA without a signature", format!("{message}."), "malformed"));
    table.push(bad("EdDSA with zeros for a signature", format!("{message}.{}", encode([0; 64])), "bad_signature"));
    let message = format!("{}.{payload}", encode(EC.header().to_string()));
    // CVE-2022-21449: r = s = 0 verified for every message.
    table.push(bad("ES256 with zeros for a signature", format!("{message}.{}", encode([0; 64])), "bad_signature"));
    assert!(check(table, &main_issuer()) >= 20);
}

#[test]
fn a_public_key_is_never_taken_for_a_shared_secret() {
    let mut table = Vec::new();
    for smith in [&*RSA, &*EC] {
        for (form, secret) in &smith.public {
            let mut header = smith.header();
            header["alg"] = json!("HS256");
            let key = EncodingKey::from_secret(secret);
            let token = sign_with(&key, Algorithm::HS256, &header.to_string(), &claims().to_string());
            table.push(bad(format!("HS256 by {} as {form}", smith.kid), token, "alg_not_allowed"));
        }
    }
    assert_eq!(check(table.clone(), &main_issuer()), 14);
    // Nor where HS256 is allowed by mistake: the algorithm belongs to the key, not to the token.
    let mut careless = settings();
    careless.algs = Alg::ALL.to_vec();
    assert!(!careless.faults().is_empty());
    check(table, &[issuer(careless)]);
}

#[test]
fn a_token_signed_by_another_key_or_changed_afterwards_is_refused() {
    let good = ED.token(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = ED.token(&claims_but("sub", json!("tess")));
    let (other_message, _) = other.rsplit_once('.').unwrap();
    let mut flipped = strict::decode(signature).unwrap();
    flipped[0] ^= 1;
    let mut narrow = settings();
    narrow.algs = vec![Alg::EdDsa];
    let as_kid = |smith: &Smith, kid: &str| with_header(smith, "kid", json!(kid));
    check(
        vec![
            bad("a stranger's key under a known id", STRANGER.token(&claims()), "bad_signature"),
            bad("the signature of another token", format!("{other_message}.{signature}"), "bad_signature"),
            bad("one bit flipped", format!("{message}.{}", encode(flipped)), "bad_signature"),
            bad("half a signature", format!("{message}.{}", encode([1; 32])), "bad_signature"),
            bad("ES256 under the RSA key's id", as_kid(&EC, "rsa-1"), "alg_not_allowed"),
            bad("RS256 under the EC key's id", as_kid(&RSA, "ec-1"), "alg_not_allowed"),
            bad("EdDSA under the EC key's id", as_kid(&ED, "ec-1"), "alg_not_allowed"),
            bad("RS256 named EdDSA", with_header(&RSA, "alg", json!("EdDSA")), "alg_not_allowed"),
            bad("RS256 named RS512", with_header(&RSA, "alg", json!("RS512")), "alg_not_allowed"),
            bad("RS256 named PS256", with_header(&RSA, "alg", json!("PS256")), "alg_not_allowed"),
            bad("alg in lower case", with_header(&RSA, "alg", json!("rs256")), "alg_not_allowed"),
        ],
        &main_issuer(),
    );
    check(vec![bad("RS256 where only EdDSA is allowed", RSA.token(&claims()), "alg_not_allowed")], &[issuer(narrow)]);
}

#[test]
fn a_header_cannot_choose_the_key_or_change_the_rules() {
    let kid = |kid: Value| with_header(&ED, "kid", kid);
    let mut table = vec![
        bad("unknown id", kid(json!("ed-2")), "unknown_kid"),
        bad("id in another case", kid(json!("ED-1")), "unknown_kid"),
        bad("traversal", kid(json!("../../../../dev/null")), "unknown_kid"),
        bad("SQL", kid(json!("ed-1' UNION SELECT 'x")), "unknown_kid"),
        bad("URL", kid(json!("https://evil.example/key")), "unknown_kid"),
        bad("command", kid(json!("ed-1|id")), "unknown_kid"),
        bad("oversize", kid(json!("k".repeat(257))), "malformed"),
        bad("empty", kid(json!("")), "malformed"),
        bad("NUL", kid(json!("ed-1\u{0}")), "malformed"),
        bad("newline", kid(json!("ed-1\n")), "malformed"),
        bad("number", kid(json!(1)), "malformed"),
        bad("array", kid(json!(["ed-1"])), "malformed"),
        bad("no id among several keys", with_header(&STRANGER, "kid", Value::Null), "bad_signature"),
        bad("jku", with_header(&STRANGER, "jku", json!("https://evil.example/jwks")), "key_in_header"),
        bad("jku of the issuer itself", with_header(&ED, "jku", json!(ISS)), "key_in_header"),
        bad("x5u", with_header(&STRANGER, "x5u", json!("https://evil.example/cert")), "key_in_header"),
        bad("jwk", with_header(&STRANGER, "jwk", STRANGER.jwk.clone()), "key_in_header"),
        bad("x5c", with_header(&STRANGER, "x5c", json!(["MIIB"])), "key_in_header"),
        bad("crit", with_header(&ED, "crit", json!(["exp"])), "crit"),
        bad("crit, empty", with_header(&ED, "crit", json!([])), "crit"),
        bad("b64", with_header(&ED, "b64", json!(false)), "crit"),
        bad("zip", with_header(&ED, "zip", json!("DEF")), "malformed"),
        bad("enc", with_header(&ED, "enc", json!("A256GCM")), "malformed"),
        bad("nested", with_header(&ED, "cty", json!("JWT")), "malformed"),
    ];
    for typ in ["approval+jwt", "loopiq-assertion+jwt", "id_token+jwt", "dpop+jwt", "secevent+jwt", "logout+jwt", ""] {
        table.push(bad(format!("typ {typ}"), with_header(&ED, "typ", json!(typ)), "typ"));
    }
    table.push(bad("typ is a number", with_header(&ED, "typ", json!(1)), "malformed"));
    table.push(bad("typ with another prefix", with_header(&ED, "typ", json!("text/at+jwt")), "typ"));
    for (claim, value) in [
        ("at_hash", json!("x")),
        ("c_hash", json!("x")),
        ("token_use", json!("id")),
        ("typ", json!("Refresh")),
        ("typ", json!("ID")),
    ] {
        table.push(bad(format!("claim {claim} {value}"), ED.token(&claims_but(claim, value)), "typ"));
    }
    check(table, &main_issuer());
}

#[test]
fn the_typ_of_an_access_token_may_be_written_in_every_way_that_issuers_do() {
    for typ in [json!("JWT"), json!("jwt"), json!("at+jwt"), json!("AT+JWT"), json!("application/at+jwt"), Value::Null]
    {
        assert!(authenticate(&with_header(&ED, "typ", typ.clone()), &main_issuer(), NOW).is_ok(), "{typ}");
    }
    let mut strict_typ = settings();
    strict_typ.require_typ = Some("at+jwt".to_owned());
    let issuers = [issuer(strict_typ)];
    assert!(authenticate(&with_header(&ED, "typ", json!("application/at+jwt")), &issuers, NOW).is_ok());
    check(
        vec![
            bad("JWT", with_header(&ED, "typ", json!("JWT")), "typ"),
            bad("none", with_header(&ED, "typ", Value::Null), "typ"),
        ],
        &issuers,
    );
}

#[test]
fn a_token_without_key_id_is_tried_with_the_only_key_of_its_algorithm() {
    assert!(authenticate(&with_header(&ED, "kid", Value::Null), &main_issuer(), NOW).is_ok());
    let mut set = settings();
    set.algs = vec![Alg::Rs256];
    let twins = json!({"keys": [RSA.jwk, {"kty": "RSA", "kid": "rsa-2", "n": RSA.jwk["n"], "e": RSA.jwk["e"]}]});
    let keys = Some(Arc::new(KeySet::from_jwks(twins.to_string().as_bytes(), &set.algs).unwrap()));
    let issuers = [Issuer { settings: Arc::new(set), keys }];
    check(vec![bad("no id, two RSA keys", with_header(&RSA, "kid", Value::Null), "unknown_kid")], &issuers);
}

#[test]
fn what_is_not_three_parts_of_exact_base64url_is_refused() {
    let good = ED.token(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { unreachable!("a token has three parts") };
    let raw = |header: &str, payload: &str| ED.sign(header, payload);
    let ok_header = ED.header().to_string();
    let ok_claims = claims().to_string();
    let twice = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let mut trailing_bits = (*signature).to_owned();
    // 64 bytes leave 4 bits of the last character unused: readers that ignore them take many texts for one token.
    trailing_bits.pop();
    let mut table = vec![
        bad("empty", "", "malformed"),
        bad("a word", "token", "malformed"),
        bad("dots", "..", "malformed"),
        bad("two parts", format!("{header}.{payload}"), "malformed"),
        bad("four parts", format!("{good}.{signature}"), "malformed"),
        bad("five parts, as if encrypted", format!("{good}.{payload}.{signature}"), "malformed"),
        bad("leading dot", format!(".{good}"), "malformed"),
        bad("trailing dot", format!("{good}."), "malformed"),
        bad("padding on the signature", format!("{good}=="), "malformed"),
        bad("padding on the header", format!("{header}=.{payload}.{signature}"), "malformed"),
        bad("leading space", format!(" {good}"), "malformed"),
        bad("trailing space", format!("{good} "), "malformed"),
        bad("inner newline", format!("{header}.\n{payload}.{signature}"), "malformed"),
        bad("tab", format!("{header}\t.{payload}.{signature}"), "malformed"),
        bad("plain base64 alphabet", format!("{header}.{payload}.{signature}+/"), "malformed"),
        bad("not ASCII", format!("{good}é"), "malformed"),
        bad("fullwidth dot", format!("{header}．{payload}．{signature}"), "malformed"),
        bad("JSON serialization", json!({"payload": payload, "signature": signature}).to_string(), "malformed"),
        bad("a comma-joined pair", format!("{good},{good}"), "malformed"),
        bad("header not JSON", raw("nonsense", &ok_claims), "malformed"),
        bad("header an array", raw("[]", &ok_claims), "malformed"),
        bad("header with a BOM", raw(&format!("\u{feff}{ok_header}"), &ok_claims), "malformed"),
        bad("header with trailing data", raw(&format!("{ok_header}{{}}"), &ok_claims), "malformed"),
        bad("two algs in the header", raw(&twice(&ok_header, r#""alg":"none""#), &ok_claims), "malformed"),
        bad("two kids in the header", raw(&twice(&ok_header, r#""kid":"x""#), &ok_claims), "malformed"),
        bad("an escaped second alg", raw(&twice(&ok_header, r#""\u0061lg":"none""#), &ok_claims), "malformed"),
        bad("claims not JSON", raw(&ok_header, "nonsense"), "malformed"),
        bad("claims a string", raw(&ok_header, "\"ada\""), "malformed"),
        bad("claims empty", raw(&ok_header, ""), "malformed"),
        bad("two subs", raw(&ok_header, &twice(&ok_claims, r#""sub":"tess""#)), "malformed"),
        bad("two exps", raw(&ok_header, &twice(&ok_claims, r#""exp":1900000000"#)), "malformed"),
        bad("two tenants claims", raw(&ok_header, &twice(&ok_claims, r#""tenants":["org_x"]"#)), "malformed"),
        bad("deeply nested claims", raw(&ok_header, &twice(&ok_claims, &format!("\"x\":{deep}"))), "malformed"),
        bad("a lone surrogate", raw(&ok_header, &twice(&ok_claims, r#""x":"\ud800""#)), "malformed"),
        bad("oversized", raw(&ok_header, &claims_but("x", json!("y".repeat(9000))).to_string()), "too_large"),
    ];
    for last in ["B", "C", "D", "E", "F"] {
        let token = format!("{header}.{payload}.{trailing_bits}{last}");
        table.push((format!("signature ending in {last}"), token, "malformed"));
    }
    check(table, &main_issuer());
}

#[test]
fn an_issuer_with_a_tenant_list_vouches_for_no_other() {
    let mut limited = settings();
    limited.kind = AuthMethod::ServiceAccount;
    limited.tenants_allowed = vec!["org_gcn".to_owned()];
    let issuers = [issuer(limited)];
    assert!(authenticate(&ED.token(&claims()), &issuers, NOW).is_ok());
    let wider = ED.token(&claims_but("tenants", json!(["org_gcn", "org_nordbank"])));
    check(vec![bad("a tenant more", wider, "tenant_not_allowed")], &issuers);
}

#[test]
fn without_trusted_keys_nothing_gets_in_and_it_is_not_the_callers_fault() {
    let issuers = [Issuer { settings: Arc::new(settings()), keys: None }];
    let fault = authenticate(&ED.token(&claims()), &issuers, NOW).unwrap_err();
    assert_eq!((fault.cause(), fault.is_ours()), ("keys_unavailable", true));
    // What is wrong with a token whoever signed it is still its own fault.
    check(vec![bad("unsigned", with_header(&ED, "alg", json!("none")), "alg_none")], &issuers);
    check(vec![bad("no issuer at all", ED.token(&claims()), "too_large")], &[]);
}

#[test]
fn each_issuer_answers_for_its_own_tokens_only() {
    let mut other = settings();
    other.name = "other".to_owned();
    other.issuer = "https://other.example".to_owned();
    let keys = json!({"keys": [STRANGER.jwk]}).to_string();
    let keys = Some(Arc::new(KeySet::from_jwks(keys.as_bytes(), &other.algs).unwrap()));
    let issuers = [issuer(settings()), Issuer { settings: Arc::new(other), keys }];
    let theirs = claims_but("iss", json!("https://other.example"));
    assert_eq!(authenticate(&STRANGER.token(&theirs), &issuers, NOW).unwrap().issuer, "https://other.example");
    check(
        vec![
            bad("signed by one, claiming the other", STRANGER.token(&claims()), "bad_signature"),
            bad("and the other way about", ED.token(&theirs), "bad_signature"),
        ],
        &issuers,
    );
}

#[test]
fn a_bearer_token_comes_from_one_authorization_header_alone() {
    fn cause<'a>(values: &[&'a str]) -> Result<&'a str, &'static str> {
        credentials(values).map_err(|fault| fault.cause())
    }
    assert_eq!(cause(&[]), Err("absent"));
    assert_eq!(cause(&["Bearer a", "Bearer a"]), Err("ambiguous"));
    for (value, expected) in [
        ("Bearer abc", Ok("abc")),
        ("bearer abc", Ok("abc")),
        ("BEARER  abc", Ok("abc")),
        ("Basic abc", Err("scheme")),
        ("DPoP abc", Err("scheme")),
        ("abc", Err("scheme")),
        ("", Err("scheme")),
        ("Bearer", Err("scheme")),
        ("Bearer ", Err("malformed")),
        ("Bearer\tabc", Err("scheme")),
        ("Bearerabc", Err("scheme")),
    ] {
        assert_eq!(cause(&[value]), expected, "{value:?}");
    }
    assert!(!AuthFault::Absent.challenge(Vec::new()).presented);
}

#[test]
fn every_cause_has_its_label_in_the_metrics_label_set() {
    let mut labels = AuthFault::CAUSES.to_vec();
    labels.dedup();
    assert_eq!(labels.len(), AuthFault::CAUSES.len());
    for fault in
        [AuthFault::Absent, AuthFault::TooLarge { max: 1 }, AuthFault::KeysUnavailable { issuer: String::new() }]
    {
        assert!(AuthFault::CAUSES.contains(&fault.cause()));
    }
}
