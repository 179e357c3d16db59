//! What MCP and HTTP ask of the door, seen from outside. The door's own tests go further.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::World;
use crate::message::Answer;

/// A body as it is, with headers.
async fn post(world: &World, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
    let bearer = format!("Bearer {}", world.token("ada"));
    let mut request = world.http.post(&world.mcp).header("authorization", bearer);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::read(request.body(body).send().await.unwrap()).await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_is_refused_with_the_status_and_code_that_name_the_fault() {
    let world = World::new().await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{}1{}}}",
        "{\"a\":".repeat(100),
        "}".repeat(100)
    );
    for (headers, body, status, code) in [
        (&[JSON][..], ping, 200, None),
        (&[("content-type", "text/plain")], ping, 415, Some(-32600)),
        (&[], ping, 415, Some(-32600)),
        (&[JSON], "{not json", 400, Some(-32700)),
        (&[JSON], "", 400, Some(-32700)),
        (&[JSON], r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, 400, Some(-32700)),
        (&[JSON], &deep, 400, Some(-32700)),
        (&[JSON], &format!("[{ping}]"), 400, Some(-32600)),
        (&[JSON], r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, 400, Some(-32600)),
        (&[JSON], r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, 400, Some(-32600)),
        (&[JSON, ("MCP-Protocol-Version", "1999-01-01")], ping, 400, Some(-32600)),
        (&[JSON, ("origin", "https://evil.invalid")], ping, 403, Some(-32600)),
        (&[JSON, ("host", "evil.invalid")], ping, 403, Some(-32600)),
    ] {
        let answer = post(&world, headers, body.to_owned()).await;
        assert_eq!((answer.status, answer.rpc_code()), (status, code), "{headers:?} {body}: {}", answer.text);
    }
    let large = post(&world, &[JSON], " ".repeat(2 << 20)).await;
    assert_eq!((large.status, large.rpc_code()), (413, Some(-32600)), "{}", large.text);
    for method in [Method::GET, Method::DELETE, Method::PUT] {
        let bearer = format!("Bearer {}", world.token("ada"));
        let asked = world.http.request(method, &world.mcp).header("authorization", bearer).send().await.unwrap();
        assert_eq!(asked.status(), 405);
        assert_eq!(asked.headers()["allow"], "POST");
    }
    // A stranger learns nothing of all this.
    let stranger = world.http.post(&world.mcp).body("{not json").send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    // Both paths are one endpoint.
    let root = world.http.post(world.mcp.replace("/mcp", "/")).body("").send().await.unwrap();
    assert_eq!(root.status(), 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_eras_are_answered_in_their_own_terms() {
    let world = World::new().await;
    let ping = world.message("ada", "ping").id("p").send().await;
    assert_eq!((ping.status, ping.body), (200, json!({"jsonrpc": "2.0", "id": "p", "result": {}})));
    for (asked, given) in [("2025-06-18", "2025-06-18"), ("2025-03-26", "2025-03-26"), ("1999-01-01", "2025-11-25")] {
        let hello = world
            .message("ada", "initialize")
            .param("protocolVersion", asked)
            .param("capabilities", json!({}))
            .param("clientInfo", json!({"name": "it", "version": "1"}))
            .send()
            .await;
        assert_eq!(hello.body["result"]["protocolVersion"], given, "{}", hello.text);
        assert!(hello.headers.get("mcp-session-id").is_none(), "there are no sessions");
    }
    let unknown = world.message("ada", "resources/list").send().await;
    assert_eq!((unknown.status, unknown.rpc_code()), (200, Some(-32601)));

    let found = world.message("ada", "server/discover").modern().send().await;
    assert_eq!(found.body["result"]["supportedVersions"], json!(["2026-07-28"]), "{}", found.text);
    for method in ["resources/list", "ping", "no/such"] {
        let unknown = world.message("ada", method).modern().send().await;
        assert_eq!((unknown.status, unknown.rpc_code()), (404, Some(-32601)), "{}", unknown.text);
    }
    let version = "io.modelcontextprotocol/protocolVersion";
    let later = world.read("ada").modern().meta(version, "2099-01-01");
    let disagreeing = later.send().await;
    assert_eq!((disagreeing.status, disagreeing.rpc_code()), (400, Some(-32020)), "{}", disagreeing.text);
    for (name, value) in [("Mcp-Name", "loopiq_search_releases"), ("Mcp-Method", "tools/list")] {
        let answer = world.read("ada").modern().header(name, value).send().await;
        assert_eq!((answer.status, answer.rpc_code()), (400, Some(-32020)), "{}", answer.text);
    }
    let release = world.call("ada", "loopiq_get_release", json!({"release": RELEASE})).modern();
    release.clone().header("Mcp-Param-Release", RELEASE).send().await.done();
    for wrong in [release.clone(), release.header("Mcp-Param-Release", "other-v1")] {
        let answer = wrong.send().await;
        assert_eq!((answer.status, answer.rpc_code()), (400, Some(-32020)), "{}", answer.text);
    }
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": {
        version: "2099-01-01", "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    let headers = [JSON, ("MCP-Protocol-Version", "2099-01-01"), ("Mcp-Method", "server/discover")];
    let answer = post(&world, &headers, body.to_string()).await;
    assert_eq!((answer.status, answer.rpc_code()), (400, Some(-32022)), "{}", answer.text);
    assert_eq!(answer.body["error"]["data"]["supported"], json!(["2026-07-28"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_of_a_list_join_to_the_whole_without_doubles() {
    let world = World::with(Setup { settings: "tools_list: {page: 4}\n".to_owned(), ..Setup::default() }).await;
    let page = world.message("ada", "tools/list").send().await;
    assert_eq!(page.body["result"]["tools"].as_array().unwrap().len(), 4, "{}", page.text);
    let joined = world.tools("ada").await;
    let distinct: BTreeSet<&String> = joined.iter().collect();
    assert_eq!(distinct.len(), joined.len(), "{joined:?}");
    assert!(joined.is_sorted(), "{joined:?}");
    // The gateway's own list of routes is not paged, and says which tool stands for each.
    let routes = world.call("ada", "loopiq_list_routes", json!({})).send().await.done();
    let of_routes: BTreeSet<String> =
        routes["items"].as_array().unwrap().iter().map(|route| route["tool"].as_str().unwrap().to_owned()).collect();
    let own = [
        "loopiq_execute_approved_action",
        "loopiq_get_action",
        "loopiq_get_mcp_reliability_contract",
        "loopiq_get_tenant_context",
        "loopiq_invoke_route",
        "loopiq_list_resources",
        "loopiq_list_routes",
    ];
    let whole: BTreeSet<String> = of_routes.into_iter().chain(own.map(str::to_owned)).collect();
    assert_eq!(whole, joined.iter().cloned().collect::<BTreeSet<String>>());
    for cursor in [json!("bogus"), json!(7), Value::from("")] {
        let answer = world.message("ada", "tools/list").param("cursor", cursor).send().await;
        assert_eq!(answer.rpc_code(), Some(-32602), "{}", answer.text);
    }
}
