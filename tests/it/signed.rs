//! An approval that LoopIQ signed itself is good for one call of one person, in one ledger, once.

use futures_util::future::join_all;
use loopgate::app;
use loopgate::domain::identity::dev::DevApproval;
use serde_json::Value;
use serde_json::json;

use crate::approvals::Package;
use crate::approvals::effects;
use crate::harness::World;
use crate::message::Message;

const ID: &str = "ext_helix.h-1";

async fn ledger(world: &World) -> String {
    let ready: Value = serde_json::from_str(&world.get(&format!("{}/readyz", world.admin)).await).unwrap();
    ready["ledger"].as_str().unwrap().to_owned()
}

/// What otto agreed to in LoopIQ: ada's package.
pub(crate) async fn agreed(world: &World, package: &Package) -> DevApproval {
    DevApproval {
        ledger: ledger(world).await,
        tenant: "org_gcn".into(),
        user: "ada".into(),
        tool: "loopiq_create_remediation_work_package".into(),
        arguments: package.arguments.as_object().cloned().unwrap(),
        id: "h-1".into(),
        votes: vec![("otto".into(), vec!["certification_approver".into()])],
    }
}

pub(crate) fn signed(world: &World, approval: &DevApproval) -> String {
    world.helix.approve(approval, app::now_s(), 600).unwrap()
}

fn with(call: Message, token: &str) -> Message {
    call.header("X-LoopIQ-Approval-Token", token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_approval_lets_its_call_happen_and_is_used_up() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-s").await;
    let token = signed(&world, &agreed(&world, &package).await);
    let before = effects(&world).await;
    let done = with(package.call(&world), &token).header("Idempotency-Key", "s-1").send().await;
    assert_eq!(done.done()["children"].as_array().unwrap().len(), 3);
    assert_eq!(done.audit()["approvalId"], ID);
    assert_eq!(effects(&world).await, before + 1);
    // Its owner asks again, with the token or only with the name that it has here.
    for again in [
        with(package.call(&world), &token).header("Idempotency-Key", "s-1"),
        package.call(&world).meta("com.loopiq/approvalToken", token.as_str()).meta("com.loopiq/idempotencyKey", "s-1"),
        package.with(&world, ID).header("Idempotency-Key", "s-1"),
    ] {
        let again = again.send().await;
        assert_eq!((again.words(), &again.audit()["replayed"]), (done.words(), &json!(true)), "{}", again.text);
    }
    // Too late to be used, and never too late to hear what came of it.
    let late = world.helix.approve(&agreed(&world, &package).await, app::now_s() - 700, 600).unwrap();
    let late = with(package.call(&world), &late).header("Idempotency-Key", "s-1").send().await;
    assert_eq!((late.words(), &late.audit()["replayed"]), (done.words(), &json!(true)), "{}", late.text);
    // The same approval under another key, and signed a second time.
    let other_key = with(package.call(&world), &token).header("Idempotency-Key", "s-2").send().await;
    assert_ne!(other_key.code(), "ok", "{}", other_key.text);
    let anew = signed(&world, &agreed(&world, &package).await);
    let signed_anew = with(package.call(&world), &anew).header("Idempotency-Key", "s-3").send().await;
    assert_ne!(signed_anew.code(), "ok", "{}", signed_anew.text);
    assert_eq!(effects(&world).await, before + 1);
    let journal = Value::Array(world.journal()).to_string();
    assert!(journal.contains(ID) && !journal.contains("eyJ"), "its name is written down, the token never");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_signed_approval_in_sixteen_calls_at_once_is_one_write() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-r").await;
    let token = signed(&world, &agreed(&world, &package).await);
    let before = effects(&world).await;
    let calls = (0..16).map(|n| {
        let call = with(package.call(&world), &token).header("Idempotency-Key", &format!("r-{n}"));
        async move { call.send().await }
    });
    let answers = join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.code() == "ok").count(), 1, "{answers:?}");
    assert_eq!(effects(&world).await, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_approval_of_anything_else_moves_nothing() {
    let world = World::new().await;
    let package = Package::drafted(&world, "wf-n").await;
    let good = agreed(&world, &package).await;
    let before = effects(&world).await;
    let mut swapped = good.arguments.clone();
    swapped.insert("title".into(), json!("Something else"));
    let vote = |user: &str, role: &str| vec![(user.to_owned(), vec![role.to_owned()])];
    let wrong = [
        ("another ledger", DevApproval { ledger: "ledger_other".into(), ..good.clone() }),
        ("another tenant", DevApproval { tenant: "org_nordbank".into(), ..good.clone() }),
        ("another requester", DevApproval { user: "ben".into(), ..good.clone() }),
        ("another tool", DevApproval { tool: "loopiq_create_work_item".into(), ..good.clone() }),
        ("other arguments", DevApproval { arguments: swapped, ..good.clone() }),
        ("the requester's own vote", DevApproval { votes: vote("ada", "certification_approver"), ..good.clone() }),
        ("a viewer's vote", DevApproval { votes: vote("vic", "viewer"), ..good.clone() }),
        ("no votes", DevApproval { votes: Vec::new(), ..good.clone() }),
    ];
    let mut tokens: Vec<(&str, String)> =
        wrong.into_iter().map(|(what, approval)| (what, signed(&world, &approval))).collect();
    let expired = world.helix.approve(&good, app::now_s() - 700, 600).unwrap();
    with(package.call(&world), &expired).send().await.is_refused("approval_expired");
    tokens.push(("too long", world.helix.approve(&good, app::now_s(), 901).unwrap()));
    tokens.push(("an issuer of callers", world.people.approve(&good, app::now_s(), 600).unwrap()));
    tokens.push(("an access token", world.token("otto")));
    for (what, token) in tokens {
        let answer = with(package.call(&world), &token).send().await;
        answer.is_refused("approval_mismatch");
        assert!(!answer.text.contains(&token) && !answer.text.contains("helix.it"), "{what}: {}", answer.text);
    }
    // Its bearer is nobody.
    let token = signed(&world, &good);
    let call = Message::new(&world.http, &world.mcp, "tools/list").header("authorization", &format!("Bearer {token}"));
    assert_eq!(call.send().await.status, 401);
    assert_eq!(effects(&world).await, before);
    // And after all of that the good one is still good.
    with(package.call(&world), &token).send().await.done();
    assert_eq!(effects(&world).await, before + 1);
}
