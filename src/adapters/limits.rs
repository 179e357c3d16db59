//! Counters: how many calls each key has left.
//!
//! Promises: an answer always comes, and within a moment; memory is bounded, and what is forgotten to
//! keep it so is what was nearest to being full again; counters that replicas share fall back to this
//! process alone while their store is away, which is told and counted. Never decides what is counted.
//! Called by `pep` through its port; opened by `app`.

mod leased;
mod local;
pub mod redis;

use std::sync::Arc;

use async_trait::async_trait;

use self::leased::Leased;
use self::local::Local;
use crate::domain::limit::Key;
use crate::domain::limit::Rate;
use crate::domain::limit::Verdict;
use crate::metrics::Metrics;
use crate::pep::ports::Buckets;
use crate::pep::ports::Limits;

/// Keys that are remembered at once.
const KEYS_MAX: usize = 100_000;

/// Counters of this process, or those that it shares.
#[derive(Debug)]
pub struct Counters {
    local: Local,
    shared: Option<Leased>,
}

impl Counters {
    /// For one process.
    #[must_use]
    pub fn local() -> Self {
        Self { local: Local::new(KEYS_MAX), shared: None }
    }

    /// For replicas that share a store.
    #[must_use]
    pub fn shared(store: Arc<dyn Buckets>, metrics: Arc<Metrics>) -> Self {
        Self { local: Local::new(KEYS_MAX), shared: Some(Leased::new(store, KEYS_MAX, metrics)) }
    }

    /// Why each replica counts for itself, when they should count together.
    #[must_use]
    pub fn ails(&self) -> Option<String> {
        self.shared.as_ref().and_then(Leased::ails)
    }
}

#[async_trait]
impl Limits for Counters {
    async fn take(&self, key: &Key, rate: &Rate) -> Verdict {
        match &self.shared {
            None => self.local.draw(key, rate, 1).into(),
            Some(shared) => shared.take(key, rate, &self.local).await,
        }
    }

    fn take_here(&self, key: &Key, rate: &Rate) -> Verdict {
        self.local.draw(key, rate, 1).into()
    }

    fn spend(&self, key: &Key, rate: &Rate) {
        match &self.shared {
            None => self.local.spend(key, rate),
            Some(shared) => shared.spend(key, rate),
        }
    }
}

#[cfg(test)]
mod tests;
