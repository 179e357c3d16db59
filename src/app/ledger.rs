//! Opens the ledger that the settings name.
//!
//! Promises: a ledger in a file that cannot be opened keeps the gateway from starting. Never falls
//! back from one engine to the other. Called by the start and by commands.

use std::sync::Arc;

use super::AppFault;
use crate::adapters::ledger;
use crate::adapters::ledger::Ledger;
use crate::adapters::ledger::Place;
use crate::config::LedgerPlace;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::pep::ports::Clock;
use crate::pep::ports::LedgerFault;

/// Opens the ledger of these settings, making it if there is none.
pub fn open_ledger(
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
    let opened = Ledger::open(of_ledger, Arc::new(move || clock.now_ms()), Arc::clone(metrics));
    opened.map(Arc::new).map_err(|fault| match fault {
        LedgerFault::Unavailable(cause) => AppFault::Ledger(cause),
        LedgerFault::Unreadable(_) => AppFault::Ledger(fault.to_string()),
    })
}

/// Where the ledger of these settings is.
pub(super) fn place(settings: &Settings) -> Result<Place, AppFault> {
    match &settings.ledger.place {
        LedgerPlace::Sqlite { path } => Ok(Place::Sqlite(path.clone())),
        LedgerPlace::Postgres { .. } => Err(AppFault::Ledger("PostgreSQL is not spoken yet".to_owned())),
    }
}
