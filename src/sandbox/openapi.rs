//! The OpenAPI 3.1 document, from the same table that builds the router.
//!
//! Promises: every served route is in it, with parameters, bodies, answers and the `x-loopiq`
//! extension that a gateway's catalog is made from. Never describes what is not served. Called by
//! `sandbox::openapi` and `sandbox::door`.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::books::put;
use super::controls::CONTROLS;
use super::operation::Operation;
use super::operation::Shape;
use super::operation::Values;
use super::schema;
use super::table;

/// Where an execution is looked up.
const LOOKUP: &str = "GET /api/v1/executions/{key}";

/// The whole document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for operation in table::operations() {
        add(&mut paths, operation.path, operation.method.name(), described(operation));
    }
    for (method, path, summary) in plumbing() {
        let body =
            (method == "POST").then(|| json!({"required": true, "content": content(&json!({"type": "object"}))}));
        let mut shown = json!({
            "operationId": plumbing_id(method, path),
            "summary": summary,
            "description": format!("{summary}. No tool: it is not part of LoopIQ's route API."),
            "tags": ["sandbox"],
            "security": [],
            "x-loopiq": {"tool": null},
            "responses": {"2XX": {"description": "Done.", "content": content(&json!({"type": "object"}))}},
        });
        if let (Some(members), Some(body)) = (shown.as_object_mut(), body) {
            members.insert("requestBody".to_owned(), body);
        }
        add(&mut paths, path, method, shown);
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "LoopIQ release governance (sandbox)",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A stand-in for LoopIQ's route API. Every record belongs to one organisation and is \
                            invisible to others. Writes take `dryRun=true` and honour `Idempotency-Key`.",
        },
        "servers": [{"url": "/"}],
        "tags": tags(),
        "security": [{}, {"assertion": []}],
        "paths": paths,
        "components": {
            "schemas": schema::components(),
            "parameters": headers(),
            "securitySchemes": {"assertion": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                "description": "EdDSA, audience `loopiq`; `sub` and `tenant` equal the headers. Needed when the sandbox was given keys."}},
        },
    })
}

/// Routes that are not LoopIQ's: method, path, summary.
pub(super) fn plumbing() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    [("GET", "/healthz", "Say whether the sandbox is up"), ("GET", "/openapi.json", "Show this document")]
        .into_iter()
        .chain(CONTROLS.iter().copied())
}

fn add(paths: &mut Map<String, Value>, path: &str, method: &str, shown: Value) {
    let item = paths.entry(path.to_owned()).or_insert_with(|| json!({}));
    put(item, &method.to_lowercase(), shown);
}

fn plumbing_id(method: &str, path: &str) -> String {
    let verb = match method {
        "POST" => "set",
        "DELETE" => "clear",
        _ => "get",
    };
    let words = path.split(['/', '_', '.']).filter(|word| !word.is_empty());
    words.fold(verb.to_owned(), |id, word| {
        let mut letters = word.chars();
        id + &letters.next().map(|first| first.to_ascii_uppercase().to_string()).unwrap_or_default() + letters.as_str()
    })
}

fn tags() -> Vec<Value> {
    let mut names: Vec<&str> = table::operations().map(|operation| operation.family).collect();
    names.push("sandbox");
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| json!({"name": name})).collect()
}

fn content(schema: &Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn described(operation: &Operation) -> Value {
    let mut shown = json!({
        "operationId": operation.operation_id(),
        "summary": operation.title,
        "description": operation.about,
        "tags": [operation.family],
        "parameters": parameters(operation),
        "responses": responses(operation),
        "x-loopiq": extension(operation),
    });
    if let (Some(members), Some(body)) = (shown.as_object_mut(), operation.body) {
        members.insert("requestBody".to_owned(), json!({"required": true, "content": content(&body())}));
    }
    shown
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let header = |name: &str| json!({"$ref": format!("#/components/parameters/{name}")});
    let path = operation.variables().map(|name| {
        json!({"name": name, "in": "path", "required": true, "description": format!("Id of the {}.", words(name)),
            "schema": {"type": "string", "minLength": 1, "maxLength": 128}})
    });
    let query = operation.query.iter().map(|parameter| {
        let schema = match parameter.values {
            Values::Text => json!({"type": "string", "maxLength": 256}),
            Values::Of(values) => json!({"type": "string", "enum": values}),
            Values::Time => json!({"type": "string", "format": "date-time"}),
        };
        json!({"name": parameter.name, "in": "query", "description": parameter.about, "schema": schema})
    });
    let mut all: Vec<Value> = path.chain(query).collect();
    if matches!(operation.answer, Shape::Page(_)) {
        all.push(json!({"name": "limit", "in": "query", "description": "Most items of a page.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}}));
        all.push(json!({"name": "cursor", "in": "query", "description": "`nextCursor` of the page before.",
            "schema": {"type": "string"}}));
    }
    if operation.writes() {
        all.push(json!({"name": "dryRun", "in": "query", "description": "Show the effect, store nothing.",
            "schema": {"type": "boolean", "default": false}}));
        all.push(header("IdempotencyKey"));
    }
    if operation.etag.is_some() {
        all.push(header("IfMatch"));
    }
    all.extend([header("Tenant"), header("User")]);
    all
}

/// `workItem` as `work item`.
fn words(name: &str) -> String {
    name.chars().fold(String::new(), |mut words, letter| {
        if letter.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
        words
    })
}

fn headers() -> Value {
    let header = |name: &str, required: bool, about: &str| {
        json!({"name": name, "in": "header", "required": required, "description": about,
            "schema": {"type": "string", "minLength": 1, "maxLength": 256}})
    };
    json!({
        "Tenant": header("X-LoopIQ-Tenant", true, "Organisation."),
        "User": header("X-LoopIQ-User", false, "User on whose behalf the request is made; writes need it."),
        "IdempotencyKey": header("Idempotency-Key", false, "The same key and request get the first answer again."),
        "IfMatch": header("If-Match", false, "`ETag` that the record must still have."),
    })
}

/// The schema of a successful answer.
pub(super) fn answer(operation: &Operation) -> Value {
    match operation.answer {
        Shape::Record(name) if operation.writes() => {
            json!({"type": "object", "anyOf": [reference(name), reference("Preview")]})
        }
        Shape::Record(name) => reference(name),
        Shape::Page(name) => json!({
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": reference(name)},
                "nextCursor": {"type": ["string", "null"], "description": "`cursor` of the next page; null at the end."},
            },
            "required": ["items", "nextCursor"],
        }),
    }
}

fn responses(operation: &Operation) -> Value {
    let mut responses = Map::new();
    let mut done = json!({"description": "Done.", "content": content(&answer(operation))});
    let text = json!({"type": "string"});
    let mut headers = Map::new();
    if operation.versioned {
        headers.insert("ETag".to_owned(), json!({"description": "Version of the record.", "schema": text}));
    }
    if operation.writes() {
        let about = "`true` when this is the first answer again.";
        headers.insert("Idempotent-Replayed".to_owned(), json!({"description": about, "schema": text}));
    }
    put(&mut done, "headers", Value::Object(headers));
    if operation.writes() && operation.status != 200 {
        let dry = json!({"description": "Dry run.", "content": content(&reference("Preview"))});
        responses.insert("200".to_owned(), dry);
    }
    responses.insert(operation.status.to_string(), done);
    let mut refusals = vec![
        ("400", "The request cannot be read."),
        ("401", "The caller is not believed."),
        ("403", "No such organisation."),
    ];
    if operation.path.contains('{') {
        refusals.push(("404", "No such record in this organisation."));
    }
    if operation.writes() {
        refusals.extend([
            ("409", "The record's state does not allow it."),
            ("413", "The body is too large."),
            ("422", "The body does not fit its schema, names what does not exist, or reuses a key."),
        ]);
    }
    if operation.etag.is_some() {
        refusals.push(("412", "The record has changed since `If-Match` was read."));
    }
    for (status, about) in refusals {
        responses.insert(status.to_owned(), json!({"description": about, "content": content(&reference("Error"))}));
    }
    Value::Object(responses)
}

fn extension(operation: &Operation) -> Value {
    if !operation.is_tool {
        return json!({"tool": null});
    }
    let mut shown = json!({
        "tool": operation.tool,
        "title": operation.title,
        "family": operation.family,
        "effect": operation.effect,
        "impact": operation.impact,
        "idempotent": operation.writes(),
        "tenantFields": operation.tenant_fields(),
        "recordIds": operation.record_ids(),
    });
    let Some(members) = shown.as_object_mut() else { return shown };
    if operation.writes() {
        members.insert("dryRun".to_owned(), json!({"query": "dryRun"}));
        members.insert("lookup".to_owned(), Value::from(LOOKUP));
    }
    if let Some(target) = operation.etag.and_then(table::operation) {
        members.insert("etag".to_owned(), Value::from(format!("{} {}", target.method.name(), target.path)));
    }
    shown
}
