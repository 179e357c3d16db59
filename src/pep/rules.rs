//! The rules that decide: one snapshot of catalog and policy, swapped whole.
//!
//! Promises: a call sees one snapshot from start to end; a refused change leaves the last good
//! snapshot in place and says so. Called by `pep`; filled by `adapters::reload`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::domain::catalog::Catalog;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::engine::Pdp;

/// Catalog and compiled policy that belong together.
#[derive(Debug)]
pub struct Rules {
    /// What exists.
    pub catalog: Catalog,
    /// What a policy may know of each tool, by name.
    pub facts: BTreeMap<String, ToolFacts>,
    /// The compiled policy.
    pub pdp: Pdp,
    /// When they were loaded: milliseconds since the Unix epoch.
    pub loaded_ms: i64,
}

impl Rules {
    /// The digests that name these rules, as answers and records carry them.
    #[must_use]
    pub fn revision(&self) -> String {
        let short = |digest: &str| digest.chars().take(12).collect::<String>();
        format!("{}-{}", short(self.pdp.bundle_digest()), short(self.pdp.data_digest()))
    }
}

/// The snapshot in force, and what is wrong with the files since.
#[derive(Debug, Default)]
pub struct RulesCell {
    current: ArcSwapOption<Rules>,
    faults: ArcSwapOption<Vec<String>>,
}

impl RulesCell {
    /// The rules in force; none until the first were loaded.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Rules>> {
        self.current.load_full()
    }

    /// Puts new rules in force.
    pub fn activate(&self, rules: Rules) {
        self.current.store(Some(Arc::new(rules)));
        self.faults.store(None);
    }

    /// Notes that the files on disk were refused; the rules in force stay.
    pub fn refuse(&self, faults: Vec<String>) {
        self.faults.store(Some(Arc::new(faults)));
    }

    /// Notes that the files on disk are again those in force.
    pub fn settle(&self) {
        self.faults.store(None);
    }

    /// Why the files on disk are not in force, if they are not.
    #[must_use]
    pub fn faults(&self) -> Option<Arc<Vec<String>>> {
        self.faults.load_full()
    }
}
