//! Leaves alone for a while who does not answer.
//!
//! Promises: after a failure nobody asks until a pause has passed, which doubles up to its longest;
//! then one asks, and the others wait for what comes of it; a success ends it all. Never waits.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether somebody may be asked now.
#[derive(Debug, Default)]
pub struct Pause {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures one after another.
    failures: u32,
    /// Until when nobody asks.
    until: Option<Instant>,
    why: String,
}

impl Pause {
    /// Why they may not be asked now; whoever gets leave after a pause is the only one to.
    pub fn blocks(&self) -> Option<String> {
        let mut state = self.state();
        let until = state.until?;
        let now = Instant::now();
        if now < until {
            return Some(state.why.clone());
        }
        state.until = Some(now + length(state.failures));
        None
    }

    /// They answered.
    pub fn answered(&self) {
        *self.state() = State::default();
    }

    /// They did not.
    pub fn failed(&self, why: impl Into<String>) {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        state.until = Some(Instant::now() + length(state.failures));
        state.why = why.into();
    }

    /// Why the last question had no answer, if it had none.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let state = self.state();
        state.until.is_some().then(|| state.why.clone())
    }

    /// The lock is held for a few assignments and never across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn length(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_asked_ever_more_rarely_and_by_one_at_a_time() {
        let pause = Pause::default();
        assert_eq!(pause.blocks(), None);
        pause.failed("gone");
        assert_eq!((pause.blocks().as_deref(), pause.fault().as_deref()), (Some("gone"), Some("gone")));
        tokio::time::advance(FIRST).await;
        assert_eq!(pause.blocks(), None, "one asks");
        assert!(pause.blocks().is_some(), "the others do not");
        pause.failed("gone");
        tokio::time::advance(FIRST).await;
        assert!(pause.blocks().is_some(), "the pause has grown");
        tokio::time::advance(FIRST).await;
        assert_eq!(pause.blocks(), None);
        pause.answered();
        assert_eq!((pause.blocks(), pause.fault()), (None, None));
        for _ in 0..100 {
            pause.failed("gone");
        }
        tokio::time::advance(LONGEST).await;
        assert_eq!(pause.blocks(), None, "it does not grow for ever");
    }
}
