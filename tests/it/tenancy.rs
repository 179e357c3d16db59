//! A call is made for one organisation, and nothing of another one is in its answer.

use serde_json::Value;
use serde_json::json;

use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_two_tenants_is_asked_which_and_both_places_to_say_it_must_agree() {
    let world = World::new().await;
    let unsaid = world.read("cleo").send().await;
    unsaid.is_refused("tenant_required");
    for tenant in ["org_gcn", "org_nordbank"] {
        assert!(unsaid.words().contains(tenant), "{}", unsaid.text);
    }
    assert_eq!(unsaid.refusal()["tenants"], json!(["org_gcn", "org_nordbank"]), "{}", unsaid.text);

    let by_header = world.read("cleo").header("X-LoopIQ-Tenant", "org_gcn").send().await;
    assert_eq!(by_header.done()["tenant"], "org_gcn");
    let by_meta = world.read("cleo").meta("com.loopiq/tenant", "org_gcn").send().await;
    assert_eq!(by_meta.done()["tenant"], "org_gcn");
    let agreed =
        world.read("cleo").header("X-LoopIQ-Tenant", "org_gcn").meta("com.loopiq/tenant", "org_gcn").send().await;
    assert_eq!(agreed.audit()["tenant"], "org_gcn");

    world.forget().await;
    for call in [
        world.read("cleo").header("X-LoopIQ-Tenant", "org_gcn").meta("com.loopiq/tenant", "org_nordbank"),
        world.read("cleo").header("X-LoopIQ-Tenant", "org_gcn").header("X-LoopIQ-Tenant", "org_nordbank"),
        world.read("cleo").header("X-LoopIQ-Tenant", "org_gcn").header("X-LoopIQ-Tenant", "org_gcn"),
        world.read("cleo").header("X-LoopIQ-Tenant", ""),
    ] {
        let answer = call.send().await;
        assert!(
            ["tenant_required", "tenant_forbidden", "invalid_arguments"].contains(&answer.code()),
            "{}",
            answer.text
        );
        assert_eq!(world.record(answer.audit())["unmapped"]["loopgate"]["stage"], "denied");
    }
    assert!(world.seen().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_the_token_does_not_name_is_refused_wherever_it_is_said() {
    let searches = "    output: *page\n    tenant_fields: [/items/*/tenant]\n    record_ids: [/items/*/id]\n\n  - name: loopiq_get_release\n";
    let with_argument = "    output: *page\n    tenant_fields: [/items/*/tenant]\n    tenant_arguments: [/application]\n    record_ids: [/items/*/id]\n\n  - name: loopiq_get_release\n";
    let world = World::with(Setup { catalog: vec![(searches, with_argument)], ..Setup::default() }).await;
    for tenant in ["org_nordbank", "org_gcN", "org_gcn,org_nordbank", "*", "org_unknown"] {
        for call in [
            world.read("ada").header("X-LoopIQ-Tenant", tenant),
            world.read("ada").meta("com.loopiq/tenant", tenant),
            world.call(
                "ada",
                "loopiq_search_releases",
                json!({"application": tenant.replace(',', ".").replace('*', "all")}),
            ),
            world.message("ada", "tools/list").header("X-LoopIQ-Tenant", tenant),
        ] {
            let answer = call.send().await;
            answer.is_refused("tenant_forbidden");
            assert!(!answer.text.contains("Nordbank"), "{}", answer.text);
        }
    }
    assert!(world.seen().await.is_empty());
    // The same argument with the caller's own tenant goes through.
    world.call("ada", "loopiq_search_releases", json!({"application": "org_gcn"})).send().await.done();
    // What belongs to another tenant does not exist, whoever names it.
    let answer = world.read("nora").send().await;
    assert!(answer.body["result"]["isError"] == true && !answer.text.contains("cert-backend"), "{}", answer.text);
}

/// Text of one answer behind the gateway's back, so that a test knows what must not be there.
async fn texts(world: &World, tool: &str, arguments: &Value) -> Vec<String> {
    fn strings(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::String(text) => out.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| strings(item, out)),
            Value::Object(members) => members.values().for_each(|member| strings(member, out)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut found = Vec::new();
    strings(&world.call("ada", tool, arguments.clone()).send().await.done(), &mut found);
    found.retain(|text| text.len() > 12 && !text.contains(RELEASE) && text != "certification");
    assert!(!found.is_empty());
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_record_in_an_answer_never_reaches_the_client() {
    let world = World::new().await;
    let whole = [
        ("loopiq_get_release", json!({"release": RELEASE}), "/api/v1/releases/"),
        ("loopiq_search_releases", json!({}), "/api/v1/releases"),
        ("loopiq_get_release_certification_evidence", json!({"release": RELEASE}), "/api/v1/releases/"),
        ("loopiq_search_work_items", json!({"type": "story"}), "/api/v1/work-items"),
    ];
    for (nth, (tool, arguments, path)) in whole.into_iter().enumerate() {
        let secrets = texts(&world, tool, &arguments).await;
        world.fault(json!({"path": path, "kind": "foreign_record"})).await;
        let answer = world.call("ada", tool, arguments.clone()).send().await;
        answer.is_refused("response_withheld");
        assert!(answer.body["result"]["structuredContent"].is_null(), "{}", answer.text);
        let record = world.record(answer.audit());
        assert_eq!(record["unmapped"]["loopgate"]["execution"]["outcome"], "executed", "{record}");
        let record = record.to_string();
        for secret in secrets.iter().map(String::as_str).chain(["org_nordbank", "Nordbank"]) {
            assert!(!answer.text.contains(secret), "{tool}: `{secret}` is in {}", answer.text);
            assert!(!record.contains(secret), "{tool}: `{secret}` is in {record}");
        }
        let counted = world.metric("loopgate_foreign_records_total").await;
        assert_eq!(counted, Some(f64::from(u32::try_from(nth + 1).unwrap())));
    }
    // By the raw route too.
    world.fault(json!({"path": "/api/v1/releases", "kind": "foreign_record"})).await;
    let raw = json!({"method": "GET", "path": "/api/v1/releases"});
    world.call("ada", "loopiq_invoke_route", raw).send().await.is_refused("response_withheld");
}

/// What a write changed is known to its caller's auditors even when its answer must not be shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_foreign_is_withheld_and_recorded_as_made() {
    let world = World::new().await;
    world.fault(json!({"method": "POST", "path": "/api/v1/work-items", "kind": "foreign_record"})).await;
    let answer = world.write("ada", "Foreignized").send().await;
    answer.is_refused("response_withheld");
    assert!(!answer.text.contains("org_nordbank") && !answer.text.contains("WI-"), "{}", answer.text);
    let record = world.record(answer.audit());
    assert_eq!(record["unmapped"]["loopgate"]["execution"]["outcome"], "executed", "{record}");
    assert_eq!(world.work_items("Foreignized").await.len(), 1);
}

/// The evidence behind a certification names the people who collected it; a viewer may read the
/// evidence and not their addresses, which earlier policies let through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_sees_no_email_address_and_others_do() {
    let world = World::new().await;
    let evidence = |user: &str| {
        let arguments = json!({"release": RELEASE});
        world.call(user, "loopiq_get_release_certification_evidence", arguments)
    };
    let (shown, hidden) = (evidence("ada").send().await, evidence("vic").send().await);
    assert!(shown.text.contains("ben@gcn.example"), "{}", shown.text);
    assert!(!hidden.text.contains('@'), "{}", hidden.text);
    assert_eq!(hidden.done()["items"][0]["collectedBy"], json!({"user": "ben", "email": "[redacted]"}));
    let raw = json!({"method": "GET", "path": format!("/api/v1/releases/{RELEASE}/certification/evidence")});
    let raw = world.call("vic", "loopiq_invoke_route", raw).send().await;
    assert!(!raw.text.contains('@') && raw.done()["items"].is_array(), "{}", raw.text);
}
