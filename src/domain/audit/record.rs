//! One action, filled step by step as the sentence goes on, and what is written of it at each stage.
//!
//! Promises: [`Record::stage`] gives a complete record of everything known so far; the input of
//! a decision is written once per action, in the first record that has it, in a form that lets
//! the decision be made again and compared, but for what was dropped; credentials and fields that the catalog
//! calls sensitive are dropped when the record becomes bytes. Never decides anything.
//! Called by `pep`, and by whoever changes policy or config while the gateway runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::audit::chain::Body;
use crate::domain::audit::line::Recovered;
use crate::domain::audit::parts::{DecisionLine, Known, RefusalLine, What, Who};
use crate::domain::audit::redaction::Secrets;
use crate::domain::audit::{ocsf, redaction};
use crate::domain::catalog::{Answerer, Tool};
use crate::domain::identity::{AuthMethod, Principal, Tenant};
use crate::domain::mcp::Era;
use crate::domain::pdp::ruling::Fault;
use crate::domain::pdp::{Input, Obligation, Outcome};
use crate::domain::refusal::{No, Reason};

/// Names that a client chooses are cut to this many characters.
const NAME_CHARS_MAX: usize = 256;

/// How far an action has come, or what else happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The request is here and nothing has been decided.
    Received,
    /// It was refused; nothing was sent on.
    Denied,
    /// It will be sent on.
    Intent,
    /// It was answered.
    Outcome,
    /// The journal was opened, or went on after a fault of its disk.
    Recovered,
    /// Nothing happened for a while.
    Heartbeat,
    /// `approval.<what>`.
    Approval(&'static str),
    /// `write.<what>`: what people say of a write whose outcome nobody knows.
    Write(&'static str),
    /// `policy.<what>`.
    Policy(&'static str),
    /// `config.<what>`.
    Config(&'static str),
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Received => f.write_str("received"),
            Self::Denied => f.write_str("denied"),
            Self::Intent => f.write_str("intent"),
            Self::Outcome => f.write_str("outcome"),
            Self::Recovered => f.write_str("recovered"),
            Self::Heartbeat => f.write_str("heartbeat"),
            Self::Approval(what) => write!(f, "approval.{what}"),
            Self::Write(what) => write!(f, "write.{what}"),
            Self::Policy(what) => write!(f, "policy.{what}"),
            Self::Config(what) => write!(f, "config.{what}"),
        }
    }
}

/// What is known when a request arrives.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    /// The gateway's id of this request.
    pub request_id: String,
    /// When it arrived: milliseconds since the Unix epoch.
    pub received_ms: i64,
    /// `tools/call`, `tools/list`, …; empty when the message could not be read.
    pub method: String,
    /// Protocol revision, when the message could be read.
    pub era: Option<Era>,
    /// Address of the peer, `ip:port`.
    pub source: String,
    /// Trace id, 32 hex digits.
    pub trace_id: String,
    /// The gateway's own span, 16 hex digits.
    pub span_id: String,
    /// The caller's span; empty when there is none.
    pub parent_span_id: String,
    /// Credentials that came with the request: looked for in every field and never written.
    pub secrets: Secrets,
}

/// A decision that was made on the way.
#[derive(Debug, Clone)]
pub struct Decided<'a> {
    /// Decision id.
    pub id: &'a str,
    /// What came of it.
    pub outcome: Outcome,
    /// Why not.
    pub reasons: &'a [Reason],
    /// What must be done.
    pub obligations: &'a [Obligation],
    /// Names of the tools that may be seen: of a list all of them, else the called tool's or nothing.
    pub visible: &'a [String],
    /// Why no trustworthy decision could be made, if so.
    pub fault: Option<Fault>,
    /// What the policy saw.
    pub input: &'a Input,
    /// SHA-256 (hex) of the policy bundle.
    pub bundle_digest: &'a str,
    /// SHA-256 (hex) of the policy data.
    pub data_digest: &'a str,
    /// `vm` or `interpreter`.
    pub engine: &'a str,
    /// Instructions spent, when the engine counts them.
    pub instructions: Option<u64>,
}

/// What became of the execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// The backend, or the gateway's own tool, did it.
    Executed,
    /// It was previewed; nothing was changed.
    Previewed,
    /// It definitely did not happen.
    Failed,
    /// Bytes were sent and no definite answer came.
    Unknown,
    /// Nothing was sent.
    NotSent,
}

/// The answer as it went out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What became of the execution.
    pub execution: Execution,
    /// Status of the backend's answer, when there was one.
    pub backend_status: Option<u16>,
    /// Size of the backend's answer in bytes.
    pub bytes: u64,
    /// Ids of the records that were created or updated.
    pub record_ids: Vec<String>,
    /// Whether this is an earlier answer given again.
    pub replayed: bool,
}

/// Everything known of one action so far.
#[derive(Clone)]
pub struct Record {
    pub(super) stage: Stage,
    pub(super) at_ms: i64,
    pub(super) message: String,
    pub(super) opened: Opened,
    pub(super) who: Option<Who>,
    pub(super) what: Option<What>,
    pub(super) workflow: String,
    pub(super) tool_chain: Vec<String>,
    pub(super) dry_run: bool,
    pub(super) approval_id: Option<String>,
    pub(super) idempotency_key: Option<String>,
    pub(super) execution_id: Option<String>,
    pub(super) decisions: Vec<DecisionLine>,
    pub(super) dropped: Vec<String>,
    pub(super) refusal: Option<RefusalLine>,
    pub(super) answered: Option<Answered>,
    pub(super) steps_us: BTreeMap<&'static str, u64>,
    pub(super) data: Map<String, Value>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({} of request {})", self.stage, self.opened.request_id)
    }
}

impl Record {
    /// The record of a request that has just arrived.
    #[must_use]
    pub fn open(opened: Opened) -> Self {
        Self {
            stage: Stage::Received,
            at_ms: opened.received_ms,
            message: String::new(),
            opened,
            who: None,
            what: None,
            workflow: String::new(),
            tool_chain: Vec::new(),
            dry_run: false,
            approval_id: None,
            idempotency_key: None,
            execution_id: None,
            decisions: Vec::new(),
            dropped: Vec::new(),
            refusal: None,
            answered: None,
            steps_us: BTreeMap::new(),
            data: Map::new(),
        }
    }

    /// The record of something that is not a request: a policy activated, a config loaded, a vote.
    #[must_use]
    pub fn event(stage: Stage, at_ms: i64, message: impl Into<String>) -> Self {
        let mut record = Self::open(Opened { received_ms: at_ms, ..Opened::default() });
        record.stage = stage;
        record.message = message.into();
        record
    }

    /// The record with which a journal goes on: first of every epoch, and after a fault of its disk.
    #[must_use]
    pub fn recovered(at_ms: i64, recovered: &Recovered) -> Self {
        let message = match recovered {
            Recovered::Start { prev_epoch: 0, .. } => "the journal begins".to_owned(),
            Recovered::Start { prev_epoch, bytes_dropped, .. } => {
                format!("the journal goes on after epoch {prev_epoch}; {bytes_dropped} bytes were no record")
            }
            Recovered::DiskFault { segment, cause, .. } => {
                format!("the journal goes on after {segment} failed: {cause}")
            }
        };
        let mut record = Self::event(Stage::Recovered, at_ms, message);
        if let Ok(Value::Object(data)) = serde_json::to_value(recovered) {
            record.data = data;
        }
        record
    }

    /// Adds a member under `data`, for what no other field carries.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }

    /// The message turned out to be this.
    pub fn asked(&mut self, method: &str, era: Era) {
        self.opened.method = cut(method);
        self.opened.era = Some(era);
    }

    /// A trace was found in the message, or made.
    pub fn traced(&mut self, trace_id: &str, span_id: &str, parent_span_id: &str) {
        cut(trace_id).clone_into(&mut self.opened.trace_id);
        cut(span_id).clone_into(&mut self.opened.span_id);
        cut(parent_span_id).clone_into(&mut self.opened.parent_span_id);
    }

    /// More credentials came with the request than its `Authorization`.
    pub fn keep_out(&mut self, credentials: impl IntoIterator<Item = String>) {
        self.opened.secrets = std::mem::take(&mut self.opened.secrets).and(credentials);
    }

    /// Who calls, and for which tenant once that is known.
    pub fn caller(&mut self, principal: &Principal, tenant: Option<&Tenant>) {
        self.who = Some(Who {
            user: principal.user.clone(),
            tenant: tenant.map(|tenant| tenant.as_str().to_owned()),
            issuer: principal.issuer.clone(),
            method: principal.method,
            client: principal.client.clone().filter(|client| !client.is_empty()),
        });
    }

    /// The gateway itself acts, for someone who asked before.
    pub fn on_behalf(&mut self, issuer: &str, user: &str, tenant: &str, method: AuthMethod, client: &str) {
        self.who = Some(Who {
            user: user.to_owned(),
            tenant: Some(tenant.to_owned()),
            issuer: issuer.to_owned(),
            method,
            client: Some(client.to_owned()).filter(|client| !client.is_empty()),
        });
    }

    /// What happened, in a sentence.
    pub fn said(&mut self, message: &str) {
        message.clone_into(&mut self.message);
    }

    /// The workflow and chain that the client names.
    pub fn workflow(&mut self, workflow: &str, tool_chain: &[String]) {
        self.workflow = cut(workflow);
        self.tool_chain = tool_chain.iter().take(64).map(|link| cut(link)).collect();
    }

    /// A tool that does not exist, or that the caller must not know of. Its arguments are dropped:
    /// nothing says which of them are sensitive.
    pub fn called_unknown(&mut self, name: &str) {
        self.what = Some(What {
            tool: cut(name),
            via: None,
            known: None,
            arguments: Value::String(redaction::DROPPED.to_owned()),
            dropped: vec!["/arguments".to_owned()],
        });
    }

    /// The tool that is called, the generic tool it was reached through, and what was submitted.
    pub fn called(&mut self, tool: &Tool, via: Option<&str>, arguments: &Map<String, Value>) {
        let mut arguments = Value::Object(arguments.clone());
        let dropped = redaction::drop_fields(&mut arguments, "/arguments", &tool.sensitive);
        let (backend, route) = match &tool.answerer {
            Answerer::Route(route) => (Some(route.backend.clone()), format!("{} {}", route.method, route.template)),
            Answerer::Gateway(_) => (None, "gateway".to_owned()),
            Answerer::Upstream(upstream) => (Some(upstream.server.clone()), upstream.text()),
        };
        self.what = Some(What {
            tool: tool.name.clone(),
            via: via.map(cut),
            known: Some(Known {
                digest: tool.digest.clone(),
                family: tool.family.clone(),
                effect: tool.effect,
                impact: tool.impact,
                backend,
                route,
                sensitive: tool.sensitive.clone(),
            }),
            arguments,
            dropped,
        });
    }

    /// A tool that is spoken of and not called: in a vote, in an opinion about a write.
    pub fn concerns(&mut self, tool: &str) {
        self.what = Some(What { tool: cut(tool), via: None, known: None, arguments: Value::Null, dropped: Vec::new() });
    }

    /// What happened, in words of its own; without them the record makes its own of what it knows.
    pub fn says(&mut self, message: impl Into<String>) {
        self.message = message.into();
    }

    /// Whether only a preview is asked for.
    pub fn dry_run(&mut self, dry_run: bool) {
        self.dry_run = dry_run;
    }

    /// The approval under which the action runs.
    pub fn approved_by(&mut self, approval_id: &str) {
        self.approval_id = Some(cut(approval_id));
    }

    /// The key that makes the write happen once, and the execution it stands for.
    pub fn keyed(&mut self, idempotency_key: &str, execution_id: Option<&str>) {
        self.idempotency_key = Some(cut(idempotency_key));
        self.execution_id = execution_id.map(cut);
    }

    /// A decision, and what it was made from. `sensitive_of` gives the sensitive pointers of another
    /// tool, for the earlier calls that the policy saw; unknown tools lose all their arguments.
    pub fn decided(&mut self, decided: &Decided<'_>, sensitive_of: impl Fn(&str) -> Option<Vec<String>>) {
        let at = format!("/decisions/{}/input", self.decisions.len());
        let mut input = serde_json::to_value(decided.input).unwrap_or(Value::Null);
        let own = self.what.as_ref().and_then(|what| what.known.as_ref()).map_or(&[][..], |known| &known.sensitive);
        if let Some(arguments) = input.pointer_mut("/arguments") {
            self.dropped.extend(redaction::drop_fields(arguments, &format!("{at}/arguments"), own));
        }
        for index in 0..decided.input.facts.len() {
            let Some(fact) = decided.input.facts.get(index) else { continue };
            let pointers = sensitive_of(&fact.tool).unwrap_or_else(|| vec!["/*".to_owned()]);
            if let Some(arguments) = input.pointer_mut(&format!("/facts/{index}/arguments")) {
                self.dropped.extend(redaction::drop_fields(
                    arguments,
                    &format!("{at}/facts/{index}/arguments"),
                    &pointers,
                ));
            }
        }
        // The digest is of what is written: a digest of what was dropped would let it be guessed.
        self.dropped.extend(redaction::scrub(&mut input, &at, &self.opened.secrets));
        self.decisions.push(DecisionLine {
            id: decided.id.to_owned(),
            phase: decided.input.phase,
            outcome: decided.outcome,
            reasons: decided.reasons.to_vec(),
            obligations: decided.obligations.to_vec(),
            visible: Some(decided.visible.to_vec()),
            fault: decided.fault,
            input_digest: ocsf::digest(&input),
            bundle_digest: decided.bundle_digest.to_owned(),
            data_digest: decided.data_digest.to_owned(),
            engine: decided.engine.to_owned(),
            instructions: decided.instructions,
            input: Some(input),
        });
    }

    /// Why the answer is no.
    pub fn refused(&mut self, no: &No) {
        self.refusal = Some(RefusalLine::of(no));
    }

    /// Why the answer is no, where it is none of those that MCP clients get.
    pub fn declined(&mut self, code: &str, why: &str) {
        self.refusal = Some(RefusalLine::plain(code, why));
    }

    /// What came back.
    pub fn answered(&mut self, answered: Answered) {
        self.answered = Some(answered);
    }

    /// How long a step of the sentence took, in microseconds.
    pub fn took(&mut self, step: &'static str, us: u64) {
        self.steps_us.insert(step, us);
    }

    /// What is to be written now. Later records of the same action name the decisions and leave out
    /// their inputs and what they let be seen, which stand in this one.
    #[must_use]
    pub fn stage(&mut self, stage: Stage, now_ms: i64) -> Self {
        self.stage = stage;
        self.at_ms = now_ms;
        let now = self.clone();
        self.decisions.iter_mut().for_each(DecisionLine::shorten);
        self.dropped.clear();
        now
    }

    /// The same without what made it too large: arguments and the inputs of decisions. Says so.
    #[must_use]
    pub fn reduced(mut self) -> Self {
        if let Some(what) = &mut self.what {
            what.arguments = Value::String(redaction::DROPPED.to_owned());
            what.dropped = vec!["/arguments".to_owned()];
        }
        self.decisions.iter_mut().for_each(DecisionLine::shorten);
        self.dropped.clear();
        self.with("reduced", "the record was too large; arguments and decision inputs were left out")
    }

    /// The stage it was last taken at.
    #[must_use]
    pub const fn at(&self) -> Stage {
        self.stage
    }

    /// The gateway's id of the request.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.opened.request_id
    }

    /// The execution that it is about, if it is about one.
    #[must_use]
    pub fn execution_id(&self) -> Option<&str> {
        self.execution_id.as_deref()
    }

    /// The record as bytes, without its place in the chain.
    #[must_use]
    pub fn body(&self) -> Body {
        ocsf::body(self)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
