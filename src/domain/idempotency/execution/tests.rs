//! Promises of the state machine of one write, step by step and in any order.

mod model;
mod people;

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

const NOW_MS: i64 = 1_790_000_000_000;
const LEASE_MS: i64 = 60_000;

fn plan(fingerprint: &str) -> Plan {
    let input = json!({
        "schema": 1,
        "phase": "call",
        "caller": {"user": "ada", "issuer": "i", "tenant": "org_gcn", "roles": [], "teams": {}, "permissions": [],
                   "scopes": [], "client": "", "method": "oauth"},
        "context": {"workflow": "", "chain": [], "now_ms": NOW_MS, "now": "2026-09-21T14:13:20Z"},
    });
    Plan {
        execution_id: "x-1".to_owned(),
        tenant: "org_gcn".to_owned(),
        issuer: "i".to_owned(),
        user: "ada".to_owned(),
        client: String::new(),
        workflow: String::new(),
        key: "key".to_owned(),
        supplier: Supplier::Client,
        fingerprint: fingerprint.to_owned(),
        tool: "loopiq_create_work_item".to_owned(),
        definition: "d".to_owned(),
        arguments: Map::new(),
        approval_id: None,
        request: Sending {
            backend: "loopiq".to_owned(),
            method: "POST".to_owned(),
            path_and_query: "/api/v1/work-items".to_owned(),
            body: Some("{}".to_owned()),
            if_match: None,
            timeout_ms: 10_000,
        },
        input: serde_json::from_value(input).unwrap(),
        request_id: format!("req of {fingerprint}"),
        trace_id: "t".to_owned(),
        decision_id: "d".to_owned(),
    }
}

fn lease(owner: &str, now_ms: i64) -> Lease {
    Lease { owner: owner.to_owned(), now_ms, for_ms: LEASE_MS }
}

fn kept(body: &str) -> Kept {
    Kept {
        status: 201,
        content_type: Some("application/json".to_owned()),
        body: Some(body.as_bytes().to_vec()),
        by: KnownBy::Answer,
    }
}

fn happened(body: &str) -> Settlement {
    Settlement::Executed { kept: kept(body), record_ids: vec!["WI-1".to_owned()] }
}

fn failed() -> Settlement {
    Settlement::Failed { kept: Kept { status: 422, ..kept("no") } }
}

fn lost() -> Settlement {
    Settlement::Unknown { note: "no answer".to_owned(), retry_in_ms: 5_000 }
}

/// A first claim.
fn sent() -> Execution {
    match Execution::claim(None, &plan("f"), &lease("one", NOW_MS)) {
        Claimed::Mine(execution) => *execution,
        Claimed::Theirs(found) => panic!("{found:?}"),
    }
}

/// A claim on what is there, and what it found if it was not given.
fn claim(existing: &Execution, fingerprint: &str, now_ms: i64) -> Result<Execution, Found> {
    match Execution::claim(Some(existing.clone()), &plan(fingerprint), &lease("two", now_ms)) {
        Claimed::Mine(execution) => Ok(*execution),
        Claimed::Theirs(found) => Err(found),
    }
}

#[test]
fn a_first_claim_is_written_as_sent_before_anything_leaves() {
    let first = sent();
    assert_eq!((first.state, first.fence, first.attempts), (State::Sent, 1, 1));
    assert_eq!((first.owner.as_str(), first.lease_until_ms), ("one", NOW_MS + LEASE_MS));
    assert_eq!((first.created_ms, first.sent_ms, first.kept), (NOW_MS, Some(NOW_MS), None));
}

#[test]
fn what_may_have_been_sent_is_never_given_out_again() {
    let first = sent();
    for later in [0, LEASE_MS] {
        assert_eq!(claim(&first, "f", NOW_MS + later), Err(Found::InFlight), "{later}");
    }
    for later in [LEASE_MS + 1, 86_400_000_000] {
        assert_eq!(claim(&first, "f", NOW_MS + later), Err(Found::Unknown), "a timer that ran out gives nothing out");
    }
    let unknown = first.settled(1, &lost(), NOW_MS).unwrap();
    for later in [0, LEASE_MS, 86_400_000_000] {
        assert_eq!(claim(&unknown, "f", NOW_MS + later), Err(Found::Unknown));
    }
}

#[test]
fn what_provably_was_not_sent_is_given_out_with_the_next_fence() {
    let back = sent().released(1, NOW_MS + 10).unwrap();
    assert_eq!((back.state, back.sent_ms), (State::Reserved, None));
    let again = claim(&back, "f", NOW_MS + 10).unwrap();
    assert_eq!((again.state, again.fence, again.attempts), (State::Sent, 2, 2));
    assert_eq!((again.created_ms, again.sent_ms), (NOW_MS, Some(NOW_MS + 10)), "it is still the same write");
    assert_eq!((again.owner.as_str(), again.lease_until_ms), ("two", NOW_MS + 10 + LEASE_MS));
}

#[test]
fn another_write_under_the_key_is_refused_whatever_became_of_the_first() {
    let first = sent();
    let states = [
        first.clone(),
        first.clone().released(1, NOW_MS).unwrap(),
        first.clone().settled(1, &lost(), NOW_MS).unwrap(),
        first.clone().settled(1, &happened("{}"), NOW_MS).unwrap(),
        first.settled(1, &failed(), NOW_MS).unwrap(),
    ];
    assert_eq!(states.iter().map(|one| one.state).collect::<std::collections::HashSet<_>>().len(), 5, "every state");
    for existing in states {
        assert_eq!(claim(&existing, "g", NOW_MS + 1_000_000), Err(Found::Mismatch), "{:?}", existing.state);
    }
}

#[test]
fn what_ended_is_given_again_as_it_was() {
    let settled = sent().settled(1, &happened("{\"id\":\"WI-1\"}"), NOW_MS + 5).unwrap();
    assert_eq!((settled.state, settled.changed_ms), (State::Executed, NOW_MS + 5));
    assert_eq!(settled.record_ids, ["WI-1"]);
    let found = claim(&settled, "f", NOW_MS + 1_000_000).unwrap_err();
    assert_eq!(found, Found::Ended(Box::new(settled.clone())));
    assert_eq!(settled.kept.unwrap().body.unwrap(), b"{\"id\":\"WI-1\"}");
    let settled = sent().settled(1, &failed(), NOW_MS).unwrap();
    assert_eq!((settled.state, settled.record_ids.len()), (State::Failed, 0));
    assert_eq!(claim(&settled, "f", NOW_MS), Err(Found::Ended(Box::new(settled))));
}

#[test]
fn whoever_was_left_behind_changes_nothing() {
    let taken = sent().taken_over(&lease("two", NOW_MS + LEASE_MS + 1)).unwrap();
    for settlement in [happened("late"), failed(), lost()] {
        assert_eq!(taken.clone().settled(1, &settlement, NOW_MS + LEASE_MS + 2), None, "{settlement:?}");
    }
    assert_eq!(taken.clone().released(1, NOW_MS), None);
    let again = claim(&sent().released(1, NOW_MS).unwrap(), "f", NOW_MS).unwrap();
    assert_eq!(again.clone().settled(1, &happened("late"), NOW_MS), None);
    assert_eq!(again.clone().released(1, NOW_MS), None);
    for stranger in [0, 3, -1, i64::MAX] {
        assert_eq!(again.clone().settled(stranger, &failed(), NOW_MS), None);
    }
}

#[test]
fn what_is_unknown_is_not_released_even_by_who_has_it() {
    // The try that sent nothing is not the first one; the first may have arrived.
    let taken = sent().taken_over(&lease("two", NOW_MS + LEASE_MS + 1)).unwrap();
    assert_eq!(taken.released(2, NOW_MS), None);
    assert_eq!(sent().settled(1, &lost(), NOW_MS).unwrap().released(1, NOW_MS), None);
}

#[test]
fn a_write_is_taken_over_only_when_its_owner_has_not_been_heard_of() {
    let first = sent();
    for later in [0, LEASE_MS, -1_000_000] {
        assert_eq!(first.clone().taken_over(&lease("two", NOW_MS + later)), None, "{later}");
    }
    let taken = first.taken_over(&lease("two", NOW_MS + LEASE_MS + 1)).unwrap();
    assert_eq!((taken.state, taken.fence, taken.owner.as_str()), (State::Unknown, 2, "two"));
    assert_eq!((taken.attempts, taken.sent_ms), (2, Some(NOW_MS)));
    assert_eq!(taken.clone().taken_over(&lease("three", NOW_MS + LEASE_MS + 2)), None, "one at a time");
    let settled = taken.settled(2, &happened("{}"), NOW_MS + LEASE_MS + 3).unwrap();
    assert_eq!(settled.state, State::Executed);
}

#[test]
fn an_unknown_write_is_looked_at_again_not_before_it_is_due() {
    let unknown = sent().settled(1, &lost(), NOW_MS).unwrap();
    assert_eq!(
        (unknown.state, unknown.lease_until_ms, unknown.note.as_str()),
        (State::Unknown, NOW_MS + 5_000, "no answer")
    );
    assert_eq!(unknown.clone().taken_over(&lease("two", NOW_MS + 5_000)), None);
    let taken = unknown.taken_over(&lease("two", NOW_MS + 5_001)).unwrap();
    assert_eq!(taken.clone().settled(1, &happened("late"), NOW_MS), None, "the first owner is left behind");
    assert_eq!(taken.settled(2, &lost(), NOW_MS + 5_002).unwrap().fence, 2);
}

#[test]
fn what_was_never_sent_and_what_ended_is_nobodys_to_take_over() {
    let far = lease("two", NOW_MS + 86_400_000);
    for done in [
        sent().released(1, NOW_MS).unwrap(),
        sent().settled(1, &happened("{}"), NOW_MS).unwrap(),
        sent().settled(1, &failed(), NOW_MS).unwrap(),
    ] {
        assert_eq!(done.clone().taken_over(&far), None, "{:?}", done.state);
    }
}

#[test]
fn what_ended_stays_so() {
    for settlement in [happened("first"), failed()] {
        let done = sent().settled(1, &settlement, NOW_MS).unwrap();
        assert!(done.state.is_final());
        for other in [happened("second"), failed(), lost()] {
            assert_eq!(done.clone().settled(1, &other, NOW_MS), None);
        }
        assert_eq!(done.released(1, NOW_MS), None);
    }
}

#[test]
fn no_lease_runs_past_the_end_of_time() {
    let endless = Lease { owner: "one".to_owned(), now_ms: NOW_MS, for_ms: i64::MAX };
    let Claimed::Mine(first) = Execution::claim(None, &plan("f"), &endless) else { panic!("not given") };
    assert_eq!(first.lease_until_ms, i64::MAX);
    let retry = Settlement::Unknown { note: String::new(), retry_in_ms: i64::MAX };
    assert_eq!(first.settled(1, &retry, NOW_MS).unwrap().lease_until_ms, i64::MAX);
}

#[test]
fn the_name_of_a_state_leads_back_to_it() {
    let all = [State::Reserved, State::Sent, State::Executed, State::Failed, State::Unknown];
    for state in all {
        assert_eq!(State::named(state.as_str()), Some(state));
        assert_eq!(json!(state), json!(state.as_str()));
    }
    assert_eq!(all.iter().map(|state| state.as_str()).collect::<BTreeSet<_>>().len(), all.len());
    assert_eq!(State::named("rejected"), None);
}

#[test]
fn a_write_that_was_stored_and_read_again_is_the_same_but_for_its_body() {
    let settled = sent().settled(1, &happened("secret"), NOW_MS).unwrap();
    let text = serde_json::to_string(&settled).unwrap();
    assert!(!text.contains("secret"), "the body is kept apart, as bytes");
    let mut read: Execution = serde_json::from_str(&text).unwrap();
    read.kept.as_mut().unwrap().body = Some(b"secret".to_vec());
    assert_eq!(read, settled);
}
