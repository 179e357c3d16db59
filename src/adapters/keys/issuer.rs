//! One issuer at run time: the keys it has, how old they are, and when they are read again.
//!
//! Promises: at most one reading at a time, owned by [`HeldIssuer::keep`] and not by the caller
//! whose token asked for it; a failed reading changes nothing but the health; keys that did not
//! change keep their identity, so that verified tokens stay verified. Never verifies a token.
//! Called by `adapters::keys`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use crate::adapters::fetch::{FETCH_TIMEOUT, FetchFault};
use crate::adapters::keys::IssuerConfig;
use crate::adapters::keys::source::Reader;
use crate::domain::identity::KeyHealth;
use crate::domain::identity::issuer::IssuerSettings;
use crate::domain::identity::keyset::KeySet;
use crate::domain::identity::token::Issuer;

/// Soonest time to try again after a failed reading that no caller asked for.
const RETRY: Duration = Duration::from_secs(30);

/// An issuer and its keys.
pub(super) struct HeldIssuer {
    settings: Arc<IssuerSettings>,
    config: IssuerConfig,
    reader: Reader,
    held: ArcSwapOption<Held>,
    state: Mutex<State>,
    wanted: Notify,
    readings: watch::Sender<u64>,
}

/// Keys and when they were last read.
struct Held {
    keys: Arc<KeySet>,
    read_at: Instant,
}

#[derive(Default)]
struct State {
    /// [`HeldIssuer::keep`] is there to read.
    kept: bool,
    /// A reading was asked for or begun, and has not ended.
    reading: bool,
    /// When the last reading ended.
    tried_at: Option<Instant>,
    /// Why it failed, if it did.
    fault: Option<String>,
}

impl HeldIssuer {
    pub(super) fn new(config: IssuerConfig) -> Result<Self, FetchFault> {
        Ok(Self {
            settings: Arc::new(config.settings.clone()),
            reader: Reader::new(&config.way, FETCH_TIMEOUT)?,
            config,
            held: ArcSwapOption::empty(),
            state: Mutex::default(),
            wanted: Notify::new(),
            readings: watch::Sender::new(0),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    pub(super) fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// The keys, unless they are too old to be trusted.
    pub(super) fn trusted(&self, at: Instant) -> Option<Arc<KeySet>> {
        let held = self.held.load();
        let held = held.as_ref()?;
        let fresh =
            !self.config.source.may_change() || at.saturating_duration_since(held.read_at) <= self.config.max_stale;
        fresh.then(|| Arc::clone(&held.keys))
    }

    /// The issuer as `authenticate` takes it.
    pub(super) fn at(&self, at: Instant) -> Issuer {
        Issuer { settings: Arc::clone(&self.settings), keys: self.trusted(at) }
    }

    pub(super) fn health(&self, at: Instant) -> KeyHealth {
        let held = self.held.load();
        KeyHealth {
            issuer: self.name().to_owned(),
            kids: held.as_ref().map(|held| held.keys.kids()).unwrap_or_default(),
            age_s: held.as_ref().map(|held| at.saturating_duration_since(held.read_at).as_secs()),
            fault: self.state().fault.clone(),
        }
    }

    /// Reads the keys now.
    pub(super) async fn refresh(&self) {
        self.state().reading = true;
        let outcome = self.reader.read(&self.config.source, &self.settings.algs).await;
        let now = Instant::now();
        let fault = match outcome {
            Ok(keys) => {
                self.hold(keys, now);
                None
            }
            Err(fault) => {
                warn!(issuer.name = %self.name(), "keys of issuer `{}` were not read: {fault}", self.name());
                Some(fault.to_string())
            }
        };
        let mut state = self.state();
        state.reading = false;
        state.tried_at = Some(now);
        state.fault = fault;
        drop(state);
        self.readings.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Reads the keys when they are due or wanted, until told to stop.
    pub(super) async fn keep(&self, mut shutdown: watch::Receiver<bool>) {
        if !self.config.source.may_change() {
            return;
        }
        self.state().kept = true;
        loop {
            // The loser of either race is dropped: a sleep, a wish that stays stored, a reading that changed nothing.
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                () = sleep_until(self.due()) => {}
                // A wish that was granted by a reading already under way is no longer one.
                () = self.wanted.notified() => if !self.state().reading { continue },
            }
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                () = self.refresh() => {}
            }
        }
        let mut state = self.state();
        state.kept = false;
        state.reading = false;
        drop(state);
        self.readings.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Asks for a reading because a token could not be judged, and waits for it to end.
    ///
    /// Returns at once when nobody keeps the keys, or when the last reading is too recent.
    pub(super) async fn read_again(&self) {
        let mut readings = self.readings.subscribe();
        {
            let mut state = self.state();
            if !state.kept {
                return;
            }
            if !state.reading {
                if state.tried_at.is_some_and(|at| at.elapsed() < self.config.patience) {
                    return;
                }
                state.reading = true;
                self.wanted.notify_one();
            }
        }
        // The fetch has its own deadline; this one only bounds the wait should the keeper be gone.
        let _ended = timeout(FETCH_TIMEOUT.saturating_add(Duration::from_secs(1)), readings.changed()).await;
    }

    /// Counts readings, ended one way or the other.
    #[cfg(test)]
    pub(super) fn readings(&self) -> watch::Receiver<u64> {
        self.readings.subscribe()
    }

    #[cfg(test)]
    pub(super) fn is_unkept(&self) -> bool {
        !self.state().kept
    }

    pub(super) fn hold(&self, keys: KeySet, read_at: Instant) {
        let before = self.held.load_full();
        let unchanged = before.as_ref().filter(|held| *held.keys == keys).map(|held| Arc::clone(&held.keys));
        if unchanged.is_none() {
            info!(issuer.name = %self.name(), "issuer `{}` now has keys {}", self.name(), keys.kids().join(", "));
        }
        let keys = unchanged.unwrap_or_else(|| Arc::new(keys));
        self.held.store(Some(Arc::new(Held { keys, read_at })));
    }

    fn due(&self) -> Instant {
        let state = self.state();
        match (state.tried_at, &state.fault) {
            (None, _) => Instant::now(),
            (Some(at), None) => at + self.config.refresh,
            (Some(at), Some(_)) => at + self.config.refresh.min(RETRY),
        }
    }

    /// The lock is held for a few assignments and never across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
