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

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

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

/// Everything that is remembered of the policy of one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    #[serde(deserialize_with = "this_version")]
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
    /// When something was taken back the last time: milliseconds since the Unix epoch.
    #[serde(default)]
    pub taken_back_ms: Option<i64>,
}

/// WHY: a later version may have a reason to hold something back that this one knows nothing of.
fn this_version<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        VERSION => Ok(VERSION),
        other => Err(D::Error::custom(format!("version {other} is not {VERSION}, which this gateway writes"))),
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            v: VERSION,
            live: None,
            waiting: None,
            canary: None,
            history: Vec::new(),
            held: BTreeSet::new(),
            taken_back_ms: None,
        }
    }
}

impl State {
    /// The bundle that decides.
    #[must_use]
    pub fn live_id(&self) -> Option<&BundleId> {
        self.live.as_ref().map(|live| &live.id)
    }

    /// When what decides was changed, or something was taken back, the last time.
    #[must_use]
    pub fn changed_ms(&self) -> Option<i64> {
        self.live.as_ref().map(|live| live.since_ms).max(self.taken_back_ms)
    }

    /// The revision that decides; empty when none does.
    #[must_use]
    pub fn live_revision(&self) -> String {
        self.live_id().map(BundleId::revision).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
