//! Rates: how many calls may go through, by the time that the caller tells.
//!
//! Promises: between any two moments no more than the burst and what the rate gives in that time,
//! whatever the schedule; whole numbers only, so that nothing drifts; a clock that steps back gives
//! nothing, and nobody waits for it to catch up for longer than [`SKEW_MS`]. A full bucket may be
//! forgotten: it is what an unknown key gets. Never reads a clock and keeps nothing.
//! Called by `config`, `pep` and the counters among the adapters.

use std::collections::BTreeMap;

use crate::domain::canonical;

/// Steps back of a clock that are waited out; after a longer one the clock was set, and is believed.
pub const SKEW_MS: u64 = 5_000;
/// Most calls that a rate or a burst may name; with it every product below fits in 53 bits, which is
/// what a script in a shared store can count with.
const CALLS_MAX: u64 = 1_000_000_000;

/// So many calls in so much time, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    calls: u64,
    window_ms: u64,
    burst: u64,
}

impl Rate {
    /// `calls` in `window_ms`, at most `burst` at once; none where one of them is 0 or beyond bounds.
    #[must_use]
    pub fn new(calls: u64, window_ms: u64, burst: u64) -> Option<Self> {
        let sound = |number: u64| (1..=CALLS_MAX).contains(&number);
        let good = sound(calls) && sound(burst) && (1..=60_000).contains(&window_ms);
        good.then_some(Self { calls, window_ms, burst })
    }

    /// What a bucket gains in a millisecond.
    #[must_use]
    pub const fn calls(&self) -> u64 {
        self.calls
    }

    /// What one call costs.
    #[must_use]
    pub const fn window_ms(&self) -> u64 {
        self.window_ms
    }

    /// Calls that a full bucket is good for.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// What a full bucket holds.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.burst.saturating_mul(self.window_ms)
    }

    /// Milliseconds until an empty bucket is full.
    #[must_use]
    pub const fn full_ms(&self) -> u64 {
        self.capacity().div_ceil(self.calls)
    }
}

/// What one key has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    units: u64,
    at_ms: u64,
}

/// What came of a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Calls that may go through.
    pub calls: u64,
    /// When there are none: milliseconds until there is one.
    pub wait_ms: u64,
}

/// Whether one call may go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allowed,
    /// Not before so many milliseconds have passed.
    Wait(u64),
}

impl From<Grant> for Verdict {
    fn from(grant: Grant) -> Self {
        if grant.calls > 0 { Self::Allowed } else { Self::Wait(grant.wait_ms.max(1)) }
    }
}

impl Bucket {
    /// What a key has that nobody knows yet.
    #[must_use]
    pub const fn full(rate: &Rate, now_ms: u64) -> Self {
        Self { units: rate.capacity(), at_ms: now_ms }
    }

    /// Takes up to `want` calls.
    pub fn draw(&mut self, rate: &Rate, now_ms: u64, want: u64) -> Grant {
        self.fill(rate, now_ms);
        let calls = want.min(self.units / rate.window_ms);
        self.units -= calls * rate.window_ms;
        let missing = rate.window_ms.saturating_sub(self.units).div_ceil(rate.calls);
        let wait_ms = if calls == 0 { missing.saturating_add(self.at_ms.saturating_sub(now_ms)) } else { 0 };
        Grant { calls, wait_ms }
    }

    /// Takes a call that has been made already, as far as there is one.
    pub fn spend(&mut self, rate: &Rate, now_ms: u64) {
        self.fill(rate, now_ms);
        self.units = self.units.saturating_sub(rate.window_ms);
    }

    /// Milliseconds until it is full, and as good as forgotten.
    #[must_use]
    pub const fn full_in_ms(&self, rate: &Rate, now_ms: u64) -> u64 {
        let missing = rate.capacity().saturating_sub(self.units).div_ceil(rate.calls);
        self.at_ms.saturating_add(missing).saturating_sub(now_ms)
    }

    fn fill(&mut self, rate: &Rate, now_ms: u64) {
        if now_ms < self.at_ms {
            if self.at_ms - now_ms > SKEW_MS {
                self.at_ms = now_ms;
            }
            return;
        }
        // WHY the bound: more than that fills any bucket, and an age must not overflow.
        let passed = (now_ms - self.at_ms).min(rate.full_ms());
        self.units = self.units.saturating_add(passed.saturating_mul(rate.calls)).min(rate.capacity());
        self.at_ms = now_ms;
    }
}

/// Whose calls are counted together: a digest, so that a shared store learns no names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// The key of these parts at this rate. A changed rate is another key, for what was counted at
    /// the old one means nothing at the new.
    #[must_use]
    pub fn of(kind: &str, rate: &Rate, parts: &[&str]) -> Self {
        let named = (kind, rate.calls, rate.window_ms, rate.burst, parts);
        // INVARIANT: strings and numbers always have a JSON form, in which no two keys are alike.
        Self(canonical::digest(&serde_json::to_vec(&named).unwrap_or_default()))
    }

    /// Lower-case hex of SHA-256.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is limited, and how far; what is none is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rates {
    /// Messages for one organisation.
    pub tenant: Option<Rate>,
    /// Messages of one caller in one organisation.
    pub user: Option<Rate>,
    /// Calls of one tool in one organisation.
    pub tool: Option<Rate>,
    /// Failed credentials of one address.
    pub failures: Option<Rate>,
    /// Calls that policy puts in a class, by its name: of one caller in one organisation.
    pub classes: BTreeMap<String, Rate>,
    /// Messages under way at once for one organisation, in one process.
    pub concurrent: Option<usize>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(calls: u64, window_ms: u64, burst: u64) -> Rate {
        Rate::new(calls, window_ms, burst).unwrap()
    }

    #[test]
    fn a_burst_goes_through_and_then_the_rate() {
        let rate = rate(60, 60_000, 3);
        let mut bucket = Bucket::full(&rate, 0);
        let answers: Vec<u64> = (0..5).map(|_| bucket.draw(&rate, 10, 1).calls).collect();
        assert_eq!(answers, [1, 1, 1, 0, 0]);
        assert_eq!(bucket.draw(&rate, 10, 1), Grant { calls: 0, wait_ms: 1_000 });
        assert_eq!(bucket.draw(&rate, 1_009, 1), Grant { calls: 0, wait_ms: 1 });
        assert_eq!(bucket.draw(&rate, 1_010, 1).calls, 1);
        assert_eq!(bucket.full_in_ms(&rate, 1_010), 3_000);
        assert_eq!(Verdict::from(Grant { calls: 0, wait_ms: 0 }), Verdict::Wait(1), "a wait is never nothing");
    }

    #[test]
    fn what_was_made_already_is_paid_for_by_those_who_come_later() {
        let rate = rate(1, 1_000, 2);
        let mut bucket = Bucket::full(&rate, 0);
        (0..5).for_each(|_| bucket.spend(&rate, 0));
        assert_eq!(bucket.draw(&rate, 0, 1).wait_ms, 1_000, "and never for more than there was");
    }

    #[test]
    fn a_clock_that_was_set_back_stops_nobody_for_long() {
        let rate = rate(10, 1_000, 10);
        let mut bucket = Bucket::full(&rate, 1_000_000);
        assert_eq!(bucket.draw(&rate, 1_000_000, 20).calls, 10);
        let set_back = bucket.draw(&rate, 400_000, 1);
        assert_eq!(set_back, Grant { calls: 0, wait_ms: 100 });
        assert_eq!(bucket.draw(&rate, 400_100, 1).calls, 1);
        // A small step is waited out.
        assert_eq!(bucket.draw(&rate, 399_900, 1), Grant { calls: 0, wait_ms: 300 });
    }

    #[test]
    fn a_rate_that_means_nothing_is_none() {
        for (calls, window_ms, burst) in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 60_001, 1), (u64::MAX, 1, 1)] {
            assert!(Rate::new(calls, window_ms, burst).is_none());
        }
    }

    #[test]
    fn no_two_keys_are_alike() {
        let (one, other) = (rate(1, 1_000, 1), rate(2, 1_000, 1));
        let keys = [
            Key::of("user", &one, &["a", "bc"]),
            Key::of("user", &one, &["ab", "c"]),
            Key::of("user", &one, &["abc"]),
            Key::of("tool", &one, &["abc"]),
            Key::of("tool", &other, &["abc"]),
            Key::of("user", &one, &["a\",\"bc"]),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Steps of the clock, forwards and back, with what is wanted at each.
        #[test]
        fn never_more_than_the_burst_and_what_the_rate_gives_in_any_window(
            calls in 1_u64..500, window_ms in 1_u64..60_000, burst in 1_u64..50,
            steps in prop::collection::vec((prop_oneof![4 => 0_i64..2_000, 1 => -20_000_i64..0, 1 => 0_i64..10_000_000], 1_u64..20), 1..40),
        ) {
            let rate = rate(calls, window_ms, burst);
            let mut now_ms = 50_000_000_i64;
            let mut bucket = Bucket::full(&rate, now_ms.unsigned_abs());
            let mut draws = Vec::new();
            for (step, want) in steps {
                now_ms += step;
                let grant = bucket.draw(&rate, now_ms.unsigned_abs(), want);
                prop_assert!(grant.calls <= want && (grant.calls > 0 || grant.wait_ms > 0));
                draws.push((u64::try_from(step).unwrap_or(0), grant.calls));
            }
            for first in 0..draws.len() {
                let (mut passed, mut taken) = (0, 0);
                for (nth, (step, calls_taken)) in draws[first..].iter().enumerate() {
                    // The window begins with its first draw.
                    passed += if nth == 0 { 0 } else { *step };
                    taken += calls_taken;
                    prop_assert!(taken * window_ms <= rate.capacity() + passed * calls, "{taken} in {passed} ms");
                }
            }
        }

        #[test]
        fn who_waits_as_long_as_told_gets_through(
            calls in 1_u64..500, window_ms in 1_u64..60_000, burst in 1_u64..50, back in 0_u64..10_000,
        ) {
            let rate = rate(calls, window_ms, burst);
            let mut bucket = Bucket::full(&rate, 100_000);
            bucket.draw(&rate, 100_000, burst);
            let now_ms = 100_000 - back;
            let told = bucket.draw(&rate, now_ms, 1);
            prop_assert_eq!(told.calls, 0);
            prop_assert_eq!(bucket.draw(&rate, now_ms + told.wait_ms - 1, 1).calls, 0);
            prop_assert_eq!(bucket.draw(&rate, now_ms + told.wait_ms, 1).calls, 1);
        }
    }
}
