//! One tool for people and for programs.
//!
//! Promises: shows what the gateway goes by, arguments with their place included. Never shows what
//! is not in the catalog. Called by `catalog show`.

use std::fmt::Write as _;

use serde_json::Value;
use serde_json::json;

use crate::cli::print;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::DryRun;
use crate::domain::catalog::Tool;

/// A tool as JSON.
pub(super) fn as_json(tool: &Tool) -> Value {
    let route = tool.route();
    json!({
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "family": tool.family,
        "effect": tool.effect,
        "impact": tool.impact,
        "route": tool.route_text(),
        "backend": route.map(|route| &route.backend),
        "query": route.map(|route| &route.query),
        "body": route.map(|route| &route.body),
        "timeoutMs": route.map(|route| u64::try_from(route.timeout.as_millis()).unwrap_or(u64::MAX)),
        "input": tool.offered_input(),
        "output": tool.output,
        "tenantFields": tool.tenant_fields,
        "recordIds": tool.record_ids,
        "tenantArguments": tool.tenant_arguments,
        "sensitive": tool.sensitive,
        "scopes": tool.scopes,
        "dryRun": tool.dry_run,
        "idempotent": tool.idempotent,
        "lookup": tool.lookup,
        "etag": tool.etag,
        "digest": tool.digest,
    })
}

/// A tool as some lines of text.
pub(super) fn as_text(tool: &Tool) -> String {
    let mut text = format!("{}  {}\n\n", tool.name, tool.title);
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            // WHY: writing to a `String` cannot fail.
            let _infallible = writeln!(text, "{name:<12}{}", print::wrapped(value, 12));
        }
    };
    line("about", &tool.description);
    line("family", &tool.family);
    line("effect", &format!("{}, {} impact", word(&json!(tool.effect)), word(&json!(tool.impact))));
    match tool.route() {
        Some(route) => {
            line("route", &format!("{} on backend `{}`, {:?} at most", route.text(), route.backend, route.timeout));
        }
        None => line("route", "none: the gateway answers"),
    }
    match &tool.dry_run {
        Some(DryRun::Query(name)) => line("dry run", &format!("query `{name}=true`")),
        Some(DryRun::Body(name)) => line("dry run", &format!("body `{name}: true`")),
        None => {}
    }
    line("idempotent", if tool.idempotent { "the backend honours Idempotency-Key" } else { "" });
    line("lookup", tool.lookup.as_deref().unwrap_or_default());
    line("version", tool.etag.as_deref().unwrap_or_default());
    line("tenant at", &tool.tenant_fields.join(" "));
    line("records at", &tool.record_ids.join(" "));
    line("digest", &tool.digest);
    text.push_str(&arguments(tool));
    text
}

fn arguments(tool: &Tool) -> String {
    let schema = tool.offered_input();
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut text = String::new();
    for (name, argument) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let kind = argument.get("type").map(word).unwrap_or_default();
        let must = if required.contains(&name.as_str()) { "required" } else { "optional" };
        let about = argument.get("description").map(word).unwrap_or_default();
        let head = format!("  {name:<15} {kind:<8} {must:<9} {:<8} ", place(tool, name));
        let _infallible = writeln!(text, "{head}{}", print::wrapped(&about, head.chars().count()));
    }
    if text.is_empty() { "\nno arguments\n".to_owned() } else { format!("\narguments\n{text}") }
}

fn place(tool: &Tool, name: &str) -> &'static str {
    let Some(route) = tool.route() else { return "" };
    if tool.input.get("properties").and_then(|members| members.get(name)).is_none() {
        "gateway"
    } else if route.query.iter().any(|known| known == name) {
        "query"
    } else if route.body.iter().any(|known| known == name) {
        "body"
    } else {
        "path"
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What to say about a name that no tool has.
pub(super) fn nearest(catalog: &Catalog, name: &str) -> String {
    let wanted = name.trim_start_matches("loopiq_");
    let near: Vec<&str> = catalog
        .tools()
        .map(|tool| tool.name.as_str())
        .filter(|known| !wanted.is_empty() && known.contains(wanted))
        .take(5)
        .collect();
    if near.is_empty() {
        format!("the catalog has {} others", catalog.tools().count())
    } else {
        format!("did you mean {}?", near.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::BUILT_IN;

    #[test]
    fn a_tool_is_shown_with_every_argument_and_its_place() {
        let catalog = Catalog::from_yaml(BUILT_IN).unwrap();
        let tool = catalog.tool("loopiq_update_work_item").unwrap();
        let text = as_text(tool);
        let has = |start: &str, end: &str| {
            text.lines().any(|line| line.trim_start().starts_with(start) && line.contains(end))
        };
        assert!(has("workItem", "required  path") && has("title", "optional  body"), "{text}");
        assert!(has("dryRun", "gateway") && has("idempotencyKey", "gateway"), "{text}");
        assert!(text.contains("PATCH /api/v1/work-items/{workItem} on backend `loopiq`, 10s at most"), "{text}");
        assert_eq!(as_json(tool)["impact"], json!("low"));
        for tool in catalog.tools() {
            assert!(as_text(tool).lines().all(|line| line.trim_end() == line), "{}", tool.name);
        }
    }

    #[test]
    fn a_mistyped_name_gets_the_nearest_ones() {
        let catalog = Catalog::from_yaml(BUILT_IN).unwrap();
        assert!(nearest(&catalog, "get_release_readiness").contains("loopiq_get_release_readiness"));
        assert!(nearest(&catalog, "nothing_like_it").contains("43 others"));
    }
}
