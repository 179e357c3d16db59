//! How callers are proven to LoopIQ: exchanged tokens, and keys that change while calls run.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::any;
use loopgate::app;
use loopgate::domain::identity::assertion::verify_assertion;
use loopgate::domain::identity::issuer::Alg;
use loopgate::domain::identity::keyset::KeySet;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::authorities::OauthServer;
use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::eventually;
use crate::message::Answer;

/// A LoopIQ that answers everything and keeps the credentials that it was shown.
struct Open {
    url: String,
    shown: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Open {
    async fn start() -> Self {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&shown);
        let serve = move |headers: HeaderMap| {
            let credential = headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
            keeps.lock().unwrap().push(credential);
            let release = json!({"release": RELEASE, "tenantId": "org_gcn", "id": "WI-1", "items": []});
            async move { ([("content-type", "application/json")], release.to_string()) }
        };
        let app = Router::new().fallback(any(serve));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app.into_make_service()).await.unwrap() });
        Self { url, shown, _tasks: tasks }
    }

    fn shown(&self) -> Vec<String> {
        self.shown.lock().unwrap().clone()
    }
}

fn exchanging(server: &OauthServer, backend: &Open, proof: &str) -> Setup {
    Setup {
        backend: Some(backend.url.clone()),
        of_backend: format!(
            "    propagation: {{mode: exchange, url: \"http://{}/token\", client_id: gateway, audience: \"https://loopiq.it.invalid\"{proof}}}",
            server.addr
        ),
        ..Setup::default()
    }
}

fn claims_of(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

async fn jwks(world: &World) -> Value {
    let origin = world.mcp.strip_suffix("/mcp").unwrap();
    serde_json::from_str(&world.get(&format!("{origin}/.well-known/jwks.json")).await).unwrap()
}

async fn ask(world: &World, user: &str) -> Answer {
    world.call(user, "loopiq_search_releases", json!({})).send().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_gets_a_token_of_its_own_service_for_the_gateways_word() {
    let (server, backend) = (OauthServer::start().await, Open::start().await);
    let world = World::with(exchanging(&server, &backend, "")).await;
    ask(&world, "ada").await;
    ask(&world, "ada").await;
    ask(&world, "ben").await;
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "once for each caller");
    let keys = KeySet::from_jwks(jwks(&world).await.to_string().as_bytes(), &[Alg::EdDsa]).unwrap();
    let service = format!("http://{}/token", server.addr);
    let assertion =
        verify_assertion(&asked[0].0["subject_token"], &Arc::new(keys), &world.mcp, &service, app::now_s()).unwrap();
    assert_eq!((assertion.sub.as_str(), assertion.tenant.as_str()), ("ada", "org_gcn"));
    assert_eq!(asked[0].0["audience"], "https://loopiq.it.invalid");
    // Without a secret the gateway proves itself with the key that it publishes.
    let client = claims_of(&asked[0].0["client_assertion"]);
    assert_eq!((&client["sub"], &client["aud"]), (&json!("gateway"), &json!(service)));
    let shown = backend.shown();
    assert_eq!(shown.len(), 3);
    assert!(shown.iter().all(|credential| credential.starts_with("Bearer exchanged.")), "{shown:?}");
    // Neither the caller's token nor the one that was given is written down anywhere.
    let token = world.token("ada");
    let text: String = world.journal().iter().map(Value::to_string).collect();
    assert!(!text.contains("exchanged.") && !text.contains(token.rsplit('.').next().unwrap()));
    assert!(asked.iter().all(|(form, _)| !form["subject_token"].contains(token.rsplit('.').next().unwrap())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_credential_nothing_is_sent_and_a_write_can_be_made_later() {
    let (server, backend) = (OauthServer::start().await, Open::start().await);
    let secret = format!(", secret_file: {}", server.secret_file());
    let world = World::with(exchanging(&server, &backend, &secret)).await;
    server.exchanges(503, json!({}));
    let write = || world.write("ada", "Later").meta("com.loopiq/idempotencyKey", "later-1");
    let refused = write().send().await;
    refused.is_refused("backend_unavailable");
    assert_eq!(refused.refusal()["retryable"], true);
    ask(&world, "ben").await.is_refused("backend_unavailable");
    assert!(backend.shown().is_empty(), "nothing was sent");
    server.exchanges(400, json!({"error": "access_denied"}));
    // Once the pause is over the service is asked again, and says no to this caller.
    eventually("the service is asked again", || async {
        (ask(&world, "nora").await.code() == "backend_rejected").then_some(())
    })
    .await;
    assert!(backend.shown().is_empty());
    let token = json!({"access_token": "given", "token_type": "Bearer", "expires_in": 300});
    server.exchanges(200, token);
    let made = write().send().await;
    assert_ne!(made.code(), "backend_unavailable", "{}", made.text);
    assert_eq!(backend.shown(), ["Bearer given"], "the same write, once");
    assert!(server.asked().iter().all(|(_, proof)| proof.starts_with("Basic ")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_published_before_it_signs_and_calls_go_on_all_the_while() {
    let backend = Open::start().await;
    let world = World::with(Setup { backend: Some(backend.url.clone()), ..Setup::default() }).await;
    let kids = |set: &Value| -> Vec<String> {
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    };
    let first = kids(&jwks(&world).await);
    assert_eq!(first.len(), 1);
    let signed_by = |credential: &str| {
        use base64::Engine as _;
        let header = credential.trim_start_matches("Bearer ").split('.').next().unwrap().to_owned();
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    let dir = world.path("keys");
    let next = app::keys::rotate(&dir, app::now_s(), Duration::from_mins(10)).unwrap().unwrap();
    eventually("the next key is published", || async {
        kids(&jwks(&world).await).contains(&next.key.kid().to_owned()).then_some(())
    })
    .await;
    ask(&world, "ada").await;
    assert_eq!(signed_by(&backend.shown()[0]), first[0], "the first one signs on");
    // As if its time had come.
    let file = |from_s: i64| dir.join(format!("assertion-{from_s}.pem"));
    std::fs::rename(file(next.from_s), file(app::now_s() - 1)).unwrap();
    eventually("the next key signs", || async {
        ask(&world, "ada").await;
        (signed_by(backend.shown().last().unwrap()) == next.key.kid()).then_some(())
    })
    .await;
    let known = kids(&jwks(&world).await);
    assert!(known.contains(&first[0]) && known.len() == 2, "what the first one signed can be verified: {known:?}");
    let noted = world.journal();
    let stage = |record: &&Value| record["unmapped"]["loopgate"]["stage"] == "config.keys";
    assert!(noted.iter().filter(stage).count() >= 2, "it is written down");
    // A folder that cannot be read changes nothing.
    std::fs::write(file(1), "rubbish").unwrap();
    ask(&world, "ada").await;
    assert_eq!(signed_by(backend.shown().last().unwrap()), next.key.kid());
}
