//! What the steps promise, one by one and in any order.

use proptest::prelude::*;

use super::canary::Share;
use super::*;

fn written(state: &State) -> String {
    serde_json::to_string_pretty(state).unwrap()
}

fn read(text: &str) -> Result<State, serde_json::Error> {
    serde_json::from_str(text)
}

fn id(name: &str) -> BundleId {
    BundleId::new(&name.repeat(64), &"d".repeat(64))
}

fn rev(name: &str) -> String {
    id(name).revision()
}

fn by() -> By {
    By { user: "tess".to_owned(), issuer: "https://people".to_owned(), tenant: "org_gcn".to_owned() }
}

fn candidate(name: &str) -> Candidate {
    Candidate { id: id(name), since_ms: 1, from: Origin::Folder }
}

fn term(name: &str, how: How) -> Term {
    Term { id: id(name), since_ms: 2, how, by: None, reason: String::new(), report: None }
}

fn canary(name: &str) -> Canary {
    Canary {
        id: id(name),
        share: Share { percent: 10, tenants: Vec::new() },
        since_ms: 3,
        by: by(),
        reason: String::new(),
        report: None,
    }
}

fn live(name: &str) -> State {
    State::default().activated(term(name, How::First))
}

#[test]
fn what_is_written_is_read_back_and_nothing_else_is() {
    let Arrival::Waits(state) = live("a").activated(term("b", How::Automatic)).arrived(&candidate("c"), true) else {
        panic!("it waits")
    };
    let state = state.canary_started(canary("e")).unwrap();
    assert_eq!(read(&written(&state)).unwrap(), state);
    let text = written(&state);
    for wrong in [
        text.replace("\"v\": 1", "\"v\": 2"),
        text.replacen("\"live\"", "\"livid\"", 1),
        text.replacen("\"held\"", "\"more\": 1, \"held\"", 1),
        text.replacen("\"how\"", "\"why\": 1, \"how\"", 1),
        "{}".to_owned(),
        String::new(),
    ] {
        read(&wrong).unwrap_err();
    }
}

#[test]
fn the_first_bundle_ever_goes_live_and_a_gate_keeps_the_next_waiting() {
    assert_eq!(State::default().arrived(&candidate("a"), true), Arrival::GoesLive(How::First));
    let state = live("a");
    assert_eq!(state.arrived(&candidate("a"), true), Arrival::Stays(state.clone()));
    assert_eq!(state.arrived(&candidate("b"), false), Arrival::GoesLive(How::Automatic));
    let Arrival::Waits(waiting) = state.arrived(&candidate("b"), true) else { panic!("it waits") };
    assert_eq!(waiting.live_id(), Some(&id("a")));
    // Seen again it still waits since when it did; changed back it waits no longer.
    let later = Candidate { since_ms: 99, ..candidate("b") };
    assert_eq!(waiting.arrived(&later, true), Arrival::Stays(waiting.clone()));
    assert_eq!(waiting.arrived(&candidate("a"), true), Arrival::Stays(state));
    let Arrival::Waits(other) = waiting.arrived(&candidate("c"), true) else { panic!("another waits") };
    assert_eq!(other.waiting.unwrap().id, id("c"));
}

#[test]
fn what_was_taken_back_stays_away_until_the_files_change() {
    let state = live("a").activated(term("b", How::Automatic));
    let back = state.rolled_back(term("a", How::RolledBack));
    assert_eq!(back.live_id(), Some(&id("a")));
    for gated in [true, false] {
        assert_eq!(back.arrived(&candidate("b"), gated), Arrival::Stays(back.clone()));
    }
    let Arrival::Stays(freed) = back.arrived(&candidate("a"), false) else { panic!("it is live") };
    assert_eq!(freed.arrived(&candidate("b"), false), Arrival::GoesLive(How::Automatic));
    // Somebody who wants it may have it.
    assert_eq!(back.candidate(&rev("b")).unwrap(), id("b"));
    assert!(back.activated(term("b", How::Person)).held.is_empty());
}

#[test]
fn rolling_back_twice_goes_back_twice_and_never_to_what_was_taken_back() {
    let state = live("a").activated(term("b", How::Automatic)).activated(term("c", How::Automatic));
    assert_eq!(state.before(None).unwrap(), id("b"));
    let once = state.rolled_back(term("b", How::RolledBack));
    assert_eq!(once.before(None).unwrap(), id("a"));
    let twice = once.rolled_back(term("a", How::RolledBack));
    assert_eq!(twice.before(None), Err(StepFault::NothingBefore));
    assert_eq!(twice.held, [id("b"), id("c")].into());
    // By name everything that was in force can be had again.
    assert_eq!(twice.before(Some(&rev("c"))).unwrap(), id("c"));
    assert_eq!(twice.before(Some(&rev("a"))), Err(StepFault::AlreadyLive(rev("a"))));
    assert_eq!(twice.before(Some("never")), Err(StepFault::NeverLive("never".to_owned())));
    assert_eq!(State::default().before(None), Err(StepFault::NothingBefore));
}

#[test]
fn a_canary_ends_when_it_is_promoted_taken_back_or_overtaken() {
    let Arrival::Waits(waiting) = live("a").arrived(&candidate("b"), true) else { panic!("it waits") };
    let running = waiting.canary_started(canary("b")).unwrap();
    assert_eq!((running.live_id(), &running.waiting), (Some(&id("a")), &None));
    assert_eq!(running.arrived(&candidate("b"), true), Arrival::Stays(running.clone()), "its files are still there");
    assert_eq!(running.canary_started(canary("b")), Err(StepFault::AlreadyCanary(rev("b"))));
    let promoted = running.activated(term("b", How::Promoted));
    assert_eq!((promoted.live_id(), &promoted.canary), (Some(&id("b")), &None));
    let taken = running.canary_taken_back(4);
    assert_eq!((taken.live_id(), &taken.canary, &taken.held), (Some(&id("a")), &None, &[id("b")].into()));
    assert_eq!(taken.arrived(&candidate("b"), true), Arrival::Stays(taken.clone()));
    assert_eq!(running.activated(term("c", How::Automatic)).canary, None);
    assert_eq!(State::default().canary_started(canary("b")), Err(StepFault::NothingLive));
    for percent in [0, 101] {
        let nobody = Canary { share: Share { percent, tenants: Vec::new() }, ..canary("b") };
        assert_eq!(waiting.canary_started(nobody), Err(StepFault::NoShare));
    }
}

#[test]
fn only_what_waits_can_be_activated() {
    let Arrival::Waits(state) = live("a").arrived(&candidate("b"), true) else { panic!("it waits") };
    assert_eq!(state.candidate(&rev("b")).unwrap(), id("b"));
    assert_eq!(state.candidate(&rev("a")), Err(StepFault::AlreadyLive(rev("a"))));
    assert_eq!(state.candidate(&rev("c")), Err(StepFault::NoCandidate(rev("c"))));
    assert_eq!(state.candidate(""), Err(StepFault::NoCandidate(String::new())));
}

proptest! {
    /// Whatever happens in whatever order, a held bundle does not come back by itself, nothing is at
    /// two places at once, and the state can be read back.
    #[test]
    fn no_order_of_steps_brings_back_what_was_taken_back(steps in proptest::collection::vec((0..5u8, 0..4usize), 0..60)) {
        const NAMES: [&str; 4] = ["a", "b", "c", "e"];
        for gated in [true, false] {
            let mut state = State::default();
            for (step, name) in &steps {
                let name = NAMES[*name];
                state = match step {
                    0 | 1 => {
                        let held = state.held.contains(&id(name));
                        match state.arrived(&candidate(name), gated) {
                            Arrival::GoesLive(how) => {
                                prop_assert!(!held);
                                state.activated(term(name, how))
                            }
                            Arrival::Waits(next) => {
                                prop_assert!(!held && gated);
                                next
                            }
                            Arrival::Stays(next) => next,
                        }
                    }
                    2 => match state.candidate(&rev(name)) {
                        Ok(id) => state.activated(Term { id, ..term(name, How::Person) }),
                        Err(_) => state,
                    },
                    3 => match state.candidate(&rev(name)) {
                        Ok(id) => state.canary_started(Canary { id, ..canary(name) }).unwrap_or(state),
                        Err(_) => state.canary_taken_back(4),
                    },
                    _ => match state.before(None) {
                        Ok(id) => state.rolled_back(Term { id, ..term(name, How::RolledBack) }),
                        Err(_) => state,
                    },
                };
                let live = state.live_id();
                let waiting = state.waiting.as_ref().map(|waiting| &waiting.id);
                let canary = state.canary.as_ref().map(|canary| &canary.id);
                prop_assert!(live.is_none_or(|live| !state.held.contains(live) && Some(live) != canary && Some(live) != waiting));
                prop_assert!(canary.is_none_or(|canary| !state.held.contains(canary) && Some(canary) != waiting));
                prop_assert!(waiting.is_none_or(|waiting| !state.held.contains(waiting)));
                prop_assert_eq!(read(&written(&state)).unwrap(), state.clone());
            }
        }
    }
}
