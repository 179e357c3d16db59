//! The limits that the settings name, and the counters behind them.
//!
//! Promises: a store that is away keeps no gateway from starting. Called by the start.

use std::sync::Arc;

use super::AppFault;
use crate::adapters::ledger::Ledger;
use crate::adapters::limits::Counters;
use crate::adapters::limits::redis::Redis;
use crate::config::Counted;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::pep;
use crate::pep::ports::Buckets;
use crate::pep::ports::Limits;

/// What counts the messages of these settings, and what refuses them.
pub(super) fn limiter(
    settings: &Settings,
    ledger: &Arc<Ledger>,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<Counters>, pep::Limiter), AppFault> {
    let shared = |store: Arc<dyn Buckets>| Counters::shared(store, Arc::clone(metrics));
    let counters = Arc::new(match &settings.limits.counted {
        Counted::Here => Counters::local(),
        Counted::Postgres => shared(Arc::clone(ledger) as Arc<dyn Buckets>),
        Counted::Redis { url_file } => {
            let store = Redis::new(&super::secret(url_file)?).map_err(|fault| AppFault::File {
                path: url_file.clone(),
                cause: fault.to_string(),
                remedy: "write it as redis://user:password@host, or rediss:// for TLS",
            })?;
            shared(Arc::new(store))
        }
    });
    let limiter = pep::Limiter::new(settings.limits.rates.clone(), Arc::clone(&counters) as Arc<dyn Limits>);
    Ok((counters, limiter))
}

/// Room for the streams that tell clients of changes.
pub(super) fn listeners(settings: &Settings) -> pep::Listeners {
    let most = settings.limits.subscriptions;
    pep::Listeners::new(most.caller, most.all)
}
