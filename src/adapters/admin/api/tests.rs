//! The API without its socket: every route against its document, and what the door itself refuses.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use axum::http::Method;
use tower::ServiceExt;

use super::*;
use crate::pep::desk::memory::World;
use crate::pep::desk::memory::bundle;

const OTTO: &str = "otto@org_gcn/approver";
const TESS: &str = "tess@org_gcn/tenant_admin";
const PAM: &str = "pam@org_gcn/policy_admin";

struct Scene {
    world: Arc<World>,
    router: Router,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let rules = DoorRules { loopback: true, ..DoorRules::default() };
        let api = Api { desk: world.desk(), rules, resource: "https://gw.example/mcp".to_owned() };
        Self { router: router(api), world }
    }

    async fn send(
        &self,
        request: axum::http::request::Builder,
        body: impl Into<Body>,
    ) -> (StatusCode, HeaderMap, Value) {
        let mut request = request.body(body.into()).unwrap();
        request.extensions_mut().insert(SocketAddr::from(([127, 0, 0, 1], 9)));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(head.headers["cache-control"], "no-store", "{text}");
        assert_eq!(head.headers["content-type"], "application/json", "{text}");
        (head.status, head.headers, serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")))
    }

    async fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        let (request, body) = if method == "POST" {
            (request.header("content-type", "application/json"), Body::from(body.to_string()))
        } else {
            (request, Body::empty())
        };
        let (status, _, answer) = self.send(request, body).await;
        (status.as_u16(), answer)
    }
}

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {answer}"))
}

/// Fails where an answer is not as the document says.
#[track_caller]
fn fits(answer: &Value, schema: &str) {
    let document = document();
    let schema = json!({"$ref": format!("#/components/schemas/{schema}"), "components": document["components"]});
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(answer).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_document_names_every_route_and_no_other() {
    let document = document();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.replace("{id}", "{}")))
        })
        .collect();
    let served: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|(method, path, _)| {
            let method = if *method == MethodFilter::GET { "GET" } else { "POST" };
            (method.to_owned(), path.replace("{*id}", "{}").replace("{id}", "{}"))
        })
        .collect();
    assert_eq!(documented, served);
    assert_eq!(served.len(), ROUTES.len());
}

#[tokio::test]
async fn every_route_of_the_document_is_there_and_asks_who_comes() {
    let scene = Scene::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let request = Request::builder()
                .method(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap())
                .uri(path.replace("{id}", "x"))
                .header("content-type", "application/json");
            let (status, headers, answer) = scene.send(request, "{}").await;
            if path.ends_with("openapi.json") {
                assert_eq!((status, &answer), (StatusCode::OK, &document()));
                continue;
            }
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}: {answer}");
            assert_eq!(
                headers["www-authenticate"],
                "Bearer resource_metadata=\"https://gw.example/.well-known/oauth-protected-resource/mcp\""
            );
            fits(&answer, "Error");
        }
    }
}

#[tokio::test]
async fn answers_are_as_the_document_says() {
    let scene = Scene::new();
    let ticket = scene.world.ask_for("apr_1", "ada", "org_gcn", 1);
    let id = scene.world.unknown_write("ada", "org_gcn", "k1").plan.execution_id;
    let (status, list) = scene.ask("GET", "/api/v1/approvals?state=pending&limit=1", OTTO, &Value::Null).await;
    assert_eq!((status, &list["next"]), (200, &Value::Null));
    fits(&list["items"][0], "ApprovalLine");
    let (status, shown) = scene.ask("GET", "/api/v1/approvals/apr_1", OTTO, &Value::Null).await;
    assert_eq!((status, &shown["digest"]), (200, &ticket.digest.as_str().into()));
    fits(&shown, "Approval");
    let vote = json!({"digest": ticket.digest, "reason": "as planned"});
    fits(&vote, "Vote");
    let (status, voted) = scene.ask("POST", "/api/v1/approvals/apr_1/approve", OTTO, &vote).await;
    assert_eq!((status, &voted["state"]), (200, &"approved".into()));
    fits(&voted, "Approval");
    let (status, revoked) = scene.ask("POST", "/api/v1/approvals/apr_1/revoke", TESS, &json!({})).await;
    assert_eq!((status, &revoked["ended"]["ground"]), (200, &"revoked".into()));
    fits(&revoked, "Approval");
    let (_, list) = scene.ask("GET", "/api/v1/writes?state=unknown", TESS, &Value::Null).await;
    fits(&list["items"][0], "WriteLine");
    let resolution = json!({"outcome": "executed", "evidence": "seen on the board", "recordIds": ["WI-1"]});
    fits(&resolution, "Resolution");
    let (status, write) = scene.ask("POST", &format!("/api/v1/writes/{id}/resolve"), TESS, &resolution).await;
    assert_eq!((status, &write["state"]), (200, &"unknown".into()));
    fits(&write, "Write");
    let (status, write) = scene.ask("GET", "/api/v1/writes/k1", TESS, &Value::Null).await;
    assert_eq!((status, write["opinions"].as_array().unwrap().len()), (200, 1));
    let (status, records) = scene.ask("GET", "/api/v1/audit?stage=approval&limit=5", TESS, &Value::Null).await;
    assert_eq!(status, 200);
    fits(&records["items"][0], "Record");
    let (status, told) = scene.ask("GET", "/api/v1/audit/apr_1", TESS, &Value::Null).await;
    assert_eq!((status, &told["truncated"]), (200, &false.into()));
    let (status, none) = scene.ask("GET", "/api/v1/audit/gateway-1/3/7", TESS, &Value::Null).await;
    assert_eq!((status, code(&none)), (404, "record_unknown"), "an audit reference keeps its slashes");
}

#[tokio::test]
async fn how_policy_stands_is_told_as_the_document_says() {
    let scene = Scene::new();
    scene.world.with_policies();
    let revision = bundle("c").revision();
    let (status, shown) = scene.ask("GET", "/api/v1/policy", PAM, &Value::Null).await;
    assert_eq!((status, &shown["waiting"]["revision"]), (200, &revision.as_str().into()), "{shown}");
    fits(&shown, "Policy");
    let none = json!({"revision": revision});
    fits(&none, "Activation");
    let (status, answer) = scene.ask("POST", "/api/v1/policy/activate", PAM, &none).await;
    assert_eq!((status, code(&answer)), (409, "gate_report_missing"));
    // Larger than any other body may be.
    let report =
        json!({"payloadType": "x", "payload": "x".repeat(1 << 20), "signatures": [{"keyid": "k", "sig": "s"}]});
    let order = json!({"revision": revision, "report": report, "digest": "d", "reason": "r", "canary": {"percent": 10, "tenants": ["org_a"]}});
    fits(&order, "Activation");
    let (status, shown) = scene.ask("POST", "/api/v1/policy/activate", PAM, &order).await;
    assert_eq!((status, &shown["canary"]["percent"]), (200, &10.into()), "{shown}");
    fits(&shown, "Policy");
    let (status, shown) = scene.ask("POST", "/api/v1/policy/rollback", PAM, &json!({"reason": "wrong"})).await;
    assert_eq!((status, &shown["live"]["how"]), (200, &"rolled_back".into()), "{shown}");
    fits(&shown, "Policy");
    // Strangers are read no further than anywhere else.
    let (status, answer) = scene.ask("POST", "/api/v1/policy/activate", "forged", &order).await;
    assert_eq!((status, code(&answer)), (401, "unauthenticated"));
    for wrong in [
        json!({}),
        json!({"revision": 7}),
        json!({"revision": revision, "report": "text"}),
        json!({"revision": revision, "canary": 10}),
        json!({"revision": revision, "canary": {"percent": 256}}),
        json!({"revision": revision, "canary": {"percent": 10, "share": 1}}),
        json!({"revision": revision, "force": true}),
    ] {
        let (status, answer) = scene.ask("POST", "/api/v1/policy/activate", PAM, &wrong).await;
        assert_eq!((status, code(&answer)), (400, "invalid_request"), "{wrong}");
    }
}

#[tokio::test]
async fn each_kind_of_no_has_its_status() {
    let scene = Scene::new();
    let ticket = scene.world.ask_for("apr_1", "ada", "org_gcn", 2);
    let good = json!({"digest": ticket.digest});
    let approve = "/api/v1/approvals/apr_1/approve";
    let cases: [(&str, &str, &str, Value, u16, &str); 9] = [
        ("GET", "/api/v1/approvals/apr_none", OTTO, Value::Null, 404, "approval_unknown"),
        ("GET", "/api/v1/approvals", "cleo@org_gcn,org_b/auditor", Value::Null, 400, "tenant_required"),
        ("POST", approve, "ada@org_gcn/approver", good.clone(), 403, "self_approval"),
        ("POST", approve, "nora@org_b/approver", good.clone(), 404, "approval_unknown"),
        ("POST", approve, OTTO, json!({"digest": "0"}), 409, "approval_mismatch"),
        ("POST", approve, OTTO, json!({}), 400, "invalid_request"),
        ("GET", "/api/v1/audit", OTTO, Value::Null, 403, "role_required"),
        ("GET", "/api/v1/nothing", OTTO, Value::Null, 404, "no_such_route"),
        ("POST", "/api/v1/approvals", OTTO, json!({}), 405, "invalid_request"),
    ];
    for (method, path, token, body, status, expected) in cases {
        let (got, answer) = scene.ask(method, path, token, &body).await;
        assert_eq!((got, code(&answer)), (status, expected), "{method} {path} {token}");
        fits(&answer, "Error");
    }
    scene.world.ledger_is_down(true);
    let request = Request::builder().uri("/api/v1/approvals").header("authorization", format!("Bearer {OTTO}"));
    let (status, headers, answer) = scene.send(request, Body::empty()).await;
    assert_eq!((status, code(&answer)), (StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable"));
    assert_eq!(headers["retry-after"], "5");
}

#[tokio::test]
async fn what_is_not_understood_is_refused_and_never_passed_over() {
    let scene = Scene::new();
    let ticket = scene.world.ask_for("apr_1", "ada", "org_gcn", 1);
    let approve = "/api/v1/approvals/apr_1/approve";
    let digest = &ticket.digest;
    for body in [
        String::new(),
        "[]".to_owned(),
        "null".to_owned(),
        format!("{{\"digest\":\"{digest}\",\"digest\":\"{digest}\"}}"),
        format!("{{\"digest\":\"{digest}\",\"verdict\":\"reject\"}}"),
        format!("{{\"digest\":\"{digest}\",\"reason\":7}}"),
        format!("{{\"digest\":[\"{digest}\"]}}"),
        format!("{{\"digest\":\"{digest}\"}} {{}}"),
        format!("\u{feff}{{\"digest\":\"{digest}\"}}"),
    ] {
        let request = Request::builder()
            .method("POST")
            .uri(approve)
            .header("authorization", format!("Bearer {OTTO}"))
            .header("content-type", "application/json");
        let (status, _, answer) = scene.send(request, body.clone()).await;
        assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "invalid_request"), "{body}");
    }
    for query in [
        "?stat=pending",
        "?state=pending&state=approved",
        "?state=open",
        "?limit=0",
        "?limit=-1",
        "?limit=many",
        "?cursor=x",
        "?tenant=org_gcn",
    ] {
        let (status, answer) = scene.ask("GET", &format!("/api/v1/approvals{query}"), OTTO, &Value::Null).await;
        assert_eq!((status, code(&answer)), (400, "invalid_request"), "{query}");
    }
    for query in ["?since=yesterday", "?until=1", "?cursor=1.2.3", "?writer=w"] {
        let (status, _) = scene.ask("GET", &format!("/api/v1/audit{query}"), TESS, &Value::Null).await;
        assert_eq!(status, 400, "{query}");
    }
    let (status, _) = scene.ask("POST", &format!("{approve}?force=true"), OTTO, &json!({"digest": digest})).await;
    assert_eq!(status, 400);
    assert_eq!(scene.world.tickets.lock().unwrap()["apr_1"], ticket);
}

#[tokio::test]
async fn a_browser_page_of_another_origin_or_a_form_changes_nothing() {
    let scene = Scene::new();
    let ticket = scene.world.ask_for("apr_1", "ada", "org_gcn", 1);
    let body = json!({"digest": ticket.digest}).to_string();
    let post = || {
        let request = Request::builder().method("POST").uri("/api/v1/approvals/apr_1/approve");
        request.header("authorization", format!("Bearer {OTTO}"))
    };
    for (origin, status) in [("https://evil.example", 403), ("null", 403), ("http://localhost:8081", 200)] {
        let request = post().header("content-type", "application/json").header("origin", origin);
        let (got, _, _) = scene.send(request, body.clone()).await;
        assert_eq!(got, status, "{origin}");
        if status != 200 {
            assert_eq!(scene.world.tickets.lock().unwrap()["apr_1"], ticket);
        }
    }
    scene.world.ask_for("apr_1", "ada", "org_gcn", 1);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", ""] {
        let request = if kind.is_empty() { post() } else { post().header("content-type", kind) };
        let (got, _, answer) = scene.send(request, body.clone()).await;
        assert_eq!((got, code(&answer)), (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type"), "{kind}");
    }
    let twice = post().header("content-type", "application/json").header("content-type", "text/plain");
    assert_eq!(scene.send(twice, body.clone()).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let huge = json!({"digest": ticket.digest, "reason": "x".repeat(BODY_BYTES_MAX)}).to_string();
    let (status, _, answer) = scene.send(post().header("content-type", "application/json"), huge).await;
    assert_eq!((status, code(&answer)), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    assert_eq!(scene.world.tickets.lock().unwrap()["apr_1"], ticket);
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_on_record_and_tells_strangers_nothing() {
    let scene = Scene::new();
    let (status, answer) = scene.ask("POST", "/api/v1/approvals/apr_1/approve", "forged", &json!({"x": 1})).await;
    assert_eq!((status, code(&answer)), (401, "unauthenticated"));
    scene.world.stages();
    let (status, _) = scene.ask("POST", "/api/v1/approvals/apr_1/approve", OTTO, &json!({"x": 1})).await;
    assert_eq!(status, 400);
    let records = scene.world.records.lock().unwrap().clone();
    let told: BTreeMap<&str, &Value> =
        [("code", &records[0]["unmapped"]["loopgate"]["refusal"]["code"]), ("what", &records[0]["api"]["operation"])]
            .into();
    assert_eq!((told["code"], told["what"]), (&"invalid_request".into(), &"approvals.approve".into()));
}
