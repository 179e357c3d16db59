//! A record as an OCSF 1.9 API Activity event, class 6003, profiles `trace`,
//! `ai_operation` and `record_integrity`.
//!
//! Promises: every name of that standard stands here and nowhere else; what the standard has no
//! place for is under `unmapped.loopgate`; the whole event is scrubbed of credentials as the last
//! thing before it becomes bytes. Never adds the chain: that is `chain`'s.
//! Called by the record only.

use serde_json::{Map, Value, json};

use crate::domain::audit::chain::Body;
use crate::domain::audit::parts::Known;
use crate::domain::audit::record::{Execution, Record, Stage};
use crate::domain::audit::{chain, redaction};
use crate::domain::catalog::Effect;
use crate::domain::identity::AuthMethod;
use crate::domain::mcp::Era;
use crate::domain::pdp::Outcome;

const CATEGORY_UID: u64 = 6;
const CLASS_UID: u64 = 6003;

/// SHA-256 (hex) of a value's RFC 8785 form; of its plain form if it has none.
pub(super) fn digest(value: &Value) -> String {
    let bytes = json_canon::to_vec(value).or_else(|_| serde_json::to_vec(value)).unwrap_or_default();
    chain::Hash::of(&bytes).to_string()
}

/// The event in three parts, each an object that lacks its closing brace.
pub(super) fn body(record: &Record) -> Body {
    let mut own = own(record);
    let mut event = event(record);
    let mut metadata = metadata(record);
    let secrets = &record.opened.secrets;
    let mut dropped = record.dropped.clone();
    if let Some(what) = &record.what {
        dropped.extend(what.dropped.iter().cloned());
    }
    dropped.extend(redaction::scrub(&mut own, "", secrets));
    dropped.extend(redaction::scrub(&mut metadata, "/metadata", secrets));
    dropped.extend(redaction::scrub(&mut event, "", secrets));
    if !dropped.is_empty() {
        dropped.sort();
        dropped.dedup();
        // A pointer may itself run through a name that a client chose.
        let mut dropped = json!(dropped);
        redaction::scrub(&mut dropped, "", secrets);
        put(&mut own, "dropped", dropped);
    }
    Body::new(&event, &metadata, &own)
}

fn event(record: &Record) -> Value {
    let (activity_id, activity) = activity(record);
    let (status_id, status) = status(record);
    let mut event = json!({
        "category_uid": CATEGORY_UID,
        "class_uid": CLASS_UID,
        "activity_id": activity_id,
        "activity_name": activity,
        "type_uid": CLASS_UID * 100 + activity_id,
        "severity_id": severity(record),
        "time": record.at_ms,
        "start_time": record.opened.received_ms,
        "duration": record.at_ms.saturating_sub(record.opened.received_ms).max(0),
        "status_id": status_id,
        "status": status,
        "message": message(record),
        "actor": actor(record),
        "src_endpoint": source(&record.opened.source),
        "api": api(record),
    });
    if let Some(refusal) = &record.refusal {
        put(&mut event, "status_code", refusal.code.clone());
        let why: Vec<&str> =
            refusal.reasons.iter().map(|reason| reason.message.as_str()).filter(|why| !why.is_empty()).collect();
        put_text(&mut event, "status_detail", &if why.is_empty() { refusal.detail.clone() } else { why.join("; ") });
    }
    if !record.opened.trace_id.is_empty() {
        put(&mut event, "trace", trace(record));
    }
    if let Some(client) = record.who.as_ref().and_then(|who| who.client.as_ref()) {
        let mut agent = json!({"uid": client, "name": client, "type_id": 0});
        put_text(&mut agent, "instance_uid", &record.workflow);
        put(&mut event, "ai_agent", agent);
    }
    if let Some(answered) = record.answered.as_ref().filter(|answered| !answered.record_ids.is_empty()) {
        let resources: Vec<Value> = answered.record_ids.iter().map(|id| json!({ "uid": id })).collect();
        put(&mut event, "resources", resources);
    }
    event
}

fn metadata(record: &Record) -> Value {
    let mut metadata = json!({
        "version": "1.9.0",
        "product": {"name": "loopgate", "vendor_name": "LoopIQ", "version": env!("CARGO_PKG_VERSION")},
        "profiles": ["trace", "ai_operation", "record_integrity"],
        "log_name": "audit",
        "event_code": record.stage.to_string(),
    });
    if let Some(tenant) = record.who.as_ref().and_then(|who| who.tenant.as_ref()) {
        put(&mut metadata, "tenant_uid", tenant.clone());
    }
    put_text(&mut metadata, "correlation_uid", &record.opened.request_id);
    metadata
}

fn own(record: &Record) -> Value {
    let mut own = json!({ "stage": record.stage.to_string() });
    if let Some(what) = &record.what {
        put(&mut own, "tool", what.tool.clone());
        put_option(&mut own, "via", what.via.as_ref());
        if let Some(known) = &what.known {
            put(&mut own, "tool_digest", known.digest.clone());
            put(&mut own, "family", known.family.clone());
            put(&mut own, "effect", json!(known.effect));
            put(&mut own, "impact", json!(known.impact));
            put(&mut own, "route", known.route.clone());
        }
    }
    if let Some(who) = &record.who {
        put(&mut own, "auth_method", json!(who.method));
    }
    put_text(&mut own, "workflow", &record.workflow);
    if !record.tool_chain.is_empty() {
        put(&mut own, "tool_chain", json!(record.tool_chain));
    }
    if record.dry_run {
        put(&mut own, "dry_run", true);
    }
    put_option(&mut own, "approval_id", record.approval_id.as_ref());
    put_option(&mut own, "idempotency_key", record.idempotency_key.as_ref());
    put_option(&mut own, "execution_id", record.execution_id.as_ref());
    if !record.decisions.is_empty() {
        put(&mut own, "decisions", json!(record.decisions));
    }
    if let Some(refusal) = &record.refusal {
        put(&mut own, "refusal", json!(refusal));
    }
    if let Some(answered) = &record.answered {
        let mut execution =
            json!({"outcome": answered.execution, "bytes": answered.bytes, "replayed": answered.replayed});
        if let Some(status) = answered.backend_status {
            put(&mut execution, "backend_status", status);
        }
        put(&mut own, "execution", execution);
    }
    if !record.steps_us.is_empty() {
        put(&mut own, "steps_us", json!(record.steps_us));
    }
    if !record.data.is_empty() {
        put(&mut own, "data", Value::Object(record.data.clone()));
    }
    own
}

fn actor(record: &Record) -> Value {
    let mut actor = Map::new();
    match &record.who {
        Some(who) => {
            // OCSF user types: 1 a person, 4 a service.
            let mut user =
                json!({"uid": who.user, "type_id": if who.method == AuthMethod::ServiceAccount { 4 } else { 1 }});
            if let Some(tenant) = &who.tenant {
                put(&mut user, "org", json!({ "uid": tenant }));
            }
            actor.insert("user".to_owned(), user);
            actor.insert("idp".to_owned(), json!({ "uid": who.issuer }));
            if let Some(client) = &who.client {
                actor.insert("app_uid".to_owned(), json!(client));
            }
        }
        None if record.opened.request_id.is_empty() => {
            actor.insert("app_name".to_owned(), json!("loopgate"));
        }
        None => {
            actor.insert("app_name".to_owned(), json!("unauthenticated"));
        }
    }
    let authorizations: Vec<Value> = record
        .decisions
        .iter()
        .map(|decision| {
            json!({"decision": outcome(decision.outcome), "policy": {"uid": decision.bundle_digest, "is_applied": true}})
        })
        .collect();
    if !authorizations.is_empty() {
        actor.insert("authorizations".to_owned(), json!(authorizations));
    }
    Value::Object(actor)
}

fn api(record: &Record) -> Value {
    let operation =
        if record.opened.method.is_empty() { record.stage.to_string() } else { record.opened.method.clone() };
    let mut api = json!({ "operation": operation });
    if !record.opened.request_id.is_empty() {
        let mut request = json!({ "uid": record.opened.request_id });
        if let Some(what) = record.what.as_ref().filter(|what| !what.arguments.is_null()) {
            put(&mut request, "data", json!({ "arguments": what.arguments }));
        }
        put(&mut api, "request", request);
    }
    if let Some(backend) =
        record.what.as_ref().and_then(|what| what.known.as_ref()).and_then(|known| known.backend.as_ref())
    {
        put(&mut api, "service", json!({ "name": backend }));
    }
    if let Some(era) = record.opened.era {
        put(&mut api, "version", era_name(era));
    }
    let code = record.answered.as_ref().and_then(|answered| answered.backend_status);
    let error = record.refusal.as_ref().map(|refusal| refusal.code.clone());
    if code.is_some() || error.is_some() {
        let mut response = Value::Object(Map::new());
        if let Some(code) = code {
            put(&mut response, "code", code);
        }
        put_option(&mut response, "error", error.as_ref());
        put(&mut api, "response", response);
    }
    api
}

fn trace(record: &Record) -> Value {
    let opened = &record.opened;
    let mut span = json!({"uid": opened.span_id, "start_time": opened.received_ms, "end_time": record.at_ms});
    put_text(&mut span, "parent_uid", &opened.parent_span_id);
    json!({"uid": opened.trace_id, "span": span})
}

fn source(address: &str) -> Value {
    match address.parse::<core::net::SocketAddr>() {
        Ok(address) => json!({"ip": address.ip().to_string(), "port": address.port()}),
        Err(_) if address.is_empty() => json!({ "svc_name": "loopgate" }),
        Err(_) => json!({ "name": address }),
    }
}

fn activity(record: &Record) -> (u64, String) {
    let known: Option<&Known> = record.what.as_ref().and_then(|what| what.known.as_ref());
    let method = known.map_or("", |known| known.route.split(' ').next().unwrap_or_default());
    match (known.map(|known| known.effect), method) {
        (Some(Effect::Read), _) | (_, "GET") => (2, "Read".to_owned()),
        (_, "POST") => (1, "Create".to_owned()),
        (_, "PUT" | "PATCH") => (3, "Update".to_owned()),
        (_, "DELETE") => (4, "Delete".to_owned()),
        (None, _) if record.opened.method == "tools/list" => (2, "Read".to_owned()),
        _ if record.opened.method.is_empty() => (99, record.stage.to_string()),
        _ => (99, record.opened.method.clone()),
    }
}

fn status(record: &Record) -> (u64, &'static str) {
    let execution = record.answered.as_ref().map(|answered| answered.execution);
    match (record.stage, execution) {
        _ if record.refusal.is_some() && execution != Some(Execution::Unknown) => (2, "Failure"),
        (Stage::Received | Stage::Intent, _) | (_, Some(Execution::Unknown)) => (0, "Unknown"),
        (Stage::Denied, _) | (_, Some(Execution::Failed | Execution::NotSent)) => (2, "Failure"),
        (
            Stage::Outcome
            | Stage::Recovered
            | Stage::Heartbeat
            | Stage::Approval(_)
            | Stage::Write(_)
            | Stage::Policy(_)
            | Stage::Config(_),
            Some(Execution::Executed | Execution::Previewed) | None,
        ) => (1, "Success"),
    }
}

/// 1 informational, 2 low, 3 medium: what a person on call would want to see first.
fn severity(record: &Record) -> u64 {
    let code = record.refusal.as_ref().map(|refusal| refusal.code.as_str());
    match (record.stage, code) {
        (_, Some("response_withheld" | "execution_unknown" | "unauthenticated" | "tenant_forbidden")) => 3,
        (_, Some(_)) | (Stage::Recovered, None) => 2,
        _ => 1,
    }
}

fn message(record: &Record) -> String {
    if !record.message.is_empty() {
        return record.message.clone();
    }
    let who = record.who.as_ref().map_or("an unauthenticated caller".to_owned(), |who| match &who.tenant {
        Some(tenant) => format!("{} ({tenant})", who.user),
        None => who.user.clone(),
    });
    let what = record.what.as_ref().map_or(record.opened.method.as_str(), |what| what.tool.as_str());
    let what = if what.is_empty() { "something unreadable" } else { what };
    match (record.stage, &record.refusal, &record.answered) {
        (Stage::Received, ..) => format!("{who} asks for {what}"),
        (_, Some(refusal), _) => format!("{who} asked for {what}: {}", refusal.code),
        (Stage::Intent, ..) => format!("{who} may call {what}; it will be sent"),
        (_, None, Some(answered)) => match answered.backend_status {
            Some(status) => format!("{who} called {what}: {status}"),
            None => format!("{who} called {what}"),
        },
        _ => format!("{who}: {what}"),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allow => "allow",
        Outcome::Pending => "pending",
        Outcome::Deny => "deny",
    }
}

fn era_name(era: Era) -> &'static str {
    match era {
        Era::V2025_03_26 => "2025-03-26",
        Era::V2025_06_18 => "2025-06-18",
        Era::V2025_11_25 => "2025-11-25",
        Era::Modern => "2026-07-28",
    }
}

fn put(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), value.into());
    }
}

fn put_option(object: &mut Value, name: &str, value: Option<&String>) {
    if let Some(value) = value {
        put(object, name, value.clone());
    }
}

fn put_text(object: &mut Value, name: &str, value: &str) {
    if !value.is_empty() {
        put(object, name, value);
    }
}
