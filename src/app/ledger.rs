//! Opens the ledger that the settings name.
//!
//! Promises: a ledger in a file that cannot be opened keeps the gateway from starting, and so does
//! one that this program cannot read; a database that is away does not. Never falls back from one
//! engine to the other. Called by the start and by commands.

use std::sync::Arc;

use tracing::error;

use super::AppFault;
use crate::adapters::ledger;
use crate::adapters::ledger::Examined;
use crate::adapters::ledger::Ledger;
use crate::adapters::ledger::Place;
use crate::config::LedgerPlace;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::pep::ports::Clock;
use crate::pep::ports::Ledger as _;
use crate::pep::ports::LedgerFault;

/// Opens the ledger of these settings, making it if there is none. A database that cannot be reached
/// is told of in the log: until it can be, governed writes are refused and everything else goes on.
pub async fn open_ledger(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Ledger>, AppFault> {
    let place = place(settings)?;
    let name = uuid::Builder::from_random_bytes(clock.random()).into_uuid();
    let boot = uuid::Builder::from_random_bytes(clock.random()).into_uuid().simple();
    let of_ledger = ledger::Settings {
        place,
        owner: format!("{}/{boot}", settings.audit.writer),
        name_if_new: format!("ledger_{name}"),
    };
    let clock = Arc::clone(clock);
    let opened = Ledger::open(of_ledger, Arc::new(move || clock.now_ms()), Arc::clone(metrics)).map_err(told)?;
    match opened.probe().await {
        Err(LedgerFault::Unavailable(cause)) if matches!(settings.ledger.place, LedgerPlace::Postgres { .. }) => {
            error!("the ledger cannot be reached, and governed writes are refused until it can: {cause}");
        }
        probed => probed.map_err(told)?,
    }
    Ok(Arc::new(opened))
}

fn told(fault: LedgerFault) -> AppFault {
    let (LedgerFault::Unavailable(cause) | LedgerFault::Unreadable(cause)) = fault;
    AppFault::Ledger(cause)
}

/// Looks at the ledger of these settings, changing nothing.
pub async fn examine_ledger(settings: &Settings) -> Result<Examined, AppFault> {
    ledger::examine(&place(settings)?).await.map_err(told)
}

/// What can be known of the ledger of these settings without reaching for it.
pub(super) fn check(settings: &Settings) -> Result<(), AppFault> {
    ledger::check(&place(settings)?).map_err(told)
}

/// Where the ledger of these settings is.
fn place(settings: &Settings) -> Result<Place, AppFault> {
    match &settings.ledger.place {
        LedgerPlace::Sqlite { path } => Ok(Place::Sqlite(path.clone())),
        LedgerPlace::Postgres { url_file, pool } => {
            Ok(Place::Postgres { url: super::secret(url_file)?, connections: *pool })
        }
    }
}
