//! Request heads: a head that passes is read by everybody in front of us as it is read here.
//!
//! - a reader who takes bare LF for a line end, `_` for `-`, or folds lines sees the same fields;
//! - host, lengths and credentials stand once, and the framing is what the one length field says;
//! - no header is named as hop-by-hop that matters to us;
//! - a control value that is taken from headers, `_meta` or arguments may stand in a header again;
//! - a trace that is continued is well-formed.

use std::net::{Ipv4Addr, Ipv6Addr};

use loopgate::adapters::door::framing::{self, Framing};
use loopgate::domain::mcp::Head;
use loopgate::domain::mcp::controls::{controls, credentials};
use loopgate::domain::mcp::headers::check_param_headers;
use loopgate::domain::mcp::receive::{DoorRules, receive_head};
use loopgate::domain::mcp::trace::TraceContext;
use serde_json::{Map, Value, json};

/// Holds of any bytes.
pub fn holds(data: &[u8]) {
    raw_head(data);
    let (headers, rest) = super::headers_and_rest(data);
    let head = Head { method: "POST".to_owned(), path: "/mcp".to_owned(), headers };
    admitted(&head);
    steered(&head, rest);
    repeated(&head, rest);
}

/// What the door reads from the raw bytes.
fn raw_head(data: &[u8]) {
    let Ok(read) = framing::read(data, 1 << 12) else { return };
    assert!(data.len() <= 1 << 12, "longer than allowed");
    let latin: String = data.iter().copied().map(char::from).collect();
    let text = latin.trim_start_matches("\r\n");
    assert!(text.ends_with("\r\n\r\n"), "the head has an end");
    let fields: Vec<(String, String)> = text.trim_end().lines().skip(1).map(as_a_lax_reader).collect();
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "a bare LF passed");
    assert_eq!(text.matches('\r').count(), text.matches("\r\n").count(), "a bare CR passed");
    let all = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    };
    for name in ["host", "contentlength", "transferencoding", "authorization", "expect"] {
        assert!(all(name).len() <= 1, "`{name}` stands twice for a lax reader");
    }
    is_framed_once(&read, &all("contentlength"), &all("transferencoding"));
    for options in all("connection") {
        for option in options.split(',').map(|option| option.trim().to_ascii_lowercase()) {
            assert!(
                !["authorization", "host", "content-length", "transfer-encoding", "mcp-method", "mcp-name"]
                    .contains(&option.as_str())
                    && !option.starts_with("x-"),
                "`Connection` takes `{option}` away"
            );
        }
    }
}

fn is_framed_once(read: &Framing, lengths: &[&str], codings: &[&str]) {
    assert!(lengths.is_empty() || codings.is_empty(), "two framings");
    assert_eq!(read.chunked, !codings.is_empty());
    assert!(codings.iter().all(|coding| coding.eq_ignore_ascii_case("chunked")), "{codings:?}");
    assert_eq!(read.content_length.is_some(), !lengths.is_empty());
    for length in lengths {
        assert!(length.bytes().all(|byte| byte.is_ascii_digit()), "{length:?}");
        assert_eq!(length.parse().ok(), read.content_length);
    }
}

/// How the laxest of proxies reads a line: dashes and underscores alike, blanks around the name.
fn as_a_lax_reader(line: &str) -> (String, String) {
    assert!(!line.starts_with([' ', '\t']), "a folded line passed");
    let (name, value) = line.split_once(':').expect("every line has a colon");
    assert_eq!(name.trim(), name, "blanks around a name passed");
    let name = name.to_ascii_lowercase();
    let squeezed = name.replace(['-', '_'], "");
    let matters = ["contentlength", "transferencoding"].contains(&squeezed.as_str());
    (if matters { squeezed } else { name }, value.trim().to_owned())
}

fn admitted(head: &Head) {
    let rules = DoorRules { loopback: true, ..DoorRules::default() };
    if receive_head(head, &rules).is_ok() {
        let host = head.get("host").expect("a host is needed").to_ascii_lowercase();
        let ours = if let Some(v6) = host.strip_prefix('[') {
            v6.split(']').next().is_some_and(|ip| ip.parse() == Ok(Ipv6Addr::LOCALHOST))
        } else {
            let name = host.split(':').next().unwrap_or_default();
            name == "localhost" || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        };
        assert!(ours, "`{host}` is not a name of this machine");
    }
}

fn steered(head: &Head, rest: &[u8]) {
    let mut given = match serde_json::from_slice(rest) {
        Ok(Value::Object(given)) => given,
        _ => Map::new(),
    };
    let meta = given.clone();
    for token in credentials(&meta, head) {
        assert_eq!(token.split('.').count(), 3, "not a token: it would hide what the caller did");
    }
    let Ok(read) = controls(&meta, head, &mut given) else { return };
    for name in ["dryRun", "approvalId", "idempotencyKey"] {
        assert!(!given.contains_key(name), "`{name}` is left for the tool");
    }
    let texts = [&read.approval_id, &read.idempotency_key, &read.workflow];
    for text in texts.into_iter().flatten().chain(&read.chain) {
        assert!((1..=255).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)), "{text:?}");
    }
    if let Some(token) = &read.approval_token {
        assert!(!format!("{:?}", read.approval_token).contains(token.as_str()), "a token shows");
    }
    for trace in read.trace.iter().chain(&read.trace_of_header) {
        let again = TraceContext::read(&trace.traceparent(), trace.tracestate.as_deref()).expect("well-formed");
        assert_eq!((&again.trace_id, &again.parent_id), (&trace.trace_id, &trace.parent_id));
        assert_eq!(again.tracestate, trace.tracestate);
    }
}

/// `Mcp-Param-*` against an argument: a header that passes says what the argument says.
fn repeated(head: &Head, rest: &[u8]) {
    let schema = json!({"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
    let argument = String::from_utf8_lossy(rest).into_owned();
    let arguments = Map::from_iter([("region".to_owned(), Value::String(argument.clone()))]);
    if check_param_headers(head, &schema, &arguments).is_ok() {
        let said: Vec<&str> = head.all("mcp-param-region").collect();
        let [said] = said.as_slice() else { panic!("said {} times", said.len()) };
        assert!(*said == argument || said.starts_with("=?base64?"), "{said:?} is not {argument:?}");
    }
    if check_param_headers(head, &schema, &Map::new()).is_ok() {
        assert_eq!(head.get("mcp-param-region"), None, "a header repeats what is not there");
    }
}
