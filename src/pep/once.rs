//! remember, settle: a write happens once, and its first answer is its answer.
//!
//! Promises: a write has a key and is in the ledger, durably, before its first byte leaves; a key
//! means one write, and a call that repeats it gets the first answer, once today's policy has let
//! it through; what became of a write is in the ledger before anyone is told; what nobody knows is
//! said to be unknown. Never sends. Called by `pep`.

use std::time::Duration;
use std::time::Instant;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant as Moment;

use super::Pep;
use super::act::note;
use super::act::writes;
use super::asked::Asked;
use super::asked::Reach;
use super::asked::Reply;
use super::asked::fresh_uuid;
use super::decide::Standing;
use super::decide::input;
use super::ports::Action;
use super::ports::Claim;
use super::ports::LedgerFault;
use super::recall::Recalled;
use super::recall::unavailable;
use crate::domain::approval::Unusable;
use crate::domain::audit::record::Execution as Became;
use crate::domain::catalog::Impact;
use crate::domain::idempotency::Claimed;
use crate::domain::idempotency::Deed;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::Found;
use crate::domain::idempotency::Key;
use crate::domain::idempotency::Plan;
use crate::domain::idempotency::Sending;
use crate::domain::idempotency::Settlement;
use crate::domain::idempotency::State;
use crate::domain::idempotency::Supplier;
use crate::domain::idempotency::execution_id;
use crate::domain::pdp::Input;
use crate::domain::pdp::Phase;
use crate::domain::pdp::ruling::Permit;
use crate::domain::refusal::Code;
use crate::domain::refusal::No;
use crate::domain::refusal::Refusal;
use crate::metrics::Stage;

/// Milliseconds that a write's owner has beyond the backend's own time, to settle it.
const LEASE_MARGIN_MS: u64 = 10_000;
/// From taking a write to its first byte; whoever comes later does not send it.
pub(super) const BEGIN_WITHIN: Duration = Duration::from_secs(10);
/// Milliseconds until an unknown outcome is looked at for the first time.
const FIRST_LOOK_MS: i64 = 500;
/// Milliseconds after which a caller may ask again.
const ASK_AGAIN_MS: u64 = 1_000;

/// How a call stands to the ledger.
#[derive(Debug)]
pub(super) enum Held {
    /// It changes nothing.
    Nothing,
    /// It was made before; this is what came of it.
    Again(Box<Execution>),
    /// It is to be made; nothing has been sent under its key.
    New(Box<Plan>),
    /// It is the caller's to send.
    Mine(Box<Execution>),
}

/// A write that is being carried out by this call.
#[derive(Debug)]
pub(super) struct Underway {
    /// Its key at the backend.
    pub(super) execution_id: String,
    /// Whoever holds another one has been left behind.
    pub(super) fence: i64,
    /// What became of it, as far as that is known.
    pub(super) came: Came,
    /// When its first byte may leave at the latest.
    pub(super) send_before: Moment,
}

/// What became of a try.
#[derive(Debug)]
pub(super) enum Came {
    /// No byte has left.
    NotSent,
    /// As the ledger is to have it.
    Settled(Settlement),
}

impl Came {
    /// Nobody knows, for this cause.
    pub(super) fn unknown(cause: impl std::fmt::Display) -> Self {
        Self::Settled(Settlement::Unknown { note: cause.to_string(), retry_in_ms: FIRST_LOOK_MS })
    }
}

impl Underway {
    /// A write about to be sent: until an answer says otherwise, nobody knows.
    fn begun(execution: &Execution, claimed: Moment) -> Self {
        let came = Came::unknown("the gateway did not get to know");
        let execution_id = execution.plan.execution_id.clone();
        // WHY: who stood still since the claim, and begins only now, may send what others have found
        // by then never to have happened.
        Self { execution_id, fence: execution.fence, came, send_before: claimed + BEGIN_WITHIN }
    }
}

impl Pep {
    /// A write gets the key under which it happens once, and what was made under it is found.
    ///
    /// The backend sees an execution id instead of the key, so that no two callers ever share one.
    pub(super) async fn remember(
        &self,
        standing: &Standing,
        permit: &Permit<Action>,
        asked: &mut Asked,
        recalled: &Recalled,
    ) -> Result<Held, No> {
        if !writes(permit) {
            return Ok(Held::Nothing);
        }
        recalled.available()?;
        let started = Instant::now();
        let (key, supplier) = self.key(permit.action(), asked, recalled)?;
        let execution = execution_id(&standing.tenant, &standing.principal, &key);
        asked.record.keyed(key.as_str(), Some(&execution));
        asked.tell("idempotencyKey", key.as_str());
        asked.tell("executionId", execution.clone());
        asked.tell("replayed", false);
        asked.controls.idempotency_key = Some(key.as_str().to_owned());
        let plan = plan(standing, permit, asked, recalled, (execution, key, supplier))?;
        let earlier = match &recalled.write {
            Some(write) if write.plan.execution_id == plan.execution_id => Some(write.clone()),
            // A key made for this call has no past.
            _ if supplier == Supplier::Gateway => None,
            _ => self.ledger.find(&plan.execution_id).await.map_err(|fault| unavailable(&fault))?,
        };
        asked.took(&self.metrics, Stage::Remember, started);
        let found = earlier.map_or(Found::Free, |earlier| earlier.found(&plan.fingerprint, asked.now_ms));
        let used_by = recalled.ticket.as_ref().and_then(|ticket| ticket.consumed_by.as_deref());
        match found {
            Found::Free => match used_by {
                None => Ok(Held::New(Box::new(plan))),
                // WHY: it was in use when it was looked at, so nothing was compared with what was
                // approved; it has been given back since, and is looked at anew with the next call.
                Some(by) if by == plan.execution_id => met(Found::InFlight, asked),
                // WHY: an approval that another write has used is spent, whatever key comes with it.
                Some(_) => Err(spent(asked).into()),
            },
            other => met(other, asked),
        }
    }

    /// The caller's key, or the approval's, or a fresh one for a write that needs no more.
    fn key(&self, action: &Action, asked: &Asked, recalled: &Recalled) -> Result<(Key, Supplier), Refusal> {
        // INVARIANT: `mcp::controls` let no key through that this grammar refuses.
        let parsed =
            |text: &str| Key::parse(text).map_err(|fault| Refusal::of(Code::IdempotencyMismatch).detail(fault));
        if let Some(key) = asked.controls.idempotency_key.as_deref() {
            return Ok((parsed(key)?, Supplier::Client));
        }
        if let Some(write) = recalled.write.as_ref().filter(|_| recalled.ticket.is_some()) {
            return Ok((parsed(&write.plan.key)?, write.plan.supplier));
        }
        if let Some(ticket) = &recalled.ticket {
            return Ok((parsed(&ticket.id)?, Supplier::Approval));
        }
        if action.tool.impact == Impact::High {
            return Err(Refusal::of(Code::IdempotencyKeyRequired));
        }
        let fresh = fresh_uuid(asked.now_ms, self.clock.random());
        Ok((parsed(&fresh.to_string())?, Supplier::Gateway))
    }

    /// Takes the write, and the approval with it, in one durable step. From here on it may be sent.
    pub(super) async fn claim(&self, asked: &mut Asked, held: Held, recalled: &Recalled) -> Result<Held, No> {
        let Held::New(plan) = held else { return Ok(held) };
        let (started, claimed) = (Instant::now(), Moment::now());
        let lease_ms = plan.request.timeout_ms.saturating_add(LEASE_MARGIN_MS);
        let issued = recalled.ticket.as_ref().filter(|ticket| ticket.subject.is_issued());
        let claim = self.ledger.claim(&plan, issued, i64::try_from(lease_ms).unwrap_or(i64::MAX)).await;
        asked.took(&self.metrics, Stage::Remember, started);
        match claim.map_err(|fault| unheard(&fault, asked))? {
            Claim::Write(Claimed::Mine(execution)) => {
                asked.underway = Some(Underway::begun(&execution, claimed));
                Ok(Held::Mine(execution))
            }
            Claim::Write(Claimed::Theirs(found)) => met(found, asked),
            Claim::Approval(cause) => Err(unusable(cause, asked).into()),
        }
    }

    /// What became of the write is durable, or nobody is told that it is known.
    pub(super) async fn settle(&self, asked: &mut Asked, outcome: Result<Reply, No>) -> Result<Reply, No> {
        let Some(Underway { execution_id, fence, came, .. }) = asked.underway.take() else { return outcome };
        let started = Instant::now();
        let stored = match &came {
            Came::NotSent => self.ledger.release(&execution_id, fence).await,
            Came::Settled(settlement) => self.ledger.settle(&execution_id, fence, settlement).await,
        };
        asked.took(&self.metrics, Stage::Settle, started);
        let why = match stored {
            Ok(true) => return outcome,
            Ok(false) => "somebody else has taken the write over".to_owned(),
            Err(fault) => fault.to_string(),
        };
        // WHY: even where nothing was sent: a claim that could not be given back will be found, and the
        // write may yet be made under its key.
        asked.audit_meta.remove("recordIds");
        Err(unknown(asked, why).into())
    }
}

/// What a call gets that is not the first under its key.
fn met(found: Found, asked: &mut Asked) -> Result<Held, No> {
    let key = asked.controls.idempotency_key.clone().unwrap_or_default();
    let told = |code: Code| Refusal::of(code).with("idempotencyKey", key.clone());
    match found {
        Found::Ended(execution) => {
            asked.tell("replayed", true);
            // The approval that it was made under, whichever the call names.
            if let Some(id) = &execution.plan.approval_id {
                asked.record.approved_by(id);
                asked.tell("approvalId", id.clone());
            }
            Ok(Held::Again(execution))
        }
        Found::Unknown => Err(unknown(asked, "its outcome is being found out").into()),
        Found::Mismatch => Err(told(Code::IdempotencyMismatch).into()),
        // A claim never finds the write free; if one did, somebody else is about to take it.
        Found::InFlight | Found::Free => Err(told(Code::ExecutionInFlight).with("retryAfterMs", ASK_AGAIN_MS).into()),
    }
}

/// The ledger did not say whether it took the write. If it did, the write is made under its key, so
/// whoever calls again must name that key, also one that the gateway chose.
fn unheard(fault: &LedgerFault, asked: &Asked) -> Refusal {
    let key = asked.controls.idempotency_key.clone().unwrap_or_default();
    let next = format!(
        "try again later with `idempotencyKey` {key} and the same arguments, never with a new key: the write may yet be made under this one"
    );
    Refusal::because(Code::LedgerUnavailable, "the ledger did not say whether it has taken the write")
        .then(next)
        .with("idempotencyKey", key)
        .detail(fault)
}

/// Nobody knows whether a write happened; the gateway finds out, and the caller asks again.
pub(super) fn unknown(asked: &Asked, detail: impl std::fmt::Display) -> Refusal {
    let key = asked.controls.idempotency_key.clone().unwrap_or_default();
    let next = if key.is_empty() {
        "do not take it for a preview; look for the record in LoopIQ first".to_owned()
    } else {
        format!(
            "the gateway is finding out: call again with `idempotencyKey` {key} and the same arguments, never with a new key"
        )
    };
    Refusal::of(Code::ExecutionUnknown)
        .then(next)
        .with("idempotencyKey", key)
        .with("retryAfterMs", ASK_AGAIN_MS)
        .detail(detail)
}

fn spent(asked: &Asked) -> Refusal {
    let refusal = Refusal::of(Code::ApprovalSpent);
    match asked.audit_meta.get("approvalId") {
        Some(id) => refusal.with("approvalId", id.clone()),
        None => refusal,
    }
}

fn unusable(cause: Unusable, asked: &Asked) -> Refusal {
    let code = match cause {
        Unusable::Unknown | Unusable::Mismatch => Code::ApprovalMismatch,
        Unusable::Pending => Code::ApprovalPending,
        Unusable::Rejected => Code::ApprovalRejected,
        Unusable::Expired => Code::ApprovalExpired,
        Unusable::Spent => return spent(asked),
    };
    let id = asked.audit_meta.get("approvalId").cloned().unwrap_or_default();
    Refusal::of(code).with("approvalId", id).detail(cause)
}

/// The write, whole: what is sent, what policy was asked, and by whom.
fn plan(
    standing: &Standing,
    permit: &Permit<Action>,
    asked: &Asked,
    recalled: &Recalled,
    (execution_id, key, supplier): (String, Key, Supplier),
) -> Result<Plan, Refusal> {
    let (action, principal) = (permit.action(), &standing.principal);
    let approval = recalled.ticket.as_ref().map(|ticket| ticket.id.clone());
    let workflow = asked.controls.workflow.clone().unwrap_or_default();
    let deed = Deed {
        tenant: &standing.tenant,
        caller: principal,
        tool: &action.tool,
        arguments: &action.arguments,
        workflow: &workflow,
    };
    let fingerprint = deed.fingerprint().map_err(|cause| {
        Refusal::because(Code::InvalidArguments, "a number cannot be carried exactly; send it as a string")
            .detail(cause)
    })?;
    let request = action.tool.request(&action.arguments, false)?;
    let body = request.body.map(String::from_utf8).transpose();
    let sending = Sending {
        backend: request.backend,
        method: request.method,
        path_and_query: request.path_and_query,
        // INVARIANT: the catalog writes bodies as RFC 8785, which is UTF-8.
        body: body.map_err(|cause| Refusal::of(Code::InvalidArguments).detail(cause))?,
        if_match: asked.if_match.clone(),
        timeout_ms: u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let of_meta = |name: &str| asked.audit_meta.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Plan {
        execution_id,
        tenant: standing.tenant.as_str().to_owned(),
        issuer: principal.issuer.clone(),
        user: principal.user.clone(),
        client: principal.client.clone().unwrap_or_default(),
        workflow,
        key: key.as_str().to_owned(),
        supplier,
        fingerprint,
        tool: action.tool.name.clone(),
        definition: action.tool.digest.clone(),
        arguments: action.arguments.clone(),
        approval_id: approval,
        request: sending,
        input: Input {
            tool: standing.rules.facts.get(&action.tool.name).cloned(),
            arguments: action.arguments.clone(),
            approval: recalled.ticket.as_ref().map(crate::domain::approval::Ticket::facts),
            facts: asked.facts.clone(),
            ..input(Phase::Call, standing, asked)
        },
        request_id: asked.request_id.clone(),
        trace_id: asked.trace.trace_id.clone(),
        decision_id: of_meta("decisionId"),
    })
}

/// What the journal says of a write that is answered again.
pub(super) fn note_again(asked: &mut Asked, execution: &Execution) {
    let became = if execution.state == State::Executed { Became::Executed } else { Became::Failed };
    let kept = execution.kept.as_ref();
    let bytes = kept.and_then(|kept| kept.body.as_ref()).map_or(0, Vec::len);
    note(asked, became, kept.map(|kept| kept.status), bytes, execution.record_ids.clone());
    asked.reach = Reach::Nothing;
}

/// What is left of an answer that nobody keeps any more.
pub(super) fn pruned(execution: &Execution) -> Refusal {
    let ids = execution.record_ids.clone();
    let named = if ids.is_empty() { String::new() } else { format!("; it created or changed {}", ids.join(", ")) };
    Refusal::because(
        Code::ResultExpired,
        format!("the write was {} and its answer is no longer kept{named}", execution.state.as_str()),
    )
    .with("recordIds", ids)
    .with("executionId", execution.plan.execution_id.clone())
}

/// What people or the backend's books say of a write whose own answer was lost.
pub(super) fn from_books(execution: &Execution) -> Value {
    let said: Map<String, Value> =
        execution.kept.as_ref().and_then(|kept| serde_json::from_slice(kept.body.as_deref()?).ok()).unwrap_or_default();
    json!({
        "executionId": execution.plan.execution_id,
        "state": execution.state,
        "recordIds": execution.record_ids,
        "outcome": said,
        "note": "the answer itself was lost; this is what is known of the write",
    })
}
