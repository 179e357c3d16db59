//! What an upstream MCP server answered, and what of it the caller may see.
//!
//! Promises: a result is rebuilt from the members and kinds of content that we know, the server's
//! `_meta` not among them; JSON is looked into wherever it stands, as data, as text or in a
//! resource, and a record of another tenant anywhere withholds the whole; what must be hidden is
//! hidden in every copy, and where that cannot be made sure the answer is withheld. Words, pictures
//! and sounds cannot be looked into. Called by `pep`.

use serde_json::{Map, Value, json};

use super::REDACTED;
use super::bare;
use super::fits;
use super::mentions_other;
use super::names_a_tenant;
use super::record_ids;
use super::refusal;
use super::same_tenant;
use crate::domain::canonical;
use crate::domain::canonical::Limits;
use crate::domain::catalog::Tool;
use crate::domain::catalog::pointer::Pointer;
use crate::domain::identity::Tenant;
use crate::domain::refusal::Code;
use crate::domain::refusal::Refusal;

mod clean;

pub use clean::Form;

/// An upstream server's result, read and rebuilt.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The result, without `_meta`.
    pub result: Map<String, Value>,
    /// Whether a tool says that it failed.
    pub is_error: bool,
    /// How long the server lets it be kept: milliseconds.
    pub ttl_ms: u64,
    /// Every JSON document in it, the one that the settings' pointers are about first.
    documents: Vec<Document>,
    /// Whether it has anything else that tells something.
    opaque: bool,
}

/// A JSON document in a result.
#[derive(Debug, Clone, PartialEq)]
struct Document {
    /// JSON pointer to where it stands.
    at: String,
    /// Whether it stands there as text.
    as_text: bool,
    value: Value,
}

/// Where structured content stands.
const STRUCTURED: &str = "/structuredContent";

impl Said {
    /// Reads a result of this form.
    pub fn read(body: &[u8], form: Form, tool: &Tool, limits: &Limits) -> Result<Self, Refusal> {
        let failed = |what: String| refusal(tool, Code::BackendFailed, what);
        let value = canonical::parse(body, limits).map_err(|fault| failed(super::place(&fault.what).to_owned()))?;
        let Value::Object(raw) = value else { return Err(failed("the result is no object".to_owned())) };
        let result = clean::clean(&raw, form).map_err(|what| failed(what.to_owned()))?;
        let is_error = result.get("isError") == Some(&Value::Bool(true));
        let ttl_ms = raw.get("ttlMs").and_then(Value::as_u64).unwrap_or(0);
        let (documents, opaque) = documents(&result, limits).map_err(|what| failed(what.to_owned()))?;
        let said = Self { result, is_error, ttl_ms, documents, opaque };
        if form == Form::Call && !said.is_error {
            match (said.result.get("structuredContent"), &tool.output) {
                (Some(structured), _) => fits(structured, tool, Code::BackendFailed)?,
                (None, Some(_)) => return Err(failed("the tool has an output schema and gave no data".to_owned())),
                (None, None) => {}
            }
        }
        Ok(said)
    }

    /// The document that pointers of settings and policies are about, if there is one.
    #[must_use]
    pub fn main(&self) -> Option<&Value> {
        self.documents.first().map(|document| &document.value)
    }

    /// INVARIANT: nothing that can be looked into names another tenant, and where the settings say
    /// that an answer names its tenant, it does.
    pub fn of_tenant(&self, tool: &Tool, tenant: &Tenant) -> Result<(), Refusal> {
        let withheld = |why: String| Err(refusal(tool, Code::ResponseWithheld, why));
        match self.main() {
            Some(main) => same_tenant(main, tool, tenant)?,
            None if tool.tenant_pointers().is_empty() || self.is_error => {}
            None => return withheld("nothing in the answer says whose it is".to_owned()),
        }
        let members: Vec<String> = tool.tenant_pointers().iter().filter_map(Pointer::last_member).map(bare).collect();
        let speaks = |name: &str| names_a_tenant(name) || members.iter().any(|known| known == name);
        for document in self.documents.iter().skip(1) {
            if let Some(name) = mentions_other(&document.value, &speaks, tenant.as_str()) {
                return withheld(format!("a `{name}` at `{}` is another tenant's", document.at));
            }
        }
        Ok(())
    }

    /// Ids of the records that the answer names.
    #[must_use]
    pub fn record_ids(&self, tool: &Tool) -> Vec<String> {
        self.main().map(|main| record_ids(main, tool)).unwrap_or_default()
    }

    /// Hides what the caller must not see, in every copy of it. Says which paths hid something.
    pub fn redact(&mut self, tool: &Tool, paths: &[String]) -> Result<Vec<String>, Refusal> {
        let withheld = |why: String| refusal(tool, Code::ResponseWithheld, why);
        let mut hidden = Vec::new();
        let mut hit = Vec::new();
        for path in paths {
            let pointer =
                Pointer::parse(path).map_err(|fault| withheld(format!("a redaction cannot be made: {fault}")))?;
            for document in &mut self.documents {
                pointer.find(&document.value).values.into_iter().for_each(|value| leaves(value, &mut hidden));
                if pointer.replace(&mut document.value, &Value::from(REDACTED)) > 0 && !hit.contains(path) {
                    hit.push(path.clone());
                }
            }
        }
        if hit.is_empty() {
            return Ok(hit);
        }
        if self.opaque {
            let why = "a field must be hidden, and there is content beside the data that cannot be looked into";
            return Err(withheld(why.to_owned()));
        }
        if self.documents.iter().any(|document| repeats(&document.value, &hidden)) {
            return Err(withheld("what must be hidden stands elsewhere in the answer too".to_owned()));
        }
        self.put_back();
        if let Some(structured) = self.result.get("structuredContent").filter(|_| !self.is_error) {
            fits(structured, tool, Code::ResponseWithheld)?;
        }
        Ok(hit)
    }

    /// Writes the documents to where they stood.
    fn put_back(&mut self) {
        let mut result = Value::Object(std::mem::take(&mut self.result));
        for document in &self.documents {
            if let Some(place) = result.pointer_mut(&document.at) {
                *place = if document.as_text { document.value.to_string().into() } else { document.value.clone() };
            }
        }
        if let Value::Object(result) = result {
            self.result = result;
        }
    }
}

/// Whether what a server says beside its answer names another tenant's record.
#[must_use]
pub fn names_another(value: &Value, tenant: &Tenant) -> bool {
    mentions_other(value, &names_a_tenant, tenant.as_str()).is_some()
}

/// Every JSON document of a result, structured content first; and whether there is anything else.
fn documents(result: &Map<String, Value>, limits: &Limits) -> Result<(Vec<Document>, bool), &'static str> {
    let mut found = Vec::new();
    let mut opaque = false;
    if let Some(value) = result.get("structuredContent") {
        found.push(Document { at: STRUCTURED.to_owned(), as_text: false, value: value.clone() });
    }
    for (at, block) in blocks(result) {
        let inner = block.get("resource").filter(|inner| inner.is_object());
        let (at, holder) = inner.map_or_else(|| (at.clone(), block), |inner| (format!("{at}/resource"), inner));
        let Some(text) = holder.get("text").and_then(Value::as_str) else {
            opaque = true;
            continue;
        };
        match document(text, limits)? {
            Some(value) => found.push(Document { at: format!("{at}/text"), as_text: true, value }),
            None => opaque |= !text.trim().is_empty(),
        }
    }
    opaque |= ["description", "completion"].iter().any(|name| result.contains_key(*name));
    Ok((found, opaque))
}

/// The JSON that a text is, if it is an object or a list.
fn document(text: &str, limits: &Limits) -> Result<Option<Value>, &'static str> {
    if !text.trim_start().starts_with(['{', '[']) {
        return Ok(None);
    }
    match canonical::parse(text.as_bytes(), limits) {
        Ok(value) => Ok(Some(value)),
        // WHY: who reads it leniently may find in it what we did not, such as the second of two members.
        Err(_) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            Err("a text is JSON that says a thing twice, or too much")
        }
        Err(_) => Ok(None),
    }
}

/// Every content block, and every content of a resource, with its place.
fn blocks(result: &Map<String, Value>) -> Vec<(String, &Value)> {
    let list = |name: &str| result.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
    let mut found: Vec<(String, &Value)> = Vec::new();
    for name in ["content", "contents"] {
        found.extend(list(name).map(|(at, block)| (format!("/{name}/{at}"), block)));
    }
    found.extend(
        list("messages").filter_map(|(at, message)| Some((format!("/messages/{at}/content"), message.get("content")?))),
    );
    found
}

/// Every text and number in a value.
fn leaves(value: &Value, into: &mut Vec<Value>) {
    match value {
        Value::String(text) if text.is_empty() || text == REDACTED => {}
        Value::String(_) | Value::Number(_) => into.push(value.clone()),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, into)),
        Value::Object(members) => members.values().for_each(|member| leaves(member, into)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Whether a value still says what was hidden: a text that contains it, a number that is it.
fn repeats(value: &Value, hidden: &[Value]) -> bool {
    match value {
        Value::String(text) => hidden.iter().any(|one| match one {
            Value::String(secret) => text.contains(secret.as_str()),
            other => is_written(other, text),
        }),
        Value::Number(_) => hidden.contains(value),
        Value::Array(items) => items.iter().any(|item| repeats(item, hidden)),
        Value::Object(members) => {
            members.iter().any(|(name, member)| repeats(&json!(name), hidden) || repeats(member, hidden))
        }
        Value::Null | Value::Bool(_) => false,
    }
}

/// Whether a text is that number.
fn is_written(number: &Value, text: &str) -> bool {
    let written = number.to_string();
    written == text
}

#[cfg(test)]
mod tests;
