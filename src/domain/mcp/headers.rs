//! Headers that repeat what the body says, checked against the body.
//!
//! Promises: the body is what counts, and a request whose routing headers say something else, say
//! it twice or say it undecodably is refused, so that nobody in front of the gateway was shown
//! another call than the one decided here. Never reads a decision out of a header.
//! Called by `mcp::receive` and, once the tool is known, by `pep`. Follows MCP 2026-07-28.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::domain::mcp::Head;
use crate::domain::refusal::Fault;

/// JSON-RPC code of a header that does not match the body.
const HEADER_MISMATCH: i64 = -32020;

/// How deep annotated properties may be nested; catalog schemas are far flatter.
const SCHEMA_DEPTH_MAX: usize = 16;

/// Checks `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name` of a modern request.
pub(super) fn check_routing(
    head: &Head,
    version: &str,
    method: &str,
    params: &Map<String, Value>,
) -> Result<(), Fault> {
    match one(head, "mcp-protocol-version")? {
        Some(said) if said == version => {}
        Some(said) => {
            return Err(mismatch(format!("`MCP-Protocol-Version: {said}` differs from the body's `{version}`")));
        }
        None => return Err(mismatch("the `MCP-Protocol-Version` header is missing".to_owned())),
    }
    check_method(head, method, true)?;
    let Some(member) = routing_member(method) else {
        return Ok(());
    };
    let said = one(head, "mcp-name")?;
    match (params.get(member).and_then(Value::as_str), said) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(mismatch(format!("the `Mcp-Name` header is missing; it repeats `params.{member}`"))),
        (name, Some(said)) if name == Some(decode("Mcp-Name", said)?.as_str()) => Ok(()),
        (_, Some(_)) => Err(mismatch(format!("the `Mcp-Name` header differs from `params.{member}`"))),
    }
}

/// Checks what a modern notification's headers say, where they say anything.
pub(super) fn check_notification(head: &Head, version: Option<&str>, method: &str) -> Result<(), Fault> {
    let said = one(head, "mcp-protocol-version")?;
    if let (Some(said), Some(version)) = (said, version)
        && said != version
    {
        return Err(mismatch(format!("`MCP-Protocol-Version: {said}` differs from the body's `{version}`")));
    }
    check_method(head, method, false)
}

/// A modern header on a request that only legacy revisions have.
pub(super) fn legacy_method(method: &str) -> Fault {
    mismatch(format!("`{method}` belongs to revisions before the one that the `MCP-Protocol-Version` header names"))
}

/// Checks `Mcp-Param-*` headers against the arguments of a tool whose schema has `x-mcp-header`.
///
/// Only modern requests carry such headers; legacy ones are not checked.
pub fn check_param_headers(head: &Head, schema: &Value, arguments: &Map<String, Value>) -> Result<(), Fault> {
    check_level(head, schema, Some(arguments), 0)
}

fn check_level(head: &Head, schema: &Value, arguments: Option<&Map<String, Value>>, depth: usize) -> Result<(), Fault> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Ok(());
    };
    for (name, property) in properties {
        let argument = arguments.and_then(|arguments| arguments.get(name)).filter(|value| !value.is_null());
        if let Some(header) = property.get("x-mcp-header").and_then(Value::as_str) {
            check_param(head, header, argument)?;
        } else if depth < SCHEMA_DEPTH_MAX {
            check_level(head, property, argument.and_then(Value::as_object), depth + 1)?;
        }
    }
    Ok(())
}

fn check_param(head: &Head, name: &str, argument: Option<&Value>) -> Result<(), Fault> {
    let header = format!("mcp-param-{}", name.to_ascii_lowercase());
    let said = one(head, &header)?.map(|said| decode(&header, said)).transpose()?;
    let agrees = match (argument, said.as_deref()) {
        (Some(Value::String(text)), Some(said)) => text == said,
        (Some(Value::Bool(flag)), Some(said)) => said == if *flag { "true" } else { "false" },
        (Some(Value::Number(number)), Some(said)) => same_number(number, said),
        // A value of a kind that no header can carry is left to the schema, which refuses it.
        (None | Some(Value::Null | Value::Array(_) | Value::Object(_)), None) => true,
        (None, Some(_)) | (Some(_), _) => false,
    };
    if agrees {
        Ok(())
    } else {
        Err(mismatch(format!("the `Mcp-Param-{name}` header differs from the argument that it repeats")))
    }
}

/// Integers are compared as numbers: `7`, `7.0` and `+7` name one value.
fn same_number(number: &serde_json::Number, said: &str) -> bool {
    match (number.as_i64(), said.trim().parse::<i64>()) {
        (Some(number), Ok(said)) => number == said,
        _ => said.trim().parse::<f64>().is_ok_and(|said| number.as_f64() == Some(said)),
    }
}

fn check_method(head: &Head, method: &str, required: bool) -> Result<(), Fault> {
    match one(head, "mcp-method")? {
        Some(said) if said == method => Ok(()),
        Some(_) => Err(mismatch(format!("the `Mcp-Method` header differs from the body's `{method}`"))),
        None if required => Err(mismatch(format!("the `Mcp-Method` header is missing; it repeats `{method}`"))),
        None => Ok(()),
    }
}

/// The member of `params` that `Mcp-Name` repeats.
fn routing_member(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// The only value of a header; two are refused even when they agree.
fn one<'a>(head: &'a Head, name: &'a str) -> Result<Option<&'a str>, Fault> {
    let mut values = head.all(name).map(|value| value.trim_matches([' ', '\t']));
    let first = values.next();
    if values.next().is_some() { Err(mismatch(format!("the `{name}` header stands twice"))) } else { Ok(first) }
}

/// A header value as it was meant: `=?base64?…?=` carries what plain ASCII cannot.
fn decode(name: &str, value: &str) -> Result<String, Fault> {
    let Some(encoded) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        if value.bytes().all(|byte| matches!(byte, 0x20..=0x7e | b'\t')) {
            return Ok(value.to_owned());
        }
        return Err(mismatch(format!("the `{name}` header has characters that must be sent as `=?base64?…?=`")));
    };
    STANDARD
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| mismatch(format!("the `{name}` header is not valid base64 of UTF-8")))
}

fn mismatch(message: String) -> Fault {
    Fault::new(400, HEADER_MISMATCH, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(headers: &[(&str, &str)], arguments: &Value) -> Result<(), i64> {
        let schema = json!({"type": "object", "properties": {
            "tenant": {"type": "string", "x-mcp-header": "Tenant"},
            "page": {"type": "integer", "x-mcp-header": "Page"},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
            "owner": {"type": "object", "properties": {"id": {"type": "string", "x-mcp-header": "Owner-Id"}}},
            "free": {"type": "string"}
        }});
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let head = Head { headers, ..Head::default() };
        check_param_headers(&head, &schema, arguments.as_object().unwrap()).map_err(|fault| {
            assert_eq!(fault.status, 400);
            fault.code
        })
    }

    #[test]
    fn a_header_that_repeats_an_argument_must_equal_it() {
        let all = json!({"tenant": "org_gcn", "page": 7, "dry": true, "owner": {"id": "ada"}, "free": "x"});
        let agree = [
            ("mcp-param-tenant", "org_gcn"),
            ("mcp-param-page", "7"),
            ("mcp-param-dry", "true"),
            ("mcp-param-owner-id", " ada "),
        ];
        assert_eq!(check(&agree, &all), Ok(()));
        assert_eq!(check(&[("mcp-param-page", "7.0")], &json!({"page": 7})), Ok(()));
        assert_eq!(check(&[("mcp-param-tenant", "=?base64?w7ZyZw==?=")], &json!({"tenant": "örg"})), Ok(()));
        assert_eq!(check(&[], &json!({"tenant": null, "free": "x"})), Ok(()));
        assert_eq!(check(&[("mcp-param-unknown", "x")], &json!({})), Ok(()));
    }

    #[test]
    fn a_header_that_says_something_else_is_refused() {
        for (headers, arguments) in [
            (vec![("mcp-param-tenant", "org_nordbank")], json!({"tenant": "org_gcn"})),
            (vec![("mcp-param-tenant", "ORG_GCN")], json!({"tenant": "org_gcn"})),
            (vec![("mcp-param-tenant", "org_gcn")], json!({})),
            (vec![("mcp-param-tenant", "null")], json!({"tenant": null})),
            (vec![], json!({"tenant": "org_gcn"})),
            (vec![("mcp-param-tenant", "a"), ("mcp-param-tenant", "a")], json!({"tenant": "a"})),
            (vec![("mcp-param-page", "8")], json!({"page": 7})),
            (vec![("mcp-param-page", "seven")], json!({"page": 7})),
            (vec![("mcp-param-dry", "True")], json!({"dry": true})),
            (vec![("mcp-param-owner-id", "ben")], json!({"owner": {"id": "ada"}})),
            (vec![("mcp-param-tenant", "=?base64?%%%?=")], json!({"tenant": "org_gcn"})),
            (vec![("mcp-param-tenant", "=?base64?w7ZyZw==?=")], json!({"tenant": "=?base64?w7ZyZw==?="})),
            (vec![("mcp-param-tenant", "=?BASE64?w7ZyZw==?=")], json!({"tenant": "örg"})),
            (vec![("mcp-param-tenant", "örg")], json!({"tenant": "örg"})),
        ] {
            assert_eq!(check(&headers, &arguments), Err(HEADER_MISMATCH), "{headers:?} {arguments}");
        }
    }
}
