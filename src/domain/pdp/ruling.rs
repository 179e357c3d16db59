//! What the gateway makes of a policy's answer.
//!
//! Promises: an answer that cannot be trusted is a deny that says which kind of fault it was;
//! obligations of one kind are combined to the stricter one or are a fault; a [`Permit`] exists
//! only for an allowed call phase and only for the very tenant, tool, arguments and dry-run flag
//! that were decided. Nobody outside `pdp` can make or change a [`Ruling`]. Never evaluates.
//! Called by `pdp::engine`; its types are read by `pep`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::pdp::Decision;
use crate::domain::pdp::Input;
use crate::domain::pdp::Obligation;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::Phase;
use crate::domain::pdp::obligations;
use crate::domain::refusal::Reason;

/// Reason code that asks for people instead of saying no.
pub const APPROVAL_REQUIRED: &str = "approval_required";

/// Which of the two engines answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The compiled virtual machine.
    Rvm,
    /// The interpreter: slower, and right for every form of rule.
    Interpreter,
}

impl Engine {
    /// The name as logs and audit have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rvm => "rvm",
            Self::Interpreter => "interpreter",
        }
    }
}

/// Why no trustworthy decision could be made. Each is a deny, answered as `policy_unavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// The entry point has no value for this input.
    #[serde(rename = "policy_undefined")]
    Undefined,
    /// The engine failed or panicked.
    #[serde(rename = "policy_error")]
    Error,
    /// The evaluation took more instructions or time than it may.
    #[serde(rename = "policy_budget")]
    Budget,
    /// The answer is not a decision.
    #[serde(rename = "policy_shape")]
    Shape,
    /// The answer asks for something that the gateway cannot do.
    #[serde(rename = "policy_unknown_obligation")]
    UnknownObligation,
    /// Rules or obligations contradict each other.
    #[serde(rename = "policy_conflict")]
    Conflict,
}

impl Fault {
    /// The stable code: label of a metric, code of a reason, field of the audit record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undefined => "policy_undefined",
            Self::Error => "policy_error",
            Self::Budget => "policy_budget",
            Self::Shape => "policy_shape",
            Self::UnknownObligation => "policy_unknown_obligation",
            Self::Conflict => "policy_conflict",
        }
    }
}

/// A fault with the words that operators need; callers never see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) fault: Fault,
    pub(super) detail: String,
}

impl Broken {
    pub(super) fn new(fault: Fault, detail: impl Into<String>) -> Self {
        Self { fault, detail: detail.into() }
    }
}

/// What was decided about: kept so that a permit is good for nothing else.
#[derive(Debug, Clone, PartialEq)]
struct Subject {
    phase: Phase,
    tenant: String,
    tool: String,
    arguments: Map<String, Value>,
    dry_run: bool,
}

/// Who decided, with which rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decider {
    pub(super) engine: Engine,
    pub(super) bundle_digest: Arc<str>,
    pub(super) data_digest: Arc<str>,
}

/// One decision, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Ruling {
    outcome: Outcome,
    reasons: Vec<Reason>,
    obligations: Vec<Obligation>,
    visible: Vec<String>,
    fault: Option<Fault>,
    detail: String,
    decider: Decider,
    subject: Subject,
}

impl Ruling {
    /// Reads what the engine answered; anything that is not a sound decision is a deny.
    pub(super) fn read(answer: Result<Value, Broken>, input: &Input, decider: Decider) -> Self {
        let subject = Subject {
            phase: input.phase,
            tenant: input.caller.tenant.clone(),
            tool: input.tool.as_ref().map(|tool| tool.name.clone()).unwrap_or_default(),
            arguments: input.arguments.clone(),
            dry_run: input.dry_run,
        };
        match answer.and_then(|value| sound(value, input)) {
            Ok((outcome, decision)) => Self {
                outcome,
                reasons: decision.reasons,
                obligations: decision.obligations,
                visible: decision.visible,
                fault: None,
                detail: String::new(),
                decider,
                subject,
            },
            Err(broken) => Self::broken(broken, decider, subject),
        }
    }

    fn broken(broken: Broken, decider: Decider, subject: Subject) -> Self {
        Self {
            outcome: Outcome::Deny,
            reasons: vec![Reason::new(
                broken.fault.as_str(),
                "no trustworthy policy decision could be made",
                "try again later; an operator has been told",
            )],
            obligations: Vec::new(),
            visible: Vec::new(),
            fault: Some(broken.fault),
            detail: broken.detail,
            decider,
            subject,
        }
    }

    /// The same ruling if another engine says the same; the other's fault, or a conflict, if not.
    pub(super) fn confirmed_by(self, other: Self) -> Self {
        if other.fault.is_some() {
            return other;
        }
        let same = self.outcome == other.outcome
            && self.reasons == other.reasons
            && self.obligations == other.obligations
            && self.visible == other.visible;
        if same {
            return self;
        }
        let detail = format!("the engines disagree: {:?} and {:?}", self.outcome, other.outcome);
        Self::broken(Broken::new(Fault::Conflict, detail), self.decider, self.subject)
    }

    /// What the gateway does.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Why not; never empty unless allowed. `approval_required` stands last, because what the
    /// caller can correct alone comes first.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// What must be done; at most one of each kind.
    #[must_use]
    pub fn obligations(&self) -> &[Obligation] {
        &self.obligations
    }

    /// In the list phase the tools that the caller may see, in order of name; in the other phases
    /// the called tool's name if the caller may see it, and nothing if not.
    #[must_use]
    pub fn visible(&self) -> &[String] {
        &self.visible
    }

    /// Whether the caller may know that the tool exists. A denied call of a tool that is not seen
    /// is answered as if there were no such tool.
    #[must_use]
    pub fn sees(&self, tool: &str) -> bool {
        self.visible.iter().any(|name| name == tool)
    }

    /// Why no trustworthy decision could be made, if so.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The cause of a fault, for operators only; empty without one.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Which engine answered.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.decider.engine
    }

    /// SHA-256 (hex) over the policy files that decided.
    #[must_use]
    pub fn bundle_digest(&self) -> &str {
        &self.decider.bundle_digest
    }

    /// SHA-256 (hex) over the data that they read.
    #[must_use]
    pub fn data_digest(&self) -> &str {
        &self.decider.data_digest
    }

    /// Turns an allowed call into the permit that a backend asks for.
    ///
    /// Gives the ruling back, as a deny, when it is not an allowed call phase or when `action` is
    /// not what was decided.
    pub fn into_permit<T: Permitted>(mut self, action: T) -> Result<Permit<T>, Box<Self>> {
        if self.outcome != Outcome::Allow || self.subject.phase != Phase::Call {
            return Err(Box::new(self));
        }
        let same = action.tenant() == self.subject.tenant
            && action.tool() == self.subject.tool
            && action.dry_run() == self.subject.dry_run
            && action.arguments() == &self.subject.arguments;
        if same {
            return Ok(Permit { action, ruling: self });
        }
        self.outcome = Outcome::Deny;
        self.fault = Some(Fault::Error);
        "what was to be done is not what was decided".clone_into(&mut self.detail);
        self.reasons = vec![Reason::new(Fault::Error.as_str(), "this is not what policy decided", "call again")];
        Err(Box::new(self))
    }
}

/// What a permit can be for.
pub trait Permitted {
    /// The tenant it is done for.
    fn tenant(&self) -> &str;
    /// The tool it is done with.
    fn tool(&self) -> &str;
    /// The validated arguments.
    fn arguments(&self) -> &Map<String, Value>;
    /// Whether it is a preview only.
    fn dry_run(&self) -> bool;
}

/// Leave to do one thing, made only from an allowed [`Ruling`].
#[derive(Debug)]
pub struct Permit<T> {
    action: T,
    ruling: Ruling,
}

impl<T> Permit<T> {
    /// What is permitted.
    #[must_use]
    pub fn action(&self) -> &T {
        &self.action
    }

    /// What must be done along with it.
    #[must_use]
    pub fn obligations(&self) -> &[Obligation] {
        &self.ruling.obligations
    }

    /// The decision behind it.
    #[must_use]
    pub fn ruling(&self) -> &Ruling {
        &self.ruling
    }
}

/// Checks an answer's shape and sense and derives the outcome.
fn sound(value: Value, input: &Input) -> Result<(Outcome, Decision), Broken> {
    refuse_unknown_obligations(&value)?;
    let mut decision: Decision =
        serde_json::from_value(value).map_err(|cause| Broken::new(Fault::Shape, format!("not a decision: {cause}")))?;
    for reason in &decision.reasons {
        if !is_code(&reason.code) {
            return Err(Broken::new(Fault::Shape, format!("`{}` is not a reason code", reason.code)));
        }
    }
    decision.obligations = obligations::combine(decision.obligations, input)?;
    keep_known(&mut decision.visible, input);
    let asks = decision.obligations.iter().any(|one| matches!(one, Obligation::RequireApproval { .. }));
    if decision.allow {
        if !decision.reasons.is_empty() {
            return Err(Broken::new(Fault::Conflict, "allowed, and reasons were given"));
        }
        if asks {
            return Err(Broken::new(Fault::Conflict, "allowed, and an approval was asked for"));
        }
        return Ok((Outcome::Allow, decision));
    }
    if decision.reasons.is_empty() {
        decision.reasons.push(Reason::new(
            "policy_denied",
            "policy does not allow this call",
            "ask for the role or permission that it needs, or use another tool",
        ));
    }
    // Stable: what the caller can correct alone comes before asking people.
    decision.reasons.sort_by_key(|reason| reason.code == APPROVAL_REQUIRED);
    let only_people = decision.reasons.iter().all(|reason| reason.code == APPROVAL_REQUIRED);
    let outcome = if only_people && asks && input.phase == Phase::Call { Outcome::Pending } else { Outcome::Deny };
    Ok((outcome, decision))
}

fn refuse_unknown_obligations(value: &Value) -> Result<(), Broken> {
    const KNOWN: [&str; 4] = ["require_approval", "redact", "audit", "limit"];
    let obligations = value.get("obligations").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for obligation in obligations {
        match obligation.get("type").and_then(Value::as_str) {
            Some(kind) if KNOWN.contains(&kind) => {}
            Some(kind) => return Err(Broken::new(Fault::UnknownObligation, format!("obligation `{kind}`"))),
            None => return Err(Broken::new(Fault::Shape, "an obligation without a type")),
        }
    }
    Ok(())
}

fn is_code(code: &str) -> bool {
    code.starts_with(|c: char| c.is_ascii_lowercase())
        && code.len() <= 64
        && code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Names that were not asked about tell nothing, so they are left out.
fn keep_known(visible: &mut Vec<String>, input: &Input) {
    visible.retain(|name| match input.phase {
        Phase::List => input.tools.as_ref().is_some_and(|tools| tools.contains_key(name)),
        Phase::Call | Phase::Response => input.tool.as_ref().is_some_and(|tool| tool.name == *name),
    });
    visible.sort();
    visible.dedup();
}
