//! Any sequence of steps, tried against a plainer account of what they may come to.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const PEOPLE: [&str; 5] = ["ada", "otto", "tess", "uma", "vic"];
const ISSUERS: [&str; 2] = ["https://people.example", "https://other.example"];
const EXECUTIONS: [&str; 3] = ["x-1", "x-2", "x-3"];

#[derive(Debug, Clone)]
enum Step {
    /// Person, issuer, whether entitled, whether the digest is the right one, verdict.
    Vote(usize, usize, bool, bool, bool),
    TakeBack(usize),
    Consume(usize),
    GiveBack(usize),
    Conclude(usize, bool),
    WriteDown,
    /// Milliseconds forwards, or back by a clock that was set.
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5usize, 0..2usize, prop::bool::weighted(0.9), prop::bool::weighted(0.9), prop::bool::weighted(0.9))
            .prop_map(|(who, issuer, entitled, seen, agrees)| Step::Vote(who, issuer, entitled, seen, agrees)),
        1 => (0..5usize).prop_map(Step::TakeBack),
        4 => (0..3usize).prop_map(Step::Consume),
        2 => (0..3usize).prop_map(Step::GiveBack),
        1 => (0..3usize, any::<bool>()).prop_map(|(execution, happened)| Step::Conclude(execution, happened)),
        1 => Just(Step::WriteDown),
        2 => prop_oneof![Just(1_000i64), Just(899_999), Just(900_001), Just(3_600_001), Just(-600_000)].prop_map(Step::Wait),
    ]
}

/// What may be true of a ticket, told without its code.
#[derive(Debug, Default)]
struct Account {
    agreed: BTreeSet<&'static str>,
    decided_ms: Option<i64>,
    over: bool,
    holder: Option<&'static str>,
    done: Option<bool>,
}

impl Account {
    /// Whether time has run out; noticed by whoever looks, written down or not.
    fn lapsed(&self, now_ms: i64) -> bool {
        match self.decided_ms {
            None => now_ms > APPROVE_BY_MS,
            Some(decided_ms) => self.holder.is_none() && self.done.is_none() && now_ms > decided_ms + 900_000,
        }
    }

    fn open(&self, now_ms: i64) -> bool {
        !self.over && self.done.is_none() && !self.lapsed(now_ms)
    }
}

fn take(ticket: &Ticket, account: &mut Account, step: &Step, now_ms: &mut i64, count: usize) -> Ticket {
    let same = ticket.clone();
    match *step {
        Step::Vote(who, issuer, entitled, seen, agrees) => {
            let user = PEOPLE[who];
            let cast = Ballot {
                voter: of_issuer(ISSUERS[issuer], user),
                roles: if entitled { vec!["approver".to_owned()] } else { Vec::new() },
                digest: if seen { ticket.digest.clone() } else { "stale".to_owned() },
                at_ms: *now_ms,
                ..ballot(user, if agrees { Verdict::Approve } else { Verdict::Reject })
            };
            let counts = account.open(*now_ms)
                && account.decided_ms.is_none()
                && user != "ada"
                && (entitled || user == "uma")
                && seen
                && !account.agreed.contains(user);
            let voted = ticket.clone().voted(cast);
            assert_eq!(voted.is_ok(), counts, "{step:?} {voted:?}");
            let Ok(voted) = voted else { return same };
            if agrees {
                account.agreed.insert(user);
                account.decided_ms = (account.agreed.len() >= count).then_some(*now_ms);
            } else {
                account.over = true;
            }
            voted
        }
        Step::TakeBack(who) => {
            let back = ticket.clone().taken_back(&person(PEOPLE[who]), Ground::Revoked, "", *now_ms);
            assert_eq!(back.is_ok(), account.open(*now_ms) && account.holder.is_none(), "{back:?}");
            account.over |= back.is_ok();
            back.unwrap_or(same)
        }
        Step::Consume(execution) => {
            let id = EXECUTIONS[execution];
            let may = account.open(*now_ms)
                && account.decided_ms.is_some()
                && account.holder.is_none_or(|holder| holder == id);
            let used = ticket.clone().consumed(id, *now_ms);
            assert_eq!(used.is_ok(), may, "{used:?}");
            if may {
                account.holder = Some(id);
            }
            used.unwrap_or(same)
        }
        Step::GiveBack(execution) => {
            if account.done.is_none() && account.holder == Some(EXECUTIONS[execution]) {
                account.holder = None;
            }
            same.given_back(EXECUTIONS[execution])
        }
        Step::Conclude(execution, happened) => {
            if account.done.is_none() && account.holder == Some(EXECUTIONS[execution]) {
                account.done = Some(happened);
            }
            same.concluded(EXECUTIONS[execution], happened)
        }
        Step::WriteDown => {
            account.over |= account.lapsed(*now_ms) && account.done.is_none();
            same.at(*now_ms)
        }
        Step::Wait(ms) => {
            *now_ms += ms;
            same
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]
    #[test]
    fn no_sequence_of_steps_gives_an_approval_that_was_not_earned(count in 1u32..4, steps in prop::collection::vec(step(), 1..40)) {
        let (mut now, mut account, mut current) = (ASKED_MS, Account::default(), ticket(count));
        for step in &steps {
            current = take(&current, &mut account, step, &mut now, count as usize);
            is_sound(&current);
            let expected = match (account.over, account.done, account.decided_ms) {
                (true, _, _) => State::Rejected,
                (_, Some(true), _) => State::Executed,
                (_, Some(false), _) => State::Failed,
                (_, _, Some(_)) => State::Approved,
                (_, _, None) => State::Pending,
            };
            prop_assert_eq!(current.state, expected, "{:?} {:?}", step, current);
            prop_assert_eq!(current.consumed_by.as_deref(), account.holder);
        }
    }
}
