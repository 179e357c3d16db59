//! What the ledger promises of a write.

use std::sync::Arc;

use loopgate::adapters::ledger::Ledger;
use loopgate::domain::approval;
use loopgate::domain::approval::Unusable;
use loopgate::domain::idempotency::Claimed;
use loopgate::domain::idempotency::Found;
use loopgate::domain::idempotency::KnownBy;
use loopgate::domain::idempotency::ResolveFault;
use loopgate::domain::idempotency::Settlement;
use loopgate::domain::idempotency::State;
use loopgate::pep::ports::Approvals as _;
use loopgate::pep::ports::Claim;
use loopgate::pep::ports::Ledger as _;
use loopgate::pep::ports::WriteFilter;

use crate::harness::LONG;
use crate::harness::OVER;
use crate::harness::Store;
use crate::harness::agreed;
use crate::harness::approved;
use crate::harness::claim;
use crate::harness::executed;
use crate::harness::found;
use crate::harness::kept;
use crate::harness::mine;
use crate::harness::opinion;
use crate::harness::person;
use crate::harness::plan;
use crate::harness::promises;
use crate::harness::race;
use crate::harness::ticket;
use crate::harness::ticket_with;
use crate::harness::under;

promises! {
    a_write_is_claimed_once_and_its_first_answer_is_given_again_byte_for_byte
    another_payload_under_a_key_is_a_mismatch_in_every_state
    what_is_stored_is_read_as_it_was
    a_claim_given_back_may_be_taken_again_by_another_try
    one_of_thirty_two_racing_claims_has_the_write
    whoever_was_left_behind_changes_nothing
    a_settlement_told_twice_is_one_settlement
    a_write_of_unknown_outcome_is_never_claimed_again
    eight_that_take_over_share_the_stuck_writes_between_them
    an_approval_is_used_by_one_of_thirty_two_racing_executions
    a_release_gives_the_approval_back_with_the_claim
    an_approval_ends_with_the_write_that_used_it
    an_approval_is_good_for_exactly_what_it_covers
    an_approval_that_loopiq_issued_is_used_once
    an_approval_that_cannot_be_used_leaves_no_trace_of_a_claim
    two_people_settle_an_unknown_write_and_its_approval
    pruning_drops_bodies_and_remembers_the_writes
    a_list_is_newest_first_and_of_one_organisation
    a_secret_is_one_for_all_replicas
    a_ledger_keeps_its_name_and_everything_in_it
}

async fn a_write_is_claimed_once_and_its_first_answer_is_given_again_byte_for_byte(store: &Store) {
    let ledger = store.open();
    let plan = plan("k");
    assert_eq!(ledger.find("exec-k").await.unwrap(), None);
    let claimed = mine(&ledger, &plan, LONG).await;
    assert_eq!((claimed.state, claimed.fence, claimed.attempts, &*claimed.owner), (State::Sent, 1, 1, "a"));
    assert_eq!(found(&ledger, &plan).await, Found::InFlight);
    let body = [0xFF, 0x00, b'{', 0xC3];
    assert!(ledger.settle("exec-k", 1, &executed(&body)).await.unwrap());
    for _ in 0..2 {
        let Found::Ended(ended) = found(&ledger, &plan).await else { panic!("it has ended") };
        assert_eq!((ended.state, ended.kept.unwrap()), (State::Executed, kept(&body)));
        assert_eq!(ended.record_ids, ["wi_1", "wi_2"]);
    }
}

async fn another_payload_under_a_key_is_a_mismatch_in_every_state(store: &Store) {
    let ledger = store.open();
    let first = plan("k");
    let mut other = first.clone();
    other.fingerprint = "another".into();
    mine(&ledger, &first, LONG).await;
    assert_eq!(found(&ledger, &other).await, Found::Mismatch);
    assert!(ledger.release("exec-k", 1).await.unwrap());
    assert_eq!(found(&ledger, &other).await, Found::Mismatch);
    mine(&ledger, &first, OVER).await;
    assert_eq!(found(&ledger, &other).await, Found::Mismatch);
    assert!(ledger.settle("exec-k", 2, &executed(b"x")).await.unwrap());
    assert_eq!(found(&ledger, &other).await, Found::Mismatch);
}

async fn what_is_stored_is_read_as_it_was(store: &Store) {
    let ledger = store.open();
    let plan = plan("k");
    let claimed = mine(&ledger, &plan, LONG).await;
    assert_eq!(ledger.find("exec-k").await.unwrap().unwrap(), claimed);
    assert_eq!(claimed.plan, plan);
    let asked = ticket("apr_1");
    assert_eq!(ledger.ask(&asked).await.unwrap(), asked);
    let read = ledger.ticket("apr_1").await.unwrap().unwrap();
    assert_eq!((read.subject.digest().unwrap(), &read), (asked.digest.clone(), &asked));
}

async fn a_claim_given_back_may_be_taken_again_by_another_try(store: &Store) {
    let ledger = store.open();
    let first = plan("k");
    mine(&ledger, &first, LONG).await;
    assert!(!ledger.release("exec-k", 2).await.unwrap());
    assert!(ledger.release("exec-k", 1).await.unwrap());
    assert!(!ledger.release("exec-k", 1).await.unwrap());
    assert_eq!(ledger.find("exec-k").await.unwrap().unwrap().state, State::Reserved);
    let mut second = first.clone();
    second.request_id = "req-2".into();
    let claimed = mine(&ledger, &second, LONG).await;
    assert_eq!((claimed.fence, claimed.attempts), (2, 2));
    let stored = ledger.find("exec-k").await.unwrap().unwrap();
    assert_eq!(stored.plan.request_id, "req-2");
}

async fn one_of_thirty_two_racing_claims_has_the_write(store: &Store) {
    let ledger = store.open();
    let claims = race(32, |_| {
        let ledger = Arc::clone(&ledger);
        async move { claim(&ledger, &plan("k"), LONG).await }
    })
    .await;
    let mine = claims.iter().filter(|claim| matches!(claim, Claim::Write(Claimed::Mine(_)))).count();
    let waiting = claims.iter().filter(|claim| **claim == Claim::Write(Claimed::Theirs(Found::InFlight))).count();
    assert_eq!((mine, waiting), (1, 31), "{claims:?}");
}

async fn whoever_was_left_behind_changes_nothing(store: &Store) {
    let ledger = store.open();
    mine(&ledger, &plan("k"), OVER).await;
    let taken = ledger.take_over(LONG, 10).await.unwrap();
    assert_eq!((taken.len(), taken[0].fence, taken[0].state), (1, 2, State::Unknown));
    assert!(!ledger.settle("exec-k", 1, &executed(b"zombie")).await.unwrap());
    assert!(!ledger.release("exec-k", 1).await.unwrap());
    assert_eq!(ledger.find("exec-k").await.unwrap().unwrap(), taken[0]);
    assert!(ledger.settle("exec-k", 2, &executed(b"found")).await.unwrap());
    assert!(!ledger.settle("exec-k", 1, &executed(b"zombie")).await.unwrap());
    let ended = ledger.find("exec-k").await.unwrap().unwrap();
    assert_eq!(ended.kept.unwrap(), kept(b"found"));
    assert!(!ledger.settle("exec-none", 1, &executed(b"x")).await.unwrap());
}

async fn a_settlement_told_twice_is_one_settlement(store: &Store) {
    let ledger = store.open();
    mine(&ledger, &plan("k"), LONG).await;
    assert!(ledger.settle("exec-k", 1, &executed(b"one")).await.unwrap());
    let first = ledger.find("exec-k").await.unwrap();
    assert!(ledger.settle("exec-k", 1, &executed(b"one")).await.unwrap(), "its first answer may have been lost");
    assert!(!ledger.settle("exec-k", 1, &executed(b"two")).await.unwrap());
    assert!(!ledger.settle("exec-k", 1, &Settlement::Failed { kept: kept(b"one") }).await.unwrap());
    assert_eq!(ledger.find("exec-k").await.unwrap(), first);
}

async fn a_write_of_unknown_outcome_is_never_claimed_again(store: &Store) {
    let ledger = store.open();
    mine(&ledger, &plan("lapsed"), OVER).await;
    assert_eq!(found(&ledger, &plan("lapsed")).await, Found::Unknown);
    mine(&ledger, &plan("told"), LONG).await;
    let unknown = Settlement::Unknown { note: "timeout\u{0}".to_owned(), retry_in_ms: OVER };
    assert!(ledger.settle("exec-told", 1, &unknown).await.unwrap());
    assert_eq!(found(&ledger, &plan("told")).await, Found::Unknown);
    let later = Settlement::Unknown { note: "not yet".to_owned(), retry_in_ms: LONG };
    let taken = ledger.take_over(LONG, 10).await.unwrap();
    assert_eq!(taken.len(), 2);
    for one in &taken {
        assert!(ledger.settle(&one.plan.execution_id, one.fence, &later).await.unwrap());
    }
    assert_eq!(ledger.take_over(LONG, 10).await.unwrap(), []);
    assert_eq!(found(&ledger, &plan("told")).await, Found::Unknown);
}

async fn eight_that_take_over_share_the_stuck_writes_between_them(store: &Store) {
    let ledger = store.open();
    for at in 0..40 {
        mine(&ledger, &plan(&format!("k{at}")), OVER).await;
    }
    mine(&ledger, &plan("held"), LONG).await;
    let taken = race(8, |_| {
        let ledger = Arc::clone(&ledger);
        async move { ledger.take_over(LONG, 7).await.unwrap() }
    })
    .await;
    let mut all: Vec<String> = taken.iter().flatten().map(|one| one.plan.execution_id.clone()).collect();
    assert!(taken.iter().all(|some| some.len() <= 7));
    all.extend(ledger.take_over(LONG, 100).await.unwrap().into_iter().map(|one| one.plan.execution_id));
    all.sort();
    let mut expected: Vec<String> = (0..40).map(|at| format!("exec-k{at}")).collect();
    expected.sort();
    assert_eq!(all, expected, "each once");
}

async fn an_approval_is_used_by_one_of_thirty_two_racing_executions(store: &Store) {
    let ledger = store.open();
    approved(&ledger, "apr_1").await;
    let claims = race(32, |at| {
        let ledger = Arc::clone(&ledger);
        async move { claim(&ledger, &under(&format!("k{at}"), "apr_1"), LONG).await }
    })
    .await;
    let mine = claims.iter().filter(|claim| matches!(claim, Claim::Write(Claimed::Mine(_)))).count();
    let spent = claims.iter().filter(|claim| **claim == Claim::Approval(Unusable::Spent)).count();
    assert_eq!((mine, spent), (1, 31), "{claims:?}");
    let filter = WriteFilter { limit: 100, ..WriteFilter::default() };
    assert_eq!(ledger.writes(&filter).await.unwrap().len(), 1);
}

async fn a_release_gives_the_approval_back_with_the_claim(store: &Store) {
    let ledger = store.open();
    approved(&ledger, "apr_1").await;
    mine(&ledger, &under("k", "apr_1"), LONG).await;
    assert_eq!(ledger.ticket("apr_1").await.unwrap().unwrap().consumed_by.as_deref(), Some("exec-k"));
    assert!(ledger.release("exec-k", 1).await.unwrap());
    assert_eq!(ledger.ticket("apr_1").await.unwrap().unwrap().consumed_by, None);
    mine(&ledger, &under("other", "apr_1"), LONG).await;
    assert_eq!(claim(&ledger, &under("k", "apr_1"), LONG).await, Claim::Approval(Unusable::Spent));
    assert_eq!(ledger.find("exec-k").await.unwrap().unwrap().state, State::Reserved);
}

async fn an_approval_ends_with_the_write_that_used_it(store: &Store) {
    let ledger = store.open();
    for (id, settlement, state) in [
        ("apr_1", executed(b"x"), approval::State::Executed),
        ("apr_2", Settlement::Failed { kept: kept(b"x") }, approval::State::Failed),
        ("apr_3", Settlement::Unknown { note: String::new(), retry_in_ms: LONG }, approval::State::Approved),
    ] {
        // Each asks for something of its own.
        let asked = ticket_with(id, |ticket| ticket.subject.preview = serde_json::json!(id));
        agreed(&ledger, asked).await;
        mine(&ledger, &under(id, id), LONG).await;
        assert!(ledger.settle(&format!("exec-{id}"), 1, &settlement).await.unwrap());
        assert_eq!(ledger.ticket(id).await.unwrap().unwrap().state, state);
        assert_eq!(claim(&ledger, &under("again", id), LONG).await, Claim::Approval(Unusable::Spent));
    }
}

async fn an_approval_is_good_for_exactly_what_it_covers(store: &Store) {
    let ledger = store.open();
    approved(&ledger, "apr_1").await;
    let good = under("k", "apr_1");
    let mut others = vec![(Unusable::Unknown, good.clone()); 4];
    others[0].1.tenant = "org_nordbank".into();
    others[1].1.user = "ben".into();
    others[2].1.issuer = "https://other".into();
    others[3].1.approval_id = Some("apr_none".to_owned());
    let mut mismatches = vec![(Unusable::Mismatch, good.clone()); 4];
    mismatches[0].1.tool = "loopiq_delete".into();
    mismatches[1].1.definition = "d2".into();
    mismatches[2].1.arguments.insert("n".to_owned(), serde_json::json!(9_007_199_254_740_990_u64));
    mismatches[3].1.arguments.remove("nested");
    others.extend(mismatches);
    for (expected, other) in others {
        assert_eq!(claim(&ledger, &other, LONG).await, Claim::Approval(expected), "{other:?}");
    }
    mine(&ledger, &good, LONG).await;
}

async fn an_approval_that_loopiq_issued_is_used_once(store: &Store) {
    let ledger = store.open();
    let issued = ticket_with("jti_1", |ticket| {
        ticket.state = approval::State::Approved;
        ticket.execute_by_ms = Some(i64::MAX);
    });
    let claims = race(32, |at| {
        let (ledger, issued) = (Arc::clone(&ledger), issued.clone());
        async move { ledger.claim(&under(&format!("k{at}"), "jti_1"), Some(&issued), LONG).await.unwrap() }
    })
    .await;
    let mine = claims.iter().filter(|claim| matches!(claim, Claim::Write(Claimed::Mine(_)))).count();
    let spent = claims.iter().filter(|claim| **claim == Claim::Approval(Unusable::Spent)).count();
    assert_eq!((mine, spent), (1, 31), "{claims:?}");
    let stored = ledger.ticket("jti_1").await.unwrap().unwrap();
    assert!(stored.consumed_by.is_some());
    // One that is not the plan's is for nothing.
    let other = ledger.claim(&under("x", "jti_2"), Some(&issued), LONG).await.unwrap();
    assert_eq!(other, Claim::Approval(Unusable::Mismatch));
    let none = ledger.claim(&plan("x"), Some(&issued), LONG).await.unwrap();
    assert_eq!(none, Claim::Approval(Unusable::Mismatch));
}

async fn an_approval_that_cannot_be_used_leaves_no_trace_of_a_claim(store: &Store) {
    let ledger = store.open();
    let pending = ledger.ask(&ticket("apr_1")).await.unwrap();
    assert_eq!(claim(&ledger, &under("k", "apr_1"), LONG).await, Claim::Approval(Unusable::Pending));
    assert_eq!(ledger.find("exec-k").await.unwrap(), None);
    assert_eq!(ledger.ticket("apr_1").await.unwrap(), Some(pending));
    ledger.take_back("apr_1", &person("ada"), approval::Ground::Cancelled, "never mind").await.unwrap().unwrap();
    assert_eq!(claim(&ledger, &under("k", "apr_1"), LONG).await, Claim::Approval(Unusable::Rejected));
    let lapsed = ticket_with("jti_1", |ticket| {
        ticket.state = approval::State::Approved;
        ticket.execute_by_ms = Some(1);
    });
    let outcome = ledger.claim(&under("k", "jti_1"), Some(&lapsed), LONG).await.unwrap();
    assert_eq!(outcome, Claim::Approval(Unusable::Expired));
    assert_eq!(ledger.ticket("jti_1").await.unwrap(), None);
    assert_eq!(ledger.find("exec-k").await.unwrap(), None);
}

async fn two_people_settle_an_unknown_write_and_its_approval(store: &Store) {
    let ledger = store.open();
    approved(&ledger, "apr_1").await;
    mine(&ledger, &under("k", "apr_1"), OVER).await;
    let say = async |user: &str, happened| ledger.resolve("exec-k", &opinion(user, happened)).await.unwrap();
    assert_eq!(say("eve", true).await, Err(ResolveFault::Known), "somebody may be at it");
    assert_eq!(ledger.take_over(LONG, 10).await.unwrap().len(), 1);
    assert_eq!(ledger.resolve("exec-none", &opinion("eve", true)).await.unwrap(), Err(ResolveFault::Missing));
    assert_eq!(say("ada", true).await, Err(ResolveFault::Own));
    let once = say("eve", true).await.unwrap();
    assert_eq!((once.state, once.opinions.len()), (State::Unknown, 1));
    assert!(once.opinions[0].at_ms > 0, "by the ledger's clock");
    assert_eq!(say("eve", true).await, Err(ResolveFault::Twice));
    let twice = say("fay", true).await.unwrap();
    assert_eq!((twice.state, &*twice.record_ids[0]), (State::Executed, "wi_1"));
    assert_eq!(twice.kept.as_ref().unwrap().by, KnownBy::People);
    assert_eq!(ledger.find("exec-k").await.unwrap().unwrap(), twice);
    assert_eq!(ledger.ticket("apr_1").await.unwrap().unwrap().state, approval::State::Executed);
    assert!(!ledger.settle("exec-k", 2, &Settlement::Failed { kept: kept(b"late") }).await.unwrap());
    let body = twice.kept.unwrap().body;
    let Found::Ended(ended) = found(&ledger, &under("k", "apr_1")).await else { panic!("it has ended") };
    assert_eq!(ended.kept.unwrap().body, body);
}

async fn pruning_drops_bodies_and_remembers_the_writes(store: &Store) {
    let ledger = store.open();
    for at in 0..450 {
        mine(&ledger, &plan(&format!("k{at}")), LONG).await;
        ledger.settle(&format!("exec-k{at}"), 1, &executed(b"body")).await.unwrap();
    }
    mine(&ledger, &plan("open"), LONG).await;
    assert_eq!(ledger.prune(1).await.unwrap(), 0);
    assert_eq!(ledger.prune(i64::MAX).await.unwrap(), 450);
    assert_eq!(ledger.prune(i64::MAX).await.unwrap(), 0);
    let Found::Ended(ended) = found(&ledger, &plan("k0")).await else { panic!("it has ended") };
    let answer = ended.kept.unwrap();
    assert_eq!((answer.status, answer.body, &*ended.record_ids[0]), (201, None, "wi_1"));
    assert_eq!(found(&ledger, &plan("open")).await, Found::InFlight);
}

async fn a_list_is_newest_first_and_of_one_organisation(store: &Store) {
    let ledger = store.open();
    let mut created = Vec::new();
    for at in 0..6 {
        let mut one = plan(&format!("k{at}"));
        if at % 2 == 1 {
            one.tenant = "org_nordbank".into();
        }
        created.push(mine(&ledger, &one, LONG).await.created_ms);
    }
    ledger.settle("exec-k0", 1, &executed(b"body")).await.unwrap();
    let list = async |filter: WriteFilter| ledger.writes(&filter).await.unwrap();
    let keys = |found: &[loopgate::domain::idempotency::Execution]| {
        found.iter().map(|one| one.plan.key.clone()).collect::<Vec<_>>()
    };
    let all = WriteFilter { limit: 10, ..WriteFilter::default() };
    let found = list(all.clone()).await;
    assert!(found.iter().all(|one| one.kept.as_ref().is_none_or(|kept| kept.body.is_none())), "without bodies");
    assert!(found.is_sorted_by_key(|one| -one.created_ms) && found.len() == 6);
    let gcn = list(WriteFilter { tenant: Some("org_gcn".to_owned()), ..all.clone() }).await;
    assert_eq!(gcn.len(), 3);
    assert!(gcn.iter().all(|one| one.plan.tenant == "org_gcn"));
    assert_eq!(keys(&list(WriteFilter { state: Some(State::Executed), ..all.clone() }).await), ["k0"]);
    assert_eq!(keys(&list(WriteFilter { key: Some("k3".to_owned()), ..all.clone() }).await), ["k3"]);
    assert_eq!(keys(&list(WriteFilter { key: Some("' OR 1=1 --".to_owned()), ..all.clone() }).await), [""; 0]);
    assert_eq!(list(WriteFilter { before_ms: Some(created[0]), ..all.clone() }).await, []);
    assert_eq!(list(WriteFilter { limit: 2, ..all }).await.len(), 2);
}

async fn a_secret_is_one_for_all_replicas(store: &Store) {
    let ledger = store.open();
    let secrets = race(16, |at| {
        let ledger = Arc::clone(&ledger);
        async move { ledger.secret("seal", [u8::try_from(at).unwrap(); 32]).await.unwrap() }
    })
    .await;
    assert!(secrets.iter().all(|secret| *secret == secrets[0]), "{secrets:?}");
    assert_eq!(ledger.secret("other", [0xEE; 32]).await.unwrap(), [0xEE; 32]);
    assert_eq!(ledger.secret("seal", [0xEE; 32]).await.unwrap(), secrets[0]);
}

async fn a_ledger_keeps_its_name_and_everything_in_it(store: &Store) {
    let name = |ledger: &Ledger| loopgate::pep::ports::Ledger::name(ledger).to_owned();
    let ledger = store.try_open("first").unwrap();
    ledger.probe().await.unwrap();
    assert_eq!(name(&ledger), "ledger_of_first");
    mine(&ledger, &plan("done"), LONG).await;
    ledger.settle("exec-done", 1, &executed(b"body")).await.unwrap();
    let asked = approved(&ledger, "apr_1").await;
    let done = ledger.find("exec-done").await.unwrap();
    drop(ledger);
    let ledger = store.try_open("second").unwrap();
    ledger.probe().await.unwrap();
    assert_eq!(name(&ledger), "ledger_of_first");
    assert_eq!(ledger.find("exec-done").await.unwrap(), done);
    assert_eq!(ledger.ticket("apr_1").await.unwrap().unwrap(), asked);
}
