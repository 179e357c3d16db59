//! Catalogs against the stand-in backend, over TCP: what a tool builds is served, and what is
//! answered passes the inspection.

use std::net::SocketAddr;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::import;
use crate::domain::canonical::Limits;
use crate::domain::catalog::BUILT_IN;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::RouteRequest;
use crate::domain::identity::Tenant;
use crate::domain::inspect;
use crate::domain::refusal::Code;
use crate::domain::refusal::Refusal;
use crate::sandbox;

fn tenant() -> Tenant {
    crate::domain::identity::forge::tenant("org_gcn")
}

/// A stand-in with nobody else on it.
async fn stand_in() -> sandbox::Running {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    sandbox::start(sandbox::Settings { listen, store: sandbox::Store::Memory, trust: None }).await.unwrap()
}

/// Sends what a tool built and judges and inspects what comes back, as the gateway does.
async fn call(
    backend: &sandbox::Running,
    catalog: &Catalog,
    name: &str,
    arguments: Value,
    dry_run: bool,
) -> Result<inspect::Inspected, Refusal> {
    let tool = catalog.tool(name).unwrap();
    let Value::Object(arguments) = arguments else { panic!("{arguments} is no object") };
    tool.validate(&arguments)?;
    let request = tool.request(&arguments, dry_run)?;
    let (status, media, body) = send(backend, &request).await;
    inspect::judge(tool, status, None, &body)?;
    inspect::inspect(&body, media.as_deref(), tool, &tenant(), &Limits::default(), &[])
}

async fn send(backend: &sandbox::Running, request: &RouteRequest) -> (u16, Option<String>, Vec<u8>) {
    let url = format!("http://{}{}", backend.addr(), request.path_and_query);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut sending = client.request(request.method.parse().unwrap(), url);
    sending = sending.header("x-loopiq-tenant", "org_gcn").header("x-loopiq-user", "ada");
    if let Some(body) = &request.body {
        sending = sending.header("content-type", "application/json").body(body.clone());
    }
    let answer = sending.send().await.unwrap();
    let media = answer.headers().get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
    (answer.status().as_u16(), media, answer.bytes().await.unwrap().to_vec())
}

/// Arguments of every tool for records that the stand-in has.
fn plausible(package: &str, agent: &str, run: &str, item: &str) -> Vec<(&'static str, Value)> {
    let release = json!({"release": "backend-v1.0-GCN"});
    let decision = json!({"release": "backend-v1.0-GCN", "decision": "reject", "reason": "open blockers"});
    let settings = json!({"displayName": "GCN", "blockersMustBeClosed": true, "evidenceFreshHours": 24,
        "notificationEmail": "a@gcn.example"});
    vec![
        ("loopiq_search_releases", json!({"status": "certification", "limit": 2})),
        ("loopiq_get_release", release.clone()),
        ("loopiq_search_applications", json!({"q": "card"})),
        ("loopiq_get_application", json!({"application": "card-authorization"})),
        ("loopiq_search_modules", json!({"application": "card-authorization"})),
        ("loopiq_get_module", json!({"module": "auth-switch"})),
        ("loopiq_search_work_items", json!({"type": "story"})),
        ("loopiq_search_certifications", release.clone()),
        ("loopiq_get_certification", json!({"certification": "cert-backend-v1.0-GCN"})),
        ("loopiq_search_controls", json!({"framework": "SOC2"})),
        ("loopiq_get_control", json!({"control": "SOC2-CC6.1"})),
        ("loopiq_search_evidence", json!({"release": "backend-v1.0-GCN", "status": "stale"})),
        ("loopiq_get_evidence", json!({"evidence": "ev-1001"})),
        ("loopiq_search_provider_findings", json!({"provider": "snyk", "severity": "critical"})),
        ("loopiq_get_release_certification", release.clone()),
        ("loopiq_get_release_certification_evidence", release.clone()),
        ("loopiq_get_release_certification_blockers", release.clone()),
        ("loopiq_get_release_certification_gaps", release.clone()),
        ("loopiq_get_release_readiness", release.clone()),
        ("loopiq_get_release_certification_evidence_graph", release.clone()),
        ("loopiq_refresh_release_certification_evidence_graph", release),
        ("loopiq_get_release_analytics", json!({"from": "2020-01-01T00:00:00Z"})),
        ("loopiq_get_certification_analytics", json!({})),
        ("loopiq_get_diagnostics", json!({})),
        ("loopiq_get_tenant_settings", json!({})),
        ("loopiq_update_tenant_settings", settings),
        ("loopiq_get_remediation_work_package", json!({"workPackage": package})),
        ("loopiq_create_remediation_work_package", remediation()),
        ("loopiq_get_ai_ml_agent", json!({"agent": agent})),
        ("loopiq_get_ai_ml_agent_run", json!({"agent": agent, "run": run})),
        ("loopiq_run_ai_ml_agent", json!({"agent": agent, "release": "backend-v1.0-GCN"})),
        ("loopiq_create_work_item", json!({"title": "t", "type": "task", "parent": item, "owner": "ada"})),
        ("loopiq_get_work_item", json!({"workItem": item})),
        ("loopiq_update_work_item", json!({"workItem": item, "status": "done"})),
        ("loopiq_decide_release_certification", decision),
    ]
}

fn remediation() -> Value {
    json!({
        "release": "backend-v1.0-GCN", "certification": "cert-backend-v1.0-GCN",
        "title": "Close the blockers", "owner": "ada", "parentStory": {"title": "Close the blockers"},
        "tasks": [{"title": "Patch the codec", "blocker": "blk-1001", "evidence": "ev-1005"}],
        "evidence": ["ev-1005"], "blockers": ["blk-1001"], "evidenceAsOf": "2026-11-20T10:00:00Z",
    })
}

#[tokio::test]
async fn every_tool_works_against_the_stand_in() {
    let options = import::Options { backend: "loopiq".to_owned(), output_schemas: true };
    let imported = import::import(&sandbox::openapi(), &options).unwrap().to_yaml().unwrap();
    for text in [BUILT_IN, imported.as_str()] {
        let catalog = Catalog::from_yaml(text).unwrap();
        let backend = stand_in().await;
        let [package, agent, run, item] = &writes_for_real(&backend, &catalog).await;
        let mut names = vec!["loopiq_list_ai_ml_agents".to_owned()];
        for (name, arguments) in plausible(package, agent, run, item) {
            let writes = catalog.tool(name).unwrap().writes();
            let answered = call(&backend, &catalog, name, arguments, writes).await;
            let answered = answered.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
            assert_eq!(answered.value.get("dryRun").is_some(), writes, "{name}");
            names.push(name.to_owned());
        }
        names.sort();
        let routed = catalog.tools().filter(|tool| tool.route().is_some()).map(|tool| tool.name.clone());
        assert_eq!(names, routed.collect::<Vec<_>>());
        backend.stop().await;
    }
}

/// Makes a work package, a run and a work item; their ids, with the agent's.
async fn writes_for_real(backend: &sandbox::Running, catalog: &Catalog) -> [String; 4] {
    let real = async |name: &'static str, arguments: Value| {
        let done = call(backend, catalog, name, arguments, false).await;
        done.unwrap_or_else(|refusal| panic!("{name}: {refusal}"))
    };
    let package = real("loopiq_create_remediation_work_package", remediation()).await;
    assert_eq!(package.record_ids.len(), 3, "{:?}", package.record_ids);
    let agents = real("loopiq_list_ai_ml_agents", json!({})).await.value;
    let enabled = agents["items"].as_array().unwrap().iter().find(|agent| agent["status"] == "enabled").unwrap();
    let agent = enabled["id"].as_str().unwrap().to_owned();
    let run = real("loopiq_run_ai_ml_agent", json!({"agent": agent, "release": "backend-v1.0-GCN"})).await;
    let parent = package.value["parent"]["id"].clone();
    let item = json!({"title": "t", "type": "task", "parent": parent, "owner": "ada"});
    let item = real("loopiq_create_work_item", item).await;
    let first = |inspected: &inspect::Inspected| inspected.record_ids[0].clone();
    [first(&package), agent, first(&run), first(&item)]
}

#[tokio::test]
async fn a_foreign_record_of_the_stand_in_is_withheld() {
    let catalog = Catalog::from_yaml(BUILT_IN).unwrap();
    let backend = stand_in().await;
    let of_records = |name: &str| name.starts_with("loopiq_search") || name.starts_with("loopiq_get_release");
    for (name, arguments) in plausible("", "", "", "").into_iter().filter(|(name, _)| of_records(name)) {
        let fault = json!({"path": "/api/v1/", "kind": "foreign_record", "times": 1});
        let body = Some(serde_json::to_vec(&fault).unwrap());
        let plant = RouteRequest {
            backend: String::new(),
            method: "POST".to_owned(),
            path_and_query: "/_sandbox/faults".to_owned(),
            body,
            timeout: std::time::Duration::from_secs(1),
        };
        assert!(send(&backend, &plant).await.0 < 300);
        let refusal =
            call(&backend, &catalog, name, arguments, false).await.map(|inspected| inspected.value).expect_err(name);
        assert_eq!(refusal.code, Code::ResponseWithheld, "{name}: {refusal}");
        assert!(!refusal.to_string().contains("nordbank"), "{name}: {refusal}");
    }
    backend.stop().await;
}

#[tokio::test]
async fn a_backends_no_about_the_request_reaches_the_caller_in_its_words_and_no_other_does() {
    let catalog = Catalog::from_yaml(BUILT_IN).unwrap();
    let backend = stand_in().await;
    let refusal =
        call(&backend, &catalog, "loopiq_get_release", json!({"release": "nothing"}), false).await.unwrap_err();
    assert_eq!((refusal.code, refusal.data.get("status")), (Code::BackendRejected, Some(&json!(404))));
    assert!(refusal.words().contains("LoopIQ has no such record in this tenant"), "{refusal}");
    let item = json!({"title": "t", "type": "task", "parent": "WI-nothing", "owner": "ben"});
    let refusal = call(&backend, &catalog, "loopiq_create_work_item", item, false).await.unwrap_err();
    assert!(refusal.words().contains("`parent` names `WI-nothing`"), "{refusal}");
    let none: Map<String, Value> = Map::new();
    assert!(catalog.tool("loopiq_get_release").unwrap().request(&none, false).is_err());
    backend.stop().await;
}

#[tokio::test]
async fn a_document_is_read_from_a_url_or_a_file_and_nothing_else_is_taken_for_one() {
    let backend = stand_in().await;
    let text = super::source::read(&format!("http://{}/openapi.json", backend.addr())).await.unwrap();
    assert_eq!(import::document(&text).unwrap(), sandbox::openapi());
    let missing = super::source::read(&format!("http://{}/nothing", backend.addr())).await.unwrap_err();
    assert!(matches!(missing, super::CommandFault::Fetch { .. }) && missing.to_string().contains("404"), "{missing}");
    let addr = backend.addr();
    backend.stop().await;
    let gone = super::source::read(&format!("http://{addr}/openapi.json")).await.unwrap_err();
    assert!(matches!(gone, super::CommandFault::Fetch { .. }), "{gone}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openapi.json");
    assert!(super::source::read(&path.display().to_string()).await.is_err());
    std::fs::write(&path, &text).unwrap();
    assert_eq!(super::source::read(&path.display().to_string()).await.unwrap(), text);
}
