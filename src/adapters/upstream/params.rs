//! `Mcp-Param-*`: arguments that a tool's schema wants repeated in headers, and how headers carry text.
//!
//! Promises: what is sent is what MCP 2026-07-28 makes of the arguments; a schema whose annotations break
//! its rules is none that may be called, as clients must not. Called by [`super::wire`] and [`super::listing`].

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Map;
use serde_json::Value;

/// The annotation.
const MIRROR: &str = "x-mcp-header";

/// How deep annotated properties may be nested.
const DEPTH_MAX: usize = 16;

/// A header value as MCP sends it: as it is, or as Base64 where plain ASCII cannot carry it.
pub(super) fn encoded(text: &str) -> String {
    let plain = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    let padded = text.starts_with(' ') || text.ends_with(' ');
    let sentinel = text.starts_with("=?base64?") && text.ends_with("?=");
    if plain && !padded && !sentinel { text.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(text)) }
}

/// The headers of a call: lower-case name and value.
pub(super) fn headers(schema: &Value, arguments: &Map<String, Value>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(schema, arguments, 0, &mut found);
    found
}

fn collect(schema: &Value, arguments: &Map<String, Value>, depth: usize, found: &mut Vec<(String, String)>) {
    for (name, property) in properties(schema) {
        let argument = arguments.get(name);
        if let Some(header) = property.get(MIRROR).and_then(Value::as_str) {
            let value = match argument {
                Some(Value::String(text)) => encoded(text),
                Some(Value::Bool(flag)) => flag.to_string(),
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => continue,
            };
            found.push((format!("mcp-param-{}", header.to_ascii_lowercase()), value));
        } else if let (Some(Value::Object(inner)), true) = (argument, depth < DEPTH_MAX) {
            collect(property, inner, depth + 1, found);
        }
    }
}

/// What is wrong with the annotations of a schema.
pub(super) fn fault(schema: &Value) -> Option<String> {
    let mut names = BTreeSet::new();
    let mut sound = 0;
    let fault = check(schema, 0, &mut names, &mut sound);
    // WHY counting: one that is reached in any other way than through `properties` breaks the rules.
    fault.or_else(|| (count(schema, 0) != sound).then(|| format!("`{MIRROR}` stands where no argument can be found")))
}

fn check(schema: &Value, depth: usize, names: &mut BTreeSet<String>, sound: &mut usize) -> Option<String> {
    for (name, property) in properties(schema) {
        if let Some(header) = property.get(MIRROR) {
            let Some(header) = header.as_str().filter(|header| is_token(header)) else {
                return Some(format!("`{MIRROR}` of `{name}` is not a header name"));
            };
            let kind = property.get("type").and_then(Value::as_str);
            if !matches!(kind, Some("string" | "integer" | "boolean")) {
                return Some(format!("`{name}` has `{MIRROR}` and is not a string, an integer or a boolean"));
            }
            if !names.insert(header.to_ascii_lowercase()) {
                return Some(format!("`{MIRROR}: {header}` stands twice"));
            }
            *sound += 1;
        } else if depth < DEPTH_MAX
            && let Some(fault) = check(property, depth + 1, names, sound)
        {
            return Some(fault);
        }
    }
    None
}

/// How often the annotation stands anywhere but in examples of data.
fn count(value: &Value, depth: usize) -> usize {
    match value {
        Value::Object(members) if depth < 4 * DEPTH_MAX => {
            let own = usize::from(members.contains_key(MIRROR));
            let inner = members.iter().map(|(name, member)| match (name.as_str(), member) {
                ("default" | "const" | "enum" | "examples", _) => 0,
                // WHY: here names are those of arguments, whatever they look like.
                ("properties", Value::Object(members)) => members.values().map(|one| count(one, depth + 1)).sum(),
                (_, member) => count(member, depth + 1),
            });
            own + inner.sum::<usize>()
        }
        Value::Array(members) if depth < 4 * DEPTH_MAX => members.iter().map(|member| count(member, depth + 1)).sum(),
        _ => 0,
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers_of(schema: &Value, arguments: &Value) -> Vec<(String, String)> {
        headers(schema, arguments.as_object().unwrap())
    }

    #[test]
    fn arguments_are_repeated_as_the_schema_asks() {
        let schema = json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"properties": {"level": {"type": "integer", "x-mcp-header": "Level"}}},
            "flag": {"type": "boolean", "x-mcp-header": "Flag"},
            "none": {"type": "string", "x-mcp-header": "None"},
        }});
        assert_eq!(fault(&schema), None);
        let arguments = json!({"region": "Zürich", "deep": {"level": 3}, "flag": true, "none": null});
        let mut found = headers_of(&schema, &arguments);
        found.sort();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let region = format!("=?base64?{}?=", STANDARD.encode("Zürich"));
        assert_eq!(
            found,
            [pair("mcp-param-flag", "true"), pair("mcp-param-level", "3"), pair("mcp-param-region", &region)]
        );
    }

    #[test]
    fn text_that_a_header_would_change_is_sent_as_base64() {
        assert_eq!(encoded("plain text"), "plain text");
        for text in [" padded", "padded ", "line\r\nX-Evil: 1", "=?base64?eA==?=", "\u{7f}", "\t"] {
            assert_eq!(encoded(text), format!("=?base64?{}?=", STANDARD.encode(text)), "{text:?}");
        }
    }

    #[test]
    fn annotations_that_break_the_rules_are_found() {
        let one = |property: Value| json!({"properties": {"a": property}});
        for bad in [
            one(json!({"type": "string", "x-mcp-header": "a b"})),
            one(json!({"type": "string", "x-mcp-header": "X\r\nY"})),
            one(json!({"type": "string", "x-mcp-header": 7})),
            one(json!({"type": "number", "x-mcp-header": "A"})),
            one(json!({"type": "array", "items": {"type": "string", "x-mcp-header": "A"}})),
            json!({"properties": {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}}}),
            json!({"allOf": [{"properties": {"a": {"type": "string", "x-mcp-header": "A"}}}]}),
        ] {
            assert!(fault(&bad).is_some(), "{bad}");
        }
        let odd = json!({"properties": {"x-mcp-header": {"type": "string"}, "default": {"type": "string", "x-mcp-header": "A"}}});
        assert_eq!(fault(&odd), None, "arguments may be called like that");
    }
}
