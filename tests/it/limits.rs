//! Too many messages: who is stopped, who is not, and what they are told.

use std::time::Instant;

use loopgate::app;
use loopgate::domain::identity::dev::DevClaims;
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::claims;
use crate::harness::eventually;
use crate::message::Answer;
use crate::message::Message;

/// A policy that puts every call, or whatever `phases` says, in a class.
const DECISION: &str = "loopiq/gateway/decision.rego";
const PACKAGE: &str = "package loopiq.gateway\n";
const GOLD_CALLS: &str = "package loopiq.gateway\n\nobligations contains {\"type\": \"limit\", \"class\": \"gold\"} if input.phase == \"call\"\n";
const GOLD_LISTS: &str = "package loopiq.gateway\n\nobligations contains {\"type\": \"limit\", \"class\": \"gold\"} if \
    input.phase in {\"list\", \"response\"}\n";

/// So slow that nothing comes back while a test runs.
fn rates(text: &str) -> Setup {
    Setup { settings: format!("limits: {{rates: {{{text}}}}}"), ..Setup::default() }
}

fn with_policy(text: &str, policy: &'static str) -> Setup {
    Setup { policies: vec![(DECISION, PACKAGE, policy)], ..rates(text) }
}

/// A refusal for too many messages says so in every way that a client may look at.
#[track_caller]
fn is_limited(answer: &Answer, limit: &str) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.is_refused("rate_limited");
    let refusal = answer.refusal();
    assert_eq!((&refusal["limit"], &refusal["retryable"]), (&json!(limit), &json!(true)), "{refusal}");
    let seconds = refusal["retryAfter"].as_u64().unwrap();
    assert!((1..=60).contains(&seconds), "{refusal}");
    assert_eq!(answer.header("retry-after"), seconds.to_string());
    assert_eq!(refusal["retryAfterMs"].as_u64().unwrap().div_ceil(1_000), seconds);
    assert!(answer.words().contains(&format!("wait {seconds} s")), "{}", answer.words());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_much_is_told_when_to_come_back_and_others_go_on() {
    let world = World::with(rates("user: {per_minute: 1, burst: 3}")).await;
    for _ in 0..3 {
        world.read("ada").send().await.done();
    }
    world.forget().await;
    let refused = world.read("ada").send().await;
    is_limited(&refused, "user");
    let modern = world.read("ada").modern().send().await;
    is_limited(&modern, "user");
    assert!(world.seen().await.is_empty(), "nothing was sent on");
    assert_eq!(world.stages(refused.audit()["requestId"].as_str().unwrap()), ["denied"]);
    world.read("ben").send().await.done();
    assert_eq!(world.metric("loopgate_rate_limited_total{limit=\"user\"}").await, Some(2.0));
    // A list, and a greeting, can say it only in an error.
    for method in ["tools/list", "ping"] {
        let error = world.message("ada", method).send().await;
        assert_eq!((error.status, error.rpc_code()), (200, Some(40_300)), "{}", error.text);
        assert_eq!(error.body["error"]["data"]["code"], "rate_limited", "{}", error.text);
        assert!((1..=60).contains(&error.header("retry-after").parse().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organisation_is_counted_over_all_its_callers_and_apart_from_others() {
    let world = World::with(rates("tenant: {per_minute: 1, burst: 2}")).await;
    world.read("ada").send().await.done();
    world.read("ben").send().await.done();
    is_limited(&world.read("otto").send().await, "tenant");
    let other = world.call("nora", "loopiq_get_tenant_context", json!({})).send().await;
    other.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_denied_does_not_use_up_a_tool_and_a_refused_write_leaves_nothing_behind() {
    let world = World::with(rates("tool: {per_minute: 1, burst: 1}")).await;
    for _ in 0..3 {
        let denied = world.write("vic", "not-mine").send().await;
        assert!(["policy_denied", "unknown_tool"].contains(&denied.code()), "{}", denied.text);
    }
    world.write("ada", "First").meta("com.loopiq/idempotencyKey", "k-1").send().await.done();
    world.forget().await;
    // A repetition is a call as any other.
    let again = world.write("ada", "First").meta("com.loopiq/idempotencyKey", "k-1").send().await;
    is_limited(&again, "tool");
    let refused = world.write("ben", "Second").meta("com.loopiq/idempotencyKey", "k-2").send().await;
    is_limited(&refused, "tool");
    assert!(world.seen().await.is_empty(), "nothing was sent on");
    let key = json!({"idempotencyKey": "k-2"});
    let state = world.call("ben", "loopiq_get_action", key).send().await;
    assert!(!state.text.contains("reserved") && !state.text.contains("sent\\\""), "{}", state.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_puts_a_call_in_a_class_for_each_caller() {
    let world = World::with(with_policy("classes: {gold: {per_minute: 1, burst: 1}}", GOLD_CALLS)).await;
    world.read("ada").send().await.done();
    is_limited(&world.read("ada").send().await, "class");
    world.read("ben").send().await.done();
    assert!(!world.tools("ada").await.is_empty(), "lists are in no class here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_that_the_settings_do_not_know_is_a_no() {
    for policy in [GOLD_CALLS, GOLD_LISTS] {
        let world = World::with(with_policy("classes: {silver: {per_minute: 1}}", policy)).await;
        let calls = policy == GOLD_CALLS;
        let refused = world.read("ada").send().await;
        // What was made already is not undone by it.
        refused.is_refused(if calls { "policy_unavailable" } else { "response_withheld" });
        assert_eq!(refused.refusal()["reasons"][0]["code"], "limit_class_unknown", "{}", refused.text);
        assert!(!refused.text.contains("gold"), "the class is the operators' business: {}", refused.text);
        if calls {
            assert!(world.seen().await.is_empty());
        }
        let faults = world.metric("loopgate_policy_faults_total{fault=\"limit_class_unknown\"}").await;
        assert_eq!(faults, Some(1.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_of_answers_and_lists_is_paid_for_by_the_next_call_in_it() {
    let both = "package loopiq.gateway\n\nobligations contains {\"type\": \"limit\", \"class\": \"gold\"} if input.phase in {\"list\", \"call\", \"response\"}\n";
    let world = World::with(with_policy("classes: {gold: {per_minute: 1, burst: 2}}", both)).await;
    // Counted once, in the call phase, though the response phase names the class too.
    world.read("ada").send().await.done();
    world.read("ada").send().await.done();
    is_limited(&world.read("ada").send().await, "class");
    // A list has been made when it is counted.
    assert!(!world.tools("ben").await.is_empty());
    assert!(!world.tools("ben").await.is_empty());
    is_limited(&world.read("ben").send().await, "class");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organisation_has_only_so_much_under_way_at_once() {
    let world = World::with(rates("concurrent: 1")).await;
    world.fault(json!({"method": "POST", "path": "/api/v1/work-items", "kind": "delay", "ms": 1500})).await;
    let (slow, mut clients) = (world.write("ada", "Slow"), JoinSet::new());
    clients.spawn(async move { slow.send().await });
    eventually("the request at the backend", || async { (!world.seen().await.is_empty()).then_some(()) }).await;
    let refused = world.read("ben").send().await;
    refused.is_refused("overloaded");
    assert_eq!((refused.status, refused.header("retry-after")), (200, "1"));
    world.call("nora", "loopiq_get_tenant_context", json!({})).send().await.done();
    clients.join_next().await.unwrap().unwrap().done();
    world.read("ben").send().await.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_credentials_of_an_address_are_slowed_down_and_good_ones_are_not() {
    let world = World::with(rates("failures: {per_minute: 1, burst: 2}")).await;
    let bad = || Message::new(&world.http, &world.mcp, "ping").header("authorization", "Bearer nonsense");
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(bad().send().await);
    }
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [401, 401, 429]);
    assert!((1..=60).contains(&answers[2].header("retry-after").parse().unwrap()));
    assert_eq!(answers[2].code(), "rate_limited");
    // Whoever shows none at all has not failed, and is told where to get one.
    let newcomer = Message::new(&world.http, &world.mcp, "ping").send().await;
    assert_eq!(newcomer.status, 401);
    assert!(newcomer.header("www-authenticate").contains("resource_metadata"), "{}", newcomer.text);
    world.read("ada").send().await.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_recorded_or_counted_and_never_lost_from_sight() {
    const FLOOD: usize = 300;
    let world = World::with(rates("user: {per_minute: 1, burst: 1}")).await;
    world.read("ada").send().await.done();
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let call = world.read("ada");
        clients.spawn(async move {
            for _ in 0..FLOOD / 4 {
                call.send().await.is_refused("rate_limited");
            }
        });
    }
    clients.join_all().await;
    let of_flood = |one: &&Value| one["unmapped"]["loopgate"]["refusal"]["code"] == "rate_limited";
    let journal = world.journal();
    let recorded = journal.iter().filter(of_flood).count();
    assert!(recorded > 0);
    let counted = world.metric("loopgate_refusals_aggregated_total").await.unwrap_or(0.0);
    let left = FLOOD - recorded;
    assert_eq!(format!("{counted}"), left.to_string(), "{recorded} were recorded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_names_no_organisation_uses_up_nothing_of_others_who_name_none() {
    let world = World::with(rates("tenant: {per_minute: 1, burst: 1}")).await;
    let ping = |user: &str| {
        let several = DevClaims { user: user.to_owned(), ..claims("cleo") };
        let token = world.people.mint(&several, app::now_s(), 3600, user);
        Message::new(&world.http, &world.mcp, "ping").header("authorization", &format!("Bearer {token}"))
    };
    assert_eq!(ping("ada").send().await.rpc_code(), None);
    let refused = ping("ada").send().await;
    assert_eq!(refused.body["error"]["data"]["code"], "rate_limited", "{}", refused.text);
    assert_eq!(ping("ben").send().await.rpc_code(), None, "of another caller");
    world.read("ben").send().await.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_rate_counts_does_not_fill_the_journal_either() {
    const FLOOD: usize = 400;
    let world = World::with(rates("user: {per_minute: 1, burst: 1}")).await;
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let call = world.read("ada").header("x-loopiq-tenant", "org_elsewhere");
        clients.spawn(async move {
            for _ in 0..FLOOD / 4 {
                call.send().await.is_refused("tenant_forbidden");
            }
        });
    }
    clients.join_all().await;
    let of_flood = |one: &&Value| one["unmapped"]["loopgate"]["refusal"]["code"] == "tenant_forbidden";
    let recorded = world.journal().iter().filter(of_flood).count();
    // A burst, and then so many in a second: however slow the machine is, no more.
    let most = 201 + 20 * usize::try_from(began.elapsed().as_secs() + 1).unwrap();
    assert!((1..=most).contains(&recorded), "{recorded} were recorded, and at most {most} may be");
    let counted = world.metric("loopgate_refusals_aggregated_total").await.unwrap_or(0.0);
    assert_eq!(format!("{counted}"), (FLOOD - recorded).to_string(), "{recorded} were recorded");
    world.read("ben").send().await.done();
}
