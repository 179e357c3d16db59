//! remember, record intent, forward, inspect: from a permit to an answer that may be shown.
//!
//! Promises: a write carries a key before it is sent; its intent is durable before the first byte
//! leaves; a write whose outcome is not known is said to be unknown and is never sent again here;
//! an answer with a foreign record, or one that policy withholds, goes no further. Called by `pep`.

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
use super::asked::fresh_uuid;
use super::decide::Standing;
use super::decide::input;
use super::outbound::CallIds;
use super::own;
use super::ports::Action;
use super::ports::BackendAnswer;
use super::ports::SendFault;
use super::ports::SendFaultKind;
use crate::domain::audit::record::Answered;
use crate::domain::audit::record::Execution;
use crate::domain::audit::record::Stage as Written;
use crate::domain::catalog::Answerer;
use crate::domain::catalog::OwnTool;
use crate::domain::catalog::RouteRequest;
use crate::domain::catalog::Tool;
use crate::domain::idempotency::Key;
use crate::domain::idempotency::execution_id;
use crate::domain::idempotency::write_key;
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
}

/// Whether the call is to change anything.
fn writes(permit: &Permit<Action>) -> bool {
    permit.action().tool.writes() && !permit.action().dry_run
}

/// Whether the call may change something: a write, or a dry run that only the backend's word keeps
/// from being one.
fn may_write(permit: &Permit<Action>) -> bool {
    let action = permit.action();
    action.tool.writes() && (!action.dry_run || action.tool.dry_run.is_some())
}

impl Pep {
    /// A write gets the key under which it happens once: the caller's, or one made here.
    ///
    /// The backend sees an execution id instead, so that no two callers ever share a key.
    pub(super) fn remember(&self, standing: &Standing, permit: &Permit<Action>, asked: &mut Asked) {
        if !writes(permit) {
            return;
        }
        // INVARIANT: `mcp::controls` let no key through that this grammar refuses.
        let client = asked.controls.idempotency_key.as_deref().and_then(|key| Key::parse(key).ok());
        let fresh = fresh_uuid(asked.now_ms, self.clock.random());
        if let Some(write) = write_key(&permit.action().tool, client, fresh) {
            let execution = execution_id(&standing.tenant, &standing.principal, &write.key);
            asked.record.keyed(write.key.as_str(), Some(&execution));
            asked.tell("idempotencyKey", write.key.as_str());
            asked.tell("executionId", execution.clone());
            asked.execution_id = Some(execution);
            asked.controls.idempotency_key = Some(write.key.as_str().to_owned());
        }
    }

    /// A write's intent is durable before it is sent; a read only needs a journal that works.
    pub(super) async fn intend(&self, permit: &Permit<Action>, asked: &mut Asked) -> Result<(), No> {
        let unavailable = |fault| {
            self.metrics.journal_faults.with_label_values(&["refused"]).inc();
            Refusal::of(Code::AuditUnavailable).detail(fault)
        };
        if !may_write(permit) {
            return match self.journal.ready(false) {
                Err(fault) if !asked.best_effort => Err(unavailable(fault).into()),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        let started = Instant::now();
        self.journal.ready(true).map_err(unavailable)?;
        let record = asked.record.stage(Written::Intent, self.clock.now_ms());
        self.journal.append(record).await.map_err(unavailable)?;
        asked.took(&self.metrics, Stage::Intent, started);
        Ok(())
    }

    /// Carries the call out, once.
    pub(super) async fn forward(
        &self,
        standing: &Standing,
        permit: &Permit<Action>,
        asked: &mut Asked,
    ) -> Result<Outcomes, No> {
        let action = permit.action();
        let request = match &action.tool.answerer {
            Answerer::Gateway(own) => return self.own_answer(standing, asked, *own).map(Outcomes::Own),
            Answerer::Route(_) => {
                action.tool.request(&action.arguments, action.dry_run && action.tool.dry_run.is_some())?
            }
        };
        if action.dry_run && action.tool.dry_run.is_none() {
            return Ok(Outcomes::Own(preview(&action.tool, &request)));
        }
        let decision_id = asked.audit_meta.get("decisionId").and_then(Value::as_str).unwrap_or_default().to_owned();
        let ids = CallIds {
            request_id: &asked.request_id,
            decision_id: &decision_id,
            workflow: asked.controls.workflow.as_deref(),
            approval_id: None,
            idempotency_key: asked.execution_id.as_deref(),
            trace: &asked.trace,
        };
        let outbound =
            self.propagation.outbound(request, action, &standing.principal, &ids, asked.now_ms.div_euclid(1000))?;
        asked.progress.send(1, PROGRESS_STEPS, "allowed by policy, sent to LoopIQ");
        asked.reach = if may_write(permit) { Reach::Write } else { Reach::Read };
        let started = Instant::now();
        let sent = self.backend.send(permit, outbound).await;
        asked.took(&self.metrics, Stage::Forward, started);
        asked.progress.send(2, PROGRESS_STEPS, "LoopIQ has answered");
        let answer = sent.map_err(|fault| lost(&fault, permit, asked))?;
        judge(&answer, permit, asked)?;
        Ok(Outcomes::Backend(answer))
    }

    /// Looks at what came back, and lets through what the caller may see.
    pub(super) fn inspect(
        &self,
        standing: &Standing,
        permit: &Permit<Action>,
        asked: &mut Asked,
        outcome: &Outcomes,
    ) -> Result<Reply, No> {
        let started = Instant::now();
        let action = permit.action();
        let mut inspected = self.examine(action, asked, outcome)?;
        let hide = self.judge_response(standing, permit, asked, outcome, &inspected)?;
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
            Outcomes::Backend(answer) => answer,
            Outcomes::Own(value) => {
                note(asked, execution, None, 0, Vec::new());
                return Ok(Inspected::own(value.clone()));
            }
        };
        // WHY: whatever is wrong with its answer, the backend has carried the call out.
        note(asked, execution, Some(answer.status), answer.body.len(), Vec::new());
        let (content_type, limits) = (answer.content_type.as_deref(), &self.settings.answers);
        let inspected = inspect::inspect(&answer.body, content_type, &action.tool, &action.tenant, limits, &[])
            .inspect_err(|refusal| {
                if refusal.code == Code::ResponseWithheld {
                    self.metrics.foreign_records.inc();
                }
            })?;
        note(asked, execution, Some(answer.status), answer.body.len(), inspected.record_ids.clone());
        if action.dry_run && action.tool.writes() && inspected.value.get("dryRun") != Some(&Value::Bool(true)) {
            // WHY: only the backend's word says that nothing was changed, and it has not given it.
            return Err(
                unknown(&action.tool, asked, Some(answer.status), "the answer does not say `dryRun: true`").into()
            );
        }
        Ok(inspected)
    }

    /// Remembers the call for policies that ask what was done earlier in the workflow. A preview is
    /// no such deed.
    fn learn(&self, standing: &Standing, action: &Action, asked: &Asked, inspected: &Inspected) {
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
    fn judge_response(
        &self,
        standing: &Standing,
        permit: &Permit<Action>,
        asked: &mut Asked,
        outcome: &Outcomes,
        inspected: &Inspected,
    ) -> Result<Vec<String>, No> {
        let action = permit.action();
        let (status, bytes) = match outcome {
            Outcomes::Own(_) => (200, 0),
            Outcomes::Backend(answer) => (answer.status, answer.body.len()),
        };
        let input = Input {
            tool: standing.rules.facts.get(&action.tool.name).cloned(),
            arguments: action.arguments.clone(),
            dry_run: action.dry_run,
            response: Some(ResponseFacts { status, bytes: bytes as u64, record_ids: inspected.record_ids.clone() }),
            ..input(Phase::Response, standing, asked)
        };
        let ruling = self.rule(&standing.rules, asked, &input);
        if ruling.outcome() != Outcome::Allow {
            let withheld = Refusal::of(Code::ResponseWithheld).with_reasons(ruling.reasons().to_vec());
            return Err(withheld.detail(ruling.detail()).into());
        }
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
    fn own_answer(&self, standing: &Standing, asked: &mut Asked, own: OwnTool) -> Result<Value, No> {
        Ok(match own {
            OwnTool::ReliabilityContract => own::reliability_contract(&standing.rules.revision()),
            OwnTool::TenantContext => own::tenant_context(&standing.principal, &standing.tenant),
            OwnTool::ListResources => own::resources(&self.visible_tools(standing, asked)?),
            OwnTool::ListRoutes => own::routes(&self.visible_tools(standing, asked)?),
            // WHY: a raw invocation has become the tool of its route long before this.
            OwnTool::InvokeRoute => return Err(Refusal::of(Code::PolicyUnavailable).detail("unresolved route").into()),
        })
    }

    fn visible_tools(&self, standing: &Standing, asked: &mut Asked) -> Result<Vec<Arc<Tool>>, No> {
        let names = self.visible(standing, asked, standing.rules.facts.clone())?;
        Ok(standing.rules.catalog.tools().filter(|tool| names.contains(&tool.name)).cloned().collect())
    }
}

/// What would be sent, for tools whose backend has no dry run of its own. Nothing was sent.
fn preview(tool: &Tool, request: &RouteRequest) -> Value {
    let body: Value = request.body.as_deref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    json!({
        "dryRun": true,
        "previewBy": "gateway",
        "tool": tool.name,
        "effect": tool.effect,
        "request": {"method": request.method, "path": request.path_and_query, "body": body},
        "note": "nothing was sent; LoopIQ has no dry run for this route, so this is the exact request and not its effect",
    })
}

/// Nobody knows whether a write happened; it is not sent again here.
fn unknown(tool: &Tool, asked: &mut Asked, status: Option<u16>, detail: impl std::fmt::Display) -> Refusal {
    note(asked, Execution::Unknown, status, 0, Vec::new());
    let key = asked.controls.idempotency_key.clone().unwrap_or_default();
    let next = if key.is_empty() {
        "do not take it for a preview; look for the record in LoopIQ first".to_owned()
    } else if tool.idempotent {
        format!("call again with `idempotencyKey` {key}: LoopIQ honours it, so the write happens once")
    } else {
        "do not send it again; look for the record in LoopIQ first".to_owned()
    };
    Refusal::of(Code::ExecutionUnknown).then(next).with("idempotencyKey", key).detail(detail)
}

/// Notes what became of the execution.
fn note(asked: &mut Asked, execution: Execution, backend_status: Option<u16>, bytes: usize, record_ids: Vec<String>) {
    asked.record.answered(Answered { execution, backend_status, bytes: bytes as u64, record_ids, replayed: false });
}

/// There is no answer. For a write that may have left, nobody knows what became of it.
fn lost(fault: &SendFault, permit: &Permit<Action>, asked: &mut Asked) -> Refusal {
    if !fault.bytes_left {
        asked.reach = Reach::Nothing;
        note(asked, Execution::NotSent, None, 0, Vec::new());
        return Refusal::of(Code::BackendUnavailable).detail(fault);
    }
    if !may_write(permit) {
        note(asked, Execution::Failed, None, 0, Vec::new());
        let code = match fault.kind {
            SendFaultKind::Timeout => Code::BackendTimeout,
            SendFaultKind::TooLarge => Code::ResponseTooLarge,
            SendFaultKind::Broken | SendFaultKind::Unreachable => Code::BackendFailed,
        };
        return Refusal::of(code).detail(fault);
    }
    unknown(&permit.action().tool, asked, None, fault)
}

/// What the status of an answer means.
fn judge(answer: &BackendAnswer, permit: &Permit<Action>, asked: &mut Asked) -> Result<(), Refusal> {
    let Err(refusal) =
        inspect::judge(&permit.action().tool, answer.status, answer.retry_after.as_deref(), &answer.body)
    else {
        return Ok(());
    };
    // WHY: a 5xx or a 408 may come from before or after the commit; only another 4xx is a definite no.
    if may_write(permit) && (answer.status >= 500 || answer.status == 408) {
        return Err(unknown(&permit.action().tool, asked, Some(answer.status), &refusal.detail));
    }
    note(asked, Execution::Failed, Some(answer.status), answer.body.len(), Vec::new());
    Err(refusal)
}
