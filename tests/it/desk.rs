//! What people read at the operators' door: one action whole, and nothing that is not theirs.

use serde_json::Value;
use serde_json::json;

use crate::approvals::Package;
use crate::approvals::approve;
use crate::harness::Setup;
use crate::harness::World;
use crate::message::Answer;

/// A GET at the operators' door, in an organisation if one is named.
async fn get(world: &World, user: &str, tenant: Option<&str>, path: &str) -> Answer {
    let mut request = world.http.get(format!("{}/api/v1/{path}", world.admin)).bearer_auth(world.token(user));
    if let Some(tenant) = tenant {
        request = request.header("X-LoopIQ-Tenant", tenant);
    }
    Answer::read(request.send().await.unwrap()).await
}

fn stages(answer: &Answer) -> Vec<&str> {
    let items = answer.body["items"].as_array().unwrap_or_else(|| panic!("no records: {}", answer.text));
    items.iter().map(|one| one["unmapped"]["loopgate"]["stage"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_approved_write_is_told_whole_and_in_order_from_any_of_its_ids() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-story").await;
    let asked = package.call(&world).header("Idempotency-Key", "story").send().await;
    asked.is_refused("approval_required");
    let id = asked.refusal()["approvalId"].as_str().unwrap().to_owned();
    approve(&world, &id).await;
    let done = package.with(&world, &id).header("Idempotency-Key", "story").send().await;
    done.done();
    package.with(&world, &id).header("Idempotency-Key", "story").send().await.done();
    let ids = &done.audit()["recordIds"];
    assert_eq!(ids.as_array().unwrap().len(), 5, "{ids}");

    let whole = get(&world, "tess", None, &format!("audit/{id}")).await;
    let told = stages(&whole);
    let mut rest = told.iter();
    for step in ["approval.requested", "approval.vote", "approval.approved", "intent", "outcome", "outcome"] {
        assert!(rest.any(|stage| *stage == step), "{step} in its place: {told:?}");
    }
    let last = whole.body["items"].as_array().unwrap().last().unwrap();
    assert_eq!(last["unmapped"]["loopgate"]["execution"]["replayed"], true, "{last}");
    let text = |name: &str| done.audit()[name].as_str().unwrap().to_owned();
    for other in [text("executionId"), text("auditRef"), "story".to_owned(), ids[0].as_str().unwrap().to_owned()] {
        let same = get(&world, "cleo", Some("org_gcn"), &format!("audit/{other}")).await;
        assert_eq!(same.body["items"], whole.body["items"], "{other}");
    }

    // The journal itself is for some, and of one organisation.
    for user in ["ada", "otto", "vic"] {
        assert_eq!(get(&world, user, None, &format!("audit/{id}")).await.status, 403, "{user}");
    }
    let elsewhere = get(&world, "cleo", Some("org_nordbank"), &format!("audit/{id}")).await;
    let nothing = get(&world, "cleo", Some("org_nordbank"), "audit/apr_none").await;
    assert_eq!((elsewhere.status, &elsewhere.body), (404, &nothing.body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_the_journal_join_to_the_whole_of_one_organisation() {
    let world = World::new().await;
    for n in 0..7 {
        world.write("ada", &format!("Paged {n}")).send().await.done();
        world.call("nora", "loopiq_list_resources", json!({})).send().await;
    }
    let whole = get(&world, "cleo", Some("org_gcn"), "audit?user=ada&limit=200").await;
    let expected = whole.body["items"].as_array().unwrap().clone();
    assert!(expected.len() >= 14 && whole.body["next"].is_null(), "{}", whole.text);
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = get(&world, "cleo", Some("org_gcn"), &format!("audit?user=ada&limit=3{next}")).await;
        seen.extend(page.body["items"].as_array().unwrap().clone());
        let Some(cursor) = page.body["next"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    assert_eq!(seen, expected);
    let all = get(&world, "cleo", Some("org_gcn"), "audit?limit=200").await;
    let foreign = |one: &Value| one["actor"]["user"]["org"]["uid"] != "org_gcn";
    assert!(!all.body["items"].as_array().unwrap().iter().any(foreign), "{}", all.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_say_who_reads_everything_of_their_organisation() {
    let settings = "operators: {read: [viewer], settle: []}\n".to_owned();
    let world = World::with(Setup { settings, ..Setup::default() }).await;
    let package = Package::drafted(&world, "wf-roles").await;
    let id = package.ask(&world).await;
    for (user, status) in [("vic", 200), ("ada", 200), ("otto", 200), ("tess", 404), ("ben", 404)] {
        assert_eq!(get(&world, user, None, &format!("approvals/{id}")).await.status, status, "{user}");
        let list = get(&world, user, None, "approvals").await;
        let ids: Vec<&str> =
            list.body["items"].as_array().unwrap().iter().map(|one| one["approvalId"].as_str().unwrap()).collect();
        assert_eq!(ids, if status == 200 { vec![id.as_str()] } else { vec![] }, "{user}");
    }
    assert_eq!(get(&world, "vic", None, "audit").await.status, 200);
    assert_eq!(get(&world, "tess", None, "audit").await.status, 403);
}
