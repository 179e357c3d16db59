//! What operators may know of a running gateway, gathered from its parts.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;

use super::housekeeping::Ails;
use crate::adapters::admin::Readiness;
use crate::adapters::admin::RulesView;
use crate::adapters::admin::Vitals;
use crate::adapters::backend::Backends;
use crate::adapters::journal::Health;
use crate::adapters::journal::Journal;
use crate::adapters::keys::Keys;
use crate::adapters::tls;
use crate::metrics::Metrics;
use crate::pep::ports::Clock;
use crate::pep::ports::Ledger;
use crate::pep::rollout::Rollout;
use crate::pep::rules::Rules;
use crate::pep::rules::RulesCell;

/// What is said of shared counters that cannot be reached; calls go on.
const COUNTS_ALONE: &str = "the shared counters of `limits.rates` cannot be reached; each replica counts for itself";

/// The parts that tell how a gateway is.
pub(super) struct Parts {
    pub(super) cell: Arc<RulesCell>,
    pub(super) rollout: Arc<dyn Rollout>,
    pub(super) keys: Arc<Keys>,
    pub(super) journal: Arc<Journal>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) backends: Arc<Backends>,
    pub(super) ails: Arc<Ails>,
    pub(super) secured: Vec<Arc<tls::Server>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl Vitals for Parts {
    fn readiness(&self) -> Readiness {
        let mut findings = Vec::new();
        let mut ready = true;
        if *self.stopping.borrow() {
            ready = false;
            findings.push("stopping: calls under way are being finished".to_owned());
        }
        let rules = self.cell.current();
        if rules.is_none() {
            ready = false;
            findings.push("no rules have been loaded; nothing is decided".to_owned());
        }
        if let Some(faults) = self.cell.faults() {
            let kept =
                if rules.is_some() { "the last good rules go on deciding" } else { "there are none to fall back on" };
            findings.push(format!("changed rules were refused, {kept}:"));
            findings.extend(faults.iter().cloned());
        }
        let policy = self.rollout.standing().state;
        let waiting = policy.waiting.as_ref().map(|waiting| waiting.id.revision());
        let canary = policy.canary.as_ref().map(|canary| canary.id.revision());
        findings.extend(waiting.iter().map(|revision| {
            format!("policy {revision} waits for a replay report and a person; see `loopgate policy status`")
        }));
        let keys = self.keys.health();
        for issuer in keys.iter().filter(|issuer| issuer.fault.is_some()) {
            findings.push(format!("issuer `{}`: {}", issuer.issuer, issuer.fault.as_deref().unwrap_or_default()));
        }
        let approvers = self.keys.approvers_health();
        for issuer in approvers.iter().filter(|issuer| issuer.fault.is_some()) {
            let fault = issuer.fault.as_deref().unwrap_or_default();
            findings.push(format!("issuer of approvals `{}`: {fault}", issuer.issuer));
        }
        if keys.iter().all(|issuer| issuer.kids.is_empty()) {
            ready = false;
            findings.push("no issuer has keys; nobody can be authenticated".to_owned());
        }
        let journal = match self.journal.health() {
            Health::Ok => "ok".to_owned(),
            Health::ReadsOnly { free_bytes, low_water_bytes } => {
                format!("writes are refused: {free_bytes} bytes free, below the low-water mark of {low_water_bytes}")
            }
            Health::Failing { cause } => {
                ready = false;
                format!("nothing can be recorded: {cause}")
            }
        };
        if journal != "ok" {
            findings.push(format!("journal: {journal}"));
        }
        let rules = rules.map(|rules| view(&rules, waiting, canary));
        let keys = keys
            .iter()
            .map(|issuer| json!({"issuer": issuer.issuer, "keys": issuer.kids.len(), "ageSeconds": issuer.age_s, "fault": issuer.fault}))
            .collect();
        // Reads go on without it, so the gateway stays ready.
        if let Some(fault) = self.ails.load_full() {
            findings.push(format!("writes and approvals are refused: {fault}"));
        }
        findings.extend((self.metrics.limits_alone.get() > 0).then(|| COUNTS_ALONE.to_owned()));
        findings.extend(self.secured.iter().flat_map(|tls| tls.findings()));
        // Nor do backends that are away make it unready: whatever needs none goes on.
        findings.extend(self.backends.findings());
        Readiness {
            ready,
            findings,
            rules,
            keys,
            journal,
            ledger: self.ledger.name().to_owned(),
            backends: self.backends.state(),
        }
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }
}

fn view(rules: &Rules, waiting: Option<String>, canary: Option<String>) -> RulesView {
    RulesView {
        revision: rules.revision(),
        loaded_at: jiff::Timestamp::from_millisecond(rules.loaded_ms).unwrap_or_default().to_string(),
        bundle: rules.pdp.bundle_digest().to_owned(),
        data: rules.pdp.data_digest().to_owned(),
        catalog: rules.catalog.digest().to_owned(),
        engine: rules.pdp.engine().as_str().to_owned(),
        tools: rules.catalog.tools().count(),
        waiting,
        canary,
    }
}
