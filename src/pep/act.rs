//! record intent, forward, inspect: from a permit to an answer that may be shown.
//!
//! Promises: a write's intent and its place in the ledger are durable before the first byte leaves;
//! a write whose outcome is not known is said to be unknown and is never sent again here; an answer
//! with a foreign record, or one that policy withholds, goes no further. Called by `pep`.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Pep;
use super::asked::Asked;
use super::asked::PROGRESS_STEPS;
use super::asked::Reach;
use super::asked::Reply;
use super::decide::Standing;
use super::decide::input;
use super::once::Came;
use super::once::Held;
use super::once::Underway;
use super::once::from_books;
use super::once::note_again;
use super::once::pruned;
use super::once::unknown;
use super::outbound::CallIds;
use super::outbound::CallerProof;
use super::own;
use super::ports::Action;
use super::ports::BackendAnswer;
use super::ports::Outbound;
use super::ports::SendFault;
use super::ports::SendFaultKind;
use super::recall::Recalled;
use super::unsent::unsent;
use crate::domain::audit::JournalFault;
use crate::domain::audit::record::Answered;
use crate::domain::audit::record::Execution;
use crate::domain::audit::record::Stage as Written;
use crate::domain::catalog::Answerer;
use crate::domain::catalog::OwnTool;
use crate::domain::catalog::RouteRequest;
use crate::domain::catalog::Tool;
use crate::domain::idempotency::Execution as Write;
use crate::domain::idempotency::Kept;
use crate::domain::idempotency::KnownBy;
use crate::domain::idempotency::Settlement;
use crate::domain::idempotency::State;
use crate::domain::inspect;
use crate::domain::inspect::Inspected;
use crate::domain::mcp::reply::CallAnswer;
use crate::domain::pdp::EarlierCall;
use crate::domain::pdp::Input;
use crate::domain::pdp::Obligation;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::Phase;
use crate::domain::pdp::ResponseFacts;
use crate::domain::pdp::ruling::Permit;
use crate::domain::refusal::Code;
use crate::domain::refusal::No;
use crate::domain::refusal::Refusal;
use crate::metrics::Stage;

/// What there is to look at after a call was carried out.
pub(super) enum Outcomes {
    /// The gateway's own answer, or a preview that it made itself.
    Own(Value),
    /// A backend's answer.
    Backend(BackendAnswer),
    /// The answer that the backend gave the first time.
    Again(BackendAnswer),
    /// What is known of a write whose own answer was lost.
    Books(Value),
    /// What an upstream server needs to hear before it does anything, checked and sealed.
    Asks {
        /// Its questions, by name.
        requests: Map<String, Value>,
        /// What the client is to carry.
        state: Option<String>,
    },
}

/// Whether the call is to change anything.
pub(super) fn writes(permit: &Permit<Action>) -> bool {
    permit.action().tool.writes() && !permit.action().dry_run
}

/// Whether the call may change something: a write, or a dry run that only the backend's word keeps
/// from being one.
pub(super) fn may_write(permit: &Permit<Action>) -> bool {
    let action = permit.action();
    action.tool.writes() && (!action.dry_run || action.tool.dry_run.is_some())
}

impl Pep {
    /// A write's intent and its place in the ledger are durable before it is sent; a read only needs
    /// a journal that works.
    pub(super) async fn intend(
        &self,
        permit: &Permit<Action>,
        asked: &mut Asked,
        held: Held,
        recalled: &Recalled,
    ) -> Result<Held, No> {
        if matches!(held, Held::Again(_)) {
            return Ok(held);
        }
        if !may_write(permit) {
            return match self.journal.ready(false) {
                Err(fault) if !asked.best_effort => Err(self.unrecordable(&fault).into()),
                Ok(()) | Err(_) => Ok(held),
            };
        }
        self.write_intent(asked).await?;
        self.claim(asked, held, recalled).await
    }

    /// The record of what is about to be sent.
    pub(super) async fn write_intent(&self, asked: &mut Asked) -> Result<(), Refusal> {
        let started = Instant::now();
        self.journal.ready(true).map_err(|fault| self.unrecordable(&fault))?;
        let record = asked.record.stage(Written::Intent, self.clock.now_ms());
        self.journal.append(record).await.map_err(|fault| self.unrecordable(&fault))?;
        asked.took(&self.metrics, Stage::Intent, started);
        Ok(())
    }

    fn unrecordable(&self, fault: &JournalFault) -> Refusal {
        self.metrics.journal_faults.with_label_values(&["refused"]).inc();
        Refusal::of(Code::AuditUnavailable).detail(fault)
    }

    /// Carries the call out, once; or finds its first answer.
    pub(super) async fn forward(
        &self,
        standing: &Standing,
        permit: &Permit<Action>,
        asked: &mut Asked,
        held: Held,
    ) -> Result<Outcomes, No> {
        let action = permit.action();
        let request = match (held, &action.tool.answerer) {
            (Held::Again(execution), _) => return again(&execution, permit, asked),
            (_, Answerer::Gateway(own)) => return self.own_answer(standing, asked, *own).await.map(Outcomes::Own),
            (Held::Mine(execution), Answerer::Route(_) | Answerer::Upstream(_)) => execution.plan.request.again(),
            (Held::New(_), Answerer::Route(_) | Answerer::Upstream(_)) => {
                return Err(Refusal::of(Code::LedgerUnavailable).detail("a write was not claimed").into());
            }
            (Held::Nothing, Answerer::Route(_) | Answerer::Upstream(_)) => {
                action.tool.request(&action.arguments, action.dry_run && action.tool.dry_run.is_some())?
            }
        };
        if action.dry_run && action.tool.dry_run.is_none() {
            return Ok(Outcomes::Own(own::preview(&action.tool, &request)));
        }
        if let Some(answer) = super::upstream::answered_here(action) {
            return Ok(Outcomes::Backend(answer));
        }
        let execution_id = asked.underway.as_ref().map(|underway| underway.execution_id.clone());
        let outbound = self.outbound(standing, asked, action, request, execution_id.as_deref()).await;
        let outbound = outbound.inspect_err(|_| came(asked, Came::NotSent))?;
        let send_before = asked.underway.as_ref().map(|underway| underway.send_before);
        let outbound = Outbound { send_before, ..outbound };
        let outbound = self.addressed(permit, asked, outbound).inspect_err(|_| came(asked, Came::NotSent))?;
        asked.progress.send(1, PROGRESS_STEPS, "allowed by policy, sent to LoopIQ");
        asked.reach = if may_write(permit) { Reach::Write } else { Reach::Read };
        let started = Instant::now();
        let sent = self.backend.send(permit, outbound).await;
        asked.took(&self.metrics, Stage::Forward, started);
        asked.progress.send(2, PROGRESS_STEPS, "LoopIQ has answered");
        let answer = sent.map_err(|fault| lost(&fault, permit, asked))?;
        if action.tool.upstream().is_some() {
            return self.judge_said(standing, permit, asked, answer).await;
        }
        judge(&answer, permit, asked)?;
        Ok(Outcomes::Backend(answer))
    }

    /// A route's request with the ids and the proof of the caller that go with it.
    pub(super) async fn outbound(
        &self,
        standing: &Standing,
        asked: &Asked,
        action: &Action,
        request: RouteRequest,
        execution_id: Option<&str>,
    ) -> Result<Outbound, Refusal> {
        let decision_id = asked.audit_meta.get("decisionId").and_then(Value::as_str).unwrap_or_default();
        let ids = CallIds {
            request_id: &asked.request_id,
            decision_id,
            workflow: asked.controls.workflow.as_deref(),
            approval_id: asked.approved_by.as_deref(),
            idempotency_key: execution_id,
            // WHY: only the write itself depends on the version; its preview is compared instead.
            if_match: asked.if_match.as_deref().filter(|_| execution_id.is_some()),
            trace: &asked.trace,
        };
        let principal = &standing.principal;
        let caller = CallerProof { issuer: &principal.issuer, user: &principal.user, roles: &principal.roles };
        // WHY not when the call came: it may have waited since, and what is minted now lives from now.
        let now_s = self.clock.now_ms().div_euclid(1000);
        self.propagation.outbound(request, action.tenant.as_str(), caller, &ids, now_s).await
    }

    /// Looks at what came back, and lets through what the caller may see.
    pub(super) fn inspect(
        &self,
        standing: &Standing,
        permit: &Permit<Action>,
        asked: &mut Asked,
        outcome: Result<Outcomes, No>,
    ) -> Result<Reply, No> {
        let started = Instant::now();
        let outcome = outcome?;
        let action = permit.action();
        if action.tool.upstream().is_some() && !matches!(outcome, Outcomes::Own(_) | Outcomes::Books(_)) {
            let reply = self.inspect_said(standing, permit, asked, outcome);
            asked.took(&self.metrics, Stage::Inspect, started);
            return reply;
        }
        let mut inspected = self.examine(action, asked, &outcome)?;
        let hide = self.judge_response(standing, permit, asked, &outcome, &inspected)?;
        self.learn(standing, action, asked, &inspected);
        inspected.redact(&action.tool, &hide)?;
        if !inspected.record_ids.is_empty() {
            asked.tell("recordIds", inspected.record_ids);
        }
        asked.took(&self.metrics, Stage::Inspect, started);
        asked.progress.send(PROGRESS_STEPS, PROGRESS_STEPS, "checked, being recorded");
        Ok(Reply::Called(CallAnswer {
            text: inspected.value.to_string(),
            structured: Some(inspected.value),
            is_error: false,
            meta: Map::new(),
        }))
    }

    /// Reads an answer and compares its records' tenants; notes that the call was carried out.
    fn examine(&self, action: &Action, asked: &mut Asked, outcome: &Outcomes) -> Result<Inspected, No> {
        let execution = if action.dry_run { Execution::Previewed } else { Execution::Executed };
        let answer = match outcome {
            Outcomes::Backend(answer) | Outcomes::Again(answer) => answer,
            Outcomes::Books(value) => return Ok(Inspected::own(value.clone())),
            Outcomes::Asks { .. } => return Ok(Inspected::own(Value::Null)),
            Outcomes::Own(value) => {
                note(asked, execution, None, 0, Vec::new());
                return Ok(Inspected::own(value.clone()));
            }
        };
        let told = |asked: &mut Asked, ids| note(asked, execution, Some(answer.status), answer.body.len(), ids);
        // WHY: whatever is wrong with its answer, the backend has carried the call out.
        told(asked, Vec::new());
        let inspected = self.examine_try(action, outcome)?;
        told(asked, inspected.record_ids.clone());
        if let Some(Underway { came: Came::Settled(Settlement::Executed { record_ids, .. }), .. }) = &mut asked.underway
        {
            record_ids.clone_from(&inspected.record_ids);
        }
        if action.dry_run && action.tool.writes() && !says_dry_run(&inspected) {
            note(asked, Execution::Unknown, Some(answer.status), 0, Vec::new());
            return Err(unknown(asked, "the answer does not say `dryRun: true`").into());
        }
        Ok(inspected)
    }

    /// Reads an answer and compares its records' tenants.
    pub(super) fn examine_try(&self, action: &Action, outcome: &Outcomes) -> Result<Inspected, No> {
        let answer = match outcome {
            Outcomes::Backend(answer) | Outcomes::Again(answer) => answer,
            Outcomes::Own(value) | Outcomes::Books(value) => return Ok(Inspected::own(value.clone())),
            Outcomes::Asks { .. } => return Ok(Inspected::own(Value::Null)),
        };
        let (content_type, limits) = (answer.content_type.as_deref(), &self.settings.answers);
        let inspected = inspect::inspect(&answer.body, content_type, &action.tool, &action.tenant, limits, &[]);
        Ok(inspected.inspect_err(|refusal| {
            if refusal.code == Code::ResponseWithheld {
                self.metrics.foreign_records.inc();
            }
        })?)
    }

    /// Remembers the call for policies that ask what was done earlier in the workflow. A preview is
    /// no such deed.
    pub(super) fn learn(&self, standing: &Standing, action: &Action, asked: &Asked, inspected: &Inspected) {
        let Some(workflow) = asked.controls.workflow.as_deref().filter(|_| !action.dry_run) else { return };
        let call = EarlierCall {
            tool: action.tool.name.clone(),
            arguments: action.arguments.clone(),
            record_ids: inspected.record_ids.clone(),
            at_ms: self.clock.now_ms(),
            ok: true,
        };
        self.facts.note(action.tenant.as_str(), &standing.principal, workflow, call);
    }
}

impl Pep {
    /// The response phase of policy: whether the answer may be shown, and which fields may not.
    pub(super) fn judge_response(
        &self,
        standing: &Standing,
        permit: &Permit<Action>,
        asked: &mut Asked,
        outcome: &Outcomes,
        inspected: &Inspected,
    ) -> Result<Vec<String>, No> {
        let action = permit.action();
        let (status, bytes) = match outcome {
            Outcomes::Own(_) | Outcomes::Books(_) | Outcomes::Asks { .. } => (200, 0),
            Outcomes::Backend(answer) | Outcomes::Again(answer) => (answer.status, answer.body.len()),
        };
        let input = Input {
            tool: standing.rules.facts.get(&action.tool.name).cloned(),
            arguments: action.arguments.clone(),
            dry_run: action.dry_run,
            response: Some(ResponseFacts { status, bytes: bytes as u64, record_ids: inspected.record_ids.clone() }),
            ..input(Phase::Response, standing, asked)
        };
        let ruling = self.rule_aside(&standing.rules, asked, &input);
        if ruling.outcome() != Outcome::Allow {
            let withheld = Refusal::of(Code::ResponseWithheld).with_reasons(ruling.reasons().to_vec());
            return Err(withheld.detail(ruling.detail()).into());
        }
        // WHY withheld: the call has been carried out, and its caller must not take it for undone.
        self.charge_after(standing, ruling.obligations(), permit.obligations()).map_err(|unknown| {
            Refusal::of(Code::ResponseWithheld).with_reasons(unknown.reasons).detail(unknown.detail)
        })?;
        let obligations = permit.obligations().iter().chain(ruling.obligations());
        Ok(obligations
            .filter_map(|one| match one {
                Obligation::Redact { paths } => Some(paths.clone()),
                Obligation::RequireApproval { .. } | Obligation::Audit { .. } | Obligation::Limit { .. } => None,
            })
            .flatten()
            .collect())
    }

    /// What the gateway itself answers.
    async fn own_answer(&self, standing: &Standing, asked: &mut Asked, own: OwnTool) -> Result<Value, No> {
        Ok(match own {
            OwnTool::ReliabilityContract => own::reliability_contract(&standing.rules.revision()),
            OwnTool::TenantContext => own::tenant_context(&standing.principal, &standing.tenant),
            OwnTool::ListResources => own::resources(&self.visible_tools(standing, asked)?),
            OwnTool::ListRoutes => own::routes(&self.visible_tools(standing, asked)?),
            OwnTool::GetAction => self.action(standing, asked).await?,
            // WHY: these have become the tools that they stand for long before this.
            OwnTool::InvokeRoute | OwnTool::ExecuteApproved => {
                return Err(Refusal::of(Code::PolicyUnavailable).detail("unresolved tool").into());
            }
        })
    }

    fn visible_tools(&self, standing: &Standing, asked: &mut Asked) -> Result<Vec<Arc<Tool>>, No> {
        let names = self.visible(standing, asked, standing.rules.facts.clone())?;
        Ok(standing.rules.catalog.tools().filter(|tool| names.contains(&tool.name)).cloned().collect())
    }
}

/// Only the backend's word says that nothing was changed.
pub(super) fn says_dry_run(inspected: &Inspected) -> bool {
    inspected.value.get("dryRun") == Some(&Value::Bool(true))
}

/// Notes what became of the execution.
pub(super) fn note(
    asked: &mut Asked,
    execution: Execution,
    backend_status: Option<u16>,
    bytes: usize,
    record_ids: Vec<String>,
) {
    let replayed = asked.audit_meta.get("replayed") == Some(&Value::Bool(true));
    asked.record.answered(Answered { execution, backend_status, bytes: bytes as u64, record_ids, replayed });
}

/// Notes what the ledger is to have of the write under way, if there is one.
pub(super) fn came(asked: &mut Asked, came: Came) {
    if let Some(underway) = &mut asked.underway {
        underway.came = came;
    }
}

/// The first answer of a write that was made before.
fn again(execution: &Write, permit: &Permit<Action>, asked: &mut Asked) -> Result<Outcomes, No> {
    note_again(asked, execution);
    let Some(kept) = &execution.kept else {
        return Err(unknown(asked, "an ended write without an answer").into());
    };
    let Some(body) = &kept.body else { return Err(pruned(execution).into()) };
    if kept.is_of_books() {
        return if execution.state == State::Executed {
            Ok(Outcomes::Books(from_books(execution)))
        } else {
            let message = "the write did not happen; this is known from LoopIQ's books or from people";
            Err(Refusal::because(Code::BackendFailed, message).then("call again with a new `idempotencyKey`").into())
        };
    }
    let answer = BackendAnswer {
        status: kept.status,
        content_type: kept.content_type.clone(),
        retry_after: None,
        etag: None,
        body: body.clone().into(),
    };
    if permit.action().tool.upstream().is_some() {
        super::upstream::verdict(&answer, asked)?;
    } else {
        verdict(&answer, &permit.action().tool, execution.plan.request.if_match.is_some())?;
    }
    Ok(Outcomes::Again(answer))
}

/// There is no answer. For a write that may have left, nobody knows what became of it.
fn lost(fault: &SendFault, permit: &Permit<Action>, asked: &mut Asked) -> Refusal {
    if !fault.bytes_left {
        asked.reach = Reach::Nothing;
        came(asked, Came::NotSent);
        note(asked, Execution::NotSent, None, 0, Vec::new());
        return unsent(fault);
    }
    if !may_write(permit) {
        note(asked, Execution::Failed, None, 0, Vec::new());
        let code = match fault.kind {
            SendFaultKind::Timeout => Code::BackendTimeout,
            SendFaultKind::TooLarge => Code::ResponseTooLarge,
            SendFaultKind::Broken
            | SendFaultKind::Unreachable
            | SendFaultKind::Resting { .. }
            | SendFaultKind::Overloaded { .. } => Code::BackendFailed,
        };
        return Refusal::of(code).detail(fault);
    }
    note(asked, Execution::Unknown, None, 0, Vec::new());
    came(asked, Came::unknown(fault));
    unknown(asked, fault)
}

/// What the status of an answer means for the call, and for the ledger.
pub(super) fn judge(answer: &BackendAnswer, permit: &Permit<Action>, asked: &mut Asked) -> Result<(), Refusal> {
    let verdict = verdict(answer, &permit.action().tool, asked.if_match.is_some());
    let Err(refusal) = verdict else {
        came(asked, Came::Settled(Settlement::Executed { kept: kept(answer), record_ids: Vec::new() }));
        return Ok(());
    };
    if may_write(permit) && !is_definite(answer.status) {
        note(asked, Execution::Unknown, Some(answer.status), 0, Vec::new());
        came(asked, Came::unknown(&refusal.detail));
        return Err(unknown(asked, &refusal.detail));
    }
    note(asked, Execution::Failed, Some(answer.status), answer.body.len(), Vec::new());
    came(asked, Came::Settled(Settlement::Failed { kept: kept(answer) }));
    Err(refusal)
}

/// What the status of an answer means for the caller.
fn verdict(answer: &BackendAnswer, tool: &Tool, versioned: bool) -> Result<(), Refusal> {
    if versioned && answer.status == 412 {
        let message = "`/recordVersion` is no longer the one that was approved: the record has changed";
        return Err(Refusal::because(Code::PreviewDrift, message).with("changes", json!([{"field": "/recordVersion"}])));
    }
    inspect::judge(tool, answer.status, answer.retry_after.as_deref(), &answer.body)
}

/// Whether a refusing status proves that nothing happened.
///
/// WHY: a 5xx, a 408 or a 429 may come from before or after the commit; only another 4xx is a definite no.
pub(super) fn is_definite(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 425 | 429)
}

/// An answer as it is kept, to be given again.
pub(super) fn kept(answer: &BackendAnswer) -> Kept {
    Kept {
        status: answer.status,
        content_type: answer.content_type.clone(),
        body: Some(answer.body.to_vec()),
        by: KnownBy::Answer,
    }
}
