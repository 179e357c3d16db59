//! Approvals that hold, and a table of those that must not.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::*;
use crate::domain::identity::forge::{
    AUD, EC, ED, ISS, NOW, RSA, SECRET, STRANGER, Smith, claims, claims_but, issuer, jwks, settings, sign_with,
};
use crate::domain::identity::issuer::Alg;
use crate::domain::identity::keyset::KeySet;
use crate::domain::identity::strict::{decode, encode};
use crate::domain::identity::token::authenticate;

const LEDGER: &str = "ledger_018f3b5e";

/// One bad approval: what it is, the token, and the cause it must be refused with.
type Bad = (String, String, &'static str);

fn bad(name: impl Into<String>, token: impl Into<String>, cause: &'static str) -> Bad {
    (name.into(), token.into(), cause)
}

fn check(table: Vec<Bad>, issuers: &[Issuer]) -> usize {
    let count = table.len();
    for (name, token, cause) in table {
        let fault = verify(&token, issuers, LEDGER, NOW).expect_err(&name);
        assert_eq!(fault.cause(), cause, "{name}: {fault}");
        assert!(!fault.to_string().contains("ada"), "{name}: the words quote the token");
    }
    count
}

fn issuers() -> Vec<Issuer> {
    let settings = IssuerSettings::of_approvals("loopiq", ISS);
    assert_eq!(settings.faults(), []);
    vec![issuer(settings)]
}

fn arguments() -> Map<String, Value> {
    json!({"title": "t", "points": 3}).as_object().cloned().unwrap()
}

fn good() -> Value {
    json!({
        "iss": ISS, "aud": LEDGER, "tid": "org_gcn", "sub": "ada", "jti": "a-1",
        "psh": action_digest("org_gcn", "ada", "loopiq_x", &arguments()).unwrap(),
        "votes": [{"user": "otto", "roles": ["certification_approver"], "teams": ["assurance"]}],
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 600,
    })
}

fn good_but(claim: &str, value: Value) -> Value {
    let mut claims = good();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(claim);
    } else {
        claims[claim] = value;
    }
    claims
}

fn header(smith: &Smith) -> Value {
    let mut header = smith.header();
    header["typ"] = json!("approval+jwt");
    header
}

fn signed(smith: &Smith, claims: &Value) -> String {
    smith.sign(&header(smith).to_string(), &claims.to_string())
}

fn with(claim: &str, value: Value) -> String {
    signed(&ED, &good_but(claim, value))
}

fn with_header(smith: &Smith, member: &str, value: Value) -> String {
    let mut header = header(smith);
    if value.is_null() {
        header.as_object_mut().unwrap().remove(member);
    } else {
        header[member] = value;
    }
    smith.sign(&header.to_string(), &good().to_string())
}

#[test]
fn a_good_approval_of_each_algorithm_holds_with_the_right_fields() {
    for smith in [&*RSA, &*EC, &*ED] {
        let approval = verify(&signed(smith, &good()), &issuers(), LEDGER, NOW).unwrap();
        let expected = SignedApproval {
            id: "ext_loopiq.a-1".to_owned(),
            issuer: ISS.to_owned(),
            tenant: "org_gcn".to_owned(),
            requester: "ada".to_owned(),
            requester_issuer: None,
            action_digest: action_digest("org_gcn", "ada", "loopiq_x", &arguments()).unwrap(),
            votes: vec![SignedVote {
                issuer: ISS.to_owned(),
                user: "otto".to_owned(),
                roles: vec!["certification_approver".to_owned()],
                teams: vec!["assurance".to_owned()],
            }],
            issued_ms: (NOW - 10) * 1000,
            expires_ms: (NOW + 600) * 1000,
        };
        assert_eq!(approval, expected, "{}", smith.kid);
    }
}

#[test]
fn an_access_token_is_no_approval_whatever_it_claims() {
    let mut both = good();
    for (name, value) in claims().as_object().unwrap() {
        both.as_object_mut().unwrap().entry(name.clone()).or_insert(value.clone());
    }
    let mut table = vec![bad("an access token", ED.token(&claims()), "typ")];
    for typ in [
        json!("at+jwt"),
        json!("JWT"),
        json!("application/at+jwt"),
        json!("loopiq-assertion+jwt"),
        json!("id_token+jwt"),
        json!("APPROVAL+JWT"),
        json!("application/approval+jwt"),
        json!("approval+jwt "),
        json!("approval"),
        json!(""),
        Value::Null,
    ] {
        let mut header = header(&ED);
        header["typ"] = typ.clone();
        if typ.is_null() {
            header.as_object_mut().unwrap().remove("typ");
        }
        table.push(bad(format!("typ {typ}"), ED.sign(&header.to_string(), &both.to_string()), "typ"));
    }
    check(table, &issuers());
}

#[test]
fn an_approval_lets_nobody_in_whatever_it_claims() {
    let mut both = claims_but("aud", json!(AUD));
    for (name, value) in good().as_object().unwrap() {
        both.as_object_mut().unwrap().entry(name.clone()).or_insert(value.clone());
    }
    // At an issuer of access tokens with the same `iss` and the same keys.
    for typ in ["approval+jwt", "application/approval+jwt", "Approval+JWT"] {
        let mut header = header(&ED);
        header["typ"] = json!(typ);
        let token = ED.sign(&header.to_string(), &both.to_string());
        assert_eq!(authenticate(&token, &[issuer(settings())], NOW).unwrap_err().cause(), "typ", "{typ}");
    }
    // And should issuers of approvals ever be taken for issuers of access tokens.
    for audience in [json!(AUD), json!(LEDGER), json!(""), json!([])] {
        both["aud"] = audience.clone();
        let approval = signed(&ED, &both);
        let access = ED.token(&both);
        assert_eq!(authenticate(&approval, &issuers(), NOW).unwrap_err().cause(), "wrong_audience", "{audience}");
        assert_eq!(authenticate(&access, &issuers(), NOW).unwrap_err().cause(), "typ", "{audience}");
    }
}

#[test]
fn an_approval_names_one_ledger_and_no_list_of_them() {
    check(
        vec![
            bad("none", with("aud", Value::Null), "missing_claim"),
            bad("null", signed(&ED, &json!({"iss": ISS, "aud": null})), "bad_claim"),
            bad("another", with("aud", json!("ledger_other")), "wrong_audience"),
            bad("the gateway", with("aud", json!(AUD)), "wrong_audience"),
            bad("empty", with("aud", json!("")), "wrong_audience"),
            bad("a prefix", with("aud", json!("ledger_")), "wrong_audience"),
            bad("longer", with("aud", json!(format!("{LEDGER}0"))), "wrong_audience"),
            bad("another case", with("aud", json!(LEDGER.to_uppercase())), "wrong_audience"),
            bad("a list of it alone", with("aud", json!([LEDGER])), "bad_claim"),
            bad("a list of two", with("aud", json!([LEDGER, "ledger_other"])), "bad_claim"),
            bad("an object", with("aud", json!({"ledger": LEDGER})), "bad_claim"),
            bad("a number", with("aud", json!(1)), "bad_claim"),
        ],
        &issuers(),
    );
    let nameless = verify(&with("aud", json!("")), &issuers(), "", NOW);
    assert_eq!(nameless, Err(AuthFault::WrongAudience), "a ledger without a name is nobody's audience");
}

#[test]
fn an_approval_lives_for_minutes_and_says_when() {
    let raw = |claim: &str, number: &str| {
        let text = good_but(claim, json!("@")).to_string().replace("\"@\"", number);
        ED.sign(&header(&ED).to_string(), &text)
    };
    let mut long = good_but("iat", json!(NOW - 400));
    long["exp"] = json!(NOW + 501);
    let mut backwards = good_but("iat", json!(NOW + 30));
    backwards["exp"] = json!(NOW + 10);
    let mut table = vec![
        bad("a second over fifteen minutes", signed(&ED, &long), "too_long_lived"),
        bad("no end", with("exp", Value::Null), "missing_claim"),
        bad("no start", with("nbf", Value::Null), "missing_claim"),
        bad("no issue", with("iat", Value::Null), "missing_claim"),
        bad("issued after its end", signed(&ED, &backwards), "bad_claim"),
        bad("not begun", with("nbf", json!(NOW + 61)), "not_yet_valid"),
        bad("issued in the future", with("iat", json!(NOW + 61)), "not_yet_valid"),
        bad("endless", raw("exp", "1e309"), "malformed"),
        bad("beyond 2^53", raw("exp", "9007199254740993"), "malformed"),
    ];
    for claim in ["exp", "nbf", "iat"] {
        for value in [json!("1800000000"), json!(true), json!([NOW]), json!({}), json!(-1), json!(1_800_000_000.5)] {
            table.push(bad(format!("{claim} {value}"), with(claim, value), "bad_claim"));
        }
    }
    check(table, &issuers());
    long["exp"] = json!(NOW + 500);
    assert!(verify(&signed(&ED, &long), &issuers(), LEDGER, NOW).is_ok(), "fifteen minutes to the second");
    for within in [with("nbf", json!(NOW + 60)), with("iat", json!(NOW + 60))] {
        assert!(verify(&within, &issuers(), LEDGER, NOW).is_ok(), "within the leeway");
    }
}

#[test]
fn an_approval_whose_time_has_passed_still_says_which_it_is_and_when_it_ended() {
    let token = signed(&ED, &good());
    for late in [NOW + 600, NOW + 661, NOW + 86_400] {
        let approval = verify(&token, &issuers(), LEDGER, late).unwrap();
        assert_eq!((approval.id.as_str(), approval.expires_ms), ("ext_loopiq.a-1", (NOW + 600) * 1000));
    }
}

#[test]
fn every_claim_of_an_approval_has_its_form() {
    let mut table = Vec::new();
    for claim in ["iss", "tid", "sub", "jti", "psh", "votes"] {
        table.push(bad(format!("no {claim}"), with(claim, Value::Null), "missing_claim"));
        for value in [json!(1), json!(true), json!({})] {
            table.push(bad(format!("{claim} {value}"), with(claim, value), "bad_claim"));
        }
    }
    let digest = good()["psh"].as_str().unwrap().to_owned();
    for (claim, value) in [
        ("tid", json!("")),
        ("tid", json!("org gcn")),
        ("tid", json!(["org_gcn"])),
        ("sub", json!("")),
        ("sub", json!(" ada")),
        ("sub", json!("a\u{200b}da")),
        ("sub", json!(["ada"])),
        ("req_iss", json!("")),
        ("req_iss", json!(["https://idp"])),
        ("jti", json!("")),
        ("jti", json!("a b")),
        ("jti", json!("ä")),
        ("jti", json!("a\n")),
        ("jti", json!("j".repeat(256))),
        ("jti", json!("j".repeat(255 - "ext_loopiq.".len() + 1))),
        ("psh", json!("")),
        ("psh", json!(digest.to_uppercase())),
        ("psh", json!(digest.get(1..).unwrap())),
        ("psh", json!(format!("sha256:{digest}"))),
        ("psh", json!("g".repeat(64))),
    ] {
        table.push(bad(format!("{claim} {value}"), with(claim, value), "bad_claim"));
    }
    check(table, &issuers());
    let longest = "j".repeat(255 - "ext_loopiq.".len());
    assert_eq!(verify(&with("jti", json!(longest)), &issuers(), LEDGER, NOW).unwrap().id.len(), 255);
    let named = verify(&with("req_iss", json!("https://idp")), &issuers(), LEDGER, NOW).unwrap();
    assert_eq!(named.requester_issuer.as_deref(), Some("https://idp"));
}

#[test]
fn a_person_votes_once_and_the_requester_never() {
    let votes = |votes: Value| with("votes", votes);
    let others = |count: usize| (0..count).map(|n| json!({"user": format!("u{n}")})).collect::<Vec<_>>();
    check(
        vec![
            bad("nobody", votes(json!([])), "bad_claim"),
            bad("only the requester", votes(json!([{"user": "ada"}])), "bad_claim"),
            bad("the requester by another issuer", votes(json!([{"user": "ada", "issuer": "https://x"}])), "bad_claim"),
            bad("twice", votes(json!([{"user": "otto"}, {"user": "otto"}])), "bad_claim"),
            bad(
                "twice by two issuers",
                votes(json!([{"user": "otto"}, {"user": "otto", "issuer": "https://x"}])),
                "bad_claim",
            ),
            bad("a name", votes(json!("otto")), "bad_claim"),
            bad("names", votes(json!(["otto"])), "bad_claim"),
            bad("nameless", votes(json!([{"roles": ["certification_approver"]}])), "missing_claim"),
            bad("a hidden name", votes(json!([{"user": "otto\u{2060}"}])), "bad_claim"),
            bad("a no", votes(json!([{"user": "otto", "verdict": "reject"}])), "bad_claim"),
            bad("a role that is no list", votes(json!([{"user": "otto", "roles": "tenant_admin"}])), "bad_claim"),
            bad("teams as an object", votes(json!([{"user": "otto", "teams": {"a": ["b"]}}])), "bad_claim"),
            bad("too many", votes(json!(others(65))), "bad_claim"),
        ],
        &issuers(),
    );
    let token = votes(json!([{"user": "ada"}, {"user": "otto"}, {"user": "tess", "issuer": "https://x"}]));
    let approval = verify(&token, &issuers(), LEDGER, NOW).unwrap();
    let who: Vec<_> = approval.votes.iter().map(|vote| (vote.user.as_str(), vote.issuer.as_str())).collect();
    assert_eq!(who, [("otto", ISS), ("tess", "https://x")]);
    assert_eq!(verify(&votes(json!(others(64))), &issuers(), LEDGER, NOW).unwrap().votes.len(), 64);
}

#[test]
fn an_approval_is_signed_by_a_configured_issuer_with_its_own_key() {
    let token = signed(&ED, &good());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut flipped = decode(signature).unwrap();
    flipped[0] ^= 1;
    let payload = encode(good().to_string());
    let mut table = vec![
        bad("a stranger's key under a known id", signed(&STRANGER, &good()), "bad_signature"),
        bad("one bit flipped", format!("{message}.{}", encode(flipped)), "bad_signature"),
        bad("no signature", format!("{message}."), "malformed"),
        bad("another issuer", with("iss", json!("https://other")), "unknown_issuer"),
        bad("the issuer with a slash", with("iss", json!(format!("{ISS}/"))), "unknown_issuer"),
        bad("unknown key", with_header(&ED, "kid", json!("ed-2")), "unknown_kid"),
        bad("traversal", with_header(&ED, "kid", json!("../../dev/null")), "unknown_kid"),
        bad("another key's algorithm", with_header(&ED, "kid", json!("rsa-1")), "alg_not_allowed"),
        bad("another name", with_header(&RSA, "alg", json!("PS256")), "alg_not_allowed"),
        bad("jku", with_header(&STRANGER, "jku", json!("https://evil.example/jwks")), "key_in_header"),
        bad("jwk", with_header(&STRANGER, "jwk", STRANGER.jwk.clone()), "key_in_header"),
        bad("x5u", with_header(&STRANGER, "x5u", json!("https://evil.example/cert")), "key_in_header"),
        bad("x5c", with_header(&STRANGER, "x5c", json!(["MIIB"])), "key_in_header"),
        bad("crit", with_header(&ED, "crit", json!(["exp"])), "crit"),
        bad("b64", with_header(&ED, "b64", json!(false)), "crit"),
        bad("nested", with_header(&ED, "cty", json!("JWT")), "malformed"),
        bad("JSON serialization", json!({"payload": payload, "signature": signature}).to_string(), "malformed"),
        bad("four parts", format!("{token}.{signature}"), "malformed"),
        bad("padding", format!("{token}=="), "malformed"),
        bad("a space after", format!("{token} "), "malformed"),
        bad("empty", "", "malformed"),
        bad("too large", with("x", json!("y".repeat(9000))), "too_large"),
        bad(
            "two subs",
            ED.sign(&header(&ED).to_string(), &good().to_string().replacen('{', r#"{"sub":"ben","#, 1)),
            "malformed",
        ),
    ];
    for alg in ["none", "None", "nOnE"] {
        let header = encode(json!({"alg": alg, "typ": "approval+jwt"}).to_string());
        table.push(bad(alg, format!("{header}.{payload}."), "alg_none"));
    }
    for smith in [&*RSA, &*EC] {
        for (form, secret) in &smith.public {
            let mut header = header(smith);
            header["alg"] = json!("HS256");
            let key = EncodingKey::from_secret(secret);
            let token = sign_with(&key, Algorithm::HS256, &header.to_string(), &good().to_string());
            table.push(bad(format!("HS256 by {} as {form}", smith.kid), token, "alg_not_allowed"));
        }
    }
    assert!(check(table, &issuers()) > 30);
    check(vec![bad("no issuer at all", token, "unknown_issuer")], &[]);
}

#[test]
fn an_issuer_of_approvals_speaks_only_for_its_tenants_and_without_keys_for_none() {
    let mut limited = IssuerSettings::of_approvals("loopiq", ISS);
    limited.tenants_allowed = vec!["org_gcn".to_owned()];
    let limited = [issuer(limited)];
    assert!(verify(&signed(&ED, &good()), &limited, LEDGER, NOW).is_ok());
    check(vec![bad("another tenant", with("tid", json!("org_nordbank")), "tenant_not_allowed")], &limited);
    let settings = Arc::new(IssuerSettings::of_approvals("loopiq", ISS));
    let keyless = [Issuer { settings, keys: None }];
    check(vec![bad("no keys", signed(&ED, &good()), "keys_unavailable")], &keyless);
}

#[test]
fn a_shared_secret_signs_approvals_only_where_it_is_the_only_way() {
    let mut shared = IssuerSettings::of_approvals("loopiq", ISS);
    shared.algs = vec![Alg::Hs256];
    assert_eq!(shared.faults(), []);
    let keys = Some(Arc::new(KeySet::from_hs256(SECRET).unwrap()));
    let shared = [Issuer { settings: Arc::new(shared), keys }];
    let header = json!({"alg": "HS256", "typ": "approval+jwt"}).to_string();
    let token = sign_with(&EncodingKey::from_secret(SECRET), Algorithm::HS256, &header, &good().to_string());
    assert!(verify(&token, &shared, LEDGER, NOW).is_ok());
    assert_eq!(verify(&token, &issuers(), LEDGER, NOW), Err(AuthFault::AlgNotAllowed));
    check(vec![bad("EdDSA there", signed(&ED, &good()), "alg_not_allowed")], &shared);
}

#[test]
fn two_issuers_approvals_never_share_an_id() {
    let named = |name: &str, jti: &str| {
        let keys = Some(Arc::new(KeySet::from_jwks(&jwks(&[&ED]), &[Alg::EdDsa]).unwrap()));
        let issuers = [Issuer { settings: Arc::new(IssuerSettings::of_approvals(name, ISS)), keys }];
        verify(&with("jti", json!(jti)), &issuers, LEDGER, NOW).unwrap().id
    };
    assert_ne!(named("a", "b_c"), named("a_b", "c"));
    assert_ne!(named("a", "b.c"), named("a-b", "c"));
    assert!(named("a", "apr_1").starts_with("ext_"), "nor with ours");
}

#[test]
fn an_action_has_one_digest_however_its_arguments_were_written() {
    let digest = |text: &str| action_digest("t", "u", "x", &serde_json::from_str(text).unwrap()).unwrap();
    assert_eq!(digest(r#"{"a":1,"b":"\u0061"}"#), digest(r#"{"b":"a","a":1.0}"#));
    assert_ne!(digest(r#"{"a":1}"#), digest(r#"{"a":"1"}"#));
    // The test vector that other programs can hold themselves to.
    assert_eq!(
        action_digest("org_gcn", "ada", "loopiq_x", &arguments()).unwrap(),
        canonical::digest(
            br#"{"arguments":{"points":3,"title":"t"},"tenant":"org_gcn","tool":"loopiq_x","user":"ada","v":1}"#
        )
    );
    let unsafe_number = serde_json::from_str(r#"{"n":9007199254740993}"#).unwrap();
    assert!(action_digest("t", "u", "x", &unsafe_number).is_err());
}
