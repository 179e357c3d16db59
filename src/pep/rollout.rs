//! What people, and the judge of canaries, ask of policy itself.
//!
//! Promises: a step is durable in the journal and in the store before it decides anything; of two
//! steps at once, one is first and the other sees it. Implemented by `adapters::reload`; called by
//! `pep::desk` and `pep::shadow`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::audit::JournalFault;
use crate::domain::audit::record::Record;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::rollout::BundleId;
use crate::domain::rollout::By;
use crate::domain::rollout::State;
use crate::domain::rollout::StepFault;
use crate::domain::rollout::canary::Counts;
use crate::domain::rollout::canary::Judgement;
use crate::domain::rollout::canary::Share;
use crate::domain::rollout::gate::GateFault;

/// Keeps the bundles that were in force or wait, by what is in them, and what is in force.
///
/// What a method says it kept is durable when it returns. Waits for a disk, so it is called off the
/// threads that serve.
pub trait Bundles: Send + Sync {
    /// Keeps a bundle.
    fn keep(&self, bundle: &Bundle) -> Result<(), BundlesFault>;

    /// The bundle with these digests, both checked again; none if it was never kept.
    fn bundle(&self, id: &BundleId) -> Result<Option<Bundle>, BundlesFault>;

    /// What is in force, as it was last written down; nothing if it never was.
    fn state(&self) -> Result<Option<State>, BundlesFault>;

    /// Writes down what is in force, whole or not at all.
    fn set_state(&self, state: &State) -> Result<(), BundlesFault>;
}

/// The store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy.store: {0}")]
pub struct BundlesFault(pub String);

/// What somebody wants to be in force.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Revision of the candidate.
    pub revision: String,
    /// The signed replay report, as it is.
    pub report: Option<Vec<u8>>,
    /// Digest of the report that they saw.
    pub digest: Option<String>,
    /// Why.
    pub reason: String,
    /// For a part of the callers first.
    pub canary: Option<Share>,
}

/// Why a step was not taken; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum RolloutFault {
    /// It makes no sense in this state.
    #[error(transparent)]
    Step(#[from] StepFault),
    /// Its report opens no gate.
    #[error(transparent)]
    Gate(#[from] GateFault),
    /// The bundle is not to be had, or does not fit the catalog.
    #[error("{}", faults.join("; "))]
    Bundle {
        /// In words for people, each naming its file.
        faults: Vec<String>,
        /// Whether the same bundle may be accepted later, because something else was in the way.
        passing: bool,
    },
    /// It cannot be recorded.
    #[error("it cannot be recorded: {0}")]
    Journal(#[from] JournalFault),
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] BundlesFault),
}

impl RolloutFault {
    /// Whether the same step may be taken later, because something else was in the way.
    #[must_use]
    pub fn passing(&self) -> bool {
        match self {
            Self::Bundle { passing, .. } => *passing,
            Self::Journal(_) | Self::Store(_) => true,
            Self::Step(_) | Self::Gate(_) => false,
        }
    }
}

/// How policy stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// What is in force, what waits, what was in force.
    pub state: Arc<State>,
    /// Whether a change waits for a report and a person.
    pub gated: bool,
    /// What the canary decided of late.
    pub canary: Option<Counts>,
    /// What is asked beside: revision, and how often it said what, by class.
    pub shadow: Option<(BundleId, Vec<(&'static str, u64)>)>,
    /// Digest of the catalog in force, and the engine that decides.
    pub in_force: Option<(String, &'static str)>,
    /// Why the files are not in force, if they were refused.
    pub faults: Vec<String>,
}

/// Changes which policy decides. `record` is that of whoever asks, without a stage.
#[async_trait]
pub trait Rollout: Send + Sync {
    /// How policy stands.
    fn standing(&self) -> Standing;

    /// Puts a candidate in force, for everybody or for a part of the callers.
    async fn activate(&self, order: Order, by: By, record: Record) -> Result<(), RolloutFault>;

    /// Takes back a canary, or what is in force; or goes back to `to`.
    async fn roll_back(&self, to: Option<String>, reason: String, by: By, record: Record) -> Result<(), RolloutFault>;

    /// Takes back the canary of that bundle, if it still runs.
    async fn canary_judged(&self, id: &BundleId, judgement: Judgement, counts: Counts) -> Result<(), RolloutFault>;
}
