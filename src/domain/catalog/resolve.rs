//! A raw route invocation to the semantic tool of that route.
//!
//! Promises: whatever goes through `loopiq_invoke_route` is judged under the name and arguments of
//! the tool that stands for the route, so there is no second way around a policy; what no tool
//! stands for is unknown; what is ambiguous is refused. Never validates the tool's arguments:
//! `pep` does that for every call. Called by [`Catalog::resolve`].

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Answerer;
use super::Catalog;
use super::OwnTool;
use super::ResolveFault;
use super::Route;
use super::Target;
use super::Tool;
use super::argument;
use super::invalid;
use super::template::Template;
use super::template::decode;
use super::text::plain;
use crate::domain::mcp::ToolCall;
use crate::domain::refusal::Reason;
use crate::domain::refusal::Refusal;

/// Finds the tool that `call` is about.
pub(super) fn resolve(catalog: &Catalog, call: &ToolCall) -> Result<Target, ResolveFault> {
    let tool = catalog.tool(&call.name).filter(|tool| tool.is_called());
    let tool = tool.ok_or_else(|| ResolveFault::UnknownTool(call.name.clone()))?;
    if tool.answerer != Answerer::Gateway(OwnTool::InvokeRoute) {
        return Ok(Target { tool: Arc::clone(tool), arguments: call.arguments.clone(), via: None });
    }
    let wrong =
        |tool: &Arc<Tool>, refusal| ResolveFault::Invalid { tool: Arc::clone(tool), refusal: Box::new(refusal) };
    tool.validate(&call.arguments).map_err(|refusal| wrong(tool, refusal))?;
    let raw = RawCall::read(&call.arguments).map_err(|refusal| wrong(tool, refusal))?;
    let path = decode(raw.path).map_err(|fault| {
        let next = "give the path alone, each variable percent-encoded once, and parameters in `query`";
        wrong(tool, invalid(vec![argument(format!("`/path` {fault}"), next)]))
    })?;
    let (semantic, variables) = find(catalog, raw.method, &path)
        .ok_or_else(|| ResolveFault::UnknownRoute { method: raw.method.to_owned(), path: plain(raw.path, 300) })?;
    let arguments = arguments(semantic, variables, &raw).map_err(|refusal| wrong(semantic, refusal))?;
    Ok(Target { tool: Arc::clone(semantic), arguments, via: Some(Arc::clone(tool)) })
}

/// What `loopiq_invoke_route` was given.
struct RawCall<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a Map<String, Value>>,
    body: Option<&'a Map<String, Value>>,
}

impl<'a> RawCall<'a> {
    fn read(arguments: &'a Map<String, Value>) -> Result<Self, Refusal> {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str);
        let object = |name: &str| arguments.get(name).and_then(Value::as_object);
        let (Some(method), Some(path)) = (text("method"), text("path")) else {
            return Err(invalid(vec![argument(
                "`/method` and `/path` are required",
                "name the route by method and path",
            )]));
        };
        Ok(Self { method, path, query: object("query"), body: object("body") })
    }
}

/// Names and values of the variables of a path.
type Variables = Vec<(String, String)>;

/// The tool whose route this is; where two templates fit, the one with the leftmost literal.
fn find<'c>(catalog: &'c Catalog, method: &str, path: &[String]) -> Option<(&'c Arc<Tool>, Variables)> {
    catalog
        .tools()
        .filter(|tool| tool.route().is_some_and(|route| route.method == method))
        .filter_map(|tool| {
            let template: &Template = tool.compiled.template.as_ref()?;
            Some((template.rank(), tool, template.matches(path)?))
        })
        .min_by(|(left, ..), (right, ..)| left.cmp(right))
        .map(|(_, tool, variables)| (tool, variables))
}

fn arguments(tool: &Tool, variables: Variables, raw: &RawCall<'_>) -> Result<Map<String, Value>, Refusal> {
    let Some(route) = tool.route() else { return Ok(Map::new()) };
    let mut arguments: Map<String, Value> =
        variables.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    let mut reasons = Vec::new();
    take(&mut arguments, &mut reasons, &Part { tool, route, name: "query", known: &route.query, given: raw.query });
    take(&mut arguments, &mut reasons, &Part { tool, route, name: "body", known: &route.body, given: raw.body });
    if reasons.is_empty() { Ok(arguments) } else { Err(invalid(reasons)) }
}

/// Query or body of a raw call.
struct Part<'a> {
    tool: &'a Tool,
    route: &'a Route,
    name: &'static str,
    known: &'a [String],
    given: Option<&'a Map<String, Value>>,
}

fn take(arguments: &mut Map<String, Value>, reasons: &mut Vec<Reason>, part: &Part<'_>) {
    for (name, value) in part.given.into_iter().flatten() {
        // A name that two parts share would be ambiguous; `check` sees to it that none is.
        if part.known.contains(name) && !arguments.contains_key(name) {
            arguments.insert(name.clone(), value.clone());
            continue;
        }
        let (shown, place) = (plain(name, 100), part.name);
        let next = match &part.tool.dry_run {
            Some(super::DryRun::Query(flag) | super::DryRun::Body(flag)) if flag == name => {
                format!("give `dryRun: true` beside `path`, not in `{place}`")
            }
            Some(_) | None => format!("leave `{shown}` out; `{place}` may have: {}", list(part.known)),
        };
        reasons.push(argument(format!("`/{place}/{shown}` is not known to `{}`", part.route.text()), next));
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
