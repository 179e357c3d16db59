//! The examples in `config/examples` work as they stand.

use serde_json::Value;
use serde_json::json;

use crate::harness::World;

const PACKAGE: &str = "loopiq_create_remediation_work_package";
const EXAMPLE: &str = include_str!("../../config/examples/remediation.json");

fn example() -> Value {
    serde_json::from_str(EXAMPLE).unwrap()
}

fn also(member: &str, value: Value) -> Value {
    let mut arguments = example();
    arguments[member] = value;
    arguments
}

async fn executions(world: &World) -> Value {
    let counts = world.get(&format!("{}/_sandbox/effects", world.backend)).await;
    serde_json::from_str::<Value>(&counts).unwrap()["executions"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_a_work_package_is_previewed_as_it_stands_and_waits_for_people() {
    let world = World::new().await;
    let graph = "loopiq_get_release_certification_evidence_graph";
    let graph = world.call("ada", graph, json!({"release": example()["release"]})).send().await.done();
    let preview = world.call("ada", PACKAGE, also("dryRun", json!(true))).send().await.done();
    let creates = preview["preview"]["creates"].as_array().unwrap();
    let of_kind = |kind: &str| creates.iter().filter(|one| one["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(of_kind("work_item").len(), 1 + example()["tasks"].as_array().unwrap().len(), "{preview}");
    assert_eq!(of_kind("work_package")[0]["record"]["evidenceAsOf"], graph["builtAt"], "approvers see how old it is");
    world.call("ada", PACKAGE, example()).send().await.is_refused("approval_required");
    assert_eq!(executions(&world).await, json!(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_that_has_turned_stale_carries_no_package_whoever_tells_its_age() {
    let world = World::new().await;
    let stale = json!({"tenant": "org_gcn", "kind": "evidence_graph", "id": example()["release"],
        "set": {"builtAt": "2026-01-15T09:00:00Z"}});
    let meddled = world.http.post(format!("{}/_sandbox/records", world.backend)).json(&stale).send().await.unwrap();
    assert_eq!(meddled.status(), 200);
    let refused = world.call("ada", PACKAGE, also("dryRun", json!(true))).send().await;
    refused.is_refused("backend_rejected");
    assert_eq!(refused.refusal()["reasons"][0]["code"], "evidence_stale", "{}", refused.text);
    for told in ["2026-01-15T09:00:00Z", "2999-01-01T00:00:00Z"] {
        let refused = world.call("ada", PACKAGE, also("evidenceAsOf", json!(told))).send().await;
        refused.is_refused("policy_denied");
        assert!(refused.text.contains("evidence_stale"), "{}", refused.text);
    }
    world.call("ada", PACKAGE, also("evidenceAsOf", json!("lately"))).send().await.is_refused("invalid_arguments");
    assert_eq!(executions(&world).await, json!(0));
}
