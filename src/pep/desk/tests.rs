//! What the desk promises, against a ledger in memory made of the domain's own steps.

use serde_json::Value;

use super::memory::ISSUER;
use super::memory::World;
use super::memory::bundle;
use super::memory::visit;
use super::*;
use crate::domain::approval::State;
use crate::domain::approval::Verdict;
use crate::domain::idempotency;
use crate::pep::rollout::Order;

const ADA: &str = "ada@org_gcn/release_manager";
const OTTO: &str = "otto@org_gcn/approver";
const PAM: &str = "pam@org_gcn//payments";
const TESS: &str = "tess@org_gcn/tenant_admin";
const TOM: &str = "tom@org_gcn/tenant_admin";
const CLEO: &str = "cleo@org_gcn,org_nordbank/auditor";
const VIC: &str = "vic@org_gcn/viewer";
const PIA: &str = "pia@org_gcn/policy_admin";
const NORA: &str = "nora@org_nordbank/approver,tenant_admin,auditor/payments";

fn cast(digest: &str) -> Cast {
    Cast { digest: Some(digest.to_owned()), reason: "as planned".to_owned() }
}

fn said(happened: bool, record_ids: &[&str]) -> Said {
    let record_ids = record_ids.iter().map(|&id| id.to_owned()).collect();
    Said { happened, evidence: "looked at the board".to_owned(), record_ids }
}

fn as_cleo(tenant: &str) -> Visit {
    Visit { tenant: vec![tenant.to_owned()], ..visit(CLEO) }
}

fn no(outcome: Result<Value, Declined>) -> (Kind, &'static str) {
    let no = outcome.unwrap_err();
    assert!(!no.message.is_empty() && !no.next.is_empty(), "{no:?}");
    (no.kind, no.code)
}

#[tokio::test]
async fn a_vote_is_recorded_before_it_counts_and_what_came_of_it_before_it_is_answered() {
    let world = World::new();
    let desk = world.desk();
    let ticket = world.ask_for("apr_1", "ada", "org_gcn", 2);
    let first = desk.vote(&visit(OTTO), "apr_1", Verdict::Approve, cast(&ticket.digest)).await.unwrap();
    assert_eq!((&first["state"], &first["approvers"]["agreed"]), (&"pending".into(), &1.into()));
    assert_eq!(world.stages(), ["approval.vote", "approval.voted"]);
    let second = desk.vote(&visit(PAM), "apr_1", Verdict::Approve, cast(&ticket.digest)).await.unwrap();
    assert_eq!(second["state"], "approved");
    let records = world.records.lock().unwrap().clone();
    let of: Vec<&Value> = records.iter().map(|one| &one["unmapped"]["loopgate"]).collect();
    assert_eq!((&of[0]["stage"], &of[1]["stage"]), (&"approval.vote".into(), &"approval.approved".into()));
    for (record, own) in records.iter().zip(&of) {
        assert_eq!(own["approval_id"], "apr_1");
        assert_eq!((&own["tool"], &own["idempotency_key"]), (&Value::from(ticket.subject.tool.clone()), &"k".into()));
        assert_eq!(own["data"]["digest"], ticket.digest.as_str());
        assert_eq!((&record["actor"]["user"]["uid"], &record["actor"]["idp"]["uid"]), (&"pam".into(), &ISSUER.into()));
        assert_eq!(record["actor"]["user"]["org"]["uid"], "org_gcn");
        assert_eq!(record["trace"]["uid"], ticket.trace_id.as_str());
        assert_eq!(record["api"]["request"]["uid"], records[0]["api"]["request"]["uid"]);
    }
    assert_eq!((&of[0]["data"]["verdict"], &of[0]["data"]["reason"]), (&"approve".into(), &"as planned".into()));
}

#[tokio::test]
async fn what_cannot_be_recorded_changes_nothing() {
    let world = World::new();
    let desk = world.desk();
    let ticket = world.ask_for("apr_1", "ada", "org_gcn", 1);
    let write = world.unknown_write("ada", "org_gcn", "k1");
    world.journal_takes(Some(0));
    let unavailable = (Kind::Unavailable, "audit_unavailable");
    assert_eq!(no(desk.vote(&visit(OTTO), "apr_1", Verdict::Approve, cast(&ticket.digest)).await), unavailable);
    assert_eq!(no(desk.revoke(&visit(OTTO), "apr_1", Cast::default()).await), unavailable);
    assert_eq!(no(desk.resolve(&visit(TESS), &write.plan.execution_id, said(true, &[])).await), unavailable);
    assert_eq!(no(desk.show_approval(&visit(OTTO), "apr_1").await), unavailable, "nothing is shown either");
    assert_eq!(world.tickets.lock().unwrap()["apr_1"], ticket);
    assert_eq!(world.writes.lock().unwrap()[&write.plan.execution_id], write);
    // The vote counts, and only what came of it is not recorded: the answer does not pretend.
    world.journal_takes(Some(1));
    let half = desk.vote(&visit(OTTO), "apr_1", Verdict::Approve, cast(&ticket.digest)).await.unwrap_err();
    assert_eq!((half.kind, half.code), unavailable);
    assert!(half.message.contains("done"), "{half}");
    assert_eq!(world.tickets.lock().unwrap()["apr_1"].state, State::Approved);
    assert_eq!(world.stages(), ["approval.vote"]);
}

#[tokio::test]
async fn a_vote_that_does_not_count_is_recorded_with_its_reason() {
    let world = World::new();
    let desk = world.desk();
    let ticket = world.ask_for("apr_1", "ada", "org_gcn", 2);
    let ask = |token: &str, digest: &str| {
        let (desk, visit, cast) = (desk.clone(), visit(token), cast(digest));
        async move { no(desk.vote(&visit, "apr_1", Verdict::Approve, cast).await) }
    };
    let good = ticket.digest.as_str();
    desk.vote(&visit(OTTO), "apr_1", Verdict::Approve, cast(good)).await.unwrap();
    world.stages();
    for (token, digest, expected) in [
        ("ada@org_gcn/approver", good, (Kind::Forbidden, "self_approval")),
        (OTTO, good, (Kind::Conflict, "duplicate_vote")),
        (PAM, &"0".repeat(64), (Kind::Conflict, "approval_mismatch")),
        (TESS, good, (Kind::Forbidden, "not_an_approver")),
        ("svc-bot@org_gcn/approver", good, (Kind::Forbidden, "not_a_person")),
    ] {
        assert_eq!(ask(token, digest).await, expected, "{token}");
        let last = world.records.lock().unwrap().last().cloned().unwrap();
        assert_eq!(last["unmapped"]["loopgate"]["refusal"]["code"], expected.1);
        assert_eq!(world.stages(), ["approval.vote", "approval.refused"], "{token}");
    }
    assert_eq!(world.tickets.lock().unwrap()["apr_1"].agreed(), 1);
    desk.vote(&visit(PAM), "apr_1", Verdict::Reject, cast(good)).await.unwrap();
    assert_eq!(world.stages(), ["approval.vote", "approval.rejected"]);
    let late = desk.vote(&visit("pat@org_gcn/approver"), "apr_1", Verdict::Approve, cast(good)).await.unwrap_err();
    assert_eq!(late.code, "approval_closed");
    assert!(late.message.contains("as planned"), "it says why it was closed: {late}");
}

#[tokio::test]
async fn whoever_may_not_see_an_approval_gets_the_answer_of_one_that_does_not_exist() {
    let world = World::new();
    let desk = world.desk();
    let ticket = world.ask_for("apr_1", "ada", "org_gcn", 1);
    let nothing = desk.show_approval(&visit(VIC), "apr_none").await.unwrap_err();
    for token in [VIC, NORA, "ada@org_nordbank/approver"] {
        assert_eq!(desk.show_approval(&visit(token), "apr_1").await.unwrap_err(), nothing, "{token}");
        for verdict in [Verdict::Approve, Verdict::Reject] {
            let voted = desk.vote(&visit(token), "apr_1", verdict, cast(&ticket.digest)).await;
            assert_eq!(voted.unwrap_err(), nothing, "{token}");
        }
        assert_eq!(desk.revoke(&visit(token), "apr_1", Cast::default()).await.unwrap_err(), nothing, "{token}");
        let list = desk.list_approvals(&visit(token), ApprovalQuery { limit: 50, ..Default::default() }).await.unwrap();
        assert_eq!(list["items"], json!([]), "{token}");
    }
    assert_eq!(desk.show_approval(&as_cleo("org_nordbank"), "apr_1").await.unwrap_err(), nothing);
    for token in [ADA, OTTO, PAM, TESS] {
        assert_eq!(desk.show_approval(&visit(token), "apr_1").await.unwrap()["digest"], ticket.digest.as_str());
    }
    assert!(desk.show_approval(&as_cleo("org_gcn"), "apr_1").await.is_ok());
    assert_eq!(world.tickets.lock().unwrap()["apr_1"], ticket);
}

#[tokio::test]
async fn a_person_of_the_same_name_at_another_issuer_sees_nothing_of_the_requesters() {
    let world = World::new();
    let desk = world.desk();
    let mut ticket = world.ask_for("apr_1", "ada", "org_gcn", 1);
    ticket.subject.requester.issuer = "https://elsewhere".to_owned();
    world.tickets.lock().unwrap().insert("apr_1".to_owned(), ticket);
    assert_eq!(no(desk.show_approval(&visit(ADA), "apr_1").await), (Kind::Missing, "approval_unknown"));
}

#[tokio::test]
async fn the_requester_cancels_an_approver_revokes_and_a_reader_may_do_neither() {
    let world = World::new();
    let desk = world.desk();
    for (token, ground, stage) in [
        (ADA, "cancelled", "approval.cancelled"),
        (OTTO, "revoked", "approval.revoked"),
        (TESS, "revoked", "approval.revoked"),
    ] {
        let ticket = world.ask_for("apr_1", "ada", "org_gcn", 1);
        desk.vote(&visit("pat@org_gcn/approver"), "apr_1", Verdict::Approve, cast(&ticket.digest)).await.unwrap();
        world.stages();
        let taken = desk.revoke(&visit(token), "apr_1", Cast::default()).await.unwrap();
        assert_eq!((&taken["state"], &taken["ended"]["ground"]), (&"rejected".into(), &ground.into()));
        assert_eq!(world.stages(), ["approval.revoke", stage]);
    }
    let ticket = world.ask_for("apr_2", "ada", "org_gcn", 1);
    assert_eq!(
        no(desk.revoke(&as_cleo("org_gcn"), "apr_2", Cast::default()).await),
        (Kind::Forbidden, "not_an_approver")
    );
    assert_eq!(no(desk.revoke(&visit(OTTO), "apr_2", cast("0")).await), (Kind::Conflict, "approval_mismatch"));
    assert_eq!(world.tickets.lock().unwrap()["apr_2"], ticket);
}

#[tokio::test]
async fn a_vote_without_the_digest_of_what_was_seen_is_no_vote() {
    let world = World::new();
    let desk = world.desk();
    let ticket = world.ask_for("apr_1", "ada", "org_gcn", 1);
    for verdict in [Verdict::Approve, Verdict::Reject] {
        let voted = desk.vote(&visit(OTTO), "apr_1", verdict, Cast::default()).await;
        assert_eq!(no(voted), (Kind::Request, "invalid_request"));
    }
    let long = Cast { reason: "x".repeat(1_001), ..cast(&ticket.digest) };
    assert_eq!(no(desk.vote(&visit(OTTO), "apr_1", Verdict::Approve, long).await), (Kind::Request, "invalid_request"));
    assert_eq!(world.tickets.lock().unwrap()["apr_1"], ticket);
}

#[tokio::test]
async fn an_approver_is_shown_everything_that_the_digest_covers_and_what_they_may_do() {
    let world = World::new();
    let desk = world.desk();
    let ticket = world.ask_for("apr_1", "ada", "org_gcn", 1);
    let shown = desk.show_approval(&visit(OTTO), "apr_1").await.unwrap();
    let subject = serde_json::to_value(&ticket.subject).unwrap();
    for name in ["arguments", "request", "preview", "previewDigest", "recordVersion", "tool", "definition", "route"] {
        assert_eq!(shown[name], subject[name], "{name}");
    }
    assert_eq!((&shown["release"], &shown["team"]), (&"backend-v1.0-GCN".into(), &"payments".into()));
    assert_eq!(shown["policyRevision"], json!({"bundle": subject["policyBundle"], "data": subject["policyData"]}));
    assert_eq!(shown["needs"], "1 of: role approver, team payments");
    assert_eq!(shown["link"], "http://desk/approvals/apr_1");
    assert_eq!(shown["may"], json!({"vote": true, "revoke": true}));
    for (token, may) in [(ADA, (false, true)), (TESS, (false, true)), ("cleo@org_gcn/auditor", (false, false))] {
        let shown = desk.show_approval(&visit(token), "apr_1").await.unwrap();
        assert_eq!(shown["may"], json!({"vote": may.0, "revoke": may.1}), "{token}");
    }
}

#[tokio::test]
async fn a_list_tells_a_lapsed_approval_as_rejected_whatever_is_written_down() {
    let world = World::new();
    let desk = world.desk();
    world.ask_for("apr_old", "ada", "org_gcn", 1);
    world.later(3_600_001);
    world.ask_for("apr_new", "ben", "org_gcn", 1);
    let ids = |state: Option<State>, requester: Option<&str>| {
        let query = ApprovalQuery { state, requester: requester.map(str::to_owned), limit: 50, after: None };
        let desk = desk.clone();
        async move {
            let list = desk.list_approvals(&visit(OTTO), query).await.unwrap();
            let items = list["items"].as_array().unwrap().iter();
            items.map(|one| one["approvalId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(ids(None, None).await, ["apr_new", "apr_old"]);
    assert_eq!(ids(Some(State::Pending), None).await, ["apr_new"]);
    assert_eq!(ids(Some(State::Rejected), None).await, ["apr_old"]);
    assert_eq!(ids(None, Some("ada")).await, ["apr_old"]);
    let shown = desk.show_approval(&visit(OTTO), "apr_old").await.unwrap();
    assert_eq!((&shown["state"], &shown["ended"]["ground"]), (&"rejected".into(), &"expired".into()));
}

#[tokio::test]
async fn two_people_who_say_the_same_settle_an_unknown_write_and_its_requester_never() {
    let world = World::new();
    let desk = world.desk();
    let id = world.unknown_write("ada", "org_gcn", "k1").plan.execution_id;
    world.stages();
    assert_eq!(no(desk.resolve(&visit(ADA), &id, said(true, &["WI-1"])).await), (Kind::Forbidden, "role_required"));
    let own = desk.resolve(&visit("ada@org_gcn/tenant_admin"), &id, said(true, &["WI-1"])).await;
    assert_eq!(no(own), (Kind::Forbidden, "own_write"));
    assert_eq!(world.stages(), ["write.opinion", "write.refused", "write.opinion", "write.refused"]);
    let first = desk.resolve(&visit(TESS), &id, said(true, &["WI-2", "WI-1", "WI-1"])).await.unwrap();
    assert_eq!(first["state"], "unknown");
    assert_eq!(no(desk.resolve(&visit(TESS), &id, said(true, &[])).await), (Kind::Conflict, "duplicate_opinion"));
    assert_eq!(world.stages(), ["write.opinion", "write.seconding", "write.opinion", "write.refused"]);
    // The same two ids in another order are the same.
    let second = desk.resolve(&visit(TOM), &id, said(true, &["WI-1", "WI-2"])).await.unwrap();
    assert_eq!((&second["state"], &second["recordIds"]), (&"executed".into(), &json!(["WI-1", "WI-2"])));
    let last = world.records.lock().unwrap().last().cloned().unwrap();
    assert_eq!(world.stages(), ["write.opinion", "outcome"]);
    let own = &last["unmapped"]["loopgate"];
    assert_eq!((&own["execution_id"], &own["idempotency_key"]), (&id.clone().into(), &"k1".into()));
    assert_eq!(own["execution"]["outcome"], "executed");
    assert_eq!(own["data"]["resolvedBy"], json!(["tess", "tom"]));
    assert_eq!(last["resources"], json!([{"uid": "WI-1"}, {"uid": "WI-2"}]));
    assert_eq!(no(desk.resolve(&visit(TESS), &id, said(false, &[])).await), (Kind::Conflict, "write_settled"));
}

#[tokio::test]
async fn opinions_that_differ_settle_nothing() {
    let world = World::new();
    let desk = world.desk();
    let id = world.unknown_write("ada", "org_gcn", "k1").plan.execution_id;
    desk.resolve(&visit(TESS), &id, said(true, &[])).await.unwrap();
    let second = desk.resolve(&visit(TOM), &id, said(false, &[])).await.unwrap();
    assert_eq!(second["state"], "unknown");
    assert_eq!(world.stages(), ["write.opinion", "write.seconding", "write.opinion", "write.disputed"]);
    for bad in [
        Said { evidence: " ".to_owned(), ..said(true, &[]) },
        said(false, &["WI-1"]),
        said(true, &[""]),
        Said { evidence: "x".repeat(4_001), ..said(true, &[]) },
    ] {
        let (kind, _) = no(desk.resolve(&visit("tim@org_gcn/tenant_admin"), &id, bad).await);
        assert_eq!(kind, Kind::Request);
    }
}

#[tokio::test]
async fn a_write_is_found_by_its_key_and_only_by_those_who_may_see_it() {
    let world = World::new();
    let desk = world.desk();
    let adas = world.unknown_write("ada", "org_gcn", "k1").plan.execution_id;
    world.unknown_write("nora", "org_nordbank", "k1");
    let show = |token: &str, id: &str| {
        let (desk, visit, id) = (desk.clone(), visit(token), id.to_owned());
        async move { desk.show_write(&visit, &id).await }
    };
    assert_eq!(show(ADA, "k1").await.unwrap()["executionId"], adas.as_str());
    assert_eq!(show(TESS, "k1").await.unwrap()["executionId"], adas.as_str());
    let missing = show(VIC, "nothing").await.unwrap_err();
    for (token, id) in [(OTTO, "k1"), (VIC, adas.as_str()), (NORA, adas.as_str()), (VIC, "a key with spaces")] {
        assert_eq!(show(token, id).await.unwrap_err(), missing, "{token} {id}");
    }
    let bens = world.unknown_write("ben", "org_gcn", "k1").plan.execution_id;
    let ambiguous = show(TESS, "k1").await.unwrap_err();
    assert_eq!(ambiguous.code, "key_ambiguous");
    assert!(ambiguous.message.contains(&adas) && ambiguous.message.contains(&bens), "{ambiguous}");
    assert_eq!(show(ADA, "k1").await.unwrap()["executionId"], adas.as_str(), "one's own comes first");
    let query = |state| WriteQuery { state, key: None, limit: 50, after: None };
    let count = |list: Value| list["items"].as_array().unwrap().len();
    assert_eq!(count(desk.list_writes(&visit(TESS), query(None)).await.unwrap()), 2);
    assert_eq!(count(desk.list_writes(&visit(ADA), query(None)).await.unwrap()), 1);
    assert_eq!(count(desk.list_writes(&visit(TESS), query(Some(idempotency::State::Executed))).await.unwrap()), 0);
    let shown = show(ADA, "k1").await.unwrap();
    assert_eq!(shown["request"]["body"], json!({"title": "a"}));
    assert!(shown.get("input").is_none() && shown["answer"].is_null(), "{shown}");
}

#[tokio::test]
async fn a_ledger_that_is_down_is_said_so_without_its_insides() {
    let world = World::new();
    let desk = world.desk();
    world.ask_for("apr_1", "ada", "org_gcn", 1);
    world.ledger_is_down(true);
    let down = desk.show_approval(&visit(OTTO), "apr_1").await.unwrap_err();
    assert_eq!((down.kind, down.code), (Kind::Unavailable, "ledger_unavailable"));
    assert!(!format!("{down:?}").contains("/var/lib"), "{down:?}");
    assert_eq!(world.stages(), ["denied"]);
}

#[tokio::test]
async fn strangers_and_wrong_organisations_get_no_further_than_the_desk() {
    let world = World::new();
    let desk = world.desk();
    let list = |visit: Visit| {
        let desk = desk.clone();
        async move { no(desk.list_approvals(&visit, ApprovalQuery::default()).await) }
    };
    assert_eq!(list(Visit::default()).await, (Kind::Stranger, "unauthenticated"));
    assert_eq!(list(visit("forged")).await, (Kind::Stranger, "unauthenticated"));
    let two = Visit { authorization: vec![format!("Bearer {ADA}"), format!("Bearer {OTTO}")], ..Visit::default() };
    assert_eq!(list(two).await, (Kind::Stranger, "unauthenticated"));
    assert_eq!(list(visit("later")).await, (Kind::Unavailable, "keys_unavailable"));
    assert_eq!(list(visit(CLEO)).await, (Kind::Request, "tenant_required"));
    let in_two = Visit { tenant: vec!["org_gcn".to_owned(), "org_gcn".to_owned()], ..visit(ADA) };
    assert_eq!(list(in_two).await, (Kind::Forbidden, "tenant_forbidden"));
    let other = Visit { tenant: vec!["org_nordbank".to_owned()], ..visit(ADA) };
    assert_eq!(list(other).await, (Kind::Forbidden, "tenant_forbidden"));
    let recorded = world.records.lock().unwrap().clone();
    assert_eq!(recorded.len(), 7);
    assert!(!format!("{recorded:?}").contains(OTTO), "no credential is written down: {recorded:?}");
}

#[tokio::test]
async fn the_journal_is_read_by_those_who_may_and_only_of_their_organisation() {
    let world = World::new();
    let desk = world.desk();
    world.ask_for("apr_1", "ada", "org_gcn", 1);
    desk.show_approval(&visit(OTTO), "apr_1").await.unwrap();
    let list = |visit: Visit| {
        let desk = desk.clone();
        async move { desk.list_records(&visit, RecordQuery { limit: 50, ..Default::default() }).await }
    };
    for token in [VIC, ADA, OTTO] {
        assert_eq!(no(list(visit(token)).await), (Kind::Forbidden, "role_required"), "{token}");
        assert_eq!(no(desk.show_records(&visit(token), "apr_1").await), (Kind::Forbidden, "role_required"));
    }
    let all = list(as_cleo("org_gcn")).await.unwrap();
    assert!(all["items"].as_array().unwrap().iter().any(|one| one["unmapped"]["loopgate"]["approval_id"] == "apr_1"));
    assert_eq!(list(as_cleo("org_nordbank")).await.unwrap()["items"], json!([]));
    assert!(desk.show_records(&as_cleo("org_gcn"), "apr_1").await.is_ok());
    let missing = (Kind::Missing, "record_unknown");
    assert_eq!(no(desk.show_records(&as_cleo("org_nordbank"), "apr_1").await), missing);
}

#[tokio::test]
async fn a_vote_is_counted_and_recorded_though_its_voter_hangs_up() {
    let world = World::new();
    let desk = world.desk();
    let ticket = world.ask_for("apr_1", "ada", "org_gcn", 1);
    let voter = visit(OTTO);
    {
        let mut voting = Box::pin(desk.vote(&voter, "apr_1", Verdict::Approve, cast(&ticket.digest)));
        // One look at it begins the work; then nobody waits any more.
        std::future::poll_fn(|context| {
            let _begun = voting.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    }
    desk.carried.drain().await;
    assert_eq!(world.tickets.lock().unwrap()["apr_1"].state, State::Approved);
    assert_eq!(world.stages(), ["approval.vote", "approval.approved"]);
}

#[tokio::test]
async fn only_people_whom_the_settings_name_see_or_change_policy() {
    let world = World::new();
    world.with_policies();
    let desk = world.desk();
    let order = || Order { revision: bundle("c").revision(), digest: Some("d".to_owned()), ..Order::default() };
    let before = world.policy.lock().unwrap().clone();
    for (who, code) in [
        (TESS, "role_required"),                            // another role
        ("pat@org_nordbank/policy_admin", "role_required"), // another organisation
        ("svc-ci@org_gcn/policy_admin", "not_a_person"),
        ("pia@org_gcn,org_nordbank/policy_admin", "tenant_required"),
    ] {
        for outcome in [
            desk.show_policy(&visit(who)).await,
            desk.activate_policy(&visit(who), order()).await,
            desk.roll_back_policy(&visit(who), Back::default()).await,
        ] {
            assert_eq!(no(outcome).1, code, "{who}");
        }
        assert_eq!(world.stages(), ["denied"; 3], "{who}");
    }
    let elsewhere = Visit { tenant: vec!["org_nordbank".to_owned()], ..visit("pia@org_gcn,org_nordbank/policy_admin") };
    assert_eq!(no(desk.show_policy(&elsewhere).await).1, "role_required");
    assert_eq!(*world.policy.lock().unwrap(), before);
    let shown = desk.show_policy(&visit(PIA)).await.unwrap();
    assert_eq!((&shown["activation"], shown["history"].as_array().unwrap().len()), (&"gated".into(), 1));
}

#[tokio::test]
async fn a_change_of_policy_is_one_record_and_so_is_its_refusal() {
    let world = World::new();
    world.with_policies();
    let desk = world.desk();
    let order = Order { revision: bundle("c").revision(), reason: "why".to_owned(), ..Order::default() };
    let outcome = desk.activate_policy(&visit(PIA), order.clone()).await;
    assert_eq!(no(outcome), (Kind::Conflict, "gate_report_missing"));
    let records = world.records.lock().unwrap().clone();
    let own = &records.last().unwrap()["unmapped"]["loopgate"];
    assert_eq!((&own["stage"], &own["refusal"]["code"]), (&"policy.refused".into(), &"gate_report_missing".into()));
    assert_eq!((&own["data"]["revision"], &own["data"]["reason"]), (&order.revision.as_str().into(), &"why".into()));
    assert_eq!(world.stages().len(), 1);
    let approved = Order { digest: Some("d".to_owned()), ..order };
    let shown = desk.activate_policy(&visit(PIA), approved.clone()).await.unwrap();
    assert_eq!((&shown["live"]["revision"], &shown["live"]["by"]), (&approved.revision.as_str().into(), &"pia".into()));
    assert_eq!(world.stages(), ["policy.activated"]);
    assert_eq!(no(desk.activate_policy(&visit(PIA), approved.clone()).await).1, "policy_already_live");
    world.stages();
    desk.roll_back_policy(&visit(PIA), Back::default()).await.unwrap();
    assert_eq!(world.stages(), ["policy.rolled_back"]);
    let nowhere = Back { to: Some("nowhere".to_owned()), ..Back::default() };
    assert_eq!(no(desk.roll_back_policy(&visit(PIA), nowhere).await), (Kind::Missing, "policy_revision_unknown"));
    world.stages();
    // What cannot be recorded changes nothing.
    let before = world.policy.lock().unwrap().clone();
    world.journal_takes(Some(0));
    assert_eq!(no(desk.activate_policy(&visit(PIA), approved).await), (Kind::Unavailable, "audit_unavailable"));
    assert_eq!(no(desk.show_policy(&visit(PIA)).await), (Kind::Unavailable, "audit_unavailable"));
    assert_eq!(*world.policy.lock().unwrap(), before);
}
