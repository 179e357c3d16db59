//! Whoever holds files or old reports cannot decide for others by them.

use std::fs;

use serde_json::json;

use crate::harness::World;
use crate::harness::eventually;
use crate::rollout::OPEN;
use crate::rollout::TENANTS;
use crate::rollout::WITHOUT_RELEASES;
use crate::rollout::code;
use crate::rollout::gated;
use crate::rollout::get_release;
use crate::rollout::order;
use crate::rollout::own_key;
use crate::rollout::post;
use crate::rollout::report;
use crate::rollout::standing;
use crate::rollout::told;
use crate::rollout::waiting;
use crate::rollout::world;

/// A store that was on a volume that went away used to let whatever lay in the folder pass for the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_lost_lets_no_other_policy_pass_for_the_first() {
    let mut world = gated().await;
    let first = standing(&world).await["live"].clone();
    world.stop_gateway().await;
    fs::remove_dir_all(world.path("store")).unwrap();
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    // Not at the second start either: what was refused at the first is no policy that was in force.
    for _ in 0..2 {
        world.start_again().await;
        get_release(&world).send().await.is_refused("policy_unavailable");
        let ready = world.readiness().await;
        let findings = ready["findings"].to_string();
        assert!(findings.contains("policy.store") && findings.contains(first["revision"].as_str().unwrap()), "{ready}");
    }
    // The files of what was in force go live again, and from then on changes wait.
    world.edit(TENANTS, WITHOUT_RELEASES, OPEN);
    eventually("the policy that was in force", || async {
        (standing(&world).await["live"]["revision"] == first["revision"]).then_some(())
    })
    .await;
    get_release(&world).send().await.done();
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    waiting(&world).await;
    get_release(&world).send().await.done();
}

/// A world without a gate in which a policy was taken back and then made a canary, without a report.
async fn ungated_canary() -> (World, String, String) {
    let world = world("").await;
    let first = standing(&world).await["live"]["revision"].as_str().unwrap().to_owned();
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    let second = eventually("the edit", || async {
        let live = standing(&world).await["live"]["revision"].as_str().unwrap().to_owned();
        (live != first).then_some(live)
    })
    .await;
    assert_eq!(post(&world, "tess", "rollback", &json!({})).await.status, 200);
    let canary = json!({"revision": second, "canary": {"tenants": ["org_nordbank"]}});
    let started = post(&world, "tess", "activate", &canary).await;
    assert_eq!(started.status, 200, "{}", started.text);
    (world, first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_from_before_the_gate_is_promoted_only_with_a_report() {
    let (mut world, _, canary) = ungated_canary().await;
    world.edit("gateway.yaml", "reload_every: 50ms", "reload_every: 50ms, activation: gated, gate: {decisions: 3}");
    world.start_again().await;
    let now = standing(&world).await;
    assert_eq!((&now["canary"]["revision"], &now["activation"]), (&canary.as_str().into(), &"gated".into()));
    let bare = post(&world, "tess", "activate", &json!({"revision": canary})).await;
    assert_eq!((bare.status, code(&bare)), (409, "gate_report_missing"), "{}", bare.text);
    let shown = order(&now["canary"], report(&now["canary"], &now["live"]), &own_key(&world));
    let promoted = post(&world, "tess", "activate", &shown).await;
    assert_eq!((promoted.status, &promoted.body["live"]["report"]), (200, &shown["digest"]), "{}", promoted.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_was_lost_is_told_of_and_so_is_what_decides_instead() {
    let (mut world, first, canary) = ungated_canary().await;
    let lost = standing(&world).await["canary"].clone();
    world.stop_gateway().await;
    world.edit(TENANTS, WITHOUT_RELEASES, OPEN);
    let [bundle, data] = ["bundle", "data"].map(|name| lost[name].as_str().unwrap());
    fs::remove_file(world.path(&format!("store/bundles/{bundle}-{data}.tar.gz"))).unwrap();
    world.start_again().await;
    let back = told(&world, "policy.rolled_back").pop().unwrap();
    assert_eq!((&back["how"], &back["policyRevision"]), (&"lost".into(), &canary.as_str().into()));
    let decides = told(&world, "policy.activated").pop().unwrap();
    assert_eq!((&decides["how"], &decides["policyRevision"]), (&"start".into(), &first.as_str().into()));
}
