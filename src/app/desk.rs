//! The desk, on the same ledger, journal and keys as what agents do.

use std::sync::Arc;

use crate::adapters::journal;
use crate::config::Settings;
use crate::pep;
use crate::pep::Pep;
use crate::pep::desk;
use crate::pep::desk::Desk;
use crate::pep::rollout::Rollout;

/// What people do with the approvals and writes of a gateway.
pub(super) fn desk(
    settings: &Settings,
    pep: &Pep,
    journal: &Arc<journal::Journal>,
    rollout: &Arc<dyn Rollout>,
) -> Desk {
    Desk {
        ledger: Arc::clone(&pep.ledger),
        approvals: Arc::clone(&pep.approvals),
        journal: Arc::clone(journal) as Arc<dyn pep::ports::Journal>,
        records: Arc::new(journal::find::Reader::new(settings.audit.dir.clone())),
        keys: Arc::clone(&pep.keys),
        clock: Arc::clone(&pep.clock),
        metrics: Arc::clone(&pep.metrics),
        settings: desk::Settings {
            read: settings.operators.read.clone(),
            settle: settings.operators.settle.clone(),
            link: pep.settings.approvals_link.clone(),
            scopes: pep.settings.scopes.clone(),
        },
        policy: desk::Policy {
            rollout: Arc::clone(rollout),
            tenants: settings.operators.policy.tenants.clone(),
            roles: settings.operators.policy.roles.clone(),
        },
        refused: pep::Refused::new(),
        carried: desk::Carried::default(),
    }
}
