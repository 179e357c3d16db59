//! What an attacker tried and got away with once.

use axum::Json;
use axum::Router;
use axum::http::StatusCode;
use serde_json::json;

use crate::approvals::Package;
use crate::approvals::approve;
use crate::harness::Setup;
use crate::harness::World;

fn denied(world: &World) -> usize {
    world.journal().iter().filter(|record| record["metadata"]["event_code"] == "denied").count()
}

fn bytes(world: &World) -> usize {
    world.journal().iter().map(|record| record.to_string().len()).sum()
}

/// 400 members called `token` below a long name: the place of each was written down. The name is short
/// enough for such a record to pass the journal's own limit, which would otherwise hide the fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_built_to_swell_its_record_leaves_a_small_one() {
    let world = World::new().await;
    let name = "k".repeat(10_000);
    let swelling = json!({ name: vec![json!({"token": 1}); 400] });
    for tool in ["loopiq_get_diagnostics", "loopiq_get_release", "loopiq_nothing"] {
        assert_ne!(world.call("vic", tool, swelling.clone()).send().await.code(), "ok", "{tool}");
    }
    assert_eq!(denied(&world), 3, "each of them is recorded");
    assert!(bytes(&world) < 1 << 20, "{} bytes for three refused calls", bytes(&world));
}

/// Requests of strangers each cost a durable record, however fast they came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_cannot_fill_the_journal() {
    let world = World::new().await;
    let origin = format!("http://{}", "a".repeat(8_000));
    for _ in 0..600 {
        let refused = world.http.post(&world.mcp).header("Origin", &origin).body("{}").send().await.unwrap();
        assert_eq!(refused.status(), 403);
    }
    assert!(denied(&world) > 100, "strangers are not forgotten");
    assert!(denied(&world) < 500, "most of them are only counted");
    assert!(bytes(&world) < 2 << 20, "{} bytes", bytes(&world));
}

/// The gateway took the backend's word for a dry run without having been given it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_that_the_backend_does_not_confirm_is_no_preview() {
    let heedless = Router::new().fallback(async || {
        let item = json!({"id": "WI-1", "tenant": "org_gcn", "title": "t", "type": "task", "status": "open"});
        (StatusCode::CREATED, Json(item))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::task::JoinSet::from_iter([async { axum::serve(listener, heedless).await }]);
    let world = World::with(Setup { backend: Some(backend), ..Setup::default() }).await;
    let answer = world.write("ada", "Tried-out").meta("com.loopiq/dryRun", true).send().await;
    answer.is_refused("execution_unknown");
    let stages: Vec<String> = world.stages(answer.audit()["requestId"].as_str().unwrap());
    assert_eq!(stages, ["intent", "outcome"], "it was recorded before it was sent");
    drop(serving);
}

/// What differs from what was approved was told with both values, in reasons, and reasons are written down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_from_what_was_approved_writes_no_value_into_the_journal() {
    let timeout = "remediation-work-packages\n    timeout: 20s\n";
    let sensitive = "remediation-work-packages\n    timeout: 20s\n    sensitive: [/title]\n";
    let world = World::with(Setup { catalog: vec![(timeout, sensitive)], ..Setup::default() }).await;
    let mut package = Package::drafted(&world, "wf-sensitive").await;
    package.arguments["title"] = json!("Secret-as-approved");
    let id = package.ask(&world).await;
    approve(&world, &id).await;
    package.arguments["title"] = json!("Secret-as-called");
    let no = package.with(&world, &id).send().await;
    no.is_refused("approval_mismatch");
    assert!(no.words().contains("/arguments/title"), "the field is named: {}", no.text);
    assert!(no.refusal()["changes"].to_string().contains("Secret-as-called"), "its caller sees both: {}", no.text);
    let journal = serde_json::to_string(&world.journal()).unwrap();
    assert!(journal.contains(&id) && !journal.contains("Secret-as"), "{journal}");
}

/// A ledger that gives no answer may have taken the write; with a fresh key it would be made twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_the_ledger_may_have_taken_names_the_key_that_the_gateway_chose() {
    let world = World::new().await;
    let other = rusqlite::Connection::open(world.path("ledger.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let no = world.write("ada", "Unheard-of").send().await;
    no.is_refused("ledger_unavailable");
    let key = no.refusal()["idempotencyKey"].as_str().unwrap();
    assert!(no.words().contains(key), "what to do next names it: {}", no.text);
    other.execute_batch("ROLLBACK").unwrap();
    loop {
        let again = world.write("ada", "Unheard-of").header("Idempotency-Key", key).send().await;
        if again.code() != "ledger_unavailable" {
            again.done();
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(world.work_items("Unheard-of").await.len(), 1);
}

/// An approval of one's own went on telling of a tool after it was hidden.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_is_shown_only_while_its_tool_may_be_seen() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-hidden").await;
    let id = package.ask(&world).await;
    let ask = |id: &str| world.call("ada", "loopiq_get_action", json!({"approvalId": id}));
    assert_eq!(ask(&id).send().await.done()["approvalId"], id.as_str());
    let before = world.readiness().await["rules"].clone();
    world.edit("policies/data/roles.yaml", "    remediation:write: true\n", "");
    while world.readiness().await["rules"] == before {
        tokio::task::yield_now().await;
    }
    let (hidden, none) = (ask(&id).send().await, ask("apr_none").send().await);
    assert_eq!((hidden.code(), hidden.words()), (none.code(), none.words()), "{}", hidden.text);
    assert!(!hidden.text.contains("remediation"), "{}", hidden.text);
}
