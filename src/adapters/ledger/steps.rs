//! What becomes of a write and its approval within one transaction, whichever engine holds them.
//!
//! Promises: both change or neither does; every step is one of `domain`'s, by the ledger's clock;
//! a step that was stored while its answer was lost gives the same answer again. Never does IO.
//! Called by the engines of the ledger, once the rows are locked, and by the simulation, whose
//! ledger is these steps over rows in memory.

use crate::domain::approval::Ballot;
use crate::domain::approval::Ground;
use crate::domain::approval::Person;
use crate::domain::approval::Ticket;
use crate::domain::approval::Unusable;
use crate::domain::approval::VoteFault;
use crate::domain::idempotency::Claimed;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::Lease;
use crate::domain::idempotency::Opinion;
use crate::domain::idempotency::Plan;
use crate::domain::idempotency::ResolveFault;
use crate::domain::idempotency::Settlement;
use crate::domain::idempotency::State;
use crate::pep::ports::Claim;

/// The rows that a step needs.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// A write and the approval that it uses.
    Execution(String),
    /// A write, which may not be there yet, and this approval.
    Both(String, Option<String>),
    /// An approval.
    Ticket(String),
}

/// What was found of them, locked until the transaction ends.
#[derive(Debug)]
pub struct Held {
    /// The write.
    pub execution: Option<Execution>,
    /// The approval that it uses.
    pub ticket: Option<Ticket>,
    /// The ledger's clock, read once the locks were had.
    pub now_ms: i64,
}

/// What is to be stored, and what is to be said once it is.
#[derive(Debug)]
#[must_use]
pub struct Change<T> {
    /// The write, if it changes.
    pub execution: Option<Execution>,
    /// The approval, if it changes.
    pub ticket: Option<Ticket>,
    /// What is said.
    pub answer: T,
}

impl<T> Change<T> {
    fn none(answer: T) -> Self {
        Self { execution: None, ticket: None, answer }
    }
}

/// Takes a write to send it, with the approval that it uses.
pub fn claim(held: Held, plan: &Plan, issued: Option<&Ticket>, owner: &str, for_ms: i64) -> Change<Claim> {
    let lease = Lease { owner: owner.to_owned(), now_ms: held.now_ms, for_ms };
    let execution = match Execution::claim(held.execution, plan, &lease) {
        Claimed::Mine(execution) => execution,
        theirs @ Claimed::Theirs(_) => return Change::none(Claim::Write(theirs)),
    };
    match consumed(held.ticket, plan, issued, held.now_ms) {
        Ok(ticket) => Change {
            execution: Some(execution.as_ref().clone()),
            ticket,
            answer: Claim::Write(Claimed::Mine(execution)),
        },
        Err(unusable) => Change::none(Claim::Approval(unusable)),
    }
}

/// The approval of a plan, taken by its execution. The stored one counts; `issued` only where there is none.
fn consumed(
    stored: Option<Ticket>,
    plan: &Plan,
    issued: Option<&Ticket>,
    now_ms: i64,
) -> Result<Option<Ticket>, Unusable> {
    if issued.is_some_and(|issued| Some(&issued.id) != plan.approval_id.as_ref()) {
        return Err(Unusable::Mismatch);
    }
    if plan.approval_id.is_none() {
        return Ok(None);
    }
    let ticket = stored.or_else(|| issued.cloned()).ok_or(Unusable::Unknown)?;
    let requester = Person { issuer: plan.issuer.clone(), user: plan.user.clone() };
    ticket.covers(&plan.tenant, &requester, (&plan.tool, &plan.definition), &plan.arguments)?;
    ticket.consumed(&plan.execution_id, now_ms).map(Some)
}

/// Gives a claim back, and the approval with it.
pub fn release(held: Held, fence: i64) -> Change<bool> {
    let Some(execution) = held.execution.and_then(|execution| execution.released(fence, held.now_ms)) else {
        return Change::none(false);
    };
    let ticket = held.ticket.map(|ticket| ticket.given_back(&execution.plan.execution_id));
    Change { execution: Some(execution), ticket, answer: true }
}

/// Notes what became of a claim, and of the approval with it.
pub fn settle(held: Held, fence: i64, settlement: &Settlement) -> Change<bool> {
    let Some(execution) = held.execution else { return Change::none(false) };
    // WHY: only the holder of this fence can have stored this; an earlier try of it came through.
    if execution.fence == fence && says(&execution, settlement) {
        return Change::none(true);
    }
    let Some(execution) = execution.settled(fence, settlement, held.now_ms) else { return Change::none(false) };
    let ticket = concluded(held.ticket, &execution);
    Change { execution: Some(execution), ticket, answer: true }
}

fn says(execution: &Execution, settlement: &Settlement) -> bool {
    match settlement {
        Settlement::Executed { kept, record_ids } => {
            execution.state == State::Executed
                && execution.kept.as_ref() == Some(kept)
                && execution.record_ids == *record_ids
        }
        Settlement::Failed { kept } => execution.state == State::Failed && execution.kept.as_ref() == Some(kept),
        Settlement::Unknown { .. } => false,
    }
}

fn concluded(ticket: Option<Ticket>, execution: &Execution) -> Option<Ticket> {
    let happened = execution.state == State::Executed;
    let ended = execution.state.is_final();
    ticket.filter(|_| ended).map(|ticket| ticket.concluded(&execution.plan.execution_id, happened))
}

/// A person says what became of an unknown write.
pub fn resolve(held: Held, opinion: &Opinion) -> Change<Result<Execution, ResolveFault>> {
    let Some(execution) = held.execution else { return Change::none(Err(ResolveFault::Missing)) };
    match execution.resolved(Opinion { at_ms: held.now_ms, ..opinion.clone() }) {
        Ok(execution) => {
            let ticket = concluded(held.ticket, &execution);
            Change { execution: Some(execution.clone()), ticket, answer: Ok(execution) }
        }
        Err(fault) => Change::none(Err(fault)),
    }
}

/// Counts a vote.
pub fn vote(held: Held, ballot: &Ballot) -> Change<Result<Ticket, VoteFault>> {
    let ballot = Ballot { at_ms: held.now_ms, ..ballot.clone() };
    on_ticket(held.ticket, |ticket| ticket.voted(ballot))
}

/// Takes an approval back.
pub fn take_back(held: Held, by: &Person, ground: Ground, reason: &str) -> Change<Result<Ticket, VoteFault>> {
    let now_ms = held.now_ms;
    on_ticket(held.ticket, |ticket| ticket.taken_back(by, ground, reason, now_ms))
}

/// WHY a fault stores nothing, not even that time has run out: `expire` tells of that, once.
fn on_ticket(
    ticket: Option<Ticket>,
    step: impl FnOnce(Ticket) -> Result<Ticket, VoteFault>,
) -> Change<Result<Ticket, VoteFault>> {
    match ticket.ok_or(VoteFault::Unknown).and_then(step) {
        Ok(ticket) => Change { execution: None, ticket: Some(ticket.clone()), answer: Ok(ticket) },
        Err(fault) => Change::none(Err(fault)),
    }
}
