//! A call of an upstream MCP server: what goes with it, what its answer means, what of it is shown.
//!
//! Promises: nothing of the client's `_meta` goes on but what it can be asked and how much it wants
//! to hear; a server's no is a no in the gateway's words; a write that a server left open is unknown,
//! and one that it asked about before doing it is not made; an answer is inspected before it is shown.
//! Never sends. Called by `act`.

mod carry;
mod relay;

use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use self::relay::Relay;
use super::Pep;
use super::act::Outcomes;
use super::act::came;
use super::act::judge;
use super::act::kept;
use super::act::may_write;
use super::act::note;
use super::asked::Asked;
use super::asked::Reply;
use super::decide::Standing;
use super::offered::no_such_subject;
use super::once::Came;
use super::once::Underway;
use super::once::unknown;
use super::ports::Action;
use super::ports::BackendAnswer;
use super::ports::Notices;
use super::ports::Outbound;
use crate::domain::audit::record::Execution;
use crate::domain::catalog::Part;
use crate::domain::catalog::text::plain;
use crate::domain::idempotency::Settlement;
use crate::domain::identity::Tenant;
use crate::domain::inspect::Inspected;
use crate::domain::inspect::REDACTED;
use crate::domain::inspect::said;
use crate::domain::inspect::said::Form;
use crate::domain::inspect::said::Said;
use crate::domain::mcp::offered::OPERATION;
use crate::domain::mcp::offered::Verb;
use crate::domain::pdp::ruling::Permit;
use crate::domain::refusal::Code;
use crate::domain::refusal::Fault;
use crate::domain::refusal::No;
use crate::domain::refusal::Refusal;

/// What a client says it can be asked, and how much log it wants: all of its envelope that goes on.
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Kinds of questions that a client may declare.
const ASKED: [&str; 3] = ["elicitation", "sampling", "roots"];

const MESSAGE_CHARS_MAX: usize = 500;

/// JSON-RPC codes that are the caller's to know.
const INVALID_PARAMS: i64 = -32602;
const NO_SUCH_RESOURCE: i64 = -32002;
const MISSING_CAPABILITY: i64 = -32021;

impl Pep {
    /// A request with what goes with it to an upstream server; one to a route is as it was.
    pub(super) fn addressed(
        &self,
        permit: &Permit<Action>,
        asked: &Asked,
        outbound: Outbound,
    ) -> Result<Outbound, Refusal> {
        let action = permit.action();
        if action.tool.upstream().is_none() {
            return Ok(outbound);
        }
        asked.progress.hand_over();
        let broken = |cause: String| Refusal::of(Code::BackendFailed).detail(cause);
        let body = outbound.body.as_deref().unwrap_or_default();
        let mut body: Value = serde_json::from_slice(body).map_err(|cause| broken(cause.to_string()))?;
        let params = body.get_mut("params").and_then(Value::as_object_mut);
        let params = params.ok_or_else(|| broken("a request without parameters".to_owned()))?;
        if let Some(state) = &asked.brought.state {
            params.insert("requestState".to_owned(), state.as_str().into());
        }
        if !asked.brought.responses.is_empty() {
            if asked.approved_by.is_some() {
                let message =
                    "people approved these arguments; `inputResponses` would add to them what nobody has seen";
                return Err(Refusal::because(Code::ApprovalMismatch, message).then(
                    "leave `inputResponses` out, or put what the server needs into the arguments and ask again",
                ));
            }
            // WHY: an answer is what policy and approvers do not see, so it must not reach where they did not allow.
            if said::names_another(&Value::Object(asked.brought.responses.clone()), &action.tenant) {
                let message = "`inputResponses` names another tenant than this call is made for";
                let next = "leave that out, or choose that tenant in the `X-LoopIQ-Tenant` header";
                return Err(Refusal::because(Code::TenantForbidden, message).then(next));
            }
            params.insert("inputResponses".to_owned(), Value::Object(asked.brought.responses.clone()));
        }
        params.insert("_meta".to_owned(), Value::Object(envelope(asked)));
        let heard = asked.progress.is_heard();
        let notices = heard.then(|| Arc::new(self.relay(permit, asked)) as Arc<dyn Notices>);
        Ok(Outbound { body: Some(body.to_string().into_bytes()), notices, ..outbound })
    }

    fn relay(&self, permit: &Permit<Action>, asked: &Asked) -> Relay {
        Relay::new(permit, asked, &self.levels)
    }

    /// What an answer means for the call, and for the ledger.
    pub(super) async fn judge_said(
        &self,
        standing: &Standing,
        permit: &Permit<Action>,
        asked: &mut Asked,
        answer: BackendAnswer,
    ) -> Result<Outcomes, No> {
        match answer.status {
            200 => {}
            // The session was unknown, so nothing was done.
            404 => {
                came(asked, Came::NotSent);
                note(asked, Execution::NotSent, Some(404), 0, Vec::new());
                return Err(Refusal::of(Code::BackendUnavailable).detail("the server has ended the session").into());
            }
            422 => {
                note(asked, Execution::Failed, Some(422), answer.body.len(), Vec::new());
                came(asked, Came::Settled(Settlement::Failed { kept: kept(&answer) }));
                verdict(&answer, asked, &permit.action().tenant)?;
            }
            _ => {
                judge(&answer, permit, asked)?;
                return Err(Refusal::of(Code::BackendFailed).detail(format!("status {}", answer.status)).into());
            }
        }
        let head = Head::read(&answer.body);
        match head.kind.as_str() {
            "complete" if head.is_error => {
                note(asked, Execution::Failed, Some(200), answer.body.len(), Vec::new());
                came(asked, Came::Settled(Settlement::Failed { kept: kept(&answer) }));
            }
            "complete" => {
                let settlement = Settlement::Executed { kept: kept(&answer), record_ids: Vec::new() };
                came(asked, Came::Settled(settlement));
            }
            "input_required" => {
                // WHY: who asks has done nothing yet, says MCP, and the same call is made again with the
                // answer; so the claim is given back, and with it the approval.
                came(asked, Came::NotSent);
                note(asked, Execution::NotSent, Some(200), answer.body.len(), Vec::new());
                return self.carry_on(standing, permit, asked, &answer).await;
            }
            other => {
                let detail = format!("a result of type `{}`, which nobody asked for", plain(other, 60));
                if may_write(permit) {
                    note(asked, Execution::Unknown, Some(200), 0, Vec::new());
                    came(asked, Came::unknown(&detail));
                    return Err(unknown(asked, detail).into());
                }
                note(asked, Execution::Failed, Some(200), 0, Vec::new());
                return Err(Refusal::of(Code::BackendFailed).detail(detail).into());
            }
        }
        Ok(Outcomes::Backend(answer))
    }

    /// Looks at what a server answered, and lets through what the caller may see.
    pub(super) fn inspect_said(
        &self,
        standing: &Standing,
        permit: &Permit<Action>,
        asked: &mut Asked,
        outcome: Outcomes,
    ) -> Result<Reply, No> {
        let action = permit.action();
        let answer = match &outcome {
            Outcomes::Backend(answer) | Outcomes::Again(answer) => answer,
            Outcomes::Asks { .. } | Outcomes::Own(_) | Outcomes::Books(_) => {
                self.judge_response(standing, permit, asked, &outcome, &Inspected::own(Value::Null))?;
                let Outcomes::Asks { requests, state } = outcome else {
                    return Err(Refusal::of(Code::BackendFailed).detail("no answer of a server").into());
                };
                return Ok(Reply::Asks { requests, state });
            }
        };
        let form = form(action);
        let ended = if Head::read(&answer.body).is_error { Execution::Failed } else { Execution::Executed };
        // WHY: whatever is wrong with its answer, the server has carried the call out.
        note(asked, ended, Some(answer.status), answer.body.len(), Vec::new());
        let mut said = Said::read(&answer.body, form, &action.tool, &self.settings.answers)?;
        said.of_tenant(&action.tool, &action.tenant).inspect_err(|_| self.metrics.foreign_records.inc())?;
        let record_ids = said.record_ids(&action.tool);
        note(asked, ended, Some(answer.status), answer.body.len(), record_ids.clone());
        if let Some(Underway { came: Came::Settled(Settlement::Executed { record_ids: ids, .. }), .. }) =
            &mut asked.underway
        {
            ids.clone_from(&record_ids);
        }
        let main = said.main().cloned().unwrap_or_default();
        let inspected = Inspected { value: main, record_ids, redacted: Vec::new() };
        let hide = self.judge_response(standing, permit, asked, &outcome, &inspected)?;
        if !said.is_error {
            self.learn(standing, action, asked, &inspected);
        }
        let mut record_ids = inspected.record_ids;
        if !said.redact(&action.tool, &hide)?.is_empty() {
            record_ids = said.record_ids(&action.tool);
            record_ids.retain(|id| id != REDACTED);
        }
        if !record_ids.is_empty() {
            asked.tell("recordIds", record_ids);
        }
        let ttl_ms = (form == Form::Resource).then(|| said.ttl_ms.min(self.settings.list_ttl_ms));
        Ok(Reply::Passed { result: said.result, ttl_ms })
    }
}

/// The answer to what goes no further: a legacy client that wants to be told of a resource has no stream
/// here on which it could be, so its server is not asked to tell. Policy was asked all the same.
pub(super) fn answered_here(action: &Action) -> Option<BackendAnswer> {
    let upstream = action.tool.upstream()?;
    let is_part = upstream.part == Part::Resources;
    (is_part && form(action) == Form::Done).then(|| BackendAnswer {
        status: 200,
        content_type: None,
        retry_after: None,
        etag: None,
        body: "{}".into(),
    })
}

/// The form of the answer to a call.
fn form(action: &Action) -> Form {
    if action.tool.upstream().is_some_and(|upstream| matches!(upstream.part, Part::Tool(_))) {
        return Form::Call;
    }
    let operation = action.arguments.get(OPERATION).and_then(Value::as_str).and_then(Verb::of);
    match operation {
        Some(Verb::GetPrompt) => Form::Prompt,
        Some(Verb::ReadResource) => Form::Resource,
        Some(Verb::Complete) => Form::Completion,
        Some(Verb::Subscribe | Verb::Unsubscribe) | None => Form::Done,
    }
}

/// What of a client's envelope goes on.
fn envelope(asked: &Asked) -> Map<String, Value> {
    let mut meta = Map::new();
    let Some(request) = asked.request.as_ref().filter(|request| request.era.is_modern()) else { return meta };
    let declared = request.meta.get(CAPABILITIES);
    let can = |kind: &&str| Some(((*kind).to_owned(), declared?.get(*kind)?.clone()));
    let can: Map<String, Value> = ASKED.iter().filter_map(can).filter(|(_, modes)| modes.is_object()).collect();
    meta.insert(CAPABILITIES.to_owned(), Value::Object(can));
    if let Some(level) = request.meta.get(LOG_LEVEL).filter(|level| level.is_string()) {
        meta.insert(LOG_LEVEL.to_owned(), level.clone());
    }
    meta
}

/// What is looked at of a result before anything else of it.
struct Head {
    kind: String,
    is_error: bool,
}

impl Head {
    /// A result that does not say its kind is complete; so is one that cannot be read, until it is inspected.
    fn read(body: &[u8]) -> Self {
        let result: Value = serde_json::from_slice(body).unwrap_or_default();
        let kind = result.get("resultType").and_then(Value::as_str).unwrap_or("complete");
        Self { kind: kind.to_owned(), is_error: result.get("isError") == Some(&Value::Bool(true)) }
    }
}

/// What a server's error means for the caller.
pub(super) fn verdict(answer: &BackendAnswer, asked: &Asked, tenant: &Tenant) -> Result<(), No> {
    if answer.status == 200 {
        return Ok(());
    }
    let error: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
    // WHY: an error may quote the record that it failed at.
    let message = error.get("message").filter(|message| !said::names_another(message, tenant));
    let words = message.and_then(Value::as_str).map(|text| plain(text, MESSAGE_CHARS_MAX));
    let words = words.filter(|words| !words.is_empty()).unwrap_or_else(|| "the upstream server said no".to_owned());
    let modern = asked.request.as_ref().is_some_and(|request| request.era.is_modern());
    match (code, asked.operation()) {
        (MISSING_CAPABILITY, _) if modern => {
            let required = error.pointer("/data/requiredCapabilities").and_then(Value::as_object);
            let known = |kind: &&&str| required.is_some_and(|required| required.contains_key(**kind));
            let required: Map<String, Value> =
                ASKED.iter().filter(known).map(|kind| ((*kind).to_owned(), json!({}))).collect();
            Err(Fault::new(400, code, words).with(json!({"requiredCapabilities": required})).into())
        }
        (INVALID_PARAMS | NO_SUCH_RESOURCE, Some(operation)) if operation.verb == Verb::ReadResource => {
            Err(no_such_subject(asked, operation.subject()))
        }
        (INVALID_PARAMS, Some(_)) => Err(Fault::new(200, code, words).into()),
        _ => Err(Refusal::because(Code::BackendRejected, words)
            .with("status", code)
            .detail(format!("JSON-RPC {code}"))
            .into()),
    }
}

/// A refusal that speaks of what was really called.
pub(super) fn reworded(no: No, action: &Action) -> No {
    let No::Refusal(mut refusal) = no else { return no };
    if action.tool.upstream().is_some() {
        let reworded = |text: &str| text.replace("LoopIQ", "the upstream server");
        refusal.next = reworded(&refusal.next);
        for reason in &mut refusal.reasons {
            reason.message = reworded(&reason.message);
            reason.next = reworded(&reason.next);
        }
    }
    No::Refusal(refusal)
}
