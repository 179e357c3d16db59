//! What the desk shows of an approval and of a write.
//!
//! Promises: an approver sees what the digest covers, all of it; what the gateway says stands apart
//! from what a requester wrote. Never shows the answer of a backend, which is the requester's.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::domain::approval::Ballot;
use crate::domain::approval::Ground;
use crate::domain::approval::State;
use crate::domain::approval::Ticket;
use crate::domain::approval::Verdict;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::Opinion;
use crate::pep::approve;

/// What an action is about, in LoopIQ's own words.
const ABOUT: [&str; 4] = ["release", "certification", "team", "owner"];

/// What somebody may do with an approval now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct May {
    /// Vote, either way.
    pub(super) vote: bool,
    /// Take it back.
    pub(super) revoke: bool,
}

/// An approval as one of many.
pub(super) fn line(ticket: &Ticket, link: &str) -> Value {
    let whole = card(ticket, link);
    let names = [
        "approvalId",
        "state",
        "ended",
        "summary",
        "tool",
        "tenant",
        "requester",
        "requesterIssuer",
        "askedAt",
        "approveBy",
        "executeBy",
        "approvers",
        "needs",
        "release",
        "certification",
        "team",
        "owner",
        "digest",
        "executionId",
        "link",
    ];
    let members = names.iter().filter_map(|name| Some(((*name).to_owned(), whole.get(*name)?.clone())));
    Value::Object(members.collect())
}

/// An approval with everything that its digest covers and all that became of it.
pub(super) fn approval(ticket: &Ticket, link: &str, may: May) -> Value {
    let mut card = card(ticket, link);
    if let Some(members) = card.as_object_mut() {
        members.insert("may".to_owned(), json!({"vote": may.vote, "revoke": may.revoke}));
    }
    card
}

/// The card that callers get too, with what became of it.
fn card(ticket: &Ticket, link: &str) -> Value {
    let subject = &ticket.subject;
    let mut card = approve::card(ticket, link);
    let ended = ticket.ended.as_ref().map(|ended| {
        json!({"ground": ended.ground, "by": ended.by, "reason": ended.reason, "at": moment(Some(ended.at_ms))})
    });
    let more = [
        ("requesterIssuer", json!(subject.requester.issuer)),
        ("definition", json!(subject.definition)),
        ("previewDigest", json!(subject.preview_digest)),
        ("askedAt", moment(Some(ticket.asked_ms))),
        ("needs", json!(ticket.requirement.words())),
        ("ballots", ticket.ballots.iter().map(ballot).collect()),
        ("ended", json!(ended)),
    ];
    if let Some(members) = card.as_object_mut() {
        members.extend(more.map(|(name, value)| (name.to_owned(), value)));
        // What the arguments do not name may stand in what is to be created.
        about(ticket).into_iter().for_each(|(name, value)| {
            members.entry(name).or_insert(value);
        });
    }
    card
}

/// What it is about, as what is to be created names it.
fn about(ticket: &Ticket) -> Map<String, Value> {
    let created = ticket.subject.preview.pointer("/preview/creates").and_then(Value::as_array);
    let named = |name: &'static str| {
        let records = created.into_iter().flatten().filter_map(|one| one.get("record"));
        let value = records.filter_map(|record| record.get(name)).find(|value| value.is_string())?;
        Some((name.to_owned(), value.clone()))
    };
    ABOUT.into_iter().filter_map(named).collect()
}

fn ballot(ballot: &Ballot) -> Value {
    json!({
        "voter": ballot.voter,
        "roles": ballot.roles,
        "teams": ballot.teams,
        "verdict": ballot.verdict,
        "reason": ballot.reason,
        "at": moment(Some(ballot.at_ms)),
    })
}

/// A write, without its answer's body.
pub(super) fn write(write: &Execution) -> Value {
    let plan = &write.plan;
    let body = plan.request.body.as_deref().map(|body| serde_json::from_str(body).unwrap_or(Value::from(body)));
    json!({
        "executionId": plan.execution_id,
        "state": write.state,
        "tool": plan.tool,
        "tenant": plan.tenant,
        "requester": plan.user,
        "requesterIssuer": plan.issuer,
        "client": plan.client,
        "workflow": plan.workflow,
        "idempotencyKey": plan.key,
        "keyFrom": plan.supplier,
        "approvalId": plan.approval_id,
        "fingerprint": plan.fingerprint,
        "definition": plan.definition,
        "arguments": plan.arguments,
        "request": {
            "backend": plan.request.backend,
            "method": plan.request.method,
            "path": plan.request.path_and_query,
            "ifMatch": plan.request.if_match,
            "body": body,
        },
        "recordIds": write.record_ids,
        "answer": write.kept.as_ref().map(|kept| json!({"status": kept.status, "knownBy": kept.by})),
        "opinions": write.opinions.iter().map(opinion).collect::<Vec<_>>(),
        "note": write.note,
        "attempts": write.attempts,
        "createdAt": moment(Some(write.created_ms)),
        "sentAt": moment(write.sent_ms),
        "changedAt": moment(Some(write.changed_ms)),
        "requestId": plan.request_id,
        "traceId": plan.trace_id,
        "decisionId": plan.decision_id,
    })
}

fn opinion(opinion: &Opinion) -> Value {
    json!({
        "by": {"issuer": opinion.issuer, "user": opinion.user},
        "outcome": if opinion.happened { "executed" } else { "failed" },
        "evidence": opinion.evidence,
        "recordIds": opinion.record_ids,
        "at": moment(Some(opinion.at_ms)),
    })
}

/// A write as one of many.
pub(super) fn write_line(one: &Execution) -> Value {
    let whole = write(one);
    let names = [
        "executionId",
        "state",
        "tool",
        "tenant",
        "requester",
        "requesterIssuer",
        "idempotencyKey",
        "approvalId",
        "recordIds",
        "opinions",
        "note",
        "createdAt",
        "changedAt",
    ];
    Value::Object(names.iter().filter_map(|name| Some(((*name).to_owned(), whole.get(*name)?.clone()))).collect())
}

/// A verdict as people say it.
pub(super) const fn verb(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approve => "approve",
        Verdict::Reject => "reject",
    }
}

/// How a ticket stands after somebody voted: the stage of its record.
pub(super) fn stage_of(ticket: &Ticket) -> &'static str {
    match (ticket.state, ticket.ended.as_ref().map(|ended| ended.ground)) {
        (State::Rejected, Some(Ground::Revoked)) => "revoked",
        (State::Rejected, Some(Ground::Cancelled)) => "cancelled",
        (State::Rejected, Some(Ground::Expired)) => "expired",
        (State::Rejected, _) => "rejected",
        (State::Pending, _) => "voted",
        (State::Approved | State::Executed | State::Failed, _) => "approved",
    }
}

/// A moment, RFC 3339 in UTC.
pub(super) fn moment(at_ms: Option<i64>) -> Value {
    at_ms.and_then(|at| jiff::Timestamp::from_millisecond(at).ok()).map_or(Value::Null, |at| at.to_string().into())
}
