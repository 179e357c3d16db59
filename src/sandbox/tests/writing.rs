//! What is written: once, whole, for the version that was read, or not at all.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use super::BACKEND;
use super::GCN;
use super::Lab;
use super::NORD;
use super::Store;
use super::item;
use super::package;
use super::packages;

const ITEMS: &str = "/api/v1/work-items";

#[tokio::test]
async fn the_same_key_and_request_get_the_first_answer_byte_for_byte() {
    let lab = Lab::open().await;
    for (path, body) in [(ITEMS.to_owned(), item()), (packages(), package())] {
        let key = format!("k-{}", path.len());
        let key = [("idempotency-key", key.as_str())];
        let first = lab.post(&path, &key, &body).await;
        assert_eq!((first.status, first.replayed), (201, false), "{}", first.body);
        let again = lab.post(&path, &key, &body).await;
        assert_eq!((again.status, again.replayed, &again.etag), (201, true, &first.etag));
        assert_eq!(again.bytes, first.bytes);
    }
    let effects = lab.effects().await;
    assert_eq!(effects["executions"], json!(2));
    assert_eq!(effects["byKind"], json!({"work_item": 4, "work_package": 1}));
}

#[tokio::test]
async fn a_replay_does_not_see_later_changes() {
    let lab = Lab::open().await;
    let key = [("idempotency-key", "k1")];
    let first = lab.post(ITEMS, &key, &item()).await;
    let path = format!("{ITEMS}/{}", first.text("/id"));
    assert_eq!(lab.send(Method::PATCH, &path, &[], &json!({"status": "done"})).await.status, 200);
    assert_eq!(lab.post(ITEMS, &key, &item()).await.bytes, first.bytes);
}

#[tokio::test]
async fn the_same_key_with_another_request_is_a_mismatch() {
    let lab = Lab::open().await;
    let key = [("idempotency-key", "k1")];
    assert_eq!(lab.post(ITEMS, &key, &item()).await.status, 201);
    let other = json!({"title": "Something else", "type": "task"});
    let runs = "/api/v1/ai-ml-agents/evidence-gap-analyst/runs";
    for (path, body) in [(ITEMS, other), (runs, json!({"release": "backend-v1.0-GCN"}))] {
        let seen = lab.post(path, &key, &body).await;
        assert_eq!((seen.status, seen.text("/error/code").as_str()), (422, "idempotency_mismatch"), "{path}");
    }
    assert_eq!(lab.effects().await["executions"], json!(1));
}

#[tokio::test]
async fn a_key_belongs_to_its_tenant() {
    let lab = Lab::open().await;
    let body = json!({"title": "Review", "type": "task"});
    let first = lab.post(ITEMS, &[("idempotency-key", "shared")], &body).await;
    let second = lab.post(ITEMS, &[("idempotency-key", "shared"), ("x-loopiq-tenant", NORD)], &body).await;
    assert_eq!((first.status, second.status, second.replayed), (201, 201, false));
    assert_ne!(first.text("/id"), second.text("/id"));
    assert_eq!(lab.effects().await["byKey"], json!({GCN: {"shared": 1}, NORD: {"shared": 1}}));
}

#[tokio::test]
async fn concurrent_twins_create_one_effect() {
    let lab = Lab::open().await;
    let (path, body) = (packages(), package());
    let twins = join_all((0..24).map(|_| lab.post(&path, &[("idempotency-key", "twin")], &body))).await;
    assert!(twins.iter().all(|twin| twin.status == 201 && twin.bytes == twins[0].bytes));
    assert_eq!(twins.iter().filter(|twin| !twin.replayed).count(), 1);
    let effects = lab.effects().await;
    assert_eq!(effects["byKey"][GCN]["twin"], json!(1));
    assert_eq!(effects["byKind"], json!({"work_item": 3, "work_package": 1}));
}

#[tokio::test]
async fn concurrent_strangers_each_create_their_own_effect() {
    let lab = Lab::open().await;
    let keys: Vec<String> = (0..24).map(|n| format!("k{n}")).collect();
    let body = item();
    let answers =
        join_all(keys.iter().map(async |key| lab.post(ITEMS, &[("idempotency-key", key)], &body).await)).await;
    let mut ids: Vec<String> = answers.iter().map(|answer| answer.text("/id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 24);
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let lab = Lab::open().await;
    let key = [("idempotency-key", "k1")];
    assert_eq!(lab.post(ITEMS, &key, &json!({"title": "x", "type": "task", "owner": "nobody"})).await.status, 422);
    assert_eq!(lab.get(GCN, "/api/v1/executions/k1").await.status, 404);
    let seen = lab.post(ITEMS, &key, &item()).await;
    assert_eq!((seen.status, seen.replayed), (201, false));
}

#[tokio::test]
async fn a_key_that_is_no_key_is_refused() {
    let lab = Lab::open().await;
    let long = "k".repeat(257);
    for key in ["", long.as_str()] {
        let seen = lab.post(ITEMS, &[("idempotency-key", key)], &item()).await;
        assert_eq!((seen.status, seen.text("/error/code").as_str()), (400, "invalid_idempotency_key"));
    }
}

#[tokio::test]
async fn an_execution_is_found_by_its_key_and_only_by_its_tenant() {
    let lab = Lab::open().await;
    let first = lab.post(&packages(), &[("idempotency-key", "p1")], &package()).await;
    let found = lab.get(GCN, "/api/v1/executions/p1").await;
    assert_eq!(found.status, 200);
    assert_eq!((found.text("/state").as_str(), &found.body["status"]), ("executed", &json!(201)));
    assert_eq!(found.body["body"], first.body);
    let ids = found.body["recordIds"].as_array().unwrap();
    for pointer in ["/workPackage", "/parent/id", "/children/0/id", "/children/1/id"] {
        assert!(ids.contains(&Value::from(first.text(pointer))), "{pointer} in {ids:?}");
    }
    assert_eq!(lab.get(NORD, "/api/v1/executions/p1").await.status, 404);
}

#[tokio::test]
async fn a_dry_run_creates_nothing_and_says_what_it_would_create() {
    let lab = Lab::open().await;
    let before = lab.get(GCN, "/api/v1/admin/diagnostics").await.bytes;
    let path = format!("{}?dryRun=true", packages());
    let first = lab.post(&path, &[("idempotency-key", "d1")], &package()).await;
    assert_eq!((first.status, &first.body["dryRun"]), (200, &json!(true)), "{}", first.body);
    let creates = first.body["preview"]["creates"].as_array().unwrap();
    let kinds: Vec<_> = creates.iter().map(|create| create["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["work_item", "work_item", "work_item", "work_package"]);
    for create in creates {
        assert!(create["record"].get("id").is_none(), "{create}");
        assert_eq!(create["record"]["tenant"], GCN);
    }
    assert_eq!(creates[1]["record"]["parent"], creates[0]["ref"], "a task refers to the story it would belong to");
    let again = lab.post(&path, &[], &package()).await;
    assert_eq!(again.bytes, first.bytes, "a preview can be compared with a later one");
    assert_eq!(lab.get(GCN, "/api/v1/admin/diagnostics").await.bytes, before);
    assert_eq!(lab.effects().await["executions"], json!(0));
    assert_eq!(lab.get(GCN, "/api/v1/executions/d1").await.status, 404);
    let real = lab.post(&packages(), &[("idempotency-key", "d1")], &package()).await;
    assert_eq!((real.status, real.replayed), (201, false));
    assert_eq!(real.text("/parent/id"), "WI-5001", "the dry runs have used no id");
}

#[tokio::test]
async fn a_dry_run_of_a_change_names_what_would_change() {
    let lab = Lab::open().await;
    let path = format!("{ITEMS}/WI-1003?dryRun=true");
    let seen = lab.send(Method::PATCH, &path, &[], &json!({"status": "done", "owner": "ben"})).await;
    let expected = json!([{"kind": "work_item", "id": "WI-1003",
        "changes": [{"field": "status", "from": "open", "to": "done"}]}]);
    assert_eq!(seen.body["preview"]["updates"], expected);
    assert_eq!(lab.get(GCN, &format!("{ITEMS}/WI-1003")).await.text("/status"), "open");
}

#[tokio::test]
async fn a_dry_run_is_refused_where_the_real_one_would_be() {
    let lab = Lab::open().await;
    let mut body = package();
    body["blockers"] = json!(["blk-1004"]);
    let seen = lab.post(&format!("{}?dryRun=true", packages()), &[], &body).await;
    assert_eq!((seen.status, seen.text("/error/code").as_str()), (409, "blocker_resolved"));
}

#[tokio::test]
async fn a_change_needs_the_version_that_was_read() {
    let lab = Lab::open().await;
    let path = format!("{ITEMS}/WI-1003");
    let read = lab.get(GCN, &path).await.etag.unwrap();
    let first = lab.send(Method::PATCH, &path, &[("if-match", &read)], &json!({"status": "in_progress"})).await;
    assert_eq!(first.status, 200);
    let late = lab.send(Method::PATCH, &path, &[("if-match", &read)], &json!({"status": "done"})).await;
    assert_eq!((late.status, late.text("/error/code").as_str()), (412, "version_mismatch"));
    let current = lab.get(GCN, &path).await;
    assert_eq!((&current.etag, current.text("/status").as_str()), (&first.etag, "in_progress"));
    let listed = format!("\"other\", {}", current.etag.clone().unwrap());
    assert_eq!(lab.send(Method::PATCH, &path, &[("if-match", &listed)], &json!({"status": "done"})).await.status, 200);
    assert_eq!(lab.send(Method::PATCH, &path, &[("if-match", "*")], &json!({"status": "open"})).await.status, 200);
    let weak = format!("W/{}", lab.get(GCN, &path).await.etag.unwrap());
    assert_eq!(lab.send(Method::PATCH, &path, &[("if-match", &weak)], &json!({"status": "done"})).await.status, 412);
}

#[tokio::test]
async fn a_package_is_refused_when_the_certification_has_moved_on() {
    let lab = Lab::open().await;
    let read = lab.get(GCN, &format!("{BACKEND}/certification")).await.etag.unwrap();
    let fresh = lab.post(&packages(), &[("if-match", &read)], &package()).await;
    assert_eq!(fresh.status, 201);
    let still = lab.get(GCN, &format!("{BACKEND}/certification")).await.etag.unwrap();
    assert_eq!(still, read, "a package does not change the certification it is for");
    lab.meddle(GCN, "evidence", "ev-1001", json!({"collectedAt": null})).await;
    let late = lab.post(&packages(), &[("if-match", &read), ("idempotency-key", "late")], &package()).await;
    assert_eq!(late.status, 412);
    assert_eq!(lab.effects().await["executions"], json!(1));
}

#[tokio::test]
async fn a_replay_is_given_although_the_version_has_changed() {
    let lab = Lab::open().await;
    let path = format!("{ITEMS}/WI-1003");
    let read = lab.get(GCN, &path).await.etag.unwrap();
    let headers = [("if-match", read.as_str()), ("idempotency-key", "p1")];
    let first = lab.send(Method::PATCH, &path, &headers, &json!({"status": "done"})).await;
    let again = lab.send(Method::PATCH, &path, &headers, &json!({"status": "done"})).await;
    assert_eq!((first.status, again.status, again.replayed), (200, 200, true));
    assert_eq!((again.bytes, again.etag), (first.bytes, first.etag));
}

#[tokio::test]
async fn a_work_package_is_created_whole() {
    let lab = Lab::open().await;
    let made = lab.post(&packages(), &[], &package()).await;
    let (id, parent) = (made.text("/workPackage"), made.text("/parent/id"));
    assert_eq!((made.text("/id"), made.text("/release")), (id.clone(), "backend-v1.0-GCN".to_owned()));
    assert_eq!((made.text("/children/0/owner"), made.text("/children/1/owner")), ("ben".into(), "ada".into()));
    let children = lab.get(GCN, &format!("{ITEMS}?parent={parent}")).await.items();
    assert_eq!(Value::from(children), made.body["children"]);
    let shown = lab.get(GCN, &format!("/api/v1/remediation-work-packages/{id}")).await;
    assert_eq!(shown.bytes, made.bytes);
    assert_eq!(lab.get(NORD, &format!("/api/v1/remediation-work-packages/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_package_that_does_not_fit_its_release_creates_nothing() {
    let lab = Lab::open().await;
    let before = lab.get(GCN, "/api/v1/admin/diagnostics").await.bytes;
    let cases: &[(&str, Value, u16, &str)] = &[
        ("certification", json!("cert-disputes-v0.9-GCN"), 422, "certification_mismatch"),
        ("certification", json!("cert-core-ledger-v5.2-NORD"), 422, "certification_mismatch"),
        ("blockers", json!(["blk-1001", "blk-1010"]), 422, "blocker_mismatch"),
        ("blockers", json!(["blk-2001"]), 422, "blocker_mismatch"),
        ("blockers", json!(["blk-1004"]), 409, "blocker_resolved"),
        ("evidence", json!(["ev-1005", "ev-1020"]), 422, "evidence_mismatch"),
        ("evidence", json!(["ev-2001"]), 422, "evidence_mismatch"),
        ("owner", json!("nora"), 422, "unknown_owner"),
        ("evidenceAsOf", json!("2999-01-01T00:00:00Z"), 422, "evidence_as_of_future"),
        ("evidenceAsOf", json!("yesterday"), 422, "invalid_body"),
        ("tasks", json!([]), 422, "invalid_body"),
        ("tasks", json!([{"title": "ok"}, {"title": "x", "owner": "nobody"}]), 422, "unknown_owner"),
        ("tasks", json!([{"title": "ok"}, {"title": "x", "blocker": "blk-1010"}]), 422, "blocker_mismatch"),
        ("tasks", json!([{"title": "ok"}, {"title": "x", "evidence": "ev-1020"}]), 422, "evidence_mismatch"),
        ("tasks", Value::from(vec![json!({"title": "t"}); 21]), 422, "invalid_body"),
        ("parentStory", json!({"title": "  "}), 422, "invalid_body"),
        ("extra", json!(1), 422, "invalid_body"),
    ];
    for (member, value, status, code) in cases {
        let mut body = package();
        body[*member] = value.clone();
        let seen = lab.post(&packages(), &[], &body).await;
        assert_eq!((seen.status, seen.text("/error/code").as_str()), (*status, *code), "{member} {value}");
    }
    assert_eq!(lab.get(GCN, "/api/v1/admin/diagnostics").await.bytes, before);
    let elsewhere = "/api/v1/releases/core-ledger-v5.2-NORD/remediation-work-packages";
    assert_eq!(lab.post(elsewhere, &[], &package()).await.status, 404);
}

#[tokio::test]
async fn a_package_may_leave_the_age_of_its_evidence_to_loopiq_which_refuses_a_stale_graph() {
    let lab = Lab::open().await;
    let graph = lab.get(GCN, &format!("{BACKEND}/certification/evidence-graph")).await;
    let mut body = package();
    body["evidenceAsOf"] = json!("last_refresh");
    let preview = lab.post(&format!("{}?dryRun=true", packages()), &[], &body).await;
    let shown = preview.body["preview"]["creates"].as_array().unwrap();
    let shown = shown.iter().find(|change| change["kind"] == "work_package").unwrap();
    assert_eq!(shown["record"]["evidenceAsOf"], graph.body["builtAt"], "{}", preview.body);
    let made = lab.post(&packages(), &[], &body).await;
    assert_eq!((made.status, &made.body["evidenceAsOf"]), (201, &graph.body["builtAt"]));
    lab.meddle(GCN, "evidence_graph", "backend-v1.0-GCN", json!({"builtAt": "2026-01-15T09:00:00Z"})).await;
    for query in ["", "?dryRun=true"] {
        let late = lab.post(&format!("{}{query}", packages()), &[], &body).await;
        assert_eq!((late.status, late.text("/error/code").as_str()), (409, "evidence_stale"), "{query}");
        assert!(late.text("/error/message").contains("2026-01-15T09:00:00Z"), "{}", late.body);
    }
    assert_eq!(lab.effects().await["executions"], json!(1));
}

#[tokio::test]
async fn a_body_that_is_not_what_it_should_be_is_refused() {
    let lab = Lab::open().await;
    let cases = [
        (json!({"type": "task"}), "title"),
        (json!({"title": "", "type": "task"}), "/title"),
        (json!({"title": "x", "type": "epic"}), "/type"),
        (json!({"title": 7, "type": "task"}), "/title"),
        (json!({"title": "x", "type": "task", "tenant": NORD}), "tenant"),
        (json!([]), "object"),
    ];
    for (body, named) in cases {
        let seen = lab.post(ITEMS, &[], &body).await;
        assert_eq!((seen.status, seen.text("/error/code").as_str()), (422, "invalid_body"), "{body}");
        assert!(seen.text("/error/message").contains(named), "{}", seen.body);
    }
    let empty = lab.send(Method::PATCH, &format!("{ITEMS}/WI-1003"), &[], &json!({})).await;
    assert_eq!(empty.status, 422);
    let headers = [("x-loopiq-tenant", GCN), ("x-loopiq-user", "ada")];
    let mut request = lab.client.post(lab.url(ITEMS)).body("{\"title\":");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    assert_eq!(request.send().await.unwrap().status(), 400);
    let mut huge = lab.client.post(lab.url(ITEMS)).body(vec![b' '; 2 * 1024 * 1024]);
    for (name, value) in headers {
        huge = huge.header(name, value);
    }
    assert_eq!(huge.send().await.unwrap().status(), 413);
}

#[tokio::test]
async fn a_number_that_json_cannot_carry_is_refused_with_a_key() {
    let lab = Lab::open().await;
    let runs = "/api/v1/ai-ml-agents/evidence-gap-analyst/runs";
    let body = json!({"release": "backend-v1.0-GCN", "inputs": {"n": 9_007_199_254_740_993_u64}});
    let seen = lab.post(runs, &[("idempotency-key", "n1")], &body).await;
    assert_eq!((seen.status, seen.text("/error/code").as_str()), (422, "invalid_body"));
}

#[tokio::test]
async fn a_work_item_inherits_its_parents_release_and_a_closed_parent_takes_none() {
    let lab = Lab::open().await;
    assert_eq!(lab.post(ITEMS, &[], &item()).await.text("/release"), "backend-v1.0-GCN");
    let closed = json!({"title": "x", "type": "task", "parent": "WI-1008"});
    let seen = lab.post(ITEMS, &[], &closed).await;
    assert_eq!((seen.status, seen.text("/error/code").as_str()), (409, "parent_closed"));
    let team = json!({"title": "x", "type": "task", "owner": "payments"});
    assert_eq!(lab.post(ITEMS, &[], &team).await.status, 201);
}

#[tokio::test]
async fn a_release_is_certified_once_and_not_over_open_blockers() {
    let lab = Lab::open().await;
    let path = format!("{BACKEND}/certification/decision");
    let certify = json!({"decision": "certify", "reason": "All is well."});
    let blocked = lab.post(&path, &[], &certify).await;
    assert_eq!((blocked.status, blocked.text("/error/code").as_str()), (409, "blockers_open"));
    for blocker in ["blk-1001", "blk-1002", "blk-1003"] {
        lab.meddle(GCN, "blocker", blocker, json!({"status": "resolved"})).await;
    }
    let done = lab.post(&path, &[], &certify).await;
    assert_eq!((done.status, done.text("/status").as_str()), (200, "certified"), "{}", done.body);
    assert_eq!(done.text("/decision/by"), "ada");
    let view = lab.get(GCN, &format!("{BACKEND}/certification")).await;
    assert_eq!((view.bytes, view.etag), (done.bytes, done.etag));
    assert_eq!(lab.get(GCN, BACKEND).await.text("/status"), "certified");
    let twice = lab.post(&path, &[], &json!({"decision": "reject", "reason": "No."})).await;
    assert_eq!((twice.status, twice.text("/error/code").as_str()), (409, "not_in_review"));
}

#[tokio::test]
async fn settings_decide_whether_blockers_stop_a_certification() {
    let lab = Lab::open().await;
    let path = "/api/v1/admin/tenant-settings";
    let read = lab.get(GCN, path).await;
    assert_eq!(read.body["members"].as_array().unwrap().len(), 7);
    let settings = json!({"displayName": "GCN", "blockersMustBeClosed": false, "evidenceFreshHours": 24,
        "notificationEmail": "gov@gcn.example"});
    let stale = lab.send(Method::PUT, path, &[("if-match", "\"0\"")], &settings).await;
    assert_eq!(stale.status, 412);
    let done = lab.send(Method::PUT, path, &[("if-match", &read.etag.unwrap())], &settings).await;
    assert_eq!((done.status, done.text("/displayName").as_str()), (200, "GCN"));
    assert_eq!(lab.get(GCN, "/api/v1/evidence/ev-1002").await.text("/status"), "stale", "the default applies at once");
    let certify = json!({"decision": "certify", "reason": "Accepted risk."});
    assert_eq!(lab.post(&format!("{BACKEND}/certification/decision"), &[], &certify).await.status, 200);
    assert_eq!(lab.get(NORD, path).await.text("/displayName"), "Nordbank");
}

#[tokio::test]
async fn a_store_file_keeps_records_keys_and_effects() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::File(scratch.path().join("loopiq.db"));
    let lab = Lab::with(store.clone(), None).await;
    let first = lab.post(ITEMS, &[("idempotency-key", "k1")], &item()).await;
    lab.running.stop().await;
    let lab = Lab::with(store, None).await;
    let again = lab.post(ITEMS, &[("idempotency-key", "k1")], &item()).await;
    assert_eq!((again.replayed, again.bytes), (true, first.bytes));
    assert_eq!(lab.effects().await["byKey"][GCN]["k1"], json!(1));
    assert_eq!(lab.get(GCN, "/api/v1/releases?limit=100").await.items().len(), 6, "it was not seeded twice");
}
