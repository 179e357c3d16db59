//! Parameters and body of an operation to arguments of a tool.
//!
//! Promises: every argument has one place; headers that the gateway sets are no arguments; what
//! cannot be sent the way the document wants it leaves the parameter out, or the operation when
//! the parameter is required. Texts and lists without bound get one. Called by `operation`.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Document;
use super::Kind;
use super::Notes;
use super::operation::Extension;
use super::operation::Operation;
use super::schema;
use super::schema::Side;
use super::schema::deref;
use crate::domain::catalog::DryRun;
use crate::domain::catalog::text::plain;

/// Bound of a text that the document leaves without one.
const TEXT_CHARS_MAX: u64 = 4_096;
/// Bound of a list that the document leaves without one.
const ITEMS_MAX: u64 = 100;
/// Names under which APIs take a dry run.
const DRY_RUN_NAMES: &[&str] = &["dryRun", "dry_run", "dry-run", "dryrun"];
/// Headers that the gateway sets itself.
const SET_BY_GATEWAY: &[&str] = &[
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "traceparent",
    "tracestate",
    "x-correlation-id",
    "x-request-id",
];

/// Arguments of a tool.
#[derive(Default)]
pub(super) struct Arguments {
    /// The path, its variables renamed where their names are no names.
    pub(super) template: String,
    pub(super) query: Vec<String>,
    pub(super) body: Vec<String>,
    pub(super) dry_run: Option<DryRun>,
    /// Whether the operation takes `Idempotency-Key`.
    pub(super) takes_key: bool,
    properties: Map<String, Value>,
    required: Vec<String>,
    bounded: Vec<String>,
}

impl Arguments {
    /// The input schema.
    pub(super) fn input(&self) -> Value {
        let mut schema = Map::from_iter([("type".to_owned(), json!("object"))]);
        if !self.required.is_empty() {
            schema.insert("required".to_owned(), json!(self.required));
        }
        schema.insert("properties".to_owned(), Value::Object(self.properties.clone()));
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
        Value::Object(schema)
    }

    /// Adds an argument, bounded and described.
    fn add(&mut self, name: &str, mut schema: Value, required: bool) -> Result<(), String> {
        if !schema.is_object() {
            schema = json!({});
        }
        if let Some(members) = schema.as_object_mut() {
            members
                .entry("description")
                .or_insert_with(|| json!(format!("`{}`, as the API names it.", plain(name, 80))));
            let kind = members.get("type").cloned().unwrap_or_default();
            let bounded = ["maxLength", "enum", "const", "format"].iter().any(|keyword| members.contains_key(*keyword));
            if kind == "string" && !bounded {
                members.insert("maxLength".to_owned(), json!(TEXT_CHARS_MAX));
                self.bounded.push(name.to_owned());
            }
            if kind == "array" && !members.contains_key("maxItems") {
                members.insert("maxItems".to_owned(), json!(ITEMS_MAX));
                self.bounded.push(name.to_owned());
            }
        }
        if self.properties.insert(name.to_owned(), schema).is_some() {
            return Err(format!("two arguments are called `{}`", plain(name, 80)));
        }
        if required {
            self.required.push(name.to_owned());
        }
        Ok(())
    }
}

/// The arguments of an operation, or why it cannot be a tool.
pub(super) fn of(
    document: &Document<'_>,
    operation: Operation<'_>,
    extension: &Extension<'_>,
    notes: &mut Notes<'_>,
) -> Result<Arguments, String> {
    let mut arguments =
        Arguments { template: operation.path.to_owned(), dry_run: extension.dry_run(notes), ..Arguments::default() };
    for parameter in parameters(document, operation)? {
        take(document, parameter, &mut arguments, notes)?;
    }
    if let Some(body) = operation.operation.get("requestBody") {
        take_body(document, body, &mut arguments, notes)?;
    }
    if !arguments.bounded.is_empty() {
        let names = arguments.bounded.join("`, `");
        notes.add(Kind::Guessed, format!("bounds of `{names}`: {TEXT_CHARS_MAX} characters, {ITEMS_MAX} items"));
    }
    Ok(arguments)
}

/// Parameters of the path and of the operation; the operation's win.
fn parameters<'d>(document: &Document<'d>, operation: Operation<'d>) -> Result<Vec<&'d Map<String, Value>>, String> {
    let shared = operation.item.get("parameters").and_then(Value::as_array);
    let own = operation.operation.get("parameters").and_then(Value::as_array);
    let mut all: Vec<&Map<String, Value>> = Vec::new();
    for parameter in shared.into_iter().chain(own).flatten() {
        let found = deref(document, parameter).and_then(Value::as_object);
        let found = found.ok_or("a parameter's reference does not lead anywhere in the document")?;
        all.retain(|other| other.get("name") != found.get("name") || other.get("in") != found.get("in"));
        all.push(found);
    }
    Ok(all)
}

fn take(
    document: &Document<'_>,
    parameter: &Map<String, Value>,
    arguments: &mut Arguments,
    notes: &mut Notes<'_>,
) -> Result<(), String> {
    let text = |name: &str| parameter.get(name).and_then(Value::as_str).unwrap_or_default();
    let (name, place) = (text("name"), text("in"));
    let shown = plain(name, 80);
    let required = parameter.get("required") == Some(&Value::Bool(true));
    let mut schema = parameter
        .get("schema")
        .map_or_else(|| json!({}), |schema| schema::alone(document, schema, Side::Request, notes));
    if let (Value::Object(members), false) = (&mut schema, text("description").is_empty()) {
        members.insert("description".to_owned(), json!(plain(text("description"), 500)));
    }
    match place {
        "path" => take_path(name, schema, arguments, notes),
        "query" if arguments.dry_run == Some(DryRun::Query(name.to_owned())) => Ok(()),
        "query" if arguments.dry_run.is_none() && DRY_RUN_NAMES.contains(&name) => {
            notes.add(Kind::Guessed, format!("`{shown}=true` asks for a dry run"));
            arguments.dry_run = Some(DryRun::Query(name.to_owned()));
            Ok(())
        }
        "query" => match unsendable(parameter, &schema) {
            None => {
                arguments.query.push(name.to_owned());
                arguments.add(name, schema, required)
            }
            Some(why) if required => Err(format!("required query parameter `{shown}` {why}")),
            Some(why) => {
                notes.add(Kind::LeftOut, format!("query parameter `{shown}` {why}"));
                Ok(())
            }
        },
        "header" if is_set_by_gateway(name) => {
            arguments.takes_key |= name.eq_ignore_ascii_case("idempotency-key");
            Ok(())
        }
        _ if required => Err(format!("required {} parameter `{shown}` is not passed on", plain(place, 20))),
        _ => {
            notes.add(Kind::LeftOut, format!("{} parameter `{shown}` is not passed on", plain(place, 20)));
            Ok(())
        }
    }
}

fn is_set_by_gateway(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    SET_BY_GATEWAY.contains(&header.as_str()) || header.starts_with("x-loopiq-")
}

/// A path variable is text; what the document calls a number becomes its digits.
fn take_path(name: &str, mut schema: Value, arguments: &mut Arguments, notes: &mut Notes<'_>) -> Result<(), String> {
    let kind = schema.get("type").cloned().unwrap_or_default();
    if kind == "integer" {
        let about = schema.get("description").cloned();
        schema = json!({ "type": "string", "pattern": "^-?[0-9]{1,19}$", "maxLength": 20 });
        if let (Some(about), Value::Object(members)) = (about, &mut schema) {
            members.insert("description".to_owned(), about);
        }
        notes.add(Kind::Derived, format!("path variable `{}` is given as digits in text", plain(name, 80)));
    } else if kind.is_null() {
        schema.as_object_mut().map(|members| members.insert("type".to_owned(), json!("string")));
    } else if kind != "string" {
        return Err(format!("path variable `{}` is no text", plain(name, 80)));
    }
    let proper = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut argument: String = name.chars().map(proper).collect();
    if argument.starts_with(|first: char| first.is_ascii_digit()) {
        argument.insert(0, '_');
    }
    if argument != name {
        arguments.template = arguments.template.replace(&format!("{{{name}}}"), &format!("{{{argument}}}"));
        notes.add(Kind::Derived, format!("path variable `{}` is the argument `{argument}`", plain(name, 80)));
    }
    arguments.add(&argument, schema, true)
}

/// Why a query parameter cannot be sent as `name=value`, repeated for lists.
fn unsendable(parameter: &Map<String, Value>, schema: &Value) -> Option<&'static str> {
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let style = parameter.get("style").and_then(Value::as_str).unwrap_or("form");
    if parameter.contains_key("content") {
        return Some("is a document of its own");
    }
    if kind == "object" {
        return Some("is an object");
    }
    if style != "form" || (kind == "array" && parameter.get("explode") == Some(&Value::Bool(false))) {
        return Some("joins its values in one, which is ambiguous");
    }
    None
}

fn take_body(
    document: &Document<'_>,
    body: &Value,
    arguments: &mut Arguments,
    notes: &mut Notes<'_>,
) -> Result<(), String> {
    let body = deref(document, body).ok_or("the body's reference does not lead anywhere in the document")?;
    let must = body.get("required") == Some(&Value::Bool(true));
    let content = body.get("content").and_then(Value::as_object);
    let json = content.into_iter().flatten().find(|(media, _)| is_json(media)).map(|(_, media)| media);
    let Some(json) = json else {
        if must {
            return Err("the body is not JSON".to_owned());
        }
        notes.add(Kind::LeftOut, "the body, which is not JSON");
        return Ok(());
    };
    let schema = schema::alone(document, json.get("schema").unwrap_or(&Value::Null), Side::Request, notes);
    let mut members = Members::default();
    members.gather(&schema).map_err(|why| format!("the body {why}"))?;
    let flag = match &arguments.dry_run {
        Some(DryRun::Body(name)) => Some(name.clone()),
        Some(DryRun::Query(_)) | None => None,
    };
    for (name, schema) in members.properties {
        if flag.as_ref() == Some(&name) {
            continue;
        }
        arguments.body.push(name.clone());
        let required = must && members.required.contains(&name);
        arguments.add(&name, schema, required)?;
    }
    Ok(())
}

/// Whether a media type is JSON.
pub(super) fn is_json(media: &str) -> bool {
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

/// Members of an object schema, `allOf` merged.
#[derive(Default)]
struct Members {
    properties: Map<String, Value>,
    required: Vec<String>,
}

impl Members {
    fn gather(&mut self, schema: &Value) -> Result<(), &'static str> {
        let Value::Object(members) = schema else { return Err("may be anything") };
        if ["anyOf", "oneOf", "not", "if"].iter().any(|keyword| members.contains_key(*keyword)) {
            return Err("has several forms");
        }
        for part in members.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.gather(part)?;
        }
        let properties = members.get("properties").and_then(Value::as_object);
        let is_object = members.get("type").is_some_and(|kind| kind == "object");
        if properties.is_none() && !members.contains_key("allOf") && !is_object {
            return Err("is no object");
        }
        if properties.is_none_or(Map::is_empty)
            && members.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false))
        {
            return Err("has members without names");
        }
        for (name, schema) in properties.into_iter().flatten() {
            self.properties.insert(name.clone(), schema.clone());
        }
        let required = members.get("required").and_then(Value::as_array).into_iter().flatten();
        self.required.extend(required.filter_map(Value::as_str).map(str::to_owned));
        Ok(())
    }
}
