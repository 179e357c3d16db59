//! `subscriptions/listen`: who is told of a change, how often, and when a stream ends.

use std::fs;

use loopgate::adapters::keys::dev;
use loopgate::app;
use loopgate::domain::identity::dev::DevIssuer;
use loopgate::domain::identity::signing::SigningKey;
use reqwest::Response;
use serde_json::Value;
use serde_json::json;

use crate::harness::AUDIENCE;
use crate::harness::PEOPLE;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::claims;
use crate::harness::eventually;
use crate::message::Message;

const BOTH: &str = "application/json, text/event-stream";
const DECISION: &str = "policies/loopiq/gateway/decision.rego";
const TENANTS: &str = "policies/data/tenants.yaml";
const OPEN: &str = "    admin: true\n  tools: {}\n";
const WITHOUT_RELEASES: &str = "    admin: true\n  tools: {loopiq_get_release: false}\n";
const AGENTS: &str = "    loopiq_list_ai_ml_agents: true\n";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

fn listen(world: &World, user: &str, notifications: Value) -> Message {
    world.message(user, "subscriptions/listen").modern().header("accept", BOTH).param("notifications", notifications)
}

fn tools(world: &World, user: &str) -> Message {
    listen(world, user, json!({"toolsListChanged": true}))
}

/// A stream as its client reads it.
struct Stream {
    response: Response,
    unread: String,
}

impl Stream {
    async fn open(message: Message) -> Self {
        let response = message.request().send().await.unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!((response.status().as_u16(), kind.as_str()), (200, "text/event-stream"));
        Self { response, unread: String::new() }
    }

    /// The next message; none when the stream is over.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.unread.find("\n\n") {
                let event: String = self.unread.drain(..end + 2).collect();
                let data = event.lines().find_map(|line| line.strip_prefix("data: ").map(str::to_owned));
                match data {
                    Some(data) => return Some(serde_json::from_str(&data).unwrap()),
                    None => continue,
                }
            }
            let piece = self.response.chunk().await.unwrap()?;
            self.unread.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The methods of all that is left, the result as `result`.
    async fn rest(mut self) -> Vec<String> {
        let mut methods = Vec::new();
        while let Some(message) = self.next().await {
            methods.push(message["method"].as_str().unwrap_or("result").to_owned());
        }
        methods
    }
}

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const CHANGED: &str = "notifications/tools/list_changed";

/// Waits until another policy decides.
async fn followed(world: &World, revision: &Value) -> Value {
    eventually("the next policy", || async {
        let now = world.readiness().await["rules"]["revision"].clone();
        (now != *revision).then_some(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_saw_a_tool_that_a_policy_edit_hides_is_told_once_and_nobody_else_is() {
    let mut world = World::new().await;
    let mut ada = Stream::open(tools(&world, "ada").id("l-1")).await;
    let mut nora = Stream::open(tools(&world, "nora")).await;
    let deaf = Stream::open(listen(&world, "ben", json!({"promptsListChanged": true}))).await;
    assert_eq!(
        ada.next().await.unwrap(),
        json!({"jsonrpc": "2.0", "method": ACKNOWLEDGED,
            "params": {"_meta": {SUBSCRIPTION: "l-1"}, "notifications": {"toolsListChanged": true}}})
    );
    assert_eq!(nora.next().await.unwrap()["method"], ACKNOWLEDGED);
    let revision = world.readiness().await["rules"]["revision"].clone();
    world.edit(DECISION, "package loopiq.gateway\n", "package loopiq.gateway\n\n# A change that nobody can see.\n");
    let revision = followed(&world, &revision).await;
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    assert_eq!(
        ada.next().await.unwrap(),
        json!({"jsonrpc": "2.0", "method": CHANGED, "params": {"_meta": {SUBSCRIPTION: "l-1"}}})
    );
    followed(&world, &revision).await;
    // What another organisation sees.
    world.edit(TENANTS, AGENTS, "");
    assert_eq!(nora.next().await.unwrap()["method"], CHANGED);
    world.stop_gateway().await;
    let end = ada.next().await.unwrap();
    assert_eq!((&end["id"], &end["result"]["resultType"]), (&json!("l-1"), &json!("complete")), "{end}");
    assert_eq!(end["result"]["_meta"][SUBSCRIPTION], "l-1");
    assert!(ada.rest().await.is_empty());
    assert_eq!(nora.rest().await, ["result"], "once, and for their own list only");
    assert_eq!(deaf.rest().await, [ACKNOWLEDGED, "result"], "what was not asked for is not told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_and_closing_are_recorded_and_an_open_stream_is_no_message_under_way() {
    let world = World::with(Setup {
        settings: "limits: {rates: {concurrent: 1}, subscriptions: {caller: 1}}".to_owned(),
        ..Setup::default()
    })
    .await;
    let mut ada = Stream::open(tools(&world, "ada")).await;
    assert_eq!(ada.next().await.unwrap()["method"], ACKNOWLEDGED);
    assert_eq!(world.metric("loopgate_requests_in_flight").await, Some(0.0));
    assert_eq!(world.metric("loopgate_subscriptions").await, Some(1.0));
    world.read("ben").send().await.done();
    let second = tools(&world, "ada").send().await;
    assert_eq!((second.code(), second.header("retry-after")), ("rate_limited", "30"), "{}", second.text);
    drop(ada);
    eventually("the place of the stream that was left", || async {
        (world.metric("loopgate_subscriptions").await == Some(0.0)).then_some(())
    })
    .await;
    Stream::open(tools(&world, "ada")).await.next().await.unwrap();
    let states: Vec<Value> = eventually("the record of the closing", || async {
        let journal = world.journal();
        let of_streams = journal.iter().map(|one| &one["unmapped"]["loopgate"]["data"]["subscription"]);
        let states: Vec<Value> = of_streams.filter(|one| !one.is_null()).cloned().collect();
        states.iter().any(|one| one["state"] == "closed").then_some(states)
    })
    .await;
    assert_eq!(states[0], json!({"state": "opened", "tools": true, "prompts": false}));
    assert!(states.contains(&json!({"state": "closed", "why": "client_left", "told": 0})), "{states:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_when_its_credential_is_no_longer_good() {
    let world = World::new().await;
    let mut ada = Stream::open(tools(&world, "ada")).await;
    ada.next().await.unwrap();
    // The issuer signs with another key from now on.
    let mut random = [0u8; 32];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    let key = SigningKey::generate(&random).unwrap();
    let issuer = DevIssuer { key, issuer: PEOPLE.to_owned(), audience: AUDIENCE.to_owned() };
    let elsewhere = world.path("elsewhere");
    dev::save(&elsewhere, &issuer).unwrap();
    fs::rename(elsewhere.join(dev::JWKS_FILE), world.path("issuers/people").join(dev::JWKS_FILE)).unwrap();
    // A token that names an unknown key has the keys read again.
    let token = issuer.mint(&claims("ben"), app::now_s(), 3600, "one");
    let call = Message::new(&world.http, &world.mcp, "ping").header("authorization", &format!("Bearer {token}"));
    eventually("the new key", || async { (call.send().await.status == 200).then_some(()) }).await;
    assert_eq!(world.read("ada").send().await.status, 401);
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    assert_eq!(ada.rest().await, ["result"], "and nothing of the change");
    let closed = eventually("the record", || async {
        let journal = world.journal();
        journal.iter().find_map(|one| {
            let of_stream = &one["unmapped"]["loopgate"]["data"]["subscription"];
            (of_stream["state"] == "closed").then(|| of_stream.clone())
        })
    })
    .await;
    assert_eq!(closed["why"], "credential_ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_modern_client_that_reads_streams_is_offered_one() {
    let world = World::new().await;
    let discovered = world.message("ada", "server/discover").modern().send().await;
    assert_eq!(discovered.body["result"]["capabilities"]["tools"], json!({"listChanged": true}));
    let initialize = world
        .message("ada", "initialize")
        .param("protocolVersion", "2025-11-25")
        .param("capabilities", json!({}))
        .param("clientInfo", json!({"name": "it", "version": "1"}));
    assert_eq!(initialize.send().await.body["result"]["capabilities"]["tools"], json!({}));
    let legacy = world.message("ada", "subscriptions/listen").header("accept", BOTH).param("notifications", json!({}));
    assert_eq!(legacy.send().await.rpc_code(), Some(-32601));
    let whole = world
        .message("ada", "subscriptions/listen")
        .modern()
        .header("accept", "application/json")
        .param("notifications", json!({}))
        .send()
        .await;
    assert_eq!(whole.status, 406, "{}", whole.text);
    let unread = listen(&world, "ada", json!({"toolsListChanged": 1})).send().await;
    assert_eq!(unread.rpc_code(), Some(-32602), "{}", unread.text);
    let unplaced = tools(&world, "cleo").send().await;
    unplaced.is_refused("tenant_required");
}
