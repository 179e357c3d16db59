//! One request on its way through the sentence: its ids, its record, what has become of it.
//!
//! Promises: filled step by step and read at the end; the ids that an answer shows are those that
//! the record carries. Never decides. Called by `pep`.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use serde_json::Map;
use serde_json::Value;
use uuid::Uuid;

use super::approve::Question;
use super::arrival::Arrival;
use super::arrival::Progress;
use super::limit::Place;
use super::once::Underway;
use super::ports::Clock;
use crate::domain::approval::Ticket;
use crate::domain::audit::record::Opened;
use crate::domain::audit::record::Record;
use crate::domain::audit::redaction::Secrets;
use crate::domain::catalog::Tool;
use crate::domain::identity::Principal;
use crate::domain::mcp::Ask;
use crate::domain::mcp::Head;
use crate::domain::mcp::Request;
use crate::domain::mcp::RequestId;
use crate::domain::mcp::ToolCall;
use crate::domain::mcp::controls::Controls;
use crate::domain::mcp::controls::controls;
use crate::domain::mcp::controls::credentials;
use crate::domain::mcp::offered::Listed;
use crate::domain::mcp::offered::Operation;
use crate::domain::mcp::reply::CallAnswer;
use crate::domain::mcp::reply::Offers;
use crate::domain::mcp::trace::TraceContext;
use crate::domain::pdp::EarlierCall;
use crate::domain::refusal::Refusal;
use crate::metrics::Metrics;
use crate::metrics::Stage;
use crate::metrics::UnderWay;

/// Steps that a client who asked for progress is told of.
pub(super) const PROGRESS_STEPS: u32 = 3;

/// What is to be answered, before it is bytes.
#[derive(Debug)]
pub(super) enum Reply {
    /// A notification was taken.
    Accepted,
    /// `server/discover`.
    Discovered(Offers),
    /// `initialize`.
    Initialized(Offers),
    /// `ping`.
    Pong,
    /// `tools/list`.
    Tools {
        /// This page.
        tools: Vec<Arc<Tool>>,
        /// Where the next one begins.
        next: Option<String>,
    },
    /// `tools/call` that went through.
    Called(CallAnswer),
    /// A list of what upstream servers offer besides tools.
    Offered {
        /// Of what.
        what: Listed,
        /// This page.
        elements: Vec<Value>,
        /// Where the next one begins.
        next: Option<String>,
    },
    /// What an upstream server answered, inspected.
    Passed {
        /// Its result.
        result: Map<String, Value>,
        /// How long it may be kept, where MCP wants that said.
        ttl_ms: Option<u64>,
    },
    /// What an upstream server needs to hear from the client's user before it answers.
    Asks {
        /// Its questions, by name.
        requests: Map<String, Value>,
        /// What the client is to carry until it comes back.
        state: Option<String>,
    },
    /// A log level was set.
    LevelSet,
    /// `subscriptions/listen` that has ended.
    Unsubscribed,
}

/// How far the caller of a request is known; decides how it is recorded when it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Not at all.
    Stranger,
    /// By their credential.
    Caller,
    /// And counted against the rates of theirs and of their organisation.
    Admitted,
}

/// How far a call has come; decides what an unrecorded outcome means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing has left.
    Nothing,
    /// A read was, or may have been, sent on.
    Read,
    /// A write was, or may have been, sent on.
    Write,
}

/// What a client brings back to an upstream server.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// What the server had it carry, opened.
    pub(super) state: Option<String>,
    /// What its user answered, by name.
    pub(super) responses: Map<String, Value>,
}

/// One request on its way.
pub(super) struct Asked {
    /// The gateway's id of it.
    pub(super) request_id: String,
    /// When it arrived.
    pub(super) now_ms: i64,
    /// The gateway's own span in the client's trace, or in a new one.
    pub(super) trace: TraceContext,
    /// What is written down.
    pub(super) record: Record,
    /// The JSON-RPC id, where it could be read.
    pub(super) id: Option<RequestId>,
    /// The message, once it was read; decides the form of the answer.
    pub(super) request: Option<Request>,
    /// Who asks, once that is known.
    pub(super) principal: Option<Arc<Principal>>,
    /// How far they are known; before they are, a refusal shows nothing and is recorded sparingly.
    pub(super) known: Known,
    /// What steers the call.
    pub(super) controls: Controls,
    /// The write that this call carries out.
    pub(super) underway: Option<Underway>,
    /// The approval that the write is made under.
    pub(super) approved_by: Option<String>,
    /// The version that the record must still have.
    pub(super) if_match: Option<String>,
    /// What the client is to put to its user before the call goes on.
    pub(super) question: Option<Question>,
    /// What goes on to the upstream server that asked in an earlier round.
    pub(super) brought: Brought,
    /// Whether its user has answered that question.
    pub(super) was_asked: bool,
    /// The earlier calls that policy was told of.
    pub(super) facts: Vec<EarlierCall>,
    /// How far it has come.
    pub(super) reach: Reach,
    /// Whether the answer may go out without a record.
    pub(super) best_effort: bool,
    /// `_meta["com.loopiq/audit"]`.
    pub(super) audit_meta: Map<String, Value>,
    /// Tells a client that asked where its call is.
    pub(super) progress: Progress,
    /// Its place among what its organisation may have under way, once it has one.
    pub(super) place: Option<Place>,
    /// Counted among the requests under way.
    pub(super) under_way: Option<UnderWay>,
    span: [u8; 8],
}

impl Asked {
    /// A request that has just arrived.
    pub(super) fn new(arrival: &Arrival, progress: Progress, clock: &dyn Clock) -> Self {
        let now_ms = clock.now_ms();
        let request_id = fresh_id(now_ms, clock.random());
        let span: [u8; 8] = std::array::from_fn({
            let random = clock.random();
            move |at| random.get(at).copied().unwrap_or(1)
        });
        let trace = TraceContext::begin(clock.random(), span).unwrap_or_else(|| TraceContext {
            // INVARIANT: random bytes are all zero once in 2^128 draws; W3C forbids that one value.
            trace_id: "1".repeat(32),
            parent_id: "1".repeat(16),
            flags: 1,
            tracestate: None,
        });
        let secrets = Secrets::new(arrival.head.all("authorization").map(bare_credential));
        let record = Record::open(Opened {
            request_id: request_id.clone(),
            received_ms: now_ms,
            source: arrival.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            trace_id: trace.trace_id.clone(),
            span_id: trace.parent_id.clone(),
            secrets,
            ..Opened::default()
        });
        let mut audit_meta = Map::new();
        audit_meta.insert("requestId".into(), request_id.clone().into());
        audit_meta.insert("traceId".into(), trace.trace_id.clone().into());
        Self {
            request_id,
            now_ms,
            trace,
            record,
            id: None,
            request: None,
            principal: None,
            known: Known::Stranger,
            controls: Controls::default(),
            underway: None,
            approved_by: None,
            if_match: None,
            question: None,
            brought: Brought::default(),
            was_asked: false,
            facts: Vec::new(),
            reach: Reach::Nothing,
            best_effort: false,
            audit_meta,
            progress,
            place: None,
            under_way: None,
            span,
        }
    }

    /// The message was read.
    pub(super) fn read(&mut self, request: &Request, head: &Head) {
        self.id = Some(request.id.clone());
        self.record.asked(request.ask.method(), request.era);
        self.record.keep_out(credentials(&request.meta, head));
        self.request = Some(request.clone());
    }

    /// What it does with something that an upstream server offers besides tools, if that is what it does.
    pub(super) fn operation(&self) -> Option<Operation> {
        match &self.request.as_ref()?.ask {
            Ask::Operate(operation) => Some(operation.clone()),
            _ => None,
        }
    }

    /// The call as the client sent it, of a tool or of something else that is offered.
    pub(super) fn as_sent(&self) -> Option<&ToolCall> {
        match &self.request.as_ref()?.ask {
            Ask::Operate(operation) => Some(&operation.call),
            Ask::CallTool(call) => Some(call),
            _ => None,
        }
    }

    /// Takes what steers the call out of its arguments, `_meta` and headers.
    pub(super) fn steer(&mut self, arrival: &Arrival, call: &mut ToolCall) -> Result<(), Refusal> {
        let meta = self.request.as_ref().map(|request| request.meta.clone()).unwrap_or_default();
        self.controls = controls(&meta, &arrival.head, &mut call.arguments)?;
        if let Some(of_client) = &self.controls.trace {
            self.trace = of_client.child(self.span);
            self.record.traced(&self.trace.trace_id, &self.trace.parent_id, &of_client.parent_id);
            self.tell("traceId", self.trace.trace_id.clone());
        }
        self.record.workflow(self.controls.workflow.as_deref().unwrap_or_default(), &self.controls.chain);
        self.record.dry_run(self.controls.dry_run);
        if let (Some(token), true) = (&self.controls.progress_token, accepts_stream(arrival)) {
            self.progress.enable(token.clone());
        }
        Ok(())
    }

    /// Adds a member to what the answer says of its own record.
    pub(super) fn tell(&mut self, name: &str, value: impl Into<Value>) {
        self.audit_meta.insert(name.to_owned(), value.into());
    }

    /// The call has to do with this approval.
    pub(super) fn under(&mut self, ticket: &Ticket) {
        self.record.approved_by(&ticket.id);
        self.tell("approvalId", ticket.id.clone());
    }

    /// Notes how long a step took.
    pub(super) fn took(&mut self, metrics: &Metrics, stage: Stage, since: Instant) {
        let took: Duration = since.elapsed();
        metrics.stage(stage, took);
        self.record.took(stage.as_str(), u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// A UUID version 7 (RFC 9562): unique, and sorted by time.
pub(super) fn fresh_uuid(now_ms: i64, random: [u8; 16]) -> Uuid {
    let mut tail = [0u8; 10];
    tail.iter_mut().zip(random).for_each(|(to, from)| *to = from);
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(now_ms).unwrap_or(0), &tail).into_uuid()
}

/// The same as text.
pub(super) fn fresh_id(now_ms: i64, random: [u8; 16]) -> String {
    fresh_uuid(now_ms, random).to_string()
}

/// The credential without its scheme, which is what must never be written down.
pub(super) fn bare_credential(header: &str) -> String {
    header.split_once(' ').map_or(header, |(_, credential)| credential).trim().to_owned()
}

fn accepts_stream(arrival: &Arrival) -> bool {
    arrival.head.all("accept").any(|accept| accept.contains("text/event-stream"))
}
