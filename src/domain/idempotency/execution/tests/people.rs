//! Promises of people who settle an unknown write: two, not its owner, with evidence, who agree.

use super::*;

fn opinion(user: &str, happened: bool, ids: &[&str]) -> Opinion {
    Opinion {
        issuer: "i".to_owned(),
        user: user.to_owned(),
        happened,
        evidence: "read it in LoopIQ".to_owned(),
        record_ids: ids.iter().map(|&id| id.to_owned()).collect(),
        at_ms: NOW_MS + 100,
    }
}

fn unknown() -> Execution {
    sent().settled(1, &lost(), NOW_MS).unwrap()
}

#[test]
fn two_people_who_agree_settle_it() {
    for (happened, state, status) in [(true, State::Executed, 200), (false, State::Failed, 409)] {
        let ids: &[&str] = if happened { &["WI-7"] } else { &[] };
        let once = unknown().resolved(opinion("otto", happened, ids)).unwrap();
        assert_eq!((once.state, once.opinions.len(), once.fence), (State::Unknown, 1, 1), "one is not enough");
        let twice = once.resolved(opinion("tess", happened, ids)).unwrap();
        assert_eq!((twice.state, twice.opinions.len()), (state, 2));
        assert_eq!(twice.record_ids, ids);
        let kept = twice.kept.clone().unwrap();
        assert_eq!((kept.status, kept.by), (status, KnownBy::People));
        let body: serde_json::Value = serde_json::from_slice(&kept.body.unwrap()).unwrap();
        assert_eq!(body, json!({"resolvedBy": "people", "happened": happened, "recordIds": ids}));
        assert_eq!(twice.clone().settled(1, &failed(), NOW_MS), None, "who was at it is left behind");
        assert_eq!(twice.resolved(opinion("uma", !happened, ids)), Err(ResolveFault::Known));
    }
}

/// Whoever has it may be sending it again, and what is sent may happen after people have looked.
#[test]
fn nobody_says_that_a_write_did_not_happen_while_somebody_is_sending_it_again() {
    let once = unknown().resolved(opinion("otto", false, &[])).unwrap();
    let taken = once.taken_over(&lease("two", NOW_MS + 60_000)).unwrap();
    let second = |at_ms, happened| Opinion { at_ms, ..opinion("tess", happened, &[]) };
    let during = taken.lease_until_ms;
    assert_eq!(taken.clone().resolved(second(during, false)), Err(ResolveFault::Known));
    assert!(taken.clone().resolved(second(during, true)).is_ok(), "another view may be noted at any time");
    let given_up = taken.clone().settled(2, &lost(), NOW_MS + 60_001).unwrap();
    for (write, at_ms) in [(given_up, NOW_MS + 60_002), (taken, during + 1)] {
        assert_eq!(write.resolved(second(at_ms, false)).unwrap().state, State::Failed);
    }
}

#[test]
fn nobody_settles_their_own_write_under_whichever_issuer() {
    for issuer in ["i", "j"] {
        let own = Opinion { issuer: issuer.to_owned(), ..opinion("ada", true, &[]) };
        assert_eq!(unknown().resolved(own), Err(ResolveFault::Own));
    }
}

#[test]
fn one_person_is_one_person_under_whichever_issuer() {
    let once = unknown().resolved(opinion("otto", true, &[])).unwrap();
    for issuer in ["i", "j"] {
        let again = Opinion { issuer: issuer.to_owned(), ..opinion("otto", true, &[]) };
        assert_eq!(once.clone().resolved(again), Err(ResolveFault::Twice));
    }
}

#[test]
fn an_opinion_without_evidence_is_none() {
    for evidence in ["", " ", "\n\t"] {
        let bare = Opinion { evidence: evidence.to_owned(), ..opinion("otto", true, &[]) };
        assert_eq!(unknown().resolved(bare), Err(ResolveFault::Evidence));
    }
}

#[test]
fn two_who_disagree_settle_nothing_and_the_later_word_stands_first() {
    for (first, second) in [
        (opinion("otto", true, &[]), opinion("tess", false, &[])),
        (opinion("otto", true, &["WI-7"]), opinion("tess", true, &["WI-8"])),
        (opinion("otto", true, &["WI-7"]), opinion("tess", true, &[])),
    ] {
        let torn = unknown().resolved(first.clone()).unwrap().resolved(second.clone()).unwrap();
        assert_eq!((torn.state, torn.opinions.as_slice()), (State::Unknown, std::slice::from_ref(&second)));
        assert_eq!(torn.clone().resolved(second.clone()), Err(ResolveFault::Twice));
        let convinced = Opinion { user: "otto".to_owned(), ..second.clone() };
        let settled = torn.resolved(convinced).unwrap();
        assert!(settled.state.is_final(), "who was convinced may say so");
        assert_eq!(settled.record_ids, second.record_ids);
    }
}

#[test]
fn what_did_not_happen_made_no_records() {
    let once = unknown().resolved(opinion("otto", false, &["WI-7"])).unwrap();
    let twice = once.resolved(opinion("tess", false, &["WI-7"])).unwrap();
    assert_eq!((twice.state, twice.record_ids.len()), (State::Failed, 0));
    let once = unknown().resolved(opinion("otto", false, &["WI-7"])).unwrap();
    let twice = once.resolved(opinion("tess", false, &[])).unwrap();
    assert_eq!(twice.state, State::Failed, "they agree on all there is to agree on");
}

#[test]
fn only_what_is_unknown_is_settled_by_people() {
    let first = sent();
    for known in [
        first.clone(),
        first.clone().released(1, NOW_MS).unwrap(),
        first.clone().settled(1, &happened("{}"), NOW_MS).unwrap(),
        first.settled(1, &failed(), NOW_MS).unwrap(),
    ] {
        let state = known.state;
        assert_eq!(known.resolved(opinion("otto", true, &[])), Err(ResolveFault::Known), "{state:?}");
    }
}

#[test]
fn a_late_answer_changes_nothing_that_people_settled() {
    let taken = sent().taken_over(&lease("two", NOW_MS + LEASE_MS + 1)).unwrap();
    let once = taken.resolved(opinion("otto", true, &[])).unwrap();
    let settled = once.resolved(opinion("tess", true, &[])).unwrap();
    for fence in [1, 2, settled.fence] {
        assert_eq!(settled.clone().settled(fence, &failed(), NOW_MS), None);
    }
}

#[test]
fn every_refusal_has_a_code_of_its_own() {
    let all =
        [ResolveFault::Missing, ResolveFault::Known, ResolveFault::Evidence, ResolveFault::Own, ResolveFault::Twice];
    assert_eq!(all.iter().map(|fault| fault.code()).collect::<BTreeSet<_>>().len(), all.len());
}
