//! Reading what a server offers: every list, over all its pages.
//!
//! Promises: bounded in pages, elements and bytes; a list is read only if the server says that it has it; pages
//! that go in a circle end in a fault. A tool whose header annotations break the rules is left out, as clients
//! must. Called by [`super::watch`].

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tracing::warn;

use super::hear::Ask;
use super::hear::Heard;
use super::hear::Said;
use super::meet::own;
use super::meet::words;
use super::params;
use super::server::Spoken;
use super::server::Upstream;
use super::wire::Manner;
use crate::domain::upstream::Offer;
use crate::pep::ports::SendFault;
use crate::pep::ports::SendFaultKind;

/// The server does not know the method.
const METHOD_NOT_FOUND: i64 = -32601;

/// Longest cursor that is sent back.
const CURSOR_BYTES_MAX: usize = 64 * 1024;

impl Upstream {
    /// All that is offered now.
    pub(super) async fn offered(&self, spoken: &Spoken) -> Result<Offer, SendFault> {
        let has = |capability: &str| spoken.capabilities.contains_key(capability);
        let mut offer = Offer {
            server: self.settings.name.clone(),
            era: spoken.era,
            capabilities: spoken.capabilities.clone(),
            tools: Vec::new(),
            prompts: Vec::new(),
            resources: Vec::new(),
            templates: Vec::new(),
        };
        if has("tools") {
            let tools = self.list(spoken, "tools/list", "tools").await?;
            offer.tools = tools.into_iter().filter(|tool| self.is_callable(tool)).collect();
        }
        if has("prompts") {
            offer.prompts = self.list(spoken, "prompts/list", "prompts").await?;
        }
        if has("resources") {
            offer.resources = self.list(spoken, "resources/list", "resources").await?;
            offer.templates = self.list(spoken, "resources/templates/list", "resourceTemplates").await?;
        }
        Ok(offer)
    }

    fn is_callable(&self, tool: &Value) -> bool {
        let Some(fault) = tool.get("inputSchema").and_then(params::fault) else { return true };
        let (server, name) = (&self.settings.name, tool.get("name").and_then(Value::as_str).unwrap_or_default());
        warn!("upstream `{server}`: a tool is left out: {fault}; tool: {name:?}");
        false
    }

    async fn list(&self, spoken: &Spoken, method: &str, member: &str) -> Result<Vec<Value>, SendFault> {
        let session = spoken.session.as_ref().and_then(|session| session.id.as_deref());
        let manner = Manner { era: spoken.era, session, headers: &[] };
        let leaving = AtomicBool::new(false);
        let (mut found, mut cursors, mut params) = (Vec::new(), BTreeSet::new(), Map::new());
        for _ in 0..self.limits().pages {
            let ask = own(manner, method, &params, &leaving);
            let broken = |detail: String| ask.fault(SendFaultKind::Broken, format!("`{method}`: {detail}"));
            let Some(mut page) = result(ask, &self.ask_in_time(ask).await?)? else { return Ok(found) };
            let Some(Value::Array(items)) = page.remove(member) else {
                return Err(broken(format!("there is no `{member}` in the answer")));
            };
            if found.len() + items.len() > self.limits().items {
                return Err(broken(format!("more than {} elements", self.limits().items)));
            }
            if !items.iter().all(Value::is_object) {
                return Err(broken("an element is no object".to_owned()));
            }
            found.extend(items);
            let cursor = match page.get("nextCursor") {
                None | Some(Value::Null) => return Ok(found),
                Some(Value::String(cursor)) if cursor.len() <= CURSOR_BYTES_MAX => cursor.clone(),
                Some(_) => return Err(broken("`nextCursor` cannot be followed".to_owned())),
            };
            if !cursors.insert(cursor.clone()) {
                return Err(broken("the pages go in a circle".to_owned()));
            }
            params.insert("cursor".to_owned(), json!(cursor));
        }
        let detail = format!("`{method}`: more than {} pages", self.limits().pages);
        Err(SendFault { kind: SendFaultKind::TooLarge, bytes_left: true, detail })
    }
}

/// The result of a list; none where the server does not have it after all.
fn result(ask: Ask<'_>, heard: &Heard) -> Result<Option<Map<String, Value>>, SendFault> {
    match &heard.said {
        Said::Result(result) => match result.get("resultType").and_then(Value::as_str) {
            None | Some("complete") => Ok(Some(result.clone())),
            Some(_) => Err(ask.fault(SendFaultKind::Broken, format!("`{}`: the answer is not complete", ask.method))),
        },
        Said::Error(error) if error.get("code") == Some(&json!(METHOD_NOT_FOUND)) => Ok(None),
        Said::Error(_) | Said::Nothing => {
            Err(ask.fault(SendFaultKind::Broken, format!("`{}` was refused: {}", ask.method, words(heard))))
        }
    }
}
