//! One operation to one tool.
//!
//! Promises: `x-loopiq` is believed where it speaks; else the name comes from `operationId`, the
//! family from the first tag, the effect from the method, and a write is of high impact. An
//! operation whose arguments cannot all be placed is left out. Called by `import`.

use serde_json::Map;
use serde_json::Value;

use super::Document;
use super::Kind;
use super::Note;
use super::Notes;
use super::Options;
use super::answer;
use super::arguments;
use crate::domain::catalog::DryRun;
use crate::domain::catalog::Effect;
use crate::domain::catalog::Impact;
use crate::domain::catalog::raw::Audit;
use crate::domain::catalog::raw::Idempotent;
use crate::domain::catalog::raw::RawTool;
use crate::domain::catalog::text::plain;

const METHODS: &[&str] = &["get", "post", "put", "patch", "delete"];
/// What serves operators and machines, not callers of tools.
const NOT_FOR_CLIENTS: &[&str] =
    &["/healthz", "/readyz", "/livez", "/health", "/metrics", "/openapi.json", "/openapi.yaml"];

/// What `x-loopiq` says about an operation; absent parts are `None`.
pub(super) struct Extension<'d> {
    members: Option<&'d Map<String, Value>>,
}

impl<'d> Extension<'d> {
    pub(super) fn text(&self, name: &str) -> Option<&'d str> {
        self.members?.get(name)?.as_str()
    }

    pub(super) fn list(&self, name: &str) -> Option<Vec<String>> {
        let list = self.members?.get(name)?.as_array()?;
        Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    fn parsed<T: serde::de::DeserializeOwned>(&self, name: &str, notes: &mut Notes<'_>) -> Option<T> {
        let value = self.members?.get(name)?;
        let parsed = serde_json::from_value(value.clone()).ok();
        if parsed.is_none() && !value.is_null() {
            notes.add(Kind::LeftOut, format!("`x-loopiq.{name}` is not understood: {}", plain(&value.to_string(), 80)));
        }
        parsed
    }

    pub(super) fn dry_run(&self, notes: &mut Notes<'_>) -> Option<DryRun> {
        self.parsed("dryRun", notes)
    }
}

/// The tools of one path.
pub(super) fn of_path(
    document: &Document<'_>,
    path: &str,
    item: &Value,
    options: &Options,
    all: &mut Vec<Note>,
) -> Vec<RawTool> {
    let Some(item) = item.as_object() else { return Vec::new() };
    let mut tools = Vec::new();
    for (method, operation) in item {
        let at = format!("{} {}{path}", method.to_ascii_uppercase(), document.base);
        let before = all.len();
        let mut notes = Notes { at: at.clone(), all };
        if METHODS.contains(&method.as_str()) {
            let operation = Operation { at: &at, method, path, item, operation };
            match tool(document, operation, options, &mut notes) {
                Ok(tool) => tools.push(tool),
                Err(why) => {
                    // What was found out about an operation that is not imported helps nobody.
                    notes.all.truncate(before);
                    notes.add(Kind::LeftOut, why);
                }
            }
        } else if matches!(method.as_str(), "head" | "options" | "trace") {
            notes.add(Kind::LeftOut, "clients have no use for this method");
        } else if method == "$ref" {
            notes.add(Kind::LeftOut, "paths by reference are not followed");
        }
    }
    tools
}

/// An operation where it stands.
#[derive(Clone, Copy)]
pub(super) struct Operation<'d> {
    /// `METHOD /path` with the server's base.
    pub(super) at: &'d str,
    /// Lower case.
    pub(super) method: &'d str,
    /// As the document writes it.
    pub(super) path: &'d str,
    /// The path item, for the parameters that its operations share.
    pub(super) item: &'d Map<String, Value>,
    /// The operation.
    pub(super) operation: &'d Value,
}

fn tool(
    document: &Document<'_>,
    operation: Operation<'_>,
    options: &Options,
    notes: &mut Notes<'_>,
) -> Result<RawTool, String> {
    let given = operation.operation.get("x-loopiq");
    let extension = Extension { members: given.and_then(Value::as_object) };
    if let Some(why) = unwanted(document, operation, given) {
        return Err(why);
    }
    let name = name(operation, &extension, notes);
    let family = family(operation, &extension, notes);
    let effect = effect(operation, &extension, notes);
    let impact = impact(effect, operation, &extension, notes);
    let arguments = arguments::of(document, operation, &extension, notes)?;
    let input = arguments.input();
    let answer = answer::of(document, operation, &extension, notes);
    let writes = effect != Effect::Read && operation.method != "get";
    let idempotent = extension.parsed::<bool>("idempotent", notes).unwrap_or(arguments.takes_key);
    let route = format!("{} {}{}", operation.method.to_ascii_uppercase(), document.base, arguments.template);
    Ok(RawTool {
        scopes: Vec::new(),
        title: title(&name, operation, &extension),
        description: description(&name, operation),
        name,
        family,
        effect,
        impact: Some(impact),
        route: Some(route),
        gateway: None,
        backend: None,
        query: Some(arguments.query),
        body: Some(arguments.body),
        timeout: extension.text("timeout").map(str::to_owned),
        input: Some(input),
        output: if options.output_schemas { answer.schema } else { None },
        tenant_fields: answer.tenant_fields,
        record_ids: answer.record_ids,
        tenant_arguments: extension.list("tenantArguments").unwrap_or_default(),
        sensitive: extension.list("sensitive").unwrap_or_default(),
        dry_run: arguments.dry_run.filter(|_| writes),
        idempotent: if writes && idempotent { Idempotent::Backend } else { Idempotent::None },
        lookup: extension.text("lookup").filter(|_| writes).map(str::to_owned),
        etag: extension.text("etag").map(str::to_owned),
        audit: Audit::Durable,
    })
}

/// Why an operation is no tool at all.
fn unwanted(document: &Document<'_>, operation: Operation<'_>, given: Option<&Value>) -> Option<String> {
    let none = |value: Option<&Value>| matches!(value, Some(Value::Null | Value::Bool(false)));
    if none(given) || none(given.and_then(|given| given.get("tool"))) {
        return Some("the document says that it is no tool".to_owned());
    }
    if document.lookups.contains(operation.at) {
        return Some("it answers the gateway's own lookups".to_owned());
    }
    if NOT_FOR_CLIENTS.contains(&operation.path) || operation.path.starts_with("/_") {
        return Some("it is for operators, not for clients".to_owned());
    }
    None
}

fn text<'d>(operation: Operation<'d>, name: &str) -> Option<&'d str> {
    operation.operation.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

fn name(operation: Operation<'_>, extension: &Extension<'_>, notes: &mut Notes<'_>) -> String {
    if let Some(name) = extension.text("tool") {
        return name.to_owned();
    }
    let (source, from) = match text(operation, "operationId") {
        Some(id) => (id.to_owned(), "`operationId`"),
        None => (format!("{} {}", operation.method, operation.path), "method and path"),
    };
    let name: String = snake(&source).chars().take(64).collect();
    notes.add(Kind::Derived, format!("name `{name}` from {from}"));
    name
}

fn family(operation: Operation<'_>, extension: &Extension<'_>, notes: &mut Notes<'_>) -> String {
    if let Some(family) = extension.text("family") {
        return family.to_owned();
    }
    if let Some(tag) = operation.operation.pointer("/tags/0").and_then(Value::as_str) {
        let family = snake(tag);
        notes.add(Kind::Derived, format!("family `{family}` from the first tag"));
        return family;
    }
    let version =
        |part: &str| part.strip_prefix('v').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    let part = operation
        .path
        .split('/')
        .find(|part| !part.is_empty() && *part != "api" && !part.starts_with('{') && !version(part));
    let family = snake(part.unwrap_or("other"));
    notes.add(Kind::Guessed, format!("family `{family}` from the path"));
    family
}

fn effect(operation: Operation<'_>, extension: &Extension<'_>, notes: &mut Notes<'_>) -> Effect {
    if let Some(effect) = extension.parsed("effect", notes) {
        return effect;
    }
    let effect = if operation.method == "get" { Effect::Read } else { Effect::Write };
    notes.add(
        Kind::Derived,
        format!("effect `{}` from the method", if effect == Effect::Read { "read" } else { "write" }),
    );
    effect
}

fn impact(effect: Effect, operation: Operation<'_>, extension: &Extension<'_>, notes: &mut Notes<'_>) -> Impact {
    if let Some(impact) = extension.parsed("impact", notes) {
        return impact;
    }
    if effect == Effect::Read || operation.method == "get" {
        return Impact::Low;
    }
    notes.add(Kind::Guessed, "impact `high`, because the document does not say that no person need look");
    Impact::High
}

fn title(name: &str, operation: Operation<'_>, extension: &Extension<'_>) -> String {
    let words = extension.text("title").or_else(|| text(operation, "summary"));
    let words = plain(words.unwrap_or_default(), 99);
    if words.is_empty() { sentence(name) } else { words }
}

fn description(name: &str, operation: Operation<'_>) -> String {
    let words = text(operation, "description").or_else(|| text(operation, "summary"));
    let words = plain(words.unwrap_or_default(), 3_999);
    if words.is_empty() { format!("{}.", sentence(name)) } else { words }
}

/// `get_release` as `Get release`.
fn sentence(name: &str) -> String {
    let words = name.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// `getReleaseById`, `Release governance` and `GET /releases/{id}` as `snake_case`.
pub(super) fn snake(text: &str) -> String {
    let mut out = String::new();
    let mut before = '_';
    for c in text.chars() {
        let starts = c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if (starts || !c.is_ascii_alphanumeric()) && !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    let out = out.trim_end_matches('_');
    if out.starts_with(|first: char| first.is_ascii_lowercase()) { out.to_owned() } else { format!("op_{out}") }
}
