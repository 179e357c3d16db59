//! The sentence in storms: duplicate deliveries, crashes at every step, dead and slow backends,
//! clocks that jump, zombies past their lease, failover, a ledger and a journal that fail.
//!
//! Promises: the same seed, the same run; a failure prints its seed. `SIM_SEED=n` runs one seed,
//! `SIM_SEEDS=n` that many from the first. The checker is shown to see what it looks for.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]
#![expect(clippy::print_stdout, reason = "a run says what it saw")]

mod check;
mod client;
mod dice;
mod flaw;
mod journal;
mod ledger;
mod loopiq;
mod process;
mod rules;
mod sea;
mod world;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::check::Seen;
use crate::check::check;
use crate::flaw::Flaw;
use crate::sea::Weather;
use crate::world::Setup;

/// Seeds that are run when nobody says otherwise.
const SEEDS: u64 = 1_000;
/// After so many broken seeds, no more are run.
const BROKEN_MAX: usize = 3;

#[expect(clippy::disallowed_methods, reason = "which seeds are run is said from outside")]
fn said(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// A seed, and the promises that it broke.
type Broken = (u64, Vec<String>);

/// Runs seeds on every processor, until some of them break a promise.
fn run_all(seeds: Range<u64>, setup: Setup) -> (Seen, Vec<Broken>) {
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let (saw, broken) = (Mutex::new(Seen::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || broken.lock().unwrap().len() >= BROKEN_MAX {
                        return;
                    }
                    let world = world::run(seed, setup);
                    if setup.tale {
                        println!("{}", world.sea.tale());
                    }
                    let (wrong, of_world) = check(&world);
                    saw.lock().unwrap().add(&of_world);
                    if !wrong.is_empty() {
                        broken.lock().unwrap().push((seed, wrong));
                    }
                }
            });
        }
    });
    (saw.into_inner().unwrap(), broken.into_inner().unwrap())
}

#[track_caller]
fn assert_kept(broken: &[Broken]) {
    let words = |(seed, wrong): &Broken| format!("SIM_SEED={seed}:\n  {}", wrong.join("\n  "));
    assert!(broken.is_empty(), "promises were broken\n{}", broken.iter().map(words).collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_write_happens_once_on_exactly_what_was_approved_whatever_goes_wrong() {
    if let Some(seed) = said("SIM_SEED") {
        let (seen, broken) = run_all(seed..seed + 1, Setup { tale: true, ..Setup::default() });
        println!("{seen:?}");
        return assert_kept(&broken);
    }
    let seeds = said("SIM_SEEDS").unwrap_or(SEEDS);
    let (seen, broken) = run_all(0..seeds, Setup::default());
    println!("{seeds} seeds: {seen:?}");
    assert_kept(&broken);
    let Seen { replayed, in_flight, unknown, drift, approved, by_resend, by_lookup, by_people, .. } = seen;
    let storm =
        [replayed, in_flight, unknown, drift, approved, by_resend, by_lookup, by_people, seen.deaths, seen.freezes];
    assert!(seeds < SEEDS || storm.iter().all(|count| *count > 20), "that was no storm: {seen:?}");
}

#[test]
fn a_crash_at_any_step_leaves_nothing_half_done_and_nothing_done_twice() {
    for tool in rules::TOOLS {
        for step in 1..=if tool.high { 64 } else { 32 } {
            let setup = Setup { dies_at: Some(step), tool: Some(tool.name), ..Setup::default() };
            let (seen, broken) = run_all(step..step + 1, setup);
            assert!(broken.is_empty(), "{} died at step {step}: {broken:?}", tool.name);
            assert!(seen.deaths > 0, "{} never came to step {step}", tool.name);
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let [one, other] = [0, 1].map(|_| {
            let world = world::run(seed, Setup { tale: true, ..Setup::default() });
            world.sea.tale()
        });
        assert!(one == other, "seed {seed}");
    }
}

/// The checker finds this promise broken in one of the first worlds made so.
#[track_caller]
fn assert_seen(promise: u8, setup: Setup) {
    let word = format!("promise {promise},");
    let found = (0..400).any(|seed| check(&world::run(seed, setup)).0.iter().any(|line| line.starts_with(&word)));
    assert!(found, "the checker does not see it");
}

#[test]
fn the_checker_sees_a_ledger_that_forgets() {
    assert_seen(1, Setup { flaw: Some(Flaw::LedgerForgetsSent), ..Setup::default() });
}

#[test]
fn the_checker_sees_a_ledger_that_gives_out_again_what_its_lease_ran_out_on() {
    assert_seen(1, Setup { flaw: Some(Flaw::LeaseMeansAgain), ..Setup::default() });
}

#[test]
fn the_checker_sees_a_ledger_that_takes_a_settlement_from_whoever_was_left_behind() {
    // Whoever stood still holds a no that would have been a yes a moment later, and was for another.
    let weather = Some(Weather { busy: 500, ..Weather::CALM });
    assert_seen(7, Setup { flaw: Some(Flaw::LedgerWithoutFences), weather, tool: Some("low_key"), ..Setup::default() });
}

#[test]
fn the_checker_sees_an_approval_that_is_never_used_up() {
    assert_seen(4, Setup { flaw: Some(Flaw::ApprovalForEver), ..Setup::default() });
}

#[test]
fn the_checker_sees_a_client_of_the_backend_that_sends_again() {
    assert_seen(1, Setup { flaw: Some(Flaw::SendsAgain), ..Setup::default() });
}

#[test]
fn the_checker_sees_a_client_of_the_backend_that_sends_what_others_have_given_up() {
    let (weather, stands) = (Some(Weather::CALM), Some(Duration::from_secs(100)));
    let tool = Some("low_books");
    assert_seen(7, Setup { flaw: Some(Flaw::SendsTooLate), weather, stands, tool, ..Setup::default() });
}

#[test]
fn the_checker_sees_a_gateway_that_takes_what_is_on_its_way_for_lost() {
    let weather = Some(Weather { late: 700, ..Weather::CALM });
    assert_seen(7, Setup { flaw: Some(Flaw::Hasty), weather, tool: Some("low_books"), ..Setup::default() });
}

#[test]
fn the_checker_sees_a_backend_that_does_not_honour_its_keys() {
    assert_seen(1, Setup { flaw: Some(Flaw::DishonoursKeys), ..Setup::default() });
}

#[test]
fn the_checker_sees_a_journal_that_forgets() {
    assert_seen(3, Setup { flaw: Some(Flaw::JournalForgets), ..Setup::default() });
    assert_seen(5, Setup { flaw: Some(Flaw::JournalForgets), ..Setup::default() });
}
