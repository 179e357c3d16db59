//! Paths and pointers: a value fills one segment, whatever it holds.
//!
//! The first byte says what the rest is:
//! - a template and values: what is built has the template's segments, each one encoded value, none of
//!   them a dot segment to anybody, and a raw call of that path means the same tool and values;
//! - a raw path: whatever it is taken for is sent as the same path, segment for segment;
//! - a JSON pointer and a document: what is found is what is replaced, and a name that is escaped
//!   finds that very member.

use std::sync::LazyLock;

use loopgate::domain::catalog::pointer::{Pointer, escape};
use loopgate::domain::catalog::raw::RawCatalog;
use loopgate::domain::catalog::{BUILT_IN, Catalog};
use loopgate::domain::mcp::ToolCall;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

static LOOPIQ: LazyLock<Catalog> = LazyLock::new(|| Catalog::from_yaml(BUILT_IN).expect("the catalog is good"));

/// Holds of any bytes.
pub fn holds(mut data: &[u8]) {
    let [kind] = super::take(&mut data);
    match kind % 3 {
        0 => built(data),
        1 => raw(data),
        _ => pointed(data),
    }
}

/// A template, then the values of its variables in order.
fn built(data: &[u8]) {
    let mut parts = super::parts(data).into_iter();
    let template = parts.next().unwrap_or_default();
    let names: Vec<&str> =
        template.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect();
    if names.len() > 4 {
        return;
    }
    let Ok(catalog) = catalog(&template, &names) else { return };
    let tool = catalog.tool("t").expect("the tool is there");
    let values: Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), Value::String(parts.next().unwrap_or_default()))).collect();
    let Ok(request) = tool.request(&values, false) else { return };
    let path = request.path_and_query;
    is_a_plain_path(&path);
    let (made, meant): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), template.split('/').collect());
    assert_eq!(made.len(), meant.len(), "{path} is not of {template}");
    for (made, meant) in made.iter().zip(&meant) {
        let Some(name) = meant.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            assert_eq!(made, meant, "a literal changed");
            continue;
        };
        let decoded = percent_decode_str(made).decode_utf8().expect("it was text");
        assert_eq!(values.get(name).and_then(Value::as_str), Some(decoded.as_ref()), "decoding is not the way back");
    }
    let call = invocation(&path);
    let Ok(target) = catalog.resolve(&call) else {
        let slash = values.values().filter_map(Value::as_str).any(|value| value.contains(['/', '\\']));
        assert!(slash, "{path} was built and cannot be invoked");
        return;
    };
    assert_eq!(target.tool.name, "t", "it is taken for another tool");
    assert_eq!(target.arguments, values, "it is taken for other values");
}

fn catalog(template: &str, names: &[&str]) -> Result<Catalog, ()> {
    let properties: Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
    let invoke = json!({"name": "loopiq_invoke_route", "title": "t", "description": "d", "family": "gateway",
        "effect": "read", "gateway": "invoke_route", "input": {"type": "object", "required": ["method", "path"],
        "properties": {"method": {"type": "string"}, "path": {"type": "string"}}}});
    let tool = json!({"name": "t", "title": "t", "description": "d", "family": "f", "effect": "read",
        "route": format!("GET {template}"), "tenant_fields": [], "record_ids": [],
        "input": {"type": "object", "required": names, "properties": properties}});
    let raw = json!({"schema": 1, "tools": [invoke, tool]});
    let raw: RawCatalog = serde_json::from_value(raw).expect("the form is right");
    Catalog::from_raw(&raw).map_err(|_| ())
}

fn invocation(path: &str) -> ToolCall {
    let arguments = json!({"method": "GET", "path": path}).as_object().cloned().unwrap_or_default();
    ToolCall { name: "loopiq_invoke_route".to_owned(), arguments, ..ToolCall::default() }
}

/// What nobody on the way can read as another path.
fn is_a_plain_path(path: &str) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%:@".contains(&byte);
    assert!(path.starts_with('/') && path.bytes().all(allowed), "{path:?}");
    let mut seen = path.to_owned();
    for _ in 0..3 {
        let dots = seen.split(['/', '\\']).any(|part| matches!(part.split(';').next(), Some("." | "..")));
        assert!(!dots, "{path:?} has a dot segment to somebody");
        seen = percent_decode_str(&seen).decode_utf8_lossy().into_owned();
    }
}

fn raw(data: &[u8]) {
    let path = String::from_utf8_lossy(data);
    let Ok(target) = LOOPIQ.resolve(&invocation(&path)) else { return };
    let Ok(request) = target.tool.request(&target.arguments, false) else { return };
    is_a_plain_path(&request.path_and_query);
    let decoded = |path: &str| -> Vec<String> {
        path.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
    };
    assert_eq!(decoded(&request.path_and_query), decoded(&path), "another path is sent than was judged");
}

/// A pointer, a name, and a document.
fn pointed(data: &[u8]) {
    let parts = super::parts(data);
    let [pointer, name, document, ..] = parts.as_slice() else { return };
    let Ok(mut document) = serde_json::from_str::<Value>(document) else { return };
    if let Ok(pointer) = Pointer::parse(pointer) {
        let found = pointer.find(&document).values.len();
        let mark = json!("\u{1}mark");
        assert_eq!(pointer.replace(&mut document, &mark), found, "what is found is what is replaced");
        let replaced = pointer.find(&document);
        assert!(replaced.values.iter().all(|value| **value == mark), "something was left");
        assert_eq!(replaced.values.len(), found);
    }
    let holder = json!({name.clone(): 1, "other": 2});
    let to_it = Pointer::parse(&format!("/{}", escape(name))).expect("an escaped name is a pointer");
    if name != "*" && name != "other" {
        assert_eq!(to_it.find(&holder).values, [&json!(1)], "it finds another member");
        assert_eq!(to_it.last_member(), Some(name.as_str()));
    }
}
