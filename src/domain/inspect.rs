//! What a backend's answer may tell the caller.
//!
//! Promises: an answer that names another tenant, or none where one is declared, is withheld and
//! nothing of it is repeated, not even in words; obligations redact before anyone sees a value; a
//! backend's no becomes a refusal with the backend's reason, cleaned and bounded. Never shows what
//! it could not read in full, and never calls a write failed that the backend accepted.
//! Called by `pep`.

use serde_json::Value;

use crate::domain::canonical;
use crate::domain::canonical::Flaw;
use crate::domain::canonical::Limits;
use crate::domain::catalog::Tool;
use crate::domain::catalog::pointer::Pointer;
use crate::domain::catalog::text::plain;
use crate::domain::identity::Tenant;
use crate::domain::identity::is_tenant_id;
use crate::domain::refusal::Code;
use crate::domain::refusal::Refusal;

pub mod said;
mod verdict;

/// What stands where something was redacted.
pub const REDACTED: &str = "[redacted]";

/// Record ids that are kept of one answer; audit and policy facts need no more.
const RECORD_IDS_MAX: usize = 1_000;
/// A longer "id" is no id.
const RECORD_ID_CHARS_MAX: usize = 256;

/// An answer that may be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspected {
    /// The answer, redacted.
    pub value: Value,
    /// Ids of the records it names, each once, in its order.
    pub record_ids: Vec<String>,
    /// The redaction paths that hid something.
    pub redacted: Vec<String>,
}

impl Inspected {
    /// An answer that the gateway made itself, so that it has nothing to inspect.
    #[must_use]
    pub fn own(value: Value) -> Self {
        Self { value, record_ids: Vec::new(), redacted: Vec::new() }
    }

    /// Hides what the caller must not see, after policy has looked at the answer's facts.
    pub fn redact(&mut self, tool: &Tool, redactions: &[String]) -> Result<(), Refusal> {
        let redacted = redact(&mut self.value, tool, redactions)?;
        if !redacted.is_empty() {
            fits(&self.value, tool, Code::ResponseWithheld)?;
        }
        if !redacted.is_empty() {
            // WHY: what the caller must not see in the answer, they must not read beside it either.
            self.record_ids = record_ids(&self.value, tool);
            self.record_ids.retain(|id| id != REDACTED);
        }
        self.redacted.extend(redacted);
        Ok(())
    }
}

/// Whether the backend did what it was asked: passes on success, else the refusal for its status.
///
/// `retry_after` is the header of that name; `body` is read for `{"error": {"code", "message"}}`.
pub fn judge(tool: &Tool, status: u16, retry_after: Option<&str>, body: &[u8]) -> Result<(), Refusal> {
    verdict::judge(tool, status, retry_after, body)
}

/// Reads a successful answer and decides what of it the caller may see.
pub fn inspect(
    body: &[u8],
    content_type: Option<&str>,
    tool: &Tool,
    tenant: &Tenant,
    limits: &Limits,
    redactions: &[String],
) -> Result<Inspected, Refusal> {
    let mut value = read(body, content_type, tool, limits)?;
    if !body.is_empty() {
        same_tenant(&value, tool, tenant)?;
    }
    fits(&value, tool, Code::BackendFailed)?;
    let record_ids = record_ids(&value, tool);
    let redacted = redact(&mut value, tool, redactions)?;
    if !redacted.is_empty() {
        fits(&value, tool, Code::ResponseWithheld)?;
    }
    Ok(Inspected { value, record_ids, redacted })
}

fn read(body: &[u8], content_type: Option<&str>, tool: &Tool, limits: &Limits) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media != "application/json" && !(media.starts_with("application/") && media.ends_with("+json")) {
        return Err(refusal(tool, Code::BackendFailed, format!("the answer is `{}`, not JSON", plain(&media, 80))));
    }
    canonical::parse(body, limits).map_err(|fault| {
        let code = match fault.what {
            Flaw::TooLong(_) | Flaw::TooManyMembers(_) => Code::ResponseTooLarge,
            Flaw::Syntax(_) | Flaw::DuplicateKey(_) | Flaw::UnsafeNumber | Flaw::TooDeep(_) => Code::BackendFailed,
        };
        refusal(tool, code, format!("the answer is {} bytes and cannot be read: {}", body.len(), place(&fault.what)))
    })
}

/// The flaw in words that repeat nothing of the answer: a key may be a foreign record's id.
fn place(flaw: &Flaw) -> &'static str {
    match flaw {
        Flaw::Syntax(_) => "it is not valid JSON",
        Flaw::DuplicateKey(_) => "a key stands twice",
        Flaw::UnsafeNumber => "a number is beyond 2^53-1",
        Flaw::TooDeep(_) => "it is nested too deep",
        Flaw::TooManyMembers(_) => "it has too many members",
        Flaw::TooLong(_) => "it is too long",
    }
}

/// INVARIANT: an answer passes only if every declared place names the caller's tenant and nothing
/// else in it names another one.
fn same_tenant(value: &Value, tool: &Tool, tenant: &Tenant) -> Result<(), Refusal> {
    let withheld = |why: String| Err(refusal(tool, Code::ResponseWithheld, why));
    let pointers = tool.tenant_pointers();
    let mut named = pointers.is_empty();
    for pointer in pointers {
        let found = pointer.find(value);
        if found.values.iter().any(|at| at.as_str() != Some(tenant.as_str())) {
            return withheld(format!("a record at `{pointer}` is another tenant's"));
        }
        if found.lacking {
            return withheld(format!("a record at `{pointer}` does not say whose it is"));
        }
        named |= found.vacant || !found.values.is_empty();
    }
    if !named {
        return withheld("nothing in the answer says whose it is".to_owned());
    }
    // WHY: a backend that starts to nest records elsewhere must not get around the declared places.
    let members: Vec<String> = pointers.iter().filter_map(Pointer::last_member).map(bare).collect();
    let declared = |name: &str| name.contains("tenant") && members.iter().any(|known| known == name);
    if let Some(name) = mentions_other(value, &|name| declared(name) || names_a_tenant(name), tenant.as_str()) {
        return withheld(format!("a `{name}` outside the declared places is another tenant's"));
    }
    Ok(())
}

/// A member's name as it is compared: `tenant_id`, `Tenant-ID` and `tenantId` are one.
fn bare(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether a member of this bare name says whose a record is. WHY not every name with `tenant` in it:
/// `tenantName` and `tenantStatus` of the caller's own records differ from the tenant's id.
fn names_a_tenant(name: &str) -> bool {
    let is_id = |rest: &str| matches!(rest, "" | "id" | "key" | "ref" | "uuid" | "code" | "slug");
    name.strip_prefix("tenant").is_some_and(|rest| is_id(rest.strip_suffix('s').unwrap_or(rest)))
        || matches!(name, "org" | "orgid" | "organisationid" | "organizationid")
}

/// The bare name of a member, at any depth, that says whose a record is and holds another tenant's id.
fn mentions_other(value: &Value, speaks: &dyn Fn(&str) -> bool, tenant: &str) -> Option<String> {
    match value {
        Value::Object(members) => members.iter().find_map(|(key, member)| {
            let name = bare(key);
            // WHY: `org` is also what people call a company by its name, which is no id.
            let is_id = |text: &str| name != "org" || is_tenant_id(text);
            let is_foreign = speaks(&name) && is_other(member, &is_id, tenant);
            if is_foreign { Some(name) } else { mentions_other(member, speaks, tenant) }
        }),
        Value::Array(items) => items.iter().find_map(|item| mentions_other(item, speaks, tenant)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Whether the value of such a member is another tenant: its id, a record with its id, or a list of either.
fn is_other(value: &Value, is_id: &dyn Fn(&str) -> bool, tenant: &str) -> bool {
    match value {
        Value::String(text) => text != tenant && is_id(text),
        Value::Array(items) => items.iter().any(|item| is_other(item, is_id, tenant)),
        Value::Object(members) => members.iter().any(|(key, member)| {
            matches!(bare(key).as_str(), "id" | "key") && member.as_str().is_some_and(|text| text != tenant)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn fits(value: &Value, tool: &Tool, code: Code) -> Result<(), Refusal> {
    tool.validate_answer(value)
        .map_err(|what| refusal(tool, code, format!("the answer does not fit the tool's output schema: {what}")))
}

fn record_ids(value: &Value, tool: &Tool) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for pointer in tool.record_pointers() {
        for at in pointer.find(value).values {
            let id = match at {
                Value::String(text) => plain(text, RECORD_ID_CHARS_MAX),
                Value::Number(number) => number.to_string(),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => continue,
            };
            if ids.len() == RECORD_IDS_MAX {
                return ids;
            }
            if !id.is_empty() && seen.insert(id.clone()) {
                ids.push(id);
            }
        }
    }
    ids
}

fn redact(value: &mut Value, tool: &Tool, redactions: &[String]) -> Result<Vec<String>, Refusal> {
    let mut redacted = Vec::new();
    for path in redactions {
        let pointer = Pointer::parse(path)
            .map_err(|fault| refusal(tool, Code::ResponseWithheld, format!("a redaction cannot be made: {fault}")))?;
        if pointer.replace(value, &Value::from(REDACTED)) > 0 {
            redacted.push(path.clone());
        }
    }
    Ok(redacted)
}

/// A refusal of an answer, with what only operators see. Whoever asked for a write learns that it
/// was accepted: a second try would be a second write.
fn refusal(tool: &Tool, code: Code, detail: impl std::fmt::Display) -> Refusal {
    let refusal = Refusal::of(code).detail(format!("`{}`: {detail}", tool.name));
    if !tool.writes() {
        return refusal;
    }
    let mut refusal =
        refusal.then("LoopIQ accepted the write; do not send it again, and tell an operator the request id");
    refusal.retryable = false;
    refusal
}

#[cfg(test)]
mod tests;
