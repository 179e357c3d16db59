//! How long no copy of a lost write can have been on its way, as far as this process knows.
//!
//! Promises: counted by a clock that nobody sets; begins anew whenever a copy was sent without an
//! answer, and whenever somebody else had the write meanwhile. Forgetting is safe: it only makes
//! the wait longer, and so does a restart. Bounded. Called by `reconcile`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Writes watched at once; beyond that, those that have been quiet for long are forgotten.
const WATCHED_MAX: usize = 4_096;
/// Quiet for this long, a write may be forgotten to make room.
const LONG: Duration = Duration::from_hours(1);

/// Writes whose outcome this process is finding out.
#[derive(Debug, Default)]
pub struct Quiet(Mutex<HashMap<String, Watch>>);

#[derive(Debug, Clone, Copy)]
struct Watch {
    /// The fence under which this process last had it.
    fence: i64,
    since: Instant,
}

impl Quiet {
    /// This process has the write now, under this fence; how long it has been quiet.
    pub(super) fn of(&self, execution_id: &str, fence: i64) -> Duration {
        let Ok(mut watched) = self.0.lock() else { return Duration::ZERO };
        if watched.len() >= WATCHED_MAX {
            watched.retain(|_, watch| watch.since.elapsed() < LONG);
        }
        let fresh = Watch { fence, since: Instant::now() };
        let watch = watched.entry(execution_id.to_owned()).or_insert(fresh);
        // WHY: fences go up by one with every owner, so a gap is somebody else who may have sent it.
        let mine = watch.fence == fence || watch.fence.saturating_add(1) == fence;
        *watch = if mine { Watch { fence, ..*watch } } else { fresh };
        watch.since.elapsed()
    }

    /// A copy was sent and no answer came.
    pub(super) fn stirred(&self, execution_id: &str) {
        let Ok(mut watched) = self.0.lock() else { return };
        if let Some(watch) = watched.get_mut(execution_id) {
            watch.since = Instant::now();
        }
    }

    /// Its outcome is known.
    pub(super) fn forget(&self, execution_id: &str) {
        if let Ok(mut watched) = self.0.lock() {
            watched.remove(execution_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_write_is_quiet_since_this_process_first_had_it() {
        let quiet = Quiet::default();
        assert_eq!(quiet.of("x", 7), Duration::ZERO, "what was before, nobody here knows");
        tokio::time::advance(STEP).await;
        assert_eq!(quiet.of("x", 7), STEP);
        assert_eq!(quiet.of("x", 8), STEP, "the next fence is its own next look");
        assert_eq!(quiet.of("y", 1), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn it_begins_anew_when_a_copy_was_sent_and_when_somebody_else_had_it() {
        let quiet = Quiet::default();
        quiet.of("x", 1);
        tokio::time::advance(STEP).await;
        quiet.stirred("x");
        assert_eq!(quiet.of("x", 2), Duration::ZERO);
        tokio::time::advance(STEP).await;
        assert_eq!(quiet.of("x", 4), Duration::ZERO, "fence 3 was somebody else's");
        tokio::time::advance(STEP).await;
        assert_eq!(quiet.of("x", 5), STEP);
        quiet.forget("x");
        assert_eq!(quiet.of("x", 6), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn its_memory_is_bounded_by_what_has_been_quiet_for_long() {
        let quiet = Quiet::default();
        for number in 0..WATCHED_MAX {
            quiet.of(&number.to_string(), 1);
        }
        tokio::time::advance(LONG).await;
        quiet.of("x", 1);
        assert_eq!(quiet.0.lock().unwrap().len(), 1);
    }
}
