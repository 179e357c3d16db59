//! No record, no answer: what the journal holds, and what happens when it cannot hold more.

use std::process::Command;
use std::process::Output;
use std::sync::Arc;

use loopgate::adapters::facts::RecentCalls;
use serde_json::Value;
use serde_json::json;

use crate::bench::Bench;
use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::World;
use crate::message::Message;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_has_its_record_where_its_reference_says() {
    let world = World::new().await;
    let write = json!({"title": "t", "type": "task", "parent": "WI-1001", "owner": "ben"});
    for (call, stage, code) in [
        (world.read("ada"), "outcome", None),
        (world.read("ada").modern(), "outcome", None),
        (world.call("ada", "loopiq_get_tenant_context", json!({})), "outcome", None),
        (world.call("ada", "loopiq_list_routes", json!({})), "outcome", None),
        (world.write("ada", "Recorded"), "outcome", None),
        (world.read("cleo"), "denied", Some("tenant_required")),
        (world.read("ada").header("X-LoopIQ-Tenant", "org_nordbank"), "denied", Some("tenant_forbidden")),
        (world.call("ada", "loopiq_get_release", json!({"release": 7})), "denied", Some("invalid_arguments")),
        (
            world.call("ben", "loopiq_create_work_item", {
                let mut w = write.clone();
                w["owner"] = json!("  ");
                w
            }),
            "denied",
            Some("policy_denied"),
        ),
        (world.call("ada", "loopiq_get_release", json!({"release": "none"})), "outcome", Some("backend_rejected")),
    ] {
        let answer = call.send().await;
        let record = world.record(answer.audit());
        let own = &record["unmapped"]["loopgate"];
        assert_eq!(own["stage"], stage, "{record}");
        assert_eq!(own["refusal"]["code"].as_str(), code, "{record}");
        assert_eq!(record["metadata"]["correlation_uid"], answer.audit()["requestId"]);
        assert_eq!(record["actor"]["user"]["uid"], answer.audit()["user"]);
        assert_eq!(record["trace"]["uid"], answer.audit()["traceId"]);
    }
    // Answers without a reference have a record too, found by what they are.
    let before = world.journal().len();
    world.message("ada", "tools/list").send().await;
    world.call("vic", "loopiq_create_work_item", write).send().await.is_refused("unknown_tool");
    Message::new(&world.http, &world.mcp, "tools/list").header("authorization", "Bearer x").send().await;
    world.message("ada", "no/such/method").send().await;
    let fresh: Vec<Value> = world.journal().split_off(before);
    let requests: Vec<(&str, Option<&str>)> = fresh
        .iter()
        .filter(|record| record["api"]["request"]["uid"].is_string())
        .map(|record| {
            (record["api"]["operation"].as_str().unwrap(), record["unmapped"]["loopgate"]["refusal"]["code"].as_str())
        })
        .collect();
    let codes: Vec<Option<&str>> = requests.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, [None, Some("unknown_tool"), Some("unauthenticated"), Some("bad_message")], "{requests:?}");
    assert_eq!(requests[0].0, "tools/list");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_that_loopiq_signed_is_never_written_down_wherever_it_stands() {
    // Its header has white space in it, so that it does not begin as other tokens do.
    let token = "ewogICJhbGciOiJFZERTQSJ9.eyJqdGkiOiJhIn0.c2lnbmF0dXJl";
    let world = World::new().await;
    for call in [
        world.write("ada", token).header("X-LoopIQ-Approval-Token", token),
        world.write("ada", token).meta("com.loopiq/approvalToken", token),
        world.call("ada", "loopiq_get_release", json!({"release": token})).meta("com.loopiq/approvalToken", token),
        world.call("ada", "loopiq_get_release", json!({"approvalToken": token})),
    ] {
        let answer = call.send().await;
        let record = world.record(answer.audit()).to_string();
        assert!(record.contains("$dropped") && !record.contains("c2lnbmF0dXJl"), "{record}");
    }
    let journal = Value::Array(world.journal()).to_string();
    assert!(!journal.contains("ewogICJhbGciOiJFZERTQSJ9"), "nor before the outcome");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_intent_of_a_write_is_in_the_journal_before_its_outcome_and_the_whole_verifies() {
    let mut world = World::new().await;
    let write = world.write("ada", "Intended").send().await;
    write.done();
    let id = write.audit()["requestId"].as_str().unwrap();
    assert_eq!(world.stages(id), ["intent", "outcome"]);
    let read = world.read("ada").send().await;
    assert_eq!(world.stages(read.audit()["requestId"].as_str().unwrap()), ["outcome"]);
    world.fault(json!({"method": "POST", "path": "/api/v1/work-items", "kind": "reset_after_commit"})).await;
    let lost = world.write("ada", "Intended-and-lost").send().await;
    assert_eq!(world.stages(lost.audit()["requestId"].as_str().unwrap()), ["intent", "outcome"]);
    let intent = world.journal().into_iter().find(|one| one["unmapped"]["loopgate"]["stage"] == "intent").unwrap();
    assert_eq!(intent["api"]["request"]["data"]["arguments"]["title"], "Intended", "what will be sent is written down");
    assert_eq!(intent["unmapped"]["loopgate"]["idempotency_key"], write.audit()["idempotencyKey"]);

    // Anyone can check the files alone, with the public key.
    world.stop_gateway().await;
    let fine = verify(&world);
    assert!(fine.status.success(), "{}", String::from_utf8_lossy(&fine.stdout));
    let segment = std::fs::read_dir(world.path("audit/it"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|ext| ext == "jsonl"))
        .unwrap();
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text.replacen("Intended-and-lost", "Never-happened!!!", 1)).unwrap();
    assert!(!verify(&world).status.success(), "an altered record is found");
}

/// What `loopgate audit verify` says of the files.
fn verify(world: &World) -> Output {
    let mut verify = Command::new(env!("CARGO_BIN_EXE_loopgate"));
    verify.args(["audit", "verify"]).arg(world.path("audit")).arg("--pub").arg(world.path("keys/audit.pub"));
    verify.output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_starts_again_goes_on_with_its_journal_and_its_keys() {
    let mut world = World::new().await;
    let before = world.read("ada").send().await;
    let jwks = world.get(&world.mcp.replace("/mcp", "/.well-known/jwks.json")).await;
    world.start_again().await;
    let after = world.write("ada", "After-the-start").send().await;
    after.done();
    assert!(before.audit()["auditRef"].as_str().unwrap().starts_with("it/1/"), "{}", before.text);
    assert!(after.audit()["auditRef"].as_str().unwrap().starts_with("it/2/"), "{}", after.text);
    assert!(world.record(before.audit()).is_object() && world.record(after.audit()).is_object());
    assert_eq!(world.get(&world.mcp.replace("/mcp", "/.well-known/jwks.json")).await, jwks, "backends trust it still");
    world.stop_gateway().await;
    let fine = verify(&world);
    assert!(fine.status.success(), "{}", String::from_utf8_lossy(&fine.stdout));
    // The whole first epoch is taken away.
    let files = std::fs::read_dir(world.path("audit/it")).unwrap().map(|file| file.unwrap().path());
    let first = files.filter(|path| path.extension().is_some_and(|ext| ext == "jsonl")).min().unwrap();
    std::fs::remove_file(first).unwrap();
    assert!(!verify(&world).status.success(), "a missing segment is found");
}

/// Below the low-water mark the journal keeps its last room for what has to be said of calls that
/// were made; a write would be a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_writes_before_they_are_sent_and_reads_go_on() {
    let world = World::with(Setup { audit: ", low_water: 1048576GiB", ..Setup::default() }).await;
    let answer = world.write("ada", "No-room-for-it").send().await;
    answer.is_refused("audit_unavailable");
    assert!(world.seen().await.is_empty());
    assert!(world.work_items("No-room-for-it").await.is_empty());
    world.read("ada").send().await.done();
    let readiness = world.readiness().await;
    assert!(readiness["findings"].to_string().contains("low-water"), "{readiness}");
    assert_eq!(world.metric("loopgate_journal_faults_total{result=\"refused\"}").await, Some(1.0));
}

fn refused(answer: &Value) -> &Value {
    &answer["result"]["_meta"]["com.loopiq/error"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_no_answer() {
    let bench = Bench::with_room(0).await;
    let read = json!({"name": "loopiq_get_release_certification", "arguments": {"release": RELEASE}});
    let answer = bench.ask("tools/call", read).await;
    assert_eq!(refused(&answer)["code"], "audit_unavailable", "{answer}");
    assert!(!answer.to_string().contains("SOC2"), "nothing of the answer is shown: {answer}");
    let context = bench.ask("tools/call", json!({"name": "loopiq_get_tenant_context", "arguments": {}})).await;
    assert_eq!(refused(&context)["code"], "audit_unavailable", "{context}");
    let list = bench.ask("tools/list", json!({})).await;
    assert!(list["result"].is_null() && !list.to_string().contains("loopiq_get"), "{list}");
    assert_eq!(list["error"]["data"]["code"], "audit_unavailable", "{list}");
    assert!(bench.journal.stages().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_intent_cannot_be_recorded_is_not_sent() {
    let bench = Bench::with_room(0).await;
    let answer = bench.write("unintended").await;
    assert_eq!(refused(&answer)["code"], "audit_unavailable", "{answer}");
    assert!(refused(&answer)["sent"].is_null(), "{answer}");
    assert_eq!(bench.sent().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_sent_and_cannot_be_recorded_says_so() {
    // Room for the intent, none for the outcome.
    let bench = Bench::with_room(1).await;
    let answer = bench.write("unrecorded").await;
    let said = refused(&answer);
    assert_eq!((&said["code"], &said["sent"]), (&json!("audit_unavailable"), &json!(true)), "{answer}");
    assert_eq!(said["idempotencyKey"], "unrecorded");
    assert!(said["next"].as_str().unwrap().contains("unrecorded"), "{answer}");
    assert!(!answer.to_string().contains("WI-"), "what cannot be recorded is not shown: {answer}");
    assert_eq!(bench.sent().await, 1);
    // With room again, the same key gives the same record.
    bench.journal.make_room(10);
    let again = bench.write("unrecorded").await;
    let first = again["result"]["structuredContent"]["id"].clone();
    assert_eq!(again["result"]["isError"], false, "{again}");
    assert_eq!(bench.write("unrecorded").await["result"]["structuredContent"]["id"], first, "{again}");
}

/// A route may say that its answers matter more than their records. Writes cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_read_of_a_best_effort_route_is_answered_without_a_record() {
    let route = "    route: GET /api/v1/releases/{release}/certification\n";
    let best_effort = "    route: GET /api/v1/releases/{release}/certification\n    audit: best_effort\n";
    let setup = Setup { catalog: vec![(route, best_effort)], ..Setup::default() };
    let bench = Bench::in_setup(&setup, 0, Arc::new(RecentCalls::new())).await;
    let release = json!({"release": RELEASE});
    let read = bench.ask("tools/call", json!({"name": "loopiq_get_release_certification", "arguments": release})).await;
    assert_eq!(read["result"]["isError"], false, "{read}");
    assert!(read["result"]["_meta"]["com.loopiq/audit"].get("auditRef").is_none(), "{read}");
    let other = bench.ask("tools/call", json!({"name": "loopiq_get_release", "arguments": release})).await;
    assert_eq!(refused(&other)["code"], "audit_unavailable", "{other}");
    let metrics = bench.gate.metrics.render();
    assert!(metrics.contains("loopgate_journal_faults_total{result=\"best_effort\"} 1"), "{metrics}");
}
