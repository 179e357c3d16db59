//! The card of an approval: everything a person needs to decide, and nothing that can lie.
//!
//! Promises: what is shown is what the digest covers; names that only the requester chose stand
//! under `arguments`, apart from what the gateway knows. The same for the caller, the operators'
//! door and `loopiq_get_action`. Never shows a sealed or hidden value.

use serde_json::Value;
use serde_json::json;

use crate::domain::approval::Ticket;

/// Arguments that name what an action is about, in LoopIQ's own words.
const ABOUT: [&str; 5] = ["release", "certification", "team", "owner", "blockers"];

/// The card, as JSON. `link` is the address that approvers open, without the id; empty for none.
#[must_use]
pub fn card(ticket: &Ticket, link: &str) -> Value {
    let subject = &ticket.subject;
    let mut card = json!({
        "approvalId": ticket.id,
        "state": ticket.state,
        "digest": ticket.digest,
        "summary": summary(ticket),
        "tool": subject.tool,
        "route": subject.route,
        "tenant": subject.tenant,
        "requester": subject.requester.user,
        "client": subject.client,
        "workflow": subject.workflow,
        "arguments": subject.arguments,
        "request": subject.request,
        "preview": subject.preview,
        "previewBy": subject.preview_by,
        "recordVersion": subject.record_version,
        "reasons": ticket.reasons,
        "approvers": {
            "roles": ticket.requirement.roles,
            "teams": ticket.requirement.teams,
            "users": ticket.requirement.users,
            "count": ticket.requirement.count,
            "agreed": ticket.agreed(),
        },
        "approveBy": moment(Some(subject.approve_by_ms)),
        "executeWithinSeconds": subject.execute_within_s,
        "executeBy": moment(ticket.execute_by_ms),
        "policyRevision": {"bundle": subject.policy_bundle, "data": subject.policy_data},
        "requestId": ticket.request_id,
        "traceId": ticket.trace_id,
        "idempotencyKey": subject.idempotency_key,
        "ended": ticket.ended,
        "executionId": ticket.consumed_by,
    });
    if let Some(members) = card.as_object_mut() {
        for name in ABOUT {
            if let Some(value) = subject.arguments.get(name) {
                members.insert(name.to_owned(), value.clone());
            }
        }
        if !link.is_empty() {
            members.insert("link".to_owned(), format!("{}/{}", link.trim_end_matches('/'), ticket.id).into());
        }
    }
    card
}

/// What would happen, in one line that the gateway makes itself.
pub(super) fn summary(ticket: &Ticket) -> String {
    let subject = &ticket.subject;
    let changes =
        |name: &str| subject.preview.pointer(&format!("/preview/{name}")).and_then(Value::as_array).map_or(0, Vec::len);
    let effect = match (changes("creates"), changes("updates")) {
        (0, 0) => String::new(),
        (creates, updates) => format!(": creates {creates}, updates {updates}"),
    };
    format!("`{}` for `{}` in {}{effect}", subject.tool, subject.requester.user, subject.tenant)
}

/// A moment, RFC 3339 in UTC.
fn moment(at_ms: Option<i64>) -> Value {
    at_ms.and_then(|at| jiff::Timestamp::from_millisecond(at).ok()).map_or(Value::Null, |at| at.to_string().into())
}
