//! What a call needs to hear from its user, and what the client brings back: MCP 2026-07-28 only.
//!
//! Promises: nothing is asked that the client has not said it can ask; answers and state come back
//! bounded and of the right type, or the call is refused. State is the client's word until whoever
//! sealed it has opened it, and an answer is what the user is said to have said: neither is proof of
//! anything. Never asks for a secret. Called by `mcp::receive` and `pep`.

use serde_json::{Map, Value, json};

use crate::domain::mcp::receive::{CAPABILITIES_META, INVALID_PARAMS};
use crate::domain::mcp::{Request, ToolCall};
use crate::domain::refusal::Fault;

/// Longest `requestState`, and longest `inputResponses` as JSON, in bytes.
pub const INPUT_BYTES_MAX: usize = 16 * 1024;

impl Request {
    /// Whether the client can put a form to its user in the middle of this call.
    #[must_use]
    pub fn elicits_form(&self) -> bool {
        let declared =
            self.meta.get(CAPABILITIES_META).and_then(|all| all.get("elicitation")).and_then(Value::as_object);
        // An empty object means forms and nothing else; one that names modes means those.
        self.era.is_modern()
            && declared.is_some_and(|modes| modes.is_empty() || modes.get("form").is_some_and(Value::is_object))
    }
}

/// Takes what the client brings back with a call that is made again.
pub(super) fn read(params: &mut Map<String, Value>, call: &mut ToolCall) -> Result<(), Fault> {
    call.input_responses = match params.remove("inputResponses") {
        None => Map::new(),
        Some(Value::Object(responses)) if responses.values().all(Value::is_object) => responses,
        Some(_) => return Err(fault("`inputResponses` must be an object of objects")),
    };
    call.request_state = match params.remove("requestState") {
        None => None,
        Some(Value::String(state)) => Some(state),
        Some(_) => return Err(fault("`requestState` must be a string")),
    };
    let long = |text: &str| text.len() > INPUT_BYTES_MAX;
    if call.request_state.as_deref().is_some_and(long) {
        return Err(fault("`requestState` is longer than 16 KiB"));
    }
    if !call.input_responses.is_empty() && long(&json!(call.input_responses).to_string()) {
        return Err(fault("`inputResponses` is longer than 16 KiB"));
    }
    Ok(())
}

/// The answer to a `requestState` that is not one of this caller's, whatever is wrong with it.
#[must_use]
pub fn bad_state() -> Fault {
    fault("`requestState` is not one that you were given, or no longer good; call again without it")
}

/// A form to put to the user; `schema` is flat: an object of strings, numbers, booleans and choices.
#[must_use]
pub fn form(message: &str, schema: &Value) -> Value {
    let params = json!({"mode": "form", "message": message, "requestedSchema": schema});
    json!({"method": "elicitation/create", "params": params})
}

/// What became of a form.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// The user filled it in.
    Accepted(Map<String, Value>),
    /// The user said no.
    Declined,
    /// The user closed it without a choice.
    Cancelled,
}

impl ToolCall {
    /// The answer to the form of that name; none when the client brought none, and then it is asked again.
    pub fn answered(&self, name: &str) -> Result<Option<Answered>, Fault> {
        let Some(response) = self.input_responses.get(name) else {
            return Ok(None);
        };
        let content = match response.get("content") {
            None => Map::new(),
            Some(Value::Object(content)) => content.clone(),
            Some(_) => return Err(fault("the `content` of an input response must be an object")),
        };
        match response.get("action").and_then(Value::as_str) {
            Some("accept") => Ok(Some(Answered::Accepted(content))),
            Some("decline") => Ok(Some(Answered::Declined)),
            Some("cancel") => Ok(Some(Answered::Cancelled)),
            _ => Err(fault("the `action` of an input response must be `accept`, `decline` or `cancel`")),
        }
    }
}

fn fault(message: &str) -> Fault {
    Fault::new(200, INVALID_PARAMS, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mcp::{Ask, Era, RequestId};

    fn request(era: Era, capabilities: Value) -> Request {
        let meta = Map::from_iter([(CAPABILITIES_META.to_owned(), capabilities)]);
        Request { era, id: RequestId::Number(1), ask: Ask::Ping, meta }
    }

    #[test]
    fn a_form_is_put_only_by_modern_clients_that_say_they_can() {
        for (capabilities, expected) in [
            (json!({"elicitation": {}}), true),
            (json!({"elicitation": {"form": {}}}), true),
            (json!({"elicitation": {"form": {}, "url": {}}}), true),
            (json!({"elicitation": {"url": {}}}), false),
            (json!({"elicitation": {"form": null}}), false),
            (json!({"elicitation": {"form": true}}), false),
            (json!({"elicitation": null}), false),
            (json!({"elicitation": true}), false),
            (json!({"elicitation": []}), false),
            (json!({"experimental": {"elicitation": {}}}), false),
            (json!({}), false),
            (json!([{"elicitation": {}}]), false),
        ] {
            assert_eq!(request(Era::Modern, capabilities.clone()).elicits_form(), expected, "{capabilities}");
            for era in Era::LEGACY {
                assert!(!request(era, capabilities.clone()).elicits_form(), "{era} {capabilities}");
            }
        }
        assert!(!Request { meta: Map::new(), ..request(Era::Modern, json!({})) }.elicits_form());
    }

    fn brought(params: Value) -> Result<ToolCall, Fault> {
        let mut call = ToolCall::default();
        read(&mut serde_json::from_value(params).unwrap(), &mut call).map(|()| call)
    }

    #[test]
    fn what_comes_back_is_bounded_and_of_the_right_type() {
        assert_eq!(brought(json!({})).unwrap(), ToolCall::default());
        let call = brought(json!({"inputResponses": {"a": {"action": "cancel"}}, "requestState": "v1.x"})).unwrap();
        assert_eq!(call.request_state.as_deref(), Some("v1.x"));
        assert_eq!(call.input_responses.len(), 1);
        let text = |bytes: usize| "x".repeat(bytes);
        assert!(brought(json!({"requestState": text(INPUT_BYTES_MAX)})).is_ok());
        for bad in [
            json!({"requestState": text(INPUT_BYTES_MAX + 1)}),
            json!({"requestState": null}),
            json!({"requestState": 7}),
            json!({"requestState": {"v": 1}}),
            json!({"inputResponses": null}),
            json!({"inputResponses": []}),
            json!({"inputResponses": "accept"}),
            json!({"inputResponses": {"a": "accept"}}),
            json!({"inputResponses": {"a": {}, "b": null}}),
            json!({"inputResponses": {"a": {"content": text(INPUT_BYTES_MAX)}}}),
            json!({"inputResponses": {text(INPUT_BYTES_MAX): {}}}),
        ] {
            let fault = brought(bad.clone()).unwrap_err();
            assert_eq!((fault.status, fault.code), (200, -32602), "{bad}");
        }
    }

    #[test]
    fn an_answer_is_one_of_three_and_one_nobody_asked_for_is_ignored() {
        let answered = |response: Value| {
            brought(json!({"inputResponses": {"approval": response, "other": {"junk": 1}}}))
                .unwrap()
                .answered("approval")
        };
        let content = json!({"go": true}).as_object().cloned().unwrap();
        let accepted = answered(json!({"action": "accept", "content": {"go": true}})).unwrap();
        assert_eq!(accepted, Some(Answered::Accepted(content)));
        assert_eq!(answered(json!({"action": "accept"})).unwrap(), Some(Answered::Accepted(Map::new())));
        assert_eq!(answered(json!({"action": "decline"})).unwrap(), Some(Answered::Declined));
        assert_eq!(answered(json!({"action": "cancel"})).unwrap(), Some(Answered::Cancelled));
        assert_eq!(ToolCall::default().answered("approval").unwrap(), None);
        for bad in [
            json!({}),
            json!({"action": "Accept"}),
            json!({"action": true}),
            json!({"action": "accept", "content": "yes"}),
            json!({"action": "accept", "content": [true]}),
        ] {
            assert_eq!(answered(bad.clone()).unwrap_err().code, -32602, "{bad}");
        }
    }
}
