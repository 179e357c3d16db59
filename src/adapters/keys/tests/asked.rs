//! Opaque tokens, against a real introspection server.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::post;
use serde_json::Value;

use super::*;
use crate::adapters::fetch::client::Client;
use crate::adapters::fetch::client::Proof;
use crate::adapters::keys::asked::Introspection;
use crate::domain::identity::ClientCertificate;
use crate::domain::identity::forge::STRANGER;

const OPAQUE: &str = "2YotnFZFEjr1zCsicMWpAA";

/// An authorization server that is asked about tokens.
struct Server {
    url: String,
    says: Arc<Tells>,
    _tasks: JoinSet<()>,
}

struct Tells {
    /// What is said of each token; of any other, that it is not active.
    tokens: Mutex<BTreeMap<String, Value>>,
    /// What is answered to everybody, if anything.
    broken: Mutex<Option<(StatusCode, Vec<u8>)>>,
    asked: Mutex<Vec<String>>,
    gate: Semaphore,
}

async fn tell(State(says): State<Arc<Tells>>, body: String) -> impl IntoResponse {
    let form: BTreeMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let token = form["token"].clone();
    says.asked.lock().unwrap().push(token.clone());
    says.gate.acquire().await.unwrap().forget();
    if token.contains("../") {
        return StatusCode::FORBIDDEN.into_response(); // as a filter before it would
    }
    if let Some((status, body)) = says.broken.lock().unwrap().clone() {
        return (status, [(LOCATION, "/elsewhere")], body).into_response();
    }
    let answer = says.tokens.lock().unwrap().get(&token).cloned();
    answer.unwrap_or_else(|| json!({"active": false})).to_string().into_response()
}

impl Server {
    async fn start() -> Self {
        let says = Arc::new(Tells {
            tokens: Mutex::default(),
            broken: Mutex::default(),
            asked: Mutex::default(),
            gate: Semaphore::new(10_000),
        });
        let app = Router::new().route("/introspect", post(tell)).with_state(Arc::clone(&says));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/introspect", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app.into_make_service()).await.unwrap() });
        Self { url, says, _tasks: tasks }
    }

    fn knows(&self, token: &str, answer: Value) {
        self.says.tokens.lock().unwrap().insert(token.to_owned(), answer);
    }

    fn breaks(&self, status: StatusCode, body: impl Into<Vec<u8>>) {
        *self.says.broken.lock().unwrap() = Some((status, body.into()));
    }

    fn asked(&self) -> Vec<String> {
        self.says.asked.lock().unwrap().clone()
    }

    fn issuer(&self, name: &str) -> IssuerConfig {
        let mut settings = settings();
        settings.name = name.to_owned();
        settings.issuer = format!("https://{name}.example");
        let client = Client { id: "gateway".to_owned(), proof: Proof::Secret("s3cret".to_owned()) };
        let server = Introspection { url: self.url.clone(), client, keep: Duration::from_secs(30) };
        IssuerConfig::new(settings, KeySource::Asked(Box::new(server)))
    }
}

fn active(issuer: &str) -> Value {
    let mut answer = claims();
    answer["active"] = json!(true);
    answer["iss"] = json!(issuer);
    answer
}

fn alone(server: &Server) -> Keys {
    Keys::new(vec![server.issuer("opaque")]).unwrap()
}

async fn cause(keys: &Keys, token: &str) -> &'static str {
    keys.principal(token, NOW).await.map_or_else(|fault| fault.cause(), |_| "in")
}

#[tokio::test]
async fn an_opaque_token_gets_in_by_its_issuers_word_and_is_asked_about_once() {
    let server = Server::start().await;
    server.knows(OPAQUE, active("https://opaque.example"));
    let keys = alone(&server);
    let callers = join_all((0..50).map(|_| keys.principal(OPAQUE, NOW))).await;
    for ada in callers {
        let ada = ada.unwrap();
        assert_eq!((ada.user.as_str(), ada.issuer.as_str()), ("ada", "https://opaque.example"));
    }
    assert_eq!(server.asked(), [OPAQUE]);
    // A no is remembered too, for a short while.
    for _ in 0..5 {
        assert_eq!(cause(&keys, "made-up").await, "inactive");
    }
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn what_is_remembered_never_outlives_the_token() {
    let server = Server::start().await;
    server.knows(OPAQUE, active("https://opaque.example"));
    let keys = alone(&server);
    assert!(keys.principal(OPAQUE, NOW).await.is_ok());
    server.knows(OPAQUE, json!({"active": false}));
    assert!(keys.principal(OPAQUE, NOW + 599).await.is_ok(), "remembered");
    assert_eq!(keys.principal(OPAQUE, NOW + 600).await.unwrap_err().cause(), "inactive", "asked again at its end");
}

#[tokio::test]
async fn without_an_answer_nobody_gets_in_and_nobody_waits_in_line() {
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, "{}".to_owned()),
        (StatusCode::UNAUTHORIZED, "{}".to_owned()),
        (StatusCode::FOUND, active("https://opaque.example").to_string()),
        (StatusCode::NO_CONTENT, String::new()),
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::OK, "x".repeat(opaque::ANSWER_BYTES_MAX + 1)),
    ] {
        let server = Server::start().await;
        server.breaks(status, body);
        let keys = alone(&server);
        for n in 0..20 {
            let fault = keys.principal(&format!("token-{n}"), NOW).await.unwrap_err();
            assert!(fault.is_ours(), "{status}: {fault}");
        }
        assert!(server.asked().len() <= 4, "{status}: asked {} times", server.asked().len());
        assert!(keys.health()[0].fault.is_some());
    }
}

#[tokio::test]
async fn a_token_that_trips_the_server_keeps_nobody_else_out() {
    let server = Server::start().await;
    server.knows(OPAQUE, active("https://opaque.example"));
    let keys = alone(&server);
    for n in 0..5 {
        assert_eq!(cause(&keys, &format!("../../etc/passwd{n}")).await, "cannot_ask");
        assert_eq!(keys.health()[0].fault, None);
    }
    assert_eq!(cause(&keys, OPAQUE).await, "in");
}

#[tokio::test]
async fn nobody_is_there_to_be_asked() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = Server::start().await;
    let mut issuer = server.issuer("opaque");
    let KeySource::Asked(asked) = &mut issuer.source else { panic!() };
    asked.url = format!("http://{gone}/introspect");
    let keys = Keys::new(vec![issuer]).unwrap();
    keys.probe(NOW).await;
    assert!(keys.health()[0].fault.as_deref().unwrap().contains("refused"), "{:?}", keys.health());
    assert_eq!(cause(&keys, OPAQUE).await, "cannot_ask");
}

#[tokio::test]
async fn a_flood_of_made_up_tokens_asks_no_more_than_the_server_can_bear_at_once() {
    let server = Server::start().await;
    server.says.gate.forget_permits(10_000);
    let keys = Arc::new(alone(&server));
    let mut flood = JoinSet::new();
    for n in 0..200 {
        let keys = Arc::clone(&keys);
        flood.spawn(async move { keys.principal(&format!("token-{n}"), NOW).await.unwrap_err().cause() });
    }
    // Whoever finds no place is told so while the others still wait.
    assert_eq!(flood.join_next().await.unwrap().unwrap(), "cannot_ask");
    assert!(server.asked().len() <= 32, "{}", server.asked().len());
    server.says.gate.add_permits(10_000);
    let rest = flood.join_all().await;
    assert!(rest.iter().all(|cause| ["inactive", "cannot_ask"].contains(cause)), "{rest:?}");
}

#[tokio::test]
async fn a_token_is_shown_to_nobody_but_who_may_have_issued_it() {
    let (first, second) = (Server::start().await, Server::start().await);
    let jwt =
        IssuerConfig::new(settings(), KeySource::Inline(KeySet::from_jwks(&jwks(&[&ED]), &[Alg::EdDsa]).unwrap()));
    let mut told_apart = second.issuer("second");
    told_apart.settings.token_prefix = "lp2_".to_owned();
    let keys = Keys::new(vec![jwt, first.issuer("first"), told_apart]).unwrap();
    keys.load().await;
    // Signed tokens are for those whose keys are known, whatever else is wrong with them.
    let signed = ED.token(&claims());
    assert_eq!(cause(&keys, &signed).await, "in");
    assert_eq!(cause(&keys, &STRANGER.token(&claims())).await, "bad_signature");
    assert_eq!(cause(&keys, &ED.token(&claims_but("iss", json!("https://elsewhere.example")))).await, "unknown_issuer");
    assert_eq!(cause(&keys, &ED.token(&claims_but("iss", json!(null)))).await, "missing_claim");
    assert_eq!((first.asked().len(), second.asked().len()), (0, 0));
    // A signed token of an issuer that is asked goes to that one alone.
    let of_first = ED.token(&claims_but("iss", json!("https://first.example")));
    first.knows(&of_first, active("https://first.example"));
    assert_eq!(cause(&keys, &of_first).await, "in");
    assert_eq!((first.asked().len(), second.asked().len()), (1, 0));
    // Opaque ones go where their beginning leads.
    second.knows("lp2_abc", active("https://second.example"));
    assert_eq!(cause(&keys, "lp2_abc").await, "in");
    assert_eq!(cause(&keys, OPAQUE).await, "inactive");
    assert_eq!(first.asked(), [of_first.as_str(), OPAQUE]);
    assert_eq!(second.asked(), ["lp2_abc"]);
    // What cannot be a token is shown to nobody.
    for odd in ["a b", "a\"b", "é"] {
        assert_eq!(cause(&keys, odd).await, "malformed");
    }
    assert_eq!((first.asked().len(), second.asked().len()), (2, 1));
}

#[tokio::test]
async fn several_issuers_are_asked_in_order_and_an_outage_is_never_a_no() {
    let (first, second) = (Server::start().await, Server::start().await);
    let keys = Keys::new(vec![first.issuer("first"), second.issuer("second")]).unwrap();
    second.knows(OPAQUE, active("https://second.example"));
    assert_eq!(keys.principal(OPAQUE, NOW).await.unwrap().issuer, "https://second.example");
    first.knows("of-both", active("https://second.example"));
    assert_eq!(cause(&keys, "of-both").await, "unknown_issuer", "one issuer does not speak for another");
    first.breaks(StatusCode::BAD_GATEWAY, "");
    assert_eq!(cause(&keys, "whose").await, "cannot_ask");
}

#[tokio::test]
async fn a_bound_token_is_good_over_its_certificate_however_often_it_is_remembered() {
    let server = Server::start().await;
    let mut bound = active("https://opaque.example");
    // SHA-256 of nothing, in base64url as RFC 8705 has it, and in hexadecimal as the door has it.
    bound["cnf"] = json!({"x5t#S256": "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"});
    server.knows(OPAQUE, bound);
    let keys = alone(&server);
    let own = ClientCertificate {
        sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned(),
        names: Vec::new(),
        until_s: i64::MAX,
    };
    let other = ClientCertificate { sha256: "00".repeat(32), names: Vec::new(), until_s: i64::MAX };
    let authorization = format!("Bearer {OPAQUE}");
    for _ in 0..3 {
        let over = |certificate| Shown { certificate, ..Shown::bearing(vec![&authorization]) };
        assert_eq!(keys.identify(&over(Some(&own)), NOW).await.unwrap().user, "ada");
        for wrong in [None, Some(&other)] {
            assert_eq!(keys.identify(&over(wrong), NOW).await.unwrap_err(), AuthFault::OtherCertificate);
        }
        assert_eq!(cause(&keys, OPAQUE).await, "other_certificate");
    }
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_mediated_session_and_bearers_stand_side_by_side() {
    let mut helix = settings();
    helix.name = "helix".to_owned();
    helix.issuer = "https://helix.example".to_owned();
    helix.certificates = vec!["dns:helix.internal".to_owned()];
    let jwt =
        IssuerConfig::new(settings(), KeySource::Inline(KeySet::from_jwks(&jwks(&[&ED]), &[Alg::EdDsa]).unwrap()));
    let keys =
        Keys::new(vec![jwt, IssuerConfig::new(helix.of_kind(AuthMethod::Helix), KeySource::Certificates)]).unwrap();
    keys.load().await;
    let dns = "dns:helix.internal".to_owned();
    let certificate = ClientCertificate { sha256: "ab".repeat(32), names: vec![dns], until_s: NOW };
    let authorization = format!("Bearer {}", ED.token(&claims()));
    let named = Shown { user: vec!["ben"], tenant: vec!["org_gcn"], ..Shown::default() };
    let over = Shown { certificate: Some(&certificate), ..named.clone() };
    let ben = keys.identify(&over, NOW).await.unwrap();
    assert_eq!((ben.user.as_str(), ben.method), ("ben", AuthMethod::Helix));
    let late = keys.identify(&over, NOW + 1).await.unwrap_err();
    assert_eq!(late, AuthFault::Absent, "a connection that outlives its certificate names nobody");
    assert_eq!(keys.identify(&named, NOW).await.unwrap_err(), AuthFault::Absent);
    let both = Shown { authorization: vec![&authorization], ..over };
    assert_eq!(keys.identify(&both, NOW).await.unwrap_err(), AuthFault::TwoIdentities);
    let borrowed = Shown { authorization: vec![&authorization], ..named };
    assert_eq!(keys.identify(&borrowed, NOW).await.unwrap().user, "ada", "headers alone name nobody");
}
