//! Servers of the revisions with `initialize`.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::scripted::*;
use crate::domain::mcp::Era;
use crate::pep::ports::Outbound;
use crate::pep::ports::SendFaultKind::*;

fn done(seen: &Seen) -> Reply {
    Reply::Keep(result(seen, &json!({"content": []})))
}

fn supports(seen: &Seen, versions: &Value) -> Value {
    let mut error = error(seen, -32022);
    error["error"]["data"] = json!({"supported": versions, "requested": "2026-07-28"});
    error
}

#[tokio::test]
async fn only_a_server_that_does_not_know_the_question_is_an_older_one() {
    let meet = async |status: &'static str, body: fn(&Seen) -> Value| {
        let script = legacy(done);
        let server = Scripted::start(move |seen| match seen.method() {
            "server/discover" => {
                Reply::Keep(http(status, "Content-Type: application/json\r\n", body(seen).to_string().as_bytes()))
            }
            _ => script(seen),
        })
        .await;
        let met = server.upstream().meet().await;
        (met.map(|spoken| spoken.era).map_err(|fault| fault.kind), server.times("initialize"))
    };
    let older = (Ok(Era::V2025_11_25), 1);
    assert_eq!(meet("400 Bad Request", |_| Value::Null).await, older);
    assert_eq!(meet("404 Not Found", |_| Value::Null).await, older);
    assert_eq!(meet("405 Method Not Allowed", |_| Value::Null).await, older);
    assert_eq!(meet("200 OK", |seen| error(seen, -32601)).await, older);
    assert_eq!(meet("400 Bad Request", |seen| error(seen, -32000)).await, older);
    assert_eq!(meet("400 Bad Request", |seen| supports(seen, &json!(["2025-06-18"]))).await, older);
    let none = (Err(Unreachable), 0);
    for status in ["401 Unauthorized", "403 Forbidden", "429 Slow Down", "500 Oh", "502 Oh", "503 Oh", "302 Found"] {
        assert_eq!(meet(status, |_| Value::Null).await, none, "{status}");
    }
    assert_eq!(meet("400 Bad Request", |seen| supports(seen, &json!(["2031-01-01"]))).await, none);
    assert_eq!(meet("400 Bad Request", |seen| supports(seen, &json!(["2026-07-28"]))).await, none, "it lies");
}

#[tokio::test]
async fn a_revision_that_is_not_spoken_here_is_not_spoken() {
    for version in ["1999-01-01", "2026-07-28", "2024-11-05", ""] {
        let server = Scripted::start(move |seen| match seen.method() {
            "initialize" => Reply::Keep(result(seen, &json!({"protocolVersion": version, "capabilities": {}}))),
            _ => Reply::Keep(http("400 Bad Request", "", b"")),
        })
        .await;
        assert!(server.upstream().meet().await.is_err(), "{version}");
        assert_eq!(server.asked(), ["server/discover", "initialize"]);
    }
}

#[tokio::test]
async fn no_two_users_share_a_session_and_none_can_be_pushed_into_anothers() {
    let server = Scripted::start(legacy(|seen| {
        // WHY the header: a server that tries to move a user into another session.
        let body = json!({"jsonrpc": "2.0", "id": seen.id(), "result": {"content": []}}).to_string();
        Reply::Keep(http("200 OK", "Content-Type: application/json\r\nMcp-Session-Id: s1\r\n", body.as_bytes()))
    }))
    .await;
    let upstream = server.ready().await;
    let call = |user: &str| outbound_of(user, "tools/call", &json!({"name": "save"}));
    let mut sessions = Vec::new();
    for user in ["ada", "ben", "ada", "ben"] {
        upstream.carry(&call(user)).await.unwrap();
        sessions.push(server.last("tools/call").header("mcp-session-id").unwrap().to_owned());
    }
    assert_eq!(sessions, ["s2", "s3", "s2", "s3"], "s1 is the gateway's own");
    let seen = server.last("tools/call");
    assert_eq!(seen.header("mcp-protocol-version"), Some("2025-11-25"));
    assert_eq!((seen.header("mcp-method"), seen.header("mcp-name")), (None, None), "legacy servers know of neither");
    let mut nobodys = call("ada");
    nobodys.headers.retain(|(name, _)| *name != "X-LoopIQ-User");
    let fault = upstream.carry(&nobodys).await.unwrap_err();
    assert_eq!((fault.kind, fault.bytes_left), (Unreachable, false));
    let mut elsewhere = call("ada");
    elsewhere
        .headers
        .iter_mut()
        .filter(|(name, _)| *name == "X-LoopIQ-Tenant")
        .for_each(|(_, value)| *value = "org_b".into());
    upstream.carry(&elsewhere).await.unwrap();
    assert_eq!(server.last("tools/call").header("mcp-session-id"), Some("s4"), "of another organisation");
}

/// A server that knows only sessions that were opened after the calls so far.
fn forgetful() -> impl Fn(&Seen) -> Reply + Send + Sync {
    let gone = Mutex::new(std::collections::BTreeSet::from(["s2".to_owned()]));
    legacy(move |seen| {
        let session = seen.header("mcp-session-id").unwrap().to_owned();
        if gone.lock().unwrap().contains(&session) {
            return Reply::Keep(http(
                "404 Not Found",
                "Content-Type: application/json\r\n",
                error(seen, -32001).to_string().as_bytes(),
            ));
        }
        done(seen)
    })
}

#[tokio::test]
async fn a_read_goes_on_in_a_fresh_session_and_a_write_does_not() {
    let server = Scripted::start(forgetful()).await;
    let upstream = server.ready().await;
    let answer = upstream.carry(&outbound("resources/read", &json!({"uri": "a"}))).await.unwrap();
    assert_eq!((answer.status, server.times("resources/read")), (200, 2));

    let server = Scripted::start(forgetful()).await;
    let upstream = server.ready().await;
    let answer = upstream.carry(&save()).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (404, 0), "nothing was done, and the caller is told");
    assert_eq!(server.times("tools/call"), 1);
    assert_eq!(upstream.carry(&save()).await.unwrap().status, 200, "the next call has a fresh session");
    assert_eq!(server.times("tools/call"), 2);
}

#[tokio::test]
async fn a_session_that_was_idle_is_asked_after_before_a_write() {
    let server = Scripted::start(legacy(|seen| match (seen.method(), seen.header("mcp-session-id")) {
        ("ping", Some("s2")) => Reply::Keep(http("404 Not Found", "", b"")),
        _ => done(seen),
    }))
    .await;
    let upstream = server.ready().await;
    upstream.carry(&save()).await.unwrap();
    assert_eq!(server.times("ping"), 0, "it has just been opened");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(16)).await;
    tokio::time::resume();
    assert_eq!(upstream.carry(&save()).await.unwrap().status, 200);
    assert_eq!(server.times("ping"), 1);
    assert_eq!(server.last("tools/call").header("mcp-session-id"), Some("s3"), "the server had forgotten the other");
}

#[tokio::test]
async fn a_server_that_keeps_no_sessions_is_given_none() {
    let server = Scripted::start(|seen| match seen.method() {
        "server/discover" => Reply::Keep(http("400 Bad Request", "", b"")),
        "initialize" => Reply::Keep(result(seen, &json!({"protocolVersion": "2025-03-26", "capabilities": {}}))),
        "notifications/initialized" => Reply::Keep(http("202 Accepted", "", b"")),
        // The revision that may answer several messages at once.
        _ => Reply::Keep(answer(&json!([
            {"jsonrpc": "2.0", "method": "notifications/message", "params": {}},
            {"jsonrpc": "2.0", "id": seen.id(), "result": {"content": []}}
        ]))),
    })
    .await;
    let upstream = server.ready().await;
    upstream.carry(&save()).await.unwrap();
    upstream.carry(&outbound_of("ben", "tools/call", &json!({"name": "save"}))).await.unwrap();
    assert_eq!(server.times("initialize"), 1);
    assert_eq!(server.last("tools/call").header("mcp-session-id"), None);
}

#[tokio::test]
async fn users_of_one_name_at_two_issuers_share_no_session() {
    let server = Scripted::start(legacy(|seen| Reply::Keep(result(seen, &json!({"content": []}))))).await;
    let upstream = server.ready().await;
    let call = || outbound_of("ada", "tools/call", &json!({"name": "save"}));
    let other = || Outbound { issuer: "https://other.example".into(), ..call() };
    let mut sessions = Vec::new();
    for request in [call(), other(), call(), other()] {
        upstream.carry(&request).await.unwrap();
        sessions.push(server.last("tools/call").header("mcp-session-id").unwrap().to_owned());
    }
    assert_eq!(sessions, ["s2", "s3", "s2", "s3"]);
}

#[tokio::test]
async fn what_a_server_asks_of_its_client_is_refused() {
    let ask = |count: i64| {
        let questions: Vec<String> = (0..count)
            .map(|id| event(&json!({"jsonrpc": "2.0", "id": id, "method": "sampling/createMessage", "params": {}})))
            .collect();
        legacy(move |seen| {
            if seen.method().is_empty() {
                return Reply::Keep(http("202 Accepted", "", b""));
            }
            let last = event(&json!({"jsonrpc": "2.0", "id": seen.id(), "result": {"content": []}}));
            Reply::Close(stream(&[questions.concat(), last]))
        })
    };
    let server = Scripted::start(ask(1)).await;
    let upstream = server.ready().await;
    assert_eq!(upstream.carry(&save()).await.unwrap().status, 200);
    let said = server.last("");
    assert_eq!((&said.body["id"], &said.body["error"]["code"]), (&json!(0), &json!(-32601)));
    assert_eq!(said.header("mcp-session-id"), Some("s2"));

    let server = Scripted::start(ask(100)).await;
    let fault = server.ready().await.carry(&save()).await.unwrap_err();
    assert_eq!((fault.kind, fault.bytes_left), (Broken, true));
    assert!(server.times("") <= 16);
}

#[tokio::test]
async fn a_stream_that_broke_is_taken_up_and_the_call_not_made_again() {
    let asked = Mutex::new(0);
    let server = Scripted::start(legacy(move |seen| {
        if seen.method() == "tools/call" {
            *asked.lock().unwrap() = seen.id();
            return Reply::Close(stream(&["id: a1\nretry: 10\ndata:\n\n".to_owned()]));
        }
        let id = *asked.lock().unwrap();
        Reply::Close(stream(&[event(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": ["late"]}}))]))
    }))
    .await;
    let upstream = server.ready().await;
    let answer = upstream.carry(&save()).await.unwrap();
    assert_eq!(&answer.body[..], br#"{"content":["late"]}"#);
    let seen = server.seen.lock().unwrap().last().cloned().unwrap();
    assert_eq!((seen.line.as_str(), seen.header("last-event-id")), ("GET /mcp HTTP/1.1", Some("a1")));
    assert_eq!(server.times("tools/call"), 1);
}

#[tokio::test]
async fn asking_for_a_lost_answer_is_no_sending_of_the_call() {
    // The latest moment for the call passes while its answer is waited for.
    let late = |request: Outbound| Outbound {
        send_before: Some(tokio::time::Instant::now() + Duration::from_millis(300)),
        ..request
    };
    let asked = Mutex::new(0);
    let server = Scripted::start(legacy(move |seen| {
        if seen.method() == "tools/call" {
            *asked.lock().unwrap() = seen.id();
            return Reply::Close(stream(&["id: a1\nretry: 400\ndata:\n\n".to_owned()]));
        }
        let id = *asked.lock().unwrap();
        Reply::Close(stream(&[event(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": ["late"]}}))]))
    }))
    .await;
    let upstream = server.ready().await;
    let answer = upstream.carry(&late(save())).await.unwrap();
    assert_eq!(&answer.body[..], br#"{"content":["late"]}"#);
    assert_eq!(server.times("tools/call"), 1);
}

#[tokio::test]
async fn a_server_is_told_what_nobody_waits_for_any_more() {
    let (heard, mut told) = tokio::sync::mpsc::unbounded_channel();
    let script = legacy(|_| Reply::Hang(Vec::new()));
    let server = Scripted::start(move |seen| {
        if seen.method() == "notifications/cancelled" {
            let _gone = heard.send(seen.clone());
        }
        script(seen)
    })
    .await;
    let upstream = server.ready().await;
    let request = Outbound { timeout: Duration::from_millis(200), ..save() };
    let fault = upstream.carry(&request).await.unwrap_err();
    assert_eq!((fault.kind, fault.bytes_left), (Timeout, true));
    let seen = tokio::select! {
        () = upstream.keep(|_| ()) => unreachable!("it runs until it is dropped"),
        seen = told.recv() => seen.unwrap(),
    };
    assert_eq!(seen.body["params"]["requestId"], json!(server.last("tools/call").id()));
    assert_eq!(seen.header("mcp-session-id"), Some("s2"));
}
