//! How often refusals of strangers get a record of their own.
//!
//! Promises: a stranger cannot fill the disk: above a rate, refusals are counted and the count goes
//! into the next record, so that none is lost from sight. Never delays an answer. Called by `pep`.

use std::collections::HashMap;
use std::sync::Mutex;

/// Records of their own that may come at once.
const BURST: f64 = 200.0;
/// Records of their own per second after that.
const PER_SECOND: f64 = 20.0;
/// Organisations that are told apart; beyond that those share who cannot be forgotten.
const TENANTS_MAX: usize = 4_096;

/// A token bucket, with a count of what it swallowed.
#[derive(Debug)]
pub struct Refused {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: f64,
    at_ms: i64,
    swallowed: u64,
}

impl Refused {
    /// A full bucket.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Mutex::new(State { tokens: BURST, at_ms: 0, swallowed: 0 }) }
    }

    /// `Some(n)`: write a record, which stands for `n` refusals before it too. `None`: only count.
    pub(super) fn record_now(&self, now_ms: i64) -> Option<u64> {
        let mut state = self.state.lock().ok()?;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds between two refusals")]
        let passed_s = (now_ms - state.at_ms).max(0) as f64 / 1000.0;
        state.tokens = passed_s.mul_add(PER_SECOND, state.tokens).min(BURST);
        state.at_ms = now_ms;
        if state.tokens < 1.0 {
            state.swallowed += 1;
            return None;
        }
        state.tokens -= 1.0;
        Some(std::mem::take(&mut state.swallowed))
    }

    /// Whether a new one would do the same.
    fn is_at_rest(&self, now_ms: i64) -> bool {
        self.state.lock().is_ok_and(|state| {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds between two refusals")]
            let passed_s = (now_ms - state.at_ms).max(0) as f64 / 1000.0;
            state.swallowed == 0 && passed_s.mul_add(PER_SECOND, state.tokens) >= BURST
        })
    }
}

/// The same for callers beyond their rates, for each organisation apart: one that floods hides no other.
#[derive(Debug, Default)]
pub(super) struct Flooded(Mutex<HashMap<String, Refused>>);

impl Flooded {
    /// As [`Refused::record_now`], counting refusals of this organisation only.
    pub(super) fn record_now(&self, tenant: &str, now_ms: i64) -> Option<u64> {
        let mut tenants = self.0.lock().ok()?;
        if tenants.len() >= TENANTS_MAX && !tenants.contains_key(tenant) {
            tenants.retain(|_, refused| !refused.is_at_rest(now_ms));
        }
        let tenant = if tenants.len() >= TENANTS_MAX && !tenants.contains_key(tenant) { "" } else { tenant };
        tenants.entry(tenant.to_owned()).or_default().record_now(now_ms)
    }
}

impl Default for Refused {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organisation_that_floods_hides_no_refusal_of_another_and_memory_is_bounded() {
        let flooded = Flooded::default();
        let written = (0..10_000).filter(|_| flooded.record_now("org_a", 1_000_000).is_some()).count();
        assert!(written < 300, "{written} records");
        assert_eq!(flooded.record_now("org_b", 1_000_000), Some(0));
        for tenant in 0..3 * TENANTS_MAX {
            flooded.record_now(&tenant.to_string(), 1_000_000);
        }
        assert!(flooded.0.lock().unwrap().len() <= TENANTS_MAX + 1);
        let swallowed = flooded.record_now("org_a", 1_000_000 + 60_000).unwrap();
        assert_eq!(swallowed, 10_000 - written as u64, "none is lost from sight");
    }

    #[test]
    fn a_flood_of_bad_tokens_is_counted_and_no_refusal_is_lost_from_sight() {
        let refused = Refused::new();
        let mut written = 0;
        let mut stood_for = 0;
        for n in 0..10_000 {
            if let Some(before) = refused.record_now(1_000_000 + n / 100) {
                written += 1;
                stood_for += before;
            }
        }
        assert!(written < 300, "{written} records");
        let last = refused.record_now(1_000_000 + 60_000).unwrap();
        assert_eq!(written + stood_for + last, 10_000);
    }
}
