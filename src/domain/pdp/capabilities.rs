//! What the gateway runs of Rego, in the form that OPA reads.
//!
//! Promises: `opa check --strict --capabilities` with this document tells authors, in their own editor
//! and CI, which built-ins and which newer syntax the gateway refuses. Made from the tables that the
//! lint goes by; committed as `policies/schema/capabilities.json`. Called by `tests/policies.rs`.

use serde_json::Value;
use serde_json::json;

use crate::domain::pdp::lint::builtins;
use crate::domain::pdp::lint::builtins::Signature;
use crate::domain::pdp::lint::types::kinds::Kinds;

/// Rego as of OPA 1.0. Keywords after a dot and text with `{…}` in it are newer.
const FEATURES: [&str; 4] = ["rego_v1", "rego_v1_import", "rule_head_ref_string_prefixes", "rule_head_refs"];

/// The document.
#[must_use]
pub fn document() -> Value {
    let operators = builtins::OPERATORS.iter().map(|(name, sign, words)| {
        let mut entry = entry(name, &builtins::read(words));
        if let Some(members) = entry.as_object_mut() {
            members.insert("infix".to_owned(), json!(sign));
        }
        entry
    });
    let functions = builtins::SIGNATURES.iter().map(|(name, words)| entry(name, &builtins::read(words)));
    // Tests may print, and only tests; OPA turns the one into the other.
    let printing = [
        json!({"name": "print", "decl": {"type": "function", "variadic": {"type": "any"}}}),
        json!({"name": "internal.print", "decl": {"type": "function", "args": [
            {"type": "array", "dynamic": {"type": "set", "of": {"type": "any"}}},
        ]}}),
    ];
    let mut all: Vec<Value> = operators.chain(functions).chain(printing).collect();
    all.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    json!({"builtins": all, "features": FEATURES, "future_keywords": []})
}

fn entry(name: &str, signature: &Signature) -> Value {
    let args: Vec<Value> = signature.takes.iter().map(|kinds| declared(*kinds)).collect();
    json!({"name": name, "decl": {"type": "function", "args": args, "result": declared(signature.gives)}})
}

/// Types as OPA declares them; what is inside a collection may be anything.
fn declared(kinds: Kinds) -> Value {
    let any = || json!({"type": "any"});
    if kinds == Kinds::ANY {
        return any();
    }
    let each = kinds.each().map(|kind| match kind {
        Kinds::NULL => json!({"type": "null"}),
        Kinds::BOOL => json!({"type": "boolean"}),
        Kinds::NUMBER => json!({"type": "number"}),
        Kinds::STRING => json!({"type": "string"}),
        Kinds::ARRAY => json!({"type": "array", "dynamic": any()}),
        Kinds::SET => json!({"type": "set", "of": any()}),
        _ => json!({"type": "object", "dynamic": {"key": any(), "value": any()}}),
    });
    let mut each: Vec<Value> = each.collect();
    if each.len() == 1 { each.remove(0) } else { json!({"type": "any", "of": each}) }
}
