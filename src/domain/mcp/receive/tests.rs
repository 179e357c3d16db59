//! Every row of the table of checks, for both eras, with status, code and echoed id.

use serde_json::{Value, json};

use super::*;

const MODERN_HEADERS: [(&str, &str); 2] = [("content-type", "application/json"), ("mcp-protocol-version", MODERN)];

fn head(headers: &[(&str, &str)]) -> Head {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Head { method: "POST".into(), path: "/mcp".into(), headers }
}

fn with_json(headers: &[(&str, &str)]) -> Head {
    let mut head = head(headers);
    head.headers.push(("content-type".into(), "application/json".into()));
    head
}

fn modern_head(method: &str, more: &[(&str, &str)]) -> Head {
    let mut head = head(&MODERN_HEADERS);
    head.headers.push(("mcp-method".into(), method.into()));
    head.headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    head
}

fn envelope() -> Value {
    json!({VERSION_META: MODERN, CAPABILITIES_META: {}})
}

fn modern_body(method: &str, mut params: Value) -> Value {
    params["_meta"] = envelope();
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
}

fn ask(head: &Head, body: &Value) -> Result<Message, Rejected> {
    receive(head, body.to_string().as_bytes(), &Limits::default())
}

/// Status, code and whether id 7 came back.
fn no(head: &Head, body: &Value) -> (u16, i64, bool) {
    let (fault, id) = ask(head, body).expect_err(&body.to_string());
    (fault.status, fault.code, id == Some(RequestId::Number(7)))
}

fn legacy(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
}

fn yes(head: &Head, body: &Value) -> Request {
    match ask(head, body) {
        Ok(Message::Request(request)) => request,
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn row_1_a_foreign_page_or_a_rebound_name_is_refused_with_403() {
    let rules = DoorRules {
        loopback: true,
        allowed_hosts: vec!["gw.example".into()],
        allowed_origins: vec!["https://app.example".into()],
    };
    let status = |headers: &[(&str, &str)]| receive_head(&head(headers), &rules).map_err(|fault| fault.status);
    for host in [
        "localhost",
        "localhost:8080",
        "LOCALHOST:1",
        "127.0.0.1:8080",
        "127.8.9.1",
        "[::1]:8080",
        "gw.example",
        "GW.example:443",
    ] {
        assert_eq!(status(&[("host", host)]), Ok(()), "{host}");
    }
    for host in [
        "evil.example.com",
        "evil.example.com:8080",
        "localhost.evil.example",
        "10.0.0.1",
        "",
        "[::2]",
        "gw.example.evil",
    ] {
        assert_eq!(status(&[("host", host)]), Err(403), "{host}");
    }
    assert_eq!(status(&[]), Err(403));
    for origin in ["http://localhost:3000", "http://127.0.0.1", "https://app.example", "HTTPS://app.example"] {
        assert_eq!(status(&[("host", "localhost"), ("origin", origin)]), Ok(()), "{origin}");
    }
    for origin in ["http://evil.example.com", "null", "", "https://app.example.evil", "http://localhost.evil.example"] {
        assert_eq!(status(&[("host", "localhost"), ("origin", origin)]), Err(403), "{origin}");
    }
    assert_eq!(
        status(&[("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.example")]),
        Err(403)
    );
    let open = DoorRules::default();
    assert_eq!(receive_head(&head(&[("host", "anything.example")]), &open), Ok(()));
    assert_eq!(
        receive_head(&head(&[("host", "x"), ("origin", "http://localhost")]), &open).map_err(|fault| fault.status),
        Err(403)
    );
}

#[test]
fn what_only_begins_like_this_machine_is_not_this_machine() {
    let rules = DoorRules { loopback: true, ..DoorRules::default() };
    for host in [
        "[::1]evil.com",
        "[::1]:80:evil",
        "[::1]:",
        "[::1",
        "::1",
        "[localhost]",
        "[127.0.0.1]:80",
        "127.0.0.1:80:evil",
        "localhost:evil",
        "localhost:1@evil.com",
        "localhost/evil",
    ] {
        assert!(!rules.allows_host(host), "{host}");
        assert!(!rules.allows_origin(&format!("http://{host}")), "{host}");
    }
    for origin in
        ["file://localhost", "ftp://127.0.0.1", "chrome-extension://localhost", "localhost", "x http://localhost"]
    {
        assert!(!rules.allows_origin(origin), "{origin}");
    }
    for origin in ["http://[::1]:3000", "https://[::1]", "HTTPS://localhost:1"] {
        assert!(rules.allows_origin(origin), "{origin}");
    }
}

#[test]
fn row_2_only_post_is_served() {
    let rules = DoorRules { loopback: true, ..DoorRules::default() };
    for method in ["GET", "DELETE", "PUT", "HEAD", "post", "OPTIONS"] {
        let head = Head { method: method.into(), ..head(&[("host", "localhost")]) };
        assert_eq!(receive_head(&head, &rules).map_err(|fault| fault.status), Err(405), "{method}");
    }
}

#[test]
fn row_4_another_content_type_is_refused_with_415() {
    let body = legacy("ping", &json!({}));
    for content_type in ["text/plain", "application/jsonx", "application/json-patch+json", "", "text/json"] {
        assert_eq!(no(&head(&[("content-type", content_type)]), &body).0, 415, "{content_type}");
    }
    assert_eq!(no(&head(&[]), &body).0, 415);
    assert_eq!(no(&head(&[("content-type", "application/json"), ("content-type", "application/json")]), &body).0, 415);
    for content_type in ["application/json", "Application/JSON; charset=utf-8", " application/json ;x=y"] {
        yes(&head(&[("content-type", content_type)]), &body);
    }
}

#[test]
fn rows_5_and_6_too_long_and_not_json() {
    let send =
        |body: &[u8]| receive(&with_json(&[]), body, &Limits { bytes_max: 40, ..Limits::default() }).expect_err("no");
    assert_eq!(send(&[b' '; 41]).0.status, 413);
    for body in [&b"{"[..], b"", b"nope", b"{\"id\":7,\"id\":7}", b"{\"id\":9007199254740993}", b"\xff"] {
        let (fault, id) = send(body);
        assert_eq!((fault.status, fault.code, id), (400, -32700, None));
    }
}

#[test]
fn row_7_batches_are_refused_in_every_era() {
    for body in [json!([]), json!([legacy("ping", &json!({}))]), json!([modern_body("tools/list", json!({}))])] {
        assert_eq!(no(&with_json(&[]), &body), (400, -32600, false));
        assert_eq!(no(&modern_head("tools/list", &[]), &body), (400, -32600, false));
    }
    assert_eq!(no(&with_json(&[]), &json!("ping")), (400, -32600, false));
}

#[test]
fn row_8_what_is_not_a_message_is_refused_and_the_id_echoed_if_it_is_one() {
    for (body, echoed) in [
        (json!({"id": 7, "method": "ping"}), true),
        (json!({"jsonrpc": "1.0", "id": 7, "method": "ping"}), true),
        (json!({"jsonrpc": "2.0", "id": null, "method": "ping"}), false),
        (json!({"jsonrpc": "2.0", "id": 7.5, "method": "ping"}), false),
        (json!({"jsonrpc": "2.0", "id": 7.0, "method": "ping"}), false),
        (json!({"jsonrpc": "2.0", "id": [7], "method": "ping"}), false),
        (json!({"jsonrpc": "2.0", "id": true, "method": "ping"}), false),
        (json!({"jsonrpc": "2.0", "id": 7}), true),
        (json!({"jsonrpc": "2.0", "id": 7, "method": 1}), true),
        (json!({"jsonrpc": "2.0", "id": 7, "method": "ping", "result": {}}), true),
        (json!({"jsonrpc": "2.0", "id": 7, "method": "ping", "params": []}), true),
        (json!({"jsonrpc": "2.0", "id": 7, "method": "ping", "params": null}), true),
    ] {
        assert_eq!(no(&with_json(&[]), &body), (400, -32600, echoed), "{body}");
        assert_eq!(no(&modern_head("ping", &[]), &body), (400, -32600, echoed), "{body}");
    }
}

#[test]
fn row_9_the_body_tells_the_era() {
    // Envelope and headers: modern.
    assert_eq!(yes(&modern_head("tools/list", &[]), &modern_body("tools/list", json!({}))).era, Era::Modern);
    // No envelope and no header: the oldest.
    assert_eq!(yes(&with_json(&[]), &legacy("tools/list", &json!({}))).era, Era::V2025_03_26);
    for era in Era::LEGACY {
        let head = with_json(&[("mcp-protocol-version", era.as_str())]);
        assert_eq!(yes(&head, &legacy("ping", &json!({}))).era, era);
    }
    // An envelope without headers is never taken for legacy.
    assert_eq!(no(&with_json(&[]), &modern_body("tools/list", json!({}))), (400, -32020, true));
    assert_eq!(
        no(&with_json(&[("mcp-protocol-version", "2025-11-25")]), &modern_body("tools/list", json!({}))),
        (400, -32020, true)
    );
}

#[test]
fn row_9_initialize_is_legacy_whatever_version_it_names() {
    for (asked, answered) in [
        ("2025-11-25", Era::V2025_11_25),
        ("2025-06-18", Era::V2025_06_18),
        ("2025-03-26", Era::V2025_03_26),
        ("2026-07-28", Era::V2025_11_25),
        ("2024-11-05", Era::V2025_11_25),
        ("9999-99-99", Era::V2025_11_25),
        ("", Era::V2025_11_25),
    ] {
        let request =
            yes(&with_json(&[]), &legacy("initialize", &json!({"protocolVersion": asked, "capabilities": {}})));
        assert_eq!((request.era, request.ask), (answered, Ask::Initialize(answered)), "{asked}");
    }
    // A partial envelope does not make it modern.
    let partial = legacy("initialize", &json!({"protocolVersion": "2025-11-25", "_meta": {VERSION_META: MODERN}}));
    assert_eq!(yes(&with_json(&[]), &partial).ask, Ask::Initialize(Era::V2025_11_25));
    assert_eq!(no(&with_json(&[]), &legacy("initialize", &json!({}))), (200, -32602, true));
}

#[test]
fn row_10m_a_partial_envelope_is_refused_with_invalid_params() {
    for meta in [
        json!({}),
        json!({CAPABILITIES_META: {}}),
        json!({VERSION_META: MODERN}),
        json!({VERSION_META: 1, CAPABILITIES_META: {}}),
        json!({VERSION_META: MODERN, CAPABILITIES_META: []}),
        json!(7),
    ] {
        let body = legacy("tools/list", &json!({"_meta": meta}));
        assert_eq!(no(&modern_head("tools/list", &[]), &body), (400, -32602, true), "{body}");
    }
    assert_eq!(no(&modern_head("tools/list", &[]), &legacy("tools/list", &json!({}))), (400, -32602, true));
    let bare = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list"});
    assert_eq!(no(&modern_head("tools/list", &[]), &bare), (400, -32602, true));
    // A later version than ours in the header alone is malformed modern, too.
    assert_eq!(no(&with_json(&[("mcp-protocol-version", "2027-01-01")]), &bare), (400, -32602, true));
    // `clientInfo` is optional.
    yes(&modern_head("tools/list", &[]), &modern_body("tools/list", json!({})));
}

#[test]
fn row_11m_headers_that_differ_from_the_body_are_refused() {
    let call = || modern_body("tools/call", json!({"name": "loopiq_x"}));
    let named = ("mcp-name", "loopiq_x");
    yes(&modern_head("tools/call", &[named]), &call());
    yes(&modern_head("tools/call", &[("mcp-name", "=?base64?bG9vcGlxX3g=?=")]), &call());
    yes(&modern_head("tools/call", &[("mcp-name", "  loopiq_x\t")]), &call());
    let version = |said: &str| {
        let mut body = modern_body("tools/list", json!({}));
        body["params"]["_meta"][VERSION_META] = json!(said);
        body
    };
    let json_type = ("content-type", "application/json");
    for (head, body) in [
        (modern_head("tools/call", &[]), call()),
        (modern_head("tools/call", &[("mcp-name", "loopiq_y")]), call()),
        (modern_head("tools/call", &[("mcp-name", "Loopiq_x")]), call()),
        (modern_head("tools/call", &[named, named]), call()),
        (modern_head("tools/call", &[("mcp-name", "=?base64?***?=")]), call()),
        (modern_head("tools/call", &[("mcp-name", "=?base64?/w==?=")]), call()),
        (modern_head("tools/call", &[named]), modern_body("tools/call", json!({}))),
        (modern_head("tools/list", &[named]), call()),
        (modern_head("Tools/call", &[named]), call()),
        (modern_head("tools/call", &[("mcp-method", "tools/call"), named]), call()),
        (modern_head("tools/call", &[("mcp-protocol-version", MODERN), named]), call()),
        (head(&MODERN_HEADERS), modern_body("tools/list", json!({}))),
        (head(&[json_type, ("mcp-method", "tools/list")]), modern_body("tools/list", json!({}))),
        (
            head(&[json_type, ("mcp-protocol-version", "2025-11-25"), ("mcp-method", "tools/list")]),
            modern_body("tools/list", json!({})),
        ),
        // A mismatch beats an unsupported version.
        (modern_head("tools/list", &[]), version("v999")),
        (modern_head("tools/list", &[]), version("2025-11-25")),
        (modern_head("prompts/get", &[]), modern_body("prompts/get", json!({"name": "p"}))),
        (modern_head("resources/read", &[("mcp-name", "b")]), modern_body("resources/read", json!({"uri": "a"}))),
        (modern_head("initialize", &[]), legacy("initialize", &json!({"protocolVersion": "2025-11-25"}))),
    ] {
        assert_eq!(no(&head, &body), (400, -32020, true), "{head:?} {body}");
    }
}

#[test]
fn row_12m_an_unknown_version_is_refused_with_those_that_are_served() {
    for version in ["v999", "2099-01-01", "2025-11-25"] {
        let head = head(&[
            ("content-type", "application/json"),
            ("mcp-protocol-version", version),
            ("mcp-method", "tools/list"),
        ]);
        let mut body = modern_body("tools/list", json!({}));
        body["params"]["_meta"][VERSION_META] = json!(version);
        let (fault, id) = ask(&head, &body).expect_err(version);
        assert_eq!((fault.status, fault.code, id), (400, -32022, Some(RequestId::Number(7))));
        assert_eq!(fault.data, Some(json!({"supported": ["2026-07-28"], "requested": version})));
    }
}

#[test]
fn row_14m_an_unknown_method_is_404_and_the_id_comes_back() {
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "nope", ""] {
        assert_eq!(no(&modern_head(method, &[]), &modern_body(method, json!({}))), (404, -32601, true), "{method}");
    }
    let task = modern_body("tasks/get", json!({"taskId": "t"}));
    assert_eq!(no(&modern_head("tasks/get", &[("mcp-name", "t")]), &task), (404, -32601, true));
}

#[test]
fn rows_15m_and_12l_bad_params_of_a_known_method_are_200() {
    let modern =
        |params: Value, more: &[(&str, &str)]| no(&modern_head("tools/call", more), &modern_body("tools/call", params));
    assert_eq!(modern(json!({}), &[]), (200, -32602, true));
    assert_eq!(modern(json!({"name": 1}), &[]), (200, -32602, true));
    for arguments in [json!([]), json!("x"), json!(null)] {
        assert_eq!(modern(json!({"name": "n", "arguments": arguments}), &[("mcp-name", "n")]), (200, -32602, true));
        assert_eq!(
            no(&with_json(&[]), &legacy("tools/call", &json!({"name": "n", "arguments": arguments}))),
            (200, -32602, true)
        );
    }
    for cursor in [json!(1), json!(null)] {
        assert_eq!(
            no(&modern_head("tools/list", &[]), &modern_body("tools/list", json!({"cursor": cursor}))),
            (200, -32602, true)
        );
        assert_eq!(no(&with_json(&[]), &legacy("tools/list", &json!({"cursor": cursor}))), (200, -32602, true));
    }
    assert_eq!(no(&with_json(&[]), &legacy("logging/setLevel", &json!({}))), (200, -32602, true));
    for method in ["server/discover", "subscriptions/listen", "nope"] {
        assert_eq!(no(&with_json(&[]), &legacy(method, &json!({}))), (200, -32601, true), "{method}");
    }
    assert_eq!(no(&with_json(&[]), &legacy("tools/list", &json!({"_meta": 7}))), (200, -32602, true));
}

#[test]
fn row_10l_a_header_that_names_no_served_revision_is_400() {
    for version in ["v999", "2024-11-05", "", "2025-11-2"] {
        assert_eq!(
            no(&with_json(&[("mcp-protocol-version", version)]), &legacy("ping", &json!({}))),
            (400, -32600, true),
            "{version}"
        );
    }
    let two = with_json(&[("mcp-protocol-version", "2025-11-25"), ("mcp-protocol-version", "2025-06-18")]);
    assert_eq!(no(&two, &legacy("ping", &json!({}))), (400, -32600, true));
}

#[test]
fn rows_17m_and_13l_notifications_are_taken() {
    let note = |method: &str, params: Value| json!({"jsonrpc": "2.0", "method": method, "params": params});
    let taken = |head: &Head, body: &Value| match ask(head, body) {
        Ok(Message::Notification(notification)) => notification,
        other => panic!("{other:?}"),
    };
    let initialized = note("notifications/initialized", json!({}));
    let other = Notification::Other("notifications/initialized".into());
    assert_eq!(taken(&with_json(&[("mcp-protocol-version", "2025-11-25")]), &initialized), other);
    assert_eq!(taken(&with_json(&[]), &initialized), other);
    assert_eq!(taken(&with_json(&[("mcp-protocol-version", MODERN)]), &initialized), other);
    let cancelled = note("notifications/cancelled", json!({"requestId": "r"}));
    assert_eq!(taken(&with_json(&[]), &cancelled), Notification::Cancelled { request_id: RequestId::Text("r".into()) });
    // A modern client cancels by closing its stream; a notification names nothing we hold.
    let modern_head = with_json(&[("mcp-protocol-version", MODERN)]);
    assert_eq!(taken(&modern_head, &cancelled), Notification::Other("notifications/cancelled".into()));
    assert_eq!(
        no(&with_json(&[("mcp-protocol-version", MODERN), ("mcp-method", "x")]), &initialized),
        (400, -32020, false)
    );
    // A call without an id is not carried out.
    assert_eq!(
        taken(&with_json(&[]), &note("tools/call", json!({"name": "n"}))),
        Notification::Other("tools/call".into())
    );
}

#[test]
fn rows_18m_and_13l_answers_to_nothing_are_refused_by_the_modern_era_and_dropped_by_the_legacy() {
    for body in [
        json!({"jsonrpc": "2.0", "id": 7, "result": {}}),
        json!({"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": ""}}),
    ] {
        assert_eq!(no(&with_json(&[("mcp-protocol-version", MODERN)]), &body), (400, -32600, true));
        assert_eq!(ask(&with_json(&[]), &body), Ok(Message::Notification(Notification::StrayAnswer)));
    }
}

#[test]
fn session_headers_change_nothing() {
    let more = [("mcp-session-id", "s"), ("last-event-id", "9")];
    assert_eq!(yes(&modern_head("tools/list", &more), &modern_body("tools/list", json!({}))).era, Era::Modern);
    yes(&with_json(&more), &legacy("ping", &json!({})));
}

#[test]
fn a_call_keeps_its_arguments_and_meta_as_sent() {
    let mut body = modern_body("tools/call", json!({"name": "loopiq_x", "arguments": {"b": [1, {"c": null}]}}));
    body["params"]["_meta"]["progressToken"] = json!("p");
    body["id"] = json!("seven");
    let request = yes(&modern_head("tools/call", &[("mcp-name", "loopiq_x")]), &body);
    assert_eq!(request.id, RequestId::Text("seven".into()));
    assert_eq!(request.meta["progressToken"], "p");
    let arguments = json!({"b": [1, {"c": null}]}).as_object().unwrap().clone();
    let call = ToolCall { name: "loopiq_x".into(), arguments, ..ToolCall::default() };
    assert_eq!(request.ask, Ask::CallTool(call));
    let list = yes(&modern_head("tools/list", &[]), &modern_body("tools/list", json!({"cursor": ""})));
    assert_eq!(list.ask, Ask::ListTools { cursor: Some(String::new()) });
    assert_eq!(
        yes(&modern_head("server/discover", &[]), &modern_body("server/discover", json!({}))).ask,
        Ask::Discover
    );
}

#[test]
fn answers_and_state_come_with_modern_calls_only() {
    let params = json!({"name": "loopiq_x", "inputResponses": {"a": {"action": "accept"}}, "requestState": "v1.s"});
    let head = modern_head("tools/call", &[("mcp-name", "loopiq_x")]);
    let Ask::CallTool(call) = yes(&head, &modern_body("tools/call", params.clone())).ask else {
        unreachable!("it is a call")
    };
    assert_eq!(call.request_state.as_deref(), Some("v1.s"));
    assert_eq!(call.input_responses["a"], json!({"action": "accept"}));
    let Ask::CallTool(call) = yes(&with_json(&[]), &legacy("tools/call", &params)).ask else {
        unreachable!("it is a call")
    };
    assert_eq!(call, ToolCall { name: "loopiq_x".into(), ..ToolCall::default() }, "no part of what that era knows");
    let mut bad = params;
    bad["requestState"] = json!(7);
    assert_eq!(no(&head, &modern_body("tools/call", bad)), (200, -32602, true));
}
