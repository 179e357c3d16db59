//! Asking a modern client's user in the middle of a call: MCP 2026-07-28, multi round-trip requests.
//!
//! Promises: only a client that says it can show a form is asked, and once per question; what it
//! carries back is sealed and opens for nobody else; the user's answer decides whether the call goes
//! on and never whether it is approved: that takes other people. Called by `pep` and `approve`.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Pep;
use super::card::summary;
use crate::domain::approval::State;
use crate::domain::approval::Ticket;
use crate::domain::approval::sealed::Holder;
use crate::domain::approval::sealed::Waiting;
use crate::domain::catalog::text::plain;
use crate::domain::mcp::ToolCall;
use crate::domain::mcp::input::Answered;
use crate::domain::mcp::input::bad_state;
use crate::domain::mcp::input::form;
use crate::domain::refusal::Code;
use crate::domain::refusal::No;
use crate::domain::refusal::Refusal;
use crate::domain::upstream::carried;
use crate::pep::asked::Asked;
use crate::pep::decide::Standing;
use crate::pep::ports::LedgerFault;
use crate::pep::recall::unavailable;

/// The one question that is asked.
const QUESTION: &str = "approval";
/// The one field of its form.
const DECIDED: &str = "decided";
/// The secret of the ledger that seals.
const SEAL: &str = "request-state";

/// What a client is to put to its user, and to carry until it calls again.
#[derive(Debug)]
pub(in crate::pep) struct Question {
    /// The forms, by name.
    pub(in crate::pep) requests: Map<String, Value>,
    /// What it carries.
    pub(in crate::pep) state: String,
}

impl Pep {
    /// What the client brings back from an earlier round names the approval that it waited for.
    pub(in crate::pep) async fn reopen(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        call: &ToolCall,
    ) -> Result<(), No> {
        asked.brought.responses.clone_from(&call.input_responses);
        let Some(state) = &call.request_state else { return Ok(()) };
        if state.starts_with(carried::PREFIX) {
            return self.reopen_carried(standing, asked, state).await;
        }
        // WHY: this answer was for the gateway; no upstream server hears it.
        asked.brought.responses.clear();
        let answered = call.answered(QUESTION)?;
        let key = self.sealing_key().await.map_err(|fault| unavailable(&fault))?;
        let waiting = Waiting::open(state, &key, &holder(standing), asked.now_ms).map_err(|_| bad_state())?;
        if asked.controls.approval_id.as_ref().is_some_and(|named| *named != waiting.approval_id) {
            return Err(bad_state().into());
        }
        let id = waiting.approval_id;
        let goes_on = match &answered {
            Some(Answered::Accepted(said)) => said.get(DECIDED) != Some(&Value::Bool(false)),
            Some(Answered::Declined | Answered::Cancelled) => false,
            None => true,
        };
        if !goes_on {
            let refusal = Refusal::because(Code::ApprovalPending, "you chose not to go on; nothing was sent");
            let next = format!("call again with `approvalId` {id} once they have decided");
            return Err(refusal.then(next).with("approvalId", id).into());
        }
        asked.was_asked = answered.is_some();
        asked.controls.approval_id = Some(id);
        Ok(())
    }

    /// Puts the question to the user, if the client can and has not yet. A pending approval only.
    pub(super) async fn put(&self, standing: &Standing, asked: &mut Asked, ticket: &Ticket) -> Result<(), Refusal> {
        let can = asked.request.as_ref().is_some_and(crate::domain::mcp::Request::elicits_form);
        if !can || asked.was_asked || ticket.state != State::Pending {
            return Ok(());
        }
        let key = self.sealing_key().await.map_err(|fault| unavailable(&fault))?;
        let within_ms = i64::try_from(ticket.subject.execute_within_s).unwrap_or(i64::MAX).saturating_mul(1000);
        let waiting = Waiting {
            holder: holder(standing),
            approval_id: ticket.id.clone(),
            digest: ticket.digest.clone(),
            expires_ms: ticket.subject.approve_by_ms.saturating_add(within_ms),
        };
        let random = self.clock.random();
        let nonce = std::array::from_fn(|at| random.get(at).copied().unwrap_or_default());
        let state = waiting.seal(&key, nonce).map_err(|fault| Refusal::of(Code::PolicyUnavailable).detail(fault))?;
        let schema = json!({
            "type": "object",
            "properties": {DECIDED: {
                "type": "boolean", "default": true, "title": "They have decided",
                "description": "Continue once the approvers have decided.",
            }},
        });
        let requests = Map::from_iter([(QUESTION.to_owned(), form(&self.words(ticket), &schema))]);
        asked.question = Some(Question { requests, state });
        Ok(())
    }

    /// What the user reads.
    fn words(&self, ticket: &Ticket) -> String {
        let link = &self.settings.approvals_link;
        let place = if link.is_empty() { String::new() } else { format!(" at {link}/{}", ticket.id) };
        let what = plain(&summary(ticket), 300);
        let who = ticket.requirement.words();
        format!("Needs approval: {what}. Ask {who} to decide about {}{place}, then continue.", ticket.id)
    }

    pub(in crate::pep) async fn sealing_key(&self) -> Result<[u8; 32], LedgerFault> {
        let halves = [self.clock.random(), self.clock.random()].concat();
        let fresh = std::array::from_fn(|at| halves.get(at).copied().unwrap_or_default());
        self.ledger.secret(SEAL, fresh).await
    }
}

pub(in crate::pep) fn holder(standing: &Standing) -> Holder {
    let principal = &standing.principal;
    Holder {
        issuer: principal.issuer.clone(),
        user: principal.user.clone(),
        client: principal.client.clone().unwrap_or_default(),
        tenant: standing.tenant.as_str().to_owned(),
    }
}
