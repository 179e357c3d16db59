//! audit, answer: the record first, then the bytes.
//!
//! Promises: no answer that shows anything leaves before its record is durable, unless a read's
//! route is declared best effort; when a write was made and its record cannot be, the answer says
//! just that. Never decides. Called by `pep`.

use std::time::Instant;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tracing::error;

use super::Pep;
use super::arrival::Answer;
use super::arrival::Arrival;
use super::asked::Asked;
use super::asked::Known;
use super::asked::Reach;
use super::asked::Reply;
use super::limit::LIMIT;
use super::limit::seconds;
use super::receive::challenge_body;
use crate::domain::audit::AuditRef;
use crate::domain::audit::JournalFault;
use crate::domain::audit::record::Stage as Written;
use crate::domain::identity::metadata;
use crate::domain::mcp;
use crate::domain::mcp::Ask;
use crate::domain::mcp::Request;
use crate::domain::mcp::reply::About;
use crate::domain::mcp::reply::CallAnswer;
use crate::domain::mcp::reply::Offers;
use crate::domain::refusal::Challenge;
use crate::domain::refusal::Code;
use crate::domain::refusal::Fault;
use crate::domain::refusal::No;
use crate::domain::refusal::Refusal;
use crate::metrics::Stage;

/// JSON-RPC code of a refusal where no tool result can carry it; outside the ranges that JSON-RPC and MCP reserve.
pub(super) const REFUSED: i64 = 40_300;
/// JSON-RPC code of a call that its caller gave up.
const CANCELLED: i64 = 40_499;

const VERSION: &str = env!("CARGO_PKG_VERSION");

const INSTRUCTIONS: &str = "LoopIQ release governance through loopgate. Every call is checked against your organisation's \
policy and recorded. Ask loopiq_get_tenant_context which organisation you are in. A refusal carries a code, reasons and \
what to do next. High-impact changes need a person's approval; pass `dryRun: true` to see an effect without causing it. \
Repeat a write with the same `idempotencyKey`.";

impl Pep {
    /// audit → answer.
    pub(super) async fn close(&self, arrival: &Arrival, mut asked: Asked, outcome: Result<Reply, No>) -> Answer {
        if asked.reach != Reach::Nothing && arrival.cancel.is_raised() {
            self.metrics.carried_to_end.inc();
        }
        let outcome = self.audit(&mut asked, outcome).await.map_err(with_seconds);
        self.count(&asked, &outcome);
        match outcome {
            Ok(reply) => written(&self.settings, &asked, reply),
            Err(No::Challenge(challenge)) => self.challenged(&challenge),
            Err(No::Fault(fault)) => faulted(&asked, &fault),
            Err(No::Refusal(refusal)) => asks(&asked, &refusal).unwrap_or_else(|| refused(&asked, &refusal)),
            Err(No::Cancelled) => faulted(&asked, &Fault::new(200, CANCELLED, "cancelled; nothing was sent")),
        }
    }

    /// Makes the record durable, or turns the outcome into one that may be shown without it.
    async fn audit(&self, asked: &mut Asked, outcome: Result<Reply, No>) -> Result<Reply, No> {
        if matches!(outcome, Ok(Reply::Accepted | Reply::Pong | Reply::LevelSet)) {
            return outcome;
        }
        let mut stood_for = 0;
        if asked.known == Known::Stranger {
            // WHY: a stranger costs nothing to be one; each of their requests with a record of its own
            // would fill the disk and make everybody wait for it.
            let Some(before) = self.refused.record_now(asked.now_ms) else {
                self.metrics.records_aggregated.inc();
                return outcome;
            };
            stood_for = before;
        } else if floods(asked, &outcome) {
            // WHY: who is refused for sending too much, or what no rate counts, must not fill the
            // journal with it either.
            let Some(before) = self.limiter.flooded.record_now(&whose(asked), asked.now_ms) else {
                self.metrics.records_aggregated.inc();
                return outcome;
            };
            stood_for = before;
        }
        if let Err(no) = &outcome {
            asked.record.refused(no);
        }
        let stage = if outcome.is_err() && asked.reach == Reach::Nothing { Written::Denied } else { Written::Outcome };
        let started = Instant::now();
        let kept = self.keep(asked, stage, stood_for).await;
        self.metrics.stage(Stage::Audit, started.elapsed());
        match kept {
            Ok(reference) => {
                asked.tell("auditRef", reference.to_string());
                outcome
            }
            Err(fault) => self.unrecorded(asked, outcome, &fault.to_string()),
        }
    }

    /// One record; when it is too large, one that says so and leaves out what made it large.
    async fn keep(&self, asked: &mut Asked, stage: Written, stood_for: u64) -> Result<AuditRef, JournalFault> {
        let mut record = asked.record.stage(stage, self.clock.now_ms());
        if stood_for > 0 {
            record = record.with("refusedBefore", stood_for);
        }
        match self.journal.append(record).await {
            Err(JournalFault::TooLarge { .. }) => {
                self.journal.append(asked.record.stage(stage, self.clock.now_ms()).reduced()).await
            }
            kept => kept,
        }
    }

    /// The record could not be made durable.
    fn unrecorded(&self, asked: &mut Asked, outcome: Result<Reply, No>, fault: &str) -> Result<Reply, No> {
        error!(request.id = %asked.request_id, "the record of request {} is not durable: {fault}", asked.request_id);
        if asked.best_effort && asked.reach != Reach::Write {
            self.metrics.journal_faults.with_label_values(&["best_effort"]).inc();
            return outcome;
        }
        // WHY: what a stranger is told shows nothing, so it needs no record to go out.
        if asked.known == Known::Stranger {
            return outcome;
        }
        self.metrics.journal_faults.with_label_values(&["unanswered"]).inc();
        // WHY: which records there are is part of the answer that must not be shown.
        asked.audit_meta.remove("recordIds");
        let refusal = Refusal::of(Code::AuditUnavailable).detail(fault);
        Err(match asked.reach {
            Reach::Write => {
                let key = asked.controls.idempotency_key.clone().unwrap_or_default();
                Refusal::because(Code::AuditUnavailable, "the write was sent, and its outcome cannot be recorded yet")
                    .then(format!("wait, then call again with `idempotencyKey` {key} to learn the outcome"))
                    .with("idempotencyKey", key)
                    .with("sent", true)
                    .detail(fault)
            }
            Reach::Nothing | Reach::Read => refusal,
        }
        .into())
    }

    fn count(&self, asked: &Asked, outcome: &Result<Reply, No>) {
        let method = asked.request.as_ref().map_or("unread", |request| request.ask.method());
        let code = match outcome {
            Ok(_) => "ok",
            Err(No::Challenge(challenge)) => challenge.code.as_str(),
            Err(No::Fault(fault)) => fault.data.as_ref().and_then(named).map_or("protocol_error", Code::as_str),
            Err(No::Refusal(refusal)) => refusal.code.as_str(),
            Err(No::Cancelled) => "cancelled",
        };
        self.metrics.requests.with_label_values(&[method, code]).inc();
    }

    /// 401 and 403 are for OAuth only.
    fn challenged(&self, challenge: &Challenge) -> Answer {
        let header = metadata::www_authenticate(challenge, &self.resource_metadata_url());
        Answer::json(challenge.status(), challenge_body(challenge.code.as_str())).with("www-authenticate", header)
    }
}

/// Whether a refusal is one of those that its caller may cause without end.
fn floods(asked: &Asked, outcome: &Result<Reply, No>) -> bool {
    match outcome {
        Ok(_) => false,
        Err(No::Refusal(refusal)) if refusal.data.contains_key(LIMIT) => true,
        Err(_) => asked.known != Known::Admitted,
    }
}

/// With whose refusals one is counted: the organisation's; the caller's own where there is none.
fn whose(asked: &Asked) -> String {
    let tenant = asked.audit_meta.get("tenant").and_then(Value::as_str).map(str::to_owned);
    let caller = || asked.principal.as_ref().map(|caller| format!("{}\n{}", caller.issuer, caller.user));
    tenant.or_else(caller).unwrap_or_default()
}

/// The code of the table that a fault carries, if any.
fn named(data: &Value) -> Option<Code> {
    data.get("code").and_then(Value::as_str).and_then(Code::named)
}

/// The same no, with its wait in seconds beside the milliseconds, as the `Retry-After` header has it.
fn with_seconds(mut no: No) -> No {
    if let No::Refusal(refusal) = &mut no
        && let Some(wait_ms) = refusal.data.get("retryAfterMs").and_then(Value::as_u64)
    {
        refusal.data.insert("retryAfter".to_owned(), seconds(wait_ms).into());
    }
    no
}

/// How long the client is to wait, in seconds, where the answer says so.
fn retry_after(data: Option<&Value>) -> Option<String> {
    data.and_then(Value::as_u64).map(|seconds| seconds.to_string())
}

fn written(settings: &super::Settings, asked: &Asked, reply: Reply) -> Answer {
    let (Some(request), false) = (&asked.request, matches!(reply, Reply::Accepted)) else {
        return Answer::empty(202);
    };
    let to = mcp::reply::Reply::to(request, VERSION);
    let about = About { version: VERSION, instructions: INSTRUCTIONS, offers: Offers::default() };
    let audit = || (mcp::AUDIT_META.to_owned(), Value::Object(asked.audit_meta.clone()));
    let bytes = match reply {
        Reply::Accepted => Vec::new(),
        Reply::Discovered(offers) => to.discover(&About { offers, ..about }, settings.list_ttl_ms),
        Reply::Initialized(offers) => to.initialize(&About { offers, ..about }),
        Reply::Pong | Reply::LevelSet => to.pong(),
        Reply::Tools { tools, next } => {
            let views: Vec<_> = tools.iter().map(|tool| super::own::view(tool)).collect();
            to.tools(&views, next.as_deref(), settings.list_ttl_ms)
        }
        Reply::Unsubscribed => to.unsubscribed(),
        Reply::Called(answer) => {
            let mut meta = answer.meta;
            meta.extend([audit()]);
            to.call(CallAnswer { meta, ..answer })
        }
        Reply::Offered { what, elements, next } => to.offered(what, &elements, next.as_deref(), settings.list_ttl_ms),
        Reply::Passed { result, ttl_ms } => to.pass(result, Map::from_iter([audit()]), ttl_ms),
        Reply::Asks { requests, state } => {
            // INVARIANT: only a modern client's call comes to this.
            to.input_required(requests, state.as_deref(), Map::from_iter([audit()])).unwrap_or_default()
        }
    };
    Answer::json(200, bytes)
}

fn faulted(asked: &Asked, fault: &Fault) -> Answer {
    let answer = Answer::fault(asked.id.as_ref(), fault);
    let said = retry_after(
        fault.data.as_ref().and_then(|data| data.get("retryAfter").or_else(|| data.pointer("/data/retryAfter"))),
    );
    match said.or_else(|| (fault.status == 503).then(|| "5".to_owned())) {
        Some(seconds) => answer.with("retry-after", seconds),
        None => answer,
    }
}

/// A call that waits for people, put to the user of a client that can ask them.
fn asks(asked: &Asked, refusal: &Refusal) -> Option<Answer> {
    let question = asked.question.as_ref()?;
    if !matches!(refusal.code, Code::ApprovalRequired | Code::ApprovalPending) {
        return None;
    }
    let mut meta = Map::from_iter([(mcp::AUDIT_META.to_owned(), Value::Object(asked.audit_meta.clone()))]);
    meta.insert(mcp::ERROR_META.to_owned(), mcp::reply::error_data(refusal));
    let to = mcp::reply::Reply::to(asked.request.as_ref()?, VERSION);
    let bytes = to.input_required(question.requests.clone(), Some(&question.state), meta)?;
    Some(Answer::json(200, bytes))
}

/// A tool call is refused in its result; any other method has only a JSON-RPC error to say it with.
fn refused(asked: &Asked, refusal: &Refusal) -> Answer {
    if let Some(request @ Request { ask: Ask::CallTool(_), .. }) = &asked.request {
        let to = mcp::reply::Reply::to(request, VERSION);
        let answer = Answer::json(200, to.refusal(refusal, asked.audit_meta.clone()));
        return match retry_after(refusal.data.get("retryAfter")) {
            Some(seconds) => answer.with("retry-after", seconds),
            None => answer,
        };
    }
    let fault = Fault::new(200, REFUSED, refusal.words()).with(json!({
        "code": refusal.code.as_str(),
        "reasons": refusal.reasons,
        "retryable": refusal.retryable,
        "next": refusal.next,
        "data": refusal.data,
    }));
    faulted(asked, &fault)
}
