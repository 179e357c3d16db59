//! Promises of a vote: by somebody else, once, on what was seen, in time.

use super::*;

#[test]
fn enough_people_make_it_approved_and_not_one_before() {
    let one = ticket(3).voted(yes("otto")).unwrap();
    assert_eq!((one.state, one.agreed(), one.execute_by_ms), (State::Pending, 1, None));
    let two = one.voted(yes("tess")).unwrap();
    assert_eq!((two.state, two.agreed()), (State::Pending, 2));
    let mut last = yes("uma");
    last.at_ms = APPROVE_BY_MS;
    let three = two.voted(last).unwrap();
    assert_eq!((three.state, three.agreed()), (State::Approved, 3));
    let within_ms = i64::try_from(WITHIN_S).unwrap() * 1000;
    assert_eq!(three.execute_by_ms, Some(APPROVE_BY_MS + within_ms), "counted from the vote that decided it");
    is_sound(&three);
}

#[test]
fn nobody_votes_on_their_own_request_under_whichever_issuer() {
    for voter in [person("ada"), of_issuer("https://other.example", "ada")] {
        for verdict in [Verdict::Approve, Verdict::Reject] {
            let own = Ballot { voter: voter.clone(), ..ballot("ada", verdict) };
            assert_eq!(ticket(1).voted(own), Err(VoteFault::Own), "{voter:?}");
        }
    }
}

#[test]
fn a_second_vote_of_one_person_does_not_count_under_whichever_issuer() {
    let voted = ticket(2).voted(yes("otto")).unwrap();
    for voter in [person("otto"), of_issuer("https://other.example", "otto")] {
        for verdict in [Verdict::Approve, Verdict::Reject] {
            let again = Ballot { voter: voter.clone(), ..ballot("otto", verdict) };
            assert_eq!(voted.clone().voted(again), Err(VoteFault::Twice), "{voter:?}");
        }
    }
}

#[test]
fn a_vote_on_what_the_voter_did_not_see_does_not_count() {
    let mut other = subject();
    other.arguments.insert("title".to_owned(), json!("break"));
    for stale in [other.digest().unwrap(), String::new(), ticket(1).digest.to_uppercase()] {
        let ballot = Ballot { digest: stale, ..yes("otto") };
        assert_eq!(ticket(1).voted(ballot), Err(VoteFault::Digest));
    }
}

#[test]
fn a_person_without_the_standing_has_no_vote_and_learns_nothing_of_the_digest() {
    let stranger = Ballot { roles: vec!["viewer".to_owned()], digest: "stale".to_owned(), ..yes("vic") };
    assert_eq!(ticket(1).voted(stranger.clone()), Err(VoteFault::Standing));
    let of_team = Ballot { teams: vec!["board".to_owned()], digest: ticket(1).digest, ..stranger };
    assert_eq!(ticket(1).voted(of_team).unwrap().state, State::Approved);
}

#[test]
fn a_late_vote_finds_it_closed_though_nobody_wrote_that_down() {
    let mut late = yes("otto");
    late.at_ms = APPROVE_BY_MS + 1;
    assert_eq!(ticket(1).voted(late), Err(VoteFault::Closed));
    let lapsed = ticket(1).at(APPROVE_BY_MS + 1);
    let ended = lapsed.ended.clone().unwrap();
    assert_eq!((lapsed.state, ended.ground, ended.by), (State::Rejected, Ground::Expired, None));
    assert_eq!(ended.at_ms, APPROVE_BY_MS, "it ended when its time was over, not when somebody looked");
    assert_eq!(ticket(1).at(APPROVE_BY_MS), ticket(1), "its last millisecond counts");
    assert_eq!(lapsed.clone().at(APPROVE_BY_MS + 9_999_999), lapsed, "and it is told once");
    assert_eq!(lapsed.voted(yes("otto")), Err(VoteFault::Closed), "a clock set back opens nothing");
}

#[test]
fn one_no_ends_it_and_no_yes_reopens_it() {
    let rejected = ticket(2).voted(yes("tess")).unwrap().voted(no("otto")).unwrap();
    let ended = rejected.ended.clone().unwrap();
    assert_eq!((rejected.state, ended.ground, ended.by), (State::Rejected, Ground::Rejected, Some(person("otto"))));
    assert_eq!((ended.reason.as_str(), ended.at_ms), ("because", ASKED_MS + 1_000));
    for user in ["uma", "tess", "otto"] {
        assert_eq!(rejected.clone().voted(yes(user)), Err(VoteFault::Closed));
    }
    is_sound(&rejected);
}

#[test]
fn a_vote_after_it_was_approved_changes_nothing() {
    let approved = ticket(1).voted(yes("otto")).unwrap();
    assert_eq!(approved.clone().voted(no("tess")), Err(VoteFault::Closed), "to take it back is another step");
    let used = approved.consumed("x-1", ASKED_MS + 2_000).unwrap();
    assert_eq!(used.voted(no("tess")), Err(VoteFault::Spent));
}

#[test]
fn every_refused_vote_has_a_code_of_its_own() {
    use std::collections::BTreeSet;
    let all = [
        VoteFault::Unknown,
        VoteFault::Closed,
        VoteFault::Digest,
        VoteFault::Own,
        VoteFault::Twice,
        VoteFault::Standing,
        VoteFault::Spent,
    ];
    let codes: BTreeSet<_> = all.iter().map(|fault| fault.code()).collect();
    assert_eq!(codes.len(), all.len());
}

#[test]
fn policy_hears_of_the_yes_votes_with_the_standing_of_their_moment() {
    let of_team = Ballot { teams: vec!["board".to_owned()], roles: Vec::new(), ..yes("tess") };
    let approved = ticket(2).voted(yes("otto")).unwrap().voted(of_team).unwrap();
    let facts = approved.facts();
    assert_eq!((facts.id.as_str(), facts.state.as_str()), ("apr_1", "approved"));
    let votes: Vec<_> =
        facts.votes.iter().map(|vote| (vote.user.as_str(), vote.roles.len(), vote.teams.len())).collect();
    assert_eq!(votes, [("otto", 1, 0), ("tess", 0, 1)]);
    let used = approved.consumed("x-1", ASKED_MS + 2_000).unwrap();
    assert_eq!(used.facts().state, "approved", "that it is used once is the ledger's to see to");
    let rejected = ticket(1).voted(no("otto")).unwrap().facts();
    assert_eq!((rejected.state.as_str(), rejected.votes.len()), ("rejected", 0));
}
