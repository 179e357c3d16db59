//! Promises of an approval that was given: used once, in time, and until then to be taken back.

use super::*;

const GIVEN_MS: i64 = ASKED_MS + 1_000;
const EXECUTE_BY_MS: i64 = GIVEN_MS + 900_000;

fn approved() -> Ticket {
    ticket(1).voted(yes("otto")).unwrap()
}

#[test]
fn it_is_given_to_one_execution_and_to_no_second() {
    let used = approved().consumed("x-1", GIVEN_MS).unwrap();
    assert_eq!(used.consumed_by.as_deref(), Some("x-1"));
    assert_eq!(used.clone().consumed("x-2", GIVEN_MS), Err(Unusable::Spent));
    is_sound(&used);
}

#[test]
fn the_execution_that_has_it_may_take_it_again_even_when_its_time_is_over() {
    let used = approved().consumed("x-1", EXECUTE_BY_MS).unwrap();
    assert_eq!(used.clone().consumed("x-1", EXECUTE_BY_MS + 1), Ok(used.clone()));
    assert_eq!(used.clone().at(EXECUTE_BY_MS + 1), used, "what is in use does not lapse");
}

#[test]
fn it_is_not_used_before_it_is_given_nor_after_it_ended() {
    assert_eq!(ticket(1).consumed("x-1", GIVEN_MS), Err(Unusable::Pending));
    assert_eq!(ticket(1).consumed("x-1", APPROVE_BY_MS + 1), Err(Unusable::Expired));
    assert_eq!(approved().consumed("x-1", EXECUTE_BY_MS + 1), Err(Unusable::Expired));
    let rejected = ticket(1).voted(no("otto")).unwrap();
    assert_eq!(rejected.consumed("x-1", GIVEN_MS), Err(Unusable::Rejected));
}

#[test]
fn what_is_not_used_in_time_lapses_when_its_time_is_over() {
    let lapsed = approved().at(EXECUTE_BY_MS + 1);
    let ended = lapsed.ended.clone().unwrap();
    assert_eq!((lapsed.state, ended.ground, ended.at_ms), (State::Rejected, Ground::Expired, EXECUTE_BY_MS));
    assert_ne!(ended.reason, ticket(1).at(APPROVE_BY_MS + 1).ended.unwrap().reason, "the two timers have own words");
    assert_eq!(approved().at(EXECUTE_BY_MS).state, State::Approved, "its last millisecond counts");
    is_sound(&lapsed);
}

#[test]
fn it_can_be_taken_back_until_it_is_used() {
    for (open, ground) in [(ticket(1), Ground::Cancelled), (approved(), Ground::Revoked)] {
        let back = open.taken_back(&person("tess"), ground, "not now", GIVEN_MS).unwrap();
        let ended = back.ended.clone().unwrap();
        assert_eq!((back.state, ended.ground, ended.by), (State::Rejected, ground, Some(person("tess"))));
        assert_eq!((ended.reason.as_str(), ended.at_ms), ("not now", GIVEN_MS));
        assert_eq!(back.clone().consumed("x-1", GIVEN_MS), Err(Unusable::Rejected));
        assert_eq!(back.clone().voted(yes("uma")), Err(VoteFault::Closed));
        assert_eq!(back.taken_back(&person("tess"), ground, "again", GIVEN_MS), Err(VoteFault::Closed));
    }
    let used = approved().consumed("x-1", GIVEN_MS).unwrap();
    for spent in [used.clone(), used.clone().concluded("x-1", true), used.concluded("x-1", false)] {
        let back = spent.taken_back(&person("tess"), Ground::Revoked, "too late", GIVEN_MS);
        assert_eq!(back, Err(VoteFault::Spent));
    }
    let lapsed = approved().taken_back(&person("tess"), Ground::Revoked, "too late", EXECUTE_BY_MS + 1);
    assert_eq!(lapsed, Err(VoteFault::Closed));
}

#[test]
fn given_back_by_who_has_it_it_may_be_used_again_while_its_time_lasts() {
    let used = approved().consumed("x-1", GIVEN_MS).unwrap();
    assert_eq!(used.clone().given_back("x-2"), used, "only who has it gives it back");
    let back = used.given_back("x-1");
    assert_eq!(back, approved());
    assert_eq!(back.clone().consumed("x-2", EXECUTE_BY_MS).unwrap().consumed_by.as_deref(), Some("x-2"));
    assert_eq!(back.consumed("x-2", EXECUTE_BY_MS + 1), Err(Unusable::Expired));
}

#[test]
fn what_was_concluded_stays_so() {
    for (happened, state) in [(true, State::Executed), (false, State::Failed)] {
        let used = approved().consumed("x-1", GIVEN_MS).unwrap();
        assert_eq!(used.clone().concluded("x-2", happened), used, "only who has it concludes it");
        let done = used.concluded("x-1", happened);
        assert_eq!(done.state, state);
        assert_eq!(done.clone().concluded("x-1", !happened), done);
        assert_eq!(done.clone().given_back("x-1"), done);
        assert_eq!(done.clone().at(EXECUTE_BY_MS + 1), done);
        for execution in ["x-1", "x-2"] {
            assert_eq!(done.clone().consumed(execution, GIVEN_MS), Err(Unusable::Spent));
        }
        is_sound(&done);
    }
    assert_eq!(approved().concluded("x-1", true), approved(), "what nobody has is not concluded");
}
