//! How many exchanges with a backend may be under way: a limit that follows how it fares.
//!
//! Promises: pure, the time is a value; between `min` and `max`, always. It grows while answers come
//! as fast as they use to, shrinks when they come slower (the gradient of Netflix' limiter), and
//! faster when they do not come at all. Called by [`super::queue`].

use std::time::Duration;

use tokio::time::Instant;

/// Where it begins, unless the bounds say otherwise.
const START: f64 = 32.0;
/// How much slower than usual is slow.
const TOLERANCE: f64 = 2.0;
/// What is added while answers come as fast as usual.
const GROWTH: f64 = 4.0;
/// Weight of one answer in the limit.
const WEIGHT: f64 = 0.2;
/// Answers over which the usual time is taken.
const USUAL_OVER: f64 = 600.0;
/// What is left after a loss.
const AFTER_LOSS: f64 = 0.8;
/// Losses within this time are one: what was sent together is lost together.
const ONE_LOSS: Duration = Duration::from_millis(500);

/// One backend's limit.
#[derive(Debug)]
pub(super) struct Limit {
    min: f64,
    max: f64,
    limit: f64,
    usual_s: f64,
    lost: Option<Instant>,
}

impl Limit {
    pub(super) fn new(min: u16, max: u16) -> Self {
        let (min, max) = (f64::from(min.max(1)), f64::from(max.max(min).max(1)));
        Self { min, max, limit: START.clamp(min, max), usual_s: 0.0, lost: None }
    }

    /// Whole exchanges that may be under way.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 65535 by construction")]
    pub(super) fn whole(&self) -> usize {
        self.limit as usize
    }

    /// An answer took this long, while so many were under way.
    pub(super) fn answered(&mut self, took: Duration, under_way: usize) {
        let took_s = took.as_secs_f64().max(1e-6);
        if self.usual_s == 0.0 {
            self.usual_s = took_s;
        }
        self.usual_s += (took_s - self.usual_s) / USUAL_OVER;
        if self.usual_s > took_s * TOLERANCE {
            // After a long slow spell, what is usual finds back sooner than its many answers would let it.
            self.usual_s *= 0.95;
        }
        // WHY: who uses less than half of it learns nothing about it.
        if under_way.saturating_mul(2) < self.whole() {
            return;
        }
        let gradient = (TOLERANCE * self.usual_s / took_s).clamp(0.5, 1.0);
        let next = self.limit * gradient + GROWTH;
        self.limit = (self.limit * (1.0 - WEIGHT) + next * WEIGHT).clamp(self.min, self.max);
    }

    /// No answer came, or one that says "too much".
    pub(super) fn lost(&mut self, now: Instant) {
        if self.lost.is_some_and(|before| now < before + ONE_LOSS) {
            return;
        }
        self.lost = Some(now);
        self.limit = (self.limit * AFTER_LOSS).clamp(self.min, self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A backend that does 32 at once in 10 ms each; more than that wait for each other.
    fn under_load(limit: &mut Limit, rounds: usize) {
        for _ in 0..rounds {
            let under_way = limit.whole();
            let queued = under_way.div_ceil(32);
            limit.answered(Duration::from_millis(10) * u32::try_from(queued).unwrap(), under_way);
        }
    }

    #[test]
    fn it_grows_while_answers_stay_fast_and_stops_where_they_get_slow() {
        let mut limit = Limit::new(4, 1_000);
        limit.answered(Duration::from_millis(10), 0);
        under_load(&mut limit, 300);
        assert!((32..=128).contains(&limit.whole()), "{}", limit.whole());
    }

    #[test]
    fn it_stays_where_it_is_while_hardly_anything_is_asked_for() {
        let mut limit = Limit::new(4, 1_000);
        (0..1_000).for_each(|_| limit.answered(Duration::from_millis(10), 3));
        assert_eq!(limit.whole(), 32);
    }

    #[test]
    fn losses_shrink_it_once_for_each_wave_and_never_below_its_floor() {
        let mut limit = Limit::new(4, 1_000);
        let mut now = Instant::now();
        (0..100).for_each(|_| limit.lost(now));
        assert_eq!(limit.whole(), 25);
        for _ in 0..100 {
            now += ONE_LOSS;
            limit.lost(now);
        }
        assert_eq!(limit.whole(), 4);
        under_load(&mut limit, 100);
        assert!(limit.whole() > 16, "it finds back: {}", limit.whole());
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_bounds(
            min in 1u16..50,
            more in 0u16..200,
            events in prop::collection::vec((0u64..40_000_000, 0usize..500, any::<bool>()), 0..200),
        ) {
            let max = min + more;
            let mut limit = Limit::new(min, max);
            let mut now = Instant::now();
            for (micros, under_way, lost) in events {
                now += Duration::from_micros(micros);
                if lost { limit.lost(now) } else { limit.answered(Duration::from_micros(micros), under_way) }
                prop_assert!((usize::from(min)..=usize::from(max)).contains(&limit.whole()));
            }
        }
    }
}
