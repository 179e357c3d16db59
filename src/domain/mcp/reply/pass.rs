//! What an upstream server answered, in what the client's revision can read.
//!
//! Promises: a result has been read and cleaned before it comes here; a revision is given no member
//! and no kind of content that it does not know; what may be kept is the caller's alone. Never adds
//! a word of its own but the gateway's `_meta`. Called by `pep`.

use serde_json::{Map, Value, json};

use super::Reply;
use super::put;
use crate::domain::mcp::Era;
use crate::domain::mcp::offered::Listed;

impl Reply<'_> {
    /// One page of what upstream servers offer this caller.
    #[must_use]
    pub fn offered(&self, what: Listed, elements: &[Value], next_cursor: Option<&str>, ttl_ms: u64) -> Vec<u8> {
        let shown: Vec<Value> = elements.iter().map(|element| self.element(element)).collect();
        let mut result = json!({what.member(): shown});
        if let Some(cursor) = next_cursor {
            put(&mut result, "nextCursor", cursor.into());
        }
        self.cacheable(result, ttl_ms)
    }

    /// An upstream server's result with the gateway's `_meta`; with a time to live where MCP wants one.
    #[must_use]
    pub fn pass(&self, result: Map<String, Value>, meta: Map<String, Value>, ttl_ms: Option<u64>) -> Vec<u8> {
        let mut result = Value::Object(result);
        self.fit(&mut result);
        put(&mut result, "_meta", Value::Object(meta));
        match ttl_ms {
            Some(ttl_ms) => self.cacheable(result, ttl_ms),
            None => self.result(result),
        }
    }

    /// Takes out of an element what the revision does not have.
    fn element(&self, element: &Value) -> Value {
        let mut shown = element.clone();
        if let (Value::Object(members), Era::V2025_03_26) = (&mut shown, self.era) {
            members.remove("title");
        }
        shown
    }

    fn fit(&self, result: &mut Value) {
        let structured = match self.era {
            Era::V2025_03_26 => false,
            Era::V2025_06_18 | Era::V2025_11_25 => result.get("structuredContent").is_some_and(Value::is_object),
            Era::Modern => true,
        };
        let Value::Object(members) = result else { return };
        if !structured {
            members.remove("structuredContent");
        }
        if self.era == Era::V2025_03_26 {
            for block in blocks(members) {
                if block.get("type").and_then(Value::as_str) == Some("resource_link") {
                    // WHY: links to resources came with 2025-06-18; a model can use the address as words.
                    let uri = block.get("uri").cloned().unwrap_or_default();
                    *block = json!({"type": "text", "text": uri});
                }
            }
        }
    }
}

/// Every content block of a result.
fn blocks(members: &mut Map<String, Value>) -> Vec<&mut Value> {
    let mut found = Vec::new();
    for (name, member) in members.iter_mut() {
        match (name.as_str(), member) {
            ("content", Value::Array(content)) => found.extend(content),
            ("messages", Value::Array(messages)) => {
                found.extend(messages.iter_mut().filter_map(|message| message.get_mut("content")));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mcp::{Ask, Request, RequestId};

    fn passed(era: Era, result: Value) -> Value {
        let request = Request { era, id: RequestId::Number(1), ask: Ask::Ping, meta: Map::new() };
        let Value::Object(result) = result else { unreachable!("a result is an object") };
        let bytes = Reply::to(&request, "1").pass(result, Map::from_iter([("m".to_owned(), 1.into())]), None);
        serde_json::from_slice::<Value>(&bytes).unwrap()["result"].clone()
    }

    #[test]
    fn each_revision_is_given_what_it_can_read() {
        let link = json!({"type": "resource_link", "uri": "a:b", "name": "n"});
        let result = json!({"content": [link.clone()], "structuredContent": [1], "isError": false});
        let modern = passed(Era::Modern, result.clone());
        assert_eq!((&modern["structuredContent"], &modern["content"][0]), (&json!([1]), &link));
        assert_eq!((&modern["resultType"], &modern["_meta"]["m"]), (&json!("complete"), &json!(1)));
        let legacy = passed(Era::V2025_11_25, result.clone());
        assert!(legacy.get("structuredContent").is_none() && legacy.get("resultType").is_none());
        assert_eq!(legacy["content"][0], link);
        let oldest = passed(Era::V2025_03_26, result);
        assert_eq!(oldest["content"][0], json!({"type": "text", "text": "a:b"}));
        let prompt = json!({"messages": [{"role": "user", "content": link}]});
        assert_eq!(passed(Era::V2025_03_26, prompt)["messages"][0]["content"]["type"], "text");
    }
}
