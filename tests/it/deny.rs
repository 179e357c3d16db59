//! What must not be done is not done, and what must not be known is not told.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::World;
use crate::message::Answer;

/// A tool for administrators, and one that nobody has. Of one length, so that sizes compare.
const HIDDEN: &str = "loopiq_get_diagnostics";
const MISSING: &str = "loopiq_get_diagnosticz";
const HIDDEN_PATH: &str = "/api/v1/admin/diagnostics";
const MISSING_PATH: &str = "/api/v1/admin/diagnosticz";

/// An answer without the ids that are fresh in every answer.
fn without_ids(answer: &Answer) -> (u16, String, Vec<String>) {
    let mut body = answer.body.clone();
    if let Some(audit) = body.pointer_mut("/result/_meta/com.loopiq~1audit").and_then(Value::as_object_mut) {
        for (name, value) in audit.iter_mut() {
            if matches!(name.as_str(), "requestId" | "traceId" | "decisionId" | "auditRef") {
                *value = json!("fresh");
            }
        }
    }
    let headers = answer.headers.keys().map(ToString::to_string).collect();
    (answer.status, body.to_string(), headers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_call_never_reaches_the_backend() {
    let world = World::new().await;
    let write = json!({"title": "t", "type": "task", "parent": "WI-1001", "owner": "ben"});
    let denied = [
        // Not the role's.
        world.call("vic", "loopiq_create_work_item", write.clone()),
        world.call("ada", HIDDEN, json!({})),
        world.call("nobody", "loopiq_get_release", json!({"release": RELEASE})),
        // Not the service account's.
        world.call("svc-pipeline", "loopiq_create_work_item", write),
        // By the raw route.
        world.call("ada", "loopiq_invoke_route", json!({"method": "GET", "path": HIDDEN_PATH})),
        // Outside every route.
        world.call("ada", "loopiq_invoke_route", json!({"method": "GET", "path": "/_sandbox/requests"})),
        world.call(
            "ada",
            "loopiq_invoke_route",
            json!({"method": "GET", "path": "/api/v1/releases/../admin/diagnostics"}),
        ),
        world.call(
            "ada",
            "loopiq_invoke_route",
            json!({"method": "GET", "path": "/api/v1/releases/..%2fadmin%2fdiagnostics"}),
        ),
        // The work item has no owner that says something: policy's no, not the schema's.
        world.call(
            "ada",
            "loopiq_create_work_item",
            json!({"title": "t", "type": "task", "parent": "WI-1001", "owner": " "}),
        ),
        // Malformed.
        world.call("ada", "loopiq_get_release", json!({"release": "a/../b"})),
        world.call("ada", "loopiq_get_release", json!({"release": RELEASE, "colour": "blue"})),
    ];
    for call in denied {
        let answer = call.send().await;
        assert_ne!(answer.code(), "ok", "{}", answer.text);
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!(world.seen().await, Vec::<Value>::new());
    // The eye sees: a call that is allowed is there.
    world.read("ada").send().await.done();
    assert_eq!(world.seen().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_hidden_from_one_answers_exactly_as_a_tool_that_does_not_exist() {
    let world = World::new().await;
    assert!(world.tools("tess").await.iter().any(|name| name == HIDDEN), "nobody sees it, so nothing is hidden");
    for arguments in [json!({}), json!({"colour": "blue"}), json!({"dryRun": true}), json!({"dryRun": "yes"})] {
        for modern in [false, true] {
            let ask = |tool: &str| {
                let call = world.call("ada", tool, arguments.clone());
                if modern { call.modern() } else { call }
            };
            let (hidden, missing) = (ask(HIDDEN).send().await, ask(MISSING).send().await);
            let (status, text, headers) = without_ids(&hidden);
            let expected = without_ids(&missing);
            assert_eq!((status, text.replace(HIDDEN, MISSING), headers), expected, "{arguments}");
        }
    }
    for more in [json!({}), json!({"query": {"colour": "blue"}}), json!({"body": {"colour": "blue"}})] {
        let ask = |path: &str| {
            let mut arguments = json!({"method": "GET", "path": path});
            arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.call("ada", "loopiq_invoke_route", arguments)
        };
        let (hidden, missing) = (ask(HIDDEN_PATH).send().await, ask(MISSING_PATH).send().await);
        hidden.is_refused("unknown_tool");
        let (status, text, headers) = without_ids(&hidden);
        let expected = without_ids(&missing);
        assert_eq!((status, text.replace(HIDDEN_PATH, MISSING_PATH), headers), expected, "{more}");
    }
}

/// A header that must repeat an argument is asked for only where the tool may be known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routing_header_that_is_missing_does_not_tell_that_a_hidden_tool_exists() {
    let world = World::new().await;
    let arguments = json!({"release": RELEASE});
    let known = world.call("ada", "loopiq_get_release", arguments.clone()).modern().send().await;
    assert_eq!((known.status, known.rpc_code()), (400, Some(-32020)), "{}", known.text);
    let hidden = world.call("nobody", "loopiq_get_release", arguments.clone()).modern().send().await;
    let missing = world.call("nobody", "loopiq_get_releasz", arguments).modern().send().await;
    let (status, text, headers) = without_ids(&hidden);
    assert_eq!((status, text.replace("loopiq_get_release", "loopiq_get_releasz"), headers), without_ids(&missing));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_roles_see_different_lists_and_every_listed_tool_can_be_asked_for() {
    let world = World::new().await;
    let mut lists = BTreeSet::new();
    let every: BTreeSet<String> = world
        .readiness()
        .await
        .pointer("/rules/tools")
        .and_then(Value::as_u64)
        .map(|tools| assert!(tools > 30, "{tools} tools"))
        .map(|()| catalog_names())
        .unwrap();
    for user in ["ada", "vic", "tess", "svc-pipeline"] {
        let listed: BTreeSet<String> = world.tools(user).await.into_iter().collect();
        for tool in &every {
            let answer = world.call(user, tool, json!({"dryRun": true})).send().await;
            let known = answer.rpc_code() != Some(-32602);
            assert_eq!(known, listed.contains(tool), "{user} {tool}: {}", answer.text);
        }
        lists.insert(listed);
    }
    assert_eq!(lists.len(), 4, "each role sees its own list");
}

fn catalog_names() -> BTreeSet<String> {
    let text = include_str!("../../config/catalog.yaml");
    text.lines().filter_map(|line| line.strip_prefix("  - name: ")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_tenant_is_told_mcp_disabled() {
    let closed = ("data/tenants.yaml", "name: Nordbank\n  mcp_enabled: true", "name: Nordbank\n  mcp_enabled: false");
    let world = World::with(Setup { policies: vec![closed], ..Setup::default() }).await;
    let release = json!({"release": RELEASE});
    for (user, tenant) in [("nora", None), ("cleo", Some("org_nordbank"))] {
        for tool in ["loopiq_get_release_certification", "loopiq_get_tenant_context", HIDDEN, MISSING] {
            let arguments = if tool.ends_with("certification") { release.clone() } else { json!({}) };
            let mut call = world.call(user, tool, arguments);
            if let Some(tenant) = tenant {
                call = call.header("X-LoopIQ-Tenant", tenant);
            }
            let answer = call.send().await;
            answer.is_refused("mcp_disabled");
            assert!(answer.words().contains("org_nordbank"), "{}", answer.text);
        }
    }
    let list = world.message("nora", "tools/list").send().await;
    list.is_refused("mcp_disabled");
    assert!(!list.text.contains("loopiq_"), "{}", list.text);
    assert!(world.seen().await.is_empty());
    world.read("cleo").header("X-LoopIQ-Tenant", "org_gcn").send().await.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn high_impact_answers_approval_required_and_sends_nothing_but_its_preview() {
    let world = World::new().await;
    let decision = json!({"decision": "reject", "reason": "blockers are open"});
    let mut arguments = decision.clone();
    arguments["release"] = json!(RELEASE);
    let tool = "loopiq_decide_release_certification";
    let route = json!({
        "method": "POST", "path": format!("/api/v1/releases/{RELEASE}/certification/decision"), "body": decision,
    });
    for (call, code) in [
        (world.call("ada", tool, arguments.clone()), "approval_required"),
        (world.call("ada", tool, arguments.clone()).meta("com.loopiq/approvalId", "apr_made_up"), "approval_mismatch"),
        (world.call("ada", tool, arguments.clone()).header("Idempotency-Key", "k-1"), "approval_required"),
        // The same question as the first one's, which waits for an answer.
        (world.call("ada", "loopiq_invoke_route", route), "approval_pending"),
    ] {
        let answer = call.send().await;
        answer.is_refused(code);
        if code != "approval_mismatch" {
            let asks = &answer.refusal()["approval"]["approvers"];
            assert_eq!(asks["roles"], json!(["certification_approver"]), "{}", answer.text);
        }
        let record = world.record(answer.audit());
        assert_eq!(record["unmapped"]["loopgate"]["stage"], "denied", "{record}");
        assert_eq!(record["unmapped"]["loopgate"]["tool"], tool, "{record}");
    }
    let tried = |seen: &Value| seen["method"] == "GET" || seen["query"] == "dryRun=true";
    assert!(world.seen().await.iter().all(tried));
    // To try it out needs nobody's approval and changes nothing.
    arguments["dryRun"] = json!(true);
    arguments["decision"] = json!("reject");
    world.call("ada", tool, arguments).send().await.done();
    assert_eq!(world.seen().await.iter().filter(|seen| !tried(seen)).count(), 0);
    assert_eq!(world.read("ada").send().await.done()["status"], "in_review");
}
