//! Schemas of a document to schemas that stand alone.
//!
//! Promises: the result is JSON Schema 2020-12 without references: local ones are inlined, cycles
//! and remote ones are cut to "anything" with a note; the 3.0 dialect's `nullable` and boolean
//! `exclusive…` are rewritten. Never grows beyond a bound. Called for arguments and answers.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Document;
use super::Kind;
use super::Notes;
use crate::domain::catalog::text::plain;

const DEPTH_MAX: usize = 16;
const NODES_MAX: usize = 4_000;

/// Keywords that are copied as they are.
const PLAIN: &[&str] = &[
    "type",
    "enum",
    "const",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "required",
    "default",
    "title",
    "description",
];
const ONE: &[&str] = &[
    "items",
    "additionalProperties",
    "not",
    "contains",
    "propertyNames",
    "if",
    "then",
    "else",
    "unevaluatedProperties",
    "unevaluatedItems",
];
const MANY: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
const NAMED: &[&str] = &["properties", "patternProperties", "dependentSchemas"];

/// Whose side a schema is on: what only the other side sends is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// What clients send; `readOnly` members are dropped.
    Request,
    /// What the backend sends; `writeOnly` members are dropped.
    Response,
}

/// Follows a local reference, if `value` is one; chains are followed too.
pub(super) fn deref<'d>(document: &Document<'d>, value: &'d Value) -> Option<&'d Value> {
    let mut value = value;
    for _ in 0..DEPTH_MAX {
        match value.get("$ref").and_then(Value::as_str) {
            None => return Some(value),
            Some(target) => value = local(document, target)?,
        }
    }
    None
}

fn local<'d>(document: &Document<'d>, target: &str) -> Option<&'d Value> {
    let fragment = target.strip_prefix('#')?;
    let pointer = percent_encoding::percent_decode_str(fragment).decode_utf8().ok()?;
    document.root.pointer(&pointer)
}

/// One schema, standing alone.
pub(super) fn alone(document: &Document<'_>, schema: &Value, side: Side, notes: &mut Notes<'_>) -> Value {
    let mut inlining = Inlining { document, side, open: Vec::new(), nodes: 0, cut: Vec::new() };
    let alone = inlining.schema(schema);
    for what in inlining.cut {
        notes.add(Kind::Derived, what);
    }
    alone
}

struct Inlining<'d, 'x> {
    document: &'x Document<'d>,
    side: Side,
    /// References being followed, to notice cycles.
    open: Vec<String>,
    nodes: usize,
    cut: Vec<String>,
}

impl Inlining<'_, '_> {
    fn schema(&mut self, schema: &Value) -> Value {
        self.nodes += 1;
        let Value::Object(members) = schema else {
            // `true` and `false` are schemas; anything else is none.
            return if schema.is_boolean() { schema.clone() } else { Value::Bool(true) };
        };
        if let Some(target) = members.get("$ref").and_then(Value::as_str) {
            return self.reference(target, members);
        }
        let mut out = Map::new();
        for (name, member) in members {
            let name = name.as_str();
            if PLAIN.contains(&name) {
                out.insert(name.to_owned(), member.clone());
            } else if ONE.contains(&name) {
                out.insert(name.to_owned(), self.schema(member));
            } else if let (true, Value::Array(list)) = (MANY.contains(&name), member) {
                out.insert(name.to_owned(), list.iter().map(|item| self.schema(item)).collect());
            } else if let (true, Value::Object(named)) = (NAMED.contains(&name), member) {
                out.insert(name.to_owned(), self.named(named));
            }
        }
        self.prune_required(members, &mut out);
        tidy(&mut out);
        if self.document.is_30 {
            from_30(members, &mut out);
        }
        Value::Object(out)
    }

    fn reference(&mut self, target: &str, beside: &Map<String, Value>) -> Value {
        let cut = |what: &str| format!("reference `{}` {what}, so anything is accepted there", plain(target, 120));
        if self.open.iter().any(|open| open == target) {
            self.cut.push(cut("leads to itself"));
            return json!({});
        }
        if self.open.len() >= DEPTH_MAX || self.nodes >= NODES_MAX {
            self.cut.push(cut("is too deep or the schema too large"));
            return json!({});
        }
        let document = self.document;
        let Some(found) = local(document, target) else {
            self.cut.push(cut("does not lead anywhere in the document"));
            return json!({});
        };
        self.open.push(target.to_owned());
        let mut schema = self.schema(found);
        self.open.pop();
        // 3.1 allows words beside a reference; they are about this use of it.
        if let (Value::Object(schema), Some(words)) = (&mut schema, beside.get("description")) {
            schema.insert("description".to_owned(), words.clone());
        }
        schema
    }

    fn named(&mut self, named: &Map<String, Value>) -> Value {
        let hidden = |schema: &Value| self.hidden(schema);
        let kept: Vec<(&String, &Value)> = named.iter().filter(|(_, schema)| !hidden(schema)).collect();
        Value::Object(kept.into_iter().map(|(name, schema)| (name.clone(), self.schema(schema))).collect())
    }

    /// Whether only the other side sends this member.
    fn hidden(&self, schema: &Value) -> bool {
        let keyword = match self.side {
            Side::Request => "readOnly",
            Side::Response => "writeOnly",
        };
        deref(self.document, schema).is_some_and(|schema| schema.get(keyword) == Some(&Value::Bool(true)))
    }

    /// Takes hidden members out of `required`.
    fn prune_required(&self, members: &Map<String, Value>, out: &mut Map<String, Value>) {
        let properties = members.get("properties").and_then(Value::as_object);
        if let (Some(properties), Some(Value::Array(required))) = (properties, out.get_mut("required")) {
            required.retain(|name| {
                !name.as_str().and_then(|name| properties.get(name)).is_some_and(|schema| self.hidden(schema))
            });
        }
    }
}

/// Words cleaned; what cannot be JSON Schema dropped.
fn tidy(out: &mut Map<String, Value>) {
    for (name, chars_max) in [("title", 100), ("description", 500)] {
        if let Some(words) = out.get(name).map(|words| plain(words.as_str().unwrap_or_default(), chars_max)) {
            if words.is_empty() {
                out.remove(name)
            } else {
                out.insert(name.to_owned(), Value::from(words))
            };
        }
    }
    if !out.get("required").is_none_or(Value::is_array) {
        out.remove("required");
    }
}

/// The 3.0 dialect: `nullable`, and `exclusiveMinimum: true` beside `minimum`.
fn from_30(members: &Map<String, Value>, out: &mut Map<String, Value>) {
    for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        match out.get(flag) {
            Some(Value::Bool(true)) => match out.remove(bound) {
                Some(limit) => drop(out.insert(flag.to_owned(), limit)),
                None => drop(out.remove(flag)),
            },
            Some(Value::Bool(false)) => drop(out.remove(flag)),
            Some(_) | None => {}
        }
    }
    if members.get("nullable") != Some(&Value::Bool(true)) {
        return;
    }
    if let Some(Value::Array(values)) = out.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    match out.get("type") {
        Some(Value::String(kind)) => drop(out.insert("type".to_owned(), json!([kind, "null"]))),
        Some(_) => {}
        None => {
            let inner = Value::Object(std::mem::take(out));
            *out = Map::from_iter([("anyOf".to_owned(), json!([inner, { "type": "null" }]))]);
        }
    }
}
