//! The OpenAPI document and the routes are one.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use super::GCN;
use super::Lab;
use super::item;
use super::package;
use super::packages;
use crate::sandbox::openapi;
use crate::sandbox::operation::Operation;
use crate::sandbox::table;

/// Every tool that LoopIQ's users know by a route.
const TOOLS: &str = "loopiq_search_releases loopiq_get_release loopiq_search_work_items loopiq_get_work_item \
    loopiq_create_work_item loopiq_update_work_item loopiq_search_applications loopiq_get_application \
    loopiq_search_modules loopiq_get_module loopiq_search_certifications loopiq_get_certification \
    loopiq_search_controls loopiq_get_control loopiq_search_evidence loopiq_get_evidence \
    loopiq_get_release_certification loopiq_get_release_certification_evidence \
    loopiq_get_release_certification_blockers loopiq_get_release_certification_gaps loopiq_get_release_readiness \
    loopiq_get_release_certification_evidence_graph loopiq_refresh_release_certification_evidence_graph \
    loopiq_decide_release_certification loopiq_create_remediation_work_package \
    loopiq_get_remediation_work_package loopiq_search_provider_findings loopiq_list_ai_ml_agents \
    loopiq_get_ai_ml_agent loopiq_run_ai_ml_agent loopiq_get_ai_ml_agent_run loopiq_get_release_analytics \
    loopiq_get_certification_analytics loopiq_get_diagnostics loopiq_get_tenant_settings \
    loopiq_update_tenant_settings";

fn documented() -> Vec<(String, String, Value)> {
    let document = openapi::document();
    let paths = document["paths"].as_object().unwrap().clone();
    let operations = paths.into_iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap().clone();
        item.into_iter().map(move |(method, shown)| (method.to_uppercase(), path.clone(), shown))
    });
    operations.collect()
}

#[test]
fn every_tool_of_loopiq_is_documented() {
    let tools: BTreeSet<String> = documented()
        .iter()
        .filter_map(|(.., shown)| Some(shown.pointer("/x-loopiq/tool")?.as_str()?.to_owned()))
        .collect();
    let wanted: BTreeSet<String> = TOOLS.split_whitespace().map(str::to_owned).collect();
    assert_eq!(tools, wanted);
}

#[test]
fn every_operation_says_everything_about_itself() {
    let mut ids = BTreeSet::new();
    for (method, path, shown) in documented() {
        let at = format!("{method} {path}");
        for member in ["operationId", "summary", "description"] {
            assert!(shown[member].as_str().is_some_and(|text| !text.is_empty()), "{at}: {member}");
        }
        assert!(ids.insert(shown["operationId"].as_str().unwrap().to_owned()), "{at}: an operationId comes twice");
        assert_eq!(shown["tags"].as_array().unwrap().len(), 1, "{at}");
        let variables: BTreeSet<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
        let parameters = shown["parameters"].as_array().cloned().unwrap_or_default();
        let named: BTreeSet<&str> =
            parameters.iter().filter(|p| p["in"] == "path").filter_map(|p| p["name"].as_str()).collect();
        assert_eq!(named, variables, "{at}");
        assert!(parameters.iter().all(|p| p.get("$ref").is_some() || p["schema"].is_object()), "{at}");
        assert!(shown["responses"].as_object().is_some_and(|responses| !responses.is_empty()), "{at}");
        assert_eq!(shown.get("requestBody").is_some(), !["GET", "DELETE"].contains(&method.as_str()), "{at}");
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                    assert!(document.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target}");
                }
                members.values().for_each(|member| check(member, document));
            }
            Value::Array(items) => items.iter().for_each(|item| check(item, document)),
            _ => {}
        }
    }
    let document = openapi::document();
    check(&document, &document);
}

#[tokio::test]
async fn every_documented_operation_is_served_and_no_other_method_is() {
    let lab = Lab::open().await;
    let mut methods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (method, path, _) in documented() {
        methods.entry(path).or_default().insert(method);
    }
    for (path, served) in methods {
        let concrete = path.replace(['{', '}'], "");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let seen = lab.send(Method::from_bytes(method.as_bytes()).unwrap(), &concrete, &[], &json!({})).await;
            let code = seen.body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default().to_owned();
            assert_ne!(code, "unknown_route", "{method} {path}");
            assert_eq!(code != "method_not_allowed" && seen.status != 405, served.contains(method), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let lab = Lab::open().await;
    assert_eq!(lab.get(GCN, "/openapi.json").await.body, crate::sandbox::openapi());
}

/// A request that succeeds for every operation, in an order in which they all do.
async fn calls(lab: &Lab) -> Vec<(&'static str, String, Option<Value>)> {
    let prepared = lab.post(&packages(), &[("idempotency-key", "k")], &package()).await.text("/id");
    let release = "/api/v1/releases/backend-v1.0-GCN";
    let of_release = |rest: &str| format!("{release}{rest}");
    let settings = json!({"displayName": "GCN", "blockersMustBeClosed": true, "evidenceFreshHours": 24,
        "notificationEmail": "gov@gcn.example"});
    let api = |rest: &str| format!("/api/v1/{rest}");
    vec![
        ("loopiq_search_releases", api("releases"), None),
        ("loopiq_get_release", of_release(""), None),
        ("loopiq_search_work_items", api("work-items"), None),
        ("loopiq_get_work_item", api("work-items/WI-1001"), None),
        ("loopiq_create_work_item", api("work-items"), Some(item())),
        ("loopiq_update_work_item", api("work-items/WI-1003"), Some(json!({"status": "done"}))),
        ("loopiq_search_applications", api("applications"), None),
        ("loopiq_get_application", api("applications/card-authorization"), None),
        ("loopiq_search_modules", api("modules"), None),
        ("loopiq_get_module", api("modules/token-vault"), None),
        ("loopiq_search_certifications", api("certifications"), None),
        ("loopiq_get_certification", api("certifications/cert-backend-v1.0-GCN"), None),
        ("loopiq_search_controls", api("controls"), None),
        ("loopiq_get_control", api("controls/SOC2-CC6.1"), None),
        ("loopiq_search_evidence", api("evidence?limit=100"), None),
        ("loopiq_get_evidence", api("evidence/ev-1006"), None),
        ("loopiq_get_release_certification", of_release("/certification"), None),
        ("loopiq_get_release_certification_evidence", of_release("/certification/evidence"), None),
        ("loopiq_get_release_certification_blockers", of_release("/certification/blockers"), None),
        ("loopiq_get_release_certification_gaps", of_release("/certification/gaps"), None),
        ("loopiq_get_release_readiness", of_release("/readiness"), None),
        ("loopiq_get_release_certification_evidence_graph", of_release("/certification/evidence-graph"), None),
        (
            "loopiq_refresh_release_certification_evidence_graph",
            of_release("/certification/evidence-graph/refresh"),
            Some(json!({})),
        ),
        ("loopiq_create_remediation_work_package", of_release("/remediation-work-packages"), Some(package())),
        ("loopiq_get_remediation_work_package", api(&format!("remediation-work-packages/{prepared}")), None),
        ("loopiq_search_provider_findings", api("provider-findings"), None),
        ("loopiq_list_ai_ml_agents", api("ai-ml-agents"), None),
        ("loopiq_get_ai_ml_agent", api("ai-ml-agents/control-mapper"), None),
        (
            "loopiq_run_ai_ml_agent",
            api("ai-ml-agents/release-risk-scorer/runs"),
            Some(json!({"release": "backend-v1.0-GCN"})),
        ),
        ("loopiq_get_ai_ml_agent_run", api("ai-ml-agents/evidence-gap-analyst/runs/RUN-1001"), None),
        ("loopiq_get_release_analytics", api("analytics/releases"), None),
        ("loopiq_get_certification_analytics", api("analytics/certifications"), None),
        ("loopiq_get_diagnostics", api("admin/diagnostics"), None),
        ("loopiq_get_tenant_settings", api("admin/tenant-settings"), None),
        ("loopiq_update_tenant_settings", api("admin/tenant-settings"), Some(settings)),
        ("loopiq_get_execution", api("executions/k"), None),
        (
            "loopiq_decide_release_certification",
            of_release("/certification/decision"),
            Some(json!({"decision": "reject", "reason": "Three blockers are open."})),
        ),
    ]
}

#[tokio::test]
async fn every_answer_is_what_the_document_says() {
    let lab = Lab::open().await;
    let calls = calls(&lab).await;
    let called: BTreeSet<&str> = calls.iter().map(|(tool, ..)| *tool).collect();
    let all: BTreeSet<&str> = table::operations().map(|operation| operation.tool).collect();
    assert_eq!(called, all, "each operation is called");
    for (tool, path, body) in calls {
        let operation = table::operation(tool).unwrap();
        if operation.writes() {
            let dry = Some(format!("{path}?dryRun=true"));
            check(&lab, operation, dry.as_deref().unwrap(), body.as_ref(), 200).await;
        }
        check(&lab, operation, &path, body.as_ref(), operation.status).await;
    }
}

async fn check(lab: &Lab, operation: &Operation, path: &str, body: Option<&Value>, status: u16) {
    let method = Method::from_bytes(operation.method.name().as_bytes()).unwrap();
    let seen = match body {
        Some(body) => lab.send(method, path, &[], body).await,
        None => lab.get(GCN, path).await,
    };
    assert_eq!(seen.status, status, "{path}: {}", seen.body);
    let dry_run = seen.body.get("dryRun").is_some();
    assert_eq!(seen.etag.is_some(), operation.versioned && !dry_run, "{path}: ETag");
    let mut schema = openapi::answer(operation);
    schema["components"] = openapi::document()["components"].clone();
    let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap();
    let faults: Vec<String> = validator.iter_errors(&seen.body).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{path}: {faults:?}\n{}", seen.body);
    check_pointers(operation, path, &seen.body, dry_run);
}

/// The tenant pointers find every tenant in the answer, the id pointers find ids.
fn check_pointers(operation: &Operation, path: &str, body: &Value, dry_run: bool) {
    // What a lookup shows is another operation's answer, whose own pointers hold.
    if !operation.is_tool {
        return;
    }
    let mut places = BTreeSet::new();
    tenants(body, "", &mut places);
    let declared: BTreeSet<String> = operation.tenant_fields().into_iter().map(str::to_owned).collect();
    if dry_run {
        places.remove("/tenant");
    }
    assert!(places.is_subset(&declared), "{path}: {places:?} beyond {declared:?}");
    if dry_run {
        return;
    }
    assert!(!places.is_empty(), "{path}: no tenant is named");
    for pointer in operation.record_ids() {
        let found = pointer.split("/*").try_fold(vec![body], |values, part| {
            let inner: Vec<&Value> = values.iter().filter_map(|value| value.pointer(part)).collect();
            let spread: Vec<&Value> = inner
                .iter()
                .flat_map(|value| value.as_array().map_or(vec![*value], |items| items.iter().collect()))
                .collect();
            (!spread.is_empty()).then_some(spread)
        });
        assert!(found.is_some_and(|ids| ids.iter().all(|id| id.is_string())), "{path}: {pointer}");
    }
}

fn tenants(value: &Value, at: &str, places: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if name == "tenant" {
                    places.insert(format!("{at}/tenant"));
                }
                tenants(member, &format!("{at}/{name}"), places);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| tenants(item, &format!("{at}/*"), places)),
        _ => {}
    }
}
