//! JSON-RPC: one message or one refusal, and the message is what was sent.
//!
//! - whatever is accepted was a JSON object of version 2.0, and id and method are the ones sent;
//! - a modern message says so in body and headers, a legacy one in neither;
//! - what is accepted means the same when it is written down again;
//! - every refusal has an HTTP status and a JSON-RPC code, and answers to no other id than the one sent.
//!
//! The input is lines of headers, an empty line, and a body.

use loopgate::domain::canonical::{Limits, canonical, parse};
use loopgate::domain::mcp::receive::receive;
use loopgate::domain::mcp::reply;
use loopgate::domain::mcp::{Ask, Era, Head, MODERN, Message, Request, RequestId};
use serde_json::{Value, json};

const VERSION: &str = "mcp-protocol-version";
const VERSION_META: &str = "io.modelcontextprotocol/protocolVersion";

/// Holds of any bytes.
pub fn holds(data: &[u8]) {
    let (mut headers, body) = super::headers_and_rest(data);
    if !headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    let head = Head { method: "POST".to_owned(), path: "/mcp".to_owned(), headers };
    let limits = Limits::default();
    match receive(&head, body, &limits) {
        Ok(message) => {
            let sent = parse(body, &limits).expect("what is accepted is strict JSON");
            was_sent(&message, &sent, &head);
            let again = canonical(&sent).expect("it has a canonical form");
            let again = receive(&head, &again, &limits).expect("it is accepted in its canonical form");
            assert_eq!(told(&again), told(&message), "it means the same in its canonical form");
        }
        Err((fault, id)) => {
            assert!(matches!(fault.status, 200 | 400..=499), "{fault:?}");
            assert!(fault.code < 0 && !fault.message.is_empty(), "{fault:?}");
            if let Some(id) = &id {
                let sent = parse(body, &limits).expect("an id was read, so the body was");
                assert_eq!(sent.get("id"), Some(&json!(id)), "the answer is to another id");
            }
            let answer = reply::fault(id.as_ref(), &fault);
            let answer = parse(&answer, &limits).expect("the answer is strict JSON");
            assert_eq!(answer.get("jsonrpc"), Some(&json!("2.0")));
            assert!(answer.pointer("/error/code").is_some_and(Value::is_i64));
        }
    }
}

fn was_sent(message: &Message, sent: &Value, head: &Head) {
    assert_eq!(sent.get("jsonrpc"), Some(&json!("2.0")));
    let Message::Request(request) = message else {
        assert!(sent.get("method").is_none_or(Value::is_string));
        return;
    };
    assert_eq!(sent.get("id"), Some(&json!(request.id)), "another id");
    assert_eq!(sent.get("method"), Some(&json!(request.ask.method())), "another method");
    let no_meta = json!({});
    let meta = sent.pointer("/params/_meta").unwrap_or(&no_meta);
    assert_eq!(&json!(request.meta), meta, "another `_meta`");
    is_of_its_era(request, head);
    if let Ask::CallTool(call) = &request.ask {
        assert_eq!(sent.pointer("/params/name"), Some(&json!(call.name)), "another tool");
        let none = json!({});
        let arguments = sent.pointer("/params/arguments").unwrap_or(&none);
        assert_eq!(&json!(call.arguments), arguments, "other arguments");
    }
}

fn is_of_its_era(request: &Request, head: &Head) {
    let versions: Vec<&str> = head.all(VERSION).collect();
    let declared = request.meta.get(VERSION_META).and_then(Value::as_str);
    match request.era {
        Era::Modern => {
            assert_eq!(declared, Some(MODERN), "a modern message declares its revision");
            assert!(!versions.is_empty() && versions.iter().all(|version| *version == MODERN), "{versions:?}");
            assert_eq!(head.get("mcp-method"), Some(request.ask.method()), "the header tells of another method");
            if let Ask::CallTool(_) = request.ask {
                assert!(head.get("mcp-name").is_some(), "the tool's name stands in a header");
            }
        }
        Era::V2025_03_26 | Era::V2025_06_18 | Era::V2025_11_25 => {
            assert!(!versions.contains(&MODERN), "{versions:?}");
            if !matches!(request.ask, Ask::Initialize(_)) {
                assert!(versions.iter().all(|version| Era::legacy(version) == Some(request.era)), "{versions:?}");
            }
        }
    }
}

/// Everything a message says, in one form: `1` and `1.0` are one number.
fn told(message: &Message) -> String {
    let Message::Request(Request { era, id, ask, meta }) = message else { return format!("{message:?}") };
    let id = match id {
        RequestId::Number(number) => json!(number),
        RequestId::Text(text) => json!(text),
    };
    let asked = match ask {
        Ask::CallTool(call) => json!([call.name, call.arguments, call.input_responses, call.request_state]),
        Ask::ListTools { cursor } => json!(cursor),
        other => json!(format!("{other:?}")),
    };
    let all = json!([era.as_str(), id, ask.method(), asked, meta]);
    String::from_utf8(canonical(&all).expect("it was read strictly")).expect("JSON is UTF-8")
}
