//! Servers of 2026-07-28, and what any server may do to its client.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::scripted::*;
use crate::pep::ports::SendFaultKind::*;

fn done(seen: &Seen) -> Vec<u8> {
    result(seen, &json!({"resultType": "complete", "content": []}))
}

#[tokio::test]
async fn a_modern_server_is_spoken_to_in_the_gateways_own_words() {
    let server = Scripted::start(modern(|seen| Reply::Keep(done(seen)))).await;
    let upstream = server.ready().await;
    let answer = upstream.carry(&save()).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &br#"{"content":[],"resultType":"complete"}"#[..]));
    let seen = server.last("tools/call");
    assert_eq!(seen.line, "POST /mcp HTTP/1.1");
    let expected = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "save"),
        ("mcp-param-region", "=?base64?esO8cmljaA==?="),
        ("accept", "application/json, text/event-stream"),
        ("authorization", "Bearer of-the-call"),
    ];
    for (name, value) in expected {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(seen.header("mcp-session-id"), None);
    let meta = &seen.body["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "loopgate");
    assert_eq!(meta["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(server.asked(), ["server/discover", "tools/list", "tools/call"], "no handshake, no session");
}

/// A hostile answer to a call: the call was made once, and nobody knows what became of it.
async fn hostile(
    what: &str,
    reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    kind: crate::pep::ports::SendFaultKind,
) {
    let server = Scripted::start(modern(reply)).await;
    let upstream = server.ready().await;
    let fault = upstream.carry(&save()).await.map(|answer| answer.status).expect_err(what);
    assert_eq!((fault.kind, fault.bytes_left), (kind, true), "{what}: {fault}");
    assert_eq!(server.times("tools/call"), 1, "{what}");
}

#[tokio::test]
async fn what_is_not_the_answer_to_the_call_is_none() {
    let to = |id: Value| move |_: &Seen| Reply::Keep(answer(&json!({"jsonrpc": "2.0", "id": id, "result": {}})));
    hostile("another id", to(json!(999_999)), Broken).await;
    hostile("the id as text", to(json!("3")), Broken).await;
    hostile("no id", to(Value::Null), Broken).await;
    let body = |text: &'static str| {
        move |seen: &Seen| {
            let text = text.replace("ID", &seen.id().to_string());
            Reply::Keep(http("200 OK", "Content-Type: application/json\r\n", text.as_bytes()))
        }
    };
    hostile("both", body(r#"{"jsonrpc":"2.0","id":ID,"result":{},"error":{"code":1,"message":""}}"#), Broken).await;
    hostile("neither", body(r#"{"jsonrpc":"2.0","id":ID}"#), Broken).await;
    hostile("a result of text", body(r#"{"jsonrpc":"2.0","id":ID,"result":"done"}"#), Broken).await;
    hostile("another protocol", body(r#"{"id":ID,"result":{}}"#), Broken).await;
    hostile("a key twice", body(r#"{"jsonrpc":"2.0","id":ID,"result":{"isError":true,"isError":false}}"#), Broken)
        .await;
    hostile("a number that is rounded", body(r#"{"jsonrpc":"2.0","id":ID,"result":{"n":9007199254740993}}"#), Broken)
        .await;
    hostile("a batch", body(r#"[{"jsonrpc":"2.0","id":ID,"result":{}}]"#), Broken).await;
    hostile("not JSON", body("<html>"), Broken).await;
    hostile("a request", body(r#"{"jsonrpc":"2.0","id":ID,"method":"ping"}"#), Broken).await;
    hostile("only a notification", body(r#"{"jsonrpc":"2.0","method":"notifications/message"}"#), Broken).await;
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_read() {
    let raw = |bytes: &'static [u8]| move |_: &Seen| Reply::Close(bytes.to_vec());
    hostile("a page", |_| Reply::Keep(http("200 OK", "Content-Type: text/html\r\n", b"hello")), Broken).await;
    hostile("an acknowledgement", |_| Reply::Keep(http("202 Accepted", "", b"")), Broken).await;
    let gzip = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    hostile("compressed", move |_| Reply::Keep(http("200 OK", gzip, b"\x1f\x8b")), Broken).await;
    hostile("not HTTP", raw(b"SSH-2.0-OpenSSH\r\n"), Broken).await;
    hostile("nothing", raw(b""), Broken).await;
    hostile(
        "half a body",
        raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"),
        Broken,
    )
    .await;
    let two = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}";
    hostile("two lengths", raw(two), Broken).await;
    hostile(
        "an endless head",
        |_| Reply::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-A: aaaaaaaaaaaaaaaa\r\n".to_vec()),
        Broken,
    )
    .await;
}

#[tokio::test]
async fn a_stream_is_bounded_and_strict() {
    let text = |text: &'static [u8]| move |_: &Seen| Reply::Close([STREAM, text].concat());
    hostile("it ends before the answer", text(b": hello\n\n"), Broken).await;
    hostile("half an event", text(b"data: {\"jsonrpc\":\"2.0\"\n"), Broken).await;
    hostile("not text", text(b"data: \xff\n\n"), Broken).await;
    hostile("an answer to another", text(b"data: {\"jsonrpc\":\"2.0\",\"id\":77,\"result\":{}}\n\n"), Broken).await;
    hostile("a question", text(b"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"elicitation/create\"}\n\n"), Broken)
        .await;
    let endless = |part: &'static [u8]| move |_: &Seen| Reply::Endless(STREAM.to_vec(), part.repeat(100));
    hostile("comments without end", endless(b": .\n"), TooLarge).await;
    hostile(
        "events without end",
        endless(b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n"),
        TooLarge,
    )
    .await;
    hostile("an event without end", endless(b"data: aaaaaaaaaaaaaaaa\n"), TooLarge).await;
    hostile("a line without end", endless(b"aaaaaaaaaaaaaaaa"), TooLarge).await;
    let large = vec![b' '; 65 * 1024];
    hostile(
        "a large answer",
        move |_| Reply::Keep(http("200 OK", "Content-Type: application/json\r\n", &large)),
        TooLarge,
    )
    .await;
}

#[tokio::test]
async fn what_a_server_says_before_it_answers_is_heard_if_it_belongs_to_the_call() {
    let server = Scripted::start(modern(|seen| {
        let token = seen.body["params"]["_meta"]["progressToken"].clone();
        let progress = |token: &Value, progress: i64| {
            event(&json!({"jsonrpc": "2.0", "method": "notifications/progress",
                "params": {"progressToken": token, "progress": progress, "message": "\u{20ac}"}}))
        };
        let other =
            |method: &str| event(&json!({"jsonrpc": "2.0", "method": method, "params": {"level": "info", "data": 1}}));
        let last = event(&json!({"jsonrpc": "2.0", "id": seen.id(), "result": {"content": []}})).replace('\n', "\r\n");
        let after = event(&json!({"jsonrpc": "2.0", "id": seen.id(), "result": {"content": ["second"]}}));
        Reply::Close(stream(&[
            progress(&token, 1),
            progress(&json!("of-another-call"), 2),
            other("notifications/message"),
            other("notifications/unheard-of"),
            last,
            after,
        ]))
    }))
    .await;
    let upstream = server.ready().await;
    let told = Arc::new(Told::default());
    let request = crate::pep::ports::Outbound { notices: Some(Arc::clone(&told) as _), ..save() };
    let answer = upstream.carry(&request).await.unwrap();
    assert_eq!(&answer.body[..], br#"{"content":[]}"#, "the first answer counts");
    let expected = [
        ("notifications/progress".to_owned(), json!({"progress": 1, "message": "\u{20ac}"})),
        ("notifications/message".to_owned(), json!({"level": "info", "data": 1})),
    ];
    assert_eq!(*told.0.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_no_says_whether_nothing_was_done() {
    let no = |status: &'static str, code: i64| {
        move |seen: &Seen| {
            Reply::Keep(http(
                status,
                "Content-Type: application/json\r\nRetry-After: 7\r\n",
                error(seen, code).to_string().as_bytes(),
            ))
        }
    };
    let expect = async |status: &'static str, code: i64, expected: u16| {
        let server = Scripted::start(modern(no(status, code))).await;
        let answer = server.ready().await.carry(&save()).await.unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["code"]), (expected, &json!(code)), "{status} {code}");
        assert_eq!(server.times("tools/call"), 1, "{status} {code}");
    };
    expect("200 OK", -32602, 422).await;
    expect("400 Bad Request", -32020, 422).await;
    expect("404 Not Found", -32601, 422).await;
    expect("200 OK", -32603, 500).await;
    expect("200 OK", 4711, 500).await;
    expect("429 Too Many Requests", -32000, 429).await;
    expect("503 Service Unavailable", -32601, 503).await;
}

#[tokio::test]
async fn an_http_error_stays_one_and_no_redirect_is_followed() {
    let elsewhere = Scripted::start(|_| Reply::Close(Vec::new())).await;
    let location = format!("Location: http://127.0.0.1:{}/mcp\r\n", elsewhere.port);
    for (status, code) in
        [("401 Unauthorized", 401), ("403 Forbidden", 403), ("500 Oh", 500), ("302 Found", 302), ("307 There", 307)]
    {
        let location = location.clone();
        let server = Scripted::start(modern(move |_| Reply::Keep(http(status, &location, b"<html>")))).await;
        let answer = server.ready().await.carry(&save()).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (code, 0));
        assert_eq!(server.times("tools/call"), 1);
    }
    assert!(elsewhere.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nothing_sent_is_proven_and_not_guessed() {
    let server = Scripted::start(modern(|seen| Reply::Keep(done(seen)))).await;
    let upstream = server.ready().await;
    let unsent = async |request: crate::pep::ports::Outbound| {
        let fault = upstream.carry(&request).await.unwrap_err();
        assert_eq!((fault.kind, fault.bytes_left), (Unreachable, false), "{fault}");
    };
    unsent(crate::pep::ports::Outbound {
        send_before: Some(Instant::now().checked_sub(Duration::from_secs(1)).unwrap()),
        ..save()
    })
    .await;
    let mut request = save();
    request.headers.push(("X-Request-Id", "a\r\nX-Evil: 1".into()));
    unsent(request).await;
    unsent(crate::pep::ports::Outbound { body: None, ..save() }).await;
    assert_eq!(server.times("tools/call"), 0);
    let fault = server.upstream().carry(&save()).await.unwrap_err();
    assert_eq!((fault.kind, fault.bytes_left), (Unreachable, false), "a server that was not met yet: {fault}");
    let port = server.port;
    drop(server);
    upstream.links.forget();
    let fault = upstream.carry(&save()).await.unwrap_err();
    assert_eq!((fault.kind, fault.bytes_left), (Unreachable, false), "nobody listens on {port}: {fault}");
}

#[tokio::test]
async fn a_call_without_an_answer_in_time_may_have_been_made() {
    let server = Scripted::start(modern(|_| Reply::Hang(Vec::new()))).await;
    let upstream = server.ready().await;
    let request = crate::pep::ports::Outbound { timeout: Duration::from_millis(200), ..save() };
    let fault = upstream.carry(&request).await.unwrap_err();
    assert_eq!((fault.kind, fault.bytes_left), (Timeout, true));
    assert_eq!(server.times("tools/call"), 1);
}

#[tokio::test]
async fn a_write_on_a_connection_that_was_closed_meanwhile_is_made_once_on_another() {
    let server = Scripted::start(modern(|seen| Reply::Close(done(seen)))).await;
    let upstream = server.ready().await;
    for made in 1..=20 {
        // The server closes after each answer and does not say so beforehand.
        let answer = upstream.carry(&save()).await;
        if let Err(fault) = answer {
            assert!(fault.bytes_left, "what may have left is not said to be unsent: {fault}");
        }
        assert!(server.times("tools/call") <= made, "none was sent twice");
    }
}

#[tokio::test]
async fn a_write_on_a_connection_that_dies_is_not_made_again() {
    let server = Scripted::start(modern(|_| Reply::Close(Vec::new()))).await;
    let upstream = server.ready().await;
    let fault = upstream.carry(&save()).await.unwrap_err();
    assert_eq!((fault.kind, fault.bytes_left), (Broken, true), "{fault}");
    assert_eq!(server.times("tools/call"), 1);
}

#[tokio::test]
async fn a_read_on_a_connection_that_dies_is_made_again() {
    let met = Mutex::new(0);
    let server = Scripted::start(modern(move |seen| {
        let mut met = met.lock().unwrap();
        *met += 1;
        if *met == 1 { Reply::Close(Vec::new()) } else { Reply::Keep(result(seen, &json!({"contents": []}))) }
    }))
    .await;
    let upstream = server.ready().await;
    let answer = upstream.carry(&outbound("resources/read", &json!({"uri": "test://a"}))).await.unwrap();
    assert_eq!((answer.status, server.times("resources/read")), (200, 2));
    assert_eq!(server.last("resources/read").header("mcp-name"), Some("test://a"));
}
