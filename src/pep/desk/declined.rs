//! How the desk says no.
//!
//! Promises: a stable code, what failed in the user's own names, what to do next; what somebody may
//! not see and what does not exist have one constructor, so that the two cannot differ.

use crate::domain::approval::Ticket;
use crate::domain::approval::VoteFault;
use crate::domain::idempotency::ResolveFault;
use crate::domain::refusal::Challenge;
use crate::domain::refusal::Code;
use crate::domain::refusal::Refusal;
use crate::pep::ports::LedgerFault;

/// What kind of no; the door makes its status of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody knows who asks.
    Stranger,
    /// The request itself makes no sense.
    Request,
    /// They may see it, and may not do that.
    Forbidden,
    /// There is no such thing, or none that they may see.
    Missing,
    /// Not in the state that it is in.
    Conflict,
    /// The gateway cannot do it now.
    Unavailable,
}

/// A no.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Declined {
    /// What kind of no.
    pub kind: Kind,
    /// Stable, for programs.
    pub code: &'static str,
    /// What failed.
    pub message: String,
    /// What to do next.
    pub next: String,
    /// How to get a credential, for strangers.
    pub challenge: Option<Challenge>,
}

impl Declined {
    /// A no of any kind.
    #[must_use]
    pub fn of(kind: Kind, code: &'static str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), next: next.into(), challenge: None }
    }

    /// The request makes no sense.
    #[must_use]
    pub fn request(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::of(Kind::Request, "invalid_request", message, next)
    }

    pub(super) fn stranger(challenge: Challenge) -> Self {
        let (message, next) = (challenge.code.message(), challenge.code.next());
        let no = Self::of(Kind::Stranger, challenge.code.as_str(), message, next);
        Self { challenge: Some(challenge), ..no }
    }

    pub(super) fn no_approval() -> Self {
        let next = "list the approvals that you may see, and use the id of one of them";
        Self::of(Kind::Missing, VoteFault::Unknown.code(), VoteFault::Unknown.to_string(), next)
    }

    pub(super) fn no_write() -> Self {
        let next = "list the writes that you may see, and use the id of one of them";
        Self::of(Kind::Missing, ResolveFault::Missing.code(), ResolveFault::Missing.to_string(), next)
    }

    pub(super) fn no_record() -> Self {
        let next = "use an audit reference, or the id of a request, approval, execution, idempotency key or record";
        Self::of(Kind::Missing, "record_unknown", "no record of your organisation goes by that id", next)
    }

    pub(super) fn not_a_person(what: &str) -> Self {
        let message = format!("service accounts do not {what}; a person must");
        Self::of(Kind::Forbidden, "not_a_person", message, "sign in as yourself")
    }

    pub(super) fn role(what: &str, roles: &[String]) -> Self {
        let message = format!("{what} needs one of the roles: {}", roles.join(", "));
        Self::of(Kind::Forbidden, "role_required", message, "ask somebody who has it")
    }

    /// Why a vote does not count, or an approval cannot be taken back.
    pub(super) fn vote(fault: VoteFault, ticket: &Ticket) -> Self {
        let (kind, next) = match fault {
            VoteFault::Unknown => return Self::no_approval(),
            VoteFault::Closed => (Kind::Conflict, "nothing is left to decide; its requester may ask anew"),
            VoteFault::Digest => (Kind::Conflict, "read the approval again, and decide about what it says now"),
            VoteFault::Own => (Kind::Forbidden, "ask one of its approvers"),
            VoteFault::Twice => (Kind::Conflict, "wait for the others"),
            VoteFault::Standing => (Kind::Forbidden, "leave it to its approvers"),
            VoteFault::Spent => (Kind::Conflict, "look at what became of it"),
        };
        let message = match (fault, &ticket.ended) {
            (VoteFault::Closed, Some(ended)) => {
                let reason = if ended.reason.is_empty() { "no reason given" } else { &ended.reason };
                format!("{fault}: it is {}: {reason}", ticket.state.as_str())
            }
            (VoteFault::Closed, None) => format!("{fault}: it is {}", ticket.state.as_str()),
            (VoteFault::Standing, _) => format!("{fault}; it needs {}", ticket.requirement.words()),
            _ => fault.to_string(),
        };
        Self::of(kind, fault.code(), message, next)
    }
}

impl From<ResolveFault> for Declined {
    fn from(fault: ResolveFault) -> Self {
        let (kind, next) = match fault {
            ResolveFault::Missing => return Self::no_write(),
            ResolveFault::Known => (Kind::Conflict, "read it again; if somebody is at it, wait"),
            ResolveFault::Evidence => (Kind::Request, "say in `evidence` where you looked and what you found"),
            ResolveFault::Own => (Kind::Forbidden, "ask two others"),
            ResolveFault::Twice => (Kind::Conflict, "ask somebody else to look as well"),
        };
        Self::of(kind, fault.code(), fault.to_string(), next)
    }
}

impl From<Refusal> for Declined {
    fn from(refusal: Refusal) -> Self {
        let kind = if refusal.code == Code::TenantRequired { Kind::Request } else { Kind::Forbidden };
        let why: Vec<&str> = refusal.reasons.iter().map(|reason| reason.message.as_str()).collect();
        Self::of(kind, refusal.code.as_str(), why.join("; "), refusal.next)
    }
}

impl From<LedgerFault> for Declined {
    fn from(fault: LedgerFault) -> Self {
        // WHY: the cause may name hosts and files, which are the operators' and stand in the log.
        tracing::error!("{fault}");
        let message = "approvals and writes cannot be read or changed at the moment";
        let next = "try again later, and read before you repeat a change; an operator has been told";
        Self::of(Kind::Unavailable, Code::LedgerUnavailable.as_str(), message, next)
    }
}
