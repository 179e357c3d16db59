//! The tenant table, assertions there and back, and issuer settings that would let too much in.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::domain::identity::assertion::{ASSERTION_LIFETIME_S, Assertion, mint_assertion, verify_assertion};
use crate::domain::identity::dev::{DevClaims, DevIssuer};
use crate::domain::identity::forge::{ED, NOW, issuer, settings};
use crate::domain::identity::issuer::Alg;
use crate::domain::identity::keyset::KeySet;
use crate::domain::identity::signing::SigningKey;
use crate::domain::identity::token::{Issuer, authenticate};

fn principal(tenants: &[&str], active: Option<&str>) -> Principal {
    Principal {
        user: "cleo".to_owned(),
        issuer: "https://idp.example".to_owned(),
        method: AuthMethod::Oauth,
        client: None,
        tenants: tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
        active_tenant: active.map(str::to_owned),
        roles: Vec::new(),
        teams: BTreeMap::new(),
        permissions: Vec::new(),
        scopes: Vec::new(),
        expires_at: NOW,
    }
}

#[test]
fn a_tenant_is_chosen_by_request_then_token_and_only_from_the_token() {
    const GCN: &str = "org_gcn";
    const NORD: &str = "org_nordbank";
    let both: &[&str] = &[GCN, NORD];
    let no = |code: Code| Err::<&str, Code>(code);
    for (tenants, active, header, meta, expected) in [
        (&[GCN][..], None, None, None, Ok(GCN)),
        (both, Some(NORD), None, None, Ok(NORD)),
        (both, Some(NORD), Some(GCN), None, Ok(GCN)),
        (both, Some(NORD), None, Some(GCN), Ok(GCN)),
        (both, None, Some(NORD), Some(NORD), Ok(NORD)),
        (both, None, Some(NORD), Some(GCN), no(Code::TenantForbidden)),
        (both, None, None, None, no(Code::TenantRequired)),
        (&[GCN], None, Some(NORD), None, no(Code::TenantForbidden)),
        (&[GCN], None, None, Some("org_nowhere"), no(Code::TenantForbidden)),
        (&[GCN], None, Some("ORG_GCN"), None, no(Code::TenantForbidden)),
        (&[GCN], None, Some(""), None, no(Code::TenantForbidden)),
        (&[GCN], None, Some(" org_gcn"), None, no(Code::TenantForbidden)),
        (&[GCN], None, Some("org_gcn, org_gcn"), None, no(Code::TenantForbidden)),
        (&[GCN], None, Some("*"), None, no(Code::TenantForbidden)),
        (&[GCN], None, Some("../org_gcn"), None, no(Code::TenantForbidden)),
        (&[GCN], None, None, Some("org_gcn\u{0}"), no(Code::TenantForbidden)),
        (&[GCN], Some(NORD), None, None, no(Code::TenantForbidden)),
        (&[], None, None, None, no(Code::TenantForbidden)),
        (&[], Some(GCN), None, None, no(Code::TenantForbidden)),
        (&[], None, Some(GCN), None, no(Code::TenantForbidden)),
    ] {
        let found = resolve_tenant(&principal(tenants, active), header, meta);
        let found = found.as_ref().map(Tenant::as_str).map_err(|refusal| refusal.code);
        assert_eq!(found, expected, "{tenants:?} active {active:?} header {header:?} meta {meta:?}");
    }
}

#[test]
fn a_choice_that_is_left_open_names_the_tenants() {
    let refusal = resolve_tenant(&principal(&["org_gcn", "org_nordbank"], None), None, None).unwrap_err();
    assert_eq!(refusal.data["tenants"], json!(["org_gcn", "org_nordbank"]));
    assert!(refusal.words().contains("`org_gcn`, `org_nordbank`"), "{}", refusal.words());
}

#[test]
fn a_tenant_that_is_not_the_callers_answers_alike_whether_or_not_it_exists() {
    let ada = principal(&["org_gcn"], None);
    let words = |named: &str| resolve_tenant(&ada, Some(named), None).unwrap_err().words().replace(named, "T");
    assert_eq!(words("org_nordbank"), words("org_nowhere"));
}

#[test]
fn what_is_no_tenant_id_is_not_repeated_to_anyone() {
    let ada = principal(&["org_gcn"], None);
    for named in ["<script>", "a\nb", &"x".repeat(129)] {
        for refusal in [resolve_tenant(&ada, Some(named), None), resolve_tenant(&ada, Some(named), Some("org_gcn"))] {
            assert!(!refusal.unwrap_err().to_string().contains(named), "{named:?}");
        }
    }
}

fn assertion() -> Assertion {
    Assertion {
        iss: "https://gw.example".to_owned(),
        aud: "loopiq".to_owned(),
        sub: "ada".to_owned(),
        tenant: "org_gcn".to_owned(),
        request_id: "req-1".to_owned(),
        decision_id: "dec-1".to_owned(),
        roles: vec!["release_manager".to_owned()],
        iat: NOW,
        exp: NOW + ASSERTION_LIFETIME_S,
        jti: "jti-1".to_owned(),
    }
}

#[test]
fn an_assertion_says_what_was_put_in_and_only_to_its_backend() {
    let key = SigningKey::generate(&[3; 32]).unwrap();
    let keys = Arc::new(KeySet::from_jwks(key.jwks().to_string().as_bytes(), &[Alg::EdDsa]).unwrap());
    let token = mint_assertion(&key, &assertion());
    let check = |iss, aud, now| verify_assertion(&token, &keys, iss, aud, now);
    assert_eq!(check("https://gw.example", "loopiq", NOW), Ok(assertion()));
    let cause = |iss, aud, now| check(iss, aud, now).unwrap_err().cause();
    assert_eq!(cause("https://gw.example", "other", NOW), "wrong_audience");
    assert_eq!(cause("https://other.example", "loopiq", NOW), "unknown_issuer");
    assert_eq!(cause("https://gw.example", "loopiq", NOW + 121), "expired");
    let other = SigningKey::generate(&[4; 32]).unwrap();
    let others = Arc::new(KeySet::from_jwks(other.jwks().to_string().as_bytes(), &[Alg::EdDsa]).unwrap());
    let fault = verify_assertion(&token, &others, "https://gw.example", "loopiq", NOW).unwrap_err();
    // The other set has one key, and it has a name of its own.
    assert_eq!(fault.cause(), "unknown_kid");
}

#[test]
fn an_assertion_is_no_access_token_and_an_access_token_is_no_assertion() {
    let key = SigningKey::generate(&[3; 32]).unwrap();
    let keys = Arc::new(KeySet::from_jwks(key.jwks().to_string().as_bytes(), &[Alg::EdDsa]).unwrap());
    let mut careless = settings();
    careless.issuer = assertion().iss;
    careless.audiences = vec![assertion().aud];
    let issuers = [Issuer { settings: Arc::new(careless), keys: Some(Arc::clone(&keys)) }];
    assert_eq!(authenticate(&mint_assertion(&key, &assertion()), &issuers, NOW).unwrap_err().cause(), "typ");
    let dev = DevIssuer { key, issuer: assertion().iss, audience: assertion().aud };
    let access = dev.mint(&DevClaims { user: "ada".to_owned(), ..DevClaims::default() }, NOW, 60, "j");
    let fault = verify_assertion(&access, &keys, &assertion().iss, &assertion().aud, NOW).unwrap_err();
    assert_eq!(fault.cause(), "typ");
}

#[test]
fn a_development_token_passes_the_checks_that_every_token_passes() {
    let key = SigningKey::generate(&[5; 32]).unwrap();
    let dev = DevIssuer { key, issuer: "http://localhost/dev".to_owned(), audience: "http://localhost/mcp".to_owned() };
    let mut settings = dev.settings("dev", AuthMethod::ServiceAccount);
    assert_eq!(settings.faults()[0].0, "tenants", "service accounts have a list");
    settings.tenants_allowed = vec!["org_gcn".to_owned()];
    assert_eq!(settings.faults(), []);
    let settings = Arc::new(settings);
    let keys = Some(Arc::new(KeySet::from_jwks(dev.jwks().to_string().as_bytes(), &settings.algs).unwrap()));
    let issuers = [Issuer { settings, keys }];
    let claims =
        DevClaims { user: "svc-pipeline".to_owned(), tenants: vec!["org_gcn".to_owned()], ..DevClaims::default() };
    let found = authenticate(&dev.mint(&claims, NOW, 60, "j"), &issuers, NOW).unwrap();
    assert_eq!((found.user.as_str(), found.method), ("svc-pipeline", AuthMethod::ServiceAccount));
    assert_eq!((found.active_tenant, found.client, found.scopes), (None, None, Vec::new()));
    assert!(authenticate(&dev.mint(&claims, NOW, 60, "j"), &[issuer(forge::settings())], NOW).is_err());
    assert!(authenticate(&dev.mint(&claims, NOW - 200, 60, "j"), &issuers, NOW).is_err());
    assert!(authenticate(&ED.token(&forge::claims()), &issuers, NOW).is_err());
}

#[test]
fn settings_that_would_let_too_much_in_are_named_all_at_once() {
    assert_eq!(settings().faults(), []);
    let mut careless = settings();
    careless.issuer = String::new();
    careless.audiences = Vec::new();
    careless.algs = vec![Alg::Rs256, Alg::Hs256];
    careless.leeway_s = 86_400;
    careless.lifetime_max_s = Some(0);
    careless.token_bytes_max = 1 << 30;
    careless.tenants_allowed = vec!["*".to_owned()];
    let fields: Vec<&str> = careless.faults().into_iter().map(|(field, _)| field).collect();
    assert_eq!(
        fields,
        ["issuer", "audiences", "algs", "algs", "leeway", "lifetime_max", "token_bytes_max", "tenants_allowed"]
    );
}

#[test]
fn algorithms_have_exactly_their_jose_names() {
    for alg in Alg::ALL {
        assert_eq!(Alg::named(alg.as_str()), Some(*alg));
    }
    for name in ["none", "rs256", "RS256 ", "RS512", "ES384", "HS512", ""] {
        assert_eq!(Alg::named(name), None, "{name}");
    }
}
