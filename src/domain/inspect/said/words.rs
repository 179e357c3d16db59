//! Members of JSON that stands within words: one document to a line, in a fence, after a heading, as a
//! text within a text, in a blob.
//!
//! Promises: looks at each text once, in linear time; finds `"name": "value"` however it is wrapped, and
//! nothing that is written otherwise. Never decides what a member means. Called by [`super`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::bare;

/// Longest name or value that is looked at, in bytes.
const QUOTED_BYTES_MAX: usize = 160;

/// Which members are looked for, by bare name and value; the value of one that is no text is empty.
pub(super) type Such<'a> = &'a dyn Fn(&str, &str) -> bool;

/// The bare name of the first such member in any text of a value.
pub(super) fn member(value: &Value, such: Such<'_>) -> Option<String> {
    match value {
        Value::String(text) => within(text, such),
        Value::Array(items) => items.iter().find_map(|item| member(item, such)),
        Value::Object(members) => members.iter().find_map(|(name, one)| {
            let blob = if name == "blob" { one.as_str().and_then(decoded) } else { None };
            blob.and_then(|text| within(&text, such)).or_else(|| member(one, such))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The text that a blob is, if it is one.
fn decoded(blob: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(blob).ok()?).ok()
}

fn within(text: &str, such: Such<'_>) -> Option<String> {
    text.match_indices('"').find_map(|(at, _)| {
        let (name, rest) = quoted(text.get(at..)?)?;
        let rest = unescaped(rest).strip_prefix(':')?;
        let value = quoted(unescaped(rest)).map_or("", |(value, _)| value);
        let name = bare(name);
        such(&name, value).then_some(name)
    })
}

/// What stands between the quotation mark that a text begins with and the next one, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let end = inner.bytes().take(QUOTED_BYTES_MAX).position(|byte| byte == b'"')?;
    Some((inner.get(..end)?.trim_end_matches('\\'), inner.get(end + 1..)?))
}

/// What follows space, and backslashes: JSON within a text of JSON has them.
fn unescaped(text: &str) -> &str {
    text.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '\\')
}
