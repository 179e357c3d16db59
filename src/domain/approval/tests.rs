//! Promises of an approval: what it covers, and that every byte of it counts.

mod drifting;
mod model;
mod use_once;
mod voting;

use serde_json::json;

use super::*;

/// When everything in here begins.
const ASKED_MS: i64 = 1_790_000_000_000;
/// Until when it may be answered.
const APPROVE_BY_MS: i64 = ASKED_MS + 3_600_000;
/// Seconds that it is good once given.
const WITHIN_S: u64 = 900;

fn person(user: &str) -> Person {
    of_issuer("https://people.example", user)
}

fn of_issuer(issuer: &str, user: &str) -> Person {
    Person { issuer: issuer.to_owned(), user: user.to_owned() }
}

/// With something in every field.
fn subject() -> Subject {
    serde_json::from_value(json!({
        "v": 1,
        "tenant": "org_gcn",
        "requester": {"issuer": "https://people.example", "user": "ada"},
        "client": "agent-7",
        "workflow": "wf-1",
        "idempotencyKey": "key-1",
        "tool": "loopiq_create_release_remediation",
        "definition": "d".repeat(64),
        "route": "POST /api/v1/releases/{release}/remediations",
        "arguments": {"release": "r-1", "title": "fix", "count": 3, "due": null, "a/b~c": true, "tasks": [{"title": "t"}]},
        "request": {"method": "POST", "path": "/api/v1/releases/r-1/remediations", "body": {"title": "fix", "count": 3}},
        "preview": {"creates": [{"type": "story"}, {"type": "task"}], "total": 2},
        "previewDigest": "p".repeat(64),
        "previewBy": "backend",
        "recordVersion": "\"7\"",
        "policyBundle": "b".repeat(64),
        "policyData": "c".repeat(64),
        "approveByMs": APPROVE_BY_MS,
        "executeWithinS": WITHIN_S,
    }))
    .unwrap()
}

fn requirement(count: u32) -> Requirement {
    Requirement {
        roles: vec!["approver".to_owned()],
        teams: vec!["board".to_owned()],
        users: vec!["uma".to_owned()],
        count,
        approve_by_s: 3600,
        execute_within_s: WITHIN_S,
        preview: true,
    }
}

/// A ticket that `count` people must agree to.
fn ticket(count: u32) -> Ticket {
    let subject = subject();
    Ticket {
        id: "apr_1".to_owned(),
        digest: subject.digest().unwrap(),
        subject,
        requirement: requirement(count),
        reasons: Vec::new(),
        asked_ms: ASKED_MS,
        request_id: "req".to_owned(),
        trace_id: "trace".to_owned(),
        state: State::Pending,
        ended: None,
        ballots: Vec::new(),
        execute_by_ms: None,
        consumed_by: None,
    }
}

/// A vote of somebody entitled, on the ticket of [`ticket`], a second after it was asked for.
fn ballot(user: &str, verdict: Verdict) -> Ballot {
    Ballot {
        voter: person(user),
        roles: vec!["approver".to_owned()],
        teams: Vec::new(),
        verdict,
        reason: "because".to_owned(),
        digest: subject().digest().unwrap(),
        at_ms: ASKED_MS + 1_000,
    }
}

fn yes(user: &str) -> Ballot {
    ballot(user, Verdict::Approve)
}

fn no(user: &str) -> Ballot {
    ballot(user, Verdict::Reject)
}

/// Every ticket that stands on its own two feet says so: what it holds fits together.
#[track_caller]
fn is_sound(ticket: &Ticket) {
    assert_eq!(ticket.ended.is_some(), ticket.state == State::Rejected, "{ticket:?}");
    assert_eq!(ticket.digest, ticket.subject.digest().unwrap());
    let was_given = matches!(ticket.state, State::Approved | State::Executed | State::Failed);
    if was_given {
        assert!(ticket.agreed() >= ticket.requirement.count as usize, "{ticket:?}");
        assert!(ticket.execute_by_ms.is_some(), "{ticket:?}");
    }
    if ticket.consumed_by.is_some() {
        assert!(was_given, "{ticket:?}");
    }
}

#[test]
fn the_name_of_a_state_leads_back_to_it() {
    for state in [State::Pending, State::Approved, State::Rejected, State::Executed, State::Failed] {
        assert_eq!(State::named(state.as_str()), Some(state));
        assert_eq!(json!(state), json!(state.as_str()));
    }
    assert_eq!(State::named("expired"), None, "a reason of rejected is no state");
}

#[test]
fn two_calls_that_differ_in_their_deadline_alone_ask_the_same() {
    let (one, mut two) = (subject(), subject());
    two.approve_by_ms += 60_000;
    assert_eq!(one.question().unwrap(), two.question().unwrap());
    assert_ne!(one.digest().unwrap(), two.digest().unwrap(), "the deadline is approved too");
    two.client = "agent-8".to_owned();
    assert_ne!(one.question().unwrap(), two.question().unwrap());
}

#[test]
fn a_subject_that_was_stored_and_read_again_has_the_same_digest() {
    let text = serde_json::to_string(&subject()).unwrap();
    let read: Subject = serde_json::from_str(&text).unwrap();
    assert_eq!(read.digest().unwrap(), subject().digest().unwrap());
}

#[test]
fn a_number_that_readers_would_round_is_never_approved_in_place_of_another() {
    use crate::domain::canonical::Limits;
    for text in ["{\"id\":9007199254740993}", "{\"id\":9007199254740992}", "{\"id\":-9007199254740993}"] {
        assert!(canonical::parse(text.as_bytes(), &Limits::default()).is_err(), "{text} comes through no door");
    }
    // Were one to get in by another way, it would have no digest rather than its neighbour's.
    let with = |id: u64| {
        let mut subject = subject();
        subject.arguments.insert("id".to_owned(), id.into());
        subject
    };
    let (odd, even) = (with(9_007_199_254_740_993), with(9_007_199_254_740_992));
    assert!(odd.digest().is_err() && even.digest().is_err());
    assert!(drift(&odd, &even).is_err(), "what has no digest was never approved");
    assert!(drift(&with(9_007_199_254_740_991), &odd).is_err());
}

#[test]
fn a_requirement_says_who_may_vote_and_nobody_else_may() {
    let requirement = requirement(1);
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert!(requirement.entitles("x", &list(&["viewer", "approver"]), &[]));
    assert!(requirement.entitles("x", &[], &list(&["board"])));
    assert!(requirement.entitles("uma", &[], &[]));
    assert!(!requirement.entitles("x", &list(&["board", "uma"]), &list(&["approver"])), "a role is no team");
    assert!(!requirement.entitles("", &[], &[]));
    let nobody = Requirement { roles: Vec::new(), teams: Vec::new(), users: Vec::new(), ..requirement };
    assert!(!nobody.entitles("uma", &list(&["approver"]), &list(&["board"])));
    assert_eq!(nobody.words(), "1 of: nobody");
}

#[test]
fn the_requirement_is_read_from_the_obligation_that_policy_made() {
    let audit: Obligation = serde_json::from_value(json!({"type": "audit", "mode": "durable"})).unwrap();
    let asks: Obligation = serde_json::from_value(json!({
        "type": "require_approval", "roles": ["approver"], "teams": ["board"], "users": ["uma"], "count": 2,
        "approve_by_s": 3600, "execute_within_s": WITHIN_S, "preview": true,
    }))
    .unwrap();
    assert_eq!(Requirement::among(std::slice::from_ref(&audit)), None);
    let found = Requirement::among(&[audit, asks]).unwrap();
    assert_eq!(found, requirement(2));
    assert_eq!(found.words(), "2 of: role approver, team board, user uma");
}
