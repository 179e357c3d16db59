//! Which policy is in force, which one waits, and how one follows the other.
//!
//! Promises: a state is changed only by its own steps, each of which says no with a stable code or
//! gives the next state whole; what was taken back does not come back by itself; nothing that was in
//! force is forgotten before [`HISTORY_MAX`] others were. Never reads a clock, a file or a bundle.
//! Called by `adapters::reload`, which makes each step durable before it decides anything.

pub mod canary;
pub mod gate;
pub mod shadow;
mod steps;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use steps::{Arrival, StepFault};

/// Terms that are remembered.
pub const HISTORY_MAX: usize = 100;

/// Version of what is written down.
const VERSION: u32 = 1;

/// A bundle by what is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleId {
    /// SHA-256 (hex) over the policy files.
    pub bundle: String,
    /// SHA-256 (hex) over the data.
    pub data: String,
}

impl BundleId {
    /// A bundle with these digests.
    #[must_use]
    pub fn new(bundle: &str, data: &str) -> Self {
        Self { bundle: bundle.to_owned(), data: data.to_owned() }
    }

    /// Its short name, as answers, records and people carry it.
    #[must_use]
    pub fn revision(&self) -> String {
        let short = |digest: &str| digest.chars().take(12).collect::<String>();
        format!("{}-{}", short(&self.bundle), short(&self.data))
    }
}

/// A person who changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// Who.
    pub user: String,
    /// The issuer that vouches for them.
    pub issuer: String,
    /// The organisation in whose name they did it.
    pub tenant: String,
}

/// How a policy came to be in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Nothing had ever been in force.
    First,
    /// The files changed, and the settings say that this is enough.
    Automatic,
    /// A person activated it.
    Person,
    /// A person put a canary in force for everybody.
    Promoted,
    /// What was in force after it was taken back.
    RolledBack,
}

impl How {
    /// The name as records and metrics have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Automatic => "automatic",
            Self::Person => "person",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// A bundle's time in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// The bundle.
    pub id: BundleId,
    /// Since when: milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// How it came to be in force.
    pub how: How,
    /// Who put it in force, if a person did.
    pub by: Option<By>,
    /// Why, in their words.
    pub reason: String,
    /// Digest of the replay report on which they decided.
    pub report: Option<String>,
}

/// How a term ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Another bundle followed.
    Replaced,
    /// It was taken back.
    RolledBack,
}

/// A term that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// The term.
    pub term: Term,
    /// Until when.
    pub until_ms: i64,
    /// How it ended.
    pub ended: Ended,
}

/// Where a candidate came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The policy folder.
    Folder,
    /// The bundle server.
    Server,
}

impl Origin {
    /// The name as records have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Server => "server",
        }
    }
}

/// A bundle that passed the check and is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The bundle.
    pub id: BundleId,
    /// Since when it is known.
    pub since_ms: i64,
    /// Where it came from.
    pub from: Origin,
}

/// A candidate that decides a part of the calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The bundle.
    pub id: BundleId,
    /// Which callers it decides about.
    pub share: canary::Share,
    /// Since when.
    pub since_ms: i64,
    /// Who started it.
    pub by: By,
    /// Why.
    pub reason: String,
    /// Digest of the replay report on which they decided.
    pub report: Option<String>,
}

/// The newest bundle that was accepted from the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    /// Its number in the order of its makers.
    pub serial: u64,
    /// The bundle.
    pub id: BundleId,
}

/// Everything that is remembered of the policy of one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    v: u32,
    /// What decides.
    pub live: Option<Term>,
    /// What was checked and waits for a person.
    pub waiting: Option<Candidate>,
    /// What decides a part of the calls.
    pub canary: Option<Canary>,
    /// What decided before, newest first.
    pub history: Vec<Past>,
    /// What was taken back, and does not come back by itself while the files stay as they are.
    pub held: BTreeSet<BundleId>,
    /// The newest bundle from the server.
    pub newest: Option<Newest>,
}

/// What was written down is no state of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no state of policy that this version can read: {0}")]
pub struct Unreadable(pub String);

impl Default for State {
    fn default() -> Self {
        Self {
            v: VERSION,
            live: None,
            waiting: None,
            canary: None,
            history: Vec::new(),
            held: BTreeSet::new(),
            newest: None,
        }
    }
}

impl State {
    /// Reads what [`State::write`] wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let state: Self = serde_json::from_slice(bytes).map_err(|cause| Unreadable(cause.to_string()))?;
        if state.v == VERSION { Ok(state) } else { Err(Unreadable(format!("it is of version {}", state.v))) }
    }

    /// The state as it is kept.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        // WHY: every member is a string, a number or a list of such, which JSON always takes.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// The bundle that decides.
    #[must_use]
    pub fn live_id(&self) -> Option<&BundleId> {
        self.live.as_ref().map(|live| &live.id)
    }

    /// The revision that decides; empty when none does.
    #[must_use]
    pub fn live_revision(&self) -> String {
        self.live_id().map(BundleId::revision).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
