//! `loopiq_get_action`: where an approval or a write of the caller stands, and what to do next.
//!
//! Promises: shows a caller their own approvals and writes, in the organisation of the call, and
//! nobody else's, while policy lets them see its tool; what does not exist and what is not theirs
//! answer the same. Changes nothing. Called by `pep`.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Pep;
use super::approve::card;
use super::asked::Asked;
use super::decide::Standing;
use super::recall::asked_by;
use super::recall::unavailable;
use crate::domain::approval;
use crate::domain::approval::Ticket;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::Key;
use crate::domain::idempotency::State;
use crate::domain::idempotency::execution_id;
use crate::domain::refusal::Code;
use crate::domain::refusal::No;
use crate::domain::refusal::Refusal;

impl Pep {
    /// The action that `approvalId` or `idempotencyKey` names.
    pub(super) async fn action(&self, standing: &Standing, asked: &mut Asked) -> Result<Value, No> {
        let (id, key) = (asked.controls.approval_id.clone(), asked.controls.idempotency_key.clone());
        if id.is_none() && key.is_none() {
            let next = "name the action by `approvalId` or by `idempotencyKey`";
            let missing = "neither `approvalId` nor `idempotencyKey` is there";
            return Err(Refusal::because(Code::InvalidArguments, missing).then(next).into());
        }
        let mut write = match key.as_deref().and_then(|key| Key::parse(key).ok()) {
            Some(key) => {
                let execution = execution_id(&standing.tenant, &standing.principal, &key);
                self.ledger.find(&execution).await.map_err(|fault| unavailable(&fault))?
            }
            None => None,
        };
        let named = id.clone().or_else(|| write.as_ref().and_then(|write| write.plan.approval_id.clone()));
        let ticket = match &named {
            Some(id) => self.approvals.ticket(id).await.map_err(|fault| unavailable(&fault))?,
            None => None,
        };
        let ticket = ticket.filter(|ticket| asked_by(ticket, standing)).map(|ticket| ticket.at(asked.now_ms));
        if write.is_none()
            && key.is_none()
            && let Some(used_by) = ticket.as_ref().and_then(|ticket| ticket.consumed_by.as_ref())
        {
            write = self.ledger.find(used_by).await.map_err(|fault| unavailable(&fault))?;
        }
        let (ticket, write) = self.still_seen(standing, asked, ticket, write)?;
        if let Some(ticket) = &ticket {
            asked.under(ticket);
        }
        if (id.is_some() && ticket.is_none()) || (ticket.is_none() && write.is_none()) {
            let next = "an action is known once `approval_required` was answered, or once a write was sent";
            return Err(Refusal::because(Code::InvalidArguments, "no such approval or write of yours")
                .then(next)
                .into());
        }
        Ok(told(ticket.as_ref(), write.as_ref(), &self.settings.approvals_link))
    }

    /// What is left of them by today's policy: an action does not show a tool that its caller may no
    /// longer see.
    fn still_seen(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        ticket: Option<Ticket>,
        write: Option<Execution>,
    ) -> Result<(Option<Ticket>, Option<Execution>), No> {
        let named = [ticket.as_ref().map(|one| &one.subject.tool), write.as_ref().map(|one| &one.plan.tool)];
        let facts: BTreeMap<_, _> = named
            .into_iter()
            .flatten()
            .filter_map(|tool| standing.rules.facts.get_key_value(tool))
            .map(|(name, facts)| (name.clone(), facts.clone()))
            .collect();
        if facts.is_empty() {
            return Ok((None, None));
        }
        let seen = self.visible(standing, asked, facts)?;
        Ok((ticket.filter(|one| seen.contains(&one.subject.tool)), write.filter(|one| seen.contains(&one.plan.tool))))
    }
}

fn told(ticket: Option<&Ticket>, write: Option<&Execution>, link: &str) -> Value {
    let mut told = Map::new();
    told.insert("next".to_owned(), next(ticket, write).into());
    if let Some(ticket) = ticket {
        told.insert("state".to_owned(), ticket.state.as_str().into());
        told.insert("approvalId".to_owned(), ticket.id.clone().into());
        told.insert("approval".to_owned(), card(ticket, link));
    }
    if let Some(write) = write {
        told.entry("state").or_insert_with(|| write.state.as_str().into());
        told.insert("idempotencyKey".to_owned(), write.plan.key.clone().into());
        told.insert("executionId".to_owned(), write.plan.execution_id.clone().into());
        told.insert("recordIds".to_owned(), write.record_ids.clone().into());
        told.insert(
            "write".to_owned(),
            json!({"state": write.state, "tool": write.plan.tool, "attempts": write.attempts, "recordIds": write.record_ids}),
        );
    }
    Value::Object(told)
}

/// What the caller can do now.
fn next(ticket: Option<&Ticket>, write: Option<&Execution>) -> String {
    if let Some(write) = write {
        return match write.state {
            State::Executed => "it was done; repeat the call with its key to get the first answer again",
            State::Failed => {
                "it did not happen; repeat the call with its key to read why, or make a new one under a new key"
            }
            State::Sent => "it is being carried out; ask again shortly",
            State::Unknown => "its outcome is being found out; ask again, and never send it under another key",
            State::Reserved => "nothing was sent; repeat the call with the same key",
        }
        .to_owned();
    }
    let Some(ticket) = ticket else { return String::new() };
    match ticket.state {
        approval::State::Pending => {
            format!("wait: {} must agree, {} have", ticket.requirement.words(), ticket.agreed())
        }
        approval::State::Approved => "call `loopiq_execute_approved_action` with this `approvalId`".to_owned(),
        approval::State::Rejected => "read `approval.ended`; change the plan and ask again".to_owned(),
        approval::State::Executed | approval::State::Failed => {
            "it was used; call `loopiq_execute_approved_action` again for its answer".to_owned()
        }
    }
}
