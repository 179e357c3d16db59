//! Arguments to a backend request.
//!
//! Promises: each path variable is one encoded segment; each query name stands once, or once per
//! element of an array argument; numbers and the body have one form (RFC 8785); an argument with no
//! place is refused, and so is a value that would turn the path into another tool's route.
//! Never adds ids, credentials or hosts: `pep` and `adapters::backend` do. Called by [`Tool::request`].

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::DryRun;
use super::Effect;
use super::Part;
use super::Route;
use super::RouteRequest;
use super::Tool;
use super::Upstream;
use super::argument;
use super::invalid;
use super::template::ENCODED;
use super::template::Segment;
use super::template::Template;
use super::template::encode;
use super::text::plain;
use crate::domain::canonical;
use crate::domain::mcp::offered::OPERATION;
use crate::domain::refusal::Code;
use crate::domain::refusal::Reason;
use crate::domain::refusal::Refusal;

/// Builds the request of `tool`.
pub(super) fn build(tool: &Tool, arguments: &Map<String, Value>, dry_run: bool) -> Result<RouteRequest, Refusal> {
    if let Some(upstream) = tool.upstream() {
        dry_run_flag(tool, dry_run)?;
        return to_upstream(upstream, arguments);
    }
    let (Some(route), Some(template)) = (tool.route(), &tool.compiled.template) else {
        return Err(Refusal::of(Code::BackendFailed)
            .detail(format!("`{}` is answered by the gateway, not by a route", tool.name)));
    };
    let flag = dry_run_flag(tool, dry_run)?;
    placed(route, template, arguments)?;
    let mut path_and_query = path(tool, template, arguments)?;
    let mut pairs = query(route, arguments)?;
    if let Some(DryRun::Query(name)) = flag {
        pairs.push((name.clone(), "true".to_owned()));
    }
    for (at, (name, value)) in pairs.iter().enumerate() {
        let join = if at == 0 { '?' } else { '&' };
        // WHY: writing to a `String` cannot fail.
        let _infallible = write!(path_and_query, "{join}{}={}", quoted(name), quoted(value));
    }
    let body = body(route, arguments, flag)?;
    Ok(RouteRequest {
        backend: route.backend.clone(),
        method: route.method.clone(),
        path_and_query,
        body,
        timeout: route.timeout,
    })
}

/// Builds what an upstream server is asked: `{"method", "params"}`.
fn to_upstream(upstream: &Upstream, arguments: &Map<String, Value>) -> Result<RouteRequest, Refusal> {
    let asked = match &upstream.part {
        Part::Tool(name) => json!({"method": "tools/call", "params": {"name": name, "arguments": arguments}}),
        Part::Prompts | Part::Resources => {
            let mut params = arguments.clone();
            let method = params.remove(OPERATION).unwrap_or_default();
            own_name(&mut params, &upstream.prefix);
            if let Some(Value::Object(reference)) = params.get_mut("ref") {
                own_name(reference, &upstream.prefix);
            }
            json!({"method": method, "params": params})
        }
    };
    Ok(RouteRequest {
        backend: upstream.server.clone(),
        method: "POST".to_owned(),
        path_and_query: "/".to_owned(),
        body: Some(canonical::canonical(&asked).map_err(|error| unsafe_number(&error))?),
        timeout: upstream.timeout,
    })
}

/// A prompt's name as its server knows it.
fn own_name(params: &mut Map<String, Value>, prefix: &str) {
    if let Some(Value::String(name)) = params.get_mut("name")
        && let Some(bare) = name.strip_prefix(prefix)
    {
        *name = bare.to_owned();
    }
}

fn unsafe_number(error: &canonical::NotCanonical) -> Refusal {
    let message = format!("the arguments have a number that JSON cannot carry exactly: {error}");
    invalid(vec![argument(message, "send such numbers as strings")])
}

/// Builds a GET that asks the tool's backend about a record or an execution.
pub(super) fn question(
    tool: &Tool,
    template: Option<&Template>,
    values: &Map<String, Value>,
) -> Result<Option<RouteRequest>, Refusal> {
    let (Some(route), Some(template)) = (tool.route(), template) else { return Ok(None) };
    Ok(Some(RouteRequest {
        backend: route.backend.clone(),
        method: "GET".to_owned(),
        path_and_query: filled(template, values)?,
        body: None,
        timeout: route.timeout,
    }))
}

/// INVARIANT: a call judged as a dry run is sent as one or not at all; a read has nothing to try out.
fn dry_run_flag(tool: &Tool, dry_run: bool) -> Result<Option<&DryRun>, Refusal> {
    match (&tool.dry_run, dry_run) {
        (_, false) => Ok(None),
        (Some(flag), true) => Ok(Some(flag)),
        (None, true) if tool.effect == Effect::Read => Ok(None),
        (None, true) => {
            let message = format!("`{}` has no dry run", tool.name);
            Err(invalid(vec![Reason::new(
                "dry_run_unsupported",
                message,
                "call again without `dryRun`, or do not call it",
            )]))
        }
    }
}

/// Refuses arguments that go nowhere.
fn placed(route: &Route, template: &Template, arguments: &Map<String, Value>) -> Result<(), Refusal> {
    let lost: Vec<Reason> = arguments
        .keys()
        .filter(|name| {
            !template.variables().any(|variable| variable == *name)
                && !route.query.contains(name)
                && !route.body.contains(name)
        })
        .map(|name| plain(name, 100))
        .map(|name| argument(format!("`/{name}` goes nowhere on `{}`", route.text()), format!("leave `{name}` out")))
        .collect();
    if lost.is_empty() { Ok(()) } else { Err(invalid(lost)) }
}

fn path(tool: &Tool, template: &Template, arguments: &Map<String, Value>) -> Result<String, Refusal> {
    let path = filled(template, arguments)?;
    let is = |(name, value): (&String, &String)| arguments.get(name).and_then(Value::as_str) == Some(value);
    match tool.compiled.shadows.iter().find(|shadow| shadow.iter().all(is)) {
        Some(shadow) => Err(invalid(
            shadow
                .iter()
                .map(|(name, value)| {
                    argument(
                        format!("`/{name}` cannot be `{value}`: that names another route"),
                        format!("use the tool of that route, or another `{name}`"),
                    )
                })
                .collect(),
        )),
        None => Ok(path),
    }
}

fn filled(template: &Template, values: &Map<String, Value>) -> Result<String, Refusal> {
    let mut path = String::new();
    for segment in &template.segments {
        path.push('/');
        match segment {
            Segment::Literal(literal) => path.push_str(literal),
            Segment::Variable(name) => path.push_str(&variable(name, values.get(name))?),
        }
    }
    Ok(path)
}

fn variable(name: &str, value: Option<&Value>) -> Result<String, Refusal> {
    let one = |message: String| invalid(vec![argument(message, format!("give `{name}` as a plain id"))]);
    match value {
        Some(Value::String(text)) => encode(text).map_err(|fault| one(format!("`/{name}` {fault}"))),
        Some(_) => Err(one(format!("`/{name}` must be a string"))),
        None => Err(one(format!("`/{name}` is required"))),
    }
}

fn query(route: &Route, arguments: &Map<String, Value>) -> Result<Vec<(String, String)>, Refusal> {
    let mut pairs = Vec::new();
    for name in &route.query {
        let values = match arguments.get(name) {
            None => continue,
            Some(Value::Array(items)) => items.iter().collect(),
            Some(value) => vec![value],
        };
        for value in values {
            let Some(text) = scalar(value) else {
                let message = format!("`/{name}` must be text, a number or a boolean to go into the query");
                return Err(invalid(vec![argument(message, format!("give `{name}` as one plain value"))]));
            };
            pairs.push((name.clone(), text));
        }
    }
    Ok(pairs)
}

/// The one textual form of a plain value.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => {
            canonical::canonical(value).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn body(route: &Route, arguments: &Map<String, Value>, flag: Option<&DryRun>) -> Result<Option<Vec<u8>>, Refusal> {
    let mut members: Map<String, Value> =
        route.body.iter().filter_map(|name| Some((name.clone(), arguments.get(name)?.clone()))).collect();
    if let Some(DryRun::Body(name)) = flag {
        members.insert(name.clone(), Value::Bool(true));
    }
    let bodied = matches!(route.method.as_str(), "POST" | "PUT" | "PATCH");
    if members.is_empty() && !bodied {
        return Ok(None);
    }
    canonical::canonical(&Value::Object(members)).map(Some).map_err(|error| unsafe_number(&error))
}

fn quoted(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, ENCODED).to_string()
}
