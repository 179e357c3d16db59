//! The successful answer of an operation: its schema, and where it names tenants and records.
//!
//! Promises: pointers come from `x-loopiq` or from members called `tenant` and `id` in the
//! response schema; without either nothing is claimed, and lint will ask. Called by `operation`.

use serde_json::Value;
use serde_json::json;

use super::Document;
use super::Kind;
use super::Notes;
use super::arguments::is_json;
use super::operation::Extension;
use super::operation::Operation;
use super::schema;
use super::schema::Side;
use super::schema::deref;
use crate::domain::catalog::pointer::escape;

/// How deep tenants are looked for; records nest at most twice in any API seen.
const DEPTH_MAX: usize = 6;
const TENANT_NAMES: &[&str] = &["tenant", "tenantId", "tenant_id"];

/// What is known about an answer.
#[derive(Default)]
pub(super) struct Answer {
    /// JSON Schema 2020-12 of it.
    pub(super) schema: Option<Value>,
    /// Where it names its tenant; none if unknown.
    pub(super) tenant_fields: Option<Vec<String>>,
    /// Where it names its records.
    pub(super) record_ids: Vec<String>,
}

/// What an operation answers when it succeeds.
pub(super) fn of(
    document: &Document<'_>,
    operation: Operation<'_>,
    extension: &Extension<'_>,
    notes: &mut Notes<'_>,
) -> Answer {
    let mut forms: Vec<Value> = Vec::new();
    for schema in successes(document, operation) {
        let schema = schema::alone(document, schema, Side::Response, notes);
        if !forms.contains(&schema) {
            forms.push(schema);
        }
    }
    let schema = one_of(forms);
    let mut answer = Answer { tenant_fields: extension.list("tenantFields"), ..Answer::default() };
    if answer.tenant_fields.is_none() {
        let mut found = Vec::new();
        if let Some(schema) = &schema {
            find(schema, TENANT_NAMES, "", 0, &mut found);
        }
        if found.is_empty() {
            notes.add(Kind::LeftOut, "tenant fields: nothing in the document shows whose records the answer holds");
        } else {
            notes.add(Kind::Derived, format!("tenant fields `{}` from the response schema", found.join("`, `")));
            answer.tenant_fields = Some(found);
        }
    }
    answer.record_ids = extension.list("recordIds").unwrap_or_else(|| {
        let mut found = Vec::new();
        if let Some(schema) = &schema {
            find(schema, &["id"], "", 0, &mut found);
        }
        if !found.is_empty() {
            notes.add(Kind::Derived, format!("record ids `{}` from the response schema", found.join("`, `")));
        }
        found
    });
    answer.schema = schema;
    answer
}

/// The JSON schema of each 2xx answer, such as the record created and the preview of a dry run.
fn successes<'d>(document: &Document<'d>, operation: Operation<'d>) -> Vec<&'d Value> {
    let responses = operation.operation.get("responses").and_then(Value::as_object);
    let good = responses.into_iter().flatten().filter(|(status, _)| status.starts_with('2'));
    let contents = good.filter_map(|(_, response)| deref(document, response)?.get("content")?.as_object());
    contents.filter_map(|content| content.iter().find(|(media, _)| is_json(media))?.1.get("schema")).collect()
}

/// One schema for all forms; an object where they all are, as older MCP clients want it.
fn one_of(mut forms: Vec<Value>) -> Option<Value> {
    if forms.len() < 2 {
        return forms.pop();
    }
    let objects = forms.iter().all(|form| form.get("type").is_some_and(|kind| kind == "object"));
    Some(if objects { json!({ "type": "object", "anyOf": forms }) } else { json!({ "anyOf": forms }) })
}

/// Pointers to plain members of these names, lists as `*`.
fn find(schema: &Value, names: &[&str], at: &str, depth: usize, found: &mut Vec<String>) {
    if depth > DEPTH_MAX {
        return;
    }
    for part in ["allOf", "anyOf", "oneOf"].iter().filter_map(|keyword| schema.get(*keyword)?.as_array()).flatten() {
        find(part, names, at, depth + 1, found);
    }
    if let Some(items) = schema.get("items") {
        find(items, names, &format!("{at}/*"), depth + 1, found);
    }
    for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let pointer = format!("{at}/{}", escape(name));
        let nested =
            ["properties", "items", "allOf", "anyOf", "oneOf"].iter().any(|keyword| member.get(*keyword).is_some());
        if nested {
            find(member, names, &pointer, depth + 1, found);
        } else if names.contains(&name.as_str()) && !found.contains(&pointer) {
            found.push(pointer);
        }
    }
}
