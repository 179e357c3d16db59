//! A result rebuilt from what we know of its form.
//!
//! Promises: every member has its type and every content block is of a known kind, or the result is
//! none; `_meta`, icons and unknown members stay out. Never looks at what the content says. Called
//! by [`super`].

use serde_json::{Map, Value};

/// Content blocks, messages or contents of one result.
const PARTS_MAX: usize = 1_000;
/// Values of one completion, as MCP bounds them.
const VALUES_MAX: usize = 100;

/// What kind of result it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Of `tools/call`.
    Call,
    /// Of `prompts/get`.
    Prompt,
    /// Of `resources/read`.
    Resource,
    /// Of `completion/complete`.
    Completion,
    /// Of what only says that it is done.
    Done,
}

/// A rebuilt value, or what is wrong with it.
type Clean<T = Map<String, Value>> = Result<T, &'static str>;

/// The result, rebuilt.
pub(super) fn clean(raw: &Map<String, Value>, form: Form) -> Clean {
    let mut made = Map::new();
    match form {
        Form::Call => {
            made.insert("content".to_owned(), list(raw, "content", block)?);
            made.insert("isError".to_owned(), flag(raw, "isError")?.into());
            if let Some(structured) = raw.get("structuredContent") {
                made.insert("structuredContent".to_owned(), structured.clone());
            }
        }
        Form::Prompt => {
            texts(raw, &["description"], &mut made)?;
            made.insert("messages".to_owned(), list(raw, "messages", message)?);
        }
        Form::Resource => drop(made.insert("contents".to_owned(), list(raw, "contents", contents)?)),
        Form::Completion => drop(made.insert("completion".to_owned(), completion(raw)?)),
        Form::Done => {}
    }
    Ok(made)
}

fn list(raw: &Map<String, Value>, name: &str, each: fn(&Map<String, Value>) -> Clean) -> Clean<Value> {
    let items = match raw.get(name) {
        None => return Ok(Value::Array(Vec::new())),
        Some(Value::Array(items)) if items.len() <= PARTS_MAX => items,
        Some(_) => return Err("a list is none, or is too long"),
    };
    let object = |item: &Value| item.as_object().ok_or("an element of a list is no object").and_then(each);
    items.iter().map(|item| object(item).map(Value::Object)).collect::<Clean<Vec<Value>>>().map(Value::Array)
}

fn message(raw: &Map<String, Value>) -> Clean {
    let role = raw.get("role").filter(|role| matches!(role.as_str(), Some("user" | "assistant")));
    let content = raw.get("content").and_then(Value::as_object).ok_or("a message has no content")?;
    Ok(Map::from_iter([
        ("role".to_owned(), role.ok_or("a message is of nobody")?.clone()),
        ("content".to_owned(), Value::Object(block(content)?)),
    ]))
}

fn block(raw: &Map<String, Value>) -> Clean {
    let kind = raw.get("type").and_then(Value::as_str).unwrap_or_default();
    let mut made = Map::from_iter([("type".to_owned(), Value::from(kind))]);
    match kind {
        "text" => need(raw, &["text"], &mut made)?,
        "image" | "audio" => need(raw, &["data", "mimeType"], &mut made)?,
        "resource" => {
            let inner = raw.get("resource").and_then(Value::as_object).ok_or("an embedded resource is none")?;
            made.insert("resource".to_owned(), Value::Object(contents(inner)?));
        }
        "resource_link" => {
            need(raw, &["uri", "name"], &mut made)?;
            texts(raw, &["title", "description", "mimeType"], &mut made)?;
            if let Some(size) = raw.get("size").and_then(Value::as_u64) {
                made.insert("size".to_owned(), size.into());
            }
        }
        _ => return Err("a content block is of no known kind"),
    }
    annotations(raw, &mut made)?;
    Ok(made)
}

fn contents(raw: &Map<String, Value>) -> Clean {
    let mut made = Map::new();
    need(raw, &["uri"], &mut made)?;
    texts(raw, &["mimeType", "text", "blob"], &mut made)?;
    if made.contains_key("text") == made.contains_key("blob") {
        return Err("a resource has either a text or a blob");
    }
    Ok(made)
}

fn completion(raw: &Map<String, Value>) -> Clean<Value> {
    let said = raw.get("completion").and_then(Value::as_object).ok_or("a completion is none")?;
    let values = said.get("values").and_then(Value::as_array).ok_or("a completion has no values")?;
    if values.len() > VALUES_MAX || !values.iter().all(Value::is_string) {
        return Err("a completion's values are no texts, or too many");
    }
    let mut made = Map::from_iter([("values".to_owned(), Value::Array(values.clone()))]);
    if let Some(total) = said.get("total").and_then(Value::as_u64) {
        made.insert("total".to_owned(), total.into());
    }
    if let Some(more) = said.get("hasMore").and_then(Value::as_bool) {
        made.insert("hasMore".to_owned(), more.into());
    }
    Ok(Value::Object(made))
}

/// `audience`, `priority` and `lastModified`, the only annotations that there are.
fn annotations(raw: &Map<String, Value>, made: &mut Map<String, Value>) -> Clean<()> {
    let Some(said) = raw.get("annotations").filter(|said| !said.is_null()) else { return Ok(()) };
    let said = said.as_object().ok_or("annotations are no object")?;
    let mut kept = Map::new();
    let is_role = |role: &Value| matches!(role.as_str(), Some("user" | "assistant"));
    for (name, value) in said {
        let proper = match name.as_str() {
            "audience" => value.as_array().is_some_and(|roles| roles.len() <= 2 && roles.iter().all(is_role)),
            "priority" => value.is_number(),
            "lastModified" => value.is_string(),
            _ => false,
        };
        if proper {
            kept.insert(name.clone(), value.clone());
        }
    }
    made.insert("annotations".to_owned(), Value::Object(kept));
    Ok(())
}

/// Texts that must be there.
fn need(raw: &Map<String, Value>, names: &[&str], made: &mut Map<String, Value>) -> Clean<()> {
    texts(raw, names, made)?;
    if names.iter().all(|name| made.contains_key(*name)) { Ok(()) } else { Err("a content block lacks a member") }
}

/// Texts that may be there.
fn texts(raw: &Map<String, Value>, names: &[&str], made: &mut Map<String, Value>) -> Clean<()> {
    for name in names {
        match raw.get(*name) {
            None | Some(Value::Null) => {}
            Some(text @ Value::String(_)) => drop(made.insert((*name).to_owned(), text.clone())),
            Some(_) => return Err("a text is none"),
        }
    }
    Ok(())
}

fn flag(raw: &Map<String, Value>, name: &str) -> Clean<bool> {
    match raw.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err("a flag is none"),
    }
}
