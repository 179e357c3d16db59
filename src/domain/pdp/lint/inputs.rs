//! Which parts of the input a policy reads.
//!
//! Promises: a path under `input` that no input can have is refused, with the names that exist
//! there. A misspelt field is undefined for ever, and undefined under `not` is an allow. The shape
//! is the one that policies are given: the JSON Schema of [`Input`]. Called by `pdp::lint`.

use regorus::unstable::Module;
use regorus::unstable::Ref;
use serde_json::Value;

use crate::domain::pdp::Input;
use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Node;
use crate::domain::pdp::ast::Part;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::lint::fault_at;
use crate::domain::pdp::lint::graph::View;

/// Checks every reference to `input`.
pub(super) fn check(modules: &[Ref<Module>]) -> Vec<BundleFault> {
    let schema = schemars::schema_for!(Input).to_value();
    let mut faults = Vec::new();
    for module in modules {
        let view = View::new(module);
        for rule in &module.policy {
            ast::walk(rule, &mut |node, scope| {
                let Node::Ref(chain) = node else { return };
                let Some(path) =
                    view.absolute(&chain, scope).filter(|path| path.first().is_some_and(|root| root == "input"))
                else {
                    return;
                };
                // Steps that an import stands for come before the steps written here.
                let written = chain.names().len();
                let imported =
                    path.iter().skip(1).take(path.len() - 1 - written.min(path.len() - 1)).cloned().map(Part::Name);
                let steps: Vec<Part> = imported.chain(chain.parts.iter().cloned()).collect();
                if let Err(message) = follow(&schema, &steps) {
                    faults.push(fault_at(
                        chain.span,
                        message,
                        "see `policies/schema/input.json` for what policies are given",
                    ));
                }
            });
        }
    }
    faults
}

fn follow(schema: &Value, steps: &[Part]) -> Result<(), String> {
    let mut at = resolve(schema, schema);
    let mut so_far = String::from("input");
    for step in steps {
        let Some(here) = at else { return Ok(()) };
        at = match step {
            Part::Name(name) => {
                let next = match member(here, name) {
                    Member::Missing => return Err(missing(here, &so_far, name)),
                    Member::Anything => None,
                    Member::Shaped(shape) => resolve(schema, shape),
                };
                so_far = format!("{so_far}.{name}");
                next
            }
            Part::Number | Part::Dynamic(_) => {
                so_far.push_str("[…]");
                let inner = here.get("items").or_else(|| here.get("additionalProperties"));
                inner.and_then(|inner| resolve(schema, inner))
            }
        };
    }
    Ok(())
}

fn missing(here: &Value, so_far: &str, name: &str) -> String {
    let names: Vec<&str> = here
        .get("properties")
        .and_then(Value::as_object)
        .map(|all| all.keys().map(String::as_str).collect())
        .unwrap_or_default();
    if names.is_empty() {
        format!("`{so_far}` has no members, so `{so_far}.{name}` is never there")
    } else {
        format!("there is no `{so_far}.{name}`; `{so_far}` has {}", names.join(", "))
    }
}

/// What the schema says of a member.
enum Member<'s> {
    Missing,
    Anything,
    Shaped(&'s Value),
}

fn member<'s>(here: &'s Value, name: &str) -> Member<'s> {
    if let Some(found) = here.get("properties").and_then(|all| all.get(name)) {
        return Member::Shaped(found);
    }
    match here.get("additionalProperties") {
        Some(Value::Bool(true)) => Member::Anything,
        Some(inner @ Value::Object(_)) => Member::Shaped(inner),
        _ => Member::Missing,
    }
}

/// Follows `$ref` and steps over `null`. Nothing when the schema allows anything.
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> Option<&'s Value> {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/")) {
        return root.get("$defs").and_then(|all| all.get(name));
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let real = choices.iter().find(|choice| choice.get("type").and_then(Value::as_str) != Some("null"));
        return real.and_then(|real| resolve(root, real));
    }
    schema
        .as_object()
        .filter(|members| members.contains_key("type") || members.contains_key("properties"))
        .map(|_| schema)
}
