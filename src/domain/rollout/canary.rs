//! A candidate that decides a part of the calls: for whom, and when it is taken back.
//!
//! Promises: the same caller gets the same policy for as long as a canary runs, whatever they ask
//! and however often; a canary is judged by calls that both policies were asked about, over a window
//! of time, or longer where little happens. Never decides a call. Called by `pep::rules` and
//! `pep::shadow`.

use serde::{Deserialize, Serialize};

use crate::domain::canonical;

/// Parts that a window is counted in.
const SLOTS: i64 = 10;

/// Which callers a canary decides about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Of all callers, in percent.
    pub percent: u8,
    /// And all callers of these organisations.
    pub tenants: Vec<String>,
}

impl Share {
    /// Whether it names nobody, or more than everybody.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        (self.percent == 0 && self.tenants.is_empty()) || self.percent > 100
    }

    /// Whether a caller is one of them. `salt` is the candidate's: another canary meets other callers.
    #[must_use]
    pub fn takes(&self, salt: &str, tenant: &str, issuer: &str, user: &str) -> bool {
        if self.tenants.iter().any(|one| one == tenant) {
            return true;
        }
        percentile(&[salt, tenant, issuer, user]) < u64::from(self.percent) * 100
    }

    /// `10 % of all callers and org_gcn`.
    #[must_use]
    pub fn words(&self) -> String {
        let share = (self.percent > 0).then(|| format!("{} % of all callers", self.percent));
        let tenants = (!self.tenants.is_empty()).then(|| self.tenants.join(", "));
        share.into_iter().chain(tenants).collect::<Vec<_>>().join(" and ")
    }
}

/// A place from 0 to 9,999 for what the parts name: the same for the same parts, and evenly spread.
#[must_use]
pub fn percentile(parts: &[&str]) -> u64 {
    let mut bytes = Vec::new();
    for part in parts {
        // Lengths stand before parts, so that no two lists of parts have the same bytes.
        bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    let digest = canonical::digest(&bytes);
    let first = digest.get(..15).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    first.unwrap_or_default() % 10_000
}

/// When a canary is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Decisions before it is judged.
    pub least: u64,
    /// Share of its calls that it and the live policy may be at odds about, in percent.
    pub band: u8,
    /// Share of its decisions that may fail, in percent.
    pub errors: u8,
    /// Milliseconds over which the shares are counted.
    pub window_ms: i64,
}

/// What a canary decided, and what the live policy says of the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Decisions of the canary, of every phase.
    pub decisions: u64,
    /// Those that could not be made.
    pub faults: u64,
    /// Those about calls.
    pub calls: u64,
    /// Calls that it denied or would not know of.
    pub denied: u64,
    /// Calls that the live policy denies or would not know of.
    pub live_denied: u64,
    /// Calls that one of the two denies and the other does not.
    pub differ: u64,
}

/// One decision of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// What both say of it, if it was about a call.
    pub call: Option<Denied>,
    /// Whether it could not be made.
    pub fault: bool,
}

/// Who says no to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// The canary does.
    pub by_canary: bool,
    /// The live policy does.
    pub by_live: bool,
}

impl Counts {
    fn note(&mut self, one: Compared) {
        let add = |count: &mut u64, yes: bool| *count = count.saturating_add(u64::from(yes));
        add(&mut self.decisions, true);
        add(&mut self.faults, one.fault);
        add(&mut self.calls, one.call.is_some());
        add(&mut self.denied, one.call.is_some_and(|denied| denied.by_canary));
        add(&mut self.live_denied, one.call.is_some_and(|denied| denied.by_live));
        add(&mut self.differ, one.call.is_some_and(|denied| denied.by_live != denied.by_canary));
    }

    fn plus(self, other: Self) -> Self {
        Self {
            decisions: self.decisions.saturating_add(other.decisions),
            faults: self.faults.saturating_add(other.faults),
            calls: self.calls.saturating_add(other.calls),
            denied: self.denied.saturating_add(other.denied),
            live_denied: self.live_denied.saturating_add(other.live_denied),
            differ: self.differ.saturating_add(other.differ),
        }
    }

    /// What they say of the canary.
    #[must_use]
    pub fn judge(&self, limits: &Limits) -> Judgement {
        if self.decisions < limits.least.max(1) {
            return Judgement::TooEarly;
        }
        // Whole numbers: a share is above a percentage when a hundred times the part is above that many wholes.
        let beyond =
            |part: u64, whole: u64, percent: u8| u128::from(part) * 100 > u128::from(whole) * u128::from(percent);
        if beyond(self.faults, self.decisions, limits.errors) {
            return Judgement::Faulty;
        }
        // WHY not the difference of the two sums: what is newly allowed would hide behind what is newly denied.
        if beyond(self.differ, self.calls, limits.band) {
            return Judgement::OutOfBand;
        }
        Judgement::Within
    }

    /// `31 of 62 calls denied, 0 by the live policy, 31 by one of them only; 0 of 124 decisions failed`.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { decisions, faults, calls, denied, live_denied, differ } = self;
        format!(
            "{denied} of {calls} calls denied, {live_denied} by the live policy, {differ} by one of them only; \
             {faults} of {decisions} decisions failed"
        )
    }
}

/// What is to become of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It has decided too little.
    TooEarly,
    /// Nothing speaks against it.
    Within,
    /// It is at odds with the live policy about too many calls.
    OutOfBand,
    /// Too many of its decisions could not be made.
    Faulty,
}

impl Judgement {
    /// The name as records have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooEarly => "too_early",
            Self::Within => "within",
            Self::OutOfBand => "out_of_band",
            Self::Faulty => "faulty",
        }
    }

    /// Whether the canary must go.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::OutOfBand | Self::Faulty)
    }
}

/// Counts of the last stretch of time.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// Number of the stretch's part, and what was counted in it.
    slots: Vec<(i64, Counts)>,
}

impl Window {
    /// Counts one decision made at `now_ms`.
    pub fn note(&mut self, now_ms: i64, limits: &Limits, one: Compared) {
        let slot = Self::slot(now_ms, limits);
        if !self.slots.iter().any(|(at, _)| *at == slot) {
            self.slots.push((slot, Counts::default()));
        }
        self.slots.iter_mut().filter(|(at, _)| *at == slot).for_each(|(_, counts)| counts.note(one));
        self.slots.sort_unstable_by_key(|(at, _)| std::cmp::Reverse(*at));
        let kept = self.counted(slot, limits).copied().collect();
        self.slots = kept;
    }

    /// What was counted within the window that ends at `now_ms`; and before it, as far back as it
    /// takes to have enough to judge by.
    #[must_use]
    pub fn counts(&self, now_ms: i64, limits: &Limits) -> Counts {
        let now = Self::slot(now_ms, limits);
        self.counted(now, limits).fold(Counts::default(), |sum, (_, one)| sum.plus(*one))
    }

    fn slot(now_ms: i64, limits: &Limits) -> i64 {
        now_ms.div_euclid((limits.window_ms / SLOTS).max(1))
    }

    /// The parts that count, the latest first.
    ///
    /// WHY beyond the window: a canary with few calls would never be judged, however bad it is. WHY
    /// none far ahead of now: a clock that was set back must not keep old counts for ever.
    fn counted(&self, now: i64, limits: &Limits) -> impl Iterator<Item = &(i64, Counts)> {
        let mut decisions = 0_u64;
        let known = self.slots.iter().filter(move |(at, _)| at.saturating_sub(now) < SLOTS);
        known.take_while(move |(at, one)| {
            let counts = now.saturating_sub(*at) < SLOTS || decisions < limits.least;
            decisions = decisions.saturating_add(one.decisions);
            counts
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { least: 100, band: 5, errors: 0, window_ms: 600_000 };

    fn counts(calls: u64, denied: u64, live_denied: u64) -> Counts {
        Counts { decisions: calls, faults: 0, calls, denied, live_denied, differ: denied.abs_diff(live_denied) }
    }

    #[test]
    fn a_share_takes_about_its_percentage_of_callers_and_always_the_same_ones() {
        let share = Share { percent: 10, tenants: vec!["org_all".to_owned()] };
        let taken = |salt: &str| -> Vec<bool> {
            (0..5_000).map(|n| share.takes(salt, "org_gcn", "https://people", &format!("user-{n}"))).collect()
        };
        let first = taken("one");
        let count = first.iter().filter(|taken| **taken).count();
        assert!((400..=600).contains(&count), "{count} of 5000");
        assert_eq!(first, taken("one"));
        assert_ne!(first, taken("two"), "another canary meets other callers");
        assert!((0..100).all(|n| share.takes("one", "org_all", "i", &format!("user-{n}"))));
        let everybody = Share { percent: 100, tenants: Vec::new() };
        assert!((0..100).all(|n| everybody.takes("one", "org_gcn", "i", &format!("user-{n}"))));
        let nobody = Share { percent: 0, tenants: vec!["org_all".to_owned()] };
        assert!(!(0..100).any(|n| nobody.takes("one", "org_gcn", "i", &format!("user-{n}"))));
    }

    #[test]
    fn names_that_run_together_are_different_callers() {
        assert_ne!(percentile(&["ab", "c"]), percentile(&["a", "bc"]));
    }

    #[test]
    fn a_canary_is_judged_by_both_sides_of_its_band_and_not_before_it_decided_enough() {
        assert_eq!(counts(99, 99, 0).judge(&LIMITS), Judgement::TooEarly);
        assert_eq!(counts(100, 50, 0).judge(&LIMITS), Judgement::OutOfBand);
        assert_eq!(counts(100, 0, 50).judge(&LIMITS), Judgement::OutOfBand, "what lets more through is as strange");
        assert_eq!(counts(100, 55, 50).judge(&LIMITS), Judgement::Within, "the edge is within");
        assert_eq!(counts(100, 56, 50).judge(&LIMITS), Judgement::OutOfBand);
        let failing = Counts { faults: 1, ..counts(100, 0, 0) };
        assert_eq!(failing.judge(&LIMITS), Judgement::Faulty);
        assert_eq!(failing.judge(&Limits { errors: 1, ..LIMITS }), Judgement::Within);
    }

    #[test]
    fn old_decisions_leave_the_window_and_a_clock_set_back_keeps_none() {
        let one = Compared { call: Some(Denied { by_canary: true, by_live: false }), fault: false };
        let limits = Limits { least: 1, window_ms: 1_000, ..LIMITS };
        let mut window = Window::default();
        window.note(0, &limits, one);
        window.note(950, &limits, one);
        assert_eq!(window.counts(950, &limits).denied, 2);
        assert_eq!(window.counts(1_050, &limits).denied, 1);
        window.note(-50_000, &limits, one);
        assert_eq!(window.counts(-50_000, &limits).denied, 1);
    }

    #[test]
    fn a_canary_that_allows_as_many_calls_as_it_denies_anew_is_out_of_its_band() {
        let mut counts = Counts::default();
        for n in 0..200 {
            let denied = Denied { by_canary: n % 2 == 0, by_live: n % 2 == 1 };
            counts.note(Compared { call: Some(denied), fault: false });
        }
        assert_eq!((counts.denied, counts.live_denied), (100, 100), "the same share of denials");
        assert_eq!(counts.judge(&LIMITS), Judgement::OutOfBand);
    }

    /// One call in three minutes never makes a hundred in ten.
    #[test]
    fn a_canary_is_judged_once_it_decided_enough_however_long_that_takes() {
        let one = Compared { call: Some(Denied { by_canary: true, by_live: false }), fault: false };
        let mut window = Window::default();
        for n in 0..99 {
            window.note(n * 180_000, &LIMITS, one);
        }
        assert_eq!(window.counts(99 * 180_000, &LIMITS).judge(&LIMITS), Judgement::TooEarly);
        window.note(99 * 180_000, &LIMITS, one);
        assert_eq!(window.counts(99 * 180_000, &LIMITS).judge(&LIMITS), Judgement::OutOfBand);
        // A busy window needs nothing of what came before it.
        for _ in 0..100 {
            window.note(1_000 * 180_000, &LIMITS, Compared { call: None, fault: false });
        }
        assert_eq!(window.counts(1_000 * 180_000, &LIMITS).denied, 0);
        assert_eq!(window.slots.len(), 1);
    }
}
