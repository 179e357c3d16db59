//! Buckets that replicas share, drawn from a few calls ahead.
//!
//! Promises: all replicas together let through no more than the rate allows, but for what each has
//! drawn and not yet used (at most a tenth of the burst and one); most calls ask nobody; who was told
//! to wait is not asked for again before. A store that does not answer in a moment is left alone for a
//! second, and each replica counts for itself meanwhile. Called by the counters.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;
use tokio::time::timeout;
use tracing::info;
use tracing::warn;

use super::local::Local;
use crate::domain::limit::Key;
use crate::domain::limit::Rate;
use crate::domain::limit::Verdict;
use crate::metrics::Metrics;
use crate::pep::ports::Buckets;

/// Longest wait of a call for the store.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a store that failed is left alone.
const REST: Duration = Duration::from_secs(1);
/// A key that is not used for so long gives up what it has drawn.
const IDLE: Duration = Duration::from_mins(10);

/// Buckets in a store.
pub(super) struct Leased {
    store: Arc<dyn Buckets>,
    slots: Cache<Key, Arc<Slot>>,
    down: Mutex<Option<Down>>,
    metrics: Arc<Metrics>,
}

/// What this process has of one key.
#[derive(Debug, Default)]
struct Slot {
    lease: Mutex<Lease>,
    /// Held by whoever asks the store; the others wait for what it brings.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Lease {
    /// Calls drawn and not used; below 0 those that were made and not drawn.
    left: i64,
    /// The store said that there is none before then.
    dry_until: Option<Instant>,
}

#[derive(Debug)]
struct Down {
    until: Instant,
    why: String,
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased").field("down", &self.down).finish_non_exhaustive()
    }
}

impl Lease {
    /// One of the calls at hand, or how long there will be none; nothing when the store is to be asked.
    fn at_hand(&mut self) -> Option<Verdict> {
        if self.left > 0 {
            self.left -= 1;
            return Some(Verdict::Allowed);
        }
        let wait = self.dry_until?.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())?;
        Some(Verdict::Wait(millis(wait).max(1)))
    }
}

impl Leased {
    pub(super) fn new(store: Arc<dyn Buckets>, keys_max: usize, metrics: Arc<Metrics>) -> Self {
        let slots = Cache::builder().max_capacity(keys_max as u64).time_to_idle(IDLE).build();
        Self { store, slots, down: Mutex::default(), metrics }
    }

    pub(super) async fn take(&self, key: &Key, rate: &Rate, alone: &Local) -> Verdict {
        let slot = self.slots.get_with(key.clone(), Arc::default);
        if let Some(verdict) = lock(&slot.lease).at_hand() {
            return verdict;
        }
        let _turn = slot.turn.lock().await;
        let owed = {
            let mut lease = lock(&slot.lease);
            if let Some(verdict) = lease.at_hand() {
                return verdict;
            }
            lease.left.min(0).unsigned_abs()
        };
        if self.is_down() {
            return alone.draw(key, rate, 1).into();
        }
        let want = 1 + owed + rate.burst() / 10;
        match timeout(PATIENCE, self.store.draw(key, rate, want)).await {
            Ok(Ok(grant)) => {
                self.works();
                let mut lease = lock(&slot.lease);
                lease.left = lease.left.saturating_add_unsigned(grant.calls);
                let wait_ms = grant.wait_ms.max(rate.window_ms().div_ceil(rate.calls()));
                let dry = lease.left <= 0;
                lease.dry_until = dry.then(|| Instant::now() + Duration::from_millis(wait_ms));
                lease.at_hand().unwrap_or(Verdict::Wait(wait_ms))
            }
            failed => {
                self.fails(match failed {
                    Ok(Err(fault)) => fault.to_string(),
                    _ => format!("no answer within {} ms", PATIENCE.as_millis()),
                });
                alone.draw(key, rate, 1).into()
            }
        }
    }

    /// One more that was made already; whoever draws next pays for it.
    pub(super) fn spend(&self, key: &Key, rate: &Rate) {
        let slot = self.slots.get_with(key.clone(), Arc::default);
        let mut lease = lock(&slot.lease);
        let most = i64::try_from(rate.burst()).unwrap_or(i64::MAX);
        lease.left = lease.left.saturating_sub(1).max(-most);
    }

    pub(super) fn ails(&self) -> Option<String> {
        lock(&self.down).as_ref().map(|down| down.why.clone())
    }

    fn is_down(&self) -> bool {
        lock(&self.down).as_ref().is_some_and(|down| down.until > Instant::now())
    }

    fn fails(&self, why: String) {
        self.metrics.limits_alone.set(1);
        let mut down = lock(&self.down);
        if down.is_none() {
            warn!("the shared counters of `limits.rates` cannot be reached, each replica counts for itself: {why}");
        }
        *down = Some(Down { until: Instant::now() + REST, why });
    }

    fn works(&self) {
        if lock(&self.down).take().is_some() {
            self.metrics.limits_alone.set(0);
            info!("the shared counters of `limits.rates` work again");
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
