//! The limits that the settings name, and the counters behind them.
//!
//! Promises: a store that is away keeps no gateway from starting. Called by the start and by commands.

use std::path::Path;
use std::sync::Arc;

use super::AppFault;
use crate::adapters::ledger::Ledger;
use crate::adapters::limits::Counters;
use crate::adapters::limits::redis;
use crate::adapters::limits::redis::Redis;
use crate::config::Counted;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::pep;
use crate::pep::ports::Buckets;
use crate::pep::ports::BucketsFault;
use crate::pep::ports::Limits;

/// What counts the messages of these settings, and what refuses them.
pub(super) fn limiter(
    settings: &Settings,
    ledger: &Arc<Ledger>,
    metrics: &Arc<Metrics>,
) -> Result<pep::Limiter, AppFault> {
    let shared = |store: Arc<dyn Buckets>| Counters::shared(store, Arc::clone(metrics));
    let counters: Arc<dyn Limits> = Arc::new(match &settings.limits.counted {
        Counted::Here => Counters::local(),
        Counted::Postgres => shared(Arc::clone(ledger) as Arc<dyn Buckets>),
        Counted::Redis { url_file } => {
            shared(Arc::new(Redis::new(&super::secret(url_file)?).map_err(|fault| unread(url_file, &fault))?))
        }
    });
    Ok(pep::Limiter::new(settings.limits.rates.clone(), counters))
}

/// What can be known of the counters of these settings without reaching for them.
pub(super) fn check(settings: &Settings) -> Result<(), AppFault> {
    match &settings.limits.counted {
        Counted::Here | Counted::Postgres => Ok(()),
        Counted::Redis { url_file } => {
            redis::check(&super::secret(url_file)?).map_err(|fault| unread(url_file, &fault))
        }
    }
}

/// Whether the store of the counters answers; none where there is none but the ledger's.
pub async fn examine_counters(settings: &Settings) -> Option<Result<(), String>> {
    let Counted::Redis { url_file } = &settings.limits.counted else { return None };
    let store = super::secret(url_file)
        .and_then(|url| Redis::new(&url).map_err(|fault| unread(url_file, &fault)))
        .map_err(|fault| fault.to_string());
    Some(match store {
        Ok(store) => store.probe().await.map_err(|fault| fault.to_string()),
        Err(fault) => Err(fault),
    })
}

fn unread(url_file: &Path, fault: &BucketsFault) -> AppFault {
    AppFault::File {
        path: url_file.to_owned(),
        cause: fault.to_string(),
        remedy: "write it as redis://user:password@host, or rediss:// for TLS",
    }
}

/// Room for the streams that tell clients of changes.
pub(super) fn listeners(settings: &Settings) -> pep::Listeners {
    let most = settings.limits.subscriptions;
    pep::Listeners::new(most.caller, most.all)
}
