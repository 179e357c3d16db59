//! The rules that decide: one snapshot of catalog and policy, swapped whole.
//!
//! Promises: a call sees one snapshot from start to end; the same caller is decided about by the
//! same policy for as long as a canary runs; a refused change leaves the last good snapshot in place
//! and says so. Called by `pep`; filled by `adapters::reload`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::shadow::Aside;
use crate::domain::catalog::Catalog;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::engine::Pdp;
use crate::domain::rollout::BundleId;
use crate::domain::rollout::canary::Share;

/// Catalog and compiled policy that belong together.
#[derive(Debug)]
pub struct Rules {
    /// What exists.
    pub catalog: Arc<Catalog>,
    /// What a policy may know of each tool, by name.
    pub facts: BTreeMap<String, ToolFacts>,
    /// The compiled policy.
    pub pdp: Pdp,
    /// When they were loaded: milliseconds since the Unix epoch.
    pub loaded_ms: i64,
}

impl Rules {
    /// The bundle that they were compiled from.
    #[must_use]
    pub fn id(&self) -> BundleId {
        BundleId::new(self.pdp.bundle_digest(), self.pdp.data_digest())
    }

    /// The digests that name these rules, as answers and records carry them.
    #[must_use]
    pub fn revision(&self) -> String {
        self.id().revision()
    }

    /// Whether they are that bundle, compiled for that catalog.
    #[must_use]
    pub fn are(&self, id: &BundleId, catalog: &Catalog) -> bool {
        self.id() == *id && self.catalog.digest() == catalog.digest()
    }
}

/// What decides: the live rules, and a candidate that decides about some callers.
#[derive(Debug)]
pub struct InForce {
    /// The live rules.
    pub live: Arc<Rules>,
    /// The candidate.
    pub canary: Option<OnTrial>,
}

/// A candidate that decides about some callers.
#[derive(Debug)]
pub struct OnTrial {
    /// Its rules.
    pub rules: Arc<Rules>,
    share: Share,
    salt: String,
}

impl OnTrial {
    /// A candidate for a share of the callers.
    #[must_use]
    pub fn new(rules: Arc<Rules>, share: Share) -> Self {
        let salt = format!("{}{}", rules.pdp.bundle_digest(), rules.pdp.data_digest());
        Self { rules, share, salt }
    }
}

/// The snapshot in force, and what is wrong with the files since.
#[derive(Debug, Default)]
pub struct RulesCell {
    in_force: ArcSwapOption<InForce>,
    beside: ArcSwapOption<Rules>,
    faults: ArcSwapOption<Vec<String>>,
    changes: watch::Sender<u64>,
    pub(super) aside: Option<Aside>,
}

impl RulesCell {
    /// A cell whose decisions are told to somebody who asks other rules about them.
    #[must_use]
    pub fn watched(aside: Aside) -> Self {
        Self { aside: Some(aside), ..Self::default() }
    }

    /// The live rules; none until the first were loaded.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Rules>> {
        self.in_force.load().as_ref().map(|in_force| Arc::clone(&in_force.live))
    }

    /// Everything that decides.
    #[must_use]
    pub fn in_force(&self) -> Option<Arc<InForce>> {
        self.in_force.load_full()
    }

    /// The rules that decide about a caller: the live ones, or the canary's.
    #[must_use]
    pub fn for_call(&self, tenant: &str, issuer: &str, user: &str) -> Option<Arc<Rules>> {
        let in_force = self.in_force.load();
        let in_force = in_force.as_ref()?;
        let canary = in_force.canary.as_ref().filter(|canary| canary.share.takes(&canary.salt, tenant, issuer, user));
        Some(Arc::clone(canary.map_or(&in_force.live, |canary| &canary.rules)))
    }

    /// Puts new rules in force for everybody.
    pub fn activate(&self, rules: Rules) {
        self.put(InForce { live: Arc::new(rules), canary: None });
        self.settle();
    }

    /// Puts new rules in force. What is said of the files on disk stays said.
    pub fn put(&self, in_force: InForce) {
        self.in_force.store(Some(Arc::new(in_force)));
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Counts the times that rules were put in force.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The rules that are asked beside those in force, and decide nothing.
    #[must_use]
    pub fn beside(&self) -> Option<Arc<Rules>> {
        self.beside.load_full()
    }

    /// Sets, or ends, what is asked beside.
    pub fn ask_beside(&self, rules: Option<Arc<Rules>>) {
        self.beside.store(rules);
    }

    /// Notes that the files on disk were refused; the rules in force stay.
    pub fn refuse(&self, faults: Vec<String>) {
        self.faults.store(Some(Arc::new(faults)));
    }

    /// Notes that nothing is wrong with the files on disk.
    pub fn settle(&self) {
        self.faults.store(None);
    }

    /// Why the files on disk are not in force, if they are not.
    #[must_use]
    pub fn faults(&self) -> Option<Arc<Vec<String>>> {
        self.faults.load_full()
    }
}
