//! `/_sandbox/…`: the knobs that tests and demos turn.
//!
//! Promises: nothing here is part of LoopIQ, needs a tenant, is struck by a fault or counts as a
//! request seen. Served by `sandbox::door`.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::books::Books;
use super::books::Caller;
use super::books::text;
use super::door::Sandbox;
use super::door::now;
use super::door::refused;
use super::faults::Fault;
use super::kind::Kind;
use super::ledger;
use super::problem::Problem;

/// Every control: method, path, what it does; this is what the OpenAPI document shows.
pub(super) const CONTROLS: &[(&str, &str, &str)] = &[
    ("GET", "/_sandbox/faults", "List the faults that wait"),
    ("POST", "/_sandbox/faults", "Ask for a fault"),
    ("DELETE", "/_sandbox/faults", "Forget every fault"),
    ("GET", "/_sandbox/requests", "List the requests seen"),
    ("DELETE", "/_sandbox/requests", "Forget the requests seen"),
    ("GET", "/_sandbox/effects", "Count the effects"),
    ("POST", "/_sandbox/records", "Change a record behind everyone's back"),
];

/// The controls' routes.
pub(super) fn router() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/_sandbox/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_sandbox/requests", get(requests).delete(clear_requests))
        .route("/_sandbox/effects", get(effects))
        .route("/_sandbox/records", post(change_record))
}

async fn faults(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    Json(json!({"items": sandbox.panel().waiting()}))
}

async fn add_fault(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Response {
    let fault: Fault = match serde_json::from_slice(&body) {
        Ok(fault) => fault,
        Err(error) => return refused(&Problem::invalid("invalid_fault", format!("not a fault: {error}"))),
    };
    if let Err(words) = fault.check() {
        return refused(&Problem::invalid("invalid_fault", words));
    }
    sandbox.panel().add(fault.clone());
    (StatusCode::CREATED, Json(fault)).into_response()
}

async fn clear_faults(State(sandbox): State<Arc<Sandbox>>) -> StatusCode {
    sandbox.panel().clear_faults();
    StatusCode::NO_CONTENT
}

async fn requests(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    Json(sandbox.panel().seen())
}

async fn clear_requests(State(sandbox): State<Arc<Sandbox>>) -> StatusCode {
    sandbox.panel().clear_seen();
    StatusCode::NO_CONTENT
}

async fn effects(State(sandbox): State<Arc<Sandbox>>) -> Response {
    match sandbox.vault().within(false, false, ledger::effects).await {
        Ok(counts) => Json(counts).into_response(),
        Err(problem) => refused(&problem),
    }
}

/// A change that no caller of the API made, such as evidence that was withdrawn.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meddling {
    tenant: String,
    kind: String,
    id: String,
    set: Map<String, Value>,
}

async fn change_record(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Response {
    let meddling: Meddling = match serde_json::from_slice(&body) {
        Ok(meddling) => meddling,
        Err(error) => return refused(&Problem::invalid("invalid_change", format!("not a change: {error}"))),
    };
    match sandbox.vault().within(true, true, move |transaction| meddle(transaction, &meddling)).await {
        Ok(record) => Json(record).into_response(),
        Err(problem) => refused(&problem),
    }
}

fn meddle(transaction: &rusqlite::Transaction<'_>, meddling: &Meddling) -> Result<Value, Problem> {
    let kind = Kind::named(&meddling.kind)
        .ok_or_else(|| Problem::invalid("invalid_change", format!("`{}` is no kind of record", meddling.kind)))?;
    let caller = Caller { tenant: meddling.tenant.clone(), user: "sandbox".to_owned(), now: now() };
    let mut books = Books::open(transaction, &caller, false);
    let record = books.get(kind, &meddling.id)?;
    let id = text(&record, "id").to_owned();
    let fixed = |name: &str| matches!(name, "id" | "tenant");
    let changes = meddling.set.iter().filter(|(name, _)| !fixed(name)).map(|(name, to)| (name.as_str(), to.clone()));
    books.update(kind, &id, changes.collect())
}
