//! Faults on demand, the memory of requests, and trust.

use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::BACKEND;
use super::GCN;
use super::Lab;
use super::NORD;
use super::Store;
use super::item;
use super::package;
use super::packages;

const ITEMS: &str = "/api/v1/work-items";

#[tokio::test]
async fn an_effect_whose_answer_was_lost_is_found_by_its_key() {
    let lab = Lab::open().await;
    let path = packages();
    lab.fault(json!({"method": "POST", "path": path, "kind": "reset_after_commit"})).await;
    let key = [("idempotency-key", "lost")];
    lab.try_send(Method::POST, &path, &key, &package()).await.unwrap_err();
    let found = lab.get(GCN, "/api/v1/executions/lost").await;
    assert_eq!((found.status, found.text("/state").as_str()), (200, "executed"));
    let again = lab.post(&path, &key, &package()).await;
    assert_eq!((again.status, again.replayed), (201, true));
    assert_eq!(again.body, found.body["body"]);
    assert_eq!(lab.effects().await["byKey"][GCN]["lost"], json!(1));
}

#[tokio::test]
async fn a_reset_before_commit_leaves_nothing() {
    let lab = Lab::open().await;
    let before = lab.get(GCN, "/api/v1/admin/diagnostics").await.bytes;
    let path = packages();
    lab.fault(json!({"path": path, "kind": "reset_before_commit"})).await;
    let key = [("idempotency-key", "undone")];
    lab.try_send(Method::POST, &path, &key, &package()).await.unwrap_err();
    assert_eq!(lab.get(GCN, "/api/v1/executions/undone").await.status, 404);
    assert_eq!(lab.get(GCN, "/api/v1/admin/diagnostics").await.bytes, before);
    assert_eq!(lab.effects().await["executions"], json!(0));
    let again = lab.post(&path, &key, &package()).await;
    assert_eq!((again.status, again.replayed), (201, false));
}

#[tokio::test]
async fn a_fault_may_spare_the_dry_run_or_strike_nothing_else() {
    let lab = Lab::open().await;
    let path = packages();
    let dry = format!("{path}?dryRun=true");
    for (dry_run, struck, spared) in [(false, &path, &dry), (true, &dry, &path)] {
        lab.fault(json!({"path": path, "dry_run": dry_run, "kind": "status", "status": 503})).await;
        assert!(lab.post(spared, &[], &package()).await.status < 300, "{spared} for {dry_run}");
        assert_eq!(lab.post(struck, &[], &package()).await.status, 503, "{struck} for {dry_run}");
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_of_the_connection() {
    let lab = Lab::open().await;
    for kind in ["reset_before_commit", "reset_after_commit"] {
        lab.fault(json!({"path": "/api/v1/releases", "kind": kind})).await;
        let mut stream = TcpStream::connect(lab.running.addr()).await.unwrap();
        let request = "GET /api/v1/releases HTTP/1.1\r\nHost: sandbox\r\nX-LoopIQ-Tenant: org_gcn\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let error = stream.read_to_end(&mut answer).await.unwrap_err();
        assert_eq!((error.kind(), answer.len()), (std::io::ErrorKind::ConnectionReset, 0), "{kind}");
    }
}

#[tokio::test]
async fn a_status_fault_does_nothing_and_a_fault_strikes_as_often_as_asked() {
    let lab = Lab::open().await;
    lab.fault(json!({"method": "POST", "path": ITEMS, "kind": "status", "status": 503, "times": 2})).await;
    assert_eq!(lab.get(GCN, ITEMS).await.status, 200, "another method is not struck");
    for expected in [503, 503, 201] {
        assert_eq!(lab.post(ITEMS, &[], &item()).await.status, expected);
    }
    assert_eq!(lab.effects().await["executions"], json!(1));
}

#[tokio::test]
async fn a_path_is_a_beginning_unless_it_is_exact() {
    let lab = Lab::open().await;
    lab.fault(json!({"path": "/api/v1/releases", "exact": true, "kind": "status"})).await;
    assert_eq!(lab.get(GCN, BACKEND).await.status, 200);
    assert_eq!(lab.get(GCN, "/api/v1/releases?limit=1").await.status, 500);
    lab.fault(json!({"path": "/api/v1/releases", "kind": "status"})).await;
    assert_eq!(lab.get(GCN, BACKEND).await.status, 500);
    lab.fault(json!({"path": "/", "kind": "status", "times": 9})).await;
    assert_eq!(lab.attempt(Method::DELETE, "/_sandbox/faults", &[], None).await.unwrap().status, 204);
    assert_eq!(lab.get(GCN, BACKEND).await.status, 200);
}

#[tokio::test]
async fn a_delay_still_answers() {
    let lab = Lab::open().await;
    for when in ["before", "after"] {
        lab.fault(json!({"path": ITEMS, "kind": "delay", "ms": 1, "when": when})).await;
        assert_eq!(lab.post(ITEMS, &[], &item()).await.status, 201);
    }
}

#[tokio::test]
async fn a_foreign_record_hides_where_records_are() {
    let lab = Lab::open().await;
    let places = [
        (BACKEND.to_owned(), "/tenant"),
        ("/api/v1/releases".to_owned(), "/items/5/tenant"),
        (format!("{BACKEND}/certification/evidence-graph"), "/nodes/22/tenant"),
    ];
    for (path, pointer) in places {
        let clean = lab.get(GCN, &path).await.body;
        assert_eq!(clean.pointer(pointer), Some(&json!(GCN)), "{path}");
        lab.fault(json!({"path": path, "kind": "foreign_record"})).await;
        let struck = lab.get(GCN, &path).await;
        assert_eq!((struck.status, struck.body.pointer(pointer)), (200, Some(&json!(NORD))), "{path}");
        assert_eq!(struck.body.to_string().matches(NORD).count(), 1);
    }
}

#[tokio::test]
async fn an_answer_can_be_too_long_broken_or_cut_off() {
    let lab = Lab::open().await;
    lab.fault(json!({"path": BACKEND, "kind": "oversized", "bytes": 3_000_000})).await;
    let long = lab.get(GCN, BACKEND).await;
    assert!(long.bytes.len() > 3_000_000);
    assert_eq!(long.text("/id"), "backend-v1.0-GCN");
    lab.fault(json!({"path": BACKEND, "kind": "bad_json"})).await;
    let broken = lab.get(GCN, BACKEND).await;
    assert_eq!((broken.status, broken.body), (200, Value::Null));
    assert!(!broken.bytes.is_empty());
    lab.fault(json!({"path": BACKEND, "kind": "truncated"})).await;
    let mut stream = TcpStream::connect(lab.running.addr()).await.unwrap();
    let request = format!("GET {BACKEND} HTTP/1.1\r\nHost: sandbox\r\nX-LoopIQ-Tenant: org_gcn\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let announced: usize = announced.parse().unwrap();
    assert!(!body.is_empty() && body.len() < announced, "{} of {announced}", body.len());
}

#[tokio::test]
async fn a_deformed_answer_is_kept_undeformed() {
    let lab = Lab::open().await;
    let key = [("idempotency-key", "k1")];
    lab.fault(json!({"path": ITEMS, "kind": "bad_json"})).await;
    assert_eq!(lab.post(ITEMS, &key, &item()).await.body, Value::Null);
    let again = lab.post(ITEMS, &key, &item()).await;
    assert_eq!((again.replayed, again.text("/title").as_str()), (true, "Rotate the keys"));
}

#[tokio::test]
async fn a_fault_that_makes_no_sense_is_refused() {
    let lab = Lab::open().await;
    let faults = [
        json!({"path": "/api", "kind": "earthquake"}),
        json!({"path": "api", "kind": "delay"}),
        json!({"path": "/api", "kind": "delay", "times": 0}),
        json!({"path": "/api", "kind": "status", "status": 99}),
        json!({"path": "/api", "kind": "delay", "seconds": 1}),
        json!({"kind": "delay"}),
    ];
    for fault in faults {
        let seen = lab.attempt(Method::POST, "/_sandbox/faults", &[], Some(&fault)).await.unwrap();
        assert_eq!((seen.status, seen.text("/error/code").as_str()), (422, "invalid_fault"), "{fault}");
    }
    let waiting = lab.attempt(Method::GET, "/_sandbox/faults", &[], None).await.unwrap();
    assert!(waiting.items().is_empty());
}

#[tokio::test]
async fn requests_are_remembered_as_they_came() {
    let lab = Lab::open().await;
    let extra = [("idempotency-key", "k1"), ("x-request-id", "req-1"), ("authorization", "Bearer abc")];
    lab.post(&format!("{ITEMS}?dryRun=true"), &extra, &item()).await;
    lab.get(GCN, "/api/v1/releases").await;
    let seen = lab.attempt(Method::GET, "/_sandbox/requests", &[], None).await.unwrap();
    let items = seen.items();
    assert_eq!(items.len(), 2, "the controls are not remembered");
    assert_eq!((&items[0]["method"], &items[0]["path"]), (&json!("POST"), &json!(ITEMS)));
    assert_eq!(items[0]["query"], json!("dryRun=true"));
    assert_eq!(items[0]["headers"]["x-request-id"], json!("req-1"));
    assert_eq!(items[0]["headers"]["authorization"], json!("Bearer abc"));
    assert_eq!(serde_json::from_str::<Value>(items[0]["body"].as_str().unwrap()).unwrap(), item());
    assert_eq!(lab.attempt(Method::DELETE, "/_sandbox/requests", &[], None).await.unwrap().status, 204);
    let seen = lab.attempt(Method::GET, "/_sandbox/requests", &[], None).await.unwrap();
    assert!(seen.items().is_empty());
}

/// Someone whose tokens the sandbox may trust.
struct Issuer {
    signing: EncodingKey,
    jwks: Value,
}

impl Issuer {
    fn new(id: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": id, "x": x}]});
        Self { signing: EncodingKey::from_ed_der(pair.to_pkcs8().unwrap().as_ref()), jwks }
    }

    fn token(&self, kid: &str, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid.to_owned());
        jsonwebtoken::encode(&header, claims, &self.signing).unwrap()
    }
}

#[tokio::test]
async fn with_keys_only_the_caller_of_the_token_is_believed() {
    let (gateway, stranger) = (Issuer::new("g1"), Issuer::new("g1"));
    let lab = Lab::with(Store::Memory, Some(gateway.jwks.clone())).await;
    let soon = jiff::Timestamp::now().as_second() + 600;
    let good = json!({"sub": "ada", "tenant": GCN, "aud": "loopiq", "exp": soon});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let cases: Vec<(&str, String, u16)> = vec![
        ("good", gateway.token("g1", &good), 200),
        ("several audiences", gateway.token("g1", &with("aud", json!(["other", "loopiq"]))), 200),
        ("another audience", gateway.token("g1", &with("aud", json!("loopgate"))), 401),
        ("no audience", gateway.token("g1", &with("aud", Value::Null)), 401),
        ("another user", gateway.token("g1", &with("sub", json!("ben"))), 401),
        ("another tenant", gateway.token("g1", &with("tenant", json!(NORD))), 401),
        ("expired", gateway.token("g1", &with("exp", json!(1_000_000_000))), 401),
        ("no expiry", gateway.token("g1", &with("exp", Value::Null)), 401),
        ("another key", stranger.token("g1", &good), 401),
        ("another key id", gateway.token("g2", &good), 401),
        ("no token", String::new(), 401),
        ("none", "eyJhbGciOiJub25lIn0.e30.".to_owned(), 401),
    ];
    for (case, token, expected) in cases {
        let bearer = format!("Bearer {token}");
        let headers = [("x-loopiq-tenant", GCN), ("x-loopiq-user", "ada"), ("authorization", bearer.as_str())];
        let seen = lab.attempt(Method::GET, "/api/v1/releases", &headers, None).await.unwrap();
        assert_eq!(seen.status, expected, "{case}: {}", seen.body);
    }
    assert_eq!(lab.get(GCN, "/healthz").await.status, 200, "health needs no token");
}

#[tokio::test]
async fn keys_can_be_handed_over_later_and_bad_ones_are_refused() {
    let lab = Lab::open().await;
    assert_eq!(lab.get(GCN, "/api/v1/releases").await.status, 200);
    for bad in [json!({}), json!({"keys": []}), json!("keys")] {
        lab.running.trust(&bad).unwrap_err();
    }
    assert_eq!(lab.get(GCN, "/api/v1/releases").await.status, 200);
    lab.running.trust(&Issuer::new("g1").jwks).unwrap();
    assert_eq!(lab.get(GCN, "/api/v1/releases").await.status, 401);
}

#[tokio::test]
async fn stopping_answers_what_is_under_way_and_takes_nothing_new() {
    let lab = Lab::open().await;
    let addr = lab.running.addr();
    // A kept-alive connection that has been used and now idles must not hold the stop up.
    let mut idle = TcpStream::connect(addr).await.unwrap();
    let request = "GET /healthz HTTP/1.1\r\nHost: sandbox\r\n\r\n";
    idle.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0_u8; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    lab.running.stop().await;
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    TcpStream::connect(addr).await.unwrap_err();
}
