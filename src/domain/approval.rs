//! An approval: what was shown to people, who agreed, and what it is good for.
//!
//! Promises: what is approved is the digest of a [`Subject`], all of it; a vote names the digest
//! that the voter saw; voters are distinct people with the standing that policy asked for, never
//! the requester; any reject ends it; it is consumed once, by one execution; whatever differs at
//! execution is named by [`drift`]. Never asks policy, never reads a clock: the moment is an
//! argument. Called by `pep`, `adapters::ledger` and `adapters::admin`.

mod change;
mod ticket;
mod issued;
pub mod sealed;

pub use change::Change;
pub use change::changes;
pub use change::drift;
pub use ticket::Ballot;
pub use ticket::Ending;
pub use ticket::Ground;
pub use ticket::State;
pub use ticket::Ticket;
pub use ticket::Unusable;
pub use ticket::Verdict;
pub use ticket::VoteFault;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::canonical;
use crate::domain::canonical::NotCanonical;
use crate::domain::pdp::Obligation;

/// Everything that an approval covers. One byte of it changes and it is another approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// Version of this shape; 1.
    pub v: u32,
    /// The organisation.
    pub tenant: String,
    /// Who asks: issuer and user.
    pub requester: Person,
    /// The OAuth client (the agent) that asks for them; empty when the token names none.
    pub client: String,
    /// The workflow; empty when there is none.
    pub workflow: String,
    /// The key under which it will happen once, when the requester chose one.
    pub idempotency_key: Option<String>,
    /// The tool.
    pub tool: String,
    /// SHA-256 (hex) of the tool's definition.
    pub definition: String,
    /// `METHOD /path/{var}`.
    pub route: String,
    /// Validated arguments.
    pub arguments: Map<String, Value>,
    /// The exact request that will be sent: `{method, path, body}`.
    pub request: Value,
    /// What would happen, as the requester may see it.
    pub preview: Value,
    /// SHA-256 (hex) of the preview before anything in it was hidden.
    pub preview_digest: String,
    /// Who made the preview.
    pub preview_by: PreviewBy,
    /// The version (`ETag`) of the record that it is about, where there is one.
    pub record_version: Option<String>,
    /// SHA-256 (hex) of the policy files that asked for the approval.
    pub policy_bundle: String,
    /// SHA-256 (hex) of the data that they read.
    pub policy_data: String,
    /// Until when it may be answered: milliseconds since the Unix epoch.
    pub approve_by_ms: i64,
    /// For how long it is good once given, in seconds.
    pub execute_within_s: u64,
}

/// A person as one issuer names them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Person {
    /// The issuer that vouches for them.
    pub issuer: String,
    /// The user.
    pub user: String,
}

/// Who worked out what would happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreviewBy {
    /// The backend's own dry run.
    Backend,
    /// The gateway: the exact request, and not its effect.
    Gateway,
    /// Nobody: the approval was issued by LoopIQ itself.
    None,
}

impl Subject {
    /// SHA-256 (hex) over the RFC 8785 form: what a vote names.
    pub fn digest(&self) -> Result<String, NotCanonical> {
        canonical::digest_value(&serde_json::to_value(self)?)
    }

    /// Whether LoopIQ itself issued the approval, so that the gateway has shown nobody a preview.
    #[must_use]
    pub fn is_issued(&self) -> bool {
        self.preview_by == PreviewBy::None
    }

    /// The same without its deadline: two calls that ask for the same have it in common.
    pub fn question(&self) -> Result<String, NotCanonical> {
        Self { approve_by_ms: 0, ..self.clone() }.digest()
    }
}

/// Who must agree, as policy said when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// Roles that may approve.
    pub roles: Vec<String>,
    /// Teams that may approve.
    pub teams: Vec<String>,
    /// Users who may approve.
    pub users: Vec<String>,
    /// How many different people.
    pub count: u32,
    /// Seconds until it lapses unanswered.
    pub approve_by_s: u64,
    /// Seconds that it is good for once given.
    pub execute_within_s: u64,
    /// Whether approvers must be shown a preview.
    pub preview: bool,
}

impl Requirement {
    /// The requirement among a ruling's obligations.
    #[must_use]
    pub fn among(obligations: &[Obligation]) -> Option<Self> {
        obligations.iter().find_map(|one| match one {
            Obligation::RequireApproval { roles, teams, users, count, approve_by_s, execute_within_s, preview } => {
                Some(Self {
                    roles: roles.clone(),
                    teams: teams.clone(),
                    users: users.clone(),
                    count: *count,
                    approve_by_s: *approve_by_s,
                    execute_within_s: *execute_within_s,
                    preview: *preview,
                })
            }
            Obligation::Redact { .. } | Obligation::Audit { .. } | Obligation::Limit { .. } => None,
        })
    }

    /// Whether someone of this standing may vote.
    #[must_use]
    pub fn entitles(&self, user: &str, roles: &[String], teams: &[String]) -> bool {
        self.users.iter().any(|named| named == user)
            || self.roles.iter().any(|role| roles.contains(role))
            || self.teams.iter().any(|team| teams.contains(team))
    }

    /// The same in words, such as `1 of: role certification_approver`.
    #[must_use]
    pub fn words(&self) -> String {
        let of = |kind: &'static str, names: &[String]| {
            names.iter().map(|name| format!("{kind} {name}")).collect::<Vec<_>>()
        };
        let all = [of("role", &self.roles), of("team", &self.teams), of("user", &self.users)].concat();
        format!("{} of: {}", self.count, if all.is_empty() { "nobody".to_owned() } else { all.join(", ") })
    }
}

#[cfg(test)]
mod tests;
