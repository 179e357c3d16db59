//! Tokens given, kept, refused and missing, against a real HTTP server.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use futures_util::future::join_all;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::adapters::fetch::client::Proof;

const NOW: i64 = 1_800_000_000;

/// What the token service was sent: the form, and who sent it.
type Sent = (BTreeMap<String, String>, Option<String>);

struct Sts {
    exchange: Exchange,
    says: Arc<Says>,
    _tasks: JoinSet<()>,
}

struct Says {
    answer: Mutex<(StatusCode, Value)>,
    sent: Mutex<Vec<Sent>>,
    count: AtomicUsize,
}

async fn serve(State(says): State<Arc<Says>>, headers: HeaderMap, body: String) -> impl IntoResponse {
    let form = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let proof = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    says.sent.lock().unwrap().push((form, proof));
    let nth = says.count.fetch_add(1, Ordering::SeqCst);
    let (status, mut answer) = says.answer.lock().unwrap().clone();
    if answer["access_token"] == "nth" {
        answer["access_token"] = json!(format!("token-{nth}"));
    }
    (status, answer.to_string())
}

impl Sts {
    async fn start() -> Self {
        let says = Arc::new(Says {
            answer: Mutex::new((StatusCode::OK, good())),
            sent: Mutex::default(),
            count: AtomicUsize::new(0),
        });
        let app = Router::new().route("/token", post(serve)).with_state(Arc::clone(&says));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app.into_make_service()).await.unwrap() });
        let exchange = Exchange::new(vec![service(&url)]).unwrap();
        Self { exchange, says, _tasks: tasks }
    }

    fn answers(&self, status: u16, answer: Value) {
        *self.says.answer.lock().unwrap() = (StatusCode::from_u16(status).unwrap(), answer);
    }

    fn asked(&self) -> usize {
        self.says.count.load(Ordering::SeqCst)
    }

    async fn token(&self, subject: &Subject, now_s: i64) -> Result<String, CredentialFault> {
        self.exchange.token("loopiq", subject, now_s).await
    }
}

fn service(url: &str) -> Service {
    Service {
        backend: "loopiq".to_owned(),
        url: url.to_owned(),
        way: Way::default(),
        client: Client { id: "gateway".to_owned(), proof: Proof::Secret("s3cret".to_owned()) },
        audience: "https://loopiq.example".to_owned(),
        scope: "records".to_owned(),
    }
}

fn good() -> Value {
    json!({"access_token": "nth", "issued_token_type": TYPE_ACCESS, "token_type": "Bearer", "expires_in": 300})
}

fn subject(user: &str, tenant: &str, roles: &[&str]) -> Subject {
    Subject {
        issuer: "https://idp.example".to_owned(),
        user: user.to_owned(),
        tenant: tenant.to_owned(),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        assertion: format!("assertion-for-{user}"),
    }
}

#[tokio::test]
async fn the_gateways_own_word_is_exchanged_as_rfc_8693_says() {
    let sts = Sts::start().await;
    assert_eq!(sts.token(&subject("ada", "org_gcn", &[]), NOW).await.unwrap(), "token-0");
    let (form, proof) = sts.says.sent.lock().unwrap()[0].clone();
    let sent = |name: &str| form.get(name).map(String::as_str);
    assert_eq!(sent("grant_type"), Some("urn:ietf:params:oauth:grant-type:token-exchange"));
    assert_eq!(sent("subject_token"), Some("assertion-for-ada"));
    assert_eq!(sent("subject_token_type"), Some("urn:ietf:params:oauth:token-type:jwt"));
    assert_eq!((sent("audience"), sent("scope")), (Some("https://loopiq.example"), Some("records")));
    assert_eq!(proof.as_deref(), Some("Basic Z2F0ZXdheTpzM2NyZXQ="));
}

#[tokio::test]
async fn a_token_is_kept_for_its_caller_organisation_and_roles_alone() {
    let sts = Sts::start().await;
    let first = sts.token(&subject("ada", "org_gcn", &["lead"]), NOW).await.unwrap();
    assert_eq!(sts.token(&subject("ada", "org_gcn", &["lead"]), NOW + 200).await.unwrap(), first);
    let mut other_issuer = subject("ada", "org_gcn", &["lead"]);
    other_issuer.issuer = "https://other.example".to_owned();
    for other in [
        subject("ben", "org_gcn", &["lead"]),
        subject("ada", "org_nordbank", &["lead"]),
        subject("ada", "org_gcn", &[]),
        other_issuer,
    ] {
        assert_ne!(sts.token(&other, NOW).await.unwrap(), first, "{other:?}");
    }
    assert_eq!(sts.asked(), 5);
}

#[tokio::test]
async fn a_token_is_not_used_when_it_may_end_on_the_way() {
    let sts = Sts::start().await;
    let ada = subject("ada", "org_gcn", &[]);
    assert_eq!(sts.token(&ada, NOW).await.unwrap(), "token-0");
    assert_eq!(sts.token(&ada, NOW + 300 - MARGIN_S).await.unwrap(), "token-1", "half a minute before its end");
    sts.answers(200, json!({"access_token": "nth", "token_type": "bearer", "expires_in": 20}));
    let ben = subject("ben", "org_gcn", &[]);
    assert_eq!(sts.token(&ben, NOW).await.unwrap(), "token-2");
    assert_eq!(sts.token(&ben, NOW).await.unwrap(), "token-3", "one that ends soon is for one call");
}

#[tokio::test]
async fn many_calls_of_one_caller_ask_once() {
    let sts = Sts::start().await;
    let ada = subject("ada", "org_gcn", &[]);
    let tokens = join_all((0..50).map(|_| sts.token(&ada, NOW))).await;
    assert!(tokens.iter().all(|token| token.as_deref() == Ok("token-0")), "{tokens:?}");
    assert_eq!(sts.asked(), 1);
}

#[tokio::test]
async fn an_answer_that_gives_no_bearer_token_is_none() {
    let but = |member: &str, value: Value| {
        let mut answer = good();
        answer[member] = value;
        (200, answer)
    };
    for (status, answer) in [
        but("access_token", json!("")),
        but("access_token", json!("a\r\nX-Admin: yes")),
        but("access_token", json!("a b")),
        but("access_token", json!(7)),
        but("access_token", json!("x".repeat(TOKEN_BYTES_MAX + 1))),
        but("token_type", json!("N_A")),
        but("token_type", json!("DPoP")),
        but("token_type", Value::Null),
        but("issued_token_type", json!("urn:ietf:params:oauth:token-type:refresh_token")),
        but("expires_in", json!(0)),
        but("expires_in", json!(-5)),
        but("expires_in", json!("300")),
        (200, json!([])),
        (302, good()),
        (500, good()),
        (401, json!({"error": "invalid_client"})),
        (400, json!({"error": "invalid_client"})),
        (429, json!({"error": "access_denied", "pad": "x".repeat(ANSWER_BYTES_MAX)})),
    ] {
        let sts = Sts::start().await;
        sts.answers(status, answer.clone());
        let fault = sts.token(&subject("ada", "org_gcn", &[]), NOW).await.unwrap_err();
        assert!(matches!(fault, CredentialFault::Unavailable(_)), "{status} {answer}: {fault}");
        assert!(!fault.to_string().contains("nth"), "{fault}");
    }
}

#[tokio::test]
async fn a_refusal_is_the_callers_alone_and_does_not_close_the_way_for_others() {
    let sts = Sts::start().await;
    sts.answers(400, json!({"error": "access_denied", "error_description": "who?"}));
    let mallory = subject("mallory", "org_gcn", &[]);
    for _ in 0..3 {
        assert_eq!(sts.token(&mallory, NOW).await, Err(CredentialFault::Refused("access_denied".to_owned())));
    }
    sts.answers(200, good());
    assert!(sts.token(&subject("ada", "org_gcn", &[]), NOW).await.is_ok());
}

#[tokio::test]
async fn a_caller_whom_the_service_answers_oddly_does_not_close_the_way_for_others() {
    for (status, odd) in [
        (400, json!({"error": "invalid_token"})),
        (400, json!({"error": "unknown_subject"})),
        (403, json!("filtered")),
        (404, json!({})),
    ] {
        let sts = Sts::start().await;
        sts.answers(status, odd.clone());
        let fault = sts.token(&subject("mallory", "org_gcn", &[]), NOW).await.unwrap_err();
        assert!(matches!(fault, CredentialFault::Unavailable(_)), "{odd}: {fault}");
        sts.answers(200, good());
        assert!(sts.token(&subject("ada", "org_nordbank", &[]), NOW).await.is_ok(), "{status} {odd}");
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_left_alone_and_tokens_at_hand_go_on() {
    let sts = Sts::start().await;
    let ada = subject("ada", "org_gcn", &[]);
    let first = sts.token(&ada, NOW).await.unwrap();
    sts.answers(503, json!({}));
    for n in 0..20 {
        let fault = sts.token(&subject(&format!("user-{n}"), "org_gcn", &[]), NOW).await.unwrap_err();
        assert!(matches!(fault, CredentialFault::Unavailable(_)));
    }
    assert!(sts.asked() <= 3, "{} questions to a service that is down", sts.asked());
    assert_eq!(sts.token(&ada, NOW).await.unwrap(), first);
}

#[test]
fn what_is_no_safe_place_is_not_asked() {
    for url in ["http://sts.example/token", "https://10.0.0.7/token", "nowhere"] {
        assert!(matches!(Exchange::new(vec![service(url)]), Err(ExchangeFault::Url { .. })), "{url}");
    }
    assert!(!format!("{:?}", Exchange::new(vec![service("https://sts.example/token")]).unwrap()).contains("s3cret"));
}
