//! Any sequence of steps by anybody, tried against a plainer account of one write.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// With the right fingerprint, or another.
    Claim(bool),
    /// By fence: the newest, or so many before it.
    Release(i64),
    Settle(i64, u8),
    TakeOver,
    Resolve(usize, bool),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::bool::weighted(0.8).prop_map(Step::Claim),
        3 => (0..3i64).prop_map(Step::Release),
        3 => (0..3i64, 0..3u8).prop_map(|(behind, what)| Step::Settle(behind, what)),
        3 => Just(Step::TakeOver),
        1 => (0..3usize, any::<bool>()).prop_map(|(who, happened)| Step::Resolve(who, happened)),
        4 => prop_oneof![Just(1i64), Just(5_001), Just(LEASE_MS), Just(LEASE_MS + 1), Just(-600_000)].prop_map(Step::Wait),
    ]
}

/// What is true of the write in the world outside, told without its code.
#[derive(Debug, Default)]
struct Account {
    /// Grants to send that nobody proved to have sent nothing. More than one is a doubled effect.
    may_have_left: u32,
    /// The fence that may speak for the write now.
    speaks: i64,
    ended: Option<Execution>,
}

fn take(current: Option<Execution>, account: &mut Account, step: &Step, now_ms: &mut i64) -> Option<Execution> {
    let before = current.clone();
    match *step {
        Step::Wait(ms) => {
            *now_ms += ms;
            current
        }
        Step::Claim(same) => {
            let free = before.as_ref().is_none_or(|write| write.state == State::Reserved && same);
            let right = if before.is_none() || same { "f" } else { "g" };
            match Execution::claim(current, &plan(right), &lease("any", *now_ms)) {
                Claimed::Mine(mine) => {
                    assert!(free, "{before:?}");
                    account.may_have_left += 1;
                    account.speaks = mine.fence;
                    Some(*mine)
                }
                Claimed::Theirs(found) => {
                    assert!(!free && found != Found::Free, "{found:?}");
                    before
                }
            }
        }
        Step::Release(behind) => {
            let mine = before.as_ref().is_some_and(|write| write.state == State::Sent) && behind == 0;
            let released = current.and_then(|write| write.released(account.speaks - behind, *now_ms));
            assert_eq!(released.is_some(), mine);
            account.may_have_left -= u32::from(mine);
            released.or(before)
        }
        Step::Settle(behind, what) => {
            let open = before.as_ref().is_some_and(|write| matches!(write.state, State::Sent | State::Unknown));
            let settlement = [happened("{}"), failed(), lost()][usize::from(what)].clone();
            let settled = current.and_then(|write| write.settled(account.speaks - behind, &settlement, *now_ms));
            assert_eq!(settled.is_some(), open && behind == 0);
            settled.or(before)
        }
        Step::TakeOver => {
            let stuck = before.as_ref().is_some_and(|write| {
                matches!(write.state, State::Sent | State::Unknown) && write.lease_until_ms < *now_ms
            });
            let taken = current.and_then(|write| write.taken_over(&lease("any", *now_ms)));
            assert_eq!(taken.is_some(), stuck);
            if let Some(taken) = &taken {
                assert_eq!(taken.state, State::Unknown);
                account.speaks = taken.fence;
            }
            taken.or(before)
        }
        Step::Resolve(who, happened) => {
            let said = Opinion {
                issuer: "i".to_owned(),
                user: ["ada", "otto", "tess"][who].to_owned(),
                happened,
                evidence: "seen".to_owned(),
                record_ids: Vec::new(),
                at_ms: *now_ms,
            };
            let resolved = current.and_then(|write| write.resolved(said).ok());
            if let Some(resolved) = resolved.as_ref().filter(|resolved| resolved.state.is_final()) {
                let users: BTreeSet<_> = resolved.opinions.iter().map(|one| one.user.as_str()).collect();
                assert_eq!(users, BTreeSet::from(["otto", "tess"]));
                assert!(resolved.opinions.iter().all(|one| one.happened == happened));
            }
            resolved.or(before)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]
    #[test]
    fn no_sequence_of_steps_sends_twice_turns_back_a_fence_or_changes_an_end(steps in prop::collection::vec(step(), 1..60)) {
        let (mut now, mut account, mut current) = (NOW_MS, Account::default(), None);
        for step in &steps {
            let fence = current.as_ref().map_or(0, |write: &Execution| write.fence);
            current = take(current, &mut account, step, &mut now);
            let Some(write) = &current else { continue };
            prop_assert!(account.may_have_left <= 1, "given out twice: {:?}", step);
            prop_assert_eq!(account.may_have_left == 0, write.state == State::Reserved, "{:?}", step);
            prop_assert!(write.fence >= fence, "{:?}", step);
            prop_assert_eq!(write.kept.is_some(), write.state.is_final(), "an answer is kept exactly at the end");
            prop_assert_eq!(&write.plan.fingerprint, "f", "a key stays with its first write");
            if let Some(ended) = &account.ended {
                prop_assert_eq!(write, ended, "what ended changed at {:?}", step);
            } else if write.state.is_final() {
                account.ended = Some(write.clone());
            }
        }
    }
}
