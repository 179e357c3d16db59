//! How many reads may be tried again.
//!
//! Promises: pure, the time is a value; one read in five may be tried again, and three a second
//! besides, so that a backend in trouble gets little more than it is asked for. Called by
//! [`super::carry`].

use tokio::time::Instant;

/// What one read earns.
const PER_READ: f64 = 0.2;
/// What a second earns.
const PER_SECOND: f64 = 3.0;
/// The most that is saved up.
const SAVED_MAX: f64 = 30.0;

/// One backend's budget.
#[derive(Debug)]
pub(super) struct Budget {
    saved: f64,
    looked: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { saved: PER_SECOND, looked: now }
    }

    /// A read was asked for.
    pub(super) fn read(&mut self, now: Instant) {
        self.earn(now, PER_READ);
    }

    /// Takes leave to try one again, if there is any.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.earn(now, 0.0);
        let may = self.saved >= 1.0;
        if may {
            self.saved -= 1.0;
        }
        may
    }

    fn earn(&mut self, now: Instant, earned: f64) {
        let seconds = now.saturating_duration_since(self.looked).as_secs_f64();
        self.looked = now;
        self.saved = (self.saved + earned + seconds * PER_SECOND).min(SAVED_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn taken(budget: &mut Budget, now: Instant) -> usize {
        (0..1_000).take_while(|_| budget.take(now)).count()
    }

    #[test]
    fn three_a_second_may_be_tried_again_however_few_are_asked_for() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert_eq!(taken(&mut budget, now), 3);
        assert_eq!(taken(&mut budget, now + Duration::from_secs(1)), 3);
        assert_eq!(taken(&mut budget, now + Duration::from_secs(2)), 3);
    }

    #[test]
    fn one_read_in_five_may_be_tried_again_and_no_store_is_laid_up() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert_eq!(taken(&mut budget, now), 3);
        (0..50).for_each(|_| budget.read(now));
        let again = taken(&mut budget, now);
        assert!((9..=10).contains(&again), "{again} of 50");
        (0..10_000).for_each(|_| budget.read(now));
        assert_eq!(taken(&mut budget, now + Duration::from_hours(1)), 30);
    }
}
