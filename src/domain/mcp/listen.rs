//! `subscriptions/listen`: what a client wants to be told, and the messages that tell it.
//!
//! Promises: what is not understood is not granted; every message carries the id of its subscription,
//! which is that of the request that opened it. Never decides who is told what. Called by
//! `mcp::receive` and `pep`. Modern revision only.

use serde_json::{Map, Value, json};

use crate::domain::mcp::RequestId;
use crate::domain::mcp::receive::INVALID_PARAMS;
use crate::domain::refusal::Fault;

/// Key of the subscription's id in the `_meta` of every message.
pub(super) const SUBSCRIPTION_META: &str = "io.modelcontextprotocol/subscriptionId";
/// Resources that one subscription may name.
const RESOURCES_MAX: usize = 100;

/// What a client wants to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// That its list of tools has changed.
    pub tools: bool,
    /// That its list of prompts has changed.
    pub prompts: bool,
    /// That its list of resources has changed.
    pub resources: bool,
    /// That one of these resources has changed.
    pub uris: Vec<String>,
}

/// A list that may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Of tools.
    Tools,
    /// Of prompts.
    Prompts,
}

impl List {
    /// The label of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
        }
    }

    const fn changed(self) -> &'static str {
        match self {
            Self::Tools => "notifications/tools/list_changed",
            Self::Prompts => "notifications/prompts/list_changed",
        }
    }
}

/// Reads what a request wants to be told.
pub(super) fn filter(params: &Map<String, Value>) -> Result<Filter, Fault> {
    let invalid = |message: &str| Fault::new(200, INVALID_PARAMS, message);
    let Some(Value::Object(wanted)) = params.get("notifications") else {
        return Err(invalid("`notifications` must be an object that names what to be told"));
    };
    let flag = |name: &str| match wanted.get(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(invalid(&format!("`notifications.{name}` must be true or false"))),
    };
    let uris = match wanted.get("resourceSubscriptions") {
        None => Vec::new(),
        Some(Value::Array(uris)) if uris.len() <= RESOURCES_MAX => {
            let texts = uris.iter().map(|uri| uri.as_str().map(str::to_owned)).collect::<Option<_>>();
            texts.ok_or_else(|| invalid("`notifications.resourceSubscriptions` must hold strings"))?
        }
        Some(_) => {
            let message =
                format!("`notifications.resourceSubscriptions` must be a list of at most {RESOURCES_MAX} URIs");
            return Err(invalid(&message));
        }
    };
    Ok(Filter {
        tools: flag("toolsListChanged")?,
        prompts: flag("promptsListChanged")?,
        resources: flag("resourcesListChanged")?,
        uris,
    })
}

impl Filter {
    /// As the wire has it: what is not told is left out.
    fn wire(&self) -> Value {
        let flags = [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ];
        let told = flags.into_iter().filter(|(_, told)| *told).map(|(name, _)| (name.to_owned(), true.into()));
        let uris = Some(&self.uris).filter(|uris| !uris.is_empty());
        told.chain(uris.map(|uris| ("resourceSubscriptions".to_owned(), json!(uris)))).collect::<Map<_, _>>().into()
    }
}

/// The first message: what will be told.
#[must_use]
pub fn acknowledged(id: &RequestId, honoured: &Filter) -> Vec<u8> {
    let params = json!({"_meta": {SUBSCRIPTION_META: id}, "notifications": honoured.wire()});
    notification("notifications/subscriptions/acknowledged", &params)
}

/// A list is no longer what it was.
#[must_use]
pub fn changed(id: &RequestId, list: List) -> Vec<u8> {
    notification(list.changed(), &json!({"_meta": {SUBSCRIPTION_META: id}}))
}

fn notification(method: &str, params: &Value) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(params: &Value) -> Result<Filter, Fault> {
        filter(params.as_object().unwrap())
    }

    #[test]
    fn only_what_is_asked_for_is_told() {
        assert_eq!(read(&json!({"notifications": {}})), Ok(Filter::default()));
        let asked = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": false,
            "resourceSubscriptions": ["file:///a"], "somethingNew": 7}});
        assert_eq!(read(&asked), Ok(Filter { tools: true, uris: vec!["file:///a".to_owned()], ..Filter::default() }));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused() {
        let many = vec!["u"; RESOURCES_MAX + 1];
        for params in [
            json!({}),
            json!({"notifications": []}),
            json!({"notifications": {"toolsListChanged": "yes"}}),
            json!({"notifications": {"resourceSubscriptions": [1]}}),
            json!({"notifications": {"resourceSubscriptions": "file:///a"}}),
            json!({"notifications": {"resourceSubscriptions": many}}),
        ] {
            assert_eq!(read(&params).unwrap_err().code, INVALID_PARAMS, "{params}");
        }
    }

    #[test]
    fn every_message_names_its_subscription() {
        let value = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
        let id = RequestId::Text("listen-1".to_owned());
        assert_eq!(
            value(acknowledged(&id, &Filter { tools: true, ..Filter::default() })),
            json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {
                "_meta": {"io.modelcontextprotocol/subscriptionId": "listen-1"}, "notifications": {"toolsListChanged": true}}})
        );
        assert_eq!(
            value(changed(&RequestId::Number(9), List::Tools)),
            json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed",
                "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": 9}}})
        );
    }
}
