//! How often refusals of strangers get a record of their own.
//!
//! Promises: a stranger cannot fill the disk: above a rate, refusals are counted and the count goes
//! into the next record, so that none is lost from sight. Never delays an answer. Called by `pep`.

use std::sync::Mutex;

/// Records of their own that may come at once.
const BURST: f64 = 200.0;
/// Records of their own per second after that.
const PER_SECOND: f64 = 20.0;

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
