//! A key means one write: twins, other payloads, lost answers, policies that change in between.

use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;

use crate::approvals::Package;
use crate::approvals::approve;
use crate::approvals::effects;
use crate::harness::Setup;
use crate::harness::World;
use crate::message::Answer;

const WRITES: &str = "/api/v1/work-items";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_deliveries_of_one_call_are_one_write_and_one_answer() {
    let world = World::new().await;
    let before = effects(&world).await;
    let calls = (0..32).map(|_| {
        let call = world.write("ada", "Delivered-often").header("Idempotency-Key", "often");
        async move { call.send().await }
    });
    let answers = join_all(calls).await;
    let done: Vec<&Answer> = answers.iter().filter(|answer| answer.code() == "ok").collect();
    assert!(!done.is_empty());
    for answer in &answers {
        assert!(["ok", "execution_in_flight", "execution_unknown"].contains(&answer.code()), "{}", answer.text);
        assert_eq!(answer.audit()["executionId"], done[0].audit()["executionId"], "one execution");
    }
    assert!(done.iter().all(|answer| answer.words() == done[0].words()), "one answer, byte for byte");
    assert_eq!(done.iter().filter(|answer| answer.audit()["replayed"] == false).count(), 1);
    assert_eq!(effects(&world).await, before + 1);
    assert_eq!(world.work_items("Delivered-often").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_payload_under_the_same_key_is_refused_and_sends_nothing() {
    let world = World::new().await;
    world.write("ada", "First-payload").header("Idempotency-Key", "k").send().await.done();
    world.forget().await;
    let other = world.write("ada", "Second-payload").header("Idempotency-Key", "k").send().await;
    other.is_refused("idempotency_mismatch");
    let workflow = world.write("ada", "First-payload").header("Idempotency-Key", "k").meta("com.loopiq/workflow", "w");
    workflow.send().await.is_refused("idempotency_mismatch");
    assert!(world.seen().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_or_malformed_call_does_not_use_its_key_up() {
    let world = World::new().await;
    let wrong = json!({"title": "Keyed-late", "type": "nonsense", "parent": "WI-1001", "owner": "ben"});
    let call = world.call("ada", "loopiq_create_work_item", wrong).header("Idempotency-Key", "late");
    call.send().await.is_refused("invalid_arguments");
    world.write("ada", "Keyed-late").header("Idempotency-Key", "late").send().await.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definite_no_is_given_again_and_a_connection_refused_leaves_the_key_free() {
    let world = World::new().await;
    let orphan = json!({"title": "Orphan", "type": "task", "parent": "WI-9999", "owner": "ben"});
    let call = world.call("ada", "loopiq_create_work_item", orphan).header("Idempotency-Key", "orphan");
    let first = call.send().await;
    first.is_refused("backend_rejected");
    world.forget().await;
    let again = call.send().await;
    assert_eq!((again.code(), again.words()), (first.code(), first.words()));
    assert_eq!(again.audit()["replayed"], true, "{}", again.text);
    assert!(world.seen().await.is_empty(), "it is not tried again");
}

/// Without a key that LoopIQ honours and without a way to ask, only people can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_nobody_can_find_out_about_waits_for_two_people_and_is_never_sent_again() {
    let setup = Setup { catalog: vec![(LONELY.0, LONELY.1)], ..Setup::default() };
    let world = World::with(setup).await;
    world.fault(json!({"method": "POST", "path": WRITES, "kind": "reset_after_commit"})).await;
    let lost = world.write("ada", "Lonely").header("Idempotency-Key", "lonely").send().await;
    lost.is_refused("execution_unknown");
    let execution = lost.audit()["executionId"].as_str().unwrap().to_owned();
    let resolve = async |user: &str, outcome: &str| {
        let url = format!("{}/api/v1/writes/{execution}/resolve", world.admin);
        let body = json!({"outcome": outcome, "evidence": "seen in LoopIQ", "recordIds": []});
        Answer::read(world.http.post(url).bearer_auth(world.token(user)).json(&body).send().await.unwrap()).await
    };
    // Ada wrote it, and vic may not settle writes.
    assert!([403, 404].contains(&resolve("ada", "executed").await.status));
    assert!([403, 404].contains(&resolve("vic", "executed").await.status));
    let first = resolve("tess", "executed").await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(first.body["state"], "unknown", "one person is not enough: {}", first.text);
    assert_eq!(resolve("tess", "executed").await.status, 409, "nor is the same person twice");
    world.write("ada", "Lonely").header("Idempotency-Key", "lonely").send().await.is_refused("execution_unknown");
    let sent = world.seen().await.iter().filter(|seen| seen["path"] == WRITES && seen["method"] == "POST").count();
    assert_eq!(sent, 1, "never sent again");
}

const LONELY: (&str, &str) = (
    "    idempotent: backend\n    lookup: GET /api/v1/executions/{key}\n\n  - name: loopiq_update_work_item",
    "\n  - name: loopiq_update_work_item",
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_shown_only_if_todays_policy_lets_it_through() {
    let world = World::new().await;
    world.write("ben", "Seen-then").header("Idempotency-Key", "then").send().await.done();
    let before = world.readiness().await["rules"].clone();
    world.edit("policies/data/roles.yaml", "developer:", "developer_of_yesterday:");
    while world.readiness().await["rules"] == before {
        tokio::task::yield_now().await;
    }
    let now = world.write("ben", "Seen-then").header("Idempotency-Key", "then").send().await;
    assert_ne!(now.code(), "ok", "{}", now.text);
    assert!(!now.text.contains("Seen-then"), "{}", now.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_outlives_its_client_and_the_next_start_of_the_gateway() {
    let mut world = World::new().await;
    world.fault(json!({"method": "POST", "path": WRITES, "kind": "delay", "ms": 400, "when": "after"})).await;
    let call = world.write("ada", "Outlives").header("Idempotency-Key", "outlives");
    // The client goes away before the answer can come.
    let gone = call.request().timeout(std::time::Duration::from_millis(150)).send().await;
    assert!(gone.is_err());
    let answer = loop {
        let answer = call.send().await;
        if answer.code() != "execution_in_flight" {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(answer.done()["title"], "Outlives");
    assert_eq!(answer.audit()["replayed"], true, "{}", answer.text);
    world.start_again().await;
    let after = world.write("ada", "Outlives").header("Idempotency-Key", "outlives").send().await;
    assert_eq!((after.words(), &after.audit()["replayed"]), (answer.words(), &Value::Bool(true)));
    assert_eq!(world.work_items("Outlives").await.len(), 1);
}

/// What a workflow has read is kept in memory, and a retry does not depend on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_gets_its_first_answer_though_the_gateway_has_forgotten_the_workflow() {
    let mut world = World::new().await;
    let package = Package::drafted(&world, "wf-once").await;
    let id = package.ask(&world).await;
    approve(&world, &id).await;
    let first = package.with(&world, &id).header("Idempotency-Key", "kept").send().await;
    first.done();
    world.start_again().await;
    for again in [package.with(&world, &id).header("Idempotency-Key", "kept"), package.with(&world, &id)] {
        let again = again.send().await;
        assert_eq!(again.words(), first.words());
        assert_eq!(again.audit()["replayed"], true);
    }
}
