//! The state machine of one write: reserved → sent → executed, failed or unknown.
//!
//! Promises: a write that may have left is never taken over as if it had not; every step needs the
//! fence that the last owner got, so that whoever was left behind changes nothing; what was
//! executed or failed stays so. Never reads a clock: the ledger's own moment is an argument.
//! Called by `adapters::ledger` (inside its transactions) and `pep`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Supplier;
use crate::domain::catalog::RouteRequest;
use crate::domain::pdp::Input;

/// Where a write stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing has been sent, for certain.
    Reserved,
    /// It may have been sent; somebody is at it.
    Sent,
    /// It happened.
    Executed,
    /// It definitely did not happen.
    Failed,
    /// It may have happened; nobody knows yet.
    Unknown,
}

impl State {
    /// The name as users know it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Sent => "sent",
            Self::Executed => "executed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Reserved, Self::Sent, Self::Executed, Self::Failed, Self::Unknown]
            .into_iter()
            .find(|state| state.as_str() == name)
    }

    /// Whether nothing changes any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Executed | Self::Failed)
    }
}

/// A write as it was decided: never changes once it is in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// What the backend sees as `Idempotency-Key`.
    pub execution_id: String,
    /// The organisation.
    pub tenant: String,
    /// The caller: issuer.
    pub issuer: String,
    /// The caller: user.
    pub user: String,
    /// The OAuth client acting for them; empty when there is none.
    pub client: String,
    /// The workflow; empty when there is none.
    pub workflow: String,
    /// The idempotency key.
    pub key: String,
    /// Who chose it.
    pub supplier: Supplier,
    /// SHA-256 (hex) of all that makes it this write; see [`super::Deed::fingerprint`].
    pub fingerprint: String,
    /// The tool.
    pub tool: String,
    /// SHA-256 (hex) of the tool's definition.
    pub definition: String,
    /// Validated arguments.
    pub arguments: Map<String, Value>,
    /// The approval that it uses.
    pub approval_id: Option<String>,
    /// The request in its final bytes.
    pub request: Sending,
    /// What policy was asked, to ask it again before anything is sent again.
    pub input: Input,
    /// The gateway's id of the request that first asked for it.
    pub request_id: String,
    /// Its trace.
    pub trace_id: String,
    /// The decision that allowed it.
    pub decision_id: String,
}

/// A backend request without its credential, which is made anew for every try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sending {
    /// Name of the backend.
    pub backend: String,
    /// HTTP method.
    pub method: String,
    /// Encoded path and query.
    pub path_and_query: String,
    /// JSON body: RFC 8785, so UTF-8.
    pub body: Option<String>,
    /// `If-Match`, where the backend has versions.
    pub if_match: Option<String>,
    /// How long the backend may take, in milliseconds.
    pub timeout_ms: u64,
}

/// An answer that is given again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The body, byte for byte; nothing once it was pruned.
    #[serde(skip)]
    pub body: Option<Vec<u8>>,
    /// How it became known.
    pub by: KnownBy,
}

/// Media type of what is known of a write whose own answer was lost.
pub const FROM_BOOKS: &str = "application/vnd.loopgate.outcome+json";

impl Kept {
    /// Whether this is what people or the backend's books say, and not the answer itself.
    #[must_use]
    pub fn is_of_books(&self) -> bool {
        self.content_type.as_deref() == Some(FROM_BOOKS)
    }
}

impl Sending {
    /// The request as the catalog builds it.
    #[must_use]
    pub fn again(&self) -> RouteRequest {
        RouteRequest {
            backend: self.backend.clone(),
            method: self.method.clone(),
            path_and_query: self.path_and_query.clone(),
            body: self.body.clone().map(String::into_bytes),
            timeout: Duration::from_millis(self.timeout_ms),
        }
    }
}

/// How an outcome became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownBy {
    /// The backend answered the call.
    Answer,
    /// The backend answered when the same bytes were sent again under the same key.
    Resend,
    /// The backend said so when it was asked what became of the key.
    Lookup,
    /// Two people said so, with evidence.
    People,
}

/// What a person says became of an unknown write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opinion {
    /// Who says so: the issuer.
    pub issuer: String,
    /// Who says so: the user.
    pub user: String,
    /// Whether it happened.
    pub happened: bool,
    /// How they know.
    pub evidence: String,
    /// The records that it created or changed, if it happened.
    pub record_ids: Vec<String>,
    /// When: milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// Who works on a write, and until when nobody else does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Replica and boot.
    pub owner: String,
    /// The ledger's clock: milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// How long, in milliseconds.
    pub for_ms: i64,
}

impl Lease {
    fn until_ms(&self) -> i64 {
        self.now_ms.saturating_add(self.for_ms)
    }
}

/// A write with all that has become of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// What is to be done.
    pub plan: Plan,
    /// Where it stands.
    pub state: State,
    /// Goes up with every change of owner.
    pub fence: i64,
    /// Who works on it; empty while an unknown write waits for somebody.
    pub owner: String,
    /// Until when nobody else does: the ledger's clock, milliseconds since the Unix epoch.
    pub lease_until_ms: i64,
    /// How often it was begun.
    pub attempts: u32,
    /// When it was first asked for: milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it was first sent.
    pub sent_ms: Option<i64>,
    /// When it last changed.
    pub changed_ms: i64,
    /// The answer that is given again.
    pub kept: Option<Kept>,
    /// Ids of the records that it created or changed.
    pub record_ids: Vec<String>,
    /// What people said of it while it was unknown.
    pub opinions: Vec<Opinion>,
    /// Why it is unknown, or why it waits; for operators.
    pub note: String,
}

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It happened.
    Executed {
        /// The answer to give again.
        kept: Kept,
        /// The records that it created or changed.
        record_ids: Vec<String>,
    },
    /// It definitely did not happen.
    Failed {
        /// The answer to give again.
        kept: Kept,
    },
    /// Nobody knows; asked again not before `retry_in_ms` from now.
    Unknown {
        /// Why, for operators.
        note: String,
        /// Milliseconds until the next look.
        retry_in_ms: i64,
    },
}

/// What a call finds under its key.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Nothing has been sent: it may be claimed.
    Free,
    /// It came to an end; the first answer is in it.
    Ended(Box<Execution>),
    /// Somebody is at it.
    InFlight,
    /// Nobody knows what became of it.
    Unknown,
    /// The key was used for another write.
    Mismatch,
}

/// What a claim came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Claimed {
    /// It is the caller's to send, with this fence.
    Mine(Box<Execution>),
    /// It is not; here is why.
    Theirs(Found),
}

impl Execution {
    /// What a call with this fingerprint finds.
    #[must_use]
    pub fn found(&self, fingerprint: &str, now_ms: i64) -> Found {
        if self.plan.fingerprint != fingerprint {
            return Found::Mismatch;
        }
        match self.state {
            State::Reserved => Found::Free,
            State::Executed | State::Failed => Found::Ended(Box::new(self.clone())),
            State::Sent if now_ms <= self.lease_until_ms => Found::InFlight,
            State::Sent | State::Unknown => Found::Unknown,
        }
    }

    /// Takes the write to send it, if nothing can have been sent. What it gives must be durable
    /// before the first byte leaves.
    #[must_use]
    pub fn claim(existing: Option<Self>, plan: &Plan, lease: &Lease) -> Claimed {
        let Some(existing) = existing else {
            return Claimed::Mine(Box::new(Self::first(plan, lease)));
        };
        match existing.found(&plan.fingerprint, lease.now_ms) {
            Found::Free => Claimed::Mine(Box::new(Self {
                // WHY: the ids of this try replace those of one that sent nothing.
                plan: plan.clone(),
                state: State::Sent,
                fence: existing.fence.saturating_add(1),
                owner: lease.owner.clone(),
                lease_until_ms: lease.until_ms(),
                attempts: existing.attempts.saturating_add(1),
                sent_ms: Some(lease.now_ms),
                changed_ms: lease.now_ms,
                note: String::new(),
                ..existing
            })),
            other => Claimed::Theirs(other),
        }
    }

    fn first(plan: &Plan, lease: &Lease) -> Self {
        Self {
            plan: plan.clone(),
            state: State::Sent,
            fence: 1,
            owner: lease.owner.clone(),
            lease_until_ms: lease.until_ms(),
            attempts: 1,
            created_ms: lease.now_ms,
            sent_ms: Some(lease.now_ms),
            changed_ms: lease.now_ms,
            kept: None,
            record_ids: Vec::new(),
            opinions: Vec::new(),
            note: String::new(),
        }
    }

    /// Proven that no byte left: the write may be claimed again. None for whoever was left behind.
    #[must_use]
    pub fn released(self, fence: i64, now_ms: i64) -> Option<Self> {
        (self.state == State::Sent && self.fence == fence).then_some(Self {
            state: State::Reserved,
            lease_until_ms: now_ms,
            sent_ms: None,
            changed_ms: now_ms,
            ..self
        })
    }

    /// Notes what became of the try. None for whoever was left behind.
    #[must_use]
    pub fn settled(self, fence: i64, settlement: &Settlement, now_ms: i64) -> Option<Self> {
        if !matches!(self.state, State::Sent | State::Unknown) || self.fence != fence {
            return None;
        }
        let base = Self { changed_ms: now_ms, lease_until_ms: now_ms, ..self };
        Some(match settlement.clone() {
            Settlement::Executed { kept, record_ids } => {
                Self { state: State::Executed, kept: Some(kept), record_ids, note: String::new(), ..base }
            }
            Settlement::Failed { kept } => Self { state: State::Failed, kept: Some(kept), note: String::new(), ..base },
            Settlement::Unknown { note, retry_in_ms } => {
                let lease_until_ms = now_ms.saturating_add(retry_in_ms);
                // Nobody is at it until somebody takes it over.
                Self { state: State::Unknown, owner: String::new(), lease_until_ms, note, ..base }
            }
        })
    }

    /// Takes a write whose owner has not been heard of, to find out what became of it. It is
    /// unknown from then on, and the old owner's fence is worth nothing.
    #[must_use]
    pub fn taken_over(self, lease: &Lease) -> Option<Self> {
        let stuck = matches!(self.state, State::Sent | State::Unknown) && self.lease_until_ms < lease.now_ms;
        stuck.then(|| Self {
            state: State::Unknown,
            fence: self.fence.saturating_add(1),
            owner: lease.owner.clone(),
            lease_until_ms: lease.until_ms(),
            attempts: self.attempts.saturating_add(1),
            changed_ms: lease.now_ms,
            ..self
        })
    }

    /// Whether somebody is finding out what became of it.
    fn is_held(&self, now_ms: i64) -> bool {
        !self.owner.is_empty() && now_ms <= self.lease_until_ms
    }

    /// A person says what became of an unknown write. It counts once a second person says the same.
    pub fn resolved(self, mut opinion: Opinion) -> Result<Self, ResolveFault> {
        if self.state != State::Unknown {
            return Err(ResolveFault::Known);
        }
        if opinion.evidence.trim().is_empty() {
            return Err(ResolveFault::Evidence);
        }
        if self.plan.user == opinion.user {
            return Err(ResolveFault::Own);
        }
        if self.opinions.iter().any(|said| said.user == opinion.user) {
            return Err(ResolveFault::Twice);
        }
        if !opinion.happened {
            opinion.record_ids.clear(); // what did not happen made no records
        }
        let first = self.opinions.first().cloned();
        let mut execution = self;
        let (happened, at_ms) = (opinion.happened, opinion.at_ms);
        execution.opinions.push(opinion.clone());
        execution.changed_ms = at_ms;
        match first {
            None => Ok(execution),
            // WHY: two people who disagree know nothing; the second opinion starts anew.
            Some(first) if first.happened != happened || first.record_ids != opinion.record_ids => {
                execution.opinions = vec![opinion];
                Ok(execution)
            }
            // WHY: whoever has it may be sending it again at this moment.
            Some(_) if !happened && execution.is_held(at_ms) => Err(ResolveFault::Known),
            Some(first) => {
                let body =
                    serde_json::json!({"resolvedBy": "people", "happened": happened, "recordIds": first.record_ids});
                execution.state = if happened { State::Executed } else { State::Failed };
                execution.fence = execution.fence.saturating_add(1);
                execution.record_ids.clone_from(&first.record_ids);
                execution.note.clear();
                execution.kept = Some(Kept {
                    status: if happened { 200 } else { 409 },
                    content_type: Some(FROM_BOOKS.to_owned()),
                    body: Some(body.to_string().into_bytes()),
                    by: KnownBy::People,
                });
                Ok(execution)
            }
        }
    }
}

/// Why a person cannot settle a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveFault {
    /// There is no such write in the person's organisation.
    #[error("there is no such write in your organisation")]
    Missing,
    /// Its outcome is known, or somebody is at it.
    #[error("its outcome is not unknown")]
    Known,
    /// Nobody settles a write without saying how they know.
    #[error("say how you know: the evidence is empty")]
    Evidence,
    /// Nobody settles their own write.
    #[error("it is your own write; two other people must say what became of it")]
    Own,
    /// One opinion each.
    #[error("you have said so already; a second person must agree")]
    Twice,
}

impl ResolveFault {
    /// A stable code for programs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Missing => "write_unknown",
            Self::Known => "write_settled",
            Self::Evidence => "evidence_required",
            Self::Own => "own_write",
            Self::Twice => "duplicate_opinion",
        }
    }
}

#[cfg(test)]
mod tests;
