//! Finding out what became of writes whose answers were lost.
//!
//! Promises: a write is sent again only as the same bytes under the same key, only where the
//! backend honours that key, only for a bounded time and only if today's policy still lets it
//! through; else the backend is asked, else a person decides; nothing runs again because a timer
//! ran out, and nothing is said not to have happened while a copy of it may be on its way. What is
//! found is in the journal before it is in the ledger. Never answers a client. Run by `app` beside
//! the doors.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;
use tracing::warn;

use super::Pep;
use super::act::is_definite;
use super::asked::fresh_id;
use super::once::BEGIN_WITHIN;
use super::outbound::CallIds;
use super::outbound::CallerProof;
use super::ports::Action;
use super::ports::BackendAnswer;
use super::ports::LedgerFault;
use super::ports::Outbound;
use super::rules::Rules;
use crate::domain::audit::record::Answered;
use crate::domain::audit::record::Execution as Became;
use crate::domain::audit::record::Opened;
use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage as Written;
use crate::domain::catalog::RouteRequest;
use crate::domain::catalog::Tool;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::FROM_BOOKS;
use crate::domain::idempotency::Kept;
use crate::domain::idempotency::KnownBy;
use crate::domain::idempotency::Settlement;
use crate::domain::idempotency::Told;
use crate::domain::identity::Tenant;
use crate::domain::inspect;
use crate::domain::mcp::trace::TraceContext;
use crate::domain::pdp::ruling::Permit;

/// Writes taken in one round.
const ROUND: usize = 16;
/// Milliseconds that a taker has. One that takes longer sends under the same key and is left behind.
const LEASE_MS: i64 = 45_000;
/// The longest wait between two looks at one write, in milliseconds.
const WAIT_MAX_MS: i64 = 15_000;

/// How long what is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Milliseconds since it was first sent during which a write may be sent again.
    pub resend_ms: i64,
    /// How long a copy of a write may be on its way: when it has been quiet for longer, "no such
    /// execution" means that it never happened, and a no to one copy is a no to all.
    pub settle: Duration,
}

/// What was found out of a write.
enum Finding {
    /// What became of it.
    Known(Settlement),
    /// Nothing yet.
    Nothing(String),
}

/// What the backend's books say of a write.
enum Books {
    /// It happened.
    Has(Settlement),
    /// They have no such execution.
    Lacks,
    /// Nothing could be learnt from them.
    Silent(String),
}

impl Pep {
    /// One round: takes writes that nobody has been heard of, and finds out. Says how many were taken.
    pub async fn reconcile(&self) -> Result<usize, LedgerFault> {
        let send_before = Instant::now() + BEGIN_WITHIN;
        let taken = self.ledger.take_over(LEASE_MS, ROUND).await?;
        let count = taken.len();
        join_all(taken.iter().map(|write| self.find_out(write, send_before))).await;
        Ok(count)
    }

    /// Writes down the approvals whose time has run out, each with a record. Says how many.
    pub async fn expire(&self) -> Result<usize, LedgerFault> {
        let lapsed = self.approvals.expire(ROUND).await?;
        for ticket in &lapsed {
            let mut record =
                Record::event(Written::Approval("expired"), self.clock.now_ms(), "an approval ran out of time")
                    .with("tenant", ticket.subject.tenant.clone())
                    .with("requester", ticket.subject.requester.user.clone())
                    .with("digest", ticket.digest.clone());
            record.approved_by(&ticket.id);
            if let Err(fault) = self.journal.append(record).await {
                warn!("the end of approval {} could not be recorded: {fault}", ticket.id);
            }
        }
        Ok(lapsed.len())
    }

    async fn find_out(&self, write: &Execution, send_before: Instant) {
        let id = &write.plan.execution_id;
        let still_ms = i64::try_from(self.until_quiet(write).as_millis()).unwrap_or(i64::MAX);
        let finding = match self.permit_again(write) {
            Ok((permit, tool)) => self.look(write, &permit, &tool, send_before).await,
            Err(why) => Finding::Nothing(why),
        };
        let settlement = match finding {
            Finding::Known(settlement) => settlement,
            Finding::Nothing(note) => {
                let tries = write.attempts.min(16);
                let wait_ms = 500_i64.saturating_mul(1_i64 << tries).min(WAIT_MAX_MS);
                let retry_in_ms = if still_ms > 0 { wait_ms.min(still_ms.saturating_add(1)) } else { wait_ms };
                Settlement::Unknown { note, retry_in_ms }
            }
        };
        let known = !matches!(settlement, Settlement::Unknown { .. });
        if known && let Err(fault) = self.journal.append(self.found_record(write, &settlement)).await {
            // WHY: what cannot be recorded has not been found out; the lease runs out and it is tried again.
            warn!("what became of write {id} is known and cannot be recorded: {fault}");
            return;
        }
        match self.ledger.settle(id, write.fence, &settlement).await {
            Ok(true) if known => {
                self.quiet.forget(id);
                self.metrics.reconciled.inc();
            }
            Ok(_) => {}
            Err(fault) => warn!("what became of write {id} is known and cannot be remembered: {fault}"),
        }
    }

    /// Today's leave for the write as it was asked for then.
    fn permit_again(&self, write: &Execution) -> Result<(Permit<Action>, Arc<Tool>), String> {
        let rules = self.rules_of(write).ok_or("no rules are in force")?;
        let tool = rules.catalog.tool(&write.plan.tool).ok_or("its tool is no longer in the catalog")?;
        let tenant = Tenant::of_ledger(&write.plan.tenant).ok_or("its tenant is no tenant")?;
        let action = Action { tenant, tool: Arc::clone(tool), arguments: write.plan.arguments.clone(), dry_run: false };
        let ruling = rules.pdp.decide(&write.plan.input);
        let permit = ruling.into_permit(action).map_err(|_| "policy no longer allows it; people must settle it")?;
        Ok((permit, Arc::clone(tool)))
    }

    /// The rules that decide about whoever made the write.
    fn rules_of(&self, write: &Execution) -> Option<Arc<Rules>> {
        let plan = &write.plan;
        self.rules.for_call(&plan.tenant, &plan.issuer, &plan.user)
    }

    /// How much longer a copy of the write may be on its way.
    fn until_quiet(&self, write: &Execution) -> Duration {
        // WHY the second part: whoever had it before, and holds it still by their own clock, may begin yet.
        (self.settings.patience.settle + BEGIN_WITHIN)
            .saturating_sub(self.quiet.of(&write.plan.execution_id, write.fence))
    }

    /// Sends it again where that is safe, else asks the backend what became of it.
    async fn look(&self, write: &Execution, permit: &Permit<Action>, tool: &Tool, send_before: Instant) -> Finding {
        // WHY not this machine's clock: both moments are the ledger's, the later one that of the take-over.
        let since_ms = write.changed_ms.saturating_sub(write.sent_ms.unwrap_or(write.created_ms));
        let same_tool = tool.digest == write.plan.definition;
        let in_time = (0..=self.settings.patience.resend_ms).contains(&since_ms);
        // WHY: a clock that was set back cannot say how long the backend has kept the key.
        if tool.idempotent && same_tool && in_time {
            return self.resend(write, permit, tool, send_before).await;
        }
        if tool.lookup.is_none() {
            return Finding::Nothing(
                "it cannot be sent again, and LoopIQ cannot be asked; people must settle it".into(),
            );
        }
        let never = || Settlement::Failed { kept: never_happened() };
        self.by_books(write, permit, tool, never).await
    }

    async fn resend(&self, write: &Execution, permit: &Permit<Action>, tool: &Tool, send_before: Instant) -> Finding {
        let mut record = self.record(write, "sent again under the same key, because its answer was lost");
        if let Err(fault) = self.journal.append(record.stage(Written::Intent, self.clock.now_ms())).await {
            return Finding::Nothing(format!("the journal takes no records: {fault}"));
        }
        let answer = match self.send_as(write, permit, write.plan.request.again(), Some(send_before)).await {
            Ok(answer) => answer,
            Err(why) => return Finding::Nothing(why),
        };
        if (200..300).contains(&answer.status) {
            return Finding::Known(executed(&answer, permit, self));
        }
        if !is_definite(answer.status) {
            self.quiet.stirred(&write.plan.execution_id);
            return Finding::Nothing(format!("status {} when it was sent again", answer.status));
        }
        // WHY: a no to one copy may be because another was a yes; where the backend can be asked, its
        // books decide, and a conflict alone proves nothing.
        let rejected = || Settlement::Failed { kept: kept(&answer, KnownBy::Resend) };
        if tool.lookup.is_some() {
            return self.by_books(write, permit, tool, rejected).await;
        }
        if matches!(answer.status, 409 | 412) {
            return Finding::Nothing(format!("status {}, perhaps because it happened", answer.status));
        }
        self.once_quiet(write, rejected)
    }

    /// What the backend's books say; what they lack is `otherwise`.
    async fn by_books(
        &self,
        write: &Execution,
        permit: &Permit<Action>,
        tool: &Tool,
        otherwise: impl FnOnce() -> Settlement,
    ) -> Finding {
        match self.ask_books(write, permit, tool).await {
            Books::Has(settlement) => Finding::Known(settlement),
            Books::Lacks => self.once_quiet(write, otherwise),
            Books::Silent(why) => Finding::Nothing(why),
        }
    }

    /// The settlement, if no copy of the write can turn up after it.
    fn once_quiet(&self, write: &Execution, settlement: impl FnOnce() -> Settlement) -> Finding {
        if self.until_quiet(write).is_zero() {
            return Finding::Known(settlement());
        }
        Finding::Nothing("it has not happened, and may still be on its way".to_owned())
    }

    async fn ask_books(&self, write: &Execution, permit: &Permit<Action>, tool: &Tool) -> Books {
        let request = match tool.lookup_request(&write.plan.execution_id) {
            Ok(Some(request)) => request,
            Ok(None) => return Books::Silent("LoopIQ cannot be asked".to_owned()),
            Err(refusal) => return Books::Silent(refusal.words()),
        };
        match self.send_as(write, permit, request, None).await {
            Ok(answer) if (200..300).contains(&answer.status) => Books::Has(from_lookup(&answer, permit, self)),
            Ok(answer) if answer.status == 404 => Books::Lacks,
            Ok(answer) => Books::Silent(format!("status {} when LoopIQ was asked", answer.status)),
            Err(why) => Books::Silent(why),
        }
    }

    /// Sends for a write: the write itself if there is a moment before which it must leave, else a question.
    async fn send_as(
        &self,
        write: &Execution,
        permit: &Permit<Action>,
        request: RouteRequest,
        send_before: Option<Instant>,
    ) -> Result<BackendAnswer, String> {
        let outbound = self.outbound_again(write, request, send_before.is_some()).await?;
        let sent = self.backend.send(permit, Outbound { send_before, ..outbound }).await;
        sent.map_err(|fault| {
            if send_before.is_some() && fault.bytes_left {
                self.quiet.stirred(&write.plan.execution_id);
            }
            fault.to_string()
        })
    }

    async fn outbound_again(
        &self,
        write: &Execution,
        request: RouteRequest,
        as_write: bool,
    ) -> Result<Outbound, String> {
        let plan = &write.plan;
        let now_ms = self.clock.now_ms();
        let request_id = fresh_id(now_ms, self.clock.random());
        let trace =
            TraceContext { trace_id: plan.trace_id.clone(), parent_id: "1".repeat(16), flags: 1, tracestate: None };
        let ids = CallIds {
            request_id: &request_id,
            decision_id: &plan.decision_id,
            workflow: (!plan.workflow.is_empty()).then_some(plan.workflow.as_str()),
            approval_id: plan.approval_id.as_deref(),
            idempotency_key: as_write.then_some(plan.execution_id.as_str()),
            if_match: plan.request.if_match.as_deref().filter(|_| as_write),
            trace: &trace,
        };
        let caller = CallerProof { issuer: &plan.issuer, user: &plan.user, roles: &plan.input.caller.roles };
        self.propagation
            .outbound(request, &plan.tenant, caller, &ids, now_ms.div_euclid(1000))
            .await
            .map_err(|refusal| refusal.words())
    }

    fn found_record(&self, write: &Execution, settlement: &Settlement) -> Record {
        let mut record = self.record(write, "what became of a write whose answer was lost is known");
        let answered = |execution, kept: &Kept, ids: &[String]| Answered {
            execution,
            backend_status: Some(kept.status),
            bytes: kept.body.as_ref().map_or(0, Vec::len) as u64,
            record_ids: ids.to_vec(),
            replayed: false,
        };
        let by = match settlement {
            Settlement::Executed { kept, record_ids } => {
                record.answered(answered(Became::Executed, kept, record_ids));
                Some(kept.by)
            }
            Settlement::Failed { kept } => {
                record.answered(answered(Became::Failed, kept, &[]));
                Some(kept.by)
            }
            Settlement::Unknown { .. } => None,
        };
        let record = record.stage(Written::Outcome, self.clock.now_ms());
        record.with("knownBy", by.and_then(|by| serde_json::to_value(by).ok()).unwrap_or(Value::Null))
    }

    /// A record of the gateway's own work on somebody's write.
    fn record(&self, write: &Execution, message: &str) -> Record {
        let plan = &write.plan;
        let now_ms = self.clock.now_ms();
        let mut record = Record::open(Opened {
            request_id: fresh_id(now_ms, self.clock.random()),
            received_ms: now_ms,
            method: "tools/call".to_owned(),
            trace_id: plan.trace_id.clone(),
            ..Opened::default()
        });
        record.said(message);
        record.on_behalf(&plan.issuer, &plan.user, &plan.tenant, plan.input.caller.method, &plan.client);
        record.workflow(&plan.workflow, &[]);
        record.keyed(&plan.key, Some(&plan.execution_id));
        if let Some(id) = &plan.approval_id {
            record.approved_by(id);
        }
        let rules = self.rules_of(write);
        match rules.as_ref().and_then(|rules| rules.catalog.tool(&plan.tool)) {
            Some(tool) => record.called(tool, None, &plan.arguments),
            None => record.called_unknown(&plan.tool),
        }
        record.with("firstRequestId", plan.request_id.clone())
    }
}

fn kept(answer: &BackendAnswer, by: KnownBy) -> Kept {
    Kept { status: answer.status, content_type: answer.content_type.clone(), body: Some(answer.body.to_vec()), by }
}

fn executed(answer: &BackendAnswer, permit: &Permit<Action>, pep: &Pep) -> Settlement {
    let record_ids = ids(&answer.body, answer.content_type.as_deref(), permit, pep);
    Settlement::Executed { kept: kept(answer, KnownBy::Resend), record_ids }
}

/// Ids of the records that an answer names; none of one that the caller may not see.
fn ids(body: &[u8], content_type: Option<&str>, permit: &Permit<Action>, pep: &Pep) -> Vec<String> {
    let action = permit.action();
    inspect::inspect(body, content_type, &action.tool, &action.tenant, &pep.settings.answers, &[])
        .map(|inspected| inspected.record_ids)
        .unwrap_or_default()
}

/// What the backend's books say: the first answer where they have kept it, else what came of it.
fn from_lookup(answer: &BackendAnswer, permit: &Permit<Action>, pep: &Pep) -> Settlement {
    let kept = |status, content_type: &str, body| {
        let (content_type, body) = (Some(content_type.to_owned()), Some(Value::Object(body).to_string().into_bytes()));
        Kept { status, content_type, body, by: KnownBy::Lookup }
    };
    match Told::read(&answer.body, &pep.settings.answers, permit.action().tenant.as_str(), is_definite) {
        Told::Executed { answer: Some((status, body)), .. } => {
            let kept = kept(status, "application/json", body);
            let record_ids = ids(kept.body.as_deref().unwrap_or_default(), Some("application/json"), permit, pep);
            Settlement::Executed { kept, record_ids }
        }
        Told::Executed { answer: None, record_ids } => {
            let told = Map::from_iter([("knownBy".to_owned(), "lookup".into())]);
            Settlement::Executed { kept: kept(200, FROM_BOOKS, told), record_ids }
        }
        Told::Refused { status, body } => Settlement::Failed { kept: kept(status, "application/json", body) },
        Told::Nothing(why) => Settlement::Unknown { note: why.to_owned(), retry_in_ms: WAIT_MAX_MS },
    }
}

fn never_happened() -> Kept {
    let body = json!({"knownBy": "lookup", "happened": false}).to_string().into_bytes();
    Kept { status: 404, content_type: Some(FROM_BOOKS.to_owned()), body: Some(body), by: KnownBy::Lookup }
}
