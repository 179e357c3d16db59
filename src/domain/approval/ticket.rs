//! The state machine of one approval: pending → approved → executed or failed; or rejected.
//!
//! Promises: every step gives a whole new ticket or says why not; a deadline counts from the moment
//! it has passed, whether or not anybody has written it down. Never reads a clock.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Person;
use super::Requirement;
use super::Subject;
use crate::domain::canonical;
use crate::domain::pdp::ApprovalFacts;
use crate::domain::pdp::Vote;
use crate::domain::refusal::Reason;

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// People have been asked.
    Pending,
    /// Enough of them agreed.
    Approved,
    /// It ended without being used; [`Ticket::ended`] says why.
    Rejected,
    /// What was approved was done.
    Executed,
    /// What was approved was tried and definitely did not happen.
    Failed,
}

impl State {
    /// The name as users know it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Executed => "executed",
            Self::Failed => "failed",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Pending, Self::Approved, Self::Rejected, Self::Executed, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// Why an approval ended without being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// Somebody who might have agreed said no.
    Rejected,
    /// Nobody answered, or nobody used it, in time.
    Expired,
    /// It was taken back after it was given.
    Revoked,
    /// The requester withdrew it.
    Cancelled,
}

/// How an approval ended without being used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// On what ground.
    pub ground: Ground,
    /// By whom; nobody when time ran out.
    pub by: Option<Person>,
    /// In their words.
    pub reason: String,
    /// When: milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No; one is enough.
    Reject,
}

/// One person's vote, with the standing they had when they cast it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ballot {
    /// Who.
    pub voter: Person,
    /// Their organisation roles then.
    pub roles: Vec<String>,
    /// The teams they were in then.
    pub teams: Vec<String>,
    /// Yes or no.
    pub verdict: Verdict,
    /// In their words.
    pub reason: String,
    /// The digest of what they were shown.
    pub digest: String,
    /// When: milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// Why a vote, or an attempt to end an approval, does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoteFault {
    /// There is no such approval in the voter's organisation.
    #[error("there is no such approval in your organisation")]
    Unknown,
    /// It has been decided, or its time has passed.
    #[error("it is no longer open")]
    Closed,
    /// What the voter saw is not what is to be approved.
    #[error("the digest is not that of this approval: read it again")]
    Digest,
    /// Nobody approves their own request.
    #[error("you asked for it yourself; somebody else must agree")]
    Own,
    /// One vote each.
    #[error("you have voted already")]
    Twice,
    /// Policy did not name them.
    #[error("policy does not name you as an approver of it")]
    Standing,
    /// It is being carried out or has been.
    #[error("it has been used")]
    Spent,
}

impl VoteFault {
    /// A stable code for programs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unknown => "approval_unknown",
            Self::Closed => "approval_closed",
            Self::Digest => "approval_mismatch",
            Self::Own => "self_approval",
            Self::Twice => "duplicate_vote",
            Self::Standing => "not_an_approver",
            Self::Spent => "approval_spent",
        }
    }
}

/// A request for approval with all that has become of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// Approval id: `apr_…`, or `ext_…` where LoopIQ issued the approval itself.
    pub id: String,
    /// What is to be approved.
    pub subject: Subject,
    /// SHA-256 (hex) of the subject.
    pub digest: String,
    /// Who must agree.
    pub requirement: Requirement,
    /// Why policy asks.
    pub reasons: Vec<Reason>,
    /// When it was asked for: milliseconds since the Unix epoch.
    pub asked_ms: i64,
    /// The gateway's id of the request that asked.
    pub request_id: String,
    /// Its trace.
    pub trace_id: String,
    /// Where it stands; see [`Ticket::at`].
    pub state: State,
    /// How it ended without being used.
    pub ended: Option<Ending>,
    /// The votes, in their order.
    pub ballots: Vec<Ballot>,
    /// Until when it may be used, once it was given: milliseconds since the Unix epoch.
    pub execute_by_ms: Option<i64>,
    /// The execution that used it.
    pub consumed_by: Option<String>,
}

impl Ticket {
    /// The ticket as it stands at a moment: one whose time has passed is rejected as expired.
    #[must_use]
    pub fn at(mut self, now_ms: i64) -> Self {
        let lapsed = match self.state {
            State::Pending => (now_ms > self.subject.approve_by_ms).then_some(self.subject.approve_by_ms),
            State::Approved if self.consumed_by.is_none() => self.execute_by_ms.filter(|by| now_ms > *by),
            State::Approved | State::Rejected | State::Executed | State::Failed => None,
        };
        if let Some(at_ms) = lapsed {
            let reason = match self.state {
                State::Pending => "nobody decided in time",
                _ => "it was not used in time",
            };
            self.state = State::Rejected;
            self.ended = Some(Ending { ground: Ground::Expired, by: None, reason: reason.to_owned(), at_ms });
        }
        self
    }

    /// Counts a vote. The second half of the answer says whether this vote decided it.
    pub fn voted(self, ballot: Ballot) -> Result<Self, VoteFault> {
        let mut ticket = self.at(ballot.at_ms);
        if ticket.state != State::Pending {
            return Err(if ticket.consumed_by.is_some() { VoteFault::Spent } else { VoteFault::Closed });
        }
        if ballot.voter.user == ticket.subject.requester.user {
            // WHY by user alone: two issuers may name one person, and when unsure nobody votes for themselves.
            return Err(VoteFault::Own);
        }
        if !ticket.requirement.entitles(&ballot.voter.user, &ballot.roles, &ballot.teams) {
            return Err(VoteFault::Standing);
        }
        if ballot.digest != ticket.digest {
            return Err(VoteFault::Digest);
        }
        if ticket.ballots.iter().any(|cast| cast.voter.user == ballot.voter.user) {
            return Err(VoteFault::Twice);
        }
        let Ballot { voter, reason, at_ms, verdict, .. } = ballot.clone();
        ticket.ballots.push(ballot);
        match verdict {
            Verdict::Reject => {
                ticket.state = State::Rejected;
                ticket.ended = Some(Ending { ground: Ground::Rejected, by: Some(voter), reason, at_ms });
            }
            Verdict::Approve if ticket.agreed() >= ticket.requirement.count as usize => {
                ticket.state = State::Approved;
                let within_ms = i64::try_from(ticket.subject.execute_within_s).unwrap_or(i64::MAX).saturating_mul(1000);
                ticket.execute_by_ms = Some(at_ms.saturating_add(within_ms));
            }
            Verdict::Approve => {}
        }
        Ok(ticket)
    }

    /// Takes it back before it is used: an approver revokes, the requester cancels.
    pub fn taken_back(self, by: &Person, ground: Ground, reason: &str, now_ms: i64) -> Result<Self, VoteFault> {
        let mut ticket = self.at(now_ms);
        if ticket.consumed_by.is_some() {
            return Err(VoteFault::Spent);
        }
        if !matches!(ticket.state, State::Pending | State::Approved) {
            return Err(VoteFault::Closed);
        }
        ticket.state = State::Rejected;
        ticket.ended = Some(Ending { ground, by: Some(by.clone()), reason: reason.to_owned(), at_ms: now_ms });
        Ok(ticket)
    }

    /// Whether it is for this: none at all for another organisation or requester, and a mismatch
    /// for another tool, definition or arguments.
    pub fn covers(
        &self,
        tenant: &str,
        requester: &Person,
        (tool, definition): (&str, &str),
        arguments: &Map<String, Value>,
    ) -> Result<(), Unusable> {
        let subject = &self.subject;
        if subject.tenant != tenant || subject.requester != *requester {
            return Err(Unusable::Unknown);
        }
        let same = subject.tool == tool && subject.definition == definition && alike(&subject.arguments, arguments);
        if same { Ok(()) } else { Err(Unusable::Mismatch) }
    }

    /// Gives it to one execution. The same execution may take it again, nobody else.
    pub fn consumed(self, execution_id: &str, now_ms: i64) -> Result<Self, Unusable> {
        let mut ticket = self.at(now_ms);
        match (&ticket.state, &ticket.consumed_by) {
            (State::Approved, None) => {
                ticket.consumed_by = Some(execution_id.to_owned());
                Ok(ticket)
            }
            (State::Approved, Some(by)) if by == execution_id => Ok(ticket),
            (State::Approved | State::Executed | State::Failed, _) => Err(Unusable::Spent),
            (State::Pending, _) => Err(Unusable::Pending),
            (State::Rejected, _) => Err(Unusable::of(&ticket)),
        }
    }

    /// Proven that nothing was sent: it may be used again.
    #[must_use]
    pub fn given_back(mut self, execution_id: &str) -> Self {
        if self.state == State::Approved && self.consumed_by.as_deref() == Some(execution_id) {
            self.consumed_by = None;
        }
        self
    }

    /// What it was used for has come to an end.
    #[must_use]
    pub fn concluded(mut self, execution_id: &str, happened: bool) -> Self {
        if self.state == State::Approved && self.consumed_by.as_deref() == Some(execution_id) {
            self.state = if happened { State::Executed } else { State::Failed };
        }
        self
    }

    /// How many have agreed.
    #[must_use]
    pub fn agreed(&self) -> usize {
        self.ballots.iter().filter(|ballot| ballot.verdict == Verdict::Approve).count()
    }

    /// What a policy may know of it. An approval that is in use counts as approved: the ledger, not
    /// policy, sees to it that it is used once.
    #[must_use]
    pub fn facts(&self) -> ApprovalFacts {
        let state = if self.consumed_by.is_some() { State::Approved } else { self.state };
        let votes = self.ballots.iter().filter(|ballot| ballot.verdict == Verdict::Approve);
        ApprovalFacts {
            id: self.id.clone(),
            state: state.as_str().to_owned(),
            votes: votes
                .map(|ballot| Vote {
                    user: ballot.voter.user.clone(),
                    roles: ballot.roles.clone(),
                    teams: ballot.teams.clone(),
                })
                .collect(),
        }
    }
}

/// Equal as RFC 8785 has it, where `1` and `1.0` are one number; what has no such form is like nothing else.
fn alike(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let digest = |map: &Map<String, Value>| canonical::digest_value(&Value::Object(map.clone())).ok();
    one == other || digest(one).is_some_and(|one| Some(one) == digest(other))
}

/// Why an approval cannot be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There is none of that id for this requester.
    #[error("there is no such approval")]
    Unknown,
    /// Not enough people have agreed.
    #[error("it is still pending")]
    Pending,
    /// Somebody said no, or took it back.
    #[error("it was rejected")]
    Rejected,
    /// Its time has passed.
    #[error("it has expired")]
    Expired,
    /// Another execution has it.
    #[error("it has been used")]
    Spent,
    /// It is not for this.
    #[error("it covers something else")]
    Mismatch,
}

impl Unusable {
    fn of(ticket: &Ticket) -> Self {
        match &ticket.ended {
            Some(ending) if ending.ground == Ground::Expired => Self::Expired,
            _ => Self::Rejected,
        }
    }
}
