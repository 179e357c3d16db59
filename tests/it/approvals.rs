//! An approval covers exactly what was shown, comes from other people, and is good for one write.

use serde_json::Value;
use serde_json::json;

use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::World;
use crate::message::Answer;
use crate::message::Message;

/// The one high-impact tool whose target has a version and whose backend has a dry run.
const PACKAGE: &str = "loopiq_create_remediation_work_package";
const EXECUTE: &str = "loopiq_execute_approved_action";
const ACTION: &str = "loopiq_get_action";

/// A work package of ada's in a workflow in which she has read the evidence.
pub(crate) struct Package {
    pub(crate) workflow: String,
    pub(crate) arguments: Value,
}

impl Package {
    pub(crate) async fn drafted(world: &World, workflow: &str) -> Self {
        let graph = world
            .call("ada", "loopiq_get_release_certification_evidence_graph", json!({"release": RELEASE}))
            .meta("com.loopiq/workflow", workflow)
            .send()
            .await;
        graph.done();
        let arguments = serde_json::from_str(include_str!("../../config/examples/remediation.json")).unwrap();
        Self { workflow: workflow.to_owned(), arguments }
    }

    pub(crate) fn call(&self, world: &World) -> Message {
        world.call("ada", PACKAGE, self.arguments.clone()).meta("com.loopiq/workflow", self.workflow.as_str())
    }

    pub(crate) fn with(&self, world: &World, id: &str) -> Message {
        self.call(world).meta("com.loopiq/approvalId", id)
    }

    /// Asks, and gives the approval's id.
    pub(crate) async fn ask(&self, world: &World) -> String {
        let asked = self.call(world).send().await;
        asked.is_refused("approval_required");
        asked.refusal()["approvalId"].as_str().unwrap().to_owned()
    }
}

/// Somebody decides about an approval over the operators' door.
pub(crate) async fn decide(world: &World, user: &str, id: &str, what: &str, digest: &str) -> Answer {
    let url = format!("{}/api/v1/approvals/{id}/{what}", world.admin);
    let body = json!({"digest": digest, "reason": "seen and considered"});
    let sent = world.http.post(url).bearer_auth(world.token(user)).json(&body).send().await.unwrap();
    Answer::read(sent).await
}

pub(crate) async fn shown(world: &World, user: &str, id: &str) -> Answer {
    let url = format!("{}/api/v1/approvals/{id}", world.admin);
    Answer::read(world.http.get(url).bearer_auth(world.token(user)).send().await.unwrap()).await
}

/// Otto reads it and says yes.
pub(crate) async fn approve(world: &World, id: &str) {
    let digest = shown(world, "otto", id).await.body["digest"].as_str().unwrap().to_owned();
    let said = decide(world, "otto", id, "approve", &digest).await;
    assert_eq!((said.status, &said.body["state"]), (200, &json!("approved")), "{}", said.text);
}

pub(crate) async fn effects(world: &World) -> u64 {
    let effects: Value =
        serde_json::from_str(&world.get(&format!("{}/_sandbox/effects", world.backend)).await).unwrap();
    effects["executions"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plan_preview_approve_execute_creates_one_parent_and_its_children_once() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-1").await;
    let before = effects(&world).await;

    let tried = package.call(&world).meta("com.loopiq/dryRun", true).send().await;
    assert_eq!(tried.done()["dryRun"], true);
    assert_eq!(effects(&world).await, before, "a dry run creates nothing");

    let asked = package.call(&world).header("Idempotency-Key", "pkg-1").send().await;
    asked.is_refused("approval_required");
    let id = asked.refusal()["approvalId"].as_str().unwrap();
    assert_eq!(asked.audit()["approvalId"], id);
    let card = &asked.refusal()["approval"];
    for member in ["digest", "tool", "tenant", "release", "certification", "arguments", "preview", "approvers", "link"]
    {
        assert!(!card[member].is_null(), "{member} in {card}");
    }
    assert_eq!(card["preview"]["preview"]["creates"].as_array().unwrap().len(), 5, "{card}");
    assert_eq!(effects(&world).await, before, "asking creates nothing");

    // Whoever asks again asks the same question.
    let again = package.call(&world).header("Idempotency-Key", "pkg-1").send().await;
    assert_eq!(again.refusal()["approvalId"], id, "{}", again.text);
    package.with(&world, id).send().await.is_refused("approval_pending");

    approve(&world, id).await;
    let done = package.with(&world, id).header("Idempotency-Key", "pkg-1").send().await;
    let made = done.done();
    assert_eq!(made["children"].as_array().unwrap().len(), 3);
    for member in ["parent", "release", "certification", "blockers", "evidence"] {
        assert!(!made[member].is_null(), "{member} in {made}");
    }
    let audit = done.audit();
    assert_eq!(
        (&audit["approvalId"], &audit["idempotencyKey"], &audit["replayed"]),
        (&json!(id), &json!("pkg-1"), &json!(false))
    );
    assert_eq!(audit["recordIds"].as_array().unwrap().len(), 5, "package, parent and children: {audit}");
    assert_eq!(effects(&world).await, before + 1);

    // Again, in all three ways; the answer is the first one, byte for byte.
    for repeated in [
        package.with(&world, id).header("Idempotency-Key", "pkg-1").send().await,
        package.call(&world).header("Idempotency-Key", "pkg-1").send().await,
        world.call("ada", EXECUTE, json!({"approvalId": id})).send().await,
    ] {
        assert_eq!(repeated.words(), done.words());
        assert_eq!(repeated.audit()["replayed"], true, "{}", repeated.text);
        assert_eq!(repeated.audit()["recordIds"], audit["recordIds"]);
    }
    package.with(&world, id).header("Idempotency-Key", "another").send().await.is_refused("approval_mismatch");
    assert_eq!(effects(&world).await, before + 1);
    assert_eq!(shown(&world, "otto", id).await.body["state"], "executed");
    let state = world.call("ada", ACTION, json!({"approvalId": id})).send().await.done();
    assert_eq!((&state["state"], &state["recordIds"]), (&json!("executed"), &audit["recordIds"]), "{state}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_approval_id_alone_runs_the_stored_bytes() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-2").await;
    let id = package.ask(&world).await;
    world.call("ada", EXECUTE, json!({"approvalId": id})).send().await.is_refused("approval_pending");
    approve(&world, &id).await;
    let done = world.call("ada", EXECUTE, json!({"approvalId": id})).send().await;
    assert_eq!(done.done()["title"], "Close the blockers of backend 1.0", "{}", done.text);
    assert_eq!(done.audit()["idempotencyKey"], id.as_str(), "an approval without a key is its own");
    let again = package.with(&world, &id).send().await;
    assert_eq!((again.words(), &again.audit()["replayed"]), (done.words(), &json!(true)));
    package.with(&world, &id).header("Idempotency-Key", "other").send().await.is_refused("approval_spent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_approves_their_own_request_and_nobody_votes_twice_or_without_standing() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-3").await;
    let id = package.ask(&world).await;
    let digest = shown(&world, "otto", &id).await.body["digest"].as_str().unwrap().to_owned();
    assert_eq!(decide(&world, "ada", &id, "approve", &digest).await.status, 403);
    // Ben may not know of it, nor may another organisation.
    for stranger in ["ben", "vic", "nora"] {
        assert_eq!(decide(&world, stranger, &id, "approve", &digest).await.status, 404, "{stranger}");
        assert_eq!(shown(&world, stranger, &id).await.status, 404, "{stranger}");
    }
    let stale = decide(&world, "otto", &id, "approve", &"0".repeat(64)).await;
    assert_eq!(stale.status, 409, "{}", stale.text);
    assert_eq!(decide(&world, "otto", &id, "approve", &digest).await.status, 200);
    assert_eq!(decide(&world, "otto", &id, "approve", &digest).await.status, 409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_or_revoked_approval_runs_nothing() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-4").await;
    let before = effects(&world).await;
    for what in ["reject", "revoke"] {
        let id = package.ask(&world).await;
        let digest = shown(&world, "otto", &id).await.body["digest"].as_str().unwrap().to_owned();
        if what == "revoke" {
            approve(&world, &id).await;
        }
        assert_eq!(decide(&world, "otto", &id, what, &digest).await.status, 200);
        let no = package.with(&world, &id).send().await;
        no.is_refused("approval_rejected");
        assert!(no.words().contains("seen and considered"), "the reason is told: {}", no.text);
    }
    assert_eq!(effects(&world).await, before);
}

/// After approval each of these voids it, and the refusal names the field.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_changes_after_approval_voids_it_and_is_named() {
    let world = World::new().await;
    let mut package = Package::drafted(&world, "wf-5").await;
    let id = package.ask(&world).await;
    approve(&world, &id).await;
    let before = effects(&world).await;
    let names = |answer: &Answer, field: &str| {
        let changes = answer.refusal()["changes"].to_string();
        assert!(changes.contains(field), "{field} in {}", answer.text);
    };

    let honest = package.arguments.clone();
    package.arguments["tasks"][1]["title"] = json!("Something else");
    let no = package.with(&world, &id).send().await;
    names(no.is_refused("approval_mismatch"), "/arguments/tasks/1/title");
    package.arguments = honest;

    let workflow = std::mem::replace(&mut package.workflow, "wf-other".to_owned());
    let no = package.with(&world, &id).send().await;
    assert_ne!(no.code(), "ok", "{}", no.text);
    package.workflow = workflow;

    // The record's version: somebody resolves something on the certification behind everybody's back.
    let changed = package.record_changed(&world).await;
    assert!(changed);
    let no = package.with(&world, &id).send().await;
    names(no.is_refused("preview_drift"), "/recordVersion");
    assert_eq!(effects(&world).await, before);
}

impl Package {
    /// The certification changes, as somebody else's work would change it.
    async fn record_changed(&self, world: &World) -> bool {
        let url = format!("{}/_sandbox/records", world.backend);
        let certification = self.arguments["certification"].as_str().unwrap();
        let body =
            json!({"tenant": "org_gcn", "kind": "certification", "id": certification, "set": {"note": "changed"}});
        let answer = world.http.post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_policy_or_definition_voids_an_approval() {
    for (file, from, to, field) in [
        (
            "policies/loopiq/gateway/approvals.rego",
            "needs_approval if {",
            "# edited\nneeds_approval if {",
            "/policyBundle",
        ),
        ("policies/data/approvals.yaml", "approve_by_s: 1800", "approve_by_s: 1801", "/policyData"),
        (
            "catalog.yaml",
            "Creates one parent story and its child tasks",
            "Creates one story and its tasks",
            "/definition",
        ),
    ] {
        let world = World::with(Setup::default()).await;
        let package = Package::drafted(&world, "wf-6").await;
        let id = package.ask(&world).await;
        approve(&world, &id).await;
        let rules = world.readiness().await["rules"].clone();
        world.edit(file, from, to);
        loop {
            let now = world.readiness().await["rules"].clone();
            if ["bundle", "data", "catalog"].iter().any(|digest| now[digest] != rules[digest]) {
                break;
            }
            tokio::task::yield_now().await;
        }
        let no = package.with(&world, &id).send().await;
        no.is_refused("approval_mismatch");
        assert!(no.refusal()["changes"].to_string().contains(field), "{field}: {}", no.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_executions_of_one_approval_have_one_effect() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-7").await;
    let id = package.ask(&world).await;
    approve(&world, &id).await;
    let before = effects(&world).await;
    let calls = (0..32).map(|nth| {
        let call = package.with(&world, &id);
        let call = if nth % 2 == 0 { call } else { call.header("Idempotency-Key", &format!("k{nth}")) };
        async move { call.send().await }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(effects(&world).await, before + 1);
    let done: Vec<&str> = answers.iter().filter(|answer| answer.code() == "ok").map(Answer::words).collect();
    assert!(!done.is_empty() && done.iter().all(|words| *words == done[0]));
    for answer in &answers {
        let known = ["ok", "execution_in_flight", "approval_spent", "execution_unknown"];
        assert!(known.contains(&answer.code()), "{}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_can_show_a_form_is_asked_once_and_its_sealed_state_is_its_own() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-8").await;
    let before = effects(&world).await;
    let capable = json!({"elicitation": {"form": {}}});
    let call = |user: &str| {
        let call = world.call(user, PACKAGE, package.arguments.clone()).meta("com.loopiq/workflow", "wf-8");
        call.modern().meta("io.modelcontextprotocol/clientCapabilities", capable.clone())
    };
    let asked = call("ada").send().await;
    let result = &asked.body["result"];
    assert_eq!(result["resultType"], "input_required", "{}", asked.text);
    assert_eq!(result["inputRequests"]["approval"]["method"], "elicitation/create", "{}", asked.text);
    let state = result["requestState"].as_str().unwrap().to_owned();
    let id = asked.audit()["approvalId"].as_str().unwrap().to_owned();
    let back = |user: &str, state: &str, action: Value| {
        call(user).param("requestState", state).param("inputResponses", json!({"approval": action}))
    };
    let yes = json!({"action": "accept", "content": {"decided": true}});

    // The user's own answer approves nothing, and they are not asked for ever.
    let pending = back("ada", &state, yes.clone()).send().await;
    pending.is_refused("approval_pending");
    assert_eq!(pending.body["result"]["resultType"], "complete", "{}", pending.text);
    // Nobody else's, nothing altered.
    assert_eq!(back("tess", &state, yes.clone()).send().await.rpc_code(), Some(-32602));
    let mut altered = state.clone().into_bytes();
    altered[20] ^= 1;
    let altered = String::from_utf8(altered).unwrap();
    assert_eq!(back("ada", &altered, yes.clone()).send().await.rpc_code(), Some(-32602));

    approve(&world, &id).await;
    let declined = back("ada", &state, json!({"action": "decline"})).send().await;
    declined.is_refused("approval_pending");
    assert_eq!(effects(&world).await, before);
    let done = back("ada", &state, yes.clone()).send().await;
    assert_eq!(done.body["result"]["resultType"], "complete", "{}", done.text);
    assert_eq!(done.audit()["approvalId"], id.as_str());
    let again = back("ada", &state, yes).send().await;
    assert_eq!((again.words(), &again.audit()["replayed"]), (done.words(), &json!(true)));
    assert_eq!(effects(&world).await, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_that_changes_without_its_record_voids_an_approval() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-9").await;
    let id = package.ask(&world).await;
    approve(&world, &id).await;
    // The package takes the time of the graph's last refresh; its certification stays as it is.
    let refresh = "loopiq_refresh_release_certification_evidence_graph";
    world.call("ada", refresh, json!({"release": RELEASE})).send().await.done();
    let no = package.with(&world, &id).send().await;
    no.is_refused("preview_drift");
    let changes = no.refusal()["changes"].to_string();
    assert!(changes.contains("/preview/") && changes.contains("evidenceAsOf"), "{}", no.text);
    assert!(!changes.contains("/recordVersion"), "{}", no.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_that_was_not_used_in_time_is_void() {
    let edited = ("data/approvals.yaml", "execute_within_s: 900", "execute_within_s: 1");
    let world = World::with(Setup { policies: vec![edited], ..Setup::default() }).await;
    let package = Package::drafted(&world, "wf-10").await;
    let id = package.ask(&world).await;
    approve(&world, &id).await;
    let before = effects(&world).await;
    while shown(&world, "otto", &id).await.body["state"] == "approved" {
        tokio::task::yield_now().await;
    }
    package.with(&world, &id).send().await.is_refused("approval_expired");
    assert_eq!(effects(&world).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_readers_take_for_another_never_reaches_an_approval() {
    let world = World::new().await;
    for number in ["9007199254740993", "9007199254740992", "1e400"] {
        let body = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"{PACKAGE}\",\
             \"arguments\":{{\"release\":{number}}}}}}}"
        );
        let sent = world.http.post(&world.mcp).bearer_auth(world.token("ada"));
        let answer =
            Answer::read(sent.header("content-type", "application/json").body(body).send().await.unwrap()).await;
        assert_eq!(answer.rpc_code(), Some(-32700), "{number}: {}", answer.text);
    }
    assert!(world.seen().await.is_empty());
}
