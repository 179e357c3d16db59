//! A changed policy waits, is tried on some, is watched from beside, and is taken back.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use loopgate::adapters::reload::Watcher;
use loopgate::adapters::reload::steward::Steward;
use loopgate::adapters::reload::steward::Tools;
use loopgate::adapters::reload::steward::Ways;
use loopgate::adapters::store::Store;
use loopgate::app;
use loopgate::domain::audit::AuditRef;
use loopgate::domain::audit::JournalFault;
use loopgate::domain::audit::record::Record;
use loopgate::domain::identity::dev::DevClaims;
use loopgate::domain::identity::signing::SigningKey;
use loopgate::domain::pdp::bundle::Bundle;
use loopgate::domain::replay::envelope;
use loopgate::domain::replay::report::Report;
use loopgate::domain::rollout::BundleId;
use loopgate::domain::rollout::State;
use loopgate::domain::rollout::canary::Limits;
use loopgate::domain::rollout::gate::Demands;
use loopgate::domain::rollout::gate::GateFault;
use loopgate::metrics::Metrics;
use loopgate::pep::ports;
use loopgate::pep::rollout::Bundles;
use loopgate::pep::rollout::BundlesFault;
use loopgate::pep::rules::RulesCell;
use loopgate::pep::shadow;
use loopgate::pep::shadow::Aside;
use loopgate::pep::shadow::Room;
use loopgate::pep::shadow::Sample;
use serde_json::Value;
use serde_json::json;

use crate::bench::Bench;
use crate::bench::Now;
use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::Site;
use crate::harness::World;
use crate::harness::claims;
use crate::harness::eventually;
use crate::message::Answer;
use crate::message::Message;

pub(crate) const TENANTS: &str = "policies/data/tenants.yaml";
pub(crate) const OPEN: &str = "    admin: true\n  tools: {}\n";
pub(crate) const WITHOUT_RELEASES: &str = "    admin: true\n  tools: {loopiq_get_release: false}\n";
const WITHOUT_CONTROLS: &str = "    admin: true\n  tools: {loopiq_list_controls: false}\n";
const PEOPLE: &str = "operators: {policy: {tenants: [org_gcn], roles: [tenant_admin]}}\n";

pub(crate) async fn world(policy: &'static str) -> World {
    World::with(Setup { policy, settings: PEOPLE.to_owned(), ..Setup::default() }).await
}

/// A gateway whose changed policy waits.
pub(crate) async fn gated() -> World {
    world(", activation: gated, gate: {decisions: 3}, canary: {least: 20, band: 5}").await
}

/// What somebody is told of policy at the operators' door.
pub(crate) async fn standing(world: &World) -> Value {
    let answer = world.http.get(format!("{}/api/v1/policy", world.admin)).bearer_auth(world.token("tess"));
    let answer = Answer::read(answer.send().await.unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

pub(crate) async fn post(world: &World, user: &str, what: &str, body: &Value) -> Answer {
    let url = format!("{}/api/v1/policy/{what}", world.admin);
    Answer::read(world.http.post(url).bearer_auth(world.token(user)).json(body).send().await.unwrap()).await
}

pub(crate) fn code(answer: &Answer) -> &str {
    answer.body["error"]["code"].as_str().unwrap_or("ok")
}

/// Waits until a policy waits.
pub(crate) async fn waiting(world: &World) -> Value {
    eventually("a policy that waits", || async {
        let waiting = standing(world).await["waiting"].clone();
        waiting.is_object().then_some(waiting)
    })
    .await
}

/// Waits until this revision decides.
pub(crate) async fn decides(world: &World, revision: &str) {
    eventually("the revision", || async { (standing(world).await["live"]["revision"] == revision).then_some(()) })
        .await;
}

pub(crate) fn get_release(world: &World) -> Message {
    world.call("ada", "loopiq_get_release", json!({"release": RELEASE}))
}

/// Records of one stage, by what they say besides.
pub(crate) fn told(world: &World, stage: &str) -> Vec<Value> {
    let own = world.journal().into_iter().filter(|one| one["unmapped"]["loopgate"]["stage"] == stage);
    own.map(|one| one["unmapped"]["loopgate"]["data"].clone()).collect()
}

/// A report over enough decisions with nothing wrong in it.
pub(crate) fn report(candidate: &Value, live: &Value) -> Value {
    let policy = |one: &Value| json!({"bundle": one["bundle"], "data": one["data"]});
    let none = json!({"rows": [], "more": 0});
    json!({
        "replay": {
            "schema": 1,
            "loopgate": "0",
            "candidate": policy(candidate),
            "recorded": [{"policy": policy(live), "decisions": 3}],
            "window": {"from_ms": null, "to_ms": null},
            "journal": {"verified": true, "writers": []},
            "decisions": {
                "recorded": 3, "replayed": 3, "changed": 1, "skipped": 0, "unexplained": 0, "without_visible": 0,
            },
            "proven": true,
            "changes": {
                "classes": {"newly_hidden": 1}, "tenants": none, "roles": none, "tools": none, "users": none,
                "phases": none, "samples": {}, "list_sha256": "0".repeat(64),
            },
            "skipped": [],
        },
        "made": {"at_ms": app::now_s() * 1000, "took_ms": 1, "threads": 1},
    })
}

/// The body that activates: a report that this key signed, and its digest.
pub(crate) fn order(candidate: &Value, report: Value, key: &SigningKey) -> Value {
    let report: Report = serde_json::from_value(report).unwrap();
    let sealed: Value = serde_json::from_str(&envelope::sign(&report, key).unwrap()).unwrap();
    json!({"revision": candidate["revision"], "report": sealed, "digest": report.digest(), "reason": "as reviewed"})
}

pub(crate) fn own_key(world: &World) -> SigningKey {
    app::keys::report(&world.path("keys")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gated_change_waits_while_the_live_policy_goes_on_deciding_over_a_restart_too() {
    let mut world = gated().await;
    let first = standing(&world).await;
    assert_eq!(first["live"]["how"], "first", "{first}");
    let live = first["live"]["revision"].as_str().unwrap().to_owned();
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    let candidate = waiting(&world).await;
    assert_ne!(candidate["revision"], live.as_str());
    get_release(&world).send().await.done();
    assert_eq!(told(&world, "policy.waiting")[0]["policyRevision"], candidate["revision"]);
    let ready = world.readiness().await;
    assert_eq!((&ready["rules"]["waiting"], &ready["ready"]), (&candidate["revision"], &true.into()));
    assert!(ready["findings"].to_string().contains("waits for a replay report"), "{ready}");
    world.start_again().await;
    get_release(&world).send().await.done();
    let after = standing(&world).await;
    assert_eq!((&after["live"], &after["waiting"]), (&first["live"], &candidate));
    let started = told(&world, "policy.activated");
    assert_eq!((&started[1]["how"], &started[1]["policyRevision"]), (&"start".into(), &live.as_str().into()));
    assert_eq!(told(&world, "policy.waiting").len(), 1, "it is not told again");
    // Changed back, nothing waits.
    world.edit(TENANTS, WITHOUT_RELEASES, OPEN);
    eventually("nothing that waits", || async { standing(&world).await["waiting"].is_null().then_some(()) }).await;
    assert_eq!(told(&world, "policy.waiting")[1]["waits"], false);
    // A catalog is not gated.
    world.edit("catalog.yaml", "title: Get a release\n", "title: Show one release\n");
    eventually("the new title", || async {
        let list = world.message("ada", "tools/list").modern().send().await;
        list.text.contains("Show one release").then_some(())
    })
    .await;
    assert_eq!(standing(&world).await["live"]["revision"], live.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gated_activation_is_refused_unless_its_report_shows_everything() {
    let world = gated().await;
    let live = standing(&world).await["live"].clone();
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    let candidate = waiting(&world).await;
    let key = own_key(&world);
    let good = report(&candidate, &live);
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        order(&candidate, changed, &key)
    };
    let stranger = SigningKey::generate(&[7; 32]).unwrap();
    let mut touched = order(&candidate, good.clone(), &key);
    touched["report"]["payload"] = order(&candidate, report(&live, &candidate), &key)["report"]["payload"].clone();
    let unsigned = json!({"revision": candidate["revision"], "reason": "trust me"});
    let mut other_digest = order(&candidate, good.clone(), &key);
    other_digest["digest"] = "0".repeat(64).into();
    let filtered = json!({"from_ms": null, "to_ms": null, "tenant": "org_nordbank"});
    let day_ago = (app::now_s() - 86_401) * 1000;
    let before_live = live["since"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond() - 1_000;
    for (body, expected) in [
        (unsigned, "gate_report_missing"),
        (order(&candidate, good.clone(), &stranger), "gate_report_untrusted"),
        (touched, "gate_report_untrusted"),
        (with("/replay/candidate", good["replay"]["recorded"][0]["policy"].clone()), "gate_report_other_candidate"),
        (with("/replay/recorded", json!([])), "gate_report_other_baseline"),
        (with("/made/at_ms", json!(day_ago)), "gate_report_stale"),
        (with("/replay/decisions/replayed", json!(2)), "gate_too_few_decisions"),
        (with("/replay/decisions/unexplained", json!(1)), "gate_unexplained"),
        (with("/replay/proven", json!(false)), "gate_unproven"),
        (with("/replay/journal/verified", json!(false)), "gate_journal_unverified"),
        (with("/replay/window", filtered), "gate_report_filtered"),
        (with("/made/at_ms", json!(before_live)), "gate_report_overtaken"),
        (other_digest, "gate_digest_mismatch"),
    ] {
        let answer = post(&world, "tess", "activate", &body).await;
        assert_eq!((answer.status, code(&answer)), (409, expected), "{}", answer.text);
        assert!(!answer.body["error"]["next"].as_str().unwrap().is_empty(), "{}", answer.text);
        get_release(&world).send().await.done();
        let record = world.journal().into_iter().rfind(|one| one["unmapped"]["loopgate"]["stage"] == "policy.refused");
        let record = record.unwrap_or_else(|| panic!("{expected} is not on record"));
        assert_eq!(record["unmapped"]["loopgate"]["refusal"]["code"], expected);
        assert_eq!(record["actor"]["user"]["uid"], "tess");
    }
    assert_eq!(standing(&world).await["live"], live);

    let approved = order(&candidate, good, &key);
    for user in ["ada", "nora", "svc-pipeline"] {
        let answer = post(&world, user, "activate", &approved).await;
        assert_eq!(answer.status, 403, "{user}: {}", answer.text);
    }
    get_release(&world).send().await.done();

    let answer = post(&world, "tess", "activate", &approved).await;
    assert_eq!((answer.status, &answer.body["live"]["by"]), (200, &"tess".into()), "{}", answer.text);
    get_release(&world).send().await.is_refused("unknown_tool");
    let record = world.journal().into_iter().rfind(|one| one["unmapped"]["loopgate"]["stage"] == "policy.activated");
    let record = record.unwrap();
    assert_eq!(
        (&record["actor"]["user"]["uid"], &record["api"]["operation"]),
        (&"tess".into(), &"policy.activate".into())
    );
    let data = &record["unmapped"]["loopgate"]["data"];
    assert_eq!((&data["from"], &data["policyRevision"]), (&live["revision"], &candidate["revision"]));
    assert_eq!((&data["report"], &data["reason"]), (&approved["digest"], &"as reviewed".into()));
    assert_eq!(code(&post(&world, "tess", "activate", &approved).await), "policy_already_live");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_activations_at_once_one_is_made_and_the_other_sees_it() {
    let world = gated().await;
    let live = standing(&world).await["live"].clone();
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    let candidate = waiting(&world).await;
    let body = order(&candidate, report(&candidate, &live), &own_key(&world));
    let (one, other) = tokio::join!(post(&world, "tess", "activate", &body), post(&world, "tess", "activate", &body));
    let mut codes = [code(&one), code(&other)];
    codes.sort_unstable();
    assert_eq!(codes, ["ok", "policy_already_live"], "{} {}", one.text, other.text);
    assert_eq!(told(&world, "policy.activated").len(), 2, "the first policy and this one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rolled_back_stays_away_until_the_files_change_also_over_a_restart() {
    let mut world = world("").await;
    let first = standing(&world).await["live"]["revision"].as_str().unwrap().to_owned();
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    eventually("the edit", || async { (get_release(&world).send().await.code() == "unknown_tool").then_some(()) })
        .await;
    let bad = standing(&world).await["live"]["revision"].as_str().unwrap().to_owned();
    let answer = post(&world, "tess", "rollback", &json!({"reason": "nobody sees releases"})).await;
    assert_eq!((answer.status, &answer.body["live"]["revision"]), (200, &first.as_str().into()), "{}", answer.text);
    get_release(&world).send().await.done();
    let record = &told(&world, "policy.rolled_back")[0];
    assert_eq!((&record["from"], &record["policyRevision"]), (&bad.as_str().into(), &first.as_str().into()));
    assert_eq!(record["reason"], "nobody sees releases");
    // A touched catalog makes the files be read again, and a restart does.
    world.edit("catalog.yaml", "title: Get a release\n", "title: Show one release\n");
    eventually("the new title", || async {
        world.message("ada", "tools/list").modern().send().await.text.contains("Show one release").then_some(())
    })
    .await;
    get_release(&world).send().await.done();
    world.start_again().await;
    get_release(&world).send().await.done();
    let after = standing(&world).await;
    assert_eq!((&after["live"]["revision"], &after["held"]), (&first.as_str().into(), &json!([bad])));
    assert_eq!(code(&post(&world, "tess", "rollback", &json!({})).await), "policy_nothing_before");
    // Another edit is another policy; and what was taken back may be had by whoever asks for it.
    world.edit(TENANTS, WITHOUT_RELEASES, WITHOUT_CONTROLS);
    eventually("the third policy", || async {
        let now = standing(&world).await;
        (now["live"]["revision"] != first.as_str() && now["held"] == json!([])).then_some(())
    })
    .await;
    world.edit(TENANTS, WITHOUT_CONTROLS, WITHOUT_RELEASES);
    decides(&world, &bad).await;
    let answer = post(&world, "tess", "rollback", &json!({"to": first})).await;
    assert_eq!(answer.body["live"]["revision"], first.as_str(), "{}", answer.text);
    assert_eq!(code(&post(&world, "tess", "rollback", &json!({"to": "never"})).await), "policy_revision_unknown");
    let again = post(&world, "tess", "activate", &json!({"revision": bad, "reason": "I know"})).await;
    assert_eq!(again.body["live"]["revision"], bad.as_str(), "{}", again.text);
}

/// Broken files at a start leave what was in force before deciding.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_on_broken_files_goes_on_with_what_was_in_force() {
    let mut world = world("").await;
    let live = standing(&world).await["live"]["revision"].clone();
    world.stop_gateway().await;
    world.edit(TENANTS, "org_gcn:\n", "org_gcn: [\n");
    world.start_again().await;
    get_release(&world).send().await.done();
    let after = standing(&world).await;
    assert_eq!(after["live"]["revision"], live);
    assert!(after["faults"].to_string().contains("data/tenants.yaml"), "{after}");
}

/// Somebody of whom the cast has many.
fn one_of_many(n: usize) -> DevClaims {
    DevClaims { user: format!("user-{n}"), ..claims("ada") }
}

async fn code_of(world: &World, who: &DevClaims, tool: &str) -> String {
    let token = world.people.mint(who, app::now_s(), 3600, &who.user);
    let call = Message::new(&world.http, &world.mcp, "tools/call").header("authorization", &format!("Bearer {token}"));
    let answer = call.param("name", tool).param("arguments", json!({"release": RELEASE})).send().await;
    answer.code().to_owned()
}

/// Half of all calls here are for a release, which the candidate hides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_would_deny_half_of_all_calls_takes_itself_back_and_leaves_its_story() {
    let world = gated().await;
    let live = standing(&world).await["live"].clone();
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    let candidate = waiting(&world).await;
    let mut body = order(&candidate, report(&candidate, &live), &own_key(&world));
    let refused = json!({"revision": candidate["revision"], "canary": {"percent": 10}});
    assert_eq!(code(&post(&world, "tess", "activate", &refused).await), "gate_report_missing");
    body["canary"] = json!({"percent": 10});
    let started = post(&world, "tess", "activate", &body).await;
    assert_eq!((started.status, &started.body["canary"]["percent"]), (200, &10.into()), "{}", started.text);
    assert_eq!(started.body["live"], live);
    assert_eq!(world.readiness().await["rules"]["canary"], candidate["revision"]);

    let mut met = BTreeSet::new();
    let mut asked = 0;
    while standing(&world).await["canary"].is_object() {
        assert!(asked < 1_000, "the canary still runs after a thousand callers");
        for n in asked..asked + 20 {
            let who = one_of_many(n);
            let (release, certification) = (
                code_of(&world, &who, "loopiq_get_release").await,
                code_of(&world, &who, "loopiq_get_release_certification").await,
            );
            assert_eq!(certification, "ok");
            if release != "ok" {
                assert_eq!(release, "unknown_tool");
                met.insert(n);
            }
        }
        asked += 20;
    }
    assert!(!met.is_empty() && met.len() * 4 < asked, "{} of {asked} met the canary", met.len());
    // Everybody has the live policy again, and the candidate does not come back by itself.
    for n in &met {
        assert_eq!(code_of(&world, &one_of_many(*n), "loopiq_get_release").await, "ok");
    }
    let after = standing(&world).await;
    assert_eq!((&after["live"], &after["waiting"]), (&live, &Value::Null));
    assert_eq!(after["held"], json!([candidate["revision"]]));
    let story = &told(&world, "policy.rolled_back")[0];
    assert_eq!((&story["how"], &story["judgement"]), (&"canary".into(), &"out_of_band".into()));
    assert_eq!((&story["policyRevision"], &story["live"]), (&candidate["revision"], &live["revision"]));
    let counts = &story["counts"];
    assert!(counts["decisions"].as_u64().unwrap() >= 20 && counts["liveDenied"] == 0, "{counts}");
    assert!(counts["denied"].as_u64().unwrap() * 3 > counts["calls"].as_u64().unwrap(), "{counts}");
    let begun = &told(&world, "policy.canary")[0];
    assert_eq!((&begun["how"], &begun["percent"], &begun["from"]), (&"started".into(), &10.into(), &live["revision"]));
    assert!(world.metric("loopgate_policy_canary_decisions_total{outcome=\"deny\"}").await > Some(0.0));
    assert_eq!(world.metric("loopgate_policy_canary").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_meets_the_same_callers_each_time_and_over_a_restart_until_it_is_promoted() {
    let mut world = world(", activation: gated, gate: {decisions: 3}, canary: {least: 100000}").await;
    let live = standing(&world).await["live"].clone();
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    let candidate = waiting(&world).await;
    let mut body = order(&candidate, report(&candidate, &live), &own_key(&world));
    body["canary"] = json!({"percent": 30});
    assert_eq!(post(&world, "tess", "activate", &body).await.status, 200);
    let mut codes = BTreeMap::new();
    for n in 0..40 {
        codes.insert(n, code_of(&world, &one_of_many(n), "loopiq_get_release").await);
    }
    let met = codes.values().filter(|code| *code == "unknown_tool").count();
    assert!((3..=25).contains(&met), "{met} of 40");
    world.start_again().await;
    for (n, before) in &codes {
        assert_eq!(code_of(&world, &one_of_many(*n), "loopiq_get_release").await, *before, "caller {n}");
        // What they are shown is what they may call.
        let token = world.people.mint(&one_of_many(*n), app::now_s(), 3600, "list");
        let list =
            Message::new(&world.http, &world.mcp, "tools/list").header("authorization", &format!("Bearer {token}"));
        let shown = list.send().await.text.contains("\"loopiq_get_release\"");
        assert_eq!(shown, before == "ok", "caller {n}");
    }
    let promoted =
        post(&world, "tess", "activate", &json!({"revision": candidate["revision"], "reason": "fine"})).await;
    assert_eq!((promoted.status, &promoted.body["live"]["how"]), (200, &"promoted".into()), "{}", promoted.text);
    assert_eq!(promoted.body["live"]["report"], body["digest"]);
    for n in 0..10 {
        assert_eq!(code_of(&world, &one_of_many(n), "loopiq_get_release").await, "unknown_tool");
    }
    assert_eq!(told(&world, "policy.promoted").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_of_one_organisation_is_taken_back_by_hand() {
    let world = gated().await;
    let live = standing(&world).await["live"].clone();
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    let candidate = waiting(&world).await;
    let mut body = order(&candidate, report(&candidate, &live), &own_key(&world));
    body["canary"] = json!({"tenants": ["org_gcn"]});
    assert_eq!(post(&world, "tess", "activate", &body).await.status, 200);
    get_release(&world).send().await.is_refused("unknown_tool");
    let back = post(&world, "tess", "rollback", &json!({})).await;
    assert_eq!((&back.body["canary"], &back.body["live"]), (&Value::Null, &live), "{}", back.text);
    get_release(&world).send().await.done();
    assert_eq!(told(&world, "policy.rolled_back")[0]["how"], "person");
}

/// Decisions on record: list and call and answer alike.
fn decisions(world: &World) -> usize {
    let own = world.journal();
    let ids: BTreeSet<String> = own
        .iter()
        .flat_map(|one| one["unmapped"]["loopgate"]["decisions"].as_array().cloned().unwrap_or_default())
        .map(|decision| decision["id"].as_str().unwrap().to_owned())
        .collect();
    ids.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_changes_no_answer_counts_exactly_and_records_by_samples_and_a_sum() {
    let mut world = world(", activation: gated, shadow: {percent: 100}").await;
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    let candidate = waiting(&world).await;
    let before = decisions(&world);
    for _ in 0..10 {
        get_release(&world).send().await.done();
        world.read("ada").send().await.done();
    }
    let tools = world.tools("ada").await;
    assert!(tools.contains(&"loopiq_get_release".to_owned()));
    let made = u32::try_from(decisions(&world) - before).map(f64::from).unwrap();
    let count = |result: &'static str| {
        let world = &world;
        async move {
            world.metric(&format!("loopgate_policy_shadow_total{{result=\"{result}\"}}")).await.unwrap_or_default()
        }
    };
    eventually("every decision's shadow", || async {
        let mut sum = 0.0;
        for result in
            ["same", "newly_denied", "newly_allowed", "newly_pending", "visible", "obligations", "reasons", "fault"]
        {
            sum += count(result).await;
        }
        assert!(sum <= made, "{sum} of {made}");
        (sum >= made).then_some(())
    })
    .await;
    // Each of ten calls would be denied, and one list would lack a tool.
    assert_eq!((count("newly_denied").await, count("fault").await, count("dropped").await), (10.0, 0.0, 0.0));
    let shadow = standing(&world).await["shadow"].clone();
    assert_eq!(
        (&shadow["revision"], &shadow["counts"]["newly_denied"]),
        (&candidate["revision"], &10.into()),
        "{shadow}"
    );
    world.stop_gateway().await;
    let told = told(&world, "policy.shadow");
    let samples: Vec<&Value> = told.iter().filter(|one| one["class"] == "newly_denied").collect();
    assert_eq!(samples.len(), 3, "{told:#?}");
    assert_eq!((&samples[0]["tool"], &samples[0]["user"]), (&"loopiq_get_release".into(), &"ada".into()));
    assert_eq!((&samples[0]["before"]["outcome"], &samples[0]["after"]["outcome"]), (&"allow".into(), &"deny".into()));
    let list = told.iter().find(|one| one["class"] == "visible" && one["phase"] == "list").unwrap();
    assert_eq!(list["vanishes"], json!(["loopiq_get_release"]));
    let sum = told.iter().find(|one| one["counts"].is_object()).unwrap();
    assert_eq!(sum["counts"]["newly_denied"], 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_of_its_own_folder_is_asked_beside_and_a_broken_one_harms_nothing() {
    let world = world(", shadow: {dir: candidate, tenants: [org_gcn]}").await;
    assert!(standing(&world).await["faults"].to_string().contains("policy.shadow"), "it is not there yet");
    get_release(&world).send().await.done();
    copy(&world.path("policies"), &world.path("candidate"));
    world.edit("candidate/data/tenants.yaml", OPEN, WITHOUT_RELEASES);
    eventually("the shadow", || async {
        let now = standing(&world).await;
        (now["shadow"].is_object() && now["shadow"]["revision"] != now["live"]["revision"]).then_some(())
    })
    .await;
    get_release(&world).send().await.done();
    eventually("what it says", || async {
        (standing(&world).await["shadow"]["counts"]["newly_denied"] == 1).then_some(())
    })
    .await;
    world.edit("candidate/data/tenants.yaml", "org_gcn:\n", "org_gcn: [\n");
    eventually("its end", || async { standing(&world).await["shadow"].is_null().then_some(()) }).await;
    get_release(&world).send().await.done();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_drops_and_counts_and_the_call_goes_on() {
    let mut bench = Bench::with_room(1_000).await;
    let live = loopgate::adapters::reload::load(&bench.site.sources(), 0).await.unwrap();
    let candidate = loopgate::adapters::reload::load(&bench.site.sources(), 0).await.unwrap();
    let metrics = Metrics::new();
    let sample = Sample { tenants: Vec::new(), percent: 100 };
    let room = Room { decisions: 2, ..shadow::QUEUE };
    let (aside, told) = Aside::new(sample, room, metrics.shadow.clone());
    let cell = RulesCell::watched(aside);
    cell.activate(live);
    cell.ask_beside(Some(Arc::new(candidate)));
    bench.gate.rules = Arc::new(cell);
    // Nobody takes anything out of the queue.
    for _ in 0..3 {
        let answer = bench.ask("tools/list", json!({})).await;
        assert!(!answer["result"]["tools"].as_array().unwrap().is_empty());
    }
    assert_eq!(metrics.shadow.with_label_values(&["dropped"]).get(), 1);
    drop(told);
    bench.ask("tools/list", json!({})).await;
    assert_eq!(metrics.shadow.with_label_values(&["dropped"]).get(), 2);
}

/// A journal and a store that note their order, and fail where they are told to.
#[derive(Default)]
struct Steps {
    seen: Mutex<Vec<String>>,
    /// Names of steps that fail.
    fails: Mutex<BTreeSet<&'static str>>,
    states: Mutex<Option<State>>,
    bundles: Mutex<BTreeMap<BundleId, Bundle>>,
}

impl Steps {
    fn step(&self, name: &'static str, what: &str) -> Result<(), BundlesFault> {
        self.seen.lock().unwrap().push(format!("{name} {what}"));
        if self.fails.lock().unwrap().contains(name) { Err(BundlesFault("no space left".to_owned())) } else { Ok(()) }
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

#[async_trait]
impl ports::Journal for Steps {
    async fn append(&self, record: Record) -> Result<AuditRef, JournalFault> {
        let done = self.step("record", &record.at().to_string());
        done.map_err(|fault| JournalFault::Failing { cause: fault.0 })?;
        Ok(AuditRef { writer: "steps".to_owned(), epoch: 1, seq: 0 })
    }

    fn ready(&self, _for_write: bool) -> Result<(), JournalFault> {
        Ok(())
    }
}

impl Bundles for Steps {
    fn keep(&self, bundle: &Bundle) -> Result<(), BundlesFault> {
        self.step("keep", "")?;
        let id = BundleId::new(bundle.digest(), bundle.data_digest());
        self.bundles.lock().unwrap().insert(id, bundle.clone());
        Ok(())
    }

    fn bundle(&self, id: &BundleId) -> Result<Option<Bundle>, BundlesFault> {
        Ok(self.bundles.lock().unwrap().get(id).cloned())
    }

    fn state(&self) -> Result<Option<State>, BundlesFault> {
        self.step("read", "")?;
        Ok(self.states.lock().unwrap().clone())
    }

    fn set_state(&self, state: &State) -> Result<(), BundlesFault> {
        self.step("state", "")?;
        *self.states.lock().unwrap() = Some(state.clone());
        Ok(())
    }
}

/// A gateway's policy that has just been started, over a journal and a store.
fn started(site: &Site, steps: &Arc<Steps>) -> (Arc<RulesCell>, Watcher) {
    let cell = Arc::new(RulesCell::default());
    let tools = Tools {
        cell: Arc::clone(&cell),
        store: Arc::clone(steps) as Arc<dyn Bundles>,
        journal: Arc::clone(steps) as Arc<dyn ports::Journal>,
        clock: Arc::new(Now),
        metrics: Arc::new(Metrics::new()),
        tallies: Arc::default(),
        checker: site.sources().checker,
    };
    let ways = Ways {
        gated: false,
        demands: Demands { decisions: 1, age_ms: 1_000 },
        examine: Arc::new(|_| Err(GateFault::Missing)),
        lived: Arc::new(|| Ok(None)),
        shadow_waiting: false,
        limits: Limits { least: 1, band: 0, errors: 0, window_ms: 1_000 },
    };
    let steward = Arc::new(Steward::new(tools, ways));
    let every = std::time::Duration::from_millis(10);
    (cell, Watcher::new(site.sources(), None, steward, every))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_recorded_then_kept_then_done_and_one_that_fails_changes_nothing() {
    let site = Site::make(&Setup::default()).await;
    let steps = Arc::new(Steps::default());
    // What fails before anything was ever in force leaves nothing in force.
    for (fails, left) in [
        ("read", vec!["read ", "record policy.refused"]),
        ("keep", vec!["read ", "keep ", "record policy.refused"]),
        ("record", vec!["read ", "keep ", "record policy.activated", "record policy.refused"]),
        (
            "state",
            vec![
                "read ",
                "keep ",
                "record policy.activated",
                "state ",
                "record policy.refused",
                "record policy.refused",
            ],
        ),
    ] {
        *steps.fails.lock().unwrap() = [fails].into();
        let (cell, mut watcher) = started(&site, &steps);
        watcher.first().await;
        assert_eq!(steps.seen(), left, "{fails}");
        assert!(cell.current().is_none() && cell.faults().is_some(), "{fails}");
    }
    steps.fails.lock().unwrap().clear();
    let (cell, mut watcher) = started(&site, &steps);
    watcher.first().await;
    assert_eq!(steps.seen(), ["read ", "keep ", "record policy.activated", "state "]);
    let first = cell.current().unwrap().revision();

    // Killed between the record and the store: the next start goes on with the old policy and says so.
    let tenants = site.dir.path().join(TENANTS);
    let text = fs::read_to_string(&tenants).unwrap();
    fs::write(&tenants, text.replace(OPEN, WITHOUT_RELEASES)).unwrap();
    *steps.fails.lock().unwrap() = ["state"].into();
    let (cell, mut watcher) = started(&site, &steps);
    watcher.first().await;
    assert_eq!(cell.current().unwrap().revision(), first, "what the store says wins");
    let seen = steps.seen();
    assert_eq!(seen.iter().filter(|step| *step == "record policy.activated").count(), 2, "{seen:?}");
    steps.fails.lock().unwrap().clear();
    let (cell, mut watcher) = started(&site, &steps);
    watcher.first().await;
    assert_ne!(cell.current().unwrap().revision(), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_read_lets_nothing_decide_and_is_left_as_it_is() {
    let mut world = world("").await;
    world.stop_gateway().await;
    let file = world.path("store/state.json");
    let text = fs::read_to_string(&file).unwrap();
    for broken in [text.replace("\"v\": 1", "\"v\": 2"), text.replace("\"held\"", "\"helf\""), "{".to_owned()] {
        fs::write(&file, &broken).unwrap();
        world.start_again().await;
        get_release(&world).send().await.is_refused("policy_unavailable");
        let ready = world.readiness().await;
        assert!(ready["findings"].to_string().contains("state.json"), "{ready}");
        world.stop_gateway().await;
        assert_eq!(fs::read_to_string(&file).unwrap(), broken);
    }
    fs::write(&file, &text).unwrap();
    world.start_again().await;
    get_release(&world).send().await.done();
    assert!(Store::open(&world.path("store")).is_err(), "one gateway holds it");
}
