//! The client against the servers of the official SDKs. `tests/clients/upstreams` starts them and runs this.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::scripted::Told;
use super::scripted::outbound;
use super::scripted::outbound_of;
use super::scripted::server;
use crate::adapters::upstream::Limits;
use crate::adapters::upstream::Place;
use crate::adapters::upstream::Server;
use crate::adapters::upstream::UpstreamServers;
use crate::adapters::upstream::server::Upstream;
use crate::metrics::Metrics;
use crate::pep::ports::Outbound;
use crate::pep::ports::Upstreams;

/// `name=revision=url`, by which each is told from the others.
fn all() -> Vec<(String, String, Server)> {
    let given =
        std::env::var_os("LOOPGATE_TEST_UPSTREAMS").expect("run tests/clients/upstreams, which starts the servers");
    let one = |given: &str| {
        let [name, era, url] = given.splitn(3, '=').collect::<Vec<_>>().try_into().unwrap();
        let authority = url.strip_prefix("http://").and_then(|url| url.strip_suffix("/mcp")).unwrap();
        let (host, port) = authority.split_once(':').unwrap();
        let place = Place { host: host.into(), ..server(port.parse().unwrap()).place };
        (name.to_owned(), era.to_owned(), Server { place, limits: Limits::default(), ..server(0) })
    };
    given.into_string().unwrap().split(' ').map(one).collect()
}

async fn ready(settings: Server) -> Upstream {
    let upstream = Upstream::new(settings);
    let offer = upstream.read().await.unwrap();
    upstream.offer.store(Some(offer.into()));
    upstream
}

async fn ask(upstream: &Upstream, request: Outbound) -> (u16, Value) {
    let answer = upstream.carry(&request).await.unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

fn call(name: &str) -> Outbound {
    outbound("tools/call", &json!({"name": name, "arguments": {}}))
}

#[tokio::test]
#[ignore = "needs servers: tests/clients/upstreams"]
async fn every_official_server_is_read_and_called_in_the_newest_revision_it_speaks() {
    let servers = all();
    assert_eq!(servers.len(), 5);
    for (name, era, settings) in servers {
        let upstream = ready(settings).await;
        let offer = upstream.offer.load_full().unwrap();
        assert_eq!(offer.era.as_str(), era, "{name}");
        let has = |list: &[Value], key: &str, value: &str| list.iter().any(|one| one[key] == value);
        assert!(has(&offer.tools, "name", "test_simple_text"), "{name}: {:?}", offer.tools);
        assert!(has(&offer.prompts, "name", "test_simple_prompt"), "{name}");
        assert!(has(&offer.resources, "uri", "test://static-text"), "{name}");
        assert!(has(&offer.templates, "uriTemplate", "test://template/{id}/data"), "{name}");

        let (status, said) = ask(&upstream, call("test_simple_text")).await;
        assert_eq!(
            (status, &said["content"][0]["text"]),
            (200, &json!("This is a simple text response for testing.")),
            "{name}"
        );
        let (status, said) = ask(&upstream, call("test_error_handling")).await;
        assert_eq!((status, &said["isError"]), (200, &json!(true)), "{name}: {said}");
        let (_, said) = ask(&upstream, outbound("resources/read", &json!({"uri": "test://static-text"}))).await;
        assert!(said["contents"][0]["text"].as_str().unwrap().starts_with("This is the content"), "{name}: {said}");
        let (_, said) = ask(&upstream, outbound("prompts/get", &json!({"name": "test_simple_prompt"}))).await;
        assert_eq!(said["messages"][0]["content"]["text"], "This is a simple prompt for testing.", "{name}");
        let (status, said) = ask(&upstream, outbound("prompts/get", &json!({"name": "no_such_prompt"}))).await;
        assert!(matches!(status, 422 | 500) && said["code"].is_i64(), "{name}: {status} {said}");
    }
}

#[tokio::test]
#[ignore = "needs servers: tests/clients/upstreams"]
async fn progress_of_every_official_server_is_heard() {
    for (name, _, settings) in all() {
        let upstream = ready(settings).await;
        let told = Arc::new(Told::default());
        let request = Outbound { notices: Some(Arc::clone(&told) as _), ..call("test_tool_with_progress") };
        assert_eq!(ask(&upstream, request).await.0, 200, "{name}");
        let told = told.0.lock().unwrap();
        let steps: Vec<_> = told
            .iter()
            .filter(|(method, _)| method == "notifications/progress")
            .map(|(_, said)| said["progress"].as_f64())
            .collect();
        assert_eq!(steps, [Some(0.0), Some(50.0), Some(100.0)], "{name}: {told:?}");
    }
}

fn typescript(name: &str) -> Server {
    all().into_iter().find(|(one, ..)| one == name).unwrap().2
}

#[tokio::test]
#[ignore = "needs servers: tests/clients/upstreams"]
async fn what_a_modern_server_asks_goes_back_to_the_caller_as_it_came() {
    let upstream = ready(typescript("typescript-both")).await;
    let capable = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
    let params = |more: Value| {
        let mut params = json!({"name": "test_input_required_result_request_state", "arguments": {}, "_meta": capable});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let (status, said) = ask(&upstream, outbound("tools/call", &params(json!({})))).await;
    assert_eq!((status, &said["resultType"]), (200, &json!("input_required")), "{said}");
    let given = json!({"requestState": said["requestState"],
        "inputResponses": {"confirm": {"action": "accept", "content": {"ok": true}}}});
    let (_, said) = ask(&upstream, outbound("tools/call", &params(given))).await;
    assert_eq!(said["content"][0]["text"], "state-ok", "{said}");
    let tampered =
        json!({"requestState": "x", "inputResponses": {"confirm": {"action": "accept", "content": {"ok": true}}}});
    assert_eq!(ask(&upstream, outbound("tools/call", &params(tampered))).await.0, 422);
    let (status, said) = ask(&upstream, call("test_missing_capability")).await;
    assert_eq!(
        (status, &said["code"]),
        (422, &json!(-32021)),
        "nothing is declared for a caller who declared nothing: {said}"
    );
    let region = outbound("tools/call", &json!({"name": "test_x_mcp_header", "arguments": {"region": "z\u{fc}rich"}}));
    assert_eq!(
        ask(&upstream, region).await.1["content"][0]["text"],
        "region=z\u{fc}rich",
        "the server has compared the header"
    );
}

#[tokio::test]
#[ignore = "needs servers: tests/clients/upstreams"]
async fn a_legacy_server_sees_one_session_for_each_user_and_asks_nobody() {
    let upstream = ready(typescript("typescript-legacy")).await;
    let session = async |user: &str| {
        let shown =
            ask(&upstream, outbound_of(user, "tools/call", &json!({"name": "show_headers", "arguments": {}}))).await.1;
        shown["structuredContent"]["session"].as_str().unwrap().to_owned()
    };
    let (ada, ben) = (session("ada").await, session("ben").await);
    assert_ne!(ada, ben);
    assert_eq!(session("ada").await, ada);
    let request = outbound("tools/call", &json!({"name": "test_sampling", "arguments": {"prompt": "x"}}));
    let said = ask(&upstream, request).await.1;
    assert!(said["content"][0]["text"].as_str().unwrap().contains("not supported"), "{said}");
    let resumed = Outbound { timeout: Duration::from_secs(20), ..call("test_reconnection") };
    let said = ask(&upstream, resumed).await.1;
    assert_eq!(said["content"][0]["text"], "Reconnection test completed successfully.", "its stream was taken up");
}

#[tokio::test]
#[ignore = "needs servers: tests/clients/upstreams"]
async fn a_changed_definition_is_read_as_soon_as_the_server_says_so() {
    for name in ["typescript-modern", "typescript-legacy"] {
        let settings = Server { refresh: Duration::from_hours(1), ..typescript(name) };
        let control = format!("http://localhost:{}/control/redefine", settings.place.port);
        let servers = UpstreamServers::new(vec![settings], &Arc::new(Metrics::new()));
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let description = || {
            let offers = servers.offers();
            let tools = &offers["docs"].tools;
            tools.iter().find(|tool| tool["name"] == "show_meta").unwrap()["description"].clone()
        };
        let watching = async {
            let mut changes = servers.changes();
            changes.wait_for(|changes| *changes == 1).await.unwrap();
            assert_eq!(description(), "Shows the `_meta` that came with the call");
            // WHY again and again: the server tells only those who listen already.
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let body = json!({"tool": "show_meta", "description": "another"}).to_string();
            while description() != "another" {
                client.post(&control).body(body.clone()).send().await.unwrap().error_for_status().unwrap();
                let _not_yet = tokio::time::timeout(Duration::from_millis(500), changes.changed()).await;
            }
            stop.send(true).unwrap();
        };
        tokio::join!(servers.run(stopped), watching);
    }
}
