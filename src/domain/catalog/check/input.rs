//! The input schema: closed, compiled, and every argument in one place.
//!
//! Promises: an object that does not say otherwise takes no unknown members; a path variable is a
//! required string; an argument goes into the path, the query or the body, never into two of them
//! and never nowhere. Never widens a schema. Called by `check`.

use serde_json::{Map, Value, json};

use super::Faults;
use super::properties;
use super::schema_of;
use crate::domain::catalog::Answerer;
use crate::domain::catalog::Effect;
use crate::domain::catalog::Impact;
use crate::domain::catalog::OwnTool;
use crate::domain::catalog::Tool;
use crate::domain::catalog::raw::RawTool;
use crate::domain::catalog::template::Template;

/// Arguments that the gateway takes out of a call before anything else.
pub(in crate::domain::catalog) const CONTROLS: &[&str] = &["dryRun", "approvalId", "idempotencyKey"];

/// The schema with `additionalProperties: false` in every plain object that does not say otherwise.
pub(super) fn closed(schema: Option<Value>) -> Value {
    let mut schema = schema.unwrap_or_else(|| json!({ "type": "object" }));
    close(&mut schema);
    schema
}

fn close(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    let composed =
        ["allOf", "anyOf", "oneOf", "$ref", "if", "patternProperties", "additionalProperties", "unevaluatedProperties"];
    let is_object = members.get("type").and_then(Value::as_str) == Some("object") || members.contains_key("properties");
    if is_object && !composed.iter().any(|keyword| members.contains_key(*keyword)) {
        members.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        properties.values_mut().for_each(close);
    }
    if let Some(items) = members.get_mut("items") {
        close(items);
    }
}

/// Compiles the schema and checks its root.
pub(super) fn check(schema: &Value, faults: &mut Faults<'_>) -> Option<jsonschema::Validator> {
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        faults.at("input.type", "arguments are an object", "write `type: object`");
    }
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        faults.at(
            "input.additionalProperties",
            "an unknown argument would have no place",
            "remove it, or write `false`",
        );
    }
    for name in CONTROLS.iter().filter(|name| properties(schema).is_some_and(|members| members.contains_key(**name))) {
        faults.at(
            &format!("input.properties.{name}"),
            "the gateway takes this argument out of the call",
            "remove it; declare `dry_run` where the backend has one",
        );
    }
    schema_of("input", schema, faults)
}

/// Where each argument goes: names for the query and names for the body.
pub(super) fn places(
    raw: &RawTool,
    method: &str,
    template: &Template,
    input: &Value,
    faults: &mut Faults<'_>,
) -> (Vec<String>, Vec<String>) {
    let none = Map::new();
    let members = properties(input).unwrap_or(&none);
    let required: Vec<&str> =
        input.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for name in template.variables() {
        let is_text = members.get(name).and_then(|schema| schema.get("type")).and_then(Value::as_str) == Some("string");
        if !is_text || !required.contains(&name) {
            faults.at(
                &format!("input.properties.{name}"),
                "a path variable must be a required string",
                format!("declare `{name}` with `type: string` and name it in `required`"),
            );
        }
    }
    let free: Vec<String> =
        members.keys().filter(|name| !template.variables().any(|variable| variable == *name)).cloned().collect();
    let (query, body) = match (&raw.query, &raw.body) {
        (None, None) if matches!(method, "GET" | "HEAD" | "DELETE") => (free.clone(), Vec::new()),
        (None, None) => (Vec::new(), free.clone()),
        (query, body) => (query.clone().unwrap_or_default(), body.clone().unwrap_or_default()),
    };
    if matches!(method, "GET" | "HEAD") && !body.is_empty() {
        faults.at("body", format!("{method} has no body"), "put these arguments into `query`");
    }
    for name in &free {
        let places = query.iter().chain(&body).filter(|place| *place == name).count();
        if places != 1 {
            faults.at(
                &format!("input.properties.{name}"),
                format!("the argument has {places} places"),
                "name it once, in `query` or in `body`",
            );
        }
    }
    for name in query.iter().chain(&body).filter(|name| !free.contains(name)) {
        faults.at(
            "input.properties",
            format!("`{name}` has a place but is no free argument"),
            "declare it, or take it out of `query` and `body`",
        );
    }
    (query, body)
}

/// The schema as clients see it: with the control arguments that mean something for this tool.
pub(in crate::domain::catalog) fn offered(tool: &Tool) -> Value {
    let mut schema = tool.input.clone();
    let own = match &tool.answerer {
        Answerer::Gateway(own) => Some(*own),
        Answerer::Route(_) | Answerer::Upstream(_) => None,
    };
    let generic = own == Some(OwnTool::InvokeRoute);
    let mut controls = Vec::new();
    if generic || tool.dry_run.is_some() {
        let text = "Only try it out: answers what would happen and changes nothing.";
        controls.push(("dryRun", json!({ "type": "boolean", "description": text })));
    }
    let key = match own {
        Some(OwnTool::InvokeRoute) => Some(KEY_WORDS),
        Some(OwnTool::GetAction) => Some("The key of a write of yours, to ask what became of it."),
        Some(OwnTool::ExecuteApproved) => {
            Some("The key that was named when the approval was asked for, if there was one.")
        }
        _ => tool.writes().then_some(KEY_WORDS),
    };
    if let Some(text) = key {
        let schema =
            json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$", "description": text });
        controls.push(("idempotencyKey", schema));
    }
    let approval = match own {
        Some(OwnTool::InvokeRoute) => Some(APPROVAL_WORDS),
        Some(OwnTool::GetAction) => Some("An approval that you asked for, to ask where it stands."),
        Some(OwnTool::ExecuteApproved) => Some("The approval that people gave; what they approved is what runs."),
        _ => (tool.writes() && tool.impact == Impact::High).then_some(APPROVAL_WORDS),
    };
    if let Some(text) = approval {
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 128, "description": text });
        controls.push(("approvalId", schema));
    }
    let Some(members) = schema.as_object_mut() else { return schema };
    let properties = members.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        properties.extend(controls.into_iter().map(|(name, control)| (name.to_owned(), control)));
    }
    if own == Some(OwnTool::ExecuteApproved) {
        members.insert("required".to_owned(), json!(["approvalId"]));
    }
    schema
}

const KEY_WORDS: &str =
    "Makes the write happen once: send the same key again with the same arguments to get the first answer back.";
const APPROVAL_WORDS: &str =
    "The approval that people gave for exactly this call, from an earlier `approval_required` answer.";

impl Tool {
    /// Whether the call leaves something changed, so that it must happen once.
    #[must_use]
    pub fn writes(&self) -> bool {
        let safe = match &self.answerer {
            Answerer::Route(route) => matches!(route.method.as_str(), "GET" | "HEAD"),
            Answerer::Gateway(_) => true,
            Answerer::Upstream(_) => false,
        };
        self.effect != Effect::Read && !safe
    }
}
