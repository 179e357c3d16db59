//! JSON Schemas (2020-12) of every record and body.
//!
//! Promises: a body schema is what `sandbox::door` validates with and what the OpenAPI document
//! shows, so the two cannot differ; a record schema is what the tests hold every answer against.
//! Never refers to anything outside this document.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

pub(super) mod body;
mod estate;
mod assurance;
mod insight;

/// Longest id, key or name that a caller may send.
const NAME_CHARS_MAX: usize = 128;
/// Longest title.
const TITLE_CHARS_MAX: usize = 200;
/// Longest free text.
const PROSE_CHARS_MAX: usize = 4000;

/// Kinds of work items.
pub(super) const WORK_ITEM_TYPES: &[&str] = &["story", "task", "bug"];
/// States of work items.
pub(super) const WORK_ITEM_STATES: &[&str] = &["open", "in_progress", "blocked", "done", "cancelled"];
/// States of releases.
pub(super) const RELEASE_STATES: &[&str] =
    &["planned", "development", "certification", "certified", "rejected", "released"];
/// States of certifications.
pub(super) const CERTIFICATION_STATES: &[&str] = &["not_started", "in_review", "certified", "rejected"];
/// States of evidence.
pub(super) const EVIDENCE_STATES: &[&str] = &["fresh", "stale", "missing"];
/// Severities of findings and blockers.
pub(super) const SEVERITIES: &[&str] = &["critical", "high", "medium", "low"];
/// Scanners whose findings are collected.
pub(super) const PROVIDERS: &[&str] = &["snyk", "sonarqube", "github"];
/// Results of a control within a certification.
const RESULTS: &[&str] = &["passed", "failed", "pending", "not_applicable"];

fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

fn maybe_text(about: &str) -> Value {
    json!({"type": ["string", "null"], "description": about})
}

fn of(about: &str, values: &[&str]) -> Value {
    json!({"type": "string", "description": about, "enum": values})
}

fn when(about: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": about})
}

fn maybe_when(about: &str) -> Value {
    json!({"type": ["string", "null"], "format": "date-time", "description": about})
}

fn count(about: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": about})
}

fn number(about: &str) -> Value {
    json!({"type": ["number", "null"], "description": about})
}

fn flag(about: &str) -> Value {
    json!({"type": "boolean", "description": about})
}

fn many(about: &str, items: &Value) -> Value {
    json!({"type": "array", "description": about, "items": items})
}

fn ids(about: &str) -> Value {
    many(about, &json!({"type": "string"}))
}

fn counts(about: &str) -> Value {
    json!({"type": "object", "description": about, "additionalProperties": {"type": "integer", "minimum": 0}})
}

/// An object of which every listed member is present.
fn whole<const N: usize>(about: &str, members: [(&str, Value); N]) -> Value {
    let required = members.each_ref().map(|(name, _)| *name);
    let properties: Map<String, Value> = members.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect();
    json!({"type": "object", "description": about, "properties": properties, "required": required.as_slice()})
}

/// A record: an object with `id` and `tenant`.
fn record<const N: usize>(about: &str, members: [(&str, Value); N]) -> Value {
    let mut shape = whole(about, members);
    let own = [("id", text("Id, unique in the organisation.")), ("tenant", text("Organisation it belongs to."))];
    for (name, member) in own {
        if let Some(properties) = shape.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(name.to_owned(), member);
        }
        if let Some(required) = shape.get_mut("required").and_then(Value::as_array_mut) {
            required.push(Value::from(name));
        }
    }
    shape
}

/// A request body that takes only what it names.
fn body<const N: usize>(required: &[&str], members: [(&str, Value); N]) -> Value {
    let properties: Map<String, Value> = members.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// Every named schema, for `#/components/schemas`.
pub(super) fn components() -> Map<String, Value> {
    let mut all = Map::new();
    let families = [
        estate::estate(),
        estate::work(),
        assurance::certification(),
        assurance::obstacles(),
        assurance::evidence(),
        insight::analytics(),
        insight::administration(),
        insight::protocol(),
    ];
    for family in families {
        all.extend(family.into_iter().map(|(name, shape)| (name.to_owned(), shape)));
    }
    all
}
