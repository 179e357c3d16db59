//! Those who vouch for callers beside key files: servers that are asked, secrets, LoopIQ itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use loopgate::adapters::keys::dev;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::AUDIENCE;
use crate::harness::Setup;

pub(crate) const OPAQUE: &str = "https://opaque.it.invalid";
pub(crate) const LOOPIQ: &str = "https://loopiq.it.invalid";
pub(crate) const HELIX: &str = "https://helix.it.invalid";
pub(crate) const BOUND: &str = "https://bound.it.invalid";
pub(crate) const SECRET: &str = "a secret of LoopIQ and the gateway alone";

/// An OAuth server: it is asked about tokens, and gives some in exchange.
pub(crate) struct OauthServer {
    pub(crate) addr: std::net::SocketAddr,
    pub(crate) says: Arc<Says>,
    secret: TempDir,
    _tasks: JoinSet<()>,
}

/// What it says, and what it was asked.
#[derive(Default)]
pub(crate) struct Says {
    /// Of each token.
    tokens: Mutex<BTreeMap<String, Value>>,
    /// To whoever wants a token in exchange; a token for everybody when nothing is set.
    exchange: Mutex<Option<(u16, Value)>>,
    /// Forms and proofs, in order.
    asked: Mutex<Vec<(BTreeMap<String, String>, String)>>,
}

async fn introspect(State(says): State<Arc<Says>>, headers: HeaderMap, body: String) -> impl IntoResponse {
    let form = says.note(&headers, &body);
    let tokens = says.tokens.lock().unwrap_or_else(PoisonError::into_inner);
    tokens.get(&form["token"]).cloned().unwrap_or_else(|| json!({"active": false})).to_string()
}

async fn exchange(State(says): State<Arc<Says>>, headers: HeaderMap, body: String) -> impl IntoResponse {
    let form = says.note(&headers, &body);
    let set = says.exchange.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (status, answer) = set.unwrap_or_else(|| {
        let token = format!("exchanged.{}", form["subject_token"].len());
        (200, json!({"access_token": token, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": 300}))
    });
    (StatusCode::from_u16(status).unwrap(), answer.to_string())
}

impl Says {
    fn note(&self, headers: &HeaderMap, body: &str) -> BTreeMap<String, String> {
        let form: BTreeMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let proof = headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((form.clone(), proof));
        form
    }
}

impl OauthServer {
    pub(crate) async fn start() -> Self {
        let says = Arc::new(Says::default());
        let app = Router::new().route("/introspect", post(introspect)).route("/token", post(exchange));
        let app = app.with_state(Arc::clone(&says));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app.into_make_service()).await.unwrap() });
        let secret = tempfile::tempdir().unwrap();
        std::fs::write(secret.path().join("secret"), SECRET).unwrap();
        Self { addr, says, secret, _tasks: tasks }
    }

    /// File with [`SECRET`].
    pub(crate) fn secret_file(&self) -> String {
        self.secret.path().join("secret").display().to_string()
    }

    pub(crate) fn knows(&self, token: &str, answer: Value) {
        self.says.tokens.lock().unwrap().insert(token.to_owned(), answer);
    }

    pub(crate) fn exchanges(&self, status: u16, answer: Value) {
        *self.says.exchange.lock().unwrap() = Some((status, answer));
    }

    pub(crate) fn asked(&self) -> Vec<(BTreeMap<String, String>, String)> {
        self.says.asked.lock().unwrap().clone()
    }

    /// A gateway with an issuer of every kind.
    pub(crate) fn setup(&self) -> Setup {
        let (jwks, secret, addr) = (dev::JWKS_FILE, self.secret_file(), self.addr);
        Setup {
            issuers: format!(
                "  - name: loopiq
    kind: loopiq
    issuer: {LOOPIQ}
    audiences: [{AUDIENCE}]
    algorithms: [HS256]
    keys: {{secret_file: {secret}}}
  - name: helix
    kind: helix
    issuer: {HELIX}
    audiences: [{AUDIENCE}]
    algorithms: [EdDSA]
    tenants: [org_gcn, org_nordbank]
    keys: {{file: issuers/helix/{jwks}}}
  - name: opaque
    issuer: {OPAQUE}
    audiences: [{AUDIENCE}]
    keys: {{introspection: {{url: \"http://{addr}/introspect\", client_id: gateway, secret_file: {secret}}}}}
  - name: bound
    issuer: {BOUND}
    audiences: [{AUDIENCE}]
    algorithms: [EdDSA]
    keys: {{file: issuers/people/{jwks}, certificates: [\"dns:agent.internal\"]}}
  - name: mediated
    kind: helix
    issuer: https://mediated.it.invalid
    keys: {{certificates: [\"dns:helix.internal\"]}}"
            ),
            ..Setup::default()
        }
    }
}
