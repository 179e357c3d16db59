//! What is not wrong in a catalog but will hurt.
//!
//! Promises: each finding says what to write; a clean catalog has none. Never refuses: what must
//! be refused is refused by `check`. Called by [`Catalog::lint`] for `loopgate catalog lint`.

use serde_json::Value;

use super::Answerer;
use super::Catalog;
use super::CatalogFault;
use super::Effect;
use super::Impact;
use super::OwnTool;
use super::Tool;

/// Names under which an argument usually carries a tenant.
const TENANT_NAMES: &[&str] = &["tenant", "tenantId", "tenant_id", "organization", "organisation", "orgId", "org_id"];

/// Lints every tool.
pub(super) fn lint(catalog: &Catalog) -> Vec<CatalogFault> {
    let mut found: Vec<CatalogFault> = catalog.tools().flat_map(|tool| lint_tool(tool)).collect();
    let generic = catalog.tools().any(|tool| tool.answerer == Answerer::Gateway(OwnTool::InvokeRoute));
    let listed = catalog.tools().any(|tool| tool.answerer == Answerer::Gateway(OwnTool::ListRoutes));
    if generic && !listed {
        found.push(CatalogFault::new(
            "tools",
            "routes can be invoked but not listed",
            "add a tool with `gateway: list_routes`",
        ));
    }
    found
}

fn lint_tool(tool: &Tool) -> Vec<CatalogFault> {
    let mut found = Vec::new();
    let mut say = |field: &str, message: &str, remedy: &str| {
        found.push(CatalogFault::new(format!("tools[{}].{field}", tool.name), message, remedy));
    };
    if tool.route().is_some() {
        route(tool, &mut say);
    }
    arguments(tool, &mut say);
    found
}

fn route(tool: &Tool, say: &mut impl FnMut(&str, &str, &str)) {
    if !tool.compiled.tenant_fields_stated {
        say(
            "tenant_fields",
            "nothing shows whose records the answer holds",
            "name what carries the tenant, such as `/items/*/tenant`, or write `[]` if the answer holds no tenant's records",
        );
    }
    if tool.writes() && tool.record_ids.is_empty() {
        say(
            "record_ids",
            "audit cannot name the records that the write creates or changes",
            "name them, such as `/id`",
        );
    }
    if tool.writes() && tool.impact == Impact::High && tool.dry_run.is_none() && tool.lookup.is_none() {
        say(
            "dry_run",
            "approvers get no preview, and an unknown outcome cannot be looked up",
            "declare `dry_run` or `lookup` if the backend has either",
        );
    }
    if tool.writes() && !tool.idempotent && tool.lookup.is_none() {
        say(
            "idempotent",
            "a lost answer leaves the write unknown until a person resolves it",
            "declare `idempotent: backend` or `lookup` if the backend has either",
        );
    }
    if tool.effect == Effect::Read && (tool.dry_run.is_some() || tool.lookup.is_some() || tool.idempotent) {
        say("effect", "a read has no dry run, lookup or idempotency", "remove them, or write `effect: write`");
    }
}

fn arguments(tool: &Tool, say: &mut impl FnMut(&str, &str, &str)) {
    let properties = tool.input.get("properties").and_then(Value::as_object);
    let mut headers = std::collections::BTreeSet::new();
    for (name, schema) in properties.into_iter().flatten() {
        let field = format!("input.properties.{name}");
        let path = format!("/{name}");
        if TENANT_NAMES.contains(&name.as_str()) && !tool.tenant_arguments.contains(&path) {
            say(
                &field,
                "the argument seems to name a tenant and is not compared with the caller's",
                "name it in `tenant_arguments`",
            );
        }
        if schema.get("description").is_none() {
            say(&field, "a model must guess what the argument is", "give it a `description`");
        }
        let bounded = ["maxLength", "enum", "const", "format"].iter().any(|keyword| schema.get(keyword).is_some());
        if schema.get("type").and_then(Value::as_str) == Some("string") && !bounded {
            say(&field, "the text has no bound", "give it a `maxLength`, an `enum` or a `format`");
        }
        if schema.get("type").and_then(Value::as_str) == Some("array") && schema.get("maxItems").is_none() {
            say(&field, "the list has no bound", "give it `maxItems`");
        }
        let Some(header) = schema.get("x-mcp-header") else { continue };
        let twice = !headers.insert(header.as_str().unwrap_or_default().to_ascii_lowercase());
        if twice || !proper_header(header, schema) {
            say(
                &field,
                "`x-mcp-header` must be a header token, once per tool, on a string, integer or boolean",
                "write such as `Release`, or remove it: clients drop the whole tool",
            );
        }
    }
}

/// MCP 2026-07-28: token syntax, on plain values only.
fn proper_header(header: &Value, schema: &Value) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let named = header.as_str().is_some_and(|name| !name.is_empty() && name.bytes().all(token));
    named && matches!(schema.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean"))
}
