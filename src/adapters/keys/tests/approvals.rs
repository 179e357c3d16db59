//! Issuers of approvals: their keys rotate like any other's, and they vouch for nobody.

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::domain::identity::approval_token::action_digest;
use crate::domain::identity::forge::ISS;

const LEDGER: &str = "ledger_1";

fn approval(smith: &Smith) -> String {
    let mut header = smith.header();
    header["typ"] = json!("approval+jwt");
    let psh = action_digest("org_gcn", "ada", "loopiq_x", &serde_json::Map::new()).unwrap();
    let claims = json!({
        "iss": ISS, "aud": LEDGER, "tid": "org_gcn", "sub": "ada", "jti": "a-1", "psh": psh,
        "votes": [{"user": "otto"}], "iat": NOW, "nbf": NOW, "exp": NOW + 600,
    });
    smith.sign(&header.to_string(), &claims.to_string())
}

fn approver(source: KeySource) -> IssuerConfig {
    let mut config = IssuerConfig::new(IssuerSettings::of_approvals("loopiq", ISS), source);
    config.patience = Duration::ZERO;
    config
}

fn inline(smiths: &[&Smith]) -> KeySource {
    KeySource::Inline(KeySet::from_jwks(&jwks(smiths), &settings().algs).unwrap())
}

/// Callers and approvals of one issuer, by one key.
async fn both() -> Keys {
    let callers = Keys::new(vec![IssuerConfig::new(settings(), inline(&[&ED]))]).unwrap();
    let keys = callers.with_approvers(vec![approver(inline(&[&ED]))]).unwrap();
    keys.load().await;
    keys
}

async fn id(keys: &Keys, token: &str) -> Result<String, &'static str> {
    keys.approval(token, LEDGER, NOW).await.map(|approval| approval.id).map_err(|fault| fault.cause())
}

#[tokio::test]
async fn one_key_may_sign_both_and_neither_passes_as_the_other() {
    let keys = both().await;
    assert_eq!(id(&keys, &approval(&ED)).await, Ok("ext_loopiq.a-1".to_owned()));
    assert_eq!(id(&keys, &ED.token(&claims())).await, Err("typ"));
    assert!(keys.principal(&ED.token(&claims()), NOW).await.is_ok());
    assert_eq!(keys.principal(&approval(&ED), NOW).await.unwrap_err().cause(), "typ");
    assert_eq!(keys.approval(&approval(&ED), "ledger_2", NOW).await.unwrap_err().cause(), "wrong_audience");
    assert_eq!(keys.approval(&approval(&ED), LEDGER, NOW - 61).await.unwrap_err().cause(), "not_yet_valid");
}

#[tokio::test]
async fn an_issuer_of_callers_approves_nothing_and_one_of_approvals_lets_nobody_in() {
    let callers = Keys::new(vec![IssuerConfig::new(settings(), inline(&[&ED]))]).unwrap();
    callers.load().await;
    assert_eq!(id(&callers, &approval(&ED)).await, Err("unknown_issuer"));
    let mut elsewhere = settings();
    elsewhere.issuer = "https://elsewhere.example".to_owned();
    let other = Keys::new(vec![IssuerConfig::new(elsewhere, inline(&[&RSA]))]).unwrap();
    let keys = other.with_approvers(vec![approver(inline(&[&ED]))]).unwrap();
    keys.load().await;
    assert!(id(&keys, &approval(&ED)).await.is_ok());
    assert_eq!(keys.principal(&ED.token(&claims()), NOW).await.unwrap_err().cause(), "unknown_issuer");
}

#[tokio::test]
async fn a_rotated_key_of_approvals_is_found_at_once() {
    let idp = Idp::start(jwks(&[&ED])).await;
    let callers = Keys::new(vec![IssuerConfig::new(settings(), inline(&[&RSA]))]).unwrap();
    let keys = Arc::new(callers.with_approvers(vec![approver(KeySource::Url(idp.url.clone()))]).unwrap());
    keys.load().await;
    let (_stop, stopped) = watch::channel(false);
    let mut keeper = JoinSet::new();
    let kept = Arc::clone(&keys);
    keeper.spawn(async move { kept.run(stopped).await });
    while keys.approvers.iter().any(HeldIssuer::is_unkept) {
        tokio::task::yield_now().await;
    }
    assert!(id(&keys, &approval(&ED)).await.is_ok());
    idp.answers(StatusCode::OK, jwks(&[&ed2()]));
    assert!(id(&keys, &approval(&ed2())).await.is_ok());
    assert_eq!(id(&keys, &approval(&ED)).await, Err("unknown_kid"));
    assert_eq!(keys.approvers_health()[0].kids, ["ed-2"]);
    assert_eq!(keys.health()[0].kids, ["rsa-1"]);
}

#[tokio::test]
async fn without_its_keys_an_issuer_of_approvals_is_at_fault_and_not_the_approval() {
    let callers = Keys::new(vec![IssuerConfig::new(settings(), inline(&[&ED]))]).unwrap();
    let keys = callers.with_approvers(vec![approver(KeySource::File("/nowhere/at/all".into()))]).unwrap();
    keys.load().await;
    let fault = keys.approval(&approval(&ED), LEDGER, NOW).await.unwrap_err();
    assert!(fault.is_ours(), "{fault}");
    assert!(keys.approvers_health()[0].fault.is_some());
    assert!(keys.principal(&ED.token(&claims()), NOW).await.is_ok(), "callers do not notice");
}

#[test]
fn issuers_of_approvals_that_cannot_be_told_apart_are_refused() {
    let callers = || Keys::new(vec![IssuerConfig::new(settings(), inline(&[&ED]))]).unwrap();
    let twins = vec![approver(inline(&[&ED])), approver(inline(&[&RSA]))];
    assert!(matches!(callers().with_approvers(twins), Err(KeysFault::Twice(..))));
    let secret = approver(KeySource::Secret(SECRET.to_vec()));
    assert!(matches!(callers().with_approvers(vec![secret]), Err(KeysFault::Settings { field: "keys", .. })));
}

#[tokio::test]
async fn a_double_of_the_port_believes_no_approval_unless_it_says_so() {
    struct Nobody;

    #[async_trait]
    impl ports::Keys for Nobody {
        async fn principal(&self, _: &str, _: i64) -> Result<Arc<Principal>, AuthFault> {
            Err(AuthFault::UnknownIssuer)
        }
    }

    let claims: Value = claims_but("aud", json!(LEDGER));
    assert_eq!(Nobody.approval(&ED.token(&claims), LEDGER, NOW).await, Err(AuthFault::UnknownIssuer));
}
